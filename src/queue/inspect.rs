//! A queue's directory looked at while no relay runs on it: what is in it, what is damaged, what can be rescued.
//!
//! **Promises.** Nothing in the directory is changed. What waits is worked out from the records alone, by the rules that a
//! start follows (`life.rs` applies the changes); sidecars and other short cuts are not believed. The addresses of class
//! `otp`, its contents and header fields are never shown, only handed out whole by [`Spool::rescue`]. Memory is bounded by
//! the messages that wait, some 250 bytes each, not by their contents.
//!
//! **Does not know** how anything is printed, or where rescued messages are written.
//!
//! **Fails how.** [`OpenError`] when the directory cannot be looked at; what is damaged in it is an answer, not an error.

mod ledger;
mod rescue;
mod show;
mod stat;
mod verify;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::record;
use crate::model::MessageId;
use crate::storage::OpenError;
pub use crate::storage::inspect::Access;
use crate::storage::inspect::{Inspection, Item, Part, Walked};

pub use rescue::{Choice, Plan, Rescue, RescuedView};
pub use show::{
    AcceptView, BodyView, ChangeView, DamageView, Dumped, KeyView, LifeView, Line, PositionView, RecordView, StateView,
    Wanted,
};
pub use stat::{Figures, Group, Newest, Quarantine};
pub use verify::{Finding, Severity, Verdict};

/// A queue's directory, open for looking.
#[derive(Debug)]
pub struct Spool {
    log: Inspection,
}

/// Told as bytes have been read, how many; for progress.
pub type Told<'a> = &'a mut dyn FnMut(u64);

/// The three kinds of record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message was taken on, or its record moved.
    Accept,
    /// Something happened to some of its recipients.
    Change,
    /// An idempotency key.
    Key,
}

impl Kind {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Change => "change",
            Self::Key => "key",
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            record::ACCEPT => Some(Self::Accept),
            record::CHANGE => Some(Self::Change),
            record::KEY => Some(Self::Key),
            _ => None,
        }
    }
}

impl Spool {
    /// Looks at a relay's data directory, at the `spool` directory in it, or at a copy of either.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(dir: &Path, access: Access) -> Result<Self, NotOpened> {
        let within = dir.join("spool");
        let root = [dir, within.as_path()].into_iter().find(|d| d.join("segments").is_dir());
        let root = root.ok_or_else(|| NotOpened::NoSpool(dir.to_owned()))?;
        Ok(Self { log: Inspection::open(root, access).map_err(NotOpened::Storage)? })
    }

    /// The spool's own directory.
    pub fn root(&self) -> &Path {
        self.log.root()
    }

    /// True if a relay has it open, so that what is told is how it was a moment ago.
    pub fn is_beside_a_relay(&self) -> bool {
        self.log.is_beside_a_relay()
    }

    /// Bytes that a walk over all records reads.
    pub fn bytes(&self) -> u64 {
        self.log.segment_bytes()
    }

    /// Bytes in files of large bodies, which [`Spool::verify`] reads as well.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn body_file_bytes(&self) -> Result<u64, OpenError> {
        Ok(self.log.body_files()?.iter().map(|file| file.bytes).sum())
    }

    /// Walks over everything; each segment's end is told as progress.
    fn walk(&self, told: Told<'_>, visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Result<Walked, OpenError> {
        self.log.walk(&mut |item| match item {
            Item::Segment(segment) => {
                told(segment.bytes);
                ControlFlow::Continue(())
            }
            other => visit(other),
        })
    }
}

/// Why a directory was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// There is no spool in it.
    NoSpool(PathBuf),
    /// The log in it was refused.
    Storage(OpenError),
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSpool(dir) => {
                let dir = dir.display();
                write!(f, "{dir}: no spool here: neither {dir}/segments nor {dir}/spool/segments is a directory")
            }
            Self::Storage(OpenError::InUse(dir)) => {
                write!(f, "{}: in use: a relay is running on it (or another inspection is)", dir.display())
            }
            Self::Storage(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for NotOpened {}

/// What a flawed place was, in words.
fn part_name(part: &Part) -> String {
    let kind = |kind: u8| match Kind::of(kind) {
        Some(Kind::Accept) => "an accept record",
        Some(Kind::Change) => "a change record",
        Some(Kind::Key) => "a key record",
        None => "a record of no kind we know",
    };
    match part {
        Part::HeaderCopy => "one of the two copies of the segment's header".to_owned(),
        Part::SegmentHeader => "a segment without a readable header".to_owned(),
        Part::BatchHeader => "a batch's header".to_owned(),
        Part::RecordHeader(Some(owner)) if Kind::of(owner.kind).is_some() => {
            format!("the header of {}", kind(owner.kind))
        }
        Part::RecordHeader(_) => "a record's header and what follows it".to_owned(),
        Part::Payload(owner) => format!("the payload of {}", kind(owner.kind)),
        Part::Body(owner) => format!("the body of {}", kind(owner.kind)),
        Part::Sidecar => "a sidecar".to_owned(),
        Part::Unknown => "bytes between records that belong to none".to_owned(),
        Part::MissingBatches { after, before } => match before.saturating_sub(after + 1) {
            1 => format!("batch {} is missing before this place", after + 1),
            _ => format!("batches {} to {} are missing before this place", after + 1, before.saturating_sub(1)),
        },
        Part::TornEnd(_) => "an unfinished batch at the end of the log".to_owned(),
    }
}

/// The message that a flawed place belongs to, and whether that can be relied on.
fn part_owner(part: &Part) -> Option<(MessageId, bool)> {
    match part {
        Part::Payload(owner) | Part::Body(owner) => Some((MessageId::from_bytes(owner.key), true)),
        Part::RecordHeader(Some(owner)) if Kind::of(owner.kind).is_some() => {
            Some((MessageId::from_bytes(owner.key), false))
        }
        _ => None,
    }
}

/// A segment's path from the spool's directory.
fn segment_path(number: u64) -> String {
    format!("segments/{number:016x}.log")
}

#[cfg(test)]
mod tests;
