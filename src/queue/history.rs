//! Messages that have ended lately, for those who ask what became of them. In memory, bounded by number and age; each costs
//! what its envelope and its attempts take on disk, some 500 bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::entry::fingerprint;
use super::hot::Detail;
use super::record;
use crate::clock::Timestamp;
use crate::model::MessageId;

/// The history.
#[derive(Debug)]
pub(super) struct History {
    most: usize,
    age_max: Duration,
    order: VecDeque<(Timestamp, MessageId)>,
    ended: HashMap<MessageId, Ended>,
}

/// A message that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) id: MessageId,
    /// Bytes of content.
    pub(super) size: u32,
    /// Fingerprints of its recipients' addresses.
    addresses: Arc<[u64]>,
    /// Envelope and lives, as an accept record holds them.
    written: Arc<[u8]>,
}

impl Ended {
    pub(super) fn new(detail: &Detail, size: u32) -> Self {
        Self {
            id: detail.envelope.id,
            size,
            addresses: detail.envelope.recipients.iter().map(|r| fingerprint(&r.address)).collect(),
            written: record::write_accept(&detail.envelope, &detail.lives)[..].into(),
        }
    }

    /// What was kept.
    pub(super) fn detail(&self) -> Option<Detail> {
        let (envelope, lives) = record::read_accept(self.id, &self.written).ok()?;
        Some(Detail { envelope: Arc::new(envelope), lives })
    }

    /// May it have gone to an address with this fingerprint?
    pub(super) fn is_to(&self, fingerprint: u64) -> bool {
        self.addresses.contains(&fingerprint)
    }
}

impl History {
    pub(super) fn new(most: usize, age_max: Duration) -> Self {
        Self { most, age_max, order: VecDeque::new(), ended: HashMap::new() }
    }

    /// Remembers a message whose last recipient ended at `now`.
    pub(super) fn remember(&mut self, ended: Ended, now: Timestamp) {
        self.forget_before(now.minus(self.age_max));
        while self.order.len() >= self.most.max(1) {
            self.forget_oldest();
        }
        if self.most > 0 {
            self.order.push_back((now, ended.id));
            self.ended.insert(ended.id, ended);
        }
    }

    pub(super) fn find(&self, id: MessageId) -> Option<&Ended> {
        self.ended.get(&id)
    }

    /// Those that may have gone to an address, newest first.
    pub(super) fn to(&self, fingerprint: u64, most: usize) -> Vec<MessageId> {
        let newest = self.order.iter().rev().map(|(_, id)| *id);
        newest.filter(|id| self.find(*id).is_some_and(|e| e.is_to(fingerprint))).take(most).collect()
    }

    fn forget_before(&mut self, then: Timestamp) {
        while self.order.front().is_some_and(|&(ended, _)| ended < then) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.ended.remove(&id);
        }
    }
}
