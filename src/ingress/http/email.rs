//! `POST /v1/email` as JSON: fields to a mail that is to be composed.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::dto::{Addresses, Attachment, EmailRequest};
use super::intake::Intake;
use super::json;
use super::mail::{Draft, each_once};
use super::mailboxes::{self, Named};
use super::problem::{Faults, Problem};
use super::settings::RawSettings;
use crate::mail::compose;

/// Reads the request.
pub(super) fn read(intake: &Intake) -> Result<Draft, Problem> {
    let request: EmailRequest<'_> = json::read(&intake.body, |value| EmailRequest::deserialize(value).map(drop))?;
    let mut faults = Faults::default();
    for (field, given) in [("template", request.template.is_some()), ("variables", request.variables.is_some())] {
        if given {
            faults.add(field, "not yet supported");
        }
    }
    let raw = RawSettings {
        class: request.class,
        campaign: request.campaign,
        tags: request.tags.map(|t| t.0).unwrap_or_default(),
        client_ref: request.client_ref,
        send_at: request.send_at,
        expires_at: request.expires_at,
    };
    let settings = raw.check(&intake.options, intake.received_at, &mut faults);
    let from = required("from", request.from, &mut faults).and_then(|f| faults.take("from", mailboxes::one(&f)));
    let to = addresses("to", request.to, &mut faults);
    let cc = addresses("cc", request.cc, &mut faults);
    let bcc = addresses("bcc", request.bcc, &mut faults);
    let reply_to = addresses("reply_to", request.reply_to, &mut faults);
    let subject = required("subject", request.subject, &mut faults);
    if request.text.is_none() && request.html.is_none() {
        faults.add("text", "missing: expected text, html or both");
    }
    let attachments = attachments(request.attachments.map(|a| a.0).unwrap_or_default(), &mut faults);
    let recipients: Vec<_> = to.iter().chain(&cc).chain(&bcc).map(|(_, mailbox)| mailbox.clone()).collect();
    if recipients.is_empty() && faults.is_empty() {
        faults.add("to", "no recipient: expected at least one in to, cc or bcc");
    }
    let recipients = each_once(recipients, intake.options.recipients_max, &mut faults);
    let (Some(from), Some(subject), true) = (from, subject, faults.is_empty()) else {
        return Err(faults.into_problem());
    };
    let reverse_path = from.1.clone();
    let (text, html) = (request.text, request.html);
    let headers = request.headers.map(|h| h.0).unwrap_or_default();
    let message = compose::Message { from, to, cc, reply_to, subject, text, html, headers, attachments };
    let data = compose::compose(&message, intake.id)
        .map_err(|e| Problem::field(as_requested(e.field, &message.headers), e.why))?;
    Ok(Draft { reverse_path, recipients, require_tls: request.require_tls.unwrap_or_default(), settings, data })
}

/// The field as the request names it: the composer numbers header fields, the request names them.
fn as_requested(field: String, headers: &[(String, String)]) -> String {
    let number = field.strip_prefix("headers[").and_then(|f| f.strip_suffix(']')).and_then(|n| n.parse().ok());
    match number.and_then(|n: usize| headers.get(n)) {
        Some((name, _)) => format!("headers.{name}"),
        None => field,
    }
}

fn required(field: &str, value: Option<String>, faults: &mut Faults) -> Option<String> {
    if value.is_none() {
        faults.add(field, "missing");
    }
    value
}

fn addresses(field: &str, given: Option<Addresses>, faults: &mut Faults) -> Vec<Named> {
    let given = given.map(|a| a.0).unwrap_or_default();
    let one = |(i, text): (usize, String)| faults.take(&format!("{field}[{i}]"), mailboxes::one(&text));
    given.into_iter().enumerate().filter_map(one).collect()
}

fn attachments(given: Vec<Attachment<'_>>, faults: &mut Faults) -> Vec<compose::Attachment> {
    let one = |(i, attachment): (usize, Attachment<'_>)| {
        let content = BASE64.decode(attachment.content.as_bytes()).map_err(|_| "expected base64");
        let content = faults.take(&format!("attachments[{i}].content"), content)?;
        Some(compose::Attachment {
            filename: attachment.filename,
            content_type: attachment.content_type,
            content,
            content_id: attachment.content_id,
        })
    };
    given.into_iter().enumerate().filter_map(one).collect()
}

/// RFC 4648 section 4; the padding, which some encoders leave out, says nothing new.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
