//! A file of sealed lines that only grows: small facts that must be durable before somebody is answered.
//!
//! ```text
//! 1a2b3c4d {"v":1,…}     crc32 of the line's text, and the text: one line of JSON
//! ```
//!
//! **Promises.** What [`Journal::append`] has returned is on stable storage; those who come while a sync is in progress share the
//! next. After a crash the file is whole up to a last line that nobody was promised, which is cut off. A line that is not as
//! it was written is passed over and counted, and stays where it is: a file that holds one is never rewritten.
//!
//! **Does not know** what a line says, nor which of them still count: who does may have the file rewritten.
//!
//! **Fails how.** Without room the line is taken back and the next may go; a failed sync poisons the journal until the
//! next start, since nobody knows what the disk has.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::disk::{Disk, File};
use super::whole;

/// Longest line that is read: far more than any that is written.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of lines that may wait for the disk; beyond it nobody is taken.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Why a line is not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalError {
    /// Too much waits for the disk, or it has no room: later, perhaps.
    Full,
    /// The disk has failed; nothing more is taken until the next start.
    Failed,
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk has no room, or too much waits for it",
            Self::Failed => "the disk has failed",
        })
    }
}

impl std::error::Error for JournalError {}

/// A journal that has been read and is not written to yet.
#[derive(Debug)]
pub struct Opening {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    length: u64,
    /// Lines that are as they were written.
    pub lines: u64,
    /// Lines that are not.
    pub damaged: u64,
}

impl Opening {
    /// Reads the journal at `path`, line by line, and makes it if it is not there. Blocks.
    ///
    /// # Errors
    /// The disk's, and what `visit` makes of a line.
    pub fn read(disk: Arc<dyn Disk>, path: &Path, visit: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<Self> {
        let file = match disk.open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let file = disk.create(path)?;
                path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
                file
            }
            opened => opened?,
        };
        let mut opening = Self { disk, path: path.to_owned(), file, length: 0, lines: 0, damaged: 0 };
        opening.visit_lines(visit)?;
        if opening.file.length()? > opening.length {
            opening.file.set_length(opening.length)?;
            opening.file.sync()?;
        }
        Ok(opening)
    }

    fn visit_lines(&mut self, visit: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let (mut offset, mut kept) = (0, Vec::new());
        // Damage behind which nothing good comes is the torn end of a write that nobody was promised.
        let mut doubtful = 0;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.file.read_at(&mut buffer, offset)?;
            offset += read as u64;
            kept.extend_from_slice(&buffer[..read]);
            let mut done = 0;
            while let Some(end) = memchr::memchr(b'\n', &kept[done..]) {
                let line = &kept[done..done + end];
                done += end + 1;
                match unsealed(line) {
                    Some(text) => {
                        visit(text)?;
                        self.lines += 1;
                        self.damaged += std::mem::take(&mut doubtful);
                        self.length = offset - (kept.len() - done) as u64;
                    }
                    None => doubtful += 1,
                }
            }
            kept.drain(..done);
            if read == 0 {
                return Ok(());
            }
            if kept.len() > LINE_BYTES_MAX {
                // No end of line for so long: it is damage, and is found to be so with the next line that is good.
                kept.clear();
                doubtful += 1;
            }
        }
    }

    /// Writes these lines in place of all. A file with damaged lines is left as it is. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn rewrite(&mut self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        if self.damaged > 0 {
            return Ok(());
        }
        (self.file, self.length) = rewritten(&*self.disk, &self.path, lines)?;
        Ok(())
    }

    /// From here on lines may be added.
    pub fn start(self) -> Journal {
        let Self { disk, path, file, length, damaged, .. } = self;
        let writer = Writer { disk, path, file, length, damaged, poisoned: false };
        Journal { shared: Arc::new(Shared { pending: Mutex::default(), writer: Arc::new(Mutex::new(writer)) }) }
    }
}

fn rewritten(disk: &dyn Disk, path: &Path, lines: impl Iterator<Item = String>) -> io::Result<(Arc<dyn File>, u64)> {
    let mut bytes = Vec::new();
    lines.for_each(|line| seal(&line, &mut bytes));
    whole::replace(disk, path, &bytes)?;
    Ok((disk.open(path)?, bytes.len() as u64))
}

/// The text of a line that is as it was written.
fn unsealed(line: &[u8]) -> Option<&str> {
    let (checksum, text) = line.split_at_checked(8)?;
    let text = text.strip_prefix(b" ")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    (checksum == crc32fast::hash(text)).then(|| std::str::from_utf8(text).ok()).flatten()
}

fn seal(text: &str, into: &mut Vec<u8>) {
    debug_assert!(!text.contains('\n'), "a line is one line");
    into.extend_from_slice(format!("{:08x} ", crc32fast::hash(text.as_bytes())).as_bytes());
    into.extend_from_slice(text.as_bytes());
    into.push(b'\n');
}

/// Proof that a line is on stable storage: only a journal makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written(());

/// A journal that is written to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    /// Held over a write and its sync, by threads that may wait.
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    waiting: Vec<oneshot::Sender<Result<(), JournalError>>>,
}

#[derive(Debug)]
struct Writer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    length: u64,
    damaged: u64,
    poisoned: bool,
}

impl Journal {
    /// Adds a line, and returns once it is on stable storage. A caller that goes away does not undo it.
    ///
    /// # Errors
    /// [`JournalError`]; then it may be there or not.
    pub async fn append(&self, text: &str) -> Result<Written, JournalError> {
        self.append_all(std::iter::once(text)).await
    }

    /// The same for several lines; a crash may come between them.
    ///
    /// # Errors
    /// [`JournalError`]; then they may be there or not, or some of them.
    pub async fn append_all(&self, texts: impl Iterator<Item = &str> + Clone) -> Result<Written, JournalError> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut pending = self.shared.pending.lock();
            let more: usize = texts.clone().map(str::len).sum();
            if pending.bytes.len() + more > PENDING_BYTES_MAX {
                return Err(JournalError::Full);
            }
            texts.for_each(|text| seal(text, &mut pending.bytes));
            pending.waiting.push(answer);
            pending.waiting.len() == 1
        };
        if first {
            // Whoever comes before this has the writer is written with it.
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || shared.write_pending());
        }
        answered.await.unwrap_or(Err(JournalError::Failed)).map(|()| Written(()))
    }

    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.shared.writer.lock().length
    }

    /// Writes what `lines` gives in place of all that has been written so far; it is asked while nothing can be written. Lines
    /// that are being added stand behind. A file with damaged lines is left as it is.
    ///
    /// # Errors
    /// The disk's; then the old file is still there and nothing more is added, or the new one.
    pub async fn rewrite(&self, lines: impl FnOnce() -> Vec<String> + Send + 'static) -> io::Result<()> {
        let shared = self.shared.clone();
        let rewriting = tokio::task::spawn_blocking(move || {
            let mut writer = shared.writer.lock();
            if writer.damaged > 0 || writer.poisoned {
                return Ok(());
            }
            match rewritten(&*writer.disk, &writer.path, lines().into_iter()) {
                Ok((file, length)) => {
                    (writer.file, writer.length) = (file, length);
                    Ok(())
                }
                Err(e) => {
                    // Which of the two has the name is not known.
                    writer.poisoned = true;
                    Err(e)
                }
            }
        });
        rewriting.await.map_err(io::Error::other)?
    }
}

impl Shared {
    fn write_pending(&self) {
        let mut writer = self.writer.lock();
        let Pending { bytes, waiting } = std::mem::take(&mut *self.pending.lock());
        if waiting.is_empty() {
            return;
        }
        let written = writer.write(&bytes);
        for answer in waiting {
            // Nobody may be waiting any more.
            let _ = answer.send(written);
        }
    }
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Failed);
        }
        if let Err(e) = self.file.write_at(&mut [IoSlice::new(bytes)], self.length) {
            tracing::error!(file = %self.path.display(), error = %e, "cannot be written");
            self.poisoned = self.file.set_length(self.length).is_err();
            return Err(if self.poisoned { JournalError::Failed } else { JournalError::Full });
        }
        if let Err(e) = self.file.sync() {
            tracing::error!(file = %self.path.display(), error = %e, "cannot be synced: nothing more is written to it until the next start");
            self.poisoned = true;
            return Err(JournalError::Failed);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    fn read(path: &Path) -> (Opening, Vec<String>) {
        let mut lines = Vec::new();
        let opening = Opening::read(Arc::new(RealDisk), path, &mut |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        (opening.unwrap(), lines)
    }

    #[tokio::test]
    async fn what_was_appended_is_read_back_and_a_torn_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (opening, lines) = read(&path);
        assert_eq!((lines.len(), opening.lines), (0, 0));
        let journal = opening.start();
        let all = (0..50).map(|n| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(&format!("{{\"n\":{n}}}")).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), Ok(Written(())));
        }
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(journal.length(), whole.len() as u64);
        for torn in [&b"0011"[..], b"00112233 {\"n\":", b"00000000 {\"n\":50}\n"] {
            std::fs::write(&path, [&whole[..], torn].concat()).unwrap();
            let (opening, lines) = read(&path);
            assert_eq!((lines.len(), opening.damaged), (50, 0), "{torn:?}");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "the torn end is gone");
        }
    }

    #[tokio::test]
    async fn damage_costs_its_line_alone_and_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = read(&path).0.start();
        for n in 0..3 {
            journal.append(&format!("line {n}")).await.unwrap();
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let second = bytes.len() / 3 + 12;
        bytes[second] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (mut opening, lines) = read(&path);
        assert_eq!((lines, opening.damaged), (vec!["line 0".to_owned(), "line 2".to_owned()], 1));
        opening.rewrite(std::iter::empty()).unwrap();
        let journal = opening.start();
        journal.rewrite(Vec::new).await.unwrap();
        journal.append("line 3").await.unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(&bytes));
        assert_eq!(read(&path).1.len(), 3);
    }

    #[tokio::test]
    async fn a_rewritten_journal_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut opening = read(&path).0;
        opening.rewrite(["a", "b"].into_iter().map(str::to_owned)).unwrap();
        let journal = opening.start();
        journal.append("c").await.unwrap();
        assert_eq!(read(&path).1, ["a", "b", "c"]);
        journal.rewrite(|| vec!["d".to_owned()]).await.unwrap();
        journal.append("e").await.unwrap();
        assert_eq!(read(&path).1, ["d", "e"]);
        assert!(!path.with_added_extension("new").exists());
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_said_to_have_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = read(&path).0.start();
        journal.append("a").await.unwrap();
        // Its directory is gone: it cannot be rewritten, and nobody knows where the next line would go.
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(journal.rewrite(Vec::new).await.is_err());
        assert_eq!(journal.append("b").await, Err(JournalError::Failed));
    }
}
