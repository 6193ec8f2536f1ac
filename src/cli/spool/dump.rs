//! `postrider spool dump`

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use clap::ValueEnum;

use super::Which;
use crate::cli::Failure;
use crate::cli::output::{BAD, BOLD, DIM, NAME, PLAIN, WAITING, grouped, paint, plural, printable, size};
use crate::model::MessageId;
use crate::queue::inspect::{
    AcceptView, ChangeView, DamageView, Kind, LifeView, Line, PositionView, RecordView, StateView, Wanted,
};
use crate::queue::view::AttemptView;

/// List its records in order of commit, without contents; addresses of class otp are masked
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  postrider spool dump --limit 20 /var/lib/postrider\n  postrider spool dump --id \
                  01kat2m9q40003v6h2n8r5x7wz --headers /var/lib/postrider\n  postrider spool dump --json --kind change \
                  /var/lib/postrider\n\nExit code 1 if damaged places were met or nothing was found.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Records of this message only
    #[arg(long, value_name = "ID")]
    id: Option<MessageId>,
    /// Records of this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<Chosen>,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Show mails' header sections, but for class otp
    #[arg(long)]
    headers: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Chosen {
    /// A message was taken on, or its record moved.
    Accept,
    /// Something happened to its recipients.
    Change,
    /// An idempotency key.
    Key,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spool = self.which.open()?;
        let kind = self.kind.map(|kind| match kind {
            Chosen::Accept => Kind::Accept,
            Chosen::Change => Kind::Change,
            Chosen::Key => Kind::Key,
        });
        let wanted = Wanted { id: self.id, kind, limit: self.limit, headers: self.headers };
        let mut out = BufWriter::new(anstream::stdout().lock());
        let mut failed = None;
        // The records are the progress.
        let dumped = spool.dump(&wanted, &mut |_| {}, &mut |line| match print(&mut out, line, self.json) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        });
        let dumped = dumped.map_err(Failure::failed)?;
        match failed {
            Some(e) => return Err(e.into()),
            None => out.flush()?,
        }
        if dumped.records == 0 && self.limit != Some(0) && self.id.is_some() {
            return Err(Failure::Failed("no record of that message is there".to_owned()));
        }
        if dumped.damaged == 0 { Ok(()) } else { Err(Failure::Told) }
    }
}

fn print(out: &mut impl Write, line: &Line, json: bool) -> io::Result<()> {
    match (json, line) {
        (true, line) => {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")
        }
        (false, Line::Record(record)) => out.write_all(record_for_people(record).as_bytes()),
        (false, Line::Damage(damage)) => out.write_all(damage_for_people(damage).as_bytes()),
    }
}

fn place(position: &PositionView) -> String {
    format!("{:x}+{} {}", position.segment, position.offset, size(u64::from(position.length)))
}

fn record_for_people(record: &RecordView) -> String {
    let batch = record.batch.map_or_else(|| "in a damaged batch".to_owned(), |n| format!("batch {}", grouped(n)));
    let mut out = format!(
        "{}  {}  {}",
        paint(BOLD, record.kind),
        paint(NAME, &record.id),
        paint(DIM, &format!("{}, {batch}", place(&record.position)))
    );
    if let Some(about) = &record.about {
        let _ = write!(out, "  {}", paint(DIM, &format!("about {:x}+{}", about.segment, about.offset)));
    }
    out.push('\n');
    if let Some(accept) = &record.accept {
        accept_for_people(&mut out, accept);
    }
    if let Some(body) = &record.body {
        let file = body.file.as_deref().map(|file| format!(" in {file}")).unwrap_or_default();
        let bad = if body.intact == Some(false) { paint(BAD, "  damaged") } else { String::new() };
        let _ = writeln!(out, "  content   {}{file}{bad}", plural(body.bytes, "byte"));
    }
    if let Some(headers) = &record.headers {
        for line in headers.lines().filter(|line| !line.is_empty()) {
            let _ = writeln!(out, "  {} {}", paint(DIM, "|"), printable(line));
        }
    }
    record.changes.iter().for_each(|change| change_for_people(&mut out, change));
    if let Some(key) = &record.key {
        let _ = writeln!(
            out,
            "  client {}, key {}, known since {}",
            paint(NAME, &key.client),
            printable(&key.key),
            key.received_at
        );
    }
    if let Some(why) = &record.unreadable {
        let _ = writeln!(out, "  {}", paint(BAD, &format!("cannot be understood: {why}")));
    }
    out
}

fn accept_for_people(out: &mut String, accept: &AcceptView) {
    let _ = writeln!(out, "  {} {} from client {}", accept.class, accept.channel, paint(NAME, &accept.client));
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(out, "  {} {}", paint(DIM, &format!("{name:<9}")), printable(value));
        }
    };
    line("received", Some(&accept.received_at));
    line("not until", accept.send_at.as_deref());
    line("expires", accept.expires_at.as_deref());
    line("campaign", accept.campaign.as_deref());
    let tags = accept.tags.join(", ");
    line("tags", Some(&*tags).filter(|tags| !tags.is_empty()));
    line("reference", accept.client_ref.as_deref());
    line("key", accept.idempotency_key.as_deref());
    line("from", accept.from.as_deref().map(|from| if from.is_empty() { "<>" } else { from }));
    accept.recipients.iter().for_each(|recipient| life_for_people(out, recipient));
}

fn life_for_people(out: &mut String, life: &LifeView) {
    let _ = writeln!(
        out,
        "  to {}  {}  {}",
        paint(BOLD, &life.address),
        state_for_people(&life.state),
        paint(DIM, &plural(u64::from(life.attempts_made), "attempt"))
    );
    life.attempts.iter().for_each(|attempt| attempt_for_people(out, attempt));
    for part in &life.parts {
        let _ = writeln!(out, "    part {}  {}  {}", part.part, part.state, printable(&part.carrier));
    }
}

fn state_for_people(state: &StateView) -> String {
    let style = match state.state {
        "failed" | "expired" | "rejected" => BAD,
        "begun" | "unknown" | "cancelled" => WAITING,
        _ => PLAIN,
    };
    let time = match (&state.due, &state.at) {
        (Some(due), _) => format!(", due {due}"),
        (None, Some(at)) => format!(" {at}"),
        (None, None) => String::new(),
    };
    format!("{}{time}", paint(style, state.state))
}

fn attempt_for_people(out: &mut String, attempt: &AttemptView) {
    let host = attempt.host.as_deref().unwrap_or_default();
    let said = attempt.reply.as_deref().or(attempt.reason.as_deref()).unwrap_or_default();
    let _ = writeln!(
        out,
        "    {}  {}  {}  {}",
        attempt.time,
        printable(&attempt.outcome),
        printable(host),
        printable(said)
    );
}

fn change_for_people(out: &mut String, change: &ChangeView) {
    let _ = writeln!(out, "  recipient {}  {}", change.recipient + 1, state_for_people(&change.state));
    change.attempt.iter().for_each(|attempt| attempt_for_people(out, attempt));
    if let Some(receipt) = &change.receipt {
        let _ = writeln!(out, "    receipt {}", printable(receipt));
    }
    for part in &change.parts {
        let _ = writeln!(out, "    part {}  {}  {}", part.part, part.state, printable(&part.carrier));
    }
}

fn damage_for_people(damage: &DamageView) -> String {
    let style = if damage.kind == "torn" { WAITING } else { BAD };
    let word = if damage.kind == "torn" { "unfinished" } else { damage.kind };
    let id = damage.id.as_deref().map(|id| format!("  {id}")).unwrap_or_default();
    let place = format!("{} at {}, {}", damage.file, grouped(damage.offset), plural(damage.length, "byte"));
    format!("{}{id}  {}  {}\n", paint(style.bold(), word), paint(DIM, &place), printable(&damage.what))
}
