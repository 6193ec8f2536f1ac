//! The parts of handsets' long messages, as they wait for each other in a journal (`storage::joining`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::egress::sms::HandsetMessage;
use crate::sms::{Alphabet, Concatenation};
pub(super) use crate::storage::joining::{Part, Taken};

/// The parts that wait.
pub(super) type PartsWaiting = crate::storage::joining::PartsWaiting<HandsetMessage>;
/// Parts that have been taken out.
pub(super) type Out = crate::storage::joining::Out<HandsetMessage>;

/// By carrier, from whom, to what.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    carrier: Arc<str>,
    from: Arc<str>,
    to: Arc<str>,
}

/// What a line of the journal says of a part.
#[derive(Serialize, Deserialize)]
pub struct Line {
    alphabet: String,
    /// Hexadecimal.
    octets: String,
    /// RFC 3339.
    received_at: String,
}

impl Part for HandsetMessage {
    type Who = Who;
    type Line = Line;

    fn who(&self) -> Who {
        Who { carrier: self.carrier.clone(), from: self.from.clone(), to: self.to.clone() }
    }

    fn place(&self) -> Option<Concatenation> {
        self.place
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    fn line(&self) -> Line {
        let (alphabet, octets) = (self.alphabet.name(), crate::sms::hex(&self.octets));
        Line { alphabet, octets, received_at: self.received_at.rfc3339() }
    }

    fn read(who: Who, place: Concatenation, line: Line) -> Option<Self> {
        Some(Self {
            carrier: who.carrier,
            from: who.from,
            to: who.to,
            alphabet: Alphabet::named(&line.alphabet)?,
            place: Some(place),
            octets: crate::sms::octets(&line.octets)?.into(),
            received_at: Timestamp::parse_rfc3339(&line.received_at)?,
        })
    }
}
