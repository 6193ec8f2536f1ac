//! Walks the parsed TOML of a provider table and collects every mistake instead of stopping at the first.
//!
//! **Promises.** An [`Entry`] is read key by key; [`Entry::end`] reports the keys that nobody asked for. No text makes a
//! reader panic.
//!
//! **Does not know** which keys there are.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Rate;
use super::mistake::{Fault, Mistake, shortened};

/// All that has been found wrong, with its place.
pub(super) struct Notes<'t> {
    text: &'t str,
    found: Vec<(usize, Mistake)>,
}

impl<'t> Notes<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Reports a mistake at a byte of the text.
    pub(super) fn add(&mut self, offset: usize, key: impl Into<String>, fault: Fault) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        self.found.push((offset, Mistake { line, column, key: key.into(), wrong: fault.wrong, right: fault.right }));
    }

    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// All mistakes, in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Mistake> {
        self.found.sort_by_key(|(offset, _)| *offset);
        self.found.into_iter().map(|(_, mistake)| mistake).collect()
    }
}

/// One table of an array of tables, while it is read.
pub(super) struct Entry<'n, 't, 'd> {
    notes: &'n mut Notes<'t>,
    /// Such as `reply[3]`.
    pub(super) path: String,
    /// Where it begins.
    pub(super) offset: usize,
    /// Mistakes found before it.
    before: usize,
    table: &'d DeTable<'d>,
    known: Vec<&'static str>,
}

/// Reads every table of the array that `key` of the whole file names.
pub(super) fn entries<'t, 'd, T>(
    notes: &mut Notes<'t>,
    root: &'d DeTable<'d>,
    key: &str,
    mut read: impl FnMut(&mut Entry<'_, 't, 'd>) -> Option<T>,
) -> Vec<T> {
    let Some(value) = root.get(key) else { return Vec::new() };
    let right = format!("write [[{key}]] above the keys of each");
    let Some(array) = value.get_ref().as_array() else {
        notes.add(value.span().start, key, Fault::new("expected an array of tables", right));
        return Vec::new();
    };
    let mut items = Vec::with_capacity(array.len());
    for (i, element) in array.iter().enumerate() {
        let (path, offset) = (format!("{key}[{i}]"), element.span().start);
        let Some(table) = element.get_ref().as_table() else {
            notes.add(offset, path, Fault::new("expected a table", right.clone()));
            continue;
        };
        let before = notes.found.len();
        let mut entry = Entry { notes: &mut *notes, path, offset, before, table, known: Vec::new() };
        let item = read(&mut entry);
        entry.end();
        items.extend(item);
    }
    items
}

impl<'d> Entry<'_, '_, 'd> {
    /// Reports a mistake at a key, or at the whole table where it has no such key.
    pub(super) fn mistake(&mut self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let offset = self.table.get_key_value(key).map_or(self.offset, |(name, _)| name.span().start);
        self.notes.add(offset, format!("{}.{key}", self.path), Fault::new(wrong, right));
    }

    /// True if nothing in it has been found wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.notes.found.len() == self.before
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A key that may be missing. A value that its reader refuses is reported, and counts as missing.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'d>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.ask(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.notes.add(value.span().start, format!("{}.{key}", self.path), fault);
                None
            }
        }
    }

    /// A key that must be there. `None` has been reported.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'d>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.optional(key, read);
        if !self.has(key) {
            self.mistake(key, "missing", format!("add {key} = {example}"));
        }
        value
    }

    /// An array; empty where it is missing. Elements that their reader refuses are reported and left out.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl Fn(&DeValue<'d>) -> Result<T, Fault>) -> Vec<T> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.mistake(key, "expected an array", "write it in brackets");
            return Vec::new();
        };
        // An empty list would match nothing, or everything: nobody can tell which was meant.
        if array.is_empty() {
            self.mistake(key, "empty", "name something, or leave the key out");
        }
        let mut items = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            match read(element.get_ref()) {
                Ok(item) => items.push(item),
                Err(fault) => self.notes.add(element.span().start, format!("{}.{key}[{i}]", self.path), fault),
            }
        }
        items
    }

    fn ask(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn end(self) {
        for (name, _) in self.table {
            let word: &str = name.get_ref();
            if !self.known.contains(&word) {
                let fault = Fault::new("unknown key", format!("one of {}", self.known.join(", ")));
                self.notes.add(name.span().start, format!("{}.{}", self.path, shortened(word)), fault);
            }
        }
    }
}

/// Any text that says something.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Fault> {
    match value.as_str().map(str::trim) {
        Some("") => Err(Fault::new("empty", "write something, or leave it out")),
        Some(text) => Ok(text.to_owned()),
        None => Err(Fault::new(format!("expected text, found {}", value.type_str()), "write it in quotes")),
    }
}

/// A name that may stand in a metric's label: small letters, digits and hyphens.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = text(value)?;
    let good = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(text) } else { Err(bad("name", &text, "1 to 64 small letters, digits and hyphens")) }
}

/// A domain name, without dots at its ends.
pub(super) fn domain(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = text(value)?;
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(bad("domain", &text, r#"a name such as "google.com"; it includes those below it"#))
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| Fault::new("expected true or false", "write it without quotes"))
}

/// A whole number from 1 to 1,000,000.
pub(super) fn count(value: &DeValue<'_>) -> Result<u32, Fault> {
    let read = || {
        let integer = value.as_integer()?;
        u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| (1..=1_000_000).contains(n))
    };
    read().ok_or_else(|| Fault::new("bad number", "expected a whole number from 1 to 1000000"))
}

/// `"90s"`, `"5m"`, `"1h"`, `"3d"`: one number with its unit, at most thirty days.
pub(super) fn span(value: &DeValue<'_>) -> Result<Duration, Fault> {
    let text = text(value)?;
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = number.parse::<u64>().ok()?.checked_mul(seconds_of(unit)?)?;
        (1..=30 * 86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
    };
    read().ok_or_else(|| bad("duration", &text, r#""30s", "5m", "2h" or "3d", at most 30 days"#))
}

/// `"10/m"`: a number in a second, a minute, an hour or a day.
pub(super) fn rate(value: &DeValue<'_>) -> Result<Rate, Fault> {
    let text = text(value)?;
    let read = || {
        let (count, unit) = text.split_once('/')?;
        let count = count.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
        Some(Rate { count, per: Duration::from_secs(seconds_of(unit)?) })
    };
    read().ok_or_else(|| bad("rate", &text, r#"a rate such as "100/s", "10/m", "5/h" or "500/d""#))
}

fn seconds_of(unit: &str) -> Option<u64> {
    match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| {
        let text = text(value)?;
        let known = || all.iter().map(|t| as_str(*t)).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|t| as_str(**t) == text).copied();
        found
            .ok_or_else(|| Fault::new(format!("unknown value \"{}\"", shortened(&text)), format!("one of {}", known())))
    }
}

pub(super) fn bad(what: &str, text: &str, right: &str) -> Fault {
    Fault::new(format!("bad {what} \"{}\"", shortened(text)), format!("expected {right}"))
}
