// An independent SMPP application (npm `smpp`) that says any request, by whatever version: says on standard output, one JSON object a
// line, how it was answered.
//
// Usage: smpp_esme.js PORT SYSTEM_ID PASSWORD INTERFACE_VERSION
//
// Says {"listening": PORT, "version": sc_interface_version} once it is bound; then each line {"say": COMMAND, "fields": {…}} on
// standard input is a request, answered with {"answer": {…}}; deliveries are taken, and printed as {"delivery": {…}}.
'use strict';
const readline = require('readline');
const smpp = require('smpp');

const [port, system_id, password, version] = process.argv.slice(2);
const tell = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const text = (content) => (content && content.message !== undefined ? content.message : content);

const session = smpp.connect({ host: '127.0.0.1', port: Number(port) }, () => {
  session.bind_transceiver({ system_id, password, interface_version: Number(version) },
    (bound) => tell({ listening: Number(port), status: bound.command_status, version: bound.sc_interface_version }));
});
session.on('error', () => {});
session.on('enquire_link', (pdu) => session.send(pdu.response()));
session.on('deliver_sm', (pdu) => {
  const { receipted_message_id, message_state, short_message } = pdu;
  tell({ delivery: { receipted_message_id, message_state, short_message: text(short_message) } });
  session.send(pdu.response());
});

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { say, fields } = JSON.parse(line);
    session[say](fields, ({ command, command_status, message_id, congestion_state }) =>
      tell({ answer: { command, status: command_status, id: message_id, congestion_state } }));
  })
  .on('close', () => process.exit(0));
