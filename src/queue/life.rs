//! A recipient's whole life, as records tell it and as people are shown it. What the queue keeps of it in memory is a
//! [`super::entry::Track`].
//!
//! **Promises.** Pure state: what a [`Change`] does to a [`Life`] is written once, here, and is the same whether the change
//! has just been settled or is read back from the log. An ended life never changes again, and no change is applied twice.
//!
//! **Does not know** disk, schedule or time sources.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::Kind;
use crate::model::{EnhancedStatus, PartState, Peer, RecipientIndex, Reply, Rule, Scope, Stage, TextProgress};
use crate::storage::Position;

/// Attempts listed per recipient; older ones are only counted.
pub(super) const ATTEMPTS_LISTED: usize = 12;

/// One recipient's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Life {
    pub(super) state: State,
    /// How many changes have led here: the number of the last one.
    pub(super) sequence: u32,
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
    /// Which carrier; missing in records from before texts went to several.
    pub(super) carrier: Option<Arc<str>>,
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
    /// No end: a text at its carrier lies on the shelf (`queue/shelved.rs`), and what becomes of it is told there.
    Shelved,
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
    /// The row of the provider table that judged the reply.
    pub(super) rule: Option<Rule>,
    pub(super) peer: Option<Peer>,
    pub(super) duration: Duration,
}

/// What happened to one recipient: the unit of a change record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) recipient: RecipientIndex,
    /// Its number in the recipient's life, the first is 1. A change that a life has already seen does nothing to it, so that
    /// records may be replayed over a state that is newer than they are. Zero: the next one (records of the first format).
    pub(super) sequence: u32,
    /// The record of the change before, unless the accept record holds that state already.
    pub(super) previous: Option<Position>,
    pub(super) state: State,
    /// The attempt that led to it, if one did.
    pub(super) attempt: Option<Attempt>,
    /// True if that attempt counts towards the retry schedule.
    pub(super) counts: bool,
    /// Attempts as they stand after it; missing in records of the first format.
    pub(super) tally: Option<Tally>,
    /// Parts as they stand now, if that has changed.
    pub(super) progress: Option<Box<TextProgress>>,
    /// The receipt that led to it, if one did.
    pub(super) receipt: Option<Box<PartReceipt>>,
}

/// What retrying goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    /// Attempts that count towards the retry schedule.
    pub(super) attempts_made: u16,
    /// How many of the latest attempts in a row were answered with a wish to slow down.
    pub(super) throttled: u8,
}

impl Tally {
    /// After one more attempt.
    pub(super) fn after(self, counts: bool, throttled: bool) -> Self {
        Self {
            attempts_made: self.attempts_made.saturating_add(u16::from(counts)),
            throttled: if throttled { self.throttled.saturating_add(1) } else { 0 },
        }
    }
}

impl Life {
    /// A life that begins.
    pub(super) fn new(due: Timestamp) -> Self {
        Self {
            state: State::Queued { due },
            sequence: 0,
            attempts_made: 0,
            attempts: Vec::new(),
            progress: None,
            receipts: Vec::new(),
        }
    }

    /// Applies a change, unless it is known already. An ended life stays as it is.
    pub(super) fn apply(&mut self, change: Change) {
        let Some(sequence) = change.number_after(self.sequence) else { return };
        if matches!(self.state, State::Ended { .. }) {
            return;
        }
        self.sequence = sequence;
        self.state = change.state;
        if let Some(attempt) = change.attempt {
            self.attempts_made = match change.tally {
                Some(tally) => u32::from(tally.attempts_made),
                None => self.attempts_made + u32::from(change.counts),
            };
            if self.attempts.len() == ATTEMPTS_LISTED {
                self.attempts.remove(0);
            }
            self.attempts.push(attempt);
        }
        if let Some(receipt) = change.receipt {
            self.receipts.retain(|r| (r.part, &r.carrier) != (receipt.part, &receipt.carrier));
            self.receipts.push(*receipt);
        }
        if let Some(mut progress) = change.progress {
            if let Some(before) = &self.progress {
                keep_receipts(before, &mut progress);
            }
            self.progress = Some(progress);
        }
    }
}

impl Change {
    /// The number of this change in a life that has seen `seen` changes; `None` if it has seen this one.
    pub(super) fn number_after(&self, seen: u32) -> Option<u32> {
        match self.sequence {
            0 => Some(seen.saturating_add(1)),
            number => (number > seen).then_some(number),
        }
    }
}

/// A receipt may have come while the attempt that sent its part, or another part, was still under way.
pub(super) fn keep_receipts(before: &TextProgress, after: &mut TextProgress) {
    let mut next = Some(after);
    while let Some(after) = next {
        let known = before.chain().find(|known| known.carrier == after.carrier && known.reference == after.reference);
        for (before, after) in known.iter().flat_map(|known| &known.parts).zip(&mut after.parts) {
            if let (PartState::Received(known, _), PartState::Sent(id)) = (before, &*after)
                && known == id
            {
                *after = before.clone();
            }
        }
        next = after.before.as_deref_mut();
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
            Self::SentWithoutReceipt | Self::Shelved => Kind::Sent,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::queue) fn attempt(throttled: bool) -> Attempt {
        Attempt {
            time: Timestamp(1),
            outcome: Kind::Delayed,
            stage: None,
            scope: None,
            status: None,
            reply: None,
            cause: None,
            throttled,
            rule: None,
            peer: None,
            duration: Duration::ZERO,
        }
    }

    fn change(state: State) -> Change {
        let attempt = attempt(false);
        Change {
            recipient: 0,
            sequence: 0,
            previous: None,
            state,
            attempt: Some(attempt),
            counts: true,
            tally: None,
            progress: None,
            receipt: None,
        }
    }

    #[test]
    fn a_change_is_applied_once() {
        let mut life = Life::new(Timestamp(0));
        let second = Change { sequence: 2, ..change(State::Queued { due: Timestamp(9) }) };
        life.apply(Change { sequence: 1, ..change(State::Queued { due: Timestamp(5) }) });
        life.apply(second.clone());
        life.apply(Change { sequence: 1, ..change(State::Queued { due: Timestamp(5) }) });
        life.apply(second);
        assert_eq!((life.state, life.sequence, life.attempts_made), (State::Queued { due: Timestamp(9) }, 2, 2));
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
