//! The carrier's side of CMPP 2.0 and 3.0: whichever a client logs in with.
//!
//! One number a SUBMIT: groups are refused as badly made.

use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::handsets::ReplyPart;
use super::super::{Fault, count};
use super::{Over, Party, Said, Shared, Simulated, Submission, Verdict, Waiting, knows_the_secret, written};
use crate::clock::Timestamp;
use crate::model::{MessageId, ReceiptState};
use crate::wire::cmpp::auth;
use crate::wire::cmpp::msg_id::Fields;
use crate::wire::cmpp::pdu::status_octets;
use crate::wire::cmpp::{
    Body, Connect, ConnectStatus, Deliver, Framer, MsgId, Octets, Pdu, Report, Submit, SubmitResult, Version, command,
    msg_fmt, time,
};

/// A CMPP connection.
pub(in crate::peers::carrier) struct Gateway {
    framer: Framer,
    /// What is spoken, once it is logged in.
    version: Option<Version>,
}

impl Gateway {
    pub(super) fn new(octets: &[u8]) -> Self {
        let mut framer = Framer::new();
        framer.extend(octets);
        Self { framer, version: None }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.version.is_some()
    }

    fn layout(&self) -> Version {
        self.version.unwrap_or(Version::V2)
    }

    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        let Some(frame) = self.framer.next_frame().map_err(|_| Over)? else { return Ok(None) };
        // CMPP knows no way to say that something was not understood.
        let pdu = Pdu::decode(frame, self.layout()).map_err(|_| Over)?;
        let sequence = pdu.sequence();
        Ok(Some(match pdu.into_body() {
            Body::Connect(connect) => {
                self.connect(shared, sequence, &connect, out);
                Said::Nothing
            }
            _ if !self.is_bound() => return Err(Over),
            Body::Submit(submit) => match submission(&submit) {
                Some(submission) => Said::Submission(sequence, submission),
                None => Said::Impossible(sequence, Verdict::BadlyMade),
            },
            Body::DeliverResp(_, result) => Said::ReceiptAnswered { sequence, taken: result == SubmitResult::OK },
            Body::ActiveTest if shared.plays(Fault::ShortActiveTest) => {
                [12, command::RESPONSE | command::ACTIVE_TEST, sequence].into_iter().for_each(|word| out.put_u32(word));
                Said::Nothing
            }
            Body::ActiveTest => {
                Pdu::active_test_resp(sequence).encode(self.layout(), out);
                Said::Nothing
            }
            Body::Terminate => Said::Unbind(sequence),
            _ => Said::Nothing,
        }))
    }

    fn connect(&mut self, shared: &Shared, sequence: u32, connect: &Connect, out: &mut BytesMut) {
        let (options, version) = (&shared.options, Version::of_octet(connect.version));
        let secret = options.password.expose().as_bytes();
        let authentic = knows_the_secret(|form| {
            let made = auth::source(connect.source_addr.as_bytes(), secret, connect.timestamp, form);
            made == connect.authenticator_source
        });
        let status = if self.is_bound() {
            ConnectStatus::OTHER
        } else if options.system_id.is_empty() {
            ConnectStatus::OK
        } else if connect.source_addr.as_bytes() != options.system_id.as_bytes() {
            ConnectStatus::BAD_SOURCE
        } else if !authentic {
            ConnectStatus::NOT_AUTHENTIC
        } else {
            ConnectStatus::OK
        };
        if status == ConnectStatus::OK {
            self.version = Some(version);
            count(&shared.counters.binds);
        } else {
            count(&shared.counters.binds_refused);
        }
        let ismg = auth::ismg(&status_octets(status, version), &connect.authenticator_source, secret);
        Pdu::connect_resp(sequence, status, shared.authenticator(ismg), version).encode(version, out);
    }

    pub(super) fn taken(&self, shared: &Shared, sequence: u32) -> (u64, Bytes) {
        let id = next_id(shared);
        let simulated = Simulated(MessageId::from_bytes(u128::from(id.0).to_be_bytes()));
        let answer = Pdu::submit_taken(sequence, &simulated, id);
        (id.0, written(|out| answer.encode(self.layout(), out)))
    }

    pub(super) fn refused(&self, shared: &Shared, sequence: u32, verdict: Verdict) -> Bytes {
        let result = match verdict {
            Verdict::Throttled | Verdict::QueueFull => SubmitResult::FLOW_CONTROL,
            Verdict::Refused => shared.options.refuse_result,
            Verdict::NotBound | Verdict::BadlyMade => SubmitResult::BAD_STRUCTURE,
        };
        written(|out| Pdu::submit_refused(sequence, result).encode(self.layout(), out))
    }

    pub(super) fn terminated(&self, sequence: u32, out: &mut BytesMut) {
        Pdu::terminate_resp(sequence).encode(self.layout(), out);
    }

    pub(super) fn bring(&self, shared: &Shared, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
        let stat = match receipt.state {
            ReceiptState::Delivered => "DELIVRD",
            _ => "UNDELIV",
        };
        let report = Report {
            msg_id: MsgId(u64::try_from(receipt.id).unwrap_or_default()),
            stat: Octets::new("Stat", stat).unwrap_or_default(),
            submit_time: time::minute(receipt.submitted),
            done_time: time::minute(now),
            dest_terminal_id: Octets::new("Dest_terminal_Id", &receipt.destination.number).unwrap_or_default(),
            smsc_sequence: sequence,
        };
        let layout = if shared.plays(Fault::ShortReceipt) { Version::V2 } else { self.layout() };
        let deliver = Deliver {
            msg_id: next_id(shared),
            dest_id: Octets::new("Dest_Id", &receipt.source.number).unwrap_or_default(),
            src_terminal_id: report.dest_terminal_id.clone(),
            registered_delivery: 1,
            content: report.write(layout),
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
            msg_id: next_id(shared),
            dest_id: Octets::new("Dest_Id", &to.source.number).unwrap_or_default(),
            src_terminal_id: Octets::new("Src_terminal_Id", &to.destination.number).unwrap_or_default(),
            tp_udhi: u8::from(reply.udhi),
            msg_fmt: reply.coding,
            content: reply.octets.clone(),
            ..Deliver::default()
        };
        Pdu::deliver(sequence, deliver).encode(self.layout(), out);
    }
}

/// The next id, by China's clock: what does not fit into the 16 bits that count goes into the gateway's code.
fn next_id(shared: &Shared) -> MsgId {
    let counted = shared.ids.fetch_add(1, Ordering::Relaxed);
    // MMDDhhmmss as digits of a number.
    let now = time::LoginTime::at(shared.clock.now()).0;
    let pair = |position: u32| u8::try_from(now / 100u32.pow(position) % 100).unwrap_or_default();
    MsgId::new(Fields {
        month: pair(4),
        day: pair(3),
        hour: pair(2),
        minute: pair(1),
        second: pair(0),
        gateway: u32::try_from(counted >> 16 & 0x3F_FFFF).unwrap_or_default(),
        sequence: u16::try_from(counted & 0xFFFF).unwrap_or_default(),
    })
}

/// The part of a SUBMIT to one number.
fn submission(submit: &Submit) -> Option<Submission> {
    let [destination] = submit.destinations.as_slice() else { return None };
    let party = |number: String| Party { number, ..Party::default() };
    Some(Submission {
        source: party(submit.src_id.to_string()),
        destination: party(destination.to_string()),
        // ASCII is 1 there, where 0 is the GSM alphabet.
        coding: if submit.msg_fmt == msg_fmt::ASCII { 1 } else { submit.msg_fmt },
        udhi: submit.tp_udhi & 1 != 0,
        octets: submit.content.clone(),
        place: None,
        wants_receipt: submit.registered_delivery == 1,
    })
}
