//! What is wrong with a configuration, in words that say where and what would be right.
//!
//! **Promises.** One line each: file, line, key, what is wrong, what would be right. A value under a key that holds a
//! secret is never repeated; the readers of such keys make their [`Fault`]s without it.
//!
//! **Does not know** TOML or which keys there are.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One mistake in a configuration file. The file is not used while there is one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mistake {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// Column in characters, from 1; 0 if the file could not be read at all.
    pub column: usize,
    /// The key, such as `listener[0].tls`; empty for a mistake in TOML's own syntax.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; may be empty.
    pub right: String,
}

/// Something that works and is probably not meant. The file is used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key.
    pub key: String,
    /// What is noteworthy.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What a reader of one value has to say against it; the section adds where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) wrong: String,
    /// What would be right.
    pub(super) right: String,
}

impl Fault {
    pub(super) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line, self.column, &self.key)?;
        write_both(f, &self.wrong, &self.right)
    }
}

impl std::error::Error for Mistake {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.line, self.column, &self.key)?;
        write_both(f, &self.what, &self.advice)
    }
}

/// `file:line: key: `; the column only where no key says more.
fn place(f: &mut fmt::Formatter<'_>, file: &Path, line: usize, column: usize, key: &str) -> fmt::Result {
    write!(f, "{}", file.display())?;
    match (line, key.is_empty()) {
        (0, _) => f.write_str(": "),
        (_, true) => write!(f, ":{line}:{column}: "),
        (_, false) => write!(f, ":{line}: {key}: "),
    }
}

fn write_both(f: &mut fmt::Formatter<'_>, first: &str, second: &str) -> fmt::Result {
    f.write_str(first)?;
    if second.is_empty() { Ok(()) } else { write!(f, "; {second}") }
}

/// The fault of a word that is none of those known, with the nearest one.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> Fault {
    Fault::new(format!("unknown {what} \"{}\"", shortened(word)), among(word, known))
}

/// `did you mean "x"? (one of x, y)`.
pub(super) fn among(word: &str, known: &[&str]) -> String {
    let all = if known.is_empty() { "there are none".to_owned() } else { format!("one of {}", known.join(", ")) };
    match nearest(word, known) {
        Some(near) => format!("did you mean \"{near}\"? ({all})"),
        None => all,
    }
}

/// A word as it may stand in a message: bounded and without control characters.
pub(super) fn shortened(word: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String = word.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if word.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The known word that a slip of the fingers would have turned into this one.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        .iter()
        .map(|k| (distance(&word, &k.chars().collect::<Vec<_>>()), *k))
        .filter(|(d, k)| *d <= 1.max(k.chars().count().min(word.len()) / 3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut d = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = d[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = substituted.min(d[(i - 1) * width + j] + 1).min(d[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(d[(i - 2) * width + j - 2] + 1);
                }
                least
            };
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_are_recognised() {
        let known = ["none", "starttls", "implicit"];
        assert_eq!(nearest("startls", &known), Some("starttls"));
        assert_eq!(nearest("statrtls", &known), Some("starttls"));
        assert_eq!(nearest("Implicit", &known), Some("implicit"));
        assert_eq!(nearest("nnoe", &known), Some("none"));
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest("smpp", &known), None);
    }

    #[test]
    fn a_mistake_is_one_line() {
        let mut mistake = Mistake {
            file: "relay.toml".into(),
            line: 12,
            column: 7,
            key: "listener[0].tls".to_owned(),
            wrong: unknown("value", "startls", &["none", "starttls", "implicit"]).wrong,
            right: unknown("value", "startls", &["none", "starttls", "implicit"]).right,
        };
        assert_eq!(
            mistake.to_string(),
            r#"relay.toml:12: listener[0].tls: unknown value "startls"; did you mean "starttls"? (one of none, starttls, implicit)"#
        );
        mistake.key.clear();
        mistake.right.clear();
        assert_eq!(mistake.to_string(), r#"relay.toml:12:7: unknown value "startls""#);
        mistake.line = 0;
        assert_eq!(mistake.to_string(), r#"relay.toml: unknown value "startls""#);
        assert_eq!(shortened("a\nb"), "a\u{fffd}b");
    }
}
