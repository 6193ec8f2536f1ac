//! What is wrong with a provider table, in words that say where and what would be right.
//!
//! **Does not know** the file's name: whoever opened it puts it in front.

use std::fmt;

use serde::Serialize;

/// One mistake in a provider table. The table is not used while there is one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, such as `reply[3].class`; empty for a mistake in TOML's own syntax.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; may be empty.
    pub right: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.is_empty() {
            true => write!(f, "{}:{}: {}", self.line, self.column, self.wrong)?,
            false => write!(f, "{}: {}: {}", self.line, self.key, self.wrong)?,
        }
        if self.right.is_empty() { Ok(()) } else { write!(f, "; {}", self.right) }
    }
}

impl std::error::Error for Mistake {}

/// What a reader of one value has to say against it; the table adds where.
pub(super) struct Fault {
    pub(super) wrong: String,
    pub(super) right: String,
}

impl Fault {
    pub(super) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
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
