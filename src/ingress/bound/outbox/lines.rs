//! The lines of the outbox's journal: what is wanted, what became of it, what was taken.
//!
//! One JSON object a line, sealed by `storage::journal`: `{"v":1,"want":{…}}`. A start reads them in order.

use serde::{Deserialize, Serialize};

use super::super::part::{Party, Wish};
use crate::clock::Timestamp;
use crate::event::metrics::{Metrics, SmppMetrics};
use crate::model::{ClientName, MessageId};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) v: u32,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A text whose receipts are wanted is about to be accepted.
    Want(Want),
    /// It has ended.
    End(End),
    /// Nothing is wanted of it any more.
    Gone(Id),
    /// A handset's message is to be brought to a client.
    Reply(Reply),
    /// A receipt (by its part's id) or a reply was taken.
    Taken(Id),
    /// A client has bound to receive.
    Bound(Bound),
}

/// What is spoken over a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::ingress) enum Speaks {
    /// SMPP 3.4; lines from before there was another do not say so.
    #[default]
    Smpp,
    /// CMPP 2.0 and 3.0.
    Cmpp,
}

impl Speaks {
    /// All of them.
    pub(in crate::ingress) const ALL: [Self; 2] = [Self::Smpp, Self::Cmpp];

    /// The word in metrics and keys.
    pub(in crate::ingress) const fn as_str(self) -> &'static str {
        match self {
            Self::Smpp => "smpp",
            Self::Cmpp => "cmpp",
        }
    }

    /// As people write it.
    pub(in crate::ingress) const fn name(self) -> &'static str {
        match self {
            Self::Smpp => "SMPP",
            Self::Cmpp => "CMPP",
        }
    }

    /// Its metrics.
    pub(in crate::ingress) fn metrics(self, metrics: &Metrics) -> &SmppMetrics {
        match self {
            Self::Smpp => &metrics.smpp,
            Self::Cmpp => &metrics.cmpp,
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A message id in its written form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::ingress) struct Id(pub(in crate::ingress) MessageId);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A time as RFC 3339.
mod time {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&time.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("no time"))
    }
}

/// The receipts that a client wants of a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::ingress) struct Want {
    /// The text's id in the queue.
    pub(in crate::ingress) text: Id,
    pub(in crate::ingress) client: ClientName,
    /// As it was written in the submission.
    pub(in crate::ingress) source: Party,
    pub(in crate::ingress) destination: Party,
    /// The ids of its parts, with what is wanted of each.
    pub(in crate::ingress) parts: Vec<(Id, Wish)>,
    /// Over what it was submitted, and receipts are brought.
    #[serde(skip_serializing_if = "Speaks::is_default", default)]
    pub(in crate::ingress) by: Speaks,
    /// What a gateway of CMPP calls these parts, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(in crate::ingress) msg_ids: Vec<u64>,
}

/// How a text ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::ingress) struct End {
    pub(in crate::ingress) text: Id,
    pub(in crate::ingress) stat: Stat,
    /// Three characters; the carrier's own where it gave one.
    pub(in crate::ingress) err: String,
    #[serde(with = "time")]
    pub(in crate::ingress) at: Timestamp,
}

/// The final states (P34 section 5.2.28).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::ingress) enum Stat {
    Delivered,
    Expired,
    Deleted,
    Undeliverable,
    Unknown,
    Rejected,
}

impl Stat {
    /// Its word in a receipt.
    pub(in crate::ingress) const fn word(self) -> &'static str {
        match self {
            Self::Delivered => "DELIVRD",
            Self::Expired => "EXPIRED",
            Self::Deleted => "DELETED",
            Self::Undeliverable => "UNDELIV",
            Self::Unknown => "UNKNOWN",
            Self::Rejected => "REJECTD",
        }
    }
}

/// A message from a handset.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingress) struct Reply {
    /// Made when it came.
    pub(in crate::ingress) id: Id,
    pub(in crate::ingress) client: ClientName,
    pub(in crate::ingress) from: String,
    pub(in crate::ingress) to: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in crate::ingress) text: Option<String>,
    /// In hexadecimal, where there are no words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in crate::ingress) octets: Option<String>,
    /// Over what it is brought.
    #[serde(skip_serializing_if = "Speaks::is_default", default)]
    pub(in crate::ingress) by: Speaks,
    #[serde(with = "time")]
    pub(in crate::ingress) at: Timestamp,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What people write is no log's business.
        write!(f, "Reply({} to {})", self.id.0, self.client)
    }
}

/// A client that binds to receive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) client: ClientName,
    #[serde(skip_serializing_if = "Speaks::is_default", default)]
    pub(super) by: Speaks,
    #[serde(with = "time")]
    pub(super) at: Timestamp,
}

/// A line as it is written.
pub(super) fn written(entry: Entry) -> String {
    serde_json::to_string(&Line { v: VERSION, entry }).unwrap_or_default()
}
