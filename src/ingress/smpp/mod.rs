//! SMPP in: applications bind as ESMEs (SMPP 3.4 or 5.0), submit texts, and are brought receipts and what handsets answer.
//!
//! **What.** Links, limits and all that is not SMPP's own is [`bound`](super::bound)'s; here a
//! [`wire::smpp::server`](crate::wire::smpp::server) session is put into its words (`link`), `reading` reads a `submit_sm` or `data_sm`,
//! `delivering` writes a `deliver_sm`.
//!
//! **Promises.** Nobody submits without a bind that a password or API key was right for. A submission beyond a limit is answered
//! `ESME_RTHROTTLED`.

pub(super) mod delivering;
mod link;
mod reading;
#[cfg(test)]
mod tests;

use self::link::Smpp;
use super::bound::Server;

/// A listener for SMPP, bound.
pub type SmppServer = Server<Smpp>;
