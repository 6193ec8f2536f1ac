"""What PyPI's gsm0338 and Python itself make of texts.

Standard input: a JSON object a line. {"text", "parts": [hex]}: is answered with the octets of the text in the GSM 7-bit alphabet,
null if it does not hold all of it, with those in UTF-16BE, and with the parts decoded, each alone, by both (null where that
is an error). {"character"}: with what is left of it after Unicode's compatibility decomposition (NFKD) without marks.
"""

import json
import sys
import unicodedata

import gsm0338

gsm = gsm0338.Codec()


def tried(work):
    try:
        return work()
    except UnicodeError:
        return None


def judged(asked):
    if "character" in asked:
        decomposed = unicodedata.normalize("NFKD", asked["character"])
        return {"bare": "".join(c for c in decomposed if not unicodedata.combining(c))}
    text, parts = asked["text"], [bytes.fromhex(part) for part in asked["parts"]]
    return {
        "gsm7": tried(lambda: gsm.encode(text)[0].hex()),
        "ucs2": text.encode("utf-16-be").hex(),
        "gsm7_parts": tried(lambda: [gsm.decode(part)[0] for part in parts]),
        "ucs2_parts": tried(lambda: [part.decode("utf-16-be") for part in parts]),
    }


for line in sys.stdin.readlines():
    print(json.dumps(judged(json.loads(line))))
