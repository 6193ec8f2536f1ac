//! What the queue does although nobody asks: forgets old keys, ends rules that have expired and what is overdue, and empties segments that little lives
//! in.
//!
//! **Promises.** A record is released only after its successor is durable. While a message's record moves, nothing is leased
//! or recorded about it, so that whatever is written later names the place where it then lies.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::again::{Onward, Reason};
use super::carry::About;
use super::detail::Trail;
use super::hot::Detail;
use super::keys::name_of;
use super::life::{End, State};
use super::settle::{ended, moved_on};
use super::table::Overdue;
use super::{Change, LoadError, Queue, Shared, record};
use crate::clock::{Mono, Timestamp};
use crate::model::{Channel, Content, Envelope, MessageId, RecipientIndex, Reply, Submission};
use crate::storage::{Appended, Leftover, Position, Purpose, Record};

/// How often old keys and nearly empty segments are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// Segments emptied per turn.
const SEGMENTS_PER_TURN: usize = 2;

/// Keys forgotten per turn: more than can be taken in that time.
const KEYS_FORGOTTEN_PER_TURN: usize = 65_536;

/// What moves at a time, in shares of a body: a record takes one, and one more for each of these …
const MOVING_SHARES: u32 = 64;
/// … that its body is long.
const MOVING_SHARE_BYTES: usize = 64 * 1024;

/// How long a segment that was emptied, as far as possible, is left alone: what is leased may have come back by then.
const STUCK_PAUSE: Duration = Duration::from_secs(30);

/// Segments emptied lately, and until when they are left alone. No more than the log offers.
pub(super) type Stuck = HashMap<u64, Mono>;

/// A message that comes to an end without an attempt, for some of its recipients: its time has run out, or an operator wants
/// it. Nothing else happens to it until [`Queue::end`].
#[derive(Debug)]
pub struct Ending {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Who they are, with the last reply and host each of them met.
    pub recipients: Vec<(RecipientIndex, Option<Reply>, Option<String>)>,
    /// What they come to.
    pub end: End,
    /// An operator's reason, if that is why.
    pub why: Option<Arc<str>>,
    about: About,
}

impl Queue {
    /// Messages whose time has run out, at most `most`. Each has to be given to [`Queue::end`]. Texts that do not end by that
    /// go on.
    pub async fn take_overdue(&self, most: usize) -> Vec<Ending> {
        let (routes, options) = (self.shared.routes.load_full(), self.shared.options.load_full());
        let taken = self.shared.table.lock().take_overdue(most, (&routes, &options), self.now());
        let mut overdue = Vec::with_capacity(taken.len());
        for (number, recipients, becomes) in taken {
            let about = {
                let table = self.shared.table.lock();
                let Some(entry) = table.entry(number) else { continue };
                About { id: entry.id, number, position: entry.position(), envelope: None, known: None }
            };
            let end = match becomes {
                Overdue::End(end) => end,
                Overdue::Onward(onward) => {
                    // Side by side, so that they share syncs of the disk.
                    tokio::spawn(self.clone().move_on(about, recipients, onward));
                    continue;
                }
            };
            match self.detail(about.id).await {
                Ok(Some(detail)) => overdue.push(Ending::new(about, detail, recipients, end, None)),
                Err(LoadError::Unreadable(_)) => self.shared.table.lock().put_off(number, &recipients, self.now()),
                // Nobody can be told; its end is recorded all the same.
                Ok(None) | Err(_) => self.end_unread(about, recipients, end).await,
            }
        }
        overdue
    }

    async fn move_on(self, about: About, recipients: Vec<RecipientIndex>, onward: Onward) {
        let now = self.shared.clock.now();
        let (id, number) = (about.id, about.number);
        let changes: Vec<Change> = {
            let table = self.shared.table.lock();
            let Some(entry) = table.entry(number).filter(|entry| entry.id == id) else { return };
            let change =
                |&r: &RecipientIndex| Some(moved_on(entry.track(r)?, r, onward, table.parts.progress(number, r)?, now));
            recipients.iter().filter_map(change).collect()
        };
        if onward == Onward::Elsewhere {
            let mut table = self.shared.table.lock();
            let late = changes.iter().filter_map(|change| change.progress.as_ref());
            late.for_each(|progress| table.note_quality(&progress.carrier, false, None, self.now().mono));
        }
        self.count_again((onward == Onward::Elsewhere).then_some(Reason::NoReceipt));
        if let Err(e) = self.record_changes(about, changes).await {
            tracing::error!(%id, error = %e, "that a text goes on could not be recorded");
            self.shared.table.lock().put_off(number, &recipients, self.now());
        }
    }

    /// A message's content, read back if it is not in memory; `None` if it has ended or cannot be read.
    pub async fn content(&self, id: MessageId) -> Option<Content> {
        let read = |trail: &Trail, log: &crate::storage::Reading<'_>| trail.whole(log).map(|(_, content)| content);
        self.look_up(id, |warm| warm.content.clone(), read).await.ok().flatten()
    }

    /// Has an attempt for this recipient ended at or after `then`? Also true if nobody knows any more.
    pub async fn tried_since(&self, id: MessageId, recipient: RecipientIndex, then: Timestamp) -> bool {
        let Ok(Some(detail)) = self.detail(id).await else { return true };
        let life = detail.lives.get(recipient as usize);
        life.is_none_or(|life| life.attempts.iter().any(|attempt| attempt.time >= then))
    }

    /// Ends it, together with the messages that follow from it. False if that could not be recorded.
    pub async fn end(&self, ending: Ending, follow_ups: Vec<Submission>) -> bool {
        let Ending { recipients, end, why, about, .. } = ending;
        let recipients = recipients.into_iter().map(|(r, ..)| r).collect();
        self.end_all(about, recipients, end, why, follow_ups).await
    }

    async fn end_unread(&self, about: About, recipients: Vec<RecipientIndex>, end: End) {
        tracing::error!(id = %about.id, "a message ends unread: its records on disk are damaged");
        self.end_all(about, recipients, end, None, Vec::new()).await;
    }

    async fn end_all(
        &self,
        about: About,
        recipients: Vec<RecipientIndex>,
        end: End,
        why: Option<Arc<str>>,
        follow_ups: Vec<Submission>,
    ) -> bool {
        let now = self.shared.clock.now();
        let changes: Vec<Change> = {
            let table = self.shared.table.lock();
            let Some(entry) = table.entry(about.number) else { return false };
            let (why, is_text) = (why.as_deref(), entry.channel == Channel::Sms);
            let change = |&r: &RecipientIndex| Some(ended(entry.track(r)?, r, end, why, is_text, now));
            recipients.iter().filter_map(change).collect()
        };
        let (group, newcomers) = self.group_of(&about, &changes, follow_ups);
        let (queue, id) = (self.clone(), about.id);
        let recorded = tokio::spawn(async move {
            match queue.keep(group).await {
                Ok(appended) => {
                    queue.settled(about, None, &changes, newcomers, appended);
                    true
                }
                Err(e) => {
                    tracing::error!(%id, error = %e, "an end could not be recorded");
                    false
                }
            }
        });
        recorded.await.unwrap_or(false)
    }

    /// One turn of upkeep.
    pub(super) async fn keep_up(&self, stuck: &mut Stuck) {
        let now = self.shared.clock.now();
        let forgotten = self.shared.table.lock().keys.forget_old(now, KEYS_FORGOTTEN_PER_TURN);
        forgotten.into_iter().for_each(|position| self.shared.log.release(position));
        self.shared.table.lock().prune(self.shared.clock.mono());
        self.expire_rules().await;
        self.judge_shares();
        self.show_pace();
        // What is still being taken in from disk must not move meanwhile.
        if !self.is_loaded() {
            return;
        }
        // The oldest first; but those that could not be emptied lately must not stand in front of the others.
        let leftovers = self.shared.log.leftovers(SEGMENTS_PER_TURN + stuck.len());
        stuck.retain(|segment, _| leftovers.iter().any(|l| l.segment == *segment));
        let now = self.shared.clock.mono();
        let due = leftovers.into_iter().filter(|l| stuck.get(&l.segment).is_none_or(|until| *until <= now));
        for leftover in due.take(SEGMENTS_PER_TURN).collect::<Vec<_>>() {
            stuck.insert(leftover.segment, now.plus(STUCK_PAUSE));
            self.empty(leftover).await;
        }
        self.keep_shelf().await;
        self.checkpoint(false).await;
    }

    /// Moves what lives in a segment forward, much of it at a time, so that one sync carries many.
    async fn empty(&self, leftover: Leftover) {
        let room = Arc::new(Semaphore::new(MOVING_SHARES as usize));
        for position in leftover.live {
            let Ok(stored) = self.shared.log.read(position).await else {
                tracing::warn!(?position, "a record could not be read and stays where it is");
                continue;
            };
            let body_bytes = stored.body.as_ref().map_or(0, bytes::Bytes::len);
            let shares = (1 + body_bytes / MOVING_SHARE_BYTES).min(MOVING_SHARES as usize) as u32;
            let Ok(place) = room.clone().acquire_many_owned(shares).await else { return };
            match stored.kind {
                record::ACCEPT => self.move_message(position, MessageId::from_bytes(stored.key), stored.body, place),
                record::KEY => self.move_key(position, stored.key, stored.payload, place),
                _ => {}
            }
        }
        let _all = room.acquire_many(MOVING_SHARES).await;
    }

    /// Copies a message's accept record forward, with the state it is in now. A task of its own: what the disk has, the table
    /// must get.
    fn move_message(&self, from: Position, id: MessageId, body: Option<bytes::Bytes>, place: OwnedSemaphorePermit) {
        if !self.start_move(id, from) {
            return;
        }
        let queue = self.clone();
        tokio::spawn(async move {
            let moved = queue.copy(from, id, body).await;
            {
                let mut table = queue.shared.table.lock();
                table.unmark(id);
                let Some(appended) = &moved else { return };
                if !table.moved(id, appended.positions[0]) {
                    queue.shared.log.release(appended.positions[0]);
                }
            }
            queue.shared.log.release(from);
            drop(place);
        });
    }

    async fn copy(&self, from: Position, id: MessageId, body: Option<bytes::Bytes>) -> Option<Appended> {
        let mut detail = match self.detail(id).await {
            Ok(detail) => detail?,
            Err(e) => {
                tracing::warn!(%id, error = %e, "a record could not be read and stays where it is");
                return None;
            }
        };
        {
            // What the table knows counts, also if a part of the history could not be read back.
            let table = self.shared.table.lock();
            let (_, entry) = table.find(id)?;
            for (life, track) in detail.lives.iter_mut().zip(entry.tracks()) {
                if life.sequence != track.sequence {
                    tracing::error!(%id, "a part of a message's history cannot be read back");
                    track.impress(life);
                }
            }
        }
        let payload = record::write_accept(&detail.envelope, &detail.lives);
        let record = Record { kind: record::ACCEPT, key: id.to_bytes(), about: Some(from), payload, body, live: true };
        self.shared.log.append(Purpose::Upkeep, vec![record]).await.ok()
    }

    /// Marks an idle message as moving; false if it is not idle, or not there any more.
    fn start_move(&self, id: MessageId, from: Position) -> bool {
        let mut table = self.shared.table.lock();
        let Some((number, entry)) = table.find(id) else { return false };
        let idle = entry.position() == from
            && !entry.moving
            && !table.is_leased(entry)
            && !entry.tracks().any(|t| matches!(t.state(), State::Begun { .. }));
        if let Some(entry) = table.entry_mut(number).filter(|_| idle) {
            entry.moving = true;
        }
        idle
    }

    fn move_key(&self, from: Position, key: [u8; 16], payload: bytes::Bytes, place: OwnedSemaphorePermit) {
        let Ok(known) = record::read_key(&payload) else { return };
        let queue = self.clone();
        tokio::spawn(async move {
            let record = Record { kind: record::KEY, key, about: Some(from), payload, body: None, live: true };
            let Ok(appended) = queue.shared.log.append(Purpose::Upkeep, vec![record]).await else { return };
            let name = name_of(&known.client, &known.idempotency.key);
            let to = appended.positions[0];
            {
                let mut table = queue.shared.table.lock();
                table.changed(from.segment);
                table.changed(to.segment);
                if !table.keys.moved(&name, from, to) {
                    queue.shared.log.release(to);
                }
            }
            queue.shared.log.release(from);
            drop(place);
        });
    }
}

impl Ending {
    pub(super) fn new(
        about: About,
        detail: Detail,
        recipients: Vec<RecipientIndex>,
        end: End,
        why: Option<Arc<str>>,
    ) -> Self {
        let recipients = recipients.into_iter().map(|r| {
            let last = detail.lives.get(r as usize).and_then(|l| l.attempts.last());
            let host = last.and_then(|a| a.peer.as_ref()).map(|p| p.host.clone());
            (r, last.and_then(|a| a.reply.clone()), host)
        });
        let envelope = detail.envelope.clone();
        let about = About { envelope: Some(envelope.clone()), ..about };
        Self { recipients: recipients.collect(), envelope, end, why, about: About { known: Some(detail), ..about } }
    }
}

/// Runs upkeep until the queue is gone or stopping.
pub(super) async fn run(shared: Weak<Shared>) {
    let Some(mut stopping) = shared.upgrade().map(|s| s.stopping.subscribe()) else { return };
    let mut stuck = Stuck::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.wait_for(|&stop| stop) => return,
        }
        match shared.upgrade() {
            Some(shared) => Queue { shared }.keep_up(&mut stuck).await,
            None => return,
        }
    }
}
