//! All lanes and all tickets: for people, for a new configuration, and to forget what is idle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::site::{InLine, Site};
use super::slab::{NONE, State};
use super::wheel::{NEVER_TICK, start_of};
use super::{LANES_KEPT, LaneCount, LaneId, LaneKey, Schedule, SiteId, Standing, Ticket};
use crate::clock::Mono;
use crate::model::{Class, ClientName};

impl Schedule {
    /// Drops idle lanes, and sites that no lane is left at, once there are many: names come from whoever submits. Returns
    /// the sites dropped. A site's memory of good answers goes with it; one that is suspended stays.
    pub fn prune(&mut self, now: Mono) -> Vec<SiteId> {
        if self.lanes.len() < self.lanes_before_pruning {
            return Vec::new();
        }
        self.lanes.drop_empty();
        let lanes = &self.lanes;
        self.lane_ids.retain(|_, id| lanes.find(*id).is_some());
        let used: HashSet<SiteId> = lanes.iter().map(|(_, lane)| lane.site).collect();
        let clients: HashSet<u32> = lanes.iter().map(|(_, lane)| lane.client).collect();
        self.clients.retain(|_, client| clients.contains(client));
        self.apart = lanes.iter().filter_map(|(_, lane)| lane.key.apart.clone()).collect();
        let holds = |site: &Site| site.pacer.as_ref().is_some_and(|pacer| pacer.is_holding(now));
        let stays = |id: &SiteId, site: &Site| used.contains(id) || site.suspended_until(now).is_some() || holds(site);
        let dropped: Vec<SiteId> = self.sites.iter().filter(|(id, s)| !stays(id, s)).map(|(id, _)| *id).collect();
        for id in &dropped {
            if let Some(site) = self.sites.remove(id) {
                self.site_ids.remove(&site.name);
            }
        }
        let stands = |in_line: InLine| lanes.at(in_line.lane).is_some_and(|lane| lane.turn == in_line.turn);
        self.sites.values_mut().for_each(|site| site.tidy(stands));
        self.lanes_before_pruning = (2 * self.lanes.len()).max(LANES_KEPT);
        dropped
    }

    /// The lanes that hold anything, fullest first, at most `most` of them, and how many there are. Looks at every ticket.
    pub fn counts(&self, most: usize) -> (Vec<LaneCount>, usize) {
        let mut next = vec![NEVER_TICK; self.lanes.places()];
        for place in 0..self.tickets.slab.places() {
            let entry = self.tickets.slab.at(place);
            if entry.state() == State::Waiting
                && let Some(next) = next.get_mut(entry.lane as usize)
            {
                *next = (*next).min(entry.due());
            }
        }
        let mut counts: Vec<LaneCount> = Vec::new();
        // Lanes of one key that met at a site when one of them was moved there are shown as one.
        let mut met: HashMap<LaneId, usize> = HashMap::new();
        for (place, lane) in self.lanes.iter().filter(|(_, lane)| !lane.is_empty()) {
            let next = next[place as usize];
            let count = LaneCount {
                key: lane.key.clone(),
                site: lane.site,
                ready: lane.ready.len as usize,
                waiting: lane.waiting as usize,
                leased: lane.leased as usize,
                next_due: (lane.waiting > 0).then(|| start_of(next)),
            };
            let known = self.lane_ids.get(&(lane.key.clone(), lane.site)).copied().unwrap_or(self.lanes.id(place));
            match met.get(&known) {
                Some(&at) => add_up(&mut counts[at], &count),
                None => {
                    met.insert(known, counts.len());
                    counts.push(count);
                }
            }
        }
        counts.sort_by(|a, b| {
            (b.ready + b.waiting + b.leased)
                .cmp(&(a.ready + a.waiting + a.leased))
                .then_with(|| a.key.destination.cmp(&b.key.destination))
        });
        let total = counts.len();
        counts.truncate(most);
        (counts, total)
    }

    /// All lanes, idle ones too.
    pub fn lanes(&self) -> Vec<(LaneId, LaneKey, SiteId)> {
        self.lanes.iter().map(|(place, lane)| (self.lanes.id(place), lane.key.clone(), lane.site)).collect()
    }

    /// Moves a lane with all that is in it to another site: what is ready lines up there, leases that are out count there.
    /// If a lane of the same key is there, both go on side by side, and new tickets go to that one. False, and nothing
    /// changes, if lane or site is not known.
    pub fn rehome(&mut self, lane: LaneId, site: SiteId) -> bool {
        let Some(place) = self.lanes.find(lane) else { return false };
        let Some(home) = self.lanes.at_mut(place) else { return false };
        // One that stands aside has nothing ready, as far as sites know.
        let ready = if home.is_aside() { 0 } else { home.ready.len };
        let (old, class, leased) = (home.site, home.key.class, home.leased);
        if old == site || !self.sites.contains_key(&site) {
            return old == site;
        }
        home.site = site;
        // It does not stand in line where it was any more.
        home.turn = 0;
        let key = home.key.clone();
        if let Some(was) = self.sites.get_mut(&old) {
            was.less_ready(class, ready);
            was.move_leases(class, 0, leased);
        }
        if let Some(becomes) = self.sites.get_mut(&site) {
            becomes.move_leases(class, leased, 0);
        }
        let known = (key, old);
        if self.lane_ids.get(&known) == Some(&lane) {
            self.lane_ids.remove(&known);
        }
        self.lane_ids.entry((known.0, site)).or_insert(lane);
        if ready > 0 {
            self.line_up(place, ready);
        }
        self.rouse(old);
        true
    }

    /// The lanes to a destination at a site, those that new tickets go to. Asks for each class, client and
    /// what is told apart.
    pub fn lanes_to(&self, destination: &str, site: SiteId) -> Vec<LaneId> {
        let destination: Arc<str> = destination.into();
        let mut lanes = Vec::new();
        for apart in std::iter::once(None).chain(self.apart.iter().cloned().map(Some)) {
            let of = |client: &ClientName, class| LaneKey {
                destination: destination.clone(),
                class,
                client: client.clone(),
                apart: apart.clone(),
            };
            let keys = self.clients.keys().flat_map(|client| Class::ALL.map(|class| (of(client, class), site)));
            lanes.extend(keys.filter_map(|key| self.lane_ids.get(&key).copied()));
        }
        lanes.sort_unstable();
        lanes
    }

    /// The tickets of a lane. Looks at every ticket.
    pub fn tickets_of(&self, lane: LaneId) -> Vec<Ticket> {
        let Some(lane) = self.lanes.find(lane) else { return Vec::new() };
        let slab = &self.tickets.slab;
        let of_lane = |place: &u32| slab.at(*place).state() != State::Free && slab.at(*place).lane == lane;
        (0..slab.places()).filter(of_lane).map(|place| slab.ticket(place)).collect()
    }

    /// Shows the tickets in the next `most` places from place `from` on, each with its owner, what it is doing and its lane.
    /// Returns where to go on. Starting with 0, every ticket that is there all the time is shown once, whatever happens to
    /// the schedule between the calls.
    pub fn visit(
        &self,
        from: u32,
        most: u32,
        mut each: impl FnMut(Ticket, u32, Standing, Option<LaneId>),
    ) -> Option<u32> {
        let slab = &self.tickets.slab;
        let end = from.saturating_add(most).min(slab.places());
        for place in from..end {
            let Some(standing) = self.standing_at(place) else { continue };
            let entry = slab.at(place);
            let lane = (entry.lane != NONE).then(|| self.lanes.id(entry.lane));
            each(slab.ticket(place), entry.owner, standing, lane);
        }
        (end < slab.places()).then_some(end)
    }
}

fn add_up(count: &mut LaneCount, more: &LaneCount) {
    count.ready += more.ready;
    count.waiting += more.waiting;
    count.leased += more.leased;
    count.next_due = count.next_due.into_iter().chain(more.next_due).min();
}
