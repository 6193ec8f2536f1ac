//! Reading a segment from header to header, without its bodies.
//!
//! **Promises.** A batch is given only if its header, all of its records' headers and all of their payloads are right and fill
//! it exactly. Bodies are passed over, so one that is damaged is found when it is read. What is met and is not as a log in
//! order would have it is said to be so, and left to `scan.rs`.
//!
//! **Numbers.** Small bodies are cheaper read with what surrounds them than jumped over: the window is 256 KiB, after a jump
//! of more than that 4 KiB.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::batch;
use super::bodies::BodyFile;
use super::disk::File;
use super::record::{Body, HEADER_BYTES, Header, Salt, u64_at};
use super::segment::{self, align_up};

/// Bytes read at once where one record follows the other.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes read after a jump over a large body.
const JUMP_BYTES: usize = 4 * 1024;
/// Bytes of the unwritten rest looked at together: a multiple of every alignment.
const REST_BYTES: usize = 1024 * 1024;

/// A record by its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hopped {
    /// Where it lies in the segment.
    pub offset: u32,
    pub header: Header,
    /// The file of its body.
    pub file: Option<BodyFile>,
    pub payload: Bytes,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// A batch, right as far as was looked.
    Batch { number: u64, range: Range<usize>, records: Vec<Hopped> },
    /// Nothing was written behind the last one.
    End,
    /// Something else.
    Irregular,
}

/// A way through a segment.
pub struct Hop<'a> {
    file: &'a dyn File,
    salt: &'a Salt,
    segment: segment::Header,
    /// Bytes of the segment that count.
    length: u64,
    at: u32,
    last: Option<u64>,
    window: Window,
}

impl<'a> Hop<'a> {
    pub fn new(file: &'a dyn File, segment: segment::Header, salt: &'a Salt, length: u64) -> Self {
        Self { file, salt, segment, length, at: segment.data_offset(), last: None, window: Window::default() }
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.window.read
    }

    /// The next batch.
    pub fn next(&mut self) -> io::Result<Next> {
        let start = align_up(self.at, self.segment.alignment);
        let raw = self.window.read(self.file, self.length, u64::from(start), batch::HEADER_BYTES)?;
        let header = batch::Header::decode(raw, self.salt, start).filter(|h| self.last.is_none_or(|l| h.number > l));
        let Some(header) = header else {
            return Ok(if self.rest_is_unwritten(start)? { Next::End } else { Next::Irregular });
        };
        let end = u64::from(start) + batch::HEADER_BYTES as u64 + u64::from(header.length);
        if end > self.length {
            return Ok(Next::Irregular);
        }
        let mut records = Vec::new();
        let mut at = u64::from(start) + batch::HEADER_BYTES as u64;
        for _ in 0..header.records {
            let Some((record, next)) = self.record(at, end)? else { return Ok(Next::Irregular) };
            records.push(record);
            at = next;
        }
        if at != end {
            return Ok(Next::Irregular);
        }
        (self.at, self.last) = (end as u32, Some(header.number));
        Ok(Next::Batch { number: header.number, range: start as usize..end as usize, records })
    }

    /// The record at `at` and where the next one begins, if it is right and does not go beyond `end`.
    fn record(&mut self, at: u64, end: u64) -> io::Result<Option<(Hopped, u64)>> {
        let offset = at as u32;
        let raw = self.window.read(self.file, self.length, at, HEADER_BYTES)?;
        let Some(header) = Header::decode(raw, self.salt, offset) else { return Ok(None) };
        let next = at + header.stored_bytes();
        if next > end {
            return Ok(None);
        }
        let has_file = matches!(header.body, Body::File { .. });
        let payload = header.payload_bytes as usize;
        let covered = payload + if has_file { size_of::<u64>() } else { 0 };
        let raw = self.window.read(self.file, self.length, at + HEADER_BYTES as u64, covered)?;
        if raw.len() != covered || crc32fast::hash(raw) != header.payload_crc {
            return Ok(None);
        }
        let file = has_file.then(|| BodyFile { key: header.key, number: u64_at(raw, payload) });
        let payload = Bytes::copy_from_slice(&raw[..payload]);
        Ok(Some((Hopped { offset, header, file, payload }, next)))
    }

    /// Is there nothing behind `start`? In a segment that was used before, what is left of its earlier life is nothing; but
    /// a later batch of this life is something.
    fn rest_is_unwritten(&mut self, start: u32) -> io::Result<bool> {
        let mut chunk = vec![0; REST_BYTES.min(self.length.saturating_sub(u64::from(start)) as usize)];
        let mut at = u64::from(start);
        while at < self.length {
            let wanted = chunk.len().min((self.length - at) as usize);
            let read = self.file.read_at(&mut chunk[..wanted], at)?;
            self.window.read += read as u64;
            if read == 0 {
                break;
            }
            let bytes = &chunk[..read];
            let written = if self.segment.recycled {
                (0..read)
                    .step_by(self.segment.alignment as usize)
                    .any(|n| self.is_later_batch(&bytes[n..], at + n as u64))
            } else {
                bytes.iter().any(|b| *b != 0)
            };
            if written {
                return Ok(false);
            }
            at += read as u64;
        }
        Ok(true)
    }

    fn is_later_batch(&self, bytes: &[u8], at: u64) -> bool {
        let header = batch::Header::decode(bytes, self.salt, at as u32);
        header.is_some_and(|h| self.last.is_none_or(|last| h.number > last))
    }
}

/// A part of a file in memory.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
    read: u64,
}

impl Window {
    /// `wanted` bytes at `offset`; fewer where the file, or `length`, ends.
    fn read(&mut self, file: &dyn File, length: u64, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(length.saturating_sub(offset) as usize);
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + wanted as u64 > end {
            let near = offset <= end + WINDOW_BYTES as u64;
            let ahead = if near { WINDOW_BYTES } else { JUMP_BYTES };
            let bytes = ahead.max(wanted).min(length.saturating_sub(offset) as usize);
            self.bytes.resize(bytes, 0);
            let read = file.read_at(&mut self.bytes, offset)?;
            self.bytes.truncate(read);
            self.start = offset;
            self.read += read as u64;
        }
        let from = (offset - self.start) as usize;
        let to = (from + wanted).min(self.bytes.len());
        Ok(&self.bytes[from.min(to)..to])
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::super::Record;
    use super::super::batch::Frame;
    use super::super::disk::Disk;
    use super::super::faulty::FaultyDisk;
    use super::super::record::Encoded;
    use super::*;

    fn record(n: u8, body: usize) -> Encoded {
        let (payload, body) = (vec![n; 20 * n as usize].into(), Some(vec![!n; body].into()));
        Encoded::new(Record { kind: n, key: [n; 16], about: None, payload, body, live: true }, None)
    }

    /// Batches 7 and 8 of two records each, and a file of `behind` after them.
    fn segment(recycled: bool, body: usize, behind: &[u8]) -> (segment::Header, Vec<u8>) {
        let header = segment::Header { number: 1, salt: 5, alignment: 64, recycled };
        let mut bytes = vec![0; 1024];
        for n in [7, 8] {
            bytes.resize(bytes.len().next_multiple_of(64), if recycled { 0xee } else { 0 });
            let mut frame = Frame::new(&Salt::new(5), n, bytes.len() as u32, 0);
            frame.push(&record(n as u8, body));
            frame.push(&record(n as u8 + 10, body));
            frame.parts().iter().for_each(|p| bytes.extend_from_slice(p));
        }
        bytes.extend_from_slice(behind);
        (header, bytes)
    }

    /// The numbers of the batches and how it ended.
    fn hop(header: segment::Header, bytes: &[u8]) -> (Vec<u64>, bool, u64) {
        let disk = FaultyDisk::new(1);
        let file = disk.create(Path::new("f")).unwrap();
        file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
        let salt = Salt::new(5);
        let mut hop = Hop::new(&*file, header, &salt, bytes.len() as u64);
        let mut numbers = Vec::new();
        loop {
            match hop.next().unwrap() {
                Next::Batch { number, records, .. } => {
                    assert_eq!(
                        records.iter().map(|r| u64::from(r.header.kind)).collect::<Vec<_>>(),
                        [number, number + 10]
                    );
                    assert!(records.iter().all(|r| r.payload == vec![r.header.kind; 20 * r.header.kind as usize]));
                    numbers.push(number);
                }
                Next::End => return (numbers, true, hop.bytes_read()),
                Next::Irregular => return (numbers, false, hop.bytes_read()),
            }
        }
    }

    #[test]
    fn batches_follow_each_other_and_large_bodies_are_not_read() {
        for body in [0, 30, 5000, 3 << 20] {
            let (header, bytes) = segment(false, body, &[0; 5000]);
            let (numbers, end, read) = hop(header, &bytes);
            assert_eq!((numbers, end), (vec![7, 8], true), "{body}");
            assert!(read < 1 << 20, "{body}: {read}");
        }
    }

    #[test]
    fn what_was_left_by_an_earlier_life_is_nothing_and_a_later_batch_is_something() {
        let stale = [0xee; 5000];
        for recycled in [true, false] {
            let (header, bytes) = segment(recycled, 30, &stale);
            let (numbers, end, _) = hop(header, &bytes);
            assert_eq!((numbers, end), (vec![7, 8], recycled));
        }
        for recycled in [true, false] {
            let (header, mut bytes) = segment(recycled, 30, &[]);
            bytes[1024] ^= 1;
            let (numbers, end, _) = hop(header, &bytes);
            assert_eq!((numbers, end), (vec![], false), "the first batch is damaged, the second lies behind it");
        }
    }

    #[test]
    fn a_flipped_bit_is_met_unless_it_is_in_a_body_or_between() {
        let (header, bytes) = segment(false, 30, &[]);
        let mut passed = 0;
        for bit in 1024 * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (numbers, end, _) = hop(header, &bad);
            passed += usize::from(end && numbers == [7, 8]);
            assert!(end == (numbers == [7, 8]), "bit {bit}");
        }
        let gap = 1024usize.next_multiple_of(64) + segment_batch_bytes(7);
        let gap = gap.next_multiple_of(64) - gap;
        assert_eq!(passed, (4 * 30 + gap) * 8);
    }

    fn segment_batch_bytes(n: usize) -> usize {
        batch::HEADER_BYTES + 2 * (HEADER_BYTES + 30) + 20 * n + 20 * (n + 10)
    }
}
