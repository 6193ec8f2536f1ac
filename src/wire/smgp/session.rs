//! The SP's side of a link: one type per state, a transition consumes the state before it.
//!
//! ```text
//! Open ──LOGIN──▶ LoggingIn ──LOGIN_RESP──▶ Bound ──EXIT──▶ Exiting ──EXIT_RESP──▶ (closed)
//! ```
//!
//! **Promises.** Those of `link_state` on windows, sequence numbers and strays. A link that logged in to receive has no room in
//! its window. Nothing is ever sent twice: repeating a SUBMIT without an answer may double the text.
//!
//! **Does not know** sockets or clocks: frames in, octets appended to `out`, time as an argument; [`Bound::wakeup`] says when
//! [`Bound::tick`] wants to be called.
//!
//! **Fails how.** A [`LinkFault`] ends the link; whoever drives it closes the connection and settles what is unanswered. A
//! wrong AuthenticatorServer is told and no fault: gateways make it in more than one way.

use std::fmt;

use bytes::BytesMut;

use super::auth::{self, Authenticator, NameForm};
use super::pdu::{self, Body, Deliver, LoginResp, Pdu, PduError, Submit};
use super::time::LoginTime;
use super::{Frame, LoginMode, MsgId, Octets, Status, Version, command};
use crate::clock::Mono;
use crate::model::Secret;
use crate::wire::link_state::{Broken, LinkState};
pub use crate::wire::link_state::{Settings, WindowFull};

/// Who we are, and what for.
#[derive(Clone, Debug)]
pub struct Login {
    /// Our ClientID.
    pub name: Octets<8>,
    /// The secret that we share with the gateway.
    pub secret: Secret,
    /// How a name shorter than eight octets is hashed.
    pub form: NameForm,
    /// What the link is for.
    pub mode: LoginMode,
    /// What we speak.
    pub version: Version,
}

/// Why a link cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// The gateway refused the login.
    Refused(Status),
    /// Something other than an answer to the login came before one.
    NotLoggedIn {
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
            Self::NotLoggedIn { command_id } => write!(f, "command 0x{command_id:08X} before the login was answered"),
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
    pub fn log_in(self, login: Login, time: LoginTime, out: &mut BytesMut) -> LoggingIn {
        let client = auth::client(login.name.as_bytes(), login.secret.expose().as_bytes(), time, login.form);
        let said = pdu::Login {
            client_id: login.name.clone(),
            authenticator_client: client,
            login_mode: login.mode.octet(),
            timestamp: time,
            client_version: login.version.octet(),
        };
        Pdu::login(1, said).encode(login.version, out);
        let window = if login.mode.submits() { self.settings.window } else { 0 };
        LoggingIn { settings: Settings { window, ..self.settings }, login, client }
    }
}

/// A session whose login is not answered yet.
#[derive(Debug)]
pub struct LoggingIn {
    settings: Settings,
    login: Login,
    client: Authenticator,
}

/// What a frame made of a [`LoggingIn`].
#[derive(Debug)]
pub enum LoginStep {
    /// Still waiting.
    LoggingIn(LoggingIn),
    /// Logged in.
    Bound {
        /// The session.
        bound: Bound,
        /// False if AuthenticatorServer does not show that the gateway knows our secret.
        gateway_authentic: bool,
    },
}

impl LoggingIn {
    /// Takes a frame from the gateway.
    ///
    /// # Errors
    /// [`LinkFault::Refused`], [`LinkFault::NotLoggedIn`], [`LinkFault::Unreadable`].
    pub fn receive(self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<LoginStep, LinkFault> {
        let version = self.login.version;
        let pdu = Pdu::decode(frame, version).map_err(LinkFault::Unreadable)?;
        let (command_id, sequence) = (pdu.command_id(), pdu.sequence());
        match pdu.into_body() {
            Body::LoginResp(resp) if resp.status == Status::OK => {
                let gateway_authentic = self.is_authentic(&resp);
                let bound = Bound { version, mode: self.login.mode, state: LinkState::new(self.settings, now) };
                Ok(LoginStep::Bound { bound, gateway_authentic })
            }
            Body::LoginResp(resp) => Err(LinkFault::Refused(resp.status)),
            // As some message centres do: they ask before they answer.
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(version, out);
                Ok(LoginStep::LoggingIn(self))
            }
            _ => Err(LinkFault::NotLoggedIn { command_id }),
        }
    }

    fn is_authentic(&self, resp: &LoginResp) -> bool {
        let secret = self.login.secret.expose().as_bytes();
        auth::server(resp.status, &self.client, secret) == resp.authenticator_server
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
        status: Status,
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
    Exited,
    /// Nothing to do.
    Nothing,
}

/// A session that is logged in.
#[derive(Debug)]
pub struct Bound {
    version: Version,
    mode: LoginMode,
    state: LinkState,
}

impl Bound {
    /// What the link is for.
    pub fn mode(&self) -> LoginMode {
        self.mode
    }

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
                Pdu::deliver_resp(error.sequence, error.msg_id, Status::BAD_STRUCTURE).encode(self.version, out);
                return Ok(Event::Refused(error));
            }
            Err(error) => return Err(LinkFault::Unreadable(error)),
        };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::SubmitResp(msg_id, status) => match self.state.answered(sequence)? {
                Some(late) => Ok(Event::Answer { sequence, status, msg_id, late }),
                None => Ok(Event::Nothing),
            },
            Body::Deliver(deliver) => Ok(Event::Delivery { sequence, deliver }),
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(self.version, out);
                Ok(Event::Nothing)
            }
            Body::ActiveTestResp => Ok(Event::Nothing),
            Body::Exit => {
                Pdu::exit_resp(sequence).encode(self.version, out);
                Ok(Event::Exited)
            }
            // Answers to nothing, and requests that only an SP or another gateway makes; SMGP knows no way to say no to these.
            Body::Login(_)
            | Body::LoginResp(_)
            | Body::ExitResp
            | Body::Submit(_)
            | Body::DeliverResp(..)
            | Body::NotOurs(_) => {
                self.state.stray()?;
                Ok(Event::Nothing)
            }
        }
    }

    /// Answers a DELIVER.
    pub fn answer_delivery(&mut self, sequence: u32, msg_id: MsgId, status: Status, out: &mut BytesMut) {
        Pdu::deliver_resp(sequence, msg_id, status).encode(self.version, out);
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
    pub fn exit(mut self, out: &mut BytesMut) -> Exiting {
        let sequence = self.state.next_sequence();
        Pdu::exit(sequence).encode(self.version, out);
        Exiting { sequence, version: self.version }
    }
}

/// A session that has asked to be ended. DELIVERs are no longer taken: unanswered, they will be brought again.
#[derive(Debug)]
pub struct Exiting {
    sequence: u32,
    version: Version,
}

impl Exiting {
    /// Takes a frame; true once the link may be closed.
    pub fn receive(&self, frame: Frame, out: &mut BytesMut) -> bool {
        // Whatever cannot be read ends a link that is to end.
        let Ok(pdu) = Pdu::decode(frame, self.version) else { return true };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::ActiveTest => Pdu::active_test_resp(sequence).encode(self.version, out),
            Body::Exit => {
                Pdu::exit_resp(sequence).encode(self.version, out);
                return true;
            }
            Body::ExitResp => return sequence == self.sequence,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests;
