//! The carrier's side of SMPP 3.4, and of 5.0 with clients that speak it.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::super::count;
use super::super::handsets::ReplyPart;
use super::{Over, Party, Said, Shared, Simulated, Submission, Verdict, Waiting, written};
use crate::clock::Timestamp;
use crate::model::{MessageId, ReceiptState};
use crate::peers::carrier::IdForm;
use crate::sms::{Concatenation, receipt};
use crate::wire::smpp::{
    Address, Bind, Body, COctets, CommandStatus, Framer, Pdu, ShortMessage, Tlv, Version, command, esm_class, tlv,
};

/// An SMPP connection.
pub(in crate::peers::carrier) struct MessageCentre {
    framer: Framer,
    /// The command that bound it.
    bound_by: Option<u32>,
    /// What its client speaks.
    version: Version,
}

impl MessageCentre {
    pub(super) fn new(octets: &[u8]) -> Self {
        let mut framer = Framer::new();
        framer.extend(octets);
        Self { framer, bound_by: None, version: Version::V34 }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.framer.buffer()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.bound_by.is_some()
    }

    /// What its client speaks.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn may_receive(&self) -> bool {
        matches!(self.bound_by, Some(command::BIND_TRANSCEIVER | command::BIND_RECEIVER))
    }

    fn may_submit(&self) -> bool {
        matches!(self.bound_by, Some(command::BIND_TRANSCEIVER | command::BIND_TRANSMITTER))
    }

    pub(super) fn next(&mut self, shared: &Shared, out: &mut BytesMut) -> Result<Option<Said>, Over> {
        let Some(frame) = self.framer.next_frame().map_err(|_| Over)? else { return Ok(None) };
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(e) => {
                if e.command_id & command::RESPONSE == 0 {
                    Pdu::generic_nack(e.sequence, CommandStatus::INVALID_COMMAND_LENGTH).encode(out);
                }
                return Ok(Some(Said::Nothing));
            }
        };
        let (command_id, sequence, status) = (pdu.command_id(), pdu.sequence(), pdu.status());
        let response = pdu.is_response();
        match pdu.into_body() {
            Body::Bind(bind) => self.bind(shared, command_id, sequence, &bind, out),
            Body::SubmitSm(message) if self.may_submit() => {
                return Ok(Some(Said::Submission(sequence, submission(&message))));
            }
            Body::SubmitSm(_) => return Ok(Some(Said::Impossible(sequence, Verdict::NotBound))),
            Body::DeliverSmResp => {
                return Ok(Some(Said::ReceiptAnswered { sequence, taken: status == CommandStatus::OK }));
            }
            Body::GenericNack => return Ok(Some(Said::ReceiptAnswered { sequence, taken: false })),
            Body::EnquireLink => Pdu::enquire_link_resp(sequence).encode(out),
            Body::Unbind => return Ok(Some(Said::Unbind(sequence))),
            _ if response => {}
            _ => Pdu::generic_nack(sequence, CommandStatus::INVALID_COMMAND_ID).encode(out),
        }
        Ok(Some(Said::Nothing))
    }

    fn bind(&mut self, shared: &Shared, command_id: u32, sequence: u32, bind: &Bind, out: &mut BytesMut) {
        let options = &shared.options;
        let version = Version::with_peer(bind.interface_version);
        let status = if self.bound_by.is_some() {
            CommandStatus::ALREADY_BOUND
        } else if options.system_id.is_empty() {
            CommandStatus::OK
        } else if bind.system_id.as_bytes() != options.system_id.as_bytes() {
            CommandStatus::INVALID_SYSTEM_ID
        } else if !options.password.matches(bind.password.as_bytes()) {
            CommandStatus::INVALID_PASSWORD
        } else {
            CommandStatus::OK
        };
        if status == CommandStatus::OK {
            self.bound_by = Some(command_id);
            self.version = version;
            count(&shared.counters.binds);
        } else {
            count(&shared.counters.binds_refused);
        }
        let name = COctets::new("system_id", "simulator").unwrap_or_default();
        Pdu::bind_resp(command_id, sequence, status, name).with_version(version).encode(out);
    }
}

fn submission(message: &ShortMessage) -> Submission {
    let party = |address: &Address| Party { ton: address.ton, npi: address.npi, number: address.address.to_string() };
    Submission {
        source: party(&message.source),
        destination: party(&message.destination),
        coding: message.data_coding,
        udhi: message.esm_class & esm_class::UDHI != 0,
        octets: Bytes::copy_from_slice(message.octets()),
        place: message.segment().map(|segment| Concatenation {
            reference: segment.reference,
            total: segment.total,
            number: segment.number,
        }),
        wants_receipt: message.registered_delivery & 1 != 0,
    }
}

/// What it says of itself with its answers.
fn remarked(pdu: Pdu, version: Version, shared: &Shared) -> Pdu {
    match shared.options.congestion {
        Some(percent) if version == Version::V50 => pdu.with_congestion_state(percent),
        _ => pdu,
    }
}

pub(super) fn taken(shared: &Shared, version: Version, sequence: u32) -> (u64, Bytes) {
    let id = shared.ids.fetch_add(1, Ordering::Relaxed);
    let written_id = match shared.options.ids {
        IdForm::Decimal => id.to_string(),
        IdForm::HexThenDecimal => format!("{id:X}"),
    };
    let simulated = Simulated(MessageId::from_bytes(u128::from(id).to_be_bytes()));
    let message_id = COctets::new("message_id", &written_id).unwrap_or_default();
    let answer = Pdu::submit_sm_taken(sequence, &simulated, message_id);
    (id, written(|out| remarked(answer, version, shared).encode(out)))
}

pub(super) fn refused(shared: &Shared, version: Version, sequence: u32, verdict: Verdict) -> Bytes {
    let status = match verdict {
        Verdict::Throttled => CommandStatus::THROTTLED,
        Verdict::Refused => shared.options.refuse_status,
        Verdict::QueueFull => CommandStatus::MESSAGE_QUEUE_FULL,
        Verdict::NotBound => CommandStatus::INVALID_BIND_STATUS,
        Verdict::BadlyMade => CommandStatus::INVALID_MESSAGE_LENGTH,
    };
    written(|out| remarked(Pdu::submit_sm_refused(sequence, status), version, shared).encode(out))
}

pub(super) fn unbound(sequence: u32, out: &mut BytesMut) {
    Pdu::unbind_resp(sequence).encode(out);
}

/// The `deliver_sm` of a receipt: addresses turned round (P34 appendix B).
pub(super) fn bring(shared: &Shared, sequence: u32, receipt: &Waiting, now: Timestamp, out: &mut BytesMut) {
    let id = match shared.options.ids {
        IdForm::Decimal => receipt.id.to_string(),
        IdForm::HexThenDecimal => format!("{:012}", receipt.id),
    };
    let text = receipt::write(&id, receipt.state, receipt.submitted, now, "");
    let state: &[u8] = if receipt.state == ReceiptState::Delivered { &[2] } else { &[5] };
    let tlvs = if shared.options.receipt_tlvs {
        let id = Bytes::from(format!("{id}\0"));
        vec![Tlv::new(tlv::RECEIPTED_MESSAGE_ID, id), Tlv::new(tlv::MESSAGE_STATE, Bytes::copy_from_slice(state))]
    } else {
        Vec::new()
    };
    let message = ShortMessage {
        source: address(&receipt.destination),
        destination: address(&receipt.source),
        esm_class: esm_class::RECEIPT,
        short_message: text.into(),
        tlvs,
        ..ShortMessage::default()
    };
    Pdu::deliver_sm(sequence, message).encode(out);
}

/// The `deliver_sm` of what a handset says to the sender of a text.
pub(super) fn bring_reply(sequence: u32, to: &Waiting, reply: &ReplyPart, out: &mut BytesMut) {
    let message = ShortMessage {
        source: address(&to.destination),
        destination: address(&to.source),
        esm_class: if reply.udhi { esm_class::UDHI } else { 0 },
        data_coding: reply.coding,
        short_message: reply.octets.clone(),
        ..ShortMessage::default()
    };
    Pdu::deliver_sm(sequence, message).encode(out);
}

fn address(party: &Party) -> Address {
    Address { ton: party.ton, npi: party.npi, address: COctets::new("address", &party.number).unwrap_or_default() }
}
