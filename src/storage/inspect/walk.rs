//! The walk itself: from a segment's bytes to records and flaws, by the rules of recovery.
//!
//! **Promises.** Records and flaws are told in order of place. What is not whole at the end of a segment is damaged if
//! something follows, and torn otherwise; a row of batch numbers with a gap is told where it goes on.
//!
//! **Does not know** files.

use std::ops::{ControlFlow, Range};

use super::super::record::{Body, Found, HEADER_BYTES, Header as RecordHeader, Salt};
use super::super::scan::{self, Piece};
use super::super::segment::{self, Header};
use super::super::{Position, batch};
use super::{BodyPlace, Flaw, Item, Owner, Part, Seen, SeenBody, SegmentFile, Walked};

/// A walk under way.
pub(super) struct Walk<'a> {
    visit: &'a mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    walked: Walked,
    /// The end of the segment before, if it is not whole: torn unless something follows.
    pending: Option<(Source, Piece)>,
    /// The segment before, and where its last batch ends, if it was used before: batches that are missing may lie behind.
    reused: Option<(Source, usize)>,
    /// Segment and number of the last batch; `None` behind a damaged place, where a gap in the numbers is no news.
    last: Option<(u64, u64)>,
    ended: bool,
}

/// A segment in memory.
struct Source {
    file: SegmentFile,
    alignment: u32,
    salt: Salt,
    bytes: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(visit: &'a mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Self {
        Self { visit, walked: Walked::default(), pending: None, reused: None, last: None, ended: false }
    }

    /// Whoever is told has heard enough.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// A segment was removed before it had been read.
    pub(super) fn gone(&mut self) {
        self.walked.gone_meanwhile += 1;
    }

    /// Tells it, unless enough has been heard.
    pub(super) fn tell(&mut self, item: Item<'_>) {
        if !self.ended {
            self.ended = (self.visit)(item).is_break();
        }
    }

    fn flaw(&mut self, segment: u64, range: Range<usize>, what: Part) {
        let (offset, length) = (range.start as u64, range.len() as u64);
        self.tell(Item::Flaw(Flaw { segment, offset, length, what }));
    }

    /// The next segment.
    pub(super) fn segment(&mut self, file: SegmentFile, bytes: Vec<u8>) {
        self.walked.file_bytes += bytes.len() as u64;
        let Some(header) = file.header else {
            if bytes.iter().skip(segment::DATA_OFFSET_MIN as usize).any(|b| *b != 0) {
                self.settle_pending();
                self.reused = None;
                self.last = None;
                self.walked.segments += 1;
                self.flaw(file.number, 0..bytes.len(), Part::SegmentHeader);
            } else {
                self.walked.spare_segments += 1;
            }
            return self.tell(Item::Segment(file));
        };
        for copy in Header::bad_copies(&bytes, file.number) {
            self.flaw(file.number, copy, Part::HeaderCopy);
        }
        let source = Source { file, alignment: header.alignment, salt: Salt::new(header.salt), bytes };
        let mut pieces = scan::pieces(&source.bytes, &header, &source.salt, header.data_offset() as usize, None);
        if pieces.is_empty() {
            self.walked.spare_segments += 1;
            return self.tell(Item::Segment(file));
        }
        self.settle_pending();
        self.settle_reused(file.number, pieces.first().and_then(Piece::number));
        self.walked.segments += 1;
        self.walked.used_bytes += pieces.last().map_or(0, |piece| piece.range().end as u64);
        let tail = pieces.pop_if(|last| !matches!(last, Piece::Whole { .. }));
        for piece in &pieces {
            self.piece(&source, piece);
        }
        match tail {
            Some(piece) => self.pending = Some((source, piece)),
            None => {
                self.tell(Item::Segment(file));
                let end = pieces.last().map_or(0, |piece| piece.range().end);
                self.reused = header.recycled.then_some((source, end));
            }
        }
    }

    /// In a segment that was used before, what lies behind the last batch may be of its earlier life. If batches are missing
    /// between it and the next one, records of this life may be among that.
    fn settle_reused(&mut self, next: u64, batch: Option<u64>) {
        let Some((source, end)) = self.reused.take() else { return };
        let missing = self.last.is_some_and(|(segment, last)| segment + 1 == next && batch != Some(last + 1));
        if !missing {
            return;
        }
        let from = end.next_multiple_of(source.alignment as usize).min(source.bytes.len());
        let found = scan::salvage(&source.bytes, from..source.bytes.len(), &source.salt);
        if let Some((offset, record)) = found.records.last() {
            self.last = None;
            self.salvage(&source, from..offset + record.behind.end);
        }
    }

    /// Something follows what could have been torn: it was damaged.
    fn settle_pending(&mut self) {
        if let Some((source, piece)) = self.pending.take() {
            self.piece(&source, &piece);
            self.tell(Item::Segment(source.file));
        }
    }

    /// There is no more: what is not whole at the end is torn.
    pub(super) fn finish(mut self) -> Walked {
        if let Some((source, piece)) = self.pending.take() {
            let range = piece.range();
            self.walked.batches += 1;
            self.walked.torn_bytes = range.len() as u64;
            let found = scan::salvage(&source.bytes, range.clone(), &source.salt);
            let owners = found.records.iter().map(|(offset, r)| owner(source.file.number, *offset, &r.header));
            self.flaw(source.file.number, range, Part::TornEnd(owners.collect()));
            self.tell(Item::Segment(source.file));
        }
        self.walked
    }

    fn piece(&mut self, source: &Source, piece: &Piece) {
        self.walked.batches += 1;
        self.check_number(source, piece);
        match piece {
            Piece::Whole { number, records, .. } => {
                records.iter().for_each(|(offset, record)| self.record(source, *offset, record, Some(*number)));
            }
            Piece::Partial { range, .. } => self.salvage(source, range.start + batch::HEADER_BYTES..range.end),
            Piece::Bad { range } => self.salvage(source, range.clone()),
        }
    }

    /// Numbers go up by one; across segments that can only be told of neighbours, for others may have been freed between.
    fn check_number(&mut self, source: &Source, piece: &Piece) {
        let number = source.file.number;
        let Some(batch) = piece.number() else {
            self.last = None;
            return;
        };
        if let Some((segment, after)) = self.last
            && segment + 1 >= number
            && after + 1 != batch
        {
            let at = piece.range().start;
            self.flaw(number, at..at, Part::MissingBatches { after, before: batch });
        }
        self.last = Some((number, batch));
    }

    /// Tells the records in a damaged range and what lies between them, in order of place.
    fn salvage(&mut self, source: &Source, range: Range<usize>) {
        let found = scan::salvage(&source.bytes, range.clone(), &source.salt);
        let mut records = found.records.iter().peekable();
        for bad in found.bad {
            while let Some((offset, record)) = records.next_if(|(offset, _)| *offset < bad.start) {
                self.record(source, *offset, record, None);
            }
            let what = part(source, &range, &bad, &found.records);
            self.flaw(source.file.number, bad, what);
        }
        records.for_each(|(offset, record)| self.record(source, *offset, record, None));
    }

    fn record(&mut self, source: &Source, offset: usize, record: &Found, batch: Option<u64>) {
        let header = &record.header;
        let bytes = |range: &Range<usize>| &source.bytes[offset + range.start..offset + range.end];
        let body = match (header.body, record.file) {
            (Body::Inline { .. }, _) => SeenBody::Inline { bytes: bytes(&record.behind), intact: record.body_intact },
            (Body::File { bytes, crc }, Some(file)) => SeenBody::File(BodyPlace { file, crc, bytes }),
            _ => SeenBody::None,
        };
        self.tell(Item::Record(Seen {
            position: owner(source.file.number, offset, header).position,
            batch,
            kind: header.kind,
            key: header.key,
            about: header.about,
            live: header.live,
            payload: bytes(&record.payload),
            body,
        }));
    }
}

fn owner(segment: u64, offset: usize, header: &RecordHeader) -> Owner {
    let length = u32::try_from(header.stored_bytes()).unwrap_or(u32::MAX);
    Owner { kind: header.kind, key: header.key, position: Position { segment, offset: offset as u32, length } }
}

/// What a bad place within a damaged range was.
fn part(source: &Source, range: &Range<usize>, bad: &Range<usize>, records: &[(usize, Found)]) -> Part {
    let number = source.file.number;
    let body_of = |(offset, record): &&(usize, Found)| !record.body_intact && offset + record.behind.start == bad.start;
    if let Some((offset, record)) = records.iter().find(body_of) {
        return Part::Body(owner(number, *offset, &record.header));
    }
    let raw = &source.bytes[bad.start..range.end];
    let fits = |header: &RecordHeader| header.stored_bytes() <= raw.len() as u64;
    if let Some(header) = RecordHeader::decode(raw, &source.salt, bad.start as u32).filter(fits) {
        return Part::Payload(owner(number, bad.start, &header));
    }
    // In a range whose batch header is bad, that is what its first bytes were.
    if bad.start.is_multiple_of(source.alignment as usize) && bad.len() <= batch::HEADER_BYTES {
        return Part::BatchHeader;
    }
    // The same fields under a checksum that fits them: what the record says of itself, right or not.
    let Some(mut seeming) = raw.first_chunk::<HEADER_BYTES>().copied() else { return Part::Unknown };
    let checksum = source.salt.checksum(bad.start as u32, &seeming[4..]);
    seeming[..4].copy_from_slice(&checksum.to_le_bytes());
    let header = RecordHeader::decode(&seeming, &source.salt, bad.start as u32);
    // Zeros at the end of a bad place are not counted in.
    let header = header.filter(|header| fits(header) && header.stored_bytes() >= bad.len() as u64);
    Part::RecordHeader(header.map(|header| owner(number, bad.start, &header)))
}
