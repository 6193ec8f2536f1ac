//! What handsets answer to texts, in the octets of its parts.

use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

/// After a text to this number, its handset sends that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The number, digits only.
    pub number: String,
    /// The words, at most 67 times 255 characters.
    pub text: String,
}

impl FromStr for Reply {
    type Err = &'static str;

    /// `+8613800138000=TD`
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RIGHT: &str = "expected a number and a text, as in +8613800138000=TD";
        let (number, text) = text.split_once('=').ok_or(RIGHT)?;
        let number = number.trim_start_matches('+');
        let good = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
        let short = text.encode_utf16().count() <= UNITS_PER_PART * usize::from(u8::MAX);
        if good && short { Ok(Self { number: number.to_owned(), text: text.to_owned() }) } else { Err(RIGHT) }
    }
}

/// One part of what a handset sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ReplyPart {
    /// 0 or 8, which mean ASCII's letters and digits, and UCS-2, in every protocol.
    pub(super) coding: u8,
    pub(super) udhi: bool,
    pub(super) octets: Bytes,
}

/// Units of UTF-16 in a message that is whole, and in one of several parts.
const UNITS_WHOLE: usize = 70;
const UNITS_PER_PART: usize = 67;

impl Reply {
    /// Its parts, under this reference.
    pub(super) fn parts(&self, reference: u8) -> Vec<ReplyPart> {
        let plain = self.text.len() <= 140 && self.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ');
        if plain {
            return vec![ReplyPart { coding: 0, udhi: false, octets: self.text.clone().into() }];
        }
        let units: Vec<u16> = self.text.encode_utf16().collect();
        let udhi = units.len() > UNITS_WHOLE;
        // Handsets cut where they like, also in the middle of a surrogate pair.
        let cut: Vec<_> = units.chunks(if udhi { UNITS_PER_PART } else { UNITS_WHOLE }).collect();
        let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let parts = cut.iter().enumerate().map(|(i, units)| {
            let mut octets = BytesMut::new();
            if udhi {
                octets.put_slice(&[5, 0, 3, reference, count(cut.len()), count(i + 1)]);
            }
            units.iter().for_each(|&unit| octets.put_u16(unit));
            ReplyPart { coding: 8, udhi, octets: octets.freeze() }
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_written_as_a_number_and_a_text() {
        let reply: Reply = "+8613800138000=T=D".parse().unwrap();
        assert_eq!((reply.number.as_str(), reply.text.as_str()), ("8613800138000", "T=D"));
        for bad in ["", "+8613800138000", "+8613800138000=", "=TD", "lin=TD"] {
            assert!(bad.parse::<Reply>().is_err(), "{bad}");
        }
    }

    #[test]
    fn long_replies_are_cut_wherever_it_happens_to_be() {
        let parts = |text: &str| Reply { number: String::new(), text: text.to_owned() }.parts(7);
        assert_eq!(parts("TD"), [ReplyPart { coding: 0, udhi: false, octets: "TD".into() }]);
        assert_eq!(parts("退订")[0].octets[..], [0x90, 0x00, 0x8B, 0xA2]);
        let long = parts(&format!("a{}", "😀".repeat(40)));
        assert_eq!(long.len(), 2);
        assert_eq!(long[1].octets[..8], [5, 0, 3, 7, 2, 2, 0xD8, 0x3D]);
        assert_eq!((long[0].octets.len(), long[0].coding, long[0].udhi), (6 + 134, 8, true));
    }
}
