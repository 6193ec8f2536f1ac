//! The authenticators of a login.

use crate::wire::gateway::auth::{self, Recipe};
pub use crate::wire::gateway::auth::{Authenticator, NameForm};

use super::Status;
use super::time::LoginTime;

/// ClientID has eight octets, and seven NULs follow it.
const RECIPE: Recipe = Recipe { name_octets: 8, zeros: 7 };

/// AuthenticatorClient: who we are to the gateway.
pub fn client(name: &[u8], secret: &[u8], time: LoginTime, form: NameForm) -> Authenticator {
    RECIPE.client(name, secret, time, form)
}

/// AuthenticatorServer: who the gateway is to us, with the four octets of its Status. Gateways differ in how many they hash.
pub fn server(status: Status, client: &Authenticator, secret: &[u8]) -> Authenticator {
    auth::server(&status.0.to_be_bytes(), client, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn the_reference_vector_holds() {
        // 1 March, midnight: the number has nine digits, the hash ten.
        let time = LoginTime(0x11F0_E540);
        assert_eq!(time.to_string(), "0301000000");
        let made = client(b"12345678", b"secret", time, NameForm::Bare);
        assert_eq!(hex(&made), "95898c46dedbcf393dcd4c2a861481e9");
        assert_eq!(client(b"12345678", b"secret", time, NameForm::Padded), made, "no difference at eight octets");
        assert_ne!(server(Status::OK, &made, b"secret"), server(Status::BUSY, &made, b"secret"));
    }

    #[test]
    fn a_short_name_is_hashed_in_either_form() {
        let made = |name: &[u8], form| client(name, b"secret", LoginTime(301_000_000), form);
        assert_ne!(made(b"9001", NameForm::Bare), made(b"9001", NameForm::Padded));
        assert_eq!(made(b"9001\0\0\0\0", NameForm::Bare), made(b"9001", NameForm::Padded));
        assert_eq!(made(b"900000001", NameForm::Bare), made(b"900000001", NameForm::Padded), "longer than its field");
    }
}
