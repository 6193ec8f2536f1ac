//! Sidecars: what lives in a sealed segment, written beside it, so that a start need not read the segment.
//!
//! A start reads all sidecars and, of the log itself, only what is younger than the oldest of them. So sidecars are written
//! when the log has grown by [`TAIL_SEGMENTS`] segments, or by [`TAIL_SHARE`] times what all of them hold, since the oldest
//! was written: the writing stays a small part of the log's own, and the reading at a start too.
//!
//! **Promises.** A sidecar says what the table says at some time after everything in front of its mark had been applied; changes
//! behind the mark are found in the log at a start, and those that the sidecar has seen already do nothing to it (their numbers
//! tell). The facts of what is in front of the mark are in the event file, synced, before the sidecar is written: what a start
//! does not read, it need not tell. A segment about which nothing has changed is confirmed, not written again.
//!
//! **Fails how.** A sidecar that cannot be written is tried again at the next turn; nothing depends on it but the next start.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Kept;
use super::record::summary::{Summaries, write_keys};
use super::{Queue, table::Table};
use crate::storage::{Mark, Position, SegmentInfo, Sidecar, SidecarError};

/// Sidecars are written when the log has grown by this many segments …
const TAIL_SEGMENTS: u64 = 4;
/// … and by this many times what stands in them.
const TAIL_SHARE: u64 = 4;
/// Bytes written down in one turn, about: what the turn takes in memory.
const TURN_BYTES: usize = 16 * 1024 * 1024;
/// Entries written down between two holds of the table's lock.
const STRIDE: usize = 512;

/// What is known of the sidecars from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Bytes of each segment's sidecar, as far as written since the start.
    bytes: BTreeMap<u64, u64>,
}

/// A sidecar in the making.
struct Draft {
    live: Vec<Position>,
    state: Summaries,
    keys: Vec<Kept>,
}

impl Queue {
    /// Writes the sidecars that are due, or, `all` of those that lack one or are out of date, as before a stop.
    pub(super) async fn checkpoint(&self, all: bool) {
        // One at a time: whoever writes a segment down has taken its entries in hand.
        let known = &mut *self.shared.checkpoints.lock().await;
        // What the log tells a start of those that were taken off the shelf, it must go on telling.
        if self.shared.shelved.is_broken() {
            return;
        }
        let mut tried = BTreeSet::new();
        loop {
            let segments = self.shared.log.segments();
            let exists = |n: u64| segments.binary_search_by_key(&n, |s| s.segment).is_ok();
            self.shared.table.lock().forget_segments(|n| !exists(n) && segments.last().is_some_and(|s| n < s.segment));
            known.bytes.retain(|n, _| exists(*n));
            let mark = self.shared.log.applied();
            if !(all || known.is_due(&segments)) || !self.events_are_synced().await {
                return;
            }
            let (mut due, same) = self.sort(&segments, mark);
            due.retain(|segment| tried.insert(*segment) || !all);
            let written = self.write_some(known, &due, mark).await;
            // Not before: what has been confirmed must not be older than what is left to be written.
            let confirmed = if same.is_empty() { Ok(()) } else { self.confirm(same, mark).await };
            if let Err(e) = written.as_ref().and(confirmed.as_ref()) {
                tracing::warn!(error = %e, "sidecars could not be written: the next start will take longer");
                return;
            }
            // What the turn did not come to is tried in the next one.
            due.iter().skip(written.unwrap_or_default()).for_each(|segment| {
                tried.remove(segment);
            });
            if !all || due.is_empty() {
                return;
            }
        }
    }

    async fn events_are_synced(&self) -> bool {
        let synced = self.shared.events.synced().await;
        if !synced {
            tracing::warn!("the event file could not be synced: no sidecars are written");
        }
        synced
    }

    /// Sealed segments whose sidecars are missing or out of date, those that cover least first, and those whose sidecars
    /// are still right.
    fn sort(&self, segments: &[SegmentInfo], mark: Mark) -> (Vec<u64>, Vec<u64>) {
        let mut table = self.shared.table.lock();
        let (mut due, mut same) = (Vec::new(), Vec::new());
        for s in segments.iter().filter(|s| s.sealed && s.end <= mark) {
            let changed = table.residents(s.segment).is_some_and(|r| r.changed);
            match s.covers {
                Some(_) if !changed => same.push(s.segment),
                covers => due.push((covers.unwrap_or(Mark { segment: s.segment, offset: 0 }), s.segment)),
            }
        }
        due.sort_unstable();
        (due.into_iter().map(|(_, segment)| segment).collect(), same)
    }

    async fn confirm(&self, segments: Vec<u64>, mark: Mark) -> Result<(), SidecarError> {
        let confirmed = self.shared.log.on_disk(move |log| log.confirm_sidecars(&segments, mark)).await;
        confirmed.unwrap_or_else(|e| Err(SidecarError::Io(e)))
    }

    /// Writes sidecars until the turn's share is used up; returns how many.
    async fn write_some(&self, known: &mut Checkpoints, due: &[u64], mark: Mark) -> Result<usize, SidecarError> {
        let mut bytes = 0;
        let mut written = 0;
        let mut keys = self.keys_by_segment(due).await;
        for &segment in due {
            if bytes >= TURN_BYTES {
                break;
            }
            let draft = self.draft(segment, keys.remove(&segment).unwrap_or_default()).await;
            let sidecar = Sidecar {
                segment,
                covers: mark,
                brief: write_keys(&draft.keys),
                live: draft.live,
                state: draft.state.finish(),
            };
            let size = sidecar.brief.len() + sidecar.state.len();
            let written_now = self.shared.log.on_disk(move |log| log.write_sidecar(sidecar)).await;
            match written_now.unwrap_or_else(|e| Err(SidecarError::Io(e))) {
                // Nothing lives there any more.
                Ok(()) | Err(SidecarError::Gone) => {}
                Err(e) => {
                    self.shared.table.lock().changed(segment);
                    return Err(e);
                }
            }
            known.bytes.insert(segment, size as u64);
            (bytes, written) = (bytes + size, written + 1);
        }
        Ok(written)
    }

    /// The keys whose records lie in the segments that are due.
    async fn keys_by_segment(&self, due: &[u64]) -> BTreeMap<u64, Vec<Kept>> {
        let mut found: BTreeMap<u64, Vec<Kept>> = due.iter().map(|&n| (n, Vec::new())).collect();
        let mut from = 0;
        loop {
            {
                let table = self.shared.table.lock();
                let to = table.keys.end().min(from + 16 * STRIDE as u32);
                for key in (from..to).filter_map(|n| table.keys.numbered(n)) {
                    found.get_mut(&key.position.segment).into_iter().for_each(|all| all.push(*key));
                }
                if to == table.keys.end() {
                    return found;
                }
                from = to;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Writes down what lives in a segment. The lock is let go between strides: what changes meanwhile is behind the mark.
    async fn draft(&self, segment: u64, keys: Vec<Kept>) -> Draft {
        let mut draft = Draft { live: keys.iter().map(|k| k.position).collect(), state: Summaries::new(), keys };
        let mut left = self.shared.table.lock().take_residents(segment);
        let mut stay = Vec::with_capacity(left.len());
        while !left.is_empty() {
            {
                let table = self.shared.table.lock();
                for number in left.drain(left.len().saturating_sub(STRIDE)..) {
                    if table.write_down(number, segment, &mut draft) {
                        stay.push(number);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        self.shared.table.lock().give_residents(segment, stay);
        draft
    }
}

impl Checkpoints {
    /// Is what a start would have to read of the log too much?
    fn is_due(&self, segments: &[SegmentInfo]) -> bool {
        let start = |s: &SegmentInfo| Mark { segment: s.segment, offset: 0 };
        let Some(tail_from) = segments.iter().map(|s| s.covers.unwrap_or_else(|| start(s))).min() else { return false };
        let tail = segments.iter().filter(|s| s.end > tail_from).count() as u64;
        let held: u64 = self.bytes.values().sum();
        let whole = segments.iter().map(|s| u64::from(s.end.offset)).max().unwrap_or_default();
        tail > TAIL_SEGMENTS && tail * whole > TAIL_SHARE * held
    }
}

impl Table {
    /// The entries that may live in a segment, each once; what changes from now on makes its sidecar out of date.
    fn take_residents(&mut self, segment: u64) -> Vec<u32> {
        let Some(residents) = self.residents(segment) else { return Vec::new() };
        residents.changed = false;
        let mut entries = std::mem::take(&mut residents.entries);
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    fn give_residents(&mut self, segment: u64, stay: Vec<u32>) {
        if let Some(residents) = self.residents(segment) {
            residents.entries.extend(stay);
        }
    }

    /// Writes an entry down, if it lives in that segment.
    fn write_down(&self, number: u32, segment: u64, draft: &mut Draft) -> bool {
        let Some(entry) = self.entry(number).filter(|e| e.position().segment == segment) else { return false };
        draft.live.push(entry.position());
        draft.state.message(entry.particulars(), &self.clients.name(entry.client), entry.tracks().count());
        for (recipient, track) in entry.numbered() {
            let destination = self.destination(track.ticket).unwrap_or_else(|| "".into());
            draft.state.recipient(track, &destination, self.parts.progress(number, recipient));
        }
        true
    }
}
