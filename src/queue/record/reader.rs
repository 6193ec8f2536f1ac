//! Reading fields: never a panic, never an allocation larger than the record, whatever the bytes are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{ENDS, RECEIPT_STATES, Read, RecordError, SCOPES, STAGES, TLS_WISHES, VERSION, VERSION_MIN};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::model::{
    Address, BodyKind, CARRIERS_MAX, Class, EnhancedStatus, Envelope, Idempotency, MailOrigin, Mailbox, MessageId,
    Notify, Number, Origin, OriginalRecipient, PartState, Peer, Recipient, Reply, Ret, ReversePath, Rule, SenderId,
    TextOrigin, TextProgress,
};
use crate::queue::life::{Attempt, Change, Life, PartReceipt, State, Tally};
use crate::storage::Position;

/// Reads fields off the front of a record.
pub(super) struct Reader<'a>(&'a [u8], u8);

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Read<Self> {
        match payload.split_first() {
            Some((&version, rest)) if (VERSION_MIN..=VERSION).contains(&version) => Ok(Self(rest, version)),
            _ => Err(RecordError { field: "version" }),
        }
    }

    pub(super) fn take(&mut self, field: &'static str, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(RecordError { field })?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Read<[u8; N]> {
        self.take(field, N)?.try_into().map_err(|_| RecordError { field })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Read<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Read<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError { field }),
        }
    }

    pub(super) fn time(&mut self, field: &'static str) -> Read<Timestamp> {
        Ok(Timestamp(self.u64(field)?))
    }

    pub(super) fn str(&mut self, field: &'static str) -> Read<&'a str> {
        let length = self.u32(field)? as usize;
        std::str::from_utf8(self.take(field, length)?).map_err(|_| RecordError { field })
    }

    pub(super) fn text(&mut self, field: &'static str) -> Read<Arc<str>> {
        Ok(self.str(field)?.into())
    }

    pub(super) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn list<T>(&mut self, field: &'static str, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u32(field)? as usize;
        // Every element takes a byte at least, so a count that lies allocates nothing.
        if count > self.0.len() {
            return Err(RecordError { field });
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn one_of<T: Copy>(&mut self, field: &'static str, all: &[T]) -> Read<T> {
        all.get(usize::from(self.u8(field)?)).copied().ok_or(RecordError { field })
    }

    pub(super) fn envelope(&mut self, id: MessageId) -> Read<Envelope> {
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

    pub(super) fn mail_origin(&mut self) -> Read<MailOrigin> {
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
            tls: self.since(5, |r| r.one_of("tls", &TLS_WISHES))?,
        })
    }

    pub(super) fn recipient(&mut self) -> Read<Recipient> {
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

    /// A field that versions before `version` did not have.
    pub(super) fn since<T: Default>(&mut self, version: u8, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.1 >= version { read(self) } else { Ok(T::default()) }
    }

    pub(super) fn position(&mut self) -> Read<Position> {
        Ok(Position { segment: self.u64("segment")?, offset: self.u32("offset")?, length: self.u32("length")? })
    }

    pub(super) fn life(&mut self) -> Read<Life> {
        Ok(Life {
            state: self.state()?,
            sequence: self.since(2, |r| r.u32("sequence"))?,
            attempts_made: self.u32("attempts_made")?,
            attempts: self.list("attempts", |r| r.attempt())?,
            progress: self.option("progress", |r| r.progress().map(Box::new))?,
            receipts: self.list("receipts", |r| r.receipt())?,
        })
    }

    pub(super) fn change(&mut self) -> Read<Change> {
        Ok(Change {
            recipient: self.u32("recipient")?,
            sequence: self.since(2, |r| r.u32("sequence"))?,
            previous: self.since(2, |r| r.option("previous", Self::position))?,
            state: self.state()?,
            attempt: self.option("attempt", |r| r.attempt())?,
            counts: self.flag("counts")?,
            tally: self.since(2, |r| r.tally().map(Some))?,
            progress: self.option("progress", |r| r.progress().map(Box::new))?,
            receipt: self.option("receipt", |r| r.receipt().map(Box::new))?,
        })
    }

    pub(super) fn tally(&mut self) -> Read<Tally> {
        Ok(Tally { attempts_made: self.u16("attempts")?, throttled: self.u8("throttled")? })
    }

    pub(super) fn receipt(&mut self) -> Read<PartReceipt> {
        Ok(PartReceipt {
            part: self.u32("receipt part")?,
            at: self.time("receipt time")?,
            text: self.str("receipt text")?.to_owned(),
            carrier: self.since(6, |r| Ok(Some(r.text("receipt carrier")?).filter(|name| !name.is_empty())))?,
        })
    }

    pub(super) fn state(&mut self) -> Read<State> {
        match self.u8("state")? {
            0 => Ok(State::Queued { due: self.time("due")? }),
            1 => Ok(State::Begun { at: self.time("begun")? }),
            2 => Ok(State::Sent { at: self.time("sent")? }),
            3 => Ok(State::Ended { end: self.one_of("end", &ENDS)?, at: self.time("ended")? }),
            _ => Err(RecordError { field: "state" }),
        }
    }

    pub(super) fn attempt(&mut self) -> Read<Attempt> {
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
                    source: r.since(4, |r| r.option("source", |r| r.str("source").map(Arc::from)))?,
                    tls_policy: r.since(4, |r| r.option("tls policy", |r| r.text("tls policy")))?,
                })
            })?,
            duration: Duration::from_micros(self.u64("duration")?),
            rule: self.since(3, |r| {
                r.option("rule", |r| Ok(Rule { id: r.text("rule id")?, class: r.text("rule class")? }))
            })?,
        })
    }

    pub(super) fn status(&mut self, field: &'static str) -> Read<EnhancedStatus> {
        Ok(EnhancedStatus::new(self.u8(field)?, self.u16(field)?, self.u16(field)?))
    }

    pub(super) fn progress(&mut self) -> Read<TextProgress> {
        self.chain(CARRIERS_MAX)
    }

    /// A text at so many carriers at most.
    fn chain(&mut self, most: usize) -> Read<TextProgress> {
        let most = most.checked_sub(1).ok_or(RecordError { field: "carriers" })?;
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
            doubted: self.since(6, |r| r.flag("doubted"))?,
            before: self.since(6, |r| r.option("before", |r| r.chain(most).map(Box::new)))?,
            cut_by_carrier: self.since(7, |r| r.u32("cut by carrier"))?,
        })
    }
}
