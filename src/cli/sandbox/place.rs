//! Where a sandbox keeps its files: a directory of the user's choice, or one of its own that goes with it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory; one of our own is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    ours: bool,
}

/// Tries to find a name for a temporary directory.
const TRIES: usize = 16;

impl Place {
    pub(super) fn new(wanted: Option<&Path>) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        if let Some(path) = wanted {
            builder.recursive(true).create(path)?;
            // The configuration in it names it, and relative names there start at its own directory.
            return Ok(Self { path: path.canonicalize()?, ours: false });
        }
        let mut refused = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let path = std::env::temp_dir().join(format!("postrider-sandbox-{:08x}", fastrand::u32(..)));
            // Creating fails if somebody has put anything there, a symbolic link included.
            match builder.create(&path) {
                Ok(()) => return Ok(Self { path, ours: true }),
                Err(e) => refused = e,
            }
        }
        Err(refused)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file for its owner's eyes only; one of that name from an earlier run is replaced.
    pub(super) fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(content.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = std::fs::remove_dir_all(&self.path)
        {
            super::super::output::complain(&format!("{} could not be removed: {e}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_ours_goes_and_what_was_asked_for_stays() {
        let ours = Place::new(None).unwrap();
        let path = ours.path().to_owned();
        let file = ours.write("a.toml", "text").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        drop(ours);
        assert!(!path.exists());

        let dir = tempfile::tempdir().unwrap();
        let theirs = Place::new(Some(&dir.path().join("a/b"))).unwrap();
        let file = theirs.write("a.toml", "longer").unwrap();
        theirs.write("a.toml", "text").unwrap();
        drop(theirs);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "text");
    }
}
