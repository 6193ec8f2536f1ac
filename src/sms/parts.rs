//! From a text to the octets of its parts.
//!
//! A text that the GSM alphabet does not hold may be written with a language's tables ([`Shift`]), where the carrier's [`Repertoire`] says
//! that it and its handsets know them; its parts have a header that says so. A text that fits goes as one part without a header; a longer
//! one gets the 8-bit concatenation header of 3GPP TS 23.040 section 9.2.3.24.1, `05 00 03 reference total number`, which takes 6 octets
//! (7 septets) of each part.

use bytes::{BufMut, Bytes, BytesMut};

use super::gsm7::{self, ESCAPE, Septets};
use super::national::{Language, Shift};
use super::words::Alphabet;
use crate::model::SmsText;

/// What a carrier knows to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repertoire {
    /// Languages whose tables of the GSM alphabet it knows; they are of use where that is its default alphabet.
    pub languages: Vec<Language>,
    /// What it takes `data_coding` 0 for: GSM 7-bit, or Latin-1 or ASCII, of which it makes GSM 7-bit for the handset, so that a part
    /// holds as much. A character that is in one of both only makes a text UCS-2.
    pub default: Alphabet,
}

impl Default for Repertoire {
    fn default() -> Self {
        Self { languages: Vec::new(), default: Alphabet::Gsm7 }
    }
}

impl Repertoire {
    /// The characters that force UCS-2 where no language's tables hold them, each with its position, counted in characters from 0.
    pub fn outside<'t>(&self, text: &'t str) -> impl Iterator<Item = (usize, char)> + use<'t> {
        let other = Some(self.default).filter(|default| *default != Alphabet::Gsm7);
        let lacks = move |c| gsm7::encode(c).is_none() || other.is_some_and(|alphabet| alphabet.octet(c).is_none());
        text.chars().enumerate().filter(move |&(_, c)| lacks(c))
    }
}

/// How a text's characters travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// The GSM default alphabet with its extension; a unit is a septet, sent as one octet.
    Gsm7,
    /// The same with the tables of a language.
    National(Shift),
    /// UTF-16 big-endian, called UCS-2 in this field; a unit is 16 bits.
    Ucs2,
}

impl Encoding {
    /// SMPP's `data_coding` (P34 section 5.2.19): 0 is the carrier's default alphabet, 8 is UCS-2.
    pub const fn data_coding(self) -> u8 {
        match self {
            Self::Gsm7 | Self::National(_) => 0,
            Self::Ucs2 => 8,
        }
    }

    /// The word used in previews.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::National(shift) => shift.word(),
            Self::Ucs2 => "ucs2",
        }
    }

    /// Units that a part holds that is the only one.
    pub const fn single_units_max(self) -> usize {
        match self {
            Self::Gsm7 => SEPTETS,
            Self::National(shift) => SEPTETS - septets_of(1 + shift.elements_len()),
            Self::Ucs2 => 70,
        }
    }

    /// Units that each of several parts holds beside its header.
    pub const fn part_units_max(self) -> usize {
        match self {
            Self::Gsm7 => SEPTETS - septets_of(CONCATENATION),
            Self::National(shift) => SEPTETS - septets_of(CONCATENATION + shift.elements_len()),
            Self::Ucs2 => 67,
        }
    }

    /// The narrowest encoding that holds every character.
    pub fn of(text: &str) -> Self {
        if text.chars().all(|c| gsm7::encode(c).is_some()) { Self::Gsm7 } else { Self::Ucs2 }
    }

    /// The same for a carrier. Tables of languages count where the text would be UCS-2 without them; of several that hold it the one
    /// that takes the fewest parts, then units, then the shortest header.
    pub fn known(text: &str, repertoire: &Repertoire) -> Self {
        if repertoire.default != Alphabet::Gsm7 {
            return if repertoire.outside(text).next().is_none() { Self::Gsm7 } else { Self::Ucs2 };
        }
        match Self::of(text) {
            Self::Ucs2 => {
                let shifts = repertoire.languages.iter().flat_map(|language| Shift::of(*language));
                let fitting =
                    shifts.filter(|shift| text.chars().all(|c| shift.encode(c).is_some())).map(Self::National);
                let cost = |encoding: &Self| {
                    let units: usize = text.chars().map(|c| encoding.units(c)).sum();
                    (cuts(text, *encoding, units).count(), units, encoding.header_len(false))
                };
                fitting.min_by_key(cost).unwrap_or(Self::Ucs2)
            }
            narrow => narrow,
        }
    }

    /// Octets of the header of a part.
    fn header_len(self, is_one_of_several: bool) -> usize {
        let elements = if let Self::National(shift) = self { shift.elements_len() } else { 0 };
        match (is_one_of_several, elements) {
            (true, _) => CONCATENATION + elements,
            (false, 0) => 0,
            (false, _) => 1 + elements,
        }
    }

    /// Units that `c` takes; they stay together.
    fn units(self, c: char) -> usize {
        match self {
            Self::Ucs2 => c.len_utf16(),
            Self::Gsm7 | Self::National(_) if matches!(self.septets(c), Some(Septets::Escaped(_))) => 2,
            Self::Gsm7 | Self::National(_) => 1,
        }
    }

    fn septets(self, c: char) -> Option<Septets> {
        match self {
            Self::National(shift) => shift.encode(c),
            Self::Gsm7 | Self::Ucs2 => gsm7::encode(c),
        }
    }

    fn put(self, c: char, default: Alphabet, out: &mut BytesMut) {
        match self {
            Self::Gsm7 if default != Alphabet::Gsm7 => out.put_u8(default.octet(c).unwrap_or(b'?')),
            Self::Gsm7 | Self::National(_) => match self.septets(c) {
                Some(Septets::One(septet)) => out.put_u8(septet),
                Some(Septets::Escaped(septet)) => out.put_slice(&[ESCAPE, septet]),
                None => debug_assert!(false, "the encoding was chosen by content"),
            },
            Self::Ucs2 => c.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| out.put_u16(unit)),
        }
    }
}

/// Septets of a part, its header among them.
const SEPTETS: usize = 160;
/// Octets of a header that says which part it is.
const CONCATENATION: usize = 6;

/// Septets that so many octets of a header take: the text starts at the next whole one.
const fn septets_of(octets: usize) -> usize {
    (octets * 8).div_ceil(7)
}

/// How a text will travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its alphabet.
    pub encoding: Encoding,
    /// Parts it needs: 1 to 255.
    pub count: usize,
    /// Units of its content, headers not counted.
    pub units: usize,
    /// Units of the last part's content: 1 to [`Plan::capacity`].
    pub last_units: usize,
}

impl Plan {
    /// Units that each of its parts holds beside the header, which only several parts have.
    pub const fn capacity(self) -> usize {
        if self.count == 1 { self.encoding.single_units_max() } else { self.encoding.part_units_max() }
    }

    /// Units that the last part could still take.
    pub const fn units_left(self) -> usize {
        self.capacity().saturating_sub(self.last_units)
    }
}

/// The parts of a text, ready for a PDU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Their alphabet.
    pub encoding: Encoding,
    /// SMPP's `data_coding` for each of them.
    pub data_coding: u8,
    /// True if each starts with a user data header (`esm_class` 0x40): there are several, or a language's tables are in force.
    pub udhi: bool,
    /// Their octets, header included, in order.
    pub parts: Vec<Bytes>,
}

/// Works out alphabet and number of parts without making them.
pub fn plan(text: &SmsText) -> Plan {
    plan_for(text, &Repertoire::default())
}

/// The same for a carrier.
pub fn plan_for(text: &SmsText, repertoire: &Repertoire) -> Plan {
    let text = text.as_str();
    let encoding = Encoding::known(text, repertoire);
    let units_of = |text: &str| text.chars().map(|c| encoding.units(c)).sum();
    let units = units_of(text);
    let (cut_times, last) = cuts(text, encoding, units).fold((0, 0), |(n, _), at| (n + 1, at));
    Plan { encoding, count: cut_times + 1, units, last_units: units_of(&text[last..]) }
}

/// Makes the parts of a text; `reference` is the same in all of them and should differ from that of other texts to the
/// same number.
pub fn parts(text: &SmsText, reference: u8) -> Parts {
    parts_for(text, reference, &Repertoire::default())
}

/// The same for a carrier.
pub fn parts_for(text: &SmsText, reference: u8, repertoire: &Repertoire) -> Parts {
    let Plan { encoding, count, units, .. } = plan_for(text, repertoire);
    let text = text.as_str();
    let header_len = encoding.header_len(count > 1);
    let udhi = header_len > 0;
    let elements = if let Encoding::National(shift) = encoding { shift.elements() } else { Vec::new() };
    let total = u8::try_from(count).unwrap_or(u8::MAX);
    let mut from = 0;
    let ends = cuts(text, encoding, units).chain([text.len()]);
    let parts = (1..=total).zip(ends).map(|(number, end)| {
        let mut octets = BytesMut::with_capacity(160);
        if udhi {
            octets.put_u8(u8::try_from(header_len - 1).unwrap_or(u8::MAX));
        }
        if count > 1 {
            octets.put_slice(&[0, 3, reference, total, number]);
        }
        octets.put_slice(&elements);
        text[from..end].chars().for_each(|c| encoding.put(c, repertoire.default, &mut octets));
        from = end;
        octets.freeze()
    });
    Parts { encoding, data_coding: encoding.data_coding(), udhi, parts: parts.collect() }
}

/// Byte positions at which a new part starts, the first part's excepted.
fn cuts(text: &str, encoding: Encoding, units: usize) -> impl Iterator<Item = usize> {
    let room = if units <= encoding.single_units_max() { usize::MAX } else { encoding.part_units_max() };
    let mut used = 0;
    text.char_indices().filter_map(move |(at, c)| {
        let units = encoding.units(c);
        used += units;
        (used > room).then(|| {
            used = units;
            at
        })
    })
}

/// The longest text there is, all of it in pairs that may not be cut: 33 pairs fill a UCS-2 part. `total` holds it.
const _: () = assert!(2_000usize.div_ceil(33) <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::{decode, split_header};
    use proptest::prelude::*;

    fn text(s: &str) -> SmsText {
        SmsText::new(s).unwrap()
    }

    fn speaking(languages: &[Language]) -> Repertoire {
        Repertoire { languages: languages.to_vec(), ..Repertoire::default() }
    }

    #[test]
    fn capacities_at_their_limits() {
        for (content, encoding, count, units, left) in [
            ("a".repeat(160), Encoding::Gsm7, 1, 160, 0),
            ("a".repeat(161), Encoding::Gsm7, 2, 161, 145),
            ("a".repeat(306), Encoding::Gsm7, 2, 306, 0),
            ("a".repeat(307), Encoding::Gsm7, 3, 307, 152),
            ("€".repeat(80), Encoding::Gsm7, 1, 160, 0),
            // An escape pair does not fit into the last septet of 153: 76 pairs a part.
            ("€".repeat(81), Encoding::Gsm7, 2, 162, 143),
            ("€".repeat(153), Encoding::Gsm7, 3, 306, 151),
            ("中".repeat(70), Encoding::Ucs2, 1, 70, 0),
            ("中".repeat(71), Encoding::Ucs2, 2, 71, 63),
            ("中".repeat(134), Encoding::Ucs2, 2, 134, 0),
            ("中".repeat(135), Encoding::Ucs2, 3, 135, 66),
            ("😀".repeat(35), Encoding::Ucs2, 1, 70, 0),
            // 33 surrogate pairs a part.
            ("😀".repeat(67), Encoding::Ucs2, 3, 134, 65),
            ("😀".repeat(2_000), Encoding::Ucs2, 61, 4_000, 27),
        ] {
            let text = text(&content);
            let planned = plan(&text);
            let told = (planned.encoding, planned.count, planned.units, planned.units_left());
            assert_eq!(told, (encoding, count, units, left), "{} x {:?}", units, content.chars().next());
            let parts = parts(&text, 7);
            assert_eq!(parts.parts.len(), count);
            assert_eq!(parts.udhi, count > 1);
        }
    }

    #[test]
    fn a_languages_tables_spare_ucs2_where_they_are_known() {
        let turkish = |content: &str| {
            let planned = plan_for(&text(content), &speaking(&[Language::Turkish]));
            (planned.encoding.as_str(), planned.count, planned.units, planned.capacity())
        };
        assert_eq!(turkish("hello"), ("gsm7", 1, 5, 160), "nothing of it is needed");
        assert_eq!(turkish("中ş"), ("ucs2", 1, 2, 70));
        assert_eq!(turkish("Siparişiniz"), ("gsm7-turkish", 1, 11, 155), "the locking table spares the escape");
        assert_eq!(turkish(&"ş".repeat(155)), ("gsm7-turkish", 1, 155, 155));
        assert_eq!(turkish(&"ş".repeat(156)), ("gsm7-turkish", 2, 156, 149));
        assert_eq!(turkish(&format!("è{}", "ş".repeat(77))), ("gsm7-turkish", 1, 155, 155), "è has no place beside it");
        assert_eq!(plan_for(&text("Siparişiniz"), &speaking(&[Language::Spanish])).encoding, Encoding::Ucs2);
        let made = parts_for(&text(&"ş".repeat(156)), 9, &speaking(&[Language::Turkish]));
        assert_eq!((&made.parts[1][..9], made.parts[1].len()), (&[8, 0, 3, 9, 2, 2, 0x25, 1, 1][..], 9 + 7));
        let one = parts_for(&text("está"), 9, &speaking(&[Language::Turkish, Language::Spanish]));
        assert_eq!((one.data_coding, &one.parts[0][..]), (0, &[3, 0x24, 1, 2, b'e', b's', b't', ESCAPE, b'a'][..]));
    }

    #[test]
    fn the_header_is_that_of_the_standard() {
        let made = parts(&text(&format!("【商店】{}", "好".repeat(67))), 0xA5);
        assert_eq!(made.data_coding, 8);
        assert_eq!(made.parts[0][..6], [5, 0, 3, 0xA5, 2, 1]);
        assert_eq!(made.parts[1][..6], [5, 0, 3, 0xA5, 2, 2]);
        assert_eq!((made.parts[0].len(), made.parts[1].len()), (140, 14));
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_text(
            content in "[a-zA-Z0-9 @€\\[\\]^{}~|é]{1,700}|\\PC{1,400}|(😀|中|a){1,300}",
            reference: u8,
        ) {
            let Ok(text) = SmsText::new(&content) else { return Ok(()) };
            let made = parts(&text, reference);
            let planned = plan(&text);
            prop_assert_eq!((made.parts.len(), made.encoding), (planned.count, planned.encoding));
            let mut back = String::new();
            let mut filled = Vec::new();
            for (i, part) in made.parts.iter().enumerate() {
                let (header, octets) = if made.udhi { split_header(part).unwrap() } else { (None, &part[..]) };
                if let Some(header) = header {
                    prop_assert_eq!(header.reference, u16::from(reference));
                    prop_assert_eq!(usize::from(header.number), i + 1);
                    prop_assert_eq!(usize::from(header.total), made.parts.len());
                }
                filled.push(octets.len() / if made.encoding == Encoding::Gsm7 { 1 } else { 2 });
                // Each part alone decodes without a broken character: nothing was cut.
                let shown = decode(made.data_coding, octets);
                let broken = |s: &str| s.contains(char::REPLACEMENT_CHARACTER);
                prop_assert!(!broken(&shown) || broken(&content));
                back.push_str(&shown);
            }
            prop_assert_eq!(back, content);
            // What was planned is what was made; no part is too full, and only a pair leaves a place free before the last.
            let capacity = match (made.encoding, made.udhi) {
                (Encoding::Gsm7, false) => 160,
                (Encoding::Gsm7, true) => 153,
                (Encoding::National(_), _) => unreachable!("no language was named"),
                (Encoding::Ucs2, false) => 70,
                (Encoding::Ucs2, true) => 67,
            };
            prop_assert_eq!(capacity, planned.capacity());
            prop_assert_eq!(filled.iter().sum::<usize>(), planned.units);
            let last = filled.pop().unwrap();
            prop_assert!((1..=capacity).contains(&last), "{}", last);
            prop_assert_eq!((last, capacity - last), (planned.last_units, planned.units_left()));
            prop_assert!(filled.iter().all(|units| (capacity - 1..=capacity).contains(units)), "{:?}", filled);
        }

        #[test]
        fn with_a_languages_tables_parts_put_together_are_the_text(
            content in "[a-zşğıİçâãõêô€ÁÍÓáíóú \\[\\]]{1,400}|[a-z€ş]{1,700}|[ -~ñã中]{1,200}",
            reference: u8,
        ) {
            let (text, all) = (SmsText::new(&content).unwrap(), speaking(&Language::ALL));
            let (made, planned) = (parts_for(&text, reference, &all), plan_for(&text, &all));
            prop_assert_eq!((made.parts.len(), made.encoding), (planned.count, planned.encoding));
            prop_assert!(planned.count <= plan(&text).count, "never more parts than without");
            let mut back = String::new();
            for (i, part) in made.parts.iter().enumerate() {
                back.push_str(&crate::sms::decode_part(made.data_coding, made.udhi, part));
                let (place, octets) = if made.udhi { split_header(part).unwrap() } else { (None, &part[..]) };
                prop_assert_eq!(place.map(|place| usize::from(place.number)), (planned.count > 1).then_some(i + 1));
                if made.data_coding == 0 {
                    let septets = septets_of(part.len() - octets.len()) + octets.len();
                    prop_assert!(septets <= 160, "{}", septets);
                    let is_last = i + 1 == planned.count;
                    prop_assert!(octets.len() <= planned.capacity() && (is_last || octets.len() + 1 >= planned.capacity()));
                    // An escape at its end would be cut off from what it announces.
                    let escapes = octets.iter().rev().take_while(|&&octet| octet == ESCAPE).count();
                    prop_assert_eq!(escapes, 0);
                }
            }
            prop_assert_eq!(back, content);
        }

        #[test]
        fn in_another_default_alphabet_parts_hold_the_same_characters(
            content in "[a-zA-Z0-9 @é\\[\\]^{}~|]{1,700}|[a-z @é€ç]{1,300}",
            default in prop_oneof![Just(Alphabet::Latin1), Just(Alphabet::Ascii)],
        ) {
            let (text, known) = (SmsText::new(&content).unwrap(), Repertoire { default, ..Repertoire::default() });
            let (made, planned, gsm) = (parts_for(&text, 1, &known), plan_for(&text, &known), parts(&text, 1));
            prop_assert_eq!((made.parts.len(), made.encoding), (planned.count, planned.encoding));
            prop_assert_eq!(known.outside(&content).next().is_none(), planned.encoding == Encoding::Gsm7);
            let holds = content.chars().all(|c| default.octets(&c.to_string()).is_some());
            prop_assert_eq!(planned.encoding == Encoding::Gsm7, holds && gsm.encoding == Encoding::Gsm7);
            let alphabet = if planned.encoding == Encoding::Gsm7 { default } else { Alphabet::Ucs2 };
            let mut back = String::new();
            for (n, part) in made.parts.iter().enumerate() {
                let octets = if made.udhi { split_header(part).unwrap().1 } else { &part[..] };
                let words = alphabet.words(octets).unwrap();
                if planned.encoding == Encoding::Gsm7 {
                    let octets = if gsm.udhi { split_header(&gsm.parts[n]).unwrap().1 } else { &gsm.parts[n][..] };
                    prop_assert_eq!(&words, &decode(0, octets), "cut where the handset's parts are");
                }
                back.push_str(&words);
            }
            prop_assert_eq!(back, content);
        }

        #[test]
        fn what_is_named_forces_ucs2(content in "[a-z“é€\u{200B}中😀]{1,50}") {
            let named: Vec<_> = Repertoire::default().outside(&content).collect();
            prop_assert_eq!(named.is_empty(), Encoding::of(&content) == Encoding::Gsm7);
            for &(position, c) in &named {
                prop_assert_eq!(content.chars().nth(position), Some(c));
            }
            let without: String = content.chars().filter(|c| named.iter().all(|(_, named)| c != named)).collect();
            prop_assert_eq!(Encoding::of(&without), Encoding::Gsm7);
        }
    }
}
