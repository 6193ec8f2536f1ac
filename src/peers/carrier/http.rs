//! The simulated carrier by HTTP: takes JSON as `config/http/generic.toml` says it, and brings receipts and what handsets answer to the
//! URLs that came with each text.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::faults::{ANSWER_LAG, Fault};
use super::handsets::ReplyPart;
use super::receipts::{Spoken, Waiting};
use super::talk::{Party, Verdict};
use super::{ReceivedText, Shared, count};
use crate::model::ReceiptState;

/// Largest body taken.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a head may take to arrive, and a connection may rest.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long bringing one thing may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Things brought at a time.
const CALLS_MAX: usize = 16;

/// What becomes of a request.
enum Answer {
    Said(StatusCode, Value),
    /// Said, but not what was agreed.
    Garbage,
    /// The connection is cut instead.
    Cut,
    /// Nothing, ever.
    Silence,
}

/// A text as it was submitted.
struct Submitted {
    from: String,
    to: String,
    text: String,
    receipt_url: Option<Arc<str>>,
    message_url: Option<Arc<str>>,
}

/// A connection was ended on purpose.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended on purpose")
    }
}

impl std::error::Error for Ended {}

/// Serves a connection that a client has made until either side ends it; `link` is its number.
pub(super) async fn serve(stream: TcpStream, link: u64, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { answer(request.map(Body::new), link, &shared).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever ended it, there is nobody left to tell.
    let _ = connection.await;
}

async fn answer(request: Request<Body>, link: u64, shared: &Arc<Shared>) -> Result<Response<Body>, Ended> {
    let (status, body) = match judge(request, link, shared).await {
        Answer::Said(status, value) => (status, value.to_string()),
        Answer::Garbage => (StatusCode::OK, "<html><body>It works!</body></html>".to_owned()),
        Answer::Cut => return Err(Ended),
        Answer::Silence => std::future::pending().await,
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn judge(request: Request<Body>, link: u64, shared: &Arc<Shared>) -> Answer {
    let error = |status, code: &str| Answer::Said(status, json!({"error": {"code": code, "message": code}}));
    let bearer =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let options = &shared.options;
    if !options.system_id.is_empty() && !bearer.is_some_and(|key| options.password.matches(key)) {
        count(&shared.counters.binds_refused);
        return error(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    let octets = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.unwrap_or_default();
    let Some(text) = submitted(&octets) else { return error(StatusCode::BAD_REQUEST, "bad_text") };
    let nth = shared.counters.submissions.fetch_add(1, Ordering::Relaxed) + 1;
    let faulty = |fault: bool| {
        if fault {
            count(&shared.counters.faults);
        }
        fault
    };
    if faulty(options.faults.breaks(nth)) {
        return Answer::Said(StatusCode::INTERNAL_SERVER_ERROR, json!({}));
    }
    if let Some(verdict) = shared.judge(nth, Spoken::Http) {
        return match verdict {
            Verdict::Throttled => error(StatusCode::TOO_MANY_REQUESTS, "throttled"),
            Verdict::Refused => error(StatusCode::BAD_REQUEST, "bad_number"),
            Verdict::QueueFull | Verdict::NotBound | Verdict::BadlyMade => {
                error(StatusCode::SERVICE_UNAVAILABLE, "busy")
            }
        };
    }
    let id = take(text, link, shared).await;
    let early = options.faults.has(Fault::ReceiptBeforeAnswer);
    tokio::time::sleep(if early { options.latency.max(ANSWER_LAG) } else { options.latency }).await;
    if faulty(options.faults.silences(nth)) {
        Answer::Silence
    } else if faulty(options.faults.cuts(nth)) {
        Answer::Cut
    } else if faulty(options.faults.garbles(nth)) {
        Answer::Garbage
    } else {
        Answer::Said(StatusCode::ACCEPTED, json!({"id": id.to_string()}))
    }
}

fn submitted(octets: &[u8]) -> Option<Submitted> {
    let value: Value = serde_json::from_slice(octets).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let to = text("to")?.trim_start_matches('+').to_owned();
    Some(Submitted {
        from: text("from").unwrap_or_default().trim_start_matches('+').to_owned(),
        to,
        text: text("text")?,
        receipt_url: text("receipt_url").map(Into::into),
        message_url: text("message_url").map(Into::into),
    })
}

/// Takes a text; its id.
async fn take(submitted: Submitted, link: u64, shared: &Arc<Shared>) -> u64 {
    let Submitted { from, to, text, receipt_url, message_url } = submitted;
    let id = shared.ids.fetch_add(1, Ordering::Relaxed);
    count(&shared.counters.taken);
    count(&shared.counters.texts);
    let (options, now) = (&shared.options, shared.clock.mono());
    let undeliverable = fastrand::f64() < options.undeliverable_share;
    let later = now.plus(options.latency).plus(options.receipt_delay);
    let party = |number: &str| Party { number: number.to_owned(), ..Party::default() };
    let waiting = |url: &Option<Arc<str>>, due, reply| Waiting {
        spoken: Spoken::Http,
        link,
        due,
        id: id.into(),
        tries: 0,
        state: if undeliverable { ReceiptState::Undeliverable } else { ReceiptState::Delivered },
        submitted: shared.clock.now(),
        source: party(&from),
        destination: party(&to),
        reply,
        url: url.clone(),
    };
    let receipts = shared.receipts.of(Spoken::Http);
    if receipt_url.is_some() {
        let due = if shared.plays(Fault::ReceiptBeforeAnswer) { now } else { later };
        for _ in 0..=usize::from(shared.plays(Fault::Twice)) {
            receipts.put(waiting(&receipt_url, due, None));
        }
    }
    for reply in options.replies.iter().filter(|reply| reply.number == to && message_url.is_some()) {
        // By HTTP the words as they are.
        let words = ReplyPart { coding: 0, udhi: false, octets: reply.text.clone().into() };
        receipts.put(waiting(&message_url, later, Some(words)));
    }
    if let Some(received) = &options.received {
        // Nobody listens any more: the text is counted all the same.
        let _ = received.send(ReceivedText { source: from, destination: to, text, parts: 1 }).await;
    }
    id
}

/// Brings what waits, for ever.
pub(super) async fn call_back(shared: Arc<Shared>) -> Infallible {
    let mut calls = JoinSet::new();
    loop {
        let receipts = shared.receipts.of(Spoken::Http);
        tokio::select! {
            () = receipts.due(&shared.clock), if calls.len() < CALLS_MAX => {
                if let Some(waiting) = receipts.take(shared.clock.mono(), None) {
                    calls.spawn(bring(waiting, Arc::clone(&shared)));
                }
            }
            Some(_) = calls.join_next() => {}
        }
    }
}

async fn bring(mut waiting: Waiting, shared: Arc<Shared>) {
    let counters = &shared.counters;
    let body = match &waiting.reply {
        Some(reply) => json!({"from": waiting.destination.number, "to": waiting.source.number,
            "text": String::from_utf8_lossy(&reply.octets)}),
        None => json!({"id": waiting.id.to_string(), "status": waiting.state.as_str(), "error": ""}),
    };
    let is_reply = waiting.reply.is_some();
    if !is_reply {
        count(&counters.receipts_sent);
    }
    let url = waiting.url.as_deref().unwrap_or_default();
    let taken = tokio::time::timeout(CALL_TIMEOUT, post(url, body.to_string())).await;
    let (acknowledged, put_off) = if is_reply {
        (&counters.replies_acknowledged, &counters.replies_put_off)
    } else {
        (&counters.receipts_acknowledged, &counters.receipts_put_off)
    };
    if taken.is_ok_and(|status| status == Some(StatusCode::OK)) {
        return count(acknowledged);
    }
    waiting.tries += 1;
    if waiting.tries >= shared.options.receipt_tries_max {
        return count(&counters.receipts_given_up);
    }
    count(put_off);
    waiting.due = shared.clock.mono().plus(shared.options.receipt_retry);
    shared.receipts.of(Spoken::Http).put(waiting);
}

/// Posts to `http://ADDRESS:PORT/PATH`; the status of the answer.
async fn post(url: &str, body: String) -> Option<StatusCode> {
    let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
    let address: SocketAddr = authority.parse().ok()?;
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::post(format!("/{path}"))
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::from(body))
        .ok()?;
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    Some(sender.send_request(request).await.ok()?.status())
}
