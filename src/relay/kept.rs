//! Small files that are kept for the next start: what mail sites take, and what texts have cost today.
//!
//! **Promises.** Both are written at a stop, and every few seconds before, so that a crash costs no more than that.
//!
//! **Fails how.** A file that cannot be written is tried again the next time, which is logged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Core, options};
use crate::policy::texts::Ledger;
use crate::queue::{PaceFile, Queue};

/// How often what mail sites take is kept.
const PACE_KEPT: Duration = Duration::from_secs(30);
/// How often what texts have cost is kept: so much may be spent twice after a crash.
const LEDGER_KEPT: Duration = Duration::from_secs(2);

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    pace: Arc<Mutex<PaceFile>>,
    ledger: PathBuf,
}

impl Files {
    /// Goes on where the files end. Blocks.
    pub(super) fn recall(data_dir: &Path, queue: &Queue, sums: &Ledger) -> Self {
        let pace = PaceFile::new(options::pace_file(data_dir));
        queue.recall_pace(&pace);
        let ledger = options::ledger_file(data_dir);
        sums.recall(&ledger);
        Self { pace: Arc::new(Mutex::new(pace)), ledger }
    }
}

/// Keeps both while the relay lives.
pub(super) fn keep_up(core: &Arc<Core>) {
    tokio::spawn(keep_pace(Arc::downgrade(core)));
    tokio::spawn(keep_ledger(Arc::downgrade(core)));
}

async fn keep_pace(core: Weak<Core>) {
    loop {
        tokio::time::sleep(PACE_KEPT).await;
        let Some(core) = core.upgrade() else { return };
        core.keep_pace().await;
    }
}

async fn keep_ledger(core: Weak<Core>) {
    loop {
        tokio::time::sleep(LEDGER_KEPT).await;
        let Some(core) = core.upgrade() else { return };
        core.keep_ledger().await;
    }
}

impl Core {
    /// Keeps both now.
    pub(super) async fn keep(&self) {
        self.keep_pace().await;
        self.keep_ledger().await;
    }

    async fn keep_pace(&self) {
        let (queue, file) = (self.queue.clone(), self.kept.pace.clone());
        let kept = tokio::task::spawn_blocking(move || queue.keep_pace(&mut file.lock())).await;
        warn_of(kept, "what mail sites take is not kept for the next start");
    }

    async fn keep_ledger(&self) {
        let (ledger, file) = (self.ledger.clone(), self.kept.ledger.clone());
        let kept = tokio::task::spawn_blocking(move || ledger.keep(&file)).await;
        warn_of(kept, "what texts have cost today is not kept for the next start");
    }
}

fn warn_of(kept: Result<io::Result<()>, tokio::task::JoinError>, what: &str) {
    if let Err(e) = kept.unwrap_or_else(|e| Err(io::Error::other(e))) {
        tracing::warn!(error = %e, "{what}");
    }
}
