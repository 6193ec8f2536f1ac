//! The load generator behind `postrider load`: many connections, each reused for many messages.
//!
//! **Promises.** Every message carries its own sequence number and ends in the [`Report`] as exactly one of accepted,
//! refused or unanswered; none is tried twice, so a sink can tell what was lost and what was doubled. Memory is bounded by
//! connections × (message header + 64 KiB of reply at the very most), whatever the count. Cheap by design: the body is made
//! once, a mail costs two writes and two reads. Run it on a current-thread runtime when it shares the machine with what it
//! measures.
//!
//! **Does not know** that the other side is postrider: any SMTP server will do.
//!
//! **Fails how.** What the peer does wrong is counted, by reply code or kind, and the connection made anew with growing
//! pauses; only options that make no sense, and a file of accepted messages that cannot be written, are errors.

mod content;
mod histogram;
mod http;
mod progress;
mod report;
mod smtp;
mod stream;
mod tally;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

pub use progress::Progress;
pub use report::{FailureCount, Latency, Report};

use self::content::Content;
use self::tally::Tally;
use crate::clock::{Mono, SharedClock, SystemClock};
use crate::limits;
use crate::model::{Class, Domain, Mailbox, Secret};

/// What to send where.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` or `[address]:port`.
    pub address: String,
    /// SMTP or HTTP.
    pub protocol: Protocol,
    /// Connections held at once; 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// When to stop.
    pub amount: Amount,
    /// At most this many messages a second over all connections; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// Bytes of a mail, header included; of the text for HTTP.
    pub message_bytes: usize,
    /// MAIL FROM and From.
    pub sender: Mailbox,
    /// Domains of the recipients, in turn; at least one.
    pub recipient_domains: Vec<Domain>,
    /// Recipients of each mail, at least one.
    pub recipients_per_message: usize,
    /// The class that each message asks for; `None`: the relay's default.
    pub class: Option<Class>,
    /// For texts: the numbers start with this, `+` included …
    pub number_prefix: String,
    /// … and go on with the sequence number in so many digits.
    pub number_digits: u8,
    /// How long to wait for a connection, a reply, or for the peer to read.
    pub reply_timeout: Duration,
    /// A connection that could not be made so often in a row is given up.
    pub connect_failures_max: u32,
    /// Where to list accepted messages: `SEQUENCE.RUN ID MICROSECONDS` a line, the id as the reply gave it or `-`, and when
    /// the reply came, in Unix time.
    pub accepted_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let domain = |name| Domain::parse(name).expect("a literal");
        Self {
            address: "127.0.0.1:2525".to_owned(),
            protocol: Protocol::Smtp(SmtpOptions::default()),
            connections: 20,
            amount: Amount::Messages(10_000),
            rate: None,
            message_bytes: 4_096,
            sender: Mailbox::parse("load@load.example").expect("a literal"),
            recipient_domains: vec![domain("sink.example")],
            recipients_per_message: 1,
            class: None,
            number_prefix: "+86138".to_owned(),
            number_digits: 8,
            reply_timeout: Duration::from_secs(60),
            connect_failures_max: 10,
            accepted_file: None,
        }
    }
}

/// What is spoken.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// SMTP submission.
    Smtp(SmtpOptions),
    /// The relay's HTTP API.
    Http(HttpOptions),
}

impl Protocol {
    /// The word in reports.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Http(_) => "http",
        }
    }
}

/// How SMTP is spoken.
#[derive(Clone, Debug, Default)]
pub struct SmtpOptions {
    /// Whether and how TLS is used; any certificate is taken.
    pub tls: SmtpTls,
    /// User and password for AUTH PLAIN.
    pub auth: Option<(String, Secret)>,
}

/// TLS on an SMTP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SmtpTls {
    /// None.
    #[default]
    None,
    /// After STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// How HTTP is spoken.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// What is posted.
    pub post: Post,
    /// The client's API key.
    pub api_key: Option<Secret>,
    /// HTTPS; any certificate is taken.
    pub tls: bool,
}

/// What is posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Post {
    /// `POST /v1/sms`.
    Text,
    /// `POST /v1/email`.
    Mail,
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// After so many messages.
    Messages(u64),
    /// After so long; messages under way are waited for.
    For(Duration),
}

/// Most connections: a process has some tens of thousands of descriptors at best.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Pause before the first new try of a connection; doubled each time.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Why a run could not be made.
#[derive(Debug)]
pub enum LoadError {
    /// An option out of its range; the text says which and what would be right.
    Option(String),
    /// The file of accepted messages could not be written.
    File(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(what) => f.write_str(what),
            Self::File(e) => write!(f, "the file of accepted messages cannot be written: {e}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Runs the load to its end.
///
/// # Errors
/// [`LoadError`]; a peer's failures are in the report instead.
pub async fn run(options: Options, progress: Progress) -> Result<Report, LoadError> {
    run_until(options, progress, std::future::pending()).await
}

/// Runs the load to its end or until `stop` is ready; messages under way are waited for then.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    options: Options,
    progress: Progress,
    stop: impl Future<Output = ()>,
) -> Result<Report, LoadError> {
    check(&options)?;
    let clock = SystemClock::shared();
    let run: Arc<str> = format!("{:08x}", fastrand::u32(..)).into();
    let tally = Tally::new(run.clone(), options.accepted_file.as_deref()).map_err(LoadError::File)?;
    let tls = crate::net::tls::opportunistic();
    let options = Arc::new(options);
    let content = Content::new(options.clone(), run.clone(), clock.now());
    let started = clock.mono();
    let pace = options.rate.map(|rate| Pace::new(started, rate));
    let shared = Arc::new(Shared { options, tally, tls, content, clock, started, pace });

    let mut connections = JoinSet::new();
    for _ in 0..shared.options.connections {
        connections.spawn(drive(shared.clone()));
    }
    let mut outcome = Ok(());
    {
        let ending = async {
            while let Some(ended) = connections.join_next().await {
                let ended = ended.unwrap_or_else(|e| Err(io::Error::other(e)));
                if ended.is_err() {
                    shared.tally.stop();
                    outcome = ended;
                }
            }
        };
        let stopping = async {
            stop.await;
            shared.tally.stop();
            std::future::pending::<()>().await;
        };
        let showing = progress::show(progress, &shared.options, &shared.tally, &shared.clock);
        tokio::select! {
            () = ending => {}
            () = stopping => {}
            () = showing => {}
        }
    }
    outcome.and_then(|()| shared.tally.flush()).map_err(LoadError::File)?;
    Ok(shared.report(&run))
}

fn check(options: &Options) -> Result<(), LoadError> {
    let wrong = |what: &str| Err(LoadError::Option(what.to_owned()));
    if !(1..=CONNECTIONS_MAX).contains(&options.connections) {
        return wrong("connections: expected 1 to 20000");
    }
    if options.message_bytes > limits::MESSAGE_BYTES_MAX {
        return wrong("message size: expected at most 256 MiB");
    }
    if options.recipient_domains.is_empty() {
        return wrong("recipient domains: expected at least one");
    }
    if !(1..=limits::RECIPIENTS_MAX).contains(&options.recipients_per_message) {
        return wrong("recipients per message: expected 1 to 10000");
    }
    if options.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return wrong("rate: expected more than 0 messages a second");
    }
    Ok(())
}

/// What all connections of a run share.
#[derive(Debug)]
struct Shared {
    options: Arc<Options>,
    tally: Tally,
    tls: Arc<rustls::ClientConfig>,
    content: Content,
    clock: SharedClock,
    started: Mono,
    pace: Option<Pace>,
}

impl Shared {
    fn next(&self) -> Option<u64> {
        match self.options.amount {
            Amount::Messages(most) => self.tally.take(Some(most)),
            Amount::For(span) if self.clock.mono().since(self.started) >= span => None,
            Amount::For(_) => self.tally.take(None),
        }
    }

    fn report(&self, run: &str) -> Report {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (tally, elapsed_s) = (&self.tally, self.clock.mono().since(self.started).as_secs_f64());
        let millis = |d: Duration| d.as_secs_f64() * 1_000.0;
        Report {
            run: run.to_owned(),
            protocol: self.options.protocol.as_str(),
            address: self.options.address.clone(),
            connections: self.options.connections,
            connections_made: load(&tally.connections_made),
            message_bytes: self.options.message_bytes,
            attempted: load(&tally.taken),
            accepted: load(&tally.accepted),
            refused: load(&tally.refused),
            unanswered: load(&tally.unanswered),
            elapsed_s,
            rate: load(&tally.accepted) as f64 / elapsed_s.max(1e-6),
            latency_ms: Latency {
                p50: millis(tally.latencies.percentile(0.5)),
                p99: millis(tally.latencies.percentile(0.99)),
                max: millis(tally.latencies.largest()),
            },
            failures: tally.failures(),
        }
    }
}

/// One connection after the other, until there is nothing left to send or no connection can be made.
async fn drive(shared: Arc<Shared>) -> io::Result<()> {
    let mut failures = 0;
    while !shared.tally.stopping() && failures < shared.options.connect_failures_max {
        let mut session = match Session::open(&shared).await {
            Ok(session) => session,
            Err(trouble) => {
                shared.tally.failed(trouble.kind, &trouble.detail);
                let pause = RECONNECT_PAUSE.saturating_mul(1 << failures.min(10)).min(RECONNECT_PAUSE_MAX);
                failures += 1;
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        failures = 0;
        shared.tally.connections_made.fetch_add(1, Ordering::Relaxed);
        loop {
            let Some(sequence) = shared.next() else {
                session.quit().await;
                return Ok(());
            };
            if let Some(pace) = &shared.pace {
                pace.wait(&shared.clock).await;
            }
            match session.submit(sequence).await {
                Ok((verdict, reusable)) => {
                    shared.tally.ended(sequence, &verdict, shared.clock.now())?;
                    if !reusable {
                        break;
                    }
                }
                Err(trouble) => {
                    shared.tally.broke_off(&trouble);
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A connection of either protocol.
#[derive(Debug)]
enum Session {
    Smtp(smtp::Session),
    Http(http::Session),
}

impl Session {
    async fn open(shared: &Shared) -> Result<Self, Trouble> {
        let Shared { options, tls, content, clock, .. } = shared;
        match &options.protocol {
            Protocol::Smtp(smtp) => {
                smtp::Session::open(options, smtp, tls, content.clone(), clock.clone()).await.map(Self::Smtp)
            }
            Protocol::Http(http) => {
                http::Session::open(options, http, tls, content.clone(), clock.clone()).await.map(Self::Http)
            }
        }
    }

    /// Submits one message; the flag says whether the connection can carry another.
    async fn submit(&mut self, sequence: u64) -> Result<(Verdict, bool), Trouble> {
        match self {
            Self::Smtp(smtp) => {
                let verdict = smtp.submit(sequence).await?;
                let closing = matches!(verdict, Verdict::Refused { code: 421, .. });
                Ok((verdict, !closing))
            }
            Self::Http(http) => http.submit(sequence).await,
        }
    }

    async fn quit(self) {
        match self {
            Self::Smtp(smtp) => smtp.quit().await,
            Self::Http(_) => {}
        }
    }
}

/// What the other side said to a message.
#[derive(Debug)]
enum Verdict {
    Accepted { latency: Duration, text: String },
    Refused { code: u16, text: String },
}

/// Why a connection cannot go on.
#[derive(Debug)]
struct Trouble {
    /// The name under which it is counted.
    kind: &'static str,
    detail: String,
    /// A whole message had been written, or part of it, when it happened.
    in_doubt: bool,
}

impl Trouble {
    fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), in_doubt: false }
    }
}

/// Evenly spaced slots, one a message.
#[derive(Debug)]
struct Pace {
    spacing_nanos: u64,
    started: Mono,
    slots: AtomicU64,
}

impl Pace {
    fn new(started: Mono, per_second: f64) -> Self {
        Self { spacing_nanos: (1e9 / per_second) as u64, started, slots: AtomicU64::new(0) }
    }

    async fn wait(&self, clock: &SharedClock) {
        let slot = self.slots.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_nanos(slot.saturating_mul(self.spacing_nanos));
        let early = due.saturating_sub(clock.mono().since(self.started));
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
    }
}

#[cfg(test)]
mod tests;
