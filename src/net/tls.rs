//! TLS: one provider, the listeners' configuration, and for what we call: TLS with any certificate, or with a verified one.
//!
//! **Promises.** A certificate and a key that do not belong together are refused when they are loaded. Opportunistic TLS
//! (RFC 3207, RFC 7435) takes any certificate, as SMTP without a policy must; it protects against listening, not against a
//! man in the middle. Verified TLS wants a chain to an authority that is trusted, and the host's name in the certificate
//! (RFC 6125: the DNS names in it, a wildcard as the leftmost label only). Connections that share a configuration resume each
//! other's sessions; those of another one never do. What TLSA records vouch for is verified in [`super::dane`].
//!
//! **Fails how.** [`TlsError`], in words for an operator; handshakes fail with rustls' own errors, which [`trouble`] puts
//! into words.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, CommonState, DigitallySignedStruct, ServerConfig, SignatureScheme};

use super::Authorities;
use super::dane::NotNamed;

/// Destinations whose sessions are kept for resumption; the default of 256 would rarely hit.
const SESSIONS_MAX: usize = 16_384;

/// Why a certificate or key cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsError {
    /// The certificate file holds no PEM certificate, or a broken one.
    Certificate(String),
    /// The key file holds no PEM private key, or a broken one.
    Key(String),
    /// The key is not the certificate's.
    Mismatch,
    /// There is nobody to trust: no authority's certificate, or none that can be read.
    Authorities(String),
    /// Anything else rustls objects to.
    Other(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(why) => write!(f, "bad certificate: {why}"),
            Self::Key(why) => write!(f, "bad private key: {why}"),
            Self::Mismatch => f.write_str("the private key is not the certificate's"),
            Self::Authorities(why) => write!(f, "no certificate authority is trusted: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TlsError {}

/// Makes aws-lc-rs the process's provider. Called once at start; further calls do nothing.
pub fn install_provider() {
    // Err means that one is installed already.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The configuration of a listener, from a certificate chain and its key, both PEM. Tickets are stateless and rotate, and
/// one is sent per handshake; a reload that should keep sessions alive passes the earlier configuration's `ticketer` on.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(certificates_pem: &[u8], key_pem: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Certificate(e.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("no PEM certificate in the file".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| TlsError::Key(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Other(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            rustls::Error::InvalidCertificate(why) => TlsError::Certificate(format!("{why:?}")),
            other => TlsError::Key(other.to_string()),
        })?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| TlsError::Other(e.to_string()))?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The one configuration of opportunistic TLS. Sessions are resumed only under one and the same verifier object, so this is
/// made once and shared.
pub fn opportunistic() -> Arc<ClientConfig> {
    static SHARED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(accepting_any())).clone()
}

/// What is made of authorities: one and the same until they change.
#[derive(Debug)]
pub(super) struct OfAuthorities<T>(Mutex<Option<(Authorities, Result<T, TlsError>)>>);

impl<T> Default for OfAuthorities<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> OfAuthorities<T> {
    /// What was made of these, or is now.
    pub(super) fn get(
        &self,
        authorities: &Authorities,
        make: impl FnOnce(&Authorities) -> Result<T, TlsError>,
    ) -> Result<T, TlsError> {
        let mut kept = self.0.lock();
        match &*kept {
            Some((of, made)) if of == authorities => made.clone(),
            _ => {
                let made = make(authorities);
                *kept = Some((authorities.clone(), made.clone()));
                made
            }
        }
    }
}

/// The configuration that checks certificates: one and the same until the authorities change, so that sessions are resumed.
#[derive(Debug, Default)]
pub struct Verifying(OfAuthorities<Arc<ClientConfig>>);

impl Verifying {
    /// The configuration that wants a certificate of one of these authorities, and the name of the host that is called.
    ///
    /// # Errors
    /// [`TlsError::Authorities`].
    pub fn by(&self, authorities: &Authorities) -> Result<Arc<ClientConfig>, TlsError> {
        self.0.get(authorities, verifying)
    }
}

fn verifying(authorities: &Authorities) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = authorities.roots()?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|e| TlsError::Other(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// What is wrong with a certificate, as others want to be told (RFC 8460 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Its time has not come or is over.
    Expired,
    /// It is in another name.
    HostMismatch,
    /// It leads to nobody who is trusted.
    NotTrusted,
    /// No TLSA record names it.
    NotNamed,
    /// Anything else.
    Other,
}

/// Why a handshake failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The certificate does not prove what it should.
    Certificate(Flaw, String),
    /// Anything else.
    Handshake(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(_, why) | Self::Handshake(why) => f.write_str(why),
        }
    }
}

/// What the error of a handshake means, in words that go behind the host's name.
pub fn trouble(error: &std::io::Error) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let (flaw, words) = objection(why);
            Trouble::Certificate(flaw, words)
        }
        Some(other) => Trouble::Handshake(format!("its TLS handshake fails ({other})")),
        None => Trouble::Handshake(format!("its TLS handshake fails ({error})")),
    }
}

fn objection(why: &CertificateError) -> (Flaw, String) {
    let (flaw, words) = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Flaw::Expired, "its certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Flaw::Expired, "its certificate is not valid yet")
        }
        CertificateError::BadSignature => {
            (Flaw::NotTrusted, "its certificate is not signed by the authority that it names")
        }
        CertificateError::UnknownIssuer => (Flaw::NotTrusted, "its certificate comes from no trusted authority"),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Flaw::HostMismatch, "its certificate is not in its name")
        }
        CertificateError::Other(other) if other.0.is::<NotNamed>() => {
            (Flaw::NotNamed, "its certificate is none of those that its TLSA records name")
        }
        other => return (Flaw::Other, format!("its certificate is not acceptable ({other:?})")),
    };
    (flaw, words.to_owned())
}

/// TLS version and cipher suite of a connection: `TLSv1.3 TLS13_AES_256_GCM_SHA384`. `None` before the handshake's end.
pub fn description(connection: &CommonState) -> Option<String> {
    let version = connection.protocol_version()?.as_str()?.replace('_', ".");
    let suite = connection.negotiated_cipher_suite()?.suite();
    Some(format!("{version} {}", suite.as_str()?))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// A configuration that leaves certificates to a verifier.
///
/// # Errors
/// [`TlsError::Other`] if the provider knows no TLS version.
pub(super) fn asking(verifier: Arc<dyn ServerCertVerifier>, resumption: Resumption) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|e| TlsError::Other(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = resumption;
    Ok(config)
}

fn accepting_any() -> ClientConfig {
    let schemes = provider().signature_verification_algorithms.supported_schemes();
    asking(Arc::new(AcceptAny { schemes }), Resumption::in_memory_sessions(SESSIONS_MAX))
        .unwrap_or_else(|e| panic!("the provider's own versions: {e}"))
}

/// Takes any certificate. Signatures are not checked either: the key they are made with is nobody's in particular, and
/// X.509 version 1 certificates would fail inside that check.
#[derive(Debug)]
struct AcceptAny {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    fn self_signed() -> CertifiedKey<KeyPair> {
        generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap()
    }

    #[test]
    fn a_key_must_be_its_certificates() {
        let (a, b) = (self_signed(), self_signed());
        let (certificate, key) = (a.cert.pem(), a.signing_key.serialize_pem());
        let config = server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(config.send_tls13_tickets, 1);
        assert!(config.ticketer.enabled());
        let of = |certificate: &str, key: &str| {
            server_config(certificate.as_bytes(), key.as_bytes()).map(|_| ()).unwrap_err()
        };
        assert_eq!(of(&certificate, &b.signing_key.serialize_pem()), TlsError::Mismatch);
        assert!(matches!(of("", &key), TlsError::Certificate(_)));
        assert!(matches!(
            of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key),
            TlsError::Certificate(_)
        ));
        assert!(matches!(of(&certificate, ""), TlsError::Key(_)));
        assert!(matches!(of(&certificate, &certificate), TlsError::Key(_)));
    }

    #[tokio::test]
    async fn opportunistic_tls_takes_a_self_signed_certificate_and_resumes() {
        let own = self_signed();
        let config = server_config(own.cert.pem().as_bytes(), own.signing_key.serialize_pem().as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (client, server) = tokio::io::duplex(16 * 1024);
            let name = ServerName::try_from("mx.resumption.example").unwrap();
            let connector = TlsConnector::from(opportunistic());
            let (client, server) = tokio::join!(connector.connect(name, client), acceptor.accept(server));
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            client.read_exact(&mut [0; 1]).await.unwrap();
            let state = client.get_ref().1;
            assert_eq!(description(state).as_deref(), Some("TLSv1.3 TLS13_AES_256_GCM_SHA384"));
            kinds.push(state.handshake_kind());
        }
        assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed), "{kinds:?}");
    }
}
