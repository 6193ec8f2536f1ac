//! A power cut, a hundred times: the disk as it was at a random instant under load, taken to another relay.
//!
//! The disk is an ext4 image in a file on XFS, both loop mounts. What ext4 sends to its device, the loop driver writes into
//! that file; what ext4 still keeps in its own page cache is not in it, and that is what a cut loses. `cp --reflink=always`
//! takes the file as of one instant: XFS locks it against writes meanwhile, and first writes out the file's own dirty pages,
//! which are the device's content, not ext4's cache. The copy may hold more than a real disk after a cut: what reached the
//! device but was not flushed there. So this finds answers given without a sync, and names not synced, not drives that lie.
//!
//! In every other round sending is paused, so that everything answered yes before the copy began must come out of the copy;
//! in the others it may also have arrived before the copy was made. A control run whose syncs do nothing must lose.
//!
//! `POSTRIDER_POWER_CUTS` says how many.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::load::{Book, Load};
use crate::support::mounts::{Mount, make_image};
use crate::support::relay::{Relay, Settings};
use crate::support::sink::Sink;
use crate::support::{PATIENCE, account, eventually, run, trace};

const CONNECTIONS: usize = 20;
/// Cuts, unless `POSTRIDER_POWER_CUTS` says otherwise.
const CUTS: usize = 100;
/// Cuts of the control run.
const CUTS_WITHOUT_SYNC: usize = 3;

const XFS_BYTES: u64 = 4 << 30;
const DISK_BYTES: u64 = 1 << 30;
const SETTINGS: &str = "[log]\nsegment_bytes = \"16MiB\"\nreserve_bytes = \"64MiB\"\n";

#[test]
fn a_power_cut_loses_nothing_that_was_answered_yes() {
    let cuts = std::env::var("POSTRIDER_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(CUTS);
    let mut rig = Rig::new(None);
    for round in 0..cuts {
        rig.round(round);
    }
    rig.account(&format!("power cut × {cuts} under {CONNECTIONS} connections"));
    assert!(rig.lost.is_empty(), "{:?}", rig.lost);
    assert!(rig.owed > cuts, "only {} mails were owed: the cuts came too early", rig.owed);
}

#[test]
fn without_syncs_a_power_cut_loses() {
    // Calls that do nothing and say that they have.
    let faults = ["fsync", "fdatasync", "sync_file_range", "syncfs", "sync"].map(|call| format!("{call}:retval=0"));
    let mut rig = Rig::new(Some(&faults));
    for round in 0..CUTS_WITHOUT_SYNC {
        rig.round(round);
    }
    rig.account(&format!("control, syncs do nothing: power cut × {CUTS_WITHOUT_SYNC}"));
    assert!(!rig.lost.is_empty(), "a power cut finds no fault even where nothing is synced: this test sees nothing");
}

/// Two relays, one disk, and the book. Fields are dropped in order: relays first, then what they lie on.
struct Rig {
    relay: Relay,
    /// Lives on the copies of the disk.
    heir: Relay,
    sink: Sink,
    heirs_sink: Sink,
    _disk: Mount,
    _xfs: Mount,
    dir: tempfile::TempDir,
    /// Mails answered yes before a copy began.
    owed: usize,
    /// Of these, those that came out of the copy.
    inherited: usize,
    lost: Vec<String>,
}

impl Rig {
    /// Starts the first relay, with these faults in its calls.
    fn new(faults: Option<&[String]>) -> Self {
        let dir = tempfile::Builder::new().prefix("postrider-cut-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        make_image(&at("xfs.img"), XFS_BYTES, "xfs", &["-q", "-m", "reflink=1"]);
        let xfs = Mount::image(&at("xfs.img"), "xfs", &at("xfs"));
        make_image(&at("xfs/disk"), DISK_BYTES, "ext4", &["-q", "-F"]);
        let disk = Mount::image(&at("xfs/disk"), "ext4", &at("disk"));
        let (sink, heirs_sink) = (Sink::start(0, &[]), Sink::start(0, &[]));
        let relay_on = |name: &str, sink: &Sink| {
            let (data_dir, extra) = (Some(at(name).join("data")), SETTINGS.to_owned());
            Relay::prepare(&Settings { smtp_port: sink.port, data_dir, extra, ..Settings::default() })
        };
        let (mut relay, heir) = (relay_on("disk", &sink), relay_on("copy", &heirs_sink));
        match faults {
            None => relay.launch(),
            Some(faults) => {
                let mut strace = Command::new("strace");
                // -D: the relay is our child, the tracer is not.
                strace.args(["-D", "-f"]).args(trace::arguments(faults, &at("strace.log")));
                strace.arg(env!("CARGO_BIN_EXE_postrider"));
                relay.launch_as(strace, &[]).unwrap_or_else(|status| panic!("{status}: {}", relay.log()));
            }
        }
        Self { relay, heir, sink, heirs_sink, _disk: disk, _xfs: xfs, dir, owed: 0, inherited: 0, lost: Vec::new() }
    }

    /// Load, a cut in its midst, and what the heir makes of it.
    fn round(&mut self, round: usize) {
        let paused = round % 2 == 1;
        if paused {
            assert!(self.relay.command(&["pause"]).status.success());
        }
        let (book, wanted) = (Mutex::<Book>::default(), AtomicBool::new(true));
        let (listener, name) = (self.relay.listeners.smtp[2].clone(), format!("p{round}"));
        let size = |n| if n % 16 == 5 { 300_000 } else { 400 };
        let load = Load { listener: &listener, name: &name, connections: CONNECTIONS, mails: usize::MAX, size };
        let owed = thread::scope(|scope| {
            scope.spawn(|| load.run(&book, &wanted));
            // Nothing is waited for but the first yes: the moment of the cut is what is random here.
            eventually("a mail is accepted", PATIENCE, || (!book.lock().unwrap().yes.is_empty()).then_some(()));
            thread::park_timeout(Duration::from_millis(fastrand::u64(1..200)));
            let owed = book.lock().unwrap().yes.clone();
            run("cp", &["--reflink=always".as_ref(), self.at("xfs/disk").as_ref(), self.at("xfs/copy").as_ref()]);
            self.sink.catch_up(PATIENCE, round);
            wanted.store(false, Ordering::Relaxed);
            owed
        });
        let delivered: HashSet<_> = owed.iter().filter(|mail| self.sink.arrived.contains_key(*mail)).cloned().collect();
        assert!(!paused || delivered.is_empty(), "sent while paused: {delivered:?}");
        self.owed += owed.len();
        let heritage: Vec<_> = owed.into_iter().filter(|mail| !delivered.contains(mail)).collect();
        self.inherit(round, heritage);

        if paused {
            assert!(self.relay.command(&["resume"]).status.success());
        }
        let book = book.into_inner().unwrap();
        assert!(book.refused.is_empty(), "{:?}", book.refused);
        self.sink.wait_for(&format!("all of round {round}, without a cut"), PATIENCE, round, &book.yes);
    }

    /// Mounts the copy, starts the heir on it and lets it send what it finds.
    fn inherit(&mut self, round: usize, heritage: Vec<String>) {
        let mount = Mount::image(&self.at("xfs/copy"), "ext4", &self.at("copy"));
        let binary = Command::new(env!("CARGO_BIN_EXE_postrider"));
        if let Err(status) = self.heir.launch_as(binary, &[]) {
            self.lost.push(format!("round {round}: the heir ended with {status}: {}", self.heir.log()));
        } else {
            let (heir, sink) = (&self.heir, &mut self.heirs_sink);
            eventually("the heir has sent everything", PATIENCE, || {
                sink.read(round);
                let all = heritage.iter().all(|mail| sink.arrived.contains_key(mail));
                (all || queued(heir) == Some(0)).then_some(())
            });
            self.heir.kill_9();
            self.heirs_sink.settle(PATIENCE, round);
        }
        drop(mount);
        std::fs::remove_file(self.at("xfs/copy")).unwrap();
        let before = heritage.len();
        let lost: Vec<_> = heritage.into_iter().filter(|mail| !self.heirs_sink.arrived.contains_key(mail)).collect();
        self.inherited += before - lost.len();
        self.lost.extend(lost);
    }

    fn account(&self, what: &str) {
        account(&format!(
            "{what}: {} were answered yes before, of these {} came out of the copy, the others had arrived, lost {}",
            self.owed,
            self.inherited,
            self.lost.len()
        ));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// How many messages wait, as `postrider queue` says.
fn queued(relay: &Relay) -> Option<u64> {
    let output = relay.command(&["queue", "--json"]);
    serde_json::from_slice::<Value>(&output.stdout).ok()?["messages"].as_u64()
}
