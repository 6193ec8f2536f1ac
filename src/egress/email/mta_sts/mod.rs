//! MTA-STS (RFC 8461): what domains publish about TLS with their mail hosts, fetched, kept and followed.
//!
//! **Promises.** A policy that is known holds for its time, whatever DNS or the policy host say or fail to say meanwhile; a new
//! id in DNS has it fetched anew before the next mail, age has it fetched anew in the background. One fetch at a time for a
//! domain; after one that failed none for a while, and then no mail waits for the next one: who serves nothing, slowly, holds
//! up one round of mail and no more, whatever ids it announces.
//!
//! **Does not know** what a policy means for a connection.
//!
//! **Fails how.** A domain whose policy cannot be fetched, and of which none is known, is a domain without one, as the RFC
//! says; it is logged and counted.

mod fetch;
mod record;
mod store;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::fetch::{FetchError, Reach};
use self::record::{Mode, StsPolicy};
use self::store::{Kept, Store};
use super::options::Options;
use super::tls_policy::{HostPattern, Published, TlsLevel};
use crate::clock::{Mono, SharedClock, Timestamp};
use crate::dns::Resolver;
use crate::event::metrics::Metrics;
use crate::model::Domain;
use crate::net::tls::Verifying;
use crate::net::{AddressPolicy, Authorities};

/// Policies fetched at a time.
const FETCHES_MAX: usize = 256;
/// How long a failed fetch is not tried again.
const FAILURE_KEPT: Duration = Duration::from_secs(300);
/// Failures that are remembered; at the limit further ones are tried again each time.
const FAILURES_MAX: usize = 10_000;
/// Names of mail hosts that a report repeats of a policy.
pub(super) const HOSTS_SHOWN: usize = 32;

/// How MTA-STS is followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MtaStsOptions {
    /// The port of policy hosts. Default 443.
    pub port: u16,
    /// Who vouches for them. Default the system's.
    pub authorities: Authorities,
    /// How long a fetch may take, its turn waited for. Default 30 s.
    pub timeout: Duration,
    /// Longest policy taken. Default 64 KiB.
    pub policy_bytes_max: usize,
    /// Policies kept. Default 10,000.
    pub policies_max: usize,
    /// How old a policy may be before it is fetched again. Default a day.
    pub refresh: Duration,
    /// Where they are kept over a restart; read at the start only.
    pub file: Option<PathBuf>,
}

impl Default for MtaStsOptions {
    fn default() -> Self {
        Self {
            port: 443,
            authorities: Authorities::System,
            timeout: Duration::from_secs(30),
            policy_bytes_max: 64 * 1024,
            policies_max: 10_000,
            refresh: Duration::from_secs(24 * 3600),
            file: None,
        }
    }
}

/// The id that a TXT record announces, and the hosts that a policy names: the two parsers, for the fuzzer.
#[doc(hidden)]
pub fn parsed(text: &str) -> (Option<String>, Option<Vec<HostPattern>>) {
    (record::announced([text]), record::policy(text).map(|policy| policy.hosts.to_vec()))
}

/// What is known, and how more is found out.
pub(super) struct MtaSts {
    resolver: Resolver,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
    fetches: Semaphore,
    /// Domains whose policy is being fetched: one asks, the others wait.
    flights: Mutex<HashMap<Domain, Arc<tokio::sync::Mutex<()>>>>,
    /// Domains of which a fetch failed, until when that is enough, and how it failed.
    failures: Mutex<HashMap<Domain, (Mono, FetchError)>>,
    verifying: Verifying,
}

/// What there is to say of a domain's policy in a report (RFC 8460): nothing, if it has none.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// The policy that is known, unless it says that there is none.
    pub(super) policy: Option<Found>,
    /// The domain announces one that could not be fetched: the kind of the failure, and words.
    pub(super) failure: Option<(&'static str, String)>,
}

/// A policy, as a report shows it.
#[derive(Debug)]
pub(super) struct Found {
    /// Its lines; of many mail hosts the first.
    pub(super) lines: Vec<String>,
    /// All of its mail hosts.
    pub(super) hosts: Arc<[HostPattern]>,
}

/// Settings of a fetch, of its own: it may outlive the mail that it is for.
struct Means {
    options: MtaStsOptions,
    addresses: AddressPolicy,
}

impl Means {
    fn of(options: &Options) -> Option<Self> {
        let own = options.mta_sts.clone()?;
        let addresses = AddressPolicy { allow_private: options.allow_private.clone() };
        Some(Self { options: own, addresses })
    }
}

/// A place among those that fetch one domain's policy.
struct Flight<'a> {
    sts: &'a MtaSts,
    domain: &'a Domain,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.sts.flights.lock();
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.turn) <= 2 {
            flights.remove(self.domain);
        }
    }
}

impl MtaSts {
    /// Reads what was kept.
    pub(super) fn new(options: &Options, resolver: Resolver, clock: SharedClock, metrics: Arc<Metrics>) -> Self {
        let own = options.mta_sts.clone().unwrap_or_default();
        Self {
            resolver,
            clock,
            metrics,
            store: Arc::new(Store::open(own.file, own.policies_max)),
            fetches: Semaphore::new(FETCHES_MAX),
            flights: Mutex::default(),
            failures: Mutex::default(),
            verifying: Verifying::default(),
        }
    }

    /// What holds for a domain's mail hosts.
    pub(super) async fn published(self: &Arc<Self>, options: &Options, domain: &Domain) -> Option<Published> {
        let own = options.mta_sts.as_ref()?;
        let domain = domain.to_ascii().ok()?;
        let announced = self.announced(&domain).await;
        let now = self.clock.now();
        let kept = match (self.store.find(&domain, now), announced) {
            (Some(kept), None) => Some(kept),
            (Some(kept), Some(id)) if kept.id == id => {
                if kept.is_due(now, own.refresh) && !self.failed_lately(&domain) {
                    self.fetch_behind(Means::of(options)?, domain, id, Some(now));
                }
                Some(kept)
            }
            (kept, Some(_)) if self.failed_lately(&domain) => kept,
            (kept, Some(id)) if self.failures.lock().contains_key(&domain) => {
                self.fetch_behind(Means::of(options)?, domain, id, None);
                kept
            }
            (kept, Some(id)) => self.fetched(&Means::of(options)?, &domain, &id, None).await.or(kept),
            (None, None) => None,
        }?;
        let (name, level) = match kept.policy.mode {
            Mode::Enforce => ("mta-sts enforce", TlsLevel::Verified),
            Mode::Testing => ("mta-sts testing", TlsLevel::Opportunistic),
            Mode::None => ("mta-sts none", TlsLevel::Opportunistic),
        };
        let hosts = if kept.policy.mode == Mode::Enforce { kept.policy.hosts } else { Arc::default() };
        Some(Published { name, level, hosts })
    }

    /// What a report on sessions towards a domain, in A-labels, has to say of its policy. Fetches nothing.
    pub(super) async fn finding(&self, options: &Options, domain: &Domain) -> Finding {
        if options.mta_sts.is_none() {
            return Finding::default();
        }
        let kept = self.store.find(domain, self.clock.now());
        let failed = self.failures.lock().get(domain).map(|(_, why)| (why.kind, why.to_string()));
        let failure = match failed {
            // It is no failure of a domain that announces nothing any more, or what is known already.
            Some(failed) => {
                let announced = self.announced(domain).await;
                announced.filter(|id| kept.as_ref().is_none_or(|kept| kept.id != *id)).map(|_| failed)
            }
            None => None,
        };
        let policy = kept.map(|kept| kept.policy).filter(|policy| policy.mode != Mode::None);
        Finding {
            policy: policy.map(|policy| Found { lines: policy.lines(HOSTS_SHOWN), hosts: policy.hosts }),
            failure,
        }
    }

    /// Fetches those anew that are old, one after the other.
    pub(super) async fn refresh(&self, options: &Options) {
        let Some(means) = Means::of(options) else { return };
        let now = self.clock.now();
        for domain in self.store.due(now, means.options.refresh) {
            let Some(kept) = self.store.find(&domain, now) else { continue };
            let id = self.announced(&domain).await.unwrap_or(kept.id);
            self.fetched(&means, &domain, &id, Some(now)).await;
        }
        self.store.save();
    }

    /// The id in DNS.
    async fn announced(&self, domain: &Domain) -> Option<String> {
        // Without an answer nothing is known, which is the same as without a record (RFC 8461 section 3.1).
        let records = self.resolver.txt(&format!("_mta-sts.{domain}")).await.ok()?;
        record::announced(records.iter().map(String::as_str))
    }

    /// Fetches a policy while mail goes on without it.
    fn fetch_behind(self: &Arc<Self>, means: Means, domain: Domain, id: String, since: Option<Timestamp>) {
        let sts = self.clone();
        tokio::spawn(async move { sts.fetched(&means, &domain, &id, since).await });
    }

    /// Fetches a policy, unless somebody has just done so: with this id, and if `since` is given after that.
    async fn fetched(&self, means: &Means, domain: &Domain, id: &str, since: Option<Timestamp>) -> Option<Kept> {
        let turn = self.flights.lock().entry(domain.clone()).or_default().clone();
        let flight = Flight { sts: self, domain, turn };
        let _alone = flight.turn.lock().await;
        let known = self.store.find(domain, self.clock.now()).filter(|kept| kept.id == id);
        if let Some(known) = known.filter(|kept| since.is_none_or(|since| kept.fetched > since)) {
            return Some(known);
        }
        if self.failed_lately(domain) {
            return None;
        }
        let fetching = tokio::time::timeout(means.options.timeout, self.fetch(means, domain)).await;
        let fetched = fetching.unwrap_or_else(|_| Err(FetchError::late(domain)));
        let result = fetched.as_ref().map_or_else(|e| e.kind, |_| "ok");
        self.metrics.mta_sts_fetches.with_label_values(&[result]).inc();
        match fetched {
            Ok(policy) => {
                tracing::debug!(%domain, id, mode = policy.mode.as_str(), "an MTA-STS policy was fetched");
                let kept = Kept { id: id.to_owned(), policy, fetched: self.clock.now() };
                self.store.put(domain.clone(), kept.clone(), means.options.policies_max);
                self.failures.lock().remove(domain);
                self.store.save();
                Some(kept)
            }
            Err(e) => {
                tracing::warn!(%domain, id, cause = %e, "the domain's MTA-STS policy cannot be fetched");
                self.remember_failure(domain, e);
                None
            }
        }
    }

    async fn fetch(&self, means: &Means, domain: &Domain) -> Result<StsPolicy, FetchError> {
        let with = self.verifying.by(&means.options.authorities).map_err(|e| FetchError::of(&e))?;
        let _one_of_few = self.fetches.acquire().await;
        let addresses = means.addresses.clone();
        Reach { resolver: &self.resolver, options: &means.options, addresses, with }.fetch(domain).await
    }

    fn failed_lately(&self, domain: &Domain) -> bool {
        let now = self.clock.mono();
        self.failures.lock().get(domain).is_some_and(|(until, _)| now < *until)
    }

    fn remember_failure(&self, domain: &Domain, why: FetchError) {
        let now = self.clock.mono();
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURES_MAX {
            failures.retain(|_, (until, _)| now < *until);
        }
        if failures.len() < FAILURES_MAX {
            failures.insert(domain.clone(), (now.plus(FAILURE_KEPT), why));
        }
    }
}
