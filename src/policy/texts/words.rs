//! Words that no text may hold.
//!
//! **Promises.** Looks for all of them in one pass, whatever their number. Letters' case, full and half width, and whatever
//! stands between a word's characters to hide it (spaces, marks, characters that nobody sees) make no difference.
//!
//! **Does not know** meanings: a word within a longer one is found too.

use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;

use crate::sms::half_width;

/// Most words.
pub(super) const WORDS_MAX: usize = 100_000;

/// A list of words to look for.
#[derive(Clone, Default)]
pub struct BlockedWords {
    machine: Option<Arc<AhoCorasick>>,
}

/// Why a list of words cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WordsError {
    /// A word without a letter or digit: it would be found everywhere, or nowhere.
    Empty(String),
    /// More than 100,000.
    TooMany,
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(word) => write!(f, "\"{word}\" holds neither a letter nor a digit"),
            Self::TooMany => write!(f, "more than {WORDS_MAX} words"),
        }
    }
}

impl std::error::Error for WordsError {}

impl BlockedWords {
    /// Makes a list.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, WordsError> {
        let mut patterns = Vec::new();
        for word in words {
            let pattern: String = plain(word).map(|(_, c)| c).collect();
            if pattern.is_empty() {
                return Err(WordsError::Empty(word.to_owned()));
            }
            patterns.push(pattern);
        }
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        if patterns.len() > WORDS_MAX {
            return Err(WordsError::TooMany);
        }
        let machine = AhoCorasick::new(patterns).map_err(|_| WordsError::TooMany)?;
        Ok(Self { machine: Some(Arc::new(machine)) })
    }

    /// Where the first blocked word begins, in characters from 1.
    pub fn find(&self, text: &str) -> Option<usize> {
        let machine = self.machine.as_ref()?;
        let mut folded = String::with_capacity(text.len());
        let mut places = Vec::with_capacity(text.len());
        for (at, c) in plain(text) {
            places.resize(places.len() + c.len_utf8(), at);
            folded.push(c);
        }
        let found = machine.find(&folded)?;
        places.get(found.start()).map(|at| at + 1)
    }
}

/// The letters and digits of a text, in small letters of half width, each with its place.
fn plain(text: &str) -> impl Iterator<Item = (usize, char)> {
    text.chars()
        .enumerate()
        .flat_map(|(at, c)| half_width(c).to_lowercase().filter(|c| c.is_alphanumeric()).map(move |c| (at, c)))
}

impl fmt::Debug for BlockedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockedWords({})", self.machine.as_ref().map_or(0, |m| m.patterns_len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_is_found_however_it_is_written() {
        let words = BlockedWords::new(["赌博", "Casino", "加微信"]).unwrap();
        for (text, at) in [
            ("来赌博吧", Some(2)),
            ("赌 博", Some(1)),
            ("赌\u{200b}博", Some(1)),
            ("赌.博", Some(1)),
            ("ＣＡＳＩＮＯ royal", Some(1)),
            ("a casino", Some(3)),
            ("加-微-信 号", Some(1)),
            ("赌注博彩", None),
            ("", None),
        ] {
            assert_eq!(words.find(text), at, "{text}");
        }
        assert_eq!(BlockedWords::default().find("赌博"), None);
        assert_eq!(BlockedWords::new(["", "x"]).unwrap_err(), WordsError::Empty(String::new()));
        assert_eq!(BlockedWords::new([" -"]).unwrap_err().to_string(), "\" -\" holds neither a letter nor a digit");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_the_place_is_one_of_the_text(text in "\\PC{0,60}", word in "[a-zA-Z赌博]{1,3}") {
            let words = BlockedWords::new([word.as_str()]).unwrap();
            if let Some(at) = words.find(&text) {
                prop_assert!((1..=text.chars().count()).contains(&at));
            }
            let longer = format!("{text}{word}");
            prop_assert!(words.find(&longer).is_some());
        }
    }
}
