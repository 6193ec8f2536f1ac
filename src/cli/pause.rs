//! `postrider pause`

use super::Failure;
use super::control::Which;

/// Stop sending; messages are still accepted and kept
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider pause --config /etc/postrider/postrider.toml\n\nMessages on their way are \
                        finished. A restart sends again, unless it is started with --hold."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.which.hold(true)
    }
}
