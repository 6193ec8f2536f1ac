//! `kill -9` while twenty connections submit: what was answered yes arrives, and what arrives twice is explained.
//!
//! A duplicate is explained if its arrival fell into the window of a crash: it came before the kill, and the event file, read
//! between the kill and the next start, did not yet say `delivered`. Then nobody had recorded it, and the next start has to
//! send it again. One that comes again although the file had said so, or again without a crash between, is a fault.
//!
//! `POSTRIDER_CRASH_ROUNDS` says how many rounds; the long run takes 2,000.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::load::{Book, Load};
use crate::support::relay::{Relay, Settings};
use crate::support::sink::Sink;
use crate::support::{PATIENCE, account};

const CONNECTIONS: usize = 20;
/// Rounds, unless `POSTRIDER_CRASH_ROUNDS` says otherwise.
const ROUNDS: usize = 100;
/// Small segments, so that the log rolls over; small event files, since a round reads the last two.
const SETTINGS: &str = "[log]\nsegment_bytes = \"16MiB\"\n[events]\nrotate_bytes = \"4MiB\"\n";

#[test]
fn nothing_answered_yes_is_lost_by_kill_9_and_every_duplicate_is_explained() {
    let rounds = std::env::var("POSTRIDER_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut sink = Sink::start(0, &[]);
    let mut relay = Relay::start(&Settings { smtp_port: sink.port, extra: SETTINGS.to_owned(), ..Settings::default() });
    let mut recorded = HashMap::new();
    let (mut accepted, mut tried, mut lost) = (0, 0, Vec::new());
    for round in 0..rounds {
        let book = crash_under_load(&mut relay, round);
        sink.settle(PATIENCE, round);
        read_events(&relay, round, &mut recorded);
        relay.launch();
        sink.wait_for(&format!("all of round {round}"), PATIENCE, round + 1, &book.yes);
        assert!(book.refused.is_empty(), "{:?}", book.refused);
        tried += book.tried();
        accepted += book.yes.len();
        lost.extend(book.yes.into_iter().filter(|mail| !sink.arrived.contains_key(mail)));
    }
    let ended = relay.stop(PATIENCE);
    sink.settle(PATIENCE, rounds);
    let unexplained = unexplained(&sink, &recorded);
    account(&format!(
        "kill -9 × {rounds} under {CONNECTIONS} connections: tried {tried}, accepted {accepted}, delivered {}, duplicated \
         {}, of these unexplained {}, lost {}",
        sink.arrived.len(),
        sink.duplicates(),
        unexplained.len(),
        lost.len(),
    ));
    assert!(lost.is_empty(), "{lost:?}");
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert_eq!(ended.code(), Some(0));
    assert!(accepted > 2 * rounds, "only {accepted} were accepted: the crashes came too early");
}

/// Submits until the relay is killed, at a moment that is random.
fn crash_under_load(relay: &mut Relay, round: usize) -> Book {
    let (listener, name) = (relay.listeners.smtp[2].clone(), format!("r{round}"));
    let (book, wanted) = (Mutex::default(), AtomicBool::new(true));
    let size = |n| if n % 16 == 5 { 300_000 } else { 400 };
    let load = Load { listener: &listener, name: &name, connections: CONNECTIONS, mails: usize::MAX, size };
    thread::scope(|scope| {
        scope.spawn(|| load.run(&book, &wanted));
        // Nothing is waited for: the moment of the crash is what is random here.
        thread::park_timeout(Duration::from_millis(fastrand::u64(5..250)));
        relay.kill_9();
        wanted.store(false, Ordering::Relaxed);
    });
    book.into_inner().unwrap()
}

/// Notes for each recipient the first round at whose kill the event file said `delivered`.
fn read_events(relay: &Relay, round: usize, recorded: &mut HashMap<String, usize>) {
    for name in ["events.jsonl.1", "events.jsonl"] {
        for recipient in delivered(&relay.data_dir.join("events").join(name)) {
            recorded.entry(recipient).or_insert(round);
        }
    }
}

/// The recipients that an event file calls delivered. A line that the kill cut short counts as not written.
pub fn delivered(events: &Path) -> Vec<String> {
    let text = std::fs::read(events).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| line.contains("\"event\":\"delivered\""));
    let recipient = |line: &str| Some(line.split_once("\"recipient\":\"")?.1.split_once('"')?.0.to_owned());
    lines.map(|line| recipient(line).unwrap_or_else(|| panic!("no recipient: {line}"))).collect()
}

/// The mails that came again without a reason, with the rounds of their arrivals and of their record.
fn unexplained(sink: &Sink, recorded: &HashMap<String, usize>) -> Vec<String> {
    let again = sink.arrived.iter().filter(|(mail, rounds)| {
        let recorded = recorded.get(*mail).copied().unwrap_or(usize::MAX);
        // The kill of round n lies between arrivals of round n and of n + 1.
        rounds.windows(2).any(|pair| pair[0] == pair[1] || recorded < pair[1])
    });
    again.map(|(mail, rounds)| format!("{mail}: arrived in {rounds:?}, recorded in {:?}", recorded.get(mail))).collect()
}
