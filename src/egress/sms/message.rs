//! From a consignment to the `submit_sm` of its parts. Pure.

use std::time::Duration;

use bytes::Bytes;

use super::{Options, Validity};
use crate::clock::Timestamp;
use crate::model::Consignment;
use crate::model::{Address, Content, Number, SenderId, SmsText, TextProgress};
use crate::sms;
use crate::wire::smpp::{self, COctets, FieldError, ShortMessage, esm_class};

/// Longest validity asked for; carriers keep no text longer.
const VALIDITY_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A text taken apart, ready to be submitted.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where its parts stand.
    pub(super) progress: TextProgress,
    /// The octets of each part.
    pub(super) parts: Vec<Bytes>,
    /// After this nothing of it is sent.
    pub(super) expires_at: Option<Timestamp>,
    head: ShortMessage,
    validity: Validity,
}

impl Taken {
    /// Takes a consignment apart.
    ///
    /// # Errors
    /// In words for operators, what makes it no text for this carrier.
    pub(super) fn apart(options: &Options, consignment: &Consignment) -> Result<Self, String> {
        let (text, number) = text_of(consignment).ok_or("the consignment is not one text to one number")?;
        let progress = consignment.progress.clone().ok_or("the text's parts were not planned")?;
        if progress.carrier != options.name {
            return Err(format!("the text's parts belong to carrier {}", progress.carrier));
        }
        let made = sms::parts(text, progress.reference);
        if made.parts.len() != progress.parts.len() {
            let (planned, needed) = (progress.parts.len(), made.parts.len());
            return Err(format!("the text was planned as {planned} parts and needs {needed}"));
        }
        let from = consignment.envelope.text().and_then(|text| text.from.as_ref()).or(options.source.as_ref());
        let head = head(options, from, number, &made).map_err(|e| e.to_string())?;
        let expires_at = consignment.envelope.expires_at;
        Ok(Self { progress, parts: made.parts, expires_at, head, validity: options.validity })
    }

    /// The `submit_sm` of one part, sent at `now`.
    pub(super) fn message(&self, part: usize, now: Timestamp) -> ShortMessage {
        let mut message = self.head.clone();
        message.short_message = self.parts[part].clone();
        if let Some(expires_at) = self.expires_at {
            message.validity_period = validity_period(self.validity, now, expires_at);
        }
        message
    }

    /// True if the time to send it is over.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

fn text_of(consignment: &Consignment) -> Option<(&SmsText, &Number)> {
    let &[recipient] = consignment.recipients.as_slice() else { return None };
    let recipient = consignment.envelope.recipients.get(usize::try_from(recipient).ok()?)?;
    match (&consignment.content, &recipient.address) {
        (Content::Text(text), Address::Number(number)) => Some((text, number)),
        _ => None,
    }
}

fn head(
    options: &Options,
    from: Option<&SenderId>,
    to: &Number,
    made: &sms::Parts,
) -> Result<ShortMessage, FieldError> {
    let address = |ton, npi, text| Ok(smpp::Address { ton, npi, address: COctets::new("address", text)? });
    let source = match from {
        Some(SenderId::International(number)) => address(1, 1, number.digits())?,
        Some(SenderId::Short(digits)) => address(options.short_ton, options.short_npi, digits)?,
        Some(SenderId::Name(name)) => address(5, 0, name)?,
        None => smpp::Address::default(),
    };
    Ok(ShortMessage {
        source,
        destination: address(1, 1, to.digits())?,
        esm_class: if made.udhi { esm_class::UDHI } else { 0 },
        registered_delivery: 1,
        data_coding: made.data_coding,
        ..ShortMessage::default()
    })
}

/// P34 section 7.1.1: `YYMMDDhhmmss000R` is a span, `YYMMDDhhmmss000+` a time in UTC. Rounded down: a code must not be
/// shown after it has expired.
fn validity_period(form: Validity, now: Timestamp, expires_at: Timestamp) -> COctets<17> {
    let text = match form {
        Validity::Omitted => String::new(),
        Validity::Relative => {
            let seconds = expires_at.since(now).min(VALIDITY_MAX).as_secs().max(1);
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
            format!("0000{days:02}{hours:02}{minutes:02}{:02}000R", seconds % 60)
        }
        Validity::Absolute => {
            let at = expires_at.min(now.plus(VALIDITY_MAX)).rfc3339();
            let digits: String = at.chars().skip(2).take(17).filter(char::is_ascii_digit).collect();
            format!("{digits}000+")
        }
    };
    COctets::new("validity_period", &text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_never_reaches_past_the_expiry() {
        let now = Timestamp::parse_rfc3339("2026-11-23T06:24:00Z").unwrap();
        let shown = |form, span| validity_period(form, now, now.plus(span)).to_string();
        let relative = |span| shown(Validity::Relative, span);
        assert_eq!(relative(Duration::from_secs(300)), "000000000500000R");
        assert_eq!(relative(Duration::from_millis(90_999)), "000000000130000R");
        assert_eq!(relative(Duration::from_secs(3 * 86_400 + 3_661)), "000003010101000R");
        assert_eq!(relative(Duration::from_secs(400 * 86_400)), "000030000000000R");
        assert_eq!(relative(Duration::from_millis(10)), "000000000001000R");
        assert_eq!(shown(Validity::Absolute, Duration::from_secs(300)), "261123062900000+");
        assert_eq!(shown(Validity::Omitted, Duration::from_secs(300)), "");
    }
}
