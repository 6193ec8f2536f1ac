//! Figures of a spool.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::ledger::Ledger;
use super::{Kind, Spool, Told};
use crate::clock::Timestamp;
use crate::model::{Class, MessageId};
use crate::storage::OpenError;
use crate::storage::inspect::{Item, OtherFile, Part};

/// Figures of a spool. Times are RFC 3339 in UTC.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Figures {
    /// Its directory.
    pub spool: String,
    /// A relay is running on it: this is how it was a moment ago.
    pub running: bool,
    /// Segments with something in them.
    pub segments: u64,
    /// Segments made in advance.
    pub spare_segments: u64,
    /// Bytes of all segments' files.
    pub segment_bytes: u64,
    /// Bytes of them that have been written to.
    pub used_bytes: u64,
    /// Bytes of them that are still needed: the records of waiting messages and of keys.
    pub live_bytes: u64,
    /// Bytes of them that have been written to and are not needed any more, or are neither: headers, changes, gaps.
    pub dead_bytes: u64,
    /// Batches.
    pub batches: u64,
    /// Accept records.
    pub accept_records: u64,
    /// Change records.
    pub change_records: u64,
    /// Key records.
    pub key_records: u64,
    /// Records that are intact and cannot be understood.
    pub strange_records: u64,
    /// Idempotency keys, those among them that are past their day and not forgotten yet.
    pub keys: u64,
    /// Files of large bodies.
    pub body_files: u64,
    /// Their bytes.
    pub body_file_bytes: u64,
    /// Messages that have not ended.
    pub messages: u64,
    /// Their recipients that have not ended.
    pub recipients: u64,
    /// Bytes of their content.
    pub message_bytes: u64,
    /// Messages by state.
    pub by_state: Vec<Group>,
    /// Messages by class, the most urgent first.
    pub by_class: Vec<Group>,
    /// Messages by channel.
    pub by_channel: Vec<Group>,
    /// Messages by client.
    pub by_client: Vec<Group>,
    /// The message that has waited longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Newest>,
    /// The message that is due next; past if the relay has been down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Newest>,
    /// Id of the largest message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest: Option<String>,
    /// Its bytes.
    pub largest_bytes: u64,
    /// What earlier starts set aside.
    pub quarantine: Quarantine,
    /// Damaged places found on the way; `verify` tells about each, and looks into the files of large bodies as well.
    pub damaged_places: u64,
    /// Bytes of an unfinished batch at the end.
    pub torn_bytes: u64,
    /// Segments that the running relay removed meanwhile.
    pub gone_meanwhile: u64,
}

/// Messages of one sort.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Group {
    /// The state, class, channel or client.
    pub name: String,
    /// Messages.
    pub messages: u64,
    /// Their recipients that have not ended.
    pub recipients: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// A message and a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Newest {
    /// Its id.
    pub id: String,
    /// When.
    pub at: String,
}

/// What lies in `quarantine/`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Quarantine {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
}

impl Quarantine {
    pub(super) fn of(files: &[OtherFile]) -> Self {
        let times = files.iter().filter_map(|file| file.modified?.duration_since(UNIX_EPOCH).ok());
        Self {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            newest: times.max().map(|since| Timestamp::from_seconds(since.as_secs()).rfc3339()),
        }
    }
}

/// States in the order in which they are listed.
const STATES: [&str; 5] = ["scheduled", "queued", "delayed", "begun", "sent"];

impl Spool {
    /// Counts.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn stat(&self, now: Timestamp, told: Told<'_>) -> Result<Figures, OpenError> {
        let mut figures = Figures {
            spool: self.root().display().to_string(),
            running: self.is_beside_a_relay(),
            ..Figures::default()
        };
        let mut ledger = Ledger::default();
        let walked = self.walk(told, &mut |item| {
            match item {
                Item::Record(seen) => match ledger.take(&seen) {
                    Ok(Kind::Accept) => figures.accept_records += 1,
                    Ok(Kind::Change) => figures.change_records += 1,
                    Ok(Kind::Key) => figures.key_records += 1,
                    Err(_) => figures.strange_records += 1,
                },
                Item::Flaw(flaw) => figures.damaged_places += u64::from(!matches!(flaw.what, Part::TornEnd(_))),
                Item::Segment(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        figures.segments = walked.segments;
        figures.spare_segments = walked.spare_segments;
        figures.segment_bytes = walked.file_bytes;
        figures.used_bytes = walked.used_bytes;
        figures.batches = walked.batches;
        figures.torn_bytes = walked.torn_bytes;
        figures.gone_meanwhile = walked.gone_meanwhile;
        let files = self.log.body_files()?;
        figures.body_files = files.len() as u64;
        figures.body_file_bytes = files.iter().map(|file| file.bytes).sum();
        figures.quarantine = Quarantine::of(&self.log.quarantine()?);
        figures.count(&ledger, now);
        Ok(figures)
    }
}

impl Figures {
    fn count(&mut self, ledger: &Ledger, now: Timestamp) {
        let mut states = BTreeMap::new();
        let mut classes = BTreeMap::new();
        let mut channels = BTreeMap::new();
        let mut clients = BTreeMap::new();
        let (mut oldest, mut next_due, mut largest) = (None, None, None);
        let least = |best: &mut Option<(Timestamp, MessageId)>, new| {
            if best.is_none_or(|best| new < best) {
                *best = Some(new);
            }
        };
        for (id, waiting) in &ledger.messages {
            let (recipients, bytes) = (waiting.recipients(), u64::from(waiting.size));
            self.messages += 1;
            self.recipients += recipients;
            self.message_bytes += bytes;
            self.live_bytes += u64::from(waiting.position.length);
            self.largest_bytes = self.largest_bytes.max(bytes);
            largest = largest.max(Some((bytes, *id)));
            least(&mut oldest, (waiting.received_at, *id));
            if let Some(due) = waiting.next_due() {
                least(&mut next_due, (due, *id));
            }
            add(&mut states, waiting.state(now), recipients, bytes);
            add(&mut classes, waiting.class.as_str(), recipients, bytes);
            add(&mut channels, waiting.channel.as_str(), recipients, bytes);
            add(&mut clients, &waiting.client, recipients, bytes);
        }
        self.keys = ledger.keys;
        self.live_bytes += ledger.key_bytes;
        self.dead_bytes = self.used_bytes.saturating_sub(self.live_bytes);
        let at = |(at, id): (Timestamp, MessageId)| Newest { id: id.to_string(), at: at.rfc3339() };
        (self.oldest, self.next_due) = (oldest.map(at), next_due.map(at));
        self.largest = largest.map(|(_, id)| id.to_string());
        self.by_state = STATES.iter().filter_map(|name| states.remove(name)).collect();
        self.by_class = Class::ALL.iter().filter_map(|class| classes.remove(class.as_str())).collect();
        self.by_channel = channels.into_values().collect();
        self.by_client = clients.into_values().collect();
    }
}

fn add<'a>(groups: &mut BTreeMap<&'a str, Group>, name: &'a str, recipients: u64, bytes: u64) {
    let group = groups.entry(name).or_insert_with(|| Group { name: name.to_owned(), ..Group::default() });
    group.messages += 1;
    group.recipients += recipients;
    group.bytes += bytes;
}
