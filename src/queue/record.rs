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
//! life per recipient, one that was copied forward has its history with it, and older CHANGE records do not touch it. A change
//! names the record of the change before it, so that a recipient's life can be read backwards from its newest record.
//!
//! **Promises.** What is written reads back; whatever bytes are read, the answer is a value or an error, never a panic and
//! never an allocation larger than the record.
//!
//! **Fails how.** [`RecordError`] names the field that could not be read.

mod reader;
pub(super) mod summary;
mod writer;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::life::{Change, End, Life};
use crate::clock::Timestamp;
use crate::model::{
    Channel, Content, Envelope, Idempotency, MailData, MessageId, ReceiptState, Scope, SmsText, Stage, TlsWish,
};
use reader::Reader;
use writer::Writer;

/// Kind of an accept record.
pub(super) const ACCEPT: u8 = 1;
/// Kind of a change record.
pub(super) const CHANGE: u8 = 2;
/// Kind of an idempotency key record.
pub(super) const KEY: u8 = 3;

/// The version written; older ones are read. Version 2 brought a change's number and the change before it, version 3 the
/// rule that judged an attempt's reply, version 4 the source that it was made from, the TLS policy that held for it and, to
/// sidecars, campaigns, version 5 what the sender wants of TLS, version 6 texts that have gone to several carriers or once more,
/// version 7 texts that lie on the shelf, and into how many parts a carrier cuts one.
const VERSION: u8 = 7;
/// The oldest version that is read.
const VERSION_MIN: u8 = 1;

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
    Reader::new(payload)?.list("changes", Reader::change)
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

/// Ends by their number on disk.
const ENDS: [End; 8] = [
    End::Delivered,
    End::Failed,
    End::Expired,
    End::Cancelled,
    End::Rejected,
    End::Unknown,
    End::SentWithoutReceipt,
    End::Shelved,
];

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

/// What senders want of TLS, by its number on disk.
const TLS_WISHES: [TlsWish; 3] = [TlsWish::None, TlsWish::Required, TlsWish::NotRequired];

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
