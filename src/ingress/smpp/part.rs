//! From a `submit_sm` to a text, or to a part of one, in the engine's words; and back to the status that says why not.
//!
//! **Promises.** No octets of a peer's panic. What is not understood is refused by name, never guessed: a text that arrived as
//! something else than was meant is worse than one that was refused.
//!
//! **Does not know** who submits, nor what rules a text must fit.
//!
//! **Fails how.** [`Rejected`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::clock::Timestamp;
use crate::model::{Class, ClientName, MessageId, Number, SenderId};
use crate::sms::{self, Alphabet, Concatenation};
use crate::storage::joining;
use crate::wire::smpp::{Address, CommandStatus, ShortMessage, esm_class, tlv};

/// Longest part of a long text: a short message's octets.
const PART_OCTETS_MAX: usize = 255;
/// TON of an international number, and of a name (P34 section 5.2.5).
const INTERNATIONAL: u8 = 1;
const ALPHANUMERIC: u8 = 5;
/// `service_type` must have so many characters to name a class.
const SERVICE_TYPE_MIN: usize = 3;

/// A submission that is not taken: what the client is told, what it is counted under, and why, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rejected {
    pub(super) status: CommandStatus,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Rejected {
    pub(super) fn new(status: CommandStatus, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { status, reason, detail: detail.into() }
    }

    fn field(status: CommandStatus, detail: impl Into<String>) -> Self {
        Self::new(status, "invalid-fields", detail)
    }
}

/// An address as the client wrote it: receipts and replies use it so.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Party {
    pub(super) ton: u8,
    pub(super) npi: u8,
    pub(super) address: Arc<str>,
}

impl Party {
    fn of(address: &Address) -> Self {
        Self { ton: address.ton, npi: address.npi, address: address.address.to_string().into() }
    }
}

/// When a receipt is wanted (P34 section 5.2.17).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) success: bool,
    pub(super) failure: bool,
}

impl Wish {
    /// By `registered_delivery`; 3 is success only, as SMPP 5.0 has it.
    fn of(registered_delivery: u8) -> Self {
        let bits = registered_delivery & 3;
        Self { success: matches!(bits, 1 | 3), failure: matches!(bits, 1 | 2) }
    }

    pub(super) fn any(self) -> bool {
        self.success || self.failure
    }
}

/// One `submit_sm`: a text, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The id that its sender gets for it.
    pub(super) id: MessageId,
    pub(super) client: ClientName,
    pub(super) source: Party,
    pub(super) destination: Party,
    pub(super) to: Number,
    pub(super) from: Option<SenderId>,
    pub(super) class: Class,
    pub(super) alphabet: Alphabet,
    pub(super) place: Option<Concatenation>,
    pub(super) octets: Bytes,
    pub(super) wish: Wish,
    pub(super) send_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) received_at: Timestamp,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The words may be a verification code.
        let Self { id, client, alphabet, place, octets, .. } = self;
        write!(f, "Part({id} of {client}, {alphabet:?}, {place:?}, {} octets)", octets.len())
    }
}

impl Part {
    /// Reads what a client submits; `class` is that of its texts that do not say theirs.
    pub(super) fn read(
        message: &ShortMessage,
        client: &ClientName,
        class: Class,
        options: &Options,
        now: Timestamp,
    ) -> Result<Self, Rejected> {
        check_features(message)?;
        let to = destination(&message.destination)?;
        let from = sender(&message.source)?;
        let class = class_of(&message.service_type.to_string(), class)?;
        let alphabet = alphabet(message.data_coding, options.default_alphabet)?;
        let (place, octets) = content(message)?;
        let until = |text: String, most| time(&text, now).filter(|at| at.is_none_or(|at| at <= now.plus(most)));
        let send_at = until(message.schedule_delivery_time.to_string(), options.send_at_max)
            .ok_or_else(|| Rejected::field(CommandStatus::INVALID_SCHEDULE, "schedule_delivery_time"))?
            .filter(|at| *at > now);
        let expires_at = until(message.validity_period.to_string(), options.expires_max)
            .ok_or_else(|| Rejected::field(CommandStatus::INVALID_EXPIRY, "validity_period"))?;
        if expires_at.is_some_and(|end| end <= send_at.unwrap_or(now)) {
            return Err(Rejected::field(
                CommandStatus::INVALID_EXPIRY,
                "validity_period ends before the text may leave",
            ));
        }
        Ok(Self {
            id: MessageId::new(now),
            client: client.clone(),
            source: Party::of(&message.source),
            destination: Party::of(&message.destination),
            to,
            from,
            class,
            alphabet,
            place,
            octets,
            wish: Wish::of(message.registered_delivery),
            send_at,
            expires_at,
            received_at: now,
        })
    }
}

/// What this message centre does not do.
fn check_features(message: &ShortMessage) -> Result<(), Rejected> {
    let class = message.esm_class;
    // Datagrams and transactions are answered only by what we do not do; types are for messages from handsets.
    if !matches!(class & 3, 0 | 3) || class & esm_class::TYPE != 0 {
        return Err(Rejected::field(CommandStatus::INVALID_ESM_CLASS, format!("esm_class {class:#04x}")));
    }
    if message.protocol_id != 0 {
        return Err(Rejected::field(CommandStatus::SUBMIT_FAILED, format!("protocol_id {:#04x}", message.protocol_id)));
    }
    if message.replace_if_present != 0 {
        return Err(Rejected::field(CommandStatus::INVALID_REPLACE_FLAG, "replace_if_present_flag"));
    }
    if message.sm_default_msg_id != 0 {
        return Err(Rejected::field(CommandStatus::INVALID_DEFAULT_MESSAGE, "sm_default_msg_id"));
    }
    Ok(())
}

/// An international number, with or without its `+`.
fn destination(address: &Address) -> Result<Number, Rejected> {
    let bad = |why: &str| Rejected::field(CommandStatus::INVALID_DESTINATION, format!("destination_addr: {why}"));
    if !matches!(address.ton, 0 | INTERNATIONAL) {
        return Err(bad("expected TON 1 (international)"));
    }
    let written = address.address.to_string();
    let digits = written.strip_prefix('+').unwrap_or(&written);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("expected digits with the country code"));
    }
    Number::parse(&format!("+{digits}")).map_err(|_| bad("expected 7 to 15 digits with the country code"))
}

fn sender(address: &Address) -> Result<Option<SenderId>, Rejected> {
    let written = address.address.to_string();
    if written.is_empty() {
        return Ok(None);
    }
    let sender = match address.ton {
        INTERNATIONAL if !written.starts_with('+') => SenderId::parse(&format!("+{written}")),
        _ => SenderId::parse(&written),
    };
    let fits = |sender: &SenderId| address.ton != ALPHANUMERIC || !matches!(sender, SenderId::International(_));
    let sender = sender.ok().filter(fits);
    sender.map(Some).ok_or_else(|| Rejected::field(CommandStatus::INVALID_SOURCE, "source_addr: no number and no name"))
}

/// `service_type` holds five characters at most, so the beginning of a class's word names it.
fn class_of(service_type: &str, default: Class) -> Result<Class, Rejected> {
    let written = service_type.trim().to_ascii_lowercase();
    // P34 section 5.2.11: nothing, and cellular messaging, are the default.
    if matches!(&*written, "" | "cmt") {
        return Ok(default);
    }
    let named = Class::ALL.into_iter().find(|c| written.len() >= SERVICE_TYPE_MIN && c.as_str().starts_with(&written));
    named.ok_or_else(|| {
        let detail = "service_type: expected otp, trans or marke, or nothing";
        Rejected::field(CommandStatus::INVALID_SERVICE_TYPE, detail)
    })
}

/// P34 section 5.2.19. Message classes (0xF0 and up) would change how a handset shows a text, which nothing here could carry on.
fn alphabet(data_coding: u8, default: Alphabet) -> Result<Alphabet, Rejected> {
    Ok(match data_coding {
        0 => default,
        1 => Alphabet::Ascii,
        3 => Alphabet::Latin1,
        8 => Alphabet::Ucs2,
        other => return Err(Rejected::field(CommandStatus::SUBMIT_FAILED, format!("data_coding {other:#04x}"))),
    })
}

/// The octets of the words, and their place among others.
fn content(message: &ShortMessage) -> Result<(Option<Concatenation>, Bytes), Rejected> {
    if !message.short_message.is_empty() && message.tlv(tlv::MESSAGE_PAYLOAD).is_some() {
        let detail = "short_message and message_payload";
        return Err(Rejected::field(CommandStatus::PARAMETER_NOT_ALLOWED, detail));
    }
    let octets = Bytes::copy_from_slice(message.octets());
    let (place, octets) = if message.esm_class & esm_class::UDHI != 0 {
        let header = sms::is_only_concatenation(&octets).then(|| sms::split_header(&octets)).flatten();
        let (place, content) = header.ok_or_else(|| {
            Rejected::field(CommandStatus::INVALID_ESM_CLASS, "a user data header with more than concatenation")
        })?;
        (place, octets.slice_ref(content))
    } else {
        (segmentation(message)?, octets)
    };
    let place = place.filter(|place| place.total > 1);
    if octets.is_empty() || (place.is_some() && octets.len() > PART_OCTETS_MAX) {
        return Err(Rejected::field(CommandStatus::INVALID_MESSAGE_LENGTH, format!("{} octets", octets.len())));
    }
    Ok((place, octets))
}

/// The place that SAR parameters name (P34 section 5.3.2.22).
fn segmentation(message: &ShortMessage) -> Result<Option<Concatenation>, Rejected> {
    let values = [tlv::SAR_MSG_REF_NUM, tlv::SAR_TOTAL_SEGMENTS, tlv::SAR_SEGMENT_SEQNUM].map(|tag| message.tlv(tag));
    match values {
        [None, None, None] => Ok(None),
        [Some(reference), Some(&[total]), Some(&[number])] if (1..=total).contains(&number) => {
            let &[high, low] = reference else {
                return Err(Rejected::field(CommandStatus::INVALID_PARAMETER, "sar_msg_ref_num"));
            };
            Ok(Some(Concatenation { reference: u16::from_be_bytes([high, low]), total, number }))
        }
        [Some(_), Some(_), Some(_)] => Err(Rejected::field(CommandStatus::INVALID_PARAMETER, "sar parameters")),
        _ => Err(Rejected::field(CommandStatus::MISSING_PARAMETER, "some of the three sar parameters")),
    }
}

/// A time as P34 section 7.1.1 has it, absolute `YYMMDDhhmmsstnn[+-]` or relative `YYMMDDhhmmss000R`; `Some(None)` for none.
fn time(text: &str, now: Timestamp) -> Option<Option<Timestamp>> {
    if text.is_empty() {
        return Some(None);
    }
    let (digits, sign) = text.split_at_checked(15)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let field = |at: usize| digits.get(at..at + 2).and_then(|pair| pair.parse::<u64>().ok());
    if sign == "R" {
        let [years, months, days] = [field(0)?, field(2)?, field(4)?];
        let [hours, minutes, seconds] = [field(6)?, field(8)?, field(10)?];
        let days = years * 365 + months * 30 + days;
        return Some(Some(now.plus(Duration::from_secs(days * 86_400 + hours * 3_600 + minutes * 60 + seconds))));
    }
    // nn quarters of an hour.
    let quarters = digits.get(13..15)?.parse::<u64>().ok().filter(|q| *q <= 48)?;
    let (hours, minutes) = (quarters / 4, quarters % 4 * 15);
    if !matches!(sign, "+" | "-") {
        return None;
    }
    let [year, month, day, hour, minute, second] = [0, 2, 4, 6, 8, 10].map(|at| &digits[at..at + 2]);
    let written = format!("20{year}-{month}-{day}T{hour}:{minute}:{second}{sign}{hours:02}:{minutes:02}");
    Timestamp::parse_rfc3339(&written).map(Some)
}

/// From whom to whom: parts of one text agree in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Who {
    client: ClientName,
    source: Party,
    destination: Party,
}

/// What the journal says of a part.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    id: String,
    class: Class,
    alphabet: String,
    /// Hexadecimal.
    octets: String,
    wish: Wish,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    send_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_at: Option<String>,
    received_at: String,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl joining::Part for Part {
    type Who = Who;
    type Line = Line;

    fn who(&self) -> Who {
        let (source, destination) = (self.source.clone(), self.destination.clone());
        Who { client: self.client.clone(), source, destination }
    }

    fn place(&self) -> Option<Concatenation> {
        self.place
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    fn line(&self) -> Line {
        Line {
            id: self.id.to_string(),
            class: self.class,
            alphabet: self.alphabet.name(),
            octets: sms::hex(&self.octets),
            wish: self.wish,
            send_at: self.send_at.map(Timestamp::rfc3339),
            expires_at: self.expires_at.map(Timestamp::rfc3339),
            received_at: self.received_at.rfc3339(),
        }
    }

    fn read(who: Who, place: Concatenation, line: Line) -> Option<Self> {
        let Who { client, source, destination } = who;
        let wire = |party: &Party| {
            let address = crate::wire::smpp::COctets::new("address", &party.address).ok()?;
            Some(Address { ton: party.ton, npi: party.npi, address })
        };
        let at = |text: Option<String>| text.map(|text| Timestamp::parse_rfc3339(&text));
        Some(Self {
            id: line.id.parse().ok()?,
            to: self::destination(&wire(&destination)?).ok()?,
            from: sender(&wire(&source)?).ok()?,
            client,
            source,
            destination,
            class: line.class,
            alphabet: Alphabet::named(&line.alphabet)?,
            place: Some(place),
            octets: sms::octets(&line.octets)?.into(),
            wish: line.wish,
            send_at: at(line.send_at).unwrap_or(None),
            expires_at: at(line.expires_at).unwrap_or(None),
            received_at: Timestamp::parse_rfc3339(&line.received_at)?,
        })
    }
}

/// The words of a whole text.
pub(super) fn words(parts: &[Part]) -> Result<String, Rejected> {
    let bad = |why: String| Rejected::field(CommandStatus::SUBMIT_FAILED, why);
    let Some(first) = parts.first() else { return Err(bad("no part".to_owned())) };
    if parts.iter().all(|part| part.alphabet == first.alphabet) {
        // Together: a character may be cut in two.
        let octets: Vec<u8> = parts.iter().flat_map(|part| part.octets.iter().copied()).collect();
        return first.alphabet.words(&octets).map_err(bad);
    }
    parts.iter().map(|part| part.alphabet.words(&part.octets)).collect::<Result<_, _>>().map_err(bad)
}

#[cfg(test)]
mod tests;
