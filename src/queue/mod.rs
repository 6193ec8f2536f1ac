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
//! | a sidecar being written | the old sidecar or none, the segment | reads those; what is younger than the mark is in the log | no |
//! | a start before all is taken in | as before that start | begins anew | no |
//! | a text is being put on the shelf, or taken off it | see `shelved.rs` | it is at one place | no |
//! | text sent, receipt not synced | CHANGE sent | awaits it; the carrier was not answered and repeats it | no |
//!
//! **Fails how.** A poisoned log refuses everything from then on; `relay` stops the process.
//! **Tested** beside each file, in `queue/tests.rs` over a real log, in `queue/sim` over a disk that loses and fails, and by
//! kill -9 and power cuts in `tests/e2e`.

mod accept;
mod again;
mod answered;
mod brakes;
mod carry;
mod checkpoint;
mod clients;
mod detail;
mod entry;
mod explain;
mod history;
mod homes;
mod hot;
pub mod inspect;
mod keys;
mod lanes;
mod learnt;
mod lease;
mod life;
mod lives;
mod load;
mod options;
mod pace;
mod parts;
mod quality;
mod receipts;
mod record;
mod recover;
mod retry;
mod settle;
mod shelved;
mod slab;
pub mod steer;
pub mod steering;
mod table;
mod terms;
mod texts_to;
mod under_way;
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
use crate::model::{Domain, MessageId};
use crate::route::{Course, MailHop, Routes};
use crate::storage::{AppendError, Appended, Disk, Log, Position, Purpose, Record, Recovered};
pub use accept::{AcceptError, Accepted};
pub use again::Again;
pub use brakes::Blamed;
use carry::About;
pub use carry::{Pull, SiteWork};
pub use homes::MailSite;
pub use learnt::PaceFile;
pub use lease::{Begun, Lease, LoadError};
use life::Change;
pub use life::End;
pub use options::Options;
pub use pace::ConnectionTerms;
pub use quality::Quality;
pub use recover::Recovery;
pub use retry::Retry;
use steering::file::RulesFile;
use table::{Now, Table};
pub use terms::PaceOptions;
pub use texts_to::TextTo;
pub use upkeep::Ending;
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
    /// How far the messages on disk have been taken in.
    progress: watch::Sender<Progress>,
    checkpoints: tokio::sync::Mutex<checkpoint::Checkpoints>,
    /// Held by whoever changes the table's rules: durable first, then in force.
    rules: tokio::sync::Mutex<steer::RulesKept>,
    /// Texts that wait for receipts on disk.
    shelved: shelved::Shelved,
    /// Those of them that pause a source.
    source_rules: watch::Sender<Arc<[steering::Rule]>>,
}

/// How far a start has come in taking in the messages that are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Segments with a sidecar.
    pub segments: u64,
    /// Those whose messages are in.
    pub segments_done: u64,
    /// Messages that are in.
    pub messages: u64,
    /// Texts whose answer a crash swallowed; they end as `unknown`.
    pub unknown: u64,
    /// Parts of sidecars that could be read and not understood.
    pub strange: u64,
    /// All are in.
    pub finished: bool,
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
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// A next hop for mail.
    Mail(MailHop),
    /// The hosts that the MX records of several domains name. A lease of theirs has its own domain's next hop.
    Shared(MailSite),
    /// Carriers for texts.
    Text(Arc<Course>),
}

impl Target {
    /// The name of the site that such messages are given out at.
    pub fn site_name(&self) -> Arc<str> {
        match self {
            Self::Mail(MailHop::Mx(domain)) => domain.as_str().into(),
            Self::Mail(MailHop::Fixed(host)) => format!("to {host}").into(),
            Self::Shared(site) => site.name.clone(),
            Self::Text(course) => format!("carriers {course}").into(),
        }
    }

    fn is_mail(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    /// Who runs the hosts, if that is known.
    fn provider(&self) -> Option<&Arc<str>> {
        match self {
            Self::Shared(site) => Some(&site.provider).filter(|name| ***name != *crate::provider::ANY),
            Self::Mail(_) | Self::Text(_) => None,
        }
    }
}

impl Queue {
    /// Opens the queue in `dir` and starts its upkeep on the current runtime. What is on disk and has not ended is taken in
    /// in the background ([`Queue::loaded`]); all idempotency keys are known when this returns.
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
        let rules = RulesFile::new(disk.clone(), dir);
        let log_clock = clock.clone();
        let shelf = (disk.clone(), dir);
        let open_log = |visit: &mut dyn FnMut(Recovered)| Log::open(dir, log, disk, log_clock, visit);
        let (queue, recovery) = recover::open(open_log, shelf, rules, options, routes, clock, events, metrics)?;
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

    /// Makes changes durable and applies them; the entry has been marked as moving and is free again afterwards. A caller that
    /// goes away meanwhile does not undo it.
    async fn record_changes(&self, about: About, changes: Vec<Change>) -> Result<(), AppendError> {
        let queue = self.clone();
        let recorded = tokio::spawn(async move {
            let id = about.id;
            let Some(about) = queue.acquaint(about).await else {
                queue.shared.table.lock().unmark(id);
                return Err(AppendError::Busy);
            };
            match queue.keep(vec![change_record(about.id, about.position, &changes)]).await {
                Ok(appended) => {
                    queue.settled(about, None, &changes, Vec::new(), appended);
                    Ok(())
                }
                Err(e) => {
                    queue.shared.table.lock().unmark(about.id);
                    Err(e)
                }
            }
        });
        recorded.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Reads what there is to know of a message whose entry is marked; `None` if the disk does not answer now. What is damaged
    /// is done without.
    async fn acquaint(&self, about: About) -> Option<About> {
        match self.detail(about.id).await {
            Ok(Some(detail)) => Some(About { envelope: Some(detail.envelope.clone()), known: Some(detail), ..about }),
            Ok(None) => Some(about),
            Err(e) => {
                tracing::error!(id = %about.id, error = %e, "a message's records cannot be read");
                (!matches!(e, LoadError::Unreadable(_))).then_some(about)
            }
        }
    }

    /// The routes in force.
    pub fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.shared.routes.load()
    }

    /// The place of the carrier among these that does best by its receipts; the first while nothing is known.
    pub fn best_carrier(&self, carriers: &[Arc<str>]) -> usize {
        self.shared.table.lock().qualities.best(carriers).unwrap_or_default()
    }

    /// How well a carrier does, if that can be told.
    pub fn quality_of(&self, carrier: &str) -> Option<Quality> {
        self.shared.table.lock().qualities.of(carrier)
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

    /// New options and the routes as they now are: what waits moves to the lanes they say.
    pub fn reconfigure(&self, options: Options) {
        self.shared.options.store(Arc::new(options));
        let now = self.now();
        self.shared.table.lock().reroute(&self.shared.routes.load(), &self.shared.options.load(), now);
        self.shared.work.notify_one();
    }

    /// Somebody has looked up where a domain's mail goes: to a site that others share, or (`None`) to one of its own. Believed
    /// for the time of `keep`; what waits for the domain moves there.
    pub fn learn_site(&self, domain: &Domain, site: Option<MailSite>, keep: Duration) {
        let now = self.now();
        let options = self.shared.options.load();
        self.shared.table.lock().learn_site(domain, site, now.mono.plus(keep), &options, now.mono);
        self.shared.work.notify_one();
    }

    /// Takes no more, waits for what is being settled, closes the log.
    pub async fn shutdown(&self) {
        self.shared.stopping.send_replace(true);
        // All places free: every outcome is on disk.
        let _all = self.shared.settling.acquire_many(SETTLING_MAX as u32).await;
        if self.is_loaded() && !*self.shared.poisoned.borrow() {
            // So that the next start need not read the log.
            self.close_shelf().await;
            self.checkpoint(true).await;
        }
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
mod sim;
#[cfg(test)]
mod tests;
