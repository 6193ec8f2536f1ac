//! Whose certificates are trusted: the system's authorities, or those of a file.
//!
//! **Promises.** The system's are read once, where distributions keep them, when somebody first needs them. A certificate that
//! cannot be used as an anchor is passed over, as long as another one can.
//!
//! **Fails how.** [`TlsError::Authorities`], with what an operator can do about it.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::tls::TlsError;

/// Where the system's authorities stand, PEM, by distribution.
const SYSTEM_FILES: [&str; 5] = [
    // Debian, Ubuntu, Arch, Gentoo, Alpine
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    // Alpine, the BSDs, macOS
    "/etc/ssl/cert.pem",
];

/// Who vouches for the hosts that we call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Authorities {
    /// Those that the system trusts.
    #[default]
    System,
    /// These and no others, PEM.
    Pem(Arc<[u8]>),
}

impl Authorities {
    /// As anchors of chains.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] if there is not one.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        static SYSTEM: OnceLock<Result<Arc<RootCertStore>, TlsError>> = OnceLock::new();
        match self {
            Self::System => SYSTEM.get_or_init(of_the_system).clone(),
            Self::Pem(pem) => read(pem),
        }
    }

    /// Looks whether there is anybody to trust.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] if not.
    pub fn check(&self) -> Result<(), TlsError> {
        self.roots().map(drop)
    }
}

fn of_the_system() -> Result<Arc<RootCertStore>, TlsError> {
    let found = SYSTEM_FILES.iter().find_map(|file| std::fs::read(file).ok());
    let none =
        "this system keeps none where they are looked for; install its package of CA certificates, or name a CA file";
    read(&found.ok_or_else(|| TlsError::Authorities(none.to_owned()))?)
}

fn read(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    let (mut seen, mut last) = (0, None);
    for certificate in CertificateDer::pem_slice_iter(pem) {
        seen += 1;
        let added = certificate.map_err(|e| e.to_string()).and_then(|c| roots.add(c).map_err(|e| e.to_string()));
        last = added.err().or(last);
    }
    match last {
        _ if !roots.is_empty() => Ok(Arc::new(roots)),
        Some(why) => Err(TlsError::Authorities(format!("none of {seen} certificates can be used: {why}"))),
        None => Err(TlsError::Authorities("the file holds no PEM certificate".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_certificate_is_enough_and_none_is_said() {
        let own = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let of = |text: String| Authorities::Pem(text.into_bytes().into());
        assert_eq!(of(format!("{broken}{own}")).check(), Ok(()));
        for bad in ["", "nothing", broken] {
            assert!(matches!(of(bad.to_owned()).check(), Err(TlsError::Authorities(_))), "{bad}");
        }
    }
}
