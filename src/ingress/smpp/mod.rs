//! SMPP in: applications bind as ESMEs (SMPP 3.4), submit texts, and are brought receipts and what handsets answer.
//!
//! **What.** [`SmppServer`] accepts connections and drives a [`wire::smpp::server`](crate::wire::smpp::server) session over each
//! (`link`); `part` reads a `submit_sm`, `taking` hands texts to the queue, joining long ones, [`outbox`] keeps what is to be
//! brought. `presence` knows what a client has going on over all its binds.
//!
//! **Promises.** Nobody submits without a bind that a password or API key was right for; a refusal never says which names there
//! are. A positive `submit_sm_resp` only from the queue's proof, or the journal's for a part of a long text. What `POST /v1/sms`
//! refuses is refused here. Connections, binds, windows, rates, parts, receipts and every wait have limits in [`Options`] and
//! [`SmppTerms`](crate::policy::SmppTerms).
//!
//! **Shutdown.** The listener closes first; submissions under way get their answer, then the peer is asked to unbind; after
//! [`Options::drain_timeout`] what is left is cut off. What was cut off had no yes, so its client still has it.
//!
//! **Does not know** how texts are stored or sent on.

mod kept;
mod link;
mod options;
pub mod outbox;
mod part;
mod presence;
mod taking;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use options::{Listener, Options};
pub use outbox::Outbox;

use self::part::Part;
use self::presence::Presences;
use crate::clock::SharedClock;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::ingress::backend::Live;
use crate::ingress::slots::Slots;
use crate::ingress::stream::stopped;
use crate::policy::Clients;
use crate::policy::texts::Caps;
use crate::storage::Disk;
use crate::storage::joining::PartsWaiting;

/// Connections the kernel holds for us until we take them.
const BACKLOG: u32 = 1_024;
/// A pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server works with.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The clients; may be swapped.
    pub clients: Arc<ArcSwap<Clients>>,
    /// Queue, credentials and opt-outs.
    pub live: Live,
    /// What numbers have been sent lately.
    pub caps: Caps,
    /// What clients are to be brought.
    pub outbox: Arc<Outbox>,
    /// Where parts that do not become whole are told.
    pub events: EventLog,
    /// The certificate, if there is one; may be swapped.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

/// What all listeners have in common.
pub struct Shared {
    options: Arc<ArcSwap<Options>>,
    clients: Arc<ArcSwap<Clients>>,
    live: Live,
    caps: Caps,
    outbox: Arc<Outbox>,
    events: EventLog,
    tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    parts: PartsWaiting<Part>,
    slots: Slots,
    presences: Presences,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Reads the parts that wait from the file at `parts`. Blocks. Connections are counted over all listeners that share the
    /// result.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: Arc<dyn Disk>,
        parts: &Path,
        options: Arc<ArcSwap<Options>>,
        parties: Parties,
    ) -> io::Result<Arc<Self>> {
        let parts = PartsWaiting::open(disk, parts, options.load().joining_max)?;
        let Parties { clients, live, caps, outbox, events, tls, metrics, clock } = parties;
        let (slots, presences) = (Slots::default(), Presences::default());
        let shared =
            Self { options, clients, live, caps, outbox, events, tls, metrics, clock, parts, slots, presences };
        Ok(Arc::new(shared))
    }

    /// Looks after parts that wait, for as long as the server lives.
    pub fn keep_up(shared: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        taking::keep_up(Arc::downgrade(shared))
    }
}

/// One listener, bound.
#[derive(Debug)]
pub struct SmppServer {
    listener: Listener,
    shared: Arc<Shared>,
    socket: TcpListener,
    local: SocketAddr,
}

impl SmppServer {
    /// Binds a listener. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound; `InvalidInput` for TLS without a certificate.
    pub fn bind(listener: Listener, shared: Arc<Shared>) -> io::Result<Self> {
        let address = listener.address;
        if listener.tls && shared.tls.load().is_none() {
            let why = format!("SMPP listener {address}: TLS needs a certificate");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        Ok(Self { listener, shared, socket, local })
    }

    /// Where it listens; the port is the real one also if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown` turns true, then drains: returns when every link has ended, or `drain_timeout` later.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut links = JoinSet::new();
        let stop = shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => break,
                Some(ended) = links.join_next(), if !links.is_empty() => report(ended),
                taken = self.socket.accept() => match taken {
                    Ok((stream, peer)) => self.take(stream, peer, &stop, &mut links),
                    Err(e) => {
                        tracing::warn!(listener = %self.local, error = %e, "cannot take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let drain_timeout = self.shared.options.load().drain_timeout;
        drop(self.socket);
        let drained = async {
            while let Some(ended) = links.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!(listener = %self.local, links = links.len(), "SMPP links cut off at shutdown");
            links.shutdown().await;
        }
    }

    /// A connection beyond the limits is closed: SMPP has no word for it before a bind.
    fn take(&self, stream: TcpStream, peer: SocketAddr, stop: &watch::Receiver<bool>, links: &mut JoinSet<()>) {
        let options = self.shared.options.load_full();
        let slot = self.shared.slots.claim(peer.ip(), options.connections_max, options.connections_per_peer_max);
        let result = if slot.is_some() { "served" } else { "refused" };
        self.shared.metrics.smpp.connections.with_label_values(&[result]).inc();
        let Some(slot) = slot else {
            tracing::debug!(%peer, "SMPP connection refused: too many");
            return;
        };
        let link = link::serve(stream, peer, self.listener.tls, options, self.shared.clone(), stop.clone());
        links.spawn(async move {
            link.await;
            drop(slot);
        });
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!(error = %e, "an SMPP link panicked");
    }
}
