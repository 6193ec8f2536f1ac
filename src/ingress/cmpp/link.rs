//! What [`bound`](crate::ingress::bound) asks of CMPP: who logs in, what a frame means, how answers and deliveries are written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::delivering;
use super::longs::Longs;
use super::reading::{self, result_of};
use crate::clock::{Mono, Timestamp};
use crate::ingress::bound::outbox::Delivery;
use crate::ingress::bound::{
    BindSlot, End, Entered, GivenId, Ground, Options, Part, Parted, Parting, Protocol, Rejected, Said, Session, Shared,
    Speaks, Wire,
};
use crate::model::{Channel, Responsibility};
use crate::policy::credentials::CredentialsError;
use crate::policy::{BindTerms, Client};
use crate::wire::cmpp::server::{Bound, ConnectRequest, Event, Open, OpenStep, PeerFault};
use crate::wire::cmpp::session::{Settings, Terminating};
use crate::wire::cmpp::time::LoginTime;
use crate::wire::cmpp::{Body, ConnectStatus, Frame, MsgId, Pdu, Submit, SubmitResult, Version};

/// How often a silent peer is asked whether it lives (C3 section 7.1: N).
const ACTIVE_TESTS_MAX: u32 = 3;
/// A secret that nobody has: a name that is not known costs as much as one that is.
const NOBODYS: &[u8] = b"nobody has this secret";

/// CMPP 2.0 and 3.0.
#[derive(Debug)]
pub struct Cmpp;

impl From<PeerFault> for End {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault.to_string())
    }
}

impl Protocol for Cmpp {
    type Frame = Frame;
    type Session = Link;

    const SPEAKS: Speaks = Speaks::Cmpp;

    async fn open(wire: &mut Wire<Frame>, deadline: Mono) -> Result<Entered<Link>, End> {
        let mut open = Open::new();
        loop {
            while let Some(frame) = wire.next_frame()? {
                open = match open.receive(frame, &mut wire.out)? {
                    OpenStep::Open(open) => open,
                    OpenStep::Terminated => {
                        wire.write().await?;
                        return Ok(None);
                    }
                    OpenStep::Connect(request) => {
                        let opened = match judge(wire, &request) {
                            Ok((client, slot, version)) => {
                                let bound = accept(wire, request, &client, version);
                                Some((Link { bound, longs: Longs::default() }, client, slot))
                            }
                            Err(status) => {
                                request.refuse(status, &mut wire.out);
                                None
                            }
                        };
                        wire.write().await?;
                        return Ok(opened);
                    }
                };
            }
            wire.write().await?;
            wire.read(deadline).await?;
        }
    }

    fn terms(client: &Client) -> Option<&BindTerms> {
        client.cmpp.as_ref().map(|cmpp| &cmpp.terms)
    }
}

fn accept(wire: &mut Wire<Frame>, request: ConnectRequest, client: &Client, version: Version) -> Bound {
    let Options { delivery_window, enquire_interval, response_timeout, .. } = *wire.options;
    let settings = Settings {
        window: delivery_window,
        active_test_interval: enquire_interval,
        response_timeout,
        active_tests_max: ACTIVE_TESTS_MAX,
    };
    let secret = client.cmpp.as_ref().map_or(&b""[..], |cmpp| cmpp.secret.expose().as_bytes());
    request.accept(secret, version, settings, wire.shared.clock.mono(), &mut wire.out)
}

/// Whether somebody may log in. An unknown name and a wrong secret are not told apart.
fn judge(wire: &Wire<Frame>, request: &ConnectRequest) -> Result<(Arc<Client>, BindSlot, Version), ConnectStatus> {
    let (shared, peer) = (&wire.shared, wire.peer);
    let version = request.version().ok_or(ConnectStatus::VERSION_TOO_HIGH)?;
    let sp_id = request.connect().source_addr.to_string();
    if sp_id.is_empty() {
        return Err(ConnectStatus::BAD_SOURCE);
    }
    let known = shared.clients.load().of_sp_id(&sp_id).cloned();
    let secret = known.as_ref().and_then(|client| client.cmpp.as_ref()).map(|cmpp| cmpp.secret.clone());
    let proven = request.proves(secret.as_ref().map_or(NOBODYS, |secret| secret.expose().as_bytes()));
    let timely = wire.options.login_age.is_none_or(|most| {
        let (then, now) = (request.connect().timestamp, shared.clock.now());
        distance(then, now).is_some_and(|distance| distance <= most)
    });
    let right = proven && secret.is_some() && timely;
    let checked = shared.live.credentials.proof(&sp_id, known.filter(|_| right), peer.ip());
    let status = match &checked {
        Ok(_) => ConnectStatus::OK,
        Err(CredentialsError::Bad) => ConnectStatus::NOT_AUTHENTIC,
        Err(CredentialsError::Limited | CredentialsError::Busy) => ConnectStatus::OTHER,
    };
    if proven && !timely {
        tracing::info!(%peer, sp_id, "the time of a CMPP login is too far off");
    }
    let client = shared.checked(checked, peer).ok_or(status)?;
    if client.may_use(Channel::Sms).is_err() {
        tracing::info!(%peer, client = %client.name, "CMPP login refused: no texts for this client");
        return Err(ConnectStatus::OTHER);
    }
    let Some(terms) = Cmpp::terms(&client) else { return Err(ConnectStatus::OTHER) };
    let slot = shared.bind(&client, terms, peer).ok_or(ConnectStatus::OTHER)?;
    Ok((client, slot, version))
}

/// How far a login's time, which knows no year, is from now; `None` if it is no time.
fn distance(then: LoginTime, now: Timestamp) -> Option<Duration> {
    let digits = format!("{:010}", then.0);
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| &digits[at..at + 2]);
    let year: i32 = now.rfc3339().get(..4)?.parse().ok()?;
    let at = |year: i32| Timestamp::parse_rfc3339(&format!("{year:04}-{month}-{day}T{hour}:{minute}:{second}+08:00"));
    [year - 1, year, year + 1].into_iter().filter_map(at).map(|at| at.since(now).max(now.since(at))).min()
}

/// A link on which somebody is logged in.
#[derive(Debug)]
pub struct Link {
    bound: Bound,
    longs: Longs,
}

impl Link {
    /// Writes parts of a long reply that wait, as far as the window goes.
    fn go_on(&mut self, now: Mono, out: &mut BytesMut) {
        while self.bound.free() > 0
            && let Some((first, part)) = self.longs.next_part()
        {
            // There is room.
            if let Ok(sequence) = self.bound.deliver(part, now, out) {
                self.longs.left(first, sequence);
            }
        }
    }
}

impl Session for Link {
    type Frame = Frame;
    type Submission = Submit;
    type Request = u32;
    type Parting = Ending;

    fn receives(&self) -> bool {
        true
    }

    fn free(&self) -> usize {
        if self.longs.waits() { 0 } else { self.bound.free() }
    }

    fn receive(&mut self, frame: Frame, now: Mono, out: &mut BytesMut) -> Result<Said<u32, Submit>, End> {
        Ok(match self.bound.receive(frame, now, out)? {
            Event::Submission { sequence, submit } => Said::Submission(sequence, submit),
            Event::Answer { sequence, result } => {
                let settled = self.longs.answered(sequence, result == SubmitResult::OK);
                self.go_on(now, out);
                settled.map_or(Said::Nothing, |(first, taken)| Said::Answer(first, taken))
            }
            Event::Terminated => Said::Over,
            Event::Nothing => Said::Nothing,
        })
    }

    /// A long reply goes in parts, as many at once as the window holds; all answers count.
    fn deliver(&mut self, what: &Delivery, _: &Options, now: Mono, out: &mut BytesMut) -> Option<u32> {
        if Session::free(self) == 0 {
            return None;
        }
        let mut parts = VecDeque::from(delivering::parts(what, self.bound.version()));
        let first = self.bound.deliver(parts.pop_front()?, now, out).ok()?;
        if !parts.is_empty() {
            self.longs.begin(first, parts);
            self.go_on(now, out);
        }
        Some(first)
    }

    fn taken(&mut self, sequence: u32, proof: &impl Responsibility, id: GivenId, _: u8, out: &mut BytesMut) {
        self.bound.taken(sequence, proof, MsgId(id.msg_id.unwrap_or_default()), out);
    }

    fn refused(&mut self, sequence: u32, ground: Ground, _: u8, out: &mut BytesMut) {
        self.bound.refused(sequence, result_of(ground), out);
    }

    fn throttled(&mut self, sequence: u32, _: u8, out: &mut BytesMut) {
        self.bound.refused(sequence, SubmitResult::FLOW_CONTROL, out);
    }

    fn tick(&mut self, now: Mono, out: &mut BytesMut) -> Result<Vec<u32>, End> {
        let overdue = self.bound.tick(now, out)?;
        Ok(overdue.into_iter().map(|sequence| self.longs.overdue(sequence)).collect())
    }

    fn wakeup(&self) -> Mono {
        self.bound.wakeup()
    }

    fn part(self, out: &mut BytesMut) -> Ending {
        let Self { bound, longs } = self;
        Ending { version: bound.version(), longs, terminating: bound.terminate(out) }
    }

    fn numbers(submit: &Submit) -> usize {
        submit.destinations.len().max(1)
    }

    async fn read(submit: Submit, client: &Client, shared: &Shared) -> Result<Vec<Part>, Rejected> {
        let options = shared.options.load_full();
        let mut parts = reading::read(&submit, client, &options, shared.clock.now())?;
        let msg_id = shared.msg_id(options.gateway).await.0;
        parts.iter_mut().for_each(|part| part.msg_id = Some(msg_id));
        Ok(parts)
    }
}

/// A link that is to end.
#[derive(Debug)]
pub struct Ending {
    version: Version,
    longs: Longs,
    terminating: Terminating,
}

impl Parting for Ending {
    type Frame = Frame;

    fn receive(&mut self, frame: Frame, out: &mut BytesMut) -> Parted {
        if let Ok(pdu) = Pdu::decode(frame.clone(), self.version)
            && let Body::DeliverResp(_, result) = pdu.body()
        {
            // Parts that wait are not written any more, so their reply stays open.
            let settled = self.longs.answered(pdu.sequence(), *result == SubmitResult::OK);
            return settled.map_or(Parted::Nothing, |(first, taken)| Parted::Answer(first, taken));
        }
        if self.terminating.receive(frame, out) { Parted::Done } else { Parted::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logins_time_is_chinas_and_knows_no_year() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let minutes = |then: u32, now: &str| distance(LoginTime(then), at(now)).map(|d| d.as_secs() / 60);
        assert_eq!(minutes(1_127_200_000, "2026-11-27T12:00:00Z"), Some(0));
        assert_eq!(minutes(101_000_500, "2026-12-31T16:00:00Z"), Some(5));
        assert_eq!(minutes(1_231_235_500, "2026-12-31T16:00:00Z"), Some(5));
        assert_eq!(minutes(1_399_000_000, "2026-12-31T16:00:00Z"), None);
    }
}
