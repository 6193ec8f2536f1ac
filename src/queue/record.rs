//! What the queue writes into the log: three kinds of record, little-endian, versioned.
//!
//! ```text
//! ACCEPT  1 │ version u8 │ envelope │ lives │            body: the content, byte for byte
//! CHANGE  2 │ version u8 │ count u32 │ change × count │  about: the accept record
//! KEY     3 │ version u8 │ client │ key │ fingerprint 32 │ received u64 │
//! ```
//!
//! Text is u32 length and UTF-8 bytes; an option is a byte 0 or 1 and then the value; an enum is a byte; times are u64
//! microseconds since 1970. An ACCEPT holds the lives as they stood when it was written: a fresh message has one `Queued`
//! life per recipient, one that was copied forward has its history with it, and older CHANGE records do not touch it.
//!
//! **Promises.** What is written reads back; whatever bytes are read, the answer is a value or an error, never a panic and
//! never an allocation larger than the record.
//!
//! **Fails how.** [`RecordError`] names the field that could not be read.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::life::{Attempt, Change, End, Life, PartReceipt, State};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::model::{
    Address, BodyKind, Channel, Class, Content, EnhancedStatus, Envelope, Idempotency, MailData, MailOrigin, Mailbox,
    MessageId, Notify, Number, Origin, OriginalRecipient, PartState, Peer, ReceiptState, Recipient, Reply, Ret,
    ReversePath, Scope, SenderId, SmsText, Stage, TextOrigin, TextProgress,
};

/// Kind of an accept record.
pub(super) const ACCEPT: u8 = 1;
/// Kind of a change record.
pub(super) const CHANGE: u8 = 2;
/// Kind of an idempotency key record.
pub(super) const KEY: u8 = 3;

/// The version written; older ones are read.
const VERSION: u8 = 1;

/// An idempotency key as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyRecord {
    pub(super) client: Arc<str>,
    pub(super) idempotency: Idempotency,
    pub(super) received_at: Timestamp,
}

/// A record that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RecordError {
    pub(super) field: &'static str,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue record: {} cannot be read", self.field)
    }
}

impl std::error::Error for RecordError {}

type Read<T> = Result<T, RecordError>;

/// Writes an accept record's payload.
pub(super) fn write_accept(envelope: &Envelope, lives: &[Life]) -> Bytes {
    let mut w = Writer::new(256);
    w.envelope(envelope);
    w.u32(lives.len() as u32);
    lives.iter().for_each(|l| w.life(l));
    w.finish()
}

/// Reads an accept record's payload.
pub(super) fn read_accept(id: MessageId, payload: &[u8]) -> Read<(Envelope, Vec<Life>)> {
    let mut r = Reader::new(payload)?;
    let envelope = r.envelope(id)?;
    let lives = r.list("lives", |r| r.life())?;
    if lives.len() != envelope.recipients.len() || lives.is_empty() {
        return Err(RecordError { field: "lives" });
    }
    Ok((envelope, lives))
}

/// The content as an accept record's body.
pub(super) fn content_bytes(content: &Content) -> Bytes {
    match content {
        Content::Mail(data) => data.bytes().clone(),
        Content::Text(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
    }
}

/// The content from an accept record's body, checked again.
pub(super) fn read_content(channel: Channel, body: Bytes) -> Read<Content> {
    let bad = || RecordError { field: "content" };
    match channel {
        Channel::Email => MailData::new(body).map(Content::Mail).map_err(|_| bad()),
        Channel::Sms => {
            let text = std::str::from_utf8(&body).map_err(|_| bad())?;
            SmsText::new(text).map(Content::Text).map_err(|_| bad())
        }
    }
}

/// Writes a change record's payload.
pub(super) fn write_changes(changes: &[Change]) -> Bytes {
    let mut w = Writer::new(128);
    w.u32(changes.len() as u32);
    changes.iter().for_each(|c| w.change(c));
    w.finish()
}

/// Reads a change record's payload.
pub(super) fn read_changes(payload: &[u8]) -> Read<Vec<Change>> {
    Reader::new(payload)?.list("changes", |r| r.change())
}

/// Writes a key record's payload.
pub(super) fn write_key(record: &KeyRecord) -> Bytes {
    let mut w = Writer::new(128);
    w.text(&record.client);
    w.text(&record.idempotency.key);
    w.0.extend_from_slice(&record.idempotency.fingerprint);
    w.time(record.received_at);
    w.finish()
}

/// Reads a key record's payload.
pub(super) fn read_key(payload: &[u8]) -> Read<KeyRecord> {
    let mut r = Reader::new(payload)?;
    Ok(KeyRecord {
        client: r.text("client")?,
        idempotency: Idempotency { key: r.text("key")?, fingerprint: r.array("fingerprint")? },
        received_at: r.time("received")?,
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(VERSION);
        Self(bytes)
    }

    fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }

    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    fn flag(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    fn time(&mut self, t: Timestamp) {
        self.u64(t.micros());
    }

    fn text(&mut self, t: &str) {
        self.u32(t.len() as u32);
        self.0.extend_from_slice(t.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn envelope(&mut self, e: &Envelope) {
        self.text(&e.client);
        self.u8(e.class.index() as u8);
        self.option(e.campaign.as_deref(), Self::text);
        self.u32(e.tags.len() as u32);
        e.tags.iter().for_each(|t| self.text(t));
        self.option(e.client_ref.as_deref(), Self::text);
        self.time(e.received_at);
        self.option(e.send_at, Self::time);
        self.option(e.expires_at, Self::time);
        self.option(e.idempotency.as_ref(), |w, i| {
            w.text(&i.key);
            w.0.extend_from_slice(&i.fingerprint);
        });
        match &e.origin {
            Origin::Mail(mail) => {
                self.u8(0);
                self.mail_origin(mail);
            }
            Origin::Text(text) => {
                self.u8(1);
                self.option(text.from.as_ref(), |w, from| w.text(&from.to_string()));
            }
        }
        self.u32(e.recipients.len() as u32);
        e.recipients.iter().for_each(|r| self.recipient(r));
    }

    fn mail_origin(&mut self, mail: &MailOrigin) {
        self.text(&mail.reverse_path.to_string());
        self.flag(mail.body == BodyKind::EightBit);
        self.flag(mail.smtputf8);
        self.option(mail.ret, |w, ret| w.flag(ret == Ret::Full));
        self.option(mail.envid.as_deref(), Self::text);
        self.0.extend_from_slice(&mail.body_hash);
        self.u32(mail.header_bytes);
    }

    fn recipient(&mut self, r: &Recipient) {
        self.text(&r.address.to_string());
        self.option(r.notify, |w, n| {
            w.u8(u8::from(n.success) | u8::from(n.failure) << 1 | u8::from(n.delay) << 2);
        });
        self.option(r.original.as_ref(), |w, o| {
            w.text(&o.kind);
            w.text(&o.xtext);
        });
    }

    fn life(&mut self, l: &Life) {
        self.state(l.state);
        self.u32(l.attempts_made);
        self.u32(l.attempts.len() as u32);
        l.attempts.iter().for_each(|a| self.attempt(a));
        self.option(l.progress.as_deref(), Self::progress);
        self.u32(l.receipts.len() as u32);
        l.receipts.iter().for_each(|r| self.receipt(r));
    }

    fn change(&mut self, c: &Change) {
        self.u32(c.recipient);
        self.state(c.state);
        self.option(c.attempt.as_ref(), Self::attempt);
        self.flag(c.counts);
        self.option(c.progress.as_deref(), Self::progress);
        self.option(c.receipt.as_deref(), Self::receipt);
    }

    fn receipt(&mut self, r: &PartReceipt) {
        self.u32(r.part);
        self.time(r.at);
        self.text(&r.text);
    }

    fn state(&mut self, s: State) {
        match s {
            State::Queued { due } => {
                self.u8(0);
                self.time(due);
            }
            State::Begun { at } => {
                self.u8(1);
                self.time(at);
            }
            State::Sent { at } => {
                self.u8(2);
                self.time(at);
            }
            State::Ended { end, at } => {
                self.u8(3);
                self.u8(index_of(&ENDS, end));
                self.time(at);
            }
        }
    }

    fn attempt(&mut self, a: &Attempt) {
        self.time(a.time);
        self.u8(index_of(&Kind::ALL, a.outcome));
        self.option(a.stage, |w, s| w.u8(index_of(&STAGES, s)));
        self.option(a.scope, |w, s| w.u8(index_of(&SCOPES, s)));
        self.option(a.status, Self::status);
        self.option(a.reply.as_ref(), |w, r| {
            w.u32(r.code);
            w.option(r.enhanced, Self::status);
            w.text(&r.text);
        });
        self.option(a.cause.as_deref(), Self::text);
        self.flag(a.throttled);
        self.option(a.peer.as_ref(), |w, p| {
            w.text(&p.host);
            w.option(p.address, |w, a| w.text(&a.to_string()));
            w.option(p.tls.as_deref(), Self::text);
        });
        self.u64(u64::try_from(a.duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn status(&mut self, e: EnhancedStatus) {
        self.u8(e.class);
        self.u16(e.subject);
        self.u16(e.detail);
    }

    fn progress(&mut self, p: &TextProgress) {
        self.text(&p.carrier);
        self.u8(p.reference);
        self.u32(p.parts.len() as u32);
        for part in &p.parts {
            match part {
                PartState::Waiting => self.u8(0),
                PartState::Unanswered => self.u8(1),
                PartState::Sent(id) => {
                    self.u8(2);
                    self.text(id);
                }
                PartState::Refused => self.u8(3),
                PartState::Received(id, state) => {
                    self.u8(4);
                    self.text(id);
                    self.u8(index_of(&RECEIPT_STATES, *state));
                }
            }
        }
    }
}

/// Reads fields off the front of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(payload: &'a [u8]) -> Read<Self> {
        match payload.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            _ => Err(RecordError { field: "version" }),
        }
    }

    fn take(&mut self, field: &'static str, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(RecordError { field })?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Read<[u8; N]> {
        self.take(field, N)?.try_into().map_err(|_| RecordError { field })
    }

    fn u8(&mut self, field: &'static str) -> Read<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    fn u16(&mut self, field: &'static str) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    fn u32(&mut self, field: &'static str) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn flag(&mut self, field: &'static str) -> Read<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError { field }),
        }
    }

    fn time(&mut self, field: &'static str) -> Read<Timestamp> {
        Ok(Timestamp(self.u64(field)?))
    }

    fn str(&mut self, field: &'static str) -> Read<&'a str> {
        let length = self.u32(field)? as usize;
        std::str::from_utf8(self.take(field, length)?).map_err(|_| RecordError { field })
    }

    fn text(&mut self, field: &'static str) -> Read<Arc<str>> {
        Ok(self.str(field)?.into())
    }

    fn option<T>(&mut self, field: &'static str, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, field: &'static str, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u32(field)? as usize;
        // Every element takes a byte at least, so a count that lies allocates nothing.
        if count > self.0.len() {
            return Err(RecordError { field });
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn one_of<T: Copy>(&mut self, field: &'static str, all: &[T]) -> Read<T> {
        all.get(usize::from(self.u8(field)?)).copied().ok_or(RecordError { field })
    }

    fn envelope(&mut self, id: MessageId) -> Read<Envelope> {
        Ok(Envelope {
            id,
            client: self.text("client")?,
            class: self.one_of("class", &Class::ALL)?,
            campaign: self.option("campaign", |r| r.text("campaign"))?,
            tags: self.list("tags", |r| r.text("tag"))?,
            client_ref: self.option("client_ref", |r| r.text("client_ref"))?,
            received_at: self.time("received_at")?,
            send_at: self.option("send_at", |r| r.time("send_at"))?,
            expires_at: self.option("expires_at", |r| r.time("expires_at"))?,
            idempotency: self.option("idempotency", |r| {
                Ok(Idempotency { key: r.text("key")?, fingerprint: r.array("fingerprint")? })
            })?,
            origin: match self.u8("origin")? {
                0 => Origin::Mail(self.mail_origin()?),
                1 => Origin::Text(TextOrigin {
                    from: self.option("from", |r| {
                        SenderId::parse(r.str("from")?).map_err(|_| RecordError { field: "from" })
                    })?,
                }),
                _ => return Err(RecordError { field: "origin" }),
            },
            recipients: self.list("recipients", |r| r.recipient())?,
        })
    }

    fn mail_origin(&mut self) -> Read<MailOrigin> {
        Ok(MailOrigin {
            reverse_path: match self.str("reverse_path")? {
                "" => ReversePath::Null,
                path => {
                    Mailbox::parse(path).map(ReversePath::Mailbox).map_err(|_| RecordError { field: "reverse_path" })?
                }
            },
            body: if self.flag("body")? { BodyKind::EightBit } else { BodyKind::SevenBit },
            smtputf8: self.flag("smtputf8")?,
            ret: self.option("ret", |r| Ok(if r.flag("ret")? { Ret::Full } else { Ret::Headers }))?,
            envid: self.option("envid", |r| r.text("envid"))?,
            body_hash: self.array("body_hash")?,
            header_bytes: self.u32("header_bytes")?,
        })
    }

    fn recipient(&mut self) -> Read<Recipient> {
        let address = self.str("address")?;
        let parsed = if address.starts_with('+') && !address.contains('@') {
            Number::parse(address).map(Address::Number)
        } else {
            Mailbox::parse(address).map(Address::Mailbox)
        };
        Ok(Recipient {
            address: parsed.map_err(|_| RecordError { field: "address" })?,
            notify: self.option("notify", |r| {
                let bits = r.u8("notify")?;
                Ok(Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 })
            })?,
            original: self.option("original", |r| {
                Ok(OriginalRecipient { kind: r.text("original")?, xtext: r.text("original")? })
            })?,
        })
    }

    fn life(&mut self) -> Read<Life> {
        Ok(Life {
            state: self.state()?,
            attempts_made: self.u32("attempts_made")?,
            attempts: self.list("attempts", |r| r.attempt())?,
            progress: self.option("progress", |r| r.progress().map(Box::new))?,
            receipts: self.list("receipts", |r| r.receipt())?,
        })
    }

    fn change(&mut self) -> Read<Change> {
        Ok(Change {
            recipient: self.u32("recipient")?,
            state: self.state()?,
            attempt: self.option("attempt", |r| r.attempt())?,
            counts: self.flag("counts")?,
            progress: self.option("progress", |r| r.progress().map(Box::new))?,
            receipt: self.option("receipt", |r| r.receipt().map(Box::new))?,
        })
    }

    fn receipt(&mut self) -> Read<PartReceipt> {
        Ok(PartReceipt {
            part: self.u32("receipt part")?,
            at: self.time("receipt time")?,
            text: self.str("receipt text")?.to_owned(),
        })
    }

    fn state(&mut self) -> Read<State> {
        match self.u8("state")? {
            0 => Ok(State::Queued { due: self.time("due")? }),
            1 => Ok(State::Begun { at: self.time("begun")? }),
            2 => Ok(State::Sent { at: self.time("sent")? }),
            3 => Ok(State::Ended { end: self.one_of("end", &ENDS)?, at: self.time("ended")? }),
            _ => Err(RecordError { field: "state" }),
        }
    }

    fn attempt(&mut self) -> Read<Attempt> {
        Ok(Attempt {
            time: self.time("attempt")?,
            outcome: self.one_of("outcome", &Kind::ALL)?,
            stage: self.option("stage", |r| r.one_of("stage", &STAGES))?,
            scope: self.option("scope", |r| r.one_of("scope", &SCOPES))?,
            status: self.option("status", |r| r.status("status"))?,
            reply: self.option("reply", |r| {
                Ok(Reply {
                    code: r.u32("code")?,
                    enhanced: r.option("enhanced", |r| r.status("enhanced"))?,
                    text: r.str("reply text")?.to_owned(),
                })
            })?,
            cause: self.option("cause", |r| r.str("cause").map(str::to_owned))?,
            throttled: self.flag("throttled")?,
            peer: self.option("peer", |r| {
                Ok(Peer {
                    host: r.str("host")?.to_owned(),
                    address: r.option("peer address", |r| {
                        r.str("peer address")?.parse::<SocketAddr>().map_err(|_| RecordError { field: "peer address" })
                    })?,
                    tls: r.option("tls", |r| r.str("tls").map(str::to_owned))?,
                })
            })?,
            duration: Duration::from_micros(self.u64("duration")?),
        })
    }

    fn status(&mut self, field: &'static str) -> Read<EnhancedStatus> {
        Ok(EnhancedStatus::new(self.u8(field)?, self.u16(field)?, self.u16(field)?))
    }

    fn progress(&mut self) -> Read<TextProgress> {
        Ok(TextProgress {
            carrier: self.text("carrier")?,
            reference: self.u8("reference")?,
            parts: self.list("parts", |r| {
                Ok(match r.u8("part")? {
                    0 => PartState::Waiting,
                    1 => PartState::Unanswered,
                    2 => PartState::Sent(r.text("part id")?),
                    3 => PartState::Refused,
                    4 => PartState::Received(r.text("part id")?, r.one_of("receipt state", &RECEIPT_STATES)?),
                    _ => return Err(RecordError { field: "part" }),
                })
            })?,
        })
    }
}

/// Ends by their number on disk.
const ENDS: [End; 7] =
    [End::Delivered, End::Failed, End::Expired, End::Cancelled, End::Rejected, End::Unknown, End::SentWithoutReceipt];

/// Stages by their number on disk.
const STAGES: [Stage; 11] = [
    Stage::Route,
    Stage::Dns,
    Stage::Connect,
    Stage::Hello,
    Stage::Tls,
    Stage::Mail,
    Stage::Recipient,
    Stage::Data,
    Stage::EndOfData,
    Stage::Submit,
    Stage::Receipt,
];

/// Scopes by their number on disk.
const SCOPES: [Scope; 8] = [
    Scope::Recipient,
    Scope::Message,
    Scope::Campaign,
    Scope::SenderDomain,
    Scope::Connection,
    Scope::Host,
    Scope::Source,
    Scope::Site,
];

/// Receipt states by their number on disk.
const RECEIPT_STATES: [ReceiptState; 6] = [
    ReceiptState::Underway,
    ReceiptState::Delivered,
    ReceiptState::Expired,
    ReceiptState::Undeliverable,
    ReceiptState::Rejected,
    ReceiptState::Unknown,
];

/// A value's number on disk. Every value stands in its table: the round-trip tests go through all of them.
fn index_of<T: PartialEq>(all: &[T], value: T) -> u8 {
    all.iter().position(|v| *v == value).unwrap_or(usize::from(u8::MAX)) as u8
}

#[cfg(test)]
mod tests;
