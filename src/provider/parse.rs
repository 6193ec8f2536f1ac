//! The file's format: `[[provider]]` and `[[reply]]`, from TOML to a [`Table`].
//!
//! ```toml
//! [[provider]]
//! name = "gmail"
//! mx = ["google.com"]               # its mail hosts' names, or what these end in
//! connections = 5
//!
//! [[reply]]
//! id = "gmail-rate-ip"              # stable: it stands in events
//! provider = "gmail"
//! codes = [421, "5xx"]              # any of them; a key that is missing fits everything
//! enhanced = ["x.7.28"]
//! text = ["unusual rate"]
//! stages = ["mail", "rcpt"]
//! class = "rate-ip"
//! blames = "source"
//! action = "retry"
//! slow = "10/m"
//! for = "30m"
//! ```

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::mistake::{Fault, Mistake, shortened};
use super::reader::{self, Entry, Notes, bad, entries};
use super::row::{Action, Class, Matcher, Pattern, Row, folded};
use super::{ANY, Limits, Provider, Table};
use crate::model::{Measures, Rule, Scope, Slow, Stage};

/// Most rows: what hides what is looked for pair by pair.
const ROWS_MAX: usize = 2_000;
/// Most providers: each is a label of a metric.
const PROVIDERS_MAX: usize = 500;

/// Stages at which a reply may be heard.
const STAGES: [Stage; 7] =
    [Stage::Connect, Stage::Hello, Stage::Tls, Stage::Mail, Stage::Recipient, Stage::Data, Stage::EndOfData];

/// What was read, and where it stands.
struct Placed<T> {
    offset: usize,
    key: String,
    value: T,
    /// Nothing in it is wrong. What is missing from one that is not may be missing only because of that.
    clean: bool,
}

fn placed<'n, 't, 'd, T>(
    entry: &mut Entry<'n, 't, 'd>,
    read: impl FnOnce(&mut Entry<'n, 't, 'd>) -> Option<T>,
) -> Option<Placed<T>> {
    let (offset, key) = (entry.offset, entry.path.clone());
    read(entry).map(|value| Placed { offset, key, value, clean: entry.is_clean() })
}

pub(super) fn table(text: &str) -> Result<Table, Vec<Mistake>> {
    let mut notes = Notes::new(text);
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let wrong = e.message().split('\n').map(str::trim).collect::<Vec<_>>().join(", ");
            notes.add(e.span().map_or(0, |s| s.start), "", Fault::new(wrong, "the rest is checked once it is TOML"));
            return Err(notes.finish());
        }
    };
    let root = document.get_ref();
    for (name, _) in root.iter().filter(|(name, _)| !matches!(&**name.get_ref(), "provider" | "reply")) {
        let fault = Fault::new("unknown key", "one of provider, reply");
        notes.add(name.span().start, shortened(name.get_ref()), fault);
    }
    let providers = entries(&mut notes, root, "provider", |entry| placed(entry, provider));
    let rows = entries(&mut notes, root, "reply", |entry| placed(entry, row));
    check_providers(&mut notes, &providers);
    check_rows(&mut notes, &providers, &rows);
    if !notes.is_clean() {
        return Err(notes.finish());
    }
    let mut providers: Vec<Provider> = providers.into_iter().map(|p| p.value).collect();
    // `any` to the front; the others keep their order.
    providers.sort_by_key(|p| &*p.name != ANY);
    Ok(Table::new(providers, rows.into_iter().map(|r| r.value).collect()))
}

fn provider(entry: &mut Entry<'_, '_, '_>) -> Option<Provider> {
    let name = entry.required("name", r#""gmail""#, reader::name);
    let provider = Provider {
        name: name.as_deref().unwrap_or_default().into(),
        mx: entry.list("mx", reader::domain),
        domains: entry.list("domains", reader::domain),
        limits: Limits {
            connections: entry.optional("connections", reader::count),
            messages_per_connection: entry.optional("messages_per_connection", reader::count),
            messages: entry.optional("messages", reader::rate),
            new_connections: entry.optional("new_connections", reader::rate),
            tls_wanted: entry.optional("tls_wanted", reader::flag),
            idle: entry.optional("idle", reader::span),
        },
        rows: Vec::new(),
    };
    let name = name?;
    if name == ANY && entry.has("mx") {
        entry.mistake("mx", format!("\"{ANY}\" is whoever is no other provider"), "leave mx out");
    } else if name != ANY && !entry.has("mx") {
        entry.mistake("mx", "missing", r#"add mx = ["google.com"]"#);
    }
    Some(provider)
}

fn row(entry: &mut Entry<'_, '_, '_>) -> Option<Row> {
    let id = entry.required("id", r#""gmail-rate-ip""#, reader::name);
    let provider = entry.required("provider", r#""gmail", or "any" for all"#, reader::name);
    let matcher = Matcher {
        codes: entry.list("codes", code),
        enhanced: entry.list("enhanced", pattern),
        text: entry.list("text", |value| reader::text(value).map(|text| folded(&text))),
        stages: entry.list("stages", reader::word(&STAGES, Stage::as_str)),
    };
    let class = entry.required("class", r#""rate-ip""#, reader::word(Class::ALL, Class::as_str));
    let blames = entry.required("blames", r#""source""#, reader::word(&Scope::ALL, Scope::as_str));
    let action = entry.required("action", r#""retry""#, reader::word(&Action::ALL, Action::as_str));
    let retry_after = entry.optional("retry_after", reader::span);
    let measures = measures(entry);
    if action.is_some_and(Action::is_final) && entry.has("retry_after") {
        entry.mistake("retry_after", "what bounces is not tried again", r#"leave it out, or action = "retry""#);
    }
    if matcher.is_empty() && !["codes", "enhanced", "text", "stages"].iter().any(|key| entry.has(key)) {
        entry.mistake("text", "nothing says which replies are meant", "add codes, enhanced, text or stages");
    }
    let class = class?;
    let rule = Rule { id: id?.into(), class: class.as_str().into() };
    let provider = provider?.into();
    let measures = Arc::new(Measures { about_pace: class.is_about_pace(), ..measures });
    Some(Row { rule, provider, class, blames: blames?, action: action?, retry_after, measures, matcher })
}

fn measures(entry: &mut Entry<'_, '_, '_>) -> Measures {
    let lasts = entry.optional("for", reader::span);
    let slow = entry.optional("slow", reader::rate);
    let connections = entry.optional("connections", reader::count);
    let lasting = [("slow", slow.is_some()), ("connections", connections.is_some())];
    match lasting.into_iter().find(|(_, there)| *there) {
        Some((key, _)) if !entry.has("for") => entry.mistake(key, "does not say how long", "add for = \"1h\""),
        None if lasts.is_some() && !entry.has("slow") && !entry.has("connections") => {
            entry.mistake("for", "there is nothing that lasts", "add slow or connections");
        }
        _ => {}
    }
    // Where the time is missing that has been reported.
    let lasts = lasts.unwrap_or(Duration::ZERO);
    Measures {
        about_pace: false,
        slow: slow.map(|to| Slow { to, lasts }),
        suspend: entry.optional("suspend", reader::span),
        connections: connections.map(|most| (most, lasts)),
        messages_per_connection: entry.optional("messages_per_connection", reader::count),
        fix: entry.optional("fix", reader::text),
    }
}

/// `421`, or `"4xx"` and `"5xx"` for all of a class.
fn code(value: &DeValue<'_>) -> Result<RangeInclusive<u32>, Fault> {
    let right = r#"a refusal's code from 400 to 599, "4xx" or "5xx""#;
    match (value.as_integer(), value.as_str()) {
        (_, Some("4xx")) => Ok(400..=499),
        (_, Some("5xx")) => Ok(500..=599),
        (Some(integer), _) => {
            let code = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
            code.filter(|c| (400..=599).contains(c)).map(|c| c..=c).ok_or_else(|| bad("code", integer.as_str(), right))
        }
        (None, text) => Err(bad("code", text.unwrap_or(value.type_str()), right)),
    }
}

fn pattern(value: &DeValue<'_>) -> Result<Pattern, Fault> {
    let text = reader::text(value)?;
    let right = r#""4.7.26", "x.7.26", "4.7.x" or "4.7.850-4.7.899""#;
    Pattern::parse(&text).ok_or_else(|| bad("enhanced status", &text, right))
}

/// Names and mail hosts belong to one provider each, and there is one for everybody.
fn check_providers(notes: &mut Notes<'_>, providers: &[Placed<Provider>]) {
    let (mut names, mut hosts) = (HashMap::new(), HashMap::new());
    for Placed { offset, key, value, .. } in providers {
        if names.insert(&value.name, key).is_some() {
            let wrong = format!("the name \"{}\" is taken", value.name);
            notes.add(*offset, format!("{key}.name"), Fault::new(wrong, "give each provider its own name"));
        }
        for host in &value.mx {
            if let Some(earlier) = hosts.insert(host, key) {
                let wrong = format!("\"{host}\" belongs to {earlier} already");
                notes.add(*offset, format!("{key}.mx"), Fault::new(wrong, "name it once"));
            }
        }
    }
    if !providers.iter().any(|p| &*p.value.name == ANY) {
        let fault = Fault::new(format!("no provider \"{ANY}\""), format!("add [[provider]] with name = \"{ANY}\""));
        notes.add(0, "provider", fault);
    }
    if let Some(first) = providers.get(PROVIDERS_MAX) {
        notes.add(first.offset, "provider", Fault::new("too many providers", format!("at most {PROVIDERS_MAX}")));
    }
}

/// Ids are unique, providers exist, and every row can be reached.
fn check_rows(notes: &mut Notes<'_>, providers: &[Placed<Provider>], rows: &[Placed<Row>]) {
    if let Some(first) = rows.get(ROWS_MAX) {
        notes.add(first.offset, "reply", Fault::new("too many rows", format!("at most {ROWS_MAX}")));
        return;
    }
    let mut ids = HashMap::new();
    for (n, Placed { offset, key, value, clean }) in rows.iter().enumerate() {
        if ids.insert(&value.rule.id, ()).is_some() {
            let wrong = format!("the id \"{}\" is taken", value.rule.id);
            notes.add(*offset, format!("{key}.id"), Fault::new(wrong, "give each row its own id"));
        }
        if value.provider.as_ref() != ANY && !providers.iter().any(|p| p.value.name == value.provider) {
            let wrong = format!("unknown provider \"{}\"", value.provider);
            notes.add(*offset, format!("{key}.provider"), Fault::new(wrong, "add a [[provider]] of that name"));
        }
        let earlier = rows[..n].iter().filter(|r| r.clean && *clean).map(|r| &r.value);
        let hiding = |r: &&Row| r.provider == value.provider && r.matcher.hides(&value.matcher);
        if let Some(hiding) = earlier.into_iter().find(hiding) {
            let wrong = format!("can never match: \"{}\" above it knows all its replies", hiding.rule.id);
            notes.add(*offset, key.clone(), Fault::new(wrong, "put it above that row, or make that row narrower"));
        }
    }
}
