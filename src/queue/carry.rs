//! From a free slot to a settled outcome: what `dispatch` asks of the queue, and what a [`Lease`] asks on its behalf.

use std::sync::Arc;
use std::time::Duration;

use super::accept::Newcomer;
use super::again::Reason;
use super::detail::Trail;
use super::hot::{Detail, Warm};
use super::lanes::{HOURS_RULE, Resting};
use super::lease::{Known, LeaseState, Work};
use super::life::{Change, State};
use super::settle::Subject;
use super::table::{MOVE_TAKES, Now, Table};
use super::{Lease, LoadError, Queue, Target, change_record, settle};
use crate::clock::Mono;
use crate::event::{Fact, Kind, RuleFact};
use crate::model::{
    Channel, Class, Consignment, Content, Envelope, Failure, Measures, MessageId, Number, Outcome, RecipientOutcome,
    Scope, Stage, Submission, TextProgress,
};
use crate::route::MailHop;
use crate::schedule::{Pulled, SiteId, Ticket};
use crate::storage::{AppendError, Appended, Durable, Position, Record};

/// The answer to a free slot.
#[derive(Debug)]
pub enum Pull {
    /// Carry this.
    Lease(Lease),
    /// There is work, but not before this span has passed.
    Wait(Duration),
    /// There is work, but no slot that it may use.
    Busy,
    /// There is none.
    Nothing,
}

/// Tickets that may not be carried now that one pull passes over before it lets go of the table.
const PASSED_OVER_MAX: usize = 256;
/// The pause it takes then.
const BREATHER: Duration = Duration::from_millis(1);

/// How long a consignment rests whose carrying has panicked.
const PANIC_PAUSE: Duration = Duration::from_secs(10);

/// What there is to do at a site.
#[derive(Clone, PartialEq, Debug)]
pub struct SiteWork {
    /// The site.
    pub site: SiteId,
    /// Where its messages go.
    pub target: Target,
    /// Nobody has looked lately whether its domain shares a site with others: look, and tell [`Queue::learn_site`].
    pub unlocated: bool,
    /// How many more slots it could use now.
    pub wanted: usize,
    /// How many it may use at a time now.
    pub slots_max: usize,
}

impl Queue {
    /// A slot of `site` is free: what may use it?
    pub fn pull(&self, site: SiteId) -> Pull {
        self.pull_of(site, None)
    }

    /// The same for a slot that only codes may use.
    pub fn pull_code(&self, site: SiteId) -> Pull {
        self.pull_of(site, Some(Class::Otp))
    }

    fn pull_of(&self, site: SiteId, class: Option<Class>) -> Pull {
        let now = self.now();
        // What cannot be recorded must not be begun.
        if *self.shared.poisoned.borrow() {
            return Pull::Nothing;
        }
        let routes = self.shared.routes.load();
        let mut table = self.shared.table.lock();
        for _ in 0..PASSED_OVER_MAX {
            let ticket = match table.schedule.pull_of(site, class, now.mono) {
                Pulled::Ticket(ticket) => ticket,
                Pulled::NotBefore(then) => return Pull::Wait(then.since(now.mono)),
                Pulled::Busy => return Pull::Busy,
                Pulled::Nothing => return Pull::Nothing,
            };
            if let Some(resting) = table.keeps_hours(ticket, &routes, now) {
                self.tell_of_hours(&table, resting, now);
                continue;
            }
            if let Some((work, consignment)) = table.lease(ticket, now) {
                let Some(target) = table.target_of(ticket, site, &routes) else { return Pull::Nothing };
                self.shared.metrics.leased.inc();
                let (queue, state) = (self.clone(), LeaseState::Taken);
                let (shares, braked) = (table.schedule.shares(site).cloned(), table.brakes.are_at(site));
                let known = None;
                return Pull::Lease(Lease { queue, ticket, target, shares, braked, work, consignment, known, state });
            }
        }
        Pull::Wait(BREATHER)
    }

    fn tell_of_hours(&self, table: &Table, resting: Resting, now: Now) {
        let mut fact = Fact::new(now.wall, Kind::Paused, Channel::Sms);
        fact.lane = table.schedule.lane_name(resting.lane).cloned();
        fact.client = table.schedule.key(resting.lane).map(|key| key.client.clone());
        fact.next_attempt = Some(resting.until);
        fact.rule = Some(RuleFact { id: HOURS_RULE.into(), class: "policy".into() });
        fact.reason = Some(resting.why.to_string());
        self.shared.events.record(fact);
    }

    /// Sites with something new to pull since the last call.
    pub fn roused(&self) -> Vec<SiteWork> {
        let now = self.now().mono;
        let mut table = self.shared.table.lock();
        let sites = table.schedule.roused();
        sites.into_iter().filter_map(|site| table.site_work(site, now)).collect()
    }

    /// What there is to do at a site; `None` if it is gone.
    pub fn site_work(&self, site: SiteId) -> Option<SiteWork> {
        let now = self.now().mono;
        self.shared.table.lock().site_work(site, now)
    }

    /// How many more slots a site could use now.
    pub fn slots_wanted(&self, site: SiteId) -> usize {
        self.shared.table.lock().schedule.slots_wanted(site)
    }

    /// Makes what has come due ready; returns in how long to do it again, if anything waits.
    pub fn advance(&self) -> Option<Duration> {
        let now = self.now();
        self.shared.table.lock().schedule.advance(now.mono).map(|then| then.since(now.mono))
    }

    /// Waits until something may be pulled or a due time has changed.
    pub async fn work(&self) {
        self.shared.work.notified().await;
    }

    pub(super) async fn load(&self, id: MessageId) -> Result<(Detail, Content), LoadError> {
        let both = |warm: &Warm| (warm.detail.clone(), warm.content.clone());
        self.look_up(id, both, Trail::whole).await?.ok_or(LoadError::Gone)
    }

    pub(super) async fn begin(
        &self,
        id: MessageId,
        ticket: Ticket,
        progress: TextProgress,
    ) -> Result<Durable, AppendError> {
        let (number, position, change) = {
            let table = self.shared.table.lock();
            let (number, entry) = table.find(id).ok_or(AppendError::Closed)?;
            let of_ticket = entry.numbered().find(|(_, t)| t.ticket == Some(ticket));
            let (recipient, track) = of_ticket.ok_or(AppendError::Closed)?;
            let change = settle::begun(track, recipient, progress, self.shared.clock.now());
            (number, entry.position(), change)
        };
        let queue = self.clone();
        // A task of its own: what the disk has, the table must get, whether or not anybody still waits for the answer.
        let begun = tokio::spawn(async move {
            let changes = [change];
            let appended = queue.keep(vec![change_record(id, position, &changes)]).await?;
            let now = queue.now();
            // It stays leased: the outcome is what will count.
            let at = appended.positions[0];
            queue.shared.table.lock().apply(number, &changes, at, None, now);
            Ok(appended.durable)
        });
        begun.await.unwrap_or(Err(AppendError::Closed))
    }

    pub(super) fn return_unused(&self, ticket: Ticket, after_panic: bool) {
        self.shared.metrics.leased.dec();
        let now = self.now();
        let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
        let mut table = self.shared.table.lock();
        table.give_back(ticket, &routes, &options, now);
        if after_panic {
            table.schedule.put_back(ticket, now.mono.plus(PANIC_PAUSE), now.mono);
        }
        drop(table);
        self.shared.work.notify_one();
    }

    pub(super) async fn settle(
        self,
        ticket: Ticket,
        known: Known,
        outcomes: Vec<RecipientOutcome>,
        follow_ups: Vec<Submission>,
    ) {
        self.note_health(ticket, known.envelope.as_deref(), &outcomes);
        let Ok(place) = self.shared.settling.clone().acquire_owned().await else { return };
        let Some((about, changes)) = self.changes_after(ticket, known, outcomes) else { return };
        let (group, newcomers) = self.group_of(&about, &changes, follow_ups);
        tokio::spawn(async move {
            let id = about.id;
            match self.keep(group).await {
                Ok(appended) => self.settled(about, Some(ticket), &changes, newcomers, appended),
                // The lease stays out: starting another attempt that could not be recorded either would only double it.
                Err(e) => tracing::error!(%id, error = %e, "an outcome could not be recorded"),
            }
            drop(place);
        });
    }

    /// The records of changes and of the messages that follow from them, one batch, and those messages as they will be kept.
    pub(super) fn group_of(
        &self,
        about: &About,
        changes: &[Change],
        follow_ups: Vec<Submission>,
    ) -> (Vec<Record>, Vec<Newcomer>) {
        let options = self.shared.options.load();
        let newcomers: Vec<Newcomer> = follow_ups.into_iter().map(|s| Newcomer::new(s, &options)).collect();
        let mut group = vec![change_record(about.id, about.position, changes)];
        group.extend(newcomers.iter().map(Newcomer::record));
        (group, newcomers)
    }

    fn changes_after(
        &self,
        ticket: Ticket,
        known: Known,
        outcomes: Vec<RecipientOutcome>,
    ) -> Option<(About, Vec<Change>)> {
        let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let (number, entry) = table.of_ticket(ticket)?;
        let is_text = entry.channel == Channel::Sms;
        // One throw for the consignment, so that its recipients stay together.
        let chance = fastrand::f64();
        let envelope = known.envelope.as_deref();
        let changes = outcomes
            .into_iter()
            .filter_map(|o| {
                let track = entry.track(o.recipient).filter(|t| t.ticket == Some(ticket))?;
                let address = envelope.and_then(|e| e.recipients.get(o.recipient as usize)).map(|r| &r.address);
                let masked = address.filter(|_| entry.class == Class::Otp).map(ToString::to_string);
                let elsewhere = |p: &TextProgress| table.elsewhere(entry, track, p, (&routes, &options), now);
                let prospects = options.prospects(entry.class, &elsewhere);
                let (change, again) =
                    settle::change_after(track, o, is_text, prospects, masked.as_deref(), now, chance);
                self.count_again(again);
                Some(change)
            })
            .collect();
        let (id, position) = (entry.id, entry.position());
        let Known { envelope, known } = known;
        Some((About { id, number, position, envelope, known }, changes))
    }

    /// The outcomes are durable: applies them, takes in what follows from them, and tells.
    pub(super) fn settled(
        &self,
        about: About,
        ticket: Option<Ticket>,
        changes: &[Change],
        newcomers: Vec<Newcomer>,
        appended: Appended,
    ) {
        let now = self.now();
        let options = self.shared.options.load();
        let released = {
            let mut table = self.shared.table.lock();
            let mut facts = self.facts(&table, &about, changes);
            let at = appended.positions[0];
            let applied = table.apply(about.number, changes, at, about.known.as_ref(), now);
            if ticket.is_some() {
                self.shared.metrics.leased.dec();
            }
            match ticket {
                Some(ticket) => table.give_back(ticket, &self.shared.routes.load(), &options, now),
                // What ends without a lease was marked; nothing may move it between its end and this.
                None => self.unmark(&mut table, about.id, changes, &options, now),
            }
            for (newcomer, &position) in newcomers.into_iter().zip(appended.positions.iter().skip(1)) {
                // What follows from an end is owed, whatever the quotas say.
                let client = table.clients.number(&newcomer.envelope.client);
                table.clients.reserve_owed(client, newcomer.size());
                facts.extend(self.admit(&mut table, newcomer, position));
            }
            // Told before anybody can act on it, so that facts stand in the order in which they happened.
            facts.into_iter().for_each(|f| self.shared.events.record(f));
            applied.released
        };
        drop(appended.pending);
        released.inspect(|&position| self.shared.log.release(position));
        self.shared.work.notify_one();
    }

    /// Something else may happen to a message again; those of its recipients about whom something was recorded without a lease
    /// leave their consignments, or wait for what comes next.
    fn unmark(&self, table: &mut Table, id: MessageId, changes: &[Change], options: &super::Options, now: Now) {
        table.unmark(id);
        let routes = self.shared.routes.load();
        let Some((number, entry)) = table.find(id) else { return };
        let tracks = || changes.iter().filter_map(|c| entry.track(c.recipient));
        let lacks_ticket = tracks().any(|track| track.ticket.is_none() && !track.has_ended());
        let tickets: Vec<Ticket> = tracks().filter_map(|track| track.ticket).collect();
        for ticket in tickets {
            table.give_back(ticket, &routes, options, now);
        }
        if lacks_ticket {
            // An attempt that a crash cut short: no start gives those a consignment. Only texts have any.
            table.consign(number, &[], &routes, options, now);
        }
    }

    /// A text leaves once more.
    pub(super) fn count_again(&self, reason: Option<Reason>) {
        if let Some(reason) = reason {
            self.shared.metrics.texts.again.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// The facts of changes that are about to be applied.
    pub(super) fn facts(&self, table: &Table, about: &About, changes: &[Change]) -> Vec<Fact> {
        let Some(entry) = table.entry(about.number).filter(|e| e.id == about.id) else { return Vec::new() };
        let subject = Subject::of_entry(entry, table.clients.name(entry.client), about.envelope.as_deref());
        let (now, routes) = (self.shared.clock.now(), self.shared.routes.load());
        let fact = |change: &Change| {
            let track = entry.track(change.recipient)?;
            let progress = table.parts.progress(about.number, change.recipient);
            let lane = table.lane_name(about.number, change.recipient);
            let lane = lane.unwrap_or_else(|| settle::lane_of(&subject, change.recipient, progress));
            let parts = progress.map(TextProgress::counted);
            let made = u32::from(track.tally().attempts_made);
            let mut fact = settle::fact_of(&subject, change, made, parts, Some(lane), now)?;
            if subject.channel == Channel::Sms {
                settle::priced(&mut fact, change, || Number::of_digits(track.address), &routes);
                self.count_sent(&fact, &subject, change);
            }
            Some(fact)
        };
        changes.iter().filter_map(fact).collect()
    }

    /// A text's parts and what they cost, by client and carrier.
    fn count_sent(&self, fact: &Fact, subject: &Subject<'_>, change: &Change) {
        let (Kind::Sent, Some(progress)) = (fact.event, &change.progress) else { return };
        let labels = [&*subject.client, &*progress.carrier];
        self.shared.metrics.texts.parts.with_label_values(&labels).inc_by(u64::from(progress.counted()));
        if let Some(price) = &fact.price {
            self.shared.metrics.texts.costs.with_label_values(&labels).inc_by(price.amount.units());
        }
    }

    /// What an attempt says about its destination.
    fn note_health(&self, ticket: Ticket, envelope: Option<&Envelope>, outcomes: &[RecipientOutcome]) {
        let now = self.now();
        let mut table = self.shared.table.lock();
        let lane = table.schedule.lane_of(ticket);
        let site = lane.and_then(|lane| table.schedule.site_of(lane));
        let channel = site.map_or(Channel::Email, |site| table.channel_of(site));
        for outcome in outcomes {
            let word = match outcome.outcome {
                Outcome::Relayed(_) => "relayed",
                Outcome::Delayed(_) => "delayed",
                Outcome::Failed(_) => "failed",
            };
            self.shared.metrics.attempts.with_label_values(&[channel.as_str(), word]).inc();
        }
        self.hold_for_sources(&mut table, ticket, outcomes, now);
        // Nobody was asked: the site is as it was.
        let waits = |o: &RecipientOutcome| matches!(&o.outcome, Outcome::Delayed(f) if f.lane_waits().is_some());
        if !outcomes.is_empty() && outcomes.iter().all(waits) {
            return;
        }
        if let (Some(site), Some(envelope), Channel::Email) = (site, envelope, channel) {
            self.brake(&mut table, site, envelope, outcomes, now);
        }
        let slower = self.pace(&mut table, ticket, outcomes, now);
        // A name that cannot be looked up, or a TLS policy that is not met, is its domain's own trouble, not that of those it
        // shares a site with.
        let is_shared = site.is_some_and(|site| matches!(table.target(site), Some(Target::Shared(_))));
        let unreachable = outcomes.iter().any(|o| match &o.outcome {
            Outcome::Delayed(f) if is_shared && is_of_the_domain(f) => false,
            Outcome::Delayed(f) => {
                // What the table knows what to do about is the pacer's.
                f.measures.as_deref().is_none_or(Measures::is_empty)
                    && matches!(f.scope, Scope::Connection | Scope::Host | Scope::Source | Scope::Site)
                    && matches!(f.stage, Stage::Dns | Stage::Connect | Stage::Hello | Stage::Tls)
            }
            _ => false,
        });
        if unreachable {
            // A carrier that is down is passed over by its pump; the others of its set go on.
            if channel == Channel::Email {
                table.schedule.went_wrong(ticket, now.mono);
            }
        } else if !slower {
            table.schedule.went_well(ticket);
        }
    }
}

/// True of a trouble that other domains with the same hosts need not have.
fn is_of_the_domain(failure: &Failure) -> bool {
    failure.stage == Stage::Dns
        || (failure.stage == Stage::Tls && failure.reply.is_none() && failure.status.subject == 7)
}

/// The message that changes are about, and what is known of it.
#[derive(Debug)]
pub(super) struct About {
    pub(super) id: MessageId,
    /// The number of its entry.
    pub(super) number: u32,
    /// Where its accept record lies.
    pub(super) position: Position,
    /// Missing if it cannot be read back.
    pub(super) envelope: Option<Arc<Envelope>>,
    /// What its records held when they were read; missing if it is in memory.
    pub(super) known: Option<Detail>,
}

impl Table {
    fn site_work(&self, site: SiteId, now: Mono) -> Option<SiteWork> {
        let target = self.target(site)?.clone();
        let (wanted, slots_max) = (self.schedule.slots_wanted(site), self.schedule.slots_max(site));
        let unlocated = match &target {
            Target::Mail(MailHop::Mx(domain)) => !domain.is_literal() && !self.homes.is_known(domain.as_str(), now),
            Target::Mail(MailHop::Fixed(_)) | Target::Shared(_) | Target::Text(_) => false,
        };
        Some(SiteWork { site, target, unlocated, wanted, slots_max })
    }

    /// What a ticket that was just leased stands for, and the consignment if it is in memory. `None`, and the ticket back in
    /// its lane or gone, if it may not be carried now.
    fn lease(&mut self, ticket: Ticket, now: Now) -> Option<(Work, Option<Box<Consignment>>)> {
        let Some((number, entry)) = self.of_ticket(ticket) else {
            self.schedule.remove(ticket);
            return None;
        };
        let recipients = entry.consigned(ticket);
        let of = |recipient| entry.track(recipient);
        let attemptable = recipients.iter().all(|&r| of(r).is_some_and(|t| matches!(t.state(), State::Queued { .. })));
        if entry.moving || !attemptable || recipients.is_empty() {
            self.schedule.put_back(ticket, now.mono.plus(MOVE_TAKES), now.mono);
            return None;
        }
        let is_text = entry.channel == Channel::Sms;
        let first = recipients.first().copied().unwrap_or_default();
        let work = Work {
            id: entry.id,
            attempt: of(first).map_or(0, |t| u32::from(t.tally().attempts_made)) + 1,
            progress: self.parts.progress(number, first).cloned().map(Box::new),
            recipients,
        };
        if is_text {
            self.under_way.out(ticket);
        }
        let consignment = self.hot.find(number).map(|warm| {
            Box::new(Consignment {
                envelope: warm.detail.envelope.clone(),
                content: warm.content.clone(),
                recipients: work.recipients.clone(),
                attempt: work.attempt,
                progress: work.progress.as_deref().cloned(),
            })
        });
        Some((work, consignment))
    }
}
