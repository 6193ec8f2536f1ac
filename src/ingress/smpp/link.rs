//! What [`bound`](crate::ingress::bound) asks of SMPP: who binds, what a frame means, how answers and deliveries are written.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout;

use super::delivering;
use super::reading::{self, status_of};
use crate::clock::Mono;
use crate::ingress::bound::outbox::Delivery;
use crate::ingress::bound::{
    BindSlot, End, Entered, GivenId, Ground, Options, Part, Parted, Parting, Protocol, Rejected, Said, Session, Shared,
    Speaks, Wire,
};
use crate::model::{Channel, Responsibility, Secret};
use crate::policy::credentials::CredentialsError;
use crate::policy::{BindTerms, Client};
use crate::wire::smpp::server::{BindRequest, Bound, Event, Open, OpenStep, PeerFault, Request, Unbinding};
use crate::wire::smpp::session::Settings;
use crate::wire::smpp::{COctets, CommandStatus, Frame, ShortMessage, command};

/// Binds refused, after which a connection is closed.
const REFUSED_BINDS_MAX: u32 = 3;
/// Who we are, in `bind_resp`.
const SYSTEM_ID: &str = "postrider";

/// SMPP 3.4, and 5.0 for those who bind with it.
#[derive(Debug)]
pub struct Smpp;

impl From<PeerFault> for End {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault.to_string())
    }
}

impl Protocol for Smpp {
    type Frame = Frame;
    type Session = Bound;

    const SPEAKS: Speaks = Speaks::Smpp;

    async fn open(wire: &mut Wire<Frame>, deadline: Mono) -> Result<Entered<Bound>, End> {
        let (mut open, mut refused) = (Open::new(), 0);
        loop {
            while let Some(frame) = wire.next_frame()? {
                open = match open.receive(frame, &mut wire.out)? {
                    OpenStep::Open(open) => open,
                    OpenStep::Unbound => {
                        wire.write().await?;
                        return Ok(None);
                    }
                    OpenStep::Bind(request) => match judge(wire, &request).await {
                        Ok((client, slot)) => {
                            let bound = accept(wire, request);
                            wire.write().await?;
                            return Ok(Some((bound, client, slot)));
                        }
                        Err(status) => {
                            refused += 1;
                            let open = request.refuse(status, &mut wire.out);
                            if refused >= REFUSED_BINDS_MAX {
                                wire.write().await?;
                                return Ok(None);
                            }
                            open
                        }
                    },
                };
            }
            wire.write().await?;
            wire.read(deadline).await?;
        }
    }

    fn terms(client: &Client) -> Option<&BindTerms> {
        Some(&client.smpp.terms)
    }
}

fn accept(wire: &mut Wire<Frame>, request: BindRequest) -> Bound {
    let Options { delivery_window, enquire_interval, response_timeout, .. } = *wire.options;
    let settings = Settings { window: delivery_window, enquire_interval, response_timeout };
    let system_id = COctets::new("system_id", SYSTEM_ID).unwrap_or_default();
    request.accept(system_id, settings, wire.shared.clock.mono(), &mut wire.out)
}

/// Whether somebody may bind. What is wrong with a name and a password is not told apart.
async fn judge(wire: &Wire<Frame>, request: &BindRequest) -> Result<(Arc<Client>, BindSlot), CommandStatus> {
    let (shared, peer) = (&wire.shared, wire.peer);
    let system_id = request.bind().system_id.to_string();
    if system_id.is_empty() {
        return Err(CommandStatus::INVALID_SYSTEM_ID);
    }
    let password = Secret::new(String::from_utf8_lossy(request.bind().password.as_bytes()));
    let name = shared.clients.load().of_system_id(&system_id).map(|client| client.name.clone());
    // An unknown one costs as much as a known one; no client's name holds a NUL.
    let name = name.unwrap_or_else(|| format!("\0{system_id}").into());
    let checking = shared.live.credentials.password_or_key(&name, &password, peer.ip());
    let checked = timeout(wire.options.bind_timeout, checking).await.unwrap_or(Err(CredentialsError::Busy));
    let status = match &checked {
        Ok(_) => CommandStatus::OK,
        Err(CredentialsError::Bad) => CommandStatus::INVALID_PASSWORD,
        Err(CredentialsError::Limited | CredentialsError::Busy) => CommandStatus::BIND_FAILED,
    };
    let client = shared.checked(checked, peer).ok_or(status)?;
    if client.may_use(Channel::Sms).is_err() {
        tracing::info!(%peer, client = %client.name, "SMPP bind refused: no texts for this client");
        return Err(CommandStatus::BIND_FAILED);
    }
    shared.bind(&client, &client.smpp.terms, peer).map(|slot| (client, slot)).ok_or(CommandStatus::ALREADY_BOUND)
}

impl Session for Bound {
    type Frame = Frame;
    type Submission = ShortMessage;
    type Request = Request;
    type Parting = Unbinding;

    fn receives(&self) -> bool {
        self.mode().receives()
    }

    fn free(&self) -> usize {
        Self::free(self)
    }

    fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Said<Request, ShortMessage>, End> {
        Ok(match Self::receive(self, frame, now, out)? {
            Event::Submission { request, message } => Said::Submission(request, message),
            Event::Answer { sequence, status } => Said::Answer(sequence, status == CommandStatus::OK),
            Event::Unbound => Said::Over,
            Event::Nothing => Said::Nothing,
        })
    }

    fn deliver(&mut self, what: &Delivery, options: &Options, now: Mono, out: &mut BytesMut) -> Option<u32> {
        self.deliver_sm(delivering::message(what, options.default_alphabet), now, out).ok()
    }

    fn taken(&mut self, request: Request, proof: &impl Responsibility, id: GivenId, load: u8, out: &mut BytesMut) {
        let id = COctets::new("message_id", &id.id.to_string()).unwrap_or_default();
        Self::taken(self, request, proof, id, load, out);
    }

    fn refused(&mut self, request: Request, ground: Ground, load: u8, out: &mut BytesMut) {
        Self::refused(self, request, status_of(ground), load, out);
    }

    fn throttled(&mut self, request: Request, load: u8, out: &mut BytesMut) {
        Self::refused(self, request, CommandStatus::THROTTLED, load, out);
    }

    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, End> {
        Ok(Self::tick(self, now, out)?)
    }

    fn wakeup(&self) -> Mono {
        Self::wakeup(self)
    }

    fn part(self, out: &mut BytesMut) -> Unbinding {
        self.unbind(out)
    }

    async fn read(message: ShortMessage, client: &Client, shared: &Shared) -> Result<Vec<Part>, Rejected> {
        let (options, now) = (shared.options.load_full(), shared.clock.now());
        Ok(vec![reading::read(&message, &client.name, client.smpp.terms.class, &options, now)?])
    }
}

impl Parting for Unbinding {
    type Frame = Frame;

    fn receive(&mut self, frame: Frame, out: &mut BytesMut) -> Parted {
        if frame.command_id == command::DELIVER_SM | command::RESPONSE {
            return Parted::Answer(frame.sequence, frame.command_status == 0);
        }
        if Self::receive(self, &frame, out) { Parted::Done } else { Parted::Nothing }
    }
}
