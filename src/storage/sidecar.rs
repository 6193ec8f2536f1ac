//! The sidecar's form on disk: what a start has to know of a sealed segment, so that it need not read it. Pure.
//!
//! `segments/<number>.side`, little-endian:
//!
//! ```text
//!   0  8    "PRSIDEC\n"
//!   8  u32  format: 1
//!  12  u32  zero
//!  16  u64  number of the segment
//!  24  u64  salt of the segment: a sidecar of an earlier life or of another log is not taken
//!  32  u64  id: random, tells this sidecar from those it replaced
//!  40  u64  covers: segment            (everything in front of this place was taken into account)
//!  48  u32  covers: offset
//!  52  u32  where the segment's last batch ends
//!  56  u64  number of its first batch
//!  64  u64  number of its last batch
//!  72  u32  count of live records
//!  76  u32  count of files of bodies
//!  80  u32  count of segments that its records are about
//!  84  u32  bytes of the brief
//!  88  u32  bytes of the state
//!  92  u32  CRC-32 of the lists
//!  96  u32  CRC-32 of the brief
//! 100  u32  CRC-32 of the state
//! 104  20   zero
//! 124  u32  CRC-32 of bytes 0..124
//! 128       the lists: live records (offset u32, length u32), ascending
//!                      files of their bodies (offset of the record u32, bytes u32, key 16, number u64)
//!                      older segments that records in this one are about (number u64)
//!           the brief, then the state: the owner's
//! ```
//!
//! `segments/covers` says of sidecars that they cover more than they say themselves, because nothing of their segments has
//! changed since:
//!
//! ```text
//!   0  8    "PRCOVER\n"
//!   8  u32  format: 1
//!  12  u32  count of entries
//!  16       entries: segment u64, id of its sidecar u64, covers: segment u64, offset u32, zero u32
//!           u32  CRC-32 of everything before
//! ```
//!
//! **Promises.** Every byte is under a checksum. A file that is not right in every byte, or has a byte too many, is not taken.
//! **Does not know** files, and whether what is said is true.

use bytes::Bytes;

use super::bodies::BodyFile;
use super::record::{u32_at, u64_at};
use super::{Mark, Position};

/// Bytes before the lists.
pub const HEADER_BYTES: usize = 128;
/// The most that the owner's parts may have, each.
pub const PART_BYTES_MAX: usize = 1 << 30;

const MAGIC: [u8; 8] = *b"PRSIDEC\n";
const FORMAT: u32 = 1;
const COVERS_MAGIC: [u8; 8] = *b"PRCOVER\n";
const COVERS_FORMAT: u32 = 1;
const COVERS_HEADER_BYTES: usize = 16;
const COVERS_ENTRY_BYTES: usize = 32;

/// What storage itself says of a sealed segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub segment: u64,
    pub salt: u64,
    pub id: u64,
    pub covers: Mark,
    /// Where the last batch ends.
    pub used: u32,
    pub first_batch: u64,
    pub last_batch: u64,
    /// In order of offset.
    pub live: Vec<Position>,
    /// Offset of the record, its body's file, bytes of the body.
    pub files: Vec<(u32, BodyFile, u32)>,
    pub about: Vec<u64>,
}

/// A sidecar's header: how long its parts are, and their checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub id: u64,
    segment: u64,
    salt: u64,
    covers: Mark,
    used: u32,
    first_batch: u64,
    last_batch: u64,
    live: u32,
    files: u32,
    about: u32,
    pub brief_bytes: u32,
    pub state_bytes: u32,
    lists_crc: u32,
    brief_crc: u32,
    pub state_crc: u32,
}

impl Facts {
    /// Everything in front of the state, which follows it as it is.
    pub fn encode(&self, brief: &[u8], state: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        for record in &self.live {
            out.extend_from_slice(&record.offset.to_le_bytes());
            out.extend_from_slice(&record.length.to_le_bytes());
        }
        for (offset, file, bytes) in &self.files {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(&file.key);
            out.extend_from_slice(&file.number.to_le_bytes());
        }
        self.about.iter().for_each(|segment| out.extend_from_slice(&segment.to_le_bytes()));
        let lists_crc = crc32fast::hash(&out[HEADER_BYTES..]);
        out.extend_from_slice(brief);
        let header = &mut out[..HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        let wide = [self.segment, self.salt, self.id, self.covers.segment];
        wide.iter().enumerate().for_each(|(n, v)| put(header, 16 + 8 * n, &v.to_le_bytes()));
        put(header, 48, &self.covers.offset.to_le_bytes());
        put(header, 52, &self.used.to_le_bytes());
        put(header, 56, &self.first_batch.to_le_bytes());
        put(header, 64, &self.last_batch.to_le_bytes());
        let counts = [self.live.len(), self.files.len(), self.about.len(), brief.len(), state.len()];
        counts.iter().enumerate().for_each(|(n, v)| put(header, 72 + 4 * n, &(*v as u32).to_le_bytes()));
        let sums = [lists_crc, crc32fast::hash(brief), crc32fast::hash(state)];
        sums.iter().enumerate().for_each(|(n, v)| put(header, 92 + 4 * n, &v.to_le_bytes()));
        let crc = crc32fast::hash(&header[..124]);
        put(header, 124, &crc.to_le_bytes());
        out
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Header {
    /// Reads the header of the sidecar of a segment with this number and salt.
    pub fn decode(bytes: &[u8], segment: u64, salt: u64) -> Option<Self> {
        let raw = bytes.first_chunk::<HEADER_BYTES>()?;
        if raw[..8] != MAGIC || u32_at(raw, 124) != crc32fast::hash(&raw[..124]) || u32_at(raw, 8) != FORMAT {
            return None;
        }
        let header = Self {
            segment: u64_at(raw, 16),
            salt: u64_at(raw, 24),
            id: u64_at(raw, 32),
            covers: Mark { segment: u64_at(raw, 40), offset: u32_at(raw, 48) },
            used: u32_at(raw, 52),
            first_batch: u64_at(raw, 56),
            last_batch: u64_at(raw, 64),
            live: u32_at(raw, 72),
            files: u32_at(raw, 76),
            about: u32_at(raw, 80),
            brief_bytes: u32_at(raw, 84),
            state_bytes: u32_at(raw, 88),
            lists_crc: u32_at(raw, 92),
            brief_crc: u32_at(raw, 96),
            state_crc: u32_at(raw, 100),
        };
        (header.segment == segment && header.salt == salt).then_some(header)
    }

    fn lists_bytes(&self) -> u64 {
        8 * u64::from(self.live) + 32 * u64::from(self.files) + 8 * u64::from(self.about)
    }

    /// Where the state begins.
    pub fn state_offset(&self) -> u64 {
        HEADER_BYTES as u64 + self.lists_bytes() + u64::from(self.brief_bytes)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.state_offset() + u64::from(self.state_bytes)
    }

    /// Reads the lists and the brief, which follow the header.
    pub fn decode_lists(&self, bytes: &[u8]) -> Option<(Facts, Bytes)> {
        let lists = bytes.get(..usize::try_from(self.lists_bytes()).ok()?)?;
        let brief = bytes.get(lists.len()..)?;
        let right = brief.len() == self.brief_bytes as usize
            && crc32fast::hash(lists) == self.lists_crc
            && crc32fast::hash(brief) == self.brief_crc;
        if !right {
            return None;
        }
        let (live, rest) = lists.split_at(8 * self.live as usize);
        let (files, about) = rest.split_at(32 * self.files as usize);
        let position = |raw: &[u8]| Position { segment: self.segment, offset: u32_at(raw, 0), length: u32_at(raw, 4) };
        let live: Vec<Position> = live.chunks_exact(8).map(position).collect();
        let file = |raw: &[u8]| {
            let mut key = [0; 16];
            key.copy_from_slice(&raw[8..24]);
            (u32_at(raw, 0), BodyFile { key, number: u64_at(raw, 24) }, u32_at(raw, 4))
        };
        let facts = Facts {
            segment: self.segment,
            salt: self.salt,
            id: self.id,
            covers: self.covers,
            used: self.used,
            first_batch: self.first_batch,
            last_batch: self.last_batch,
            live,
            files: files.chunks_exact(32).map(file).collect(),
            about: about.chunks_exact(8).map(|raw| u64_at(raw, 0)).collect(),
        };
        let ascending = facts.live.is_sorted_by(|a, b| a.offset < b.offset);
        ascending.then(|| (facts, Bytes::copy_from_slice(brief)))
    }
}

/// That a sidecar covers more than it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Confirmed {
    pub segment: u64,
    /// Of the sidecar.
    pub id: u64,
    pub covers: Mark,
}

/// The bytes of the file `covers`.
pub fn encode_covers(entries: &[Confirmed]) -> Vec<u8> {
    let mut out = Vec::with_capacity(COVERS_HEADER_BYTES + COVERS_ENTRY_BYTES * entries.len() + 4);
    out.extend_from_slice(&COVERS_MAGIC);
    out.extend_from_slice(&COVERS_FORMAT.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.segment.to_le_bytes());
        out.extend_from_slice(&entry.id.to_le_bytes());
        out.extend_from_slice(&entry.covers.segment.to_le_bytes());
        out.extend_from_slice(&entry.covers.offset.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the file `covers`; `None` if it is not right.
pub fn decode_covers(bytes: &[u8]) -> Option<Vec<Confirmed>> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    let header = covered.first_chunk::<COVERS_HEADER_BYTES>()?;
    let entries = &covered[COVERS_HEADER_BYTES..];
    let right = crc32fast::hash(covered).to_le_bytes() == *crc
        && header[..8] == COVERS_MAGIC
        && u32_at(header, 8) == COVERS_FORMAT
        && entries.len() as u64 == COVERS_ENTRY_BYTES as u64 * u64::from(u32_at(header, 12));
    let entry = |raw: &[u8]| Confirmed {
        segment: u64_at(raw, 0),
        id: u64_at(raw, 8),
        covers: Mark { segment: u64_at(raw, 16), offset: u32_at(raw, 24) },
    };
    right.then(|| entries.chunks_exact(COVERS_ENTRY_BYTES).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_facts() -> impl Strategy<Value = Facts> {
        let lists = (
            proptest::collection::btree_map(any::<u32>(), any::<u32>(), 0..20),
            proptest::collection::vec((any::<u32>(), any::<[u8; 16]>(), any::<u64>(), any::<u32>()), 0..5),
            proptest::collection::vec(any::<u64>(), 0..5),
        );
        (any::<[u64; 6]>(), any::<[u32; 2]>(), lists).prop_map(|(wide, narrow, (live, files, about))| Facts {
            segment: wide[0],
            salt: wide[1],
            id: wide[2],
            covers: Mark { segment: wide[3], offset: narrow[0] },
            used: narrow[1],
            first_batch: wide[4],
            last_batch: wide[5],
            live: live.into_iter().map(|(offset, length)| Position { segment: wide[0], offset, length }).collect(),
            files: files.into_iter().map(|(at, key, number, n)| (at, BodyFile { key, number }, n)).collect(),
            about,
        })
    }

    /// As recovery reads it.
    fn read(bytes: &[u8], segment: u64, salt: u64) -> Option<(Facts, Bytes, Vec<u8>)> {
        let header = Header::decode(bytes, segment, salt).filter(|h| h.file_bytes() == bytes.len() as u64)?;
        let (lists, state) = bytes.split_at(header.state_offset() as usize);
        let (facts, brief) = header.decode_lists(&lists[HEADER_BYTES..])?;
        (crc32fast::hash(state) == header.state_crc).then(|| (facts, brief, state.to_vec()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else(
            facts in any_facts(),
            brief in proptest::collection::vec(any::<u8>(), 0..60),
            state in proptest::collection::vec(any::<u8>(), 0..60),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut bytes = facts.encode(&brief, &state);
            bytes.extend_from_slice(&state);
            let (segment, salt) = (facts.segment, facts.salt);
            prop_assert_eq!(read(&bytes, segment, salt), Some((facts, brief.into(), state)));
            prop_assert_eq!(read(&bytes, segment ^ 1, salt), None);
            prop_assert_eq!(read(&bytes, segment, salt ^ 1), None);
            for short in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..short], segment, salt), None);
            }
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read(&bytes, segment, salt), None, "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.push(0);
            prop_assert_eq!(read(&bytes, segment, salt), None);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Header::decode(&bytes, 0, 0).is_none());
            prop_assert!(decode_covers(&bytes).is_none());
        }
    }

    #[test]
    fn the_layout_is_as_drawn() {
        let facts = Facts {
            segment: 0x0102_0304_0506_0708,
            salt: 9,
            id: 10,
            covers: Mark { segment: 11, offset: 12 },
            used: 13,
            first_batch: 14,
            last_batch: 15,
            live: vec![Position { segment: 0x0102_0304_0506_0708, offset: 0x2a2b_2c2d, length: 0x3a3b_3c3d }],
            files: vec![(16, BodyFile { key: *b"0123456789abcdef", number: 17 }, 18)],
            about: vec![19],
        };
        let raw = facts.encode(b"brief", b"state");
        assert_eq!(&raw[..8], b"PRSIDEC\n");
        assert_eq!(raw[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(raw[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!([24, 32, 40, 56, 64].map(|at| u64_at(&raw, at)), [9, 10, 11, 14, 15]);
        assert_eq!([48, 52, 72, 76, 80, 84, 88].map(|at| u32_at(&raw, at)), [12, 13, 1, 1, 1, 5, 5]);
        assert_eq!(u32_at(&raw, 92), crc32fast::hash(&raw[128..176]));
        assert_eq!((u32_at(&raw, 96), u32_at(&raw, 100)), (crc32fast::hash(b"brief"), crc32fast::hash(b"state")));
        assert_eq!(raw[104..124], [0; 20]);
        assert_eq!(raw[128..136], [0x2d, 0x2c, 0x2b, 0x2a, 0x3d, 0x3c, 0x3b, 0x3a]);
        assert_eq!((u32_at(&raw, 136), u32_at(&raw, 140)), (16, 18));
        assert_eq!(&raw[144..160], b"0123456789abcdef");
        assert_eq!((u64_at(&raw, 160), u64_at(&raw, 168)), (17, 19));
        assert_eq!(&raw[176..], b"brief");
    }

    #[test]
    fn confirmations_are_read_back_and_any_flipped_bit_spoils_them() {
        let entry = |n| Confirmed { segment: n, id: n * 7, covers: Mark { segment: n + 5, offset: 99 } };
        let entries: Vec<Confirmed> = (1..4).map(entry).collect();
        let mut bytes = encode_covers(&entries);
        assert_eq!(decode_covers(&bytes), Some(entries));
        assert_eq!(decode_covers(&encode_covers(&[])), Some(Vec::new()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_covers(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!((0..bytes.len()).all(|short| decode_covers(&bytes[..short]).is_none()));
    }
}
