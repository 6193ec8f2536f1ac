//! What the pacers of mail sites are told, and what is told of them: to connections, to people, to metrics and events.

use std::time::Duration;

use super::Queue;
use super::brakes::{Held, PutOn};
use super::table::{Now, Table, cost_of};
use crate::event::{Fact, Kind, RuleFact};
use crate::model::{Channel, Envelope, Outcome, RecipientOutcome};
use crate::provider::ANY;
use crate::schedule::{
    Apart, By, Cause, InForce, LaneKey, Pacers, SiteId, SiteLimits, Step, Swept, Terms, Ticket, Told,
};

/// What holds for a new connection to a site.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ConnectionTerms {
    /// Not before this span has passed.
    pub wait: Duration,
    /// How many there may be.
    pub slots: usize,
    /// Mails over it, if there is a limit.
    pub messages_max: Option<u32>,
    /// How long it may stay open without work, if anybody says so.
    pub idle: Option<Duration>,
}

/// After this time a lane whose sources may send nothing is tried again, whatever was said.
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(900);
/// Sources of a site whose limits are told one by one.
const SOURCES_SHOWN: usize = 4;
/// What the source is called that the system chooses.
const SYSTEM: &str = "system";
/// How often the shares of deferrals and bounces are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

impl Queue {
    /// What holds for one more connection to a site.
    pub fn connection_terms(&self, site: SiteId) -> ConnectionTerms {
        let now = self.now().mono;
        let table = self.shared.table.lock();
        let pacer = table.schedule.pacer(site);
        ConnectionTerms {
            wait: table.schedule.connection_wait(site, now),
            slots: table.schedule.slots_max(site),
            messages_max: pacer.and_then(Pacers::messages_per_connection),
            idle: pacer.and_then(|pacer| pacer.terms().idle),
        }
    }

    /// So many connections to a site have been tried.
    pub fn connected(&self, site: SiteId, connections: u32) {
        let now = self.now().mono;
        let mut table = self.shared.table.lock();
        (0..connections).for_each(|_| table.schedule.connected(site, now));
    }

    /// How many connections a site may use now.
    pub fn slots_max(&self, site: SiteId) -> usize {
        self.shared.table.lock().schedule.slots_max(site)
    }

    /// Tells a site's pacers of the answers to a consignment. True if one has become slower.
    pub(super) fn pace(&self, table: &mut Table, ticket: Ticket, outcomes: &[RecipientOutcome], now: Now) -> bool {
        let Some((site, told)) = table.schedule.heard(ticket, outcomes, now.mono) else { return false };
        told.iter().for_each(|told| self.tell_step(table, site, told, now));
        true
    }

    /// Tells a site's pacers of answers for which other sources were tried.
    pub(super) fn blame(&self, ticket: Ticket, answers: &[RecipientOutcome]) {
        let now = self.now();
        let mut table = self.shared.table.lock();
        if let Some((site, told)) = table.schedule.blamed(ticket, answers, now.mono) {
            told.iter().for_each(|told| self.tell_step(&table, site, told, now));
        }
    }

    /// Puts brakes on what the answers to a mail blame on its campaign or its sender's domain.
    pub(super) fn brake(
        &self,
        table: &mut Table,
        site: SiteId,
        envelope: &Envelope,
        outcomes: &[RecipientOutcome],
        now: Now,
    ) {
        let enough = self.shared.options.load().pace.blamed;
        for PutOn { whose, until, rule, fix, why } in table.brakes.hear(site, envelope, outcomes, enough, now.mono) {
            let (name, until) = (table.schedule.site_name(site).cloned(), now.wall_at(until));
            let client = &envelope.client;
            tracing::warn!(site = name.as_deref(), %client, %whose, %until, %why, "some of a client's mail to a site is slowed down");
            let mut fact = Fact::new(now.wall, Kind::Paused, Channel::Email);
            (fact.site, fact.client, fact.next_attempt) = (name, Some(client.clone()), Some(until));
            if let Apart::Campaign(name) = whose {
                fact.campaign = Some(name);
            }
            fact.rule = Some(RuleFact { id: rule.id, class: rule.class });
            fact.reason = Some(fix.map_or_else(|| why.to_string(), |fix| format!("{why}: {fix}")));
            self.shared.events.record(fact);
            self.count_step(table, Some(site), "lane");
        }
    }

    /// May a leased mail be carried now, as far as brakes go? If not its lease is given back: it waits in a lane of its campaign
    /// or its sender's domain, which rests until the next of them may go.
    pub(super) fn may_go(&self, ticket: Ticket, envelope: &Envelope) -> bool {
        let now = self.now();
        let mut table = self.shared.table.lock();
        let table = &mut *table;
        let Some(lane) = table.schedule.lane_of(ticket) else { return true };
        let (Some(site), Some(key)) = (table.schedule.site_of(lane), table.schedule.key(lane).cloned()) else {
            return true;
        };
        let Err(Held { whose, until, why }) = table.brakes.ask(site, envelope, now.mono) else { return true };
        let cost = table.of_ticket(ticket).map_or(1, |(_, entry)| cost_of(entry));
        match &key.apart {
            Some(apart) if *apart != whose => {
                // Others travel with it that nobody has complained of.
                table.schedule.put(ticket, lane, cost, until, now.mono);
            }
            _ => {
                let key = LaneKey { apart: Some(whose), ..key };
                let (rules, targets) = (&table.rules, &table.targets);
                let held = || targets.get(&site).is_some_and(|target| rules.pause(&key, target).is_some());
                let lane = table.schedule.lane_held_if(&key, site, held);
                table.schedule.put(ticket, lane, cost, now.mono, now.mono);
                table.schedule.rest_lane(lane, until, &why);
            }
        }
        self.shared.metrics.leased.dec();
        false
    }

    /// A lane whose sources may send nothing now rests, so that not each of its mails finds that out. It is looked at again
    /// before they may: somebody may have given it others.
    pub(super) fn hold_for_sources(&self, table: &mut Table, ticket: Ticket, outcomes: &[RecipientOutcome], now: Now) {
        let waits = outcomes.iter().find_map(|o| match &o.outcome {
            Outcome::Delayed(f) => Some((f.lane_waits()?, f.cause.as_deref().unwrap_or_default())),
            Outcome::Relayed(_) | Outcome::Failed(_) => None,
        });
        if let (Some((span, why)), Some(lane)) = (waits, table.schedule.lane_of(ticket)) {
            table.schedule.rest_lane(lane, now.mono.plus(span.min(LOOKED_AT_AGAIN)), &why.into());
        }
    }

    fn count_step(&self, table: &Table, site: Option<SiteId>, step: &str) {
        let pacer = site.and_then(|site| table.schedule.pacer(site));
        let provider = pacer.map_or(ANY, |pacer| &*pacer.terms().provider);
        self.shared.metrics.pace_steps.with_label_values(&[provider, step]).inc();
    }

    /// Looks at the shares of deferrals and bounces, once a minute.
    pub(super) fn judge_shares(&self) {
        let (now, shares) = (self.now(), self.shared.options.load().pace.shares);
        let mut table = self.shared.table.lock();
        if now.mono.since(table.swept) < SWEEP_EVERY {
            return;
        }
        table.swept = now.mono;
        table.brakes.forget(now.mono);
        for swept in table.schedule.sweep(&shares, now.mono) {
            match swept {
                Swept::Site(site, told) => self.tell_step(&table, site, &told, now),
                Swept::Client { site, client, until, why } => {
                    let name = table.schedule.site_name(site).cloned();
                    let until = now.wall_at(until);
                    tracing::warn!(site = name.as_deref(), %client, %until, %why, "a client's mail to a site is on hold");
                    let mut fact = Fact::new(now.wall, Kind::Paused, Channel::Email);
                    (fact.site, fact.client, fact.next_attempt) = (name, Some(client), Some(until));
                    fact.reason = Some(why.to_string());
                    self.shared.events.record(fact);
                    self.count_step(&table, Some(site), "lane");
                }
            }
        }
    }

    /// Counts and tells what a pacer has done.
    pub(super) fn tell_step(&self, table: &Table, site: SiteId, told: &Told, now: Now) {
        let Told { source, step } = told;
        let name = table.schedule.site_name(site).map_or("", |name| &**name);
        let (word, cause) = match step {
            Step::Eased(cause) => ("eased", cause),
            Step::Slowed(cause) => ("slowed", cause),
            Step::Suspended { fix: None, cause, .. } => ("suspended", cause),
            Step::Suspended { fix: Some(_), cause, .. } => ("repair", cause),
        };
        self.count_step(table, Some(site), word);
        let Step::Suspended { until, fix, .. } = step else {
            tracing::info!(site = name, source = source.as_deref(), step = word, %cause, "a site is sent less");
            return;
        };
        let until = now.wall_at(*until);
        let from = source.as_deref();
        tracing::warn!(site = name, source = from, step = word, %cause, %until, fix, "nothing is sent to a site for a while");
        let mut fact = Fact::new(now.wall, Kind::Paused, Channel::Email);
        fact.site = Some(name.into());
        fact.source = source.clone();
        fact.next_attempt = Some(until);
        fact.rule = match cause {
            Cause::Rule(rule) => Some(RuleFact { id: rule.id.clone(), class: rule.class.clone() }),
            Cause::Unknown | Cause::Deferrals => None,
        };
        fact.reason = Some(fix.clone().unwrap_or_else(|| cause.to_string()));
        self.shared.events.record(fact);
    }

    /// Sets the gauges of those providers that the table names.
    pub(super) fn show_pace(&self) {
        let now = self.now().mono;
        let table = self.shared.table.lock();
        for (_, pacer) in table.schedule.pacers().filter(|(_, pacer)| *pacer.terms().provider != *ANY) {
            let (label, limits) = ([&*pacer.terms().provider], pacer.limits(now));
            let metrics = &self.shared.metrics;
            metrics.provider_connections.with_label_values(&label).set(limits.concurrency as i64);
            let a_minute = limits.pace.map_or(0, |pace| (60.0 * pace.per_second).round() as i64);
            metrics.provider_messages.with_label_values(&label).set(a_minute);
            metrics.provider_suspended.with_label_values(&label).set(i64::from(pacer.suspended(now).is_some()));
        }
    }
}

impl Table {
    /// The limits in force at a site of mail, and where they come from, in a sentence.
    pub(super) fn limit(&self, site: SiteId, now: Now) -> Option<String> {
        let pacers = self.schedule.pacer(site)?;
        let in_force = pacers.in_force(now.mono);
        if let [(_, alone)] = &*in_force {
            return Some(sentence(pacers.terms(), alone, now));
        }
        let SiteLimits { concurrency, pace } = pacers.limits(now.mono);
        let rate = pace.map_or_else(String::new, |pace| format!(", {}", rate_in_words(pace.per_second)));
        let of_each = in_force.iter().take(SOURCES_SHOWN).map(|(source, limits)| {
            let name = source.as_deref().unwrap_or(SYSTEM);
            format!("from {name} {}", sentence(pacers.terms(), limits, now))
        });
        let mut words: Vec<String> = of_each.collect();
        words.extend(in_force.len().checked_sub(SOURCES_SHOWN + 1).map(|more| format!("and {} more", more + 1)));
        let all = format!("{concurrency} connections{rate} from {} sources", in_force.len());
        Some(format!("{all}: {}", words.join("; ")))
    }

    /// Why nothing goes to a site, if a pacer says so.
    pub(super) fn suspended_by(&self, site: SiteId, now: Now) -> Option<String> {
        let (until, cause) = self.schedule.pacer(site)?.suspended(now.mono)?;
        Some(format!("the end of its site's suspension at {}, by {cause}", now.wall_at(until).rfc3339()))
    }
}

/// `5 connections, 100/s, 50 mails each: as the provider table says for gmail`.
fn sentence(terms: &Terms, limits: &InForce, now: Now) -> String {
    let mut out = match limits.connections {
        1 => "1 connection".to_owned(),
        more => format!("{more} connections"),
    };
    if let Some(rate) = limits.per_second {
        out.push_str(&format!(", {}", rate_in_words(rate)));
    }
    if let (Some(most), by) = &limits.messages_per_connection {
        let by = by.as_ref().map(|cause| format!(" by {cause}")).unwrap_or_default();
        out.push_str(&format!(", {most} mails each{by}"));
    }
    let start = match (terms.by, &*terms.provider) {
        (By::Administrator, _) => "the configuration".to_owned(),
        (By::Table, provider) => format!("the provider table for {provider}"),
    };
    let at = |then| now.wall_at(then).rfc3339();
    let mut why: Vec<String> = Vec::new();
    why.extend(limits.suspended.iter().map(|(until, cause)| format!("suspended until {} by {cause}", at(*until))));
    why.extend(
        limits.held.iter().flatten().map(|held| format!("held down until {} by {}", at(held.until), held.cause)),
    );
    if let (true, Some((then, cause))) = (why.is_empty(), &limits.eased) {
        let ago = now.mono.since(*then).as_secs();
        why.push(format!("eased {ago} s ago by {cause}; the pacer feels its way up from there"));
    } else if why.is_empty() && limits.grown {
        why.push("the pacer has gone up while answers were good".to_owned());
    }
    if why.is_empty() {
        return format!("{out}: as {start} says");
    }
    format!("{out}: {}; a start is made as {start} says", why.join("; "))
}

/// `20/s`, `10/m`, `2/h`: the unit in which it is a number to remember.
fn rate_in_words(per_second: f64) -> String {
    let (rate, unit) = [(1.0, "s"), (60.0, "m"), (3_600.0, "h")]
        .map(|(seconds, unit)| (per_second * seconds, unit))
        .into_iter()
        .find(|(rate, _)| *rate >= 0.995)
        .unwrap_or((per_second * 86_400.0, "d"));
    let rounded = if rate < 10.0 { (rate * 10.0).round() / 10.0 } else { rate.round() };
    format!("{rounded}/{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_to_remember() {
        let shown = [100.0, 1.25, 10.0 / 60.0, 2.0 / 3_600.0, 1.0].map(rate_in_words);
        assert_eq!(shown, ["100/s", "1.3/s", "10/m", "2/h", "1/s"]);
    }
}
