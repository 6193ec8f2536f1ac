//! Of any octets, the fields are the header section and nothing else, in order, and no value keeps a fold. A From field that
//! shows an address in angle brackets is refused, or the address's domain is among those found, whatever stands around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::mail::from_domains;
use postrider::mail::header::fields;

fuzz_target!(|input: &[u8]| {
    let section = fields(input).section_bytes();
    let raw = fields(input).map(|field| field.raw()).collect::<Vec<_>>().concat();
    assert!(input[..section].starts_with(&raw));
    assert!(matches!(&input[raw.len()..section], b"" | b"\n" | b"\r\n" | b"\r"));
    for field in fields(input) {
        assert!(field.raw().starts_with(field.name()));
        assert!(!field.value().contains(&b'\n'));
        assert!(field.folded_value().len() <= field.raw().len());
    }
    if let Ok(domains) = from_domains(input) {
        assert!((1..=64).contains(&domains.len()));
    }

    let around: Vec<u8> = input.iter().copied().filter(|octet| !b"\r\n\0".contains(octet)).collect();
    let (before, after) = around.split_at(around.len() / 2);
    // Inside quotes or a comment, and behind a backslash, brackets are no brackets.
    if !before.iter().any(|octet| b"\"(\\".contains(octet)) {
        let shown = [b"From: ", before, b"<a@target.example>", after, b"\r\n\r\n"].concat();
        if let Ok(domains) = from_domains(&shown) {
            assert!(domains.iter().any(|domain| domain.as_str() == "target.example"), "{}", shown.escape_ascii());
        }
    }
});
