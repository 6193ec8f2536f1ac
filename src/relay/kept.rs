//! What is kept for the next start: what mail sites take, how many texts numbers were sent, and what these have cost today.
//!
//! **Promises.** All are written at a stop, and every few seconds before, so that a crash costs no more than that.
//!
//! **Fails how.** A file that cannot be written is tried again the next time, which is logged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Core, options};
use crate::clock::Timestamp;
use crate::policy::texts::{Caps, CountFiles, Ledger};
use crate::queue::{PaceFile, Queue};
use crate::storage::RealDisk;

/// How often what mail sites take is kept.
const PACE_KEPT: Duration = Duration::from_secs(30);
/// How often it is kept how many texts there were and what they have cost: so much may be sent and spent twice after a crash.
const TEXTS_KEPT: Duration = Duration::from_secs(2);

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    pace: Arc<Mutex<PaceFile>>,
    ledger: PathBuf,
    counts: Arc<Mutex<CountFiles>>,
}

impl Files {
    /// Goes on where the files end. Blocks.
    pub(super) fn recall(data_dir: &Path, queue: &Queue, sums: &Ledger, caps: &Caps, now: Timestamp) -> Self {
        let pace = PaceFile::new(options::pace_file(data_dir));
        queue.recall_pace(&pace);
        let ledger = options::ledger_file(data_dir);
        sums.recall(&ledger);
        let counts = CountFiles::new(Arc::new(RealDisk), options::counts_dir(data_dir));
        caps.recall(&counts, now);
        Self { pace: Arc::new(Mutex::new(pace)), ledger, counts: Arc::new(Mutex::new(counts)) }
    }
}

/// Keeps all while the relay lives.
pub(super) fn keep_up(core: &Arc<Core>) {
    tokio::spawn(keep_pace(Arc::downgrade(core)));
    tokio::spawn(keep_texts(Arc::downgrade(core)));
}

async fn keep_pace(core: Weak<Core>) {
    loop {
        tokio::time::sleep(PACE_KEPT).await;
        let Some(core) = core.upgrade() else { return };
        core.keep_pace().await;
    }
}

async fn keep_texts(core: Weak<Core>) {
    loop {
        tokio::time::sleep(TEXTS_KEPT).await;
        let Some(core) = core.upgrade() else { return };
        core.keep_texts().await;
    }
}

impl Core {
    /// Keeps all now.
    pub(super) async fn keep(&self) {
        self.keep_pace().await;
        self.keep_texts().await;
    }

    async fn keep_pace(&self) {
        let (queue, file) = (self.queue.clone(), self.kept.pace.clone());
        let kept = tokio::task::spawn_blocking(move || queue.keep_pace(&mut file.lock())).await;
        warn_of(kept, "what mail sites take is not kept for the next start");
    }

    async fn keep_texts(&self) {
        let (ledger, file) = (self.ledger.clone(), self.kept.ledger.clone());
        let kept = tokio::task::spawn_blocking(move || ledger.keep(&file)).await;
        warn_of(kept, "what texts have cost today is not kept for the next start");
        let (caps, files, now) = (self.caps.clone(), self.kept.counts.clone(), self.clock.now());
        let kept = tokio::task::spawn_blocking(move || caps.keep(&mut files.lock(), now)).await;
        warn_of(kept, "how many texts numbers were sent is not kept for the next start");
    }
}

fn warn_of(kept: Result<io::Result<()>, tokio::task::JoinError>, what: &str) {
    if let Err(e) = kept.unwrap_or_else(|e| Err(io::Error::other(e))) {
        tracing::warn!(error = %e, "{what}");
    }
}
