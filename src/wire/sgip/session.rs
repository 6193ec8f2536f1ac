//! The SP's side of both kinds of links: one type per state, a transition consumes the state before it.
//!
//! ```text
//! made by the SP to submit:         Open ──BIND──▶ Binding ──BIND_RESP──▶ Bound ──UNBIND──▶ Unbinding ──UNBIND_RESP──▶ (closed)
//! made by the gateway to deliver:   AwaitBind ──BIND──▶ Receiving ──UNBIND──▶ (closed)
//! ```
//!
//! What was submitted on the one kind is reported on the other.
//!
//! **Promises.** Those of `link_state` on windows and strays. An answer completes only the SUBMIT whose sequence number it repeats.
//! Nothing is ever sent twice. A gateway that was not admitted brings nothing.
//!
//! **Does not know** sockets or clocks: frames in, octets appended to `out`, time as an argument; [`Bound::wakeup`] says when
//! [`Bound::tick`] wants to be called.
//!
//! **Fails how.** A [`LinkFault`] ends the link; whoever drives it closes the connection and settles what is unanswered. SGIP
//! cannot ask whether the other side lives: a link that has nothing to do is to be ended.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;

use super::pdu::{Bind, Body, Deliver, Pdu, PduError, Report, Submit};
use super::time::LoginTime;
use super::{Frame, Octets, Sequence, Sequences, SgipResult, command, login_type};
use crate::clock::Mono;
use crate::model::Secret;
pub use crate::wire::link_state::WindowFull;
use crate::wire::link_state::{self, Broken, LinkState};

/// What a link is allowed and how patient it is; the defaults are S12's, but for the idle time, which gateways set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most SUBMITs unanswered at a time; at least 1.
    pub window: usize,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// A link on which nothing was heard for so long is to be ended.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: 32, response_timeout: Duration::from_secs(30), idle: Duration::from_secs(50) }
    }
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub name: Octets<16>,
    /// The password: at most 16 octets have room, and it travels in clear.
    pub password: Secret,
}

/// Why a link cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// The gateway refused the BIND.
    Refused(SgipResult),
    /// We refused the gateway's.
    NotAdmitted(SgipResult),
    /// Something other than the BIND, or an answer to it, came before one.
    NotBound {
        /// Its command id.
        command_id: u32,
    },
    /// Nothing was heard on a link that had nothing to do, and it was not ended.
    Silent,
    /// The gateway answers no SUBMIT.
    AnswersMissing,
    /// Too many answers to nothing we sent.
    Strays,
    /// What came cannot be read, and neither can what will follow.
    Unreadable(PduError),
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(result) => write!(f, "bind refused: {result}"),
            Self::NotAdmitted(result) => write!(f, "bind of a gateway refused: {result}"),
            Self::NotBound { command_id } => write!(f, "command 0x{command_id:08X} before the bind"),
            Self::Silent => f.write_str("nothing was heard"),
            Self::AnswersMissing => f.write_str("SUBMITs are not answered"),
            Self::Strays => f.write_str("too many answers to requests never made"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkFault {}

impl From<Broken> for LinkFault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Silent => Self::Silent,
            Broken::AnswersMissing => Self::AnswersMissing,
            Broken::Strays => Self::Strays,
        }
    }
}

/// A connection that we made, on which nothing has been said.
#[derive(Debug)]
pub struct Open {
    settings: Settings,
}

impl Open {
    /// A fresh session.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Asks to be bound.
    ///
    /// # Errors
    /// [`FieldError`](crate::wire::FieldError) if the password has no room; nothing was written.
    pub fn bind(
        self,
        login: &Login,
        sequence: Sequence,
        out: &mut BytesMut,
    ) -> Result<Binding, crate::wire::FieldError> {
        let login_password = Octets::new("Login_Password", login.password.expose())?;
        let bind = Bind { login_type: login_type::SP, login_name: login.name.clone(), login_password };
        Pdu::bind(sequence, bind).encode(out);
        Ok(Binding { settings: self.settings, sequence })
    }
}

/// A session whose BIND is not answered yet.
#[derive(Debug)]
pub struct Binding {
    settings: Settings,
    sequence: Sequence,
}

impl Binding {
    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Refused`], [`LinkFault::NotBound`], [`LinkFault::Unreadable`].
    pub fn receive(self, frame: Frame, now: Mono) -> Result<Bound, LinkFault> {
        let pdu = Pdu::decode(frame).map_err(LinkFault::Unreadable)?;
        match pdu.body() {
            Body::BindResp(SgipResult::OK) if pdu.sequence() == self.sequence => {
                let Settings { window, response_timeout, idle } = self.settings;
                // What is taken for a question whether the gateway lives is the time to part.
                let settings =
                    link_state::Settings { window, active_test_interval: idle, response_timeout, active_tests_max: 1 };
                Ok(Bound { node: self.sequence.node, state: LinkState::new(settings, now) })
            }
            Body::BindResp(result) if *result != SgipResult::OK => Err(LinkFault::Refused(*result)),
            _ => Err(LinkFault::NotBound { command_id: pdu.command_id() }),
        }
    }
}

/// What a frame on a link of ours means for whoever drives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A SUBMIT was answered; its slot is free again.
    Answer {
        /// The SUBMIT.
        sequence: Sequence,
        /// How it went.
        result: SgipResult,
        /// True if it had been given up as overdue before.
        late: bool,
    },
    /// The gateway ends the link; its answer is written, nothing more may be sent.
    Unbound,
    /// Nothing to do.
    Nothing,
}

/// What passing time brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The counters of SUBMITs whose answers are overdue now; their slots stay taken until an answer comes.
    pub overdue: Vec<u32>,
    /// True once if the link has nothing to do and should be ended.
    pub idle: bool,
}

/// A session that is bound to submit.
#[derive(Debug)]
pub struct Bound {
    /// Whose sequence numbers we use.
    node: u32,
    state: LinkState,
}

impl Bound {
    /// How many more SUBMITs the window takes.
    pub fn free(&self) -> usize {
        self.state.free()
    }

    /// SUBMITs whose answers are awaited, the overdue ones not counted.
    pub fn awaited(&self) -> usize {
        self.state.awaited()
    }

    /// Submits; the sequence number joins the answer to it, and its report.
    ///
    /// # Errors
    /// [`WindowFull`]; nothing was written.
    pub fn submit(
        &mut self,
        submit: Submit,
        sequences: &Sequences,
        time: LoginTime,
        now: Mono,
        out: &mut BytesMut,
    ) -> Result<Sequence, WindowFull> {
        let sequence = loop {
            let next = sequences.next(self.node, time);
            // After a wrap an overdue SUBMIT may still hold a number.
            if self.state.admit_as(next.counter, now)? {
                break next;
            }
        };
        Pdu::submit(sequence, submit).encode(out);
        Ok(sequence)
    }

    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Strays`], [`LinkFault::Unreadable`].
    pub fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Event, LinkFault> {
        self.state.heard(now);
        let pdu = Pdu::decode(frame).map_err(LinkFault::Unreadable)?;
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::SubmitResp(result) if sequence.node == self.node => match self.state.answered(sequence.counter)? {
                Some(late) => Ok(Event::Answer { sequence, result, late }),
                None => Ok(Event::Nothing),
            },
            Body::Unbind => {
                Pdu::unbind_resp(sequence).encode(out);
                Ok(Event::Unbound)
            }
            // Answers to nothing, and what is said on the other kind of link.
            _ => {
                self.state.stray()?;
                Ok(Event::Nothing)
            }
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`LinkFault::Silent`], [`LinkFault::AnswersMissing`].
    pub fn tick(&mut self, now: Mono) -> Result<Tick, LinkFault> {
        let link_state::Tick { ask, overdue } = self.state.tick(now)?;
        Ok(Tick { overdue, idle: ask.is_some() })
    }

    /// When [`Bound::tick`] wants to be called next.
    pub fn wakeup(&self) -> Mono {
        self.state.wakeup()
    }

    /// Ends the link; nothing can be submitted any more.
    pub fn unbind(self, sequence: Sequence, out: &mut BytesMut) -> Unbinding {
        Pdu::unbind(sequence).encode(out);
        Unbinding { sequence }
    }
}

/// A session that has asked to be ended.
#[derive(Debug)]
pub struct Unbinding {
    sequence: Sequence,
}

impl Unbinding {
    /// Takes a frame; true once the link may be closed.
    pub fn receive(&self, frame: Frame, out: &mut BytesMut) -> bool {
        // Whatever cannot be read ends a link that is to end.
        let Ok(pdu) = Pdu::decode(frame) else { return true };
        match pdu.body() {
            Body::Unbind => {
                Pdu::unbind_resp(pdu.sequence()).encode(out);
                true
            }
            Body::UnbindResp => pdu.sequence() == self.sequence,
            _ => false,
        }
    }
}

/// A connection that a gateway made to us, on which nothing has been said.
#[derive(Debug, Default)]
pub struct AwaitBind;

impl AwaitBind {
    /// Takes the first frame from whoever connected; `judge` says whether name and password are those of a gateway. What is
    /// refused is answered first.
    ///
    /// # Errors
    /// [`LinkFault::NotAdmitted`], [`LinkFault::NotBound`], [`LinkFault::Unreadable`].
    pub fn receive(
        self,
        frame: Frame,
        judge: impl FnOnce(&Bind) -> SgipResult,
        out: &mut BytesMut,
    ) -> Result<Receiving, LinkFault> {
        let pdu = Pdu::decode(frame).map_err(LinkFault::Unreadable)?;
        let Body::Bind(bind) = pdu.body() else { return Err(LinkFault::NotBound { command_id: pdu.command_id() }) };
        let result = if bind.login_type != login_type::GATEWAY { SgipResult::BAD_LOGIN_TYPE } else { judge(bind) };
        Pdu::bind_resp(pdu.sequence(), result).encode(out);
        if result == SgipResult::OK { Ok(Receiving { strays: 0 }) } else { Err(LinkFault::NotAdmitted(result)) }
    }
}

/// What a gateway brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Brought {
    /// A message from a handset; answer with [`Receiving::answer_deliver`].
    Deliver(Sequence, Deliver),
    /// What became of a SUBMIT; answer with [`Receiving::answer_report`].
    Report(Sequence, Report),
    /// Something that could not be read was refused.
    Refused(PduError),
    /// The gateway ends the link; its answer is written, nothing more may be sent.
    Unbound,
    /// Nothing to do.
    Nothing,
}

/// A session on which a gateway delivers and reports.
#[derive(Debug)]
pub struct Receiving {
    strays: u32,
}

impl Receiving {
    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Strays`], [`LinkFault::Unreadable`].
    pub fn receive(&mut self, frame: Frame, out: &mut BytesMut) -> Result<Brought, LinkFault> {
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            // They have an answer that says no; unanswered, they would be brought for ever.
            Err(error) if error.command_id == command::DELIVER => {
                self.answer_deliver(error.sequence, SgipResult::BAD_PARAMETER, out);
                return Ok(Brought::Refused(error));
            }
            Err(error) if error.command_id == command::REPORT => {
                self.answer_report(error.sequence, SgipResult::BAD_PARAMETER, out);
                return Ok(Brought::Refused(error));
            }
            Err(error) => return Err(LinkFault::Unreadable(error)),
        };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::Deliver(deliver) => Ok(Brought::Deliver(sequence, deliver)),
            Body::Report(report) => Ok(Brought::Report(sequence, report)),
            Body::Unbind => {
                Pdu::unbind_resp(sequence).encode(out);
                Ok(Brought::Unbound)
            }
            Body::Bind(_) => {
                Pdu::bind_resp(sequence, SgipResult::BOUND_ALREADY).encode(out);
                self.stray()
            }
            _ => self.stray(),
        }
    }

    /// Answers a DELIVER.
    pub fn answer_deliver(&self, sequence: Sequence, result: SgipResult, out: &mut BytesMut) {
        Pdu::deliver_resp(sequence, result).encode(out);
    }

    /// Answers a REPORT.
    pub fn answer_report(&self, sequence: Sequence, result: SgipResult, out: &mut BytesMut) {
        Pdu::report_resp(sequence, result).encode(out);
    }

    /// Ends the link; nothing more is taken.
    pub fn unbind(self, sequence: Sequence, out: &mut BytesMut) -> Unbinding {
        Pdu::unbind(sequence).encode(out);
        Unbinding { sequence }
    }

    fn stray(&mut self) -> Result<Brought, LinkFault> {
        self.strays += 1;
        if self.strays > link_state::STRAYS_MAX { Err(LinkFault::Strays) } else { Ok(Brought::Nothing) }
    }
}

#[cfg(test)]
mod tests;
