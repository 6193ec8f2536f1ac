//! TLS that takes any certificate, as opportunistic TLS does, and remembers what a verifier would have said.
//!
//! **Promises.** The handshake fails for nothing that [`super::tls::opportunistic`] would not fail for. What is remembered is
//! what verified TLS would have failed with: chain, name, time, and the signature that proves the key. Sessions are never
//! resumed, so each connection is judged.
//!
//! **Does not know** who asks, nor what is done with the answer.
//!
//! **Fails how.** [`TlsError::Authorities`] where there is nobody to judge by.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::Authorities;
use super::tls::{OfAuthorities, TlsError, asking, provider};

/// Who judges: one and the same until the authorities change.
#[derive(Debug, Default)]
pub struct Judges(OfAuthorities<Arc<WebPkiServerVerifier>>);

/// A configuration for one connection, and what came of it.
#[derive(Clone, Debug)]
pub struct Judging {
    config: Arc<ClientConfig>,
    witness: Arc<Witness>,
}

impl Judges {
    /// What one connection is to be made with, so that it is known afterwards what these authorities say of its certificate.
    ///
    /// # Errors
    /// [`TlsError::Authorities`].
    pub fn by(&self, authorities: &Authorities) -> Result<Judging, TlsError> {
        let witness = Arc::new(Witness { verifier: self.0.get(authorities, verifier)?, objection: Mutex::new(None) });
        let config = asking(witness.clone(), Resumption::disabled())?;
        Ok(Judging { config: Arc::new(config), witness })
    }
}

fn verifier(authorities: &Authorities) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let built = WebPkiServerVerifier::builder_with_provider(authorities.roots()?, provider()).build();
    built.map_err(|e| TlsError::Authorities(e.to_string()))
}

impl Judging {
    /// What the connection is to be made with.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// What verified TLS would have failed with; `None` if nothing, or before the handshake.
    pub fn objection(&self) -> Option<rustls::Error> {
        self.witness.objection.lock().clone()
    }
}

/// Takes any certificate, and notes the first objection to it.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    objection: Mutex<Option<rustls::Error>>,
}

impl Witness {
    fn note<T>(&self, verdict: Result<T, rustls::Error>) {
        if let Err(objection) = verdict {
            self.objection.lock().get_or_insert(objection);
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.note(self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(self.verifier.verify_tls12_signature(message, certificate, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(self.verifier.verify_tls13_signature(message, certificate, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    async fn objection(judges: &Judges, authorities: &Authorities, name: &'static str) -> Option<rustls::Error> {
        let own = rcgen::generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap();
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let authorities = match authorities {
            Authorities::Pem(pem) if pem.is_empty() => Authorities::Pem(certificate.clone().into_bytes().into()),
            other => other.clone(),
        };
        let server = super::super::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
        let (acceptor, judging) = (TlsAcceptor::from(Arc::new(server)), judges.by(&authorities).unwrap());
        let (client, server) = tokio::io::duplex(16 * 1024);
        let connector = TlsConnector::from(judging.config().clone());
        let name = ServerName::try_from(name).unwrap();
        let (client, server) = tokio::join!(connector.connect(name, client), acceptor.accept(server));
        client.unwrap();
        server.unwrap();
        judging.objection()
    }

    #[tokio::test]
    async fn no_certificate_is_refused_and_each_is_judged() {
        let judges = Judges::default();
        // Empty stands for the certificate's own.
        let own = Authorities::Pem(Arc::default());
        assert_eq!(objection(&judges, &own, "mx.example.net").await, None);
        let wrong_name = objection(&judges, &own, "mx.other.example").await;
        let of_name = |e: &CertificateError| matches!(e, CertificateError::NotValidForNameContext { .. });
        assert!(matches!(&wrong_name, Some(rustls::Error::InvalidCertificate(e)) if of_name(e)), "{wrong_name:?}");
        let stranger = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem();
        // All that are signed by themselves bear one name.
        let unknown = objection(&judges, &Authorities::Pem(stranger.into_bytes().into()), "mx.example.net").await;
        assert_eq!(unknown, Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature)));
        assert!(matches!(judges.by(&own), Err(TlsError::Authorities(_))), "nobody to judge by");
    }
}
