//! Large bodies: a file each, so that 50 MB never stand in front of a code.
//!
//! **Promises.** The file and its name are durable before the record that points to it is handed to the committer; it is
//! removed, away from the committer, after the record was released. A file that no record speaks of (the process died in
//! between) is removed at the next start. The file is the bare body; length and checksum are in the record.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::disk::Disk;
use super::error::ReadError;

/// Names a body's file: its record's key and a number of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BodyFile {
    pub key: [u8; 16],
    pub number: u64,
}

impl BodyFile {
    /// Its name: `<key>-<number>` in hexadecimal.
    pub fn name(&self) -> String {
        format!("{:032x}-{:016x}", u128::from_be_bytes(self.key), self.number)
    }

    /// Where it lies.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name())
    }

    /// The reverse of [`BodyFile::name`]; `None` for a name we never give.
    pub fn parse(name: &str) -> Option<Self> {
        let (key, number) = name.split_once('-')?;
        let file = Self {
            key: u128::from_str_radix(key, 16).ok()?.to_be_bytes(),
            number: u64::from_str_radix(number, 16).ok()?,
        };
        (file.name() == name).then_some(file)
    }

    /// Writes the body and makes it and its name durable. Blocks.
    pub fn write(&self, disk: &dyn Disk, dir: &Path, body: &[u8]) -> io::Result<()> {
        let path = self.path(dir);
        let file = disk.create(&path)?;
        let fill = || {
            file.write_at(&mut [IoSlice::new(body)], 0)?;
            file.sync()?;
            disk.sync_dir(dir)
        };
        fill().inspect_err(|_| {
            let _ = disk.remove(&path);
        })
    }

    /// Reads the body back and compares length and checksum. Blocks.
    pub fn read(&self, disk: &dyn Disk, dir: &Path, bytes: u32, crc: u32) -> Result<Bytes, ReadError> {
        let file = match disk.open(&self.path(dir)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(ReadError::Corrupt),
            Err(e) => return Err(e.into()),
        };
        if file.length()? != u64::from(bytes) {
            return Err(ReadError::Corrupt);
        }
        let mut body = vec![0; bytes as usize];
        if file.read_at(&mut body, 0)? != body.len() || crc32fast::hash(&body) != crc {
            return Err(ReadError::Corrupt);
        }
        Ok(body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::FaultyDisk;
    use super::*;

    #[test]
    fn names_are_parsed_back_and_others_left_alone() {
        let file = BodyFile { key: [0xab; 16], number: 7 };
        assert_eq!(BodyFile::parse(&file.name()), Some(file));
        for other in ["", "-", "x-y", "ab-7", "README", &file.name().to_uppercase()] {
            assert_eq!(BodyFile::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_body_is_whole_or_refused() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("b");
        disk.create_dir(dir).unwrap();
        let file = BodyFile { key: [1; 16], number: 2 };
        file.write(&*disk, dir, b"a body").unwrap();
        disk.cut_power();
        let crc = crc32fast::hash(b"a body");
        assert_eq!(file.read(&*disk, dir, 6, crc).unwrap(), "a body");
        assert!(matches!(file.read(&*disk, dir, 5, crc), Err(ReadError::Corrupt)));
        assert!(matches!(file.read(&*disk, dir, 6, crc ^ 1), Err(ReadError::Corrupt)));
        disk.remove(&file.path(dir)).unwrap();
        assert!(matches!(file.read(&*disk, dir, 6, crc), Err(ReadError::Corrupt)));
    }
}
