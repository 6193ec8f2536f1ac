//! Where: fixed next hops for mail, carriers for texts.
//!
//! **Promises.** Pure look-ups on a table built by `config`; the most specific domain or the longest prefix wins.
//! **Does not know** DNS (a mail without a fixed route goes by MX, which `egress::email` resolves) and no carrier's state.
//!
//! `texts` says which carriers a text may go by, `networks` whose a number is, as far as its first digits tell,
//! `ported` what carriers' refusals have shown against that, `hours` when they may leave, `prices` what they cost. `ported` alone has a
//! file.

mod hours;
mod networks;
mod ported;
mod prices;
mod texts;

pub use hours::{Hours, HoursError, SendingHours, ahead_of_utc};
pub use networks::{Network, Networks};
pub use ported::{Ported, PortedNumber, Terms as PortedTerms};
pub use prices::{Price, Prices};
pub use texts::{Choice, Course, Doubt, TextRoute, TextRoutes, Weights};

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::Domain;

/// Where a mail for a domain goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MailHop {
    /// By the domain's MX records.
    Mx(Domain),
    /// To a fixed next hop, `host:port` or `[address]:port`.
    Fixed(Arc<str>),
}

/// Is this a next hop: `mail.example.com:25`, `192.0.2.1:25`, `[2001:db8::1]:25`?
pub fn is_next_hop(text: &str) -> bool {
    let named = |(host, port): (&str, &str)| {
        port.parse::<u16>().is_ok_and(|p| p > 0) && Domain::parse(host).is_ok_and(|d| !d.is_literal())
    };
    text.parse::<SocketAddr>().is_ok_and(|a| a.port() > 0) || text.rsplit_once(':').is_some_and(named)
}

/// One fixed route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FixedRoute {
    /// Domains it serves: `example.net`, `*.example.net` (below it), `*` (all).
    pub domains: Vec<String>,
    /// `host:port`.
    pub next_hop: Arc<str>,
}

/// The routing table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    /// Fixed mail routes.
    pub mail: Vec<FixedRoute>,
    /// Text routes.
    pub text: TextRoutes,
}

/// How exactly a pattern (`example.net`, `*.example.net` for those below it, `*` for all) means a domain; `None` if it does
/// not.
pub fn rank(pattern: &str, domain: &Domain) -> Option<usize> {
    match pattern.strip_prefix('*') {
        Some("") => Some(0),
        Some(suffix) => {
            let parent = suffix.trim_start_matches('.');
            (domain.as_str() != parent && domain.is_within(parent)).then_some(parent.len() + 1)
        }
        None => domain.as_str().eq_ignore_ascii_case(pattern).then_some(usize::MAX),
    }
}

impl Routes {
    /// The same, with what carriers' refusals have shown of numbers' networks, and will.
    pub fn knowing(self, ported: Ported) -> Self {
        Self { text: self.text.knowing(ported), ..self }
    }

    /// The next hop for a domain: an exact name before the longest wildcard before `*` before MX.
    pub fn mail_hop(&self, domain: &Domain) -> MailHop {
        self.mail
            .iter()
            .filter_map(|route| route.domains.iter().filter_map(|p| rank(p, domain)).max().map(|rank| (rank, route)))
            .max_by_key(|(rank, _)| *rank)
            .map_or_else(|| MailHop::Mx(domain.clone()), |(_, route)| MailHop::Fixed(route.next_hop.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(routes: &Routes, domain: &str) -> String {
        match routes.mail_hop(&Domain::parse(domain).unwrap()) {
            MailHop::Mx(d) => format!("mx {d}"),
            MailHop::Fixed(h) => h.to_string(),
        }
    }

    #[test]
    fn the_most_specific_mail_route_wins() {
        let fixed = |domains: &[&str], hop: &str| FixedRoute {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            next_hop: hop.into(),
        };
        let mut routes = Routes {
            mail: vec![fixed(&["*.example.net"], "below:25"), fixed(&["example.net"], "exact:25")],
            text: TextRoutes::default(),
        };
        assert_eq!(hop(&routes, "example.net"), "exact:25");
        assert_eq!(hop(&routes, "a.b.example.net"), "below:25");
        assert_eq!(hop(&routes, "example.org"), "mx example.org");
        routes.mail.push(fixed(&["*"], "all:25"));
        routes.mail.push(fixed(&["*.b.example.net"], "deeper:25"));
        assert_eq!(hop(&routes, "example.org"), "all:25");
        assert_eq!(hop(&routes, "a.b.example.net"), "deeper:25");
        assert_eq!(hop(&routes, "myexample.net"), "all:25");
    }
}
