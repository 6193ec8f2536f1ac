//! The body of `submit_sm`, `data_sm` and `deliver_sm`: one type, of which `data_sm` (P34 section 4.7) writes fewer fields.
//!
//! **Promises.** Of a `data_sm` the fields that it has not are as if they had been left out of a `submit_sm`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Address, COctets, address, octet};
use crate::wire::FieldError;
use crate::wire::smpp::{esm_class, tlv};
use crate::wire::tlv::{Tlv, read_all};

/// Longest `short_message` (P34 section 5.2.21).
pub(super) const SHORT_MESSAGE_BYTES_MAX: usize = 254;

/// The body that `submit_sm`, `data_sm` and `deliver_sm` share.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ShortMessage {
    /// Which service, if the carrier distinguishes.
    pub service_type: COctets<6>,
    /// From whom.
    pub source: Address,
    /// To whom.
    pub destination: Address,
    /// Mode, type and features; see [`esm_class`].
    pub esm_class: u8,
    /// 0.
    pub protocol_id: u8,
    /// 0 to 3.
    pub priority_flag: u8,
    /// Empty: now.
    pub schedule_delivery_time: COctets<17>,
    /// Until when it may be delivered; empty: the carrier's default.
    pub validity_period: COctets<17>,
    /// 1: a receipt is wanted.
    pub registered_delivery: u8,
    /// 0.
    pub replace_if_present: u8,
    /// The alphabet.
    pub data_coding: u8,
    /// 0.
    pub sm_default_msg_id: u8,
    /// The octets; what is longer than 254 travels as `message_payload`.
    pub short_message: Bytes,
    /// Optional parameters.
    pub tlvs: Vec<Tlv>,
}

/// A message's place among those that are one text (P34 sections 5.3.2.22 to 24).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// What they share.
    pub reference: u16,
    /// How many there are; never 0.
    pub total: u8,
    /// Which one it is, from 1; never above `total`.
    pub number: u8,
}

impl fmt::Debug for ShortMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a verification code.
        write!(f, "ShortMessage(esm_class {:#04x}, {} octets)", self.esm_class, self.short_message.len())
    }
}

impl ShortMessage {
    /// The value of an optional parameter.
    pub fn tlv(&self, tag: u16) -> Option<&[u8]> {
        self.tlvs.iter().find(|tlv| tlv.tag == tag).map(|tlv| &tlv.value[..])
    }

    /// The octets, wherever they travelled.
    pub fn octets(&self) -> &[u8] {
        if self.short_message.is_empty() {
            self.tlv(tlv::MESSAGE_PAYLOAD).unwrap_or_default()
        } else {
            &self.short_message
        }
    }

    /// Its place among those that are one text, where that stands in optional parameters and makes sense.
    pub fn segment(&self) -> Option<Segment> {
        let &[high, low] = self.tlv(tlv::SAR_MSG_REF_NUM)? else { return None };
        let (&[total], &[number]) = (self.tlv(tlv::SAR_TOTAL_SEGMENTS)?, self.tlv(tlv::SAR_SEGMENT_SEQNUM)?) else {
            return None;
        };
        let reference = u16::from_be_bytes([high, low]);
        (1..=total).contains(&number).then_some(Segment { reference, total, number })
    }

    /// True for a delivery receipt or an intermediate notification.
    pub fn is_receipt(&self) -> bool {
        matches!(self.esm_class & esm_class::TYPE, esm_class::RECEIPT | esm_class::INTERMEDIATE)
    }

    pub(super) fn read(mut body: Bytes) -> Result<Self, FieldError> {
        let body = &mut body;
        let mut message = Self {
            service_type: COctets::read("service_type", body)?,
            source: address("source_addr", body)?,
            destination: address("destination_addr", body)?,
            esm_class: octet("esm_class", body)?,
            protocol_id: octet("protocol_id", body)?,
            priority_flag: octet("priority_flag", body)?,
            schedule_delivery_time: COctets::read("schedule_delivery_time", body)?,
            validity_period: COctets::read("validity_period", body)?,
            registered_delivery: octet("registered_delivery", body)?,
            replace_if_present: octet("replace_if_present_flag", body)?,
            data_coding: octet("data_coding", body)?,
            sm_default_msg_id: octet("sm_default_msg_id", body)?,
            ..Self::default()
        };
        let length = usize::from(octet("sm_length", body)?);
        if body.len() < length {
            return Err(FieldError { field: "sm_length" });
        }
        message.short_message = body.split_to(length);
        message.tlvs = read_all(body)?;
        Ok(message)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        self.put_parties(out);
        out.put_slice(&[self.esm_class, self.protocol_id, self.priority_flag]);
        self.schedule_delivery_time.put(out);
        self.validity_period.put(out);
        out.put_slice(&[self.registered_delivery, self.replace_if_present, self.data_coding, self.sm_default_msg_id]);
        match u8::try_from(self.short_message.len()) {
            Ok(length) if usize::from(length) <= SHORT_MESSAGE_BYTES_MAX => {
                out.put_u8(length);
                out.put_slice(&self.short_message);
            }
            // P34 section 5.3.2.32: sm_length must then be 0.
            _ => {
                out.put_u8(0);
                Tlv::new(tlv::MESSAGE_PAYLOAD, self.short_message.clone()).put(out);
            }
        }
        self.tlvs.iter().for_each(|tlv| tlv.put(out));
    }

    /// As `data_sm` has it. Its addresses may have 65 octets; those of more than 20 characters are none that we know.
    pub(super) fn read_data(mut body: Bytes) -> Result<Self, FieldError> {
        let body = &mut body;
        Ok(Self {
            service_type: COctets::read("service_type", body)?,
            source: address("source_addr", body)?,
            destination: address("destination_addr", body)?,
            esm_class: octet("esm_class", body)?,
            registered_delivery: octet("registered_delivery", body)?,
            data_coding: octet("data_coding", body)?,
            tlvs: read_all(body)?,
            ..Self::default()
        })
    }

    /// As `data_sm` has it; what is in `short_message` travels as `message_payload`.
    pub(super) fn put_data(&self, out: &mut BytesMut) {
        self.put_parties(out);
        out.put_slice(&[self.esm_class, self.registered_delivery, self.data_coding]);
        if !self.short_message.is_empty() {
            Tlv::new(tlv::MESSAGE_PAYLOAD, self.short_message.clone()).put(out);
        }
        self.tlvs.iter().for_each(|tlv| tlv.put(out));
    }

    fn put_parties(&self, out: &mut BytesMut) {
        self.service_type.put(out);
        self.source.put(out);
        self.destination.put(out);
    }
}
