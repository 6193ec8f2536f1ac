//! SUBMIT, DELIVER and REPORT.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{Octets, Sequence};
use super::Reserve;
use crate::wire::FieldError;
use crate::wire::gateway::octets::{number, octet};

/// Most octets of a content: other than its neighbours, SGIP has four octets for their number.
const CONTENT_OCTETS_MAX: usize = 255;

fn content(body: &mut Bytes) -> Result<Bytes, FieldError> {
    let fault = FieldError { field: "MessageLength" };
    let length = usize::try_from(number(fault.field, body)?).map_err(|_| fault)?;
    if length > CONTENT_OCTETS_MAX || body.len() < length {
        return Err(fault);
    }
    Ok(body.split_to(length))
}

fn put_content(content: &Bytes, out: &mut BytesMut) {
    let content = &content[..content.len().min(CONTENT_OCTETS_MAX)];
    out.put_u32(u32::try_from(content.len()).unwrap_or_default());
    out.put_slice(content);
}

/// SUBMIT. Its sequence number is what its REPORT names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Submit {
    /// The number it shows: the SP's access number.
    pub sp_number: Octets<21>,
    /// Who pays: 21 times `0` is the SP, nothing the receiver.
    pub charge_number: Octets<21>,
    /// To whom, with 86; at most 100.
    pub user_numbers: Vec<Octets<21>>,
    /// The SP's number.
    pub corp_id: Octets<5>,
    /// The service, as the account was set up.
    pub service_type: Octets<10>,
    /// How it is paid for.
    pub fee_type: u8,
    /// The fee, in fen.
    pub fee_value: Octets<6>,
    /// What is given to the receiver, in fen.
    pub given_value: Octets<6>,
    /// 0: the fee is due, 1: it has been taken.
    pub agent_flag: u8,
    /// Why it is sent: 2 without a request of the receiver's.
    pub mo_relate_to_mt_flag: u8,
    /// 0 to 9, the highest.
    pub priority: u8,
    /// Until when it may be delivered: `yymmddhhmmss032+`; empty: the gateway's default.
    pub expire_time: Octets<16>,
    /// When it is to be delivered; empty: now.
    pub schedule_time: Octets<16>,
    /// [`REPORT_ALWAYS`](crate::wire::sgip::REPORT_ALWAYS).
    pub report_flag: u8,
    /// 0.
    pub tp_pid: u8,
    /// 1: the content starts with a user data header.
    pub tp_udhi: u8,
    /// The alphabet; see [`msg_fmt`](crate::wire::sgip::msg_fmt).
    pub message_coding: u8,
    /// 0: a text.
    pub message_type: u8,
    /// The octets.
    pub content: Bytes,
}

impl fmt::Debug for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a verification code.
        write!(f, "Submit(MessageCoding {}, {} octets)", self.message_coding, self.content.len())
    }
}

impl Submit {
    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let (sp_number, charge_number) = (Octets::read("SPNumber", body)?, Octets::read("ChargeNumber", body)?);
        let count = octet("UserCount", body)?;
        let user_numbers = (0..count).map(|_| Octets::read("UserNumber", body)).collect::<Result<_, _>>()?;
        let submit = Self {
            sp_number,
            charge_number,
            user_numbers,
            corp_id: Octets::read("CorpId", body)?,
            service_type: Octets::read("ServiceType", body)?,
            fee_type: octet("FeeType", body)?,
            fee_value: Octets::read("FeeValue", body)?,
            given_value: Octets::read("GivenValue", body)?,
            agent_flag: octet("AgentFlag", body)?,
            mo_relate_to_mt_flag: octet("MorelatetoMTFlag", body)?,
            priority: octet("Priority", body)?,
            expire_time: Octets::read("ExpireTime", body)?,
            schedule_time: Octets::read("ScheduleTime", body)?,
            report_flag: octet("ReportFlag", body)?,
            tp_pid: octet("TP_pid", body)?,
            tp_udhi: octet("TP_udhi", body)?,
            message_coding: octet("MessageCoding", body)?,
            message_type: octet("MessageType", body)?,
            content: content(body)?,
        };
        Reserve::read("Reserve", body)?;
        Ok(submit)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        self.sp_number.put(out);
        self.charge_number.put(out);
        let count = u8::try_from(self.user_numbers.len()).unwrap_or(u8::MAX);
        out.put_u8(count);
        self.user_numbers.iter().take(usize::from(count)).for_each(|number| number.put(out));
        self.corp_id.put(out);
        self.service_type.put(out);
        out.put_u8(self.fee_type);
        self.fee_value.put(out);
        self.given_value.put(out);
        out.put_slice(&[self.agent_flag, self.mo_relate_to_mt_flag, self.priority]);
        self.expire_time.put(out);
        self.schedule_time.put(out);
        out.put_slice(&[self.report_flag, self.tp_pid, self.tp_udhi, self.message_coding, self.message_type]);
        put_content(&self.content, out);
        Reserve::default().put(out);
    }
}

/// DELIVER: a message from a handset.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Deliver {
    /// From whom.
    pub user_number: Octets<21>,
    /// The SP's access number.
    pub sp_number: Octets<21>,
    /// 0.
    pub tp_pid: u8,
    /// 1: the content starts with a user data header.
    pub tp_udhi: u8,
    /// The alphabet.
    pub message_coding: u8,
    /// The octets.
    pub content: Bytes,
}

impl fmt::Debug for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deliver(MessageCoding {}, {} octets)", self.message_coding, self.content.len())
    }
}

impl Deliver {
    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let deliver = Self {
            user_number: Octets::read("UserNumber", body)?,
            sp_number: Octets::read("SPNumber", body)?,
            tp_pid: octet("TP_pid", body)?,
            tp_udhi: octet("TP_udhi", body)?,
            message_coding: octet("MessageCoding", body)?,
            content: content(body)?,
        };
        Reserve::read("Reserve", body)?;
        Ok(deliver)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        self.user_number.put(out);
        self.sp_number.put(out);
        out.put_slice(&[self.tp_pid, self.tp_udhi, self.message_coding]);
        put_content(&self.content, out);
        Reserve::default().put(out);
    }
}

/// REPORT: what became of a SUBMIT.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// What it is about.
    pub submit_sequence: Sequence,
    /// 0: of a SUBMIT.
    pub report_type: u8,
    /// To whom it went.
    pub user_number: Octets<21>,
    /// 0 delivered, 1 waiting, 2 failed.
    pub state: u8,
    /// Why it failed: see [`error_name`](crate::wire::sgip::result::error_name).
    pub error_code: u8,
}

impl Report {
    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let report = Self {
            submit_sequence: Sequence::read("SubmitSequenceNumber", body)?,
            report_type: octet("ReportType", body)?,
            user_number: Octets::read("UserNumber", body)?,
            state: octet("State", body)?,
            error_code: octet("ErrorCode", body)?,
        };
        Reserve::read("Reserve", body)?;
        Ok(report)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        self.submit_sequence.put(out);
        out.put_u8(self.report_type);
        self.user_number.put(out);
        out.put_slice(&[self.state, self.error_code]);
        Reserve::default().put(out);
    }
}
