//! What carriers say of texts they took: matched to its part, durable before the carrier is answered.

use std::time::Duration;

use super::carry::About;
use super::life::{Change, State};
use super::parts::{PartAt, PartKey};
use super::under_way::Moment;
use super::{Queue, pause, settle};
use crate::event::{Fact, Kind, PeerFact};
use crate::model::{Channel, Number, Receipt, TextProgress, Verdict};
use crate::storage::AppendError;

/// How long a receipt waits for the record it may have overtaken.
const RECEIPT_PATIENCE: Duration = Duration::from_millis(500);
/// How often it looks.
const RECEIPT_PAUSE: Duration = Duration::from_millis(5);

/// What is to be done about a receipt.
enum Step {
    /// Make this change durable.
    Record(Box<Change>, About),
    /// Look again: something else is happening to its text.
    Wait,
    /// It says nothing new.
    Nothing,
}

/// What the table knows of a receipt.
enum Found {
    /// The part it is about.
    Part(PartAt),
    /// Its text has ended; it can only be a repetition.
    Answered,
    /// Nothing, but a text that was on its way when it came still is, or some are still being taken in from disk, that may yet
    /// turn out to be meant.
    Perhaps,
    Nothing,
}

impl Queue {
    /// A receipt from a carrier: returns once what it says is on stable storage.
    ///
    /// # Errors
    /// [`AppendError`]; then the carrier must not be answered yes. [`AppendError::Busy`] also while the text it may be
    /// about is still being sent: the carrier will bring it again.
    pub async fn receipt(&self, receipt: Receipt) -> Result<(), AppendError> {
        let patience = self.shared.clock.mono().plus(RECEIPT_PATIENCE);
        let came = self.shared.table.lock().under_way.now();
        let mut looked = false;
        loop {
            let found = self.find(&receipt, came);
            if !looked && !matches!(found, Found::Part(_)) && self.is_loaded() {
                // If there is one, it is found when looked for again. A carrier may have given an id twice.
                looked = !self.wake_for(&receipt, matches!(found, Found::Answered)).await?;
                if !looked {
                    continue;
                }
            }
            let patient = self.shared.clock.mono() < patience;
            match found {
                Found::Part(at) => match self.receipt_for(at, &receipt) {
                    Step::Nothing => return Ok(()),
                    Step::Record(change, about) => return self.record_changes(about, vec![*change]).await,
                    Step::Wait if !patient => return Err(AppendError::Busy),
                    Step::Wait => {}
                },
                Found::Answered => return Ok(()),
                // It may overtake the record of the answer that names its id.
                Found::Perhaps if !patient => return Err(AppendError::Busy),
                // With no text under way since before it came there is nothing it could have overtaken.
                Found::Nothing => {
                    self.unmatched(&receipt);
                    return Ok(());
                }
                Found::Perhaps => {}
            }
            pause(RECEIPT_PAUSE).await;
        }
    }

    /// To which number the text went that a receipt is about; `None` if that is not known, or no more.
    pub fn addressed(&self, receipt: &Receipt) -> Option<Number> {
        let table = self.shared.table.lock();
        let at = table.parts.find(&keys_of(receipt))?;
        Number::of_digits(table.entry(at.entry)?.track(at.recipient)?.address)
    }

    fn find(&self, receipt: &Receipt, came: Moment) -> Found {
        let table = self.shared.table.lock();
        let keys = keys_of(receipt);
        // As it stands first: in another form it may be somebody else's.
        let (exact, others) = keys.split_at(keys.len().min(1));
        for keys in [exact, others] {
            if let Some(at) = table.parts.find(keys) {
                return Found::Part(at);
            }
            if keys.iter().any(|key| table.parts.answered.contains(key)) {
                return Found::Answered;
            }
        }
        if !self.is_loaded() || (table.under_way.has_since(came) && table.may_be_carrying(&receipt.carrier)) {
            Found::Perhaps
        } else {
            Found::Nothing
        }
    }

    /// What a receipt for a part of ours comes to.
    fn receipt_for(&self, at: PartAt, receipt: &Receipt) -> Step {
        let mut table = self.shared.table.lock();
        let Some(entry) = table.entry(at.entry) else { return Step::Nothing };
        // While it is out for delivery the log says that an attempt has begun; a change now would say that it has not.
        if entry.moving || table.is_leased(entry) {
            return Step::Wait;
        }
        let (track, progress) = (entry.track(at.recipient), table.parts.progress(at.entry, at.recipient));
        let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
        let change = track.zip(progress).and_then(|(track, progress)| {
            let now = self.shared.clock.now();
            let elsewhere = |p: &TextProgress| table.elsewhere(entry, track, p, (&routes, &options), now);
            let prospects = options.prospects(entry.class, &elsewhere);
            settle::change_after_receipt(track, progress, at.recipient, at.part, receipt, prospects)
        });
        let Some((change, again)) = change else { return Step::Nothing };
        self.count_again(again);
        let seen = change.progress.as_deref().and_then(|progress| {
            let verdict = progress.chain().find(|at| at.carrier == receipt.carrier)?.verdict()?;
            // Since when a text is there that has gone on is not known any more.
            let after = match track?.state() {
                State::Sent { at } if progress.carrier == receipt.carrier => Some(receipt.received_at.since(at)),
                _ => None,
            };
            Some((verdict == Verdict::Arrived, after))
        });
        let about = About { id: entry.id, number: at.entry, position: entry.position(), envelope: None, known: None };
        if let Some((arrived, after)) = seen {
            table.note_quality(&receipt.carrier, arrived, after, self.now().mono);
        }
        // Receipts of one text's parts come close together; the second must see the first.
        if let Some(entry) = table.entry_mut(at.entry) {
            entry.moving = true;
        }
        Step::Record(Box::new(change), about)
    }

    fn unmatched(&self, receipt: &Receipt) {
        self.shared.metrics.carrier_receipts_unmatched.with_label_values(&[&receipt.carrier]).inc();
        let mut fact = Fact::new(receipt.received_at, Kind::Receipt, Channel::Sms);
        fact.reason = Some(format!("receipt {} matches no message: {}", receipt.carrier_message_id, receipt.text));
        let host = receipt.carrier.to_string();
        fact.peer = Some(PeerFact { host, address: None, tls: None, source: None, tls_policy: None });
        self.shared.events.record(fact);
    }
}

/// What the part may stand under that a receipt is about, the likeliest first.
fn keys_of(receipt: &Receipt) -> Vec<PartKey> {
    let forms = crate::sms::receipt::id_forms(&receipt.carrier_message_id);
    forms.into_iter().map(|form| (receipt.carrier.clone(), form)).collect()
}
