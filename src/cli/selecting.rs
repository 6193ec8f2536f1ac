//! Which messages a steering command is about, and how a rule is shown.

use std::sync::Arc;
use std::time::Duration;

use super::output::{BOLD, paint, printable};
use crate::config::parse_span;
use crate::model::Class;
use crate::queue::steering::{Rule, Selector};

/// Which messages: those that fit everything that is named
#[derive(clap::Args, Debug)]
pub(super) struct Selecting {
    /// Those that this client submitted
    #[arg(long, value_name = "NAME")]
    client: Option<Arc<str>>,
    /// Those of this campaign
    #[arg(long, value_name = "NAME")]
    campaign: Option<Arc<str>>,
    /// Those of this class: otp, transactional or marketing
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Mail to this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<Arc<str>>,
    /// Mail to domains whose hosts this provider runs, as `postrider providers list` names it
    #[arg(long, value_name = "NAME")]
    provider: Option<Arc<str>>,
    /// What waits at this site, as `postrider queue` shows it
    #[arg(long, value_name = "SITE")]
    site: Option<Arc<str>>,
    /// Mail that would leave from this source: for pause and resume, alone or with --provider; the pool's other sources go on
    #[arg(long, value_name = "NAME")]
    source: Option<Arc<str>>,
}

impl Selecting {
    pub(super) fn selector(self) -> Selector {
        let Self { client, campaign, class, domain, provider, site, source } = self;
        Selector { client, campaign, class, domain, provider, site, source }
    }
}

/// A duration on the command line.
pub(super) fn span(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("expected a duration such as 30m, 2h or 1d")
}

/// A rule in a sentence, for people.
pub(super) fn rule_for_people(rule: &Rule) -> String {
    format!(
        "{} {}: {}",
        paint(BOLD, rule.action.as_str()),
        paint(BOLD, &rule.id.to_string()),
        printable(&rule.sentence())
    )
}
