//! What waits, from records alone: the same replay as at start, kept as small as it can be.

use std::collections::HashMap;
use std::sync::Arc;

use super::Kind;
use crate::clock::Timestamp;
use crate::model::{Channel, Class, Envelope, MessageId};
use crate::queue::life::{Change, Life, State};
use crate::queue::record::{self, RecordError};
use crate::storage::Position;
use crate::storage::inspect::{BodyPlace, Seen, SeenBody};

/// Messages that have not ended.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) messages: HashMap<MessageId, Waiting>,
    /// Clients' names, each kept once.
    clients: HashMap<Arc<str>, ()>,
    /// Remember where each message's changes lie.
    keeps_changes: bool,
    /// Bytes of the key records that no younger copy has replaced.
    pub(super) key_bytes: u64,
    /// How many those are.
    pub(super) keys: u64,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where its newest accept record lies.
    pub(super) position: Position,
    /// Bytes of content.
    pub(super) size: u32,
    pub(super) body: WaitingBody,
    pub(super) channel: Channel,
    pub(super) class: Class,
    pub(super) client: Arc<str>,
    pub(super) received_at: Timestamp,
    pub(super) send_at: Option<Timestamp>,
    /// One for each recipient, without their attempts.
    pub(super) lives: Box<[Life]>,
    /// An attempt was made for one of them.
    pub(super) attempted: bool,
    /// Where its changes lie since its newest accept record, if they are remembered.
    pub(super) changes: Vec<Position>,
}

/// Where a waiting message's content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WaitingBody {
    /// Nowhere.
    None,
    /// In its segment, matching its checksum or not.
    Inline { intact: bool },
    /// In a file of its own.
    File(BodyPlace),
}

impl Ledger {
    /// One that remembers where each message's changes lie.
    pub(super) fn with_changes() -> Self {
        Self { keeps_changes: true, ..Self::default() }
    }

    /// Takes in a record.
    pub(super) fn take(&mut self, seen: &Seen<'_>) -> Result<Kind, RecordError> {
        let id = MessageId::from_bytes(seen.key);
        let kind = Kind::of(seen.kind).ok_or(RecordError { field: "kind" })?;
        match kind {
            Kind::Accept => {
                let (envelope, lives) = record::read_accept(id, seen.payload)?;
                self.accept(seen, &envelope, lives);
            }
            Kind::Change => {
                let changes = record::read_changes(seen.payload)?;
                self.change(id, seen.position, changes);
            }
            Kind::Key => {
                record::read_key(seen.payload)?;
                self.keys += 1;
                self.key_bytes += u64::from(seen.position.length);
                if let Some(older) = seen.about {
                    self.keys = self.keys.saturating_sub(1);
                    self.key_bytes = self.key_bytes.saturating_sub(u64::from(older.length));
                }
            }
        }
        Ok(kind)
    }

    fn accept(&mut self, seen: &Seen<'_>, envelope: &Envelope, lives: Vec<Life>) {
        if lives.iter().all(has_ended) {
            self.messages.remove(&envelope.id);
            return;
        }
        let client = match self.clients.get_key_value(&envelope.client) {
            Some((known, ())) => known.clone(),
            None => {
                self.clients.insert(envelope.client.clone(), ());
                envelope.client.clone()
            }
        };
        let (size, body) = match &seen.body {
            SeenBody::None => (0, WaitingBody::None),
            SeenBody::Inline { bytes, intact } => (bytes.len() as u32, WaitingBody::Inline { intact: *intact }),
            SeenBody::File(place) => (place.bytes, WaitingBody::File(*place)),
        };
        let waiting = Waiting {
            position: seen.position,
            size,
            body,
            channel: envelope.channel(),
            class: envelope.class,
            client,
            received_at: envelope.received_at,
            send_at: envelope.send_at,
            attempted: lives.iter().any(|life| !life.attempts.is_empty()),
            lives: lives.into_iter().map(slim).collect(),
            changes: Vec::new(),
        };
        self.messages.insert(envelope.id, waiting);
    }

    /// A change to a message that is not known is one that has ended and whose accept record has gone.
    fn change(&mut self, id: MessageId, position: Position, changes: Vec<Change>) {
        let Some(waiting) = self.messages.get_mut(&id) else { return };
        for change in changes {
            waiting.attempted |= change.attempt.is_some();
            if let Some(life) = waiting.lives.get_mut(change.recipient as usize) {
                life.apply(change);
                make_slim(life);
            }
        }
        if self.keeps_changes {
            waiting.changes.push(position);
        }
        if waiting.lives.iter().all(has_ended) {
            self.messages.remove(&id);
        }
    }
}

impl Waiting {
    /// Its state in one word: that of its least advanced recipient.
    pub(super) fn state(&self, now: Timestamp) -> &'static str {
        let queued = self.lives.iter().any(|l| matches!(l.state, State::Queued { .. }));
        if queued && self.attempted {
            "delayed"
        } else if queued && self.send_at.is_some_and(|at| at > now) {
            "scheduled"
        } else if queued {
            "queued"
        } else if self.lives.iter().any(|l| matches!(l.state, State::Begun { .. })) {
            "begun"
        } else {
            "sent"
        }
    }

    /// Recipients that have not ended.
    pub(super) fn recipients(&self) -> u64 {
        self.lives.iter().filter(|life| !has_ended(life)).count() as u64
    }

    /// When the next of its recipients is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.lives.iter().filter_map(|l| if let State::Queued { due } = l.state { Some(due) } else { None }).min()
    }
}

pub(super) fn has_ended(life: &Life) -> bool {
    matches!(life.state, State::Ended { .. })
}

fn slim(mut life: Life) -> Life {
    make_slim(&mut life);
    life
}

/// Attempts, parts and receipts are read again when they are to be shown.
fn make_slim(life: &mut Life) {
    life.attempts = Vec::new();
    life.progress = None;
    life.receipts = Vec::new();
}
