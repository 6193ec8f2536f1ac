//! A server on 127.0.0.1 with a fake backend, and a client that speaks HTTP byte by byte.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::super::body::BodyMemory;
use super::super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::ingress::backend::PartPrice;
use crate::model::{
    Channel, Class, ClientName, Content, Envelope, MailOrigin, MessageId, Money, Number, Origin, Responsibility,
    Secret, SenderId, Submission,
};
use crate::policy::credentials::CredentialsError;
use crate::policy::opt_outs::{RULE, Wanted};
use crate::policy::texts::Ledger;
use crate::policy::{Client, Refusal};
use crate::queue::{AcceptError, MessageView};
use crate::sms::{Language, Repertoire};

/// What time it is in all these tests: 2026-11-23T06:24:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_795_415_040);

/// Wants no marketing of anybody.
pub(super) const OPTED_OUT: &str = "+8613800138099";

/// Remembers what it accepted. Keys: `KEY` for the client "shop", `OTHER` for "other", `PLAIN` for "plain", whose texts
/// are transliterated, `SIGNED` for "signed", whose signature is 小店; shop's password is "secret".
#[derive(Clone, Debug, Default)]
pub(super) struct Fake(Arc<Mutex<Remembered>>, Ledger);

#[derive(Debug, Default)]
struct Remembered {
    accepted: Vec<Submission>,
    replays: HashMap<(ClientName, Arc<str>), ([u8; 32], MessageId)>,
    refusal: Option<AcceptError>,
    entered: Arc<Notify>,
    gate: Option<Arc<Notify>>,
    view: Option<MessageView>,
}

pub(super) struct Taken {
    id: MessageId,
    replayed: bool,
}

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        self.id
    }
}

impl Acceptance for Taken {
    fn replayed(&self) -> bool {
        self.replayed
    }
}

impl Backend for Fake {
    type Accepted = Taken;

    async fn accept(&self, submission: Submission) -> Result<Taken, AcceptError> {
        let gate = {
            let fake = self.0.lock();
            fake.entered.notify_one();
            fake.gate.clone()
        };
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let mut fake = self.0.lock();
        if let Some(refusal) = &fake.refusal {
            return Err(refusal.clone());
        }
        let id = submission.envelope.id;
        if let Some(own) = &submission.envelope.idempotency {
            let key = (submission.envelope.client.clone(), own.key.clone());
            let (fingerprint, earlier) = *fake.replays.entry(key).or_insert((own.fingerprint, id));
            if fingerprint != own.fingerprint {
                return Err(AcceptError::KeyReused);
            }
            if earlier != id {
                return Ok(Taken { id: earlier, replayed: true });
            }
        }
        fake.accepted.push(submission);
        Ok(Taken { id, replayed: false })
    }

    fn ledger(&self) -> &Ledger {
        &self.1
    }

    fn price(&self, to: &Number, _class: Class, _client: &ClientName) -> Option<PartPrice> {
        let part = Money::from_millionths(35_000);
        let known = to.as_str().starts_with("+86");
        known.then(|| PartPrice { carrier: "cmcc".into(), part, currency: "CNY".into() })
    }

    fn repertoire(&self, to: &Number, _class: Class, _client: &ClientName) -> Repertoire {
        let languages = if to.as_str().starts_with("+86139") { vec![Language::Turkish] } else { Vec::new() };
        Repertoire { languages, ..Repertoire::default() }
    }

    async fn accepted_before(&self, envelope: &Envelope) -> Result<Option<Taken>, AcceptError> {
        let Some(own) = &envelope.idempotency else { return Ok(None) };
        let key = (envelope.client.clone(), own.key.clone());
        let earlier = self.0.lock().replays.get(&key).copied();
        Ok(earlier.filter(|(print, _)| *print == own.fingerprint).map(|(_, id)| Taken { id, replayed: true }))
    }

    fn may_send(&self, text: Wanted<'_>) -> Result<(), Refusal> {
        let refused = text.number.as_str() == OPTED_OUT && text.class == Class::Marketing;
        let refusal = || Refusal { rule: RULE, detail: format!("{:?} {:?}", text.signature, text.sender) };
        if refused { Err(refusal()) } else { Ok(()) }
    }

    async fn message(&self, id: MessageId, client: &ClientName) -> Option<MessageView> {
        self.0.lock().view.clone().filter(|v| v.id == id.to_string() && v.client == *client)
    }

    async fn password(&self, name: &str, password: &Secret, _peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        if name == "shop" && password.matches(b"secret") { Ok(client("shop")) } else { Err(CredentialsError::Bad) }
    }

    async fn api_key(&self, key: &Secret, peer: IpAddr) -> Result<Arc<Client>, CredentialsError> {
        assert!(peer.is_loopback());
        match key.expose() {
            "KEY" => Ok(client("shop")),
            "OTHER" => Ok(client("other")),
            "PLAIN" => Ok(client("plain")),
            "SIGNED" => Ok(client("signed")),
            "LIMITED" => Err(CredentialsError::Limited),
            "BUSY" => Err(CredentialsError::Busy),
            _ => Err(CredentialsError::Bad),
        }
    }
}

fn client(name: &str) -> Arc<Client> {
    Arc::new(Client {
        channels: if name == "other" { Vec::new() } else { vec![Channel::Email, Channel::Sms] },
        senders: vec!["shop.example.com".to_owned()],
        numbers: vec![SenderId::parse("10690001").unwrap()],
        countries: vec!["+86".to_owned()],
        signatures: if name == "signed" { vec!["小店".into()] } else { Vec::new() },
        templates_only: name == "signed",
        transliterate: name == "plain",
        ..Client::bare(name)
    })
}

impl Fake {
    pub(super) fn accepted(&self) -> Vec<Submission> {
        self.0.lock().accepted.clone()
    }

    pub(super) fn refuse(&self, refusal: AcceptError) {
        self.0.lock().refusal = Some(refusal);
    }

    pub(super) fn accept_again(&self) {
        self.0.lock().refusal = None;
    }

    pub(super) fn show(&self, view: MessageView) {
        self.0.lock().view = Some(view);
    }

    /// From now on nothing is accepted until the gate is notified, once for each submission.
    pub(super) fn close_gate(&self) -> Arc<Notify> {
        self.0.lock().gate.insert(Arc::default()).clone()
    }

    /// Notified whenever a submission arrives.
    pub(super) fn entered(&self) -> Arc<Notify> {
        self.0.lock().entered.clone()
    }
}

/// The handlers without a socket.
pub(super) fn app(fake: Fake, options: Options) -> App<Fake> {
    let memory = BodyMemory::new(options.bodies_bytes_max);
    App { options: Arc::new(ArcSwap::from_pointee(options)), shared: Arc::new(shared(fake)), memory }
}

fn shared(backend: Fake) -> Shared<Fake> {
    Shared {
        backend,
        metrics: Arc::new(Metrics::new()),
        caps: Caps::new(100),
        clock: Arc::new(ManualClock::at(NOW)),
        tls: Arc::new(ArcSwapOption::empty()),
    }
}

/// A running server.
pub(super) struct Running {
    pub(super) fake: Fake,
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) served: JoinHandle<()>,
}

impl Running {
    pub(super) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        let options = Options { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..options };
        let fake = Fake::default();
        let shared = shared(fake.clone());
        let (metrics, tls) = (shared.metrics.clone(), shared.tls.clone());
        let server = HttpServer::bind(Arc::new(ArcSwap::from_pointee(options)), shared).unwrap();
        let address = server.local_addr();
        let (stop, shutdown) = watch::channel(false);
        let served = tokio::spawn(server.run(shutdown));
        Self { fake, address, metrics, tls, stop, served }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads the reply to its end.
    pub(super) async fn exchange(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read(&mut stream).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Reply {
        self.post_with(path, "content-type: application/json\r\n", body.as_bytes()).await
    }

    pub(super) async fn post_mail(&self, path: &str, mail: &[u8]) -> Reply {
        self.post_with(path, "content-type: message/rfc822\r\n", mail).await
    }

    /// Posts as "shop", with further header lines.
    pub(super) async fn post_with(&self, path: &str, lines: &str, body: &[u8]) -> Reply {
        self.post_as(&format!("authorization: Bearer KEY\r\n{lines}"), path, body).await
    }

    /// Posts with these header lines, credentials among them.
    pub(super) async fn post_as(&self, lines: &str, path: &str, body: &[u8]) -> Reply {
        self.exchange(&request(&format!("POST {path}"), lines, body)).await
    }

    pub(super) async fn get(&self, path: &str, lines: &str) -> Reply {
        self.exchange(&request(&format!("GET {path}"), lines, b"")).await
    }

    /// The only message accepted.
    pub(super) fn only(&self) -> Submission {
        let mut all = self.fake.accepted();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// A request for one exchange.
pub(super) fn request(target: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{target} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\ncontent-length: {}\r\n{lines}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads one reply, up to the end of the connection.
pub(super) async fn read<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Reply::parse(&String::from_utf8(bytes).unwrap())
}

/// A reply, read apart.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Names in lower case; a field that stands twice is joined by a comma.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Value,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole reply: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).unwrap().parse().unwrap();
        let mut headers: HashMap<String, String> = HashMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|v| *v = format!("{v}, {value}"))
                .or_insert_with(|| value.to_owned());
        }
        if let Some(length) = headers.get("content-length") {
            assert_eq!(*length, body.len().to_string());
        }
        Self { status, headers, body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    /// The fields that a refusal names.
    pub(super) fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|e| e["field"].as_str().unwrap()).collect()
    }

    /// Checks that this is a refusal of that status and kind, in RFC 9457's form.
    #[track_caller]
    pub(super) fn assert_problem(&self, status: u16, word: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:postrider:problem:{word}"), "{self:?}");
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
    }
}

/// What a mail's content is, and what goes with it.
pub(super) fn mail_of(submission: &Submission) -> (String, &Envelope, &MailOrigin) {
    let Content::Mail(data) = &submission.content else { panic!("not a mail") };
    let Origin::Mail(origin) = &submission.envelope.origin else { panic!("not a mail") };
    (String::from_utf8(data.bytes().to_vec()).unwrap(), &submission.envelope, origin)
}

/// The recipients' addresses.
pub(super) fn recipients(envelope: &Envelope) -> Vec<String> {
    envelope.recipients.iter().map(|r| r.address.to_string()).collect()
}
