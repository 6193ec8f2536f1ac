//! Message data as it comes in: framing after DATA and BDAT, limits, and the checks that make [`MailData`].
//!
//! **Promises.** Only CRLF `.` CRLF ends DATA, however the bytes were split (RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2),
//! also where the dot stands on the very first line. A message with a fault is read to its end all the same and refused
//! then: whoever ends it early takes its rest for commands, which is SMTP smuggling. The body is copied once, from the read
//! buffer into the message; what is over the limit is read and not stored.
//!
//! **How.** [`DataReader`] only frames: it looks for LF, and everything that is not CRLF stays inside the line it stands
//! in. Bare CR, bare LF and NUL are thereby kept and found, in one pass, by [`MailData::new`].

use std::fmt;

use bytes::BytesMut;
use memchr::{memchr, memchr_iter};

use crate::limits::DATA_LINE_BYTES_MAX;
use crate::model::{DataFault, MailData};

/// Most that is set aside for a message before its bytes have come: SIZE is a claim.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// What happens to lines of message data over 998 octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LongLines {
    /// The message is refused with 554 5.6.0 (RFC 5322 section 2.1.1).
    #[default]
    Refuse,
    /// They are taken as they are; some next hops will refuse or break them.
    Accept,
}

/// Why a message that has been read to its end cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageFault {
    /// A bare CR, a bare LF or a NUL.
    Content(DataFault),
    /// A line over 998 octets.
    LongLine {
        /// Octets of the longest line, CRLF not counted.
        bytes: usize,
    },
    /// More bytes than allowed.
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

impl fmt::Display for MessageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(fault) => fault.fmt(f),
            Self::LongLine { bytes } => {
                write!(f, "a line of {bytes} octets in message data: at most {DATA_LINE_BYTES_MAX} are allowed")
            }
            Self::TooLarge { bytes_max } => write!(f, "message larger than {bytes_max} bytes"),
        }
    }
}

impl std::error::Error for MessageFault {}

/// What a message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageLimits {
    pub(super) bytes_max: usize,
    pub(super) long_lines: LongLines,
}

impl MessageLimits {
    /// The checks at the end of a message, whichever way it came.
    fn judge(self, stored: Stored, longest_line: usize) -> Result<MailData, MessageFault> {
        let Some(bytes) = stored.bytes else {
            return Err(MessageFault::TooLarge { bytes_max: self.bytes_max });
        };
        let data = MailData::new(bytes.freeze()).map_err(MessageFault::Content)?;
        if self.long_lines == LongLines::Refuse && longest_line > DATA_LINE_BYTES_MAX {
            return Err(MessageFault::LongLine { bytes: longest_line });
        }
        Ok(data)
    }
}

/// The message so far; `None` once it has outgrown its limit.
#[derive(Debug)]
struct Stored {
    bytes: Option<BytesMut>,
    /// Bytes read since the limit was passed.
    skipped: u64,
}

impl Stored {
    fn with_capacity(expected: Option<u64>, bytes_max: usize) -> Self {
        let expected = expected.map_or(4096, |e| usize::try_from(e).unwrap_or(usize::MAX));
        Self { bytes: Some(BytesMut::with_capacity(expected.min(RESERVE_BYTES_MAX).min(bytes_max))), skipped: 0 }
    }

    fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, BytesMut::len)
    }

    fn push(&mut self, run: &[u8], bytes_max: usize) {
        match &mut self.bytes {
            Some(bytes) if run.len() <= bytes_max - bytes.len() => bytes.extend_from_slice(run),
            _ => {
                self.bytes = None;
                self.skipped += run.len() as u64;
            }
        }
    }
}

/// Reads what follows DATA, in slices of any size.
#[derive(Debug)]
pub(super) struct DataReader {
    limits: MessageLimits,
    place: Place,
    stored: Stored,
    /// Octets of the line so far, the stuffed dot and the CRLF not counted.
    line_bytes: usize,
    longest_line: usize,
}

/// Where in a line the reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before the first octet of a line.
    LineStart,
    /// Behind a dot that is the line's first octet; it is not stored.
    Dot,
    /// Behind such a dot and a CR; neither is stored.
    DotCr,
    /// Inside a line whose last octet was no CR.
    Text,
    /// Inside a line, behind a CR, which is stored.
    TextCr,
}

/// Whether the end was in the slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framed {
    /// All of the slice belongs to the message; there is more to come.
    More,
    /// The message ended after that many bytes of the slice.
    Ended(usize),
}

impl DataReader {
    /// `expected`: the SIZE parameter.
    pub(super) fn new(limits: MessageLimits, expected: Option<u64>) -> Self {
        Self {
            limits,
            place: Place::LineStart,
            stored: Stored::with_capacity(expected, limits.bytes_max),
            line_bytes: 0,
            longest_line: 0,
        }
    }

    /// Bytes read and thrown away because the message is too large.
    pub(super) fn skipped(&self) -> u64 {
        self.stored.skipped
    }

    /// Bytes kept so far.
    pub(super) fn stored_bytes(&self) -> usize {
        self.stored.len()
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, slice: &[u8]) -> Framed {
        let mut run = 0; // start of what is still to be stored
        let mut pos = 0;
        while let Some(&octet) = slice.get(pos) {
            match (self.place, octet) {
                (Place::LineStart, b'.') => {
                    self.store(&slice[run..pos]);
                    (pos, self.place) = (pos + 1, Place::Dot);
                    run = pos;
                }
                (Place::Dot, b'\r') => {
                    (pos, self.place) = (pos + 1, Place::DotCr);
                    run = pos;
                }
                (Place::DotCr, b'\n') => return Framed::Ended(pos + 1),
                (Place::DotCr, _) => {
                    // The dot was stuffed and the CR belongs to the line: a fault, found at the end.
                    self.store(b"\r");
                    self.line_bytes += 1;
                    self.place = Place::TextCr;
                }
                (Place::TextCr, b'\n') => {
                    pos += 1;
                    self.end_line();
                }
                _ => pos = self.text(slice, pos),
            }
        }
        self.store(&slice[run..]);
        Framed::More
    }

    /// Goes on from `pos` to the end of the line or of the slice; returns where it stopped.
    fn text(&mut self, slice: &[u8], pos: usize) -> usize {
        let rest = &slice[pos..];
        match memchr(b'\n', rest) {
            Some(lf) => {
                self.line_bytes += lf + 1;
                if lf > 0 && rest[lf - 1] == b'\r' {
                    self.line_bytes -= 1; // the LF; end_line takes the CR off
                    self.end_line();
                } else {
                    self.place = Place::Text; // a bare LF ends nothing
                }
                pos + lf + 1
            }
            None => {
                self.line_bytes += rest.len();
                self.place = if rest.last() == Some(&b'\r') { Place::TextCr } else { Place::Text };
                slice.len()
            }
        }
    }

    /// Behind CRLF; `line_bytes` still counts the CR.
    fn end_line(&mut self) {
        self.longest_line = self.longest_line.max(self.line_bytes - 1);
        self.line_bytes = 0;
        self.place = Place::LineStart;
    }

    fn store(&mut self, run: &[u8]) {
        self.stored.push(run, self.limits.bytes_max);
    }

    /// The message, after [`Framed::Ended`].
    pub(super) fn finish(self) -> Result<MailData, MessageFault> {
        self.limits.judge(self.stored, self.longest_line)
    }
}

/// Gathers the chunks of BDAT (RFC 3030): bytes by count, nothing is unstuffed.
#[derive(Debug)]
pub(super) struct ChunkReader {
    limits: MessageLimits,
    stored: Stored,
}

impl ChunkReader {
    /// `expected`: the SIZE parameter.
    pub(super) fn new(limits: MessageLimits, expected: Option<u64>) -> Self {
        Self { limits, stored: Stored::with_capacity(expected, limits.bytes_max) }
    }

    /// Bytes kept so far.
    pub(super) fn stored_bytes(&self) -> usize {
        self.stored.len()
    }

    /// Takes the next bytes of a chunk.
    pub(super) fn feed(&mut self, slice: &[u8]) {
        self.stored.push(slice, self.limits.bytes_max);
    }

    /// The fault that is already certain before the last chunk.
    pub(super) fn overflow(&self) -> Option<MessageFault> {
        self.stored.bytes.is_none().then_some(MessageFault::TooLarge { bytes_max: self.limits.bytes_max })
    }

    /// The message, after the last chunk.
    pub(super) fn finish(self) -> Result<MailData, MessageFault> {
        let longest = self.stored.bytes.as_ref().map_or(0, |bytes| longest_line(bytes));
        self.limits.judge(self.stored, longest)
    }
}

fn longest_line(bytes: &[u8]) -> usize {
    let (mut start, mut longest) = (0, 0);
    for lf in memchr_iter(b'\n', bytes) {
        longest = longest.max((lf - start).saturating_sub(1));
        start = lf + 1;
    }
    longest.max(bytes.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const LIMITS: MessageLimits = MessageLimits { bytes_max: 64 * 1024, long_lines: LongLines::Refuse };

    /// Feeds `input` cut at the given places; the message and how many bytes it took.
    fn read(input: &[u8], cuts: &[usize], limits: MessageLimits) -> Option<(Result<Vec<u8>, MessageFault>, usize)> {
        let mut reader = DataReader::new(limits, None);
        let mut from = 0;
        for to in cuts.iter().copied().chain([input.len()]) {
            if let Framed::Ended(n) = reader.feed(&input[from..to]) {
                return Some((reader.finish().map(|d| d.bytes().to_vec()), from + n));
            }
            from = to;
        }
        None
    }

    fn whole(input: &[u8]) -> Option<(Result<Vec<u8>, MessageFault>, usize)> {
        read(input, &[], LIMITS)
    }

    #[track_caller]
    fn taken(input: &str, message: &str) {
        let (got, used) = whole(input.as_bytes()).expect("the message ends");
        assert_eq!(got.map(|m| String::from_utf8(m).unwrap()), Ok(message.to_owned()));
        assert_eq!(used, input.len());
    }

    #[track_caller]
    fn refused(input: &str, fault: DataFault) {
        assert_eq!(whole(input.as_bytes()), Some((Err(MessageFault::Content(fault)), input.len())), "{input:?}");
    }

    #[test]
    fn empty_and_dotted_messages_are_right() {
        taken(".\r\n", "");
        taken("\r\n.\r\n", "\r\n");
        taken("..\r\n.\r\n", ".\r\n");
        taken("..first\r\n.\r\n", ".first\r\n");
        taken("a\r\n..b\r\n...\r\n.\r\n", "a\r\n.b\r\n..\r\n");
        // RFC 5321 section 4.5.2: the dot goes even if the client forgot to double it.
        taken(".x\r\n.\r\n", "x\r\n");
    }

    #[test]
    fn what_is_not_crlf_dot_crlf_never_ends_a_message_and_is_refused() {
        refused("a\n.\nMAIL FROM:<x@y>\r\n.\r\n", DataFault::BareLf { at: 1 });
        refused("a\n.\r\nMAIL FROM:<x@y>\r\n.\r\n", DataFault::BareLf { at: 1 });
        refused("a\r\n.\nMAIL FROM:<x@y>\r\n.\r\n", DataFault::BareLf { at: 3 });
        refused("a\r.\r\nMAIL FROM:<x@y>\r\n.\r\n", DataFault::BareCr { at: 1 });
        refused("a\r\n.\r\r\nMAIL FROM:<x@y>\r\n.\r\n", DataFault::BareCr { at: 3 });
        refused("a\r\n.\rb\r\n.\r\n", DataFault::BareCr { at: 3 });
        refused("a\r\r\n.\r\n", DataFault::BareCr { at: 1 });
        refused("\r.\r\n.\r\n", DataFault::BareCr { at: 0 });
        refused("\n.\r\n\r\n.\r\n", DataFault::BareLf { at: 0 });
        refused("a\0b\r\n.\r\n", DataFault::Nul { at: 1 });
        assert_eq!(whole(b"a\r\n\0.\r\n"), None);
    }

    #[test]
    fn lines_of_998_octets_pass_and_longer_ones_do_not() {
        let message = |n: usize| format!("{}\r\n.\r\n", "x".repeat(n));
        assert!(whole(message(998).as_bytes()).unwrap().0.is_ok());
        assert_eq!(whole(message(999).as_bytes()).unwrap().0, Err(MessageFault::LongLine { bytes: 999 }));
        let stuffed = format!("..{}\r\n.\r\n", "x".repeat(997));
        assert!(whole(stuffed.as_bytes()).unwrap().0.is_ok(), "the stuffed dot does not count");
        let accept = MessageLimits { long_lines: LongLines::Accept, ..LIMITS };
        assert!(read(message(5_000).as_bytes(), &[1_000], accept).unwrap().0.is_ok());
    }

    #[test]
    fn a_message_over_the_limit_is_read_to_its_end() {
        let limits = MessageLimits { bytes_max: 10, ..LIMITS };
        assert_eq!(read(b"12345678\r\n.\r\n", &[], limits), Some((Ok(b"12345678\r\n".to_vec()), 13)));
        let (got, used) = read(b"123456789\r\nmore\r\n.\r\nQUIT", &[4, 12], limits).unwrap();
        assert_eq!((got, used), (Err(MessageFault::TooLarge { bytes_max: 10 }), 20));
    }

    #[test]
    fn chunks_are_checked_like_data() {
        let gather = |chunks: &[&[u8]]| {
            let mut reader = ChunkReader::new(MessageLimits { bytes_max: 2_000, ..LIMITS }, None);
            chunks.iter().for_each(|c| reader.feed(c));
            reader.finish().map(|d| d.bytes().to_vec())
        };
        assert_eq!(gather(&[b"a\r", b"\n.\r\n", b"..b"]), Ok(b"a\r\n.\r\n..b".to_vec()));
        assert_eq!(gather(&[]), Ok(vec![]));
        assert_eq!(gather(&[b"a\n"]), Err(MessageFault::Content(DataFault::BareLf { at: 1 })));
        assert_eq!(gather(&[b"a\r"]), Err(MessageFault::Content(DataFault::BareCr { at: 1 })));
        assert_eq!(gather(&[&[b'x'; 999]]), Err(MessageFault::LongLine { bytes: 999 }));
        assert_eq!(gather(&[&[b'x'; 1_001], &[b'x'; 1_000]]), Err(MessageFault::TooLarge { bytes_max: 2_000 }));
    }

    fn nasty() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![4 => Just(b'\r'), 4 => Just(b'\n'), 3 => Just(b'.'), 1 => Just(0u8), 2 => Just(b'a')];
        proptest::collection::vec(octet, 0..40)
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(mut input in nasty()) {
            input.extend_from_slice(b"\r\n.\r\n");
            let expected = whole(&input);
            prop_assert!(expected.is_some());
            for cut in 0..=input.len() {
                prop_assert_eq!(&read(&input, &[cut], LIMITS), &expected, "cut at {}", cut);
            }
            let every: Vec<usize> = (1..input.len()).collect();
            prop_assert_eq!(&read(&input, &every, LIMITS), &expected);
        }

        /// An independent statement of RFC 5321 section 4.5.2: lines end with CRLF, a lone dot ends the message.
        #[test]
        fn agrees_with_splitting_at_crlf(mut input in nasty()) {
            input.extend_from_slice(b"\r\n.\r\n");
            let text = String::from_utf8(input.clone()).unwrap();
            let (mut message, mut used) = (String::new(), 0);
            for line in text.split("\r\n") {
                used += line.len() + 2;
                if line == "." {
                    break;
                }
                message += line.strip_prefix('.').unwrap_or(line);
                message += "\r\n";
            }
            let expected = MailData::new(Bytes::from(message)).map(|d| d.bytes().to_vec()).map_err(MessageFault::Content);
            prop_assert_eq!(whole(&input), Some((expected, used)));
        }

        #[test]
        fn what_is_stuffed_comes_out_as_it_was(lines in proptest::collection::vec("[.a ]{0,5}", 0..8)) {
            let message: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let stuffed: String = lines.iter().map(|l| if l.starts_with('.') { format!(".{l}\r\n") } else { format!("{l}\r\n") }).collect();
            prop_assert_eq!(whole(format!("{stuffed}.\r\n").as_bytes()).unwrap().0, Ok(message.into_bytes()));
        }
    }
}
