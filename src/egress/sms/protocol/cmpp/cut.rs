//! From a text to the octets of its parts, in CMPP's alphabets: ASCII where that holds every character and the handset shows
//! it unchanged, UCS-2 otherwise. There is no GSM alphabet: `é` makes a text UCS-2.
//!
//! **Promises.** No character is lost, no surrogate pair cut. A part of ASCII has at most 159 octets, one of UCS-2 140 (C3
//! section 8.4.3.1), header included.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::Cut;
use crate::model::SmsText;
use crate::sms::gsm7::{self, Septets};
use crate::wire::cmpp::msg_fmt;

/// How a text's characters travel.
struct Alphabet {
    coding: u8,
    /// Units of a text that is whole, and of each of several parts.
    rooms: (usize, usize),
    units: fn(char) -> usize,
    put: fn(char, &mut BytesMut),
}

/// Units are septets: the message centre makes GSM of it, where brackets and the like take two.
const ASCII: Alphabet = Alphabet {
    coding: msg_fmt::ASCII,
    rooms: (159, 153),
    units: |c| if matches!(gsm7::encode(c), Some(Septets::Escaped(_))) { 2 } else { 1 },
    put: |c, out| out.put_u8(u8::try_from(c).unwrap_or(b'?')),
};

const UCS2: Alphabet = Alphabet {
    coding: msg_fmt::UCS2,
    rooms: (70, 67),
    units: char::len_utf16,
    put: |c, out| c.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| out.put_u16(unit)),
};

/// Takes a text apart; `reference` is the same in all its parts.
pub(in crate::egress::sms) fn cut(text: &SmsText, reference: u8) -> Cut {
    let text = text.as_str();
    let ascii = text.chars().all(|c| c.is_ascii() && gsm7::encode(c).is_some());
    let alphabet = if ascii { ASCII } else { UCS2 };
    let units: usize = text.chars().map(alphabet.units).sum();
    let udhi = units > alphabet.rooms.0;
    let contents = if udhi { contents(text, &alphabet, alphabet.rooms.1) } else { contents(text, &alphabet, units) };
    // 2,000 characters make 61 parts at most.
    let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let total = count(contents.len());
    let parts = contents.into_iter().enumerate().map(|(i, content)| {
        let mut part = BytesMut::with_capacity(content.len() + 6);
        if udhi {
            part.put_slice(&[5, 0, 3, reference, total, count(i + 1)]);
        }
        part.put_slice(&content);
        part.freeze()
    });
    Cut { coding: alphabet.coding, udhi, parts: parts.collect() }
}

/// The octets of as many parts as it takes, of at most `room` units each.
fn contents(text: &str, alphabet: &Alphabet, room: usize) -> Vec<Bytes> {
    let (mut contents, mut content, mut used) = (Vec::new(), BytesMut::new(), 0);
    for c in text.chars() {
        let units = (alphabet.units)(c);
        if used + units > room {
            contents.push(content.split().freeze());
            used = 0;
        }
        used += units;
        (alphabet.put)(c, &mut content);
    }
    contents.push(content.freeze());
    contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::{decode, split_header};
    use proptest::prelude::*;

    fn made(text: &str) -> Cut {
        cut(&SmsText::new(text).unwrap(), 9)
    }

    #[test]
    fn capacities_at_their_limits() {
        for (content, coding, count) in [
            ("a".repeat(159), 0, 1),
            ("a".repeat(160), 0, 2),
            ("a".repeat(306), 0, 2),
            ("a".repeat(307), 0, 3),
            ("[".repeat(79), 0, 1),
            ("[".repeat(80), 0, 2),
            // In the GSM alphabet but not in ASCII; in ASCII but not in the GSM alphabet.
            ("é".repeat(70), 8, 1),
            ("`".repeat(71), 8, 2),
            ("中".repeat(70), 8, 1),
            ("中".repeat(71), 8, 2),
            ("中".repeat(135), 8, 3),
            ("😀".repeat(35), 8, 1),
            ("😀".repeat(67), 8, 3),
            ("😀".repeat(2_000), 8, 61),
        ] {
            let made = made(&content);
            assert_eq!((made.coding, made.parts.len(), made.udhi), (coding, count, count > 1), "{content:.1}");
        }
        assert_eq!(made("a@_$").parts, [Bytes::from_static(b"a@_$")], "octets are ASCII's, not GSM's");
        let two = made(&format!("【商店】{}", "好".repeat(67)));
        assert_eq!((&two.parts[0][..6], &two.parts[1][..6]), (&[5, 0, 3, 9, 2, 1][..], &[5, 0, 3, 9, 2, 2][..]));
        assert_eq!((two.parts[0].len(), two.parts[1].len()), (140, 14));
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_text(content in "[a-zA-Z0-9 @\\[\\]^{}~|`é]{1,700}|[ -~]{1,700}|(😀|中|a){1,300}") {
            let made = made(&content);
            let mut back = String::new();
            let room = if made.coding == 0 { 159 } else { 140 };
            for (i, part) in made.parts.iter().enumerate() {
                prop_assert!(part.len() <= room);
                let (header, octets) = if made.udhi { split_header(part).unwrap() } else { (None, &part[..]) };
                if let Some(header) = header {
                    prop_assert_eq!((usize::from(header.number), usize::from(header.total)), (i + 1, made.parts.len()));
                }
                back.push_str(&decode(if made.coding == 0 { 1 } else { 8 }, octets));
            }
            prop_assert_eq!(back, content);
        }
    }
}
