//! PDUs against their octets, and against rubbish.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::MessageId;
use crate::wire::cmpp::{Framer, auth};

struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::new(Timestamp(0))
    }
}

const VERSIONS: [Version; 2] = [Version::V2, Version::V3];

fn o<const WIDTH: usize>(text: &str) -> Octets<WIDTH> {
    Octets::new("test", text).unwrap()
}

fn encoded(pdu: &Pdu, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(version, &mut out);
    out
}

fn decoded(octets: &[u8], version: Version) -> Result<Pdu, PduError> {
    let mut framer = Framer::new();
    framer.extend(octets);
    Pdu::decode(framer.next_frame().unwrap().unwrap(), version)
}

fn submit(version: Version) -> impl Strategy<Value = Submit> {
    let fixed = proptest::array::uniform9(any::<u8>());
    let number = match version {
        Version::V2 => "[0-9+]{0,21}",
        Version::V3 => "[0-9+]{0,32}",
    };
    let link = match version {
        Version::V2 => "[a-z]{0,8}",
        Version::V3 => "[a-z]{0,20}",
    };
    let content = proptest::collection::vec(any::<u8>(), 0..256);
    let words = ("[!-~]{0,10}", "[!-~]{0,6}", "[0-9]{0,17}", "[0-9]{0,21}", number, link);
    let to = proptest::collection::vec(number, 0..4);
    (fixed, words, to, content).prop_map(move |(fixed, (service, source, time, src_id, payer, link), to, content)| {
        let of_3 = |octet| if version == Version::V3 { octet } else { 0 };
        Submit {
            pk_total: fixed[0],
            pk_number: fixed[1],
            registered_delivery: fixed[2],
            msg_level: fixed[3],
            service_id: o(&service),
            fee_user_type: fixed[4],
            fee_terminal_id: o(&payer),
            fee_terminal_type: of_3(fixed[5]),
            tp_pid: 0,
            tp_udhi: fixed[6],
            msg_fmt: fixed[7],
            msg_src: o(&source),
            fee_type: o("01"),
            fee_code: o("0"),
            valid_time: o(&time),
            at_time: o(""),
            src_id: o(&src_id),
            destinations: to.iter().map(|number| o(number)).collect(),
            dest_terminal_type: of_3(fixed[8]),
            content: content.into(),
            link_id: o(&link),
        }
    })
}

fn pdu(version: Version) -> impl Strategy<Value = Pdu> {
    let result = move || match version {
        Version::V2 => (0u32..256).prop_map(SubmitResult).boxed(),
        Version::V3 => any::<u32>().prop_map(SubmitResult).boxed(),
    };
    let connect = ("[0-9]{0,6}", any::<[u8; 16]>(), any::<u8>(), any::<u32>());
    prop_oneof![
        connect.prop_map(|(name, authenticator_source, version, time)| {
            let timestamp = LoginTime(time);
            Pdu::connect(1, Connect { source_addr: o(&name), authenticator_source, version, timestamp })
        }),
        (0u32..256, any::<[u8; 16]>()).prop_map(move |(status, ismg)| Pdu::connect_resp(
            2,
            ConnectStatus(status),
            ismg,
            version
        )),
        (any::<u32>(), submit(version)).prop_map(|(sequence, submit)| Pdu::submit(sequence, submit)),
        any::<u64>().prop_map(|id| Pdu::submit_taken(3, &Taken, MsgId(id))),
        result().prop_map(|result| Pdu::submit_refused(4, result)),
        (any::<u64>(), submit(version)).prop_map(|(id, s)| {
            let deliver = Deliver {
                msg_id: MsgId(id),
                dest_id: s.src_id,
                service_id: s.service_id,
                tp_udhi: s.tp_udhi,
                msg_fmt: s.msg_fmt,
                src_terminal_id: s.fee_terminal_id,
                src_terminal_type: s.fee_terminal_type,
                registered_delivery: s.registered_delivery,
                content: s.content,
                link_id: s.link_id,
                ..Deliver::default()
            };
            Pdu::deliver(5, deliver)
        }),
        (any::<u64>(), result()).prop_map(|(id, result)| Pdu::deliver_resp(6, MsgId(id), result)),
        any::<u32>().prop_map(Pdu::active_test),
        any::<u32>().prop_map(Pdu::active_test_resp),
        any::<u32>().prop_map(Pdu::terminate),
        any::<u32>().prop_map(Pdu::terminate_resp),
    ]
}

fn versioned() -> impl Strategy<Value = (Version, Pdu)> {
    prop_oneof![
        pdu(Version::V2).prop_map(|pdu| (Version::V2, pdu)),
        pdu(Version::V3).prop_map(|pdu| (Version::V3, pdu)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back((version, pdu) in versioned()) {
        prop_assert_eq!(decoded(&encoded(&pdu, version), version), Ok(pdu));
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        command in prop_oneof![any::<u32>(), 1u32..10, (1u32..10).prop_map(|id| id | command::RESPONSE)],
        body in proptest::collection::vec(any::<u8>(), 0..260),
    ) {
        for version in VERSIONS {
            let frame = Frame { command_id: command, sequence: 1, body: body.clone().into() };
            if let Ok(pdu) = Pdu::decode(frame, version) {
                let again = decoded(&encoded(&pdu, version), version).unwrap();
                prop_assert_eq!(again.sequence(), 1);
            }
        }
    }

    /// Too short, too long, or of the other version: an error, not a misreading.
    #[test]
    fn a_body_of_another_length_is_an_error((version, pdu) in versioned(), cut in 1usize..60) {
        let full = encoded(&pdu, version);
        let (command_id, body) = (pdu.command_id(), &full[12..]);
        if body.len() < 40 {
            // Answers are read in the widths of both versions.
            return Ok(());
        }
        let frame = |body: &[u8]| Frame { command_id, sequence: 1, body: Bytes::copy_from_slice(body) };
        prop_assert!(Pdu::decode(frame(&body[..body.len() - cut.min(body.len())]), version).is_err());
        prop_assert!(Pdu::decode(frame(&[body, &[0]].concat()), version).is_err());
    }
}

#[test]
fn the_octets_of_a_login_are_those_of_the_standard() {
    let timestamp = LoginTime(1_021_080_510);
    let authenticator_source = auth::source(b"900001", b"888888", timestamp, auth::NameForm::Bare);
    for version in VERSIONS {
        let connect = Connect { source_addr: o("900001"), authenticator_source, version: version.octet(), timestamp };
        let octets = encoded(&Pdu::connect(1, connect), version);
        let mut expected = b"\0\0\0\x27\0\0\0\x01\0\0\0\x01900001".to_vec();
        expected.extend(b"\x90\xd0\x0c\x1d\x51\x7a\xbd\x0b\x4f\x65\xf6\xbc\xf8\x53\x5d\x16");
        expected.extend([version.octet(), 0x3C, 0xDC, 0x73, 0xBE]);
        assert_eq!(octets, expected);
        assert_eq!(octets.len(), 39);

        let octets = encoded(&Pdu::connect_resp(1, ConnectStatus::OK, [7; 16], version), version);
        assert_eq!(octets.len(), if version == Version::V2 { 30 } else { 33 });
        // Read from its length, whatever we think we speak.
        for other in VERSIONS {
            let Ok(Body::ConnectResp(resp)) = decoded(&octets, other).map(Pdu::into_body) else { panic!() };
            assert_eq!((resp.status, resp.version), (ConnectStatus::OK, version.octet()));
            assert_eq!(resp.status_octets().len(), if version == Version::V2 { 1 } else { 4 });
        }
    }
}

#[test]
fn the_octets_of_a_submit_are_those_of_the_standard() {
    let submit = Submit {
        pk_total: 1,
        pk_number: 1,
        registered_delivery: 1,
        service_id: o("SVC"),
        fee_user_type: 2,
        msg_fmt: 8,
        msg_src: o("900001"),
        fee_type: o("01"),
        fee_code: o("0"),
        src_id: o("10690001"),
        destinations: vec![o("8613800138000")],
        content: Bytes::from_static(b"\x4E\x2D"),
        ..Submit::default()
    };
    let zeros = |n: usize| vec![0; n];
    let field = |text: &str, width: usize| [text.as_bytes(), &zeros(width - text.len())].concat();
    for (version, terminal, of_3, reserve) in [(Version::V2, 21, 0, 8), (Version::V3, 32, 1, 20)] {
        let body = [
            zeros(8),
            vec![1, 1, 1, 0],
            field("SVC", 10),
            vec![2],
            zeros(terminal),
            zeros(of_3),
            vec![0, 0, 8],
            field("900001", 6),
            field("01", 2),
            field("0", 6),
            zeros(17),
            zeros(17),
            field("10690001", 21),
            vec![1],
            field("8613800138000", terminal),
            zeros(of_3),
            vec![2, 0x4E, 0x2D],
            zeros(reserve),
        ]
        .concat();
        assert_eq!(encoded(&Pdu::submit(7, submit.clone()), version)[12..], body);
    }
}

#[test]
fn sizes_are_those_of_the_standard() {
    for n in [1usize, 3, 99] {
        for length in [0usize, 140, 159] {
            let submit = Submit {
                destinations: vec![o("13800138000"); n],
                content: vec![b'x'; length].into(),
                ..Submit::default()
            };
            let body = |version| encoded(&Pdu::submit(1, submit.clone()), version).len() - 12;
            assert_eq!((body(Version::V2), body(Version::V3)), (126 + 21 * n + length, 151 + 32 * n + length));
            let deliver = Deliver { content: vec![b'x'; length].into(), ..Deliver::default() };
            let body = |version| encoded(&Pdu::deliver(1, deliver.clone()), version).len() - 12;
            assert_eq!((body(Version::V2), body(Version::V3)), (73 + length, 97 + length));
        }
    }
    let length = |pdu: &Pdu, version| encoded(pdu, version).len();
    let refused = Pdu::submit_refused(1, SubmitResult::FLOW_CONTROL);
    assert_eq!((length(&refused, Version::V2), length(&refused, Version::V3)), (21, 24));
    assert_eq!(length(&Pdu::active_test(1), Version::V3), 12);
    assert_eq!(length(&Pdu::active_test_resp(1), Version::V3), 13);
    assert_eq!(length(&Pdu::terminate(1), Version::V3), 12);
}

#[test]
fn answers_are_read_in_either_width() {
    let read = |command_id, body: &'static [u8]| {
        let frame = Frame { command_id, sequence: 1, body: Bytes::from_static(body) };
        Pdu::decode(frame, Version::V2).map(Pdu::into_body).map_err(|e| e.fault)
    };
    let taken = Body::SubmitResp(MsgId(1), SubmitResult(8));
    assert_eq!(read(SUBMIT_RESP, b"\0\0\0\0\0\0\0\x01\x08"), Ok(taken.clone()));
    assert_eq!(read(SUBMIT_RESP, b"\0\0\0\0\0\0\0\x01\0\0\0\x08"), Ok(taken));
    for bad in [&b"\0\0\0\0\0\0\0\x01"[..], b"\0\0\0\0\0\0\0\x01\0\0", b"\0\0\0\0\0\0\0\x01\0\0\0\0\0", b""] {
        assert!(matches!(read(SUBMIT_RESP, bad), Err(Fault::Field(_))), "{bad:?}");
    }
    assert_eq!(read(ACTIVE_TEST_RESP, b""), Ok(Body::ActiveTestResp));
    assert_eq!(read(ACTIVE_TEST_RESP, b"\0"), Ok(Body::ActiveTestResp));
    assert!(read(ACTIVE_TEST_RESP, b"\0\0\0\0").is_err());
    assert!(read(command::ACTIVE_TEST, b"\0").is_err());
    assert_eq!(read(0x06, b""), Err(Fault::Command));
    assert_eq!(read(command::RESPONSE, b""), Err(Fault::Command));
}

#[test]
fn a_refusal_cannot_look_like_a_yes() {
    assert_eq!(Pdu::submit_refused(1, SubmitResult::OK).into_body(), Body::SubmitResp(MsgId(0), SubmitResult::OTHER));
    let wide = encoded(&Pdu::submit_refused(1, SubmitResult(0x100)), Version::V2);
    assert_eq!(wide.last(), Some(&0xFF), "a result that has no room in 2.0");
}
