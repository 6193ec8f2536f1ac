//! Delivery status notifications (RFC 3461 to 3464): telling the sender what became of a mail.
//!
//! **What.** [`report`] writes a multipart/report mail (RFC 6522) for the recipients it is given; [`wants`] says whether a
//! recipient's sender asked for one.
//!
//! **Promises.** Never for mail with a null reverse-path, and always with one itself: notifications do not answer each
//! other. What peers said is reduced to printable text, so a reply cannot forge a field. Lines are at most 998 octets long.
//!
//! **Does not know** when a notification is due, nor what the queue does with it.

use std::fmt::Write;

use bytes::Bytes;

use super::dkim::BodyHash;
use super::header::{fields, header_section};
use crate::clock::Timestamp;
use crate::model::{
    BodyKind, EnhancedStatus, Envelope, MailData, MailOrigin, Mailbox, MessageId, Recipient, RecipientIndex, Reply,
    Ret, ReversePath, TlsWish,
};

mod text;

use text::{ascii_address, decode_xtext, fold_into, printable, push_lines};

/// What happened to a recipient (RFC 3464 section 2.3.3), as far as a relay reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Never to be delivered.
    Failed,
    /// Not delivered yet; attempts go on.
    Delayed,
    /// Handed to a next hop that does not send notifications of its own.
    Relayed,
}

impl Action {
    /// RFC 3464's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
        }
    }
}

/// True if the sender wants to hear that about a recipient (RFC 3461 section 4.1). Without NOTIFY that is failure only.
pub fn wants(recipient: &Recipient, action: Action) -> bool {
    match (recipient.notify, action) {
        (None, action) => action == Action::Failed,
        (Some(notify), Action::Failed) => notify.failure,
        (Some(notify), Action::Delayed) => notify.delay,
        (Some(notify), Action::Relayed) => notify.success,
    }
}

/// What became of one recipient.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which one.
    pub recipient: RecipientIndex,
    /// What happened.
    pub action: Action,
    /// The status code to report.
    pub status: EnhancedStatus,
    /// The next hop's last reply, if there was one.
    pub reply: Option<Reply>,
    /// In words, where no reply says so: `no route to host`, `its time ran out`.
    pub cause: Option<String>,
    /// The next hop's name.
    pub remote: Option<String>,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// For a delay: until when it will be tried.
    pub will_retry_until: Option<Timestamp>,
}

/// What a notification is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our host name.
    pub reporting_mta: &'a str,
    /// The mail reported on.
    pub envelope: &'a Envelope,
    /// Its content.
    pub data: &'a MailData,
    /// The recipients reported on. Whoever calls has asked [`wants`].
    pub recipients: &'a [Status],
    /// The notification's own id.
    pub id: MessageId,
    /// Now.
    pub now: Timestamp,
    /// `RET=FULL` returns at most this much of the mail; a larger one's header section is returned instead, cut at a field
    /// if that alone is larger.
    pub returned_bytes_max: usize,
}

/// Default for [`Report::returned_bytes_max`].
pub const RETURNED_BYTES_MAX: usize = 64 * 1024;

/// A notification, ready to be queued.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Its only recipient: the sender of the mail reported on.
    pub to: Mailbox,
    /// Its content.
    pub data: MailData,
    /// Its sender's side, with a null reverse-path.
    pub origin: MailOrigin,
}

/// Writes a notification. `None` where none may be sent: the reverse-path is null, the message is no mail, or there is
/// nobody to report on.
pub fn report(report: &Report<'_>) -> Option<Notification> {
    let mail = report.envelope.mail()?;
    let ReversePath::Mailbox(to) = &mail.reverse_path else { return None };
    if report.recipients.is_empty() {
        return None;
    }
    let confidential = mail.tls == TlsWish::Required;
    let words = human_part(report);
    let status = status_part(report, mail);
    let returned = Returned::of(report, mail);
    let eight_bit = !words.is_ascii() || !returned.bytes.is_ascii();

    let boundary = format!("=_report_{}", report.id);
    let mut out = header(report, to, &boundary, eight_bit).into_bytes();
    let header_bytes = out.len();
    push_part(&mut out, &boundary, "text/plain; charset=utf-8", "Notification", words.as_bytes());
    push_part(&mut out, &boundary, "message/delivery-status", "Delivery report", status.as_bytes());
    push_part(&mut out, &boundary, returned.content_type, returned.description, &returned.bytes);
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());

    let body_hash = BodyHash::of(&out[header_bytes..]);
    let origin = MailOrigin {
        reverse_path: ReversePath::Null,
        body: if eight_bit || to.needs_smtputf8() { BodyKind::EightBit } else { BodyKind::SevenBit },
        smtputf8: to.needs_smtputf8(),
        ret: None,
        envid: None,
        // RFC 8689 section 5: what was confidential stays so on its way back.
        tls: if confidential { TlsWish::Required } else { TlsWish::None },
        body_hash,
        header_bytes: u32::try_from(header_bytes).ok()?,
    };
    // All text went through `printable` or came out of a MailData, so this is never None.
    let data = MailData::new(Bytes::from(out)).ok()?;
    Some(Notification { to: to.clone(), data, origin })
}

/// The gravest action among the recipients.
fn gravest(report: &Report<'_>) -> Action {
    let has = |action| report.recipients.iter().any(|r| r.action == action);
    [Action::Failed, Action::Delayed].into_iter().find(|a| has(*a)).unwrap_or(Action::Relayed)
}

fn header(report: &Report<'_>, to: &Mailbox, boundary: &str, eight_bit: bool) -> String {
    let host = printable(report.reporting_mta);
    let subject = match gravest(report) {
        Action::Failed => "Undelivered mail returned to sender",
        Action::Delayed => "Mail is delayed, delivery will be tried again",
        Action::Relayed => "Mail was handed on",
    };
    let encoding = if eight_bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
    format!(
        "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n\
         To: <{to}>\r\n\
         Subject: {subject}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n\
         {encoding}\r\n",
        date = report.now.rfc5322(),
        id = report.id,
    )
}

fn push_part(out: &mut Vec<u8>, boundary: &str, content_type: &str, description: &str, content: &[u8]) {
    let encoding = if content.is_ascii() { "7bit" } else { "8bit" };
    out.extend_from_slice(
        format!(
            "--{boundary}\r\nContent-Description: {description}\r\nContent-Type: {content_type}\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(content);
    // This line end belongs to the boundary that follows (RFC 2046 section 5.1.1).
    out.extend_from_slice(b"\r\n");
}

/// The part for people.
fn human_part(report: &Report<'_>) -> String {
    let mut text = format!("This is the mail relay at {}.\r\n\r\n", printable(report.reporting_mta));
    text.push_str(match gravest(report) {
        Action::Failed => {
            "Your message could not be delivered to the recipients below, and no further\r\nattempt will be made for those that failed.\r\n"
        }
        Action::Delayed => {
            "Your message could not be delivered to the recipients below yet. There is\r\nnothing you need to do: delivery will be tried again.\r\n"
        }
        Action::Relayed => {
            "Your message was handed on for the recipients below. The system that took it\r\nmay not confirm its delivery.\r\n"
        }
    });
    for status in report.recipients {
        let Some(recipient) = recipient(report, status) else { continue };
        let said = match (&status.remote, &status.reply, &status.cause) {
            (Some(host), Some(reply), _) => format!("host {host} said: {reply}"),
            (None, Some(reply), _) => format!("the next host said: {reply}"),
            (_, None, Some(cause)) => cause.clone(),
            (_, None, None) => format!("status {}", status.status),
        };
        let line = format!("<{}> {}: {}", recipient.address, status.action.as_str(), printable(&said));
        text.push_str("\r\n");
        fold_into(&mut text, &line, "    ");
    }
    text
}

fn recipient<'a>(report: &Report<'a>, status: &Status) -> Option<&'a Recipient> {
    report.envelope.recipients.get(usize::try_from(status.recipient).ok()?)
}

/// The part for programs (RFC 3464 section 2).
fn status_part(report: &Report<'_>, mail: &MailOrigin) -> String {
    let mut text = String::new();
    push_field(&mut text, "Reporting-MTA", &format!("dns; {}", report.reporting_mta));
    if let Some(envid) = &mail.envid {
        push_field(&mut text, "Original-Envelope-Id", &decode_xtext(envid));
    }
    push_field(&mut text, "Arrival-Date", &report.envelope.received_at.rfc5322());
    for status in report.recipients {
        let Some(recipient) = recipient(report, status) else { continue };
        text.push_str("\r\n");
        if let Some(original) = &recipient.original {
            let address = ascii_address(&decode_xtext(&original.xtext));
            push_field(&mut text, "Original-Recipient", &format!("{};{address}", original.kind));
        }
        let address = recipient.address.to_string();
        // RFC 6533 section 3: an address in UTF-8 has a type, and a spelling in ASCII, of its own.
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        push_field(&mut text, "Final-Recipient", &format!("{kind};{}", ascii_address(&address)));
        push_field(&mut text, "Action", status.action.as_str());
        push_field(&mut text, "Status", &status.status.to_string());
        if let Some(remote) = &status.remote {
            push_field(&mut text, "Remote-MTA", &format!("dns; {remote}"));
        }
        match (&status.reply, &status.cause) {
            (Some(reply), _) => push_field(&mut text, "Diagnostic-Code", &format!("smtp; {reply}")),
            (None, Some(cause)) => push_field(&mut text, "Diagnostic-Code", &format!("x-postrider; {cause}")),
            (None, None) => {}
        }
        if let Some(time) = status.last_attempt {
            push_field(&mut text, "Last-Attempt-Date", &time.rfc5322());
        }
        if let (Action::Delayed, Some(time)) = (status.action, status.will_retry_until) {
            push_field(&mut text, "Will-Retry-Until", &time.rfc5322());
        }
    }
    text
}

/// Appends a field of the delivery-status part, in printable ASCII.
fn push_field(text: &mut String, name: &str, value: &str) {
    let mut line = String::with_capacity(name.len() + value.len() + 2);
    let _ = write!(line, "{name}: {}", printable(value));
    let ascii: String = line.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    fold_into(text, &ascii, " ");
}

/// The part that returns the mail, or its header section.
struct Returned {
    content_type: &'static str,
    description: &'static str,
    bytes: Vec<u8>,
}

impl Returned {
    fn of(report: &Report<'_>, mail: &MailOrigin) -> Self {
        let mut bytes = Vec::new();
        // RFC 3461 section 4.3: RET=FULL holds for notifications of failure only; RFC 8689 section 5: never with REQUIRETLS.
        let full = mail.ret == Some(Ret::Full)
            && gravest(report) == Action::Failed
            && mail.tls != TlsWish::Required
            && report.data.len() <= report.returned_bytes_max;
        if full {
            push_lines(&mut bytes, report.data.bytes(), "");
            return Self { content_type: "message/rfc822", description: "Undelivered message", bytes };
        }
        for field in fields(header_section(report.data, mail.header_bytes)) {
            if bytes.len() + field.raw().len() > report.returned_bytes_max {
                break;
            }
            push_lines(&mut bytes, field.raw(), " ");
        }
        Self { content_type: "text/rfc822-headers", description: "Header section of the message", bytes }
    }
}

#[cfg(test)]
mod tests;
