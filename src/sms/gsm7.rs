//! The GSM 7-bit default alphabet and its extension (3GPP TS 23.038 section 6.2.1), one septet an octet.
//!
//! SMPP's data coding 0 carries septets unpacked, so nothing here packs bits.

/// Announces a character of the extension table.
pub const ESCAPE: u8 = 0x1B;

/// A character as it stands in the alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Septets {
    /// One septet.
    One(u8),
    /// [`ESCAPE`], then this septet.
    Escaped(u8),
}

/// The septets of a character; `None` if the alphabet does not hold it.
pub fn encode(c: char) -> Option<Septets> {
    one_of(&DEFAULT, c).or_else(|| escaped_of(&EXTENSION, c))
}

/// The septet of a character in a table whose positions are the septets.
pub(super) fn one_of(table: &[char; 128], c: char) -> Option<Septets> {
    if c == '\u{1B}' {
        return None;
    }
    // Letters and digits stand where ASCII has them, and are nearly all of any text.
    let in_place = u8::try_from(c).ok().filter(|&octet| table.get(usize::from(octet)) == Some(&c));
    in_place.or_else(|| u8::try_from(table.iter().position(|&known| known == c)?).ok()).map(Septets::One)
}

/// The septet of a character in a table of those that follow an [`ESCAPE`].
pub(super) fn escaped_of(table: &[(u8, char)], c: char) -> Option<Septets> {
    table.iter().find(|&&(_, known)| known == c).map(|&(septet, _)| Septets::Escaped(septet))
}

/// The unpacked septets of a text; what the alphabet does not hold is left out.
pub fn octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    for septets in text.chars().filter_map(encode) {
        match septets {
            Septets::One(septet) => octets.push(septet),
            Septets::Escaped(septet) => octets.extend([ESCAPE, septet]),
        }
    }
    octets
}

/// Reads unpacked septets. An unknown extension is shown as the default table's character, as TS 23.038 section 6.2.1.1
/// asks; octets above 127 and an escape at the very end become U+FFFD.
pub fn decode(octets: &[u8]) -> String {
    decode_by(octets, &DEFAULT, &EXTENSION)
}

/// The same by other tables.
pub(super) fn decode_by(octets: &[u8], table: &[char; 128], extension: &[(u8, char)]) -> String {
    let plain = |octet: u8| {
        let known = table.get(usize::from(octet)).copied().filter(|&c| c != '\u{1B}');
        known.unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    let escaped = |octet: u8| extension.iter().find(|&&(septet, _)| septet == octet).map(|&(_, c)| c);
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        if octet != ESCAPE {
            text.push(plain(octet));
            continue;
        }
        text.push(match octets.next() {
            Some(next) => escaped(next).unwrap_or_else(|| plain(next)),
            None => char::REPLACEMENT_CHARACTER,
        });
    }
    text
}

/// Position is the septet; position 0x1B is the escape itself.
#[rustfmt::skip]
pub(super) const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1B}', 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

pub(super) const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{0C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_positions() {
        for (c, septets) in [
            ('@', Septets::One(0x00)),
            ('$', Septets::One(0x02)),
            ('_', Septets::One(0x11)),
            ('É', Septets::One(0x1F)),
            ('¤', Septets::One(0x24)),
            ('¡', Septets::One(0x40)),
            ('§', Septets::One(0x5F)),
            ('¿', Septets::One(0x60)),
            ('à', Septets::One(0x7F)),
            ('€', Septets::Escaped(0x65)),
            ('[', Septets::Escaped(0x3C)),
        ] {
            assert_eq!(encode(c), Some(septets), "{c}");
        }
        for c in ['`', 'ç', '中', '\u{1B}', '\t', '“'] {
            assert_eq!(encode(c), None, "{c}");
        }
    }

    #[test]
    fn the_whole_alphabet_reads_back() {
        let all: String = DEFAULT.iter().copied().filter(|&c| c != '\u{1B}').chain(EXTENSION.map(|(_, c)| c)).collect();
        let octets = octets(&all);
        assert_eq!(decode(&octets), all);
    }

    #[test]
    fn oddities_are_shown_not_dropped() {
        assert_eq!(decode(&[ESCAPE, b'a']), "a");
        assert_eq!(decode(&[b'a', ESCAPE]), "a\u{FFFD}");
        assert_eq!(decode(&[ESCAPE, ESCAPE]), "\u{FFFD}");
        assert_eq!(decode(&[0x80]), "\u{FFFD}");
    }
}
