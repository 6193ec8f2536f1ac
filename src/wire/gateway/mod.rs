//! What the protocols of China's message gateways have in common: CMPP, SMGP, which was made after it, and SGIP.
//!
//! **What.** [`octets`] are their fields of fixed width, [`time`] how they write times, [`msg_fmt`] their alphabets. CMPP and SMGP
//! also share [`frame`], their header and its framing, [`auth`], how both sides of a login prove that they know the secret, and
//! [`PduError`], what is wrong with a PDU.
//!
//! **Does not know** which of them is spoken: names of fields and widths come from above.

pub mod auth;
mod fault;
pub mod frame;
pub mod octets;
pub mod time;

pub use fault::{Fault, PduError};
pub use frame::{Frame, FrameError, Framer};
pub use octets::Octets;

/// Alphabets: CMPP's `Msg_Fmt`, SMGP's `MsgFormat`.
pub mod msg_fmt {
    /// ASCII.
    pub const ASCII: u8 = 0;
    /// Binary.
    pub const BINARY: u8 = 4;
    /// UCS-2: UTF-16, big-endian.
    pub const UCS2: u8 = 8;
    /// GBK.
    pub const GBK: u8 = 15;
}
