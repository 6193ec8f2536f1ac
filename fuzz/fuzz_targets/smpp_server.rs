//! Whatever an application sends and however it is cut up, the message centre's side comes to the same events, the same answers and
//! the same end; nothing is submitted before a bind, and nothing is brought beyond the window.
#![no_main]

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::wire::smpp::server::{Bound, Event, Open, OpenStep};
use postrider::wire::smpp::session::Settings;
use postrider::wire::smpp::{COctets, CommandStatus, Framer, ShortMessage};
use postrider_fuzz::{Taken, slices};

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings = Settings { window: 4, enquire_interval: SECOND, response_timeout: SECOND };
const NOW: Mono = Mono(0);

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    assert_eq!(run(&[input]), run(&slices(seed, input).collect::<Vec<_>>()));
});

enum Link {
    Open(Open),
    Bound(Bound),
}

/// What was written, what happened, and how it ended.
fn run(input: &[&[u8]]) -> (BytesMut, Vec<Event>, String) {
    let (mut out, mut events) = Default::default();
    let end = receive(input, &mut out, &mut events);
    (out, events, format!("{end:?}"))
}

fn receive(input: &[&[u8]], out: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), Box<dyn Error>> {
    let mut framer = Framer::new();
    let mut link = Link::Open(Open::new());
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            link = match link {
                Link::Open(open) => match open.receive(frame, out)? {
                    OpenStep::Open(open) => Link::Open(open),
                    OpenStep::Unbound => return Ok(()),
                    // An empty name is nobody's.
                    OpenStep::Bind(request) if request.bind().system_id.is_empty() => {
                        Link::Open(request.refuse(CommandStatus::INVALID_SYSTEM_ID, out))
                    }
                    OpenStep::Bind(request) => Link::Bound(request.accept(COctets::default(), SETTINGS, NOW, out)),
                },
                Link::Bound(mut bound) => {
                    events.push(bound.receive(frame, NOW, out)?);
                    match events.last() {
                        Some(Event::Submission { request, .. }) => {
                            assert!(bound.mode().submits());
                            bound.taken(*request, &Taken, COctets::default(), 0, out);
                        }
                        Some(Event::Unbound) => return Ok(()),
                        _ => {}
                    }
                    Link::Bound(bound)
                }
            };
            if let Link::Bound(bound) = &mut link {
                while bound.deliver_sm(ShortMessage::default(), NOW, out).is_ok() {}
                assert!(bound.awaited() <= SETTINGS.window);
                assert_eq!(bound.free(), 0);
            }
        }
    }
    Ok(())
}
