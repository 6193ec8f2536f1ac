//! Whatever a gateway sends and however it is cut up, a link comes to the same events, the same answers and the same end, whichever
//! side has made it. On one of ours no more is ever unanswered than the window holds, and an answer completes only what was
//! submitted; on one of the gateway's nothing is brought before it was admitted.
#![no_main]

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::model::Secret;
use postrider::wire::sgip::session::{AwaitBind, Binding, Bound, Event, Login, Open, Receiving, Settings};
use postrider::wire::sgip::time::LoginTime;
use postrider::wire::sgip::{Framer, Octets, Sequences, SgipResult, Submit};
use postrider_fuzz::slices;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings = Settings { window: 4, response_timeout: SECOND, idle: SECOND };
const NOW: Mono = Mono(0);
const NODE: u32 = 3_010_012_345;
const TIME: LoginTime = LoginTime(1_127_000_000);

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    for link in [submitting as Link, receiving] {
        assert_eq!(run(link, &[input]), run(link, &slices(seed, input).collect::<Vec<_>>()));
    }
});

/// What a link makes of what is sent: events, as they are shown, and octets.
type Link = fn(&[&[u8]], &mut BytesMut, &mut Vec<String>) -> Result<(), Box<dyn Error>>;

/// What was written, what happened, and how it ended.
fn run(link: Link, input: &[&[u8]]) -> (BytesMut, Vec<String>, String) {
    let (mut out, mut events) = Default::default();
    let end = link(input, &mut out, &mut events);
    (out, events, format!("{end:?}"))
}

enum Ours {
    Binding(Binding),
    Bound(Bound),
}

/// One of ours.
fn submitting(input: &[&[u8]], out: &mut BytesMut, events: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let sequences = Sequences::new(1);
    let login = Login { name: Octets::default(), password: Secret::new("") };
    let mut framer = Framer::new();
    let mut link = Ours::Binding(Open::new(SETTINGS).bind(&login, sequences.next(NODE, TIME), out)?);
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            let mut bound = match link {
                Ours::Binding(binding) => binding.receive(frame, NOW)?,
                Ours::Bound(mut bound) => {
                    let event = bound.receive(frame, NOW, out)?;
                    let answers = matches!(event, Event::Answer { .. });
                    assert_eq!(bound.awaited() + usize::from(answers), SETTINGS.window);
                    events.push(format!("{event:?}"));
                    bound
                }
            };
            while bound.submit(Submit::default(), &sequences, TIME, NOW, out).is_ok() {}
            assert_eq!((bound.free(), bound.awaited()), (0, SETTINGS.window));
            link = Ours::Bound(bound);
        }
    }
    Ok(())
}

/// One that the gateway has made.
fn receiving(input: &[&[u8]], out: &mut BytesMut, events: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let (mut framer, mut link) = (Framer::new(), None::<Receiving>);
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            match &mut link {
                None => link = Some(AwaitBind.receive(frame, |_| SgipResult::OK, out)?),
                Some(session) => events.push(format!("{:?}", session.receive(frame, out)?)),
            }
        }
    }
    Ok(())
}
