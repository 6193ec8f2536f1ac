//! What carriers' refusals have shown of numbers: that one is not of the networks that its first digits say.
//!
//! **Promises.** What [`Ported::learn`] and [`Ported::forget`] have returned is on stable storage. There are never more entries than
//! [`Terms::most`] (the oldest goes), and none that is older than [`Terms::keep`] outlives the next [`Ported::sweep`].
//!
//! **Does not know** which answers say so, nor what a number's networks are: it keeps names.
//!
//! **Fails how.** [`JournalError`]; then nothing has changed.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::Number;
use crate::storage::Disk;
use crate::storage::journal::{Journal, JournalError, Opening};

/// How much is remembered, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Numbers.
    pub most: usize,
    /// An entry that nobody has added to for so long is forgotten.
    pub keep: Duration,
}

/// What is known of a number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortedNumber {
    /// The number, with its `+`.
    pub number: Arc<str>,
    /// Networks that it is not of.
    pub not: Vec<Arc<str>>,
    /// The carrier that said so last.
    pub carrier: Arc<str>,
    /// When.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
}

/// The numbers. Cheap to clone; those of all clones are the same.
#[derive(Clone, Debug)]
pub struct Ported {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    known: RwLock<Known>,
    journal: Journal,
    /// Held over a change: first on disk, then in memory, one after the other.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_number: HashMap<u64, Entry>,
    /// The oldest first.
    by_age: BTreeSet<(Timestamp, u64)>,
}

#[derive(Clone, Debug)]
struct Entry {
    not: Vec<Arc<str>>,
    carrier: Arc<str>,
    at: Timestamp,
}

/// A line of the file: what is known of a number from then on; nothing, where `not` is empty.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The version of the format.
    v: u32,
    #[serde(flatten)]
    entry: PortedNumber,
}

const VERSION: u32 = 1;
/// A file that is no larger is not written anew.
const SHRINK_BYTES: u64 = 1024 * 1024;
/// About what a number takes in it.
const ENTRY_BYTES: u64 = 160;

impl Ported {
    /// Reads what is known from the file at `path`. Blocks.
    ///
    /// # Errors
    /// The disk's; `Unsupported` for a file of a newer version.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, terms: Terms, now: Timestamp) -> io::Result<Self> {
        let mut known = Known::default();
        let mut opening = Opening::read(disk, path, &mut |line| {
            let line: Line = serde_json::from_str(line)?;
            if line.v != VERSION {
                let why = format!("{}: a line of version {}, and this program reads {VERSION}", path.display(), line.v);
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            known.put(line.entry);
            Ok(())
        })?;
        if opening.damaged > 0 {
            tracing::error!(file = %path.display(), lines = opening.damaged, "lines about ported numbers are damaged and are passed over");
        }
        known.surplus(terms, now).into_iter().for_each(|digits| drop(known.remove(digits)));
        opening.rewrite(known.all().map(written))?;
        let (journal, changing) = (opening.start(), tokio::sync::Mutex::new(()));
        Ok(Self { shared: Arc::new(Shared { known: RwLock::new(known), journal, changing }) })
    }

    /// Networks that a number is known not to be of; `None` if nothing is.
    pub fn not(&self, number: &Number) -> Option<Vec<Arc<str>>> {
        let known = self.shared.known.read();
        // Most relays know nothing, and every text asks.
        if known.by_number.is_empty() {
            return None;
        }
        Some(known.by_number.get(&number.digits().parse().ok()?)?.not.clone())
    }

    /// A carrier has said that a number is of none of these networks; the rest is still known.
    ///
    /// # Errors
    /// The disk's.
    pub async fn learn(
        &self,
        number: &Number,
        not: &[Arc<str>],
        carrier: &Arc<str>,
        terms: Terms,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let (shared, own, number) = (self.shared.clone(), self.clone(), number.clone());
        let (not, carrier) = (not.to_vec(), carrier.clone());
        // A task of its own: what the disk has, memory must get, whether or not anybody still waits.
        let learning = tokio::spawn(async move {
            let _changing = shared.changing.lock().await;
            // Not before: somebody else may be learning of the same number.
            let mut all = own.not(&number).unwrap_or_default();
            all.extend(not.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
            let entry = PortedNumber { number: number.as_str().into(), not: all, carrier, at: now };
            shared.journal.append(&written(entry.clone())).await?;
            let mut known = shared.known.write();
            known.put(entry);
            // Their lines go when the file is written anew; until then a start finds the surplus again.
            known.surplus(terms, now).into_iter().for_each(|digits| drop(known.remove(digits)));
            Ok(())
        });
        learning.await.unwrap_or(Err(JournalError::Failed))
    }

    /// Forgets what is known of a number; what that was.
    ///
    /// # Errors
    /// The disk's.
    pub async fn forget(&self, number: &Number) -> Result<Option<PortedNumber>, JournalError> {
        let (shared, own, number) = (self.shared.clone(), self.clone(), number.clone());
        let forgetting = tokio::spawn(async move {
            let _changing = shared.changing.lock().await;
            let Some(entry) = own.of(&number) else { return Ok(None) };
            shared.journal.append(&written(PortedNumber { not: Vec::new(), ..entry.clone() })).await?;
            shared.known.write().put(PortedNumber { not: Vec::new(), ..entry.clone() });
            Ok(Some(entry))
        });
        forgetting.await.unwrap_or(Err(JournalError::Failed))
    }

    /// Forgets what is too old, and keeps the file small; to be called now and then.
    pub async fn sweep(&self, terms: Terms, now: Timestamp) {
        let shared = self.shared.clone();
        let _changing = shared.changing.lock().await;
        let live = {
            let mut known = shared.known.write();
            known.surplus(terms, now).into_iter().for_each(|digits| drop(known.remove(digits)));
            known.by_number.len() as u64
        };
        if shared.journal.length() <= SHRINK_BYTES.max(2 * ENTRY_BYTES * live) {
            return;
        }
        let own = self.clone();
        let lines = move || own.shared.known.read().all().map(written).collect();
        if let Err(error) = shared.journal.rewrite(lines).await {
            tracing::error!(%error, "what is known of ported numbers cannot be written anew");
        }
    }

    /// What is known of a number.
    pub fn of(&self, number: &Number) -> Option<PortedNumber> {
        let digits = number.digits().parse().ok()?;
        let known = self.shared.known.read();
        known.by_number.get(&digits).map(|entry| entry.shown(digits))
    }

    /// The newest, at most `most`.
    pub fn newest(&self, most: usize) -> Vec<PortedNumber> {
        let known = self.shared.known.read();
        let newest = known.by_age.iter().rev().take(most);
        newest.filter_map(|(_, digits)| Some(known.by_number.get(digits)?.shown(*digits))).collect()
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.shared.known.read().by_number.len()
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Known {
    fn put(&mut self, entry: PortedNumber) {
        let PortedNumber { number, not, carrier, at } = entry;
        let Some(digits) = Number::parse(&number).ok().and_then(|n| n.digits().parse().ok()) else { return };
        self.remove(digits);
        if !not.is_empty() {
            self.by_age.insert((at, digits));
            self.by_number.insert(digits, Entry { not, carrier, at });
        }
    }

    fn remove(&mut self, digits: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&digits)?;
        self.by_age.remove(&(entry.at, digits));
        Some(entry)
    }

    /// The oldest, as far as they are too old or too many.
    fn surplus(&self, terms: Terms, now: Timestamp) -> Vec<u64> {
        let too_many = self.by_number.len().saturating_sub(terms.most);
        let goes = |(at, (since, _)): &(usize, &(Timestamp, u64))| *at < too_many || now.since(*since) > terms.keep;
        self.by_age.iter().enumerate().take_while(goes).map(|(_, (_, digits))| *digits).collect()
    }

    fn all(&self) -> impl Iterator<Item = PortedNumber> {
        self.by_age.iter().filter_map(|(_, digits)| Some(self.by_number.get(digits)?.shown(*digits)))
    }
}

impl Entry {
    fn shown(&self, digits: u64) -> PortedNumber {
        let (not, carrier) = (self.not.clone(), self.carrier.clone());
        PortedNumber { number: format!("+{digits}").into(), not, carrier, at: self.at }
    }
}

fn written(entry: PortedNumber) -> String {
    serde_json::to_string(&Line { v: VERSION, entry }).unwrap_or_default()
}

/// A time as text.
mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::clock::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&at.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("expected a time in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    const TERMS: Terms = Terms { most: 2, keep: Duration::from_secs(100) };

    fn number(n: u32) -> Number {
        Number::parse(&format!("+86138{n:08}")).unwrap()
    }

    fn open(dir: &Path, now: u64) -> Ported {
        Ported::open(Arc::new(RealDisk), &dir.join("ported.jsonl"), TERMS, Timestamp::from_seconds(now)).unwrap()
    }

    async fn learn(ported: &Ported, n: u32, not: &str, at: u64) {
        ported.learn(&number(n), &[not.into()], &"one".into(), TERMS, Timestamp::from_seconds(at)).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_learnt_and_forgotten_is_so_over_starts() {
        let dir = tempfile::tempdir().unwrap();
        let ported = open(dir.path(), 10);
        learn(&ported, 1, "mobile", 10).await;
        learn(&ported, 1, "unicom", 11).await;
        learn(&ported, 1, "unicom", 12).await;
        learn(&ported, 2, "mobile", 12).await;
        assert_eq!(ported.forget(&number(2)).await.unwrap().map(|e| e.not), Some(vec!["mobile".into()]));
        assert_eq!(ported.forget(&number(2)).await.unwrap(), None);
        drop(ported);
        let ported = open(dir.path(), 20);
        assert_eq!(ported.not(&number(1)), Some(vec!["mobile".into(), "unicom".into()]));
        assert_eq!((ported.not(&number(2)), ported.len()), (None, 1));
    }

    #[tokio::test]
    async fn the_oldest_go_and_what_is_old_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let ported = open(dir.path(), 10);
        for n in 1..=3 {
            learn(&ported, n, "mobile", 10 * u64::from(n)).await;
        }
        assert_eq!((ported.not(&number(1)), ported.len()), (None, 2));
        assert_eq!(&*ported.newest(1)[0].number, number(3).as_str());
        ported.sweep(TERMS, Timestamp::from_seconds(125)).await;
        assert_eq!((ported.not(&number(2)), ported.len()), (None, 1));
        drop(ported);
        assert_eq!(open(dir.path(), 125).len(), 1, "a start finds the surplus again");
        assert!(open(dir.path(), 1_000).is_empty());
    }
}
