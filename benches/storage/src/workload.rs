//! The work that every contender does, and what is measured of it. `rocksdb.c` does the same in C.
//!
//! **Promises.** Each message is made once per writer (one copy out of a pool of random bytes, its number in front), so that
//! what is read back can be checked without keeping it. Latency is from handing the message over to the writer's going on.
//! The rate ends with the last yes; the CPU time is that of the whole process, deletes, background work and closing included.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes of what stands beside the body: what an envelope takes.
pub const PAYLOAD_BYTES: usize = 250;
/// How long after its yes a message is read and deleted.
const KEPT: Duration = Duration::from_secs(1);
/// Reads under way at once, as those of as many leases would be.
const READS: usize = 32;
/// What the stores get at the end, to do what they do in the background.
const SETTLE: Duration = Duration::from_secs(2);
/// Random bytes that bodies are cut from.
const POOL_BYTES: usize = 4 << 20;

/// What is to be done.
pub struct Plan {
    pub dir: PathBuf,
    pub messages: usize,
    pub size: usize,
    pub writers: usize,
    /// False: nothing is read or deleted, and the process exits without closing the store.
    pub consumed: bool,
}

/// Envelope and body.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub payload: Bytes,
    pub body: Bytes,
}

/// A message that was answered yes and waits for the consumer.
pub struct Waiting<P> {
    pub number: usize,
    pub place: P,
    since: Instant,
}

/// A contender.
pub trait Store: Send + Sync + Sized + 'static {
    /// Where a message lies, if its key does not say.
    type Place: Copy + Send + 'static;

    fn open(dir: &Path) -> Self;
    /// Returns once the message is on stable storage.
    fn put(&self, key: [u8; 16], message: Message) -> impl Future<Output = Self::Place> + Send;
    /// Reads these back, in order.
    fn read(&self, due: Vec<([u8; 16], Self::Place)>) -> impl Future<Output = Vec<Message>> + Send;
    /// Hands over that a message has ended; it need not be durable yet.
    fn end(&self, key: [u8; 16], place: Self::Place);
    /// Ends that are durable.
    fn ended(&self) -> usize;
    /// About once a second: what the owner of the store has to do to get space back.
    fn keep_up(&self, _: &mut VecDeque<Waiting<Self::Place>>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// Syncs so far, if the store knows.
    fn syncs(&self) -> u64;
    /// Messages there, by looking.
    fn count(&self) -> u64;
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The message's key: ordered by time, like an id.
pub fn key(number: usize) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(number as u64).to_be_bytes());
    key[8..].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// Makes messages that cannot be compressed.
struct Pool {
    random: Vec<u8>,
    size: usize,
}

impl Pool {
    fn new(size: usize) -> Self {
        let mut random = vec![0; POOL_BYTES + size];
        fastrand::Rng::with_seed(7).fill(&mut random);
        Self { random, size }
    }

    fn cut(&self, number: usize, bytes: usize) -> Bytes {
        let from = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % POOL_BYTES;
        let mut cut = self.random[from..from + bytes].to_vec();
        cut[..8].copy_from_slice(&(number as u64).to_le_bytes());
        cut.into()
    }

    fn message(&self, number: usize) -> Message {
        Message { payload: self.cut(!number, PAYLOAD_BYTES.min(self.size)), body: self.cut(number, self.size) }
    }

    fn is_message(&self, number: usize, message: &Message) -> bool {
        let same = |bytes: &[u8], number: usize| {
            let from = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % POOL_BYTES;
            bytes.len() >= 8
                && bytes[..8] == (number as u64).to_le_bytes()
                && bytes[8..] == self.random[from + 8..from + bytes.len()]
        };
        message.body.len() == self.size && same(&message.body, number) && same(&message.payload, !number)
    }
}

/// Runs the plan and prints what it took.
pub fn run<S: Store>(plan: Plan) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let store = Arc::new(S::open(&plan.dir));
    let pool = Arc::new(Pool::new(plan.size));
    let (told, waiting) = mpsc::channel(1 << 16);
    let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());

    let (mut latencies, taken, drained) = runtime.block_on(async {
        let consumer = tokio::spawn(consume(store.clone(), pool.clone(), waiting, plan.consumed));
        let writers: Vec<_> = (0..plan.writers)
            .map(|_| tokio::spawn(write(store.clone(), pool.clone(), next.clone(), plan.messages, told.clone())))
            .collect();
        drop(told);
        let mut latencies = Vec::with_capacity(plan.messages);
        for writer in writers {
            latencies.extend(writer.await.expect("a writer ended well"));
        }
        let taken = started.elapsed();
        consumer.await.expect("the consumer ended well");
        while plan.consumed && store.ended() < plan.messages {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let drained = started.elapsed() - taken;
        tokio::time::sleep(SETTLE).await;
        (latencies, taken, drained)
    });
    let (disk, syncs) = (disk_bytes(&plan.dir), store.syncs());
    if plan.consumed {
        let store = Arc::into_inner(store).expect("all tasks have ended");
        runtime.block_on(store.close());
    }
    latencies.sort_unstable();
    let at = |share: f64| f64::from(latencies[((latencies.len() - 1) as f64 * share) as usize]) / 1e3;
    println!(
        "{{\"rate\":{:.1},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"cpu_s\":{:.2},\"rss_mib\":{:.1},\
         \"written_mib\":{:.1},\"disk_mib\":{:.1},\"syncs\":{syncs},\"drained_s\":{:.2}}}",
        plan.messages as f64 / taken.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        cpu_seconds(),
        field("/proc/self/status", "VmHWM:") as f64 / 1024.0,
        field("/proc/self/io", "write_bytes:") as f64 / f64::from(1 << 20),
        disk as f64 / f64::from(1 << 20),
        drained.as_secs_f64(),
    );
    // After a fill the store is left as a crash would leave it.
    std::process::exit(0);
}

/// Opens what a run has left and prints how long that took.
pub fn reopen<S: Store>(dir: &Path) {
    let started = Instant::now();
    let store = S::open(dir);
    let opened = started.elapsed();
    let messages = store.count();
    println!(
        "{{\"open_ms\":{:.1},\"listed_ms\":{:.1},\"messages\":{messages},\"cpu_s\":{:.2},\"rss_mib\":{:.1}}}",
        opened.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3,
        cpu_seconds(),
        field("/proc/self/status", "VmHWM:") as f64 / 1024.0,
    );
    std::process::exit(0);
}

/// A writer: one message after the other, each after the yes to the one before. Its latencies, in microseconds.
async fn write<S: Store>(
    store: Arc<S>,
    pool: Arc<Pool>,
    next: Arc<AtomicUsize>,
    messages: usize,
    told: mpsc::Sender<Waiting<S::Place>>,
) -> Vec<u32> {
    let mut latencies = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= messages {
            return latencies;
        }
        let message = pool.message(number);
        let handed = Instant::now();
        let place = store.put(key(number), message).await;
        let since = Instant::now();
        latencies.push(u32::try_from((since - handed).as_micros()).unwrap_or(u32::MAX));
        told.send(Waiting { number, place, since }).await.ok().expect("the consumer is there");
    }
}

/// The consumer: reads, checks and ends each message once it has been kept; if nothing is to be consumed, only the upkeep.
async fn consume<S: Store>(
    store: Arc<S>,
    pool: Arc<Pool>,
    mut told: mpsc::Receiver<Waiting<S::Place>>,
    consumed: bool,
) {
    let (mut waiting, mut open) = (VecDeque::new(), true);
    let mut next_upkeep = Instant::now() + KEPT;
    while open || (consumed && !waiting.is_empty()) {
        loop {
            match told.try_recv() {
                Ok(message) => waiting.push_back(message),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        if Instant::now() >= next_upkeep {
            next_upkeep = Instant::now() + KEPT;
            store.keep_up(&mut waiting).await;
        }
        let most = if consumed { READS } else { 0 };
        let due = waiting.iter().take(most).take_while(|m| m.since.elapsed() >= KEPT).count();
        if due == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let due: Vec<_> = waiting.drain(..due).collect();
        let messages = store.read(due.iter().map(|m| (key(m.number), m.place)).collect()).await;
        assert_eq!(messages.len(), due.len());
        for (Waiting { number, place, .. }, message) in due.into_iter().zip(messages) {
            assert!(pool.is_message(number, &message), "message {number} is not what was written");
            store.end(key(number), place);
        }
    }
}

/// Bytes that the files of a directory take on the disk.
fn disk_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).expect("the directory").flatten() {
        // Files come and go under our hands.
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += disk_bytes(&entry.path());
        }
    }
    bytes
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let behind_name = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<f64>().expect("a number");
    // Linux counts in hundredths of a second on every machine that we know.
    (ticks(11) + ticks(12)) / 100.0
}

/// The number behind a name in a file of `/proc`.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}
