//! The receipts that wait to be sent, over whichever connection can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::IdForm;
use crate::clock::{Mono, Timestamp};
use crate::model::ReceiptState;
use crate::sms::receipt;
use crate::wire::smpp::{Address, ShortMessage, Tlv, esm_class, tlv};

/// A receipt to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) due: Mono,
    /// The part's id.
    pub(super) id: u64,
    /// Times it was brought before.
    pub(super) tries: u32,
    pub(super) state: ReceiptState,
    pub(super) submitted: Timestamp,
    pub(super) source: Address,
    pub(super) destination: Address,
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

impl Waiting {
    /// The `deliver_sm` that brings it: addresses turned round (P34 appendix B).
    pub(super) fn message(&self, ids: IdForm, tlvs: bool, now: Timestamp) -> ShortMessage {
        let id = match ids {
            IdForm::Decimal => self.id.to_string(),
            IdForm::HexThenDecimal => format!("{:012}", self.id),
        };
        let text = receipt::write(&id, self.state, self.submitted, now, "");
        let state: &[u8] = if self.state == ReceiptState::Delivered { &[2] } else { &[5] };
        let tlvs = if tlvs {
            let id = Bytes::from(format!("{id}\0"));
            vec![Tlv::new(tlv::RECEIPTED_MESSAGE_ID, id), Tlv::new(tlv::MESSAGE_STATE, Bytes::copy_from_slice(state))]
        } else {
            Vec::new()
        };
        ShortMessage {
            source: self.destination.clone(),
            destination: self.source.clone(),
            esm_class: esm_class::RECEIPT,
            short_message: text.into(),
            tlvs,
            ..ShortMessage::default()
        }
    }
}

/// All that wait.
#[derive(Debug)]
pub(super) struct Receipts {
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
    most: usize,
    changed: Notify,
}

impl Receipts {
    pub(super) fn new(most: usize) -> Self {
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
