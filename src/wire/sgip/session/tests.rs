//! Both kinds of links at their limits: binds, windows, answers to nothing, idleness.

use proptest::prelude::*;

use super::*;
use crate::wire::link_state::STRAYS_MAX;
use crate::wire::sgip::Framer;

const SETTINGS: Settings =
    Settings { window: 2, response_timeout: Duration::from_secs(30), idle: Duration::from_secs(50) };
const NODE: u32 = 3_010_012_345;
const TIME: LoginTime = LoginTime(301_000_000);
const OK: SgipResult = SgipResult::OK;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn sequence(counter: u32) -> Sequence {
    Sequence { node: NODE, time: TIME.0, counter }
}

fn frames(out: &mut BytesMut) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.extend(&out.split());
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

fn frame(pdu: &Pdu) -> Frame {
    let mut octets = BytesMut::new();
    pdu.encode(&mut octets);
    frames(&mut octets).remove(0)
}

fn raw(command_id: u32, counter: u32, body: &'static [u8]) -> Frame {
    Frame { command_id, sequence: sequence(counter), body: body.into() }
}

fn answer(sequence: Sequence, result: SgipResult) -> Frame {
    Frame { command_id: command::SUBMIT | command::RESPONSE, ..frame(&Pdu::bind_resp(sequence, result)) }
}

fn login() -> Login {
    Login { name: Octets::new("name", "shop").unwrap(), password: Secret::new("secret") }
}

fn bound() -> (Bound, Sequences) {
    let sequences = Sequences::new(1);
    let binding = Open::new(SETTINGS).bind(&login(), sequences.next(NODE, TIME), &mut BytesMut::new()).unwrap();
    (binding.receive(frame(&Pdu::bind_resp(sequence(1), OK)), at(0)).unwrap(), sequences)
}

#[test]
fn a_bind_is_answered_or_refused() {
    let out = &mut BytesMut::new();
    let binding = |out: &mut BytesMut| Open::new(SETTINGS).bind(&login(), sequence(1), out).unwrap();
    let step = binding(out).receive(frame(&Pdu::bind_resp(sequence(1), SgipResult::BAD_LOGIN)), at(0));
    assert_eq!(step.unwrap_err(), LinkFault::Refused(SgipResult::BAD_LOGIN));
    let said = frames(out);
    assert_eq!((said.len(), said[0].command_id, said[0].body.len()), (1, command::BIND, 41));
    for other in [frame(&Pdu::bind_resp(sequence(2), OK)), frame(&Pdu::unbind(sequence(1)))] {
        let command_id = other.command_id;
        assert_eq!(binding(out).receive(other, at(0)).unwrap_err(), LinkFault::NotBound { command_id });
    }
    let long = Login { password: Secret::new("seventeen octets."), ..login() };
    out.clear();
    assert!(Open::new(SETTINGS).bind(&long, sequence(1), out).is_err() && out.is_empty());
}

#[test]
fn the_window_holds_until_the_gateway_has_answered() {
    let out = &mut BytesMut::new();
    let (mut session, sequences) = bound();
    let submit = |session: &mut Bound, now, out: &mut BytesMut| {
        session.submit(Submit::default(), &sequences, TIME, at(now), out)
    };
    let first = submit(&mut session, 0, out).unwrap();
    let second = submit(&mut session, 5, out).unwrap();
    assert_eq!((first, second), (sequence(2), sequence(3)));
    assert_eq!(submit(&mut session, 5, out), Err(WindowFull));
    let said: Vec<_> = frames(out).iter().map(|f| (f.command_id, f.sequence)).collect();
    assert_eq!(said, [(command::SUBMIT, first), (command::SUBMIT, second)], "nothing was written for the third");

    assert_eq!(session.wakeup(), at(30));
    assert_eq!(session.tick(at(30)), Ok(Tick { overdue: vec![2], idle: false }));
    assert_eq!((session.free(), session.awaited()), (0, 1));
    let late = Event::Answer { sequence: first, result: OK, late: true };
    assert_eq!(session.receive(answer(first, OK), at(31), out), Ok(late));
    // Of another node, or once more: completes nothing.
    let stranger = Sequence { node: NODE + 1, ..second };
    assert_eq!(session.receive(answer(stranger, OK), at(31), out), Ok(Event::Nothing));
    let busy = Event::Answer { sequence: second, result: SgipResult::BUSY, late: false };
    assert_eq!(session.receive(answer(second, SgipResult::BUSY), at(31), out), Ok(busy));
    assert_eq!(session.receive(answer(second, OK), at(31), out), Ok(Event::Nothing));
    assert_eq!(session.free(), 2);

    let last = submit(&mut session, 40, out).unwrap();
    assert_eq!(session.tick(at(70)), Ok(Tick { overdue: vec![last.counter], idle: false }));
    assert_eq!(session.tick(at(100)), Err(LinkFault::AnswersMissing));
}

#[test]
fn a_link_that_has_nothing_to_do_is_to_be_ended() {
    let out = &mut BytesMut::new();
    let (mut session, sequences) = bound();
    assert_eq!(session.wakeup(), at(50));
    assert_eq!(session.tick(at(49)), Ok(Tick { overdue: vec![], idle: false }));
    assert_eq!(session.tick(at(50)), Ok(Tick { overdue: vec![], idle: true }));
    assert_eq!(session.tick(at(51)), Ok(Tick { overdue: vec![], idle: false }), "told once");
    let goodbye = sequences.next(NODE, TIME);
    let unbinding = session.unbind(goodbye, out);
    assert_eq!(frames(out), [frame(&Pdu::unbind(goodbye))]);
    assert!(!unbinding.receive(frame(&Pdu::unbind_resp(sequence(99))), out));
    assert!(!unbinding.receive(answer(sequence(2), OK), out));
    assert!(unbinding.receive(frame(&Pdu::unbind_resp(goodbye)), out));
    assert!(unbinding.receive(frame(&Pdu::unbind(sequence(4))), out));
    assert_eq!(frames(out), [frame(&Pdu::unbind_resp(sequence(4)))]);
    assert!(unbinding.receive(raw(0x77, 1, b""), out));

    let (mut session, _) = bound();
    session.tick(at(50)).unwrap();
    assert_eq!(session.tick(at(80)), Err(LinkFault::Silent));
}

#[test]
fn what_a_gateway_says_on_our_link() {
    let out = &mut BytesMut::new();
    let (mut session, _) = bound();
    assert_eq!(session.receive(frame(&Pdu::unbind(sequence(9))), at(0), out), Ok(Event::Unbound));
    assert_eq!(frames(out), [frame(&Pdu::unbind_resp(sequence(9)))]);
    for bad in [raw(0x77, 1, b""), raw(command::SUBMIT | command::RESPONSE, 2, b"short")] {
        assert!(matches!(session.receive(bad, at(0), out), Err(LinkFault::Unreadable(_))));
    }
    let (mut session, _) = bound();
    for _ in 0..STRAYS_MAX {
        assert_eq!(session.receive(raw(command::TRACE, 1, b"?"), at(0), out), Ok(Event::Nothing));
    }
    assert_eq!(session.receive(answer(sequence(777), OK), at(0), out), Err(LinkFault::Strays));
}

#[test]
fn only_the_gateway_that_we_know_brings_anything() {
    let out = &mut BytesMut::new();
    let bind = |login_type, name: &str, password: &str| {
        let (login_name, login_password) = (Octets::new("n", name).unwrap(), Octets::new("p", password).unwrap());
        frame(&Pdu::bind(sequence(1), Bind { login_type, login_name, login_password }))
    };
    let judge = |bind: &Bind| {
        let known = bind.login_name == login().name && login().password.matches(bind.login_password.as_bytes());
        if known { OK } else { SgipResult::BAD_LOGIN }
    };
    for (refused, result) in [
        (bind(login_type::SP, "shop", "secret"), SgipResult::BAD_LOGIN_TYPE),
        (bind(login_type::GATEWAY, "shop", "wrong"), SgipResult::BAD_LOGIN),
        (bind(login_type::GATEWAY, "else", "secret"), SgipResult::BAD_LOGIN),
    ] {
        let end = AwaitBind.receive(refused, judge, out).unwrap_err();
        assert_eq!(end, LinkFault::NotAdmitted(result));
        assert_eq!(frames(out), [frame(&Pdu::bind_resp(sequence(1), result))]);
    }
    let report = Report { submit_sequence: sequence(2), ..Report::default() };
    let early = AwaitBind.receive(frame(&Pdu::report(sequence(5), report.clone())), judge, out);
    assert_eq!(early.unwrap_err(), LinkFault::NotBound { command_id: command::REPORT });
    assert!(out.is_empty());

    let mut session = AwaitBind.receive(bind(login_type::GATEWAY, "shop", "secret"), judge, out).unwrap();
    assert_eq!(frames(out), [frame(&Pdu::bind_resp(sequence(1), OK))]);
    let brought = session.receive(frame(&Pdu::report(sequence(5), report.clone())), out);
    assert_eq!(brought, Ok(Brought::Report(sequence(5), report)));
    let brought = session.receive(frame(&Pdu::deliver(sequence(6), Deliver::default())), out);
    assert_eq!(brought, Ok(Brought::Deliver(sequence(6), Deliver::default())));
    assert!(out.is_empty(), "answered only when told to");
    session.answer_report(sequence(5), OK, out);
    session.answer_deliver(sequence(6), SgipResult::BUSY, out);
    let answers = [Pdu::report_resp(sequence(5), OK), Pdu::deliver_resp(sequence(6), SgipResult::BUSY)];
    assert_eq!(frames(out), answers.map(|pdu| frame(&pdu)));

    // What cannot be read is answered so, and the link goes on; a second BIND is refused.
    for (half, refusal) in [
        (raw(command::REPORT, 7, b"half"), Pdu::report_resp(sequence(7), SgipResult::BAD_PARAMETER)),
        (raw(command::DELIVER, 7, b"half"), Pdu::deliver_resp(sequence(7), SgipResult::BAD_PARAMETER)),
    ] {
        assert!(matches!(session.receive(half, out), Ok(Brought::Refused(_))));
        assert_eq!(frames(out), [frame(&refusal)]);
    }
    assert_eq!(session.receive(bind(login_type::GATEWAY, "shop", "secret"), out), Ok(Brought::Nothing));
    assert_eq!(frames(out), [frame(&Pdu::bind_resp(sequence(1), SgipResult::BOUND_ALREADY))]);
    assert!(matches!(session.receive(raw(0x77, 1, b""), out), Err(LinkFault::Unreadable(_))));
    assert_eq!(session.receive(frame(&Pdu::unbind(sequence(8))), out), Ok(Brought::Unbound));
    assert_eq!(frames(out), [frame(&Pdu::unbind_resp(sequence(8)))]);

    let unbinding = session.unbind(sequence(2), out);
    assert_eq!(frames(out), [frame(&Pdu::unbind(sequence(2)))]);
    assert!(!unbinding.receive(frame(&Pdu::report(sequence(9), Report::default())), out));
    assert!(out.is_empty(), "not taken: it will be brought again");
    assert!(unbinding.receive(frame(&Pdu::unbind_resp(sequence(2))), out));
}

proptest! {
    /// Whatever a gateway says and however time passes: no panic, and never more unanswered than the window.
    #[test]
    fn the_window_holds_against_any_gateway(
        steps in proptest::collection::vec((0u8..4, 0u32..12, any::<u32>(), 0u64..40), 1..80),
    ) {
        let out = &mut BytesMut::new();
        let (mut session, sequences) = bound();
        let (mut now, mut unanswered) = (0, std::collections::HashSet::new());
        for (what, counter, word, pass) in steps {
            now += pass;
            let step = match what {
                0 => {
                    if let Ok(s) = session.submit(Submit::default(), &sequences, TIME, at(now), out) {
                        prop_assert!(unanswered.insert(s));
                    }
                    Ok(Event::Nothing)
                }
                1 => session.receive(answer(sequence(counter), OK), at(now), out),
                2 => session.receive(raw(word & 0x8000_000F, counter, b""), at(now), out),
                _ => session.tick(at(now)).map(|_| Event::Nothing),
            };
            match step {
                Ok(Event::Answer { sequence, .. }) => prop_assert!(unanswered.remove(&sequence)),
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
            prop_assert!(unanswered.len() <= SETTINGS.window);
            prop_assert_eq!(session.free(), SETTINGS.window - unanswered.len());
        }
    }

    /// However what a gateway says is cut up: it means the same, and is answered the same.
    #[test]
    fn the_split_of_the_input_changes_nothing(
        said in proptest::collection::vec((1u32..7, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        cuts in proptest::collection::vec(0usize..400, 0..6),
    ) {
        let mut stream = BytesMut::new();
        for (counter, (command_id, response, body)) in (2..).zip(said) {
            let command_id = if response { command_id | command::RESPONSE } else { command_id };
            super::super::frame::put_frame(&mut stream, command_id, sequence(counter), |out| out.extend_from_slice(&body));
        }
        let run = |cuts: &[usize]| {
            let out = &mut BytesMut::new();
            let (mut session, mut framer, mut events) = (Receiving { strays: 0 }, Framer::new(), Vec::new());
            let mut ends: Vec<usize> = cuts.iter().map(|&cut| cut.min(stream.len())).chain([stream.len()]).collect();
            ends.sort_unstable();
            let mut from = 0;
            for end in ends {
                framer.extend(&stream[from..end]);
                from = end;
                while let Ok(Some(frame)) = framer.next_frame() {
                    events.push(session.receive(frame, out));
                }
            }
            (events, out.split())
        };
        prop_assert_eq!(run(&[]), run(&cuts));
    }
}
