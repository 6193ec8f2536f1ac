//! `postrider reroute`

use std::sync::Arc;
use std::time::Duration;

use super::control::{Which, end_of};
use super::selecting::{Selecting, rule_for_people, span};
use super::{Failure, output};
use crate::admin::control::Request;
use crate::queue::steering::{Action, Order};

/// Send mail to another next hop, or end that
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider reroute --config /etc/postrider/postrider.toml --domain example.net --to \
                        backup.example.com:25 --reason 'their MX is down' --expires 6h\n  postrider reroute --config \
                        /etc/postrider/postrider.toml --end 7\n\nMail that comes later goes there as well, until the rule \
                        expires or is ended; it is kept over restarts. Mail on its way is finished. Texts go by their \
                        carriers and are not touched."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    selecting: Selecting,
    /// Where to, a host and a port
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "end")]
    to: Option<Arc<str>>,
    /// Why; `explain` shows it
    #[arg(long, value_name = "TEXT", required_unless_present = "end")]
    reason: Option<String>,
    /// End it after this time
    #[arg(long, value_name = "DURATION", value_parser = span)]
    expires: Option<Duration>,
    /// End the rule of this number, as `postrider steering` shows it
    #[arg(long, value_name = "RULE", conflicts_with_all = ["to", "reason", "expires", "Selecting"])]
    end: Option<u64>,
    /// Print the rule as a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let selector = self.selecting.selector();
        let request = match (self.end, self.to, self.reason) {
            (None, Some(to), Some(reason)) => Request::Order {
                order: Order { action: Action::Reroute { to }, selector, reason, expires: self.expires },
            },
            (end, ..) => end_of("reroute", end, selector)?
                .ok_or_else(|| Failure::Usage("say --to HOST:PORT, or --end RULE".to_owned()))?,
        };
        let rule = self.which.rule(&request)?;
        if self.json {
            return Ok(output::print_json(&rule)?);
        }
        let ended = if self.end.is_some() { "ended " } else { "" };
        Ok(output::print(&format!("{ended}{}", rule_for_people(&rule)))?)
    }
}
