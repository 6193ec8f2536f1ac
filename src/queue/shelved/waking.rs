//! Texts on their way back from the shelf: for a receipt, or because their time is over.
//!
//! **Promises.** One at a time brings a text back, and none that has ended since; it is in the table, durably, before it is taken off
//! the shelf, and nobody is answered before that.
//!
//! **Fails how.** As [`super`] says: later.

use std::time::Duration;

use super::{Shelving, key_of_part};
use crate::clock::Timestamp;
use crate::model::{MessageId, Receipt};
use crate::queue::hot::Detail;
use crate::queue::record::summary::Summary;
use crate::queue::{Queue, pause, record};
use crate::storage::shelf::{Kept, Place};
use crate::storage::{AppendError, Record};

/// Texts whose time is over that are brought back at a time, and how often in a turn.
const OVERDUE_MAX: usize = 512;
const OVERDUE_ROUNDS: usize = 16;
/// Whoever wants a text that somebody else is bringing back looks again after this.
const OTHERS_PAUSE: Duration = Duration::from_millis(5);

impl Queue {
    /// Brings the text back that a receipt is for; false if none lies on the shelf. `exact`: only one whose id stands there as the
    /// receipt has it.
    pub(in crate::queue) async fn wake_for(&self, receipt: &Receipt, exact: bool) -> Result<bool, AppendError> {
        let shelf = self.shared.shelved.shelf.clone();
        if shelf.is_empty() {
            return Ok(false);
        }
        let (carrier, id) = (receipt.carrier.clone(), receipt.carrier_message_id.clone());
        let look = move || {
            let forms = crate::sms::receipt::id_forms(&id);
            for form in forms.into_iter().take(if exact { 1 } else { usize::MAX }) {
                let is_it = |kept: &Kept| {
                    let text = Shelving::read(&kept.payload);
                    text.is_some_and(|text| text.part_ids().any(|(at, id)| *at == *carrier && id == form))
                };
                if let Some(kept) = shelf.find(key_of_part(&carrier, &form), is_it)? {
                    return Ok(Some(kept));
                }
            }
            Ok(None)
        };
        let found: std::io::Result<Option<Kept>> = self.shared.log.on_disk(move |_| look()).await.unwrap_or_else(Err);
        match found {
            Ok(Some(kept)) => {
                if !self.wake(vec![kept]).await? {
                    pause(OTHERS_PAUSE).await;
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(e) => {
                tracing::error!(error = %e, "the shelf cannot be read; the carrier is to bring its receipt again");
                Err(AppendError::Busy)
            }
        }
    }

    /// Brings texts back into the table; false if somebody else is at some of them. Done also if the caller goes away meanwhile.
    async fn wake(&self, texts: Vec<Kept>) -> Result<bool, AppendError> {
        let queue = self.clone();
        let woken = tokio::spawn(async move { queue.wake_all(texts).await });
        woken.await.unwrap_or(Err(AppendError::Closed))
    }

    async fn wake_all(&self, texts: Vec<Kept>) -> Result<bool, AppendError> {
        let (mut mine, mut others) = (Vec::with_capacity(texts.len()), false);
        for kept in texts {
            let Some(text) = Shelving::read(&kept.payload) else {
                tracing::error!(place = ?kept.place, "an item of the shelf is intact and cannot be understood");
                continue;
            };
            if self.shared.shelved.waking.lock().insert(text.detail.envelope.id) {
                mine.push((kept.place, text));
            } else {
                others = true;
            }
        }
        let ids: Vec<MessageId> = mine.iter().map(|(_, text)| text.detail.envelope.id).collect();
        let woken = self.wake_these(mine).await;
        {
            let mut known = self.shared.shelved.waking.lock();
            known.retain(|id| !ids.contains(id));
        }
        woken.map(|()| !others)
    }

    async fn wake_these(&self, mut texts: Vec<(Place, Shelving)>) -> Result<(), AppendError> {
        // Some may have been brought back, and have ended, since they were looked for.
        let (shelf, places) = (self.shared.shelved.shelf.clone(), texts.iter().map(|(place, _)| *place).collect());
        let look = move |places: Vec<Place>| places.into_iter().map(|place| shelf.has(place)).collect();
        let there: std::io::Result<Vec<bool>> =
            self.shared.log.on_disk(move |_| look(places)).await.unwrap_or_else(Err);
        let mut there = there.map_err(|_| AppendError::Busy)?.into_iter();
        texts.retain(|_| there.next().unwrap_or_default());
        if texts.is_empty() {
            return Ok(());
        }
        let recorded = texts.into_iter().map(|(place, text)| {
            let record = Record {
                kind: record::ACCEPT,
                key: text.detail.envelope.id.to_bytes(),
                about: Some(text.from),
                payload: record::write_accept(&text.detail.envelope, &text.detail.lives),
                body: None,
                live: true,
            };
            (place, text, record)
        });
        for group in self.in_groups(recorded.collect(), |(_, _, record)| record) {
            self.wake_group(group).await?;
        }
        Ok(())
    }

    async fn wake_group(&self, texts: Vec<(Place, Shelving, Record)>) -> Result<(), AppendError> {
        let records = texts.iter().map(|(_, _, record)| record.clone()).collect();
        let appended = self.keep(records).await?;
        {
            let (routes, options) = (self.shared.routes.load(), self.shared.options.load());
            let mut table = self.shared.table.lock();
            for ((_, text, _), &position) in texts.iter().zip(&appended.positions) {
                let Detail { envelope, lives } = &text.detail;
                // Its words are gone, as they are for a start that finds this record.
                let summary = Summary::new(envelope, lives, position, 0);
                if table.admit(summary, None, &routes, &options, self.now()).is_none() {
                    self.shared.log.release(position);
                }
                table.changed(position.segment);
            }
        }
        let places = texts.iter().map(|(place, ..)| *place).collect();
        let taken = self.take_off(places).await;
        drop(appended.pending);
        taken
    }

    /// Brings back the texts whose time to wait is over, and removes what nothing lies in any more.
    pub(super) async fn wake_overdue(&self) {
        let wait = self.shared.options.load().receipt_wait_max;
        for _ in 0..OVERDUE_ROUNDS {
            let now = self.shared.clock.now();
            let Some(until) = now.0.checked_sub(wait.as_micros() as u64).map(Timestamp) else { return };
            let (shelf, mut from) = (self.shared.shelved.shelf.clone(), *self.shared.shelved.over.lock());
            let mut walk = move || shelf.walk(&mut from, until, OVERDUE_MAX).map(|found| (found, from));
            let walked = self.shared.log.on_disk(move |_| walk()).await.unwrap_or_else(Err);
            let (found, from) = match walked {
                Ok(walked) => walked,
                Err(e) => return tracing::error!(error = %e, "the shelf cannot be read"),
            };
            let more = found.len() == OVERDUE_MAX;
            match self.wake(found).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => return tracing::error!(error = %e, "texts whose time is over stay on the shelf; later"),
            }
            *self.shared.shelved.over.lock() = from;
            if !more {
                break;
            }
        }
        let (shelf, from) = (self.shared.shelved.shelf.clone(), *self.shared.shelved.over.lock());
        let tidied = self.shared.log.on_disk(move |_| shelf.remove_before(from).and_then(|()| shelf.merge()));
        if let Err(e) = tidied.await.unwrap_or_else(Err) {
            tracing::warn!(error = %e, "the shelf could not be tidied; later");
        }
    }
}
