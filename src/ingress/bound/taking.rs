//! Taking what clients submit: a text at once, a part of one when it is kept, a long text once it is whole.
//!
//! **Promises.** A yes is made of proof: the queue's, or the journal's for a part that waits. The text that parts make has the id of
//! the part that came first; should a crash come between its acceptance and the crossing out of its parts, the idempotency key that
//! this id makes keeps it from being sent twice. Parts whose others do not come within [`Options::join_within`](super::Options), or
//! that find no room, end with a receipt and the event `expired`; nothing of them is sent.
//!
//! **Does not know** links and sessions.
//!
//! **Fails how.** [`Rejected`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::Shared;
use super::kept::PartKept;
use super::link::GivenId;
use super::outbox::{End, Id, NotKept, Stat, Want};
use super::part::{Ground, Part, Party, Rejected, words};
use crate::clock::Timestamp;
use crate::event::{Fact, Kind, mask};
use crate::ingress::text::{Counter, Refused, SPEND_RULE, Text};
use crate::model::{Address, Channel, Class, Envelope, Idempotency, MessageId, Origin, Recipient, SmsText, TextOrigin};
use crate::policy::{Client, Refusal};
use crate::queue::{AcceptError, Accepted};
use crate::storage::joining::{Out, Taken};

/// How long a part may take to reach the disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for parts whose others have not come.
const LOOKED_AT: Duration = Duration::from_millis(500);

/// A yes to a submission.
#[derive(Debug)]
pub(in crate::ingress) enum Yes {
    /// The queue has the text.
    Accepted(Accepted),
    /// The part waits for others.
    Part(PartKept),
}

/// What came of a submission: its ids and the yes, or why not.
pub(in crate::ingress) type Answered = Result<(GivenId, Yes), Rejected>;

impl Shared {
    /// Takes what a client submits in one piece, to each of its numbers.
    ///
    /// It is taken if it is for one of them, so that nobody submits that again: each of the others ends with a receipt. If it is for
    /// none, what would have been the first's refusal is that of all; one that may pass, before others.
    pub(in crate::ingress) async fn submit_all(self: &Arc<Self>, client: &Arc<Client>, parts: Vec<Part>) -> Answered {
        let mut under_way = JoinSet::new();
        for part in parts {
            let (shared, client) = (Arc::clone(self), Arc::clone(client));
            under_way.spawn(async move { (shared.submit(&client, part.clone()).await, part) });
        }
        let (mut taken, mut refused) = (None, Vec::new());
        while let Some(done) = under_way.join_next().await {
            match done {
                Ok((Ok(yes), part)) => taken = Some((GivenId { id: part.id, msg_id: part.msg_id }, yes)),
                Ok((Err(rejected), part)) => refused.push((part, rejected)),
                Err(fault) => tracing::error!(%fault, "a submission ended by a fault of ours"),
            }
        }
        let Some(taken) = taken else {
            refused.sort_by_key(|(part, rejected)| (!rejected.ground.is_temporary(), part.id));
            let first = refused.into_iter().next();
            return Err(first.map_or_else(|| unavailable("a fault of ours"), |(_, rejected)| rejected));
        };
        for (part, Rejected { reason, detail, .. }) in refused {
            self.metrics.refused.with_label_values(&[self.speaks.as_str(), reason]).inc();
            tracing::info!(client = %client.name, id = %part.id, why = detail, "a text to one number of several is refused");
            let told = self.tell_failure(std::slice::from_ref(&part), Stat::Rejected, Kind::Rejected, &detail).await;
            if let Err(Rejected { detail, .. }) = told {
                tracing::error!(client = %client.name, id = %part.id, why = detail, "nobody is told that a text was refused");
            }
        }
        Ok(taken)
    }

    /// Takes what a client submits to one number, and says yes to it.
    async fn submit(&self, client: &Arc<Client>, part: Part) -> Result<Yes, Rejected> {
        client.may_use(Channel::Sms).map_err(|why| refused(&why))?;
        Ok(match part.place {
            None => Yes::Accepted(self.take_whole(client, std::slice::from_ref(&part)).await?),
            Some(_) => self.take_part(client, part).await?,
        })
    }

    async fn take_part(&self, client: &Arc<Client>, part: Part) -> Result<Yes, Rejected> {
        // What can be said of one part is said at once.
        client.may_text(&part.to).map_err(|why| refused(&why))?;
        part.from.as_ref().map_or(Ok(()), |from| client.may_show(from)).map_err(|why| refused(&why))?;
        let Some(place) = part.place else { return Err(unavailable("a part without a place")) };
        if let Some(oldest) = self.parts.make_room(place, &part) {
            self.give_up(oldest, "there was no room for more texts in parts").await?;
        }
        match self.parts.take(place, part.clone()) {
            Taken::Waiting => {}
            Taken::Whole(whole) => return self.take_joined(client, whole, &part).await.map(Yes::Accepted),
            Taken::Displaced(before) => self.give_up(before, "another text began under its reference").await?,
        }
        self.metrics().parts.set(i64::try_from(self.parts.len()).unwrap_or(i64::MAX));
        let keeping = tokio::time::timeout(PATIENCE, self.parts.keep(place, &part)).await;
        let written = keeping.ok().and_then(Result::ok).ok_or_else(|| unavailable("the part cannot be kept"))?;
        Ok(Yes::Part(PartKept::new(part.id, written)))
    }

    /// Takes a long text whose last part has been brought.
    async fn take_joined(&self, client: &Arc<Client>, whole: Out<Part>, brought: &Part) -> Result<Accepted, Rejected> {
        match self.take_whole(client, whole.parts()).await {
            Ok(accepted) => {
                // Should this be lost, the text's key keeps it from being taken again.
                let _ = tokio::time::timeout(PATIENCE, self.parts.told(whole)).await;
                Ok(accepted)
            }
            Err(rejected) if rejected.ground.is_temporary() => {
                self.parts.put_back(whole, Some(brought));
                Err(rejected)
            }
            Err(rejected) => {
                let waited: Vec<Part> = whole.parts().iter().filter(|part| part.id != brought.id).cloned().collect();
                self.tell_failure(&waited, Stat::Rejected, Kind::Rejected, &rejected.detail).await?;
                let _ = tokio::time::timeout(PATIENCE, self.parts.told(whole)).await;
                Err(rejected)
            }
        }
    }

    /// Takes a text whose parts are all here.
    async fn take_whole(&self, client: &Arc<Client>, parts: &[Part]) -> Result<Accepted, Rejected> {
        let now = self.clock.now();
        let options = self.options.load_full();
        let Some(first) = parts.first() else { return Err(unavailable("no part")) };
        let too_long = |why: &str| Rejected::field(Ground::Length, why);
        let words = SmsText::new(&words(parts)?).map_err(too_long)?;
        let text =
            Text { to: first.to.clone(), words, from: first.from.clone(), class: first.class, transliterated: false };
        let (backend, caps, metrics) = (&self.live, &self.caps, &*self.metrics);
        let counter = Counter { backend, caps, rules: &options.text_rules, metrics, client, now };
        let text = text.ruled(&counter, client.transliterate).map_err(|why| refused(&why))?;
        let envelope = self.envelope_of(parts, now);
        let id = envelope.id;
        let want = self.want_of(id, parts);
        let wanted = !want.parts.is_empty();
        if wanted {
            self.outbox.want(want).await.map_err(not_kept)?;
        }
        let taken = counter.take(&text, envelope, ()).await;
        taken.map_err(|why| {
            if wanted {
                self.outbox.forget(id);
            }
            not_taken(why)
        })
    }

    /// Ends parts that do not become whole any more.
    pub(in crate::ingress) async fn give_up(&self, out: Out<Part>, why: &str) -> Result<(), Rejected> {
        let parts = out.parts();
        // Its text may have been accepted just before a crash.
        let accepted = match parts.is_empty() {
            true => Ok(None),
            false => self.live.queue.accepted_before(&self.envelope_of(parts, self.clock.now())).await,
        };
        let told = match accepted {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => {
                let total = parts.first().and_then(|part| part.place).map_or(0, |place| place.total);
                let why = format!("{} of {total} parts came: {why}", parts.len());
                self.tell_failure(parts, Stat::Expired, Kind::Expired, &why).await
            }
        };
        match told {
            Ok(()) => {
                self.metrics().parts_given_up.inc_by(parts.len() as u64);
                let _ = tokio::time::timeout(PATIENCE, self.parts.told(out)).await;
            }
            Err(_) => self.parts.put_back(out, None),
        }
        told
    }

    /// Tells whoever sent parts that were answered yes that nothing becomes of them.
    async fn tell_failure(&self, parts: &[Part], stat: Stat, kind: Kind, why: &str) -> Result<(), Rejected> {
        let Some(first) = parts.first() else { return Ok(()) };
        let (now, id) = (self.clock.now(), first_come(parts));
        let want = self.want_of(id, parts);
        if want.parts.iter().any(|(_, wish)| wish.failure) {
            let end = End { text: Id(id), stat, err: "001".to_owned(), at: now };
            let keeping = tokio::time::timeout(PATIENCE, self.outbox.failed(want, end)).await;
            keeping.unwrap_or(Err(NotKept::Full)).map_err(not_kept)?;
        }
        let mut fact = Fact::new(now, kind, Channel::Sms);
        fact.id = Some(id);
        fact.client = Some(first.client.clone());
        fact.class = Some(first.class);
        let to = first.to.to_string();
        fact.recipient = Some(if first.class == Class::Otp { mask(&to) } else { to });
        fact.parts = u32::try_from(parts.len()).ok();
        fact.reason = Some(why.to_owned());
        self.events.record(fact);
        Ok(())
    }

    fn want_of(&self, text: MessageId, parts: &[Part]) -> Want {
        let first = parts.first();
        let wanted = || parts.iter().filter(|part| part.wish.any());
        let nobody = || Party { ton: 0, npi: 0, address: "".into() };
        Want {
            text: Id(text),
            client: first.map_or_else(|| "".into(), |part| part.client.clone()),
            source: first.map_or_else(nobody, |part| part.source.clone()),
            destination: first.map_or_else(nobody, |part| part.destination.clone()),
            parts: wanted().map(|part| (Id(part.id), part.wish)).collect(),
            by: self.speaks,
            msg_ids: wanted().filter_map(|part| part.msg_id).collect(),
        }
    }

    fn envelope_of(&self, parts: &[Part], now: Timestamp) -> Envelope {
        let id = first_come(parts);
        let first = &parts[0];
        // A space keeps it apart from all keys that clients may choose.
        let key = format!("{} parts {id}", self.speaks.as_str()).into();
        let idempotency = first.place.is_some().then_some(Idempotency { key, fingerprint: [0; 32] });
        Envelope {
            id,
            client: first.client.clone(),
            class: first.class,
            campaign: None,
            tags: Vec::new(),
            // What CMPP calls it, for people who look for it.
            client_ref: first.msg_id.map(|msg_id| format!("cmpp:{msg_id:016x}").into()),
            received_at: now,
            send_at: first.send_at.filter(|at| *at > now),
            expires_at: first.expires_at,
            idempotency,
            origin: Origin::Text(TextOrigin { from: first.from.clone() }),
            recipients: vec![Recipient::new(Address::Number(first.to.clone()))],
        }
    }

    /// Ends what does not become whole any more; to be called again and again.
    pub(in crate::ingress) async fn give_up_overdue(&self) {
        let then = self.clock.now().minus(self.options.load().join_within);
        for overdue in self.parts.overdue(then) {
            // What cannot be told now is overdue again the next time.
            let _ = self.give_up(overdue, "the others did not come in time").await;
        }
        self.parts.shrink().await;
        self.metrics().parts.set(i64::try_from(self.parts.len()).unwrap_or(i64::MAX));
    }
}

/// Sees to parts that wait, for as long as anybody else knows of this.
pub(in crate::ingress) async fn keep_up(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.give_up_overdue().await;
    }
}

/// The id of the part that came first: ids begin with the time. The last part to come never stands in the journal, so it is
/// the same after a crash.
fn first_come(parts: &[Part]) -> MessageId {
    parts.iter().map(|part| part.id).min().unwrap_or_else(|| MessageId::from_bytes([0; 16]))
}

fn refused(refusal: &Refusal) -> Rejected {
    let ground = match refusal.rule {
        "country-not-allowed" | "number-denied" => Ground::Destination,
        "number-not-allowed" => Ground::Source,
        "text-too-long" => Ground::Length,
        _ => Ground::Refused,
    };
    Rejected::new(ground, "not-allowed", refusal.to_string())
}

fn not_taken(why: Refused) -> Rejected {
    let queue_full = |why: &str| Rejected::new(Ground::Full, "full", why);
    match why {
        Refused::Rule(refusal) => refused(&refusal),
        // Not a status that asks to slow down: other numbers may have theirs.
        Refused::Capped(capped) => {
            let detail = format!("no more than {} before {} ({})", capped.limit, capped.until, capped.rule);
            Rejected::new(Ground::Refused, "limited", detail)
        }
        Refused::Overspent(over) => {
            let detail =
                format!("{} may spend {} a day, more from {} on ({SPEND_RULE})", over.whose, over.budget, over.until);
            Rejected::new(Ground::Refused, "limited", detail)
        }
        Refused::Queue(AcceptError::Full { .. }) => queue_full("no room for more messages at the moment"),
        Refused::Queue(AcceptError::NoSpace { .. }) => queue_full("the disk has no room for more messages"),
        Refused::Queue(AcceptError::TooLarge) => Rejected::new(Ground::Length, "too-large", "too large"),
        Refused::Queue(AcceptError::NoRoute { .. }) => {
            Rejected::new(Ground::Destination, "invalid-fields", "no carrier serves the number")
        }
        Refused::Queue(AcceptError::KeyReused) => unavailable("the key of these parts was used"),
        Refused::Queue(AcceptError::Unavailable) => unavailable("messages are not accepted at the moment"),
        Refused::Fault => Rejected::new(Ground::Unavailable, "internal", "a fault of ours"),
    }
}

fn not_kept(why: NotKept) -> Rejected {
    match why {
        NotKept::Full => Rejected::new(Ground::Full, "full", "too many receipts are not taken"),
        NotKept::Journal(why) => unavailable(&format!("receipts cannot be kept: {why}")),
    }
}

fn unavailable(why: &str) -> Rejected {
    Rejected::new(Ground::Unavailable, "unavailable", why)
}
