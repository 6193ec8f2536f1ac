//! What handsets write: octets to words, without guessing.
//!
//! **Promises.** [`Alphabet::words`] gives words only where every octet has a meaning; else it says why not, and the caller keeps
//! the octets. No input panics.
//!
//! **Does not know** in which numbers a protocol names an alphabet.

use std::sync::LazyLock;

use super::gsm7;
use super::national::Shift;
use super::reassemble::{hex, octets};

/// What stands in a name before the elements of the header that announces a language's tables.
const TABLES: &str = "gsm7-";

/// The alphabet of a message from a handset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alphabet {
    /// GSM 7-bit, a septet an octet (3GPP TS 23.038).
    Gsm7,
    /// The same by a language's tables.
    National(Shift),
    /// US-ASCII.
    Ascii,
    /// ISO 8859-1.
    Latin1,
    /// UCS-2, which is written as UTF-16, big-endian.
    Ucs2,
    /// GBK.
    Gbk,
    /// None that we read, by the protocol's own number: binary, as a rule.
    Other(u8),
}

impl Alphabet {
    /// The words that octets stand for.
    ///
    /// # Errors
    /// Why they are none, in words for people.
    pub fn words(self, octets: &[u8]) -> Result<String, String> {
        let outside = |name: &str| format!("an octet is not {name}");
        match self {
            Self::Gsm7 if octets.is_ascii() => Ok(gsm7::decode(octets)),
            Self::National(shift) if octets.is_ascii() => Ok(shift.decode(octets)),
            Self::Gsm7 | Self::National(_) => Err(outside("in the GSM alphabet")),
            Self::Ascii if octets.is_ascii() => Ok(octets.iter().map(|&octet| char::from(octet)).collect()),
            Self::Ascii => Err(outside("ASCII")),
            Self::Latin1 => Ok(octets.iter().map(|&octet| char::from(octet)).collect()),
            Self::Ucs2 => utf16(octets).ok_or_else(|| "it is not UTF-16".to_owned()),
            Self::Gbk => gbk(octets).ok_or_else(|| outside("GBK")),
            Self::Other(number) => Err(format!("coding {number} is no text")),
        }
    }

    /// The octets of these words; `None` if it does not hold them all, or is none that we write so.
    pub fn octets(self, words: &str) -> Option<Vec<u8>> {
        match self {
            Self::Gsm7 => words.chars().all(|c| gsm7::encode(c).is_some()).then(|| gsm7::octets(words)),
            Self::Ascii | Self::Latin1 => words.chars().map(|c| self.octet(c)).collect(),
            Self::Ucs2 => Some(words.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            Self::National(_) | Self::Gbk | Self::Other(_) => None,
        }
    }

    /// The octet of a character in ASCII or Latin-1; `None` if it has none there, and in all others.
    pub(super) fn octet(self, c: char) -> Option<u8> {
        match self {
            Self::Ascii => u8::try_from(c).ok().filter(u8::is_ascii),
            Self::Latin1 => u8::try_from(c).ok(),
            _ => None,
        }
    }

    /// A word for it, which [`Alphabet::named`] reads.
    pub fn name(self) -> String {
        match self {
            Self::Gsm7 => "gsm7".to_owned(),
            Self::National(shift) => format!("{TABLES}{}", hex(&shift.elements())),
            Self::Ascii => "ascii".to_owned(),
            Self::Latin1 => "latin1".to_owned(),
            Self::Ucs2 => "ucs2".to_owned(),
            Self::Gbk => "gbk".to_owned(),
            Self::Other(number) => number.to_string(),
        }
    }

    /// The alphabet of that name.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(tables) = name.strip_prefix(TABLES) {
            return Shift::of_elements(&octets(tables)?).map(Self::National);
        }
        let known = [Self::Gsm7, Self::Ascii, Self::Latin1, Self::Ucs2, Self::Gbk];
        known.into_iter().find(|alphabet| alphabet.name() == name).or_else(|| name.parse().ok().map(Self::Other))
    }
}

fn utf16(octets: &[u8]) -> Option<String> {
    let (pairs, []) = octets.as_chunks::<2>() else { return None };
    char::decode_utf16(pairs.iter().map(|pair| u16::from_be_bytes(*pair))).collect::<Result<_, _>>().ok()
}

/// The characters of GBK's two octets: 126 rows from 0x81 on of 190 columns from 0x40 on, without 0x7F; two octets each, the
/// lower first, 0 where there is none. Made of the mapping that Python's codec `gbk` has.
const GBK: &[u8; 126 * 190 * 2] = include_bytes!("gbk.bin");

/// The octets of each character that has two in GBK, in the order of the characters.
static OCTETS: LazyLock<Vec<(u16, [u8; 2])>> = LazyLock::new(|| {
    let places = (0x81..=0xFE_u8).flat_map(|row| (0x40..=0xFE_u8).filter(|c| *c != 0x7F).map(move |c| [row, c]));
    let units = GBK.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let mut all: Vec<(u16, [u8; 2])> = units.zip(places).filter(|(unit, _)| *unit != 0).collect();
    // Of a character that stands twice the first counts.
    all.sort_by_key(|(unit, _)| *unit);
    all.dedup_by_key(|(unit, _)| *unit);
    all
});

/// The octets of a character in GBK, one or two; `None` if it has none.
pub fn gbk_of(c: char) -> Option<([u8; 2], usize)> {
    if let Some(octet) = u8::try_from(c).ok().filter(u8::is_ascii) {
        return Some(([octet, 0], 1));
    }
    let unit = u16::try_from(u32::from(c)).ok()?;
    let at = OCTETS.binary_search_by_key(&unit, |(unit, _)| *unit).ok()?;
    OCTETS.get(at).map(|(_, octets)| (*octets, 2))
}

/// True if GBK holds every character.
pub fn is_gbk(text: &str) -> bool {
    text.chars().all(|c| gbk_of(c).is_some())
}

/// Reads GBK; what is none is shown as U+FFFD as a whole.
pub(super) fn gbk_lossy(octets: &[u8]) -> String {
    gbk(octets).unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string())
}

fn gbk(octets: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        if octet.is_ascii() {
            text.push(char::from(octet));
            continue;
        }
        let row = usize::from(octet.checked_sub(0x81).filter(|&row| row < 126)?);
        let column = usize::from(match octets.next()? {
            second @ 0x40..=0x7E => second - 0x40,
            second @ 0x80..=0xFE => second - 0x41,
            _ => return None,
        });
        let at = (row * 190 + column) * 2;
        let unit = u16::from_le_bytes([*GBK.get(at)?, *GBK.get(at + 1)?]);
        text.push(char::from_u32(u32::from(unit)).filter(|&c| c != '\0')?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::Language;
    use proptest::prelude::*;

    #[test]
    fn each_alphabet_says_what_it_means_or_why_not() {
        let turkish = Alphabet::National(Shift::of_elements(&[0x24, 1, 1, 0x25, 1, 1]).unwrap());
        for (alphabet, octets, words) in [
            (Alphabet::Gsm7, &b"\x00TD\x1b\x65"[..], Ok("@TD€")),
            (Alphabet::Gsm7, &[0x80], Err("an octet is not in the GSM alphabet")),
            (turkish, b"\x1D\x1bs", Ok("şş")),
            (turkish, &[0x80], Err("an octet is not in the GSM alphabet")),
            (Alphabet::Ascii, b"T@_", Ok("T@_")),
            (Alphabet::Ascii, &[0xE9], Err("an octet is not ASCII")),
            (Alphabet::Latin1, &[0xE9], Ok("é")),
            (Alphabet::Ucs2, &[0x90, 0x00, 0x8B, 0xA2], Ok("退订")),
            (Alphabet::Ucs2, &[0xD8, 0x3D, 0xDE, 0x00], Ok("😀")),
            (Alphabet::Ucs2, &[0x90], Err("it is not UTF-16")),
            (Alphabet::Ucs2, &[0xD8, 0x3D], Err("it is not UTF-16")),
            (Alphabet::Gbk, &[b'T', 0xCD, 0xCB, 0xB6, 0xA9], Ok("T退订")),
            // The first of the table, the one behind 0x7F, one of its last row.
            (Alphabet::Gbk, &[0x81, 0x40, 0x81, 0x80, 0xFE, 0x4F], Ok("丂亐\u{FA29}")),
            (Alphabet::Gbk, &[0xCD], Err("an octet is not GBK")),
            (Alphabet::Gbk, &[0x81, 0x7F], Err("an octet is not GBK")),
            (Alphabet::Gbk, &[0xFF, 0x40], Err("an octet is not GBK")),
            (Alphabet::Other(4), b"x", Err("coding 4 is no text")),
        ] {
            let read = alphabet.words(octets);
            assert_eq!(read.as_deref().map_err(String::as_str), words, "{alphabet:?} {octets:02x?}");
        }
    }

    #[test]
    fn every_character_of_gbk_reads_back() {
        assert!(OCTETS.len() > 21_000, "{}", OCTETS.len());
        for &(unit, octets) in OCTETS.iter() {
            let c = char::from_u32(u32::from(unit)).unwrap();
            assert_eq!(gbk(&octets), Some(c.to_string()));
            assert_eq!(gbk_of(c), Some((octets, 2)));
        }
        assert_eq!((gbk_of('退'), gbk_of('T')), (Some(([0xCD, 0xCB], 2)), Some(([b'T', 0], 1))));
        assert_eq!((gbk_of('😀'), gbk_of('é'), gbk_of('ğ')), (None, Some(([0xA8, 0xA6], 2)), None));
    }

    proptest! {
        #[test]
        fn no_octets_panic_and_names_read_back(octets in proptest::collection::vec(any::<u8>(), 0..200), number: u8) {
            use Alphabet::*;
            let national = Language::ALL.into_iter().flat_map(Shift::of).map(National);
            for alphabet in [Gsm7, Ascii, Latin1, Ucs2] {
                let words = alphabet.words(&octets).unwrap_or_default();
                if let Some(back) = alphabet.octets(&words) {
                    prop_assert_eq!(alphabet.words(&back), Ok(words));
                }
            }
            for alphabet in [Gsm7, Ascii, Latin1, Ucs2, Gbk, Other(number)].into_iter().chain(national) {
                let _ = alphabet.words(&octets);
                prop_assert_eq!(Alphabet::named(&alphabet.name()), Some(alphabet));
            }
        }
    }
}
