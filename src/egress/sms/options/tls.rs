//! TLS with a carrier: what the account's owner wants, and what comes of it on a connection.
//!
//! **Promises.** Where TLS is wanted, nothing is said in clear: no password leaves before the handshake is done, and none at all
//! to a carrier whose certificate does not prove what it should.
//!
//! **Fails how.** In words that say what is wrong with the certificate.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::OptionsError;
use crate::net::tls::{self, Verifying};
use crate::net::{Authorities, Stream};

/// TLS with a carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Who vouches for the carrier's certificate.
    pub authorities: Authorities,
    /// The name that the certificate must hold; `None`: the host that is dialled.
    pub name: Option<String>,
    /// False: any certificate is taken, which keeps out listeners and nobody else.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { authorities: Authorities::System, name: None, verify: true }
    }
}

/// How the connections of one account are secured; they resume each other's sessions.
#[derive(Debug)]
pub(in crate::egress::sms) struct Securing {
    wanted: Tls,
    name: ServerName<'static>,
    verifying: Verifying,
}

impl Securing {
    /// With whoever is dialled at `address`, which is `host:port`.
    pub(in crate::egress::sms) fn new(wanted: &Tls, address: &str) -> Result<Self, OptionsError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = wanted.name.as_deref().unwrap_or(host).to_owned();
        let expected = "a host name, or an address, as certificates hold them";
        let name = ServerName::try_from(name).map_err(|_| OptionsError { option: "tls_name", expected })?;
        Ok(Self { wanted: wanted.clone(), name, verifying: Verifying::default() })
    }

    /// Puts TLS on top of a connection on which nothing has been said.
    pub(in crate::egress::sms) async fn secure(&self, tcp: TcpStream) -> Result<Stream, String> {
        let config = if self.wanted.verify {
            // The system's authorities may be gone since the options were checked.
            self.verifying.by(&self.wanted.authorities).map_err(|e| e.to_string())?
        } else {
            tls::opportunistic()
        };
        let securing = TlsConnector::from(Arc::clone(&config)).connect(self.name.clone(), tcp).await;
        let secured = securing.map_err(|e| tls::trouble(&e).to_string())?;
        Ok(Stream::Tls(Box::new(secured)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_hosts_unless_another_is_said() {
        let named = |name: Option<&str>, address| {
            let tls = Tls { name: name.map(str::to_owned), ..Tls::default() };
            Securing::new(&tls, address).map(|securing| securing.name.to_str().into_owned()).map_err(|e| e.option)
        };
        for (name, address, expected) in [
            (None, "smpp.example.com:3550", Ok("smpp.example.com")),
            (None, "192.0.2.7:3550", Ok("192.0.2.7")),
            (None, "[2001:db8::7]:3550", Ok("2001:db8::7")),
            (Some("smpp.example.com"), "192.0.2.7:3550", Ok("smpp.example.com")),
            (Some("no name"), "192.0.2.7:3550", Err("tls_name")),
        ] {
            assert_eq!(named(name, address), expected.map(str::to_owned), "{name:?} {address}");
        }
    }
}
