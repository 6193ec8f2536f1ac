//! Start: from the log's records to a full table.
//!
//! Records come in the order of their commit. An ACCEPT holds a message's whole state as of then, a CHANGE what has happened
//! since; what is left at the end is what has not ended. A text whose attempt had begun and whose outcome is not recorded
//! ends as `unknown` now: it may have left. Facts that the crash kept from the event file are told now, from the same
//! records.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::life::{Attempt, Change, End, Entry, State};
use super::record::{self, KeyRecord};
use super::table::{Now, Table, fresh_entry};
use super::{Options, Queue, SETTLING_MAX, Shared, settle};
use crate::clock::SharedClock;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::event::tail::Tail;
use crate::event::{Fact, Kind};
use crate::model::{Envelope, MessageId, PartState, RecipientIndex, Stage};
use crate::route::Routes;
use crate::storage::{Log, OpenError, Position, Recovered, RecoveryReport};

/// What a start found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Messages with recipients that have not ended.
    pub messages: u64,
    /// Texts whose answer a crash swallowed; they end as `unknown`.
    pub unknown: u64,
    /// Facts that the crash before kept from the event file; they have been written now.
    pub facts: u64,
    /// Records that could be read from disk but not understood.
    pub strange: u64,
    /// What the log says of itself.
    pub log: RecoveryReport,
}

/// Records gathered before there is a table.
struct Gathered {
    /// What the event file held at its end.
    tail: Tail,
    /// Facts that it lacks.
    lacking: Vec<(MessageId, RecipientIndex, Fact)>,
    entries: HashMap<MessageId, Entry>,
    /// Ended messages and when, for the history, and their records, to be released.
    ended: Vec<(MessageId, Entry)>,
    keys: Vec<(KeyRecord, MessageId, Position)>,
    /// Accept records that a younger one has replaced: a crash came between a move and the release of the old place.
    replaced: Vec<Position>,
    strange: u64,
}

impl Gathered {
    fn new(tail: Tail) -> Self {
        Self {
            tail,
            lacking: Vec::new(),
            entries: HashMap::new(),
            ended: Vec::new(),
            keys: Vec::new(),
            replaced: Vec::new(),
            strange: 0,
        }
    }

    fn take(&mut self, recovered: &Recovered) {
        let id = MessageId::from_bytes(recovered.key);
        let understood = match recovered.kind {
            record::ACCEPT => record::read_accept(id, &recovered.payload).map(|(envelope, lives)| {
                let size = u64::from(recovered.body_bytes.unwrap_or_default());
                // A record that is about another is the same message, moved.
                if recovered.about.is_none() {
                    self.accepted(&envelope, size);
                }
                let entry = fresh_entry(Arc::new(envelope), recovered.position, None, size, lives);
                self.replaced.extend(self.entries.insert(id, entry).map(|older| older.position));
            }),
            record::CHANGE => record::read_changes(&recovered.payload).map(|changes| self.change(id, changes)),
            record::KEY => {
                record::read_key(&recovered.payload).map(|key| self.keys.push((key, id, recovered.position)))
            }
            _ => Err(record::RecordError { field: "kind" }),
        };
        if let Err(e) = understood {
            self.strange += 1;
            tracing::error!(position = ?recovered.position, error = %e, "a record is intact and cannot be understood");
        }
    }

    fn accepted(&mut self, envelope: &Envelope, size: u64) {
        for recipient in 0..envelope.recipients.len() as RecipientIndex {
            let fact = settle::accepted_fact(envelope, recipient, None, size);
            self.note(envelope.id, recipient, Some(fact));
        }
    }

    fn note(&mut self, id: MessageId, recipient: RecipientIndex, fact: Option<Fact>) {
        if let Some(fact) = fact.filter(|fact| self.tail.lacks(fact)) {
            self.lacking.push((id, recipient, fact));
        }
    }

    /// A change to a message that is not known is one that has ended and whose accept record has gone.
    fn change(&mut self, id: MessageId, changes: Vec<Change>) {
        let Some(entry) = self.entries.get(&id) else { return };
        let facts: Vec<(RecipientIndex, Option<Fact>)> =
            changes.iter().map(|c| (c.recipient, settled_fact(entry, c))).collect();
        for (recipient, fact) in facts {
            self.note(id, recipient, fact);
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for change in changes {
            if let Some(life) = entry.lives.get_mut(change.recipient as usize) {
                life.apply(change);
            }
        }
        if entry.has_ended()
            && let Some(entry) = self.entries.remove(&id)
        {
            self.ended.push((id, entry));
        }
    }
}

/// The fact of a change as it was told when it was settled, or should have been.
fn settled_fact(entry: &Entry, change: &Change) -> Option<Fact> {
    let time = match (&change.attempt, change.state) {
        (Some(attempt), _) => attempt.time,
        (None, State::Ended { at, .. }) => at,
        (None, _) => change.receipt.as_ref()?.at,
    };
    settle::fact_of(entry, change, None, time)
}

pub(super) fn open(
    open_log: impl FnOnce(&mut dyn FnMut(Recovered)) -> Result<(Log, RecoveryReport), OpenError>,
    options: Options,
    routes: Arc<ArcSwap<Routes>>,
    clock: SharedClock,
    events: EventLog,
    metrics: Arc<Metrics>,
) -> Result<(Queue, Recovery), OpenError> {
    let mut gathered = Gathered::new(events.tail().unwrap_or_default());
    let (log, report) = open_log(&mut |r| gathered.take(&r))?;
    let now = Now { wall: clock.now(), mono: clock.mono() };
    let mut table = Table::new(&options, metrics.clone());
    gathered.replaced.into_iter().for_each(|position| log.release(position));
    for (id, entry) in gathered.ended {
        log.release(entry.position);
        let at = entry.lives.iter().filter_map(|l| if let State::Ended { at, .. } = l.state { Some(at) } else { None });
        let ended = at.max().unwrap_or(now.wall);
        table.history.remember(id, entry, ended);
    }
    for (key, id, position) in gathered.keys {
        let (of, received_at) = ((key.client, key.idempotency.key), key.received_at);
        // Moved keys may be there twice; the younger record counts.
        if let Some(older) =
            table.keys.taken(of, key.idempotency.fingerprint, id, position, log.recovered(), received_at)
        {
            log.release(older);
        }
    }
    let begun = gathered.entries.iter().filter(|(_, e)| e.lives.iter().any(|l| matches!(l.state, State::Begun { .. })));
    let begun: Vec<MessageId> = begun.map(|(id, _)| *id).collect();
    let recovery = Recovery {
        messages: gathered.entries.len() as u64,
        unknown: begun.len() as u64,
        facts: gathered.lacking.len() as u64,
        strange: gathered.strange,
        log: report,
    };
    for (id, entry) in gathered.entries {
        if entry.queued() > 0 {
            table.reserve_owed(&entry.envelope.client, entry.size);
        }
        table.admit(id, entry, &routes.load(), &options, now);
    }
    for (id, recipient, mut fact) in gathered.lacking {
        let entry = table.entries.get(&id).or_else(|| table.history.find(id).map(|e| &**e));
        fact.lane = entry.map(|entry| Table::lane_name(entry, recipient));
        events.record(fact);
    }
    let shared = Arc::new(Shared {
        table: Mutex::new(table),
        poisoned: log.poisoned(),
        log,
        routes,
        options: ArcSwap::from_pointee(options),
        clock,
        events,
        metrics,
        work: Notify::new(),
        settling: Arc::new(Semaphore::new(SETTLING_MAX)),
        stopping: watch::channel(false).0,
    });
    let queue = Queue { shared };
    tokio::spawn(queue.clone().end_unknown(begun));
    Ok((queue, recovery))
}

impl Queue {
    /// Ends the texts whose answer a crash swallowed. Each is counted: it is a possible loss, and a possible duplicate if
    /// its client sends it again.
    async fn end_unknown(self, begun: Vec<MessageId>) {
        for id in begun {
            let Some((position, changes)) = self.unknown_changes(id) else { continue };
            self.shared.metrics.answers_lost.with_label_values(&["sms"]).inc_by(changes.len() as u64);
            if let Err(e) = self.record_changes(id, position, changes).await {
                tracing::error!(%id, error = %e, "an end could not be recorded");
            }
        }
    }

    fn unknown_changes(&self, id: MessageId) -> Option<(Position, Vec<Change>)> {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let entry = table.entries.get_mut(&id)?;
        entry.moving = true;
        let begun = (0..).zip(&entry.lives).filter(|(_, l)| matches!(l.state, State::Begun { .. }));
        let changes = begun.map(|(recipient, life): (RecipientIndex, _)| {
            let parts = life
                .progress
                .as_deref()
                .map_or(0, |p| p.parts.iter().filter(|part| **part == PartState::Unanswered).count());
            let cause =
                format!("the relay stopped while {parts} part(s) were on their way; their answers were not seen");
            Change {
                recipient,
                state: State::Ended { end: End::Unknown, at: now },
                attempt: Some(Attempt {
                    time: now,
                    outcome: Kind::Unknown,
                    stage: Some(Stage::Submit),
                    scope: None,
                    status: None,
                    reply: None,
                    cause: Some(cause),
                    throttled: false,
                    peer: None,
                    duration: std::time::Duration::ZERO,
                }),
                counts: true,
                progress: None,
                receipt: None,
            }
        });
        Some((entry.position, changes.collect()))
    }
}
