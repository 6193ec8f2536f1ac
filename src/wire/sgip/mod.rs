//! SGIP 1.2 as a service provider (SP) speaks it, sans-I/O: bytes in, PDUs, answers and events out.
//!
//! **What.** [`frame`] is its header and its framing, [`sequence`] what joins requests and answers and names messages, [`pdu`]
//! gives PDUs types, [`result`] gives results and a report's error codes a meaning, [`session`] is the SP's side of the two kinds
//! of links, one type per state: those it makes to submit, and those that the gateway makes to it, to deliver and to report.
//!
//! **Promises.** No input panics and none makes a buffer grow past [`SGIP_PDU_BYTES_MAX`](crate::limits::SGIP_PDU_BYTES_MAX)
//! and one read. A positive SUBMIT_RESP can be written only by whoever holds a
//! [`Responsibility`](crate::model::Responsibility). Passwords, which travel in clear, are not shown.
//!
//! **Does not know** sockets, clocks, disk or what a text means.
//!
//! **Fails how.** A length that cannot be true, a command nobody knows or an answer that cannot be read ends the link, since
//! whatever follows is not to be trusted. A DELIVER or a REPORT that cannot be read is answered so.
//!
//! S12 is "Short Message Gateway Interface Protocol 1.2" of China Unicom.

pub mod frame;
pub mod pdu;
pub mod result;
pub mod sequence;
pub mod session;

pub use super::gateway::{Octets, msg_fmt, time};
pub use frame::{Frame, FrameError, Framer};
pub use pdu::{Bind, Body, Deliver, Pdu, PduError, Report, Submit};
pub use result::SgipResult;
pub use sequence::{Sequence, Sequences};

/// Command ids. An answer's id is its request's with the highest bit set.
pub mod command {
    /// BIND.
    pub const BIND: u32 = 0x01;
    /// UNBIND.
    pub const UNBIND: u32 = 0x02;
    /// SUBMIT.
    pub const SUBMIT: u32 = 0x03;
    /// DELIVER.
    pub const DELIVER: u32 = 0x04;
    /// REPORT.
    pub const REPORT: u32 = 0x05;
    /// USERRPT: what handsets' owners are told.
    pub const USERRPT: u32 = 0x11;
    /// TRACE: where a message went.
    pub const TRACE: u32 = 0x1000;
    /// What every answer's id has.
    pub const RESPONSE: u32 = 0x8000_0000;
}

/// `Login_Type` of a BIND.
pub mod login_type {
    /// The SP binds to the gateway.
    pub const SP: u8 = 1;
    /// The gateway binds to the SP.
    pub const GATEWAY: u8 = 2;
}

/// `ReportFlag` of a SUBMIT: a report of failure alone is 0, no report is 2.
pub const REPORT_ALWAYS: u8 = 1;
