//! CMPP 2.0 and 3.0, sans-I/O: bytes in, PDUs, answers and events out.
//!
//! **What.** [`pdu`] gives PDUs types in the layout of a [`Version`], [`report`] reads and writes what a DELIVER brings as a
//! status report, [`msg_id`] is what a report names, [`auth`] makes the authenticators of a login, [`result`] gives statuses
//! and results a meaning, [`session`] is the side of a link of the service provider (SP), [`server`] the gateway's, one type per
//! state. Framing, fields and times are
//! [`gateway`](super::gateway)'s.
//!
//! **Promises.** No input panics and none makes a buffer grow past [`GATEWAY_PDU_BYTES_MAX`](crate::limits::GATEWAY_PDU_BYTES_MAX)
//! and one read. A positive SUBMIT_RESP can be written only by whoever holds a
//! [`Responsibility`](crate::model::Responsibility). All times are China's, UTC+8, whatever the host's zone is.
//!
//! **Does not know** sockets, clocks, disk or what a text means.
//!
//! **Fails how.** CMPP has no answer that says "not understood": a length that cannot be true, a command nobody knows or an
//! answer that cannot be read ends the link, since whatever follows is not to be trusted. Only a DELIVER that cannot be read
//! has an answer of its own.
//!
//! Section numbers are those of "China Mobile Peer to Peer 3.0.0", QB-GF-028-2003 (C3), whose revision history says what
//! 2.0 had instead.

pub mod auth;
pub mod msg_id;
pub mod pdu;
pub mod report;
pub mod result;
pub mod server;
pub mod session;

pub use super::gateway::{Frame, FrameError, Framer, Octets, msg_fmt, time};
pub use msg_id::MsgId;
pub use pdu::{Body, Connect, ConnectResp, Deliver, Pdu, PduError, Submit};
pub use report::Report;
pub use result::{ConnectStatus, SubmitResult};

/// Which layout PDUs have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// 2.0; 2.1 has the same layouts.
    V2,
    /// 3.0.
    V3,
}

impl Version {
    /// As CONNECT says it (C3 section 8.4.1.1).
    pub const fn octet(self) -> u8 {
        match self {
            Self::V2 => 0x20,
            Self::V3 => 0x30,
        }
    }

    /// By the octet of a CONNECT: the layouts follow the high digit.
    pub const fn of_octet(octet: u8) -> Self {
        if octet >= 0x30 { Self::V3 } else { Self::V2 }
    }
}

/// Command ids (C3 section 8.3). An answer's id is its request's with the highest bit set.
pub mod command {
    /// CONNECT.
    pub const CONNECT: u32 = 0x01;
    /// TERMINATE.
    pub const TERMINATE: u32 = 0x02;
    /// SUBMIT.
    pub const SUBMIT: u32 = 0x04;
    /// DELIVER.
    pub const DELIVER: u32 = 0x05;
    /// ACTIVE_TEST.
    pub const ACTIVE_TEST: u32 = 0x08;
    /// What every answer's id has.
    pub const RESPONSE: u32 = 0x8000_0000;
}
