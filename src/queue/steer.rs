//! Operators' orders carried out: rules made and ended, retries hurried, and what is to end without an attempt.
//!
//! **Promises.** A rule is in force only once it is durable; it is told as an event then. What is leased stays leased: its
//! outcome counts, and only what comes of it afterwards finds the rules. Whoever looks at everything that waits lets go of the
//! table between strides. A [`Sweep`] hits no message that was accepted after it began, so not the notifications it causes.
//!
//! **Does not know** who may give orders, nor how senders are told.
//!
//! **Fails how.** [`SteerError`]. A rule that has expired goes although its file cannot be written: a full disk must be able to
//! empty; the file follows when it can.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::carry::About;
use super::entry::{CampaignPrint, Entry};
use super::life::{End, State};
use super::steering::file::RulesFile;
use super::steering::{Order, Rule, Rules, Selector, SteerError, Which, check_reason};
use super::table::{MOVE_TAKES, Table};
use super::upkeep::Ending;
use super::{LoadError, Queue, pause};
use crate::event::{Fact, SteeringFact};
use crate::model::{MessageId, RecipientIndex};
use crate::route::Routes;
use crate::schedule::{Standing, Ticket};

/// Entries looked at at one hold of the table's lock.
const STRIDE: u32 = 2_048;
/// Messages that come to an end side by side.
const ENDING_MAX: usize = 256;
/// How often a sweep comes back to messages whose records are being moved.
const ROUNDS_MAX: u32 = 100;

/// The rules' file, and whether it lags behind the rules in force.
#[derive(Debug)]
pub(super) struct RulesKept {
    pub(super) file: RulesFile,
    pub(super) behind: bool,
}

/// A rule and what it is about now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleView {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// Consignments that wait under it.
    pub waiting: u64,
}

/// What waits and is to end without an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sentence {
    /// How.
    pub end: SentenceEnd,
    /// Which messages.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// Only count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The end that an operator gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentenceEnd {
    /// Failed for good; senders are told.
    Bounce,
    /// Called back; nobody is told.
    Cancel,
}

/// How far a sweep has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Swept {
    /// Places in the table looked at.
    pub looked: u64,
    /// Of how many.
    pub of: u64,
    /// Recipients hit.
    pub hit: u64,
    /// Recipients that fit and are left alone: they are being delivered.
    pub underway: u64,
    /// Recipients that fit, whose records cannot be read or moved now.
    pub failed: u64,
}

/// A walk over all that waits, to end what a [`Sentence`] fits.
#[derive(Debug)]
pub struct Sweep {
    queue: Queue,
    sentence: Sentence,
    by: String,
    print: Option<CampaignPrint>,
    /// What is written about each that is hit.
    why: Arc<str>,
    /// Messages from here on came too late.
    before: MessageId,
    next: u32,
    of: u32,
    /// Messages that were not to be had: their records were being moved.
    busy: Vec<u32>,
    rounds: u32,
    swept: Swept,
}

/// What a look at one entry came to.
enum Look {
    Nothing,
    /// Its record is being moved.
    Busy,
    /// It has been marked, unless this is only about numbers.
    Doomed(Vec<RecipientIndex>),
}

impl SentenceEnd {
    /// The word of its command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Cancel => "cancel",
        }
    }
}

impl Queue {
    /// Makes a rule and puts it in force.
    ///
    /// # Errors
    /// [`SteerError`]; then nothing has changed.
    pub async fn order(&self, order: Order, by: &str) -> Result<Rule, SteerError> {
        let order = order.check()?;
        let rule = {
            let mut kept = self.shared.rules.lock().await;
            let mut rules = self.shared.table.lock().rules.clone();
            let rule = rules.add(order, by.to_owned(), self.shared.clock.now())?;
            if let Err(e) = kept.file.keep(&rules).await {
                // Perhaps it is there all the same: those in force are written over it.
                kept.behind = true;
                return Err(SteerError::NotKept(e.to_string()));
            }
            kept.behind = false;
            self.enforce(rules);
            rule
        };
        self.tell_steering(rule.fact(rule.action.as_str()), Some(rule.reason.clone()));
        if let Some(campaign) = &rule.selector.campaign {
            self.set_apart(CampaignPrint::of(Some(campaign))).await;
        }
        Ok(rule)
    }

    /// Ends a rule; `action` is the word of the command that made it.
    ///
    /// # Errors
    /// [`SteerError`].
    pub async fn end_rule(&self, action: &str, which: Which, by: &str) -> Result<Rule, SteerError> {
        let which = match which {
            Which::Selector(selector) => Which::Selector(selector.check()?),
            id @ Which::Id(_) => id,
        };
        let mut kept = self.shared.rules.lock().await;
        let mut rules = self.shared.table.lock().rules.clone();
        let rule = rules.remove(action, &which)?;
        let ended = kept.file.keep(&rules).await;
        kept.behind = ended.is_err();
        self.enforce(rules);
        let word = if action == "pause" { "resume" } else { "end-reroute" };
        self.tell_steering(SteeringFact { by: by.to_owned(), ..rule.fact(word) }, None);
        ended.map(|()| rule).map_err(|e| SteerError::EndNotKept(e.to_string()))
    }

    /// Ends the rules whose time has run out, and brings their file up to date.
    pub(super) async fn expire_rules(&self) {
        let mut kept = self.shared.rules.lock().await;
        let mut rules = self.shared.table.lock().rules.clone();
        let expired = rules.take_expired(self.shared.clock.now());
        if expired.is_empty() && !kept.behind {
            return;
        }
        if !expired.is_empty() {
            self.enforce(rules.clone());
        }
        for rule in expired {
            tracing::info!(rule = rule.id, "a rule has expired");
            self.tell_steering(rule.fact("expire"), None);
        }
        let written = kept.file.keep(&rules).await;
        if let Err(e) = &written
            && !kept.behind
        {
            tracing::warn!(error = %e, "the rules' file cannot be brought up to date");
        }
        kept.behind = written.is_err();
    }

    fn enforce(&self, rules: Rules) {
        let now = self.now();
        let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
        let mut table = self.shared.table.lock();
        let of_sources = rules.of_sources();
        table.rules = rules;
        table.settle_lanes(&routes, &options, now);
        drop(table);
        self.shared.source_rules.send_if_modified(|known| {
            let changed = *known != of_sources;
            *known = of_sources;
            changed
        });
        self.shared.work.notify_one();
    }

    /// Moves what waits of a campaign that a rule names into lanes of its own.
    async fn set_apart(&self, campaign: CampaignPrint) {
        self.walk(STRIDE, |table, stride| {
            let now = self.now();
            let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
            for number in stride {
                let Some(entry) = table.entry(number).filter(|entry| entry.campaign == campaign) else { continue };
                for ticket in entry.tickets() {
                    table.place_anew(ticket, &routes, &options, now.mono);
                }
            }
        })
        .await;
        self.shared.work.notify_one();
    }

    /// The rules in force that pause a source, and each change of them; for whoever chooses sources.
    pub fn source_rules(&self) -> watch::Receiver<Arc<[Rule]>> {
        self.shared.source_rules.subscribe()
    }

    /// The rules in force, oldest first.
    pub fn rules(&self) -> Vec<RuleView> {
        let now = self.now();
        let routes = self.shared.routes.load();
        let table = self.shared.table.lock();
        let mut views: Vec<RuleView> =
            table.rules.list().iter().map(|rule| RuleView { rule: rule.clone(), waiting: 0 }).collect();
        if views.is_empty() {
            return views;
        }
        for (lane, key, site) in table.schedule.lanes() {
            let natural = table.natural_target(&key, &routes, now.mono);
            let paused = table.target(site).and_then(|target| table.rules.pause(&key, target));
            let rerouted = natural.as_ref().and_then(|t| table.rules.reroute(&key, t)).map(|(rule, _)| rule);
            for rule in [paused, rerouted].into_iter().flatten() {
                let view = views.iter_mut().find(|view| view.rule.id == rule.id);
                view.into_iter().for_each(|view| view.waiting += table.schedule.waiting_in(lane));
            }
        }
        views
    }

    /// Makes what waits for another attempt and fits due now, and lifts suspensions of its sites and rests of its lanes; what
    /// waits for the time that its sender asked for stays. Returns how many consignments.
    ///
    /// # Errors
    /// If the selector makes no sense.
    pub async fn flush(&self, selector: Selector, by: &str) -> Result<u64, SteerError> {
        let selector = selector.check()?.without_source()?;
        let print = selector.campaign.as_deref().map(|campaign| CampaignPrint::of(Some(campaign)));
        let mut count = 0;
        self.walk(STRIDE, |table, stride| {
            let (routes, now) = (self.shared.routes.load(), self.now().mono);
            for number in stride {
                let Some(entry) = table.entry(number) else { continue };
                let retried = |&ticket: &Ticket| entry.tracks().any(|t| t.ticket == Some(ticket) && t.sequence > 0);
                let waits = |ticket: &Ticket| {
                    matches!(table.schedule.standing(*ticket), Some(Standing::Waiting { .. } | Standing::Ready))
                };
                let mut tickets = entry.tickets();
                tickets.retain(|t| waits(t) && self.fits(table, &selector, print, entry, *t, &routes));
                let hurried: Vec<(Ticket, bool)> = tickets.into_iter().map(|t| (t, retried(&t))).collect();
                for (ticket, again) in hurried {
                    let Some(lane) = table.schedule.lane_of(ticket) else { continue };
                    if again {
                        count += u64::from(table.schedule.hurry(ticket));
                    }
                    if again || table.schedule.lane_rests(lane, now).is_some() {
                        table.resume(lane);
                    }
                }
            }
        })
        .await;
        self.shared.work.notify_one();
        let fact = SteeringFact::new("flush", selector.parts(), by.to_owned());
        self.tell_steering(SteeringFact { hit: Some(count), ..fact }, None);
        Ok(count)
    }

    /// Tells that an operator stopped sending altogether, or let it go on.
    pub fn hold_by(&self, held: bool, by: &str) {
        self.hold(held);
        let word = if held { "pause" } else { "resume" };
        self.tell_steering(SteeringFact::new(word, Selector::default().parts(), by.to_owned()), None);
    }

    /// Begins to end what waits and fits.
    ///
    /// # Errors
    /// If selector or reason make no sense.
    pub async fn sweep(&self, sentence: Sentence, by: &str) -> Result<Sweep, SteerError> {
        let selector = sentence.selector.check_named()?.without_source()?;
        let sentence = Sentence { selector, reason: check_reason(&sentence.reason)?, ..sentence };
        // What is still being taken in from disk is meant as well.
        self.loaded().await;
        let done = match sentence.end {
            SentenceEnd::Bounce => "bounced",
            SentenceEnd::Cancel => "cancelled",
        };
        let of = self.shared.table.lock().end_of_numbers();
        Ok(Sweep {
            queue: self.clone(),
            print: sentence.selector.campaign.as_deref().map(|campaign| CampaignPrint::of(Some(campaign))),
            why: format!("{done} by an operator: {}", sentence.reason).into(),
            sentence,
            by: by.to_owned(),
            before: MessageId::new(self.shared.clock.now()),
            next: 0,
            of,
            busy: Vec::new(),
            rounds: 0,
            swept: Swept { of: u64::from(of), ..Swept::default() },
        })
    }

    /// Shows every number that may be in use, in strides between which others get at the table.
    pub(super) async fn walk(&self, stride: u32, mut look: impl FnMut(&mut Table, Range<u32>)) {
        let mut from = 0_u32;
        loop {
            let end = {
                let mut table = self.shared.table.lock();
                let end = table.end_of_numbers();
                look(&mut table, from..end.min(from.saturating_add(stride)));
                end
            };
            from = from.saturating_add(stride);
            if from >= end {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn fits(
        &self,
        table: &Table,
        selector: &Selector,
        print: Option<CampaignPrint>,
        entry: &Entry,
        ticket: Ticket,
        routes: &Routes,
    ) -> bool {
        if print.is_some_and(|print| print != entry.campaign) {
            return false;
        }
        let Some(lane) = table.schedule.lane_of(ticket) else { return false };
        let Some((key, site)) = table.schedule.key(lane).zip(table.schedule.site_of(lane)) else { return false };
        // Who names a site may mean the one it waits at, or the one that a rule has sent it away from.
        table.target(site).is_some_and(|target| selector.fits_lane(key, target))
            || (!table.rules.list().is_empty()
                && table
                    .natural_target(key, routes, self.shared.clock.mono())
                    .is_some_and(|target| target.is_mail() && selector.fits_lane(key, &target)))
    }

    fn tell_steering(&self, steering: SteeringFact, reason: Option<String>) {
        let mut fact = Fact::steering(self.shared.clock.now(), steering);
        fact.reason = reason;
        self.shared.events.record(fact);
    }
}

impl Sweep {
    /// The next that are to end: each has to be given to [`Queue::end`]. `None` once all have been looked at.
    pub async fn next(&mut self) -> Option<Vec<Ending>> {
        if *self.queue.shared.stopping.borrow() {
            return None;
        }
        let doomed = if self.next < self.of {
            let doomed = self.stride();
            tokio::task::yield_now().await;
            doomed
        } else if !self.busy.is_empty() && self.rounds < ROUNDS_MAX {
            self.rounds += 1;
            pause(MOVE_TAKES).await;
            let mut busy = std::mem::take(&mut self.busy).into_iter();
            let doomed = self.look(&mut busy);
            self.busy.extend(busy);
            doomed
        } else {
            return None;
        };
        let mut endings = Vec::with_capacity(doomed.len());
        for (about, recipients) in doomed {
            endings.extend(self.ending(about, recipients).await);
        }
        Some(endings)
    }

    /// How far it has come.
    pub fn swept(&self) -> Swept {
        self.swept
    }

    /// Some of those that were said to end have done so.
    pub fn hit(&mut self, recipients: usize) {
        self.swept.hit += recipients as u64;
    }

    /// Ends the sweep: tells of it and returns what came of it.
    pub fn finish(mut self) -> Swept {
        let table = self.queue.shared.table.lock();
        let left = self.busy.iter().filter_map(|&number| table.entry(number)).count();
        drop(table);
        self.swept.failed += left as u64;
        let Sentence { end, selector, reason, dry_run } = self.sentence;
        if !dry_run {
            let fact = SteeringFact::new(end.as_str(), selector.parts(), self.by);
            self.queue.tell_steering(SteeringFact { hit: Some(self.swept.hit), ..fact }, Some(reason));
        }
        self.swept
    }

    fn stride(&mut self) -> Vec<(About, Vec<RecipientIndex>)> {
        let end = self.of.min(self.next.saturating_add(STRIDE));
        let mut numbers = self.next..end;
        let doomed = self.look(&mut numbers);
        self.next = numbers.start;
        self.swept.looked = u64::from(self.next);
        doomed
    }

    /// Looks at entries until enough have to end; returns those, and how many it looked at.
    fn look(&mut self, numbers: &mut dyn Iterator<Item = u32>) -> Vec<(About, Vec<RecipientIndex>)> {
        let mut doomed = Vec::new();
        let (queue, routes) = (self.queue.clone(), self.queue.shared.routes.load());
        let mut table = queue.shared.table.lock();
        while doomed.len() < ENDING_MAX
            && let Some(number) = numbers.next()
        {
            match self.look_at(&mut table, number, &routes) {
                Look::Nothing => {}
                Look::Busy => self.busy.push(number),
                Look::Doomed(recipients) if self.sentence.dry_run => self.hit(recipients.len()),
                Look::Doomed(recipients) => {
                    let Some(entry) = table.entry(number) else { continue };
                    let about = About { id: entry.id, number, position: entry.position(), envelope: None, known: None };
                    doomed.push((about, recipients));
                }
            }
        }
        doomed
    }

    fn look_at(&mut self, table: &mut Table, number: u32, routes: &Routes) -> Look {
        let Some(entry) = table.entry(number).filter(|entry| entry.id < self.before) else { return Look::Nothing };
        let (mut hit, mut underway) = (Vec::new(), 0);
        let mut known: Option<(Ticket, bool)> = None;
        for (recipient, track) in entry.numbered() {
            let Some(ticket) =
                track.ticket.filter(|_| matches!(track.state(), State::Queued { .. } | State::Begun { .. }))
            else {
                continue;
            };
            let fits = match known {
                Some((last, fits)) if last == ticket => fits,
                _ => self.queue.fits(table, &self.sentence.selector, self.print, entry, ticket, routes),
            };
            known = Some((ticket, fits));
            match fits {
                true if table.schedule.is_leased(ticket) => underway += 1,
                true => hit.push(recipient),
                false => {}
            }
        }
        if entry.moving && !hit.is_empty() && !self.sentence.dry_run {
            return Look::Busy;
        }
        self.swept.underway += underway;
        if hit.is_empty() {
            return Look::Nothing;
        }
        if !self.sentence.dry_run
            && let Some(entry) = table.entry_mut(number)
        {
            entry.moving = true;
        }
        Look::Doomed(hit)
    }

    /// What there is to know of a message that is marked to end; `None`, and the mark is gone, if it is not to end after all.
    async fn ending(&mut self, about: About, recipients: Vec<RecipientIndex>) -> Option<Ending> {
        let queue = &self.queue;
        let left_alone = match queue.detail(about.id).await {
            Ok(Some(detail)) => {
                let campaign = self.sentence.selector.campaign.as_ref();
                // Entries know of campaigns by 24 bits only.
                if campaign.is_none_or(|campaign| detail.envelope.campaign.as_ref() == Some(campaign)) {
                    let end = match self.sentence.end {
                        SentenceEnd::Bounce => End::Failed,
                        SentenceEnd::Cancel => End::Cancelled,
                    };
                    return Some(Ending::new(about, detail, recipients, end, Some(self.why.clone())));
                }
                0
            }
            Ok(None) | Err(LoadError::Gone) => 0,
            Err(e) => {
                tracing::error!(id = %about.id, error = %e, "a message's records cannot be read; it stays");
                recipients.len() as u64
            }
        };
        self.swept.failed += left_alone;
        queue.shared.table.lock().unmark(about.id);
        None
    }
}
