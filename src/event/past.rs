//! Looking back into the event files: what became of some texts, as far as it still stands there.
//!
//! **Promises.** The newest file is read first, and no more of them than needed. Lines that are no events are passed over.
//!
//! **Does not know** who wants to know. **Fails how.** A file that cannot be read is passed over: whoever asks finds less.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::log::numbered;
use super::{Kind, NO_RECEIPT};
use crate::clock::Timestamp;
use crate::model::MessageId;

/// What the files say of texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Past {
    /// How those ended that did.
    pub ends: HashMap<MessageId, PastEnd>,
    /// Those that were accepted.
    pub accepted: HashSet<MessageId>,
    /// The oldest event that was read; all that was asked for may have been found before older ones were.
    pub since: Option<Timestamp>,
}

/// The end of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastEnd {
    /// The kind of the event that told it.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// Why, as far as that was said.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    time: String,
    event: String,
    id: Option<String>,
    reason: Option<String>,
}

impl Past {
    /// Reads `file` and those that were rotated, at most `keep`, for these texts. Blocks.
    pub fn read(file: &Path, keep: u32, wanted: &HashSet<MessageId>) -> Self {
        let mut past = Self::default();
        for n in 0..=keep {
            let Ok(opened) = File::open(numbered(file, n)) else { continue };
            past.take_in(BufReader::new(opened), wanted);
            if past.ends.len() == wanted.len() {
                break;
            }
        }
        past
    }

    fn take_in(&mut self, mut lines: impl BufRead, wanted: &HashSet<MessageId>) {
        let mut line = Vec::new();
        let mut first = true;
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return;
            }
            if !first && memchr::memmem::find(&line, b"\"channel\":\"sms\"").is_none() {
                continue;
            }
            let Ok(Line { time, event, id, reason }) = serde_json::from_slice(&line) else { continue };
            let Some(at) = Timestamp::parse_rfc3339(&time) else { continue };
            if first {
                self.since = Some(self.since.map_or(at, |since| since.min(at)));
                first = false;
            }
            let Some(id) = id.and_then(|id| id.parse::<MessageId>().ok()).filter(|id| wanted.contains(id)) else {
                continue;
            };
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == event);
            match kind {
                Some(Kind::Accepted) => drop(self.accepted.insert(id)),
                Some(kind) if kind.ends_text(reason.as_deref()) => {
                    self.ends.insert(id, PastEnd { kind, at, reason });
                }
                _ => {}
            }
        }
    }
}

impl Kind {
    /// Nothing more becomes of a text after such an event with that reason.
    pub fn ends_text(self, reason: Option<&str>) -> bool {
        match self {
            Self::Delivered | Self::Undelivered | Self::Expired | Self::Cancelled | Self::Rejected | Self::Unknown => {
                true
            }
            Self::Receipt => reason == Some(NO_RECEIPT),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fact;
    use super::*;
    use crate::model::Channel;

    fn line(kind: Kind, n: u8, seconds: u64, reason: Option<&str>) -> String {
        let mut fact = Fact::new(Timestamp::from_seconds(seconds), kind, Channel::Sms);
        fact.id = Some(MessageId::from_bytes([n; 16]));
        fact.reason = reason.map(str::to_owned);
        serde_json::to_string(&fact).unwrap() + "\n"
    }

    #[test]
    fn ends_are_found_newest_file_first_and_what_is_no_end_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("e");
        let old =
            [line(Kind::Accepted, 1, 10, None), line(Kind::Delivered, 1, 11, None), "no event\n".to_owned()].concat();
        std::fs::write(dir.path().join("e.1"), old).unwrap();
        let new = [
            line(Kind::Accepted, 2, 20, None),
            line(Kind::Receipt, 2, 21, Some("stat:ACCEPTD")),
            line(Kind::Undelivered, 2, 22, Some("stat:UNDELIV err:007")),
            line(Kind::Accepted, 3, 23, None),
            line(Kind::Receipt, 4, 24, Some(NO_RECEIPT)),
        ];
        std::fs::write(&file, new.concat()).unwrap();
        let id = |n| MessageId::from_bytes([n; 16]);
        let past = Past::read(&file, 1, &[1, 2, 3, 4, 5].map(id).into());
        let kinds: HashMap<_, _> = past.ends.iter().map(|(id, end)| (id.to_bytes()[0], end.kind)).collect();
        assert_eq!(kinds, HashMap::from([(1, Kind::Delivered), (2, Kind::Undelivered), (4, Kind::Receipt)]));
        assert_eq!(past.ends[&id(2)].reason.as_deref(), Some("stat:UNDELIV err:007"));
        assert_eq!(past.accepted, [1, 2, 3].map(id).into());
        assert_eq!(past.since, Some(Timestamp::from_seconds(10)));
        // Enough has been found: the older file is not read.
        let past = Past::read(&file, 1, &[2].map(id).into());
        assert_eq!(past.since, Some(Timestamp::from_seconds(20)));
        assert_eq!(Past::read(&dir.path().join("none"), 3, &[1].map(id).into()), Past::default());
    }
}
