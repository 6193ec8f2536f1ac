//! Framing of PDUs that begin with their length: from a byte stream, cut anywhere, to whole PDUs, and back.
//!
//! **Promises.** Holds at most one incomplete PDU beside what was read last. The length is checked as soon as its four octets
//! are there, so a hostile one costs no memory.
//!
//! **Does not know** what stands in a header behind the length.
//!
//! **Fails how.** A length that cannot be true stays an error: a peer that says 13 and sends 16 octets, as some do, is found
//! out at its next PDU.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A protocol's PDU: its header's fields and its body, not yet understood.
pub trait Framed: Sized {
    /// Octets of its header, the length included.
    const HEADER_BYTES: usize;
    /// Octets of a whole one, at most.
    const BYTES_MAX: usize;
    /// A length that cannot be true.
    type BadLength;

    /// What is said of such a length.
    fn bad_length(length: u32) -> Self::BadLength;

    /// From what stands behind the length.
    fn of(rest: Bytes) -> Self;
}

/// Collects octets and gives out frames.
#[derive(Debug)]
pub struct Framer<F> {
    buffer: BytesMut,
    frames: PhantomData<fn() -> F>,
}

impl<F> Default for Framer<F> {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), frames: PhantomData }
    }
}

impl<F: Framed> Framer<F> {
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
    /// The protocol's; it stays so for every further call.
    pub fn next_frame(&mut self) -> Result<Option<F>, F::BadLength> {
        let Some(octets) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let said = u32::from_be_bytes(*octets);
        let length = usize::try_from(said).unwrap_or(usize::MAX);
        if !(F::HEADER_BYTES..=F::BYTES_MAX).contains(&length) {
            return Err(F::bad_length(said));
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut pdu = self.buffer.split_to(length).freeze();
        pdu.advance(4);
        Ok(Some(F::of(pdu)))
    }
}

/// Writes one PDU: the length, the rest of the header, then whatever `body` writes; the length is filled in behind it.
pub(super) fn put<F: Framed>(out: &mut BytesMut, header: &[u32], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.reserve(F::HEADER_BYTES);
    out.put_u32(0);
    header.iter().for_each(|field| out.put_u32(*field));
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    debug_assert!(out.len() - start <= F::BYTES_MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
