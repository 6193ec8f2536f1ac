//! What has been counted, kept over restarts: `counts/` in the data directory, a file for each start and hour.
//!
//! ```text
//! <seconds since 1970>     when it was begun
//!   prcount1               8 octets
//!   salt                   16 octets, the same in all files: names what is counted together
//!   rows, their crc32      4 octets each: a block, as many as it was written down
//!     key, when            8 and 4 octets for each row: what was counted, and its second since 1970
//! ```
//!
//! **Promises.** What [`Caps::keep`] has returned is on stable storage. Files only grow, and one is removed as a whole once all that it
//! holds has fallen out of every window; none is ever written to after the start that made it. Whoever reads them learns of numbers
//! no more than how often something came.
//!
//! **Fails how.** A block that is not as it was written, and what lies behind it in its file, is started without, which is logged.
//! While the disk takes nothing, [`UNWRITTEN_MAX`] rows wait for it; those beyond count until the next start alone. What a failed sync
//! had written all the same counts twice after a start.

use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Caps, State, WINDOW_MAX};
use crate::clock::Timestamp;
use crate::storage::{Disk, File};

const MAGIC: [u8; 8] = *b"prcount1";
const HEADER: usize = MAGIC.len() + SALT;
const SALT: usize = 16;
const BLOCK_HEADER: usize = 8;
const ROW: usize = 12;
/// Rows in a block, at most.
const BLOCK_ROWS_MAX: usize = 65_536;
/// Rows that may wait for the disk.
const UNWRITTEN_MAX: usize = 1_000_000;
/// How long a file is written to, in seconds.
const FILE_SPAN: u64 = 3_600;

/// Something counted: what, and in which second.
pub(super) type Row = (u64, u32);

/// Names what is counted together; secret, so that nobody can aim at another's.
pub(super) type Salt = [u8; SALT];

/// A salt that nobody knows.
pub(super) fn fresh_salt() -> Salt {
    let mut salt = [0; SALT];
    // Without randomness of the system's there is no TLS either; names that can be foreseen are no reason to stop.
    if aws_lc_rs::rand::fill(&mut salt).is_err() {
        salt = fastrand::u128(..).to_be_bytes();
    }
    salt
}

/// Where counts are kept.
#[derive(Debug)]
pub struct CountFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The one that is written to, when it was begun, how long it is.
    open: Option<(u64, Arc<dyn File>, u64)>,
}

impl CountFiles {
    /// Files in this directory; nothing is read or made yet.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, open: None }
    }

    /// When the files that are here were begun, oldest first.
    fn begun(&self) -> io::Result<Vec<u64>> {
        let mut begun: Vec<u64> = match self.disk.list(&self.dir) {
            Ok(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        begun.sort_unstable();
        Ok(begun)
    }

    fn path(&self, begun: u64) -> PathBuf {
        self.dir.join(begun.to_string())
    }

    /// The file to write to now, and where it ends.
    fn current(&mut self, salt: Salt, now: u64) -> io::Result<(&dyn File, &mut u64)> {
        let fresh =
            self.open.as_ref().is_some_and(|(begun, ..)| (*begun..begun.saturating_add(FILE_SPAN)).contains(&now));
        let opened = match self.open.take().filter(|_| fresh) {
            Some(open) => open,
            None => self.begin(salt, now)?,
        };
        let (_, file, length) = self.open.insert(opened);
        Ok((&**file, length))
    }

    fn begin(&mut self, salt: Salt, now: u64) -> io::Result<(u64, Arc<dyn File>, u64)> {
        self.disk.create_dir(&self.dir)?;
        let all = self.begun()?;
        for begun in &all {
            if begun.saturating_add(FILE_SPAN + u64::from(WINDOW_MAX)) < now {
                self.disk.remove(&self.path(*begun))?;
            }
        }
        // Two starts within a second, or a clock that was set back.
        let begun = (now..).find(|at| all.binary_search(at).is_err()).unwrap_or(now);
        let file = self.disk.create(&self.path(begun))?;
        file.write_at(&mut [IoSlice::new(&MAGIC), IoSlice::new(&salt)], 0)?;
        file.sync()?;
        self.disk.sync_dir(&self.dir)?;
        Ok((begun, file, HEADER as u64))
    }
}

impl Caps {
    /// Goes on where the files end. Blocks.
    pub fn recall(&self, files: &CountFiles, now: Timestamp) {
        let mut state = self.0.lock();
        state.kept = true;
        let begun = files.begun().unwrap_or_else(|e| {
            tracing::error!(dir = %files.dir.display(), error = %e, "how many texts numbers were sent is not known: caps begin anew");
            Vec::new()
        });
        let mut salted = false;
        for path in begun.iter().rev().map(|begun| files.path(*begun)) {
            let read = files.disk.open(&path).and_then(|file| state.read(&*file, &mut salted, now));
            if let Err(e) = read {
                tracing::error!(file = %path.display(), error = %e, "some of what numbers were sent is not known: caps begin anew");
            }
        }
    }

    /// Writes down what has been counted since the last time. Blocks.
    ///
    /// # Errors
    /// The disk's; then it is written the next time.
    pub fn keep(&self, files: &mut CountFiles, now: Timestamp) -> io::Result<()> {
        let (rows, salt) = {
            let mut state = self.0.lock();
            (std::mem::take(&mut state.unwritten), state.salt)
        };
        if rows.is_empty() {
            return Ok(());
        }
        let written = files.current(salt, now.seconds()).and_then(|(file, length)| {
            let mut end = *length;
            for rows in rows.chunks(BLOCK_ROWS_MAX) {
                let mut block = Vec::with_capacity(rows.len() * ROW);
                for (key, at) in rows {
                    block.extend_from_slice(&key.to_le_bytes());
                    block.extend_from_slice(&at.to_le_bytes());
                }
                let (count, sum) = ((rows.len() as u32).to_le_bytes(), crc32fast::hash(&block).to_le_bytes());
                file.write_at(&mut [IoSlice::new(&count), IoSlice::new(&sum), IoSlice::new(&block)], end)?;
                end += (BLOCK_HEADER + block.len()) as u64;
            }
            file.sync()?;
            *length = end;
            Ok(())
        });
        if written.is_err() {
            // What a failed sync has left of a file is not written over.
            files.open = None;
            let mut state = self.0.lock();
            let newer = std::mem::replace(&mut state.unwritten, rows);
            state.remember(&newer);
        }
        written
    }
}

impl State {
    /// Rows that are to be written.
    pub(super) fn remember(&mut self, rows: &[Row]) {
        let room = UNWRITTEN_MAX.saturating_sub(self.unwritten.len());
        self.unwritten.extend(rows.iter().take(if self.kept { room } else { 0 }));
    }

    /// Counts what a file says; the first of all says the salt.
    fn read(&mut self, file: &dyn File, salted: &mut bool, now: Timestamp) -> io::Result<()> {
        let damaged = || io::Error::new(ErrorKind::InvalidData, "it is not as it was written");
        let now = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER];
        let read = file.read_at(&mut header, 0)?;
        // A start that was ended before it had written anything.
        if read == 0 {
            return Ok(());
        }
        let salt =
            header[..read].strip_prefix(&MAGIC).and_then(|salt| Salt::try_from(salt).ok()).ok_or_else(damaged)?;
        if *salted && salt != self.salt {
            return Err(io::Error::new(ErrorKind::InvalidData, "its names are not those of the others"));
        }
        (self.salt, *salted) = (salt, true);
        let mut offset = HEADER as u64;
        let mut rows = vec![0; BLOCK_ROWS_MAX * ROW];
        loop {
            let mut header = [0; BLOCK_HEADER];
            match file.read_at(&mut header, offset)? {
                0 => return Ok(()),
                BLOCK_HEADER => {}
                _ => return Err(damaged()),
            }
            let [count, sum] = [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|n| header[at + n])));
            let length = (count as usize).checked_mul(ROW).filter(|length| (1..=rows.len()).contains(length));
            let rows = &mut rows[..length.ok_or_else(damaged)?];
            if file.read_at(rows, offset + BLOCK_HEADER as u64)? < rows.len() || crc32fast::hash(rows) != sum {
                return Err(damaged());
            }
            offset += (BLOCK_HEADER + rows.len()) as u64;
            for row in rows.chunks_exact(ROW) {
                let (key, at) = row.split_at(8);
                let (key, at) =
                    (key.try_into().map_or(0, u64::from_le_bytes), at.try_into().map_or(0, u32::from_le_bytes));
                let room = self.sent.len() < self.remembered_max || self.sent.contains_key(&key);
                if room && at.saturating_add(WINDOW_MAX) > now {
                    // A clock that was set back does not keep anybody waiting for longer than a window.
                    self.note(key, at.min(now));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::tests::{ONE, cap, send};
    use super::super::{Cap, Per, Text};
    use super::*;
    use crate::model::{Class, ClientName, Number};
    use crate::storage::faulty::{Call, FaultyDisk};

    const DIR: &str = "counts";

    fn rules() -> [Cap; 1] {
        [cap("+86", Per::Number, &[(2, 60), (5, 86_400)])]
    }

    /// After a start.
    fn started(disk: &Arc<FaultyDisk>, at: u64) -> (Caps, CountFiles) {
        let (caps, files) = (Caps::new(100), CountFiles::new(disk.clone(), DIR.into()));
        caps.recall(&files, Timestamp::from_seconds(at));
        (caps, files)
    }

    fn keep(caps: &Caps, files: &mut CountFiles, at: u64) -> io::Result<()> {
        caps.keep(files, Timestamp::from_seconds(at))
    }

    fn may(caps: &Caps, at: u64) -> bool {
        send(caps, &rules(), ONE, "", at).is_ok()
    }

    fn path(begun: u64) -> PathBuf {
        Path::new(DIR).join(begun.to_string())
    }

    #[test]
    fn what_was_kept_counts_after_a_crash_and_what_was_taken_back_does_not() {
        let disk = FaultyDisk::new(1);
        let (caps, mut files) = started(&disk, 100_000);
        let (client, to) = (ClientName::from("shop"), Number::parse(ONE).unwrap());
        let text = Text { client: &client, to: &to, class: Class::Otp, signature: "", velocity: &[] };
        drop(caps.count(&rules(), &text, Timestamp::from_seconds(100_000)).unwrap());
        assert!(may(&caps, 100_000));
        keep(&caps, &mut files, 100_001).unwrap();
        assert!(may(&caps, 100_002));
        disk.cut_power();
        let (caps, mut files) = started(&disk, 100_003);
        assert!(may(&caps, 100_003) && !may(&caps, 100_004), "the second had not been kept");
        keep(&caps, &mut files, 100_004).unwrap();
        keep(&caps, &mut files, 100_004).unwrap();
        disk.cut_power();
        let (caps, _) = started(&disk, 100_005);
        assert!(!may(&caps, 100_059) && may(&caps, 100_061));
    }

    #[test]
    fn files_are_begun_each_hour_and_start_and_go_when_they_are_old() {
        let disk = FaultyDisk::new(2);
        let (mut at, mut sent) = (1_000_000, Vec::new());
        for _ in 0..60 {
            let (caps, mut files) = started(&disk, at);
            // Twice an hour, within one file.
            for _ in 0..2 {
                if may(&caps, at) {
                    sent.push(at);
                }
                keep(&caps, &mut files, at).unwrap();
                at += 1_800;
            }
        }
        let in_a_day = |end: u64| sent.iter().filter(|at| (end.saturating_sub(86_399)..=end).contains(at)).count();
        assert!(sent.iter().all(|end| in_a_day(*end) <= 5) && sent.len() >= 10, "{sent:?}");
        let files = disk.files();
        assert!((1..=26).contains(&files.len()), "{files:?}");
        // Two starts in a second, and a clock that was set back.
        for (n, at) in [at, at, at - 7_200].into_iter().enumerate() {
            let (caps, mut files) = started(&disk, at);
            assert!(send(&caps, &rules(), &format!("+861380013810{n}"), "", at).is_ok());
            keep(&caps, &mut files, at).unwrap();
        }
        let before = files.iter().filter(|(path, _)| disk.files().iter().any(|(now, _)| now == path)).count();
        assert_eq!(disk.files().len(), before + 3);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_nothing_that_it_takes_later() {
        for (call, n) in [(Call::Write, 1), (Call::Write, 2), (Call::Sync, 2), (Call::Create, 1)] {
            let disk = FaultyDisk::new(3);
            let (caps, mut files) = started(&disk, 5_000);
            assert!(may(&caps, 5_000));
            disk.fail(call, n, ErrorKind::StorageFull);
            assert!(keep(&caps, &mut files, 5_001).is_err(), "{call:?} {n}");
            assert!(may(&caps, 5_002));
            keep(&caps, &mut files, 5_003).unwrap();
            disk.cut_power();
            let (caps, _) = started(&disk, 5_004);
            assert!(!may(&caps, 5_004) && may(&caps, 5_061), "{call:?} {n}");
        }
    }

    #[test]
    fn what_is_damaged_is_started_without_and_all_that_is_not_counts() {
        let disk = FaultyDisk::new(4);
        for at in [10_000, 20_000] {
            let (caps, mut files) = started(&disk, at);
            for n in 0..3 {
                assert!(send(&caps, &rules(), &format!("+861380013800{n}"), "", at).is_ok());
                keep(&caps, &mut files, at).unwrap();
            }
        }
        let whole = disk.contents(&path(20_000));
        assert_eq!(whole.len(), HEADER + 3 * (BLOCK_HEADER + ROW));
        for at in 0..whole.len() {
            let (cut, flipped) = (disk.fork(), disk.fork());
            cut.put(&path(20_000), &whole[..at]);
            flipped.flip(&path(20_000), at, 1);
            for disk in [cut, flipped] {
                let (caps, _) = started(&disk, 20_001);
                // Blocks in front of the damage, and all of the other file unless this one's salt is another.
                let good = at.saturating_sub(HEADER) / (BLOCK_HEADER + ROW);
                let salt_is_wrong =
                    (MAGIC.len()..HEADER).contains(&at) && disk.contents(&path(20_000)).len() == whole.len();
                assert!(caps.remembered() >= if salt_is_wrong { good } else { 3 }, "{at}");
            }
        }
    }

    #[test]
    fn no_more_is_remembered_than_may_be_also_of_what_is_read_and_unwritten_rows_have_a_bound() {
        let disk = FaultyDisk::new(5);
        let (caps, mut files) = started(&disk, 1_000);
        for n in 0..100 {
            assert!(send(&caps, &rules(), &format!("+86138001380{n:02}"), "", 1_000).is_ok());
        }
        keep(&caps, &mut files, 1_000).unwrap();
        let few = Caps::new(10);
        few.recall(&CountFiles::new(disk.clone(), DIR.into()), Timestamp::from_seconds(1_001));
        assert_eq!(few.remembered(), 10);
        let mut state = few.0.lock();
        state.remember(&vec![(1, 1); UNWRITTEN_MAX + 7]);
        assert_eq!(state.unwritten.len(), UNWRITTEN_MAX);
    }

    #[test]
    fn nothing_waits_for_a_disk_that_there_is_not() {
        let caps = Caps::new(10);
        assert!(may(&caps, 1_000));
        assert!(caps.0.lock().unwritten.is_empty());
        let old = Timestamp::from_seconds(1_000).plus(Duration::from_secs(3 * 86_400));
        let disk = FaultyDisk::new(6);
        let mut files = CountFiles::new(disk.clone(), DIR.into());
        caps.recall(&files, old);
        caps.keep(&mut files, old).unwrap();
        assert!(disk.files().is_empty());
    }
}
