//! What ingress does to a mail before it is queued.

use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::model::{BodyKind, Class, Domain, MailData, Mailbox, MessageId};

/// What the Received field says (RFC 5321 section 4.4).
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// What the client called itself in EHLO, or nothing for HTTP.
    pub helo: Option<&'a str>,
    /// Where it came from.
    pub peer: IpAddr,
    /// Our host name.
    pub by: &'a str,
    /// `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA`, `UTF8SMTPSA` … (RFC 3848, RFC 6531), or `HTTP`.
    pub protocol: &'a str,
    /// TLS version and suite, if any.
    pub tls: Option<&'a str>,
    /// The message's id.
    pub id: MessageId,
    /// The only recipient; `None` where there are several, so that none learns of another.
    pub only_recipient: Option<&'a Mailbox>,
    /// Now.
    pub time: Timestamp,
    /// More Received fields than this are a loop.
    pub hops_max: usize,
}

/// A mail ready to be queued.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// With Received on top, Message-ID and Date where they were missing, without Bcc and `X-Postrider-*`.
    pub data: MailData,
    /// Bytes before the body.
    pub header_bytes: u32,
    /// SHA-256 of the body, relaxed.
    pub body_hash: [u8; 32],
    /// What the `X-Postrider-*` fields asked for.
    pub directives: Directives,
    /// The domains of the From field's mailboxes.
    pub from_domains: Vec<Domain>,
    /// Seven or eight bit, by content.
    pub body: BodyKind,
    /// True if the header section holds octets above 127 (RFC 6532): the mail needs SMTPUTF8.
    pub utf8_header: bool,
}

/// What `X-Postrider-*` fields say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directives {
    /// `X-Postrider-Class`.
    pub class: Option<Class>,
    /// `X-Postrider-Campaign`.
    pub campaign: Option<String>,
    /// `X-Postrider-Tags`, separated by commas.
    pub tags: Vec<String>,
    /// `X-Postrider-Send-At`, RFC 3339.
    pub send_at: Option<Timestamp>,
    /// `X-Postrider-Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// Why a mail was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PrepareError {
    /// More Received fields than allowed: 554 5.4.6.
    TooManyHops {
        /// How many there are.
        hops: usize,
    },
    /// An `X-Postrider-*` field with a bad value: 554 5.6.0.
    BadDirective {
        /// The field's name.
        field: String,
        /// What would be right.
        expected: String,
    },
    /// The header section cannot be understood: 554 5.6.0.
    BadHeader {
        /// What is wrong.
        why: String,
    },
}

/// Prepares a mail for the queue.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(_data: MailData, _trace: &Trace<'_>) -> Result<Prepared, PrepareError> {
    Err(PrepareError::BadHeader { why: "not written yet".to_owned() })
}
