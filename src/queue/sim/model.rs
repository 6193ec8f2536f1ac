//! What the queue has promised so far, from its answers alone; and whether what it shows agrees with that.
//!
//! A recipient has one state that is known to be durable. Something whose answer has not been seen is a [`Group`]: after the
//! next start either all of it is true or none, and that is settled for good by what the queue then shows.

use std::collections::{BTreeMap, BTreeSet};

use super::subject::{Seen, SeenRecipient};
use crate::clock::Timestamp;
use crate::event::{Kind, mask};
use crate::model::{Class, Content, Envelope, MessageId, PartState, RecipientIndex, TextProgress};
use crate::queue::Again;

/// The model's verdict: an error is a broken promise, in words.
pub(super) type Check = Result<(), String>;

/// Does a message exist?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its answer has not been seen.
    Unsure,
    /// It was answered yes, or found at a start.
    Taken,
    /// It was refused, or not found at a start: it must never be seen.
    Never,
    /// A record of it was damaged on purpose: nothing is expected of it any more.
    Spoilt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Waiting,
    /// A text's attempt is durable as begun.
    Begun,
    Sent,
    /// Over, in the words of the API.
    Ended(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    At(Timestamp),
    Between(Timestamp, Timestamp),
    Never,
}

/// Where a recipient stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    /// Attempts that count.
    pub(super) made: u32,
    /// Attempts in all.
    pub(super) listed: u32,
    pub(super) due: Due,
    pub(super) progress: Option<TextProgress>,
    /// Since when, for a text at its carrier.
    pub(super) at: Timestamp,
}

/// A recipient.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) known: State,
    /// It is leased, or was and something is on its way.
    pub(super) out: bool,
    /// Retries were asked for at once; its due time counts again after a start.
    pub(super) early: bool,
    /// How often the next hop has taken it.
    pub(super) handed: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    /// As it must come back.
    pub(super) envelope: Envelope,
    pub(super) content: Content,
    pub(super) standing: Standing,
    pub(super) fates: Vec<Fate>,
}

/// Records on their way that are all or nothing.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) number: usize,
    pub(super) to: Vec<(RecipientIndex, State)>,
    pub(super) follow_up: Option<usize>,
}

/// What is known of an idempotency key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) holder: usize,
    pub(super) fingerprint: u8,
    pub(super) at: Timestamp,
}

/// Figures of a run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) accepted: u64,
    pub(super) ended: u64,
    /// A next hop took something twice, because a crash swallowed the first time's record.
    pub(super) duplicates: u64,
    /// Texts whose answer a crash swallowed.
    pub(super) unknown: u64,
    pub(super) replayed: u64,
    pub(super) power_cuts: u64,
    pub(super) kills: u64,
    pub(super) clean_ends: u64,
    pub(super) failed_starts: u64,
    pub(super) poisoned: u64,
    pub(super) flips: u64,
    pub(super) spoilt: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        let pairs: [(&mut u64, u64); 13] = [
            (&mut self.operations, other.operations),
            (&mut self.accepted, other.accepted),
            (&mut self.ended, other.ended),
            (&mut self.duplicates, other.duplicates),
            (&mut self.unknown, other.unknown),
            (&mut self.replayed, other.replayed),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.kills, other.kills),
            (&mut self.clean_ends, other.clean_ends),
            (&mut self.failed_starts, other.failed_starts),
            (&mut self.poisoned, other.poisoned),
            (&mut self.flips, other.flips),
            (&mut self.spoilt, other.spoilt),
        ];
        for (sum, one) in pairs {
            *sum += one;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) messages: Vec<Message>,
    pub(super) groups: Vec<Group>,
    /// When texts leave once more, by class.
    pub(super) again: [Again; 3],
    pub(super) keys: BTreeMap<u8, Key>,
    /// Records that may be damaged and have not been missed yet.
    pub(super) tolerance: u32,
    /// The queue has counted a damaged record, in this life or an earlier one.
    pub(super) damage_counted: bool,
    /// What was borne because of that.
    excused: Vec<String>,
    pub(super) counts: Counts,
    told: BTreeSet<(usize, String, &'static str)>,
}

/// The number of the message that an id names.
pub(super) fn number_of(id: MessageId) -> usize {
    let bytes = id.to_bytes();
    u64::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]) as usize
}

/// The id of the message with a number.
pub(super) fn id_of(number: usize, at: Timestamp) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at.millis().to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    MessageId::from_bytes(bytes)
}

fn ended(state: &State) -> bool {
    matches!(state.stage, Stage::Ended(_))
}

/// The queue lists so many attempts at most.
const LISTED_MAX: u32 = 12;

impl State {
    fn parts(&self) -> Vec<&'static str> {
        let word = |part: &PartState| match part {
            PartState::Waiting => "waiting",
            PartState::Unanswered => "unknown",
            PartState::Sent(_) => "sent",
            PartState::Refused => "refused",
            PartState::Received(_, state) => state.as_str(),
        };
        self.progress.iter().flat_map(TextProgress::chain).flat_map(|p| &p.parts).map(word).collect()
    }

    /// A crash has swallowed the answer to an attempt that had begun: where a start leaves it.
    fn swallowed(&self, again: &Again, now: Timestamp) -> Self {
        let mut progress = self.progress.clone();
        let doubted = progress.as_ref().is_some_and(|p| p.doubted);
        let may_arrive = progress.as_ref().is_some_and(TextProgress::may_arrive);
        let (stage, due) = match &mut progress {
            Some(progress) if again.unanswered && !doubted => {
                progress.doubted = true;
                (Stage::Waiting, Due::Between(Timestamp(0), now))
            }
            Some(progress) if may_arrive => {
                let waiting = progress.parts.iter_mut().filter(|p| **p == PartState::Waiting);
                waiting.for_each(|p| *p = PartState::Unanswered);
                (Stage::Sent, Due::Never)
            }
            _ => (Stage::Ended("unknown"), Due::Never),
        };
        Self { stage, made: self.made + 1, listed: self.listed + 1, due, progress, at: now }
    }

    fn has_due(&self, seen: Option<Timestamp>, now: Timestamp) -> bool {
        // What has passed is told as now.
        match (self.due, seen) {
            (Due::At(due), Some(seen)) => due.max(now) == seen,
            (Due::Between(from, to), Some(seen)) => from.max(now) <= seen && seen <= to.max(now),
            (Due::Never, _) | (_, None) => true,
        }
    }

    /// Is this what is seen? `live`: the message has not ended.
    fn is(&self, seen: &SeenRecipient, again: &Again, live: bool, started: bool, early: bool, now: Timestamp) -> bool {
        let waits = matches!(&*seen.status, "held" | "scheduled" | "queued" | "delayed");
        let counts = seen.made == self.made && seen.listed == self.listed.min(LISTED_MAX);
        match self.stage {
            Stage::Waiting => waits && counts && seen.parts == self.parts() && (early || self.has_due(seen.due, now)),
            // In memory it waits and is leased; a start finds it begun and says what becomes of it.
            Stage::Begun if !started => waits,
            Stage::Begun => {
                let after = self.swallowed(again, now);
                waits && seen.parts.iter().any(|p| p == "unknown") || after.is(seen, again, live, started, true, now)
            }
            Stage::Sent => live && seen.status == "sent" && counts && seen.parts == self.parts(),
            // A text that is given up looks like one that is at its carrier, but for its being over.
            Stage::Ended(word) => seen.status == word && counts && !(word == "sent" && live),
        }
    }
}

impl Message {
    pub(super) fn has_ended(&self) -> bool {
        self.fates.iter().all(|f| ended(&f.known))
    }
}

impl Model {
    /// Nothing is known yet.
    pub(super) fn new(again: [Again; 3]) -> Self {
        Self { again, ..Self::default() }
    }

    /// Enters a message that is about to be handed in; returns its number.
    pub(super) fn enter(&mut self, envelope: Envelope, content: Content) -> usize {
        let due = envelope.send_at.unwrap_or(envelope.received_at);
        let known =
            State { stage: Stage::Waiting, made: 0, listed: 0, due: Due::At(due), progress: None, at: Timestamp(0) };
        let fate = Fate { known, out: false, early: false, handed: 0 };
        let fates = vec![fate; envelope.recipients.len()];
        self.messages.push(Message { envelope, content, standing: Standing::Unsure, fates });
        self.messages.len() - 1
    }

    /// Nothing is known to be wrong with it, and nothing is on its way.
    pub(super) fn is_calm(&self, number: usize) -> bool {
        self.messages[number].standing == Standing::Taken && !self.is_busy(number)
    }

    pub(super) fn is_busy(&self, number: usize) -> bool {
        self.groups.iter().any(|g| g.number == number)
    }

    /// Something is not as promised. Bearable only if a record was damaged on purpose.
    fn broken(&mut self, number: usize, what: &str) -> Check {
        if self.messages[number].standing == Standing::Spoilt {
            return Ok(());
        }
        if self.tolerance == 0 {
            let message = &self.messages[number];
            return Err(format!(
                "message {number}: {what}\nits fates: {:?}\nits groups: {:?}\nborne so far: {:#?}",
                message.fates,
                self.of(number),
                self.excused,
            ));
        }
        self.tolerance -= 1;
        self.excused.push(format!("message {number}: {what}"));
        self.counts.spoilt += 1;
        self.messages[number].standing = Standing::Spoilt;
        self.groups.retain(|g| g.number != number);
        Ok(())
    }

    fn of(&self, number: usize) -> Vec<&Group> {
        self.groups.iter().filter(|g| g.number == number).collect()
    }

    /// A group came true.
    fn apply(&mut self, group: Group) {
        let message = &mut self.messages[group.number];
        for (recipient, state) in group.to {
            let fate = &mut message.fates[recipient as usize];
            fate.out = false;
            fate.early = false;
            fate.known = state;
            if ended(&fate.known) {
                self.counts.ended += 1;
            }
        }
        if let Some(follow_up) = group.follow_up {
            self.messages[follow_up].standing = Standing::Taken;
            self.counts.accepted += 1;
        }
    }

    /// Compares a message with what the queue shows of it. `started`: this is the first look after a start, so that what is
    /// not seen now never was. Returns follow-ups whose existence has been decided by this.
    pub(super) fn compare(
        &mut self,
        number: usize,
        seen: Option<&Seen>,
        started: bool,
        now: Timestamp,
    ) -> Result<Vec<(usize, bool)>, String> {
        let message = &mut self.messages[number];
        let mut decided = Vec::new();
        match (message.standing, seen) {
            (Standing::Spoilt, _) | (Standing::Never, None) => return Ok(decided),
            (Standing::Never, Some(_)) => {
                return self
                    .broken(number, "was refused or had been lost before its yes, and is here")
                    .map(|()| decided);
            }
            (Standing::Unsure, None) => {
                if started {
                    message.standing = Standing::Never;
                }
                return Ok(decided);
            }
            (Standing::Unsure, Some(_)) => {
                message.standing = Standing::Taken;
                if let Some(idempotency) = &message.envelope.idempotency {
                    let name = idempotency.key.bytes().last().unwrap_or_default();
                    let at = message.envelope.received_at;
                    self.keys.insert(name, Key { holder: number, fingerprint: idempotency.fingerprint[0], at });
                }
            }
            (Standing::Taken, _) => {}
        }
        // In memory a text that has begun waits and is leased: whether its begin is on disk, only a start can tell.
        let begins = |g: &Group| g.to.iter().any(|(_, state)| state.stage == Stage::Begun);
        let told = |g: &mut Group| g.number == number && (started || !begins(g));
        let groups: Vec<Group> = self.groups.extract_if(.., told).collect();
        for group in groups {
            let truth = self.truth(&group, seen, started, now);
            match truth {
                Some(applied) => {
                    decided.extend(group.follow_up.map(|f| (f, applied)));
                    if applied {
                        self.apply(group);
                    } else if started {
                        // It never was.
                        for (recipient, _) in &group.to {
                            self.messages[number].fates[*recipient as usize].out = false;
                        }
                    } else {
                        self.groups.push(group);
                    }
                }
                None => {
                    let what = format!("neither before nor after {group:?} but {seen:?}");
                    decided.extend(group.follow_up.map(|f| (f, true)));
                    if let Some(follow_up) = group.follow_up {
                        self.messages[follow_up].standing = Standing::Spoilt;
                    }
                    self.groups.push(group);
                    self.broken(number, &what)?;
                }
            }
        }
        self.agree(number, seen, started, now)?;
        if self.messages[number].standing == Standing::Spoilt {
            // What a damaged message looks like says nothing about what followed from it.
            for (follow_up, _) in decided.drain(..) {
                self.messages[follow_up].standing = Standing::Spoilt;
            }
        }
        Ok(decided)
    }

    /// Did a group happen? `None` if only a part of it did, or something else.
    fn truth(&self, group: &Group, seen: Option<&Seen>, started: bool, now: Timestamp) -> Option<bool> {
        let message = &self.messages[group.number];
        let Some(seen) = seen else {
            // Gone: everything ended.
            return group.to.iter().all(|(_, s)| ended(s)).then_some(true);
        };
        let is = |recipient: RecipientIndex, state: &State, early| {
            let shown = seen.recipients.get(recipient as usize);
            let again = &self.again[message.envelope.class.index()];
            shown.is_some_and(|shown| state.is(shown, again, seen.live, started, early, now))
        };
        if group.to.iter().all(|(r, state)| is(*r, state, false)) {
            return Some(true);
        }
        let before = |r: RecipientIndex| {
            let fate = &message.fates[r as usize];
            is(r, &fate.known, fate.early)
        };
        group.to.iter().all(|(r, _)| before(*r)).then_some(false)
    }

    /// What is known must be what is seen.
    fn agree(&mut self, number: usize, seen: Option<&Seen>, started: bool, now: Timestamp) -> Check {
        let groups: Vec<RecipientIndex> = self.of(number).iter().flat_map(|g| g.to.iter().map(|(r, _)| *r)).collect();
        let message = &mut self.messages[number];
        let again = &self.again[message.envelope.class.index()];
        let Some(seen) = seen else {
            // A text that had begun and has ended at this start is remembered, and so not gone.
            return match message.fates.iter().position(|f| !ended(&f.known)) {
                Some(r) => self.broken(number, &format!("is gone, and its recipient {r} had not ended")),
                None => Ok(()),
            };
        };
        if message.envelope.recipients.len() != seen.recipients.len() {
            return self.broken(number, "has another number of recipients");
        }
        for (r, (fate, shown)) in (0..).zip(message.fates.iter_mut().zip(&seen.recipients)) {
            if groups.contains(&r) {
                continue;
            }
            if !fate.known.is(shown, again, seen.live, started, fate.early, now) {
                return self.broken(number, &format!("its recipient {r} is shown as {shown:?}"));
            }
            if let (Due::Between(..), Some(due)) = (fate.known.due, shown.due)
                && due > now
            {
                fate.known.due = Due::At(due);
            }
            let is_recorded = shown.status != "queued" || !shown.parts.iter().any(|p| p == "unknown");
            if started && fate.known.stage == Stage::Begun && is_recorded {
                fate.known = fate.known.swallowed(again, now);
                self.counts.unknown += 1;
                self.counts.ended += u64::from(ended(&fate.known));
            }
        }
        if groups.is_empty() && seen.live == message.has_ended() {
            return self.broken(number, "has ended and is alive, or the reverse");
        }
        Ok(())
    }

    /// How many messages must be found alive, and of how many nothing is expected.
    pub(super) fn expected(&self) -> (u64, u64) {
        let with = |standing| self.messages.iter().filter(move |m| m.standing == standing);
        let live = with(Standing::Taken).filter(|m| !m.has_ended()).count() as u64;
        (live, with(Standing::Spoilt).count() as u64)
    }

    /// The process is gone: leases with it, and retries that were asked for early.
    pub(super) fn crashed(&mut self) {
        for fate in self.messages.iter_mut().flat_map(|m| &mut m.fates) {
            (fate.out, fate.early) = (false, false);
        }
    }

    /// A message was leased for some recipients: may it be?
    pub(super) fn leased(&mut self, number: usize, recipients: &[RecipientIndex], now: Timestamp) -> Check {
        let Some(message) = self.messages.get(number) else { return Err(format!("message {number} was never made")) };
        if message.standing == Standing::Spoilt {
            return Ok(());
        }
        let busy: Vec<RecipientIndex> = self.of(number).iter().flat_map(|g| g.to.iter().map(|(r, _)| *r)).collect();
        let wrong = |r: &RecipientIndex| {
            let fate = message.fates.get(*r as usize)?;
            let fine = fate.known.stage == Stage::Waiting && !fate.out && !busy.contains(r);
            (!fine).then(|| format!("recipient {r} was leased at {now}"))
        };
        // Recipients that travel together go when the first of them is due.
        let on_time = |r: &RecipientIndex| {
            let Some(fate) = message.fates.get(*r as usize) else { return false };
            match fate.known.due {
                Due::At(due) | Due::Between(due, _) => fate.early || due <= now,
                Due::Never => true,
            }
        };
        let expired = message.envelope.expires_at.is_some_and(|at| at <= now);
        let what = match message.standing {
            _ if recipients.is_empty() => Some("was leased for nobody".to_owned()),
            _ if !recipients.iter().any(on_time) => Some(format!("was leased for {recipients:?} too early, at {now}")),
            _ if expired => Some("was leased after its time had run out".to_owned()),
            Standing::Taken => recipients.iter().find_map(wrong),
            standing => Some(format!("was leased and is {standing:?}")),
        };
        if let Some(what) = what {
            return self.broken(number, &what);
        }
        for r in recipients {
            self.messages[number].fates[*r as usize].out = true;
        }
        Ok(())
    }

    pub(super) fn damaged(&mut self, number: usize) -> Check {
        self.broken(number, "its content is damaged")
    }

    pub(super) fn differs(&mut self, number: usize, what: &str) -> Check {
        self.broken(number, what)
    }

    /// A fact was told.
    pub(super) fn told(&mut self, id: MessageId, recipient: String, kind: Kind) {
        let number = number_of(id);
        if matches!(kind, Kind::Accepted | Kind::Delayed | Kind::Sent) {
            return;
        }
        self.told.insert((number, recipient, kind.as_str()));
    }

    /// Every end has been told.
    pub(super) fn all_told(&self) -> Check {
        // With a damaged record it is not known whether something ended and was not told, or was lost.
        if self.tolerance > 0 || self.counts.spoilt > 0 {
            return Ok(());
        }
        for (number, message) in self.messages.iter().enumerate().filter(|(_, m)| m.standing == Standing::Taken) {
            for (fate, recipient) in message.fates.iter().zip(&message.envelope.recipients) {
                let Stage::Ended(word) = fate.known.stage else { continue };
                let word = if word == "sent" { Kind::Receipt.as_str() } else { word };
                let address = recipient.address.to_string();
                let shown = if message.envelope.class == Class::Otp { mask(&address) } else { address };
                if !self.told.contains(&(number, shown, word)) {
                    return Err(format!(
                        "message {number}: nobody was told that {} ended as {word}",
                        recipient.address
                    ));
                }
            }
        }
        Ok(())
    }
}
