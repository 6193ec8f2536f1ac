//! Where carriers come to us: a listener for gateways that deliver and report over connections of their own.
//!
//! **Promises.** Only who comes from a carrier's networks, and then says its name and password in time, brings anything; passwords
//! are compared in constant time. Connections that have not bound are as many as all carriers of the listener may have, at most,
//! and each carrier has no more than its own. What a gateway brings is answered as on a link that we made: when it is durable.
//! Carriers are those in force at the moment a gateway binds; with a carrier that is replaced its connections are drained.
//!
//! **Does not know** what is spoken, nor what becomes of what is brought.
//!
//! **Fails how.** A connection that may not stay is closed, told why if there is a way to, and counted. An error of accept is
//! logged and waited out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use prometheus::{IntCounterVec, IntGauge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::carrier::{Carrier, Carriers};
use super::dial::Made;
use super::options::Callback;
use super::protocol::sgip::{Admission, Claim, Visited, Visitor};
use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::net::{self, Stream};

/// Pause after a failed accept: what it failed for does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that one carrier has, or several.
#[derive(Debug)]
pub struct CallbackListener {
    listener: TcpListener,
    local: SocketAddr,
    door: Arc<Door>,
}

/// Who may come in.
#[derive(Debug)]
struct Door {
    /// The address as carriers name it: its port may be 0.
    address: SocketAddr,
    carriers: Carriers,
    clock: SharedClock,
    refused: IntCounterVec,
}

impl CallbackListener {
    /// Listens; nobody is let in until [`CallbackListener::run`]. `carriers` are asked anew for every connection.
    ///
    /// # Errors
    /// The system's, such as an address in use. Must be called inside a tokio runtime.
    pub fn bind(address: SocketAddr, carriers: Carriers, clock: SharedClock, metrics: &Metrics) -> io::Result<Self> {
        let listener = net::listen(address, net::BACKLOG)?;
        let local = listener.local_addr()?;
        let refused = metrics.carrier_callbacks_refused.clone();
        Ok(Self { listener, local, door: Arc::new(Door { address, carriers, clock, refused }) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Lets gateways in until told to stop. Connections that are bound belong to their carriers, and end with those.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut visitors = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                // An error means that whoever started us has ended.
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = visitors.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(patience) = self.door.patience(peer.ip(), visitors.len()) {
                        let door = Arc::clone(&self.door);
                        visitors.spawn(async move {
                            if tokio::time::timeout(patience, door.admit(stream, peer)).await.is_err() {
                                door.refuse(peer, "silent", "no bind within the time allowed");
                            }
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(address = %self.local, %error, "a gateway's connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Door {
    /// The carriers that come here.
    fn of(&self) -> Vec<Arc<Carrier>> {
        let here = |carrier: &&Arc<Carrier>| carrier.callback().is_some_and(|c| c.listen == self.address);
        self.carriers.load().values().filter(here).cloned().collect()
    }

    /// How long a connection from there has to bind; `None` if it is closed at once.
    fn patience(&self, peer: IpAddr, waiting: usize) -> Option<Duration> {
        let carriers = self.of();
        let callbacks: Vec<&Callback> = carriers.iter().filter_map(|carrier| carrier.callback()).collect();
        let from_there = callbacks.iter().filter(|callback| callback.admits(peer));
        let Some(patience) = from_there.map(|callback| callback.bind_timeout).max() else {
            self.refuse((peer, 0).into(), "address", "no carrier's callback_from has this address");
            return None;
        };
        if waiting >= callbacks.iter().map(|callback| callback.connections_max).sum() {
            self.refuse((peer, 0).into(), "full", "too many connections have not bound yet");
            return None;
        }
        Some(patience)
    }

    async fn admit(&self, mut stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let (mut visitor, mut out) = (Visitor::default(), BytesMut::new());
        loop {
            match stream.read_buf(visitor.buffer()).await {
                Ok(0) => return self.refuse(peer, "silent", "closed before it was bound"),
                Ok(_) => {}
                Err(e) => return self.refuse(peer, "silent", &e.to_string()),
            }
            let (mut place, mut reason) = (None, "login");
            let judge = |claim: &Claim<'_>| {
                let (admission, taken) = self.judge(claim, peer.ip());
                place = taken;
                if admission == Admission::Full {
                    reason = "full";
                }
                admission
            };
            let visited = visitor.step(self.clock.now(), self.clock.mono(), judge, &mut out);
            // Whoever does not hear the answer will find out.
            let _ = stream.write_all_buf(&mut out).await;
            match (visited, place) {
                (Visited::Waiting(still), _) => visitor = still,
                (Visited::Admitted(session), Some((carrier, place))) => {
                    tracing::info!(carrier = %carrier.name(), %peer, "a gateway has bound");
                    let (stream, peer) = (Stream::Plain(stream), peer.into());
                    return carrier.serve_callback(Made { stream, peer, session }, place);
                }
                (Visited::Admitted(_), None) => return,
                (Visited::Refused(why), _) => {
                    let _ = stream.shutdown().await;
                    return self.refuse(peer, reason, &why);
                }
            }
        }
    }

    /// Whose gateway it is, if it is one's.
    fn judge(&self, claim: &Claim<'_>, peer: IpAddr) -> (Admission, Option<(Arc<Carrier>, Place)>) {
        let named = self.of().into_iter().find(|carrier| {
            let callback = carrier.callback();
            callback.is_some_and(|c| c.login.as_bytes() == claim.name && c.admits(peer))
        });
        let Some(carrier) = named else { return (Admission::Unknown, None) };
        let Some(callback) = carrier.callback().filter(|c| c.password.matches(claim.password)) else {
            return (Admission::Unknown, None);
        };
        match carrier.callback_place(callback.connections_max) {
            Some(place) => {
                let admission = carrier.options().admission();
                (admission, Some((carrier, place)))
            }
            None => (Admission::Full, None),
        }
    }

    fn refuse(&self, peer: SocketAddr, reason: &str, why: &str) {
        self.refused.with_label_values(&[reason]).inc();
        tracing::warn!(listener = %self.address, peer = %peer.ip(), %why, "a gateway's connection was refused");
    }
}

/// How many connections a carrier has made to us.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicUsize,
    shown: IntGauge,
}

/// One of them, while it lasts.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(shown: IntGauge) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), shown })
    }

    /// One more, if there are fewer than `most`.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.shown.inc();
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.shown.dec();
    }
}
