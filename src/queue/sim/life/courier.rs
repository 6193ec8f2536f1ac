//! What couriers and carriers say: outcomes of every sort, and what each of them must lead to.

use std::time::Duration;

use super::super::model::{Check, Due, Group, Message, Stage, Standing, State};
use super::super::trace::note;
use super::super::workload;
use super::Life;
use crate::clock::Timestamp;
use crate::model::{
    Consignment, EnhancedStatus, Envelope, Failure, Outcome, PartState, Receipt, ReceiptState, RecipientIndex,
    RecipientOutcome, Relayed, Reply, Scope, Stage as At, TextProgress,
};
use crate::storage::AppendError;

impl Life<'_, '_> {
    pub(super) async fn give_back(&mut self) -> Check {
        if self.leases.is_empty() {
            return Ok(());
        }
        let held = self.leases.swap_remove(self.world.random.usize(..self.leases.len()));
        note!(self.world.trace, "{} goes back", held.number);
        if held.begun.is_none() {
            for r in held.consignment.recipients {
                self.world.model.messages[held.number].fates[r as usize].out = false;
            }
        }
        drop(held.lease);
        Ok(())
    }

    /// A courier is done, or a text's begins.
    pub(super) async fn settle_one(&mut self) -> Check {
        if self.leases.is_empty() {
            return Ok(());
        }
        let at = self.world.random.usize(..self.leases.len());
        let is_text = self.leases[at].consignment.envelope.text().is_some();
        if is_text && self.leases[at].begun.is_none() {
            return self.begin_text(at).await;
        }
        let held = self.leases.swap_remove(at);
        let now = self.now();
        let outcomes = match &held.begun {
            Some(progress) => self.text_outcome(held.number, progress.clone()),
            None => self.mail_outcomes(&held.consignment),
        };
        let mut to = Vec::new();
        for outcome in &outcomes {
            let fate = &mut self.world.model.messages[held.number].fates[outcome.recipient as usize];
            // A text may go to several carriers.
            if matches!(outcome.outcome, Outcome::Relayed(_)) && !is_text {
                fate.handed += 1;
                self.world.model.counts.duplicates += u64::from(fate.handed > 1);
            }
            let known = self.world.model.messages[held.number].fates[outcome.recipient as usize].known.clone();
            to.push((outcome.recipient, self.after(known, outcome, is_text, &held.consignment, now)));
        }
        for r in held.consignment.recipients.iter().filter(|r| !outcomes.iter().any(|o| o.recipient == **r)) {
            self.world.model.messages[held.number].fates[*r as usize].out = false;
        }
        let failed = outcomes.iter().any(|o| matches!(o.outcome, Outcome::Failed(_)));
        let bounce = (failed && !is_text && self.world.random.u8(..4) != 0).then(|| self.bounce(held.number));
        let (follow_up, then) = bounce.map_or((None, Vec::new()), |(n, bounce)| (Some(n), vec![bounce]));
        note!(self.world.trace, "settle {} as {to:?}, then {follow_up:?}", held.number);
        self.record(Group { number: held.number, to, follow_up });
        self.subject.settle(held.lease, outcomes, then).await;
        Ok(())
    }

    async fn begin_text(&mut self, at: usize) -> Check {
        let random = &mut *self.world.random;
        let held = &mut self.leases[at];
        let mut fresh = |carrier: &str| TextProgress::new(carrier.into(), 7, random.usize(1..=2));
        let progress = match held.consignment.progress.clone() {
            None => fresh("one"),
            Some(progress) if progress.has_waiting() => progress,
            Some(before) => {
                let tried: Vec<_> = before.chain().map(|at| at.carrier.to_string()).collect();
                let next = ["one", "two", "three"].into_iter().find(|name| !tried.iter().any(|t| t == name));
                let next = next.ok_or_else(|| format!("{} has gone to {tried:?} and is to go on", held.number))?;
                TextProgress { before: Some(Box::new(before)), ..fresh(next) }
            }
        };
        let mut known = self.world.model.messages[held.number].fates[0].known.clone();
        (known.stage, known.progress) = (Stage::Begun, Some(progress.clone()));
        let number = held.number;
        note!(self.world.trace, "begin {number}");
        if self.world.model.messages[number].standing != Standing::Spoilt {
            self.world.model.groups.push(Group { number, to: vec![(0, known.clone())], follow_up: None });
        }
        match self.subject.begin(&mut held.lease, progress.clone()).await {
            Some(Ok(())) => {
                held.begun = Some(progress);
                self.world.model.groups.retain(|g| g.number != number);
                self.world.model.messages[number].fates[0].known = known;
            }
            _ if !self.world.healthy => {}
            other => return Err(format!("{number} could not begin although nothing failed: {other:?}")),
        }
        Ok(())
    }

    fn mail_outcomes(&mut self, consignment: &Consignment) -> Vec<RecipientOutcome> {
        let random = &mut *self.world.random;
        let one_for_all = random.u8(..3) != 0;
        let first = mail_outcome(random);
        let partial = random.u8(..12) == 0;
        let all = consignment.recipients.iter().filter(|_| !partial || random.bool()).copied().collect::<Vec<_>>();
        all.into_iter()
            .map(|r| outcome(r, if one_for_all { first.clone() } else { mail_outcome(random) }, None))
            .collect()
    }

    fn text_outcome(&mut self, number: usize, mut progress: TextProgress) -> Vec<RecipientOutcome> {
        let random = &mut *self.world.random;
        let listed = self.world.model.messages[number].fates[0].known.listed;
        let sent = |part: usize| PartState::Sent(format!("m{number}p{part}t{listed}").into());
        let waiting: Vec<usize> =
            (0..progress.parts.len()).filter(|p| progress.parts[*p] == PartState::Waiting).collect();
        let result = match random.u8(..10) {
            0..6 => {
                waiting.iter().for_each(|p| progress.parts[*p] = sent(*p));
                relayed()
            }
            6..8 => {
                // The carrier asks to slow down after the first part, or at once.
                if waiting.len() > 1 {
                    progress.parts[waiting[0]] = sent(waiting[0]);
                }
                let mut failure = failure(4, At::Submit);
                failure.throttled = true;
                Outcome::Delayed(failure)
            }
            8 => {
                waiting.iter().for_each(|p| progress.parts[*p] = PartState::Refused);
                Outcome::Failed(failure(5, At::Submit))
            }
            _ => {
                waiting.iter().for_each(|p| progress.parts[*p] = PartState::Unanswered);
                Outcome::Delayed(failure(4, At::Submit))
            }
        };
        vec![outcome(0, result, Some(progress))]
    }

    /// What an outcome must lead to.
    fn after(
        &self,
        known: State,
        outcome: &RecipientOutcome,
        is_text: bool,
        consignment: &Consignment,
        now: Timestamp,
    ) -> State {
        let class = consignment.envelope.class;
        let again = &self.world.model.again[class.index()];
        let unanswered = outcome.progress.as_ref().is_some_and(|p| p.parts.contains(&PartState::Unanswered));
        let mut progress = outcome.progress.clone().or_else(|| known.progress.clone());
        let elsewhere = progress.as_ref().is_some_and(|p| self.goes_elsewhere(&consignment.envelope, p, now));
        let may_arrive = is_text && progress.as_ref().is_some_and(TextProgress::may_arrive);
        let soon = Due::Between(now, now.plus(Duration::from_secs(2)));
        let counts = !matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled && !unanswered);
        let made = known.made + u32::from(counts);
        let (stage, due) = match &outcome.outcome {
            Outcome::Relayed(_) if is_text => (Stage::Sent, Due::Never),
            Outcome::Relayed(_) => (Stage::Ended("delivered"), Due::Never),
            Outcome::Failed(_) if again.after_failure && elsewhere => (Stage::Waiting, soon),
            Outcome::Failed(_) if may_arrive => (Stage::Sent, Due::Never),
            Outcome::Failed(_) => (Stage::Ended(if is_text { "undelivered" } else { "bounced" }), Due::Never),
            Outcome::Delayed(_)
                if unanswered && !(again.unanswered && progress.as_ref().is_some_and(|p| !p.doubted)) =>
            {
                (if may_arrive { Stage::Sent } else { Stage::Ended("unknown") }, Due::Never)
            }
            Outcome::Delayed(_) => {
                let schedule = &self.world.ground.options.retry[class.index()].schedule;
                let pause = schedule[(made.max(1) as usize - 1).min(schedule.len() - 1)];
                let (from, to) =
                    if counts { (pause, pause) } else { (Duration::from_secs(1), Duration::from_secs(30)) };
                // Recorded a little later, perhaps: time passes for those who wait.
                let to = now.plus(to.mul_f64(1.151)).plus(Duration::from_secs(2));
                (Stage::Waiting, Due::Between(now.plus(from.mul_f64(0.849)), to))
            }
        };
        if let Some(progress) = progress.as_mut().filter(|_| is_text) {
            let spoilt = matches!(outcome.outcome, Outcome::Failed(_)) && !ended(&stage) || stage == Stage::Sent;
            for part in &mut progress.parts {
                match part {
                    // It stays where it is, or goes elsewhere: nothing more leaves by this carrier.
                    PartState::Waiting if spoilt => *part = PartState::Refused,
                    PartState::Unanswered if stage == Stage::Waiting => *part = PartState::Waiting,
                    _ => {}
                }
            }
            progress.doubted |= unanswered && stage == Stage::Waiting;
        }
        State { stage, made, listed: known.listed + 1, due, progress, at: now }
    }

    /// Is there a carrier that a text has not gone to, and time?
    fn goes_elsewhere(&self, envelope: &Envelope, progress: &TextProgress, now: Timestamp) -> bool {
        let again = &self.world.model.again[envelope.class.index()];
        let tried: Vec<&str> = progress.chain().map(|at| &*at.carrier).collect();
        let number = envelope.recipients[0].address.to_string();
        let left = workload::carriers_to(&number, self.rerouted).iter().any(|name| !tried.contains(name));
        left && tried.len() < again.carriers_max && envelope.expires_at.is_none_or(|at| at > now)
    }

    /// Texts whose time at their carrier was over may have been sent on.
    pub(super) async fn see_who_goes_on(&mut self) -> Check {
        self.settle_down().await?;
        let now = self.now();
        for number in 0..self.world.model.messages.len() {
            let message = &self.world.model.messages[number];
            let fate = &message.fates[0];
            let Some(progress) = fate.known.progress.clone().filter(|_| self.world.model.is_calm(number)) else {
                continue;
            };
            let expires_at = message.envelope.expires_at.unwrap_or_default();
            let slow = self.world.model.again[message.envelope.class.index()].receipt_within;
            let (stage, word) = match fate.known.stage {
                Stage::Sent => {
                    let is_over = slow.is_some_and(|within| fate.known.at.plus(within) <= now);
                    let goes_on = is_over && self.goes_elsewhere(&message.envelope, &progress, now);
                    (goes_on.then_some(Stage::Waiting), "delayed")
                }
                Stage::Waiting if !fate.out && expires_at <= now => {
                    (progress.may_arrive().then_some(Stage::Sent), "sent")
                }
                _ => (None, ""),
            };
            let Some(stage) = stage else { continue };
            let due = if stage == Stage::Sent { Due::Never } else { Due::Between(Timestamp(0), now) };
            let mut after = State { stage, due, listed: fate.known.listed + 1, at: now, ..fate.known.clone() };
            for part in after.progress.iter_mut().flat_map(|p| &mut p.parts) {
                if *part == PartState::Waiting {
                    *part = PartState::Refused;
                }
            }
            let seen = self.subject.look(message.envelope.id).await;
            if seen.is_ok_and(|seen| seen.is_some_and(|seen| seen.recipients[0].status == word)) {
                note!(self.world.trace, "{number} goes on: {after:?}");
                self.world.model.messages[number].fates[0].known = after;
            } else if self.is_poisoned() || !self.has_power() {
                // It may have been recorded, or not: the next start says so.
                self.record(Group { number, to: vec![(0, after)], follow_up: None });
            }
        }
        Ok(())
    }

    /// A carrier reports on a part, or once more on one that it has reported on.
    pub(super) async fn hear_from_carrier(&mut self) -> Check {
        let model = &*self.world.model;
        let sent = |(n, m): (usize, &Message)| {
            let fate = &m.fates[0];
            let waits = fate.known.stage == Stage::Waiting && !fate.out && fate.known.progress.is_some();
            (model.is_calm(n) && (fate.known.stage == Stage::Sent || waits)).then_some(n)
        };
        let candidates: Vec<usize> = model.messages.iter().enumerate().filter_map(sent).collect();
        let Some(number) = self.world.random.choice(candidates) else { return Ok(()) };
        let now = self.now();
        let envelope = self.world.model.messages[number].envelope.clone();
        let mut known = self.world.model.messages[number].fates[0].known.clone();
        let Some(progress) = &mut known.progress else { return Ok(()) };
        let elsewhere = self.goes_elsewhere(&envelope, progress, now);
        let carriers: Vec<_> = progress.chain().map(|at| at.carrier.clone()).collect();
        let carrier = carriers[self.world.random.usize(..carriers.len())].clone();
        let Some(at) = progress.at_mut(&carrier) else { return Ok(()) };
        let part = self.world.random.usize(..at.parts.len());
        let state =
            [ReceiptState::Delivered, ReceiptState::Delivered, ReceiptState::Undeliverable, ReceiptState::Underway]
                [self.world.random.usize(..4)];
        let (id, news) = match &at.parts[part] {
            PartState::Sent(id) => (id.clone(), true),
            PartState::Received(id, before) => (id.clone(), !before.is_final()),
            _ => return Ok(()),
        };
        let received_at = self.now();
        if news {
            at.parts[part] = PartState::Received(id.clone(), state);
            let all = |at: &TextProgress, f: fn(&ReceiptState) -> bool| {
                at.parts.iter().all(|p| matches!(p, PartState::Received(_, s) if f(s)))
            };
            let lost = |at: &TextProgress| all(at, |s| s.is_final()) && !all(at, |s| *s == ReceiptState::Delivered);
            let taken = |p: &PartState| matches!(p, PartState::Sent(_) | PartState::Received(..));
            let waits = |at: &TextProgress| at.parts.iter().all(taken) && !lost(at);
            let after_failure = self.world.model.again[envelope.class.index()].after_failure;
            if progress.chain().any(|at| all(at, |s| *s == ReceiptState::Delivered)) {
                (known.stage, known.due) = (Stage::Ended("delivered"), Due::Never);
            } else if known.stage == Stage::Sent && after_failure && elsewhere && lost(progress) {
                (known.stage, known.due) = (Stage::Waiting, Due::Between(now, now.plus(Duration::from_secs(2))));
            } else if known.stage == Stage::Sent && progress.chain().any(lost) && !progress.chain().any(waits) {
                let doubtful = progress.chain().any(|at| at.parts.contains(&PartState::Unanswered));
                known.stage = Stage::Ended(if doubtful { "unknown" } else { "undelivered" });
            }
            self.record(Group { number, to: vec![(0, known.clone())], follow_up: None });
        }
        note!(self.world.trace, "a receipt for {number} says {state:?}");
        let receipt = Receipt { carrier, carrier_message_id: id, state, text: "stat:X".into(), received_at };
        let answered = self.subject.receipt(receipt).await;
        note!(self.world.trace, "the receipt was answered {answered:?}");
        match answered {
            Some(Ok(())) => {
                self.settle_down().await?;
                if self.world.model.is_busy(number) {
                    return Err(format!("{number}'s receipt was answered yes and is not recorded"));
                }
            }
            Some(Err(AppendError::Busy)) => self.world.model.groups.retain(|g| g.number != number),
            _ if !self.world.healthy => {}
            other => return Err(format!("{number}'s receipt was refused although nothing failed: {other:?}")),
        }
        Ok(())
    }
}

fn ended(stage: &Stage) -> bool {
    matches!(stage, Stage::Ended(_))
}

fn mail_outcome(random: &mut fastrand::Rng) -> Outcome {
    match random.u8(..10) {
        0..5 => relayed(),
        5..8 => Outcome::Delayed(failure(4, At::Recipient)),
        8 => Outcome::Failed(failure(5, At::Recipient)),
        _ => {
            let mut failure = failure(4, At::Connect);
            failure.scope = Scope::Host;
            Outcome::Delayed(failure)
        }
    }
}

fn failure(class: u8, stage: At) -> Failure {
    Failure::without_reply(Scope::Recipient, stage, EnhancedStatus::new(class, 2, 1), "the script says so")
}

fn relayed() -> Outcome {
    Outcome::Relayed(Relayed { reply: Reply { code: 250, enhanced: None, text: "ok".into() }, notifies: true })
}

fn outcome(recipient: RecipientIndex, outcome: Outcome, progress: Option<TextProgress>) -> RecipientOutcome {
    RecipientOutcome { recipient, outcome, peer: None, progress, duration: Duration::ZERO }
}
