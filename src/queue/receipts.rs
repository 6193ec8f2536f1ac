//! What carriers say of texts they took: matched to its part, durable before the carrier is answered.

use std::time::Duration;

use super::{Queue, settle, table};
use crate::event::{Fact, Kind, PeerFact};
use crate::model::{Channel, Receipt};
use crate::storage::AppendError;

/// How long a receipt that matches nothing waits for the record it may have overtaken.
const RECEIPT_PATIENCE: Duration = Duration::from_millis(500);

impl Queue {
    /// A receipt from a carrier: returns once what it says is on stable storage.
    ///
    /// # Errors
    /// [`AppendError`]; then the carrier must not be answered yes.
    pub async fn receipt(&self, receipt: Receipt) -> Result<(), AppendError> {
        let patience = self.shared.clock.mono().plus(RECEIPT_PATIENCE);
        loop {
            if let Some(at) = self.part_of(&receipt) {
                return self.receipt_for(at, receipt).await;
            }
            // A receipt may overtake the record of the answer that names its id.
            if self.shared.clock.mono() >= patience {
                return self.unmatched(receipt).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn part_of(&self, receipt: &Receipt) -> Option<table::PartAt> {
        let table = self.shared.table.lock();
        let forms = crate::sms::receipt::id_forms(&receipt.carrier_message_id);
        forms.into_iter().find_map(|form| table.parts.get(&(receipt.carrier.clone(), form)).copied())
    }

    async fn receipt_for(&self, at: table::PartAt, receipt: Receipt) -> Result<(), AppendError> {
        loop {
            let settled = {
                let mut table = self.shared.table.lock();
                let Some(entry) = table.entries.get_mut(&at.id) else { return Ok(()) };
                if entry.moving {
                    None
                } else {
                    let Some(life) = entry.lives.get(at.recipient as usize) else { return Ok(()) };
                    let Some(change) = settle::change_after_receipt(life, at.recipient, at.part, &receipt) else {
                        return Ok(());
                    };
                    // Receipts of one message's parts come close together; the second must see the first.
                    entry.moving = true;
                    Some((change, entry.position))
                }
            };
            if let Some((change, position)) = settled {
                return self.record_changes(at.id, position, vec![change], Some(&receipt.text)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn unmatched(&self, receipt: Receipt) -> Result<(), AppendError> {
        self.shared.metrics.carrier_receipts_unmatched.with_label_values(&[&receipt.carrier]).inc();
        let mut fact = Fact::new(receipt.received_at, Kind::Receipt, Channel::Sms);
        fact.reason = Some(format!("receipt {} matches no message: {}", receipt.carrier_message_id, receipt.text));
        fact.peer = Some(PeerFact { host: receipt.carrier.to_string(), address: None, tls: None });
        self.shared.events.record(fact);
        Ok(())
    }
}
