//! The gateway's side of a link (ISMG): one type per state, a transition consumes the state before it.
//!
//! ```text
//! Open ──CONNECT──▶ ConnectRequest ──accept──▶ Bound ──TERMINATE──▶ Terminating ──TERMINATE_RESP──▶ (closed)
//!                        └──refuse──▶ (closed)
//! ```
//!
//! **Promises.** Nothing is submitted before a login. A positive SUBMIT_RESP takes a [`Responsibility`]. [`Bound::deliver`] never has
//! more than the window unanswered. Secrets are compared in constant time, and a refusal shows nothing that is made of one. Of
//! windows, sequence numbers and strays what `link_state` promises.
//!
//! **Does not know** sockets or clocks, who may log in, nor what a text means: frames in, octets appended to `out`, time as an
//! argument.
//!
//! **Fails how.** A SUBMIT that cannot be read has an answer, and so have QUERY and CANCEL, which are not served; anything else that
//! cannot be read ends the link ([`PeerFault`]), since CMPP has no word for it and what follows is not to be trusted.

use std::fmt;

use bytes::{BufMut, BytesMut};
use subtle::ConstantTimeEq;

use super::auth::{self, NameForm};
use super::pdu::{Body, Connect, Deliver, Pdu, PduError, Submit, status_octets};
use super::session::{Settings, Terminating, WindowFull};
use super::{ConnectStatus, Frame, MsgId, SubmitResult, Version, command};
use crate::clock::Mono;
use crate::model::Responsibility;
use crate::wire::gateway::frame::put_frame;
use crate::wire::link_state::{Broken, LinkState};

/// Requests that cannot be read, and answers to nothing, that a link may bring before it is given up.
const MISTAKES_MAX: u32 = 1_000;
/// QUERY and CANCEL (C3 sections 8.4.6 and 8.4.7).
const QUERY: u32 = 0x06;
const CANCEL: u32 = 0x07;
/// Time, Query_Type and Query_Code, which stand in QUERY_RESP as they came.
const QUERY_ECHOED: usize = 19;
/// The eight counters of a QUERY_RESP.
const QUERY_COUNTERS: usize = 32;
/// The result of a CANCEL that was not done.
const NOT_CANCELLED: u32 = 1;

/// Why a link cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerFault {
    /// Something other than a login came first.
    NotConnected {
        /// Its command id.
        command_id: u32,
    },
    /// Nothing was heard, not even an answer to ACTIVE_TEST.
    Silent,
    /// It answers ACTIVE_TEST and no DELIVER.
    AnswersMissing,
    /// Too much that makes no sense.
    Mistakes,
    /// What came cannot be read, and neither can what will follow.
    Unreadable(PduError),
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { command_id } => write!(f, "command 0x{command_id:08X} before a login"),
            Self::Silent => f.write_str("no answer to ACTIVE_TEST"),
            Self::AnswersMissing => f.write_str("DELIVERs are not answered"),
            Self::Mistakes => f.write_str("too much that makes no sense"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PeerFault {}

impl From<Broken> for PeerFault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Silent => Self::Silent,
            Broken::AnswersMissing => Self::AnswersMissing,
            Broken::Strays => Self::Mistakes,
        }
    }
}

/// A connection on which nobody has logged in.
#[derive(Debug, Default)]
pub struct Open(());

/// What a frame made of an [`Open`].
#[derive(Debug)]
pub enum OpenStep {
    /// Still nobody.
    Open(Open),
    /// Somebody wants to log in.
    Connect(ConnectRequest),
    /// The peer ends the link; it has its answer.
    Terminated,
}

impl Open {
    /// A fresh connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`PeerFault::NotConnected`], [`PeerFault::Unreadable`].
    pub fn receive(self, frame: Frame, out: &mut BytesMut) -> Result<OpenStep, PeerFault> {
        // Layouts do not differ before a login.
        let pdu = Pdu::decode(frame, Version::V2).map_err(PeerFault::Unreadable)?;
        let (command_id, sequence) = (pdu.command_id(), pdu.sequence());
        match pdu.into_body() {
            Body::Connect(connect) => Ok(OpenStep::Connect(ConnectRequest { sequence, connect })),
            // Some ask before they log in.
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(Version::V2, out);
                Ok(OpenStep::Open(self))
            }
            Body::Terminate => {
                Pdu::terminate_resp(sequence).encode(Version::V2, out);
                Ok(OpenStep::Terminated)
            }
            _ => Err(PeerFault::NotConnected { command_id }),
        }
    }
}

/// Somebody wants to log in; nothing is read from the link until that is decided.
#[derive(Debug)]
pub struct ConnectRequest {
    sequence: u32,
    connect: Connect,
}

impl ConnectRequest {
    /// Who, as what and when.
    pub fn connect(&self) -> &Connect {
        &self.connect
    }

    /// What is to be spoken; `None` for a version above 3.0.
    pub fn version(&self) -> Option<Version> {
        (self.connect.version <= Version::V3.octet()).then(|| Version::of_octet(self.connect.version))
    }

    /// Does the peer know this secret? A name shorter than its field is hashed in two ways in the field; either will do.
    pub fn proves(&self, secret: &[u8]) -> bool {
        let Connect { source_addr, timestamp, authenticator_source, .. } = &self.connect;
        let made = |form| auth::source(source_addr.as_bytes(), secret, *timestamp, form).ct_eq(authenticator_source);
        (made(NameForm::Bare) | made(NameForm::Padded)).into()
    }

    /// Logs the peer in, and shows it that we know the secret as well.
    pub fn accept(self, secret: &[u8], version: Version, settings: Settings, now: Mono, out: &mut BytesMut) -> Bound {
        let status = ConnectStatus::OK;
        let ismg = auth::ismg(&status_octets(status, version), &self.connect.authenticator_source, secret);
        Pdu::connect_resp(self.sequence, status, ismg, version).encode(version, out);
        Bound { version, state: LinkState::new(settings, now), mistakes: 0 }
    }

    /// Does not; a status of 0 is written as "anything else".
    pub fn refuse(self, status: ConnectStatus, out: &mut BytesMut) {
        let status = if status == ConnectStatus::OK { ConnectStatus::OTHER } else { status };
        let version = self.version().unwrap_or(Version::V3);
        Pdu::connect_resp(self.sequence, status, [0; 16], version).encode(version, out);
    }
}

/// What a frame on a link means for whoever drives it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Event {
    /// The peer submits; answer with [`Bound::taken`] or [`Bound::refused`].
    Submission {
        /// For the answer.
        sequence: u32,
        /// The message.
        submit: Submit,
    },
    /// A DELIVER was answered; its slot is free again.
    Answer {
        /// The DELIVER.
        sequence: u32,
        /// How it went.
        result: SubmitResult,
    },
    /// The peer ends the link; it has its answer, and nothing more may be said.
    Terminated,
    /// Dealt with, or of no interest.
    Nothing,
}

/// A link on which somebody is logged in.
#[derive(Debug)]
pub struct Bound {
    version: Version,
    state: LinkState,
    mistakes: u32,
}

impl Bound {
    /// What is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`PeerFault::Mistakes`], [`PeerFault::Unreadable`].
    pub fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Event, PeerFault> {
        self.state.heard(now);
        let body = frame.body.clone();
        let pdu = match Pdu::decode(frame, self.version) {
            Ok(pdu) => pdu,
            Err(error) => return self.unreadable(error, &body, out),
        };
        let sequence = pdu.sequence();
        match pdu.into_body() {
            Body::Submit(submit) => return Ok(Event::Submission { sequence, submit }),
            Body::DeliverResp(_, result) => {
                return Ok(match self.state.answered(sequence)? {
                    Some(_late) => Event::Answer { sequence, result },
                    None => Event::Nothing,
                });
            }
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(self.version, out);
                return Ok(Event::Nothing);
            }
            Body::ActiveTestResp => return Ok(Event::Nothing),
            Body::Terminate => {
                Pdu::terminate_resp(sequence).encode(self.version, out);
                return Ok(Event::Terminated);
            }
            Body::Connect(_) => {
                Pdu::connect_resp(sequence, ConnectStatus::OTHER, [0; 16], self.version).encode(self.version, out);
            }
            Body::ConnectResp(_) | Body::TerminateResp | Body::SubmitResp(..) | Body::Deliver(_) => {}
        }
        self.mistaken()
    }

    fn unreadable(&mut self, error: PduError, body: &[u8], out: &mut BytesMut) -> Result<Event, PeerFault> {
        let sequence = error.sequence;
        match error.command_id {
            command::SUBMIT => Pdu::submit_refused(sequence, SubmitResult::BAD_STRUCTURE).encode(self.version, out),
            CANCEL => put_frame(out, CANCEL | command::RESPONSE, sequence, |out| match self.version {
                Version::V2 => out.put_u8(NOT_CANCELLED as u8),
                Version::V3 => out.put_u32(NOT_CANCELLED),
            }),
            QUERY if body.len() >= QUERY_ECHOED => put_frame(out, QUERY | command::RESPONSE, sequence, |out| {
                out.put_slice(&body[..QUERY_ECHOED]);
                out.put_bytes(0, QUERY_COUNTERS);
            }),
            _ => return Err(PeerFault::Unreadable(error)),
        }
        self.mistaken()
    }

    fn mistaken(&mut self) -> Result<Event, PeerFault> {
        self.mistakes += 1;
        if self.mistakes > MISTAKES_MAX { Err(PeerFault::Mistakes) } else { Ok(Event::Nothing) }
    }

    /// Answers a SUBMIT yes: only for whoever has taken responsibility for it. `msg_id` is what its report will name.
    pub fn taken(&mut self, sequence: u32, proof: &impl Responsibility, msg_id: MsgId, out: &mut BytesMut) {
        Pdu::submit_taken(sequence, proof, msg_id).encode(self.version, out);
    }

    /// Answers a SUBMIT no.
    pub fn refused(&mut self, sequence: u32, result: SubmitResult, out: &mut BytesMut) {
        Pdu::submit_refused(sequence, result).encode(self.version, out);
    }

    /// DELIVERs that may be sent now.
    pub fn free(&self) -> usize {
        self.state.free()
    }

    /// Brings a message or a report, and says under which sequence number its answer will come.
    ///
    /// # Errors
    /// [`WindowFull`]; then nothing was written.
    pub fn deliver(&mut self, deliver: Deliver, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        let sequence = self.state.admit(now)?;
        Pdu::deliver(sequence, deliver).encode(self.version, out);
        Ok(sequence)
    }

    /// Lets time pass: asks a silent peer whether it lives, and returns the DELIVERs whose answers are overdue now. Their
    /// slots stay taken until an answer comes.
    ///
    /// # Errors
    /// [`PeerFault::Silent`], [`PeerFault::AnswersMissing`].
    pub fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, PeerFault> {
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

    /// Ends the link; nothing can be delivered any more.
    pub fn terminate(mut self, out: &mut BytesMut) -> Terminating {
        let sequence = self.state.next_sequence();
        Pdu::terminate(sequence).encode(self.version, out);
        Terminating::new(sequence, self.version)
    }
}

#[cfg(test)]
mod tests;
