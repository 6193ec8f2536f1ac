#!/usr/bin/env python3
"""Makes a mail with an RSA and an Ed25519 signature by dkimpy: prints {"mail": ..., "zone": {name: TXT}}."""
import base64, json, subprocess

import dkim
from nacl.signing import SigningKey


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True).stdout


rsa = openssl("genrsa", "2048")
rsa_public = openssl("rsa", "-pubout", "-outform", "DER", given=rsa)
ed25519 = SigningKey.generate()
mail = (
    b"From: Shop <a@shop.example.com>\r\nTo: <b@example.net>\r\nSubject: one\r\n"
    b"Date: Mon, 23 Nov 2026 06:24:00 +0000\r\nMessage-ID: <1@shop.example.com>\r\n\r\nYour parcel\r\n"
)


def signature(selector, key, algorithm):
    return dkim.sign(
        mail, selector, b"shop.example.com", key, signature_algorithm=algorithm, canonicalize=(b"relaxed", b"relaxed"),
        include_headers=[b"from", b"to", b"subject", b"date", b"message-id"],
    )


signed = signature(b"r1", rsa, b"rsa-sha256")
signed += signature(b"e1", base64.b64encode(bytes(ed25519)), b"ed25519-sha256")
zone = {
    "r1._domainkey.shop.example.com": "v=DKIM1; k=rsa; p=" + base64.b64encode(rsa_public).decode(),
    "e1._domainkey.shop.example.com": "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(ed25519.verify_key)).decode(),
}
print(json.dumps({"mail": (signed + mail).decode(), "zone": zone}))
