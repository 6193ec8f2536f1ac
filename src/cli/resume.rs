//! `postrider resume`

use super::control::{Which, end_of};
use super::selecting::Selecting;
use super::{Failure, output};

/// Send again after `pause` or `serve --hold`
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider resume --config /etc/postrider/postrider.toml 7\n  postrider resume --config \
                        /etc/postrider/postrider.toml --campaign spring\n  postrider resume --config \
                        /etc/postrider/postrider.toml\n\nWith a number, or the selector that it was made with, it ends that \
                        pause; without either it ends the one of everything, and leaves the others."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The pause's number, as `postrider steering` shows it
    #[arg(value_name = "RULE")]
    rule: Option<u64>,
    #[command(flatten)]
    selecting: Selecting,
    /// Print the pause that has ended as a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Some(end) = end_of("pause", self.rule, self.selecting.selector())? else {
            return self.which.hold(false, self.json);
        };
        let rule = self.which.rule(&end)?;
        if self.json {
            return Ok(output::print_json(&rule)?);
        }
        Ok(output::print(&format!("pause {} has ended: {}", rule.id, output::printable(&rule.selector.to_string())))?)
    }
}
