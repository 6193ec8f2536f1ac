//! Sites whose limits are found out: what a [`Pacer`] says becomes what the site may do.

use std::time::Duration;

use super::pacer::{Pacer, Step, Terms};
use super::{Schedule, SiteId, Ticket, rouse};
use crate::clock::Mono;
use crate::model::RecipientOutcome;

impl Schedule {
    /// Gives a site a pacer, or other terms to the one it has. From then on its limits are the pacer's.
    pub fn pace(&mut self, site: SiteId, terms: Terms, now: Mono) {
        let Some(home) = self.sites.get_mut(&site) else { return };
        let pacer = match &mut home.pacer {
            Some(pacer) => {
                pacer.set(terms);
                pacer
            }
            none => none.insert(Box::new(Pacer::new(terms))),
        };
        home.limits = pacer.limits(now);
    }

    /// Tells the pacer of a leased ticket's site what the answers to it were; what it has done about them.
    pub fn heard(&mut self, ticket: Ticket, outcomes: &[RecipientOutcome], now: Mono) -> Option<(SiteId, Step)> {
        let lane = self.lanes.at_mut(self.tickets.slab.at(self.tickets.slab.find(ticket)?).lane)?;
        let site = lane.site;
        let home = self.sites.get_mut(&site)?;
        if home.pacer.is_some() {
            lane.counts.count(outcomes);
        }
        let busy = home.has_too_few_slots();
        let pacer = home.pacer.as_mut()?;
        let step = pacer.heard(outcomes, busy, now);
        home.limits = pacer.limits(now);
        if let Some(until) = pacer.suspended_until(now).filter(|_| matches!(step, Some(Step::Suspended { .. }))) {
            home.suspend(until);
            self.suspended.insert((until, site));
        }
        rouse(site, home, &mut self.roused);
        step.map(|step| (site, step))
    }

    /// The pacer of a site.
    pub fn pacer(&self, site: SiteId) -> Option<&Pacer> {
        self.sites.get(&site)?.pacer.as_deref()
    }

    /// Sites with a pacer.
    pub fn pacers(&self) -> impl Iterator<Item = (SiteId, &Pacer)> {
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
