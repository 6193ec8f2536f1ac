//! Messages that are wholly in memory: what came in or was looked up lately, bounded by bytes, the oldest go first.
//!
//! **Promises.** What is here is what the disk says: whoever applies a change to an entry applies it here as well. Being
//! forgotten costs a look at the disk, nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::life::{Change, Life};
use crate::model::{Content, Envelope, MessageId};

/// What a message's records hold, but for its content.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    pub(super) envelope: Arc<Envelope>,
    /// One per recipient, in the envelope's order.
    pub(super) lives: Vec<Life>,
}

impl Detail {
    /// Applies changes to the lives.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            if let Some(life) = self.lives.get_mut(change.recipient as usize) {
                life.apply(change.clone());
            }
        }
    }
}

/// A message in memory.
#[derive(Clone, Debug)]
pub(super) struct Warm {
    pub(super) detail: Detail,
    pub(super) content: Content,
}

/// What an envelope takes in memory, about, and the places that keep track of it.
const ENVELOPE_BYTES: u64 = 1_024;
/// And each recipient, with the replies to its attempts.
const RECIPIENT_BYTES: u64 = 1_024;

impl Warm {
    /// Rather too much than too little: the allocator rounds up by as much as a quarter.
    fn bytes(&self) -> u64 {
        let content = self.content.len() as u64;
        content + content / 4 + ENVELOPE_BYTES + RECIPIENT_BYTES * self.detail.lives.len() as u64
    }
}

/// The messages in memory.
#[derive(Debug, Default)]
pub(super) struct Hot {
    warm: HashMap<u32, Warm>,
    /// In the order in which they came; those that have gone are passed over.
    order: VecDeque<(u32, MessageId)>,
    bytes: u64,
}

impl Hot {
    /// Keeps a message under its entry's number, and forgets the oldest above `bytes_max`.
    pub(super) fn keep(&mut self, entry: u32, warm: Warm, bytes_max: u64) {
        self.bytes += warm.bytes();
        self.order.push_back((entry, warm.detail.envelope.id));
        self.warm.insert(entry, warm);
        while self.bytes > bytes_max
            && let Some((entry, id)) = self.order.pop_front()
        {
            if self.find(entry).is_some_and(|w| w.detail.envelope.id == id) {
                self.take(entry);
            }
        }
        // Those that have gone before their turn must not pile up.
        if self.order.len() > 1_024 && self.order.len() > 2 * self.warm.len() {
            let warm = &self.warm;
            self.order.retain(|(entry, id)| warm.get(entry).is_some_and(|w| w.detail.envelope.id == *id));
        }
    }

    pub(super) fn find(&self, entry: u32) -> Option<&Warm> {
        self.warm.get(&entry)
    }

    pub(super) fn apply(&mut self, entry: u32, changes: &[Change]) {
        if let Some(warm) = self.warm.get_mut(&entry) {
            warm.detail.apply(changes);
        }
    }

    /// Forgets a message.
    pub(super) fn take(&mut self, entry: u32) -> Option<Warm> {
        let warm = self.warm.remove(&entry)?;
        self.bytes -= warm.bytes();
        Some(warm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{Class, Origin, SmsText, TextOrigin};

    fn warm(n: u8, bytes: usize) -> Warm {
        let envelope = Envelope {
            id: MessageId::from_bytes([n; 16]),
            client: "shop".into(),
            class: Class::Otp,
            campaign: None,
            tags: Vec::new(),
            client_ref: None,
            received_at: Timestamp(0),
            send_at: None,
            expires_at: None,
            idempotency: None,
            origin: Origin::Text(TextOrigin { from: None }),
            recipients: Vec::new(),
        };
        let content = Content::Text(SmsText::new(&"x".repeat(bytes)).unwrap());
        Warm { detail: Detail { envelope: Arc::new(envelope), lives: Vec::new() }, content }
    }

    #[test]
    fn the_oldest_go_and_the_bound_holds() {
        let mut hot = Hot::default();
        for n in 0..100 {
            hot.keep(u32::from(n), warm(n, 240), 13_240);
            assert!(hot.bytes <= 13_240);
        }
        assert_eq!((hot.warm.len(), hot.find(90).is_some(), hot.find(89).is_some()), (10, true, false));
    }

    /// An entry's number that has come to belong to another message.
    #[test]
    fn a_number_used_again_is_not_mistaken() {
        let mut hot = Hot::default();
        hot.keep(1, warm(1, 240), 3_300);
        hot.take(1);
        hot.keep(2, warm(2, 240), 3_300);
        hot.keep(1, warm(3, 240), 3_300);
        hot.keep(3, warm(4, 240), 3_300);
        assert_eq!(hot.find(1).map(|w| w.detail.envelope.id), Some(MessageId::from_bytes([3; 16])));
        assert!(hot.find(2).is_none() && hot.bytes == 2_648);
    }
}
