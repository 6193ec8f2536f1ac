//! What the log asks of a disk: a dozen calls, so that tests can put a disk behind them that tears, forgets and fails.
//!
//! **Promises** (of [`RealDisk`]; the log relies on no more): what was written before a successful [`File::sync`] is still
//! there after a power cut; a name made, changed or removed is so after [`Disk::sync_dir`] of its directory. Without these,
//! any part of a write may be there or not, in any order.
//!
//! **Fails how**: as the operating system says, unchanged. `EINTR` and short writes are dealt with here.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A place for files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it; no error if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a file that must not exist, open for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name in the same directory, in place of a file that may have it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes changes of names in a directory last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the lock on a file, making it if need be, until the value is dropped; `None` if somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn fmt::Debug + Send + Sync>>>;
    /// True if its calls may take long: then nobody makes them on a thread of the runtime.
    fn may_block(&self) -> bool {
        true
    }
}

/// A file.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes all parts, one behind the other, at `offset`.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Reads up to the length of `buffer`; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`File::read_at`], but only what is in memory; fewer bytes also where the rest would have to be waited for.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
    /// Bytes in the file.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Reserves space for `length` bytes from the start and makes the file so long; [`ErrorKind::Unsupported`] if the file
    /// system cannot.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Makes what was written last, and the length needed to read it.
    fn sync(&self) -> io::Result<()>;
}

/// The machine's disk.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(fs::File);

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // What lies here is other people's mail.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::options().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(dir)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn fmt::Debug + Send + Sync>>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

/// Most parts of one call (Linux: UIO_MAXIOV).
const PARTS_MAX: usize = 1024;

impl File for RealFile {
    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(&self.0, &parts[..parts.len().min(PARTS_MAX)], offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut parts, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.0, &mut [IoSliceMut::new(buffer)], offset, flags) {
            Ok(read) => Ok(read),
            // Not in memory, or a file system that cannot tell.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Err(ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_disk_does_what_the_trait_says() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        let below = dir.path().join("a/b");
        disk.create_dir(&below).unwrap();
        disk.create_dir(&below).unwrap();
        let path = below.join("f");
        let file = disk.create(&path).unwrap();
        assert_eq!(disk.create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        // More parts than one call takes, empty ones among them.
        let texts: Vec<String> = (0..3000).map(|n| if n % 7 == 0 { String::new() } else { format!("{n},") }).collect();
        let mut parts: Vec<IoSlice<'_>> = texts.iter().map(|t| IoSlice::new(t.as_bytes())).collect();
        file.write_at(&mut parts, 5).unwrap();
        let whole = texts.concat();
        assert_eq!(file.length().unwrap(), 5 + whole.len() as u64);
        let mut read = vec![0; whole.len() + 100];
        assert_eq!(disk.open(&path).unwrap().read_at(&mut read, 5).unwrap(), whole.len());
        assert_eq!(&read[..whole.len()], whole.as_bytes());
        file.write_at(&mut [], 5).unwrap();
        file.write_at(&mut [IoSlice::new(b"")], 5).unwrap();
        file.set_length(7).unwrap();
        match file.allocate(10_000) {
            Ok(()) => assert_eq!(file.length().unwrap(), 10_000),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported),
        }
        file.sync().unwrap();
        disk.sync_dir(&below).unwrap();
        assert_eq!(disk.list(&below).unwrap(), ["f"]);
        disk.remove(&path).unwrap();
        assert!(disk.list(&below).unwrap().is_empty());
        assert!(disk.available_bytes(&below).unwrap() > 0);
        let held = disk.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(disk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(disk.lock(&path).unwrap().is_some());
    }
}
