//! The authenticators of a login: MD5 of what both sides know, and the time.
//!
//! **Does not know** whether MD5 is worth anything; the protocols have nothing else.

use bytes::{Buf, Bytes};
use md5::{Digest, Md5};

use super::time::LoginTime;
use crate::wire::FieldError;

/// An authenticator.
pub type Authenticator = [u8; 16];

/// More NULs than any protocol hashes in a row.
const ZEROS: [u8; 16] = [0; 16];

/// How a name shorter than its field is hashed. Implementations differ; at full length there is no difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NameForm {
    /// As it is.
    #[default]
    Bare,
    /// With the NULs of its field.
    Padded,
}

/// What a protocol hashes.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Recipe {
    /// Width of the name's field; at most 16.
    pub(in crate::wire) name_octets: usize,
    /// NULs between name and secret; at most 16.
    pub(in crate::wire) zeros: usize,
}

impl Recipe {
    /// Who we are to the gateway.
    pub(in crate::wire) fn client(self, name: &[u8], secret: &[u8], time: LoginTime, form: NameForm) -> Authenticator {
        let padding = match form {
            NameForm::Bare => 0,
            NameForm::Padded => self.name_octets.saturating_sub(name.len()),
        };
        let mut hash = Md5::new();
        hash.update(name);
        hash.update(&ZEROS[..padding]);
        hash.update(&ZEROS[..self.zeros]);
        hash.update(secret);
        hash.update(time.to_string());
        hash.finalize().into()
    }
}

/// Who the gateway is to us: `status` as it stands in its answer, and what we sent.
pub(in crate::wire) fn server(status: &[u8], client: &Authenticator, secret: &[u8]) -> Authenticator {
    let mut hash = Md5::new();
    hash.update(status);
    hash.update(client);
    hash.update(secret);
    hash.finalize().into()
}

/// Reads one.
pub(in crate::wire) fn read(field: &'static str, body: &mut Bytes) -> Result<Authenticator, FieldError> {
    let mut octets = [0; 16];
    body.try_copy_to_slice(&mut octets).map_err(|_| FieldError { field })?;
    Ok(octets)
}
