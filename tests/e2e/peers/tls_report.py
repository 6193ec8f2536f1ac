#!/usr/bin/env python3
"""Reads a TLS report as its receiver does, with Python's email, gzip and json: a mail, or with --body what came by HTTPS.

Usage: tls_report.py [--body]       (on standard input)

Prints one JSON object: "report", and of a mail "fields" (those of the header section, unfolded), "type" (of the report) and
"file" (its name). Whatever RFC 8460 demands of the form and is not there ends it with an error.
"""
import email, email.policy, gzip, json, re, sys

TYPES = {
    "starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted",
    "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error",
    "sts-policy-invalid", "sts-webpki-invalid",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def checked(gzipped):
    report = json.loads(gzip.decompress(gzipped).decode("utf-8"))
    for key in ("organization-name", "contact-info", "report-id"):
        assert isinstance(report[key], str) and report[key], key
    for key in ("start-datetime", "end-datetime"):
        assert TIME.fullmatch(report["date-range"][key]), report["date-range"]
    assert report["policies"], "no policies"
    for result in report["policies"]:
        policy, summary, details = result["policy"], result["summary"], result.get("failure-details", [])
        assert policy["policy-type"] in ("tlsa", "sts", "no-policy-found"), policy
        assert policy["policy-domain"], policy
        for key in ("policy-string", "mx-host"):
            assert all(isinstance(text, str) for text in policy.get(key, [])), policy
        assert isinstance(summary["total-successful-session-count"], int), summary
        assert all(detail["result-type"] in TYPES for detail in details), details
        failed = sum(detail["failed-session-count"] for detail in details)
        assert summary["total-failure-session-count"] == failed, (summary, details)
    return report


def main():
    data = sys.stdin.buffer.read()
    if sys.argv[1:] == ["--body"]:
        print(json.dumps({"report": checked(data)}))
        return
    mail = email.message_from_bytes(data, policy=email.policy.default)
    assert mail.get_content_type() == "multipart/report", mail.get_content_type()
    assert not mail.defects, mail.defects
    words, attached = mail.iter_parts()
    assert words.get_content_type() == "text/plain" and words.get_content(), "no words for people"
    assert attached.get_content_type() == "application/tlsrpt+gzip", attached.get_content_type()
    print(json.dumps({
        "fields": {name.lower(): " ".join(str(value).split()) for name, value in mail.items()},
        "type": mail.get_param("report-type"),
        "file": attached.get_filename(),
        "report": checked(attached.get_content()),
    }))


main()
