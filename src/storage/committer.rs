//! The committer: the one thread that writes the log. It takes everything that waits, writes it as one batch, syncs once,
//! and answers everybody. No timer: while one sync runs the next batch gathers, so load makes batches by itself.
//!
//! **Promises.** An answer is given only after the sync; batch n + 1 is written only after batch n is synced.
//! **Fails how.** A write that found no space is undone by cutting the file back, and the groups are refused
//! ([`AppendError::Full`]); the next batch goes to the same place under the same number. Any other failed write, and every
//! failed sync, poisons the log: what is on disk is not known any more, and the kernel may forget what it could not write, so
//! nothing is tried again. A panic poisons as well.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::applied::Ledger;
use super::batch::{self, Frame};
use super::disk::File;
use super::figures::Figures;
use super::inbox::{Inbox, Submission};
use super::janitor::Chores;
use super::record::{Behind, Salt};
use super::segment::{Fresh, align_up};
use super::table::Table;
use super::{AppendError, Appended, Mark, Position, Purpose};
use crate::clock::SharedClock;

/// Proof that something is on stable storage. Only the committer makes one, after an fsync.
#[derive(Clone, Debug)]
pub struct Durable(());

impl Durable {
    /// Recovery's word: what it handed out is on stable storage, since it wrote again and synced what might not have been.
    pub(super) fn of_recovered() -> Self {
        Self(())
    }
}

/// The way to say that the log must take no more.
#[derive(Debug)]
pub struct Poison {
    pub inbox: Arc<Inbox>,
    pub poisoned: watch::Sender<bool>,
}

impl Poison {
    /// Says it, first to those who watch, then to those who wait.
    pub fn poison(&self, why: &str) {
        if !self.poisoned.send_replace(true) {
            tracing::error!("storage takes no more until restarted: {why}");
        }
        self.inbox.close(AppendError::Poisoned);
    }
}

/// The thread's own state.
pub struct Committer {
    pub inbox: Arc<Inbox>,
    pub chores: Arc<Chores>,
    pub table: Arc<Mutex<Table>>,
    pub figures: Arc<Figures>,
    pub ledger: Arc<Ledger>,
    pub clock: SharedClock,
    pub poison: Arc<Poison>,
    pub batch_bytes_max: usize,
    pub segment_bytes: u32,
    /// Dead segments are used again.
    pub recycles: bool,
    /// The segment being written; none before the first batch.
    pub current: Option<Current>,
    pub next_batch: u64,
}

/// The segment being written.
pub struct Current {
    number: u64,
    salt: Salt,
    alignment: u32,
    file: Arc<dyn File>,
    /// Where the last batch began, and where it ended.
    last: u32,
    used: u32,
    /// It may be the segment that was held back for upkeep.
    held_back: bool,
}

/// A segment of which less than this part is left is not cut to size.
const UNCUT_SHARE: u32 = 8;

/// Why a batch was not committed.
enum Trouble {
    /// No space, and nothing of it is left behind.
    Full,
    /// Not known what is on disk.
    Fatal(&'static str, io::Error),
}

impl Committer {
    /// Works until the inbox is closed and empty.
    pub fn run(mut self) {
        let _ending = Ending { chores: self.chores.clone(), poison: self.poison.clone() };
        loop {
            let taken = self.inbox.take(self.batch_bytes_max);
            if taken.is_empty() {
                return;
            }
            self.work(taken);
        }
    }

    /// One turn without waiting; false if there was nothing to do.
    #[cfg(test)]
    pub fn step(&mut self) -> bool {
        let taken = self.inbox.take_now(self.batch_bytes_max);
        let some = !taken.is_empty();
        if some {
            self.work(taken);
        }
        some
    }

    /// Commits what was taken as one batch and answers everybody.
    fn work(&mut self, taken: Vec<Submission>) {
        match self.commit(&taken) {
            Ok(offsets) => self.answer(taken, &offsets),
            Err(Trouble::Full) => self.squeeze(taken),
            Err(Trouble::Fatal(doing, e)) => {
                self.poison.poison(&format!("{doing}: {e}"));
                taken.into_iter().for_each(|s| s.refuse(AppendError::Poisoned));
            }
        }
    }

    /// There is no space for all of these. What ends old work may still find some: it has a segment held back for it.
    fn squeeze(&mut self, taken: Vec<Submission>) {
        let is_upkeep = |s: &Submission| s.purpose == Purpose::Upkeep;
        let (upkeep, intake): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_upkeep);
        let again = !intake.is_empty() && !upkeep.is_empty();
        intake.into_iter().for_each(|s| s.refuse(AppendError::Full));
        if again {
            self.work(upkeep);
        } else {
            upkeep.into_iter().for_each(|s| s.refuse(AppendError::Full));
        }
    }

    /// Writes and syncs one batch; returns the offset of each record.
    fn commit(&mut self, taken: &[Submission]) -> Result<Vec<u32>, Trouble> {
        let bytes = taken.iter().map(|s| s.bytes).sum::<u64>() + batch::HEADER_BYTES as u64;
        let number = self.next_batch;
        let (clock, figures) = (self.clock.clone(), self.figures.clone());
        let upkeep = taken.iter().all(|s| s.purpose == Purpose::Upkeep);
        let current = self.room_for(bytes, if upkeep { Purpose::Upkeep } else { Purpose::Intake })?;
        let start = align_up(current.used, current.alignment);
        let mut frame = Frame::new(&current.salt, number, start, bytes as usize);
        let offsets = taken.iter().flat_map(|s| &s.records).map(|record| frame.push(record)).collect();

        let began = clock.mono();
        if let Err(e) = current.file.write_at(&mut frame.parts(), u64::from(start)) {
            return Err(undo(current, start, e));
        }
        current.file.sync().map_err(|e| Trouble::Fatal("syncing a segment", e))?;
        figures.synced(clock.mono().since(began).as_micros() as u64);

        (current.last, current.used) = (start, start + frame.bytes());
        self.next_batch += 1;
        figures.batches.fetch_add(1, Ordering::Relaxed);
        figures.groups.fetch_add(taken.len() as u64, Ordering::Relaxed);
        figures.records.fetch_add(u64::from(frame.records()), Ordering::Relaxed);
        figures.bytes.fetch_add(u64::from(frame.bytes()), Ordering::Relaxed);
        Ok(offsets)
    }

    /// The segment that the next batch goes to; seals the one before if it is full.
    fn room_for(&mut self, bytes: u64, purpose: Purpose) -> Result<&mut Current, Trouble> {
        if purpose == Purpose::Intake
            && let Some(current) = self.current.as_mut().filter(|current| current.held_back)
        {
            // Upkeep is writing in what was held back for it: intake may join once there is another.
            self.chores.hold_back().map_err(no_segment)?;
            current.held_back = false;
        }
        let fits = |c: &Current| u64::from(align_up(c.used, c.alignment)) + bytes <= u64::from(self.segment_bytes);
        if !self.current.as_ref().is_some_and(fits) {
            // First the new one: if there is none the old one can still take smaller batches.
            let next = self.chores.take_spare(purpose).map_err(no_segment)?;
            let next = Current::begin(next, purpose == Purpose::Upkeep);
            let mut table = self.table.lock();
            table.add(next.number, next.salt.clone(), u64::from(self.segment_bytes));
            if let Some(full) = self.current.replace(next) {
                // A small rest is left, so that the segment can be used again as it is.
                let rest = self.segment_bytes.saturating_sub(full.used);
                let cut = !self.recycles || rest > self.segment_bytes / UNCUT_SHARE;
                let bytes = if cut { full.used } else { self.segment_bytes };
                table.seal(full.number, full.used, u64::from(bytes));
                drop(table);
                if cut {
                    self.chores.sealed(full.file, u64::from(bytes));
                }
            }
        }
        self.current.as_mut().ok_or_else(|| Trouble::Fatal("making a segment", ErrorKind::NotFound.into()))
    }

    /// Enters the records into the table, then tells everybody.
    fn answer(&self, mut taken: Vec<Submission>, offsets: &[u32]) {
        let Some(&Current { number: segment, last, used, .. }) = self.current.as_ref() else { return };
        let (start, end) = (Mark { segment, offset: last }, Mark { segment, offset: used });
        let guards = self.ledger.durable(start, end, taken.len());
        let mut offsets = offsets.iter();
        let mut table = self.table.lock();
        table.batch(segment, self.next_batch - 1, used);
        let positions: Vec<Vec<Position>> = taken
            .iter_mut()
            .map(|submission| {
                submission.files.keep();
                let place = |(record, offset): (&super::record::Encoded, &u32)| {
                    let length = record.header.stored_bytes() as u32;
                    let position = Position { segment, offset: *offset, length };
                    let file = if let Behind::File(file) = record.behind { Some(file) } else { None };
                    table.record(position, &record.header, file);
                    position
                };
                submission.records.iter().zip(offsets.by_ref()).map(place).collect()
            })
            .collect();
        drop(table);
        for ((submission, positions), pending) in taken.into_iter().zip(positions).zip(guards) {
            (submission.done)(Ok(Appended { durable: Durable(()), positions, pending }));
        }
    }
}

impl Current {
    fn begin(fresh: Fresh, held_back: bool) -> Self {
        Self {
            held_back,
            number: fresh.header.number,
            salt: Salt::new(fresh.header.salt),
            alignment: fresh.header.alignment,
            last: fresh.header.data_offset(),
            used: fresh.header.data_offset(),
            file: fresh.file,
        }
    }
}

/// Takes back a write that failed, if that is safe: only for want of space, and only if the file can be cut to what it held.
/// Durably: if the next batch went to another segment, a part of this one would look damaged, and what was refused be found.
fn undo(current: &Current, start: u32, e: io::Error) -> Trouble {
    if is_no_space(&e) && current.file.set_length(u64::from(start)).and_then(|()| current.file.sync()).is_ok() {
        return Trouble::Full;
    }
    Trouble::Fatal("writing a segment", e)
}

fn no_segment(e: io::Error) -> Trouble {
    if is_no_space(&e) { Trouble::Full } else { Trouble::Fatal("making a segment", e) }
}

fn is_no_space(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// However the thread ends, nobody must wait for it.
struct Ending {
    chores: Arc<Chores>,
    poison: Arc<Poison>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.poison.poison("a bug: the committer panicked");
        }
        self.chores.stop();
    }
}
