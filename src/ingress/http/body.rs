//! Reading request bodies within bounds: of size, of time, and of memory over all connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::{Kind, Problem};

/// Memory for the bodies of all requests in flight. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>);

/// A body with its share of the memory, which it gives back when dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    /// The bytes.
    pub(crate) bytes: Bytes,
    share: Share,
}

#[derive(Debug)]
struct Share {
    memory: BodyMemory,
    held: Option<OwnedSemaphorePermit>,
}

/// Bounds on one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most bytes.
    pub(crate) bytes_max: usize,
    /// Time for all of it to arrive.
    pub(crate) timeout: Duration,
}

impl BodyMemory {
    /// Memory for `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))))
    }

    /// Reads a whole body.
    pub(crate) async fn read(&self, body: Body, bounds: Bounds) -> Result<HeldBody, Problem> {
        if body.size_hint().lower() > bounds.bytes_max as u64 {
            return Err(too_large(bounds.bytes_max));
        }
        match timeout(bounds.timeout, self.collect(body, bounds.bytes_max)).await {
            Ok(read) => read,
            Err(_) => Err(Problem::new(Kind::Slow, "the body did not arrive in time")),
        }
    }

    async fn collect(&self, mut body: Body, bytes_max: usize) -> Result<HeldBody, Problem> {
        let mut share = Share { memory: self.clone(), held: None };
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|_| Problem::new(Kind::Malformed, "the body broke off"))?;
            let Ok(chunk) = frame.into_data() else { continue };
            let length = first.len() + joined.len() + chunk.len();
            if length > bytes_max {
                return Err(too_large(bytes_max));
            }
            share.grow(chunk.len())?;
            if length == chunk.len() {
                // Most bodies are one chunk; those are not copied.
                first = chunk;
                continue;
            }
            if joined.is_empty() {
                joined.reserve(length.max(expected(&body, length).min(bytes_max)));
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&chunk);
        }
        Ok(HeldBody { bytes: if joined.is_empty() { first } else { joined.freeze() }, share })
    }
}

impl HeldBody {
    /// Takes the bytes out; the share must be kept while they are in memory.
    pub(super) fn into_parts(self) -> (Bytes, impl Send + use<>) {
        (self.bytes, self.share)
    }
}

impl Share {
    /// A share grows with what has arrived, not with what was announced: an announcement costs a peer nothing.
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = u32::try_from(bytes).ok().and_then(|n| self.memory.0.clone().try_acquire_many_owned(n).ok());
        let more =
            more.ok_or_else(|| Problem::new(Kind::Busy, "too many large requests at once").retry_after(MEMORY_RETRY))?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// What is still to come, as announced, on top of what is here; trusted up to a point only.
fn expected(body: &Body, here: usize) -> usize {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0).min(RESERVE_BYTES_MAX);
    here.saturating_add(announced)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("a request body may have {bytes_max} bytes"))
}

/// Most memory reserved on a mere announcement.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// When to come back while bodies use up the memory.
const MEMORY_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 10, timeout: Duration::from_secs(30) };

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_bound_and_no_larger() {
        let memory = BodyMemory::new(100);
        let read = memory.read(Body::from("0123456789"), BOUNDS).await.unwrap();
        assert_eq!(&read.bytes[..], b"0123456789");
        let refused = memory.read(Body::from("0123456789a"), BOUNDS).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::TooLarge);
    }

    #[tokio::test]
    async fn memory_is_shared_and_given_back() {
        let memory = BodyMemory::new(15);
        let held = memory.read(Body::from("0123456789"), BOUNDS).await.unwrap();
        assert_eq!(memory.read(Body::from("0123456789"), BOUNDS).await.unwrap_err().kind(), Kind::Busy);
        assert!(memory.read(Body::from("01234"), BOUNDS).await.is_ok());
        let (bytes, share) = held.into_parts();
        drop(bytes);
        assert!(memory.read(Body::from("0123456789"), BOUNDS).await.is_err());
        drop(share);
        assert!(memory.read(Body::from("0123456789"), BOUNDS).await.is_ok());
    }
}
