//! The event file: one JSON object a line, rotated by size.
//!
//! **Promises.** Writing never slows the relay: facts go through a bounded queue to one thread, in the order in which they
//! were settled. When that queue is full, or the file cannot be written, facts are dropped and counted
//! (`postrider_events_dropped_total`); their messages are not touched. Rotation renames `FILE` to `FILE.1` and so on and
//! keeps a stated number. A file moved away by somebody else is made anew at the next rotation or start.
//!
//! A crash may keep the last facts from the file; the next start completes it from the queue's log ([`EventLog::tail`]). The
//! file is synced whenever facts pause and every few MiB, so a power cut costs little more than a crash.
//!
//! **Does not know** what a fact means.
//!
//! **Fails how.** An unwritable directory at start is an error; later failures are logged once per outage and retried with
//! the next fact.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

use super::Fact;
use super::metrics::Metrics;
use super::tail::Tail;
use crate::model::Channel;

/// Facts that may wait for the writer: some 50 MB, ten seconds at full rate.
const WAITING_MAX: usize = 65_536;
/// Facts a slow subscriber may fall behind before it misses some.
const SUBSCRIBER_BACKLOG: usize = 4_096;

/// Where events go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The file.
    pub file: PathBuf,
    /// Rotate when it has grown to this many bytes.
    pub rotate_bytes: u64,
    /// How many rotated files to keep.
    pub keep: u32,
}

/// Somebody who is told every fact, in the order in which they are settled, and loses none while the relay runs.
pub trait Follower: Send + Sync + std::fmt::Debug {
    /// A fact; must not block, nor ask the queue, which may be telling it.
    fn told(&self, fact: &Fact);

    /// Waits until what it makes of all facts so far is on stable storage; false if that cannot be said.
    fn kept(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// The event log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    watchers: broadcast::Sender<Arc<Fact>>,
    follower: OnceLock<Arc<dyn Follower>>,
    metrics: Arc<Metrics>,
    /// Taken by whoever completes the file at start.
    tail: Mutex<Option<Tail>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The far end of a captured log.
#[cfg(test)]
pub(crate) struct Facts(Receiver<Message>);

#[cfg(test)]
impl Facts {
    /// Facts since the last call.
    pub(crate) fn take(&self) -> impl Iterator<Item = Arc<Fact>> + '_ {
        self.0.try_iter().filter_map(|message| match message {
            Message::Fact(fact) => Some(fact),
            Message::Sync(answer) => {
                let _ = answer.send(true);
                None
            }
            Message::Close => None,
        })
    }
}

enum Message {
    Fact(Arc<Fact>),
    /// Say whether all before is in the file, synced.
    Sync(oneshot::Sender<bool>),
    Close,
}

impl EventLog {
    /// Opens the file for appending, making its directory, and starts the writer.
    ///
    /// # Errors
    /// When directory or file cannot be made, or no thread can be started.
    pub fn open(options: Options, metrics: Arc<Metrics>) -> io::Result<Self> {
        let tail = Tail::read(&options.file, &numbered(&options.file, 1));
        let writer = Writer::open(options, metrics.clone())?;
        let (queue, facts) = sync_channel(WAITING_MAX);
        let handle = std::thread::Builder::new().name("events".to_owned()).spawn(move || writer.run(&facts))?;
        Ok(Self {
            shared: Arc::new(Shared {
                queue,
                watchers: broadcast::channel(SUBSCRIBER_BACKLOG).0,
                follower: OnceLock::new(),
                metrics,
                tail: Mutex::new(Some(tail)),
                writer: Mutex::new(Some(handle)),
            }),
        })
    }

    /// A log without file and thread, for the simulator: facts go to the receiver.
    #[cfg(test)]
    pub(crate) fn captured(metrics: Arc<Metrics>) -> (Self, Facts) {
        let (queue, facts) = sync_channel(1_024);
        let shared = Shared {
            queue,
            watchers: broadcast::channel(1).0,
            follower: OnceLock::new(),
            metrics,
            tail: Mutex::new(None),
            writer: Mutex::new(None),
        };
        (Self { shared: Arc::new(shared) }, Facts(facts))
    }

    /// Tells somebody every fact from now on; the first to ask.
    pub fn follow(&self, follower: Arc<dyn Follower>) {
        let _ = self.shared.follower.set(follower);
    }

    /// Records a fact; never blocks.
    pub fn record(&self, fact: Fact) {
        let class = fact.class.map_or("none", |c| c.as_str());
        let channel = fact.channel.map_or("none", Channel::as_str);
        self.shared.metrics.facts.with_label_values(&[channel, class, fact.event.as_str()]).inc();
        if let Some(follower) = self.shared.follower.get() {
            follower.told(&fact);
        }
        let fact = Arc::new(fact);
        if self.shared.watchers.receiver_count() > 0 {
            let _ = self.shared.watchers.send(fact.clone());
        }
        if self.shared.queue.try_send(Message::Fact(fact)).is_err() {
            self.shared.metrics.facts_dropped.inc();
        }
    }

    /// Waits until every fact recorded so far is in the file and synced; false if that cannot be said, also when facts have
    /// been dropped since the last time.
    pub async fn synced(&self) -> bool {
        self.synced_since(self.shared.metrics.facts_dropped.get()).await
    }

    /// Records facts that no record of the queue tells of, and waits until they are in the file and synced, and a follower has kept
    /// them; false if that cannot be said, and then they may be there all the same. Those who come together share a sync.
    pub async fn keep(&self, facts: Vec<Fact>) -> bool {
        let dropped = self.shared.metrics.facts_dropped.get();
        facts.into_iter().for_each(|fact| self.record(fact));
        if !self.synced_since(dropped).await {
            return false;
        }
        match self.shared.follower.get() {
            Some(follower) => follower.kept().await,
            None => true,
        }
    }

    async fn synced_since(&self, dropped: u64) -> bool {
        let (answer, answered) = oneshot::channel();
        if self.shared.queue.try_send(Message::Sync(answer)).is_err() {
            return false;
        }
        answered.await.unwrap_or(false) && self.shared.metrics.facts_dropped.get() == dropped
    }

    /// What the file held when it was opened; once.
    pub fn tail(&self) -> Option<Tail> {
        self.shared.tail.lock().take()
    }

    /// Facts from now on. A subscriber that falls too far behind is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Fact>> {
        self.shared.watchers.subscribe()
    }

    /// Writes what is queued, syncs and stops. Blocks; later facts are dropped.
    pub fn close(&self) {
        if let Some(writer) = self.shared.writer.lock().take() {
            let _ = self.shared.queue.send(Message::Close);
            let _ = writer.join();
        }
    }
}

struct Writer {
    options: Options,
    metrics: Arc<Metrics>,
    file: File,
    size: u64,
    /// Lines not yet written; one write per run of facts.
    buffer: Vec<u8>,
    failing: bool,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// A sync has failed: nobody knows what the disk has, and nothing is said to be synced until the next start.
    unsure: bool,
}

/// The file is synced when no fact has come for so long …
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// … and when so much has been written since the last time: about a second's worth at full rate.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// Longest line: a reply of 64 KiB, each octet escaped.
const LINE_BYTES_MAX: u64 = 512 * 1024;
/// Lines gathered before they are written although more facts wait.
const BUFFER_BYTES: usize = 256 * 1024;

impl Writer {
    fn open(options: Options, metrics: Arc<Metrics>) -> io::Result<Self> {
        if let Some(dir) = options.file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let (file, size) = append_to(&options.file)?;
        sync_dir_of(&options.file)?;
        Ok(Self {
            options,
            metrics,
            file,
            size,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            failing: false,
            unsynced: 0,
            unsure: false,
        })
    }

    fn run(mut self, facts: &Receiver<Message>) {
        loop {
            let first = match facts.recv_timeout(SYNC_AFTER) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.sync();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Fact(fact) => self.line(&fact),
                    Message::Sync(answer) => {
                        self.flush();
                        // Nobody may be waiting any more.
                        let _ = answer.send(!self.failing && self.sync());
                    }
                    Message::Close => {
                        self.flush();
                        self.sync();
                        return;
                    }
                }
                next = if self.buffer.len() < BUFFER_BYTES { facts.try_recv().ok() } else { None };
            }
            self.flush();
            if self.unsynced >= SYNC_BYTES {
                self.sync();
            }
        }
    }

    /// A sync that fails costs facts of a power cut, and a start completes those it can.
    fn sync(&mut self) -> bool {
        if std::mem::take(&mut self.unsynced) > 0
            && let Err(e) = self.file.sync_data()
        {
            tracing::warn!(file = %self.options.file.display(), error = %e, "the event file could not be synced");
            self.unsure = true;
        }
        !self.unsure
    }

    fn line(&mut self, fact: &Fact) {
        let before = self.buffer.len();
        match serde_json::to_writer(&mut self.buffer, fact) {
            Ok(()) => self.buffer.push(b'\n'),
            Err(e) => {
                self.buffer.truncate(before);
                self.metrics.facts_dropped.inc();
                tracing::error!(error = %e, "an event could not be serialised");
            }
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.rotate_if_due().and_then(|()| self.file.write_all(&self.buffer));
        match written {
            Ok(()) => {
                self.size += self.buffer.len() as u64;
                self.failing = false;
                self.unsynced += self.buffer.len() as u64;
            }
            Err(e) => {
                // Half a line would spoil the next one.
                let _ = self.file.set_len(self.size);
                self.metrics.facts_dropped.inc_by(memchr::memchr_iter(b'\n', &self.buffer).count() as u64);
                if !self.failing {
                    tracing::error!(file = %self.options.file.display(), error = %e, "events are being dropped: the event file cannot be written");
                }
                self.failing = true;
            }
        }
        self.buffer.clear();
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        if self.size == 0 || self.size + self.buffer.len() as u64 <= self.options.rotate_bytes {
            return Ok(());
        }
        self.file.sync_data()?;
        for n in (0..self.options.keep).rev() {
            match fs::rename(numbered(&self.options.file, n), numbered(&self.options.file, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if self.options.keep == 0 {
            fs::remove_file(&self.options.file)?;
        }
        (self.file, self.size) = append_to(&self.options.file)?;
        if let Err(e) = sync_dir_of(&self.options.file) {
            tracing::warn!(file = %self.options.file.display(), error = %e, "the directory of the event file could not be synced");
            self.unsure = true;
        }
        Ok(())
    }
}

/// Opens a file for appending and cuts a line that a crash left unfinished: its fact will be told anew.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LINE_BYTES_MAX);
    let mut end = Vec::new();
    let mut reader = &file;
    reader.seek(SeekFrom::Start(from))?;
    reader.take(LINE_BYTES_MAX).read_to_end(&mut end)?;
    let size = memchr::memrchr(b'\n', &end).map_or(from, |at| from + at as u64 + 1);
    if size < length {
        file.set_len(size)?;
    }
    Ok((file, size))
}

/// Makes a file's name last: without it what is synced in a new file may be nowhere after a power cut.
fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// The n-th rotated file; 0 is the file itself.
pub(super) fn numbered(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::Kind;

    fn fact(n: u64) -> Fact {
        Fact::new(Timestamp(n), Kind::Accepted, Channel::Email)
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn facts_are_lines_and_a_restart_appends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events/events.jsonl");
        for _ in 0..2 {
            let log = EventLog::open(
                Options { file: file.clone(), rotate_bytes: 1 << 20, keep: 2 },
                Arc::new(Metrics::new()),
            )
            .unwrap();
            (0..10).for_each(|n| log.record(fact(n)));
            log.close();
        }
        assert_eq!(lines(&file).len(), 20);
        assert_eq!(lines(&file)[0]["event"], "accepted");
    }

    #[test]
    fn rotation_keeps_the_stated_number_and_loses_no_line_before_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("e.jsonl");
        let metrics = Arc::new(Metrics::new());
        let options = Options { file: file.clone(), rotate_bytes: 1_000, keep: 3 };
        let mut writer = Writer::open(options, metrics.clone()).unwrap();
        for n in 0..45 {
            writer.line(&fact(n));
            writer.flush();
        }
        let kept: usize = (0..=3).map(|n| lines(&numbered(&file, n)).len()).sum();
        assert!(!numbered(&file, 4).exists());
        assert!((0..=3).all(|n| fs::metadata(numbered(&file, n)).unwrap().len() <= 1_000));
        assert!(kept >= 30, "{kept} lines left");
        assert_eq!(lines(&file).last().unwrap()["time"], "1970-01-01T00:00:00.000044Z");
        assert_eq!(metrics.facts_dropped.get(), 0);
    }

    #[test]
    fn an_unwritable_file_drops_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let options = Options { file: dir.path().join("e.jsonl"), rotate_bytes: 10, keep: 1 };
        let mut writer = Writer::open(options, metrics.clone()).unwrap();
        writer.line(&fact(1));
        writer.flush();
        // A directory that is not empty cannot be renamed over: rotation fails from here on.
        fs::create_dir_all(dir.path().join("e.jsonl.1/x")).unwrap();
        writer.line(&fact(2));
        writer.line(&fact(3));
        writer.flush();
        assert_eq!(metrics.facts_dropped.get(), 2);
    }

    #[tokio::test]
    async fn what_is_kept_is_in_the_file_and_what_is_dropped_is_not_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("e.jsonl");
        let metrics = Arc::new(Metrics::new());
        let log = EventLog::open(Options { file: file.clone(), rotate_bytes: 100, keep: 1 }, metrics.clone()).unwrap();
        assert!(log.keep(vec![fact(1)]).await);
        assert_eq!(lines(&file).len(), 1);
        // A directory that is not empty cannot be renamed over: rotation fails from here on.
        fs::create_dir_all(dir.path().join("e.jsonl.1/x")).unwrap();
        assert!(!log.keep(vec![fact(2), fact(3)]).await);
        log.close();
        assert!(!log.keep(vec![fact(4)]).await, "nobody writes any more");
    }

    #[tokio::test]
    async fn subscribers_see_facts_as_they_happen() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { file: dir.path().join("e.jsonl"), rotate_bytes: 1 << 20, keep: 1 };
        let log = EventLog::open(options, Arc::new(Metrics::new())).unwrap();
        let mut watcher = log.subscribe();
        log.record(fact(7));
        assert_eq!(watcher.recv().await.unwrap().time, Timestamp(7));
        log.close();
    }
}
