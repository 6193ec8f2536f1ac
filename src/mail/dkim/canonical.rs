//! Header fields in relaxed canonical form (RFC 6376 section 3.4.2), and the choice of those that are signed.

use crate::mail::header::{Field, fields};

/// The signed part of a header section: everything the signature covers but the signature field itself.
pub(super) struct SignedHeader {
    /// The names for `h=`, in order.
    pub names: Vec<&'static str>,
    /// The fields in canonical form.
    pub canonical: Vec<u8>,
}

impl SignedHeader {
    /// Chooses fields of a header section by [`SIGNED`].
    pub fn of(section: &[u8]) -> Self {
        let mut found: [Vec<Field<'_>>; SIGNED.len()] = Default::default();
        for field in fields(section) {
            if let Some(at) = SIGNED.iter().position(|(name, _)| field.is(name)) {
                found[at].push(field);
            }
        }
        let mut signed = Self { names: Vec::with_capacity(SIGNED.len() * 2), canonical: Vec::with_capacity(1024) };
        for ((name, guard), instances) in SIGNED.iter().zip(&found) {
            // RFC 6376 section 5.4.2: instances of one name are taken from the bottom up.
            for field in instances.iter().rev().take(INSTANCES_MAX) {
                signed.names.push(name);
                relaxed_field(field, &mut signed.canonical);
            }
            let guarded = match guard {
                Guard::Always => instances.len() < INSTANCES_MAX,
                Guard::WherePresent => (1..INSTANCES_MAX).contains(&instances.len()),
                Guard::Never => false,
            };
            if guarded {
                signed.names.push(name);
            }
        }
        signed
    }
}

/// Whether a name stands in `h=` once more than there are fields of it, so that adding another breaks the signature
/// (RFC 6376 section 8.15).
#[derive(Clone, Copy)]
enum Guard {
    /// Also where there is no such field yet: recipients are shown these.
    Always,
    /// Where there is at least one.
    WherePresent,
    /// Lists and forwarders add these in good faith.
    Never,
}

/// What is signed (RFC 6376 section 5.4.1; RFC 8058 section 4 asks for both List-Unsubscribe fields, RFC 8460
/// section 5.3 for its own).
const SIGNED: [(&str, Guard); 20] = [
    ("from", Guard::Always),
    ("to", Guard::Always),
    ("cc", Guard::Always),
    ("subject", Guard::Always),
    ("reply-to", Guard::Always),
    ("date", Guard::WherePresent),
    ("message-id", Guard::WherePresent),
    ("sender", Guard::Never),
    ("mime-version", Guard::WherePresent),
    ("content-type", Guard::WherePresent),
    ("content-transfer-encoding", Guard::WherePresent),
    ("in-reply-to", Guard::Never),
    ("references", Guard::Never),
    ("list-id", Guard::Never),
    ("list-unsubscribe", Guard::WherePresent),
    ("list-unsubscribe-post", Guard::WherePresent),
    ("feedback-id", Guard::Never),
    ("auto-submitted", Guard::Never),
    ("tls-report-domain", Guard::WherePresent),
    ("tls-report-submitter", Guard::WherePresent),
];

/// More fields of one name than this are not all signed: `h=` must not grow with what a client sends.
const INSTANCES_MAX: usize = 16;

/// Appends a field in relaxed canonical form, with its CRLF.
pub(super) fn relaxed_field(field: &Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut gap = false;
    let value_at = out.len();
    for &b in field.folded_value() {
        match b {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => gap = true,
            b => {
                if std::mem::take(&mut gap) && out.len() > value_at {
                    out.push(b' ');
                }
                out.push(b);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relaxed(header: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for field in fields(header) {
            relaxed_field(&field, &mut out);
        }
        out
    }

    #[test]
    fn rfc_6376_example() {
        // Section 3.4.5.
        assert_eq!(relaxed(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n"), b"a:X\r\nb:Y Z\r\n");
        assert_eq!(
            relaxed(b"Subject:\r\n folded at once\r\nEmpty: \r\n \r\nLast: x"),
            b"subject:folded at once\r\nempty:\r\nlast:x\r\n"
        );
    }

    #[test]
    fn instances_are_signed_from_the_bottom_up_and_guarded() {
        let signed = SignedHeader::of(b"To: 1\r\nFrom: a\r\nX-Other: x\r\nto: 2\r\nDate: d\r\n\r\nTo: in the body");
        let names = signed.names.join(":");
        assert_eq!(names, "from:from:to:to:to:cc:subject:reply-to:date:date");
        assert_eq!(signed.canonical, b"from:a\r\nto:2\r\nto:1\r\ndate:d\r\n");
    }

    #[test]
    fn a_flood_of_one_name_does_not_flood_the_signature() {
        let many = "To: x\r\n".repeat(1_000);
        let signed = SignedHeader::of(many.as_bytes());
        assert_eq!(signed.names.iter().filter(|n| **n == "to").count(), INSTANCES_MAX);
    }

    proptest! {
        #[test]
        fn white_space_does_not_count(words in proptest::collection::vec("[a-z]{1,5}", 1..6),
                                      gaps in proptest::collection::vec("( |\t|\r\n |\r\n\t){1,3}", 6)) {
            let mut folded = b"Name:".to_vec();
            for (word, gap) in words.iter().zip(&gaps) {
                folded.extend_from_slice(gap.as_bytes());
                folded.extend_from_slice(word.as_bytes());
            }
            folded.extend_from_slice(gaps[0].as_bytes());
            folded.extend_from_slice(b"\r\n");
            prop_assert_eq!(relaxed(&folded), format!("name:{}\r\n", words.join(" ")).into_bytes());
        }
    }
}
