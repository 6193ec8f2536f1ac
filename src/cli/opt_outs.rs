//! `postrider optouts`

use std::sync::Arc;

use clap::Subcommand;

use super::control::{Which, unexpected};
use super::output::{Cell, DIM, NAME, hidden, plural, printable, table};
use super::{Failure, output};
use crate::admin::control::{OptOutOrder, Request, Response};
use crate::model::Class;
use crate::policy::opt_outs::{OptOut, Whom};

/// Show who wants no more texts, or change that
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider optouts list --config /etc/postrider/postrider.toml\n  postrider optouts add --config \
                  /etc/postrider/postrider.toml +8613800138000 --signature 小店\n  postrider optouts remove --config \
                  /etc/postrider/postrider.toml +8613800138000\n\nNumbers get on the list by themselves when a handset answers \
                  TD, STOP or another word of [opt_outs]. Codes (class otp) are never held back."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List entries, all or those of a number
    List(List),
    /// Put a number on the list
    Add(Add),
    /// Take a number off the list
    Remove(Remove),
}

#[derive(clap::Args, Debug)]
struct List {
    /// The number, with its +; all if it is missing
    #[arg(value_name = "NUMBER")]
    number: Option<Arc<str>>,
    #[command(flatten)]
    which: Which,
    /// Most entries shown, by number
    #[arg(long, value_name = "N", default_value_t = 30)]
    most: usize,
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Add {
    /// The number, with its +
    #[arg(value_name = "NUMBER")]
    number: Arc<str>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Named,
    /// Texts of this class: marketing or transactional
    #[arg(long, value_name = "CLASS", default_value = "marketing")]
    class: Class,
    /// Texts of this client only
    #[arg(long, value_name = "NAME")]
    client: Option<Arc<str>>,
    /// Print the entry as a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct Remove {
    /// The number, with its +
    #[arg(value_name = "NUMBER")]
    number: Arc<str>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    whom: Named,
    /// Entries of this class only
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Print what was taken off as a JSON array
    #[arg(long)]
    json: bool,
}

/// Whose texts
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct Named {
    /// Texts that begin with this name in 【】
    #[arg(long, value_name = "NAME")]
    signature: Option<Arc<str>>,
    /// Texts that show this number or name
    #[arg(long, value_name = "SENDER")]
    sender: Option<Arc<str>>,
}

impl Named {
    fn whom(self) -> Option<Whom> {
        self.signature.map(Whom::Signature).or(self.sender.map(Whom::Sender))
    }
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(args) => args.run(),
            Command::Add(args) => args.run(),
            Command::Remove(args) => args.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let (entries, total) = ask(&self.which, &Request::OptOuts { number: self.number, most: self.most })?;
        let more = hidden(total.saturating_sub(entries.len() as u64), "opt-out", "--most");
        let people = |entries: &[_]| format!("{}{more}", for_people(entries));
        Ok(output::print_all(&entries, self.json, "nobody has opted out", people)?)
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { number, which, whom, class, client, json } = self;
        let whom = whom.whom().ok_or_else(|| Failure::Usage("say --signature NAME or --sender SENDER".to_owned()))?;
        let entry = OptOutOrder { number, whom, class, client };
        show(ask(&which, &Request::AddOptOut { entry })?.0, json, "it was on the list")
    }
}

impl Remove {
    fn run(self) -> Result<(), Failure> {
        let Self { number, which, whom, class, json } = self;
        let request = Request::RemoveOptOuts { number, whom: whom.whom(), class };
        show(ask(&which, &request)?.0, json, "there was no such entry")
    }
}

fn ask(which: &Which, request: &Request) -> Result<(Vec<OptOut>, u64), Failure> {
    match which.ask(request)? {
        Response::OptOuts { opt_outs, total } => Ok((opt_outs, total)),
        other => Err(unexpected(&other)),
    }
}

fn show(changed: Vec<OptOut>, json: bool, none: &str) -> Result<(), Failure> {
    let people = |changed: &[_]| format!("{}\n{}", plural(changed.len() as u64, "opt-out"), for_people(changed));
    Ok(output::print_all(&changed, json, none, people)?)
}

/// An entry in a sentence, for `explain`.
pub(super) fn sentence(entry: &OptOut) -> String {
    let client = entry.client.as_deref().map_or_else(String::new, |client| format!(" of client {client}"));
    let OptOut { whom, class, since, by, .. } = entry;
    format!("opted out of {class} texts of {whom}{client} since {since} ({by})")
}

fn for_people(entries: &[OptOut]) -> String {
    let head = |text: &str| Cell::new(text).styled(DIM);
    let heads = ["number", "wants none of", "class", "client", "since", "by"];
    let mut rows = vec![heads.into_iter().map(head).collect::<Vec<_>>()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            Cell::new(&*entry.number).styled(NAME),
            Cell::new(printable(&entry.whom.to_string())),
            Cell::new(entry.class.as_str()),
            Cell::new(entry.client.as_deref().unwrap_or("any")),
            Cell::new(entry.since.rfc3339()),
            Cell::new(printable(&entry.by)),
        ]
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_a_table_and_a_sentence() {
        let entries = r#"[
            {"number":"+8613800138000","signature":"小店","class":"marketing","since":"2026-11-23T06:24:00.000000Z","by":"reply"},
            {"number":"+8613800138001","sender":"10690001","class":"transactional","client":"shop",
             "since":"2026-11-23T06:24:00.000000Z","by":"lin (uid 0)"}]"#;
        let entries: Vec<OptOut> = serde_json::from_str(entries).unwrap();
        let shown = anstream::adapter::strip_str(&for_people(&entries)).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("【小店】") && lines[1].contains("any"), "{shown}");
        assert!(lines[2].contains("sender 10690001") && lines[2].ends_with("lin (uid 0)"), "{shown}");
        assert_eq!(
            sentence(&entries[1]),
            "opted out of transactional texts of sender 10690001 of client shop since 2026-11-23T06:24:00.000000Z (lin (uid 0))"
        );
    }
}
