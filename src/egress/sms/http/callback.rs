//! What a carrier brings by requests of its own: receipts, and what handsets send.
//!
//! **Promises.** Only who knows the path's token, comes from where the account says, and signs as the description wants, brings
//! anything; tokens and signatures are compared in constant time. The yes is said when everything in the request is durable, or
//! known to concern no message of ours; else it is no yes, and the carrier brings all of it again.
//!
//! **Does not know** sockets: whoever listens hands over what came, within bounds.
//!
//! **Fails how.** A request that may not be, or cannot be read, is refused, counted and logged, without what it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName};
use prometheus::IntCounterVec;
use subtle::ConstantTimeEq;
use tokio::task::JoinSet;

use super::super::carrier::{Carrier, Carriers, Shared};
use super::super::{HandsetMessage, InboundError};
use super::fields::{Document, Field, Format, Read, shown};
use super::recipe::{self, Step};
use super::words::{Value, Words, pairs};
use super::{BodyBounds, Http, HttpCallback};
use crate::event::metrics::Metrics;
use crate::model::{Receipt, ReceiptState};
use crate::sms::Alphabet;

/// Longest words of a carrier that are kept, in characters.
const WORDS_CHARS_MAX: usize = 200;
/// Longest id, number or name of a carrier's that is taken, in characters.
const NAME_CHARS_MAX: usize = 128;
/// Longest message from a handset that is taken, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// How receipts are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipts {
    /// How they are written.
    pub format: Format,
    /// Where, in JSON, the array of them stands, or the one.
    pub each: String,
    /// The carrier's id of the text.
    pub id: Field,
    /// The word for what became of it.
    pub status: Field,
    /// Its code for why.
    pub code: Field,
    /// Its words for that.
    pub message: Field,
    /// What the words mean. A word that is not there is no verdict yet.
    pub states: BTreeMap<String, ReceiptState>,
    /// What is answered.
    pub reply: Reply,
    /// How they prove to be the carrier's.
    pub check: Option<Check>,
}

/// How messages from handsets are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Messages {
    /// How they are written.
    pub format: Format,
    /// Where, in JSON, the array of them stands, or the one.
    pub each: String,
    /// Whose they are.
    pub from: Field,
    /// What they were sent to.
    pub to: Field,
    /// The words.
    pub text: Field,
    /// What is answered.
    pub reply: Reply,
    /// How they prove to be the carrier's.
    pub check: Option<Check>,
}

/// What a carrier wants to hear when all is well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The body.
    pub body: String,
    /// Its type.
    pub content_type: String,
}

/// How a request proves to be the carrier's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What holds the proof.
    pub header: HeaderName,
    /// What it must be.
    pub is: Words,
    /// What that is made of.
    pub values: Vec<Step>,
}

/// What came.
pub struct CallbackRequest<'r> {
    /// From where.
    pub peer: IpAddr,
    /// The path.
    pub path: &'r str,
    /// The query, if there is one.
    pub query: Option<&'r str>,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// The body.
    pub body: &'r [u8],
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallbackAnswer {
    /// HTTP's status code.
    pub status: u16,
    /// The body's type.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Path and headers hold secrets, the body what people write.
        write!(f, "CallbackRequest(from {}, {} bytes)", self.peer, self.body.len())
    }
}

/// A place that carriers come to.
#[derive(Clone, Debug)]
pub struct HttpCallbacks {
    /// As carriers name it: its port may be 0.
    address: SocketAddr,
    carriers: Carriers,
    refused: IntCounterVec,
}

/// What a carrier brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Receipts,
    Messages,
}

/// Why nothing was taken.
enum Refusal {
    /// No such place, as far as whoever asks may know.
    Unknown(&'static str),
    /// The proof is wrong.
    Unproven,
    /// It cannot be read.
    Unreadable,
    /// It cannot be kept now.
    PutOff(InboundError),
}

impl HttpCallbacks {
    /// A place; `carriers` are asked anew for every request.
    pub fn new(address: SocketAddr, carriers: Carriers, metrics: &Metrics) -> Self {
        Self { address, carriers, refused: metrics.carrier_callbacks_refused.clone() }
    }

    /// Most connections that all carriers of this place may have.
    pub fn connections_max(&self) -> usize {
        let all = self.carriers.load();
        let callbacks = all.values().filter_map(|carrier| self.callback_of(carrier));
        callbacks.map(|(_, callback)| callback.connections_max).sum()
    }

    /// What a body may be that is brought to this path from there; looks at nothing else.
    ///
    /// # Errors
    /// What is answered if nothing may be brought.
    pub fn bounds(&self, peer: IpAddr, path: &str) -> Result<BodyBounds, CallbackAnswer> {
        let refuse = |reason| self.refuse(peer, None, Refusal::Unknown(reason));
        let (carrier, _) = self.door(peer, path).map_err(refuse)?;
        self.callback_of(&carrier).map(|(_, callback)| callback.body).ok_or_else(|| refuse("login"))
    }

    /// Takes what a carrier brings; returns when it is durable, or why not.
    pub async fn take(&self, request: CallbackRequest<'_>) -> CallbackAnswer {
        let peer = request.peer;
        let (carrier, kind) = match self.door(peer, request.path) {
            Ok(found) => found,
            Err(reason) => return self.refuse(peer, None, Refusal::Unknown(reason)),
        };
        let taken = match carrier.options().protocol.http() {
            Some(http) => take(carrier.shared(), http, kind, &request).await,
            None => Err(Refusal::Unknown("login")),
        };
        match taken {
            Ok(Reply { body, content_type }) => {
                CallbackAnswer { status: 200, content_type, body: Bytes::from(body.into_bytes()) }
            }
            Err(refusal) => self.refuse(peer, Some(&carrier), refusal),
        }
    }

    fn callback_of<'c>(&self, carrier: &'c Arc<Carrier>) -> Option<(&'c Http, &'c HttpCallback)> {
        let http = carrier.options().protocol.http()?;
        http.callback.as_ref().filter(|callback| callback.listen == self.address).map(|callback| (http, callback))
    }

    /// Whose place it is, and what for: `/NAME/TOKEN/receipt`.
    fn door(&self, peer: IpAddr, path: &str) -> Result<(Arc<Carrier>, Kind), &'static str> {
        let mut words = path.strip_prefix('/').unwrap_or_default().splitn(3, '/');
        let (name, token) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let kind = match words.next() {
            Some("receipt") => Kind::Receipts,
            Some("message") => Kind::Messages,
            _ => return Err("login"),
        };
        let carrier = self.carriers.load().get(name).cloned().ok_or("login")?;
        let (http, callback) = self.callback_of(&carrier).ok_or("login")?;
        let ip = peer.to_canonical();
        if !callback.from.is_empty() && !callback.from.iter().any(|net| net.contains(&ip)) {
            return Err("address");
        }
        let description = &http.description;
        let is_known = match kind {
            Kind::Receipts => description.receipt.is_some(),
            Kind::Messages => description.message.is_some(),
        };
        if callback.token.matches(token.as_bytes()) && is_known { Ok((carrier, kind)) } else { Err("login") }
    }

    fn refuse(&self, peer: IpAddr, carrier: Option<&Arc<Carrier>>, refusal: Refusal) -> CallbackAnswer {
        let (status, counted, why) = match refusal {
            Refusal::Unknown(reason) => (404, Some(reason), "no carrier comes to this path from there"),
            Refusal::Unproven => (403, Some("login"), "its signature is wrong or missing"),
            Refusal::Unreadable => (400, None, "it is not what the description says"),
            Refusal::PutOff(InboundError::Busy) => (503, None, "there is no room for it now"),
            Refusal::PutOff(InboundError::Unavailable) => (503, None, "it cannot be stored"),
        };
        if let Some(reason) = counted {
            self.refused.with_label_values(&[reason]).inc();
        }
        if let (Some(carrier), 400) = (carrier, status) {
            carrier.shared().series.receipts.with_label_values(&[carrier.name(), "unreadable"]).inc();
        }
        let name = carrier.map_or("", |carrier| carrier.name());
        tracing::warn!(listener = %self.address, carrier = name, %peer, status, %why, "a carrier's request was not taken");
        CallbackAnswer { status, content_type: "text/plain".to_owned(), body: Bytes::from_static(b"not taken\n") }
    }
}

async fn take(shared: &Arc<Shared>, http: &Http, kind: Kind, request: &CallbackRequest<'_>) -> Result<Reply, Refusal> {
    let description = &http.description;
    match (kind, &description.receipt, &description.message) {
        (Kind::Receipts, Some(map), _) => {
            let read = read(shared, http, request, map.format, map.check.as_ref())?;
            let receipts = map.read(&read, shared)?;
            all(shared, receipts, |shared, receipt| async move { take_receipt(&shared, receipt).await }).await?;
            Ok(map.reply.clone())
        }
        (Kind::Messages, _, Some(map)) => {
            let read = read(shared, http, request, map.format, map.check.as_ref())?;
            let messages = map.read(&read, shared)?;
            all(shared, messages, |shared, message| async move { shared.inbound.handset(message).await }).await?;
            Ok(map.reply.clone())
        }
        _ => Err(Refusal::Unknown("login")),
    }
}

async fn take_receipt(shared: &Shared, receipt: Receipt) -> Result<(), InboundError> {
    let counted = shared.series.receipts.with_label_values(&[&receipt.carrier, receipt.state.as_str()]);
    let taken = shared.inbound.receipt(receipt).await;
    if taken.is_ok() {
        counted.inc();
    }
    taken
}

/// Takes all of them, so many at a time as the account may have on their way to disk.
async fn all<T, F>(shared: &Arc<Shared>, things: Vec<T>, take: impl Fn(Arc<Shared>, T) -> F) -> Result<(), Refusal>
where
    F: Future<Output = Result<(), InboundError>> + Send + 'static,
{
    let (mut taking, mut all_taken) = (JoinSet::new(), Ok(()));
    let mut note = |done: Option<Result<Result<(), InboundError>, tokio::task::JoinError>>| {
        if let Err(error) = done.unwrap_or(Ok(Ok(()))).unwrap_or(Err(InboundError::Unavailable)) {
            all_taken = Err(Refusal::PutOff(error));
        }
    };
    for thing in things {
        if taking.len() >= shared.options.receipts_max {
            note(taking.join_next().await);
        }
        taking.spawn(take(Arc::clone(shared), thing));
    }
    while let Some(done) = taking.join_next().await {
        note(Some(done));
    }
    all_taken
}

/// Checks what came, and reads it.
fn read(
    shared: &Shared,
    http: &Http,
    request: &CallbackRequest<'_>,
    format: Format,
    check: Option<&Check>,
) -> Result<Read, Refusal> {
    if check.is_some_and(|check| !check.holds(http, &shared.options.name, request)) {
        return Err(Refusal::Unproven);
    }
    let octets = match (format, request.query) {
        // Some carriers write all of it into the query.
        (Format::Form, Some(query)) => [request.body, b"&", query.as_bytes()].concat(),
        _ => request.body.to_vec(),
    };
    Read::new(format, &octets).ok_or(Refusal::Unreadable)
}

impl Check {
    fn holds(&self, http: &Http, carrier: &str, request: &CallbackRequest<'_>) -> bool {
        let Some(shown) = request.headers.get(&self.header) else { return false };
        let mut values = http.account_values(carrier);
        let base = http.callback.as_ref().and_then(|callback| callback.url.as_deref());
        let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
        values.set_some("url", base.map(|base| format!("{base}{}{query}", request.path)));
        values.set("body", Value::Octets(request.body.to_vec()));
        values.set_text("sorted_form", sorted(request.body));
        recipe::run(&self.values, &mut values);
        // An empty one would be shown by anybody.
        let right = self.is.octets(&values).filter(|right| !right.is_empty());
        right.is_some_and(|right| bool::from(right.ct_eq(shown.as_bytes())))
    }
}

/// The fields of a form without anything between, by their names, the same value of the same name once.
fn sorted(form: &[u8]) -> String {
    let mut all = pairs(form);
    all.sort();
    all.dedup();
    all.into_iter().flat_map(|(name, value)| [name, value]).collect()
}

impl Receipts {
    /// All receipts, or none if one of them has no id.
    fn read(&self, read: &Read, shared: &Shared) -> Result<Vec<Receipt>, Refusal> {
        let one = |document: Document<'_>| {
            let (state, words) = self.state(document);
            let id = shown(&self.id.of(document)?, NAME_CHARS_MAX);
            (!id.is_empty()).then(|| Receipt {
                carrier: Arc::clone(&shared.options.name),
                carrier_message_id: id.into(),
                state,
                text: words,
                received_at: shared.clock.now(),
            })
        };
        read.each(&self.each).into_iter().map(one).collect::<Option<_>>().ok_or(Refusal::Unreadable)
    }

    fn state(&self, document: Document<'_>) -> (ReceiptState, String) {
        let [status, code, message] = [&self.status, &self.code, &self.message].map(|field| field.of(document));
        let state = status.as_ref().and_then(|word| self.states.get(word)).copied().unwrap_or(ReceiptState::Underway);
        let mut words = format!("stat:{}", status.as_deref().unwrap_or_default());
        for (name, said) in [(" err:", code), (" ", message)] {
            words.extend(said.into_iter().flat_map(|said| [name.to_owned(), said]));
        }
        (state, shown(&words, WORDS_CHARS_MAX))
    }
}

impl Messages {
    fn read(&self, read: &Read, shared: &Shared) -> Result<Vec<HandsetMessage>, Refusal> {
        let one = |document: Document<'_>| {
            let [from, to] = [&self.from, &self.to].map(|field| field.of(document).unwrap_or_default());
            let words = self.text.of(document).unwrap_or_default();
            (!from.is_empty()).then(|| HandsetMessage {
                carrier: Arc::clone(&shared.options.name),
                from: number(&shown(&from, NAME_CHARS_MAX)).into(),
                to: shown(&to, NAME_CHARS_MAX).into(),
                alphabet: Alphabet::Ucs2,
                place: None,
                octets: words
                    .chars()
                    .take(MESSAGE_CHARS_MAX)
                    .collect::<String>()
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect(),
                received_at: shared.clock.now(),
            })
        };
        read.each(&self.each).into_iter().map(one).collect::<Option<_>>().ok_or(Refusal::Unreadable)
    }
}

/// Carriers write numbers with `+`, with the country's code alone, or as people in China do.
fn number(written: &str) -> String {
    super::super::protocol::gateway_number(written.trim().to_owned())
}
