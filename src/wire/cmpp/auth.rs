//! The authenticators of a login (C3 sections 8.4.1.1 and 8.4.1.2).

pub use crate::wire::gateway::auth::{Authenticator, NameForm};
use crate::wire::gateway::auth::{Recipe, server};

use super::time::LoginTime;

/// Source_Addr has six octets, and nine NULs follow it.
const RECIPE: Recipe = Recipe { name_octets: 6, zeros: 9 };

/// AuthenticatorSource: who we are to the gateway.
pub fn source(name: &[u8], secret: &[u8], time: LoginTime, form: NameForm) -> Authenticator {
    RECIPE.client(name, secret, time, form)
}

/// AuthenticatorISMG: who the gateway is to us. `status` as it stands in CONNECT_RESP: one octet in 2.0, four in 3.0.
pub fn ismg(status: &[u8], source: &Authenticator, secret: &[u8]) -> Authenticator {
    server(status, source, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_other_implementations_hold() {
        let time = LoginTime(1_021_080_510);
        let made = source(b"900001", b"888888", time, NameForm::Bare);
        assert_eq!(hex(&made), "90d00c1d517abd0b4f65f6bcf8535d16");
        assert_eq!(source(b"900001", b"888888", time, NameForm::Padded), made, "no difference at six octets");
        assert_eq!(hex(&ismg(&[0; 4], &made, b"888888")), "7942977274098cf210ab0c16c367bc8d");
        assert_ne!(ismg(&[0], &made, b"888888"), ismg(&[0; 4], &made, b"888888"));
    }

    #[test]
    fn a_short_name_is_hashed_in_either_form() {
        let made = |name: &[u8], form| source(name, b"secret", LoginTime(301_000_000), form);
        assert_ne!(made(b"9001", NameForm::Bare), made(b"9001", NameForm::Padded));
        assert_eq!(made(b"9001\0\0", NameForm::Bare), made(b"9001", NameForm::Padded));
        // Longer than its field: nothing to pad, and nothing to panic at.
        assert_eq!(made(b"9000001", NameForm::Bare), made(b"9000001", NameForm::Padded));
    }
}
