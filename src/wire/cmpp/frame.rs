//! Framing: from a byte stream, cut anywhere, to whole PDUs (C3 section 8.2).
//!
//! **Promises.** Holds at most one incomplete PDU beside what was read last. Total_Length is checked as soon as its four
//! octets are there, so a hostile length costs no memory.
//!
//! **Fails how.** A length that cannot be true stays an error: a peer that says 13 and sends 16 octets, as some do, is found
//! out at its next PDU.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::CMPP_PDU_BYTES_MAX;

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
    /// Total_Length as received.
    pub total_length: u32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.total_length;
        write!(f, "Total_Length {length} is not between {HEADER_BYTES} and {CMPP_PDU_BYTES_MAX}")
    }
}

impl std::error::Error for FrameError {}

/// Collects octets and gives out frames.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
}

impl Framer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next read goes, with room for at least 4 KiB. Take all frames out before reading again.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(4096);
        &mut self.buffer
    }

    /// Adds octets.
    pub fn extend(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next whole frame; `None` until more octets come.
    ///
    /// # Errors
    /// [`FrameError`]; it stays so for every further call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(octets) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let total_length = u32::from_be_bytes(*octets);
        let length = usize::try_from(total_length).unwrap_or(usize::MAX);
        if !(HEADER_BYTES..=CMPP_PDU_BYTES_MAX).contains(&length) {
            return Err(FrameError { total_length });
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut pdu = self.buffer.split_to(length).freeze();
        pdu.advance(4);
        let (command_id, sequence) = (pdu.get_u32(), pdu.get_u32());
        Ok(Some(Frame { command_id, sequence, body: pdu }))
    }
}

/// Writes one PDU: the header, then whatever `body` writes; the length is filled in behind it.
pub(super) fn put_frame(out: &mut BytesMut, command_id: u32, sequence: u32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.reserve(HEADER_BYTES);
    out.put_u32(0);
    out.put_u32(command_id);
    out.put_u32(sequence);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    debug_assert!(out.len() - start <= CMPP_PDU_BYTES_MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_checked_before_anything_is_stored() {
        let most = u32::try_from(CMPP_PDU_BYTES_MAX).unwrap();
        for bad in [0, 11, most + 1, u32::MAX] {
            let mut framer = Framer::new();
            framer.extend(&bad.to_be_bytes());
            assert_eq!(framer.next_frame(), Err(FrameError { total_length: bad }));
            framer.extend(&[0; 64]);
            assert_eq!(framer.next_frame(), Err(FrameError { total_length: bad }), "no way on after a bad length");
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
