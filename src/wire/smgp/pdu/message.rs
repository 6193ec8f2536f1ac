//! SUBMIT and DELIVER: fixed fields, and the optional parameters that a text of several parts needs.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{MsgId, Octets, Version};
use crate::wire::FieldError;
use crate::wire::gateway::octets::{content, octet, put_content};
use crate::wire::tlv::{self, Tlv};

const TP_UDHI: u16 = 0x0002;
const PK_TOTAL: u16 = 0x0009;
const PK_NUMBER: u16 = 0x000A;

/// Which part of a text this is: the parameters that stand behind the fixed fields. 0: not there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Parts {
    /// TP_udhi, 1: the content starts with a user data header.
    pub tp_udhi: u8,
    /// PkTotal: how many parts there are.
    pub pk_total: u8,
    /// PkNumber: which one this is, from 1.
    pub pk_number: u8,
}

impl Parts {
    fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let mut parts = Self::default();
        for Tlv { tag, value } in tlv::read_all(body)? {
            let (field, place) = match tag {
                TP_UDHI => ("TP_udhi", &mut parts.tp_udhi),
                PK_TOTAL => ("PkTotal", &mut parts.pk_total),
                PK_NUMBER => ("PkNumber", &mut parts.pk_number),
                // Who pays, pseudonyms, routes: nothing that we need.
                _ => continue,
            };
            let [octet] = value[..] else { return Err(FieldError { field }) };
            *place = octet;
        }
        Ok(parts)
    }

    fn put(self, out: &mut BytesMut) {
        for (tag, octet) in [(TP_UDHI, self.tp_udhi), (PK_TOTAL, self.pk_total), (PK_NUMBER, self.pk_number)] {
            if octet != 0 {
                Tlv::new(tag, Bytes::copy_from_slice(&[octet])).put(out);
            }
        }
    }
}

/// Octets that mean nothing.
type Reserve = Octets<8>;

/// SUBMIT.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Submit {
    /// [`MSG_TYPE_MT`](crate::wire::smgp::MSG_TYPE_MT).
    pub msg_type: u8,
    /// 1: a report is wanted.
    pub need_report: u8,
    /// 0 to 3, the highest.
    pub priority: u8,
    /// The service, as the account was set up.
    pub service_id: Octets<10>,
    /// `00` free, `01` by the message, `02` by the month, `03` by the message up to FixedFee.
    pub fee_type: Octets<2>,
    /// The fee for a message, in fen.
    pub fee_code: Octets<6>,
    /// 3.0 only: the fee for a month, or the most, in fen.
    pub fixed_fee: Octets<6>,
    /// The alphabet; see [`msg_fmt`](crate::wire::smgp::msg_fmt).
    pub msg_format: u8,
    /// Until when it may be delivered; empty: the gateway's default.
    pub valid_time: Octets<17>,
    /// When it is to be delivered; empty: now.
    pub at_time: Octets<17>,
    /// The number it shows: the SP's access number.
    pub src_term_id: Octets<21>,
    /// Who pays, where it is not the receiver.
    pub charge_term_id: Octets<21>,
    /// To whom; at most 100.
    pub destinations: Vec<Octets<21>>,
    /// The octets, at most 140.
    pub content: Bytes,
    /// Which part of a text this is.
    pub parts: Parts,
}

impl fmt::Debug for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a verification code.
        let Self { parts: Parts { pk_total, pk_number, .. }, msg_format, content, .. } = self;
        write!(f, "Submit({pk_number} of {pk_total}, MsgFormat {msg_format}, {} octets)", content.len())
    }
}

impl Submit {
    pub(super) fn read(version: Version, body: &mut Bytes) -> Result<Self, FieldError> {
        let mut submit = Self {
            msg_type: octet("MsgType", body)?,
            need_report: octet("NeedReport", body)?,
            priority: octet("Priority", body)?,
            service_id: Octets::read("ServiceID", body)?,
            fee_type: Octets::read("FeeType", body)?,
            fee_code: Octets::read("FeeCode", body)?,
            fixed_fee: match version {
                Version::V13 => Octets::default(),
                Version::V30 => Octets::read("FixedFee", body)?,
            },
            msg_format: octet("MsgFormat", body)?,
            valid_time: Octets::read("ValidTime", body)?,
            at_time: Octets::read("AtTime", body)?,
            src_term_id: Octets::read("SrcTermID", body)?,
            charge_term_id: Octets::read("ChargeTermID", body)?,
            ..Self::default()
        };
        for _ in 0..octet("DestTermIDCount", body)? {
            submit.destinations.push(Octets::read("DestTermID", body)?);
        }
        submit.content = content("MsgLength", body)?;
        Reserve::read("Reserve", body)?;
        submit.parts = Parts::read(body)?;
        Ok(submit)
    }

    pub(super) fn put(&self, version: Version, out: &mut BytesMut) {
        out.put_slice(&[self.msg_type, self.need_report, self.priority]);
        self.service_id.put(out);
        self.fee_type.put(out);
        self.fee_code.put(out);
        if version == Version::V30 {
            self.fixed_fee.put(out);
        }
        out.put_u8(self.msg_format);
        self.valid_time.put(out);
        self.at_time.put(out);
        self.src_term_id.put(out);
        self.charge_term_id.put(out);
        let count = u8::try_from(self.destinations.len()).unwrap_or(u8::MAX);
        out.put_u8(count);
        self.destinations.iter().take(usize::from(count)).for_each(|destination| destination.put(out));
        put_content(&self.content, out);
        Reserve::default().put(out);
        self.parts.put(out);
    }
}

/// DELIVER.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Deliver {
    /// The gateway's id for this DELIVER.
    pub msg_id: MsgId,
    /// 1: the content is a [`Report`](crate::wire::smgp::Report).
    pub is_report: u8,
    /// The alphabet.
    pub msg_format: u8,
    /// When it came in: `YYYYMMDDhhmmss`, China's time.
    pub recv_time: Octets<14>,
    /// From whom; in a report, to whom the text went.
    pub src_term_id: Octets<21>,
    /// The SP's access number.
    pub dest_term_id: Octets<21>,
    /// The octets.
    pub content: Bytes,
    /// Which part of a text this is.
    pub parts: Parts,
}

impl fmt::Debug for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deliver({:?}, report {}, {} octets)", self.msg_id, self.is_report, self.content.len())
    }
}

impl Deliver {
    /// True for a status report.
    pub fn is_report(&self) -> bool {
        self.is_report == 1
    }

    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let mut deliver = Self {
            msg_id: MsgId::read(body)?,
            is_report: octet("IsReport", body)?,
            msg_format: octet("MsgFormat", body)?,
            recv_time: Octets::read("RecvTime", body)?,
            src_term_id: Octets::read("SrcTermID", body)?,
            dest_term_id: Octets::read("DestTermID", body)?,
            content: content("MsgLength", body)?,
            ..Self::default()
        };
        Reserve::read("Reserve", body)?;
        deliver.parts = Parts::read(body)?;
        Ok(deliver)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.msg_id.0);
        out.put_slice(&[self.is_report, self.msg_format]);
        self.recv_time.put(out);
        self.src_term_id.put(out);
        self.dest_term_id.put(out);
        put_content(&self.content, out);
        Reserve::default().put(out);
        self.parts.put(out);
    }
}
