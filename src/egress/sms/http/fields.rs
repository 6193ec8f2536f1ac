//! Finding things in what a carrier says, in JSON, as a form, or as bare words.
//!
//! **Promises.** Whatever the octets, reading them ends and panics not; JSON's depth is bounded by its reader. A value of JSON that is
//! `null`, an object or an array is not there.
//!
//! **Does not know** what is looked for.

use serde_json::Value as Json;

use super::words::pairs;

/// How something is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// JSON (RFC 8259).
    Json,
    /// A form (`application/x-www-form-urlencoded`).
    Form,
    /// Words with marks between them: `0,12345` or `OK: 12345`.
    Text,
}

impl Format {
    /// Their words in descriptions.
    pub const WORDS: &[(&str, Self)] = &[("json", Self::Json), ("form", Self::Form), ("text", Self::Text)];

    /// Why this is no place of something in what is written so.
    pub fn fault(self, place: &str) -> Option<&'static str> {
        let right = match self {
            Self::Json if place.is_empty() || place.starts_with('/') => None,
            Self::Json => Some("expected a JSON pointer (RFC 6901), such as \"/messages/0/id\""),
            Self::Form if !place.is_empty() => None,
            Self::Form => Some("expected the name of a field"),
            Self::Text if place.parse::<usize>().is_ok_and(|n| n > 0) => None,
            Self::Text => Some("expected the number of a word, from \"1\""),
        };
        let escaped = |place: &str| place.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        right
            .or((self == Self::Json && !escaped(place))
                .then_some("in a JSON pointer ~ is written ~0, and / in a name ~1"))
    }
}

/// Where something stands: places in order of preference, of which the first that holds something counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Field(pub Vec<String>);

impl Field {
    /// True if it is not said.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands there, if it is not empty.
    pub(super) fn of(&self, document: Document<'_>) -> Option<String> {
        self.0.iter().find_map(|place| document.get(place)).filter(|found| !found.is_empty())
    }
}

/// Something that was read.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Read {
    Json(Json),
    Form(Vec<(String, String)>),
    Text(Vec<String>),
}

/// It, or a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Document<'r> {
    Json(&'r Json),
    Form(&'r [(String, String)]),
    Text(&'r [String]),
}

impl Read {
    /// `None` if it is not what the format says.
    pub(super) fn new(format: Format, octets: &[u8]) -> Option<Self> {
        match format {
            Format::Json => serde_json::from_slice(octets).ok().map(Self::Json),
            Format::Form => Some(Self::Form(pairs(octets))),
            Format::Text => {
                let text = String::from_utf8_lossy(octets);
                let words = text.split(|c: char| c.is_whitespace() || ",:;|=&".contains(c));
                Some(Self::Text(words.filter(|word| !word.is_empty()).map(str::to_owned).collect()))
            }
        }
    }

    /// All of it.
    pub(super) fn whole(&self) -> Document<'_> {
        match self {
            Self::Json(json) => Document::Json(json),
            Self::Form(pairs) => Document::Form(pairs),
            Self::Text(words) => Document::Text(words),
        }
    }

    /// The elements of the array at `place` of JSON, or what is no array there alone; none if nothing is there. What is not JSON
    /// is one.
    pub(super) fn each(&self, place: &str) -> Vec<Document<'_>> {
        match self {
            Self::Json(json) => match json.pointer(place) {
                Some(Json::Array(all)) => all.iter().map(Document::Json).collect(),
                Some(Json::Null) | None => Vec::new(),
                Some(one) => vec![Document::Json(one)],
            },
            _ => vec![self.whole()],
        }
    }
}

impl Document<'_> {
    fn get(self, place: &str) -> Option<String> {
        match self {
            Self::Json(json) => match json.pointer(place)? {
                Json::String(text) => Some(text.clone()),
                Json::Number(number) => Some(number.to_string()),
                Json::Bool(flag) => Some(flag.to_string()),
                Json::Null | Json::Array(_) | Json::Object(_) => None,
            },
            Self::Form(pairs) => pairs.iter().find(|(name, _)| name == place).map(|(_, value)| value.clone()),
            Self::Text(words) => words.get(place.parse::<usize>().ok()?.checked_sub(1)?).cloned(),
        }
    }
}

/// A carrier's words as they may be shown: bounded and without control characters.
pub(super) fn shown(words: &str, most: usize) -> String {
    words.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(places: &[&str]) -> Field {
        Field(places.iter().map(|&place| place.to_owned()).collect())
    }

    #[test]
    fn fields_are_found_in_each_format() {
        for (format, octets, places, found) in [
            (Format::Json, &br#"{"a":[{"id":7}],"b":null}"#[..], &["/b", "/a/0/id"][..], Some("7")),
            (Format::Json, br#"{"a":[{"id":7}]}"#, &["/a"], None),
            (Format::Json, br#"{"a/b":true}"#, &["/a~1b"], Some("true")),
            (Format::Json, br#""bare""#, &[""], Some("bare")),
            (Format::Form, b"id=a%2Bb&id=c", &["no", "id"], Some("a+b")),
            (Format::Form, b"id=", &["id"], None),
            (Format::Text, b"OK: 12345\r\n", &["2"], Some("12345")),
            (Format::Text, b"0,12345", &["1"], Some("0")),
            (Format::Text, b"0", &["2"], None),
        ] {
            let read = Read::new(format, octets).unwrap();
            assert_eq!(field(places).of(read.whole()).as_deref(), found, "{format:?} {places:?}");
        }
        assert_eq!(Read::new(Format::Json, b"{"), None);
    }

    #[test]
    fn one_thing_or_many_are_taken_apart() {
        let count = |json: &str, place: &str| Read::new(Format::Json, json.as_bytes()).unwrap().each(place).len();
        assert_eq!((count("[1,2]", ""), count("{}", ""), count(r#"{"a":[1]}"#, "/a")), (2, 1, 1));
        assert_eq!((count("{}", "/a"), count("null", ""), count("[]", "")), (0, 0, 0));
        assert_eq!(Read::new(Format::Form, b"a=1").unwrap().each("").len(), 1);
    }

    #[test]
    fn places_are_checked() {
        for (format, place, right) in [
            (Format::Json, "/a/0", true),
            (Format::Json, "", true),
            (Format::Json, "a", false),
            (Format::Json, "/a~2", false),
            (Format::Form, "a", true),
            (Format::Form, "", false),
            (Format::Text, "1", true),
            (Format::Text, "0", false),
        ] {
            assert_eq!(format.fault(place).is_none(), right, "{format:?} {place}");
        }
    }

    proptest! {
        #[test]
        fn octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200), place in "[/~0-9a-z]{0,12}") {
            for (_, format) in Format::WORDS {
                if let Some(read) = Read::new(*format, &octets) {
                    let places = field(&[&place]);
                    let _ = (places.of(read.whole()), read.each(&place).len());
                }
            }
        }

        #[test]
        fn any_json_has_what_its_pointer_names(text in "\\PC{1,20}", name in "[a-z~/]{1,8}", depth in 0..4usize) {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let mut json = Json::String(text.clone());
            for _ in 0..=depth {
                json = serde_json::json!({ name.clone(): json });
            }
            let read = Read::new(Format::Json, json.to_string().as_bytes()).unwrap();
            let place = pointer.repeat(depth + 1);
            prop_assert_eq!(Format::Json.fault(&place), None);
            prop_assert_eq!(field(&[&place]).of(read.whole()), Some(text));
        }
    }
}
