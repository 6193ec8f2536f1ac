//! Whatever a gateway sends and however it is cut up, a link comes to the same events, the same answers and the same end; no
//! more is ever unanswered than the window holds, and an answer completes only what was submitted.
#![no_main]

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::model::Secret;
use postrider::wire::cmpp::auth::NameForm;
use postrider::wire::cmpp::session::{Bound, ConnectStep, Event, Login, Open, Settings};
use postrider::wire::cmpp::time::LoginTime;
use postrider::wire::cmpp::{Framer, Octets, Submit, Version};
use postrider_fuzz::slices;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings =
    Settings { window: 4, active_test_interval: SECOND, response_timeout: SECOND, active_tests_max: 3 };
const NOW: Mono = Mono(0);

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    for version in [Version::V2, Version::V3] {
        assert_eq!(run(version, &[input]), run(version, &slices(seed, input).collect::<Vec<_>>()));
    }
});

/// What was written, what happened, and how it ended.
fn run(version: Version, input: &[&[u8]]) -> (BytesMut, Vec<Event>, String) {
    let (mut out, mut events) = Default::default();
    let end = receive(version, input, &mut out, &mut events);
    (out, events, format!("{end:?}"))
}

fn receive(
    version: Version,
    input: &[&[u8]],
    out: &mut BytesMut,
    events: &mut Vec<Event>,
) -> Result<(), Box<dyn Error>> {
    let login = Login { name: Octets::default(), secret: Secret::new(""), form: NameForm::Bare, version };
    let mut framer = Framer::new();
    let mut link = ConnectStep::Connecting(Open::new(SETTINGS).connect(login, LoginTime(0), out));
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            link = match link {
                ConnectStep::Connecting(connecting) => connecting.receive(frame, NOW, out)?,
                ConnectStep::Bound { mut bound, gateway_authentic } => {
                    events.push(bound.receive(frame, NOW, out)?);
                    let answers = matches!(events.last(), Some(Event::Answer { .. }));
                    assert_eq!(bound.awaited(), SETTINGS.window - usize::from(answers));
                    ConnectStep::Bound { bound, gateway_authentic }
                }
            };
            if let ConnectStep::Bound { bound, .. } = &mut link {
                fill(bound, out);
            }
        }
    }
    Ok(())
}

fn fill(bound: &mut Bound, out: &mut BytesMut) {
    while bound.submit(Submit::default(), NOW, out).is_ok() {}
    assert_eq!((bound.free(), bound.awaited()), (0, SETTINGS.window));
}
