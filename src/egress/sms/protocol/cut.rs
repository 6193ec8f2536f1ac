//! From a text to the octets of its parts, in the alphabets of CMPP, SMGP and SGIP: ASCII where that holds every character and the
//! handset shows it unchanged, GBK where the gateway wants it and it holds them all, UCS-2 otherwise. There is no GSM alphabet: `é` makes a text UCS-2.
//!
//! **Promises.** No character is lost, no surrogate pair cut. A part of ASCII has as many octets as its [`AsciiRooms`] say, one of
//! UCS-2 140, header included; one of GBK as many characters as one of UCS-2, which the handset is sent, and no character of it is cut.

use bytes::{BufMut, Bytes, BytesMut};

use super::Cut;
use crate::model::SmsText;
use crate::sms::gsm7::{self, Septets};
use crate::sms::{gbk_of, is_gbk};
use crate::wire::gateway::msg_fmt;

/// Characters of ASCII that a text has room for where it is whole, and in each of several parts. The message centre makes GSM of
/// them, where brackets and the like count as two.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsciiRooms {
    pub(super) whole: usize,
    pub(super) part: usize,
}

/// How a text's characters travel.
struct Alphabet {
    coding: u8,
    /// Units of a text that is whole, and of each of several parts.
    rooms: (usize, usize),
    units: fn(char) -> usize,
    put: fn(char, &mut BytesMut),
}

/// Units are septets.
const fn ascii(rooms: AsciiRooms) -> Alphabet {
    Alphabet {
        coding: msg_fmt::ASCII,
        rooms: (rooms.whole, rooms.part),
        units: |c| if matches!(gsm7::encode(c), Some(Septets::Escaped(_))) { 2 } else { 1 },
        put: |c, out| out.put_u8(u8::try_from(c).unwrap_or(b'?')),
    }
}

const UCS2: Alphabet = Alphabet {
    coding: msg_fmt::UCS2,
    rooms: (70, 67),
    units: char::len_utf16,
    put: |c, out| c.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| out.put_u16(unit)),
};

const GBK: Alphabet = Alphabet {
    coding: msg_fmt::GBK,
    rooms: UCS2.rooms,
    units: |_| 1,
    put: |c, out| gbk_of(c).into_iter().for_each(|(octets, count)| out.put_slice(&octets[..count])),
};

/// Takes a text apart; with `gbk` in GBK, where it would be UCS-2 and that holds it; `reference` is the same in all its parts.
pub(super) fn cut(text: &SmsText, reference: u8, rooms: AsciiRooms, gbk: bool) -> Cut {
    let text = text.as_str();
    let is_ascii = text.chars().all(|c| c.is_ascii() && gsm7::encode(c).is_some());
    let alphabet = match is_ascii {
        true => ascii(rooms),
        false if gbk && is_gbk(text) => GBK,
        false => UCS2,
    };
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
    Cut { coding: alphabet.coding, udhi, reference: None, on_air: 1, parts: parts.collect() }
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

    const CMPP: AsciiRooms = AsciiRooms { whole: 159, part: 153 };
    const SMGP: AsciiRooms = AsciiRooms { whole: 140, part: 134 };

    fn made(text: &str) -> Cut {
        cut(&SmsText::new(text).unwrap(), 9, CMPP, false)
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

    #[test]
    fn ascii_takes_the_room_that_it_is_given() {
        let made = |content: String| cut(&SmsText::new(&content).unwrap(), 9, SMGP, false);
        let lengths = |content| made(content).parts.iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(lengths("a".repeat(140)), [140]);
        assert_eq!(lengths("a".repeat(141)), [140, 13]);
        assert_eq!(lengths("[".repeat(70)), [70]);
        assert_eq!(lengths("[".repeat(71)), [73, 10], "67 in a part, behind the header");
        assert_eq!(lengths("中".repeat(70)), [140]);
    }

    #[test]
    fn a_gateway_that_wants_gbk_has_it_where_it_holds_the_text() {
        let made = |content: &str| cut(&SmsText::new(content).unwrap(), 9, CMPP, true);
        assert_eq!((made("TD").coding, made("订单😀").coding, made("订单").coding), (0, 8, 15));
        assert_eq!(made("T退").parts[..], [Bytes::from_static(&[b'T', 0xCD, 0xCB])]);
        let lengths = |content: String| made(&content).parts.iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(lengths("好".repeat(70)), [140]);
        assert_eq!(lengths("好".repeat(71)), [140, 6 + 8]);
        assert_eq!(lengths("a好".repeat(67)), [6 + 100, 6 + 101], "as many characters as of UCS-2");
    }

    proptest! {
        #[test]
        fn parts_of_gbk_put_together_are_the_text(content in "[a-z退订好的，。【】]{1,400}|[ -~退]{1,200}") {
            let made = cut(&SmsText::new(&content).unwrap(), 9, CMPP, true);
            let mut back = String::new();
            for part in &made.parts {
                let octets = if made.udhi { split_header(part).unwrap().1 } else { &part[..] };
                let room = if made.coding == 0 { 159 } else { 140 };
                prop_assert!(part.len() <= room);
                back.push_str(&decode(if made.coding == 0 { 1 } else { made.coding }, octets));
            }
            prop_assert_eq!(back, content);
        }

        #[test]
        fn parts_put_together_are_the_text(content in "[a-zA-Z0-9 @\\[\\]^{}~|`é]{1,700}|[ -~]{1,700}|(😀|中|a){1,300}") {
          for (rooms, most) in [(CMPP, 159), (SMGP, 140)] {
            let made = cut(&SmsText::new(&content).unwrap(), 9, rooms, false);
            let mut back = String::new();
            let room = if made.coding == 0 { most } else { 140 };
            for (i, part) in made.parts.iter().enumerate() {
                prop_assert!(part.len() <= room);
                let (header, octets) = if made.udhi { split_header(part).unwrap() } else { (None, &part[..]) };
                if let Some(header) = header {
                    prop_assert_eq!((usize::from(header.number), usize::from(header.total)), (i + 1, made.parts.len()));
                }
                back.push_str(&decode(if made.coding == 0 { 1 } else { 8 }, octets));
            }
            prop_assert_eq!(&back, &content);
          }
        }
    }
}
