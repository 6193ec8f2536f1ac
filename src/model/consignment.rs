//! What is carried in one attempt, and the proof that it has begun.

use std::sync::Arc;

use super::{Content, Envelope, RecipientIndex, TextProgress};

/// What a courier carries in one attempt: a message and those of its recipients that share a lane.
#[derive(Clone, Debug)]
pub struct Consignment {
    /// The message's envelope.
    pub envelope: Arc<Envelope>,
    /// The message's content.
    pub content: Content,
    /// Whom this attempt is for; at least one. A text has exactly one.
    pub recipients: Vec<RecipientIndex>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// For a text: the carrier chosen, the reference and the parts; those that are `Waiting` are to be sent.
    pub progress: Option<TextProgress>,
}

/// Proof that the attempt about to be made is durable as *begun*. Without it a crash could not tell a text that never left
/// from one whose answer was lost. The queue's token is one; a text's courier demands one.
pub trait AttemptBegun: Send + Sync {}
