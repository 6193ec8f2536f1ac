//! The log: records made durable, many at one fsync, and given back after a crash. It knows bytes, not messages.
//!
//! **Promises.**
//! - [`Log::append`] returns a [`Durable`] only after the whole group is on stable storage. A group is all or nothing: after
//!   a crash either all of its records are replayed or none.
//! - Kill -9 or a power cut at any instant loses nothing that was answered, and brings nothing back that had ended.
//! - Damage is found (a checksum on every header, payload and body), set aside in `quarantine/`, counted and reported; the
//!   rest goes on. A read error is not damage. Nothing is skipped in silence.
//! - After a failed fsync nothing is retried on that file: the log is poisoned and takes no more ([`Log::poisoned`]).
//! - Everything is bounded: what waits for the committer ([`Options::queue_bytes_max`]), batches, open files. Per live record
//!   28 bytes of memory are kept.
//!
//! **Does not know** messages, recipients, channels; what a `kind`, a `key` or a payload means is its caller's business.
//!
//! # The directory
//!
//! ```text
//! lock                               held by the one process that has the log open
//! segments/0000000000000001.log      format: segment.rs (header), batch.rs (batches), record.rs (records)
//! bodies/<key>-<number>              one body above Options::inline_body_bytes_max each, raw (bodies.rs)
//! quarantine/                        copies of what could not be read, for people to look at (recovery.rs)
//! ```
//!
//! # Floors, low to high; each ignorant of those above
//!
//! `disk` (calls) · `record` `batch` `segment` (formats) · `table` (what lives where; when a segment may go) · `bodies` ·
//! `scan` `recovery` · `inbox` `committer` `janitor` (the two threads) · `log` (the front).
//!
//! # Numbers
//!
//! A segment is 64 MiB, allocated in advance, a batch at most 4 MiB: a segment takes at least 15 full batches. One fdatasync
//! a batch, none overlapping: at 0.4 ms a sync a lone submitter gets some 2,500 appends/s, and 64 submitters share each sync.
//! A record costs 56 bytes of header, a batch 32, rounded up to [`Options::alignment`].
//!
//! # When a segment may go
//!
//! A segment is removed when it is full or closed, no record in it is live, and no record in it is *about* a record in
//! another segment that still exists (durably: its removal has been synced before the next is begun). So the record that
//! says "ended" outlives every record that would begin again without it. `table.rs` holds the rule and its tests.

mod batch;
mod bodies;
mod committer;
pub mod disk;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
mod figures;
mod inbox;
mod janitor;
mod log;
mod readers;
mod record;
mod recovery;
mod report;
mod scan;
mod segment;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

use crate::limits;

pub use committer::Durable;
pub use disk::{Disk, RealDisk};
pub use error::{AppendError, OpenError, ReadError};
pub use figures::Stats;
pub use log::Log;
#[cfg(test)]
pub use log::Stepped;
pub use report::{Damage, Recovered, RecoveryReport};

/// Where a record lies. Stays valid until the record is released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment; numbers only grow and are never used again.
    pub segment: u64,
    /// Offset of the record's header in the segment.
    pub offset: u32,
    /// Bytes of the record in the segment: header, payload and, unless it lies in a file of its own, body.
    pub length: u32,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}+{}..{}", self.segment, self.offset, u64::from(self.offset) + u64::from(self.length))
    }
}

/// A record to be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it is, to its owner.
    pub kind: u8,
    /// Whose it is, to its owner.
    pub key: [u8; 16],
    /// The record that this one speaks of or replaces (the settlement names the accepted message's *newest* record; a moved
    /// record names the one it was moved from). This record's segment outlives that one's.
    pub about: Option<Position>,
    /// Given back at recovery. Small: an envelope, an outcome.
    pub payload: Bytes,
    /// Given back on demand ([`Log::read`]) only.
    pub body: Option<Bytes>,
    /// True: needed until [`Log::release`]. False: a note, needed only as long as what it is `about` exists.
    pub live: bool,
}

/// Why something is appended. Decides what happens when space runs low.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// Taking on new work: refused with [`AppendError::Full`] while less than [`Options::reserve_bytes`] are free.
    Intake,
    /// Ending, noting or moving work that was taken on: goes on while there is any space.
    Upkeep,
}

/// A group that is on stable storage.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The proof.
    pub durable: Durable,
    /// Where each record of the group lies, in order.
    pub positions: Vec<Position>,
}

/// A record read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub key: [u8; 16],
    /// As appended.
    pub about: Option<Position>,
    /// As appended.
    pub payload: Bytes,
    /// As appended.
    pub body: Option<Bytes>,
}

/// A segment whose live records should be appended anew, so that it can go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// Its number.
    pub segment: u64,
    /// What lives in it, in order of offset.
    pub live: Vec<Live>,
}

/// A live record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live {
    /// Where it lies.
    pub position: Position,
    /// As appended.
    pub key: [u8; 16],
    /// As appended.
    pub kind: u8,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment. Between 4 KiB and 1 GiB, and room for at least one batch.
    pub segment_bytes: u32,
    /// Bytes of a batch, and so the largest group; what waits behind a batch waits for all of it.
    pub batch_bytes_max: usize,
    /// Bytes of groups for [`Purpose::Intake`] that may wait for the committer or be with it; above that `append` waits.
    /// [`Purpose::Upkeep`] has as much again for itself.
    pub queue_bytes_max: usize,
    /// Bodies above this size get a file of their own.
    pub inline_body_bytes_max: usize,
    /// Such files written at the same time.
    pub body_writers: usize,
    /// While less than this is free on the disk, intake is refused; it resumes by itself.
    pub reserve_bytes: u64,
    /// Segments whose live bytes are under this share of a full segment (in percent) are offered by [`Log::leftovers`];
    /// segments on disk together are kept under 100 / this times the live bytes, plus four segments.
    pub leftover_percent: u8,
    /// Batches begin at multiples of this many bytes (a power of two from 64 to 4,096), so that a write torn by a power cut
    /// can only hurt the batch that was being written, whatever the size of the disk's sectors.
    pub alignment: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            queue_bytes_max: 8 * limits::BATCH_BYTES_MAX,
            inline_body_bytes_max: limits::INLINE_BODY_BYTES_MAX,
            body_writers: 4,
            reserve_bytes: 512 * 1024 * 1024,
            leftover_percent: 20,
            alignment: 4096,
        }
    }
}

impl Options {
    /// Relations between the options.
    fn check(&self) -> Result<(), OpenError> {
        let wrong = if !segment::is_alignment(self.alignment) {
            "alignment must be a power of two from 64 to 4,096"
        } else if !(segment::SEGMENT_BYTES_MIN..=segment::SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            "segment_bytes must be from 4 KiB to 1 GiB"
        } else if self.batch_bytes_max > (self.segment_bytes - segment::data_offset(self.alignment)) as usize {
            "a segment must have room for a batch: segment_bytes must exceed batch_bytes_max by 4 KiB at least"
        } else if self.inline_body_bytes_max >= self.batch_bytes_max {
            "a body of inline_body_bytes_max must fit a batch"
        } else if self.queue_bytes_max < self.batch_bytes_max {
            "queue_bytes_max must be at least batch_bytes_max"
        } else if self.body_writers == 0 {
            "body_writers must be at least 1"
        } else if !(1..=90).contains(&self.leftover_percent) {
            "leftover_percent must be from 1 to 90"
        } else {
            return Ok(());
        };
        Err(OpenError::Options(wrong))
    }
}
