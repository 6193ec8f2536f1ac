//! PDUs against their octets, and against rubbish.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::MessageId;
use crate::wire::smgp::{Framer, LoginMode, MSG_TYPE_MT, Report, auth};

struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::new(Timestamp(0))
    }
}

const VERSIONS: [Version; 2] = [Version::V13, Version::V30];
const ID: MsgId = MsgId(*b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45");

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

fn parts() -> impl Strategy<Value = Parts> {
    any::<[u8; 3]>().prop_map(|[tp_udhi, pk_total, pk_number]| Parts { tp_udhi, pk_total, pk_number })
}

fn submit(version: Version) -> impl Strategy<Value = Submit> {
    let words = ("[!-~]{0,10}", "[0-9]{0,6}", "[0-9]{0,17}", "[0-9]{0,21}", "[0-9]{0,21}");
    let to = proptest::collection::vec("[0-9+]{0,21}", 0..4);
    let content = proptest::collection::vec(any::<u8>(), 0..256);
    (any::<[u8; 4]>(), words, to, content, parts()).prop_map(
        move |(fixed, (service, fee, time, source, payer), to, content, parts)| Submit {
            msg_type: fixed[0],
            need_report: fixed[1],
            priority: fixed[2],
            service_id: o(&service),
            fee_type: o("00"),
            fee_code: o(&fee),
            fixed_fee: if version == Version::V30 { o(&fee) } else { o("") },
            msg_format: fixed[3],
            valid_time: o(&time),
            at_time: o(""),
            src_term_id: o(&source),
            charge_term_id: o(&payer),
            destinations: to.iter().map(|number| o(number)).collect(),
            content: content.into(),
            parts,
        },
    )
}

fn pdu(version: Version) -> impl Strategy<Value = Pdu> {
    let login = ("[0-9]{0,8}", any::<[u8; 16]>(), any::<[u8; 2]>(), any::<u32>());
    let id = || any::<[u8; 10]>().prop_map(MsgId);
    prop_oneof![
        login.prop_map(|(name, authenticator_client, [login_mode, client_version], time)| {
            let (client_id, timestamp) = (o(&name), LoginTime(time));
            Pdu::login(1, Login { client_id, authenticator_client, login_mode, timestamp, client_version })
        }),
        (any::<u32>(), any::<[u8; 16]>()).prop_map(move |(status, server)| Pdu::login_resp(
            2,
            Status(status),
            server,
            version
        )),
        (any::<u32>(), submit(version)).prop_map(|(sequence, submit)| Pdu::submit(sequence, submit)),
        id().prop_map(|id| Pdu::submit_taken(3, &Taken, id)),
        any::<u32>().prop_map(|status| Pdu::submit_refused(4, Status(status))),
        (id(), submit(version)).prop_map(|(msg_id, s)| {
            let deliver = Deliver {
                msg_id,
                is_report: s.need_report,
                msg_format: s.msg_format,
                recv_time: o("20261124022407"),
                src_term_id: s.charge_term_id,
                dest_term_id: s.src_term_id,
                content: s.content,
                parts: s.parts,
            };
            Pdu::deliver(5, deliver)
        }),
        (id(), any::<u32>()).prop_map(|(id, status)| Pdu::deliver_resp(6, id, Status(status))),
        any::<u32>().prop_map(Pdu::active_test),
        any::<u32>().prop_map(Pdu::active_test_resp),
        any::<u32>().prop_map(Pdu::exit),
        any::<u32>().prop_map(Pdu::exit_resp),
    ]
}

fn versioned() -> impl Strategy<Value = (Version, Pdu)> {
    prop_oneof![
        pdu(Version::V13).prop_map(|pdu| (Version::V13, pdu)),
        pdu(Version::V30).prop_map(|pdu| (Version::V30, pdu)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back((version, pdu) in versioned()) {
        prop_assert_eq!(decoded(&encoded(&pdu, version), version), Ok(pdu));
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        command in prop_oneof![any::<u32>(), 1u32..9, (1u32..9).prop_map(|id| id | command::RESPONSE)],
        body in proptest::collection::vec(any::<u8>(), 0..260),
    ) {
        for version in VERSIONS {
            let frame = Frame { command_id: command, sequence: 1, body: body.clone().into() };
            if let Ok(pdu) = Pdu::decode(frame, version) {
                prop_assert_eq!(decoded(&encoded(&pdu, version), version), Ok(pdu));
            }
        }
    }

    /// Too short, or too long by less than an optional parameter: an error, not a misreading.
    #[test]
    fn a_body_of_another_length_is_an_error((version, pdu) in versioned(), cut in 1usize..9) {
        let pdu = match pdu.into_body() {
            Body::Submit(submit) => Pdu::submit(1, Submit { parts: Parts::default(), ..submit }),
            Body::Deliver(deliver) => Pdu::deliver(1, Deliver { parts: Parts::default(), ..deliver }),
            body => Pdu { sequence: 1, body },
        };
        let full = encoded(&pdu, version);
        let (command_id, body) = (pdu.command_id(), &full[12..]);
        let frame = |body: &[u8]| Frame { command_id, sequence: 1, body: Bytes::copy_from_slice(body) };
        prop_assert!(Pdu::decode(frame(&[body, &[0]].concat()), version).is_err());
        if !body.is_empty() {
            prop_assert!(Pdu::decode(frame(&body[..body.len() - cut]), version).is_err());
        }
    }
}

#[test]
fn the_octets_of_a_login_are_those_of_the_standard() {
    let timestamp = LoginTime(301_000_000);
    let authenticator_client = auth::client(b"12345678", b"secret", timestamp, auth::NameForm::Bare);
    for version in VERSIONS {
        let (login_mode, client_version) = (LoginMode::Both.octet(), version.octet());
        let login = Login { client_id: o("12345678"), authenticator_client, login_mode, timestamp, client_version };
        let octets = encoded(&Pdu::login(1, login), version);
        let mut expected = b"\0\0\0\x2A\0\0\0\x01\0\0\0\x0112345678".to_vec();
        expected.extend(b"\x95\x89\x8c\x46\xde\xdb\xcf\x39\x3d\xcd\x4c\x2a\x86\x14\x81\xe9");
        expected.extend([2, 0x11, 0xF0, 0xE5, 0x40, version.octet()]);
        assert_eq!(octets, expected);
        assert_eq!(octets.len(), 42);

        let octets = encoded(&Pdu::login_resp(1, Status::OK, [7; 16], version), version);
        let expected = [&b"\0\0\0\x21\x80\0\0\x01\0\0\0\x01\0\0\0\0"[..], &[7; 16], &[version.octet()]].concat();
        assert_eq!(octets, expected);
    }
    assert_eq!(
        [0x13, 0x30, 0x20, 0xFF].map(Version::of_octet),
        [Version::V13, Version::V30, Version::V30, Version::V30]
    );
    for octet in 0..=u8::MAX {
        assert_eq!(LoginMode::of_octet(octet).map(LoginMode::octet), (octet < 3).then_some(octet));
    }
}

/// Field by field; one of three parts, whose numbers stand behind the fixed fields.
#[test]
fn the_octets_of_a_submit_are_those_of_the_standard() {
    let submit = Submit {
        msg_type: MSG_TYPE_MT,
        need_report: 1,
        priority: 2,
        service_id: o("SVC"),
        fee_type: o("01"),
        fee_code: o("10"),
        fixed_fee: o("99"),
        msg_format: 8,
        valid_time: o("261124022907032+"),
        src_term_id: o("10690001"),
        charge_term_id: o("8613300000000"),
        destinations: vec![o("8613800138000"), o("8613800138001")],
        content: Bytes::from_static(b"\x05\0\x03\x09\x03\x02\x4E\x2D"),
        parts: Parts { tp_udhi: 1, pk_total: 3, pk_number: 2 },
        ..Submit::default()
    };
    let field = |text: &str, width: usize| [text.as_bytes(), &vec![0; width - text.len()]].concat();
    for version in VERSIONS {
        let fixed_fee = if version == Version::V30 { field("99", 6) } else { vec![] };
        let body = [
            vec![6, 1, 2],
            field("SVC", 10),
            field("01", 2),
            field("10", 6),
            fixed_fee,
            vec![8],
            field("261124022907032+", 17),
            field("", 17),
            field("10690001", 21),
            field("8613300000000", 21),
            vec![2],
            field("8613800138000", 21),
            field("8613800138001", 21),
            b"\x08\x05\0\x03\x09\x03\x02\x4E\x2D".to_vec(),
            vec![0; 8],
            b"\0\x02\0\x01\x01\0\x09\0\x01\x03\0\x0A\0\x01\x02".to_vec(),
        ]
        .concat();
        assert_eq!(encoded(&Pdu::submit(7, submit.clone()), version)[12..], body);
    }
}

#[test]
fn the_octets_of_a_report_are_those_of_the_standard() {
    let report = Report { msg_id: ID, stat: o("DELIVRD"), ..Report::default() };
    let deliver = Deliver {
        msg_id: MsgId::of_number(77),
        is_report: 1,
        recv_time: o("20261124022407"),
        src_term_id: o("8613800138000"),
        dest_term_id: o("10690001"),
        content: report.write(),
        ..Deliver::default()
    };
    let octets = encoded(&Pdu::deliver(3, deliver), Version::V30);
    let head = b"\0\0\0\xD3\0\0\0\x03\0\0\0\x03\0\0\0\0\0\0\0\0\0\x77\x01\x0020261124022407\
        8613800138000\0\0\0\0\0\0\0\x0010690001\0\0\0\0\0\0\0\0\0\0\0\0\0\x7Aid:\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45 sub:";
    assert_eq!(octets[..head.len()], head[..]);
    assert_eq!(octets.len(), 12 + 77 + 122);
}

#[test]
fn sizes_are_those_of_the_standard() {
    for n in [1usize, 3, 100] {
        for length in [0usize, 140] {
            let destinations = vec![o("8613800138000"); n];
            let submit = Submit { destinations, content: vec![b'x'; length].into(), ..Submit::default() };
            let body = |version| encoded(&Pdu::submit(1, submit.clone()), version).len() - 12;
            assert_eq!((body(Version::V30), body(Version::V13)), (114 + 21 * n + length, 108 + 21 * n + length));
            let deliver = Deliver { content: vec![b'x'; length].into(), ..Deliver::default() };
            assert_eq!(encoded(&Pdu::deliver(1, deliver), Version::V30).len(), 12 + 77 + length);
        }
    }
    let length = |pdu: &Pdu| encoded(pdu, Version::V30).len();
    assert_eq!(length(&Pdu::submit_refused(1, Status::BUSY)), 26);
    assert_eq!(length(&Pdu::deliver_resp(1, ID, Status::OK)), 26);
    for bare in [Pdu::active_test(1), Pdu::active_test_resp(1), Pdu::exit(1), Pdu::exit_resp(1)] {
        assert_eq!(length(&bare), 12);
    }
}

#[test]
fn optional_parameters_are_read_in_any_order_and_unknown_ones_skipped() {
    let plain = encoded(&Pdu::deliver(1, Deliver::default()), Version::V30)[12..].to_vec();
    let read = |tlvs: &[u8]| {
        let body = [&plain[..], tlvs].concat().into();
        let pdu = Pdu::decode(Frame { command_id: command::DELIVER, sequence: 1, body }, Version::V30)?;
        let Body::Deliver(deliver) = pdu.into_body() else { panic!() };
        Ok::<_, PduError>(deliver.parts)
    };
    assert_eq!(read(b""), Ok(Parts::default()));
    let all = b"\0\x0A\0\x01\x02\0\x03\0\x05order\0\x10\0\0\x77\x77\0\x01x\0\x02\0\x01\x01\0\x09\0\x01\x03";
    assert_eq!(read(all), Ok(Parts { tp_udhi: 1, pk_total: 3, pk_number: 2 }));
    for (bad, field) in [
        (&b"\0\x02\0\x02\x01\x01"[..], "TP_udhi"),
        (b"\0\x09\0\0", "PkTotal"),
        (b"\0\x0A\0\x01", "optional parameters"),
        (b"\0\x0A\0", "optional parameters"),
        (b"\0\x77\xFF\xFFx", "optional parameters"),
    ] {
        assert_eq!(read(bad).unwrap_err().fault, Fault::Field(FieldError { field }), "{bad:?}");
    }
}

#[test]
fn what_gateways_say_among_themselves_is_known_and_the_rest_is_not() {
    let read = |command_id| {
        let frame = Frame { command_id, sequence: 1, body: Bytes::from_static(b"whatever") };
        Pdu::decode(frame, Version::V30).map(Pdu::into_body).map_err(|e| e.fault)
    };
    for command_id in [command::FORWARD, command::QUERY, FORWARD_RESP, QUERY_RESP] {
        assert_eq!(read(command_id), Ok(Body::NotOurs(command_id)));
    }
    for unknown in [0, 8, 0x15, command::RESPONSE, u32::MAX] {
        assert_eq!(read(unknown), Err(Fault::Command));
    }
    assert_eq!(read(command::ACTIVE_TEST), Err(Fault::Field(FieldError { field: "PacketLength" })));
}

#[test]
fn a_refusal_cannot_look_like_a_yes() {
    assert_eq!(Pdu::submit_refused(1, Status::OK).into_body(), Body::SubmitResp(MsgId::default(), Status::BUSY));
}
