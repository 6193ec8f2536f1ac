//! `postrider bounce` and `postrider cancel`: what waits ends without an attempt.

use serde_json::json;

use super::control::{Which, unexpected};
use super::output::plural;
use super::progress::Progress;
use super::selecting::Selecting;
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::queue::steer::{Sentence, SentenceEnd, Swept};

/// End what waits as failed for good; senders of mail are told
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider bounce --config /etc/postrider/postrider.toml --domain example.invalid --reason \
                        'no such domain' --dry-run\n\nSenders get a notification with the reason, unless their client relies \
                        on events. Messages on their way are left alone and counted; what comes later is not touched."
)]
pub(super) struct Bounce {
    #[command(flatten)]
    sweep: Args,
}

/// Call back what waits; nobody is told
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider cancel --config /etc/postrider/postrider.toml --campaign spring --reason 'wrong \
                        price'\n\nIt ends as cancelled, without a notification. Messages on their way are left alone and \
                        counted; what comes later is not touched: pause first if more may come."
)]
pub(super) struct Cancel {
    #[command(flatten)]
    sweep: Args,
}

#[derive(clap::Args, Debug)]
struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    selecting: Selecting,
    /// Why; it stands in events, in `explain`, and in notifications
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only say how many would be hit
    #[arg(long)]
    dry_run: bool,
    /// Print the counts as a JSON object
    #[arg(long)]
    json: bool,
}

impl Bounce {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.sweep.run(SentenceEnd::Bounce)
    }
}

impl Cancel {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.sweep.run(SentenceEnd::Cancel)
    }
}

impl Args {
    fn run(self, end: SentenceEnd) -> Result<(), Failure> {
        let (selector, dry_run) = (self.selecting.selector(), self.dry_run);
        let sentence = Sentence { end, selector, reason: self.reason, dry_run };
        let (mut progress, mut looked) = (Progress::silent(), 0);
        let answer = self.which.ask_telling(&Request::Sweep { sentence }, |swept| {
            if looked == 0 {
                progress = Progress::of_things("messages looked at", swept.of);
            }
            progress.add(swept.looked.saturating_sub(looked));
            looked = swept.looked;
        });
        drop(progress);
        let swept = match answer? {
            Response::Swept(swept) => swept,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            let Swept { hit, underway, failed, .. } = swept;
            output::print_json(&json!({ "dry_run": dry_run, "hit": hit, "underway": underway, "failed": failed }))?;
        } else {
            output::print(&for_people(end, dry_run, swept))?;
        }
        if swept.failed > 0 { Err(Failure::Told) } else { Ok(()) }
    }
}

fn for_people(end: SentenceEnd, dry_run: bool, swept: Swept) -> String {
    let done = match (end, dry_run) {
        (SentenceEnd::Bounce, false) => "bounced",
        (SentenceEnd::Cancel, false) => "cancelled",
        (SentenceEnd::Bounce, true) => "would be bounced",
        (SentenceEnd::Cancel, true) => "would be cancelled",
    };
    let mut out = format!("{} {done}", plural(swept.hit, "recipient"));
    if swept.underway > 0 {
        out.push_str(&format!("; {} on the way, left alone", plural(swept.underway, "recipient")));
    }
    if swept.failed > 0 {
        out.push_str(&format!(
            "; {} could not be read and stay: see the relay's log",
            plural(swept.failed, "recipient")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hit_and_what_was_not_is_said() {
        let swept = Swept { looked: 9, of: 9, hit: 1_200, underway: 1, failed: 2 };
        assert_eq!(
            for_people(SentenceEnd::Bounce, false, swept),
            "1,200 recipients bounced; 1 recipient on the way, left alone; 2 recipients could not be read and stay: see the \
             relay's log"
        );
        let swept = Swept { hit: 1, ..Swept::default() };
        assert_eq!(for_people(SentenceEnd::Cancel, true, swept), "1 recipient would be cancelled");
    }
}
