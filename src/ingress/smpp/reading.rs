//! From a `submit_sm` or `data_sm` to a text, or to a part of one, in the engine's words; and back to the status that says why not.
//!
//! **Promises.** No octets of a peer's panic. What is not understood is refused by name, never guessed: a text that arrived as
//! something else than was meant is worse than one that was refused.
//!
//! **Does not know** who submits, nor what rules a text must fit.
//!
//! **Fails how.** [`Rejected`].

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::ingress::bound::{Ground, Options, Part, Party, Rejected, Wish, time};
use crate::model::{Class, ClientName, MessageId, Number, SenderId};
use crate::sms::{self, Alphabet, Concatenation};
use crate::wire::smpp::{Address, CommandStatus, ShortMessage, esm_class, tlv};

/// Longest part of a long text: a short message's octets.
const PART_OCTETS_MAX: usize = 255;
/// TON of an international number, and of a name (P34 section 5.2.5).
const INTERNATIONAL: u8 = 1;
const ALPHANUMERIC: u8 = 5;
/// `service_type` must have so many characters to name a class.
const SERVICE_TYPE_MIN: usize = 3;

/// What a client is told whose submission is not taken.
pub(super) fn status_of(ground: Ground) -> CommandStatus {
    match ground {
        Ground::Destination => CommandStatus::INVALID_DESTINATION,
        Ground::Source => CommandStatus::INVALID_SOURCE,
        Ground::Length => CommandStatus::INVALID_MESSAGE_LENGTH,
        Ground::Refused => CommandStatus::SUBMIT_FAILED,
        Ground::Full => CommandStatus::MESSAGE_QUEUE_FULL,
        Ground::Unavailable => CommandStatus::SYSTEM_ERROR,
        Ground::Gone => CommandStatus::INVALID_BIND_STATUS,
        Ground::Field(status) => CommandStatus(status),
    }
}

fn bad(status: CommandStatus, detail: impl Into<String>) -> Rejected {
    Rejected::field(Ground::Field(status.0), detail)
}

fn party(address: &Address) -> Party {
    Party { ton: address.ton, npi: address.npi, address: address.address.to_string().into() }
}

/// By `registered_delivery` (P34 section 5.2.17); 3 is success only, as SMPP 5.0 has it.
fn wish(registered_delivery: u8) -> Wish {
    let bits = registered_delivery & 3;
    Wish { success: matches!(bits, 1 | 3), failure: matches!(bits, 1 | 2) }
}

/// Reads what a client submits; `class` is that of its texts that do not say theirs.
pub(super) fn read(
    message: &ShortMessage,
    client: &ClientName,
    class: Class,
    options: &Options,
    now: Timestamp,
) -> Result<Part, Rejected> {
    check_features(message)?;
    let to = destination(&message.destination)?;
    let from = sender(&message.source)?;
    let class = class_of(&message.service_type.to_string(), class)?;
    let alphabet = alphabet(message.data_coding, options.default_alphabet)?;
    let (place, octets) = content(message)?;
    let until = |text: String, most| time(&text, now).filter(|at| at.is_none_or(|at| at <= now.plus(most)));
    let send_at = until(message.schedule_delivery_time.to_string(), options.send_at_max)
        .ok_or_else(|| bad(CommandStatus::INVALID_SCHEDULE, "schedule_delivery_time"))?
        .filter(|at| *at > now);
    let expires_at = match time_to_live(message)? {
        Some(lives) if message.validity_period.is_empty() => {
            (lives <= options.expires_max).then(|| Some(now.plus(lives)))
        }
        _ => until(message.validity_period.to_string(), options.expires_max),
    };
    let expires_at = expires_at.ok_or_else(|| bad(CommandStatus::INVALID_EXPIRY, "validity_period"))?;
    if expires_at.is_some_and(|end| end <= send_at.unwrap_or(now)) {
        return Err(bad(CommandStatus::INVALID_EXPIRY, "validity_period ends before the text may leave"));
    }
    Ok(Part {
        id: MessageId::new(now),
        msg_id: None,
        client: client.clone(),
        source: party(&message.source),
        destination: party(&message.destination),
        to,
        from,
        class,
        alphabet,
        place,
        octets,
        wish: wish(message.registered_delivery),
        send_at,
        expires_at,
        received_at: now,
    })
}

/// `data_sm` has no `validity_period`; SMPP 5.0 lets `submit_sm` have this beside it (P34 section 5.3.2.9).
fn time_to_live(message: &ShortMessage) -> Result<Option<Duration>, Rejected> {
    let Some(value) = message.tlv(tlv::QOS_TIME_TO_LIVE) else { return Ok(None) };
    let seconds = value.try_into().map(u32::from_be_bytes);
    let lives = seconds.map(|seconds| Some(Duration::from_secs(u64::from(seconds))));
    lives.map_err(|_| bad(CommandStatus::INVALID_PARAMETER, "qos_time_to_live"))
}

/// What this message centre does not do.
fn check_features(message: &ShortMessage) -> Result<(), Rejected> {
    let class = message.esm_class;
    // Datagrams and transactions are answered only by what we do not do; types are for messages from handsets.
    if !matches!(class & 3, 0 | 3) || class & esm_class::TYPE != 0 {
        return Err(bad(CommandStatus::INVALID_ESM_CLASS, format!("esm_class {class:#04x}")));
    }
    if message.protocol_id != 0 {
        return Err(bad(CommandStatus::SUBMIT_FAILED, format!("protocol_id {:#04x}", message.protocol_id)));
    }
    if message.replace_if_present != 0 {
        return Err(bad(CommandStatus::INVALID_REPLACE_FLAG, "replace_if_present_flag"));
    }
    if message.sm_default_msg_id != 0 {
        return Err(bad(CommandStatus::INVALID_DEFAULT_MESSAGE, "sm_default_msg_id"));
    }
    Ok(())
}

/// An international number, with or without its `+`.
fn destination(address: &Address) -> Result<Number, Rejected> {
    let wrong = |why: &str| bad(CommandStatus::INVALID_DESTINATION, format!("destination_addr: {why}"));
    if !matches!(address.ton, 0 | INTERNATIONAL) {
        return Err(wrong("expected TON 1 (international)"));
    }
    let written = address.address.to_string();
    let digits = written.strip_prefix('+').unwrap_or(&written);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong("expected digits with the country code"));
    }
    Number::parse(&format!("+{digits}")).map_err(|_| wrong("expected 7 to 15 digits with the country code"))
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
    sender.map(Some).ok_or_else(|| bad(CommandStatus::INVALID_SOURCE, "source_addr: no number and no name"))
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
        bad(CommandStatus::INVALID_SERVICE_TYPE, detail)
    })
}

/// P34 section 5.2.19. Message classes (0xF0 and up) would change how a handset shows a text, which nothing here could carry on.
fn alphabet(data_coding: u8, default: Alphabet) -> Result<Alphabet, Rejected> {
    Ok(match data_coding {
        0 => default,
        1 => Alphabet::Ascii,
        3 => Alphabet::Latin1,
        8 => Alphabet::Ucs2,
        other => return Err(bad(CommandStatus::SUBMIT_FAILED, format!("data_coding {other:#04x}"))),
    })
}

/// The octets of the words, and their place among others.
fn content(message: &ShortMessage) -> Result<(Option<Concatenation>, Bytes), Rejected> {
    if !message.short_message.is_empty() && message.tlv(tlv::MESSAGE_PAYLOAD).is_some() {
        let detail = "short_message and message_payload";
        return Err(bad(CommandStatus::PARAMETER_NOT_ALLOWED, detail));
    }
    let octets = Bytes::copy_from_slice(message.octets());
    let (place, octets) = if message.esm_class & esm_class::UDHI != 0 {
        let header = sms::is_only_concatenation(&octets).then(|| sms::split_header(&octets)).flatten();
        let (place, content) = header
            .ok_or_else(|| bad(CommandStatus::INVALID_ESM_CLASS, "a user data header with more than concatenation"))?;
        (place, octets.slice_ref(content))
    } else {
        (segmentation(message)?, octets)
    };
    let place = place.filter(|place| place.total > 1);
    if octets.is_empty() || (place.is_some() && octets.len() > PART_OCTETS_MAX) {
        return Err(bad(CommandStatus::INVALID_MESSAGE_LENGTH, format!("{} octets", octets.len())));
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
                return Err(bad(CommandStatus::INVALID_PARAMETER, "sar_msg_ref_num"));
            };
            Ok(Some(Concatenation { reference: u16::from_be_bytes([high, low]), total, number }))
        }
        [Some(_), Some(_), Some(_)] => Err(bad(CommandStatus::INVALID_PARAMETER, "sar parameters")),
        _ => Err(bad(CommandStatus::MISSING_PARAMETER, "some of the three sar parameters")),
    }
}

#[cfg(test)]
mod tests;
