//! From received octets back to words: user data headers and data codings.
//!
//! Everything here comes from a peer: no input panics, and what cannot be shown becomes U+FFFD.

use super::gsm7;
use super::national::Shift;
use super::words::gbk_lossy;

/// Which part of which text (3GPP TS 23.040 sections 9.2.3.24.1 and 9.2.3.24.8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Concatenation {
    /// Shared by the parts of a text.
    pub reference: u16,
    /// How many parts there are; never 0.
    pub total: u8,
    /// 1 for the first; never above `total`.
    pub number: u8,
}

/// Splits user data that starts with a header into its concatenation element, if there is one, and the content.
///
/// `None` if the header is longer than the data or an element is longer than the header.
pub fn split_header(user_data: &[u8]) -> Option<(Option<Concatenation>, &[u8])> {
    let (&length, rest) = user_data.split_first()?;
    let (mut header, content) = rest.split_at_checked(usize::from(length))?;
    let mut found = None;
    while let [id, length, rest @ ..] = header {
        let (element, next) = rest.split_at_checked(usize::from(*length))?;
        let (reference, total, number) = match (id, element) {
            (0x00, &[reference, total, number]) => (u16::from(reference), total, number),
            (0x08, &[high, low, total, number]) => (u16::from_be_bytes([high, low]), total, number),
            _ => {
                header = next;
                continue;
            }
        };
        // Values that make no sense leave the part on its own, as the standard asks.
        if (1..=total).contains(&number) {
            found = Some(Concatenation { reference, total, number });
        }
        header = next;
    }
    Some((found, content))
}

/// The words of a part by its `data_coding`: 8 is UTF-16BE, 1 is ASCII, 3 is Latin-1, 15, with gateways, is GBK, all others are
/// read as GSM-7.
pub fn decode(data_coding: u8, octets: &[u8]) -> String {
    match data_coding {
        8 => {
            let units = octets.chunks(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0xFFFD,
            });
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        1 => String::from_utf8_lossy(octets).into_owned(),
        3 => octets.iter().map(|&octet| char::from(octet)).collect(),
        15 => gbk_lossy(octets),
        _ => gsm7::decode(octets),
    }
}

/// The words of a part, whose header, if it has one, may name a language's tables.
pub fn decode_part(data_coding: u8, has_header: bool, user_data: &[u8]) -> String {
    let split = if has_header { split_header(user_data) } else { None };
    let (_, content) = split.unwrap_or((None, user_data));
    match Shift::of_header(user_data).filter(|_| has_header && data_coding == 0) {
        Some(shift) => shift.decode(content),
        None => decode(data_coding, content),
    }
}

/// True if a user data header holds nothing but concatenation: other elements are ports, languages, objects, which are no text
/// or change what its octets mean.
pub fn is_only_concatenation(user_data: &[u8]) -> bool {
    let Some((&length, rest)) = user_data.split_first() else { return false };
    let Some(mut header) = rest.get(..usize::from(length)) else { return false };
    while let [id, length, rest @ ..] = header {
        let (0x00 | 0x08, Some(next)) = (id, rest.get(usize::from(*length)..)) else { return false };
        header = next;
    }
    header.is_empty()
}

/// Octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The octets that hexadecimal digits stand for.
pub fn octets(hex: &str) -> Option<Vec<u8>> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_concatenation_elements_are_read() {
        let found = |reference, total, number| Some(Concatenation { reference, total, number });
        assert_eq!(split_header(&[5, 0, 3, 9, 2, 1, b'x']), Some((found(9, 2, 1), &b"x"[..])));
        assert_eq!(split_header(&[6, 8, 4, 1, 2, 3, 3, b'x']), Some((found(0x102, 3, 3), &b"x"[..])));
        // Behind another element; with nonsense numbers; without any.
        assert_eq!(split_header(&[9, 0x24, 1, 1, 0x25, 0, 0, 3, 9, 2, 1]), None);
        assert_eq!(split_header(&[8, 0x24, 1, 1, 0, 3, 9, 2, 2, b'x']), Some((found(9, 2, 2), &b"x"[..])));
        assert_eq!(split_header(&[5, 0, 3, 9, 2, 3, b'x']), Some((None, &b"x"[..])));
        assert_eq!(split_header(&[5, 0, 3, 9, 0, 0]), Some((None, &b""[..])));
        assert_eq!(split_header(&[0, b'x']), Some((None, &b"x"[..])));
        assert_eq!(split_header(&[]), None);
        assert_eq!(split_header(&[5, 0, 3]), None);
    }

    #[test]
    fn other_elements_are_told_apart() {
        for (data, only) in [
            (&[5, 0, 3, 9, 2, 1, b'x'][..], true),
            (&[6, 8, 4, 1, 2, 3, 3], true),
            (&[0, b'x'], true),
            (&[11, 5, 4, 1, 2, 3, 4, 0, 3, 9, 2, 1], false),
            (&[3, 0x24, 1, 1], false),
            (&[5, 0, 3], false),
            (&[2, 0, 3], false),
            (&[1, 0], false),
            (&[], false),
        ] {
            assert_eq!(is_only_concatenation(data), only, "{data:02x?}");
        }
        assert_eq!(octets(&hex(&[0, 0xAB, 255])), Some(vec![0, 0xAB, 255]));
        assert_eq!((octets("0"), octets("0g")), (None, None));
    }

    #[test]
    fn codings() {
        assert_eq!(decode(8, &[0x4E, 0x2D, 0xD8, 0x3D]), "中\u{FFFD}");
        assert_eq!(decode(8, &[0x4E]), "\u{FFFD}");
        assert_eq!(decode(3, &[0xE9]), "é");
        assert_eq!(decode(0, &[0]), "@");
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), coding: u8) {
            let _ = (decode(coding, &octets), decode_part(coding, true, &octets));
            if let Some((Some(c), _)) = split_header(&octets) {
                prop_assert!(c.number >= 1 && c.number <= c.total);
            }
        }
    }
}
