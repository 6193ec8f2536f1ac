//! A text that a client submits over a link, or a part of one, in the engine's words; and what the journal keeps of a part.
//!
//! **Promises.** A line of the journal reads back as the part that it was made of.
//!
//! **Does not know** PDUs: `smpp` and `cmpp` read them.
//!
//! **Fails how.** [`Rejected`]: on what ground, which each protocol has a number for, a reason for the metrics, and words for the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{Class, ClientName, MessageId, Number, SenderId};
use crate::sms::{self, Alphabet, Concatenation};
use crate::storage::joining;

/// Why a submission is not taken, as far as every protocol can say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ingress) enum Ground {
    /// To whom it goes.
    Destination,
    /// What it shows as its sender.
    Source,
    /// It is too long, or empty.
    Length,
    /// A rule is against it, or what it says cannot be read.
    Refused,
    /// There is no room now.
    Full,
    /// It cannot be taken now.
    Unavailable,
    /// Its client is not there any more.
    Gone,
    /// A field that cannot be, by the protocol's own number.
    Field(u32),
}

impl Ground {
    /// True if the same may be taken later.
    pub(in crate::ingress) const fn is_temporary(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}

/// A submission that is not taken: what the client is told, what it is counted under, and why, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::ingress) struct Rejected {
    pub(in crate::ingress) ground: Ground,
    pub(in crate::ingress) reason: &'static str,
    pub(in crate::ingress) detail: String,
}

impl Rejected {
    pub(in crate::ingress) fn new(ground: Ground, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { ground, reason, detail: detail.into() }
    }

    /// A field is not as it has to be.
    pub(in crate::ingress) fn field(ground: Ground, detail: impl Into<String>) -> Self {
        Self::new(ground, "invalid-fields", detail)
    }
}

/// An address as the client wrote it: receipts and replies use it so.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(in crate::ingress) struct Party {
    pub(in crate::ingress) ton: u8,
    pub(in crate::ingress) npi: u8,
    pub(in crate::ingress) address: Arc<str>,
}

/// When a receipt is wanted .
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::ingress) struct Wish {
    pub(in crate::ingress) success: bool,
    pub(in crate::ingress) failure: bool,
}

impl Wish {
    pub(in crate::ingress) fn any(self) -> bool {
        self.success || self.failure
    }
}

/// One submission: a text, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::ingress) struct Part {
    /// The id that its sender gets for it.
    pub(in crate::ingress) id: MessageId,
    /// The number that a gateway of CMPP gives it instead.
    pub(in crate::ingress) msg_id: Option<u64>,
    pub(in crate::ingress) client: ClientName,
    pub(in crate::ingress) source: Party,
    pub(in crate::ingress) destination: Party,
    pub(in crate::ingress) to: Number,
    pub(in crate::ingress) from: Option<SenderId>,
    pub(in crate::ingress) class: Class,
    pub(in crate::ingress) alphabet: Alphabet,
    pub(in crate::ingress) place: Option<Concatenation>,
    pub(in crate::ingress) octets: Bytes,
    pub(in crate::ingress) wish: Wish,
    pub(in crate::ingress) send_at: Option<Timestamp>,
    pub(in crate::ingress) expires_at: Option<Timestamp>,
    pub(in crate::ingress) received_at: Timestamp,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The words may be a verification code.
        let Self { id, client, alphabet, place, octets, .. } = self;
        write!(f, "Part({id} of {client}, {alphabet:?}, {place:?}, {} octets)", octets.len())
    }
}

/// A time as P34 section 7.1.1 has it, and CMPP (C3 section 8.4.3.1), absolute `YYMMDDhhmmsstnn[+-]` or relative `YYMMDDhhmmss000R`; `Some(None)` for none.
pub(in crate::ingress) fn time(text: &str, now: Timestamp) -> Option<Option<Timestamp>> {
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
pub(in crate::ingress) struct Who {
    client: ClientName,
    source: Party,
    destination: Party,
}

/// What the journal says of a part.
#[derive(Serialize, Deserialize)]
pub(in crate::ingress) struct Line {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    msg_id: Option<u64>,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    from: Option<String>,
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
            msg_id: self.msg_id,
            to: self.to.to_string(),
            from: self.from.as_ref().map(ToString::to_string),
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
        let at = |text: Option<String>| text.map(|text| Timestamp::parse_rfc3339(&text));
        Some(Self {
            id: line.id.parse().ok()?,
            msg_id: line.msg_id,
            to: Number::parse(&line.to).ok()?,
            from: line.from.map(|from| SenderId::parse(&from)).transpose().ok()?,
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
pub(in crate::ingress) fn words(parts: &[Part]) -> Result<String, Rejected> {
    let bad = |why: String| Rejected::field(Ground::Refused, why);
    let Some(first) = parts.first() else { return Err(bad("no part".to_owned())) };
    if parts.iter().all(|part| part.alphabet == first.alphabet) {
        // Together: a character may be cut in two.
        let octets: Vec<u8> = parts.iter().flat_map(|part| part.octets.iter().copied()).collect();
        return first.alphabet.words(&octets).map_err(bad);
    }
    parts.iter().map(|part| part.alphabet.words(&part.octets)).collect::<Result<_, _>>().map_err(bad)
}
