//! Whether messages are accepted, and if not, why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// Why messages are not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Reason {
    /// Recovery is not done, or listeners are not open.
    Starting = 1,
    /// Told to stop.
    Stopping = 2,
    /// The log is poisoned: nothing can be made durable.
    StorageFailed = 4,
    /// The disk is full; what is queued is still delivered.
    DiskFull = 8,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Stopping, Self::StorageFailed, Self::DiskFull];
}

/// The reasons in force, shared by whoever causes and whoever reports them. Cheap to clone. Begins as
/// [`Reason::Starting`].
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU32>);

impl Readiness {
    /// Not ready: starting.
    pub fn starting() -> Self {
        Self(Arc::new(AtomicU32::new(Reason::Starting as u32)))
    }

    /// Adds a reason.
    pub fn set(&self, reason: Reason) {
        self.0.fetch_or(reason as u32, Ordering::SeqCst);
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: Reason) {
        self.0.fetch_and(!(reason as u32), Ordering::SeqCst);
    }

    /// True without any reason.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    /// The reasons in force; empty when ready.
    pub fn reasons(&self) -> Vec<Reason> {
        let set = self.0.load(Ordering::SeqCst);
        Reason::ALL.into_iter().filter(|r| set & *r as u32 != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_no_reason_is_left() {
        let readiness = Readiness::starting();
        let shared = readiness.clone();
        shared.set(Reason::StorageFailed);
        assert_eq!(readiness.reasons(), [Reason::Starting, Reason::StorageFailed]);
        shared.clear(Reason::Starting);
        assert!(!readiness.is_ready());
        shared.clear(Reason::StorageFailed);
        assert!(readiness.is_ready());
        assert!(readiness.reasons().is_empty());
    }
}
