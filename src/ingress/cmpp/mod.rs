//! CMPP in: applications log in as service providers (CMPP 2.0 and 3.0), submit texts, and are brought reports and what handsets
//! answer.
//!
//! **What.** Links, limits and all that is not CMPP's own is [`bound`](super::bound)'s; here a
//! [`wire::cmpp::server`](crate::wire::cmpp::server) session is put into its words (`link`), `reading` reads a SUBMIT, `delivering`
//! writes a DELIVER.
//!
//! **Promises.** Nobody submits without a login that proves the secret. A Msg_Id is given once a year, also over crashes. A submission
//! beyond a limit has result 8 (flow control).

mod delivering;
mod link;
mod reading;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::link::Cmpp;
use super::bound::{Options, Parties, Server, Shared, Speaks};
use crate::storage::Disk;

/// A listener for CMPP, bound.
pub type CmppServer = Server<Cmpp>;

/// What all listeners have in common; see [`Shared`].
///
/// # Errors
/// The disk's.
pub fn open(
    disk: Arc<dyn Disk>,
    parts: &Path,
    options: Arc<ArcSwap<Options>>,
    parties: Parties,
) -> io::Result<Arc<Shared>> {
    Shared::open(Speaks::Cmpp, disk, parts, options, parties)
}
