//! The parts of any text are as many as planned, fit into a short message, and put together are the text; no part alone shows
//! half a character. Whatever octets come in, a header is read within its bounds and the rest is shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::model::SmsText;
use postrider::sms::{Alphabet, Encoding, Language, Repertoire, Shift, decode, decode_part, parts_for, plan_for, split_header};

fuzz_target!(|input: &[u8]| {
    let Some((&reference, input)) = input.split_first() else { return };
    if let Some((header, content)) = split_header(input) {
        assert!(input.ends_with(content) && content.len() < input.len());
        assert!(header.is_none_or(|found| (1..=found.total).contains(&found.number)));
    }
    let tables = Language::ALL.into_iter().flat_map(Shift::of).map(Alphabet::National);
    let alphabets = [Alphabet::Gsm7, Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2, Alphabet::Gbk];
    for alphabet in alphabets.into_iter().chain(tables) {
        assert!(alphabet.words(input).map_or(0, |words| words.chars().count()) <= input.len());
    }
    for coding in [0, 1, 3, 8, 0xF1] {
        assert!(decode(coding, input).chars().count() <= input.len());
    }

    let Ok(text) = SmsText::new(&String::from_utf8_lossy(input)) else { return };
    cut(&text, reference, &Repertoire::default());
    cut(&text, reference, &Repertoire { languages: Language::ALL.to_vec(), ..Repertoire::default() });
});

fn cut(text: &SmsText, reference: u8, known: &Repertoire) {
    let (planned, made) = (plan_for(text, known), parts_for(text, reference, known));
    assert_eq!((made.parts.len(), made.encoding), (planned.count, planned.encoding));
    let names_tables = matches!(made.encoding, Encoding::National(_));
    assert_eq!((made.udhi, made.data_coding), (planned.count > 1 || names_tables, planned.encoding.data_coding()));
    let most = if made.encoding == Encoding::Ucs2 { 140 } else { 160 };
    let mut together = String::new();
    for (i, part) in made.parts.iter().enumerate() {
        assert!(part.len() <= most);
        if let Some((header, content)) = split_header(part).filter(|_| made.udhi) {
            assert!(!content.is_empty() && (header.is_some() || planned.count == 1), "each part says which it is");
            if let Some(header) = header {
                assert_eq!((header.reference, usize::from(header.number)), (reference.into(), i + 1));
                assert_eq!(usize::from(header.total), planned.count);
            }
        }
        together += &decode_part(made.data_coding, made.udhi, part);
    }
    // Half a character would have come out as U+FFFD.
    assert_eq!(together, text.as_str());
}
