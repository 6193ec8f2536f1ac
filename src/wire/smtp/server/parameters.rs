//! The parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), REQUIRETLS (RFC 8689), RET, ENVID,
//! NOTIFY and ORCPT (RFC 3461), AUTH (RFC 4954 section 5).
//!
//! **Promises.** Each at most once; values are checked before they are kept, xtext included, since they go out again.

use std::sync::Arc;

use super::command::{CommandFault, MailCommand, RcptCommand};
use crate::model::{Address, BodyKind, Mailbox, Notify, OriginalRecipient, Recipient, Ret, ReversePath};

/// Longest ENVID (RFC 3461 section 4.4).
const ENVID_BYTES_MAX: usize = 100;
/// Longest ORCPT (RFC 3461 section 4.2).
const ORCPT_BYTES_MAX: usize = 500;

pub(super) fn mail(reverse_path: ReversePath, rest: &str) -> Result<MailCommand, CommandFault> {
    let (mut size, mut body, mut utf8, mut require_tls) = (None, None, None, None);
    let (mut ret, mut envid, mut auth) = (None, None, None);
    for (keyword, value) in words(rest) {
        match () {
            () if is(keyword, "SIZE") => once("SIZE", &mut size, value.and_then(number))?,
            () if is(keyword, "BODY") => once("BODY", &mut body, value.and_then(body_kind))?,
            () if is(keyword, "SMTPUTF8") => once("SMTPUTF8", &mut utf8, value.is_none().then_some(()))?,
            () if is(keyword, "REQUIRETLS") => once("REQUIRETLS", &mut require_tls, value.is_none().then_some(()))?,
            () if is(keyword, "RET") => once("RET", &mut ret, value.and_then(returned))?,
            () if is(keyword, "ENVID") => once("ENVID", &mut envid, value.and_then(envelope_id))?,
            // RFC 4954 section 5: the claim is not passed on, so it only has to be well-formed.
            () if is(keyword, "AUTH") => once("AUTH", &mut auth, value.and_then(submitter))?,
            () => return Err(unknown(keyword)),
        }
    }
    let body = body.unwrap_or_default();
    Ok(MailCommand {
        reverse_path,
        size,
        body,
        smtputf8: utf8.is_some(),
        require_tls: require_tls.is_some(),
        ret,
        envid,
    })
}

pub(super) fn rcpt(mailbox: Mailbox, rest: &str) -> Result<RcptCommand, CommandFault> {
    let (mut notify, mut original) = (None, None);
    for (keyword, value) in words(rest) {
        match () {
            () if is(keyword, "NOTIFY") => once("NOTIFY", &mut notify, value.and_then(notifications))?,
            () if is(keyword, "ORCPT") => once("ORCPT", &mut original, value.and_then(original_recipient))?,
            () => return Err(unknown(keyword)),
        }
    }
    let recipient = Recipient { address: Address::Mailbox(mailbox.clone()), notify, original };
    Ok(RcptCommand { mailbox, recipient })
}

/// Digits and nothing else; no sign, which `parse` would take.
pub(super) fn number(text: &str) -> Option<u64> {
    (1..=20).contains(&text.len()).then_some(())?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn words(rest: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    rest.split(' ').filter(|w| !w.is_empty()).map(|w| match w.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (w, None),
    })
}

fn is(keyword: &str, name: &str) -> bool {
    keyword.eq_ignore_ascii_case(name)
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: Option<T>) -> Result<(), CommandFault> {
    match (slot.is_none(), value) {
        (true, Some(value)) => {
            *slot = Some(value);
            Ok(())
        }
        _ => Err(CommandFault::BadParameter(name)),
    }
}

fn unknown(keyword: &str) -> CommandFault {
    CommandFault::UnknownParameter(keyword.chars().take(32).collect())
}

fn body_kind(value: &str) -> Option<BodyKind> {
    match () {
        () if is(value, "7BIT") => Some(BodyKind::SevenBit),
        () if is(value, "8BITMIME") => Some(BodyKind::EightBit),
        () => None,
    }
}

fn returned(value: &str) -> Option<Ret> {
    match () {
        () if is(value, "FULL") => Some(Ret::Full),
        () if is(value, "HDRS") => Some(Ret::Headers),
        () => None,
    }
}

fn envelope_id(value: &str) -> Option<Arc<str>> {
    (value.len() <= ENVID_BYTES_MAX && is_xtext(value)).then(|| value.into())
}

fn submitter(value: &str) -> Option<()> {
    (value == "<>" || is_xtext(value) && !value.contains(['<', '>'])).then_some(())
}

fn notifications(value: &str) -> Option<Notify> {
    if is(value, "NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::default();
    for word in value.split(',') {
        let wish = match () {
            () if is(word, "SUCCESS") => &mut notify.success,
            () if is(word, "FAILURE") => &mut notify.failure,
            () if is(word, "DELAY") => &mut notify.delay,
            () => return None,
        };
        if std::mem::replace(wish, true) {
            return None;
        }
    }
    Some(notify)
}

fn original_recipient(value: &str) -> Option<OriginalRecipient> {
    let (kind, xtext) = value.split_once(';')?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~.".contains(&b);
    // RFC 6533 section 3: the utf-8 type may hold characters as they are.
    let well_formed = if is(kind, "utf-8") { is_wide_xtext(xtext) } else { is_xtext(xtext) };
    let fits = value.len() <= ORCPT_BYTES_MAX && !kind.is_empty() && kind.bytes().all(atom);
    (fits && well_formed).then(|| OriginalRecipient { kind: kind.into(), xtext: xtext.into() })
}

/// RFC 3461 section 4: `!` to `~` without `+` and `=`, or `+` and two upper-case hexadecimal digits; here never empty.
fn is_xtext(text: &str) -> bool {
    text.is_ascii() && is_wide_xtext(text)
}

fn is_wide_xtext(text: &str) -> bool {
    let hex = |c: Option<char>| c.is_some_and(|c| matches!(c, '0'..='9' | 'A'..='F'));
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let fine = match c {
            '+' => hex(rest.next()) && hex(rest.next()),
            '=' => false,
            '!'..='~' => true,
            c => !c.is_ascii() && !c.is_control() && !c.is_whitespace(),
        };
        if !fine {
            return false;
        }
    }
    !text.is_empty()
}
