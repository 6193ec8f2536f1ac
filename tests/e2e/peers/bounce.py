#!/usr/bin/env python3
"""Reads a mail on standard input with Python's email package and prints what a bounce processor would see, as JSON."""
import email, email.policy, json, sys

mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
parts = list(mail.iter_parts()) if mail.is_multipart() else []
found = {
    "type": mail.get_content_type(), "report_type": mail.get_param("report-type"),
    "from": mail["From"], "to": mail["To"], "subject": mail["Subject"], "auto_submitted": mail["Auto-Submitted"],
    "defects": [str(d) for part in mail.walk() for d in part.defects],
    "parts": [part.get_content_type() for part in parts],
}
for part in parts:
    if part.get_content_type() == "message/delivery-status":
        per_message, *per_recipient = part.get_payload()
        found["per_message"] = dict(per_message.items())
        found["per_recipient"] = [dict(fields.items()) for fields in per_recipient]
print(json.dumps(found))
