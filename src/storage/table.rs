//! What lives where, and when a segment may go.
//!
//! **The rule.** A segment may be removed when
//! 1. it is sealed (nothing will be written to it any more), and
//! 2. no record in it is live, and
//! 3. no record in it, live or note, is *about* a record in an older segment that still exists, and
//! 4. a younger segment holds a batch.
//!
//! A segment "exists" until its removal has been synced. Why 3: a settlement in segment 6 about a message accepted in
//! segment 5 must be found as long as the acceptance can be found, or the message would begin again. The same holds for a
//! record that was moved: it is about the place it was moved from, so whatever ends it outlives the old place too. A record
//! is only ever about an older one, so the oldest segment is held by nothing but its own live records, and emptying it
//! (see [`Table::leftovers`]) always frees it: the log never waits for itself in a circle. Why 4: only the last batch of all
//! can be torn, and what is damaged must not come to be the last one, for it would be taken for that.
//!
//! **Does not know** files, threads, what a record means.
//! **Costs** 8 bytes per live record.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bodies::BodyFile;
use super::record::{Body, Header, Salt};
use super::sidecar::Facts;
use super::{Leftover, Mark, Position, SegmentInfo, SidecarError};

/// The segments of a log, oldest first.
#[derive(Debug, Default)]
pub struct Table {
    segments: BTreeMap<u64, Segment>,
    /// Bytes of live records, bodies in files of their own not counted.
    live_bytes: u64,
    live_records: u64,
    file_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    salt: Salt,
    sealed: bool,
    /// Bytes of the file.
    bytes: u64,
    /// Where the last batch ends.
    used: u32,
    /// Numbers of the first and the last batch.
    batches: Option<(u64, u64)>,
    side: Option<Side>,
    live: LiveSet,
    /// Older segments that exist and that records in this one are about.
    about: BTreeSet<u64>,
    /// Files of live bodies: record's offset → file, bytes.
    files: HashMap<u32, (BodyFile, u32)>,
}

/// What is known of a segment's sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// Tells this sidecar from those it replaced.
    pub id: u64,
    /// What it covers by its own word.
    pub written: Mark,
    /// What it covers, confirmations included.
    pub covers: Mark,
}

/// Sums over the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub segments: u64,
    pub segment_bytes: u64,
    pub live_records: u64,
    /// Bodies in files of their own included.
    pub live_bytes: u64,
}

impl Table {
    /// A segment exists and is being written; `bytes` are allocated to it.
    pub fn add(&mut self, number: u64, salt: Salt, bytes: u64) {
        let segment = Segment {
            salt,
            sealed: false,
            bytes,
            used: 0,
            batches: None,
            side: None,
            live: LiveSet::default(),
            about: BTreeSet::new(),
            files: HashMap::new(),
        };
        self.segments.insert(number, segment);
    }

    /// A batch lies in a segment and ends at `end`.
    pub fn batch(&mut self, number: u64, batch: u64, end: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.used = segment.used.max(end);
            segment.batches = Some((segment.batches.map_or(batch, |(first, _)| first), batch));
        }
    }

    /// A record lies in a segment. Within a segment records come in order of offset.
    pub fn record(&mut self, position: Position, header: &Header, file: Option<BodyFile>) {
        let about = header.about.map(|a| a.segment).filter(|a| *a < position.segment && self.segments.contains_key(a));
        let Some(segment) = self.segments.get_mut(&position.segment) else { return };
        segment.about.extend(about);
        if !header.live {
            return;
        }
        segment.live.insert(position);
        self.live_records += 1;
        self.live_bytes += u64::from(position.length);
        if let (Some(file), Body::File { bytes, .. }) = (file, header.body) {
            segment.files.insert(position.offset, (file, bytes));
            self.file_bytes += u64::from(bytes);
        }
    }

    /// Nothing will be written to a segment any more behind `used`; the file has been or will be cut to `bytes`.
    pub fn seal(&mut self, number: u64, used: u32, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.sealed = true;
            segment.used = segment.used.max(used);
            segment.bytes = bytes;
            segment.live.entries.shrink_to_fit();
        }
    }

    /// A record is not live any more; says which file of a body died with it. Releasing twice is harmless.
    pub fn release(&mut self, position: Position) -> Released {
        let Some(segment) = self.segments.get_mut(&position.segment) else { return Released::default() };
        let Some(length) = segment.live.remove(position.offset) else { return Released::default() };
        self.live_records -= 1;
        self.live_bytes -= u64::from(length);
        let file = segment.files.remove(&position.offset);
        self.file_bytes -= file.map_or(0, |(_, bytes)| u64::from(bytes));
        Released { file: file.map(|(file, _)| file), frees: segment.may_go() }
    }

    /// Segments that may be removed now. Those listed together do not depend on each other: one sync serves them all.
    pub fn removable(&self) -> Vec<u64> {
        let last = self.segments.iter().rev().find(|(_, s)| s.batches.is_some()).map(|(n, _)| *n);
        self.segments.iter().filter(|(n, s)| s.may_go() && last != Some(**n)).map(|(n, _)| *n).collect()
    }

    /// A segment is gone, durably; what spoke of it speaks of nothing. Says whether it had a sidecar.
    pub fn removed(&mut self, number: u64) -> bool {
        let had_side = self.segments.remove(&number).is_some_and(|s| s.side.is_some());
        for (_, later) in self.segments.range_mut(number..) {
            later.about.remove(&number);
        }
        had_side
    }

    /// Enters a segment as its sidecar has it; `bytes` are in the file. Older ones have been entered before.
    pub fn restore(&mut self, facts: &Facts, covers: Mark, bytes: u64) {
        self.add(facts.segment, Salt::new(facts.salt), bytes);
        let about =
            facts.about.iter().copied().filter(|n| *n < facts.segment && self.segments.contains_key(n)).collect();
        let Some(segment) = self.segments.get_mut(&facts.segment) else { return };
        segment.sealed = true;
        segment.used = facts.used;
        segment.batches = Some((facts.first_batch, facts.last_batch));
        segment.side = Some(Side { id: facts.id, written: facts.covers, covers });
        segment.about = about;
        segment.live.entries.reserve_exact(facts.live.len());
        facts.live.iter().for_each(|position| segment.live.insert(*position));
        segment.files = facts.files.iter().map(|(offset, file, bytes)| (*offset, (*file, *bytes))).collect();
        self.live_records += facts.live.len() as u64;
        self.live_bytes += segment.live.bytes;
        self.file_bytes += facts.files.iter().map(|(.., bytes)| u64::from(*bytes)).sum::<u64>();
    }

    /// What there is to say in a sealed segment's sidecar in which `live` are to live; id and place are the caller's.
    pub fn describe(&self, number: u64, mut live: Vec<Position>) -> Result<Described, SidecarError> {
        let segment = self.segments.get(&number).ok_or(SidecarError::Gone)?;
        let (true, Some((first_batch, last_batch))) = (segment.sealed, segment.batches) else {
            return Err(SidecarError::Open);
        };
        live.sort_unstable();
        live.dedup();
        let mut not_live = Vec::new();
        let mut facts = Facts {
            segment: number,
            salt: segment.salt.value(),
            id: 0,
            covers: segment.side.map_or(Mark::START, |side| side.covers),
            used: segment.used,
            first_batch,
            last_batch,
            live: Vec::with_capacity(live.len()),
            files: Vec::new(),
            about: segment.about.iter().copied().collect(),
        };
        for position in live {
            match segment.live.length(position.offset) {
                _ if position.segment != number => return Err(SidecarError::Unknown(position)),
                Some(length) if length == position.length => {
                    let file = segment.files.get(&position.offset);
                    facts.files.extend(file.map(|(file, bytes)| (position.offset, *file, *bytes)));
                    facts.live.push(position);
                }
                Some(_) => return Err(SidecarError::Unknown(position)),
                None => not_live.push(position),
            }
        }
        Ok(Described { facts, not_live })
    }

    /// Is this a live record?
    pub fn is_live(&self, position: Position) -> bool {
        self.segments.get(&position.segment).is_some_and(|s| s.live.length(position.offset) == Some(position.length))
    }

    /// A segment has this sidecar now; false if there is no such segment.
    pub fn set_side(&mut self, number: u64, side: Side) -> bool {
        let segment = self.segments.get_mut(&number);
        segment.map(|s| s.side = Some(side)).is_some()
    }

    /// The sidecars, oldest segment first.
    pub fn sides(&self) -> Vec<(u64, Side)> {
        self.segments.iter().filter_map(|(n, s)| Some((*n, s.side?))).collect()
    }

    /// The salt of a segment that has a sidecar.
    pub fn salt_of_side(&self, number: u64) -> Option<u64> {
        self.segments.get(&number).filter(|s| s.side.is_some()).map(|s| s.salt.value())
    }

    /// Bytes of a segment's file.
    pub fn bytes(&self, number: u64) -> u64 {
        self.segments.get(&number).map_or(0, |s| s.bytes)
    }

    /// The salt of a segment that exists.
    pub fn salt(&self, number: u64) -> Option<Salt> {
        self.segments.get(&number).map(|s| s.salt.clone())
    }

    /// Sealed segments with live records that are worth emptying, oldest first:
    /// - those whose live bytes are under `percent` of `segment_bytes` (a full segment: many small ones, as restarts leave
    ///   them, are thus merged as well);
    /// - the oldest one, whatever its share, while all segments together are over 100 / `percent` times the live bytes plus
    ///   four segments: what it holds, holds its successors by rule 3. This bounds the disk's use by that factor.
    pub fn leftovers(&self, percent: u8, segment_bytes: u32, most: usize) -> Vec<Leftover> {
        let share = u64::from(percent);
        let bound = self.live_bytes.saturating_mul(100) / share.max(1) + 4 * u64::from(segment_bytes);
        let oldest = self.segments.keys().next().copied().filter(|_| self.totals().segment_bytes > bound);
        let sparse = |s: &Segment| s.live.bytes.saturating_mul(100) < share * u64::from(segment_bytes);
        self.segments
            .iter()
            .filter(|(n, s)| s.sealed && !s.live.is_empty() && (sparse(s) || oldest == Some(**n)))
            .take(most)
            .map(|(n, s)| Leftover { segment: *n, live: s.live.iter(*n).collect() })
            .collect()
    }

    /// The segments, oldest first.
    pub fn infos(&self) -> Vec<SegmentInfo> {
        let info = |(number, s): (&u64, &Segment)| SegmentInfo {
            segment: *number,
            sealed: s.sealed,
            end: Mark { segment: *number, offset: s.used },
            live_records: (s.live.entries.len() - s.live.dead) as u64,
            live_bytes: s.live.bytes,
            covers: s.side.map(|side| side.covers),
        };
        self.segments.iter().map(info).collect()
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        Totals {
            segments: self.segments.len() as u64,
            segment_bytes: self.segments.values().map(|s| s.bytes).sum(),
            live_records: self.live_records,
            live_bytes: self.live_bytes + self.file_bytes,
        }
    }
}

/// What a sealed segment's sidecar is to say.
#[derive(Debug)]
pub struct Described {
    pub facts: Facts,
    /// Named as live, and not live now.
    pub not_live: Vec<Position>,
}

/// What a release has set free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Released {
    /// The file of its body.
    pub file: Option<BodyFile>,
    /// Its segment.
    pub frees: bool,
}

impl Segment {
    fn may_go(&self) -> bool {
        self.sealed && self.live.is_empty() && self.about.is_empty()
    }
}

/// Live records of one segment in order of offset. Dead ones are marked, and swept out when they are the greater part.
#[derive(Debug, Default)]
struct LiveSet {
    entries: Vec<Entry>,
    dead: usize,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    /// Its length, and whether it is dead in the highest bit: a segment has at most 1 GiB.
    length: u32,
}

const DEAD: u32 = 1 << 31;

impl Entry {
    fn is_dead(self) -> bool {
        self.length & DEAD != 0
    }
}

impl LiveSet {
    fn insert(&mut self, position: Position) {
        debug_assert!(self.entries.last().is_none_or(|last| last.offset < position.offset));
        self.entries.push(Entry { offset: position.offset, length: position.length & !DEAD });
        self.bytes += u64::from(position.length);
    }

    /// The length of a record that lives.
    fn length(&self, offset: u32) -> Option<u32> {
        let at = self.entries.binary_search_by_key(&offset, |e| e.offset).ok()?;
        self.entries.get(at).filter(|e| !e.is_dead()).map(|e| e.length)
    }

    /// Removes a record and returns its length.
    fn remove(&mut self, offset: u32) -> Option<u32> {
        let at = self.entries.binary_search_by_key(&offset, |e| e.offset).ok()?;
        let entry = self.entries.get_mut(at).filter(|e| !e.is_dead())?;
        let length = entry.length;
        entry.length |= DEAD;
        self.bytes -= u64::from(length);
        self.dead += 1;
        if self.dead * 2 > self.entries.len() {
            self.entries.retain(|e| !e.is_dead());
            self.entries.shrink_to(self.entries.len() * 2);
            self.dead = 0;
        }
        Some(length)
    }

    fn is_empty(&self) -> bool {
        self.entries.len() == self.dead
    }

    fn iter(&self, segment: u64) -> impl Iterator<Item = Position> {
        let live = self.entries.iter().filter(|e| !e.is_dead());
        live.map(move |e| Position { segment, offset: e.offset, length: e.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u32) -> Position {
        Position { segment, offset, length: 100 }
    }

    fn header(live: bool, about: Option<Position>) -> Header {
        Header { kind: 1, live, key: [9; 16], about, payload_bytes: 44, payload_crc: 0, body: Body::None }
    }

    fn table(segments: u64) -> Table {
        let mut table = Table::default();
        for n in 1..=segments {
            table.add(n, Salt::new(n), 1000);
        }
        table
    }

    #[test]
    fn a_settlement_outlives_what_it_settles() {
        let mut t = table(3);
        let (kept, settled) = (at(1, 0), at(1, 100));
        t.record(kept, &header(true, None), None);
        t.record(settled, &header(true, None), None);
        t.record(at(2, 0), &header(false, Some(settled)), None);
        t.seal(1, 200, 200);
        t.seal(2, 100, 100);
        t.release(settled);
        // Segment 2 holds nothing live, but without it `settled` would begin again: segment 1 still exists.
        assert!(t.removable().is_empty());
        assert!(t.release(kept).frees);
        assert_eq!(t.removable(), [1]);
        // Not before the removal of 1 is durable.
        t.removed(1);
        assert_eq!(t.removable(), [2]);
        t.removed(2);
        assert!(t.removable().is_empty());
        assert_eq!(t.totals().segments, 1);
    }

    #[test]
    fn a_moved_record_keeps_what_ends_it_until_its_old_place_is_gone() {
        let mut t = table(3);
        let (old, new, other) = (at(1, 0), at(2, 0), at(1, 100));
        t.record(old, &header(true, None), None);
        t.record(other, &header(true, None), None);
        t.record(new, &header(true, Some(old)), None);
        t.record(at(3, 0), &header(false, Some(new)), None);
        for n in 1..=3 {
            t.seal(n, 200, 200);
        }
        t.release(old);
        t.release(new);
        assert!(t.removable().is_empty(), "`old` is still found in 1, so 2 and with it 3 must stay");
        t.release(other);
        for n in 1..=3 {
            assert_eq!(t.removable(), [n]);
            t.removed(n);
        }
    }

    #[test]
    fn an_open_segment_stays_and_notes_about_the_same_or_no_segment_hold_nothing() {
        let mut t = table(2);
        t.record(at(1, 0), &header(true, None), None);
        t.record(at(1, 100), &header(false, Some(at(1, 0))), None);
        t.record(at(2, 0), &header(false, Some(at(7, 0))), None);
        t.record(at(2, 100), &header(false, None), None);
        assert!(!t.release(at(1, 0)).frees);
        assert!(t.removable().is_empty());
        t.seal(1, 200, 200);
        t.seal(2, 200, 200);
        assert_eq!(t.removable(), [1, 2]);
    }

    #[test]
    fn the_segment_of_the_last_batch_stays_until_there_is_a_later_one() {
        let mut t = table(3);
        t.batch(1, 1, 100);
        t.batch(2, 2, 100);
        for n in 1..=3 {
            t.seal(n, 100, 100);
        }
        // Nothing was ever written to the third.
        assert_eq!(t.removable(), [1, 3]);
        t.batch(3, 3, 100);
        assert_eq!(t.removable(), [1, 2]);
    }

    #[test]
    fn releasing_twice_or_nothing_is_harmless() {
        let mut t = table(1);
        let file = BodyFile { key: [9; 16], number: 3 };
        let mut with_file = header(true, None);
        with_file.body = Body::File { bytes: 5000, crc: 0 };
        t.record(at(1, 0), &with_file, Some(file));
        t.record(at(1, 100), &header(true, None), None);
        assert_eq!(t.totals().live_bytes, 5200);
        assert_eq!(t.release(at(1, 0)), Released { file: Some(file), frees: false });
        assert_eq!(t.release(at(1, 0)), Released::default());
        assert_eq!(t.release(at(1, 50)), Released::default());
        assert_eq!(t.release(at(4, 0)), Released::default());
        let totals = t.totals();
        assert_eq!((totals.live_records, totals.live_bytes), (1, 100));
    }

    #[test]
    fn sparse_segments_are_offered_with_what_lives_in_them() {
        let mut t = table(3);
        for n in 1..=3 {
            for offset in 0..5 {
                t.record(at(n, offset * 100), &header(true, None), None);
            }
        }
        t.seal(1, 500, 500);
        t.seal(2, 500, 500);
        for offset in 0..4 {
            t.release(at(1, offset * 100));
            t.release(at(3, offset * 100));
        }
        // 100 of 1,000 bytes live in 1, 500 in 2; 3 is still open.
        let offered = t.leftovers(20, 1000, 10);
        assert_eq!(offered.len(), 1);
        assert_eq!(offered[0].segment, 1);
        assert_eq!(offered[0].live, [at(1, 400)]);
        assert_eq!(t.leftovers(60, 1000, 10).len(), 2);
        assert_eq!(t.leftovers(60, 1000, 1).len(), 1);
    }

    #[test]
    fn the_oldest_is_offered_when_it_holds_too_many_successors() {
        let mut t = table(1);
        for n in 0..8 {
            t.record(at(1, n * 100), &header(true, None), None);
        }
        t.seal(1, 1000, 1000);
        // A chain: what was accepted in one segment ended in the next, so each is held by the one before.
        for n in 2..=20 {
            t.add(n, Salt::new(n), 1000);
            t.record(at(n, 0), &header(false, Some(at(n - 1, 0))), None);
            t.seal(n, 1000, 1000);
            let offered: Vec<u64> = t.leftovers(20, 1000, 10).iter().map(|l| l.segment).collect();
            // 800 live bytes at 20 % are worth 4,000 on disk, and four segments come on top.
            assert_eq!(offered, if n <= 8 { vec![] } else { vec![1] }, "{n}");
        }
        for n in 0..8 {
            t.release(at(1, n * 100));
        }
        for n in 1..=20 {
            assert_eq!(t.removable(), [n]);
            t.removed(n);
        }
    }

    #[test]
    fn sweeping_dead_entries_loses_none_that_live() {
        let mut t = table(1);
        for n in 0..1000 {
            t.record(at(1, n * 100), &header(true, None), None);
        }
        let mut random = fastrand::Rng::with_seed(5);
        let mut order: Vec<u32> = (0..1000).collect();
        random.shuffle(&mut order);
        for (gone, n) in order.iter().enumerate() {
            assert_eq!(t.totals().live_records as usize, 1000 - gone);
            t.release(at(1, n * 100));
        }
        assert_eq!(t.totals().live_bytes, 0);
        assert_eq!(std::mem::size_of::<Entry>(), 8);
    }
}
