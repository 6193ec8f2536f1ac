//! From a free slot to a settled outcome: what `dispatch` asks of the queue, and what a [`Lease`] asks on its behalf.

use std::sync::Arc;
use std::time::Duration;

use super::accept::Newcomer;
use super::life::{Change, State};
use super::table::{Now, Table, cost_of};
use super::{Lease, LoadError, Queue, Target, change_record, lease, record, settle};
use crate::model::{
    Channel, Class, Consignment, Content, Envelope, MessageId, Outcome, RecipientIndex, RecipientOutcome, Scope, Stage,
    Submission, TextProgress,
};
use crate::schedule::{Pulled, SiteId, Ticket};
use crate::storage::{AppendError, Durable, Position, Record};

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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteWork {
    /// The site.
    pub site: SiteId,
    /// Where its messages go.
    pub target: Target,
    /// How many more slots it could use now.
    pub wanted: usize,
    /// How many it may ever use at a time.
    pub slots_max: usize,
}

impl Queue {
    /// A slot of `site` is free: what may use it?
    pub fn pull(&self, site: SiteId) -> Pull {
        let now = self.now();
        // What cannot be recorded must not be begun.
        if *self.shared.poisoned.borrow() {
            return Pull::Nothing;
        }
        let mut table = self.shared.table.lock();
        for _ in 0..PASSED_OVER_MAX {
            let ticket = match table.schedule.pull(site, now.mono) {
                Pulled::Ticket(ticket) => ticket,
                Pulled::NotBefore(then) => return Pull::Wait(then.since(now.mono)),
                Pulled::Busy => return Pull::Busy,
                Pulled::Nothing => return Pull::Nothing,
            };
            if let Some(consignment) = table.lease(ticket, now) {
                let Some(target) = table.target(site).cloned() else { return Pull::Nothing };
                self.shared.metrics.leased.inc();
                let state = lease::LeaseState::Taken;
                return Pull::Lease(Lease {
                    queue: self.clone(),
                    ticket,
                    target,
                    consignment: consignment.ready(),
                    state,
                });
            }
        }
        Pull::Wait(BREATHER)
    }

    /// Sites with something new to pull since the last call.
    pub fn roused(&self) -> Vec<SiteWork> {
        let mut table = self.shared.table.lock();
        let sites = table.schedule.roused();
        sites.into_iter().filter_map(|site| table.site_work(site)).collect()
    }

    /// What there is to do at a site; `None` if it is gone.
    pub fn site_work(&self, site: SiteId) -> Option<SiteWork> {
        self.shared.table.lock().site_work(site)
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

    pub(super) async fn load(&self, ticket: Ticket) -> Result<Consignment, LoadError> {
        let (mut consignment, position) =
            self.shared.table.lock().cold_consignment(ticket).ok_or(LoadError::Damaged)?;
        let stored = self.shared.log.read(position).await?;
        let channel = consignment.envelope.channel();
        consignment.content = Some(record::read_content(channel, stored.body.unwrap_or_default())?);
        consignment.ready().ok_or(LoadError::Damaged)
    }

    pub(super) fn consigned(&self, ticket: Ticket) -> Vec<RecipientIndex> {
        self.shared.table.lock().tickets.get(&ticket).map(|c| c.recipients.clone()).unwrap_or_default()
    }

    pub(super) async fn begin(&self, ticket: Ticket, progress: TextProgress) -> Result<Durable, AppendError> {
        let (id, position, recipient) = {
            let table = self.shared.table.lock();
            let consigned = table.tickets.get(&ticket).ok_or(AppendError::Closed)?;
            let entry = table.entries.get(&consigned.id).ok_or(AppendError::Closed)?;
            (consigned.id, entry.position, consigned.recipients.first().copied().unwrap_or_default())
        };
        let state = State::Begun { at: self.shared.clock.now() };
        let change = Change {
            recipient,
            state,
            attempt: None,
            counts: false,
            progress: Some(Box::new(progress)),
            receipt: None,
        };
        let record = change_record(id, position, std::slice::from_ref(&change));
        let appended = self.keep(vec![record]).await?;
        // In memory the recipient stays queued and leased: the outcome is what will count.
        Ok(appended.durable)
    }

    pub(super) fn return_unused(&self, ticket: Ticket, after_panic: bool) {
        self.shared.metrics.leased.dec();
        let now = self.now();
        let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
        let mut table = self.shared.table.lock();
        table.give_back(ticket, &routes, &options, now);
        if after_panic {
            table.put_off(ticket, PANIC_PAUSE, now);
        }
        drop(table);
        self.shared.work.notify_one();
    }

    pub(super) async fn settle(self, ticket: Ticket, outcomes: Vec<RecipientOutcome>, follow_ups: Vec<Submission>) {
        self.note_health(ticket, &outcomes);
        let Ok(place) = self.shared.settling.clone().acquire_owned().await else { return };
        let Some((id, position, changes)) = self.changes_after(ticket, outcomes) else { return };
        let (group, newcomers) = self.group_of(id, position, &changes, follow_ups);
        tokio::spawn(async move {
            let appended = self.keep(group).await;
            match appended {
                Ok(appended) => self.settled(Some(ticket), id, changes, newcomers, &appended.positions),
                // The lease stays out: starting another attempt that could not be recorded either would only double it.
                Err(e) => tracing::error!(%id, error = %e, "an outcome could not be recorded"),
            }
            drop(place);
        });
    }

    /// The records of changes and of the messages that follow from them, one batch, and those messages as they will be kept.
    pub(super) fn group_of(
        &self,
        id: MessageId,
        position: Position,
        changes: &[Change],
        follow_ups: Vec<Submission>,
    ) -> (Vec<Record>, Vec<Newcomer>) {
        let options = self.shared.options.load();
        let newcomers: Vec<Newcomer> = follow_ups.into_iter().map(|s| Newcomer::new(s, &options)).collect();
        let mut group = vec![change_record(id, position, changes)];
        group.extend(newcomers.iter().map(Newcomer::record));
        (group, newcomers)
    }

    fn changes_after(
        &self,
        ticket: Ticket,
        outcomes: Vec<RecipientOutcome>,
    ) -> Option<(MessageId, Position, Vec<Change>)> {
        let options = self.shared.options.load();
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let consigned = table.tickets.get(&ticket)?;
        let entry = table.entries.get(&consigned.id)?;
        let is_text = entry.envelope.text().is_some();
        let retry = &options.retry[entry.envelope.class.index()];
        // One throw for the consignment, so that its recipients stay together.
        let chance = fastrand::f64();
        let changes = outcomes
            .into_iter()
            .filter(|o| consigned.recipients.contains(&o.recipient))
            .filter_map(|o| {
                let life = entry.lives.get(o.recipient as usize)?;
                let address = &entry.envelope.recipients.get(o.recipient as usize)?.address;
                let masked = (entry.envelope.class == Class::Otp).then(|| address.to_string());
                Some(settle::change_after(life, o, is_text, retry, masked.as_deref(), now, chance))
            })
            .collect();
        Some((consigned.id, entry.position, changes))
    }

    /// The outcomes are durable: applies them, takes in what follows from them, and tells.
    pub(super) fn settled(
        &self,
        ticket: Option<Ticket>,
        id: MessageId,
        changes: Vec<Change>,
        newcomers: Vec<Newcomer>,
        positions: &[Position],
    ) {
        let now = self.now();
        let options = self.shared.options.load();
        let released = {
            let mut table = self.shared.table.lock();
            let mut facts = self.facts(&table, id, &changes);
            let released = table.apply(id, changes, &options, now);
            match ticket {
                Some(ticket) => {
                    table.give_back(ticket, &self.shared.routes.load(), &options, now);
                    self.shared.metrics.leased.dec();
                }
                // What ends without a lease was marked; nothing may move it between its end and this.
                None => table.unmark(id),
            }
            for (newcomer, &position) in newcomers.into_iter().zip(positions.iter().skip(1)) {
                // What follows from an end is owed, whatever the quotas say.
                let (client, size) = (newcomer.envelope.client.clone(), newcomer.size);
                table.reserve_owed(&client, size);
                facts.extend(self.admit(&mut table, newcomer, position));
            }
            // Told before anybody can act on it, so that facts stand in the order in which they happened.
            facts.into_iter().for_each(|f| self.shared.events.record(f));
            released
        };
        released.inspect(|&position| self.shared.log.release(position));
        self.shared.work.notify_one();
    }

    /// What an attempt says about its destination.
    fn note_health(&self, ticket: Ticket, outcomes: &[RecipientOutcome]) {
        let now = self.now();
        let mut table = self.shared.table.lock();
        let lane = table.tickets.get(&ticket).map(|c| c.lane);
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
        let unreachable = outcomes.iter().any(|o| match &o.outcome {
            Outcome::Delayed(f) => {
                matches!(f.scope, Scope::Host | Scope::Site | Scope::Connection)
                    && matches!(f.stage, Stage::Dns | Stage::Connect | Stage::Hello | Stage::Tls)
            }
            _ => false,
        });
        if unreachable {
            // A carrier that is down is passed over by its pump; the others of its set go on.
            if channel == Channel::Email {
                table.schedule.went_wrong(ticket, now.mono);
            }
        } else {
            table.schedule.went_well(ticket);
        }
    }
}

/// Some syncs of the disk: after that a message that was being moved can be leased.
const MOVE_TAKES: Duration = Duration::from_millis(50);

/// A consignment whose content may still be on disk only.
struct Cold {
    envelope: Arc<Envelope>,
    content: Option<Content>,
    recipients: Vec<RecipientIndex>,
    attempt: u32,
    progress: Option<TextProgress>,
}

impl Cold {
    fn ready(self) -> Option<Consignment> {
        let Self { envelope, content, recipients, attempt, progress } = self;
        Some(Consignment { envelope, content: content?, recipients, attempt, progress })
    }
}

impl Table {
    fn site_work(&self, site: SiteId) -> Option<SiteWork> {
        let target = self.target(site)?.clone();
        let (wanted, slots_max) = (self.schedule.slots_wanted(site), self.schedule.slots_max(site));
        Some(SiteWork { site, target, wanted, slots_max })
    }

    /// What a ticket that was just leased stands for. `None`, and the ticket back in its lane or gone, if it may not be
    /// carried now.
    fn lease(&mut self, ticket: Ticket, now: Now) -> Option<Cold> {
        let Some((cold, _)) = self.cold_consignment(ticket) else {
            self.schedule.remove(ticket);
            return None;
        };
        let entry = self.entries.get(&cold.envelope.id)?;
        let attemptable = cold
            .recipients
            .iter()
            .all(|&r| entry.lives.get(r as usize).is_some_and(|l| lease::may_be_attempted(l.state)));
        if entry.envelope.expires_at.is_some_and(|at| at <= now.wall) {
            // The sweep will end it; nobody needs to meet it here again.
            self.schedule.remove(ticket);
            return None;
        }
        if entry.moving || !attemptable {
            let (lane, cost) = (self.tickets.get(&ticket)?.lane, cost_of(entry));
            self.schedule.put(ticket, lane, cost, now.mono.plus(MOVE_TAKES), now.mono);
            return None;
        }
        Some(cold)
    }

    fn cold_consignment(&self, ticket: Ticket) -> Option<(Cold, Position)> {
        let consigned = self.tickets.get(&ticket)?;
        let entry = self.entries.get(&consigned.id)?;
        let life = entry.lives.get(*consigned.recipients.first()? as usize)?;
        let cold = Cold {
            envelope: entry.envelope.clone(),
            content: entry.content.clone(),
            recipients: consigned.recipients.clone(),
            attempt: life.attempts_made + 1,
            progress: life.progress.as_deref().cloned(),
        };
        Some((cold, entry.position))
    }
}
