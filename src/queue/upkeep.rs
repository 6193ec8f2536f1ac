//! What the queue does although nobody asks: forgets old keys, ends what is overdue, and empties segments that little lives
//! in.
//!
//! **Promises.** A record is released only after its successor is durable. While a message's record moves, nothing is leased
//! or recorded about it, so that whatever is written later names the place where it then lies.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::life::{End, State};
use super::settle::ended;
use super::{Change, Queue, Shared, record};
use crate::clock::Mono;
use crate::model::{Content, Envelope, MessageId, RecipientIndex, Reply, Submission};
use crate::storage::{Leftover, Live, Position, Purpose, Record};

/// How often old keys and nearly empty segments are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// Segments emptied per turn.
const SEGMENTS_PER_TURN: usize = 2;

/// How long a segment that was emptied, as far as possible, is left alone: what is leased may have come back by then.
const STUCK_PAUSE: Duration = Duration::from_secs(30);

/// Segments emptied lately, and until when they are left alone. No more than the log offers.
pub(super) type Stuck = HashMap<u64, Mono>;

/// A message whose time has run out, for some of its recipients. Nothing else happens to it until [`Queue::end`].
#[derive(Debug)]
pub struct Overdue {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Whose time has run out, with the last reply and host each of them met.
    pub recipients: Vec<(RecipientIndex, Option<Reply>, Option<String>)>,
    /// What they come to.
    pub end: End,
    position: Position,
}

impl Queue {
    /// Messages whose time has run out, at most `most`. Each has to be given to [`Queue::end`].
    pub fn take_overdue(&self, most: usize) -> Vec<Overdue> {
        let mut table = self.shared.table.lock();
        let overdue = table.overdue(self.shared.clock.now(), most);
        let mut taken = Vec::with_capacity(overdue.len());
        for (id, recipients, end) in overdue {
            table.withdraw(id, &recipients);
            let Some(entry) = table.entries.get_mut(&id) else { continue };
            entry.moving = true;
            let recipients = recipients.into_iter().map(|r| {
                let last = entry.lives.get(r as usize).and_then(|l| l.attempts.last());
                let host = last.and_then(|a| a.peer.as_ref()).map(|p| p.host.clone());
                (r, last.and_then(|a| a.reply.clone()), host)
            });
            taken.push(Overdue {
                recipients: recipients.collect(),
                envelope: entry.envelope.clone(),
                end,
                position: entry.position,
            });
        }
        taken
    }

    /// A message's content, read back if it is not in memory; `None` if it has ended or cannot be read.
    pub async fn content(&self, id: MessageId) -> Option<Content> {
        let (position, channel) = {
            let table = self.shared.table.lock();
            let entry = table.entries.get(&id)?;
            if let Some(content) = &entry.content {
                return Some(content.clone());
            }
            (entry.position, entry.envelope.channel())
        };
        let stored = self.shared.log.read(position).await.ok()?;
        record::read_content(channel, stored.body.unwrap_or_default()).ok()
    }

    /// Ends what is overdue, together with the messages that follow from it.
    pub async fn end(&self, overdue: Overdue, follow_ups: Vec<Submission>) {
        let now = self.shared.clock.now();
        let id = overdue.envelope.id;
        let changes: Vec<Change> = overdue.recipients.iter().map(|(r, ..)| ended(*r, overdue.end, now)).collect();
        let (group, newcomers) = self.group_of(id, overdue.position, &changes, follow_ups);
        match self.keep(group).await {
            Ok(appended) => self.settled(None, id, changes, newcomers, &appended.positions),
            Err(e) => tracing::error!(%id, error = %e, "an end could not be recorded"),
        }
    }

    /// One turn of upkeep.
    pub(super) async fn keep_up(&self, stuck: &mut Stuck) {
        let forgotten = self.shared.table.lock().keys.forget_old(self.shared.clock.now());
        forgotten.into_iter().for_each(|position| self.shared.log.release(position));
        self.shared.table.lock().prune(self.shared.clock.mono());
        // The oldest first; but those that could not be emptied lately must not stand in front of the others.
        let leftovers = self.shared.log.leftovers(SEGMENTS_PER_TURN + stuck.len());
        stuck.retain(|segment, _| leftovers.iter().any(|l| l.segment == *segment));
        let now = self.shared.clock.mono();
        let due = leftovers.into_iter().filter(|l| stuck.get(&l.segment).is_none_or(|until| *until <= now));
        for leftover in due.take(SEGMENTS_PER_TURN).collect::<Vec<_>>() {
            stuck.insert(leftover.segment, now.plus(STUCK_PAUSE));
            self.empty(leftover).await;
        }
    }

    async fn empty(&self, leftover: Leftover) {
        for live in leftover.live {
            match live.kind {
                record::ACCEPT => self.move_message(&live).await,
                record::KEY => self.move_key(&live).await,
                _ => {}
            }
        }
    }

    /// Copies a message's accept record forward, with the state it is in now.
    async fn move_message(&self, live: &Live) {
        let id = MessageId::from_bytes(live.key);
        let Some(payload) = self.start_move(id, live.position) else { return };
        let moved = match self.shared.log.read(live.position).await {
            Ok(stored) => {
                let about = Some(live.position);
                let body = stored.body;
                let record = Record { kind: record::ACCEPT, key: live.key, about, payload, body, live: true };
                self.shared.log.append(Purpose::Upkeep, vec![record]).await.ok()
            }
            Err(e) => {
                tracing::warn!(%id, error = %e, "a record could not be read and stays where it is");
                None
            }
        };
        {
            let mut table = self.shared.table.lock();
            table.unmark(id);
            let Some(appended) = &moved else { return };
            match table.entries.get_mut(&id) {
                Some(entry) => entry.position = appended.positions[0],
                None => self.shared.log.release(appended.positions[0]),
            }
        }
        self.shared.log.release(live.position);
    }

    /// Marks an idle message as moving and gives its new accept payload.
    fn start_move(&self, id: MessageId, from: Position) -> Option<bytes::Bytes> {
        let mut table = self.shared.table.lock();
        let table = &mut *table;
        let entry = table.entries.get_mut(&id)?;
        let idle = entry.position == from
            && !entry.moving
            && !entry.tickets.iter().any(|&t| table.schedule.is_leased(t))
            && !entry.lives.iter().any(|l| matches!(l.state, State::Begun { .. }));
        if !idle {
            return None;
        }
        entry.moving = true;
        Some(record::write_accept(&entry.envelope, &entry.lives))
    }

    async fn move_key(&self, live: &Live) {
        let Ok(stored) = self.shared.log.read(live.position).await else { return };
        let Ok(known) = record::read_key(&stored.payload) else { return };
        let payload = stored.payload;
        let about = Some(live.position);
        let record = Record { kind: record::KEY, key: live.key, about, payload, body: None, live: true };
        let Ok(appended) = self.shared.log.append(Purpose::Upkeep, vec![record]).await else { return };
        let key = (known.client, known.idempotency.key);
        if !self.shared.table.lock().keys.moved(&key, live.position, appended.positions[0]) {
            self.shared.log.release(appended.positions[0]);
        }
        self.shared.log.release(live.position);
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
