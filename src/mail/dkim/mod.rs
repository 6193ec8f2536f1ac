//! DKIM signatures (RFC 6376, RFC 8301, RFC 8463).
//!
//! **What.** [`BodyHash`] is taken once, at ingress; [`SignerSet`] makes the `DKIM-Signature` fields for a header section
//! and that hash, one per key of the author's domain: RSA-SHA256, Ed25519-SHA256 or both.
//!
//! **Promises.** `c=relaxed/relaxed`, never `l=`. Each signature stands alone: none covers another. Keys are parsed once.
//! No private key shows up in a `Debug` output.
//!
//! **Does not know** the clock, DNS, and where keys lie.
//!
//! **Fails how.** A bad key is a [`KeyError`] when it is loaded; a signature that cannot be made is a [`SignError`], and
//! the mail waits rather than go unsigned.
//!
//! **Tested** against RFC 8463 appendix A, whose signatures cover our canonical form of its message.

mod body;
mod canonical;
mod key;
mod sign;

pub use body::BodyHash;
pub use key::{Algorithm, Generated, KeyError, SigningKey, generate};
pub use sign::{SignError, Signer, SignerSet};

#[cfg(test)]
mod tests;
