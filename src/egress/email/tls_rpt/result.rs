//! How a session towards a policy domain failed: the result types of RFC 8460 section 4.3.

use std::io;

use rustls::{CertificateError, Error};
use serde::{Deserialize, Serialize};

/// A result type (RFC 8460 section 4.3), written with its word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultType {
    /// The host offers no STARTTLS, or refuses it.
    StarttlsNotSupported,
    /// The certificate is not in the host's name.
    CertificateHostMismatch,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate leads to no trusted authority, or is otherwise not acceptable.
    CertificateNotTrusted,
    /// Anything else; the reason stands beside it.
    ValidationFailure,
    /// DANE: no TLSA record is valid, or none matches.
    TlsaInvalid,
    /// DANE: no valid answer came from the resolver.
    DnssecInvalid,
    /// DANE: it is demanded here, and the host has no TLSA record.
    DaneRequired,
    /// MTA-STS: the policy cannot be fetched.
    StsPolicyFetchError,
    /// MTA-STS: what was fetched is no policy.
    StsPolicyInvalid,
    /// MTA-STS: the policy host's certificate is not acceptable.
    StsWebpkiInvalid,
}

impl ResultType {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }

    /// What the error of a handshake is.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of_tls(error),
            None => Self::ValidationFailure,
        }
    }

    /// What an error of rustls is.
    pub(super) fn of_tls(error: &Error) -> Self {
        let Error::InvalidCertificate(why) = error else { return Self::ValidationFailure };
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::CertificateHostMismatch
            }
            _ => Self::CertificateNotTrusted,
        }
    }

    /// What a fetch of an MTA-STS policy that failed is, by the word under which it is counted.
    pub(super) fn of_fetch(kind: &str) -> Self {
        match kind {
            "tls" => Self::StsWebpkiInvalid,
            "policy" => Self::StsPolicyInvalid,
            _ => Self::StsPolicyFetchError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_word_is_the_same_everywhere() {
        for result in [
            ResultType::StarttlsNotSupported,
            ResultType::CertificateHostMismatch,
            ResultType::CertificateExpired,
            ResultType::CertificateNotTrusted,
            ResultType::ValidationFailure,
            ResultType::TlsaInvalid,
            ResultType::DnssecInvalid,
            ResultType::DaneRequired,
            ResultType::StsPolicyFetchError,
            ResultType::StsPolicyInvalid,
            ResultType::StsWebpkiInvalid,
        ] {
            assert_eq!(serde_json::to_value(result).unwrap(), result.as_str());
        }
    }

    #[test]
    fn errors_of_a_handshake_are_told_apart() {
        let of = |why| ResultType::of_handshake(&io::Error::other(Error::InvalidCertificate(why)));
        assert_eq!(of(CertificateError::Expired), ResultType::CertificateExpired);
        assert_eq!(of(CertificateError::NotValidForName), ResultType::CertificateHostMismatch);
        assert_eq!(of(CertificateError::UnknownIssuer), ResultType::CertificateNotTrusted);
        assert_eq!(of(CertificateError::NotValidYet), ResultType::CertificateNotTrusted);
        let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(ResultType::of_handshake(&broken), ResultType::ValidationFailure);
        assert_eq!(ResultType::of_tls(&Error::HandshakeNotComplete), ResultType::ValidationFailure);
        let fetches = ["tls", "policy", "dns", "timeout"].map(ResultType::of_fetch);
        let (webpki, invalid, fetch) =
            (ResultType::StsWebpkiInvalid, ResultType::StsPolicyInvalid, ResultType::StsPolicyFetchError);
        assert_eq!(fetches, [webpki, invalid, fetch, fetch]);
    }
}
