//! Joining the queue to the couriers: lease, carry, settle.
//!
//! **What.** One loop asks the queue which sites have something to pull and sees to it that each has enough hands: for mail,
//! workers that each own one connection ([`mail`]); for texts, a pump per set of carriers ([`text`]). Another ends what is
//! overdue. [`notify`] writes the notifications that follow from an end, which the queue settles in the same batch.
//!
//! **Promises.** A worker holds one lease at a time; every lease is settled or returned. At shutdown no new lease is taken
//! and those that are out may finish until the deadline; what is cut off then is still in the queue.
//!
//! **Does not know** how storage works, how a schedule chooses, what goes over a wire.

mod mail;
mod notify;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::SharedClock;
use crate::egress::email::MailEgress;
use crate::egress::sms::{Carrier, Inbound, InboundError};
use crate::model::Receipt;
use crate::queue::{Queue, Target};
use crate::schedule::SiteId;
use crate::storage::AppendError;

/// Carriers by name; swapped when configuration is reloaded.
pub type Carriers = Arc<ArcSwap<HashMap<Arc<str>, Arc<Carrier>>>>;

/// What dispatch works with.
#[derive(Clone)]
pub struct Parts {
    /// Whence.
    pub queue: Queue,
    /// What mail couriers share.
    pub mail: Arc<MailEgress>,
    /// Carriers for texts.
    pub carriers: Carriers,
    /// Our name in notifications.
    pub hostname: Arc<ArcSwap<String>>,
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
    stop: watch::Receiver<bool>,
    /// Held as long as the task lives.
    _alive: mpsc::Sender<()>,
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

/// Ready consignments for which one more connection is opened.
const READY_PER_CONNECTION: usize = 4;
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
        let task = Task { parts, stop: stopped, _alive: alive };
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
        loop {
            let next = self.parts.queue.advance();
            for (site, target, wanted) in self.parts.queue.roused() {
                let crew = crews.entry(site).or_default();
                self.rouse(site, &target, wanted, crew);
            }
            let queue = self.parts.queue.clone();
            tokio::select! {
                () = queue.work() => {}
                () = tokio::time::sleep(next.unwrap_or(TURN_MAX).min(TURN_MAX)) => {}
                _ = self.stop.wait_for(|&stop| stop) => return,
            }
        }
    }

    fn rouse(&self, site: SiteId, target: &Target, wanted: usize, crew: &Arc<Crew>) {
        let workers = crew.workers.load(Ordering::Relaxed);
        let idle = crew.idle.load(Ordering::Relaxed);
        (0..idle.min(wanted)).for_each(|_| crew.wake.notify_one());
        match target {
            Target::Mail(hop) => {
                let more = if workers == 0 { wanted.min(1) } else { wanted.div_ceil(READY_PER_CONNECTION) };
                for _ in 0..more.saturating_sub(idle) {
                    let hand = Hand::new(crew.clone());
                    tokio::spawn(mail::work(self.clone(), site, hop.clone(), hand));
                }
            }
            Target::Text(carriers) if workers == 0 => {
                let hand = Hand::new(crew.clone());
                tokio::spawn(text::pump(self.clone(), site, carriers.clone(), hand));
            }
            // The pump may just be about to rest; a wake-up that nobody waits for is kept for it.
            Target::Text(_) => crew.wake.notify_one(),
        }
    }

    /// Ends what is overdue: mail with a notification, texts without.
    async fn end_overdue(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                _ = self.stop.wait_for(|&stop| stop) => return,
            }
            for overdue in self.parts.queue.take_overdue(SWEEP_MAX) {
                let follow_ups = notify::for_overdue(&self.parts, &overdue).await;
                self.parts.queue.end(overdue, follow_ups).await;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// A worker's place in its crew, counted while it lives.
#[derive(Debug)]
struct Hand {
    crew: Arc<Crew>,
}

impl Hand {
    fn new(crew: Arc<Crew>) -> Self {
        crew.workers.fetch_add(1, Ordering::Relaxed);
        Self { crew }
    }

    /// Waits to be woken, at most for `span`. False if nobody came.
    async fn rest(&self, span: Duration) -> bool {
        self.crew.idle.fetch_add(1, Ordering::Relaxed);
        let woken = tokio::time::timeout(span, self.crew.wake.notified()).await.is_ok();
        self.crew.idle.fetch_sub(1, Ordering::Relaxed);
        woken
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.crew.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where carriers' receipts go: into the queue, durable before they are answered.
#[derive(Debug)]
pub struct Receipts(pub Queue);

impl Inbound for Receipts {
    fn receipt(&self, receipt: Receipt) -> Pin<Box<dyn Future<Output = Result<(), InboundError>> + Send + '_>> {
        Box::pin(async move {
            self.0.receipt(receipt).await.map_err(|e| match e {
                AppendError::Full | AppendError::Busy => InboundError::Busy,
                AppendError::TooLarge | AppendError::Poisoned | AppendError::Body | AppendError::Closed => {
                    InboundError::Unavailable
                }
            })
        })
    }
}
