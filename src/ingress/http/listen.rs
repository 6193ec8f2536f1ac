//! Serving a router to connections nobody vouches for. The operators' endpoint is served by the same code.
//!
//! **Promises.** Connections are bounded in all and per peer; heads, handshakes and writes have deadlines. When told to
//! stop, it takes no new connection, lets requests in flight finish within the drain time, and returns. A refusal sent
//! before the whole body was read still reaches the peer (the connection lingers for a moment).
//!
//! **Does not know** routes, clients or messages.
//!
//! **Fails how.** A broken connection ends alone; an error of accept (no descriptors left) is logged and waited out.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::options::ConnectionLimits;
use super::stream::Patient;
use crate::ingress::slots::{Slot, Slots};

/// Who is at the other end; every request carries it as an extension.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, IPv4 in its own form.
    pub ip: IpAddr,
    /// TLS version and cipher suite, when the connection has TLS.
    pub tls: Option<Arc<str>>,
}

/// What a connection speaks below HTTP.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS, with whatever certificate is current; none: the connection is closed.
    Tls(Arc<ArcSwapOption<rustls::ServerConfig>>),
}

/// Serves `router` until `shutdown` turns true (or its sender is gone), then drains. `limits` is asked anew for every
/// connection.
pub async fn serve<L>(
    listener: TcpListener,
    router: Router,
    transport: Transport,
    limits: L,
    mut shutdown: watch::Receiver<bool>,
) where
    L: Fn() -> ConnectionLimits,
{
    let slots = Slots::default();
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = told_to_stop(&mut shutdown) => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            taken = listener.accept() => taken,
        };
        match taken {
            Ok((stream, peer)) => {
                let ip = peer.ip().to_canonical();
                let limits = limits();
                let Some(slot) = slots.claim(ip, limits.total_max, limits.per_peer_max) else {
                    turn_away(&stream, &transport);
                    continue;
                };
                let connection = Connection { ip, limits, slot, router: router.clone(), shutdown: shutdown.clone() };
                connections.spawn(connection.run(stream, transport.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "HTTP connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(connections, limits().drain_timeout).await;
}

/// Resolves once `shutdown` is true or nobody is left who could say so.
pub async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: whoever started us has ended.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn drain(mut connections: JoinSet<()>, patience: Duration) {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(patience, all_ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "HTTP connections cut off at the end of the drain time");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "HTTP connection ended by a fault of ours");
    }
}

/// Tells a peer beyond the limits so, if that takes no waiting.
fn turn_away(stream: &TcpStream, transport: &Transport) {
    if matches!(transport, Transport::Plain) {
        let _ = stream.try_write(TURNED_AWAY);
    }
}

struct Connection {
    ip: IpAddr,
    limits: ConnectionLimits,
    slot: Slot,
    router: Router,
    shutdown: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: TcpStream, transport: Transport) {
        // Replies are small and whole; waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, self.limits.write_timeout);
        match transport {
            Transport::Plain => self.http(stream, None).await,
            Transport::Tls(current) => {
                let Some(config) = current.load_full() else {
                    tracing::warn!(peer = %self.ip, "HTTPS connection refused: no certificate is loaded");
                    return;
                };
                let handshake = TlsAcceptor::from(config).accept(stream);
                match timeout(self.limits.handshake_timeout, handshake).await {
                    Ok(Ok(stream)) => {
                        let parameters = tls_parameters(stream.get_ref().1);
                        self.http(stream, Some(parameters)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(peer = %self.ip, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(peer = %self.ip, "TLS handshake timed out"),
                }
            }
        }
    }

    async fn http<S>(self, stream: S, tls: Option<Arc<str>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { ip, limits, slot: _slot, router, mut shutdown } = self;
        let peer = Peer { ip, tls };
        let service = service_fn(move |mut request: Request<Incoming>| -> Answer {
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().call(request.map(Body::new));
            Box::pin(answer)
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
            .max_headers(limits.headers_max)
            .serve_connection(TokioIo::new(stream), service);
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
                () = told_to_stop(&mut shutdown), if !stopping => {
                    stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %ip, %error, "HTTP connection ended");
        }
        linger(connection.into_parts().io.into_inner()).await;
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, std::convert::Infallible>> + Send>>;

/// Closes our side and reads on for a moment. Closing with unread bytes makes the kernel reset the connection, and the
/// peer would lose the reply that told it why (RFC 9112 section 9.6).
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut discarded = [0; 4096];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, until_closed).await;
}

fn tls_parameters(connection: &rustls::ServerConnection) -> Arc<str> {
    let version = connection.protocol_version().and_then(|v| v.as_str()).unwrap_or("TLS");
    match connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str()) {
        Some(suite) => format!("{version} {suite}").into(),
        None => version.into(),
    }
}

/// Pause after a failed accept: what it failed for (descriptors, memory) does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a closed connection is read from.
const LINGER: Duration = Duration::from_secs(2);
/// hyper takes no smaller read buffer.
const HEADER_BYTES_MIN: usize = 8 * 1024;
/// What a peer beyond the limits is told.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\ncontent-length: 93\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
    {\"type\":\"urn:postrider:problem:busy\",\"title\":\"Too many connections\",\"status\":503,\"detail\":\"\"}";
