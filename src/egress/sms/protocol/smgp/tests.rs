//! What the engine's words become in SMGP, and the other way round.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::Text;
use super::*;
use crate::model::{MessageId, Number, Scope, SenderId};
use crate::sms::Alphabet;
use crate::wire::Meaning;

const ID: MsgId = MsgId(*b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45");

fn part(content: &str, from: Option<&str>, index: usize) -> Part {
    let at = Timestamp::parse_rfc3339("2026-11-23T18:24:07Z").unwrap();
    let words = SmsText::new(content).unwrap();
    let text = Text {
        id: MessageId::new(at),
        cut: cut(&words, 9, false),
        words,
        from: from.map(|from| SenderId::parse(from).unwrap()),
        to: Number::parse("+8613800138000").unwrap(),
        template: None,
        expires_at: Some(at.plus(Duration::from_secs(300))),
    };
    Part { text: Arc::new(text), index, at }
}

fn head() -> Submit {
    let account = Smgp { service_id: "SVC".to_owned(), ..Smgp::default() };
    account.head(Some(&SenderId::parse("10690001").unwrap())).unwrap()
}

#[test]
fn a_part_says_what_it_is() {
    let second = message(&head(), &part(&"好".repeat(71), None, 1));
    assert_eq!(second.parts, Parts { tp_udhi: 1, pk_total: 2, pk_number: 2 });
    assert_eq!((second.msg_format, &second.content[..6]), (8, &[5, 0, 3, 9, 2, 2][..]));
    assert_eq!((second.msg_type, second.need_report, second.priority), (6, 1, 0));
    let shown = |field: &dyn std::fmt::Display| field.to_string();
    assert_eq!(shown(&second.valid_time), "261124022907032+", "China's time");
    assert_eq!((shown(&second.service_id), shown(&second.src_term_id)), ("SVC".into(), "10690001".into()));
    let fees = [shown(&second.fee_type), shown(&second.fee_code), shown(&second.fixed_fee)];
    assert_eq!(fees, ["00", "0", "0"], "free");
    assert_eq!((second.destinations.len(), shown(&second.destinations[0])), (1, "8613800138000".into()));

    let whole = message(&head(), &part("hello", Some("1069000188"), 0));
    assert_eq!((whole.parts, whole.msg_format, &whole.content[..]), (Parts::default(), 0, &b"hello"[..]));
    assert_eq!(shown(&whole.src_term_id), "1069000188");
    assert_eq!(shown(&message(&head(), &part("hello", Some("Shop"), 0)).src_term_id), "10690001", "no names");
}

#[test]
fn statuses_are_put_into_the_engines_words() {
    let verdict = Verdict::from(Status::BUSY);
    assert_eq!((verdict.meaning, verdict.code), (Meaning::Throttled, 1));
    assert_eq!((verdict.enhanced.to_string().as_str(), verdict.words.as_str()), ("4.4.5", "status 1 (busy)"));
    assert_eq!(Verdict::from(Status(47)).meaning, Meaning::Final(Scope::Recipient));
    assert_eq!(Verdict::from(Status(74)).meaning, Meaning::Temporary);
    assert_eq!(id_of(Status::OK, ID), "01006101161700012345");
    assert_eq!((id_of(Status::OK, MsgId::default()), id_of(Status::BUSY, ID)), (String::new(), String::new()));
}

#[test]
fn reports_are_read_with_their_reason() {
    let o = |text| Octets::new("test", text).unwrap();
    for (stat, err, state, words) in [
        ("DELIVRD", "000", ReceiptState::Delivered, "stat:DELIVRD err:000"),
        ("ACCEPTD", "000", ReceiptState::Underway, "stat:ACCEPTD err:000"),
        ("EXPIRED", "001", ReceiptState::Expired, "stat:EXPIRED err:001 (unreachable)"),
        ("UNDELIV", "005", ReceiptState::Undeliverable, "stat:UNDELIV err:005 (blacklisted)"),
        ("REJECTD", "612", ReceiptState::Rejected, "stat:REJECTD err:612"),
        ("WHATEVR", "999", ReceiptState::Unknown, "stat:WHATEVR err:999 (unknown)"),
    ] {
        let report = Report { msg_id: ID, stat: o(stat), err: Octets::new("err", err).unwrap(), ..Report::default() };
        let deliver = Deliver { is_report: 1, content: report.write(), ..Deliver::default() };
        let (id, words) = ("01006101161700012345".to_owned(), words.to_owned());
        assert_eq!(brought(&deliver), Brought::Receipt { id, state, words });
    }
    let reply = Deliver {
        msg_format: 8,
        src_term_id: Octets::new("SrcTermID", "8613800138000").unwrap(),
        dest_term_id: Octets::new("DestTermID", "10690001").unwrap(),
        content: Bytes::from_static(&[5, 0, 3, 7, 2, 1, 0x90, 0x00]),
        parts: Parts { tp_udhi: 1, ..Parts::default() },
        ..Deliver::default()
    };
    let Brought::Handset(read) = brought(&reply) else { panic!("{reply:?}") };
    let message = read.message(&"smgp".into(), Timestamp(1));
    assert_eq!((&*message.from, &*message.to, message.alphabet), ("+8613800138000", "10690001", Alphabet::Ucs2));
    assert_eq!(
        (message.place.map(|p| (p.reference, p.total, p.number)), &message.octets[..]),
        (Some((7, 2, 1)), &[0x90, 0x00][..])
    );
    let short = Deliver { is_report: 1, content: vec![0; 121].into(), ..Deliver::default() };
    assert_eq!(brought(&short), Brought::Unreadable);
}

proptest! {
    #[test]
    fn no_octet_of_an_id_is_lost_in_the_engines_hands(id: [u8; 10]) {
        prop_assert_eq!(id_from(number_of(MsgId(id))), MsgId(id));
    }
}
