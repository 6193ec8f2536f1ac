//! Whatever a client sends and however it is cut up, the server's session ends in the same place: the same replies, the same
//! messages. Each reply line has its code, each message its recipients and nothing but CRLF for a line end.
//!
//! STARTTLS is not on offer, because what was sent behind it is dropped as far as it has come; nor can the discard limit be
//! reached, because it counts what has come so far.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::wire::smtp::server::{Event, LongLines, NegativeReply, Received, Session, Terms, Tls};
use postrider_fuzz::{Taken, is_clean, slices};

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    let terms = Terms {
        message_bytes_max: 2_000,
        recipients_max: 3,
        discard_bytes_max: u64::MAX,
        long_lines: if seed & 1 == 0 { LongLines::Refuse } else { LongLines::Accept },
        tls: Tls::Active,
        auth: true,
        ..Terms::default()
    };
    assert_eq!(run(&terms, std::iter::once(input)), run(&terms, slices(seed, input)));
});

/// Replies and messages, and whether the session is closed, is inside a message, and how far.
fn run<'i>(terms: &Terms, input: impl Iterator<Item = &'i [u8]>) -> (Vec<u8>, Vec<Received>, [usize; 3]) {
    let (mut session, mut buffer, mut messages) = (Session::new(terms.clone()), BytesMut::new(), Vec::new());
    for slice in input {
        buffer.extend_from_slice(slice);
        loop {
            match session.receive(&mut buffer) {
                Event::NeedInput | Event::Closed => break,
                Event::Mail(ask) => ask.accept(),
                Event::Recipient(ask) => ask.accept(),
                Event::Authenticate(ask) if ask.identity().name == "no" => {
                    ask.refuse(&NegativeReply::new(535, (7, 8), "No"))
                }
                Event::Authenticate(ask) => ask.accept(),
                Event::Message(end, received) => {
                    assert!(is_clean(&received.data) && received.data.len() <= terms.message_bytes_max);
                    assert!((1..=terms.recipients_max).contains(&received.recipients.len()));
                    messages.push(received);
                    end.accept(&Taken);
                }
                Event::MessageRefused(_) => {}
                Event::StartTls(_) => unreachable!("TLS is up"),
            }
        }
    }
    let replies = session.output().to_vec();
    let text = std::str::from_utf8(&replies).expect("replies are text");
    for line in text.strip_suffix("\r\n").expect("replies end with CRLF").split("\r\n") {
        assert!(line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && !line.contains(char::is_control), "{line:?}");
    }
    let place = [session.is_closed().into(), session.is_receiving().into(), session.message_bytes()];
    (replies, messages, place)
}
