//! Listeners on loopback, spoken to over real sockets; the queue and `mail::prepare` are stand-ins.

mod abuse;
mod limits;
mod sending;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock::SystemClock;
use crate::mail::{Directives, PrepareError, Prepared, Trace};
use crate::model::{BodyKind, Channel, MailData, MessageId, Secret};
use crate::policy::Client;

/// A queue that keeps what it takes, and can be told to say no or to wait.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    taken: Arc<Mutex<Vec<Submission>>>,
    no: Arc<Mutex<Option<AcceptError>>>,
    /// One permit for each message that may be taken.
    gate: Arc<Semaphore>,
}

pub(super) struct Yes(MessageId);

impl Responsibility for Yes {
    fn message_id(&self) -> MessageId {
        self.0
    }
}

impl Accept for Fake {
    type Accepted = Yes;

    async fn accept(&self, submission: Submission) -> Result<Yes, AcceptError> {
        let id = submission.envelope.id;
        self.taken.lock().push(submission);
        self.gate.acquire().await.unwrap().forget();
        match self.no.lock().clone() {
            Some(no) => Err(no),
            None => Ok(Yes(id)),
        }
    }
}

/// Says in one line what the trace said, and reads From and two directives in the simplest way.
fn prepare(data: MailData, trace: &Trace<'_>) -> Result<Prepared, PrepareError> {
    let text = String::from_utf8_lossy(data.bytes()).into_owned();
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
    if field("Bad: ").is_some() {
        return Err(PrepareError::BadHeader { why: "there is a Bad field".to_owned() });
    }
    let received = format!(
        "Received: from {:?} ({}) by {} with {} id {} tls {:?} for {:?}\r\n",
        trace.helo, trace.peer, trace.by, trace.protocol, trace.id, trace.tls, trace.only_recipient
    );
    let from = field("From: ").and_then(|f| f.rsplit_once('@').and_then(|(_, domain)| domain.parse().ok()));
    Ok(Prepared {
        header_bytes: u32::try_from(received.len()).unwrap(),
        data: MailData::new([received.as_bytes(), data.bytes()].concat().into()).unwrap(),
        body_hash: [0; 32],
        directives: Directives {
            class: field("X-Postrider-Class: ").and_then(|c| c.parse().ok()),
            idempotency_key: field("X-Postrider-Idempotency-Key: "),
            ..Directives::default()
        },
        from_domains: from.into_iter().collect(),
        body: BodyKind::SevenBit,
        tls_not_required: false,
        utf8_header: false,
    })
}

pub(super) struct Relay {
    pub(super) shared: Shared<Fake>,
    pub(super) address: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    certificate: rustls_pki_types::CertificateDer<'static>,
}

fn client(name: &str, channels: &[Channel]) -> Client {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    Client {
        password: Some(Secret::new(argon2.hash_password(b"right").unwrap().to_string())),
        channels: channels.to_vec(),
        senders: vec!["shop.example".to_owned()],
        ..Client::bare(name)
    }
}

pub(super) fn trusting() -> Listener {
    Listener { trusted: vec!["127.0.0.0/8".parse().unwrap()], trusted_client: Some("shop".into()), ..strangers() }
}

pub(super) fn strangers() -> Listener {
    Listener { address: "127.0.0.1:0".parse().unwrap(), ..Listener::default() }
}

pub(super) fn options() -> Options {
    Options { hostname: "relay.example".into(), message_bytes_max: 1_000_000, ..Options::default() }
}

fn shared(options: Options) -> (Shared<Fake>, rustls_pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let clock = SystemClock::shared();
    let clients = Clients::new([client("shop", &[Channel::Email]), client("texts", &[Channel::Sms])]);
    let clients = Arc::new(ArcSwap::from_pointee(clients));
    let fake = Fake { taken: Arc::default(), no: Arc::default(), gate: Arc::new(Semaphore::new(1_000)) };
    let mut shared = Shared::new(
        Arc::new(ArcSwap::from_pointee(options)),
        clients.clone(),
        Credentials::new(clients, clock.clone()),
        Arc::new(ArcSwapOption::from_pointee(tls)),
        fake,
        clock,
        Arc::default(),
    );
    shared.prepare = prepare;
    (shared, certificate)
}

impl Relay {
    pub(super) async fn start(listener: Listener, options: Options) -> Self {
        let (shared, certificate) = shared(options);
        let server = SmtpServer::bind(listener, shared.clone()).unwrap();
        let (stop, shutdown) = watch::channel(false);
        let address = server.local_addr();
        Self { shared, address, stop, running: tokio::spawn(server.run(shutdown)), certificate }
    }

    pub(super) async fn connect(&self) -> Talk {
        Talk { stream: BufReader::new(Box::new(TcpStream::connect(self.address).await.unwrap())) }
    }

    /// Connected, greeted, and EHLO said.
    pub(super) async fn greeted(&self) -> Talk {
        let mut talk = self.connect().await;
        talk.expect("220 ").await;
        talk.say("EHLO client.example").await;
        talk.expect("250 ").await;
        talk
    }

    /// Greeted, TLS begun and EHLO said again.
    pub(super) async fn secured(&self) -> (Talk, String) {
        let mut talk = self.greeted().await;
        talk.say("STARTTLS").await;
        talk.expect("220 2.0.0 ").await;
        let mut talk = self.secure(talk).await;
        talk.say("EHLO client.example").await;
        let offer = talk.expect("250 ").await;
        (talk, offer)
    }

    pub(super) async fn secure(&self, talk: Talk) -> Talk {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from("relay.example").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, talk.stream.into_inner()).await.unwrap();
        Talk { stream: BufReader::new(Box::new(tls)) }
    }

    pub(super) fn taken(&self) -> Vec<Submission> {
        self.shared.accept.taken.lock().clone()
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.shared.metrics.refused.with_label_values(&["smtp", reason]).get()
    }

    pub(super) async fn stopped(self) {
        let _ = self.stop.send(true);
        self.running.await.unwrap();
    }
}

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// The client's side of a dialogue.
pub(super) struct Talk {
    stream: BufReader<Box<dyn Wire>>,
}

impl Talk {
    pub(super) async fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes()).await;
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads one reply, all its lines; the last must begin with `start`.
    #[track_caller]
    pub(super) fn expect<'a>(&'a mut self, start: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut reply = String::new();
            loop {
                let mut line = String::new();
                let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_line(&mut line)).await;
                read.unwrap_or_else(|_| panic!("no reply at {caller}")).unwrap();
                reply += &line;
                if line.as_bytes().get(3) != Some(&b'-') {
                    assert!(line.starts_with(start), "at {caller}: expected {start:?}, got {reply:?}");
                    return reply;
                }
            }
        }
    }

    /// Says a line and expects a reply.
    pub(super) async fn ask(&mut self, line: &str, start: &str) -> String {
        self.say(line).await;
        self.expect(start).await
    }

    /// Sends a whole mail; `end` is the expected reply to end-of-data.
    pub(super) async fn mail(&mut self, message: &str, end: &str) -> String {
        self.ask("MAIL FROM:<a@shop.example>", "250 ").await;
        self.ask("RCPT TO:<c@d.example>", "250 ").await;
        self.ask("DATA", "354 ").await;
        self.send(message.as_bytes()).await;
        self.ask(".", end).await
    }

    /// Expects that nothing more comes.
    pub(super) async fn expect_end(&mut self) {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "");
    }
}
