//! Whether a message is still under way, for whoever only wants to know that.

use super::Queue;
use crate::model::MessageId;

impl Queue {
    /// True for a message that waits, or awaits its receipts. To be asked once all is taken in ([`Queue::loaded`]).
    pub async fn lives(&self, id: MessageId) -> bool {
        // It may be on its way from one to the other; and whom a disk does not tell of is not dead.
        self.is_in_memory(id) || self.on_shelf(id).await.map_or(true, |text| text.is_some()) || self.is_in_memory(id)
    }

    /// The same without a look at the disk: false also for a text that waits for its receipt there.
    pub fn is_in_memory(&self, id: MessageId) -> bool {
        self.shared.table.lock().find(id).is_some()
    }
}
