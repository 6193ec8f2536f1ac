//! One site: the limits several lanes share, and the line in which their clients stand.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::pacers::Pacers;
use super::slab::COST_MAX;
use super::suspension;
use crate::clock::Mono;
use crate::model::Class;

/// Names a site within one schedule; never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SiteId(pub(super) u32);

/// Credit a client gets per turn. A 4 KiB mail spends a sixteenth of it.
const QUANTUM: i64 = 64 * 1024;

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

impl Pace {
    /// The time from one to the next.
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64((1.0 / self.per_second).clamp(0.000_001, 86_400.0))
    }

    /// How far the next may run ahead of its time.
    pub fn ahead(self) -> Duration {
        self.interval().saturating_mul(self.burst.saturating_sub(1))
    }
}

/// A site's state.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: Arc<str>,
    pub(super) limits: SiteLimits,
    /// Reported to the caller and not yet fetched.
    pub(super) roused: bool,
    lines: [Line; 3],
    /// Tickets ready in its lanes, by class.
    ready: [usize; 3],
    leased: [usize; 3],
    /// How many leases the site has earned, between 1 and its concurrency: it grows with every good answer and falls to
    /// one when the site fails.
    pub(super) window: usize,
    failures: u32,
    /// Finds the limits out, where they are not simply set.
    pub(super) pacer: Option<Box<Pacers>>,
    suspended: Option<Mono>,
    /// GCRA's theoretical arrival time.
    next_at: Mono,
}

/// The clients of one class, in turn. Each client in the order has its standing, and the other way round.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<u32>,
    clients: Numbered<u32, Standing>,
}

/// A client that has ready lanes here.
#[derive(Debug)]
struct Standing {
    credit: i64,
    lanes: VecDeque<InLine>,
}

/// A lane's place in the line of its client, good for one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct InLine {
    /// The lane's place among the lanes.
    pub(super) lane: u32,
    /// The turn for which it lined up.
    pub(super) turn: u64,
}

/// A map by numbers that nobody outside can choose.
pub(super) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads a number over all bits with one multiplication.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl Site {
    pub(super) fn new(name: Arc<str>, limits: SiteLimits) -> Self {
        Self {
            name,
            limits,
            roused: false,
            lines: Default::default(),
            ready: [0; 3],
            leased: [0; 3],
            window: limits.concurrency.clamp(1, 4),
            failures: 0,
            pacer: None,
            suspended: None,
            next_at: Mono(0),
        }
    }

    /// True if no lane has anything ready.
    pub(super) fn is_empty(&self) -> bool {
        self.ready == [0; 3]
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
        let ahead = pace.ahead();
        // A slower pace than this may have set it further ahead.
        self.next_at = self.next_at.min(now.plus(ahead.saturating_add(pace.interval())));
        let earliest = Mono(self.next_at.0.saturating_sub(u64::try_from(ahead.as_micros()).unwrap_or(u64::MAX)));
        (earliest > now).then_some(earliest)
    }

    pub(super) fn suspended_until(&self, now: Mono) -> Option<Mono> {
        self.suspended.filter(|&until| until > now)
    }

    /// The most urgent class that has something ready and may use a slot; `only` that one, if one is named.
    ///
    /// What is reserved for the other classes stays free even while they have nothing to send: a code that comes next
    /// must not wait for a campaign's connection, nor one campaign mail behind a flood of codes.
    pub(super) fn class_to_serve(&self, only: Option<Class>) -> Option<Class> {
        let free = self.slots().checked_sub(self.leased.iter().sum())?;
        let mut classes = Class::ALL.into_iter().filter(|class| only.is_none_or(|only| only == *class));
        classes.find(|&class| self.ready[class.index()] > 0 && free > self.kept_from(class))
    }

    /// Slots that stay free for the other classes.
    fn kept_from(&self, class: Class) -> usize {
        let others = Class::ALL.into_iter().filter(|&other| other != class);
        others.map(|other| self.reserve().saturating_sub(self.leased[other.index()])).sum()
    }

    /// How many leases may be out at a time, of the classes that have something to send now.
    pub(super) fn slots_usable(&self) -> usize {
        let leased = self.leases();
        let free = self.slots().saturating_sub(leased);
        let uses = |class: &Class| self.ready[class.index()] > 0 || self.leased[class.index()] > 0;
        let more = Class::ALL.into_iter().filter(uses).map(|class| free.saturating_sub(self.kept_from(class))).max();
        leased.min(self.slots()) + more.unwrap_or(free)
    }

    /// Something would go if there were a slot for it.
    pub(super) fn has_too_few_slots(&self) -> bool {
        !self.is_empty() && self.class_to_serve(None).is_none()
    }

    /// Tickets have become ready in a lane of that class.
    pub(super) fn more_ready(&mut self, class: Class, tickets: u32) {
        self.ready[class.index()] += tickets as usize;
    }

    /// Tickets of that class are not ready here any more.
    pub(super) fn less_ready(&mut self, class: Class, tickets: u32) {
        self.ready[class.index()] -= tickets as usize;
    }

    /// Puts a lane that has become ready, and does not stand there yet, into its client's turn.
    pub(super) fn line_up(&mut self, class: Class, client: u32, lane: InLine) {
        let line = &mut self.lines[class.index()];
        let standing = line.clients.entry(client).or_insert_with(|| {
            line.order.push_back(client);
            Standing { credit: QUANTUM, lanes: VecDeque::new() }
        });
        standing.lanes.push_back(lane);
    }

    /// The lane whose turn it is, by deficit round robin over the clients of a class. `stands` tells whether a place in
    /// line still counts: false for a lane that has gone elsewhere or has emptied meanwhile.
    pub(super) fn next_lane(&mut self, class: Class, mut stands: impl FnMut(InLine) -> bool) -> Option<u32> {
        let Line { order, clients } = &mut self.lines[class.index()];
        // Ends: each turn either removes an empty lane or client, serves, or adds credit that suffices after a few turns.
        while let Some(&client) = order.front() {
            let standing = clients.get_mut(&client)?;
            let Some(&first) = standing.lanes.front() else {
                clients.remove(&client);
                order.pop_front();
                continue;
            };
            if !stands(first) {
                standing.lanes.pop_front();
                continue;
            }
            if standing.credit > 0 {
                return Some(first.lane);
            }
            standing.credit += QUANTUM;
            order.rotate_left(1);
        }
        None
    }

    /// Accounts for a lease of the lane that [`Site::next_lane`] has just named: the first of the first client.
    pub(super) fn leased(&mut self, class: Class, cost: u32, lane_has_more: bool, now: Mono) {
        self.less_ready(class, 1);
        self.leased[class.index()] += 1;
        if let Some(pace) = self.limits.pace {
            self.next_at = self.next_at.max(now).plus(pace.interval());
        }
        let Line { order, clients } = &mut self.lines[class.index()];
        let Some(client) = order.front() else { return };
        let Some(standing) = clients.get_mut(client) else { return };
        standing.credit -= i64::from(cost.clamp(1, COST_MAX));
        let served = standing.lanes.pop_front();
        if lane_has_more {
            standing.lanes.extend(served);
        } else if standing.lanes.is_empty() {
            clients.remove(client);
            order.pop_front();
        }
    }

    /// Leases of a lane that has moved here from elsewhere, or has left.
    pub(super) fn move_leases(&mut self, class: Class, come: u32, gone: u32) {
        let leased = &mut self.leased[class.index()];
        *leased = (*leased + come as usize).saturating_sub(gone as usize);
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

    /// Leaves the site alone until then, and has it probed by one lease.
    pub(super) fn suspend(&mut self, until: Mono) {
        self.window = 1;
        self.suspended = self.suspended.max(Some(until));
    }

    pub(super) fn resume(&mut self) {
        self.suspended = None;
    }

    /// Forgets places in line that do not count any more.
    pub(super) fn tidy(&mut self, stands: impl Fn(InLine) -> bool) {
        for standing in self.lines.iter_mut().flat_map(|line| line.clients.values_mut()) {
            standing.lanes.retain(|lane| stands(*lane));
        }
    }

    /// How many more slots could be put to use.
    pub(super) fn slots_wanted(&self) -> usize {
        if self.class_to_serve(None).is_none() {
            return 0;
        }
        let free = self.slots().saturating_sub(self.leased.iter().sum());
        self.ready.iter().sum::<usize>().min(free)
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
