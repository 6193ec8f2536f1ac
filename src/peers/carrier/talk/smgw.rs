//! The carrier's side of SMGP 3.0 and 1.3, whose specification calls it SMGW.
//!
//! One number a SUBMIT: groups are refused as badly made.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::super::count;
use super::super::handsets::ReplyPart;
use super::{Over, Party, Said, Shared, Simulated, Submission, Verdict, Waiting, knows_the_secret, written};
use crate::clock::Timestamp;
use crate::model::{MessageId, ReceiptState};
use crate::wire::smgp::{
    Body, Deliver, Framer, Login, LoginMode, MsgId, Octets, Parts, Pdu, Report, Status, Submit, Version, auth, msg_fmt,
    time,
};

/// An SMGP connection.
pub(in crate::peers::carrier) struct Smgw {
    framer: Framer,
    /// What is spoken, and what for, once it is logged in.
    login: Option<(Version, LoginMode)>,
}

impl Smgw {
    pub(super) fn new(octets: &[u8]) -> Self {
        let mut framer = Framer::new();
        framer.extend(octets);
        Self { framer, login: None }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn may_receive(&self) -> bool {
        self.login.is_some_and(|(_, mode)| mode.receives())
    }

    fn may_submit(&self) -> bool {
        self.login.is_some_and(|(_, mode)| mode.submits())
    }

    fn layout(&self) -> Version {
        self.login.map_or(Version::V30, |(version, _)| version)
    }

    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        let Some(frame) = self.framer.next_frame().map_err(|_| Over)? else { return Ok(None) };
        // SMGP knows no way to say that something was not understood.
        let pdu = Pdu::decode(frame, self.layout()).map_err(|_| Over)?;
        let sequence = pdu.sequence();
        Ok(Some(match pdu.into_body() {
            Body::Login(login) => {
                self.log_in(shared, sequence, &login, out);
                Said::Nothing
            }
            _ if !self.is_bound() => return Err(Over),
            Body::Submit(_) if !self.may_submit() => Said::Impossible(sequence, Verdict::NotBound),
            Body::Submit(submit) => match submission(&submit) {
                Some(submission) => Said::Submission(sequence, submission),
                None => Said::Impossible(sequence, Verdict::BadlyMade),
            },
            Body::DeliverResp(_, status) => Said::ReceiptAnswered { sequence, taken: status == Status::OK },
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(self.layout(), out);
                Said::Nothing
            }
            Body::Exit => Said::Unbind(sequence),
            _ => Said::Nothing,
        }))
    }

    fn log_in(&mut self, shared: &Shared, sequence: u32, login: &Login, out: &mut BytesMut) {
        let (options, version) = (&shared.options, Version::of_octet(login.client_version));
        let (name, secret) = (login.client_id.as_bytes(), options.password.expose().as_bytes());
        let authentic = || {
            name == options.system_id.as_bytes()
                && knows_the_secret(|form| {
                    auth::client(name, secret, login.timestamp, form) == login.authenticator_client
                })
        };
        let mode = LoginMode::of_octet(login.login_mode);
        let status = match mode {
            _ if self.is_bound() => Status::BAD_COMMAND,
            _ if !options.system_id.is_empty() && !authentic() => Status::NOT_AUTHENTIC,
            None => Status::BAD_LOGIN_MODE,
            Some(_) => Status::OK,
        };
        if status == Status::OK {
            self.login = mode.map(|mode| (version, mode));
            count(&shared.counters.binds);
        } else {
            count(&shared.counters.binds_refused);
        }
        let server = auth::server(status, &login.authenticator_client, secret);
        Pdu::login_resp(sequence, status, shared.authenticator(server), version).encode(version, out);
    }

    pub(super) fn taken(&self, shared: &Shared, sequence: u32) -> (u64, Bytes) {
        let id = next_id(shared);
        let simulated = Simulated(MessageId::from_bytes(u128::from(id).to_be_bytes()));
        let answer = Pdu::submit_taken(sequence, &simulated, MsgId::of_number(id));
        (id, written(|out| answer.encode(self.layout(), out)))
    }

    pub(super) fn refused(&self, shared: &Shared, sequence: u32, verdict: Verdict) -> Bytes {
        let status = match verdict {
            Verdict::Throttled | Verdict::QueueFull => Status::BUSY,
            Verdict::Refused => shared.options.refuse_smgp_status,
            Verdict::NotBound => Status::BAD_COMMAND,
            Verdict::BadlyMade => Status::BAD_STRUCTURE,
        };
        written(|out| Pdu::submit_refused(sequence, status).encode(self.layout(), out))
    }

    pub(super) fn exited(&self, sequence: u32, out: &mut BytesMut) {
        Pdu::exit_resp(sequence).encode(self.layout(), out);
    }

    pub(super) fn bring(&self, shared: &Shared, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
        let (stat, dlvrd, err) = match receipt.state {
            ReceiptState::Delivered => ("DELIVRD", "001", "000"),
            _ => ("UNDELIV", "000", "001"),
        };
        let report = Report {
            msg_id: MsgId::of_number(u64::try_from(receipt.id).unwrap_or_default()),
            sub: Octets::new("sub", "001").unwrap_or_default(),
            dlvrd: Octets::new("dlvrd", dlvrd).unwrap_or_default(),
            submit_date: time::minute(receipt.submitted),
            done_date: time::minute(now),
            stat: Octets::new("stat", stat).unwrap_or_default(),
            err: Octets::new("err", err).unwrap_or_default(),
            text: Octets::default(),
        };
        let deliver = Deliver {
            msg_id: MsgId::of_number(next_id(shared)),
            is_report: 1,
            recv_time: time::second(now),
            src_term_id: Octets::new("SrcTermID", &receipt.destination.number).unwrap_or_default(),
            dest_term_id: Octets::new("DestTermID", &receipt.source.number).unwrap_or_default(),
            content: report.write(),
            ..Deliver::default()
        };
        Pdu::deliver(sequence, deliver).encode(self.layout(), out);
    }

    /// The DELIVER of what a handset says to the sender of a text.
    pub(super) fn bring_reply(
        &self,
        shared: &Shared,
        sequence: u32,
        to: &Waiting,
        reply: &ReplyPart,
        out: &mut BytesMut,
    ) {
        let deliver = Deliver {
            msg_id: MsgId::of_number(next_id(shared)),
            msg_format: reply.coding,
            recv_time: time::second(shared.clock.now()),
            src_term_id: Octets::new("SrcTermID", &to.destination.number).unwrap_or_default(),
            dest_term_id: Octets::new("DestTermID", &to.source.number).unwrap_or_default(),
            content: reply.octets.clone(),
            parts: Parts { tp_udhi: u8::from(reply.udhi), ..Parts::default() },
            ..Deliver::default()
        };
        Pdu::deliver(sequence, deliver).encode(self.layout(), out);
    }
}

/// The digits of the next id: the gateway's code, month to minute by China's clock, and a counter of six. What does not fit into
/// those goes into the gateway's code, of which five digits have room in 64 bits.
fn next_id(shared: &Shared) -> u64 {
    let counted = shared.ids.fetch_add(1, Ordering::Relaxed);
    let minute = u64::from(time::LoginTime::at(shared.clock.now()).0 / 100);
    (counted / 1_000_000 % 100_000) * 100_000_000_000_000 + minute * 1_000_000 + counted % 1_000_000
}

/// The part of a SUBMIT to one number.
fn submission(submit: &Submit) -> Option<Submission> {
    let [destination] = submit.destinations.as_slice() else { return None };
    let party = |number: String| Party { number, ..Party::default() };
    Some(Submission {
        source: party(submit.src_term_id.to_string()),
        destination: party(destination.to_string()),
        // ASCII is 1 there, where 0 is the GSM alphabet.
        coding: if submit.msg_format == msg_fmt::ASCII { 1 } else { submit.msg_format },
        udhi: submit.parts.tp_udhi & 1 != 0,
        octets: submit.content.clone(),
        place: None,
        wants_receipt: submit.need_report == 1,
    })
}
