//! The program's own log, on standard error. What becomes of messages is in the event log, not here.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failure;

/// How the program logs.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// error, warn, info, debug, or a filter such as "warn,postrider::egress=debug" [default: $POSTRIDER_LOG, else info
    /// for serve and warn for the rest]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Logging")]
    log_level: Option<String>,
    /// How a line of the log looks
    #[arg(long, global = true, value_name = "FORMAT", default_value = "plain", help_heading = "Logging")]
    log_format: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Format {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Starts logging; called once.
pub(super) fn start(args: &Args, long_lived: bool) -> Result<(), Failure> {
    let from_environment = std::env::var("POSTRIDER_LOG").ok().filter(|level| !level.is_empty());
    let level = args.log_level.clone().or(from_environment);
    let level = level.as_deref().unwrap_or(if long_lived { "info" } else { "warn" });
    let filter = EnvFilter::try_new(level).map_err(|e| Failure::Usage(format!("log level \"{level}\": {e}")))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match args.log_format {
        Format::Plain => log.with_target(false).init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
