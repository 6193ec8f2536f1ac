//! Mail data: header section and body as they travel.

use std::fmt;

use bytes::Bytes;
use memchr::memchr3_iter;

/// The content of a mail: CRLF line endings only, no NUL (RFC 5321 section 2.3.8, RFC 5322 section 2.3).
///
/// There is one constructor and it checks, so neither a client nor a damaged disk can make postrider smuggle a second
/// message: the outbound writer takes nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct MailData(Bytes);

/// What is wrong with some mail data, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataFault {
    /// A CR that no LF follows.
    BareCr {
        /// Offset of the byte.
        at: usize,
    },
    /// An LF that no CR precedes.
    BareLf {
        /// Offset of the byte.
        at: usize,
    },
    /// A NUL byte.
    Nul {
        /// Offset of the byte.
        at: usize,
    },
}

impl MailData {
    /// Checks and wraps.
    ///
    /// # Errors
    /// The first [`DataFault`].
    pub fn new(bytes: Bytes) -> Result<Self, DataFault> {
        for at in memchr3_iter(b'\r', b'\n', 0, &bytes) {
            match bytes[at] {
                b'\r' if bytes.get(at + 1) != Some(&b'\n') => return Err(DataFault::BareCr { at }),
                b'\n' if at == 0 || bytes[at - 1] != b'\r' => return Err(DataFault::BareLf { at }),
                0 => return Err(DataFault::Nul { at }),
                _ => {}
            }
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a message without a single byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for MailData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailData({} bytes)", self.0.len())
    }
}

impl fmt::Display for DataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, at) = match self {
            Self::BareCr { at } => ("bare CR", at),
            Self::BareLf { at } => ("bare LF", at),
            Self::Nul { at } => ("NUL", at),
        };
        write!(f, "{what} in message data at byte {at}: lines must end with CRLF and hold no NUL")
    }
}

impl std::error::Error for DataFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &'static [u8]) -> Result<(), DataFault> {
        MailData::new(Bytes::from_static(bytes)).map(|_| ())
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(check(b""), Ok(()));
        assert_eq!(check(b"a\r\nb\r\n"), Ok(()));
        assert_eq!(check(b"a\nb"), Err(DataFault::BareLf { at: 1 }));
        assert_eq!(check(b"\n"), Err(DataFault::BareLf { at: 0 }));
        assert_eq!(check(b"a\rb"), Err(DataFault::BareCr { at: 1 }));
        assert_eq!(check(b"a\r"), Err(DataFault::BareCr { at: 1 }));
        assert_eq!(check(b"a\r\r\n"), Err(DataFault::BareCr { at: 1 }));
        assert_eq!(check(b"a\r\n\n"), Err(DataFault::BareLf { at: 3 }));
        assert_eq!(check(b"a\0"), Err(DataFault::Nul { at: 1 }));
    }

    proptest! {
        #[test]
        fn accepts_exactly_what_survives_a_split_at_crlf(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8), Just(b'a')], 0..24)) {
            let clean = String::from_utf8(bytes.clone()).unwrap_or_default()
                .split("\r\n").all(|line| !line.contains(['\r', '\n', '\0']));
            prop_assert_eq!(MailData::new(Bytes::from(bytes)).is_ok(), clean);
        }
    }
}
