//! What the engine's words become in SGIP, and the other way round.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::Text;
use super::*;
use crate::model::{MessageId, Number, Scope, SenderId};
use crate::sms::Alphabet;
use crate::wire::Meaning;

const SUBMITTED: Sequence = Sequence { node: 3_010_012_345, time: 1_124_022_407, counter: 7 };

fn part(content: &str, from: Option<&str>, index: usize) -> Part {
    let at = Timestamp::parse_rfc3339("2026-11-23T18:24:07Z").unwrap();
    let words = SmsText::new(content).unwrap();
    let text = Text {
        id: MessageId::new(at),
        cut: cut(&words, 9, false),
        words,
        from: from.map(|from| SenderId::parse(from).unwrap()),
        to: Number::parse("+8613000138000").unwrap(),
        template: None,
        expires_at: Some(at.plus(Duration::from_secs(300))),
    };
    Part { text: Arc::new(text), index, at }
}

fn head() -> Submit {
    let account = Sgip { corp_id: "12345".to_owned(), service_type: "SVC".to_owned(), ..Sgip::default() };
    account.head(Some(&SenderId::parse("10690001").unwrap())).unwrap()
}

#[test]
fn a_part_says_what_it_is() {
    let second = message(&head(), &part(&"好".repeat(71), None, 1));
    assert_eq!((second.tp_udhi, second.message_coding, &second.content[..6]), (1, 8, &[5, 0, 3, 9, 2, 2][..]));
    assert_eq!((second.report_flag, second.mo_relate_to_mt_flag, second.fee_type), (1, 2, 1));
    let shown = |field: &dyn std::fmt::Display| field.to_string();
    assert_eq!(shown(&second.expire_time), "261124022907032+", "China's time");
    assert_eq!(shown(&second.charge_number), "0".repeat(21), "we pay");
    let ours = [shown(&second.corp_id), shown(&second.service_type), shown(&second.sp_number)];
    assert_eq!(ours, ["12345", "SVC", "10690001"]);
    assert_eq!((second.user_numbers.len(), shown(&second.user_numbers[0])), (1, "8613000138000".into()));

    let whole = message(&head(), &part("hello", Some("1069000188"), 0));
    assert_eq!((whole.tp_udhi, whole.message_coding, &whole.content[..]), (0, 0, &b"hello"[..]));
    assert_eq!(shown(&whole.sp_number), "1069000188");
    assert_eq!(shown(&message(&head(), &part("hello", Some("Shop"), 0)).sp_number), "10690001", "no names");
}

#[test]
fn results_are_put_into_the_engines_words() {
    let verdict = Verdict::from(SgipResult::BUSY);
    assert_eq!((verdict.meaning, verdict.code), (Meaning::Throttled, 11));
    assert_eq!((verdict.enhanced.to_string().as_str(), verdict.words.as_str()), ("4.4.5", "result 11 (busy)"));
    assert_eq!(Verdict::from(SgipResult(6)).meaning, Meaning::Final(Scope::Recipient));
    assert_eq!(Verdict::from(SgipResult(5)).meaning, Meaning::Account, "our layout is no text's fault");
}

#[test]
fn reports_are_read_with_their_reason() {
    let report = |state, error_code| Report { submit_sequence: SUBMITTED, state, error_code, ..Report::default() };
    for (state, error_code, outcome, words) in [
        (0, 0, ReceiptState::Delivered, "state:0 err:000"),
        (1, 0, ReceiptState::Underway, "state:1 err:000"),
        (2, 21, ReceiptState::Undeliverable, "state:2 err:021 (unreachable)"),
        (2, 29, ReceiptState::Undeliverable, "state:2 err:029 (unknown user)"),
        (2, 255, ReceiptState::Undeliverable, "state:2 err:255"),
        (3, 21, ReceiptState::Unknown, "state:3 err:021 (unreachable)"),
    ] {
        let (id, words) = ("301001234511240224070000000007".to_owned(), words.to_owned());
        assert_eq!(brought(&report(state, error_code)), Brought::Receipt { id, state: outcome, words });
    }
}

#[test]
fn a_reply_of_a_handset_is_read() {
    let deliver = Deliver {
        user_number: Octets::new("UserNumber", "8613000138000").unwrap(),
        sp_number: Octets::new("SPNumber", "10690001").unwrap(),
        tp_udhi: 1,
        message_coding: 8,
        content: Bytes::from_static(&[5, 0, 3, 7, 2, 1, 0x90, 0x00]),
        ..Deliver::default()
    };
    let message = from_handset(&deliver).message(&"sgip".into(), Timestamp(1));
    assert_eq!((&*message.from, &*message.to, message.alphabet), ("+8613000138000", "10690001", Alphabet::Ucs2));
    let place = message.place.map(|p| (p.reference, p.total, p.number));
    assert_eq!((place, &message.octets[..]), (Some((7, 2, 1)), &[0x90, 0x00][..]));
}

proptest! {
    #[test]
    fn nothing_of_a_request_is_lost_in_the_engines_hands(node: u32, time: u32, counter: u32, is_report: bool) {
        let (sequence, kind) = (Sequence { node, time, counter }, if is_report { Kind::Report } else { Kind::Deliver });
        prop_assert_eq!(from_id(id_of(sequence, kind)), (sequence, kind));
    }
}
