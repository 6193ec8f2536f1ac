//! CMPP in: applications log in as service providers (CMPP 2.0 and 3.0), submit texts, and are brought reports and what handsets
//! answer.
//!
//! **What.** Links, limits and all that is not CMPP's own is [`bound`](super::bound)'s; here a
//! [`wire::cmpp::server`](crate::wire::cmpp::server) session is put into its words (`link`), `reading` reads a SUBMIT, `delivering`
//! writes a DELIVER, `longs` knows which of them are one reply.
//!
//! **Promises.** Nobody submits without a login that proves the secret. A Msg_Id is given once a year, also over crashes. A submission
//! beyond a limit has result 8 (flow control).

mod delivering;
mod link;
mod longs;
mod reading;
#[cfg(test)]
mod tests;

use self::link::Cmpp;
use super::bound::Server;

/// A listener for CMPP, bound.
pub type CmppServer = Server<Cmpp>;
