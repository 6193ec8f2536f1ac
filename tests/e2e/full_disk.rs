//! A disk that fills up and is freed, twenty times, under load.
//!
//! The queue lies in a file system in memory. In every other round it fills the disk itself, sending being paused, and frees
//! it by sending; in the others a stranger's file fills the disk, once in two down to the last byte, and is removed again.
//! While there is no space: only 452, and what is queued is sent all the same. Nothing is lost, nothing that was refused is
//! sent, and five seconds after there is space at the latest something is accepted again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::load::{Book, Load};
use crate::support::mounts::Mount;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::sink::Sink;
use crate::support::smtp::Client;
use crate::support::{PATIENCE, account, eventually, now};

const ROUNDS: usize = 20;
const DISK_BYTES: u64 = 112 << 20;
const RESERVE_BYTES: u64 = 32 << 20;
const SETTINGS: &str = "[log]\nsegment_bytes = \"16MiB\"\nreserve_bytes = \"32MiB\"\n";
/// How long after there is space something must be accepted.
const AGAIN: Duration = Duration::from_secs(5);

#[test]
fn a_disk_that_fills_and_is_freed_costs_only_refusals() {
    let mut place = Place::new();
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            place.fills_by_the_queue(round);
        } else {
            place.fills_by_a_stranger(round, if round % 4 == 1 { RESERVE_BYTES / 2 } else { 0 });
        }
    }
    let Place { sink, book, slowest, .. } = &place;
    let lost = book.yes.iter().filter(|mail| !sink.arrived.contains_key(*mail)).count();
    let despite: Vec<_> = book.refused.iter().filter(|(mail, _)| sink.arrived.contains_key(mail)).collect();
    account(&format!(
        "disk full × {ROUNDS}: tried {}, accepted {}, refused {} with {:?}, duplicated {}, lost {lost}, accepted again at \
         most {slowest:?} after there was space",
        book.tried(),
        book.yes.len(),
        book.refused.len(),
        book.codes(),
        sink.duplicates(),
    ));
    assert_eq!(lost, 0);
    assert!(despite.is_empty(), "sent although refused: {despite:?}");
    assert_eq!(book.codes(), ["452"], "{:?}", book.refused.iter().find(|(_, reply)| !reply.starts_with("452")));
    assert_eq!((sink.duplicates(), book.unanswered.len()), (0, 0));
}

/// A relay on a small disk. Fields are dropped in order: the relay first, then its disk.
struct Place {
    relay: Relay,
    sink: Sink,
    _disk: Mount,
    dir: tempfile::TempDir,
    book: Book,
    slowest: Duration,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("postrider-full-").tempdir().unwrap();
        let disk = Mount::tmpfs(&dir.path().join("disk"), DISK_BYTES);
        let sink = Sink::start(0, &[]);
        let (data_dir, extra) = (Some(dir.path().join("disk/data")), SETTINGS.to_owned());
        let relay = Relay::start(&Settings { smtp_port: sink.port, data_dir, extra, ..Settings::default() });
        Self { relay, sink, _disk: disk, dir, book: Book::default(), slowest: Duration::ZERO }
    }

    /// The queue grows until it is refused more, and shrinks by being sent.
    fn fills_by_the_queue(&mut self, round: usize) {
        self.command("pause");
        self.submit(&format!("q{round}"), usize::MAX);
        self.is_full(round);
        self.command("resume");
        self.sink.wait_for("all that was queued", PATIENCE, round, &self.book.yes);
        eventually("the log gives space back", PATIENCE, || (self.free() >= RESERVE_BYTES).then_some(()));
        self.accepts_again(round);
    }

    /// Somebody else's file takes all space but `left`.
    fn fills_by_a_stranger(&mut self, round: usize, left: u64) {
        self.command("pause");
        self.submit(&format!("s{round}"), 10);
        let filler = self.disk().join("filler");
        fill(&filler, self.free() - left);
        eventually("intake is refused", PATIENCE, || {
            self.try_one(&format!("e{round}")).starts_with("452").then_some(())
        });
        self.is_full(round);
        self.command("resume");
        self.sink.wait_for("what is queued, on the full disk", PATIENCE, round, &self.book.yes);
        self.is_full(round);
        std::fs::remove_file(filler).unwrap();
        self.accepts_again(round);
    }

    /// Submits from several connections until something is refused or each has had its share.
    fn submit(&mut self, name: &str, mails: usize) {
        let (book, wanted) = (Mutex::<Book>::default(), AtomicBool::new(true));
        let size = |n| if n % 8 == 5 { 600_000 } else { 200_000 };
        let listener = &self.relay.listeners.smtp[2];
        let load = Load { listener, name, connections: 4, mails, size };
        thread::scope(|scope| {
            let loading = scope.spawn(|| load.run(&book, &wanted));
            eventually("the disk is full, or all is said", PATIENCE, || {
                (loading.is_finished() || !book.lock().unwrap().refused.is_empty()).then_some(())
            });
            wanted.store(false, Ordering::Relaxed);
        });
        let book = book.into_inner().unwrap();
        assert!(!book.yes.is_empty(), "nothing was accepted: {:?}", book.refused);
        self.book.yes.extend(book.yes);
        self.book.refused.extend(book.refused);
        self.book.unanswered.extend(book.unanswered);
        self.book.turned_away.extend(book.turned_away);
    }

    /// One mail more; what was answered.
    fn try_one(&mut self, name: &str) -> String {
        let to = format!("{name}-{}@{SINK_DOMAIN}", self.book.tried());
        let from = format!("hello@{SENDER_DOMAIN}");
        let mut client = Client::greeted(&self.relay.listeners.smtp[2]).unwrap();
        let mail = format!("From: <{from}>\r\nSubject: {to}\r\n\r\nHello\r\n");
        let reply = client.mail(&from, &[&to], mail.as_bytes()).unwrap();
        if reply.starts_with("250") {
            self.book.yes.push(to);
        } else {
            self.book.refused.push((to, reply.clone()));
        }
        reply
    }

    fn is_full(&mut self, round: usize) {
        let reply = self.try_one(&format!("f{round}"));
        // A segment that has just gone may have made room: then yes is right.
        let room = self.free() >= RESERVE_BYTES;
        assert!(reply.starts_with("452") || room, "on a full disk: {reply}");
    }

    fn accepts_again(&mut self, round: usize) {
        let since = now();
        eventually("something is accepted again", AGAIN, || {
            self.try_one(&format!("a{round}")).starts_with("250").then_some(())
        });
        self.slowest = self.slowest.max(now() - since);
        self.sink.wait_for("all so far", PATIENCE, round, &self.book.yes);
    }

    fn command(&self, name: &str) {
        let output = self.relay.command(&[name]);
        assert!(output.status.success(), "{name}: {output:?}");
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn free(&self) -> u64 {
        let figures = rustix::fs::statvfs(self.disk()).unwrap();
        figures.f_bavail * figures.f_frsize
    }
}

/// Writes a file of that many bytes, or as many as fit.
fn fill(path: &Path, bytes: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    let page = [1; 4096];
    for _ in 0..bytes.div_ceil(4096) {
        if file.write_all(&page).is_err() {
            return;
        }
    }
}
