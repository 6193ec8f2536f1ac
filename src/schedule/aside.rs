//! Lanes that stand aside: what is in them waits, and the others of their site go on. Somebody holds one (an operator's rule),
//! or it rests until some time (a provider's row, too many bounces), or both.
//!
//! **Promises.** A lane that stands aside stands in no line and counts as having nothing ready. Its tickets keep their times
//! and expire as always; what is out stays out.

use std::sync::Arc;

use super::lane::Lane;
use super::{LaneId, Schedule, rouse};
use crate::clock::Mono;

impl Schedule {
    /// Holds a lane (`true`) or lets it go on. What is held keeps its place and its time, and is not pulled.
    pub fn hold_lane(&mut self, lane: LaneId, held: bool) {
        self.step_aside(lane, |home| home.held = held);
    }

    /// True if the lane is held.
    pub fn is_lane_held(&self, lane: LaneId) -> bool {
        self.lane_named(lane).is_some_and(|l| l.held)
    }

    /// Gives nothing out from a lane until then. One that rests for longer goes on resting. False if that changes nothing.
    pub fn rest_lane(&mut self, lane: LaneId, until: Mono, why: &Arc<str>) -> bool {
        let Some(home) = self.lane_named(lane) else { return false };
        if home.rests.as_ref().is_some_and(|(known, _)| *known >= until) {
            return false;
        }
        self.step_aside(lane, |home| home.rests = Some((until, why.clone())));
        self.resting.insert((until, lane));
        true
    }

    /// Until when a lane rests, and why.
    pub fn lane_rests(&self, lane: LaneId, now: Mono) -> Option<(Mono, Arc<str>)> {
        self.lane_named(lane)?.rests.clone().filter(|(until, _)| *until > now)
    }

    /// Lets lanes go on that have rested long enough.
    pub(super) fn end_rests(&mut self, now: Mono) {
        while let Some(&(until, lane)) = self.resting.first().filter(|(until, _)| *until <= now) {
            self.resting.remove(&(until, lane));
            // It may have been told to rest for longer since.
            if self.lane_named(lane).and_then(|home| home.rests.as_ref()).is_some_and(|(until, _)| *until <= now) {
                self.end_rest(lane);
            }
        }
    }

    /// Lets a lane go on, however long it was to rest.
    pub(super) fn end_rest(&mut self, lane: LaneId) {
        self.step_aside(lane, |home| home.rests = None);
    }

    /// Changes whether a lane stands aside, and what its site knows of it.
    fn step_aside(&mut self, lane: LaneId, change: impl FnOnce(&mut Lane)) {
        let Some(place) = self.lanes.find(lane) else { return };
        let Some(home) = self.lanes.at_mut(place) else { return };
        let before = home.is_aside();
        change(home);
        let (after, site, class, ready) = (home.is_aside(), home.site, home.key.class, home.ready.len);
        if after && !before {
            // It does not stand in line any more.
            home.turn = 0;
            if let Some(home) = self.sites.get_mut(&site) {
                home.less_ready(class, ready);
            }
        }
        if before && !after {
            if ready > 0 {
                self.line_up(place, ready);
            }
            if let Some(home) = self.sites.get_mut(&site) {
                rouse(site, home, &mut self.roused);
            }
        }
    }
}
