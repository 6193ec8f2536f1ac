//! What the queue holds in memory: entries, tickets, quotas, the schedule.
//!
//! **Promises.** Every method is short, does no I/O and leaves the table consistent: a recipient that is `Queued` has
//! exactly one ticket, counts and quotas are those of the entries. One lock guards a table; nobody holds it across an await.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::answered::Answered;
use super::history::History;
use super::keys::Keys;
use super::life::{Change, End, Entry, Life, State};
use super::{Options, Target};
use crate::clock::{Mono, Timestamp};
use crate::event::metrics::Metrics;
use crate::model::{
    Address, Channel, ClientName, Content, Envelope, MessageId, PartState, RecipientIndex, TextProgress,
};
use crate::route::{MailHop, Routes};
use crate::schedule::{LaneId, LaneKey, Schedule, SiteId, SiteLimits, Ticket};
use crate::storage::Position;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) schedule: Schedule,
    pub(super) entries: HashMap<MessageId, Entry>,
    pub(super) tickets: HashMap<Ticket, Consigned>,
    pub(super) keys: Keys,
    pub(super) history: History,
    /// Parts at carriers, by the carrier's name and its id in one of the forms in which it may come back.
    pub(super) parts: HashMap<PartKey, PartAt>,
    /// Parts of texts that have ended: their receipts, should they come once more, say nothing new.
    pub(super) answered: Answered,
    targets: HashMap<SiteId, Target>,
    ticket_next: Ticket,
    /// When something has to be done about a message although nobody pulls it: expiry, or the end of waiting for a receipt.
    deadlines: BTreeSet<(Timestamp, MessageId)>,
    /// Messages whose content is in memory, oldest first.
    hot: VecDeque<MessageId>,
    hot_bytes: u64,
    usage: HashMap<ClientName, Usage>,
    total: Usage,
    metrics: Arc<Metrics>,
}

/// A carrier's name and a part's id at it.
pub(super) type PartKey = (Arc<str>, String);

/// The recipients of one message that share a lane.
#[derive(Clone, Debug)]
pub(super) struct Consigned {
    pub(super) id: MessageId,
    pub(super) recipients: Vec<RecipientIndex>,
    pub(super) lane: LaneId,
}

/// A part at a carrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartAt {
    pub(super) id: MessageId,
    pub(super) recipient: RecipientIndex,
    pub(super) part: usize,
}

/// Messages and bytes queued.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Table {
    pub(super) fn new(options: &Options, metrics: Arc<Metrics>) -> Self {
        Self {
            schedule: Schedule::new(options.held),
            entries: HashMap::new(),
            tickets: HashMap::new(),
            keys: Keys::new(options.key_age_max),
            history: History::new(options.history_messages_max, options.history_age_max),
            parts: HashMap::new(),
            answered: Answered::default(),
            targets: HashMap::new(),
            ticket_next: 0,
            deadlines: BTreeSet::new(),
            hot: VecDeque::new(),
            hot_bytes: 0,
            usage: HashMap::new(),
            total: Usage::default(),
            metrics,
        }
    }

    /// Reserves room for a message, or says that there is none. What is reserved is given back by [`Table::unreserve`] or,
    /// once the message is in, by its end.
    pub(super) fn reserve(&mut self, client: &ClientName, bytes: u64, options: &Options) -> bool {
        let own = self.usage.entry(client.clone()).or_default();
        let fits = |usage: &Usage, messages_max: u64, bytes_max: u64| {
            usage.messages < messages_max && usage.bytes.saturating_add(bytes) <= bytes_max
        };
        let fits = fits(own, options.client_messages_max, options.client_bytes_max)
            && fits(&self.total, options.messages_max, options.bytes_max);
        if fits {
            own.add(bytes);
            self.total.add(bytes);
        }
        fits
    }

    /// Makes room for a message that is already ours, whatever the quotas say.
    pub(super) fn reserve_owed(&mut self, client: &ClientName, bytes: u64) {
        self.usage.entry(client.clone()).or_default().add(bytes);
        self.total.add(bytes);
    }

    /// Gives back what was reserved.
    pub(super) fn unreserve(&mut self, client: &ClientName, bytes: u64) {
        if let Some(own) = self.usage.get_mut(client) {
            own.subtract(bytes);
        }
        self.total.subtract(bytes);
    }

    /// What is queued in all.
    pub(super) fn total(&self) -> Usage {
        self.total
    }

    /// Where a site's messages go.
    pub(super) fn target(&self, site: SiteId) -> Option<&Target> {
        self.targets.get(&site)
    }

    /// Makes everything that waits for another attempt due now; what waits for the time its sender asked for stays.
    pub(super) fn flush_retries(&mut self) -> usize {
        let (entries, tickets) = (&self.entries, &self.tickets);
        self.schedule.flush(|ticket| {
            let consigned = tickets.get(&ticket);
            let life = consigned.and_then(|c| entries.get(&c.id)?.lives.get(*c.recipients.first()? as usize));
            life.is_some_and(|l| !l.attempts.is_empty())
        })
    }

    /// Forgets destinations that nothing has gone to lately.
    pub(super) fn prune(&mut self, now: Mono) {
        for site in self.schedule.prune(now) {
            self.targets.remove(&site);
        }
    }

    /// The channel a site's messages travel by.
    pub(super) fn channel_of(&self, site: SiteId) -> Channel {
        match self.targets.get(&site) {
            Some(Target::Text(_)) => Channel::Sms,
            Some(Target::Mail(_)) | None => Channel::Email,
        }
    }

    /// Takes a message in whose accept record is durable and whose room is reserved, and puts its recipients into lanes.
    pub(super) fn admit(&mut self, id: MessageId, entry: Entry, routes: &Routes, options: &Options, now: Now) {
        let queued = entry.queued();
        self.count_queued(&entry.envelope, queued as i64);
        let deadline = deadline_of(&entry, options);
        if let Some(content) = &entry.content {
            self.hot.push_back(id);
            self.hot_bytes += content.len() as u64;
        }
        for (index, life) in entry.lives.iter().enumerate() {
            if let Some(progress) = life.progress.as_deref() {
                self.index_parts(id, index as RecipientIndex, progress);
            }
        }
        self.entries.insert(id, entry);
        self.consign(id, routes, options, now);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.cool(options.body_cache_bytes_max);
    }

    /// Groups queued recipients by lane, one ticket for each group.
    fn consign(&mut self, id: MessageId, routes: &Routes, options: &Options, now: Now) {
        let Some(entry) = self.entries.get(&id) else { return };
        let envelope = entry.envelope.clone();
        let dues: Vec<(RecipientIndex, Timestamp)> = (0..)
            .zip(&entry.lives)
            .filter_map(|(recipient, life)| match life.state {
                State::Queued { due } => Some((recipient, due)),
                _ => None,
            })
            .collect();
        let mut groups: Vec<(LaneId, Timestamp, Vec<RecipientIndex>)> = Vec::with_capacity(1);
        for (recipient, due) in dues {
            let lane = self.lane_of(&envelope, recipient, routes, options);
            let room = options.recipients_per_consignment_max.max(1);
            match groups.iter_mut().find(|(l, d, group)| *l == lane && *d == due && group.len() < room) {
                Some((_, _, group)) => group.push(recipient),
                None => groups.push((lane, due, vec![recipient])),
            }
        }
        for (lane, due, recipients) in groups {
            let ticket = self.ticket_next;
            self.ticket_next += 1;
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.tickets.push(ticket);
            }
            self.tickets.insert(ticket, Consigned { id, recipients, lane });
            self.place(ticket, lane, now.mono_at(due), now);
        }
    }

    /// Puts a ticket into a lane; its recipients are in that lane from then on.
    fn place(&mut self, ticket: Ticket, lane: LaneId, due: Mono, now: Now) {
        let Some(consigned) = self.tickets.get_mut(&ticket) else { return };
        let Some(entry) = self.entries.get_mut(&consigned.id) else { return };
        consigned.lane = lane;
        let name = self.schedule.lane_name(lane);
        for &recipient in &consigned.recipients {
            entry.lanes[recipient as usize] = name.cloned();
        }
        self.schedule.put(ticket, lane, cost_of(entry), due, now.mono);
    }

    /// The lane for a recipient, made with its site if they are new.
    fn lane_of(
        &mut self,
        envelope: &Envelope,
        recipient: RecipientIndex,
        routes: &Routes,
        options: &Options,
    ) -> LaneId {
        let (destination, site_name, target) = match &envelope.recipients[recipient as usize].address {
            Address::Mailbox(mailbox) => {
                let hop = routes.mail_hop(mailbox.domain());
                let name: Arc<str> = match &hop {
                    MailHop::Mx(domain) => domain.as_str().into(),
                    MailHop::Fixed(host) => format!("to {host}").into(),
                };
                (Arc::from(mailbox.domain().as_str()), name, Target::Mail(hop))
            }
            Address::Number(number) => {
                let carriers = routes.carriers(number).cloned().unwrap_or_else(|| Arc::from([]));
                let name: Arc<str> = carriers.join(",").into();
                (name.clone(), format!("carriers {name}").into(), Target::Text(carriers))
            }
        };
        let site = self.schedule.site(&site_name, limits_of(&target, options));
        self.targets.entry(site).or_insert(target);
        let key = LaneKey { destination, class: envelope.class, client: envelope.client.clone() };
        self.schedule.lane(&key, site)
    }

    /// Gives every site the limits in force, and puts everything that waits or is ready into the lanes that the routes now
    /// say.
    pub(super) fn reroute(&mut self, routes: &Routes, options: &Options, now: Now) {
        for (&site, target) in &self.targets {
            self.schedule.limit(site, limits_of(target, options));
        }
        let idle: Vec<Ticket> =
            self.tickets.keys().copied().filter(|&ticket| !self.schedule.is_leased(ticket)).collect();
        for ticket in idle {
            let Some(consigned) = self.tickets.get(&ticket).cloned() else { continue };
            let Some(entry) = self.entries.get(&consigned.id) else { continue };
            let Some(&first) = consigned.recipients.first() else { continue };
            let envelope = entry.envelope.clone();
            let due = self.schedule.due(ticket).unwrap_or(now.mono);
            let lane = self.lane_of(&envelope, first, routes, options);
            if lane != consigned.lane {
                self.place(ticket, lane, due, now);
            }
        }
    }

    /// The written name of the lane a recipient waits or waited in; of one that had left it before the last start, what
    /// can still be told.
    pub(super) fn lane_name(entry: &Entry, recipient: RecipientIndex) -> Arc<str> {
        entry.lanes.get(recipient as usize).and_then(Option::clone).unwrap_or_else(|| {
            let destination = match entry.envelope.recipients.get(recipient as usize).map(|r| &r.address) {
                Some(Address::Mailbox(m)) => m.domain().as_str().to_owned(),
                _ => entry
                    .lives
                    .get(recipient as usize)
                    .and_then(|l| l.progress.as_ref())
                    .map_or_else(|| "sms".to_owned(), |progress| progress.carrier.to_string()),
            };
            format!("{destination}/{}/{}", entry.envelope.class, entry.envelope.client).into()
        })
    }

    /// Applies changes that are durable. Returns where a record is not needed any more, once the message has ended.
    pub(super) fn apply(
        &mut self,
        id: MessageId,
        changes: Vec<Change>,
        options: &Options,
        now: Now,
    ) -> Option<Position> {
        let entry = self.entries.get_mut(&id)?;
        let before = deadline_of(entry, options);
        let queued = entry.queued() as i64;
        let mut at_carriers = Vec::new();
        for change in changes {
            let recipient = change.recipient;
            let Some(life) = entry.lives.get_mut(recipient as usize) else { continue };
            life.apply(change);
            if let Some(progress) = life.progress.as_deref() {
                at_carriers.push((recipient, progress.clone()));
            }
        }
        let (envelope, delta) = (entry.envelope.clone(), entry.queued() as i64 - queued);
        let (was_queued, entry_is_queued, size) = (queued > 0, entry.queued() > 0, entry.size);
        let (after, ended) = (deadline_of(entry, options), entry.has_ended());
        self.count_queued(&envelope, delta);
        // Quotas are for what waits to be sent; a text that waits for its receipt has left.
        if was_queued && !entry_is_queued {
            self.unreserve(&envelope.client, size);
        }
        if before != after {
            before.map(|t| self.deadlines.remove(&(t, id)));
            after.map(|t| self.deadlines.insert((t, id)));
        }
        for (recipient, progress) in at_carriers {
            self.index_parts(id, recipient, &progress);
        }
        ended.then(|| self.end(id, options, now)).flatten()
    }

    /// Something else may happen to a message again.
    pub(super) fn unmark(&mut self, id: MessageId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.moving = false;
        }
    }

    /// True while a text is out for delivery that this carrier may be carrying.
    pub(super) fn may_be_carrying(&self, carrier: &str) -> bool {
        self.targets.iter().any(|(&site, target)| match target {
            Target::Text(carriers) => carriers.iter().any(|c| **c == *carrier) && self.schedule.leases(site) > 0,
            Target::Mail(_) => false,
        })
    }

    /// True while one of a message's consignments is out for delivery.
    pub(super) fn is_leased(&self, entry: &Entry) -> bool {
        entry.tickets.iter().any(|&ticket| self.schedule.is_leased(ticket))
    }

    /// Removes a message whose recipients have all ended.
    fn end(&mut self, id: MessageId, options: &Options, now: Now) -> Option<Position> {
        let entry = self.entries.remove(&id)?;
        for &ticket in &entry.tickets {
            self.tickets.remove(&ticket);
            self.schedule.remove(ticket);
        }
        if let Some(deadline) = deadline_of(&entry, options) {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(content) = &entry.content {
            self.hot_bytes -= content.len() as u64;
        }
        for life in &entry.lives {
            if let Some(progress) = life.progress.as_deref() {
                self.forget_parts(id, progress);
            }
        }
        let position = entry.position;
        self.history.remember(id, entry, now.wall);
        // Ids of ended messages stay in `hot` until they come to its front; keep it from growing without end.
        if self.hot.len() > 1_024 && self.hot.len() > 2 * self.entries.len() {
            self.hot.retain(|id| self.entries.contains_key(id));
        }
        Some(position)
    }

    /// Gives a leased ticket back after its changes have been applied: recipients that are still queued wait for their
    /// next time, the others leave it.
    pub(super) fn give_back(&mut self, ticket: Ticket, routes: &Routes, options: &Options, now: Now) {
        let Some(consigned) = self.tickets.get_mut(&ticket) else { return };
        let id = consigned.id;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let mut due = None;
        consigned.recipients.retain(|&r| match entry.lives.get(r as usize).map(|l| l.state) {
            Some(State::Queued { due: then }) => {
                due = Some(due.map_or(then, |earlier: Timestamp| earlier.min(then)));
                true
            }
            _ => false,
        });
        match due {
            Some(due) => {
                // Routes may have changed since it was leased.
                let (envelope, first) = (entry.envelope.clone(), consigned.recipients[0]);
                let lane = self.lane_of(&envelope, first, routes, options);
                self.place(ticket, lane, now.mono_at(due), now);
            }
            None => {
                entry.tickets.retain(|&t| t != ticket);
                self.tickets.remove(&ticket);
                self.schedule.remove(ticket);
            }
        }
    }

    /// Lets a ticket that is not leased wait for a while.
    pub(super) fn put_off(&mut self, ticket: Ticket, pause: Duration, now: Now) {
        let Some(consigned) = self.tickets.get(&ticket) else { return };
        let Some(entry) = self.entries.get(&consigned.id) else { return };
        self.schedule.put(ticket, consigned.lane, cost_of(entry), now.mono.plus(pause), now.mono);
    }

    /// Messages whose deadline has passed, at most `most`, with the recipients that are not leased and the end they come to.
    pub(super) fn overdue(&self, now: Timestamp, most: usize) -> Vec<(MessageId, Vec<RecipientIndex>, End)> {
        // While everything is held, as after a backup was restored, nothing may end unattempted either.
        if self.schedule.is_held() {
            return Vec::new();
        }
        let past = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        past.filter_map(|&(_, id)| {
            let entry = self.entries.get(&id).filter(|e| !e.moving)?;
            let leased = |r: &RecipientIndex| {
                entry.tickets.iter().any(|&t| {
                    self.schedule.is_leased(t) && self.tickets.get(&t).is_some_and(|c| c.recipients.contains(r))
                })
            };
            let all = (0..).zip(&entry.lives);
            let queued = all.clone().filter(|(_, l)| matches!(l.state, State::Queued { .. })).map(|(r, _)| r);
            let queued: Vec<RecipientIndex> = queued.filter(|r| !leased(r)).collect();
            if !queued.is_empty() {
                return Some((id, queued, End::Expired));
            }
            let sent = all.filter(|(_, l)| matches!(l.state, State::Sent { .. })).map(|(r, _)| r);
            let sent: Vec<RecipientIndex> = sent.collect();
            (!sent.is_empty()).then_some((id, sent, End::SentWithoutReceipt))
        })
        .take(most)
        .collect()
    }

    /// Takes the tickets of recipients out of their lanes because they are about to end without an attempt.
    pub(super) fn withdraw(&mut self, id: MessageId, recipients: &[RecipientIndex]) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for ticket in entry.tickets.clone() {
            let Some(consigned) = self.tickets.get_mut(&ticket) else { continue };
            if self.schedule.is_leased(ticket) {
                continue;
            }
            consigned.recipients.retain(|r| !recipients.contains(r));
            if consigned.recipients.is_empty() {
                self.tickets.remove(&ticket);
                self.schedule.remove(ticket);
                entry.tickets.retain(|&t| t != ticket);
            }
        }
    }

    /// Keeps the memory for contents under its bound, oldest first.
    fn cool(&mut self, bytes_max: u64) {
        while self.hot_bytes > bytes_max {
            let Some(id) = self.hot.pop_front() else { break };
            if let Some(content) = self.entries.get_mut(&id).and_then(|e| e.content.take()) {
                self.hot_bytes -= content.len() as u64;
            }
        }
    }

    fn index_parts(&mut self, id: MessageId, recipient: RecipientIndex, progress: &TextProgress) {
        for (part, state) in progress.parts.iter().enumerate() {
            if let PartState::Sent(carrier_id) = state {
                let key = crate::sms::receipt::id_key(carrier_id);
                self.parts.insert((progress.carrier.clone(), key), PartAt { id, recipient, part });
            }
        }
    }

    fn forget_parts(&mut self, id: MessageId, progress: &TextProgress) {
        for state in &progress.parts {
            if let PartState::Sent(carrier_id) | PartState::Received(carrier_id, _) = state {
                let key = (progress.carrier.clone(), crate::sms::receipt::id_key(carrier_id));
                // A carrier may have given the id to another text since.
                if self.parts.get(&key).is_some_and(|at| at.id == id) {
                    self.parts.remove(&key);
                    self.answered.insert(key);
                }
            }
        }
    }

    fn count_queued(&self, envelope: &Envelope, delta: i64) {
        if delta != 0 {
            let labels = [envelope.channel().as_str(), envelope.class.as_str()];
            self.metrics.queued_recipients.with_label_values(&labels).add(delta);
        }
    }
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Both times at one instant, so that due times on disk (wall) become due times in memory (monotonic).
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) mono: Mono,
}

impl Now {
    fn mono_at(self, due: Timestamp) -> Mono {
        self.mono.plus(due.since(self.wall))
    }

    pub(super) fn wall_at(self, due: Mono) -> Timestamp {
        self.wall.plus(due.since(self.mono))
    }
}

/// What one part of a text counts, in bytes of mail: clients of a carrier take turns after some four texts.
const TEXT_COST: u32 = 16 * 1024;

/// What a consignment costs its client's credit.
pub(super) fn cost_of(entry: &Entry) -> u32 {
    match entry.envelope.channel() {
        Channel::Email => u32::try_from(entry.size).unwrap_or(u32::MAX),
        Channel::Sms => TEXT_COST,
    }
}

/// What a site tolerates.
fn limits_of(target: &Target, options: &Options) -> SiteLimits {
    match target {
        Target::Mail(_) => SiteLimits { concurrency: options.connections_per_site_max, pace: options.pace_per_site },
        Target::Text(_) => SiteLimits { concurrency: options.texts_under_way_max, pace: None },
    }
}

/// When a message has to be looked at although nobody pulls it.
fn deadline_of(entry: &Entry, options: &Options) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for life in &entry.lives {
        let deadline = match life.state {
            State::Queued { .. } => entry.envelope.expires_at,
            State::Sent { at } => Some(at.plus(options.receipt_wait_max)),
            State::Begun { .. } | State::Ended { .. } => None,
        };
        earliest = earliest.into_iter().chain(deadline).min();
    }
    earliest
}

/// A new message's entry: nothing attempted, due at once or when its sender said.
pub(super) fn fresh_lives(envelope: &Envelope) -> Vec<Life> {
    let due = envelope.send_at.unwrap_or(envelope.received_at);
    vec![Life::new(due); envelope.recipients.len()]
}

/// A message for its entry.
pub(super) fn fresh_entry(
    envelope: Arc<Envelope>,
    position: Position,
    content: Option<Content>,
    size: u64,
    lives: Vec<Life>,
) -> Entry {
    let lanes = vec![None; lives.len()];
    Entry { envelope, position, size, content, lives, lanes, tickets: Vec::new(), moving: false }
}
