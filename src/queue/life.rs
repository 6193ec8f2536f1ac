//! A message and the lives of its recipients, as the queue keeps them in memory.
//!
//! **Promises.** Pure state: what a [`Change`] does to a [`Life`] is written once, here, and is the same whether the change
//! has just been settled or is replayed from the log. An ended life never changes again.
//!
//! **Does not know** disk, schedule or time sources.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::Kind;
use crate::model::{
    Content, EnhancedStatus, Envelope, PartState, Peer, RecipientIndex, Reply, Scope, Stage, TextProgress,
};
use crate::schedule::Ticket;
use crate::storage::Position;

/// Attempts listed per recipient; older ones are only counted.
pub(super) const ATTEMPTS_LISTED: usize = 12;

/// A message with a recipient that has not ended, or, in the history, one whose recipients all have.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) envelope: Arc<Envelope>,
    /// Where its accept record lies.
    pub(super) position: Position,
    /// Bytes of content.
    pub(super) size: u64,
    /// The content while it is hot; otherwise it is read back.
    pub(super) content: Option<Content>,
    /// One per recipient, in the envelope's order.
    pub(super) lives: Vec<Life>,
    /// The written names of the lanes they wait or waited in.
    pub(super) lanes: Vec<Option<Arc<str>>>,
    /// Consignments that are waiting, ready or leased.
    pub(super) tickets: Vec<Ticket>,
    /// Its record is being moved, or something that no attempt led to is being recorded about it: nothing may be leased, and
    /// nothing else of that kind begun, meanwhile.
    pub(super) moving: bool,
}

impl Entry {
    /// True once nothing further can happen to any recipient.
    pub(super) fn has_ended(&self) -> bool {
        self.lives.iter().all(|l| matches!(l.state, State::Ended { .. }))
    }

    /// How many recipients wait to be sent to.
    pub(super) fn queued(&self) -> usize {
        self.lives.iter().filter(|l| matches!(l.state, State::Queued { .. })).count()
    }
}

/// One recipient's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Life {
    pub(super) state: State,
    /// Attempts that count towards the retry schedule.
    pub(super) attempts_made: u32,
    /// The latest attempts, oldest first.
    pub(super) attempts: Vec<Attempt>,
    /// For a text that has been attempted: carrier, reference, parts.
    pub(super) progress: Option<Box<TextProgress>>,
    /// For a text at its carrier: the latest receipt of each part.
    pub(super) receipts: Vec<PartReceipt>,
}

/// What a carrier said of a part, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PartReceipt {
    pub(super) part: u32,
    pub(super) at: Timestamp,
    /// In its own words.
    pub(super) text: String,
}

/// Where a recipient's life stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// To be sent, not before `due`.
    Queued {
        /// When it may go.
        due: Timestamp,
    },
    /// A text's attempt has begun and its end is not recorded. Found at start, it means that a crash swallowed the answer.
    Begun {
        /// When it began.
        at: Timestamp,
    },
    /// A text is at its carrier; its receipt is awaited.
    Sent {
        /// Since when.
        at: Timestamp,
    },
    /// Over.
    Ended {
        /// How.
        end: End,
        /// When.
        at: Timestamp,
    },
}

/// How a recipient's life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A mail's next hop took it; a text's receipt says it arrived.
    Delivered,
    /// Failed for good.
    Failed,
    /// Its time ran out first.
    Expired,
    /// Called back.
    Cancelled,
    /// Refused by our own policy after acceptance.
    Rejected,
    /// A text left and its answer was never seen.
    Unknown,
    /// A text is at its carrier and no receipt came in time.
    SentWithoutReceipt,
}

/// One attempt as it is remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attempt {
    pub(super) time: Timestamp,
    /// What it came to, in the words of events.
    pub(super) outcome: Kind,
    pub(super) stage: Option<Stage>,
    /// Whom it condemned, when it did not succeed.
    pub(super) scope: Option<Scope>,
    /// The status code of a failure.
    pub(super) status: Option<EnhancedStatus>,
    pub(super) reply: Option<Reply>,
    pub(super) cause: Option<String>,
    /// The next hop asked us to slow down.
    pub(super) throttled: bool,
    pub(super) peer: Option<Peer>,
    pub(super) duration: Duration,
}

/// What happened to one recipient: the unit of a change record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) recipient: RecipientIndex,
    pub(super) state: State,
    /// The attempt that led to it, if one did.
    pub(super) attempt: Option<Attempt>,
    /// True if that attempt counts towards the retry schedule.
    pub(super) counts: bool,
    /// Parts as they stand now, if that has changed.
    pub(super) progress: Option<Box<TextProgress>>,
    /// The receipt that led to it, if one did.
    pub(super) receipt: Option<Box<PartReceipt>>,
}

impl Life {
    /// A life that begins.
    pub(super) fn new(due: Timestamp) -> Self {
        Self {
            state: State::Queued { due },
            attempts_made: 0,
            attempts: Vec::new(),
            progress: None,
            receipts: Vec::new(),
        }
    }

    /// Applies a change. An ended life stays as it is.
    pub(super) fn apply(&mut self, change: Change) {
        if matches!(self.state, State::Ended { .. }) {
            return;
        }
        self.state = change.state;
        if let Some(attempt) = change.attempt {
            self.attempts_made += u32::from(change.counts);
            if self.attempts.len() == ATTEMPTS_LISTED {
                self.attempts.remove(0);
            }
            self.attempts.push(attempt);
        }
        if let Some(receipt) = change.receipt {
            self.receipts.retain(|r| r.part != receipt.part);
            self.receipts.push(*receipt);
        }
        if let Some(mut progress) = change.progress {
            if let Some(before) = &self.progress {
                keep_receipts(&before.parts, &mut progress.parts);
            }
            self.progress = Some(progress);
        }
    }
}

/// A receipt may have come while the attempt that sent its part, or another part, was still under way.
fn keep_receipts(before: &[PartState], after: &mut [PartState]) {
    for (before, after) in before.iter().zip(after) {
        if let (PartState::Received(known, _), PartState::Sent(id)) = (before, &*after)
            && known == id
        {
            *after = before.clone();
        }
    }
}

impl End {
    /// The word in the API and in events, which differs by channel for a failure.
    pub(super) const fn kind(self, is_text: bool) -> Kind {
        match self {
            Self::Delivered => Kind::Delivered,
            Self::Failed if is_text => Kind::Undelivered,
            Self::Failed => Kind::Bounced,
            Self::Expired => Kind::Expired,
            Self::Cancelled => Kind::Cancelled,
            Self::Rejected => Kind::Rejected,
            Self::Unknown => Kind::Unknown,
            Self::SentWithoutReceipt => Kind::Sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(state: State) -> Change {
        let attempt = Attempt {
            time: Timestamp(1),
            outcome: Kind::Delayed,
            stage: None,
            scope: None,
            status: None,
            reply: None,
            cause: None,
            throttled: false,
            peer: None,
            duration: Duration::ZERO,
        };
        Change { recipient: 0, state, attempt: Some(attempt), counts: true, progress: None, receipt: None }
    }

    #[test]
    fn an_ended_life_stays_ended() {
        let mut life = Life::new(Timestamp(0));
        let ended = State::Ended { end: End::Delivered, at: Timestamp(5) };
        life.apply(change(ended));
        life.apply(change(State::Queued { due: Timestamp(9) }));
        assert_eq!((life.state, life.attempts_made), (ended, 1));
    }

    #[test]
    fn the_list_of_attempts_is_bounded_and_their_count_is_not() {
        let mut life = Life::new(Timestamp(0));
        (0..40).for_each(|n| life.apply(change(State::Queued { due: Timestamp(n) })));
        assert_eq!((life.attempts.len(), life.attempts_made), (ATTEMPTS_LISTED, 40));
    }
}
