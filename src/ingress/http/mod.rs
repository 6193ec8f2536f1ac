//! HTTP ingress: applications hand over mails and texts as JSON (or a mail as it is), and ask what became of them.
//!
//! **What.** `POST /v1/email`, `POST /v1/sms`, `POST /v1/sms/batch`, `POST /v1/sms/preview`, `GET /v1/messages/{id}`, `GET /v1/openapi.json`.
//! [`listen`] serves connections, `intake` takes a submission in, `sms` and `mail` (with `email` for JSON and `raw` for
//! finished mails) make an envelope of it, `preview` says how a text would travel, `problem` words every refusal (RFC 9457).
//!
//! **Promises.** A 202 is made from the queue's proof of durability only. Credentials are checked before a body is read.
//! Connections, heads, bodies, memory and time are bounded ([`Options`]). All wrong fields are named at once; no refusal
//! repeats the words of a text.
//!
//! **Does not know** storage, carriers, or how clients are configured; [`Backend`] is all it sees of the layers below.
//!
//! **Fails how.** Every fault of a peer is a reply; ours are a 500 and an error in the log.

mod auth;
mod batch;
pub(crate) mod body;
mod document;
mod dto;
mod email;
mod intake;
mod json;
pub mod listen;
mod mail;
mod mailboxes;
mod message;
mod options;
mod preview;
pub(crate) mod problem;
mod raw;
mod settings;
mod sms;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use self::body::BodyMemory;
use self::listen::Transport;
use self::problem::{Kind, Problem, Refused};
use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::ingress::accepting;
use crate::policy::texts::Caps;

pub use self::options::{ConnectionLimits, Options};
pub use super::backend::{Acceptance, Backend, Live};

/// What the server shares with the rest of the relay.
#[derive(Debug)]
pub struct Shared<B> {
    /// Queue and credentials; [`Live`] but for tests.
    pub backend: B,
    /// Where requests and refusals are counted.
    pub metrics: Arc<Metrics>,
    /// What numbers have been sent lately.
    pub caps: Caps,
    /// What time it is.
    pub clock: SharedClock,
    /// The TLS settings in force, for `Options::tls`.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
}

/// The HTTP ingress, listening.
#[derive(Debug)]
pub struct HttpServer<B> {
    listener: TcpListener,
    address: SocketAddr,
    app: App<B>,
    tls: bool,
}

impl<B: Backend> HttpServer<B> {
    /// Binds `Options::address`; to be called within a tokio runtime. Connections wait until [`HttpServer::run`].
    ///
    /// # Errors
    /// What the operating system says: the address is taken, or not ours.
    pub fn bind(options: Arc<ArcSwap<Options>>, shared: Shared<B>) -> io::Result<Self> {
        let now = options.load();
        let listener = accepting::listen(now.address)?;
        let address = listener.local_addr()?;
        // One body of the largest size must always find room.
        let memory = BodyMemory::new(now.bodies_bytes_max.max(now.body_bytes_max()));
        let tls = now.tls;
        drop(now);
        Ok(Self { listener, address, app: App { options, shared: Arc::new(shared), memory }, tls })
    }

    /// The address bound, with the port the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` turns true, then lets requests in flight finish within
    /// [`ConnectionLimits::drain_timeout`].
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let transport = if self.tls { Transport::Tls(self.app.shared.tls.clone()) } else { Transport::Plain };
        let options = self.app.options.clone();
        let limits = move || options.load().connections.clone();
        listen::serve(self.listener, router(self.app), transport, limits, shutdown).await;
    }
}

/// What handlers see. Cheap to clone.
#[derive(Debug)]
struct App<B> {
    options: Arc<ArcSwap<Options>>,
    shared: Arc<Shared<B>>,
    memory: BodyMemory,
}

impl<B> Clone for App<B> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), shared: self.shared.clone(), memory: self.memory.clone() }
    }
}

/// Every route served: the router is made from this list, and a test holds the OpenAPI document against it.
fn routes<B: Backend>() -> [(Method, &'static str, MethodRouter<App<B>>); 6] {
    [
        (Method::POST, "/v1/sms", post(sms::submit::<B>)),
        (Method::POST, "/v1/sms/batch", post(batch::submit::<B>)),
        (Method::POST, preview::PATH, post(preview::show::<B>)),
        (Method::POST, "/v1/email", post(mail::submit::<B>)),
        (Method::GET, "/v1/messages/{id}", get(message::show::<B>)),
        (Method::GET, "/v1/openapi.json", get(document::show)),
    ]
}

fn router<B: Backend>(app: App<B>) -> Router {
    let served = routes::<B>().into_iter().fold(Router::new(), |router, (_, path, served)| router.route(path, served));
    served
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "see Allow for the methods served"))
        .fallback(async || Problem::new(Kind::NotFound, "no such route; see /v1/openapi.json"))
        .layer(from_fn_with_state(app.clone(), bounded_and_counted::<B>))
        .with_state(app)
}

/// Around every request: its deadline and its metrics. Labels are routes, never targets, so their number is bounded.
async fn bounded_and_counted<B: Backend>(State(app): State<App<B>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let submission = matched.is_some() && route != preview::PATH && request.method() == Method::POST;
    let deadline = app.options.load().request_timeout;
    let response = match timeout(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(Kind::Unavailable, "no answer in time; it is not known whether the message was accepted")
                .retry_after(std::time::Duration::from_secs(1))
                .into_response()
        }
    };
    let metrics = &app.shared.metrics;
    metrics.http_requests.with_label_values(&[route, response.status().as_str()]).inc();
    if let Some(Refused(reason)) = response.extensions().get().filter(|_| submission) {
        metrics.refused.with_label_values(&["http", *reason]).inc();
    }
    response
}
