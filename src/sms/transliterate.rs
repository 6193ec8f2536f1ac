//! Look-alikes in the GSM 7-bit alphabet for what word processors, phones and other alphabets put into texts.
//!
//! **What.** [`look_alike`] is a small table; [`transliterate`] writes a whole text with it, where that pays.
//!
//! **Promises.** A text is changed only if all of it then fits the alphabet and takes no more parts than before; it is never
//! changed halfway. What the alphabet holds stays as it is. Words stay readable; nothing is guessed: there is nothing for
//! characters without a look-alike (Chinese, Cyrillic, emoji), nor for 【】, by which carriers know a signature.
//!
//! **Does not know** who wants this: that is a setting of the client or the message.
//!
//! **Fails how.** It answers `None`, and the text goes as it is.

use super::gsm7;
use super::parts::{Encoding, plan};
use crate::model::SmsText;

/// What may stand for `c` in the GSM 7-bit alphabet; `None` for what the alphabet holds and for what has no look-alike.
/// An empty look-alike is that of a character that nobody sees.
pub fn look_alike(c: char) -> Option<&'static str> {
    if gsm7::encode(c).is_some() {
        return None;
    }
    if let Some((_, seen)) = LOOK_ALIKES.iter().find(|(chars, _)| chars.contains(c)) {
        return Some(seen);
    }
    // The full-width forms stand in ASCII's order.
    let offset = u32::from(c).checked_sub(u32::from('！'))?;
    let offset = usize::try_from(offset).ok()?;
    ASCII.get(offset..=offset)
}

/// The text in the GSM 7-bit alphabet; `None` if it is to stay as it is.
pub fn transliterate(text: &SmsText) -> Option<SmsText> {
    let before = plan(text);
    if before.encoding == Encoding::Gsm7 {
        return None;
    }
    let mut written = String::with_capacity(text.as_str().len());
    for c in text.as_str().chars() {
        match gsm7::encode(c) {
            Some(_) => written.push(c),
            None => written.push_str(look_alike(c)?),
        }
    }
    SmsText::new(&written).ok().filter(|made| plan(made).count <= before.count)
}

/// Characters, and what stands for each of them.
#[rustfmt::skip]
const LOOK_ALIKES: &[(&str, &str)] = &[
    // Typography.
    ("\u{2018}\u{2019}\u{201A}\u{201B}\u{2032}\u{2035}´`｀\u{02B9}\u{02BB}\u{02BC}", "'"),
    ("\u{201C}\u{201D}\u{201E}\u{201F}\u{2033}\u{2036}«»〝〞", "\""),
    ("‹", "<"), ("›", ">"),
    ("\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}", "-"),
    ("…", "..."), ("‥", ".."), ("•", "*"), ("·。｡", "."), ("、､", ","), ("⁄", "/"), ("¦", "|"),
    // Spaces, a tab among them; other line ends.
    ("\t\u{A0}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200A}\u{202F}\u{205F}\u{3000}", " "),
    ("\u{85}\u{2028}\u{2029}", "\n"),
    // Nobody sees these: soft hyphen, zero-width space, marks of direction, word joiner, byte order mark.
    ("\u{AD}\u{200B}\u{200E}\u{200F}\u{2060}\u{FEFF}", ""),
    // Signs.
    ("×", "x"), ("©", "(C)"), ("®", "(R)"), ("™", "TM"), ("№", "No"), ("¹", "1"), ("²", "2"), ("³", "3"),
    ("¼", "1/4"), ("½", "1/2"), ("¾", "3/4"), ("ª", "a"), ("º", "o"), ("￥", "¥"), ("￡", "£"),
    // Latin letters with marks; Ä Å Æ É Ñ Ö Ø Ü and à ä å æ è é ì ñ ò ö ø ù ü Ç ß are in the alphabet.
    ("ÀÁÂÃĀĂĄǍẠẢẤẦẨẪẬẮẰẲẴẶ", "A"), ("áâãāăąǎạảấầẩẫậắằẳẵặ", "a"),
    ("ĆĈĊČ", "C"), ("çćĉċč", "c"), ("ÐĎĐ", "D"), ("ðďđ", "d"),
    ("ÈÊËĒĔĖĘĚẸẺẼẾỀỂỄỆ", "E"), ("êëēĕėęěẹẻẽếềểễệ", "e"),
    ("ĜĞĠĢǦ", "G"), ("ĝğġģǧ", "g"), ("ĤĦ", "H"), ("ĥħ", "h"),
    ("ÌÍÎÏĨĪĬĮİǏỈỊ", "I"), ("íîïĩīĭįıǐỉị", "i"), ("Ĵ", "J"), ("ĵ", "j"), ("Ķ", "K"), ("ķ", "k"),
    ("ĹĻĽĿŁ", "L"), ("ĺļľŀł", "l"), ("ŃŅŇ", "N"), ("ńņň", "n"),
    ("ÒÓÔÕŌŎŐƠǑỌỎỐỒỔỖỘỚỜỞỠỢ", "O"), ("óôõōŏőơǒọỏốồổỗộớờởỡợ", "o"), ("ŔŖŘ", "R"), ("ŕŗř", "r"),
    ("ŚŜŞŠȘ", "S"), ("śŝşšș", "s"), ("ŢŤŦȚ", "T"), ("ţťŧț", "t"),
    ("ÙÚÛŨŪŬŮŰŲƯǓỤỦỨỪỬỮỰ", "U"), ("úûũūŭůűųưǔụủứừửữự", "u"), ("ǕǗǙǛ", "Ü"), ("ǖǘǚǜ", "ü"),
    ("Ŵ", "W"), ("ŵ", "w"), ("ÝŶŸỲỴỶỸ", "Y"), ("ýÿŷỳỵỷỹ", "y"), ("ŹŻŽ", "Z"), ("źżž", "z"),
    ("Œ", "OE"), ("œ", "oe"), ("Þ", "Th"), ("þ", "th"), ("ẞ", "ß"), ("Ĳ", "IJ"), ("ĳ", "ij"),
    // Greek capitals that look like Latin ones; the alphabet holds the others.
    ("Α", "A"), ("Β", "B"), ("Ε", "E"), ("Ζ", "Z"), ("Η", "H"), ("Ι", "I"), ("Κ", "K"), ("Μ", "M"), ("Ν", "N"),
    ("Ο", "O"), ("Ρ", "P"), ("Τ", "T"), ("Υ", "Y"), ("Χ", "X"),
];

/// ASCII from `!` to `~`, in order; the table above has the one of them that the alphabet lacks.
const ASCII: &str = "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transliterated(text: &str) -> Option<String> {
        transliterate(&SmsText::new(text).unwrap()).map(|t| t.as_str().to_owned())
    }

    #[test]
    fn the_table_leads_into_the_alphabet_and_nothing_stands_in_it_twice() {
        let mut seen = std::collections::HashSet::new();
        for (chars, alike) in LOOK_ALIKES {
            for c in chars.chars() {
                assert!(gsm7::encode(c).is_none(), "{c} needs no look-alike");
                assert!(seen.insert(c), "{c} stands twice");
            }
            assert_eq!(Encoding::of(alike), Encoding::Gsm7, "{chars}");
        }
        for c in '\0'..='\u{FFFF}' {
            let Some(alike) = look_alike(c) else { continue };
            assert!(gsm7::encode(c).is_none() && Encoding::of(alike) == Encoding::Gsm7, "{c}");
            assert!(seen.remove(&c) || ('！'..='～').contains(&c), "{c}");
        }
        assert!(seen.is_empty());
    }

    #[test]
    fn look_alikes() {
        for (text, alike) in [
            ("“It’s – done…”", "\"It's - done...\""),
            ("São\u{A0}Paulo, Łódź, façade", "Sao Paulo, Lodz, facade"),
            ("Ｃｏｄｅ：１２３４。～［｀", "Code:1234.~['"),
            ("ΚΑΛΗΜΕΡΑ", "KAΛHMEPA"),
            ("Nǐ hǎo, lǜsè", "Ni hao, lüsè"),
            ("a\u{200B}b\tc", "ab c"),
        ] {
            assert_eq!(transliterated(text).as_deref(), Some(alike), "{text}");
        }
        for c in ['中', '【', '】', 'я', '😀', 'é', 'a', '°', '\u{1B}', '\u{FF00}', '\u{FF5F}'] {
            assert_eq!(look_alike(c), None, "{c}");
        }
    }

    #[test]
    fn a_text_that_would_not_gain_by_it_stays() {
        for same in ["plain", "“中”", "😀 – done", "\u{200B}"] {
            assert_eq!(transliterated(same), None, "{same}");
        }
        // 70 units of UCS-2 are one part, 210 septets are two.
        assert_eq!(transliterated(&"…".repeat(70)), None);
        assert_eq!(transliterated(&"…".repeat(53)), Some("...".repeat(53)));
        // More than the characters a text may have.
        assert_eq!(transliterated(&format!("{}…", "a".repeat(1_999))), None);
    }

    proptest! {
        #[test]
        fn all_or_nothing(text in "[a-z“”é…ł–ｘ\u{A0}]{1,300}|\\PC{1,100}") {
            let Ok(text) = SmsText::new(&text) else { return Ok(()) };
            if let Some(made) = transliterate(&text) {
                prop_assert_eq!(Encoding::of(made.as_str()), Encoding::Gsm7);
                prop_assert_eq!(plan(&text).encoding, Encoding::Ucs2);
                prop_assert!(plan(&made).count <= plan(&text).count);
                prop_assert_eq!(transliterate(&made), None);
            }
        }
    }
}
