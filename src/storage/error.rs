//! Why the log did not do what it was asked, in words for an operator.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Position;

/// Why a group was not appended. Nothing of it will be found after a restart, except after [`AppendError::Poisoned`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AppendError {
    /// No space: the disk is full, or below the reserve and the group is intake. Try again later.
    Full,
    /// Too much waits for the committer (`append_then` only; `append` waits instead).
    Busy,
    /// The group is larger than a batch, or a body larger than any may be.
    TooLarge,
    /// A write or fsync failed, now or before. Whether this group is on disk is not known; nothing more is taken.
    Poisoned,
    /// The body's own file could not be written; the log itself is sound.
    Body,
    /// The log was shut down.
    Closed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no space left for new records",
            Self::Busy => "too much waits to be written",
            Self::TooLarge => "record group is larger than a batch may be",
            Self::Poisoned => "a write or fsync failed: the log takes no more until restarted",
            Self::Body => "the file of a large body could not be written",
            Self::Closed => "the log was shut down",
        })
    }
}

impl std::error::Error for AppendError {}

/// Why a record was not read.
#[derive(Debug)]
pub enum ReadError {
    /// What lies there is not what was written. Reading again will not help.
    Corrupt,
    /// The record's segment is gone: it was released.
    Gone,
    /// The disk did not answer properly: not damage, may pass.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("record is damaged: its checksum does not match"),
            Self::Gone => f.write_str("record is gone: it had been released"),
            Self::Io(e) => write!(f, "reading a record failed: {e}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Why a sidecar was not written. The one before it, if there is one, still holds.
#[derive(Debug)]
pub enum SidecarError {
    /// The segment does not exist, or not any more.
    Gone,
    /// The segment is still being written to.
    Open,
    /// What is named as live is no live record of the segment.
    Unknown(Position),
    /// What it is to cover does not reach the segment's end, or reaches beyond what has been applied, or less far than before.
    Covers,
    /// A part is larger than any may be.
    TooLarge,
    /// The disk refused.
    Io(io::Error),
}

impl fmt::Display for SidecarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the segment is gone"),
            Self::Open => f.write_str("the segment is still being written"),
            Self::Unknown(position) => write!(f, "no live record of the segment lies at {position:?}"),
            Self::Covers => f.write_str("it covers too little, or more than has been applied"),
            Self::TooLarge => f.write_str("it is too large"),
            Self::Io(e) => write!(f, "writing a sidecar failed: {e}"),
        }
    }
}

impl std::error::Error for SidecarError {}

impl From<io::Error> for SidecarError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Why a log could not be opened. Nothing was changed that a later attempt could miss.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has this directory open.
    InUse(PathBuf),
    /// A segment was written by a newer version of this program.
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// A file that is kept beside the log is not as it was written.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Options that contradict each other.
    Options(&'static str),
    /// The disk refused.
    Io {
        /// What was attempted, for example `create`.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl OpenError {
    /// Adds what was attempted, and on what, to an error of the disk.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(f, "{}: in use by another process", path.display()),
            Self::NewerFormat { path, found, known } => write!(
                f,
                "{}: written by a newer version (format {found}; this program knows formats up to {known})",
                path.display()
            ),
            Self::Damaged { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Options(what) => write!(f, "storage options: {what}"),
            Self::Io { doing, path, source } => write!(f, "{}: {doing}: {source}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
