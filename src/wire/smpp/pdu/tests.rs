//! PDUs against their octets, and against rubbish.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::MessageId;
use crate::wire::smpp::Framer;

pub(super) struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::new(Timestamp(0))
    }
}

pub(super) fn c<const MAX: usize>(text: &str) -> COctets<MAX> {
    COctets::new("test", text).unwrap()
}

pub(super) fn encoded(pdu: &Pdu) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(&mut out);
    out
}

pub(super) fn decoded(octets: &[u8]) -> Result<Pdu, PduError> {
    let mut framer = Framer::new();
    framer.extend(octets);
    Pdu::decode(framer.next_frame().unwrap().unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    (any::<u8>(), any::<u8>(), "[0-9A-Za-z+]{0,20}").prop_map(|(ton, npi, text)| Address {
        ton,
        npi,
        address: c(&text),
    })
}

fn message() -> impl Strategy<Value = ShortMessage> {
    let octets = |most| proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    let tlvs = proptest::collection::vec((any::<u16>(), octets(20)), 0..4);
    let fixed = proptest::array::uniform7(any::<u8>());
    (address(), address(), fixed, "[ -~]{0,5}", "[0-9R+-]{0,16}", octets(255), tlvs).prop_map(
        |(source, destination, fixed, service, validity, short_message, tlvs)| ShortMessage {
            service_type: c(&service),
            source,
            destination,
            esm_class: fixed[0],
            protocol_id: fixed[1],
            priority_flag: fixed[2],
            schedule_delivery_time: c(""),
            validity_period: c(&validity),
            registered_delivery: fixed[3],
            replace_if_present: fixed[4],
            data_coding: fixed[5],
            sm_default_msg_id: fixed[6],
            short_message,
            tlvs: tlvs.into_iter().map(|(tag, value)| Tlv { tag, value }).collect(),
        },
    )
}

/// What a `data_sm` can hold of it.
pub(super) fn as_data(m: ShortMessage) -> ShortMessage {
    let ShortMessage { service_type, source, destination, esm_class, registered_delivery, data_coding, tlvs, .. } = m;
    let nothing = ShortMessage::default();
    ShortMessage { service_type, source, destination, esm_class, registered_delivery, data_coding, tlvs, ..nothing }
}

fn pdu() -> impl Strategy<Value = Pdu> {
    let bind = ("[ -~]{0,15}", "[ -~]{0,64}", any::<[u8; 3]>()).prop_map(|(id, password, [a, b, d])| Bind {
        system_id: c(&id),
        password: c(&password),
        interface_version: a,
        addr_ton: b,
        addr_npi: d,
        ..Bind::default()
    });
    let status = || any::<u32>().prop_map(CommandStatus);
    let binds = || prop_oneof![Just(1u32), Just(2), Just(9)];
    prop_oneof![
        (binds(), bind).prop_map(|(id, bind)| Pdu::bind(id, 1, bind)),
        (binds(), "[ -~]{0,15}").prop_map(|(id, name)| Pdu::bind_resp(id, 2, CommandStatus::OK, c(&name))),
        (any::<u32>(), message()).prop_map(|(sequence, m)| Pdu::submit_sm(sequence, m)),
        (any::<u32>(), message()).prop_map(|(sequence, m)| Pdu::deliver_sm(sequence, m)),
        (any::<u32>(), message()).prop_map(|(sequence, m)| Pdu::data_sm(sequence, as_data(m))),
        "[0-9a-z-]{0,64}".prop_map(|id| Pdu::data_sm_taken(3, &Taken, c(&id))),
        status().prop_map(|status| Pdu::refused(command::DATA_SM, 4, status)),
        "[0-9a-z-]{0,64}".prop_map(|id| Pdu::submit_sm_taken(3, &Taken, c(&id))),
        status().prop_map(|status| Pdu::submit_sm_refused(4, status)),
        (status(), 0u8..=100).prop_map(|(s, full)| Pdu::submit_sm_refused(4, s).with_congestion_state(full)),
        ("[0-9a-z-]{0,64}", 0u8..=100)
            .prop_map(|(id, full)| Pdu::submit_sm_taken(3, &Taken, c(&id)).with_congestion_state(full)),
        status().prop_map(|status| Pdu::deliver_sm_resp(5, status)),
        status().prop_map(|status| Pdu::generic_nack(6, status)),
        any::<u32>().prop_map(Pdu::enquire_link),
        any::<u32>().prop_map(Pdu::enquire_link_resp),
        any::<u32>().prop_map(Pdu::unbind),
        any::<u32>().prop_map(Pdu::unbind_resp),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(pdu in pdu()) {
        prop_assert_eq!(decoded(&encoded(&pdu)), Ok(pdu));
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        command in prop_oneof![
            any::<u32>(),
            prop_oneof![Just(1u32), Just(4), Just(5), Just(9), Just(0x103), Just(0x8000_0004), Just(0x8000_0009)],
        ],
        status in prop_oneof![Just(0u32), any::<u32>()],
        body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let frame = Frame { command_id: command, command_status: status, sequence: 1, body: body.into() };
        if let Ok(pdu) = Pdu::decode(frame) {
            let again = decoded(&encoded(&pdu)).unwrap();
            prop_assert_eq!(again.sequence(), 1);
        }
    }

    #[test]
    fn a_truncated_message_is_an_error(m in message(), cut in 1usize..40) {
        let full = encoded(&Pdu::submit_sm(1, ShortMessage { tlvs: vec![], ..m }));
        let body = Bytes::copy_from_slice(&full[16..full.len() - cut.min(full.len() - 16)]);
        let frame = Frame { command_id: 4, command_status: 0, sequence: 1, body };
        prop_assert!(Pdu::decode(frame).is_err());
    }
}

#[test]
fn the_octets_are_those_of_the_standard() {
    let message = ShortMessage {
        source: Address { ton: 5, npi: 0, address: c("Shop") },
        destination: Address { ton: 1, npi: 1, address: c("8613800138000") },
        registered_delivery: 1,
        short_message: Bytes::from_static(b"hi"),
        ..ShortMessage::default()
    };
    let expected =
        b"\0\0\0\x38\0\0\0\x04\0\0\0\0\0\0\0\x07\0\x05\0Shop\0\x01\x018613800138000\0\0\0\0\0\0\x01\0\0\0\x02hi";
    let octets = encoded(&Pdu::submit_sm(7, message));
    assert_eq!(octets[4..], expected[4..]);
    assert_eq!(octets[..4], u32::try_from(octets.len()).unwrap().to_be_bytes());
}

#[test]
fn long_messages_travel_as_payload() {
    let long = Bytes::from(vec![b'x'; 300]);
    let message = ShortMessage { short_message: long.clone(), ..ShortMessage::default() };
    let Body::SubmitSm(back) = decoded(&encoded(&Pdu::submit_sm(1, message))).unwrap().into_body() else { panic!() };
    assert!(back.short_message.is_empty());
    assert_eq!(back.octets(), long);
    // In a data_sm always.
    let message = ShortMessage { short_message: "hi".into(), ..ShortMessage::default() };
    let Body::DataSm(back) = decoded(&encoded(&Pdu::data_sm(1, message))).unwrap().into_body() else { panic!() };
    assert_eq!((back.short_message.len(), back.octets()), (0, &b"hi"[..]));
}

#[test]
fn answers_may_lack_what_the_standard_lets_them_lack() {
    let answer = |status, body: &'static [u8]| {
        Pdu::decode(Frame {
            command_id: 0x8000_0004,
            command_status: status,
            sequence: 1,
            body: Bytes::from_static(body),
        })
        .map(|pdu| match pdu.into_body() {
            Body::SubmitSmResp(resp) => resp.message_id.to_string(),
            other => panic!("{other:?}"),
        })
        .map_err(|e| e.fault.field)
    };
    assert_eq!(answer(0x58, b"").as_deref(), Ok(""));
    assert_eq!(answer(0x58, b"rubbish without end").as_deref(), Ok(""));
    assert_eq!(answer(0, b"").as_deref(), Ok(""));
    assert_eq!(answer(0, b"12ab\0").as_deref(), Ok("12ab"));
    assert_eq!(answer(0, b"12ab").as_deref(), Ok("12ab"), "a missing NUL at the very end");
    assert_eq!(answer(0, b"12ab\0\x04\x28\0\x01\x50").as_deref(), Ok("12ab"), "SMPP 5.0 adds optional parameters");
    assert_eq!(answer(0, &[b'1'; 80]), Err("message_id"));
}

#[test]
fn an_answer_may_say_how_full_the_carrier_is() {
    let id = || c("12ab");
    let read = |octets: &[u8]| match decoded(octets).unwrap().into_body() {
        Body::SubmitSmResp(resp) => (resp.message_id.to_string(), resp.congestion_state()),
        other => panic!("{other:?}"),
    };
    for percent in [0, 79, 80, 100] {
        let taken = Pdu::submit_sm_taken(3, &Taken, id()).with_congestion_state(percent);
        assert_eq!(read(&encoded(&taken)), ("12ab".to_owned(), Some(percent)));
        let refused = Pdu::submit_sm_refused(3, CommandStatus::THROTTLED).with_congestion_state(percent);
        assert_eq!(read(&encoded(&refused)), (String::new(), Some(percent)));
    }
    let more = Pdu::submit_sm_taken(3, &Taken, id()).with_congestion_state(101);
    assert_eq!(read(&encoded(&more)).1, None, "there is no such");
    // Parameters that are cut off make nothing of the yes.
    let mut cut = encoded(&Pdu::submit_sm_taken(3, &Taken, id()).with_congestion_state(90));
    cut.truncate(cut.len() - 1);
    cut[3] -= 1;
    assert_eq!(read(&cut), ("12ab".to_owned(), None));
}

#[test]
fn a_bind_is_answered_with_a_version() {
    let version = |pdu: Pdu| match decoded(&encoded(&pdu)).unwrap().into_body() {
        Body::BindResp(resp) => resp.version(),
        other => panic!("{other:?}"),
    };
    let resp = || Pdu::bind_resp(9, 1, CommandStatus::OK, c("centre"));
    assert_eq!((version(resp()), version(resp().with_version(Version::V50))), (Some(0x34), Some(0x50)));
    let without = raw_bind_resp(b"centre\0");
    assert!(matches!(without.into_body(), Body::BindResp(resp) if resp.version().is_none()));
}

fn raw_bind_resp(body: &'static [u8]) -> Pdu {
    let frame = Frame { command_id: 0x8000_0009, command_status: 0, sequence: 1, body: Bytes::from_static(body) };
    Pdu::decode(frame).unwrap()
}

#[test]
fn a_place_among_segments_makes_sense_or_is_none() {
    let place = |reference: &'static [u8], total: &'static [u8], number: &'static [u8]| {
        let tlvs = vec![
            Tlv::new(tlv::SAR_MSG_REF_NUM, reference),
            Tlv::new(tlv::SAR_TOTAL_SEGMENTS, total),
            Tlv::new(tlv::SAR_SEGMENT_SEQNUM, number),
        ];
        ShortMessage { tlvs, ..ShortMessage::default() }.segment()
    };
    assert_eq!(place(&[1, 2], &[3], &[3]), Some(Segment { reference: 0x102, total: 3, number: 3 }));
    for (reference, total, number) in [
        (&[1][..], &[3][..], &[3][..]),
        (&[1, 2], &[3], &[4]),
        (&[1, 2], &[3], &[0]),
        (&[1, 2], &[0], &[0]),
        (&[1, 2], &[], &[1]),
    ] {
        assert_eq!(place(reference, total, number), None, "{reference:?} {total:?} {number:?}");
    }
    assert_eq!(ShortMessage::default().segment(), None);
}

#[test]
fn a_refusal_cannot_look_like_a_yes() {
    assert_eq!(Pdu::submit_sm_refused(1, CommandStatus::OK).status(), CommandStatus::SYSTEM_ERROR);
}

#[test]
fn a_password_does_not_show() {
    let bind = Bind { system_id: c("me"), password: c("hunter2"), ..Bind::default() };
    let shown = format!("{:?}", Pdu::bind(9, 1, bind));
    assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn too_many_optional_parameters_are_refused() {
    let tlvs = |count| {
        let message = ShortMessage { tlvs: vec![Tlv::new(0x1400, &b""[..]); count], ..ShortMessage::default() };
        decoded(&encoded(&Pdu::deliver_sm(1, message)))
    };
    assert!(tlvs(64).is_ok());
    assert_eq!(tlvs(65).unwrap_err().fault.field, "optional parameters");
}
