//! `postrider resume`

use super::Failure;
use super::control::Which;

/// Send again after `pause` or `serve --hold`
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  postrider resume --config /etc/postrider/postrider.toml")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.which.hold(false)
    }
}
