//! Names: who takes a domain's mail, and at which addresses a host is found (RFC 5321 section 5.1, RFC 7505).
//!
//! **Promises.** A name that does not exist is told apart from a look-up that failed: SERVFAIL, a timeout or an unreachable
//! server is [`DnsError::Temporary`] and never a reason to bounce. Hosts come in order of preference, equals shuffled;
//! addresses with IPv6 and IPv4 in turn. Answers are cached by their TTL, within bounds; equal questions asked at the same
//! time are asked once. Names are always taken as fully qualified: no search list.
//!
//! **Does not know** which addresses may be dialled (`net::AddressPolicy`) nor address literals.
//!
//! **Fails how.** [`DnsError`]. A name server's bytes are parsed by hickory, which this module alone knows.

#[doc(hidden)]
pub mod zone;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Answer, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use crate::model::Domain;

/// Most MX records looked at: nobody has more hosts than this, and each costs look-ups and connections.
const HOSTS_MAX: usize = 32;
/// Most addresses of one host.
const ADDRESSES_MAX: usize = 32;
/// An answer is not believed for longer than this, whatever its TTL says.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// A "no such name" is not believed for longer than this.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(15 * 60);
/// A TTL of zero would have every mail to a busy domain ask again.
const TTL_MIN: Duration = Duration::from_secs(5);
/// Requests in flight to one name server over one TCP connection; hickory's 32 turns bursts into errors.
const TCP_REQUESTS_MAX: usize = 1024;

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Name servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// How long one question to one name server may take. Default 3 s.
    pub timeout: Duration,
    /// How often a question is asked again after it failed. Default 2.
    pub attempts: usize,
    /// Answers kept. Default 65,536.
    pub cache_answers: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { nameservers: Vec::new(), timeout: Duration::from_secs(3), attempts: 2, cache_answers: 65_536 }
    }
}

/// Who takes a domain's mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mx {
    /// These hosts, best first; not empty.
    Hosts(Vec<MxHost>),
    /// No MX records: the domain itself, if it has an address (RFC 5321 section 5.1).
    Implicit(String),
    /// Nobody: the domain takes no mail (RFC 7505).
    Null,
}

/// One MX record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MxHost {
    /// Lower is better.
    pub preference: u16,
    /// The host's name, lower case, without the final dot.
    pub name: String,
}

/// Why a look-up gave nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DnsError {
    /// The name does not exist (NXDOMAIN), or cannot be a name.
    NoSuchName,
    /// The name exists and has no address.
    NoAddress,
    /// We do not know: ask again later. With the reason.
    Temporary(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("the name does not exist"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Temporary(why) => write!(f, "the look-up failed for now: {why}"),
        }
    }
}

impl std::error::Error for DnsError {}

/// The resolver. Cheap to clone; clones share one cache.
#[derive(Clone)]
pub struct Resolver {
    hickory: TokioResolver,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver with an empty cache.
    ///
    /// # Errors
    /// The system's configuration cannot be read; in words for an operator.
    pub fn new(options: &Options) -> Result<Self, String> {
        let runtime = TokioRuntimeProvider::default();
        let mut builder = if options.nameservers.is_empty() {
            Hickory::builder(runtime).map_err(|e| format!("the system's name servers cannot be read: {e}"))?
        } else {
            let servers = options.nameservers.iter().map(|address| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                server
            });
            Hickory::builder_with_config(ResolverConfig::from_name_servers(servers.collect()), runtime)
        };
        let knobs = builder.options_mut();
        knobs.timeout = options.timeout;
        knobs.attempts = options.attempts;
        knobs.cache_size = options.cache_answers;
        knobs.positive_min_ttl = Some(TTL_MIN);
        knobs.positive_max_ttl = Some(TTL_MAX);
        knobs.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        knobs.max_active_requests = TCP_REQUESTS_MAX;
        knobs.try_tcp_on_error = true;
        knobs.case_randomization = true;
        let hickory = builder.build().map_err(|e| format!("the resolver cannot be set up: {e}"))?;
        Ok(Self { hickory })
    }

    /// Who takes mail for `domain`.
    ///
    /// # Errors
    /// [`DnsError::NoSuchName`] or [`DnsError::Temporary`].
    pub async fn mx(&self, domain: &Domain) -> Result<Mx, DnsError> {
        let ascii = domain.to_ascii().map_err(|_| DnsError::NoSuchName)?;
        let lookup = match self.hickory.lookup(fully_qualified(ascii.as_str())?, RecordType::MX).await {
            Ok(lookup) => lookup,
            Err(e) => {
                return match judged(&e) {
                    DnsError::NoAddress => Ok(Mx::Implicit(ascii.as_str().to_owned())),
                    error => Err(error),
                };
            }
        };
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::MX(mx) => Some((mx.preference, &mx.exchange)),
            _ => None,
        });
        let mut hosts = Vec::new();
        let mut null = false;
        for (preference, exchange) in records {
            if exchange.is_root() {
                null = true;
            } else {
                hosts.push(MxHost { preference, name: bare(exchange) });
            }
        }
        Ok(match (hosts.is_empty(), null) {
            (true, true) => Mx::Null,
            (true, false) => Mx::Implicit(ascii.as_str().to_owned()),
            (false, _) => Mx::Hosts(in_order(hosts)),
        })
    }

    /// The addresses of `host`, IPv6 and IPv4 in turn; not empty.
    ///
    /// # Errors
    /// [`DnsError`]; temporary if one family failed and the other has nothing.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = fully_qualified(host)?;
        let (v6, v4) =
            tokio::join!(self.hickory.lookup(name.clone(), RecordType::AAAA), self.hickory.lookup(name, RecordType::A));
        let addresses = |lookup: Result<hickory_resolver::lookup::Lookup, NetError>| {
            let lookup = lookup.map_err(|e| judged(&e))?;
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            Ok::<Vec<_>, DnsError>(addresses.take(ADDRESSES_MAX).collect())
        };
        let (v6, v4) = (addresses(v6), addresses(v4));
        let found = in_turn(v6.as_deref().unwrap_or_default(), v4.as_deref().unwrap_or_default());
        if !found.is_empty() {
            return Ok(found);
        }
        Err(match (v6, v4) {
            (Err(e @ DnsError::Temporary(_)), _) | (_, Err(e @ DnsError::Temporary(_))) => e,
            (Err(DnsError::NoSuchName), Err(DnsError::NoSuchName)) => DnsError::NoSuchName,
            _ => DnsError::NoAddress,
        })
    }
}

/// With the final dot, so that no search list is tried.
fn fully_qualified(name: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(name).map_err(|_| DnsError::NoSuchName)?;
    name.set_fqdn(true);
    Ok(name)
}

fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// What an error means. Only an answer that says so makes a name absent; everything else is temporary.
fn judged(error: &NetError) -> DnsError {
    match error {
        NetError::Dns(Answer::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoSuchName,
            ResponseCode::NoError => DnsError::NoAddress,
            other => DnsError::Temporary(other.to_string()),
        },
        other => DnsError::Temporary(other.to_string()),
    }
}

/// By preference; equals in random order, so that they share the load (RFC 5321 section 5.1).
fn in_order(mut hosts: Vec<MxHost>) -> Vec<MxHost> {
    fastrand::shuffle(&mut hosts);
    hosts.sort_by_key(|host| host.preference);
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.name.clone()));
    hosts.truncate(HOSTS_MAX);
    hosts
}

/// One of each family in turn: whoever tries two addresses has tried both families.
fn in_turn(v6: &[IpAddr], v4: &[IpAddr]) -> Vec<IpAddr> {
    (0..v6.len().max(v4.len())).flat_map(|n| [v6.get(n), v4.get(n)]).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::zone::{Zone, ZoneServer};
    use super::*;

    fn zone() -> Zone {
        Zone::new()
            .mx("many.example", 20, "c.many.example")
            .mx("many.example", 10, "A.many.example")
            .mx("many.example", 10, "b.many.example")
            .mx("many.example", 30, "b.many.example")
            .a("implicit.example", [192, 0, 2, 1])
            .mx("null.example", 0, ".")
            .mx("half.example", 0, ".")
            .mx("half.example", 5, "mx.half.example")
            .servfail("broken.example")
            .silent("silent.example")
            .a("both.example", [192, 0, 2, 1])
            .a("both.example", [192, 0, 2, 2])
            .aaaa("both.example", "2001:db8::1")
            .cname("alias.example", "both.example")
            .mx("xn--fsqu00a.xn--55qx5d", 1, "mx.both.example")
    }

    async fn served() -> (ZoneServer, Resolver) {
        let server = ZoneServer::start(zone()).await.unwrap();
        let options = Options {
            nameservers: vec![server.address()],
            timeout: Duration::from_millis(250),
            attempts: 1,
            ..Options::default()
        };
        let resolver = Resolver::new(&options).unwrap();
        (server, resolver)
    }

    async fn mx(resolver: &Resolver, domain: &str) -> Result<Mx, DnsError> {
        resolver.mx(&Domain::parse(domain).unwrap()).await
    }

    #[tokio::test]
    async fn hosts_come_by_preference_and_only_once() {
        let (_server, resolver) = served().await;
        let Ok(Mx::Hosts(hosts)) = mx(&resolver, "many.example").await else { panic!("hosts expected") };
        let names: Vec<_> = hosts.iter().map(|h| (h.preference, h.name.as_str())).collect();
        let equal: std::collections::BTreeSet<_> = names[..2].iter().copied().collect();
        assert_eq!(equal, [(10, "a.many.example"), (10, "b.many.example")].into());
        assert_eq!(names[2..], [(20, "c.many.example")]);
    }

    #[test]
    fn equal_preferences_are_shuffled() {
        let host = |name: &str| MxHost { preference: 1, name: name.to_owned() };
        let firsts: std::collections::HashSet<_> =
            (0..200).map(|_| in_order(vec![host("a"), host("b")]).remove(0).name).collect();
        assert_eq!(firsts.len(), 2);
    }

    #[tokio::test]
    async fn every_kind_of_answer_is_told_apart() {
        let (_server, resolver) = served().await;
        assert_eq!(mx(&resolver, "implicit.example").await, Ok(Mx::Implicit("implicit.example".to_owned())));
        assert_eq!(mx(&resolver, "null.example").await, Ok(Mx::Null));
        let only = Mx::Hosts(vec![MxHost { preference: 5, name: "mx.half.example".to_owned() }]);
        assert_eq!(mx(&resolver, "half.example").await, Ok(only));
        assert_eq!(mx(&resolver, "absent.example").await, Err(DnsError::NoSuchName));
        for domain in ["broken.example", "silent.example"] {
            let answer = mx(&resolver, domain).await;
            assert!(matches!(answer, Err(DnsError::Temporary(_))), "{domain}: {answer:?}");
        }
        let only = Mx::Hosts(vec![MxHost { preference: 1, name: "mx.both.example".to_owned() }]);
        assert_eq!(mx(&resolver, "例子.公司").await, Ok(only));
    }

    #[tokio::test]
    async fn addresses_of_both_families_in_turn() {
        let (_server, resolver) = served().await;
        for host in ["both.example", "alias.example"] {
            let mut found: Vec<_> = resolver.addresses(host).await.unwrap().iter().map(IpAddr::to_string).collect();
            assert_eq!(found.remove(0), "2001:db8::1", "{host}");
            found.sort();
            assert_eq!(found, ["192.0.2.1", "192.0.2.2"], "{host}");
        }
        assert_eq!(resolver.addresses("many.example").await, Err(DnsError::NoAddress));
        assert_eq!(resolver.addresses("absent.example").await, Err(DnsError::NoSuchName));
        assert_eq!(resolver.addresses("not a name..").await, Err(DnsError::NoSuchName));
        let broken = resolver.addresses("broken.example").await;
        assert!(matches!(broken, Err(DnsError::Temporary(_))), "{broken:?}");
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once() {
        let (server, resolver) = served().await;
        let (a, b) = tokio::join!(mx(&resolver, "null.example"), mx(&resolver, "null.example"));
        assert_eq!((a, b), (Ok(Mx::Null), Ok(Mx::Null)));
        assert_eq!(mx(&resolver, "null.example").await, Ok(Mx::Null));
        assert_eq!(server.questions(), 1);
    }

    #[tokio::test]
    async fn a_dead_name_server_is_temporary() {
        let (server, resolver) = served().await;
        drop(server);
        let answer = mx(&resolver, "many.example").await;
        assert!(matches!(answer, Err(DnsError::Temporary(_))), "{answer:?}");
    }
}
