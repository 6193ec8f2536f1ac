//! Finding batches and records in the bytes of a segment. Pure.
//!
//! **Promises.** What is returned as a record has a header, in its right place and of this life of this segment, and a payload
//! with matching checksums. Bytes between are reported, never skipped in silence.
//!
//! **Does not know** whether a bad piece at the end was torn or damaged: that takes a look at later segments (`recovery.rs`).

use std::ops::Range;

use super::batch::{self, HEADER_BYTES};
use super::record::{Found, Salt};
use super::segment::Header;

/// A piece of a segment, in order of place. Unwritten space and alignment gaps are no pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A batch of which every byte is right.
    Whole { number: u64, range: Range<usize>, records: Vec<(usize, Found)> },
    /// A batch with a right header and something wrong behind it.
    Partial { number: u64, range: Range<usize> },
    /// Something that is no batch.
    Bad { range: Range<usize> },
}

impl Piece {
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Whole { range, .. } | Self::Partial { range, .. } | Self::Bad { range } => range.clone(),
        }
    }

    /// The batch's number, if its header is right.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Whole { number, .. } | Self::Partial { number, .. } => Some(*number),
            Self::Bad { .. } => None,
        }
    }
}

/// Cuts a segment into pieces, from an offset on, with the number of the batch in front of it. In a segment that was used
/// before, what lies behind the last batch is no piece: it may be of the earlier life.
pub fn pieces(bytes: &[u8], segment: &Header, salt: &Salt, from: usize, mut last: Option<u64>) -> Vec<Piece> {
    let step = segment.alignment as usize;
    let mut pieces = Vec::new();
    let mut at = from.next_multiple_of(step);
    while at < bytes.len() {
        let Some((start, header)) = next_batch(bytes, at, step, salt, last) else {
            if let Some(end) = last_nonzero(&bytes[at..]).filter(|_| !segment.recycled) {
                pieces.push(Piece::Bad { range: at..at + end });
            }
            break;
        };
        if start > at {
            // What lies before a batch was synced before it. If it reads as zeros it was lost: the numbers will show.
            if let Some(end) = last_nonzero(&bytes[at..start]) {
                pieces.push(Piece::Bad { range: at..at + end });
            }
        }
        let end = start.saturating_add(HEADER_BYTES).saturating_add(header.length as usize);
        let (number, range) = (header.number, start..end.min(bytes.len()));
        let whole = if end <= bytes.len() { records_of(&bytes[range.clone()], start, header, salt) } else { None };
        at = range.end.next_multiple_of(step);
        pieces.push(match whole {
            Some(records) => Piece::Whole { number, range, records },
            None => Piece::Partial { number, range },
        });
        last = Some(number);
    }
    pieces
}

/// The first right batch header at or behind `at`, a multiple of `step`, with a higher number than the last.
fn next_batch(bytes: &[u8], at: usize, step: usize, salt: &Salt, last: Option<u64>) -> Option<(usize, batch::Header)> {
    (at..bytes.len()).step_by(step).find_map(|start| {
        let header = batch::Header::decode(&bytes[start..], salt, start as u32)?;
        last.is_none_or(|last| header.number > last).then_some((start, header))
    })
}

/// The records of a batch with their offsets in the segment, if every byte of it is right.
pub fn records_of(batch: &[u8], start: usize, header: batch::Header, salt: &Salt) -> Option<Vec<(usize, Found)>> {
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        let found = Found::decode(&batch[at..], salt, (start + at) as u32);
        let found = found.filter(|f| f.payload_intact && f.body_intact)?;
        let next = at + found.behind.end;
        records.push((start + at, found));
        at = next;
    }
    (at == batch.len()).then_some(records)
}

/// How far the bytes go until only zeros follow; `None` if they are all zero.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b != 0).map(|at| at + 1)
}

/// What is right in a range, and what is not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Salvage {
    /// Records with their offsets. Their payloads are right, their bodies may not be.
    pub records: Vec<(usize, Found)>,
    /// The rest, alignment gaps excepted.
    pub bad: Vec<Range<usize>>,
}

impl Salvage {
    /// Where the last record ends.
    pub fn end(&self) -> Option<usize> {
        self.records.last().map(|(offset, found)| offset + found.behind.end)
    }
}

/// Finds every record in a range, trying each byte where the one before does not lead to the next.
pub fn salvage(bytes: &[u8], range: Range<usize>, salt: &Salt) -> Salvage {
    let mut salvage = Salvage::default();
    let mut bad_from = range.start;
    let mut at = range.start;
    while at < range.end {
        // Zeros at the end of a bad range were not counted in, and a record may well end with zeros.
        let Some(found) = Found::decode(&bytes[at..], salt, at as u32).filter(|f| f.payload_intact) else {
            at += 1;
            continue;
        };
        salvage.add_bad(bytes, bad_from..at);
        if !found.body_intact {
            salvage.bad.push(at + found.behind.start..at + found.behind.end);
        }
        let end = at + found.behind.end;
        salvage.records.push((at, found));
        (at, bad_from) = (end, end);
    }
    salvage.add_bad(bytes, bad_from.min(range.end)..range.end);
    salvage
}

impl Salvage {
    fn add_bad(&mut self, bytes: &[u8], range: Range<usize>) {
        if let Some(end) = last_nonzero(&bytes[range.clone()]) {
            self.bad.push(range.start..range.start + end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::batch::Frame;
    use super::super::record::Encoded;
    use super::*;

    const SEGMENT: Header = Header { number: 1, salt: 5, alignment: 64, recycled: false };

    fn record(kind: u8) -> Encoded {
        let record = Record {
            kind,
            key: [kind; 16],
            about: None,
            payload: vec![kind; 20].into(),
            body: Some(vec![!kind; 30].into()),
            live: true,
        };
        Encoded::new(record, None)
    }

    /// Three batches of two records, numbers 7 to 9, then unwritten space.
    fn segment() -> (Vec<u8>, Vec<Range<usize>>) {
        let mut bytes = vec![0; 1024];
        let mut ranges = Vec::new();
        for n in 0..3u8 {
            let start = bytes.len().next_multiple_of(64);
            bytes.resize(start, 0);
            let mut frame = Frame::new(&Salt::new(5), 7 + u64::from(n), start as u32, 0);
            frame.push(&record(2 * n + 1));
            frame.push(&record(2 * n + 2));
            frame.parts().iter().for_each(|p| bytes.extend_from_slice(p));
            ranges.push(start..bytes.len());
        }
        bytes.resize(4096, 0);
        (bytes, ranges)
    }

    fn whole(bytes: &[u8]) -> Vec<u64> {
        let pieces = pieces(bytes, &SEGMENT, &Salt::new(5), 1024, None);
        pieces.iter().filter(|p| matches!(p, Piece::Whole { .. })).filter_map(Piece::number).collect()
    }

    #[test]
    fn whole_batches_are_found_and_nothing_else() {
        let (bytes, ranges) = segment();
        let found = pieces(&bytes, &SEGMENT, &Salt::new(5), 1024, None);
        assert_eq!(found.iter().map(Piece::range).collect::<Vec<_>>(), ranges);
        assert_eq!(whole(&bytes), [7, 8, 9]);
        for piece in &found {
            let Piece::Whole { range, records, .. } = piece else { panic!("{piece:?}") };
            let salvaged = salvage(&bytes, range.start + HEADER_BYTES..range.end, &Salt::new(5));
            assert_eq!((&salvaged.records, salvaged.bad.len(), records.len()), (records, 0, 2));
        }
        assert_eq!(pieces(&bytes, &SEGMENT, &Salt::new(6), 1024, None).len(), 1, "foreign bytes are one bad piece");
        assert_eq!(pieces(&[], &SEGMENT, &Salt::new(5), 1024, None), []);
    }

    #[test]
    fn cut_anywhere_the_batches_before_are_whole() {
        let (bytes, ranges) = segment();
        for cut in 0..bytes.len() {
            let expected = ranges.iter().filter(|r| r.end <= cut).count();
            assert_eq!(whole(&bytes[..cut]).len(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn any_flipped_bit_spoils_at_most_its_record() {
        let (bytes, ranges) = segment();
        for range in &ranges {
            for bit in range.start * 8..range.end * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let found = pieces(&bad, &SEGMENT, &Salt::new(5), 1024, None);
                let kinds: Vec<u8> = found
                    .iter()
                    .flat_map(|p| salvage(&bad, p.range(), &Salt::new(5)).records)
                    .map(|(_, f)| f.header.kind)
                    .collect();
                assert!(kinds.is_sorted() && kinds.len() >= 5, "bit {bit}: {kinds:?}");
                assert_eq!(whole(&bad).len(), 2, "bit {bit}");
                // A batch's header is no record: its bad bytes are reported as such.
                let spoilt = found.iter().find(|p| !matches!(p, Piece::Whole { .. })).unwrap();
                assert!(!salvage(&bad, spoilt.range(), &Salt::new(5)).bad.is_empty(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_batch_that_was_never_written_shows_in_the_numbers() {
        let (mut bytes, ranges) = segment();
        bytes[ranges[1].clone()].fill(0);
        assert_eq!(whole(&bytes), [7, 9]);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_hold_no_records(noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
            let mut bytes = vec![0; 1024];
            bytes.extend_from_slice(&noise);
            let end = bytes.len();
            for piece in pieces(&bytes, &SEGMENT, &Salt::new(5), 1024, None) {
                let bad = matches!(piece, Piece::Bad { .. });
                proptest::prop_assert!(bad);
            }
            let salvage = salvage(&bytes, 1024..end, &Salt::new(5));
            proptest::prop_assert!(salvage.records.is_empty());
        }
    }
}
