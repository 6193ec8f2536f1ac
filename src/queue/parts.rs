//! Texts under way: the parts of each, and which text a part at a carrier belongs to.
//!
//! **Promises.** A part is found by the carrier's name and the id it gave, in any of the forms in which carriers bring it
//! back. In memory, for every text that has been attempted, has not ended and does not lie on the shelf.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::answered::Answered;
use crate::model::{MessageId, PartState, RecipientIndex, TextProgress};

/// A carrier's name and a part's id at it.
pub(super) type PartKey = (Arc<str>, String);

/// A part at a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PartAt {
    /// The number of its message's entry.
    pub(super) entry: u32,
    pub(super) recipient: RecipientIndex,
    pub(super) part: usize,
}

/// Parts of texts under way.
#[derive(Debug, Default)]
pub(super) struct Parts {
    by_key: HashMap<PartKey, PartAt>,
    /// By the number of the message's entry; nearly always one recipient.
    progress: HashMap<u32, Vec<(RecipientIndex, Box<TextProgress>)>>,
    /// Texts that wait for receipts, the longest first; some may have gone or stand here twice.
    pub(super) order: VecDeque<(u32, MessageId)>,
    /// Parts of texts that have ended: their receipts, should they come once more, say nothing new.
    pub(super) answered: Answered,
}

impl Parts {
    /// How many texts are under way.
    pub(super) fn awaiting(&self) -> usize {
        self.progress.len()
    }

    /// How far a text to a recipient has come.
    pub(super) fn progress(&self, entry: u32, recipient: RecipientIndex) -> Option<&TextProgress> {
        self.progress.get(&entry)?.iter().find(|(r, _)| *r == recipient).map(|(_, progress)| &**progress)
    }

    /// Remembers how far a text has come.
    pub(super) fn keep(&mut self, entry: u32, recipient: RecipientIndex, progress: Box<TextProgress>) {
        for at_carrier in progress.chain() {
            for (part, state) in at_carrier.parts.iter().enumerate() {
                if let PartState::Sent(id) | PartState::Received(id, _) = state {
                    self.by_key.insert(key_of(at_carrier, id), PartAt { entry, recipient, part });
                }
            }
        }
        let of_message = self.progress.entry(entry).or_default();
        match of_message.iter_mut().find(|(r, _)| *r == recipient) {
            Some((_, before)) => *before = progress,
            None => of_message.push((recipient, progress)),
        }
    }

    /// A change says how far a text has come; receipts that came meanwhile still count.
    pub(super) fn update(&mut self, entry: u32, recipient: RecipientIndex, progress: &TextProgress) {
        let mut progress = Box::new(progress.clone());
        if let Some(before) = self.progress(entry, recipient) {
            super::life::keep_receipts(before, &mut progress);
        }
        self.keep(entry, recipient, progress);
    }

    /// The part that a carrier means by an id in any of these forms.
    pub(super) fn find(&self, keys: &[PartKey]) -> Option<PartAt> {
        keys.iter().find_map(|key| self.by_key.get(key)).copied()
    }

    /// A message has ended.
    pub(super) fn forget(&mut self, entry: u32) {
        for key in self.put_away(entry) {
            self.answered.insert(key);
        }
    }

    /// A message is found elsewhere from now on, by these.
    pub(super) fn put_away(&mut self, entry: u32) -> Vec<PartKey> {
        let mut keys = Vec::new();
        for (_, progress) in self.progress.remove(&entry).unwrap_or_default() {
            let parts = progress.chain().flat_map(|at| at.parts.iter().map(move |state| (at, state)));
            for (at_carrier, state) in parts {
                if let PartState::Sent(id) | PartState::Received(id, _) = state {
                    let key = key_of(at_carrier, id);
                    // A carrier may have given the id to another text since.
                    if self.by_key.get(&key).is_some_and(|at| at.entry == entry) {
                        self.by_key.remove(&key);
                        keys.push(key);
                    }
                }
            }
        }
        keys
    }
}

fn key_of(progress: &TextProgress, id: &str) -> PartKey {
    (progress.carrier.clone(), crate::sms::receipt::id_key(id))
}
