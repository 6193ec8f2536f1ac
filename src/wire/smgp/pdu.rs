//! PDUs with types.
//!
//! **Promises.** A [`Pdu`] can be made only by its constructors, so that a positive SUBMIT_RESP demands proof of
//! responsibility. Decoding copies no octets: fields are slices of the frame. A body must have exactly the length that its
//! fields make; behind those of SUBMIT and DELIVER stand optional parameters, of which unknown ones are skipped.

mod message;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::message::{Deliver, Parts, Submit};
use super::auth::Authenticator;
use super::time::LoginTime;
use super::{Frame, MsgId, Octets, Status, Version, command};
use crate::model::Responsibility;
use crate::wire::FieldError;
pub use crate::wire::gateway::Fault;
use crate::wire::gateway::auth;
use crate::wire::gateway::frame::put_frame;
use crate::wire::gateway::octets::{number, octet};

/// LOGIN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Who we are.
    pub client_id: Octets<8>,
    /// That we know the secret; see [`super::auth`].
    pub authenticator_client: Authenticator,
    /// [`LoginMode::octet`](super::LoginMode::octet).
    pub login_mode: u8,
    /// When; it is part of what was hashed.
    pub timestamp: LoginTime,
    /// [`Version::octet`].
    pub client_version: u8,
}

/// LOGIN_RESP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginResp {
    /// How it went.
    pub status: Status,
    /// That the gateway knows the secret; made wrongly by many.
    pub authenticator_server: Authenticator,
    /// The highest version that the gateway speaks.
    pub server_version: u8,
}

/// What a PDU is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// LOGIN.
    Login(Login),
    /// LOGIN_RESP.
    LoginResp(LoginResp),
    /// SUBMIT.
    Submit(Submit),
    /// SUBMIT_RESP: the gateway's id for the message, and whether it was taken.
    SubmitResp(MsgId, Status),
    /// DELIVER.
    Deliver(Deliver),
    /// DELIVER_RESP: the DELIVER's id, and whether it was taken.
    DeliverResp(MsgId, Status),
    /// ACTIVE_TEST.
    ActiveTest,
    /// ACTIVE_TEST_RESP.
    ActiveTestResp,
    /// EXIT.
    Exit,
    /// EXIT_RESP.
    ExitResp,
    /// FORWARD, QUERY, or an answer to either, by its command id: no business of an SP's, and not read.
    NotOurs(u32),
}

/// One PDU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    sequence: u32,
    body: Body,
}

/// A PDU that cannot be read, with what an answer to it needs.
pub type PduError = crate::wire::gateway::PduError<MsgId>;

const LOGIN_RESP: u32 = command::LOGIN | command::RESPONSE;
const SUBMIT_RESP: u32 = command::SUBMIT | command::RESPONSE;
const DELIVER_RESP: u32 = command::DELIVER | command::RESPONSE;
const ACTIVE_TEST_RESP: u32 = command::ACTIVE_TEST | command::RESPONSE;
const FORWARD_RESP: u32 = command::FORWARD | command::RESPONSE;
const EXIT_RESP: u32 = command::EXIT | command::RESPONSE;
const QUERY_RESP: u32 = command::QUERY | command::RESPONSE;

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
            Body::Login(_) => command::LOGIN,
            Body::LoginResp(_) => LOGIN_RESP,
            Body::Submit(_) => command::SUBMIT,
            Body::SubmitResp(..) => SUBMIT_RESP,
            Body::Deliver(_) => command::DELIVER,
            Body::DeliverResp(..) => DELIVER_RESP,
            Body::ActiveTest => command::ACTIVE_TEST,
            Body::ActiveTestResp => ACTIVE_TEST_RESP,
            Body::Exit => command::EXIT,
            Body::ExitResp => EXIT_RESP,
            Body::NotOurs(command_id) => command_id,
        }
    }

    /// LOGIN.
    pub fn login(sequence: u32, login: Login) -> Self {
        Self { sequence, body: Body::Login(login) }
    }

    /// LOGIN_RESP; `version` is the highest that it says we speak.
    pub fn login_resp(sequence: u32, status: Status, server: Authenticator, version: Version) -> Self {
        let resp = LoginResp { status, authenticator_server: server, server_version: version.octet() };
        Self { sequence, body: Body::LoginResp(resp) }
    }

    /// SUBMIT.
    pub fn submit(sequence: u32, submit: Submit) -> Self {
        Self { sequence, body: Body::Submit(submit) }
    }

    /// The positive SUBMIT_RESP: only for a message that somebody has taken responsibility for, under this id.
    pub fn submit_taken(sequence: u32, _taken: &impl Responsibility, msg_id: MsgId) -> Self {
        Self { sequence, body: Body::SubmitResp(msg_id, Status::OK) }
    }

    /// The negative SUBMIT_RESP; a status of 0 is written as "busy".
    pub fn submit_refused(sequence: u32, status: Status) -> Self {
        let status = if status == Status::OK { Status::BUSY } else { status };
        Self { sequence, body: Body::SubmitResp(MsgId::default(), status) }
    }

    /// DELIVER.
    pub fn deliver(sequence: u32, deliver: Deliver) -> Self {
        Self { sequence, body: Body::Deliver(deliver) }
    }

    /// DELIVER_RESP.
    pub fn deliver_resp(sequence: u32, msg_id: MsgId, status: Status) -> Self {
        Self { sequence, body: Body::DeliverResp(msg_id, status) }
    }

    /// ACTIVE_TEST.
    pub fn active_test(sequence: u32) -> Self {
        Self { sequence, body: Body::ActiveTest }
    }

    /// ACTIVE_TEST_RESP.
    pub fn active_test_resp(sequence: u32) -> Self {
        Self { sequence, body: Body::ActiveTestResp }
    }

    /// EXIT.
    pub fn exit(sequence: u32) -> Self {
        Self { sequence, body: Body::Exit }
    }

    /// EXIT_RESP.
    pub fn exit_resp(sequence: u32) -> Self {
        Self { sequence, body: Body::ExitResp }
    }

    /// Gives a frame its type.
    ///
    /// # Errors
    /// [`PduError`] if the command is unknown or its body cannot be read.
    pub fn decode(frame: Frame, version: Version) -> Result<Self, PduError> {
        let Frame { command_id, sequence, body } = frame;
        let msg_id = body.first_chunk().map(|octets| MsgId(*octets)).unwrap_or_default();
        match decode_body(command_id, body, version) {
            Ok(body) => Ok(Self { sequence, body }),
            Err(fault) => Err(PduError { command_id, sequence, msg_id, fault }),
        }
    }

    /// Writes it in the layout of a version.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        put_frame(out, self.command_id(), self.sequence, |out| match &self.body {
            Body::Login(login) => {
                login.client_id.put(out);
                out.put_slice(&login.authenticator_client);
                out.put_u8(login.login_mode);
                out.put_u32(login.timestamp.0);
                out.put_u8(login.client_version);
            }
            Body::LoginResp(resp) => {
                out.put_u32(resp.status.0);
                out.put_slice(&resp.authenticator_server);
                out.put_u8(resp.server_version);
            }
            Body::Submit(submit) => submit.put(version, out),
            Body::Deliver(deliver) => deliver.put(out),
            Body::SubmitResp(msg_id, status) | Body::DeliverResp(msg_id, status) => {
                out.put_slice(&msg_id.0);
                out.put_u32(status.0);
            }
            Body::ActiveTest | Body::ActiveTestResp | Body::Exit | Body::ExitResp | Body::NotOurs(_) => {}
        });
    }
}

fn decode_body(command_id: u32, mut body: Bytes, version: Version) -> Result<Body, Fault> {
    let rest = &mut body;
    let read = match command_id {
        command::LOGIN => read_login(rest).map(Body::Login),
        LOGIN_RESP => read_login_resp(rest).map(Body::LoginResp),
        command::SUBMIT => Submit::read(version, rest).map(Body::Submit),
        SUBMIT_RESP => read_status(rest).map(|(msg_id, status)| Body::SubmitResp(msg_id, status)),
        command::DELIVER => Deliver::read(rest).map(Body::Deliver),
        DELIVER_RESP => read_status(rest).map(|(msg_id, status)| Body::DeliverResp(msg_id, status)),
        command::ACTIVE_TEST => Ok(Body::ActiveTest),
        ACTIVE_TEST_RESP => Ok(Body::ActiveTestResp),
        command::EXIT => Ok(Body::Exit),
        EXIT_RESP => Ok(Body::ExitResp),
        command::FORWARD | FORWARD_RESP | command::QUERY | QUERY_RESP => return Ok(Body::NotOurs(command_id)),
        _ => return Err(Fault::Command),
    };
    let read = read.map_err(Fault::Field)?;
    if body.is_empty() { Ok(read) } else { Err(Fault::Field(FieldError { field: "PacketLength" })) }
}

fn read_login(body: &mut Bytes) -> Result<Login, FieldError> {
    Ok(Login {
        client_id: Octets::read("ClientID", body)?,
        authenticator_client: auth::read("AuthenticatorClient", body)?,
        login_mode: octet("LoginMode", body)?,
        timestamp: LoginTime(number("TimeStamp", body)?),
        client_version: octet("ClientVersion", body)?,
    })
}

fn read_login_resp(body: &mut Bytes) -> Result<LoginResp, FieldError> {
    Ok(LoginResp {
        status: Status(number("Status", body)?),
        authenticator_server: auth::read("AuthenticatorServer", body)?,
        server_version: octet("ServerVersion", body)?,
    })
}

fn read_status(body: &mut Bytes) -> Result<(MsgId, Status), FieldError> {
    Ok((MsgId::read(body)?, Status(number("Status", body)?)))
}

#[cfg(test)]
mod tests;
