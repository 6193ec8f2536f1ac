//! The pacers of one site: one for each source of ours that sends there, because it is the source that a provider judges.
//!
//! **What.** Answers to what came from a source are heard by that source's [`Pacer`]; a refusal that blames the whole site, by
//! all of them. The site may do what those of its sources may together that have sent there lately. A site begins with one
//! pacer, which becomes that of the first source that is heard of; each that comes later begins as that one did. Where the
//! terms are not each source's, as at hosts of which nobody knows what they can take, all sources have one pacer.
//!
//! **Promises.** Pure: time is an argument. The sum never exceeds what the terms allow over all sources. While one source may
//! send the site is open; when all are suspended it is closed until the first may again. What is known of a source is kept as
//! long as its site, up to [`SOURCES_MAX`] of them.
//!
//! **Does not know** which source a mail will leave from: whoever connects is told each one's [`Share`] and keeps to it.

use std::sync::Arc;
use std::time::Duration;

use super::learnt::Learnt;
use super::pacer::{Cause, InForce, Pacer, Step, Terms, burst};
use super::{Pace, SiteLimits};
use crate::clock::Mono;
use crate::model::{Outcome, RecipientOutcome, Scope};

/// Sources of one site that have a pacer of their own; those that come later are counted with the last of them.
const SOURCES_MAX: usize = 256;
/// A source that has sent nothing for so long, while others have, is not counted on.
const LATELY: Duration = Duration::from_secs(120);

/// One source's part of what a site takes.
#[derive(Clone, PartialEq, Debug)]
pub struct Share {
    /// Its name; `None`: the system's choice.
    pub source: Option<Arc<str>>,
    /// Connections at once.
    pub connections: usize,
    /// Mails per time, if limited.
    pub pace: Option<Pace>,
    /// Nothing goes from it until then.
    pub suspended: Option<Mono>,
}

/// What each source may do at a site to which several send.
#[derive(Clone, PartialEq, Debug)]
pub struct Shares {
    known: Vec<Share>,
    /// Of one that nothing is known of.
    newcomer: Share,
}

impl Shares {
    /// Of one source.
    pub fn of(&self, source: Option<&str>) -> &Share {
        self.known.iter().find(|share| share.source.as_deref() == source).unwrap_or(&self.newcomer)
    }
}

/// What a source's pacer has done.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// The source; `None`: the system's choice.
    pub source: Option<Arc<str>>,
    /// What.
    pub step: Step,
}

#[derive(Debug)]
struct Paced {
    source: Option<Arc<str>>,
    pacer: Pacer,
    /// When it was heard of last; `None`: nobody knows yet whose it is.
    heard: Option<Mono>,
}

impl Paced {
    /// One that nothing is known of.
    fn new(terms: &Terms) -> Self {
        Self { source: None, pacer: Pacer::new(terms.clone()), heard: None }
    }

    fn share(&self, now: Mono) -> Share {
        let SiteLimits { concurrency, pace } = self.pacer.limits(now);
        let (source, suspended) = (self.source.clone(), self.pacer.suspended_until(now));
        Share { source, connections: concurrency, pace, suspended }
    }
}

/// A site's pacers.
#[derive(Debug)]
pub struct Pacers {
    terms: Terms,
    /// Never empty.
    paced: Vec<Paced>,
    /// What one may do that nothing is known of.
    newcomer: Share,
    shares: Option<Arc<Shares>>,
}

impl Pacers {
    /// A site that starts.
    pub fn new(terms: Terms) -> Self {
        let first = Paced::new(&terms);
        let newcomer = first.share(Mono(0));
        Self { terms, paced: vec![first], newcomer, shares: None }
    }

    /// Other terms; what has been learnt is kept.
    pub fn set(&mut self, terms: Terms, now: Mono) {
        if self.terms != terms {
            self.paced.iter_mut().for_each(|paced| paced.pacer.set(terms.clone()));
            self.newcomer = Paced::new(&terms).share(now);
            self.terms = terms;
            self.share(now);
        }
    }

    /// The terms of each source.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What the schedule may do now.
    pub fn limits(&self, now: Mono) -> SiteLimits {
        let all_rest = self.suspended(now).is_some();
        let counted = self.lately().filter(|p| all_rest || p.pacer.suspended_until(now).is_none());
        let (mut connections, mut rate) = (0, 0.0);
        for paced in counted {
            let limits = paced.pacer.limits(now);
            connections += limits.concurrency;
            rate += limits.pace.map_or(f64::INFINITY, |pace| pace.per_second);
        }
        let connections = (connections as f64).min(self.terms.over_all.connections).max(1.0);
        let per_second = rate.min(self.terms.over_all.per_second);
        let pace = per_second.is_finite().then(|| Pace { per_second, burst: burst(per_second) });
        SiteLimits { concurrency: connections as usize, pace }
    }

    /// The answers to one consignment. `busy`: more would have gone, had there been room.
    pub fn heard(&mut self, outcomes: &[RecipientOutcome], busy: bool, now: Mono) -> Vec<Told> {
        let mut told = Vec::new();
        let mut rest = outcomes;
        // Nearly always all are of one source.
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|o| source_of(o) == source_of(first)).count();
            let (run, later) = rest.split_at(same);
            rest = later;
            let at = self.pacer_for(source_of(first), now);
            let step = self.paced.get_mut(at).and_then(|paced| paced.pacer.heard(run, busy, now));
            told.extend(self.named(at, step));
            if run.iter().any(blames_site) {
                for other in (0..self.paced.len()).filter(|other| *other != at) {
                    let step = self.paced.get_mut(other).and_then(|paced| paced.pacer.overheard(run, now));
                    told.extend(self.named(other, step));
                }
            }
        }
        self.share(now);
        told
    }

    /// Too many mails were deferred lately, whatever the replies said.
    pub fn ease(&mut self, now: Mono) -> Vec<Told> {
        let told = (0..self.paced.len())
            .filter_map(|at| {
                let step = self.paced.get_mut(at)?.pacer.ease(now);
                self.named(at, step)
            })
            .collect();
        self.share(now);
        told
    }

    /// How long a new connection has to wait.
    pub fn connection_wait(&self, now: Mono) -> Duration {
        self.lately().map(|paced| paced.pacer.connection_wait(now)).min().unwrap_or_default()
    }

    /// A new connection has been made: by that one whose turn it was.
    pub fn connected(&mut self, now: Mono) {
        if let Some(paced) = self.paced.iter_mut().min_by_key(|paced| paced.pacer.connection_wait(now)) {
            paced.pacer.connected(now);
        }
    }

    /// Mails over one connection, if there is a limit.
    pub fn messages_per_connection(&self) -> Option<u32> {
        self.lately().filter_map(|paced| paced.pacer.messages_per_connection()).min()
    }

    /// Everything in force, and why, for each source that has sent here lately.
    pub fn in_force(&self, now: Mono) -> Vec<(Option<Arc<str>>, InForce)> {
        self.lately().map(|paced| (paced.source.clone(), paced.pacer.in_force(now))).collect()
    }

    /// Until when nothing is to be sent at all, and why.
    pub fn suspended(&self, now: Mono) -> Option<(Mono, Cause)> {
        let suspended: Option<Vec<(Mono, Cause)>> = self.lately().map(|p| p.pacer.suspended(now)).collect();
        suspended?.into_iter().min_by_key(|(until, _)| *until)
    }

    /// True while something is held down, or not sent, for any source.
    pub fn is_holding(&self, now: Mono) -> bool {
        self.paced.iter().any(|paced| paced.pacer.is_holding(now))
    }

    /// An operator has lifted the suspension.
    pub fn resume(&mut self) {
        self.paced.iter_mut().for_each(|paced| paced.pacer.resume());
        if let Some(shares) = &mut self.shares {
            Arc::make_mut(shares).known.iter_mut().for_each(|share| share.suspended = None);
        }
    }

    /// What has been found out that a start would not know.
    pub fn learnt(&self, now: Mono) -> Vec<Learnt> {
        let all = self.paced.iter().map(|paced| paced.pacer.learnt(paced.source.clone(), now));
        all.filter(|learnt| !learnt.is_nothing()).collect()
    }

    /// Begins where others have ended; for one that has heard nothing yet.
    pub fn recall(&mut self, learnt: Vec<Learnt>, now: Mono) {
        for learnt in learnt {
            let at = self.pacer_for(Some(learnt.source.as_ref()), now);
            if let Some(paced) = self.paced.get_mut(at) {
                paced.pacer.recall(learnt, now);
            }
        }
        self.share(now);
    }

    /// What each source may do; `None` while one alone is known: then that is what the site may do.
    pub fn shares(&self) -> Option<&Arc<Shares>> {
        self.shares.as_ref()
    }

    /// Those that have sent something lately, all within a while of the last; and those that could not, because they were
    /// suspended.
    fn lately(&self) -> impl Iterator<Item = &Paced> {
        let last = self.paced.iter().filter_map(|paced| paced.heard).max();
        let is_late = move |paced: &&Paced| {
            let could = paced.heard.max(paced.pacer.suspension_ends());
            last.is_none_or(|last| could.is_some_and(|could| last.since(could) <= LATELY))
        };
        self.paced.iter().filter(is_late)
    }

    /// Where the pacer of a source is: `None` if nobody was connected to.
    fn pacer_for(&mut self, source: Option<Option<&Arc<str>>>, now: Mono) -> usize {
        let last = || (0..self.paced.len()).max_by_key(|at| self.paced.get(*at).and_then(|p| p.heard)).unwrap_or(0);
        let Some(source) = source else { return last() };
        let source = source.filter(|_| self.terms.each_source);
        let known = self.paced.iter().position(|p| p.heard.is_some() && p.source.as_ref() == source);
        let at = match known.or_else(|| self.paced.iter().position(|p| p.heard.is_none())) {
            Some(at) => at,
            None if self.paced.len() >= SOURCES_MAX => last(),
            None => {
                self.paced.push(Paced::new(&self.terms));
                self.paced.len() - 1
            }
        };
        if let Some(paced) = self.paced.get_mut(at) {
            if paced.heard.is_none() {
                paced.source = source.cloned();
            }
            paced.heard = Some(now);
        }
        at
    }

    fn named(&self, at: usize, step: Option<Step>) -> Option<Told> {
        Some(Told { source: self.paced.get(at)?.source.clone(), step: step? })
    }

    /// Works out what each source may do. A new one only if something has changed: it is handed to all who carry.
    fn share(&mut self, now: Mono) {
        if self.paced.len() < 2 {
            return;
        }
        let known = self.paced.iter().map(|paced| paced.share(now)).collect();
        let shares = Shares { known, newcomer: self.newcomer.clone() };
        if self.shares.as_deref() != Some(&shares) {
            self.shares = Some(Arc::new(shares));
        }
    }
}

/// The source that an outcome's mail came from; `None` where nobody was connected to.
fn source_of(outcome: &RecipientOutcome) -> Option<Option<&Arc<str>>> {
    outcome.peer.as_ref().map(|peer| peer.source.as_ref())
}

fn blames_site(outcome: &RecipientOutcome) -> bool {
    matches!(&outcome.outcome, Outcome::Delayed(f) | Outcome::Failed(f) if f.scope == Scope::Site)
}

#[cfg(test)]
mod tests;
