//! SGIP 1.2 as the engine's protocol: the links that we make, to submit, and those that the gateway makes to us, to deliver and to
//! report.
//!
//! A text to one number each, though a SUBMIT has room for a hundred. A SUBMIT's sequence number is what its report names: it is
//! kept as the id of the part, in 30 digits. SGIP cannot ask whether the other side lives: a link that has nothing to do is
//! [spent](Bound::is_spent).

use std::sync::LazyLock;
use std::time::Duration;

use bytes::BytesMut;

use super::super::options::{Options, OptionsError, Sgip};
use super::cut::{self, AsciiRooms};
use super::{
    Bound, Brought, Closing, Cut, DeliveryId, Event, FromHandset, Login, NotBound, Part, Parting, Reaction, Step,
    Verdict, WindowFull, access_number, gateway_alphabet, gateway_number,
};
use crate::clock::{Mono, Timestamp};
use crate::model::{ReceiptState, SmsText};
use crate::wire::sgip::result::error_name;
use crate::wire::sgip::session::{self, AwaitBind, LinkFault};
use crate::wire::sgip::{Deliver, Framer, Octets, Report, Sequence, Sequences, SgipResult, Submit, time};

/// As in CMPP.
const ASCII: AsciiRooms = AsciiRooms { whole: 159, part: 153 };

/// Of all links of all accounts: two of these may be one node, as when a reload replaces one. A run of the same second will
/// hardly start at the same place.
static SEQUENCES: LazyLock<Sequences> = LazyLock::new(|| Sequences::new(fastrand::u32(..)));

/// A text's octets.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8, gbk: bool) -> Cut {
    cut::cut(text, reference, ASCII, gbk)
}

/// Asks to be bound, to submit.
pub(in crate::egress::sms) fn login(
    options: &Options,
    account: &Sgip,
    now: Timestamp,
    out: &mut BytesMut,
) -> Result<Box<dyn Login>, OptionsError> {
    let settings =
        session::Settings { window: options.window, response_timeout: options.response_timeout, idle: account.idle };
    let login = account.login(&options.system_id, &options.password)?;
    let head = account.head(options.source.as_ref())?;
    let (node, time) = (account.node()?, time::LoginTime::at(now));
    let binding = session::Open::new(settings).bind(&login, SEQUENCES.next(node, time), out);
    let binding = binding.map_err(|e| OptionsError { option: e.field, expected: "at most 16 octets and no NUL" })?;
    Ok(Box::new(Binding { framer: Framer::new(), binding, head, node, time }))
}

struct Binding {
    framer: Framer,
    binding: session::Binding,
    head: Submit,
    node: u32,
    time: time::LoginTime,
}

impl Login for Binding {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn step(mut self: Box<Self>, now: Mono, _out: &mut BytesMut) -> Result<Step, NotBound> {
        let Some(frame) = self.framer.next_frame().map_err(|e| NotBound::Failed(e.to_string()))? else {
            return Ok(Step::Waiting(self));
        };
        let Self { framer, binding, head, node, time } = *self;
        match binding.receive(frame, now) {
            Ok(session) => Ok(Step::Bound(Box::new(Sp { framer, session, head, node, time, is_spent: false }))),
            Err(LinkFault::Refused(result)) => {
                Err(NotBound::Refused { why: result.to_string(), credentials: result.is_credentials() })
            }
            Err(fault) => Err(NotBound::Failed(fault.to_string())),
        }
    }
}

/// A service provider that is bound to submit.
struct Sp {
    framer: Framer,
    session: session::Bound,
    /// What all SUBMITs of the account share.
    head: Submit,
    node: u32,
    /// When it said something last.
    time: time::LoginTime,
    is_spent: bool,
}

impl Bound for Sp {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(None) };
        self.is_spent = false;
        Ok(Some(match self.session.receive(frame, now, out).map_err(|e| e.to_string())? {
            session::Event::Answer { sequence, result, .. } => {
                let message_id = if result == SgipResult::OK { sequence.to_string() } else { String::new() };
                Event::Answer { sequence: sequence.counter, verdict: result.into(), message_id, load: None }
            }
            session::Event::Unbound => Event::Unbound,
            session::Event::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        self.is_spent = false;
        self.time = time::LoginTime::at(part.at);
        let submitted = self.session.submit(message(&self.head, part), &SEQUENCES, self.time, now, out);
        submitted.map(|sequence| sequence.counter).map_err(|_| WindowFull)
    }

    fn answer_delivery(&mut self, _delivery: DeliveryId, _reaction: Reaction, _out: &mut BytesMut) {
        // Nothing is brought here.
    }

    fn tick(&mut self, now: Mono, _out: &mut BytesMut) -> Result<Vec<u32>, String> {
        let tick = self.session.tick(now).map_err(|e| e.to_string())?;
        self.is_spent |= tick.idle;
        Ok(tick.overdue)
    }

    fn wakeup(&self) -> Mono {
        self.session.wakeup()
    }

    fn awaited(&self) -> usize {
        self.session.awaited()
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        let unbinding = self.session.unbind(SEQUENCES.next(self.node, self.time), out);
        Parting::closing(self.framer, move |frame, out| unbinding.receive(frame, out))
    }
}

impl From<SgipResult> for Verdict {
    fn from(answer: SgipResult) -> Self {
        let words = answer.to_string();
        Self { meaning: answer.meaning(), code: answer.0.into(), enhanced: answer.enhanced(), words }
    }
}

/// The SUBMIT of a part.
fn message(head: &Submit, part: &Part) -> Submit {
    let text = &part.text;
    Submit {
        sp_number: text.from.as_ref().and_then(access_number).unwrap_or_else(|| head.sp_number.clone()),
        // With its country's code; a number has 15 digits at most.
        user_numbers: vec![Octets::new("UserNumber", text.to.digits()).unwrap_or_default()],
        expire_time: part.valid_until().map(time::absolute).unwrap_or_default(),
        tp_udhi: text.cut.udhi.into(),
        message_coding: text.cut.coding,
        content: part.octets(),
        ..head.clone()
    }
}

/// Who says to be a gateway of ours.
pub(in crate::egress::sms) struct Claim<'a> {
    pub(in crate::egress::sms) name: &'a [u8],
    pub(in crate::egress::sms) password: &'a [u8],
}

/// What is said to that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::egress::sms) enum Admission {
    /// It is, and may bring what it has. Its connection may be silent for so long; our node is this one.
    Granted { idle: Duration, node: u32 },
    /// It is not.
    Unknown,
    /// It is, and has as many connections as it may have.
    Full,
}

/// What is said to a gateway of this account.
pub(in crate::egress::sms) fn admission(account: &Sgip) -> Admission {
    account.node().map_or(Admission::Unknown, |node| Admission::Granted { idle: account.callback.idle, node })
}

/// A connection that somebody has made to us, on which nothing was said.
#[derive(Default)]
pub(in crate::egress::sms) struct Visitor {
    framer: Framer,
}

/// What became of a [`Visitor`].
pub(in crate::egress::sms) enum Visited {
    /// Still waiting.
    Waiting(Visitor),
    /// A gateway of ours.
    Admitted(Box<dyn Bound>),
    /// Whoever it is may not stay; it has been told if there is a way to.
    Refused(String),
}

impl Visitor {
    /// Where the next read goes.
    pub(in crate::egress::sms) fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    /// Understands what has been read, at this time by both clocks; `judge` says whether who speaks is a gateway of ours.
    pub(in crate::egress::sms) fn step(
        mut self,
        wall: Timestamp,
        now: Mono,
        judge: impl FnOnce(&Claim<'_>) -> Admission,
        out: &mut BytesMut,
    ) -> Visited {
        let frame = match self.framer.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Visited::Waiting(self),
            Err(e) => return Visited::Refused(e.to_string()),
        };
        let mut admission = Admission::Unknown;
        let judged = |bind: &crate::wire::sgip::Bind| {
            let (name, password) = (bind.login_name.as_bytes(), bind.login_password.as_bytes());
            admission = judge(&Claim { name, password });
            match admission {
                Admission::Granted { .. } => SgipResult::OK,
                Admission::Unknown => SgipResult::BAD_LOGIN,
                Admission::Full => SgipResult::TOO_MANY_CONNECTIONS,
            }
        };
        match (AwaitBind.receive(frame, judged, out), admission) {
            (Ok(session), Admission::Granted { idle, node }) => {
                let time = time::LoginTime::at(wall);
                let framer = self.framer;
                Visited::Admitted(Box::new(Receiver { framer, session, idle, node, time, heard: now, is_spent: false }))
            }
            (Ok(_), _) => Visited::Refused(LinkFault::NotAdmitted(SgipResult::BAD_LOGIN).to_string()),
            (Err(fault), _) => Visited::Refused(fault.to_string()),
        }
    }
}

/// A service provider to which a gateway is bound, to deliver and to report.
struct Receiver {
    framer: Framer,
    session: session::Receiving,
    /// When it is spent: after so long a silence.
    idle: Duration,
    heard: Mono,
    node: u32,
    time: time::LoginTime,
    is_spent: bool,
}

impl Bound for Receiver {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(None) };
        (self.heard, self.is_spent) = (now, false);
        Ok(Some(match self.session.receive(frame, out).map_err(|e| e.to_string())? {
            session::Brought::Deliver(sequence, deliver) => {
                Event::Delivery(id_of(sequence, Kind::Deliver), Brought::Handset(from_handset(&deliver)))
            }
            session::Brought::Report(sequence, report) => {
                Event::Delivery(id_of(sequence, Kind::Report), brought(&report))
            }
            session::Brought::Refused(error) => Event::Unreadable(error.to_string()),
            session::Brought::Unbound => Event::Unbound,
            session::Brought::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, _part: &Part, _now: Mono, _out: &mut BytesMut) -> Result<u32, WindowFull> {
        Err(WindowFull)
    }

    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut) {
        let result = match reaction {
            Reaction::Taken => SgipResult::OK,
            Reaction::Busy | Reaction::Unavailable => SgipResult::BUSY,
            Reaction::Refused => SgipResult::BAD_PARAMETER,
        };
        match from_id(delivery) {
            (sequence, Kind::Deliver) => self.session.answer_deliver(sequence, result, out),
            (sequence, Kind::Report) => self.session.answer_report(sequence, result, out),
        }
    }

    fn tick(&mut self, now: Mono, _out: &mut BytesMut) -> Result<Vec<u32>, String> {
        if now >= self.wakeup() {
            // Once more, while what it has brought is on its way to disk.
            (self.heard, self.is_spent) = (now, true);
        }
        Ok(Vec::new())
    }

    fn wakeup(&self) -> Mono {
        self.heard.plus(self.idle)
    }

    fn awaited(&self) -> usize {
        0
    }

    fn submits(&self) -> bool {
        false
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        let unbinding = self.session.unbind(SEQUENCES.next(self.node, self.time), out);
        Parting::closing(self.framer, move |frame, out| unbinding.receive(frame, out))
    }
}

/// What a gateway brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Deliver,
    Report,
}

/// A request of a gateway's in the engine's hands, and back.
fn id_of(sequence: Sequence, kind: Kind) -> DeliveryId {
    let kind = match kind {
        Kind::Deliver => 0,
        Kind::Report => 1,
    };
    let msg_id = (kind << 64) | (u128::from(sequence.node) << 32) | u128::from(sequence.time);
    DeliveryId { sequence: sequence.counter, msg_id }
}

fn from_id(delivery: DeliveryId) -> (Sequence, Kind) {
    let [_, _, _, _, _, _, _, kind, node @ .., a, b, c, d] = delivery.msg_id.to_be_bytes();
    let (node, time) = (u32::from_be_bytes(node), u32::from_be_bytes([a, b, c, d]));
    let sequence = Sequence { node, time, counter: delivery.sequence };
    (sequence, if kind == 0 { Kind::Deliver } else { Kind::Report })
}

fn brought(report: &Report) -> Brought {
    let Report { submit_sequence, state, error_code, .. } = report;
    let verdict = match state {
        0 => ReceiptState::Delivered,
        1 => ReceiptState::Underway,
        2 => ReceiptState::Undeliverable,
        // What nobody knows leaves open what became of the text.
        _ => ReceiptState::Unknown,
    };
    let words = format!("state:{state} err:{error_code:03}");
    let words = error_name(*error_code).map_or_else(|| words.clone(), |why| format!("{words} ({why})"));
    Brought::Receipt { id: submit_sequence.to_string(), state: verdict, words }
}

fn from_handset(deliver: &Deliver) -> FromHandset {
    let (from, to) = (deliver.user_number.to_string(), deliver.sp_number.to_string());
    let (alphabet, udhi) = (gateway_alphabet(deliver.message_coding), deliver.tp_udhi & 1 != 0);
    FromHandset::new(gateway_number(from), to, alphabet, udhi, deliver.content.clone())
}

#[cfg(test)]
mod tests;
