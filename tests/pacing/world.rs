//! A relay's schedule and pacer against a modelled provider, in simulated time: every answer goes through the provider table.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use postrider::clock::{Clock as _, ManualClock, Mono, Timestamp};
use postrider::egress::email::refused;
use postrider::model::{Class, Outcome, RecipientOutcome, Relayed, Reply};
use postrider::provider::Table;
use postrider::queue::PaceOptions;
use postrider::schedule::{LaneId, LaneKey, NEVER, Pulled, Schedule, SiteId, SiteLimits, Step, Ticket};

use super::far_end::{FarEnd, GREETING, Kind, REFUSAL, TRANSACTION};

/// Mails ready in each lane, all the time: there is always more to send than may go.
const READY: usize = 200;
/// What has been deferred comes back after this time, if no row says later.
const RETRY: Duration = Duration::from_secs(60);
/// A figure is taken so often.
pub const SAMPLE: Duration = Duration::from_secs(5);
/// As the dispatch does: a connection without work is closed after this time, and so long is waited for at most.
const IDLE: Duration = Duration::from_secs(30);

/// What happened in one [`SAMPLE`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Sample {
    pub accepted: u32,
    pub refused: u32,
    /// The limits in force at its end; no rate is infinite.
    pub connections: usize,
    pub per_second: f64,
}

/// A mail worker, which is one connection.
#[derive(Clone, Copy, Default)]
struct Worker {
    there: bool,
    connected: bool,
    carried: u32,
    /// It has been told to look again at this time; older calls do not count.
    calls: u64,
}

enum Due {
    Call(u64),
    Done(Ticket, Outcome, Mono),
}

pub struct World {
    clock: ManualClock,
    table: Arc<Table>,
    schedule: Schedule,
    site: SiteId,
    lanes: Vec<LaneId>,
    far_end: FarEnd,
    workers: Vec<Worker>,
    due: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    /// What is due, by the second number of [`World::due`].
    what: HashMap<u64, Due>,
    last: u64,
    chance: Chance,
    pub samples: Vec<Sample>,
    current: Sample,
    /// Everything that the pacer did, and when.
    pub steps: Vec<(Mono, Step)>,
    /// When the last mail was handed over or refused.
    pub attempts: Vec<Mono>,
}

impl World {
    pub fn new(kind: Kind, share: f64) -> Self {
        let table = Table::shipped();
        let provider = table.provider_of(kind.host);
        let mut schedule = Schedule::new(false);
        let site = schedule.site(&provider.name, SiteLimits { concurrency: 1, pace: None });
        schedule.pace(site, PaceOptions::default().terms(&provider.name, &provider.limits), Mono(0));
        let mut world = Self {
            clock: ManualClock::at(Timestamp::from_seconds(1_795_000_000)),
            far_end: FarEnd::new(kind, share),
            table,
            schedule,
            site,
            lanes: Vec::new(),
            workers: Vec::new(),
            due: BinaryHeap::new(),
            what: HashMap::new(),
            last: 0,
            chance: Chance(0x5eed ^ u64::from(kind.connections) << 8 ^ (share * 64.0) as u64),
            samples: Vec::new(),
            current: Sample::default(),
            steps: Vec::new(),
            attempts: Vec::new(),
        };
        for destination in ["one.example", "two.example"] {
            for class in [Class::Transactional, Class::Marketing] {
                let key = LaneKey { destination: destination.into(), class, client: "shop".into(), apart: None };
                let lane = world.schedule.lane(&key, site);
                world.lanes.push(lane);
                (0..READY).for_each(|_| world.add(lane));
            }
        }
        world
    }

    pub fn capacity(&self) -> f64 {
        self.far_end.capacity()
    }

    /// From now on it refuses everything for so long.
    pub fn block(&mut self, lasts: Duration) {
        self.far_end.blocks_until = self.now().plus(lasts);
    }

    pub fn now(&self) -> Mono {
        self.clock.mono()
    }

    fn add(&mut self, lane: LaneId) {
        let now = self.now();
        self.schedule.add(lane, 4_096, 0, now, NEVER, now);
    }

    /// Lets time go by.
    pub fn run(&mut self, span: Duration) {
        let end = self.now().plus(span);
        let mut sampled = Mono(self.samples.len() as u64 * SAMPLE.as_micros() as u64).plus(SAMPLE);
        loop {
            let wakes = self.schedule.advance(self.now());
            self.rouse();
            let next = self.due.peek().map(|Reverse((at, ..))| *at);
            let next = next.into_iter().chain(wakes).min().unwrap_or(end).min(end).max(self.now());
            while sampled <= next {
                let pacers = self.schedule.pacer(self.site).unwrap();
                let limits = pacers.limits(sampled);
                self.current.connections = limits.concurrency;
                self.current.per_second = limits.pace.map_or(f64::INFINITY, |pace| pace.per_second);
                if pacers.suspended(sampled).is_some() {
                    (self.current.connections, self.current.per_second) = (0, 0.0);
                }
                self.samples.push(std::mem::take(&mut self.current));
                sampled = sampled.plus(SAMPLE);
            }
            self.clock.advance(next.since(self.now()));
            if next >= end {
                return;
            }
            while let Some(Reverse((at, number, worker))) = self.due.peek().copied() {
                if at > next {
                    break;
                }
                self.due.pop();
                match self.what.remove(&number).unwrap() {
                    Due::Call(call) if self.workers[worker].calls == call => self.look(worker),
                    Due::Call(_) => {}
                    Due::Done(ticket, outcome, began) => self.done(worker, ticket, outcome, began),
                }
            }
        }
    }

    /// As the dispatch does: as many workers as there are slots wanted, and no more than slots.
    fn rouse(&mut self) {
        if self.schedule.roused().is_empty() {
            return;
        }
        for _ in 0..self.schedule.slots_wanted(self.site) {
            let there = self.workers.iter().filter(|w| w.there).count();
            let resting = self.workers.iter().position(|w| w.there && w.calls == u64::MAX);
            let worker = match resting {
                Some(resting) => resting,
                None if there < self.schedule.slots_max(self.site) => {
                    let free = self.workers.iter().position(|w| !w.there);
                    let worker = free.unwrap_or(self.workers.len());
                    self.workers.resize(self.workers.len().max(worker + 1), Worker::default());
                    self.workers[worker] = Worker { there: true, ..Worker::default() };
                    worker
                }
                None => return,
            };
            self.call(worker, Duration::ZERO);
        }
    }

    fn put(&mut self, worker: usize, at: Mono, what: Due) {
        self.last += 1;
        self.what.insert(self.last, what);
        self.due.push(Reverse((at, self.last, worker)));
    }

    fn call(&mut self, worker: usize, after: Duration) {
        let call = self.last + 1;
        self.workers[worker].calls = call;
        self.put(worker, self.now().plus(after), Due::Call(call));
    }

    fn hang_up(&mut self, worker: usize) {
        if std::mem::take(&mut self.workers[worker].connected) {
            self.far_end.open -= 1;
        }
        self.workers[worker].carried = 0;
    }

    fn leave(&mut self, worker: usize) {
        self.hang_up(worker);
        self.workers[worker] = Worker::default();
    }

    /// A worker looks for something to do.
    fn look(&mut self, worker: usize) {
        let now = self.now();
        if !self.workers[worker].connected {
            // Whoever has no connection goes first when there are too many.
            if self.workers.iter().filter(|w| w.there).count() > self.schedule.slots_max(self.site) {
                return self.leave(worker);
            }
            let wait = self.schedule.connection_wait(self.site, now);
            if !wait.is_zero() {
                return self.call(worker, wait);
            }
        }
        let ticket = match self.schedule.pull(self.site, now) {
            Pulled::Ticket(ticket) => ticket,
            Pulled::NotBefore(then) if then.since(now) > IDLE => return self.leave(worker),
            Pulled::NotBefore(then) => return self.call(worker, then.since(now).max(Duration::from_micros(1))),
            Pulled::Busy | Pulled::Nothing => {
                let there = self.workers.iter().filter(|w| w.there).count();
                if there > self.schedule.slots_max(self.site) {
                    return self.leave(worker);
                }
                self.workers[worker].calls = u64::MAX;
                return;
            }
        };
        let provider = self.table.provider_of(self.far_end.kind.host);
        let mut took = Duration::ZERO;
        if !self.workers[worker].connected {
            self.schedule.connected(self.site, now);
            if let Err(refusal) = self.far_end.connect() {
                let outcome = refused(provider, &refusal.reply(), refusal.at, false);
                return self.put(worker, now.plus(REFUSAL), Due::Done(ticket, outcome, now));
            }
            self.workers[worker].connected = true;
            took += GREETING;
        }
        let outcome = match self.far_end.take(now) {
            Ok(()) => {
                took += TRANSACTION.mul_f64(0.8 + 0.4 * self.chance.share());
                let reply = Reply { code: 250, enhanced: None, text: "2.0.0 OK".to_owned() };
                Outcome::Relayed(Relayed { reply, notifies: true })
            }
            Err(refusal) => {
                took += REFUSAL;
                refused(provider, &refusal.reply(), refusal.at, false)
            }
        };
        self.put(worker, now.plus(took), Due::Done(ticket, outcome, now));
    }

    /// A worker has its answer.
    fn done(&mut self, worker: usize, ticket: Ticket, outcome: Outcome, began: Mono) {
        let now = self.now();
        self.attempts.push(now);
        let pause = match &outcome {
            Outcome::Relayed(_) => None,
            Outcome::Delayed(f) => Some(f.retry_after.unwrap_or(RETRY)),
            Outcome::Failed(f) => panic!("a model refuses nothing for good: {f:?}"),
        };
        let closes = matches!(&outcome, Outcome::Delayed(f) if f.reply.as_ref().is_some_and(|r| r.code == 421));
        let duration = now.since(began);
        let answer = RecipientOutcome { recipient: 0, outcome, peer: None, progress: None, duration };
        match self.schedule.heard(ticket, &[answer], now) {
            Some((_, told)) => self.steps.extend(told.into_iter().map(|told| (now, told.step))),
            None => self.schedule.went_well(ticket),
        }
        match pause {
            Some(pause) => {
                self.current.refused += 1;
                let stretched = pause.mul_f64(1.0 + 0.15 * self.chance.share());
                self.schedule.put_back(ticket, now.plus(stretched), now);
            }
            None => {
                self.current.accepted += 1;
                let lane = self.schedule.lane_of(ticket).unwrap();
                self.schedule.remove(ticket);
                self.add(lane);
            }
        }
        self.workers[worker].carried += 1;
        let most = self.schedule.pacer(self.site).unwrap().messages_per_connection().unwrap_or(u32::MAX);
        if closes || self.workers[worker].carried >= most {
            self.hang_up(worker);
        }
        self.call(worker, Duration::ZERO);
    }
}

/// Numbers that look random (xorshift), the same in every run.
struct Chance(u64);

impl Chance {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
