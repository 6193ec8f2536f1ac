//! A session at its limits: logins, windows, sequence numbers, timers, peers that lose their place.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::cmpp::Framer;
use crate::wire::link_state::{SEQUENCE_MAX, STRAYS_MAX};

const SETTINGS: Settings = Settings {
    window: 2,
    active_test_interval: Duration::from_secs(180),
    response_timeout: Duration::from_secs(60),
    active_tests_max: 3,
};
const V3: Version = Version::V3;
const SUBMIT_RESP: u32 = command::SUBMIT | command::RESPONSE;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn frames(out: &mut BytesMut) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.extend(&out.split());
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

fn frame(pdu: &Pdu, version: Version) -> Frame {
    let mut octets = BytesMut::new();
    pdu.encode(version, &mut octets);
    frames(&mut octets).remove(0)
}

fn raw(command_id: u32, sequence: u32, body: &'static [u8]) -> Frame {
    Frame { command_id, sequence, body: body.into() }
}

fn said(out: &mut BytesMut) -> Vec<(u32, u32)> {
    frames(out).iter().map(|f| (f.command_id, f.sequence)).collect()
}

fn connecting(version: Version, out: &mut BytesMut) -> Connecting {
    let login = Login {
        name: Octets::new("name", "900001").unwrap(),
        secret: Secret::new("888888"),
        form: NameForm::Bare,
        version,
    };
    Open::new(SETTINGS).connect(login, LoginTime(1_021_080_510), out)
}

fn bound(out: &mut BytesMut) -> Bound {
    let connecting = connecting(V3, out);
    out.clear();
    let answer = frame(&Pdu::connect_resp(1, ConnectStatus::OK, [0; 16], V3), V3);
    match connecting.receive(answer, at(0), out) {
        Ok(ConnectStep::Bound { bound, gateway_authentic: false }) => bound,
        other => panic!("{other:?}"),
    }
}

fn submit(session: &mut Bound, now: u64, out: &mut BytesMut) -> Result<u32, WindowFull> {
    session.submit(Submit::default(), at(now), out)
}

/// Result 0 under id 5, as 3.0 writes it.
fn yes(sequence: u32) -> Frame {
    raw(SUBMIT_RESP, sequence, b"\0\0\0\0\0\0\0\x05\0\0\0\0")
}

#[test]
fn a_login_is_answered_refused_or_neither() {
    for version in [Version::V2, V3] {
        let out = &mut BytesMut::new();
        let waiting = connecting(version, out);
        let connect = frames(out).remove(0);
        assert_eq!((connect.command_id, connect.sequence, connect.body.len()), (command::CONNECT, 1, 27));
        let source: Authenticator = connect.body[6..22].try_into().unwrap();

        // The gateway may ask whether we live first.
        let step = waiting.receive(frame(&Pdu::active_test(9), version), at(1), out);
        let Ok(ConnectStep::Connecting(waiting)) = step else { panic!("{step:?}") };
        assert_eq!(said(out), [(command::ACTIVE_TEST | command::RESPONSE, 9)]);

        // Whether the gateway knows the secret is told.
        let status = super::super::pdu::status_octets(ConnectStatus::OK, version);
        let ismg = auth::ismg(&status, &source, b"888888");
        let answer = frame(&Pdu::connect_resp(1, ConnectStatus::OK, ismg, version), version);
        let step = waiting.receive(answer, at(1), out);
        assert!(matches!(step, Ok(ConnectStep::Bound { gateway_authentic: true, .. })), "{step:?}");

        let refused = |reply| connecting(version, &mut BytesMut::new()).receive(reply, at(1), out).unwrap_err();
        let no = frame(&Pdu::connect_resp(1, ConnectStatus::NOT_AUTHENTIC, [0; 16], version), version);
        let mut refused = refused;
        assert_eq!(refused(no), LinkFault::Refused(ConnectStatus::NOT_AUTHENTIC));
        assert_eq!(refused(yes(1)), LinkFault::NotConnected { command_id: SUBMIT_RESP });
        assert!(matches!(refused(raw(command::CONNECT | command::RESPONSE, 1, b"short")), LinkFault::Unreadable(_)));
    }
}

#[test]
fn an_answer_of_the_other_version_is_understood() {
    let out = &mut BytesMut::new();
    let answer = frame(&Pdu::connect_resp(1, ConnectStatus::OK, [0; 16], Version::V2), Version::V2);
    assert!(matches!(connecting(V3, out).receive(answer, at(0), out), Ok(ConnectStep::Bound { .. })));
}

#[test]
fn the_window_holds_until_the_gateway_has_answered() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    let (first, second) = (submit(&mut session, 0, out).unwrap(), submit(&mut session, 5, out).unwrap());
    assert_eq!(submit(&mut session, 5, out), Err(WindowFull));
    assert_eq!(said(out), [(command::SUBMIT, first), (command::SUBMIT, second)], "nothing was written for the third");

    // Overdue: reported once, its slot still taken, nothing repeated.
    assert_eq!(session.wakeup(), at(60));
    assert_eq!(session.tick(at(60), out), Ok(vec![first]));
    assert_eq!(session.tick(at(61), out), Ok(vec![]));
    assert_eq!((session.free(), session.awaited()), (0, 1));
    assert!(out.is_empty());

    let late = session.receive(yes(first), at(62), out).unwrap();
    assert!(matches!(late, Event::Answer { late: true, msg_id: MsgId(5), .. }), "{late:?}");
    assert_eq!(session.free(), 1);
    let in_time = session.receive(raw(SUBMIT_RESP, second, b"\0\0\0\0\0\0\0\x06\x08"), at(62), out).unwrap();
    let result = SubmitResult::FLOW_CONTROL;
    assert_eq!(in_time, Event::Answer { sequence: second, result, msg_id: MsgId(6), late: false });
    // The same answer again completes nothing.
    assert_eq!(session.receive(yes(second), at(62), out), Ok(Event::Nothing));
    assert_eq!(session.free(), 2);
}

#[test]
fn a_gateway_that_never_answers_submits_loses_the_link() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    let sequence = submit(&mut session, 0, out).unwrap();
    assert_eq!(session.tick(at(60), out), Ok(vec![sequence]));
    assert_eq!(session.wakeup(), at(120));
    assert_eq!(session.tick(at(119), out), Ok(vec![]));
    assert_eq!(session.tick(at(120), out), Err(LinkFault::AnswersMissing));
}

#[test]
fn a_silent_gateway_is_asked_three_times_and_then_given_up() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    assert_eq!(session.wakeup(), at(180));
    assert_eq!(session.tick(at(179), out), Ok(vec![]));
    assert!(out.is_empty());
    for test in 0..3 {
        assert_eq!(session.wakeup(), at(180 + test * 60));
        session.tick(at(180 + test * 60), out).unwrap();
        let asked = said(out);
        assert_eq!(asked, [(command::ACTIVE_TEST, asked[0].1)]);
        session.tick(at(181 + test * 60), out).unwrap();
        assert!(out.is_empty(), "asked once in a while");
    }
    // Answered, with the reserved octet and without, all is well.
    let mut answered = bound(out);
    for body in [&b"\0"[..], b""] {
        answered.tick(at(180), out).unwrap();
        let answer = raw(command::ACTIVE_TEST | command::RESPONSE, said(out)[0].1, body);
        assert_eq!(answered.receive(answer, at(0), out), Ok(Event::Nothing));
        assert_eq!(answered.wakeup(), at(180));
    }
    assert_eq!(session.tick(at(360), out), Err(LinkFault::Silent));
}

#[test]
fn sequence_numbers_wrap_and_skip_those_in_use() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    session.state.last_sequence = SEQUENCE_MAX - 1;
    assert_eq!(submit(&mut session, 0, out), Ok(SEQUENCE_MAX));
    assert_eq!(submit(&mut session, 0, out), Ok(1));
    session.receive(yes(SEQUENCE_MAX), at(0), out).unwrap();
    session.state.last_sequence = SEQUENCE_MAX;
    assert_eq!(submit(&mut session, 0, out), Ok(2), "1 is still unanswered");
}

#[test]
fn each_request_of_the_gateway_has_its_answer() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    assert_eq!(session.receive(frame(&Pdu::active_test(5), V3), at(0), out), Ok(Event::Nothing));
    assert_eq!(said(out), [(command::ACTIVE_TEST | command::RESPONSE, 5)]);

    let deliver = Deliver { msg_id: MsgId(77), ..Deliver::default() };
    let delivery = session.receive(frame(&Pdu::deliver(12, deliver.clone()), V3), at(0), out);
    assert_eq!(delivery, Ok(Event::Delivery { sequence: 12, deliver }));
    assert!(out.is_empty(), "a delivery is answered only when told to");
    session.answer_delivery(12, MsgId(77), SubmitResult::OK, out);
    let answer = frames(out).remove(0);
    assert_eq!(answer, raw(command::DELIVER | command::RESPONSE, 12, b"\0\0\0\0\0\0\0\x4D\0\0\0\0"));

    // One that cannot be read is refused under its id, and the link goes on.
    let refused = session.receive(raw(command::DELIVER, 13, b"\0\0\0\0\0\0\0\x4Ehalf"), at(0), out);
    assert!(matches!(refused, Ok(Event::Refused(_))), "{refused:?}");
    let answer = frames(out).remove(0);
    assert_eq!(answer, raw(command::DELIVER | command::RESPONSE, 13, b"\0\0\0\0\0\0\0\x4E\0\0\0\x01"));

    assert_eq!(session.receive(frame(&Pdu::terminate(14), V3), at(0), out), Ok(Event::Terminated));
    assert_eq!(said(out), [(command::TERMINATE | command::RESPONSE, 14)]);
}

#[test]
fn what_cannot_be_read_ends_the_link() {
    for bad in [
        raw(0x77, 1, b""),
        raw(command::TERMINATE | command::RESPONSE, 1, b"what"),
        raw(SUBMIT_RESP, 2, b"\0\0\0"),
        raw(0x8000_0000, 1, b""),
    ] {
        let out = &mut BytesMut::new();
        let end = bound(out).receive(bad, at(0), out);
        assert!(matches!(end, Err(LinkFault::Unreadable(_))), "{end:?}");
        assert!(out.is_empty());
    }
}

/// A peer that says 13 octets and sends 16, as one implementation does after ACTIVE_TEST.
#[test]
fn a_peer_that_loses_its_place_is_found_out_at_its_next_pdu() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    session.tick(at(180), out).unwrap();
    let mut framer = Framer::new();
    framer.extend(b"\0\0\0\x0D\x80\0\0\x08\0\0\0\x02\0\0\0\0");
    let answer = framer.next_frame().unwrap().unwrap();
    assert_eq!(session.receive(answer, at(181), out), Ok(Event::Nothing));
    assert_eq!(framer.next_frame(), Ok(None));
    framer.extend(b"\0\0\0\x18\x80\0\0\x04\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0");
    assert!(framer.next_frame().is_err());
}

#[test]
fn strays_are_borne_up_to_a_bound() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    for _ in 0..STRAYS_MAX {
        assert_eq!(session.receive(yes(777), at(0), out), Ok(Event::Nothing));
    }
    assert_eq!(session.receive(yes(777), at(0), out), Err(LinkFault::Strays));
}

#[test]
fn terminating_ends_with_its_answer_or_the_gateways_own_terminate() {
    let out = &mut BytesMut::new();
    let terminating = bound(out).terminate(out);
    let sequence = said(out)[0].1;
    assert!(!terminating.receive(frame(&Pdu::terminate_resp(sequence + 1), V3), out));
    assert!(!terminating.receive(frame(&Pdu::deliver(4, Deliver::default()), V3), out));
    assert!(out.is_empty(), "a delivery is not answered any more");
    assert!(terminating.receive(frame(&Pdu::terminate_resp(sequence), V3), out));
    assert!(terminating.receive(frame(&Pdu::terminate(5), V3), out));
    assert!(terminating.receive(raw(0x55, 1, b""), out));
}

proptest! {
    /// Whatever a gateway says and however time passes: no panic, and never more unanswered than the window.
    #[test]
    fn the_window_holds_against_any_gateway(
        steps in proptest::collection::vec((0u8..4, 0u32..12, any::<u32>(), 0u64..90), 1..80),
    ) {
        let out = &mut BytesMut::new();
        let mut session = bound(out);
        let (mut now, mut unanswered) = (0, std::collections::HashSet::new());
        for (what, sequence, word, pass) in steps {
            now += pass;
            let step = match what {
                0 => { if let Ok(s) = submit(&mut session, now, out) { prop_assert!(unanswered.insert(s)); } Ok(Event::Nothing) }
                1 => session.receive(yes(sequence), at(now), out),
                2 => session.receive(raw(word & 0x8000_000F, sequence, b""), at(now), out),
                _ => session.tick(at(now), out).map(|_| Event::Nothing),
            };
            match step {
                Ok(Event::Answer { sequence, .. }) => prop_assert!(unanswered.remove(&sequence)),
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
            prop_assert!(unanswered.len() <= SETTINGS.window);
            prop_assert_eq!(session.free(), SETTINGS.window - unanswered.len());
            prop_assert!(session.awaited() <= unanswered.len());
        }
    }
}
