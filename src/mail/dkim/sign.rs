//! Making `DKIM-Signature` fields.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::canonical::{SignedHeader, relaxed_field};
use super::key::{KeyError, SigningKey};
use crate::clock::Timestamp;
use crate::mail::from::from_domains;
use crate::mail::header::fields;
use crate::model::Domain;

/// One key with the name it signs under.
#[derive(Clone, Debug)]
pub struct Signer {
    domain: Domain,
    selector: Arc<str>,
    key: Arc<SigningKey>,
    lifetime: Option<Duration>,
}

/// The library refused to sign: memory ran out, most likely. Temporary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignError;

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the DKIM signature could not be made")
    }
}

impl std::error::Error for SignError {}

impl Signer {
    /// A signer for `d=domain; s=selector`.
    ///
    /// # Errors
    /// [`KeyError::BadDomain`] or [`KeyError::BadSelector`].
    pub fn new(domain: &Domain, selector: &str, key: SigningKey) -> Result<Self, KeyError> {
        let domain = domain.to_ascii().map_err(|_| KeyError::BadDomain)?;
        if domain.is_literal() {
            return Err(KeyError::BadDomain);
        }
        let selector = Domain::parse(selector).and_then(|s| s.to_ascii()).map_err(|_| KeyError::BadSelector)?;
        if selector.is_literal() {
            return Err(KeyError::BadSelector);
        }
        Ok(Self { domain, selector: selector.as_str().into(), key: Arc::new(key), lifetime: None })
    }

    /// The same with an `x=` that long after `t=`. Retries may take days: not less than the queue's expiry.
    #[must_use]
    pub fn expiring_after(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The signing domain, in A-labels.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The selector.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A complete `DKIM-Signature` field, CRLF included, to stand above `header_section`.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, header_section: &[u8], body_hash: &[u8; 32], time: Timestamp) -> Result<Vec<u8>, SignError> {
        self.sign_chosen(&SignedHeader::of(header_section), body_hash, time)
    }

    fn sign_chosen(&self, header: &SignedHeader, body_hash: &[u8; 32], time: Timestamp) -> Result<Vec<u8>, SignError> {
        let mut field = self.unsigned_field(&header.names, body_hash, time);
        // RFC 6376 section 3.7: the signed fields, then this one with an empty b= and without its CRLF.
        let mut data = Vec::with_capacity(header.canonical.len() + field.len());
        data.extend_from_slice(&header.canonical);
        for own in fields(field.as_bytes()) {
            relaxed_field(&own, &mut data);
        }
        data.truncate(data.len() - 2);
        let signature = STANDARD.encode(self.key.sign(&data)?);
        let mut rest = signature.as_str();
        let mut room = LINE_BYTES - "\tb=".len();
        while rest.len() > room {
            let (line, after) = rest.split_at(room);
            field.push_str(line);
            field.push_str("\r\n\t");
            rest = after;
            room = LINE_BYTES - "\t".len();
        }
        field.push_str(rest);
        field.push_str("\r\n");
        Ok(field.into_bytes())
    }

    /// The field up to and including `b=`.
    fn unsigned_field(&self, names: &[&str], body_hash: &[u8; 32], time: Timestamp) -> String {
        let mut field = Folded::new("DKIM-Signature:");
        field.word(" v=1;");
        field.word(&format!(" a={};", self.key.algorithm()));
        field.word(" c=relaxed/relaxed;");
        field.word(&format!(" d={};", self.domain));
        field.word(&format!(" s={};", self.selector));
        field.word(&format!(" t={};", time.seconds()));
        if let Some(lifetime) = self.lifetime {
            field.word(&format!(" x={};", time.plus(lifetime).seconds()));
        }
        field.word(&format!(" bh={};", STANDARD.encode(body_hash)));
        for (i, name) in names.iter().enumerate() {
            let before = if i == 0 { " h=" } else { "" };
            let after = if i + 1 == names.len() { ";" } else { ":" };
            field.word(&format!("{before}{name}{after}"));
        }
        field.text.push_str("\r\n\tb=");
        field.text
    }
}

/// Text folded between words (RFC 6376 section 3.2 allows white space there).
struct Folded {
    text: String,
    column: usize,
}

impl Folded {
    fn new(name: &str) -> Self {
        Self { text: name.to_owned(), column: name.len() }
    }

    /// Adds a word, on a new line if it does not fit; a space in front of it becomes the fold.
    fn word(&mut self, word: &str) {
        if self.column + word.len() <= LINE_BYTES {
            self.text.push_str(word);
            self.column += word.len();
        } else {
            let word = word.trim_start();
            self.text.push_str("\r\n\t");
            self.text.push_str(word);
            self.column = 1 + word.len();
        }
    }
}

/// RFC 5322 section 2.1.1 asks for 78 at most.
const LINE_BYTES: usize = 78;

/// All signers, by domain.
#[derive(Clone, Debug, Default)]
pub struct SignerSet {
    by_domain: HashMap<Box<str>, Vec<Signer>>,
}

impl SignerSet {
    /// A set of signers: one or two per domain, RSA and Ed25519.
    pub fn new(signers: impl IntoIterator<Item = Signer>) -> Self {
        let mut by_domain: HashMap<Box<str>, Vec<Signer>> = HashMap::new();
        for signer in signers {
            by_domain.entry(signer.domain.as_str().into()).or_default().push(signer);
        }
        Self { by_domain }
    }

    /// True if there is no signer at all.
    pub fn is_empty(&self) -> bool {
        self.by_domain.is_empty()
    }

    /// All signers.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.by_domain.values().flatten()
    }

    /// The signers for an author's domain: its own, or those of the nearest domain above it that has any.
    pub fn signers(&self, author: &Domain) -> &[Signer] {
        let Ok(author) = author.to_ascii() else { return &[] };
        let mut name = author.as_str();
        loop {
            if let Some(signers) = self.by_domain.get(name) {
                return signers;
            }
            match name.split_once('.') {
                Some((_, parent)) => name = parent,
                None => return &[],
            }
        }
    }

    /// True if mail with these author domains gets a signature.
    pub fn applies(&self, from_domains: &[Domain]) -> bool {
        from_domains.iter().any(|d| !self.signers(d).is_empty())
    }

    /// The `DKIM-Signature` fields for a mail, one below the other, to be put on top of its header section; empty if no
    /// signer's domain is that of a From mailbox. `body_hash` is [`BodyHash`](super::BodyHash)'s.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn signatures(
        &self,
        header_section: &[u8],
        body_hash: &[u8; 32],
        time: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        // Prepared mail has a From field that parses; other mail is nobody's to sign.
        let authors = from_domains(header_section).unwrap_or_default();
        let mut chosen: Vec<&[Signer]> = Vec::new();
        for signers in authors.iter().map(|d| self.signers(d)).filter(|s| !s.is_empty()) {
            if !chosen.iter().any(|c| std::ptr::eq(*c, signers)) {
                chosen.push(signers);
            }
        }
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let header = SignedHeader::of(header_section);
        let mut block = Vec::with_capacity(1024);
        for signer in chosen.into_iter().flatten() {
            block.extend_from_slice(&signer.sign_chosen(&header, body_hash, time)?);
        }
        Ok(block)
    }
}
