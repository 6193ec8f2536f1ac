//! What a sandbox shows: messages as they arrive at the two ends, and the relay's facts as it writes them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use mail_parser::{Address, MessageParser};
use serde_json::{Value, json};

use super::super::ends::Arrival;
use super::super::output::{self, BOLD, DIM, NAME, paint, printable, state_style};
use crate::peers::carrier::ReceivedText;
use crate::peers::mail_sink::Kept;

/// How often the file of events is looked at.
pub(super) const EVENTS_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes read from the file of events at a time.
const READ_BYTES_MAX: u64 = 256 * 1024;

/// Characters of a mail's first line that are shown.
const SNIPPET_CHARS: usize = 80;

/// What stands for a subject that is not there.
const NO_SUBJECT: &str = "(no subject)";

/// Shows one message that has arrived.
pub(in crate::cli) fn arrival(arrival: &Arrival, json: bool) -> io::Result<()> {
    match arrival {
        Arrival::Mail(kept) if json => output::print_json(&mail_as_json(kept)),
        Arrival::Mail(kept) => output::print(&mail_for_people(kept)),
        Arrival::Text(text) if json => output::print_json(&json!({
            "arrived": "sms", "from": text.source, "to": text.destination, "text": text.text, "parts": text.parts,
        })),
        Arrival::Text(text) => output::print(&text_for_people(text)),
    }
}

fn mail_as_json(kept: &Kept) -> Value {
    let mail = Mail::read(kept.data.bytes());
    let recipients: Vec<String> = kept.recipients.iter().map(ToString::to_string).collect();
    json!({
        "arrived": "email", "mail_from": kept.reverse_path.to_string(), "rcpt_to": recipients, "from": mail.from,
        "to": mail.to, "subject": mail.subject, "text": mail.text, "size": kept.data.len(),
    })
}

fn mail_for_people(kept: &Kept) -> String {
    let mail = Mail::read(kept.data.bytes());
    let recipients: Vec<String> = kept.recipients.iter().map(ToString::to_string).collect();
    let envelope = format!("<{}> → {}", kept.reverse_path, recipients.join(", "));
    format!(
        "{}  {}\n      from {}  to {}  {}\n      {}",
        paint(BOLD, "mail"),
        paint(BOLD, &mail.subject),
        paint(NAME, &mail.from),
        paint(NAME, &mail.to),
        paint(DIM, &envelope),
        printable(&mail.text),
    )
}

fn text_for_people(text: &ReceivedText) -> String {
    format!(
        "{}  {}\n      from {}  to {}  {}",
        paint(BOLD, "text"),
        paint(BOLD, &text.text),
        paint(NAME, if text.source.is_empty() { "the carrier's own number" } else { &text.source }),
        paint(NAME, &text.destination),
        paint(DIM, &output::plural(text.parts as u64, "part")),
    )
}

/// What is shown of a mail.
struct Mail {
    from: String,
    to: String,
    subject: String,
    text: String,
}

impl Mail {
    fn read(data: &[u8]) -> Self {
        // A message without parts would make the parser's own accessors panic.
        let Some(parsed) = MessageParser::default().parse(data).filter(|m| !m.parts.is_empty()) else {
            return Self {
                from: String::new(),
                to: String::new(),
                subject: NO_SUBJECT.to_owned(),
                text: String::new(),
            };
        };
        let first_line = parsed.body_text(0).unwrap_or_default();
        let first_line = first_line.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
        Self {
            from: addresses(parsed.from()),
            to: addresses(parsed.to()),
            subject: parsed.subject().unwrap_or(NO_SUBJECT).to_owned(),
            text: first_line.chars().take(SNIPPET_CHARS).collect(),
        }
    }
}

fn addresses(field: Option<&Address<'_>>) -> String {
    let all: Vec<&str> = field.into_iter().flat_map(Address::iter).filter_map(|a| a.address()).collect();
    all.join(", ")
}

/// Follows the file of events.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl Events {
    /// Follows `path`; what is there already is skipped.
    pub(super) fn after_those_in(path: PathBuf) -> Self {
        let offset = std::fs::metadata(&path).map_or(0, |m| m.len());
        Self { path, offset, begun: Vec::new() }
    }

    /// Shows what has been added.
    pub(super) fn show(&mut self, json: bool) -> io::Result<()> {
        for line in self.added()? {
            if json {
                output::print(&line)?;
            } else {
                output::print(&for_people(&line))?;
            }
        }
        Ok(())
    }

    /// The lines added since the last call; none while there is no file.
    fn added(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        if file.metadata()?.len() < self.offset {
            // A new file has been begun.
            self.offset = 0;
            self.begun.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.take(READ_BYTES_MAX).read_to_end(&mut self.begun)? as u64;
        let Some(end) = memchr::memrchr(b'\n', &self.begun) else { return Ok(Vec::new()) };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}

/// One event: time of day, what, to whom, and what the other side said.
fn for_people(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return printable(line) };
    let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let time = word("time").get(11..19).unwrap_or_default();
    let kind = word("event");
    let mut out = format!(
        "{}  {}{}  {} {}",
        paint(DIM, time),
        paint(state_style(kind), kind),
        " ".repeat(9_usize.saturating_sub(kind.chars().count())),
        printable(word("channel")),
        paint(NAME, word("recipient")),
    );
    let reply = event.get("reply").and_then(|r| r.get("text")).and_then(Value::as_str);
    for text in [reply, event.get("reason").and_then(Value::as_str)].into_iter().flatten().filter(|t| !t.is_empty()) {
        out.push_str("  ");
        out.push_str(&printable(text));
    }
    out.push_str(&format!("  {}", paint(DIM, word("id"))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_whole_new_lines_are_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut events = Events::after_those_in(path.clone());
        assert_eq!(events.added().unwrap(), Vec::<String>::new());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a\nb\nc").unwrap();
        assert_eq!(events.added().unwrap(), ["a", "b"]);
        file.write_all(b"d\n").unwrap();
        assert_eq!(events.added().unwrap(), ["cd"]);
        assert_eq!(Events::after_those_in(path.clone()).added().unwrap(), Vec::<String>::new());
        std::fs::write(&path, "e\n").unwrap();
        assert_eq!(events.added().unwrap(), ["e"], "a shorter file is a new one");
    }

    #[test]
    fn an_event_is_one_line() {
        let line = r#"{"time":"2026-11-23T06:24:01.000000Z","event":"delivered","id":"01ka","channel":"email","recipient":"lin@example.net","reply":{"code":250,"text":"2.0.0 ok\r\nid 7"}}"#;
        let shown = anstream::adapter::strip_str(&for_people(line)).to_string();
        assert_eq!(shown, "06:24:01  delivered  email lin@example.net  2.0.0 ok  id 7  01ka");
        assert_eq!(for_people("not json\u{1b}"), "not json\u{fffd}");
    }

    #[test]
    fn a_mail_is_read_for_people() {
        let mail = Mail::read("From: Shop <shop@example.com>\r\nTo: lin@example.net, a@b\r\nSubject: =?utf-8?q?H=C3=A9llo?=\r\n\r\n\r\nIt works.\r\n".as_bytes());
        assert_eq!(
            (&*mail.from, &*mail.to, &*mail.subject, &*mail.text),
            ("shop@example.com", "lin@example.net, a@b", "Héllo", "It works.")
        );
        assert_eq!(Mail::read(b"").subject, "(no subject)");
    }

    proptest::proptest! {
        #[test]
        fn no_mail_makes_the_reader_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            Mail::read(&data);
        }
    }
}
