//! One connection: reads, checks who binds, hands submissions over, brings what is due, writes.
//!
//! **Promises.** While answers cannot be written nothing is read, so that TCP holds a peer back that does not read. A submission
//! beyond the client's window or rate is answered `ESME_RTHROTTLED` and costs nothing else. Each submission is taken in a task of
//! its own, and its answer is written when that is through: a link that ends undoes nothing, and says no yes.
//!
//! **Fails how.** [`End`]; what was being brought is due again.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Shared;
use super::options::Options;
use super::outbox::Out;
use super::part::Rejected;
use super::presence::{BindSlot, Throttled, WindowSlot};
use super::taking::Yes;
use crate::clock::Mono;
use crate::ingress::stream::{Flow, FlowError};
use crate::model::{Channel, MessageId, Secret};
use crate::policy::Client;
use crate::policy::credentials::CredentialsError;
use crate::wire::smpp::server::{BindRequest, Bound, Event, Open, OpenStep, PeerFault};
use crate::wire::smpp::session::Settings;
use crate::wire::smpp::{COctets, CommandStatus, Frame, FrameError, Framer, ShortMessage, command};

/// Binds refused, after which a connection is closed.
const REFUSED_BINDS_MAX: u32 = 3;
/// How long a peer may take to answer our `unbind`.
const UNBIND_PATIENCE: Duration = Duration::from_secs(2);
/// Octets waiting to be written at which reading stops until they are.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// Who we are, in `bind_resp`.
const SYSTEM_ID: &str = "postrider";

/// Why a link ended, other than in good order.
#[derive(Debug)]
enum End {
    Flow(FlowError),
    Peer(PeerFault),
    Length(FrameError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(FlowError::TimedOut) => f.write_str("timeout"),
            Self::Flow(FlowError::Stopping) => f.write_str("the relay is stopping"),
            Self::Flow(error) => write!(f, "{error:?}"),
            Self::Peer(fault) => fault.fmt(f),
            Self::Length(error) => error.fmt(f),
        }
    }
}

impl From<FlowError> for End {
    fn from(e: FlowError) -> Self {
        Self::Flow(e)
    }
}

impl From<PeerFault> for End {
    fn from(e: PeerFault) -> Self {
        Self::Peer(e)
    }
}

impl From<FrameError> for End {
    fn from(e: FrameError) -> Self {
        Self::Length(e)
    }
}

/// An answer to a submission, ready to be written.
struct Answer {
    sequence: u32,
    result: Result<(MessageId, Yes), Rejected>,
    _slot: WindowSlot,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: bool,
    options: Arc<Options>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    let mut flow = Flow::plain(stream, shared.clock.clone());
    let deadline = shared.clock.mono().plus(options.bind_timeout);
    if tls {
        // The certificate may have gone since the listener was bound: nothing may be said in clear here.
        let Some(config) = shared.tls.load_full() else { return };
        if let Err(error) = flow.start_tls(config, options.bind_timeout).await {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
    }
    let mut link = Link { flow, framer: Framer::new(), out: BytesMut::new(), peer, options, shared, stop };
    match link.converse(deadline).await {
        Ok(()) => link.flow.finish().await,
        Err(End::Flow(FlowError::Closed)) => {}
        Err(end) => tracing::debug!(%peer, why = %end, "SMPP link ended"),
    }
}

struct Link {
    flow: Flow,
    framer: Framer,
    out: BytesMut,
    peer: SocketAddr,
    options: Arc<Options>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

impl Link {
    async fn converse(&mut self, deadline: Mono) -> Result<(), End> {
        let Some((bound, client, slot)) = self.open(deadline).await? else { return Ok(()) };
        tracing::info!(peer = %self.peer, client = %client.name, mode = ?bound.mode(), "SMPP client bound");
        let (sender, answers) = mpsc::channel(client.smpp.window.max(1));
        let active = self.shared.clock.mono();
        let name = client.name.clone();
        let serving = Serving { bound, client, answers, sender, brought: HashMap::new(), under_way: 0, active };
        let ended = self.serve(serving).await;
        tracing::info!(peer = %self.peer, client = %name, "SMPP client unbound");
        drop(slot);
        ended
    }

    async fn open(&mut self, deadline: Mono) -> Result<Option<(Bound, Arc<Client>, BindSlot)>, End> {
        let (mut open, mut refused) = (Open::new(), 0);
        loop {
            while let Some(frame) = self.framer.next_frame()? {
                open = match open.receive(frame, &mut self.out)? {
                    OpenStep::Open(open) => open,
                    OpenStep::Unbound => {
                        self.write().await?;
                        return Ok(None);
                    }
                    OpenStep::Bind(request) => match self.judge(&request).await {
                        Ok((client, slot)) => {
                            let bound = self.accept(request);
                            self.write().await?;
                            return Ok(Some((bound, client, slot)));
                        }
                        Err(status) => {
                            refused += 1;
                            let open = request.refuse(status, &mut self.out);
                            if refused >= REFUSED_BINDS_MAX {
                                self.write().await?;
                                return Ok(None);
                            }
                            open
                        }
                    },
                };
            }
            self.write().await?;
            self.read(deadline).await?;
        }
    }

    fn accept(&mut self, request: BindRequest) -> Bound {
        let Options { delivery_window, enquire_interval, response_timeout, .. } = *self.options;
        let settings = Settings { window: delivery_window, enquire_interval, response_timeout };
        let system_id = COctets::new("system_id", SYSTEM_ID).unwrap_or_default();
        request.accept(system_id, settings, self.shared.clock.mono(), &mut self.out)
    }

    /// Whether somebody may bind. What is wrong with a name and a password is not told apart.
    async fn judge(&self, request: &BindRequest) -> Result<(Arc<Client>, BindSlot), CommandStatus> {
        let shared = &self.shared;
        let system_id = request.bind().system_id.to_string();
        if system_id.is_empty() {
            return Err(CommandStatus::INVALID_SYSTEM_ID);
        }
        let password = Secret::new(String::from_utf8_lossy(request.bind().password.as_bytes()));
        let name = shared.clients.load().of_system_id(&system_id).map(|client| client.name.clone());
        // An unknown one costs as much as a known one; no client's name holds a NUL.
        let name = name.unwrap_or_else(|| format!("\0{system_id}").into());
        let checking = shared.live.credentials.password_or_key(&name, &password, self.peer.ip());
        let checked = timeout(self.options.bind_timeout, checking).await.unwrap_or(Err(CredentialsError::Busy));
        let (result, status) = match &checked {
            Ok(_) => ("ok", CommandStatus::OK),
            Err(CredentialsError::Bad) => ("bad", CommandStatus::INVALID_PASSWORD),
            Err(CredentialsError::Limited) => ("limited", CommandStatus::BIND_FAILED),
            Err(CredentialsError::Busy) => ("busy", CommandStatus::BIND_FAILED),
        };
        shared.metrics.credentials_checked.with_label_values(&[result]).inc();
        let Ok(client) = checked else {
            tracing::info!(peer = %self.peer, result, "SMPP bind refused");
            return Err(status);
        };
        if client.may_use(Channel::Sms).is_err() {
            tracing::info!(peer = %self.peer, client = %client.name, "SMPP bind refused: no texts for this client");
            return Err(CommandStatus::BIND_FAILED);
        }
        let presence = shared.presences.of(&client.name, &shared.metrics);
        match presence.bind(&client.smpp) {
            Some(slot) => Ok((client, slot)),
            None => {
                tracing::info!(peer = %self.peer, client = %client.name, "SMPP bind refused: it has as many as it may");
                Err(CommandStatus::ALREADY_BOUND)
            }
        }
    }

    async fn serve(&mut self, mut serving: Serving) -> Result<(), End> {
        loop {
            while let Some(frame) = self.framer.next_frame()? {
                if !self.act(&mut serving, frame)? {
                    return Ok(self.write().await?);
                }
                if self.out.len() > OUT_BYTES_MAX {
                    self.write().await?;
                }
            }
            if serving.bound.mode().receives() {
                self.shared.outbox.bound(&serving.client.name);
            }
            let (due, arrived) = self.shared.outbox.awaited(&serving.client.name);
            // Registered before looking, so that nothing is missed.
            let mut arrived = std::pin::pin!(arrived.notified());
            arrived.as_mut().enable();
            self.bring(&mut serving);
            self.write().await?;
            let due = due.filter(|_| serving.bound.free() > 0);
            let idle_at = serving.active.plus(self.options.idle);
            let until = serving.bound.wakeup().min(idle_at).min(due.unwrap_or(idle_at));
            tokio::select! {
                Some(answer) = serving.answers.recv() => {
                    self.answer(&mut serving, answer);
                    while let Ok(answer) = serving.answers.try_recv() {
                        self.answer(&mut serving, answer);
                    }
                }
                () = arrived, if serving.bound.mode().receives() => {}
                read = self.flow.read(until, Some(&mut self.stop)) => match read {
                    Ok(_) => self.framer.extend(&self.flow.input.split()),
                    Err(FlowError::TimedOut) => {}
                    Err(FlowError::Stopping) => return self.part(serving).await,
                    Err(error) => return Err(error.into()),
                },
            }
            let now = self.shared.clock.mono();
            for sequence in serving.bound.tick(now, &mut self.out)? {
                if let Some(out) = serving.brought.remove(&sequence) {
                    out.put_off();
                }
            }
            if now >= idle_at && serving.under_way == 0 && serving.brought.is_empty() {
                return self.part(serving).await;
            }
        }
    }

    /// Does what a frame says; false if the peer has unbound.
    fn act(&mut self, serving: &mut Serving, frame: Frame) -> Result<bool, End> {
        let now = self.shared.clock.mono();
        match serving.bound.receive(frame, now, &mut self.out)? {
            Event::Submission { sequence, message } => {
                serving.active = now;
                self.submission(serving, sequence, message, now);
            }
            Event::Answer { sequence, status } => {
                serving.active = now;
                if let Some(out) = serving.brought.remove(&sequence) {
                    if status == CommandStatus::OK { out.taken() } else { out.put_off() }
                }
            }
            Event::Unbound => return Ok(false),
            Event::Nothing => {}
        }
        Ok(true)
    }

    fn submission(&mut self, serving: &mut Serving, sequence: u32, message: ShortMessage, now: Mono) {
        let shared = &self.shared;
        // The client as it is configured now; a reload may have changed or removed it.
        let client = shared.clients.load().named(&serving.client.name).cloned();
        let Some(client) = client else {
            let gone = Rejected::new(
                CommandStatus::INVALID_BIND_STATUS,
                "unauthenticated",
                "there is no such client any more",
            );
            return self.refuse(serving, sequence, &gone);
        };
        let slot = match shared.presences.of(&client.name, &shared.metrics).submit(&client.smpp, now) {
            Ok(slot) => slot,
            Err(throttled) => return self.throttle(serving, sequence, throttled),
        };
        serving.under_way += 1;
        let (shared, answers) = (shared.clone(), serving.sender.clone());
        tokio::spawn(async move {
            let result = shared.submit(&client, &message).await;
            // The link may be gone: then nobody is told, and whoever submitted asks again.
            let _ = answers.send(Answer { sequence, result, _slot: slot }).await;
        });
    }

    fn throttle(&mut self, serving: &mut Serving, sequence: u32, throttled: Throttled) {
        let client = &*serving.client.name;
        self.shared.metrics.smpp.submissions.with_label_values(&[client, "throttled"]).inc();
        tracing::debug!(peer = %self.peer, client, by = throttled.word(), "SMPP submission throttled");
        serving.bound.refused(sequence, CommandStatus::THROTTLED, &mut self.out);
    }

    fn refuse(&mut self, serving: &mut Serving, sequence: u32, rejected: &Rejected) {
        let Rejected { status, reason, detail } = rejected;
        let (client, metrics) = (&*serving.client.name, &self.shared.metrics);
        metrics.smpp.submissions.with_label_values(&[client, "refused"]).inc();
        metrics.refused.with_label_values(&["smpp", *reason]).inc();
        tracing::info!(peer = %self.peer, client, %status, why = detail, "text refused");
        serving.bound.refused(sequence, *status, &mut self.out);
    }

    fn answer(&mut self, serving: &mut Serving, answer: Answer) {
        serving.under_way -= 1;
        let Answer { sequence, result, .. } = answer;
        let (id, yes) = match result {
            Ok(taken) => taken,
            Err(rejected) => return self.refuse(serving, sequence, &rejected),
        };
        self.shared.metrics.smpp.submissions.with_label_values(&[&*serving.client.name, "taken"]).inc();
        let id = COctets::new("message_id", &id.to_string()).unwrap_or_default();
        match yes {
            Yes::Accepted(proof) => serving.bound.taken(sequence, &proof, id, &mut self.out),
            Yes::Part(proof) => serving.bound.taken(sequence, &proof, id, &mut self.out),
        }
    }

    /// Brings what is due, as far as the window goes.
    fn bring(&mut self, serving: &mut Serving) {
        let now = self.shared.clock.mono();
        while serving.bound.free() > 0 && self.out.len() <= OUT_BYTES_MAX {
            let Some(out) = self.shared.outbox.next(&serving.client.name) else { return };
            let Some(delivery) = out.delivery() else { return };
            let message = delivery.message(self.options.default_alphabet);
            let Ok(sequence) = serving.bound.deliver_sm(message, now, &mut self.out) else { return };
            serving.brought.insert(sequence, out);
            serving.active = now;
        }
    }

    /// Ends a link in good order: answers what was submitted, then unbinds.
    async fn part(&mut self, mut serving: Serving) -> Result<(), End> {
        while serving.under_way > 0 {
            let Some(answer) = serving.answers.recv().await else { break };
            self.answer(&mut serving, answer);
            self.write().await?;
        }
        let mut brought = std::mem::take(&mut serving.brought);
        let unbinding = serving.bound.unbind(&mut self.out);
        self.write().await?;
        let deadline = self.shared.clock.mono().plus(UNBIND_PATIENCE);
        loop {
            while let Some(frame) = self.framer.next_frame()? {
                let taken = frame.command_id == command::DELIVER_SM | command::RESPONSE && frame.command_status == 0;
                if let Some(out) = brought.remove(&frame.sequence).filter(|_| taken) {
                    out.taken();
                }
                if unbinding.receive(&frame, &mut self.out) {
                    return Ok(self.write().await?);
                }
            }
            self.flow.read(deadline, None).await?;
            self.framer.extend(&self.flow.input.split());
        }
    }

    async fn read(&mut self, until: Mono) -> Result<(), End> {
        self.flow.read(until, Some(&mut self.stop)).await?;
        self.framer.extend(&self.flow.input.split());
        Ok(())
    }

    async fn write(&mut self) -> Result<(), FlowError> {
        self.flow.write(&mut self.out, self.options.response_timeout).await
    }
}

/// A bound link, and what goes on over it.
struct Serving {
    bound: Bound,
    client: Arc<Client>,
    answers: mpsc::Receiver<Answer>,
    sender: mpsc::Sender<Answer>,
    /// What has been brought and not answered, by sequence number.
    brought: HashMap<u32, Out>,
    /// Submissions that are not answered.
    under_way: usize,
    /// When something was submitted or brought last.
    active: Mono,
}
