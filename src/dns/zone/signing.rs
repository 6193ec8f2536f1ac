//! Signatures for the tiny name server of tests: DNSSEC as a resolver in front of signed zones hands it through.
//!
//! **Promises.** Each zone has one Ed25519 key; its parent, if it is signed, has the DS record. What is there is signed, and what
//! is not is denied by NSEC records (RFC 4035 section 3.1.3). No wildcards.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, RRSIG};
use hickory_resolver::proto::dnssec::{DigestType, PublicKey, SigningKey, TBS};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::{NS, SOA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::{Entry, Zone, absolute};
use crate::clock::{Clock, SystemClock, Timestamp};

/// How long signatures hold, before and after now.
const VALID: Duration = Duration::from_secs(3600);

/// Where zones begin, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts {
    /// By name; those without a key are unsigned.
    zones: BTreeMap<Name, Option<Key>>,
    flaws: BTreeMap<String, Flaw>,
    /// To answers about the first, records of the second are added.
    smuggled: BTreeMap<String, Name>,
}

/// What is wrong with the signatures of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// They are somebody else's.
    Forged,
    /// Their time is over.
    Expired,
    /// There are none.
    Missing,
}

#[derive(Clone, Debug)]
struct Key {
    pkcs8: Arc<[u8]>,
    public: DNSKEY,
}

impl Key {
    fn new() -> Option<Self> {
        let pkcs8 = Ed25519SigningKey::generate_pkcs8().ok()?;
        let public = Ed25519SigningKey::from_pkcs8(&pkcs8).ok()?.to_public_key().ok()?;
        Some(Self { pkcs8: pkcs8.secret_pkcs8_der().into(), public: DNSKEY::from_key(&public) })
    }

    fn sign(&self, bytes: &TBS) -> Option<Vec<u8>> {
        Ed25519SigningKey::from_pkcs8(&PrivatePkcs8KeyDer::from(&*self.pkcs8)).ok()?.sign(bytes).ok()
    }
}

impl Zone {
    /// A signed zone begins at this name; `.` is the root. Parents come first.
    #[must_use]
    pub fn signed(self, apex: &str) -> Self {
        let Some(key) = Key::new() else { return self };
        let name = absolute(apex);
        let mut zone = self.begins(apex).record(&apex_key(apex), dnssec(DNSSECRData::DNSKEY(key.public.clone())));
        let parent_is_signed = zone.cuts.parent(&name).is_some_and(|(_, key)| key.is_some());
        if let (true, Ok(digest), Ok(tag)) =
            (parent_is_signed, key.public.to_digest(&name, DigestType::SHA256), key.public.calculate_key_tag())
        {
            let ds = DS::new(tag, key.public.public_key().algorithm(), DigestType::SHA256, digest.as_ref().to_vec());
            zone = zone.record(&apex_key(apex), dnssec(DNSSECRData::DS(ds)));
        }
        zone.cuts.zones.insert(name, Some(key));
        zone
    }

    /// An unsigned zone begins at this name.
    #[must_use]
    pub fn unsigned(self, apex: &str) -> Self {
        let mut zone = self.begins(apex);
        zone.cuts.zones.insert(absolute(apex), None);
        zone
    }

    /// Something is wrong with the signatures of all records at this name, also of those that deny others there.
    #[must_use]
    pub fn flawed(mut self, name: &str, flaw: Flaw) -> Self {
        self.cuts.flaws.insert(name.to_lowercase(), flaw);
        self
    }

    /// Answers about this name also hold what another has of the kind, with its signatures.
    #[must_use]
    pub fn smuggled(mut self, name: &str, other: &str) -> Self {
        self.cuts.smuggled.insert(name.to_lowercase(), absolute(other));
        self
    }

    /// The root's key as a line of a file of trust anchors.
    pub fn anchor(&self) -> String {
        let key = self.cuts.zones.get(&Name::root()).and_then(Option::as_ref);
        let line = |key: &Key| {
            let bytes = STANDARD.encode(key.public.public_key().public_bytes());
            format!(". 3600 IN DNSKEY 257 3 15 {bytes}\n")
        };
        key.map_or_else(String::new, line)
    }

    fn begins(self, apex: &str) -> Self {
        let soa = SOA::new(absolute("ns.invalid"), absolute("hostmaster.invalid"), 1, 60, 60, 60, self.ttl);
        let apex = apex_key(apex);
        self.record(&apex, RData::SOA(soa)).record(&apex, RData::NS(NS(absolute("ns.invalid"))))
    }

    /// Signs what an answer holds; where it holds nothing of the kind that was asked for at `owner`, where its aliases end, denies
    /// that there is any.
    pub(super) fn vouch(&self, answer: &mut Message, owner: &Name, kind: RecordType, given: bool) {
        if self.cuts.zones.is_empty() {
            return;
        }
        if let Some(other) = self.cuts.smuggled.get(&text(owner)) {
            answer.add_answers(self.records_at(other, kind));
        }
        let signatures = self.signatures(&answer.answers);
        answer.add_answers(signatures);
        let Some((apex, key)) = self.cuts.of(owner, kind) else { return };
        if given {
            return;
        }
        let mut denial = self.records_at(apex, RecordType::SOA);
        if key.is_some() {
            denial.extend(self.denials(apex, owner));
        }
        let signatures = self.signatures(&denial);
        answer.add_authorities(denial);
        answer.add_authorities(signatures);
    }

    fn signatures(&self, records: &[Record]) -> Vec<Record> {
        let sets: HashSet<(Name, RecordType)> = records.iter().map(|r| (r.name.clone(), r.record_type())).collect();
        sets.iter().filter_map(|(name, kind)| self.signature(records, name, *kind)).collect()
    }

    fn signature(&self, records: &[Record], name: &Name, kind: RecordType) -> Option<Record> {
        let (apex, key) = match records.iter().find(|r| r.name == *name && r.record_type() == kind) {
            // At the beginning of a zone its parent denies what itself has.
            Some(Record { data: RData::DNSSEC(DNSSECRData::NSEC(nsec)), .. })
                if !nsec.type_set().contains(RecordType::SOA) && self.cuts.zones.contains_key(name) =>
            {
                self.cuts.parent(name)?
            }
            _ => self.cuts.of(name, kind)?,
        };
        let key = key.as_ref()?;
        let flaw = self.cuts.flaws.get(&text(name));
        let now = SystemClock::new().now();
        let seconds = |time: Timestamp| SerialNumber::new(time.seconds() as u32);
        let end = if flaw == Some(&Flaw::Expired) { now.minus(VALID / 2) } else { now.plus(VALID) };
        let input = SigInput {
            type_covered: kind,
            algorithm: key.public.public_key().algorithm(),
            num_labels: name.num_labels(),
            original_ttl: self.ttl,
            sig_expiration: seconds(end),
            sig_inception: seconds(now.minus(VALID)),
            key_tag: key.public.calculate_key_tag().ok()?,
            signer_name: apex.clone(),
        };
        let bytes = TBS::from_input(name, DNSClass::IN, &input, records.iter()).ok()?;
        let mut signature = key.sign(&bytes)?;
        match flaw {
            Some(Flaw::Missing) => return None,
            Some(Flaw::Forged) => signature.iter_mut().for_each(|byte| *byte ^= 0x55),
            _ => {}
        }
        let data = dnssec(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)));
        Some(Record::from_rdata(name.clone(), self.ttl, data))
    }

    /// NSEC records that say what is not there.
    fn denials(&self, apex: &Name, owner: &Name) -> Vec<Record> {
        let names = self.chain(apex);
        let mut wanted = BTreeSet::from([owner.clone()]);
        if !self.exists(owner) {
            let mut encloser = owner.base_name();
            while !self.exists(&encloser) && !encloser.is_root() {
                encloser = encloser.base_name();
            }
            wanted.extend(encloser.prepend_label("*"));
        }
        let at = |name: &Name| names.range(..=name.clone()).next_back().cloned();
        let from: BTreeSet<Name> = wanted.iter().filter_map(at).collect();
        let nsec = |name: Name| {
            let next = names.range((std::ops::Bound::Excluded(&name), std::ops::Bound::Unbounded)).next();
            let data = NSEC::new_cover_self(next.unwrap_or(apex).clone(), self.kinds_at(&name, apex));
            Record::from_rdata(name, self.ttl, dnssec(DNSSECRData::NSEC(data)))
        };
        from.into_iter().map(nsec).collect()
    }

    /// All names of a zone, and those where others begin below it.
    fn chain(&self, apex: &Name) -> BTreeSet<Name> {
        let all = self.names.keys().map(|name| absolute(if name.is_empty() { "." } else { name }));
        let belongs = |name: &Name| match self.cuts.zones.contains_key(name) && name != apex {
            true => self.cuts.parent(name).is_some_and(|(parent, _)| parent == apex),
            false => self.cuts.of(name, RecordType::NSEC).is_some_and(|(zone, _)| zone == apex),
        };
        all.filter(belongs).collect()
    }

    fn kinds_at(&self, name: &Name, apex: &Name) -> BTreeSet<RecordType> {
        let of_child = name != apex && self.cuts.zones.contains_key(name);
        let kinds = match self.names.get(&text(name)) {
            Some(Entry::Records(records)) => records.iter().map(RData::record_type).collect(),
            _ => BTreeSet::new(),
        };
        let shown = |kind: &RecordType| match of_child {
            true => matches!(kind, RecordType::NS | RecordType::DS),
            false => *kind != RecordType::DS,
        };
        kinds.into_iter().filter(shown).collect()
    }

    fn records_at(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let Some(Entry::Records(records)) = self.names.get(&text(name)) else { return Vec::new() };
        let of_kind = records.iter().filter(|data| data.record_type() == kind);
        of_kind.map(|data| Record::from_rdata(name.clone(), self.ttl, data.clone())).collect()
    }

    /// True if the name is there, or one below it.
    pub(super) fn exists(&self, name: &Name) -> bool {
        let (own, below) = (text(name), format!(".{}", text(name)));
        self.names.keys().any(|known| *known == own || known.ends_with(&below))
    }
}

impl Cuts {
    pub(super) fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// The zone that a name's records of a kind stand in: DS records stand with the parent.
    fn of(&self, name: &Name, kind: RecordType) -> Option<(&Name, &Option<Key>)> {
        match kind {
            RecordType::DS if !name.is_root() => self.parent(name),
            _ => self.zones.iter().filter(|(apex, _)| apex.zone_of(name)).max_by_key(|(apex, _)| apex.num_labels()),
        }
    }

    /// The zone above a name.
    fn parent(&self, name: &Name) -> Option<(&Name, &Option<Key>)> {
        let above = self.zones.iter().filter(|(apex, _)| apex.zone_of(name) && *apex != name);
        above.max_by_key(|(apex, _)| apex.num_labels())
    }
}

fn apex_key(apex: &str) -> String {
    apex.trim_end_matches('.').to_lowercase()
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_lowercase()
}

fn dnssec(data: DNSSECRData) -> RData {
    RData::DNSSEC(data)
}
