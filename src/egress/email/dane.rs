//! DANE for mail hosts (RFC 7672): what a host's TLSA records make of the policy for its destination.
//!
//! **Promises.** They count only where DNSSEC vouches for all on the way to the host: MX records, aliases, addresses. Where they
//! cannot be looked up, nothing goes to this host, not in clear and not otherwise. Where none of them can be used, TLS is demanded
//! and nothing more; where there are none, all is as it was. What an administrator has said for a destination is left alone.
//!
//! **Does not know** how a certificate is verified by them: `net::dane` does.

use std::borrow::Cow;
use std::sync::Arc;

use super::MailEgress;
use super::hosts::{self, Host};
use super::options::Options;
use super::session::Way;
use super::tls_policy::{Dane, Named, Policy};
use super::tls_rpt::ResultType;
use super::wish;
use crate::dns::dnssec::Tlsa;
use crate::net::dane::{Association, Associations};
use crate::net::tls::{Flaw, Trouble};
use crate::route::MailHop;

/// What holds for a host cannot be met, or is not known.
pub(super) struct Unproven {
    pub(super) policy: Box<Policy>,
    /// Goes behind the host's name.
    pub(super) why: String,
    /// What that is in a TLS report; `None`: our own affair.
    pub(super) result: Option<ResultType>,
}

impl MailEgress {
    /// True if DANE is to be followed on the way to a destination, and can be: name servers that hand no DNSSEC through leave all as
    /// it is without, and what is an address has no records.
    pub(super) async fn follows_dane(&self, options: &Options, hop: &MailHop) -> bool {
        if !options.dane || !hosts::has_name(hop) {
            return false;
        }
        let works = self.resolver.validates().await;
        if !works {
            self.count_dane("no dnssec");
        }
        works
    }

    /// What holds for one host: the policy for its destination, or what the provider table and its TLSA records make of that.
    pub(super) async fn host_policy<'a>(
        &self,
        options: &Options,
        way: Way<'a>,
        host: &Host,
        bases: &[String],
    ) -> Result<Cow<'a, Policy>, Unproven> {
        match wanted(options, way, &host.name) {
            Some(policy) => {
                let by_records = self.raised(Way { tls: &policy, ..way }, host, bases).await?;
                Ok(Cow::Owned(by_records.into_owned()))
            }
            None => self.raised(way, host, bases).await,
        }
    }

    /// What a host's TLSA records make of a policy.
    async fn raised<'a>(&self, way: Way<'a>, host: &Host, bases: &[String]) -> Result<Cow<'a, Policy>, Unproven> {
        let policy = way.tls;
        if policy.dane == Dane::Ignored {
            return Ok(Cow::Borrowed(policy));
        }
        for base in bases {
            match self.resolver.tlsa(base, host.port).await {
                Ok(records) if records.is_empty() => {}
                Ok(records) => return self.by_records(way, host, base, records).map(Cow::Owned),
                Err(error) => {
                    self.count_dane("failed");
                    let why =
                        format!("its TLSA records, which may forbid that mail goes there, are not to be had: {error}");
                    let result = Some(ResultType::DnssecInvalid);
                    return Err(Unproven { policy: policy.in_doubt().into(), why, result });
                }
            }
        }
        if !bases.is_empty() {
            self.count_dane("none");
        }
        match policy.dane {
            Dane::Demanded => {
                let (why, result) = (self.why_none(bases).await.to_owned(), Some(ResultType::DaneRequired));
                Err(Unproven { policy: policy.clone().into(), why, result })
            }
            Dane::Followed | Dane::Ignored => Ok(Cow::Borrowed(policy)),
        }
    }

    /// The same for a host that mail by way of this has been given to before. `None`: it is not one of its hosts, or it is not
    /// known what holds for it.
    pub(super) async fn policy_at<'a>(&self, options: &Options, way: Way<'a>, host: &str) -> Option<Cow<'a, Policy>> {
        if !way.tls.asks_dnssec() {
            return Some(wanted(options, way, host).map_or(Cow::Borrowed(way.tls), Cow::Owned));
        }
        let hosts = hosts::hosts(self, options, way.hop, true).await.ok()?;
        let host = hosts.iter().find(|candidate| candidate.name == host && wish::may_go_to(way.tls, candidate))?;
        let bases = match host.vouched {
            true => host.addresses(self, options, &host.policy(options)).await.ok()?.tlsa_bases,
            false => Vec::new(),
        };
        self.host_policy(options, way, host, &bases).await.ok()
    }

    fn by_records(&self, way: Way<'_>, host: &Host, base: &str, records: Arc<[Tlsa]>) -> Result<Policy, Unproven> {
        let usable = records.iter().filter_map(|r| Association::parse(r.usage, r.selector, r.matching, &r.data));
        let Some(associations) = Associations::new(usable) else {
            self.count_dane("unusable");
            return match way.tls.dane {
                Dane::Demanded => {
                    let why = format!("none of its TLSA records can be used for SMTP ({})", shown(&records));
                    Err(Unproven { policy: way.tls.clone().into(), why, result: Some(ResultType::TlsaInvalid) })
                }
                Dane::Followed | Dane::Ignored => Ok(way.tls.encrypted(records)),
            };
        };
        self.count_dane("usable");
        // RFC 7672 section 3.2.2.
        let asked = match way.hop {
            MailHop::Mx(domain) => domain.to_ascii().map_or_else(|_| host.name.clone(), |ascii| ascii.to_string()),
            MailHop::Fixed(_) => host.name.clone(),
        };
        match self.vouching.by(&associations, &[base, &asked]) {
            Ok(with) => Ok(way.tls.named(Named { with, base: base.into() }, records)),
            Err(error) => Err(Unproven { policy: way.tls.in_doubt().into(), why: error.to_string(), result: None }),
        }
    }

    /// Why there are no records.
    async fn why_none(&self, bases: &[String]) -> &'static str {
        match bases {
            [] if !self.resolver.validates().await => {
                "our name servers hand no DNSSEC through, so that nobody can vouch for its TLSA records"
            }
            [] => "DNSSEC does not vouch for its name and address, so that it cannot have TLSA records that count",
            _ => "it has no TLSA records",
        }
    }

    fn count_dane(&self, result: &str) {
        self.metrics.dane_lookups.with_label_values(&[result]).inc();
    }
}

/// The policy for a host of somebody of whom the provider table says that he wants TLS. What an administrator has made a next hop
/// is his to know.
fn wanted(options: &Options, way: Way<'_>, host: &str) -> Option<Policy> {
    match way.hop {
        MailHop::Mx(_) => way.tls.wanted_by(options.providers.provider_of(host)),
        MailHop::Fixed(_) => None,
    }
}

impl Policy {
    /// The words for what went wrong in a handshake; with the records where these were not met.
    pub(super) fn words_for(&self, trouble: &Trouble) -> String {
        match trouble {
            Trouble::Certificate(Flaw::NotNamed, why) => format!("{why} ({})", shown(&self.tlsa)),
            other => other.to_string(),
        }
    }
}

/// The records as in a zone file, long ones shortened.
fn shown(records: &[Tlsa]) -> String {
    const SHOWN: usize = 3;
    const CHARACTERS: usize = 80;
    let mut words: Vec<String> =
        records.iter().take(SHOWN).map(|record| record.to_string().chars().take(CHARACTERS).collect()).collect();
    if records.len() > SHOWN {
        words.push(format!("{} more", records.len() - SHOWN));
    }
    words.join("; ")
}
