//! What a PDU's header holds: its length, its command, its sequence number.
//!
//! The cutting is [`framing`]'s.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::GATEWAY_PDU_BYTES_MAX;
use crate::wire::framing::{self, Framed};

/// Octets of a PDU's header.
pub const HEADER_BYTES: usize = 12;

/// One PDU: its header's fields and its body, not yet understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub command_id: u32,
    /// What joins a request and its answer.
    pub sequence: u32,
    /// Everything behind the header.
    pub body: Bytes,
}

/// A length that cannot be true. The link cannot go on: nobody knows where the next PDU starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError {
    /// The length as received.
    pub length: u32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length;
        write!(f, "a PDU's length of {length} is not between {HEADER_BYTES} and {GATEWAY_PDU_BYTES_MAX}")
    }
}

impl std::error::Error for FrameError {}

/// Collects octets and gives out frames.
pub type Framer = framing::Framer<Frame>;

impl Framed for Frame {
    const HEADER_BYTES: usize = HEADER_BYTES;
    const BYTES_MAX: usize = GATEWAY_PDU_BYTES_MAX;
    type BadLength = FrameError;

    fn bad_length(length: u32) -> FrameError {
        FrameError { length }
    }

    fn of(mut rest: Bytes) -> Self {
        let (command_id, sequence) = (rest.get_u32(), rest.get_u32());
        Self { command_id, sequence, body: rest }
    }
}

/// Writes one PDU: the header, then whatever `body` writes; the length is filled in behind it.
pub(in crate::wire) fn put_frame(out: &mut BytesMut, command_id: u32, sequence: u32, body: impl FnOnce(&mut BytesMut)) {
    framing::put::<Frame>(out, &[command_id, sequence], body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_checked_before_anything_is_stored() {
        let most = u32::try_from(GATEWAY_PDU_BYTES_MAX).unwrap();
        for bad in [0, 11, most + 1, u32::MAX] {
            let mut framer = Framer::new();
            framer.extend(&bad.to_be_bytes());
            assert_eq!(framer.next_frame(), Err(FrameError { length: bad }));
            framer.extend(&[0; 64]);
            assert_eq!(framer.next_frame(), Err(FrameError { length: bad }), "no way on after a bad length");
        }
        for good in [12, most] {
            let mut framer = Framer::new();
            framer.extend(&good.to_be_bytes());
            assert_eq!(framer.next_frame(), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_wherever_the_stream_is_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            cuts in proptest::collection::vec(0usize..300, 0..6),
        ) {
            let mut stream = BytesMut::new();
            for (i, body) in bodies.iter().enumerate() {
                put_frame(&mut stream, 4, u32::try_from(i).unwrap() + 1, |out| out.extend_from_slice(body));
            }
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([stream.len()]).collect();
            ends.sort_unstable();
            let (mut framer, mut seen, mut from) = (Framer::new(), Vec::new(), 0);
            for end in ends {
                framer.extend(&stream[from..end]);
                from = end;
                while let Some(frame) = framer.next_frame().unwrap() {
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn arbitrary_octets_neither_panic_nor_loop(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut framer = Framer::new();
            for octet in octets {
                framer.extend(&[octet]);
                while let Ok(Some(_)) = framer.next_frame() {}
            }
        }
    }
}
