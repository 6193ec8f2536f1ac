//! A log's directory looked at from outside: every record in order of commit, every damaged place, and nothing changed.
//!
//! **Promises.** Files are opened for reading only and nothing is made, cut, moved or removed; a copy on a read-only file
//! system will do. What is handed out as a record is one by the same rules as at start (`scan.rs`), and what is called torn,
//! damaged or unused is what `recovery.rs` would call so. Nothing is skipped in silence. While a directory is inspected, a
//! relay cannot open it, unless it was open before and the inspection was told so ([`Access::Beside`]).
//!
//! **Beside a running relay** what has been synced is seen as it is. The newest segment may end in a batch that is being
//! written: it is called unfinished, not damaged. Segments and files that go meanwhile are counted, not missed.
//!
//! **Does not know** what a record means. Holds at most two segments in memory.
//!
//! **Fails how.** [`OpenError`]: in use, a newer format, or the disk refused. A read error is not damage: the walk ends.

mod walk;

use std::fs::{self, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use super::batch;
use super::bodies::BodyFile;
use super::record::{Body, Found, Header as RecordHeader, Salt};
use super::segment::{self, Header, Reading, SEGMENT_BYTES_MAX};
use super::sidecar::{self, Header as SideHeader};
use super::sidecars;
use super::{OpenError, Position, ReadError, Stored};
use walk::Walk;

/// May a relay have the directory open?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// No: refuse if one has.
    Alone,
    /// Yes: what it does meanwhile is allowed for.
    Beside,
}

/// A log's directory, open for looking.
#[derive(Debug)]
pub struct Inspection {
    root: PathBuf,
    segments: Vec<SegmentFile>,
    running: bool,
    /// Held while no relay has the directory open, so that none opens it meanwhile.
    _lock: Option<fs::File>,
}

/// A segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFile {
    /// Its number.
    pub number: u64,
    /// Bytes of the file.
    pub bytes: u64,
    header: Option<Header>,
}

/// What a walk meets, in order.
#[derive(Debug)]
pub enum Item<'a> {
    /// An intact record.
    Record(Seen<'a>),
    /// A place that is not as it was written.
    Flaw(Flaw),
    /// A segment has been read to its end.
    Segment(SegmentFile),
}

/// An intact record: its header and its payload are right.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Where it lies.
    pub position: Position,
    /// The number of its batch; `None` for one found in a damaged batch.
    pub batch: Option<u64>,
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub key: [u8; 16],
    /// As appended.
    pub about: Option<Position>,
    /// As appended: may have been released since.
    pub live: bool,
    /// As appended.
    pub payload: &'a [u8],
    /// Its body.
    pub body: SeenBody<'a>,
}

/// The body of a record that was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeenBody<'a> {
    /// It has none.
    None,
    /// Behind the payload.
    Inline {
        /// Its bytes.
        bytes: &'a [u8],
        /// They match their checksum.
        intact: bool,
    },
    /// In a file of its own: [`Inspection::read_body`] gives it.
    File(BodyPlace),
}

/// Where a body lies that has a file of its own, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyPlace {
    file: BodyFile,
    crc: u32,
    /// Its length.
    pub bytes: u32,
}

impl BodyPlace {
    /// The path of its file from the log's directory.
    pub fn path(&self) -> PathBuf {
        Path::new("bodies").join(self.file.name())
    }
}

/// A place that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; 0 where something is missing.
    pub length: u64,
    /// What it was.
    pub what: Part,
}

/// What a flawed place was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// One of the two copies of a segment's header; the other one is right.
    HeaderCopy,
    /// A segment's header, both copies: nothing in the segment can be told from noise.
    SegmentHeader,
    /// A batch's header.
    BatchHeader,
    /// A record's header. What it seems to have been, if its fields still make sense.
    RecordHeader(Option<Owner>),
    /// The payload of a record whose header is right.
    Payload(Owner),
    /// The body of a record that is right otherwise.
    Body(Owner),
    /// What lies between two records and belongs to neither.
    Unknown,
    /// A segment's sidecar, or the file that says how much sidecars cover: a start does without.
    Sidecar,
    /// Batches that are not there, between the two numbers.
    MissingBatches {
        /// The last batch before the gap.
        after: u64,
        /// The first one behind it.
        before: u64,
    },
    /// The end of the log: a batch that was being written when the process or the power went, or is being written now.
    /// Nobody was promised it. A last batch that was damaged later looks the same, so what is whole in it is named.
    TornEnd(Vec<Owner>),
}

/// Whose a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its kind.
    pub kind: u8,
    /// Its key.
    pub key: [u8; 16],
    /// Where it lies.
    pub position: Position,
}

/// What a walk came across.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// Segments with something in them.
    pub segments: u64,
    /// Segments made in advance, with nothing in them yet.
    pub spare_segments: u64,
    /// Bytes of all segments' files.
    pub file_bytes: u64,
    /// Bytes up to the last batch's end, over all segments.
    pub used_bytes: u64,
    /// Batches, also those that are not whole.
    pub batches: u64,
    /// Segments that a running relay removed while the walk went on.
    pub gone_meanwhile: u64,
    /// Bytes of an unfinished batch at the end.
    pub torn_bytes: u64,
}

/// A file in `bodies/` or `quarantine/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherFile {
    /// Its path from the log's directory.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: Option<SystemTime>,
}

impl Flaw {
    /// The path of the file it is in, from the log's directory.
    pub fn path(&self) -> PathBuf {
        let dir = Path::new("segments");
        match self.what {
            Part::Sidecar if self.segment == 0 => dir.join(sidecars::COVERS),
            Part::Sidecar => sidecars::path(dir, self.segment),
            _ => segment::path(dir, self.segment),
        }
    }
}

impl Inspection {
    /// Looks at the log in `root`.
    ///
    /// # Errors
    /// [`OpenError`]: somebody has it open ([`Access::Alone`] only), a segment is of a newer format, or the disk refuses.
    pub fn open(root: &Path, access: Access) -> Result<Self, OpenError> {
        let (lock, running) = lock(root, access)?;
        let dir = root.join("segments");
        let mut segments = Vec::new();
        for name in names(&dir)? {
            let Some(number) = segment::number_of(&name) else { continue };
            let path = segment::path(&dir, number);
            let mut start = vec![0; segment::DATA_OFFSET_MIN as usize];
            let file = match fs::File::open(&path) {
                Err(e) if running && e.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(OpenError::io("open", &path))?,
            };
            let bytes = file.metadata().map_err(OpenError::io("look at", &path))?.len();
            let read = read_at(&file, &mut start, 0).map_err(OpenError::io("read", &path))?;
            let header = match Header::read(&start[..read], number) {
                Reading::Newer(found) => return Err(OpenError::NewerFormat { path, found, known: segment::FORMAT }),
                Reading::Header(header) => Some(header),
                Reading::Nothing => None,
            };
            segments.push(SegmentFile { number, bytes, header });
        }
        segments.sort_unstable_by_key(|s| s.number);
        let mut inspection = Self { root: root.to_owned(), segments, running, _lock: lock };
        if running {
            inspection.forget_what_is_not_used_yet()?;
        }
        Ok(inspection)
    }

    /// The log's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// True if a relay has the directory open.
    pub fn is_beside_a_relay(&self) -> bool {
        self.running
    }

    /// Bytes of all segments, for progress.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// A running relay goes on to write. What lies behind the segment that it is writing to now is none of ours: else a
    /// batch that is read there could seem to lack one that came to the segment before it after that had been read.
    fn forget_what_is_not_used_yet(&mut self) -> Result<(), OpenError> {
        while let Some(last) = self.segments.last() {
            if let Some(header) = &last.header {
                let path = self.path(last.number);
                let mut start = [0; batch::HEADER_BYTES];
                let read = match fs::File::open(&path) {
                    Ok(file) => read_at(&file, &mut start, u64::from(header.data_offset())),
                    Err(e) => Err(e),
                };
                match read {
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(OpenError::io("read", path)(e)),
                }
                if batch::Header::decode(&start, &Salt::new(header.salt), header.data_offset()).is_some() {
                    return Ok(());
                }
            }
            self.segments.pop();
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.root.join("segments"), number)
    }

    /// Reads every byte of every segment; `visit` is told what is met in order of commit, and may end the walk.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn walk(&self, visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Result<Walked, OpenError> {
        let mut walk = Walk::new(visit);
        for file in &self.segments {
            if walk.has_ended() {
                break;
            }
            match self.load(file)? {
                Some(bytes) => walk.segment(*file, bytes),
                None => walk.gone(),
            }
            if let Some(bytes) = self.bad_sidecar(file)? {
                let what = Part::Sidecar;
                walk.tell(Item::Flaw(Flaw { segment: file.number, offset: 0, length: bytes, what }));
            }
        }
        if let Some(bytes) = self.bad_covers()? {
            walk.tell(Item::Flaw(Flaw { segment: 0, offset: 0, length: bytes, what: Part::Sidecar }));
        }
        Ok(walk.finish())
    }

    /// Bytes of a segment's sidecar, if it has one that is not right in every byte.
    fn bad_sidecar(&self, file: &SegmentFile) -> Result<Option<u64>, OpenError> {
        let path = sidecars::path(&self.root.join("segments"), file.number);
        let Some(bytes) = whole(&path)? else { return Ok(None) };
        let Some(own) = file.header else { return Ok(None) };
        let is_right = |header: SideHeader| {
            let (lists, state) = (sidecar::HEADER_BYTES, header.state_offset() as usize);
            bytes.len() as u64 == header.file_bytes()
                && header.decode_lists(&bytes[lists..state]).is_some()
                && crc32fast::hash(&bytes[state..]) == header.state_crc
        };
        let right = SideHeader::decode(&bytes, file.number, own.salt).is_some_and(is_right);
        Ok((!right).then_some(bytes.len() as u64))
    }

    /// Bytes of the file of confirmations, if it is there and not right in every byte.
    fn bad_covers(&self) -> Result<Option<u64>, OpenError> {
        let bytes = whole(&self.root.join("segments").join(sidecars::COVERS))?;
        Ok(bytes.filter(|bytes| sidecar::decode_covers(bytes).is_none()).map(|bytes| bytes.len() as u64))
    }

    /// A segment's bytes; `None` if a running relay removed it, or took it for another use, before they had been read.
    fn load(&self, file: &SegmentFile) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.path(file.number);
        let read = || -> io::Result<Option<Vec<u8>>> {
            let from = fs::File::open(&path)?;
            let mut bytes = vec![0; from.metadata()?.len().min(u64::from(SEGMENT_BYTES_MAX)) as usize];
            let length = read_at(&from, &mut bytes, 0)?;
            bytes.truncate(length);
            if self.running {
                let mut start = vec![0; segment::DATA_OFFSET_MIN as usize];
                let length = read_at(&fs::File::open(&path)?, &mut start, 0)?;
                let now = Header::read(&start[..length], file.number);
                return Ok(Some(bytes).filter(|_| file.header.map(Reading::Header) == Some(now)));
            }
            Ok(Some(bytes))
        };
        match read() {
            Err(e) if self.running && e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map_err(OpenError::io("read", &path)),
        }
    }

    /// Reads a record by its place.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, position: Position) -> Result<Stored, ReadError> {
        let segment = self.segments.iter().find(|s| s.number == position.segment).ok_or(ReadError::Gone)?;
        let header = segment.header.ok_or(ReadError::Corrupt)?;
        if u64::from(position.length) > segment.bytes {
            return Err(ReadError::Corrupt);
        }
        let file = fs::File::open(self.path(position.segment)).map_err(gone)?;
        let mut bytes = vec![0; position.length as usize];
        let read = read_at(&file, &mut bytes, u64::from(position.offset))?;
        let salt = Salt::new(header.salt);
        let found = Found::decode(&bytes[..read], &salt, position.offset).ok_or(ReadError::Corrupt)?;
        if !found.payload_intact || !found.body_intact {
            return Err(ReadError::Corrupt);
        }
        let bytes = Bytes::from(bytes);
        let body = match (found.header.body, found.file) {
            (Body::File { bytes, crc }, Some(file)) => Some(self.read_body(&BodyPlace { file, crc, bytes })?),
            (Body::Inline { .. }, _) => Some(bytes.slice(found.behind)),
            _ => None,
        };
        let RecordHeader { kind, key, about, .. } = found.header;
        Ok(Stored { kind, key, about, payload: bytes.slice(found.payload), body })
    }

    /// Reads a body from its file and compares length and checksum.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Gone`] if the file is not there.
    pub fn read_body(&self, place: &BodyPlace) -> Result<Bytes, ReadError> {
        let file = fs::File::open(self.root.join(place.path())).map_err(gone)?;
        if file.metadata()?.len() != u64::from(place.bytes) {
            return Err(ReadError::Corrupt);
        }
        let mut body = vec![0; place.bytes as usize];
        if read_at(&file, &mut body, 0)? != body.len() || crc32fast::hash(&body) != place.crc {
            return Err(ReadError::Corrupt);
        }
        Ok(body.into())
    }

    /// The files of large bodies, also those that no record speaks of any more.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn body_files(&self) -> Result<Vec<OtherFile>, OpenError> {
        let mut files = self.files_in("bodies")?;
        files.retain(|file| file.path.file_name().and_then(|n| n.to_str()).and_then(BodyFile::parse).is_some());
        Ok(files)
    }

    /// What earlier starts set aside.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn quarantine(&self) -> Result<Vec<OtherFile>, OpenError> {
        self.files_in("quarantine")
    }

    fn files_in(&self, name: &str) -> Result<Vec<OtherFile>, OpenError> {
        let dir = self.root.join(name);
        let mut files = Vec::new();
        for file in names(&dir)? {
            match fs::metadata(dir.join(&file)) {
                Ok(known) if known.is_file() => files.push(OtherFile {
                    path: Path::new(name).join(file),
                    bytes: known.len(),
                    modified: known.modified().ok(),
                }),
                Ok(_) => {}
                // A running relay removes files.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(OpenError::io("look at", dir.join(file))(e)),
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// Takes the lock unless a relay has it; says if one has. A copy without a lock file has never been opened.
fn lock(root: &Path, access: Access) -> Result<(Option<fs::File>, bool), OpenError> {
    let path = root.join("lock");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok((None, false)),
        Err(e) => return Err(OpenError::io("open", path)(e)),
    };
    // Shared: several may look, and a relay that wants it alone has to wait for them.
    match file.try_lock_shared() {
        Ok(()) => Ok((Some(file), false)),
        Err(TryLockError::WouldBlock) if access == Access::Beside => Ok((None, true)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(root.into())),
        Err(TryLockError::Error(e)) => Err(OpenError::io("lock", path)(e)),
    }
}

/// Names in a directory; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>, OpenError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    };
    match read() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(OpenError::io("list", dir)),
    }
}

/// A file's bytes, if it is there.
fn whole(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(OpenError::io("read", path)),
    }
}

/// Reads up to the length of `buffer`; fewer bytes only at the end of the file.
fn read_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn gone(e: io::Error) -> ReadError {
    if e.kind() == ErrorKind::NotFound { ReadError::Gone } else { ReadError::Io(e) }
}

#[cfg(test)]
mod tests;
