//! Tests of [`report`](super::report), read back by an independent parser.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

use super::*;
use crate::mail::header::body;
use crate::model::{Address, Class, Notify, Origin, OriginalRecipient, TlsWish};

const MAIL: &str =
    "Received: from x\r\nFrom: a@shop.example\r\nSubject: Order 7\r\n\r\nYour order\r\n.\r\n--=_report\r\n";

fn envelope(reverse_path: &str, recipients: Vec<Recipient>, ret: Option<Ret>) -> Envelope {
    let reverse_path = match reverse_path {
        "" => ReversePath::Null,
        path => ReversePath::Mailbox(Mailbox::parse(path).unwrap()),
    };
    Envelope {
        id: MessageId::from_bytes([1; 16]),
        client: "shop".into(),
        class: Class::Transactional,
        campaign: None,
        tags: vec![],
        client_ref: None,
        received_at: Timestamp::from_seconds(1_795_415_040),
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin: Origin::Mail(MailOrigin {
            reverse_path,
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret,
            envid: Some("env+2B1".into()),
            tls: TlsWish::None,
            body_hash: [0; 32],
            header_bytes: u32::try_from(fields(MAIL.as_bytes()).section_bytes()).unwrap(),
        }),
        recipients,
    }
}

fn to(address: &str) -> Recipient {
    Recipient::new(Address::Mailbox(Mailbox::parse(address).unwrap()))
}

fn failed(recipient: RecipientIndex, text: &str) -> Status {
    Status {
        recipient,
        action: Action::Failed,
        status: EnhancedStatus::new(5, 1, 1),
        reply: Some(Reply { code: 550, enhanced: Some(EnhancedStatus::new(5, 1, 1)), text: text.to_owned() }),
        cause: None,
        remote: Some("mx.example.net".to_owned()),
        last_attempt: Some(Timestamp::from_seconds(1_795_415_100)),
        will_retry_until: None,
    }
}

fn written(envelope: &Envelope, mail: &[u8], recipients: &[Status]) -> Option<Notification> {
    let data = MailData::new(Bytes::copy_from_slice(mail)).unwrap();
    report(&Report {
        reporting_mta: "relay.example.com",
        envelope,
        data: &data,
        recipients,
        id: MessageId::from_bytes([2; 16]),
        now: Timestamp::from_seconds(1_795_415_200),
        returned_bytes_max: RETURNED_BYTES_MAX,
    })
}

fn text(notification: &Notification) -> String {
    String::from_utf8_lossy(notification.data.bytes()).into_owned()
}

/// The three parts' content types and contents, as an independent parser sees them.
fn parts(notification: &Notification) -> Vec<(String, String)> {
    let message = MessageParser::new().parse(notification.data.bytes()).unwrap();
    let root = message.content_type().unwrap();
    assert_eq!((root.ctype(), root.subtype()), ("multipart", Some("report")));
    assert_eq!(root.attribute("report-type"), Some("delivery-status"));
    let PartType::Multipart(children) = &message.parts[0].body else { panic!("no multipart") };
    children
        .iter()
        .map(|id| {
            let part = &message.parts[*id as usize];
            let kind = part.content_type().unwrap();
            let raw = &notification.data.bytes()[part.offset_body as usize..part.offset_end as usize];
            (format!("{}/{}", kind.ctype(), kind.subtype().unwrap()), String::from_utf8_lossy(raw).into_owned())
        })
        .collect()
}

#[test]
fn a_failure_is_reported_with_all_its_fields() {
    let mut recipient = to("someone@example.net");
    recipient.original = Some(OriginalRecipient { kind: "rfc822".into(), xtext: "some+2Bone@example.org".into() });
    let envelope = envelope("news@shop.example", vec![to("fine@example.net"), recipient], None);
    let notification = written(&envelope, MAIL.as_bytes(), &[failed(1, "no such user\nsee the manual")]).unwrap();
    assert_eq!(notification.to.to_string(), "news@shop.example");
    assert_eq!(notification.origin.reverse_path, ReversePath::Null);
    assert_eq!(notification.origin.body, BodyKind::SevenBit);
    let content = body(&notification.data, notification.origin.header_bytes);
    assert_eq!(notification.origin.body_hash, BodyHash::of(content));
    assert!(content.starts_with(b"--=_report_"));
    let message = MessageParser::new().parse(notification.data.bytes()).unwrap();
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("MAILER-DAEMON@relay.example.com"));
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("news@shop.example"));
    assert_eq!(message.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    let parts = parts(&notification);
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0].0, "text/plain");
    let said =
        "<someone@example.net> failed: host mx.example.net said: 550 5.1.1 no such\r\n    user / see the manual\r\n";
    assert!(parts[0].1.contains(said), "{}", parts[0].1);
    assert_eq!(
        parts[1],
        (
            "message/delivery-status".to_owned(),
            "Reporting-MTA: dns; relay.example.com\r\n\
             Original-Envelope-Id: env+1\r\n\
             Arrival-Date: Mon, 23 Nov 2026 06:24:00 +0000\r\n\
             \r\n\
             Original-Recipient: rfc822;some+one@example.org\r\n\
             Final-Recipient: rfc822;someone@example.net\r\n\
             Action: failed\r\n\
             Status: 5.1.1\r\n\
             Remote-MTA: dns; mx.example.net\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 no such user / see the manual\r\n\
             Last-Attempt-Date: Mon, 23 Nov 2026 06:25:00 +0000\r\n"
                .to_owned()
        )
    );
    assert_eq!(parts[2].0, "text/rfc822-headers");
    assert_eq!(parts[2].1, "Received: from x\r\nFrom: a@shop.example\r\nSubject: Order 7\r\n");
}

#[test]
fn ret_full_returns_the_mail_up_to_a_bound_and_for_failures_only() {
    let full = envelope("news@shop.example", vec![to("a@example.net")], Some(Ret::Full));
    let returned = parts(&written(&full, MAIL.as_bytes(), &[failed(0, "no")]).unwrap()).remove(2);
    assert_eq!(returned, ("message/rfc822".to_owned(), MAIL.to_owned()));
    let mut delayed = failed(0, "later");
    delayed.action = Action::Delayed;
    delayed.will_retry_until = Some(Timestamp::from_seconds(1_795_500_000));
    let delay = parts(&written(&full, MAIL.as_bytes(), &[delayed]).unwrap());
    assert_eq!(delay[2].0, "text/rfc822-headers");
    assert!(
        delay[1].1.contains("Action: delayed\r\n") && delay[1].1.contains("Will-Retry-Until: Tue, 24 Nov 2026 "),
        "{}",
        delay[1].1
    );
    let large = format!("{MAIL}{}", "x\r\n".repeat(RETURNED_BYTES_MAX / 3));
    let returned = parts(&written(&full, large.as_bytes(), &[failed(0, "no")]).unwrap()).remove(2);
    assert_eq!(returned.0, "text/rfc822-headers");
}

#[test]
fn what_demanded_tls_is_not_returned_and_its_notification_demands_it_too() {
    let mut confidential = envelope("news@shop.example", vec![to("a@example.net")], Some(Ret::Full));
    let Origin::Mail(origin) = &mut confidential.origin else { unreachable!() };
    origin.tls = TlsWish::Required;
    let notification = written(&confidential, MAIL.as_bytes(), &[failed(0, "no")]).unwrap();
    assert_eq!(notification.origin.tls, TlsWish::Required);
    assert_eq!(parts(&notification)[2].0, "text/rfc822-headers");
}

#[test]
fn a_huge_header_section_is_cut_at_a_field() {
    let header = format!("From: a@shop.example\r\n{}", "X-Filler: 1234567890\r\n".repeat(10_000));
    let mut envelope = envelope("news@shop.example", vec![to("a@example.net")], None);
    let Origin::Mail(mail) = &mut envelope.origin else { unreachable!() };
    mail.header_bytes = u32::try_from(header.len()).unwrap();
    let returned = parts(&written(&envelope, header.as_bytes(), &[failed(0, "no")]).unwrap()).remove(2).1;
    assert!(returned.len() <= RETURNED_BYTES_MAX && returned.ends_with("1234567890\r\n"), "{}", returned.len());
}

#[test]
fn there_is_none_where_none_may_be() {
    assert!(written(&envelope("", vec![to("a@example.net")], None), MAIL.as_bytes(), &[failed(0, "no")]).is_none());
    assert!(written(&envelope("a@shop.example", vec![to("a@example.net")], None), MAIL.as_bytes(), &[]).is_none());
    let mut recipient = to("a@example.net");
    let heard = |r: &Recipient| [Action::Failed, Action::Delayed, Action::Relayed].map(|a| wants(r, a));
    assert_eq!(heard(&recipient), [true, false, false]);
    recipient.notify = Some(Notify::NEVER);
    assert_eq!(heard(&recipient), [false, false, false]);
    recipient.notify = Some(Notify { success: true, failure: false, delay: true });
    assert_eq!(heard(&recipient), [false, true, true]);
}

#[test]
fn what_is_not_ascii_is_declared() {
    let envelope = envelope("新闻@shop.example", vec![to("张三@example.net")], None);
    let mail = MAIL.replace("Order", "订单");
    let notification = written(&envelope, mail.as_bytes(), &[failed(0, "查无此人")]).unwrap();
    assert_eq!((notification.origin.body, notification.origin.smtputf8), (BodyKind::EightBit, true));
    let all = text(&notification);
    assert!(
        all.contains("boundary=\"=_report_") && all.contains("\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--"),
        "{all}"
    );
    let parts = parts(&notification);
    assert!(parts[0].1.contains("查无此人"), "people read the reply as it was");
    assert!(parts[1].1.contains("Final-Recipient: utf-8;\\x{5F20}\\x{4E09}@example.net\r\n"), "{}", parts[1].1);
    assert!(parts[1].1.contains("smtp; 550 5.1.1 ????"), "{}", parts[1].1);
}

proptest! {
    #[test]
    fn no_reply_can_forge_or_break_it(reply in any::<String>(), host in any::<String>(), xtext in any::<String>(),
                                      body in proptest::collection::vec(prop_oneof![Just(b' '), 14u8..=255], 0..3_000)) {
        let mut recipient = to("a@example.net");
        recipient.original = Some(OriginalRecipient { kind: "rfc822".into(), xtext: xtext.into() });
        let envelope = envelope("news@shop.example", vec![recipient], Some(Ret::Full));
        let mut status = failed(0, &format!("{reply}\r\n\r\nAction: delivered\n--=_report"));
        status.remote = Some(host);
        let mail = [MAIL.as_bytes(), &body].concat();
        let notification = written(&envelope, &mail, &[status]).unwrap();
        for line in notification.data.bytes().split(|b| *b == b'\n') {
            prop_assert!(line.len() <= 999);
        }
        let parts = parts(&notification);
        prop_assert_eq!(parts.len(), 3);
        let status: Vec<&str> = parts[1].1.lines().filter(|l| l.starts_with("Action:")).collect();
        prop_assert_eq!(status, ["Action: failed"]);
    }
}
