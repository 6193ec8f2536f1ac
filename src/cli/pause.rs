//! `postrider pause`

use std::time::Duration;

use super::control::Which;
use super::selecting::{Selecting, rule_for_people, span};
use super::{Failure, output};
use crate::admin::control::Request;
use crate::queue::steering::{Action, Order};

/// Hold messages, or stop sending altogether; they are still accepted and kept
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider pause --config /etc/postrider/postrider.toml --campaign spring --reason 'wrong \
                        price'\n  postrider pause --config /etc/postrider/postrider.toml --domain example.net --reason \
                        'they asked' --expires 2h\n  postrider pause --config /etc/postrider/postrider.toml\n\nA pause of \
                        some messages holds those that come later as well, is kept over restarts and ends by resume, or \
                        when it expires. Messages that it holds still expire when their own time has come. Without a \
                        selector nothing at all is sent, and nothing expires; then a restart sends again, unless it is \
                        started with --hold. Messages on their way are finished."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    selecting: Selecting,
    /// Why; `explain` shows it. Required with a selector
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End it after this time
    #[arg(long, value_name = "DURATION", value_parser = span)]
    expires: Option<Duration>,
    /// Print the rule as a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let selector = self.selecting.selector();
        if selector.is_empty() {
            if self.reason.is_some() || self.expires.is_some() {
                return Err(Failure::Usage("--reason and --expires want a selector, such as --campaign".to_owned()));
            }
            return self.which.hold(true, self.json);
        }
        let reason = self.reason.ok_or_else(|| Failure::Usage("say why: --reason TEXT".to_owned()))?;
        let order = Order { action: Action::Pause, selector, reason, expires: self.expires };
        let rule = self.which.rule(&Request::Order { order })?;
        if self.json {
            return Ok(output::print_json(&rule)?);
        }
        Ok(output::print(&rule_for_people(&rule))?)
    }
}
