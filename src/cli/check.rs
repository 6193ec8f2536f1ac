//! `postrider check`

use std::path::PathBuf;

use serde::Serialize;

use super::output::{BAD, BOLD, GOOD, WAITING, paint, plural};
use super::{Failure, output};
use crate::config::{Config, Mistake, Warning};

/// Check a configuration and report every mistake at once
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider check --config /etc/postrider/postrider.toml\n\nExit code 0 if the relay \
                        would start with it, 1 if not. Warnings do not count."
)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    mistakes: &'a [Mistake],
    warnings: &'a [Warning],
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (mistakes, warnings) = match Config::load(&self.config) {
            Ok((_, warnings)) => (Vec::new(), warnings),
            Err(mistakes) => (mistakes, Vec::new()),
        };
        let ok = mistakes.is_empty();
        if self.json {
            output::print_json(&Verdict { ok, mistakes: &mistakes, warnings: &warnings })?;
        } else {
            for mistake in &mistakes {
                output::remark(&format!(
                    "{} {}",
                    paint(BAD.bold(), "mistake:"),
                    output::printable(&mistake.to_string())
                ));
            }
            for warning in &warnings {
                let label = paint(WAITING.bold(), "warning:");
                output::remark(&format!("{label} {}", output::printable(&warning.to_string())));
            }
            let file = paint(BOLD, &self.config.display().to_string());
            if ok {
                output::print(&format!("{file}: {}", paint(GOOD, "ok")))?;
            } else {
                output::remark(&format!("{file}: {}", plural(mistakes.len() as u64, "mistake")));
            }
        }
        if ok { Ok(()) } else { Err(Failure::Told) }
    }
}
