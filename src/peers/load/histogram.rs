//! Latencies in bounded memory.
//!
//! **Promises.** Log-linear buckets: exact below 64 µs, above that 32 buckets an octave, so a percentile is at most about
//! 3 % above the true value (and never above the largest value seen). 15 KiB whatever is recorded; recording is two atomic
//! additions and needs no lock. **Does not know** what is measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Values below this have a bucket each.
const EXACT: u64 = 64;
/// Buckets of one octave above that.
const PER_OCTAVE: usize = 32;
/// Octaves from 2^6 to 2^63.
const OCTAVES: usize = 58;
const BUCKETS: usize = EXACT as usize + OCTAVES * PER_OCTAVE;

/// Counts of latencies, shared by all connections.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Box<[AtomicU64]>,
    largest: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), largest: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.largest.fetch_max(micros, Ordering::Relaxed);
    }

    /// The largest latency recorded.
    pub(super) fn largest(&self) -> Duration {
        Duration::from_micros(self.largest.load(Ordering::Relaxed))
    }

    /// The latency that `share` (0 to 1) of all recorded ones do not exceed; zero if none was recorded.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(i)).min(self.largest());
            }
        }
        Duration::ZERO
    }
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let octave = value.ilog2() as usize;
    let within = (value >> (octave - 5)) as usize & (PER_OCTAVE - 1);
    EXACT as usize + (octave - 6) * PER_OCTAVE + within
}

/// The largest value that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    let (octave, within) = (above / PER_OCTAVE + 6, (above % PER_OCTAVE) as u64);
    let step = 1u64 << (octave - 5);
    (1u64 << octave) + (within * step) + (step - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_within_a_bucket_of_the_truth() {
        let h = Histogram::new();
        for micros in 1..=10_000 {
            h.record(Duration::from_micros(micros));
        }
        let near = |share: f64, truth: u64| {
            let got = u64::try_from(h.percentile(share).as_micros()).unwrap();
            assert!(got >= truth && got <= truth + truth / 31, "{share}: {got} for {truth}");
        };
        near(0.5, 5_000);
        near(0.99, 9_900);
        assert_eq!(h.percentile(1.0), Duration::from_micros(10_000));
        assert_eq!(h.largest(), Duration::from_micros(10_000));
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Histogram::new().percentile(0.99), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn every_value_has_a_bucket_that_holds_it(value: u64) {
            let at = bucket(value);
            prop_assert!(at < BUCKETS);
            prop_assert!(value <= upper_bound(at));
            prop_assert!(at == 0 || value > upper_bound(at - 1));
        }
    }
}
