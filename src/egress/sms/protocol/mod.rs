//! What the engine wants of a protocol: how to log in, write a part, read an answer or a delivery, answer it, and part.
//!
//! **What.** [`Login`], [`Bound`] and [`Closing`] are the three states of a connection; each takes octets in and gives events
//! and octets out. `smpp`, `cmpp`, `smgp` and `sgip` put the protocols' own sessions behind them, and their words into those of the engine.
//!
//! **Promises.** The engine knows nothing of any protocol, and no protocol knows of windows of several binds, of
//! pace, receipts on their way to disk or reconnecting.

pub(super) mod cmpp;
mod cut;
pub(super) mod sgip;
pub(super) mod smgp;
pub(super) mod smpp;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::HandsetMessage;
use crate::clock::{Mono, Timestamp};
use crate::model::{EnhancedStatus, MessageId, Number, ReceiptState, SenderId, SmsText};
use crate::sms::{self, Alphabet, Concatenation, Shift};
use crate::wire::Meaning;
use crate::wire::framing::{Framed, Framer};
use crate::wire::gateway::{Octets, msg_fmt};

/// Longest validity asked for; carriers keep no text longer.
const VALIDITY_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A text's octets as a protocol carries them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// Their alphabet, in the protocol's numbers.
    pub(super) coding: u8,
    /// True if each part starts with a user data header.
    pub(super) udhi: bool,
    /// What the parts share where their places among each other stand beside the octets.
    pub(super) reference: Option<u8>,
    /// Parts that a handset gets of each of them: more than one where the carrier itself cuts what it is given whole.
    pub(super) on_air: usize,
    /// The octets of each part, header included, in order.
    pub(super) parts: Vec<Bytes>,
}

/// A text taken apart: what its parts share, and what they hold.
#[derive(Debug)]
pub(super) struct Text {
    /// What we call it.
    pub(super) id: MessageId,
    /// The words.
    pub(super) words: SmsText,
    /// From whom, if anybody says so.
    pub(super) from: Option<SenderId>,
    /// To whom.
    pub(super) to: Number,
    /// What the carrier calls the registered text that it is, where it wants to be told.
    pub(super) template: Option<Arc<str>>,
    /// The octets.
    pub(super) cut: Cut,
    /// After this nothing of it is sent.
    pub(super) expires_at: Option<Timestamp>,
}

/// One part of a text, on its way to a link.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The text.
    pub(super) text: Arc<Text>,
    /// Which of its parts, from 0.
    pub(super) index: usize,
    /// When it leaves, for its validity.
    pub(super) at: Timestamp,
}

impl Part {
    /// Its octets.
    fn octets(&self) -> Bytes {
        self.text.cut.parts.get(self.index).cloned().unwrap_or_default()
    }

    /// Until when it may be delivered, within what carriers take.
    fn valid_until(&self) -> Option<Timestamp> {
        self.text.expires_at.map(|at| at.min(self.at.plus(VALIDITY_MAX)))
    }
}

/// The number that CMPP, SMGP and SGIP show as a sender; none of a name, for which they have no room.
pub(super) fn access_number(from: &SenderId) -> Option<Octets<21>> {
    let digits = match from {
        SenderId::International(number) => number.digits(),
        SenderId::Short(digits) => digits,
        SenderId::Name(_) => return None,
    };
    Octets::new("source", digits).ok()
}

/// A carrier's word on a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// What to do about it.
    pub(super) meaning: Meaning,
    /// The protocol's number for it.
    pub(super) code: u32,
    /// The enhanced status code under which it is reported.
    pub(super) enhanced: EnhancedStatus,
    /// The protocol's words for it.
    pub(super) words: String,
}

/// What an answer to a delivery must repeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DeliveryId {
    sequence: u32,
    /// What CMPP and SMGP call the DELIVER, in 8 and 10 octets, and the rest of SGIP's sequence number; 0 in SMPP, which has no
    /// name for it.
    msg_id: u128,
}

/// What a carrier brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Brought {
    /// A receipt: the id of the part, what became of it, the carrier's own words.
    Receipt { id: String, state: ReceiptState, words: String },
    /// A message from a handset, or a part of one.
    Handset(FromHandset),
    /// A receipt that nothing could match.
    Unreadable,
}

/// What a handset has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FromHandset {
    /// From whom: with a `+` where it is an international number.
    from: String,
    /// To what.
    to: String,
    /// What its octets mean.
    alphabet: Alphabet,
    /// Which part of which message it is.
    place: Option<Concatenation>,
    /// The octets, without their header.
    octets: Bytes,
}

impl FromHandset {
    /// `octets` starts with a user data header if `udhi` says so; one that makes no sense is left where it is. It may name the tables
    /// of a language.
    fn new(from: String, to: String, alphabet: Alphabet, udhi: bool, octets: Bytes) -> Self {
        let split = if udhi { sms::split_header(&octets) } else { None };
        let tables = Shift::of_header(&octets).filter(|_| udhi && alphabet == Alphabet::Gsm7);
        let alphabet = tables.map_or(alphabet, Alphabet::National);
        let (place, octets) = match split {
            Some((place, content)) => (place.filter(|place| place.total > 1), octets.slice_ref(content)),
            None => (None, octets),
        };
        Self { from, to, alphabet, place, octets }
    }

    /// As the engine hands it on.
    pub(super) fn message(self, carrier: &Arc<str>, received_at: Timestamp) -> HandsetMessage {
        let Self { from, to, alphabet, place, octets } = self;
        let (from, to) = (shown(&from).into(), shown(&to).into());
        HandsetMessage { carrier: Arc::clone(carrier), from, to, alphabet, place, octets, received_at }
    }
}

/// What gateways call an alphabet.
fn gateway_alphabet(format: u8) -> Alphabet {
    match format {
        msg_fmt::ASCII => Alphabet::Ascii,
        msg_fmt::UCS2 => Alphabet::Ucs2,
        msg_fmt::GBK => Alphabet::Gbk,
        other => Alphabet::Other(other),
    }
}

/// Gateways write eleven digits, with 86 in front or without (C3 section 8.4.5.1); a pseudonym is no number.
pub(super) fn gateway_number(written: String) -> String {
    let digits = written.trim_start_matches('+');
    match digits {
        _ if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() < 11 => written,
        _ if is_chinese_mobile(digits) => format!("+86{digits}"),
        _ => international(digits),
    }
}

/// An address as it may be shown: what carriers write there is theirs to choose.
fn shown(address: &str) -> String {
    address.chars().filter(|c| !c.is_control()).take(ADDRESS_CHARS_MAX).collect()
}

/// Octets of the longest address: CMPP 3.0's.
const ADDRESS_CHARS_MAX: usize = 32;

/// An international number without its `+`, as carriers write it.
fn international(digits: &str) -> String {
    format!("+{}", digits.trim_start_matches('+').trim_start_matches('0'))
}

/// Eleven digits that are a number of a mobile in China, without the country's code.
pub(super) fn is_chinese_mobile(digits: &str) -> bool {
    digits.len() == 11 && digits.starts_with('1') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// How a delivery is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    /// It is durable.
    Taken,
    /// No room now: bring it again.
    Busy,
    /// It cannot be stored: bring it again.
    Unavailable,
    /// It makes no sense.
    Refused,
}

/// What a carrier has said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A part was answered; its slot is free again.
    Answer {
        /// The part.
        sequence: u32,
        /// How it went.
        verdict: Verdict,
        /// The carrier's id for it; empty where it was refused or gave none.
        message_id: String,
        /// How full the carrier says it is, in percent.
        load: Option<u8>,
    },
    /// A message or a receipt; to be answered.
    Delivery(DeliveryId, Brought),
    /// A delivery that could not be read, and was answered so.
    Unreadable(String),
    /// The carrier ends the link.
    Unbound,
    /// Nothing to do.
    Nothing,
}

/// The window is full: an answer must come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WindowFull;

/// Why there is no bound connection.
#[derive(Debug)]
pub(super) enum NotBound {
    /// The carrier says no.
    Refused {
        /// In its words.
        why: String,
        /// True if it is for who we are: trying again soon cannot help, somebody has to look.
        credentials: bool,
    },
    /// Anything else.
    Failed(String),
}

/// A connection whose login is not answered yet.
pub(super) trait Login: Send {
    /// Where the next read goes.
    fn buffer(&mut self) -> &mut BytesMut;

    /// Understands what has been read. What came behind the answer stays in the buffer of the [`Bound`].
    fn step(self: Box<Self>, now: Mono, out: &mut BytesMut) -> Result<Step, NotBound>;
}

/// What became of a [`Login`].
pub(super) enum Step {
    /// Still waiting.
    Waiting(Box<dyn Login>),
    /// Logged in.
    Bound(Box<dyn Bound>),
}

/// A connection that is logged in. An error is in words, and ends it.
pub(super) trait Bound: Send {
    /// Where the next read goes. Take all events out before reading again.
    fn buffer(&mut self) -> &mut BytesMut;

    /// The next thing that the carrier has said; `None` until more octets come.
    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String>;

    /// Writes a part; the sequence number joins the answer to it.
    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull>;

    /// Answers a delivery.
    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut);

    /// Lets time pass; the parts whose answers are overdue now. Their slots stay taken.
    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, String>;

    /// When [`Bound::tick`] wants to be called next.
    fn wakeup(&self) -> Mono;

    /// Parts whose answers are awaited, the overdue ones not counted.
    fn awaited(&self) -> usize;

    /// What the carrier said at the login that it speaks, for people.
    fn spoken(&self) -> Option<String> {
        None
    }

    /// False of a connection that only brings receipts.
    fn submits(&self) -> bool {
        true
    }

    /// True once the connection should be ended, as it has nothing to do and nobody could say whether it still lives.
    fn is_spent(&self) -> bool {
        false
    }

    /// Asks to part; nothing can be submitted any more.
    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing>;
}

/// A connection that has asked to part.
pub(super) trait Closing: Send {
    /// Where the next read goes.
    fn buffer(&mut self) -> &mut BytesMut;

    /// Understands what has been read; true once the connection may be closed.
    fn is_over(&mut self, out: &mut BytesMut) -> bool;
}

/// A connection that has asked to part, whatever it speaks: `receive` answers a frame, and is true once that was the last.
struct Parting<F, R> {
    framer: Framer<F>,
    receive: R,
}

impl<F, R> Parting<F, R>
where
    F: Framed + 'static,
    R: FnMut(F, &mut BytesMut) -> bool + Send + 'static,
{
    fn closing(framer: Framer<F>, receive: R) -> Box<dyn Closing> {
        Box::new(Self { framer, receive })
    }
}

impl<F: Framed, R: FnMut(F, &mut BytesMut) -> bool + Send> Closing for Parting<F, R> {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn is_over(&mut self, out: &mut BytesMut) -> bool {
        while let Ok(Some(frame)) = self.framer.next_frame() {
            if (self.receive)(frame, out) {
                return true;
            }
        }
        false
    }
}
