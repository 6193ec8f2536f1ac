//! A listener: accepts connections, within the limits, and lets a protocol serve each.

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::link::{self, Protocol};
use super::{Options, Parties, Shared};
use crate::ingress::accepting;
use crate::storage::Disk;

/// Where to listen, and how. Fixed while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// TLS from the first octet, with the relay's certificate.
    pub tls: bool,
}

/// One listener, bound.
#[derive(Debug)]
pub struct Server<P> {
    listener: Listener,
    shared: Arc<Shared>,
    socket: TcpListener,
    local: SocketAddr,
    speaks: PhantomData<fn() -> P>,
}

#[allow(private_bounds, reason = "what is spoken is the affair of this module's neighbours")]
impl<P: Protocol> Server<P> {
    /// What all listeners have in common; see [`Shared`]. Reads the parts that wait from the file at `parts`. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: Arc<dyn Disk>,
        parts: &Path,
        options: Arc<ArcSwap<Options>>,
        parties: Parties,
    ) -> io::Result<Arc<Shared>> {
        Shared::open(P::SPEAKS, disk, parts, options, parties)
    }

    /// Binds a listener. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound; `InvalidInput` for TLS without a certificate.
    pub fn bind(listener: Listener, shared: Arc<Shared>) -> io::Result<Self> {
        let address = listener.address;
        if listener.tls && shared.tls.load().is_none() {
            let why = format!("{} listener {address}: TLS needs a certificate", shared.speaks.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let socket = accepting::listen(address)?;
        let local = socket.local_addr()?;
        Ok(Self { listener, shared, socket, local, speaks: PhantomData })
    }

    /// Where it listens; the port is the real one also if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown` turns true, then drains: returns when every link has ended, or `drain_timeout` later.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        const WHAT: &str = "a link";
        let stop = shutdown.clone();
        let take = |stream, peer, links: &mut JoinSet<()>| self.take(stream, peer, &stop, links);
        let links = accepting::accept(&self.socket, self.local, WHAT, shutdown, take).await;
        let drain_timeout = self.shared.options.load().drain_timeout;
        drop(self.socket);
        let cut_off = accepting::drain(links, WHAT, drain_timeout).await;
        if cut_off > 0 {
            let speaks = self.shared.speaks.name();
            tracing::warn!(listener = %self.local, speaks, links = cut_off, "links cut off at shutdown");
        }
    }

    /// A connection beyond the limits is closed: there is no word for it before a bind.
    fn take(&self, stream: TcpStream, peer: SocketAddr, stop: &watch::Receiver<bool>, links: &mut JoinSet<()>) {
        let options = self.shared.options.load_full();
        let slot = self.shared.slots.claim(peer.ip(), options.connections_max, options.connections_per_peer_max);
        let result = if slot.is_some() { "served" } else { "refused" };
        self.shared.metrics().connections.with_label_values(&[result]).inc();
        let Some(slot) = slot else {
            tracing::debug!(%peer, speaks = self.shared.speaks.name(), "connection refused: too many");
            return;
        };
        let link = link::serve::<P>(stream, peer, self.listener.tls, options, self.shared.clone(), stop.clone());
        links.spawn(async move {
            link.await;
            drop(slot);
        });
    }
}
