//! `postrider spool verify`

use std::fmt::Write as _;

use super::Which;
use crate::cli::output::{BAD, BOLD, DIM, GOOD, WAITING, grouped, paint, plural, printable, size};
use crate::cli::{Failure, output};
use crate::queue::inspect::{Finding, Severity, Verdict};

/// Read every byte and compare all checksums; say what is damaged and what the next start does with it
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider spool verify /var/lib/postrider\n\nAn unfinished batch at the very end is what a \
                  crash leaves behind; nobody was promised it, and it is no damage.\nExit code 1 if anything is damaged."
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
        let bytes = spool.bytes() + spool.body_file_bytes().map_err(Failure::failed)?;
        let mut progress = self.which.progress("verifying", bytes);
        let verdict = spool.verify(&mut |read| progress.add(read)).map_err(Failure::failed)?;
        drop(progress);
        if self.json {
            output::print_json(&verdict)?;
        } else {
            output::print(&for_people(&verdict))?;
        }
        if verdict.fine { Ok(()) } else { Err(Failure::Told) }
    }
}

fn for_people(verdict: &Verdict) -> String {
    let mut out = String::new();
    for finding in &verdict.findings {
        out.push_str(&finding_for_people(finding));
    }
    let unlisted = verdict.damaged.saturating_sub(verdict.findings.len() as u64);
    if unlisted > 0 {
        let _ = writeln!(out, "and {} not listed", plural(unlisted, "damaged place"));
    }
    let _ = writeln!(
        out,
        "{}: {}, {} in {} and {}; {} waiting; {} with {} of large bodies",
        printable(&verdict.spool),
        plural(verdict.segments, "segment"),
        size(verdict.segment_bytes),
        plural(verdict.records, "record"),
        if verdict.batches == 1 { "one batch".to_owned() } else { format!("{} batches", grouped(verdict.batches)) },
        plural(verdict.messages, "message"),
        plural(verdict.body_files, "file"),
        size(verdict.body_file_bytes),
    );
    let mut note = |text: String| {
        let _ = writeln!(out, "{}", paint(DIM, &text));
    };
    if verdict.unneeded_body_files > 0 {
        let files = plural(verdict.unneeded_body_files, "file");
        note(format!("{files} of bodies that nothing needs any more; the next start removes them"));
    }
    if verdict.quarantine.files > 0 {
        let newest = verdict.quarantine.newest.as_deref().unwrap_or("unknown");
        let (files, bytes) = (plural(verdict.quarantine.files, "file"), size(verdict.quarantine.bytes));
        note(format!("quarantine/ holds {files} with {bytes} that earlier starts set aside, the newest from {newest}"));
    }
    if verdict.running {
        let gone = plural(verdict.gone_meanwhile, "file");
        note(format!("a relay is running: this is how it was a moment ago; it removed {gone} meanwhile"));
    }
    let _ = match verdict.damaged {
        0 => writeln!(out, "{}", paint(GOOD.bold(), "fine: nothing is damaged")),
        n => writeln!(out, "{}", paint(BAD.bold(), &plural(n, "damaged place"))),
    };
    out
}

fn finding_for_people(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Damaged => paint(BAD.bold(), "damaged"),
        Severity::Torn => paint(WAITING.bold(), "unfinished"),
    };
    let place = format!("{} at {}, {}", finding.file, grouped(finding.offset), plural(finding.length, "byte"));
    let message = match (&finding.message, finding.message_is_certain) {
        (Some(id), true) => format!(" of message {id}"),
        (Some(id), false) => format!(", it seems of message {id}"),
        (None, _) => String::new(),
    };
    let what = format!("{}{message}", finding.what);
    let next = format!("the next start {}", finding.next_start);
    format!("{word}  {}\n  {}\n  {}\n", paint(BOLD, &place), printable(&what), printable(&next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_whose_and_what_next() {
        let finding = Finding {
            severity: Severity::Damaged,
            file: "segments/0000000000000001.log".into(),
            offset: 4_128,
            length: 31,
            what: "the body of an accept record".into(),
            message: Some("01kat2m9q40003v6h2n8r5x7wz".into()),
            message_is_certain: true,
            next_start: "keeps the message queued".into(),
        };
        let mut verdict = Verdict { spool: "/s".into(), segments: 2, batches: 1, records: 3, ..Verdict::default() };
        verdict.damaged = 1;
        verdict.findings = vec![finding];
        assert_eq!(
            anstream::adapter::strip_str(&for_people(&verdict)).to_string(),
            "damaged  segments/0000000000000001.log at 4,128, 31 bytes\n  \
             the body of an accept record of message 01kat2m9q40003v6h2n8r5x7wz\n  \
             the next start keeps the message queued\n\
             /s: 2 segments, 0 B in 3 records and one batch; 0 messages waiting; 0 files with 0 B of large bodies\n\
             1 damaged place\n"
        );
    }
}
