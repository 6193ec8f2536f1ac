//! The janitor: a thread that does what the committer must not wait for. It makes segments before they are needed, cuts sealed
//! ones to size, removes segments and files of bodies that nothing needs or lays dead segments aside to be used again, and
//! looks how much space is left.
//!
//! **Promises.**
//! - Segments go by `table.rs`'s rule, and a removal counts only once it has been synced.
//! - Intake never gets the last segment made in advance: when the disk is full, ending and moving what was taken on goes on
//!   in that one, and so frees others.
//! - While less than the reserve is free, no dead segment is kept beyond those that intake and upkeep still want.
//!
//! **Fails how**: no space for a new segment is the committer's to report; a directory that cannot be synced poisons the log.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Purpose;
use super::bodies::BodyFile;
use super::committer::Poison;
use super::disk::{Disk, File};
use super::readers::Readers;
use super::segment::{self, Fresh, Header};
use super::sidecars::Sidecars;
use super::table::Table;

/// How often the space left is looked at when nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Segments made in advance: the next one, and one that is held back for upkeep.
const SPARES: usize = 2;
/// Of these, not for intake.
const HELD_BACK: usize = 1;

/// What is to be done. All of it is bounded by what exists: two spares, sealed segments, live bodies.
#[derive(Debug, Default)]
pub struct Chores {
    state: Mutex<State>,
    changed: Condvar,
    /// Where the log is stepped by hand: who makes a segment at once instead of waiting for a thread.
    #[cfg(test)]
    stepped: std::sync::OnceLock<std::sync::Weak<Mutex<Janitor>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Made in advance, in order of their numbers.
    spares: VecDeque<Fresh>,
    /// Why the last one could not be made.
    failed: Option<ErrorKind>,
    sealed: Vec<(Arc<dyn File>, u64)>,
    files: BTreeSet<BodyFile>,
    look: bool,
    stop: bool,
}

impl State {
    fn wants_spare(&self) -> bool {
        self.spares.len() < SPARES && self.failed.is_none() && !self.stop
    }
}

impl Chores {
    /// The next segment; waits for it if it is still being made. After an error the next call tries again.
    pub fn take_spare(&self, purpose: Purpose) -> io::Result<Fresh> {
        let held_back = if purpose == Purpose::Intake { HELD_BACK } else { 0 };
        let mut state = self.state.lock();
        if state.spares.len() <= held_back {
            // That was when it was made in advance; things may have changed.
            state.failed = None;
            self.changed.notify_all();
        }
        loop {
            if state.spares.len() > held_back
                && let Some(fresh) = state.spares.pop_front()
            {
                self.changed.notify_all();
                return Ok(fresh);
            }
            if let Some(kind) = state.failed {
                return Err(kind.into());
            }
            if state.stop {
                return Err(io::Error::other("the log is closed"));
            }
            self.wait_for_spare(&mut state);
        }
    }

    /// Waits until a segment is there that is held back for upkeep; an error if none can be made.
    pub fn hold_back(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.spares.len() < HELD_BACK {
            state.failed = None;
            self.changed.notify_all();
        }
        while state.spares.len() < HELD_BACK {
            if let Some(kind) = state.failed {
                return Err(kind.into());
            }
            if state.stop {
                return Err(io::Error::other("the log is closed"));
            }
            self.wait_for_spare(&mut state);
        }
        Ok(())
    }

    fn wait_for_spare(&self, state: &mut MutexGuard<'_, State>) {
        #[cfg(test)]
        if let Some(janitor) = self.stepped.get().and_then(std::sync::Weak::upgrade) {
            return MutexGuard::unlocked(state, || janitor.lock().make_spare());
        }
        self.changed.wait(state);
    }

    /// From now on this janitor, which no thread runs, makes segments when they are needed.
    #[cfg(test)]
    pub fn step_with(&self, janitor: &Arc<Mutex<Janitor>>) {
        let _ = self.stepped.set(Arc::downgrade(janitor));
    }

    /// A segment is full: cut it to what was used.
    pub fn sealed(&self, file: Arc<dyn File>, bytes: u64) {
        self.state.lock().sealed.push((file, bytes));
        self.changed.notify_all();
    }

    /// A segment may have become removable, or space free.
    pub fn look(&self) {
        self.state.lock().look = true;
        self.changed.notify_all();
    }

    /// The file of a body is not needed any more.
    pub fn remove_file(&self, file: BodyFile) {
        self.state.lock().files.insert(file);
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub fn spare_is_ready(&self) -> bool {
        self.state.lock().spares.len() == SPARES
    }

    /// Finish what there is and end.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }
}

/// The files of a group's bodies: removed again unless the group was written.
#[derive(Debug)]
pub struct FilesOfGroup {
    files: Vec<BodyFile>,
    chores: Arc<Chores>,
}

impl FilesOfGroup {
    pub fn new(chores: Arc<Chores>) -> Self {
        Self { files: Vec::new(), chores }
    }

    pub fn push(&mut self, file: BodyFile) {
        self.files.push(file);
    }

    /// They belong to records now.
    pub fn keep(&mut self) {
        self.files.clear();
    }
}

impl Drop for FilesOfGroup {
    fn drop(&mut self) {
        for file in self.files.drain(..) {
            self.chores.remove_file(file);
        }
    }
}

/// The thread's own state.
pub struct Janitor {
    pub chores: Arc<Chores>,
    pub table: Arc<Mutex<Table>>,
    pub disk: Arc<dyn Disk>,
    pub segments: PathBuf,
    pub bodies: PathBuf,
    pub segment_bytes: u32,
    pub alignment: u32,
    pub sidecars: Arc<Sidecars>,
    pub readers: Arc<Readers>,
    /// Dead segments laid aside, and how many at most.
    pub old: Vec<PathBuf>,
    pub old_max: usize,
    pub reserve_bytes: u64,
    /// Segments that are gone and whose sidecars are not.
    pub sides: Vec<u64>,
    /// Number of the next segment.
    pub next: u64,
    /// Bytes free, for everybody to read.
    pub available: Arc<AtomicU64>,
    /// A removal could not be made durable: nothing is removed any more, or an end could go before its beginning.
    pub halted: bool,
    pub poison: Arc<Poison>,
}

/// What there was to do when the janitor looked.
struct Round {
    make_spare: bool,
    sealed: Vec<(Arc<dyn File>, u64)>,
    files: BTreeSet<BodyFile>,
    stop: bool,
}

impl Janitor {
    /// Works until told to stop.
    pub fn run(mut self) {
        let _ending = Ending(self.chores.clone());
        loop {
            let round = self.wait();
            if self.work(round) {
                return;
            }
        }
    }

    /// One turn without waiting.
    #[cfg(test)]
    pub fn step(&mut self) {
        let round = Self::round(&mut self.chores.state.lock());
        self.work(round);
    }

    /// Does what there is to do; true once it was told to stop.
    fn work(&mut self, round: Round) -> bool {
        if round.make_spare {
            self.make_spare();
        }
        for (file, bytes) in round.sealed {
            // Only space is at stake; the next start cuts it again.
            if let Err(e) = file.set_length(bytes) {
                tracing::warn!("cutting a full segment to size: {e}");
            }
        }
        for file in round.files {
            remove(&*self.disk, &file.path(&self.bodies));
        }
        self.remove_segments();
        self.sidecars.remove_of(&mut self.sides);
        self.measure();
        self.give_way();
        round.stop
    }

    /// Waits for something to do, or until it is time to look at the space left.
    fn wait(&self) -> Round {
        let mut state = self.chores.state.lock();
        let idle = |s: &State| !(s.wants_spare() || s.look || s.stop) && s.sealed.is_empty() && s.files.is_empty();
        if idle(&state) && self.chores.changed.wait_for(&mut state, LOOK_INTERVAL).timed_out() {
            state.failed = None;
        }
        Self::round(&mut state)
    }

    fn round(state: &mut State) -> Round {
        state.look = false;
        Round {
            make_spare: state.wants_spare(),
            sealed: std::mem::take(&mut state.sealed),
            files: std::mem::take(&mut state.files),
            stop: state.stop,
        }
    }

    fn make_spare(&mut self) {
        let header = Header { number: self.next, salt: fastrand::u64(..), alignment: self.alignment, recycled: false };
        self.next += 1;
        let made = match self.old.pop() {
            Some(old) => Fresh::recycle(&*self.disk, &self.segments, &old, header, self.segment_bytes),
            None => Fresh::create(&*self.disk, &self.segments, header, self.segment_bytes),
        };
        let mut state = self.chores.state.lock();
        match made {
            Ok(fresh) => state.spares.push_back(fresh),
            Err(e) => {
                tracing::warn!("making a segment: {e}");
                state.failed = Some(e.kind());
            }
        }
        drop(state);
        self.chores.changed.notify_all();
    }

    /// Removes what may go, or lays it aside, then what may go because of that, until nothing more may.
    fn remove_segments(&mut self) {
        while !self.halted {
            let mut gone = self.table.lock().removable();
            let laid_aside = self.old.len();
            gone.retain(|n| self.dispose(*n));
            if gone.is_empty() {
                return;
            }
            // Until the removals are durable the segments exist: what speaks of them must stay, and they be left as they are.
            if let Err(e) = self.disk.sync_dir(&self.segments) {
                self.halted = true;
                self.old.truncate(laid_aside);
                return self.poison.poison(&format!("syncing the directory of segments: {e}"));
            }
            let mut table = self.table.lock();
            let with_side: Vec<u64> = gone.iter().copied().filter(|n| table.removed(*n)).collect();
            drop(table);
            gone.into_iter().for_each(|n| self.readers.forget(n));
            self.sides.extend(with_side);
            // There may be room for another now.
            self.chores.state.lock().failed = None;
        }
    }

    /// Takes a segment's name away; true if it is gone.
    fn dispose(&mut self, number: u64) -> bool {
        let whole = self.table.lock().bytes(number) == u64::from(self.segment_bytes);
        if whole && self.old.len() < self.old_wanted() {
            match segment::lay_aside(&*self.disk, &self.segments, number) {
                Ok(old) => {
                    self.old.push(old);
                    return true;
                }
                Err(e) => tracing::warn!(segment = number, "laying a segment aside: {e}"),
            }
        }
        remove(&*self.disk, &segment::path(&self.segments, number))
    }

    /// How many dead segments are worth keeping: when space is short only those that are to be made anyway.
    fn old_wanted(&self) -> usize {
        if self.available.load(Ordering::Relaxed) >= self.reserve_bytes {
            return self.old_max;
        }
        self.old_max.min(SPARES - self.chores.state.lock().spares.len().min(SPARES))
    }

    fn give_way(&mut self) {
        let wanted = self.old_wanted();
        for old in self.old.drain(wanted.min(self.old.len())..) {
            remove(&*self.disk, &old);
        }
    }

    fn measure(&self) {
        match self.disk.available_bytes(&self.segments) {
            Ok(bytes) => self.available.store(bytes, Ordering::Relaxed),
            Err(e) => tracing::warn!("looking how much space is left: {e}"),
        }
    }
}

/// Nobody must wait for a janitor that is gone, not even after a bug.
struct Ending(Arc<Chores>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Removes a file; true if it is not there any more. What could not be removed is tried again at the next look or start.
fn remove(disk: &dyn Disk, path: &Path) -> bool {
    match disk.remove(path) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::NotFound => true,
        Err(e) => {
            tracing::warn!(path = %path.display(), "removing: {e}");
            false
        }
    }
}
