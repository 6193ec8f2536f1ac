//! Carriers that are asked by HTTP, each as a description says: a table in TOML with request, signature, answer, receipt and message.
//!
//! **What.** [`Description`] is what is known of a carrier, [`Http`] an account with one. `words` and `recipe` are the language of
//! descriptions, `request` and `answer` the two halves of an exchange, `link` the account's connections and their window, `callback`
//! what carriers bring to us, `fields` how anything is found in what they say.
//!
//! **Promises.** Nothing here knows any carrier by name. To the engine an account is a carrier with one bind, whose window is its
//! requests under way: windows, pace, outcomes and drains are the engine's own. A text counts as sent once the request may have
//! left; whatever then leaves it open what the carrier did is an answer that was lost.
//!
//! **Does not know** keys of TOML: `config` reads descriptions and has checked that every value they want is there.
//!
//! **Fails how.** A text of which no request can be made is refused in words that hold nothing of it.

mod answer;
mod callback;
mod fields;
mod link;
mod recipe;
mod request;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use serde_json::{Map, Value as Json};

pub use self::answer::{AnswerMap, Class};
pub use self::callback::{CallbackAnswer, CallbackRequest, Check, HttpCallbacks, Messages, Receipts, Reply};
pub use self::fields::{Field, Format};
pub(super) use self::link::keep_up;
pub use self::recipe::{Function, Step};
pub use self::request::{Body, Request, Tree};
use self::words::{Value, Values};
pub use self::words::{Words, WordsError};
use super::protocol::{Cut, Part, Verdict, is_chinese_mobile};
use super::registered::{FITS_NONE, Registered};
use super::{Options, OptionsError};
use crate::clock::Timestamp;
use crate::model::{Number, Secret, SenderId, SmsText};
use crate::net::Authorities;
use crate::sms::{self, Encoding};

/// What a request can say of its text, besides what the account has and the recipe makes.
pub const TEXT_VALUES: &[&str] = &[
    "to",
    "to_digits",
    "to_local",
    "sender",
    "sender_bare",
    "text",
    "signature_name",
    "body_text",
    "id",
    "alphabet",
    "nonce",
    "time_unix",
    "time_millis",
    "time_iso",
    "time_compact",
    "time_compact_china",
    "date",
];
/// What it can say only if the account has templates.
pub const TEMPLATE_VALUES: &[&str] = &["template_id", "template_signature", "variables", "variable_values"];
/// Where the carrier may bring receipts and messages; not there if it cannot.
pub const CALLBACK_URLS: &[&str] = &["receipt_url", "message_url"];
/// The request itself, for the late steps of its recipe and for its headers.
pub const REQUEST_VALUES: &[&str] = &["method", "host", "path", "query", "body"];
/// What the check of a callback can be made of, besides what the account has.
pub const CALLBACK_VALUES: &[&str] = &["url", "body", "sorted_form"];

/// What is known of a carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// How it is asked.
    pub request: Request,
    /// How it answers.
    pub answer: AnswerMap,
    /// How it brings receipts, if it does.
    pub receipt: Option<Receipts>,
    /// How it brings what handsets send, if it does.
    pub message: Option<Messages>,
    /// Values that an account has.
    pub account: BTreeMap<Arc<str>, Need>,
    /// Most parts of a text that it takes as a whole.
    pub parts_max: usize,
}

/// What an account has to say of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    /// It must, and nobody else may know.
    Secret,
    /// It must.
    Required,
    /// It may; else the value is not there.
    Optional,
    /// It may; else it is this.
    Default(String),
}

/// An account with a carrier that is asked by HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    /// How the carrier is asked.
    pub description: Arc<Description>,
    /// Whom to ask.
    pub endpoint: Endpoint,
    /// What the description wants of the account.
    pub values: BTreeMap<Arc<str>, Secret>,
    /// Texts registered with the carrier.
    pub templates: Vec<Registered>,
    /// Who vouches for the carrier's certificate.
    pub authorities: Authorities,
    /// How the carrier comes to us, if it does.
    pub callback: Option<HttpCallback>,
    /// A connection that has rested for so long is not used again.
    pub keep_alive: Duration,
    /// So many connections that come to nothing, one after another, and the carrier is down; at least 1.
    pub connect_tries: usize,
    /// Longest answer that is read, in bytes.
    pub answer_bytes_max: usize,
    /// Longest pause that the carrier may ask for by `Retry-After`; a longer one is taken for this.
    pub retry_after_max: Duration,
}

/// How a carrier comes to us.
#[derive(Clone, Debug)]
pub struct HttpCallback {
    /// Where we listen, as configured; several carriers may share it.
    pub listen: SocketAddr,
    /// By HTTPS, with our certificate; the same for all that share the place.
    pub tls: bool,
    /// What the path must hold.
    pub token: Secret,
    /// How the carrier reaches that place: `https://relay.example.com`; `None`: it is not told.
    pub url: Option<String>,
    /// Where it may come from; empty: from anywhere.
    pub from: Vec<IpNet>,
    /// What a body may be.
    pub body: BodyBounds,
    /// Most connections at a time, of all that listen there together the sum; at least 1.
    pub connections_max: usize,
}

/// What a body that a carrier brings may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyBounds {
    /// Most bytes.
    pub bytes_max: usize,
    /// Time for all of it to arrive.
    pub timeout: Duration,
}

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// By HTTPS.
    pub tls: bool,
    /// Name or address, an IPv6 one in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// As `Host` says it: without the scheme's own port.
    pub fn authority(&self) -> String {
        if self.port == if self.tls { 443 } else { 80 } { self.host.clone() } else { self.address() }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RIGHT: &str = "expected https:// or http://, a host, and a port where it is another than usual";
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(RIGHT),
        };
        let behind = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest[behind..].rfind(':') {
            Some(at) => {
                (&rest[..behind + at], rest[behind + at + 1..].parse().ok().filter(|port| *port > 0).ok_or(RIGHT)?)
            }
            None => (rest, if tls { 443 } else { 80 }),
        };
        let is_v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if is_v6 || is_name { Ok(Self { tls, host: host.to_ascii_lowercase(), port }) } else { Err(RIGHT) }
    }
}

/// For the fuzzer: whether an answer is a yes, if it is any answer; and its words and id.
#[doc(hidden)]
pub fn judged(description: &Description, status: u16, body: &[u8]) -> Option<(bool, String, String)> {
    match description.answer.judge(status, body) {
        answer::Judged::Spoken(verdict, id) => Some((verdict.meaning == crate::wire::Meaning::Ok, verdict.words, id)),
        answer::Judged::Obscure(_) => None,
    }
}

/// A text is one request: the carrier cuts it.
pub(super) fn cut(text: &SmsText) -> Cut {
    let parts = vec![Bytes::copy_from_slice(text.as_str().as_bytes())];
    Cut { coding: 0, udhi: false, reference: None, on_air: crate::sms::plan(text).count, parts }
}

impl Description {
    /// True if texts go as templates with variables.
    pub fn wants_templates(&self) -> bool {
        let steps = self.request.early.iter().chain(&self.request.late);
        let entries =
            self.request.query.iter().map(|(_, words)| words).chain(self.request.headers.iter().map(|(_, w)| w));
        let mut names =
            steps.flat_map(Step::names).chain(entries.flat_map(Words::names)).chain(self.request.path.names());
        let template = |name: &str| TEMPLATE_VALUES.contains(&name);
        names.any(template) || self.request.body.names().iter().any(|name| template(name))
    }
}

impl Body {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Form(entries) => entries.iter().flat_map(|(_, words)| words.names()).collect(),
            Self::Json(tree) => tree.names(),
            Self::Text(words) => words.names().collect(),
        }
    }
}

impl Tree {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Words(words) => words.names().collect(),
            Self::Literal(_) => Vec::new(),
            Self::List(all) => all.iter().flat_map(Self::names).collect(),
            Self::Table(entries) => entries.iter().flat_map(|(_, tree)| tree.names()).collect(),
        }
    }
}

impl HttpCallback {
    /// The path below which a carrier brings what it has.
    fn path(&self, carrier: &str) -> String {
        format!("/{carrier}/{}", self.token.expose())
    }
}

impl Http {
    /// Checks what has bounds.
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        let bad = |option, expected| Err(OptionsError { option, expected });
        if self.connect_tries == 0 {
            return bad("connect_tries", "at least 1");
        }
        if self.answer_bytes_max == 0 || self.callback.as_ref().is_some_and(|callback| callback.body.bytes_max == 0) {
            return bad("answer_bytes_max", "at least 1 byte, of callbacks too");
        }
        if self.callback.as_ref().is_some_and(|callback| callback.token.expose().is_empty()) {
            return bad("callback.token", "not empty");
        }
        self.authorities.check().map_err(|_| OptionsError { option: "authorities", expected: "certificates" })
    }

    /// All that is secret, one behind another: two accounts of the same are the same. Not to be shown.
    pub fn secrets(&self) -> String {
        let token = self.callback.iter().map(|callback| callback.token.expose());
        self.values.values().map(Secret::expose).chain(token).collect::<Vec<_>>().join("\0")
    }

    /// A carrier's words without what the account keeps to itself.
    fn discreet(&self, words: String) -> String {
        let is_secret = |name: &str| self.description.account.get(name) == Some(&Need::Secret);
        let secrets = self.values.iter().filter(|(name, _)| is_secret(name)).map(|(_, secret)| secret.expose());
        secrets.filter(|secret| !secret.is_empty()).fold(words, |words, secret| words.replace(secret, "…"))
    }

    /// The account's own values.
    fn account_values(&self, carrier: &str) -> Values {
        let mut values = Values::default();
        for (name, secret) in &self.values {
            values.set(Arc::clone(name), Value::Text(secret.expose().to_owned()));
        }
        if let Some(callback) = &self.callback {
            let url = |what: &str| callback.url.as_ref().map(|url| format!("{url}{}/{what}", callback.path(carrier)));
            values.set_some("receipt_url", url("receipt"));
            values.set_some("message_url", url("message"));
        }
        values
    }

    /// Everything that can be said of a part, which is a whole text.
    fn values_of(&self, options: &Options, part: &Part, now: Timestamp) -> Result<Values, Verdict> {
        let text = part.text.words.as_str();
        let plan = sms::plan(&part.text.words);
        if plan.count > self.description.parts_max {
            let most = self.description.parts_max;
            let why = format!("not sent: {} parts, and the carrier takes at most {most} as a whole", plan.count);
            return Err(answer::refused(Class::Text, why));
        }
        let mut values = self.account_values(&options.name);
        let (signature, body) = sms::signature_and_rest(text);
        let sender = part.text.from.as_ref();
        let is_gsm = Encoding::of(text) == Encoding::Gsm7;
        let alphabet = &self.description.request.alphabet[usize::from(!is_gsm)];
        for (name, value) in [
            ("to", part.text.to.to_string()),
            ("to_digits", part.text.to.digits().to_owned()),
            ("to_local", local(&part.text.to).to_owned()),
            ("text", text.to_owned()),
            ("body_text", body.to_owned()),
            ("id", part.text.id.to_string()),
            ("alphabet", alphabet.clone()),
            ("nonce", format!("{:032x}", fastrand::u128(..))),
        ] {
            values.set_text(name, value);
        }
        values.set_some("signature_name", signature);
        values.set_some("sender", sender.map(SenderId::to_string));
        values.set_some("sender_bare", sender.map(|sender| sender.to_string().trim_start_matches('+').to_owned()));
        set_times(&mut values, now);
        if self.description.wants_templates() {
            self.set_template(&mut values, signature, body)?;
        }
        Ok(values)
    }

    fn set_template(&self, values: &mut Values, signature: Option<&str>, body: &str) -> Result<(), Verdict> {
        let found = Registered::of(&self.templates, signature, body);
        let (registered, variables) = found.ok_or_else(|| answer::refused(Class::Text, FITS_NONE))?;
        values.set_text("template_id", &*registered.id);
        values.set_some("template_signature", registered.signature.as_deref().or(signature));
        let all: Map<String, Json> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        values.set("variables", Value::Json(Json::Object(all)));
        values.set("variable_values", Value::Json(variables.iter().map(|(_, value)| *value).collect()));
        Ok(())
    }
}

/// A number of China as people there write it; another with its country's code.
fn local(number: &Number) -> &str {
    let digits = number.digits();
    digits.strip_prefix("86").filter(|local| is_chinese_mobile(local)).unwrap_or(digits)
}

fn set_times(values: &mut Values, now: Timestamp) {
    let seconds = |at: Timestamp| at.rfc3339().chars().take("2026-11-23T06:24:00".len()).collect::<String>();
    let compact = |at: Timestamp| seconds(at).chars().filter(char::is_ascii_digit).collect::<String>();
    let (utc, china) = (seconds(now), now.plus(Duration::from_secs(8 * 3_600)));
    values.set_text("time_unix", now.seconds().to_string());
    values.set_text("time_millis", now.millis().to_string());
    values.set_text("time_iso", format!("{utc}Z"));
    values.set_text("time_compact", compact(now));
    values.set_text("time_compact_china", compact(china));
    values.set_text("date", utc.chars().take("2026-11-23".len()).collect::<String>());
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests;
