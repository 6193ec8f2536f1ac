//! Walks a parsed TOML document and collects every mistake instead of stopping at the first.
//!
//! **Promises.** A [`Section`] is read key by key; when it has been read, the keys that nobody asked for are reported, so
//! the readers themselves are the list of known keys. Everything is reported with its place in the file.
//!
//! **Does not know** which keys there are: that is the business of the sections' own readers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Fault, Mistake, Warning, among, shortened};

/// What has been seen of one file so far.
pub(super) struct Notes<'a> {
    /// The file, as it was named.
    pub(super) file: &'a Path,
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    mistakes: RefCell<Vec<(usize, Mistake)>>,
    warnings: RefCell<Vec<(usize, Warning)>>,
    /// Where each key that was read stands, by its full name.
    places: RefCell<BTreeMap<String, usize>>,
    /// Every key that was asked for, without indices: `listener.tls`.
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            file,
            text,
            env,
            mistakes: RefCell::default(),
            warnings: RefCell::default(),
            places: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// An environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Reports a mistake at a key, unless there is one at it or within it already: one mistake is not reported as two.
    pub(super) fn mistake(&self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let within =
            |m: &Mistake| m.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if self.mistakes.borrow().iter().any(|(_, m)| within(m)) {
            return;
        }
        self.mistake_at(self.place(key), key, Fault::new(wrong, right));
    }

    /// Reports a mistake at a byte of the file.
    pub(super) fn mistake_at(&self, offset: usize, key: &str, fault: Fault) {
        let (line, column) = self.line_and_column(offset);
        let (file, key) = (self.file.to_owned(), key.to_owned());
        let mistake = Mistake { file, line, column, key, wrong: fault.wrong, right: fault.right };
        self.mistakes.borrow_mut().push((offset, mistake));
    }

    /// Reports a mistake in another file, which a key names.
    pub(super) fn mistake_elsewhere(&self, key: &str, mistake: Mistake) {
        self.mistakes.borrow_mut().push((self.place(key), mistake));
    }

    /// Reports a warning at a key.
    pub(super) fn warn(&self, key: &str, what: impl Into<String>, advice: impl Into<String>) {
        let offset = self.place(key);
        let (line, column) = self.line_and_column(offset);
        let (file, key) = (self.file.to_owned(), key.to_owned());
        let warning = Warning { file, line, column, key, what: what.into(), advice: advice.into() };
        self.warnings.borrow_mut().push((offset, warning));
    }

    /// True if the key stands in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    /// Mistakes and warnings in the order of the file, and the keys asked for.
    pub(super) fn finish(self) -> (Vec<Mistake>, Vec<Warning>, BTreeSet<String>) {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|(offset, _)| *offset);
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|(offset, _)| *offset);
        (
            mistakes.into_iter().map(|(_, m)| m).collect(),
            warnings.into_iter().map(|(_, w)| w).collect(),
            self.asked.into_inner(),
        )
    }

    /// Where a key stands; where it is missing, the nearest part of its name that is there.
    fn place(&self, key: &str) -> usize {
        let places = self.places.borrow();
        let mut name = key;
        loop {
            if let Some(offset) = places.get(name) {
                return *offset;
            }
            match name.rfind(['.', '[']) {
                Some(end) => name = &name[..end],
                None => return 0,
            }
        }
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// One table of the file, or its absence, while its reader goes through it.
pub(super) struct Section<'n> {
    /// Where everything is noted.
    pub(super) notes: &'n Notes<'n>,
    /// Its full name, such as `listener[0]`; empty for the whole file.
    pub(super) path: String,
    table: Option<&'n DeTable<'n>>,
    known: Vec<String>,
}

/// What an array of tables held: the element's full name and what its reader made of it.
pub(super) struct Placed<T> {
    /// Such as `listener[0]`.
    pub(super) key: String,
    /// What was read.
    pub(super) value: T,
}

impl<T> Placed<T> {
    /// The full name of one of its keys.
    pub(super) fn key_of(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }
}

impl<'n> Section<'n> {
    /// The whole file.
    pub(super) fn read_root<T>(
        notes: &'n Notes<'n>,
        table: &'n DeTable<'n>,
        read: impl FnOnce(&mut Section<'n>) -> T,
    ) -> T {
        Self::read(notes, String::new(), Some(table), read)
    }

    fn read<T>(
        notes: &'n Notes<'n>,
        path: String,
        table: Option<&'n DeTable<'n>>,
        read: impl FnOnce(&mut Section<'n>) -> T,
    ) -> T {
        let mut section = Section { notes, path, table, known: Vec::new() };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    /// True if the table stands in the file.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The full name of a key of this section.
    pub(super) fn key_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports a mistake at a key of this section.
    pub(super) fn mistake(&self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        self.notes.mistake(&self.key_of(key), wrong, right);
    }

    /// Reports a warning at a key of this section.
    pub(super) fn warn(&self, key: &str, what: impl Into<String>, advice: impl Into<String>) {
        self.notes.warn(&self.key_of(key), what, advice);
    }

    /// A key that may be missing. A value that its reader refuses is reported, and counts as missing.
    pub(super) fn optional<T>(&mut self, key: &str, read: impl FnOnce(&DeValue<'n>) -> Result<T, Fault>) -> Option<T> {
        let value = self.ask(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.notes.mistake_at(value.span().start, &self.key_of(key), fault);
                None
            }
        }
    }

    /// A key with a default.
    pub(super) fn or<T>(&mut self, key: &str, default: T, read: impl FnOnce(&DeValue<'n>) -> Result<T, Fault>) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A key that must be there. `example` says what would be right. `None` has been reported.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        example: &str,
        read: impl FnOnce(&DeValue<'n>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.optional(key, read);
        if !self.notes.has(&self.key_of(key)) {
            self.mistake(key, "missing", format!("add {key} = {example}"));
        }
        value
    }

    /// An array; each element that its reader refuses is reported and left out. `None` where the key is missing.
    pub(super) fn list<T>(&mut self, key: &str, read: impl Fn(&DeValue<'n>) -> Result<T, Fault>) -> Option<Vec<T>> {
        let value = self.ask(key)?;
        let Some(array) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            self.mistake(key, format!("expected an array, found {} {found}", article(found)), "write it in brackets");
            return None;
        };
        let mut items = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let path = format!("{}[{i}]", self.key_of(key));
            match read(element.get_ref()) {
                Ok(item) => items.push(item),
                Err(fault) => self.notes.mistake_at(element.span().start, &path, fault),
            }
            self.notes.places.borrow_mut().insert(path, element.span().start);
        }
        Some(items)
    }

    /// An array that must be there and hold something.
    pub(super) fn required_list<T>(
        &mut self,
        key: &str,
        example: &str,
        read: impl Fn(&DeValue<'n>) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let items = self.list(key, read);
        if !self.notes.has(&self.key_of(key)) {
            self.mistake(key, "missing", format!("add {key} = {example}"));
        } else if items.as_ref().is_some_and(Vec::is_empty) {
            self.mistake(key, "empty", format!("expected {key} = {example}"));
        }
        items.filter(|items| !items.is_empty())
    }

    /// A table; a missing one is read as an empty one, so that its reader's defaults hold.
    pub(super) fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'n>) -> T) -> T {
        let table = self.ask(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let found = value.get_ref().type_str();
                let right = format!("write [{}] above its keys", self.key_of(key));
                self.mistake(key, format!("expected a table, found {} {found}", article(found)), right);
            }
            table
        });
        Self::read(self.notes, self.key_of(key), table, read)
    }

    /// An array of tables. Elements whose reader returns `None` have been reported.
    pub(super) fn tables<T>(&mut self, key: &str, read: impl Fn(&mut Section<'n>) -> Option<T>) -> Vec<Placed<T>> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let right = || format!("write [[{}]] above the keys of each", self.key_of(key));
        let Some(array) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            self.mistake(key, format!("expected an array of tables, found {} {found}", article(found)), right());
            return Vec::new();
        };
        let mut items = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let path = format!("{}[{i}]", self.key_of(key));
            self.notes.places.borrow_mut().insert(path.clone(), element.span().start);
            let Some(table) = element.get_ref().as_table() else {
                let found = element.get_ref().type_str();
                let fault = Fault::new(format!("expected a table, found {} {found}", article(found)), right());
                self.notes.mistake_at(element.span().start, &path, fault);
                continue;
            };
            if let Some(value) = Self::read(self.notes, path.clone(), Some(table), &read) {
                items.push(Placed { key: path, value });
            }
        }
        items
    }

    /// A table whose keys are the administrator's own words, in alphabetical order. A value that its reader refuses is reported and left
    /// out. `None` where the table is missing.
    pub(super) fn words<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &DeValue<'n>) -> Result<T, Fault>,
    ) -> Option<Vec<(String, T)>> {
        let value = self.ask(key)?;
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            let right = format!("write [{}] above its keys", self.key_of(key));
            self.mistake(key, format!("expected a table, found {} {found}", article(found)), right);
            return None;
        };
        let mut entries = Vec::with_capacity(table.len());
        for (name, value) in table {
            let word: &str = name.get_ref();
            let full = format!("{}.{}", self.key_of(key), shortened(word));
            match read(word, value.get_ref()) {
                Ok(read) => entries.push((word.to_owned(), read)),
                Err(fault) => self.notes.mistake_at(value.span().start, &full, fault),
            }
            self.notes.places.borrow_mut().insert(full, name.span().start);
        }
        Some(entries)
    }

    fn ask(&mut self, key: &str) -> Option<&'n Spanned<DeValue<'n>>> {
        self.known.push(key.to_owned());
        let full = self.key_of(key);
        self.notes.asked.borrow_mut().insert(without_indices(&full));
        let (name, value) = self.table?.get_key_value(key)?;
        self.notes.places.borrow_mut().insert(full, name.span().start);
        Some(value)
    }

    fn report_unknown(&self) {
        for (name, value) in self.table.into_iter().flatten() {
            let word: &str = name.get_ref();
            if self.known.iter().any(|known| known == word) {
                continue;
            }
            let Range { start, .. } = name.span();
            let table = value.get_ref().is_table() || is_array_of_tables(value.get_ref());
            let kind = if table { "unknown table" } else { "unknown key" };
            let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
            let fault = Fault::new(kind, among(word, &known));
            let key = if self.path.is_empty() { shortened(word) } else { format!("{}.{}", self.path, shortened(word)) };
            self.notes.mistake_at(start, &key, fault);
        }
    }
}

/// `a` or `an`, for the names of TOML's types.
pub(super) fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn is_array_of_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|a| a.iter().next().is_some_and(|first| first.get_ref().is_table()))
}

/// `listener[0].tls` → `listener.tls`.
fn without_indices(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|c| {
            inside = match c {
                '[' => true,
                ']' => {
                    inside = false;
                    return false;
                }
                _ => inside,
            };
            !inside
        })
        .collect()
}
