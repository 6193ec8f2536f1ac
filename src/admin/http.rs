//! `/metrics` (Prometheus), `/healthz` (the process serves), `/readyz` (messages are accepted); and below `/v1` the
//! operators' API, which is [`api`]'s.
//!
//! **Promises.** What is served here itself is only read; it needs no credentials and shows no address, no content and no
//! secret. Served by the same bounded code as the applications' endpoint, over plain HTTP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::api::{self, Api};
use super::{Readiness, Reason};
use crate::event::metrics::Metrics;
use crate::ingress::accepting;
use crate::ingress::http::ConnectionLimits;
use crate::ingress::http::listen::{self, Transport};
use crate::model::Secret;

/// Settings of the operators' endpoint. All but `address` and `bodies_bytes_max` may change while it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. Taken at start.
    pub address: SocketAddr,
    /// What must be shown to use the API; `None`: nobody may use it.
    pub token: Option<Secret>,
    /// Largest body of a request, in bytes; beyond it 413.
    pub body_bytes_max: usize,
    /// Memory for request bodies of all connections together, in bytes; beyond it 503. Taken at start.
    pub bodies_bytes_max: usize,
    /// Time for a request's body to arrive; then 408.
    pub body_timeout: Duration,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8026)),
            token: None,
            body_bytes_max: 64 * 1024,
            bodies_bytes_max: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            connections: ConnectionLimits {
                total_max: 64,
                per_peer_max: 32,
                drain_timeout: Duration::from_secs(1),
                ..ConnectionLimits::default()
            },
        }
    }
}

/// Refreshes gauges that are read rather than counted, just before they are shown. Must be quick.
pub type Refresh = Box<dyn Fn() + Send + Sync>;

/// What the endpoint shows.
pub struct Shown {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether messages are accepted.
    pub readiness: Readiness,
    /// Called before the metrics are rendered.
    pub refresh: Vec<Refresh>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// The operators' endpoint, listening.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    options: Arc<ArcSwap<Options>>,
    shown: Arc<Shown>,
    api: Api,
}

impl AdminServer {
    /// Binds `Options::address`; to be called within a tokio runtime.
    ///
    /// # Errors
    /// What the operating system says: the address is taken, or not ours.
    pub fn bind(options: Arc<ArcSwap<Options>>, shown: Shown, api: Api) -> io::Result<Self> {
        let listener = accepting::listen(options.load().address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, options, shown: Arc::new(shown), api })
    }

    /// The address bound, with the port the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` turns true.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .with_state(self.shown)
            .nest("/v1", api::router(self.api, self.options.clone()));
        let limits = move || self.options.load().connections.clone();
        listen::serve(self.listener, router, Transport::Plain, limits, shutdown).await;
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    for refresh in &shown.refresh {
        refresh();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shown.metrics.render()).into_response()
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<Reason>,
}

async fn readyz(State(shown): State<Arc<Shown>>) -> Response {
    let reasons = shown.readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, reasons })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_shown() {
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::starting();
        let refreshed = metrics.clone();
        let refresh: Vec<Refresh> = vec![Box::new(move || refreshed.leased.set(7))];
        let options = Options { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Options::default() };
        let shown = Shown { metrics, readiness: readiness.clone(), refresh };
        let api = super::super::api::tests::fake();
        let server = AdminServer::bind(Arc::new(ArcSwap::from_pointee(options)), shown, api).unwrap();
        let address = server.local_addr();
        let (stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(server.run(shutdown));

        let reply = get(address, "/readyz").await;
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
        assert!(reply.ends_with(r#"{"ready":false,"reasons":["starting"]}"#), "{reply}");
        readiness.clear(Reason::Starting);
        let reply = get(address, "/readyz").await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        assert!(reply.ends_with(r#"{"ready":true,"reasons":[]}"#), "{reply}");
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/metrics").await.contains("postrider_leased_consignments 7"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        let reply = get(address, "/v1/status").await;
        assert!(reply.starts_with("HTTP/1.1 403 ") && reply.contains("no token is configured"), "{reply}");

        stop.send(true).unwrap();
        running.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
