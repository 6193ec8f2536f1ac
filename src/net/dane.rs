//! DANE (RFC 6698, RFC 7671, RFC 7672): certificates that TLSA records vouch for.
//!
//! **Promises.** Usage 3 (DANE-EE) takes the certificate or key that a record names, whatever name or date stands in it; usage 2
//! (DANE-TA) takes a chain to what a record names, and wants a date that holds and one of the names it is given. Nothing else
//! is usable for SMTP (RFC 7672 section 3.1.3), and a digest of the wrong length is none. Of digests with several algorithms the
//! strongest counts (RFC 7671 section 9). The handshake's signatures are checked. One configuration for each set of records and
//! names, so that sessions are resumed under the very records that they were verified by, and under no others.
//!
//! **Does not know** DNS, nor whether DNSSEC vouches for the records.
//!
//! **Fails how.** Handshakes fail with rustls' errors; [`NotNamed`] stands in the one that says that no record fits.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::tls::{TlsError, asking, provider};

/// Sessions kept under one set of records: a few hosts have it, mostly one.
const SESSIONS_MAX: usize = 32;
/// Configurations kept, in each of two generations.
const CONFIGURATIONS_MAX: usize = 1024;

/// Whose certificate a record is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Usage {
    /// An authority's: DANE-TA(2).
    TrustAnchor,
    /// The host's own: DANE-EE(3).
    EndEntity,
}

/// What of the certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Selector {
    /// All of it: Cert(0).
    Certificate,
    /// Its SubjectPublicKeyInfo: SPKI(1).
    PublicKey,
}

/// What that is compared with. Later is stronger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Matching {
    /// The bytes themselves: Full(0).
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A TLSA record that can be used for SMTP.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Association {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Arc<[u8]>,
}

impl Association {
    /// Takes the fields of a TLSA record (RFC 6698 section 2.1); `None` if it cannot be used: a usage other than 2 and 3, a
    /// selector or matching type that nobody knows, a digest that cannot be one.
    pub fn parse(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Self> {
        let usage = match usage {
            2 => Usage::TrustAnchor,
            3 => Usage::EndEntity,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            _ => return None,
        };
        let (matching, fits) = match matching {
            0 => (Matching::Full, !data.is_empty()),
            1 => (Matching::Sha256, data.len() == SHA256.output_len()),
            2 => (Matching::Sha512, data.len() == SHA512.output_len()),
            _ => return None,
        };
        fits.then(|| Self { usage, selector, matching, data: data.into() })
    }

    /// True if this certificate is the one that is meant.
    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        match self.selector {
            Selector::Certificate => self.is(certificate),
            // What cannot be read has no key that could be compared.
            Selector::PublicKey => ParsedCertificate::try_from(certificate)
                .is_ok_and(|parsed| self.is(parsed.subject_public_key_info().as_ref())),
        }
    }

    fn is(&self, selected: &[u8]) -> bool {
        match self.matching {
            Matching::Full => *self.data == *selected,
            Matching::Sha256 => *self.data == *digest(&SHA256, selected).as_ref(),
            Matching::Sha512 => *self.data == *digest(&SHA512, selected).as_ref(),
        }
    }
}

/// The records that count, sorted; not empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Associations(Arc<[Association]>);

impl Associations {
    /// Of these records, those that count; `None` if there is none. For each usage and selector only the strongest digest
    /// algorithm is believed, and the bytes themselves always (RFC 7671 section 9).
    pub fn new(records: impl IntoIterator<Item = Association>) -> Option<Self> {
        let mut all: Vec<Association> = records.into_iter().collect();
        let strongest = |of: &Association| {
            let rivals = all.iter().filter(|other| (other.usage, other.selector) == (of.usage, of.selector));
            rivals.map(|other| other.matching).max()
        };
        let counts = |of: &Association| of.matching == Matching::Full || Some(of.matching) == strongest(of);
        let keep: Vec<bool> = all.iter().map(counts).collect();
        let mut keep = keep.into_iter();
        all.retain(|_| keep.next().unwrap_or(false));
        all.sort();
        all.dedup();
        (!all.is_empty()).then(|| Self(all.into()))
    }

    fn of(&self, usage: Usage) -> impl Iterator<Item = &Association> {
        self.0.iter().filter(move |association| association.usage == usage)
    }

    fn have_anchors(&self) -> bool {
        self.of(Usage::TrustAnchor).next().is_some()
    }
}

/// No record names the certificate, nor any in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotNamed;

impl fmt::Display for NotNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no TLSA record names the certificate")
    }
}

impl std::error::Error for NotNamed {}

/// By which records, and in which names where an authority vouches.
type Basis = (Associations, Vec<String>);

/// The configurations that are in use: one and the same for the same records.
#[derive(Debug, Default)]
pub struct Vouching(Mutex<Generations>);

/// When the young one is full it becomes the old one, and the old one goes. What is asked for is young again.
#[derive(Debug, Default)]
struct Generations {
    young: std::collections::HashMap<Basis, Arc<ClientConfig>>,
    old: std::collections::HashMap<Basis, Arc<ClientConfig>>,
}

impl Vouching {
    /// The configuration that wants what these records name; where that is an authority, in one of these names (RFC 7672
    /// section 3.2.2).
    ///
    /// # Errors
    /// [`TlsError::Other`] if the provider knows no TLS version.
    pub fn by(&self, associations: &Associations, names: &[&str]) -> Result<Arc<ClientConfig>, TlsError> {
        let mut wanted: Vec<String> = Vec::new();
        if associations.have_anchors() {
            wanted.extend(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()));
            wanted.sort();
            wanted.dedup();
        }
        let basis = (associations.clone(), wanted);
        let mut generations = self.0.lock();
        if let Some(made) = generations.young.get(&basis) {
            return Ok(made.clone());
        }
        let config = match generations.old.remove(&basis) {
            Some(made) => made,
            None => Arc::new(configuration(&basis)?),
        };
        if generations.young.len() >= CONFIGURATIONS_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(basis, config.clone());
        Ok(config)
    }
}

fn configuration((associations, names): &Basis) -> Result<ClientConfig, TlsError> {
    let names = names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()).collect();
    let verifier = Verifier { associations: associations.clone(), names, provider: provider() };
    asking(Arc::new(verifier), Resumption::in_memory_sessions(SESSIONS_MAX))
}

/// Verifies by TLSA records.
#[derive(Debug)]
struct Verifier {
    associations: Associations,
    /// What the certificate must be in the name of where an authority vouches; one of them.
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// The authorities that records name: of those that the host sent, and those that stand in the records whole.
    fn anchors(&self, sent: &[CertificateDer<'_>]) -> RootCertStore {
        let mut anchors = RootCertStore::empty();
        for association in self.associations.of(Usage::TrustAnchor) {
            let in_record = (association.selector, association.matching) == (Selector::Certificate, Matching::Full);
            let whole = in_record.then(|| CertificateDer::from(&*association.data));
            let named = sent.iter().filter(|certificate| association.names(certificate));
            anchors.add_parsable_certificates(named.cloned().chain(whole));
        }
        anchors
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Neither its name nor its dates count (RFC 7672 section 3.1.1).
        if self.associations.of(Usage::EndEntity).any(|association| association.names(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        let anchors = self.anchors(intermediates);
        if anchors.is_empty() {
            return Err(CertificateError::Other(OtherError(Arc::new(NotNamed))).into());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &anchors, intermediates, now, algorithms)?;
        if self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok()) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
