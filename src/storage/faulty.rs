//! A disk in memory that forgets, tears and fails. Tests only.
//!
//! **Rules.** What was synced survives [`FaultyDisk::cut_power`]. Of everything else any part may survive: each write since
//! the last sync whole, not at all, or any set of its 512-byte sectors; each change of length or of a name, or not,
//! independently of the others; of a rename also the new name alone, beside the old one. (Harsher than journaled file systems,
//! which keep some order.) Directories themselves always survive. A write that fails has written a part. After a planned cut
//! every call fails until `cut_power` turns the machine on again; handles from before stay dead.

mod calls;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

const SECTOR: usize = 512;

/// Calls that change something, and can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    Create,
    Rename,
    Remove,
    SyncDir,
    Write,
    SetLength,
    Allocate,
    Sync,
}

const CALLS: usize = Call::Sync as usize + 1;

/// What syncs of files do not do although they say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    Never,
    /// Anything.
    Always,
    /// Make it last that a file has been cut.
    AboutCuts,
    /// Anything; and a write happens only when the next one comes.
    AboutWrites,
}

/// The disk. Shared: the same one is given to every life of the log.
#[derive(Debug)]
pub struct FaultyDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    random: fastrand::Rng,
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync; those in a list belong together, and survive from the first on.
    name_changes: Vec<Vec<(PathBuf, Option<u64>)>>,
    next_inode: u64,
    available: u64,
    can_allocate: bool,
    powered: bool,
    life: u64,
    locked: HashMap<PathBuf, u64>,
    calls: u64,
    cut_at: Option<u64>,
    counts: [u64; CALLS],
    faults: Vec<(Call, u64, ErrorKind)>,
    /// The changing call, of whatever sort, that fails.
    fault_at: Option<(u64, ErrorKind)>,
    lies: Lies,
    /// The write that has been answered and not been done.
    late: Option<(u64, usize, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug)]
struct Handle {
    world: Arc<Mutex<World>>,
    inode: u64,
    life: u64,
}

#[derive(Debug)]
struct Lock {
    world: Arc<Mutex<World>>,
    path: PathBuf,
    life: u64,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Arc::new(Mutex::new(World {
            random: fastrand::Rng::with_seed(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            next_inode: 1,
            available: u64::MAX,
            can_allocate: seed.is_multiple_of(3),
            powered: true,
            life: 0,
            locked: HashMap::new(),
            calls: 0,
            cut_at: None,
            counts: [0; CALLS],
            faults: Vec::new(),
            fault_at: None,
            lies: Lies::Never,
            late: None,
        }))))
    }

    /// The `n`-th changing call from now, and every call after it, fails, as if the power had gone.
    pub fn cut_power_at(&self, n: u64) {
        let mut world = self.0.lock();
        world.cut_at = Some(world.calls + n);
    }

    /// The `n`-th call of this sort from now (1 is the next) fails once.
    pub fn fail(&self, call: Call, n: u64, kind: ErrorKind) {
        let mut world = self.0.lock();
        let at = world.counts[call as usize] + n;
        world.faults.push((call, at, kind));
    }

    /// The `n`-th changing call from now, of whatever sort, fails once.
    pub fn fail_at(&self, n: u64, kind: ErrorKind) {
        let mut world = self.0.lock();
        world.fault_at = Some((world.calls + n, kind));
    }

    /// Changing calls so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// False from a planned power cut on, until the machine is turned on again.
    pub fn has_power(&self) -> bool {
        self.0.lock().powered
    }

    /// Another part of what was not synced survives than the disk's own seed would have it.
    pub fn tear_by(&self, seed: u64) {
        self.0.lock().random.seed(seed);
    }

    /// The power goes and comes back: only what is durable is left, and any part of the rest.
    pub fn cut_power(&self) {
        let world = &mut *self.0.lock();
        for inode in world.files.values_mut().filter(|inode| !inode.pending.is_empty()) {
            for change in std::mem::take(&mut inode.pending) {
                survive(&mut inode.durable, change, &mut world.random);
            }
            inode.now.clone_from(&inode.durable);
        }
        for together in std::mem::take(&mut world.name_changes) {
            let survive = world.random.usize(..=together.len());
            for (path, inode) in together.into_iter().take(survive) {
                set_name(&mut world.durable_names, path, inode);
            }
        }
        world.names = world.durable_names.clone();
        let named: BTreeSet<u64> = world.names.values().copied().collect();
        world.files.retain(|inode, _| named.contains(inode));
        world.begin_life();
    }

    /// The process dies, the machine goes on: what was written is still there, and no more durable than before.
    pub fn kill(&self) {
        self.0.lock().begin_life();
    }

    /// From now on syncs of files do nothing and say that they did.
    pub fn lie(&self) {
        self.lie_about(Lies::Always);
    }

    /// From now on syncs of files say that they did what they did not do.
    pub fn lie_about(&self, what: Lies) {
        self.0.lock().lies = what;
    }

    /// All files, with their lengths, in order of their names.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let world = self.0.lock();
        let length = |inode: &u64| world.files.get(inode).map_or(0, |f| f.now.len());
        world.names.iter().map(|(path, inode)| (path.clone(), length(inode))).collect()
    }

    /// Flips a bit, durably: what a disk does that has forgotten.
    pub fn flip(&self, path: &Path, at: usize, bit: u8) {
        let world = &mut *self.0.lock();
        let inode = world.names.get(path).and_then(|inode| world.files.get_mut(inode));
        for bytes in inode.into_iter().flat_map(|f| [&mut f.durable, &mut f.now]) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    pub fn set_available(&self, bytes: u64) {
        self.0.lock().available = bytes;
    }

    pub fn count(&self, call: Call) -> u64 {
        self.0.lock().counts[call as usize]
    }

    /// What a file holds now.
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock();
        world.names.get(path).and_then(|i| world.files.get(i)).map(|f| f.now.clone()).unwrap_or_default()
    }

    /// What a file would hold after a power cut, if nothing else survived.
    pub fn durable(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock();
        world.names.get(path).and_then(|i| world.files.get(i)).map(|f| f.durable.clone()).unwrap_or_default()
    }

    /// Puts a file there, durably.
    pub fn put(&self, path: &Path, contents: &[u8]) {
        let mut world = self.0.lock();
        let inode = world.next_inode;
        world.next_inode += 1;
        let file = Inode { durable: contents.to_vec(), now: contents.to_vec(), pending: Vec::new() };
        world.files.insert(inode, file);
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }

    /// A copy that goes its own way from here on.
    pub fn fork(&self) -> Arc<Self> {
        let world = self.0.lock();
        let copy = Self::new(0);
        {
            let mut other = copy.0.lock();
            other.files = world.files.clone();
            other.names = world.names.clone();
            other.durable_names = world.durable_names.clone();
            other.name_changes = world.name_changes.clone();
            other.next_inode = world.next_inode;
            other.can_allocate = world.can_allocate;
        }
        copy
    }
}

fn set_name(names: &mut BTreeMap<PathBuf, u64>, path: PathBuf, inode: Option<u64>) {
    match inode {
        Some(inode) => names.insert(path, inode),
        None => names.remove(&path),
    };
}

impl Inode {
    /// What was written lasts: only the changes are copied, for files are synced far more often than they are long.
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write(offset, bytes) => write(&mut self.durable, offset, &bytes),
                Change::Length(length) => self.durable.resize(length, 0),
            }
        }
    }
}

fn survive(durable: &mut Vec<u8>, change: Change, random: &mut fastrand::Rng) {
    match (change, random.u8(0..3)) {
        (_, 0) => {}
        (Change::Length(length), _) => durable.resize(length, 0),
        (Change::Write(offset, bytes), 1) => write(durable, offset, &bytes),
        (Change::Write(offset, bytes), _) => {
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min(((offset + at) / SECTOR + 1) * SECTOR - offset);
                if random.bool() {
                    write(durable, offset + at, &bytes[at..end]);
                }
                at = end;
            }
        }
    }
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if to.len() < offset + bytes.len() {
        to.resize(offset + bytes.len(), 0);
    }
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl World {
    fn begin_life(&mut self) {
        self.locked.clear();
        self.life += 1;
        self.powered = true;
        self.cut_at = None;
        self.fault_at = None;
        self.late = None;
        self.faults.clear();
    }

    /// Counts a call. `Ok(None)`: go on. `Ok(Some(e))`: the power goes during it, it may yet have an effect.
    fn call(&mut self, call: Call) -> io::Result<Option<io::Error>> {
        if !self.powered {
            return Err(io::Error::other("no power"));
        }
        self.calls += 1;
        let count = &mut self.counts[call as usize];
        *count += 1;
        let count = *count;
        if let Some((_, kind)) = self.fault_at.take_if(|(at, _)| *at == self.calls) {
            return Err(kind.into());
        }
        if let Some(at) = self.faults.iter().position(|(c, n, _)| *c == call && *n == count) {
            return Err(self.faults.remove(at).2.into());
        }
        if self.cut_at.is_some_and(|at| self.calls >= at) {
            self.powered = false;
            return Ok(Some(io::Error::other("the power went")));
        }
        Ok(None)
    }

    /// Does the write that is late.
    fn catch_up(&mut self) {
        if let Some((inode, offset, bytes)) = self.late.take()
            && let Some(inode) = self.files.get_mut(&inode)
        {
            write(&mut inode.now, offset, &bytes);
            inode.pending.push(Change::Write(offset, bytes));
            inode.sync();
        }
    }

    fn name(&mut self, path: &Path, inode: Option<u64>) {
        set_name(&mut self.names, path.to_owned(), inode);
        self.name_changes.push(vec![(path.to_owned(), inode)]);
    }
}

fn done(cut: Option<io::Error>) -> io::Result<()> {
    cut.map_or(Ok(()), Err)
}
