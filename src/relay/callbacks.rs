//! Where carriers come to us by HTTP: sockets and bodies here, what it means in `egress::sms::http`.
//!
//! **Promises.** Connections, heads, bodies and time are bounded as they are for applications; bodies take no more memory than all
//! connections with one each. A body is read only for a path that a carrier of ours knows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::egress::sms::Carriers;
use crate::egress::sms::http::{BodyBounds, CallbackAnswer, CallbackRequest, HttpCallbacks};
use crate::event::metrics::Metrics;
use crate::ingress::accepting;
use crate::ingress::http::ConnectionLimits;
use crate::ingress::http::body::{BodyMemory, Bounds};
use crate::ingress::http::listen::{self, Peer, Transport};

/// A listener that one carrier has, or several.
#[derive(Debug)]
pub(super) struct CallbackServer {
    listener: TcpListener,
    local: SocketAddr,
    callbacks: Arc<HttpCallbacks>,
    transport: Transport,
}

impl CallbackServer {
    /// Listens; nobody is answered until [`CallbackServer::run`].
    pub(super) fn bind(
        address: SocketAddr,
        transport: Transport,
        carriers: Carriers,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let listener = accepting::listen(address)?;
        let local = listener.local_addr()?;
        let callbacks = Arc::new(HttpCallbacks::new(address, carriers, metrics));
        Ok(Self { listener, local, callbacks, transport })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until told to stop; then requests in flight are answered.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) {
        let callbacks = self.callbacks.clone();
        let limits = move || {
            let most = callbacks.connections_max();
            ConnectionLimits { total_max: most, per_peer_max: most, ..ConnectionLimits::default() }
        };
        let router = Router::new().fallback(take).with_state(self.callbacks);
        listen::serve(self.listener, router, self.transport, limits, stop).await;
    }
}

async fn take(State(callbacks): State<Arc<HttpCallbacks>>, request: Request) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().map(|peer| peer.ip) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (head, body): (_, Body) = request.into_parts();
    let path = head.uri.path();
    let BodyBounds { bytes_max, timeout } = match callbacks.bounds(peer, path) {
        Ok(bounds) => bounds,
        Err(refused) => return answered(refused),
    };
    let held = match BodyMemory::new(bytes_max).read(body, Bounds { bytes_max, timeout }).await {
        Ok(held) => held,
        Err(problem) => return problem.into_response(),
    };
    let request = CallbackRequest { peer, path, query: head.uri.query(), headers: &head.headers, body: &held.bytes };
    answered(callbacks.take(request).await)
}

fn answered(answer: CallbackAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}
