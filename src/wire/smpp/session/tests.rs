//! A session at its limits: windows, sequence numbers, timers.

use proptest::prelude::*;

use super::*;
use crate::wire::link_state::{SEQUENCE_MAX, STRAYS_MAX};
use crate::wire::smpp::Framer;
use crate::wire::smpp::frame::put_frame;

const SETTINGS: Settings =
    Settings { window: 2, enquire_interval: Duration::from_secs(30), response_timeout: Duration::from_secs(10) };
const OK: CommandStatus = CommandStatus::OK;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn frame(pdu: &Pdu) -> Frame {
    let mut octets = BytesMut::new();
    pdu.encode(&mut octets);
    frames(&mut octets).remove(0)
}

fn raw(command_id: u32, status: u32, sequence: u32, body: &'static [u8]) -> Frame {
    Frame { command_id, command_status: status, sequence, body: body.into() }
}

fn frames(out: &mut BytesMut) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.extend(&out.split());
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

fn said(out: &mut BytesMut) -> Vec<(u32, u32, u32)> {
    frames(out).iter().map(|f| (f.command_id, f.command_status, f.sequence)).collect()
}

fn bound(out: &mut BytesMut) -> Bound<Transceiver> {
    let binding = Open::new(SETTINGS).bind::<Transceiver>(Bind::default(), at(10), out);
    let answer = frame(&Pdu::bind_resp(command::BIND_TRANSCEIVER, 1, OK, COctets::default()));
    out.clear();
    match binding.receive(answer, at(0), out) {
        Ok(BindStep::Bound(bound)) => bound,
        other => panic!("{other:?}"),
    }
}

fn submit(session: &mut Bound<Transceiver>, now: u64, out: &mut BytesMut) -> Result<u32, WindowFull> {
    session.submit_sm(ShortMessage::default(), at(now), out)
}

#[test]
fn a_bind_is_answered_refused_or_neither() {
    let binding = |out: &mut BytesMut| Open::new(SETTINGS).bind::<Transmitter>(Bind::default(), at(10), out);
    let out = &mut BytesMut::new();
    let waiting = binding(out);
    assert_eq!(said(out), [(command::BIND_TRANSMITTER, 0, 1)]);

    // The carrier may ask whether we live first.
    let Ok(BindStep::Binding(waiting)) = waiting.receive(frame(&Pdu::enquire_link(9)), at(1), out) else { panic!() };
    assert_eq!(said(out), [(command::ENQUIRE_LINK | command::RESPONSE, 0, 9)]);
    let refused = waiting.receive(raw(0x8000_0002, 0x0E, 1, b""), at(1), out);
    assert_eq!(refused.unwrap_err(), LinkFault::BindRefused(CommandStatus::INVALID_PASSWORD));

    // A nack, another mode's answer, an answer to another request and a message are no yes.
    for (reply, fault) in [
        (raw(command::GENERIC_NACK, 0, 1, b""), LinkFault::BindRefused(OK)),
        (raw(0x8000_0009, 0, 1, b"x\0"), LinkFault::NotBound { command_id: 0x8000_0009 }),
        (raw(0x8000_0002, 0, 2, b"x\0"), LinkFault::NotBound { command_id: 0x8000_0002 }),
        (raw(command::DELIVER_SM, 0, 1, b""), LinkFault::NotBound { command_id: command::DELIVER_SM }),
    ] {
        assert_eq!(binding(out).receive(reply, at(1), out).unwrap_err(), fault);
    }
}

#[test]
fn what_the_carrier_says_of_itself_is_told() {
    let out = &mut BytesMut::new();
    for (body, version) in [
        (&b"x\0\x02\x10\0\x01\x50"[..], Some(0x50)),
        (b"x\0", None),
        // Nothing in it is a reason to doubt the yes.
        (b"a name that is longer than any name may be\0", None),
        (b"x\0\x02\x10\0", None),
    ] {
        let binding = Open::new(SETTINGS).bind::<Transceiver>(Bind::default(), at(10), out);
        let Ok(BindStep::Bound(session)) = binding.receive(raw(0x8000_0009, 0, 1, body), at(0), out) else { panic!() };
        assert_eq!(session.version(), version);
    }
    let mut session = bound(out);
    let sequence = submit(&mut session, 0, out).unwrap();
    let answer = raw(0x8000_0004, 0x58, sequence, b"\0\x04\x28\0\x01\x64");
    let said = session.receive(answer, at(1), out);
    assert!(matches!(said, Ok(Event::Answer { congestion: Some(100), .. })), "{said:?}");
}

#[test]
fn the_window_holds_until_the_carrier_has_answered() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    let (first, second) = (submit(&mut session, 0, out).unwrap(), submit(&mut session, 5, out).unwrap());
    assert_eq!(submit(&mut session, 5, out), Err(WindowFull));
    assert_eq!(said(out).len(), 2, "nothing was written for the third");

    // Overdue: reported once, its slot still taken.
    assert_eq!(session.wakeup(), at(10));
    assert_eq!(session.tick(at(10), out), Ok(vec![first]));
    assert_eq!(session.tick(at(11), out), Ok(vec![]));
    assert_eq!((session.free(), session.awaited()), (0, 1));

    let answer = |sequence| raw(0x8000_0004, 0, sequence, b"id\0");
    let late = session.receive(answer(first), at(12), out).unwrap();
    assert!(matches!(late, Event::Answer { late: true, sequence, .. } if sequence == first), "{late:?}");
    assert_eq!(session.free(), 1);
    let in_time = session.receive(answer(second), at(12), out).unwrap();
    assert!(matches!(in_time, Event::Answer { late: false, sequence, .. } if sequence == second), "{in_time:?}");
    // The same answer again completes nothing.
    assert_eq!(session.receive(answer(second), at(12), out), Ok(Event::Nothing));
    assert_eq!(session.free(), 2);
}

#[test]
fn a_carrier_that_never_answers_submissions_loses_the_link() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    let sequence = submit(&mut session, 0, out).unwrap();
    assert_eq!(session.tick(at(10), out), Ok(vec![sequence]));
    assert_eq!(session.wakeup(), at(20));
    assert_eq!(session.tick(at(19), out), Ok(vec![]));
    assert_eq!(session.tick(at(20), out), Err(LinkFault::AnswersMissing));
}

#[test]
fn a_silent_carrier_is_asked_once_and_then_given_up() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    assert_eq!(session.wakeup(), at(30));
    assert_eq!(session.tick(at(29), out), Ok(vec![]));
    assert!(out.is_empty());
    session.tick(at(30), out).unwrap();
    let asked = said(out);
    assert_eq!(asked, [(command::ENQUIRE_LINK, 0, asked[0].2)]);
    session.tick(at(35), out).unwrap();
    assert!(out.is_empty(), "asked once");
    session.receive(frame(&Pdu::enquire_link_resp(asked[0].2)), at(36), out).unwrap();
    assert_eq!(session.wakeup(), at(66));
    session.tick(at(66), out).unwrap();
    assert_eq!(session.tick(at(76), out), Err(LinkFault::Silent));
}

#[test]
fn sequence_numbers_wrap_and_skip_those_in_use() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    session.state.last_sequence = SEQUENCE_MAX - 1;
    assert_eq!(submit(&mut session, 0, out), Ok(SEQUENCE_MAX));
    assert_eq!(submit(&mut session, 0, out), Ok(1));
    session.receive(raw(0x8000_0004, 0, SEQUENCE_MAX, b"a\0"), at(0), out).unwrap();
    session.state.last_sequence = SEQUENCE_MAX;
    assert_eq!(submit(&mut session, 0, out), Ok(2), "1 is still unanswered");
}

#[test]
fn each_request_of_the_carrier_has_its_answer() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    for (request, answer) in [
        (frame(&Pdu::enquire_link(5)), Some((0x8000_0015, 0, 5))),
        (raw(0x0000_0021, 0, 6, b"what"), Some((command::GENERIC_NACK, 0x03, 6))),
        (raw(command::DELIVER_SM, 0, 7, b"half"), Some((command::GENERIC_NACK, 0x02, 7))),
        (raw(command::SUBMIT_SM, 0, 8, b"half"), Some((command::GENERIC_NACK, 0x02, 8))),
        (frame(&Pdu::submit_sm(9, ShortMessage::default())), Some((command::GENERIC_NACK, 0x03, 9))),
        (raw(command::ALERT_NOTIFICATION, 0, 10, b""), None),
        (raw(0x8000_0103, 0, 11, b""), None),
    ] {
        assert_eq!(session.receive(request, at(0), out), Ok(Event::Nothing));
        assert_eq!(said(out), answer.into_iter().collect::<Vec<_>>());
    }
    let delivery = session.receive(frame(&Pdu::deliver_sm(12, ShortMessage::default())), at(0), out);
    assert_eq!(delivery, Ok(Event::Delivery { sequence: 12, message: ShortMessage::default() }));
    assert!(out.is_empty(), "a delivery is answered only when told to");
    assert_eq!(session.receive(frame(&Pdu::unbind(13)), at(0), out), Ok(Event::Unbound));
    assert_eq!(said(out), [(0x8000_0006, 0, 13)]);
}

#[test]
fn nacks_and_unreadable_answers_complete_what_they_name() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    let mut answered = |reply: fn(u32) -> Frame| {
        let sequence = submit(&mut session, 0, out).unwrap();
        match session.receive(reply(sequence), at(0), out).unwrap() {
            Event::Answer { status, message_id, .. } => (status.0, message_id.to_string()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answered(|s| raw(command::GENERIC_NACK, 0x02, s, b"")), (0x02, String::new()));
    assert_eq!(answered(|s| raw(command::GENERIC_NACK, 0, s, b"")), (0x08, String::new()), "a nack is never a yes");
    assert_eq!(answered(|s| raw(0x8000_0004, 0, s, &[b'1'; 99])), (0, String::new()), "taken, id unreadable");
    assert_eq!(answered(|s| raw(0x8000_0004, 0x58, s, b"")), (0x58, String::new()));
}

#[test]
fn strays_are_borne_up_to_a_bound() {
    let out = &mut BytesMut::new();
    let mut session = bound(out);
    for _ in 0..STRAYS_MAX {
        assert_eq!(session.receive(raw(0x8000_0004, 0, 777, b"x\0"), at(0), out), Ok(Event::Nothing));
    }
    assert_eq!(session.receive(raw(0x8000_0004, 0, 777, b"x\0"), at(0), out), Err(LinkFault::Strays));
}

#[test]
fn unbinding_ends_with_its_answer_or_the_carriers_own_unbind() {
    let out = &mut BytesMut::new();
    let unbinding = bound(out).unbind(out);
    let sequence = said(out)[0].2;
    assert!(!unbinding.receive(&raw(0x8000_0006, 0, sequence + 1, b""), out));
    assert!(!unbinding.receive(&frame(&Pdu::deliver_sm(4, ShortMessage::default())), out));
    assert!(out.is_empty(), "a delivery is not answered any more");
    assert!(unbinding.receive(&raw(0x8000_0006, 0, sequence, b""), out));
    assert!(unbinding.receive(&frame(&Pdu::unbind(5)), out));
}

proptest! {
    /// Whatever a carrier says and however time passes: no panic, and never more unanswered than the window.
    #[test]
    fn the_window_holds_against_any_carrier(
        steps in proptest::collection::vec((0u8..4, 0u32..12, any::<u32>(), 0u64..15), 1..80),
    ) {
        let out = &mut BytesMut::new();
        let mut session = bound(out);
        let (mut now, mut unanswered) = (0, std::collections::HashSet::new());
        for (what, sequence, word, pass) in steps {
            now += pass;
            let step = match what {
                0 => { if let Ok(s) = submit(&mut session, now, out) { prop_assert!(unanswered.insert(s)); } Ok(Event::Nothing) }
                1 => session.receive(raw(0x8000_0004, word & 0x58, sequence, b"id\0"), at(now), out),
                2 => session.receive(raw(word, word, sequence, b"\0\0\0"), at(now), out),
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

#[test]
fn frames_written_by_hand_are_read_the_same() {
    let mut out = BytesMut::new();
    put_frame(&mut out, 1, 2, 3, |_| {});
    assert_eq!(said(&mut out), [(1, 2, 3)]);
}
