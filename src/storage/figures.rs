//! Figures: counted by the committer, read by anybody, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::table::Totals;

/// Figures since the log was opened, and of now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Batches written and synced.
    pub batches: u64,
    /// Groups in them.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, batch and record headers included; bodies in files of their own are not.
    pub bytes: u64,
    /// Time spent in write and sync, all batches together.
    pub sync_time: Duration,
    /// How many batches took how long to write and sync: one count for each of [`Stats::SYNC_TIME_BOUNDS_MICROS`] (this long
    /// or shorter, and longer than the one before), one for the rest.
    pub sync_time_counts: [u64; SYNC_TIME_BOUNDS_MICROS.len() + 1],
    /// Segments on disk that something holds: those made in advance or laid aside not counted.
    pub segments: u64,
    /// Bytes allocated to them.
    pub segment_bytes: u64,
    /// Live records.
    pub live_records: u64,
    /// Bytes of live records, bodies in files of their own included.
    pub live_bytes: u64,
    /// Damaged places found at start, and by reads since.
    pub damaged: u64,
    /// Bytes free on the disk, when last looked: a second ago at most.
    pub available_bytes: u64,
}

impl Stats {
    /// Upper bounds for [`Stats::sync_time_counts`].
    pub const SYNC_TIME_BOUNDS_MICROS: [u64; SYNC_TIME_BOUNDS_MICROS.len()] = SYNC_TIME_BOUNDS_MICROS;
}

/// Upper bounds of the counts in [`Stats::sync_time_counts`], in microseconds; the last count has none.
const SYNC_TIME_BOUNDS_MICROS: [u64; 12] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 512_000, 2_048_000];

/// Figures that the committer keeps and anybody reads.
#[derive(Debug, Default)]
pub struct Figures {
    pub batches: AtomicU64,
    pub groups: AtomicU64,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub sync_micros: AtomicU64,
    pub sync_counts: [AtomicU64; SYNC_TIME_BOUNDS_MICROS.len() + 1],
    pub damaged: AtomicU64,
}

impl Figures {
    /// A batch was written and synced.
    pub fn synced(&self, micros: u64) {
        self.sync_micros.fetch_add(micros, Ordering::Relaxed);
        let bucket = SYNC_TIME_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.sync_counts[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// The figures at this moment, with what the table and the disk say.
    pub fn stats(&self, totals: Totals, available_bytes: u64) -> Stats {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Stats {
            batches: read(&self.batches),
            groups: read(&self.groups),
            records: read(&self.records),
            bytes: read(&self.bytes),
            sync_time: Duration::from_micros(read(&self.sync_micros)),
            sync_time_counts: std::array::from_fn(|n| read(&self.sync_counts[n])),
            segments: totals.segments,
            segment_bytes: totals.segment_bytes,
            live_records: totals.live_records,
            live_bytes: totals.live_bytes,
            damaged: read(&self.damaged),
            available_bytes,
        }
    }
}
