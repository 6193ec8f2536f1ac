//! The parts of any text are as many as planned, fit into a short message, and put together are the text; no part alone shows
//! half a character. Whatever octets come in, a header is read within its bounds and the rest is shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::model::SmsText;
use postrider::sms::{Alphabet, Encoding, decode, parts, plan, split_header};

fuzz_target!(|input: &[u8]| {
    let Some((&reference, input)) = input.split_first() else { return };
    if let Some((header, content)) = split_header(input) {
        assert!(input.ends_with(content) && content.len() < input.len());
        assert!(header.is_none_or(|found| (1..=found.total).contains(&found.number)));
    }
    for alphabet in [Alphabet::Gsm7, Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2, Alphabet::Gbk] {
        assert!(alphabet.words(input).map_or(0, |words| words.chars().count()) <= input.len());
    }
    for coding in [0, 1, 3, 8, 0xF1] {
        assert!(decode(coding, input).chars().count() <= input.len());
    }

    let Ok(text) = SmsText::new(&String::from_utf8_lossy(input)) else { return };
    let (planned, made) = (plan(&text), parts(&text, reference));
    assert_eq!((made.parts.len(), made.encoding), (planned.count, planned.encoding));
    assert_eq!((made.udhi, made.data_coding), (planned.count > 1, planned.encoding.data_coding()));
    let room = match (made.encoding, made.udhi) {
        (Encoding::Gsm7, false) => 160,
        (Encoding::Gsm7, true) => 6 + 153,
        (Encoding::Ucs2, _) => 140,
    };
    let mut together = String::new();
    for (i, part) in made.parts.iter().enumerate() {
        assert!(part.len() <= room && (part.len() > 6 || !made.udhi));
        let content = match split_header(part).filter(|_| made.udhi) {
            Some((header, content)) => {
                let header = header.expect("each part says which it is");
                assert_eq!((header.reference, usize::from(header.number)), (reference.into(), i + 1));
                assert_eq!(usize::from(header.total), planned.count);
                content
            }
            None => part,
        };
        together += &decode(made.data_coding, content);
    }
    // Half a character would have come out as U+FFFD.
    assert_eq!(together, text.as_str());
});
