//! Words with places for values, as descriptions of carriers are written: `Bearer {api_key}`; and the values.
//!
//! **Promises.** What a value holds never becomes a place for another: it is put in once, as octets, and escaped by whoever knows
//! where it will stand. `{{` and `}}` are braces.
//!
//! **Does not know** which values there are, and where the words will stand.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value as Json;

/// Words with places for values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Text(String),
    Value(Arc<str>),
}

/// Why words cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WordsError(String);

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WordsError {}

impl Words {
    /// The values that they want.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(name) => Some(&**name),
        })
    }

    /// The one value that they are, if they are nothing else.
    pub fn sole(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Value(name)] => Some(name),
            _ => None,
        }
    }

    /// What they are made of.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// As octets; `None` if a value is not there.
    pub(super) fn octets(&self, values: &Values) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => octets.extend_from_slice(text.as_bytes()),
                Piece::Value(name) => values.get(name)?.put(&mut octets),
            }
        }
        Some(octets)
    }

    /// As text; `None` if a value is not there. Octets that are no text do not get here: descriptions are checked for that.
    pub(super) fn text(&self, values: &Values) -> Option<String> {
        let octets = self.octets(values)?;
        Some(String::from_utf8(octets).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }
}

impl FromStr for Words {
    type Err = WordsError;

    fn from_str(written: &str) -> Result<Self, WordsError> {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let mut rest = written;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if let Some(behind) = behind.strip_prefix(brace) {
                text.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(WordsError("a } without its {; a brace itself is written }}".to_owned()));
            }
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(WordsError("a { without its }; a brace itself is written {{".to_owned()));
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(WordsError(format!(
                    "\"{{{shown}}}\" names no value: expected a-z, 0-9 and _; a brace itself is written {{{{"
                )));
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Value(name.into()));
            rest = behind;
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces })
    }
}

/// What stands where a value is wanted.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// A digest, a key.
    Octets(Vec<u8>),
    /// The variables of a template: in JSON as they are, elsewhere written as JSON.
    Json(Json),
}

impl Value {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Octets(octets) => out.extend_from_slice(octets),
            Self::Json(json) => out.extend_from_slice(json.to_string().as_bytes()),
        }
    }
}

/// All values of one request, by name. Some are secrets.
#[derive(Clone, Default)]
pub(super) struct Values(HashMap<Arc<str>, Value>);

impl Values {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn set(&mut self, name: impl Into<Arc<str>>, value: Value) {
        self.0.insert(name.into(), value);
    }

    pub(super) fn set_text(&mut self, name: &str, text: impl Into<String>) {
        self.set(name, Value::Text(text.into()));
    }

    pub(super) fn set_some(&mut self, name: &str, text: Option<impl Into<String>>) {
        if let Some(text) = text {
            self.set_text(name, text);
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Values").field(&self.0.keys()).finish()
    }
}

/// All but what RFC 3986 section 2.3 leaves alone.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encoded, as in paths, queries and forms.
pub(super) fn percent(octets: &[u8]) -> String {
    percent_encode(octets, RESERVED).to_string()
}

/// Pairs as a query or a form, sorted by what is written.
pub(super) fn canonical(pairs: &[(String, String)]) -> String {
    let mut written: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| (percent(name.as_bytes()), percent(value.as_bytes()))).collect();
    written.sort();
    written.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The pairs of a query or a form, in their order. What is not UTF-8 is read with replacement characters.
pub(super) fn pairs(form: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(form).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_read_and_filled() {
        let words: Words = "{{a}} {b}-{c}".parse().unwrap();
        assert_eq!(words.names().collect::<Vec<_>>(), ["b", "c"]);
        let mut values = Values::default();
        values.set_text("b", "{c}");
        assert_eq!(words.text(&values), None, "c is not there");
        values.set("c", Value::Octets(b"x".to_vec()));
        assert_eq!(words.text(&values).as_deref(), Some("{a} {c}-x"), "a value opens no place");
        assert_eq!("{b}".parse::<Words>().unwrap().sole(), Some("b"));
        for (wrong, why) in [
            ("a}", "a } without its {; a brace itself is written }}"),
            ("{a", "a { without its }; a brace itself is written {{"),
            ("{A b}", "\"{A b}\" names no value: expected a-z, 0-9 and _; a brace itself is written {{"),
            ("{}", "\"{}\" names no value: expected a-z, 0-9 and _; a brace itself is written {{"),
        ] {
            assert_eq!(wrong.parse::<Words>().unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn queries_are_sorted_and_read_again() {
        let given = [("b", "2"), ("a", "é &=+/~"), ("a", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(canonical(&given), "a=&a=%C3%A9%20%26%3D%2B%2F~&b=2");
        assert_eq!(pairs(b"x=a+b%2Bc&&y&%zz=%4"), [("x", "a b+c"), ("y", ""), ("%zz", "%4")].map(owned));
    }

    fn owned((name, value): (&str, &str)) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(given in prop::collection::vec(("\\PC{1,8}", "\\PC{0,20}"), 0..6)) {
            let mut sorted = given.clone();
            sorted.sort_by_key(|(n, v)| (percent(n.as_bytes()), percent(v.as_bytes())));
            prop_assert_eq!(pairs(canonical(&given).as_bytes()), sorted);
        }

        #[test]
        fn nothing_panics(written in "[a{}_\\PC]{0,30}", form in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = written.parse::<Words>();
            let _ = pairs(&form);
        }
    }
}
