//! Optional parameters (P34 section 5.3): tag, length, value. Unknown ones are kept and ignored, as section 3.3.3 asks.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::FieldError;

/// `receipted_message_id`.
pub const RECEIPTED_MESSAGE_ID: u16 = 0x001E;
/// `message_payload`: a message too long for `short_message`.
pub const MESSAGE_PAYLOAD: u16 = 0x0424;
/// `message_state`.
pub const MESSAGE_STATE: u16 = 0x0427;
/// `sc_interface_version`.
pub const SC_INTERFACE_VERSION: u16 = 0x0210;

/// Most optional parameters of one PDU; the standard knows some forty.
const TLVS_MAX: usize = 64;

/// One optional parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tlv {
    /// Which one.
    pub tag: u16,
    /// Its value, at most 65,535 octets.
    pub value: Bytes,
}

impl Tlv {
    /// A parameter from its octets.
    pub fn new(tag: u16, value: impl Into<Bytes>) -> Self {
        Self { tag, value: value.into() }
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        let value = &self.value[..self.value.len().min(usize::from(u16::MAX))];
        out.put_u16(self.tag);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        out.put_slice(value);
    }
}

/// Reads all that is left of a body.
pub(super) fn read_all(body: &mut Bytes) -> Result<Vec<Tlv>, FieldError> {
    let mut tlvs = Vec::new();
    while body.has_remaining() {
        let fault = FieldError { field: "optional parameters" };
        if body.len() < 4 || tlvs.len() == TLVS_MAX {
            return Err(fault);
        }
        let (tag, length) = (body.get_u16(), usize::from(body.get_u16()));
        if body.len() < length {
            return Err(fault);
        }
        tlvs.push(Tlv { tag, value: body.split_to(length) });
    }
    Ok(tlvs)
}
