//! Where carriers come to us by HTTP: sockets and bodies here, what it means in `egress::sms::http`.
//!
//! **Promises.** Connections, heads, bodies and time are bounded as they are for applications. A body is read only for a path that a
//! carrier of ours knows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::egress::sms::Carriers;
use crate::egress::sms::http::{CallbackAnswer, CallbackRequest, HttpCallbacks};
use crate::event::metrics::Metrics;
use crate::ingress::accepting;
use crate::ingress::http::ConnectionLimits;
use crate::ingress::http::body::{BodyMemory, Bounds};
use crate::ingress::http::listen::{self, Peer, Transport};

/// Memory for the bodies of all requests of one place together, in bytes; the largest that one may have fits.
const BODIES_BYTES_MAX: usize = 32 << 20;
/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A listener that one carrier has, or several.
#[derive(Debug)]
pub(super) struct CallbackServer {
    listener: TcpListener,
    local: SocketAddr,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    callbacks: HttpCallbacks,
    memory: BodyMemory,
}

impl CallbackServer {
    /// Listens; nobody is answered until [`CallbackServer::run`].
    pub(super) fn bind(address: SocketAddr, carriers: Carriers, metrics: &Metrics) -> io::Result<Self> {
        let listener = accepting::listen(address)?;
        let local = listener.local_addr()?;
        let callbacks = HttpCallbacks::new(address, carriers, metrics);
        let place = Arc::new(Place { callbacks, memory: BodyMemory::new(BODIES_BYTES_MAX) });
        Ok(Self { listener, local, place })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until told to stop; then requests in flight are answered.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) {
        let place = self.place.clone();
        let limits = move || {
            let most = place.callbacks.connections_max();
            ConnectionLimits { total_max: most, per_peer_max: most, ..ConnectionLimits::default() }
        };
        let router = Router::new().fallback(take).with_state(self.place);
        listen::serve(self.listener, router, Transport::Plain, limits, stop).await;
    }
}

async fn take(State(place): State<Arc<Place>>, request: Request) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().map(|peer| peer.ip) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (head, body): (_, Body) = request.into_parts();
    let path = head.uri.path();
    let bytes_max = match place.callbacks.bytes_max(peer, path) {
        Ok(bytes_max) => bytes_max,
        Err(refused) => return answered(refused),
    };
    let held = match place.memory.read(body, Bounds { bytes_max, timeout: BODY_TIMEOUT }).await {
        Ok(held) => held,
        Err(problem) => return problem.into_response(),
    };
    let request = CallbackRequest { peer, path, query: head.uri.query(), headers: &head.headers, body: &held.bytes };
    answered(place.callbacks.take(request).await)
}

fn answered(answer: CallbackAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}
