//! The segment: a file of batches, allocated in advance, written from front to end once in each of its lives.
//!
//! ```text
//!   0  8    "PRSEGMT\n"
//!   8  u32  format: 2                   (these two, the length 64 and the CRC's place never change)
//!  12  u32  alignment of batches
//!  16  u64  number, as in the file's name
//!  24  u64  salt: random, part of every header's checksum
//!  32  u32  flags: 1 recycled: what lies behind the last batch may be left of an earlier life. Format 1: zero
//!  36  24   zero
//!  60  u32  CRC-32 of bytes 0..60
//! 512       the same 64 bytes again, in another sector: one flipped bit must not cost a segment
//!           batches, from the first multiple of the alignment at or above 1,024
//! ```
//!
//! Little-endian. The header is synced before the first batch is written, so a file without one was never used.
//!
//! A dead segment may live again under another number: it is renamed to `<random>.old`, which a start removes, then gets a
//! header with a new salt and is renamed to its new name. Blocks that have been written once are cheaper to sync.

use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, File};
use super::record::{u32_at, u64_at};

/// The newest format this program reads, and the one it writes.
pub const FORMAT: u32 = 2;

const MAGIC: [u8; 8] = *b"PRSEGMT\n";
const RECYCLED: u32 = 1;
const HEADER_BYTES: usize = 64;
const COPY_OFFSET: usize = 512;
/// Where batches begin at the earliest.
pub const DATA_OFFSET_MIN: u32 = 1024;

/// The smallest and the largest segment that options may ask for.
pub const SEGMENT_BYTES_MIN: u32 = 4 * 1024;
/// See [`SEGMENT_BYTES_MIN`]. Recovery holds two segments in memory.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// The fields of a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub number: u64,
    pub salt: u64,
    pub alignment: u32,
    /// It was used before.
    pub recycled: bool,
}

/// What a file's first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// A header of ours.
    Header(Header),
    /// A header of a format that we do not know yet.
    Newer(u32),
    /// No header.
    Nothing,
}

impl Header {
    /// Where the first batch begins.
    pub fn data_offset(&self) -> u32 {
        data_offset(self.alignment)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&self.alignment.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.salt.to_le_bytes());
        out[32..36].copy_from_slice(&u32::from(self.recycled).to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The copies of the header that cannot be read as the one of segment `number`.
    pub fn bad_copies(file: &[u8], number: u64) -> Vec<Range<usize>> {
        let is_bad = |at: &usize| {
            let copy = file.get(*at..at + HEADER_BYTES).unwrap_or_default();
            !matches!(Self::read(copy, number), Reading::Header(_))
        };
        [0, COPY_OFFSET].into_iter().filter(is_bad).map(|at| at..at + HEADER_BYTES).collect()
    }

    /// Reads the header of the segment that a file called `number` should hold, from either copy.
    pub fn read(file: &[u8], number: u64) -> Reading {
        for at in [0, COPY_OFFSET] {
            let Some(raw) = file.get(at..).and_then(|b| b.first_chunk::<HEADER_BYTES>()) else { continue };
            if raw[..8] != MAGIC || u32_at(raw, 60) != crc32fast::hash(&raw[..60]) {
                continue;
            }
            let format = u32_at(raw, 8);
            if format > FORMAT {
                return Reading::Newer(format);
            }
            let header = Self {
                number: u64_at(raw, 16),
                salt: u64_at(raw, 24),
                alignment: u32_at(raw, 12),
                recycled: u32_at(raw, 32) & RECYCLED != 0,
            };
            if header.number == number && is_alignment(header.alignment) {
                return Reading::Header(header);
            }
        }
        Reading::Nothing
    }
}

/// Where the first batch begins in a segment of this alignment.
pub fn data_offset(alignment: u32) -> u32 {
    align_up(DATA_OFFSET_MIN, alignment)
}

/// May batches be aligned to this?
pub fn is_alignment(bytes: u32) -> bool {
    bytes.is_power_of_two() && (64..=4096).contains(&bytes)
}

/// The next multiple of `alignment`, a power of two, at or above `offset`.
pub fn align_up(offset: u32, alignment: u32) -> u32 {
    offset.next_multiple_of(alignment)
}

/// A segment that nothing has been written to but its header.
#[derive(Debug)]
pub struct Fresh {
    pub header: Header,
    pub file: Arc<dyn File>,
}

impl Fresh {
    /// Makes a segment and its name durable.
    pub fn create(disk: &dyn Disk, dir: &Path, header: Header, bytes: u32) -> io::Result<Self> {
        let path = path(dir, header.number);
        let file = disk.create(&path)?;
        let fill = || {
            match file.allocate(u64::from(bytes)) {
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                other => other?,
            }
            let raw = header.encode();
            file.write_at(&mut [IoSlice::new(&raw)], 0)?;
            file.write_at(&mut [IoSlice::new(&raw)], COPY_OFFSET as u64)?;
            file.sync()?;
            disk.sync_dir(dir)
        };
        if let Err(e) = fill() {
            // Not to be taken for a segment in use, and not to hold space that is short.
            let _ = disk.remove(&path);
            return Err(e);
        }
        Ok(Self { header, file })
    }

    /// Makes a segment of one that was laid aside, and its name durable.
    pub fn recycle(disk: &dyn Disk, dir: &Path, old: &Path, header: Header, bytes: u32) -> io::Result<Self> {
        let path = path(dir, header.number);
        let header = Header { recycled: true, ..header };
        let renew = || {
            let file = disk.open(old)?;
            if file.length()? < u64::from(bytes) {
                match file.allocate(u64::from(bytes)) {
                    Err(e) if e.kind() == ErrorKind::Unsupported => {}
                    other => other?,
                }
            }
            let raw = header.encode();
            file.write_at(&mut [IoSlice::new(&raw)], 0)?;
            file.write_at(&mut [IoSlice::new(&raw)], COPY_OFFSET as u64)?;
            file.sync()?;
            disk.rename(old, &path)?;
            disk.sync_dir(dir)?;
            Ok(file)
        };
        match renew() {
            Ok(file) => Ok(Self { header, file }),
            Err(e) => {
                let _ = disk.remove(old);
                let _ = disk.remove(&path);
                Err(e)
            }
        }
    }
}

/// Lays a dead segment aside, to be used again; durable once the directory is synced.
pub fn lay_aside(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<PathBuf> {
    // A name that was never used: after a power cut both names may be there, and nobody may take the one for the other.
    let old = dir.join(format!("{:016x}{OLD}", fastrand::u64(..)));
    disk.rename(&path(dir, number), &old)?;
    Ok(old)
}

const OLD: &str = ".old";

/// Is this the name of a segment that was laid aside?
pub fn is_old(name: &str) -> bool {
    name.ends_with(OLD)
}

/// The path of a segment in its directory.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

/// The number in a segment's file name, if it is one.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let canonical = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { number: 5, salt: 77, alignment: 64, recycled: true };

    fn file() -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[..64].copy_from_slice(&HEADER.encode());
        file[512..576].copy_from_slice(&HEADER.encode());
        file
    }

    #[test]
    fn either_copy_of_the_header_will_do() {
        assert_eq!(Header::read(&file(), 5), Reading::Header(HEADER));
        for bit in 0..1024 * 8 {
            let mut bad = file();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bad, 5), Reading::Header(HEADER), "bit {bit}");
        }
        let mut bad = file();
        bad[3] ^= 1;
        bad[530] ^= 1;
        assert_eq!(Header::read(&bad, 5), Reading::Nothing);
        assert_eq!(Header::read(&file(), 6), Reading::Nothing);
        assert_eq!(Header::read(&[], 5), Reading::Nothing);
        assert_eq!(Header::read(&file()[..64], 5), Reading::Header(HEADER));
        assert_eq!(Header::read(&file()[..63], 5), Reading::Nothing);
    }

    #[test]
    fn a_newer_format_is_known_as_such() {
        let mut newer = file();
        newer[8] = 3;
        let crc = crc32fast::hash(&newer[..60]);
        newer[60..64].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::read(&newer, 5), Reading::Newer(3));
    }

    #[test]
    fn names_and_numbers_agree() {
        let name = path(Path::new("d"), 0xab).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, "00000000000000ab.log");
        assert_eq!(number_of(&name), Some(0xab));
        for other in ["", ".log", "ab.log", "00000000000000AB.log", "+0000000000000ab.log", "00000000000000ab.log~"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn batches_begin_behind_both_headers() {
        for alignment in [64, 512, 1024, 4096] {
            let at = Header { alignment, ..HEADER }.data_offset();
            assert!(at >= 1024 && at.is_multiple_of(alignment));
        }
        assert!(!is_alignment(32) && !is_alignment(96) && !is_alignment(8192) && !is_alignment(0));
    }
}
