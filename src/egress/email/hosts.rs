//! Which hosts take a destination's mail, in the order in which they are to be tried (RFC 5321 section 5.1).

use std::net::{IpAddr, SocketAddr};

use super::MailEgress;
use super::options::Options;
use super::session::Session;
use super::tls_policy::NOT_SECURE;
use super::verdict::Setback;
use crate::dns::dnssec::{HostAddresses, Vouched};
use crate::dns::{DnsError, Mx, MxHost};
use crate::model::{Domain, EnhancedStatus, Failure, Scope, Stage};
use crate::net::AddressPolicy;
use crate::route::MailHop;

/// A host to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    /// Its name, or its address as text.
    pub(super) name: String,
    pub(super) port: u16,
    /// Its address, where no look-up is needed.
    pub(super) address: Option<IpAddr>,
    /// Who says that mail goes there.
    pub(super) source: Source,
    /// That its name is the right one is certain: DNSSEC vouches for it, or the operator has named it.
    pub(super) vouched: bool,
}

/// Where a host is found.
pub(super) struct Found {
    /// The addresses to try.
    pub(super) addresses: Vec<SocketAddr>,
    /// Under which names its TLSA records may stand; empty where they do not count.
    pub(super) tlsa_bases: Vec<String>,
}

/// Who says that mail goes to a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The operator: the address policy does not apply.
    Operator,
    /// An MX record, or the address itself.
    Sender,
    /// Nobody: the domain has no MX record and stands for itself.
    Implicit,
}

/// The hosts of a destination, best first; not empty. With `dnssec`, each knows whether it is vouched for.
pub(super) async fn hosts(
    egress: &MailEgress,
    options: &Options,
    hop: &MailHop,
    dnssec: bool,
) -> Result<Vec<Host>, Setback> {
    match hop {
        MailHop::Fixed(next_hop) => fixed(next_hop, dnssec).map(|host| vec![host]).ok_or_else(|| {
            let why = format!("the route's next hop {next_hop} is not host:port");
            temporary(Scope::Site, Stage::Route, EnhancedStatus::new(4, 3, 5), why)
        }),
        MailHop::Mx(domain) if domain.is_literal() => {
            literal(domain, options.smtp_port).map(|host| vec![host]).ok_or_else(|| {
                permanent(Stage::Route, EnhancedStatus::new(5, 1, 2), format!("{domain} is no address literal"))
            })
        }
        MailHop::Mx(domain) => by_mx(egress, options, domain, dnssec).await,
    }
}

/// True if the destination is a name, and no address.
pub(super) fn has_name(hop: &MailHop) -> bool {
    match hop {
        MailHop::Fixed(next_hop) => fixed(next_hop, true).is_some_and(|host| host.address.is_none()),
        MailHop::Mx(domain) => !domain.is_literal(),
    }
}

async fn mx(egress: &MailEgress, domain: &Domain, dnssec: bool) -> Result<Vouched<Mx>, DnsError> {
    match dnssec {
        true => egress.resolver.vouched_mx(domain).await,
        false => egress.resolver.mx(domain).await.map(|answer| Vouched { answer, secure: false }),
    }
}

async fn by_mx(egress: &MailEgress, options: &Options, domain: &Domain, dnssec: bool) -> Result<Vec<Host>, Setback> {
    let found = mx(egress, domain, dnssec).await.map_err(|error| unresolved(domain.as_str(), &error, true))?;
    let (hosts, source) = match found.answer {
        Mx::Hosts(hosts) => (hosts, Source::Sender),
        Mx::Implicit(name) => (vec![MxHost { preference: 0, name }], Source::Implicit),
        Mx::Null => {
            let why = format!("{domain} takes no mail: it has a null MX record");
            return Err(permanent(Stage::Dns, EnhancedStatus::new(5, 1, 10), why));
        }
    };
    let hosts = before_ourselves(hosts, &options.hostname);
    if hosts.is_empty() {
        let why = format!("the best MX host of {domain} is this relay: mail would loop");
        return Err(permanent(Stage::Dns, EnhancedStatus::new(5, 4, 6), why));
    }
    let (port, vouched) = (options.smtp_port, found.secure);
    Ok(hosts.into_iter().map(|host| Host { name: host.name, port, address: None, source, vouched }).collect())
}

/// Is the host of this session, reached for another domain, one that mail by way of `hop` is to be given to first?
pub(super) async fn prefers(
    egress: &MailEgress,
    options: &Options,
    hop: &MailHop,
    session: &Session,
    dnssec: bool,
) -> bool {
    let (MailHop::Mx(domain), MailHop::Mx(_)) = (hop, &session.hop) else { return false };
    let Ok(Vouched { answer: Mx::Hosts(hosts), .. }) = mx(egress, domain, dnssec).await else { return false };
    let hosts = before_ourselves(hosts, &options.hostname);
    let best = hosts.first().map(|host| host.preference);
    hosts.iter().any(|host| Some(host.preference) == best && host.name == session.peer.host)
}

/// Drops ourselves and every host that is not better (RFC 5321 section 5.1): mail sent there would come back.
pub(super) fn before_ourselves(mut hosts: Vec<MxHost>, hostname: &str) -> Vec<MxHost> {
    let own = hosts.iter().filter(|host| host.name.eq_ignore_ascii_case(hostname)).map(|host| host.preference).min();
    if let Some(own) = own {
        hosts.retain(|host| host.preference < own);
    }
    hosts
}

fn literal(domain: &Domain, port: u16) -> Option<Host> {
    let inside = domain.as_str().trim_start_matches('[').trim_end_matches(']');
    let address = inside.strip_prefix("ipv6:").unwrap_or(inside).parse().ok()?;
    Some(Host { name: domain.to_string(), port, address: Some(address), source: Source::Sender, vouched: false })
}

/// `host:port`, `address:port` or `[address]:port`.
fn fixed(next_hop: &str, dnssec: bool) -> Option<Host> {
    let (name, port) = next_hop.rsplit_once(':')?;
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let address = bare.unwrap_or(name).parse().ok();
    if name.is_empty() || (bare.is_some() && address.is_none()) || (bare.is_none() && name.contains(':')) {
        return None;
    }
    let (port, vouched) = (port.parse().ok()?, dnssec && address.is_none());
    Some(Host { name: bare.unwrap_or(name).to_owned(), port, address, source: Source::Operator, vouched })
}

impl Host {
    /// What its addresses are checked against.
    pub(super) fn policy(&self, options: &Options) -> AddressPolicy {
        match self.source {
            Source::Operator => AddressPolicy::any(),
            Source::Sender | Source::Implicit => AddressPolicy { allow_private: options.allow_private.clone() },
        }
    }

    /// The addresses to try, those the policy permits, as many as the options allow; and where TLSA records may stand.
    pub(super) async fn addresses(
        &self,
        egress: &MailEgress,
        options: &Options,
        policy: &AddressPolicy,
    ) -> Result<Found, Setback> {
        let unresolved = |error| unresolved(&self.name, &error, self.source == Source::Implicit);
        let (found, tlsa_bases) = match self.address {
            Some(address) => (vec![address], Vec::new()),
            None if self.vouched => {
                let HostAddresses { addresses, tlsa_bases } =
                    egress.resolver.vouched_addresses(&self.name).await.map_err(unresolved)?;
                (addresses, tlsa_bases)
            }
            None => (egress.resolver.addresses(&self.name).await.map_err(unresolved)?, Vec::new()),
        };
        let permitted = found.iter().filter(|address| policy.permits(**address));
        let addresses: Vec<_> =
            permitted.take(options.addresses_per_host.max(1)).map(|a| SocketAddr::new(*a, self.port)).collect();
        if !addresses.is_empty() {
            return Ok(Found { addresses, tlsa_bases });
        }
        let shown = found.first().map(ToString::to_string).unwrap_or_default();
        let why = format!("{} is at {shown}, which is not a public address and not in allow_private", self.name);
        // A literal stays what it is; a name may be repaired.
        Err(match self.address {
            Some(_) => permanent(Stage::Route, EnhancedStatus::new(5, 7, 1), why),
            None => temporary(Scope::Host, Stage::Dns, EnhancedStatus::new(4, 4, 4), why),
        })
    }
}

/// A look-up without a result. Only the destination's own name can condemn it; that an MX host has no address may be
/// repaired.
fn unresolved(name: &str, error: &DnsError, destination: bool) -> Setback {
    let why = format!("{name}: {error}");
    match error {
        DnsError::Bogus => {
            let why = format!("{why}; its postmaster must repair that, or a [[tls_policy]] here make an exception");
            temporary(Scope::Site, Stage::Dns, NOT_SECURE, why)
        }
        DnsError::Temporary(_) => temporary(Scope::Site, Stage::Dns, EnhancedStatus::new(4, 4, 3), why),
        _ if destination => permanent(Stage::Dns, EnhancedStatus::new(5, 1, 2), why),
        _ => temporary(Scope::Host, Stage::Dns, EnhancedStatus::new(4, 4, 4), why),
    }
}

fn permanent(stage: Stage, status: EnhancedStatus, why: String) -> Setback {
    Setback { failure: Failure::without_reply(Scope::Site, stage, status, why), permanent: true, peer: None }
}

fn temporary(scope: Scope, stage: Stage, status: EnhancedStatus, why: String) -> Setback {
    Setback { failure: Failure::without_reply(scope, stage, status, why), permanent: false, peer: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_hosts_or_addresses_with_a_port() {
        let of = |text: &str| fixed(text, false).map(|h| (h.name, h.port, h.address.is_some()));
        assert_eq!(of("mail.example:2525"), Some(("mail.example".to_owned(), 2525, false)));
        assert_eq!(of("127.0.0.1:25"), Some(("127.0.0.1".to_owned(), 25, true)));
        assert_eq!(of("[::1]:25"), Some(("::1".to_owned(), 25, true)));
        assert_eq!(of("[192.0.2.1]:25"), Some(("192.0.2.1".to_owned(), 25, true)));
        for bad in ["", "mail.example", ":25", "mail:70000", "[mail]:25", "::1:25", "a:b:25"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn ourselves_and_worse_hosts_are_dropped() {
        let host = |preference, name: &str| MxHost { preference, name: name.to_owned() };
        let all = vec![host(5, "a"), host(10, "b"), host(10, "Us"), host(20, "c")];
        assert_eq!(before_ourselves(all.clone(), "us"), [host(5, "a")]);
        assert_eq!(before_ourselves(all.clone(), "other").len(), 4);
        assert!(before_ourselves(all[1..].to_vec(), "us").is_empty());
    }

    #[test]
    fn literals_are_dialled_as_they_are() {
        let of = |text: &str| literal(&Domain::parse(text).unwrap(), 25).and_then(|h| h.address);
        assert_eq!(of("[192.0.2.1]"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(of("[IPv6:2001:DB8::1]"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(of("example.net"), None);
    }
}
