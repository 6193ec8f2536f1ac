//! Idempotency keys: what was submitted under which key within the last day.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::model::MessageId;
use crate::storage::{Durable, Position};

/// Keys known at a time; some 300 MiB.
const KEYS_MAX: usize = 1_000_000;

/// A client and its key.
pub(super) type KeyOf = (Arc<str>, Arc<str>);

/// Keys and what stands behind them.
#[derive(Debug)]
pub(super) struct Keys {
    age_max: Duration,
    known: HashMap<KeyOf, Known>,
    by_age: BTreeSet<(Timestamp, KeyOf)>,
}

/// One key.
#[derive(Debug)]
struct Known {
    fingerprint: [u8; 32],
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// The first submission under it is being made durable; the sender is dropped when that has ended, either way.
    Underway(watch::Receiver<()>),
    /// It is durable.
    Taken { id: MessageId, position: Position, durable: Durable, received_at: Timestamp },
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
        Self { age_max, known: HashMap::new(), by_age: BTreeSet::new() }
    }

    /// Looks a key up and claims it if nobody has.
    pub(super) fn claim(&mut self, key: &KeyOf, fingerprint: &[u8; 32]) -> Lookup {
        match self.known.get(key) {
            None if self.known.len() >= KEYS_MAX => Lookup::Full,
            Some(known) if known.fingerprint != *fingerprint => Lookup::Reused,
            Some(Known { standing: Standing::Taken { id, durable, .. }, .. }) => Lookup::Replayed(*id, durable.clone()),
            Some(Known { standing: Standing::Underway(end), .. }) => Lookup::Underway(end.clone()),
            None => {
                let (sender, end) = watch::channel(());
                let known = Known { fingerprint: *fingerprint, standing: Standing::Underway(end) };
                self.known.insert(key.clone(), known);
                Lookup::Fresh(sender)
            }
        }
    }

    /// The submission under a key is durable. Returns where the older of two records of the same key lies, if there are two:
    /// a key may have been used again after its time, and a record may have been moved.
    pub(super) fn taken(
        &mut self,
        key: KeyOf,
        fingerprint: [u8; 32],
        id: MessageId,
        position: Position,
        durable: Durable,
        received_at: Timestamp,
    ) -> Option<Position> {
        if let Some(Known { standing: Standing::Taken { received_at: other, .. }, .. }) = self.known.get(&key)
            && *other > received_at
        {
            return Some(position);
        }
        self.by_age.insert((received_at, key.clone()));
        let standing = Standing::Taken { id, position, durable, received_at };
        match self.known.insert(key, Known { fingerprint, standing })?.standing {
            Standing::Taken { position, .. } => Some(position),
            Standing::Underway(_) => None,
        }
    }

    /// The submission under a key was not accepted; the key is free again.
    pub(super) fn abandon(&mut self, key: &KeyOf) {
        if let Some(Known { standing: Standing::Underway(_), .. }) = self.known.get(key) {
            self.known.remove(key);
        }
    }

    /// Its record lies elsewhere now. False if the key has been forgotten meanwhile.
    pub(super) fn moved(&mut self, key: &KeyOf, from: Position, to: Position) -> bool {
        match self.known.get_mut(key).map(|k| &mut k.standing) {
            Some(Standing::Taken { position, .. }) if *position == from => {
                *position = to;
                true
            }
            _ => false,
        }
    }

    /// Forgets keys older than they need be; returns where their records lay.
    pub(super) fn forget_old(&mut self, now: Timestamp) -> Vec<Position> {
        let mut gone = Vec::new();
        while let Some((received_at, _)) = self.by_age.first() {
            if received_at.plus(self.age_max) > now {
                break;
            }
            let Some((then, key)) = self.by_age.pop_first() else { break };
            if let Some(Known { standing: Standing::Taken { position, received_at, .. }, .. }) = self.known.get(&key)
                && *received_at == then
            {
                gone.push(*position);
                self.known.remove(&key);
            }
        }
        gone
    }
}
