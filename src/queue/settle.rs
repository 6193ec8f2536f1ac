//! From an attempt's outcome to a change, and from a change to a fact. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::again::{Onward, Prospects, Reason};
use super::entry::{Entry, Track};
use super::life::{Attempt, Change, End, PartReceipt, State};
use super::retry::after_throttling;
use crate::clock::Timestamp;
use crate::event::{BounceFact, Fact, Kind, NO_RECEIPT, PeerFact, PriceFact, ReplyFact, RuleFact, mask};
use crate::model::{
    Address, Channel, Class, ClientName, Envelope, MessageId, Number, Outcome, PartState, Peer, Receipt,
    RecipientIndex, RecipientOutcome, Reply, Stage, TextProgress, Verdict,
};
use crate::route::Routes;

/// What an attempt's outcome does to a recipient's life, and why a text leaves once more, if it does. `masked` is an address
/// that must not be shown, `chance` is uniform in 0..1.
pub(super) fn change_after(
    track: &Track,
    outcome: RecipientOutcome,
    is_text: bool,
    prospects: Prospects<'_>,
    masked: Option<&str>,
    now: Timestamp,
    chance: f64,
) -> (Change, Option<Reason>) {
    let RecipientOutcome { recipient, outcome, peer, mut progress, duration } = outcome;
    let unanswered = progress.as_mut().filter(|p| p.parts.contains(&PartState::Unanswered));
    let mut counts = true;
    let throttled = matches!(&outcome, Outcome::Delayed(f) if f.throttled);
    let retry = prospects.retry;
    let next = || retry.next(now, u32::from(track.tally().attempts_made) + 1, chance);
    let (goes_on, end, failure) = match &outcome {
        Outcome::Relayed(_) if is_text => (Some((State::Sent { at: now }, None)), End::Delivered, None),
        Outcome::Relayed(_) => (None, End::Delivered, None),
        // Nobody was asked: a rule of ours holds it back for good.
        Outcome::Failed(failure) if is_text && failure.is_ours() && failure.rule.is_some() => {
            counts = false;
            (None, End::Rejected, Some(failure))
        }
        Outcome::Failed(failure) => {
            let goes_on = progress.as_mut().and_then(|progress| prospects.refused(progress, now));
            (goes_on, End::Failed, Some(failure))
        }
        Outcome::Delayed(failure) => match unanswered {
            Some(progress) => (prospects.unanswered(progress, next(), now), End::Unknown, Some(failure)),
            None => {
                let due = if failure.throttled {
                    counts = false;
                    after_throttling(now, u32::from(track.tally().throttled), chance)
                } else {
                    next()
                };
                let due = failure.retry_after.map_or(due, |pause| due.max(retry.not_before(now, pause, chance)));
                (Some((State::Queued { due }, None)), End::Unknown, Some(failure))
            }
        },
    };
    let (state, again) = goes_on.unwrap_or((State::Ended { end, at: now }, None));
    let kind = match (state, failure) {
        (State::Ended { .. }, _) => end.kind(is_text),
        (_, None) => Kind::Sent,
        (_, Some(_)) => Kind::Delayed,
    };
    let reply = match &outcome {
        Outcome::Relayed(relayed) => Some(&relayed.reply),
        Outcome::Delayed(f) | Outcome::Failed(f) => f.reply.as_ref(),
    };
    let reply = reply.map(|r| Reply { text: kept(&r.text, masked), ..r.clone() });
    let (sequence, previous) = track.next_change();
    let change = Change {
        recipient,
        sequence,
        previous,
        state,
        attempt: Some(Attempt {
            time: now,
            outcome: kind,
            stage: failure.map(|f| f.stage),
            scope: failure.map(|f| f.scope),
            status: failure.map(|f| f.status),
            reply,
            cause: failure.and_then(|f| f.cause.as_deref()).map(|cause| kept(cause, masked)),
            throttled,
            rule: failure.and_then(|f| f.rule.clone()),
            peer,
            duration,
        }),
        counts,
        tally: Some(track.tally().after(counts, throttled)),
        progress: progress.map(Box::new),
        receipt: None,
    };
    (change, again)
}

/// Octets kept of what the other side said, or of a cause. A reply may be 64 KiB long and go to each of a hundred
/// recipients, and all of it has to fit into one batch of the log.
const SAID_BYTES_MAX: usize = 1_024;

/// What is kept of a reply's text: its beginning, and without an address that must not be shown.
fn kept(text: &str, masked: Option<&str>) -> String {
    let mut kept = match masked {
        Some(address) => {
            let digits = address.strip_prefix('+').unwrap_or(address);
            text.replace(address, &mask(address)).replace(digits, &mask(digits))
        }
        None => text.to_owned(),
    };
    if kept.len() > SAID_BYTES_MAX {
        kept.truncate(kept.floor_char_boundary(SAID_BYTES_MAX));
        kept.push_str(" …");
    }
    kept
}

/// An end that no attempt led to: expiry, an operator's word. Why stands where an attempt's cause would.
pub(super) fn ended(
    track: &Track,
    recipient: RecipientIndex,
    end: End,
    why: Option<&str>,
    is_text: bool,
    now: Timestamp,
) -> Change {
    let attempt = why.map(|why| no_attempt(end.kind(is_text), why, now));
    without_attempt(track, recipient, State::Ended { end, at: now }, attempt)
}

/// A text goes on although its time, where it was, has run out.
pub(super) fn moved_on(
    track: &Track,
    recipient: RecipientIndex,
    onward: Onward,
    progress: &TextProgress,
    now: Timestamp,
) -> Change {
    let state = match onward {
        Onward::Elsewhere => State::Queued { due: now },
        Onward::Await => State::Sent { at: now },
    };
    let attempt = no_attempt(Kind::Delayed, &onward.why(&progress.carrier), now);
    let mut given_up = progress.clone();
    given_up.give_up();
    let change = without_attempt(track, recipient, state, Some(attempt));
    Change { progress: Some(Box::new(given_up)), ..change }
}

fn without_attempt(track: &Track, recipient: RecipientIndex, state: State, attempt: Option<Attempt>) -> Change {
    let (sequence, previous) = track.next_change();
    let tally = Some(track.tally());
    Change { recipient, sequence, previous, state, attempt, counts: false, tally, progress: None, receipt: None }
}

/// What stands where an attempt would, if nobody was asked.
pub(super) fn no_attempt(outcome: Kind, why: &str, now: Timestamp) -> Attempt {
    Attempt {
        time: now,
        outcome,
        stage: None,
        scope: None,
        status: None,
        reply: None,
        cause: Some(kept(why, None)),
        throttled: false,
        rule: None,
        peer: None,
        duration: Duration::ZERO,
    }
}

/// The attempt of a text has begun: its parts are about to leave.
pub(super) fn begun(track: &Track, recipient: RecipientIndex, progress: TextProgress, now: Timestamp) -> Change {
    let (sequence, previous) = track.next_change();
    let (state, tally, progress) = (State::Begun { at: now }, Some(track.tally()), Some(Box::new(progress)));
    Change { recipient, sequence, previous, state, attempt: None, counts: false, tally, progress, receipt: None }
}

/// What a receipt for part `part` does to a life, and why the text leaves once more, if it does; `None` if it says nothing
/// new.
pub(super) fn change_after_receipt(
    track: &Track,
    progress: &TextProgress,
    recipient: RecipientIndex,
    part: usize,
    receipt: &Receipt,
    prospects: Prospects<'_>,
) -> Option<(Change, Option<Reason>)> {
    let mut progress = progress.clone();
    let known = progress.at_mut(&receipt.carrier)?.parts.get_mut(part)?;
    let id = match known {
        PartState::Sent(id) => id.clone(),
        PartState::Received(id, state) if !state.is_final() => id.clone(),
        _ => return None,
    };
    *known = PartState::Received(id, receipt.state);
    let at = receipt.received_at;
    let (state, again) = match (track.state(), verdict(&progress)) {
        (State::Sent { .. } | State::Queued { .. }, Some(End::Delivered)) => {
            (State::Ended { end: End::Delivered, at }, None)
        }
        (State::Sent { .. }, _) if prospects.lost(&progress) => (State::Queued { due: at }, Some(Reason::Failed)),
        (State::Sent { .. }, Some(end)) => (State::Ended { end, at }, None),
        (state, _) => (state, None),
    };
    let carrier = Some(receipt.carrier.clone());
    let told = PartReceipt { part: part as u32, at, text: kept(&receipt.text, None), carrier };
    let (sequence, previous) = track.next_change();
    let change = Change {
        recipient,
        sequence,
        previous,
        state,
        attempt: None,
        counts: false,
        tally: Some(track.tally()),
        progress: Some(Box::new(progress)),
        receipt: Some(Box::new(told)),
    };
    Some((change, again))
}

/// The verdict over all carriers: one that delivered is enough, and nothing is lost while one may still deliver.
fn verdict(progress: &TextProgress) -> Option<End> {
    if progress.chain().any(|at| at.verdict() == Some(Verdict::Arrived)) {
        return Some(End::Delivered);
    }
    if progress.may_arrive() || progress.chain().all(|at| at.verdict().is_none()) {
        return None;
    }
    let doubtful = progress.chain().any(|at| at.parts.contains(&PartState::Unanswered));
    Some(if doubtful { End::Unknown } else { End::Failed })
}

/// What is known of a message when a fact about it is told.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) id: MessageId,
    pub(super) client: ClientName,
    pub(super) class: Class,
    pub(super) channel: Channel,
    pub(super) size: u64,
    /// Missing if it cannot be read back from disk.
    pub(super) envelope: Option<&'a Envelope>,
}

impl<'a> Subject<'a> {
    pub(super) fn of(envelope: &'a Envelope, size: u64) -> Self {
        Self {
            id: envelope.id,
            client: envelope.client.clone(),
            class: envelope.class,
            channel: envelope.channel(),
            size,
            envelope: Some(envelope),
        }
    }

    pub(super) fn of_entry(entry: &Entry, client: ClientName, envelope: Option<&'a Envelope>) -> Self {
        let &Entry { id, class, channel, size, .. } = entry;
        Self { id, client, class, channel, size: u64::from(size), envelope }
    }

    fn fact(&self, recipient: RecipientIndex, kind: Kind, time: Timestamp) -> Fact {
        let mut fact = Fact::new(time, kind, self.channel);
        fact.id = Some(self.id);
        fact.client = Some(self.client.clone());
        fact.class = Some(self.class);
        // Of a text that has lain on the shelf nobody knows any more.
        fact.size = (self.size > 0).then_some(self.size);
        fact.campaign = self.envelope.and_then(|e| e.campaign.clone());
        fact.recipient = self.envelope.map(|e| shown(e, recipient));
        fact
    }
}

/// The fact of a message's acceptance, one per recipient.
pub(super) fn accepted_fact(envelope: &Envelope, recipient: RecipientIndex, lane: Option<Arc<str>>, size: u64) -> Fact {
    let mut fact = Subject::of(envelope, size).fact(recipient, Kind::Accepted, envelope.received_at);
    fact.lane = lane;
    fact
}

/// The fact of a change; `None` for one that nobody outside needs to hear of. `attempts_made` is what had been made before,
/// `parts` how many a text has, if that is known.
pub(super) fn fact_of(
    subject: &Subject<'_>,
    change: &Change,
    attempts_made: u32,
    parts: Option<u32>,
    lane: Option<Arc<str>>,
    now: Timestamp,
) -> Option<Fact> {
    let is_text = subject.channel == Channel::Sms;
    let kind = match (change.state, &change.attempt) {
        // It has been told that it was sent; this is the end of waiting for more.
        (State::Ended { end: End::SentWithoutReceipt, .. }, _) => Kind::Receipt,
        (State::Begun { .. } | State::Ended { end: End::Shelved, .. }, _) => return None,
        (State::Ended { end, .. }, _) => end.kind(is_text),
        (_, Some(attempt)) => attempt.outcome,
        (_, None) => Kind::Receipt,
    };
    let mut fact = subject.fact(change.recipient, kind, now);
    fact.lane = lane;
    fact.attempt = Some(attempts_made + u32::from(change.attempt.is_some() && change.counts));
    match change.state {
        State::Queued { due } => fact.next_attempt = Some(due),
        State::Ended { end: End::SentWithoutReceipt, .. } => fact.reason = Some(NO_RECEIPT.to_owned()),
        _ => {}
    }
    fact.parts = change.progress.as_deref().map(TextProgress::counted).or(parts);
    fact.reason = fact.reason.or_else(|| change.receipt.as_ref().map(|r| r.text.clone()));
    if let Some(attempt) = &change.attempt {
        fact.reply = attempt.reply.as_ref().map(|r| ReplyFact {
            code: r.code,
            enhanced: r.enhanced.map(|e| e.to_string()),
            text: r.text.clone(),
        });
        fact.stage = attempt.stage.map(Stage::as_str);
        fact.rule = attempt.rule.as_ref().map(|r| RuleFact { id: r.id.clone(), class: r.class.clone() });
        fact.reason.clone_from(&attempt.cause);
        if matches!(kind, Kind::Bounced | Kind::Undelivered) {
            fact.bounce = bounce_of(attempt);
        }
        fact.duration = Some(attempt.duration);
        fact.peer = attempt.peer.clone().map(|p| {
            let Peer { host, address, tls, source, tls_policy } = p;
            PeerFact { host, address, tls, source, tls_policy }
        });
    }
    Some(fact)
}

/// What a text that was sent costs, where its carrier's price is known; `to` is asked for the number only then.
pub(super) fn priced(fact: &mut Fact, change: &Change, to: impl FnOnce() -> Option<Number>, routes: &Routes) {
    let (State::Sent { .. }, Kind::Sent, Some(progress)) = (change.state, fact.event, &change.progress) else { return };
    let prices = routes.text.prices();
    if let Some(part) = to().and_then(|to| prices.of(&progress.carrier, &to)) {
        let amount = part.times(u64::from(progress.counted()));
        fact.price = Some(PriceFact { amount, currency: prices.currency().clone() });
    }
}

/// How events class a failure for good.
fn bounce_of(attempt: &Attempt) -> Option<BounceFact> {
    let category = attempt.scope?.as_str();
    let soft = attempt.status.is_some_and(|s| s.class == 4);
    Some(BounceFact { kind: if soft { "soft" } else { "hard" }, category })
}

/// A recipient's address as it may be shown: masked for codes.
pub(super) fn shown(envelope: &Envelope, recipient: RecipientIndex) -> String {
    let address = envelope.recipients.get(recipient as usize).map_or_else(String::new, |r| r.address.to_string());
    if envelope.class == Class::Otp { mask(&address) } else { address }
}

/// The lane of a recipient that stands in none any more: what can still be told.
pub(super) fn lane_of(subject: &Subject<'_>, recipient: RecipientIndex, progress: Option<&TextProgress>) -> Arc<str> {
    let address = subject.envelope.and_then(|e| e.recipients.get(recipient as usize)).map(|r| &r.address);
    let destination = match address {
        Some(Address::Mailbox(mailbox)) => mailbox.domain().as_str(),
        _ => progress.map_or(subject.channel.as_str(), |p| &*p.carrier),
    };
    format!("{destination}/{}/{}", subject.class, subject.client).into()
}
