//! The log as a whole, on the disk of `faulty.rs` and on the real one.

mod behaviour;
mod crash;
mod damage;
mod disk;
mod recycling;
mod sidecars;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::faulty::FaultyDisk;
use super::{Disk, Log, OpenError, Options, Position, Record, Recovered, RecoveredRecord, RecoveryReport};
use crate::clock::SystemClock;

const DIR: &str = "spool";
const ACCEPTED: u8 = 1;
const ENDED: u8 = 2;

/// Segments so small that they fill all the time.
fn small() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 8 * 1024,
        queue_bytes_max: 64 * 1024,
        inline_body_bytes_max: 2 * 1024,
        reserve_bytes: 1024,
        alignment: 64,
        ..Options::default()
    }
}

/// A log, what it handed out, and what it reported.
type Opened = (Log, Vec<RecoveredRecord>, RecoveryReport);

fn open_with(disk: &Arc<FaultyDisk>, options: Options) -> Result<Opened, OpenError> {
    let mut seen = Vec::new();
    let disk: Arc<dyn Disk> = disk.clone();
    let (log, report) =
        Log::open(Path::new(DIR), options, disk, SystemClock::shared(), &mut |found| seen.extend(record(found)))?;
    Ok((log, seen, report))
}

fn record(found: Recovered) -> Option<RecoveredRecord> {
    if let Recovered::Record(record) = found { Some(record) } else { None }
}

fn open(disk: &Arc<FaultyDisk>) -> Opened {
    open_with(disk, small()).unwrap()
}

fn key(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

fn number(key: [u8; 16]) -> u64 {
    u128::from_be_bytes(key) as u64
}

/// What the payload and the body of a record must be is known from its key.
fn payload(n: u64) -> Bytes {
    Bytes::from(format!("payload of {n}"))
}

fn body(n: u64, bytes: usize) -> Bytes {
    format!("body of {n}. ").into_bytes().into_iter().cycle().take(bytes).collect()
}

fn accepted(n: u64, body_bytes: usize) -> Record {
    let body = Some(body(n, body_bytes));
    Record { kind: ACCEPTED, key: key(n), about: None, payload: payload(n), body, live: true }
}

fn ended(n: u64, about: Position) -> Record {
    Record { kind: ENDED, key: key(n), about: Some(about), payload: payload(n), body: None, live: false }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for something that a thread of the log will bring about.
async fn until(mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("it did not happen");
}
