//! Start, the second half: the messages of the sidecars and of the log's younger end are taken in while the relay serves.
//!
//! **Promises.** Between two holds of the table's lock others get on. Until all are in, nothing is moved and no sidecar
//! written; who asks for a message that is not there waits ([`Queue::loaded`]), a receipt that matches nothing is answered
//! "later". A text whose attempt had begun and whose outcome is not recorded may have left: it ends as `unknown`, unless its class
//! is sent once more or an earlier carrier may still bring it.
//!
//! **Fails how.** A sidecar that could be read a moment ago and now cannot is tried again until it can: no message is given
//! up for a disk that does not answer.

use std::time::Duration;

use super::carry::About;
use super::detail::Trail;
use super::entry::CampaignPrint;
use super::history::Ended;
use super::life::{Attempt, Change, End, State};
use super::record::summary::{Standing, Summary, SummaryReader};
use super::recover::Gathered;
use super::settle::no_attempt;
use super::shelved::{Doubtful, is_shelved};
use super::{LoadError, Progress, Queue, pause};
use crate::event::Kind;
use crate::model::{Channel, MessageId, PartState, RecipientIndex, Stage};
use crate::storage::shelf::Place;
use crate::storage::{AppendError, Position};

/// Messages taken in at one hold of the table's lock.
const STRIDE: usize = 128;
/// How long a disk that does not answer is left alone.
const DISK_PAUSE: Duration = Duration::from_secs(5);
/// Messages that had ended before the start and are remembered: the youngest. Each is read back from disk.
const REMEMBERED_MAX: usize = 10_000;

/// Messages being taken in.
pub(super) struct Load {
    queue: Queue,
    gathered: Gathered,
    /// Ended: to be remembered, then released.
    ended: Vec<(Trail, u32, Position)>,
    begun: Vec<MessageId>,
    /// What may lie on the shelf although it is here.
    doubtful: Doubtful,
    /// Of that, what does.
    doubled: Vec<Place>,
    /// Messages whose records have moved of late: some may have come from the shelf.
    woken: Vec<MessageId>,
    /// The shelf could be read.
    is_certain: bool,
    progress: Progress,
}

impl Load {
    pub(super) fn new(queue: Queue, gathered: Gathered) -> Self {
        let progress = Progress { segments: gathered.sidecars.len() as u64, ..Progress::default() };
        let (ended, begun, doubled, woken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { queue, gathered, ended, begun, doubtful: Doubtful::new(), doubled, woken, is_certain: false, progress }
    }

    /// Takes everything in. Stops early only if the queue does.
    pub(super) async fn run(mut self) {
        let doubtful = self.queue.doubtful_on_shelf().await;
        self.is_certain = doubtful.is_some();
        self.doubtful = doubtful.unwrap_or_default();
        for segment in std::mem::take(&mut self.gathered.sidecars) {
            let Some(state) = self.state_of(segment).await else { return };
            let mut summaries = match SummaryReader::new(segment, &state) {
                Ok(summaries) => summaries,
                Err(e) => {
                    self.strange(segment, &e);
                    continue;
                }
            };
            loop {
                let stride: Vec<_> = summaries.by_ref().take(STRIDE).collect();
                if stride.is_empty() {
                    break;
                }
                let mut sound = Vec::with_capacity(stride.len());
                for summary in stride {
                    match summary {
                        Ok(summary) => sound.extend(self.caught_up(summary)),
                        Err(e) => self.strange(segment, &e),
                    }
                }
                self.admit(sound).await;
                if self.is_stopping() {
                    return;
                }
            }
            self.progress.segments_done += 1;
            self.queue.shared.progress.send_replace(self.progress);
        }
        let mut younger: Vec<Summary> = std::mem::take(&mut self.gathered.messages).into_values().collect();
        younger.sort_unstable_by_key(|m| Position::from(m.of.spot));
        let mut younger = younger.into_iter();
        loop {
            let stride: Vec<Summary> = younger.by_ref().take(STRIDE).collect();
            if stride.is_empty() {
                break;
            }
            self.admit(stride).await;
            if self.is_stopping() {
                return;
            }
        }
        self.finish().await;
    }

    fn is_stopping(&self) -> bool {
        *self.queue.shared.stopping.borrow()
    }

    fn strange(&mut self, segment: u64, e: &super::record::RecordError) {
        self.progress.strange += 1;
        tracing::error!(segment, error = %e, "a sidecar is intact and cannot be understood");
    }

    async fn state_of(&self, segment: u64) -> Option<bytes::Bytes> {
        loop {
            match self.queue.shared.log.on_disk(move |log| log.sidecar_state(segment)).await {
                Ok(Ok(state)) => return Some(state),
                Ok(Err(e)) => tracing::error!(segment, error = %e, "a sidecar cannot be read; its messages wait"),
                Err(e) => tracing::error!(segment, error = %e, "a sidecar cannot be read; its messages wait"),
            }
            let mut stopping = self.queue.shared.stopping.subscribe();
            tokio::select! {
                () = pause(DISK_PAUSE) => {}
                _ = stopping.wait_for(|&stop| stop) => return None,
            }
        }
    }

    /// A message from a sidecar with what has happened since; `None` if it lies elsewhere by now.
    fn caught_up(&mut self, mut summary: Summary) -> Option<Summary> {
        let (id, position) = (summary.of.id, Position::from(summary.of.spot));
        let elsewhere = self.gathered.moved.get(&id).is_some_and(|to| *to != position);
        if elsewhere || self.gathered.messages.contains_key(&id) {
            self.queue.shared.table.lock().changed(position.segment);
            self.queue.shared.log.release(position);
            return None;
        }
        let mut changed = false;
        for (recipient, standing) in (0..).zip(&mut summary.recipients) {
            if let Some(later) = self.gathered.later.remove(&(id, recipient)) {
                if let Some(progress) = later.progress.filter(|_| later.track.sequence > standing.track.sequence) {
                    let mut progress = progress;
                    if let Some(known) = &standing.progress {
                        super::life::keep_receipts(known, &mut progress);
                    }
                    standing.progress = Some(progress);
                }
                changed |= later.track.sequence > standing.track.sequence;
                standing.track.catch_up(&later.track);
            }
        }
        if changed {
            // What the sidecar says is not the truth any more: it must not be confirmed.
            self.queue.shared.table.lock().changed(position.segment);
        }
        Some(summary)
    }

    async fn admit(&mut self, summaries: Vec<Summary>) {
        let mut ready = Vec::with_capacity(summaries.len());
        for summary in summaries {
            ready.extend(self.completed(summary).await);
        }
        {
            let (routes, options) = (self.queue.shared.routes.load(), self.queue.shared.options.load());
            let now = self.queue.now();
            let mut table = self.queue.shared.table.lock();
            for summary in ready {
                let (id, position, size) = (summary.of.id, Position::from(summary.of.spot), summary.of.size);
                let states = || summary.recipients.iter().map(|r| r.track.state());
                if is_shelved(states()) {
                    self.queue.shared.log.release(position);
                    table.changed(position.segment);
                    continue;
                }
                self.doubled.extend(self.doubtful.remove(&id));
                if summary.of.channel == Channel::Sms && self.gathered.moved.contains_key(&id) {
                    self.woken.push(id);
                }
                if states().all(|s| matches!(s, State::Ended { .. })) {
                    self.ended.push((Trail::of_summary(&summary), size, position));
                    table.changed(position.segment);
                    continue;
                }
                let queued = states().any(|s| matches!(s, State::Queued { .. } | State::Begun { .. }));
                if states().any(|s| matches!(s, State::Begun { .. })) {
                    self.begun.push(id);
                }
                if queued {
                    let client = table.clients.number(&summary.client);
                    table.clients.reserve_owed(client, u64::from(size));
                }
                if table.admit(summary, None, &routes, &options, now).is_some() {
                    self.progress.messages += 1;
                }
            }
        }
        self.queue.shared.work.notify_one();
        self.queue.shared.progress.send_replace(self.progress);
        tokio::task::yield_now().await;
    }

    /// Lanes want domains, and rules campaigns. A message that was in no lane when it was written down, because its time had
    /// run out, has no domain there; an older sidecar knows no campaigns.
    async fn completed(&self, mut summary: Summary) -> Option<Summary> {
        let is_queued = |r: &&Standing| matches!(r.track.state(), State::Queued { .. });
        let mut queued = summary.recipients.iter().filter(is_queued).peekable();
        let lacks_campaign = !summary.knows_campaign && queued.peek().is_some();
        let lacks_domain = summary.of.channel == Channel::Email && queued.any(|r| r.destination.is_empty());
        if !lacks_campaign && !lacks_domain {
            return Some(summary);
        }
        let trail = Trail::of_summary(&summary);
        loop {
            let trail = trail.clone();
            match self.queue.shared.log.look(move |log| trail.detail(log)).await {
                Ok(detail) => {
                    summary.of.campaign = CampaignPrint::of(detail.envelope.campaign.as_deref());
                    // Its sidecar is written anew, or every start would read all of these.
                    self.queue.shared.table.lock().changed(Position::from(summary.of.spot).segment);
                    for (standing, recipient) in summary.recipients.iter_mut().zip(&detail.envelope.recipients) {
                        if let crate::model::Address::Mailbox(mailbox) = &recipient.address {
                            standing.destination = mailbox.domain().as_str().into();
                        }
                    }
                    return Some(summary);
                }
                // It can go nowhere; it ends, unread, when its time has run out.
                Err(LoadError::Damaged | LoadError::Gone) => return Some(summary),
                Err(e) => tracing::error!(id = %summary.of.id, error = %e, "a message cannot be read; it waits"),
            }
            pause(DISK_PAUSE).await;
        }
    }

    async fn finish(mut self) {
        self.progress.unknown = self.begun.len() as u64;
        let (queue, mut progress) = (self.queue.clone(), self.progress);
        if self.is_certain {
            queue.clear_doubtful(std::mem::take(&mut self.doubled), std::mem::take(&mut self.woken)).await;
        }
        self.remember_ended().await;
        progress.finished = true;
        queue.shared.progress.send_replace(progress);
        queue.end_unknown(self.begun).await;
    }

    /// Remembers what had ended, the youngest, and lets their records go.
    async fn remember_ended(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        let forgotten = ended.len().saturating_sub(REMEMBERED_MAX);
        for (n, (trail, size, position)) in ended.into_iter().enumerate() {
            if n >= forgotten
                && let Ok(detail) = self.queue.shared.log.look(move |log| trail.detail(log)).await
            {
                let at = detail.lives.iter().filter_map(|l| match l.state {
                    State::Ended { at, .. } => Some(at),
                    _ => None,
                });
                let at = at.max().unwrap_or_default();
                self.queue.shared.table.lock().history.remember(Ended::new(&detail, size), at);
            }
            self.queue.shared.log.release(position);
        }
    }
}

impl Queue {
    /// True once every message that was on disk is in its lanes.
    pub fn is_loaded(&self) -> bool {
        self.shared.progress.borrow().finished
    }

    /// Waits until every message that was on disk is in its lanes; returns what there was.
    pub async fn loaded(&self) -> Progress {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives as long as the queue.
        progress.wait_for(|p| p.finished).await.map(|p| *p).unwrap_or_default()
    }

    /// How far the taking in of messages from disk has come.
    pub fn progress(&self) -> tokio::sync::watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Ends the texts whose answer a crash swallowed. Each is counted: it is a possible loss, and a possible duplicate if
    /// its client sends it again.
    async fn end_unknown(self, begun: Vec<MessageId>) {
        for id in begun {
            while let Some((about, changes)) = self.unknown_changes(id) {
                let texts = changes.len() as u64;
                match self.record_changes(about, changes).await {
                    Ok(()) => {
                        self.shared.metrics.answers_lost.with_label_values(&["sms"]).inc_by(texts);
                        break;
                    }
                    // Its records could not be read just now.
                    Err(AppendError::Busy) if !*self.shared.stopping.borrow() => pause(DISK_PAUSE).await,
                    Err(e) => {
                        tracing::error!(%id, error = %e, "an end could not be recorded");
                        break;
                    }
                }
            }
        }
    }

    fn unknown_changes(&self, id: MessageId) -> Option<(About, Vec<Change>)> {
        let now = self.shared.clock.now();
        let options = self.shared.options.load();
        let mut table = self.shared.table.lock();
        let (number, entry) = table.find(id)?;
        let begun = entry.numbered().filter(|(_, t)| matches!(t.state(), State::Begun { .. }));
        let changes: Vec<Change> = begun
            .map(|(recipient, track): (RecipientIndex, _)| {
                let progress = table.parts.progress(number, recipient);
                let parts = progress.map_or(0, |p| p.parts.iter().filter(|p| **p == PartState::Unanswered).count());
                let cause =
                    format!("the relay stopped while {parts} part(s) were on their way; their answers were not seen");
                let mut progress = progress.cloned();
                let prospects = options.prospects(entry.class, &|_| false);
                let goes_on = progress.as_mut().and_then(|progress| prospects.unanswered(progress, now, now));
                let (state, again) = goes_on.unwrap_or((State::Ended { end: End::Unknown, at: now }, None));
                self.count_again(again);
                let outcome = if goes_on.is_some() { Kind::Delayed } else { Kind::Unknown };
                let attempt = Attempt { stage: Some(Stage::Submit), ..no_attempt(outcome, &cause, now) };
                let (sequence, previous) = track.next_change();
                Change {
                    recipient,
                    sequence,
                    previous,
                    state,
                    attempt: Some(attempt),
                    counts: true,
                    tally: Some(track.tally().after(true, false)),
                    progress: progress.filter(|_| goes_on.is_some()).map(Box::new),
                    receipt: None,
                }
            })
            .collect();
        if changes.is_empty() {
            return None;
        }
        let about = About { id, number, position: entry.position(), envelope: None, known: None };
        table.entry_mut(number)?.moving = true;
        Some((about, changes))
    }
}

impl Trail {
    fn of_summary(summary: &Summary) -> Self {
        let newest = summary.recipients.iter().map(|r| r.track.newest()).collect();
        Self::new(summary.of.id, summary.of.channel, summary.of.spot.into(), newest)
    }
}
