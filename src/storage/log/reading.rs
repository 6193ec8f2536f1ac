//! Reading records back.
//!
//! What the kernel has in memory is read at once, on the caller's thread; only what has to be waited for goes to a thread that
//! may wait. A hop to such a thread costs more than the read itself, and most of what is read back was written lately.
//!
//! **Fails how.** [`ReadError`]; damage is counted where it is met.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::super::disk::File;
use super::super::record::{Body, Found, HEADER_BYTES, Header};
use super::super::segment::SEGMENT_BYTES_MAX;
use super::super::{Position, ReadError, Stored};
use super::{Front, Log};

/// Read at first when a payload is wanted: most envelopes are shorter.
const PAYLOAD_GUESS_BYTES: usize = 1024;

/// The log as its records are read back.
pub struct Reading<'a> {
    front: &'a Front,
    waits: bool,
    /// Something would have had to be waited for: what came of it is not the truth.
    would_wait: Cell<bool>,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("waits", &self.waits).finish_non_exhaustive()
    }
}

impl Log {
    /// Reads a record back, body included. Does not block the runtime.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, position: Position) -> Result<Stored, ReadError> {
        self.look(move |reading| reading.record(position)).await
    }

    /// Reads a record's payload back, and how many bytes of body it has. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_payload(&self, position: Position) -> Result<(Bytes, u64), ReadError> {
        Reading::new(&self.0, true).payload(position)
    }

    /// Does work that reads the log, where it must be waited for not on a thread of the runtime. It may be begun twice.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn look<T: Send + 'static, E: From<ReadError> + Send + 'static>(
        &self,
        work: impl Fn(&Reading<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        {
            let reading = Reading::new(&self.0, !self.0.disk.may_block());
            let done = work(&reading);
            if !reading.would_wait.get() {
                return done;
            }
        }
        let log = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&Reading::new(&log.0, true))).await;
        done.unwrap_or_else(|e| Err(ReadError::Io(io::Error::other(e)).into()))
    }

    /// Does work that may block, where the disk may block not on a thread of the runtime.
    ///
    /// # Errors
    /// When the work panicked, or the runtime is going down.
    pub async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> io::Result<T> {
        if !self.0.disk.may_block() {
            return Ok(work(self));
        }
        let log = self.clone();
        tokio::task::spawn_blocking(move || work(&log)).await.map_err(io::Error::other)
    }
}

impl<'a> Reading<'a> {
    fn new(front: &'a Front, waits: bool) -> Self {
        Self { front, waits, would_wait: Cell::new(false) }
    }

    /// A record, body included.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn record(&self, position: Position) -> Result<Stored, ReadError> {
        self.counted(position, self.whole(position))
    }

    /// A record's payload, and how many bytes of body it has.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn payload(&self, position: Position) -> Result<(Bytes, u64), ReadError> {
        self.counted(position, self.front_part(position))
    }

    fn counted<T>(&self, position: Position, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(ReadError::Corrupt) = result {
            // Read while its segment was being removed, or even written anew for another use.
            if self.front.table.lock().salt(position.segment).is_none() {
                return Err(ReadError::Gone);
            }
            tracing::error!(?position, "a record is damaged");
            self.front.figures.damaged.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Fills the buffer from there; fewer bytes only at the end of the file.
    fn fill(&self, file: &Arc<dyn File>, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        if self.waits {
            return Ok(file.read_at(buffer, offset)?);
        }
        match file.read_now(buffer, offset)? {
            read if read == buffer.len() => Ok(read),
            _ => Err(self.wait()),
        }
    }

    /// The answer when there would be waiting to do and there must be none.
    fn wait(&self) -> ReadError {
        self.would_wait.set(true);
        ReadError::Io(ErrorKind::WouldBlock.into())
    }

    fn front_part(&self, position: Position) -> Result<(Bytes, u64), ReadError> {
        let (front, offset) = (self.front, u64::from(position.offset));
        let salt = front.table.lock().salt(position.segment).ok_or(ReadError::Gone)?;
        let file = front.readers.open(&*front.disk, &front.directories.segments, position.segment)?;
        let length = position.length.min(SEGMENT_BYTES_MAX) as usize;
        let mut bytes = vec![0; length.min(PAYLOAD_GUESS_BYTES)];
        let read = self.fill(&file, &mut bytes, offset)?;
        let header = Header::decode(&bytes[..read], &salt, position.offset).ok_or(ReadError::Corrupt)?;
        let covered = header.covered_bytes();
        if HEADER_BYTES + covered > read {
            bytes.resize(length.min(HEADER_BYTES + covered), 0);
            let rest = self.fill(&file, &mut bytes[read..], offset + read as u64)?;
            bytes.truncate(read + rest);
        }
        let behind = bytes.get(HEADER_BYTES..HEADER_BYTES + covered).ok_or(ReadError::Corrupt)?;
        if crc32fast::hash(behind) != header.payload_crc {
            return Err(ReadError::Corrupt);
        }
        let payload = Bytes::copy_from_slice(&behind[..header.payload_bytes as usize]);
        Ok((payload, u64::from(header.body.bytes().unwrap_or_default())))
    }

    fn whole(&self, position: Position) -> Result<Stored, ReadError> {
        let front = self.front;
        let salt = front.table.lock().salt(position.segment).ok_or(ReadError::Gone)?;
        if position.length > SEGMENT_BYTES_MAX {
            return Err(ReadError::Corrupt);
        }
        let file = front.readers.open(&*front.disk, &front.directories.segments, position.segment)?;
        let mut bytes = vec![0; position.length as usize];
        let read = self.fill(&file, &mut bytes, u64::from(position.offset))?;
        let found = Found::decode(&bytes[..read], &salt, position.offset).ok_or(ReadError::Corrupt)?;
        if !found.payload_intact || !found.body_intact {
            return Err(ReadError::Corrupt);
        }
        let bytes = Bytes::from(bytes);
        let body = match (found.header.body, found.file) {
            (Body::File { .. }, Some(_)) if !self.waits => return Err(self.wait()),
            (Body::File { bytes, crc }, Some(file)) => {
                Some(file.read(&*front.disk, &front.directories.bodies, bytes, crc)?)
            }
            (Body::Inline { .. }, _) => Some(bytes.slice(found.behind)),
            _ => None,
        };
        let Header { kind, key, about, .. } = found.header;
        Ok(Stored { kind, key, about, payload: bytes.slice(found.payload), body })
    }
}
