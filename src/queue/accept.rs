//! The yes: from a submission to a message that is durable and in its lanes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::hot::{Detail, Warm};
use super::keys::{Kept, KeyName, Lookup, name_of, print_of};
use super::life::Life;
use super::record::summary::Summary;
use super::table::Table;
use super::{Options, Queue, record, settle};
use crate::event::Fact;
use crate::model::{Address, Content, Envelope, MessageId, RecipientIndex, Responsibility, Submission};
use crate::storage::{AppendError, Durable, Position, Purpose, Record};

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
    /// The queue or this client's share of it is full: 452 / 429.
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// The message, or its list of recipients, is larger than one record may be: 552 / 413.
    TooLarge,
    /// The disk has no room for more: 452 / 503.
    NoSpace {
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

/// When to try again after [`AcceptError::Full`].
pub(super) const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a new submission becomes: what is written, and what is kept.
pub(super) struct Newcomer {
    pub(super) envelope: Arc<Envelope>,
    content: Content,
    lives: Vec<Life>,
}

impl Newcomer {
    pub(super) fn new(submission: Submission, options: &Options) -> Self {
        let Submission { mut envelope, content } = submission;
        if envelope.expires_at.is_none() {
            let from = envelope.send_at.unwrap_or(envelope.received_at).max(envelope.received_at);
            envelope.expires_at = Some(from.plus(options.retry[envelope.class.index()].expire));
        }
        // Nothing attempted, due at once or when its sender said.
        let due = envelope.send_at.unwrap_or(envelope.received_at);
        let lives = vec![Life::new(due); envelope.recipients.len()];
        Self { envelope: Arc::new(envelope), content, lives }
    }

    /// Bytes of content.
    pub(super) fn size(&self) -> u64 {
        self.content.len() as u64
    }

    pub(super) fn record(&self) -> Record {
        Record {
            kind: record::ACCEPT,
            key: self.envelope.id.to_bytes(),
            about: None,
            payload: record::write_accept(&self.envelope, &self.lives),
            body: Some(record::content_bytes(&self.content)),
            live: true,
        }
    }

    fn key_record(&self) -> Option<Record> {
        let idempotency = self.envelope.idempotency.clone()?;
        let client = self.envelope.client.clone();
        let key = record::KeyRecord { client, idempotency, received_at: self.envelope.received_at };
        Some(Record {
            kind: record::KEY,
            key: self.envelope.id.to_bytes(),
            about: None,
            payload: record::write_key(&key),
            body: None,
            live: true,
        })
    }
}

impl Queue {
    /// Takes responsibility for a message: returns once it is on stable storage. A caller that goes away meanwhile does not
    /// undo it.
    ///
    /// # Errors
    /// [`AcceptError`]; then nothing was taken.
    pub async fn accept(&self, submission: Submission) -> Result<Accepted, AcceptError> {
        if *self.shared.stopping.borrow() {
            return Err(AcceptError::Unavailable);
        }
        self.check_routes(&submission.envelope)?;
        let claim = match self.claim_key(&submission.envelope).await? {
            Claim::Replayed(accepted) => return Ok(accepted),
            Claim::Fresh(claim) => claim,
        };
        let newcomer = Newcomer::new(submission, &self.shared.options.load());
        let size = newcomer.size();
        let client = {
            let mut table = self.shared.table.lock();
            let client = table.clients.number(&newcomer.envelope.client);
            let room = table.schedule.room() > newcomer.envelope.recipients.len();
            if !room || !table.clients.reserve(client, size, &self.shared.options.load()) {
                return Err(AcceptError::Full { retry_after: FULL_RETRY_AFTER });
            }
            client
        };
        let queue = self.clone();
        // A task of its own: what the disk has, the table must get, whether or not anybody still waits for the answer.
        let task = tokio::spawn(async move {
            let accepted = queue.take(newcomer).await;
            if accepted.is_err() {
                queue.shared.table.lock().clients.unreserve(client, size);
            }
            drop(claim);
            accepted
        });
        task.await.unwrap_or(Err(AcceptError::Unavailable))
    }

    /// The yes to the same submission under the same idempotency key, if there was one; waits for one that is under way.
    ///
    /// # Errors
    /// [`AcceptError::KeyReused`], [`AcceptError::Full`].
    pub async fn accepted_before(&self, envelope: &Envelope) -> Result<Option<Accepted>, AcceptError> {
        match self.claim_key(envelope).await? {
            Claim::Replayed(accepted) => Ok(Some(accepted)),
            Claim::Fresh(_) => Ok(None),
        }
    }

    fn check_routes(&self, envelope: &Envelope) -> Result<(), AcceptError> {
        let routes = self.shared.routes.load();
        for recipient in &envelope.recipients {
            if let Address::Number(number) = &recipient.address
                && routes.text.course(number, envelope.class, &envelope.client).is_none()
            {
                return Err(AcceptError::NoRoute { address: number.to_string() });
            }
        }
        Ok(())
    }

    /// Claims the submission's idempotency key, if it has one; waits for a submission under the same key that is under way.
    async fn claim_key(&self, envelope: &Envelope) -> Result<Claim, AcceptError> {
        let Some(idempotency) = &envelope.idempotency else { return Ok(Claim::Fresh(None)) };
        let (name, print) = (name_of(&envelope.client, &idempotency.key), print_of(idempotency));
        loop {
            let found = self.shared.table.lock().keys.claim(name, print);
            match found {
                Lookup::Fresh(ended) => {
                    return Ok(Claim::Fresh(Some(KeyClaim { queue: self.clone(), name, _ended: ended })));
                }
                Lookup::Full => return Err(AcceptError::Full { retry_after: FULL_RETRY_AFTER }),
                Lookup::Reused => return Err(AcceptError::KeyReused),
                Lookup::Replayed(id, durable) => {
                    return Ok(Claim::Replayed(Accepted { id, replayed: true, _durable: durable }));
                }
                Lookup::Underway(mut end) => while end.changed().await.is_ok() {},
            }
        }
    }

    async fn take(&self, newcomer: Newcomer) -> Result<Accepted, AcceptError> {
        let key_record = newcomer.key_record();
        let group = std::iter::once(newcomer.record()).chain(key_record).collect();
        let appended = self.shared.log.append(Purpose::Intake, group).await.map_err(|e| match e {
            AppendError::Full | AppendError::Busy => AcceptError::NoSpace { retry_after: FULL_RETRY_AFTER },
            AppendError::TooLarge => AcceptError::TooLarge,
            AppendError::Poisoned | AppendError::Body | AppendError::Closed => AcceptError::Unavailable,
        })?;
        let envelope = newcomer.envelope.clone();
        {
            let mut table = self.shared.table.lock();
            if let (Some(idempotency), Some(&position)) = (&envelope.idempotency, appended.positions.get(1)) {
                let key = Kept {
                    name: name_of(&envelope.client, &idempotency.key),
                    fingerprint: print_of(idempotency),
                    id: envelope.id,
                    position,
                    received_at: envelope.received_at,
                };
                table.keys.taken(key, appended.durable.clone());
            }
            // Told before anybody can act on it, so that facts stand in the order in which they happened.
            let facts = self.admit(&mut table, newcomer, appended.positions[0]);
            facts.into_iter().for_each(|f| self.shared.events.record(f));
        }
        drop(appended.pending);
        self.shared.work.notify_one();
        Ok(Accepted { id: envelope.id, replayed: false, _durable: appended.durable })
    }

    /// Puts a durable newcomer into the table; returns the facts of its acceptance.
    pub(super) fn admit(&self, table: &mut Table, newcomer: Newcomer, position: Position) -> Vec<Fact> {
        let (envelope, size) = (newcomer.envelope.clone(), newcomer.size());
        let labels = [envelope.channel().as_str(), &envelope.client, envelope.class.as_str()];
        self.shared.metrics.accepted_messages.with_label_values(&labels).inc();
        self.shared.metrics.accepted_bytes.with_label_values(&labels[..1]).inc_by(size);
        let options = self.shared.options.load();
        let Newcomer { envelope: _, content, lives } = newcomer;
        let summary = Summary::new(&envelope, &lives, position, u32::try_from(size).unwrap_or(u32::MAX));
        let warm = Warm { detail: Detail { envelope: envelope.clone(), lives }, content };
        let number = table.admit(summary, Some(warm), &self.shared.routes.load(), &options, self.now());
        let Some(number) = number else { return Vec::new() };
        (0..envelope.recipients.len() as RecipientIndex)
            .map(|r| settle::accepted_fact(&envelope, r, table.lane_name(number, r), size))
            .collect()
    }
}

/// What came of an idempotency key.
enum Claim {
    Fresh(Option<KeyClaim>),
    Replayed(Accepted),
}

/// A claimed key: dropped, it is free again unless its submission has been taken, and those who wait look again.
struct KeyClaim {
    queue: Queue,
    name: KeyName,
    _ended: watch::Sender<()>,
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        self.queue.shared.table.lock().keys.abandon(&self.name);
    }
}
