//! `postrider ported`

use std::sync::Arc;

use clap::Subcommand;

use super::control::{Which, unexpected};
use super::output::{Cell, DIM, NAME, hidden, plural, printable, table};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::route::PortedNumber;

/// Show which numbers carriers say are of another network, or forget one
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider ported list --config /etc/postrider/postrider.toml\n  postrider ported forget --config \
                  /etc/postrider/postrider.toml +8613800138000\n\nNumbers get there by themselves when a carrier of a route by networks \
                  answers with words of [ported]."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List numbers, the newest first, or one
    List(List),
    /// Believe a number's first digits again
    Forget(Forget),
}

#[derive(clap::Args, Debug)]
struct List {
    /// The number, with its +; all if it is missing
    #[arg(value_name = "NUMBER")]
    number: Option<Arc<str>>,
    #[command(flatten)]
    which: Which,
    /// Most numbers shown
    #[arg(long, value_name = "N", default_value_t = 30)]
    most: usize,
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Forget {
    /// The number, with its +
    #[arg(value_name = "NUMBER")]
    number: Arc<str>,
    #[command(flatten)]
    which: Which,
    /// Print what was known as a JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(List { number, which, most, json }) => {
                let (numbers, total) = ask(&which, &Request::Ported { number, most })?;
                show(&numbers, total, json, "nothing is known but numbers' first digits")
            }
            Command::Forget(Forget { number, which, json }) => {
                let (numbers, total) = ask(&which, &Request::ForgetPorted { number })?;
                show(&numbers, total, json, "nothing was known of it")
            }
        }
    }
}

fn ask(which: &Which, request: &Request) -> Result<(Vec<PortedNumber>, u64), Failure> {
    match which.ask(request)? {
        Response::Ported { numbers, total } => Ok((numbers, total)),
        other => Err(unexpected(&other)),
    }
}

fn show(numbers: &[PortedNumber], total: u64, json: bool, none: &str) -> Result<(), Failure> {
    let more = hidden(total.saturating_sub(numbers.len() as u64), "number", "--most");
    let people = |numbers: &[_]| format!("{}\n{}{more}", plural(total, "number"), for_people(numbers));
    Ok(output::print_all(numbers, json, none, people)?)
}

fn for_people(numbers: &[PortedNumber]) -> String {
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![["number", "is not of", "says", "at"].into_iter().map(head).collect::<Vec<_>>()];
    rows.extend(numbers.iter().map(|known| {
        vec![
            Cell::new(&*known.number).styled(NAME),
            Cell::new(printable(&known.not.join(", "))),
            Cell::new(printable(&known.carrier)),
            Cell::new(known.at.rfc3339()),
        ]
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_a_table() {
        let numbers = r#"[{"number":"+8613800138000","not":["china-mobile","china-unicom"],"carrier":"cmcc-1",
                           "at":"2026-11-23T06:24:00.000000Z"}]"#;
        let numbers: Vec<PortedNumber> = serde_json::from_str(numbers).unwrap();
        let shown = anstream::adapter::strip_str(&for_people(&numbers)).to_string();
        assert!(shown.lines().nth(1).unwrap().contains("china-mobile, china-unicom"), "{shown}");
    }
}
