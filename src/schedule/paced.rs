//! Sites whose limits are found out: what their [`Pacers`] say becomes what the site may do.

use std::sync::Arc;
use std::time::Duration;

use super::learnt::Learnt;
use super::pacer::{Step, Terms};
use super::pacers::{Pacers, Shares, Told};
use super::{Schedule, SiteId, Ticket, rouse};
use crate::clock::Mono;
use crate::model::RecipientOutcome;

impl Schedule {
    /// Gives a site pacers, or other terms to those it has. From then on its limits are theirs.
    pub fn pace(&mut self, site: SiteId, terms: Terms, now: Mono) {
        let Some(home) = self.sites.get_mut(&site) else { return };
        let pacer = match &mut home.pacer {
            Some(pacer) => {
                pacer.set(terms, now);
                pacer
            }
            none => none.insert(Box::new(Pacers::new(terms))),
        };
        home.limits = pacer.limits(now);
    }

    /// Tells the pacers of a leased ticket's site what the answers to it were; what they have done about them.
    pub fn heard(&mut self, ticket: Ticket, outcomes: &[RecipientOutcome], now: Mono) -> Option<(SiteId, Vec<Told>)> {
        let lane = self.lanes.at_mut(self.tickets.slab.at(self.tickets.slab.find(ticket)?).lane)?;
        let site = lane.site;
        if self.sites.get(&site)?.pacer.is_some() {
            lane.counts.count(outcomes);
        }
        self.tell(site, outcomes, now)
    }

    /// The same of answers for which other sources were tried: they say something of the source, and nothing became of the
    /// mail yet.
    pub fn blamed(&mut self, ticket: Ticket, answers: &[RecipientOutcome], now: Mono) -> Option<(SiteId, Vec<Told>)> {
        let site = self.site_of_ticket(ticket)?;
        self.tell(site, answers, now)
    }

    fn tell(&mut self, site: SiteId, outcomes: &[RecipientOutcome], now: Mono) -> Option<(SiteId, Vec<Told>)> {
        let home = self.sites.get_mut(&site)?;
        let busy = home.has_too_few_slots();
        let pacer = home.pacer.as_mut()?;
        let told = pacer.heard(outcomes, busy, now);
        home.limits = pacer.limits(now);
        let suspends = told.iter().any(|told| matches!(told.step, Step::Suspended { .. }));
        if let Some((until, _)) = pacer.suspended(now).filter(|_| suspends) {
            home.suspend(until);
            self.suspended.insert((until, site));
        }
        rouse(site, home, &mut self.roused);
        (!told.is_empty()).then_some((site, told))
    }

    /// What each source may do at a site to which several send.
    pub fn shares(&self, site: SiteId) -> Option<&Arc<Shares>> {
        self.pacer(site)?.shares()
    }

    /// What the pacers have found out that a start would not know, by the names of their sites.
    pub fn learnt(&self, now: Mono) -> Vec<(Arc<str>, Vec<Learnt>)> {
        let of = |site: &super::Site| (site.name.clone(), site.pacer.as_ref().map_or_else(Vec::new, |p| p.learnt(now)));
        self.sites.values().map(of).filter(|(_, learnt)| !learnt.is_empty()).collect()
    }

    /// A site begins with what it once learnt.
    pub fn recall(&mut self, site: SiteId, learnt: Vec<Learnt>, now: Mono) {
        let Some(home) = self.sites.get_mut(&site) else { return };
        let Some(pacer) = &mut home.pacer else { return };
        pacer.recall(learnt, now);
        home.limits = pacer.limits(now);
        if let Some((until, _)) = pacer.suspended(now) {
            home.suspend(until);
            self.suspended.insert((until, site));
        }
        rouse(site, home, &mut self.roused);
    }

    /// The pacers of a site.
    pub fn pacer(&self, site: SiteId) -> Option<&Pacers> {
        self.sites.get(&site)?.pacer.as_deref()
    }

    /// Sites with pacers.
    pub fn pacers(&self) -> impl Iterator<Item = (SiteId, &Pacers)> {
        self.sites.iter().filter_map(|(id, site)| Some((*id, site.pacer.as_deref()?)))
    }

    /// How long a new connection to the site has to wait.
    pub fn connection_wait(&self, site: SiteId, now: Mono) -> Duration {
        self.pacer(site).map_or(Duration::ZERO, |pacer| pacer.connection_wait(now))
    }

    /// A new connection to the site has been made.
    pub fn connected(&mut self, site: SiteId, now: Mono) {
        let pacer = self.sites.get_mut(&site).and_then(|home| home.pacer.as_mut());
        pacer.into_iter().for_each(|pacer| pacer.connected(now));
    }
}
