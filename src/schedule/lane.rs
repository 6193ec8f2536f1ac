//! One lane: tickets of one destination, class and client, first come first served.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{LaneKey, Place, SiteId, Ticket};

/// A lane and what is in it. Tickets not yet due stand in the schedule's own list and are only counted here.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) name: Arc<str>,
    pub(super) site: SiteId,
    /// By their place in the order of readiness, so that one can also be taken out of the middle.
    pub(super) ready: BTreeMap<u64, Ticket>,
    pub(super) waiting: usize,
    pub(super) leased: usize,
    /// It stands in its client's line.
    pub(super) in_line: bool,
}

impl Lane {
    pub(super) fn new(key: LaneKey, site: SiteId) -> Self {
        let name = key.name();
        Self { key, name, site, ready: BTreeMap::new(), waiting: 0, leased: 0, in_line: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting == 0 && self.leased == 0
    }

    /// The cost of the ticket in front, if any is ready.
    pub(super) fn front_cost(&self, tickets: &HashMap<Ticket, Place>) -> Option<u32> {
        self.ready.first_key_value().map(|(_, t)| tickets.get(t).map_or(1, |place| place.cost))
    }
}
