//! Whatever a description of an HTTP carrier holds, it is read or its mistakes are told; and whatever a carrier answers, what is kept of it
//! is printable and bounded, and only an answer with its id or its code is a yes.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postrider::config::parse_description;
use postrider::egress::sms::http::judged;

const GENERIC: &str = include_str!("../../config/http/generic.toml");

fuzz_target!(|input: &[u8]| {
    let Some((&[status, at], rest)) = input.split_first_chunk() else { return };
    let (written, body) = rest.split_at(usize::from(at).min(rest.len()));
    let name = Path::new("own.toml");
    let written = String::from_utf8_lossy(written);
    if let Err(mistakes) = parse_description(name, &written) {
        assert!(!mistakes.is_empty() && mistakes.iter().all(|mistake| !mistake.wrong.is_empty()));
    }
    let own = parse_description(name, &format!("{GENERIC}{written}")).ok();
    let generic = parse_description(name, GENERIC).expect("it is right");
    let status = 100 + u16::from(status) * 2;
    for description in own.iter().chain([&generic]) {
        let Some((_, words, id)) = judged(description, status, body) else { continue };
        assert!(words.chars().count() <= 200 && !words.contains(char::is_control));
        assert!(id.chars().count() <= 128 && !id.contains(char::is_control));
    }
    if let Some((true, _, id)) = judged(&generic, status, body) {
        assert!((200..300).contains(&status) && !id.is_empty(), "a yes out of nothing");
    }
});
