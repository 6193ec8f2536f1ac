//! One lane: tickets of one destination, class and client, first come first served.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{LaneKey, Place, SiteId, Ticket};

/// A lane and what is in it. Tickets not yet due stand in the schedule's own list and are only counted here.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) name: Arc<str>,
    pub(super) site: SiteId,
    pub(super) ready: VecDeque<Ticket>,
    pub(super) waiting: usize,
    pub(super) leased: usize,
}

impl Lane {
    pub(super) fn new(key: LaneKey, site: SiteId) -> Self {
        let name = key.name();
        Self { key, name, site, ready: VecDeque::new(), waiting: 0, leased: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting == 0 && self.leased == 0
    }

    /// The cost of the ticket in front, if any is ready.
    pub(super) fn front_cost(&self, tickets: &HashMap<Ticket, Place>) -> Option<u32> {
        self.ready.front().map(|t| tickets.get(t).map_or(1, |place| place.cost))
    }
}
