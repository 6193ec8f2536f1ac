//! CMPP 2.0 and 3.0 as the engine's protocol.
//!
//! A text to one number each: in a group a single bad number refuses all. What a gateway calls a part is kept in decimal, in
//! answers and in reports alike.

use bytes::BytesMut;

use super::super::options::{Cmpp, Options, OptionsError};
use super::cut::{self, AsciiRooms};
use super::{
    Bound, Brought, Closing, Cut, DeliveryId, Event, FromHandset, Login, NotBound, Part, Parting, Reaction, Step,
    Verdict, WindowFull, access_number, gateway_alphabet, gateway_number,
};
use crate::clock::{Mono, Timestamp};
use crate::model::{ReceiptState, SmsText};
use crate::sms::receipt;
use crate::wire::cmpp::session::{self, ConnectStep, LinkFault};
use crate::wire::cmpp::{ConnectStatus, Deliver, Framer, MsgId, Octets, Report, Submit, SubmitResult, time};

/// Fewer than 160 octets of ASCII (C3 section 8.4.3.1).
const ASCII: AsciiRooms = AsciiRooms { whole: 159, part: 153 };

/// A text's octets.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8, gbk: bool) -> Cut {
    cut::cut(text, reference, ASCII, gbk)
}

/// Logs in; the clock is read once for what is hashed and what is sent.
pub(in crate::egress::sms) fn login(
    options: &Options,
    account: &Cmpp,
    now: Timestamp,
    out: &mut BytesMut,
) -> Result<Box<dyn Login>, OptionsError> {
    let settings = session::Settings {
        window: options.window,
        active_test_interval: options.enquire_interval,
        response_timeout: options.response_timeout,
        active_tests_max: account.active_tests_max,
    };
    let login = account.login(&options.system_id, &options.password)?;
    let head = account.head(&options.system_id, options.source.as_ref())?;
    let connecting = session::Open::new(settings).connect(login, time::LoginTime::at(now), out);
    Ok(Box::new(Connecting { framer: Framer::new(), connecting, head, carrier: options.name.to_string() }))
}

struct Connecting {
    framer: Framer,
    connecting: session::Connecting,
    head: Submit,
    carrier: String,
}

impl Login for Connecting {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn step(mut self: Box<Self>, now: Mono, out: &mut BytesMut) -> Result<Step, NotBound> {
        while let Some(frame) = self.framer.next_frame().map_err(|e| NotBound::Failed(e.to_string()))? {
            let Self { framer, connecting, head, carrier } = *self;
            match connecting.receive(frame, now, out) {
                Ok(ConnectStep::Connecting(connecting)) => *self = Self { framer, connecting, head, carrier },
                Ok(ConnectStep::Bound { bound, gateway_authentic }) => {
                    if !gateway_authentic {
                        // Gateways hash it in more than one way, so it proves nothing.
                        tracing::info!(%carrier, "AuthenticatorISMG is not what we would make of our password");
                    }
                    return Ok(Step::Bound(Box::new(Sp { framer, session: bound, head })));
                }
                Err(LinkFault::Refused(status)) => return Err(refused(status)),
                Err(fault) => return Err(NotBound::Failed(fault.to_string())),
            }
        }
        Ok(Step::Waiting(self))
    }
}

fn refused(status: ConnectStatus) -> NotBound {
    NotBound::Refused { why: status.to_string(), credentials: status.is_credentials() }
}

/// A service provider that is logged in.
struct Sp {
    framer: Framer,
    session: session::Bound,
    /// What all SUBMITs of the account share.
    head: Submit,
}

impl Bound for Sp {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn next(&mut self, now: Mono, out: &mut BytesMut) -> Result<Option<Event>, String> {
        let Some(frame) = self.framer.next_frame().map_err(|e| e.to_string())? else { return Ok(None) };
        Ok(Some(match self.session.receive(frame, now, out).map_err(|e| e.to_string())? {
            session::Event::Answer { sequence, result, msg_id, .. } => {
                Event::Answer { sequence, verdict: result.into(), message_id: id_of(result, msg_id), load: None }
            }
            session::Event::Delivery { sequence, deliver } => {
                Event::Delivery(DeliveryId { sequence, msg_id: deliver.msg_id.0.into() }, brought(&deliver))
            }
            session::Event::Refused(error) => Event::Unreadable(error.to_string()),
            session::Event::Terminated => Event::Unbound,
            session::Event::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        self.session.submit(message(&self.head, part), now, out).map_err(|_| WindowFull)
    }

    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut) {
        let result = match reaction {
            Reaction::Taken => SubmitResult::OK,
            Reaction::Busy => SubmitResult::FLOW_CONTROL,
            Reaction::Unavailable => SubmitResult::OTHER,
            Reaction::Refused => SubmitResult::BAD_STRUCTURE,
        };
        let msg_id = MsgId(u64::try_from(delivery.msg_id).unwrap_or_default());
        self.session.answer_delivery(delivery.sequence, msg_id, result, out);
    }

    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, String> {
        self.session.tick(now, out).map_err(|e| e.to_string())
    }

    fn wakeup(&self) -> Mono {
        self.session.wakeup()
    }

    fn awaited(&self) -> usize {
        self.session.awaited()
    }

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        let terminating = self.session.terminate(out);
        Parting::closing(self.framer, move |frame, out| terminating.receive(frame, out))
    }
}

impl From<SubmitResult> for Verdict {
    fn from(answer: SubmitResult) -> Self {
        Self { meaning: answer.meaning(), code: answer.0, enhanced: answer.enhanced(), words: answer.to_string() }
    }
}

/// The id of a part that was taken; 0 is none.
fn id_of(result: SubmitResult, msg_id: MsgId) -> String {
    if result == SubmitResult::OK && msg_id != MsgId(0) { msg_id.to_string() } else { String::new() }
}

/// The SUBMIT of a part.
fn message(head: &Submit, part: &Part) -> Submit {
    let text = &part.text;
    let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    Submit {
        pk_total: count(text.cut.parts.len()),
        pk_number: count(part.index + 1),
        tp_udhi: text.cut.udhi.into(),
        msg_fmt: text.cut.coding,
        valid_time: part.valid_until().map(time::absolute).unwrap_or_default(),
        src_id: text.from.as_ref().and_then(access_number).unwrap_or_else(|| head.src_id.clone()),
        // A number has 15 digits at most.
        destinations: vec![Octets::new("Dest_terminal_Id", text.to.digits()).unwrap_or_default()],
        content: part.octets(),
        ..head.clone()
    }
}

fn brought(deliver: &Deliver) -> Brought {
    if !deliver.is_report() {
        return Brought::Handset(from_handset(deliver));
    }
    let Ok(report) = Report::read(&deliver.content) else { return Brought::Unreadable };
    let (state, words) = receipt::read_stat(report.stat.as_bytes(), None);
    let state = match state {
        Some(state) => state,
        None if is_error(report.stat.as_bytes()) => ReceiptState::Undeliverable,
        None => ReceiptState::Unknown,
    };
    Brought::Receipt { id: report.msg_id.to_string(), state, words }
}

fn from_handset(deliver: &Deliver) -> FromHandset {
    let (from, to) = (deliver.src_terminal_id.to_string(), deliver.dest_id.to_string());
    let alphabet = gateway_alphabet(deliver.msg_fmt);
    FromHandset::new(gateway_number(from), to, alphabet, deliver.tp_udhi & 1 != 0, deliver.content.clone())
}

/// `MB:0012` and its like (C3 section 8.4.5.1): a part of the network that answered with an error. `MA:` (no answer) and
/// `MC:` (no report) leave open what became of the text.
fn is_error(stat: &[u8]) -> bool {
    matches!(stat, [b'M' | b'C' | b'D' | b'S' | b'I', b'B', b':', ..])
}

#[cfg(test)]
mod tests;
