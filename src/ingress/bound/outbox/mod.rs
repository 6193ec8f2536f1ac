//! What clients are to be brought over their links: receipts of the texts that they submitted over one, and what handsets answer to any text of
//! theirs. Kept while a client is not bound, and over restarts.
//!
//! **What.** A text's receipts are *wanted* from before it is accepted; its end, which the event log tells ([`Follower`]), makes them
//! *due*; the client's yes to what brings them crosses them out. Each of these is a line in a journal ([`lines`]).
//!
//! **Promises.** Nothing that was promised is lost:
//!
//! | a crash after | what the next start does |
//! |---|---|
//! | the want is kept, the text not accepted | finds neither the text nor its events, forgets the want |
//! | the text is accepted | waits for its end as before |
//! | the end is settled, not in the journal | finds the text ended, looks its end up in the event file, which a start completes |
//! | brought, the client's yes not in the journal | brings it again |
//! | a handset's message is told, not in the journal | the carrier was not answered, and brings it again |
//!
//! Should the event files no longer tell of a text that has ended, its receipt says `UNKNOWN`. What a client does not take within
//! [`Options::receipts_for`] is dropped and counted. There are never more wants than [`Options::receipts_max`], and never more replies.
//!
//! **Does not know** links: whoever has one takes what is due ([`Outbox::next`]) and says what came of it.
//!
//! **Fails how.** What cannot be made durable is not promised: a submission is refused, a carrier asked to come again. A journal
//! that has failed is lived without until the next start, but for that.

mod delivery;
mod lines;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(in crate::ingress) use self::delivery::{Delivery, What, submitted_at};
pub(in crate::ingress) use self::lines::Reply;
use self::lines::{Bound, Entry, Line, VERSION, written};
pub(in crate::ingress) use self::lines::{End, Id, Speaks, Stat, Want};
use self::state::{State, Wanted};
use super::options::Options;
use crate::clock::{Mono, SharedClock, Timestamp};
use crate::event::log::Follower;
use crate::event::metrics::Metrics;
use crate::event::past::{Past, PastEnd};
use crate::event::{Fact, Kind};
use crate::model::{Channel, ClientName, MessageId};
use crate::queue::Queue;
use crate::storage::Disk;
use crate::storage::journal::{Journal, JournalError, Opening};

/// A journal that is no larger is not written anew.
const SHRINK_BYTES: u64 = 1024 * 1024;
/// About what a text with its lines, or a reply, takes in it.
const ENTRY_BYTES: u64 = 512;
/// The first pause before what was not taken is brought again; it doubles each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How often the journal is looked after while nothing happens.
const LOOKED_AT: Duration = Duration::from_millis(500);
/// How often what is too old is looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(30);
/// A pause while the disk has no room.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// A client's binds are noted in the journal no more often.
const BOUND_NOTED_EVERY: Duration = Duration::from_secs(3_600);

/// The outbox of all clients.
#[derive(Debug)]
pub struct Outbox {
    state: Arc<Mutex<State>>,
    journal: Journal,
    options: Arc<ArcSwap<Options>>,
    wants_max: usize,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    /// There are lines to write.
    work: Notify,
    flushed: watch::Sender<Flushed>,
}

/// How far the journal has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Flushed {
    /// Lines that are on stable storage.
    lines: u64,
    /// Nothing more is written.
    failed: bool,
}

/// Something that is being brought; dropped, it is due again.
#[derive(Debug)]
pub(in crate::ingress) struct Out {
    outbox: Arc<Outbox>,
    delivery: Option<Delivery>,
}

/// Why a want is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ingress) enum NotKept {
    /// There are as many as there may be.
    Full,
    /// It cannot be made durable.
    Journal(JournalError),
}

impl Outbox {
    /// Reads what is wanted and due from the file at `path`. Blocks.
    ///
    /// # Errors
    /// The disk's; `Unsupported` for a file of a newer version.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: Arc<ArcSwap<Options>>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> io::Result<Arc<Self>> {
        let mut state = State::default();
        let mut texts = HashMap::new();
        let mut opening = Opening::read(disk, path, &mut |line| {
            let Line { v, entry } = serde_json::from_str(line)?;
            if v != VERSION {
                let why = format!("{}: a line of version {v}, and this program reads {VERSION}", path.display());
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            state.recall(entry, &mut texts);
            Ok(())
        })?;
        if opening.damaged > 0 {
            tracing::error!(file = %path.display(), lines = opening.damaged, "wants and receipts are damaged and are passed over");
        }
        opening.rewrite(state.lines().into_iter())?;
        state.make_due();
        let wants_max = options.load().receipts_max;
        let (journal, flushed) = (opening.start(), watch::channel(Flushed::default()).0);
        let state = Arc::new(Mutex::new(state));
        Ok(Arc::new(Self { state, journal, options, wants_max, metrics, clock, work: Notify::new(), flushed }))
    }

    /// Keeps that receipts are wanted of a text; to be called before it is accepted.
    pub(in crate::ingress) async fn want(&self, want: Want) -> Result<(), NotKept> {
        let (text, line) = (want.text.0, written(Entry::Want(want.clone())));
        {
            let mut state = self.state.lock();
            if state.wanted.contains_key(&text) {
                return Ok(());
            }
            if state.wanted.len() >= self.wants_max {
                return Err(NotKept::Full);
            }
            state.wanted.insert(text, Wanted::new(want));
        }
        match self.journal.append(&line).await {
            Ok(_) => Ok(()),
            Err(e) => {
                self.state.lock().wanted.remove(&text);
                Err(NotKept::Journal(e))
            }
        }
    }

    /// The text was not accepted after all.
    pub(in crate::ingress) fn forget(&self, text: MessageId) {
        let mut state = self.state.lock();
        if state.wanted.remove(&text).is_some() {
            state.push(Entry::Gone(Id(text)));
            self.work.notify_one();
        }
    }

    /// A text ends that was never accepted as a whole; returns once its receipts are kept.
    pub(in crate::ingress) async fn failed(&self, want: Want, end: End) -> Result<(), NotKept> {
        let lines = [written(Entry::Want(want.clone())), written(Entry::End(end.clone()))];
        self.journal.append_all(lines.iter().map(String::as_str)).await.map_err(NotKept::Journal)?;
        let mut state = self.state.lock();
        state.wanted.entry(want.text.0).or_insert_with(|| Wanted::new(want));
        state.ended(end);
        Ok(())
    }

    /// A client is bound to receive; to be said again now and then while it is.
    pub(in crate::ingress) fn bound(&self, client: &ClientName, speaks: Speaks) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mailbox = state.mailboxes.entry((client.clone(), speaks)).or_default();
        if mailbox.bound_at.is_none_or(|before| now.since(before) > BOUND_NOTED_EVERY) {
            mailbox.bound_at = Some(now);
            state.push(Entry::Bound(Bound { client: client.clone(), at: now, by: speaks }));
            self.work.notify_one();
        }
    }

    /// What is due to a client now.
    pub(in crate::ingress) fn next(self: &Arc<Self>, client: &ClientName, speaks: Speaks) -> Option<Out> {
        let now = self.clock.mono();
        let mut state = self.state.lock();
        let first = state
            .mailboxes
            .get_mut(&(client.clone(), speaks))?
            .due
            .first_entry()
            .filter(|first| first.key().0 <= now)?;
        Some(Out { outbox: self.clone(), delivery: Some(first.remove()) })
    }

    /// When the next is due to a client, and what is notified when something new comes.
    pub(in crate::ingress) fn awaited(&self, client: &ClientName, speaks: Speaks) -> (Option<Mono>, Arc<Notify>) {
        let mut state = self.state.lock();
        let mailbox = state.mailboxes.entry((client.clone(), speaks)).or_default();
        (mailbox.due.first_key_value().map(|((due, _), _)| *due), mailbox.arrived.clone())
    }

    fn count(&self, delivery: &Delivery, result: &str) {
        delivery
            .by()
            .metrics(&self.metrics)
            .deliveries
            .with_label_values(&[&*delivery.client, delivery.kind(), result])
            .inc();
    }

    /// Takes note of what is brought no more.
    fn crossed_out(&self, delivery: &Delivery) {
        let mut state = self.state.lock();
        state.cross_out(delivery);
        self.work.notify_one();
    }

    /// Writes lines as they come, drops what is too old, keeps the file small; for as long as anybody else knows of this.
    pub async fn keep_up(outbox: Weak<Self>) {
        let mut swept = Mono::default();
        loop {
            let Some(outbox) = outbox.upgrade() else { return };
            outbox.flush().await;
            let now = outbox.clock.mono();
            if now.since(swept) >= SWEPT_EVERY {
                swept = now;
                outbox.sweep();
                outbox.shrink().await;
            }
            outbox.show();
            let _ = tokio::time::timeout(LOOKED_AT, outbox.work.notified()).await;
        }
    }

    /// Writes what there is to write; returns once that is on stable storage, or cannot be.
    pub async fn flush(&self) {
        let (lines, upto) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.pending), state.pushed)
        };
        if lines.is_empty() || self.flushed.borrow().failed {
            return;
        }
        match self.journal.append_all(lines.iter().map(String::as_str)).await {
            Ok(_) => {
                self.flushed.send_replace(Flushed { lines: upto, failed: false });
            }
            Err(JournalError::Full) => {
                self.state.lock().pending.splice(..0, lines);
                tokio::time::sleep(FULL_PAUSE).await;
            }
            Err(JournalError::Failed) => {
                tracing::error!("what bound clients have taken is not kept any more: they may get receipts again");
                self.flushed.send_modify(|flushed| flushed.failed = true);
            }
        }
    }

    /// Drops what has been waiting for too long.
    fn sweep(&self) {
        let (now, most) = (self.clock.now(), self.options.load().receipts_for);
        let mut state = self.state.lock();
        let mut dropped = Vec::new();
        for mailbox in state.mailboxes.values_mut() {
            dropped
                .extend(mailbox.due.extract_if(.., |_, delivery| now.since(delivery.since()) > most).map(|(_, d)| d));
            mailbox.bound_at = mailbox.bound_at.filter(|at| now.since(*at) <= most + BOUND_NOTED_EVERY);
        }
        dropped.iter().for_each(|delivery| state.cross_out(delivery));
        drop(state);
        dropped.iter().for_each(|delivery| self.count(delivery, "expired"));
        if let Some(one) = dropped.first() {
            tracing::warn!(dropped = dropped.len(), client = %one.client, "receipts or replies were not taken in time");
        }
    }

    async fn shrink(&self) {
        let live = {
            let state = self.state.lock();
            state.wanted.len() + state.replies.len() + state.mailboxes.len()
        };
        if self.journal.length() <= SHRINK_BYTES.max(4 * ENTRY_BYTES * live as u64) {
            return;
        }
        let state = self.state.clone();
        if let Err(error) = self.journal.rewrite(move || state.lock().lines()).await {
            tracing::error!(%error, "wants and receipts cannot be written anew");
        }
    }

    fn show(&self) {
        let state = self.state.lock();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for speaks in Speaks::ALL {
            let wanted = state.wanted.values().filter(|wanted| wanted.want.by == speaks).count();
            speaks.metrics(&self.metrics).receipts_wanted.set(gauge(wanted));
        }
        for ((client, speaks), mailbox) in &state.mailboxes {
            speaks
                .metrics(&self.metrics)
                .deliveries_waiting
                .with_label_values(&[&**client])
                .set(gauge(mailbox.due.len()));
        }
    }

    /// Finds out what became of texts that ended before this start without a word in the journal.
    pub async fn reconcile(self: Arc<Self>, queue: Queue, file: PathBuf, keep: u32) {
        queue.loaded().await;
        let open: Vec<MessageId> = {
            let state = self.state.lock();
            state.wanted.iter().filter(|(_, wanted)| wanted.end.is_none()).map(|(id, _)| *id).collect()
        };
        let ended = without_the_living(open, &queue).await;
        if ended.is_empty() {
            return;
        }
        let ids = ended.clone();
        let past = tokio::task::spawn_blocking(move || Past::read(&file, keep, &ids)).await.unwrap_or_default();
        // Some may have been submitted just now.
        let ended = without_the_living(ended, &queue).await;
        let mut state = self.state.lock();
        for id in ended {
            // It may have been told meanwhile.
            let told = state.wanted.get(&id).is_none_or(|wanted| wanted.end.is_some());
            if told || queue.is_in_memory(id) {
                continue;
            }
            let end = past.ends.get(&id).map(|PastEnd { kind, at, reason }| end_of(id, *kind, *at, reason.as_deref()));
            let lost = past.accepted.contains(&id) || past.since.is_none_or(|since| delivery::submitted_at(id) < since);
            match end {
                Some(Some(end)) => state.ended(end),
                _ if lost => {
                    state.ended(End { text: Id(id), stat: Stat::Unknown, err: "001".to_owned(), at: self.clock.now() })
                }
                _ => {
                    state.wanted.remove(&id);
                    state.push(Entry::Gone(Id(id)));
                }
            }
        }
        self.work.notify_one();
    }
}

async fn without_the_living(ids: impl IntoIterator<Item = MessageId>, queue: &Queue) -> HashSet<MessageId> {
    let mut ended = HashSet::new();
    for id in ids {
        if !queue.lives(id).await {
            ended.insert(id);
        }
    }
    ended
}

/// How a text ended, as receipts say it; `None` if the event is no end.
fn end_of(text: MessageId, kind: Kind, at: Timestamp, reason: Option<&str>) -> Option<End> {
    let stat = match kind {
        Kind::Delivered => Stat::Delivered,
        Kind::Undelivered => Stat::Undeliverable,
        Kind::Expired => Stat::Expired,
        Kind::Cancelled => Stat::Deleted,
        Kind::Rejected => Stat::Rejected,
        Kind::Unknown => Stat::Unknown,
        Kind::Receipt if kind.ends_text(reason) => Stat::Unknown,
        _ => return None,
    };
    let own = if stat == Stat::Delivered { "000" } else { "001" };
    let err = reason.and_then(|reason| reason.split_once("err:")).map(|(_, rest)| rest.get(..3).unwrap_or(rest));
    let err = err.filter(|err| err.len() == 3 && err.bytes().all(|b| b.is_ascii_alphanumeric())).unwrap_or(own);
    Some(End { text: Id(text), stat, err: err.to_owned(), at })
}

impl Follower for Outbox {
    fn told(&self, fact: &Fact) {
        if fact.channel != Some(Channel::Sms) {
            return;
        }
        if fact.event == Kind::Replied {
            self.replied(fact);
            return;
        }
        let Some(id) = fact.id else { return };
        let Some(end) = end_of(id, fact.event, fact.time, fact.reason.as_deref()) else { return };
        self.state.lock().ended(end);
        self.work.notify_one();
    }

    fn kept(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        let (upto, full) = {
            let state = self.state.lock();
            (state.pushed, state.replies.len() >= self.wants_max)
        };
        self.work.notify_one();
        Box::pin(async move {
            let mut flushed = self.flushed.subscribe();
            let far = |flushed: &Flushed| flushed.failed || flushed.lines >= upto;
            !full && flushed.wait_for(far).await.is_ok_and(|flushed| !flushed.failed)
        })
    }
}

impl Outbox {
    /// A handset has answered a text of a client that binds to receive.
    fn replied(&self, fact: &Fact) {
        let (Some(client), Some(handset)) = (&fact.client, &fact.handset) else { return };
        let mut state = self.state.lock();
        if state.replies.len() >= self.wants_max {
            return;
        }
        // Over what the client was bound with last.
        let bound_at = |by: Speaks| state.mailboxes.get(&(client.clone(), by)).and_then(|mailbox| mailbox.bound_at);
        let Some(by) = Speaks::ALL.into_iter().filter(|by| bound_at(*by).is_some()).max_by_key(|by| bound_at(*by))
        else {
            return;
        };
        let mailbox = state.mailboxes.entry((client.clone(), by)).or_default();
        let reply = Arc::new(Reply {
            id: Id(MessageId::new(fact.time)),
            client: client.clone(),
            from: handset.number.to_string(),
            to: handset.to.to_string(),
            text: handset.text.clone(),
            octets: handset.octets.clone(),
            by,
            at: fact.time,
        });
        mailbox.put(client, What::Reply(reply.clone()));
        state.replies.insert(reply.id.0, reply.clone());
        state.push(Entry::Reply((*reply).clone()));
        self.work.notify_one();
    }
}

impl Out {
    /// What is brought.
    pub(in crate::ingress) fn delivery(&self) -> Option<&Delivery> {
        self.delivery.as_ref()
    }

    /// The client has it.
    pub(in crate::ingress) fn taken(mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.outbox.count(&delivery, "taken");
            self.outbox.crossed_out(&delivery);
        }
    }

    /// The client does not want it now: later.
    pub(in crate::ingress) fn put_off(mut self) {
        if let Some(mut delivery) = self.delivery.take() {
            self.outbox.count(&delivery, "put-off");
            let pause = RETRY_FIRST.saturating_mul(1 << delivery.tries.min(16)).min(RETRY_MAX);
            delivery.tries += 1;
            delivery.due = self.outbox.clock.mono().plus(pause);
            self.outbox.state.lock().put_back(delivery);
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.outbox.state.lock().put_back(delivery);
        }
    }
}
