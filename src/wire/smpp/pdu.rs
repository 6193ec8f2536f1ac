//! PDUs with types (P34 section 4).
//!
//! **Promises.** A [`Pdu`] can be made only by its constructors, so that header and body always fit each other and a
//! positive `submit_sm_resp` or `data_sm_resp` demands proof of responsibility. Decoding copies no octets: fields are slices of the
//! frame. Passwords do not show in `Debug`.

mod message;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use self::message::{Segment, ShortMessage};
use super::frame::{Frame, put_frame};
use super::status::CommandStatus;
use super::tlv;
use super::{Version, command};
use crate::model::Responsibility;
use crate::wire::FieldError;
use crate::wire::tlv::{Tlv, read_all};

/// A C-octet string of at most `MAX` octets, the final NUL included (P34 section 3.1).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct COctets<const MAX: usize>(Bytes);

impl<const MAX: usize> COctets<MAX> {
    /// Checks and wraps; `field` is named in the error.
    ///
    /// # Errors
    /// [`FieldError`] if it is too long or holds a NUL.
    pub fn new(field: &'static str, text: &str) -> Result<Self, FieldError> {
        if text.len() >= MAX || text.as_bytes().contains(&0) {
            return Err(FieldError { field });
        }
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Without the NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True if there is nothing before the NUL.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn read(field: &'static str, body: &mut Bytes) -> Result<Self, FieldError> {
        let end = body.iter().take(MAX).position(|&octet| octet == 0).ok_or(FieldError { field })?;
        let value = body.split_to(end);
        body.advance(1);
        Ok(Self(value))
    }

    /// A last field of a PDU, whose NUL some peers leave out.
    fn read_last(field: &'static str, body: &mut Bytes) -> Result<Self, FieldError> {
        if body.len() < MAX && !body.contains(&0) { Ok(Self(body.split_off(0))) } else { Self::read(field, body) }
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
        out.put_u8(0);
    }
}

impl<const MAX: usize> fmt::Display for COctets<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl<const MAX: usize> fmt::Debug for COctets<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A PDU whose body cannot be read, with what an answer to it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PduError {
    /// Its command id.
    pub command_id: u32,
    /// Its status.
    pub status: CommandStatus,
    /// Its sequence number.
    pub sequence: u32,
    /// What is wrong.
    pub fault: FieldError,
}

impl fmt::Display for PduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in command 0x{:08X}", self.fault, self.command_id)
    }
}

impl std::error::Error for PduError {}

/// An address with its type of number and numbering plan (P34 sections 5.2.5 and 5.2.6).
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Address {
    /// Type of number: 0 unknown, 1 international, 3 network specific, 5 alphanumeric.
    pub ton: u8,
    /// Numbering plan: 0 unknown, 1 E.164.
    pub npi: u8,
    /// The number or name.
    pub address: COctets<21>,
}

impl Address {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&[self.ton, self.npi]);
        self.address.put(out);
    }
}

/// The body of the three bind requests.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bind {
    /// Who we are.
    pub system_id: COctets<16>,
    /// Our password. The standard stops at 8 octets, carriers do not; one that does refuses the bind itself.
    pub password: COctets<65>,
    /// What kind of system we are, if the carrier wants to know.
    pub system_type: COctets<13>,
    /// The version we speak: 0x34 or 0x50.
    pub interface_version: u8,
    /// For `address_range`.
    pub addr_ton: u8,
    /// For `address_range`.
    pub addr_npi: u8,
    /// The addresses we serve, if the carrier wants to know.
    pub address_range: COctets<41>,
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind").field("system_id", &self.system_id).finish_non_exhaustive()
    }
}

/// The body of the answers to them; absent where the bind failed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BindResp {
    /// Who the carrier is.
    pub system_id: COctets<16>,
    /// Optional parameters.
    pub tlvs: Vec<Tlv>,
}

impl BindResp {
    /// The version that the carrier speaks, in the octet of `interface_version`, if it says so.
    pub fn version(&self) -> Option<u8> {
        let version = self.tlvs.iter().find(|tlv| tlv.tag == tlv::SC_INTERFACE_VERSION)?;
        version.value.first().copied()
    }
}

/// The body of `submit_sm_resp` and `data_sm_resp`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SubmitSmResp {
    /// The carrier's id for the message; empty where it was refused or gave none.
    pub message_id: COctets<65>,
    /// Optional parameters, of SMPP 5.0.
    pub tlvs: Vec<Tlv>,
}

impl SubmitSmResp {
    /// How full the carrier says it is, in percent.
    pub fn congestion_state(&self) -> Option<u8> {
        let state = self.tlvs.iter().find(|tlv| tlv.tag == tlv::CONGESTION_STATE)?;
        match state.value[..] {
            [percent @ 0..=100] => Some(percent),
            _ => None,
        }
    }
}

/// What a PDU is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// `bind_receiver`, `bind_transmitter` or `bind_transceiver`.
    Bind(Bind),
    /// An answer to one of these.
    BindResp(BindResp),
    /// `submit_sm`.
    SubmitSm(ShortMessage),
    /// `submit_sm_resp`.
    SubmitSmResp(SubmitSmResp),
    /// `data_sm`.
    DataSm(ShortMessage),
    /// `data_sm_resp`.
    DataSmResp(SubmitSmResp),
    /// `deliver_sm`.
    DeliverSm(ShortMessage),
    /// `deliver_sm_resp`; its `message_id` is unused (P34 section 4.6.2).
    DeliverSmResp,
    /// `enquire_link`.
    EnquireLink,
    /// `enquire_link_resp`.
    EnquireLinkResp,
    /// `unbind`.
    Unbind,
    /// `unbind_resp`.
    UnbindResp,
    /// `generic_nack`.
    GenericNack,
    /// Anything else, as received.
    Unknown(Bytes),
}

/// One PDU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    command_id: u32,
    status: CommandStatus,
    sequence: u32,
    body: Body,
}

impl Pdu {
    /// Its command id.
    pub fn command_id(&self) -> u32 {
        self.command_id
    }

    /// Its status.
    pub fn status(&self) -> CommandStatus {
        self.status
    }

    /// Its sequence number.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// True for an answer, `generic_nack` included.
    pub fn is_response(&self) -> bool {
        self.command_id & command::RESPONSE != 0
    }

    /// Its body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its body, taken out.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// A bind request; `command_id` is one of the three.
    pub fn bind(command_id: u32, sequence: u32, bind: Bind) -> Self {
        debug_assert!(is_bind(command_id));
        Self::request(command_id, sequence, Body::Bind(bind))
    }

    /// The answer to a bind request, from one who speaks 3.4.
    pub fn bind_resp(command_id: u32, sequence: u32, status: CommandStatus, system_id: COctets<16>) -> Self {
        let version = Tlv::new(tlv::SC_INTERFACE_VERSION, &[0x34][..]);
        let body = Body::BindResp(BindResp { system_id, tlvs: vec![version] });
        Self::response(command_id, status, sequence, body)
    }

    /// The same answer to a bind request from one who speaks another version; of another PDU nothing changes.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        if let Body::BindResp(resp) = &mut self.body {
            resp.tlvs = vec![Tlv::new(tlv::SC_INTERFACE_VERSION, vec![version.octet()])];
        }
        self
    }

    /// `submit_sm`.
    pub fn submit_sm(sequence: u32, message: ShortMessage) -> Self {
        Self::request(command::SUBMIT_SM, sequence, Body::SubmitSm(message))
    }

    /// `data_sm`.
    pub fn data_sm(sequence: u32, message: ShortMessage) -> Self {
        Self::request(command::DATA_SM, sequence, Body::DataSm(message))
    }

    /// The positive `submit_sm_resp`: only for a message that somebody has taken responsibility for. `message_id` is
    /// that message's id in the form in which this carrier writes ids.
    pub fn submit_sm_taken(sequence: u32, _taken: &impl Responsibility, message_id: COctets<65>) -> Self {
        let body = Body::SubmitSmResp(SubmitSmResp { message_id, tlvs: Vec::new() });
        Self::response(command::SUBMIT_SM, CommandStatus::OK, sequence, body)
    }

    /// The same to a `data_sm`.
    pub fn data_sm_taken(sequence: u32, _taken: &impl Responsibility, message_id: COctets<65>) -> Self {
        let body = Body::DataSmResp(SubmitSmResp { message_id, tlvs: Vec::new() });
        Self::response(command::DATA_SM, CommandStatus::OK, sequence, body)
    }

    /// The negative `submit_sm_resp`; a status of 0 is written as a system error.
    pub fn submit_sm_refused(sequence: u32, status: CommandStatus) -> Self {
        Self::refused(command::SUBMIT_SM, sequence, status)
    }

    /// The answer no to the request `command_id`, as that has it; `generic_nack` to what is never answered otherwise here. A status
    /// of 0 is written as a system error.
    pub fn refused(command_id: u32, sequence: u32, status: CommandStatus) -> Self {
        let status = if status == CommandStatus::OK { CommandStatus::SYSTEM_ERROR } else { status };
        let body = match command_id {
            command::SUBMIT_SM => Body::SubmitSmResp(SubmitSmResp::default()),
            command::DATA_SM => Body::DataSmResp(SubmitSmResp::default()),
            _ => return Self::generic_nack(sequence, status),
        };
        Self::response(command_id, status, sequence, body)
    }

    /// The same `submit_sm_resp` or `data_sm_resp`, with how full the carrier is, in percent (SMPP 5.0); of another PDU nothing
    /// changes.
    #[must_use]
    pub fn with_congestion_state(mut self, percent: u8) -> Self {
        if let Body::SubmitSmResp(resp) | Body::DataSmResp(resp) = &mut self.body {
            resp.tlvs.push(Tlv::new(tlv::CONGESTION_STATE, vec![percent]));
        }
        self
    }

    /// `deliver_sm`.
    pub fn deliver_sm(sequence: u32, message: ShortMessage) -> Self {
        Self::request(command::DELIVER_SM, sequence, Body::DeliverSm(message))
    }

    /// `deliver_sm_resp`.
    pub fn deliver_sm_resp(sequence: u32, status: CommandStatus) -> Self {
        Self::response(command::DELIVER_SM, status, sequence, Body::DeliverSmResp)
    }

    /// `enquire_link`.
    pub fn enquire_link(sequence: u32) -> Self {
        Self::request(command::ENQUIRE_LINK, sequence, Body::EnquireLink)
    }

    /// `unbind`.
    pub fn unbind(sequence: u32) -> Self {
        Self::request(command::UNBIND, sequence, Body::Unbind)
    }

    /// The answer to `enquire_link`.
    pub fn enquire_link_resp(sequence: u32) -> Self {
        Self::response(command::ENQUIRE_LINK, CommandStatus::OK, sequence, Body::EnquireLinkResp)
    }

    /// The answer to `unbind`.
    pub fn unbind_resp(sequence: u32) -> Self {
        Self::response(command::UNBIND, CommandStatus::OK, sequence, Body::UnbindResp)
    }

    /// `generic_nack`.
    pub fn generic_nack(sequence: u32, status: CommandStatus) -> Self {
        Self { command_id: command::GENERIC_NACK, status, sequence, body: Body::GenericNack }
    }

    fn request(command_id: u32, sequence: u32, body: Body) -> Self {
        Self { command_id, status: CommandStatus::OK, sequence, body }
    }

    fn response(request: u32, status: CommandStatus, sequence: u32, body: Body) -> Self {
        Self { command_id: request | command::RESPONSE, status, sequence, body }
    }

    /// Gives a frame its type.
    ///
    /// # Errors
    /// [`PduError`] if a known command's body cannot be read.
    pub fn decode(frame: Frame) -> Result<Self, PduError> {
        let Frame { command_id, command_status, sequence, body } = frame;
        let status = CommandStatus(command_status);
        match decode_body(command_id, status, body) {
            Ok(body) => Ok(Self { command_id, status, sequence, body }),
            Err(fault) => Err(PduError { command_id, status, sequence, fault }),
        }
    }

    /// Writes it.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, self.command_id, self.status.0, self.sequence, |out| match &self.body {
            Body::Bind(bind) => {
                bind.system_id.put(out);
                bind.password.put(out);
                bind.system_type.put(out);
                out.put_slice(&[bind.interface_version, bind.addr_ton, bind.addr_npi]);
                bind.address_range.put(out);
            }
            Body::BindResp(resp) => {
                resp.system_id.put(out);
                resp.tlvs.iter().for_each(|tlv| tlv.put(out));
            }
            Body::SubmitSm(message) | Body::DeliverSm(message) => message.put(out),
            // P34 section 4.4.2: no body where the status is not 0.
            Body::SubmitSmResp(resp) | Body::DataSmResp(resp)
                if self.status != CommandStatus::OK && resp.tlvs.is_empty() => {}
            Body::SubmitSmResp(resp) | Body::DataSmResp(resp) => {
                resp.message_id.put(out);
                resp.tlvs.iter().for_each(|tlv| tlv.put(out));
            }
            Body::DataSm(message) => message.put_data(out),
            Body::DeliverSmResp => out.put_u8(0),
            Body::Unknown(body) => out.put_slice(body),
            Body::EnquireLink | Body::EnquireLinkResp | Body::Unbind | Body::UnbindResp | Body::GenericNack => {}
        });
    }
}

/// True for the three bind requests.
pub fn is_bind(command_id: u32) -> bool {
    matches!(command_id, command::BIND_RECEIVER | command::BIND_TRANSMITTER | command::BIND_TRANSCEIVER)
}

fn decode_body(command_id: u32, status: CommandStatus, mut body: Bytes) -> Result<Body, FieldError> {
    const SUBMIT_SM_RESP: u32 = command::SUBMIT_SM | command::RESPONSE;
    const DATA_SM_RESP: u32 = command::DATA_SM | command::RESPONSE;
    const DELIVER_SM_RESP: u32 = command::DELIVER_SM | command::RESPONSE;
    const ENQUIRE_LINK_RESP: u32 = command::ENQUIRE_LINK | command::RESPONSE;
    const UNBIND_RESP: u32 = command::UNBIND | command::RESPONSE;
    Ok(match command_id {
        id if is_bind(id) => Body::Bind(read_bind(&mut body)?),
        id if id & command::RESPONSE != 0 && is_bind(id & !command::RESPONSE) => {
            Body::BindResp(read_bind_resp(status, body)?)
        }
        command::SUBMIT_SM => Body::SubmitSm(ShortMessage::read(body)?),
        command::DELIVER_SM => Body::DeliverSm(ShortMessage::read(body)?),
        SUBMIT_SM_RESP => Body::SubmitSmResp(read_submit_sm_resp(status, body)?),
        command::DATA_SM => Body::DataSm(ShortMessage::read_data(body)?),
        DATA_SM_RESP => Body::DataSmResp(read_submit_sm_resp(status, body)?),
        DELIVER_SM_RESP => Body::DeliverSmResp,
        command::ENQUIRE_LINK => Body::EnquireLink,
        ENQUIRE_LINK_RESP => Body::EnquireLinkResp,
        command::UNBIND => Body::Unbind,
        UNBIND_RESP => Body::UnbindResp,
        command::GENERIC_NACK => Body::GenericNack,
        _ => Body::Unknown(body),
    })
}

fn read_bind(body: &mut Bytes) -> Result<Bind, FieldError> {
    Ok(Bind {
        system_id: COctets::read("system_id", body)?,
        password: COctets::read("password", body)?,
        system_type: COctets::read("system_type", body)?,
        interface_version: octet("interface_version", body)?,
        addr_ton: octet("addr_ton", body)?,
        addr_npi: octet("addr_npi", body)?,
        address_range: COctets::read("address_range", body)?,
    })
}

fn read_submit_sm_resp(status: CommandStatus, mut body: Bytes) -> Result<SubmitSmResp, FieldError> {
    if body.is_empty() {
        return Ok(SubmitSmResp::default());
    }
    let message_id = COctets::read_last("message_id", &mut body);
    // Parameters that cannot be read are no reason to doubt the answer.
    let tlvs = |mut rest: Bytes| read_all(&mut rest).unwrap_or_default();
    match message_id {
        Ok(message_id) if status == CommandStatus::OK => Ok(SubmitSmResp { message_id, tlvs: tlvs(body) }),
        Err(fault) if status == CommandStatus::OK => Err(fault),
        // A refusal names no message, whatever it carries.
        Ok(_) => Ok(SubmitSmResp { tlvs: tlvs(body), ..SubmitSmResp::default() }),
        Err(_) => Ok(SubmitSmResp::default()),
    }
}

fn read_bind_resp(status: CommandStatus, mut body: Bytes) -> Result<BindResp, FieldError> {
    if body.is_empty() || status != CommandStatus::OK {
        return Ok(BindResp::default());
    }
    Ok(BindResp { system_id: COctets::read_last("system_id", &mut body)?, tlvs: read_all(&mut body)? })
}

fn octet(field: &'static str, body: &mut Bytes) -> Result<u8, FieldError> {
    body.try_get_u8().map_err(|_| FieldError { field })
}

fn address(field: &'static str, body: &mut Bytes) -> Result<Address, FieldError> {
    Ok(Address { ton: octet(field, body)?, npi: octet(field, body)?, address: COctets::read(field, body)? })
}

#[cfg(test)]
mod judged;
#[cfg(test)]
mod tests;
