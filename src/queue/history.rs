//! Messages that have ended lately, for those who ask what became of them. In memory, bounded by number and age.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::life::Entry;
use crate::clock::Timestamp;
use crate::model::MessageId;

/// The history.
#[derive(Debug)]
pub(super) struct History {
    most: usize,
    age_max: Duration,
    order: VecDeque<(Timestamp, MessageId)>,
    entries: HashMap<MessageId, Arc<Entry>>,
}

impl History {
    pub(super) fn new(most: usize, age_max: Duration) -> Self {
        Self { most, age_max, order: VecDeque::new(), entries: HashMap::new() }
    }

    /// Remembers a message whose last recipient ended at `now`.
    pub(super) fn remember(&mut self, id: MessageId, mut entry: Entry, now: Timestamp) {
        self.forget_before(now.minus(self.age_max));
        while self.order.len() >= self.most.max(1) {
            self.forget_oldest();
        }
        if self.most > 0 {
            entry.content = None;
            self.order.push_back((now, id));
            self.entries.insert(id, Arc::new(entry));
        }
    }

    pub(super) fn find(&self, id: MessageId) -> Option<&Arc<Entry>> {
        self.entries.get(&id)
    }

    /// Newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.order.iter().rev().filter_map(|(_, id)| self.entries.get(id))
    }

    fn forget_before(&mut self, then: Timestamp) {
        while self.order.front().is_some_and(|&(ended, _)| ended < then) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.entries.remove(&id);
        }
    }
}
