//! The rules for texts: who signs, what is registered, how one gets out, which words, numbers and how many.
//!
//! **What.** [`TextRules::edit`] says how a text will read under the rules, or why it may not be sent; [`Caps`] counts what a
//! number, a range of numbers or a client has been sent lately, [`Ledger`] what a day has cost.
//!
//! **Promises.** Every refusal bears a rule id. What is Chinese (the signature in 【】, the words that tell how to get out)
//! binds numbers of +86 only, and so do templates. A verification code is never given words that it did not have, but for its signature.
//!
//! **Does not know** sockets, disk and time sources; carriers' own lists of registered signatures and words.
//!
//! **Fails how.** With a [`Refusal`], or a [`Capped`] or [`Overspent`] that says when to come back. Nothing is counted that was refused.

mod caps;
mod ledger;
mod words;

use std::sync::Arc;

pub use caps::{Cap, Capped, Caps, CountFiles, Counted, Per, Text, Velocity};
pub use ledger::{Budget, Ledger, Overspent, Spent};
pub use words::{BlockedWords, WordsError};

use super::{Client, Refusal};
use crate::model::{Class, ClientName, Number, SmsText};
pub use crate::sms::{Misfit, Template, TemplateError};
use crate::sms::{signature_and_rest, split_signature};

/// The country whose rules these are.
const CHINA: &str = "+86";
/// What tells a text's receiver how to get out contains one of these.
const WAYS_OUT: [&str; 2] = ["退订", "拒收"];

/// What an administrator may set.
#[derive(Clone, Debug, Default)]
pub struct TextRules {
    /// Put behind marketing texts to +86 that do not say how to get out; `None`: nothing is put there.
    pub opt_out_words: Option<Arc<str>>,
    /// Words that no text may hold.
    pub blocked: BlockedWords,
    /// First digits of numbers that get no text, or whole numbers, with the `+`.
    pub denied: Vec<String>,
    /// Texts registered for clients.
    pub templates: Vec<Registered>,
    /// How many texts are too many; of two for the same the one with the longest beginning, then the first.
    pub caps: Vec<Cap>,
    /// What a day's texts may cost.
    pub budget: Budget,
}

/// A text registered for a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Whose it is.
    pub client: ClientName,
    /// What the client calls it.
    pub id: Arc<str>,
    /// The text.
    pub template: Template,
}

impl TextRules {
    /// The client's template of that name.
    pub fn template(&self, client: &Client, id: &str) -> Option<&Template> {
        self.of(client).find(|registered| *registered.id == *id).map(|registered| &registered.template)
    }

    fn of(&self, client: &Client) -> impl Iterator<Item = &Registered> {
        self.templates.iter().filter(|registered| registered.client == client.name)
    }

    /// The words as they will be sent.
    ///
    /// # Errors
    /// Rules `number-denied`, `signature-missing`, `signature-not-registered`, `signature-inside`, `template-not-matched`,
    /// `blocked-word` and `text-too-long`.
    pub fn edit(&self, client: &Client, to: Option<&Number>, class: Class, words: SmsText) -> Result<SmsText, Refusal> {
        if let Some(to) = to
            && to.longest_beginning(&self.denied).is_some()
        {
            return Err(refusal("number-denied", "this number gets no texts from this relay"));
        }
        let mut words = words;
        if to.is_some_and(|to| to.as_str().starts_with(CHINA)) {
            words = signed(client, words)?;
            self.check_templates(client, &words)?;
            words = self.with_a_way_out(class, words)?;
        }
        match self.blocked.find(words.as_str()) {
            None => Ok(words),
            Some(at) => {
                Err(refusal("blocked-word", &format!("the text holds, at character {at}, what is not sent from here")))
            }
        }
    }

    fn check_templates(&self, client: &Client, words: &SmsText) -> Result<(), Refusal> {
        let text = words.as_str();
        let (_, said) = signature_and_rest(text);
        if !client.templates_only || self.of(client).any(|registered| registered.template.fits(said)) {
            return Ok(());
        }
        Err(refusal("template-not-matched", &format!("the text fits none of the templates of client {}", client.name)))
    }

    fn with_a_way_out(&self, class: Class, words: SmsText) -> Result<SmsText, Refusal> {
        match &self.opt_out_words {
            Some(way_out) if class == Class::Marketing && !WAYS_OUT.iter().any(|w| words.as_str().contains(w)) => {
                let ends = words.as_str().ends_with(['。', '！', '？', '，', '；', '!', '?', '.', '~']);
                made(&format!("{}{}{way_out}", words.as_str(), if ends { "" } else { "，" }))
            }
            _ => Ok(words),
        }
    }
}

/// With one of the client's signatures in front, and none inside. A client with one signature need not write it; one for whom
/// none is registered is not held to any.
fn signed(client: &Client, words: SmsText) -> Result<SmsText, Refusal> {
    let words = match (split_signature(words.as_str()), client.signatures.as_slice()) {
        (_, []) => return Ok(words),
        (None, [only]) => made(&format!("【{only}】{}", words.as_str()))?,
        (None, _) => {
            let detail =
                "the client has several signatures: begin the text with 【one of them】, or name it as signature";
            return Err(refusal("signature-missing", detail));
        }
        (Some(_), _) => words,
    };
    let (signature, rest) = split_signature(words.as_str()).unwrap_or_default();
    if !client.signatures.iter().any(|registered| **registered == *signature) {
        let detail = format!("client {} may not sign as 【{signature}】", client.name);
        return Err(refusal("signature-not-registered", &detail));
    }
    if rest.contains(['【', '】']) {
        return Err(refusal("signature-inside", "【 and 】 stand around the signature only"));
    }
    Ok(words)
}

fn made(text: &str) -> Result<SmsText, Refusal> {
    SmsText::new(text).map_err(|why| refusal("text-too-long", why))
}

fn refusal(rule: &'static str, detail: &str) -> Refusal {
    Refusal { rule, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests;
