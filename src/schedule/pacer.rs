//! How much a site takes, found out by trying: more while its answers are good, less at the first sign of throttling.
//!
//! **What.** Two [`Dial`]s, of connections and of mails a second, that start where the provider table (or the administrator)
//! says. What a refusal's row of that table asks for is done for what it blames:
//! - `suspend` at once and for as long as it says, and so is `fix`; the way back is a ramp, not a cliff;
//! - `slow` and `connections` at once where the row is about our repute. Where it is about our pace, the dials go down first:
//!   the refusal is the answer to what we tried. Only if that does not help [`IN_VAIN_MAX`] times in a row are they done as
//!   they stand there;
//! - `messages_per_connection` from then on.
//!
//! **Promises.** Pure: time is an argument. Answers to what had begun before the last step down do not count again.
//!
//! **Does not know** names: it is the pacer of one source of ours at one site (see [`Pacers`](super::Pacers)).
//!
//! **Fails how.** It cannot: what it does not understand makes it slower, within its bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dial::{Bounds, Dial};
use super::learnt::Learnt;
use super::{Pace, SiteLimits};
use crate::clock::Mono;
use crate::model::{Failure, Measures, Outcome, Rate, RecipientOutcome, Rule, Scope};

/// Steps down in a row that do not help, after which the provider's row is obeyed to the letter.
const IN_VAIN_MAX: u32 = 3;
/// The pause after that where no row says anything: doubled each time, at most so often.
const PAUSE: (Duration, u32) = (Duration::from_secs(60), 5);
/// A step down shows after so long: those whom we send to look back on some seconds.
const SHOWS_AFTER: Duration = Duration::from_secs(5);
/// What was done so lately may yet have to show in the share of deferrals.
const EASED_LATELY: Duration = Duration::from_secs(120);
/// After this time without a step down, earlier ones are forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// What must be repaired is tried again after this time, if the row does not say when.
const REPAIR: Duration = Duration::from_secs(3_600);
/// The rate is measured over about this time, in seconds.
const MEASURED: f64 = 5.0;
/// From this share on, all of a rate counts as used.
const USED: f64 = 0.8;
/// How far below what was in use the rate may go, where its bound is higher than that.
const BELOW_USED: f64 = 0.125;
/// Nor below this, a second: from less it would take hours to come back.
const RATE_LEAST: f64 = 0.2;
/// Unused time of the pace that may be made up for, in seconds.
const BURST: f64 = 0.1;

/// Who has set a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The provider table.
    Table,
    /// The configuration.
    Administrator,
}

/// With what a site starts, and how far its pacer may go.
#[derive(Clone, PartialEq, Debug)]
pub struct Terms {
    /// Who runs the site, as the provider table calls it.
    pub provider: Arc<str>,
    /// Connections at once.
    pub connections: Bounds,
    /// Mails a second; infinite where nobody has set a limit.
    pub per_second: Bounds,
    /// New connections in a span of time; it grows and shrinks with the connections.
    pub new_connections: Option<Rate>,
    /// Mails over one connection.
    pub messages_per_connection: Option<u32>,
    /// How long a connection without work may stay open.
    pub idle: Option<Duration>,
    /// True if that is what each source of ours may do; else all of them share it.
    pub each_source: bool,
    /// What all sources may do together.
    pub over_all: OverAll,
    /// Who says so.
    pub by: By,
}

/// What all sources of ours may do at a site together; infinite where nobody has set a limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OverAll {
    /// Connections at once.
    pub connections: f64,
    /// Mails a second.
    pub per_second: f64,
}

impl OverAll {
    /// No limit but that of each source.
    pub const NONE: Self = Self { connections: f64::INFINITY, per_second: f64::INFINITY };
}

/// Why a limit is what it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Cause {
    /// A row of the provider table.
    Rule(Rule),
    /// A refusal that asks for less and that no row knows.
    Unknown,
    /// The share of mails that were deferred.
    Deferrals,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Unknown => f.write_str("a reply that no row knows"),
            Self::Deferrals => f.write_str("the share of deferrals"),
        }
    }
}

/// What a pacer has just done, for those who are told.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// It has gone down.
    Eased(Cause),
    /// It does what a row asks for, to the letter.
    Slowed(Cause),
    /// Nothing is sent until then. With what somebody must repair, if that is it.
    Suspended {
        /// When it ends.
        until: Mono,
        /// Why.
        cause: Cause,
        /// What to repair.
        fix: Option<String>,
    },
}

/// Something in force for a while.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    /// The most there may be.
    pub most: f64,
    /// Until when.
    pub until: Mono,
    /// Why.
    pub cause: Cause,
}

/// The limits in force, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct InForce {
    /// Connections at once.
    pub connections: usize,
    /// Mails a second; `None`: no limit.
    pub per_second: Option<f64>,
    /// Mails over one connection, and the row that has said so, if one did.
    pub messages_per_connection: (Option<u32>, Option<Cause>),
    /// What rows hold the connections and the rate at.
    pub held: [Option<Held>; 2],
    /// When and why it went down last, while it still is below or rests there.
    pub eased: Option<(Mono, Cause)>,
    /// Nothing is sent until then, and why.
    pub suspended: Option<(Mono, Cause)>,
    /// It has gone above its start.
    pub grown: bool,
}

/// What one site tolerates, as far as that is known.
#[derive(Debug)]
pub struct Pacer {
    terms: Terms,
    connections: Dial,
    rate: Dial,
    meter: Meter,
    eased: Option<(Mono, Cause)>,
    /// Steps down in a row that did not help.
    in_vain: u32,
    /// Pauses in a row.
    pauses: u32,
    held: [Option<Held>; 2],
    /// Since when, until when, and why.
    suspended: Option<(Mono, Mono, Cause)>,
    per_connection: Option<(u32, Cause)>,
    /// GCRA's theoretical arrival time of new connections.
    connect_at: Mono,
}

impl Pacer {
    /// A pacer that starts.
    pub fn new(terms: Terms) -> Self {
        Self {
            connections: Dial::new(terms.connections),
            rate: Dial::new(terms.per_second),
            terms,
            meter: Meter::default(),
            eased: None,
            in_vain: 0,
            pauses: 0,
            held: [None, None],
            suspended: None,
            per_connection: None,
            connect_at: Mono(0),
        }
    }

    /// Other terms; what has been learnt is kept.
    pub fn set(&mut self, terms: Terms) {
        if self.terms != terms {
            self.connections.bound(terms.connections);
            self.rate.bound(terms.per_second);
            self.terms = terms;
        }
    }

    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What the schedule may do now.
    pub fn limits(&self, now: Mono) -> SiteLimits {
        let at_most = |which: usize| self.held(which, now).map_or(f64::INFINITY, |held| held.most);
        let connections = self.connections.level().min(at_most(0)).max(1.0);
        let per_second = self.rate.level().min(at_most(1));
        let pace = per_second.is_finite().then(|| Pace { per_second, burst: burst(per_second) });
        SiteLimits { concurrency: connections as usize, pace }
    }

    /// The answers to one consignment, which took so long. `busy`: more would have gone, had there been room.
    pub fn heard(&mut self, outcomes: &[RecipientOutcome], busy: bool, now: Mono) -> Option<Step> {
        self.meter.count(now);
        match gravest(outcomes, |_| true) {
            Some((failure, took)) => self.refused(failure, began(took, now), now),
            None => {
                if outcomes.iter().any(|o| matches!(o.outcome, Outcome::Relayed(_))) {
                    self.went_well(busy, now);
                }
                None
            }
        }
    }

    /// The answers to another source's consignment: of them, what blames the whole site.
    pub fn overheard(&mut self, outcomes: &[RecipientOutcome], now: Mono) -> Option<Step> {
        let (failure, took) = gravest(outcomes, |failure| failure.scope == Scope::Site)?;
        self.refused(failure, began(took, now), now)
    }

    /// Too many mails were deferred lately, whatever the replies said: less, unless something has been done about it.
    pub fn ease(&mut self, now: Mono) -> Option<Step> {
        let done = self.eased.as_ref().is_some_and(|(at, _)| now.since(*at) < EASED_LATELY) || self.is_holding(now);
        if done {
            return None;
        }
        self.turn_down([true, true], now);
        self.eased = Some((now, Cause::Deferrals));
        Some(Step::Eased(Cause::Deferrals))
    }

    /// How long a new connection has to wait.
    pub fn connection_wait(&self, now: Mono) -> Duration {
        let Some((interval, ahead)) = self.connecting() else { return Duration::ZERO };
        // However slow it was before: what has changed holds at once.
        let next = self.connect_at.0.min(now.plus(ahead + interval).0);
        Duration::from_micros(next.saturating_sub(now.plus(ahead).0))
    }

    /// A new connection has been made.
    pub fn connected(&mut self, now: Mono) {
        if let Some((interval, ahead)) = self.connecting() {
            let next = self.connect_at.0.min(now.plus(ahead + interval).0).max(now.0);
            self.connect_at = Mono(next).plus(interval);
        }
    }

    /// Mails over one connection, if there is a limit.
    pub fn messages_per_connection(&self) -> Option<u32> {
        let by_row = self.per_connection.as_ref().map(|(most, _)| *most);
        by_row.into_iter().chain(self.terms.messages_per_connection).min()
    }

    /// Everything in force, and why.
    pub fn in_force(&self, now: Mono) -> InForce {
        let SiteLimits { concurrency, pace } = self.limits(now);
        let Terms { connections, per_second, .. } = &self.terms;
        let by_row = self.per_connection.as_ref().filter(|(most, _)| Some(*most) == self.messages_per_connection());
        InForce {
            connections: concurrency,
            per_second: pace.map(|pace| pace.per_second),
            messages_per_connection: (self.messages_per_connection(), by_row.map(|(_, cause)| cause.clone())),
            held: [0, 1].map(|which| self.held(which, now).cloned()),
            eased: self.eased.clone().filter(|_| self.connections.ceiling().or(self.rate.ceiling()).is_some()),
            suspended: self.suspended(now),
            grown: self.connections.level() > connections.start || self.rate.level() > per_second.start,
        }
    }

    /// Until when nothing is to be sent.
    pub fn suspended_until(&self, now: Mono) -> Option<Mono> {
        self.suspended.as_ref().map(|s| s.1).filter(|&until| until > now)
    }

    /// When its last suspension ends, or did.
    pub(super) fn suspension_ends(&self) -> Option<Mono> {
        self.suspended.as_ref().map(|s| s.1)
    }

    /// Until when nothing is to be sent, and why.
    pub fn suspended(&self, now: Mono) -> Option<(Mono, Cause)> {
        self.suspended.as_ref().filter(|s| s.1 > now).map(|(_, until, why)| (*until, why.clone()))
    }

    /// True while a row holds something down, or nothing is sent.
    pub fn is_holding(&self, now: Mono) -> bool {
        self.suspended_until(now).is_some() || (0..2).any(|which| self.held(which, now).is_some())
    }

    /// An operator has lifted the suspension.
    pub fn resume(&mut self) {
        self.suspended = None;
    }

    /// What has been found out that a start would not know.
    pub(super) fn learnt(&self, source: Option<Arc<str>>, now: Mono) -> Learnt {
        Learnt {
            source,
            connections: self.connections.learnt(),
            per_second: self.rate.learnt(),
            suspended: self.suspended(now),
            held: [0, 1].map(|which| self.held(which, now).cloned()),
            per_connection: self.per_connection.clone(),
        }
    }

    /// Begins where another has ended.
    pub(super) fn recall(&mut self, learnt: Learnt, now: Mono) {
        self.connections.recall(learnt.connections, now);
        self.rate.recall(learnt.per_second, now);
        self.suspended = learnt.suspended.map(|(until, cause)| (now, until, cause));
        self.held = learnt.held;
        self.per_connection = learnt.per_connection;
    }

    fn held(&self, which: usize, now: Mono) -> Option<&Held> {
        self.held[which].as_ref().filter(|held| held.until > now)
    }

    /// The interval between new connections, and how far they may run ahead: as many as may be open at once.
    fn connecting(&self) -> Option<(Duration, Duration)> {
        let rate = self.terms.new_connections?;
        let share = (self.connections.level() / self.terms.connections.start.max(1.0)).max(0.1);
        let interval = Duration::from_secs_f64(1.0 / (rate.per_second() * share).max(1e-6));
        Some((interval, interval.mul_f64(self.connections.level().max(1.0) - 1.0)))
    }

    fn went_well(&mut self, busy: bool, now: Mono) {
        if self.eased.as_ref().is_some_and(|(at, _)| now.since(*at) > FORGET) {
            (self.in_vain, self.pauses) = (0, 0);
        }
        // What a row holds down has not been tried.
        if busy && self.held(0, now).is_none() {
            self.connections.turn_up(now);
        }
        if self.held(1, now).is_none() && self.meter.rate(now) >= USED * self.rate.level() {
            self.rate.turn_up(now);
        }
    }

    fn refused(&mut self, failure: &Failure, began: Mono, now: Mono) -> Option<Step> {
        let nothing = Measures::default();
        let asked = failure.measures.as_deref().unwrap_or(&nothing);
        let cause = failure.rule.clone().map_or(Cause::Unknown, Cause::Rule);
        if let Some(most) = asked.messages_per_connection {
            let known = self.messages_per_connection();
            if known.is_none_or(|known| most < known) {
                self.per_connection = Some((most.max(1), cause.clone()));
            }
        }
        let pause = asked.suspend.or_else(|| asked.fix.is_some().then(|| failure.retry_after.unwrap_or(REPAIR)));
        let lasting = asked.slow.is_some() || asked.connections.is_some();
        // Known already: it began before the step that was taken on account of another.
        let suspended = self.suspended.as_ref().map(|s| s.0);
        let eased = self.eased.as_ref().map(|e| if pause.is_some() { e.0 } else { e.0.plus(SHOWS_AFTER) });
        if suspended.into_iter().chain(eased).any(|last| began < last) {
            return None;
        }
        if let Some(pause) = pause {
            self.hold(asked, &cause, now);
            return Some(self.suspend(pause, cause, asked.fix.clone(), now));
        }
        if lasting && !asked.about_pace {
            self.hold(asked, &cause, now);
            self.eased = Some((now, cause.clone()));
            return Some(Step::Slowed(cause));
        }
        if !lasting && (asked.messages_per_connection.is_some() || !failure.throttled) {
            return None;
        }
        let named = [!lasting || asked.connections.is_some(), !lasting || asked.slow.is_some()];
        let helped = self.turn_down(named, now);
        self.eased = Some((now, cause.clone()));
        self.in_vain = if helped { 0 } else { self.in_vain + 1 };
        if self.in_vain > 0 {
            // What the row names may not be what it is about.
            self.turn_down(named.map(|named| !named), now);
        }
        if self.in_vain < IN_VAIN_MAX {
            return Some(Step::Eased(cause));
        }
        self.in_vain = 0;
        if lasting {
            self.hold(asked, &cause, now);
            return Some(Step::Slowed(cause));
        }
        self.pauses += 1;
        let pause = PAUSE.0.saturating_mul(1 << (self.pauses - 1).min(PAUSE.1));
        Some(self.suspend(pause, cause, None, now))
    }

    /// Connections, rate: which of them go down. False if it went in vain.
    fn turn_down(&mut self, which: [bool; 2], now: Mono) -> bool {
        let mut helped = false;
        if which[0] {
            helped |= self.connections.turn_down(self.limits(now).concurrency as f64, now);
        }
        if which[1] {
            let measured = self.meter.rate(now);
            // A rate that is not used up says nothing; what went out does.
            let in_use = if measured < USED * self.rate.level() { measured } else { self.rate.level() };
            self.rate.lower_bound((in_use * BELOW_USED).max(RATE_LEAST));
            helped |= self.rate.turn_down(in_use, now);
        }
        helped
    }

    /// Does what a row says about pace and connections, for as long as it says.
    fn hold(&mut self, asked: &Measures, cause: &Cause, now: Mono) {
        let held = |most: f64, lasts: Duration| Some(Held { most, until: now.plus(lasts), cause: cause.clone() });
        if let Some((most, lasts)) = asked.connections {
            self.connections.retreat(f64::INFINITY, now);
            self.held[0] = held(f64::from(most), lasts);
        }
        if let Some(slow) = asked.slow {
            let measured = self.meter.rate(now);
            self.rate.lower_bound((measured * BELOW_USED).max(RATE_LEAST));
            self.rate.retreat(measured, now);
            self.held[1] = held(slow.to.per_second(), slow.lasts);
        }
    }

    fn suspend(&mut self, pause: Duration, cause: Cause, fix: Option<String>, now: Mono) -> Step {
        let until = now.plus(pause);
        let measured = self.meter.rate(now);
        self.rate.lower_bound((measured * BELOW_USED).max(RATE_LEAST));
        self.rate.retreat(measured, now);
        self.connections.retreat(f64::INFINITY, now);
        self.suspended = Some((now, until, cause.clone()));
        Step::Suspended { until, cause, fix }
    }
}

/// How many mails may go at once after a rest, at that rate.
pub(super) fn burst(per_second: f64) -> u32 {
    (per_second * BURST).clamp(1.0, 1_000.0) as u32
}

/// When an attempt began that took so long.
fn began(took: Duration, now: Mono) -> Mono {
    Mono(now.0.saturating_sub(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)))
}

/// The gravest refusal among some answers, of those that concern a site, and how long its attempt took.
fn gravest(outcomes: &[RecipientOutcome], counts: impl Fn(&Failure) -> bool) -> Option<(&Failure, Duration)> {
    let refusals = outcomes.iter().filter_map(|o| match &o.outcome {
        Outcome::Delayed(f) | Outcome::Failed(f) => (concerns_site(f) && counts(f)).then_some((f, o.duration)),
        Outcome::Relayed(_) => None,
    });
    refusals.max_by_key(|(f, _)| f.measures.as_deref().map_or(0, |m| 1 + gravity(m)))
}

/// It says something of us, of the connection or of the site, not of this mail or its sender.
fn concerns_site(failure: &Failure) -> bool {
    let wide = matches!(failure.scope, Scope::Connection | Scope::Host | Scope::Source | Scope::Site);
    wide && !failure.is_ours()
        && (failure.throttled || failure.measures.as_deref().is_some_and(|asked| !asked.is_empty()))
}

fn gravity(asked: &Measures) -> u64 {
    let fix = asked.fix.as_ref().map_or(0, |_| REPAIR.as_secs());
    asked.suspend.map_or(fix, |pause| pause.as_secs()) + asked.slow.map_or(0, |slow| slow.lasts.as_secs().min(60))
}

/// How many a second, lately.
#[derive(Debug, Default)]
struct Meter {
    counted: f64,
    /// How much of the time that it looks back on it has seen.
    seen: f64,
    at: Mono,
}

impl Meter {
    fn count(&mut self, now: Mono) {
        let (counted, seen) = self.at(now);
        (self.counted, self.seen, self.at) = (counted + 1.0, seen, now);
    }

    fn rate(&self, now: Mono) -> f64 {
        let (counted, seen) = self.at(now);
        // Right after the start one answer would be a flood.
        counted / (MEASURED * seen.max(0.1))
    }

    fn at(&self, now: Mono) -> (f64, f64) {
        let fades = (-now.since(self.at).as_secs_f64() / MEASURED).exp();
        (self.counted * fades, 1.0 - (1.0 - self.seen) * fades)
    }
}

#[cfg(test)]
mod tests;
