//! The JSON of the API: what comes in and what goes out, with its schemas.
//!
//! Every field of a request is optional to serde, so that each can be tried alone (`json`); which ones are required is
//! checked where they are used, and the schema says so. Requests have no `Debug`: a text may be a verification code.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::limits;
use crate::mail::compose::{ATTACHMENTS_MAX, HEADERS_MAX};

/// Texts to send, each a message of its own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "expected a JSON object")]
pub(super) struct BatchRequest {
    /// The texts.
    #[schema(required = true, value_type = Vec<SmsRequest>, min_items = 1, max_items = 1000)]
    pub(super) messages: Option<Bounded<SmsRequest, BATCH_MAX>>,
}

/// Texts of one batch.
pub(super) const BATCH_MAX: usize = 1_000;

/// What came of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchReply {
    /// How many were accepted.
    pub(super) accepted: usize,
    /// How many were not.
    pub(super) refused: usize,
    /// What came of each, in their order.
    pub(super) messages: Vec<BatchEntry>,
}

/// What came of a text: one of the two.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchEntry {
    /// It was accepted.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<AcceptedReply>,
    /// It was not, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<ProblemBody>,
}

/// A text to send.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "expected a JSON object")]
pub(super) struct SmsRequest {
    /// The number, international.
    #[schema(required = true, value_type = String, example = "+8613800138000")]
    pub(super) to: Option<String>,
    /// The words; or `template`.
    #[schema(example = "Your parcel is on its way.")]
    pub(super) text: Option<String>,
    /// Who signs; put in front as 【signature】 unless the text begins with just that.
    #[schema(example = "Shop")]
    pub(super) signature: Option<String>,
    /// Priority and rules; `transactional` if not given.
    #[schema(value_type = Option<ClassWord>)]
    pub(super) class: Option<String>,
    /// The sender shown: a number, a short code or a name; the carrier's default if not given.
    pub(super) from: Option<String>,
    /// Not to be sent before this time (RFC 3339); a time that has passed is now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) send_at: Option<String>,
    /// Write it with look-alikes (`"` for `“`, `c` for `ç`) if all of it then fits the GSM 7-bit alphabet; the client's
    /// setting if not given.
    pub(super) transliterate: Option<bool>,
    /// Seconds from now after which the text is not sent any more.
    #[schema(minimum = 1, maximum = 259200)]
    pub(super) ttl_s: Option<u64>,
    /// The campaign's word.
    #[schema(max_length = 128)]
    pub(super) campaign: Option<String>,
    /// Words to find it by.
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    pub(super) tags: Option<Bounded<String, { limits::TAGS_MAX }>>,
    /// Your own reference.
    #[schema(max_length = 128)]
    pub(super) client_ref: Option<String>,
    /// The id of a template that is registered for the client, instead of `text`.
    #[schema(example = "code")]
    pub(super) template: Option<String>,
    /// The template's variables.
    pub(super) variables: Option<BTreeMap<String, String>>,
}

/// A mail to compose and send. Addresses are written `lin@example.com` or `Lin <lin@example.com>`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "expected a JSON object")]
pub(super) struct EmailRequest<'a> {
    /// The author; also where bounces go.
    #[schema(required = true, value_type = String, example = "Shop <hello@shop.example.com>")]
    pub(super) from: Option<String>,
    /// Recipients shown.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) to: Option<Addresses>,
    /// Recipients shown as copies.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) cc: Option<Addresses>,
    /// Recipients not shown.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) bcc: Option<Addresses>,
    /// Where answers go.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) reply_to: Option<Addresses>,
    /// The subject.
    #[schema(required = true, value_type = String)]
    pub(super) subject: Option<String>,
    /// The plain text; it, `html` or both.
    pub(super) text: Option<String>,
    /// The HTML.
    pub(super) html: Option<String>,
    /// Further header fields.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub(super) headers: Option<HeaderFields>,
    /// Files.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<Attachment>>, max_items = 100)]
    pub(super) attachments: Option<Bounded<Attachment<'a>, ATTACHMENTS_MAX>>,
    /// Priority and rules; `transactional` if not given.
    #[schema(value_type = Option<ClassWord>)]
    pub(super) class: Option<String>,
    /// The campaign's word.
    #[schema(max_length = 128)]
    pub(super) campaign: Option<String>,
    /// Words to find it by.
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    pub(super) tags: Option<Bounded<String, { limits::TAGS_MAX }>>,
    /// Not to be sent before this time (RFC 3339); a time that has passed is now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) send_at: Option<String>,
    /// After this time (RFC 3339) it is not sent any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) expires_at: Option<String>,
    /// Only over hosts that prove who they are and promise the same (REQUIRETLS, RFC 8689); it fails where that cannot be.
    pub(super) require_tls: Option<bool>,
    /// Your own reference.
    #[schema(max_length = 128)]
    pub(super) client_ref: Option<String>,
    /// Not supported yet.
    #[schema(ignore)]
    pub(super) template: Option<IgnoredAny>,
    /// Not supported yet.
    #[schema(ignore)]
    pub(super) variables: Option<IgnoredAny>,
}

/// A file in a mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "expected an object with filename, content_type and content")]
pub(super) struct Attachment<'a> {
    /// Its name.
    #[schema(example = "invoice.pdf")]
    pub(super) filename: String,
    /// Its media type.
    #[schema(example = "application/pdf")]
    pub(super) content_type: String,
    /// Its bytes in base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    pub(super) content: Cow<'a, str>,
    /// The name by which the HTML refers to it (`cid:`); it is then shown inline.
    #[serde(default)]
    pub(super) content_id: Option<String>,
}

/// A class.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum ClassWord {
    /// Verification codes.
    Otp,
    /// Order and parcel notices.
    Transactional,
    /// Campaigns.
    Marketing,
}

/// The answer to an accepted message.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedReply {
    /// The message's id, for `GET /v1/messages/{id}`.
    pub(super) id: String,
    /// `accepted`, or `scheduled` when it is for later.
    pub(super) status: &'static str,
    /// Parts of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parts: Option<usize>,
    /// True if a text is written with look-alikes; left out if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub(super) transliterated: bool,
}

/// How a text would travel.
#[derive(Serialize, ToSchema)]
pub(super) struct PreviewReply {
    /// The words as they would travel, signature included.
    pub(super) text: String,
    /// True if they are written with look-alikes.
    pub(super) transliterated: bool,
    /// `gsm7`, with the name of a language behind it where its tables are used (`gsm7-turkish`), or `ucs2` where a character stands outside the GSM 7-bit alphabet.
    #[schema(example = "gsm7")]
    pub(super) encoding: &'static str,
    /// Parts it would be sent as.
    pub(super) parts: usize,
    /// Units of all its parts: septets in `gsm7`, UTF-16 code units in `ucs2`.
    pub(super) units: usize,
    /// Units that each of these parts holds: 160 or 70 if there is one, 153 or 67 if there are several.
    pub(super) capacity: usize,
    /// Units that the last part could still take.
    pub(super) units_left: usize,
    /// The first 10 characters outside the GSM 7-bit alphabet.
    pub(super) outside_gsm7: Vec<Outsider>,
    /// How many of them there are in all.
    pub(super) outside_gsm7_count: usize,
    /// What all its parts would cost, where `to` says to whom and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) price: Option<PreviewPrice>,
}

/// What a text would cost.
#[derive(Serialize, ToSchema)]
pub(super) struct PreviewPrice {
    /// For all its parts.
    #[schema(example = "0.07")]
    pub(super) amount: String,
    /// The relay's word for the currency.
    #[schema(example = "CNY")]
    pub(super) currency: String,
    /// The carrier that would get it first.
    #[schema(example = "cmcc-1")]
    pub(super) carrier: String,
}

/// A character that forces `ucs2`.
#[derive(Serialize, ToSchema)]
pub(super) struct Outsider {
    /// Where it stands in `text`, counted in characters (Unicode code points) from 0.
    pub(super) position: usize,
    /// The character.
    #[schema(value_type = String)]
    pub(super) character: char,
    /// Its code point.
    #[schema(example = "U+201C")]
    pub(super) code_point: String,
    /// What `transliterate` would write for it, if it knows anything; empty for a character that nobody sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) look_alike: Option<&'static str>,
}

/// Why a request was refused (RFC 9457).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// What kind of problem: a URI that stays.
    #[serde(rename = "type")]
    #[schema(example = "urn:postrider:problem:invalid-fields")]
    pub(super) kind: String,
    /// The kind in words.
    pub(super) title: String,
    /// The HTTP status.
    pub(super) status: u16,
    /// What is wrong with this request.
    pub(super) detail: String,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<FieldFault>,
    /// The rule that forbids it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
}

/// A wrong field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(super) struct FieldFault {
    /// Its name, with the position in a list: `to[1]`.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) detail: String,
}

/// A list that cannot grow without end.
#[derive(Serialize)]
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor::<T, MAX>(PhantomData)).map(Self)
    }
}

/// One address or a list of them.
pub(super) struct Addresses(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressesVisitor).map(Self)
    }
}

/// Header fields in the order in which they were given.
pub(super) struct HeaderFields(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for HeaderFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderFieldsVisitor).map(Self)
    }
}

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = list.next_element()? {
            if all.len() == MAX {
                return Err(serde::de::Error::invalid_length(MAX + 1, &self));
            }
            all.push(entry);
        }
        Ok(all)
    }
}

struct AddressesVisitor;

impl<'de> Visitor<'de> for AddressesVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an address or a list of at most {} addresses", limits::RECIPIENTS_MAX)
    }

    fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
        Ok(vec![one.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
        ListVisitor::<String, { limits::RECIPIENTS_MAX }>(PhantomData).visit_seq(list)
    }
}

struct HeaderFieldsVisitor;

impl<'de> Visitor<'de> for HeaderFieldsVisitor {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {HEADERS_MAX} names with strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = map.next_entry()? {
            if all.len() == HEADERS_MAX {
                return Err(serde::de::Error::invalid_length(HEADERS_MAX + 1, &self));
            }
            all.push(field);
        }
        Ok(all)
    }
}
