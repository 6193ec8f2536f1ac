//! `postrider providers`: the table of mailbox providers, looked at and tried out before it is put in force.

mod list;
mod test;

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::output::{BAD, paint, plural, printable};
use super::{Failure, output};
use crate::config::Config;
use crate::provider::{Measures, Row, Table};

/// Look at the table of mailbox providers, and try replies on it
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider providers list\n  postrider providers list gmail\n  postrider providers test --mx \
                  mx3.qq.com '550 Ip frequency limited'\n  postrider providers test --table providers.toml --events \
                  /var/lib/postrider/events/events.jsonl"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    List(list::Args),
    Test(test::Args),
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(args) => args.run(),
            Command::Test(args) => args.run(),
        }
    }
}

/// Which table is meant.
#[derive(clap::Args, Debug)]
struct Which {
    /// A table, such as an edited copy of config/providers.toml
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// The relay's configuration, which says what table is in force; without it that is the one of this program
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Which {
    /// The table named on the command line, or else the one in force.
    fn table(&self) -> Result<Arc<Table>, Failure> {
        match &self.table {
            Some(file) => read(file).map(Arc::new),
            None => self.in_force(),
        }
    }

    fn in_force(&self) -> Result<Arc<Table>, Failure> {
        let Some(file) = &self.config else { return Ok(Table::shipped()) };
        match Config::load(file) {
            Ok((config, _)) => Ok(config.delivery.providers),
            Err(mistakes) => Err(told(&mistakes)),
        }
    }
}

/// Largest table taken.
const TABLE_BYTES_MAX: u64 = 1024 * 1024;

fn read(file: &Path) -> Result<Table, Failure> {
    let unreadable = |why: String| Failure::Failed(format!("{}: {why}", file.display()));
    let (bytes, whole) = read_end(file, TABLE_BYTES_MAX).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    if !whole {
        return Err(unreadable("is larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8".to_owned()))?;
    Table::parse(&text)
        .map_err(|mistakes| told(&mistakes.iter().map(|m| format!("{}:{m}", file.display())).collect::<Vec<_>>()))
}

/// Says all mistakes, as `check` does.
fn told<T: ToString>(mistakes: &[T]) -> Failure {
    for mistake in mistakes {
        output::remark(&format!("{} {}", paint(BAD.bold(), "mistake:"), printable(&mistake.to_string())));
    }
    output::remark(&plural(mistakes.len() as u64, "mistake"));
    Failure::Told
}

/// The end of a file, at most so many bytes of it, and whether that is all.
fn read_end(file: &Path, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut open = std::fs::File::open(file)?;
    let from = open.metadata()?.len().saturating_sub(most);
    open.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    open.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, from == 0))
}

/// A row as it is printed in JSON.
#[derive(Serialize)]
struct RowView<'t> {
    id: &'t str,
    provider: &'t str,
    class: &'t str,
    blames: &'t str,
    action: &'t str,
    retry_after_s: Option<u64>,
    slow: Option<String>,
    slow_for_s: Option<u64>,
    suspend_s: Option<u64>,
    connections: Option<u32>,
    connections_for_s: Option<u64>,
    messages_per_connection: Option<u32>,
    fix: Option<&'t str>,
}

impl<'t> RowView<'t> {
    fn of(row: &'t Row) -> Self {
        let Measures { slow, suspend, connections, messages_per_connection, fix, .. } = &*row.measures;
        Self {
            id: &row.rule.id,
            provider: &row.provider,
            class: row.class.as_str(),
            blames: row.blames.as_str(),
            action: row.action.as_str(),
            retry_after_s: row.retry_after.map(|d| d.as_secs()),
            slow: slow.map(|s| s.to.to_string()),
            slow_for_s: slow.map(|s| s.lasts.as_secs()),
            suspend_s: suspend.map(|d| d.as_secs()),
            connections: connections.map(|(most, _)| most),
            connections_for_s: connections.map(|(_, lasts)| lasts.as_secs()),
            messages_per_connection: *messages_per_connection,
            fix: fix.as_deref(),
        }
    }
}

/// What a row has done besides, in a few words.
fn measures(row: &Row) -> String {
    let Measures { slow, suspend, connections, messages_per_connection, fix, .. } = &*row.measures;
    let mut words = Vec::new();
    words.extend(row.retry_after.map(|d| format!("not before {}", span(d))));
    words.extend(slow.map(|s| format!("slow to {} for {}", s.to, span(s.lasts))));
    words.extend(suspend.map(|d| format!("suspend for {}", span(d))));
    words.extend(connections.map(|(most, lasts)| format!("connections {most} for {}", span(lasts))));
    words.extend(messages_per_connection.map(|most| format!("mails per connection {most}")));
    words.extend(fix.as_ref().map(|what| format!("fix: {what}")));
    words.join(", ")
}

/// `4h`, `90m`, `30s`.
fn span(d: Duration) -> String {
    let seconds = d.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(size, _)| seconds > 0 && seconds.is_multiple_of(*size));
    let (size, unit) = unit.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests;
