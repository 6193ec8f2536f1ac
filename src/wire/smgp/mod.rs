//! SMGP 3.0 and 1.3 as a service provider (SP) speaks it, sans-I/O: bytes in, PDUs, answers and events out.
//!
//! **What.** [`pdu`] gives PDUs types in the layout of a [`Version`], [`report`] reads and writes what a DELIVER brings as a
//! status report, [`msg_id`] is what a report names, [`auth`] makes the authenticators of a login, [`status`] gives statuses a
//! meaning, [`session`] is the SP's side of a link, one type per state. Framing, fields and times are
//! [`gateway`](super::gateway)'s.
//!
//! **Promises.** No input panics and none makes a buffer grow past
//! [`GATEWAY_PDU_BYTES_MAX`](crate::limits::GATEWAY_PDU_BYTES_MAX) and one read. A positive SUBMIT_RESP can be written only by
//! whoever holds a [`Responsibility`](crate::model::Responsibility). All times are China's, UTC+8, whatever the host's zone is.
//!
//! **Does not know** sockets, clocks, disk or what a text means.
//!
//! **Fails how.** SMGP has no answer that says "not understood": a length that cannot be true, a command nobody knows or an
//! answer that cannot be read ends the link, since whatever follows is not to be trusted. Only a DELIVER that cannot be read
//! has an answer of its own. FORWARD and QUERY, which gateways use among themselves, are known by name and passed over.
//!
//! M3 is "China Telecom Short Message Gateway Protocol 3.0" (SMGP), with those of its traps that its users have found.

pub mod auth;
pub mod msg_id;
pub mod pdu;
pub mod report;
pub mod session;
pub mod status;

pub use super::gateway::{Frame, FrameError, Framer, Octets, msg_fmt, time};
pub use msg_id::MsgId;
pub use pdu::{Body, Deliver, Login, LoginResp, Parts, Pdu, PduError, Submit};
pub use report::Report;
pub use status::Status;

/// Which layout PDUs have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// 1.3, whose SUBMIT has no FixedFee.
    V13,
    /// 3.0, and whatever else there is.
    V30,
}

impl Version {
    /// As LOGIN says it.
    pub const fn octet(self) -> u8 {
        match self {
            Self::V13 => 0x13,
            Self::V30 => 0x30,
        }
    }

    /// By the octet of a LOGIN.
    pub const fn of_octet(octet: u8) -> Self {
        if octet == 0x13 { Self::V13 } else { Self::V30 }
    }
}

/// What a link is for, said at the login. Gateways refuse what the account was not set up for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoginMode {
    /// The SP submits.
    Send,
    /// The gateway delivers.
    Receive,
    /// Both.
    Both,
}

impl LoginMode {
    /// As LOGIN says it.
    pub const fn octet(self) -> u8 {
        match self {
            Self::Send => 0,
            Self::Receive => 1,
            Self::Both => 2,
        }
    }

    /// By the octet of a LOGIN; `None` for one that means nothing.
    pub const fn of_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Self::Send),
            1 => Some(Self::Receive),
            2 => Some(Self::Both),
            _ => None,
        }
    }

    /// True if the SP may submit.
    pub const fn submits(self) -> bool {
        !matches!(self, Self::Receive)
    }

    /// True if the gateway may deliver.
    pub const fn receives(self) -> bool {
        !matches!(self, Self::Send)
    }
}

/// Command ids. An answer's id is its request's with the highest bit set.
pub mod command {
    /// LOGIN.
    pub const LOGIN: u32 = 0x01;
    /// SUBMIT.
    pub const SUBMIT: u32 = 0x02;
    /// DELIVER.
    pub const DELIVER: u32 = 0x03;
    /// ACTIVE_TEST.
    pub const ACTIVE_TEST: u32 = 0x04;
    /// FORWARD, between gateways.
    pub const FORWARD: u32 = 0x05;
    /// EXIT.
    pub const EXIT: u32 = 0x06;
    /// QUERY: of a gateway's counts.
    pub const QUERY: u32 = 0x07;
    /// What every answer's id has.
    pub const RESPONSE: u32 = 0x8000_0000;
}

/// `MsgType` of a message to a handset, as an SP submits it.
pub const MSG_TYPE_MT: u8 = 6;
