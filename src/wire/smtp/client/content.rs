//! The message as slices to write: dot-stuffed for DATA (RFC 5321 section 4.5.2), as it is for BDAT (RFC 3030).
//!
//! **Promises.** No byte of the message is copied; nothing but [`MailData`] is taken, so no peer can be made to see the end
//! of the data where it is not. Memory is constant: at most [`SLICES`] slices of bounded length are looked
//! ahead, so that the first bytes leave before a large message has been searched to its end.
//!
//! The pieces must be read as one message: a signature block in front, then the message. A last line without CRLF gets one.

use std::io::IoSlice;

use memchr::memmem;

use crate::model::MailData;

/// Slices offered to one write.
pub const SLICES: usize = 32;

/// Longest slice: what a socket takes at once is less.
const SLICE_BYTES_MAX: usize = 256 * 1024;

/// Slices that have been worked out and not been written yet.
#[derive(Debug)]
struct Window<'a> {
    slices: [&'a [u8]; SLICES],
    first: usize,
    end: usize,
}

impl<'a> Window<'a> {
    fn new() -> Self {
        Self { slices: [&[]; SLICES], first: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Room for the two slices that a stuffed line needs.
    fn has_room(&self) -> bool {
        self.end + 2 <= SLICES
    }

    fn push(&mut self, slice: &'a [u8]) {
        if !slice.is_empty() {
            self.slices[self.end] = slice;
            self.end += 1;
        }
    }

    fn fill<'s>(&self, out: &mut [IoSlice<'s>]) -> usize
    where
        'a: 's,
    {
        let waiting = &self.slices[self.first..self.end];
        for (slot, slice) in out.iter_mut().zip(waiting) {
            *slot = IoSlice::new(slice);
        }
        waiting.len().min(out.len())
    }

    /// Drops `bytes` from the front.
    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 && self.first < self.end {
            let slice = &mut self.slices[self.first];
            let taken = bytes.min(slice.len());
            *slice = &slice[taken..];
            bytes -= taken;
            if slice.is_empty() {
                self.first += 1;
            }
        }
        if self.is_empty() {
            (self.first, self.end) = (0, 0);
        }
    }
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing<'a> {
    window: Window<'a>,
    /// What has not been searched, piece by piece.
    rest: [&'a [u8]; 2],
    /// The next byte to be searched begins a line.
    at_line_start: bool,
    ended: bool,
}

impl<'a> Outgoing<'a> {
    /// The data of a DATA command, dots stuffed and the end of data included: the signature block, if any, and the message.
    pub fn dot_stuffed(signature: Option<&'a MailData>, message: &'a MailData) -> Self {
        Self {
            window: Window::new(),
            rest: [signature.map_or(&[][..], |s| s.bytes()), message.bytes()],
            at_line_start: true,
            ended: false,
        }
    }

    /// The data of a single BDAT chunk, with the commands that go in front of it.
    pub fn chunk(commands: &'a [u8], signature: Option<&'a MailData>, message: &'a MailData) -> Self {
        let mut window = Window::new();
        window.push(commands);
        window.push(signature.map_or(&[][..], |s| s.bytes()));
        window.push(message.bytes());
        if !ends_with_line(signature, message) {
            window.push(b"\r\n");
        }
        Self { window, rest: [&[]; 2], at_line_start: false, ended: true }
    }

    /// Puts the next slices to write into `out` and says how many; zero once all has been written.
    pub fn slices<'s>(&mut self, out: &mut [IoSlice<'s>]) -> usize
    where
        'a: 's,
    {
        if self.window.is_empty() {
            while self.window.has_room() && !self.ended {
                self.look_ahead();
            }
        }
        self.window.fill(out)
    }

    /// `bytes` of the slices have been written.
    pub fn advance(&mut self, bytes: usize) {
        self.window.advance(bytes);
    }

    fn look_ahead(&mut self) {
        let Some(rest) = self.rest.iter_mut().find(|piece| !piece.is_empty()) else {
            self.window.push(if self.at_line_start { b".\r\n" } else { b"\r\n.\r\n" });
            self.ended = true;
            return;
        };
        if self.at_line_start && rest[0] == b'.' {
            self.window.push(b".");
        }
        let near = &rest[..rest.len().min(SLICE_BYTES_MAX)];
        // MailData has no bare LF, so LF-dot is CRLF-dot, and only one byte can be on the other side of a boundary.
        let taken = memmem::find(near, b"\n.").map_or(near.len(), |at| at + 1);
        self.window.push(&near[..taken]);
        self.at_line_start = near[taken - 1] == b'\n';
        *rest = &rest[taken..];
    }
}

/// Bytes of the message as it is sent, stuffed dots and the end of data not counted (RFC 1870 section 3).
pub fn sent_bytes(signature: Option<&MailData>, message: &MailData) -> u64 {
    let line_end = if ends_with_line(signature, message) { 0 } else { 2 };
    (signature.map_or(0, MailData::len) + message.len() + line_end) as u64
}

/// True if the last line, if there is any, has its CRLF.
fn ends_with_line(signature: Option<&MailData>, message: &MailData) -> bool {
    let last = if message.is_empty() { signature.map_or(&[][..], |s| s.bytes()) } else { message.bytes() };
    last.is_empty() || last.ends_with(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn mail(bytes: &[u8]) -> MailData {
        MailData::new(Bytes::copy_from_slice(bytes)).unwrap()
    }

    /// Writes as a socket does: `most` bytes at a time.
    fn written(mut stuffed: Outgoing<'_>, most: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let (mut out, mut most) = (Vec::new(), most.into_iter());
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = stuffed.slices(&mut slices);
            if n == 0 {
                return out;
            }
            let mut room = most.next().unwrap_or(usize::MAX);
            let before = out.len();
            for slice in &slices[..n] {
                let taken = slice.len().min(room);
                out.extend_from_slice(&slice[..taken]);
                room -= taken;
            }
            stuffed.advance(out.len() - before);
        }
    }

    fn stuffed(message: &[u8]) -> String {
        String::from_utf8(written(Outgoing::dot_stuffed(None, &mail(message)), [])).unwrap()
    }

    /// RFC 5321 section 4.5.2, as a receiver does it: line by line.
    fn destuffed(wire: &[u8]) -> Vec<u8> {
        let body = wire.strip_suffix(b".\r\n").expect("end of data");
        assert!(body.is_empty() || body.ends_with(b"\r\n"));
        let mut out = Vec::new();
        for line in body.split_inclusive(|b| *b == b'\n') {
            assert_ne!(line, b".\r\n", "the end of data came early");
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        out
    }

    #[test]
    fn dots_are_stuffed_at_line_starts_only() {
        for (message, wire) in [
            (&b""[..], ".\r\n"),
            (b"\r\n", "\r\n.\r\n"),
            (b"a\r\n", "a\r\n.\r\n"),
            (b"a", "a\r\n.\r\n"),
            (b".", "..\r\n.\r\n"),
            (b".\r\n", "..\r\n.\r\n"),
            (b"..\r\n.\r\n", "...\r\n..\r\n.\r\n"),
            (b"a.b\r\n.c\r\n\r\n.\r\n", "a.b\r\n..c\r\n\r\n..\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(message), wire);
        }
    }

    #[test]
    fn a_signature_goes_in_front_and_the_line_state_is_carried_over() {
        let both = |signature: &[u8], message: &[u8]| {
            let (signature, message) = (mail(signature), mail(message));
            String::from_utf8(written(Outgoing::dot_stuffed(Some(&signature), &message), [])).unwrap()
        };
        assert_eq!(both(b"S: 1\r\n", b".a\r\n"), "S: 1\r\n..a\r\n.\r\n");
        assert_eq!(both(b"", b".a\r\n"), "..a\r\n.\r\n");
        assert_eq!(both(b"S: 1", b".a\r\n"), "S: 1.a\r\n.\r\n");
        assert_eq!(both(b"S: 1\r\n", b""), "S: 1\r\n.\r\n");
    }

    #[test]
    fn nothing_to_stuff_needs_two_slices() {
        let message = mail(b"Subject: x\r\n\r\nhello\r\n");
        let mut data = Outgoing::dot_stuffed(None, &message);
        let mut slices = [IoSlice::new(&[]); SLICES];
        assert_eq!(data.slices(&mut slices), 2);
        assert_eq!(slices[0].as_ptr(), message.bytes().as_ptr(), "the body itself, no copy of it");
    }

    #[test]
    fn a_dot_behind_the_border_of_two_slices_is_stuffed() {
        for before in SLICE_BYTES_MAX - 4..SLICE_BYTES_MAX + 4 {
            let mut message = vec![b'a'; before];
            message.extend_from_slice(b"\r\n.b\r\n");
            let wire = written(Outgoing::dot_stuffed(None, &mail(&message)), []);
            assert!(wire.ends_with(b"a\r\n..b\r\n.\r\n"), "{before}");
            assert_eq!(destuffed(&wire), message);
        }
    }

    #[test]
    fn a_message_of_dots_takes_no_memory() {
        let message = b".\r\n".repeat(10_000);
        assert_eq!(destuffed(&written(Outgoing::dot_stuffed(None, &mail(&message)), [])), message);
    }

    #[test]
    fn a_chunk_is_the_message_and_its_size_is_right() {
        for (signature, message, wire) in
            [(&b"S: 1\r\n"[..], &b".a\r\n"[..], &b"S: 1\r\n.a\r\n"[..]), (b"", b"a", b"a\r\n"), (b"", b"", b"")]
        {
            let (signature, message) = (mail(signature), mail(message));
            let mut chunk = Outgoing::chunk(b"BDAT ", Some(&signature), &message);
            let mut out = Vec::new();
            loop {
                let mut slices = [IoSlice::new(&[]); SLICES];
                if chunk.slices(&mut slices) == 0 {
                    break;
                }
                out.push(slices[0][0]);
                chunk.advance(1);
            }
            assert_eq!(out, [b"BDAT ", wire].concat());
            assert_eq!(sent_bytes(Some(&signature), &message), wire.len() as u64);
        }
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![Just(&b"."[..]), Just(&b"\r\n"[..]), Just(&b"a"[..]), Just(&b"\r\n."[..])];
        proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn destuffing_gives_the_message_back(message in lines(), cuts in proptest::collection::vec(1usize..6, 0..200)) {
            let wire = written(Outgoing::dot_stuffed(None, &mail(&message)), cuts);
            let mut whole = message.clone();
            if !whole.is_empty() && !whole.ends_with(b"\n") {
                whole.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(destuffed(&wire), whole);
        }

        #[test]
        fn two_pieces_are_stuffed_as_one(a in lines(), b in lines()) {
            let apart = written(Outgoing::dot_stuffed(Some(&mail(&a)), &mail(&b)), []);
            let joined = mail(&[a, b].concat());
            prop_assert_eq!(apart, written(Outgoing::dot_stuffed(None, &joined), []));
        }
    }
}
