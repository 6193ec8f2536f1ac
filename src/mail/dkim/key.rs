//! Signing keys: reading them, making them, and the DNS records that publish them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::SignError;
use crate::model::Secret;

/// How signatures are made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// `rsa-sha256` with a key of 2,048 bits.
    Rsa2048,
    /// `ed25519-sha256` (RFC 8463).
    Ed25519,
}

impl FromStr for Algorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "rsa" | "rsa2048" => Ok(Self::Rsa2048),
            "ed25519" => Ok(Self::Ed25519),
            _ => Err("unknown algorithm: expected rsa or ed25519"),
        }
    }
}

/// A private key, parsed.
pub struct SigningKey(Kind);

enum Kind {
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads the first private key of a PEM text: PKCS#8 with an RSA or Ed25519 key, or PKCS#1.
    ///
    /// # Errors
    /// [`KeyError`] with what would be right.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let section = <(SectionKind, Vec<u8>)>::from_pem_slice(pem);
        match section {
            Ok((SectionKind::PrivateKey, der)) => Self::from_pkcs8(&der),
            Ok((SectionKind::RsaPrivateKey, der)) => {
                rsa::KeyPair::from_der(&der).map(Kind::Rsa).map(Self).map_err(rejected)
            }
            Ok(_) => Err(KeyError::Unsupported),
            Err(_) if pem.windows(9).any(|w| w == b"ENCRYPTED") => Err(KeyError::Encrypted),
            Err(_) => Err(KeyError::NotPem),
        }
    }

    /// PKCS#8, version 1 (as OpenSSL writes it, without the public key) or version 2 (RFC 5958).
    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self(Kind::Ed25519(pair)));
        }
        rsa::KeyPair::from_pkcs8(der).map(Kind::Rsa).map(Self).map_err(rejected)
    }

    /// The word for `a=`.
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::Rsa(_) => "rsa-sha256",
            Kind::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// The TXT record that publishes the public half (RFC 6376 section 3.6.1, RFC 8463 section 4.2).
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] if the library cannot write the key out.
    pub fn dns_txt(&self) -> Result<String, KeyError> {
        Ok(match &self.0 {
            Kind::Rsa(pair) => {
                let der = pair.public_key().as_der().map_err(|_| KeyError::Unsupported)?;
                format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(der.as_ref()))
            }
            Kind::Ed25519(pair) => format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(pair.public_key().as_ref())),
        })
    }

    /// Signs. Both algorithms hash `data` with SHA-256 first; Ed25519 then signs the hash (RFC 8463 section 3).
    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.0 {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).map_err(|_| SignError)?;
                Ok(signature)
            }
            Kind::Ed25519(pair) => {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
                Ok(pair.try_sign(hash.as_ref()).map_err(|_| SignError)?.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

/// A fresh key.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The private key, PKCS#8 in PEM.
    pub private_key_pem: Secret,
    /// The TXT record for `selector._domainkey.domain`, in one piece.
    pub dns_txt: String,
}

impl Generated {
    /// The record cut into strings of at most 255 octets, as a zone file and DNS itself want it (RFC 6376 section 3.6.2.2).
    pub fn dns_strings(&self) -> Vec<&str> {
        let mut strings = Vec::new();
        let mut rest = self.dns_txt.as_str();
        while !rest.is_empty() {
            let (string, after) = rest.split_at(rest.len().min(255));
            strings.push(string);
            rest = after;
        }
        strings
    }
}

/// Makes a key.
///
/// # Errors
/// [`KeyError::Unsupported`] if the library cannot make one.
pub fn generate(algorithm: Algorithm) -> Result<Generated, KeyError> {
    let failed = |_| KeyError::Unsupported;
    let (key, der) = match algorithm {
        Algorithm::Rsa2048 => {
            let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            let der = pair.as_der().map_err(failed)?.as_ref().to_vec();
            (SigningKey(Kind::Rsa(pair)), der)
        }
        Algorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            let der = pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec();
            (SigningKey(Kind::Ed25519(pair)), der)
        }
    };
    Ok(Generated { private_key_pem: Secret::new(pem(&der)), dns_txt: key.dns_txt()? })
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// Why a key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// No PEM private key in the text.
    NotPem,
    /// A passphrase protects it.
    Encrypted,
    /// An RSA key of fewer than 2,048 bits: RFC 8301 section 3.2 discourages them and the library refuses them.
    TooSmall,
    /// Neither RSA nor Ed25519, or damaged.
    Unsupported,
    /// The selector is not a name.
    BadSelector,
    /// The domain has no form in A-labels.
    BadDomain,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPem => "no private key found: expected PEM with -----BEGIN PRIVATE KEY----- (PKCS#8) or -----BEGIN RSA PRIVATE KEY-----",
            Self::Encrypted => "the private key is encrypted: expected one without a passphrase",
            Self::TooSmall => "the RSA key is too small: expected at least 2048 bits (RFC 8301)",
            Self::Unsupported => "the private key cannot be used: expected RSA or Ed25519",
            Self::BadSelector => "bad selector: expected letters, digits and hyphens, as in pr1",
            Self::BadDomain => "bad signing domain: expected a name such as example.com",
        })
    }
}

impl std::error::Error for KeyError {}

fn rejected(why: aws_lc_rs::error::KeyRejected) -> KeyError {
    if why.to_string() == "TooSmall" { KeyError::TooSmall } else { KeyError::Unsupported }
}
