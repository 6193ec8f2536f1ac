//! `postrider providers test`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::super::output::{BOLD, Cell, DIM, NAME, paint, plural, printable, table};
use super::super::{Failure, output};
use super::{RowView, Which, measures, read_end};
use crate::model::{EnhancedStatus, Reply, Scope, Stage};
use crate::provider::{Judgement, Table};
use crate::wire::smtp::client::ReplyParser;

/// Say what a reply means, or which replies of the event file an edited table judges differently
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider providers test --mx mx3.qq.com '550 Ip frequency limited'\n  postrider providers \
                  test --mx mx.example.net --stage end-of-data '554 5.7.1 no'\n  postrider providers test --table \
                  providers.toml --events /var/lib/postrider/events/events.jsonl\n\nREPLY is a whole reply, code first; \\n \
                  parts its lines. With --events nothing is sent or changed: it shows what the table would change."
)]
pub(super) struct Args {
    /// The reply of a mail host
    #[arg(value_name = "REPLY", required_unless_present = "events", conflicts_with = "events")]
    reply: Option<String>,
    /// The mail host that said it
    #[arg(long, value_name = "HOST", default_value = "")]
    mx: String,
    /// To what it was said: connect, hello, tls, mail, rcpt, data, end-of-data; with --events, where an event does not say
    #[arg(long, value_name = "STAGE", default_value = "rcpt", value_parser = stage)]
    stage: Stage,
    /// An event file: its latest 64 MiB are judged by the table in force and by --table
    #[arg(long, value_name = "FILE", requires = "table")]
    events: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// How much of the event file is read, from its end.
const EVENTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

const STAGES: [Stage; 7] =
    [Stage::Connect, Stage::Hello, Stage::Tls, Stage::Mail, Stage::Recipient, Stage::Data, Stage::EndOfData];

fn stage(word: &str) -> Result<Stage, String> {
    let found = STAGES.into_iter().find(|s| s.as_str() == word);
    found.ok_or_else(|| format!("one of {}", STAGES.map(Stage::as_str).join(", ")))
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match (&self.reply, &self.events) {
            (Some(reply), _) => self.one(reply),
            (None, Some(events)) => self.all(events),
            (None, None) => Err(Failure::Usage("say a REPLY or --events FILE".to_owned())),
        }
    }

    fn one(&self, reply: &str) -> Result<(), Failure> {
        let reply = parsed(reply)?;
        let table = self.which.table()?;
        let provider = table.provider_of(&self.mx);
        let judgement = provider.judge(&reply, self.stage);
        if self.json {
            return Ok(output::print_json(&One {
                provider: &provider.name,
                class: judgement.class(),
                action: judgement.action.as_str(),
                blames: judgement.blames.map(Scope::as_str),
                row: judgement.row.map(RowView::of),
            })?);
        }
        let mut lines = vec![("provider", paint(NAME, &provider.name)), ("reply", printable(&reply.to_string()))];
        match judgement.row {
            Some(row) => {
                lines.push(("row", paint(BOLD, &row.rule.id)));
                lines.push(("class", printable(&row.rule.class)));
                lines.push(("blames", judgement.blames.map_or("", Scope::as_str).to_owned()));
                lines.push(("action", judgement.action.as_str().to_owned()));
                let besides = measures(row);
                if !besides.is_empty() {
                    lines.push(("besides", printable(&besides)));
                }
            }
            None => lines.push(("row", format!("none knows it; by its code: {}", judgement.action.as_str()))),
        }
        let lines = lines.iter().map(|(name, value)| format!("{}  {value}", paint(DIM, &format!("{name:<8}"))));
        Ok(output::print(&lines.collect::<Vec<_>>().join("\n"))?)
    }

    fn all(&self, events: &Path) -> Result<(), Failure> {
        let (new, old) = (self.which.table()?, self.which.in_force()?);
        let failed = |e| Failure::Failed(format!("{}: cannot be read: {e}", events.display()));
        let (bytes, _) = read_end(events, EVENTS_BYTES_MAX).map_err(failed)?;
        let replies = refusals(&bytes, self.stage);
        let differences = differences(&replies, &old, &new);
        if self.json {
            return Ok(output::print_json(&differences)?);
        }
        let count = plural(replies.len() as u64, "refusal");
        if differences.is_empty() {
            return Ok(output::print(&format!("{count} looked at: both tables judge them alike"))?);
        }
        Ok(output::print(&for_people(&differences, &count))?)
    }
}

#[derive(Serialize)]
struct One<'t> {
    provider: &'t str,
    class: &'t str,
    action: &'t str,
    blames: Option<&'t str>,
    row: Option<RowView<'t>>,
}

/// A reply as somebody typed or copied it.
fn parsed(text: &str) -> Result<Reply, Failure> {
    let lines = text.trim().replace("\\n", "\n").replace("\r\n", "\n").replace('\n', "\r\n");
    let mut bytes = BytesMut::from(lines.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    let right =
        "expected a reply such as '550 5.1.1 no such user'; each line has the code, and all but the last a hyphen";
    match ReplyParser::new().next(&mut bytes) {
        Ok(Some(reply)) if bytes.is_empty() => Ok(reply),
        Ok(_) => Err(Failure::Usage(format!("that is not one whole reply: {right}"))),
        Err(fault) => Err(Failure::Usage(format!("{fault}: {right}"))),
    }
}

/// A refusal as the event file tells of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    host: String,
    stage: Stage,
    reply: Reply,
}

#[derive(Deserialize)]
struct Line {
    channel: String,
    stage: Option<String>,
    reply: Option<SaidReply>,
    peer: Option<SaidPeer>,
}

#[derive(Deserialize)]
struct SaidReply {
    code: u32,
    enhanced: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct SaidPeer {
    host: String,
}

/// The mail hosts' refusals in an event file, or in its end. A line that is no event is passed over.
pub(super) fn refusals(bytes: &[u8], otherwise: Stage) -> Vec<Refusal> {
    let events = bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let refusal = |line: Line| {
        let said = line.reply.filter(|r| line.channel == "email" && matches!(r.code, 400..=599))?;
        let enhanced = said.enhanced.as_deref().and_then(EnhancedStatus::parse);
        Some(Refusal {
            host: line.peer.map(|p| p.host).unwrap_or_default(),
            stage: line.stage.and_then(|word| stage(&word).ok()).unwrap_or(otherwise),
            reply: Reply { code: said.code, enhanced, text: said.text },
        })
    };
    events.filter_map(refusal).collect()
}

/// Refusals that two tables judge differently in the same way.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Difference {
    pub(super) count: u64,
    pub(super) provider: String,
    pub(super) before: String,
    pub(super) after: String,
    /// One of the replies.
    pub(super) reply: String,
}

/// All differences, the most frequent first.
pub(super) fn differences(replies: &[Refusal], old: &Table, new: &Table) -> Vec<Difference> {
    let mut found: HashMap<(String, String, String), Difference> = HashMap::new();
    for Refusal { host, stage, reply } in replies {
        let provider = new.provider_of(host);
        let before = in_a_word(&old.provider_of(host).judge(reply, *stage));
        let after = in_a_word(&provider.judge(reply, *stage));
        if before == after {
            continue;
        }
        let key = (provider.name.to_string(), before.clone(), after.clone());
        let difference = found.entry(key).or_insert_with(|| Difference {
            count: 0,
            provider: provider.name.to_string(),
            before,
            after,
            reply: reply.to_string(),
        });
        difference.count += 1;
    }
    let mut all: Vec<Difference> = found.into_values().collect();
    all.sort_by(|a, b| (b.count, &a.before, &a.after).cmp(&(a.count, &b.before, &b.after)));
    all
}

/// All of a judgement that can differ.
fn in_a_word(judgement: &Judgement<'_>) -> String {
    let action = judgement.action.as_str();
    let Some(row) = judgement.row else { return format!("no row: {action}") };
    let blames = judgement.blames.map_or("", Scope::as_str);
    let besides = measures(row);
    let more = if besides.is_empty() { String::new() } else { format!(" ({besides})") };
    format!("{} {}: {action} {blames}{more}", row.rule.id, row.rule.class)
}

fn for_people(differences: &[Difference], count: &str) -> String {
    const REPLY_CHARS_MAX: usize = 100;
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("times").at_right(),
        head("provider"),
        head("in force"),
        head("by this table"),
        head("such as"),
    ]];
    rows.extend(differences.iter().map(|d| {
        vec![
            Cell::number(d.count),
            Cell::new(&*d.provider).styled(NAME),
            Cell::new(&*d.before),
            Cell::new(&*d.after).styled(BOLD),
            Cell::new(d.reply.chars().take(REPLY_CHARS_MAX).collect::<String>()),
        ]
    }));
    let differing: u64 = differences.iter().map(|d| d.count).sum();
    format!("{}{}\n", table(&rows), paint(DIM, &format!("{} of {count}", output::grouped(differing))))
}
