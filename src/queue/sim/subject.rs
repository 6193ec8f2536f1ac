//! The one place where the simulator touches the queue: opened over a stepped log, driven by hand, seen through its public
//! answers. When a signature of the queue changes, it is followed here.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::super::steering::Selector;
use super::super::steering::file::RulesFile;
use super::super::upkeep::Stuck;
use super::super::{AcceptError, Accepted, Ending, Lease, LoadError, MailSite, Options, Pull, Queue, recover};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::event::log::{EventLog, Facts};
use crate::event::metrics::Metrics;
use crate::event::{Fact, Kind};
use crate::model::{
    Consignment, Domain, MessageId, Receipt, RecipientIndex, RecipientOutcome, Responsibility, Submission, TextProgress,
};
use crate::route::Routes;
use crate::schedule::SiteId;
use crate::storage::{self, AppendError, Disk, Log, OpenError, Stepped};

/// The queue of one life, and what turns it.
pub(super) struct Subject {
    queue: Queue,
    stepped: Stepped,
    stuck: Stuck,
    routes: Arc<ArcSwap<Routes>>,
    facts: Facts,
    /// Facts that have been told and not been asked for yet.
    told: VecDeque<Arc<Fact>>,
    clock: Arc<ManualClock>,
    sites: BTreeSet<SiteId>,
    /// Messages found at the start with a recipient that has not ended; known once all are taken in.
    pub(super) messages_at_start: u64,
    /// Of those, texts whose answer a crash swallowed.
    pub(super) unknown_at_start: u64,
    /// Records found at the start that are intact and cannot be understood.
    pub(super) strange: u64,
}

/// What is needed to open the queue again and again.
pub(super) struct Ground<'a> {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: &'a Path,
    pub(super) log: storage::Options,
    pub(super) options: Options,
    pub(super) routes: Routes,
    pub(super) clock: Arc<ManualClock>,
    pub(super) metrics: Arc<Metrics>,
}

/// A message as the queue tells of it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// False if it has ended and is only remembered.
    pub(super) live: bool,
    pub(super) recipients: Vec<SeenRecipient>,
}

/// A recipient as the queue tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenRecipient {
    pub(super) status: String,
    pub(super) made: u32,
    pub(super) listed: u32,
    /// As told; one that has passed is told as now.
    pub(super) due: Option<Timestamp>,
    pub(super) parts: Vec<String>,
}

/// The disk does not answer.
pub(super) struct Silence;

/// How an accept ended, as far as the model cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Yes {
        id: MessageId,
        replayed: bool,
    },
    /// For certain not.
    Refused(AcceptError),
    /// Perhaps on disk, perhaps not.
    Unsure,
}

/// Turns without anything happening after which a future counts as stuck.
const PATIENCE: usize = 64;

impl Subject {
    pub(super) fn open(ground: &Ground<'_>) -> Result<Self, OpenError> {
        let (events, facts) = EventLog::captured(ground.metrics.clone());
        let mut stepped = None;
        let clock: Arc<dyn Clock> = ground.clock.clone();
        let log_clock = clock.clone();
        let open_log = |visit: &mut dyn FnMut(storage::Recovered)| {
            let (log, turned, report) =
                Log::open_stepped(ground.dir, ground.log.clone(), ground.disk.clone(), log_clock, visit)?;
            stepped = Some(turned);
            Ok((log, report))
        };
        let routes = Arc::new(ArcSwap::from_pointee(ground.routes.clone()));
        let options = ground.options.clone();
        let rules = RulesFile::new(ground.disk.clone(), ground.dir);
        let (queue, recovery) = recover::open(
            open_log,
            (ground.disk.clone(), ground.dir),
            rules,
            options,
            routes.clone(),
            clock,
            events,
            ground.metrics.clone(),
        )?;
        Ok(Self {
            queue,
            stepped: stepped.expect("the log was opened"),
            stuck: Stuck::new(),
            routes,
            facts,
            told: VecDeque::new(),
            clock: ground.clock.clone(),
            sites: BTreeSet::new(),
            messages_at_start: 0,
            unknown_at_start: 0,
            strange: recovery.strange,
        })
    }

    /// Waits until what is on disk has been taken in; false if that never happens.
    pub(super) async fn take_in(&mut self) -> bool {
        let queue = self.queue.clone();
        let Some(progress) = self.drive(async move { queue.loaded().await }).await else { return false };
        let Some(shelved) = self.drive(self.queue.clone().count_shelved()).await else { return false };
        (self.messages_at_start, self.unknown_at_start) = (progress.messages + shelved, progress.unknown);
        self.strange += progress.strange;
        true
    }

    /// Damaged places found at the start, and by reading since.
    pub(super) fn damage(&self) -> u64 {
        self.queue.log().stats().damaged
    }

    /// Lets everybody have a turn, then the committer; false if it had nothing to do.
    async fn turn(&mut self) -> bool {
        self.told.extend(self.facts.take());
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.stepped.commit()
    }

    /// Turns the log until a future is ready; `None` if it never will be.
    pub(super) async fn drive<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut idle = 0;
        while idle < PATIENCE {
            let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            if let Poll::Ready(value) = polled {
                return Some(value);
            }
            if self.turn().await {
                idle = 0;
            } else {
                idle += 1;
                // Who waits for time to pass shall see it pass.
                self.clock.advance(Duration::from_millis(20));
            }
        }
        None
    }

    /// Turns the log until nothing happens any more.
    pub(super) async fn quiesce(&mut self) {
        let mut idle = 0;
        while idle < 2 {
            idle = if self.turn().await { 0 } else { idle + 1 };
        }
    }

    /// The janitor does what there is to do.
    pub(super) fn tidy(&mut self) {
        self.stepped.tidy();
    }

    /// Hands a submission in; the answer comes when the log is turned.
    pub(super) fn accept(&self, submission: Submission) -> tokio::task::JoinHandle<Answer> {
        let queue = self.queue.clone();
        tokio::spawn(async move { answer(queue.accept(submission).await) })
    }

    pub(super) fn is_poisoned(&self) -> bool {
        *self.queue.log().poisoned().borrow()
    }

    /// What any site has to give, the sites asked in turn from a random one on.
    pub(super) fn pull(&mut self, random: &mut fastrand::Rng) -> Option<Lease> {
        self.queue.advance();
        self.sites.extend(self.queue.roused().iter().map(|work| work.site));
        let from = random.usize(..self.sites.len().max(1));
        let sites: Vec<SiteId> = self.sites.iter().skip(from).chain(self.sites.iter().take(from)).copied().collect();
        sites.into_iter().find_map(|site| match self.queue.pull(site) {
            Pull::Lease(lease) => Some(lease),
            _ => None,
        })
    }

    pub(super) async fn load(&mut self, lease: &mut Lease) -> Option<Result<Consignment, LoadError>> {
        self.drive(async { lease.load().await.cloned() }).await
    }

    /// Whose message a lease is for, when it cannot be loaded.
    pub(super) fn leased_id(&self, lease: &Lease) -> Option<MessageId> {
        Some(lease.work.id)
    }

    pub(super) async fn begin(&mut self, lease: &mut Lease, progress: TextProgress) -> Option<Result<(), AppendError>> {
        self.drive(async { lease.begin(progress).await.map(|_| ()) }).await
    }

    pub(super) async fn settle(&mut self, lease: Lease, outcomes: Vec<RecipientOutcome>, then: Vec<Submission>) {
        self.drive(lease.settle(outcomes, then)).await;
    }

    pub(super) async fn receipt(&mut self, receipt: Receipt) -> Option<Result<(), AppendError>> {
        let queue = self.queue.clone();
        self.drive(async move { queue.receipt(receipt).await }).await
    }

    pub(super) async fn take_overdue(&mut self, most: usize) -> Vec<Ending> {
        let queue = self.queue.clone();
        self.drive(async move { queue.take_overdue(most).await }).await.unwrap_or_default()
    }

    pub(super) async fn end(&mut self, overdue: Ending, then: Vec<Submission>) {
        let queue = self.queue.clone();
        self.drive(async move { queue.end(overdue, then).await }).await;
    }

    /// One turn of upkeep.
    pub(super) async fn keep_up(&mut self) {
        let queue = self.queue.clone();
        let mut stuck = std::mem::take(&mut self.stuck);
        self.drive(queue.keep_up(&mut stuck)).await;
        self.stuck = stuck;
    }

    pub(super) fn hold(&self, held: bool) {
        self.queue.hold(held);
    }

    pub(super) fn is_held(&self) -> bool {
        self.queue.is_held()
    }

    pub(super) async fn flush(&mut self) {
        let queue = self.queue.clone();
        self.drive(async move { queue.flush(Selector::default(), "the simulator").await }).await;
    }

    pub(super) fn reconfigure(&self, routes: Routes, options: Options) {
        self.routes.store(Arc::new(routes));
        self.queue.reconfigure(options);
    }

    /// Believed for a while: what a run does in a day takes some of it.
    pub(super) fn learn_site(&self, domain: &str, site: Option<&str>) {
        let domain = Domain::parse(domain).expect("a domain");
        let anybody = Arc::<crate::provider::Limits>::default();
        let site = site.map(|name| MailSite { name: name.into(), provider: "any".into(), limits: anybody });
        self.queue.learn_site(&domain, site, Duration::from_secs(1_800));
    }

    /// True if the shutdown came to its end.
    pub(super) async fn shutdown(&mut self) -> bool {
        let queue = self.queue.clone();
        self.drive(async move { queue.shutdown().await }).await.is_some()
    }

    /// What the queue tells of a message; an error if the disk does not answer.
    pub(super) async fn look(&mut self, id: MessageId) -> Result<Option<Seen>, Silence> {
        let queue = self.queue.clone();
        let view = async move {
            if matches!(queue.detail(id).await, Err(LoadError::Unreadable(_))) || queue.on_shelf(id).await.is_err() {
                return Err(Silence);
            }
            Ok(queue.message(id, None).await)
        };
        let Some(view) = self.drive(view).await.unwrap_or(Ok(None))? else { return Ok(None) };
        let queue = self.queue.clone();
        let live = self.drive(async move { queue.lives(id).await }).await.unwrap_or_default();
        let recipients = view.recipients.into_iter().map(|r| SeenRecipient {
            status: r.status,
            made: r.attempts_made,
            listed: r.attempts.len() as u32,
            due: r.next_attempt.as_deref().and_then(Timestamp::parse_rfc3339),
            parts: r.parts.into_iter().map(|p| p.state).collect(),
        });
        Ok(Some(Seen { live, recipients: recipients.collect() }))
    }

    /// Facts told since the last call.
    pub(super) fn facts(&mut self) -> impl Iterator<Item = (MessageId, String, Kind)> + '_ {
        self.told.extend(self.facts.take());
        self.told.drain(..).filter_map(|fact| Some((fact.id?, fact.recipient.clone()?, fact.event)))
    }
}

fn answer(accepted: Result<Accepted, AcceptError>) -> Answer {
    match accepted {
        Ok(accepted) => Answer::Yes { id: accepted.message_id(), replayed: accepted.replayed() },
        Err(AcceptError::Unavailable) => Answer::Unsure,
        Err(refused) => Answer::Refused(refused),
    }
}

/// What an overdue message comes to: whose time has run out, and whether they waited or were sent.
pub(super) fn overdue_of(overdue: &Ending) -> (MessageId, Vec<RecipientIndex>, bool) {
    let recipients = overdue.recipients.iter().map(|(r, ..)| *r).collect();
    (overdue.envelope.id, recipients, overdue.end == super::super::End::Expired)
}
