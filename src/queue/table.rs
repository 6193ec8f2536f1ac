//! What the queue holds in memory: entries, quotas, the schedule, what is hot.
//!
//! **Promises.** Every method is short, does no I/O and leaves the table consistent: a recipient that is `Queued`, and one that
//! waits for a receipt, has exactly one ticket; counts and quotas are those of the entries. One lock guards a table; nobody
//! holds it across an await.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;

use super::again::Onward;
use super::brakes::Brakes;
use super::clients::Clients;
use super::entry::Entry;
use super::history::{Ended, History};
use super::homes::Homes;
use super::hot::{Detail, Hot, Warm};
use super::keys::Keys;
use super::learnt::Remembered;
use super::life::{Change, End, State};
use super::parts::Parts;
use super::quality::Qualities;
use super::record::summary::Summary;
use super::slab::Slab;
use super::steering::Rules;
use super::under_way::UnderWay;
use super::{Options, Target};
use crate::clock::{Mono, Timestamp};
use crate::event::metrics::Metrics;
use crate::model::{Channel, MessageId, RecipientIndex};
use crate::route::Routes;
use crate::schedule::{NEVER, Schedule, SiteId, Ticket};
use crate::storage::Position;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) schedule: Schedule,
    pub(super) keys: Keys,
    pub(super) history: History,
    pub(super) hot: Hot,
    /// What the records of messages to several recipients hold that are not hot, while consignments of theirs are out: each
    /// of these has read them, and none knows of what the others come to.
    underway: HashMap<u32, Detail>,
    pub(super) parts: Parts,
    /// Texts that are out for delivery.
    pub(super) under_way: UnderWay,
    /// How carriers do.
    pub(super) qualities: Qualities,
    pub(super) clients: Clients,
    pub(super) targets: HashMap<SiteId, Target>,
    pub(super) homes: Homes,
    /// What operators have ordered.
    pub(super) rules: Rules,
    /// What sites have said of campaigns and senders.
    pub(super) brakes: Brakes,
    /// What was learnt, before the start, of sites that have not come up yet.
    pub(super) remembered: Remembered,
    /// When the shares of deferrals and bounces were looked at last.
    pub(super) swept: Mono,
    entries: Slab<Entry>,
    by_id: HashTable<u32>,
    /// Entries by the segment that their accept record lies in, and whether anything about them has changed since they were
    /// written down in its sidecar. Some may have gone or moved since.
    residents: HashMap<u64, Residents>,
    metrics: Arc<Metrics>,
}

/// Entries of a segment.
#[derive(Debug, Default)]
pub(super) struct Residents {
    pub(super) entries: Vec<u32>,
    pub(super) changed: bool,
}

/// What becomes of a consignment whose deadline has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    End(End),
    Onward(Onward),
}

/// What came of applying changes.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Where a record is not needed any more, once the message has ended.
    pub(super) released: Option<Position>,
}

/// Ids are random in their second half.
fn hash_of(id: MessageId) -> u64 {
    let bytes = id.to_bytes();
    bytes[8..].first_chunk().map_or(0, |half| u64::from_le_bytes(*half))
}

impl Table {
    pub(super) fn new(options: &Options, rules: Rules, metrics: Arc<Metrics>) -> Self {
        Self {
            schedule: Schedule::new(options.held),
            keys: Keys::new(options.key_age_max),
            history: History::new(options.history_messages_max, options.history_age_max),
            hot: Hot::default(),
            underway: HashMap::new(),
            parts: Parts::default(),
            under_way: UnderWay::default(),
            qualities: Qualities::default(),
            clients: Clients::default(),
            targets: HashMap::new(),
            homes: Homes::default(),
            rules,
            brakes: Brakes::default(),
            remembered: Remembered::new(),
            swept: Mono(0),
            entries: Slab::default(),
            by_id: HashTable::new(),
            residents: HashMap::new(),
            metrics,
        }
    }

    /// A message that has not ended, with its number.
    pub(super) fn find(&self, id: MessageId) -> Option<(u32, &Entry)> {
        let number = *self.by_id.find(hash_of(id), |&n| self.entries.find(n).is_some_and(|e| e.id == id))?;
        self.entries.find(number).map(|entry| (number, entry))
    }

    /// The message of that number.
    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.find(number)
    }

    pub(super) fn entry_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.entries.find_mut(number)
    }

    /// The message that travels with a ticket.
    pub(super) fn of_ticket(&self, ticket: Ticket) -> Option<(u32, &Entry)> {
        let number = self.schedule.owner(ticket)?;
        self.entries.find(number).map(|entry| (number, entry))
    }

    /// Numbers of entries below this one may be in use.
    pub(super) fn end_of_numbers(&self) -> u32 {
        self.entries.end()
    }

    /// Forgets destinations that nothing has gone to lately.
    pub(super) fn prune(&mut self, now: Mono) {
        for site in self.schedule.prune(now) {
            self.targets.remove(&site);
            self.brakes.forget_site(site);
        }
    }

    /// Takes a message in whose accept record is durable and whose room is reserved, and puts its recipients into lanes.
    /// Returns its number; `None` for a message that has no recipient, or that is here already.
    pub(super) fn admit(
        &mut self,
        summary: Summary,
        warm: Option<Warm>,
        routes: &Routes,
        options: &Options,
        now: Now,
    ) -> Option<u32> {
        let Summary { of, client, knows_campaign: _, recipients } = summary;
        if self.find(of.id).is_some() {
            return None;
        }
        let client = self.clients.number(&client);
        let (mut tracks, mut rest) = (Vec::with_capacity(recipients.len()), Vec::with_capacity(recipients.len()));
        for standing in recipients {
            tracks.push(standing.track);
            rest.push((standing.destination, standing.progress));
        }
        let entry = Entry::new(of, client, tracks)?;
        let number = self.entries.insert(entry);
        let entries = &self.entries;
        let hash = |&n: &u32| entries.find(n).map_or(0, |e| hash_of(e.id));
        self.by_id.insert_unique(hash_of(of.id), number, hash);
        self.residents.entry(Position::from(of.spot).segment).or_default().entries.push(number);
        let destinations: Vec<Arc<str>> = rest
            .into_iter()
            .zip(0..)
            .map(|((destination, progress), recipient)| {
                if let Some(progress) = progress {
                    self.parts.keep(number, recipient, progress);
                }
                destination
            })
            .collect();
        if let Some(entry) = self.entries.find(number) {
            self.count_queued(entry, entry.queued() as i64);
        }
        self.consign(number, &destinations, routes, options, now);
        if let Some(warm) = warm {
            self.hot.keep(number, warm, options.body_cache_bytes_max);
        }
        self.note_awaiting(number);
        Some(number)
    }

    /// Applies changes whose record lies at `position`. `known` is what the caller knows of the message from its records, in
    /// case it ends and is not in memory.
    pub(super) fn apply(
        &mut self,
        number: u32,
        changes: &[Change],
        position: Position,
        known: Option<&Detail>,
        now: Now,
    ) -> Applied {
        let Some(entry) = self.entries.find_mut(number) else { return Applied::default() };
        let queued = entry.queued();
        for change in changes {
            let Some(track) = entry.track_mut(change.recipient) else { continue };
            track.apply(change, position);
        }
        let (left, ended) = (entry.queued(), entry.has_ended());
        let (client, size, segment) = (entry.client, u64::from(entry.size), entry.position().segment);
        for change in changes {
            if let Some(progress) = change.progress.as_deref() {
                self.parts.update(number, change.recipient, progress);
            }
        }
        self.hot.apply(number, changes);
        if let Some(known) = known.filter(|known| known.lives.len() > 1) {
            self.underway.entry(number).or_insert_with(|| known.clone()).apply(changes);
        }
        self.changed(segment);
        if let Some(entry) = self.entries.find(number) {
            self.count_queued(entry, left as i64 - queued as i64);
        }
        // Quotas are for what waits to be sent; a text that waits for its receipt has left, and may be sent to another carrier.
        if queued > 0 && left == 0 {
            self.clients.unreserve(client, size);
        } else if queued == 0 && left > 0 {
            self.clients.reserve_owed(client, size);
        }
        self.note_awaiting(number);
        let released = ended.then(|| self.end(number, changes, known, now)).flatten();
        Applied { released }
    }

    /// Something about a message whose accept record lies in this segment has changed.
    pub(super) fn changed(&mut self, segment: u64) {
        self.residents.entry(segment).or_default().changed = true;
    }

    /// The entries of a segment.
    pub(super) fn residents(&mut self, segment: u64) -> Option<&mut Residents> {
        self.residents.get_mut(&segment)
    }

    /// Segments that are not among `segments` are gone; so are their residents.
    pub(super) fn forget_segments(&mut self, gone: impl Fn(u64) -> bool) {
        self.residents.retain(|segment, _| !gone(*segment));
    }

    /// A message's accept record lies elsewhere now, with all that has happened so far.
    pub(super) fn moved(&mut self, id: MessageId, to: Position) -> bool {
        let Some((number, entry)) = self.find(id) else { return false };
        let recipients = entry.tracks().count() as RecipientIndex;
        let from = entry.position().segment;
        if let Some(entry) = self.entries.find_mut(number) {
            entry.spot = to.into();
            (0..recipients).for_each(|r| entry.track_mut(r).into_iter().for_each(super::entry::Track::moved));
        }
        self.changed(from);
        self.residents.entry(to.segment).or_default().entries.push(number);
        self.changed(to.segment);
        true
    }

    /// Something else may happen to a message again.
    pub(super) fn unmark(&mut self, id: MessageId) {
        let Some((number, _)) = self.find(id) else { return };
        if let Some(entry) = self.entries.find_mut(number) {
            entry.moving = false;
        }
        self.let_go(number);
    }

    /// True while one of a message's consignments is out for delivery.
    pub(super) fn is_leased(&self, entry: &Entry) -> bool {
        entry.tracks().any(|t| t.ticket.is_some_and(|ticket| self.schedule.is_leased(ticket)))
    }

    /// A consignment of this message is not out any more.
    pub(super) fn let_go(&mut self, number: u32) {
        if self.underway.contains_key(&number) && !self.entries.find(number).is_some_and(|e| self.is_leased(e)) {
            self.underway.remove(&number);
        }
    }

    /// Removes a message whose recipients have all ended.
    fn end(&mut self, number: u32, changes: &[Change], known: Option<&Detail>, now: Now) -> Option<Position> {
        let entry = self.remove(number)?;
        self.parts.forget(number);
        let shared = self.underway.remove(&number);
        let detail = self.hot.take(number).map(|warm| warm.detail).or(shared).or_else(|| {
            let mut known = known?.clone();
            known.apply(changes);
            Some(known)
        });
        if let Some(detail) = detail {
            self.history.remember(Ended::new(&detail, entry.size), now.wall);
        }
        Some(entry.position())
    }

    fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.find(number)?;
        let (tickets, hash, id) = (entry.tickets(), hash_of(entry.id), entry.id);
        for ticket in tickets {
            self.schedule.remove(ticket);
        }
        let entries = &self.entries;
        let same = |&n: &u32| entries.find(n).is_some_and(|e| e.id == id);
        if let Ok(found) = self.by_id.find_entry(hash, same) {
            found.remove();
        }
        self.entries.remove(number)
    }

    /// A message lies on the shelf now, and not here.
    pub(super) fn put_away(&mut self, number: u32) {
        let Some(entry) = self.remove(number) else { return };
        self.parts.put_away(number);
        self.underway.remove(&number);
        self.hot.take(number);
        self.changed(entry.position().segment);
    }

    /// Consignments whose deadline has passed: their messages, the recipients, and what becomes of them. Each is told once, and
    /// nothing else happens to it until that has been applied.
    pub(super) fn take_overdue(
        &mut self,
        most: usize,
        (routes, options): (&Routes, &Options),
        now: Now,
    ) -> Vec<(u32, Vec<RecipientIndex>, Overdue)> {
        // While everything is held, as after a backup was restored, nothing may end unattempted either.
        if self.schedule.is_held() {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        for ticket in self.schedule.take_overdue(most) {
            let Some((number, entry)) = self.of_ticket(ticket) else {
                self.schedule.remove(ticket);
                continue;
            };
            let recipients = entry.consigned(ticket);
            let first = recipients.first().copied().unwrap_or_default();
            let state = entry.track(first).filter(|_| !recipients.is_empty()).map(super::entry::Track::state);
            let onward = self.onward(number, first, (routes, options), now).map(Overdue::Onward);
            let becomes = match (state, onward) {
                (Some(State::Queued { .. }), onward) => onward.unwrap_or(Overdue::End(End::Expired)),
                (Some(State::Sent { at }), None) if now.wall < at.plus(options.receipt_wait_max) => {
                    // There was another carrier when it was sent; there is none any more.
                    let until = now.mono_at(at.plus(options.receipt_wait_max));
                    self.schedule.park(ticket, until, now.mono);
                    continue;
                }
                (Some(State::Sent { .. }), onward) => onward.unwrap_or(Overdue::End(End::SentWithoutReceipt)),
                _ => {
                    self.schedule.remove(ticket);
                    continue;
                }
            };
            if entry.moving {
                // Soon again: a move takes some syncs of the disk.
                self.schedule.park(ticket, now.mono.plus(MOVE_TAKES), now.mono);
                continue;
            }
            if let Some(entry) = self.entries.find_mut(number) {
                entry.moving = true;
            }
            overdue.push((number, recipients, becomes));
        }
        overdue
    }

    /// What is overdue and cannot be read back now is looked at again soon.
    pub(super) fn put_off(&mut self, number: u32, recipients: &[RecipientIndex], now: Now) {
        let Some(entry) = self.entries.find_mut(number) else { return };
        entry.moving = false;
        let tickets: Vec<Ticket> =
            recipients.iter().filter_map(|&r| entry.track(r).and_then(|track| track.ticket)).collect();
        for ticket in tickets {
            self.schedule.park(ticket, now.mono.plus(READ_PAUSE), now.mono);
        }
    }

    /// A text's receipts from a carrier have come, or not in time.
    pub(super) fn note_quality(&mut self, carrier: &Arc<str>, arrived: bool, after: Option<Duration>, now: Mono) {
        self.qualities.note(carrier, arrived, after, now);
        if let Some(quality) = self.qualities.of(carrier) {
            let percent = (100.0 * quality.arrives).round() as i64;
            self.metrics.texts.arrives.with_label_values(&[carrier]).set(percent);
            let seconds = quality.within.map_or(0, |within| within.as_secs_f64().ceil() as i64);
            self.metrics.texts.receipt_seconds.with_label_values(&[carrier]).set(seconds);
        }
    }

    fn count_queued(&self, entry: &Entry, delta: i64) {
        if delta != 0 {
            let labels = [entry.channel.as_str(), entry.class.as_str()];
            self.metrics.queued_recipients.with_label_values(&labels).add(delta);
        }
    }
}

/// Some syncs of the disk: after that a message that was being moved can be leased.
pub(super) const MOVE_TAKES: Duration = Duration::from_millis(50);

/// How long a disk that does not answer is left alone.
const READ_PAUSE: Duration = Duration::from_secs(5);

/// Both times at one instant, so that due times on disk (wall) become due times in memory (monotonic).
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) mono: Mono,
}

impl Now {
    pub(super) fn mono_at(self, due: Timestamp) -> Mono {
        if due == Timestamp(u64::MAX) { NEVER } else { self.mono.plus(due.since(self.wall)) }
    }

    pub(super) fn wall_at(self, due: Mono) -> Timestamp {
        self.wall.plus(due.since(self.mono))
    }
}

/// What one part of a text counts, in bytes of mail: clients of a carrier take turns after some four texts.
const TEXT_COST: u32 = 16 * 1024;

/// What a consignment costs its client's credit.
pub(super) fn cost_of(entry: &Entry) -> u32 {
    match entry.channel {
        Channel::Email => entry.size,
        Channel::Sms => TEXT_COST,
    }
}
