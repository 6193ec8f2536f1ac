//! From a mail transaction to a [`Submission`], and from every refusal to its reply.
//!
//! **Promises.** A submission leaves here only if the client may send as each domain in From. One [`Refused`] per reason:
//! the reply for the peer and a bounded word for the metric.
//!
//! **Does not know** sockets or the protocol machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::Timestamp;
use crate::mail::{Directives, PrepareError, Prepared, Trace};
use crate::model::{
    Address, Content, Envelope, Idempotency, MailData, MailOrigin, Mailbox, MessageId, Origin, Recipient, Submission,
};
use crate::policy::{Client, Refusal};
use crate::queue::AcceptError;
use crate::wire::smtp::server::{Hello, MailCommand, MessageFault, NegativeReply, Received};

/// A refusal: what the peer is told, and the word it is counted under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) reply: NegativeReply,
}

impl Refused {
    pub(super) fn new(
        reason: &'static str,
        code: u16,
        status: (u16, u16),
        text: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self { reason, reply: NegativeReply::new(code, status, text) }
    }
}

impl From<Refusal> for Refused {
    /// Policy: the rule's id stands in the reply, so that a client's developer can look it up.
    fn from(refusal: Refusal) -> Self {
        Self::new("policy", 550, (7, 1), refusal.to_string())
    }
}

impl From<PrepareError> for Refused {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::TooManyHops { hops } => {
                Self::new("loop", 554, (4, 6), format!("Too many hops: {hops} Received fields"))
            }
            PrepareError::BadDirective { field, expected } => {
                Self::new("header", 554, (6, 0), format!("Bad {field}: expected {expected}"))
            }
            PrepareError::BadHeader { why } => Self::new("header", 554, (6, 0), format!("Bad header section: {why}")),
        }
    }
}

impl From<AcceptError> for Refused {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Full { retry_after } => {
                let text = format!("Queue full; try again in {} s", retry_after.as_secs().max(1));
                Self::new("full", 452, (3, 1), text)
            }
            AcceptError::TooLarge => Self::new("size", 552, (3, 4), "Message and its recipients are too large"),
            AcceptError::NoSpace { retry_after } => {
                let text = format!("Insufficient system storage; try again in {} s", retry_after.as_secs().max(1));
                Self::new("no-space", 452, (3, 1), text)
            }
            AcceptError::Unavailable => Self::new("unavailable", 451, (3, 0), "Cannot store mail now; try again later"),
            AcceptError::KeyReused => {
                Self::new("key-reused", 550, (6, 0), "Idempotency key was used before with another message")
            }
            AcceptError::NoRoute { address } => Self::new("no-route", 550, (1, 2), format!("No route to {address}")),
        }
    }
}

/// The word under which a fault of the message data is counted.
pub(super) fn fault_word(fault: &MessageFault) -> &'static str {
    match fault {
        MessageFault::Content(_) => "content",
        MessageFault::LongLine { .. } => "line",
        MessageFault::TooLarge { .. } => "size",
    }
}

/// What a session knows about a message beyond the transaction.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) id: MessageId,
    pub(super) client: Arc<Client>,
    pub(super) hello: Hello,
    pub(super) authenticated: bool,
    pub(super) tls: Option<Arc<str>>,
    pub(super) peer: IpAddr,
    pub(super) by: Arc<str>,
    pub(super) time: Timestamp,
    pub(super) hops_max: usize,
    pub(super) send_at_max: Duration,
}

impl Circumstances {
    /// The `with` word of Received (RFC 3848; RFC 6531 section 3.7.3).
    fn protocol(&self, smtputf8: bool) -> &'static str {
        match (self.hello.extended, smtputf8, self.tls.is_some(), self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, false) => "ESMTPS",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }
}

/// What turns submitted mail into mail to be queued.
pub(super) type Prepare = fn(MailData, &Trace<'_>) -> Result<Prepared, PrepareError>;

/// Prepares the mail and writes its envelope. Works on every byte of it: not for an async worker when it is large.
pub(super) fn submission(
    received: Received,
    circumstances: &Circumstances,
    prepare: Prepare,
) -> Result<Submission, Refused> {
    let Received { mail, recipients, data } = received;
    let submitted = data.clone();
    let trace = Trace {
        helo: Some(&circumstances.hello.name),
        peer: circumstances.peer,
        by: &circumstances.by,
        protocol: circumstances.protocol(mail.smtputf8),
        tls: circumstances.tls.as_deref(),
        id: circumstances.id,
        only_recipient: only_mailbox(&recipients),
        time: circumstances.time,
        hops_max: circumstances.hops_max,
    };
    let prepared = prepare(data, &trace)?;
    for domain in &prepared.from_domains {
        circumstances.client.may_send_as(domain)?;
    }
    if prepared.directives.send_at.is_some_and(|at| at > circumstances.time.plus(circumstances.send_at_max)) {
        let days = circumstances.send_at_max.as_secs() / 86_400;
        let expected = format!("a time at most {days} days ahead");
        return Err(PrepareError::BadDirective { field: "X-Postrider-Send-At".to_owned(), expected }.into());
    }
    let idempotency = prepared
        .directives
        .idempotency_key
        .as_deref()
        .map(|key| Idempotency { key: key.into(), fingerprint: fingerprint(&submitted, &mail, &recipients) });
    Ok(assemble(mail, recipients, prepared, idempotency, circumstances))
}

fn assemble(
    mail: MailCommand,
    recipients: Vec<Recipient>,
    prepared: Prepared,
    idempotency: Option<Idempotency>,
    circumstances: &Circumstances,
) -> Submission {
    let tls = prepared.tls_wish(mail.require_tls);
    let Prepared { data, header_bytes, body_hash, directives, body, utf8_header, .. } = prepared;
    let Directives { class, campaign, tags, send_at, .. } = directives;
    // Many a library asks for SMTPUTF8 whenever it is offered; what does not need it may go where it is not.
    let smtputf8 = mail.smtputf8 && (utf8_header || addresses_need_smtputf8(&mail, &recipients));
    let origin = MailOrigin {
        reverse_path: mail.reverse_path,
        body,
        smtputf8,
        ret: mail.ret,
        envid: mail.envid,
        tls,
        body_hash,
        header_bytes,
    };
    let envelope = Envelope {
        id: circumstances.id,
        client: circumstances.client.name.clone(),
        class: class.unwrap_or_default(),
        campaign: campaign.map(Into::into),
        tags: tags.into_iter().map(Into::into).collect(),
        client_ref: None,
        received_at: circumstances.time,
        send_at,
        expires_at: None,
        idempotency,
        origin: Origin::Mail(origin),
        recipients,
    };
    Submission { envelope, content: Content::Mail(data) }
}

fn only_mailbox(recipients: &[Recipient]) -> Option<&Mailbox> {
    match recipients {
        [Recipient { address: Address::Mailbox(mailbox), .. }] => Some(mailbox),
        _ => None,
    }
}

fn addresses_need_smtputf8(mail: &MailCommand, recipients: &[Recipient]) -> bool {
    mail.reverse_path.mailbox().is_some_and(Mailbox::needs_smtputf8)
        || recipients.iter().any(|r| matches!(&r.address, Address::Mailbox(m) if m.needs_smtputf8()))
}

/// SHA-256 of what was submitted: reverse-path, recipients and data, as they came. NUL stands in none of the addresses, so
/// no two submissions run together.
fn fingerprint(data: &MailData, mail: &MailCommand, recipients: &[Recipient]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(mail.reverse_path.to_string().as_bytes());
    for recipient in recipients {
        hash.update(b"\0");
        hash.update(recipient.address.to_string().as_bytes());
    }
    hash.update(b"\0\0");
    hash.update(data.bytes());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}
