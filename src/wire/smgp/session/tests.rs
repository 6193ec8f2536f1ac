//! A session at its limits: logins, windows, sequence numbers, timers, peers that lose their place.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::gateway::frame::put_frame;
use crate::wire::link_state::STRAYS_MAX;
use crate::wire::smgp::Framer;

const SETTINGS: Settings = Settings {
    window: 2,
    active_test_interval: Duration::from_secs(180),
    response_timeout: Duration::from_secs(60),
    active_tests_max: 3,
};
const V: Version = Version::V30;
const ID: MsgId = MsgId(*b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45");
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

fn logging_in(version: Version, mode: LoginMode, out: &mut BytesMut) -> LoggingIn {
    let name = Octets::new("name", "12345678").unwrap();
    let login = Login { name, secret: Secret::new("secret"), form: NameForm::Bare, mode, version };
    Open::new(SETTINGS).log_in(login, LoginTime(301_000_000), out)
}

fn bound_for(mode: LoginMode, out: &mut BytesMut) -> Bound {
    let logging_in = logging_in(V, mode, out);
    out.clear();
    let answer = frame(&Pdu::login_resp(1, Status::OK, [0; 16], V), V);
    match logging_in.receive(answer, at(0), out) {
        Ok(LoginStep::Bound { bound, gateway_authentic: false }) => bound,
        other => panic!("{other:?}"),
    }
}

fn bound(out: &mut BytesMut) -> Bound {
    bound_for(LoginMode::Both, out)
}

fn submit(session: &mut Bound, now: u64, out: &mut BytesMut) -> Result<u32, WindowFull> {
    session.submit(Submit::default(), at(now), out)
}

fn answer(sequence: u32, id: MsgId, status: Status) -> Frame {
    frame(&Pdu::deliver_resp(sequence, id, status), V)
}

/// Status 0.
fn yes(sequence: u32) -> Frame {
    Frame { command_id: SUBMIT_RESP, ..answer(sequence, ID, Status::OK) }
}

#[test]
fn a_login_is_answered_refused_or_neither() {
    for (version, mode) in [(Version::V13, LoginMode::Send), (V, LoginMode::Both)] {
        let out = &mut BytesMut::new();
        let waiting = logging_in(version, mode, out);
        let login = frames(out).remove(0);
        assert_eq!((login.command_id, login.sequence, login.body.len()), (command::LOGIN, 1, 30));
        assert_eq!((login.body[24], login.body[29]), (mode.octet(), version.octet()));
        let client: Authenticator = login.body[8..24].try_into().unwrap();

        // The gateway may ask whether we live first.
        let step = waiting.receive(frame(&Pdu::active_test(9), version), at(1), out);
        let Ok(LoginStep::LoggingIn(waiting)) = step else { panic!("{step:?}") };
        assert_eq!(said(out), [(command::ACTIVE_TEST | command::RESPONSE, 9)]);

        // Whether the gateway knows the secret is told, and no more.
        let server = auth::server(Status::OK, &client, b"secret");
        let answer = frame(&Pdu::login_resp(1, Status::OK, server, version), version);
        let step = waiting.receive(answer, at(1), out);
        assert!(matches!(step, Ok(LoginStep::Bound { gateway_authentic: true, .. })), "{step:?}");

        let mut refused =
            |reply| logging_in(version, mode, &mut BytesMut::new()).receive(reply, at(1), out).unwrap_err();
        let no = frame(&Pdu::login_resp(1, Status::BAD_LOGIN_MODE, [0; 16], version), version);
        assert_eq!(refused(no), LinkFault::Refused(Status::BAD_LOGIN_MODE));
        assert_eq!(refused(yes(1)), LinkFault::NotLoggedIn { command_id: SUBMIT_RESP });
        assert!(matches!(refused(raw(command::LOGIN | command::RESPONSE, 1, b"short")), LinkFault::Unreadable(_)));
    }
}

#[test]
fn a_link_that_receives_submits_nothing() {
    let out = &mut BytesMut::new();
    let mut session = bound_for(LoginMode::Receive, out);
    assert_eq!((session.free(), submit(&mut session, 0, out)), (0, Err(WindowFull)));
    assert!(out.is_empty() && session.mode() == LoginMode::Receive);
    let deliver = Deliver { msg_id: ID, ..Deliver::default() };
    let delivery = session.receive(frame(&Pdu::deliver(12, deliver.clone()), V), at(0), out);
    assert_eq!(delivery, Ok(Event::Delivery { sequence: 12, deliver }));
    assert_eq!(bound_for(LoginMode::Send, out).free(), SETTINGS.window);
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
    assert!(matches!(late, Event::Answer { late: true, msg_id: ID, .. }), "{late:?}");
    assert_eq!(session.free(), 1);
    let busy = frame(&Pdu::submit_refused(second, Status::BUSY), V);
    let in_time = session.receive(busy, at(62), out).unwrap();
    let (status, msg_id) = (Status::BUSY, MsgId::default());
    assert_eq!(in_time, Event::Answer { sequence: second, status, msg_id, late: false });
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
    // Answered, all is well.
    let mut answered = bound(out);
    answered.tick(at(180), out).unwrap();
    let answer = raw(command::ACTIVE_TEST | command::RESPONSE, said(out)[0].1, b"");
    assert_eq!(answered.receive(answer, at(181), out), Ok(Event::Nothing));
    assert_eq!(answered.wakeup(), at(361));
    assert_eq!(session.tick(at(360), out), Err(LinkFault::Silent));
}

#[test]
fn each_request_of_the_gateway_has_its_answer() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    assert_eq!(session.receive(frame(&Pdu::active_test(5), V), at(0), out), Ok(Event::Nothing));
    assert_eq!(said(out), [(command::ACTIVE_TEST | command::RESPONSE, 5)]);

    let deliver = Deliver { msg_id: ID, ..Deliver::default() };
    let delivery = session.receive(frame(&Pdu::deliver(12, deliver.clone()), V), at(0), out);
    assert_eq!(delivery, Ok(Event::Delivery { sequence: 12, deliver }));
    assert!(out.is_empty(), "a delivery is answered only when told to");
    session.answer_delivery(12, ID, Status::OK, out);
    assert_eq!(frames(out), [answer(12, ID, Status::OK)]);

    // One that cannot be read is refused under its id, and the link goes on.
    let half = raw(command::DELIVER, 13, b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45half");
    let refused = session.receive(half, at(0), out);
    assert!(matches!(refused, Ok(Event::Refused(_))), "{refused:?}");
    assert_eq!(frames(out), [answer(13, ID, Status::BAD_STRUCTURE)]);

    assert_eq!(session.receive(frame(&Pdu::exit(14), V), at(0), out), Ok(Event::Exited));
    assert_eq!(said(out), [(command::EXIT | command::RESPONSE, 14)]);
}

#[test]
fn what_cannot_be_read_ends_the_link_and_what_is_not_ours_does_not() {
    let out = &mut BytesMut::new();
    for bad in [
        raw(0x77, 1, b""),
        raw(command::EXIT | command::RESPONSE, 1, b"what"),
        raw(SUBMIT_RESP, 2, b"\0\0\0"),
        raw(0x8000_0000, 1, b""),
    ] {
        let end = bound(out).receive(bad, at(0), out);
        assert!(matches!(end, Err(LinkFault::Unreadable(_))), "{end:?}");
    }
    for command_id in [command::FORWARD, command::QUERY, command::QUERY | command::RESPONSE] {
        assert_eq!(bound(out).receive(raw(command_id, 1, b"whatever"), at(0), out), Ok(Event::Nothing));
    }
    assert!(out.is_empty());
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
fn exiting_ends_with_its_answer_or_the_gateways_own_exit() {
    let out = &mut BytesMut::new();
    let exiting = bound(out).exit(out);
    let sequence = said(out)[0].1;
    assert!(!exiting.receive(frame(&Pdu::exit_resp(sequence + 1), V), out));
    assert!(!exiting.receive(frame(&Pdu::deliver(4, Deliver::default()), V), out));
    assert!(out.is_empty(), "a delivery is not answered any more");
    assert!(exiting.receive(frame(&Pdu::exit_resp(sequence), V), out));
    assert!(exiting.receive(frame(&Pdu::exit(5), V), out));
    assert!(exiting.receive(raw(0x55, 1, b""), out));
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

    /// However what a gateway says is cut up: it means the same, and is answered the same.
    #[test]
    fn the_split_of_the_input_changes_nothing(
        said in proptest::collection::vec((1u32..9, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)), 0..6),
        cuts in proptest::collection::vec(0usize..600, 0..6),
    ) {
        let mut stream = BytesMut::new();
        for (sequence, (command_id, response, body)) in (2..).zip(said) {
            let command_id = if response { command_id | command::RESPONSE } else { command_id };
            put_frame(&mut stream, command_id, sequence, |out| out.extend_from_slice(&body));
        }
        let run = |cuts: &[usize]| {
            let out = &mut BytesMut::new();
            let (mut session, mut framer, mut events) = (bound(out), Framer::new(), Vec::new());
            submit(&mut session, 0, out).unwrap();
            let mut ends: Vec<usize> = cuts.iter().map(|&cut| cut.min(stream.len())).chain([stream.len()]).collect();
            ends.sort_unstable();
            let mut from = 0;
            for end in ends {
                framer.extend(&stream[from..end]);
                from = end;
                while let Ok(Some(frame)) = framer.next_frame() {
                    events.push(session.receive(frame, at(0), out));
                }
            }
            (events, out.split())
        };
        prop_assert_eq!(run(&[]), run(&cuts));
    }
}
