//! Warm-up: a new source sends each provider a little more every day, as long as that goes well.
//!
//! **What.** A source that has a [`Plan`] has a number of recipients that it may send to each provider on the current day of
//! that plan, and a share of them for each hour. [`WarmUp::reserve`] takes recipients out of it before they are sent, and what
//! became of them is told to the [`Grant`]. When a day is over it is judged ([`pair`]): the plan goes on, stays, or goes back.
//! Hosts that no provider of the table runs are counted together, as `any`; a fixed next hop that the table does not know sends
//! from an address of its own and is not counted.
//!
//! **Promises.** No more recipients are given to a provider in a day, or in an hour, than the plan says, by however many
//! connections at once, and over restarts: what a crash forgets counts as sent. (For that the file is ahead of what has been
//! given out, by [`AHEAD`] of the day; only a file that cannot be written does not hold up mail.) How many were refused is
//! written every few seconds, so of that a crash may forget as much.
//!
//! **Does not know** pools and connections, nor what becomes of mail that has to wait.
//!
//! **Fails how.** A file that cannot be read means beginning anew, see [`file`].

mod file;
mod pair;
mod plan;
mod show;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::file::{CountsFile, Kept, Start, Written};
use self::pair::{Judged, Pair, Used};
pub use self::plan::{Day, Plan, Rules, Share};
pub use self::show::WarmupView;
use super::sources::{Barred, Source, Sources, Towards};
use crate::clock::{Mono, SharedClock, Timestamp};
use crate::event::Fact;
use crate::event::metrics::Metrics;
use crate::model::{Failure, Outcome, Scope, Stage as At};
use crate::provider::Class;

/// How far the file is ahead of what has been given out: this share of the day.
const AHEAD: Share = Share::percent(10);
/// How often what became of mail is written at most.
const WRITTEN_EVERY: Duration = Duration::from_secs(5);
/// Pairs of source and provider that are remembered; above it the one without mail for longest is forgotten.
const PAIRS_MAX: usize = 20_000;
/// Days of a plan that an operator may name: more than any plan has.
pub const DAYS_MAX: u32 = 1_000;

type Key = (Arc<str>, Arc<str>);

/// How far all sources are: shared by all couriers, kept over reloads.
pub(super) struct WarmUp {
    state: Mutex<State>,
    file: Option<CountsFile>,
    /// Held by whoever writes the file.
    writing: Mutex<()>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    pairs: BTreeMap<Key, Home>,
    /// On which day a source begins where it has no pair yet.
    starts: HashMap<Arc<str>, u32>,
    /// What has been judged and not been told yet.
    untold: Vec<(Key, Judged)>,
    /// Something is not in the file yet.
    dirty: bool,
    written: Mono,
}

/// A pair, and what of it is on disk.
#[derive(Debug)]
struct Home {
    pair: Pair,
    /// What the file says was used on the pair's day: at least as much as was.
    durable: u64,
    /// What it is to say when it is written next.
    wanted: u64,
}

/// Recipients that may be sent to, and whose count they were taken out of.
#[derive(Debug)]
pub(super) struct Grant {
    count: usize,
    of: Option<(Arc<WarmUp>, Key, Day, u64)>,
}

/// How many complaints there were about mail that a source sent a provider on a day, in all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaints {
    /// The source.
    pub source: Arc<str>,
    /// The provider, as the provider table calls it.
    pub provider: Arc<str>,
    /// On which day of its plan's zone the mail was sent.
    pub day: Day,
    /// How many, in all: a second report about a day replaces a smaller one.
    pub count: u64,
}

impl fmt::Debug for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmUp").field("file", &self.file).finish_non_exhaustive()
    }
}

impl WarmUp {
    /// Reads what was kept.
    pub(super) fn open(file: Option<PathBuf>, clock: SharedClock, metrics: Arc<Metrics>) -> Arc<Self> {
        let (kept, file) = file.map(CountsFile::open).unwrap_or_default();
        let starts = kept.starts.into_iter().map(|start| (start.source.into(), start.day)).collect();
        let pairs = kept.pairs.into_iter().take(PAIRS_MAX).map(|written| {
            let key = (Arc::from(&*written.source), Arc::from(&*written.provider));
            let pair = written.pair();
            (key, Home { durable: pair.used, wanted: pair.used, pair })
        });
        let state = State { pairs: pairs.collect(), starts, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), file, writing: Mutex::new(()), clock, metrics })
    }

    /// Takes recipients out of what a source may still send, as many as there are of `wanted`; the file knows of them when this
    /// returns.
    pub(super) async fn reserve(self: &Arc<Self>, source: &Source, towards: &Towards, wanted: usize) -> Grant {
        let (Some(plan), Some(provider)) = (&source.warmup, &towards.provider) else {
            return Grant { count: wanted, of: None };
        };
        let (key, now) = ((source.name.clone(), provider.clone()), self.clock.now());
        let (grant, ahead) = {
            let mut state = self.state.lock();
            let home = state.rolled(&key, plan, now);
            let count = home.pair.take(plan, provider, wanted as u64);
            let cap = home.pair.cap(plan, provider).filter(|_| home.pair.used > home.durable);
            if let Some(cap) = cap {
                home.wanted = (home.pair.used + AHEAD.of(cap)).min(cap).max(home.pair.used);
            }
            let of = Some((self.clone(), key.clone(), home.pair.day, home.pair.hour));
            state.dirty |= count > 0;
            (Grant { count: usize::try_from(count).unwrap_or(wanted), of }, cap.is_some())
        };
        if ahead && self.file.is_some() {
            let warmup = self.clone();
            // A thread that may wait; those who come meanwhile find themselves in what it writes, or wait for the next.
            let _ = tokio::task::spawn_blocking(move || warmup.write_ahead(&key)).await;
        }
        grant
    }

    /// Why a source may send nothing to a provider now, if it may not.
    pub(super) fn used_up(&self, source: &Source, towards: &Towards) -> Option<Barred> {
        let (plan, provider) = (source.warmup.as_ref()?, towards.provider.as_ref()?);
        let (key, now) = ((source.name.clone(), provider.clone()), self.clock.now());
        let mut state = self.state.lock();
        let Used { until, why } = state.rolled(&key, plan, now).pair.used_up(plan, &source.name, provider)?;
        Some(Barred { wait: until.since(now).max(Duration::from_secs(1)), why })
    }

    /// A provider has refused a connection from a source.
    pub(super) fn turned_away(&self, source: &Source, towards: &Towards, failure: &Failure) {
        let (Some(plan), Some(provider)) = (&source.warmup, &towards.provider) else { return };
        if failure.reply.is_none() || is_excused(failure) {
            return;
        }
        let key = (source.name.clone(), provider.clone());
        let mut state = self.state.lock();
        let tally = &mut state.rolled(&key, plan, self.clock.now()).pair.tally;
        tally.turned_away += 1;
        tally.blocked += u64::from(is_block(failure));
        state.dirty = true;
    }

    /// Somebody knows how many have complained. What is told about a day that has been judged counts on the next one.
    ///
    /// # Errors
    /// If nothing is known of such mail.
    pub(super) fn complaints(&self, told: &Complaints) -> Result<(), UnknownMail> {
        let mut state = self.state.lock();
        let home = state.pairs.get_mut(&(told.source.clone(), told.provider.clone())).ok_or(UnknownMail)?;
        if !home.pair.complaints(told.day, told.count) {
            return Err(UnknownMail);
        }
        state.dirty = true;
        Ok(())
    }

    /// Puts a source on a day of its plan, towards one provider or all; nothing of that day has been used then. False if it is
    /// not a source that has a plan.
    pub(super) fn reset(&self, sources: &Sources, source: &str, provider: Option<&str>, day: u32) -> bool {
        let Some(source) = sources.warming().into_iter().find(|known| *known.name == *source) else { return false };
        let Some(plan) = &source.warmup else { return false };
        let (day, now) = (day.clamp(1, DAYS_MAX), self.clock.now());
        let mut state = self.state.lock();
        if let Some(provider) = provider {
            state.pairs.entry((source.name.clone(), provider.into())).or_insert_with(|| Home::new(day, plan, now));
        } else {
            state.starts.insert(source.name.clone(), day);
        }
        for ((name, towards), home) in &mut state.pairs {
            if *name == source.name && provider.is_none_or(|provider| **towards == *provider) {
                *home = Home {
                    pair: Pair { past: home.pair.past.clone(), ..Pair::new(day, &plan.rules, now) },
                    ..Home::new(day, plan, now)
                };
                // Past the last day it is warm.
                home.pair.roll(plan, towards, now);
            }
        }
        state.dirty = true;
        drop(state);
        self.write();
        true
    }

    /// Begins new days, shows how far sources are and writes what is new; returns what there is to tell. To be called every
    /// second or so, on a thread that may wait.
    pub(super) fn tend(&self, sources: &Sources) -> Vec<Fact> {
        let (now, mono) = (self.clock.now(), self.clock.mono());
        let warming = sources.warming();
        let mut state = self.state.lock();
        let keys: Vec<Key> = state.pairs.keys().cloned().collect();
        for key in keys {
            let Some(plan) = warming.iter().find(|s| s.name == key.0).and_then(|s| s.warmup.as_ref()) else { continue };
            self.show(&key, plan, &state.rolled(&key, plan, now).pair);
        }
        let untold = std::mem::take(&mut state.untold);
        let is_due = state.dirty && (!untold.is_empty() || mono.since(state.written) >= WRITTEN_EVERY);
        drop(state);
        if is_due {
            self.write();
        }
        untold.into_iter().map(|(key, judged)| self.told(key, judged, now)).collect()
    }

    /// Writes exactly what was sent; for the end.
    pub(super) fn close(&self) {
        for home in self.state.lock().pairs.values_mut() {
            home.wanted = home.pair.used;
        }
        self.write();
    }

    /// Writes the file, unless somebody else has just done so for this pair.
    fn write_ahead(&self, key: &Key) {
        let _alone = self.writing.lock();
        if self.state.lock().pairs.get(key).is_some_and(|home| home.pair.used > home.durable) {
            self.write_now();
        }
    }

    fn write(&self) {
        let _alone = self.writing.lock();
        self.write_now();
    }

    fn write_now(&self) {
        let Some(file) = &self.file else { return };
        let (kept, says) = {
            let mut state = self.state.lock();
            state.dirty = false;
            state.written = self.clock.mono();
            state.kept()
        };
        let done = file.write(&kept);
        let mut state = self.state.lock();
        if let Err(e) = done {
            // Mail goes on as if it were: the next who is ahead of the file tries again.
            tracing::error!(file = %file.path().display(), error = %e, "it cannot be kept how far sources are warmed up");
            state.dirty = true;
        }
        for (key, day, used) in says {
            if let Some(home) = state.pairs.get_mut(&key).filter(|home| home.pair.day == day) {
                home.durable = used;
            }
        }
    }
}

/// Nothing is known of mail of that source to that provider on that day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownMail;

impl fmt::Display for UnknownMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is known of mail of that source to that provider on that day")
    }
}

impl std::error::Error for UnknownMail {}

impl State {
    /// The pair, moved on to now; made if there is none.
    fn rolled(&mut self, key: &Key, plan: &Plan, now: Timestamp) -> &mut Home {
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(key) {
            let oldest = self.pairs.iter().min_by_key(|(_, home)| home.pair.active).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.pairs.remove(&key));
        }
        let starts = &self.starts;
        let home = self.pairs.entry(key.clone()).or_insert_with(|| {
            let mut home = Home::new(starts.get(&key.0).copied().unwrap_or(1), plan, now);
            // Whoever begins behind the last day is warm.
            home.pair.roll(plan, &key.1, now);
            home
        });
        let day = home.pair.day;
        let judged = home.pair.roll(plan, &key.1, now);
        if home.pair.day != day {
            (home.durable, home.wanted) = (0, 0);
            self.dirty = true;
        }
        self.untold.extend(judged.map(|judged| (key.clone(), judged)));
        home
    }

    /// What is to be written, and what it says of each pair's use.
    fn kept(&self) -> (Kept, Vec<(Key, Day, u64)>) {
        let starts = self.starts.iter().map(|(source, day)| Start { source: source.to_string(), day: *day });
        let mut says = Vec::with_capacity(self.pairs.len());
        let pairs = self.pairs.iter().map(|(key, home)| {
            let used = home.pair.used.max(home.wanted);
            says.push((key.clone(), home.pair.day, used));
            Written::of(&key.0, &key.1, &home.pair, used - home.pair.used)
        });
        let pairs = pairs.collect();
        (Kept::new(starts.collect(), pairs), says)
    }
}

impl Home {
    fn new(day: u32, plan: &Plan, now: Timestamp) -> Self {
        Self { pair: Pair::new(day, &plan.rules, now), durable: 0, wanted: 0 }
    }
}

impl Grant {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// None of it was sent.
    pub(super) fn give_back(self) {
        let Some((warmup, key, day, hour)) = &self.of else { return };
        if let Some(home) = warmup.state.lock().pairs.get_mut(key) {
            home.pair.give_back(self.count as u64, *day, *hour);
        }
    }

    /// What became of those who were sent it. Dropped without, it counts as sent, and nothing else.
    pub(super) fn settle(self, outcomes: &[Outcome]) {
        let Some((warmup, key, ..)) = &self.of else { return };
        let mut state = warmup.state.lock();
        let Some(home) = state.pairs.get_mut(key) else { return };
        let tally = &mut home.pair.tally;
        for outcome in outcomes {
            tally.answered += 1;
            match outcome {
                Outcome::Relayed(_) => tally.relayed += 1,
                Outcome::Delayed(failure) => {
                    tally.deferred += u64::from(!is_excused(failure));
                    tally.blocked += u64::from(is_block(failure));
                }
                Outcome::Failed(failure) => {
                    tally.unknown += u64::from(is_unknown(failure));
                    tally.blocked += u64::from(is_block(failure));
                }
            }
        }
        state.dirty = true;
    }
}

/// A delay that says nothing of the source: it is the recipient's, or what every stranger meets.
fn is_excused(failure: &Failure) -> bool {
    const EXCUSED: [Class; 4] = [Class::RecipientBad, Class::RecipientFull, Class::RecipientRate, Class::Greylist];
    failure.rule.as_ref().is_some_and(|rule| EXCUSED.iter().any(|class| *rule.class == *class.as_str()))
}

fn is_block(failure: &Failure) -> bool {
    failure.rule.as_ref().is_some_and(|rule| *rule.class == *Class::BlockIp.as_str())
}

/// No such mailbox, by the table; by the stage where no row knows the reply.
fn is_unknown(failure: &Failure) -> bool {
    let by_rule = failure.rule.as_ref().map(|rule| *rule.class == *Class::RecipientBad.as_str());
    by_rule.unwrap_or(failure.stage == At::Recipient && failure.scope == Scope::Recipient)
}
