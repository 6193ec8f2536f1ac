//! From disk: what a message's records hold and its entry does not.
//!
//! A recipient's life is read backwards: its track names the newest change record, each change names the one before it, down
//! to the state that the accept record holds.
//!
//! **Promises.** Nothing here holds the table's lock while it reads. What is moved or ends meanwhile is looked up again.
//! **Fails how.** [`LoadError`]; a change record that cannot be read ends the walk there: the list of attempts is shorter then.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;

use super::entry::Entry;
use super::hot::Detail;
use super::life::Change;
use super::{LoadError, Queue, record};
use crate::model::{Channel, Content, MessageId, RecipientIndex};
use crate::storage::{Position, ReadError, Reading};

/// Change records read back for one recipient: its listed attempts and, for a text, the receipts of all parts.
const STEPS_MAX: usize = 256;
/// How often a message is looked up anew because its record has moved meanwhile.
const LOOKS_MAX: usize = 8;

/// Where to look.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    id: MessageId,
    channel: Channel,
    accept: Position,
    /// The newest change of each recipient.
    newest: Vec<Option<Position>>,
}

impl Trail {
    pub(super) fn new(id: MessageId, channel: Channel, accept: Position, newest: Vec<Option<Position>>) -> Self {
        Self { id, channel, accept, newest }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            id: entry.id,
            channel: entry.channel,
            accept: entry.position(),
            newest: entry.tracks().map(|t| t.newest()).collect(),
        }
    }

    /// Envelope and lives.
    pub(super) fn detail(&self, log: &Reading<'_>) -> Result<Detail, LoadError> {
        let (payload, _) = log.payload(self.accept)?;
        self.detail_of(&payload, log)
    }

    /// Envelope, lives and content.
    pub(super) fn whole(&self, log: &Reading<'_>) -> Result<(Detail, Content), LoadError> {
        let stored = log.record(self.accept)?;
        let detail = self.detail_of(&stored.payload, log)?;
        Ok((detail, record::read_content(self.channel, stored.body.unwrap_or_default())?))
    }

    fn detail_of(&self, accept: &[u8], log: &Reading<'_>) -> Result<Detail, LoadError> {
        let (envelope, mut lives) = record::read_accept(self.id, accept)?;
        let mut read = HashMap::new();
        for ((recipient, life), newest) in (0..).zip(&mut lives).zip(&self.newest) {
            let walked = walk(log, &mut read, recipient, *newest, life.sequence)?;
            walked.into_iter().rev().for_each(|change| life.apply(change));
        }
        Ok(Detail { envelope: Arc::new(envelope), lives })
    }
}

/// A recipient's changes, newest first, down to the one numbered `known`.
fn walk(
    log: &Reading<'_>,
    read: &mut HashMap<(u64, u32), Vec<Change>>,
    recipient: RecipientIndex,
    newest: Option<Position>,
    known: u32,
) -> Result<Vec<Change>, LoadError> {
    let mut walked = Vec::new();
    let mut next = newest;
    while let Some(at) = next.filter(|_| walked.len() < STEPS_MAX) {
        let changes = match read.entry((at.segment, at.offset)) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(unread) => match log.payload(at) {
                Ok((payload, _)) => unread.insert(record::read_changes(&payload).unwrap_or_default()),
                Err(ReadError::Io(e)) => return Err(ReadError::Io(e).into()),
                Err(e) => {
                    tracing::warn!(position = ?at, error = %e, "a change cannot be read back: older attempts are not shown");
                    break;
                }
            },
        };
        let change = changes.iter().find(|c| c.recipient == recipient);
        let Some(change) = change.filter(|c| c.sequence == 0 || c.sequence > known) else { break };
        next = change.previous;
        walked.push(change.clone());
    }
    Ok(walked)
}

impl Queue {
    /// What a message's records hold; `None` if it has ended or is not known.
    pub(super) async fn detail(&self, id: MessageId) -> Result<Option<Detail>, LoadError> {
        self.look_up(id, |warm| warm.detail.clone(), Trail::detail).await
    }

    /// Looks a message up in memory or on disk, anew if it moves meanwhile.
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        id: MessageId,
        in_memory: impl Fn(&super::hot::Warm) -> T,
        on_disk: fn(&Trail, &Reading<'_>) -> Result<T, LoadError>,
    ) -> Result<Option<T>, LoadError> {
        let mut last = LoadError::Damaged;
        for _ in 0..LOOKS_MAX {
            let trail = {
                let table = self.shared.table.lock();
                let Some((number, entry)) = table.find(id) else { return Ok(None) };
                match table.hot.find(number) {
                    Some(warm) => return Ok(Some(in_memory(warm))),
                    None => Trail::of(entry),
                }
            };
            match self.shared.log.look(move |reading| on_disk(&trail, reading)).await {
                Err(LoadError::Gone) => last = LoadError::Gone,
                other => return other.map(Some),
            }
        }
        Err(last)
    }
}
