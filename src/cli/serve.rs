//! `postrider serve`

use std::path::PathBuf;

use super::{Failure, many_threads};
use crate::relay;

/// Run the relay
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider serve --config /etc/postrider/postrider.toml\n\nSIGTERM or Ctrl-C stops it \
                        without losing anything; SIGHUP reads the configuration again."
)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Start with everything paused: messages are accepted and kept, none is sent until `postrider resume`
    #[arg(long)]
    hold: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = many_threads()?;
        runtime.block_on(relay::serve(&self.config, self.hold)).map_err(Failure::failed)
    }
}
