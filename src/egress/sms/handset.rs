//! What handsets send, in the engine's words.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::model::Number;
use crate::sms::{Alphabet, Concatenation};

/// A message from a handset, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub struct HandsetMessage {
    /// The carrier's configured name.
    pub carrier: Arc<str>,
    /// From whom: with a `+` where it is an international number, else as the carrier writes it.
    pub from: Arc<str>,
    /// What it was sent to: an access number of ours, as the carrier writes it.
    pub to: Arc<str>,
    /// What its octets mean.
    pub alphabet: Alphabet,
    /// Which part of which message it is, if there are several.
    pub place: Option<Concatenation>,
    /// The octets, without a user data header.
    pub octets: Bytes,
    /// When we heard.
    pub received_at: Timestamp,
}

impl HandsetMessage {
    /// The number it is from, if that is one.
    pub fn number(&self) -> Option<Number> {
        Number::parse(&self.from).ok()
    }
}

impl AsRef<[u8]> for HandsetMessage {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl fmt::Debug for HandsetMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people write is no log's business.
        let Self { carrier, to, alphabet, place, octets, .. } = self;
        write!(f, "HandsetMessage({carrier} to {to}, {alphabet:?}, {place:?}, {} octets)", octets.len())
    }
}
