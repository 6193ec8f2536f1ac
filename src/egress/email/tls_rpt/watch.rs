//! Seeing what becomes of a session: who it is with, under which policies, and how it ends.
//!
//! **Promises.** A session attempt is told once under each policy that applied: when the host is ready with TLS, when it has none,
//! or when TLS fails. What fails before TLS could be asked for (no connection, no greeting) is not told: the RFC wants no
//! transient errors (section 4.3.4). What MTA-STS in mode testing would have refused is told as that failure, and the mail goes.
//!
//! **Does not know** how policies are followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustls::ClientConfig;

use super::super::MailEgress;
use super::super::mta_sts::{Finding, HOSTS_SHOWN};
use super::super::options::Options;
use super::super::tls_policy::{HostPattern, Policy, TlsLevel};
use super::tally::{AppliedPolicy, FailureDetail, PolicyType, printable};
use super::{REPORTS_CLIENT, ResultType};
use crate::dns::dnssec::Tlsa;
use crate::model::{Domain, Envelope, Reply};
use crate::net::judging::Judging;
use crate::net::tls;
use crate::route::MailHop;

/// A policy domain whose sessions are told.
#[derive(Debug)]
pub(in crate::egress::email) struct Watched {
    domain: Domain,
    /// What the domain publishes counts here.
    follows: bool,
    applied: OnceLock<Applied>,
}

/// What applies to the sessions that are opened now.
#[derive(Debug)]
struct Applied {
    /// Under which each session is told.
    policies: Vec<AppliedPolicy>,
    /// Who may be called, where a policy of MTA-STS says so.
    hosts: Arc<[HostPattern]>,
}

impl Applied {
    fn sts(&self) -> Option<&AppliedPolicy> {
        self.policies.iter().find(|policy| policy.policy_type == PolicyType::Sts)
    }
}

impl Watched {
    /// `None` where nothing is told: mail that carries a report or has a wish of its own, a fixed next hop, an address literal, and where TLS is off here.
    pub(in crate::egress::email) fn of(envelope: &Envelope, hop: &MailHop, tls: &Policy) -> Option<Self> {
        let MailHop::Mx(domain) = hop else { return None };
        let apart = *envelope.client == *REPORTS_CLIENT || tls.is_wished();
        if apart || domain.is_literal() || tls.level == TlsLevel::Off {
            return None;
        }
        Some(Self { domain: domain.to_ascii().ok()?, follows: tls.follows_domain(), applied: OnceLock::new() })
    }

    /// Finds out what applies; to be called before sessions are opened. A policy that should be there and cannot be had is told
    /// here: it condemns no host.
    pub(in crate::egress::email) async fn look_up(&self, egress: &MailEgress, options: &Options) {
        let finding = if self.follows { egress.sts.finding(options, &self.domain).await } else { Finding::default() };
        let mut applied = Applied { policies: Vec::new(), hosts: Arc::default() };
        if let Some((kind, why)) = &finding.failure {
            let failure = FailureDetail::new(ResultType::of_fetch(kind)).because(why);
            self.tell(egress, options, &self.policy(PolicyType::Sts, Vec::new(), Vec::new()), Some(failure));
        }
        applied.policies.push(match finding.policy {
            Some(policy) => {
                let hosts = policy.hosts.iter().take(HOSTS_SHOWN).map(|host| host.as_str().to_owned());
                let shown = self.policy(PolicyType::Sts, policy.lines, hosts.collect());
                applied.hosts = policy.hosts;
                shown
            }
            None => self.policy(PolicyType::NoPolicyFound, Vec::new(), Vec::new()),
        });
        let _ = self.applied.set(applied);
    }

    fn policy(&self, policy_type: PolicyType, policy_string: Vec<String>, mx_host: Vec<String>) -> AppliedPolicy {
        AppliedPolicy { policy_type, policy_string, policy_domain: self.domain.to_string(), mx_host }
    }

    /// What its TLSA records say of a host is not known, or cannot be met: it is not called.
    pub(in crate::egress::email) fn unproven(
        &self,
        egress: &MailEgress,
        options: &Options,
        host: &str,
        (result, why): (ResultType, &str),
    ) {
        let failure = FailureDetail::new(result).because(why);
        let failure = FailureDetail { receiving_mx_hostname: Some(host.to_owned()), ..failure };
        self.tell(egress, options, &self.policy(PolicyType::Tlsa, Vec::new(), Vec::new()), Some(failure));
    }

    /// A host that the policy does not name, and that is not called.
    pub(in crate::egress::email) fn not_permitted(&self, egress: &MailEgress, options: &Options, host: &str) {
        if let Some(policy) = self.applied.get().and_then(Applied::sts) {
            let failure = FailureDetail::new(ResultType::ValidationFailure).because(NOT_NAMED);
            let failure = FailureDetail { receiving_mx_hostname: Some(host.to_owned()), ..failure };
            self.tell(egress, options, policy, Some(failure));
        }
    }

    fn tell(&self, egress: &MailEgress, options: &Options, policy: &AppliedPolicy, failure: Option<FailureDetail>) {
        egress.tls_reports.count(&options.tls_reports, &self.domain, policy, failure);
    }
}

/// Why a host is none of the policy's.
const NOT_NAMED: &str = "the policy names other mail hosts";

/// One address of one host that is called for a watched domain; or for nobody in particular, and then nothing is told.
pub(in crate::egress::email) struct Sight<'a> {
    egress: &'a MailEgress,
    options: &'a Options,
    watched: Option<&'a Watched>,
    host: &'a str,
    address: SocketAddr,
    /// Its TLSA records, where they count; then nothing else does.
    tlsa: &'a [Tlsa],
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    from: Option<IpAddr>,
    helo: Option<String>,
    judging: Option<Judging>,
}

impl<'a> Sight<'a> {
    pub(in crate::egress::email) fn new(
        egress: &'a MailEgress,
        options: &'a Options,
        watched: Option<&'a Watched>,
        host: &'a str,
        address: SocketAddr,
        tlsa: &'a [Tlsa],
    ) -> Self {
        Self { egress, options, watched, host, address, tlsa, seen: Mutex::default() }
    }

    /// The address that the connection was made from.
    pub(in crate::egress::email) fn left_from(&self, from: Option<IpAddr>) {
        self.seen.lock().from = from;
    }

    /// A reply to EHLO: the host says who it is.
    pub(in crate::egress::email) fn heard(&self, reply: &Reply) {
        if self.watched.is_some() && reply.code == 250 {
            self.seen.lock().helo = reply.text.split_whitespace().next().map(printable);
        }
    }

    /// What the connection is to be made with where any certificate will do, so that it is known what a policy that is only
    /// tested would have said of it; `None`: there is none.
    pub(in crate::egress::email) fn judging(&self) -> Option<Arc<ClientConfig>> {
        self.watched?.applied.get()?.sts().filter(|_| self.tlsa.is_empty())?;
        let judging = self.egress.judges.by(&self.options.tls.authorities).ok()?;
        let config = judging.config().clone();
        self.seen.lock().judging = Some(judging);
        Some(config)
    }

    /// The session has TLS.
    pub(in crate::egress::email) fn secured(&self) {
        let objection = self.seen.lock().judging.as_ref().and_then(Judging::objection);
        self.tell(|policy| {
            let objection = objection.as_ref().filter(|_| policy.policy_type == PolicyType::Sts)?;
            let reason = tls::trouble(&std::io::Error::other(objection.clone())).to_string();
            Some((ResultType::of_tls(objection), Some(reason)))
        });
    }

    /// The session has no TLS, or failed in it.
    pub(in crate::egress::email) fn failed(&self, result: ResultType, reason: Option<&str>) {
        self.tell(|_| Some((result, reason.map(str::to_owned))));
    }

    /// The handshake failed.
    pub(in crate::egress::email) fn handshake_failed(&self, error: &std::io::Error) {
        self.failed(ResultType::of_handshake(error), Some(&tls::trouble(error).to_string()));
    }

    /// Tells the session under each policy that applied.
    fn tell(&self, failure: impl Fn(&AppliedPolicy) -> Option<(ResultType, Option<String>)>) {
        let Some((watched, applied)) = self.watched.and_then(|w| Some((w, w.applied.get()?))) else { return };
        if !self.tlsa.is_empty() {
            let records = self.tlsa.iter().map(ToString::to_string).collect();
            let policy = watched.policy(PolicyType::Tlsa, records, Vec::new());
            let failure = failure(&policy).map(|(result, reason)| self.described(result, reason));
            return watched.tell(self.egress, self.options, &policy, failure);
        }
        for policy in &applied.policies {
            let named = applied.hosts.is_empty() || applied.hosts.iter().any(|pattern| pattern.matches(self.host));
            let other = || {
                let is_other = policy.policy_type == PolicyType::Sts && !named;
                is_other.then(|| (ResultType::ValidationFailure, Some(NOT_NAMED.to_owned())))
            };
            let failure = failure(policy).or_else(other).map(|(result, reason)| self.described(result, reason));
            watched.tell(self.egress, self.options, policy, failure);
        }
    }

    fn described(&self, result: ResultType, reason: Option<String>) -> FailureDetail {
        let seen = self.seen.lock();
        FailureDetail {
            sending_mta_ip: seen.from,
            receiving_mx_hostname: Some(self.host.to_owned()),
            receiving_mx_helo: seen.helo.clone(),
            receiving_ip: Some(self.address.ip()),
            failure_reason_code: reason.as_deref().map(printable),
            ..FailureDetail::new(result)
        }
    }
}
