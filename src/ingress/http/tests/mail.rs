//! `POST /v1/email`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::json;

use super::super::Options;
use super::fixture::{NOW, Running, mail_of, recipients};
use crate::model::Class;

fn least() -> serde_json::Value {
    json!({"from": "a@shop.example.com", "to": ["b@example.net"], "subject": "s", "text": "x"})
}

#[tokio::test]
async fn a_mail_is_composed_of_its_fields() {
    let relay = Running::start();
    let file: Vec<u8> = (0..=255).collect();
    let body = json!({
        "from": "\"Shop, Ltd\" <hello@shop.example.com>",
        "to": ["Lin <lin@example.net>", "wei@example.net"],
        "cc": "copy@example.net",
        "bcc": ["secret@example.org", "lin@example.net"],
        "reply_to": "answers@shop.example.com",
        "subject": "您的订单",
        "text": "hello\nworld",
        "html": "<p>hello</p>",
        "headers": {"List-Unsubscribe": "<https://shop.example.com/u?x=1>"},
        "attachments": [{"filename": "发票.pdf", "content_type": "application/pdf", "content": STANDARD.encode(&file)}],
        "class": "marketing", "campaign": "autumn", "tags": ["a"], "client_ref": "order-7",
        "send_at": "2026-11-23T07:24:00Z", "expires_at": "2026-11-23T08:24:00Z",
    });
    let reply = relay.post("/v1/email", &body.to_string()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(reply.body["status"], "scheduled");
    assert!(reply.body.get("parts").is_none());
    let taken = relay.only();
    let (mail, envelope, origin) = mail_of(&taken);
    assert_eq!(origin.reverse_path.to_string(), "hello@shop.example.com");
    assert_eq!(
        recipients(envelope),
        ["lin@example.net", "wei@example.net", "copy@example.net", "secret@example.org"],
        "each once"
    );
    let hour = Duration::from_secs(3_600);
    assert_eq!((envelope.send_at, envelope.expires_at), (Some(NOW.plus(hour)), Some(NOW.plus(hour * 2))));
    assert_eq!((envelope.class, envelope.campaign.as_deref()), (Class::Marketing, Some("autumn")));
    assert_eq!(envelope.client_ref.as_deref(), Some("order-7"));
    assert!(mail.starts_with("Received: "), "{mail}");
    assert!(!mail.contains("secret@example.org"), "{mail}");
    let parsed = MessageParser::new().parse(mail.as_bytes()).unwrap();
    assert_eq!(parsed.subject(), Some("您的订单"));
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Shop, Ltd"), Some("hello@shop.example.com")));
    assert_eq!(parsed.body_html(0).unwrap().trim(), "<p>hello</p>");
    assert_eq!(parsed.attachment(0).unwrap().contents(), file);
    assert_eq!(parsed.attachment(0).unwrap().attachment_name(), Some("发票.pdf"));
    assert!(mail.contains("<https://shop.example.com/u?x=1>"));
    assert_eq!(&mail.as_bytes()[origin.header_bytes as usize - 4..origin.header_bytes as usize], b"\r\n\r\n");
}

#[tokio::test]
async fn wrong_fields_of_a_mail_are_named_all_at_once() {
    let relay = Running::with(Options { recipients_max: 3, ..Options::default() });
    for (changes, fields) in [
        (json!({"from": null, "subject": null, "text": null}), vec!["from", "subject", "text"]),
        (json!({"from": "nobody", "to": ["b@example.net", "x"], "cc": "y"}), vec!["from", "to[1]", "cc[0]"]),
        (json!({"to": []}), vec!["to"]),
        (json!({"to": null}), vec!["to"]),
        (json!({"to": ["a@b.example", "b@b.example", "c@b.example", "d@b.example"]}), vec!["to"]),
        (json!({"to": [5, "a@b.example", {}]}), vec!["to[0]", "to[2]"]),
        (json!({"to": {"email": "a@b.example"}}), vec!["to"]),
        (json!({"from": "a@shop.example.com, b@shop.example.com"}), vec!["from"]),
        (json!({"attachments": [{"filename": "a"}]}), vec!["attachments[0]"]),
        (
            json!({"attachments": [{"filename": "a", "content_type": "text/plain", "content": "?"}]}),
            vec!["attachments[0].content"],
        ),
        (json!({"headers": {"X-A": 5}}), vec!["headers"]),
        (json!({"expires_at": "2026-11-23T00:00:00Z"}), vec!["expires_at"]),
        (json!({"template": "t"}), vec!["template"]),
        (json!({"ttl_s": 5}), vec!["ttl_s"]),
    ] {
        let mut body = least();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = relay.post("/v1/email", &body.to_string()).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{changes}: {reply:?}");
    }
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn no_field_can_begin_another() {
    let relay = Running::start();
    for (changes, field) in [
        (json!({"subject": "s\r\nBcc: victim@example.org"}), "subject"),
        (json!({"subject": "s\nBcc: victim@example.org"}), "subject"),
        (json!({"from": "x\r\nBcc: <a@shop.example.com>"}), "from"),
        (json!({"to": ["b@example.net\r\nBcc: victim@example.org"]}), "to[0]"),
        (json!({"reply_to": "x\ny <a@shop.example.com>"}), "reply_to[0]"),
        (json!({"headers": {"X-A": "b\r\nBcc: victim@example.org"}}), "headers.X-A"),
        (json!({"headers": {"X-A\r\nBcc": "victim@example.org"}}), "headers.X-A\r\nBcc"),
        (json!({"headers": {"Bcc": "victim@example.org"}}), "headers.Bcc"),
        (json!({"headers": {"From": "other@shop.example.com"}}), "headers.From"),
        (json!({"headers": {"X-Postrider-Class": "otp"}}), "headers.X-Postrider-Class"),
        (
            json!({"attachments": [{"filename": "a\r\nX: y", "content_type": "text/plain", "content": ""}]}),
            "attachments[0].filename",
        ),
        (
            json!({"attachments": [{"filename": "a", "content_type": "text/plain\r\nX: y", "content": ""}]}),
            "attachments[0].content_type",
        ),
        (
            json!({"attachments": [
                {"filename": "a", "content_type": "text/plain", "content": "", "content_id": "a>\r\nX: y"}
            ]}),
            "attachments[0].content_id",
        ),
    ] {
        let mut body = least();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = relay.post("/v1/email", &body.to_string()).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), [field], "{changes}: {reply:?}");
    }
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn a_client_sends_as_its_own_domains_only() {
    let relay = Running::start();
    let mut body = least();
    body["from"] = json!("a@other.example.com");
    let json = relay.post("/v1/email", &body.to_string()).await;
    let own = b"From: a@shop.example.com\r\nTo: b@example.net\r\n\r\nx";
    let foreign = b"From: a@other.example.com\r\nTo: b@example.net\r\n\r\nx";
    for reply in [
        json,
        relay.post_mail("/v1/email", foreign).await,
        relay.post_mail("/v1/email?from=a@shop.example.com", foreign).await,
        relay.post_mail("/v1/email?from=a@other.example.com", own).await,
    ] {
        reply.assert_problem(403, "not-allowed");
        assert_eq!(reply.body["rule"], "sender-not-allowed");
    }
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn a_finished_mail_goes_as_it_is() {
    let relay = Running::start();
    let mail =
        b"From: Shop <a@shop.example.com>\nTo: Team: b@example.net,\n \"C, D\" <c@example.net>;\nBcc: d@example.net\n\
        Subject: s\nX-Postrider-Class: otp\nX-Postrider-Tags: one, two\n\n.dot first\n\nend\n";
    let reply = relay.post_mail("/v1/email?client_ref=r-1", mail).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let taken = relay.only();
    let (content, envelope, origin) = mail_of(&taken);
    assert_eq!(recipients(envelope), ["b@example.net", "c@example.net", "d@example.net"]);
    assert_eq!(origin.reverse_path.to_string(), "a@shop.example.com");
    assert_eq!((envelope.class, envelope.client_ref.as_deref()), (Class::Otp, Some("r-1")));
    assert_eq!(envelope.tags.len(), 2);
    assert_eq!(&content[origin.header_bytes as usize..], ".dot first\r\n\r\nend\r\n");
    for gone in ["Bcc:", "X-Postrider", "d@example.net"] {
        assert!(!content.contains(gone), "{content}");
    }
    assert!(content.contains("To: Team: b@example.net,\r\n \"C, D\" <c@example.net>;\r\n"), "{content}");
}

#[tokio::test]
async fn the_query_is_the_envelope_if_it_says_so() {
    let relay = Running::start();
    let mail = b"From: a@shop.example.com\r\nTo: everybody@example.net\r\n\r\nx";
    let path = "/v1/email?from=bounces%2Bx@shop.example.com&to=one@example.net&to=two@example.net&to=one@example.net";
    assert_eq!(relay.post_mail(path, mail).await.status, 202);
    let taken = relay.only();
    let (_, envelope, origin) = mail_of(&taken);
    assert_eq!(origin.reverse_path.to_string(), "bounces+x@shop.example.com");
    assert_eq!(recipients(envelope), ["one@example.net", "two@example.net"]);
}

#[tokio::test]
async fn finished_mails_that_cannot_go_are_refused() {
    let relay = Running::start();
    let good = "From: a@shop.example.com\r\nTo: b@example.net\r\n\r\nx\r\n";
    let long = format!("{good}{}\r\n", "x".repeat(999));
    let loops = format!("{}{good}", "Received: x\r\n".repeat(101));
    for (path, mail, fields) in [
        ("/v1/email", "From: a@shop.example.com\r\nTo: b@example.net\n\r\nx", vec![""]),
        ("/v1/email", "From: a@shop.example.com\r\nTo: b@example.net\r\n\r\nx\r", vec![""]),
        ("/v1/email", "From: a@shop.example.com\nTo: b@example.net\n\nx\0\n", vec![""]),
        ("/v1/email", &long, vec![""]),
        ("/v1/email", &loops, vec!["Received"]),
        ("/v1/email", "To: b@example.net\r\n\r\nx", vec!["from"]),
        ("/v1/email", "From: a@shop.example.com, b@shop.example.com\r\nTo: b@example.net\r\n\r\nx", vec!["from"]),
        ("/v1/email", "From: a@shop.example.com\r\n\r\nx", vec!["to"]),
        ("/v1/email", "From: a@shop.example.com\r\nTo: nobody\r\n\r\nx", vec!["to"]),
        ("/v1/email", "", vec!["from"]),
        ("/v1/email?from=nobody&to=x", good, vec!["from", "to[0]"]),
        ("/v1/email?colour=red", good, vec!["colour"]),
        ("/v1/email?from=a@shop.example.com&from=b@shop.example.com", good, vec!["from"]),
    ] {
        let reply = relay.post_mail(path, mail.as_bytes()).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{path} {mail:?}: {reply:?}");
    }
    let directive = format!("X-Postrider-Class: urgent\r\n{good}");
    let reply = relay.post_mail("/v1/email", directive.as_bytes()).await;
    reply.assert_problem(422, "invalid-fields");
    assert!(reply.fields()[0].eq_ignore_ascii_case("X-Postrider-Class"), "{reply:?}");
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn a_mail_has_a_largest_size() {
    let relay = Running::with(Options { message_bytes_max: 20_000, ..Options::default() });
    let mail =
        |bytes: usize| format!("From: a@shop.example.com\nTo: b@example.net\n\n{}", "1234567\n".repeat(bytes / 8));
    assert_eq!(relay.post_mail("/v1/email", mail(10_000).as_bytes()).await.status, 202);
    relay.post_mail("/v1/email", mail(20_000).as_bytes()).await.assert_problem(413, "too-large");
}

#[tokio::test]
async fn large_mails_are_composed_off_the_reactor() {
    let relay = Running::start();
    let file = vec![7; 600_000];
    let mut body = least();
    body["attachments"] =
        json!([{"filename": "a.bin", "content_type": "application/octet-stream", "content": STANDARD.encode(&file)}]);
    assert_eq!(relay.post("/v1/email", &body.to_string()).await.status, 202);
    let (mail, ..) = mail_of(&relay.only());
    assert_eq!(MessageParser::new().parse(mail.as_bytes()).unwrap().attachment(0).unwrap().contents(), file);
}

#[tokio::test]
async fn the_key_in_a_mail_counts_if_the_request_has_none() {
    let relay = Running::start();
    let mail = b"From: a@shop.example.com\nTo: b@example.net\nX-Postrider-Idempotency-Key: k-1\n\nx\n";
    let first = relay.post_mail("/v1/email", mail).await;
    let second = relay.post_mail("/v1/email", mail).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(first.body["id"], second.body["id"]);
    let lines = "content-type: message/rfc822\r\nidempotency-key: k-2\r\n";
    let third = relay.post_with("/v1/email", lines, mail).await;
    assert!(!third.headers.contains_key("idempotent-replayed"));
}
