//! `postrider spool`: the queue's directory of a relay that is not running, looked at and rescued from.

mod dump;
mod export;
mod stat;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Failure;
use super::progress::Progress;
use crate::queue::inspect::{Access, NotOpened, Spool};
use crate::storage::OpenError;

/// Look into a stopped relay's spool: check it, count, list its records, write its messages out
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider spool verify /var/lib/postrider\n  postrider spool stat /var/lib/postrider\n  \
                  postrider spool dump --limit 20 /var/lib/postrider\n  postrider spool export --to /root/rescued \
                  /var/lib/postrider\n\nDIR is the relay's data_dir, the spool directory in it, or a copy of either. Nothing \
                  in it is changed.\nExit codes: 0 all well, 1 something is damaged or was not done, 2 a command line that \
                  makes no sense."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Verify(verify::Args),
    Stat(stat::Args),
    Dump(dump::Args),
    Export(export::Args),
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Verify(args) => args.run(),
            Command::Stat(args) => args.run(),
            Command::Dump(args) => args.run(),
            Command::Export(args) => args.run(),
        }
    }
}

/// Which spool is meant, and how it is looked at.
#[derive(clap::Args, Debug)]
struct Which {
    /// A data directory, the spool directory in it, or a copy of either
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Look although a relay is running on it: what is told is how it was a moment ago
    #[arg(long)]
    read_only_while_running: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

impl Which {
    fn open(&self) -> Result<Spool, Failure> {
        let access = if self.read_only_while_running { Access::Beside } else { Access::Alone };
        open(&self.dir, access, "; stop it first, or say --read-only-while-running")
    }

    fn progress(&self, what: &'static str, bytes: u64) -> Progress {
        if self.quiet { Progress::silent() } else { Progress::of_bytes(what, bytes) }
    }
}

fn open(dir: &Path, access: Access, if_in_use: &str) -> Result<Spool, Failure> {
    Spool::open(dir, access).map_err(|e| match e {
        NotOpened::Storage(OpenError::InUse(_)) => Failure::Failed(format!("{e}{if_in_use}")),
        e => Failure::failed(e),
    })
}

#[cfg(test)]
mod tests;
