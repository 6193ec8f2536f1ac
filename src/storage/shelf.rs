//! A shelf: what has to be kept for days and is seldom asked for, in files that are written once and found by 64-bit keys.
//!
//! ```text
//! shelf/0000000001.items           items, one behind the other (bundle.rs); one byte of each says whether it is still there
//! shelf/0000000001-0000000016.keys keys in order, and where their items lie (catalogue.rs), of the puts of these numbers
//! ```
//!
//! **Promises.** What [`Shelf::put`] has returned is on stable storage, and so is what [`Shelf::take`] has: a crash brings
//! nothing back that was taken, and loses nothing that was put. In memory a shelf costs a file handle a bundle and a catalogue,
//! whatever lies in them: of catalogues there are few, since [`Shelf::merge`] makes one of many. A key is found by a few reads
//! in each. What a crash has left unconfirmed can be told ([`Shelf::doubtful`]).
//!
//! **Does not know** what an item says, nor what its keys are made of: who looks for one compares the item itself, for two may
//! share a key.
//!
//! **Fails how.** As the disk does. A bundle that a write failed in takes nothing more. After a failed sync of what was taken
//! nothing more is marked until the next start. Catalogues that are missing or not whole are made anew from the bundles. A damaged item is
//! passed over with all behind it in its bundle, which is said.

mod bundle;
mod catalogue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Disk;
use crate::clock::Timestamp;
use bundle::{Bundle, Step};
use catalogue::{Catalogue, Key};

/// How a shelf is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// A bundle that is so long takes nothing more.
    pub bundle_bytes_max: u64,
    /// So many catalogues of about one size become one.
    pub catalogues_merged: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { bundle_bytes_max: 1 << 30, catalogues_merged: 16 }
    }
}

/// Where an item lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    bundle: u32,
    /// In units of sixteen bytes.
    unit: u32,
}

impl Place {
    /// In front of everything.
    pub const START: Self = Self { bundle: 0, unit: 0 };

    /// Does it lie in the same bundle?
    pub fn is_in_bundle_of(self, other: Self) -> bool {
        self.bundle == other.bundle
    }
}

/// Something to be put by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Since when it waits. Items are put in about this order.
    pub at: Timestamp,
    /// What it is found by.
    pub keys: Vec<u64>,
    /// What it says.
    pub payload: Bytes,
}

/// An item that lies on the shelf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Where.
    pub place: Place,
    /// Since when it waits.
    pub at: Timestamp,
    /// What it says.
    pub payload: Bytes,
}

/// A key for these bytes: the same at all times. Not to be steered by whoever chooses them.
pub fn key_of(parts: &[&[u8]]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The shelf.
#[derive(Debug)]
pub struct Shelf {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    /// Held by whoever adds, merges or removes files.
    writing: Mutex<()>,
    front: Mutex<Front>,
    /// Marks that wait for the disk, and how many rounds of marks have been begun.
    marks: Mutex<(Vec<Place>, u64)>,
    /// Rounds that are done; held while one is.
    marked: Mutex<u64>,
    poisoned: AtomicBool,
    /// What was to be taken when the disk failed: it does not lie here any more, whatever the disk has.
    gone: Mutex<HashSet<Place>>,
}

/// What is there.
#[derive(Debug, Default)]
struct Front {
    bundles: BTreeMap<u32, Arc<Bundle>>,
    /// Oldest first.
    catalogues: Vec<Arc<Catalogue>>,
    /// The number of the next put.
    next_put: u64,
    /// The bundle that is written to.
    open: Option<u32>,
    /// The highest number that a bundle has had: none is used again.
    last: u32,
    doubtful: Vec<u32>,
}

impl Shelf {
    /// Opens the shelf in `dir`, which is made with the first item. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> io::Result<Self> {
        let shelf = Self {
            disk,
            dir: dir.to_owned(),
            options,
            writing: Mutex::new(()),
            front: Mutex::default(),
            marks: Mutex::default(),
            marked: Mutex::new(0),
            poisoned: AtomicBool::new(false),
            gone: Mutex::default(),
        };
        shelf.find_all()?;
        Ok(shelf)
    }

    fn find_all(&self) -> io::Result<()> {
        self.disk.create_dir(&self.dir)?;
        let mut front = Front { next_put: 1, ..Front::default() };
        let mut found = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let path = self.dir.join(&name);
            if let Some(number) = bundle::number_of(&name) {
                match Bundle::open(self.disk.open(&path)?, number)? {
                    Some(bundle) => {
                        front.bundles.insert(number, Arc::new(bundle));
                    }
                    // A crash came before its first item.
                    None => self.disk.remove(&path)?,
                }
            } else if let Some(puts) = catalogue::puts_of(&name) {
                found.push((puts, path));
            } else {
                self.disk.remove(&path)?;
            }
        }
        // Of two that overlap, the longer was made of the shorter.
        found.sort_unstable_by_key(|((first, last), _)| (*first, std::cmp::Reverse(*last)));
        let (mut next, mut whole) = (None, true);
        for ((first, last), path) in found {
            if next.is_some_and(|next| last < next) {
                self.disk.remove(&path)?;
                continue;
            }
            whole &= next.is_none_or(|next| next == first);
            match Catalogue::open(self.disk.open(&path)?, path, (first, last))? {
                Some(catalogue) => front.catalogues.push(Arc::new(catalogue)),
                None => whole = false,
            }
            next = Some(last + 1);
        }
        let expected = front.bundles.values().filter_map(|bundle| bundle.next_put()).max().unwrap_or(1);
        front.next_put = next.unwrap_or(1).max(expected);
        whole &= next.unwrap_or(1) >= expected;
        if whole || front.bundles.is_empty() {
            self.complete(&mut front)?;
        } else {
            tracing::warn!("the shelf's catalogues are not whole and are made anew");
            self.rebuild(&mut front)?;
        }
        front.last = front.bundles.last_key_value().map_or(0, |(number, _)| *number);
        *self.front.lock() = front;
        Ok(())
    }

    /// Sees to bundles that were being written to when the process ended.
    fn complete(&self, front: &mut Front) -> io::Result<()> {
        for (&number, bundle) in front.bundles.iter().filter(|(_, bundle)| bundle.next_put().is_none()) {
            let known = front.catalogues.iter().filter_map(|catalogue| catalogue.known_end(number)).max().unwrap_or(0);
            let keys = keys_from(bundle, known)?;
            if !keys.is_empty() {
                let puts = (front.next_put, front.next_put);
                let made = Catalogue::write(&*self.disk, &self.dir, puts, keys, (number, bundle.end_unit()))?;
                front.catalogues.push(Arc::new(made));
                front.next_put += 1;
            }
            front.doubtful.push(number);
        }
        Ok(())
    }

    /// Makes one catalogue of all bundles. It stands for all puts, so that whatever others there are count no more once it has its
    /// name.
    fn rebuild(&self, front: &mut Front) -> io::Result<()> {
        let mut parts = Vec::with_capacity(front.bundles.len());
        for (&number, bundle) in &front.bundles {
            let (keys, unsealed) = (keys_from(bundle, 0)?, bundle.next_put().is_none());
            parts.push(Arc::new(Catalogue::part(&*self.disk, &self.dir, keys, (number, bundle.end_unit()))?));
            front.doubtful.extend(unsealed.then_some(number));
        }
        let made = Catalogue::merged(&*self.disk, &self.dir, &parts, (1, front.next_put), 0)?;
        let others = std::mem::replace(&mut front.catalogues, vec![Arc::new(made)]);
        front.next_put += 1;
        parts.iter().chain(&others).try_for_each(|other| self.remove(other.path()))
    }

    /// Bundles that were written to when the process ended without [`Shelf::close`]: what lies there may not have been
    /// confirmed by whoever put it. Told at each start until [`Shelf::settle`].
    pub fn doubtful(&self) -> Vec<Place> {
        self.front.lock().doubtful.iter().map(|&bundle| Place { bundle, unit: 0 }).collect()
    }

    /// What was doubtful has been taken, or is confirmed. Blocks.
    ///
    /// # Errors
    /// The disk's; then some of it is told of again at the next start.
    pub fn settle(&self) -> io::Result<()> {
        let _writing = self.writing.lock();
        loop {
            let (bundle, next_put) = {
                let front = self.front.lock();
                let Some(number) = front.doubtful.last() else { return Ok(()) };
                (front.bundles.get(number).cloned(), front.next_put)
            };
            if let Some(bundle) = bundle {
                bundle.seal(next_put)?;
            }
            self.front.lock().doubtful.pop();
        }
    }

    /// Items that lie here, and bytes of all files, about.
    pub fn figures(&self) -> (u64, u64) {
        let front = self.front.lock();
        let bundles = front.bundles.values().fold((0, 0), |(n, bytes), b| (n + b.items_left(), bytes + b.bytes()));
        let catalogues: u64 = front.catalogues.iter().map(|catalogue| catalogue.bytes()).sum();
        (bundles.0, bundles.1 + catalogues)
    }

    /// True while nothing at all lies here.
    pub fn is_empty(&self) -> bool {
        self.front.lock().catalogues.is_empty()
    }

    /// Puts items on the shelf; they are durable when this returns. Blocks.
    ///
    /// # Errors
    /// The disk's; then none of them is found.
    pub fn put(&self, items: &[Item]) -> io::Result<Vec<Place>> {
        let _writing = self.writing.lock();
        let (number, bundle) = self.open_bundle()?;
        let put_number = self.front.lock().next_put;
        let written = bundle.append(items).and_then(|(places, end)| {
            let keys = places.iter().zip(items);
            let keys = keys.flat_map(|(&place, item)| item.keys.iter().map(move |&key| Key { key, place })).collect();
            Ok((places, end, Catalogue::write(&*self.disk, &self.dir, (put_number, put_number), keys, (number, end))?))
        });
        let mut front = self.front.lock();
        match written {
            Ok((places, end, catalogue)) => {
                bundle.advance(end, places.len() as u64);
                front.next_put += 1;
                front.catalogues.push(Arc::new(catalogue));
                Ok(places)
            }
            Err(e) => {
                // Nobody knows what the disk has of it.
                front.open = None;
                Err(e)
            }
        }
    }

    fn open_bundle(&self) -> io::Result<(u32, Arc<Bundle>)> {
        let (open, last, next_put) = {
            let front = self.front.lock();
            let open = front.open.and_then(|n| front.bundles.get(&n).map(|bundle| (n, bundle.clone())));
            (open, front.last, front.next_put)
        };
        match open {
            Some((number, bundle)) if bundle.bytes() < self.options.bundle_bytes_max => return Ok((number, bundle)),
            Some((_, full)) => full.seal(next_put)?,
            None => {}
        }
        let number = last + 1;
        // Should it fail, another number is tried the next time.
        self.front.lock().last = number;
        let file = self.disk.create(&self.dir.join(bundle::name_of(number)))?;
        let bundle = Arc::new(Bundle::begin(file, number)?);
        self.disk.sync_dir(&self.dir)?;
        let mut front = self.front.lock();
        front.bundles.insert(number, bundle.clone());
        front.open = Some(number);
        Ok((number, bundle))
    }

    /// The newest item with this key that `is_it` knows. Blocks.
    ///
    /// # Errors
    /// The disk's: it may be there.
    pub fn find(&self, key: u64, mut is_it: impl FnMut(&Kept) -> bool) -> io::Result<Option<Kept>> {
        let catalogues = self.front.lock().catalogues.clone();
        for catalogue in catalogues.iter().rev() {
            for place in catalogue.find(key)?.into_iter().rev() {
                if let Some(kept) = self.at(place)?.filter(|kept| is_it(kept)) {
                    return Ok(Some(kept));
                }
            }
        }
        Ok(None)
    }

    /// Does something still lie there? Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn has(&self, place: Place) -> io::Result<bool> {
        self.at(place).map(|kept| kept.is_some())
    }

    /// What lies at a place, unless it was taken. Blocks.
    fn at(&self, place: Place) -> io::Result<Option<Kept>> {
        let Some(bundle) = self.front.lock().bundles.get(&place.bundle).cloned() else { return Ok(None) };
        match bundle.step(place.unit)? {
            Step::Kept(kept, _) => Ok((!self.is_gone(kept.place)).then_some(kept)),
            Step::Taken(_) | Step::End => Ok(None),
            Step::Damaged => {
                tracing::error!(?place, "an item of the shelf is damaged and cannot be read");
                Ok(None)
            }
        }
    }

    /// Takes items off the shelf: durable when this returns. Those who come while a sync is in progress share the next. Blocks.
    ///
    /// # Errors
    /// The disk's; then what was to be taken lies here no more until the next start, which may find it again, and nothing more is
    /// marked until then.
    pub fn take(&self, places: &[Place]) -> io::Result<()> {
        let mine = {
            let mut marks = self.marks.lock();
            marks.0.extend_from_slice(places);
            marks.1
        };
        let mut marked = self.marked.lock();
        if *marked <= mine && !self.is_poisoned() {
            let (all, round) = {
                let mut marks = self.marks.lock();
                marks.1 += 1;
                (std::mem::take(&mut marks.0), marks.1)
            };
            if let Err(e) = self.mark(&all) {
                self.gone.lock().extend(all);
                self.poisoned.store(true, Ordering::Release);
                return Err(e);
            }
            *marked = round;
        }
        if self.is_poisoned() {
            self.gone.lock().extend(places);
            return Err(io::Error::other("the shelf's disk has failed"));
        }
        Ok(())
    }

    /// True once the disk has failed at what was taken.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    fn is_gone(&self, place: Place) -> bool {
        let gone = self.gone.lock();
        !gone.is_empty() && gone.contains(&place)
    }

    fn mark(&self, places: &[Place]) -> io::Result<()> {
        let mut touched: BTreeMap<u32, (Arc<Bundle>, u64)> = BTreeMap::new();
        for place in places {
            let Some(bundle) = self.front.lock().bundles.get(&place.bundle).cloned() else { continue };
            bundle.mark(place.unit)?;
            touched.entry(place.bundle).or_insert((bundle, 0)).1 += 1;
        }
        touched.into_values().try_for_each(|(bundle, count)| bundle.sync_marks(count))
    }

    /// What still lies from `from` on and has waited since `until` or longer, in the order of the puts, at most `most`; `from`
    /// moves behind it. Blocks.
    ///
    /// # Errors
    /// The disk's; then `from` stands where it failed.
    pub fn walk(&self, from: &mut Place, until: Timestamp, most: usize) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for _ in 0..STEPS_MAX {
            if found.len() >= most {
                break;
            }
            let next = self.front.lock().bundles.range(from.bundle..).next().map(|(n, b)| (*n, b.clone()));
            let Some((number, bundle)) = next else { break };
            if number > from.bundle {
                *from = Place { bundle: number, unit: 0 };
            }
            match bundle.step(from.unit)? {
                Step::Kept(kept, _) if kept.at > until => break,
                Step::Kept(kept, next) => {
                    found.extend((!self.is_gone(kept.place)).then_some(kept));
                    from.unit = next;
                }
                Step::Taken(next) => from.unit = next,
                // More may come.
                Step::End if self.front.lock().open == Some(number) => break,
                Step::End => *from = Place { bundle: number + 1, unit: 0 },
                Step::Damaged => {
                    tracing::error!(
                        bundle = number,
                        unit = from.unit,
                        "the rest of a bundle of the shelf is damaged: what lay there is given up"
                    );
                    *from = Place { bundle: number + 1, unit: 0 };
                }
            }
        }
        Ok(found)
    }

    /// Removes bundles in front of a place: all in them has been taken, or given up. Blocks.
    ///
    /// # Errors
    /// The disk's; what is left is removed the next time.
    pub fn remove_before(&self, place: Place) -> io::Result<()> {
        let _writing = self.writing.lock();
        let (bundles, catalogues) = {
            let front = self.front.lock();
            let done = front.bundles.range(..place.bundle).map(|(n, _)| *n);
            let bundles: Vec<u32> = done.filter(|n| front.open != Some(*n)).collect();
            let gone = front.catalogues.iter().filter(|catalogue| catalogue.last_bundle() < place.bundle);
            (bundles, gone.cloned().collect::<Vec<_>>())
        };
        if bundles.is_empty() {
            return Ok(());
        }
        // Catalogues first, oldest first: what is without one is found again by its bundle.
        for catalogue in catalogues {
            self.remove(catalogue.path())?;
            self.front.lock().catalogues.retain(|other| !Arc::ptr_eq(other, &catalogue));
        }
        for number in bundles {
            self.remove(&self.dir.join(bundle::name_of(number)))?;
            self.front.lock().bundles.remove(&number);
        }
        self.disk.sync_dir(&self.dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Makes one catalogue of many, if there are many; false if there was nothing to do. Blocks.
    ///
    /// # Errors
    /// The disk's; nothing is lost by it.
    pub fn merge(&self) -> io::Result<bool> {
        let _writing = self.writing.lock();
        let (run, oldest) = {
            let front = self.front.lock();
            let oldest = front.bundles.first_key_value().map_or(0, |(n, _)| *n);
            (catalogue::to_be_merged(&front.catalogues, self.options.catalogues_merged), oldest)
        };
        let Some(run) = run else { return Ok(false) };
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(false) };
        let puts = (first.puts().0, last.puts().1);
        let merged = Arc::new(Catalogue::merged(&*self.disk, &self.dir, &run, puts, oldest)?);
        {
            let mut front = self.front.lock();
            let at = front.catalogues.iter().position(|c| Arc::ptr_eq(c, &run[0])).unwrap_or(0);
            front.catalogues.splice(at..at + run.len(), [merged]);
        }
        run.iter().try_for_each(|catalogue| self.remove(catalogue.path()))?;
        Ok(true)
    }

    /// Closes the bundle that is written to, so that the next start need not read it. Blocks.
    ///
    /// # Errors
    /// The disk's: the next start reads it.
    pub fn close(&self) -> io::Result<()> {
        let _writing = self.writing.lock();
        let (open, next_put) = {
            let mut front = self.front.lock();
            let open = front.open.take().and_then(|n| front.bundles.get(&n).cloned());
            (open, front.next_put)
        };
        open.map_or(Ok(()), |bundle| bundle.seal(next_put))
    }
}

/// The keys of what lies in a bundle from a unit on. Blocks.
fn keys_from(bundle: &Bundle, known: u32) -> io::Result<Vec<Key>> {
    let mut keys = Vec::new();
    bundle.walk_all(|place, item| {
        if place.unit >= known && !item.is_taken {
            keys.extend(item.keys.iter().map(|&key| Key { key, place }));
        }
    })?;
    Ok(keys)
}

/// Items looked at by one walk: what was taken long ago is passed over in pieces.
const STEPS_MAX: usize = 65_536;
