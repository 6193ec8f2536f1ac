//! The message centre's side of a link: one type per state, a transition consumes the state before it.
//!
//! ```text
//! Open ──bind_*──▶ BindRequest ──accept──▶ Bound ──unbind──▶ Unbinding ──unbind_resp──▶ (closed)
//!   ▲                  │
//!   └──────refuse──────┘
//! ```
//!
//! **Promises.** Nothing is submitted before a bind, nor on a link that is bound to receive only: both are answered
//! `ESME_RINVBNDSTS`. Each request is answered by its own response, a refusal too. A positive `submit_sm_resp` or `data_sm_resp`
//! takes a [`Responsibility`]. What SMPP 5.0 has and 3.4 has not is said only to a peer that bound with it. [`Bound::deliver_sm`]
//! writes only where the link is bound to receive, and never more than the window is unanswered. Of windows, sequence numbers and
//! strays what `link_state` promises.
//!
//! **Does not know** sockets or clocks, passwords, nor what a text means: frames in, octets appended to `out`, time as an argument.
//!
//! **Fails how.** Commands that it does not know, and bodies that it cannot read, are answered; a peer that sends nothing but such
//! is given up ([`PeerFault`]).

use std::fmt;

use bytes::BytesMut;

use super::pdu::{Bind, Body, COctets, Pdu, PduError, ShortMessage};
use super::session::{Settings, WindowFull};
use super::status::CommandStatus;
use super::{Frame, Version, command};
use crate::clock::Mono;
use crate::model::Responsibility;
use crate::wire::link_state::{self, Broken, LinkState};

/// Requests that are none, and answers to nothing, that a link may bring before it is given up.
const MISTAKES_MAX: u32 = 1_000;

/// What a link is bound for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The peer submits.
    Transmitter,
    /// The peer receives.
    Receiver,
    /// Both.
    Transceiver,
}

impl Mode {
    fn of(command_id: u32) -> Option<Self> {
        Some(match command_id {
            command::BIND_TRANSMITTER => Self::Transmitter,
            command::BIND_RECEIVER => Self::Receiver,
            command::BIND_TRANSCEIVER => Self::Transceiver,
            _ => return None,
        })
    }

    /// The command that binds so.
    pub const fn command(self) -> u32 {
        match self {
            Self::Transmitter => command::BIND_TRANSMITTER,
            Self::Receiver => command::BIND_RECEIVER,
            Self::Transceiver => command::BIND_TRANSCEIVER,
        }
    }

    /// The peer may submit.
    pub const fn submits(self) -> bool {
        !matches!(self, Self::Receiver)
    }

    /// Messages are brought to the peer.
    pub const fn receives(self) -> bool {
        !matches!(self, Self::Transmitter)
    }
}

/// Why a link cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerFault {
    /// Nothing was heard, not even an answer to `enquire_link`.
    Silent,
    /// It answers `enquire_link` and no `deliver_sm`.
    AnswersMissing,
    /// Too much that makes no sense.
    Mistakes,
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "no answer to enquire_link",
            Self::AnswersMissing => "deliveries are not answered",
            Self::Mistakes => "too many commands that make no sense",
        })
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

/// A connection that is not bound.
#[derive(Debug, Default)]
pub struct Open {
    mistakes: u32,
}

/// What a frame made of an [`Open`].
#[derive(Debug)]
pub enum OpenStep {
    /// Still not bound.
    Open(Open),
    /// The peer asks to be bound.
    Bind(BindRequest),
    /// It unbinds; it has its answer, and nothing more may be said.
    Unbound,
}

impl Open {
    /// A fresh connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`PeerFault::Mistakes`].
    pub fn receive(mut self, frame: Frame, out: &mut BytesMut) -> Result<OpenStep, PeerFault> {
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => {
                answer_unreadable(error, out);
                return self.mistaken();
            }
        };
        let (command_id, sequence, response) = (pdu.command_id(), pdu.sequence(), pdu.is_response());
        match (pdu.into_body(), Mode::of(command_id)) {
            (Body::Bind(bind), Some(mode)) => {
                return Ok(OpenStep::Bind(BindRequest { open: self, mode, sequence, bind }));
            }
            // Some ask before they bind.
            (Body::EnquireLink, _) => Pdu::enquire_link_resp(sequence).encode(out),
            (Body::Unbind, _) => {
                Pdu::unbind_resp(sequence).encode(out);
                return Ok(OpenStep::Unbound);
            }
            (Body::SubmitSm(_) | Body::DataSm(_), _) => {
                Pdu::refused(command_id, sequence, CommandStatus::INVALID_BIND_STATUS).encode(out);
            }
            _ if response => {}
            _ => Pdu::generic_nack(sequence, CommandStatus::INVALID_COMMAND_ID).encode(out),
        }
        self.mistaken()
    }

    fn mistaken(&mut self) -> Result<OpenStep, PeerFault> {
        self.mistakes += 1;
        if self.mistakes > MISTAKES_MAX { Err(PeerFault::Mistakes) } else { Ok(OpenStep::Open(std::mem::take(self))) }
    }
}

/// Somebody wants to be bound; nothing is read from the link until that is decided.
#[derive(Debug)]
pub struct BindRequest {
    open: Open,
    mode: Mode,
    sequence: u32,
    bind: Bind,
}

impl BindRequest {
    /// What for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// By whom.
    pub fn bind(&self) -> &Bind {
        &self.bind
    }

    /// Binds; `system_id` says who we are. A peer of 5.0 is told that so are we.
    pub fn accept(self, system_id: COctets<16>, settings: Settings, now: Mono, out: &mut BytesMut) -> Bound {
        let version = Version::with_peer(self.bind.interface_version);
        let answer = Pdu::bind_resp(self.mode.command(), self.sequence, CommandStatus::OK, system_id);
        answer.with_version(version).encode(out);
        let settings = link_state::Settings {
            window: settings.window,
            active_test_interval: settings.enquire_interval,
            response_timeout: settings.response_timeout,
            active_tests_max: 1,
        };
        Bound { mode: self.mode, version, state: LinkState::new(settings, now), mistakes: 0 }
    }

    /// Does not; a status of 0 is written as `ESME_RBINDFAIL`.
    pub fn refuse(self, status: CommandStatus, out: &mut BytesMut) -> Open {
        let status = if status == CommandStatus::OK { CommandStatus::BIND_FAILED } else { status };
        Pdu::bind_resp(self.mode.command(), self.sequence, status, COctets::default()).encode(out);
        self.open
    }
}

/// A submission of the peer's, as far as its answer has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    command_id: u32,
    sequence: u32,
}

/// What a frame on a bound link means for whoever drives it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Event {
    /// The peer submits, by `submit_sm` or `data_sm`; answer with [`Bound::taken`] or [`Bound::refused`].
    Submission {
        /// For the answer.
        request: Request,
        /// The message.
        message: ShortMessage,
    },
    /// A delivery was answered; its slot is free again.
    Answer {
        /// The delivery.
        sequence: u32,
        /// How it went.
        status: CommandStatus,
    },
    /// The peer unbinds; it has its answer, and nothing more may be said.
    Unbound,
    /// Dealt with, or of no interest.
    Nothing,
}

/// A bound link.
#[derive(Debug)]
pub struct Bound {
    mode: Mode,
    version: Version,
    state: LinkState,
    mistakes: u32,
}

impl Bound {
    /// What it is bound for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`PeerFault::Mistakes`].
    pub fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Event, PeerFault> {
        self.state.heard(now);
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => {
                answer_unreadable(error, out);
                return self.mistaken();
            }
        };
        let (command_id, sequence, status) = (pdu.command_id(), pdu.sequence(), pdu.status());
        let response = pdu.is_response();
        let request = Request { command_id, sequence };
        match pdu.into_body() {
            Body::SubmitSm(_) | Body::DataSm(_) if !self.mode.submits() => {
                Pdu::refused(command_id, sequence, CommandStatus::INVALID_BIND_STATUS).encode(out);
            }
            Body::SubmitSm(message) | Body::DataSm(message) => return Ok(Event::Submission { request, message }),
            Body::DeliverSmResp => return self.answered(sequence, status),
            // A nack of status 0 would be a yes to something; it is not.
            Body::GenericNack if status == CommandStatus::OK => {
                return self.answered(sequence, CommandStatus::SYSTEM_ERROR);
            }
            Body::GenericNack => return self.answered(sequence, status),
            Body::EnquireLink => {
                Pdu::enquire_link_resp(sequence).encode(out);
                return Ok(Event::Nothing);
            }
            Body::EnquireLinkResp => return Ok(Event::Nothing),
            Body::Unbind => {
                Pdu::unbind_resp(sequence).encode(out);
                return Ok(Event::Unbound);
            }
            Body::Bind(_) => {
                Pdu::bind_resp(command_id, sequence, CommandStatus::ALREADY_BOUND, COctets::default()).encode(out);
            }
            _ if response => {}
            _ => Pdu::generic_nack(sequence, CommandStatus::INVALID_COMMAND_ID).encode(out),
        }
        self.mistaken()
    }

    fn answered(&mut self, sequence: u32, status: CommandStatus) -> Result<Event, PeerFault> {
        Ok(match self.state.answered(sequence)? {
            Some(_late) => Event::Answer { sequence, status },
            None => Event::Nothing,
        })
    }

    fn mistaken(&mut self) -> Result<Event, PeerFault> {
        self.mistakes += 1;
        if self.mistakes > MISTAKES_MAX { Err(PeerFault::Mistakes) } else { Ok(Event::Nothing) }
    }

    /// Answers a submission yes: only for whoever has taken responsibility for it. `message_id` is the id by which the peer will
    /// know it, `load` how near it is to being throttled, in percent; only a peer of 5.0 is told that.
    pub fn taken(
        &mut self,
        request: Request,
        proof: &impl Responsibility,
        message_id: COctets<65>,
        load: u8,
        out: &mut BytesMut,
    ) {
        let Request { command_id, sequence } = request;
        let answer = match command_id {
            command::DATA_SM => Pdu::data_sm_taken(sequence, proof, message_id),
            _ => Pdu::submit_sm_taken(sequence, proof, message_id),
        };
        self.remarked(answer, load).encode(out);
    }

    /// Answers a submission no; `load` as in [`Bound::taken`].
    pub fn refused(&mut self, request: Request, status: CommandStatus, load: u8, out: &mut BytesMut) {
        self.remarked(Pdu::refused(request.command_id, request.sequence, status), load).encode(out);
    }

    fn remarked(&self, answer: Pdu, load: u8) -> Pdu {
        if self.version == Version::V50 { answer.with_congestion_state(load) } else { answer }
    }

    /// Deliveries that may be sent now; none on a link that is not bound to receive.
    pub fn free(&self) -> usize {
        if self.mode.receives() { self.state.free() } else { 0 }
    }

    /// Deliveries that may still be answered in time.
    pub fn awaited(&self) -> usize {
        self.state.awaited()
    }

    /// Brings a message and says under which sequence number its answer will come.
    ///
    /// # Errors
    /// [`WindowFull`], also on a link that is not bound to receive; then nothing was written.
    pub fn deliver_sm(&mut self, message: ShortMessage, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        if !self.mode.receives() {
            return Err(WindowFull);
        }
        let sequence = self.state.admit(now)?;
        Pdu::deliver_sm(sequence, message).encode(out);
        Ok(sequence)
    }

    /// Lets time pass: asks a silent peer whether it lives, and returns the deliveries whose answers are overdue now. Their slots
    /// stay taken until an answer comes.
    ///
    /// # Errors
    /// [`PeerFault::Silent`], [`PeerFault::AnswersMissing`].
    pub fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, PeerFault> {
        let tick = self.state.tick(now)?;
        if let Some(sequence) = tick.ask {
            Pdu::enquire_link(sequence).encode(out);
        }
        Ok(tick.overdue)
    }

    /// When [`Bound::tick`] wants to be called next.
    pub fn wakeup(&self) -> Mono {
        self.state.wakeup()
    }

    /// Asks to be unbound. Whoever drives the link has answered what was submitted, or never will.
    pub fn unbind(mut self, out: &mut BytesMut) -> Unbinding {
        let sequence = self.state.next_sequence();
        Pdu::unbind(sequence).encode(out);
        Unbinding { sequence }
    }
}

/// A link on which we have asked to be unbound: submissions are not taken any more, and not answered.
#[derive(Debug)]
pub struct Unbinding {
    sequence: u32,
}

impl Unbinding {
    /// Takes a frame; true once the link may be closed.
    pub fn receive(&self, frame: &Frame, out: &mut BytesMut) -> bool {
        match frame.command_id {
            command::UNBIND => {
                Pdu::unbind_resp(frame.sequence).encode(out);
                true
            }
            id if id == command::UNBIND | command::RESPONSE || id == command::GENERIC_NACK => {
                frame.sequence == self.sequence
            }
            _ => false,
        }
    }
}

fn answer_unreadable(error: PduError, out: &mut BytesMut) {
    let PduError { command_id, sequence, .. } = error;
    // Nobody is answered an answer.
    if command_id & command::RESPONSE == 0 {
        Pdu::refused(command_id, sequence, CommandStatus::INVALID_COMMAND_LENGTH).encode(out);
    }
}

#[cfg(test)]
mod tests;
