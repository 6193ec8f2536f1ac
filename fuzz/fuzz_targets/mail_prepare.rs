//! Of any mail that is prepared, the body stays octet for octet, and so does every field but Bcc, Resent-Bcc and
//! `X-Postrider-*`, which go. The result is clean, its header section ends where it says, its octets above 127 are where it
//! says, its author's domains are those of its own header section; and a relay behind us would take it for as good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::clock::Timestamp;
use postrider::mail::dkim::BodyHash;
use postrider::mail::header::{Field, fields};
use postrider::mail::{Trace, body, from_domains, header_section, prepare};
use postrider::model::{BodyKind, MessageId};
use postrider_fuzz::{is_clean, mail};

fuzz_target!(|input: &[u8]| {
    let trace = Trace {
        helo: Some("app.example"),
        peer: [192, 0, 2, 7].into(),
        by: "relay.example",
        protocol: "ESMTPSA",
        tls: None,
        id: MessageId::from_bytes([9; 16]),
        only_recipient: None,
        time: Timestamp(1_795_415_040_000_000),
        hops_max: 5,
    };
    let original = mail(input);
    let Ok(made) = prepare(original.clone(), &trace) else { return };
    let section = header_section(&made.data, made.header_bytes);
    let below = &original.bytes()[fields(original.bytes()).section_bytes()..];

    assert!(is_clean(&made.data));
    assert_eq!(fields(made.data.bytes()).section_bytes(), section.len());
    assert_eq!(body(&made.data, made.header_bytes), below);
    assert_eq!(made.body_hash, BodyHash::of(below));
    assert_eq!(made.utf8_header, !section.is_ascii());
    assert_eq!(made.body == BodyKind::EightBit, !made.data.bytes().is_ascii());
    assert_eq!(from_domains(section).as_ref(), Ok(&made.from_domains));

    assert!(!fields(section).any(|field| goes(&field)));
    let kept: Vec<_> = fields(original.bytes()).filter(|field| !goes(field)).map(|field| field.raw()).collect();
    let all: Vec<_> = fields(section).map(|field| field.raw()).collect();
    assert!(all.ends_with(&kept));
    let added = all.len() - kept.len();
    assert!((1..=3).contains(&added) && fields(section).next().is_some_and(|field| field.is("Received")));

    let again = prepare(made.data.clone(), &Trace { hops_max: 6, ..trace }).expect("what was good stays good");
    assert_eq!(again.from_domains, made.from_domains);
    assert!(again.data.bytes().ends_with(made.data.bytes()), "nothing is missing and nothing is left to go");
});

fn goes(field: &Field<'_>) -> bool {
    let name = field.name().to_ascii_lowercase();
    name == b"bcc" || name == b"resent-bcc" || name.starts_with(b"x-postrider-")
}
