//! What couriers and carriers say: outcomes of every sort, and what each of them must lead to.

use std::time::Duration;

use super::super::model::{Check, Due, Group, Message, Stage, Standing, State};
use super::super::trace::note;
use super::Life;
use crate::clock::Timestamp;
use crate::model::{
    Consignment, EnhancedStatus, Failure, Outcome, PartState, Receipt, ReceiptState, RecipientIndex, RecipientOutcome,
    Relayed, Reply, Scope, Stage as At, TextProgress,
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
            if matches!(outcome.outcome, Outcome::Relayed(_)) {
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
        let fresh = || {
            let parts = vec![PartState::Waiting; random.usize(1..=2)];
            TextProgress { carrier: "one".into(), reference: 7, parts }
        };
        let progress = held.consignment.progress.clone().unwrap_or_else(fresh);
        let mut known = self.world.model.messages[held.number].fates[0].known.clone();
        known.stage = Stage::Begun;
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
        let unanswered = outcome.progress.as_ref().is_some_and(|p| p.parts.contains(&PartState::Unanswered));
        let counts = !matches!(&outcome.outcome, Outcome::Delayed(f) if f.throttled && !unanswered);
        let made = known.made + u32::from(counts);
        let (stage, due) = match &outcome.outcome {
            Outcome::Relayed(_) if is_text => (Stage::Sent, Due::Never),
            Outcome::Relayed(_) => (Stage::Ended("delivered"), Due::Never),
            Outcome::Failed(_) => (Stage::Ended(if is_text { "undelivered" } else { "bounced" }), Due::Never),
            Outcome::Delayed(_) if unanswered => (Stage::Ended("unknown"), Due::Never),
            Outcome::Delayed(_) => {
                let schedule = &self.world.ground.options.retry[consignment.envelope.class.index()].schedule;
                let pause = schedule[(made.max(1) as usize - 1).min(schedule.len() - 1)];
                let (from, to) =
                    if counts { (pause, pause) } else { (Duration::from_secs(1), Duration::from_secs(30)) };
                // Recorded a little later, perhaps: time passes for those who wait.
                let to = now.plus(to.mul_f64(1.151)).plus(Duration::from_secs(2));
                (Stage::Waiting, Due::Between(now.plus(from.mul_f64(0.849)), to))
            }
        };
        let progress = outcome.progress.clone().or(known.progress);
        State { stage, made, listed: known.listed + 1, due, progress, at: now }
    }

    /// A carrier reports on a part, or once more on one that it has reported on.
    pub(super) async fn hear_from_carrier(&mut self) -> Check {
        let model = &*self.world.model;
        let sent = |(n, m): (usize, &Message)| {
            (m.standing == Standing::Taken && m.fates[0].known.stage == Stage::Sent && !model.is_busy(n)).then_some(n)
        };
        let candidates: Vec<usize> = model.messages.iter().enumerate().filter_map(sent).collect();
        let Some(number) = self.world.random.choice(candidates) else { return Ok(()) };
        let mut known = self.world.model.messages[number].fates[0].known.clone();
        let Some(progress) = &mut known.progress else { return Ok(()) };
        let part = self.world.random.usize(..progress.parts.len());
        let state =
            [ReceiptState::Delivered, ReceiptState::Delivered, ReceiptState::Undeliverable, ReceiptState::Underway]
                [self.world.random.usize(..4)];
        let (id, news) = match &progress.parts[part] {
            PartState::Sent(id) => (id.clone(), true),
            PartState::Received(id, before) => (id.clone(), !before.is_final()),
            _ => return Ok(()),
        };
        let received_at = self.now();
        if news {
            progress.parts[part] = PartState::Received(id.clone(), state);
            let all = |f: fn(&ReceiptState) -> bool| {
                progress.parts.iter().all(|p| matches!(p, PartState::Received(_, s) if f(s)))
            };
            if all(|s| s.is_final()) {
                let delivered = all(|s| *s == ReceiptState::Delivered);
                known.stage = Stage::Ended(if delivered { "delivered" } else { "undelivered" });
            }
            self.record(Group { number, to: vec![(0, known.clone())], follow_up: None });
        }
        note!(self.world.trace, "a receipt for {number} says {state:?}");
        let receipt =
            Receipt { carrier: "one".into(), carrier_message_id: id, state, text: "stat:X".into(), received_at };
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
