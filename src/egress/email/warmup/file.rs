//! Where it is kept how far sources are: `warmup.json` in the data directory.
//!
//! ```text
//! {"version":1,"starts":[…],"pairs":[…]}     one sealed line (storage::whole)
//! ```
//!
//! **Promises.** The file is replaced as a whole: a crash leaves the old counts or the new ones.
//!
//! **Fails how.** A file that is not as it was written is put aside under the name `warmup.json.damaged`, which is logged as an
//! error that says what to do: sources begin their plans anew, which sends too little rather than too much. One that cannot be
//! put aside, or is of a newer version, is left alone, and so is never written over.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pair::{Pair, Past, Stage, Tally};
use super::plan::Day;
use crate::storage::{RealDisk, whole};

/// The version that is written and read.
const VERSION: u32 = 1;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What to do about a file that cannot be used.
const REMEDY: &str = "it says how far sources are warmed up: they begin anew; `postrider warmup --reset SOURCE --day N` puts \
                      them where they were";

/// What the file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// On which day sources begin towards providers that have had no mail of theirs yet, if not on the first.
    pub(super) starts: Vec<Start>,
    pub(super) pairs: Vec<Written>,
}

/// On which day a source begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) source: String,
    pub(super) day: u32,
}

/// A source towards a provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) source: String,
    pub(super) provider: String,
    stage: Stage,
    date: u64,
    used: u64,
    hour: u64,
    hour_used: u64,
    tally: Tally,
    held: u32,
    active: u64,
    past: Vec<Past>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
}

impl Written {
    /// With `ahead` more than have been given out: what may be before the file is written again.
    pub(super) fn of(source: &str, provider: &str, pair: &Pair, ahead: u64) -> Self {
        Self {
            source: source.to_owned(),
            provider: provider.to_owned(),
            stage: pair.stage,
            date: pair.day.0,
            used: pair.used.saturating_add(ahead),
            hour: pair.hour,
            hour_used: pair.hour_used.saturating_add(ahead),
            tally: pair.tally,
            held: pair.held,
            active: pair.active.0,
            past: pair.past.iter().copied().collect(),
            verdict: pair.verdict.clone(),
        }
    }

    pub(super) fn pair(self) -> Pair {
        Pair {
            stage: self.stage,
            day: Day(self.date),
            used: self.used,
            hour: self.hour,
            hour_used: self.hour_used,
            tally: self.tally,
            held: self.held,
            active: Day(self.active),
            past: self.past.into(),
            verdict: self.verdict,
        }
    }
}

impl Kept {
    pub(super) fn new(starts: Vec<Start>, pairs: Vec<Written>) -> Self {
        Self { version: VERSION, starts, pairs }
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct CountsFile {
    path: PathBuf,
}

impl CountsFile {
    /// What is kept there, nothing if there is no file yet; and the file to write to, unless what stands there has to stay.
    pub(super) fn open(path: PathBuf) -> (Kept, Option<Self>) {
        let named = path.display();
        match read(&path) {
            Ok(kept) => (kept, Some(Self { path })),
            Err(e) if e.kind() == ErrorKind::NotFound => (Kept::default(), Some(Self { path })),
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                tracing::error!(file = %named, error = %e, "nothing is kept there: {REMEDY}");
                (Kept::default(), None)
            }
            Err(e) => {
                let aside = path.with_extension("json.damaged");
                let moved = std::fs::rename(&path, &aside);
                tracing::error!(file = %named, error = %e, aside = %aside.display(), "damaged: {REMEDY}");
                match moved {
                    Ok(()) => (Kept::default(), Some(Self { path })),
                    Err(e) => {
                        tracing::error!(file = %named, error = %e, "it cannot be put aside: nothing is kept there");
                        (Kept::default(), None)
                    }
                }
            }
        }
    }

    /// Makes this what the next start finds. Blocks.
    pub(super) fn write(&self, kept: &Kept) -> io::Result<()> {
        whole::replace(&RealDisk, &self.path, &whole::sealed(kept)?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    whole::read(path, VERSION, FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Rules;
    use super::*;
    use crate::clock::Timestamp;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> io::Result<Kept> {
        whole::versioned(bytes, VERSION)
    }

    fn kept() -> Kept {
        let mut pair = Pair::new(3, &Rules::default(), Timestamp::from_seconds(1_000_000));
        (pair.used, pair.hour_used, pair.held) = (40, 7, 2);
        pair.tally = Tally { answered: 39, relayed: 38, deferred: 1, complaints: Some(2), ..Tally::default() };
        pair.past.push_back(Past { day: 10, relayed: 50, complaints: None, fresh: false });
        pair.verdict = Some("1970-01-11: held".to_owned());
        let starts = vec![Start { source: "new".to_owned(), day: 4 }];
        Kept::new(starts, vec![Written::of("new", "gmail", &pair, 5)])
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warmup.json");
        let (none, file) = CountsFile::open(path.clone());
        assert_eq!(none, Kept::default());
        file.unwrap().write(&kept()).unwrap();
        let (read, file) = CountsFile::open(path);
        assert_eq!((&read, file.is_some()), (&kept(), true));
        let pair = read.pairs[0].clone().pair();
        assert_eq!((pair.used, pair.hour_used), (45, 12), "with what may have gone since");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed_and_the_file_put_aside() {
        let whole = whole::sealed(&kept()).unwrap();
        assert_eq!(parse(&whole).unwrap(), kept());
        assert!((0..whole.len()).all(|end| parse(&whole[..end]).is_err()));
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes).is_err(), "bit {bit}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warmup.json");
        std::fs::write(&path, &whole[..9]).unwrap();
        let (read, file) = CountsFile::open(path.clone());
        assert_eq!((read, file.is_some()), (Kept::default(), true));
        assert_eq!(std::fs::read(dir.path().join("warmup.json.damaged")).unwrap(), &whole[..9]);
        // One of a newer program stays as it is.
        let line = r#"{"version":2}"#;
        let newer = format!("{line}\ncrc32 {:08x}\n", crc32fast::hash(line.as_bytes()));
        std::fs::write(&path, &newer).unwrap();
        let (read, file) = CountsFile::open(path.clone());
        assert_eq!((read, file.is_none()), (Kept::default(), true));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
            let text = String::from_utf8_lossy(&bytes).replace('\n', " ");
            let sealed = format!("{text}\ncrc32 {:08x}\n", crc32fast::hash(text.as_bytes()));
            let _ = parse(sealed.as_bytes());
        }
    }
}
