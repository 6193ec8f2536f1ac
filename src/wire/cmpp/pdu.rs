//! PDUs with types (C3 section 8.4).
//!
//! **Promises.** A [`Pdu`] can be made only by its constructors, so that a positive SUBMIT_RESP demands proof of
//! responsibility. Decoding copies no octets: fields are slices of the frame. A body must have exactly the length that its
//! fields make; answers whose width differs between the versions (SUBMIT_RESP, DELIVER_RESP, CONNECT_RESP) are read in either,
//! and ACTIVE_TEST_RESP with or without its reserved octet.

mod message;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use self::message::{Deliver, Submit};
use super::auth::Authenticator;
use super::time::LoginTime;
use super::{ConnectStatus, Frame, MsgId, Octets, SubmitResult, Version, command};
use crate::model::Responsibility;
use crate::wire::FieldError;
pub use crate::wire::gateway::Fault;
use crate::wire::gateway::auth;
use crate::wire::gateway::frame::put_frame;
use crate::wire::gateway::octets::{number, octet};

/// CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connect {
    /// Who we are: the SP_Id.
    pub source_addr: Octets<6>,
    /// That we know the secret; see [`super::auth`].
    pub authenticator_source: Authenticator,
    /// [`Version::octet`].
    pub version: u8,
    /// When; it is part of what was hashed.
    pub timestamp: LoginTime,
}

/// CONNECT_RESP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResp {
    /// How it went.
    pub status: ConnectStatus,
    /// That the gateway knows the secret; made wrongly by many.
    pub authenticator_ismg: Authenticator,
    /// The highest version that the gateway speaks.
    pub version: u8,
    /// The octets of the status as they were received, which are what is hashed; as many as the version has.
    width: Version,
}

impl ConnectResp {
    /// The status as it stands in the PDU, which is what is hashed.
    pub fn status_octets(&self) -> Vec<u8> {
        status_octets(self.status, self.width)
    }
}

/// The status as it stands in a CONNECT_RESP of this version.
pub fn status_octets(status: ConnectStatus, version: Version) -> Vec<u8> {
    let octets = status.0.to_be_bytes();
    match version {
        Version::V2 => vec![octets[3]],
        Version::V3 => octets.to_vec(),
    }
}

/// What a PDU is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// CONNECT.
    Connect(Connect),
    /// CONNECT_RESP.
    ConnectResp(ConnectResp),
    /// TERMINATE.
    Terminate,
    /// TERMINATE_RESP.
    TerminateResp,
    /// SUBMIT.
    Submit(Submit),
    /// SUBMIT_RESP: the gateway's id for the message, and whether it was taken.
    SubmitResp(MsgId, SubmitResult),
    /// DELIVER.
    Deliver(Deliver),
    /// DELIVER_RESP: the DELIVER's id, and whether it was taken.
    DeliverResp(MsgId, SubmitResult),
    /// ACTIVE_TEST.
    ActiveTest,
    /// ACTIVE_TEST_RESP.
    ActiveTestResp,
}

/// One PDU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    sequence: u32,
    body: Body,
}

/// A PDU that cannot be read, with what an answer to it needs.
pub type PduError = crate::wire::gateway::PduError<MsgId>;

const CONNECT_RESP: u32 = command::CONNECT | command::RESPONSE;
const TERMINATE_RESP: u32 = command::TERMINATE | command::RESPONSE;
const SUBMIT_RESP: u32 = command::SUBMIT | command::RESPONSE;
const DELIVER_RESP: u32 = command::DELIVER | command::RESPONSE;
const ACTIVE_TEST_RESP: u32 = command::ACTIVE_TEST | command::RESPONSE;

impl Pdu {
    /// Its sequence number.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Its body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its body, taken out.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Its command id.
    pub fn command_id(&self) -> u32 {
        match self.body {
            Body::Connect(_) => command::CONNECT,
            Body::ConnectResp(_) => CONNECT_RESP,
            Body::Terminate => command::TERMINATE,
            Body::TerminateResp => TERMINATE_RESP,
            Body::Submit(_) => command::SUBMIT,
            Body::SubmitResp(..) => SUBMIT_RESP,
            Body::Deliver(_) => command::DELIVER,
            Body::DeliverResp(..) => DELIVER_RESP,
            Body::ActiveTest => command::ACTIVE_TEST,
            Body::ActiveTestResp => ACTIVE_TEST_RESP,
        }
    }

    /// CONNECT.
    pub fn connect(sequence: u32, connect: Connect) -> Self {
        Self { sequence, body: Body::Connect(connect) }
    }

    /// CONNECT_RESP in the layout of `version`, which is also the highest that it says we speak.
    pub fn connect_resp(sequence: u32, status: ConnectStatus, ismg: Authenticator, version: Version) -> Self {
        let resp = ConnectResp { status, authenticator_ismg: ismg, version: version.octet(), width: version };
        Self { sequence, body: Body::ConnectResp(resp) }
    }

    /// TERMINATE.
    pub fn terminate(sequence: u32) -> Self {
        Self { sequence, body: Body::Terminate }
    }

    /// TERMINATE_RESP.
    pub fn terminate_resp(sequence: u32) -> Self {
        Self { sequence, body: Body::TerminateResp }
    }

    /// SUBMIT.
    pub fn submit(sequence: u32, submit: Submit) -> Self {
        Self { sequence, body: Body::Submit(submit) }
    }

    /// The positive SUBMIT_RESP: only for a message that somebody has taken responsibility for, under this id.
    pub fn submit_taken(sequence: u32, _taken: &impl Responsibility, msg_id: MsgId) -> Self {
        Self { sequence, body: Body::SubmitResp(msg_id, SubmitResult::OK) }
    }

    /// The negative SUBMIT_RESP; a result of 0 is written as "anything else".
    pub fn submit_refused(sequence: u32, result: SubmitResult) -> Self {
        let result = if result == SubmitResult::OK { SubmitResult::OTHER } else { result };
        Self { sequence, body: Body::SubmitResp(MsgId::default(), result) }
    }

    /// DELIVER.
    pub fn deliver(sequence: u32, deliver: Deliver) -> Self {
        Self { sequence, body: Body::Deliver(deliver) }
    }

    /// DELIVER_RESP.
    pub fn deliver_resp(sequence: u32, msg_id: MsgId, result: SubmitResult) -> Self {
        Self { sequence, body: Body::DeliverResp(msg_id, result) }
    }

    /// ACTIVE_TEST.
    pub fn active_test(sequence: u32) -> Self {
        Self { sequence, body: Body::ActiveTest }
    }

    /// ACTIVE_TEST_RESP.
    pub fn active_test_resp(sequence: u32) -> Self {
        Self { sequence, body: Body::ActiveTestResp }
    }

    /// Gives a frame its type.
    ///
    /// # Errors
    /// [`PduError`] if the command is unknown or its body cannot be read.
    pub fn decode(frame: Frame, version: Version) -> Result<Self, PduError> {
        let Frame { command_id, sequence, body } = frame;
        let msg_id = body.first_chunk().map(|octets| MsgId(u64::from_be_bytes(*octets))).unwrap_or_default();
        match decode_body(command_id, body, version) {
            Ok(body) => Ok(Self { sequence, body }),
            Err(fault) => Err(PduError { command_id, sequence, msg_id, fault }),
        }
    }

    /// Writes it in the layout of a version.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        put_frame(out, self.command_id(), self.sequence, |out| match &self.body {
            Body::Connect(connect) => {
                connect.source_addr.put(out);
                out.put_slice(&connect.authenticator_source);
                out.put_u8(connect.version);
                out.put_u32(connect.timestamp.0);
            }
            Body::ConnectResp(resp) => {
                out.put_slice(&resp.status_octets());
                out.put_slice(&resp.authenticator_ismg);
                out.put_u8(resp.version);
            }
            Body::Submit(submit) => submit.put(version, out),
            Body::Deliver(deliver) => deliver.put(version, out),
            Body::SubmitResp(msg_id, result) | Body::DeliverResp(msg_id, result) => {
                out.put_u64(msg_id.0);
                match version {
                    // What has no room must not become a yes.
                    Version::V2 => out.put_u8(u8::try_from(result.0).unwrap_or(u8::MAX)),
                    Version::V3 => out.put_u32(result.0),
                }
            }
            Body::ActiveTestResp => out.put_u8(0),
            Body::Terminate | Body::TerminateResp | Body::ActiveTest => {}
        });
    }
}

fn decode_body(command_id: u32, mut body: Bytes, version: Version) -> Result<Body, Fault> {
    let rest = &mut body;
    let read = match command_id {
        command::CONNECT => read_connect(rest).map(Body::Connect),
        CONNECT_RESP => read_connect_resp(rest).map(Body::ConnectResp),
        command::TERMINATE => Ok(Body::Terminate),
        TERMINATE_RESP => Ok(Body::TerminateResp),
        command::SUBMIT => Submit::read(version, rest).map(Body::Submit),
        SUBMIT_RESP => read_result(rest).map(|(msg_id, result)| Body::SubmitResp(msg_id, result)),
        command::DELIVER => Deliver::read(version, rest).map(Body::Deliver),
        DELIVER_RESP => read_result(rest).map(|(msg_id, result)| Body::DeliverResp(msg_id, result)),
        command::ACTIVE_TEST => Ok(Body::ActiveTest),
        ACTIVE_TEST_RESP => {
            // The reserved octet, which some leave out.
            rest.advance(rest.len().min(1));
            Ok(Body::ActiveTestResp)
        }
        _ => return Err(Fault::Command),
    };
    let read = read.map_err(Fault::Field)?;
    if body.is_empty() { Ok(read) } else { Err(Fault::Field(FieldError { field: "Total_Length" })) }
}

fn read_connect(body: &mut Bytes) -> Result<Connect, FieldError> {
    Ok(Connect {
        source_addr: Octets::read("Source_Addr", body)?,
        authenticator_source: auth::read("AuthenticatorSource", body)?,
        version: octet("Version", body)?,
        timestamp: LoginTime(number("Timestamp", body)?),
    })
}

/// The width of Status is seen from the length.
fn read_connect_resp(body: &mut Bytes) -> Result<ConnectResp, FieldError> {
    let width = if body.len() >= 21 { Version::V3 } else { Version::V2 };
    Ok(ConnectResp {
        status: ConnectStatus(narrow_number("Status", width, body)?),
        authenticator_ismg: auth::read("AuthenticatorISMG", body)?,
        version: octet("Version", body)?,
        width,
    })
}

/// So is that of Result.
fn read_result(body: &mut Bytes) -> Result<(MsgId, SubmitResult), FieldError> {
    let msg_id = MsgId::read(body)?;
    let width = if body.len() >= 4 { Version::V3 } else { Version::V2 };
    Ok((msg_id, SubmitResult(narrow_number("Result", width, body)?)))
}

fn narrow_number(field: &'static str, width: Version, body: &mut Bytes) -> Result<u32, FieldError> {
    match width {
        Version::V2 => octet(field, body).map(u32::from),
        Version::V3 => number(field, body),
    }
}

#[cfg(test)]
mod tests;
