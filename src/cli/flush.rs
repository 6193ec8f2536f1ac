//! `postrider flush`

use serde_json::json;

use super::control::{Which, unexpected};
use super::selecting::Selecting;
use super::{Failure, output};
use crate::admin::control::{Request, Response};

/// Try everything that waits for a retry now
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider flush --config /etc/postrider/postrider.toml\n  postrider flush --config \
                        /etc/postrider/postrider.toml --domain example.net\n\nFor after an outage. What \
                        other sides asked us to wait for is not undone by asking sooner."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    selecting: Selecting,
    /// Print the count as a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.which.ask(&Request::Flush { selector: self.selecting.selector() })? {
            Response::Flushed { recipients } if self.json => {
                Ok(output::print_json(&json!({ "recipients": recipients }))?)
            }
            Response::Flushed { recipients } => {
                Ok(output::print(&format!("{} due now", output::plural(recipients, "recipient")))?)
            }
            other => Err(unexpected(&other)),
        }
    }
}
