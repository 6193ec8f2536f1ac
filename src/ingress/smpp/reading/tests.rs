//! What a `submit_sm` says, and what is refused of it by which status.

use proptest::prelude::*;

use super::*;
use crate::ingress::bound::{Line, words};
use crate::storage::joining::{self, Part as _};
use crate::wire::smpp::{COctets, Tlv};

/// 2026-11-23T06:24:00Z.
const NOW: Timestamp = Timestamp::from_seconds(1_795_415_040);

fn address(ton: u8, written: &str) -> Address {
    Address { ton, npi: 1, address: COctets::new("address", written).unwrap() }
}

fn message() -> ShortMessage {
    ShortMessage {
        source: address(0, "10690001"),
        destination: address(1, "8613800138000"),
        short_message: "hello".into(),
        ..ShortMessage::default()
    }
}

fn read(message: &ShortMessage) -> Result<Part, Rejected> {
    super::read(message, &"shop".into(), Class::Transactional, &Options::default(), NOW)
}

fn status(message: &ShortMessage) -> u32 {
    status_of(read(message).unwrap_err().ground).0
}

fn tlv(tag: u16, value: &'static [u8]) -> Tlv {
    Tlv::new(tag, value)
}

#[test]
fn a_plain_submission() {
    let part = read(&message()).unwrap();
    assert_eq!((part.to.as_str(), part.from.clone()), ("+8613800138000", Some(SenderId::parse("10690001").unwrap())));
    assert_eq!(words(std::slice::from_ref(&part)).unwrap(), "hello");
    assert_eq!((part.class, part.place, part.wish.any()), (Class::Transactional, None, false));
    let named = ShortMessage { source: address(5, "Shop"), ..message() };
    assert_eq!(read(&named).unwrap().from, Some(SenderId::Name("Shop".into())));
    let full = ShortMessage { source: address(1, "4479460000"), ..message() };
    assert!(matches!(read(&full).unwrap().from, Some(SenderId::International(_))));
    assert_eq!(read(&ShortMessage { source: address(0, ""), ..message() }).unwrap().from, None);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (message, expected) in [
        (ShortMessage { destination: address(2, "13800138000"), ..message() }, 0x0B),
        (ShortMessage { destination: address(1, "12x"), ..message() }, 0x0B),
        (ShortMessage { destination: address(1, "0"), ..message() }, 0x0B),
        (ShortMessage { source: address(5, "longer than eleven"), ..message() }, 0x0A),
        (ShortMessage { source: address(5, "+8613800138000"), ..message() }, 0x0A),
        (ShortMessage { service_type: COctets::new("s", "USSD").unwrap(), ..message() }, 0x15),
        (ShortMessage { esm_class: 0x04, ..message() }, 0x43),
        (ShortMessage { esm_class: 0x01, ..message() }, 0x43),
        (ShortMessage { protocol_id: 0x40, ..message() }, 0x45),
        (ShortMessage { replace_if_present: 1, ..message() }, 0x54),
        (ShortMessage { sm_default_msg_id: 1, ..message() }, 0x63),
        (ShortMessage { data_coding: 4, ..message() }, 0x45),
        (ShortMessage { data_coding: 0xF5, ..message() }, 0x45),
        (ShortMessage { short_message: Bytes::new(), ..message() }, 0x01),
        (ShortMessage { tlvs: vec![tlv(tlv::MESSAGE_PAYLOAD, b"x")], ..message() }, 0xC1),
        // Ports, and a header that is none.
        (ShortMessage { esm_class: 0x40, short_message: (&[6, 5, 4, 1, 2, 3, 4, b'x'][..]).into(), ..message() }, 0x43),
        (ShortMessage { esm_class: 0x40, short_message: (&[9, 0][..]).into(), ..message() }, 0x43),
        (ShortMessage { tlvs: vec![tlv(tlv::SAR_TOTAL_SEGMENTS, &[2])], ..message() }, 0xC3),
        (ShortMessage { tlvs: sar(&[0, 1], &[2], &[3]), ..message() }, 0xC4),
        (ShortMessage { tlvs: sar(&[1], &[2], &[1]), ..message() }, 0xC4),
    ] {
        assert_eq!(status(&message), expected, "{message:?} {:?}", read(&message));
    }
}

fn sar(reference: &'static [u8], total: &'static [u8], number: &'static [u8]) -> Vec<Tlv> {
    vec![
        tlv(tlv::SAR_MSG_REF_NUM, reference),
        tlv(tlv::SAR_TOTAL_SEGMENTS, total),
        tlv(tlv::SAR_SEGMENT_SEQNUM, number),
    ]
}

#[test]
fn a_service_type_names_a_class_by_its_beginning() {
    let class = |word: &str| {
        let service_type = COctets::new("service_type", word).unwrap();
        read(&ShortMessage { service_type, ..message() }).map(|part| part.class).ok()
    };
    assert_eq!([class("otp"), class("TRANS"), class("marke")], Class::ALL.map(Some));
    assert_eq!([class("CMT"), class("tr"), class("otpx")], [Some(Class::Transactional), None, None]);
}

#[test]
fn alphabets_and_places() {
    let said = |data_coding, octets: &'static [u8]| {
        let part = read(&ShortMessage { data_coding, short_message: octets.into(), ..message() }).unwrap();
        words(&[part]).map_err(|rejected| status_of(rejected.ground).0)
    };
    assert_eq!(said(0, b"\x00 5\x1b\x65"), Ok("@ 5€".to_owned()));
    assert_eq!(said(1, b"@"), Ok("@".to_owned()));
    assert_eq!(said(3, b"\xe9"), Ok("é".to_owned()));
    assert_eq!(said(8, b"\x4e\x2d"), Ok("中".to_owned()));
    assert_eq!([said(1, b"\xe9"), said(8, b"\x4e"), said(0, b"\x80")], [Err(0x45), Err(0x45), Err(0x45)]);
    let place = |message: ShortMessage| read(&message).unwrap().place;
    let expected = Some(Concatenation { reference: 0x102, total: 3, number: 2 });
    let header = &[6, 8, 4, 1, 2, 3, 2, b'x'][..];
    assert_eq!(place(ShortMessage { esm_class: 0x40, short_message: header.into(), ..message() }), expected);
    assert_eq!(place(ShortMessage { tlvs: sar(&[1, 2], &[3], &[2]), ..message() }), expected);
    assert_eq!(place(ShortMessage { tlvs: sar(&[1, 2], &[1], &[1]), ..message() }), None, "one of one");
    let payload =
        ShortMessage { short_message: Bytes::new(), tlvs: vec![tlv(tlv::MESSAGE_PAYLOAD, b"long")], ..message() };
    assert_eq!(&read(&payload).unwrap().octets[..], b"long");
}

#[test]
fn times_are_absolute_or_relative_and_have_bounds() {
    let with = |schedule: &str, validity: &str| {
        let written = |text: &str| COctets::new("time", text).unwrap();
        let (schedule_delivery_time, validity_period) = (written(schedule), written(validity));
        read(&ShortMessage { schedule_delivery_time, validity_period, ..message() })
            .map(|part| (part.send_at, part.expires_at))
            .map_err(|rejected| status_of(rejected.ground).0)
    };
    let at = |text: &str| Timestamp::parse_rfc3339(text);
    // 14:30 of Beijing is 06:30 of UTC.
    assert_eq!(with("", "261123143000032+"), Ok((None, at("2026-11-23T06:30:00Z"))));
    assert_eq!(
        with("000000010000000R", "000000020000000R"),
        Ok((at("2026-11-23T07:24:00Z"), at("2026-11-23T08:24:00Z")))
    );
    assert_eq!(with("261122000000000+", ""), Ok((None, None)), "the past is now");
    assert_eq!(with("000200000000000R", ""), Err(0x61));
    assert_eq!(with("", "000300000000000R"), Err(0x62));
    assert_eq!(with("", "261123062400000+"), Err(0x62), "it is over");
    assert_eq!(with("000000020000000R", "000000010000000R"), Err(0x62));
    for bad in ["2611231430000", "26112314300003x+", "261123143000032?", "261323143000032+", "261123143000099+"] {
        assert_eq!(with(bad, ""), Err(0x61), "{bad}");
    }
}

#[test]
fn a_time_to_live_ends_validity_where_nothing_else_does() {
    let with = |seconds: &'static [u8], validity: &str| {
        let validity_period = COctets::new("time", validity).unwrap();
        let message = ShortMessage { tlvs: vec![tlv(tlv::QOS_TIME_TO_LIVE, seconds)], validity_period, ..message() };
        read(&message).map(|part| part.expires_at).map_err(|rejected| status_of(rejected.ground).0)
    };
    assert_eq!(with(&[0, 0, 0x0E, 0x10], ""), Ok(Timestamp::parse_rfc3339("2026-11-23T07:24:00Z")));
    let two_hours = Timestamp::parse_rfc3339("2026-11-23T08:24:00Z");
    assert_eq!(with(&[0, 0, 0x0E, 0x10], "000000020000000R"), Ok(two_hours), "the field itself counts");
    assert_eq!([with(&[0; 4], ""), with(&[0xFF; 4], "")], [Err(0x62); 2], "over at once, or too far ahead");
    assert_eq!(with(&[0, 1], ""), Err(0xC4));
}

#[test]
fn a_part_reads_back_from_the_journal() {
    let long = ShortMessage {
        tlvs: sar(&[1, 2], &[3], &[2]),
        registered_delivery: 1,
        validity_period: COctets::new("v", "000000020000000R").unwrap(),
        ..message()
    };
    let part = read(&long).unwrap();
    let line: Line = serde_json::from_str(&serde_json::to_string(&part.line()).unwrap()).unwrap();
    assert_eq!(<Part as joining::Part>::read(part.who(), part.place.unwrap(), line), Some(part));
}

proptest! {
    #[test]
    fn no_octets_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..80),
        (esm_class, data_coding, ton) in any::<(u8, u8, u8)>(),
        written in "[ -~]{0,20}",
        time in "[0-9]{0,16}[R+-]?",
    ) {
        let time = COctets::new("t", &time).unwrap_or_default();
        let message = ShortMessage {
            source: address(ton, &written),
            destination: address(ton, &written),
            esm_class: esm_class & 0x43,
            data_coding,
            schedule_delivery_time: time.clone(),
            validity_period: time,
            short_message: octets.into(),
            ..ShortMessage::default()
        };
        if let Ok(part) = read(&message) {
            let _ = words(&[part]);
        }
    }
}
