//! An SMTP server that takes every mail and keeps none: the far end of `sandbox`, `sink` and the benchmarks.
//!
//! **What.** Drives the same protocol machine as our own ingress, over real sockets. It can be slow, defer or refuse a
//! share, hand what came to a bounded channel, and list it in a file.
//!
//! **Promises.** Says yes by its own right ([`Discarded`]), which is worth nothing: no relay path may use it. Connections are
//! bounded; a full channel holds the senders back. Counts are plain atomics, cheap enough for ten thousand messages a second.
//!
//! **Does not know** clients, policy or disk.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{SharedClock, SystemClock};
use crate::ingress::stream::{Flow, FlowError, stopped};
use crate::model::{Address, MailData, Mailbox, MessageId, Responsibility, ReversePath};
use crate::peers::arrivals::ArrivalList;
use crate::wire::smtp::server::{EndOfData, Event, LongLines, NegativeReply, Received, Session, Terms, Tls};

/// Connections the kernel holds for us until we take them.
const BACKLOG: u32 = 1_024;
/// How long a peer may be silent.
const IDLE: Duration = Duration::from_secs(300);
/// How long open transactions may go on at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the sink behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens. Default: a free port on loopback.
    pub address: SocketAddr,
    /// What it calls itself. Default `sink.example`.
    pub hostname: Arc<str>,
    /// Offers STARTTLS with this. Default: no TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long each message waits for its reply. Default: not at all.
    pub latency: Duration,
    /// Share that gets 451, 0 to 1. Default 0.
    pub defer_share: f64,
    /// Share that gets 550, 0 to 1. Default 0.
    pub refuse_share: f64,
    /// Which command the shares apply to. Default: end-of-data.
    pub stage: Stage,
    /// Where received mail goes; a full channel makes senders wait. Default: nowhere.
    pub keep: Option<mpsc::Sender<Kept>>,
    /// Where received mail is listed. Default: nowhere.
    pub arrivals: Option<Arc<ArrivalList>>,
    /// Largest message, in bytes. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Most connections at a time; more wait in the kernel's queue. Default 2,000.
    pub connections_max: usize,
    /// Time, for the ids in its replies.
    pub clock: SharedClock,
}

/// Which command gets the negative replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// Each RCPT, by itself.
    Recipient,
    /// Each message.
    #[default]
    EndOfData,
}

/// A mail that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The id in our reply.
    pub id: MessageId,
    /// MAIL.
    pub reverse_path: ReversePath,
    /// Each RCPT.
    pub recipients: Vec<Mailbox>,
    /// The content.
    pub data: MailData,
    /// Who brought it.
    pub peer: SocketAddr,
    /// TLS version and suite, if there was TLS.
    pub tls: Option<String>,
}

/// The sink's yes: seen and thrown away.
#[derive(Debug)]
pub struct Discarded(MessageId);

impl Responsibility for Discarded {
    fn message_id(&self) -> MessageId {
        self.0
    }
}

/// What has come so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Messages answered yes.
    pub messages: u64,
    /// Recipients of those.
    pub recipients: u64,
    /// Bytes of content of those.
    pub bytes: u64,
    /// 451 replies given by `defer_share`.
    pub deferred: u64,
    /// 550 replies given by `refuse_share`.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    open: AtomicUsize,
    messages: AtomicU64,
    recipients: AtomicU64,
    bytes: AtomicU64,
    deferred: AtomicU64,
    refused: AtomicU64,
}

/// Reads the counts while the sink runs.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Tally>);

/// The sink, bound.
#[derive(Debug)]
pub struct MailSink {
    options: Arc<Options>,
    socket: TcpListener,
    local: SocketAddr,
    tally: Arc<Tally>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            hostname: "sink.example".into(),
            tls: None,
            latency: Duration::ZERO,
            defer_share: 0.0,
            refuse_share: 0.0,
            stage: Stage::default(),
            keep: None,
            arrivals: None,
            message_bytes_max: 64 * 1024 * 1024,
            connections_max: 2_000,
            clock: SystemClock::shared(),
        }
    }
}

impl Counter {
    /// The counts now.
    pub fn read(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.0.connections),
            open: self.0.open.load(Ordering::Relaxed) as u64,
            messages: read(&self.0.messages),
            recipients: read(&self.0.recipients),
            bytes: read(&self.0.bytes),
            deferred: read(&self.0.deferred),
            refused: read(&self.0.refused),
        }
    }
}

impl MailSink {
    /// Binds the address.
    ///
    /// # Errors
    /// It cannot be bound.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let address = options.address;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        Ok(Self { options: Arc::new(options), socket, local, tally: Arc::default() })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.counter().read()
    }

    /// Reads the counts while [`MailSink::run`] has the sink.
    pub fn counter(&self) -> Counter {
        Counter(self.tally.clone())
    }

    /// Serves until `shutdown` turns true, then gives open transactions a moment.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut sessions = JoinSet::new();
        let stop = shutdown.clone();
        loop {
            let room = sessions.len() < self.options.connections_max;
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => break,
                Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
                taken = self.socket.accept(), if room => match taken {
                    Ok((stream, peer)) => {
                        sessions.spawn(serve(stream, peer, self.options.clone(), self.tally.clone(), stop.clone()));
                    }
                    Err(e) => {
                        tracing::warn!(sink = %self.local, error = %e, "cannot take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.socket);
        let drained = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            sessions.shutdown().await;
        }
        if let Some(arrivals) = &self.options.arrivals {
            arrivals.flush();
        }
    }
}

/// A connection in the count.
struct Open(Arc<Tally>);

impl Open {
    fn new(tally: Arc<Tally>) -> Self {
        tally.connections.fetch_add(1, Ordering::Relaxed);
        tally.open.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    options: Arc<Options>,
    tally: Arc<Tally>,
    stop: watch::Receiver<bool>,
) {
    let terms = Terms {
        hostname: options.hostname.clone(),
        message_bytes_max: options.message_bytes_max,
        recipients_max: crate::limits::RECIPIENTS_MAX,
        // Benchmarks want their refusals, all of them.
        errors_max: u32::MAX,
        long_lines: LongLines::Accept,
        tls: if options.tls.is_some() { Tls::Offered } else { Tls::Unavailable },
        ..Terms::default()
    };
    let flow = Flow::plain(stream, options.clock.clone());
    let guest = Guest { open: Open::new(tally), options, peer, tls: None, stop };
    guest.run(flow, Session::new(terms)).await;
}

/// One connection.
struct Guest {
    open: Open,
    options: Arc<Options>,
    peer: SocketAddr,
    tls: Option<String>,
    stop: watch::Receiver<bool>,
}

impl Guest {
    async fn run(mut self, mut flow: Flow, mut session: Session) {
        let reply = match self.converse(&mut flow, &mut session).await {
            Ok(()) => None,
            Err(FlowError::Stopping) => Some(NegativeReply::new(421, (3, 2), "Sink is stopping")),
            Err(FlowError::TimedOut) => Some(NegativeReply::new(421, (4, 2), "Timeout")),
            Err(_) => return,
        };
        if let Some(reply) = reply {
            session.close(&reply);
            if flow.write(session.output(), DRAIN).await.is_err() {
                return;
            }
        }
        flow.finish().await;
    }

    async fn converse(&mut self, flow: &mut Flow, session: &mut Session) -> Result<(), FlowError> {
        loop {
            match session.receive(&mut flow.input) {
                Event::NeedInput => {
                    flow.write(session.output(), IDLE).await?;
                    let until = self.options.clock.mono().plus(IDLE);
                    let stop = (!session.is_receiving()).then_some(&mut self.stop);
                    flow.read(until, stop).await?;
                }
                Event::Mail(ask) => ask.accept(),
                Event::Recipient(ask) => match self.whim(Stage::Recipient) {
                    Some(reply) => ask.refuse(&reply),
                    None => ask.accept(),
                },
                Event::Message(end, received) => self.take(end, received).await,
                Event::MessageRefused(_) => {}
                // Not offered, so the session refuses it by itself.
                Event::Authenticate(ask) => ask.refuse(&NegativeReply::new(502, (5, 1), "No authentication here")),
                Event::StartTls(mut decision) => {
                    let Some(config) = self.options.tls.clone() else { return Err(FlowError::Closed) };
                    flow.write(decision.output(), IDLE).await?;
                    flow.start_tls(config, IDLE).await?;
                    self.tls = flow.tls_description();
                    decision.started();
                }
                Event::Closed => return flow.write(session.output(), IDLE).await,
            }
        }
    }

    async fn take(&self, end: EndOfData<'_>, received: Received) {
        if !self.options.latency.is_zero() {
            tokio::time::sleep(self.options.latency).await;
        }
        if let Some(reply) = self.whim(Stage::EndOfData) {
            return end.refuse(&reply);
        }
        let tally = &self.open.0;
        tally.messages.fetch_add(1, Ordering::Relaxed);
        tally.recipients.fetch_add(received.recipients.len() as u64, Ordering::Relaxed);
        tally.bytes.fetch_add(received.data.len() as u64, Ordering::Relaxed);
        let now = self.options.clock.now();
        let id = MessageId::new(now);
        if let Some(arrivals) = &self.options.arrivals {
            arrivals.add(&received.data, now);
        }
        if let Some(keep) = &self.options.keep {
            // Nobody listening any more is no reason to refuse.
            let _ = keep.send(self.kept(id, received)).await;
        }
        end.accept(&Discarded(id));
    }

    fn kept(&self, id: MessageId, received: Received) -> Kept {
        let mailbox = |address: Address| match address {
            Address::Mailbox(mailbox) => Some(mailbox),
            Address::Number(_) => None,
        };
        Kept {
            id,
            reverse_path: received.mail.reverse_path,
            recipients: received.recipients.into_iter().filter_map(|r| mailbox(r.address)).collect(),
            data: received.data,
            peer: self.peer,
            tls: self.tls.clone(),
        }
    }

    /// The negative reply that chance has for this one.
    fn whim(&self, stage: Stage) -> Option<NegativeReply> {
        let Options { defer_share, refuse_share, .. } = *self.options;
        if self.options.stage != stage || defer_share + refuse_share <= 0.0 {
            return None;
        }
        let dice = fastrand::f64();
        if dice < defer_share {
            self.open.0.deferred.fetch_add(1, Ordering::Relaxed);
            Some(NegativeReply::new(451, (3, 0), "Deferred, as the sink was asked to"))
        } else if dice < defer_share + refuse_share {
            self.open.0.refused.fetch_add(1, Ordering::Relaxed);
            Some(NegativeReply::new(550, (1, 1), "Refused, as the sink was asked to"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const DIALOGUE: &[u8] =
        b"EHLO t\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nS: x\r\n\r\n..\r\n.\r\nQUIT\r\n";

    async fn talk(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(DIALOGUE).await.unwrap();
        let mut replies = String::new();
        stream.read_to_string(&mut replies).await.unwrap();
        replies
    }

    /// Runs a sink while `test` talks to it.
    async fn with<T>(options: Options, test: impl AsyncFnOnce(SocketAddr) -> T) -> (T, Counts) {
        let (stop, shutdown) = watch::channel(false);
        let sink = MailSink::bind(options).await.unwrap();
        let (address, counter) = (sink.local_addr(), sink.counter());
        let running = tokio::spawn(sink.run(shutdown));
        let result = test(address).await;
        stop.send(true).unwrap();
        running.await.unwrap();
        (result, counter.read())
    }

    #[tokio::test]
    async fn mail_is_taken_counted_and_handed_over() {
        let (keep, mut kept) = mpsc::channel(4);
        let (replies, counts) = with(Options { keep: Some(keep), ..Options::default() }, talk).await;
        let mail = kept.recv().await.unwrap();
        assert!(replies.contains(&format!("\r\n250 2.0.0 Ok: queued as {}\r\n221 2.0.0", mail.id)), "{replies}");
        assert_eq!(mail.reverse_path.to_string(), "a@b.example");
        assert_eq!(mail.recipients, ["c@d.example".parse().unwrap()]);
        assert_eq!(&mail.data.bytes()[..], b"S: x\r\n\r\n.\r\n");
        let expected = Counts { connections: 1, messages: 1, recipients: 1, bytes: 11, ..Counts::default() };
        assert_eq!(counts, expected);
    }

    #[tokio::test]
    async fn shares_are_deferred_and_refused() {
        let (replies, counts) = with(Options { defer_share: 1.0, ..Options::default() }, talk).await;
        assert!(replies.contains("\r\n354 ") && replies.contains("\r\n451 4.3.0 "), "{replies}");
        assert_eq!((counts.deferred, counts.messages), (1, 0));
        let at_rcpt = Options { refuse_share: 1.0, stage: Stage::Recipient, ..Options::default() };
        let (replies, counts) = with(at_rcpt, talk).await;
        assert!(replies.contains("\r\n550 5.1.1 ") && !replies.contains("\r\n354 "), "{replies}");
        assert_eq!(counts.refused, 1);
    }

    #[tokio::test]
    async fn a_silent_guest_is_told_when_the_sink_stops() {
        let ((mut guest, greeting), counts) = with(Options::default(), async |address| {
            let mut guest = TcpStream::connect(address).await.unwrap();
            let mut greeting = [0; 4];
            guest.read_exact(&mut greeting).await.unwrap();
            (guest, greeting)
        })
        .await;
        let mut rest = String::new();
        // Reading goes on after the sink has gone: its last words are on the way.
        guest.read_to_string(&mut rest).await.unwrap();
        assert_eq!(&greeting, b"220 ");
        assert!(rest.ends_with("421 4.3.2 Sink is stopping\r\n"), "{rest}");
        assert_eq!(counts.open, 0);
    }
}
