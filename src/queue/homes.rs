//! Which domains share a site, as DNS was last understood: somebody looks it up and tells ([`super::Queue::learn_site`]).
//!
//! **Promises.** Bounded: at most [`HOMES_MAX`] domains are known, none for longer than its teller said. A domain that is not
//! known stands alone: it is a site of its own until somebody has looked.
//!
//! **Does not know** DNS, nor why domains belong together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Mono;
use crate::provider::Limits;

/// A site that the mail of several domains shares: their MX records name the same hosts, or hosts of one provider.
#[derive(Clone, PartialEq, Debug)]
pub struct MailSite {
    /// Its name.
    pub name: Arc<str>,
    /// Who runs its hosts, as the provider table calls it.
    pub provider: Arc<str>,
    /// With what that table makes a start there.
    pub limits: Arc<Limits>,
}

/// Domains known at a time. Each costs some 150 bytes.
const HOMES_MAX: usize = 65_536;

/// The domains that somebody has looked up.
#[derive(Debug, Default)]
pub(super) struct Homes {
    known: HashMap<Arc<str>, Home>,
}

#[derive(Debug)]
struct Home {
    /// `None`: it stands alone.
    site: Option<MailSite>,
    until: Mono,
}

impl Homes {
    /// Keeps what was found out about a domain. Above the bound it is forgotten at once: the domain stands alone.
    pub(super) fn learn(&mut self, domain: &str, site: Option<MailSite>, until: Mono, now: Mono) {
        if self.known.len() >= HOMES_MAX {
            self.known.retain(|_, home| home.until > now);
        }
        if self.known.len() < HOMES_MAX || self.known.contains_key(domain) {
            self.known.insert(domain.into(), Home { site, until });
        }
    }

    /// Has somebody looked, and is that still to be believed?
    pub(super) fn is_known(&self, domain: &str, now: Mono) -> bool {
        self.known.get(domain).is_some_and(|home| home.until > now)
    }

    /// The site that a domain shares with others.
    pub(super) fn site(&self, domain: &str, now: Mono) -> Option<&MailSite> {
        self.known.get(domain).filter(|home| home.until > now)?.site.as_ref()
    }

    /// Forgets everything: what sites tolerate may have changed.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_holds_for_its_time_and_within_bounds() {
        let mut homes = Homes::default();
        let site = |n: usize| {
            Some(MailSite { name: format!("mx {n}").into(), provider: "any".into(), limits: Arc::default() })
        };
        homes.learn("a.example", site(1), Mono(10), Mono(0));
        homes.learn("b.example", None, Mono(10), Mono(0));
        assert_eq!(homes.site("a.example", Mono(9)).map(|s| &*s.name), Some("mx 1"));
        assert!(homes.is_known("b.example", Mono(9)) && homes.site("b.example", Mono(9)).is_none());
        assert!(!homes.is_known("a.example", Mono(10)) && homes.site("a.example", Mono(10)).is_none());
        for n in 0..2 * HOMES_MAX {
            homes.learn(&format!("d{n}.example"), site(n), Mono(20), Mono(11));
        }
        assert_eq!(homes.known.len(), HOMES_MAX);
        homes.learn("d0.example", site(7), Mono(30), Mono(12));
        assert_eq!(homes.site("d0.example", Mono(12)).map(|s| &*s.name), Some("mx 7"), "who is known stays known");
        homes.learn("late.example", site(1), Mono(40), Mono(25));
        assert!(homes.is_known("late.example", Mono(25)) && !homes.is_known("d1.example", Mono(19)));
    }
}
