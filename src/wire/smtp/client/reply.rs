//! Replies (RFC 5321 section 4.2, RFC 2034), read incrementally.
//!
//! **Promises.** At most `limits::PEER_REPLY_BYTES_MAX` bytes are taken between two calls of [`ReplyParser::renew`], line
//! ends included, finished or not. Lines may end with a bare LF, as some servers write them; a bare CR never ends one.
//! Text comes out as UTF-8 without control characters, so that no reply can forge a line of a log or of a notification.
//!
//! **Fails how.** [`ReplyFault`]; the stream is out of step then and the connection of no further use.

use std::fmt;

use bytes::{Buf, BytesMut};
use memchr::memchr;

use crate::limits::PEER_REPLY_BYTES_MAX;
use crate::model::{EnhancedStatus, Reply};

/// Why a peer's bytes are no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyFault {
    /// A line does not start with a code from 200 to 599 and a space, a hyphen or its end.
    NotAReply,
    /// The lines of one reply carry different codes (RFC 5321 section 4.2.1 forbids it).
    CodesDiffer,
    /// More bytes than any honest peer sends in one transaction.
    TooLong,
    /// A reply came before its command: whatever is said next, it would be taken for the answer to it.
    Unasked,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAReply => "the peer sent something that is no SMTP reply",
            Self::CodesDiffer => "the peer sent a reply whose lines carry different codes",
            Self::TooLong => "the peer's replies are longer than any honest peer's",
            Self::Unasked => "the peer answered what it had not been asked",
        })
    }
}

impl std::error::Error for ReplyFault {}

/// Reads replies out of a buffer that the caller fills.
#[derive(Debug)]
pub struct ReplyParser {
    /// Bytes that may still be taken before the next [`ReplyParser::renew`].
    budget: usize,
    /// Bytes at the front of the buffer already known to hold no LF.
    scanned: usize,
    /// The lines so far of a reply whose last line has not come.
    open: Option<Reply>,
}

impl ReplyParser {
    /// A parser with a full budget.
    pub fn new() -> Self {
        Self { budget: PEER_REPLY_BYTES_MAX, scanned: 0, open: None }
    }

    /// Grants a full budget again: a new transaction begins.
    pub fn renew(&mut self) {
        self.budget = PEER_REPLY_BYTES_MAX;
    }

    /// Takes the next whole reply from the front of `buffer`; `None` asks for more bytes.
    ///
    /// # Errors
    /// [`ReplyFault`]; the connection is out of step then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyFault> {
        loop {
            let Some(at) = memchr(b'\n', &buffer[self.scanned.min(buffer.len())..]) else {
                self.scanned = buffer.len();
                return if buffer.len() > self.budget { Err(ReplyFault::TooLong) } else { Ok(None) };
            };
            let end = self.scanned + at;
            self.budget = self.budget.checked_sub(end + 1).ok_or(ReplyFault::TooLong)?;
            let done = self.line(buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]))?;
            buffer.advance(end + 1);
            self.scanned = 0;
            if done {
                return Ok(self.open.take());
            }
        }
    }

    /// True while a reply has begun and not ended.
    pub fn is_midway(&self) -> bool {
        self.open.is_some()
    }

    /// Takes one line; true if it is its reply's last.
    fn line(&mut self, line: &[u8]) -> Result<bool, ReplyFault> {
        let (code, last, text) = split(line).ok_or(ReplyFault::NotAReply)?;
        let (enhanced, text) = enhanced(code, text);
        match &mut self.open {
            None => self.open = Some(Reply { code, enhanced, text: clean(text) }),
            Some(reply) if reply.code != code => return Err(ReplyFault::CodesDiffer),
            Some(reply) => {
                reply.enhanced = reply.enhanced.or(enhanced);
                reply.text.push('\n');
                reply.text.push_str(&clean(text));
            }
        }
        Ok(last)
    }
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self::new()
    }
}

/// Code, whether the line is the last one, and the text.
fn split(line: &[u8]) -> Option<(u32, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !(b'2'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// Parts an enhanced code from the text behind it. Its class must be the reply code's (RFC 2034 section 4); else it is text.
fn enhanced(code: u32, text: &[u8]) -> (Option<EnhancedStatus>, &[u8]) {
    let word = memchr(b' ', text).map_or(text, |at| &text[..at]);
    match std::str::from_utf8(word).ok().and_then(EnhancedStatus::parse) {
        Some(status) if u32::from(status.class) == code / 100 => (Some(status), text[word.len()..].trim_ascii_start()),
        _ => (None, text),
    }
}

/// UTF-8 without control characters.
fn clean(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.trim_ascii_end());
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, ReplyFault> {
        let (mut parser, mut buffer, mut replies) = (ReplyParser::new(), BytesMut::from(bytes), Vec::new());
        while let Some(reply) = parser.next(&mut buffer)? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn one(bytes: &[u8]) -> Reply {
        let mut replies = all(bytes).unwrap();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    #[test]
    fn replies_in_every_shape() {
        for (bytes, code, enhanced, text) in [
            (&b"250 ok\r\n"[..], 250, None, "ok"),
            (b"250\r\n", 250, None, ""),
            (b"250 \r\n", 250, None, ""),
            (b"250 ok\n", 250, None, "ok"),
            (b"550 5.1.1 no such user\r\n", 550, Some((5, 1, 1)), "no such user"),
            (b"550 5.1.1\r\n", 550, Some((5, 1, 1)), ""),
            (b"550 2.1.1 odd\r\n", 550, None, "2.1.1 odd"),
            (b"550 5.1.1.1 odd\r\n", 550, None, "5.1.1.1 odd"),
            (b"421-4.7.28 one\r\n421-4.7.28 two\r\n421 4.7.28 three\r\n", 421, Some((4, 7, 28)), "one\ntwo\nthree"),
            (b"250-one\n250-\r\n250\r\n", 250, None, "one\n\n"),
            (b"554 a\rb\0c\x1b[2J\r\n", 554, None, "a b c [2J"),
            (b"550 \xd3\xc3x\xbb\xa7\r\n", 550, None, "\u{fffd}\u{fffd}x\u{fffd}\u{fffd}"),
        ] {
            let reply = one(bytes);
            let shown = reply.enhanced.map(|e| (e.class, e.subject, e.detail));
            assert_eq!((reply.code, shown, reply.text.as_str()), (code, enhanced, text), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn pipelined_replies_come_one_by_one() {
        let codes: Vec<_> =
            all(b"250 a\r\n550-b\r\n550 c\r\n354 go\r\n").unwrap().into_iter().map(|r| r.code).collect();
        assert_eq!(codes, [250, 550, 354]);
    }

    #[test]
    fn what_is_no_reply_is_a_fault() {
        for bad in
            [&b"\r\n"[..], b"25\r\n", b"250_ok\r\n", b"2500 ok\r\n", b"150 ok\r\n", b"650 ok\r\n", b"HTTP/1.1 400\r\n"]
        {
            assert_eq!(all(bad), Err(ReplyFault::NotAReply), "{}", bad.escape_ascii());
        }
        assert_eq!(all(b"250-a\r\n550 b\r\n"), Err(ReplyFault::CodesDiffer));
    }

    #[test]
    fn replies_are_bounded_and_the_bound_is_renewed() {
        let mut parser = ReplyParser::new();
        let mut buffer = BytesMut::new();
        let line = b"250-0123456789012345678901234567890123456789\r\n";
        let mut taken = 0;
        let fault = loop {
            buffer.extend_from_slice(line);
            taken += line.len();
            match parser.next(&mut buffer) {
                Ok(reply) => assert_eq!(reply, None),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, ReplyFault::TooLong);
        assert!(taken > PEER_REPLY_BYTES_MAX && taken <= PEER_REPLY_BYTES_MAX + line.len());

        let mut parser = ReplyParser::new();
        let mut endless = BytesMut::from(&vec![b'2'; PEER_REPLY_BYTES_MAX][..]);
        assert_eq!(parser.next(&mut endless), Ok(None));
        endless.extend_from_slice(b"2");
        assert_eq!(parser.next(&mut endless), Err(ReplyFault::TooLong));

        let mut parser = ReplyParser::new();
        for _ in 0..PEER_REPLY_BYTES_MAX {
            assert!(parser.next(&mut BytesMut::from(&b"250 ok\r\n"[..])).unwrap().is_some());
            parser.renew();
        }
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"250".to_vec()),
            Just(b"550-5.1.1 ".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b" ".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_split_anywhere_changes_nothing(bytes in noise(), cuts in proptest::collection::vec(1usize..9, 1..40)) {
            let (mut parser, mut buffer, mut split) = (ReplyParser::new(), BytesMut::new(), Ok(Vec::new()));
            let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter().cycle());
            'feeding: while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                loop {
                    match parser.next(&mut buffer) {
                        Ok(Some(reply)) => split.as_mut().unwrap().push(reply),
                        Ok(None) => break,
                        Err(fault) => { split = Err(fault); break 'feeding; }
                    }
                }
            }
            prop_assert_eq!(split, all(&bytes));
        }

        #[test]
        fn no_text_holds_a_control_character(bytes in noise()) {
            for reply in all(&bytes).unwrap_or_default() {
                prop_assert!(!reply.text.chars().any(|c| c.is_control() && c != '\n'));
                prop_assert!((200..600).contains(&reply.code));
            }
        }
    }
}
