//! The record's form on disk.
//!
//! All numbers are little-endian.
//!
//! ```text
//!  0  u32  CRC-32 of: the segment's salt (u64), this record's offset (u32), bytes 4..56
//!  4  u32  bytes of payload
//!  8  u32  bytes of body
//! 12  u8   kind
//! 13  u8   flags: 1 live · 2 about · 4 body, behind the payload · 8 body, in a file of its own
//! 14  u16  zero
//! 16  16   key
//! 32  u64  about: segment         (zero without the flag)
//! 40  u32  about: offset
//! 44  u32  about: length
//! 48  u32  CRC-32 of the payload and, with flag 8, of the number behind it
//! 52  u32  CRC-32 of the body
//! 56       payload, then with flag 4 the body, with flag 8 the number of its file (u64)
//! ```
//!
//! **Promises.** Salt and offset are in the header's checksum, the other checksums are in the header: bytes of another
//! segment, of an earlier life of this one, or from another place in it are never taken for a record. Payload and body are
//! checksummed by whoever submits them, in parallel; only the 52 bytes above are left for the committer.

use bytes::Bytes;
use crc32fast::Hasher;

use super::bodies::BodyFile;
use super::{Position, Record};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 56;

const LIVE: u8 = 1;
const ABOUT: u8 = 2;
const BODY: u8 = 4;
const BODY_FILE: u8 = 8;

/// A segment's salt, ready to start checksums with.
#[derive(Clone, Debug)]
pub struct Salt {
    value: u64,
    hasher: Hasher,
}

impl Salt {
    pub fn new(salt: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&salt.to_le_bytes());
        Self { value: salt, hasher }
    }

    /// As the segment's header has it.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The checksum of a header that lies at `offset`.
    pub fn checksum(&self, offset: u32, covered: &[u8]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(covered);
        hasher.finalize()
    }
}

/// The fields of a record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: u8,
    pub live: bool,
    pub key: [u8; 16],
    pub about: Option<Position>,
    pub payload_bytes: u32,
    pub payload_crc: u32,
    pub body: Body,
}

/// Where a record's body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    None,
    /// Behind the payload.
    Inline {
        bytes: u32,
        crc: u32,
    },
    /// In a file of its own.
    File {
        bytes: u32,
        crc: u32,
    },
}

impl Body {
    /// Bytes of the body itself, if there is one.
    pub fn bytes(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Inline { bytes, .. } | Self::File { bytes, .. } => Some(bytes),
        }
    }
}

impl Header {
    /// Bytes of the whole record in its segment.
    pub fn stored_bytes(&self) -> u64 {
        let behind = match self.body {
            Body::None => 0,
            Body::Inline { bytes, .. } => u64::from(bytes),
            Body::File { .. } => 8,
        };
        HEADER_BYTES as u64 + u64::from(self.payload_bytes) + behind
    }

    /// Bytes behind the header that [`Header::payload_crc`] covers.
    pub fn covered_bytes(&self) -> usize {
        self.payload_bytes as usize + if matches!(self.body, Body::File { .. }) { 8 } else { 0 }
    }

    /// The header's bytes for a place in a segment.
    pub fn encode(&self, salt: &Salt, offset: u32) -> [u8; HEADER_BYTES] {
        let (body_flag, body_bytes, body_crc) = match self.body {
            Body::None => (0, 0, 0),
            Body::Inline { bytes, crc } => (BODY, bytes, crc),
            Body::File { bytes, crc } => (BODY_FILE, bytes, crc),
        };
        let mut out = [0; HEADER_BYTES];
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&body_bytes.to_le_bytes());
        out[12] = self.kind;
        out[13] = (u8::from(self.live) * LIVE) | (u8::from(self.about.is_some()) * ABOUT) | body_flag;
        out[16..32].copy_from_slice(&self.key);
        if let Some(about) = self.about {
            out[32..40].copy_from_slice(&about.segment.to_le_bytes());
            out[40..44].copy_from_slice(&about.offset.to_le_bytes());
            out[44..48].copy_from_slice(&about.length.to_le_bytes());
        }
        out[48..52].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[52..56].copy_from_slice(&body_crc.to_le_bytes());
        let crc = salt.checksum(offset, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header that `bytes` begin with, if that is what lies at `offset` of the salt's segment.
    pub fn decode(bytes: &[u8], salt: &Salt, offset: u32) -> Option<Self> {
        let raw = bytes.first_chunk::<HEADER_BYTES>()?;
        // Cheap tests first: recovery tries every byte of a damaged place.
        let flags = raw[13];
        if raw[14..16] != [0, 0] || flags & !(LIVE | ABOUT | BODY | BODY_FILE) != 0 {
            return None;
        }
        if u32_at(raw, 0) != salt.checksum(offset, &raw[4..]) {
            return None;
        }
        let (bytes, crc) = (u32_at(raw, 8), u32_at(raw, 52));
        let body = match flags & (BODY | BODY_FILE) {
            0 => Body::None,
            BODY => Body::Inline { bytes, crc },
            BODY_FILE => Body::File { bytes, crc },
            _ => return None,
        };
        let mut key = [0; 16];
        key.copy_from_slice(&raw[16..32]);
        let about = Position { segment: u64_at(raw, 32), offset: u32_at(raw, 40), length: u32_at(raw, 44) };
        Some(Self {
            kind: raw[12],
            live: flags & LIVE != 0,
            key,
            about: (flags & ABOUT != 0).then_some(about),
            payload_bytes: u32_at(raw, 4),
            payload_crc: u32_at(raw, 48),
            body,
        })
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

/// A record checksummed and ready for a batch.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub header: Header,
    pub payload: Bytes,
    pub behind: Behind,
}

/// What follows the payload.
#[derive(Clone, Debug)]
pub enum Behind {
    Nothing,
    Body(Bytes),
    File(BodyFile),
}

impl Encoded {
    /// Checksums a record. `file` names the file its body has been written to, if it has one; lengths must fit 32 bits.
    pub fn new(record: Record, file: Option<BodyFile>) -> Self {
        let mut payload_crc = Hasher::new();
        payload_crc.update(&record.payload);
        let crc = record.body.as_deref().map(crc32fast::hash);
        let (body, behind) = match (record.body, file) {
            (None, _) => (Body::None, Behind::Nothing),
            (Some(bytes), None) => {
                (Body::Inline { bytes: bytes.len() as u32, crc: crc.unwrap_or_default() }, Behind::Body(bytes))
            }
            (Some(bytes), Some(file)) => {
                payload_crc.update(&file.number.to_le_bytes());
                (Body::File { bytes: bytes.len() as u32, crc: crc.unwrap_or_default() }, Behind::File(file))
            }
        };
        let header = Header {
            kind: record.kind,
            live: record.live,
            key: record.key,
            about: record.about,
            payload_bytes: record.payload.len() as u32,
            payload_crc: payload_crc.finalize(),
            body,
        };
        Self { header, payload: record.payload, behind }
    }
}

/// A record found in a segment: its header and what is behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub header: Header,
    /// Offsets, from the record's first byte, of payload and of what follows it.
    pub payload: std::ops::Range<usize>,
    pub behind: std::ops::Range<usize>,
    pub payload_intact: bool,
    /// An inline body matches its checksum (true without one: a file's is checked when it is read).
    pub body_intact: bool,
    /// The file of its body.
    pub file: Option<BodyFile>,
}

impl Found {
    /// Reads the record that `bytes` begin with; `None` if none lies there or it reaches beyond them.
    pub fn decode(bytes: &[u8], salt: &Salt, offset: u32) -> Option<Self> {
        let header = Header::decode(bytes, salt, offset)?;
        let end = usize::try_from(header.stored_bytes()).ok().filter(|end| *end <= bytes.len())?;
        let payload = HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize;
        let behind = payload.end..end;
        let file = match header.body {
            Body::File { .. } => Some(BodyFile { key: header.key, number: u64_at(bytes, behind.start) }),
            Body::None | Body::Inline { .. } => None,
        };
        let covered = if file.is_some() { payload.start..behind.end } else { payload.clone() };
        let payload_intact = agrees(&bytes[covered], header.payload_crc);
        let body_intact = match header.body {
            Body::Inline { crc, .. } => agrees(&bytes[behind.clone()], crc),
            Body::None | Body::File { .. } => true,
        };
        Some(Self { header, payload, behind, payload_intact, body_intact, file })
    }
}

/// Are these the bytes that were written?
fn agrees(bytes: &[u8], crc: u32) -> bool {
    #[cfg(test)]
    if super::sabotage::is(super::sabotage::Switch::BlindChecksums) {
        return true;
    }
    crc32fast::hash(bytes) == crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(record: &Encoded, salt: &Salt, offset: u32) -> Vec<u8> {
        let mut out = record.header.encode(salt, offset).to_vec();
        out.extend_from_slice(&record.payload);
        match &record.behind {
            Behind::Nothing => {}
            Behind::Body(b) => out.extend_from_slice(b),
            Behind::File(f) => out.extend_from_slice(&f.number.to_le_bytes()),
        }
        out
    }

    fn any_record() -> impl Strategy<Value = Record> {
        (
            any::<u8>(),
            any::<[u8; 16]>(),
            proptest::option::of((any::<u64>(), any::<u32>(), any::<u32>())),
            proptest::collection::vec(any::<u8>(), 0..80),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
            any::<bool>(),
        )
            .prop_map(|(kind, key, about, payload, body, live)| Record {
                kind,
                key,
                about: about.map(|(segment, offset, length)| Position { segment, offset, length }),
                payload: payload.into(),
                body: body.map(Bytes::from),
                live,
            })
    }

    #[test]
    fn the_layout_is_as_drawn() {
        let about = Position { segment: 0x0102_0304_0506_0708, offset: 0x0a0b_0c0d, length: 0x1a1b_1c1d };
        let record = Record {
            kind: 7,
            key: *b"0123456789abcdef",
            about: Some(about),
            payload: Bytes::from_static(b"pay"),
            body: Some(Bytes::from_static(b"body")),
            live: true,
        };
        let raw = bytes_of(&Encoded::new(record, None), &Salt::new(9), 4096);
        assert_eq!(raw[4..8], [3, 0, 0, 0]);
        assert_eq!(raw[8..12], [4, 0, 0, 0]);
        assert_eq!(raw[12..16], [7, LIVE | ABOUT | BODY, 0, 0]);
        assert_eq!(&raw[16..32], b"0123456789abcdef");
        assert_eq!(raw[32..40], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(raw[40..48], [0x0d, 0x0c, 0x0b, 0x0a, 0x1d, 0x1c, 0x1b, 0x1a]);
        assert_eq!(raw[48..52], crc32fast::hash(b"pay").to_le_bytes());
        assert_eq!(raw[52..56], crc32fast::hash(b"body").to_le_bytes());
        assert_eq!(&raw[56..], b"paybody");
        let mut covered = 9u64.to_le_bytes().to_vec();
        covered.extend_from_slice(&4096u32.to_le_bytes());
        covered.extend_from_slice(&raw[4..56]);
        assert_eq!(raw[..4], crc32fast::hash(&covered).to_le_bytes());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in any_record(), salt: u64, offset: u32, number in proptest::option::of(any::<u64>())) {
            let file = number.map(|number| BodyFile { key: record.key, number });
            let salt = Salt::new(salt);
            let raw = bytes_of(&Encoded::new(record.clone(), file), &salt, offset);
            let found = Found::decode(&raw, &salt, offset).unwrap();
            prop_assert!(found.payload_intact && found.body_intact);
            prop_assert_eq!(&raw[found.payload.clone()], &record.payload[..]);
            prop_assert_eq!(found.header.stored_bytes(), raw.len() as u64);
            prop_assert_eq!(found.header.body.bytes().map(|b| b as usize), record.body.as_ref().map(|b| b.len()));
            prop_assert_eq!((found.header.kind, found.header.key, found.header.about, found.header.live),
                (record.kind, record.key, record.about, record.live));
            match (&record.body, file) {
                (Some(_), Some(file)) => prop_assert_eq!(found.file, Some(file)),
                (Some(body), None) => prop_assert_eq!(&raw[found.behind], &body[..]),
                (None, _) => prop_assert!(found.behind.is_empty()),
            }
        }

        #[test]
        fn nothing_damaged_misplaced_or_foreign_is_taken(record in any_record(), bit in any::<prop::sample::Index>(), salt: u64) {
            let mut raw = bytes_of(&Encoded::new(record, None), &Salt::new(salt), 64);
            let own = Salt::new(salt);
            prop_assert!(Header::decode(&raw, &own, 65).is_none());
            prop_assert!(Header::decode(&raw, &Salt::new(salt ^ 1), 64).is_none());
            for short in 0..raw.len() {
                prop_assert!(Found::decode(&raw[..short], &own, 64).is_none());
            }
            let bit = bit.index(raw.len() * 8);
            raw[bit / 8] ^= 1 << (bit % 8);
            if let Some(found) = Found::decode(&raw, &own, 64) {
                prop_assert!(!(found.payload_intact && found.body_intact));
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Found::decode(&raw, &Salt::new(1), 0).is_none());
        }
    }
}
