//! Which lane a recipient waits in, and the way in and out of it.

use std::sync::Arc;

use super::learnt::Remembered;
use super::life::State;
use super::table::{Now, Table, cost_of};
use super::{MailSite, Options, Target};
use crate::clock::{Mono, Timestamp};
use crate::model::{Channel, Class, ClientName, Domain, Number, RecipientIndex};
use crate::provider::ANY;
use crate::route::{Course, MailHop, Routes};
use crate::schedule::{Apart, LaneId, LaneKey, SiteId, SiteLimits, Terms, Ticket};

impl Table {
    /// Groups queued recipients that have no ticket by lane, one for each group; those who wait for a receipt get one each.
    pub(super) fn consign(
        &mut self,
        number: u32,
        destinations: &[Arc<str>],
        routes: &Routes,
        options: &Options,
        now: Now,
    ) {
        let Some(entry) = self.entry(number) else { return };
        let (cost, expires) = (cost_of(entry), now.mono_at(entry.expires_at));
        let (channel, class) = (entry.channel, entry.class);
        let client = self.clients.name(entry.client);
        let apart = self.rules.apart(entry.campaign).cloned();
        let mut queued: Vec<(RecipientIndex, Timestamp, u64)> = Vec::with_capacity(1);
        let mut sent: Vec<(RecipientIndex, Timestamp)> = Vec::new();
        for (recipient, track) in entry.numbered().filter(|(_, track)| track.ticket.is_none()) {
            match track.state() {
                State::Queued { due } => queued.push((recipient, due, track.address)),
                State::Sent { at } => sent.push((recipient, at)),
                State::Begun { .. } | State::Ended { .. } => {}
            }
        }
        let mut groups: Vec<(LaneId, Timestamp, Vec<RecipientIndex>)> = Vec::with_capacity(1);
        for (recipient, due, address) in queued {
            let domain = destinations.get(recipient as usize).map_or("", |d| &**d);
            let to = Destination::new(channel, domain, address);
            let lane = self.lane_to(&to, class, &client, apart.as_ref(), routes, options, now.mono);
            let room = options.recipients_per_consignment_max.max(1);
            match groups.iter_mut().find(|(l, d, group)| *l == lane && *d == due && group.len() < room) {
                Some((_, _, group)) => group.push(recipient),
                None => groups.push((lane, due, vec![recipient])),
            }
        }
        for (lane, due, recipients) in groups {
            let ticket = self.schedule.add(lane, cost, number, now.mono_at(due), expires, now.mono);
            self.give(number, &recipients, Some(ticket));
        }
        for (recipient, at) in sent {
            let until = self.awaits_until(number, recipient, at, (routes, options), now.wall);
            let ticket = self.schedule.add_parked(number, now.mono_at(until), now.mono);
            self.give(number, &[recipient], Some(ticket));
        }
    }

    fn give(&mut self, number: u32, recipients: &[RecipientIndex], ticket: Option<Ticket>) {
        let Some(entry) = self.entry_mut(number) else { return };
        for &recipient in recipients {
            entry.track_mut(recipient).into_iter().for_each(|track| track.ticket = ticket);
        }
    }

    /// The lane to a destination, made with its site if they are new. A campaign that rules name has lanes of its own.
    #[allow(clippy::too_many_arguments, reason = "what a lane is, and what says where it lies")]
    fn lane_to(
        &mut self,
        to: &Destination<'_>,
        class: Class,
        client: &ClientName,
        apart: Option<&Arc<str>>,
        routes: &Routes,
        options: &Options,
        now: Mono,
    ) -> LaneId {
        let (destination, target) = match to {
            Destination::Domain(domain) => (Arc::from(*domain), self.mail_target(mail_hop(domain, routes), now)),
            Destination::Number(number) => {
                let number = Number::of_digits(*number);
                let course = number.as_ref().and_then(|n| routes.text.course(n, class, client).cloned());
                let course = course.unwrap_or_else(|| Arc::new(Course::nowhere()));
                // What waits for its hours must not stand in front of what need not.
                let hours = number.and_then(|n| routes.text.hours(&n, class));
                let destination = hours.map_or_else(|| course.to_string(), |hours| format!("{course} within {hours}"));
                (Arc::from(destination), Target::Text(course))
            }
        };
        let key = LaneKey { destination, class, client: client.clone(), apart: apart.cloned().map(Apart::Campaign) };
        let target = self.destined(&key, target);
        let site = self.site_of(target, options, now);
        let (rules, targets) = (&self.rules, &self.targets);
        let held = || targets.get(&site).is_some_and(|target| rules.pause(&key, target).is_some());
        self.schedule.lane_held_if(&key, site, held)
    }

    /// Where a lane's messages go that by routes and MX would go to this target: elsewhere, if a rule says so.
    fn destined(&self, key: &LaneKey, target: Target) -> Target {
        match self.rules.reroute(key, &target) {
            Some((_, to)) => Target::Mail(MailHop::Fixed(to.clone())),
            None => target,
        }
    }

    fn site_of(&mut self, target: Target, options: &Options, now: Mono) -> SiteId {
        let terms = terms_of(&target, options);
        let concurrency = terms.as_ref().map_or(options.texts_under_way_max, |t| t.connections.start as usize);
        let site = self.schedule.site(&target.site_name(), SiteLimits { concurrency, pace: None });
        if let Some(terms) = terms.filter(|_| self.schedule.pacer(site).is_none()) {
            self.schedule.pace(site, terms, now);
            if let Some((_, learnt)) = self.remembered.remove(&target.site_name()) {
                self.schedule.recall(site, learnt, now);
            }
        }
        self.targets.entry(site).or_insert(target);
        site
    }

    /// What was learnt before the start: of the sites that have come up already, and of those that will.
    pub(super) fn remember(&mut self, mut learnt: Remembered, now: Mono) {
        let sites: Vec<SiteId> = self.targets.keys().copied().collect();
        for site in sites {
            let of_site = self.schedule.site_name(site).and_then(|name| learnt.remove(name));
            if let Some((_, of_site)) = of_site {
                self.schedule.recall(site, of_site, now);
            }
        }
        self.remembered = learnt;
    }

    /// Puts a lane where rules want it whose messages would by routes and MX go to this target, and holds it if one says so.
    fn settle_lane(&mut self, lane: LaneId, key: &LaneKey, target: Target, options: &Options, now: Mono) {
        let target = self.destined(key, target);
        let held = self.rules.pause(key, &target).is_some();
        let site = self.site_of(target, options, now);
        self.schedule.rehome(lane, site);
        self.schedule.hold_lane(lane, held);
    }

    /// Puts every lane where routes, MX and rules want it.
    pub(super) fn settle_lanes(&mut self, routes: &Routes, options: &Options, now: Now) {
        for (lane, key, site) in self.schedule.lanes() {
            let target = match self.channel_of(site) {
                Channel::Email => self.natural_target(&key, routes, now.mono),
                Channel::Sms => self.target(site).cloned(),
            };
            if let Some(target) = target {
                self.settle_lane(lane, &key, target, options, now.mono);
            }
        }
    }

    /// By routes and MX: where a mail lane's messages would go if no rule said otherwise.
    pub(super) fn natural_target(&self, key: &LaneKey, routes: &Routes, now: Mono) -> Option<Target> {
        let domain = Domain::parse(&key.destination).ok()?;
        Some(self.mail_target(routes.mail_hop(&domain), now))
    }

    /// What a site tolerates, or may be made to, has changed.
    fn set_terms(&mut self, site: SiteId, target: &Target, options: &Options, now: Mono) {
        match terms_of(target, options) {
            Some(terms) => self.schedule.pace(site, terms, now),
            None => self.schedule.limit(site, SiteLimits { concurrency: options.texts_under_way_max, pace: None }),
        }
    }

    /// What mail for this next hop is given out at: the site that its domain shares, if it is known to share one.
    fn mail_target(&self, hop: MailHop, now: Mono) -> Target {
        match &hop {
            MailHop::Mx(domain) => {
                self.homes.site(domain.as_str(), now).cloned().map_or(Target::Mail(hop), Target::Shared)
            }
            MailHop::Fixed(_) => Target::Mail(hop),
        }
    }

    /// Takes note of where a domain's mail goes, and moves there what waits for it.
    pub(super) fn learn_site(
        &mut self,
        domain: &Domain,
        site: Option<MailSite>,
        until: Mono,
        options: &Options,
        now: Mono,
    ) {
        self.homes.learn(domain.as_str(), site.clone(), until, now);
        let alone = self.site_of(Target::Mail(MailHop::Mx(domain.clone())), options, now);
        let Some(shared) = site.map(Target::Shared) else { return self.schedule.rouse(alone) };
        let to = self.site_of(shared.clone(), options, now);
        // It may be known by that name with what it tolerated before.
        self.set_terms(to, &shared, options, now);
        self.targets.insert(to, shared.clone());
        for lane in self.schedule.lanes_to(domain.as_str(), alone) {
            let Some(key) = self.schedule.key(lane).cloned() else { continue };
            self.settle_lane(lane, &key, shared.clone(), options, now);
        }
    }

    /// Puts back a text that was given out when none of its class may be sent to its number; the lane, all of which is as
    /// it is, rests until then.
    pub(super) fn keeps_hours(&mut self, ticket: Ticket, routes: &Routes, now: Now) -> Option<Resting> {
        let (_, entry) = self.of_ticket(ticket).filter(|(_, entry)| entry.channel == Channel::Sms)?;
        let address = entry.tracks().find(|t| t.ticket == Some(ticket))?.address;
        let number = Number::of_digits(address)?;
        let hours = routes.text.hours(&number, entry.class)?;
        let until = hours.closed_until(now.wall)?;
        let lane = self.schedule.lane_of(ticket)?;
        let why = Arc::from(format!("texts of this class leave at {hours} only (rule {HOURS_RULE})"));
        self.schedule.put_back(ticket, now.mono, now.mono);
        self.schedule.rest_lane(lane, now.mono_at(until), &why);
        Some(Resting { lane, until, why })
    }

    /// Lets a lane go on, and its site, whatever they were to wait for.
    pub(super) fn resume(&mut self, lane: LaneId) {
        self.schedule.resume(lane);
        if let (Some(site), Some(key)) = (self.schedule.site_of(lane), self.schedule.key(lane))
            && let Some(whose) = &key.apart
        {
            self.brakes.lift(site, &key.client, whose);
        }
    }

    /// Where what a ticket stands for goes.
    pub(super) fn target_of(&self, ticket: Ticket, site: SiteId, routes: &Routes) -> Option<Target> {
        let target = self.target(site)?;
        if !matches!(target, Target::Shared(_)) {
            return Some(target.clone());
        }
        let domain = self.destination(Some(ticket))?;
        Some(Target::Mail(mail_hop(&domain, routes)))
    }

    /// Gives every site the limits in force, and puts what waits into the lanes that the routes now say: mail a lane at a
    /// time, texts one by one, for which carriers serve them is a matter of each number.
    pub(super) fn reroute(&mut self, routes: &Routes, options: &Options, now: Now) {
        // What sites tolerate may have changed: to be looked up anew.
        self.homes.clear();
        for (site, target) in self.targets.clone() {
            self.set_terms(site, &target, options, now.mono);
        }
        self.settle_lanes(routes, options, now);
        let lanes = self.schedule.lanes().into_iter();
        for (lane, ..) in lanes.filter(|(_, _, site)| self.channel_of(*site) == Channel::Sms).collect::<Vec<_>>() {
            for ticket in self.schedule.tickets_of(lane) {
                self.place_anew(ticket, routes, options, now.mono);
            }
        }
    }

    /// Puts a ticket that is in a lane and not leased into the one that routes and rules now say.
    pub(super) fn place_anew(&mut self, ticket: Ticket, routes: &Routes, options: &Options, now: Mono) {
        if let Some(lane) = self.schedule.lane_of(ticket).filter(|_| !self.schedule.is_leased(ticket)) {
            let due = self.schedule.due(ticket).unwrap_or(now);
            self.place(ticket, Some(lane), due, routes, options, now);
        }
    }

    /// Puts a ticket into the lane that routes and rules now say. They may have changed since it was in one; a text that waited
    /// for its receipt is in none.
    fn place(&mut self, ticket: Ticket, was: Option<LaneId>, due: Mono, routes: &Routes, options: &Options, now: Mono) {
        let Some((_, entry)) = self.of_ticket(ticket) else { return };
        let (class, cost) = (entry.class, cost_of(entry));
        let address = entry.tracks().find(|t| t.ticket == Some(ticket)).map_or(0, |t| t.address);
        let (channel, client) = (entry.channel, self.clients.name(entry.client));
        let apart = self.rules.apart(entry.campaign).cloned();
        let lane = match (channel, was.and_then(|was| Some((was, self.schedule.key(was)?)))) {
            // A whole lane is moved when its site changes. What was told apart for another reason stays where it is.
            (Channel::Email, Some((was, key))) if apart.is_none() || key.campaign() == apart.as_ref() => was,
            (Channel::Email, key) => {
                let key = key.map(|(_, key)| key);
                let domain = key.map_or_else(|| Arc::from(""), |key| key.destination.clone());
                let to = Destination::Domain(&domain);
                self.lane_to(&to, class, &client, apart.as_ref(), routes, options, now)
            }
            (Channel::Sms, _) => {
                let to = Destination::Number(address);
                self.lane_to(&to, class, &client, apart.as_ref(), routes, options, now)
            }
        };
        self.schedule.put(ticket, lane, cost, due, now);
    }

    /// Gives a leased ticket back after its changes have been applied: recipients that are still queued wait for their
    /// next time, those who are sent to wait for their receipt, the others leave it.
    pub(super) fn give_back(&mut self, ticket: Ticket, routes: &Routes, options: &Options, now: Now) {
        self.under_way.back(ticket);
        let Some((number, entry)) = self.of_ticket(ticket) else { return };
        let (is_text, expires_at) = (entry.channel == Channel::Sms, entry.expires_at);
        let (mut due, mut sent, mut gone) = (None::<Timestamp>, None, Vec::new());
        for recipient in entry.consigned(ticket) {
            match entry.track(recipient).map(super::entry::Track::state) {
                Some(State::Queued { due: then }) => due = Some(due.map_or(then, |earlier| earlier.min(then))),
                // Each text has a ticket of its own.
                Some(State::Sent { at }) => sent = Some((recipient, at)),
                _ => gone.push(recipient),
            }
        }
        self.give(number, &gone, None);
        let lane = self.schedule.lane_of(ticket);
        match (due, sent) {
            (Some(due), _) if lane.is_some() || is_text => {
                // One that waited for a receipt may have been made without an expiry.
                if lane.is_none() {
                    self.schedule.expire_at(ticket, now.mono_at(expires_at), now.mono);
                }
                self.place(ticket, lane, now.mono_at(due), routes, options, now.mono);
            }
            (_, Some((recipient, at))) => {
                let until = self.awaits_until(number, recipient, at, (routes, options), now.wall);
                self.schedule.park(ticket, now.mono_at(until), now.mono);
            }
            _ => {
                self.schedule.remove(ticket);
            }
        }
        self.let_go(number);
    }

    /// The channel a site's messages travel by.
    pub(super) fn channel_of(&self, site: SiteId) -> Channel {
        match self.targets.get(&site) {
            Some(Target::Text(_)) => Channel::Sms,
            Some(Target::Mail(_) | Target::Shared(_)) | None => Channel::Email,
        }
    }

    /// Where a site's messages go.
    pub(super) fn target(&self, site: SiteId) -> Option<&Target> {
        self.targets.get(&site)
    }

    /// True while a text is out for delivery that this carrier may be carrying.
    pub(super) fn may_be_carrying(&self, carrier: &str) -> bool {
        self.targets.iter().any(|(&site, target)| match target {
            Target::Text(course) => course.leads_to(carrier) && self.schedule.leases(site) > 0,
            Target::Mail(_) | Target::Shared(_) => false,
        })
    }

    /// The written name of the lane that a recipient is in.
    pub(super) fn lane_name(&self, number: u32, recipient: RecipientIndex) -> Option<Arc<str>> {
        let ticket = self.entry(number)?.track(recipient)?.ticket?;
        self.schedule.lane_name(self.schedule.lane_of(ticket)?).cloned()
    }

    /// The domain of the lane that a recipient is in, as a summary keeps it.
    pub(super) fn destination(&self, ticket: Option<Ticket>) -> Option<Arc<str>> {
        Some(self.schedule.key(self.schedule.lane_of(ticket?)?)?.destination.clone())
    }
}

/// The rule by which texts wait for their hours, as events and people call it.
pub(super) const HOURS_RULE: &str = "sending-hours";

/// A lane whose hours are over.
pub(super) struct Resting {
    pub(super) lane: LaneId,
    pub(super) until: Timestamp,
    pub(super) why: Arc<str>,
}

/// Whom a consignment goes to, as far as lanes care.
enum Destination<'a> {
    /// A mail domain.
    Domain(&'a str),
    /// A number's digits.
    Number(u64),
}

impl<'a> Destination<'a> {
    fn new(channel: Channel, domain: &'a str, address: u64) -> Self {
        match channel {
            Channel::Email => Self::Domain(domain),
            Channel::Sms => Self::Number(address),
        }
    }
}

/// The next hop for a domain as a record spells it: it was one when the record was written.
fn mail_hop(domain: &str, routes: &Routes) -> MailHop {
    Domain::parse(domain).map_or_else(|_| MailHop::Fixed("".into()), |d| routes.mail_hop(&d))
}

/// With what a site of mail starts, and how far its pacer may go. Carriers have a pace of their own.
fn terms_of(target: &Target, options: &Options) -> Option<Terms> {
    match target {
        Target::Mail(MailHop::Mx(_)) => Some(options.pace.terms(ANY, &options.pace.anybody)),
        Target::Mail(MailHop::Fixed(_)) => Some(options.pace.fixed()),
        Target::Shared(site) => Some(options.pace.terms(&site.provider, &site.limits)),
        Target::Text(_) => None,
    }
}
