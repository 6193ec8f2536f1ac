//! SMPP 3.4, and of 5.0 what submitting takes and being submitted to, sans-I/O: bytes in, PDUs, answers and events out.
//!
//! **What.** [`frame`] cuts a byte stream into PDUs, [`pdu`] gives them types, [`status`] gives `command_status` a meaning,
//! [`session`] is the ESME's side of a link and [`server`] the message centre's, one type per state.
//!
//! **Promises.** No input panics and none makes a buffer grow past [`SMPP_PDU_BYTES_MAX`](crate::limits::SMPP_PDU_BYTES_MAX)
//! and one read. A positive `submit_sm_resp` can be written only by whoever holds a
//! [`Responsibility`](crate::model::Responsibility). `submit_sm` exists only on a session that is bound to submit, and
//! never more than its window is unanswered.
//!
//! **Does not know** sockets, clocks, disk or what a text means.
//!
//! **Fails how.** A PDU that cannot be read is answered with `generic_nack`; a length that cannot be true ends the link,
//! since nothing behind it can be found.
//!
//! Section numbers are those of "SMPP Protocol Specification v3.4, Issue 1.2" (P34); those of version 5.0 are marked P50.

pub mod frame;
pub mod pdu;
pub mod server;
pub mod session;
pub mod status;
pub mod tlv;

pub use super::tlv::Tlv;
pub use frame::{Frame, FrameError, Framer};
pub use pdu::{Address, Bind, BindResp, Body, COctets, Pdu, PduError, Segment, ShortMessage, SubmitSmResp};
pub use status::CommandStatus;

/// The version that a side speaks, as binds and their answers say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// 3.4.
    #[default]
    V34,
    /// 5.0.
    V50,
}

impl Version {
    /// `interface_version`.
    pub const fn octet(self) -> u8 {
        match self {
            Self::V34 => 0x34,
            Self::V50 => 0x50,
        }
    }

    /// What to speak with a peer that binds with this `interface_version`.
    pub const fn with_peer(interface_version: u8) -> Self {
        if interface_version >= Self::V50.octet() { Self::V50 } else { Self::V34 }
    }
}

/// Command ids (P34 section 5.1.2.1). An answer's id is its request's with the highest bit set.
pub mod command {
    /// `bind_receiver`.
    pub const BIND_RECEIVER: u32 = 0x01;
    /// `bind_transmitter`.
    pub const BIND_TRANSMITTER: u32 = 0x02;
    /// `submit_sm`.
    pub const SUBMIT_SM: u32 = 0x04;
    /// `deliver_sm`.
    pub const DELIVER_SM: u32 = 0x05;
    /// `unbind`.
    pub const UNBIND: u32 = 0x06;
    /// `bind_transceiver`.
    pub const BIND_TRANSCEIVER: u32 = 0x09;
    /// `enquire_link`.
    pub const ENQUIRE_LINK: u32 = 0x15;
    /// `alert_notification`, the one request without an answer.
    pub const ALERT_NOTIFICATION: u32 = 0x102;
    /// `data_sm`.
    pub const DATA_SM: u32 = 0x103;
    /// What every answer's id has.
    pub const RESPONSE: u32 = 0x8000_0000;
    /// `generic_nack`: an answer to no particular request.
    pub const GENERIC_NACK: u32 = RESPONSE;
}

/// Bits of `esm_class` (P34 section 5.2.12).
pub mod esm_class {
    /// The bits that say what kind of message it is.
    pub const TYPE: u8 = 0x3C;
    /// A delivery receipt.
    pub const RECEIPT: u8 = 0x04;
    /// An intermediate notification.
    pub const INTERMEDIATE: u8 = 0x20;
    /// The message starts with a user data header.
    pub const UDHI: u8 = 0x40;
}
