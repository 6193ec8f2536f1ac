//! Texts that wait for receipts on the shelf: on disk, out of the table.
//!
//! A text at its carrier waits for its receipt, for days if none comes. The table keeps so many of them as
//! [`Options::awaiting_in_memory_max`] says, for most receipts come soon; older ones are put on the shelf
//! (`storage/shelf.rs`), a whole message with its lives and without its content, and their records are let go. A receipt for one,
//! or the end of its time, brings it back into the table by an accept record of its own, and all goes on as if it had never left.
//!
//! | a crash after | on disk | recovery does |
//! |---|---|---|
//! | items put | items, nothing in the log | the text is in its segment; the item is taken |
//! | CHANGE shelved synced | items, CHANGE | it lies on the shelf |
//! | ACCEPT synced, item not taken | the item, ACCEPT | the text is in its segment; the item is taken |
//!
//! **Promises.** A text is in the table or on the shelf, at any time one of them; a receipt is answered only once what it says is
//! recorded. Memory holds nothing of a text that lies there. One that a receipt for one of its parts has brought back, and that lies
//! there again, may wait up to twice as long as others for the rest.
//!
//! **Does not know** how items lie on disk.
//!
//! **Fails how.** What cannot be put stays in memory and is tried again. What cannot be read is answered "later" to the carrier.

mod waking;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::entry::Entry;
use super::hot::Detail;
use super::life::{Change, End, State};
use super::table::{Now, Table};
use super::{Options, Queue, change_record, record, settle};
use crate::clock::Timestamp;
use crate::model::{Address, Channel, MessageId, PartState};
use crate::route::Routes;
use crate::storage::shelf::{self, Item, Place, Shelf, key_of};
use crate::storage::{AppendError, Disk, OpenError, Position, Record};

/// Texts put by at a time.
const PUT_MAX: usize = 16_384;
/// What ends so soon for want of a receipt is not put by any more.
const ENDS_SOON: Duration = Duration::from_secs(60);
/// A shelf from before the start is looked through in pieces of so many.
const STRIDE: usize = 1_024;

/// The shelf, and what is being done with it.
#[derive(Debug)]
pub(super) struct Shelved {
    shelf: Arc<Shelf>,
    /// Texts on their way back.
    waking: Mutex<HashSet<MessageId>>,
    /// Texts have been put there, and the log does not say so yet.
    unconfirmed: AtomicBool,
    /// It could not be made to.
    broken: AtomicBool,
    /// Up to where all that lay there has been brought back because its time was over.
    over: Mutex<Place>,
}

/// A text as it lies on the shelf.
pub(super) struct Shelving {
    pub(super) detail: Detail,
    /// Bytes of its content, which is gone.
    pub(super) size: u32,
    /// Where its accept record lay.
    from: Position,
}

/// What a start has found to lie on the shelf that may live elsewhere: see [`Shelved::doubtful`].
pub(super) type Doubtful = HashMap<MessageId, Place>;

impl Shelved {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, options: shelf::Options) -> Result<Self, OpenError> {
        let path = dir.join("shelf");
        let opened = Shelf::open(disk, &path, options);
        let shelf = opened.map_err(|source| OpenError::Io { doing: "read", path, source })?;
        Ok(Self {
            shelf: Arc::new(shelf),
            waking: Mutex::default(),
            unconfirmed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            over: Mutex::new(Place::START),
        })
    }

    /// Nobody knows what the disk has: the next start finds out.
    pub(super) fn is_broken(&self) -> bool {
        self.shelf.is_poisoned() || self.broken.load(Ordering::Acquire)
    }

    /// Items, and bytes on disk, about.
    pub(super) fn figures(&self) -> (u64, u64) {
        self.shelf.figures()
    }
}

impl Shelving {
    /// What is written. Lives bear the number that the change has which says that the text lies here: it does nothing to them
    /// when they are back.
    fn written(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(512);
        bytes.put_slice(&self.detail.envelope.id.to_bytes());
        bytes.put_u32_le(self.size);
        bytes.put_u64_le(self.from.segment);
        bytes.put_u32_le(self.from.offset);
        bytes.put_u32_le(self.from.length);
        bytes.put_slice(&record::write_accept(&self.detail.envelope, &self.detail.lives));
        bytes.freeze()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (id, rest) = payload.split_first_chunk::<16>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (envelope, lives) = record::read_accept(MessageId::from_bytes(*id), rest).ok()?;
        Some(Self {
            detail: Detail { envelope: Arc::new(envelope), lives },
            size: u32::from_le_bytes(*size),
            from: Position {
                segment: u64::from_le_bytes(*segment),
                offset: u32::from_le_bytes(*offset),
                length: u32::from_le_bytes(*length),
            },
        })
    }

    fn id_of(payload: &[u8]) -> Option<MessageId> {
        payload.first_chunk().map(|id| MessageId::from_bytes(*id))
    }

    fn keys(&self) -> Vec<u64> {
        let mut keys = vec![key_of_id(self.detail.envelope.id)];
        keys.extend(self.detail.envelope.recipients.iter().filter_map(|to| match &to.address {
            Address::Number(number) => Some(key_of_number(number.as_str())),
            Address::Mailbox(_) => None,
        }));
        keys.extend(self.part_ids().map(|(carrier, id)| key_of_part(carrier, &id)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Its parts at carriers, by the form of their ids that receipts are looked up by.
    fn part_ids(&self) -> impl Iterator<Item = (&str, String)> {
        let progress = self.detail.lives.iter().filter_map(|life| life.progress.as_deref());
        progress.flat_map(|progress| progress.chain()).flat_map(|at| {
            at.parts.iter().filter_map(move |part| match part {
                PartState::Sent(id) | PartState::Received(id, _) => {
                    Some((&*at.carrier, crate::sms::receipt::id_key(id)))
                }
                PartState::Waiting | PartState::Unanswered | PartState::Refused => None,
            })
        })
    }
}

fn key_of_id(id: MessageId) -> u64 {
    key_of(&[b"id", &id.to_bytes()])
}

fn key_of_number(number: &str) -> u64 {
    key_of(&[b"to", number.as_bytes()])
}

fn key_of_part(carrier: &str, id: &str) -> u64 {
    key_of(&[b"part", carrier.as_bytes(), id.as_bytes()])
}

/// A text that is about to be put on the shelf; its entry is marked.
struct Leaving {
    number: u32,
    id: MessageId,
    at: Timestamp,
    from: Position,
    changes: Vec<Change>,
}

impl Table {
    /// The texts that have waited for receipts longest, if too many do, each marked; at most [`PUT_MAX`].
    fn take_awaiting(&mut self, (routes, options): (&Routes, &Options), now: Now) -> Vec<Leaving> {
        let most = options.awaiting_in_memory_max;
        if self.parts.awaiting() <= most {
            return Vec::new();
        }
        // Some more than must: each time costs some syncs of the disk.
        let wanted = (self.parts.awaiting() - (most - most / 8)).min(PUT_MAX);
        let mut taken = Vec::with_capacity(wanted);
        for _ in 0..self.parts.order.len() {
            if taken.len() >= wanted {
                break;
            }
            let Some((number, id)) = self.parts.order.pop_front() else { break };
            let Some(entry) = self.entry(number).filter(|entry| entry.id == id && awaits(entry)) else { continue };
            let stays = self.goes_on_soon(number, entry, (routes, options), now);
            if entry.moving || self.is_leased(entry) || stays {
                self.parts.order.push_back((number, id));
                continue;
            }
            let waits = entry.numbered().filter(|(_, track)| !track.has_ended());
            let change = |(r, track)| settle::ended(track, r, End::Shelved, None, true, now.wall);
            let since = entry.tracks().filter_map(|track| match track.state() {
                State::Sent { at } => Some(at),
                _ => None,
            });
            let (at, from) = (since.max().unwrap_or(now.wall), entry.position());
            taken.push(Leaving { number, id, at, from, changes: waits.map(change).collect() });
            if let Some(entry) = self.entry_mut(number) {
                entry.moving = true;
            }
        }
        taken
    }

    /// Would it go to another carrier, if no receipt comes in time? Or is its time nearly over?
    fn goes_on_soon(&self, number: u32, entry: &Entry, settings: (&Routes, &Options), now: Now) -> bool {
        entry.numbered().any(|(recipient, track)| match track.state() {
            State::Sent { at } => {
                let end = at.plus(settings.1.receipt_wait_max);
                end < now.wall.plus(ENDS_SOON) || self.awaits_until(number, recipient, at, settings, now.wall) < end
            }
            _ => false,
        })
    }

    /// A message may wait for nothing but receipts now.
    pub(super) fn note_awaiting(&mut self, number: u32) {
        let Some(entry) = self.entry(number).filter(|entry| awaits(entry)) else { return };
        let id = entry.id;
        self.parts.order.push_back((number, id));
        if self.parts.order.len() > 2 * self.parts.awaiting() + 1_024 {
            let mut order = std::mem::take(&mut self.parts.order);
            let mut seen = HashSet::new();
            order.retain(|(n, id)| self.entry(*n).is_some_and(|e| e.id == *id && awaits(e)) && seen.insert(*n));
            self.parts.order = order;
        }
    }
}

/// Does it wait for receipts and nothing else?
fn awaits(entry: &Entry) -> bool {
    entry.channel == Channel::Sms && !entry.has_ended() && entry.queued() == 0
}

impl Queue {
    /// Puts texts by that have waited longest, while too many do.
    pub(super) async fn shelve(&self) {
        loop {
            let (routes, options) = (self.shared.routes.load_full(), self.shared.options.load_full());
            let leaving = self.shared.table.lock().take_awaiting((&routes, &options), self.now());
            if leaving.is_empty() || !self.shelve_some(leaving).await {
                return;
            }
        }
    }

    /// False if they had to stay.
    async fn shelve_some(&self, leaving: Vec<Leaving>) -> bool {
        let (mut ready, mut items) = (Vec::with_capacity(leaving.len()), Vec::with_capacity(leaving.len()));
        for text in leaving {
            match self.item_of(&text).await {
                Some(item) => {
                    ready.push(text);
                    items.push(item);
                }
                None => self.keep_here(&text),
            }
        }
        let shelf = self.shared.shelved.shelf.clone();
        self.shared.shelved.unconfirmed.store(true, Ordering::Release);
        let put = self.shared.log.on_disk(move |_| shelf.put(&items)).await.unwrap_or_else(Err);
        let places = match put {
            Ok(places) => places,
            Err(e) => {
                tracing::error!(error = %e, "texts that wait for receipts could not be put on the shelf and stay in memory");
                ready.iter().for_each(|text| self.keep_here(text));
                return false;
            }
        };
        let mut all = true;
        let recorded = ready.into_iter().zip(places).map(|(text, place)| {
            let record = change_record(text.id, text.from, &text.changes);
            (text, place, record)
        });
        for group in self.in_groups(recorded.collect(), |(_, _, record)| record) {
            all &= self.let_go_of(group).await;
        }
        self.shared.shelved.unconfirmed.store(false, Ordering::Release);
        all
    }

    /// What the log takes at once, each.
    fn in_groups<T>(&self, all: Vec<T>, record: impl Fn(&T) -> &Record) -> Vec<Vec<T>> {
        let most = self.shared.log.group_bytes_max();
        let (mut groups, mut bytes) = (Vec::<Vec<T>>::new(), 0);
        for one in all {
            let its = record(&one).payload.len().max(64);
            match groups.last_mut() {
                Some(group) if bytes + its <= most => group.push(one),
                _ => {
                    bytes = 0;
                    groups.push(vec![one]);
                }
            }
            bytes += its;
        }
        groups
    }

    async fn item_of(&self, text: &Leaving) -> Option<Item> {
        let mut detail = self.detail(text.id).await.ok()??;
        let size = self.shared.table.lock().find(text.id)?.1.size;
        for change in &text.changes {
            detail.lives.get_mut(change.recipient as usize)?.sequence = change.sequence;
        }
        let shelving = Shelving { detail, size, from: text.from };
        Some(Item { at: text.at, keys: shelving.keys(), payload: shelving.written() })
    }

    /// A text stays in memory.
    fn keep_here(&self, text: &Leaving) {
        let mut table = self.shared.table.lock();
        table.unmark(text.id);
        table.note_awaiting(text.number);
    }

    /// Records that texts lie on the shelf, and forgets them here. Should that fail, they stay; where nobody knows whether it has,
    /// the next start finds out.
    async fn let_go_of(&self, texts: Vec<(Leaving, Place, Record)>) -> bool {
        match self.keep(texts.iter().map(|(_, _, record)| record.clone()).collect()).await {
            Ok(appended) => {
                {
                    let mut table = self.shared.table.lock();
                    texts.iter().for_each(|(text, ..)| table.put_away(text.number));
                }
                drop(appended.pending);
                texts.iter().for_each(|(text, ..)| self.shared.log.release(text.from));
                true
            }
            Err(e) => {
                tracing::error!(error = %e, "that texts lie on the shelf could not be recorded");
                self.shared.shelved.broken.store(true, Ordering::Release);
                texts.iter().for_each(|(text, ..)| self.keep_here(text));
                false
            }
        }
    }

    async fn take_off(&self, places: Vec<Place>) -> Result<(), AppendError> {
        let shelf = self.shared.shelved.shelf.clone();
        let taken = self.shared.log.on_disk(move |_| shelf.take(&places)).await.unwrap_or_else(Err);
        taken.map_err(|e| {
            tracing::error!(error = %e, "what was taken off the shelf could not be marked");
            AppendError::Busy
        })
    }

    /// One turn of upkeep.
    pub(super) async fn keep_shelf(&self) {
        if self.shared.shelved.is_broken() {
            return;
        }
        self.shelve().await;
        self.wake_overdue().await;
        let (items, bytes) = self.shared.shelved.figures();
        self.shared.metrics.texts.shelved.set(i64::try_from(items).unwrap_or(i64::MAX));
        self.shared.metrics.texts.shelf_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) async fn close_shelf(&self) {
        if self.shared.shelved.is_broken() || self.shared.shelved.unconfirmed.load(Ordering::Acquire) {
            return;
        }
        let shelf = self.shared.shelved.shelf.clone();
        if let Err(e) = self.shared.log.on_disk(move |_| shelf.close()).await.unwrap_or_else(Err) {
            tracing::warn!(error = %e, "the shelf could not be closed: the next start will take longer");
        }
    }

    /// What lies on the shelf of a message.
    ///
    /// # Errors
    /// The disk's, which has been said.
    pub(super) async fn on_shelf(&self, id: MessageId) -> std::io::Result<Option<Shelving>> {
        self.newest_on_shelf(key_of_id(id), move |text| text.detail.envelope.id == id).await
    }

    /// The newest text to a number that lies on the shelf.
    ///
    /// # Errors
    /// The disk's, which has been said.
    pub(super) async fn to_on_shelf(&self, number: &str) -> std::io::Result<Option<Shelving>> {
        let to = number.to_owned();
        let is_to = move |text: &Shelving| text.detail.envelope.recipients.iter().any(|r| r.address.to_string() == to);
        self.newest_on_shelf(key_of_number(number), is_to).await
    }

    async fn newest_on_shelf(
        &self,
        key: u64,
        is_it: impl Fn(&Shelving) -> bool + Send + 'static,
    ) -> std::io::Result<Option<Shelving>> {
        let shelf = self.shared.shelved.shelf.clone();
        if shelf.is_empty() {
            return Ok(None);
        }
        let find = move || shelf.find(key, |kept| Shelving::read(&kept.payload).is_some_and(|text| is_it(&text)));
        let found = self.shared.log.on_disk(move |_| find()).await.unwrap_or_else(Err);
        let found = found.inspect_err(|e| tracing::error!(error = %e, "the shelf cannot be read"))?;
        Ok(found.and_then(|kept| Shelving::read(&kept.payload)))
    }

    /// What lies in bundles that a crash has left open: the log may not know that it lies there.
    pub(super) async fn doubtful_on_shelf(&self) -> Option<Doubtful> {
        let shelf = self.shared.shelved.shelf.clone();
        let look = move || {
            let mut doubtful = Doubtful::new();
            for start in shelf.doubtful() {
                let (mut from, mut before) = (start, None);
                while from.is_in_bundle_of(start) && before != Some(from) {
                    before = Some(from);
                    let found = shelf.walk(&mut from, Timestamp(u64::MAX), STRIDE)?;
                    doubtful
                        .extend(found.iter().filter_map(|kept| Some((Shelving::id_of(&kept.payload)?, kept.place))));
                }
            }
            Ok(doubtful)
        };
        let looked: std::io::Result<Doubtful> = self.shared.log.on_disk(move |_| look()).await.unwrap_or_else(Err);
        looked.inspect_err(|e| tracing::error!(error = %e, "the shelf cannot be read: texts may be told of twice")).ok()
    }

    /// Takes off the shelf what lives in the table, or has ended there: what was doubtful and does, and of the messages whose
    /// records have moved of late those that lie there still.
    pub(super) async fn clear_doubtful(&self, mut places: Vec<Place>, moved: Vec<MessageId>) {
        let shelf = self.shared.shelved.shelf.clone();
        let mut clear = move || {
            for id in moved.iter().filter(|_| !shelf.is_empty()) {
                let kept = shelf.find(key_of_id(*id), |kept| Shelving::id_of(&kept.payload) == Some(*id))?;
                places.extend(kept.map(|kept| kept.place));
            }
            if !places.is_empty() {
                shelf.take(&places)?;
            }
            shelf.settle()
        };
        if let Err(e) = self.shared.log.on_disk(move |_| clear()).await.unwrap_or_else(Err) {
            tracing::error!(error = %e, "what lives does still lie on the shelf, and may be told of twice");
        }
    }
}

#[cfg(test)]
impl Queue {
    /// How many texts lie on the shelf.
    pub(super) async fn count_shelved(self) -> u64 {
        let shelf = &self.shared.shelved.shelf;
        shelf.walk(&mut Place::START.clone(), Timestamp(u64::MAX), usize::MAX).map_or(0, |found| found.len() as u64)
    }
}

/// A text that lies on the shelf is none that has ended.
pub(super) fn is_shelved(lives: impl IntoIterator<Item = State>) -> bool {
    lives.into_iter().any(|state| matches!(state, State::Ended { end: End::Shelved, .. }))
}
