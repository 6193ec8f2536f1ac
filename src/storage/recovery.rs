//! Recovery: from files to the table of what lives, with every intact record handed out on the way.
//!
//! What is met, and what is done:
//!
//! ```text
//! last piece of the last segment not whole    torn: nobody was promised it. Copied aside, cut
//! any other piece not whole                   damaged: what is right in it is handed out, the rest copied aside, reported
//! batch numbers with a gap                    damaged: a write that never reached the disk; reported
//! segment without a readable header           never used (zero behind it): removed. Otherwise copied aside, reported
//! segment of a newer format                   nothing is touched, the log does not open
//! last batch whole                            written again and synced before anything else: the process may have died
//!                                             before its sync, or after a failed one that left the kernel's copy clean
//! file of a body that no record speaks of     removed
//! read error                                  the log does not open: an error is not damage
//! ```
//!
//! Afterwards all segments are sealed; writing goes on in a new one.

use std::collections::HashSet;
use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::bodies::BodyFile;
use super::disk::Disk;
use super::error::OpenError;
use super::record::{Found, Salt};
use super::scan::{self, Piece};
use super::segment::{self, Reading, SEGMENT_BYTES_MAX};
use super::table::Table;
use super::{Damage, Position, Recovered, RecoveryReport, batch};

/// The log's directories.
#[derive(Clone, Debug)]
pub struct Directories {
    pub segments: PathBuf,
    pub bodies: PathBuf,
    pub quarantine: PathBuf,
}

impl Directories {
    /// Makes them, durably.
    pub fn make(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let own =
            Self { segments: dir.join("segments"), bodies: dir.join("bodies"), quarantine: dir.join("quarantine") };
        for path in [&own.segments, &own.bodies, &own.quarantine] {
            disk.create_dir(path).map_err(OpenError::io("create", path))?;
        }
        for path in [Some(dir), dir.parent().filter(|p| !p.as_os_str().is_empty())].into_iter().flatten() {
            disk.sync_dir(path).map_err(OpenError::io("sync", path))?;
        }
        Ok(own)
    }
}

/// What is needed to go on.
#[derive(Debug)]
pub struct Recovery {
    pub table: Table,
    pub report: RecoveryReport,
    pub next_segment: u64,
    pub next_batch: u64,
}

/// Most files kept in quarantine.
const QUARANTINE_FILES_MAX: usize = 256;

/// Reads the whole log.
pub fn recover(
    directories: &Directories,
    disk: &dyn Disk,
    visit: &mut dyn FnMut(Recovered),
) -> Result<Recovery, OpenError> {
    let listed = |dir: &Path| disk.list(dir).map_err(OpenError::io("list", dir));
    let mut numbers: Vec<u64> =
        listed(&directories.segments)?.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    let mut walk = Walk {
        directories,
        disk,
        visit,
        table: Table::default(),
        report: RecoveryReport::default(),
        pending: None,
        last: None,
        last_whole: None,
        files: HashSet::new(),
        quarantined: listed(&directories.quarantine)?.len(),
    };
    refuse_newer(directories, disk, &numbers)?;
    for number in &numbers {
        walk.segment(*number)?;
    }
    walk.finish()?;
    let next_segment = numbers.last().map_or(1, |n| n + 1);
    let next_batch = walk.last.map_or(1, |last| last.batch + 1);
    Ok(Recovery { table: walk.table, report: walk.report, next_segment, next_batch })
}

/// Looks at all headers before anything is changed.
fn refuse_newer(directories: &Directories, disk: &dyn Disk, numbers: &[u64]) -> Result<(), OpenError> {
    for number in numbers {
        let path = segment::path(&directories.segments, *number);
        let mut start = vec![0; 1024];
        let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
        let length = file.read_at(&mut start, 0).map_err(OpenError::io("read", &path))?;
        if let Reading::Newer(found) = segment::Header::read(&start[..length], *number) {
            return Err(OpenError::NewerFormat { path, found, known: segment::FORMAT });
        }
    }
    Ok(())
}

struct Walk<'a> {
    directories: &'a Directories,
    disk: &'a dyn Disk,
    visit: &'a mut dyn FnMut(Recovered),
    table: Table,
    report: RecoveryReport,
    /// The end of the segment before, if it is not whole: torn unless something follows.
    pending: Option<Tail>,
    last: Option<LastBatch>,
    /// The last whole batch.
    last_whole: Option<(u64, Range<usize>)>,
    /// Files that live records speak of.
    files: HashSet<BodyFile>,
    quarantined: usize,
}

struct LastBatch {
    segment: u64,
    batch: u64,
    /// False if what follows it is damaged, so that a gap in the numbers is no news.
    sound: bool,
}

/// A segment's last piece that is not whole, with the segment's bytes.
struct Tail {
    source: Source,
    piece: Piece,
}

/// A segment in memory.
struct Source {
    number: u64,
    salt: Salt,
    bytes: Vec<u8>,
}

impl Walk<'_> {
    fn segment(&mut self, number: u64) -> Result<(), OpenError> {
        let path = segment::path(&self.directories.segments, number);
        let bytes = self.load(&path)?;
        let header = match segment::Header::read(&bytes, number) {
            Reading::Header(header) => header,
            Reading::Newer(found) => return Err(OpenError::NewerFormat { path, found, known: segment::FORMAT }),
            Reading::Nothing => return self.headless(number, &path, &bytes),
        };
        let source = Source { number, salt: Salt::new(header.salt), bytes };
        let mut pieces = scan::pieces(&source.bytes, &header, &source.salt);
        if pieces.is_empty() {
            // Made in advance and never used.
            return self.disk.remove(&path).map_err(OpenError::io("remove", path));
        }
        self.report.segments += 1;
        self.settle_pending()?;
        self.table.add(number, source.salt.clone(), source.bytes.len() as u64);
        let tail = pieces.pop_if(|last| !matches!(last, Piece::Whole { .. }));
        let mut used = header.data_offset() as usize;
        for piece in &pieces {
            used = piece.range().end;
            self.piece(&source, piece)?;
        }
        match tail {
            Some(piece) => self.pending = Some(Tail { source, piece }),
            None => self.close(&source, used)?,
        }
        Ok(())
    }

    fn load(&self, path: &Path) -> Result<Vec<u8>, OpenError> {
        let file = self.disk.open(path).map_err(OpenError::io("open", path))?;
        let length = file.length().map_err(OpenError::io("read", path))?.min(u64::from(SEGMENT_BYTES_MAX));
        let mut bytes = vec![0; length as usize];
        let read = file.read_at(&mut bytes, 0).map_err(OpenError::io("read", path))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// A file with a segment's name and no header. Headers are synced before anything is written behind them.
    fn headless(&mut self, number: u64, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
        if bytes.iter().skip(segment::DATA_OFFSET_MIN as usize).any(|b| *b != 0) {
            self.damage(number, bytes, 0..bytes.len(), "segment without a readable header")?;
        }
        self.disk.remove(path).map_err(OpenError::io("remove", path))
    }

    /// Something follows what could have been torn: it was damaged.
    fn settle_pending(&mut self) -> Result<(), OpenError> {
        let Some(Tail { source, piece }) = self.pending.take() else { return Ok(()) };
        self.piece(&source, &piece)?;
        self.close(&source, piece.range().end)
    }

    fn piece(&mut self, source: &Source, piece: &Piece) -> Result<(), OpenError> {
        self.check_number(source, piece);
        match piece {
            Piece::Whole { range, records, .. } => {
                self.last_whole = Some((source.number, range.clone()));
                records.iter().for_each(|(offset, record)| self.emit(source, *offset, record));
            }
            Piece::Partial { range, .. } => self.salvage(source, range.start + batch::HEADER_BYTES..range.end)?,
            Piece::Bad { range } => self.salvage(source, range.clone())?,
        }
        Ok(())
    }

    /// Numbers go up by one; across segments that can only be told of neighbours, for others may have been freed between.
    fn check_number(&mut self, source: &Source, piece: &Piece) {
        let Some(batch) = piece.number() else {
            self.last.iter_mut().for_each(|last| last.sound = false);
            return;
        };
        if let Some(last) = &self.last
            && last.sound
            && last.segment + 1 >= source.number
            && last.batch + 1 != batch
        {
            let what = "batches are missing before this place";
            let offset = piece.range().start as u64;
            self.report.damage.push(Damage { segment: source.number, offset, length: 0, what, copy: None });
        }
        self.last = Some(LastBatch { segment: source.number, batch, sound: true });
    }

    fn salvage(&mut self, source: &Source, range: Range<usize>) -> Result<(), OpenError> {
        let found = scan::salvage(&source.bytes, range, &source.salt);
        for (offset, record) in &found.records {
            self.emit(source, *offset, record);
        }
        for bad in found.bad {
            self.damage(source.number, &source.bytes, bad, "checksum does not match")?;
        }
        Ok(())
    }

    fn emit(&mut self, source: &Source, offset: usize, record: &Found) {
        let header = &record.header;
        let position = Position { segment: source.number, offset: offset as u32, length: record.behind.end as u32 };
        self.table.record(position, header, record.file);
        if header.live {
            self.files.extend(record.file);
        }
        self.report.records += 1;
        let payload = &source.bytes[offset + record.payload.start..offset + record.payload.end];
        (self.visit)(Recovered {
            position,
            kind: header.kind,
            key: header.key,
            about: header.about,
            live: header.live,
            // A copy: a slice would hold the whole segment in memory.
            payload: Bytes::copy_from_slice(payload),
            body_bytes: header.body.bytes(),
        });
    }

    /// Notes a damaged place and copies it aside.
    fn damage(&mut self, segment: u64, bytes: &[u8], range: Range<usize>, what: &'static str) -> Result<(), OpenError> {
        let copy = self.quarantine(segment, &bytes[range.clone()], range.start)?;
        tracing::error!(segment, offset = range.start, length = range.len(), "storage is damaged: {what}");
        let (offset, length) = (range.start as u64, range.len() as u64);
        self.report.damage.push(Damage { segment, offset, length, what, copy });
        Ok(())
    }

    fn quarantine(&mut self, segment: u64, bytes: &[u8], offset: usize) -> Result<Option<PathBuf>, OpenError> {
        let dir = &self.directories.quarantine;
        let path = dir.join(format!("{segment:016x}-{offset:08x}"));
        if self.quarantined >= QUARANTINE_FILES_MAX {
            return Ok(None);
        }
        let file = match self.disk.create(&path) {
            Ok(file) => file,
            // From an earlier start.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(Some(path)),
            Err(e) => return Err(OpenError::io("create", path)(e)),
        };
        self.quarantined += 1;
        let copied = file.write_at(&mut [IoSlice::new(bytes)], 0).and_then(|()| file.sync());
        copied.and_then(|()| self.disk.sync_dir(dir)).map_err(OpenError::io("write", &path))?;
        Ok(Some(path))
    }

    /// No more will be written to this segment: give back what it did not use.
    fn close(&mut self, source: &Source, used: usize) -> Result<(), OpenError> {
        if used < source.bytes.len() {
            let path = segment::path(&self.directories.segments, source.number);
            let cut = self.disk.open(&path).and_then(|file| file.set_length(used as u64));
            cut.map_err(OpenError::io("cut", path))?;
        }
        self.table.seal(source.number, used as u64);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OpenError> {
        if let Some(Tail { source, piece }) = self.pending.take() {
            let range = piece.range();
            self.report.torn_bytes += range.len() as u64;
            // Torn as far as one can tell. A damaged last batch looks the same, so a copy is kept.
            self.quarantine(source.number, &source.bytes[range.clone()], range.start)?;
            self.close(&source, range.start)?;
            self.sync_segment(source.number)?;
        }
        if let Some((number, range)) = self.last_whole.take() {
            self.rewrite(number, range)?;
        }
        let dir = &self.directories.segments;
        self.disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        self.remove_orphans()
    }

    fn sync_segment(&self, number: u64) -> Result<(), OpenError> {
        let path = segment::path(&self.directories.segments, number);
        self.disk.open(&path).and_then(|file| file.sync()).map_err(OpenError::io("sync", path))
    }

    /// Writes the same bytes to the same place, so that they are on the disk and not only in memory.
    fn rewrite(&self, number: u64, range: Range<usize>) -> Result<(), OpenError> {
        let path = segment::path(&self.directories.segments, number);
        let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
        let mut bytes = vec![0; range.len()];
        let read = file.read_at(&mut bytes, range.start as u64).map_err(OpenError::io("read", &path))?;
        let written = file.write_at(&mut [IoSlice::new(&bytes[..read])], range.start as u64);
        written.and_then(|()| file.sync()).map_err(OpenError::io("write", path))
    }

    fn remove_orphans(&mut self) -> Result<(), OpenError> {
        let dir = &self.directories.bodies;
        for name in self.disk.list(dir).map_err(OpenError::io("list", dir))? {
            let orphan = BodyFile::parse(&name).filter(|file| !self.files.contains(file));
            if let Some(file) = orphan {
                let path = file.path(dir);
                self.disk.remove(&path).map_err(OpenError::io("remove", path))?;
                self.report.orphans += 1;
            }
        }
        Ok(())
    }
}
