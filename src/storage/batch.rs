//! The batch: what one write and one sync make durable.
//!
//! ```text
//!  0  4    "PRBT"
//!  4  u32  CRC-32 of: the segment's salt (u64), this batch's offset (u32), bytes 8..32
//!  8  u64  number: one more than the batch before, over all segments
//! 16  u32  bytes of records
//! 20  u32  count of records
//! 24  u64  zero
//! 32       the records, one behind the other
//! ```
//!
//! Little-endian. A batch begins at a multiple of the segment's alignment; the gap before it is zero. Batch n + 1 is written
//! only after batch n has been synced: one that is not whole and has a successor was damaged, one without was torn. A batch
//! without records stands where one was torn.

use std::io::IoSlice;

use bytes::Bytes;

use super::record::{Behind, Encoded, HEADER_BYTES as RECORD_HEADER_BYTES, Salt, u32_at, u64_at};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"PRBT";

/// Pieces from this size are handed to the disk where they lie; smaller ones are copied together, which is cheaper than one
/// more part in a vectored write.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// The fields of a batch's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub number: u64,
    /// Bytes of records behind the header.
    pub length: u32,
    pub records: u32,
}

impl Header {
    fn encode(self, salt: &Salt, offset: u32) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..20].copy_from_slice(&self.length.to_le_bytes());
        out[20..24].copy_from_slice(&self.records.to_le_bytes());
        let crc = salt.checksum(offset, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header that `bytes` begin with, if that is what lies at `offset` of the salt's segment.
    pub fn decode(bytes: &[u8], salt: &Salt, offset: u32) -> Option<Self> {
        let raw = bytes.first_chunk::<HEADER_BYTES>()?;
        if raw[..4] != MAGIC || u32_at(raw, 4) != salt.checksum(offset, &raw[8..]) {
            return None;
        }
        Some(Self { number: u64_at(raw, 8), length: u32_at(raw, 16), records: u32_at(raw, 20) })
    }
}

/// A batch laid out for one place in one segment.
#[derive(Debug)]
pub struct Frame {
    /// Small pieces, the header first.
    copied: Vec<u8>,
    /// How far `copied` goes before each large piece.
    shared: Vec<(usize, Bytes)>,
    salt: Salt,
    number: u64,
    start: u32,
    length: u32,
    records: u32,
}

impl Frame {
    /// An empty batch that will begin at `start`; `bytes` is what it will hold, as far as known.
    pub fn new(salt: &Salt, number: u64, start: u32, bytes: usize) -> Self {
        let mut copied = Vec::with_capacity(bytes.max(HEADER_BYTES));
        copied.resize(HEADER_BYTES, 0);
        Self { copied, shared: Vec::new(), salt: salt.clone(), number, start, length: 0, records: 0 }
    }

    /// Adds a record; returns its offset in the segment. The caller has made sure that the batch fits.
    pub fn push(&mut self, record: &Encoded) -> u32 {
        let offset = self.start + HEADER_BYTES as u32 + self.length;
        self.copied.extend_from_slice(&record.header.encode(&self.salt, offset));
        self.piece(&record.payload);
        match &record.behind {
            Behind::Nothing => {}
            Behind::Body(body) => self.piece(body),
            Behind::File(file) => self.copied.extend_from_slice(&file.number.to_le_bytes()),
        }
        self.length += record.header.stored_bytes() as u32;
        self.records += 1;
        offset
    }

    fn piece(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.copied.extend_from_slice(bytes);
        } else {
            self.shared.push((self.copied.len(), bytes.clone()));
        }
    }

    /// Bytes of the whole batch.
    pub fn bytes(&self) -> u32 {
        HEADER_BYTES as u32 + self.length
    }

    /// Records in it.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Writes the header and returns the batch in parts, in order.
    pub fn parts(&mut self) -> Vec<IoSlice<'_>> {
        let header = Header { number: self.number, length: self.length, records: self.records };
        self.copied[..HEADER_BYTES].copy_from_slice(&header.encode(&self.salt, self.start));
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (to, bytes) in &self.shared {
            parts.push(IoSlice::new(&self.copied[from..*to]));
            parts.push(IoSlice::new(bytes));
            from = *to;
        }
        parts.push(IoSlice::new(&self.copied[from..]));
        parts
    }
}

const _: () = assert!(RECORD_HEADER_BYTES < SHARED_BYTES_MIN);

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::record::Found;
    use super::*;

    fn encoded(kind: u8, payload: usize, body: Option<usize>) -> Encoded {
        let record = Record {
            kind,
            key: [kind; 16],
            about: None,
            payload: vec![kind; payload].into(),
            body: body.map(|n| vec![!kind; n].into()),
            live: true,
        };
        Encoded::new(record, None)
    }

    #[test]
    fn records_lie_where_the_frame_says_whether_copied_or_shared() {
        let salt = Salt::new(3);
        let mut frame = Frame::new(&salt, 17, 4096, 0);
        let records = [
            encoded(1, 10, None),
            encoded(2, SHARED_BYTES_MIN, Some(SHARED_BYTES_MIN + 1)),
            encoded(3, 0, Some(SHARED_BYTES_MIN - 1)),
            encoded(4, 5, Some(0)),
        ];
        let offsets: Vec<u32> = records.iter().map(|r| frame.push(r)).collect();
        let bytes = frame.bytes();
        let whole: Vec<u8> = frame.parts().iter().flat_map(|p| p.to_vec()).collect();
        assert_eq!(whole.len(), bytes as usize);
        let header = Header::decode(&whole, &salt, 4096).unwrap();
        assert_eq!(header, Header { number: 17, length: bytes - 32, records: 4 });
        for (record, offset) in records.iter().zip(&offsets) {
            let found = Found::decode(&whole[(offset - 4096) as usize..], &salt, *offset).unwrap();
            assert!(found.payload_intact && found.body_intact);
            assert_eq!(found.header, record.header);
        }
        assert_eq!(offsets[0], 4096 + 32);
        assert_eq!(records.iter().map(|r| r.header.stored_bytes()).sum::<u64>(), u64::from(header.length));
    }

    #[test]
    fn a_header_counts_only_in_its_place() {
        let salt = Salt::new(3);
        let raw = Header { number: 1, length: 2, records: 3 }.encode(&salt, 64);
        assert!(Header::decode(&raw, &salt, 64).is_some());
        assert!(Header::decode(&raw, &salt, 128).is_none());
        assert!(Header::decode(&raw, &Salt::new(4), 64).is_none());
        assert!(Header::decode(&raw[..31], &salt, 64).is_none());
        for bit in 0..raw.len() * 8 {
            let mut bad = raw;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad, &salt, 64).is_none(), "bit {bit}");
        }
    }
}
