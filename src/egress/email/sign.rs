//! Asking for a signature, and keeping it for the mail's other lanes and its retries.
//!
//! **Promises.** Signing runs off the runtime's threads, at most [`SIGNING_MAX`] at a time. Kept signatures are bounded in
//! number, size and age. What a signer returns is checked: it must be whole lines, or it is not sent.
//!
//! **Does not know** DKIM: that is `mail`'s.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Mono;
use crate::model::{Envelope, MailData, MessageId};

/// Signatures made at the same time: more than there are cores would only delay each other.
const SIGNING_MAX: usize = 4;
/// Signatures kept.
const KEPT_MAX: usize = 4096;
/// Longest signature block kept; two signatures take some 1.2 KiB. 4,096 × 4 KiB is 16 MiB at the very most.
const KEPT_BYTES_MAX: usize = 4096;
/// A signature is made anew after this, so that a retired key is not used for long.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// Signs mail.
pub trait Sign: Send + Sync {
    /// True if this mail is to be signed; cheap, asked for every mail.
    fn applies(&self, envelope: &Envelope, data: &MailData) -> bool;

    /// The header fields to put in front of the mail, each ended by CRLF; may be empty. Spends CPU: runs on a blocking
    /// thread.
    ///
    /// # Errors
    /// [`SignError`]; the mail is delayed then, not sent unsigned.
    fn sign(&self, envelope: &Envelope, data: &MailData) -> Result<Bytes, SignError>;
}

/// Why a mail could not be signed; in words for an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignError(pub String);

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SignError {}

/// Signs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSigner;

impl Sign for NoSigner {
    fn applies(&self, _envelope: &Envelope, _data: &MailData) -> bool {
        false
    }

    fn sign(&self, _envelope: &Envelope, _data: &MailData) -> Result<Bytes, SignError> {
        Ok(Bytes::new())
    }
}

/// The signer, its share of the machine, and what it made lately.
pub(super) struct Signing {
    signer: Arc<dyn Sign>,
    slots: Semaphore,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<MessageId, (MailData, Mono)>,
    oldest_first: VecDeque<MessageId>,
}

impl Signing {
    pub(super) fn new(signer: Arc<dyn Sign>) -> Self {
        Self { signer, slots: Semaphore::new(SIGNING_MAX), kept: Mutex::default() }
    }

    /// The signature block of a mail, if it has one. `again` says that the mail may come by more than once.
    ///
    /// # Errors
    /// [`SignError`].
    pub(super) async fn signature(
        &self,
        envelope: &Arc<Envelope>,
        data: &MailData,
        again: bool,
        now: Mono,
    ) -> Result<Option<MailData>, SignError> {
        if !self.signer.applies(envelope, data) {
            return Ok(None);
        }
        if again && let Some(kept) = self.kept(envelope.id, now) {
            return Ok(Some(kept));
        }
        let made = self.made(envelope.clone(), data.clone()).await?;
        if made.is_empty() {
            return Ok(None);
        }
        let block = MailData::new(made).map_err(|fault| SignError(fault.to_string()))?;
        if !block.bytes().ends_with(b"\n") {
            return Err(SignError("the signature does not end with CRLF".to_owned()));
        }
        if again {
            self.keep(envelope.id, &block, now);
        }
        Ok(Some(block))
    }

    async fn made(&self, envelope: Arc<Envelope>, data: MailData) -> Result<Bytes, SignError> {
        // The semaphore is never closed; were it, signing would go on without a bound.
        let _slot = self.slots.acquire().await.ok();
        let signer = self.signer.clone();
        let signing = tokio::task::spawn_blocking(move || signer.sign(&envelope, &data));
        signing.await.unwrap_or_else(|_| Err(SignError("the signer failed".to_owned())))
    }

    fn kept(&self, id: MessageId, now: Mono) -> Option<MailData> {
        let kept = self.kept.lock();
        kept.by_id.get(&id).filter(|(_, made)| now.since(*made) < KEPT_FOR).map(|(block, _)| block.clone())
    }

    fn keep(&self, id: MessageId, block: &MailData, now: Mono) {
        if block.len() > KEPT_BYTES_MAX {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.by_id.insert(id, (block.clone(), now)).is_none() {
            kept.oldest_first.push_back(id);
        }
        while kept.by_id.len() > KEPT_MAX {
            let Some(oldest) = kept.oldest_first.pop_front() else { break };
            kept.by_id.remove(&oldest);
        }
    }

    /// Keeps a signature after all: its mail will be tried again.
    pub(super) fn keep_for_retry(&self, id: MessageId, block: &MailData, now: Mono) {
        if self.kept(id, now).is_none() {
            self.keep(id, block, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn kept_signatures_are_bounded_in_number_size_and_age() {
        let signing = Signing::new(Arc::new(NoSigner));
        let block = MailData::new(Bytes::from_static(b"S: 1\r\n")).unwrap();
        let ids: Vec<_> = (0..=KEPT_MAX).map(|_| MessageId::new(Timestamp(1))).collect();
        ids.iter().for_each(|id| signing.keep(*id, &block, Mono(0)));
        assert!(signing.kept(ids[0], Mono(0)).is_none(), "the oldest makes room");
        assert!(signing.kept(ids[1], Mono(0)).is_some());
        let kept = signing.kept.lock();
        assert_eq!((kept.by_id.len(), kept.oldest_first.len()), (KEPT_MAX, KEPT_MAX));
        drop(kept);

        let last = ids[KEPT_MAX];
        assert!(signing.kept(last, Mono(0).plus(KEPT_FOR)).is_none(), "too old");
        signing.keep_for_retry(last, &block, Mono(0).plus(KEPT_FOR));
        assert!(signing.kept(last, Mono(0).plus(KEPT_FOR)).is_some(), "made anew");
        assert_eq!(signing.kept.lock().oldest_first.len(), KEPT_MAX);

        let (large, id) = (MailData::new(vec![b'a'; KEPT_BYTES_MAX + 1].into()).unwrap(), MessageId::new(Timestamp(1)));
        signing.keep(id, &large, Mono(0));
        assert!(signing.kept(id, Mono(0)).is_none(), "too large");
    }
}
