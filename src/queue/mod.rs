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

mod accept;
mod answered;
mod carry;
mod explain;
mod history;
mod keys;
mod lease;
mod life;
mod options;
mod receipts;
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
use crate::event::Fact;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::model::{ClientName, MessageId};
use crate::route::{MailHop, Routes};
use crate::storage::{AppendError, Appended, Disk, Log, Position, Purpose, Record, Recovered};
pub use accept::{AcceptError, Accepted};
pub use carry::{Pull, SiteWork};
pub use lease::{Begun, Lease, LoadError};
use life::Change;
pub use life::End;
pub use options::Options;
pub use recover::Recovery;
pub use retry::Retry;
use table::{Now, Table};
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
    /// The log has failed.
    poisoned: watch::Receiver<bool>,
}

/// Outcomes that may wait for the disk at the same time.
const SETTLING_MAX: usize = 8_192;
/// How long the recording of an outcome pauses when the disk is full.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);

/// Where the queue's log lies, and how it is kept.
#[derive(Debug)]
pub struct Place<'a> {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The log's directory.
    pub dir: &'a Path,
    /// The log's options.
    pub log: crate::storage::Options,
}

/// Where a site's consignments go: what `dispatch` chooses a courier by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A next hop for mail.
    Mail(MailHop),
    /// Carriers for texts, in order of preference.
    Text(Arc<[Arc<str>]>),
}

impl Queue {
    /// Opens the queue in `dir`, takes in everything that has not ended, and starts its upkeep on the current runtime.
    ///
    /// # Errors
    /// When the directory is in use, damaged beyond reading, or of a newer version.
    pub fn open(
        place: Place<'_>,
        options: Options,
        routes: Arc<ArcSwap<Routes>>,
        clock: SharedClock,
        events: EventLog,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Recovery), crate::storage::OpenError> {
        let Place { disk, dir, log } = place;
        let log_clock = clock.clone();
        let open_log = |visit: &mut dyn FnMut(Recovered)| Log::open(dir, log, disk, log_clock, visit);
        let (queue, recovery) = recover::open(open_log, options, routes, clock, events, metrics)?;
        tokio::spawn(upkeep::run(Arc::downgrade(&queue.shared)));
        Ok((queue, recovery))
    }

    /// Makes records about what is already ours durable. A full disk is waited for: nothing else may happen to what they
    /// are about until they are there.
    async fn keep(&self, group: Vec<Record>) -> Result<Appended, AppendError> {
        loop {
            match self.shared.log.append(Purpose::Upkeep, group.clone()).await {
                Err(AppendError::Full | AppendError::Body) if !*self.shared.stopping.borrow() => {
                    tracing::error!("an outcome waits for space on the disk");
                    pause(FULL_DISK_PAUSE).await;
                }
                appended => return appended,
            }
        }
    }

    /// Makes changes durable and applies them; the entry has been marked as moving and is free again afterwards.
    async fn record_changes(&self, id: MessageId, position: Position, changes: Vec<Change>) -> Result<(), AppendError> {
        let appended = self.keep(vec![change_record(id, position, &changes)]).await;
        let mut facts = Vec::new();
        let released = {
            let now = self.now();
            let mut table = self.shared.table.lock();
            table.unmark(id);
            appended.as_ref().ok().and_then(|_| {
                facts = self.facts(&table, id, &changes);
                table.apply(id, changes, &self.shared.options.load(), now)
            })
        };
        released.inspect(|&position| self.shared.log.release(position));
        facts.into_iter().for_each(|f| self.shared.events.record(f));
        appended.map(|_| ())
    }

    fn facts(&self, table: &Table, id: MessageId, changes: &[Change]) -> Vec<Fact> {
        let now = self.shared.clock.now();
        let Some(entry) = table.entries.get(&id) else { return Vec::new() };
        let facts = changes
            .iter()
            .filter_map(|change| settle::fact_of(entry, change, Some(&Table::lane_name(entry, change.recipient)), now));
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

    /// True while nothing is sent.
    pub fn is_held(&self) -> bool {
        self.shared.table.lock().schedule.is_held()
    }

    /// Makes everything that waits for a retry due now; returns how many consignments.
    pub fn flush(&self) -> u64 {
        let count = self.shared.table.lock().flush_retries();
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
}

/// Waits. In tests, where clocks stand still, until everybody else has had a turn.
async fn pause(span: Duration) {
    if cfg!(test) {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(span).await;
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

#[cfg(test)]
mod tests;
