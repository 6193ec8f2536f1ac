//! Start, the first half: what has to be known before the first yes.
//!
//! The log hands out the idempotency keys of all its sidecars and, from its younger end, every record. Records come in the
//! order of their commit; here they are gathered: messages as their accept records tell of them, and what has happened to
//! messages that stand in sidecars. `load.rs` then takes the messages in while the relay already serves.
//!
//! Facts that the crash kept from the event file are told here, from the same records: before anything new is told, so that
//! another crash cannot hide them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::entry::Track;
use super::keys::{Kept, name_of, print_of};
use super::life::{Change, State};
use super::load::Load;
use super::record::summary::{Summary, read_keys};
use super::record::{self, RecordError};
use super::settle::Subject;
use super::shelved::Shelved;
use super::steer::RulesKept;
use super::steering::file::RulesFile;
use super::table::Table;
use super::{Options, Progress, Queue, SETTLING_MAX, Shared, settle};
use crate::clock::{SharedClock, Timestamp};
use crate::event::Fact;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::event::tail::Tail;
use crate::model::{Address, Envelope, MessageId, RecipientIndex, TextProgress};
use crate::route::Routes;
use crate::storage::{Disk, Log, OpenError, Position, ReadError, Recovered, RecoveredRecord, RecoveryReport};

/// What a start found before it began to serve.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Idempotency keys.
    pub keys: u64,
    /// Facts that the crash before kept from the event file; they have been written now.
    pub facts: u64,
    /// Records that could be read from disk but not understood.
    pub strange: u64,
    /// What the log says of itself.
    pub log: RecoveryReport,
}

/// What has been read of the log's younger end.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Segments whose messages stand in sidecars, oldest first.
    pub(super) sidecars: Vec<u64>,
    /// Messages whose accept records are in segments without sidecars.
    pub(super) messages: HashMap<MessageId, Summary>,
    /// What has happened, as far as their records tell, to recipients of messages that stand in sidecars, or have ended.
    pub(super) later: HashMap<(MessageId, RecipientIndex), Later>,
    /// Where messages lie, or last lay, whose older places may still be told of.
    pub(super) moved: HashMap<MessageId, Position>,
    /// Accept and key records that a younger one has replaced: a crash came between a move and the release of the old place.
    pub(super) replaced: Vec<Position>,
    keys: Vec<Kept>,
    strange: u64,
    late: Vec<Late>,
}

/// The newest that is known of a recipient.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) track: Track,
    pub(super) progress: Option<Box<TextProgress>>,
}

/// Something that may be missing in the event file.
#[derive(Debug)]
struct Late {
    id: MessageId,
    /// The accept record.
    about: Position,
    /// What happened, and the number of attempts before; the acceptance itself if nothing.
    change: Option<(Change, u32)>,
}

impl Gathered {
    fn take(&mut self, recovered: Recovered, tail: &Tail) {
        let record = match recovered {
            Recovered::Sidecar { segment, brief, .. } => {
                self.sidecars.push(segment);
                match read_keys(segment, &brief) {
                    Ok(keys) => self.keys.extend(keys),
                    Err(e) => self.wonder(&segment, &e),
                }
                return;
            }
            Recovered::Record(record) => record,
        };
        let id = MessageId::from_bytes(record.key);
        let understood = match record.kind {
            record::ACCEPT if record.covered => {
                self.accepted_elsewhere(id, &record);
                Ok(())
            }
            record::ACCEPT => self.accepted(id, &record, tail),
            record::CHANGE => record::read_changes(&record.payload)
                .map(|changes| changes.into_iter().for_each(|change| self.change(id, &record, change, tail))),
            // Those of sidecars have been read there.
            record::KEY if record.covered => Ok(()),
            record::KEY => record::read_key(&record.payload).map(|key| {
                self.keys.push(Kept {
                    name: name_of(&key.client, &key.idempotency.key),
                    fingerprint: print_of(&key.idempotency),
                    id,
                    position: record.position,
                    received_at: key.received_at,
                });
            }),
            _ => Err(RecordError { field: "kind" }),
        };
        if let Err(e) = understood {
            self.wonder(&record.position, &e);
        }
    }

    /// Where a message's accept record lies by now, as far as the log's younger end tells.
    fn now_at(&self, id: MessageId) -> Option<Position> {
        let known = self.messages.get(&id).map(|m| m.of.spot.into());
        known.or_else(|| self.moved.get(&id).copied())
    }

    fn wonder(&mut self, place: &dyn std::fmt::Debug, e: &RecordError) {
        self.strange += 1;
        tracing::error!(?place, error = %e, "a record is intact and cannot be understood");
    }

    fn accepted(&mut self, id: MessageId, record: &RecoveredRecord, tail: &Tail) -> Result<(), RecordError> {
        let (envelope, lives) = record::read_accept(id, &record.payload)?;
        // A record that is about another is the same message, moved.
        if record.about.is_none() && tail.may_lack(envelope.received_at) {
            self.late.push(Late { id, about: record.position, change: None });
        }
        let summary = Summary::new(&envelope, &lives, record.position, record.body_bytes.unwrap_or_default());
        if record.about.is_some() {
            self.moved.insert(id, record.position);
        }
        let older = self.messages.insert(id, summary);
        self.replaced.extend(older.map(|older| Position::from(older.of.spot)));
        Ok(())
    }

    /// A message that was moved to a segment with a sidecar, which tells of it if it still lives there. Older places of it
    /// count no more, also if it has ended since.
    fn accepted_elsewhere(&mut self, id: MessageId, record: &RecoveredRecord) {
        if record.about.is_none() {
            return;
        }
        let older = self.messages.remove(&id);
        self.replaced.extend(older.map(|older| Position::from(older.of.spot)));
        self.moved.insert(id, record.position);
    }

    fn change(&mut self, id: MessageId, record: &RecoveredRecord, change: Change, tail: &Tail) {
        let recipient = change.recipient;
        let known = self.messages.get_mut(&id).and_then(|m| m.recipients.get_mut(recipient as usize));
        if let Some((time, about)) = told_at(&change).zip(record.about)
            && tail.may_lack(time)
        {
            let seen = known.as_ref().map_or(0, |standing| standing.track.tally().attempts_made);
            let before =
                change.tally.map_or(seen, |t| t.attempts_made - u16::from(change.counts && t.attempts_made > 0));
            self.late.push(Late { id, about, change: Some((change.clone(), u32::from(before))) });
        }
        match known {
            Some(standing) => {
                standing.track.apply(&change, record.position);
                keep_newer(&mut standing.progress, change.progress);
            }
            // Records of the first format have no numbers; there were no sidecars then.
            None if change.sequence == 0 => {}
            None => {
                let after = Track::after(&change, record.position);
                let later = self.later.entry((id, recipient)).or_insert(Later { track: after, progress: None });
                later.track.catch_up(&after);
                keep_newer(&mut later.progress, change.progress);
            }
        }
    }
}

/// A change says how far a text has come; receipts that came before it still count.
fn keep_newer(known: &mut Option<Box<TextProgress>>, newer: Option<Box<TextProgress>>) {
    let Some(mut newer) = newer else { return };
    if let Some(known) = known {
        super::life::keep_receipts(known, &mut newer);
    }
    *known = Some(newer);
}

/// When the fact of a change was told, or should have been.
fn told_at(change: &Change) -> Option<Timestamp> {
    match (&change.attempt, change.state) {
        (Some(attempt), _) => Some(attempt.time),
        (None, State::Ended { at, .. }) => Some(at),
        (None, _) => change.receipt.as_ref().map(|r| r.at),
    }
}

/// Tells the facts that the event file lacks; returns how many.
fn tell(
    late: Vec<Late>,
    now_at: impl Fn(MessageId) -> Result<Position, ReadError>,
    tail: &Tail,
    log: &Log,
    events: &EventLog,
    routes: &Routes,
) -> u64 {
    let mut envelopes: HashMap<MessageId, Option<(Envelope, u64)>> = HashMap::new();
    let mut told = HashSet::new();
    let mut count = 0;
    for Late { id, about, change } in late {
        let known = envelopes.entry(id).or_insert_with(|| {
            // It may have been moved since, and its old place be gone.
            let (payload, size) = log.read_payload(about).or_else(|_| log.read_payload(now_at(id)?)).ok()?;
            let (envelope, _) = record::read_accept(id, &payload).ok()?;
            Some((envelope, size))
        });
        let Some((envelope, size)) = known else { continue };
        let subject = Subject::of(envelope, *size);
        let facts: Vec<Fact> = match &change {
            None => (0..envelope.recipients.len() as RecipientIndex)
                .map(|r| settle::accepted_fact(envelope, r, Some(settle::lane_of(&subject, r, None)), *size))
                .collect(),
            Some((change, before)) => {
                let lane = settle::lane_of(&subject, change.recipient, change.progress.as_deref());
                let time = told_at(change).unwrap_or_default();
                let mut fact = settle::fact_of(&subject, change, *before, None, Some(lane), time);
                let to = envelope.recipients.get(change.recipient as usize).map(|r| &r.address);
                if let (Some(fact), Some(Address::Number(to))) = (&mut fact, to) {
                    settle::priced(fact, change, || Some(to.clone()), routes);
                }
                fact.into_iter().collect()
            }
        };
        for fact in facts.into_iter().filter(|fact| tail.lacks(fact)) {
            if told.insert((id, fact.event, fact.recipient.clone(), fact.attempt, fact.time)) {
                count += 1;
                events.record(fact);
            }
        }
    }
    count
}

#[allow(clippy::too_many_arguments, reason = "all that a queue is made of, once")]
pub(super) fn open(
    open_log: impl FnOnce(&mut dyn FnMut(Recovered)) -> Result<(Log, RecoveryReport), OpenError>,
    (disk, dir): (Arc<dyn Disk>, &Path),
    rules: RulesFile,
    options: Options,
    routes: Arc<ArcSwap<Routes>>,
    clock: SharedClock,
    events: EventLog,
    metrics: Arc<Metrics>,
) -> Result<(Queue, Recovery), OpenError> {
    let tail = events.tail().unwrap_or_default();
    let mut gathered = Gathered::default();
    let (log, report) = open_log(&mut |r| gathered.take(r, &tail))?;
    let shelved = Shelved::open(disk, dir, options.shelf)?;
    let mut table = Table::new(&options, rules.read()?, metrics.clone());
    let keys = std::mem::take(&mut gathered.keys);
    let count = keys.len() as u64;
    for key in keys {
        // Moved keys may be there twice; the younger record counts.
        gathered.replaced.extend(table.keys.taken(key, log.recovered()));
    }
    for position in std::mem::take(&mut gathered.replaced) {
        log.release(position);
    }
    let late = std::mem::take(&mut gathered.late);
    let facts = tell(late, |id| gathered.now_at(id).ok_or(ReadError::Gone), &tail, &log, &events, &routes.load());
    let recovery = Recovery { keys: count, facts, strange: gathered.strange, log: report };
    let source_rules = watch::channel(table.rules.of_sources()).0;
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
        progress: watch::channel(Progress::default()).0,
        checkpoints: tokio::sync::Mutex::default(),
        rules: tokio::sync::Mutex::new(RulesKept { file: rules, behind: false }),
        shelved,
        source_rules,
    });
    let queue = Queue { shared };
    tokio::spawn(Load::new(queue.clone(), gathered).run());
    Ok((queue, recovery))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_message_was_moved_to_is_known_although_it_has_ended_there() {
        let id = MessageId::from_bytes([7; 16]);
        let old = Position { segment: 1, offset: 64, length: 200 };
        let new = Position { segment: 3, ..old };
        for live in [true, false] {
            let mut gathered = Gathered::default();
            gathered.take(
                Recovered::Record(RecoveredRecord {
                    position: new,
                    kind: record::ACCEPT,
                    key: id.to_bytes(),
                    about: Some(old),
                    live,
                    covered: true,
                    payload: bytes::Bytes::new(),
                    body_bytes: None,
                }),
                &Tail::default(),
            );
            // Or an older sidecar, which still tells of the old place, would be believed.
            assert_eq!(gathered.now_at(id), Some(new), "live: {live}");
            assert_eq!(gathered.strange, 0);
        }
    }
}
