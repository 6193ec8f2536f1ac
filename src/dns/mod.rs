//! Names: who takes a domain's mail, at which addresses a host is found (RFC 5321 section 5.1, RFC 7505), and texts.
//!
//! **Promises.** A name that does not exist is told apart from a look-up that failed: SERVFAIL, a timeout or an unreachable
//! server, a referral to somebody else, an endless alias and an answer that makes no sense are [`DnsError::Temporary`] and
//! never a reason to bounce. Hosts come in order of preference, equals shuffled; addresses with IPv6 and IPv4 in turn.
//! Answers are kept by their TTL, within bounds, failures briefly (RFC 9520), and all of them together in bounded memory;
//! equal questions asked at the same time are asked once. Names are always taken as fully qualified: no search list.
//! What DNSSEC has to vouch for is looked up in a second way, see [`dnssec`].
//!
//! **Does not know** which addresses may be dialled (`net::AddressPolicy`) nor address literals.
//!
//! **Fails how.** [`DnsError`]. A name server's bytes are parsed by hickory, which this module alone knows.

mod cache;
pub mod dnssec;
#[cfg(test)]
mod tests;
#[doc(hidden)]
pub mod zone;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Answered, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use self::cache::Cache;
use self::dnssec::{Anchors, HostAddresses, Support, Tlsa, Vouched};
use crate::clock::SharedClock;
use crate::model::Domain;

/// Most MX records looked at: nobody has more hosts than this, and each costs look-ups and connections.
const HOSTS_MAX: usize = 32;
/// Most addresses of one host.
const ADDRESSES_MAX: usize = 32;
/// Most TXT records of one name.
const TEXTS_MAX: usize = 32;
/// Requests in flight to one name server over one TCP connection; hickory's 32 turns bursts into errors.
const TCP_REQUESTS_MAX: usize = 1024;
/// Name servers that are asked one by one when the first to answer has no answer.
const SERVERS_MAX: usize = 8;

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Name servers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// How long one question to one name server may take. Default 3 s.
    pub timeout: Duration,
    /// How often a question is asked again after it failed. Default 2.
    pub attempts: usize,
    /// Answers kept, those of more than 512 bytes counted as several. Default 65,536.
    pub cache_answers: u64,
    /// An answer is believed for so long at least: a TTL of zero would have every mail to a busy domain ask again. Default
    /// 5 s.
    pub ttl_min: Duration,
    /// And no longer than this, whatever its TTL says. Default 24 h.
    pub ttl_max: Duration,
    /// "No such name" and "no such record" are believed no longer than this. Default 15 min.
    pub negative_ttl_max: Duration,
    /// How long a failed look-up is not tried again (RFC 9520 section 3.2: one second at least, five minutes at most).
    /// Default 2 s.
    pub failure_ttl: Duration,
    /// The keys that DNSSEC validation starts from. Default the root's.
    pub anchors: Anchors,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            timeout: Duration::from_secs(3),
            attempts: 2,
            cache_answers: 65_536,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(24 * 3600),
            negative_ttl_max: Duration::from_secs(15 * 60),
            failure_ttl: Duration::from_secs(2),
            anchors: Anchors::default(),
        }
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

impl Mx {
    /// What it takes in memory beyond itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Hosts(hosts) => hosts.iter().map(|host| size_of::<MxHost>() + host.name.len()).sum(),
            Self::Implicit(_) | Self::Null => 0,
        }
    }
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
    /// The zone is signed and the answer is not as it should be (RFC 4033 section 5, "bogus"). Only where DNSSEC is asked for.
    Bogus,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("the name does not exist"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Temporary(why) => write!(f, "the look-up failed for now: {why}"),
            Self::Bogus => f.write_str("its DNSSEC signatures do not hold, or are missing"),
        }
    }
}

impl std::error::Error for DnsError {}

/// The resolver. Cheap to clone; clones share one cache.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    plain: Servers,
    /// The same, with DNSSEC.
    validating: Servers,
    clock: SharedClock,
    options: Options,
    mx: Cache<Result<Mx, DnsError>>,
    addresses: Cache<Result<Vec<IpAddr>, DnsError>>,
    texts: Cache<Result<Arc<[String]>, DnsError>>,
    vouched_mx: Cache<Result<Vouched<Mx>, DnsError>>,
    vouched_addresses: Cache<Result<HostAddresses, DnsError>>,
    tlsa: Cache<Result<Arc<[Tlsa]>, DnsError>>,
    support: Support,
}

/// Whom to ask.
struct Servers {
    /// All name servers at once: the first answer counts.
    all: TokioResolver,
    /// Each alone, where there are several: one that refuses to answer is often the quickest.
    each: Vec<TokioResolver>,
}

impl Servers {
    fn new(config: &ResolverConfig, options: &Options, validating: bool) -> Result<Self, String> {
        let mut each = Vec::new();
        if config.name_servers().len() > 1 {
            for server in config.name_servers().iter().take(SERVERS_MAX) {
                each.push(hickory(ResolverConfig::from_name_servers(vec![server.clone()]), options, validating)?);
            }
        }
        Ok(Self { all: hickory(config.clone(), options, validating)?, each })
    }

    /// Asks all at once, and then, if the answer was that there is none, one by one.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Lookup, NetError> {
        let mut answer = self.all.lookup(name.clone(), kind).await;
        for server in &self.each {
            if !matches!(answer, Err(NetError::Dns(Answered::ResponseCode(_)))) {
                break;
            }
            answer = server.lookup(name.clone(), kind).await;
        }
        answer
    }
}

/// What came of a question.
struct Answer {
    records: Result<Lookup, DnsError>,
    /// How long that may be believed.
    ttl: Duration,
    /// Where there is no such record: the name that has none, which stands at the end of the aliases.
    bare: Option<Name>,
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
    pub fn new(options: &Options, clock: SharedClock) -> Result<Self, String> {
        let config = if options.nameservers.is_empty() {
            let system = hickory_resolver::system_conf::read_system_conf();
            system.map_err(|e| format!("the system's name servers cannot be read: {e}"))?.0
        } else {
            let servers = options.nameservers.iter().map(|address| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                server
            });
            ResolverConfig::from_name_servers(servers.collect())
        };
        let answers = usize::try_from(options.cache_answers).unwrap_or(usize::MAX);
        // Each mail asks for one of the first, one of the second, and for a text or none; and once more where DNSSEC counts.
        let share = answers / 6;
        let shared = Shared {
            plain: Servers::new(&config, options, false)?,
            validating: Servers::new(&config, options, true)?,
            options: options.clone(),
            mx: Cache::new(share, clock.clone()),
            addresses: Cache::new(share, clock.clone()),
            texts: Cache::new(answers - 5 * share, clock.clone()),
            vouched_mx: Cache::new(share, clock.clone()),
            vouched_addresses: Cache::new(share, clock.clone()),
            tlsa: Cache::new(share, clock.clone()),
            clock,
            support: Support::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Who takes mail for `domain`.
    ///
    /// # Errors
    /// [`DnsError::NoSuchName`] or [`DnsError::Temporary`].
    pub async fn mx(&self, domain: &Domain) -> Result<Mx, DnsError> {
        let ascii = domain.to_ascii().map_err(|_| DnsError::NoSuchName)?;
        let name = ascii.as_str();
        if let Some(known) = self.shared.mx.find(name) {
            return known.map(shuffled);
        }
        let answer = self.shared.ask(fully_qualified(name)?, RecordType::MX).await;
        let mx = match answer.records {
            Ok(lookup) => Ok(exchangers(lookup.answers(), name)),
            Err(DnsError::NoAddress) => Ok(Mx::Implicit(name.to_owned())),
            Err(error) => Err(error),
        };
        let bytes = mx.as_ref().map_or(0, Mx::bytes);
        self.shared.mx.keep(name, mx.clone(), bytes, answer.ttl);
        mx
    }

    /// The addresses of `host`, IPv6 and IPv4 in turn; not empty.
    ///
    /// # Errors
    /// [`DnsError`]; temporary if one family failed and the other has nothing.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        // `MX 10 192.0.2.1` names nothing: the zone of all numbers does not exist, and nobody is asked for it.
        if host.parse::<IpAddr>().is_ok() {
            return Err(DnsError::NoSuchName);
        }
        let key = host.to_ascii_lowercase();
        if let Some(known) = self.shared.addresses.find(&key) {
            return known;
        }
        let (found, ttl) = self.shared.look_up_addresses(fully_qualified(host)?).await;
        let bytes = found.as_ref().map_or(0, |addresses| size_of_val(addresses.as_slice()));
        self.shared.addresses.keep(&key, found.clone(), bytes, ttl);
        found
    }
}

impl Resolver {
    /// The TXT records of a name, the strings of each put together; not empty. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// [`DnsError`]; [`DnsError::NoAddress`] if the name has no text.
    pub async fn txt(&self, name: &str) -> Result<Arc<[String]>, DnsError> {
        let key = name.to_ascii_lowercase();
        if let Some(known) = self.shared.texts.find(&key) {
            return known;
        }
        let answer = self.shared.ask(fully_qualified(name)?, RecordType::TXT).await;
        let texts = answer.records.map(|lookup| {
            let texts = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            });
            texts.take(TEXTS_MAX).collect::<Arc<[String]>>()
        });
        // An alias that leads to nothing of the kind.
        let texts = texts.and_then(|texts| if texts.is_empty() { Err(DnsError::NoAddress) } else { Ok(texts) });
        let bytes = texts.as_ref().map_or(0, |texts| texts.iter().map(|t| size_of::<String>() + t.len()).sum());
        self.shared.texts.keep(&key, texts.clone(), bytes, answer.ttl);
        texts
    }
}

impl Shared {
    async fn look_up_addresses(&self, name: Name) -> (Result<Vec<IpAddr>, DnsError>, Duration) {
        let (v6, v4) = tokio::join!(self.ask(name.clone(), RecordType::AAAA), self.ask(name, RecordType::A));
        let ttl = v6.ttl.min(v4.ttl);
        let addresses = |records: Result<Lookup, DnsError>| {
            let lookup = records?;
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            Ok::<Vec<_>, DnsError>(addresses.take(ADDRESSES_MAX).collect())
        };
        let bare = v6.bare.or(v4.bare);
        let (v6, v4) = (addresses(v6.records), addresses(v4.records));
        let found = in_turn(v6.as_deref().unwrap_or_default(), v4.as_deref().unwrap_or_default());
        if !found.is_empty() {
            return (Ok(found), ttl);
        }
        match (v6, v4) {
            (Err(e @ DnsError::Temporary(_)), _) | (_, Err(e @ DnsError::Temporary(_))) => (Err(e), ttl),
            (Err(DnsError::NoSuchName), Err(DnsError::NoSuchName)) => (Err(DnsError::NoSuchName), ttl),
            _ => match self.endless(bare).await {
                Some(error) => (Err(error), self.options.failure_ttl),
                None => (Err(DnsError::NoAddress), ttl),
            },
        }
    }

    /// The name at the end of the aliases has no address. One that is itself an alias is no end: a loop, or more aliases
    /// than anybody follows, and so nothing is known.
    async fn endless(&self, bare: Option<Name>) -> Option<DnsError> {
        match self.ask(bare?, RecordType::CNAME).await.records {
            Ok(_) => Some(DnsError::Temporary("its aliases lead in a circle, or too far".to_owned())),
            Err(error @ DnsError::Temporary(_)) => Some(error),
            Err(_) => None,
        }
    }

    async fn ask(&self, name: Name, kind: RecordType) -> Answer {
        let answer = self.plain.ask(&name, kind).await;
        let Options { ttl_min, ttl_max, negative_ttl_max, failure_ttl, .. } = self.options;
        let seconds = |ttl: u32| Duration::from_secs(ttl.into());
        match answer {
            Ok(lookup) => {
                let ttl = lookup.answers().iter().map(|record| record.ttl).min().map_or(ttl_min, seconds);
                Answer { records: Ok(lookup), ttl: ttl.max(ttl_min).min(ttl_max), bare: None }
            }
            Err(error) => {
                let why = judged(&error);
                let (ttl, bare) = match (&why, error) {
                    (DnsError::Temporary(_), _) => (failure_ttl, None),
                    (_, NetError::Dns(Answered::NoRecordsFound(none))) => {
                        (none.negative_ttl.map_or(ttl_min, seconds), Some(none.query.name().clone()))
                    }
                    _ => (ttl_min, None),
                };
                let ttl =
                    if matches!(why, DnsError::Temporary(_)) { ttl } else { ttl.max(ttl_min).min(negative_ttl_max) };
                Answer { records: Err(why), ttl, bare }
            }
        }
    }
}

/// A resolver for these servers. It keeps nothing: its cache is bounded in answers, which may be 64 KiB each.
fn hickory(config: ResolverConfig, options: &Options, validating: bool) -> Result<TokioResolver, String> {
    let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
    if validating {
        builder = builder.with_trust_anchor(options.anchors.keys());
    }
    let knobs = builder.options_mut();
    knobs.timeout = options.timeout;
    knobs.attempts = options.attempts;
    knobs.cache_size = 0;
    knobs.max_active_requests = TCP_REQUESTS_MAX;
    knobs.try_tcp_on_error = true;
    knobs.case_randomization = true;
    // An alias has to be vouched for too.
    knobs.preserve_intermediates = validating;
    builder.build().map_err(|e| format!("the resolver cannot be set up: {e}"))
}

/// What MX records say. A null MX beside others is none of them (RFC 7505 section 3 forbids it).
fn exchangers(records: &[Record], domain: &str) -> Mx {
    let records = records.iter().filter_map(|record| match &record.data {
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
    match (hosts.is_empty(), null) {
        (true, true) => Mx::Null,
        (true, false) => Mx::Implicit(domain.to_owned()),
        (false, _) => Mx::Hosts(in_order(hosts)),
    }
}

/// Equals share the load of each mail anew, also where the answer was kept.
fn shuffled(mx: Mx) -> Mx {
    match mx {
        Mx::Hosts(hosts) => Mx::Hosts(in_order(hosts)),
        other => other,
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
        NetError::Dns(Answered::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoSuchName,
            // Other servers' names and no SOA: a referral, from a server that does not know the zone it is asked for
            // (RFC 2308 section 2.2).
            ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => {
                DnsError::Temporary("the name server refers to others".to_owned())
            }
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
