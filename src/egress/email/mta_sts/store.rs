//! The policies that are known, in memory and in a file.
//!
//! **Promises.** Bounded in policies and in bytes; at the limit those go that were used least lately. The file is replaced
//! whole: after a crash there is the old one or the new one. What it holds is checked as if it had just been fetched.
//!
//! **Fails how.** A file that cannot be read is begun anew, one that cannot be written is tried again with the next change;
//! both are logged. Without it a start knows no policies and asks for them again.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::tls_policy::HostPattern;
use super::record::{Mode, StsPolicy, is_id};
use crate::clock::Timestamp;
use crate::model::Domain;
use crate::storage::{RealDisk, whole};

/// All patterns together.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The version of the file that is written and read.
const VERSION: u32 = 1;
/// A policy that wants to be kept for less is kept so long, or every mail would fetch it anew.
const KEPT_MIN: Duration = Duration::from_secs(300);

/// A policy that was fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    /// What the TXT record said then.
    pub(super) id: String,
    pub(super) policy: StsPolicy,
    pub(super) fetched: Timestamp,
}

impl Kept {
    fn holds(&self, now: Timestamp) -> bool {
        now.since(self.fetched) < self.policy.max_age.max(KEPT_MIN)
    }

    /// True if it should be fetched again: once in `every`, and before half of its time has passed.
    pub(super) fn is_due(&self, now: Timestamp, every: Duration) -> bool {
        now.since(self.fetched) >= every.min(self.policy.max_age.max(KEPT_MIN) / 2)
    }

    fn bytes(&self) -> usize {
        self.policy.hosts.iter().map(|host| host.as_str().len() + size_of::<HostPattern>()).sum()
    }
}

/// The policies.
#[derive(Debug)]
pub(super) struct Store {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Domain, (Kept, u64)>,
    bytes: usize,
    /// Counts uses.
    used: u64,
    /// Something is not in the file yet.
    dirty: bool,
    /// Somebody is writing it.
    writing: bool,
}

impl Store {
    /// Reads the file, if there is one.
    pub(super) fn open(file: Option<PathBuf>, most: usize) -> Self {
        let store = Self { file, state: Mutex::default() };
        if let Some(file) = &store.file {
            match read(file) {
                Ok(kept) => kept.into_iter().for_each(|(domain, kept)| store.put(domain, kept, most)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    tracing::warn!(file = %file.display(), error = %e, "the MTA-STS policies kept there cannot be read")
                }
            }
        }
        store
    }

    /// The policy of a domain, if one is known that still holds.
    pub(super) fn find(&self, domain: &Domain, now: Timestamp) -> Option<Kept> {
        let mut state = self.state.lock();
        state.used += 1;
        let count = state.used;
        let (kept, used) = state.known.get_mut(domain)?;
        if !kept.holds(now) {
            return None;
        }
        *used = count;
        Some(kept.clone())
    }

    /// Keeps a policy, at most so many of them.
    pub(super) fn put(&self, domain: Domain, kept: Kept, most: usize) {
        let mut state = self.state.lock();
        state.used += 1;
        let used = state.used;
        state.bytes += kept.bytes();
        if let Some((before, _)) = state.known.insert(domain, (kept, used)) {
            state.bytes -= before.bytes();
        }
        // A tenth at a time: looking for them takes a walk over all.
        if state.known.len() > most.max(1) || state.bytes > BYTES_MAX {
            let mut uses: Vec<u64> = state.known.values().map(|(_, used)| *used).collect();
            let (_, last, _) = {
                let few = uses.len() / 10;
                uses.select_nth_unstable(few)
            };
            let last = *last;
            state.known.retain(|_, (_, used)| *used > last);
            state.bytes = state.known.values().map(|(kept, _)| kept.bytes()).sum();
        }
        state.dirty = true;
    }

    /// Those that should be fetched again; those that hold no more go.
    pub(super) fn due(&self, now: Timestamp, every: Duration) -> Vec<Domain> {
        let mut state = self.state.lock();
        let before = state.known.len();
        state.known.retain(|_, (kept, _)| kept.holds(now));
        if state.known.len() != before {
            state.bytes = state.known.values().map(|(kept, _)| kept.bytes()).sum();
            state.dirty = true;
        }
        state.known.iter().filter(|(_, (kept, _))| kept.is_due(now, every)).map(|(domain, _)| domain.clone()).collect()
    }

    /// Writes what is new to the file, on a thread that may wait; changes that come meanwhile go with the next writing.
    pub(super) fn save(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if self.file.is_none() || !state.dirty || state.writing {
            return;
        }
        state.writing = true;
        drop(state);
        let store = self.clone();
        tokio::task::spawn_blocking(move || while store.write_once() {});
    }

    /// Writes once; true if there is more to write.
    fn write_once(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let shown = {
            let mut state = self.state.lock();
            state.dirty = false;
            let policies = state.known.iter().map(|(domain, (kept, _))| Written::of(domain, kept)).collect();
            File { version: VERSION, policies }
        };
        let written = write(file, &shown);
        if let Err(e) = &written {
            tracing::warn!(file = %file.display(), error = %e, "MTA-STS policies cannot be kept");
        }
        let mut state = self.state.lock();
        state.writing = state.dirty && written.is_ok();
        state.dirty |= written.is_err();
        state.writing
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    policies: Vec<Written>,
}

/// A policy in it.
#[derive(Serialize, Deserialize)]
struct Written {
    domain: String,
    id: String,
    mode: String,
    /// Seconds.
    max_age: u64,
    mx: Vec<String>,
    /// RFC 3339.
    fetched: String,
}

impl Written {
    fn of(domain: &Domain, kept: &Kept) -> Self {
        Self {
            domain: domain.to_string(),
            id: kept.id.clone(),
            mode: kept.policy.mode.as_str().to_owned(),
            max_age: kept.policy.max_age.as_secs(),
            mx: kept.policy.hosts.iter().map(|host| host.as_str().to_owned()).collect(),
            fetched: kept.fetched.rfc3339(),
        }
    }

    /// `None` for what was never written so.
    fn read(self) -> Option<(Domain, Kept)> {
        let hosts: Option<Vec<HostPattern>> = self.mx.iter().map(|host| HostPattern::parse(host)).collect();
        let (mode, hosts) = (Mode::parse(&self.mode)?, hosts?);
        if (hosts.is_empty() && mode != Mode::None) || !is_id(&self.id) {
            return None;
        }
        let policy = StsPolicy { mode, max_age: Duration::from_secs(self.max_age), hosts: hosts.into() };
        let fetched = Timestamp::parse_rfc3339(&self.fetched)?;
        Some((Domain::parse(&self.domain).ok()?, Kept { id: self.id, policy, fetched }))
    }
}

fn read(file: &Path) -> io::Result<Vec<(Domain, Kept)>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let read: File = serde_json::from_slice(&bytes)?;
    if read.version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("version {} is not known here", read.version)));
    }
    Ok(read.policies.into_iter().filter_map(Written::read).collect())
}

fn write(file: &Path, what: &File) -> io::Result<()> {
    whole::replace(&RealDisk, file, &serde_json::to_vec(what)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, max_age: u64, fetched: u64) -> Kept {
        let hosts = Arc::new([HostPattern::parse("*.mx.example").unwrap()]);
        let policy = StsPolicy { mode: Mode::Enforce, max_age: Duration::from_secs(max_age), hosts };
        Kept { id: id.to_owned(), policy, fetched: Timestamp::from_seconds(fetched) }
    }

    fn domain(n: usize) -> Domain {
        Domain::parse(&format!("d{n}.example")).unwrap()
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mta-sts.json");
        let store = Store::open(Some(file.clone()), 10);
        store.put(domain(1), kept("a", 86_400, 1_000_000), 10);
        store.put(domain(2), kept("b", 10, 1_000_000), 10);
        assert!(!store.write_once());
        let again = Store::open(Some(file.clone()), 10);
        assert_eq!(again.find(&domain(1), NOW), Some(kept("a", 86_400, 1_000_000)));
        assert_eq!(again.find(&domain(2), NOW), Some(kept("b", 10, 1_000_000)));
        assert_eq!(again.find(&domain(3), NOW), None);
        // Whatever else stands there does no harm.
        for bad in ["", "{}", "[1]", r#"{"version":2,"policies":[]}"#, "\0\0"] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(Store::open(Some(file.clone()), 10).find(&domain(1), NOW), None, "{bad}");
        }
    }

    #[test]
    fn a_policy_holds_for_its_time_and_is_due_before() {
        let store = Store::open(None, 10);
        store.put(domain(1), kept("a", 86_400, 1_000_000), 10);
        store.put(domain(2), kept("b", 0, 1_000_000), 10);
        let (day, at) = (Duration::from_secs(86_400), |seconds| NOW.plus(Duration::from_secs(seconds)));
        assert!(store.due(at(100), day).is_empty());
        assert_eq!(store.due(at(200), day), [domain(2)]);
        assert!(store.find(&domain(2), at(299)).is_some() && store.find(&domain(2), at(300)).is_none());
        assert_eq!(store.due(at(43_200), day), [domain(1)]);
        assert!(store.find(&domain(1), at(86_399)).is_some() && store.find(&domain(1), at(86_400)).is_none());
        assert!(store.due(at(86_400), day).is_empty() && store.state.lock().known.is_empty());
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let store = Store::open(None, 100);
        store.put(domain(0), kept("a", 86_400, 1_000_000), 100);
        for n in 1..1_000 {
            store.put(domain(n), kept("a", 86_400, 1_000_000), 100);
            assert!(store.find(&domain(0), NOW).is_some() && store.find(&domain(n), NOW).is_some());
            assert!(store.state.lock().known.len() <= 100);
        }
        let alone = Store::open(None, 1);
        for n in 0..3 {
            alone.put(domain(n), kept("a", 86_400, 1_000_000), 1);
            assert!(alone.find(&domain(n), NOW).is_some());
        }
        let expected: usize = store.state.lock().known.values().map(|(kept, _)| kept.bytes()).sum();
        assert_eq!(store.state.lock().bytes, expected);
    }
}
