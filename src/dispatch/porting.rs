//! What carriers' answers and receipts say of a number's network, and what is learnt of it.
//!
//! **Promises.** Something is learnt only of a carrier whose routes all name networks: one that serves everybody, and refuses, says nothing
//! of a number's network. What is learnt is on disk before the text that showed it is settled, so that the text's next attempt may profit.
//!
//! **Does not know** protocols: words that carriers use are a setting, and most of them are a carrier's own.
//!
//! **Fails how.** What cannot be kept is logged, and learnt the next time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::model::{Address, Consignment, Number, Outcome, RecipientOutcome};
use crate::queue::Queue;
use crate::route::{Doubt, Ported, PortedTerms};

/// What is listened for, and how long it is believed; may be changed while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortingOptions {
    /// Words of a carrier, in an answer or a receipt, that say that a number is of another network.
    pub words: Vec<String>,
    /// How much is remembered.
    pub terms: PortedTerms,
}

impl PortingOptions {
    /// CMPP's result 9, and S12's errors 22 and 23, as they are told.
    pub const WORDS: [&'static str; 3] = ["result 9 (not served here)", "err:022 (routing)", "err:023 (routing)"];
}

impl Default for PortingOptions {
    fn default() -> Self {
        let terms = PortedTerms { most: 1_000_000, keep: Duration::from_secs(90 * 86_400) };
        Self { words: Self::WORDS.map(str::to_owned).to_vec(), terms }
    }
}

/// Whoever listens.
#[derive(Clone)]
pub struct Porting {
    /// What is known.
    pub ported: Ported,
    /// What is listened for.
    pub options: Arc<ArcSwap<PortingOptions>>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

impl Porting {
    /// Do these words say that a number is of another network?
    pub(super) fn says_so(&self, words: &str) -> bool {
        let words = words.to_ascii_lowercase();
        self.options.load().words.iter().any(|wanted| holds(&words, &wanted.to_ascii_lowercase()))
    }

    /// A carrier has answered a text.
    pub(super) async fn answered(
        &self,
        queue: &Queue,
        consignment: &Consignment,
        carrier: &Arc<str>,
        outcome: &RecipientOutcome,
    ) {
        let (Outcome::Failed(failure) | Outcome::Delayed(failure)) = &outcome.outcome else { return };
        let said = failure.reply.as_ref().is_some_and(|reply| self.says_so(&reply.text));
        let recipient = consignment.envelope.recipients.get(outcome.recipient as usize);
        if let Some(Address::Number(number)) = recipient.filter(|_| said).map(|recipient| &recipient.address) {
            self.learn(queue, number, carrier).await;
        }
    }

    /// A carrier has said that a number is of another network.
    pub(super) async fn learn(&self, queue: &Queue, number: &Number, carrier: &Arc<str>) {
        let (terms, routes) = (self.options.load().terms, queue.routes().clone());
        let done = match routes.text.doubted(number, carrier) {
            None => return,
            Some(Doubt::Not(networks)) => {
                self.metrics.texts.ported_learnt.with_label_values(&[&**carrier]).inc();
                self.ported.learn(number, &networks, carrier, terms, self.clock.now()).await
            }
            // All of them have said no: one of them was wrong, or it has moved once more.
            Some(Doubt::Contradiction) => self.ported.forget(number).await.map(drop),
        };
        if let Err(error) = done {
            tracing::error!(%carrier, %error, "it is not kept that a number is of another network");
        }
        self.show();
    }

    /// Forgets what is too old, and shows how much there is.
    pub async fn tend(&self) {
        self.ported.sweep(self.options.load().terms, self.clock.now()).await;
        self.show();
    }

    /// Shows how much is known.
    pub fn show(&self) {
        self.metrics.texts.ported_numbers.set(i64::try_from(self.ported.len()).unwrap_or(i64::MAX));
    }
}

/// True if the words stand there, and not as the beginning of a longer one: `err:01` is not in `err:013`.
fn holds(said: &str, wanted: &str) -> bool {
    let ends = |at: usize| !said[at + wanted.len()..].starts_with(|c: char| c.is_alphanumeric());
    let begins = |at: usize| !said[..at].ends_with(|c: char| c.is_alphanumeric());
    !wanted.is_empty() && said.match_indices(wanted).any(|(at, _)| begins(at) && ends(at))
}

impl fmt::Debug for Porting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Porting").field("ported", &self.ported.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cmpp::SubmitResult;
    use crate::wire::sgip::result::error_name;

    #[test]
    fn words_are_found_whole() {
        assert!(holds("stat:undeliv err:013", "err:013") && holds("mi:0013", "mi:0013"));
        assert!(!holds("stat:undeliv err:013", "err:01") && !holds("stderr:013", "err:013") && !holds("x", ""));
    }

    #[test]
    fn the_usual_words_are_what_gateways_are_told_to_say() {
        assert_eq!(SubmitResult(9).to_string(), PortingOptions::WORDS[0]);
        for (code, words) in [(22, PortingOptions::WORDS[1]), (23, PortingOptions::WORDS[2])] {
            assert_eq!(format!("err:{code:03} ({})", error_name(code).unwrap()), words);
        }
    }
}
