//! Whatever a service provider sends and however it is cut up, the gateway's side comes to the same events, the same answers and the
//! same end; nothing is submitted before a login, and nothing is brought beyond the window.
#![no_main]

use std::error::Error;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::wire::cmpp::server::{Bound, Event, Open, OpenStep};
use postrider::wire::cmpp::session::Settings;
use postrider::wire::cmpp::{ConnectStatus, Deliver, Framer, MsgId};
use postrider_fuzz::{Taken, slices};

const WINDOW: usize = 4;
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
    let settings = Settings { window: WINDOW, ..Settings::default() };
    let mut framer = Framer::new();
    let mut link = Link::Open(Open::new());
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            link = match link {
                Link::Open(open) => match open.receive(frame, out)? {
                    OpenStep::Open(open) => Link::Open(open),
                    OpenStep::Terminated => return Ok(()),
                    OpenStep::Connect(request) => {
                        let _ = request.proves(b"888888");
                        let Some(version) = request.version() else {
                            request.refuse(ConnectStatus::VERSION_TOO_HIGH, out);
                            return Ok(());
                        };
                        Link::Bound(request.accept(b"888888", version, settings, NOW, out))
                    }
                },
                Link::Bound(mut bound) => {
                    events.push(bound.receive(frame, NOW, out)?);
                    match events.last() {
                        Some(Event::Submission { sequence, .. }) => bound.taken(*sequence, &Taken, MsgId(7), out),
                        Some(Event::Terminated) => return Ok(()),
                        _ => {}
                    }
                    Link::Bound(bound)
                }
            };
            if let Link::Bound(bound) = &mut link {
                while bound.deliver(Deliver::default(), NOW, out).is_ok() {}
                assert_eq!(bound.free(), 0);
            }
        }
    }
    Ok(())
}
