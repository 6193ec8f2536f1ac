//! PDUs with types.
//!
//! **Promises.** A [`Pdu`] can be made only by its constructors, so that a positive SUBMIT_RESP demands proof of
//! responsibility. Decoding copies no octets: fields are slices of the frame. A body must have exactly the length that its
//! fields make; UNBIND_RESP is read with a result or without.

mod message;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

pub use self::message::{Deliver, Report, Submit};
use super::frame::put_frame;
use super::{Frame, Octets, Sequence, SgipResult, command};
use crate::model::Responsibility;
use crate::wire::FieldError;
pub use crate::wire::gateway::Fault;
use crate::wire::gateway::octets::octet;

/// Octets that mean nothing.
type Reserve = Octets<8>;

/// BIND.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bind {
    /// Which way round: see [`login_type`](super::login_type).
    pub login_type: u8,
    /// Who binds.
    pub login_name: Octets<16>,
    /// The password, in clear.
    pub login_password: Octets<16>,
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bind({}, type {})", self.login_name, self.login_type)
    }
}

/// What a PDU is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Body {
    /// BIND.
    Bind(Bind),
    /// BIND_RESP.
    BindResp(SgipResult),
    /// UNBIND.
    Unbind,
    /// UNBIND_RESP.
    UnbindResp,
    /// SUBMIT.
    Submit(Submit),
    /// SUBMIT_RESP.
    SubmitResp(SgipResult),
    /// DELIVER.
    Deliver(Deliver),
    /// DELIVER_RESP.
    DeliverResp(SgipResult),
    /// REPORT.
    Report(Report),
    /// REPORT_RESP.
    ReportResp(SgipResult),
    /// USERRPT, TRACE, or an answer to either, by its command id: no business of ours, and not read.
    NotOurs(u32),
}

/// One PDU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    sequence: Sequence,
    body: Body,
}

/// A PDU that cannot be read, with what an answer to it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PduError {
    /// Its command id.
    pub command_id: u32,
    /// Its sequence number.
    pub sequence: Sequence,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for PduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Command => write!(f, "unknown command 0x{:08X}", self.command_id),
            Fault::Field(field) => write!(f, "{field} in command 0x{:08X}", self.command_id),
        }
    }
}

impl std::error::Error for PduError {}

const BIND_RESP: u32 = command::BIND | command::RESPONSE;
const UNBIND_RESP: u32 = command::UNBIND | command::RESPONSE;
const SUBMIT_RESP: u32 = command::SUBMIT | command::RESPONSE;
const DELIVER_RESP: u32 = command::DELIVER | command::RESPONSE;
const REPORT_RESP: u32 = command::REPORT | command::RESPONSE;
const USERRPT_RESP: u32 = command::USERRPT | command::RESPONSE;
const TRACE_RESP: u32 = command::TRACE | command::RESPONSE;

impl Pdu {
    /// Its sequence number.
    pub fn sequence(&self) -> Sequence {
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
            Body::Bind(_) => command::BIND,
            Body::BindResp(_) => BIND_RESP,
            Body::Unbind => command::UNBIND,
            Body::UnbindResp => UNBIND_RESP,
            Body::Submit(_) => command::SUBMIT,
            Body::SubmitResp(_) => SUBMIT_RESP,
            Body::Deliver(_) => command::DELIVER,
            Body::DeliverResp(_) => DELIVER_RESP,
            Body::Report(_) => command::REPORT,
            Body::ReportResp(_) => REPORT_RESP,
            Body::NotOurs(command_id) => command_id,
        }
    }

    /// BIND.
    pub fn bind(sequence: Sequence, bind: Bind) -> Self {
        Self { sequence, body: Body::Bind(bind) }
    }

    /// BIND_RESP.
    pub fn bind_resp(sequence: Sequence, result: SgipResult) -> Self {
        Self { sequence, body: Body::BindResp(result) }
    }

    /// UNBIND.
    pub fn unbind(sequence: Sequence) -> Self {
        Self { sequence, body: Body::Unbind }
    }

    /// UNBIND_RESP.
    pub fn unbind_resp(sequence: Sequence) -> Self {
        Self { sequence, body: Body::UnbindResp }
    }

    /// SUBMIT.
    pub fn submit(sequence: Sequence, submit: Submit) -> Self {
        Self { sequence, body: Body::Submit(submit) }
    }

    /// The positive SUBMIT_RESP: only for a message that somebody has taken responsibility for.
    pub fn submit_taken(sequence: Sequence, _taken: &impl Responsibility) -> Self {
        Self { sequence, body: Body::SubmitResp(SgipResult::OK) }
    }

    /// The negative SUBMIT_RESP; a result of 0 is written as "busy".
    pub fn submit_refused(sequence: Sequence, result: SgipResult) -> Self {
        let result = if result == SgipResult::OK { SgipResult::BUSY } else { result };
        Self { sequence, body: Body::SubmitResp(result) }
    }

    /// DELIVER.
    pub fn deliver(sequence: Sequence, deliver: Deliver) -> Self {
        Self { sequence, body: Body::Deliver(deliver) }
    }

    /// DELIVER_RESP.
    pub fn deliver_resp(sequence: Sequence, result: SgipResult) -> Self {
        Self { sequence, body: Body::DeliverResp(result) }
    }

    /// REPORT.
    pub fn report(sequence: Sequence, report: Report) -> Self {
        Self { sequence, body: Body::Report(report) }
    }

    /// REPORT_RESP.
    pub fn report_resp(sequence: Sequence, result: SgipResult) -> Self {
        Self { sequence, body: Body::ReportResp(result) }
    }

    /// Gives a frame its type.
    ///
    /// # Errors
    /// [`PduError`] if the command is unknown or its body cannot be read.
    pub fn decode(frame: Frame) -> Result<Self, PduError> {
        let Frame { command_id, sequence, body } = frame;
        match decode_body(command_id, body) {
            Ok(body) => Ok(Self { sequence, body }),
            Err(fault) => Err(PduError { command_id, sequence, fault }),
        }
    }

    /// Writes it.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, self.command_id(), self.sequence, |out| match &self.body {
            Body::Bind(bind) => {
                out.put_u8(bind.login_type);
                bind.login_name.put(out);
                bind.login_password.put(out);
                Reserve::default().put(out);
            }
            Body::Submit(submit) => submit.put(out),
            Body::Deliver(deliver) => deliver.put(out),
            Body::Report(report) => report.put(out),
            Body::BindResp(result)
            | Body::SubmitResp(result)
            | Body::DeliverResp(result)
            | Body::ReportResp(result) => {
                out.put_u8(result.0);
                Reserve::default().put(out);
            }
            Body::Unbind | Body::UnbindResp | Body::NotOurs(_) => {}
        });
    }
}

fn decode_body(command_id: u32, mut body: Bytes) -> Result<Body, Fault> {
    let rest = &mut body;
    let read = match command_id {
        command::BIND => read_bind(rest).map(Body::Bind),
        BIND_RESP => read_result(rest).map(Body::BindResp),
        command::UNBIND => Ok(Body::Unbind),
        UNBIND_RESP if rest.is_empty() => Ok(Body::UnbindResp),
        UNBIND_RESP => read_result(rest).map(|_| Body::UnbindResp),
        command::SUBMIT => Submit::read(rest).map(Body::Submit),
        SUBMIT_RESP => read_result(rest).map(Body::SubmitResp),
        command::DELIVER => Deliver::read(rest).map(Body::Deliver),
        DELIVER_RESP => read_result(rest).map(Body::DeliverResp),
        command::REPORT => Report::read(rest).map(Body::Report),
        REPORT_RESP => read_result(rest).map(Body::ReportResp),
        command::USERRPT | USERRPT_RESP | command::TRACE | TRACE_RESP => return Ok(Body::NotOurs(command_id)),
        _ => return Err(Fault::Command),
    };
    let read = read.map_err(Fault::Field)?;
    if body.is_empty() { Ok(read) } else { Err(Fault::Field(FieldError { field: "Message_Length" })) }
}

fn read_bind(body: &mut Bytes) -> Result<Bind, FieldError> {
    let bind = Bind {
        login_type: octet("Login_Type", body)?,
        login_name: Octets::read("Login_Name", body)?,
        login_password: Octets::read("Login_Password", body)?,
    };
    Reserve::read("Reserve", body)?;
    Ok(bind)
}

fn read_result(body: &mut Bytes) -> Result<SgipResult, FieldError> {
    let result = SgipResult(octet("Result", body)?);
    Reserve::read("Reserve", body)?;
    Ok(result)
}

#[cfg(test)]
mod tests;
