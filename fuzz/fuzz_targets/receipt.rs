//! Whatever a receipt holds, what is read of it is printable and bounded; a receipt of ours reads back; and two ids match one
//! way round if they match the other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::clock::Timestamp;
use postrider::sms::receipt::{id_forms, id_key, parse, write};

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, state, at], text)) = input.split_first_chunk() else { return };
    let (tlv, text) = text.split_at(usize::from(at).min(text.len()));
    let tlv_id = (flags & 1 != 0).then_some(tlv);
    let Some(read) = parse(text, tlv_id, (flags & 2 != 0).then_some(state)) else { return };
    assert!((1..=64).contains(&read.id.len()) && read.id.bytes().all(|octet| octet.is_ascii_graphic()));
    assert!(read.words.len() <= 64 && !read.words.contains(|c: char| c != ' ' && !c.is_ascii_graphic()));

    let key = id_key(&read.id);
    let forms = id_forms(&read.id);
    assert_eq!((forms.first(), id_key(&key).as_str()), (Some(&key), key.as_str()));
    assert!(!key.is_empty() && forms.len() <= 3);
    for (i, form) in forms.iter().enumerate() {
        assert!(!forms[..i].contains(form), "{form} twice");
        assert!(id_forms(form).contains(&key), "{key} leads to {form} but not back");
    }

    let now = Timestamp::from_seconds(1_795_415_040);
    let words = String::from_utf8_lossy(text);
    // A colon, which only a TLV's id may hold, would end a field of the text.
    if read.id.contains(':') {
        return;
    }
    let again = parse(write(&read.id, read.state, now, now, &words).as_bytes(), None, None).expect("it has an id");
    assert_eq!((again.done, again.id), (Some(now), read.id));
    assert_eq!(again.state, read.state);
    assert_ne!(again.words, "no stat");
});
