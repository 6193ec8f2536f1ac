//! Header fields of a mail, in place (RFC 5322 sections 2.1 and 2.2).
//!
//! **What.** [`fields`] walks the header section of raw mail bytes without copying any; [`Fields::section_bytes`] says where
//! the section ends.
//!
//! **Where the section ends.** After the first empty line, which belongs to it. Without an empty line all of the mail is
//! header section. A mail whose first line is no field at all (no `name:`) has an empty header section and is all body.
//! Further down a line that is no field is kept, as a field without a name ([`Field::name`] is empty): it does not end the
//! section, so that nothing behind it escapes notice.
//!
//! **Promises.** Linear in the bytes walked over; any bytes are taken, nothing panics. LF ends a line; in
//! [`MailData`] a CR always stands before it.
//!
//! **Does not know** what any field means.

use std::borrow::Cow;

use memchr::memchr;

use crate::model::MailData;

/// One header field: its name, a colon, its value over one or more lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    raw: &'a [u8],
    name_bytes: usize,
    value_at: usize,
}

impl<'a> Field<'a> {
    /// The name without the colon and without white space before it; empty for a line that is no field.
    pub fn name(&self) -> &'a [u8] {
        &self.raw[..self.name_bytes]
    }

    /// True if the field has this name, whatever its case.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Every byte of the field: name, colon, value, folds and the line end.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What follows the colon, folds included, the last line end not.
    pub fn folded_value(&self) -> &'a [u8] {
        without_line_end(&self.raw[self.value_at..])
    }

    /// The value unfolded (RFC 5322 section 2.2.3), without white space around it.
    pub fn value(&self) -> Cow<'a, [u8]> {
        let folded = self.folded_value().trim_ascii();
        if memchr(b'\n', folded).is_none() {
            return Cow::Borrowed(folded);
        }
        Cow::Owned(folded.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
    }
}

/// The fields of a header section, from the top. Also takes a whole mail: it stops where the section ends.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

/// Walks over the header fields of `bytes`: a mail, or its header section.
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, at: 0, ended: false }
}

impl Fields<'_> {
    /// Bytes of the header section and of the empty line that ends it. Walks over the fields that are left.
    pub fn section_bytes(mut self) -> usize {
        while self.next().is_some() {}
        self.at
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.ended || self.at == self.bytes.len() {
            return None;
        }
        let rest = &self.bytes[self.at..];
        let mut end = line_bytes(rest);
        if without_line_end(&rest[..end]).is_empty() {
            self.at += end;
            self.ended = true;
            return None;
        }
        let name = name_of(&rest[..end]);
        if name.is_none() && self.at == 0 {
            self.ended = true;
            return None;
        }
        while matches!(rest.get(end), Some(b' ' | b'\t')) {
            end += line_bytes(&rest[end..]);
        }
        self.at += end;
        let (name_bytes, value_at) = name.unwrap_or((0, 0));
        Some(Field { raw: &rest[..end], name_bytes, value_at })
    }
}

/// The header section of queued mail and the empty line that ends it; `header_bytes` comes from
/// [`MailOrigin`](crate::model::MailOrigin).
pub fn header_section(data: &MailData, header_bytes: u32) -> &[u8] {
    split(data, header_bytes).0
}

/// The body of queued mail.
pub fn body(data: &MailData, header_bytes: u32) -> &[u8] {
    split(data, header_bytes).1
}

fn split(data: &MailData, header_bytes: u32) -> (&[u8], &[u8]) {
    let at = usize::try_from(header_bytes).unwrap_or(usize::MAX).min(data.len());
    data.bytes().split_at(at)
}

/// Bytes of the first line, its end included.
fn line_bytes(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The length of a line's field name and the offset of its value, if it has a name (RFC 5322 section 3.6.8; the white
/// space that section 4.5 lets stand before the colon is tolerated, because receivers do).
fn name_of(line: &[u8]) -> Option<(usize, usize)> {
    let name = line.iter().take_while(|b| is_ftext(**b)).count();
    let white = line[name..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    (name > 0 && line.get(name + white) == Some(&b':')).then_some((name, name + white + 1))
}

/// RFC 5322 section 3.6.8: printable US-ASCII but the colon.
pub(super) fn is_ftext(b: u8) -> bool {
    b.is_ascii_graphic() && b != b':'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(mail: &str) -> Vec<String> {
        fields(mail.as_bytes()).map(|f| String::from_utf8_lossy(f.name()).into_owned()).collect()
    }

    #[test]
    fn the_section_ends_with_its_empty_line() {
        for (mail, section) in [
            ("", 0),
            ("\r\n", 2),
            ("\r\nbody\r\n", 2),
            ("A: b", 4),
            ("A: b\r\n", 6),
            ("A: b\r\n\r\n", 8),
            ("A: b\r\n\r\n\r\n", 8),
            ("A: b\r\n\r\nC: d\r\n", 8),
            ("A: b\r\n folded\r\n\r\nbody", 17),
            ("no field\r\nA: b\r\n\r\n", 0),
            (" A: b\r\n\r\n", 0),
            ("From me@example.com Mon Nov 23 06:24:00 2026\r\nA: b\r\n\r\n", 0),
            ("A: b\r\nno field\r\nC: d\r\n\r\nbody", 24),
            ("A: b\r\n \r\nC: d\r\n\r\nbody", 17),
        ] {
            assert_eq!(fields(mail.as_bytes()).section_bytes(), section, "{mail:?}");
        }
    }

    #[test]
    fn names_and_values_are_found() {
        assert_eq!(names("A: b\r\nno field\r\n folded\r\nC : d\r\n\r\nE: f\r\n"), ["A", "", "C"]);
        let mail = b"Subject:  one\r\n two \r\n\tthree \r\nNext:\r\n";
        let all: Vec<Field<'_>> = fields(mail).collect();
        assert_eq!(all[0].value().as_ref(), b"one two \tthree");
        assert_eq!(all[0].folded_value(), b"  one\r\n two \r\n\tthree ");
        assert_eq!(all[0].raw(), &mail[..31]);
        assert!(all[0].is("subJECT") && !all[0].is("subjec"));
        assert_eq!((all[1].name(), all[1].value().as_ref()), (b"Next".as_slice(), b"".as_slice()));
    }

    #[test]
    fn a_mail_is_split_where_the_envelope_says() {
        let data = MailData::new(bytes::Bytes::from_static(b"A: b\r\n\r\nbody\r\n")).unwrap();
        assert_eq!(header_section(&data, 8), b"A: b\r\n\r\n");
        assert_eq!(body(&data, 8), b"body\r\n");
        assert_eq!(body(&data, u32::MAX), b"", "a damaged envelope must not panic");
    }

    proptest! {
        #[test]
        fn fields_are_the_section_and_nothing_else(bytes in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'a'), any::<u8>()], 0..64)) {
            let section = fields(&bytes).section_bytes();
            let raw: Vec<u8> = fields(&bytes).flat_map(|f| f.raw().to_vec()).collect();
            prop_assert!(bytes[..section].starts_with(&raw));
            let ending = &bytes[raw.len()..section];
            prop_assert!(matches!(ending, b"" | b"\n" | b"\r\n" | b"\r"), "{:?}", ending);
            for field in fields(&bytes) {
                let _ = (field.value(), field.folded_value());
            }
        }
    }
}
