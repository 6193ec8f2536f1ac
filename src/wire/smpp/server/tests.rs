//! The message centre's side: who may say what when, windows, and peers that make no sense.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::MessageId;
use crate::wire::smpp::Framer;
use crate::wire::smpp::frame::put_frame;

const SETTINGS: Settings =
    Settings { window: 2, enquire_interval: Duration::from_secs(30), response_timeout: Duration::from_secs(10) };
const RESPONSE: u32 = command::RESPONSE;

struct Yes;

impl Responsibility for Yes {
    fn message_id(&self) -> MessageId {
        MessageId::from_bytes([7; 16])
    }
}

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

fn asks(open: Open, mode: Mode, out: &mut BytesMut) -> BindRequest {
    match open.receive(frame(&Pdu::bind(mode.command(), 5, Bind::default())), out) {
        Ok(OpenStep::Bind(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn bound(mode: Mode, out: &mut BytesMut) -> Bound {
    let bound = asks(Open::new(), mode, out).accept(COctets::default(), SETTINGS, at(0), out);
    out.clear();
    bound
}

#[test]
fn nothing_is_submitted_before_a_bind() {
    let out = &mut BytesMut::new();
    let mut open = Open::new();
    for (sent, answer) in [
        (frame(&Pdu::submit_sm(1, ShortMessage::default())), (command::SUBMIT_SM | RESPONSE, 0x04, 1)),
        (frame(&Pdu::data_sm(1, ShortMessage::default())), (command::DATA_SM | RESPONSE, 0x04, 1)),
        (raw(command::DATA_SM, 0, 4, b"x"), (command::DATA_SM | RESPONSE, 0x02, 4)),
        (frame(&Pdu::enquire_link(2)), (command::ENQUIRE_LINK | RESPONSE, 0, 2)),
        (raw(0x03, 0, 3, b""), (command::GENERIC_NACK, 0x03, 3)),
        (raw(command::SUBMIT_SM, 0, 4, b"x"), (command::SUBMIT_SM | RESPONSE, 0x02, 4)),
        (raw(command::BIND_TRANSMITTER, 0, 5, b"x"), (command::GENERIC_NACK, 0x02, 5)),
    ] {
        open = match open.receive(sent, out) {
            Ok(OpenStep::Open(open)) => open,
            other => panic!("{other:?}"),
        };
        assert_eq!(said(out), [answer]);
    }
    // What answers nothing is not answered.
    let Ok(OpenStep::Open(open)) = open.receive(raw(command::DELIVER_SM | RESPONSE, 0, 6, b"\0"), out) else {
        panic!()
    };
    assert!(out.is_empty());
    let open = asks(open, Mode::Receiver, out).refuse(CommandStatus::INVALID_PASSWORD, out);
    let open = asks(open, Mode::Receiver, out).refuse(CommandStatus::OK, out);
    let bind_resp = command::BIND_RECEIVER | RESPONSE;
    assert_eq!(said(out), [(bind_resp, 0x0E, 5), (bind_resp, 0x0D, 5)]);
    assert!(matches!(open.receive(frame(&Pdu::unbind(7)), out), Ok(OpenStep::Unbound)));
    assert_eq!(said(out), [(command::UNBIND | RESPONSE, 0, 7)]);
}

#[test]
fn submissions_come_where_the_bind_is_to_submit_and_deliveries_go_where_it_is_to_receive() {
    let out = &mut BytesMut::new();
    for (mode, submits, receives) in
        [(Mode::Transmitter, true, false), (Mode::Receiver, false, true), (Mode::Transceiver, true, true)]
    {
        let mut link = bound(mode, out);
        assert_eq!((link.mode().submits(), link.mode().receives()), (submits, receives));
        for pdu in [Pdu::submit_sm(9, ShortMessage::default()), Pdu::data_sm(9, ShortMessage::default())] {
            let command_id = pdu.command_id();
            let event = link.receive(frame(&pdu), at(1), out).unwrap();
            let request = Request { command_id, sequence: 9 };
            assert_eq!(event == Event::Submission { request, message: ShortMessage::default() }, submits, "{mode:?}");
            let refused = [(command_id | RESPONSE, 0x04, 9)];
            assert_eq!(said(out), if submits { &[][..] } else { &refused[..] });
        }
        assert_eq!(link.free(), if receives { 2 } else { 0 });
        assert_eq!(link.deliver_sm(ShortMessage::default(), at(1), out).is_ok(), receives);
        out.clear();
    }
}

#[test]
fn submissions_are_answered_by_their_numbers() {
    let out = &mut BytesMut::new();
    let mut link = bound(Mode::Transmitter, out);
    for command_id in [command::SUBMIT_SM, command::DATA_SM] {
        let request = |sequence| Request { command_id, sequence };
        link.taken(request(9), &Yes, COctets::new("message_id", "abc").unwrap(), 50, out);
        link.refused(request(8), CommandStatus::THROTTLED, 99, out);
        let answers = frames(out);
        assert_eq!(&answers[0].body[..], b"abc\0", "3.4 knows no congestion_state");
        assert_eq!(
            (answers[0].command_id, answers[0].command_status, answers[0].sequence),
            (command_id | RESPONSE, 0, 9)
        );
        assert_eq!((answers[1].command_id, answers[1].command_status), (command_id | RESPONSE, 0x58));
        assert_eq!((answers[1].sequence, answers[1].body.len()), (8, 0));
    }
    // Bound once is bound.
    link.receive(frame(&Pdu::bind(command::BIND_RECEIVER, 3, Bind::default())), at(1), out).unwrap();
    assert_eq!(said(out), [(command::BIND_RECEIVER | RESPONSE, 0x05, 3)]);
    // What is not done here.
    for command_id in [0x03, 0x07, 0x08, 0x21] {
        link.receive(raw(command_id, 0, 4, b""), at(1), out).unwrap();
        assert_eq!(said(out), [(command::GENERIC_NACK, 0x03, 4)], "{command_id:#x}");
    }
}

#[test]
fn a_peer_of_5_0_is_told_so_and_how_near_it_is_to_being_throttled() {
    let out = &mut BytesMut::new();
    for (interface_version, version, says) in [(0x33, 0x34, None), (0x34, 0x34, None), (0x50, 0x50, Some(70))] {
        let bind = Bind { interface_version, ..Bind::default() };
        let step = Open::new().receive(frame(&Pdu::bind(command::BIND_TRANSMITTER, 5, bind)), out);
        let Ok(OpenStep::Bind(request)) = step else { panic!() };
        let mut link = request.accept(COctets::default(), SETTINGS, at(0), out);
        let Ok(Body::BindResp(resp)) = Pdu::decode(frames(out).remove(0)).map(Pdu::into_body) else { panic!() };
        assert_eq!(resp.version(), Some(version));
        for command_id in [command::SUBMIT_SM, command::DATA_SM] {
            let request = Request { command_id, sequence: 9 };
            link.taken(request, &Yes, COctets::default(), 70, out);
            link.refused(request, CommandStatus::THROTTLED, 70, out);
        }
        for answer in frames(out) {
            let (Body::SubmitSmResp(resp) | Body::DataSmResp(resp)) = Pdu::decode(answer).unwrap().into_body() else {
                panic!()
            };
            assert_eq!(resp.congestion_state(), says, "{interface_version:#x}");
        }
    }
}

#[test]
fn deliveries_keep_to_the_window_and_overdue_ones_are_told() {
    let out = &mut BytesMut::new();
    let mut link = bound(Mode::Transceiver, out);
    let deliver = |link: &mut Bound, now| link.deliver_sm(ShortMessage::default(), at(now), &mut BytesMut::new());
    let (first, second) = (deliver(&mut link, 0).unwrap(), deliver(&mut link, 1).unwrap());
    assert_ne!(first, second);
    assert_eq!((deliver(&mut link, 1), link.free(), link.awaited()), (Err(WindowFull), 0, 2));
    let answer = |sequence, status| raw(command::DELIVER_SM | RESPONSE, status, sequence, b"\0");
    assert_eq!(
        link.receive(answer(second, 0x64), at(2), out),
        Ok(Event::Answer { sequence: second, status: CommandStatus(0x64) })
    );
    assert_eq!(link.receive(answer(second, 0), at(2), out), Ok(Event::Nothing), "an answer to nothing");
    assert_eq!(link.wakeup(), at(10));
    assert_eq!(link.tick(at(10), out), Ok(vec![first]));
    assert_eq!(link.free(), 1, "its slot stays taken");
    let nack = |status| raw(command::GENERIC_NACK, status, first, b"");
    assert_eq!(
        link.receive(nack(0), at(11), out),
        Ok(Event::Answer { sequence: first, status: CommandStatus::SYSTEM_ERROR })
    );
}

#[test]
fn a_silent_peer_is_asked_and_given_up() {
    let out = &mut BytesMut::new();
    let mut link = bound(Mode::Transmitter, out);
    assert_eq!(link.wakeup(), at(30));
    assert_eq!(link.tick(at(30), out), Ok(vec![]));
    let asked = said(out);
    assert_eq!(asked.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [command::ENQUIRE_LINK]);
    let mut alive = bound(Mode::Transmitter, out);
    alive.tick(at(30), out).unwrap();
    alive.receive(raw(command::ENQUIRE_LINK | RESPONSE, 0, 2, b""), at(31), out).unwrap();
    assert_eq!(alive.tick(at(40), out), Ok(vec![]));
    assert_eq!(link.tick(at(40), out), Err(PeerFault::Silent));
}

#[test]
fn nonsense_without_end_is_given_up() {
    let out = &mut BytesMut::new();
    let mut link = bound(Mode::Transmitter, out);
    let nonsense = || raw(0x7777, 0, 1, b"");
    for _ in 0..MISTAKES_MAX {
        assert_eq!(link.receive(nonsense(), at(1), out), Ok(Event::Nothing));
    }
    assert_eq!(link.receive(nonsense(), at(1), out), Err(PeerFault::Mistakes));
    let mut open = Open::new();
    for _ in 0..MISTAKES_MAX {
        open = match open.receive(nonsense(), out) {
            Ok(OpenStep::Open(open)) => open,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(open.receive(nonsense(), out).map(|_| ()), Err(PeerFault::Mistakes));
}

#[test]
fn unbinding_waits_for_its_answer_or_the_peers_own_wish() {
    let out = &mut BytesMut::new();
    let unbinding = bound(Mode::Transceiver, out).unbind(out);
    let (id, _, sequence) = said(out).remove(0);
    assert_eq!(id, command::UNBIND);
    assert!(!unbinding.receive(&frame(&Pdu::submit_sm(9, ShortMessage::default())), out));
    assert!(out.is_empty(), "not answered");
    assert!(!unbinding.receive(&raw(command::UNBIND | RESPONSE, 0, sequence + 1, b""), out));
    assert!(unbinding.receive(&raw(command::UNBIND | RESPONSE, 0, sequence, b""), out));
    assert!(unbinding.receive(&frame(&Pdu::unbind(3)), out));
    assert_eq!(said(out), [(command::UNBIND | RESPONSE, 0, 3)]);
}

proptest! {
    #[test]
    fn no_octets_panic_and_nothing_is_submitted_without_a_bind(
        frames in proptest::collection::vec((
            prop_oneof![any::<u32>(), Just(1), Just(2), Just(4), Just(6), Just(9), Just(0x15), Just(0x103), Just(0x8000_0005u32)],
            any::<u32>(),
            0u32..5,
            proptest::collection::vec(any::<u8>(), 0..60),
        ), 0..20),
    ) {
        let out = &mut BytesMut::new();
        let mut octets = BytesMut::new();
        for (id, status, sequence, body) in &frames {
            put_frame(&mut octets, *id, *status, *sequence, |out| out.extend_from_slice(body));
        }
        let mut framer = Framer::new();
        framer.extend(&octets);
        let mut open = Some(Open::new());
        let mut link = bound(Mode::Receiver, &mut BytesMut::new());
        while let Some(frame) = framer.next_frame().unwrap() {
            open = match open.map(|open| open.receive(frame.clone(), out)) {
                Some(Ok(OpenStep::Open(open))) => Some(open),
                Some(Ok(OpenStep::Bind(request))) => Some(request.refuse(CommandStatus::BIND_FAILED, out)),
                _ => None,
            };
            let submitted = matches!(link.receive(frame, at(1), out), Ok(Event::Submission { .. }));
            prop_assert!(!submitted);
            let yes = [command::SUBMIT_SM, command::DATA_SM].map(|id| (id | RESPONSE, CommandStatus::OK.0));
            prop_assert!(said(out).iter().all(|(id, status, _)| !yes.contains(&(*id, *status))), "no yes");
        }
    }
}
