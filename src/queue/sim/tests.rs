//! The simulator's tests: many seeds, one seed twice, and sabotage that must be caught.

use std::hash::DefaultHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::model::Counts;
use super::trace::Trace;
use super::{Sabotage, run};
use crate::clock::{Clock, Mono, SystemClock};
use crate::event::metrics::Metrics;

/// Seeds tried unless the environment says otherwise.
const RUNS: u64 = 10_000;
/// How often a long run says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// What several threads do together.
struct Campaign {
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    counts: Mutex<Counts>,
    failures: Mutex<Vec<(u64, String)>>,
    clock: SystemClock,
    told: Mutex<Mono>,
}

impl Campaign {
    fn work(&self) {
        let metrics = Arc::new(Metrics::new());
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return;
            }
            match run(seed, Sabotage::Nothing, &metrics, Trace::default()) {
                Ok((counts, _)) => self.counts.lock().add(&counts),
                Err(what) => {
                    self.failures.lock().push((seed, what));
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            self.tell(seed);
        }
    }

    fn tell(&self, seed: u64) {
        let now = self.clock.mono();
        let mut told = self.told.lock();
        if now.since(*told) >= TELL_EVERY {
            *told = now;
            eprintln!("simulator: seed {seed} of {}, {} s", self.end, now.since(Mono(0)).as_secs());
        }
    }
}

#[test]
fn what_was_answered_holds_whatever_happens() {
    if let Some(seed) = variable("POSTRIDER_SIM_SEED") {
        // What the queue itself says stands among the trace.
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_test_writer().try_init();
        let trace = Trace { print: true, hash: None };
        let counts = run(seed, Sabotage::Nothing, &Arc::new(Metrics::new()), trace);
        eprintln!("{counts:#?}");
        assert!(counts.is_ok(), "seed {seed} fails");
        return;
    }
    let from = variable("POSTRIDER_SIM_FROM").unwrap_or(0);
    let runs = variable("POSTRIDER_SIM_RUNS").unwrap_or(RUNS);
    let campaign = Campaign {
        next: AtomicU64::new(from),
        end: from + runs,
        stop: AtomicBool::new(false),
        counts: Mutex::default(),
        failures: Mutex::default(),
        clock: SystemClock::new(),
        told: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| campaign.work()))));
    let counts = *campaign.counts.lock();
    eprintln!("simulator: {runs} seeds in {} ms: {counts:?}", campaign.clock.mono().0 / 1_000);
    for (seed, what) in campaign.failures.lock().iter() {
        eprintln!(
            "seed {seed}: {what}\nreplay: POSTRIDER_SIM_SEED={seed} cargo test --lib queue::sim::tests::what -- --nocapture"
        );
    }
    assert!(campaign.failures.lock().is_empty(), "a promise was broken; seeds above");
    // The runs must be about something.
    let every = [counts.accepted, counts.ended, counts.duplicates, counts.unknown, counts.replayed, counts.power_cuts];
    let rest = [counts.kills, counts.clean_ends, counts.failed_starts, counts.flips, counts.spoilt];
    assert!(runs < 1_000 || every.iter().chain(&rest).all(|n| *n > 0), "{counts:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let metrics = Arc::new(Metrics::new());
    for seed in 0..40 {
        let sum = || {
            let trace = Trace { print: false, hash: Some(DefaultHasher::new()) };
            run(seed, Sabotage::Nothing, &metrics, trace).unwrap_or_else(|e| panic!("seed {seed}: {e}"))
        };
        let (one, other) = (sum(), sum());
        assert!(one.1.is_some());
        assert_eq!(one, other, "seed {seed}");
    }
}

/// A sabotage must be caught within so many seeds.
fn caught(sabotage: Sabotage, seeds: u64) {
    let metrics = Arc::new(Metrics::new());
    let catch = (0..seeds).find_map(|seed| Some((seed, run(seed, sabotage, &metrics, Trace::default()).err()?)));
    let (seed, what) = catch.unwrap_or_else(|| panic!("{sabotage:?} is not caught within {seeds} seeds"));
    eprintln!("{sabotage:?}: caught by seed {seed}: {}", what.lines().next().unwrap_or_default());
}

#[test]
fn a_disk_that_does_not_sync_is_caught() {
    caught(Sabotage::NoSync, 20);
}

#[test]
fn an_answer_before_the_write_is_caught() {
    caught(Sabotage::AnswerBeforeWrite, 20);
}

#[test]
fn checksums_that_are_not_compared_are_caught() {
    caught(Sabotage::BlindChecksums, 500);
}

#[test]
fn segments_freed_too_early_are_caught() {
    caught(Sabotage::NotesAboutNothing, 500);
}

#[test]
fn a_cut_that_is_not_synced_is_caught() {
    caught(Sabotage::UnsyncedCuts, 2_000);
}

#[test]
fn sidecars_that_cover_too_much_are_caught() {
    caught(Sabotage::EagerMarks, 2_000);
}
