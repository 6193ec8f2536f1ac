//! The receipts, and the parts of what handsets answer, that wait to be sent, over whichever connection can.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::handsets::ReplyPart;
use super::talk::Party;
use crate::clock::{Mono, SharedClock, Timestamp};
use crate::model::ReceiptState;

/// A receipt to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) due: Mono,
    pub(super) spoken: Spoken,
    /// The link that the part came over.
    pub(super) link: u64,
    /// The part's id.
    pub(super) id: u128,
    /// Times it was brought before.
    pub(super) tries: u32,
    pub(super) state: ReceiptState,
    pub(super) submitted: Timestamp,
    pub(super) source: Party,
    pub(super) destination: Party,
    /// It is no receipt: the handset at the destination sends this.
    pub(super) reply: Option<ReplyPart>,
    /// Where it goes, by HTTP.
    pub(super) url: Option<Arc<str>>,
}

/// What is spoken on a connection; a receipt goes back in what its text came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoken {
    Smpp,
    Cmpp,
    Smgp,
    Sgip,
    Http,
}

/// All that wait, by what their texts came in.
#[derive(Debug)]
pub(super) struct AllReceipts {
    smpp: Receipts,
    cmpp: Receipts,
    smgp: Receipts,
    sgip: Receipts,
    http: Receipts,
}

impl AllReceipts {
    pub(super) fn new(most: usize) -> Self {
        let none = || Receipts::new(most);
        Self { smpp: none(), cmpp: none(), smgp: none(), sgip: none(), http: none() }
    }

    pub(super) fn of(&self, spoken: Spoken) -> &Receipts {
        match spoken {
            Spoken::Smpp => &self.smpp,
            Spoken::Cmpp => &self.cmpp,
            Spoken::Smgp => &self.smgp,
            Spoken::Sgip => &self.sgip,
            Spoken::Http => &self.http,
        }
    }
}

/// By when they are due, and in the order in which they were put.
#[derive(Debug, Default)]
struct Queue {
    receipts: BTreeMap<(Mono, u64), Waiting>,
    puts: u64,
}

/// All of one protocol that wait.
#[derive(Debug)]
pub(super) struct Receipts {
    waiting: Mutex<Queue>,
    most: usize,
    changed: Notify,
}

impl Receipts {
    fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), most, changed: Notify::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.lock().receipts.len() >= self.most
    }

    /// Adds one; one that had been taken out always has room.
    pub(super) fn put(&self, receipt: Waiting) {
        let mut waiting = self.waiting.lock();
        waiting.puts += 1;
        let key = (receipt.due, waiting.puts);
        waiting.receipts.insert(key, receipt);
        drop(waiting);
        self.changed.notify_waiters();
    }

    /// Takes out one that is due; none for a part that came over link `not_of`.
    pub(super) fn take(&self, now: Mono, not_of: Option<u64>) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        let key = waiting.first(not_of).filter(|(due, _)| *due <= now)?;
        waiting.receipts.remove(&key)
    }

    /// When the first of these is due.
    pub(super) fn next_due(&self, not_of: Option<u64>) -> Option<Mono> {
        self.waiting.lock().first(not_of).map(|(due, _)| due)
    }

    /// Waits until one is due.
    pub(super) async fn due(&self, clock: &SharedClock) {
        loop {
            let added = self.added();
            tokio::pin!(added);
            added.as_mut().enable();
            let (due, now) = (self.next_due(None), clock.mono());
            match due {
                Some(due) if due <= now => return,
                Some(due) => drop(tokio::time::timeout(due.since(now), added).await),
                None => added.await,
            }
        }
    }

    /// Completes when one is added after this call was polled or enabled.
    pub(super) fn added(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

impl Queue {
    /// The first that is not for a part of link `not_of`.
    fn first(&self, not_of: Option<u64>) -> Option<(Mono, u64)> {
        self.receipts.iter().find(|(_, receipt)| Some(receipt.link) != not_of).map(|(key, _)| *key)
    }
}
