//! fjall 3 with key-value separation, in natural group commit: one thread takes all that waits, commits it as one batch with
//! one fdatasync, then answers everybody. Deletes ride along. Its settings are its defaults but for what is set here.

use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use tokio::sync::oneshot;

use crate::workload::{Message, PAYLOAD_BYTES, Store};

/// What waits for the next commit.
#[derive(Default)]
struct Inbox {
    puts: Vec<([u8; 16], Vec<u8>, oneshot::Sender<()>)>,
    ends: Vec<[u8; 16]>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    ended: AtomicUsize,
    syncs: AtomicU64,
}

pub struct FjallStore {
    database: Database,
    messages: Keyspace,
    shared: Arc<Shared>,
    committer: JoinHandle<()>,
}

impl Shared {
    fn hand_over(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.inbox.lock().expect("no panic"));
        self.arrived.notify_one();
    }

    fn commit_all(&self, database: &Database, messages: &Keyspace) {
        loop {
            let taken = {
                let mut inbox = self.inbox.lock().expect("no panic");
                while inbox.puts.is_empty() && inbox.ends.is_empty() {
                    if inbox.closed {
                        return;
                    }
                    inbox = self.arrived.wait(inbox).expect("no panic");
                }
                mem::take(&mut *inbox)
            };
            if taken.closed {
                self.inbox.lock().expect("no panic").closed = true;
            }
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            let mut answers = Vec::with_capacity(taken.puts.len());
            for (key, value, answer) in taken.puts {
                batch.insert(messages, key, value);
                answers.push(answer);
            }
            for key in &taken.ends {
                batch.remove(messages, *key);
            }
            batch.commit().expect("fjall commits");
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.ended.fetch_add(taken.ends.len(), Ordering::Relaxed);
            for answer in answers {
                let _ = answer.send(());
            }
        }
    }
}

impl Store for FjallStore {
    type Place = ();

    fn open(dir: &Path) -> Self {
        let database = Database::builder(dir).manual_journal_persist(true).open().expect("fjall opens");
        let options = || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .with_kv_separation(Some(KvSeparationOptions::default()))
        };
        let messages = database.keyspace("messages", options).expect("fjall opens the keyspace");
        let shared = Arc::new(Shared::default());
        let (of_thread, database_of_thread, messages_of_thread) = (shared.clone(), database.clone(), messages.clone());
        let committer = std::thread::spawn(move || of_thread.commit_all(&database_of_thread, &messages_of_thread));
        Self { database, messages, shared, committer }
    }

    async fn put(&self, key: [u8; 16], message: Message) {
        let (answer, answered) = oneshot::channel();
        let value = [&message.payload[..], &message.body[..]].concat();
        self.shared.hand_over(|inbox| inbox.puts.push((key, value, answer)));
        answered.await.expect("the commit thread answers");
    }

    async fn read(&self, due: Vec<([u8; 16], ())>) -> Vec<Message> {
        // Mostly out of memory, as the messages are a second old: a thread of its own would cost more than it spares.
        let one = |(key, ()): ([u8; 16], ())| {
            let value = self.messages.get(key).expect("fjall reads").expect("fjall has it");
            let bytes = Bytes::copy_from_slice(&value);
            Message { payload: bytes.slice(..PAYLOAD_BYTES), body: bytes.slice(PAYLOAD_BYTES..) }
        };
        due.into_iter().map(one).collect()
    }

    fn end(&self, key: [u8; 16], (): ()) {
        self.shared.hand_over(|inbox| inbox.ends.push(key));
    }

    fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::Relaxed)
    }

    fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    fn count(&self) -> u64 {
        self.messages.len().expect("fjall lists its keys") as u64
    }

    async fn close(self) {
        self.shared.hand_over(|inbox| inbox.closed = true);
        self.committer.join().expect("the commit thread ended well");
        drop((self.messages, self.database));
    }
}
