//! A recipient's life, from the yes to its one durable end.
//!
//! **Promises.** [`Queue::accept`] answers only after the message is on stable storage; only it makes an [`Accepted`].
//! Whatever an attempt leads to, its bounce message and its fallback included, is one batch of records: all or nothing.
//! What is settled is the fact that events report; nobody else reports any. Memory, quotas and retries are bounded by
//! [`Options`].
//!
//! **Does not know** how records lie on disk, how a courier carries, how a lane is chosen among others.
//!
//! # The crash table
//!
//! | a crash after | on disk | recovery does | can the recipient get it twice? |
//! |---|---|---|---|
//! | submission received | nothing | nothing: no yes was said | no (the client repeats) |
//! | batch written, not synced | maybe ACCEPT | takes it in if it is whole | only if the client repeats without a key |
//! | synced, yes said or not | ACCEPT (+ KEY) | puts it into its lanes | only if the yes was lost and the client repeats without a key |
//! | leased, mail on its way | ACCEPT | puts it back | yes, if the next hop had said yes: at least once |
//! | a text's begin synced | ACCEPT, CHANGE begun | ends it as `unknown` | no: it may never arrive, and that is said |
//! | outcome known, not synced | as before the attempt | as before the attempt | yes (mail); `unknown` (text) |
//! | outcome synced | CHANGE (+ the bounce's ACCEPT) | applies both; neither comes again | no |
//! | last end synced, not released | ACCEPT, CHANGE ended | ends it, releases it | no |
//! | being copied forward | old and new ACCEPT | the younger one holds its state | no |
//! | text sent, receipt not synced | CHANGE sent | awaits it; the carrier was not answered and repeats it | no |
//!
//! **Fails how.** A poisoned log refuses everything from then on; `relay` stops the process.
//! **Tested** beside each file, in `queue/tests.rs` over a real log, and by kill -9 in `tests/e2e`.

mod explain;
mod history;
mod keys;
mod lease;
mod life;
mod record;
mod recover;
mod retry;
mod settle;
mod table;
mod upkeep;
pub mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock::SharedClock;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::event::{Fact, Kind};
use crate::model::Consignment;
use crate::model::{
    Address, ClientName, Content, Envelope, MessageId, Outcome, Receipt, RecipientIndex, RecipientOutcome,
    Responsibility, Scope, Stage, Submission, TextProgress,
};
use crate::route::{MailHop, Routes};
use crate::schedule::{Pace, Pulled, SiteId, Ticket};
use crate::storage::{AppendError, Durable, Log, Position, Purpose, Record};
pub use lease::{Begun, Lease, LoadError};
pub use life::End;
use life::{Change, Entry, Life, State};
pub use recover::Recovery;
pub use retry::Retry;
use table::{Now, Table, fresh_entry, fresh_lives};
pub use upkeep::Overdue;
pub use view::MessageView;

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    log: Log,
    routes: Arc<ArcSwap<Routes>>,
    options: ArcSwap<Options>,
    clock: SharedClock,
    events: EventLog,
    metrics: Arc<Metrics>,
    /// Something may be pulled, or a time to wake up has changed.
    work: Notify,
    /// Places among outcomes that wait for the disk.
    settling: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

/// Outcomes that may wait for the disk at the same time.
const SETTLING_MAX: usize = 8_192;
/// How long a receipt that matches nothing waits for the record it may have overtaken.
const RECEIPT_PATIENCE: Duration = Duration::from_millis(500);

/// How the queue behaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Retry schedule and expiry, by [`crate::model::Class::index`].
    pub retry: [Retry; 3],
    /// Messages queued, all clients together.
    pub messages_max: u64,
    /// Bytes of content queued, all clients together.
    pub bytes_max: u64,
    /// Messages queued per client.
    pub client_messages_max: u64,
    /// Bytes of content queued per client.
    pub client_bytes_max: u64,
    /// Bytes of content kept in memory; the rest is read back from disk when its time comes.
    pub body_cache_bytes_max: u64,
    /// Ended messages remembered.
    pub history_messages_max: usize,
    /// For how long.
    pub history_age_max: Duration,
    /// How long an idempotency key is known.
    pub key_age_max: Duration,
    /// How long a sent text waits for its receipt.
    pub receipt_wait_max: Duration,
    /// Recipients of one mail transaction.
    pub recipients_per_consignment_max: usize,
    /// Connections to one destination.
    pub connections_per_site_max: usize,
    /// Mails per time to one destination.
    pub pace_per_site: Option<Pace>,
    /// Texts under way per set of carriers; the carriers' own windows and rates bound what is on the wire.
    pub texts_under_way_max: usize,
    /// Start with everything held.
    pub held: bool,
}

impl Default for Options {
    fn default() -> Self {
        let minutes = |m: &[u64]| m.iter().map(|m| Duration::from_secs(60 * m)).collect::<Vec<_>>();
        let slow = |days: u64| Retry {
            schedule: minutes(&[1, 5, 15, 30, 60, 120, 240]),
            expire: Duration::from_secs(days * 86_400),
        };
        let otp = Retry { schedule: [5, 10, 20].map(Duration::from_secs).to_vec(), expire: Duration::from_secs(300) };
        Self {
            retry: [otp, slow(3), slow(1)],
            messages_max: 10_000_000,
            bytes_max: 1 << 40,
            client_messages_max: 5_000_000,
            client_bytes_max: 1 << 39,
            body_cache_bytes_max: 64 << 20,
            history_messages_max: 50_000,
            history_age_max: Duration::from_secs(24 * 3_600),
            key_age_max: Duration::from_secs(24 * 3_600),
            receipt_wait_max: Duration::from_secs(72 * 3_600),
            recipients_per_consignment_max: 100,
            connections_per_site_max: 10,
            pace_per_site: None,
            texts_under_way_max: 1_024,
            held: false,
        }
    }
}

/// Where a site's consignments go: what `dispatch` chooses a courier by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A next hop for mail.
    Mail(MailHop),
    /// Carriers for texts, in order of preference.
    Text(Arc<[Arc<str>]>),
}

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

/// When to try again after [`AcceptError::Full`].
const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The answer to a free slot.
#[derive(Debug)]
pub enum Pull {
    /// Carry this.
    Lease(Lease),
    /// There is work, but not before this span has passed.
    Wait(Duration),
    /// There is work, but no slot that it may use.
    Busy,
    /// There is none.
    Nothing,
}

/// What a new submission becomes: what is written, and what is kept.
struct Newcomer {
    envelope: Arc<Envelope>,
    content: Content,
    lives: Vec<Life>,
    size: u64,
}

impl Newcomer {
    fn new(submission: Submission, options: &Options) -> Self {
        let Submission { mut envelope, content } = submission;
        if envelope.expires_at.is_none() {
            let from = envelope.send_at.unwrap_or(envelope.received_at).max(envelope.received_at);
            envelope.expires_at = Some(from.plus(options.retry[envelope.class.index()].expire));
        }
        let lives = fresh_lives(&envelope);
        let size = content.len() as u64;
        Self { envelope: Arc::new(envelope), content, lives, size }
    }

    fn record(&self) -> Record {
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

    fn into_entry(self, position: Position) -> Entry {
        fresh_entry(self.envelope, position, Some(self.content), self.size, self.lives)
    }
}

impl Queue {
    /// Opens the queue in `dir`, takes in everything that has not ended, and starts its upkeep on the current runtime.
    ///
    /// # Errors
    /// When the directory is in use, damaged beyond reading, or of a newer version.
    pub fn open(
        dir: &Path,
        log_options: crate::storage::Options,
        options: Options,
        routes: Arc<ArcSwap<Routes>>,
        clock: SharedClock,
        events: EventLog,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Recovery), crate::storage::OpenError> {
        recover::open(dir, log_options, options, routes, clock, events, metrics)
    }

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
        let (client, size) = (newcomer.envelope.client.clone(), newcomer.size);
        if !self.shared.table.lock().reserve(&client, size, &self.shared.options.load()) {
            return Err(AcceptError::Full { retry_after: FULL_RETRY_AFTER });
        }
        let queue = self.clone();
        // A task of its own: what the disk has, the table must get, whether or not anybody still waits for the answer.
        let task = tokio::spawn(async move {
            let accepted = queue.take(newcomer).await;
            if accepted.is_err() {
                queue.shared.table.lock().unreserve(&client, size);
            }
            drop(claim);
            accepted
        });
        task.await.unwrap_or(Err(AcceptError::Unavailable))
    }

    fn check_routes(&self, envelope: &Envelope) -> Result<(), AcceptError> {
        let routes = self.shared.routes.load();
        for recipient in &envelope.recipients {
            if let Address::Number(number) = &recipient.address
                && routes.carriers(number).is_none()
            {
                return Err(AcceptError::NoRoute { address: number.to_string() });
            }
        }
        Ok(())
    }

    /// Claims the submission's idempotency key, if it has one; waits for a submission under the same key that is under way.
    async fn claim_key(&self, envelope: &Envelope) -> Result<Claim, AcceptError> {
        let Some(idempotency) = &envelope.idempotency else { return Ok(Claim::Fresh(None)) };
        let key = (envelope.client.clone(), idempotency.key.clone());
        loop {
            let found = self.shared.table.lock().keys.claim(&key, &idempotency.fingerprint);
            match found {
                keys::Lookup::Fresh(ended) => {
                    return Ok(Claim::Fresh(Some(KeyClaim { queue: self.clone(), key, _ended: ended })));
                }
                keys::Lookup::Reused => return Err(AcceptError::KeyReused),
                keys::Lookup::Replayed(id, durable) => {
                    return Ok(Claim::Replayed(Accepted { id, replayed: true, _durable: durable }));
                }
                keys::Lookup::Underway(mut end) => while end.changed().await.is_ok() {},
            }
        }
    }

    async fn take(&self, newcomer: Newcomer) -> Result<Accepted, AcceptError> {
        let key_record = newcomer.key_record();
        let group = std::iter::once(newcomer.record()).chain(key_record).collect();
        let appended = self.shared.log.append(Purpose::Intake, group).await.map_err(|e| match e {
            AppendError::Full | AppendError::Busy => AcceptError::Full { retry_after: FULL_RETRY_AFTER },
            AppendError::TooLarge | AppendError::Poisoned | AppendError::Body | AppendError::Closed => {
                AcceptError::Unavailable
            }
        })?;
        let envelope = newcomer.envelope.clone();
        let facts = {
            let mut table = self.shared.table.lock();
            if let (Some(idempotency), Some(&at)) = (&envelope.idempotency, appended.positions.get(1)) {
                let key = (envelope.client.clone(), idempotency.key.clone());
                let (print, durable) = (idempotency.fingerprint, appended.durable.clone());
                table.keys.taken(key, print, envelope.id, at, durable, envelope.received_at);
            }
            self.admit(&mut table, newcomer, appended.positions[0])
        };
        self.shared.work.notify_one();
        facts.into_iter().for_each(|f| self.shared.events.record(f));
        Ok(Accepted { id: envelope.id, replayed: false, _durable: appended.durable })
    }

    /// Puts a durable newcomer into the table; returns the facts of its acceptance.
    fn admit(&self, table: &mut Table, newcomer: Newcomer, position: Position) -> Vec<Fact> {
        let (envelope, size) = (newcomer.envelope.clone(), newcomer.size);
        let labels = [envelope.channel().as_str(), &envelope.client, envelope.class.as_str()];
        self.shared.metrics.accepted_messages.with_label_values(&labels).inc();
        self.shared.metrics.accepted_bytes.with_label_values(&labels[..1]).inc_by(size);
        let options = self.shared.options.load();
        let entry = newcomer.into_entry(position);
        table.admit(envelope.id, entry, &self.shared.routes.load(), &options, self.now());
        let Some(entry) = table.entries.get(&envelope.id) else { return Vec::new() };
        (0..envelope.recipients.len() as RecipientIndex)
            .map(|r| settle::accepted_fact(&envelope, r, &table.lane_name(entry, r), size))
            .collect()
    }

    /// A slot of `site` is free: what may use it?
    pub fn pull(&self, site: SiteId) -> Pull {
        let now = self.now();
        let mut table = self.shared.table.lock();
        loop {
            let ticket = match table.schedule.pull(site, now.mono) {
                Pulled::Ticket(ticket) => ticket,
                Pulled::NotBefore(then) => return Pull::Wait(then.since(now.mono)),
                Pulled::Busy => return Pull::Busy,
                Pulled::Nothing => return Pull::Nothing,
            };
            if let Some(consignment) = table.lease(ticket, now) {
                let Some(target) = table.target(site).cloned() else { return Pull::Nothing };
                self.shared.metrics.leased.inc();
                let state = lease::LeaseState::Taken;
                return Pull::Lease(Lease {
                    queue: self.clone(),
                    ticket,
                    target,
                    consignment: consignment.ready(),
                    state,
                });
            }
        }
    }

    /// Sites with something new to pull, each with how many more slots it could use.
    pub fn roused(&self) -> Vec<(SiteId, Target, usize)> {
        let mut table = self.shared.table.lock();
        let sites = table.schedule.roused();
        sites
            .into_iter()
            .filter_map(|site| Some((site, table.target(site)?.clone(), table.schedule.slots_wanted(site))))
            .collect()
    }

    /// How many more slots a site could use now.
    pub fn slots_wanted(&self, site: SiteId) -> usize {
        self.shared.table.lock().schedule.slots_wanted(site)
    }

    /// Makes what has come due ready; returns in how long to do it again, if anything waits.
    pub fn advance(&self) -> Option<Duration> {
        let now = self.now();
        self.shared.table.lock().schedule.advance(now.mono).map(|then| then.since(now.mono))
    }

    /// Waits until something may be pulled or a due time has changed.
    pub async fn work(&self) {
        self.shared.work.notified().await;
    }

    /// A receipt from a carrier: returns once what it says is on stable storage.
    ///
    /// # Errors
    /// [`AppendError`]; then the carrier must not be answered yes.
    pub async fn receipt(&self, receipt: Receipt) -> Result<(), AppendError> {
        let labels = [receipt.carrier.as_ref(), receipt.state.as_str()];
        self.shared.metrics.carrier_receipts.with_label_values(&labels).inc();
        let patience = self.shared.clock.mono().plus(RECEIPT_PATIENCE);
        loop {
            if let Some(at) = self.part_of(&receipt) {
                return self.receipt_for(at, receipt).await;
            }
            // A receipt may overtake the record of the answer that names its id.
            if self.shared.clock.mono() >= patience {
                return self.unmatched(receipt).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn part_of(&self, receipt: &Receipt) -> Option<table::PartAt> {
        let table = self.shared.table.lock();
        let forms = crate::sms::receipt::id_forms(&receipt.carrier_message_id);
        forms.into_iter().find_map(|form| table.parts.get(&(receipt.carrier.clone(), form)).copied())
    }

    async fn receipt_for(&self, at: table::PartAt, receipt: Receipt) -> Result<(), AppendError> {
        loop {
            let settled = {
                let mut table = self.shared.table.lock();
                let Some(entry) = table.entries.get_mut(&at.id) else { return Ok(()) };
                if entry.moving {
                    None
                } else {
                    let Some(life) = entry.lives.get(at.recipient as usize) else { return Ok(()) };
                    let Some(change) = settle::change_after_receipt(life, at.recipient, at.part, &receipt) else {
                        return Ok(());
                    };
                    // Receipts of one message's parts come close together; the second must see the first.
                    entry.moving = true;
                    Some((change, entry.position))
                }
            };
            if let Some((change, position)) = settled {
                return self.record_changes(at.id, position, vec![change], Some(&receipt.text)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn unmatched(&self, receipt: Receipt) -> Result<(), AppendError> {
        self.shared.metrics.carrier_receipts_unmatched.with_label_values(&[&receipt.carrier]).inc();
        let mut fact = Fact::new(receipt.received_at, Kind::Receipt, crate::model::Channel::Sms);
        fact.reason = Some(format!("receipt {} matches no message: {}", receipt.carrier_message_id, receipt.text));
        fact.peer = Some(crate::event::PeerFact { host: receipt.carrier.to_string(), address: None, tls: None });
        self.shared.events.record(fact);
        Ok(())
    }

    /// Makes changes durable and applies them; the entry has been marked as moving and is free again afterwards.
    async fn record_changes(
        &self,
        id: MessageId,
        position: Position,
        changes: Vec<Change>,
        reason: Option<&str>,
    ) -> Result<(), AppendError> {
        let appended = self.shared.log.append(Purpose::Upkeep, vec![change_record(id, position, &changes)]).await;
        let mut facts = Vec::new();
        let released = {
            let now = self.now();
            let mut table = self.shared.table.lock();
            if let Some(entry) = table.entries.get_mut(&id) {
                entry.moving = false;
            }
            appended.as_ref().ok().and_then(|_| {
                facts = self.facts(&table, id, &changes);
                table.apply(id, changes, &self.shared.options.load(), now)
            })
        };
        released.inspect(|&position| self.shared.log.release(position));
        for mut fact in facts {
            fact.reason = fact.reason.or_else(|| reason.map(str::to_owned));
            self.shared.events.record(fact);
        }
        appended.map(|_| ())
    }

    fn facts(&self, table: &Table, id: MessageId, changes: &[Change]) -> Vec<Fact> {
        let now = self.shared.clock.now();
        let Some(entry) = table.entries.get(&id) else { return Vec::new() };
        let facts = changes
            .iter()
            .filter_map(|change| settle::fact_of(entry, change, Some(&table.lane_name(entry, change.recipient)), now));
        facts.collect()
    }

    /// What is known of a message, waiting or ended lately; `client` restricts the answer to that client's own.
    pub fn message(&self, id: MessageId, client: Option<&ClientName>) -> Option<MessageView> {
        let view = self.shared.table.lock().view(id, self.now())?;
        client.is_none_or(|c| *c == view.client).then_some(view)
    }

    /// Messages that match an id or an address, waiting or ended lately, newest first, at most `most`.
    pub fn explain(&self, id_or_address: &str, most: usize) -> Vec<MessageView> {
        match id_or_address.trim().parse() {
            Ok(id) => self.message(id, None).into_iter().collect(),
            Err(_) => self.shared.table.lock().views_to(id_or_address, most, self.now()),
        }
    }

    /// The lanes and what waits in them.
    pub fn overview(&self, lanes_max: usize) -> view::QueueView {
        self.shared.table.lock().overview(lanes_max, self.now())
    }

    /// Stops sending (`true`) or lets it go on. Accepting is not affected.
    pub fn hold(&self, held: bool) {
        self.shared.table.lock().schedule.hold(held);
        self.shared.work.notify_one();
    }

    /// Makes everything that waits for a retry due now; returns how many consignments.
    pub fn flush(&self) -> u64 {
        let count = self.shared.table.lock().schedule.flush();
        self.shared.work.notify_one();
        count as u64
    }

    /// New options and the routes as they now are: what waits moves to the lanes they say.
    pub fn reconfigure(&self, options: Options) {
        self.shared.options.store(Arc::new(options));
        let now = self.now();
        self.shared.table.lock().reroute(&self.shared.routes.load(), &self.shared.options.load(), now);
        self.shared.work.notify_one();
    }

    /// Takes no more, waits for what is being settled, closes the log.
    pub async fn shutdown(&self) {
        self.shared.stopping.send_replace(true);
        // All places free: every outcome is on disk.
        let _all = self.shared.settling.acquire_many(SETTLING_MAX as u32).await;
        self.shared.log.shutdown().await;
    }

    /// The log under the queue, for its figures and its health.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    fn now(&self) -> Now {
        Now { wall: self.shared.clock.now(), mono: self.shared.clock.mono() }
    }

    // What leases ask for.

    async fn load(&self, ticket: Ticket) -> Result<Consignment, LoadError> {
        let (mut consignment, position) =
            self.shared.table.lock().cold_consignment(ticket).ok_or(LoadError::Damaged)?;
        let stored = self.shared.log.read(position).await?;
        let channel = consignment.envelope.channel();
        consignment.content = Some(record::read_content(channel, stored.body.unwrap_or_default())?);
        consignment.ready().ok_or(LoadError::Damaged)
    }

    fn consigned(&self, ticket: Ticket) -> Vec<RecipientIndex> {
        self.shared.table.lock().tickets.get(&ticket).map(|c| c.recipients.clone()).unwrap_or_default()
    }

    async fn begin(&self, ticket: Ticket, progress: TextProgress) -> Result<Durable, AppendError> {
        let (id, position, recipient) = {
            let table = self.shared.table.lock();
            let consigned = table.tickets.get(&ticket).ok_or(AppendError::Closed)?;
            let entry = table.entries.get(&consigned.id).ok_or(AppendError::Closed)?;
            (consigned.id, entry.position, consigned.recipients.first().copied().unwrap_or_default())
        };
        let state = State::Begun { at: self.shared.clock.now() };
        let change = Change { recipient, state, attempt: None, counts: false, progress: Some(Box::new(progress)) };
        let record = change_record(id, position, std::slice::from_ref(&change));
        let appended = self.shared.log.append(Purpose::Upkeep, vec![record]).await?;
        // In memory the recipient stays queued and leased: the outcome is what will count.
        Ok(appended.durable)
    }

    fn return_unused(&self, ticket: Ticket) {
        self.shared.metrics.leased.dec();
        let now = self.now();
        self.shared.table.lock().give_back(ticket, now);
        self.shared.work.notify_one();
    }

    async fn settle(self, ticket: Ticket, outcomes: Vec<RecipientOutcome>, follow_ups: Vec<Submission>) {
        self.note_health(ticket, &outcomes);
        let Ok(place) = self.shared.settling.clone().acquire_owned().await else { return };
        let Some((id, position, changes)) = self.changes_after(ticket, outcomes) else { return };
        let options = self.shared.options.load_full();
        let newcomers: Vec<Newcomer> = follow_ups.into_iter().map(|s| Newcomer::new(s, &options)).collect();
        let mut group = vec![change_record(id, position, &changes)];
        group.extend(newcomers.iter().map(Newcomer::record));
        tokio::spawn(async move {
            let appended = self.shared.log.append(Purpose::Upkeep, group).await;
            match appended {
                Ok(appended) => self.settled(Some(ticket), id, changes, newcomers, &appended.positions),
                // The lease stays out: starting another attempt that could not be recorded either would only double it.
                Err(e) => tracing::error!(%id, error = %e, "an outcome could not be recorded"),
            }
            drop(place);
        });
    }

    fn changes_after(
        &self,
        ticket: Ticket,
        outcomes: Vec<RecipientOutcome>,
    ) -> Option<(MessageId, Position, Vec<Change>)> {
        let options = self.shared.options.load();
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let consigned = table.tickets.get(&ticket)?;
        let entry = table.entries.get(&consigned.id)?;
        let is_text = entry.envelope.text().is_some();
        let retry = &options.retry[entry.envelope.class.index()];
        // One throw for the consignment, so that its recipients stay together.
        let chance = fastrand::f64();
        let changes = outcomes
            .into_iter()
            .filter(|o| consigned.recipients.contains(&o.recipient))
            .filter_map(|o| {
                let life = entry.lives.get(o.recipient as usize)?;
                Some(settle::change_after(life, o, is_text, retry, now, chance))
            })
            .collect();
        Some((consigned.id, entry.position, changes))
    }

    /// The outcomes are durable: applies them, takes in what follows from them, and tells.
    fn settled(
        &self,
        ticket: Option<Ticket>,
        id: MessageId,
        changes: Vec<Change>,
        newcomers: Vec<Newcomer>,
        positions: &[Position],
    ) {
        let now = self.now();
        let options = self.shared.options.load();
        let (facts, released) = {
            let mut table = self.shared.table.lock();
            let mut facts = self.facts(&table, id, &changes);
            let released = table.apply(id, changes, &options, now);
            if let Some(ticket) = ticket {
                table.give_back(ticket, now);
                self.shared.metrics.leased.dec();
            }
            for (newcomer, &position) in newcomers.into_iter().zip(positions.iter().skip(1)) {
                // What follows from an end is owed, whatever the quotas say.
                let (client, size) = (newcomer.envelope.client.clone(), newcomer.size);
                table.reserve_owed(&client, size);
                facts.extend(self.admit(&mut table, newcomer, position));
            }
            (facts, released)
        };
        released.inspect(|&position| self.shared.log.release(position));
        self.shared.work.notify_one();
        facts.into_iter().for_each(|f| self.shared.events.record(f));
    }

    /// What an attempt says about its destination.
    fn note_health(&self, ticket: Ticket, outcomes: &[RecipientOutcome]) {
        let now = self.now();
        let mut table = self.shared.table.lock();
        let lane = table.tickets.get(&ticket).map(|c| c.lane);
        let site = lane.and_then(|lane| table.schedule.site_of(lane));
        let channel = site.map_or("email", |site| table.channel_of(site).as_str());
        for outcome in outcomes {
            let word = match outcome.outcome {
                Outcome::Relayed(_) => "relayed",
                Outcome::Delayed(_) => "delayed",
                Outcome::Failed(_) => "failed",
            };
            self.shared.metrics.attempts.with_label_values(&[channel, word]).inc();
        }
        let unreachable = outcomes.iter().any(|o| match &o.outcome {
            Outcome::Delayed(f) => {
                matches!(f.scope, Scope::Host | Scope::Site | Scope::Connection)
                    && matches!(f.stage, Stage::Dns | Stage::Connect | Stage::Hello | Stage::Tls)
            }
            _ => false,
        });
        if unreachable {
            table.schedule.went_wrong(ticket, now.mono);
        } else {
            table.schedule.went_well(ticket);
        }
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
    key: keys::KeyOf,
    _ended: watch::Sender<()>,
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        self.queue.shared.table.lock().keys.abandon(&self.key);
    }
}

fn change_record(id: MessageId, about: Position, changes: &[Change]) -> Record {
    Record {
        kind: record::CHANGE,
        key: id.to_bytes(),
        about: Some(about),
        payload: record::write_changes(changes),
        body: None,
        live: false,
    }
}

/// A consignment whose content may still be on disk only.
struct Cold {
    envelope: Arc<Envelope>,
    content: Option<Content>,
    recipients: Vec<RecipientIndex>,
    attempt: u32,
    progress: Option<TextProgress>,
}

impl Cold {
    fn ready(self) -> Option<Consignment> {
        let Self { envelope, content, recipients, attempt, progress } = self;
        Some(Consignment { envelope, content: content?, recipients, attempt, progress })
    }
}

impl Table {
    /// What a ticket that was just leased stands for. `None`, and the ticket back in its lane or gone, if it may not be
    /// carried now.
    fn lease(&mut self, ticket: Ticket, now: Now) -> Option<Cold> {
        let Some((cold, _)) = self.cold_consignment(ticket) else {
            self.schedule.remove(ticket);
            return None;
        };
        let entry = self.entries.get(&cold.envelope.id)?;
        let attemptable = cold
            .recipients
            .iter()
            .all(|&r| entry.lives.get(r as usize).is_some_and(|l| lease::may_be_attempted(l.state)));
        let expired = entry.envelope.expires_at.is_some_and(|at| at <= now.wall);
        if entry.moving || expired || !attemptable {
            // Soon again: the end of a move, or the sweep that ends what has expired.
            let lane = self.tickets.get(&ticket)?.lane;
            self.schedule.put(ticket, lane, 1, now.mono.plus(Duration::from_millis(50)), now.mono);
            return None;
        }
        Some(cold)
    }

    fn cold_consignment(&self, ticket: Ticket) -> Option<(Cold, Position)> {
        let consigned = self.tickets.get(&ticket)?;
        let entry = self.entries.get(&consigned.id)?;
        let life = entry.lives.get(*consigned.recipients.first()? as usize)?;
        let cold = Cold {
            envelope: entry.envelope.clone(),
            content: entry.content.clone(),
            recipients: consigned.recipients.clone(),
            attempt: life.attempts_made + 1,
            progress: life.progress.as_deref().cloned(),
        };
        Some((cold, entry.position))
    }
}

#[cfg(test)]
mod tests;
