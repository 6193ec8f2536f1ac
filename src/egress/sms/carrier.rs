//! The handle on a carrier account: what dispatch calls.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::callback::{Place, Places};
use super::dial::Made;
use super::link::{End, Link};
use super::message::{Taken, Unfit};
use super::options::Securing;
use super::outcome::{Counted, Tally};
use super::pace::{Pace, Turnstile};
use super::slots::{FarEnd, Free, Job, NoSlot, PartAnswer, Slots};
use super::{Callback, Inbound, Options, OptionsError, dial, http};
use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::model::{
    AttemptBegun, Class, Consignment, EnhancedStatus, Failure, Outcome, Peer, RecipientOutcome, Scope, SmsText, Stage,
    TextProgress,
};

/// Carriers by name; swapped when configuration is reloaded.
pub type Carriers = Arc<ArcSwap<HashMap<Arc<str>, Arc<Carrier>>>>;

/// Times an attempt hands a part that was not sent to another link.
const ROUNDS_MAX: usize = 3;

/// One account at a carrier. Dropping it without [`Carrier::shutdown`] closes its links at once.
pub struct Carrier {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    tasks: Mutex<JoinSet<()>>,
    /// Connections that the carrier has made to us.
    places: Arc<Places>,
}

/// What the links of a carrier share.
pub(super) struct Shared {
    pub(super) options: Options,
    /// TLS on connections that we make, if they have it.
    pub(super) securing: Option<Securing>,
    pub(super) clock: SharedClock,
    pub(super) slots: Arc<Slots>,
    pub(super) pace: Arc<Turnstile>,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) series: Series,
}

/// The carrier's metrics.
pub(super) struct Series {
    sent: IntCounter,
    throttled: IntCounter,
    delayed: IntCounter,
    refused: IntCounter,
    unanswered: IntCounter,
    /// Answers that came after they had been given up.
    pub(super) late: IntCounter,
    answers_lost: IntCounter,
    pub(super) receipts: IntCounterVec,
    /// Only of carriers that say it.
    pub(super) congestion: IntGaugeVec,
}

/// The right to hand the carrier one part now: a place in a window and a turn. Dropped, both are given back.
pub struct Permit {
    place: Option<Free>,
    shared: Arc<Shared>,
}

impl Permit {
    /// True if nothing but a code may have it: the window has no place left but those that are kept for them.
    pub fn is_for_codes(&self) -> bool {
        self.place.as_ref().is_some_and(|(slot, ..)| self.shared.slots.is_kept(slot))
    }

    fn used(mut self) -> Option<Free> {
        self.place.take()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.shared.pace.give_back();
        }
    }
}

/// A part that was handed to a link, and where its answer will come.
type InFlight = (usize, oneshot::Receiver<PartAnswer>);

/// How the parts of a text come by their places.
struct Way {
    /// The first one's.
    permit: Option<Permit>,
    /// It may have those that are kept for codes.
    for_code: bool,
}

/// How the carrier's links are to behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Serve.
    Running,
    /// Take nothing more, wait for answers, unbind.
    Draining,
    /// Close.
    Closing,
}

impl Carrier {
    /// Starts the account's binds on the current runtime.
    ///
    /// # Errors
    /// [`OptionsError`]; then nothing was started.
    pub fn start(
        options: Options,
        clock: SharedClock,
        metrics: &Metrics,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Arc<Self>, OptionsError> {
        options.check()?;
        let securing = options.securing()?;
        let name = [options.name.as_ref()];
        let (up, used) =
            (metrics.carrier_up.with_label_values(&name), metrics.carrier_window_used.with_label_values(&name));
        let slots = Slots::new(options.binds, up, used);
        let pace = Turnstile::new(Pace::new(options.rate, options.throttle_pause), Arc::clone(&clock));
        let series = Series::new(metrics, &options.name);
        let places = Places::new(metrics.carrier_callbacks.with_label_values(&name));
        let binds = options.binds;
        let shared = Arc::new(Shared { options, securing, clock, slots, pace, inbound, series });
        let (phase, watched) = watch::channel(Phase::Running);
        let mut tasks = JoinSet::new();
        match shared.options.protocol.http().cloned() {
            Some(account) => drop(tasks.spawn(http::keep_up(Arc::clone(&shared), account, watched))),
            None => (0..binds).for_each(|bind| {
                tasks.spawn(dial::keep_bound(Arc::clone(&shared), bind, watched.clone()));
            }),
        }
        Ok(Arc::new(Self { shared, phase, tasks: Mutex::new(tasks), places }))
    }

    /// Its configured name.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.options.name
    }

    /// Its settings.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// What its links share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How the carrier comes to us, if it does.
    pub(super) fn callback(&self) -> Option<&Callback> {
        self.options().callback()
    }

    /// A place for a connection that the carrier makes, if it has fewer than `most` and is to be served at all.
    pub(super) fn callback_place(&self, most: usize) -> Option<Place> {
        let is_running = *self.phase.borrow() == Phase::Running;
        if is_running { self.places.take(most) } else { None }
    }

    /// Serves a connection that the carrier has made, until it ends or the carrier is stopped.
    pub(super) fn serve_callback(&self, made: Made, place: Place) {
        let (shared, mut phase) = (Arc::clone(&self.shared), self.phase.subscribe());
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let (_place, peer, carrier) = (place, made.peer.address, Arc::clone(&shared.options.name));
            let why = match Link::new(&shared, None, made).serve(&mut phase).await {
                End::Drained => "the carrier is being stopped".to_owned(),
                End::Spent => "nothing came over it".to_owned(),
                End::Broken(why) => why,
            };
            tracing::info!(%carrier, %peer, %why, "a gateway's connection has ended");
        });
    }

    /// True while at least one bind is up.
    pub fn is_up(&self) -> bool {
        self.shared.slots.is_up()
    }

    /// True if a part could leave now: a bind has a free slot and the pace allows it.
    pub fn try_ready(&self) -> bool {
        self.shared.slots.look().is_ok() && self.shared.pace.wait().is_zero()
    }

    /// True since the carrier last asked us to slow down, until its rate is what it was before.
    pub fn is_slowed(&self) -> bool {
        self.shared.pace.is_slowed()
    }

    /// Waits until a part may leave, and for its turn; for ever on a carrier that stays down. May be dropped at any time. Whoever
    /// has it decides late which text goes: the most urgent one.
    pub async fn permit(&self) -> Permit {
        loop {
            self.shared.slots.free(true).await;
            if let Ok(place) = self.shared.slots.take(true) {
                self.shared.pace.pass().await;
                return Permit { place: Some(place), shared: Arc::clone(&self.shared) };
            }
        }
    }

    /// Waits until a text that is no code could have a place; for ever on a carrier that stays down.
    pub async fn has_room(&self) {
        self.shared.slots.free(false).await;
    }

    /// A text as it would go by this carrier, of which no part has left: its parts in what is spoken, and into how many the carrier
    /// cuts what it is given whole.
    pub fn planned(&self, text: &SmsText, reference: u8) -> TextProgress {
        let cut = self.shared.options.cut(text, reference);
        let cut_by_carrier = if cut.on_air > 1 { u32::try_from(cut.on_air).unwrap_or(u32::MAX) } else { 0 };
        let progress = TextProgress::new(self.name().clone(), reference, cut.parts.len());
        TextProgress { cut_by_carrier, ..progress }
    }

    /// Submits the parts of a text that are `Waiting` and says what became of each.
    ///
    /// Parts leave one after another without waiting for answers, each when it has a slot and its turn. After the first
    /// answer that is no yes, or a lost one, the rest stay `Waiting`. Parts that were not sent because a link broke go over
    /// another, if there is one. Dropped while waiting for answers, it leaves the parts' fate unknown. The first part goes by
    /// the permit, if there is one of this carrier's.
    pub async fn carry(
        &self,
        _begun: &impl AttemptBegun,
        consignment: &Consignment,
        permit: Option<Permit>,
    ) -> RecipientOutcome {
        let started = self.shared.clock.mono();
        let recipient = consignment.recipients.first().copied().unwrap_or_default();
        let mut peer = None;
        let (outcome, progress) = match Taken::apart(&self.shared.options, consignment) {
            Ok(taken) => {
                let permit = permit.filter(|permit| Arc::ptr_eq(&permit.shared, &self.shared));
                let mut way = Way { permit, for_code: consignment.envelope.class == Class::Otp };
                let tally = self.submit_all(&taken, &mut way, &mut peer).await;
                let (outcome, progress) = tally.conclude();
                (outcome, Some(progress))
            }
            Err(unfit) => {
                let failure = |class, subject, detail, cause| {
                    let status = EnhancedStatus::new(class, subject, detail);
                    Failure::without_reply(Scope::Message, Stage::Route, status, cause)
                };
                let outcome = match unfit {
                    Unfit::Now(cause) => Outcome::Delayed(failure(4, 3, 5, cause)),
                    Unfit::Ever(cause) => Outcome::Failed(failure(5, 7, 1, cause)),
                };
                (outcome, consignment.progress.clone())
            }
        };
        let host = self.name().to_string();
        let (address, tls) = peer.map_or((None, None), |far: FarEnd| (Some(far.address), far.tls));
        let peer = Some(Peer { host, address, tls: tls.map(|tls| tls.to_string()), source: None, tls_policy: None });
        let duration = self.shared.clock.mono().since(started);
        RecipientOutcome { recipient, outcome, peer, progress, duration }
    }

    /// Takes nothing more, waits at most `within` for outstanding answers and receipts, unbinds and closes.
    pub async fn shutdown(&self, within: Duration) {
        self.shared.slots.stop();
        self.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining;
            }
            running
        });
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(carrier = %self.name(), "closed with answers outstanding");
            self.phase.send_replace(Phase::Closing);
            while tasks.join_next().await.is_some() {}
        }
    }

    async fn submit_all(&self, taken: &Taken, way: &mut Way, peer: &mut Option<FarEnd>) -> Tally {
        let mut tally = Tally::new(taken.progress.clone());
        for _ in 0..ROUNDS_MAX {
            let unsent = self.submit_round(taken, way, &mut tally, peer).await;
            if !unsent || tally.is_spoilt() {
                break;
            }
        }
        tally
    }

    /// Submits what waits, collects the answers; true if a link broke before some part was sent.
    async fn submit_round(&self, taken: &Taken, way: &mut Way, tally: &mut Tally, peer: &mut Option<FarEnd>) -> bool {
        let mut unsent = false;
        let mut in_flight: Vec<InFlight> = Vec::new();
        for part in tally.waiting() {
            let (slot, jobs, far_end) = match self.place(way, taken.on_air()).await {
                Ok(place) => place,
                Err(why) => {
                    tally.hold(why);
                    break;
                }
            };
            // Both waits may have been long: what was answered meanwhile may make the rest pointless.
            unsent |= self.note_arrived(tally, &mut in_flight);
            if tally.is_spoilt() {
                break;
            }
            let now = self.shared.clock.now();
            if taken.is_expired(now) {
                tally.expire();
                break;
            }
            *peer = Some(far_end);
            let (answer, answered) = oneshot::channel();
            match jobs.try_send(Job { part: taken.part(part, now), slot, answer }) {
                Ok(()) => in_flight.push((part, answered)),
                Err(_) => unsent = true,
            }
        }
        for (part, answered) in in_flight {
            let answer = answered.await.unwrap_or_else(|_| link_died());
            unsent |= self.note(tally, part, answer);
        }
        unsent
    }

    /// A place for one part, and a turn; of one that becomes several on the air, their turns, too.
    async fn place(&self, way: &mut Way, on_air: usize) -> Result<Free, NoSlot> {
        let (place, had) = match way.permit.take().and_then(Permit::used) {
            Some(place) => (place, 1),
            None => (self.shared.slots.acquire(way.for_code).await?, 0),
        };
        for _ in had..on_air {
            self.shared.pace.pass().await;
        }
        Ok(place)
    }

    /// Notes the answers that are here already; true if a part was not sent.
    fn note_arrived(&self, tally: &mut Tally, in_flight: &mut Vec<InFlight>) -> bool {
        let mut unsent = false;
        in_flight.retain_mut(|(part, answer)| {
            let answer = match answer.try_recv() {
                Ok(answer) => answer,
                Err(oneshot::error::TryRecvError::Empty) => return true,
                Err(oneshot::error::TryRecvError::Closed) => link_died(),
            };
            unsent |= self.note(tally, *part, answer);
            false
        });
        unsent
    }

    /// True if the part was not sent.
    fn note(&self, tally: &mut Tally, part: usize, answer: PartAnswer) -> bool {
        let first_loss = !tally.has_loss();
        let counted = tally.note(part, answer);
        self.shared.series.count(counted);
        if counted == Counted::Unanswered && first_loss {
            self.shared.series.answers_lost.inc();
        }
        counted == Counted::NotSent
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("name", self.name()).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Series {
    fn new(metrics: &Metrics, carrier: &str) -> Self {
        let parts = |result| metrics.carrier_parts.with_label_values(&[carrier, result]);
        Self {
            sent: parts("sent"),
            throttled: parts("throttled"),
            delayed: parts("delayed"),
            refused: parts("refused"),
            unanswered: parts("unanswered"),
            late: parts("answered-late"),
            answers_lost: metrics.answers_lost.with_label_values(&["sms"]),
            receipts: metrics.carrier_receipts.clone(),
            congestion: metrics.carrier_congestion.clone(),
        }
    }

    fn count(&self, counted: Counted) {
        match counted {
            Counted::Sent => self.sent.inc(),
            Counted::Throttled => self.throttled.inc(),
            Counted::Delayed => self.delayed.inc(),
            Counted::Refused => self.refused.inc(),
            Counted::Unanswered => self.unanswered.inc(),
            Counted::NotSent => {}
        }
    }
}

/// A link answers every job; one that did not was torn down with the runtime, and the part may be out.
fn link_died() -> PartAnswer {
    PartAnswer::Lost("the link was torn down".to_owned())
}
