//! Carrying texts: one [`Carrier`] is one account at a carrier, over one or more links, by SMPP, CMPP, SMGP or SGIP.
//!
//! **Promises.**
//! - Nothing leaves before its attempt is durable: [`Carrier::carry`] demands an
//!   [`AttemptBegun`](crate::model::AttemptBegun).
//! - Never more than `window` submissions are unanswered on a bind; never more than `rate` parts a second leave over all
//!   binds; a carrier that says "throttled" is obeyed at once and trusted again slowly.
//! - Each part's fate is told apart: taken, refused, not sent (safe to send again), or sent without an answer (unknown).
//!   A part counts as sent as soon as its first octet may have reached the socket.
//! - A receipt is answered yes only after [`Inbound::receipt`] said that it is durable; until then the carrier keeps it.
//!   Receipts are taken concurrently, so that one sync serves many.
//! - So is a message from a handset, or a part of one, and [`Inbound::handset`].
//!
//! **Does not know** the queue, routing between carriers or retry times.
//!
//! **Fails how.** A link that breaks is made again with growing, jittered pauses; what it left unanswered is reported by
//! the attempts concerned. Panics on nothing a carrier says.
//!
//! Joined here: `options`, `message` (envelope → parts), `handset` (what comes back), `pace` (rate), `slots` (windows), `dial`
//! (connect, bind, again), `callback` (where carriers come to us), `link` (one bound connection), `outcome` (answers → outcome), `carrier` (the handle), and `protocol`,
//! behind which SMPP, CMPP, SMGP and SGIP are: none of the others knows which of them is spoken. `http` is for carriers that are asked
//! by HTTP, which have requests for links.

mod callback;
mod carrier;
mod dial;
mod handset;
pub mod http;
mod link;
mod message;
mod options;
mod outcome;
mod pace;
mod protocol;
mod registered;
mod slots;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use callback::CallbackListener;
pub use carrier::{Carrier, Carriers, Permit};
pub use handset::HandsetMessage;
pub use options::{
    Callback, Cmpp, Extra, Filling, Logins, LongTexts, Options, OptionsError, Protocol, Sgip, Smgp, Smpp, Tls, Validity,
};
pub use registered::Registered;

use crate::model::Receipt;

/// Where what carriers bring goes.
pub trait Inbound: Send + Sync {
    /// Takes a receipt; returns once it is durable or known to concern no message of ours.
    ///
    /// # Errors
    /// [`InboundError`]; the carrier is told to bring it again.
    fn receipt(&self, receipt: Receipt) -> Taking<'_>;

    /// Takes a message from a handset, or a part of one; returns once it is durable.
    ///
    /// # Errors
    /// [`InboundError`]; the carrier is told to bring it again.
    fn handset(&self, message: HandsetMessage) -> Taking<'_>;
}

/// Something is being made durable.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<(), InboundError>> + Send + 'a>>;

/// Why a receipt or a message from a handset was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InboundError {
    /// No room now: answered `ESME_RX_T_APPN`, result 8 in CMPP, status 1 in SMGP, result 11 in SGIP.
    Busy,
    /// Storage has failed or the relay is stopping: answered `ESME_RSYSERR`, result 9 in CMPP, status 1 in SMGP, result 11 in SGIP.
    Unavailable,
}

impl fmt::Display for InboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "no room for it now",
            Self::Unavailable => "it cannot be stored",
        })
    }
}

impl std::error::Error for InboundError {}

#[cfg(test)]
mod tests;
