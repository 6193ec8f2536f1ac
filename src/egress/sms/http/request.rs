//! From values to a request of HTTP, as a description says.
//!
//! **Promises.** Each value is escaped by where it stands: percent-encoded in paths, queries and forms, as JSON in JSON; a header
//! takes none that holds an end of line. So no value says more than itself. An entry of which a value is not there is left out.
//!
//! **Does not know** how the request travels.
//!
//! **Fails how.** In words, without the values, where no request can be made of them.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request as HttpRequest};
use serde_json::{Map, Value as Json};

use super::super::super::https::{USER_AGENT, Whole};
use super::Endpoint;
use super::recipe::{self, Step};
use super::words::{Piece, Value, Values, Words, canonical, percent};

/// The request that brings a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// GET, POST or PUT.
    pub method: Method,
    /// Whom to ask, unless the account knows better.
    pub endpoint: Endpoint,
    /// What comes behind, from the `/` on.
    pub path: Words,
    /// The query.
    pub query: Vec<(String, Words)>,
    /// The headers, but for `Host`, `Content-Length` and who we are.
    pub headers: Vec<(HeaderName, Words)>,
    /// The body.
    pub body: Body,
    /// Values that are computed before path, query and body are made.
    pub early: Vec<Step>,
    /// Values that are computed of those, for the headers.
    pub late: Vec<Step>,
    /// What `{alphabet}` is for a text of the GSM alphabet, and for others.
    pub alphabet: [String; 2],
}

/// A request's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// None.
    None,
    /// A form.
    Form(Vec<(String, Words)>),
    /// JSON.
    Json(Tree),
    /// Text.
    Text(Words),
}

/// JSON with places for values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tree {
    /// A string; or, if it is one value that is JSON itself, that.
    Words(Words),
    /// A number, or true or false.
    Literal(Json),
    /// An array.
    List(Vec<Tree>),
    /// An object.
    Table(Vec<(String, Tree)>),
}

impl Body {
    /// What it is, unless the headers say otherwise.
    fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Form(_) => Some("application/x-www-form-urlencoded"),
            Self::Json(_) => Some("application/json; charset=utf-8"),
            Self::Text(_) => Some("text/plain; charset=utf-8"),
        }
    }

    fn made(&self, values: &Values) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Form(entries) => canonical(&entries_of(entries, values)).into_bytes(),
            Self::Json(tree) => tree.made(values).map_or_else(Vec::new, |json| json.to_string().into_bytes()),
            Self::Text(words) => words.octets(values).unwrap_or_default(),
        }
    }
}

impl Tree {
    fn made(&self, values: &Values) -> Option<Json> {
        Some(match self {
            Self::Words(words) => match words.sole().map(|name| values.get(name)) {
                Some(Some(Value::Json(json))) => json.clone(),
                _ => Json::String(words.text(values)?),
            },
            Self::Literal(json) => json.clone(),
            Self::List(all) => all.iter().filter_map(|one| one.made(values)).collect(),
            Self::Table(entries) => {
                let made = entries.iter().filter_map(|(name, tree)| Some((name.clone(), tree.made(values)?)));
                Json::Object(made.collect::<Map<_, _>>())
            }
        })
    }
}

/// Those of which every value is there.
fn entries_of(entries: &[(String, Words)], values: &Values) -> Vec<(String, String)> {
    entries.iter().filter_map(|(name, words)| Some((name.clone(), words.text(values)?))).collect()
}

impl Request {
    /// Makes the request, with everything that it wants but a text in `values`.
    pub(super) fn made(&self, endpoint: &Endpoint, mut values: Values) -> Result<HttpRequest<Whole>, String> {
        recipe::run(&self.early, &mut values);
        let path = path(&self.path, &values)?;
        let query = canonical(&entries_of(&self.query, &values));
        let body = self.body.made(&values);
        let host = endpoint.authority();
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        for (name, text) in [("method", self.method.as_str()), ("host", &host), ("path", &path), ("query", &query)] {
            values.set_text(name, text);
        }
        values.set("body", Value::Octets(body.clone()));
        recipe::run(&self.late, &mut values);
        let mut request = HttpRequest::new(Whole::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.parse().map_err(|_| "the request's URL makes no sense".to_owned())?;
        self.set_headers(request.headers_mut(), &host, &values)?;
        Ok(request)
    }

    fn set_headers(&self, headers: &mut HeaderMap, host: &str, values: &Values) -> Result<(), String> {
        let mut set = |name: &HeaderName, text: &str| {
            let wrong = |_| format!("a value cannot stand in the header {name}");
            let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(wrong)?;
            // Not to be shown by whoever shows headers.
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok::<_, String>(())
        };
        set(&header::HOST, host)?;
        set(&header::USER_AGENT, USER_AGENT)?;
        set(&header::ACCEPT, "*/*")?;
        if let Some(kind) = self.body.content_type() {
            set(&header::CONTENT_TYPE, kind)?;
        }
        self.headers
            .iter()
            .filter_map(|(name, words)| Some((name, words.text(values)?)))
            .try_for_each(|(n, t)| set(n, &t))
    }
}

fn path(words: &Words, values: &Values) -> Result<String, String> {
    let mut path = String::new();
    for piece in words.pieces() {
        match piece {
            Piece::Text(text) => path.push_str(text),
            Piece::Value(name) => {
                let only = |value: &Value| match value {
                    Value::Text(text) => Some(percent(text.as_bytes())),
                    Value::Octets(_) | Value::Json(_) => None,
                };
                let value = values.get(name).and_then(only).filter(|value| !matches!(value.as_str(), "" | "." | ".."));
                path.push_str(&value.ok_or_else(|| format!("no value {{{name}}} for the request's URL"))?);
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::egress::sms::http::words::pairs;

    fn words(text: &str) -> Words {
        text.parse().unwrap()
    }

    fn request() -> Request {
        Request {
            method: Method::POST,
            endpoint: "https://example.com".parse().unwrap(),
            path: words("/{who}/send"),
            query: vec![("q".to_owned(), words("{text}"))],
            headers: vec![(HeaderName::from_static("x-who"), words("{who}"))],
            body: Body::Json(Tree::Table(vec![
                ("text".to_owned(), Tree::Words(words("<{text}>"))),
                ("all".to_owned(), Tree::List(vec![Tree::Words(words("{variables}")), Tree::Words(words("{none}"))])),
                ("none".to_owned(), Tree::Words(words("{none}"))),
                ("n".to_owned(), Tree::Literal(Json::from(5))),
            ])),
            early: Vec::new(),
            late: Vec::new(),
            alphabet: Default::default(),
        }
    }

    fn values(text: &str, who: &str) -> Values {
        let mut values = Values::default();
        values.set_text("text", text);
        values.set_text("who", who);
        values.set("variables", Value::Json(serde_json::json!({"code": "1"})));
        values
    }

    #[tokio::test]
    async fn a_request_is_made_and_what_is_not_there_is_left_out() {
        let mut request = request();
        request.headers.push((HeaderName::from_static("x-none"), words("a{none}")));
        let endpoint = "http://127.0.0.1:81".parse().unwrap();
        let made = request.made(&endpoint, values("a\"b", "me")).unwrap();
        assert_eq!(made.uri(), "/me/send?q=a%22b");
        assert_eq!(made.headers()["host"], "127.0.0.1:81");
        assert_eq!(made.headers()["content-type"], "application/json; charset=utf-8");
        assert!(!made.headers().contains_key("x-none"));
        let body = made.into_body().into_bytes();
        assert_eq!(&body[..], br#"{"all":[{"code":"1"}],"n":5,"text":"<a\"b>"}"#);
        for who in ["", ".."] {
            assert!(request.made(&endpoint, values("a", who)).unwrap_err().contains("{who}"), "{who}");
        }
    }

    proptest! {
        /// Whatever a value holds, the request has the parts it would have otherwise, and each holds that value.
        #[test]
        fn nothing_gets_out_of_its_place(text in "\\PC{1,40}|[\"\\\\{}\r\n&=%<>/? ]{1,20}", who in "\\PC{1,20}|[/?#%. ]{1,8}") {
            let request = request();
            match request.made(&request.endpoint, values(&text, &who)) {
                Ok(made) => {
                    prop_assert_eq!(made.uri().path().matches('/').count(), 2);
                    prop_assert!(made.uri().path().ends_with("/send"));
                    prop_assert_eq!(pairs(made.uri().query().unwrap().as_bytes()), [("q".to_owned(), text.clone())]);
                    prop_assert_eq!(made.headers().len(), 5);
                    prop_assert_eq!(made.headers()["x-who"].as_bytes(), who.as_bytes());
                    let body: Json = serde_json::from_slice(&made.into_body().into_bytes()).unwrap();
                    prop_assert_eq!(body, serde_json::json!({"text": format!("<{text}>"), "all": [{"code": "1"}], "n": 5}));
                }
                // A path's `.` and `..` say something else than themselves, and cannot be written in another way.
                Err(why) => prop_assert!(matches!(who.as_str(), "." | "..") && why.contains("{who}"), "{why}"),
            }
            let form = Request { body: Body::Form(vec![("t".to_owned(), words("{text}"))]), headers: Vec::new(), ..request };
            let made = form.made(&form.endpoint, values(&text, "me")).unwrap();
            prop_assert_eq!(pairs(&made.into_body().into_bytes()), [("t".to_owned(), text)]);
        }
    }
}
