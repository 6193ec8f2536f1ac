//! The yes to a part of a long text that waits for its others.

use crate::model::{MessageId, Responsibility};
use crate::storage::journal::Written;

/// A part that is on stable storage: [`Written`] says so, and only a journal makes one.
#[derive(Debug)]
pub(in crate::ingress) struct PartKept {
    id: MessageId,
    _written: Written,
}

impl PartKept {
    pub(in crate::ingress) fn new(id: MessageId, written: Written) -> Self {
        Self { id, _written: written }
    }
}

impl Responsibility for PartKept {
    fn message_id(&self) -> MessageId {
        self.id
    }
}
