//! Delivery receipts: SMPP 3.4 appendix B as carriers really write it, and the ids by which they are matched.
//!
//! **Promises.** The TLVs (`receipted_message_id`, `message_state`) win over the text. Fields may be missing, in any case
//! and any order; dates may have 10, 12 or 14 digits. No input panics; what goes into events is printable and bounded.
//!
//! **Does not know** PDUs: the caller hands over text and TLV values.

use crate::clock::Timestamp;
use crate::model::ReceiptState;

/// Longest id that is matched: an SMPP message id has at most 64 octets.
const ID_BYTES_MAX: usize = 64;
/// Longest word kept of `stat` and `err`.
const WORD_BYTES_MAX: usize = 16;

/// What a receipt says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiptText {
    /// The id, as written.
    pub id: String,
    /// The verdict; [`ReceiptState::Unknown`] where the carrier's word is not one of the standard's.
    pub state: ReceiptState,
    /// The carrier's own words, `stat:DELIVRD err:000`.
    pub words: String,
    /// `done date`, read as UTC; carriers mean their own local time and rarely say which.
    pub done: Option<Timestamp>,
}

/// Reads a receipt from its text and, where present, its TLVs. `None` if no id can be found: nothing could match it.
pub fn parse(text: &[u8], tlv_id: Option<&[u8]>, tlv_state: Option<u8>) -> Option<ReceiptText> {
    let text = String::from_utf8_lossy(text);
    let fields = before_quote(&text);
    let tlv_id = tlv_id.map(|id| word(&String::from_utf8_lossy(id), ID_BYTES_MAX)).filter(|id| !id.is_empty());
    let id = tlv_id.or_else(|| field(fields, &["id"]).map(|id| word(id, ID_BYTES_MAX))).filter(|id| !id.is_empty())?;
    let stat = field(fields, &["stat"]).map(|s| word(s, WORD_BYTES_MAX));
    let err = field(fields, &["err"]).map(|s| word(s, WORD_BYTES_MAX));
    let state = tlv_state
        .and_then(state_of_octet)
        .or_else(|| stat.as_deref().and_then(state_of_word))
        .unwrap_or(ReceiptState::Unknown);
    let mut words = match (&stat, tlv_state) {
        (Some(stat), _) => format!("stat:{stat}"),
        (None, Some(octet)) => format!("message_state:{octet}"),
        (None, None) => "no stat".to_owned(),
    };
    push_err(&mut words, err);
    let done = field(fields, &["done date", "done_date", "donedate"]).and_then(date);
    Some(ReceiptText { id, state, words, done })
}

/// Reads a `stat` and an `err` that stand in fields of their own, as in the reports of CMPP, which has no `err`, and SMGP: the
/// verdict, if the word is one of the standard's, and the carrier's own words as in [`ReceiptText::words`].
pub fn read_stat(stat: &[u8], err: Option<&[u8]>) -> (Option<ReceiptState>, String) {
    let shown = |octets| word(&String::from_utf8_lossy(octets), WORD_BYTES_MAX);
    let (stat, err) = (shown(stat), err.map(shown));
    let mut words = format!("stat:{stat}");
    push_err(&mut words, err);
    (state_of_word(&stat), words)
}

fn push_err(words: &mut String, err: Option<String>) {
    if let Some(err) = err {
        words.push_str(" err:");
        words.push_str(&err);
    }
}

/// Writes a receipt's text by appendix B.
pub fn write(id: &str, state: ReceiptState, submitted: Timestamp, done: Timestamp, quote: &str) -> String {
    let (stat, delivered, err) = match state {
        ReceiptState::Underway => ("ACCEPTD", 0, 0u8),
        ReceiptState::Delivered => ("DELIVRD", 1, 0),
        ReceiptState::Expired => ("EXPIRED", 0, 1),
        ReceiptState::Undeliverable => ("UNDELIV", 0, 1),
        ReceiptState::Rejected => ("REJECTD", 0, 1),
        ReceiptState::Unknown => ("UNKNOWN", 0, 1),
    };
    write_words(id, stat, delivered, &format!("{err:03}"), submitted, done, quote)
}

/// The same in words of one's own: `stat` is one of the standard's, `delivered` how many parts arrived, `err` three characters.
pub fn write_words(
    id: &str,
    stat: &str,
    delivered: u8,
    err: &str,
    submitted: Timestamp,
    done: Timestamp,
    quote: &str,
) -> String {
    let quote: String = quote.chars().filter(|c| c.is_ascii() && !c.is_control()).take(20).collect();
    format!(
        "id:{id} sub:001 dlvrd:{delivered:03} submit date:{} done date:{} stat:{stat} err:{err} text:{quote}",
        short_date(submitted),
        short_date(done),
    )
}

/// The form under which a carrier's id is kept for matching: without case and leading zeros, which carriers lose.
pub fn id_key(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
    let stripped = id.trim_start_matches('0');
    if stripped.is_empty() && !id.is_empty() { "0".to_owned() } else { stripped.to_owned() }
}

/// The keys a receipt's id may stand under, most likely first, without repeats.
///
/// Keep parts under the [`id_key`] of the answer's id, and look a receipt up under each of these in turn. Carriers give
/// an id in hexadecimal and quote it in decimal, or the other way round.
pub fn id_forms(id: &str) -> Vec<String> {
    let key = id_key(id);
    let mut forms = Vec::with_capacity(3);
    if key.len() <= ID_BYTES_MAX {
        if let Some(value) = number(&key, 10) {
            forms.push(format!("{value:x}"));
        }
        if let Some(value) = number(&key, 16) {
            forms.push(value.to_string());
        }
    }
    forms.retain(|form| *form != key);
    forms.dedup();
    forms.insert(0, key);
    forms
}

/// Unlike `from_str_radix`, takes no sign.
fn number(text: &str, radix: u32) -> Option<u128> {
    text.chars().all(|c| c.is_digit(radix)).then(|| u128::from_str_radix(text, radix).ok()).flatten()
}

/// The fields, without the quoted start of the message, which may hold anything.
fn before_quote(text: &str) -> &str {
    position(text, "text:").map_or(text, |(start, _)| &text[..start])
}

/// The first of these fields' values: up to white space.
fn field<'a>(text: &'a str, names: &[&str]) -> Option<&'a str> {
    let (_, end) = names.iter().find_map(|name| position(text, &format!("{name}:")))?;
    text[end..].trim_start_matches(' ').split_whitespace().next().filter(|value| !value.contains(':'))
}

/// Where `key` starts and ends, at the start of a word, in any case.
fn position(text: &str, key: &str) -> Option<(usize, usize)> {
    let (haystack, needle) = (text.as_bytes(), key.as_bytes());
    (0..haystack.len().checked_sub(needle.len())? + 1)
        .find(|&at| {
            haystack[at..at + needle.len()].eq_ignore_ascii_case(needle)
                && (at == 0 || haystack[at - 1].is_ascii_whitespace())
        })
        .map(|at| (at, at + needle.len()))
}

/// Printable and bounded.
fn word(text: &str, most: usize) -> String {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
        .chars()
        .filter(char::is_ascii_graphic)
        .take(most)
        .collect()
}

/// P34 section 5.2.28; 0 and 9 are SMPP 5.0's SCHEDULED and SKIPPED.
fn state_of_octet(octet: u8) -> Option<ReceiptState> {
    Some(match octet {
        0 | 1 | 6 => ReceiptState::Underway,
        2 => ReceiptState::Delivered,
        3 => ReceiptState::Expired,
        4 | 5 | 9 => ReceiptState::Undeliverable,
        7 => ReceiptState::Unknown,
        8 => ReceiptState::Rejected,
        _ => return None,
    })
}

/// By the first letters: carriers write DELIVRD and DELIVERED alike.
fn state_of_word(stat: &str) -> Option<ReceiptState> {
    let stat = stat.to_ascii_uppercase();
    let table = [
        ("DELIV", ReceiptState::Delivered),
        ("UNDELIV", ReceiptState::Undeliverable),
        ("EXPIR", ReceiptState::Expired),
        ("DELET", ReceiptState::Undeliverable),
        ("ACCEPT", ReceiptState::Underway),
        ("ENROUTE", ReceiptState::Underway),
        ("BUFFER", ReceiptState::Underway),
        ("REJECT", ReceiptState::Rejected),
        ("FAILED", ReceiptState::Undeliverable),
        ("UNKNOWN", ReceiptState::Unknown),
    ];
    table.into_iter().find(|(prefix, _)| stat.starts_with(prefix)).map(|(_, state)| state)
}

/// `YYMMDDhhmm`, with seconds, or with seconds and century.
fn date(digits: &str) -> Option<Timestamp> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (century, rest) = match digits.len() {
        10 | 12 => ("20", digits),
        14 => digits.split_at(2),
        _ => return None,
    };
    let pair = |i: usize| rest.get(2 * i..2 * i + 2).unwrap_or("00");
    Timestamp::parse_rfc3339(&format!(
        "{century}{}-{}-{}T{}:{}:{}Z",
        pair(0),
        pair(1),
        pair(2),
        pair(3),
        pair(4),
        pair(5)
    ))
}

fn short_date(at: Timestamp) -> String {
    // 2026-11-23T06:24:00.000000Z → 2611230624
    at.rfc3339().bytes().take(16).skip(2).filter(u8::is_ascii_digit).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn appendix_b_as_written_in_the_field() {
        let read = |text: &str| parse(text.as_bytes(), None, None).unwrap();
        let full = read(
            "id:0123456789 sub:001 dlvrd:001 submit date:2611230624 done date:2611230625 stat:DELIVRD err:000 text:id:9 stat:UNDELIV",
        );
        assert_eq!(full.id, "0123456789");
        assert_eq!(full.state, ReceiptState::Delivered);
        assert_eq!(full.words, "stat:DELIVRD err:000");
        assert_eq!(full.done, Timestamp::parse_rfc3339("2026-11-23T06:25:00Z"));

        let seconds = read("ID:ab-1 Done Date:261123062507 STAT:undeliv Err:0x1F Text:");
        assert_eq!((seconds.id.as_str(), seconds.state), ("ab-1", ReceiptState::Undeliverable));
        assert_eq!(seconds.done, Timestamp::parse_rfc3339("2026-11-23T06:25:07Z"));

        let bare = read("id:7 stat:EXPIRED");
        assert_eq!((bare.state, bare.done), (ReceiptState::Expired, None));
        assert_eq!(read("id:7").state, ReceiptState::Unknown);
        assert_eq!(read("id: 7 stat: REJECTD").state, ReceiptState::Rejected);
        assert_eq!(read("id:7 stat:ACCEPTD").state, ReceiptState::Underway);
        assert_eq!(read("id:7 done date:9999999999 stat:ENROUTE").done, None);
        assert_eq!(parse(b"stat:DELIVRD", None, None), None);
        assert_eq!(parse(b"id: stat:DELIVRD", None, None), None);
        assert_eq!(parse(b"paid:7", None, None), None);
        assert_eq!(parse(b"", None, None), None);
    }

    #[test]
    fn tlvs_win_over_the_text() {
        let read = parse(b"id:1 stat:DELIVRD", Some(b"a1b2\0"), Some(5)).unwrap();
        assert_eq!((read.id.as_str(), read.state), ("a1b2", ReceiptState::Undeliverable));
        let tlv_only = parse(b"", Some(b"a1"), Some(2)).unwrap();
        assert_eq!((tlv_only.state, tlv_only.words.as_str()), (ReceiptState::Delivered, "message_state:2"));
        // An octet the standard does not know leaves the text's word.
        assert_eq!(parse(b"id:1 stat:DELIVRD", None, Some(77)).unwrap().state, ReceiptState::Delivered);
    }

    #[test]
    fn an_answers_id_is_found_whatever_form_its_receipt_takes() {
        for (answer, receipt) in [
            ("a1b2c3", "A1B2C3"),
            ("00a1b2c3", "a1b2c3"),
            ("7B", "123"),
            ("0000007b", "0000000123"),
            ("123", "7b"),
            ("0123", "123"),
            ("0", "000"),
            ("550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440000"),
            ("ffffffffffffffffffffffffffffffff", "340282366920938463463374607431768211455"),
        ] {
            assert!(id_forms(receipt).contains(&id_key(answer)), "{answer} {receipt} {:?}", id_forms(receipt));
        }
        assert_eq!(id_forms("123")[0], "123", "the id as written comes first");
        assert!(!id_forms("124").contains(&id_key("7b")));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(id in "[0-9a-zA-Z-]{1,64}", seconds in 1_000_000_000u64..4_000_000_000, quote in "\\PC{0,30}") {
            for state in [
                ReceiptState::Underway, ReceiptState::Delivered, ReceiptState::Expired,
                ReceiptState::Undeliverable, ReceiptState::Rejected, ReceiptState::Unknown,
            ] {
                let at = Timestamp::from_seconds(seconds / 60 * 60);
                let read = parse(write(&id, state, at, at, &quote).as_bytes(), None, None).unwrap();
                prop_assert_eq!(&read.id, &id);
                prop_assert_eq!(read.state, state);
                prop_assert_eq!(read.done, Some(at));
            }
        }

        #[test]
        fn no_octets_panic(
            octets in proptest::collection::vec(any::<u8>(), 0..200),
            text in "(id:|stat:|text:|err:|done date:| |:|\\PC){0,40}",
            tlv in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
            state in proptest::option::of(any::<u8>()),
        ) {
            for input in [&octets[..], text.as_bytes()] {
                if let Some(read) = parse(input, tlv.as_deref(), state) {
                    prop_assert!(!read.id.is_empty() && read.id.len() <= ID_BYTES_MAX);
                    prop_assert!(read.words.bytes().all(|b| (b' '..=b'~').contains(&b)));
                }
            }
            let _ = (id_forms(&text), id_key(&text));
        }
    }
}
