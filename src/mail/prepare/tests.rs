//! Tests of [`prepare`](super::prepare).

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::mail::header::{body, header_section};
use crate::model::{Class, MessageId};

const FROM: &str = "From: Shop <news@shop.example>\r\n";

fn trace() -> Trace<'static> {
    Trace {
        helo: Some("app.shop.example"),
        peer: "192.0.2.7".parse().unwrap(),
        by: "relay.example.com",
        protocol: "ESMTPSA",
        tls: None,
        id: MessageId::from_bytes([9; 16]),
        only_recipient: None,
        time: Timestamp(1_795_415_040_000_000),
        hops_max: 3,
    }
}

fn data(bytes: impl Into<Vec<u8>>) -> MailData {
    MailData::new(Bytes::from(bytes.into())).unwrap()
}

fn prepared(mail: &str) -> Prepared {
    prepare(data(mail), &trace()).unwrap()
}

/// What stands below the Received field.
fn below_trace(prepared: &Prepared) -> String {
    let text = String::from_utf8_lossy(prepared.data.bytes()).into_owned();
    let received = fields(text.as_bytes()).next().unwrap();
    assert!(received.is("Received"), "{text}");
    text[received.raw().len()..].to_owned()
}

fn added() -> String {
    format!(
        "Date: Mon, 23 Nov 2026 06:24:00 +0000\r\nMessage-ID: <{}@relay.example.com>\r\n",
        MessageId::from_bytes([9; 16])
    )
}

#[test]
fn what_is_missing_is_added() {
    let mail = prepared(&format!("{FROM}\r\nbody\r\n"));
    assert_eq!(below_trace(&mail), format!("{}{FROM}\r\nbody\r\n", added()));
    assert_eq!(body(&mail.data, mail.header_bytes), b"body\r\n");
    assert_eq!(mail.from_domains, [Domain::parse("shop.example").unwrap()]);
    assert_eq!((mail.body, mail.utf8_header), (BodyKind::SevenBit, false));
    assert_eq!(mail.body_hash, BodyHash::of(b"body\r\n"));
    let whole = format!("date: x\r\nMESSAGE-ID: <1@x>\r\n{FROM}\r\nbody\r\n");
    assert_eq!(below_trace(&prepared(&whole)), whole);
}

#[test]
fn secrets_and_directives_are_stripped_and_nothing_else() {
    let mail = prepared(&format!(
        "Bcc: hidden@example.org,\r\n other@example.org\r\nBcc : again@example.org\r\n{FROM}\
         Bcc-Copy: kept\r\nX-Postrider-Class: otp\r\nDate:  kept as it is\t\r\nMessage-Id: <1@x>\r\n\
         no field\r\nx-postrider-tags: a,b\r\nSubject: x\r\n\tfolded\r\nRESENT-BCC: hidden@example.org\r\n\r\n\
         Bcc: in the body\r\n"
    ));
    assert_eq!(
        below_trace(&mail),
        format!(
            "{FROM}Bcc-Copy: kept\r\nDate:  kept as it is\t\r\nMessage-Id: <1@x>\r\nno field\r\nSubject: x\r\n\tfolded\r\n\
             \r\nBcc: in the body\r\n"
        )
    );
    assert_eq!(mail.directives.class, Some(Class::Otp));
    assert_eq!(mail.directives.tags, ["a", "b"]);
}

#[test]
fn mails_with_little_in_them_are_right() {
    for (rest, hashed) in [
        ("", ""),
        ("\r\n", ""),
        ("\r\n\r\n\r\n", ""),
        ("\r\n.\r\n..dots\r\n", ".\r\n..dots\r\n"),
        ("\r\nno line end", "no line end\r\n"),
        ("\r\nblank\r\n \r\n\t\r\n", "blank\r\n"),
        ("Subject: header only", ""),
    ] {
        let mail = prepared(&format!("{FROM}{rest}"));
        assert_eq!(below_trace(&mail), format!("{}{FROM}{rest}", added()));
        assert_eq!(mail.body_hash, BodyHash::of(hashed.as_bytes()), "{rest:?}");
    }
    let header_only = prepared("From: a@b.example\r\nBcc: x");
    assert_eq!(header_only.header_bytes as usize, header_only.data.len());
    assert!(below_trace(&header_only).ends_with("From: a@b.example\r\n"));
}

#[test]
fn octets_above_127_are_noticed_where_they_are() {
    let in_body = prepare(data([FROM.as_bytes(), b"\r\n\xe4\r\n"].concat()), &trace()).unwrap();
    assert_eq!((in_body.body, in_body.utf8_header), (BodyKind::EightBit, false));
    let in_header = prepared(&format!("{FROM}Subject: \u{e4}\r\n\r\nx\r\n"));
    assert_eq!((in_header.body, in_header.utf8_header), (BodyKind::EightBit, true));
    let stripped = prepared(&format!("{FROM}X-Postrider-Campaign: \u{e4}\r\n\r\nx\r\n"));
    assert_eq!((stripped.body, stripped.utf8_header), (BodyKind::SevenBit, false));
}

#[test]
fn loops_and_bad_headers_are_refused() {
    let refused = |mail: &str| prepare(data(mail), &trace()).unwrap_err();
    let hops = "Received: x\r\n";
    assert!(prepare(data(format!("{}{FROM}", hops.repeat(3))), &trace()).is_ok());
    assert_eq!(refused(&format!("{}{FROM}", hops.repeat(4))), PrepareError::TooManyHops { hops: 4 });
    for mail in [
        "",
        "\r\n",
        "body only\r\n",
        "Subject: x\r\n\r\nFrom: a@b.example\r\n",
        "From: nobody\r\n\r\n",
        &FROM.repeat(2),
    ] {
        let error = refused(mail);
        assert!(matches!(error, PrepareError::BadHeader { .. }), "{mail:?}: {error}");
        assert_eq!(error.status().to_string(), "5.6.0");
    }
    let error = refused(&format!("{FROM}X-Postrider-Speed: fast\r\n\r\n"));
    assert!(
        error.to_string().contains("X-Postrider-Speed") && error.to_string().contains("X-Postrider-Class"),
        "{error}"
    );
}

/// Lines that look like mail, joined by CRLF.
fn mail_like() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => Just(b"From: a@b.example".to_vec()),
        1 => Just(b"Bcc: hidden@x".to_vec()),
        1 => Just(b"bcc:\r\n hidden@y".to_vec()),
        1 => Just(b"X-Postrider-Campaign: c".to_vec()),
        1 => Just(b"Received: x".to_vec()),
        1 => Just(b"Message-ID: <1@x>".to_vec()),
        1 => Just(b"no field".to_vec()),
        1 => Just(b" folded".to_vec()),
        1 => Just(b"".to_vec()),
        1 => Just(b".".to_vec()),
        1 => proptest::collection::vec(prop_oneof![1u8..=9, 11u8..=12, 14u8..=255], 0..12),
    ];
    proptest::collection::vec(line, 0..10).prop_map(|lines| lines.join(b"\r\n".as_slice()))
}

fn names(section: &[u8]) -> Vec<Vec<u8>> {
    fields(section).map(|f| f.name().to_ascii_lowercase()).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(data) = MailData::new(Bytes::from([b"From: a@b.example\r\n", bytes.as_slice()].concat())) {
            let _ = prepare(data, &trace());
        }
    }

    #[test]
    fn only_what_must_go_goes(mail in mail_like()) {
        let original = data(mail);
        let Ok(mail) = prepare(original.clone(), &trace()) else { return Ok(()) };
        let before = fields(original.bytes()).section_bytes();
        let after = fields(mail.data.bytes()).section_bytes();
        prop_assert_eq!(after, mail.header_bytes as usize, "a second look must see the same header section");
        prop_assert_eq!(&original.bytes()[before..], body(&mail.data, mail.header_bytes));
        prop_assert_eq!(mail.body_hash, BodyHash::of(&original.bytes()[before..]));
        let hidden: [&[u8]; 3] = [b"bcc", b"resent-bcc", b"x-postrider-campaign"];
        let kept: Vec<Vec<u8>> = fields(original.bytes())
            .filter(|f| !hidden.contains(&f.name().to_ascii_lowercase().as_slice()))
            .map(|f| f.raw().to_vec())
            .collect();
        let section = header_section(&mail.data, mail.header_bytes);
        let all: Vec<Vec<u8>> = fields(section).map(|f| f.raw().to_vec()).collect();
        prop_assert!(all.ends_with(&kept));
        prop_assert!(names(section).iter().all(|n| !hidden.contains(&n.as_slice())));
    }
}

#[test]
fn what_the_sender_wants_of_tls_is_known() {
    let wish = |fields: &str, asked| prepared(&format!("{fields}{FROM}\r\n")).tls_wish(asked);
    assert_eq!((wish("", false), wish("", true)), (TlsWish::None, TlsWish::Required));
    assert_eq!(wish("tls-required:\r\n NO \r\n", false), TlsWish::NotRequired);
    // REQUIRETLS counts more (RFC 8689 section 4.1), and so does whoever asks for it in a field of ours.
    assert_eq!(wish("TLS-Required: No\r\n", true), TlsWish::Required);
    assert_eq!(wish("TLS-Required: No\r\nX-Postrider-Require-TLS: yes\r\n", false), TlsWish::Required);
    assert_eq!(wish("X-Postrider-Require-TLS: no\r\n", false), TlsWish::None);
    for void in ["TLS-Required: Yes\r\n", "TLS-Required: \r\n", "TLS-Required: No\r\nTLS-Required: No\r\n"] {
        assert_eq!(wish(void, false), TlsWish::None, "{void}");
    }
    let kept = prepared(&format!("TLS-Required: No\r\n{FROM}\r\n"));
    assert!(below_trace(&kept).contains("TLS-Required: No\r\n"), "the hosts behind ours are to read it too");
}
