//! What a carrier's answer to a request means.
//!
//! **Promises.** Only what says so is a yes. An answer of the class 2xx that cannot be read as its description says leaves it open
//! whether the text was taken: it counts as none. A code that no table knows is a trouble that may pass.
//!
//! **Does not know** how the answer came.

use std::collections::BTreeMap;

use super::super::protocol::Verdict;
use super::fields::{Field, Format, Read, shown};
use crate::model::{EnhancedStatus, Scope};
use crate::wire::Meaning;

/// Longest words of a carrier that are kept, in characters.
const WORDS_CHARS_MAX: usize = 200;
/// Longest id of a carrier that is taken, in characters.
const ID_CHARS_MAX: usize = 128;

/// What a carrier's answer means, as a description says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It took the text.
    Accepted,
    /// We are too fast.
    Throttled,
    /// It may take it later.
    Temporary,
    /// The account, or how we ask, is at fault: somebody has to look.
    Account,
    /// Never to this number.
    Number,
    /// Never this text.
    Text,
    /// Never from this sender.
    Sender,
}

impl Class {
    /// Their words in descriptions.
    pub const WORDS: &[(&str, Self)] = &[
        ("accepted", Self::Accepted),
        ("throttled", Self::Throttled),
        ("temporary", Self::Temporary),
        ("account", Self::Account),
        ("number", Self::Number),
        ("text", Self::Text),
        ("sender", Self::Sender),
    ];

    fn verdict(self, code: u32, words: String) -> Verdict {
        let (meaning, (class, subject, detail)) = match self {
            Self::Accepted => (Meaning::Ok, (2, 0, 0)),
            Self::Throttled => (Meaning::Throttled, (4, 4, 5)),
            Self::Temporary => (Meaning::Temporary, (4, 3, 0)),
            Self::Account => (Meaning::Account, (4, 3, 5)),
            Self::Number => (Meaning::Final(Scope::Recipient), (5, 1, 1)),
            Self::Text => (Meaning::Final(Scope::Message), (5, 7, 1)),
            Self::Sender => (Meaning::Final(Scope::Message), (5, 1, 8)),
        };
        Verdict { meaning, code, enhanced: EnhancedStatus::new(class, subject, detail), words }
    }
}

/// How answers are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerMap {
    /// How they are written.
    pub format: Format,
    /// The carrier's id of the text.
    pub id: Field,
    /// Its code for how it went.
    pub code: Field,
    /// Its words for that.
    pub message: Field,
    /// What its codes mean. One that ends in `*` is a beginning.
    pub codes: BTreeMap<String, Class>,
    /// What HTTP's status codes mean where no code says more: `429`, or `5xx`.
    pub status: BTreeMap<String, Class>,
}

/// What an answer comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// The carrier has spoken, and named the text if it took it.
    Spoken(Verdict, String),
    /// Nobody knows what it wanted to say, in words.
    Obscure(String),
}

/// A refusal of our own, before anything was sent.
pub(super) fn refused(class: Class, words: impl Into<String>) -> Verdict {
    class.verdict(0, words.into())
}

impl AnswerMap {
    /// Judges an answer.
    pub(super) fn judge(&self, status: u16, body: &[u8]) -> Judged {
        let read = Read::new(self.format, body);
        let of = |field: &Field| read.as_ref().and_then(|read| field.of(read.whole()));
        let (code, message) = (of(&self.code), of(&self.message));
        let id = of(&self.id).map(|id| shown(&id, ID_CHARS_MAX)).filter(|id| !id.is_empty());
        let good = (200..300).contains(&status);
        let by_code = code.as_deref().and_then(|code| self.class_of(code));
        let class = match (by_code, &code) {
            (Some(class), _) => class,
            (None, Some(_)) if good => Class::Temporary,
            (None, None) if good && (read.is_none() || id.is_none() && !self.id.is_none()) => {
                return Judged::Obscure(format!("HTTP {status} with a body that is not what the description says"));
            }
            (None, None) if good && self.id.is_none() && !self.code.is_none() => {
                return Judged::Obscure(format!("HTTP {status} without a code"));
            }
            (None, _) => self.class_of_status(status),
        };
        let words = match (code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(words), None) | (None, Some(words)) => words,
            (None, None) => format!("HTTP {status}"),
        };
        let id = id.filter(|_| class == Class::Accepted).unwrap_or_default();
        Judged::Spoken(class.verdict(status.into(), shown(&words, WORDS_CHARS_MAX)), id)
    }

    fn class_of(&self, code: &str) -> Option<Class> {
        let begins = |known: &str| known.strip_suffix('*').is_some_and(|beginning| code.starts_with(beginning));
        let longest = || self.codes.iter().filter(|(known, _)| begins(known)).max_by_key(|(known, _)| known.len());
        self.codes.get(code).or_else(|| longest().map(|(_, class)| class)).copied()
    }

    fn class_of_status(&self, status: u16) -> Class {
        let said = self.status.get(&status.to_string()).or_else(|| self.status.get(&format!("{}xx", status / 100)));
        said.copied().unwrap_or(match status {
            200..300 => Class::Accepted,
            429 => Class::Throttled,
            401 | 403 | 404 | 405 => Class::Account,
            _ => Class::Temporary,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(place: &str) -> Field {
        Field(vec![place.to_owned()])
    }

    fn map() -> AnswerMap {
        let codes = [
            ("OK", Class::Accepted),
            ("isv.*", Class::Account),
            ("isv.LIMIT*", Class::Throttled),
            ("BAD", Class::Number),
        ];
        AnswerMap {
            format: Format::Json,
            id: field("/id"),
            code: field("/code"),
            message: field("/message"),
            codes: codes.into_iter().map(|(code, class)| (code.to_owned(), class)).collect(),
            status: BTreeMap::from([("402".to_owned(), Class::Account)]),
        }
    }

    fn judged(map: &AnswerMap, status: u16, body: &str) -> String {
        match map.judge(status, body.as_bytes()) {
            Judged::Spoken(verdict, id) => format!("{:?} {} {} [{id}]", verdict.meaning, verdict.code, verdict.words),
            Judged::Obscure(why) => why,
        }
    }

    #[test]
    fn codes_speak_first_then_the_status_and_what_is_not_understood_is_no_answer() {
        let obscure = "HTTP 200 with a body that is not what the description says";
        for (status, body, expected) in [
            (200, r#"{"code":"OK","id":"7"}"#, "Ok 200 OK [7]"),
            (200, r#"{"code":"OK"}"#, "Ok 200 OK []"),
            (200, r#"{"id":7}"#, "Ok 200 HTTP 200 [7]"),
            (200, r#"{"code":"isv.LIMIT_DAY","message":"too many"}"#, "Throttled 200 isv.LIMIT_DAY: too many []"),
            (200, r#"{"code":"isv.X","message":"a\nb"}"#, "Account 200 isv.X: ab []"),
            (200, r#"{"code":"BAD","id":"7"}"#, "Final(Recipient) 200 BAD []"),
            (200, r#"{"code":"NEW"}"#, "Temporary 200 NEW []"),
            (200, "<html>", obscure),
            (200, "{}", obscure),
            (400, r#"{"code":"BAD"}"#, "Final(Recipient) 400 BAD []"),
            (400, r#"{"code":"NEW"}"#, "Temporary 400 NEW []"),
            (402, r#"{"code":"NEW"}"#, "Account 402 NEW []"),
            (429, "", "Throttled 429 HTTP 429 []"),
            (503, "<html>", "Temporary 503 HTTP 503 []"),
            (401, "{}", "Account 401 HTTP 401 []"),
            (301, "", "Temporary 301 HTTP 301 []"),
        ] {
            assert_eq!(judged(&map(), status, body), expected, "{status} {body}");
        }
        let bare = AnswerMap { id: Field::default(), code: Field::default(), ..map() };
        assert_eq!(judged(&bare, 200, "{}"), "Ok 200 HTTP 200 []");
        let without_id = AnswerMap { id: Field::default(), ..map() };
        assert_eq!(judged(&without_id, 200, "{}"), "HTTP 200 without a code");
    }

    proptest! {
        #[test]
        fn no_body_is_a_yes_by_accident(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Judged::Spoken(verdict, _) = map().judge(status, &body)
                && verdict.meaning == Meaning::Ok
            {
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
                prop_assert!(json["code"] == "OK" || (200..300).contains(&status) && !json["id"].is_null());
            }
        }
    }
}
