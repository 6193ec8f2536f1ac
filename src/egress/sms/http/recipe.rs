//! Values that are computed from others, step by step: digests, keyed digests, and how they are written.
//!
//! **Promises.** A step sees what stands before it. Nothing here knows any carrier; a signature is a row of steps in its
//! description.
//!
//! **Does not know** whether what a step wants is there: then it makes nothing, and what wants it is left out.

use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::words::{Value, Values, Words, percent};

/// One value that is computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What it is called in what follows.
    pub name: Arc<str>,
    /// Of what.
    pub of: Words,
    /// The key of keyed digests.
    pub key: Option<Words>,
    /// What is done with it, in this order.
    pub with: Vec<Function>,
}

/// What can be done with octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    /// Its digest (FIPS 180-4).
    Sha256,
    /// Its digest (FIPS 180-4), for those who know nothing better.
    Sha1,
    /// Its digest (RFC 1321), for those who know nothing better.
    Md5,
    /// Its digest under the key (RFC 2104).
    HmacSha256,
    /// Its digest under the key (RFC 2104).
    HmacSha1,
    /// Two digits an octet, in lower case.
    Hex,
    /// RFC 4648 section 4.
    Base64,
    /// Letters of ASCII made small.
    Lower,
    /// Letters of ASCII made capitals.
    Upper,
    /// Percent-encoded, as in a query.
    Percent,
}

impl Function {
    /// Their words in descriptions.
    pub const WORDS: &[(&str, Self)] = &[
        ("sha256", Self::Sha256),
        ("sha1", Self::Sha1),
        ("md5", Self::Md5),
        ("hmac_sha256", Self::HmacSha256),
        ("hmac_sha1", Self::HmacSha1),
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("lower", Self::Lower),
        ("upper", Self::Upper),
        ("percent", Self::Percent),
    ];

    /// True if it wants a key.
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::HmacSha256 | Self::HmacSha1)
    }

    /// True if what it makes is text, of text or not.
    fn makes_text(self, of_text: bool) -> bool {
        match self {
            Self::Hex | Self::Base64 | Self::Percent => true,
            Self::Lower | Self::Upper => of_text,
            _ => false,
        }
    }

    fn apply(self, octets: Vec<u8>, key: &[u8]) -> Vec<u8> {
        let keyed = |algorithm| hmac::sign(&hmac::Key::new(algorithm, key), &octets).as_ref().to_vec();
        match self {
            Self::Sha256 => digest::digest(&digest::SHA256, &octets).as_ref().to_vec(),
            Self::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets).as_ref().to_vec(),
            Self::Md5 => Md5::digest(&octets).to_vec(),
            Self::HmacSha256 => keyed(hmac::HMAC_SHA256),
            Self::HmacSha1 => keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Hex => crate::sms::hex(&octets).into_bytes(),
            Self::Base64 => STANDARD.encode(&octets).into_bytes(),
            Self::Lower => octets.to_ascii_lowercase(),
            Self::Upper => octets.to_ascii_uppercase(),
            Self::Percent => percent(&octets).into_bytes(),
        }
    }
}

impl Step {
    /// True if it makes text; of octets that are no text, nothing but other steps can be made. `is_text` says it of what it wants.
    pub fn makes_text(&self, is_text: impl Fn(&str) -> bool) -> bool {
        self.with.iter().fold(self.of.names().all(is_text), |text, function| function.makes_text(text))
    }

    /// Everything that it wants.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.of.names().chain(self.key.iter().flat_map(Words::names))
    }

    fn run(&self, values: &Values) -> Option<Vec<u8>> {
        let key = match &self.key {
            Some(key) => key.octets(values)?,
            None => Vec::new(),
        };
        Some(self.with.iter().fold(self.of.octets(values)?, |octets, function| function.apply(octets, &key)))
    }
}

/// Computes them all, one after another.
pub(super) fn run(steps: &[Step], values: &mut Values) {
    for step in steps {
        if let Some(made) = step.run(values) {
            let value = match String::from_utf8(made) {
                Ok(text) => Value::Text(text),
                Err(octets) => Value::Octets(octets.into_bytes()),
            };
            values.set(Arc::clone(&step.name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(of: &str, key: Option<&str>, with: &[Function]) -> Step {
        let key = key.map(|key| key.parse().unwrap());
        Step { name: "made".into(), of: of.parse().unwrap(), key, with: with.to_vec() }
    }

    /// Known answers: RFC 1321 section A.5, FIPS 180-4's examples, RFC 2202 section 3, RFC 4231 section 4.3.
    #[test]
    fn digests_are_those_of_the_standards() {
        use Function::{Base64, Hex, HmacSha1, HmacSha256, Md5, Percent, Sha1, Sha256, Upper};
        const WHAT: &str = "what do ya want for nothing?";
        for (step, made) in [
            (step("abc", None, &[Md5, Hex]), "900150983cd24fb0d6963f7d28e17f72"),
            (step("abc", None, &[Sha1, Hex]), "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (step("abc", None, &[Sha256, Hex]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (step(WHAT, Some("Jefe"), &[HmacSha1, Hex]), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                step(WHAT, Some("{who}"), &[HmacSha256, Hex]),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (step("a:b", None, &[Base64]), "YTpi"),
            (step("a é", None, &[Percent, Upper]), "A%20%C3%A9"),
        ] {
            let mut values = Values::default();
            values.set_text("who", "Jefe");
            run(std::slice::from_ref(&step), &mut values);
            assert!(values.get("made") == Some(&Value::Text(made.to_owned())), "{step:?}");
            assert!(step.makes_text(|_| true));
        }
    }

    #[test]
    fn keys_are_chained_as_octets_and_what_is_missing_makes_nothing() {
        use Function::{Hex, HmacSha256};
        let first = Step { name: "first".into(), ..step("day", Some("{secret}"), &[HmacSha256]) };
        let second = step("words", Some("{first}"), &[HmacSha256, Hex]);
        assert!(!first.makes_text(|_| true) && second.makes_text(|_| false));
        let mut values = Values::default();
        run(&[first.clone(), second.clone()], &mut values);
        assert!(values.get("made").is_none());
        values.set_text("secret", "key");
        run(&[first, second], &mut values);
        let day = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), b"day");
        let words = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, day.as_ref()), b"words");
        assert!(values.get("made") == Some(&Value::Text(crate::sms::hex(words.as_ref()))));
    }
}
