//! Entries as their clients and operators see them.

use std::sync::Arc;

use super::Target;
use super::life::{Attempt, End, Entry, Life, PartReceipt, State};
use super::settle::shown;
use super::table::{Now, Table};
use super::view::{AttemptView, LaneView, MessageView, PartView, QueueView, RecipientView};
use crate::clock::Timestamp;
use crate::model::{Channel, MessageId, PartState, RecipientIndex, TextProgress};
use crate::schedule::LaneId;

/// Public states from the least advanced to the last; a message shows the first that any of its recipients is in.
const STATES: [&str; 11] = [
    "held",
    "scheduled",
    "queued",
    "delayed",
    "sent",
    "unknown",
    "bounced",
    "undelivered",
    "expired",
    "cancelled",
    "delivered",
];

impl Table {
    /// A message as it is seen, waiting or ended lately.
    pub(super) fn view(&self, id: MessageId, now: Now) -> Option<MessageView> {
        let entry = self.entries.get(&id).or_else(|| self.history.find(id).map(|e| &**e))?;
        Some(self.view_of(entry, now))
    }

    /// Messages to an address, newest first. Looks at every entry: for people, not for programs.
    pub(super) fn views_to(&self, address: &str, most: usize, now: Now) -> Vec<MessageView> {
        let matches = |e: &&Entry| e.envelope.recipients.iter().any(|r| same_address(&r.address.to_string(), address));
        let mut found: Vec<&Entry> = self.entries.values().filter(matches).collect();
        found.extend(self.history.iter().map(|e| &**e).filter(matches).take(most));
        found.sort_by_key(|e| std::cmp::Reverse(e.envelope.id));
        found.into_iter().take(most).map(|e| self.view_of(e, now)).collect()
    }

    /// The lanes and what waits in them.
    pub(super) fn overview(&self, lanes_max: usize, now: Now) -> QueueView {
        let (counts, lanes_total) = self.schedule.counts(lanes_max);
        let total = self.total();
        let lanes = counts
            .into_iter()
            .map(|c| LaneView {
                channel: self.channel_of(c.site).to_string(),
                lane: c.key.name(),
                ready: c.ready as u64,
                waiting: c.waiting as u64,
                leased: c.leased as u64,
                next_due: c.next_due.map(|due| now.wall_at(due).rfc3339()),
            })
            .collect();
        QueueView {
            held: self.schedule.is_held(),
            messages: total.messages,
            bytes: total.bytes,
            lanes,
            lanes_total: lanes_total as u64,
        }
    }

    fn view_of(&self, entry: &Entry, now: Now) -> MessageView {
        let envelope = &entry.envelope;
        let all = (0..).zip(&entry.lives);
        let recipients: Vec<RecipientView> = all.map(|(r, life)| self.recipient_view(entry, r, life, now)).collect();
        let rank = |status: &str| STATES.iter().position(|s| *s == status).unwrap_or(STATES.len());
        let status = recipients.iter().map(|r| r.status.as_str()).min_by_key(|s| rank(s)).unwrap_or("queued");
        MessageView {
            id: envelope.id.to_string(),
            status: status.to_owned(),
            channel: envelope.channel().to_string(),
            client: envelope.client.clone(),
            class: envelope.class.to_string(),
            campaign: envelope.campaign.clone(),
            client_ref: envelope.client_ref.clone(),
            received_at: envelope.received_at.rfc3339(),
            expires_at: envelope.expires_at.map(Timestamp::rfc3339),
            size: entry.size,
            recipients,
        }
    }

    fn recipient_view(&self, entry: &Entry, recipient: RecipientIndex, life: &Life, now: Now) -> RecipientView {
        let is_text = entry.envelope.text().is_some();
        let due = match life.state {
            State::Queued { due } => Some(due),
            _ => None,
        };
        RecipientView {
            address: shown(&entry.envelope, recipient),
            status: self.status(life, entry, is_text, now).to_owned(),
            lane: Self::lane_name(entry, recipient),
            next_attempt: due.map(|due| due.max(now.wall).rfc3339()),
            waiting_for: due.map(|due| self.waiting_for(entry, recipient, due, now)),
            attempts: life.attempts.iter().map(attempt_view).collect(),
            attempts_made: life.attempts_made,
            parts: life.progress.as_deref().map(|p| part_views(p, &life.receipts)).unwrap_or_default(),
        }
    }

    fn status(&self, life: &Life, entry: &Entry, is_text: bool, now: Now) -> &'static str {
        match life.state {
            State::Queued { .. } if self.schedule.is_held() => "held",
            State::Queued { .. } if !life.attempts.is_empty() => "delayed",
            State::Queued { .. } if entry.envelope.send_at.is_some_and(|at| at > now.wall) => "scheduled",
            State::Queued { .. } | State::Begun { .. } => "queued",
            State::Sent { .. } => "sent",
            State::Ended { end, .. } => match end {
                End::SentWithoutReceipt => "sent",
                end => end.kind(is_text).as_str(),
            },
        }
    }

    fn carriers_of(&self, lane: LaneId) -> String {
        match self.schedule.site_of(lane).and_then(|site| self.target(site)) {
            Some(Target::Text(carriers)) if !carriers.is_empty() => {
                format!("a carrier that is up and has room: {}", carriers.join(" or "))
            }
            _ => "a route: no carrier serves this number any more".to_owned(),
        }
    }

    /// Why it has not gone, in a sentence.
    fn waiting_for(&self, entry: &Entry, recipient: RecipientIndex, due: Timestamp, now: Now) -> String {
        let consigned = entry
            .tickets
            .iter()
            .filter_map(|&t| self.tickets.get(&t).map(|c| (t, c)))
            .find(|(_, c)| c.recipients.contains(&recipient));
        if self.schedule.is_held() {
            return "sending is held".to_owned();
        }
        match consigned {
            Some((ticket, _)) if self.schedule.is_leased(ticket) => "being delivered now".to_owned(),
            Some((_, consigned)) if due <= now.wall => match self.schedule.suspended_until(consigned.lane, now.mono) {
                Some(until) => {
                    format!("the destination failed and is left alone until {}", now.wall_at(until).rfc3339())
                }
                None => match entry.envelope.channel() {
                    Channel::Email => "a free connection".to_owned(),
                    Channel::Sms => self.carriers_of(consigned.lane),
                },
            },
            Some(_) if entry.lives[recipient as usize].attempts.is_empty() => "its time to be sent".to_owned(),
            Some(_) => "its next attempt".to_owned(),
            None => "its end to be recorded".to_owned(),
        }
    }
}

fn attempt_view(attempt: &Attempt) -> AttemptView {
    AttemptView {
        time: attempt.time.rfc3339(),
        outcome: attempt.outcome.as_str().to_owned(),
        stage: attempt.stage.map(|s| s.as_str().to_owned()),
        reply: attempt.reply.as_ref().map(ToString::to_string),
        reason: attempt.cause.clone(),
        host: attempt.peer.as_ref().map(|p| p.host.clone()),
        address: attempt.peer.as_ref().and_then(|p| p.address).map(|a| a.to_string()),
        tls: attempt.peer.as_ref().and_then(|p| p.tls.clone()),
        duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

fn part_views(progress: &TextProgress, receipts: &[PartReceipt]) -> Vec<PartView> {
    (1..)
        .zip(&progress.parts)
        .map(|(part, state)| {
            let (word, id): (&str, Option<&Arc<str>>) = match state {
                PartState::Waiting => ("waiting", None),
                PartState::Unanswered => ("unknown", None),
                PartState::Sent(id) => ("sent", Some(id)),
                PartState::Refused => ("refused", None),
                PartState::Received(id, receipt) => (receipt.as_str(), Some(id)),
            };
            let receipt = receipts.iter().find(|r| r.part + 1 == part);
            PartView {
                receipt_at: receipt.map(|r| r.at.rfc3339()),
                receipt: receipt.map(|r| r.text.clone()),
                part,
                state: word.to_owned(),
                carrier: progress.carrier.clone(),
                carrier_message_id: id.map(ToString::to_string),
            }
        })
        .collect()
}

/// Domains are compared without regard to case; so are local parts here, since people type them.
fn same_address(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other.trim())
}
