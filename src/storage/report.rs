//! What recovery hands out and reports.

use std::path::PathBuf;

use bytes::Bytes;

use super::Position;

/// An intact record found at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Where it lies.
    pub position: Position,
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub key: [u8; 16],
    /// As appended.
    pub about: Option<Position>,
    /// As appended. Counts as live until released, even if it had been released before the restart.
    pub live: bool,
    /// As appended.
    pub payload: Bytes,
    /// Bytes of the body, if it has one; [`super::Log::read`] gives it, and says if it is damaged.
    pub body_bytes: Option<u32>,
}

/// What recovery met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: u64,
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
