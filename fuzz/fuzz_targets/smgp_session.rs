//! Whatever a gateway sends and however it is cut up, a link comes to the same events, the same answers and the same end; no
//! more is ever unanswered than the window holds, nothing at all on a link that receives, and an answer completes only what was
//! submitted.
#![no_main]

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::clock::Mono;
use postrider::model::Secret;
use postrider::wire::smgp::auth::NameForm;
use postrider::wire::smgp::session::{Bound, Event, Login, LoginStep, Open, Settings};
use postrider::wire::smgp::time::LoginTime;
use postrider::wire::smgp::{Framer, LoginMode, Octets, Submit, Version};
use postrider_fuzz::slices;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings =
    Settings { window: 4, active_test_interval: SECOND, response_timeout: SECOND, active_tests_max: 3 };
const NOW: Mono = Mono(0);

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    for mode in [LoginMode::Both, LoginMode::Receive] {
        assert_eq!(run(mode, &[input]), run(mode, &slices(seed, input).collect::<Vec<_>>()));
    }
});

/// What was written, what happened, and how it ended.
fn run(mode: LoginMode, input: &[&[u8]]) -> (BytesMut, Vec<Event>, String) {
    let (mut out, mut events) = Default::default();
    let end = receive(mode, input, &mut out, &mut events);
    (out, events, format!("{end:?}"))
}

fn receive(
    mode: LoginMode,
    input: &[&[u8]],
    out: &mut BytesMut,
    events: &mut Vec<Event>,
) -> Result<(), Box<dyn Error>> {
    let (name, secret) = (Octets::default(), Secret::new(""));
    let login = Login { name, secret, form: NameForm::Bare, mode, version: Version::V30 };
    let window = if mode.submits() { SETTINGS.window } else { 0 };
    let mut framer = Framer::new();
    let mut link = LoginStep::LoggingIn(Open::new(SETTINGS).log_in(login, LoginTime(0), out));
    for slice in input {
        framer.extend(slice);
        while let Some(frame) = framer.next_frame()? {
            link = match link {
                LoginStep::LoggingIn(logging_in) => logging_in.receive(frame, NOW, out)?,
                LoginStep::Bound { mut bound, gateway_authentic } => {
                    events.push(bound.receive(frame, NOW, out)?);
                    let answers = matches!(events.last(), Some(Event::Answer { .. }));
                    assert_eq!(bound.awaited() + usize::from(answers), window);
                    LoginStep::Bound { bound, gateway_authentic }
                }
            };
            if let LoginStep::Bound { bound, .. } = &mut link {
                fill(bound, window, out);
            }
        }
    }
    Ok(())
}

fn fill(bound: &mut Bound, window: usize, out: &mut BytesMut) {
    while bound.submit(Submit::default(), NOW, out).is_ok() {}
    assert_eq!((bound.free(), bound.awaited()), (0, window));
}
