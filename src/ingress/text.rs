//! What every text must fit before it is taken, whoever brings it: rules, opt-outs, caps, budgets; and the taking.
//!
//! **Promises.** HTTP and SMPP refuse the same for the same rule, and count it alike. A text counts against its caps and
//! budgets once it is accepted; one that had been accepted before under its idempotency key is accepted again, whatever they say
//! by now.
//!
//! **Does not know** how a text was submitted, nor how its refusal is worded.
//!
//! **Fails how.** [`Refused`].

use std::sync::Arc;

use super::backend::{Acceptance, Backend};
use crate::clock::Timestamp;
use crate::event::metrics::Metrics;
use crate::model::{Class, Content, Envelope, Money, Number, SenderId, SmsText, Submission};
use crate::policy::opt_outs::Wanted;
use crate::policy::texts::{self, Capped, Caps, Counted, Overspent, Spent, TextRules};
use crate::policy::{Client, Refusal};
use crate::queue::AcceptError;
use crate::sms::{plan_for, signature, transliterate};

/// Where a text goes: a [`Number`], or `Option<Number>` where it may be left out.
pub(super) trait Destination {
    /// The number, if there is one.
    fn number(&self) -> Option<&Number>;
}

impl Destination for Number {
    fn number(&self) -> Option<&Number> {
        Some(self)
    }
}

impl Destination for Option<Number> {
    fn number(&self) -> Option<&Number> {
        self.as_ref()
    }
}

/// A text whose fields are well-formed.
#[derive(Clone, Debug)]
pub(super) struct Text<To> {
    /// Where it goes.
    pub(super) to: To,
    /// The words as they will travel.
    pub(super) words: SmsText,
    /// What it shows as its sender; `None`: the carrier's own.
    pub(super) from: Option<SenderId>,
    /// Its class.
    pub(super) class: Class,
    /// The words are written with look-alikes.
    pub(super) transliterated: bool,
}

/// Why a text is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// A rule is against it.
    Rule(Refusal),
    /// There have been enough.
    Capped(Capped),
    /// The day has cost enough.
    Overspent(Overspent),
    /// The queue does not take it.
    Queue(AcceptError),
    /// A fault of ours: nobody knows whether it was accepted.
    Fault,
}

/// What texts are taken with.
#[derive(Debug)]
pub(super) struct Counter<'a, B> {
    /// The layers below.
    pub(super) backend: &'a B,
    /// What numbers have been sent lately.
    pub(super) caps: &'a Caps,
    /// What texts must fit.
    pub(super) rules: &'a TextRules,
    /// Where refusals are counted.
    pub(super) metrics: &'a Metrics,
    /// Whose text it is.
    pub(super) client: &'a Arc<Client>,
    /// When it came.
    pub(super) now: Timestamp,
}

/// The rule that a day has cost enough.
pub(super) const SPEND_RULE: &str = "daily-spend";

impl<To: Destination> Text<To> {
    /// The text as its client may send it, with look-alikes if that is wanted and of use. A refusal is counted.
    pub(super) fn ruled<B>(self, counter: &Counter<'_, B>, look_alikes: bool) -> Result<Self, Refusal> {
        let words = self.edited(counter).inspect_err(|refusal| counter.count_refusal(refusal.rule))?;
        Ok(match look_alikes.then(|| transliterate(&words)).flatten() {
            Some(words) => Self { words, transliterated: true, ..self },
            None => Self { words, ..self },
        })
    }

    fn edited<B>(&self, counter: &Counter<'_, B>) -> Result<SmsText, Refusal> {
        let (client, number) = (counter.client, self.to.number());
        if let Some(to) = number {
            client.may_text(to)?;
        }
        if let Some(from) = &self.from {
            client.may_show(from)?;
        }
        counter.rules.edit(client, number, self.class, self.words.clone())
    }
}

impl<B: Backend> Counter<'_, B> {
    /// Takes a text that fits the rules. `held` is kept until the queue has answered.
    ///
    /// The queue is asked in a task of its own: a client that hangs up, or a deadline, ends the request but not the queue's
    /// work halfway.
    pub(super) async fn take(
        &self,
        text: &Text<Number>,
        envelope: Envelope,
        held: impl Send + 'static,
    ) -> Result<B::Accepted, Refused> {
        let wanted = Wanted {
            number: &text.to,
            class: text.class,
            client: &self.client.name,
            signature: signature(text.words.as_str()),
            sender: text.from.as_ref(),
        };
        self.backend.may_send(wanted).map_err(|refusal| {
            self.count_refusal(refusal.rule);
            Refused::Rule(refusal)
        })?;
        let counted = match self.count(text) {
            Ok(counted) => counted,
            // What was accepted once is accepted, however often its sender has to ask.
            Err(refused) => {
                let before = self.backend.accepted_before(&envelope).await.map_err(Refused::Queue)?;
                return before.ok_or_else(|| {
                    self.count_refusal(if let Refused::Capped(capped) = &refused { capped.rule } else { SPEND_RULE });
                    refused
                });
            }
        };
        let (backend, content) = (self.backend.clone(), Content::Text(text.words.clone()));
        let asked = tokio::spawn(async move {
            let answer = backend.accept(Submission { envelope, content }).await;
            drop(held);
            if answer.as_ref().is_ok_and(|accepted| !accepted.replayed()) {
                let (counted, spent) = counted;
                counted.keep();
                spent.keep();
            }
            answer
        });
        let accepted = asked.await.map_err(|error| {
            tracing::error!(%error, "a submission ended by a fault of ours");
            Refused::Fault
        })?;
        let accepted = accepted.map_err(Refused::Queue)?;
        if text.transliterated && !accepted.replayed() {
            self.metrics.transliterated.with_label_values(&[&*self.client.name]).inc();
        }
        Ok(accepted)
    }

    /// Counts a text to its number and what it costs, if there have not been enough.
    fn count(&self, text: &Text<Number>) -> Result<(Counted, Spent), Refused> {
        let shown = text.from.as_ref().map(ToString::to_string).unwrap_or_default();
        let signature = signature(text.words.as_str()).unwrap_or(&shown);
        let velocity = &self.client.velocity;
        let wanted = texts::Text { client: &self.client.name, to: &text.to, class: text.class, signature, velocity };
        let counted = self.caps.count(&self.rules.caps, &wanted, self.now).map_err(Refused::Capped)?;
        let (client, budget) = (self.client, self.rules.budget);
        let price = self.backend.price(&text.to, text.class, &client.name);
        let cost = price.map_or_else(Money::default, |price| {
            let repertoire = self.backend.repertoire(&text.to, text.class, &client.name);
            price.part.times(plan_for(&text.words, &repertoire).count as u64)
        });
        let spent = self.backend.ledger().spend(budget, &client.name, client.daily_spend, cost, self.now);
        Ok((counted, spent.map_err(Refused::Overspent)?))
    }
}

impl<B> Counter<'_, B> {
    fn count_refusal(&self, rule: &str) {
        self.metrics.text_refusals.with_label_values(&[&*self.client.name, rule]).inc();
    }
}
