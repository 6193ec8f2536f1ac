//! SMTP in: listeners, and the connections they take.
//!
//! **What.** [`SmtpServer`] accepts connections and drives a [`wire::smtp::server`](crate::wire::smtp::server) session over
//! each; `session` asks policy, prepares mail and hands it to whoever [`Accept`]s it, the queue.
//!
//! **Promises.** A closed relay: nobody sends who is neither authenticated nor trusted, and clients only as their own
//! domains. 250 to a message only from the acceptor's proof. While a message is made safe nothing more is read, so that TCP
//! holds a fast peer back and no input piles up. Connections, messages, recipients, errors and every wait have limits in
//! [`Options`].
//!
//! **Shutdown.** The listener closes first; idle sessions get 421 4.3.2; a message that is coming in or being committed gets
//! its own reply before that; after `drain_timeout` what is left is cut off. What was cut off had no reply, so its client
//! still has it.
//!
//! **Does not know** how mail is stored or sent on.

mod connections;
mod options;
mod session;
mod submit;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use options::{AuthMode, Listener, Options, TlsMode};

use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::ingress::accepting;
use crate::model::{Responsibility, Submission};
use crate::policy::Clients;
use crate::policy::credentials::Credentials;
use crate::queue::{AcceptError, Accepted, Queue};
use connections::{Connections, Full, Slot};

/// Who takes responsibility for messages: the queue; in tests, something simpler.
pub trait Accept: Clone + Send + Sync + 'static {
    /// Its yes.
    type Accepted: Responsibility + Send + Sync;

    /// Takes a message; returns once it is safe.
    fn accept(&self, submission: Submission) -> impl Future<Output = Result<Self::Accepted, AcceptError>> + Send;
}

impl Accept for Queue {
    type Accepted = Accepted;

    async fn accept(&self, submission: Submission) -> Result<Accepted, AcceptError> {
        Queue::accept(self, submission).await
    }
}

/// What all listeners have in common. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared<A> {
    /// Limits and times; may be swapped.
    pub options: Arc<ArcSwap<Options>>,
    /// The clients; may be swapped.
    pub clients: Arc<ArcSwap<Clients>>,
    /// Checks passwords.
    pub credentials: Credentials,
    /// The certificate, if there is one; may be swapped.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    /// Who takes the messages.
    pub accept: A,
    /// Time.
    pub clock: SharedClock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    connections: Arc<Connections>,
    /// [`crate::mail::prepare`]; this module's tests, which are about sessions, put something simpler here.
    prepare: submit::Prepare,
}

impl<A: Accept> Shared<A> {
    /// Joins the parts. Connections are counted over all listeners that share the result.
    pub fn new(
        options: Arc<ArcSwap<Options>>,
        clients: Arc<ArcSwap<Clients>>,
        credentials: Credentials,
        tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
        accept: A,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (connections, prepare) = (Arc::default(), crate::mail::prepare as submit::Prepare);
        Self { options, clients, credentials, tls, accept, clock, metrics, connections, prepare }
    }
}

/// One listener, bound.
#[derive(Debug)]
pub struct SmtpServer<A> {
    listener: Arc<Listener>,
    shared: Shared<A>,
    socket: TcpListener,
    local: SocketAddr,
}

impl<A: Accept> SmtpServer<A> {
    /// Binds a listener. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound; `InvalidInput` for an implicit-TLS listener without a certificate and for
    /// `plaintext_auth` on an address that is not loopback.
    pub fn bind(listener: Listener, shared: Shared<A>) -> io::Result<Self> {
        let invalid = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let address = listener.address;
        if listener.tls == TlsMode::Implicit && shared.tls.load().is_none() {
            return invalid(format!("listener {address}: implicit TLS needs a certificate"));
        }
        if listener.plaintext_auth && !address.ip().to_canonical().is_loopback() {
            return invalid(format!("listener {address}: plaintext_auth is for loopback addresses only"));
        }
        let socket = accepting::listen(address)?;
        let local = socket.local_addr()?;
        Ok(Self { listener: Arc::new(listener), shared, socket, local })
    }

    /// Where it listens; the port is the real one also if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown` turns true, then drains: returns when every session has ended, or `drain_timeout` later.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        const WHAT: &str = "an SMTP session";
        let stop = shutdown.clone();
        let take = |stream, peer, sessions: &mut JoinSet<()>| self.take(stream, peer, &stop, sessions);
        let sessions = accepting::accept(&self.socket, self.local, WHAT, shutdown, take).await;
        let drain_timeout = self.shared.options.load().drain_timeout;
        drop(self.socket);
        let cut_off = accepting::drain(sessions, WHAT, drain_timeout).await;
        if cut_off > 0 {
            tracing::warn!(listener = %self.local, sessions = cut_off, "sessions cut off at shutdown");
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, stop: &watch::Receiver<bool>, sessions: &mut JoinSet<()>) {
        let options = self.shared.options.load_full();
        let trusted = self.listener.trusts(peer.ip()).is_some();
        let per_peer_max = (!trusted).then_some(options.connections_per_peer_max);
        let taken = &self.shared.metrics.smtp_connections_taken;
        match self.shared.connections.enter(peer.ip(), options.connections_max, per_peer_max) {
            Ok(slot) => {
                taken.with_label_values(&["served"]).inc();
                let open = Open { _slot: slot, gauge: self.shared.metrics.smtp_connections.clone() };
                open.gauge.inc();
                let session =
                    session::serve(stream, peer, options, self.listener.clone(), self.shared.clone(), stop.clone());
                sessions.spawn(async move {
                    session.await;
                    drop(open);
                });
            }
            Err(full) => {
                taken.with_label_values(&["refused"]).inc();
                tracing::debug!(%peer, ?full, "connection refused");
                if self.listener.tls != TlsMode::Implicit {
                    turn_away(stream, &options.hostname, full);
                }
            }
        }
    }
}

/// A connection in the gauge.
struct Open {
    _slot: Slot,
    gauge: prometheus::IntGauge,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Says 421 without waiting: the socket is new, so its buffer has room for a line, and if it has not, the peer goes without.
fn turn_away(stream: TcpStream, hostname: &str, full: Full) {
    use std::io::Write;
    let whose = match full {
        Full::Total => "too many connections",
        Full::Peer => "too many connections from your address",
    };
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(format!("421 {hostname} Service not available: {whose}\r\n").as_bytes());
    }
}
