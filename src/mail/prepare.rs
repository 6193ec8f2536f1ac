//! What ingress does to a mail before it is queued.
//!
//! **What.** One walk over the header section: a Received field on top, Message-ID and Date where they are missing (RFC
//! 6409 section 8), Bcc and Resent-Bcc out, `X-Postrider-*` read and out, hops counted, the author's domains found; then one
//! pass over the body for its DKIM hash.
//!
//! **Promises.** Every other byte stays as it was, malformed lines and the body included. One copy is made, of the whole
//! into its new place.
//!
//! **Fails how.** [`PrepareError`] says what the client should mend; nothing was taken then.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::directive::is_directive;
use super::dkim::BodyHash;
use super::from::{FromFault, domains_of};
use super::header::{Field, fields};
pub use super::{directive::Directives, trace::Trace};
use crate::model::{BodyKind, Domain, EnhancedStatus, MailData, TlsWish};

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
    /// The domains of the From field's mailboxes, each once.
    pub from_domains: Vec<Domain>,
    /// Seven or eight bit, by content: header section and body.
    pub body: BodyKind,
    /// It says `TLS-Required: No` (RFC 8689 section 3).
    pub tls_not_required: bool,
    /// True if the header section holds octets above 127 (RFC 6532): the mail needs SMTPUTF8.
    pub utf8_header: bool,
}

impl Prepared {
    /// What its sender wants of TLS; `required` says that the submission asked for REQUIRETLS, which the header section
    /// cannot take back (RFC 8689 section 4.1).
    pub fn tls_wish(&self, required: bool) -> TlsWish {
        match (required || self.directives.require_tls == Some(true), self.tls_not_required) {
            (true, _) => TlsWish::Required,
            (false, true) => TlsWish::NotRequired,
            (false, false) => TlsWish::None,
        }
    }
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

impl PrepareError {
    /// The enhanced status code of the refusal.
    pub const fn status(&self) -> EnhancedStatus {
        match self {
            Self::TooManyHops { .. } => EnhancedStatus::new(5, 4, 6),
            Self::BadDirective { .. } | Self::BadHeader { .. } => EnhancedStatus::new(5, 6, 0),
        }
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyHops { hops } => write!(f, "{hops} Received fields: this mail is going in circles"),
            Self::BadDirective { field, expected } => write!(f, "bad header field {field}: expected {expected}"),
            Self::BadHeader { why } => write!(f, "bad header section: {why}"),
        }
    }
}

impl std::error::Error for PrepareError {}

impl From<FromFault> for PrepareError {
    fn from(fault: FromFault) -> Self {
        Self::BadHeader { why: fault.to_string() }
    }
}

/// Prepares a mail for the queue.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(data: MailData, trace: &Trace<'_>) -> Result<Prepared, PrepareError> {
    let bytes = data.bytes();
    let found = Found::walk(bytes)?;
    if found.hops > trace.hops_max {
        return Err(PrepareError::TooManyHops { hops: found.hops });
    }
    let section = found.section_bytes;

    let mut out = Vec::with_capacity(bytes.len() + ADDED_BYTES);
    found.write_added(trace, &mut out);
    let mut from = 0;
    for stripped in &found.stripped {
        out.extend_from_slice(&bytes[from..stripped.start]);
        from = stripped.end;
    }
    out.extend_from_slice(&bytes[from..section]);
    let header_bytes = out.len();
    out.extend_from_slice(&bytes[section..]);

    let utf8_header = !out[..header_bytes].is_ascii();
    let eight_bit = utf8_header || !out[header_bytes..].is_ascii();
    let body_hash = BodyHash::of(&out[header_bytes..]);
    let too_large = || PrepareError::BadHeader { why: "it is larger than 4 GiB".to_owned() };
    Ok(Prepared {
        // Whole fields were put in and taken out between line ends, so this cannot fail; but a check beats a belief.
        data: MailData::new(Bytes::from(out)).map_err(|fault| PrepareError::BadHeader { why: fault.to_string() })?,
        header_bytes: u32::try_from(header_bytes).map_err(|_| too_large())?,
        body_hash,
        directives: found.directives,
        from_domains: found.from_domains,
        body: if eight_bit { BodyKind::EightBit } else { BodyKind::SevenBit },
        tls_not_required: found.tls_required == TlsRequired::No,
        utf8_header,
    })
}

/// What the walk over the header section found.
struct Found {
    section_bytes: usize,
    stripped: Vec<Range<usize>>,
    hops: usize,
    has_date: bool,
    has_message_id: bool,
    from_domains: Vec<Domain>,
    directives: Directives,
    tls_required: TlsRequired,
}

impl Found {
    fn walk(bytes: &[u8]) -> Result<Self, PrepareError> {
        let mut found = Self {
            section_bytes: 0,
            stripped: Vec::new(),
            hops: 0,
            has_date: false,
            has_message_id: false,
            from_domains: Vec::new(),
            directives: Directives::default(),
            tls_required: TlsRequired::Absent,
        };
        let (mut from, mut repeated) = (None, false);
        let mut walk = fields(bytes);
        let mut at = 0;
        for field in walk.by_ref() {
            let place = at..at + field.raw().len();
            at = place.end;
            match field.name().first().map(u8::to_ascii_lowercase) {
                Some(b'r') if field.is("Received") => found.hops += 1,
                Some(b'b') if field.is("Bcc") => found.strip(place),
                Some(b'r') if field.is("Resent-Bcc") => found.strip(place),
                Some(b'd') if field.is("Date") => found.has_date = true,
                Some(b'm') if field.is("Message-ID") => found.has_message_id = true,
                Some(b't') if field.is("TLS-Required") => found.tls_required.take(&field),
                Some(b'f') if field.is("From") => repeated |= from.replace(field).is_some(),
                Some(b'x') if is_directive(&field) => {
                    found.directives.take(&field)?;
                    found.strip(place);
                }
                _ => {}
            }
        }
        found.section_bytes = walk.section_bytes();
        if repeated {
            return Err(FromFault::Repeated.into());
        }
        found.from_domains = domains_of(&from.ok_or(FromFault::Missing)?)?;
        Ok(found)
    }

    /// Marks a field to be left out; neighbours become one stretch.
    fn strip(&mut self, place: Range<usize>) {
        match self.stripped.last_mut() {
            Some(last) if last.end == place.start => last.end = place.end,
            _ => self.stripped.push(place),
        }
    }

    /// Writes the fields that go on top.
    fn write_added(&self, trace: &Trace<'_>, out: &mut Vec<u8>) {
        let date = trace.time.rfc5322();
        trace.write(&date, out);
        if !self.has_date {
            out.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
        }
        if !self.has_message_id {
            out.extend_from_slice(format!("Message-ID: <{}@{}>\r\n", trace.id, trace.by).as_bytes());
        }
    }
}

/// What the mail's TLS-Required field says. It may stand once and knows one value; anything else says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TlsRequired {
    Absent,
    No,
    Void,
}

impl TlsRequired {
    fn take(&mut self, field: &Field<'_>) {
        let says_no = field.value().eq_ignore_ascii_case(b"no");
        *self = if *self == Self::Absent && says_no { Self::No } else { Self::Void };
    }
}

/// Room for the added fields; more costs a second allocation, nothing else.
const ADDED_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
