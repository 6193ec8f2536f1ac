//! When and how fast: lanes of tickets, pulled by whoever has a free slot.
//!
//! **What.** A *ticket* stands for one consignment of the queue. It waits in a *lane* (destination × class × client) until
//! its time has come, then it is ready; a free connection or window slot of a *site* asks [`Schedule::pull`], which answers
//! first by class, then by client (deficit round robin over bytes or parts), then by lane, then first come first served. A
//! ticket whose time has run out leaves its lane for [`Schedule::take_overdue`]; one that waits for something else than a
//! slot is *parked*: it stands in no lane and only has its time. A lane that is *held* gives nothing out until it is let go.
//!
//! **Promises.** Pure: no I/O, no clock, time is an argument (monotonic: steps of the wall clock cannot move a due time).
//! Times are kept in milliseconds: nothing is early, and at most one late. What is done to one ticket costs the same
//! however many there are, and some forty bytes; [`Schedule::advance`] stops after some thousand. A class keeps reserved
//! slots at every site, so marketing cannot fill the last connection before a code needs it, and codes cannot starve
//! marketing that waits. A site never has more leases out than its limit, nor faster than its pace. A site that fails is
//! suspended with growing pauses, probed by one lease, and opens up again as answers are good. A site may have a [`Pacer`],
//! which finds its limits out.
//!
//! **Does not know** what a lane's destination is, nor which channel it belongs to; a pacer knows what answers mean, not who
//! gave them.
//!
//! **Fails how.** Unknown tickets and sites are ignored or answered `Nothing`: they can only be late news. More than
//! [`TICKETS_MAX`] tickets are a panic; [`Schedule::room`] tells in time.

mod aside;
mod dial;
mod lane;
mod learnt;
mod moves;
mod paced;
mod pacer;
mod pacers;
mod shares;
mod site;
mod slab;
mod survey;
mod tickets;
mod wheel;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::model::{Class, ClientName};
pub use dial::Bounds;
pub use lane::{Apart, LaneCount, LaneId, LaneKey};
use lane::{Lane, Lanes};
pub use learnt::{Learnt, Level};
pub use pacer::{By, Cause, Held, InForce, OverAll, Pacer, Step, Terms};
pub use pacers::{Pacers, Share, Shares as SourceShares, Told};
pub use shares::{Shares, Swept};
use site::{InLine, Numbered, Site};
pub use site::{Pace, SiteId, SiteLimits};
use slab::State;
pub use slab::{TICKETS_MAX, Ticket};
use tickets::Tickets;

/// The answer to a free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulled {
    /// Carry this one.
    Ticket(Ticket),
    /// There is work, but not before this time.
    NotBefore(Mono),
    /// There is work, but every slot its class may use is taken.
    Busy,
    /// There is no work.
    Nothing,
}

/// What a ticket is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It waits in its lane for its time.
    Waiting {
        /// When it is due.
        due: Mono,
    },
    /// It may be pulled.
    Ready,
    /// It has been pulled.
    Leased,
    /// It stands in no lane.
    Parked {
        /// When it becomes overdue.
        until: Mono,
    },
    /// Its time has run out, and nobody knows yet.
    Overdue,
    /// [`Schedule::take_overdue`] has told that its time has run out.
    Taken,
}

/// The time of what does not expire.
pub const NEVER: Mono = Mono(u64::MAX);

/// All lanes and sites of a relay.
#[derive(Debug)]
pub struct Schedule {
    tickets: Tickets,
    lanes: Lanes,
    lane_ids: HashMap<(LaneKey, SiteId), LaneId>,
    sites: Numbered<SiteId, Site>,
    site_ids: HashMap<Arc<str>, SiteId>,
    /// Clients by number: sites keep their lines by it.
    clients: HashMap<ClientName, u32>,
    /// What some lane tells apart.
    apart: HashSet<Apart>,
    /// Sites left alone for a while, by when that ends, and those whose pace makes everybody wait for long.
    suspended: BTreeSet<(Mono, SiteId)>,
    /// Lanes that rest, by when that ends.
    resting: BTreeSet<(Mono, LaneId)>,
    /// Sites with something new to pull since the caller last asked.
    roused: Vec<SiteId>,
    held: bool,
    site_last: u32,
    client_last: u32,
    turn_last: u64,
    /// Lanes there may be before those that are idle are dropped.
    lanes_before_pruning: usize,
}

/// Lanes kept without a thought. An idle lane costs some 300 bytes.
const LANES_KEPT: usize = 4_096;

/// Ready tickets that have expired which one pull passes over before it lets go.
const PASSED_OVER_MAX: usize = 256;
/// The pause it takes then.
const BREATHER: Duration = Duration::from_millis(1);
/// After a wait of more than this a site is roused.
const LONG_WAIT: Duration = Duration::from_secs(1);

impl Schedule {
    /// An empty schedule; `held` keeps everything back until [`Schedule::hold`] lets go.
    pub fn new(held: bool) -> Self {
        Self {
            tickets: Tickets::new(),
            lanes: Lanes::default(),
            lane_ids: HashMap::new(),
            sites: Numbered::default(),
            site_ids: HashMap::new(),
            clients: HashMap::new(),
            apart: HashSet::new(),
            suspended: BTreeSet::new(),
            resting: BTreeSet::new(),
            roused: Vec::new(),
            held,
            site_last: 0,
            client_last: 0,
            turn_last: 0,
            lanes_before_pruning: LANES_KEPT,
        }
    }

    /// The site of that name, made with `limits` if it is new.
    pub fn site(&mut self, name: &Arc<str>, limits: SiteLimits) -> SiteId {
        if let Some(&id) = self.site_ids.get(name) {
            return id;
        }
        self.site_last = self.site_last.checked_add(1).expect("four thousand million sites have been");
        let id = SiteId(self.site_last);
        self.sites.insert(id, Site::new(name.clone(), limits));
        self.site_ids.insert(name.clone(), id);
        id
    }

    /// Changes a site's limits.
    pub fn limit(&mut self, site: SiteId, limits: SiteLimits) {
        if let Some(site) = self.sites.get_mut(&site) {
            site.limits = limits;
        }
    }

    /// The lane of that key at that site, made if it is new.
    pub fn lane(&mut self, key: &LaneKey, site: SiteId) -> LaneId {
        self.lane_held_if(key, site, || false)
    }

    /// As [`Schedule::lane`]; a new one is held if `held` says so.
    pub fn lane_held_if(&mut self, key: &LaneKey, site: SiteId, held: impl FnOnce() -> bool) -> LaneId {
        let wanted = (key.clone(), site);
        if let Some(&id) = self.lane_ids.get(&wanted) {
            return id;
        }
        let client = match self.clients.get(&key.client) {
            Some(&client) => client,
            None => {
                self.client_last = self.client_last.checked_add(1).expect("four thousand million clients have been");
                self.clients.insert(key.client.clone(), self.client_last);
                self.client_last
            }
        };
        self.apart.extend(key.apart.clone());
        let id = self.lanes.insert(Lane::new(key.clone(), site, client, held()));
        self.lane_ids.insert(wanted, id);
        id
    }

    /// The lane's site.
    pub fn site_of(&self, lane: LaneId) -> Option<SiteId> {
        self.lane_named(lane).map(|l| l.site)
    }

    /// The site's name.
    pub fn site_name(&self, site: SiteId) -> Option<&Arc<str>> {
        self.sites.get(&site).map(|site| &site.name)
    }

    /// What the lane is.
    pub fn key(&self, lane: LaneId) -> Option<&LaneKey> {
        self.lane_named(lane).map(|l| &l.key)
    }

    /// The lane's written name.
    pub fn lane_name(&self, lane: LaneId) -> Option<&Arc<str>> {
        self.lane_named(lane).map(|l| &l.name)
    }

    /// Stops (`true`) or resumes all pulling.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
        if !held {
            self.rouse_all();
        }
    }

    /// True while everything is held.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Tickets that wait or are ready in a lane.
    pub fn waiting_in(&self, lane: LaneId) -> u64 {
        self.lane_named(lane).map_or(0, |l| u64::from(l.ready.len) + u64::from(l.waiting))
    }

    /// Ends the suspension of a lane's site, if it is suspended, and the lane's own rest.
    pub fn resume(&mut self, lane: LaneId) {
        self.end_rest(lane);
        if let Some(site) = self.lane_named(lane).map(|l| l.site)
            && let Some(home) = self.sites.get_mut(&site)
        {
            home.resume();
            home.pacer.iter_mut().for_each(|pacer| pacer.resume());
            rouse(site, home, &mut self.roused);
        }
    }

    /// A slot of `site` is free: which ticket may use it? Never one that has expired.
    pub fn pull(&mut self, site: SiteId, now: Mono) -> Pulled {
        self.pull_of(site, None, now)
    }

    /// The same for a slot that only one class may use, if one is named.
    pub fn pull_of(&mut self, site: SiteId, only: Option<Class>, now: Mono) -> Pulled {
        if self.held {
            return Pulled::Nothing;
        }
        let Some(home) = self.sites.get_mut(&site) else { return Pulled::Nothing };
        if home.is_empty() {
            return Pulled::Nothing;
        }
        if let Some(until) = home.closed_until(now) {
            // Whoever asked may not wait that long: the site is roused then.
            if until.since(now) > LONG_WAIT {
                self.suspended.insert((until, site));
            }
            return Pulled::NotBefore(until);
        }
        let present = wheel::tick_at(now);
        for _ in 0..PASSED_OVER_MAX {
            let Some(class) = home.class_to_serve(only) else {
                return if home.is_empty() { Pulled::Nothing } else { Pulled::Busy };
            };
            let lanes = &mut self.lanes;
            let Some(at) = home.next_lane(class, |lane| still_stands(lanes, lane)) else { return Pulled::Nothing };
            let Some(lane) = self.lanes.at_mut(at) else { return Pulled::Nothing };
            let Some(place) = self.tickets.slab.pop_front(&mut lane.ready) else { return Pulled::Nothing };
            self.tickets.disarm(place);
            let entry = self.tickets.slab.at_mut(place);
            if entry.expires() <= present {
                home.less_ready(class, 1);
                self.tickets.run_out(place);
                continue;
            }
            entry.set_state(State::Leased);
            lane.leased += 1;
            let lane_has_more = !lane.ready.is_empty();
            if !lane_has_more {
                lane.turn = 0;
            }
            home.leased(class, entry.cost(), lane_has_more, now);
            return Pulled::Ticket(self.tickets.slab.ticket(place));
        }
        Pulled::NotBefore(now.plus(BREATHER))
    }

    /// An attempt at the ticket's site went well: the site may open up.
    pub fn went_well(&mut self, ticket: Ticket) {
        if let Some(site) = self.site_of_ticket(ticket) {
            if let Some(home) = self.sites.get_mut(&site) {
                home.went_well();
            }
            self.rouse(site);
        }
    }

    /// An attempt showed that the whole site is in trouble: no more leases for a while.
    pub fn went_wrong(&mut self, ticket: Ticket, now: Mono) {
        if let Some(site) = self.site_of_ticket(ticket)
            && let Some(until) = self.sites.get_mut(&site).and_then(|home| home.went_wrong(now))
        {
            self.suspended.insert((until, site));
        }
    }

    /// Until when the ticket's site is suspended, if it is.
    pub fn suspended_until(&self, lane: LaneId, now: Mono) -> Option<Mono> {
        let site = self.sites.get(&self.lane_named(lane)?.site)?;
        site.suspended_until(now)
    }

    /// Sites with something to pull since the last call.
    pub fn roused(&mut self) -> Vec<SiteId> {
        for id in &self.roused {
            if let Some(site) = self.sites.get_mut(id) {
                site.roused = false;
            }
        }
        std::mem::take(&mut self.roused)
    }

    /// How many more slots the site could use now: never more than what is ready, nor than its limit allows.
    pub fn slots_wanted(&self, site: SiteId) -> usize {
        self.sites.get(&site).map_or(0, Site::slots_wanted)
    }

    /// How many leases of the site are out.
    pub fn leases(&self, site: SiteId) -> usize {
        self.sites.get(&site).map_or(0, Site::leases)
    }

    /// How many slots the site may use at a time now, with what it has to send.
    pub fn slots_max(&self, site: SiteId) -> usize {
        self.sites.get(&site).map_or(0, Site::slots_usable)
    }

    fn lane_named(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.at(self.lanes.find(lane)?)
    }

    fn site_of_ticket(&self, ticket: Ticket) -> Option<SiteId> {
        let place = self.tickets.slab.find(ticket)?;
        self.lanes.at(self.tickets.slab.at(place).lane).map(|lane| lane.site)
    }

    fn rouse_all(&mut self) {
        let all: Vec<SiteId> = self.sites.keys().copied().collect();
        all.into_iter().for_each(|id| self.rouse(id));
    }

    /// Tells once more that there is something to pull at a site, if there is.
    pub fn rouse(&mut self, site: SiteId) {
        if let Some(home) = self.sites.get_mut(&site) {
            rouse(site, home, &mut self.roused);
        }
    }
}

/// Tells that there is something to pull at a site, unless that is known.
fn rouse(site: SiteId, home: &mut Site, roused: &mut Vec<SiteId>) {
    if !home.roused && !home.is_empty() {
        home.roused = true;
        roused.push(site);
    }
}

/// True if a lane that once lined up for this turn has not gone elsewhere and has something ready. One that has nothing
/// leaves the line.
fn still_stands(lanes: &mut Lanes, in_line: InLine) -> bool {
    let Some(lane) = lanes.at_mut(in_line.lane) else { return false };
    if lane.turn != in_line.turn {
        return false;
    }
    if lane.ready.is_empty() {
        lane.turn = 0;
    }
    lane.turn != 0
}

/// The pause before the next probe of a site that failed `failures` times in a row.
fn suspension(failures: u32) -> Duration {
    SUSPENSION_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(SUSPENSION_MAX)
}

/// First pause of a site in trouble. Codes live five minutes: it must be short.
const SUSPENSION_FIRST: Duration = Duration::from_secs(2);
/// Longest pause of a site in trouble; one probe a minute harms nobody.
const SUSPENSION_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
