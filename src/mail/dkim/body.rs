//! The body hash: SHA-256 over the relaxed canonical form (RFC 6376 section 3.4.4), as the bytes come.
//!
//! **Promises.** One pass, no copy: stretches of the body that are canonical as they stand, which is most of any mail,
//! are hashed in place. The result does not depend on how the body was cut into chunks.
//!
//! **Expects** CRLF line endings, as [`MailData`](crate::model::MailData) guarantees; other bytes are hashed somehow, and
//! nothing panics.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256};
use memchr::memchr;

/// A body hash in the making.
#[derive(Clone)]
pub struct BodyHash {
    context: Context,
    /// Line ends seen and not hashed: at the end of the body, all but one are dropped.
    line_ends: u64,
    /// White space seen in this line and not hashed: at the end of a line it is dropped.
    gap: bool,
    /// A CR stood at the end of the last chunk.
    cr: bool,
    /// The body is not empty after canonicalisation.
    any: bool,
}

impl BodyHash {
    /// Starts.
    pub fn new() -> Self {
        Self { context: Context::new(&SHA256), line_ends: 0, gap: false, cr: false, any: false }
    }

    /// The hash of a whole body.
    pub fn of(body: &[u8]) -> [u8; 32] {
        let mut hash = Self::new();
        hash.update(body);
        hash.finish()
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        if std::mem::take(&mut self.cr) && chunk[0] != b'\n' {
            self.put(b"\r");
        }
        // Bytes of this chunk that are canonical as they stand and wait to be hashed in one go.
        let mut run = 0..0;
        let mut at = 0;
        while at < chunk.len() {
            let line_end = memchr(b'\n', &chunk[at..]).map(|n| at + n);
            let mut end = line_end.unwrap_or(chunk.len());
            if chunk[at..end].last() == Some(&b'\r') {
                end -= 1;
                self.cr = line_end.is_none();
            }
            self.line(chunk, at..end, &mut run);
            if line_end.is_some() {
                self.gap = false;
                self.line_ends += 1;
            }
            at = line_end.map_or(chunk.len(), |n| n + 1);
        }
        self.context.update(&chunk[run]);
    }

    /// The hash.
    pub fn finish(mut self) -> [u8; 32] {
        if self.cr {
            self.put(b"\r");
        }
        if self.any {
            self.context.update(b"\r\n");
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.finish().as_ref());
        hash
    }

    /// A line of the chunk, or what there is of it, without its line end.
    fn line(&mut self, chunk: &[u8], line: Range<usize>, run: &mut Range<usize>) {
        if line.start == line.end {
            return;
        }
        if self.gap || !is_canonical(&chunk[line.clone()]) {
            self.context.update(&chunk[std::mem::take(run)]);
            self.ragged(&chunk[line]);
        } else if run.start == run.end {
            self.flush();
            *run = line;
        } else {
            // Nothing but line ends lies between the run and this line.
            run.end = line.end;
            self.line_ends = 0;
        }
    }

    /// Text with white space in it that does not stay as it is.
    fn ragged(&mut self, text: &[u8]) {
        for word in text.chunk_by(|a, b| is_white(*a) == is_white(*b)) {
            if is_white(word[0]) { self.gap = true } else { self.put(word) }
        }
    }

    fn put(&mut self, text: &[u8]) {
        self.flush();
        self.context.update(text);
    }

    /// Hashes what was held back, now that more text follows.
    fn flush(&mut self) {
        const LINE_ENDS: &[u8] = b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
        while self.line_ends > 0 {
            let some = self.line_ends.min(LINE_ENDS.len() as u64 / 2);
            self.context.update(&LINE_ENDS[..some as usize * 2]);
            self.line_ends -= some;
        }
        if std::mem::take(&mut self.gap) {
            self.context.update(b" ");
        }
        self.any = true;
    }
}

impl Default for BodyHash {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyHash(…)")
    }
}

fn is_white(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// True for a line, not empty, that relaxed canonicalisation leaves alone. Written without an early exit, so that the
/// compiler makes vector code of it.
fn is_canonical(line: &[u8]) -> bool {
    let changed = line
        .iter()
        .zip(&line[1..])
        .fold(false, |changed, (a, b)| changed | (*a == b'\t') | ((*a == b' ') & (*b == b' ')));
    !changed && !line.last().copied().is_some_and(is_white)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    /// RFC 6376 section 3.4.4, step by step.
    fn naive(body: &[u8]) -> Vec<u8> {
        let text: String = body.iter().map(|b| char::from(*b)).collect();
        let mut lines: Vec<String> = text
            .split("\r\n")
            .map(|line| {
                let mut out = String::new();
                for c in line.trim_end_matches([' ', '\t']).chars() {
                    match c {
                        ' ' | '\t' if out.ends_with(' ') => {}
                        ' ' | '\t' => out.push(' '),
                        c => out.push(c),
                    }
                }
                out
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().flat_map(|l| l.chars().map(|c| c as u8).chain(*b"\r\n")).collect()
    }

    fn naive_hash(body: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, &naive(body)).as_ref());
        out
    }

    #[test]
    fn rfc_6376_examples() {
        assert_eq!(naive(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n", "section 3.4.5");
        assert_eq!(BodyHash::of(b" C \r\nD \t E\r\n\r\n\r\n"), naive_hash(b" C\r\nD E\r\n"));
        // Section 3.4.4: the hash of an empty body.
        assert_eq!(STANDARD.encode(BodyHash::of(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for blank in ["\r\n", "\r\n\r\n\r\n", "  \r\n", " \t\r\n\r\n \r\n", " "] {
            assert_eq!(BodyHash::of(blank.as_bytes()), BodyHash::of(b""), "{blank:?}");
        }
        assert_eq!(BodyHash::of(b"Hello!\r\n  \r\n\r\n"), BodyHash::of(b"Hello!\r\n"));
        assert_eq!(BodyHash::of(b"Hello!"), BodyHash::of(b"Hello!\r\n"));
        assert_ne!(BodyHash::of(b"Hello!"), BodyHash::of(b"\r\nHello!\r\n"));
        assert_ne!(BodyHash::of(b".\r\n"), BodyHash::of(b"..\r\n"));
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => Just(b"\r\n".to_vec()),
            2 => Just(b" ".to_vec()),
            1 => Just(b"\t".to_vec()),
            2 => Just(b"x".to_vec()),
            1 => Just(b"a line of words".to_vec()),
            1 => Just(b".".to_vec()),
            1 => Just(vec![0xe4]),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|p| p.concat())
    }

    proptest! {
        #[test]
        fn streamed_is_naive(body in body()) {
            prop_assert_eq!(BodyHash::of(&body), naive_hash(&body));
        }

        #[test]
        fn cuts_do_not_matter(body in body(), other in any::<prop::sample::Index>()) {
            let whole = BodyHash::of(&body);
            for cut in 0..=body.len() {
                let second = cut + other.index(body.len() - cut + 1);
                let mut hash = BodyHash::new();
                hash.update(&body[..cut]);
                hash.update(&body[cut..second]);
                hash.update(&body[second..]);
                prop_assert_eq!(hash.finish(), whole, "cut at {} and {}", cut, second);
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            let mut hash = BodyHash::new();
            hash.update(&bytes[..cut]);
            hash.update(&bytes[cut..]);
            hash.finish();
        }
    }
}
