//! A mail out of its parts, as the HTTP API takes them.
//!
//! **Promises.** What comes out is well-formed MIME with CRLF line endings and lines of at most 998 octets, whatever went
//! in; text is encoded where it must be, attachments arrive byte for byte. No value can begin a field of its own: control
//! characters are refused, with the name of the field at fault. There is no Bcc: blind recipients stand in the envelope.
//! Message-ID, Date and Received are left to [`prepare`](super::prepare()).
//!
//! **Does not know** JSON, templates, or who may send as whom.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::headers::{Header, HeaderType};
use mail_builder::mime::{BodyPart, MimePart};

use crate::limits::DATA_LINE_BYTES_MAX;
use crate::model::{MailData, Mailbox, MessageId};

mod check;

use check::{check_content_type, check_field_name, check_text};

/// A mail's parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The author: display name and mailbox.
    pub from: (Option<String>, Mailbox),
    /// To.
    pub to: Vec<(Option<String>, Mailbox)>,
    /// Cc.
    pub cc: Vec<(Option<String>, Mailbox)>,
    /// Reply-To.
    pub reply_to: Vec<(Option<String>, Mailbox)>,
    /// Subject.
    pub subject: String,
    /// The body as plain text.
    pub text: Option<String>,
    /// The body as HTML; with `text`, an alternative to it.
    pub html: Option<String>,
    /// More header fields, name and value.
    pub headers: Vec<(String, String)>,
    /// Attachments.
    pub attachments: Vec<Attachment>,
}

/// A file that goes with a mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// Its name.
    pub filename: String,
    /// Its media type, such as `application/pdf`.
    pub content_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Set for an image that the HTML shows as `cid:…`: its id, without angle brackets.
    pub content_id: Option<String>,
}

/// Most header fields of a client's own.
pub const HEADERS_MAX: usize = 100;

/// Most attachments.
pub const ATTACHMENTS_MAX: usize = 100;

/// What part of a mail cannot be sent, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComposeError {
    /// Its place, as the API names it: `subject`, `to[2].name`, `headers[0]`, `attachments[1].filename`.
    pub field: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl ComposeError {
    fn new(field: impl Into<String>, why: &'static str) -> Self {
        Self { field: field.into(), why }
    }
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for ComposeError {}

/// Writes the mail. Its boundaries are made of `id`.
///
/// # Errors
/// [`ComposeError`].
pub fn compose(message: &Message, id: MessageId) -> Result<MailData, ComposeError> {
    let mut out = Vec::with_capacity(estimate(message));
    write_header(message, &mut out)?;
    out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    body_of(message, id)?.write_part(&mut out);
    MailData::new(Bytes::from(out)).map_err(|_| ComposeError::new("body", "it cannot be encoded"))
}

fn estimate(message: &Message) -> usize {
    let text = message.text.as_ref().map_or(0, String::len) + message.html.as_ref().map_or(0, String::len);
    let files: usize = message.attachments.iter().map(|a| a.content.len()).sum();
    2_048 + text / 2 * 3 + files / 2 * 3
}

fn write_header(message: &Message, out: &mut Vec<u8>) -> Result<(), ComposeError> {
    push_addresses(out, "From", "from", std::slice::from_ref(&message.from))?;
    push_addresses(out, "To", "to", &message.to)?;
    push_addresses(out, "Cc", "cc", &message.cc)?;
    push_addresses(out, "Reply-To", "reply_to", &message.reply_to)?;
    check_text("subject", &message.subject)?;
    push_field(out, "Subject", "subject", &Text::new(message.subject.as_str()))?;
    if message.headers.len() > HEADERS_MAX {
        return Err(ComposeError::new("headers", "more than 100"));
    }
    for (i, (name, value)) in message.headers.iter().enumerate() {
        let place = format!("headers[{i}]");
        check_field_name(&place, name)?;
        check_text(&place, value)?;
        let value = value.trim();
        // Unencoded as long as that is possible: List-Unsubscribe and its kin are no free text.
        let value: HeaderType<'_> = if value.is_ascii() { Raw::new(value).into() } else { Text::new(value).into() };
        push_field(out, name, &place, &value)?;
    }
    Ok(())
}

fn push_addresses(
    out: &mut Vec<u8>,
    name: &str,
    place: &str,
    list: &[(Option<String>, Mailbox)],
) -> Result<(), ComposeError> {
    if list.is_empty() {
        return Ok(());
    }
    let mut addresses = Vec::with_capacity(list.len());
    for (i, (display, mailbox)) in list.iter().enumerate() {
        let display = display.as_deref().map(str::trim).filter(|d| !d.is_empty());
        if let Some(display) = display {
            let place = if place == "from" { "from.name".to_owned() } else { format!("{place}[{i}].name") };
            check_text(&place, display)?;
        }
        addresses.push(Address::new_address(display, mailbox.to_string()));
    }
    push_field(out, name, place, &Address::new_list(addresses))
}

/// Writes one field and sees to it that no line of it is too long.
fn push_field(out: &mut Vec<u8>, name: &str, place: &str, value: &impl Header) -> Result<(), ComposeError> {
    let start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    value.write_header(out, name.len() + 2);
    if out[start..].split(|b| *b == b'\n').any(|line| line.len() > DATA_LINE_BYTES_MAX + 1) {
        return Err(ComposeError::new(place, "a word of it is longer than a line of mail may be (998 octets)"));
    }
    Ok(())
}

/// The MIME structure: alternatives innermost, then what the HTML refers to, then what is attached (RFC 2046, RFC 2387).
fn body_of(message: &Message, id: MessageId) -> Result<MimePart<'_>, ComposeError> {
    let mut boundaries = 0;
    let mut multipart = |kind: &'static str, parts: Vec<MimePart<'static>>| {
        boundaries += 1;
        MimePart::new(ContentType::new(kind).attribute("boundary", format!("=_part_{boundaries}_{id}")), parts)
    };
    let text = message.text.as_deref().map(|t| text_part("text", "text/plain", t)).transpose()?;
    let html = message.html.as_deref().map(|t| text_part("html", "text/html", t)).transpose()?;
    let (inline, attached) = attachments(message)?;

    let html = match (html, inline.is_empty()) {
        (Some(html), false) => Some(multipart("multipart/related", [vec![html], inline].concat())),
        (html, _) => html,
    };
    let body = match (text, html) {
        (Some(text), Some(html)) => Some(multipart("multipart/alternative", vec![text, html])),
        (text, html) => text.or(html),
    };
    Ok(match (body, attached.is_empty()) {
        (Some(body), true) => body,
        (None, true) => text_part("text", "text/plain", "")?,
        (body, false) => multipart("multipart/mixed", body.into_iter().chain(attached).collect()),
    })
}

fn text_part(place: &str, kind: &'static str, text: &str) -> Result<MimePart<'static>, ComposeError> {
    if text.contains('\0') {
        return Err(ComposeError::new(place, "it holds a NUL character"));
    }
    Ok(MimePart::new(kind, BodyPart::Text(with_crlf(text).into())))
}

/// The text with every line ended by CRLF, however it was ended before.
fn with_crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push_str("\r\n");
            }
            '\n' => out.push_str("\r\n"),
            c => out.push(c),
        }
    }
    out
}

/// Parts for what the HTML refers to, and for the other files. Without HTML every file is of the other kind.
#[allow(clippy::type_complexity, reason = "two lists of one kind")]
fn attachments(message: &Message) -> Result<(Vec<MimePart<'static>>, Vec<MimePart<'static>>), ComposeError> {
    if message.attachments.len() > ATTACHMENTS_MAX {
        return Err(ComposeError::new("attachments", "more than 100"));
    }
    let (mut inline, mut attached) = (Vec::new(), Vec::new());
    for (i, attachment) in message.attachments.iter().enumerate() {
        let place = format!("attachments[{i}]");
        check_text(&format!("{place}.filename"), &attachment.filename)?;
        check_content_type(&format!("{place}.content_type"), &attachment.content_type)?;
        let disposition = |kind: &'static str| {
            let disposition = ContentType::new(kind);
            if attachment.filename.is_empty() {
                return disposition;
            }
            disposition.attribute("filename", attachment.filename.clone())
        };
        // The library would take text apart into lines; base64 keeps every byte.
        let part = MimePart::new(attachment.content_type.trim().to_owned(), base64_lines(&attachment.content))
            .transfer_encoding("base64");
        match &attachment.content_id {
            Some(content_id) => {
                let place = format!("{place}.content_id");
                check_text(&place, content_id)?;
                if content_id.is_empty() || content_id.bytes().any(|b| !b.is_ascii_graphic() || b"<>\"\\".contains(&b))
                {
                    return Err(ComposeError::new(
                        place,
                        "expected a word without white space, quotes and angle brackets",
                    ));
                }
                let part = part.header("Content-Disposition", disposition("inline")).cid(content_id.clone());
                if message.html.is_some() { inline.push(part) } else { attached.push(part) }
            }
            None => attached.push(part.header("Content-Disposition", disposition("attachment"))),
        }
    }
    Ok((inline, attached))
}

/// RFC 2045 section 6.8: lines of 76 characters.
fn base64_lines(content: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(content.len() / 57 * 78 + 80);
    for line in content.chunks(57) {
        STANDARD.encode_string(line, &mut out);
        out.push_str("\r\n");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests;
