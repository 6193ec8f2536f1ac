//! Checking who a client is, without letting strangers spend our CPU.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Client, Clients};
use crate::clock::SharedClock;
use crate::model::Secret;

/// Why no client came of some credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialsError {
    /// Unknown name or key, or wrong password: never said which.
    Bad,
    /// This peer or this name failed too often lately; try again later.
    Limited,
    /// The pool that checks passwords is full; try again later.
    Busy,
}

/// Checks names with passwords, and API keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    #[allow(dead_code)]
    clients: Arc<ArcSwap<Clients>>,
}

impl Credentials {
    /// A checker over a table of clients that may be swapped while it runs.
    pub fn new(clients: Arc<ArcSwap<Clients>>, _clock: SharedClock) -> Self {
        Self { clients }
    }

    /// Checks a name and a password that `peer` sent.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn password(
        &self,
        _name: &str,
        _password: &Secret,
        _peer: IpAddr,
    ) -> Result<Arc<Client>, CredentialsError> {
        Err(CredentialsError::Bad)
    }

    /// Checks an API key that `peer` sent.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn api_key(&self, _key: &Secret, _peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        Err(CredentialsError::Bad)
    }
}
