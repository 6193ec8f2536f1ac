//! Open segments for reading, a bounded number of them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, File};
use super::error::ReadError;
use super::segment;

/// Segments kept open; 64 are 4 GiB of messages, more are opened as they are asked for.
const OPEN_MAX: usize = 64;

/// The segments opened last, newest first. A handle of a segment removed meanwhile does no harm: what is read there does not
/// match, and the table is asked again.
#[derive(Debug, Default)]
pub struct Readers(Mutex<VecDeque<(u64, Arc<dyn File>)>>);

impl Readers {
    /// A segment's file, from before or opened now.
    pub fn open(&self, disk: &dyn Disk, dir: &Path, number: u64) -> Result<Arc<dyn File>, ReadError> {
        {
            let mut open = self.0.lock();
            if let Some(at) = open.iter().position(|(n, _)| *n == number)
                && let Some(entry) = open.remove(at)
            {
                let file = entry.1.clone();
                open.push_front(entry);
                return Ok(file);
            }
        }
        let file = disk.open(&segment::path(dir, number)).map_err(gone)?;
        let mut open = self.0.lock();
        open.push_front((number, file.clone()));
        open.truncate(OPEN_MAX);
        Ok(file)
    }

    /// A segment is gone: its space is free once nobody holds it open.
    pub fn forget(&self, number: u64) {
        self.0.lock().retain(|(n, _)| *n != number);
    }
}

/// The table knew the segment and its file is not there: it has just been removed, for nothing in it was needed.
fn gone(e: io::Error) -> ReadError {
    if e.kind() == ErrorKind::NotFound { ReadError::Gone } else { ReadError::Io(e) }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::FaultyDisk;
    use super::*;

    #[test]
    fn a_bounded_number_stays_open() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("d");
        let readers = Readers::default();
        for number in 0..200 {
            disk.put(&segment::path(dir, number), &[1]);
            readers.open(&*disk, dir, number).unwrap();
            readers.open(&*disk, dir, number / 2).unwrap();
            assert!(readers.0.lock().len() <= OPEN_MAX);
        }
        assert!(matches!(readers.open(&*disk, dir, 999), Err(ReadError::Gone)));
        let before = readers.0.lock().len();
        readers.forget(199);
        assert_eq!(readers.0.lock().len(), before - 1);
    }
}
