//! Idempotency keys: what was submitted under which key within the last day.
//!
//! **Promises.** A key belongs to its client. Names and fingerprints are kept as 128 bits of SHA-256, so that a key costs the
//! same however long it is: some 130 bytes. No more than [`KEYS_MAX`] are known; above that a submission with a key is put off.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::watch;

use super::slab::Slab;
use crate::clock::Timestamp;
use crate::model::{Idempotency, MessageId};
use crate::storage::{Durable, Position};

/// Keys known at a time.
const KEYS_MAX: usize = 2_000_000;

/// A client and its key: 128 bits of their SHA-256.
pub(super) type KeyName = [u8; 16];

/// The name of a client's key.
pub(super) fn name_of(client: &str, key: &str) -> KeyName {
    let mut hasher = digest::Context::new(&digest::SHA256);
    hasher.update(&(client.len() as u64).to_le_bytes());
    hasher.update(client.as_bytes());
    hasher.update(key.as_bytes());
    first_half(hasher.finish().as_ref())
}

/// What is kept of a submission's fingerprint.
pub(super) fn print_of(idempotency: &Idempotency) -> [u8; 16] {
    first_half(&idempotency.fingerprint)
}

fn first_half(of: &[u8]) -> [u8; 16] {
    of.first_chunk().copied().unwrap_or_default()
}

/// A key whose submission is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) name: KeyName,
    pub(super) fingerprint: [u8; 16],
    pub(super) id: MessageId,
    /// Where its record lies.
    pub(super) position: Position,
    pub(super) received_at: Timestamp,
}

/// Keys and what stands behind them.
#[derive(Debug)]
pub(super) struct Keys {
    age_max: Duration,
    kept: Slab<Kept>,
    by_name: HashMap<KeyName, u32>,
    by_age: BTreeSet<(Timestamp, u32)>,
    /// Those whose first submission is being made durable; the sender is dropped when that has ended, either way.
    underway: HashMap<KeyName, ([u8; 16], watch::Receiver<()>)>,
    /// Proof that what is kept is on stable storage; every kept key's own would be the same.
    durable: Option<Durable>,
}

/// What is known about a key.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Nothing; it now belongs to this submission. Dropping the sender lets those that wait look again.
    Fresh(watch::Sender<()>),
    /// As many keys are known as may be.
    Full,
    /// Used before, with another content.
    Reused,
    /// The same submission was taken before.
    Replayed(MessageId, Durable),
    /// The same submission is under way: wait until this channel closes, then look again.
    Underway(watch::Receiver<()>),
}

impl Keys {
    pub(super) fn new(age_max: Duration) -> Self {
        Self {
            age_max,
            kept: Slab::default(),
            by_name: HashMap::new(),
            by_age: BTreeSet::new(),
            underway: HashMap::new(),
            durable: None,
        }
    }

    /// Looks a key up and claims it if nobody has.
    pub(super) fn claim(&mut self, name: KeyName, fingerprint: [u8; 16]) -> Lookup {
        let taken = self.by_name.get(&name).and_then(|&number| self.kept.find(number));
        match (taken, &self.durable, self.underway.get(&name)) {
            (Some(kept), _, _) if kept.fingerprint != fingerprint => Lookup::Reused,
            (Some(kept), Some(durable), _) => Lookup::Replayed(kept.id, durable.clone()),
            (_, _, Some((before, _))) if *before != fingerprint => Lookup::Reused,
            (_, _, Some((_, end))) => Lookup::Underway(end.clone()),
            _ if self.kept.len() + self.underway.len() >= KEYS_MAX => Lookup::Full,
            _ => {
                let (sender, end) = watch::channel(());
                self.underway.insert(name, (fingerprint, end));
                Lookup::Fresh(sender)
            }
        }
    }

    /// The submission under a key is durable. Returns where the older of two records of the same key lies, if there are two:
    /// a key may have been used again after its time, and a record may have been moved.
    pub(super) fn taken(&mut self, key: Kept, durable: Durable) -> Option<Position> {
        self.underway.remove(&key.name);
        self.durable = Some(durable);
        let before = self.by_name.get(&key.name).copied();
        if let Some(known) = before.and_then(|number| self.kept.find(number))
            && (known.received_at, known.position) > (key.received_at, key.position)
        {
            return Some(key.position);
        }
        let older = before.and_then(|number| self.forget(number));
        let number = self.kept.insert(key);
        self.by_name.insert(key.name, number);
        self.by_age.insert((key.received_at, number));
        older.map(|older| older.position)
    }

    fn forget(&mut self, number: u32) -> Option<Kept> {
        let kept = self.kept.remove(number)?;
        self.by_age.remove(&(kept.received_at, number));
        self.by_name.remove(&kept.name);
        Some(kept)
    }

    /// The submission under a key was not accepted; the key is free again.
    pub(super) fn abandon(&mut self, name: &KeyName) {
        self.underway.remove(name);
    }

    /// Its record lies elsewhere now. False if the key has been forgotten meanwhile.
    pub(super) fn moved(&mut self, name: &KeyName, from: Position, to: Position) -> bool {
        let number = self.by_name.get(name).copied();
        match number.and_then(|number| self.kept.find_mut(number)) {
            Some(kept) if kept.position == from => {
                kept.position = to;
                true
            }
            _ => false,
        }
    }

    /// Forgets keys older than they need be, at most `most`; returns where their records lay.
    pub(super) fn forget_old(&mut self, now: Timestamp, most: usize) -> Vec<Position> {
        let mut gone = Vec::new();
        while gone.len() < most
            && let Some(&(received_at, number)) = self.by_age.first()
            && received_at.plus(self.age_max) <= now
        {
            match self.forget(number) {
                Some(kept) => gone.push(kept.position),
                None => drop(self.by_age.pop_first()),
            }
        }
        gone
    }

    /// Numbers below this one may be in use: what [`Keys::numbered`] takes.
    pub(super) fn end(&self) -> u32 {
        self.kept.end()
    }

    /// The key of that number, if there is one.
    pub(super) fn numbered(&self, number: u32) -> Option<&Kept> {
        self.kept.find(number)
    }
}
