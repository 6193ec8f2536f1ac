//! What lies in the directory of segments, before any of it is read: headers, sidecars, and what a crash left lying about.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, File};
use super::error::OpenError;
use super::segment::{self, Reading};
use super::sidecar::{self, Facts, HEADER_BYTES, Header};
use super::sidecars::{self, COVERS};
use super::{Mark, RecoveryReport};

/// A segment by its header.
#[derive(Debug)]
pub struct Found {
    pub number: u64,
    /// `None`: it has none that can be read.
    pub header: Option<segment::Header>,
    /// Bytes of the file.
    pub length: u64,
    pub side: Option<FoundSide>,
}

/// A sidecar that can be used.
#[derive(Debug)]
pub struct FoundSide {
    pub facts: Facts,
    pub brief: Bytes,
    /// What it covers, confirmations included.
    pub covers: Mark,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Survey {
    /// Oldest first.
    pub segments: Vec<Found>,
    /// Names that nothing needs.
    pub strays: Vec<String>,
    /// The first number that no file and no sidecar speaks of.
    pub next_segment: u64,
}

/// Bytes of a sidecar's state looked at together.
const STATE_BYTES: usize = 1024 * 1024;

/// Looks at everything and changes nothing.
pub fn survey(disk: &dyn Disk, dir: &Path, report: &mut RecoveryReport) -> Result<Survey, OpenError> {
    let names = disk.list(dir).map_err(OpenError::io("list", dir))?;
    let mut survey = Survey { next_segment: 1, ..Survey::default() };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    for number in &numbers {
        let found = header(disk, dir, *number, report)?;
        survey.segments.push(found);
        survey.next_segment = survey.next_segment.max(number + 1);
    }
    let mut with_side = HashSet::new();
    for name in names {
        match sidecars::segment_of(&name) {
            Some(number) if numbers.binary_search(&number).is_ok() => drop(with_side.insert(number)),
            Some(number) => {
                // Its segment went, and the power before it: the number was used.
                survey.next_segment = survey.next_segment.max(number + 1);
                survey.strays.push(name);
            }
            None if segment::is_old(&name) || sidecars::is_unfinished(&name) => survey.strays.push(name),
            None => {}
        }
    }
    let covers = covers(disk, dir, report);
    for found in survey.segments.iter_mut().filter(|s| with_side.contains(&s.number)) {
        // A sidecar can be done without, so one that cannot be read is no reason not to start.
        found.side = side(disk, dir, found, report).unwrap_or_else(|e| {
            tracing::warn!("a sidecar is not used: {e}");
            None
        });
        let Some(side) = &mut found.side else {
            report.sidecars_refused += 1;
            survey
                .strays
                .extend(sidecars::path(dir, found.number).file_name().and_then(|n| n.to_str()).map(str::to_owned));
            continue;
        };
        let confirmed = covers.get(&(found.number, side.facts.id)).copied();
        side.covers = confirmed.map_or(side.covers, |mark| mark.max(side.covers));
        // What is written from now on must not be taken for what is covered.
        let beyond = side.covers.segment + u64::from(side.covers.offset > 0);
        survey.next_segment = survey.next_segment.max(beyond);
    }
    Ok(survey)
}

fn open(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn File>, u64), OpenError> {
    let file = disk.open(path).map_err(OpenError::io("open", path))?;
    let length = file.length().map_err(OpenError::io("read", path))?;
    Ok((file, length))
}

fn header(disk: &dyn Disk, dir: &Path, number: u64, report: &mut RecoveryReport) -> Result<Found, OpenError> {
    let path = segment::path(dir, number);
    let (file, length) = open(disk, &path)?;
    let mut start = [0; segment::DATA_OFFSET_MIN as usize];
    let read = file.read_at(&mut start, 0).map_err(OpenError::io("read", &path))?;
    report.bytes_read += read as u64;
    let header = match segment::Header::read(&start[..read], number) {
        Reading::Header(header) => Some(header),
        Reading::Newer(found) => return Err(OpenError::NewerFormat { path, found, known: segment::FORMAT }),
        Reading::Nothing => None,
    };
    Ok(Found { number, header, length, side: None })
}

/// Reads a sidecar, all of it; `None` if it is not right.
fn side(
    disk: &dyn Disk,
    dir: &Path,
    segment: &Found,
    report: &mut RecoveryReport,
) -> Result<Option<FoundSide>, OpenError> {
    let Some(own) = segment.header else { return Ok(None) };
    let path = sidecars::path(dir, segment.number);
    let (file, length) = open(disk, &path)?;
    let mut read = |bytes: &mut [u8], at: u64| {
        let read = file.read_at(bytes, at).map_err(OpenError::io("read", &path))?;
        report.bytes_read += read as u64;
        Ok(read == bytes.len())
    };
    let mut raw = [0; HEADER_BYTES];
    let whole = read(&mut raw, 0)?;
    let header = Header::decode(&raw, segment.number, own.salt).filter(|h| whole && h.file_bytes() == length);
    let Some(header) = header else { return Ok(None) };
    let mut lists = vec![0; (header.state_offset() - HEADER_BYTES as u64) as usize];
    if !read(&mut lists, HEADER_BYTES as u64)? {
        return Ok(None);
    }
    let Some((facts, brief)) = header.decode_lists(&lists) else { return Ok(None) };
    let mut state = crc32fast::Hasher::new();
    let mut chunk = vec![0; STATE_BYTES.min(header.state_bytes as usize)];
    let mut at = header.state_offset();
    while at < length {
        let wanted = chunk.len().min((length - at) as usize);
        if !read(&mut chunk[..wanted], at)? {
            return Ok(None);
        }
        state.update(&chunk[..wanted]);
        at += wanted as u64;
    }
    let covers = facts.covers;
    let right = state.finalize() == header.state_crc
        && u64::from(facts.used) <= segment.length
        && covers >= Mark { segment: segment.number, offset: facts.used };
    Ok(right.then_some(FoundSide { facts, brief, covers }))
}

/// What is confirmed of which sidecar; nothing if that cannot be read.
fn covers(disk: &dyn Disk, dir: &Path, report: &mut RecoveryReport) -> HashMap<(u64, u64), Mark> {
    let mut bytes = Vec::new();
    if let Ok((file, length)) = open(disk, &dir.join(COVERS)) {
        bytes.resize(length.min(COVERS_BYTES_MAX) as usize, 0);
        let read = file.read_at(&mut bytes, 0).unwrap_or_default();
        bytes.truncate(read);
    }
    report.bytes_read += bytes.len() as u64;
    let entries = sidecar::decode_covers(&bytes).unwrap_or_default();
    entries.into_iter().map(|e| ((e.segment, e.id), e.covers)).collect()
}

/// The most that is read of the file of confirmations: those of two million segments.
const COVERS_BYTES_MAX: u64 = 64 * 1024 * 1024;
