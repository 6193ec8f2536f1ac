//! What the outbox has in memory: wants by text, replies, and what is due to each client.
//!
//! **Promises.** Pure: every change that has to outlast a start pushes its line; the same lines, read in order, make the same state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use super::delivery::{Delivery, What};
use super::lines::{Bound, End, Entry, Id, Reply, Speaks, Stat, Want, written};
use crate::clock::{Mono, Timestamp};
use crate::model::{ClientName, MessageId};

#[derive(Debug, Default)]
pub(super) struct State {
    /// By the text's id.
    pub(super) wanted: HashMap<MessageId, Wanted>,
    /// Handsets' messages that are not taken.
    pub(super) replies: HashMap<MessageId, Arc<Reply>>,
    pub(super) mailboxes: HashMap<(ClientName, Speaks), Mailbox>,
    /// Lines to write.
    pub(super) pending: Vec<String>,
    /// Lines there have been.
    pub(super) pushed: u64,
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) want: Arc<Want>,
    pub(super) end: Option<Arc<End>>,
    /// Which parts' receipts have been taken.
    pub(super) taken: Vec<bool>,
}

/// What is due to one client.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) due: BTreeMap<(Mono, u64), Delivery>,
    pub(super) nth: u64,
    /// When it was last known to be bound to receive: whoever is not gets no replies kept.
    pub(super) bound_at: Option<Timestamp>,
    pub(super) arrived: Arc<Notify>,
}

impl Mailbox {
    pub(super) fn put(&mut self, client: &ClientName, what: What) {
        self.insert(Delivery { client: client.clone(), what, tries: 0, due: Mono::default() });
    }

    pub(super) fn insert(&mut self, delivery: Delivery) {
        self.nth += 1;
        self.due.insert((delivery.due, self.nth), delivery);
        self.arrived.notify_waiters();
    }
}

impl Wanted {
    pub(super) fn new(want: Want) -> Self {
        let taken = vec![false; want.parts.len()];
        Self { want: Arc::new(want), end: None, taken }
    }

    /// The parts of which a receipt is to be brought.
    pub(super) fn due(&self) -> Vec<What> {
        let Some(end) = &self.end else { return Vec::new() };
        let delivered = end.stat == Stat::Delivered;
        let parts = self.want.parts.iter().zip(&self.taken).filter(|(_, taken)| !**taken);
        let wanted = parts.filter(|((_, wish), _)| if delivered { wish.success } else { wish.failure });
        let what = |part: MessageId| What::Receipt { part, want: self.want.clone(), end: end.clone() };
        wanted.map(|((part, _), _)| what(part.0)).collect()
    }
}

impl State {
    pub(super) fn push(&mut self, entry: Entry) {
        self.pending.push(written(entry));
        self.pushed += 1;
    }

    /// A text has ended: its receipts are due.
    pub(super) fn ended(&mut self, end: End) {
        let id = end.text.0;
        let Some(wanted) = self.wanted.get_mut(&id).filter(|wanted| wanted.end.is_none()) else { return };
        wanted.end = Some(Arc::new(end.clone()));
        let (client, by, due) = (wanted.want.client.clone(), wanted.want.by, wanted.due());
        if due.is_empty() {
            self.wanted.remove(&id);
            self.push(Entry::Gone(Id(id)));
            return;
        }
        let mailbox = self.mailboxes.entry((client.clone(), by)).or_default();
        due.into_iter().for_each(|what| mailbox.put(&client, what));
        self.push(Entry::End(end));
    }

    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.mailboxes.entry((delivery.client.clone(), delivery.by())).or_default().insert(delivery);
    }

    pub(super) fn cross_out(&mut self, delivery: &Delivery) {
        match &delivery.what {
            What::Receipt { part, want, .. } => self.part_taken(want.text.0, *part),
            What::Reply(reply) => drop(self.replies.remove(&reply.id.0)),
        }
        self.push(Entry::Taken(Id(delivery.id())));
    }

    pub(super) fn part_taken(&mut self, text: MessageId, part: MessageId) {
        let Some(wanted) = self.wanted.get_mut(&text) else { return };
        for ((id, _), taken) in wanted.want.parts.iter().zip(&mut wanted.taken) {
            *taken |= id.0 == part;
        }
        if wanted.due().is_empty() {
            self.wanted.remove(&text);
        }
    }

    /// Does what a line says; `texts` tells which text a part is of.
    pub(super) fn recall(&mut self, entry: Entry, texts: &mut HashMap<MessageId, MessageId>) {
        match entry {
            Entry::Want(want) => {
                let text = want.text.0;
                texts.extend(want.parts.iter().map(|(part, _)| (part.0, text)));
                self.wanted.entry(text).or_insert_with(|| Wanted::new(want));
            }
            Entry::End(end) => {
                if let Some(wanted) = self.wanted.get_mut(&end.text.0) {
                    wanted.end.get_or_insert_with(|| Arc::new(end));
                }
            }
            Entry::Gone(id) => drop(self.wanted.remove(&id.0)),
            Entry::Reply(reply) => drop(self.replies.insert(reply.id.0, Arc::new(reply))),
            Entry::Taken(id) => match texts.get(&id.0) {
                Some(text) => self.part_taken(*text, id.0),
                None => drop(self.replies.remove(&id.0)),
            },
            Entry::Bound(Bound { client, at, by }) => {
                self.mailboxes.entry((client, by)).or_default().bound_at = Some(at)
            }
        }
    }

    /// All that has been recalled and is due.
    pub(super) fn make_due(&mut self) {
        let mut due: Vec<(Timestamp, ClientName, What)> = Vec::new();
        for wanted in self.wanted.values() {
            let at = wanted.end.as_ref().map_or_else(Timestamp::default, |end| end.at);
            due.extend(wanted.due().into_iter().map(|what| (at, wanted.want.client.clone(), what)));
        }
        due.extend(self.replies.values().map(|reply| (reply.at, reply.client.clone(), What::Reply(reply.clone()))));
        due.sort_by_key(|(at, ..)| *at);
        for (_, client, what) in due {
            let delivery = Delivery { client, what, tries: 0, due: Mono::default() };
            self.put_back(delivery);
        }
    }

    /// Everything that counts, as lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((client, by), mailbox) in &self.mailboxes {
            if let Some(at) = mailbox.bound_at {
                lines.push(written(Entry::Bound(Bound { client: client.clone(), at, by: *by })));
            }
        }
        for wanted in self.wanted.values() {
            lines.push(written(Entry::Want((*wanted.want).clone())));
            lines.extend(wanted.end.iter().map(|end| written(Entry::End((**end).clone()))));
            let taken = wanted.want.parts.iter().zip(&wanted.taken).filter(|(_, taken)| **taken);
            lines.extend(taken.map(|((part, _), _)| written(Entry::Taken(*part))));
        }
        lines.extend(self.replies.values().map(|reply| written(Entry::Reply((**reply).clone()))));
        lines
    }
}
