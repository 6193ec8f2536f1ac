//! Sequence numbers: three words that join a request and its answer. That of a SUBMIT is also what its REPORT names: a gateway
//! gives messages no names of its own.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::time::LoginTime;
use crate::wire::FieldError;

/// A sequence number. Answers repeat it as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence {
    /// Whose request it is; see [`sp_node`].
    pub node: u32,
    /// When: `MMDDhhmmss`, China's time, read as a number.
    pub time: u32,
    /// Which of that second.
    pub counter: u32,
}

impl Sequence {
    pub(super) fn read(field: &'static str, body: &mut Bytes) -> Result<Self, FieldError> {
        let mut word = || body.try_get_u32().map_err(|_| FieldError { field });
        Ok(Self { node: word()?, time: word()?, counter: word()? })
    }

    pub(super) fn put(self, out: &mut BytesMut) {
        [self.node, self.time, self.counter].into_iter().for_each(|word| out.put_u32(word));
    }
}

/// Three times ten digits. The one form under which it is kept.
impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}{:010}{:010}", self.node, self.time, self.counter)
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({self})")
    }
}

/// The node of an SP: 3, its area code in four digits (`010` is `0100`), its number in five. It needs all 32 bits.
///
/// # Errors
/// [`FieldError`] if either is not made of that many digits.
pub fn sp_node(area_code: &str, corp_id: &str) -> Result<u32, FieldError> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=4).contains(&area_code.len()) || !digits(area_code) {
        return Err(FieldError { field: "area code" });
    }
    if corp_id.len() != 5 || !digits(corp_id) {
        return Err(FieldError { field: "CorpId" });
    }
    format!("3{area_code:0<4}{corp_id}").parse().map_err(|_| FieldError { field: "node" })
}

/// The sequence numbers of all links: none is given twice within a second, whatever its node, as messages are told apart by them.
#[derive(Debug)]
pub struct Sequences {
    next: AtomicU32,
}

impl Sequences {
    /// Starts at a counter, which another run of the same second should not have started at.
    pub fn new(first: u32) -> Self {
        Self { next: AtomicU32::new(first) }
    }

    /// The next one, of a node.
    pub fn next(&self, node: u32, time: LoginTime) -> Sequence {
        Sequence { node, time: time.0, counter: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_made_as_the_standard_says() {
        assert_eq!(sp_node("010", "12345"), Ok(3_010_012_345));
        assert_eq!(sp_node("0755", "99999"), Ok(3_075_599_999));
        assert_eq!(sp_node("9999", "99999"), Ok(3_999_999_999));
        for (area_code, corp_id) in
            [("", "12345"), ("01000", "12345"), ("01a", "12345"), ("010", "1234"), ("010", "+1234")]
        {
            assert!(sp_node(area_code, corp_id).is_err(), "{area_code} {corp_id}");
        }
    }

    #[test]
    fn sequence_numbers_go_on_over_the_end() {
        let (sequences, node) = (Sequences::new(u32::MAX), 3_010_012_345);
        let time = LoginTime(301_000_000);
        assert_eq!(sequences.next(node, time).to_string(), "301001234503010000004294967295");
        assert_eq!(sequences.next(node, time).to_string(), "301001234503010000000000000000");
    }
}
