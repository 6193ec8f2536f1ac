//! When and how fast: lanes of tickets, pulled by whoever has a free slot.
//!
//! **What.** A *ticket* stands for one consignment of the queue. It waits in a *lane* (destination × class × client) until
//! its time has come, then it is ready; a free connection or window slot of a *site* asks [`Schedule::pull`], which answers
//! first by class, then by client (deficit round robin over bytes or parts), then by lane, then first come first served.
//!
//! **Promises.** Pure: no I/O, no clock, time is an argument (monotonic: steps of the wall clock cannot move a due time).
//! A class keeps reserved slots at every site, so marketing cannot fill the last connection before a code needs it, and
//! codes cannot starve marketing that waits. A site never has more leases out than its limit, nor faster than its pace. A
//! site that fails is suspended with growing pauses, probed by one lease, and opens up again as answers are good.
//!
//! **Does not know** what a lane's destination is, nor which channel it belongs to.
//!
//! **Fails how.** Unknown tickets and sites are ignored or answered `Nothing`: they can only be late news.

mod lane;
mod site;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::model::{Class, ClientName};
use lane::Lane;
use site::Site;
pub use site::{Pace, SiteLimits};

/// Names a consignment; the caller's number.
pub type Ticket = u64;

/// Names a site within one schedule; never used again for another.
pub type SiteId = u64;

/// Names a lane within one schedule; never used again for another.
pub type LaneId = u64;

/// What a lane is: destination, class and client. Two consignments with the same key share a lane.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LaneKey {
    /// Where to, in the caller's words: a domain, a set of carriers.
    pub destination: Arc<str>,
    /// Priority.
    pub class: Class,
    /// Whose it is.
    pub client: ClientName,
}

impl LaneKey {
    /// The lane's written name: `example.com/transactional/shop`.
    pub fn name(&self) -> Arc<str> {
        format!("{}/{}/{}", self.destination, self.class, self.client).into()
    }
}

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

/// What waits in a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneCount {
    /// The lane.
    pub key: LaneKey,
    /// Its site.
    pub site: SiteId,
    /// Ready to go.
    pub ready: usize,
    /// Not due yet.
    pub waiting: usize,
    /// Leased.
    pub leased: usize,
    /// When the earliest of those waiting is due.
    pub next_due: Option<Mono>,
}

/// All lanes and sites of a relay.
#[derive(Debug)]
pub struct Schedule {
    lanes: HashMap<LaneId, Lane>,
    lane_ids: HashMap<(LaneKey, SiteId), LaneId>,
    sites: HashMap<SiteId, Site>,
    site_ids: HashMap<Arc<str>, SiteId>,
    /// Tickets whose time has not come, earliest first.
    waiting: BTreeSet<(Mono, Ticket)>,
    tickets: HashMap<Ticket, Place>,
    /// Sites left alone for a while, by when that ends.
    suspended: BTreeSet<(Mono, SiteId)>,
    /// Sites with something new to pull since the caller last asked.
    roused: Vec<SiteId>,
    held: bool,
    id_next: u64,
    /// Lanes there may be before those that are idle are dropped.
    lanes_before_pruning: usize,
}

/// Lanes kept without a thought. An idle lane costs some 300 bytes.
const LANES_KEPT: usize = 4_096;

/// Where a ticket is.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: LaneId,
    cost: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting(Mono),
    /// At this place in its lane.
    Ready(u64),
    Leased,
}

impl Schedule {
    /// An empty schedule; `held` keeps everything back until [`Schedule::hold`] lets go.
    pub fn new(held: bool) -> Self {
        Self {
            lanes: HashMap::new(),
            lane_ids: HashMap::new(),
            sites: HashMap::new(),
            site_ids: HashMap::new(),
            waiting: BTreeSet::new(),
            tickets: HashMap::new(),
            suspended: BTreeSet::new(),
            roused: Vec::new(),
            held,
            id_next: 0,
            lanes_before_pruning: LANES_KEPT,
        }
    }

    /// The site of that name, made with `limits` if it is new.
    pub fn site(&mut self, name: &Arc<str>, limits: SiteLimits) -> SiteId {
        if let Some(&id) = self.site_ids.get(name) {
            return id;
        }
        let id = self.new_id();
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
        if let Some(&id) = self.lane_ids.get(&(key.clone(), site)) {
            return id;
        }
        let id = self.new_id();
        self.lanes.insert(id, Lane::new(key.clone(), site));
        self.lane_ids.insert((key.clone(), site), id);
        id
    }

    /// The lane's site.
    pub fn site_of(&self, lane: LaneId) -> Option<SiteId> {
        self.lanes.get(&lane).map(|l| l.site)
    }

    /// The lane's written name.
    pub fn lane_name(&self, lane: LaneId) -> Option<&Arc<str>> {
        self.lanes.get(&lane).map(|l| &l.name)
    }

    /// Puts a new ticket into a lane, due at `due`, or puts a leased one back. `cost` is in bytes or parts.
    pub fn put(&mut self, ticket: Ticket, lane: LaneId, cost: u32, due: Mono, now: Mono) {
        self.forget_place(ticket);
        let place = self.new_id();
        let Some(home) = self.lanes.get_mut(&lane) else { return };
        let state = if due <= now {
            home.ready.insert(place, ticket);
            State::Ready(place)
        } else {
            home.waiting += 1;
            self.waiting.insert((due, ticket));
            State::Waiting(due)
        };
        self.tickets.insert(ticket, Place { lane, cost, state });
        if due <= now {
            self.line_up(lane);
        }
    }

    /// Takes a ticket out, wherever it is.
    pub fn remove(&mut self, ticket: Ticket) {
        self.forget_place(ticket);
    }

    /// Makes what has come due ready and ends suspensions. Returns when to call again, if anything still waits.
    pub fn advance(&mut self, now: Mono) -> Option<Mono> {
        while let Some(&(due, ticket)) = self.waiting.first() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            self.make_ready(ticket);
        }
        while let Some(&(until, site)) = self.suspended.first() {
            if until > now {
                break;
            }
            self.suspended.pop_first();
            // It may have failed once more since; then its newer end stands in the set as well.
            if let Some(home) = self.sites.get_mut(&site)
                && home.suspended_until(now).is_none()
            {
                home.resume();
                self.rouse(site);
            }
        }
        let due = self.waiting.first().map(|&(due, _)| due);
        due.into_iter().chain(self.suspended.first().map(|&(until, _)| until)).min()
    }

    /// Makes ready what waits and is `wanted`, whatever its time; returns how many tickets. Suspensions are lifted.
    pub fn flush(&mut self, wanted: impl Fn(Ticket) -> bool) -> usize {
        let (now, later) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, ticket)| wanted(*ticket));
        self.waiting = later;
        let now: BTreeSet<(Mono, Ticket)> = now;
        let count = now.len();
        for (_, ticket) in now {
            self.make_ready(ticket);
        }
        self.suspended.clear();
        self.sites.values_mut().for_each(Site::resume);
        self.rouse_all();
        count
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

    /// A slot of `site` is free: which ticket may use it?
    pub fn pull(&mut self, site: SiteId, now: Mono) -> Pulled {
        if self.held {
            return Pulled::Nothing;
        }
        let Some(home) = self.sites.get_mut(&site) else { return Pulled::Nothing };
        if home.is_empty() {
            return Pulled::Nothing;
        }
        if let Some(until) = home.closed_until(now) {
            return Pulled::NotBefore(until);
        }
        let (class, lane_id) = loop {
            let Some(class) = home.class_to_serve() else {
                return if home.is_empty() { Pulled::Nothing } else { Pulled::Busy };
            };
            // A class whose lanes were all emptied by `remove` leaves the line here, and the next one is asked.
            let (lanes, tickets) = (&mut self.lanes, &self.tickets);
            let front_cost = |lane: LaneId| {
                let home = lanes.get_mut(&lane)?;
                let cost = home.front_cost(tickets);
                home.in_line = cost.is_some();
                cost
            };
            if let Some(lane) = home.next_lane(class, front_cost) {
                break (class, lane);
            }
        };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return Pulled::Nothing };
        let Some((_, ticket)) = lane.ready.pop_first() else { return Pulled::Nothing };
        lane.leased += 1;
        let cost = self.tickets.get_mut(&ticket).map_or(1, |place| {
            place.state = State::Leased;
            place.cost
        });
        lane.in_line = !lane.ready.is_empty();
        home.leased(class, cost, lane.in_line, now);
        Pulled::Ticket(ticket)
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
        let site = self.sites.get(&self.lanes.get(&lane)?.site)?;
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
        self.sites.get(&site).map_or(0, |s| s.slots_wanted(|lane| self.lanes.get(&lane).map_or(0, |l| l.ready.len())))
    }

    /// How many leases of the site are out.
    pub fn leases(&self, site: SiteId) -> usize {
        self.sites.get(&site).map_or(0, Site::leases)
    }

    /// How many slots the site may use at a time.
    pub fn slots_max(&self, site: SiteId) -> usize {
        self.sites.get(&site).map_or(0, |s| s.limits.concurrency)
    }

    /// When a ticket is due, if it waits; `None` if it is ready, leased or unknown.
    pub fn due(&self, ticket: Ticket) -> Option<Mono> {
        match self.tickets.get(&ticket)?.state {
            State::Waiting(due) => Some(due),
            State::Ready(_) | State::Leased => None,
        }
    }

    /// True while the ticket is leased.
    pub fn is_leased(&self, ticket: Ticket) -> bool {
        self.tickets.get(&ticket).is_some_and(|p| p.state == State::Leased)
    }

    /// Drops idle lanes, and sites that no lane is left at, once there are many: names come from whoever submits. Returns
    /// the sites dropped. A site's memory of good answers goes with it; one that is suspended stays.
    pub fn prune(&mut self, now: Mono) -> Vec<SiteId> {
        if self.lanes.len() < self.lanes_before_pruning {
            return Vec::new();
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.lane_ids.retain(|_, id| self.lanes.contains_key(id));
        let used: HashSet<SiteId> = self.lanes.values().map(|lane| lane.site).collect();
        let stays = |id: &SiteId, site: &Site| used.contains(id) || site.suspended_until(now).is_some();
        let dropped: Vec<SiteId> = self.sites.iter().filter(|(id, s)| !stays(id, s)).map(|(id, _)| *id).collect();
        for id in &dropped {
            if let Some(site) = self.sites.remove(id) {
                self.site_ids.remove(&site.name);
            }
        }
        self.lanes_before_pruning = (2 * self.lanes.len()).max(LANES_KEPT);
        dropped
    }

    /// The lanes that hold anything, fullest first, at most `most` of them, and how many there are.
    pub fn counts(&self, most: usize) -> (Vec<LaneCount>, usize) {
        let mut next: HashMap<LaneId, Mono> = HashMap::new();
        for &(due, ticket) in &self.waiting {
            if let Some(place) = self.tickets.get(&ticket) {
                next.entry(place.lane).or_insert(due);
            }
        }
        let mut counts: Vec<LaneCount> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.is_empty())
            .map(|(id, lane)| LaneCount {
                key: lane.key.clone(),
                site: lane.site,
                ready: lane.ready.len(),
                waiting: lane.waiting,
                leased: lane.leased,
                next_due: next.get(id).copied(),
            })
            .collect();
        counts.sort_by(|a, b| {
            (b.ready + b.waiting + b.leased)
                .cmp(&(a.ready + a.waiting + a.leased))
                .then_with(|| a.key.destination.cmp(&b.key.destination))
        });
        let total = counts.len();
        counts.truncate(most);
        (counts, total)
    }

    fn site_of_ticket(&self, ticket: Ticket) -> Option<SiteId> {
        self.lanes.get(&self.tickets.get(&ticket)?.lane).map(|lane| lane.site)
    }

    fn new_id(&mut self) -> u64 {
        self.id_next += 1;
        self.id_next
    }

    fn rouse_all(&mut self) {
        let all: Vec<SiteId> = self.sites.keys().copied().collect();
        all.into_iter().for_each(|id| self.rouse(id));
    }

    fn make_ready(&mut self, ticket: Ticket) {
        let turn = self.new_id();
        let Some(place) = self.tickets.get_mut(&ticket) else { return };
        place.state = State::Ready(turn);
        let lane = place.lane;
        if let Some(home) = self.lanes.get_mut(&lane) {
            home.waiting -= 1;
            home.ready.insert(turn, ticket);
        }
        self.line_up(lane);
    }

    /// Makes sure a lane with ready tickets stands in its site's line.
    fn line_up(&mut self, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return };
        let site = lane.site;
        if !std::mem::replace(&mut lane.in_line, true)
            && let Some(home) = self.sites.get_mut(&site)
        {
            home.line_up(lane.key.class, &lane.key.client, lane_id);
        }
        self.rouse(site);
    }

    fn rouse(&mut self, site: SiteId) {
        let Some(home) = self.sites.get_mut(&site) else { return };
        if !home.roused && !home.is_empty() {
            home.roused = true;
            self.roused.push(site);
        }
    }

    fn forget_place(&mut self, ticket: Ticket) {
        let Some(place) = self.tickets.remove(&ticket) else { return };
        let Some(lane) = self.lanes.get_mut(&place.lane) else { return };
        match place.state {
            State::Waiting(due) => {
                lane.waiting -= 1;
                self.waiting.remove(&(due, ticket));
            }
            State::Ready(turn) => {
                lane.ready.remove(&turn);
            }
            State::Leased => {
                lane.leased -= 1;
                let (site, class) = (lane.site, lane.key.class);
                if let Some(home) = self.sites.get_mut(&site) {
                    home.returned(class);
                }
                self.rouse(site);
            }
        }
    }
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
