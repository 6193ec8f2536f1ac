//! A bundle: items, one behind the other.
//!
//! ```text
//! head, 64 bytes   "PRSHELF1" │ number u32 │ 0 u32 │ seal: crc u32 │ 0 u32 │ end u64 │ next put u64 │ items u64 │ taken u64 │ 0
//! item             length u32 │ crc u32 │ at u64 │ keys u16 │ state u8 │ 0 × 5 │ key u64 × keys │ payload │ to sixteen bytes
//! ```
//!
//! Little-endian. `length` is that of keys and payload. An item's checksum covers where it lies and all but its state, which is 0,
//! or [`TAKEN`] once it has been taken. The seal, checked by its own checksum, is written when nothing more comes; the counts
//! behind it are hints.
//!
//! **Promises.** What cannot be read is never taken for an item.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::disk::File;
use super::{Item, Kept, Place};
use crate::clock::Timestamp;

const MAGIC: &[u8; 8] = b"PRSHELF1";
const HEAD_BYTES: u64 = 64;
const SEAL_AT: u64 = 16;
const COUNTS_AT: u64 = 40;
const ITEM_HEAD: usize = 24;
const STATE_AT: u64 = 18;
const UNIT: u64 = 16;
/// The state of what has been taken.
const TAKEN: u8 = 0xa5;
/// Longest keys and payload of an item: far more than any has.
const LENGTH_MAX: u32 = 16 << 20;
/// Bytes read at first for an item: most are shorter.
const READ_FIRST: usize = 1024;

pub(super) fn name_of(number: u32) -> String {
    format!("{number:010}.items")
}

pub(super) fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".items")?.parse().ok()?;
    (name == name_of(number)).then_some(number)
}

/// A bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    file: Arc<dyn File>,
    number: u32,
    /// Bytes up to which there are items.
    end: AtomicU64,
    /// The number of the put after its last; 0 while it is not sealed.
    next_put: AtomicU64,
    items: AtomicU64,
    taken: AtomicU64,
}

/// What lies at a place.
#[derive(Debug)]
pub(super) enum Step {
    /// An item, and where the next one lies.
    Kept(Kept, u32),
    /// One that has been taken.
    Taken(u32),
    /// Nothing: here the items end.
    End,
    /// Something that cannot be read.
    Damaged,
}

/// An item as it was read.
pub(super) struct Read {
    pub(super) keys: Vec<u64>,
    at: Timestamp,
    payload: Bytes,
    pub(super) is_taken: bool,
    next: u64,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |found| u64::from_le_bytes(*found))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |found| u32::from_le_bytes(*found))
}

fn crc(number: u32, offset: u64, head: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&head[..4]);
    hasher.update(&head[8..STATE_AT as usize]);
    hasher.update(rest);
    hasher.finalize()
}

impl Bundle {
    /// Makes a bundle of an empty file. Blocks.
    pub(super) fn begin(file: Arc<dyn File>, number: u32) -> io::Result<Self> {
        let mut head = [0; HEAD_BYTES as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&number.to_le_bytes());
        file.write_at(&mut [IoSlice::new(&head)], 0)?;
        file.sync()?;
        Ok(Self::of(file, number, HEAD_BYTES, 0, (0, 0)))
    }

    fn of(file: Arc<dyn File>, number: u32, end: u64, next_put: u64, (items, taken): (u64, u64)) -> Self {
        let (end, next_put) = (AtomicU64::new(end), AtomicU64::new(next_put));
        Self { file, number, end, next_put, items: AtomicU64::new(items), taken: AtomicU64::new(taken) }
    }

    /// Opens a bundle; `None` if nothing was ever put there. Blocks.
    pub(super) fn open(file: Arc<dyn File>, number: u32) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD_BYTES as usize];
        let (read, length) = (file.read_at(&mut head, 0)?, file.length()?);
        if length <= HEAD_BYTES || read < head.len() {
            return Ok(None);
        }
        let begins = &head[..8] == MAGIC && u32_at(&head, 8) == number;
        if !begins {
            // Each of its items says by itself that it is one.
            tracing::error!(bundle = number, "a bundle of the shelf does not begin as one");
        }
        let sealed = begins && crc32fast::hash(&head[24..40]) == u32_at(&head, SEAL_AT as usize);
        let (end, next_put) = (u64_at(&head, 24), u64_at(&head, 32));
        let sealed = sealed && end >= HEAD_BYTES && end <= length && next_put > 0;
        let counts = (u64_at(&head, COUNTS_AT as usize), u64_at(&head, COUNTS_AT as usize + 8));
        let (end, next_put) = if sealed { (end, next_put) } else { (length, 0) };
        Ok(Some(Self::of(file, number, end, next_put, counts)))
    }

    /// The number of the put after its last, once it is sealed.
    pub(super) fn next_put(&self) -> Option<u64> {
        Some(self.next_put.load(Ordering::Acquire)).filter(|next| *next > 0)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn end_unit(&self) -> u32 {
        unit_of(self.bytes())
    }

    /// Items that have not been taken, about.
    pub(super) fn items_left(&self) -> u64 {
        self.items.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Writes items behind the others and syncs them; where they lie, and where the next would. Nothing counts before
    /// [`Bundle::advance`]. Blocks.
    pub(super) fn append(&self, items: &[Item]) -> io::Result<(Vec<Place>, u32)> {
        let begin = self.bytes();
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            let offset = begin + bytes.len() as u64;
            places.push(Place { bundle: self.number, unit: u32::try_from(offset / UNIT).map_err(io::Error::other)? });
            let keys = u16::try_from(item.keys.len()).map_err(io::Error::other)?;
            let length = u32::try_from(8 * item.keys.len() + item.payload.len()).map_err(io::Error::other)?;
            let mut head = [0; ITEM_HEAD];
            head[..4].copy_from_slice(&length.to_le_bytes());
            head[8..16].copy_from_slice(&item.at.0.to_le_bytes());
            head[16..18].copy_from_slice(&keys.to_le_bytes());
            let from = bytes.len() + ITEM_HEAD;
            bytes.extend_from_slice(&head);
            item.keys.iter().for_each(|key| bytes.extend_from_slice(&key.to_le_bytes()));
            bytes.extend_from_slice(&item.payload);
            let crc = crc(self.number, offset, &head, &bytes[from..]);
            bytes[from - ITEM_HEAD + 4..from - ITEM_HEAD + 8].copy_from_slice(&crc.to_le_bytes());
            bytes.resize(bytes.len().next_multiple_of(UNIT as usize), 0);
        }
        let end = u32::try_from((begin + bytes.len() as u64) / UNIT).map_err(io::Error::other)?;
        self.file.write_at(&mut [IoSlice::new(&bytes)], begin)?;
        self.file.sync()?;
        Ok((places, end))
    }

    /// What was written counts.
    pub(super) fn advance(&self, end: u32, items: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.end.store(u64::from(end) * UNIT, Ordering::Release);
    }

    /// Nothing more comes. Blocks.
    pub(super) fn seal(&self, next_put: u64) -> io::Result<()> {
        let mut seal = [0; 40];
        seal[8..16].copy_from_slice(&self.bytes().to_le_bytes());
        seal[16..24].copy_from_slice(&next_put.to_le_bytes());
        let crc = crc32fast::hash(&seal[8..24]);
        seal[..4].copy_from_slice(&crc.to_le_bytes());
        seal[24..32].copy_from_slice(&self.items.load(Ordering::Relaxed).to_le_bytes());
        seal[32..40].copy_from_slice(&self.taken.load(Ordering::Relaxed).to_le_bytes());
        self.file.write_at(&mut [IoSlice::new(&seal)], SEAL_AT)?;
        self.file.sync()?;
        self.next_put.store(next_put, Ordering::Release);
        Ok(())
    }

    /// Marks an item as taken. Blocks.
    pub(super) fn mark(&self, unit: u32) -> io::Result<()> {
        self.file.write_at(&mut [IoSlice::new(&[TAKEN])], u64::from(unit) * UNIT + STATE_AT)
    }

    /// Makes marks last, so many. Blocks.
    pub(super) fn sync_marks(&self, count: u64) -> io::Result<()> {
        let taken = self.taken.fetch_add(count, Ordering::Relaxed) + count;
        let counts = [self.items.load(Ordering::Relaxed).to_le_bytes(), taken.to_le_bytes()].concat();
        self.file.write_at(&mut [IoSlice::new(&counts)], COUNTS_AT)?;
        self.file.sync()
    }

    /// What lies at a place. Blocks.
    pub(super) fn step(&self, unit: u32) -> io::Result<Step> {
        let offset = (u64::from(unit) * UNIT).max(HEAD_BYTES);
        if offset >= self.bytes() {
            return Ok(Step::End);
        }
        Ok(match self.read(offset)? {
            Some(read) if read.is_taken => Step::Taken(unit_of(read.next)),
            Some(read) => {
                let place = Place { bundle: self.number, unit: unit_of(offset) };
                Step::Kept(Kept { place, at: read.at, payload: read.payload }, unit_of(read.next))
            }
            None => Step::Damaged,
        })
    }

    fn read(&self, offset: u64) -> io::Result<Option<Read>> {
        let mut bytes = vec![0; READ_FIRST];
        let read = self.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        if bytes.len() < ITEM_HEAD {
            return Ok(None);
        }
        let length = u32_at(&bytes, 0);
        let keys = usize::from(u16::from_le_bytes([bytes[16], bytes[17]]));
        let whole = ITEM_HEAD + length as usize;
        if length > LENGTH_MAX || 8 * keys > length as usize || offset + whole as u64 > self.bytes() {
            return Ok(None);
        }
        if whole > bytes.len() {
            let known = bytes.len();
            bytes.resize(whole, 0);
            if self.file.read_at(&mut bytes[known..], offset + known as u64)? < whole - known {
                return Ok(None);
            }
        }
        bytes.truncate(whole);
        let (head, rest) = bytes.split_at(ITEM_HEAD);
        if crc(self.number, offset, head, rest) != u32_at(head, 4) {
            return Ok(None);
        }
        let (at, is_taken) = (Timestamp(u64_at(head, 8)), head[STATE_AT as usize] == TAKEN);
        let keys: Vec<u64> = rest[..8 * keys].chunks_exact(8).map(|key| u64_at(key, 0)).collect();
        let payload = Bytes::copy_from_slice(&rest[8 * keys.len()..]);
        Ok(Some(Read { keys, at, payload, is_taken, next: (offset + whole as u64).next_multiple_of(UNIT) }))
    }

    /// Goes through what was written, up to what is not whole: there the items end. Blocks.
    pub(super) fn walk_all(&self, mut visit: impl FnMut(Place, &Read)) -> io::Result<()> {
        let (mut offset, mut items, mut taken) = (HEAD_BYTES, 0, 0);
        while offset < self.bytes()
            && let Some(read) = self.read(offset)?
        {
            visit(Place { bundle: self.number, unit: unit_of(offset) }, &read);
            (items, taken) = (items + 1, taken + u64::from(read.is_taken));
            offset = read.next;
        }
        self.end.store(offset, Ordering::Release);
        self.items.store(items, Ordering::Relaxed);
        self.taken.store(taken, Ordering::Relaxed);
        Ok(())
    }
}

/// No bundle is so long that this would not hold it.
fn unit_of(offset: u64) -> u32 {
    u32::try_from(offset / UNIT).unwrap_or(u32::MAX)
}
