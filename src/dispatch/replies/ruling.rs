//! What follows from a handset's words by a rule: who gets the reply, what is answered.
//!
//! **Promises.** One answer in a time to a number by a rule, and none to who opts out with these very words. The answer is durable before
//! the message is told: where a carrier brings that again, the answer's key, which the queue keeps over a crash, lets it through once.

use super::sent::Sent;
use super::{Replies, Whole};
use crate::clock::Timestamp;
use crate::egress::sms::InboundError;
use crate::event::Fact;
use crate::model::{ClientName, MessageId, Number, SmsText};
use crate::policy::opt_outs::{RULE, Wish};
use crate::policy::reply_rules::{Answer, NotAnswered, ReplyRule, rule_for};

/// There was an answer to that number a moment ago.
const LATELY: &str = "answered-lately";
/// Nobody is there in whose name to answer.
const NO_CLIENT: &str = "no-client";

impl Replies {
    /// Does what a rule says of a message, and tells it.
    pub(super) async fn apply_rules(
        &self,
        rules: &[ReplyRule],
        whole: &Whole<'_>,
        matched: Option<&Sent>,
        wish: Option<Wish>,
        replied: &mut Fact,
    ) -> Result<(), InboundError> {
        let (Ok(words), Some(number)) = (&whole.words, whole.first.number()) else { return Ok(()) };
        let of = matched.map(|sent| &sent.client);
        let Some(rule) = rule_for(rules, words, &whole.first.to, of) else { return Ok(()) };
        if let Some(client) = &rule.client {
            replied.client = Some(client.clone());
        }
        let answered = match &rule.answer {
            None => None,
            Some(_) if wish == Some(Wish::Out) => Some(Err(RULE)),
            Some(answer) => Some(self.answer(rule, answer, replied.client.clone(), &number, whole).await?),
        };
        let result = match answered {
            None => "told",
            Some(Ok(_)) => "answered",
            Some(Err(why)) => why,
        };
        self.parties.metrics.texts.reply_rules.with_label_values(&[&*rule.name, result]).inc();
        if let Some(handset) = &mut replied.handset {
            handset.rule = Some(rule.name.clone());
            handset.label.clone_from(&rule.label);
            handset.answer = answered.and_then(Result::ok);
            handset.not_answered = answered.and_then(Result::err);
        }
        Ok(())
    }

    /// Answers, or says why not.
    async fn answer(
        &self,
        rule: &ReplyRule,
        words: &SmsText,
        client: Option<ClientName>,
        number: &Number,
        whole: &Whole<'_>,
    ) -> Result<Result<MessageId, &'static str>, InboundError> {
        let (Some(client), Some(answering)) = (client, self.answering.get()) else { return Ok(Err(NO_CLIENT)) };
        let now = self.parties.clock.now();
        if !self.answered.may(rule, number, now) {
            return Ok(Err(LATELY));
        }
        let (to, from, words) = (number.clone(), whole.first.to.clone(), words.clone());
        let key = key_of(rule, number, now).into();
        match answering.send(Answer { client, to, from, words, key }).await {
            Ok(id) => {
                self.answered.note(rule, number, now);
                Ok(Ok(id))
            }
            Err(NotAnswered::Refused(why)) => Ok(Err(why)),
            Err(NotAnswered::Before) => Ok(Err(LATELY)),
            // Neither told nor answered: the carrier brings it again.
            Err(NotAnswered::Busy) => Err(InboundError::Busy),
        }
    }
}

/// The same for what comes within one time of the rule, so that a restart, which forgets who was answered, doubles nothing. A space
/// keeps it apart from all keys that clients may choose.
fn key_of(rule: &ReplyRule, number: &Number, now: Timestamp) -> String {
    let span = now.seconds() / rule.answer_every.as_secs().max(1);
    format!("reply-rule {} {number} {span}", rule.name)
}
