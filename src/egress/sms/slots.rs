//! The windows of all binds of a carrier: who may submit now.
//!
//! **Promises.** A [`Slot`] is one free place in one bind's window, given back when it is dropped, wherever that happens.
//! A slot of a link that is gone gives nothing back to the link that followed it. One in [`KEPT_PART`] of a window is kept for
//! codes: no other text takes the last slots. A bind that rests counts as one whose window is full, until somebody has waited for
//! it and a link was made.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{Notify, mpsc, oneshot};

use super::protocol::{Part, Verdict};

/// One in so many slots of a window is kept for codes.
const KEPT_PART: usize = 8;

/// What became of a part that was handed to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PartAnswer {
    /// The carrier answered.
    Answered { verdict: Verdict, message_id: String },
    /// Not an octet of it was sent.
    NotSent,
    /// It may have been sent; why no answer came.
    Lost(String),
}

/// The other end of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FarEnd {
    /// Its address.
    pub(super) address: SocketAddr,
    /// TLS version and cipher suite, where there is TLS.
    pub(super) tls: Option<Arc<str>>,
}

impl From<SocketAddr> for FarEnd {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// A free place, where to hand a job for it, and who is at the other end.
pub(super) type Free = (Slot, mpsc::Sender<Job>, FarEnd);

/// A part on its way to a link.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) part: Part,
    pub(super) slot: Slot,
    pub(super) answer: oneshot::Sender<PartAnswer>,
}

/// Why there is no slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoSlot {
    /// All windows are full, or rest.
    Full,
    /// No bind is up.
    Down,
    /// The carrier is stopping.
    Stopping,
}

/// All windows.
#[derive(Debug)]
pub(super) struct Slots {
    state: Mutex<State>,
    changed: Notify,
    up: IntGauge,
    used: IntGauge,
}

#[derive(Debug)]
struct State {
    stopping: bool,
    /// Counts links, so that each has a number of its own.
    links: u64,
    binds: Vec<Option<Bound>>,
}

#[derive(Debug)]
struct Bound {
    link: u64,
    free: usize,
    /// So many are for codes only.
    kept: usize,
    peer: FarEnd,
    jobs: mpsc::Sender<Job>,
    rest: Rest,
}

/// Whether a bind has a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// It has.
    Awake,
    /// It had, and would have one if there was something to do.
    Asleep,
    /// There is something to do.
    Wanted,
}

/// One place in a window.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    bind: usize,
    link: u64,
}

impl Slots {
    pub(super) fn new(binds: usize, up: IntGauge, used: IntGauge) -> Arc<Self> {
        let state = State { stopping: false, links: 0, binds: (0..binds).map(|_| None).collect() };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), up, used })
    }

    /// A link is bound; returns where its jobs come from.
    pub(super) fn up(&self, bind: usize, window: usize, peer: FarEnd) -> mpsc::Receiver<Job> {
        // Never full: no more jobs exist than slots.
        let (jobs, receiver) = mpsc::channel(window);
        let mut state = self.state.lock();
        state.links += 1;
        let (link, kept) = (state.links, window / KEPT_PART);
        state.binds[bind] = Some(Bound { link, free: window, kept, peer, jobs, rest: Rest::Awake });
        self.up.set(1);
        drop(state);
        self.changed.notify_waiters();
        receiver
    }

    /// The link is gone, or about to go.
    pub(super) fn down(&self, bind: usize) {
        let mut state = self.state.lock();
        state.binds[bind] = None;
        if state.binds.iter().all(Option::is_none) {
            self.up.set(0);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The link ends as it had nothing to do; another is made once somebody waits for a slot.
    pub(super) fn rest(&self, bind: usize) {
        let mut state = self.state.lock();
        state.links += 1;
        let link = state.links;
        if let Some(bound) = &mut state.binds[bind] {
            // Slots of the link that ends give nothing back.
            (bound.link, bound.free, bound.rest) = (link, 0, Rest::Asleep);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until somebody wants a slot of a bind that rests.
    pub(super) async fn wanted(&self, bind: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state.lock().binds[bind].as_ref().is_none_or(|bound| bound.rest != Rest::Asleep) {
                return;
            }
            changed.await;
        }
    }

    /// Wakes binds that rest.
    fn want(&self) {
        let mut state = self.state.lock();
        let asleep = state.binds.iter_mut().flatten().filter(|bound| bound.rest == Rest::Asleep);
        if asleep.fold(false, |_, bound| {
            bound.rest = Rest::Wanted;
            true
        }) {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// No slots from now on.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().binds.iter().any(Option::is_some)
    }

    /// Is there a free slot?
    pub(super) fn look(&self) -> Result<(), NoSlot> {
        self.state.lock().freest(true).map(|_| ())
    }

    /// Is the slot one of those that are kept for codes, as the others of its window stand now?
    pub(super) fn is_kept(&self, slot: &Slot) -> bool {
        self.state.lock().binds[slot.bind].as_ref().is_some_and(|bound| bound.free < bound.kept)
    }

    /// A slot on the bind with most of them, and where to hand the job. Those that are kept are taken `for_code` only.
    pub(super) fn take(self: &Arc<Self>, for_code: bool) -> Result<Free, NoSlot> {
        let mut state = self.state.lock();
        let bind = state.freest(for_code)?;
        let bound = state.binds[bind].as_mut().ok_or(NoSlot::Down)?;
        bound.free -= 1;
        self.used.inc();
        Ok((Slot { slots: Arc::clone(self), bind, link: bound.link }, bound.jobs.clone(), bound.peer.clone()))
    }

    /// The same, waiting while all windows are full.
    pub(super) async fn acquire(self: &Arc<Self>, for_code: bool) -> Result<Free, NoSlot> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change in between is missed.
            changed.as_mut().enable();
            match self.take(for_code) {
                Err(NoSlot::Full) => {
                    self.want();
                    changed.await;
                }
                done => return done,
            }
        }
    }

    /// Waits until there is a free slot, one that is not kept unless `for_code`; for ever while the carrier is down or stopping.
    pub(super) async fn free(&self, for_code: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let found = self.state.lock().freest(for_code);
            match found {
                Ok(_) => return,
                Err(NoSlot::Full) => self.want(),
                Err(NoSlot::Down | NoSlot::Stopping) => {}
            }
            changed.await;
        }
    }
}

impl State {
    /// The bind with most free slots.
    fn freest(&self, for_code: bool) -> Result<usize, NoSlot> {
        if self.stopping {
            return Err(NoSlot::Stopping);
        }
        let free = |bind: &Bound| if for_code { bind.free } else { bind.free.saturating_sub(bind.kept) };
        let up = self.binds.iter().enumerate().filter_map(|(i, bind)| bind.as_ref().map(|bind| (free(bind), i)));
        match up.max_by_key(|&(free, _)| free) {
            None => Err(NoSlot::Down),
            Some((0, _)) => Err(NoSlot::Full),
            Some((_, bind)) => Ok(bind),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.used.dec();
        let mut state = self.slots.state.lock();
        if let Some(bound) = state.binds[self.bind].as_mut().filter(|bound| bound.link == self.link) {
            bound.free += 1;
            drop(state);
            self.slots.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(binds: usize) -> Arc<Slots> {
        Slots::new(binds, IntGauge::new("up", "up").unwrap(), IntGauge::new("used", "used").unwrap())
    }

    fn peer() -> FarEnd {
        SocketAddr::from(([127, 0, 0, 1], 2775)).into()
    }

    #[test]
    fn a_slot_returns_only_to_its_own_link() {
        let slots = slots(1);
        assert_eq!(slots.look(), Err(NoSlot::Down));
        let _jobs = slots.up(0, 1, peer());
        let (old, ..) = slots.take(true).unwrap();
        assert_eq!(slots.take(true).unwrap_err(), NoSlot::Full);
        slots.down(0);
        let _jobs = slots.up(0, 1, peer());
        let (new, ..) = slots.take(true).unwrap();
        drop(old);
        assert_eq!(slots.look(), Err(NoSlot::Full), "the old link's slot is none of the new link's");
        drop(new);
        assert_eq!(slots.look(), Ok(()));
        assert_eq!(slots.used.get(), 0);
        slots.stop();
        assert_eq!(slots.look(), Err(NoSlot::Stopping));
    }

    #[tokio::test]
    async fn a_bind_that_rests_wakes_for_whoever_waits() {
        let slots = slots(1);
        let _jobs = slots.up(0, 2, peer());
        let (old, ..) = slots.take(true).unwrap();
        slots.rest(0);
        drop(old);
        assert_eq!((slots.look(), slots.is_up()), (Err(NoSlot::Full), true));
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.acquire(true).await.map(|(slot, ..)| slot.link) }
        });
        slots.wanted(0).await;
        let _jobs = slots.up(0, 2, peer());
        assert!(waiting.await.unwrap().is_ok());
        slots.rest(0);
        let freed = slots.free(true);
        tokio::pin!(freed);
        tokio::select! {
            biased;
            () = &mut freed => panic!("there is none"),
            () = slots.wanted(0) => slots.down(0),
        }
        assert_eq!(slots.look(), Err(NoSlot::Down));
    }

    #[test]
    fn the_freest_bind_is_taken() {
        let slots = slots(2);
        let (_a, _b) = (slots.up(0, 2, peer()), slots.up(1, 3, peer()));
        let taken: Vec<_> = (0..5).map(|_| slots.take(true).unwrap().0).collect();
        assert_eq!(taken.iter().filter(|slot| slot.bind == 1).count(), 3);
        assert_eq!(slots.look(), Err(NoSlot::Full));
        assert_eq!(slots.up.get(), 1);
        slots.down(0);
        slots.down(1);
        assert_eq!(slots.up.get(), 0);
    }

    #[test]
    fn the_last_slots_are_for_codes() {
        let slots = slots(2);
        let (_a, _b) = (slots.up(0, 16, peer()), slots.up(1, 4, peer()));
        let taken: Vec<_> = std::iter::from_fn(|| slots.take(false).ok().map(|(slot, ..)| slot)).collect();
        assert_eq!(taken.len(), 14 + 4, "two of sixteen are kept, none of four");
        assert!(taken.iter().all(|slot| !slots.is_kept(slot)));
        assert_eq!((slots.look(), slots.take(false).unwrap_err()), (Ok(()), NoSlot::Full));
        let (code, ..) = slots.take(true).unwrap();
        assert!(slots.is_kept(&code));
        drop(taken);
        assert!(!slots.is_kept(&code), "there are others again");
    }
}
