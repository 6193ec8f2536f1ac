//! PDUs against their octets, and against rubbish.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::MessageId;
use crate::wire::sgip::{Framer, REPORT_ALWAYS, login_type};

struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::new(Timestamp(0))
    }
}

const SEQUENCE: Sequence = Sequence { node: 3_010_012_345, time: 301_000_000, counter: 7 };

fn o<const WIDTH: usize>(text: &str) -> Octets<WIDTH> {
    Octets::new("test", text).unwrap()
}

fn encoded(pdu: &Pdu) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(&mut out);
    out
}

fn decoded(octets: &[u8]) -> Result<Pdu, PduError> {
    let mut framer = Framer::new();
    framer.extend(octets);
    Pdu::decode(framer.next_frame().unwrap().unwrap())
}

fn sequence() -> impl Strategy<Value = Sequence> {
    any::<(u32, u32, u32)>().prop_map(|(node, time, counter)| Sequence { node, time, counter })
}

fn submit() -> impl Strategy<Value = Submit> {
    let words = ("[0-9]{0,21}", "[0-9]{5}", "[!-~]{0,10}", "[0-9]{0,6}", "[0-9+]{0,16}");
    let to = proptest::collection::vec("[0-9]{0,21}", 0..4);
    let content = proptest::collection::vec(any::<u8>(), 0..256);
    (any::<[u8; 9]>(), words, to, content).prop_map(|(fixed, (number, corp, service, fee, time), to, content)| Submit {
        sp_number: o(&number),
        charge_number: o("000000000000000000000"),
        user_numbers: to.iter().map(|number| o(number)).collect(),
        corp_id: o(&corp),
        service_type: o(&service),
        fee_type: fixed[0],
        fee_value: o(&fee),
        given_value: o(""),
        agent_flag: fixed[1],
        mo_relate_to_mt_flag: fixed[2],
        priority: fixed[3],
        expire_time: o(&time),
        schedule_time: o(""),
        report_flag: fixed[4],
        tp_pid: fixed[5],
        tp_udhi: fixed[6],
        message_coding: fixed[7],
        message_type: fixed[8],
        content: content.into(),
    })
}

fn body() -> impl Strategy<Value = Body> {
    let result = || any::<u8>().prop_map(SgipResult);
    prop_oneof![
        (any::<u8>(), "[a-z]{0,16}", "[!-~]{0,16}").prop_map(|(login_type, name, password)| {
            Body::Bind(Bind { login_type, login_name: o(&name), login_password: o(&password) })
        }),
        result().prop_map(Body::BindResp),
        result().prop_map(Body::SubmitResp),
        result().prop_map(Body::DeliverResp),
        result().prop_map(Body::ReportResp),
        Just(Body::Unbind),
        Just(Body::UnbindResp),
        submit().prop_map(Body::Submit),
        submit().prop_map(|s| {
            Body::Deliver(Deliver {
                user_number: s.charge_number,
                sp_number: s.sp_number,
                tp_pid: s.tp_pid,
                tp_udhi: s.tp_udhi,
                message_coding: s.message_coding,
                content: s.content,
            })
        }),
        (sequence(), any::<[u8; 3]>(), "[0-9]{0,21}").prop_map(|(submit_sequence, fixed, number)| {
            let [report_type, state, error_code] = fixed;
            Body::Report(Report { submit_sequence, report_type, user_number: o(&number), state, error_code })
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(sequence in sequence(), body in body()) {
        let pdu = Pdu { sequence, body };
        prop_assert_eq!(decoded(&encoded(&pdu)), Ok(pdu));
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        command in prop_oneof![any::<u32>(), 1u32..7, (1u32..7).prop_map(|id| id | command::RESPONSE)],
        body in proptest::collection::vec(any::<u8>(), 0..260),
    ) {
        let frame = Frame { command_id: command, sequence: SEQUENCE, body: body.into() };
        if let Ok(pdu) = Pdu::decode(frame) {
            prop_assert_eq!(decoded(&encoded(&pdu)), Ok(pdu));
        }
    }

    #[test]
    fn a_body_of_another_length_is_an_error(body in body(), cut in 1usize..9) {
        let pdu = Pdu { sequence: SEQUENCE, body };
        let full = encoded(&pdu);
        let (command_id, body) = (pdu.command_id(), &full[20..]);
        let frame = |body: &[u8]| Frame { command_id, sequence: SEQUENCE, body: Bytes::copy_from_slice(body) };
        prop_assert!(Pdu::decode(frame(&[body, &[0]].concat())).is_err());
        if !body.is_empty() {
            prop_assert!(Pdu::decode(frame(&body[..body.len() - cut])).is_err());
        }
    }
}

#[test]
fn the_octets_of_a_bind_and_its_answer_are_those_of_the_standard() {
    let header = b"\xB3\x69\x24\xB9\x11\xF0\xE5\x40\0\0\0\x07";
    let bind = Bind { login_type: login_type::SP, login_name: o("shop"), login_password: o("secret") };
    assert!(!format!("{bind:?}").contains("secret"));
    let octets = encoded(&Pdu::bind(SEQUENCE, bind));
    let expected =
        [&b"\0\0\0\x3D\0\0\0\x01"[..], header, b"\x01shop\0\0\0\0\0\0\0\0\0\0\0\0secret\0\0\0\0\0\0\0\0\0\0", &[0; 8]]
            .concat();
    assert_eq!(octets, expected);
    assert_eq!(octets.len() - 20, 41);
    let answer = encoded(&Pdu::bind_resp(SEQUENCE, SgipResult::BAD_LOGIN));
    assert_eq!(answer, [&b"\0\0\0\x1D\x80\0\0\x01"[..], header, b"\x01", &[0; 8]].concat());
    for unbind in [Pdu::unbind(SEQUENCE), Pdu::unbind_resp(SEQUENCE)] {
        assert_eq!(encoded(&unbind).len(), 20);
    }
    // Some give every answer a result.
    let frame = Frame { command_id: UNBIND_RESP, sequence: SEQUENCE, body: Bytes::from_static(&[0; 9]) };
    assert_eq!(Pdu::decode(frame), Ok(Pdu::unbind_resp(SEQUENCE)));
}

#[test]
fn the_octets_of_a_submit_are_those_of_the_standard() {
    let submit = Submit {
        sp_number: o("10690001"),
        charge_number: o("000000000000000000000"),
        user_numbers: vec![o("8613000138000"), o("8613000138001")],
        corp_id: o("12345"),
        service_type: o("SVC"),
        fee_type: 1,
        fee_value: o("10"),
        given_value: o("0"),
        mo_relate_to_mt_flag: 2,
        priority: 9,
        expire_time: o("261124022907032+"),
        report_flag: REPORT_ALWAYS,
        tp_udhi: 1,
        message_coding: 8,
        content: Bytes::from_static(b"\x4E\x2D"),
        ..Submit::default()
    };
    let field = |text: &str, width: usize| [text.as_bytes(), &vec![0; width - text.len()]].concat();
    let body = [
        field("10690001", 21),
        vec![b'0'; 21],
        vec![2],
        field("8613000138000", 21),
        field("8613000138001", 21),
        field("12345", 5),
        field("SVC", 10),
        vec![1],
        field("10", 6),
        field("0", 6),
        vec![0, 2, 9],
        field("261124022907032+", 16),
        field("", 16),
        vec![1, 0, 1, 8, 0],
        vec![0, 0, 0, 2, 0x4E, 0x2D],
        vec![0; 8],
    ]
    .concat();
    assert_eq!(encoded(&Pdu::submit(SEQUENCE, submit))[20..], body);
    assert_eq!(body.len(), 123 + 21 * 2 + 2);
}

#[test]
fn sizes_are_those_of_the_standard() {
    let body = |pdu: &Pdu| encoded(pdu).len() - 20;
    for n in [1usize, 100] {
        for length in [0usize, 140] {
            let (user_numbers, content) = (vec![o("8613000138000"); n], Bytes::from(vec![b'x'; length]));
            let submit = Submit { user_numbers, content: content.clone(), ..Submit::default() };
            assert_eq!(body(&Pdu::submit(SEQUENCE, submit)), 123 + 21 * n + length);
            let deliver = Deliver { content, ..Deliver::default() };
            assert_eq!(body(&Pdu::deliver(SEQUENCE, deliver)), 57 + length);
        }
    }
    assert_eq!(body(&Pdu::report(SEQUENCE, Report::default())), 44);
    assert_eq!(body(&Pdu::submit_refused(SEQUENCE, SgipResult::BUSY)), 9);
    assert_eq!(body(&Pdu::report_resp(SEQUENCE, SgipResult::OK)), 9);
}

#[test]
fn a_report_names_the_submit() {
    let report = Report {
        submit_sequence: SEQUENCE,
        user_number: o("8613000138000"),
        state: 2,
        error_code: 21,
        ..Report::default()
    };
    let octets = encoded(&Pdu::report(SEQUENCE, report));
    assert_eq!(octets[20..33], *b"\xB3\x69\x24\xB9\x11\xF0\xE5\x40\0\0\0\x07\0");
    assert_eq!(octets[54..56], [2, 21]);
}

#[test]
fn lengths_of_contents_and_commands_are_checked() {
    let mut octets = encoded(&Pdu::deliver(SEQUENCE, Deliver::default()));
    for length in [9u32, 256, u32::MAX] {
        octets[65..69].copy_from_slice(&length.to_be_bytes());
        let fault = Fault::Field(FieldError { field: "MessageLength" });
        assert_eq!(decoded(&octets).unwrap_err().fault, fault, "{length}");
    }
    let read = |command_id| {
        let frame = Frame { command_id, sequence: SEQUENCE, body: Bytes::from_static(b"whatever") };
        Pdu::decode(frame).map(Pdu::into_body).map_err(|e| e.fault)
    };
    for command_id in [command::USERRPT, USERRPT_RESP, command::TRACE, TRACE_RESP] {
        assert_eq!(read(command_id), Ok(Body::NotOurs(command_id)));
    }
    for unknown in [0, 6, 0x12, command::RESPONSE] {
        assert_eq!(read(unknown), Err(Fault::Command));
    }
}

#[test]
fn a_refusal_cannot_look_like_a_yes() {
    assert_eq!(Pdu::submit_refused(SEQUENCE, SgipResult::OK).into_body(), Body::SubmitResp(SgipResult::BUSY));
    assert_eq!(Pdu::submit_taken(SEQUENCE, &Taken).into_body(), Body::SubmitResp(SgipResult::OK));
}
