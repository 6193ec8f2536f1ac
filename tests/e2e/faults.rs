//! Calls of the operating system that fail, one at a time: what `docs/faults.md` says of it is what happens.
//!
//! For each row of that table: a relay that delivers, a workload of 200 mails over several connections, some large enough for
//! files of their own, and the n-th such call of the thread in question made to fail by `strace`, for n = 1 and so on until
//! the workload has no n-th call. Every answer is written down, and how the process ends. Then a start without faults, and
//! everything is accounted for: what was answered yes arrives; what was refused was refused with 4xx, and what was refused for
//! want of space does not arrive.
//!
//! The rows run on one directory, one after the other, so that each also meets what the ones before have left.
//! By default n takes some values only; `POSTRIDER_FAULTS_ALL=1` takes every one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use crate::support::load::{Book, Load};
use crate::support::relay::{Relay, Settings};
use crate::support::sink::Sink;
use crate::support::trace::{self, Trace};
use crate::support::{PATIENCE, account, eventually};

const CONNECTIONS: usize = 8;
const MAILS: usize = 200;
/// The n that are tried unless all are: of the committer, and of the others, who do less.
const SOME: [usize; 6] = [1, 2, 3, 9, 27, 81];
const FEW: [usize; 4] = [1, 2, 3, 9];
/// More calls than any thread makes at a start; there are as many starts for a call, at most.
const STARTS_MAX: usize = 20;
/// More calls than any thread makes for the workload.
const CALLS_MAX: usize = 5_000;
/// The smallest segments, so that the workload needs new ones; no space is asked for that a small disk has not.
const SETTINGS: &str =
    "[log]\nsegment_bytes = \"16MiB\"\nreserve_bytes = \"16MiB\"\n[events]\nrotate_bytes = \"16KiB\"\n";

/// Which threads a fault is for, and what they are called in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Committer,
    Janitor,
    Events,
    /// Threads that write the files of large bodies: those that do not belong to the log or the event file.
    Bodies,
}

/// A row of the table: call and error as the table spells them, and what strace is told for it.
struct Case {
    whose: Whose,
    call: &'static str,
    error: &'static str,
    /// The calls that may do this, as strace names them.
    calls: &'static [&'static str],
    /// A second fault, in every such call.
    also: Option<&'static str>,
    /// Every call from the n-th on fails.
    for_good: bool,
}

const fn case(whose: Whose, call: &'static str, error: &'static str, calls: &'static [&'static str]) -> Case {
    Case { whose, call, error, calls, also: None, for_good: false }
}

const WRITES: &[&str] = &["pwritev", "pwritev2", "pwrite64"];
const SYNCS: &[&str] = &["fdatasync", "fsync"];

const COMMITTER: &[Case] = &[
    case(Whose::Committer, "sync", "EIO", SYNCS),
    case(Whose::Committer, "sync", "ENOSPC", SYNCS),
    case(Whose::Committer, "write", "EIO", WRITES),
    case(Whose::Committer, "write", "ENOSPC", WRITES),
    Case {
        also: Some("ftruncate:error=EIO"),
        ..case(Whose::Committer, "write, then ftruncate", "ENOSPC, EIO", WRITES)
    },
];

const JANITOR: &[Case] = &[
    case(Whose::Janitor, "fallocate", "ENOSPC", &["fallocate"]),
    Case { for_good: true, ..case(Whose::Janitor, "fallocate, from then on", "ENOSPC", &["fallocate"]) },
    Case { for_good: true, ..case(Whose::Janitor, "fallocate, from then on", "EIO", &["fallocate"]) },
    case(Whose::Janitor, "write", "EIO", WRITES),
    case(Whose::Janitor, "fdatasync", "EIO", &["fdatasync"]),
    case(Whose::Janitor, "fsync of a directory", "EIO", &["fsync"]),
    case(Whose::Janitor, "ftruncate", "EIO", &["ftruncate"]),
    case(Whose::Janitor, "unlink", "EIO", &["unlink", "unlinkat"]),
];

const BODIES: &[Case] = &[
    case(Whose::Bodies, "write", "EIO", WRITES),
    case(Whose::Bodies, "write", "ENOSPC", WRITES),
    case(Whose::Bodies, "sync", "EIO", SYNCS),
    case(Whose::Bodies, "sync", "ENOSPC", SYNCS),
];

const EVENTS: &[Case] = &[
    case(Whose::Events, "write", "EIO", &["write", "writev"]),
    case(Whose::Events, "write", "ENOSPC", &["write", "writev"]),
    case(Whose::Events, "fdatasync", "EIO", &["fdatasync"]),
    case(Whose::Events, "rename", "EIO", &["rename", "renameat", "renameat2"]),
];

/// Calls of a start, of whatever thread.
const START: &[(&str, &str, &[&str])] = &[
    // First: a start that gets on cuts what the ones after it would have to.
    ("ftruncate", "EIO", &["ftruncate"]),
    ("read", "EIO", &["pread64", "preadv", "preadv2"]),
    ("write", "EIO", WRITES),
    ("write", "ENOSPC", WRITES),
    ("sync", "EIO", SYNCS),
    ("fallocate", "ENOSPC", &["fallocate"]),
];

#[test]
fn the_committer_keeps_its_word_when_calls_fail() {
    hold(COMMITTER);
}

#[test]
fn the_janitor_keeps_its_word_when_calls_fail() {
    hold(JANITOR);
}

#[test]
fn the_writers_of_large_bodies_and_events_keep_their_word_when_calls_fail() {
    hold(BODIES);
    hold(EVENTS);
}

#[test]
fn every_row_of_the_table_is_held() {
    let cases = [COMMITTER, JANITOR, BODIES, EVENTS].into_iter().flatten();
    let mut held: BTreeSet<_> = cases.map(|case| key(case.whose.spelled(), case.call, case.error)).collect();
    held.extend(START.iter().map(|(call, error, _)| key("start", call, error)));
    assert_eq!(table().into_keys().collect::<BTreeSet<_>>(), held);
}

#[test]
fn a_start_that_meets_a_fault_ends_and_the_next_one_finds_everything() {
    let table = table();
    let mut bench = Bench::new();
    assert!(bench.relay.command(&["pause"]).status.success());
    let book = bench.submit("start", MAILS / CONNECTIONS, |n| if n % 5 == 3 { 600_000 } else { 400 });
    assert_eq!(book.yes.len(), MAILS);
    bench.relay.kill_9();
    for (call, error, calls) in START {
        let key = key("start", call, error);
        let row = table.get(&key).unwrap_or_else(|| panic!("docs/faults.md has no row for {key:?}"));
        let mut seen = BTreeSet::new();
        let mut hit = 0;
        for n in 1..=STARTS_MAX {
            let faults: Vec<_> = calls.iter().map(|c| fault(c, error, n, false)).collect();
            let Some(ends) = bench.start(&faults, *call == "read") else { break };
            hit += 1;
            seen.insert(ends);
        }
        account(&format!("start {call} {error} × {hit}: {seen:?}"));
        assert!(hit > 0 || !needed(call), "{key:?} never fails: the row holds nothing");
        assert!(seen.is_subset(&row.ends), "{key:?}: {seen:?}, the table says {:?}", row.ends);
    }
    bench.relay.launch();
    bench.settle("start", &book);
    assert_eq!(bench.sink.duplicates(), 0);
}

impl Whose {
    fn spelled(self) -> &'static str {
        match self {
            Self::Committer => "committer",
            Self::Janitor => "janitor",
            Self::Events => "events",
            Self::Bodies => "body writers",
        }
    }

    /// Bytes of a connection's n-th mail. What the janitor does takes more than a segment.
    fn sizes(self) -> fn(usize) -> usize {
        match self {
            Self::Janitor => |n| if n % 25 == 3 { 300_000 } else { 400 + n % 2 * 240_000 },
            Self::Bodies => |n| if n % 5 == 3 { 300_000 } else { 400 },
            Self::Committer | Self::Events => |n| if n % 25 == 3 { 300_000 } else { 400 },
        }
    }

    /// These threads of a process.
    fn threads(self, pid: u32) -> Vec<u32> {
        let is_mine = |name: &str| match self {
            Self::Committer => name == "log-committer",
            Self::Janitor => name == "log-janitor",
            Self::Events => name == "events",
            Self::Bodies => !name.starts_with("log-") && name != "events",
        };
        trace::threads(pid).into_iter().filter(|(_, name)| is_mine(name)).map(|(id, _)| id).collect()
    }
}

/// Runs the cases and compares with the table.
fn hold(cases: &[Case]) {
    let table = table();
    let mut bench = Bench::new();
    for case in cases {
        let key = key(case.whose.spelled(), case.call, case.error);
        let row = table.get(&key).unwrap_or_else(|| panic!("docs/faults.md has no row for {key:?}"));
        let seen = bench.case(case);
        assert!(seen.codes.is_subset(&row.codes), "{key:?}: answered {:?}, the table says {:?}", seen.codes, row.codes);
        assert!(seen.ends.is_subset(&row.ends), "{key:?}: {:?}, the table says {:?}", seen.ends, row.ends);
    }
}

/// What happens after a fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ends {
    GoesOn,
    Exits(i32),
}

/// What the table says of a fault, or what was seen.
#[derive(Clone, Debug, Default)]
struct Row {
    codes: BTreeSet<String>,
    ends: BTreeSet<Ends>,
}

/// Thread, call and error.
type Key = (String, String, String);

fn key(whose: &str, call: &str, error: &str) -> Key {
    (whose.to_owned(), call.to_owned(), error.to_owned())
}

/// The rows of `docs/faults.md`.
fn table() -> BTreeMap<Key, Row> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let [_, whose, call, error, answers, process, _, _] = &cells[..] else { return None };
        let exits = process.split("exits with ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
        let mut ends: BTreeSet<_> = exits.map(Ends::Exits).collect();
        ends.extend(process.contains("goes on").then_some(Ends::GoesOn));
        let codes = answers.split([',', ' ']).filter(|word| word.parse::<u16>().is_ok()).map(str::to_owned).collect();
        (!ends.is_empty()).then(|| ((whose.clone(), call.clone(), error.clone()), Row { codes, ends }))
    });
    rows.collect()
}

/// A relay and a sink that go from case to case.
struct Bench {
    relay: Relay,
    sink: Sink,
    runs: usize,
}

impl Bench {
    fn new() -> Self {
        let sink = Sink::start(0, &[]);
        let extra = SETTINGS.to_owned();
        let relay = Relay::start(&Settings { smtp_port: sink.port, extra, ..Settings::default() });
        Self { relay, sink, runs: 0 }
    }

    /// All n of a case, until a workload has no n-th call.
    fn case(&mut self, case: &Case) -> Row {
        let all = std::env::var_os("POSTRIDER_FAULTS_ALL").is_some_and(|v| v == "1");
        let mut seen = Row::default();
        let (mut hit, mut accepted, mut refused, mut unanswered, mut sent) = (0, 0, 0, 0, 0);
        let duplicates = self.sink.duplicates();
        let some = if case.whose == Whose::Committer { &SOME[..] } else { &FEW[..] };
        for n in if all { (1..=CALLS_MAX).collect() } else { some.to_vec() } {
            let Some((book, ends)) = self.run(case, n) else { break };
            hit += 1;
            seen.codes.extend(book.codes());
            seen.ends.insert(ends);
            accepted += book.yes.len();
            refused += book.refused.len();
            unanswered += book.unanswered.len();
            let told = book.refused.iter().map(|(mail, _)| mail);
            sent += told.chain(&book.unanswered).filter(|mail| self.sink.arrived.contains_key(*mail)).count();
        }
        account(&format!(
            "{} {} {} × {hit}: accepted {accepted}, refused {refused} with {:?}, unanswered {unanswered}, of the latter two \
             sent {sent}, duplicated {}, lost 0, {:?}",
            case.whose.spelled(),
            case.call,
            case.error,
            seen.codes,
            self.sink.duplicates() - duplicates,
            seen.ends,
        ));
        let Case { whose, call, .. } = case;
        assert!(hit > 0 || !needed(call), "{} {call} never fails: the row holds nothing", whose.spelled());
        seen
    }

    /// One workload with the n-th call failing; `None` if there was no n-th call.
    fn run(&mut self, case: &Case, n: usize) -> Option<(Book, Ends)> {
        self.runs += 1;
        let name = format!("{}{}-{n}", case.whose.spelled().replace(' ', ""), self.runs);
        if case.whose == Whose::Bodies {
            // So that the threads are there.
            self.submit(&format!("warm-{name}"), 1, |_| 300_000);
        }
        let (pid, log) = (self.relay.pid(), self.relay.dir().join(format!("{name}.strace")));
        let mut faults: Vec<_> = case.calls.iter().map(|call| fault(call, case.error, n, case.for_good)).collect();
        faults.extend(case.also.map(str::to_owned));
        let mut trace = Some(Trace::attach(pid, &case.whose.threads(pid), &faults, &log));
        let book = self.submit(&name, MAILS / CONNECTIONS, case.whose.sizes());
        if case.for_good && case.error == "ENOSPC" {
            // There is space again: until then what is sent cannot be settled.
            trace = None;
        }
        let resting = "the relay has ended, or nothing is queued";
        let mut ended = eventually(resting, PATIENCE, || match self.relay.ended() {
            Some(status) => Some(Some(status)),
            None => (queued(&self.relay)? == 0).then_some(None),
        });
        drop(trace);
        let hit = !trace::hits(&log).is_empty();
        std::fs::remove_file(log).unwrap();
        if ended.is_none() {
            // A relay that goes on stops in good order; one that was about to exit says so now.
            ended = Some(self.relay.stop(PATIENCE)).filter(|status| !status.success());
        }
        self.relay.launch();
        self.settle(&name, &book);
        let ends = ended.map_or(Ends::GoesOn, |status| Ends::Exits(status.code().unwrap_or(-1)));
        hit.then_some((book, ends))
    }

    /// A start with these faults in all threads, and nothing sent; `None` if none of them was met. What is read must be in
    /// the data directory: the loader reads as well.
    fn start(&mut self, faults: &[String], only_data: bool) -> Option<Ends> {
        let log = self.relay.dir().join("start.strace");
        let mut strace = Command::new("strace");
        // -D: the relay is our child, the tracer is not.
        strace.args(["-D", "-f"]).args(trace::arguments(faults, &log));
        for file in if only_data { files_below(&self.relay.data_dir) } else { Vec::new() } {
            strace.arg("-P").arg(file);
        }
        strace.arg(env!("CARGO_BIN_EXE_postrider"));
        let ends = match self.relay.launch_as(strace, &["--hold"]) {
            Ok(()) => Ends::GoesOn,
            Err(status) => Ends::Exits(status.code().unwrap_or(-1)),
        };
        if ends == Ends::GoesOn {
            self.relay.kill_9();
        }
        let hit = !trace::hits(&log).is_empty();
        let _ = std::fs::remove_file(log);
        hit.then_some(ends)
    }

    fn submit(&self, name: &str, mails: usize, size: fn(usize) -> usize) -> Book {
        let book = Mutex::default();
        let listener = &self.relay.listeners.smtp[2];
        let load = Load { listener, name, connections: CONNECTIONS, mails, size };
        load.run(&book, &AtomicBool::new(true));
        book.into_inner().unwrap()
    }

    /// Without faults: what was answered yes arrives, the rest as it was told.
    fn settle(&mut self, name: &str, book: &Book) {
        self.sink.wait_for(&format!("all {} of {name}", book.yes.len()), PATIENCE, self.runs, &book.yes);
        let hard: Vec<_> = book.refused.iter().filter(|(_, reply)| !reply.starts_with('4')).collect();
        assert!(hard.is_empty(), "{name}: {hard:?}");
        eventually("nothing is queued", PATIENCE, || (queued(&self.relay)? == 0).then_some(()));
        self.sink.read(self.runs);
        let no_space: HashSet<_> = book.refused.iter().filter(|(_, r)| r.starts_with("452")).map(|(m, _)| m).collect();
        let despite: Vec<_> = no_space.into_iter().filter(|mail| self.sink.arrived.contains_key(*mail)).collect();
        assert!(despite.is_empty(), "{name}: refused for want of space and sent all the same: {despite:?}");
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// No storage does without these; the others it may come to do without.
fn needed(call: &str) -> bool {
    ["read", "write", "sync"].contains(&call)
}

/// A value for strace's `-e inject=`.
fn fault(call: &str, error: &str, n: usize, for_good: bool) -> String {
    // "ENOSPC, EIO" is the error of this call and that of the one after it.
    let error = error.split(',').next().unwrap();
    format!("{call}:error={error}:when={n}{}", if for_good { "+" } else { "" })
}

/// How many messages wait, as `postrider queue` says.
fn queued(relay: &Relay) -> Option<u64> {
    let output = relay.command(&["queue", "--json"]);
    serde_json::from_slice::<Value>(&output.stdout).ok()?["messages"].as_u64()
}
