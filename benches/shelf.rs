//! What texts that wait for receipts cost on the shelf, from a hundred thousand to ten million.
//!
//! ```text
//! cargo bench --bench shelf                                  # ten million; some 5 GB of disk below the temporary directory
//! cargo bench --bench shelf -- --items 1000000 --dir PATH
//! cargo bench --bench shelf -- --items 100000000 --payload 8    # as many as a small disk holds, for what memory they take
//! ```
//!
//! A shelf takes items of the size of a waiting text (three keys, 380 bytes) in puts of 16,384, each synced, and merges its
//! catalogues as the relay does. At a tenth of the way and at the end are measured: *memory*, what the process holds more than with an
//! empty shelf (`RssAnon`: what the kernel caches of files is not in it); *find*, an item chosen at random, by its key; *miss*, a key that
//! nothing has; *take*, an item marked as taken and synced, by eight threads that share syncs, as receipts do. Beside them stands
//! the limit: *read*, 1 KiB chosen at random out of the same files. The disk's cache is as warm as the writing has left it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::clock::Timestamp;
use postrider::storage::RealDisk;
use postrider::storage::shelf::{Item, Options, Shelf, key_of};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PUT: u64 = 16_384;
const PAYLOAD: usize = 380;
const LOOKS: u64 = 20_000;
const TAKES: u64 = 2_000;
const THREADS: u64 = 8;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn key(kind: &str, n: u64) -> u64 {
    key_of(&[kind.as_bytes(), &n.to_le_bytes()])
}

fn item(n: u64, size: usize) -> Item {
    let mut payload = vec![0x55; size];
    payload[..8].copy_from_slice(&n.to_le_bytes());
    Item { at: Timestamp(n), keys: ["id", "to", "part"].map(|kind| key(kind, n)).to_vec(), payload: payload.into() }
}

/// KiB that the process holds, files apart.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    anonymous.trim().trim_end_matches(" kB").parse().unwrap()
}

fn each(span: Duration, count: u64) -> f64 {
    span.as_secs_f64() * 1e6 / count as f64
}

fn timed(count: u64, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..count).for_each(|_| work());
    each(begun.elapsed(), count)
}

fn measure(shelf: &Arc<Shelf>, dir: &Path, items: u64, before: u64, random: &mut fastrand::Rng) {
    let (left, bytes) = shelf.figures();
    let memory = memory().saturating_sub(before);
    let mut found = 0;
    let find = timed(LOOKS, || {
        let n = random.u64(..items);
        let is_it = |kept: &postrider::storage::shelf::Kept| kept.payload[..8] == n.to_le_bytes();
        found += u64::from(shelf.find(key("part", n), is_it).unwrap().is_some());
    });
    let miss = timed(LOOKS, || assert!(shelf.find(random.u64(..), |_| true).unwrap().is_none()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(items + thread);
                for _ in 0..TAKES / THREADS {
                    if let Some(kept) = shelf.find(key("id", random.u64(..items)), |_| true).unwrap() {
                        shelf.take(&[kept.place]).unwrap();
                    }
                }
            });
        }
    });
    let take = each(begun.elapsed(), TAKES);
    let files: Vec<(std::fs::File, u64)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| std::fs::File::open(entry.unwrap().path()).unwrap())
        .map(|file| (file.metadata().unwrap().len(), file))
        .map(|(length, file)| (file, length))
        .collect();
    let mut block = [0; 1024];
    let read = timed(LOOKS, || {
        let (file, length) = &files[random.usize(..files.len())];
        file.read_at(&mut block, random.u64(..*length)).unwrap();
    });
    println!(
        "{left:>12}  {:>9.1}  {:>9.1}  {find:>8.1}  {miss:>8.1}  {take:>8.1}  {read:>8.1}  {:>5}  {found}/{LOOKS}",
        bytes as f64 / f64::from(1 << 20),
        memory as f64 / 1024.0,
        files.len(),
    );
}

fn main() {
    let items: u64 = argument("--items").map_or(10_000_000, |n| n.parse().unwrap());
    // It begins with its number.
    let size = argument("--payload").map_or(PAYLOAD, |n| n.parse::<usize>().unwrap().max(8));
    let parent = argument("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("shelf-{}", std::process::id()));
    let shelf = Arc::new(Shelf::open(Arc::new(RealDisk), &dir, Options::default()).unwrap());
    let (before, mut random) = (memory(), fastrand::Rng::with_seed(1));
    println!("       items        MiB  memory/MiB  find/µs   miss/µs   take/µs   read/µs  files  found");
    let (mut put, mut merged) = (Duration::ZERO, Duration::ZERO);
    let mut next = 0;
    while next < items {
        let batch: Vec<Item> = (next..(next + PUT).min(items)).map(|n| item(n, size)).collect();
        let begun = Instant::now();
        shelf.put(&batch).unwrap();
        put += begun.elapsed();
        let begun = Instant::now();
        while shelf.merge().unwrap() {}
        merged += begun.elapsed();
        let before_this = next;
        next += batch.len() as u64;
        drop(batch);
        if next == items || (before_this < items / 10 && next >= items / 10) {
            measure(&shelf, &dir, next, before, &mut random);
        }
    }
    println!("put {:.2} µs, merged {:.2} µs an item", each(put, items), each(merged, items));
    std::fs::remove_dir_all(&dir).unwrap();
}
