//! Fields of fixed width: text at the left, NULs behind it; and the others that the protocols share.
//!
//! **Promises.** A value always fits its field. Reading copies nothing and takes what stands before the first NUL.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::FieldError;

/// A field of `WIDTH` octets.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Octets<const WIDTH: usize>(Bytes);

impl<const WIDTH: usize> Octets<WIDTH> {
    /// Checks and wraps; `field` is named in the error.
    ///
    /// # Errors
    /// [`FieldError`] if it is too long or holds a NUL.
    pub fn new(field: &'static str, text: &str) -> Result<Self, FieldError> {
        if text.len() > WIDTH || text.as_bytes().contains(&0) {
            return Err(FieldError { field });
        }
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Without the NULs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True if nothing stands in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With its NULs.
    pub fn padded(&self) -> [u8; WIDTH] {
        let mut field = [0; WIDTH];
        field[..self.0.len()].copy_from_slice(&self.0);
        field
    }

    pub(in crate::wire) fn read(field: &'static str, body: &mut Bytes) -> Result<Self, FieldError> {
        Self::read_narrow(field, WIDTH, body)
    }

    /// Reads a field that is narrower in this version.
    pub(in crate::wire) fn read_narrow(
        field: &'static str,
        width: usize,
        body: &mut Bytes,
    ) -> Result<Self, FieldError> {
        if body.len() < width {
            return Err(FieldError { field });
        }
        let mut value = body.split_to(width.min(WIDTH));
        value.truncate(value.iter().position(|&octet| octet == 0).unwrap_or(value.len()));
        Ok(Self(value))
    }

    pub(in crate::wire) fn put(&self, out: &mut BytesMut) {
        self.put_narrow(WIDTH, out);
    }

    /// Writes it into a field that is narrower in this version; what has no room there is cut off.
    pub(in crate::wire) fn put_narrow(&self, width: usize, out: &mut BytesMut) {
        let value = &self.0[..self.0.len().min(width)];
        out.put_slice(value);
        out.put_bytes(0, width - value.len());
    }
}

impl<const WIDTH: usize> fmt::Display for Octets<WIDTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl<const WIDTH: usize> fmt::Debug for Octets<WIDTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

pub(in crate::wire) fn octet(field: &'static str, body: &mut Bytes) -> Result<u8, FieldError> {
    body.try_get_u8().map_err(|_| FieldError { field })
}

pub(in crate::wire) fn number(field: &'static str, body: &mut Bytes) -> Result<u32, FieldError> {
    body.try_get_u32().map_err(|_| FieldError { field })
}

/// Text behind the octet that counts its octets.
pub(in crate::wire) fn content(field: &'static str, body: &mut Bytes) -> Result<Bytes, FieldError> {
    let length = usize::from(octet(field, body)?);
    if body.len() < length {
        return Err(FieldError { field });
    }
    Ok(body.split_to(length))
}

pub(in crate::wire) fn put_content(content: &Bytes, out: &mut BytesMut) {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    out.put_u8(length);
    out.put_slice(&content[..usize::from(length)]);
}
