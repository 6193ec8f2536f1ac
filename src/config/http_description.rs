//! Descriptions of carriers that are asked by HTTP: those that come with postrider (`config/http`), and administrators' own.
//!
//! **Promises.** What is read works: every value that is wanted is known where it is wanted, what is no text stands nowhere but in
//! further steps, and every place is one that its format has. All mistakes are told at once, where they stand in the file.
//!
//! **Does not know** accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::mistake::{Fault, Mistake, among, shortened};
use super::reader::{Notes, Section};
use super::{syntax, value};
use crate::egress::sms::http::{
    AnswerMap, Body, CALLBACK_URLS, CALLBACK_VALUES, Check, Class, Description, Endpoint, Field, Format, Function,
    Messages, Need, REQUEST_VALUES, Receipts, Reply, Request, Step, TEMPLATE_VALUES, TEXT_VALUES, Tree, Words,
};
use crate::model::ReceiptState;

/// Those that come with postrider: what `description` says, and what is in the file of that name.
pub(super) const SHIPPED: [(&str, &str); 6] = [
    ("aliyun", include_str!("../../config/http/aliyun.toml")),
    ("aliyun-voice", include_str!("../../config/http/aliyun-voice.toml")),
    ("generic", include_str!("../../config/http/generic.toml")),
    ("tencent", include_str!("../../config/http/tencent.toml")),
    ("twilio", include_str!("../../config/http/twilio.toml")),
    ("vonage", include_str!("../../config/http/vonage.toml")),
];

/// Reads a description as if it stood in `file`.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn parse_description(file: &Path, text: &str) -> Result<Description, Vec<Mistake>> {
    read(file, text).0
}

/// The result, and every key that was asked for.
pub(super) fn read(file: &Path, text: &str) -> (Result<Description, Vec<Mistake>>, BTreeSet<String>) {
    let notes = Notes::new(file, text, &|_| None);
    let read = match DeTable::parse(text) {
        Ok(document) => Section::read_root(&notes, document.get_ref(), description),
        Err(e) => {
            notes.mistake_at(e.span().map_or(0, |s| s.start), "", Fault::new(syntax(&e), ""));
            None
        }
    };
    let (mut mistakes, _, asked) = notes.finish();
    let result = read.filter(|_| mistakes.is_empty()).ok_or_else(|| {
        if mistakes.is_empty() {
            let (wrong, right) = ("incomplete".to_owned(), "begin with a copy of config/http/generic.toml".to_owned());
            mistakes.push(Mistake { file: file.to_owned(), line: 1, column: 1, key: String::new(), wrong, right });
        }
        mistakes
    });
    (result, asked)
}

/// Which values may be wanted.
#[derive(Clone, Default)]
struct Known {
    all: BTreeSet<String>,
    /// Those that are no text.
    octets: BTreeSet<String>,
    /// Those that are there only once path, query and body are made.
    late: BTreeSet<String>,
}

impl Known {
    fn new(groups: &[&[&str]], account: &BTreeMap<Arc<str>, Need>) -> Self {
        let all = groups.iter().flat_map(|group| group.iter().map(|name| (*name).to_owned()));
        let all = all.chain(account.keys().map(ToString::to_string)).collect();
        Self { all, ..Self::default() }
    }

    /// Reads words of values that are known; `late` ones, and such as are no `text`, only where they may stand.
    fn words(&self, late: bool, text: bool) -> impl Fn(&DeValue<'_>) -> Result<Words, Fault> {
        move |value| self.check(value::as_text(value, "text in quotes")?, late, text)
    }

    fn check(&self, written: &str, late: bool, text: bool) -> Result<Words, Fault> {
        let words: Words = written.parse().map_err(|e| Fault::new(format!("{e}"), ""))?;
        for name in words.names() {
            if !self.all.contains(name) {
                let known: Vec<&str> = self.all.iter().map(String::as_str).collect();
                return Err(Fault::new(format!("unknown value {{{name}}}"), among(name, &known)));
            }
            if !late && self.late.contains(name) {
                let right = "values that are made of the request itself may stand in its headers only";
                return Err(Fault::new(format!("{{{name}}} is made of what it would be a part of"), right));
            }
            if text && self.octets.contains(name) {
                let right = "end its steps with \"hex\" or \"base64\"";
                return Err(Fault::new(format!("{{{name}}} is no text but the octets of a digest"), right));
            }
        }
        Ok(words)
    }
}

fn description(root: &mut Section<'_>) -> Option<Description> {
    let parts_max = root.or("parts", 10, value::count(1..=255));
    let account: BTreeMap<Arc<str>, Need> =
        root.words("account", need).into_iter().flatten().map(|(name, need)| (name.into(), need)).collect();
    let request = root.table("request", |section| request(section, &account));
    let answer = root.table("answer", answer);
    let receipt = root.table("receipt", |section| section.is_there().then(|| receipts(section, &account)).flatten());
    let message = root.table("message", |section| section.is_there().then(|| messages(section, &account)).flatten());
    Some(Description { request: request?, answer: answer?, receipt, message, account, parts_max })
}

/// A value of the account: `"secret"`, `"required"`, `"optional"` or `{ default = "…" }`.
fn need(name: &str, value: &DeValue<'_>) -> Result<Need, Fault> {
    let right = "expected \"secret\", \"required\", \"optional\" or { default = \"...\" }";
    let built_in = [TEXT_VALUES, TEMPLATE_VALUES, CALLBACK_URLS, REQUEST_VALUES, CALLBACK_VALUES].concat();
    check_name(name, &built_in)?;
    if name.ends_with("_file") || name.ends_with("_env") {
        let right = "give it a name without _file and _env, which say where secrets are";
        return Err(Fault::new(format!("an account could not say \"{name}\""), right));
    }
    if let Some(table) = value.as_table() {
        let mut entries = table.iter();
        return match (entries.next(), entries.next()) {
            (Some((key, text)), None) if key.get_ref() == "default" => {
                Ok(Need::Default(value::as_text(text.get_ref(), "text in quotes")?.to_owned()))
            }
            _ => Err(Fault::new("not a default", right)),
        };
    }
    match value.as_str() {
        Some("secret") => Ok(Need::Secret),
        Some("required") => Ok(Need::Required),
        Some("optional") => Ok(Need::Optional),
        _ => Err(Fault::new("not what an account has to say", right)),
    }
}

fn check_name(name: &str, taken: &[impl AsRef<str>]) -> Result<(), Fault> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(Fault::new(format!("bad name \"{}\"", shortened(name)), "expected a-z, 0-9 and _"));
    }
    if taken.iter().any(|taken| taken.as_ref() == name) {
        return Err(Fault::new(format!("there is a value {{{name}}} already"), "give it another name"));
    }
    Ok(())
}

/// The steps of a recipe; what they make is known from there on.
fn steps(section: &mut Section<'_>, known: &mut Known) -> Vec<Step> {
    let growing = std::cell::RefCell::new(std::mem::take(known));
    let read = section.tables("value", |section| step(section, &mut growing.borrow_mut()));
    *known = growing.into_inner();
    read.into_iter().map(|placed| placed.value).collect()
}

fn step(section: &mut Section<'_>, known: &mut Known) -> Option<Step> {
    let name = section.required("name", r#""signature""#, |value| {
        let name = value::text(value)?;
        let taken: Vec<&String> = known.all.iter().collect();
        check_name(&name, &taken).map(|()| name)
    });
    let of = section.optional("of", known.words(true, false));
    let lines = section.list("lines", |value| value::text(value));
    let key = section.optional("key", known.words(true, false));
    let with = section.required_list("with", r#"["sha256", "hex"]"#, value::word(Function::WORDS));
    let has = |key: &str| section.notes.has(&section.key_of(key));
    let of = match (has("of"), has("lines")) {
        (true, false) => of,
        (false, true) => {
            let read = lines.map(|lines| known.check(&lines.join("\n"), true, false));
            read.and_then(|read| read.map_err(|fault| section.mistake("lines", fault.wrong, fault.right)).ok())
        }
        (true, true) => {
            section.mistake("lines", "of and lines stand together", "keep one of them");
            None
        }
        (false, false) => {
            section.mistake("of", "missing", "add of = \"{body}\", or lines = [\"...\", \"...\"] to be joined");
            None
        }
    };
    let is_keyed = with.iter().flatten().any(|function| function.is_keyed());
    if is_keyed != has("key") && with.is_some() {
        let (wrong, right) = if is_keyed {
            ("missing", "add key = \"{secret}\" for the keyed digest")
        } else {
            ("no function of this value has a key", "remove it, or add \"hmac_sha256\" to with")
        };
        section.mistake("key", wrong, right);
    }
    let step = Step { name: name?.into(), of: of?, key, with: with? };
    let name = step.name.to_string();
    if !step.makes_text(|name| !known.octets.contains(name)) {
        known.octets.insert(name.clone());
    }
    if step.names().any(|wanted| known.late.contains(wanted)) {
        known.late.insert(name.clone());
    }
    known.all.insert(name);
    Some(step)
}

fn request(section: &mut Section<'_>, account: &BTreeMap<Arc<str>, Need>) -> Option<Request> {
    const METHODS: &[(&str, u8)] = &[("POST", 0), ("GET", 1), ("PUT", 2)];
    if !section.is_there() {
        section.mistake("url", "missing", "add a [request] table with url = \"https://...\"");
        return None;
    }
    let mut known = Known::new(&[TEXT_VALUES, TEMPLATE_VALUES, CALLBACK_URLS, REQUEST_VALUES], account);
    known.late = REQUEST_VALUES.iter().map(|name| (*name).to_owned()).collect();
    let all = steps(section, &mut known);
    let method = match section.or("method", 0, value::word(METHODS)) {
        0 => Method::POST,
        1 => Method::GET,
        _ => Method::PUT,
    };
    let url = section.required("url", r#""https://api.example.com/send""#, |value| url(value, &known));
    let alphabet =
        section.list("alphabet", value::text).unwrap_or_else(|| vec!["gsm".to_owned(), "unicode".to_owned()]);
    let alphabet: Option<[String; 2]> = alphabet.try_into().ok();
    if alphabet.is_none() {
        section.mistake("alphabet", "not two words", "expected alphabet = [\"text\", \"unicode\"]");
    }
    let entry = known.words(false, true);
    let query = section.words("query", |_, value| entry(value)).unwrap_or_default();
    let headers = section.words("headers", |name, value| Ok((header(name)?, known.words(true, true)(value)?)));
    let body = body(section, &known);
    let (late, early) = all.into_iter().partition(|step| known.late.contains(&*step.name));
    let (endpoint, path) = url?;
    let headers = headers.into_iter().flatten().map(|(_, header)| header).collect();
    Some(Request { method, endpoint, path, query, headers, body: body?, early, late, alphabet: alphabet? })
}

fn body(section: &mut Section<'_>, known: &Known) -> Option<Body> {
    let entry = known.words(false, true);
    let form = section.words("form", |_, value| entry(value)).map(Body::Form);
    let json = section.words("json", |_, value| tree(value, known));
    let text = section.optional("text", &entry).map(Body::Text);
    let mut bodies = [form, json.map(|entries| Body::Json(Tree::Table(entries))), text].into_iter().flatten();
    match (bodies.next(), bodies.next()) {
        (body, None) => Some(body.unwrap_or(Body::None)),
        (_, Some(_)) => {
            section.mistake("form", "a request has one body", "keep one of form, json and text");
            None
        }
    }
}

fn tree(value: &DeValue<'_>, known: &Known) -> Result<Tree, Fault> {
    let whole = |text: &str, radix| i64::from_str_radix(text, radix).map(Json::from).ok();
    Ok(match value {
        DeValue::String(text) => Tree::Words(known.check(text, false, true)?),
        DeValue::Integer(number) => {
            let json = whole(number.as_str(), number.radix());
            Tree::Literal(json.ok_or_else(|| Fault::new("a number too large", "write it in quotes"))?)
        }
        DeValue::Float(number) => {
            let json = number.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Json::Number);
            Tree::Literal(json.ok_or_else(|| Fault::new("a number that JSON does not have", "write it in quotes"))?)
        }
        DeValue::Boolean(flag) => Tree::Literal(Json::Bool(*flag)),
        DeValue::Datetime(_) => return Err(Fault::new("JSON has no times", "write it in quotes")),
        DeValue::Array(all) => Tree::List(all.iter().map(|one| tree(one.get_ref(), known)).collect::<Result<_, _>>()?),
        DeValue::Table(table) => {
            let entry = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                Ok::<_, Fault>((name.to_string(), tree(value.get_ref(), known)?))
            };
            Tree::Table(table.iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

/// Scheme and host, then the path.
fn url(value: &DeValue<'_>, known: &Known) -> Result<(Endpoint, Words), Fault> {
    const RIGHT: &str = "a URL such as \"https://api.example.com/send\"";
    let text = value::as_text(value, RIGHT)?;
    let behind = text.find("://").map_or(0, |at| at + 3);
    let at = text[behind..].find(['/', '?', '#']).map_or(text.len(), |at| behind + at);
    let (endpoint, path) = text.split_at(at);
    let endpoint =
        endpoint.parse().map_err(|e: &str| Fault::new(format!("bad URL \"{}\"", shortened(text)), e.to_owned()))?;
    let path = if path.is_empty() { "/" } else { path };
    if !path.starts_with('/') || path.contains(['?', '#']) || !path.bytes().all(|b| b.is_ascii_graphic()) {
        let right = "write a path of printable ASCII; the query goes into [request.query]";
        return Err(Fault::new(format!("bad path in the URL \"{}\"", shortened(text)), right));
    }
    Ok((endpoint, known.check(path, false, true)?))
}

fn header(name: &str) -> Result<HeaderName, Fault> {
    const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "user-agent"];
    let read = HeaderName::from_bytes(name.as_bytes());
    let read = read
        .map_err(|_| Fault::new(format!("bad header \"{}\"", shortened(name)), "expected a name such as X-Api-Key"))?;
    if OURS.contains(&read.as_str()) {
        return Err(Fault::new(format!("{read} is set by postrider itself"), "remove it"));
    }
    Ok(read)
}

/// A place or places of something, in order of preference.
fn field(format: Format) -> impl Fn(&DeValue<'_>) -> Result<Field, Fault> {
    move |value| {
        const RIGHT: &str = "a place, or several in brackets";
        let places = match value.as_array() {
            Some(all) => all
                .iter()
                .map(|one| value::as_text(one.get_ref(), RIGHT).map(str::to_owned))
                .collect::<Result<_, _>>()?,
            None => vec![value::as_text(value, RIGHT)?.to_owned()],
        };
        match places.iter().find_map(|place| Some((place, format.fault(place)?))) {
            Some((place, right)) => Err(Fault::new(format!("bad place \"{}\"", shortened(place)), right)),
            None => Ok(Field(places)),
        }
    }
}

fn answer(section: &mut Section<'_>) -> Option<AnswerMap> {
    let format = section.or("format", Format::Json, value::word(Format::WORDS));
    let [id, code, message] = ["id", "code", "message"].map(|key| section.or(key, Field::default(), field(format)));
    let class = value::word(Class::WORDS);
    let codes: BTreeMap<_, _> = section.words("codes", |_, value| class(value)).into_iter().flatten().collect();
    let status = section.words("status", |status, value| {
        let digits = status.strip_suffix("xx").unwrap_or(status);
        let good = matches!((status.len(), digits.len()), (3, 1 | 3)) && digits.bytes().all(|b| b.is_ascii_digit());
        if good {
            class(value)
        } else {
            Err(Fault::new("no status of HTTP", "expected one such as \"429\" or \"5xx\""))
        }
    });
    if !codes.is_empty() && code.is_none() {
        section.mistake("code", "missing", "add code = \"/code\", where the codes below stand");
    }
    if !code.is_none() && id.is_none() && !codes.values().any(|class| *class == Class::Accepted) {
        let right = "say which code is a yes: OK = \"accepted\", or where the id stands";
        section.mistake("codes", "nothing would be a yes", right);
    }
    Some(AnswerMap { format, id, code, message, codes, status: status.into_iter().flatten().collect() })
}

fn receipts(section: &mut Section<'_>, account: &BTreeMap<Arc<str>, Need>) -> Option<Receipts> {
    const STATES: &[(&str, ReceiptState)] = &[
        ("underway", ReceiptState::Underway),
        ("delivered", ReceiptState::Delivered),
        ("expired", ReceiptState::Expired),
        ("undeliverable", ReceiptState::Undeliverable),
        ("rejected", ReceiptState::Rejected),
        ("unknown", ReceiptState::Unknown),
    ];
    let format = section.or("format", Format::Json, value::word(Format::WORDS));
    let id = section.required("id", r#""/id""#, field(format));
    let status = section.required("status", r#""/status""#, field(format));
    let [code, message] = ["code", "message"].map(|key| section.or(key, Field::default(), field(format)));
    let state = value::word(STATES);
    let states: BTreeMap<_, _> = section.words("states", |_, value| state(value)).into_iter().flatten().collect();
    if states.is_empty() {
        section.mistake("states", "no word means anything", "add [receipt.states] with DELIVRD = \"delivered\"");
    }
    let (each, reply, check) = (each(section, format), reply(section), check(section, account));
    Some(Receipts { format, each, id: id?, status: status?, code, message, states, reply, check: check? })
}

fn messages(section: &mut Section<'_>, account: &BTreeMap<Arc<str>, Need>) -> Option<Messages> {
    let format = section.or("format", Format::Json, value::word(Format::WORDS));
    let mut required = |key, example| section.required(key, example, field(format));
    let (from, to, text) = (required("from", r#""/from""#), required("to", r#""/to""#), required("text", r#""/text""#));
    let (each, reply, check) = (each(section, format), reply(section), check(section, account));
    Some(Messages { format, each, from: from?, to: to?, text: text?, reply, check: check? })
}

fn each(section: &mut Section<'_>, format: Format) -> String {
    let place = section.or("each", String::new(), value::text);
    if section.notes.has(&section.key_of("each")) {
        match format {
            Format::Json => {
                if let Some(right) = format.fault(&place) {
                    section.mistake("each", format!("bad place \"{}\"", shortened(&place)), right);
                }
            }
            Format::Form | Format::Text => section.mistake("each", "only JSON has arrays", "remove it"),
        }
    }
    place
}

fn reply(section: &mut Section<'_>) -> Reply {
    let content_type = section.or("reply_type", "text/plain".to_owned(), value::ascii(100));
    Reply { body: section.or("reply", String::new(), value::text), content_type }
}

/// Outer `None`: reported.
#[allow(clippy::option_option, reason = "a check that is not wanted, and one that cannot be read")]
fn check(section: &mut Section<'_>, account: &BTreeMap<Arc<str>, Need>) -> Option<Option<Check>> {
    let mut known = Known::new(&[CALLBACK_VALUES], account);
    let values = steps(section, &mut known);
    let (is_there, header, is) = section.table("check", |section| {
        if !section.is_there() {
            return (false, None, None);
        }
        let header = section.required("header", r#""X-Signature""#, |value| header(&value::text(value)?));
        (true, header, section.required("is", r#""{signature}""#, known.words(true, false)))
    });
    if !is_there {
        return Some(None);
    }
    Some(Some(Check { header: header?, is: is?, values }))
}
