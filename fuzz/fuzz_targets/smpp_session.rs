//! Whatever a carrier sends and however it is cut up, a link comes to the same events, the same answers and the same end; no
//! more is ever unanswered than the window holds, and an answer completes only what was submitted.
#![no_main]

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::wire::smpp::session::{BindStep, Bound, Event, Open, Settings, Transceiver};
use postrider::wire::smpp::{Bind, Framer, ShortMessage};
use postrider_fuzz::slices;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings = Settings { window: 4, enquire_interval: SECOND, response_timeout: SECOND };
const NOW: Mono = Mono(0);

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    assert_eq!(run(&[input]), run(&slices(seed, input).collect::<Vec<_>>()));
});

/// What was written, what happened, and how it ended.
fn run(input: &[&[u8]]) -> (BytesMut, Vec<Event>, String) {
    let (mut out, mut events) = Default::default();
    let end = receive(input, &mut out, &mut events);
    (out, events, format!("{end:?}"))
}

fn receive(input: &[&[u8]], out: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), Box<dyn Error>> {
    let mut framer = Framer::new();
    let mut link = BindStep::Binding(Open::new(SETTINGS).bind(Bind::default(), NOW, out));
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            link = match link {
                BindStep::Binding(binding) => binding.receive(frame, NOW, out)?,
                BindStep::Bound(mut bound) => {
                    events.push(bound.receive(frame, NOW, out)?);
                    let answers = matches!(events.last(), Some(Event::Answer { .. }));
                    assert_eq!(bound.awaited(), SETTINGS.window - usize::from(answers));
                    BindStep::Bound(bound)
                }
            };
            if let BindStep::Bound(bound) = &mut link {
                fill(bound, out);
            }
        }
    }
    Ok(())
}

fn fill(bound: &mut Bound<Transceiver>, out: &mut BytesMut) {
    while bound.submit_sm(ShortMessage::default(), NOW, out).is_ok() {}
    assert_eq!((bound.free(), bound.awaited()), (0, SETTINGS.window));
}
