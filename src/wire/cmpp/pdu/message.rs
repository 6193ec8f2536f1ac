//! SUBMIT and DELIVER: the two bodies whose layout the versions do not share (C3 sections 8.4.3.1 and 8.4.5.1).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{MsgId, Octets, Version};
use crate::wire::FieldError;
use crate::wire::gateway::octets::{content, octet, put_content};

/// SUBMIT.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Submit {
    /// How many parts the text has; 1 for one that is whole.
    pub pk_total: u8,
    /// Which part this is, from 1.
    pub pk_number: u8,
    /// 1: a report is wanted.
    pub registered_delivery: u8,
    /// Priority; 0.
    pub msg_level: u8,
    /// The service, as the account was set up.
    pub service_id: Octets<10>,
    /// Who pays: 0 the destination, 1 the source, 2 the SP, 3 Fee_terminal_Id.
    pub fee_user_type: u8,
    /// Who pays, where Fee_UserType is 3; 21 octets in 2.0.
    pub fee_terminal_id: Octets<32>,
    /// 3.0 only: 0 a real number, 1 a pseudonym.
    pub fee_terminal_type: u8,
    /// 0.
    pub tp_pid: u8,
    /// 1: the content starts with a user data header.
    pub tp_udhi: u8,
    /// The alphabet; see [`msg_fmt`](crate::wire::cmpp::msg_fmt).
    pub msg_fmt: u8,
    /// Whose content it is: the SP_Id.
    pub msg_src: Octets<6>,
    /// 01 free, 02 by the message, 03 by the month.
    pub fee_type: Octets<2>,
    /// The fee, in fen.
    pub fee_code: Octets<6>,
    /// Until when it may be delivered; empty: the gateway's default.
    pub valid_time: Octets<17>,
    /// When it is to be delivered; empty: now.
    pub at_time: Octets<17>,
    /// The number it shows: the SP's access number.
    pub src_id: Octets<21>,
    /// To whom; 21 octets each in 2.0. At most 99.
    pub destinations: Vec<Octets<32>>,
    /// 3.0 only: 0 real numbers, 1 pseudonyms.
    pub dest_terminal_type: u8,
    /// The octets, at most 159 of ASCII and 140 of anything else.
    pub content: Bytes,
    /// What joins it to an order of the subscriber's; in 2.0 eight reserved octets.
    pub link_id: Octets<20>,
}

impl fmt::Debug for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a verification code.
        let Self { pk_total, pk_number, msg_fmt, content, .. } = self;
        write!(f, "Submit({pk_number} of {pk_total}, Msg_Fmt {msg_fmt}, {} octets)", content.len())
    }
}

/// DELIVER.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Deliver {
    /// The gateway's id for this DELIVER.
    pub msg_id: MsgId,
    /// The SP's access number.
    pub dest_id: Octets<21>,
    /// The service.
    pub service_id: Octets<10>,
    /// 0.
    pub tp_pid: u8,
    /// 1: the content starts with a user data header.
    pub tp_udhi: u8,
    /// The alphabet.
    pub msg_fmt: u8,
    /// From whom; in a report, to whom the text went. 21 octets in 2.0.
    pub src_terminal_id: Octets<32>,
    /// 3.0 only: 0 a real number, 1 a pseudonym.
    pub src_terminal_type: u8,
    /// 1: the content is a [`Report`](crate::wire::cmpp::Report).
    pub registered_delivery: u8,
    /// The octets.
    pub content: Bytes,
    /// As in [`Submit`].
    pub link_id: Octets<20>,
}

impl fmt::Debug for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deliver({:?}, report {}, {} octets)", self.msg_id, self.registered_delivery, self.content.len())
    }
}

/// Octets of a number of a subscriber.
const fn terminal_width(version: Version) -> usize {
    match version {
        Version::V2 => 21,
        Version::V3 => 32,
    }
}

/// Octets of Reserve or LinkID.
const fn link_width(version: Version) -> usize {
    match version {
        Version::V2 => 8,
        Version::V3 => 20,
    }
}

/// An octet that 2.0 does not have.
fn octet_of_3(field: &'static str, version: Version, body: &mut Bytes) -> Result<u8, FieldError> {
    match version {
        Version::V2 => Ok(0),
        Version::V3 => octet(field, body),
    }
}

fn put_octet_of_3(value: u8, version: Version, out: &mut BytesMut) {
    if version == Version::V3 {
        out.put_u8(value);
    }
}

impl Submit {
    pub(super) fn read(version: Version, body: &mut Bytes) -> Result<Self, FieldError> {
        let terminal = |field, body: &mut Bytes| Octets::read_narrow(field, terminal_width(version), body);
        MsgId::read(body)?;
        let mut submit = Self {
            pk_total: octet("Pk_total", body)?,
            pk_number: octet("Pk_number", body)?,
            registered_delivery: octet("Registered_Delivery", body)?,
            msg_level: octet("Msg_level", body)?,
            service_id: Octets::read("Service_Id", body)?,
            fee_user_type: octet("Fee_UserType", body)?,
            fee_terminal_id: terminal("Fee_terminal_Id", body)?,
            fee_terminal_type: octet_of_3("Fee_terminal_type", version, body)?,
            tp_pid: octet("TP_pId", body)?,
            tp_udhi: octet("TP_udhi", body)?,
            msg_fmt: octet("Msg_Fmt", body)?,
            msg_src: Octets::read("Msg_src", body)?,
            fee_type: Octets::read("FeeType", body)?,
            fee_code: Octets::read("FeeCode", body)?,
            valid_time: Octets::read("ValId_Time", body)?,
            at_time: Octets::read("At_Time", body)?,
            src_id: Octets::read("Src_Id", body)?,
            ..Self::default()
        };
        for _ in 0..octet("DestUsr_tl", body)? {
            submit.destinations.push(terminal("Dest_terminal_Id", body)?);
        }
        submit.dest_terminal_type = octet_of_3("Dest_terminal_type", version, body)?;
        submit.content = content("Msg_Length", body)?;
        submit.link_id = Octets::read_narrow("LinkID", link_width(version), body)?;
        Ok(submit)
    }

    pub(super) fn put(&self, version: Version, out: &mut BytesMut) {
        // Msg_Id is the gateway's to give.
        out.put_u64(0);
        out.put_slice(&[self.pk_total, self.pk_number, self.registered_delivery, self.msg_level]);
        self.service_id.put(out);
        out.put_u8(self.fee_user_type);
        self.fee_terminal_id.put_narrow(terminal_width(version), out);
        put_octet_of_3(self.fee_terminal_type, version, out);
        out.put_slice(&[self.tp_pid, self.tp_udhi, self.msg_fmt]);
        self.msg_src.put(out);
        self.fee_type.put(out);
        self.fee_code.put(out);
        self.valid_time.put(out);
        self.at_time.put(out);
        self.src_id.put(out);
        let count = u8::try_from(self.destinations.len()).unwrap_or(u8::MAX);
        out.put_u8(count);
        for destination in self.destinations.iter().take(usize::from(count)) {
            destination.put_narrow(terminal_width(version), out);
        }
        put_octet_of_3(self.dest_terminal_type, version, out);
        put_content(&self.content, out);
        self.link_id.put_narrow(link_width(version), out);
    }
}

impl Deliver {
    /// True for a status report.
    pub fn is_report(&self) -> bool {
        self.registered_delivery == 1
    }

    pub(super) fn read(version: Version, body: &mut Bytes) -> Result<Self, FieldError> {
        Ok(Self {
            msg_id: MsgId::read(body)?,
            dest_id: Octets::read("Dest_Id", body)?,
            service_id: Octets::read("Service_Id", body)?,
            tp_pid: octet("TP_pid", body)?,
            tp_udhi: octet("TP_udhi", body)?,
            msg_fmt: octet("Msg_Fmt", body)?,
            src_terminal_id: Octets::read_narrow("Src_terminal_Id", terminal_width(version), body)?,
            src_terminal_type: octet_of_3("Src_terminal_type", version, body)?,
            registered_delivery: octet("Registered_Delivery", body)?,
            content: content("Msg_Length", body)?,
            link_id: Octets::read_narrow("LinkID", link_width(version), body)?,
        })
    }

    pub(super) fn put(&self, version: Version, out: &mut BytesMut) {
        out.put_u64(self.msg_id.0);
        self.dest_id.put(out);
        self.service_id.put(out);
        out.put_slice(&[self.tp_pid, self.tp_udhi, self.msg_fmt]);
        self.src_terminal_id.put_narrow(terminal_width(version), out);
        put_octet_of_3(self.src_terminal_type, version, out);
        out.put_u8(self.registered_delivery);
        put_content(&self.content, out);
        self.link_id.put_narrow(link_width(version), out);
    }
}
