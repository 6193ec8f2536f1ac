//! The accounting of a run, shared by its connections.
//!
//! **Promises.** Each sequence number is handed out once and ends as exactly one of accepted, refused, or unanswered (the
//! content had left when the connection broke: it may or may not have been taken). Failures are counted by at most
//! [`FAILURES_MAX`] names, each with the first text seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::histogram::Histogram;
use super::report::FailureCount;
use super::{Trouble, Verdict};
use crate::clock::Timestamp;
use crate::model::MessageId;

/// Names of failures kept apart; there are few reply codes, and a peer that invents more is lumped under `other`.
pub(super) const FAILURES_MAX: usize = 64;
/// Longest example kept of a failure's text.
const EXAMPLE_BYTES_MAX: usize = 300;

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) taken: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) connections_made: AtomicU64,
    pub(super) latencies: Histogram,
    stop: AtomicBool,
    failures: Mutex<BTreeMap<String, FailureCount>>,
    accepted_file: Option<Mutex<BufWriter<File>>>,
    run: Arc<str>,
}

impl Tally {
    pub(super) fn new(run: Arc<str>, accepted_file: Option<&Path>) -> io::Result<Self> {
        let accepted_file = match accepted_file {
            Some(path) => Some(Mutex::new(BufWriter::with_capacity(64 * 1024, File::create(path)?))),
            None => None,
        };
        Ok(Self {
            taken: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            connections_made: AtomicU64::new(0),
            latencies: Histogram::new(),
            stop: AtomicBool::new(false),
            failures: Mutex::default(),
            accepted_file,
            run,
        })
    }

    /// The next sequence number, counted from zero, while there are any.
    pub(super) fn take(&self, messages_max: Option<u64>) -> Option<u64> {
        if self.stopping() {
            return None;
        }
        let sequence = self.taken.fetch_add(1, Ordering::Relaxed);
        if messages_max.is_some_and(|most| sequence >= most) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(sequence)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Books how a message ended, and when.
    pub(super) fn ended(&self, sequence: u64, verdict: &Verdict, now: Timestamp) -> io::Result<()> {
        match verdict {
            Verdict::Accepted { latency, text } => {
                self.latencies.record(*latency);
                self.accepted.fetch_add(1, Ordering::Relaxed);
                if let Some(file) = &self.accepted_file {
                    let (run, id) = (&self.run, id_in(text).unwrap_or("-"));
                    writeln!(file.lock(), "{sequence:010}.{run} {id} {}", now.micros())?;
                }
            }
            Verdict::Refused { code, text } => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.failed(&code.to_string(), text);
            }
        }
        Ok(())
    }

    /// Books a message whose connection broke while it was under way.
    pub(super) fn broke_off(&self, trouble: &Trouble) {
        let count = if trouble.in_doubt { &self.unanswered } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        self.failed(trouble.kind, &trouble.detail);
    }

    /// Books a failure that cost no message, such as a connection that could not be made.
    pub(super) fn failed(&self, name: &str, text: &str) {
        let mut failures = self.failures.lock();
        let name = if failures.len() >= FAILURES_MAX && !failures.contains_key(name) { "other" } else { name };
        failures
            .entry(name.to_owned())
            .or_insert_with(|| FailureCount { count: 0, example: shortened(text).to_owned() })
            .count += 1;
    }

    pub(super) fn failures(&self) -> BTreeMap<String, FailureCount> {
        self.failures.lock().clone()
    }

    /// Writes out what is left of the file of accepted messages.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.accepted_file.as_ref().map_or(Ok(()), |file| file.lock().flush())
    }
}

/// The message id in a reply's text: the first word that is one.
fn id_in(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| word.parse::<MessageId>().is_ok())
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(EXAMPLE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_run_out() {
        let tally = Tally::new("x".into(), None).unwrap();
        assert_eq!((tally.take(Some(2)), tally.take(Some(2)), tally.take(Some(2))), (Some(0), Some(1), None));
        tally.stop();
        assert_eq!(tally.take(None), None);
    }

    #[test]
    fn accepted_messages_are_listed_with_their_ids() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tally = Tally::new("run".into(), Some(file.path())).unwrap();
        let id = MessageId::from_bytes([7; 16]);
        let accepted = |text: String| Verdict::Accepted { latency: Duration::ZERO, text };
        tally.ended(3, &accepted(format!("2.0.0 Ok: queued as {id}")), Timestamp(8)).unwrap();
        tally.ended(4, &accepted(format!(r#"{{"id":"{id}","status":"accepted"}}"#)), Timestamp(9)).unwrap();
        tally.ended(5, &accepted("2.0.0 Ok".to_owned()), Timestamp(10)).unwrap();
        tally.flush().unwrap();
        let listed = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(listed, format!("0000000003.run {id} 8\n0000000004.run {id} 9\n0000000005.run - 10\n"));
    }

    #[test]
    fn kinds_of_failure_are_bounded() {
        let tally = Tally::new("x".into(), None).unwrap();
        for n in 0..1_000 {
            tally.failed(&n.to_string(), "…".repeat(1_000).as_str());
        }
        let failures = tally.failures();
        assert_eq!(failures.len(), FAILURES_MAX + 1);
        assert_eq!(failures.values().map(|f| f.count).sum::<u64>(), 1_000);
        assert!(failures.values().all(|f| f.example.len() <= EXAMPLE_BYTES_MAX));
    }
}
