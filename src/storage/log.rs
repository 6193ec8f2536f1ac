//! The front of the log: opening, appending, reading, releasing. Everything here runs on its caller's thread; checksums and
//! the files of large bodies are made here, in parallel, and the committer gets what only needs writing.

mod reading;

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use super::applied::Ledger;
use super::batch;
use super::bodies::BodyFile;
use super::committer::{Committer, Poison};
use super::disk::Disk;
use super::figures::Figures;
use super::inbox::{Done, Inbox, Submission};
use super::janitor::{Chores, FilesOfGroup, Janitor};
use super::readers::Readers;
use super::record::{Encoded, HEADER_BYTES};
use super::recovery::{self, Directories};
use super::sidecars::Sidecars;
use super::table::Table;
use super::{
    AppendError, Appended, Durable, Leftover, Mark, OpenError, Options, Position, Purpose, ReadError, Record,
    Recovered, RecoveryReport, SegmentInfo, Sidecar, SidecarError, Stats,
};
use crate::clock::SharedClock;
use crate::limits;

pub use reading::Reading;

/// The log. Cheap to clone; when the last clone goes, what was taken is written and the threads end.
#[derive(Clone, Debug)]
pub struct Log(Arc<Front>);

struct Front {
    options: Options,
    directories: Directories,
    disk: Arc<dyn Disk>,
    inbox: Arc<Inbox>,
    chores: Arc<Chores>,
    table: Arc<Mutex<Table>>,
    figures: Arc<Figures>,
    ledger: Arc<Ledger>,
    poison: Arc<Poison>,
    /// Threads that still run.
    running: watch::Receiver<u8>,
    available: Arc<AtomicU64>,
    readers: Arc<Readers>,
    sidecars: Arc<Sidecars>,
    body_writers: Arc<Semaphore>,
    next_body: AtomicU64,
    _lock: Lock,
}

/// The directory stays locked until both threads and the front are gone.
type Lock = Arc<Box<dyn fmt::Debug + Send + Sync>>;

impl Log {
    /// Opens the log in `dir`, making it if need be, and hands every intact record to `visit` in order of commit.
    /// Blocks; call it before serving.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        dir: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
        clock: SharedClock,
        visit: &mut dyn FnMut(Recovered),
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let Opened { front, committer, janitor, started, report } = open(dir, options, disk, clock, visit)?;
        let lock = front._lock.clone();
        spawn("log-janitor", lock.clone(), started.clone(), move || janitor.run())?;
        spawn("log-committer", lock, started, move || committer.run()).inspect_err(|_| front.chores.stop())?;
        Ok((Self(Arc::new(front)), report))
    }

    /// Proof that everything handed out by [`Log::open`] is on stable storage.
    pub fn recovered(&self) -> Durable {
        Durable::of_recovered()
    }

    /// Appends a group and returns once it is on stable storage. Waits while too much else waits. A future that is dropped
    /// does not withdraw a group that had been handed over, and [`Log::applied`] then stays in front of that group: who must
    /// learn the positions uses [`Log::append_then`], or lets a task of its own wait.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, purpose: Purpose, group: Vec<Record>) -> Result<Appended, AppendError> {
        let plan = self.0.plan(purpose, group)?;
        let admission = self.0.inbox.admit(purpose, plan.bytes, plan.records.len()).await?;
        let (records, files) = if plan.has_files {
            let writers = self.0.body_writers.clone();
            let _permit = writers.acquire_owned().await.map_err(|_| AppendError::Closed)?;
            let front = self.0.clone();
            let write = move || front.encode(plan.records);
            self.blocking(write).await.unwrap_or(Err(AppendError::Body))?
        } else {
            self.0.encode(plan.records)?
        };
        let (answer, answered) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Nobody may be waiting any more.
            let _ = answer.send(result);
        });
        self.0.inbox.push(Submission { purpose, records, bytes: plan.bytes, done, files, _admission: admission })?;
        let mut appended = answered.await.unwrap_or(Err(AppendError::Poisoned))?;
        appended.pending.hand_over();
        Ok(appended)
    }

    /// Appends a group without waiting; `done` is called on a thread of the log after the sync, and must be quick and not
    /// panic. The file of a large body is written before this returns.
    ///
    /// # Errors
    /// [`AppendError`]; then `done` is never called. [`AppendError::Busy`] if too much else waits.
    pub fn append_then(
        &self,
        purpose: Purpose,
        group: Vec<Record>,
        done: Box<dyn FnOnce(Result<Appended, AppendError>) + Send>,
    ) -> Result<(), AppendError> {
        let plan = self.0.plan(purpose, group)?;
        let admission = self.0.inbox.try_admit(purpose, plan.bytes, plan.records.len())?;
        let (records, files) = self.0.encode(plan.records)?;
        let done: Done = Box::new(move |mut result| {
            result.iter_mut().for_each(|appended| appended.pending.hand_over());
            done(result);
        });
        self.0.inbox.push(Submission { purpose, records, bytes: plan.bytes, done, files, _admission: admission })
    }

    /// Where the disk may block, not on a thread of the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        if self.0.disk.may_block() { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
    }

    /// A live record is not needed any more: what ended it is durable, or it lives on elsewhere in the log. Releasing what
    /// was released before is harmless. After a start everything handed out as live is so until released anew.
    pub fn release(&self, position: Position) {
        let released = self.0.table.lock().release(position);
        if let Some(file) = released.file {
            self.0.chores.remove_file(file);
        }
        if released.frees {
            self.0.chores.look();
        }
    }

    /// Everything in front of this has been applied: no group in front of it is still [`Appended::pending`]. The end of the
    /// log if there is none at all. What was handed out by [`Log::open`] counts as applied. Cheap; never goes back.
    pub fn applied(&self) -> Mark {
        self.0.ledger.applied()
    }

    /// Groups up to so many bytes of payloads are taken, where no record has less than 64 of them or a body.
    pub fn group_bytes_max(&self) -> usize {
        self.0.options.batch_bytes_max / 2 - batch::HEADER_BYTES
    }

    /// The segments in use, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.0.table.lock().infos()
    }

    /// Writes down what the owner knows of a sealed segment, in place of what was written before, so that the next start need
    /// not read it. Blocks.
    ///
    /// # Errors
    /// [`SidecarError`].
    pub fn write_sidecar(&self, sidecar: Sidecar) -> Result<(), SidecarError> {
        self.0.sidecars.write(sidecar)
    }

    /// Says of the sidecars of these segments that nothing has changed since: they cover everything in front of `covers`.
    /// Segments that are gone or have no sidecar are passed over. Blocks; one small file for all of them.
    ///
    /// # Errors
    /// [`SidecarError`].
    pub fn confirm_sidecars(&self, segments: &[u64], covers: Mark) -> Result<(), SidecarError> {
        self.0.sidecars.confirm(segments, covers)
    }

    /// The state in a segment's newest sidecar. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]; `Gone` if the segment has no sidecar, or not any more.
    pub fn sidecar_state(&self, segment: u64) -> Result<Bytes, ReadError> {
        self.0.sidecars.state(segment)
    }

    /// Closed segments worth emptying, oldest first, at most `most`: append each live record anew with its present state,
    /// `about` the old one, and release the old one once that is durable. Not while a record about the old place is on its way
    /// (a lease is out): what ends a message must be about its newest record, or it would be forgotten with the old segment.
    pub fn leftovers(&self, most: usize) -> Vec<Leftover> {
        let options = &self.0.options;
        self.0.table.lock().leftovers(options.leftover_percent, options.segment_bytes, most)
    }

    /// Becomes true when a write or sync has failed; nothing is taken any more then.
    pub fn poisoned(&self) -> watch::Receiver<bool> {
        self.0.poison.poisoned.subscribe()
    }

    /// False while less than [`Options::reserve_bytes`] are free: intake is refused.
    pub fn has_space(&self) -> bool {
        self.0.available.load(Ordering::Relaxed) >= self.0.options.reserve_bytes
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        self.0.figures.stats(self.0.table.lock().totals(), self.0.available.load(Ordering::Relaxed))
    }

    /// Takes no more, writes and syncs what was taken, ends the threads. Reads go on. The directory stays locked until the
    /// last clone is dropped.
    pub async fn shutdown(&self) {
        self.0.inbox.close(AppendError::Closed);
        let mut running = self.0.running.clone();
        // An error means that both threads are gone as well.
        let _ = running.wait_for(|threads| *threads == 0).await;
    }
}

#[cfg(test)]
impl Log {
    /// As [`Log::open`], but without threads: nothing happens unless [`Stepped`] is told to.
    pub fn open_stepped(
        dir: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
        clock: SharedClock,
        visit: &mut dyn FnMut(Recovered),
    ) -> Result<(Self, Stepped, RecoveryReport), OpenError> {
        let Opened { front, committer, janitor, started, report } = open(dir, options, disk, clock, visit)?;
        started.send_replace(1);
        let janitor = Arc::new(Mutex::new(janitor));
        front.chores.step_with(&janitor);
        let stepped = Stepped { committer, janitor, inbox: front.inbox.clone(), running: started };
        Ok((Self(Arc::new(front)), stepped, report))
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.inbox.waiting()
    }

    pub(super) fn spare_is_ready(&self) -> bool {
        self.0.chores.spare_is_ready()
    }

    pub(super) fn look_for_space(&self) {
        self.0.chores.look();
    }
}

/// Everything an open log consists of, before its threads run.
struct Opened {
    front: Front,
    committer: Committer,
    janitor: Janitor,
    /// Counts threads that run.
    started: Arc<watch::Sender<u8>>,
    report: RecoveryReport,
}

fn open(
    dir: &Path,
    options: Options,
    disk: Arc<dyn Disk>,
    clock: SharedClock,
    visit: &mut dyn FnMut(Recovered),
) -> Result<Opened, OpenError> {
    options.check()?;
    let directories = Directories::make(&*disk, dir)?;
    let path = dir.join("lock");
    let lock = disk.lock(&path).map_err(OpenError::io("lock", &path))?.ok_or(OpenError::InUse(dir.into()))?;
    let began = clock.mono();
    let mut recovered = recovery::recover(&directories, &*disk, visit)?;
    recovered.report.time = clock.mono().since(began);

    let inbox = Arc::new(Inbox::new(options.queue_bytes_max));
    let poison = Arc::new(Poison { inbox: inbox.clone(), poisoned: watch::Sender::new(false) });
    let chores = Arc::new(Chores::default());
    let table = Arc::new(Mutex::new(recovered.table));
    let figures = Arc::new(Figures::default());
    figures.damaged.store(recovered.report.damage.len() as u64, Ordering::Relaxed);
    // What was handed out has been taken over by whoever visited it.
    let ledger = Arc::new(Ledger::new(Mark { segment: recovered.next_segment, offset: 0 }));
    let available = disk.available_bytes(dir).map_err(OpenError::io("look for space in", dir))?;
    let available = Arc::new(AtomicU64::new(available));

    let readers = Arc::new(Readers::default());
    let sidecars = Arc::new(Sidecars {
        disk: disk.clone(),
        dir: directories.segments.clone(),
        table: table.clone(),
        ledger: ledger.clone(),
        poison: poison.clone(),
        changing: Mutex::default(),
    });

    let committer = Committer {
        inbox: inbox.clone(),
        chores: chores.clone(),
        table: table.clone(),
        figures: figures.clone(),
        ledger: ledger.clone(),
        clock,
        poison: poison.clone(),
        batch_bytes_max: options.batch_bytes_max,
        segment_bytes: options.segment_bytes,
        recycles: options.spare_segments > 0,
        current: None,
        next_batch: recovered.next_batch,
    };
    let janitor = Janitor {
        chores: chores.clone(),
        table: table.clone(),
        disk: disk.clone(),
        segments: directories.segments.clone(),
        bodies: directories.bodies.clone(),
        segment_bytes: options.segment_bytes,
        alignment: options.alignment,
        sidecars: sidecars.clone(),
        readers: readers.clone(),
        old: Vec::new(),
        old_max: options.spare_segments,
        reserve_bytes: options.reserve_bytes,
        sides: Vec::new(),
        next: recovered.next_segment,
        available: available.clone(),
        halted: false,
        poison: poison.clone(),
    };
    let lock: Lock = Arc::new(lock);
    let (started, running) = watch::channel(0);
    let front = Front {
        body_writers: Arc::new(Semaphore::new(options.body_writers)),
        next_body: AtomicU64::new(fastrand::u64(..)),
        readers,
        sidecars,
        _lock: lock,
        options,
        directories,
        disk,
        inbox,
        chores,
        table,
        figures,
        ledger,
        poison,
        running,
        available,
    };
    Ok(Opened { front, committer, janitor, started: Arc::new(started), report: recovered.report })
}

/// The log's two workers, turned by hand on the test's thread.
#[cfg(test)]
pub struct Stepped {
    committer: Committer,
    janitor: Arc<Mutex<Janitor>>,
    inbox: Arc<Inbox>,
    running: Arc<watch::Sender<u8>>,
}

#[cfg(test)]
impl Stepped {
    /// The committer takes what waits, up to one batch, writes, syncs and answers; false if nothing waited. Once the log is
    /// shut down and nothing waits any more, the log counts as ended.
    pub fn commit(&mut self) -> bool {
        let some = self.committer.step();
        if !some && self.inbox.closed().is_some() {
            self.running.send_replace(0);
        }
        some
    }

    /// The janitor does what there is to do.
    pub fn tidy(&mut self) {
        self.janitor.lock().step();
    }
}

/// Starts a thread that is counted while it runs and holds the directory's lock.
fn spawn(
    name: &str,
    lock: Lock,
    running: Arc<watch::Sender<u8>>,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), OpenError> {
    running.send_modify(|threads| *threads += 1);
    let running = Running { lock: Some(lock), running };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _running = running;
        work();
    });
    spawned.map(drop).map_err(OpenError::io("start a thread", name))
}

/// A thread, from start to end.
struct Running {
    lock: Option<Lock>,
    running: Arc<watch::Sender<u8>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // First the lock: who has waited for the end may open the directory anew.
        self.lock = None;
        self.running.send_modify(|threads| *threads -= 1);
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("segments", &self.directories.segments).finish_non_exhaustive()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.inbox.close(AppendError::Closed);
    }
}

/// A group that may go on, and what it takes.
struct Plan {
    records: Vec<Record>,
    bytes: u64,
    has_files: bool,
}

impl Front {
    /// Does this record's body get a file of its own? A note's does not: nobody would say when it can go.
    fn wants_file(&self, record: &Record) -> bool {
        record.live && record.body.as_ref().is_some_and(|b| b.len() > self.options.inline_body_bytes_max)
    }

    fn plan(&self, purpose: Purpose, records: Vec<Record>) -> Result<Plan, AppendError> {
        #[cfg(test)]
        let records = super::sabotage::sabotaged(records);
        if let Some(why) = self.inbox.closed() {
            return Err(why);
        }
        let space = self.available.load(Ordering::Relaxed);
        if purpose == Purpose::Intake && space < self.options.reserve_bytes {
            return Err(AppendError::Full);
        }
        let mut bytes = 0;
        let mut has_files = false;
        for record in &records {
            let body = record.body.as_ref().map_or(0, Bytes::len);
            if body > limits::MESSAGE_BYTES_MAX {
                return Err(AppendError::TooLarge);
            }
            let file = self.wants_file(record);
            has_files |= file;
            bytes += (HEADER_BYTES + record.payload.len() + if file { size_of::<u64>() } else { body }) as u64;
        }
        if bytes + batch::HEADER_BYTES as u64 > self.options.batch_bytes_max as u64 {
            return Err(AppendError::TooLarge);
        }
        Ok(Plan { records, bytes, has_files })
    }

    /// Checksums a group and writes the files of its large bodies.
    fn encode(&self, records: Vec<Record>) -> Result<(Vec<Encoded>, FilesOfGroup), AppendError> {
        let mut files = FilesOfGroup::new(self.chores.clone());
        let mut encoded = Vec::with_capacity(records.len());
        for record in records {
            let mut file = None;
            if let Some(body) = record.body.as_ref().filter(|_| self.wants_file(&record)) {
                let number = self.next_body.fetch_add(1, Ordering::Relaxed);
                let made = BodyFile { key: record.key, number };
                made.write(&*self.disk, &self.directories.bodies, body).map_err(|e| {
                    tracing::error!("writing the file of a large body: {e}");
                    if e.kind() == ErrorKind::StorageFull { AppendError::Full } else { AppendError::Body }
                })?;
                files.push(made);
                file = Some(made);
            }
            encoded.push(Encoded::new(record, file));
        }
        Ok((encoded, files))
    }
}
