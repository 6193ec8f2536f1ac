//! MsgID: what a gateway calls a message, in the answer to it and in its report.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::wire::FieldError;

/// Ten octets. By the standard they are BCD: gateway 3, time 4 (`MMDDhhmm`, China's, no year), counter 3. Some gateways make
/// them otherwise, so any octets are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MsgId(pub [u8; 10]);

impl MsgId {
    /// The BCD of a number's 20 digits.
    pub fn of_number(mut number: u64) -> Self {
        let mut octets = [0; 10];
        for octet in octets.iter_mut().rev() {
            let pair = u8::try_from(number % 100).unwrap_or_default();
            *octet = ((pair / 10) << 4) | (pair % 10);
            number /= 100;
        }
        Self(octets)
    }

    /// All zeros, as in answers that are no yes.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn read(body: &mut Bytes) -> Result<Self, FieldError> {
        let mut octets = [0; 10];
        body.try_copy_to_slice(&mut octets).map_err(|_| FieldError { field: "MsgID" })?;
        Ok(Self(octets))
    }
}

/// In hex, which shows BCD as its digits. The one form under which it is kept.
impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MsgId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_that_of_the_standard() {
        // Gateway 010061, 16 January 17:00, number 12345.
        let id = MsgId(*b"\x01\x00\x61\x01\x16\x17\x00\x01\x23\x45");
        assert_eq!(id.to_string(), "01006101161700012345");
        assert_eq!(MsgId::of_number(1_006_101_161_700_012_345), id);
        assert_eq!(MsgId(*b"\0\xFF\x1A\x80\0\0\0\0\0\n").to_string(), "00ff1a8000000000000a", "octets that are no BCD");
        assert!(MsgId::default().is_none() && !id.is_none());
    }

    proptest! {
        #[test]
        fn a_number_is_shown_as_its_digits(number: u64) {
            prop_assert_eq!(MsgId::of_number(number).to_string(), format!("{number:020}"));
        }
    }
}
