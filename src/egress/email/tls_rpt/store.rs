//! The file that outlives a restart: what has been counted in the period under way, and the reports that wait.
//!
//! ```text
//! {"version":1,"start":"2026-11-26T00:00:00.000000Z","left_out":{…}}     the period
//! {"domain":"x.example","results":[…]}                                   a line for each domain counted in it
//! {"report":{"domain":"y.example","start":…,"end":…,"due":…,…}}          a line for each report that waits
//! ```
//!
//! **Promises.** Written beside and put in place whole, synced: after a crash there is the old file or the new one. What was
//! counted after the last writing is lost then: some seconds. A line that cannot be read is passed over, and said; all others
//! count.
//!
//! **Fails how.** A file without a first line of this version is begun anew; one that cannot be written is tried again. Both are
//! logged.

use std::io::{self, BufRead};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tally::{LeftOut, PolicyResult, Tally};
use super::waiting::{Report, Written};
use crate::clock::Timestamp;
use crate::model::Domain;
use crate::storage::{RealDisk, whole};

/// The version that is written and read.
const VERSION: u32 = 1;
/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) tally: Tally,
    pub(super) waiting: Vec<Report>,
    /// Lines that could not be read.
    pub(super) strange: usize,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    start: String,
    #[serde(default)]
    left_out: LeftOut,
}

/// Any other line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Counted { domain: String, results: Vec<PolicyResult> },
    Report { report: Written },
}

/// A domain's line, or a report's, as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Counted { domain: &'a str, results: &'a [PolicyResult] },
    Report { report: Written },
}

/// Reads a file.
///
/// # Errors
/// The system's, or `InvalidData` for what is no such file.
pub(super) fn read(file: &Path) -> io::Result<Kept> {
    let mut lines = io::BufReader::new(std::fs::File::open(file)?);
    let head: Head = serde_json::from_slice(&line(&mut lines)?)?;
    if head.version != VERSION {
        return Err(invalid(format!("version {} is not known here", head.version)));
    }
    let start = Timestamp::parse_rfc3339(&head.start).ok_or_else(|| invalid("its start is no time".to_owned()))?;
    let mut kept = Kept { tally: Tally::new(start), waiting: Vec::new(), strange: 0 };
    kept.tally.left_out = head.left_out;
    loop {
        let line = line(&mut lines)?;
        if line.is_empty() {
            return Ok(kept);
        }
        let taken = match serde_json::from_slice(&line) {
            Ok(Line::Counted { domain, results }) => {
                Domain::parse(&domain).ok().map(|domain| kept.tally.restore(domain, results))
            }
            Ok(Line::Report { report }) => report.read().map(|report| kept.waiting.push(report)),
            Err(_) => None,
        };
        kept.strange += usize::from(taken.is_none());
    }
}

/// The next line; empty at the end. One that is too long is cut, and so can be read as nothing.
fn line(lines: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::Read::take(lines, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What is to be written, as bytes.
#[derive(Debug)]
pub(super) struct Snapshot(Vec<u8>);

impl Snapshot {
    /// Begins one of this period.
    pub(super) fn of(tally: &Tally) -> Self {
        let mut snapshot = Self(Vec::with_capacity(tally.bytes()));
        snapshot.push(&Head { version: VERSION, start: tally.start.rfc3339(), left_out: tally.left_out });
        snapshot
    }

    pub(super) fn counted(&mut self, domain: &Domain, results: &[PolicyResult]) {
        self.push(&Shown::Counted { domain: domain.as_str(), results });
    }

    pub(super) fn report(&mut self, report: &Report) {
        self.push(&Shown::Report { report: report.into() });
    }

    fn push(&mut self, line: &impl Serialize) {
        let before = self.0.len();
        // Plain data into memory: nothing can fail, and half a line would be passed over.
        if serde_json::to_writer(&mut self.0, line).is_err() {
            self.0.truncate(before);
            return;
        }
        self.0.push(b'\n');
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts it in the place of the file.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        whole::replace(&RealDisk, file, &self.0)
    }
}
