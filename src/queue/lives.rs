//! Whether a message is still under way, for whoever only wants to know that.

use super::Queue;
use crate::model::MessageId;

impl Queue {
    /// True for a message that waits, or awaits its receipts. To be asked once all is taken in ([`Queue::loaded`]).
    pub fn lives(&self, id: MessageId) -> bool {
        self.shared.table.lock().find(id).is_some()
    }
}
