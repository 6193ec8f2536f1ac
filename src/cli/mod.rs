//! The commands of `postrider`: what stands on the command line, what is printed, how it ends.
//!
//! **Promises.** Data goes to standard output, all else to standard error; with `--json` data is one JSON value (or one a
//! line, for what goes on for ever). Colours appear on a terminal only and never against `NO_COLOR`. Exit codes: 0 for
//! done, 1 if the thing asked for failed, 2 for a command line that makes no sense.
//!
//! **Does not know** how anything is done: each command is a thin shell around a lower layer.

mod check;
mod control;
mod dkim_keygen;
mod ends;
mod explain;
mod flush;
mod hash_password;
mod load;
mod logging;
mod opt_outs;
mod output;
mod pause;
mod ported;
mod progress;
mod providers;
mod queue;
mod reroute;
mod resume;
mod sandbox;
mod selecting;
mod serve;
mod sink;
mod spool;
mod steering;
mod sweep;
mod tls_reports;
mod warmup;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The relay that carries every e-mail and every SMS an application platform sends.
#[derive(Parser, Debug)]
#[command(name = "postrider", version, max_term_width = 110, after_help = EXAMPLE)]
struct CommandLine {
    #[command(flatten)]
    logging: logging::Args,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "Try it:\n  postrider sandbox\n\nRun it:\n  postrider check --config /etc/postrider/postrider.toml\n  \
                       postrider serve --config /etc/postrider/postrider.toml";

#[derive(Subcommand, Debug)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Sandbox(sandbox::Args),
    Queue(queue::Args),
    Explain(explain::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Flush(flush::Args),
    Reroute(reroute::Args),
    Bounce(sweep::Bounce),
    Cancel(sweep::Cancel),
    Steering(steering::Args),
    Warmup(warmup::Args),
    TlsReports(tls_reports::Args),
    #[command(name = "optouts")]
    OptOuts(opt_outs::Args),
    Ported(ported::Args),
    HashPassword(hash_password::Args),
    DkimKeygen(dkim_keygen::Args),
    Sink(sink::Args),
    Load(load::Args),
    Spool(spool::Args),
    Providers(providers::Args),
}

/// Why a command did not end well.
#[derive(Debug)]
enum Failure {
    /// What was asked for failed: exit code 1.
    Failed(String),
    /// It failed and everything has been said: exit code 1.
    Told,
    /// The command line makes no sense: exit code 2.
    Usage(String),
}

impl Failure {
    fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        // Whoever reads our output has seen enough (`postrider queue | head`); there is nobody left to tell.
        if e.kind() == std::io::ErrorKind::BrokenPipe { Self::Told } else { Self::failed(e) }
    }
}

/// Runs the program on its command line.
pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    let long_lived = matches!(line.command, Command::Serve(_));
    match logging::start(&line.logging, long_lived).and_then(|()| line.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Failed(what)) => {
            output::complain(&what);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(what)) => {
            output::complain(&what);
            ExitCode::from(2)
        }
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run(),
            Self::Check(args) => args.run(),
            Self::Sandbox(args) => args.run(),
            Self::Queue(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Pause(args) => args.run(),
            Self::Resume(args) => args.run(),
            Self::Flush(args) => args.run(),
            Self::Reroute(args) => args.run(),
            Self::Bounce(args) => args.run(),
            Self::Cancel(args) => args.run(),
            Self::Steering(args) => args.run(),
            Self::Warmup(args) => args.run(),
            Self::TlsReports(args) => args.run(),
            Self::OptOuts(args) => args.run(),
            Self::Ported(args) => args.run(),
            Self::HashPassword(args) => args.run(),
            Self::DkimKeygen(args) => args.run(),
            Self::Sink(args) => args.run(),
            Self::Load(args) => args.run(),
            Self::Spool(args) => args.run(),
            Self::Providers(args) => args.run(),
        }
    }
}

/// A runtime with one worker per core, for commands that carry messages.
fn many_threads() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("postrider")
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("no runtime: {e}")))
}

/// A runtime on this thread, for commands that ask one question or must leave the cores to others.
fn one_thread() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("no runtime: {e}")))
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(test)]
mod tests;
