//! How far the owner has come: which groups it has taken into its own state, and so up to where its state speaks for the log.
//!
//! **Promises.** [`Ledger::applied`] is never behind a group that was made durable and whose [`Pending`] is still held, and
//! never goes back. A batch enters before anybody is told of it. Guards may be dropped in any order.
//! **Costs** one reference count per group; one short lock per batch and per question. What is remembered is bounded by twice
//! the batches that have guards outstanding.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Position;

/// A place in the log's order of commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Number of the segment.
    pub segment: u64,
    /// Offset in it.
    pub offset: u32,
}

impl Mark {
    /// In front of everything.
    pub const START: Self = Self { segment: 0, offset: 0 };
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}+{}", self.segment, self.offset)
    }
}

impl Position {
    /// Where the record begins.
    pub fn mark(self) -> Mark {
        Mark { segment: self.segment, offset: self.offset }
    }
}

/// A durable group that its owner has not applied yet. Dropped once the group is in the owner's own state.
///
/// One that was never handed over, because nobody waited for the answer any more, counts as not applied until the next start:
/// better a mark that stands still than one that passes over what nobody knows.
#[derive(Debug)]
pub struct Pending {
    batch: Option<Arc<Batch>>,
    handed_over: bool,
}

#[derive(Debug)]
struct Batch {
    start: Mark,
}

impl Pending {
    /// Now the owner has it.
    pub(super) fn hand_over(&mut self) {
        self.handed_over = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.handed_over {
            tracing::warn!("a record group was made durable and nobody waited for it: sidecars cannot pass it");
            // The batch counts its guards; this one is never given back.
            std::mem::forget(self.batch.take());
        }
    }
}

/// The batches that have not been applied whole.
#[derive(Debug)]
pub struct Ledger(Mutex<State>);

#[derive(Debug)]
struct State {
    /// In order; batches that have been applied may still be among them.
    batches: VecDeque<Arc<Batch>>,
    /// Where the log ends.
    end: Mark,
    /// Length at which those that have been applied are looked for, wherever they stand.
    sweep_at: usize,
}

const SWEEP_AT_MIN: usize = 64;

impl Ledger {
    /// Everything in front of `end` has been applied.
    pub fn new(end: Mark) -> Self {
        Self(Mutex::new(State { batches: VecDeque::new(), end, sweep_at: SWEEP_AT_MIN }))
    }

    /// A batch from `start` to `end` is durable; each of its `groups` gets a guard. None of them has been told yet.
    pub fn durable(&self, start: Mark, end: Mark, groups: usize) -> Vec<Pending> {
        let batch = Arc::new(Batch { start });
        let guard = || Pending { batch: Some(batch.clone()), handed_over: false };
        let guards = std::iter::repeat_with(guard).take(groups).collect();
        let mut state = self.0.lock();
        state.drop_applied();
        if state.batches.len() >= state.sweep_at {
            state.batches.retain_mut(|batch| !is_applied(batch));
            state.sweep_at = SWEEP_AT_MIN.max(2 * state.batches.len());
        }
        state.end = end;
        state.batches.push_back(batch);
        guards
    }

    /// Everything in front of this has been applied.
    pub fn applied(&self) -> Mark {
        let mut state = self.0.lock();
        state.drop_applied();
        #[cfg(test)]
        if super::sabotage::is(super::sabotage::Switch::EagerMarks) {
            return Mark { offset: state.end.offset.saturating_add(4_096), ..state.end };
        }
        state.batches.front().map_or(state.end, |batch| batch.start)
    }
}

impl State {
    fn drop_applied(&mut self) {
        while self.batches.front_mut().is_some_and(is_applied) {
            self.batches.pop_front();
        }
    }
}

/// No guard is left. `get_mut` also sees to it that what the owners did before they dropped theirs is visible here.
fn is_applied(batch: &mut Arc<Batch>) -> bool {
    Arc::get_mut(batch).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Mark {
        Mark { segment: 1, offset }
    }

    fn batch(ledger: &Ledger, n: u32, groups: usize) -> Vec<Pending> {
        let mut guards = ledger.durable(at(n * 100), at(n * 100 + 90), groups);
        guards.iter_mut().for_each(Pending::hand_over);
        guards
    }

    #[test]
    fn the_mark_is_the_first_batch_that_is_not_applied_in_whatever_order_guards_go() {
        let ledger = Ledger::new(Mark::START);
        assert_eq!(ledger.applied(), Mark::START);
        let mut one = batch(&ledger, 1, 2);
        let two = batch(&ledger, 2, 1);
        let three = batch(&ledger, 3, 3);
        assert_eq!(ledger.applied(), at(100));
        drop(three);
        drop(one.pop());
        assert_eq!(ledger.applied(), at(100));
        drop(one.pop());
        assert_eq!(ledger.applied(), at(200));
        drop(two);
        assert_eq!(ledger.applied(), at(390));
        let four = batch(&ledger, 4, 1);
        assert_eq!(ledger.applied(), at(400));
        drop(four);
        assert_eq!(ledger.applied(), at(490));
        assert!(ledger.durable(at(500), at(590), 0).is_empty());
        assert_eq!(ledger.applied(), at(590), "a batch without groups has nothing to apply");
    }

    #[test]
    fn a_guard_that_nobody_was_handed_is_never_applied() {
        let ledger = Ledger::new(Mark::START);
        drop(ledger.durable(at(100), at(190), 1));
        drop(batch(&ledger, 2, 1));
        assert_eq!(ledger.applied(), at(100));
    }

    #[test]
    fn what_is_remembered_is_bounded_by_what_is_outstanding() {
        let ledger = Ledger::new(Mark::START);
        let first = batch(&ledger, 0, 1);
        for n in 1..10_000 {
            drop(batch(&ledger, n, 3));
        }
        assert!(ledger.0.lock().batches.len() <= SWEEP_AT_MIN);
        assert_eq!(ledger.applied(), at(0));
        drop(first);
        assert_eq!(ledger.applied(), at(999_990));
    }
}
