//! What is brought to a client; how it travels is each protocol's.

use std::sync::Arc;

use super::lines::{End, Reply, Speaks, Want};
use crate::clock::{Mono, Timestamp};
use crate::model::{ClientName, MessageId};

/// One message for a client.
#[derive(Clone, Debug)]
pub(in crate::ingress) struct Delivery {
    /// Whose it is.
    pub(in crate::ingress) client: ClientName,
    pub(in crate::ingress) what: What,
    /// Times that it was brought in vain.
    pub(in crate::ingress) tries: u32,
    /// Not before.
    pub(in crate::ingress) due: Mono,
}

/// What is brought.
#[derive(Clone, Debug)]
pub(in crate::ingress) enum What {
    /// The receipt of one part.
    Receipt { part: MessageId, want: Arc<Want>, end: Arc<End> },
    /// A handset's message.
    Reply(Arc<Reply>),
}

impl Delivery {
    /// By what it is crossed out.
    pub(in crate::ingress) fn id(&self) -> MessageId {
        match &self.what {
            What::Receipt { part, .. } => *part,
            What::Reply(reply) => reply.id.0,
        }
    }

    /// Over what it is brought.
    pub(in crate::ingress) fn by(&self) -> Speaks {
        match &self.what {
            What::Receipt { want, .. } => want.by,
            What::Reply(reply) => reply.by,
        }
    }

    /// Since when it has been waiting.
    pub(in crate::ingress) fn since(&self) -> Timestamp {
        match &self.what {
            What::Receipt { end, .. } => end.at,
            What::Reply(reply) => reply.at,
        }
    }

    /// The word that it is counted under.
    pub(in crate::ingress) fn kind(&self) -> &'static str {
        match &self.what {
            What::Receipt { .. } => "receipt",
            What::Reply(_) => "reply",
        }
    }
}

/// An id begins with the milliseconds of its making.
pub(in crate::ingress) fn submitted_at(id: MessageId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.to_bytes()[..6]);
    Timestamp(u64::from_be_bytes(millis).saturating_mul(1_000))
}
