//! `[sms]`, `[[sms_template]]`, `[[sms_cap]]`: the rules that texts must fit.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, among, shortened};
use super::raw::{RawConfig, values};
use super::reader::{Notes, Placed, Section};
use super::{files, quantity, relations, value};
use crate::model::{Class, Rate};
use crate::policy::texts::{BlockedWords, Budget, Cap, Per, Registered, TemplateError, TextRules, WordsError};
use crate::route::{Price, ahead_of_utc};

/// `[sms]`, with all caps.
#[derive(Clone, Debug)]
pub struct Texts {
    /// What holds for a text.
    pub rules: TextRules,
    /// Numbers, ranges and clients remembered at a time for caps.
    pub numbers_remembered: usize,
    /// What prices are in.
    pub currency: Arc<str>,
}

/// How marketing texts to +86 tell how to get out.
const OPT_OUT_WORDS: &str = "拒收请回复R";
const NUMBERS_REMEMBERED: usize = 1_000_000;

pub(super) fn sms(section: &mut Section<'_>) -> Texts {
    let opt_out_words = section.or("opt_out_words", OPT_OUT_WORDS.to_owned(), value::text);
    let words = section.list("blocked_words", value::text).unwrap_or_default();
    let in_file = files::lines(section, "blocked_words_file").unwrap_or_default();
    let denied = section.list("denied_numbers", value::prefix).unwrap_or_default();
    let numbers_remembered = section.or("numbers_remembered", NUMBERS_REMEMBERED, value::count(1..=50_000_000));
    let all = words.iter().chain(&in_file).map(String::as_str);
    let blocked = BlockedWords::new(all).unwrap_or_else(|why| {
        let is_of_file = match &why {
            WordsError::Empty(word) => in_file.contains(word),
            WordsError::TooMany => in_file.len() > words.len(),
        };
        let key = if is_of_file { "blocked_words_file" } else { "blocked_words" };
        section.mistake(key, why.to_string(), "write words, each with a letter or a digit, at most 100,000");
        BlockedWords::default()
    });
    let currency = section.or("currency", "CNY".to_owned(), value::text);
    let all = section.optional("daily_spend", value::money);
    let ahead = section.or("day_clock", 8 * 60, day_clock);
    let opt_out_words = Some(opt_out_words).filter(|words| !words.is_empty()).map(Arc::from);
    let budget = Budget { all, ahead };
    let rules = TextRules { opt_out_words, blocked, denied, budget, ..TextRules::default() };
    Texts { rules, numbers_remembered, currency: currency.into() }
}

fn day_clock(value: &DeValue<'_>) -> Result<i32, Fault> {
    const RIGHT: &str = "write how far the clock is ahead of UTC, such as \"+08:00\"";
    let text = value::as_text(value, RIGHT)?;
    ahead_of_utc(text).ok_or_else(|| Fault::new(format!("\"{}\" is no distance from UTC", shortened(text)), RIGHT))
}

/// `[[sms_price]]`.
pub(super) fn price(section: &mut Section<'_>) -> Option<Price> {
    let carrier = section.required("carrier", r#""cmcc-1""#, value::name);
    let prefixes = section.list("prefixes", value::prefix).filter(|prefixes| !prefixes.is_empty());
    let part = section.required("part", r#""0.035""#, value::money);
    Some(Price { carrier: carrier?, prefixes: prefixes.unwrap_or_else(|| vec!["+".to_owned()]), part: part? })
}

/// Prices are of carriers that there are, and no two are for the same.
pub(super) fn check_prices(raw: &RawConfig, notes: &Notes<'_>) {
    let carriers: Vec<&str> = raw.carriers.iter().map(|c| &*c.value.name).collect();
    let complete = !relations::incomplete(notes, "carrier", raw.carriers.len());
    for placed in raw.sms_prices.iter().filter(|placed| complete && !carriers.contains(&&*placed.value.carrier)) {
        let name = &placed.value.carrier;
        let wrong = format!("unknown carrier \"{}\"", shortened(name));
        notes.mistake(&placed.key_of("carrier"), wrong, among(name, &carriers));
    }
    let said = raw.sms_prices.iter().flat_map(|placed| {
        let prefixes = placed.value.prefixes.iter().enumerate();
        prefixes.map(|(i, prefix)| ((&placed.value.carrier, prefix), placed.key_of(&format!("prefixes[{i}]"))))
    });
    let twice = |(carrier, prefix): &(&Arc<str>, &String)| format!("carrier {carrier} has a price for {prefix}");
    relations::once(notes, said, |said| twice(said), "name each beginning once");
}

pub(super) fn template(section: &mut Section<'_>) -> Option<Registered> {
    let id = section.required("id", r#""code""#, value::name);
    let client = section.required("client", r#""shop""#, value::name);
    let template = section.required("text", r#""您的验证码是{code:digits 4-6}""#, |value: &DeValue<'_>| {
        value::text(value)?.parse().map_err(|why: TemplateError| Fault::new(why.to_string(), "see config/texts.toml"))
    });
    Some(Registered { client: client?, id: id?, template: template? })
}

/// Templates are of clients that there are, and each has a name of its own.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let clients: Vec<&str> = raw.clients.iter().map(|c| &*c.value.name).collect();
    let complete = !relations::incomplete(notes, "client", raw.clients.len());
    for placed in raw.sms_templates.iter().filter(|placed| complete && !clients.contains(&&*placed.value.client)) {
        let name = &placed.value.client;
        let wrong = format!("unknown client \"{}\"", shortened(name));
        notes.mistake(&placed.key_of("client"), wrong, among(name, &clients));
    }
    let names = raw.sms_templates.iter().map(|p| ((&p.value.client, &p.value.id), p.key_of("id")));
    relations::once(
        notes,
        names,
        |(client, id)| format!("client {client} has a template {id}"),
        "give each its own id",
    );
    for client in raw.clients.iter().filter(|c| c.value.templates_only) {
        if !raw.sms_templates.iter().any(|t| t.value.client == client.value.name) {
            let advice = "add [[sms_template]], or leave templates_only out";
            notes.warn(
                &client.key_of("templates_only"),
                "this client has no template: it can text nobody in China",
                advice,
            );
        }
    }
}

pub(super) fn cap(section: &mut Section<'_>) -> Option<Cap> {
    #[derive(Clone, Copy)]
    enum Word {
        Number,
        Prefix,
        Client,
    }
    const WORDS: &[(&str, Word)] = &[("number", Word::Number), ("prefix", Word::Prefix), ("client", Word::Client)];
    let prefixes = section.required_list("prefixes", r#"["+86"], or ["+"] for all"#, value::prefix);
    let classes = section.list("classes", value::class).unwrap_or_default();
    let per = section.or("per", Word::Number, value::word(WORDS));
    let digits = section.or("digits", 6, value::whole(1..=15));
    let limits = section.required_list("limits", r#"["1/m", "5/h", "10/d"]"#, quantity::rate_a_day);
    let per = match per {
        Word::Number => Per::Number,
        Word::Prefix => Per::Digits(u8::try_from(digits).unwrap_or(u8::MAX)),
        Word::Client => Per::Client,
    };
    Some(Cap { prefixes: prefixes?, classes, per, limits: limits? })
}

/// What holds in China without a word: the caps of its large platforms.
fn chinese() -> [Cap; 2] {
    let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
    let cap = |classes: &[Class], limits| {
        let prefixes = vec!["+86".to_owned()];
        Cap { prefixes, classes: classes.to_vec(), per: Per::Number, limits }
    };
    [
        cap(&[Class::Otp], vec![rate(1, 60), rate(5, 3_600), rate(10, 86_400)]),
        cap(&[Class::Transactional, Class::Marketing], vec![rate(50, 86_400)]),
    ]
}

/// All of it. Of equal caps the first counts: the administrator's.
pub(super) fn texts(sms: Texts, templates: Vec<Placed<Registered>>, caps: Vec<Placed<Cap>>) -> Texts {
    let caps = values(caps).into_iter().chain(chinese()).collect();
    Texts { rules: TextRules { templates: values(templates), caps, ..sms.rules }, ..sms }
}
