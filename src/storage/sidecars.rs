//! Sidecars as files: written, confirmed, read, removed. `sidecar.rs` holds their form.
//!
//! **Promises.**
//! - A sidecar takes the place of the one before at once and whole, durably; after a power cut one of the two is there.
//! - What it says is checked as far as storage can: it is of a sealed segment, names only records of it that live or lived, and
//!   covers what has been applied, no more, and no less than before.
//! - It is removed after its segment.
//!
//! **Fails how.** A sidecar that could not be written is no loss, only a slower start. A directory that cannot be synced poisons
//! the log, as everywhere.

use std::collections::HashSet;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::applied::Ledger;
use super::committer::Poison;
use super::disk::Disk;
use super::error::{ReadError, SidecarError};
use super::record;
use super::segment;
use super::sidecar::{self, Confirmed, HEADER_BYTES, Header, PART_BYTES_MAX};
use super::table::{Described, Side, Table};
use super::{Mark, Position, Sidecar};

/// The file of confirmations.
pub const COVERS: &str = "covers";
/// Ends the names of files that are being written.
const UNFINISHED: &str = ".new";

/// The path of a segment's sidecar.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}.side"))
}

/// The segment whose sidecar has this name.
pub fn segment_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".side")?;
    let segment = u64::from_str_radix(digits, 16).ok()?;
    (format!("{segment:016x}") == digits).then_some(segment)
}

/// Was this file being written when the process died?
pub fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}

/// The sidecars of a log's segments.
#[derive(Debug)]
pub struct Sidecars {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub table: Arc<Mutex<Table>>,
    pub ledger: Arc<Ledger>,
    pub poison: Arc<Poison>,
    /// Held by whoever changes files.
    pub changing: Mutex<()>,
}

impl Sidecars {
    pub fn write(&self, sidecar: Sidecar) -> Result<(), SidecarError> {
        let Sidecar { segment, covers, live, brief, state } = sidecar;
        if brief.len() > PART_BYTES_MAX || state.len() > PART_BYTES_MAX {
            return Err(SidecarError::TooLarge);
        }
        let _changing = self.changing.lock();
        let Described { mut facts, not_live } = self.table.lock().describe(segment, live)?;
        let too_little = covers < Mark { segment, offset: facts.used } || covers < facts.covers;
        if too_little || covers > self.ledger.applied() {
            return Err(SidecarError::Covers);
        }
        self.check_released(segment, facts.salt, &not_live)?;
        (facts.covers, facts.id) = (covers, fastrand::u64(..));
        let front = facts.encode(&brief, &state);
        self.replace(&path(&self.dir, segment), &[&front, &state])?;
        let side = Side { id: facts.id, written: covers, covers };
        if !self.table.lock().set_side(segment, side) {
            // It went meanwhile, and who removed it may have come before us.
            self.remove(segment);
            return Err(SidecarError::Gone);
        }
        Ok(())
    }

    /// What does not live any more must have lived.
    fn check_released(&self, segment: u64, salt: u64, positions: &[Position]) -> Result<(), SidecarError> {
        if positions.is_empty() {
            return Ok(());
        }
        let (file, salt) = (self.disk.open(&segment::path(&self.dir, segment))?, record::Salt::new(salt));
        for position in positions {
            let mut raw = [0; record::HEADER_BYTES];
            let read = file.read_at(&mut raw, u64::from(position.offset))?;
            let header = record::Header::decode(&raw[..read], &salt, position.offset);
            if !header.is_some_and(|h| h.live && h.stored_bytes() == u64::from(position.length)) {
                return Err(SidecarError::Unknown(*position));
            }
        }
        Ok(())
    }

    pub fn confirm(&self, segments: &[u64], covers: Mark) -> Result<(), SidecarError> {
        let _changing = self.changing.lock();
        if covers > self.ledger.applied() {
            return Err(SidecarError::Covers);
        }
        let segments: HashSet<u64> = segments.iter().copied().collect();
        let mut sides = self.table.lock().sides();
        let mut changed = false;
        for (segment, side) in &mut sides {
            if side.covers < covers && segments.contains(segment) {
                (side.covers, changed) = (covers, true);
            }
        }
        if !changed {
            return Ok(());
        }
        let said = |(segment, side): &(u64, Side)| {
            let Side { id, covers, .. } = *side;
            (covers > side.written).then_some(Confirmed { segment: *segment, id, covers })
        };
        let entries: Vec<Confirmed> = sides.iter().filter_map(said).collect();
        self.replace(&self.dir.join(COVERS), &[&sidecar::encode_covers(&entries)])?;
        let mut table = self.table.lock();
        for (segment, side) in sides {
            table.set_side(segment, side);
        }
        Ok(())
    }

    /// Puts a file in place of the one that may be there, durably.
    fn replace(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        match self.disk.remove(&unfinished) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let fill = || {
            let file = self.disk.create(&unfinished)?;
            let mut parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            file.write_at(&mut parts, 0)?;
            file.sync()?;
            self.disk.rename(&unfinished, path)
        };
        fill().inspect_err(|_| {
            let _ = self.disk.remove(&unfinished);
        })?;
        self.disk.sync_dir(&self.dir).inspect_err(|e| {
            self.poison.poison(&format!("syncing the directory of segments: {e}"));
        })
    }

    /// The owner's state in a segment's sidecar.
    pub fn state(&self, segment: u64) -> Result<Bytes, ReadError> {
        let salt = self.table.lock().salt_of_side(segment).ok_or(ReadError::Gone)?;
        let file = self.disk.open(&path(&self.dir, segment)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => ReadError::Gone,
            _ => ReadError::Io(e),
        })?;
        let mut raw = [0; HEADER_BYTES];
        let read = file.read_at(&mut raw, 0)?;
        let header = Header::decode(&raw[..read], segment, salt).ok_or(ReadError::Corrupt)?;
        let mut state = vec![0; header.state_bytes as usize];
        let read = file.read_at(&mut state, header.state_offset())?;
        let right = read == state.len() && crc32fast::hash(&state) == header.state_crc;
        if right { Ok(state.into()) } else { Err(ReadError::Corrupt) }
    }

    /// Removes the sidecars of segments that are gone, unless another is being written just now: that may take a while, and
    /// nobody needs to wait for it.
    pub fn remove_of(&self, gone: &mut Vec<u64>) {
        if let Some(_changing) = self.changing.try_lock() {
            gone.drain(..).for_each(|segment| self.remove(segment));
        }
    }

    fn remove(&self, segment: u64) {
        let path = path(&self.dir, segment);
        if let Err(e) = self.disk.remove(&path)
            && e.kind() != ErrorKind::NotFound
        {
            // The next start removes it.
            tracing::warn!(path = %path.display(), "removing: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_segments_agree() {
        let name = path(Path::new("d"), 0xab).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, "00000000000000ab.side");
        assert_eq!(segment_of(&name), Some(0xab));
        for other in ["", ".side", "ab.side", "00000000000000AB.side", "00000000000000ab.log", "covers"] {
            assert_eq!(segment_of(other), None, "{other}");
        }
        assert!(is_unfinished("covers.new") && !is_unfinished(&name));
    }
}
