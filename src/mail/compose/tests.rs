//! Tests of [`compose`](super::compose), read back by an independent parser.

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::mail::header::fields;
use crate::mail::{Trace, prepare};

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn message() -> Message {
    Message {
        from: (Some("Shop, \"the\" one".to_owned()), mailbox("news@shop.example")),
        to: vec![(Some("张三".to_owned()), mailbox("zhang@example.net")), (None, mailbox("li@example.net"))],
        cc: vec![],
        reply_to: vec![],
        subject: "您的订单 7 已发货".to_owned(),
        text: Some("Hello\n.\n\ngrüße\r\nend  \r".to_owned()),
        html: None,
        headers: vec![],
        attachments: vec![],
    }
}

fn attachment(filename: &str, content_type: &str, content: &[u8]) -> Attachment {
    Attachment {
        filename: filename.to_owned(),
        content_type: content_type.to_owned(),
        content: content.to_vec(),
        content_id: None,
    }
}

fn id() -> MessageId {
    MessageId::from_bytes([3; 16])
}

fn composed(message: &Message) -> MailData {
    let data = compose(message, id()).unwrap();
    for line in data.bytes().split(|b| *b == b'\n') {
        assert!(line.len() <= DATA_LINE_BYTES_MAX + 1, "{}", String::from_utf8_lossy(line));
    }
    data
}

fn refused(change: impl FnOnce(&mut Message)) -> String {
    let mut message = message();
    change(&mut message);
    compose(&message, id()).unwrap_err().field
}

#[test]
fn text_names_and_subject_come_back() {
    let data = composed(&message());
    let mail = MessageParser::new().parse(data.bytes()).unwrap();
    let from = mail.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Shop, \"the\" one"), Some("news@shop.example")));
    let to = mail.to().unwrap();
    assert_eq!((to.first().unwrap().name(), to.last().unwrap().address()), (Some("张三"), Some("li@example.net")));
    assert_eq!(mail.subject(), Some("您的订单 7 已发货"));
    assert_eq!(mail.body_text(0).unwrap().replace("\r\n", "\n"), "Hello\n.\n\ngrüße\nend  \n");
    assert!(data.bytes().is_ascii(), "encoded");
    let names: Vec<_> = fields(data.bytes()).map(|f| String::from_utf8_lossy(f.name()).into_owned()).collect();
    assert_eq!(names, ["From", "To", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]);
}

#[test]
fn all_parts_find_their_place() {
    let mut message = message();
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    message.html = Some("<img src=\"cid:logo@shop\">".to_owned());
    message.attachments = vec![
        attachment("发票 7.pdf", "application/pdf", &bytes),
        attachment("lines.csv", "text/csv; charset=utf-8", b"a\nb\r\nc\r\0d"),
        Attachment { content_id: Some("logo@shop".to_owned()), ..attachment("logo.png", "image/png", &bytes) },
    ];
    let data = composed(&message);
    let text = String::from_utf8(data.bytes().to_vec()).unwrap();
    let kinds: Vec<&str> = text
        .matches("multipart/")
        .zip(text.split("multipart/").skip(1))
        .map(|(_, t)| t.split(';').next().unwrap())
        .collect();
    assert_eq!(kinds, ["mixed", "alternative", "related"]);
    let mail = MessageParser::new().parse(data.bytes()).unwrap();
    assert_eq!(mail.body_html(0).unwrap(), "<img src=\"cid:logo@shop\">");
    let found: Vec<_> =
        mail.attachments().map(|a| (a.attachment_name().unwrap().to_owned(), a.contents().to_vec())).collect();
    for wanted in &message.attachments {
        assert!(found.contains(&(wanted.filename.clone(), wanted.content.clone())), "{}", wanted.filename);
    }
    let logo = mail.parts.iter().find(|p| p.content_id() == Some("logo@shop")).unwrap();
    assert_eq!(logo.contents(), bytes);
    assert_eq!(compose(&message, id()).unwrap(), data, "the same parts make the same bytes");
}

#[test]
fn little_is_enough() {
    let mut least = message();
    least.text = None;
    least.to = vec![];
    least.subject = String::new();
    let mail = composed(&least);
    assert!(MessageParser::new().parse(mail.bytes()).unwrap().body_text(0).is_some_and(|t| t.trim().is_empty()));
    least.html = Some("<p>x</p>".to_owned());
    assert_eq!(MessageParser::new().parse(composed(&least).bytes()).unwrap().body_html(0).unwrap(), "<p>x</p>");
    least.html = None;
    least.attachments = vec![attachment("", "application/octet-stream", b"")];
    assert_eq!(MessageParser::new().parse(composed(&least).bytes()).unwrap().attachment_count(), 1);
}

#[test]
fn own_fields_go_out_as_they_are() {
    let mut message = message();
    let link = format!("<https://shop.example/u?a=b&token={}>, <mailto:u@shop.example>", "x".repeat(200));
    message.headers = vec![
        ("List-Unsubscribe".to_owned(), link.clone()),
        ("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()),
        ("X-Note".to_owned(), "grüße".to_owned()),
    ];
    let data = composed(&message);
    let value = |name: &str| {
        fields(data.bytes()).find(|f| f.is(name)).map(|f| String::from_utf8(f.value().into_owned()).unwrap())
    };
    assert_eq!(value("List-Unsubscribe"), Some(link));
    assert_eq!(value("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    assert!(value("X-Note").unwrap().starts_with("=?"));
}

#[test]
fn injection_is_refused_and_named() {
    for bad in ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\0b", "a\u{7f}", "a\u{85}b"] {
        assert_eq!(refused(|m| m.subject = bad.to_owned()), "subject");
        assert_eq!(refused(|m| m.from.0 = Some(bad.to_owned())), "from.name");
        assert_eq!(refused(|m| m.to[1].0 = Some(bad.to_owned())), "to[1].name");
        assert_eq!(refused(|m| m.cc = vec![(Some(bad.to_owned()), mailbox("a@b"))]), "cc[0].name");
        assert_eq!(refused(|m| m.reply_to = vec![(Some(bad.to_owned()), mailbox("a@b"))]), "reply_to[0].name");
        assert_eq!(refused(|m| m.headers = vec![("X-A".to_owned(), bad.to_owned())]), "headers[0]");
        assert_eq!(refused(|m| m.headers = vec![(bad.to_owned(), String::new())]), "headers[0]");
        assert_eq!(refused(|m| m.attachments = vec![attachment(bad, "a/b", b"")]), "attachments[0].filename");
        assert_eq!(refused(|m| m.attachments = vec![attachment("x", bad, b"")]), "attachments[0].content_type");
        let cid = Attachment { content_id: Some(bad.to_owned()), ..attachment("x", "a/b", b"") };
        assert_eq!(refused(|m| m.attachments = vec![cid]), "attachments[0].content_id");
    }
    assert_eq!(refused(|m| m.headers = vec![("Bcc".to_owned(), "x@y".to_owned())]), "headers[0]");
    assert_eq!(refused(|m| m.text = Some("a\0b".to_owned())), "text");
    assert_eq!(refused(|m| m.html = Some("a\0b".to_owned())), "html");
}

#[test]
fn limits_hold() {
    let header = || ("X-A".to_owned(), "b".to_owned());
    assert_eq!(refused(|m| m.headers = vec![header(); HEADERS_MAX + 1]), "headers");
    assert_eq!(refused(|m| m.attachments = vec![attachment("x", "a/b", b""); ATTACHMENTS_MAX + 1]), "attachments");
    assert_eq!(refused(|m| m.headers = vec![("X-A".to_owned(), "x".repeat(1_000))]), "headers[0]");
    assert_eq!(refused(|m| m.subject = "x ".repeat(5_000)), "subject");
    let mut fine = message();
    fine.headers = vec![header(); HEADERS_MAX];
    fine.attachments = vec![attachment("x", "a/b", b""); ATTACHMENTS_MAX];
    fine.subject = "x ".repeat(4_000);
    composed(&fine);
}

proptest! {
    #[test]
    fn any_text_comes_back(subject in "\\PC{0,120}", name in "\\PC{0,60}", text in any::<String>(), filename in "\\PC{1,80}",
                           content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut message = message();
        message.subject.clone_from(&subject);
        message.from.0 = Some(name.clone());
        message.text = Some(text.replace('\0', ""));
        message.attachments = vec![attachment(&filename, "application/pdf", &content)];
        let data = composed(&message);
        let mail = MessageParser::new().parse(data.bytes()).unwrap();
        prop_assert_eq!(mail.attachment(0).unwrap().contents(), content.as_slice());
        let unwrapped = |t: &str| t.split_whitespace().collect::<String>();
        prop_assert_eq!(unwrapped(mail.subject().unwrap_or_default()), unwrapped(&subject));
        let expected = with_crlf(&text.replace('\0', ""));
        prop_assert_eq!(unwrapped(&mail.body_text(0).unwrap_or_default()), unwrapped(&expected));
        let trace = Trace {
            helo: None, peer: "192.0.2.1".parse().unwrap(), by: "relay.example.com", protocol: "HTTP", tls: None, id: id(),
            only_recipient: None, time: Timestamp(0), hops_max: 1,
        };
        let prepared = prepare(data, &trace).unwrap();
        prop_assert_eq!(prepared.from_domains.iter().map(|d| d.as_str()).collect::<Vec<_>>(), ["shop.example"]);
    }
}
