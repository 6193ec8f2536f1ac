//! Automatic answers to what handsets send: texts of a client that the relay writes itself, by the rules for all texts.
//!
//! **Promises.** An answer is taken as any text of its client is: signature, blocked words, denied numbers, caps and budgets hold, and
//! it is durable once that is said. Under one key there is one. Who stands on the list of opt-outs for that client, or for
//! everybody, whatever the class, gets none.
//!
//! **Does not know** which message it answers, nor how often one is answered.
//!
//! **Fails how.** With [`NotAnswered`].

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::backend::{Backend, Live};
use super::bound;
use super::text::{Counter, Refused, SPEND_RULE, Text};
use crate::clock::SharedClock;
use crate::event::metrics::Metrics;
use crate::model::{
    Address, Channel, Class, Envelope, Idempotency, MessageId, Origin, Recipient, Responsibility, SenderId, TextOrigin,
};
use crate::policy::Clients;
use crate::policy::opt_outs::RULE;
use crate::policy::reply_rules::{Answer, Answering, NotAnswered, Sending};
use crate::policy::texts::Caps;
use crate::queue::AcceptError;

/// What answers are taken with.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The clients; may be swapped.
    pub clients: Arc<ArcSwap<Clients>>,
    /// Queue, opt-outs and budgets.
    pub live: Live,
    /// What numbers have been sent lately.
    pub caps: Caps,
    /// Where the rules for texts stand; may be swapped.
    pub options: Arc<ArcSwap<bound::Options>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

impl Answering for Answers {
    fn send(&self, answer: Answer) -> Sending<'_> {
        Box::pin(self.take(answer))
    }
}

impl Answers {
    async fn take(&self, answer: Answer) -> Result<MessageId, NotAnswered> {
        let now = self.clock.now();
        let refused = |rule| Err(NotAnswered::Refused(rule));
        let Some(client) = self.clients.load().named(&answer.client).cloned() else { return refused("no-client") };
        if let Err(refusal) = client.may_use(Channel::Sms) {
            return refused(refusal.rule);
        }
        let out = self.live.opt_outs.of(&answer.to);
        if out.iter().any(|entry| entry.client.as_ref().is_none_or(|of| *of == client.name)) {
            return refused(RULE);
        }
        let from = SenderId::parse(&answer.from).ok().filter(|from| client.may_show(from).is_ok());
        let rules = self.options.load().text_rules.clone();
        let (backend, caps, metrics) = (&self.live, &self.caps, &*self.metrics);
        let counter = Counter { backend, caps, rules: &rules, metrics, client: &client, now };
        let text =
            Text { to: answer.to, words: answer.words, from, class: Class::Transactional, transliterated: false };
        let text = match text.ruled(&counter, client.transliterate) {
            Ok(text) => text,
            Err(refusal) => return refused(refusal.rule),
        };
        let envelope = Envelope {
            id: MessageId::new(now),
            client: client.name.clone(),
            class: text.class,
            campaign: None,
            tags: Vec::new(),
            client_ref: None,
            received_at: now,
            send_at: None,
            expires_at: None,
            idempotency: Some(Idempotency { key: answer.key, fingerprint: [0; 32] }),
            origin: Origin::Text(TextOrigin { from: text.from.clone() }),
            recipients: vec![Recipient::new(Address::Number(text.to.clone()))],
        };
        // First, since a cap would hide that the answer is there already.
        match self.live.accepted_before(&envelope).await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(NotAnswered::Before),
            Err(_) => return Err(NotAnswered::Busy),
        }
        match counter.take(&text, envelope, ()).await {
            Ok(accepted) if accepted.replayed() => Err(NotAnswered::Before),
            Ok(accepted) => Ok(accepted.message_id()),
            Err(Refused::Rule(refusal)) => refused(refusal.rule),
            Err(Refused::Capped(capped)) => refused(capped.rule),
            Err(Refused::Overspent(_)) => refused(SPEND_RULE),
            Err(Refused::Queue(AcceptError::Unavailable) | Refused::Fault) => Err(NotAnswered::Busy),
            Err(Refused::Queue(AcceptError::KeyReused)) => Err(NotAnswered::Before),
            Err(Refused::Queue(AcceptError::NoRoute { .. })) => refused("no-route"),
            Err(Refused::Queue(AcceptError::Full { .. } | AcceptError::NoSpace { .. } | AcceptError::TooLarge)) => {
                refused("no-room")
            }
        }
    }
}
