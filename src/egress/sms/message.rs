//! From a consignment to the parts of its text. Pure.

use std::sync::Arc;

use super::Options;
use super::options::Protocol;
use super::protocol::{Part, Text};
use crate::clock::Timestamp;
use crate::model::Consignment;
use crate::model::{Address, Content, Number, SmsText, TextProgress};

/// Why a text is none for a carrier, in words for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unfit {
    /// It may be one later.
    Now(String),
    /// The carrier would not take it, ever.
    Ever(String),
}

impl From<&str> for Unfit {
    fn from(why: &str) -> Self {
        Self::Now(why.to_owned())
    }
}

/// A text taken apart, ready to be submitted.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where its parts stand.
    pub(super) progress: TextProgress,
    text: Arc<Text>,
}

impl Taken {
    /// Takes a consignment apart.
    ///
    /// # Errors
    /// What makes it no text for this carrier.
    pub(super) fn apart(options: &Options, consignment: &Consignment) -> Result<Self, Unfit> {
        let (text, number) = text_of(consignment).ok_or("the consignment is not one text to one number")?;
        let progress = consignment.progress.clone().ok_or("the text's parts were not planned")?;
        if progress.carrier != options.name {
            return Err(Unfit::Now(format!("the text's parts belong to carrier {}", progress.carrier)));
        }
        let cut = options.cut(text, progress.reference);
        if cut.parts.len() != progress.parts.len() {
            let (planned, needed) = (progress.parts.len(), cut.parts.len());
            return Err(Unfit::Now(format!("the text was planned as {planned} parts and needs {needed}")));
        }
        let template = match &options.protocol {
            Protocol::Smpp(account) => account.template_of(text).map_err(|why| Unfit::Ever(why.to_owned()))?,
            _ => None,
        };
        let from = consignment.envelope.text().and_then(|text| text.from.as_ref()).or(options.source.as_ref());
        let expires_at = consignment.envelope.expires_at;
        let (id, words) = (consignment.envelope.id, text.clone());
        let text = Text { id, words, from: from.cloned(), to: number.clone(), template, cut, expires_at };
        Ok(Self { progress, text: Arc::new(text) })
    }

    /// One part, sent at `now`.
    pub(super) fn part(&self, index: usize, now: Timestamp) -> Part {
        Part { text: Arc::clone(&self.text), index, at: now }
    }

    /// Parts that a handset gets of each part.
    pub(super) fn on_air(&self) -> usize {
        self.text.cut.on_air
    }

    /// True if the time to send it is over.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.text.expires_at.is_some_and(|at| now >= at)
    }
}

fn text_of(consignment: &Consignment) -> Option<(&SmsText, &Number)> {
    let &[recipient] = consignment.recipients.as_slice() else { return None };
    let recipient = consignment.envelope.recipients.get(usize::try_from(recipient).ok()?)?;
    match (&consignment.content, &recipient.address) {
        (Content::Text(text), Address::Number(number)) => Some((text, number)),
        _ => None,
    }
}
