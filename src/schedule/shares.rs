//! Shares: of the mails that go to a site how many are deferred, and of those of one client how many bounce.
//!
//! **What.** Outcomes are counted in their lane and looked at once a minute ([`Schedule::sweep`]). Where too large a share is
//! deferred, the site's pacer goes down, whatever the replies said. Where too large a share of one client's mails bounces, its
//! lanes there are put on hold: somebody's list is bad, and the others pay for it. Codes are spared: an hour later they serve
//! nobody.
//!
//! **Promises.** Nothing is judged by fewer mails than [`Shares::volume`]; counts fade by half a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::pacers::Told;
use super::{LaneId, Schedule, SiteId};
use crate::clock::Mono;
use crate::model::{Class, ClientName, Outcome, RecipientOutcome};

/// Which shares are too much.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shares {
    /// Of deferrals at a site.
    pub deferred: f64,
    /// Of bounces of a client at a site.
    pub bounced: f64,
    /// How many recipients there must have been.
    pub volume: u32,
    /// For how long a client's lanes are put on hold.
    pub pause: Duration,
}

/// What a sweep has done.
#[derive(Clone, PartialEq, Debug)]
pub enum Swept {
    /// Too much was deferred at a site.
    Site(SiteId, Told),
    /// Too much of a client's mail bounced at a site.
    Client {
        /// The site.
        site: SiteId,
        /// Whose.
        client: ClientName,
        /// Until when its lanes there are on hold.
        until: Mono,
        /// Why, in a sentence.
        why: Arc<str>,
    },
}

/// Outcomes of late, one for each recipient.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counts {
    pub(super) all: u32,
    pub(super) deferred: u32,
    pub(super) bounced: u32,
}

impl Counts {
    pub(super) fn count(&mut self, outcomes: &[RecipientOutcome]) {
        // What nobody was asked says nothing of the site.
        let ours = |o: &&RecipientOutcome| matches!(&o.outcome, Outcome::Delayed(failure) if failure.is_ours());
        for outcome in outcomes.iter().filter(|o| !ours(o)) {
            self.all = self.all.saturating_add(1);
            match outcome.outcome {
                Outcome::Relayed(_) => {}
                Outcome::Delayed(_) => self.deferred = self.deferred.saturating_add(1),
                Outcome::Failed(_) => self.bounced = self.bounced.saturating_add(1),
            }
        }
    }

    fn add(&mut self, more: Self) {
        self.all = self.all.saturating_add(more.all);
        self.deferred = self.deferred.saturating_add(more.deferred);
        self.bounced = self.bounced.saturating_add(more.bounced);
    }

    fn fade(&mut self) {
        *self = Self { all: self.all / 2, deferred: self.deferred / 2, bounced: self.bounced / 2 };
    }

    fn share(self, part: u32, volume: u32) -> f64 {
        if self.all < volume.max(1) { 0.0 } else { f64::from(part) / f64::from(self.all) }
    }
}

impl Schedule {
    /// Looks at the shares; to be called once a minute.
    pub fn sweep(&mut self, shares: &Shares, now: Mono) -> Vec<Swept> {
        let mut sites: HashMap<SiteId, Counts> = HashMap::new();
        let mut clients: HashMap<(SiteId, u32), (Counts, Vec<LaneId>)> = HashMap::new();
        for (place, lane) in self.lanes.iter().filter(|(_, lane)| lane.counts.all > 0) {
            sites.entry(lane.site).or_default().add(lane.counts);
            let (counts, lanes) = clients.entry((lane.site, lane.client)).or_default();
            counts.add(lane.counts);
            lanes.extend((lane.key.class != Class::Otp).then(|| self.lanes.id(place)));
        }
        let mut swept = Vec::new();
        for (site, counts) in sites {
            let too_many = counts.share(counts.deferred, shares.volume) > shares.deferred;
            let Some(home) = self.sites.get_mut(&site).filter(|_| too_many) else { continue };
            let Some(pacer) = &mut home.pacer else { continue };
            let told = pacer.ease(now);
            home.limits = pacer.limits(now);
            swept.extend(told.into_iter().map(|told| Swept::Site(site, told)));
        }
        for ((site, _), (counts, lanes)) in clients {
            let share = counts.share(counts.bounced, shares.volume);
            if share <= shares.bounced {
                continue;
            }
            let until = now.plus(shares.pause);
            let why: Arc<str> = format!("{:.0} % of its last {} mails there bounced", 100.0 * share, counts.all).into();
            let held: Vec<LaneId> = lanes.into_iter().filter(|lane| self.rest_lane(*lane, until, &why)).collect();
            let client = held.first().and_then(|lane| Some(self.lane_named(*lane)?.key.client.clone()));
            swept.extend(client.map(|client| Swept::Client { site, client, until, why }));
            // What comes after the pause is judged for itself.
            for lane in held {
                if let Some(lane) = self.lanes.find(lane).and_then(|place| self.lanes.at_mut(place)) {
                    lane.counts = Counts::default();
                }
            }
        }
        self.lanes.each(|lane| lane.counts.fade());
        swept
    }
}

#[cfg(test)]
mod tests {
    use super::super::pacer::{By, Cause, OverAll, Step, Terms};
    use super::super::{Bounds, LaneKey, NEVER, Pulled, SiteLimits};
    use super::*;
    use crate::model::{EnhancedStatus, Failure, Relayed, Reply, Scope, Stage};

    const SHARES: Shares = Shares { deferred: 0.25, bounced: 0.1, volume: 100, pause: Duration::from_secs(600) };

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000)
    }

    /// A schedule with a paced site and a lane each of two clients.
    fn schedule() -> (Schedule, SiteId, [LaneId; 2]) {
        let mut s = Schedule::new(false);
        let site = s.site(&"site".into(), SiteLimits { concurrency: 10, pace: None });
        let bounds = Bounds { start: 10.0, least: 2.5, most: 50.0 };
        let terms = Terms {
            provider: "any".into(),
            connections: bounds,
            per_second: Bounds { start: f64::INFINITY, least: f64::INFINITY, most: f64::INFINITY },
            new_connections: None,
            messages_per_connection: None,
            idle: None,
            each_source: true,
            over_all: OverAll::NONE,
            by: By::Table,
        };
        s.pace(site, terms, at(0));
        let lane = |s: &mut Schedule, client: &str| {
            let key = LaneKey { destination: "d".into(), class: Class::Marketing, client: client.into(), apart: None };
            s.lane(&key, site)
        };
        let lanes = [lane(&mut s, "good"), lane(&mut s, "bad")];
        (s, site, lanes)
    }

    fn one(s: &mut Schedule, lane: LaneId, outcome: &Outcome, now: Mono) {
        let ticket = s.add(lane, 1, 0, now, NEVER, now);
        let answer = RecipientOutcome {
            recipient: 0,
            outcome: outcome.clone(),
            peer: None,
            progress: None,
            duration: Duration::ZERO,
        };
        s.heard(ticket, &[answer], now);
        s.remove(ticket);
    }

    fn relayed() -> Outcome {
        let reply = Reply { code: 250, enhanced: None, text: String::new() };
        Outcome::Relayed(Relayed { reply, notifies: true })
    }

    fn failure() -> Failure {
        Failure::without_reply(Scope::Recipient, Stage::Recipient, EnhancedStatus::new(5, 1, 1), "no")
    }

    #[test]
    fn who_bounces_too_much_waits_and_the_others_go_on() {
        let (mut s, site, [good, bad]) = schedule();
        for n in 0..100 {
            one(&mut s, good, &relayed(), at(1));
            let outcome = if n % 5 == 0 { Outcome::Failed(failure()) } else { relayed() };
            one(&mut s, bad, &outcome, at(1));
        }
        let waits = s.add(bad, 1, 1, at(60), NEVER, at(60));
        let swept = s.sweep(&SHARES, at(60));
        let why = "20 % of its last 100 mails there bounced";
        let client = Swept::Client { site, client: "bad".into(), until: at(660), why: why.into() };
        assert_eq!(swept, [client]);
        assert_eq!(s.pull(site, at(60)), Pulled::Nothing);
        assert_eq!(s.lane_rests(bad, at(61)), Some((at(660), why.into())));
        let goes = s.add(good, 1, 2, at(61), NEVER, at(61));
        assert_eq!(s.pull(site, at(61)), Pulled::Ticket(goes));
        s.remove(goes);
        // What becomes ready meanwhile waits as well, what is taken away is gone, and then all go.
        let more = s.add(bad, 1, 3, at(62), NEVER, at(62));
        let gone = s.add(bad, 1, 4, at(62), NEVER, at(62));
        s.remove(gone);
        assert_eq!(s.advance(at(659)), Some(at(660)));
        assert_eq!(s.pull(site, at(659)), Pulled::Nothing);
        s.roused();
        s.advance(at(660));
        assert_eq!(s.roused(), [site]);
        assert_eq!((s.pull(site, at(660)), s.pull(site, at(660))), (Pulled::Ticket(waits), Pulled::Ticket(more)));
        assert!(s.sweep(&SHARES, at(720)).is_empty(), "judged once");
    }

    #[test]
    fn a_site_that_defers_too_much_gets_less() {
        let (mut s, site, [good, _]) = schedule();
        for n in 0..99 {
            let outcome = if n % 2 == 0 { Outcome::Delayed(failure()) } else { relayed() };
            one(&mut s, good, &outcome, at(1));
        }
        let mut other = schedule().0;
        assert!(other.sweep(&SHARES, at(60)).is_empty());
        assert!(s.sweep(&SHARES, at(60)).is_empty(), "too few");
        for _ in 0..60 {
            one(&mut s, good, &Outcome::Delayed(failure()), at(61));
        }
        assert_eq!(
            s.sweep(&SHARES, at(120)),
            [Swept::Site(site, Told { source: None, step: Step::Eased(Cause::Deferrals) })]
        );
        assert_eq!(s.pacer(site).unwrap().limits(at(120)).concurrency, 5);
        // What waits for something of ours was put off by nobody.
        let (mut s, _, [good, _]) = schedule();
        for _ in 0..200 {
            one(&mut s, good, &Outcome::Delayed(Failure { stage: Stage::Route, ..failure() }), at(1));
        }
        assert!(s.sweep(&SHARES, at(60)).is_empty());
    }
}
