//! `[replies]`, `[opt_outs]`, `[[reply_rule]]`: what handsets send, what they want no more of, and what follows from other words.

use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, among, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::{quantity, relations, value};
use crate::dispatch::replies::Options;
use crate::model::SmsText;
use crate::policy::opt_outs::Words;
use crate::policy::reply_rules::ReplyRule;

/// `[replies]` and `[opt_outs]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replies {
    /// How long parts wait, how many texts are remembered, which words mean what.
    pub options: Options,
    /// Entries that the list of opt-outs may hold.
    pub opt_outs_max: usize,
}

/// `[replies]`, without the words.
pub(super) fn replies(section: &mut Section<'_>) -> Options {
    let default = Options::default();
    let join_within = quantity::span(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400));
    Options {
        join_within: section.or("join_within", default.join_within, join_within),
        joining_max: section.or("joining", default.joining_max, value::count(1..=100_000)),
        remembered: section.or("remembered", default.remembered, value::count(0..=100_000_000)),
        words: default.words,
        rules: default.rules,
    }
}

/// `[opt_outs]`: the words, and how many entries there may be.
pub(super) fn opt_outs(section: &mut Section<'_>) -> (Words, usize) {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let out = section.list("words", word).unwrap_or_else(|| owned(&Words::OUT));
    let back = section.list("words_back", word).unwrap_or_else(|| owned(&Words::BACK));
    let folded: Vec<String> = out.iter().map(|word| Words::fold(word)).collect();
    if let Some(both) = back.iter().find(|word| folded.contains(&Words::fold(word))) {
        let wrong = format!("\"{}\" is among the words as well: it cannot mean both", shortened(both));
        let key = if section.notes.has(&section.key_of("words_back")) { "words_back" } else { "words" };
        section.mistake(key, wrong, "leave it out of one of the two");
    }
    let entries = section.or("entries", ENTRIES, value::count(1..=100_000_000));
    (Words::new(out, back), entries)
}

/// `[[reply_rule]]`.
pub(super) fn rule(section: &mut Section<'_>) -> Option<ReplyRule> {
    let name = section.required("name", r#""help""#, value::name);
    let words = section.required_list("words", r#"["HELP"]"#, word);
    let numbers = section.list("numbers", value::sender_id).unwrap_or_default();
    let clients = section.list("clients", value::name).unwrap_or_default();
    let client = section.optional("client", value::name);
    let answer = section.optional("answer", |value: &DeValue<'_>| {
        let right = "write a text of at most 2,000 characters";
        SmsText::new(value::as_text(value, right)?).map_err(|why| Fault::new(why, right))
    });
    let answer_every = section.or(
        "answer_every",
        Duration::from_secs(3_600),
        quantity::span(Duration::from_secs(60)..=ReplyRule::EVERY_MAX),
    );
    let label = section.optional("label", value::name);
    if client.is_none() && answer.is_none() && label.is_none() && words.is_some() {
        section.mistake("words", "nothing follows from these words", "add client, answer or label");
    }
    Some(ReplyRule {
        name: name?,
        words: words?.iter().map(|word| Words::fold(word)).collect(),
        numbers: numbers.iter().map(ToString::to_string).collect(),
        clients,
        client,
        answer,
        answer_every,
        label,
    })
}

/// Rules are of clients that there are, and each has a name of its own.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let names = raw.reply_rules.iter().map(|p| (&p.value.name, p.key_of("name")));
    relations::once(notes, names, |name| format!("there is a rule {name}"), "give each its own name");
    let clients: Vec<&str> = raw.clients.iter().map(|c| &*c.value.name).collect();
    let complete = !relations::incomplete(notes, "client", raw.clients.len());
    for placed in raw.reply_rules.iter().filter(|_| complete) {
        let rule = &placed.value;
        let listed = rule.clients.iter().enumerate().map(|(i, name)| (name, placed.key_of(&format!("clients[{i}]"))));
        let named = listed.chain(rule.client.iter().map(|name| (name, placed.key_of("client"))));
        for (name, key) in named.filter(|(name, _)| !clients.contains(&&***name)) {
            notes.mistake(&key, format!("unknown client \"{}\"", shortened(name)), among(name, &clients));
        }
        let out = rule.words.iter().find(|word| raw.opt_outs.0.wish(word).is_some());
        if let Some(word) = out.filter(|_| rule.answer.is_some()) {
            let what = format!("\"{}\" is a word of [opt_outs]: who opts out by it gets no answer", shortened(word));
            notes.warn(&placed.key_of("words"), what, "leave it out, or leave answer out");
        }
    }
}

/// Entries of the list where nothing is said: some 450 MB of memory and 750 MB of disk once they are there.
const ENTRIES: usize = 5_000_000;

/// A word, or a few: what a message has to be, and nothing else.
fn word(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = r#"a word of 1 to 40 letters or digits, such as "TD""#;
    let text = value::as_text(value, RIGHT)?;
    let folded = Words::fold(text);
    let good = !folded.is_empty() && text.chars().count() <= 40;
    let wrong = || Fault::new(format!("bad word \"{}\"", shortened(text)), format!("expected {RIGHT}"));
    good.then(|| text.to_owned()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, good, mistakes};
    use crate::policy::opt_outs::Wish;

    #[test]
    fn what_cannot_be_is_said() {
        let long = format!("[opt_outs]\nwords = [\"{}\"]\n", "x".repeat(41));
        for (text, said) in [
            ("[replies]\njoin_within = \"0s\"\n", "replies.join_within: "),
            ("[replies]\njoining = 0\n", "replies.joining: 0 is out of range"),
            ("[opt_outs]\nwords = [\"TD\", \"…\"]\n", "opt_outs.words[1]: bad word \"…\""),
            (&long, "expected a word of 1 to 40 letters or digits"),
            ("[opt_outs]\nwords_back = [\"ｔｄ\"]\n", "opt_outs.words_back: \"ｔｄ\" is among the words as well"),
            ("[opt_outs]\nwords = [\"start\"]\n", "opt_outs.words: \"START\" is among the words as well"),
            ("[opt_outs]\nentries = 0\n", "opt_outs.entries: 0 is out of range"),
            ("[[reply_rule]]\nname = \"a\"\nwords = [\"HELP\"]\n", "nothing follows from these words"),
            (
                "[[reply_rule]]\nname = \"a\"\nwords = [\"HELP\"]\nclient = \"shp\"\n",
                "reply_rule[0].client: unknown client \"shp\"; did you mean \"shop\"?",
            ),
            (
                "[[reply_rule]]\nname = \"a\"\nwords = [\"HELP\"]\nanswer = \"hi\"\nanswer_every = \"2d\"\n",
                "reply_rule[0].answer_every: \"2d\" is out of range",
            ),
        ] {
            assert!(mistakes(text).contains(said), "{text}: {}", mistakes(text));
        }
    }

    #[test]
    fn rules_are_read_with_their_words_folded() {
        let rule = "[[reply_rule]]\nname = \"help\"\nwords = [\"Ｈelp\"]\nnumbers = [\"10690001\"]\nclients = [\"shop\"]\n\
                    client = \"shop\"\nanswer = \"Call 400\"\nanswer_every = \"10m\"\nlabel = \"service\"\n";
        let rules = good(&format!("{GOOD}{rule}")).0.replies.options.rules;
        assert!(rules[0].words.contains("help"), "{rules:?}");
        assert_eq!((rules[0].answer_every.as_secs(), rules[0].label.as_deref()), (600, Some("service")));
    }

    #[test]
    fn words_of_ones_own_replace_the_usual_ones() {
        assert_eq!(good(GOOD).0.replies.options, Options::default());
        let some = format!("{GOOD}[opt_outs]\nwords = [\"Pare\"]\nentries = 7\n[replies]\nremembered = 0\n");
        let read = good(&some).0.replies;
        assert_eq!((read.opt_outs_max, read.options.remembered), (7, 0));
        let words = read.options.words;
        assert_eq!(
            [words.wish("PARE"), words.wish("TD"), words.wish("START")],
            [Some(Wish::Out), None, Some(Wish::Back)]
        );
    }
}
