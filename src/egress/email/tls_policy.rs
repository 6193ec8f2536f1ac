//! Which TLS a mail must have on its way, on whose word, and what it means when a host does not have it.
//!
//! **Promises.** A level is never lowered on the word of the network: what the administrator has set for a destination holds
//! as it stands; what a domain publishes, by MTA-STS or by TLSA records (see `dane`), can only raise the default. One policy has
//! one name, such as `verified (mta-sts enforce)`, in causes, events, `explain` and the log.
//!
//! **Does not know** how a handshake is made; `net::tls` and the session do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use super::MailEgress;
use super::options::Options;
use super::verdict::Setback;
use super::wish;
use crate::dns::dnssec::Tlsa;
use crate::model::{Domain, EnhancedStatus, Failure, MailOrigin, Peer, Scope, Stage, TlsWish};
use crate::net::Authorities;
use crate::provider::Provider;
use crate::route::{self, MailHop};

/// How much TLS, from none to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TlsLevel {
    /// Never.
    Off,
    /// Where offered, with any certificate; in clear where it is not offered or fails (RFC 7435).
    #[default]
    Opportunistic,
    /// With any certificate; without TLS the mail waits.
    Required,
    /// With a certificate of a trusted authority in the host's name; otherwise the mail waits.
    Verified,
    /// With a certificate that the host's TLSA records name, where DNSSEC vouches for these (RFC 7672); otherwise the mail waits.
    Dane,
}

impl TlsLevel {
    /// All levels, with the words for them in the configuration, in causes and in metrics.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("opportunistic", Self::Opportunistic),
        ("required", Self::Required),
        ("verified", Self::Verified),
        ("dane", Self::Dane),
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
            Self::Verified => "verified",
            Self::Dane => "dane",
        }
    }
}

/// A name that mail hosts may have: `mail.example.com`, or `*.example.com` for any one label in front (RFC 8461 section 4.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPattern(Arc<str>);

impl HostPattern {
    /// Parses a pattern; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let domain = Domain::parse(name).ok().filter(|d| !d.is_literal())?;
        let ascii = domain.to_ascii().ok()?;
        let whole = if name.len() == text.len() { ascii.as_str().to_owned() } else { format!("*.{ascii}") };
        Some(Self(whole.into()))
    }

    /// The pattern as text, lower case, in A-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is a host of this name meant?
    pub fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        match self.0.strip_prefix("*.") {
            Some(parent) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
            }
            None => host.eq_ignore_ascii_case(&self.0),
        }
    }
}

/// What an administrator wants of destinations by their domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsRule {
    /// `example.net`, `*.example.net` (below it), `*` (all); in A-labels.
    pub domains: Vec<String>,
    /// How much TLS.
    pub level: TlsLevel,
    /// What the domain's mail hosts may be called; empty: whatever its MX records say.
    pub hosts: Arc<[HostPattern]>,
}

/// What an administrator wants of all destinations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsPolicies {
    /// Where nothing else is said. Default opportunistic.
    pub default: TlsLevel,
    /// By domain, for mail that goes by MX.
    pub rules: Vec<TlsRule>,
    /// By fixed next hop.
    pub hops: HashMap<Arc<str>, TlsLevel>,
    /// Who vouches for mail hosts. Default the system's.
    pub authorities: Authorities,
}

/// What a domain has published about its mail hosts, as far as it concerns TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Published {
    /// Shown, such as `mta-sts enforce`.
    pub(super) name: &'static str,
    /// The least there has to be.
    pub(super) level: TlsLevel,
    /// What the hosts may be called.
    pub(super) hosts: Arc<[HostPattern]>,
}

/// On whose word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The mail's own wish (RFC 8689), in its words.
    Sender(&'static str),
    Default,
    Rule(Arc<str>),
    Route,
    Published(&'static str),
    /// The provider table's: whoever runs the host wants TLS.
    Provider(Arc<str>),
    /// TLSA records that name the host's certificate.
    Dane,
    /// TLSA records of which none can be used: TLS is demanded, and no more (RFC 7672 section 2.2).
    DaneUnusable,
}

impl Source {
    /// A label of metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Rule(_) | Self::Route => "configured",
            Self::Sender(_) => "sender",
            Self::Published(name) => name,
            Self::Provider(_) => "provider table",
            Self::Dane => "dane",
            Self::DaneUnusable => "dane, unusable TLSA",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(pattern) => write!(f, "configured for {pattern}"),
            Self::Route => f.write_str("configured for the route"),
            Self::Provider(name) => write!(f, "provider table for {name}"),
            Self::Sender(words) => write!(f, "the mail says {words}"),
            Self::Default | Self::Published(_) | Self::Dane | Self::DaneUnusable => f.write_str(self.as_str()),
        }
    }
}

/// What DANE may do to a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dane {
    /// Nothing: the administrator has said what holds, or does not follow it.
    Ignored,
    /// Raise it for hosts that have TLSA records.
    Followed,
    /// Without it, nothing goes.
    Demanded,
}

/// What a host is verified by, where its TLSA records name its certificate.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) with: Arc<ClientConfig>,
    /// The TLSA base domain: the name for SNI (RFC 7672 section 8.1).
    pub(super) base: Arc<str>,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.with, &other.with) && self.base == other.base
    }
}

impl Eq for Named {}

/// What holds for one mail, or for one host that may take it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Policy {
    pub(super) level: TlsLevel,
    pub(super) source: Source,
    /// Empty: any.
    pub(super) hosts: Arc<[HostPattern]>,
    /// Its name, as it is shown everywhere.
    pub(super) name: Arc<str>,
    pub(super) dane: Dane,
    /// What the certificate is verified by, if not by authorities.
    pub(super) named: Option<Named>,
    /// The host's TLSA records, where they count.
    pub(super) tlsa: Arc<[Tlsa]>,
}

impl Policy {
    pub(super) fn new(level: TlsLevel, source: Source, hosts: Arc<[HostPattern]>) -> Self {
        let name = format!("{} ({source})", level.as_str()).into();
        let dane = if level == TlsLevel::Dane { Dane::Demanded } else { Dane::Ignored };
        Self { level, source, hosts, name, dane, named: None, tlsa: Arc::new([]) }
    }

    /// What it is for a host whose certificate these records name. The certificate is then all that counts (RFC 7672 section 2.2;
    /// RFC 8461 section 2: what MTA-STS says does not), unless the administrator has named hosts.
    pub(super) fn named(&self, named: Named, tlsa: Arc<[Tlsa]>) -> Self {
        let own = match self.dane {
            Dane::Demanded => self.clone(),
            // What MTA-STS says does not count for such a host; the mail's own demand does.
            _ if self.demands_promise() => Self { hosts: Arc::default(), ..self.clone() },
            Dane::Followed | Dane::Ignored => Self::dane(TlsLevel::Verified, Source::Dane),
        };
        Self { named: Some(named), tlsa, ..own }
    }

    /// What it is for a host whose records cannot be used: at least TLS.
    pub(super) fn encrypted(&self, tlsa: Arc<[Tlsa]>) -> Self {
        if self.level >= TlsLevel::Required {
            return self.clone();
        }
        Self { tlsa, ..Self::dane(TlsLevel::Required, Source::DaneUnusable) }
    }

    /// What it is for a host of which it is not known what its records say.
    pub(super) fn in_doubt(&self) -> Self {
        match self.dane {
            Dane::Demanded => self.clone(),
            _ if self.demands_promise() => self.clone(),
            Dane::Followed | Dane::Ignored => Self::dane(TlsLevel::Verified, Source::Dane),
        }
    }

    fn dane(level: TlsLevel, source: Source) -> Self {
        Self { dane: Dane::Followed, ..Self::new(level, source, Arc::default()) }
    }

    /// What it is for a host of somebody who wants TLS, if so far nobody demands it: mail in clear would be refused or held
    /// against us, and whoever says there that TLS is not offered is somebody else.
    pub(super) fn wanted_by(&self, provider: &Provider) -> Option<Self> {
        let open = self.level == TlsLevel::Opportunistic && self.follows_domain();
        let wanted = open && provider.limits.tls_wanted == Some(true);
        let required = || Self::new(TlsLevel::Required, Source::Provider(provider.name.clone()), self.hosts.clone());
        wanted.then(|| Self { dane: self.dane, ..required() })
    }

    /// True if it takes DNSSEC to know what holds.
    pub(super) fn asks_dnssec(&self) -> bool {
        self.dane != Dane::Ignored
    }

    /// True if nothing goes in clear.
    pub(super) fn demands_tls(&self) -> bool {
        self.level >= TlsLevel::Required
    }

    /// True if the host must promise REQUIRETLS.
    pub(super) fn demands_promise(&self) -> bool {
        self.source == Source::Sender(wish::REQUIRED)
    }

    /// May mail go to a host of this name?
    pub(super) fn permits(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// True where the mail itself says what holds for it.
    pub(super) fn is_wished(&self) -> bool {
        matches!(self.source, Source::Sender(_))
    }

    /// False where the administrator has set what holds, and what the domain publishes counts for nothing.
    pub(super) fn follows_domain(&self) -> bool {
        matches!(self.source, Source::Default | Source::Published(_))
    }

    /// The labels of metrics: level and source.
    pub(super) fn labels(&self) -> [&'static str; 2] {
        [self.level.as_str(), self.source.as_str()]
    }

    /// A host does not have what it must have: the mail waits, and its cause says for what.
    pub(super) fn unmet(&self, peer: Peer, status: EnhancedStatus, why: &str) -> Setback {
        let way_out = match &self.source {
            Source::Published(_) | Source::Dane | Source::DaneUnusable => {
                "its postmaster must repair that, or a [[tls_policy]] here overrule what the domain publishes"
            }
            Source::Rule(_) => "the host must be repaired, or the [[tls_policy]] here lowered",
            Source::Sender(_) => "the host must be repaired, or the mail sent again without that wish",
            Source::Route => "the host must be repaired, or tls in its [[route]] lowered",
            Source::Default | Source::Provider(_) => {
                "the host must be repaired, or a [[tls_policy]] here make an exception"
            }
        };
        let cause = format!("the TLS policy {} is not met by {}: {why}; {way_out}", self.name, peer.host);
        // What one mail demands says nothing about the others.
        let scope = if self.demands_promise() { Scope::Message } else { Scope::Host };
        let failure = Failure::without_reply(scope, Stage::Tls, status, cause);
        Setback { failure, permanent: false, peer: Some(peer) }
    }
}

/// TLS is not offered, or refused.
pub(super) const NOT_OFFERED: EnhancedStatus = EnhancedStatus::new(4, 7, 4);
/// It is offered and fails, or the certificate does not prove what it should.
pub(super) const NOT_SECURE: EnhancedStatus = EnhancedStatus::new(4, 7, 5);
/// The policy does not know the host.
pub(super) const NOT_PERMITTED: EnhancedStatus = EnhancedStatus::new(4, 7, 1);

impl TlsPolicies {
    /// What the administrator has set for a destination; the default where that is nothing in particular.
    pub(super) fn configured(&self, hop: &MailHop) -> Policy {
        match hop {
            MailHop::Fixed(next_hop) => match self.hops.get(next_hop) {
                Some(level) => Policy::new(*level, Source::Route, Arc::default()),
                None => self.otherwise(),
            },
            MailHop::Mx(domain) => {
                // What cannot be written in A-labels has no mail host either.
                let domain = domain.to_ascii().unwrap_or_else(|_| domain.clone());
                let patterns = self.rules.iter().flat_map(|rule| rule.domains.iter().map(move |p| (p, rule)));
                let ranked = patterns.filter_map(|(p, rule)| Some((route::rank(p, &domain)?, rule, p)));
                match ranked.max_by_key(|(rank, ..)| *rank) {
                    Some((_, rule, pattern)) => {
                        Policy::new(rule.level, Source::Rule(pattern.as_str().into()), rule.hosts.clone())
                    }
                    None => self.otherwise(),
                }
            }
        }
    }

    fn otherwise(&self) -> Policy {
        Policy::new(self.default, Source::Default, Arc::default())
    }
}

impl MailEgress {
    /// Which TLS policy holds for this mail by way of `hop`, as long as no host's TLSA records say more. May ask DNS and the
    /// domain.
    ///
    /// # Errors
    /// No host of the destination can have what the mail demands.
    pub(super) async fn tls_policy(
        &self,
        options: &Options,
        hop: &MailHop,
        origin: &MailOrigin,
    ) -> Result<Policy, Box<Setback>> {
        let configured = options.tls.configured(hop);
        let open = configured.source == Source::Default && !matches!(configured.level, TlsLevel::Off | TlsLevel::Dane);
        let wish = wish::of(origin);
        if open && wish == TlsWish::NotRequired {
            return Ok(wish::waived(configured));
        }
        let policy = if open { self.published(options, hop, configured).await } else { configured };
        if wish == TlsWish::Required { wish::demanded(policy, hop) } else { Ok(policy) }
    }

    /// What the domain's publications make of the default.
    async fn published(&self, options: &Options, hop: &MailHop, default: Policy) -> Policy {
        let mut policy = match hop {
            MailHop::Mx(domain) if !domain.is_literal() => raised(default, self.sts.published(options, domain).await),
            _ => default,
        };
        if self.follows_dane(options, hop).await {
            policy.dane = Dane::Followed;
        }
        policy
    }
}

/// The stronger of the default and what the domain publishes.
fn raised(default: Policy, published: Option<Published>) -> Policy {
    match published {
        Some(published) if published.says_more_than(&default) => {
            let Published { name, level, hosts } = published;
            Policy::new(level.max(default.level), Source::Published(name), hosts)
        }
        _ => default,
    }
}

impl Published {
    /// Where nothing is demanded here, whatever is published is what holds, and is shown.
    fn says_more_than(&self, default: &Policy) -> bool {
        !default.demands_tls() || self.level > default.level || !self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (text, host, fits) in [
            ("mx.example", "mx.example", true),
            ("mx.example", "MX.Example.", true),
            ("mx.example", "a.mx.example", false),
            ("*.example", "mx.example", true),
            ("*.example", "a.mx.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.b\u{fc}cher.example", "mx.xn--bcher-kva.example", true),
        ] {
            assert_eq!(pattern(text).matches(host), fits, "{text} {host}");
        }
        for bad in ["", "*", "*.", "*.*.example", "m*.example", "[192.0.2.1]", "a..b", "mx.example."] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    fn policies() -> TlsPolicies {
        let rule = |domains: &[&str], level, hosts: &[&str]| TlsRule {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            level,
            hosts: hosts.iter().map(|h| pattern(h)).collect(),
        };
        TlsPolicies {
            default: TlsLevel::Opportunistic,
            rules: vec![
                rule(&["*.bank.example", "bank.example"], TlsLevel::Verified, &["*.mail.example"]),
                rule(&["old.bank.example"], TlsLevel::Off, &[]),
                rule(&["xn--bcher-kva.example"], TlsLevel::Required, &[]),
            ],
            hops: HashMap::from([("smart.example:25".into(), TlsLevel::Required)]),
            authorities: Authorities::System,
        }
    }

    #[test]
    fn the_most_exact_rule_wins_and_says_its_name() {
        let policies = policies();
        let by = |domain: &str| policies.configured(&MailHop::Mx(Domain::parse(domain).unwrap()));
        assert_eq!(&*by("bank.example").name, "verified (configured for bank.example)");
        assert_eq!(&*by("a.b.bank.example").name, "verified (configured for *.bank.example)");
        assert_eq!(&*by("old.bank.example").name, "off (configured for old.bank.example)");
        assert_eq!(&*by("b\u{fc}cher.example").name, "required (configured for xn--bcher-kva.example)");
        assert_eq!(&*by("other.example").name, "opportunistic (default)");
        assert_eq!(
            &*policies.configured(&MailHop::Fixed("smart.example:25".into())).name,
            "required (configured for the route)"
        );
        assert_eq!(&*policies.configured(&MailHop::Fixed("other.example:25".into())).name, "opportunistic (default)");
        assert!(by("bank.example").permits("a.mail.example") && !by("bank.example").permits("mail.example"));
        assert!(by("other.example").permits("anything"));
    }

    #[test]
    fn what_is_published_only_raises() {
        let published = |level| Published { name: "mta-sts enforce", level, hosts: Arc::new([pattern("mx.example")]) };
        let default = |level| Policy::new(level, Source::Default, Arc::default());
        let raised = |from, to| raised(default(from), Some(published(to)));
        assert_eq!(&*raised(TlsLevel::Opportunistic, TlsLevel::Verified).name, "verified (mta-sts enforce)");
        assert_eq!(raised(TlsLevel::Verified, TlsLevel::Opportunistic).level, TlsLevel::Verified);
        assert_eq!(super::raised(default(TlsLevel::Required), None), default(TlsLevel::Required));
        let testing =
            || Some(Published { name: "mta-sts testing", level: TlsLevel::Opportunistic, hosts: Arc::default() });
        let name = |level| super::raised(default(level), testing()).name;
        assert_eq!(&*name(TlsLevel::Required), "required (default)");
        assert_eq!(&*name(TlsLevel::Opportunistic), "opportunistic (mta-sts testing)");
    }

    proptest! {
        #[test]
        fn no_pattern_panics_and_what_is_parsed_parses_again(text in "\\PC{0,30}|[a-z0-9.*-]{0,30}", host in "[a-z.]{0,20}") {
            if let Some(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(pattern.as_str()), Some(pattern.clone()));
                let _ = pattern.matches(&host);
            }
        }
    }
}
