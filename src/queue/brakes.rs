//! Brakes: how fast one campaign, or the mail of one sender's domain, may go to a site that has complained of it.
//!
//! **What.** A row of the provider table that blames a campaign or a sender's domain may ask for less (`slow`) or for nothing
//! (`suspend`, `fix`). What only defers is obeyed at once. What cost a mail is obeyed when it was no single case: see
//! [`Blamed`]. A brake that has held for as long as its row says lets go by steps: the pace doubles with each eighth of that time.
//!
//! **Promises.** Pure: time is an argument. Codes are not braked: an hour later they serve nobody. What is braked is one client's,
//! whoever else uses the same word for a campaign. There are at most [`BRAKES_MAX`].
//!
//! **Does not know** lanes: whoever gives mail out asks [`Brakes::ask`] and puts what may not go into a lane that rests.
//!
//! **Fails how.** With [`BRAKES_MAX`] in use, what is blamed next is not slowed down; its site's pacer still hears of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::model::{
    Class, ClientName, Envelope, Failure, Measures, Outcome, RecipientOutcome, ReversePath, Rule, Scope, Slow,
};
use crate::schedule::{Apart, SiteId};

/// Brakes there may be, those included that are only being thought of.
const BRAKES_MAX: usize = 10_000;
/// What was blamed is forgotten after this time, if it came to nothing.
const WATCHED: Duration = Duration::from_secs(600);
/// For how long something waits for a repair, if its row does not say.
const REPAIR: Duration = Duration::from_secs(3_600);
/// The pace at which a sender begins again for whom nothing went at all: one in this time.
const BEGIN_AGAIN: Duration = Duration::from_secs(6);
/// In so many steps a brake lets go, each as long as this part of the time for which it held.
const STEP_PART: u32 = 8;
/// One in this time is no brake any more.
const LOOSE: Duration = Duration::from_millis(250);
/// What comes later by less is no news.
const SAME: Duration = Duration::from_secs(60);

/// When refusals that cost mails are no single cases.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Blamed {
    /// There must have been so many.
    pub least: u32,
    /// And they must be this share of the answers since the first of them.
    pub share: f64,
}

/// What one site has said of one campaign or sender.
#[derive(Debug)]
struct Brake {
    client: ClientName,
    whose: Apart,
    /// When it was first blamed.
    since: Mono,
    /// Answers since then, and how many of them blamed it.
    all: u32,
    blamed: u32,
    on: Option<On>,
}

/// A brake that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
struct On {
    until: Mono,
    /// The time from one mail to the next.
    every: Duration,
    /// How long each step takes in which it lets go.
    step: Duration,
    /// When the next mail may go.
    next: Mono,
    why: Arc<str>,
}

/// A brake that has been put on, or holds for longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PutOn {
    pub(super) whose: Apart,
    pub(super) until: Mono,
    pub(super) rule: Rule,
    /// What somebody must repair.
    pub(super) fix: Option<String>,
    pub(super) why: Arc<str>,
}

/// Why a mail may not go now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) whose: Apart,
    pub(super) until: Mono,
    pub(super) why: Arc<str>,
}

/// All brakes, by site.
#[derive(Debug, Default)]
pub(super) struct Brakes {
    sites: HashMap<SiteId, Vec<Brake>>,
    count: usize,
}

impl Brakes {
    /// True if something may be braked at a site.
    pub(super) fn are_at(&self, site: SiteId) -> bool {
        self.count > 0 && self.sites.contains_key(&site)
    }

    /// Takes the answers to one mail into account; what has been done about them.
    pub(super) fn hear(
        &mut self,
        site: SiteId,
        envelope: &Envelope,
        outcomes: &[RecipientOutcome],
        enough: Blamed,
        now: Mono,
    ) -> Vec<PutOn> {
        if envelope.class == Class::Otp {
            return Vec::new();
        }
        if self.are_at(site) {
            let asked = outcomes.iter().filter(|o| failure(o).is_none_or(|f| !f.is_ours())).count();
            let asked = u32::try_from(asked).unwrap_or(u32::MAX);
            for brake in self.sites.get_mut(&site).into_iter().flatten().filter(|brake| brake.is_about(envelope)) {
                brake.all = brake.all.saturating_add(asked);
            }
        }
        let mut done: Vec<PutOn> = Vec::new();
        for outcome in outcomes {
            let Some(put_on) = self.blame(site, envelope, outcome, enough, now) else { continue };
            // The recipients of one mail say the same thing.
            done.retain(|known| known.whose != put_on.whose);
            done.push(put_on);
        }
        done
    }

    fn blame(
        &mut self,
        site: SiteId,
        envelope: &Envelope,
        outcome: &RecipientOutcome,
        enough: Blamed,
        now: Mono,
    ) -> Option<PutOn> {
        let failure = failure(outcome)?;
        let (rule, measures) = (failure.rule.as_ref()?, failure.measures.as_deref()?);
        let whose = match failure.scope {
            Scope::Campaign => Apart::Campaign(envelope.campaign.clone()?),
            Scope::SenderDomain => Apart::Sender(sender(envelope)?.into()),
            _ => return None,
        };
        let wanted = Wanted::of(failure, measures)?;
        let brake = self.brake(site, &envelope.client, whose, now)?;
        brake.blamed = brake.blamed.saturating_add(1);
        brake.all = brake.all.max(brake.blamed);
        let costs = matches!(outcome.outcome, Outcome::Failed(_));
        let is_no_single_case =
            brake.blamed >= enough.least && f64::from(brake.blamed) >= enough.share * f64::from(brake.all);
        if costs && !is_no_single_case {
            return None;
        }
        let why: Arc<str> = format!("{}: {} by {rule}", words(&brake.whose), wanted.words).into();
        if !brake.put_on(&wanted, &why, now) {
            return None;
        }
        let until = now.plus(wanted.lasts);
        Some(PutOn { whose: brake.whose.clone(), until, rule: rule.clone(), fix: measures.fix.clone(), why })
    }

    /// The brake about somebody, made if there is none; `None` if there are too many.
    fn brake(&mut self, site: SiteId, client: &ClientName, whose: Apart, now: Mono) -> Option<&mut Brake> {
        if self.count >= BRAKES_MAX {
            self.forget(now);
        }
        let there = self.sites.get(&site);
        let known = there.and_then(|all| all.iter().position(|b| b.client == *client && b.whose == whose));
        let at = match known {
            Some(at) => at,
            None if self.count >= BRAKES_MAX => return None,
            None => {
                self.count += 1;
                let all = self.sites.entry(site).or_default();
                all.push(Brake { client: client.clone(), whose, since: now, all: 0, blamed: 0, on: None });
                all.len() - 1
            }
        };
        let brake = self.sites.get_mut(&site)?.get_mut(at)?;
        if brake.is_over(now) {
            (brake.since, brake.all, brake.blamed, brake.on) = (now, 0, 0, None);
        }
        Some(brake)
    }

    /// May a mail go to a site now? If so that was its turn.
    ///
    /// # Errors
    /// What holds it, and until when.
    pub(super) fn ask(&mut self, site: SiteId, envelope: &Envelope, now: Mono) -> Result<(), Held> {
        if envelope.class == Class::Otp {
            return Ok(());
        }
        let about = |brake: &&mut Brake| brake.is_about(envelope) && !brake.is_over(now);
        let mut about: Vec<&mut Brake> = self.sites.get_mut(&site).into_iter().flatten().filter(about).collect();
        for brake in &about {
            if let Some(on) = brake.on.as_ref().filter(|on| on.next > now) {
                return Err(Held { whose: brake.whose.clone(), until: on.next, why: on.why.clone() });
            }
        }
        for on in about.iter_mut().filter_map(|brake| brake.on.as_mut()) {
            on.next = now.plus(on.every_at(now));
        }
        Ok(())
    }

    /// Lets one client's mail to a site go, or what of it is told apart so.
    pub(super) fn lift(&mut self, site: SiteId, client: &ClientName, whose: &Apart) {
        self.keep(|at, brake| at != site || brake.client != *client || brake.whose != *whose);
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, now: Mono) {
        self.keep(|_, brake| !brake.is_over(now));
    }

    /// Forgets a site.
    pub(super) fn forget_site(&mut self, site: SiteId) {
        self.keep(|at, _| at != site);
    }

    fn keep(&mut self, stays: impl Fn(SiteId, &Brake) -> bool) {
        if self.count > 0 {
            self.sites.retain(|site, brakes| {
                brakes.retain(|brake| stays(*site, brake));
                !brakes.is_empty()
            });
            self.count = self.sites.values().map(Vec::len).sum();
        }
    }
}

impl Brake {
    fn is_about(&self, envelope: &Envelope) -> bool {
        self.client == envelope.client
            && match &self.whose {
                Apart::Campaign(name) => envelope.campaign.as_ref() == Some(name),
                Apart::Sender(domain) => sender(envelope) == Some(domain),
            }
    }

    /// It holds nothing any more, and nothing is thought of.
    fn is_over(&self, now: Mono) -> bool {
        match &self.on {
            Some(on) => on.every_at(now) < LOOSE,
            None => now.since(self.since) > WATCHED,
        }
    }

    /// True if that is news.
    fn put_on(&mut self, wanted: &Wanted, why: &Arc<str>, now: Mono) -> bool {
        let until = now.plus(wanted.lasts);
        let step = wanted.lasts / STEP_PART;
        let next = if wanted.nothing { until } else { now.plus(wanted.every) };
        let Some(on) = &mut self.on else {
            self.on = Some(On { until, every: wanted.every, step, next, why: why.clone() });
            return true;
        };
        // What was under way says the same once more.
        let is_news = on.why != *why || on.until.plus(SAME) < until;
        on.next = on.next.max(next);
        if until > on.until {
            (on.until, on.step, on.every, on.why) = (until, step, on.every.max(wanted.every), why.clone());
        }
        is_news
    }
}

impl On {
    /// The time from one mail to the next: as long as wanted, and then less and less.
    fn every_at(&self, now: Mono) -> Duration {
        let gone = now.since(self.until).as_secs_f64();
        let steps = (gone / self.step.as_secs_f64().max(1.0)).ceil().min(31.0) as u32;
        self.every / (1_u32 << steps)
    }
}

/// What a row asks for.
struct Wanted {
    every: Duration,
    /// Nothing is to go before it is over.
    nothing: bool,
    lasts: Duration,
    words: String,
}

impl Wanted {
    fn of(failure: &Failure, measures: &Measures) -> Option<Self> {
        let repair = measures.fix.as_ref().map(|_| failure.retry_after.unwrap_or(REPAIR));
        if let Some(lasts) = measures.suspend.max(repair) {
            return Some(Self { every: BEGIN_AGAIN, nothing: true, lasts, words: "nothing for a while".to_owned() });
        }
        let Slow { to, lasts } = measures.slow?;
        let every = to.per / to.count.max(1);
        Some(Self { every, nothing: false, lasts, words: format!("at most {to} for a while") })
    }
}

fn failure(outcome: &RecipientOutcome) -> Option<&Failure> {
    match &outcome.outcome {
        Outcome::Delayed(failure) | Outcome::Failed(failure) => Some(failure),
        Outcome::Relayed(_) => None,
    }
}

/// The domain that a mail's envelope names as its sender's.
fn sender(envelope: &Envelope) -> Option<&str> {
    match &envelope.mail()?.reverse_path {
        ReversePath::Mailbox(mailbox) => Some(mailbox.domain().as_str()),
        ReversePath::Null => None,
    }
}

fn words(whose: &Apart) -> String {
    match whose {
        Apart::Campaign(name) => format!("campaign {name}"),
        Apart::Sender(domain) => format!("mail from {domain}"),
    }
}

#[cfg(test)]
mod tests;
