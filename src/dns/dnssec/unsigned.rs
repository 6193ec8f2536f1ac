//! Is a zone unsigned? Asked from the root down, where an answer looks forged.
//!
//! hickory looks from the name upwards for the place where a zone begins, by its name servers. Of a host whose name server
//! answers no question but those for addresses, it cannot find out, and takes the answer for forged. Such hosts, in zones
//! without signatures, are no rarity; asking each parent for the DS record of its child (RFC 4035 section 5.2) needs nothing
//! of them.
//!
//! **Promises.** Yes only where a signed record says that a zone begins at the name or above it and has no key.

use hickory_resolver::net::{DnsError as Answered, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC3};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::Shared;

/// The digits of base32 with the extended hex alphabet (RFC 4648 section 7), as names of NSEC3 records have them.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl Shared {
    /// True if it is proven that nobody signs for `name`.
    pub(super) async fn is_unsigned(&self, name: &Name) -> bool {
        for labels in 1..=usize::from(name.num_labels()) {
            let zone = name.trim_to(labels);
            match self.validating.ask(&zone, RecordType::DS).await {
                Ok(lookup) => {
                    let mut records = lookup.answers().iter().filter(|r| r.record_type() == RecordType::DS);
                    match records.next().map(|record| record.proof) {
                        Some(Proof::Secure) => {}
                        Some(Proof::Insecure) => return true,
                        _ => return false,
                    }
                }
                Err(NetError::Dns(Answered::NoRecordsFound(none))) => {
                    let authorities = none.authorities.as_deref().unwrap_or_default();
                    match delegation(&zone, authorities) {
                        Delegation::Unsigned => return true,
                        Delegation::None => {}
                        Delegation::Unknown => return false,
                    }
                }
                Err(NetError::Dns(Answered::Nsec { proof: Proof::Insecure, .. })) => return true,
                Err(_) => return false,
            }
        }
        false
    }
}

/// What the absence of DS records means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Delegation {
    /// A zone begins here, and it is not signed; or it lies in one that is not.
    Unsigned,
    /// No zone begins here.
    None,
    /// It is not proven.
    Unknown,
}

fn delegation(zone: &Name, authorities: &[Record]) -> Delegation {
    if !authorities.is_empty() && authorities.iter().all(|record| record.proof == Proof::Insecure) {
        return Delegation::Unsigned;
    }
    let mut opted_out = false;
    for record in authorities.iter().filter(|record| record.proof == Proof::Secure) {
        let types = match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) if record.name == *zone => nsec.type_set(),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => {
                opted_out |= nsec3.opt_out();
                if !is_about(nsec3, &record.name, zone) {
                    continue;
                }
                nsec3.type_set()
            }
            _ => continue,
        };
        let begins = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
        return if begins && !types.contains(RecordType::DS) { Delegation::Unsigned } else { Delegation::None };
    }
    let denied = authorities.iter().any(|record| {
        record.proof == Proof::Secure && matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)
    });
    match (opted_out, denied) {
        // None is about the name, and those around it say that there may be unsigned zones (RFC 5155 section 6).
        (true, _) => Delegation::Unsigned,
        // There is no such name, or nothing but names below it.
        (false, true) => Delegation::None,
        (false, false) => Delegation::Unknown,
    }
}

/// Does the name of an NSEC3 record say that it is about `name` (RFC 5155 section 3)?
fn is_about(nsec3: &NSEC3, owner: &Name, name: &Name) -> bool {
    let Ok(hash) = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations()) else { return false };
    owner.iter().next().is_some_and(|label| label.eq_ignore_ascii_case(base32hex(hash.as_ref()).as_bytes()))
}

fn base32hex(bytes: &[u8]) -> String {
    let bit = |n: usize| bytes.get(n / 8).map_or(0, |byte| usize::from(byte >> (7 - n % 8) & 1));
    let digit = |n: usize| (0..5).fold(0, |value, i| value << 1 | bit(n * 5 + i));
    (0..(bytes.len() * 8).div_ceil(5)).map(|n| char::from(DIGITS[digit(n)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_names_have_them() {
        // RFC 4648 section 10.
        for (bytes, text) in [("", ""), ("f", "co"), ("fo", "cpng"), ("foob", "cpnmuog"), ("foobar", "cpnmuoj1e8")] {
            assert_eq!(base32hex(bytes.as_bytes()), text);
        }
    }
}
