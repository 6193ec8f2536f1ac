//! Where what carriers bring goes in these tests, and who takes what they are brought.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;

/// A carrier's responsibility for a text.
pub(super) struct Simulated;

impl Responsibility for Simulated {
    fn message_id(&self) -> MessageId {
        MessageId::new(Timestamp(0))
    }
}

/// Keeps receipts and messages from handsets; each is durable when the test gives it a permit.
pub(in crate::egress::sms) struct Sink {
    pub(in crate::egress::sms) permits: Semaphore,
    pub(in crate::egress::sms) begun: AtomicUsize,
    pub(in crate::egress::sms) kept: Mutex<Vec<Receipt>>,
    pub(in crate::egress::sms) heard: Mutex<Vec<HandsetMessage>>,
    fails: Option<InboundError>,
}

impl Sink {
    pub(in crate::egress::sms) fn new(permits: usize, fails: Option<InboundError>) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(permits),
            begun: AtomicUsize::new(0),
            kept: Mutex::default(),
            heard: Mutex::default(),
            fails,
        })
    }

    async fn pass(&self) -> Result<(), InboundError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.fails.map_or(Ok(()), Err)
    }
}

impl Inbound for Sink {
    fn receipt(&self, receipt: Receipt) -> Taking<'_> {
        Box::pin(async move {
            self.pass().await?;
            self.kept.lock().push(receipt);
            Ok(())
        })
    }

    fn handset(&self, message: HandsetMessage) -> Taking<'_> {
        Box::pin(async move {
            self.pass().await?;
            self.heard.lock().push(message);
            Ok(())
        })
    }
}
