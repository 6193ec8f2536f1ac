//! The ESME's side of a link: one type per state, a transition consumes the state before it.
//!
//! ```text
//! Open ──bind──▶ Binding<M> ──bind_resp──▶ Bound<M> ──unbind──▶ Unbinding ──unbind_resp──▶ (closed)
//! ```
//!
//! `M` is how the link is bound: [`Bound::submit_sm`] exists only where `M` may submit.
//!
//! **Promises.** Those of `link_state` on windows, sequence numbers and strays.
//!
//! **Does not know** sockets or clocks: frames in, octets appended to `out`, time as an argument;
//! [`Bound::wakeup`] says when [`Bound::tick`] wants to be called.
//!
//! **Fails how.** A [`LinkFault`] ends the link; whoever drives it closes the connection and settles what is unanswered.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::BytesMut;

use super::pdu::{Bind, Body, COctets, Pdu, PduError, ShortMessage, SubmitSmResp};
use super::status::CommandStatus;
use super::{Frame, command};
use crate::clock::Mono;
pub use crate::wire::link_state::WindowFull;
use crate::wire::link_state::{self, Broken, LinkState};

/// What a link is allowed and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most submissions unanswered at a time; at least 1.
    pub window: usize,
    /// A link on which nothing was heard for so long is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
}

/// How a link is bound.
pub trait Mode: sealed::Sealed + Send + 'static {
    /// The request that binds it so.
    const COMMAND: u32;
}

/// A mode in which messages may be submitted.
pub trait Submits: Mode {}

/// Submits and receives.
#[derive(Debug)]
pub struct Transceiver;
/// Submits only.
#[derive(Debug)]
pub struct Transmitter;
/// Receives only.
#[derive(Debug)]
pub struct Receiver;

impl Mode for Transceiver {
    const COMMAND: u32 = command::BIND_TRANSCEIVER;
}
impl Mode for Transmitter {
    const COMMAND: u32 = command::BIND_TRANSMITTER;
}
impl Mode for Receiver {
    const COMMAND: u32 = command::BIND_RECEIVER;
}
impl Submits for Transceiver {}
impl Submits for Transmitter {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Transceiver {}
    impl Sealed for super::Transmitter {}
    impl Sealed for super::Receiver {}
}

/// Why a link cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// The carrier refused the bind.
    BindRefused(CommandStatus),
    /// No answer to the bind.
    BindUnanswered,
    /// Something other than an answer to the bind came before one.
    NotBound {
        /// Its command id.
        command_id: u32,
    },
    /// Nothing was heard, not even an answer to `enquire_link`.
    Silent,
    /// The carrier answers `enquire_link` but no submission.
    AnswersMissing,
    /// Too many answers to nothing we sent.
    Strays,
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BindRefused(status) => write!(f, "bind refused: {status}"),
            Self::BindUnanswered => f.write_str("no answer to the bind"),
            Self::NotBound { command_id } => write!(f, "command 0x{command_id:08X} before the bind was answered"),
            Self::Silent => f.write_str("no answer to enquire_link"),
            Self::AnswersMissing => f.write_str("submissions are not answered"),
            Self::Strays => f.write_str("too many answers to requests never made"),
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

    /// Asks to be bound; the carrier has until `deadline`.
    pub fn bind<M: Mode>(self, bind: Bind, deadline: Mono, out: &mut BytesMut) -> Binding<M> {
        Pdu::bind(M::COMMAND, 1, bind).encode(out);
        Binding { settings: self.settings, deadline, mode: PhantomData }
    }
}

/// A session whose bind is not answered yet.
#[derive(Debug)]
pub struct Binding<M> {
    settings: Settings,
    deadline: Mono,
    mode: PhantomData<M>,
}

/// What a frame made of a [`Binding`].
#[derive(Debug)]
pub enum BindStep<M> {
    /// Still waiting.
    Binding(Binding<M>),
    /// Bound.
    Bound(Bound<M>),
}

impl<M: Mode> Binding<M> {
    /// When waiting ends.
    pub fn deadline(&self) -> Mono {
        self.deadline
    }

    /// Takes a frame from the carrier.
    ///
    /// # Errors
    /// [`LinkFault::BindRefused`], [`LinkFault::NotBound`].
    pub fn receive(self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<BindStep<M>, LinkFault> {
        let status = CommandStatus(frame.command_status);
        match (frame.command_id, frame.sequence) {
            (id, 1) if id == M::COMMAND | command::RESPONSE || id == command::GENERIC_NACK => {
                if status != CommandStatus::OK || id == command::GENERIC_NACK {
                    return Err(LinkFault::BindRefused(status));
                }
                // Whatever else stands in the answer, it is a yes.
                let version = match Pdu::decode(frame).map(Pdu::into_body) {
                    Ok(Body::BindResp(resp)) => resp.version(),
                    _ => None,
                };
                Ok(BindStep::Bound(Bound::new(self.settings, version, now)))
            }
            // Some carriers ask before they answer.
            (command::ENQUIRE_LINK, sequence) => {
                Pdu::enquire_link_resp(sequence).encode(out);
                Ok(BindStep::Binding(self))
            }
            (command_id, _) => Err(LinkFault::NotBound { command_id }),
        }
    }
}

/// What a frame on a bound link means for whoever drives it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Event {
    /// A submission was answered; its slot is free again.
    Answer {
        /// The submission.
        sequence: u32,
        /// How it went.
        status: CommandStatus,
        /// The carrier's id for it; empty where it was refused or gave none.
        message_id: COctets<65>,
        /// How full the carrier says it is, in percent (SMPP 5.0).
        congestion: Option<u8>,
        /// True if it had been given up as overdue before.
        late: bool,
    },
    /// The carrier brings a message or a receipt; answer with [`Bound::answer_delivery`].
    Delivery {
        /// For the answer.
        sequence: u32,
        /// The message.
        message: ShortMessage,
    },
    /// The carrier unbinds; it has its answer, and nothing more may be said.
    Unbound,
    /// Dealt with, or of no interest.
    Nothing,
}

/// A bound session.
#[derive(Debug)]
pub struct Bound<M> {
    state: LinkState,
    version: Option<u8>,
    mode: PhantomData<M>,
}

impl<M: Submits> Bound<M> {
    /// Submits a message and says under which sequence number its answer will come.
    ///
    /// # Errors
    /// [`WindowFull`]; then nothing was written.
    pub fn submit_sm(&mut self, message: ShortMessage, now: Mono, out: &mut BytesMut) -> Result<u32, WindowFull> {
        let sequence = self.state.admit(now)?;
        Pdu::submit_sm(sequence, message).encode(out);
        Ok(sequence)
    }

    /// Slots free.
    pub fn free(&self) -> usize {
        self.state.free()
    }
}

impl<M: Mode> Bound<M> {
    /// Submissions that may still be answered in time.
    pub fn awaited(&self) -> usize {
        self.state.awaited()
    }

    /// The version that the carrier said it speaks, in the octet of `interface_version`.
    pub fn version(&self) -> Option<u8> {
        self.version
    }

    fn new(settings: Settings, version: Option<u8>, now: Mono) -> Self {
        let settings = link_state::Settings {
            window: settings.window,
            active_test_interval: settings.enquire_interval,
            response_timeout: settings.response_timeout,
            active_tests_max: 1,
        };
        Self { state: LinkState::new(settings, now), version, mode: PhantomData }
    }

    /// Takes a frame from the carrier.
    ///
    /// # Errors
    /// [`LinkFault::Strays`].
    pub fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Event, LinkFault> {
        self.state.heard(now);
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => return self.unreadable(error, out),
        };
        let (command_id, sequence, status) = (pdu.command_id(), pdu.sequence(), pdu.status());
        let response = pdu.is_response();
        match pdu.into_body() {
            Body::SubmitSmResp(resp) => self.answered(sequence, status, resp),
            // A nack of status 0 would be a yes to something; it is not.
            Body::GenericNack if status == CommandStatus::OK => {
                self.answered(sequence, CommandStatus::SYSTEM_ERROR, SubmitSmResp::default())
            }
            Body::GenericNack => self.answered(sequence, status, SubmitSmResp::default()),
            Body::DeliverSm(message) => Ok(Event::Delivery { sequence, message }),
            Body::EnquireLink => {
                Pdu::enquire_link_resp(sequence).encode(out);
                Ok(Event::Nothing)
            }
            Body::EnquireLinkResp => Ok(Event::Nothing),
            Body::Unbind => {
                Pdu::unbind_resp(sequence).encode(out);
                Ok(Event::Unbound)
            }
            _ if response => self.stray(),
            _ if command_id == command::ALERT_NOTIFICATION => Ok(Event::Nothing),
            _ => {
                Pdu::generic_nack(sequence, CommandStatus::INVALID_COMMAND_ID).encode(out);
                Ok(Event::Nothing)
            }
        }
    }

    /// Answers a delivery.
    pub fn answer_delivery(&mut self, sequence: u32, status: CommandStatus, out: &mut BytesMut) {
        Pdu::deliver_sm_resp(sequence, status).encode(out);
    }

    /// Lets time pass: asks a silent carrier whether it lives, and returns the submissions whose answers are overdue now.
    /// Their slots stay taken until an answer comes.
    ///
    /// # Errors
    /// [`LinkFault::Silent`], [`LinkFault::AnswersMissing`].
    pub fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, LinkFault> {
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

    /// Asks to be unbound; nothing can be submitted any more.
    pub fn unbind(mut self, out: &mut BytesMut) -> Unbinding {
        let sequence = self.state.next_sequence();
        Pdu::unbind(sequence).encode(out);
        Unbinding { sequence }
    }

    fn answered(&mut self, sequence: u32, status: CommandStatus, resp: SubmitSmResp) -> Result<Event, LinkFault> {
        let Some(late) = self.state.answered(sequence)? else { return Ok(Event::Nothing) };
        let congestion = resp.congestion_state();
        Ok(Event::Answer { sequence, status, message_id: resp.message_id, congestion, late })
    }

    fn unreadable(&mut self, error: PduError, out: &mut BytesMut) -> Result<Event, LinkFault> {
        if error.command_id == command::SUBMIT_SM | command::RESPONSE {
            // The status could be read: the message was taken, under an id that we cannot know.
            return self.answered(error.sequence, error.status, SubmitSmResp::default());
        }
        if error.command_id & command::RESPONSE != 0 {
            return self.stray();
        }
        Pdu::generic_nack(error.sequence, CommandStatus::INVALID_COMMAND_LENGTH).encode(out);
        Ok(Event::Nothing)
    }

    fn stray(&mut self) -> Result<Event, LinkFault> {
        self.state.stray()?;
        Ok(Event::Nothing)
    }
}

/// A session that has asked to be unbound. Deliveries are no longer taken: unanswered, they will be brought again.
#[derive(Debug)]
pub struct Unbinding {
    sequence: u32,
}

impl Unbinding {
    /// Takes a frame; true once the link may be closed.
    pub fn receive(&self, frame: &Frame, out: &mut BytesMut) -> bool {
        match frame.command_id {
            command::ENQUIRE_LINK => Pdu::enquire_link_resp(frame.sequence).encode(out),
            command::UNBIND => {
                Pdu::unbind_resp(frame.sequence).encode(out);
                return true;
            }
            id if id == command::UNBIND | command::RESPONSE || id == command::GENERIC_NACK => {
                return frame.sequence == self.sequence;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests;
