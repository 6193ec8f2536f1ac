//! The embedded far ends, started and stopped: a mail sink and a carrier simulator, and what arrives at either.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Failure;
use crate::peers::carrier::{self, CarrierSim, ReceivedText};
use crate::peers::mail_sink::{self, Counter, Kept, MailSink};

/// Messages that may wait to be shown; then senders wait.
const ARRIVALS_MAX: usize = 16;

/// A message at one of the ends.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A mail.
    Mail(Kept),
    /// A text, put together.
    Text(ReceivedText),
}

/// Where the ends put what arrives.
#[derive(Clone, Debug)]
pub(super) struct Inlet {
    /// Mails.
    pub(super) mails: mpsc::Sender<Kept>,
    /// Texts.
    pub(super) texts: mpsc::Sender<ReceivedText>,
}

/// What has arrived at either end.
#[derive(Debug)]
pub(super) struct Arrivals {
    mails: mpsc::Receiver<Kept>,
    texts: mpsc::Receiver<ReceivedText>,
}

impl Arrivals {
    pub(super) fn new() -> (Inlet, Self) {
        let ((mails, mails_out), (texts, texts_out)) = (mpsc::channel(ARRIVALS_MAX), mpsc::channel(ARRIVALS_MAX));
        (Inlet { mails, texts }, Self { mails: mails_out, texts: texts_out })
    }

    /// The next one; `None` once both ends are gone.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        tokio::select! {
            Some(mail) = self.mails.recv() => Some(Arrival::Mail(mail)),
            Some(text) = self.texts.recv() => Some(Arrival::Text(text)),
            else => None,
        }
    }
}

/// A mail sink that runs.
#[derive(Debug)]
pub(super) struct MailEnd {
    address: SocketAddr,
    counter: Counter,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl MailEnd {
    pub(super) async fn start(options: mail_sink::Options) -> Result<Self, Failure> {
        let wanted = options.address;
        let sink = MailSink::bind(options)
            .await
            .map_err(|e| Failure::Failed(format!("the mail sink cannot listen on {wanted}: {e}")))?;
        let (stop, stopped) = watch::channel(false);
        let (address, counter) = (sink.local_addr(), sink.counter());
        Ok(Self { address, counter, stop, running: tokio::spawn(sink.run(stopped)) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn counts(&self) -> mail_sink::Counts {
        self.counter.read()
    }

    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.running.await;
    }
}

/// A carrier simulator that runs.
#[derive(Debug)]
pub(super) struct CarrierEnd {
    address: SocketAddr,
    carrier: Arc<CarrierSim>,
    stop: watch::Sender<bool>,
    running: JoinHandle<std::io::Result<()>>,
}

impl CarrierEnd {
    pub(super) async fn start(options: carrier::Options) -> Result<Self, Failure> {
        let wanted = options.address.clone();
        let failed = |e| Failure::Failed(format!("the carrier simulator cannot listen on {wanted}: {e}"));
        let carrier = Arc::new(CarrierSim::bind(options).await.map_err(failed)?);
        let address = carrier.local_addr().map_err(failed)?;
        let (stop, mut stopped) = watch::channel(false);
        let runs = carrier.clone();
        let running = tokio::spawn(async move {
            // Told to stop, or the end itself is gone: both are the end.
            runs.run(async move { drop(stopped.wait_for(|stop| *stop).await) }).await
        });
        Ok(Self { address, carrier, stop, running })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn counts(&self) -> carrier::Counts {
        self.carrier.counts()
    }

    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.running.await;
    }
}
