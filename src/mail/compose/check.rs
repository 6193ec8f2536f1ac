//! What a client may not put into a header.

use super::ComposeError;
use crate::mail::header::is_ftext;

/// Longest name of a field; with its value's first word it must fit on a line.
const FIELD_NAME_BYTES_MAX: usize = 76;

/// Longest value taken.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Fields that are made from other parts of the request, or that only relays, receivers and signers may write.
const NOT_FOR_CLIENTS: [&str; 24] = [
    "apparently-to",
    "authentication-results",
    "bcc",
    "cc",
    "date",
    "delivered-to",
    "dkim-signature",
    "domainkey-signature",
    "errors-to",
    "from",
    "message-id",
    "mime-version",
    "original-recipient",
    "received",
    "received-spf",
    "reply-to",
    "return-path",
    "return-receipt-to",
    "sender",
    "subject",
    "to",
    "x-envelope-from",
    "x-envelope-to",
    "x-original-to",
];

/// The same, for whole families.
const NOT_FOR_CLIENTS_PREFIXES: [&str; 4] = ["arc-", "content-", "resent-", "x-postrider-"];

/// Text for a header field: no control characters but the tab, not too long.
pub(super) fn check_text(place: &str, text: &str) -> Result<(), ComposeError> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(ComposeError::new(place, "it holds a line break or another control character"));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(ComposeError::new(place, "it is longer than 8 KiB"));
    }
    Ok(())
}

/// The name of a client's own field.
pub(super) fn check_field_name(place: &str, name: &str) -> Result<(), ComposeError> {
    if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || !name.bytes().all(is_ftext) {
        return Err(ComposeError::new(
            place,
            "bad field name: expected 1 to 76 printable ASCII characters and no colon",
        ));
    }
    let name = name.to_ascii_lowercase();
    if name.starts_with("x-postrider-") {
        return Err(ComposeError::new(place, "X-Postrider-* is for SMTP: use class, campaign, tags and send_at"));
    }
    let reserved = NOT_FOR_CLIENTS.contains(&name.as_str())
        || NOT_FOR_CLIENTS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if reserved {
        return Err(ComposeError::new(place, "this field may not be set here"));
    }
    Ok(())
}

/// A media type, with or without parameters (RFC 2045 section 5.1).
pub(super) fn check_content_type(place: &str, text: &str) -> Result<(), ComposeError> {
    let bad = |why| Err(ComposeError::new(place, why));
    check_text(place, text)?;
    let (kind, parameters) = text.split_once(';').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let Some((major, minor)) = kind.trim().split_once('/') else {
        return bad("expected a media type such as application/pdf");
    };
    if !is_token(major) || !is_token(minor) {
        return bad("expected a media type such as application/pdf");
    }
    if major.eq_ignore_ascii_case("multipart") || major.eq_ignore_ascii_case("message") {
        // RFC 2046 sections 5.1 and 5.2.1: these may not be encoded in base64.
        return bad("multipart and message types cannot be attached: use application/octet-stream");
    }
    let parameter = |text: &str| {
        text.trim().split_once('=').is_some_and(|(name, value)| {
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            let plain = |v: &str| v.chars().all(|c| matches!(c, ' '..='~') && !"\"\\".contains(c));
            is_token(name) && (is_token(value) || quoted.is_some_and(plain))
        })
    };
    if text.len() > 200 || !parameters.is_none_or(|p| p.split(';').all(parameter)) {
        return bad("bad parameters: expected name=value, at most 200 octets in all");
    }
    Ok(())
}

/// RFC 2045 section 5.1.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_checked() {
        for fine in ["List-Unsubscribe", "X-Mailer", "In-Reply-To", "References", "Feedback-ID", "Precedence"] {
            assert_eq!(check_field_name("h", fine), Ok(()), "{fine}");
        }
        for bad in [
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "ä",
            "FROM",
            "to",
            "Bcc",
            "content-type",
            "Content-X",
            "Mime-Version",
            "received",
            "DKIM-Signature",
            "ARC-Seal",
            "Resent-Bcc",
            "Return-Path",
            "x-postrider-class",
            "Message-Id",
            "Sender",
        ] {
            assert!(check_field_name("h", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn media_types_are_checked() {
        for fine in [
            "application/pdf",
            "text/plain; charset=utf-8",
            "text/csv;charset=\"utf 8\"; header=present",
            "image/svg+xml",
        ] {
            assert_eq!(check_content_type("t", fine), Ok(()), "{fine}");
        }
        for bad in [
            "",
            "pdf",
            "/",
            "a/b/c",
            "text/plain; charset",
            "text/plain;",
            "text/plain; a=\"b\"c\"",
            "text/plain\r\nX: y",
            "multipart/mixed",
            "Message/RFC822",
            "text/plain; a=b c",
        ] {
            assert!(check_content_type("t", bad).is_err(), "{bad}");
        }
    }
}
