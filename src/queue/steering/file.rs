//! Where rules are kept: `steering.json` in the queue's directory.
//!
//! ```text
//! {"version":1,"last_id":7,"rules":[…]}      one sealed line (storage::whole)
//! ```
//!
//! **Promises.** The file is replaced as a whole: a crash leaves the old rules or the new ones. What [`RulesFile::keep`] has returned is on stable storage.
//!
//! **Fails how.** A file that is not as it was written is an error at start that names it and says what to do: to go on without
//! the rules might send what somebody wanted held.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Rule, Rules};
use crate::storage::{Disk, OpenError, whole};

/// Its name in the queue's directory.
const NAME: &str = "steering.json";
/// The version written and read.
const VERSION: u32 = 1;
/// More than the rules there may be take.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What to do about a file that cannot be used.
const REMEDY: &str = "it holds the rules of pause and reroute: move it away to start without any, and start with --hold if what \
                      they held must not go before they are given again";

/// The file.
#[derive(Clone, Debug)]
pub(in crate::queue) struct RulesFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    last_id: u64,
    rules: &'a [Rule],
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    last_id: u64,
    rules: Vec<Rule>,
}

impl RulesFile {
    /// The rules' file of the queue in `dir`.
    pub(in crate::queue) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    /// The rules kept last; none if there never were any.
    pub(in crate::queue) fn read(&self) -> Result<Rules, OpenError> {
        let path = self.dir.join(NAME);
        let failed = |why: String| OpenError::Damaged { path: path.clone(), why: format!("{why}; {REMEDY}") };
        let bytes = match self.bytes(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Rules::default()),
            Err(e) => return Err(failed(e.to_string())),
        };
        parse(&bytes).map_err(failed)
    }

    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.disk.open(path)?;
        let length = file.length()?;
        if length > FILE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is longer than any such file"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Makes these the rules that the next start finds.
    pub(in crate::queue) async fn keep(&self, rules: &Rules) -> io::Result<()> {
        let (file, bytes) = (self.clone(), write(rules)?);
        if self.disk.may_block() {
            tokio::task::spawn_blocking(move || file.replace(&bytes)).await.map_err(io::Error::other)?
        } else {
            file.replace(&bytes)
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        whole::replace(&*self.disk, &self.dir.join(NAME), bytes)
    }
}

fn write(rules: &Rules) -> io::Result<Vec<u8>> {
    whole::sealed(&Written { version: VERSION, last_id: rules.last_id, rules: &rules.list })
}

fn parse(bytes: &[u8]) -> Result<Rules, String> {
    let Read { version, last_id, rules } = serde_json::from_str(whole::unsealed(bytes)?).map_err(|e| e.to_string())?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this program reads {VERSION}"));
    }
    Ok(Rules { list: rules, last_id })
}

#[cfg(test)]
mod tests {
    use super::super::tests::order;
    use super::*;
    use crate::clock::Timestamp;
    use crate::storage::RealDisk;

    fn rules() -> Rules {
        let mut rules = Rules::default();
        rules.add(order("spring"), "lin".to_owned(), Timestamp(5)).unwrap();
        rules.add(order("autumn"), "lin".to_owned(), Timestamp(6)).unwrap();
        rules
    }

    #[tokio::test]
    async fn what_was_kept_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = RulesFile::new(Arc::new(RealDisk), dir.path());
        assert_eq!(file.read().unwrap(), Rules::default(), "none yet");
        for rules in [rules(), Rules { last_id: 9, ..Rules::default() }, rules()] {
            std::fs::write(dir.path().join("steering.json.new"), "what a crash left").unwrap();
            file.keep(&rules).await.unwrap();
            assert_eq!(file.read().unwrap(), rules);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = RulesFile::new(Arc::new(RealDisk), dir.path());
        let whole = write(&rules()).unwrap();
        assert_eq!(parse(&whole), Ok(rules()));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes).is_err(), "bit {bit}");
        }
        std::fs::write(dir.path().join(NAME), &whole[..9]).unwrap();
        let why = file.read().unwrap_err().to_string();
        assert!(why.contains(NAME) && why.contains("move it away"), "{why}");
    }

    #[test]
    fn a_newer_version_is_named() {
        let line = r#"{"version":2,"last_id":0,"rules":[]}"#;
        let text = format!("{line}\ncrc32 {:08x}\n", crc32fast::hash(line.as_bytes()));
        assert_eq!(parse(text.as_bytes()).unwrap_err(), "it is of version 2, and this program reads 1");
    }
}
