//! Whatever a next hop sends and however it is cut up, the same replies are read and the same fault ends them. A reply has a
//! code from 200 to 599, an enhanced code of its class, and no control character but the line feeds between its lines.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use postrider::model::Reply;
use postrider::wire::smtp::client::{Capabilities, ReplyFault, ReplyParser};
use postrider_fuzz::slices;

fuzz_target!(|input: &[u8]| {
    let Some((&seed, input)) = input.split_first() else { return };
    let whole = run(std::iter::once(input));
    assert_eq!(whole, run(slices(seed, input)));
    for reply in &whole.0 {
        assert!((200..600).contains(&reply.code));
        assert!(reply.enhanced.is_none_or(|status| u32::from(status.class) == reply.code / 100));
        assert!(!reply.text.contains(|c: char| c.is_control() && c != '\n'), "{:?}", reply.text);
        assert!(Capabilities::from_hello(reply).size_max != Some(0));
    }
});

/// The replies, what ended them, and whether the last one is incomplete.
fn run<'i>(input: impl Iterator<Item = &'i [u8]>) -> (Vec<Reply>, Option<ReplyFault>, bool) {
    let (mut parser, mut buffer, mut replies) = (ReplyParser::new(), BytesMut::new(), Vec::new());
    for slice in input {
        buffer.extend_from_slice(slice);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(fault) => return (replies, Some(fault), false),
            }
        }
    }
    (replies, None, parser.is_midway())
}
