//! `[[tls_policy]]`, `[mta_sts]`, `[dane]`, and what routes and `[delivery]` say about TLS on the way out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::mail::Delivery;
use super::mistake::{Fault, shortened};
use super::reader::{Placed, Section};
use super::{files, quantity, value};
use crate::dns::dnssec::Anchors;
use crate::egress::email::{HostPattern, MtaStsOptions, TlsLevel, TlsPolicies, TlsRule};
use crate::model::Domain;
use crate::route::FixedRoute;

/// `[mta_sts]`; `None` if it is off.
pub(super) fn mta_sts(section: &mut Section<'_>) -> Option<MtaStsOptions> {
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);
    let enabled = section.or("enabled", true, value::flag);
    let port = section.or("port", 443, value::whole(1..=65_535));
    let options = MtaStsOptions {
        port: u16::try_from(port).unwrap_or(443),
        authorities: files::authorities(section, "ca_file"),
        timeout: section.or("timeout", MINUTE / 2, quantity::span(Duration::from_secs(1)..=10 * MINUTE)),
        policy_bytes_max: usize::try_from(section.or("policy_bytes", 64 * 1024, quantity::bytes(1024..=1024 * 1024)))
            .unwrap_or(64 * 1024),
        policies_max: section.or("policies", 10_000, value::count(1..=1_000_000)),
        refresh: section.or("refresh", DAY, quantity::span(MINUTE..=30 * DAY)),
        // Beside the queue: who builds the relay knows where.
        file: None,
    };
    enabled.then_some(options)
}

/// `[dane]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dane {
    /// It is followed.
    pub enabled: bool,
    /// The keys that DNSSEC validation starts from.
    pub anchors: Anchors,
}

pub(super) fn dane(section: &mut Section<'_>) -> Dane {
    let enabled = section.or("enabled", true, value::flag);
    Dane { enabled, anchors: files::anchors(section, "trust_anchors") }
}

/// `[[tls_policy]]`
pub(super) fn rule(section: &mut Section<'_>) -> Option<TlsRule> {
    let domains = section.required_list("domains", r#"["bank.example"]"#, pattern);
    let level = section.required("tls", r#""verified""#, value::word(TlsLevel::WORDS));
    let hosts = section.list("mx", host).unwrap_or_default();
    let level = level?;
    if !hosts.is_empty() && level < TlsLevel::Verified {
        let right = "write tls = \"verified\" or \"dane\", or leave mx out";
        section.mistake("mx", "a name that is not verified proves nothing", right);
    }
    Some(TlsRule { domains: domains?, level, hosts: hosts.into() })
}

/// All of it together. Where several routes lead to one next hop, the strictest of them holds.
pub(super) fn policies(
    delivery: &Delivery,
    rules: Vec<Placed<TlsRule>>,
    routes: &[Placed<(FixedRoute, Option<TlsLevel>)>],
) -> TlsPolicies {
    let mut hops: HashMap<Arc<str>, TlsLevel> = HashMap::new();
    for (route, level) in routes.iter().map(|r| &r.value) {
        if let Some(level) = level {
            let strictest = hops.entry(route.next_hop.clone()).or_insert(*level);
            *strictest = (*strictest).max(*level);
        }
    }
    TlsPolicies {
        default: delivery.tls,
        rules: rules.into_iter().map(|r| r.value).collect(),
        hops,
        authorities: delivery.authorities.clone(),
    }
}

/// As for routes, in A-labels: however a domain is written, the same holds for it.
fn pattern(value: &toml::de::DeValue<'_>) -> Result<String, Fault> {
    let text = value::domain_pattern(value)?;
    let (star, name) = text.strip_prefix("*.").map_or(("", text.as_str()), |name| ("*.", name));
    if name == "*" {
        return Ok(text);
    }
    let ascii = Domain::parse(name).and_then(|domain| domain.to_ascii());
    let ascii = ascii.map_err(|e| {
        Fault::new(format!("bad domain \"{}\": {e}", shortened(&text)), "expected a name that DNS can hold")
    })?;
    Ok(format!("{star}{ascii}"))
}

fn host(value: &toml::de::DeValue<'_>) -> Result<HostPattern, Fault> {
    const RIGHT: &str = r#"a mail host such as "mx.example.com", or "*.example.com" for those one label below"#;
    let text = value::as_text(value, RIGHT)?;
    HostPattern::parse(text)
        .ok_or_else(|| Fault::new(format!("bad name \"{}\"", shortened(text)), format!("expected {RIGHT}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, good, mistakes};

    fn level(policies: &TlsPolicies, hop: &str) -> Option<TlsLevel> {
        policies.hops.get(hop).copied()
    }

    #[test]
    fn what_cannot_hold_is_said() {
        for (text, said) in [
            (
                "[[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"required\"\nmx = [\"mx.example\"]\n",
                "tls_policy[0].mx: a name that is not verified proves nothing",
            ),
            ("[[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"verify\"\n", "tls_policy[0].tls: unknown value"),
            (
                "[[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"verified\"\nmx = [\"m*.example\"]\n",
                "tls_policy[0].mx[0]: bad name \"m*.example\"",
            ),
            ("[[tls_policy]]\ntls = \"off\"\n", "tls_policy[0].domains: missing"),
            (
                "[[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"off\"\n[[tls_policy]]\ndomains = [\"A.example\"]\ntls = \"off\"\n",
                "\"a.example\" has a policy already",
            ),
            ("[delivery]\ntls_ca_file = \"nowhere.pem\"\n", "delivery.tls_ca_file: cannot read"),
            ("[mta_sts]\nca_file = \"nowhere.pem\"\n", "mta_sts.ca_file: cannot read"),
            ("[dane]\ntrust_anchors = \"nowhere.key\"\n", "dane.trust_anchors: cannot read"),
            (
                "[dane]\nenabled = false\n[[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"dane\"\n",
                "tls_policy[0].tls: DANE is switched off",
            ),
            ("[dane]\nenabled = false\n[delivery]\ntls = \"dane\"\n", "delivery.tls: DANE is switched off"),
            ("[mta_sts]\npolicy_bytes = \"2MiB\"\n", "mta_sts.policy_bytes: "),
        ] {
            assert!(mistakes(text).contains(said), "{text}: {}", mistakes(text));
        }
        let shadowed = "[[route]]\ndomains = [\"a.example\"]\nnext_hop = \"hop.example:25\"\n\
             [[tls_policy]]\ndomains = [\"a.example\"]\ntls = \"verified\"\n";
        let (config, warnings) = good(&format!("{GOOD}{shadowed}"));
        assert!(warnings[0].to_string().contains("goes to a fixed next hop"), "{warnings:?}");
        assert!(config.dane.enabled && !good(&format!("{GOOD}[dane]\nenabled = false\n")).0.dane.enabled);
        assert!(config.mta_sts.is_some() && good(&format!("{GOOD}[mta_sts]\nenabled = false\n")).0.mta_sts.is_none());
    }

    #[test]
    fn the_default_is_opportunistic_and_the_strictest_route_holds() {
        assert_eq!(good(GOOD).0.outbound_tls, TlsPolicies::default());
        let text = format!(
            "{GOOD}[delivery]\ntls = \"required\"\n\
             [[route]]\ndomains = [\"a.example\"]\nnext_hop = \"hop.example:25\"\ntls = \"off\"\n\
             [[route]]\ndomains = [\"b.example\"]\nnext_hop = \"hop.example:25\"\ntls = \"verified\"\n\
             [[route]]\ndomains = [\"c.example\"]\nnext_hop = \"other.example:25\"\n\
             [[tls_policy]]\ndomains = [\"B\u{fc}cher.example\", \"*.d.example\", \"*\"]\ntls = \"verified\"\nmx = [\"*.MX.example\"]\n"
        );
        let policies = good(&text).0.outbound_tls;
        assert_eq!(policies.default, TlsLevel::Required);
        assert_eq!(level(&policies, "hop.example:25"), Some(TlsLevel::Verified));
        assert_eq!(level(&policies, "other.example:25"), None);
        assert_eq!(policies.rules[0].domains, ["xn--bcher-kva.example", "*.d.example", "*"]);
        assert_eq!(policies.rules[0].hosts[0].as_str(), "*.mx.example");
    }
}
