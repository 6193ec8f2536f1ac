//! `[[source]]` and `[[pool]]`: the addresses that mail leaves from, and whose mail leaves from which.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::reader::Section;
use super::{files, value};
use crate::egress::email::{Pool, Source, Sources, WarmupPlan, Whose};
use crate::net::proxy::{Login, Proxy};

/// `[[pool]]`, before its sources have been looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolSection {
    /// Its name.
    pub name: Arc<str>,
    /// Names of its sources, and their weights.
    pub sources: Vec<(Arc<str>, u32)>,
    /// Whose mail it takes.
    pub whose: Whose,
}

/// `[[source]]`, with the name of the plan that it is warmed up by.
pub(super) fn source(section: &mut Section<'_>) -> Option<(Source, Option<Arc<str>>)> {
    let name = section.required("name", r#""mta1""#, value::name);
    let addresses = section.list("addresses", address).unwrap_or_default();
    if (addresses.iter().filter(|a| a.is_ipv4()).count() > 1) || addresses.iter().filter(|a| a.is_ipv6()).count() > 1 {
        let right =
            "name one IPv4 address, one IPv6 address, or one of each; a further address is a further [[source]]";
        section.mistake("addresses", "two addresses of one family", right);
    }
    let hostname = section.optional("hostname", value::domain).map(|domain| domain.as_str().to_owned());
    let proxy = section.optional("proxy", proxy);
    let user = section.optional("proxy_user", value::ascii(255));
    let password = files::password(section).map(|(_, secret)| secret);
    let proxy = match (proxy, user, password) {
        (Some(Proxy::Socks5 { at, .. }), Some(user), Some(password)) => {
            Some(Proxy::Socks5 { at, login: Some(Login { user, password }) })
        }
        (proxy, None, None) => proxy,
        (Some(Proxy::Haproxy { .. }) | None, ..) => {
            section.mistake(
                "proxy_user",
                "nobody asks for it",
                "only a proxy \"socks5://…\" takes a user and a password",
            );
            None
        }
        (proxy, ..) => {
            section.mistake("proxy_user", "a user and a password belong together", "give both, or neither");
            proxy
        }
    };
    if matches!(proxy, Some(Proxy::Haproxy { .. })) && addresses.is_empty() {
        let right = "add addresses = [\"192.0.2.10\"]: those that the proxy is to connect from";
        section.mistake("addresses", "missing: a proxy \"haproxy://…\" is told whence to connect", right);
    }
    let connections_max = section.or("connections", 1_000, value::count(1..=100_000));
    let warmup = section.optional("warmup", value::name);
    Some((Source { name: name?, addresses, hostname, proxy, connections_max, warmup: None }, warmup))
}

pub(super) fn pool(section: &mut Section<'_>) -> Option<PoolSection> {
    let name = section.required("name", r#""bulk""#, value::name);
    let sources = section.required_list("sources", r#"["mta1", "mta2*3"]"#, weighted);
    let whose = Whose {
        clients: section.list("clients", value::name).unwrap_or_default(),
        classes: section.list("classes", value::class).unwrap_or_default(),
        campaigns: section.list("campaigns", value::text).unwrap_or_default().into_iter().map(Arc::from).collect(),
        sender_domains: section
            .list("sender_domains", value::domain)
            .unwrap_or_default()
            .into_iter()
            .map(|domain| domain.as_str().to_owned())
            .collect(),
    };
    Some(PoolSection { name: name?, sources: sources?, whose })
}

/// Pools with their sources, and these with their plans; where there are only sources, they take turns for all mail.
pub(super) fn resolved(
    sources: Vec<(Source, Option<Arc<str>>)>,
    plans: Vec<WarmupPlan>,
    pools: Vec<PoolSection>,
) -> Sources {
    let mut plans: Vec<Arc<WarmupPlan>> = plans.into_iter().map(Arc::new).collect();
    if !plans.iter().any(|plan| *plan.name == *WarmupPlan::BUILT_IN) {
        plans.push(Arc::new(WarmupPlan::default()));
    }
    // Each was found when the sections met.
    let plan = |name: Arc<str>| plans.iter().find(|plan| plan.name == name).cloned();
    let with_plan = |(source, name): (Source, Option<Arc<str>>)| Source { warmup: name.and_then(plan), ..source };
    let sources: Vec<Arc<Source>> = sources.into_iter().map(with_plan).map(Arc::new).collect();
    if pools.is_empty() && !sources.is_empty() {
        let members = sources.into_iter().map(|source| (source, 1)).collect();
        return Sources::new(vec![Pool { name: "all".into(), members, whose: Whose::default() }]);
    }
    let find = |name: &str| sources.iter().find(|source| *source.name == *name).cloned();
    let pools = pools.into_iter().map(|pool| Pool {
        name: pool.name,
        // Each was found when the sections met.
        members: pool.sources.iter().filter_map(|(name, weight)| Some((find(name)?, *weight))).collect(),
        whose: pool.whose,
    });
    Sources::new(pools.collect())
}

fn address(value: &DeValue<'_>) -> Result<IpAddr, Fault> {
    const RIGHT: &str = r#"an IP address of this machine, such as "192.0.2.10""#;
    let text = value::as_text(value, RIGHT)?;
    let wrong = || Fault::new(format!("bad address \"{}\"", shortened(text)), format!("expected {RIGHT}"));
    text.parse::<IpAddr>().ok().filter(|a| !a.is_unspecified() && !a.is_multicast()).ok_or_else(wrong)
}

/// `"socks5://192.0.2.1:1080"`, `"haproxy://192.0.2.1:5000"`.
fn proxy(value: &DeValue<'_>) -> Result<Proxy, Fault> {
    const RIGHT: &str = r#"a proxy such as "socks5://192.0.2.1:1080" or "haproxy://192.0.2.1:5000", by its IP address"#;
    let text = value::as_text(value, RIGHT)?;
    let at = |rest: &str| rest.parse::<SocketAddr>().ok().filter(|at| at.port() > 0);
    let socks = text.strip_prefix("socks5://").and_then(at).map(|at| Proxy::Socks5 { at, login: None });
    let haproxy = || text.strip_prefix("haproxy://").and_then(at).map(|at| Proxy::Haproxy { at });
    let wrong = || Fault::new(format!("bad proxy \"{}\"", shortened(text)), format!("expected {RIGHT}"));
    socks.or_else(haproxy).ok_or_else(wrong)
}

/// `"mta1"`, or `"mta1*3"` for three times its share.
fn weighted(value: &DeValue<'_>) -> Result<(Arc<str>, u32), Fault> {
    const RIGHT: &str = r#"the name of a [[source]], with a weight from 1 to 1000 if it is not 1: "mta1" or "mta1*3""#;
    let text = value::as_text(value, RIGHT)?;
    let (name, weight) = text.split_once('*').map_or((text, Some(1)), |(name, weight)| (name, weight.parse().ok()));
    match weight.filter(|w| (1..=1_000).contains(w)) {
        Some(weight) if !name.is_empty() => Ok((name.into(), weight)),
        _ => Err(Fault::new(format!("bad source \"{}\"", shortened(text)), format!("expected {RIGHT}"))),
    }
}
