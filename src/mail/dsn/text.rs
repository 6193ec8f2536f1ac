//! Text as notifications need it: printable, folded, in lines of bounded length, in or out of xtext.

use std::fmt::Write;

use crate::limits::DATA_LINE_BYTES_MAX;

/// Longest piece of somebody else's text in a notification; a reply may be 64 KiB long, once for each recipient.
const PRINTABLE_CHARS_MAX: usize = 1_000;

/// Where lines that people read are folded, if a space allows it.
const FOLD_BYTES: usize = 76;

/// The text without control characters, runs of white space made one space, cut at 1,000 characters.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(PRINTABLE_CHARS_MAX));
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty());
    let mut room = PRINTABLE_CHARS_MAX;
    for word in words {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().take(room));
        room = room.saturating_sub(word.chars().count() + 1);
        if room == 0 {
            break;
        }
    }
    out
}

/// Appends a line, folded at spaces: each further line begins with `indent`. A word too long for any line is broken.
pub(super) fn fold_into(text: &mut String, line: &str, indent: &str) {
    let mut column = 0;
    for word in line.split(' ') {
        if column > 0 {
            let fits = column + 1 + word.len() <= FOLD_BYTES;
            text.push_str(if fits { " " } else { "\r\n" });
            text.push_str(if fits { "" } else { indent });
            column = if fits { column + 1 } else { indent.len() };
        }
        for c in word.chars() {
            if column + c.len_utf8() > DATA_LINE_BYTES_MAX {
                text.push_str("\r\n");
                text.push_str(indent);
                column = indent.len();
            }
            text.push(c);
            column += c.len_utf8();
        }
    }
    text.push_str("\r\n");
}

/// Appends lines of somebody else's mail, each ended by CRLF; one over 998 octets goes on in the next, behind `indent`,
/// and no UTF-8 character is torn.
pub(super) fn push_lines(out: &mut Vec<u8>, lines: &[u8], indent: &str) {
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let mut rest = line.strip_suffix(b"\r\n").unwrap_or(line);
        let mut room = DATA_LINE_BYTES_MAX;
        while rest.len() > room {
            let is_start = |at: &usize| rest[*at] & 0xc0 != 0x80;
            let cut = (room - 3..=room).rev().find(is_start).unwrap_or(room);
            out.extend_from_slice(&rest[..cut]);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(indent.as_bytes());
            rest = &rest[cut..];
            room = DATA_LINE_BYTES_MAX - indent.len();
        }
        out.extend_from_slice(rest);
        out.extend_from_slice(b"\r\n");
    }
}

/// Undoes xtext (RFC 3461 section 4): `+` and two hexadecimal digits are an octet. What is no xtext stays as it is.
pub(super) fn decode_xtext(xtext: &str) -> String {
    let mut out = Vec::with_capacity(xtext.len());
    let mut rest = xtext.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let octet =
            digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|d| u8::from_str_radix(d, 16).ok());
        match octet {
            Some(octet) if *first == b'+' => {
                out.push(octet);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An address as the delivery-status part writes it: one in ASCII as it is, any other in RFC 6533's utf-8-addr-xtext.
pub(super) fn ascii_address(address: &str) -> String {
    if address.is_ascii() {
        return address.to_owned();
    }
    let mut out = String::with_capacity(address.len() * 2);
    for c in address.chars() {
        match c {
            '!'..='~' if !"+=\\".contains(c) => out.push(c),
            c => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn xtext_is_undone() {
        assert_eq!(decode_xtext("a+2Bb+3Dc@example.com"), "a+b=c@example.com");
        assert_eq!(decode_xtext("+E5+BC+A0"), "张");
        assert_eq!(decode_xtext("a+b+"), "a+b+");
        assert_eq!(decode_xtext("+2"), "+2");
    }

    #[test]
    fn addresses_are_spelt_in_ascii() {
        assert_eq!(ascii_address("a+b@example.com"), "a+b@example.com");
        assert_eq!(ascii_address("张+b@例子.公司"), "\\x{5F20}\\x{2B}b@\\x{4F8B}\\x{5B50}.\\x{516C}\\x{53F8}");
    }

    #[test]
    fn text_is_printable_and_bounded() {
        assert_eq!(printable(" 550 no\r\nStatus: 2.0.0\u{7}\tx "), "550 no Status: 2.0.0 x");
        assert_eq!(printable(&"x".repeat(5_000)).len(), PRINTABLE_CHARS_MAX);
        assert!(printable(&"x ".repeat(5_000)).len() <= PRINTABLE_CHARS_MAX + 1);
    }

    proptest! {
        #[test]
        fn lines_are_never_too_long(text in "(ä|x| |€){0,40}", times in 1usize..80) {
            let long = text.repeat(times);
            let mut folded = String::new();
            fold_into(&mut folded, &printable(&long), " ");
            let mut copied = Vec::new();
            push_lines(&mut copied, long.as_bytes(), " ");
            for line in folded.as_bytes().split(|b| *b == b'\n').chain(copied.split(|b| *b == b'\n')) {
                prop_assert!(line.len() <= DATA_LINE_BYTES_MAX + 1);
            }
            prop_assert!(String::from_utf8(copied.clone()).is_ok());
            let joined = String::from_utf8(copied).unwrap().replace("\r\n ", "").replace("\r\n", "");
            prop_assert_eq!(joined, long);
        }
    }
}
