//! The receipts, and the parts of what handsets answer, that wait to be sent, over whichever connection can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::handsets::ReplyPart;
use super::talk::Party;
use crate::clock::{Mono, Timestamp};
use crate::model::ReceiptState;

/// A receipt to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) due: Mono,
    pub(super) spoken: Spoken,
    /// The part's id.
    pub(super) id: u64,
    /// Times it was brought before.
    pub(super) tries: u32,
    pub(super) state: ReceiptState,
    pub(super) submitted: Timestamp,
    pub(super) source: Party,
    pub(super) destination: Party,
    /// It is no receipt: the handset at the destination sends this.
    pub(super) reply: Option<ReplyPart>,
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.id).cmp(&(other.due, other.id))
    }
}

/// What is spoken on a connection; a receipt goes back in what its text came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoken {
    Smpp,
    Cmpp,
    Smgp,
}

/// All that wait, by what their texts came in.
#[derive(Debug)]
pub(super) struct AllReceipts {
    smpp: Receipts,
    cmpp: Receipts,
    smgp: Receipts,
}

impl AllReceipts {
    pub(super) fn new(most: usize) -> Self {
        Self { smpp: Receipts::new(most), cmpp: Receipts::new(most), smgp: Receipts::new(most) }
    }

    pub(super) fn of(&self, spoken: Spoken) -> &Receipts {
        match spoken {
            Spoken::Smpp => &self.smpp,
            Spoken::Cmpp => &self.cmpp,
            Spoken::Smgp => &self.smgp,
        }
    }
}

/// All of one protocol that wait.
#[derive(Debug)]
pub(super) struct Receipts {
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
    most: usize,
    changed: Notify,
}

impl Receipts {
    fn new(most: usize) -> Self {
        Self { waiting: Mutex::new(BinaryHeap::new()), most, changed: Notify::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.lock().len() >= self.most
    }

    /// Adds one; one that had been taken out always has room.
    pub(super) fn put(&self, receipt: Waiting) {
        self.waiting.lock().push(Reverse(receipt));
        self.changed.notify_waiters();
    }

    /// Takes out one that is due.
    pub(super) fn take(&self, now: Mono) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        let due = waiting.peek().is_some_and(|Reverse(first)| first.due <= now);
        if due { waiting.pop().map(|Reverse(first)| first) } else { None }
    }

    /// When the first is due.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.waiting.lock().peek().map(|Reverse(first)| first.due)
    }

    /// Completes when one is added after this call was polled or enabled.
    pub(super) fn added(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}
