//! What waits for the committer, bounded.
//!
//! **Promises.** A group is admitted by bytes before it enters, and its bytes are given back when it is done with: memory is
//! bounded by twice [`super::Options::queue_bytes_max`], one share for intake, one for upkeep, so that a flood of new work
//! never stands in front of the door for what ends old work. Every submission that entered is answered exactly once.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::janitor::FilesOfGroup;
use super::record::Encoded;
use super::{AppendError, Appended, Purpose, batch};

/// Told once what became of a group.
pub type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// The room a group takes up while it waits.
#[derive(Debug)]
pub struct Admission(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A group on its way.
pub struct Submission {
    pub purpose: Purpose,
    pub records: Vec<Encoded>,
    /// Bytes it takes in a batch.
    pub bytes: u64,
    pub done: Done,
    /// Files of its large bodies.
    pub files: FilesOfGroup,
    /// Given back when the group is done with.
    pub _admission: Admission,
}

/// The queue in front of the committer.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    intake: Arc<Semaphore>,
    upkeep: Arc<Semaphore>,
    room: u32,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    closed: Option<AppendError>,
}

impl State {
    fn take(&mut self, bytes_max: usize) -> Vec<Submission> {
        let mut bytes = batch::HEADER_BYTES as u64;
        let fits = self.waiting.iter().take_while(|s| {
            bytes += s.bytes;
            bytes <= bytes_max as u64
        });
        // A group too large for any batch never entered; one at least always goes.
        let count = fits.count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting, closed: {:?}", self.waiting.len(), self.closed)
    }
}

/// What a record costs in memory beyond its bytes; also bounds how many small ones may wait.
const OVERHEAD_BYTES: usize = 256;

impl Inbox {
    pub fn new(bytes_max: usize) -> Self {
        let room = u32::try_from(bytes_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            intake: Arc::new(Semaphore::new(room as usize)),
            upkeep: Arc::new(Semaphore::new(room as usize)),
            room,
        }
    }

    fn semaphore(&self, purpose: Purpose) -> Arc<Semaphore> {
        match purpose {
            Purpose::Intake => self.intake.clone(),
            Purpose::Upkeep => self.upkeep.clone(),
        }
    }

    fn price(&self, bytes: u64, records: usize) -> u32 {
        u32::try_from(bytes + (records * OVERHEAD_BYTES) as u64).unwrap_or(u32::MAX).min(self.room)
    }

    /// Why it takes no more, if it does not.
    pub fn closed(&self) -> Option<AppendError> {
        self.state.lock().closed
    }

    fn refusal(&self) -> AppendError {
        self.closed().unwrap_or(AppendError::Closed)
    }

    /// Waits for room, first come, first served.
    pub async fn admit(&self, purpose: Purpose, bytes: u64, records: usize) -> Result<Admission, AppendError> {
        let permit = self.semaphore(purpose).acquire_many_owned(self.price(bytes, records)).await;
        permit.map(Admission).map_err(|_| self.refusal())
    }

    /// Room now, or [`AppendError::Busy`].
    pub fn try_admit(&self, purpose: Purpose, bytes: u64, records: usize) -> Result<Admission, AppendError> {
        match self.semaphore(purpose).try_acquire_many_owned(self.price(bytes, records)) {
            Ok(permit) => Ok(Admission(permit)),
            Err(TryAcquireError::NoPermits) => Err(AppendError::Busy),
            Err(TryAcquireError::Closed) => Err(self.refusal()),
        }
    }

    /// Hands a group to the committer.
    pub fn push(&self, submission: Submission) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        if let Some(why) = state.closed {
            return Err(why);
        }
        state.waiting.push_back(submission);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for groups and takes as many as fit a batch of `bytes_max`, in order. Empty: closed and nothing left.
    pub fn take(&self, bytes_max: usize) -> Vec<Submission> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed.is_some() {
                return Vec::new();
            }
            self.arrived.wait(&mut state);
        }
        state.take(bytes_max)
    }

    /// As [`Inbox::take`] without waiting; empty if nothing waits.
    #[cfg(test)]
    pub fn take_now(&self, bytes_max: usize) -> Vec<Submission> {
        self.state.lock().take(bytes_max)
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Takes no more. With [`AppendError::Closed`] what waits is still written; with another reason it is answered so.
    pub fn close(&self, why: AppendError) {
        let refused = {
            let mut state = self.state.lock();
            if state.closed.is_none_or(|before| before == AppendError::Closed) {
                state.closed = Some(why);
            }
            if why == AppendError::Closed { VecDeque::new() } else { std::mem::take(&mut state.waiting) }
        };
        self.intake.close();
        self.upkeep.close();
        self.arrived.notify_all();
        for submission in refused {
            submission.refuse(why);
        }
    }
}

impl Submission {
    /// Answers with an error.
    pub fn refuse(mut self, why: AppendError) {
        if why == AppendError::Poisoned {
            // The record may be on disk: its body must stay. If it is not, the next start removes the orphan.
            self.files.keep();
        }
        (self.done)(Err(why));
    }
}
