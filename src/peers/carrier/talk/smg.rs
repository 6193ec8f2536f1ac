//! The carrier's side of SGIP 1.2, whose specification calls it SMG: where clients submit, and where it comes to them to deliver
//! and to report.
//!
//! One number a SUBMIT: groups are refused as badly made.

use bytes::{Bytes, BytesMut};

use super::super::count;
use super::super::handsets::ReplyPart;
use super::{Over, Party, Said, Shared, Simulated, Submission, Verdict, Waiting, written};
use crate::clock::Timestamp;
use crate::model::{MessageId, ReceiptState};
use crate::wire::sgip::{
    Bind, Body, Deliver, Framer, Octets, Pdu, REPORT_ALWAYS, Report, Sequence, SgipResult, Submit, login_type, msg_fmt,
    time,
};

/// Our own node: a gateway's is its area code and a number.
const NODE: u32 = 10_001;

/// An SGIP connection.
pub(in crate::peers::carrier) struct Smg {
    framer: Framer,
    role: Role,
    is_bound: bool,
    /// What was asked last: answers repeat all of its sequence number.
    asked: Sequence,
}

/// Which way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// A client has come to submit.
    Called,
    /// We have come to a client, to deliver and to report.
    Calling,
}

impl Smg {
    /// A connection that a client has made.
    pub(super) fn called(octets: &[u8]) -> Self {
        let mut framer = Framer::new();
        framer.extend(octets);
        Self { framer, role: Role::Called, is_bound: false, asked: Sequence::default() }
    }

    /// One that we have made to a client; asks to be bound.
    pub(super) fn calling(shared: &Shared, out: &mut BytesMut) -> Self {
        let (name, password) = shared
            .options
            .sgip_callback
            .as_ref()
            .map_or(("", ""), |callback| (callback.login.as_str(), callback.password.expose()));
        let bind = Bind {
            login_type: login_type::GATEWAY,
            login_name: Octets::new("Login_Name", name).unwrap_or_default(),
            login_password: Octets::new("Login_Password", password).unwrap_or_default(),
        };
        let asked = own(shared.clock.now(), 0);
        Pdu::bind(asked, bind).encode(out);
        Self { framer: Framer::new(), role: Role::Calling, is_bound: false, asked }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.is_bound
    }

    pub(super) fn may_receive(&self) -> bool {
        self.is_bound && self.role == Role::Calling
    }

    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        let Some(frame) = self.framer.next_frame().map_err(|_| Over)? else { return Ok(None) };
        // SGIP knows no way to say that something was not understood.
        let pdu = Pdu::decode(frame).map_err(|_| Over)?;
        self.asked = pdu.sequence();
        let sequence = self.asked.counter;
        Ok(Some(match (pdu.into_body(), self.role) {
            (Body::Bind(bind), Role::Called) => {
                self.bind(shared, &bind, out);
                Said::Nothing
            }
            (Body::BindResp(result), Role::Calling) => {
                if result != SgipResult::OK {
                    return Err(Over);
                }
                count(&shared.counters.calls);
                self.is_bound = true;
                Said::Nothing
            }
            _ if !self.is_bound => return Err(Over),
            (Body::Submit(submit), Role::Called) => match submission(&submit) {
                Some(submission) => Said::Submission(sequence, submission),
                None => Said::Impossible(sequence, Verdict::BadlyMade),
            },
            (Body::DeliverResp(result) | Body::ReportResp(result), Role::Calling) => {
                Said::ReceiptAnswered { sequence, taken: result == SgipResult::OK }
            }
            (Body::Unbind, _) => Said::Unbind(sequence),
            _ => Said::Nothing,
        }))
    }

    fn bind(&mut self, shared: &Shared, bind: &Bind, out: &mut BytesMut) {
        let options = &shared.options;
        let known = bind.login_name.as_bytes() == options.system_id.as_bytes()
            && options.password.matches(bind.login_password.as_bytes());
        let result = if self.is_bound {
            SgipResult::BOUND_ALREADY
        } else if bind.login_type != login_type::SP {
            SgipResult::BAD_LOGIN_TYPE
        } else if !options.system_id.is_empty() && !known {
            SgipResult::BAD_LOGIN
        } else {
            SgipResult::OK
        };
        if result == SgipResult::OK {
            self.is_bound = true;
            count(&shared.counters.binds);
        } else {
            count(&shared.counters.binds_refused);
        }
        Pdu::bind_resp(self.asked, result).encode(out);
    }

    /// A SUBMIT's own sequence number is its id.
    pub(super) fn taken(&self) -> (u128, Bytes) {
        let Sequence { node, time, counter } = self.asked;
        let id = (u128::from(node) << 64) | (u128::from(time) << 32) | u128::from(counter);
        let simulated = Simulated(MessageId::from_bytes(id.to_be_bytes()));
        let answer = Pdu::submit_taken(self.asked, &simulated);
        (id, written(|out| answer.encode(out)))
    }

    pub(super) fn refused(&self, shared: &Shared, verdict: Verdict) -> Bytes {
        let result = match verdict {
            Verdict::Throttled | Verdict::QueueFull => SgipResult::BUSY,
            Verdict::Refused => shared.options.refuse_sgip_result,
            Verdict::NotBound | Verdict::BadlyMade => SgipResult::BAD_PARAMETER,
        };
        written(|out| Pdu::submit_refused(self.asked, result).encode(out))
    }

    pub(super) fn unbound(&self, out: &mut BytesMut) {
        Pdu::unbind_resp(self.asked).encode(out);
    }

    pub(super) fn bring(&self, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
        let word = |shift: u32| u32::try_from(receipt.id >> shift & u128::from(u32::MAX)).unwrap_or_default();
        let (state, error_code) = match receipt.state {
            ReceiptState::Delivered => (0, 0),
            _ => (2, 21),
        };
        let report = Report {
            submit_sequence: Sequence { node: word(64), time: word(32), counter: word(0) },
            user_number: Octets::new("UserNumber", &receipt.destination.number).unwrap_or_default(),
            state,
            error_code,
            ..Report::default()
        };
        Pdu::report(own(now, sequence), report).encode(out);
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
            user_number: Octets::new("UserNumber", &to.destination.number).unwrap_or_default(),
            sp_number: Octets::new("SPNumber", &to.source.number).unwrap_or_default(),
            tp_udhi: u8::from(reply.udhi),
            message_coding: reply.coding,
            content: reply.octets.clone(),
            ..Deliver::default()
        };
        Pdu::deliver(own(shared.clock.now(), sequence), deliver).encode(out);
    }
}

fn own(now: Timestamp, counter: u32) -> Sequence {
    Sequence { node: NODE, time: time::LoginTime::at(now).0, counter }
}

/// The part of a SUBMIT to one number.
fn submission(submit: &Submit) -> Option<Submission> {
    let [destination] = submit.user_numbers.as_slice() else { return None };
    let party = |number: String| Party { number, ..Party::default() };
    Some(Submission {
        source: party(submit.sp_number.to_string()),
        destination: party(destination.to_string()),
        // ASCII is 1 there, where 0 is the GSM alphabet.
        coding: if submit.message_coding == msg_fmt::ASCII { 1 } else { submit.message_coding },
        udhi: submit.tp_udhi & 1 != 0,
        octets: submit.content.clone(),
        place: None,
        wants_receipt: submit.report_flag == REPORT_ALWAYS,
    })
}
