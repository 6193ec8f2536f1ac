//! SMPP in: applications bind as ESMEs (SMPP 3.4), submit texts, and are brought receipts and what handsets answer.
//!
//! **What.** Links, limits and all that is not SMPP's own is [`bound`](super::bound)'s; here a
//! [`wire::smpp::server`](crate::wire::smpp::server) session is put into its words (`link`), `reading` reads a `submit_sm`,
//! `delivering` writes a `deliver_sm`.
//!
//! **Promises.** Nobody submits without a bind that a password or API key was right for. A submission beyond a limit is answered
//! `ESME_RTHROTTLED`.

pub(super) mod delivering;
mod link;
mod reading;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::link::Smpp;
use super::bound::{Options, Parties, Server, Shared, Speaks};
use crate::storage::Disk;

/// A listener for SMPP, bound.
pub type SmppServer = Server<Smpp>;

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
    Shared::open(Speaks::Smpp, disk, parts, options, parties)
}
