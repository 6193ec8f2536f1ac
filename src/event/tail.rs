//! The end of the event file, as a start finds it: what the crash before it may have kept from being written.
//!
//! **Promises.** Of the facts that the queue's log still tells of, [`Tail::lacks`] names those that are not in the file,
//! so that a start can complete it. Facts older than the file's last ones are taken to be there: they were written in the
//! order in which they happened, but for [`SLACK`].
//!
//! **Does not know** what is in the log. **Fails how.** A line that is no event is passed over; a file that cannot be read
//! counts as empty, which at worst repeats facts.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::Fact;
use crate::clock::Timestamp;

/// How far facts may stand out of order in the file, and then some.
const SLACK: Duration = Duration::from_secs(2);
/// As much of the file's end is read: some 100,000 facts, more than happen within the slack.
const READ_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the end of the event file holds.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// Facts before this time are in the file.
    since: Timestamp,
    known: HashSet<Key>,
}

/// What tells one fact from another.
type Key = (String, String, Option<String>, Option<u32>);

#[derive(Deserialize)]
struct Line {
    time: String,
    event: String,
    id: Option<String>,
    recipient: Option<String>,
    attempt: Option<u32>,
}

impl Tail {
    /// Reads the end of the file and of the one before it, which may have been rotated a moment ago.
    pub(super) fn read(file: &Path, rotated: &Path) -> Self {
        let of = |path: &Path| end_of(path).unwrap_or_default();
        // The newest may be too short to hold all that is as young as its last fact.
        let mut text = of(rotated);
        text.push(b'\n');
        text.extend_from_slice(&of(file));
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Self {
        let lines: Vec<(Timestamp, Key)> = text
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .filter_map(|l| Some((Timestamp::parse_rfc3339(&l.time)?, (l.id?, l.event, l.recipient, l.attempt))))
            .collect();
        let since = lines.iter().map(|(time, _)| *time).max().unwrap_or_default().minus(SLACK);
        // Nothing known means nothing was ever written: then everything is lacking.
        Self { since, known: lines.into_iter().filter(|(time, _)| *time >= since).map(|(_, key)| key).collect() }
    }

    /// False if all facts of that time are in the file.
    pub fn may_lack(&self, time: Timestamp) -> bool {
        time >= self.since
    }

    /// True if a fact that the queue's log tells of is not in the file.
    pub fn lacks(&self, fact: &Fact) -> bool {
        let Some(id) = fact.id else { return false };
        let key = (id.to_string(), fact.event.as_str().to_owned(), fact.recipient.clone(), fact.attempt);
        self.may_lack(fact.time) && !self.known.contains(&key)
    }
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_BYTES_MAX)))?;
    let mut text = Vec::new();
    file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::model::{Channel, MessageId};

    fn fact(seconds: u64, event: Kind, attempt: Option<u32>) -> Fact {
        let mut fact = Fact::new(Timestamp::from_seconds(seconds), event, Channel::Email);
        fact.id = Some(MessageId::from_bytes([1; 16]));
        fact.recipient = Some("lin@example.net".to_owned());
        fact.attempt = attempt;
        fact
    }

    fn line(fact: &Fact) -> Vec<u8> {
        let mut line = serde_json::to_vec(fact).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn what_is_there_is_not_lacking_and_what_came_after_is() {
        let there = [fact(100, Kind::Accepted, None), fact(101, Kind::Delayed, Some(1))];
        let mut text: Vec<u8> = there.iter().flat_map(line).collect();
        text.extend_from_slice(b"{\"time\":\"1970-01-01T00:01:4");
        let tail = Tail::parse(&text);
        assert!(there.iter().all(|f| !tail.lacks(f)));
        assert!(tail.lacks(&fact(101, Kind::Delayed, Some(2))), "another attempt");
        assert!(tail.lacks(&fact(102, Kind::Delivered, Some(2))));
        assert!(!tail.lacks(&fact(90, Kind::Delivered, Some(2))), "long before the end of the file");
    }

    #[test]
    fn a_file_that_has_just_been_rotated_is_completed_from_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (file, rotated) = (dir.path().join("e"), dir.path().join("e.1"));
        assert!(Tail::read(&file, &rotated).lacks(&fact(5, Kind::Accepted, None)), "no file at all");
        std::fs::write(&rotated, line(&fact(100, Kind::Accepted, None))).unwrap();
        std::fs::write(&file, b"").unwrap();
        assert!(!Tail::read(&file, &rotated).lacks(&fact(100, Kind::Accepted, None)));
        std::fs::write(&file, line(&fact(101, Kind::Delayed, Some(1)))).unwrap();
        assert!(
            !Tail::read(&file, &rotated).lacks(&fact(100, Kind::Accepted, None)),
            "as young as what the newest holds"
        );
    }
}
