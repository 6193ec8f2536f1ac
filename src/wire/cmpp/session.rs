//! The SP's side of a link: one type per state, a transition consumes the state before it.
//!
//! ```text
//! Open ──CONNECT──▶ Connecting ──CONNECT_RESP──▶ Bound ──TERMINATE──▶ Terminating ──TERMINATE_RESP──▶ (closed)
//! ```
//!
//! **Promises.** Those of `link_state` on windows, sequence numbers and strays. Nothing is ever sent twice: C3 section 7.1 lets a
//! SUBMIT without an answer be repeated, which may double the text.
//!
//! **Does not know** sockets or clocks: frames in, octets appended to `out`, time as an argument; [`Bound::wakeup`] says when
//! [`Bound::tick`] wants to be called.
//!
//! **Fails how.** A [`LinkFault`] ends the link; whoever drives it closes the connection and settles what is unanswered. A
//! wrong AuthenticatorISMG is told and no fault: gateways make it in more than one way.

use std::fmt;

use bytes::BytesMut;

use super::auth::{self, Authenticator, NameForm};
use super::pdu::{Body, Connect, ConnectResp, Deliver, Pdu, PduError, Submit};
use super::time::LoginTime;
use super::{ConnectStatus, Frame, MsgId, Octets, SubmitResult, Version, command};
use crate::clock::Mono;
use crate::model::Secret;
use crate::wire::link_state::{Broken, LinkState};
pub use crate::wire::link_state::{Settings, WindowFull};

/// Who we are.
#[derive(Clone, Debug)]
pub struct Login {
    /// Our SP_Id.
    pub name: Octets<6>,
    /// The secret that we share with the gateway.
    pub secret: Secret,
    /// How a name shorter than six octets is hashed.
    pub form: NameForm,
    /// What we speak.
    pub version: Version,
}

/// Why a link cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// The gateway refused the login.
    Refused(ConnectStatus),
    /// Something other than an answer to the login came before one.
    NotConnected {
        /// Its command id.
        command_id: u32,
    },
    /// Nothing was heard, not even an answer to ACTIVE_TEST.
    Silent,
    /// The gateway answers ACTIVE_TEST but no SUBMIT.
    AnswersMissing,
    /// Too many answers to nothing we sent.
    Strays,
    /// What came cannot be read, and neither can what will follow.
    Unreadable(PduError),
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "login refused: {status}"),
            Self::NotConnected { command_id } => write!(f, "command 0x{command_id:08X} before the login was answered"),
            Self::Silent => f.write_str("no answer to ACTIVE_TEST"),
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

/// A connection on which nothing has been said.
#[derive(Debug)]
pub struct Open {
    settings: Settings,
}

impl Open {
    /// A fresh session.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Logs in; `time` is hashed and sent, and is read once.
    pub fn connect(self, login: Login, time: LoginTime, out: &mut BytesMut) -> Connecting {
        let source = auth::source(login.name.as_bytes(), login.secret.expose().as_bytes(), time, login.form);
        let connect = Connect {
            source_addr: login.name.clone(),
            authenticator_source: source,
            version: login.version.octet(),
            timestamp: time,
        };
        Pdu::connect(1, connect).encode(login.version, out);
        Connecting { settings: self.settings, login, source }
    }
}

/// A session whose login is not answered yet.
#[derive(Debug)]
pub struct Connecting {
    settings: Settings,
    login: Login,
    source: Authenticator,
}

/// What a frame made of a [`Connecting`].
#[derive(Debug)]
pub enum ConnectStep {
    /// Still waiting.
    Connecting(Connecting),
    /// Logged in.
    Bound {
        /// The session.
        bound: Bound,
        /// False if AuthenticatorISMG does not show that the gateway knows our secret.
        gateway_authentic: bool,
    },
}

impl Connecting {
    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Refused`], [`LinkFault::NotConnected`], [`LinkFault::Unreadable`].
    pub fn receive(self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<ConnectStep, LinkFault> {
        let version = self.login.version;
        let pdu = Pdu::decode(frame, version).map_err(LinkFault::Unreadable)?;
        let (command_id, sequence) = (pdu.command_id(), pdu.sequence());
        match pdu.into_body() {
            Body::ConnectResp(resp) if resp.status == ConnectStatus::OK => {
                let gateway_authentic = self.is_authentic(&resp);
                Ok(ConnectStep::Bound {
                    bound: Bound { version, state: LinkState::new(self.settings, now) },
                    gateway_authentic,
                })
            }
            Body::ConnectResp(resp) => Err(LinkFault::Refused(resp.status)),
            // As some message centres do: they ask before they answer.
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(version, out);
                Ok(ConnectStep::Connecting(self))
            }
            _ => Err(LinkFault::NotConnected { command_id }),
        }
    }

    fn is_authentic(&self, resp: &ConnectResp) -> bool {
        let secret = self.login.secret.expose().as_bytes();
        auth::ismg(&resp.status_octets(), &self.source, secret) == resp.authenticator_ismg
    }
}

/// What a frame on a link means for whoever drives it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Event {
    /// A SUBMIT was answered; its slot is free again.
    Answer {
        /// The SUBMIT.
        sequence: u32,
        /// How it went.
        result: SubmitResult,
        /// The gateway's id for it.
        msg_id: MsgId,
        /// True if it had been given up as overdue before.
        late: bool,
    },
    /// The gateway brings a message or a report; answer with [`Bound::answer_delivery`].
    Delivery {
        /// Its sequence number.
        sequence: u32,
        /// What it brings.
        deliver: Deliver,
    },
    /// A DELIVER that could not be read was refused.
    Refused(PduError),
    /// The gateway ends the link; its answer is written, nothing more may be sent.
    Terminated,
    /// Nothing to do.
    Nothing,
}

/// A session that is logged in.
#[derive(Debug)]
pub struct Bound {
    version: Version,
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

    /// Submits; the sequence number joins the answer to it.
    ///
    /// # Errors
    /// [`WindowFull`]; nothing was written.
    pub fn submit(&mut self, submit: Submit, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        let sequence = self.state.admit(now)?;
        Pdu::submit(sequence, submit).encode(self.version, out);
        Ok(sequence)
    }

    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Strays`], [`LinkFault::Unreadable`].
    pub fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Event, LinkFault> {
        self.state.heard(now);
        let pdu = match Pdu::decode(frame, self.version) {
            Ok(pdu) => pdu,
            Err(error) if error.command_id == command::DELIVER => {
                // It alone has an answer that says no; unanswered, it would be brought for ever.
                let refusal = SubmitResult::BAD_STRUCTURE;
                Pdu::deliver_resp(error.sequence, error.msg_id, refusal).encode(self.version, out);
                return Ok(Event::Refused(error));
            }
            Err(error) => return Err(LinkFault::Unreadable(error)),
        };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::SubmitResp(msg_id, result) => match self.state.answered(sequence)? {
                Some(late) => Ok(Event::Answer { sequence, result, msg_id, late }),
                None => Ok(Event::Nothing),
            },
            Body::Deliver(deliver) => Ok(Event::Delivery { sequence, deliver }),
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(self.version, out);
                Ok(Event::Nothing)
            }
            Body::ActiveTestResp => Ok(Event::Nothing),
            Body::Terminate => {
                Pdu::terminate_resp(sequence).encode(self.version, out);
                Ok(Event::Terminated)
            }
            // Answers to nothing, and requests that only an SP makes; CMPP knows no way to say no to these.
            Body::Connect(_) | Body::ConnectResp(_) | Body::TerminateResp | Body::Submit(_) | Body::DeliverResp(..) => {
                self.state.stray()?;
                Ok(Event::Nothing)
            }
        }
    }

    /// Answers a DELIVER.
    pub fn answer_delivery(&mut self, sequence: u32, msg_id: MsgId, result: SubmitResult, out: &mut BytesMut) {
        Pdu::deliver_resp(sequence, msg_id, result).encode(self.version, out);
    }

    /// Lets time pass: asks a silent gateway whether it lives, and returns the SUBMITs whose answers are overdue now.
    /// Their slots stay taken until an answer comes.
    ///
    /// # Errors
    /// [`LinkFault::Silent`], [`LinkFault::AnswersMissing`].
    pub fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, LinkFault> {
        let tick = self.state.tick(now)?;
        if let Some(sequence) = tick.ask {
            Pdu::active_test(sequence).encode(self.version, out);
        }
        Ok(tick.overdue)
    }

    /// When [`Bound::tick`] wants to be called next.
    pub fn wakeup(&self) -> Mono {
        self.state.wakeup()
    }

    /// Ends the link; nothing can be submitted any more.
    pub fn terminate(mut self, out: &mut BytesMut) -> Terminating {
        let sequence = self.state.next_sequence();
        Pdu::terminate(sequence).encode(self.version, out);
        Terminating::new(sequence, self.version)
    }
}

/// A session that has asked to be ended. DELIVERs are no longer taken: unanswered, they will be brought again.
#[derive(Debug)]
pub struct Terminating {
    sequence: u32,
    version: Version,
}

impl Terminating {
    /// TERMINATE was written under this sequence number.
    pub(super) fn new(sequence: u32, version: Version) -> Self {
        Self { sequence, version }
    }

    /// Takes a frame; true once the link may be closed.
    pub fn receive(&self, frame: Frame, out: &mut BytesMut) -> bool {
        // Whatever cannot be read ends a link that is to end.
        let Ok(pdu) = Pdu::decode(frame, self.version) else { return true };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::ActiveTest => Pdu::active_test_resp(sequence).encode(self.version, out),
            Body::Terminate => {
                Pdu::terminate_resp(sequence).encode(self.version, out);
                return true;
            }
            Body::TerminateResp => return sequence == self.sequence,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests;
