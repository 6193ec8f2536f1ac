//! What a PDU's header holds: its length, its command, its sequence number of three words.
//!
//! The cutting is [`framing`]'s.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::Sequence;
use crate::limits::SGIP_PDU_BYTES_MAX;
use crate::wire::framing::{self, Framed};

/// Octets of a PDU's header.
pub const HEADER_BYTES: usize = 20;

/// One PDU: its header's fields and its body, not yet understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub command_id: u32,
    /// What joins a request and its answer.
    pub sequence: Sequence,
    /// Everything behind the header.
    pub body: Bytes,
}

/// A length that cannot be true. The link cannot go on: nobody knows where the next PDU starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError {
    /// Message_Length as received.
    pub message_length: u32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.message_length;
        write!(f, "Message_Length {length} is not between {HEADER_BYTES} and {SGIP_PDU_BYTES_MAX}")
    }
}

impl std::error::Error for FrameError {}

/// Collects octets and gives out frames.
pub type Framer = framing::Framer<Frame>;

impl Framed for Frame {
    const HEADER_BYTES: usize = HEADER_BYTES;
    const BYTES_MAX: usize = SGIP_PDU_BYTES_MAX;
    type BadLength = FrameError;

    fn bad_length(message_length: u32) -> FrameError {
        FrameError { message_length }
    }

    fn of(mut rest: Bytes) -> Self {
        let command_id = rest.get_u32();
        let (node, time, counter) = (rest.get_u32(), rest.get_u32(), rest.get_u32());
        Self { command_id, sequence: Sequence { node, time, counter }, body: rest }
    }
}

/// Writes one PDU: the header, then whatever `body` writes; the length is filled in behind it.
pub(super) fn put_frame(out: &mut BytesMut, command_id: u32, sequence: Sequence, body: impl FnOnce(&mut BytesMut)) {
    framing::put::<Frame>(out, &[command_id, sequence.node, sequence.time, sequence.counter], body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_checked_before_anything_is_stored() {
        let most = u32::try_from(SGIP_PDU_BYTES_MAX).unwrap();
        for bad in [0, 19, most + 1, u32::MAX] {
            let mut framer = Framer::new();
            framer.extend(&bad.to_be_bytes());
            assert_eq!(framer.next_frame(), Err(FrameError { message_length: bad }));
        }
        for good in [20, most] {
            let mut framer = Framer::new();
            framer.extend(&good.to_be_bytes());
            assert_eq!(framer.next_frame(), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_wherever_the_stream_is_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in 0usize..300,
        ) {
            let mut stream = BytesMut::new();
            for (counter, body) in (0..).zip(&bodies) {
                put_frame(&mut stream, 4, Sequence { node: u32::MAX, time: 7, counter }, |out| out.extend_from_slice(body));
            }
            let (head, tail) = stream.split_at(cut.min(stream.len()));
            let (mut framer, mut seen) = (Framer::new(), Vec::new());
            for piece in [head, tail] {
                framer.extend(piece);
                while let Some(frame) = framer.next_frame().unwrap() {
                    prop_assert_eq!(frame.sequence, Sequence { node: u32::MAX, time: 7, counter: seen.len() as u32 });
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
        }
    }
}
