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
//!   8 bytes of memory are kept.
//!
//! **Does not know** messages, recipients, channels; what a `kind`, a `key` or a payload means is its caller's business.
//!
//! # The directory
//!
//! ```text
//! lock                               held by the one process that has the log open
//! segments/0000000000000001.log      format: segment.rs (header), batch.rs (batches), record.rs (records)
//! segments/0000000000000001.side     what a start has to know of it without reading it (sidecar.rs); can be done without
//! segments/covers                    which sidecars still hold although time has gone on (sidecar.rs); can be done without
//! segments/<random>.old              a dead segment that will be written anew; removed at start
//! bodies/<key>-<number>              one body above Options::inline_body_bytes_max each, raw (bodies.rs)
//! shelf/                             what is kept for days and found by keys, out of the log (shelf.rs)
//! quarantine/                        copies of what could not be read, for people to look at (recovery.rs)
//! ```
//!
//! # Floors, low to high; each ignorant of those above
//!
//! `disk` (calls) · `record` `batch` `segment` (formats) · `table` (what lives where; when a segment may go) · `bodies` ·
//! `applied` `sidecar` `sidecars` · `hop` `scan` `survey` `recovery` · `inbox` `committer` `janitor` (the two threads) · `log`
//! (the front). Beside them, on `disk` alone: `journal`, `whole`, `shelf`.
//!
//! # Numbers
//!
//! A segment is 64 MiB, allocated in advance, a batch at most 4 MiB: a segment takes at least 15 full batches. One fdatasync
//! a batch, none overlapping: at 0.4 ms a sync a lone submitter gets some 2,500 appends/s, and 64 submitters share each sync.
//! A record costs 56 bytes of header, a batch 32, rounded up to [`Options::alignment`].
//!
//! # When a segment may go
//!
//! A segment is removed when it is full or closed, no record in it is live, no record in it is *about* a record in another
//! segment that still exists (durably: its removal has been synced before the next is begun), and a batch lies in a younger
//! one. So the record that says "ended" outlives every record that would begin again without it. `table.rs` holds the rule
//! and its tests.
//!
//! # Space
//!
//! On disk are the segments that something holds (kept by [`Log::leftovers`] under 100 / [`Options::leftover_percent`] times the
//! live bytes, plus four segments), two made in advance, at most [`Options::spare_segments`] dead ones to be written anew, and
//! the sidecars. Below [`Options::reserve_bytes`] no dead segment is kept. The last segment made in advance is for
//! [`Purpose::Upkeep`] alone: on a disk that is full to the last byte, what was taken on can still end and move, and so free
//! segments, which are then written anew without asking the disk for space.
//!
//! # Start
//!
//! The owner may write down what it knows of a sealed segment ([`Log::write_sidecar`]), up to a place in front of which it has
//! applied everything ([`Log::applied`]). A start reads the sidecars, and records only from the first place on that some
//! sidecar does not cover; of these the headers and payloads, not the bodies. All that a sidecar saves is time: without it, or
//! with a damaged one, its segment is read.

mod applied;
mod batch;
mod bodies;
mod committer;
pub mod disk;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
mod figures;
mod hop;
mod inbox;
pub mod inspect;
mod janitor;
pub mod joining;
pub mod journal;
mod log;
mod readers;
mod record;
mod recovery;
mod report;
#[cfg(test)]
pub(crate) mod sabotage;
mod scan;
mod segment;
pub mod shelf;
mod sidecar;
mod sidecars;
mod survey;
mod table;
#[cfg(test)]
mod tests;
pub mod whole;

use std::fmt;

use bytes::Bytes;

use crate::limits;

pub use applied::{Mark, Pending};
pub use committer::Durable;
pub use disk::{Disk, File, RealDisk};
pub use error::{AppendError, OpenError, ReadError, SidecarError};
pub use figures::Stats;
#[cfg(test)]
pub use log::Stepped;
pub use log::{Log, Reading};
pub use report::{Damage, Recovered, RecoveredRecord, RecoveryReport};

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
#[derive(Debug)]
pub struct Appended {
    /// The proof.
    pub durable: Durable,
    /// Where each record of the group lies, in order.
    pub positions: Vec<Position>,
    /// To be dropped once the owner has taken the group into its own state: see [`Log::applied`].
    pub pending: Pending,
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
    pub live: Vec<Position>,
}

/// What an owner has to say of a sealed segment, so that the next start need not read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sidecar {
    /// Its number.
    pub segment: u64,
    /// Everything in front of this is taken into account. Not in front of the segment's end, not behind [`Log::applied`].
    pub covers: Mark,
    /// The records of the segment that are still needed.
    pub live: Vec<Position>,
    /// The owner's, given back by [`Log::open`].
    pub brief: Bytes,
    /// The owner's, given back by [`Log::sidecar_state`].
    pub state: Bytes,
}

/// A segment that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Its number.
    pub segment: u64,
    /// Nothing will be written to it any more.
    pub sealed: bool,
    /// Where its last batch ends.
    pub end: Mark,
    /// Live records in it.
    pub live_records: u64,
    /// Their bytes, bodies in files of their own not included.
    pub live_bytes: u64,
    /// What its sidecar covers, if it has one.
    pub covers: Option<Mark>,
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
    /// segments that something holds are together kept under 100 / this times the live bytes, plus four segments.
    pub leftover_percent: u8,
    /// Batches begin at multiples of this many bytes (a power of two from 64 to 4,096), so that a write torn by a power cut
    /// can only hurt the batch that was being written, whatever the size of the disk's sectors.
    pub alignment: u32,
    /// Dead segments kept to be written anew, while space is not short; 0: none.
    pub spare_segments: usize,
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
            spare_segments: 4,
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

/// Does this content of a segment's file begin with a batch of its own? For the simulator.
#[cfg(test)]
pub(crate) fn begins_with_a_batch(path: &std::path::Path, content: &[u8]) -> bool {
    let number = path.file_name().and_then(|name| name.to_str()).and_then(segment::number_of);
    let segment::Reading::Header(header) = segment::Header::read(content, number.unwrap_or(0)) else { return false };
    let start = header.data_offset();
    let rest = content.get(start as usize..).unwrap_or_default();
    batch::Header::decode(rest, &record::Salt::new(header.salt), start).is_some()
}
