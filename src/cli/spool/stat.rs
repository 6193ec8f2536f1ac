//! `postrider spool stat`

use std::fmt::Write as _;

use super::Which;
use crate::cli::output::{BAD, BOLD, Cell, DIM, NAME, WAITING, grouped, paint, plural, printable, size, table};
use crate::cli::{Failure, output};
use crate::clock::SystemClock;
use crate::queue::inspect::{Figures, Group};

/// Count what is in it: messages by state, class, channel and client; segments, bytes, quarantine
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider spool stat /var/lib/postrider\n\nStates: scheduled (its time has not come), queued \
                  (not attempted yet), delayed (attempted, to be tried again), begun (a text whose answer was not seen: the \
                  next start ends it as unknown), sent (a text at its carrier, its receipt awaited).\nExit code 1 if \
                  damaged places were met; spool verify tells about them."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spool = self.which.open()?;
        let mut progress = self.which.progress("counting", spool.bytes());
        let now = SystemClock::shared().now();
        let figures = spool.stat(now, &mut |read| progress.add(read)).map_err(Failure::failed)?;
        drop(progress);
        if self.json {
            output::print_json(&figures)?;
        } else {
            output::print(&for_people(&figures))?;
        }
        if figures.damaged_places + figures.strange_records == 0 { Ok(()) } else { Err(Failure::Told) }
    }
}

fn for_people(figures: &Figures) -> String {
    let waiting = format!("{} for {}", plural(figures.messages, "message"), plural(figures.recipients, "recipient"));
    let mut out = format!("{}  {}\n", paint(BOLD, &waiting), size(figures.message_bytes));
    if figures.running {
        out.push_str(&paint(WAITING, "a relay is running: this is how it was a moment ago"));
        out.push('\n');
    }
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head(""),
        head(""),
        head("messages").at_right(),
        head("recipients").at_right(),
        head("content").at_right(),
    ]];
    let sorts = [
        ("state", &figures.by_state),
        ("class", &figures.by_class),
        ("channel", &figures.by_channel),
        ("client", &figures.by_client),
    ];
    for (sort, groups) in sorts {
        rows.extend(groups.iter().enumerate().map(|(i, group)| row(if i == 0 { sort } else { "" }, group)));
    }
    if figures.messages > 0 {
        out.push_str(&table(&rows));
        out.push('\n');
    }
    out.push_str(&table(&facts(figures)));
    if figures.damaged_places + figures.strange_records > 0 {
        let places = plural(figures.damaged_places + figures.strange_records, "damaged place");
        let _ = writeln!(out, "{}", paint(BAD.bold(), &format!("{places}: postrider spool verify tells about them")));
    }
    out
}

fn row(sort: &str, group: &Group) -> Vec<Cell> {
    vec![
        Cell::new(sort).styled(DIM),
        Cell::new(&*group.name).styled(NAME),
        Cell::number(group.messages),
        Cell::number(group.recipients),
        Cell::new(size(group.bytes)).at_right(),
    ]
}

fn facts(figures: &Figures) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    let mut fact = |name: &str, value: String| rows.push(vec![Cell::new(name).styled(DIM), Cell::new(value)]);
    if let Some(oldest) = &figures.oldest {
        fact("oldest", format!("{}  {}", oldest.at, oldest.id));
    }
    if let Some(next) = &figures.next_due {
        fact("next due", format!("{}  {}", next.at, next.id));
    }
    if let Some(largest) = &figures.largest {
        fact("largest", format!("{}  {largest}", size(figures.largest_bytes)));
    }
    fact("spool", printable(&figures.spool));
    let spare =
        if figures.spare_segments > 0 { format!(" and {} spare", figures.spare_segments) } else { String::new() };
    fact("segments", format!("{}{spare}, {}", grouped(figures.segments), size(figures.segment_bytes)));
    fact(
        "bytes",
        format!(
            "{} live, {} dead of {} written",
            size(figures.live_bytes),
            size(figures.dead_bytes),
            size(figures.used_bytes)
        ),
    );
    fact(
        "records",
        format!(
            "{} accept, {} change, {} key in {} batches",
            grouped(figures.accept_records),
            grouped(figures.change_records),
            grouped(figures.key_records),
            grouped(figures.batches)
        ),
    );
    fact("keys", grouped(figures.keys));
    fact("bodies", format!("{}, {}", plural(figures.body_files, "file"), size(figures.body_file_bytes)));
    let newest = figures.quarantine.newest.as_deref().map(|at| format!(", the newest from {at}")).unwrap_or_default();
    let (files, bytes) = (plural(figures.quarantine.files, "file"), size(figures.quarantine.bytes));
    fact("quarantine", format!("{files}, {bytes}{newest}"));
    if figures.torn_bytes > 0 {
        fact("unfinished", format!("{} at the end, as a crash leaves them", plural(figures.torn_bytes, "byte")));
    }
    if figures.gone_meanwhile > 0 {
        fact("meanwhile", format!("the relay removed {}", plural(figures.gone_meanwhile, "segment")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_under_each_other() {
        let group = |name: &str| Group { name: name.into(), messages: 1_200, recipients: 1_300, bytes: 4_200 };
        let figures = Figures {
            spool: "/s".into(),
            messages: 1_200,
            recipients: 1_300,
            message_bytes: 4_200,
            by_state: vec![group("queued"), group("delayed")],
            segments: 2,
            damaged_places: 1,
            ..Figures::default()
        };
        let shown = anstream::adapter::strip_str(&for_people(&figures)).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "1,200 messages for 1,300 recipients  4.1 KiB");
        assert_eq!(lines[1], "                messages  recipients  content");
        assert_eq!(lines[2], "state  queued      1,200       1,300  4.1 KiB");
        assert_eq!(lines[3], "       delayed     1,200       1,300  4.1 KiB");
        assert_eq!(lines.last(), Some(&"1 damaged place: postrider spool verify tells about them"));
    }
}
