//! What the engine's words become in CMPP, and the other way round.

use std::sync::Arc;
use std::time::Duration;

use super::super::Text;
use super::*;
use crate::model::{MessageId, Number, Scope, SenderId};
use crate::sms::Alphabet;
use crate::wire::Meaning;

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
    let account = Cmpp { service_id: "SVC".to_owned(), ..Cmpp::default() };
    account.head("900001", Some(&SenderId::parse("10690001").unwrap())).unwrap()
}

#[test]
fn a_part_says_what_it_is() {
    let second = message(&head(), &part(&"好".repeat(71), None, 1));
    assert_eq!((second.pk_total, second.pk_number, second.tp_udhi, second.msg_fmt), (2, 2, 1, 8));
    assert_eq!(second.content[..6], [5, 0, 3, 9, 2, 2]);
    assert_eq!((second.registered_delivery, second.fee_user_type), (1, 2));
    let shown = |field: &dyn std::fmt::Display| field.to_string();
    assert_eq!(shown(&second.valid_time), "261124022907032+", "China's time");
    assert_eq!((shown(&second.msg_src), shown(&second.service_id)), ("900001".into(), "SVC".into()));
    assert_eq!(shown(&second.destinations[0]), "8613800138000");
    assert_eq!((second.destinations.len(), second.link_id.is_empty()), (1, true));
}

#[test]
fn a_name_gives_way_to_the_accounts_number() {
    for (from, src_id) in [
        (None, "10690001"),
        (Some("Shop"), "10690001"),
        (Some("1069000188"), "1069000188"),
        (Some("+4915112345678"), "4915112345678"),
    ] {
        assert_eq!(message(&head(), &part("hello", from, 0)).src_id.to_string(), src_id, "{from:?}");
    }
}

#[test]
fn results_are_put_into_the_engines_words() {
    let verdict = Verdict::from(SubmitResult::FLOW_CONTROL);
    assert_eq!((verdict.meaning, verdict.code), (Meaning::Throttled, 8));
    assert_eq!((verdict.enhanced.to_string().as_str(), verdict.words.as_str()), ("4.4.5", "result 8 (flow control)"));
    assert_eq!(Verdict::from(SubmitResult(13)).meaning, Meaning::Final(Scope::Recipient));
    assert_eq!(Verdict::from(SubmitResult(7)).meaning, Meaning::Account);
    assert_eq!(id_of(SubmitResult::OK, MsgId(u64::MAX)), "18446744073709551615");
    assert_eq!((id_of(SubmitResult::OK, MsgId(0)), id_of(SubmitResult(8), MsgId(7))), (String::new(), String::new()));
}

#[test]
fn reports_are_read_whatever_their_version() {
    use crate::wire::cmpp::Version;
    let id = MsgId(0xBB53_A681_E240_0001);
    for version in [Version::V2, Version::V3] {
        for (stat, state) in [
            ("DELIVRD", ReceiptState::Delivered),
            ("ACCEPTD", ReceiptState::Underway),
            ("EXPIRED", ReceiptState::Expired),
            ("UNDELIV", ReceiptState::Undeliverable),
            ("DELETED", ReceiptState::Undeliverable),
            ("REJECTD", ReceiptState::Rejected),
            ("UNKNOWN", ReceiptState::Unknown),
            ("MA:0001", ReceiptState::Unknown),
            ("MB:0012", ReceiptState::Undeliverable),
            ("IC:0151", ReceiptState::Unknown),
            ("MK:0000", ReceiptState::Unknown),
        ] {
            let report = Report { msg_id: id, stat: Octets::new("Stat", stat).unwrap(), ..Report::default() };
            let deliver = Deliver { registered_delivery: 1, content: report.write(version), ..Deliver::default() };
            let words = format!("stat:{stat}");
            assert_eq!(brought(&deliver), Brought::Receipt { id: "13498315584936345601".to_owned(), state, words });
        }
    }
    let short = Deliver { registered_delivery: 1, content: vec![0; 59].into(), ..Deliver::default() };
    assert_eq!(brought(&short), Brought::Unreadable);
}

#[test]
fn a_handsets_message_is_read_in_each_alphabet() {
    use crate::sms::Concatenation;
    let read = |from: &str, msg_fmt, tp_udhi, content: &'static [u8]| {
        let deliver = Deliver {
            src_terminal_id: Octets::new("Src_terminal_Id", from).unwrap(),
            dest_id: Octets::new("Dest_Id", "1069000188").unwrap(),
            msg_fmt,
            tp_udhi,
            content: content.into(),
            ..Deliver::default()
        };
        match brought(&deliver) {
            Brought::Handset(read) => read,
            other => panic!("{other:?}"),
        }
    };
    for (from, expected) in [
        ("13800138000", "+8613800138000"),
        ("8613800138000", "+8613800138000"),
        ("+8613800138000", "+8613800138000"),
        ("10086", "10086"),
        ("pseudonym0000001", "pseudonym0000001"),
    ] {
        let read = read(from, 0, 0, b"TD");
        assert_eq!((read.from.as_str(), read.to.as_str()), (expected, "1069000188"));
        assert_eq!((read.alphabet, read.place, &read.octets[..]), (Alphabet::Ascii, None, &b"TD"[..]));
    }
    let long = read("13800138000", 8, 1, &[6, 8, 4, 1, 2, 2, 2, 0x90, 0x00]);
    assert_eq!(long.place, Some(Concatenation { reference: 0x102, total: 2, number: 2 }));
    assert_eq!((long.alphabet, &long.octets[..]), (Alphabet::Ucs2, &[0x90, 0x00][..]));
    assert_eq!(read("13800138000", 15, 0, &[0xCD, 0xCB]).alphabet.words(&[0xCD, 0xCB, 0xB6, 0xA9]).unwrap(), "退订");
    assert_eq!(read("13800138000", 4, 0, b"x").alphabet, Alphabet::Other(4));
}
