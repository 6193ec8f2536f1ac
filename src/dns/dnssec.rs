//! What DNSSEC vouches for (RFC 4033 to 4035), validated here: MX records, addresses, TLSA records.
//!
//! **Promises.** An answer is secure only if signatures lead from an [anchor](Anchors) to every record of it, aliases
//! included, and for "no such record" to the record that says so. Where a zone is proven to be unsigned, its answers are as
//! good as without DNSSEC. An answer of a signed zone that does not hold is [`DnsError::Bogus`] and is never used. Name servers
//! that hand no signatures through are found out by asking for the root's keys; once they have been seen to, they have to.
//!
//! **Does not know** what a TLSA record is good for.
//!
//! **Fails how.** As its parent.

mod anchors;
mod unsigned;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::{DnsError as Answered, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;

pub use self::anchors::Anchors;
use super::{
    ADDRESSES_MAX, DnsError, Mx, Options, Resolver, Shared, bare, exchangers, fully_qualified, in_turn, judged,
    shuffled,
};
use crate::clock::Mono;
use crate::model::Domain;

/// Most TLSA records of one name; nobody needs more than a few while keys change.
const TLSA_MAX: usize = 32;
/// Longest TLSA record taken; a whole certificate is no longer.
const TLSA_BYTES_MAX: usize = 8 * 1024;
/// Most aliases followed from a name.
const ALIASES_MAX: usize = 16;
/// How long name servers that hand no signatures through are not asked again whether they do.
const UNSUPPORTED_KEPT: Duration = Duration::from_secs(300);

/// An answer, and whether DNSSEC vouches for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vouched<T> {
    /// The answer.
    pub answer: T,
    /// DNSSEC vouches for it.
    pub secure: bool,
}

/// Where a host is found, and under which names its TLSA records may stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostAddresses {
    /// IPv6 and IPv4 in turn; not empty.
    pub addresses: Vec<IpAddr>,
    /// The TLSA base domains, in the order in which they are to be tried; empty where DNSSEC does not vouch for the host (RFC
    /// 7672 section 2.2.2).
    pub tlsa_bases: Vec<String>,
}

/// A TLSA record as it stands in DNS (RFC 6698 section 2.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// As in a zone file: `3 1 1 0a1b…`.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether the name servers hand signatures through.
#[derive(Default)]
pub(super) struct Support {
    known: Mutex<Known>,
    /// One asks, the others wait.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    /// They have been seen to.
    Yes,
    /// They do not; to be asked again from then on.
    NotUntil(Mono),
}

/// What came of a question.
struct Judged {
    records: Result<Vec<Record>, DnsError>,
    secure: bool,
    ttl: Duration,
}

impl Resolver {
    /// True if the name servers hand DNSSEC's signatures through, so that answers can be vouched for at all. Where they do not,
    /// everything would look forged.
    pub async fn validates(&self) -> bool {
        let shared = &self.shared;
        if let Some(known) = shared.known_support() {
            return known;
        }
        let _alone = shared.support.turn.lock().await;
        if let Some(known) = shared.known_support() {
            return known;
        }
        let keys = shared.ask_validating(&Name::root(), RecordType::DNSKEY).await;
        let works = keys.secure && keys.records.is_ok();
        *shared.support.known.lock() = if works {
            tracing::info!("the name servers hand DNSSEC through: DANE is followed");
            Known::Yes
        } else {
            let cause = keys.records.err().map_or_else(|| "unsigned".to_owned(), |e| e.to_string());
            let advice = "DANE is not followed until they do; let [dns] nameservers name a resolver that knows DNSSEC";
            tracing::warn!(
                cause,
                "the name servers hand no DNSSEC through, the root's keys cannot be verified: {advice}"
            );
            Known::NotUntil(shared.clock.mono().plus(UNSUPPORTED_KEPT))
        };
        works
    }

    /// Who takes mail for `domain`, and whether DNSSEC vouches for that.
    ///
    /// # Errors
    /// As [`Resolver::mx`], and [`DnsError::Bogus`].
    pub async fn vouched_mx(&self, domain: &Domain) -> Result<Vouched<Mx>, DnsError> {
        let ascii = domain.to_ascii().map_err(|_| DnsError::NoSuchName)?;
        let name = ascii.as_str();
        let fresh = |known: Vouched<Mx>| Vouched { answer: shuffled(known.answer), secure: known.secure };
        if let Some(known) = self.shared.vouched_mx.find(name) {
            return known.map(fresh);
        }
        let judged = self.shared.ask_validating(&fully_qualified(name)?, RecordType::MX).await;
        let mx = match judged.records {
            Ok(records) => Ok(exchangers(&records, name)),
            Err(DnsError::NoAddress) => Ok(Mx::Implicit(name.to_owned())),
            Err(error) => Err(error),
        };
        let vouched = mx.map(|answer| Vouched { answer, secure: judged.secure });
        let bytes = vouched.as_ref().map_or(0, |vouched| vouched.answer.bytes());
        self.shared.vouched_mx.keep(name, vouched.clone(), bytes, judged.ttl);
        vouched
    }

    /// The addresses of `host`, and where its TLSA records may stand.
    ///
    /// # Errors
    /// As [`Resolver::addresses`], and [`DnsError::Bogus`].
    pub async fn vouched_addresses(&self, host: &str) -> Result<HostAddresses, DnsError> {
        if host.parse::<IpAddr>().is_ok() {
            return Err(DnsError::NoSuchName);
        }
        let key = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(known) = self.shared.vouched_addresses.find(&key) {
            return known;
        }
        let name = fully_qualified(&key)?;
        let (v6, v4) = tokio::join!(
            self.shared.ask_validating(&name, RecordType::AAAA),
            self.shared.ask_validating(&name, RecordType::A)
        );
        let ttl = v6.ttl.min(v4.ttl);
        let found = host_addresses(&key, v6, v4);
        let bytes = found.as_ref().map_or(0, |found| {
            let names: usize = found.tlsa_bases.iter().map(|base| size_of::<String>() + base.len()).sum();
            size_of_val(found.addresses.as_slice()) + names
        });
        self.shared.vouched_addresses.keep(&key, found.clone(), bytes, ttl);
        found
    }

    /// The TLSA records of a service over TCP (RFC 6698 section 3) that DNSSEC vouches for; empty if it has none, or if nobody
    /// vouches for them.
    ///
    /// # Errors
    /// [`DnsError::Bogus`] and [`DnsError::Temporary`]: there may be some (RFC 7672 section 2.1.2).
    pub async fn tlsa(&self, base: &str, port: u16) -> Result<Arc<[Tlsa]>, DnsError> {
        let key = format!("_{port}._tcp.{}", base.trim_end_matches('.').to_ascii_lowercase());
        if let Some(known) = self.shared.tlsa.find(&key) {
            return known;
        }
        // What is too long for a name has no records either.
        let Ok(name) = fully_qualified(&key) else { return Ok(Arc::new([])) };
        let judged = self.shared.ask_validating(&name, RecordType::TLSA).await;
        let found = match judged.records {
            Ok(records) if judged.secure => Ok(records.iter().filter_map(tlsa).take(TLSA_MAX).collect()),
            Ok(_) | Err(DnsError::NoSuchName | DnsError::NoAddress) => Ok(Arc::new([]) as Arc<[Tlsa]>),
            Err(error) => Err(error),
        };
        let bytes = found.as_ref().map_or(0, |all| all.iter().map(|t| size_of::<Tlsa>() + t.data.len()).sum());
        self.shared.tlsa.keep(&key, found.clone(), bytes, judged.ttl);
        found
    }
}

impl Shared {
    fn known_support(&self) -> Option<bool> {
        match *self.support.known.lock() {
            Known::Nothing => None,
            Known::Yes => Some(true),
            Known::NotUntil(time) => (self.clock.mono() < time).then_some(false),
        }
    }

    /// Asks with DNSSEC, and says whether it vouches for the answer.
    async fn ask_validating(&self, name: &Name, kind: RecordType) -> Judged {
        match self.validating.ask(name, kind).await {
            Ok(lookup) => self.positive(belonging(lookup.answers(), name, kind), kind),
            Err(NetError::Dns(Answered::NoRecordsFound(none))) => self.negative(&none),
            Err(NetError::Dns(Answered::Nsec { proof: Proof::Insecure, response, .. })) => {
                let error = match response.response_code {
                    ResponseCode::NXDomain => DnsError::NoSuchName,
                    _ => DnsError::NoAddress,
                };
                Judged { records: Err(error), secure: false, ttl: self.options.ttl_min }
            }
            Err(NetError::Dns(Answered::DnssecBogus | Answered::Nsec { .. })) => {
                // Also what it says when it could not find out whether the zone is signed.
                if self.is_unsigned(name).await {
                    let plain = self.ask(name.clone(), kind).await;
                    let records = plain.records.map(|lookup| lookup.answers().to_vec());
                    return Judged { records, secure: false, ttl: plain.ttl };
                }
                tracing::debug!(%name, %kind, "DNSSEC does not vouch for the answer of a signed zone");
                Judged { records: Err(DnsError::Bogus), secure: false, ttl: self.options.failure_ttl }
            }
            Err(error) => Judged { records: Err(judged(&error)), secure: false, ttl: self.options.failure_ttl },
        }
    }

    fn positive(&self, records: Vec<Record>, kind: RecordType) -> Judged {
        let Options { ttl_min, ttl_max, failure_ttl, .. } = self.options;
        if records.iter().any(|record| record.proof == Proof::Bogus) {
            return Judged { records: Err(DnsError::Bogus), secure: false, ttl: failure_ttl };
        }
        let secure = !records.is_empty() && records.iter().all(|record| record.proof == Proof::Secure);
        let ttl = records.iter().map(|record| u64::from(record.ttl)).min();
        let ttl = ttl.map_or(ttl_min, Duration::from_secs).max(ttl_min).min(ttl_max);
        // An alias that leads to nothing of the kind.
        let found = records.iter().any(|record| record.record_type() == kind);
        Judged { records: if found { Ok(records) } else { Err(DnsError::NoAddress) }, secure, ttl }
    }

    /// There are none: secure if a signed record says so. That it says so has been checked.
    fn negative(&self, none: &NoRecords) -> Judged {
        let Options { ttl_min, negative_ttl_max, failure_ttl, .. } = self.options;
        let error = judged(&NetError::Dns(Answered::NoRecordsFound(none.clone())));
        if matches!(error, DnsError::Temporary(_)) {
            return Judged { records: Err(error), secure: false, ttl: failure_ttl };
        }
        let denies = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
        let authorities = none.authorities.as_deref().unwrap_or_default();
        let secure = authorities.iter().any(|record| denies(record) && record.proof == Proof::Secure);
        let ttl = none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
        let ttl = ttl.map_or(ttl_min, |ttl| Duration::from_secs(ttl.into())).max(ttl_min).min(negative_ttl_max);
        Judged { records: Err(error), secure, ttl }
    }
}

/// The aliases that lead on from `name`, and the records where they end. What else stands in an answer may be signed as well, by
/// whoever owns it, and says nothing of this name.
fn belonging(answers: &[Record], name: &Name, kind: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    let mut owner = name.clone();
    for _ in 0..ALIASES_MAX {
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == owner => Some((record.clone(), target.0.clone())),
            _ => None,
        });
        let Some((record, target)) = alias else { break };
        records.push(record);
        owner = target;
    }
    records.extend(answers.iter().filter(|record| record.name == owner && record.record_type() == kind).cloned());
    records
}

/// Both families together. One that has failed is done without where the other has an address.
fn host_addresses(host: &str, v6: Judged, v4: Judged) -> Result<HostAddresses, DnsError> {
    let addresses = |judged: &Judged| -> Vec<IpAddr> {
        let records = judged.records.iter().flatten().filter_map(|record| record.data.ip_addr());
        records.take(ADDRESSES_MAX).collect()
    };
    let found = in_turn(&addresses(&v6), &addresses(&v4));
    if !found.is_empty() {
        let answers = [v6, v4].into_iter().filter_map(|judged| Some((judged.records.ok()?, judged.secure)));
        return Ok(HostAddresses { addresses: found, tlsa_bases: tlsa_bases(host, answers) });
    }
    match (v6.records, v4.records) {
        (Err(e @ (DnsError::Temporary(_) | DnsError::Bogus)), _)
        | (_, Err(e @ (DnsError::Temporary(_) | DnsError::Bogus))) => Err(e),
        (Err(DnsError::NoSuchName), Err(DnsError::NoSuchName)) => Err(DnsError::NoSuchName),
        _ => Err(DnsError::NoAddress),
    }
}

/// Where TLSA records may stand (RFC 7672 section 2.2.2, RFC 7671 section 7): at the end of the aliases if DNSSEC vouches for
/// all of them and the addresses, then at the host's own name if it vouches for the first step from there.
fn tlsa_bases(host: &str, answers: impl Iterator<Item = (Vec<Record>, bool)>) -> Vec<String> {
    let mut all_secure = true;
    let mut own_secure = true;
    let mut end = None;
    for (records, secure) in answers {
        all_secure &= secure;
        own_secure &= records.iter().any(|record| bare(&record.name) == host && record.proof == Proof::Secure);
        let address = records.iter().find(|record| record.data.ip_addr().is_some());
        end = address.map(|record| bare(&record.name)).or(end);
    }
    let end = end.filter(|end| all_secure && end != host);
    end.into_iter().chain(own_secure.then(|| host.to_owned())).collect()
}

fn tlsa(record: &Record) -> Option<Tlsa> {
    let RData::TLSA(tlsa) = &record.data else { return None };
    let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
    (tlsa.cert_data.len() <= TLSA_BYTES_MAX).then(|| Tlsa { usage, selector, matching, data: tlsa.cert_data.clone() })
}

#[cfg(test)]
mod tests;
