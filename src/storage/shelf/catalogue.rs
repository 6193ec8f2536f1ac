//! A catalogue: keys in order, and where their items lie.
//!
//! ```text
//! head, 64 bytes   "PRKEYS 1" │ crc u32 of what follows │ 0 u32 │ keys u64 │ last bundle u32 │ its end in units u32 │ first bundle u32 │ 0
//! entry            key u64 │ bundle u32 │ unit u32           sorted
//! ```
//!
//! Little-endian. Its name says of which puts it holds the keys.
//!
//! **Promises.** A key is found by a few reads: keys are spread evenly, so where one lies can be guessed. Merging takes memory
//! for a read buffer a catalogue.
//!
//! **Fails how.** One whose head is wrong, or that is not so long as the head says, is not taken for a catalogue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, File};
use super::Place;

const MAGIC: &[u8; 8] = b"PRKEYS 1";
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: u64 = 16;
/// Entries read at one guess.
const WINDOW: u64 = 64;
/// Entries of one key that are looked at: more share one only by bad luck.
const SAME_MAX: usize = 64;
/// Entries read or written at once by a merge.
const STRIDE: usize = 4_096;

/// A key and where its item lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) key: u64,
    pub(super) place: Place,
}

/// A catalogue.
#[derive(Debug)]
pub(super) struct Catalogue {
    file: Arc<dyn File>,
    path: PathBuf,
    puts: (u64, u64),
    head: Head,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    count: u64,
    first_bundle: u32,
    last_bundle: u32,
    /// In units, of the last bundle.
    end: u32,
}

/// The puts that a file's name says it is of.
pub(super) fn puts_of(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".keys")?.split_once('-')?;
    let puts = (first.parse().ok()?, last.parse().ok()?);
    (name == name_of(puts) && puts.0 <= puts.1).then_some(puts)
}

fn name_of((first, last): (u64, u64)) -> String {
    format!("{first:010}-{last:010}.keys")
}

impl Head {
    fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[16..24].copy_from_slice(&self.count.to_le_bytes());
        head[24..28].copy_from_slice(&self.last_bundle.to_le_bytes());
        head[28..32].copy_from_slice(&self.end.to_le_bytes());
        head[32..36].copy_from_slice(&self.first_bundle.to_le_bytes());
        let crc = crc32fast::hash(&head[16..]);
        head[8..12].copy_from_slice(&crc.to_le_bytes());
        head
    }

    fn read(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let count = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
        let found = Self { count, last_bundle: u32_at(24), end: u32_at(28), first_bundle: u32_at(32) };
        (found.bytes() == *head).then_some(found)
    }
}

fn entry_of(bytes: &[u8]) -> Key {
    let mut entry = [0; ENTRY_BYTES as usize];
    let there = bytes.len().min(entry.len());
    entry[..there].copy_from_slice(&bytes[..there]);
    let all = u128::from_le_bytes(entry);
    let place = Place { bundle: (all >> 64) as u32, unit: (all >> 96) as u32 };
    Key { key: all as u64, place }
}

fn bytes_of(entry: &Key) -> [u8; ENTRY_BYTES as usize] {
    let all = u128::from(entry.key) | u128::from(entry.place.bundle) << 64 | u128::from(entry.place.unit) << 96;
    all.to_le_bytes()
}

impl Catalogue {
    /// Opens one; `None` if it is not whole. Blocks.
    pub(super) fn open(file: Arc<dyn File>, path: PathBuf, puts: (u64, u64)) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD_BYTES];
        if file.read_at(&mut head, 0)? < HEAD_BYTES {
            return Ok(None);
        }
        let Some(head) = Head::read(&head) else { return Ok(None) };
        let catalogue = Self { file, path, puts, head };
        Ok((catalogue.file.length()? == catalogue.bytes()).then_some(catalogue))
    }

    /// Writes the catalogue of these puts, whose items end at `end` of a bundle. Blocks.
    pub(super) fn write(
        disk: &dyn Disk,
        dir: &Path,
        puts: (u64, u64),
        keys: Vec<Key>,
        place: (u32, u32),
    ) -> io::Result<Self> {
        Self::write_as(disk, dir, name_of(puts), puts, keys, place)
    }

    /// Writes the catalogue of one bundle, out of which one of several is to be made. By its name it is none. Blocks.
    pub(super) fn part(disk: &dyn Disk, dir: &Path, keys: Vec<Key>, place: (u32, u32)) -> io::Result<Self> {
        Self::write_as(disk, dir, format!("{:010}.part", place.0), (1, 1), keys, place)
    }

    fn write_as(
        disk: &dyn Disk,
        dir: &Path,
        name: String,
        puts: (u64, u64),
        mut keys: Vec<Key>,
        (bundle, end): (u32, u32),
    ) -> io::Result<Self> {
        keys.sort_unstable();
        let head = Head { count: keys.len() as u64, first_bundle: bundle, last_bundle: bundle, end };
        let mut draft = Draft::begin(disk, dir, name, puts)?;
        keys.iter().try_for_each(|key| draft.push(key))?;
        draft.finish(head)
    }

    /// Makes one of several, in the order of their bundles; what lies in bundles in front of `oldest` is left out. Blocks.
    pub(super) fn merged(
        disk: &dyn Disk,
        dir: &Path,
        run: &[Arc<Self>],
        puts: (u64, u64),
        oldest: u32,
    ) -> io::Result<Self> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Err(io::Error::other("nothing to be merged"));
        };
        let mut sources: Vec<Source<'_>> = run.iter().map(|catalogue| Source::new(catalogue)).collect();
        let mut heap = BinaryHeap::with_capacity(sources.len());
        for (n, source) in sources.iter_mut().enumerate() {
            heap.extend(source.next()?.map(|entry| Reverse((entry, n))));
        }
        let mut draft = Draft::begin(disk, dir, name_of(puts), puts)?;
        let mut before = None;
        while let Some(Reverse((entry, n))) = heap.pop() {
            heap.extend(sources[n].next()?.map(|entry| Reverse((entry, n))));
            if entry.place.bundle >= oldest && before != Some(entry) {
                draft.push(&entry)?;
                before = Some(entry);
            }
        }
        let first_bundle = first.head.first_bundle.max(oldest);
        draft.finish(Head { count: 0, first_bundle, ..last.head })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers of its first and last put.
    pub(super) fn puts(&self) -> (u64, u64) {
        self.puts
    }

    pub(super) fn bytes(&self) -> u64 {
        HEAD_BYTES as u64 + self.head.count * ENTRY_BYTES
    }

    pub(super) fn last_bundle(&self) -> u32 {
        self.head.last_bundle
    }

    /// Up to where it knows the items of a bundle, in units; `None` if it does not say.
    pub(super) fn known_end(&self, bundle: u32) -> Option<u32> {
        (self.head.last_bundle == bundle).then_some(self.head.end)
    }

    /// How many puts it is of.
    fn width(&self) -> u64 {
        self.puts.1 - self.puts.0 + 1
    }

    /// Where items with this key lie, oldest first. Blocks.
    pub(super) fn find(&self, key: u64) -> io::Result<Vec<Place>> {
        let mut next = self.first_not_below(key)?;
        let mut found = Vec::new();
        while next < self.head.count && found.len() < SAME_MAX {
            let window = self.read(next, WINDOW.min(self.head.count - next))?;
            let same = window.iter().take_while(|entry| entry.key == key);
            let before = found.len();
            found.extend(same.map(|entry| entry.place));
            if found.len() - before < window.len() || window.is_empty() {
                break;
            }
            next += window.len() as u64;
        }
        Ok(found)
    }

    /// The number of the first entry whose key is not smaller. Guesses by the key and by the middle in turn, so that keys that
    /// are not spread evenly cost no more than by halving.
    fn first_not_below(&self, key: u64) -> io::Result<u64> {
        // All entries in front of `low` are smaller, none from `high` on is.
        let (mut low, mut high) = (0, self.head.count);
        let (mut low_key, mut high_key) = (0_u64, u64::MAX);
        let mut guesses = true;
        while low < high {
            let span = u128::from(high - low);
            let middle = if guesses && high_key > low_key {
                let share = u128::from(key.saturating_sub(low_key)) * span / u128::from(high_key - low_key);
                low + u64::try_from(share).unwrap_or(u64::MAX).min(high - low - 1)
            } else {
                low + (high - low) / 2
            };
            guesses = !guesses;
            let from = middle.saturating_sub(WINDOW / 2).max(low);
            let window = self.read(from, WINDOW.min(high - from))?;
            let (Some(first), Some(last)) = (window.first(), window.last()) else { break };
            let below = window.partition_point(|entry| entry.key < key) as u64;
            if below == 0 {
                (high, high_key) = (from, first.key);
            } else if below == window.len() as u64 {
                (low, low_key) = (from + below, last.key);
            } else {
                return Ok(from + below);
            }
        }
        Ok(low)
    }

    fn read(&self, from: u64, count: u64) -> io::Result<Vec<Key>> {
        let mut bytes = vec![0; (count * ENTRY_BYTES) as usize];
        let read = self.file.read_at(&mut bytes, HEAD_BYTES as u64 + from * ENTRY_BYTES)?;
        Ok(bytes[..read].chunks_exact(ENTRY_BYTES as usize).map(entry_of).collect())
    }
}

/// Some catalogues that follow each other, of about one size, so many that they should become one.
pub(super) fn to_be_merged(catalogues: &[Arc<Catalogue>], many: usize) -> Option<Vec<Arc<Catalogue>>> {
    let many = many.max(2);
    let size = |catalogue: &Arc<Catalogue>| catalogue.width().ilog(many as u64);
    let runs = catalogues.chunk_by(|a, b| size(a) == size(b));
    let run = runs.filter(|run| run.len() >= many).min_by_key(|run| run.first().map(size))?;
    Some(run[..many].to_vec())
}

/// A catalogue being read from front to end.
struct Source<'a> {
    of: &'a Catalogue,
    next: u64,
    read: std::vec::IntoIter<Key>,
}

impl<'a> Source<'a> {
    fn new(of: &'a Catalogue) -> Self {
        Self { of, next: 0, read: Vec::new().into_iter() }
    }

    fn next(&mut self) -> io::Result<Option<Key>> {
        if let Some(entry) = self.read.next() {
            return Ok(Some(entry));
        }
        let count = (STRIDE as u64).min(self.of.head.count - self.next);
        self.read = self.of.read(self.next, count)?.into_iter();
        self.next += count;
        Ok(self.read.next())
    }
}

/// A catalogue being written: it has its name once it is whole.
struct Draft<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    path: PathBuf,
    puts: (u64, u64),
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    offset: u64,
    count: u64,
}

impl<'a> Draft<'a> {
    fn begin(disk: &'a dyn Disk, dir: &'a Path, name: String, puts: (u64, u64)) -> io::Result<Self> {
        let path = dir.join(name);
        let unfinished = path.with_added_extension("new");
        match disk.remove(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = disk.create(&unfinished)?;
        Ok(Self { disk, dir, path, puts, file, buffer: Vec::new(), offset: HEAD_BYTES as u64, count: 0 })
    }

    fn push(&mut self, entry: &Key) -> io::Result<()> {
        self.buffer.extend_from_slice(&bytes_of(entry));
        self.count += 1;
        if self.buffer.len() >= STRIDE * ENTRY_BYTES as usize { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&mut [IoSlice::new(&self.buffer)], self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, head: Head) -> io::Result<Catalogue> {
        let head = Head { count: self.count, ..head };
        self.flush()?;
        self.file.write_at(&mut [IoSlice::new(&head.bytes())], 0)?;
        self.file.sync()?;
        self.disk.rename(&self.path.with_added_extension("new"), &self.path)?;
        self.disk.sync_dir(self.dir)?;
        Ok(Catalogue { file: self.file, path: self.path, puts: self.puts, head })
    }
}
