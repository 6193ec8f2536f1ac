//! What the schedule costs for each operation, from ten thousand to ten million tickets.
//!
//! ```text
//! cargo bench --bench schedule                        # four sizes, about a minute
//! cargo bench --bench schedule -- --entries 100000    # one size
//! ```
//!
//! A schedule is filled with tickets that come due at random within four hours, in 1,000 lanes at 100 sites, of three classes
//! and twenty clients. Then three things are measured, each with as many tickets standing there all the time:
//! *put back*: a ticket, chosen at random, gets a new due time; *come due*: time goes on in steps in which 16 tickets come
//! due, which are pulled and put back with a new due time four hours ahead, all of which counts; *replace*: a ticket, chosen
//! at random, is removed and a new one added. Beside them stands the limit: *memory*, a cache line chosen at random out of as
//! much memory as the schedule holds, read and written, each after the one before; what a schedule costs more with more
//! tickets than that does is its own doing. The processor's time is measured, and rounds of the sizes are interleaved, so
//! that a noisy neighbour meets all of them in the same way; the median is printed, with the least and the most.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Duration;

use postrider::clock::Mono;
use postrider::model::Class;
use postrider::schedule::{LaneId, LaneKey, Pulled, Schedule, SiteId, SiteLimits, Ticket};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const SITES: usize = 100;
const LANES: usize = 1_000;
const CLIENTS: usize = 20;
/// Within this time everything comes due.
const SPREAD: Duration = Duration::from_secs(4 * 3_600);
/// How long the relay keeps trying.
const EXPIRY: Duration = Duration::from_secs(5 * 86_400);
/// Tickets that come due in a step.
const STEP: usize = 16;

const ROUNDS: usize = 9;
/// Operations measured in a round.
const OPERATIONS: usize = 200_000;
const KINDS: usize = 4;
const MEASURED: [&str; KINDS] = ["put back", "come due", "replace", "memory"];

/// As much as a processor fetches at a time.
type CacheLine = [u64; 8];

/// A schedule of some size, and the time in it.
struct Filled {
    schedule: Schedule,
    sites: Vec<SiteId>,
    lanes: Vec<LaneId>,
    tickets: Vec<Ticket>,
    now: Mono,
    chance: Chance,
    bytes_each: f64,
    /// As much memory again, for the limit.
    bare: Vec<CacheLine>,
}

impl Filled {
    fn new(entries: usize) -> Self {
        let mut schedule = Schedule::new(false);
        let limits = SiteLimits { concurrency: usize::MAX / 2, pace: None };
        let sites: Vec<SiteId> = (0..SITES).map(|n| schedule.site(&Arc::from(format!("site {n}")), limits)).collect();
        let lanes = (0..LANES)
            .map(|n| {
                let destination = format!("d{n}.example").into();
                let client = format!("client {}", n % CLIENTS).into();
                let key = LaneKey { destination, class: Class::ALL[n % 3], client, apart: None };
                schedule.lane(&key, sites[n % SITES])
            })
            .collect();
        let tickets = Vec::with_capacity(entries);
        let (now, chance) = (Mono(1_000_000), Chance(0x5eed));
        let mut filled = Self { schedule, sites, lanes, tickets, now, chance, bytes_each: 0.0, bare: Vec::new() };
        // The list of handles is the benchmark's own: its pages are touched before memory is looked at.
        filled.tickets.resize(entries, filled.schedule.add_parked(0, filled.now, filled.now));
        let before = resident();
        for n in 0..entries {
            filled.tickets[n] = filled.add(n as u32);
        }
        let held = resident().saturating_sub(before);
        filled.bytes_each = held as f64 / entries as f64;
        filled.bare = vec![[1; 8]; (held / size_of::<CacheLine>()).max(1)];
        filled
    }

    fn add(&mut self, owner: u32) -> Ticket {
        let (lane, due) = (self.lanes[self.chance.below(LANES)], self.due());
        self.schedule.add(lane, 4_096, owner, due, self.now.plus(EXPIRY), self.now)
    }

    fn due(&mut self) -> Mono {
        self.now.plus(Duration::from_micros(self.chance.below(SPREAD.as_micros() as usize) as u64 + 1))
    }

    fn put_back(&mut self, operations: usize) -> usize {
        for at in 0..operations {
            let (ticket, lane, due) = (self.tickets[at], self.lanes[self.chance.below(LANES)], self.due());
            assert!(self.schedule.put(ticket, lane, 4_096, due, self.now));
        }
        operations
    }

    fn come_due(&mut self, operations: usize) -> usize {
        let mut done = 0;
        let step = SPREAD.mul_f64(STEP as f64 / self.tickets.len() as f64);
        while done < operations {
            self.now = self.now.plus(step);
            while self.schedule.advance(self.now).is_some_and(|next| next <= self.now) {}
            for site in self.schedule.roused() {
                while let Pulled::Ticket(ticket) = self.schedule.pull(site, self.now) {
                    self.schedule.went_well(ticket);
                    assert!(self.schedule.put_back(ticket, self.now.plus(SPREAD), self.now));
                    done += 1;
                }
            }
        }
        done
    }

    fn replace(&mut self, operations: usize) -> usize {
        for at in 0..operations {
            assert!(self.schedule.remove(self.tickets[at]));
            self.tickets[at] = self.add(at as u32);
        }
        operations
    }

    /// Where it goes next depends on what it has read: nothing can be fetched ahead.
    fn memory(&mut self, operations: usize) -> usize {
        let (mut read, last) = (0, self.bare.len() - 1);
        for _ in 0..operations {
            let at = self.chance.below(last + 1) ^ (read & 1) as usize;
            let line = &mut self.bare[at.min(last)];
            line[0] = line[0].wrapping_add(read | 1);
            read = line[0];
        }
        std::hint::black_box(read);
        operations
    }

    /// Brings other tickets to the front of the list: those that the next operations are about.
    fn choose(&mut self, operations: usize) {
        for at in 0..operations {
            let other = at + self.chance.below(self.tickets.len() - at);
            self.tickets.swap(at, other);
        }
    }

    /// Nanoseconds for one operation of each kind.
    fn round(&mut self) -> [f64; KINDS] {
        // A small schedule does not turn over many times in a round: its time would fly.
        let operations = OPERATIONS.min(self.tickets.len());
        [Self::put_back, Self::come_due, Self::replace, Self::memory].map(|measured| {
            self.choose(operations);
            let start = processor_time();
            let done = measured(self, operations);
            (processor_time() - start).as_nanos() as f64 / done as f64
        })
    }
}

/// A simple row of numbers that look random (xorshift), the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * bound as u128) >> 64) as usize
    }
}

/// What this thread has used of the processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory that the process holds, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

fn median(times: &mut [f64]) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2], times[times.len() - 1])
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let chosen = arguments.iter().position(|a| a == "--entries").map(|at| {
        let number = arguments.get(at + 1).and_then(|n| n.replace('_', "").parse().ok());
        number.filter(|n| *n > 0).expect("--entries wants a number")
    });
    let sizes = chosen.map_or(SIZES.to_vec(), |entries| vec![entries]);
    let mut all: Vec<Filled> = Vec::new();
    for &entries in &sizes {
        let start = processor_time();
        let mut filled = Filled::new(entries);
        println!(
            "{entries:>10} tickets: filled in {:.2} s, {:.1} bytes each, {} sites",
            (processor_time() - start).as_secs_f64(),
            filled.bytes_each,
            filled.sites.len(),
        );
        // As many void timers as there will be from now on.
        let mut left = entries;
        while left > 0 {
            let operations = OPERATIONS.min(left);
            filled.choose(operations);
            left -= filled.put_back(operations);
        }
        filled.round();
        all.push(filled);
    }
    let mut times = vec![[const { Vec::new() }; KINDS]; all.len()];
    for _ in 0..ROUNDS {
        for (filled, times) in all.iter_mut().zip(&mut times) {
            for (kind, time) in times.iter_mut().zip(filled.round()) {
                kind.push(time);
            }
        }
    }
    println!("\n{:>10} {}", "tickets", MEASURED.map(|kind| format!("{kind:>26}")).concat());
    let mut medians = Vec::new();
    for (entries, times) in sizes.iter().zip(&mut times) {
        let figures = times.each_mut().map(|kind| median(kind));
        let shown = figures.map(|(least, median, most)| format!("{median:>8.1} ns ({least:>5.0}-{most:<5.0})"));
        println!("{entries:>10} {}", shown.map(|kind| format!("{kind:>26}")).concat());
        medians.push(figures.map(|(_, median, _)| median));
    }
    for (one, other) in [(3, 2), (3, 1)] {
        if let (Some(more), Some(less)) = (medians.get(one), medians.get(other)) {
            let ratios = [0, 1, 2, 3].map(|kind| format!("{:>26.2}", more[kind] / less[kind]));
            println!("{:>4}M/{:>4}k {}", sizes[one] / 1_000_000, sizes[other] / 1_000, ratios.concat());
        }
    }
}
