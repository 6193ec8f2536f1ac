//! A lease: the right to carry one consignment, and the duty to say what became of it.

use std::sync::Arc;
use std::time::Duration;

use super::hot::Detail;
use super::{Queue, Target, record};
use crate::model::{
    Consignment, EnhancedStatus, Envelope, Failure, MessageId, Outcome, PartState, RecipientIndex, RecipientOutcome,
    Scope, Stage, Submission, TextProgress,
};
use crate::schedule::{SourceShares, Ticket};
use crate::storage::{AppendError, Durable, ReadError};

/// The right to carry one consignment. Dropped without [`Lease::settle`], it goes back to its lane at once; after a panic a
/// little later, so that a message that makes us panic does not do so all the time.
#[derive(Debug)]
pub struct Lease {
    pub(super) queue: Queue,
    pub(super) ticket: Ticket,
    pub(super) target: Target,
    pub(super) shares: Option<Arc<SourceShares>>,
    /// There are brakes at its site.
    pub(super) braked: bool,
    pub(super) work: Work,
    pub(super) consignment: Option<Box<Consignment>>,
    /// What its records hold, if they had to be read.
    pub(super) known: Option<Detail>,
    pub(super) state: LeaseState,
}

/// What there is to do, as the queue knows it without looking at the disk.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) id: MessageId,
    pub(super) recipients: Vec<RecipientIndex>,
    /// The number of the attempt to come.
    pub(super) attempt: u32,
    pub(super) progress: Option<Box<TextProgress>>,
}

/// How far a lease has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LeaseState {
    /// Nothing has been sent; dropping it costs nothing.
    Taken,
    /// A text's attempt has begun: dropped now, nobody knows what became of it.
    Begun,
    /// Its outcome is with the committer.
    Settled,
    /// It has gone back to a lane.
    Returned,
}

/// Proof that an attempt's begin is on stable storage: what a text's courier demands before it sends.
#[derive(Clone, Debug)]
pub struct Begun {
    _durable: Durable,
}

impl crate::model::AttemptBegun for Begun {}

/// Why a leased message cannot be carried.
#[derive(Debug)]
pub enum LoadError {
    /// Its content on disk is damaged; trying again will not help.
    Damaged,
    /// It lies elsewhere by now, or has ended.
    Gone,
    /// The disk did not answer; it may later.
    Unreadable(std::io::Error),
}

impl Lease {
    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What each source of ours may do there; `None` where one alone sends, or none is known yet.
    pub fn shares(&self) -> Option<&Arc<SourceShares>> {
        self.shares.as_ref()
    }

    /// The consignment, its content read back from disk if it is not in memory any more.
    ///
    /// # Errors
    /// [`LoadError`]; hand [`Lease::unreadable`]'s outcomes to [`Lease::settle`] then.
    pub async fn load(&mut self) -> Result<&Consignment, LoadError> {
        if self.consignment.is_none() {
            let (known, content) = match self.queue.load(self.work.id).await {
                Ok(whole) => whole,
                Err(e) => {
                    // Whom it was for can often still be read; its end shall be told and remembered.
                    self.known = self.queue.detail(self.work.id).await.ok().flatten();
                    return Err(e);
                }
            };
            let Work { recipients, attempt, progress, .. } = self.work.clone();
            let envelope = known.envelope.clone();
            let progress = progress.map(|progress| *progress);
            self.consignment = Some(Box::new(Consignment { envelope, content, recipients, attempt, progress }));
            self.known = Some(known);
        }
        self.consignment.as_deref().ok_or(LoadError::Damaged)
    }

    /// True if its campaign or its sender's domain is slowed down there and it is not its turn. Then it has been given back, and
    /// the lease is over. To be asked once it is loaded.
    pub fn must_wait(&mut self) -> bool {
        let Some(consignment) = self.consignment.as_deref().filter(|_| self.braked) else { return false };
        let waits = !self.queue.may_go(self.ticket, &consignment.envelope);
        if waits {
            self.state = LeaseState::Returned;
        }
        waits
    }

    /// The outcomes of an attempt that ended because the content could not be read.
    pub fn unreadable(&self, error: &LoadError) -> Vec<RecipientOutcome> {
        let status = EnhancedStatus::new(if matches!(error, LoadError::Damaged) { 5 } else { 4 }, 3, 0);
        let failure = Failure::without_reply(Scope::Message, Stage::Route, status, error.to_string());
        let outcome = match error {
            LoadError::Damaged => Outcome::Failed(failure),
            LoadError::Unreadable(_) | LoadError::Gone => Outcome::Delayed(failure),
        };
        self.outcomes(&outcome)
    }

    /// The same outcome for every recipient of the lease, without a peer.
    pub fn outcomes(&self, outcome: &Outcome) -> Vec<RecipientOutcome> {
        let all = self.work.recipients.iter();
        all.map(|&recipient| RecipientOutcome {
            recipient,
            outcome: outcome.clone(),
            peer: None,
            progress: None,
            duration: Duration::ZERO,
        })
        .collect()
    }

    /// Makes it durable that a text's parts that are `Waiting` in `progress` are about to leave.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing may be sent.
    pub async fn begin(&mut self, progress: TextProgress) -> Result<Begun, AppendError> {
        let mut begun = progress.clone();
        for part in &mut begun.parts {
            if *part == PartState::Waiting {
                *part = PartState::Unanswered;
            }
        }
        // From here on it may be on disk, also if nobody waits for the answer any more.
        self.state = LeaseState::Begun;
        let begun = self.queue.begin(self.work.id, self.ticket, begun).await;
        let durable = begun.inspect_err(|_| self.state = LeaseState::Taken)?;
        if let Some(consignment) = &mut self.consignment {
            consignment.progress = Some(progress);
        }
        Ok(Begun { _durable: durable })
    }

    /// Tells what sources of ours were answered for which the mail then was tried from others. To be called before
    /// [`Lease::settle`].
    pub fn blame(&self, answers: &[RecipientOutcome]) {
        if !answers.is_empty() {
            self.queue.blame(self.ticket, answers);
        }
    }

    /// Hands the outcomes, and the messages that follow from them, to the committer as one batch: all or nothing. Does not
    /// wait for the disk, but for a place among those that do.
    pub async fn settle(mut self, outcomes: Vec<RecipientOutcome>, follow_ups: Vec<Submission>) {
        self.state = LeaseState::Settled;
        let known = self.known.take();
        let read = known.as_ref().map(|known| known.envelope.clone());
        let envelope = self.consignment.as_ref().map(|c| c.envelope.clone()).or(read);
        self.queue.clone().settle(self.ticket, Known { envelope, known }, outcomes, follow_ups).await;
    }

    /// Whom it is for.
    pub fn recipients(&self) -> Vec<RecipientIndex> {
        self.work.recipients.clone()
    }
}

/// What a lease has learnt of its message.
#[derive(Debug)]
pub(super) struct Known {
    /// Missing if it could not be read.
    pub(super) envelope: Option<Arc<Envelope>>,
    /// Missing as well if the message is in memory.
    pub(super) known: Option<Detail>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.state {
            LeaseState::Taken => self.queue.return_unused(self.ticket, std::thread::panicking()),
            // Its begin is on disk without an end: the next start will call it unknown. Sending it again might double it.
            LeaseState::Begun => {
                tracing::error!(id = %self.work.id, "a text's attempt was dropped before its outcome")
            }
            LeaseState::Settled | LeaseState::Returned => {}
        }
    }
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged => f.write_str("the content is damaged on disk"),
            Self::Gone => f.write_str("the record is not there any more"),
            Self::Unreadable(why) => write!(f, "the content could not be read back: {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<ReadError> for LoadError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Corrupt => Self::Damaged,
            ReadError::Gone => Self::Gone,
            ReadError::Io(e) => Self::Unreadable(e),
        }
    }
}

impl From<record::RecordError> for LoadError {
    fn from(_: record::RecordError) -> Self {
        Self::Damaged
    }
}
