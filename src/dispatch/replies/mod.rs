//! What handsets send: put together, matched to the text that it answers, told, and obeyed where it is an opt-out.
//!
//! **Promises.** A carrier is answered yes only after what it brought is on stable storage: a part of a long message in a journal
//! of its own ([`parts`]), a whole one as the event `replied`, an opt-out on the list as well ([`opting`]), what a rule answers ([`ruling`]) in the queue. What cannot be made durable within
//! [`PATIENCE`] is put off, and the carrier keeps it. Everything is told at least once: what a carrier brings again, because
//! the answer was lost, is told again. Parts whose others do not come within [`Options::join_within`], or for which there is no
//! more room, are told as they are.
//!
//! **Matched** to the last text to that number that showed the sender it is addressed to: by memory ([`sent`]), and after a start
//! by what the queue still has. What matches nothing is told without a message.
//!
//! **Does not know** protocols, nor how events and opt-outs reach the disk.
//!
//! **Fails how.** [`InboundError`]; the carrier brings it again.

mod opting;
mod parts;
mod ruling;
mod sent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::opting::{back_to, not_kept};
use self::parts::PartsWaiting;
use self::sent::{Sent, SentTexts};
use crate::clock::{Mono, SharedClock};
use crate::egress::sms::{Carrier, HandsetMessage, InboundError};
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::event::{Fact, HandsetFact, Kind, PeerFact, mask};
use crate::model::{
    Address, Channel, Class, Consignment, Content, EnhancedStatus, Failure, Number, Outcome, Rule, Scope, Stage,
};
use crate::policy::opt_outs::{OptOuts, RULE, Wanted, Wish, Words, is_same_sender};
use crate::policy::reply_rules::{Answered, Answering, ReplyRule};
use crate::queue::Queue;
use crate::sms::{Concatenation, signature};
use crate::storage::Disk;

/// Longest part that waits for others: a short message's. What is longer is told by itself, so that memory is bounded.
const PART_OCTETS_MAX: usize = 255;
/// How long what a carrier brought may take to reach the disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for parts whose others have not come.
const LOOKED_AT: Duration = Duration::from_millis(500);
/// Texts to a number that are looked at in the queue.
const LOOKED_BACK: usize = 8;
/// After the queue was walked through it is left alone for so many times as long.
const WALK_REST: u32 = 10;
/// Longest such rest that is waited for.
const WALK_WAIT_MAX: Duration = Duration::from_secs(1);
/// Messages for which the queue is walked through, or which wait for that.
const WALKERS_MAX: usize = 8;

/// How handsets' messages are dealt with; may be changed while it runs, but for `joining_max`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long the parts of a long message wait for each other.
    pub join_within: Duration,
    /// Long messages of which parts are missing, at most. Taken at start.
    pub joining_max: usize,
    /// Texts that replies are matched to by memory.
    pub remembered: usize,
    /// The words that opt out and in.
    pub words: Words,
    /// What follows from other words; the first that holds counts.
    pub rules: Vec<ReplyRule>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            join_within: Duration::from_secs(600),
            joining_max: 1_000,
            remembered: 200_000,
            words: Words::default(),
            rules: Vec::new(),
        }
    }
}

/// What replies are told to, and matched with.
#[derive(Clone)]
pub struct Parties {
    /// Where texts are that memory has lost.
    pub queue: Queue,
    /// Who wants no more.
    pub opt_outs: OptOuts,
    /// Where replies are told.
    pub events: EventLog,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

/// What becomes of handsets' messages.
pub struct Replies {
    parties: Parties,
    options: Arc<ArcSwap<Options>>,
    sent: Mutex<SentTexts>,
    waiting: PartsWaiting,
    /// Places of those who want the queue walked through.
    walkers: Semaphore,
    /// When that may be done again.
    next_walk: tokio::sync::Mutex<Mono>,
    /// Who has had an automatic answer lately.
    answered: Answered,
    /// Who sends those.
    answering: OnceLock<Arc<dyn Answering>>,
}

/// A message put together.
struct Whole<'a> {
    first: &'a HandsetMessage,
    /// Parts that are here.
    parts: usize,
    /// Parts that are not.
    missing: usize,
    /// The words, or the octets in hex and why they are no words.
    words: Result<String, (String, String)>,
}

impl Replies {
    /// Reads the parts that wait from the file at `path`. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: Arc<ArcSwap<Options>>,
        parties: Parties,
    ) -> io::Result<Self> {
        let waiting = PartsWaiting::open(disk, path, options.load().joining_max)?;
        parties.metrics.opt_out_entries.set(gauge(parties.opt_outs.len()));
        parties.metrics.handset_parts.set(gauge(waiting.len()));
        let (walkers, next_walk) = (Semaphore::new(WALKERS_MAX), tokio::sync::Mutex::default());
        let sent = Mutex::new(SentTexts::new());
        let (answered, answering) = (Answered::default(), OnceLock::new());
        Ok(Self { parties, options, sent, waiting, walkers, next_walk, answered, answering })
    }

    /// From now on automatic answers are sent so; without it there are none.
    pub fn answer_by(&self, answering: Arc<dyn Answering>) {
        let _ = self.answering.set(answering);
    }

    /// Takes a message, or a part of one; returns once it is durable.
    ///
    /// # Errors
    /// [`InboundError`].
    pub async fn take(&self, message: HandsetMessage) -> Result<(), InboundError> {
        let carrier = message.carrier.clone();
        let taken = match message.place.filter(|_| message.octets.len() <= PART_OCTETS_MAX) {
            Some(place) => self.take_part(place, message).await,
            None => self.tell(&[message]).await,
        };
        if taken.is_err() {
            self.count(&carrier, "put-off");
        }
        self.parties.metrics.handset_parts.set(gauge(self.waiting.len()));
        taken
    }

    async fn take_part(&self, place: Concatenation, message: HandsetMessage) -> Result<(), InboundError> {
        if let Some(oldest) = self.waiting.make_room(place, &message) {
            self.give_out(oldest).await?;
        }
        let taken = self.waiting.take(place, message.clone());
        match taken {
            parts::Taken::Waiting => {}
            parts::Taken::Whole(whole) => return self.give_out_but(whole, Some(&message)).await,
            parts::Taken::Displaced(before) => self.give_out(before).await?,
        }
        let keeping = tokio::time::timeout(PATIENCE, self.waiting.keep(place, &message));
        keeping.await.ok().and_then(Result::ok).map(drop).ok_or(InboundError::Busy)
    }

    /// Tells what there is of a message. If that fails the parts wait on.
    async fn give_out(&self, out: parts::Out) -> Result<(), InboundError> {
        self.give_out_but(out, None).await
    }

    /// The same; `brought` will be brought again if it fails, and does not wait then.
    async fn give_out_but(&self, out: parts::Out, brought: Option<&HandsetMessage>) -> Result<(), InboundError> {
        let told = self.tell(out.parts()).await;
        match told {
            Ok(()) => {
                // Should this be lost, they are told once more at the next start.
                let _ = tokio::time::timeout(PATIENCE, self.waiting.told(out)).await;
            }
            Err(_) => self.waiting.put_back(out, brought),
        }
        told
    }

    /// Tells what does not become whole any more; to be called again and again.
    async fn give_out_overdue(&self) {
        let then = self.parties.clock.now().minus(self.options.load().join_within);
        for overdue in self.waiting.overdue(then) {
            // What cannot be told now is overdue again the next time.
            let _ = self.give_out(overdue).await;
        }
        self.waiting.shrink().await;
        self.parties.metrics.handset_parts.set(gauge(self.waiting.len()));
    }

    /// Makes what a handset has said durable, and obeys it.
    async fn tell(&self, parts: &[HandsetMessage]) -> Result<(), InboundError> {
        let Some(whole) = Whole::of(parts) else { return Ok(()) };
        tokio::time::timeout(PATIENCE, self.tell_whole(&whole)).await.unwrap_or(Err(InboundError::Busy))
    }

    async fn tell_whole(&self, whole: &Whole<'_>) -> Result<(), InboundError> {
        let number = whole.first.number();
        let matched = match &number {
            Some(number) => self.matched(number, whole.first).await?,
            None => None,
        };
        let options = self.options.load_full();
        let wish = whole.words.as_ref().ok().and_then(|words| options.words.wish(words));
        let mut replied = self.replied(whole, matched.as_ref());
        self.apply_rules(&options.rules, whole, matched.as_ref(), wish, &mut replied).await?;
        let mut facts = vec![replied];
        match number.as_ref().zip(wish) {
            Some((number, Wish::Out)) => {
                facts.push(self.opt_out(number, whole, matched.as_ref()).await?);
                self.keep(facts).await?;
            }
            Some((number, Wish::Back)) => {
                // Told first: what is brought again would find nothing to tell of.
                let which = back_to(whole, matched.as_ref());
                let meant = self.parties.opt_outs.meant(number, &which);
                facts.extend(meant.iter().map(|entry| self.opt_fact(Kind::OptedIn, entry, whole, matched.as_ref())));
                self.keep(facts).await?;
                let removed = self.parties.opt_outs.remove(number, which).await.map_err(|e| not_kept(whole, &e))?;
                self.count_opt("in", "reply", removed.len());
            }
            None => self.keep(facts).await?,
        }
        self.count(&whole.first.carrier, if matched.is_some() { "matched" } else { "unmatched" });
        Ok(())
    }

    async fn keep(&self, facts: Vec<Fact>) -> Result<(), InboundError> {
        if self.parties.events.keep(facts).await { Ok(()) } else { Err(InboundError::Busy) }
    }

    /// The text that a message answers.
    async fn matched(&self, number: &Number, message: &HandsetMessage) -> Result<Option<Sent>, InboundError> {
        let known = self.sent.lock().find(number, &message.to, &message.carrier);
        if known.is_some() {
            return Ok(known);
        }
        if !self.parties.queue.is_loaded() {
            return Err(InboundError::Busy);
        }
        // One at a time, with pauses, and not many in line: it looks at everything that waits, and a flood of messages that
        // answer nothing must not keep the queue busy, nor the link. Who is not looked for is told without a message, and opts
        // out of the sender.
        let Ok(_place) = self.walkers.try_acquire() else { return Ok(None) };
        let mut next_walk = self.next_walk.lock().await;
        let rest = next_walk.since(self.parties.clock.mono());
        if rest > WALK_WAIT_MAX {
            return Ok(None);
        }
        tokio::time::sleep(rest).await;
        let began = self.parties.clock.mono();
        let texts = self.parties.queue.texts_to(number, LOOKED_BACK).await;
        let ended = self.parties.clock.mono();
        *next_walk = ended.plus(ended.since(began) * WALK_REST);
        let is_meant = |from: Option<&str>, carrier: Option<&Arc<str>>| match from {
            Some(from) => is_same_sender(from, &message.to),
            None => carrier == Some(&message.carrier),
        };
        let found = texts.into_iter().find(|text| {
            let from = text.from.as_ref().map(ToString::to_string);
            text.carrier.is_some() && is_meant(from.as_deref(), text.carrier.as_ref())
        });
        Ok(found.map(|t| Sent { id: t.id, client: t.client, class: t.class, signature: t.signature }))
    }

    fn replied(&self, whole: &Whole<'_>, matched: Option<&Sent>) -> Fact {
        let mut fact = self.fact(Kind::Replied, whole, matched);
        fact.class = matched.map(|sent| sent.class);
        let (text, octets) = match &whole.words {
            Ok(words) => (Some(words.clone()), None),
            Err((octets, why)) => {
                fact.reason = Some(why.clone());
                (None, Some(octets.clone()))
            }
        };
        fact.handset = Some(HandsetFact {
            from: shown(&whole.first.from, matched),
            number: whole.first.from.clone(),
            to: whole.first.to.clone(),
            text,
            octets,
            parts: whole.parts,
            parts_missing: (whole.missing > 0).then_some(whole.missing),
            rule: None,
            label: None,
            answer: None,
            not_answered: None,
        });
        fact
    }

    fn fact(&self, kind: Kind, whole: &Whole<'_>, matched: Option<&Sent>) -> Fact {
        let mut fact = Fact::new(whole.first.received_at, kind, Channel::Sms);
        fact.id = matched.map(|sent| sent.id);
        fact.client = matched.map(|sent| sent.client.clone());
        let host = whole.first.carrier.to_string();
        fact.peer = Some(PeerFact { host, address: None, tls: None, source: None, tls_policy: None });
        fact
    }

    /// Why a text that is about to leave must not: its number has opted out since it was taken.
    pub(super) fn refusal(&self, consignment: &Consignment, carrier: &Carrier) -> Option<Outcome> {
        let (text, number) = text_of(consignment)?;
        let own = carrier.options().source.as_ref();
        let wanted = Wanted {
            number,
            class: consignment.envelope.class,
            client: &consignment.envelope.client,
            signature: signature(text),
            sender: consignment.envelope.text()?.from.as_ref().or(own),
        };
        let refusal = self.parties.opt_outs.may_send(wanted).err()?;
        let client = &*consignment.envelope.client;
        self.parties.metrics.text_refusals.with_label_values(&[client, RULE]).inc();
        let status = EnhancedStatus::new(5, 7, 1);
        let mut failure = Failure::without_reply(Scope::Recipient, Stage::Route, status, refusal.detail);
        failure.rule = Some(Rule { id: RULE.into(), class: "opt-out".into() });
        Some(Outcome::Failed(failure))
    }

    /// A text is about to leave: whoever answers it is to be understood.
    pub(super) fn note_sent(&self, consignment: &Consignment, carrier: &Carrier) {
        let Some((text, number)) = text_of(consignment) else { return };
        let envelope = &consignment.envelope;
        let sent = Sent {
            id: envelope.id,
            client: envelope.client.clone(),
            class: envelope.class,
            signature: signature(text).map(Arc::from),
        };
        let from = envelope.text().and_then(|text| text.from.as_ref()).or(carrier.options().source.as_ref());
        self.sent.lock().note(number, from, carrier.name(), sent, self.options.load().remembered);
    }

    fn count(&self, carrier: &str, result: &str) {
        self.parties.metrics.handset_messages.with_label_values(&[carrier, result]).inc();
    }

    /// Sees to what waits for its other parts, for as long as anybody else knows of this.
    pub async fn keep_up(replies: std::sync::Weak<Self>) {
        loop {
            tokio::time::sleep(LOOKED_AT).await;
            let Some(replies) = replies.upgrade() else { return };
            replies.give_out_overdue().await;
        }
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl<'a> Whole<'a> {
    fn of(parts: &'a [HandsetMessage]) -> Option<Self> {
        let first = parts.first()?;
        let total = first.place.map_or(1, |place| usize::from(place.total));
        // Together where they can be: a character may be cut in two.
        let octets: Vec<u8> = parts.iter().flat_map(|part| part.octets.iter().copied()).collect();
        let same = parts.iter().all(|part| part.alphabet == first.alphabet);
        let words = if same && parts.len() == total {
            first.alphabet.words(&octets)
        } else {
            parts.iter().map(|part| part.alphabet.words(&part.octets)).collect()
        };
        let words = words.map_err(|why| (crate::sms::hex(&octets), why));
        Some(Self { first, parts: parts.len(), missing: total.saturating_sub(parts.len()), words })
    }
}

/// A number, masked where it was sent a code.
fn shown(number: &str, matched: Option<&Sent>) -> String {
    if matched.is_some_and(|sent| sent.class == Class::Otp) { mask(number) } else { number.to_owned() }
}

fn text_of(consignment: &Consignment) -> Option<(&str, &Number)> {
    let recipient = consignment.recipients.first().and_then(|&r| consignment.envelope.recipients.get(r as usize))?;
    match (&consignment.content, &recipient.address) {
        (Content::Text(text), Address::Number(number)) => Some((text.as_str(), number)),
        _ => None,
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
