#!/usr/bin/env python3
"""Sends mails with Python's smtplib over implicit TLS and AUTH; prints the replies to end of data, one JSON line each.

Usage: smtplib_client.py PORT USER PASSWORD FROM TO FILE...      (each FILE is one whole mail, sent over one connection)
"""
import json, smtplib, ssl, sys

port, user, password, sender, recipient, *files = sys.argv[1:]
trusting = ssl.create_default_context()
trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
with smtplib.SMTP_SSL("127.0.0.1", int(port), context=trusting, timeout=30) as client:
    client.login(user, password)
    for name in files:
        with open(name, "rb") as f:
            message = f.read()
        options = ["BODY=8BITMIME"] if any(byte > 127 for byte in message) else []
        client.ehlo_or_helo_if_needed()
        code, text = client.mail(sender, options)
        assert code == 250, (code, text)
        code, text = client.rcpt(recipient)
        assert code == 250, (code, text)
        code, text = client.data(message)
        print(json.dumps({"code": code, "text": text.decode()}))
