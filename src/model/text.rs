//! Texts: content, senders, parts and receipts.

use std::fmt;
use std::sync::Arc;

use super::Number;
use crate::clock::Timestamp;

/// Characters of the longest text taken; some thirty parts of UCS-2.
const TEXT_CHARS_MAX: usize = 2_000;

/// The words of a text, not empty, without NUL, at most 2,000 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct SmsText(Arc<str>);

impl SmsText {
    /// Checks and wraps.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("text is empty");
        }
        if text.contains('\0') {
            return Err("text holds a NUL character");
        }
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err("text is longer than 2,000 characters");
        }
        Ok(Self(text.into()))
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SmsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a verification code; they have no business in a log.
        write!(f, "SmsText({} bytes)", self.0.len())
    }
}

/// The sender a text shows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SenderId {
    /// An international number.
    International(Number),
    /// A short code or a carrier's access number: 3 to 20 digits.
    Short(Arc<str>),
    /// A name of 1 to 11 characters (3GPP TS 23.040 section 9.1.2.5).
    Name(Arc<str>),
}

impl SenderId {
    /// Parses `+8613800138000`, `10690001` or `Postrider`.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        if text.starts_with('+') {
            Number::parse(text).map(Self::International).map_err(|_| "bad sender number: expected + and 7 to 15 digits")
        } else if digits && (3..=20).contains(&text.len()) {
            Ok(Self::Short(text.into()))
        } else if !digits
            && (1..=11).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_.&".contains(&b))
        {
            Ok(Self::Name(text.into()))
        } else {
            Err(
                "bad sender: expected an international number, a short code of 3 to 20 digits or a name of at most 11 characters",
            )
        }
    }
}

impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::International(n) => n.fmt(f),
            Self::Short(s) | Self::Name(s) => f.write_str(s),
        }
    }
}

/// The id a carrier gave a part in its answer, as received (at most 64 octets in SMPP 3.4).
pub type CarrierMessageId = Arc<str>;

/// How far a text has come: which carrier has it and what became of each part. All parts go by one carrier; where that one
/// brought no receipt, or a bad one, the text may have gone to another as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextProgress {
    /// The carrier's configured name; it stands once in a chain.
    pub carrier: Arc<str>,
    /// The concatenation reference, one for all parts.
    pub reference: u8,
    /// One entry per part, in order.
    pub parts: Vec<PartState>,
    /// How many parts it is on the air, where its carrier cuts what it was given whole; else it says nothing.
    pub cut_by_carrier: u32,
    /// An answer was lost, and what it was about may leave once more: not a third time.
    pub doubted: bool,
    /// What another carrier took before, of which a receipt may still come.
    pub before: Option<Box<TextProgress>>,
}

/// Carriers that one text may have gone to.
pub const CARRIERS_MAX: usize = 8;

impl TextProgress {
    /// So many parts that have not left.
    pub fn new(carrier: Arc<str>, reference: u8, parts: usize) -> Self {
        let parts = vec![PartState::Waiting; parts];
        Self { carrier, reference, parts, cut_by_carrier: 0, doubted: false, before: None }
    }

    /// How many parts are counted and paid for.
    pub fn counted(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(self.cut_by_carrier)
    }

    /// It at each carrier, the latest first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |progress| progress.before.as_deref())
    }

    /// It at this carrier.
    pub fn at_mut(&mut self, carrier: &str) -> Option<&mut Self> {
        if *self.carrier == *carrier { Some(self) } else { self.before.as_deref_mut()?.at_mut(carrier) }
    }

    /// True while a part has not left. A text that is to be tried and of which none waits is to go to another carrier.
    pub fn has_waiting(&self) -> bool {
        self.parts.contains(&PartState::Waiting)
    }

    /// Of parts that may have left without an answer, none is known to have: they wait again.
    pub fn wait_again(&mut self) {
        self.parts.iter_mut().filter(|p| **p == PartState::Unanswered).for_each(|p| *p = PartState::Waiting);
    }

    /// Nothing more of it leaves by this carrier.
    pub fn give_up(&mut self) {
        self.parts.iter_mut().filter(|p| **p == PartState::Waiting).for_each(|p| *p = PartState::Refused);
    }

    /// True if a carrier has taken all of it and nothing bad is known of that.
    pub fn may_arrive(&self) -> bool {
        let taken = |part: &PartState| matches!(part, PartState::Sent(_) | PartState::Received(..));
        self.chain().any(|at| at.parts.iter().all(taken) && at.verdict() != Some(Verdict::Lost))
    }

    /// What the receipts of all parts say together: one lost part spoils the text. `None` while one is missing.
    pub fn verdict(&self) -> Option<Verdict> {
        let mut verdict = Verdict::Arrived;
        for part in &self.parts {
            match part {
                PartState::Received(_, ReceiptState::Delivered) => {}
                PartState::Received(_, state) if state.is_final() => verdict = Verdict::Lost,
                _ => return None,
            }
        }
        Some(verdict)
    }
}

/// What a carrier's receipts come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All parts arrived.
    Arrived,
    /// One did not.
    Lost,
}

/// One part of a text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PartState {
    /// Not sent, or refused for now.
    #[default]
    Waiting,
    /// Sent; the answer was never seen (the link broke or the process died).
    Unanswered,
    /// The carrier took it under this id.
    Sent(CarrierMessageId),
    /// The carrier refused it for good.
    Refused,
    /// Its receipt has come.
    Received(CarrierMessageId, ReceiptState),
}

/// What a carrier says of a part it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The carrier's configured name.
    pub carrier: Arc<str>,
    /// The id it gave in its answer, as the receipt writes it; forms differ (hex, decimal, leading zeros).
    pub carrier_message_id: CarrierMessageId,
    /// What became of it.
    pub state: ReceiptState,
    /// The carrier's own words (stat and err), for the event.
    pub text: String,
    /// When we heard.
    pub received_at: Timestamp,
}

/// A receipt's verdict (SMPP 3.4 section 5.2.28 and appendix B).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiptState {
    /// On its way; not a verdict yet (ENROUTE, ACCEPTD).
    Underway,
    /// On the handset.
    Delivered,
    /// Its validity period ran out.
    Expired,
    /// Cannot be delivered (UNDELIV, DELETED).
    Undeliverable,
    /// Refused by the network.
    Rejected,
    /// The carrier does not know.
    Unknown,
}

impl ReceiptState {
    /// True once nothing further is expected.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Underway)
    }

    /// The word used in events and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Underway => "underway",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Undeliverable => "undeliverable",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}
