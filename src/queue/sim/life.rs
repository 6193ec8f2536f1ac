//! One life of the queue: operations in any order until it is shut down, killed, or the power goes.

mod answers;
mod courier;

use std::time::Duration;

use super::Ending;
use super::model::{Check, Due, Group, Model, Stage, Standing, State, number_of};
use super::subject::{Answer, Ground, Silence, Subject, overdue_of};
use super::trace::{Trace, note};
use super::workload::{self, KEY_AGE_MAX, RECEIPT_WAIT_MAX};
use crate::clock::{Clock, Timestamp};
use crate::model::{Consignment, RecipientIndex, Submission, TextProgress};
use crate::queue::{Lease, LoadError};
use crate::storage::faulty::FaultyDisk;

/// What lives share.
pub(super) struct World<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) disk: std::sync::Arc<FaultyDisk>,
    pub(super) model: &'a mut Model,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) trace: &'a mut Trace,
    /// True if no call of the disk is going to fail in this life: then nothing may be refused without need.
    pub(super) healthy: bool,
}

/// A life.
pub(super) struct Life<'a, 'b> {
    world: &'b mut World<'a>,
    subject: Subject,
    leases: Vec<Held>,
    flights: Vec<Flight>,
    rerouted: bool,
    /// It is being shut down: what comes now is turned away.
    stopping: bool,
    /// The disk did not answer when it was asked what is there.
    silent: bool,
}

/// A lease that is out.
struct Held {
    lease: Lease,
    number: usize,
    consignment: Consignment,
    begun: Option<TextProgress>,
}

/// A submission on its way.
struct Flight {
    number: usize,
    key: Option<(u8, u8)>,
    answer: tokio::task::JoinHandle<Answer>,
}

const LEASES_MAX: usize = 5;
const FLIGHTS_MAX: usize = 4;

/// What was told until then was told: the event file outlives the process, and was synced when the queue asked for it.
impl Drop for Life<'_, '_> {
    fn drop(&mut self) {
        self.hear();
    }
}

impl<'a, 'b> Life<'a, 'b> {
    /// Opens the queue and compares what is there with the model; `None` if it did not open.
    pub(super) async fn begin(world: &'b mut World<'a>) -> Result<Option<Self>, String> {
        let subject = match Subject::open(&world.ground) {
            Ok(subject) => subject,
            Err(e) if !world.healthy => {
                note!(world.trace, "the start failed: {e}");
                world.model.counts.failed_starts += 1;
                return Ok(None);
            }
            Err(e) => return Err(format!("the queue does not open: {e}")),
        };
        let mut life = Self {
            world,
            subject,
            leases: Vec::new(),
            flights: Vec::new(),
            rerouted: false,
            stopping: false,
            silent: false,
        };
        if !life.subject.take_in().await {
            return Err("what is on disk is not taken in".to_owned());
        }
        if life.subject.strange > 0 {
            return Err(format!("{} records are intact and cannot be understood", life.subject.strange));
        }
        life.subject.quiesce().await;
        life.take_stock().await?;
        if life.silent {
            // What is there cannot be told before the next start.
            life.world.model.counts.failed_starts += 1;
            return Ok(None);
        }
        Ok(Some(life))
    }

    fn now(&self) -> Timestamp {
        self.world.ground.clock.now()
    }

    /// What the start found is what must be there, and nothing else.
    async fn take_stock(&mut self) -> Check {
        let spoilt_before = self.world.model.counts.spoilt;
        for number in 0..self.world.model.messages.len() {
            let message = &self.world.model.messages[number];
            let asked = match message.standing {
                Standing::Unsure => true,
                Standing::Taken => !message.has_ended() || self.world.model.is_busy(number),
                Standing::Never | Standing::Spoilt => false,
            };
            if asked {
                self.compare(number, true).await?;
            }
        }
        if self.silent {
            self.hear();
            return Ok(());
        }
        // Texts that had begun are counted at the start and have ended by now.
        let ended_now = self.subject.unknown_at_start;
        let found = self.subject.messages_at_start;
        note!(self.world.trace, "started with {found} messages, {ended_now} unknown");
        let (mut expected, mut spoilt) = self.world.model.expected();
        if found > expected + ended_now + spoilt && self.world.model.tolerance > 0 {
            // The record of an end was damaged, and what had ended is back.
            for number in 0..self.world.model.messages.len() {
                if self.world.model.messages[number].standing == Standing::Taken {
                    self.compare(number, true).await?;
                }
            }
            (expected, spoilt) = self.world.model.expected();
        }
        if found > expected + ended_now + spoilt || found + spoilt < expected {
            return Err(format!("the start found {found} messages instead of {expected} (+ {ended_now} unknown)"));
        }
        let model = &mut *self.world.model;
        model.damage_counted |= self.subject.damage() > 0;
        if model.counts.spoilt > spoilt_before && !model.damage_counted {
            return Err("a record was missed and no damage is counted".to_owned());
        }
        self.hear();
        Ok(())
    }

    async fn compare(&mut self, number: usize, started: bool) -> Check {
        let id = self.world.model.messages[number].envelope.id;
        let seen = match self.subject.look(id).await {
            Ok(seen) => seen,
            // Its records are on a disk that is about to be, or has been, taken away.
            Err(Silence) if !self.world.healthy => {
                self.silent = true;
                return Ok(());
            }
            Err(Silence) => return Err(format!("message {number} cannot be read back")),
        };
        let now = self.world.ground.clock.now();
        for (follow_up, applied) in self.world.model.compare(number, seen.as_ref(), started, now)? {
            if self.world.model.messages[follow_up].standing == Standing::Spoilt {
                continue;
            }
            let id = self.world.model.messages[follow_up].envelope.id;
            let Ok(there) = self.subject.look(id).await.map(|seen| seen.is_some()) else { continue };
            if there != applied {
                let what = format!("follows from {number}'s change, applied: {applied}; it is there: {there}");
                self.world.model.differs(follow_up, &what)?;
                continue;
            }
            if started && !applied {
                self.world.model.messages[follow_up].standing = Standing::Never;
            }
        }
        Ok(())
    }

    fn hear(&mut self) {
        for (id, recipient, kind) in self.subject.facts() {
            self.world.model.told(id, recipient, kind);
        }
    }

    /// Does one thing, anything.
    pub(super) async fn operate(&mut self) -> Check {
        self.world.model.counts.operations += 1;
        match self.world.random.u8(..100) {
            0..22 => self.submit().await?,
            22..47 => self.lease().await?,
            47..71 => self.settle_one().await?,
            71..74 => self.give_back().await?,
            74..80 => self.hear_from_carrier().await?,
            80..87 => self.pass_time(),
            87..90 => self.end_overdue().await?,
            90..95 => {
                note!(self.world.trace, "upkeep");
                self.subject.keep_up().await;
            }
            95..98 => {
                note!(self.world.trace, "janitor");
                self.subject.tidy();
            }
            _ => self.steer().await?,
        }
        // What it costs may show in a later life only.
        self.world.model.damage_counted |= self.subject.damage() > 0;
        if self.world.random.u8(..3) == 0 || self.flights.len() >= FLIGHTS_MAX {
            self.settle_down().await?;
        }
        Ok(())
    }

    /// Everything on its way arrives; then every answer is compared.
    pub(super) async fn settle_down(&mut self) -> Check {
        self.subject.quiesce().await;
        self.harvest().await?;
        let mut numbers: Vec<usize> = self.world.model.groups.iter().map(|g| g.number).collect();
        numbers.dedup();
        for number in numbers {
            self.compare(number, false).await?;
        }
        self.hear();
        // A queue that is being shut down does not wait for space: what it could not record is not known afterwards.
        let waits = !self.stopping || self.world.healthy;
        if waits
            && !self.subject.is_poisoned()
            && self.has_power()
            && let Some(group) = self.world.model.groups.first()
        {
            return Err(format!("nothing has failed and this is not recorded: {group:?}"));
        }
        Ok(())
    }

    async fn submit(&mut self) -> Check {
        let now = self.now();
        for _ in 0..[1, 1, 1, 2][self.world.random.usize(..4)] {
            let number = self.world.model.messages.len();
            let mut submission = workload::submission(number, now, self.world.random);
            let mut key = None;
            if self.world.random.u8(..4) == 0 {
                let (name, fingerprint) = workload::key(self.world.random);
                submission.envelope.client = "shop".into();
                submission.envelope.idempotency = Some(workload::idempotency(name, fingerprint));
                key = Some((name, fingerprint));
            }
            note!(self.world.trace, "submit {number}, key {key:?}");
            self.enter(&submission);
            let answer = self.subject.accept(submission);
            self.flights.push(Flight { number, key, answer });
        }
        Ok(())
    }

    /// Enters a submission into the model as it must come back.
    fn enter(&mut self, submission: &Submission) -> usize {
        let mut envelope = submission.envelope.clone();
        let from = envelope.send_at.unwrap_or(envelope.received_at).max(envelope.received_at);
        let expire = self.world.ground.options.retry[envelope.class.index()].expire;
        envelope.expires_at = envelope.expires_at.or(Some(from.plus(expire)));
        self.world.model.enter(envelope, submission.content.clone())
    }

    async fn lease(&mut self) -> Check {
        if self.leases.len() >= LEASES_MAX {
            return Ok(());
        }
        let Some(mut lease) = self.subject.pull(self.world.random) else { return Ok(()) };
        if self.subject.is_poisoned() || self.subject.is_held() {
            return Err("something was leased from a queue that is poisoned or held".to_owned());
        }
        let recipients = lease.recipients();
        let consignment = match self.subject.load(&mut lease).await {
            Some(Ok(consignment)) => consignment,
            Some(Err(LoadError::Damaged)) => {
                let Some(number) = self.subject.leased_id(&lease).map(number_of) else {
                    return Err("a lease stands for nothing".to_owned());
                };
                note!(self.world.trace, "{number} cannot be read");
                let outcomes = lease.unreadable(&LoadError::Damaged);
                self.world.model.damaged(number)?;
                self.subject.settle(lease, outcomes, Vec::new()).await;
                return Ok(());
            }
            Some(Err(LoadError::Unreadable(_))) | None if !self.world.healthy => return Ok(()),
            other => return Err(format!("a lease could not be loaded although nothing failed: {other:?}")),
        };
        let number = number_of(consignment.envelope.id);
        note!(self.world.trace, "leased {number} for {recipients:?}");
        let known = self.world.model.messages.get(number).map(|m| m.standing);
        if known == Some(Standing::Unsure) || self.world.model.is_busy(number) {
            // Its yes, or what it follows from, has just been recorded.
            self.settle_down().await?;
            if !self.has_power() {
                // And nobody can look whether it has.
                return Ok(());
            }
        }
        let now = self.now();
        let model = &mut *self.world.model;
        model.leased(number, &recipients, now)?;
        let message = &model.messages[number];
        let fate = &message.fates[recipients[0] as usize];
        // Whatever was damaged: bytes that were not written are never given out.
        if *consignment.envelope != message.envelope || consignment.content != message.content {
            return Err(format!("{number} is another message: {consignment:?}"));
        }
        let differs = if consignment.recipients != recipients {
            Some("its recipients are others".to_owned())
        } else if consignment.attempt != fate.known.made + 1 {
            Some(format!("its attempt is said to be number {}", consignment.attempt))
        } else {
            (consignment.progress != fate.known.progress).then(|| format!("its progress is {:?}", consignment.progress))
        };
        if let Some(what) = differs {
            model.differs(number, &what)?;
        }
        self.leases.push(Held { lease, number, consignment, begun: None });
        Ok(())
    }

    fn record(&mut self, group: Group) {
        if self.world.model.messages[group.number].standing != Standing::Spoilt && !group.to.is_empty() {
            self.world.model.groups.push(group);
        } else if let Some(follow_up) = group.follow_up {
            self.world.model.messages[follow_up].standing = Standing::Spoilt;
        }
    }

    fn bounce(&mut self, number: usize) -> (usize, Submission) {
        let class = self.world.model.messages[number].envelope.class;
        let bounce = workload::bounce(self.world.model.messages.len(), self.now(), class);
        (self.enter(&bounce), bounce)
    }

    pub(super) fn pass_time(&mut self) {
        let seconds = match self.world.random.u8(..8) {
            0 => self.world.random.u64(3_600..7_200),
            1..4 => self.world.random.u64(60..900),
            _ => self.world.random.u64(1..90),
        };
        note!(self.world.trace, "{seconds} s pass");
        self.world.ground.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) async fn end_overdue(&mut self) -> Check {
        // What is on its way decides who is still waited for.
        self.settle_down().await?;
        for overdue in self.subject.take_overdue(2).await {
            let (id, recipients, waited) = overdue_of(&overdue);
            let (number, now) = (number_of(id), self.now());
            note!(self.world.trace, "{number} is overdue for {recipients:?}");
            let message = &self.world.model.messages[number];
            let wrong = |r: &RecipientIndex| {
                let fate = &message.fates[*r as usize];
                let (stage, since) = if waited {
                    (Stage::Waiting, message.envelope.expires_at.unwrap_or_default())
                } else {
                    (Stage::Sent, fate.known.at.plus(RECEIPT_WAIT_MAX))
                };
                let may_arrive = waited && fate.known.progress.as_ref().is_some_and(TextProgress::may_arrive);
                fate.known.stage != stage || fate.out || since > now || may_arrive
            };
            let what = (message.standing != Standing::Taken || recipients.iter().any(wrong))
                .then_some("is said to be overdue");
            if let Some(what) = what {
                self.world.model.differs(number, what)?;
            }
            let word = if waited { "expired" } else { "sent" };
            let to = recipients.iter().map(|r| {
                let fate = &mut self.world.model.messages[number].fates[*r as usize];
                fate.out = true;
                (*r, State { stage: Stage::Ended(word), due: Due::Never, ..fate.known.clone() })
            });
            let to = to.collect();
            let is_mail = overdue.envelope.mail().is_some();
            let bounce = (is_mail && self.world.random.bool()).then(|| self.bounce(number));
            let (follow_up, then) = bounce.map_or((None, Vec::new()), |(n, bounce)| (Some(n), vec![bounce]));
            self.record(Group { number, to, follow_up });
            self.subject.end(overdue, then).await;
        }
        self.see_who_goes_on().await
    }

    async fn steer(&mut self) -> Check {
        match self.world.random.u8(..6) {
            0 => {
                let held = !self.subject.is_held() && self.world.random.bool();
                note!(self.world.trace, "hold: {held}");
                self.subject.hold(held);
            }
            1 => {
                // What is on its way must not be made due before the model knows of it.
                self.settle_down().await?;
                note!(self.world.trace, "flush");
                self.subject.flush().await;
                for fate in self.world.model.messages.iter_mut().flat_map(|m| &mut m.fates) {
                    fate.early |= fate.known.listed > 0;
                }
            }
            2 | 3 => {
                let (domain, site) = workload::located(self.world.random);
                note!(self.world.trace, "{domain} is at {site:?}");
                self.subject.learn_site(domain, site);
            }
            _ => {
                self.rerouted = !self.rerouted;
                note!(self.world.trace, "routes: {}", self.rerouted);
                self.subject.reconfigure(workload::routes(self.rerouted), self.world.ground.options.clone());
            }
        }
        Ok(())
    }

    pub(super) fn has_power(&self) -> bool {
        self.world.disk.has_power()
    }

    /// A process that can do no more is stopped, or the machine goes with it.
    pub(super) fn either(&mut self) -> Ending {
        self.world.model.counts.poisoned += u64::from(self.is_poisoned());
        if self.world.random.bool() { Ending::Kill } else { Ending::PowerCut }
    }

    /// There must be nothing left.
    pub(super) async fn end_with_nothing(self) -> Check {
        let found = self.subject.messages_at_start;
        if found > 0 && self.world.model.counts.spoilt == 0 && self.world.model.tolerance == 0 {
            return Err(format!("everything has ended and the start found {found} messages"));
        }
        self.end().await
    }

    /// True once the log takes no more.
    pub(super) fn is_poisoned(&self) -> bool {
        self.subject.is_poisoned()
    }

    /// After a poisoning nothing is answered yes and nothing leased.
    pub(super) async fn prod_the_dead(&mut self) -> Check {
        self.submit().await?;
        self.settle_down().await?;
        if self.subject.pull(self.world.random).is_some() {
            return Err("something was leased after a poisoning".to_owned());
        }
        Ok(())
    }

    /// Gives leases back, stops, and makes sure that nothing was left undone.
    pub(super) async fn end(mut self) -> Check {
        while !self.leases.is_empty() {
            self.give_back().await?;
        }
        if self.world.random.bool() {
            self.settle_down().await?;
        }
        self.stopping = true;
        if !self.subject.shutdown().await {
            return Err("the shutdown does not end".to_owned());
        }
        self.settle_down().await?;
        self.subject.tidy();
        Ok(())
    }

    /// Delivers everything that is left, to see that nothing was forgotten. Long enough for everything to run out of time:
    /// among a million seeds there is one whose next hop has never a good word.
    pub(super) async fn drain(&mut self) -> Check {
        self.subject.hold(false);
        while !self.leases.is_empty() {
            self.give_back().await?;
        }
        for round in 0..4_000 {
            self.settle_down().await?;
            if self.world.model.messages.iter().all(|m| m.standing != Standing::Taken || m.has_ended()) {
                return self.free_space().await;
            }
            let before = self.leases.len();
            self.lease().await?;
            while !self.leases.is_empty() {
                self.settle_one().await?;
            }
            if before == self.leases.len() && round % 8 == 7 {
                self.world.ground.clock.advance(Duration::from_secs(1_800));
                // What is on the shelf is taken off it for its end.
                self.subject.keep_up().await;
                self.end_overdue().await?;
            }
        }
        for number in 0..self.world.model.messages.len() {
            let message = &self.world.model.messages[number];
            if message.standing == Standing::Taken && !message.has_ended() {
                // Whose records are damaged ends unread.
                self.world.model.differs(number, "was never offered again")?;
            }
        }
        self.free_space().await
    }

    /// Nothing is left: neither may space be.
    async fn free_space(&mut self) -> Check {
        self.world.ground.clock.advance(KEY_AGE_MAX);
        for _ in 0..6 {
            self.subject.keep_up().await;
            self.subject.quiesce().await;
            self.subject.tidy();
            self.world.ground.clock.advance(Duration::from_secs(60));
        }
        Ok(())
    }
}
