//! Joining the queue to the couriers: lease, carry, settle.
//!
//! **What.** One loop asks the queue which sites have something to pull and sees to it that each has enough hands: for mail,
//! workers that each own one connection ([`mail`]); for texts, a pump per set of carriers ([`text`]). Another ends what is
//! overdue; a third delivers reports on TLS ([`tls_reports`]). What handsets send is dealt with in [`replies`], what carriers say of numbers' networks in [`porting`]. [`notify`] writes the notifications that follow from an end, which the queue settles in the same batch.
//!
//! **Promises.** A worker holds one lease at a time; every lease is settled or returned. At shutdown no new lease is taken
//! and those that are out may finish until the deadline; what is cut off then is still in the queue.
//!
//! **Does not know** how storage works, how a schedule chooses, what goes over a wire.

mod mail;
mod notify;
mod porting;
pub mod replies;
mod text;
mod tls_reports;
mod turns;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::SharedClock;
use crate::egress::email::{Located, MailEgress};
use crate::egress::sms::{HandsetMessage, Inbound, InboundError, Taking};
use crate::model::{Domain, Receipt, ReceiptState};
use crate::queue::steer::{Sweep, Swept};
use crate::queue::{Ending, MailSite, Queue, SiteWork, Target};
use crate::route::MailHop;
use crate::schedule::SiteId;
use crate::storage::AppendError;

pub use crate::egress::sms::Carriers;
pub use notify::Notices;
pub use porting::{Porting, PortingOptions};
pub use replies::Replies;
pub use tls_reports::Reporting;

/// What dispatch works with.
#[derive(Clone)]
pub struct Parts {
    /// Whence.
    pub queue: Queue,
    /// What mail couriers share.
    pub mail: Arc<MailEgress>,
    /// Carriers for texts.
    pub carriers: Carriers,
    /// Mail connections to all destinations together; may be changed.
    pub connections_max: Arc<AtomicUsize>,
    /// How senders are told; may be changed.
    pub notices: Arc<ArcSwap<Notices>>,
    /// Whom handsets' messages answer, and who wants no more texts.
    pub replies: Arc<Replies>,
    /// What carriers say of numbers' networks.
    pub porting: Porting,
    /// Time.
    pub clock: SharedClock,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// A running dispatch.
#[derive(Debug)]
pub struct Dispatch {
    stop: watch::Sender<bool>,
    /// Closed once every task has gone.
    gone: mpsc::Receiver<()>,
}

/// What each task of dispatch carries.
#[derive(Clone)]
struct Task {
    parts: Parts,
    hands: Arc<Hands>,
    locating: Arc<Locating>,
    stop: watch::Receiver<bool>,
    /// Held as long as the task lives.
    _alive: mpsc::Sender<()>,
}

/// All mail workers together.
#[derive(Debug, Default)]
struct Hands {
    count: AtomicUsize,
    /// A worker has gone while there were as many as there may be.
    freed: Notify,
}

/// Look-ups that are to tell which domains share a site.
#[derive(Debug)]
struct Locating {
    /// The sites, of one domain each, that they are about.
    sites: Mutex<HashSet<SiteId>>,
    turns: Semaphore,
}

/// Somebody is at it.
struct Entered {
    locating: Arc<Locating>,
    site: SiteId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.locating.sites.lock().remove(&self.site);
    }
}

/// The hands of one site.
#[derive(Debug, Default)]
struct Crew {
    /// Workers there are.
    workers: AtomicUsize,
    /// Those that wait for something to do.
    idle: AtomicUsize,
    wake: Notify,
}

/// Such look-ups at a time.
const LOOKUPS_MAX: usize = 256;
/// Ready consignments for which one more connection is opened.
const READY_PER_CONNECTION: usize = 4;
/// Crews without a worker kept before they are dropped.
const CREWS_KEPT: usize = 4_096;
/// Looked at anew at least so often.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How often what is overdue is looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// How much of it at a time.
const SWEEP_MAX: usize = 256;

impl Dispatch {
    /// Starts on the current runtime.
    pub fn start(parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (alive, gone) = mpsc::channel(1);
        let locating = Arc::new(Locating { sites: Mutex::default(), turns: Semaphore::new(LOOKUPS_MAX) });
        let task = Task { parts, hands: Arc::default(), locating, stop: stopped, _alive: alive };
        tokio::spawn(task.clone().rouse_sites());
        tokio::spawn(task.end_overdue());
        Self { stop, gone }
    }

    /// Takes no more leases and waits for those that are out, at most until `deadline` has passed. True if all came back.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(deadline, self.gone.recv()).await.is_ok()
    }
}

impl Task {
    /// Sees to it that every site with something to pull has hands.
    async fn rouse_sites(mut self) {
        let mut crews: HashMap<SiteId, Arc<Crew>> = HashMap::new();
        // Sites that got no hand because there were as many as there may be.
        let mut starved: HashSet<SiteId> = HashSet::new();
        loop {
            let next = self.parts.queue.advance();
            let again = std::mem::take(&mut starved).into_iter().filter_map(|site| self.parts.queue.site_work(site));
            for work in self.parts.queue.roused().into_iter().chain(again) {
                let crew = crews.entry(work.site).or_default();
                if !self.rouse(&work, crew) {
                    starved.insert(work.site);
                }
            }
            if !starved.is_empty() {
                // Idle hands elsewhere make room: with as many as there may be, nobody rests.
                crews.values().for_each(|crew| crew.wake.notify_waiters());
            }
            if crews.len() > CREWS_KEPT {
                crews.retain(|_, crew| crew.workers.load(Ordering::Relaxed) > 0);
            }
            let (queue, hands) = (self.parts.queue.clone(), self.hands.clone());
            tokio::select! {
                () = queue.work() => {}
                () = hands.freed.notified() => {}
                () = tokio::time::sleep(next.unwrap_or(TURN_MAX).min(TURN_MAX)) => {}
                _ = self.stop.wait_for(|&stop| stop) => return,
            }
        }
    }

    /// Wakes and takes on hands for a site. False if it would need one more than there may be.
    fn rouse(&self, work: &SiteWork, crew: &Arc<Crew>) -> bool {
        let workers = crew.workers.load(Ordering::Relaxed);
        let idle = crew.idle.load(Ordering::Relaxed);
        (0..idle.min(work.wanted)).for_each(|_| crew.wake.notify_one());
        match &work.target {
            // Nobody works there before it is known whether it shares a site.
            Target::Mail(MailHop::Mx(domain)) if work.unlocated => self.locate(work.site, domain),
            Target::Mail(_) | Target::Shared(_) => {
                let more = if workers == 0 { work.wanted.min(1) } else { work.wanted.div_ceil(READY_PER_CONNECTION) };
                let more = more.saturating_sub(idle).min(work.slots_max.saturating_sub(workers));
                for _ in 0..more {
                    if self.is_full() {
                        // A site with a hand already gets on; one without any waits for the next that is freed.
                        return workers > 0;
                    }
                    let hand = Hand::new(crew.clone(), Some(self.hands.clone()));
                    tokio::spawn(mail::work(self.clone(), work.site, hand));
                }
            }
            Target::Text(course) if workers == 0 => {
                let hand = Hand::new(crew.clone(), None);
                tokio::spawn(text::pump(self.clone(), work.site, course.clone(), hand));
            }
            // The pump may just be about to rest; a wake-up that nobody waits for is kept for it.
            Target::Text(_) => crew.wake.notify_one(),
        }
        true
    }

    /// Finds out whether a domain shares its site with others, unless somebody is at it; what waits is roused again then.
    fn locate(&self, site: SiteId, domain: &Domain) {
        if !self.locating.sites.lock().insert(site) {
            return;
        }
        let entered = Entered { locating: self.locating.clone(), site };
        let (mut task, domain) = (self.clone(), domain.clone());
        tokio::spawn(async move {
            let looking = async {
                let _turn = entered.locating.turns.acquire().await;
                task.parts.mail.locate(&domain).await
            };
            let Located { site: name, provider, limits, keep } = tokio::select! {
                located = looking => located,
                _ = task.stop.wait_for(|&stop| stop) => return,
            };
            let shared = name.map(|name| MailSite { name: name.into(), provider, limits: Arc::new(limits) });
            task.parts.queue.learn_site(&domain, shared, keep);
        });
    }

    /// True while there are as many mail workers as there may be.
    fn is_full(&self) -> bool {
        self.hands.count.load(Ordering::Relaxed) >= self.parts.connections_max.load(Ordering::Relaxed).max(1)
    }

    /// Ends what is overdue: mail with a notification, texts without.
    async fn end_overdue(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                _ = self.stop.wait_for(|&stop| stop) => return,
            }
            end_side_by_side(&self.parts, self.parts.queue.take_overdue(SWEEP_MAX).await).await;
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Ends messages without an attempt, each with the notification that follows from it; returns how many recipients.
async fn end_side_by_side(parts: &Parts, endings: Vec<Ending>) -> usize {
    // Side by side, so that they share syncs of the disk.
    let mut ending = JoinSet::new();
    for one in endings {
        let parts = parts.clone();
        ending.spawn(async move {
            let (recipients, follow_ups) = (one.recipients.len(), notify::for_ending(&parts, &one).await);
            if parts.queue.end(one, follow_ups).await { recipients } else { 0 }
        });
    }
    let mut ended = 0;
    while let Some(recipients) = ending.join_next().await {
        ended += recipients.unwrap_or_default();
    }
    ended
}

/// Ends what waits and an operator has named; tells how far it is after each stride.
pub async fn carry_out(parts: &Parts, mut sweep: Sweep, mut tell: impl FnMut(Swept)) -> Swept {
    while let Some(endings) = sweep.next().await {
        sweep.hit(end_side_by_side(parts, endings).await);
        tell(sweep.swept());
    }
    sweep.finish()
}

/// A worker's place in its crew, and among all of them, counted while it lives.
#[derive(Debug)]
struct Hand {
    crew: Arc<Crew>,
    among: Option<Arc<Hands>>,
    /// It has left its crew already.
    dismissed: bool,
}

impl Hand {
    fn new(crew: Arc<Crew>, among: Option<Arc<Hands>>) -> Self {
        crew.workers.fetch_add(1, Ordering::Relaxed);
        if let Some(hands) = &among {
            hands.count.fetch_add(1, Ordering::Relaxed);
        }
        Self { crew, among, dismissed: false }
    }

    /// Leaves the crew if that has more than `most`. One at a time: two who look at once do not both leave.
    fn leave_if_above(&mut self, most: usize) -> bool {
        let fewer = |workers: usize| (workers > most).then(|| workers - 1);
        let left = self.crew.workers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok();
        self.dismissed |= left;
        left
    }

    /// Waits to be woken, at most for `span`. False if nobody came.
    async fn rest(&self, span: Duration) -> bool {
        let _resting = Resting::new(&self.crew.idle);
        tokio::time::timeout(span, self.crew.wake.notified()).await.is_ok()
    }
}

/// Counts a hand as idle, also if its rest is cut short.
struct Resting<'a>(&'a AtomicUsize);

impl<'a> Resting<'a> {
    fn new(idle: &'a AtomicUsize) -> Self {
        idle.fetch_add(1, Ordering::Relaxed);
        Self(idle)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if !self.dismissed {
            self.crew.workers.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(hands) = &self.among {
            hands.count.fetch_sub(1, Ordering::Relaxed);
            hands.freed.notify_one();
        }
    }
}

/// Where goes what carriers bring: receipts into the queue, handsets' messages to [`Replies`]; durable before it is answered.
#[derive(Debug)]
pub struct Inbox {
    /// The queue.
    pub queue: Queue,
    /// What becomes of handsets' messages.
    pub replies: Arc<Replies>,
    /// What carriers say of numbers' networks.
    pub porting: Porting,
}

impl Inbound for Inbox {
    fn receipt(&self, receipt: Receipt) -> Taking<'_> {
        Box::pin(async move {
            // Before it is settled: then the text may have ended, and where it is to go on it goes to the right network.
            if receipt.state.is_final()
                && receipt.state != ReceiptState::Delivered
                && self.porting.says_so(&receipt.text)
                && let Some(number) = self.queue.addressed(&receipt)
            {
                self.porting.learn(&self.queue, &number, &receipt.carrier).await;
            }
            self.queue.receipt(receipt).await.map_err(|e| match e {
                AppendError::Full | AppendError::Busy => InboundError::Busy,
                AppendError::TooLarge | AppendError::Poisoned | AppendError::Body | AppendError::Closed => {
                    InboundError::Unavailable
                }
            })
        })
    }

    fn handset(&self, message: HandsetMessage) -> Taking<'_> {
        Box::pin(self.replies.take(message))
    }
}
