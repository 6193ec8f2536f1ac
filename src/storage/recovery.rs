//! Recovery: from files to the table of what lives, with every intact record that no sidecar answers for handed out on the way.
//!
//! Segments with a sidecar are entered as it says. Records are read from the first place on that some segment's sidecar does
//! not cover (a segment without one: its own beginning), by their headers; bodies are not read. Only the last batch of the log
//! is checked whole, for only that one can be torn.
//!
//! What is met, and what is done:
//!
//! ```text
//! last piece of the last segment not whole    torn: nobody was promised it. Copied aside, an empty batch put in its place: what
//!                                             lies before it must not be taken for the end, and so for torn, by a later start
//! any other piece not whole                   damaged: what is right in it is handed out, the rest copied aside, reported
//! a body not whole, not in the last batch     found when it is read
//! batch numbers with a gap                    damaged: a write that never reached the disk; reported. In a recycled segment what
//!                                             lies at its end is searched for records then; else it is of an earlier life
//! segment without a readable header           never used (zero behind it): removed. Otherwise copied aside, reported
//! segment of a newer format                   nothing is touched, the log does not open
//! last batch whole                            written again and synced before anything else: the process may have died
//!                                             before its sync, or after a failed one that left the kernel's copy clean.
//!                                             Not where there is a sidecar: it was written after the sync
//! sidecar damaged, foreign, unreadable        removed; the segment is read instead
//! sidecar without its segment, files that     removed
//! were being written, segments laid aside
//! file of a body that no live record names    removed
//! read error                                  the log does not open: an error is not damage
//! ```
//!
//! Afterwards all segments are sealed; writing goes on in a new one.

use std::collections::HashSet;
use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{self, Frame};
use super::bodies::BodyFile;
use super::disk::{Disk, File};
use super::error::OpenError;
use super::hop::{Hop, Hopped, Next};
use super::record::{self, Salt};
use super::scan::{self, Piece};
use super::segment;
use super::survey::{self, Found, FoundSide};
use super::table::Table;
use super::{Damage, Mark, Position, Recovered, RecoveredRecord, RecoveryReport};

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

/// Reads what has to be read of the log.
pub fn recover(
    directories: &Directories,
    disk: &dyn Disk,
    visit: &mut dyn FnMut(Recovered),
) -> Result<Recovery, OpenError> {
    let quarantined = disk.list(&directories.quarantine).map_err(OpenError::io("list", &directories.quarantine))?.len();
    let mut report = RecoveryReport::default();
    let survey = survey::survey(disk, &directories.segments, &mut report)?;
    let mut walk = Walk {
        directories,
        disk,
        visit,
        table: Table::default(),
        report,
        tail_from: Mark::START,
        last: None,
        last_whole: None,
        files: HashSet::new(),
        quarantined,
    };
    for name in survey.strays {
        walk.remove(&directories.segments.join(name))?;
    }
    let mut segments = walk.used(survey.segments)?;
    walk.begin(&mut segments);
    for n in 0..segments.len() {
        walk.segment(&segments[n], segments.get(n + 1))?;
    }
    walk.finish()?;
    let next_batch = walk.last.map_or(1, |last| last.batch + 1);
    Ok(Recovery { table: walk.table, report: walk.report, next_segment: survey.next_segment, next_batch })
}

struct Walk<'a> {
    directories: &'a Directories,
    disk: &'a dyn Disk,
    visit: &'a mut dyn FnMut(Recovered),
    table: Table,
    report: RecoveryReport,
    /// What lies in front of this is answered for by sidecars.
    tail_from: Mark,
    last: Option<LastBatch>,
    /// The last whole batch, if it is not known to have been synced.
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

/// A segment being read.
struct Source<'a> {
    number: u64,
    header: segment::Header,
    salt: Salt,
    file: Arc<dyn File>,
    /// Bytes that count: with a sidecar up to the last batch, else all.
    length: u64,
    side: Option<&'a FoundSide>,
    /// Nothing follows, and nothing says that the last batch was synced.
    can_be_torn: bool,
    /// Number of the first batch of the next segment, if it is known to follow at once.
    next_batch: Option<u64>,
}

impl Walk<'_> {
    /// Those that were ever written to; the others are removed. Segments are used one after the other, so only the last ones
    /// can be unused.
    fn used(&mut self, segments: Vec<Found>) -> Result<Vec<Found>, OpenError> {
        let mut used = Vec::with_capacity(segments.len());
        let mut something_behind = false;
        for found in segments.into_iter().rev() {
            let Some(header) = found.header else {
                self.headless(&found)?;
                continue;
            };
            if !something_behind && found.side.is_none() {
                let source = self.source(&found, header, None)?;
                if matches!(self.hop_once(&source)?, Next::End) {
                    // Made in advance and never used.
                    self.remove(&segment::path(&self.directories.segments, found.number))?;
                    continue;
                }
            }
            something_behind = true;
            used.push(found);
        }
        used.reverse();
        Ok(used)
    }

    fn hop_once(&mut self, source: &Source<'_>) -> Result<Next, OpenError> {
        let mut hop = Hop::new(&*source.file, source.header, &source.salt, source.length);
        let next = hop.next().map_err(OpenError::io("read", self.path(source.number)));
        self.report.bytes_read += hop.bytes_read();
        next
    }

    /// Hands out the sidecars and sees from where on records have to be read.
    fn begin(&mut self, segments: &mut [Found]) {
        let from =
            |found: &Found| found.side.as_ref().map_or(Mark { segment: found.number, offset: 0 }, |side| side.covers);
        self.report.tail_from = segments.iter().map(from).min();
        self.tail_from = self.report.tail_from.unwrap_or(Mark::START);
        for found in &mut *segments {
            let Some(side) = &mut found.side else {
                let salt = found.header.map_or(0, |header| header.salt);
                self.table.add(found.number, Salt::new(salt), found.length);
                continue;
            };
            self.report.sidecars += 1;
            self.table.restore(&side.facts, side.covers, found.length);
            self.files.extend(side.facts.files.iter().map(|(_, file, _)| *file));
            // The table has them now, and there may be millions.
            (side.facts.live, side.facts.files) = Default::default();
            let (segment, covers, brief) = (found.number, side.covers, std::mem::take(&mut side.brief));
            (self.visit)(Recovered::Sidecar { segment, covers, brief });
        }
        self.report.segments = segments.len() as u64;
        self.report.without_sidecar = self.report.segments - self.report.sidecars;
    }

    fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.directories.segments, number)
    }

    fn source<'a>(
        &self,
        found: &'a Found,
        header: segment::Header,
        next: Option<&Found>,
    ) -> Result<Source<'a>, OpenError> {
        let path = self.path(found.number);
        let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
        let side = found.side.as_ref();
        let neighbour = next.filter(|next| next.number == found.number + 1);
        Ok(Source {
            number: found.number,
            header,
            salt: Salt::new(header.salt),
            file,
            length: side.map_or(found.length, |side| u64::from(side.facts.used)),
            side,
            can_be_torn: next.is_none() && side.is_none(),
            next_batch: match neighbour {
                Some(next) => self.first_batch(next)?,
                None => None,
            },
        })
    }

    /// The number of a segment's first batch, if it can be told at a glance.
    fn first_batch(&self, found: &Found) -> Result<Option<u64>, OpenError> {
        if let Some(side) = &found.side {
            return Ok(Some(side.facts.first_batch));
        }
        let Some(header) = found.header else { return Ok(None) };
        let path = self.path(found.number);
        let mut raw = [0; batch::HEADER_BYTES];
        let offset = header.data_offset();
        let read = self.disk.open(&path).and_then(|file| file.read_at(&mut raw, u64::from(offset)));
        let read = read.map_err(OpenError::io("read", &path))?;
        Ok(batch::Header::decode(&raw[..read], &Salt::new(header.salt), offset).map(|h| h.number))
    }

    /// A file with a segment's name and no header. Headers are synced before anything is written behind them.
    fn headless(&mut self, found: &Found) -> Result<(), OpenError> {
        let path = self.path(found.number);
        let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
        let bytes = self.load(&path, &*file, found.length)?;
        if bytes.iter().skip(segment::DATA_OFFSET_MIN as usize).any(|b| *b != 0) {
            self.damage(found.number, &bytes, 0..bytes.len(), "segment without a readable header")?;
        }
        self.remove(&path)
    }

    fn load(&mut self, path: &Path, file: &dyn File, length: u64) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; length.min(u64::from(segment::SEGMENT_BYTES_MAX)) as usize];
        let read = file.read_at(&mut bytes, 0).map_err(OpenError::io("read", path))?;
        bytes.truncate(read);
        self.report.bytes_read += read as u64;
        Ok(bytes)
    }

    fn segment(&mut self, found: &Found, next: Option<&Found>) -> Result<(), OpenError> {
        let Some(header) = found.header else { return Ok(()) };
        let end = |side: &FoundSide| Mark { segment: found.number, offset: side.facts.used };
        if let Some(side) = found.side.as_ref().filter(|side| end(side) <= self.tail_from) {
            self.check_number(found.number, u64::from(header.data_offset()), side.facts.first_batch);
            self.last = Some(LastBatch { segment: found.number, batch: side.facts.last_batch, sound: true });
            return Ok(());
        }
        let source = self.source(found, header, next)?;
        let mut hop = Hop::new(&*source.file, header, &source.salt, source.length);
        let walked = self.hop(&source, &mut hop);
        self.report.bytes_read += hop.bytes_read();
        match walked? {
            Walked::Whole(used) => self.close(&source, used),
            Walked::Torn(range) => self.torn(&source, range),
            Walked::Until { place, last } => self.scan(&source, place, last),
        }
    }

    /// From header to header as far as everything is in order. Where the last batch may be torn it is held back until it is
    /// known to have a successor, or checked.
    fn hop(&mut self, source: &Source<'_>, hop: &mut Hop<'_>) -> Result<Walked, OpenError> {
        let mut held: Option<(u64, Range<usize>, Vec<Hopped>)> = None;
        let mut place = source.header.data_offset() as usize;
        let mut last = None;
        loop {
            let next = hop.next().map_err(OpenError::io("read", self.path(source.number)))?;
            let batch = match next {
                Next::Batch { number, range, records } if source.can_be_torn => held.replace((number, range, records)),
                Next::Batch { number, range, records } => Some((number, range, records)),
                Next::Irregular => return Ok(Walked::Until { place, last }),
                Next::End => break,
            };
            if let Some((number, range, records)) = batch {
                (place, last) = (range.end, Some(number));
                self.batch(source, number, range, records);
            }
        }
        if let Some((number, range, records)) = held {
            if !self.is_whole(source, &range)? {
                return Ok(Walked::Torn(range));
            }
            self.last_whole = Some((source.number, range.clone()));
            place = range.end;
            self.batch(source, number, range, records);
            return Ok(Walked::Whole(place));
        }
        let cut_short = source.side.is_some_and(|side| side.facts.used as usize != place);
        let missing =
            source.header.recycled && source.next_batch.is_some_and(|next| last.is_none_or(|l| l + 1 != next));
        let nothing = last.is_none();
        Ok(if cut_short || missing || nothing { Walked::Until { place, last } } else { Walked::Whole(place) })
    }

    fn batch(&mut self, source: &Source<'_>, number: u64, range: Range<usize>, records: Vec<Hopped>) {
        self.number(source, range.start, range.end, number);
        for Hopped { offset, header, file, payload } in records {
            self.emit(source, offset as usize, &header, file, payload);
        }
    }

    /// A batch with its bodies.
    fn is_whole(&mut self, source: &Source<'_>, range: &Range<usize>) -> Result<bool, OpenError> {
        let bytes = self.bytes(source, range)?;
        let header = batch::Header::decode(&bytes, &source.salt, range.start as u32);
        Ok(header.is_some_and(|header| scan::records_of(&bytes, range.start, header, &source.salt).is_some()))
    }

    fn bytes(&mut self, source: &Source<'_>, range: &Range<usize>) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; range.len()];
        let read = source.file.read_at(&mut bytes, range.start as u64);
        let read = read.map_err(OpenError::io("read", self.path(source.number)))?;
        bytes.truncate(read);
        self.report.bytes_read += read as u64;
        Ok(bytes)
    }

    /// With every byte in memory, from a place on where something is not in order.
    fn scan(&mut self, source: &Source<'_>, place: usize, last: Option<u64>) -> Result<(), OpenError> {
        let path = self.path(source.number);
        let bytes = self.load(&path, &*source.file, source.length)?;
        let header = segment::Header { recycled: source.header.recycled && source.side.is_none(), ..source.header };
        let mut pieces = scan::pieces(&bytes, &header, &source.salt, place, last);
        let torn = if source.can_be_torn { pieces.pop_if(|p| !matches!(p, Piece::Whole { .. })) } else { None };
        let mut used = place;
        let mut number = last;
        for piece in &pieces {
            used = self.piece(source, &bytes, piece)?;
            number = piece.number().or(number);
        }
        if let Some(piece) = torn {
            return self.torn(source, piece.range());
        }
        let missing = source.next_batch.is_some_and(|next| number.is_none_or(|last| last + 1 != next));
        if header.recycled && !source.can_be_torn && missing {
            let from = used.next_multiple_of(header.alignment as usize).min(bytes.len());
            used = self.salvage_end(source, &bytes, from..bytes.len())?.unwrap_or(used);
        }
        self.close(source, used)
    }

    /// Hands out what is right in a piece; returns where it ends, zeros at the end of its last record included.
    fn piece(&mut self, source: &Source<'_>, bytes: &[u8], piece: &Piece) -> Result<usize, OpenError> {
        match piece {
            Piece::Whole { range, records, number } => {
                self.number(source, range.start, range.end, *number);
                if source.can_be_torn {
                    self.last_whole = Some((source.number, range.clone()));
                }
                for (offset, record) in records {
                    self.emit_found(source, bytes, *offset, record);
                }
                Ok(range.end)
            }
            Piece::Partial { range, number } => {
                self.number(source, range.start, range.end, *number);
                self.salvage(source, bytes, range.start + batch::HEADER_BYTES..range.end)
            }
            Piece::Bad { range } => {
                self.last.iter_mut().for_each(|last| last.sound = false);
                self.salvage(source, bytes, range.clone())
            }
        }
    }

    /// A batch with this number lies here.
    fn number(&mut self, source: &Source<'_>, start: usize, end: usize, number: u64) {
        self.check_number(source.number, start as u64, number);
        if source.side.is_none() {
            self.table.batch(source.number, number, end as u32);
        }
    }

    /// Numbers go up by one; across segments that can only be told of neighbours, for others may have been freed between.
    fn check_number(&mut self, segment: u64, offset: u64, batch: u64) {
        if let Some(last) = &self.last
            && last.sound
            && last.segment + 1 >= segment
            && last.batch + 1 != batch
        {
            let what = "batches are missing before this place";
            self.report.damage.push(Damage { segment, offset, length: 0, what, copy: None });
        }
        self.last = Some(LastBatch { segment, batch, sound: true });
    }

    fn salvage(&mut self, source: &Source<'_>, bytes: &[u8], range: Range<usize>) -> Result<usize, OpenError> {
        let end = range.end;
        let found = scan::salvage(bytes, range, &source.salt);
        let end = found.end().map_or(end, |last| last.max(end));
        for (offset, record) in &found.records {
            self.emit_found(source, bytes, *offset, record);
        }
        for bad in found.bad {
            self.damage(source.number, bytes, bad, "checksum does not match")?;
        }
        Ok(end)
    }

    /// Batches are missing, and at the end of this recycled segment they may be, among what is left of its earlier life.
    /// Returns where the last record found there ends.
    fn salvage_end(
        &mut self,
        source: &Source<'_>,
        bytes: &[u8],
        range: Range<usize>,
    ) -> Result<Option<usize>, OpenError> {
        let found = scan::salvage(bytes, range.clone(), &source.salt);
        let Some(end) = found.end() else { return Ok(None) };
        self.last.iter_mut().for_each(|last| last.sound = false);
        self.salvage(source, bytes, range.start..end)?;
        Ok(Some(end))
    }

    fn emit_found(&mut self, source: &Source<'_>, bytes: &[u8], offset: usize, found: &record::Found) {
        // A copy: a slice would hold the whole segment in memory.
        let payload = Bytes::copy_from_slice(&bytes[offset + found.payload.start..offset + found.payload.end]);
        self.emit(source, offset, &found.header, found.file, payload);
    }

    fn emit(
        &mut self,
        source: &Source<'_>,
        offset: usize,
        header: &record::Header,
        file: Option<BodyFile>,
        payload: Bytes,
    ) {
        let length = header.stored_bytes() as u32;
        let position = Position { segment: source.number, offset: offset as u32, length };
        if position.mark() < self.tail_from {
            return;
        }
        let covered = source.side.is_some();
        if !covered {
            self.table.record(position, header, file);
            if header.live {
                self.files.extend(file);
            }
        }
        self.report.records += 1;
        (self.visit)(Recovered::Record(RecoveredRecord {
            position,
            kind: header.kind,
            key: header.key,
            about: header.about,
            live: header.live && (!covered || self.table.is_live(position)),
            covered,
            payload,
            body_bytes: header.body.bytes(),
        }));
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

    /// Torn as far as one can tell. A damaged last batch looks the same, so a copy is kept.
    fn torn(&mut self, source: &Source<'_>, range: Range<usize>) -> Result<(), OpenError> {
        self.report.torn_bytes += range.len() as u64;
        let bytes = self.bytes(source, &range)?;
        self.quarantine(source.number, &bytes, range.start)?;
        let number = self.last.as_ref().map_or(1, |last| last.batch + 1);
        let mut nothing = Frame::new(&source.salt, number, range.start as u32, 0);
        let used = range.start + nothing.bytes() as usize;
        // Before the rest is cut, so that there is something behind the batch before at any time.
        let written = source.file.write_at(&mut nothing.parts(), range.start as u64);
        written.and_then(|()| source.file.sync()).map_err(OpenError::io("write", self.path(source.number)))?;
        self.number(source, range.start, used, number);
        self.close(source, used)?;
        source.file.sync().map_err(OpenError::io("sync", self.path(source.number)))
    }

    /// No more will be written to this segment: give back what it did not use.
    fn close(&mut self, source: &Source<'_>, used: usize) -> Result<(), OpenError> {
        if source.side.is_some() {
            return Ok(());
        }
        if (used as u64) < source.length {
            source.file.set_length(used as u64).map_err(OpenError::io("cut", self.path(source.number)))?;
        }
        self.table.seal(source.number, used as u32, used as u64);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OpenError> {
        if let Some((number, range)) = self.last_whole.take() {
            self.rewrite(number, range)?;
        }
        let dir = &self.directories.segments;
        self.disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        self.remove_orphans()
    }

    /// Writes the same bytes to the same place, so that they are on the disk and not only in memory.
    fn rewrite(&self, number: u64, range: Range<usize>) -> Result<(), OpenError> {
        let path = self.path(number);
        let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
        let mut bytes = vec![0; range.len()];
        let read = file.read_at(&mut bytes, range.start as u64).map_err(OpenError::io("read", &path))?;
        let written = file.write_at(&mut [IoSlice::new(&bytes[..read])], range.start as u64);
        written.and_then(|()| file.sync()).map_err(OpenError::io("write", path))
    }

    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        self.disk.remove(path).map_err(OpenError::io("remove", path))
    }

    fn remove_orphans(&mut self) -> Result<(), OpenError> {
        let dir = &self.directories.bodies;
        for name in self.disk.list(dir).map_err(OpenError::io("list", dir))? {
            let orphan = BodyFile::parse(&name).filter(|file| !self.files.contains(file));
            if let Some(file) = orphan {
                self.remove(&file.path(dir))?;
                self.report.orphans += 1;
            }
        }
        Ok(())
    }
}

/// How far header by header led.
enum Walked {
    /// To the end, and all is in order up to here.
    Whole(usize),
    /// The last batch is not whole.
    Torn(Range<usize>),
    /// Something is not in order behind this place; the number of the batch in front of it.
    Until { place: usize, last: Option<u64> },
}
