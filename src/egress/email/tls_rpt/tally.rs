//! Counting: what became of sessions, by policy domain, policy and failure, over one period.
//!
//! **Promises.** Bounded in domains, in policies and failures of each domain, and in bytes altogether; what finds no room is
//! counted as left out. A failure whose description finds no room is still a failure of its policy's summary.
//!
//! **Does not know** clocks, files and who wants to hear of it.
//!
//! The types are those of the report itself (RFC 8460 section 4.4): files and commands show the same fields.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::result::ResultType;
use crate::clock::Timestamp;
use crate::model::Domain;

/// Policies of one domain in one period: each change of what it publishes makes another.
const POLICIES_MAX: usize = 8;
/// What an entry costs in memory beside its text, about.
const ENTRY_BYTES: usize = 320;
/// Characters of a reason or a name that a peer gave.
const TEXT_CHARS_MAX: usize = 250;

/// Whose policy was applied (section 4.4, `policy-type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyType {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither.
    NoPolicyFound,
}

impl PolicyType {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

/// The policy that was applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AppliedPolicy {
    /// Of which kind.
    pub policy_type: PolicyType,
    /// Its lines, or its TLSA records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_string: Vec<String>,
    /// Whose it is, in A-labels.
    pub policy_domain: String,
    /// What it says that mail hosts are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// How many sessions there were under a policy.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Those that succeeded.
    pub total_successful_session_count: u64,
    /// Those that failed, or would have failed had the policy been enforced.
    pub total_failure_session_count: u64,
}

/// Sessions that failed alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureDetail {
    /// How.
    pub result_type: ResultType,
    /// Our address, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_mta_ip: Option<IpAddr>,
    /// The mail host's name; missing where the failure came before any host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_hostname: Option<String>,
    /// What it calls itself in its answer to EHLO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_helo: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<IpAddr>,
    /// How many.
    pub failed_session_count: u64,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason_code: Option<String>,
}

impl FailureDetail {
    /// One failure of which nothing more is known.
    pub(super) fn new(result_type: ResultType) -> Self {
        Self {
            result_type,
            sending_mta_ip: None,
            receiving_mx_hostname: None,
            receiving_mx_helo: None,
            receiving_ip: None,
            failed_session_count: 1,
            failure_reason_code: None,
        }
    }

    /// The same with a reason, printable and of bounded length.
    pub(super) fn because(self, reason: &str) -> Self {
        Self { failure_reason_code: Some(printable(reason)), ..self }
    }

    fn is_like(&self, other: &Self) -> bool {
        Self { failed_session_count: other.failed_session_count, ..self.clone() } == *other
    }

    fn bytes(&self) -> usize {
        let texts = [&self.receiving_mx_hostname, &self.receiving_mx_helo, &self.failure_reason_code];
        ENTRY_BYTES + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// What a peer wrote, without control characters, cut.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// All sessions under one policy (section 4.4, an element of `policies`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyResult {
    /// The policy.
    pub policy: AppliedPolicy,
    /// How many sessions.
    pub summary: Summary,
    /// How those failed that did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_details: Vec<FailureDetail>,
}

impl PolicyResult {
    fn new(policy: AppliedPolicy) -> Self {
        Self { policy, summary: Summary::default(), failure_details: Vec::new() }
    }

    fn own_bytes(&self) -> usize {
        let policy = &self.policy;
        let texts = policy.policy_string.iter().chain(&policy.mx_host).chain([&policy.policy_domain]);
        ENTRY_BYTES + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
    }

    fn bytes(&self) -> usize {
        self.own_bytes() + self.failure_details.iter().map(FailureDetail::bytes).sum::<usize>()
    }
}

/// Bytes that a domain's results take, about.
pub(super) fn bytes_of(domain: &Domain, results: &[PolicyResult]) -> usize {
    ENTRY_BYTES + domain.as_str().len() + results.iter().map(PolicyResult::bytes).sum::<usize>()
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub(super) domains_max: usize,
    /// Of one domain.
    pub(super) details_max: usize,
    pub(super) bytes_max: usize,
}

/// What was not kept.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Sessions that no report counts.
    pub sessions: u64,
    /// Failures that a report counts and does not describe.
    pub details: u64,
}

/// What found no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Session,
    Detail,
}

/// The sessions of a period.
#[derive(Debug)]
pub(super) struct Tally {
    /// When it began.
    pub(super) start: Timestamp,
    pub(super) domains: BTreeMap<Domain, Vec<PolicyResult>>,
    pub(super) left_out: LeftOut,
    bytes: usize,
}

impl Tally {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start, domains: BTreeMap::new(), left_out: LeftOut::default(), bytes: 0 }
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes results that were counted before.
    pub(super) fn restore(&mut self, domain: Domain, results: Vec<PolicyResult>) {
        self.bytes += bytes_of(&domain, &results);
        if let Some(before) = self.domains.insert(domain.clone(), results) {
            self.bytes -= bytes_of(&domain, &before);
        }
    }

    /// Counts a session that succeeded (`None`) or failed. `taken` bytes are in use elsewhere. What found no room is returned.
    pub(super) fn count(
        &mut self,
        domain: &Domain,
        policy: &AppliedPolicy,
        failure: Option<FailureDetail>,
        bounds: Bounds,
        taken: usize,
    ) -> Option<Missing> {
        let missing = self.enter(domain, policy, failure, bounds, taken).err();
        match missing {
            Some(Missing::Session) => self.left_out.sessions += 1,
            Some(Missing::Detail) => self.left_out.details += 1,
            None => {}
        }
        missing
    }

    fn enter(
        &mut self,
        domain: &Domain,
        policy: &AppliedPolicy,
        failure: Option<FailureDetail>,
        bounds: Bounds,
        taken: usize,
    ) -> Result<(), Missing> {
        let room = bounds.bytes_max.saturating_sub(self.bytes + taken);
        if !self.domains.contains_key(domain) {
            let bytes = bytes_of(domain, &[]);
            if self.domains.len() >= bounds.domains_max || bytes > room {
                return Err(Missing::Session);
            }
            self.bytes += bytes;
        }
        let results = self.domains.entry(domain.clone()).or_default();
        let details: usize = results.iter().map(|result| result.failure_details.len()).sum();
        let at = match results.iter().position(|result| result.policy == *policy) {
            Some(at) => at,
            None => {
                let new = PolicyResult::new(policy.clone());
                if results.len() >= POLICIES_MAX || new.own_bytes() > room {
                    return Err(Missing::Session);
                }
                self.bytes += new.own_bytes();
                results.push(new);
                results.len() - 1
            }
        };
        let Some(result) = results.get_mut(at) else { return Err(Missing::Session) };
        let Some(failure) = failure else {
            result.summary.total_successful_session_count += 1;
            return Ok(());
        };
        result.summary.total_failure_session_count += 1;
        if let Some(known) = result.failure_details.iter_mut().find(|known| known.is_like(&failure)) {
            known.failed_session_count += 1;
        } else if details < bounds.details_max && failure.bytes() <= room {
            self.bytes += failure.bytes();
            result.failure_details.push(failure);
        } else {
            return Err(Missing::Detail);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(n: usize) -> AppliedPolicy {
        AppliedPolicy {
            policy_type: PolicyType::Sts,
            policy_string: vec![format!("max_age: {n}")],
            policy_domain: "x.example".to_owned(),
            mx_host: vec![],
        }
    }

    fn failure(n: usize) -> FailureDetail {
        FailureDetail::new(ResultType::ValidationFailure).because(&format!("reason {n}"))
    }

    fn domain(n: usize) -> Domain {
        Domain::parse(&format!("d{n}.example")).unwrap()
    }

    const WIDE: Bounds = Bounds { domains_max: 100, details_max: 100, bytes_max: 1 << 20 };

    #[test]
    fn equals_are_counted_together() {
        let mut tally = Tally::new(Timestamp(0));
        for failure in [None, Some(failure(1)), Some(failure(1)), Some(failure(2)), None, None] {
            assert_eq!(tally.count(&domain(0), &policy(0), failure, WIDE, 0), None);
        }
        assert_eq!(tally.count(&domain(0), &policy(1), None, WIDE, 0), None);
        let results = &tally.domains[&domain(0)];
        assert_eq!(results.len(), 2);
        assert_eq!(results[0].summary, Summary { total_successful_session_count: 3, total_failure_session_count: 3 });
        let counts: Vec<u64> = results[0].failure_details.iter().map(|d| d.failed_session_count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn what_finds_no_room_is_said() {
        let mut tally = Tally::new(Timestamp(0));
        let narrow = Bounds { domains_max: 2, details_max: 3, ..WIDE };
        for n in 0..5 {
            let expected = (n >= 2).then_some(Missing::Session);
            assert_eq!(tally.count(&domain(n), &policy(0), None, narrow, 0), expected);
        }
        for n in 0..5 {
            let expected = (n >= 3).then_some(Missing::Detail);
            assert_eq!(tally.count(&domain(0), &policy(n % 2), Some(failure(n)), narrow, 0), expected);
        }
        for n in 2..10 {
            let expected = (n >= POLICIES_MAX).then_some(Missing::Session);
            assert_eq!(tally.count(&domain(0), &policy(n), None, narrow, 0), expected);
        }
        assert_eq!(tally.left_out, LeftOut { sessions: 5, details: 2 });
        let failed: u64 = tally.domains[&domain(0)].iter().map(|r| r.summary.total_failure_session_count).sum();
        assert_eq!(failed, 5);
        assert_eq!(tally.count(&domain(1), &policy(1), None, WIDE, WIDE.bytes_max), Some(Missing::Session));
        assert_eq!(tally.count(&domain(1), &policy(0), None, WIDE, WIDE.bytes_max), None, "takes no room");
    }

    proptest! {
        #[test]
        fn bytes_are_bounded_and_add_up(sessions in proptest::collection::vec((0usize..20, 0usize..3, 0usize..6), 0..300)) {
            let bounds = Bounds { domains_max: 10, details_max: 4, bytes_max: 8_000 };
            let mut tally = Tally::new(Timestamp(0));
            let (mut left_out, mut all) = (0, 0);
            for (d, p, f) in sessions {
                let failure = (f > 0).then(|| failure(f));
                all += 1;
                left_out += u64::from(tally.count(&domain(d), &policy(p), failure, bounds, 0) == Some(Missing::Session));
                // One entry may begin where there is room for half of it.
                prop_assert!(tally.bytes() <= bounds.bytes_max + 2 * ENTRY_BYTES);
            }
            let bytes: usize = tally.domains.iter().map(|(domain, results)| bytes_of(domain, results)).sum();
            prop_assert_eq!(bytes, tally.bytes());
            let counted: u64 = tally.domains.values().flatten().map(|r| {
                r.summary.total_successful_session_count + r.summary.total_failure_session_count
            }).sum();
            prop_assert_eq!(counted + left_out, all);
            let mut again = Tally::new(Timestamp(0));
            tally.domains.iter().for_each(|(d, r)| again.restore(d.clone(), r.clone()));
            prop_assert_eq!(again.bytes(), bytes);
        }
    }
}
