//! A mail from a client others wrote, by MX, to a sink others wrote; its signatures judged by two verifiers others wrote.

use std::process::Command;

use hickory_resolver::proto::rr::RecordType;
use serde_json::Value;

use crate::support::peer::{MailSink, judge_dkim, output_of, python};
use crate::support::relay::{PASSWORD, Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings, USER, port};
use crate::support::smtp::stuffed;
use crate::support::{script, split_mail};

/// Bodies that a careless relay changes.
const BODIES: [(&str, &[u8]); 8] = [
    ("plain", b"Hello,\r\n\r\nyour parcel is on its way.\r\n"),
    ("empty", b""),
    ("blank-only", b"\r\n\r\n\r\n"),
    ("blank-at-end", b"Hello\r\n\r\n\r\n\r\n"),
    ("dot-first", b".\r\n..\r\n.hidden\r\n...\r\n"),
    ("utf-8", "您的验证码是 123456\r\n".as_bytes()),
    ("latin-1", b"caf\xe9 \xff\xfe\r\n"),
    ("white-space", b"a  b\t c \t\r\n \r\n\t\r\nend \r\n"),
];

fn message(subject: &str, body: &[u8]) -> Vec<u8> {
    let header = format!(
        "From: Shop <hello@{SENDER_DOMAIN}>\r\nTo: <lin@{SINK_DOMAIN}>\r\nSubject: {subject}\r\n\
         Date: Mon, 23 Nov 2026 06:24:00 +0000\r\nMessage-ID: <{subject}@{SENDER_DOMAIN}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    );
    [header.as_bytes(), body].concat()
}

fn relay_and_sink() -> (Relay, MailSink) {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    (relay, sink)
}

#[test]
fn swaks_over_starttls_arrives_signed_and_untouched() {
    let (relay, sink) = relay_and_sink();
    for (name, body) in BODIES {
        let message = message(name, body);
        let file = relay.dir().join(format!("{name}.eml"));
        // Without its fixup, which is not byte-true, swaks sends what it reads and a CRLF: dots and the end are ours.
        std::fs::write(&file, [stuffed(&message), b".".to_vec()].concat()).unwrap();
        let said = output_of(
            Command::new("swaks")
                .args(["--server", "127.0.0.1", "--port", port(&relay.listeners.smtp[0]), "--tls"])
                .args(["--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD])
                .args(["--from", &format!("hello@{SENDER_DOMAIN}"), "--to", &format!("lin@{SINK_DOMAIN}")])
                .args(["--data", &format!("@{}", file.display()), "--no-data-fixup"]),
        );
        assert!(said.contains("=== TLS started"), "{said}");
        arrived(&relay, &sink, name, body);
    }
    assert!(relay.dns.questions_for(SINK_DOMAIN).contains(&RecordType::MX));
}

#[test]
fn smtplib_over_implicit_tls_arrives_signed_and_untouched() {
    let (relay, sink) = relay_and_sink();
    let mut client = python();
    client.arg(script("smtplib_client.py")).args([port(&relay.listeners.smtp[1]), USER, PASSWORD]);
    client.args([format!("hello@{SENDER_DOMAIN}"), format!("lin@{SINK_DOMAIN}")]);
    for (name, body) in BODIES {
        let file = relay.dir().join(format!("{name}.eml"));
        std::fs::write(&file, message(name, body)).unwrap();
        client.arg(file);
    }
    for line in output_of(&mut client).lines() {
        let reply: Value = serde_json::from_str(line).unwrap();
        assert_eq!(reply["code"], 250, "{line}");
        let id = reply["text"]
            .as_str()
            .unwrap()
            .split(' ')
            .find_map(|word| word.parse::<postrider::model::MessageId>().ok());
        assert!(id.is_some(), "no message id in {line}");
    }
    for (name, body) in BODIES {
        arrived(&relay, &sink, name, body);
    }
    assert!(relay.dns.questions_for(SINK_DOMAIN).contains(&RecordType::MX));
}

/// The mail is at the sink, its body as it was, both signatures good alone, and bad once a byte differs.
fn arrived(relay: &Relay, sink: &MailSink, subject: &str, body: &[u8]) {
    let mail = sink.subject(subject);
    assert_eq!(mail.from, format!("hello@{SENDER_DOMAIN}"));
    assert_eq!(mail.to, [format!("lin@{SINK_DOMAIN}")]);
    let (header, arrived) = split_mail(&mail.data);
    assert_eq!(String::from_utf8_lossy(arrived), String::from_utf8_lossy(body), "{subject}");
    assert_eq!(arrived, body, "{subject}");
    assert!(header.starts_with(b"DKIM-Signature:") || header.starts_with(b"Received:"), "{subject}");

    let verdicts = judge_dkim(relay.dir(), &relay.dkim_zone, &mail.data);
    let mut algorithms: Vec<_> = verdicts.iter().map(|v| v.algorithm.as_str()).collect();
    algorithms.sort_unstable();
    assert_eq!(algorithms, ["ed25519-sha256", "rsa-sha256"], "{subject}");
    for verdict in &verdicts {
        assert!(verdict.is_right(), "{subject}: {verdict:?}\n{}", String::from_utf8_lossy(&mail.data));
        assert_eq!(verdict.domain, SENDER_DOMAIN);
    }

    let tampered_header = replaced(&mail.data, b"From: Shop", b"From: Shep");
    assert_all_fail(relay, &tampered_header, subject);
    // Relaxed canonicalization may not see white space: another letter it must see.
    if let Some(at) = arrived.iter().position(u8::is_ascii_alphanumeric) {
        let mut tampered_body = mail.data.clone();
        tampered_body[mail.data.len() - arrived.len() + at] ^= 1;
        assert_all_fail(relay, &tampered_body, subject);
    }
}

fn assert_all_fail(relay: &Relay, mail: &[u8], subject: &str) {
    let verdicts = judge_dkim(relay.dir(), &relay.dkim_zone, mail);
    assert_eq!(verdicts.len(), 2, "{subject}");
    for verdict in verdicts {
        assert!(verdict.is_wrong(), "{subject}, tampered with: {verdict:?}");
    }
}

fn replaced(mail: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = mail.windows(old.len()).position(|w| w == old).expect("the field is there");
    let mut changed = mail.to_vec();
    changed[at..at + old.len()].copy_from_slice(new);
    changed
}

#[test]
fn a_posted_mail_arrives_signed() {
    let (relay, sink) = relay_and_sink();
    let mail = serde_json::json!({
        "from": format!("Shop <hello@{SENDER_DOMAIN}>"), "to": [format!("lin@{SINK_DOMAIN}")],
        "bcc": [format!("hidden@{SINK_DOMAIN}")], "subject": "posted", "text": "您好\n.dot\n", "html": "<p>您好</p>",
    });
    let answer = relay.api("POST", "/v1/email", &[], &mail.to_string());
    assert_eq!(answer.status, 202, "{answer:?}");
    let arrived = sink.subject("posted");
    assert!(arrived.field("Bcc").is_none());
    for verdict in judge_dkim(relay.dir(), &relay.dkim_zone, &arrived.data) {
        assert!(verdict.is_right(), "{verdict:?}");
    }
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let message = relay.reaches(&id, "delivered");
    let recipients: Vec<_> = message["recipients"].as_array().unwrap().iter().map(|r| r["address"].clone()).collect();
    assert_eq!(recipients.len(), 2, "{message}");
}

#[test]
fn a_raw_mail_posted_keeps_its_body() {
    let (relay, sink) = relay_and_sink();
    let raw = message("raw", b"caf\xc3\xa9\r\n.\r\n\r\n");
    let fields = [
        format!("Authorization: Bearer {}", crate::support::relay::API_KEY),
        "Content-Type: message/rfc822".to_owned(),
    ];
    let fields: Vec<_> = fields.iter().map(String::as_str).collect();
    let answer = crate::support::http::request(&relay.listeners.http, "POST", "/v1/email", &fields, &raw);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(split_mail(&sink.subject("raw").data).1, b"caf\xc3\xa9\r\n.\r\n\r\n");
}
