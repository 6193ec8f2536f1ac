//! The national language tables of the GSM 7-bit alphabet (3GPP TS 23.038 annex A), one septet an octet.
//!
//! A *single shift* table takes the place of the extension: its characters follow an [`ESCAPE`](gsm7::ESCAPE). A *locking shift* table takes the place of
//! the default alphabet. A user data header says which are in force (TS 23.040 sections 9.2.3.24.15 and 16).

use super::gsm7::{self, Septets};

/// A language that has tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Language {
    /// Türkçe: both tables.
    Turkish,
    /// Español: a single shift table.
    Spanish,
    /// Português: both tables.
    Portuguese,
}

/// Elements of a user data header.
const SINGLE_SHIFT: u8 = 0x24;
const LOCKING_SHIFT: u8 = 0x25;

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Turkish, Self::Spanish, Self::Portuguese];

    /// The word for it in configurations and previews.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Turkish => "turkish",
            Self::Spanish => "spanish",
            Self::Portuguese => "portuguese",
        }
    }

    /// The national language identifier (TS 23.038 section 6.2.1.2.4).
    const fn id(self) -> u8 {
        match self {
            Self::Turkish => 1,
            Self::Spanish => 2,
            Self::Portuguese => 3,
        }
    }

    fn of_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.id() == id)
    }

    const fn single(self) -> &'static [(u8, char)] {
        match self {
            Self::Turkish => &TURKISH_SINGLE,
            Self::Spanish => &SPANISH_SINGLE,
            Self::Portuguese => &PORTUGUESE_SINGLE,
        }
    }

    const fn locking(self) -> Option<&'static [char; 128]> {
        match self {
            Self::Turkish => Some(&TURKISH_LOCKING),
            Self::Spanish => None,
            Self::Portuguese => Some(&PORTUGUESE_LOCKING),
        }
    }
}

/// Which tables are in force; never none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shift {
    locking: Option<Language>,
    single: Option<Language>,
}

impl Shift {
    /// What a language offers: its single shift table, its locking shift table, both.
    pub fn of(language: Language) -> impl Iterator<Item = Self> {
        let (own, has_locking) = (Some(language), language.locking().is_some());
        let single = Self { locking: None, single: own };
        let locking = [Self { locking: own, single: None }, Self { locking: own, single: own }];
        std::iter::once(single).chain(locking.into_iter().filter(move |_| has_locking))
    }

    /// What a user data header says; `None` if it names no table, or one that is not known.
    pub fn of_header(user_data: &[u8]) -> Option<Self> {
        let (&length, rest) = user_data.split_first()?;
        Self::of_elements(rest.get(..usize::from(length))?)
    }

    /// What the elements of one say.
    pub fn of_elements(mut header: &[u8]) -> Option<Self> {
        let mut shift = Self { locking: None, single: None };
        while let [id, length, rest @ ..] = header {
            let (element, next) = rest.split_at_checked(usize::from(*length))?;
            match (*id, element) {
                (SINGLE_SHIFT, &[id]) => shift.single = Some(Language::of_id(id)?),
                (LOCKING_SHIFT, &[id]) => shift.locking = Some(Language::of_id(id)?),
                _ => {}
            }
            header = next;
        }
        (shift.locking.is_some() || shift.single.is_some()).then_some(shift)
    }

    /// The word used in previews.
    pub const fn word(self) -> &'static str {
        match (self.locking, self.single) {
            (Some(Language::Turkish), _) | (None, Some(Language::Turkish)) => "gsm7-turkish",
            (Some(Language::Spanish), _) | (None, Some(Language::Spanish)) => "gsm7-spanish",
            (Some(Language::Portuguese), _) | (None, Some(Language::Portuguese)) => "gsm7-portuguese",
            (None, None) => "gsm7",
        }
    }

    /// The elements of a user data header that announce it.
    pub fn elements(self) -> Vec<u8> {
        let locking = self.locking.map(|language| [LOCKING_SHIFT, 1, language.id()]);
        let single = self.single.map(|language| [SINGLE_SHIFT, 1, language.id()]);
        locking.into_iter().chain(single).flatten().collect()
    }

    /// Octets that those take.
    pub const fn elements_len(self) -> usize {
        3 * (self.locking.is_some() as usize + self.single.is_some() as usize)
    }

    /// What takes the place of the default alphabet, or it itself; and of the extension.
    fn tables(self) -> (&'static [char; 128], &'static [(u8, char)]) {
        let extension = match self.single {
            Some(language) => language.single(),
            None => &gsm7::EXTENSION,
        };
        (self.locking.and_then(Language::locking).unwrap_or(&gsm7::DEFAULT), extension)
    }

    /// The septets of a character; `None` if the tables do not hold it.
    pub fn encode(self, c: char) -> Option<Septets> {
        let (table, extension) = self.tables();
        gsm7::one_of(table, c).or_else(|| gsm7::escaped_of(extension, c))
    }

    /// Reads unpacked septets, as [`gsm7::decode`] does.
    pub fn decode(self, octets: &[u8]) -> String {
        let (table, extension) = self.tables();
        gsm7::decode_by(octets, table, extension)
    }
}

/// Annex A.2.1.
const TURKISH_SINGLE: [(u8, char); 17] = [
    (0x0A, '\u{0C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x47, 'Ğ'),
    (0x49, 'İ'),
    (0x53, 'Ş'),
    (0x63, 'ç'),
    (0x65, '€'),
    (0x67, 'ğ'),
    (0x69, 'ı'),
    (0x73, 'ş'),
];

/// Annex A.2.2.
const SPANISH_SINGLE: [(u8, char); 19] = [
    (0x09, 'ç'),
    (0x0A, '\u{0C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x41, 'Á'),
    (0x49, 'Í'),
    (0x4F, 'Ó'),
    (0x55, 'Ú'),
    (0x61, 'á'),
    (0x65, '€'),
    (0x69, 'í'),
    (0x6F, 'ó'),
    (0x75, 'ú'),
];

/// Annex A.2.3.
#[rustfmt::skip]
const PORTUGUESE_SINGLE: [(u8, char); 37] = [
    (0x05, 'ê'), (0x09, 'ç'), (0x0A, '\u{0C}'), (0x0B, 'Ô'), (0x0C, 'ô'), (0x0E, 'Á'), (0x0F, 'á'),
    (0x12, 'Φ'), (0x13, 'Γ'), (0x14, '^'), (0x15, 'Ω'), (0x16, 'Π'), (0x17, 'Ψ'), (0x18, 'Σ'), (0x19, 'Θ'), (0x1F, 'Ê'),
    (0x28, '{'), (0x29, '}'), (0x2F, '\\'), (0x3C, '['), (0x3D, '~'), (0x3E, ']'), (0x40, '|'), (0x41, 'À'), (0x49, 'Í'),
    (0x4F, 'Ó'), (0x55, 'Ú'), (0x5B, 'Ã'), (0x5C, 'Õ'), (0x61, 'Â'), (0x65, '€'), (0x69, 'í'), (0x6F, 'ó'), (0x75, 'ú'),
    (0x7B, 'ã'), (0x7C, 'õ'), (0x7F, 'â'),
];

/// Annex A.3.1. Position is the septet; position 0x1B is the escape itself.
#[rustfmt::skip]
const TURKISH_LOCKING: [char; 128] = [
    '@', '£', '$', '¥', '€', 'é', 'ù', 'ı', 'ò', 'Ç', '\n', 'Ğ', 'ğ', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1B}', 'Ş', 'ş', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    'İ', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    'ç', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// Annex A.3.3.
#[rustfmt::skip]
const PORTUGUESE_LOCKING: [char; 128] = [
    '@', '£', '$', '¥', 'ê', 'é', 'ú', 'í', 'ó', 'ç', '\n', 'Ô', 'ô', '\r', 'Á', 'á',
    'Δ', '_', 'ª', 'Ç', 'À', '∞', '^', '\\', '€', 'Ó', '|', '\u{1B}', 'Â', 'â', 'Ê', 'É',
    ' ', '!', '"', '#', 'º', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    'Í', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ã', 'Õ', 'Ú', 'Ü', '§',
    '~', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ã', 'õ', '`', 'ü', 'à',
];

#[cfg(test)]
mod tests {
    use super::super::gsm7::ESCAPE;
    use super::*;

    fn shifts() -> impl Iterator<Item = Shift> {
        Language::ALL.into_iter().flat_map(Shift::of)
    }

    #[test]
    fn every_table_reads_back_whole() {
        assert_eq!(shifts().count(), 7);
        for shift in shifts() {
            let all: String = (0..=0x7F_u8)
                .filter(|septet| *septet != ESCAPE)
                .flat_map(|septet| [shift.decode(&[septet]), shift.decode(&[ESCAPE, septet])])
                .collect();
            let mut octets = Vec::new();
            for c in all.chars().filter(|&c| c != char::REPLACEMENT_CHARACTER) {
                match shift.encode(c).unwrap_or_else(|| panic!("{shift:?} {c}")) {
                    Septets::One(septet) => octets.push(septet),
                    Septets::Escaped(septet) => octets.extend([ESCAPE, septet]),
                }
            }
            let back: String = all.chars().filter(|&c| c != char::REPLACEMENT_CHARACTER).collect();
            assert_eq!(shift.decode(&octets), back, "{shift:?}");
        }
    }

    #[test]
    fn known_positions() {
        let [single, locking, both] = Shift::of(Language::Turkish).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((single.encode('ş'), locking.encode('ş')), (Some(Septets::Escaped(0x73)), Some(Septets::One(0x1D))));
        assert_eq!((single.encode('è'), both.encode('è')), (Some(Septets::One(0x04)), None), "it gave its place away");
        assert_eq!((both.encode('€'), single.encode('€')), (Some(Septets::One(0x04)), Some(Septets::Escaped(0x65))));
        let spanish: Vec<_> = Shift::of(Language::Spanish).collect();
        assert_eq!((spanish.len(), spanish[0].encode('á')), (1, Some(Septets::Escaped(0x61))));
        let portuguese = Shift::of(Language::Portuguese).nth(1).unwrap();
        assert_eq!(
            (portuguese.encode('ã'), portuguese.encode('∞')),
            (Some(Septets::One(0x7B)), Some(Septets::One(0x15)))
        );
    }

    #[test]
    fn headers_say_which_tables_are_in_force() {
        for shift in shifts() {
            let elements = shift.elements();
            assert_eq!(elements.len(), shift.elements_len());
            let header = [&[elements.len() as u8 + 5, 0, 3, 9, 2, 1], &elements[..], b"x"].concat();
            assert_eq!(Shift::of_header(&header), Some(shift));
        }
        for none in [&[5, 0, 3, 9, 2, 1][..], &[3, 0x24, 1, 99], &[3, 0x24, 1], &[], &[4, 0x24, 2, 1, 1]] {
            assert_eq!(Shift::of_header(none), None, "{none:02x?}");
        }
    }
}
