//! SMGP 3.0 and 1.3 as the engine's protocol.
//!
//! A text to one number each: in a group a single bad number may refuse all. What a gateway calls a part is kept in hex, in
//! answers and in reports alike: the standard's ids are their own digits then, and others are taken as they are.

use bytes::BytesMut;

use super::super::options::{Options, OptionsError, Smgp};
use super::cut::{self, AsciiRooms};
use super::{
    Bound, Brought, Closing, Cut, DeliveryId, Event, FromHandset, Login, NotBound, Part, Parting, Reaction, Step,
    Verdict, WindowFull, access_number, gateway_alphabet, gateway_number,
};
use crate::clock::{Mono, Timestamp};
use crate::model::{ReceiptState, SmsText};
use crate::sms::receipt;
use crate::wire::smgp::session::{self, LinkFault, LoginStep};
use crate::wire::smgp::{Deliver, Framer, LoginMode, MsgId, Octets, Parts, Report, Status, Submit, report, time};

/// MsgLength is 140 at most in any alphabet.
const ASCII: AsciiRooms = AsciiRooms { whole: 140, part: 134 };

/// A text's octets.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8, gbk: bool) -> Cut {
    cut::cut(text, reference, ASCII, gbk)
}

/// Logs in for what `mode` says; the clock is read once for what is hashed and what is sent.
pub(in crate::egress::sms) fn login(
    options: &Options,
    account: &Smgp,
    mode: LoginMode,
    now: Timestamp,
    out: &mut BytesMut,
) -> Result<Box<dyn Login>, OptionsError> {
    let settings = session::Settings {
        window: options.window,
        active_test_interval: options.enquire_interval,
        response_timeout: options.response_timeout,
        active_tests_max: account.active_tests_max,
    };
    let login = account.login(&options.system_id, &options.password, mode)?;
    let head = account.head(options.source.as_ref())?;
    let logging_in = session::Open::new(settings).log_in(login, time::LoginTime::at(now), out);
    Ok(Box::new(LoggingIn { framer: Framer::new(), logging_in, head, carrier: options.name.to_string() }))
}

struct LoggingIn {
    framer: Framer,
    logging_in: session::LoggingIn,
    head: Submit,
    carrier: String,
}

impl Login for LoggingIn {
    fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    fn step(mut self: Box<Self>, now: Mono, out: &mut BytesMut) -> Result<Step, NotBound> {
        while let Some(frame) = self.framer.next_frame().map_err(|e| NotBound::Failed(e.to_string()))? {
            let Self { framer, logging_in, head, carrier } = *self;
            match logging_in.receive(frame, now, out) {
                Ok(LoginStep::LoggingIn(logging_in)) => *self = Self { framer, logging_in, head, carrier },
                Ok(LoginStep::Bound { bound, gateway_authentic }) => {
                    if !gateway_authentic {
                        // Gateways hash it in more than one way, so it proves nothing.
                        tracing::info!(%carrier, "AuthenticatorServer is not what we would make of our password");
                    }
                    return Ok(Step::Bound(Box::new(Sp { framer, session: bound, head })));
                }
                Err(LinkFault::Refused(status)) => {
                    let credentials = status.is_credentials();
                    return Err(NotBound::Refused { why: status.to_string(), credentials });
                }
                Err(fault) => return Err(NotBound::Failed(fault.to_string())),
            }
        }
        Ok(Step::Waiting(self))
    }
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
            session::Event::Answer { sequence, status, msg_id, .. } => {
                Event::Answer { sequence, verdict: status.into(), message_id: id_of(status, msg_id), load: None }
            }
            session::Event::Delivery { sequence, deliver } => {
                let msg_id = number_of(deliver.msg_id);
                Event::Delivery(DeliveryId { sequence, msg_id }, brought(&deliver))
            }
            session::Event::Refused(error) => Event::Unreadable(error.to_string()),
            session::Event::Exited => Event::Unbound,
            session::Event::Nothing => Event::Nothing,
        }))
    }

    fn submit(&mut self, part: &Part, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        self.session.submit(message(&self.head, part), now, out).map_err(|_| WindowFull)
    }

    fn answer_delivery(&mut self, delivery: DeliveryId, reaction: Reaction, out: &mut BytesMut) {
        let status = match reaction {
            Reaction::Taken => Status::OK,
            Reaction::Busy | Reaction::Unavailable => Status::BUSY,
            Reaction::Refused => Status::BAD_STRUCTURE,
        };
        self.session.answer_delivery(delivery.sequence, id_from(delivery.msg_id), status, out);
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

    fn submits(&self) -> bool {
        self.session.mode().submits()
    }

    fn close(self: Box<Self>, out: &mut BytesMut) -> Box<dyn Closing> {
        let exiting = self.session.exit(out);
        Parting::closing(self.framer, move |frame, out| exiting.receive(frame, out))
    }
}

impl From<Status> for Verdict {
    fn from(answer: Status) -> Self {
        Self { meaning: answer.meaning(), code: answer.0, enhanced: answer.enhanced(), words: answer.to_string() }
    }
}

/// The id of a part that was taken; zeros are none.
fn id_of(status: Status, msg_id: MsgId) -> String {
    if status == Status::OK && !msg_id.is_none() { msg_id.to_string() } else { String::new() }
}

/// A MsgID in the engine's hands, and back.
fn number_of(msg_id: MsgId) -> u128 {
    msg_id.0.iter().fold(0, |number, &octet| (number << 8) | u128::from(octet))
}

fn id_from(number: u128) -> MsgId {
    let [_, _, _, _, _, _, id @ ..] = number.to_be_bytes();
    MsgId(id)
}

/// The SUBMIT of a part. Only a text of several says which part it is.
fn message(head: &Submit, part: &Part) -> Submit {
    let text = &part.text;
    let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let parts = if text.cut.udhi {
        Parts { tp_udhi: 1, pk_total: count(text.cut.parts.len()), pk_number: count(part.index + 1) }
    } else {
        Parts::default()
    };
    Submit {
        msg_format: text.cut.coding,
        valid_time: part.valid_until().map(time::absolute).unwrap_or_default(),
        src_term_id: text.from.as_ref().and_then(access_number).unwrap_or_else(|| head.src_term_id.clone()),
        // A number has 15 digits at most.
        destinations: vec![Octets::new("DestTermID", text.to.digits()).unwrap_or_default()],
        content: part.octets(),
        parts,
        ..head.clone()
    }
}

fn brought(deliver: &Deliver) -> Brought {
    if !deliver.is_report() {
        return Brought::Handset(from_handset(deliver));
    }
    let Ok(report) = Report::read(&deliver.content) else { return Brought::Unreadable };
    let (state, words) = receipt::read_stat(report.stat.as_bytes(), Some(report.err.as_bytes()));
    let why = report::error_name(report.err.as_bytes());
    let words = why.map_or_else(|| words.clone(), |why| format!("{words} ({why})"));
    // A word nobody knows leaves open what became of the text, whatever the reason.
    Brought::Receipt { id: report.msg_id.to_string(), state: state.unwrap_or(ReceiptState::Unknown), words }
}

fn from_handset(deliver: &Deliver) -> FromHandset {
    let (from, to) = (deliver.src_term_id.to_string(), deliver.dest_term_id.to_string());
    let (alphabet, udhi) = (gateway_alphabet(deliver.msg_format), deliver.parts.tp_udhi & 1 != 0);
    FromHandset::new(gateway_number(from), to, alphabet, udhi, deliver.content.clone())
}

#[cfg(test)]
mod tests;
