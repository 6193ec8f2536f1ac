//! Which domains belong together: those whose mail goes to the same hosts, or to hosts of one provider, share what these
//! tolerate.
//!
//! **Promises.** One look-up, whose answer the resolver keeps for the couriers. Two domains get the same name if and only if
//! their MX records name the same hosts, whatever the preferences, or only hosts of one provider that the table names.
//!
//! **Does not know** who asks, nor what the name is used for.
//!
//! **Fails how.** What cannot be looked up stands alone, for a short while: its courier will meet the same error and say so.

use std::sync::Arc;
use std::time::Duration;

use super::MailEgress;
use super::hosts::before_ourselves;
use crate::dns::{DnsError, Mx};
use crate::model::Domain;
use crate::provider::{ANY, Limits, Provider, Table};

/// How long an answer is believed. What has been sorted by it stays where it is, so a little late is early enough.
const BELIEVED: Duration = Duration::from_secs(3600);
/// And a look-up that failed.
const DOUBTED: Duration = Duration::from_secs(60);
/// Hosts named in full; of more, the number and a checksum stand for the rest.
const HOSTS_NAMED: usize = 2;

/// Where a domain's mail goes, as far as its neighbours are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// What the hosts are called together; `None`: the domain stands alone.
    pub site: Option<String>,
    /// Who runs them, as the provider table calls it: whoever runs the host that is tried first.
    pub provider: Arc<str>,
    /// With what the table makes a start there.
    pub limits: Limits,
    /// How long that is to be believed.
    pub keep: Duration,
}

impl MailEgress {
    /// Looks up which hosts take a domain's mail.
    pub async fn locate(&self, domain: &Domain) -> Located {
        let options = self.options.load();
        let (hosts, keep) = match self.resolver.mx(domain).await {
            Ok(Mx::Hosts(hosts)) => (before_ourselves(hosts, &options.hostname), BELIEVED),
            Ok(Mx::Implicit(_) | Mx::Null) | Err(DnsError::NoSuchName | DnsError::NoAddress) => (Vec::new(), BELIEVED),
            Err(DnsError::Temporary(_) | DnsError::Bogus) => (Vec::new(), DOUBTED),
        };
        let hosts: Vec<String> = hosts.into_iter().map(|host| host.name).collect();
        let provider = options.providers.provider_of(hosts.first().map_or("", String::as_str));
        let (provider_name, limits) = (provider.name.clone(), provider.limits.clone());
        let site = shared_name(&options.providers, provider, &hosts).or_else(|| name_of(hosts));
        Located { site, provider: provider_name, limits, keep }
    }
}

/// The provider that runs all of these hosts: they share one site, whatever they are called.
fn shared_name(table: &Table, provider: &Provider, hosts: &[String]) -> Option<String> {
    let runs = |host: &String| table.provider_of(host).name == provider.name;
    (*provider.name != *ANY && hosts.iter().all(runs)).then(|| format!("provider {}", provider.name))
}

/// The name of a set of hosts: `mx a.example, b.example`, or with more `mx a.example, b.example and 3 more (1a2b3c4d)`.
fn name_of(mut hosts: Vec<String>) -> Option<String> {
    hosts.sort_unstable();
    hosts.dedup();
    let named = hosts.get(..HOSTS_NAMED.min(hosts.len()))?.join(", ");
    match hosts.len() {
        0 => None,
        1..=HOSTS_NAMED => Some(format!("mx {named}")),
        all => {
            let checksum = crc32fast::hash(hosts.join(",").as_bytes());
            Some(format!("mx {named} and {} more ({checksum:08x})", all - HOSTS_NAMED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_provider_are_one_site() {
        let table = Table::shipped();
        let name = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            shared_name(&table, table.provider_of(&hosts[0]), &hosts)
        };
        assert_eq!(name(&["aspmx.l.google.com", "alt1.aspmx.l.google.com"]).as_deref(), Some("provider gmail"));
        assert_eq!(name(&["gmail-smtp-in.l.google.com"]).as_deref(), Some("provider gmail"));
        assert_eq!(name(&["aspmx.l.google.com", "mx.backup.example"]), None);
        assert_eq!(name(&["mx.one.example"]), None);
    }

    #[test]
    fn the_same_hosts_in_any_order_have_one_name() {
        let name = |hosts: &[&str]| name_of(hosts.iter().map(|h| (*h).to_owned()).collect());
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["b.example"]).as_deref(), Some("mx b.example"));
        assert_eq!(name(&["b.example", "a.example", "b.example"]).as_deref(), Some("mx a.example, b.example"));
        let four = name(&["d", "c", "a", "b"]).unwrap();
        assert!(four.starts_with("mx a, b and 2 more ("), "{four}");
        assert_eq!(name(&["a", "b", "c", "d"]), Some(four.clone()));
        assert_ne!(name(&["a", "b", "c", "e"]), Some(four));
    }
}
