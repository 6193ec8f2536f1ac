//! Everything read and compared: what is damaged, whose it was, and what the next start will make of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use super::ledger::{Ledger, Waiting, WaitingBody, has_ended};
use super::stat::Quarantine;
use super::{Kind, Spool, Told, part_name, part_owner, segment_path};
use crate::model::MessageId;
use crate::queue::life::State;
use crate::queue::record;
use crate::storage::inspect::{BodyPlace, Flaw, Item, Part, Seen, SeenBody};
use crate::storage::{OpenError, Position, ReadError};

/// Findings listed; more are only counted.
const FINDINGS_MAX: usize = 10_000;

/// What [`Spool::verify`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verdict {
    /// The spool's directory.
    pub spool: String,
    /// Nothing is damaged.
    pub fine: bool,
    /// A relay is running on it: this is how it was a moment ago.
    pub running: bool,
    /// Segments read, all of them.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Messages that have not ended.
    pub messages: u64,
    /// Files of large bodies read: those of messages that have not ended.
    pub body_files: u64,
    /// Their bytes.
    pub body_file_bytes: u64,
    /// Files of bodies that nothing needs any more; the next start removes them.
    pub unneeded_body_files: u64,
    /// What earlier starts set aside.
    pub quarantine: Quarantine,
    /// Segments and files that the running relay removed meanwhile.
    pub gone_meanwhile: u64,
    /// Damaged places, listed or not.
    pub damaged: u64,
    /// What is not as it was written, in order of commit.
    pub findings: Vec<Finding>,
}

/// A place that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, from the spool's directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; 0 where something is missing.
    pub length: u64,
    /// What it was.
    pub what: String,
    /// The message that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// False if that is only what the damaged bytes themselves say.
    pub message_is_certain: bool,
    /// What the next start will do with it, and what that means.
    pub next_start: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Was whole once and is not any more.
    Damaged,
    /// The unfinished end that a crash leaves behind: nobody was promised it.
    Torn,
}

/// What was met, before it is known what waits.
enum Raw {
    Flaw(Flaw),
    /// A record that is intact and cannot be understood.
    Strange {
        kind: u8,
        id: MessageId,
        position: Position,
        why: String,
    },
    /// A content that is as it was written and is none.
    Content {
        id: MessageId,
        position: Position,
    },
}

struct Check {
    ledger: Ledger,
    raw: Vec<Raw>,
    unlisted: u64,
    records: u64,
    /// Messages whose accept record is damaged: how many of their recipients had ended.
    headless: HashMap<MessageId, u64>,
}

impl Spool {
    /// Reads every byte of every segment and of the bodies that are needed, and compares all of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn verify(&self, told: Told<'_>) -> Result<Verdict, OpenError> {
        let mut check =
            Check { ledger: Ledger::default(), raw: Vec::new(), unlisted: 0, records: 0, headless: HashMap::new() };
        let walked = self.walk(told, &mut |item| {
            match item {
                Item::Record(seen) => check.record(&seen),
                Item::Flaw(flaw) => check.flaw(flaw),
                Item::Segment(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        let mut verdict = Verdict {
            spool: self.root().display().to_string(),
            running: self.is_beside_a_relay(),
            segments: walked.segments + walked.spare_segments,
            segment_bytes: walked.file_bytes,
            batches: walked.batches,
            records: check.records,
            messages: check.ledger.messages.len() as u64,
            quarantine: Quarantine::of(&self.log.quarantine()?),
            gone_meanwhile: walked.gone_meanwhile,
            damaged: check.unlisted,
            ..Verdict::default()
        };
        for raw in &check.raw {
            verdict.add(check.finding(raw));
        }
        self.verify_bodies(&check.ledger, &mut verdict, told)?;
        verdict.fine = verdict.damaged == 0;
        Ok(verdict)
    }

    /// Reads the files of the bodies that are needed.
    fn verify_bodies(&self, ledger: &Ledger, verdict: &mut Verdict, told: Told<'_>) -> Result<(), OpenError> {
        let files = self.log.body_files()?;
        let mut waiting: Vec<(MessageId, &Waiting)> = ledger.messages.iter().map(|(id, w)| (*id, w)).collect();
        waiting.sort_unstable_by_key(|(_, w)| w.position);
        for (id, waiting) in waiting {
            let content = match waiting.body {
                WaitingBody::Inline { .. } => continue,
                WaitingBody::None => {
                    let what = "a message without content".to_owned();
                    verdict.add(at_record(waiting.position, what, id, UNREADABLE_CONTENT));
                    continue;
                }
                WaitingBody::File(place) => (place, self.log.read_body(&place)),
            };
            verdict.body_files += 1;
            match content {
                (place, Ok(body)) => {
                    verdict.body_file_bytes += body.len() as u64;
                    told(body.len() as u64);
                    if record::read_content(waiting.channel, body).is_err() {
                        verdict.add(at_file(&place, "a content that no message may have", id));
                    }
                }
                (_, Err(ReadError::Gone)) if self.is_beside_a_relay() => verdict.gone_meanwhile += 1,
                (place, Err(ReadError::Gone)) => verdict.add(at_file(&place, "the file of a large body, missing", id)),
                (place, Err(ReadError::Corrupt)) => verdict.add(at_file(&place, "the file of a large body", id)),
                (place, Err(ReadError::Io(source))) => {
                    let path = self.root().join(place.path());
                    return Err(OpenError::Io { doing: "read", path, source });
                }
            }
        }
        verdict.unneeded_body_files = (files.len() as u64).saturating_sub(verdict.body_files);
        Ok(())
    }
}

impl Verdict {
    fn add(&mut self, finding: Finding) {
        self.damaged += u64::from(finding.severity == Severity::Damaged);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

const UNREADABLE_CONTENT: &str =
    "keeps the message queued; its next attempt cannot read the content and ends it as failed, without a notification";
const FORGETS_KEY: &str = "forgets the key: a client that repeats its submission under it is taken for new";

impl Check {
    fn keep(&mut self, raw: Raw) {
        if self.raw.len() < FINDINGS_MAX { self.raw.push(raw) } else { self.unlisted += 1 }
    }

    fn record(&mut self, seen: &Seen<'_>) {
        self.records += 1;
        let id = MessageId::from_bytes(seen.key);
        match self.ledger.take(seen) {
            Ok(Kind::Accept) => self.check_content(id, seen),
            Ok(Kind::Change) => {
                if let Some(ended) = self.headless.get_mut(&id)
                    && let Ok(changes) = record::read_changes(seen.payload)
                {
                    *ended += changes.iter().filter(|c| matches!(c.state, State::Ended { .. })).count() as u64;
                }
            }
            Ok(Kind::Key) => {}
            Err(e) => {
                if seen.kind == record::ACCEPT {
                    self.headless.insert(id, 0);
                }
                let why = e.to_string();
                self.keep(Raw::Strange { kind: seen.kind, id, position: seen.position, why });
            }
        }
    }

    fn check_content(&mut self, id: MessageId, seen: &Seen<'_>) {
        if let SeenBody::Inline { bytes, intact: true } = seen.body
            && let Some(waiting) = self.ledger.messages.get(&id)
            && record::read_content(waiting.channel, Bytes::copy_from_slice(bytes)).is_err()
        {
            self.keep(Raw::Content { id, position: seen.position });
        }
    }

    fn flaw(&mut self, flaw: Flaw) {
        if let Part::Payload(owner) | Part::RecordHeader(Some(owner)) = &flaw.what
            && owner.kind == record::ACCEPT
        {
            self.headless.insert(MessageId::from_bytes(owner.key), 0);
        }
        self.keep(Raw::Flaw(flaw));
    }

    fn finding(&self, raw: &Raw) -> Finding {
        match raw {
            Raw::Flaw(flaw) => {
                let owner = part_owner(&flaw.what);
                Finding {
                    severity: if matches!(flaw.what, Part::TornEnd(_)) { Severity::Torn } else { Severity::Damaged },
                    file: path_text(&flaw.path()),
                    offset: flaw.offset,
                    length: flaw.length,
                    what: part_name(&flaw.what),
                    message: owner.map(|(id, _)| id.to_string()),
                    message_is_certain: owner.is_some_and(|(_, certain)| certain),
                    next_start: self.fate(&flaw.what),
                }
            }
            Raw::Strange { kind, id, position, why } => {
                let what = format!("a record that is intact and cannot be understood ({why})");
                at_record(*position, what, *id, &format!("passes it over; {}", self.loss(*kind, *id)))
            }
            Raw::Content { id, position } => {
                at_record(*position, "a content that no message may have".to_owned(), *id, UNREADABLE_CONTENT)
            }
        }
    }

    /// What the next start does with a flawed place.
    fn fate(&self, part: &Part) -> String {
        let set_aside = "copies it to quarantine";
        match part {
            Part::HeaderCopy => "uses the other copy: nothing is lost".to_owned(),
            Part::SegmentHeader => format!("{set_aside} and removes the segment: what was in it is lost"),
            Part::BatchHeader => {
                format!("{set_aside} and takes every record behind it that is right: nothing is lost")
            }
            Part::RecordHeader(Some(owner)) if Kind::of(owner.kind).is_some() => {
                let loss = self.loss(owner.kind, MessageId::from_bytes(owner.key));
                format!("{set_aside}; if it is what it seems to be, {loss}")
            }
            Part::RecordHeader(_) => format!("{set_aside}; what the record said is lost"),
            Part::Payload(owner) => {
                format!("{set_aside}; {}", self.loss(owner.kind, MessageId::from_bytes(owner.key)))
            }
            Part::Body(owner) => match self.ledger.messages.get(&MessageId::from_bytes(owner.key)) {
                Some(waiting) if waiting.position == owner.position => UNREADABLE_CONTENT.to_owned(),
                Some(_) => "does nothing about it: a younger copy of the message counts".to_owned(),
                None => "does nothing about it: the message has ended".to_owned(),
            },
            Part::Sidecar => "does without it and reads the segment: nothing is lost".to_owned(),
            Part::Unknown => set_aside.to_owned(),
            Part::MissingBatches { .. } => "reports it; what was in them is lost".to_owned(),
            Part::TornEnd(owners) if owners.is_empty() => {
                format!("{set_aside} and cuts it off: a crash interrupted it and nobody was promised it")
            }
            Part::TornEnd(owners) => {
                let ids: Vec<String> =
                    owners.iter().take(10).map(|o| MessageId::from_bytes(o.key).to_string()).collect();
                let more = owners.len().saturating_sub(ids.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!(
                    "{set_aside} and cuts it off: a crash interrupted it and nobody was promised it (a last batch that was \
                     damaged later looks the same; records about {}{more} in it are whole)",
                    ids.join(", ")
                )
            }
        }
    }

    /// What is lost with a record.
    fn loss(&self, kind: u8, id: MessageId) -> String {
        let waiting = self.ledger.messages.get(&id);
        match Kind::of(kind) {
            Some(Kind::Accept) => match (waiting, self.headless.get(&id)) {
                (Some(_), _) => "another copy of the message is whole: nothing is lost".to_owned(),
                (None, None | Some(0)) => "the message is lost".to_owned(),
                (None, Some(1)) => "the message is lost, unless it had one recipient only: one had ended".to_owned(),
                (None, Some(ended)) => {
                    format!("the message is lost, unless it had {ended} recipients only: so many had ended")
                }
            },
            Some(Kind::Change) => match waiting {
                Some(waiting) if waiting.lives.iter().any(has_ended) => {
                    "the message stands as it did without it; some recipients may get it again".to_owned()
                }
                Some(_) => "the message stands as it did without it and may be sent again".to_owned(),
                None => "the message has ended all the same: nothing is lost".to_owned(),
            },
            Some(Kind::Key) => FORGETS_KEY.to_owned(),
            None => "what it said is lost".to_owned(),
        }
    }
}

fn at_record(position: Position, what: String, id: MessageId, next_start: &str) -> Finding {
    Finding {
        severity: Severity::Damaged,
        file: segment_path(position.segment),
        offset: u64::from(position.offset),
        length: u64::from(position.length),
        what,
        message: Some(id.to_string()),
        message_is_certain: true,
        next_start: next_start.to_owned(),
    }
}

fn at_file(place: &BodyPlace, what: &str, id: MessageId) -> Finding {
    Finding {
        severity: Severity::Damaged,
        file: path_text(&place.path()),
        offset: 0,
        length: u64::from(place.bytes),
        what: what.to_owned(),
        message: Some(id.to_string()),
        message_is_certain: true,
        next_start: UNREADABLE_CONTENT.to_owned(),
    }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}
