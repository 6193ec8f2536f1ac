//! Carrying: what a courier is handed, whichever channel it serves.
//!
//! `email` and `sms` do not know each other; `dispatch` joins them to the queue.

pub mod email;
pub mod sms;

use std::sync::Arc;

use crate::model::{Content, Envelope, RecipientIndex, TextProgress};

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
