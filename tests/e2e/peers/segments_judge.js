// What npm's sms-segments-calculator makes of texts.
//
// Standard input: a JSON object {"text"} a line, each answered with the encoding, the code units of every segment beside
// its header, and the graphemes by which it counts, unless each of them is one character.
'use strict';

const { SegmentedMessage } = require('sms-segments-calculator');

const units = (segment) => [...segment].reduce((sum, char) => sum + (char.isUserDataHeader ? 0 : char.codeUnits.length), 0);

const lines = require('fs').readFileSync(0, 'utf8').split('\n').filter((line) => line);
for (const line of lines) {
  const { text } = JSON.parse(line);
  const made = new SegmentedMessage(text);
  console.log(JSON.stringify({
    encoding: made.encodingName,
    count: made.segmentsCount,
    segments: made.segments.map(units),
    graphemes: made.graphemes.length === [...text].length ? null : made.graphemes,
  }));
}
