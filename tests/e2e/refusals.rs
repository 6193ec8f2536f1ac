//! What the relay must not take, and the words with which it says so.

use serde_json::{Value, json};

use crate::support::http::{self, Answer};
use crate::support::peer::MailSink;
use crate::support::relay::{API_KEY, Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::smtp::Client;

fn relay_and_sink() -> (Relay, MailSink) {
    let sink = MailSink::start(0);
    let extra = "\n[limits]\nmessage_bytes = \"64KiB\"\n".to_owned();
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, carrier_port: Some(1), extra, ..Settings::default() });
    (relay, sink)
}

#[test]
fn smtp_refuses_what_is_not_allowed_or_not_well_formed() {
    let (relay, sink) = relay_and_sink();
    let (good, to) = (format!("hello@{SENDER_DOMAIN}"), format!("lin@{SINK_DOMAIN}"));
    let mail = |from: &str, rest: &str| format!("From: <{from}>\r\nSubject: bad\r\n{rest}").into_bytes();
    let long_line = format!("\r\n{}\r\n", "x".repeat(999));
    let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(98)).repeat(700));
    let cases: [(&str, &str, Vec<u8>, &str); 9] = [
        ("foreign reverse-path", "hello@evil.example", mail("hello@evil.example", "\r\n"), "550 5.7.1"),
        ("foreign From", &good, mail("hello@evil.example", "\r\n"), "550 5.7.1"),
        ("bare LF", &good, mail(&good, "\r\na\nb\r\n"), "554 5.6.0"),
        ("bare CR", &good, mail(&good, "\r\na\rb\r\n"), "554 5.6.0"),
        ("NUL", &good, mail(&good, "\r\na\0b\r\n"), "554 5.6.0"),
        ("smuggled end", &good, mail(&good, "\r\na\n.\nMAIL FROM:<x@evil.example>\r\n"), "554 5.6.0"),
        ("long line", &good, mail(&good, &long_line), "554 5.6.0"),
        ("far ahead", &good, mail(&good, "X-Postrider-Send-At: 2500-01-01T00:00:00Z\r\n\r\n"), "554 5.6.0"),
        ("oversize", &good, mail(&good, &large), "552 5.3.4"),
    ];
    for (what, from, content, refusal) in cases {
        let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
        let reply = client.mail(from, &[&to], &content).unwrap();
        assert!(reply.starts_with(refusal), "{what}: {reply}");
    }
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    let reply = client.say(&format!("MAIL FROM:<{good}> SIZE=70000")).unwrap();
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    // The connection is still good for a mail that is, and nothing else has left.
    let reply = client.mail(&good, &[&to], b"From: <hello@shop.example.com>\r\nSubject: good\r\n\r\n").unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    sink.subject("good");
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn smtp_refuses_whoever_is_not_known() {
    let (relay, _sink) = relay_and_sink();
    let mut client = Client::greeted(&relay.listeners.smtp[0]).unwrap();
    let from = format!("MAIL FROM:<hello@{SENDER_DOMAIN}>");
    let reply = client.say(&from).unwrap();
    assert!(reply.starts_with("530 5.7.0"), "missing AUTH: {reply}");
    let ehlo = client.say("EHLO again.example").unwrap();
    assert!(!ehlo.contains("AUTH"), "AUTH is not offered in clear: {ehlo}");
    // \0shop\0correct horse
    let reply = client.say("AUTH PLAIN AHNob3AAY29ycmVjdCBob3JzZQ==").unwrap();
    assert!(reply.starts_with("538 5.7.11") || reply.starts_with("530 5.7.0"), "AUTH in clear: {reply}");
    let reply = client.say(&from).unwrap();
    assert!(reply.starts_with("530 5.7.0"), "still nobody: {reply}");
}

fn post(relay: &Relay, path: &str, fields: &[&str], body: &str) -> Answer {
    let mut all = vec!["Content-Type: application/json"];
    all.extend(fields);
    http::request(&relay.listeners.http, "POST", path, &all, body.as_bytes())
}

/// The answer is a problem document of that status.
fn assert_problem(what: &str, answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}: {problem}");
    assert!(problem["type"].is_string() && problem["title"].is_string(), "{what}: {problem}");
    problem
}

#[test]
fn http_refuses_with_problem_details() {
    let (relay, _sink) = relay_and_sink();
    let key = format!("Authorization: Bearer {API_KEY}");
    let sms = |to: &str| json!({"to": to, "text": "hello"}).to_string();
    let email = |from: &str, subject: &str| {
        json!({"from": from, "to": [format!("lin@{SINK_DOMAIN}")], "subject": subject, "text": "x"}).to_string()
    };
    let good = format!("hello@{SENDER_DOMAIN}");

    let unknown = post(&relay, "/v1/sms", &[], &sms("+8613800138000"));
    assert_problem("no key", &unknown, 401);
    assert!(unknown.field("www-authenticate").is_some(), "{unknown:?}");
    let wrong = post(&relay, "/v1/sms", &["Authorization: Bearer wrong"], &sms("+8613800138000"));
    assert_problem("wrong key", &wrong, 401);
    for broken in ["{", "{\"to\":}", ""] {
        assert_problem(broken, &post(&relay, "/v1/sms", &[&key], broken), 400);
    }
    for no_object in ["[]", "\"text\"", "7"] {
        assert_problem(no_object, &post(&relay, "/v1/sms", &[&key], no_object), 422);
    }
    for number in ["13800138000", "+86", "", "abc", "+0138001380"] {
        let problem = assert_problem(number, &post(&relay, "/v1/sms", &[&key], &sms(number)), 422);
        assert!(problem["errors"].to_string().contains("to"), "{problem}");
    }
    let elsewhere = assert_problem("country", &post(&relay, "/v1/sms", &[&key], &sms("+14155550100")), 403);
    assert_eq!(elsewhere["rule"], "country-not-allowed", "{elsewhere}");
    let foreign = post(&relay, "/v1/email", &[&key], &email("x@evil.example", "x"));
    assert_eq!(assert_problem("foreign sender", &foreign, 403)["rule"], "sender-not-allowed");
    let injected = post(&relay, "/v1/email", &[&key], &email(&good, "x\r\nBcc: <y@evil.example>"));
    assert_problem("header injection", &injected, 422);
    let large =
        json!({"from": good, "to": [format!("lin@{SINK_DOMAIN}")], "subject": "x", "text": "x".repeat(200_000)});
    assert_problem("oversize", &post(&relay, "/v1/email", &[&key], &large.to_string()), 413);
    let nothing = http::request(&relay.listeners.http, "GET", "/v1/messages/00000000000000000000000000", &[&key], b"");
    assert_problem("unknown message", &nothing, 404);
}

#[test]
fn http_documents_itself() {
    let (relay, _sink) = relay_and_sink();
    let answer = relay.api("GET", "/v1/openapi.json", &[], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let document = answer.json();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{document}");
    for path in ["/v1/sms", "/v1/email", "/v1/messages/{id}"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
