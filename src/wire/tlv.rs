//! Optional parameters, as SMPP (P34 section 5.3) and SMGP have them: tag, length, value. Unknown ones are kept; whoever reads
//! a PDU ignores them, as P34 section 3.3.3 asks.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::FieldError;

/// Most optional parameters of one PDU; SMPP knows some forty.
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
