//! One connection: reads, has a protocol say who binds, hands submissions over, brings what is due, writes.
//!
//! **Promises.** While answers cannot be written nothing is read, so that TCP holds a peer back that does not read. A submission
//! beyond the client's window or rate is told to slow down and costs nothing else. Each submission is taken in a task of its own,
//! and its answer is written when that is through: a link that ends undoes nothing, and says no yes.
//!
//! **Does not know** PDUs: [`Protocol`] opens a link, [`Session`] is one that is bound, [`Parting`] one that is to end.
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

use super::outbox::{Delivery, Out};
use super::part::{Ground, Part, Rejected};
use super::presence::{BindSlot, Throttled, WindowSlot};
use super::taking::{Answered, Yes};
use super::{Options, Shared, Speaks};
use crate::clock::Mono;
use crate::ingress::stream::{Flow, FlowError};
use crate::model::{MessageId, Responsibility};
use crate::policy::{BindTerms, Client};
use crate::wire::framing::{Framed, Framer};

/// How long a peer may take to answer that it is to go.
const PARTING_PATIENCE: Duration = Duration::from_secs(2);
/// Octets waiting to be written at which reading stops until they are.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A link on which somebody has bound, and who; `None` if nobody has, and nothing more is to be said.
pub(in crate::ingress) type Entered<S> = Option<(S, Arc<Client>, BindSlot)>;

/// What is spoken over links.
pub(in crate::ingress) trait Protocol: Sized + Send + 'static {
    /// Its PDU.
    type Frame: Framed<BadLength: fmt::Display> + Send;
    /// A link that is bound.
    type Session: Session<Frame = Self::Frame>;

    /// Which protocol it is.
    const SPEAKS: Speaks;

    /// Talks until somebody has bound, or may not.
    fn open(
        wire: &mut Wire<Self::Frame>,
        deadline: Mono,
    ) -> impl Future<Output = Result<Entered<Self::Session>, End>> + Send;

    /// How a client may bind by it; `None` if it may not (any more).
    fn terms(client: &Client) -> Option<&BindTerms>;
}

/// What a frame on a link means.
pub(in crate::ingress) enum Said<R, S> {
    /// The peer submits; to be answered.
    Submission(R, S),
    /// What was brought under that number is taken, or not.
    Answer(u32, bool),
    /// The peer ends the link.
    Over,
    /// Nothing to do.
    Nothing,
}

/// The id by which a client knows what it has submitted.
#[derive(Clone, Copy, Debug)]
pub(in crate::ingress) struct GivenId {
    /// Ours.
    pub(in crate::ingress) id: MessageId,
    /// CMPP's.
    pub(in crate::ingress) msg_id: Option<u64>,
}

/// A link that is bound.
pub(in crate::ingress) trait Session: Send {
    /// A PDU.
    type Frame;
    /// What a peer submits.
    type Submission: Send + 'static;
    /// What an answer to that has to know of it.
    type Request: Copy + Send + 'static;
    /// The link once it is to end.
    type Parting: Parting<Frame = Self::Frame>;

    /// True if receipts and replies may be brought over it.
    fn receives(&self) -> bool;
    /// Deliveries that may be brought now.
    fn free(&self) -> usize;
    /// Takes a frame.
    fn receive(
        &mut self,
        frame: Self::Frame,
        now: Mono,
        out: &mut BytesMut,
    ) -> Result<Said<Self::Request, Self::Submission>, End>;
    /// Brings something; the number under which its answer will come. `None` if there is no room.
    fn deliver(&mut self, what: &Delivery, options: &Options, now: Mono, out: &mut BytesMut) -> Option<u32>;
    /// Answers yes. Here as below `load` is how near the client is to being throttled, in percent, for protocols that say it.
    fn taken(&mut self, request: Self::Request, proof: &impl Responsibility, id: GivenId, load: u8, out: &mut BytesMut);
    /// Answers no.
    fn refused(&mut self, request: Self::Request, ground: Ground, load: u8, out: &mut BytesMut);
    /// Answers that it comes too fast.
    fn throttled(&mut self, request: Self::Request, load: u8, out: &mut BytesMut);
    /// Lets time pass; deliveries whose answers are overdue.
    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, End>;
    /// When that is to be called.
    fn wakeup(&self) -> Mono;
    /// Asks the peer to go.
    fn part(self, out: &mut BytesMut) -> Self::Parting;
    /// To how many numbers one goes.
    fn numbers(_submission: &Self::Submission) -> usize {
        1
    }

    /// A submission in the engine's words, to each of its numbers.
    fn read(
        submission: Self::Submission,
        client: &Client,
        shared: &Shared,
    ) -> impl Future<Output = Result<Vec<Part>, Rejected>> + Send;
}

/// A link that is to end.
pub(in crate::ingress) trait Parting: Send {
    /// A PDU.
    type Frame;
    /// Takes a frame.
    fn receive(&mut self, frame: Self::Frame, out: &mut BytesMut) -> Parted;
}

/// What a frame means on a link that is to end.
pub(in crate::ingress) enum Parted {
    /// What was brought under that number is taken, or not.
    Answer(u32, bool),
    /// The link may be closed.
    Done,
    /// Nothing.
    Nothing,
}

/// Why a link ended, other than in good order.
#[derive(Debug)]
pub(in crate::ingress) enum End {
    /// The connection.
    Flow(FlowError),
    /// What the peer did, in words.
    Peer(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(FlowError::TimedOut) => f.write_str("timeout"),
            Self::Flow(FlowError::Stopping) => f.write_str("the relay is stopping"),
            Self::Flow(error) => write!(f, "{error:?}"),
            Self::Peer(why) => f.write_str(why),
        }
    }
}

impl From<FlowError> for End {
    fn from(e: FlowError) -> Self {
        Self::Flow(e)
    }
}

/// A connection, cut into frames.
pub(in crate::ingress) struct Wire<F> {
    flow: Flow,
    framer: Framer<F>,
    /// What is to be written.
    pub(in crate::ingress) out: BytesMut,
    /// Who is at the other end.
    pub(in crate::ingress) peer: SocketAddr,
    /// As they were when it was made.
    pub(in crate::ingress) options: Arc<Options>,
    /// What all links have in common.
    pub(in crate::ingress) shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

impl<F: Framed<BadLength: fmt::Display>> Wire<F> {
    /// The next whole frame that is here.
    pub(in crate::ingress) fn next_frame(&mut self) -> Result<Option<F>, End> {
        self.framer.next_frame().map_err(|length| End::Peer(length.to_string()))
    }

    /// Reads until `until`, or until the relay stops.
    pub(in crate::ingress) async fn read(&mut self, until: Mono) -> Result<(), End> {
        self.flow.read(until, Some(&mut self.stop)).await?;
        self.framer.extend(&self.flow.input.split());
        Ok(())
    }

    /// Writes what there is to write.
    pub(in crate::ingress) async fn write(&mut self) -> Result<(), FlowError> {
        self.flow.write(&mut self.out, self.options.response_timeout).await
    }
}

/// An answer to a submission, ready to be written.
struct Answer<R> {
    request: R,
    result: Answered,
    slot: WindowSlot,
}

/// Serves one connection to its end.
pub(super) async fn serve<P: Protocol>(
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
    let speaks = shared.speaks.name();
    let mut wire = Wire { flow, framer: Framer::new(), out: BytesMut::new(), peer, options, shared, stop };
    match converse::<P>(&mut wire, deadline).await {
        Ok(()) => wire.flow.finish().await,
        Err(End::Flow(FlowError::Closed)) => {}
        Err(End::Peer(why)) => {
            wire.shared.metrics().connections.with_label_values(&["cut-off"]).inc();
            tracing::info!(%peer, speaks, %why, "a link is cut off");
            // What was answered before is not lost with it.
            let _ = wire.write().await;
        }
        Err(end) => tracing::debug!(%peer, speaks, why = %end, "link ended"),
    }
}

async fn converse<P: Protocol>(wire: &mut Wire<P::Frame>, deadline: Mono) -> Result<(), End> {
    let speaks = wire.shared.speaks.name();
    let Some((session, client, slot)) = P::open(wire, deadline).await? else { return Ok(()) };
    tracing::info!(peer = %wire.peer, client = %client.name, speaks, "client bound");
    let (sender, answers) = mpsc::channel(P::terms(&client).map_or(1, |terms| terms.window.max(1)));
    let active = wire.shared.clock.mono();
    let name = client.name.clone();
    let link: Link<'_, P> =
        Link { wire, session, client, answers, sender, brought: HashMap::new(), under_way: 0, active };
    let peer = link.wire.peer;
    let ended = link.serve().await;
    tracing::info!(%peer, client = %name, speaks, "client unbound");
    drop(slot);
    ended
}

type Request<P> = <<P as Protocol>::Session as Session>::Request;

/// A bound link, and what goes on over it.
struct Link<'w, P: Protocol> {
    wire: &'w mut Wire<P::Frame>,
    session: P::Session,
    client: Arc<Client>,
    answers: mpsc::Receiver<Answer<Request<P>>>,
    sender: mpsc::Sender<Answer<Request<P>>>,
    /// What has been brought and not answered, by sequence number.
    brought: HashMap<u32, Out>,
    /// Submissions that are not answered.
    under_way: usize,
    /// When something was submitted or brought last.
    active: Mono,
}

impl<P: Protocol> Link<'_, P> {
    async fn serve(mut self) -> Result<(), End> {
        let (shared, options) = (self.wire.shared.clone(), self.wire.options.clone());
        let (outbox, speaks, client) = (&shared.outbox, shared.speaks, self.client.name.clone());
        loop {
            while let Some(frame) = self.wire.next_frame()? {
                if !self.act(frame)? {
                    return Ok(self.wire.write().await?);
                }
                if self.wire.out.len() > OUT_BYTES_MAX {
                    self.wire.write().await?;
                }
            }
            if self.session.receives() {
                outbox.bound(&client, speaks);
            }
            let (due, arrived) = outbox.awaited(&client, speaks);
            // Registered before looking, so that nothing is missed.
            let mut arrived = std::pin::pin!(arrived.notified());
            arrived.as_mut().enable();
            self.bring();
            self.wire.write().await?;
            let due = due.filter(|_| self.session.free() > 0);
            let idle_at = self.active.plus(options.idle);
            let until = self.session.wakeup().min(idle_at).min(due.unwrap_or(idle_at));
            let receives = self.session.receives();
            tokio::select! {
                Some(answer) = self.answers.recv() => {
                    self.answer(answer);
                    while let Ok(answer) = self.answers.try_recv() {
                        self.answer(answer);
                    }
                }
                () = arrived, if receives => {}
                read = self.wire.read(until) => match read {
                    Ok(()) | Err(End::Flow(FlowError::TimedOut)) => {}
                    Err(End::Flow(FlowError::Stopping)) => return self.part().await,
                    Err(error) => return Err(error),
                },
            }
            let now = shared.clock.mono();
            for sequence in self.session.tick(now, &mut self.wire.out)? {
                if let Some(out) = self.brought.remove(&sequence) {
                    out.put_off();
                }
            }
            if now >= idle_at && self.under_way == 0 && self.brought.is_empty() {
                return self.part().await;
            }
        }
    }

    /// Does what a frame says; false if the peer has gone.
    fn act(&mut self, frame: P::Frame) -> Result<bool, End> {
        let now = self.wire.shared.clock.mono();
        match self.session.receive(frame, now, &mut self.wire.out)? {
            Said::Submission(request, submission) => {
                self.active = now;
                self.submission(request, submission, now);
            }
            Said::Answer(sequence, taken) => {
                self.active = now;
                self.answered(sequence, taken);
            }
            Said::Over => return Ok(false),
            Said::Nothing => {}
        }
        Ok(true)
    }

    fn answered(&mut self, sequence: u32, taken: bool) {
        if let Some(out) = self.brought.remove(&sequence) {
            if taken { out.taken() } else { out.put_off() }
        }
    }

    fn submission(&mut self, request: Request<P>, submission: <P::Session as Session>::Submission, now: Mono) {
        let shared = &self.wire.shared;
        // The client as it is configured now; a reload may have changed or removed it.
        let client = shared.clients.load().named(&self.client.name).cloned();
        let Some((client, terms)) = client.as_ref().and_then(|client| Some((client, P::terms(client)?))) else {
            let gone = Rejected::new(Ground::Gone, "unauthenticated", "there is no such client any more");
            return self.refuse(request, &gone);
        };
        let slot = match shared.presences.of(&client.name, shared.metrics()).submit(
            terms,
            P::Session::numbers(&submission),
            now,
        ) {
            Ok(slot) => slot,
            Err(throttled) => return self.throttle(request, throttled),
        };
        self.under_way += 1;
        let (shared, client, answers) = (shared.clone(), client.clone(), self.sender.clone());
        tokio::spawn(async move {
            let result = match P::Session::read(submission, &client, &shared).await {
                Ok(parts) => shared.submit_all(&client, parts).await,
                Err(rejected) => Err(rejected),
            };
            // The link may be gone: then nobody is told, and whoever submitted asks again.
            let _ = answers.send(Answer { request, result, slot }).await;
        });
    }

    fn throttle(&mut self, request: Request<P>, throttled: Throttled) {
        let (client, shared) = (&*self.client.name, &self.wire.shared);
        shared.metrics().submissions.with_label_values(&[client, "throttled"]).inc();
        tracing::debug!(peer = %self.wire.peer, client, by = throttled.word(), "a submission is throttled");
        let load = self.load();
        self.session.throttled(request, load, &mut self.wire.out);
    }

    fn refuse(&mut self, request: Request<P>, rejected: &Rejected) {
        let Rejected { ground, reason, detail } = rejected;
        let (client, shared) = (&*self.client.name, &self.wire.shared);
        shared.metrics().submissions.with_label_values(&[client, "refused"]).inc();
        shared.metrics.refused.with_label_values(&[shared.speaks.as_str(), *reason]).inc();
        tracing::info!(peer = %self.wire.peer, client, speaks = shared.speaks.name(), ?ground, why = detail, "text refused");
        let load = self.load();
        self.session.refused(request, *ground, load, &mut self.wire.out);
    }

    /// How near the client is to being throttled, over all its links, in percent.
    fn load(&self) -> u8 {
        let shared = &self.wire.shared;
        let client = shared.clients.load().named(&self.client.name).cloned();
        let terms = client.as_ref().and_then(|client| P::terms(client));
        terms.map_or(0, |terms| {
            shared.presences.of(&self.client.name, shared.metrics()).load(terms, shared.clock.mono())
        })
    }

    fn answer(&mut self, answer: Answer<Request<P>>) {
        self.under_way -= 1;
        let Answer { request, result, slot } = answer;
        // What is being answered is no load any more.
        drop(slot);
        let (id, yes) = match result {
            Ok(taken) => taken,
            Err(rejected) => return self.refuse(request, &rejected),
        };
        self.wire.shared.metrics().submissions.with_label_values(&[&*self.client.name, "taken"]).inc();
        let load = self.load();
        match yes {
            Yes::Accepted(proof) => self.session.taken(request, &proof, id, load, &mut self.wire.out),
            Yes::Part(proof) => self.session.taken(request, &proof, id, load, &mut self.wire.out),
        }
    }

    /// Brings what is due, as far as the window goes.
    fn bring(&mut self) {
        let (now, speaks) = (self.wire.shared.clock.mono(), self.wire.shared.speaks);
        while self.session.free() > 0 && self.wire.out.len() <= OUT_BYTES_MAX {
            let Some(out) = self.wire.shared.outbox.next(&self.client.name, speaks) else { return };
            let Some(delivery) = out.delivery() else { return };
            let options = &self.wire.options;
            let Some(sequence) = self.session.deliver(delivery, options, now, &mut self.wire.out) else { return };
            self.brought.insert(sequence, out);
            self.active = now;
        }
    }

    /// Ends a link in good order: answers what was submitted, then asks the peer to go.
    async fn part(mut self) -> Result<(), End> {
        while self.under_way > 0 {
            let Some(answer) = self.answers.recv().await else { break };
            self.answer(answer);
            self.wire.write().await?;
        }
        let mut brought = self.brought;
        let mut parting = self.session.part(&mut self.wire.out);
        self.wire.write().await?;
        let deadline = self.wire.shared.clock.mono().plus(PARTING_PATIENCE);
        loop {
            while let Some(frame) = self.wire.next_frame()? {
                match parting.receive(frame, &mut self.wire.out) {
                    Parted::Answer(sequence, taken) => {
                        if let Some(out) = brought.remove(&sequence).filter(|_| taken) {
                            out.taken();
                        }
                    }
                    Parted::Done => return Ok(self.wire.write().await?),
                    Parted::Nothing => {}
                }
            }
            self.wire.flow.read(deadline, None).await?;
            self.wire.framer.extend(&self.wire.flow.input.split());
        }
    }
}
