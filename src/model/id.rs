//! Message identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;

/// Names one submission for its whole life, in replies, headers, events and on disk.
///
/// 128 bits: 48 bits of milliseconds, then 80 bits that no two messages share. Sorted by time. Written as 26 characters of
/// Crockford's base 32 in lower case, which survives being read aloud and typed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

/// Crockford's alphabet: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of the written form.
const LENGTH: usize = 26;

impl MessageId {
    /// A new id, unique even if the clock stands still or runs back.
    pub fn new(now: Timestamp) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now.millis().to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&(count as u16).to_be_bytes());
        bytes[8..].copy_from_slice(&fastrand::u64(..).to_be_bytes());
        Self(bytes)
    }

    /// The 16 bytes as they stand on disk.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// An id read back from disk.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = [0; LENGTH];
        for (i, c) in text.iter_mut().enumerate() {
            *c = ALPHABET[(value >> (5 * (LENGTH - 1 - i)) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != LENGTH {
            return Err(NotAnId);
        }
        let mut value: u128 = 0;
        for c in text.bytes() {
            let c = match c.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                c => c,
            };
            let digit = ALPHABET.iter().position(|&a| a == c).ok_or(NotAnId)?;
            if value >> 123 != 0 {
                return Err(NotAnId);
            }
            value = value << 5 | digit as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

/// The text is no message id.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message id: expected 26 characters such as 01kat2m9q40003v6h2n8r5x7wz")
    }
}

impl std::error::Error for NotAnId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for _ in 0..1_000 {
            let id = MessageId::from_bytes(fastrand::u128(..).to_be_bytes());
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for bad in ["", "01", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "01kat2m9q40003v6h2n8r5x7w!"] {
            assert_eq!(bad.parse::<MessageId>(), Err(NotAnId), "{bad}");
        }
    }

    #[test]
    fn ids_differ_within_one_instant_and_sort_by_time() {
        let a = MessageId::new(Timestamp(1_000_000));
        let b = MessageId::new(Timestamp(1_000_000));
        assert_ne!(a, b);
        assert!(MessageId::new(Timestamp(2_000_000)) > a);
    }
}
