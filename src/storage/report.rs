//! What recovery hands out and reports.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::{Mark, Position};

/// What is handed out at start: first the sidecars, oldest segment first, then records in order of commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovered {
    /// A sealed segment with a sidecar. [`super::Log::sidecar_state`] gives the rest of it.
    Sidecar {
        /// Its number.
        segment: u64,
        /// Everything in front of this was taken into account.
        covers: Mark,
        /// As written.
        brief: Bytes,
    },
    /// A record at or behind [`RecoveryReport::tail_from`].
    Record(RecoveredRecord),
}

/// An intact record found at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredRecord {
    /// Where it lies.
    pub position: Position,
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub key: [u8; 16],
    /// As appended.
    pub about: Option<Position>,
    /// Appended as live and, if its segment is covered, named as live by the sidecar. Counts as live until released, even if
    /// it had been released before the restart.
    pub live: bool,
    /// Its segment has a sidecar, which was handed out before.
    pub covered: bool,
    /// As appended.
    pub payload: Bytes,
    /// Bytes of the body, if it has one; [`super::Log::read`] gives it, and says if it is damaged.
    pub body_bytes: Option<u32>,
}

/// What recovery met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Segments in use.
    pub segments: u64,
    /// Those with a sidecar that could be used.
    pub sidecars: u64,
    /// Those without.
    pub without_sidecar: u64,
    /// Sidecars that were damaged, or belong to no segment that is there. No loss: the segment is read instead.
    pub sidecars_refused: u64,
    /// Where reading records began: what lies in front was answered for by sidecars. `None` if there is no segment.
    pub tail_from: Option<Mark>,
    /// Bytes read.
    pub bytes_read: u64,
    /// How long it took.
    pub time: Duration,
    /// Records handed out.
    pub records: u64,
    /// Bytes cut from the end: a batch that the last crash interrupted and nobody was promised.
    pub torn_bytes: u64,
    /// Files of bodies removed because no record speaks of them.
    pub orphans: u64,
    /// What was damaged.
    pub damage: Vec<Damage>,
}

/// A place that cannot be read although it was once on stable storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; 0 where something is missing.
    pub length: u64,
    /// What is wrong, for an operator.
    pub what: &'static str,
    /// The copy in `quarantine/`, if one was made (not of what is missing, and 256 copies are kept at most).
    pub copy: Option<PathBuf>,
}
