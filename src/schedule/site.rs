//! One site: the limits several lanes share, and the line in which their clients stand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{LaneId, suspension};
use crate::clock::Mono;
use crate::model::{Class, ClientName};

/// Credit a client gets per turn. A 4 KiB mail spends a sixteenth of it.
const QUANTUM: i64 = 64 * 1024;
/// More than this is not charged for one consignment, so that a turn of the line stays short.
const COST_MAX: i64 = 1024 * 1024;

/// What a site tolerates.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SiteLimits {
    /// Leases out at the same time, at most; at least 1.
    pub concurrency: usize,
    /// Leases per time, if limited.
    pub pace: Option<Pace>,
}

/// Leases per time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Sustained, per second; more than zero.
    pub per_second: f64,
    /// How many may go at once after a rest; at least 1.
    pub burst: u32,
}

/// A site's state.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: Arc<str>,
    pub(super) limits: SiteLimits,
    /// Reported to the caller and not yet fetched.
    pub(super) roused: bool,
    lines: [Line; 3],
    leased: [usize; 3],
    /// How many leases the site has earned, between 1 and its concurrency: it grows with every good answer and falls to
    /// one when the site fails.
    pub(super) window: usize,
    failures: u32,
    suspended: Option<Mono>,
    /// GCRA's theoretical arrival time.
    next_at: Mono,
}

/// The clients of one class, in turn.
#[derive(Debug, Default)]
struct Line {
    clients: VecDeque<Standing>,
}

/// A client that has ready lanes here.
#[derive(Debug)]
struct Standing {
    client: ClientName,
    credit: i64,
    lanes: VecDeque<LaneId>,
}

impl Site {
    pub(super) fn new(name: Arc<str>, limits: SiteLimits) -> Self {
        Self {
            name,
            limits,
            roused: false,
            lines: Default::default(),
            leased: [0; 3],
            window: limits.concurrency.clamp(1, 4),
            failures: 0,
            suspended: None,
            next_at: Mono(0),
        }
    }

    /// True if no lane has anything ready.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.clients.is_empty())
    }

    /// Until when nothing may be leased, if so: suspended, or ahead of its pace.
    pub(super) fn closed_until(&mut self, now: Mono) -> Option<Mono> {
        if let Some(until) = self.suspended {
            if until > now {
                return Some(until);
            }
            self.suspended = None;
        }
        let pace = self.limits.pace?;
        let ahead = interval(pace).saturating_mul(pace.burst.saturating_sub(1));
        let earliest = Mono(self.next_at.0.saturating_sub(u64::try_from(ahead.as_micros()).unwrap_or(u64::MAX)));
        (earliest > now).then_some(earliest)
    }

    pub(super) fn suspended_until(&self, now: Mono) -> Option<Mono> {
        self.suspended.filter(|&until| until > now)
    }

    /// The most urgent class that has something ready and may use a slot.
    ///
    /// What is reserved for the other classes stays free even while they have nothing to send: a code that comes next
    /// must not wait for a campaign's connection, nor one campaign mail behind a flood of codes.
    pub(super) fn class_to_serve(&self) -> Option<Class> {
        let free = self.slots().checked_sub(self.leased.iter().sum())?;
        Class::ALL.into_iter().find(|&class| {
            let kept: usize = Class::ALL
                .into_iter()
                .filter(|&other| other != class)
                .map(|other| self.reserve().saturating_sub(self.leased[other.index()]))
                .sum();
            !self.lines[class.index()].clients.is_empty() && free > kept
        })
    }

    /// Puts a lane that has become ready, and does not stand there yet, into its client's turn.
    pub(super) fn line_up(&mut self, class: Class, client: &ClientName, lane: LaneId) {
        let clients = &mut self.lines[class.index()].clients;
        match clients.iter_mut().find(|s| s.client == *client) {
            Some(standing) => standing.lanes.push_back(lane),
            None => clients.push_back(Standing { client: client.clone(), credit: QUANTUM, lanes: [lane].into() }),
        }
    }

    /// The lane whose turn it is, by deficit round robin over the clients of a class. `front_cost` tells the cost of a
    /// lane's first ticket, or `None` for a lane that has emptied meanwhile.
    pub(super) fn next_lane(
        &mut self,
        class: Class,
        mut front_cost: impl FnMut(LaneId) -> Option<u32>,
    ) -> Option<LaneId> {
        let clients = &mut self.lines[class.index()].clients;
        // Ends: each turn either removes an empty lane or client, serves, or adds credit that suffices after a few turns.
        while let Some(standing) = clients.front_mut() {
            let Some(&lane) = standing.lanes.front() else {
                clients.pop_front();
                continue;
            };
            if front_cost(lane).is_none() {
                standing.lanes.pop_front();
                continue;
            }
            if standing.credit > 0 {
                return Some(lane);
            }
            standing.credit += QUANTUM;
            clients.rotate_left(1);
        }
        None
    }

    /// Accounts for a lease of the lane that [`Site::next_lane`] has just named: the first of the first client.
    pub(super) fn leased(&mut self, class: Class, cost: u32, lane_has_more: bool, now: Mono) {
        self.leased[class.index()] += 1;
        if let Some(pace) = self.limits.pace {
            self.next_at = self.next_at.max(now).plus(interval(pace));
        }
        let clients = &mut self.lines[class.index()].clients;
        let Some(standing) = clients.front_mut() else { return };
        standing.credit -= i64::from(cost).clamp(1, COST_MAX);
        let served = standing.lanes.pop_front();
        if lane_has_more {
            standing.lanes.extend(served);
        } else if standing.lanes.is_empty() {
            clients.pop_front();
        }
    }

    pub(super) fn leases(&self) -> usize {
        self.leased.iter().sum()
    }

    pub(super) fn returned(&mut self, class: Class) {
        self.leased[class.index()] = self.leased[class.index()].saturating_sub(1);
    }

    pub(super) fn went_well(&mut self) {
        self.failures = 0;
        self.window = (self.window + 1).min(self.limits.concurrency.max(1));
    }

    /// Returns until when the site is to be left alone, if that is new.
    pub(super) fn went_wrong(&mut self, now: Mono) -> Option<Mono> {
        self.window = 1;
        // Answers of leases that were out before the first failure must not lengthen the pause again and again.
        if self.suspended_until(now).is_some() {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        self.suspended = Some(now.plus(suspension(self.failures)));
        self.suspended
    }

    pub(super) fn resume(&mut self) {
        self.suspended = None;
    }

    /// How many more slots could be put to use.
    pub(super) fn slots_wanted(&self, ready_in: impl Fn(LaneId) -> usize) -> usize {
        let free = self.slots().saturating_sub(self.leased.iter().sum());
        let mut ready = 0;
        // Counts no further than matters: a site may have tens of thousands of lanes.
        for &lane in self.lines.iter().flat_map(|l| &l.clients).flat_map(|s| &s.lanes) {
            if ready >= free {
                break;
            }
            ready += ready_in(lane);
        }
        ready.min(free)
    }

    fn slots(&self) -> usize {
        self.window.min(self.limits.concurrency).max(1)
    }

    /// Slots kept for each class: an eighth, from four slots on one at least.
    fn reserve(&self) -> usize {
        match self.slots() {
            0..4 => 0,
            slots => (slots / 8).max(1),
        }
    }
}

fn interval(pace: Pace) -> Duration {
    Duration::from_secs_f64((1.0 / pace.per_second).clamp(0.000_001, 86_400.0))
}
