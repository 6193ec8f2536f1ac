//! Writing fields: the left-hand side of what `reader` reads.

use bytes::Bytes;

use super::{ENDS, RECEIPT_STATES, SCOPES, STAGES, TLS_WISHES, VERSION, index_of};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::model::{BodyKind, EnhancedStatus, Envelope, MailOrigin, Origin, PartState, Recipient, Ret, TextProgress};
use crate::queue::life::{Attempt, Change, Life, PartReceipt, State, Tally};
use crate::storage::Position;

/// Fields, one behind the other.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(VERSION);
        Self(bytes)
    }

    pub(super) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }

    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    pub(super) fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub(super) fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub(super) fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub(super) fn flag(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    pub(super) fn time(&mut self, t: Timestamp) {
        self.u64(t.micros());
    }

    pub(super) fn text(&mut self, t: &str) {
        self.u32(t.len() as u32);
        self.0.extend_from_slice(t.as_bytes());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn envelope(&mut self, e: &Envelope) {
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

    pub(super) fn mail_origin(&mut self, mail: &MailOrigin) {
        self.text(&mail.reverse_path.to_string());
        self.flag(mail.body == BodyKind::EightBit);
        self.flag(mail.smtputf8);
        self.option(mail.ret, |w, ret| w.flag(ret == Ret::Full));
        self.option(mail.envid.as_deref(), Self::text);
        self.0.extend_from_slice(&mail.body_hash);
        self.u32(mail.header_bytes);
        self.u8(index_of(&TLS_WISHES, mail.tls));
    }

    pub(super) fn recipient(&mut self, r: &Recipient) {
        self.text(&r.address.to_string());
        self.option(r.notify, |w, n| {
            w.u8(u8::from(n.success) | u8::from(n.failure) << 1 | u8::from(n.delay) << 2);
        });
        self.option(r.original.as_ref(), |w, o| {
            w.text(&o.kind);
            w.text(&o.xtext);
        });
    }

    pub(super) fn life(&mut self, l: &Life) {
        self.state(l.state);
        self.u32(l.sequence);
        self.u32(l.attempts_made);
        self.u32(l.attempts.len() as u32);
        l.attempts.iter().for_each(|a| self.attempt(a));
        self.option(l.progress.as_deref(), Self::progress);
        self.u32(l.receipts.len() as u32);
        l.receipts.iter().for_each(|r| self.receipt(r));
    }

    pub(super) fn change(&mut self, c: &Change) {
        self.u32(c.recipient);
        self.u32(c.sequence);
        self.option(c.previous, Self::position);
        self.state(c.state);
        self.option(c.attempt.as_ref(), Self::attempt);
        self.flag(c.counts);
        self.tally(c.tally.unwrap_or_default());
        self.option(c.progress.as_deref(), Self::progress);
        self.option(c.receipt.as_deref(), Self::receipt);
    }

    pub(super) fn tally(&mut self, t: Tally) {
        self.u16(t.attempts_made);
        self.u8(t.throttled);
    }

    pub(super) fn position(&mut self, p: Position) {
        self.u64(p.segment);
        self.u32(p.offset);
        self.u32(p.length);
    }

    pub(super) fn receipt(&mut self, r: &PartReceipt) {
        self.u32(r.part);
        self.time(r.at);
        self.text(&r.text);
        // What is read from an older record names none.
        self.text(r.carrier.as_deref().unwrap_or_default());
    }

    pub(super) fn state(&mut self, s: State) {
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

    pub(super) fn attempt(&mut self, a: &Attempt) {
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
            w.option(p.source.as_deref(), Self::text);
            w.option(p.tls_policy.as_deref(), Self::text);
        });
        self.u64(u64::try_from(a.duration.as_micros()).unwrap_or(u64::MAX));
        self.option(a.rule.as_ref(), |w, rule| {
            w.text(&rule.id);
            w.text(&rule.class);
        });
    }

    pub(super) fn status(&mut self, e: EnhancedStatus) {
        self.u8(e.class);
        self.u16(e.subject);
        self.u16(e.detail);
    }

    pub(super) fn progress(&mut self, p: &TextProgress) {
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
        self.flag(p.doubted);
        self.option(p.before.as_deref(), Self::progress);
        self.u32(p.cut_by_carrier);
    }
}
