//! What only SMPP knows of, in an account's settings.

use std::sync::Arc;

use bytes::Bytes;

use super::super::registered::{FITS_NONE, Registered};
use super::{Logins, OptionsError};
use crate::model::{Secret, SmsText};
use crate::sms::{Repertoire, signature_and_rest};
use crate::wire::FieldError;
use crate::wire::smpp::{Bind, COctets, Tlv, Version};

/// What only SMPP knows of.
#[derive(Clone, Debug)]
pub struct Smpp {
    /// What kind of system we are, at most 12 octets; mostly empty.
    pub system_type: String,
    /// Type of number of short codes and access numbers: 0 unknown (default), 3 network specific, 6 abbreviated.
    pub short_ton: u8,
    /// Numbering plan of these: 1 E.164 (default), 0 unknown.
    pub short_npi: u8,
    /// 3.4 or 5.0.
    pub version: Version,
    /// What texts may be written in; tables of languages only with [`LongTexts::Udh`], since headers name them.
    pub repertoire: Repertoire,
    /// How a text that is too long for one part travels.
    pub long_texts: LongTexts,
    /// How the carrier is told until when a text may be delivered.
    pub validity: Validity,
    /// What its binds are for.
    pub logins: Logins,
    /// Optional parameters that go with each part.
    pub extras: Vec<Extra>,
    /// Texts registered with the carrier, for [`Filling::TemplateId`].
    pub templates: Vec<Registered>,
}

/// An optional parameter that a carrier wants beside each part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extra {
    /// Its tag.
    pub tag: u16,
    /// What it holds.
    pub filling: Filling,
    /// A NUL stands behind that.
    pub terminated: bool,
}

/// What such a parameter holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filling {
    /// Always these octets.
    Fixed(Bytes),
    /// The id of the registered text that it is; a text that is none is not sent.
    TemplateId,
}

impl Default for Smpp {
    fn default() -> Self {
        Self {
            system_type: String::new(),
            short_ton: 0,
            short_npi: 1,
            version: Version::V34,
            repertoire: Repertoire::default(),
            long_texts: LongTexts::Udh,
            validity: Validity::Relative,
            logins: Logins::Both,
            extras: Vec::new(),
            templates: Vec::new(),
        }
    }
}

/// How a text travels that is too long for one part. The limits of the alphabets are the same each way: where we write no header, the
/// carrier does, and it takes the same room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LongTexts {
    /// In parts, each with a user data header (3GPP TS 23.040 section 9.2.3.24.1): what every carrier takes.
    #[default]
    Udh,
    /// In parts whose places stand in `sar_msg_ref_num`, `sar_total_segments` and `sar_segment_seqnum` (P34 sections 5.3.2.22 to 24).
    Sar,
    /// As one message, in `message_payload` (P34 section 5.3.2.32), which the carrier cuts: one id, one receipt.
    Payload,
}

/// The form of `validity_period` (P34 section 7.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validity {
    /// A span from now, which needs no common clock.
    #[default]
    Relative,
    /// A time in UTC.
    Absolute,
    /// Not sent: the carrier's default holds, and a code may arrive late.
    Omitted,
}

impl Smpp {
    /// What the carrier calls the registered text that this is; `None` where it is not told.
    ///
    /// # Errors
    /// The text is none of them.
    pub(in crate::egress::sms) fn template_of(&self, text: &SmsText) -> Result<Option<Arc<str>>, &'static str> {
        if !self.extras.iter().any(|extra| extra.filling == Filling::TemplateId) {
            return Ok(None);
        }
        let (signature, body) = signature_and_rest(text.as_str());
        let found = Registered::of(&self.templates, signature, body);
        found.map(|(registered, _)| Some(Arc::clone(&registered.id))).ok_or(FITS_NONE)
    }

    /// The parameters of a part of the registered text of that id.
    pub(in crate::egress::sms) fn extras_of(&self, template: Option<&str>) -> impl Iterator<Item = Tlv> {
        self.extras.iter().map(move |extra| {
            let mut value = match &extra.filling {
                Filling::Fixed(octets) => octets.to_vec(),
                Filling::TemplateId => template.unwrap_or_default().as_bytes().to_vec(),
            };
            value.extend(extra.terminated.then_some(0));
            Tlv::new(extra.tag, value)
        })
    }

    /// What is said in a bind request.
    pub(in crate::egress::sms) fn bind(&self, system_id: &str, password: &Secret) -> Result<Bind, OptionsError> {
        if self.long_texts != LongTexts::Udh && !self.repertoire.languages.is_empty() {
            return Err(OptionsError { option: "languages", expected: "none, or headers in long texts" });
        }
        let too_long = |e: FieldError| OptionsError {
            option: e.field,
            expected: "fewer octets (15 in system_id, 64 in password, 12 in system_type) and no NUL",
        };
        Ok(Bind {
            system_id: COctets::new("system_id", system_id).map_err(too_long)?,
            password: COctets::new("password", password.expose()).map_err(too_long)?,
            system_type: COctets::new("system_type", &self.system_type).map_err(too_long)?,
            interface_version: self.version.octet(),
            ..Bind::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::Template;

    #[test]
    fn a_text_that_is_none_of_those_registered_is_not_sent_where_the_carrier_wants_to_be_told() {
        let registered = |text: &str, id: &str, signature: Option<&str>| Registered {
            template: Template::loose(text).unwrap(),
            id: id.into(),
            signature: signature.map(Into::into),
        };
        let templates = vec![registered("码{code}", "1", Some("小店")), registered("code {code}", "2", None)];
        let extra = |filling, terminated| Extra { tag: 0x1400, filling, terminated };
        let extras = vec![extra(Filling::Fixed(Bytes::from_static(b"a")), true), extra(Filling::TemplateId, false)];
        let told = Smpp { templates, extras, ..Smpp::default() };
        let of = |account: &Smpp, text: &str| account.template_of(&SmsText::new(text).unwrap());
        assert_eq!(of(&told, "【小店】码7").unwrap().as_deref(), Some("1"));
        assert_eq!(of(&told, "code 7").unwrap().as_deref(), Some("2"));
        assert_eq!((of(&told, "【大店】码7"), of(&told, "Win a car")), (Err(FITS_NONE), Err(FITS_NONE)));
        assert_eq!(of(&Smpp { extras: Vec::new(), ..told.clone() }, "Win a car"), Ok(None));
        let values: Vec<_> = told.extras_of(Some("2")).map(|tlv| tlv.value).collect();
        assert_eq!(values, [&b"a\0"[..], b"2"]);
    }
}
