//! postrider's log, as its queue uses it: a record of envelope and body per message, a small record about it when it has
//! ended, the message released once that is durable, what is left of nearly empty segments moved forward, and sidecars for
//! segments that last.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use postrider::clock::SystemClock;
use postrider::storage::{Appended, Log, Options, Position, Purpose, RealDisk, Record, Sidecar};

use crate::workload::{Message, Store, Waiting};

/// Bytes of the record that ends a message: a delivery with the reply to it.
const END_BYTES: usize = 60;
/// Bytes of a message's state in a sidecar.
const STATE_BYTES: usize = 24;
/// Segments emptied a turn.
const SEGMENTS: usize = 2;
const MESSAGE: u8 = 1;
const END: u8 = 2;

pub struct PostriderLog {
    log: Log,
    /// What lives, by segment and offset: what an owner applies before it says so.
    live: Arc<Mutex<BTreeMap<(u64, u32), Position>>>,
    /// Sealed segments seen in the last turn: who is still there in this one is worth a sidecar.
    sealed: Mutex<Vec<u64>>,
    ended: Arc<AtomicUsize>,
}

impl PostriderLog {
    /// Takes a group into the owner's state, then says so; where its first record lies.
    fn apply(&self, appended: Appended, old: Option<Position>) -> Position {
        let position = appended.positions[0];
        let mut live = self.live.lock().expect("no panic");
        live.insert((position.segment, position.offset), position);
        if let Some(old) = old {
            live.remove(&(old.segment, old.offset));
        }
        drop(appended.pending);
        position
    }

    fn write_sidecars(&self) {
        let sealed: Vec<_> = self.log.segments().into_iter().filter(|s| s.sealed && s.covers.is_none()).collect();
        let before = std::mem::replace(&mut *self.sealed.lock().expect("no panic"), sealed.iter().map(|s| s.segment).collect());
        for info in sealed.iter().filter(|s| before.contains(&s.segment)) {
            let covers = self.log.applied();
            if covers < info.end {
                continue;
            }
            let live = self.live.lock().expect("no panic");
            let of_segment: Vec<_> = live.range((info.segment, 0)..(info.segment + 1, 0)).map(|(_, p)| *p).collect();
            drop(live);
            let state = Bytes::from(vec![0; of_segment.len() * STATE_BYTES]);
            let sidecar = Sidecar { segment: info.segment, covers, live: of_segment, brief: Bytes::new(), state };
            // A segment may go between the look and the sidecar: no harm.
            let _ = self.log.write_sidecar(sidecar);
        }
    }
}

impl Store for PostriderLog {
    type Place = Position;

    fn open(dir: &Path) -> Self {
        let mut visit = |recovered| drop(recovered);
        let (log, report) =
            Log::open(dir, Options::default(), Arc::new(RealDisk), SystemClock::shared(), &mut visit).expect("the log opens");
        assert!(report.damage.is_empty(), "{report:?}");
        Self { log, live: Arc::default(), sealed: Mutex::default(), ended: Arc::default() }
    }

    async fn put(&self, key: [u8; 16], message: Message) -> Position {
        let Message { payload, body } = message;
        let record = Record { kind: MESSAGE, key, about: None, payload, body: Some(body), live: true };
        let appended = self.log.append(Purpose::Intake, vec![record]).await.expect("the log takes it");
        self.apply(appended, None)
    }

    async fn read(&self, due: Vec<([u8; 16], Position)>) -> Vec<Message> {
        let reads = due.into_iter().map(|(_, place)| {
            let log = self.log.clone();
            async move {
                let stored = log.read(place).await.expect("the log has it");
                Message { payload: stored.payload, body: stored.body.unwrap_or_default() }
            }
        });
        all(reads.collect()).await
    }

    fn end(&self, key: [u8; 16], place: Position) {
        let payload = Bytes::from_static(&[0; END_BYTES]);
        let record = Record { kind: END, key, about: Some(place), payload, body: None, live: false };
        let (log, live, ended) = (self.log.clone(), self.live.clone(), self.ended.clone());
        let done = Box::new(move |result: Result<Appended, _>| {
            let appended = result.expect("the log takes the end");
            live.lock().expect("no panic").remove(&(place.segment, place.offset));
            drop(appended.pending);
            log.release(place);
            ended.fetch_add(1, Ordering::Relaxed);
        });
        self.log.append_then(Purpose::Upkeep, vec![record], done).expect("the log takes the end");
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    async fn keep_up(&self, waiting: &mut VecDeque<Waiting<Position>>) {
        tokio::task::block_in_place(|| self.write_sidecars());
        for leftover in self.log.leftovers(SEGMENTS) {
            for message in waiting.iter_mut().filter(|m| m.place.segment == leftover.segment) {
                let old = message.place;
                let stored = self.log.read(old).await.expect("the log has it");
                let record = Record {
                    kind: stored.kind,
                    key: stored.key,
                    about: Some(old),
                    payload: stored.payload,
                    body: stored.body,
                    live: true,
                };
                let moved = self.log.append(Purpose::Upkeep, vec![record]).await.expect("the log takes it");
                message.place = self.apply(moved, Some(old));
                self.log.release(old);
            }
        }
    }

    fn syncs(&self) -> u64 {
        self.log.stats().batches
    }

    /// Opening has handed out every record; those that live, ended or not, are counted.
    fn count(&self) -> u64 {
        self.log.stats().live_records
    }

    async fn close(self) {
        self.log.shutdown().await;
    }
}

/// Waits for all, side by side, as leases load their messages.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    poll_fn(|context| {
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        if waiting.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}
