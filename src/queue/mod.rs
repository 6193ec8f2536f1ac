//! A recipient's life.

pub mod view;

use std::time::Duration;

use crate::model::{ClientName, MessageId, Responsibility, Submission};
use crate::storage::Durable;
pub use view::MessageView;

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {}

/// The queue's yes: the message is durable. Only [`Queue::accept`] makes one.
#[derive(Debug)]
pub struct Accepted {
    id: MessageId,
    replayed: bool,
    _durable: Durable,
}

impl Accepted {
    /// True if the same submission had been accepted before under its idempotency key; the id is the earlier one.
    pub fn replayed(&self) -> bool {
        self.replayed
    }
}

impl Responsibility for Accepted {
    fn message_id(&self) -> MessageId {
        self.id
    }
}

/// Why a submission was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AcceptError {
    /// The queue or this client's share of it is full, or the disk is: 452 / 429 / 503.
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// The idempotency key was used before with another content: 409.
    KeyReused,
    /// Storage failed or the relay is stopping: 451 / 503.
    Unavailable,
    /// No carrier serves a number: 422.
    NoRoute {
        /// Which number.
        address: String,
    },
}

impl Queue {
    /// Takes responsibility for a message: returns once it is on stable storage.
    ///
    /// # Errors
    /// [`AcceptError`]; then nothing was taken.
    pub async fn accept(&self, _submission: Submission) -> Result<Accepted, AcceptError> {
        Err(AcceptError::Unavailable)
    }

    /// What is known of a message, waiting or ended lately; `client` restricts the answer to that client's own.
    pub fn message(&self, _id: MessageId, _client: Option<&ClientName>) -> Option<MessageView> {
        None
    }

    /// Messages that match an id or an address, waiting or ended lately, newest first, at most `most`.
    pub fn explain(&self, _id_or_address: &str, _most: usize) -> Vec<MessageView> {
        Vec::new()
    }

    /// The lanes and what waits in them.
    pub fn overview(&self, _lanes_max: usize) -> view::QueueView {
        view::QueueView { held: false, messages: 0, bytes: 0, lanes: Vec::new(), lanes_total: 0 }
    }

    /// Stops sending (`true`) or lets it go on. Accepting is not affected.
    pub fn hold(&self, _held: bool) {}

    /// Makes everything that waits for a retry due now; returns how many recipients.
    pub fn flush(&self) -> u64 {
        0
    }
}
