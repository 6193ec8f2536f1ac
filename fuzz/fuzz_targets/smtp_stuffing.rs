//! What our client sends by DATA or BDAT is what our server takes: octet for octet, but for a last CRLF that was missing; and
//! the command behind it is a command. However few octets each write takes, with or without a signature block.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::wire::smtp::client::{Outgoing, command, sent_bytes};
use postrider::wire::smtp::server::{Event, LongLines, Session, Terms};
use postrider_fuzz::{Taken, mail, written};

fuzz_target!(|input: &[u8]| {
    let Some((&[seed, at], input)) = input.split_first_chunk() else { return };
    let (signature, message) = input.split_at(usize::from(at).min(input.len()));
    let (signature, message) = (mail(signature), mail(message));
    let mut expected = [&signature.bytes()[..], message.bytes()].concat();
    if !expected.is_empty() && !expected.ends_with(b"\n") {
        expected.extend(b"\r\n");
    }
    let signature = Some(&signature).filter(|signature| !signature.is_empty());

    let sent = written(seed, Outgoing::dot_stuffed(signature, &message));
    assert_eq!(taken(b"DATA\r\n", &sent), expected);
    let mut bdat = Vec::new();
    command::bdat_last(sent_bytes(signature, &message), &mut bdat);
    let sent = written(seed, Outgoing::chunk(&bdat, signature, &message));
    assert_eq!(taken(b"", &sent), expected);
});

/// The one message that our server takes before it understands QUIT.
fn taken(command: &[u8], sent: &[u8]) -> Vec<u8> {
    let mut session = Session::new(Terms { long_lines: LongLines::Accept, ..Terms::default() });
    let begin = b"EHLO a\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<a@b.example>\r\n";
    let mut input = BytesMut::from(&[begin, command, sent, b"QUIT\r\n"].concat()[..]);
    let mut messages = Vec::new();
    loop {
        match session.receive(&mut input) {
            Event::Mail(ask) => ask.accept(),
            Event::Recipient(ask) => ask.accept(),
            Event::Message(end, received) => {
                messages.push(received.data.bytes().to_vec());
                end.accept(&Taken);
            }
            Event::Closed => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((messages.len(), input.len()), (1, 0));
    messages.remove(0)
}
