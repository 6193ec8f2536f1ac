//! An account's connections: requests out, answers in, as many at a time as its window has places.
//!
//! **Promises.** A part is not sent if no connection was made for it, or if the connection was gone before an octet of the request was
//! written; it is lost if the request may have left and no answer was understood in time. Everything handed over here has its
//! answer, also while the carrier goes down or is drained.
//!
//! The carrier is up once a connection to it was made, and down once [`Http::connect_tries`] of them, one after another, have come
//! to nothing; then it is tried again with growing, jittered pauses. Connections are kept and used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::super::carrier::{Phase, Shared};
use super::super::dial::{self, Backoff, until_stopping};
use super::super::protocol::Part;
use super::super::slots::{Job, PartAnswer};
use super::answer::{self, Judged};
use super::{Class, Http};
use crate::clock::Mono;
use crate::egress::https::{self, Driving, Whole};
use crate::net::tls::{self, Verifying};
use crate::wire::Meaning;

/// An account at work.
struct Account {
    shared: Arc<Shared>,
    http: Http,
    with: Option<Arc<ClientConfig>>,
    /// Connections that rest, and since when.
    resting: Mutex<Vec<(Connection, Mono)>>,
    /// Connections that came to nothing, since the last that did not.
    failures: AtomicUsize,
}

struct Connection {
    sender: SendRequest<Whole>,
    _driving: Driving,
}

/// How a time of being up ended.
enum End {
    Stopped,
    Down,
}

/// An answer to a request.
struct Reply {
    status: u16,
    /// How long the carrier wants to be left alone.
    retry_after: Option<Duration>,
    /// `None`: longer than is read.
    body: Option<Vec<u8>>,
}

/// What becomes of a request on a connection.
enum Exchanged {
    /// It was answered.
    Answered(Reply),
    /// Not an octet of it was written.
    NotSent(Box<Request<Whole>>),
    /// Nobody knows.
    Lost(String),
}

/// Keeps the account up until the carrier is stopped.
pub(in crate::egress::sms) async fn keep_up(shared: Arc<Shared>, http: Http, mut phase: watch::Receiver<Phase>) {
    let carrier = Arc::clone(&shared.options.name);
    let with = match http.endpoint.tls.then(|| Verifying::default().by(&http.authorities)).transpose() {
        Ok(with) => with,
        // The options were checked; the system's authorities can be gone all the same.
        Err(error) => return tracing::error!(%carrier, %error, "the carrier cannot be reached"),
    };
    let mut backoff = Backoff::new(shared.options.reconnect_min, shared.options.reconnect_max);
    let (resting, failures) = (Mutex::default(), AtomicUsize::new(0));
    let account = Arc::new(Account { shared, http, with, resting, failures });
    let mut requests = JoinSet::new();
    loop {
        let made = tokio::select! {
            made = account.connect() => made,
            () = until_stopping(&mut phase) => break,
        };
        match made {
            Ok((connection, peer)) => {
                tracing::info!(%carrier, %peer, "the carrier answers");
                backoff.reset();
                account.rest(connection);
                match account.serve(peer, &mut requests, &mut phase).await {
                    End::Stopped => break,
                    End::Down => tracing::warn!(%carrier, "the carrier cannot be reached any more"),
                }
            }
            Err(why) => tracing::warn!(%carrier, %why, "the carrier cannot be reached"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = until_stopping(&mut phase) => break,
        }
    }
    let closing = async {
        // An error means that the handle is gone.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    };
    let answered = async { while requests.join_next().await.is_some() {} };
    tokio::select! {
        () = answered => {}
        // Requests that are dropped were sent without an answer.
        () = closing => {}
    }
}

impl Account {
    /// Takes parts until the carrier is down or stopped; what was taken goes on in `requests`.
    async fn serve(
        self: &Arc<Self>,
        peer: SocketAddr,
        requests: &mut JoinSet<()>,
        phase: &mut watch::Receiver<Phase>,
    ) -> End {
        let slots = &self.shared.slots;
        let mut jobs = slots.up(0, self.shared.options.window, peer.into());
        let end = loop {
            if self.failures.load(Ordering::Relaxed) >= self.http.connect_tries {
                break End::Down;
            }
            if *phase.borrow() == Phase::Closing
                || *phase.borrow() == Phase::Draining && jobs.is_empty() && requests.is_empty()
            {
                break End::Stopped;
            }
            tokio::select! {
                Some(job) = jobs.recv() => {
                    requests.spawn(Arc::clone(self).submit(job));
                }
                Some(_) = requests.join_next() => {}
                changed = phase.changed() => if changed.is_err() {
                    break End::Stopped;
                },
            }
        };
        slots.down(0);
        drain(&mut jobs);
        self.resting.lock().clear();
        end
    }

    async fn submit(self: Arc<Self>, job: Job) {
        let Job { part, slot, answer } = job;
        if answer.is_closed() {
            return;
        }
        let answered = self.carry(&part).await;
        // The answer first, then its slot: whoever waits for the slot may have reason not to use it.
        let _ = answer.send(answered);
        drop(slot);
    }

    async fn carry(&self, part: &Part) -> PartAnswer {
        let (options, now) = (&self.shared.options, self.shared.clock.now());
        let made = self.http.values_of(options, part, now).and_then(|values| {
            let made = self.http.description.request.made(&self.http.endpoint, values);
            made.map_err(|why| answer::refused(Class::Text, format!("not sent: {why}")))
        });
        let request = match made {
            Ok(request) => request,
            Err(verdict) => return PartAnswer::Answered { verdict, message_id: String::new() },
        };
        let Reply { status, retry_after, body } = match self.exchange(request).await {
            Exchanged::Answered(reply) => reply,
            Exchanged::NotSent(_) => return PartAnswer::NotSent,
            Exchanged::Lost(why) => return PartAnswer::Lost(why),
        };
        let Some(body) = body else {
            return PartAnswer::Lost(format!("HTTP {status} with more than {} bytes", self.http.answer_bytes_max));
        };
        match self.http.description.answer.judge(status, &body) {
            Judged::Spoken(mut verdict, message_id) => {
                verdict.words = self.http.discreet(verdict.words);
                let asked = retry_after.map_or(Duration::ZERO, |pause| pause.min(self.http.retry_after_max));
                match verdict.meaning {
                    Meaning::Throttled => self.shared.pace.throttled(asked),
                    // It cannot serve anybody for so long.
                    Meaning::Temporary if status == 503 => self.shared.pace.rest(asked),
                    _ => {}
                }
                PartAnswer::Answered { verdict, message_id }
            }
            Judged::Obscure(why) => PartAnswer::Lost(why),
        }
    }

    /// Sends a request over a connection that rests, or a new one.
    async fn exchange(&self, mut request: Request<Whole>) -> Exchanged {
        while let Some(mut connection) = self.rested() {
            match self.answer_over(&mut connection, request).await {
                // The carrier has closed it meanwhile.
                Exchanged::NotSent(unsent) => request = *unsent,
                done => {
                    self.keep(connection, &done);
                    return done;
                }
            }
        }
        let mut connection = match self.connect().await {
            Ok((connection, _)) => connection,
            Err(why) => {
                tracing::warn!(carrier = %self.shared.options.name, %why, "no connection for a text");
                return Exchanged::NotSent(Box::new(request));
            }
        };
        let done = self.answer_over(&mut connection, request).await;
        self.keep(connection, &done);
        done
    }

    async fn answer_over(&self, connection: &mut Connection, request: Request<Whole>) -> Exchanged {
        let most = self.http.answer_bytes_max;
        let exchange = async {
            match connection.sender.try_send_request(request).await {
                Ok(mut response) => {
                    let status = response.status().as_u16();
                    let retry_after = https::retry_after(response.headers(), self.shared.clock.now());
                    match https::whole(response.body_mut(), most).await {
                        Ok(body) => Exchanged::Answered(Reply { status, retry_after, body }),
                        Err(error) => Exchanged::Lost(format!("HTTP {status}, and the body broke off: {error}")),
                    }
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => Exchanged::NotSent(Box::new(unsent)),
                    None => Exchanged::Lost(failed.error().to_string()),
                },
            }
        };
        let late = |_| Exchanged::Lost("no answer in time".to_owned());
        tokio::time::timeout(self.shared.options.response_timeout, exchange).await.unwrap_or_else(late)
    }

    /// A new connection, and to whom.
    async fn connect(&self) -> Result<(Connection, SocketAddr), String> {
        let connecting = tokio::time::timeout(self.shared.options.bind_timeout, self.try_connect());
        let made = connecting.await.unwrap_or_else(|_| Err("no connection within the time allowed".to_owned()));
        match made {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
        made
    }

    async fn try_connect(&self) -> Result<(Connection, SocketAddr), String> {
        let (tcp, peer) = dial::connect(&self.shared.options).await?;
        let failed = |e: hyper::Error| format!("{peer}: {e}");
        let (sender, driving) = match &self.with {
            None => https::client(tcp).await.map_err(failed)?,
            Some(with) => {
                let host = self.http.endpoint.host.trim_matches(['[', ']']);
                let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
                let securing = TlsConnector::from(Arc::clone(with)).connect(name, tcp).await;
                let secured = securing.map_err(|e| format!("{peer}: {}", tls::trouble(&e)))?;
                https::client(secured).await.map_err(failed)?
            }
        };
        Ok((Connection { sender, _driving: driving }, peer))
    }

    /// One that rested, and may be used.
    fn rested(&self) -> Option<Connection> {
        let now = self.shared.clock.mono();
        let mut resting = self.resting.lock();
        while let Some((connection, since)) = resting.pop() {
            if now.since(since) < self.http.keep_alive && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection, done: &Exchanged) {
        if matches!(done, Exchanged::Answered(Reply { body: Some(_), .. })) {
            self.rest(connection);
        }
    }

    fn rest(&self, connection: Connection) {
        let now = self.shared.clock.mono();
        let mut resting = self.resting.lock();
        if resting.len() < self.shared.options.window {
            resting.push((connection, now));
        }
    }
}

/// Answers what was handed over and not begun.
fn drain(jobs: &mut mpsc::Receiver<Job>) {
    jobs.close();
    while let Ok(job) = jobs.try_recv() {
        let _ = job.answer.send(PartAnswer::NotSent);
    }
}
