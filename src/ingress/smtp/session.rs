//! One connection: reads, asks policy, hands messages over, writes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connections::Charge;
use super::options::{AuthMode, Listener, Options, TlsMode};
use super::submit::{self, Circumstances, Refused};
use super::{Accept, Shared};
use crate::clock::Mono;
use crate::ingress::stream::{Flow, FlowError};
use crate::model::{Channel, ClientName, MessageId, Submission};
use crate::policy::Client;
use crate::policy::credentials::CredentialsError;
use crate::wire::smtp::server::{
    AuthDecision, EndOfData, Event, MailCommand, NegativeReply, Received, Session, Tls, TlsDecision,
};

/// Mails larger than this are prepared off the async workers: hashing them takes longer than others should wait.
const PREPARE_INLINE_BYTES_MAX: usize = 256 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve<A: Accept>(
    stream: TcpStream,
    peer: SocketAddr,
    options: Arc<Options>,
    listener: Arc<Listener>,
    shared: Shared<A>,
    stop: watch::Receiver<bool>,
) {
    let mut flow = Flow::plain(stream, shared.clock.clone());
    let certificate = shared.tls.load_full();
    let tls = match (listener.tls, certificate) {
        (TlsMode::Implicit, Some(config)) => match flow.start_tls(config, options.handshake_timeout).await {
            Ok(()) => Tls::Active,
            Err(e) => {
                tracing::debug!(%peer, error = %e, "TLS handshake failed");
                return;
            }
        },
        // The certificate has gone since the listener was bound: nothing may be said in clear here.
        (TlsMode::Implicit, None) => return,
        (TlsMode::StartTls, Some(_)) => Tls::Offered,
        (TlsMode::StartTls, None) | (TlsMode::None, _) => Tls::Unavailable,
    };
    let session = Session::new(options.terms(&listener, tls));
    let now = shared.clock.mono();
    let connection = Connection {
        charge: shared.connections.charge(),
        tls: flow.tls_description().map(Into::into),
        client: listener.trusts(peer.ip()).cloned(),
        pace: Pace::new(now),
        messages: 0,
        peer,
        options,
        listener,
        shared,
        stop,
    };
    connection.run(flow, session).await;
}

struct Connection<A> {
    shared: Shared<A>,
    options: Arc<Options>,
    listener: Arc<Listener>,
    peer: SocketAddr,
    /// Who it acts as: by trust, or by AUTH.
    client: Option<ClientName>,
    tls: Option<Arc<str>>,
    messages: u32,
    charge: Charge,
    pace: Pace,
    stop: watch::Receiver<bool>,
}

/// How fast the peer has been.
struct Pace {
    /// When we began to wait for the command that is not complete yet.
    command_since: Mono,
    /// Message data is coming in; the times below count from its start.
    receiving: bool,
    /// When message data last came.
    progress: Mono,
    /// The window in which its rate is measured.
    window_since: Mono,
    window_bytes: u64,
}

impl<A: Accept> Connection<A> {
    async fn run(mut self, mut flow: Flow, mut session: Session) {
        if let Err(error) = self.converse(&mut flow, &mut session).await {
            let Some(reply) = last_words(&error) else {
                tracing::debug!(peer = %self.peer, ?error, "SMTP connection ended");
                return;
            };
            session.close(&reply);
            if flow.write(session.output(), self.options.handshake_timeout).await.is_err() {
                return;
            }
        }
        flow.finish().await;
    }

    /// Goes on until the session is closed and its last reply written.
    async fn converse(&mut self, flow: &mut Flow, session: &mut Session) -> Result<(), FlowError> {
        loop {
            match session.receive(&mut flow.input) {
                Event::NeedInput => {
                    flow.write(session.output(), self.options.command_timeout).await?;
                    self.read(flow, session).await?;
                    continue;
                }
                Event::Mail(ask) => match self.judge(ask.mail()) {
                    Ok(()) => ask.accept(),
                    Err(Refused { reason, reply }) => {
                        self.count_refused(reason);
                        ask.refuse(&reply);
                        if reply.code() == 421 {
                            session.end();
                        }
                    }
                },
                Event::Recipient(ask) => ask.accept(),
                Event::Authenticate(mut ask) => {
                    flow.write(ask.output(), self.options.command_timeout).await?;
                    self.authenticate(ask).await;
                }
                Event::Message(end, received) => self.submit(end, received).await,
                Event::MessageRefused(fault) => self.count_refused(submit::fault_word(&fault)),
                Event::StartTls(decision) => self.start_tls(flow, decision).await?,
                Event::Closed => return flow.write(session.output(), self.options.command_timeout).await,
            }
            self.pace.command_since = self.shared.clock.mono();
        }
    }

    /// Waits for input, as long as what is expected may take.
    async fn read(&mut self, flow: &mut Flow, session: &Session) -> Result<(), FlowError> {
        if !self.charge.set(session.message_bytes(), self.options.receiving_bytes_max) {
            return Err(FlowError::Full);
        }
        if !session.is_receiving() {
            self.pace.receiving = false;
            // A peer that sends its command octet by octet gains no time by it.
            let until = self.pace.command_since.plus(self.options.command_timeout);
            return flow.read(until, Some(&mut self.stop)).await.map(|_| ());
        }
        self.pace.begin_data(self.shared.clock.mono());
        loop {
            let read = flow.read(self.pace.data_deadline(&self.options), None).await;
            let now = self.shared.clock.mono();
            match read {
                Ok(bytes) => {
                    self.pace.progress = now;
                    self.pace.window_bytes += bytes as u64;
                }
                Err(FlowError::TimedOut) if now < self.pace.progress.plus(self.options.data_idle_timeout) => {}
                Err(error) => return Err(error),
            }
            self.pace.measure(now, &self.options)?;
            if read.is_ok() {
                return Ok(());
            }
        }
    }

    /// Whether this client may begin this transaction.
    fn judge(&mut self, mail: &MailCommand) -> Result<(), Refused> {
        if *self.stop.borrow() {
            return Err(Refused::new("stopping", 421, (3, 2), "Relay is stopping; try again later"));
        }
        if self.messages >= self.options.messages_max {
            return Err(Refused::new("messages", 421, (7, 0), "Too many messages on one connection; connect again"));
        }
        let client = self.current_client()?;
        client.may_use(Channel::Email)?;
        match mail.reverse_path.mailbox() {
            Some(mailbox) => Ok(client.may_send_as(mailbox.domain())?),
            // RFC 5321 section 4.5.5: notifications have none. From is still asked about.
            None => Ok(()),
        }
    }

    /// The client as it is configured now; a reload may have changed or removed it.
    fn current_client(&self) -> Result<Arc<Client>, Refused> {
        let client = self.client.as_ref().and_then(|name| self.shared.clients.load().named(name).cloned());
        client.ok_or_else(|| match self.listener.auth {
            AuthMode::Required => Refused::new("auth", 530, (7, 0), "Authentication required"),
            AuthMode::Optional | AuthMode::None => Refused::new("relay", 550, (7, 1), "Relaying denied"),
        })
    }

    async fn authenticate(&mut self, ask: AuthDecision<'_>) {
        let identity = ask.identity().clone();
        let checked = self.shared.credentials.password(&identity.name, &identity.password, self.peer.ip()).await;
        let result = match &checked {
            Ok(_) => "ok",
            Err(CredentialsError::Bad) => "bad",
            Err(CredentialsError::Limited) => "limited",
            Err(CredentialsError::Busy) => "busy",
        };
        self.shared.metrics.credentials_checked.with_label_values(&[result]).inc();
        match checked {
            Ok(client) => {
                self.client = Some(client.name.clone());
                ask.accept();
            }
            Err(error) => {
                tracing::info!(peer = %self.peer, result, "authentication failed");
                ask.refuse(&auth_refusal(error));
            }
        }
    }

    /// Hands a message over; the reply follows from what comes back.
    async fn submit(&mut self, end: EndOfData<'_>, received: Received) {
        self.messages += 1;
        self.charge.set(received.data.len(), usize::MAX);
        let submission = match self.current_client() {
            Ok(client) => self.prepare(client, &end, received).await,
            Err(refused) => Err(refused),
        };
        let accepted = match submission {
            Ok(submission) => self.shared.accept.accept(submission).await.map_err(Refused::from),
            Err(refused) => Err(refused),
        };
        self.charge.set(0, usize::MAX);
        match accepted {
            Ok(proof) => end.accept(&proof),
            Err(Refused { reason, reply }) => {
                self.count_refused(reason);
                tracing::info!(peer = %self.peer, client = ?self.client, code = reply.code(), reply = reply.text(), "mail refused");
                end.refuse(&reply);
            }
        }
    }

    async fn prepare(
        &self,
        client: Arc<Client>,
        end: &EndOfData<'_>,
        received: Received,
    ) -> Result<Submission, Refused> {
        let time = self.shared.clock.now();
        let options = self.shared.options.load();
        let circumstances = Circumstances {
            id: MessageId::new(time),
            client,
            hello: end.hello().clone(),
            authenticated: end.authenticated(),
            tls: self.tls.clone(),
            peer: self.peer.ip().to_canonical(),
            by: options.hostname.clone(),
            time,
            hops_max: options.hops_max,
            send_at_max: options.send_at_max,
        };
        drop(options);
        let prepare = self.shared.prepare;
        if received.data.len() <= PREPARE_INLINE_BYTES_MAX {
            return submit::submission(received, &circumstances, prepare);
        }
        let prepared = tokio::task::spawn_blocking(move || submit::submission(received, &circumstances, prepare)).await;
        prepared.unwrap_or_else(|_| Err(Refused::new("unavailable", 451, (3, 0), "Cannot prepare mail now")))
    }

    /// Says the go-ahead, does the handshake, and forgets who the client was (RFC 3207 section 4.2).
    async fn start_tls(&mut self, flow: &mut Flow, mut decision: TlsDecision<'_>) -> Result<(), FlowError> {
        let config = self.shared.tls.load_full().ok_or(FlowError::Closed)?;
        flow.write(decision.output(), self.options.command_timeout).await?;
        flow.start_tls(config, self.options.handshake_timeout).await.map_err(|e| {
            tracing::debug!(peer = %self.peer, error = %e, "TLS handshake failed");
            FlowError::Closed
        })?;
        self.tls = flow.tls_description().map(Into::into);
        self.client = self.listener.trusts(self.peer.ip()).cloned();
        decision.started();
        Ok(())
    }

    fn count_refused(&self, reason: &str) {
        self.shared.metrics.refused.with_label_values(&["smtp", reason]).inc();
    }
}

impl Pace {
    fn new(now: Mono) -> Self {
        Self { command_since: now, receiving: false, progress: now, window_since: now, window_bytes: 0 }
    }

    fn begin_data(&mut self, now: Mono) {
        if !self.receiving {
            *self = Self { receiving: true, ..Self::new(now) };
        }
    }

    /// When to look again if nothing comes.
    fn data_deadline(&self, options: &Options) -> Mono {
        self.progress.plus(options.data_idle_timeout).min(self.window_since.plus(options.data_window))
    }

    /// At the end of a window, whether enough has come in it.
    fn measure(&mut self, now: Mono, options: &Options) -> Result<(), FlowError> {
        let window = now.since(self.window_since);
        if window < options.data_window {
            return Ok(());
        }
        let wanted = options.data_rate_min.saturating_mul(window.as_millis() as u64) / 1_000;
        if self.window_bytes < wanted {
            return Err(FlowError::TooSlow);
        }
        (self.window_since, self.window_bytes) = (now, 0);
        Ok(())
    }
}

/// What a peer is told before its connection is closed; nothing if there is nobody to tell.
fn last_words(error: &FlowError) -> Option<NegativeReply> {
    match error {
        FlowError::Closed | FlowError::Io(_) => None,
        FlowError::TimedOut => Some(NegativeReply::new(421, (4, 2), "Timeout; closing connection")),
        FlowError::TooSlow => Some(NegativeReply::new(421, (4, 2), "Message data comes too slowly")),
        FlowError::Stopping => Some(NegativeReply::new(421, (3, 2), "Relay is stopping; try again later")),
        FlowError::Full => Some(NegativeReply::new(421, (3, 1), "Too much mail in progress; try again later")),
    }
}

/// RFC 4954 section 6.
fn auth_refusal(error: CredentialsError) -> NegativeReply {
    match error {
        CredentialsError::Bad => NegativeReply::new(535, (7, 8), "Authentication credentials invalid"),
        CredentialsError::Limited => {
            NegativeReply::new(454, (7, 0), "Too many failed authentications; try again later")
        }
        CredentialsError::Busy => NegativeReply::new(454, (7, 0), "Cannot check credentials now; try again later"),
    }
}
