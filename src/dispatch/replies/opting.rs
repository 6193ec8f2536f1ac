//! Opting out and in again, by a handset's word or an operator's.
//!
//! **Promises.** The list is durable before anybody is answered. A handset's opt-out is told also if the number is on the list
//! already, since the first time may not have been told; what is taken back is told before it is, for the same reason.

use super::sent::Sent;
use super::{Replies, Whole, gauge, shown};
use crate::egress::sms::InboundError;
use crate::event::{Fact, Kind, OptOutFact};
use crate::model::{Channel, Class, Number};
use crate::policy::opt_outs::{OptOut, OptOutError, Which, Whom};

/// Who has put an entry on the list.
const BY_REPLY: &str = "reply";

impl Replies {
    /// Puts a number on the list; the fact to be told.
    pub(super) async fn opt_out(
        &self,
        number: &Number,
        whole: &Whole<'_>,
        matched: Option<&Sent>,
    ) -> Result<Fact, InboundError> {
        let signature = matched.and_then(|sent| sent.signature.clone());
        // A signature is its owner's, whichever client sends under it; a sender may be shared by clients.
        let client = matched.map(|sent| sent.client.clone()).filter(|_| signature.is_none());
        let entry = OptOut {
            number: number.as_str().into(),
            whom: signature.map_or_else(|| Whom::Sender(whole.first.to.clone()), Whom::Signature),
            class: Class::Marketing,
            client,
            since: whole.first.received_at,
            by: BY_REPLY.into(),
        };
        let is_new = self.parties.opt_outs.add(entry.clone()).await.map_err(|e| not_kept(whole, &e))?;
        self.count_opt("out", "reply", usize::from(is_new));
        Ok(self.opt_fact(Kind::OptedOut, &entry, whole, matched))
    }

    pub(super) fn opt_fact(&self, kind: Kind, entry: &OptOut, whole: &Whole<'_>, matched: Option<&Sent>) -> Fact {
        let mut fact = self.fact(kind, whole, matched);
        let (number, by) = (shown(&entry.number, matched), BY_REPLY.into());
        fact.opt_out = Some(OptOutFact { number, by, ..opt_out_fact(entry) });
        fact
    }

    pub(super) fn count_opt(&self, action: &str, by: &str, entries: usize) {
        let metrics = &self.parties.metrics;
        metrics.opt_outs.with_label_values(&[action, by]).inc_by(entries as u64);
        metrics.opt_out_entries.set(gauge(self.parties.opt_outs.len()));
    }

    /// Adds an entry in the name of an operator; false if it was there.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub async fn add(&self, entry: OptOut) -> Result<bool, String> {
        let is_new = self.parties.opt_outs.add(entry.clone()).await.map_err(|e| e.to_string())?;
        if is_new {
            self.tell_operators(Kind::OptedOut, "out", &[entry]);
        }
        Ok(is_new)
    }

    /// Takes out what is meant, in the name of `by`; what that was.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub async fn remove(&self, number: &Number, which: Which, by: &str) -> Result<Vec<OptOut>, String> {
        let removed = self.parties.opt_outs.remove(number, which).await.map_err(|e| e.to_string())?;
        let named = |entry: &OptOut| OptOut { by: by.into(), ..entry.clone() };
        self.tell_operators(Kind::OptedIn, "in", &removed.iter().map(named).collect::<Vec<_>>());
        Ok(removed)
    }

    /// The list itself is durable already; the event follows.
    fn tell_operators(&self, kind: Kind, action: &str, entries: &[OptOut]) {
        self.count_opt(action, "operator", entries.len());
        for entry in entries {
            let mut fact = Fact::new(self.parties.clock.now(), kind, Channel::Sms);
            fact.client.clone_from(&entry.client);
            fact.opt_out = Some(opt_out_fact(entry));
            self.parties.events.record(fact);
        }
    }
}

/// Which opt-outs a message takes back: those of the signature it answers, and of the sender it is addressed to.
pub(super) fn back_to(whole: &Whole<'_>, matched: Option<&Sent>) -> Which {
    let signature = matched.and_then(|sent| sent.signature.clone()).map(Whom::Signature);
    Which {
        whom: signature.into_iter().chain([Whom::Sender(whole.first.to.clone())]).collect(),
        class: Some(Class::Marketing),
        client: matched.map(|sent| sent.client.clone()),
    }
}

pub(super) fn not_kept(whole: &Whole<'_>, error: &OptOutError) -> InboundError {
    tracing::error!(carrier = %whole.first.carrier, %error, "an opt-out, or its end, was put off");
    InboundError::Busy
}

fn opt_out_fact(entry: &OptOut) -> OptOutFact {
    let (signature, sender) = match entry.whom.clone() {
        Whom::Signature(name) => (Some(name), None),
        Whom::Sender(sender) => (None, Some(sender)),
    };
    let (number, class, by) = (entry.number.to_string(), entry.class.as_str(), entry.by.clone());
    OptOutFact { number, signature, sender, class, by }
}
