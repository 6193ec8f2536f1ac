//! Messages as their clients and operators see them: what the table knows of where they are and what they wait for, joined
//! with what their records hold.

use std::sync::Arc;

use super::entry::{Entry, Particulars, Track, fingerprint_of_text};
use super::hot::Detail;
use super::life::{Attempt, End, Life, PartReceipt, State};
use super::settle::{Subject, lane_of, shown};
use super::steering::Rule;
use super::table::{Now, Table};
use super::view::{AttemptView, LaneView, MessageView, PartView, QueueView, RecipientView};
use super::{LoadError, Options, Queue, Target};
use crate::clock::Timestamp;
use crate::model::{Channel, ClientName, MessageId, PartState, RecipientIndex, TextProgress};
use crate::route::Routes;
use crate::schedule::{LaneId, Standing, Ticket};

/// Public states from the least advanced to the last; a message shows the first that any of its recipients is in.
const STATES: [&str; 12] = [
    "held",
    "scheduled",
    "queued",
    "delayed",
    "sent",
    "unknown",
    "bounced",
    "undelivered",
    "rejected",
    "expired",
    "cancelled",
    "delivered",
];

/// Entries looked at between two holds of the table's lock when a message is looked for by its recipient.
const STRIDE: u32 = 16_384;

/// A message as the table knows it.
struct Seen {
    of: Particulars,
    client: ClientName,
    recipients: Vec<SeenRecipient>,
}

struct SeenRecipient {
    track: Track,
    lane: Option<Arc<str>>,
    site: Option<Arc<str>>,
    limit: Option<String>,
    waiting_for: Option<String>,
    held: bool,
}

impl Queue {
    /// What is known of a message, waiting or ended lately; `client` restricts the answer to that client's own. While a start
    /// still takes messages in, one that is not found is waited for.
    pub async fn message(&self, id: MessageId, client: Option<&ClientName>) -> Option<MessageView> {
        let mut view = self.look(id).await;
        if view.is_none() && !self.is_loaded() {
            self.loaded().await;
            view = self.look(id).await;
        }
        view.filter(|view| client.is_none_or(|c| *c == view.client))
    }

    async fn look(&self, id: MessageId) -> Option<MessageView> {
        // A message may end between the look at the table and the look at its records: then the history knows it.
        for _ in 0..2 {
            let now = self.now();
            let (seen, ended) = {
                let table = self.shared.table.lock();
                let settings = (&**self.shared.routes.load(), &**self.shared.options.load());
                (table.seen(id, settings, now), table.history.find(id).cloned())
            };
            match (seen, ended) {
                (Some(seen), _) => match self.detail(id).await {
                    Ok(Some(detail)) => return Some(view_of(&detail, Some(&seen), u64::from(seen.of.size), now)),
                    Ok(None) => {}
                    Err(e) => return Some(unread(&seen, &e, now)),
                },
                (None, Some(ended)) => {
                    let detail = ended.detail()?;
                    return Some(view_of(&detail, None, u64::from(ended.size), now));
                }
                (None, None) => {
                    let text = self.on_shelf(id).await.ok().flatten();
                    // It may have been on its way from there into the table.
                    if text.is_some() || self.shared.table.lock().find(id).is_none() {
                        return text.map(|text| view_of(&text.detail, None, u64::from(text.size), now));
                    }
                }
            }
        }
        None
    }

    /// Messages that match an id or an address, waiting or ended lately, newest first, at most `most`.
    pub async fn explain(&self, id_or_address: &str, most: usize) -> Vec<MessageView> {
        let asked = id_or_address.trim();
        if let Ok(id) = asked.parse() {
            return self.message(id, None).await.into_iter().collect();
        }
        let mut views = Vec::new();
        for id in self.ids_to(fingerprint_of_text(asked), most).await {
            let view = self.message(id, None).await;
            views.extend(view.filter(|v| v.recipients.iter().any(|r| r.is_to(asked) || v.class == "otp")));
        }
        views
    }

    /// Messages that may be to an address, newest first. Looks at every entry: for people, not for programs.
    pub(super) async fn ids_to(&self, fingerprint: u64, most: usize) -> Vec<MessageId> {
        let mut found = self.shared.table.lock().history.to(fingerprint, most);
        let newest = |found: &mut Vec<MessageId>| {
            found.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
            found.dedup();
            found.truncate(most);
        };
        self.walk(STRIDE, |table, stride| {
            let entries = stride.filter_map(|n| table.entry(n));
            found.extend(entries.filter(|e| e.tracks().any(|t| t.address == fingerprint)).map(|e| e.id));
            newest(&mut found);
        })
        .await;
        found
    }
}

impl Table {
    /// The lanes and what waits in them.
    pub(super) fn overview(&self, lanes_max: usize, now: Now) -> QueueView {
        let (counts, lanes_total) = self.schedule.counts(lanes_max);
        let total = self.clients.total();
        let lanes = counts
            .into_iter()
            .map(|c| LaneView {
                channel: self.channel_of(c.site).to_string(),
                lane: c.key.name(),
                site: self.schedule.site_name(c.site).cloned().unwrap_or_else(|| "".into()),
                limit: self.limit(c.site, now),
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

    fn seen(&self, id: MessageId, (routes, options): (&Routes, &Options), now: Now) -> Option<Seen> {
        let (_, entry) = self.find(id)?;
        let held = self.schedule.is_held();
        let recipients = entry.tracks().map(|track| {
            let lane = track.ticket.and_then(|t| self.schedule.lane_of(t));
            let is_leased = track.ticket.is_some_and(|t| self.schedule.is_leased(t));
            let site = lane.and_then(|lane| self.schedule.site_of(lane));
            SeenRecipient {
                track: *track,
                lane: lane.and_then(|lane| self.schedule.lane_name(lane)).cloned(),
                site: site.and_then(|site| self.schedule.site_name(site)).cloned(),
                limit: site.and_then(|site| self.limit(site, now)),
                waiting_for: self.waiting_for(entry, track, (routes, options), now),
                held: held || lane.is_some_and(|lane| self.schedule.is_lane_held(lane) && !is_leased),
            }
        });
        Some(Seen {
            of: entry.particulars(),
            client: self.clients.name(entry.client),
            recipients: recipients.collect(),
        })
    }

    fn carriers_of(&self, lane: LaneId) -> String {
        match self.schedule.site_of(lane).and_then(|site| self.target(site)) {
            Some(Target::Text(course)) if !course.carriers.is_empty() => {
                format!("a carrier that is up and has room: {}", course.carriers.join(" or "))
            }
            _ => "a route: no carrier serves this number any more".to_owned(),
        }
    }

    /// Why it has not gone, in a sentence.
    fn waiting_for(
        &self,
        entry: &Entry,
        track: &Track,
        (routes, options): (&Routes, &Options),
        now: Now,
    ) -> Option<String> {
        let due = match track.state() {
            State::Queued { due } => due,
            State::Sent { at } => return self.awaits_receipt(entry, track, at, (routes, options), now),
            State::Begun { .. } | State::Ended { .. } => return None,
        };
        if self.schedule.is_held() {
            return Some("sending is held".to_owned());
        }
        let lane = track.ticket.and_then(|t| self.schedule.lane_of(t));
        let paused = lane.and_then(|lane| self.pause_of(lane)).map(Rule::sentence);
        // What is under way is finished, whatever is held since.
        if paused.is_some() && !track.ticket.is_some_and(|t| self.schedule.is_leased(t)) {
            return paused;
        }
        let rerouted = lane.and_then(|lane| self.reroute_of(lane, routes, now)).map(Rule::sentence);
        let standing = |ticket: Ticket| Some((self.schedule.standing(ticket)?, self.schedule.lane_of(ticket)?));
        let why = match track.ticket.and_then(standing) {
            Some((Standing::Leased, _)) => "being delivered now".to_owned(),
            Some((_, lane)) if due <= now.wall && self.schedule.lane_rests(lane, now.mono).is_some() => {
                let rests = self.schedule.lane_rests(lane, now.mono);
                let shown = rests.map(|(until, why)| format!("{}: {why}", now.wall_at(until).rfc3339()));
                format!("the end of its lane's pause at {}", shown.unwrap_or_default())
            }
            Some((_, lane)) if due <= now.wall => match self.schedule.suspended_until(lane, now.mono) {
                Some(until) => {
                    let by_pacer = self.schedule.site_of(lane).and_then(|site| self.suspended_by(site, now));
                    let until = now.wall_at(until).rfc3339();
                    by_pacer.unwrap_or_else(|| format!("the destination failed and is left alone until {until}"))
                }
                None => match entry.channel {
                    Channel::Email => "a free connection".to_owned(),
                    Channel::Sms => self.carriers_of(lane),
                },
            },
            Some(_) if track.sequence == 0 => "its time to be sent".to_owned(),
            Some(_) => "its next attempt".to_owned(),
            None => "its end to be recorded".to_owned(),
        };
        Some(match rerouted {
            Some(rerouted) => format!("{why}; {rerouted}"),
            None => why,
        })
    }

    /// Until when a text waits for its receipt, and what comes then.
    fn awaits_receipt(
        &self,
        entry: &Entry,
        track: &Track,
        at: Timestamp,
        settings: (&Routes, &Options),
        now: Now,
    ) -> Option<String> {
        let (number, _) = self.find(entry.id)?;
        let (recipient, _) = entry.numbered().find(|(_, of_entry)| *of_entry == track)?;
        let until = self.awaits_until(number, recipient, at, settings, now.wall);
        let is_end = until == at.plus(settings.1.receipt_wait_max);
        let until = until.rfc3339();
        Some(if is_end {
            format!("its receipt, until {until}")
        } else {
            format!("its receipt; without one it goes to another carrier at {until}")
        })
    }

    /// The rule that holds a lane.
    fn pause_of(&self, lane: LaneId) -> Option<&Rule> {
        let target = self.target(self.schedule.site_of(lane)?)?;
        self.rules.pause(self.schedule.key(lane)?, target)
    }

    /// The rule that sends a lane's mail elsewhere.
    fn reroute_of(&self, lane: LaneId, routes: &Routes, now: Now) -> Option<&Rule> {
        let key = self.schedule.key(lane).filter(|_| !self.rules.list().is_empty())?;
        Some(self.rules.reroute(key, &self.natural_target(key, routes, now.mono)?)?.0)
    }
}

/// A message, from what its records hold and, unless it has ended, what the table knows.
fn view_of(detail: &Detail, seen: Option<&Seen>, size: u64, now: Now) -> MessageView {
    let envelope = &detail.envelope;
    let subject = Subject::of(envelope, size);
    let recipients = (0..).zip(&detail.lives).map(|(recipient, life): (RecipientIndex, &Life)| {
        let seen = seen.and_then(|s| s.recipients.get(recipient as usize));
        // The table is younger than what was read.
        let state = seen.map_or(life.state, |s| s.track.state());
        let scheduled = envelope.send_at.is_some_and(|at| at > now.wall);
        RecipientView {
            address: shown(envelope, recipient),
            status: status(state, seen.is_some_and(|s| s.held), life.sequence > 0, scheduled, envelope.channel())
                .to_owned(),
            lane: seen
                .and_then(|s| s.lane.clone())
                .unwrap_or_else(|| lane_of(&subject, recipient, life.progress.as_deref())),
            site: seen.and_then(|s| s.site.clone()),
            limit: seen.and_then(|s| s.limit.clone()),
            next_attempt: due_of(state).map(|due| due.max(now.wall).rfc3339()),
            waiting_for: seen.and_then(|s| s.waiting_for.clone()),
            attempts: life.attempts.iter().map(attempt_view).collect(),
            attempts_made: life.attempts_made,
            parts: life.progress.as_deref().map(|p| part_views(p, &life.receipts)).unwrap_or_default(),
        }
    });
    let recipients: Vec<RecipientView> = recipients.collect();
    MessageView {
        id: envelope.id.to_string(),
        status: least_advanced(&recipients),
        channel: envelope.channel().to_string(),
        client: envelope.client.clone(),
        class: envelope.class.to_string(),
        campaign: envelope.campaign.clone(),
        client_ref: envelope.client_ref.clone(),
        received_at: envelope.received_at.rfc3339(),
        expires_at: envelope.expires_at.map(Timestamp::rfc3339),
        size,
        recipients,
    }
}

/// A message whose records cannot be read: what the table knows, and why there is no more.
fn unread(seen: &Seen, why: &LoadError, now: Now) -> MessageView {
    let Seen { of, client, recipients } = seen;
    let recipients = recipients.iter().map(|r| RecipientView {
        address: format!("({why})"),
        status: status(r.track.state(), r.held, r.track.sequence > 0, false, of.channel).to_owned(),
        lane: r.lane.clone().unwrap_or_else(|| "".into()),
        site: r.site.clone(),
        limit: r.limit.clone(),
        next_attempt: due_of(r.track.state()).map(|due| due.max(now.wall).rfc3339()),
        waiting_for: r.waiting_for.clone(),
        attempts: Vec::new(),
        attempts_made: u32::from(r.track.tally().attempts_made),
        parts: Vec::new(),
    });
    let recipients: Vec<RecipientView> = recipients.collect();
    MessageView {
        id: of.id.to_string(),
        status: least_advanced(&recipients),
        channel: of.channel.to_string(),
        client: client.clone(),
        class: of.class.to_string(),
        campaign: None,
        client_ref: None,
        received_at: String::new(),
        expires_at: Some(of.expires_at.rfc3339()),
        size: u64::from(of.size),
        recipients,
    }
}

fn least_advanced(recipients: &[RecipientView]) -> String {
    let rank = |status: &str| STATES.iter().position(|s| *s == status).unwrap_or(STATES.len());
    recipients.iter().map(|r| r.status.as_str()).min_by_key(|s| rank(s)).unwrap_or("queued").to_owned()
}

fn due_of(state: State) -> Option<Timestamp> {
    match state {
        State::Queued { due } => Some(due),
        _ => None,
    }
}

fn status(state: State, held: bool, attempted: bool, scheduled: bool, channel: Channel) -> &'static str {
    match state {
        State::Queued { .. } if held => "held",
        State::Queued { .. } if attempted => "delayed",
        State::Queued { .. } if scheduled => "scheduled",
        State::Queued { .. } | State::Begun { .. } => "queued",
        State::Sent { .. } => "sent",
        State::Ended { end: End::SentWithoutReceipt | End::Shelved, .. } => "sent",
        State::Ended { end, .. } => end.kind(channel == Channel::Sms).as_str(),
    }
}

pub(super) fn attempt_view(attempt: &Attempt) -> AttemptView {
    AttemptView {
        time: attempt.time.rfc3339(),
        outcome: attempt.outcome.as_str().to_owned(),
        stage: attempt.stage.map(|s| s.as_str().to_owned()),
        reply: attempt.reply.as_ref().map(ToString::to_string),
        rule: attempt.rule.as_ref().map(ToString::to_string),
        reason: attempt.cause.clone(),
        host: attempt.peer.as_ref().map(|p| p.host.clone()),
        address: attempt.peer.as_ref().and_then(|p| p.address).map(|a| a.to_string()),
        tls: attempt.peer.as_ref().and_then(|p| p.tls.clone()),
        source: attempt.peer.as_ref().and_then(|p| p.source.as_deref()).map(str::to_owned),
        tls_policy: attempt.peer.as_ref().and_then(|p| p.tls_policy.clone()),
        duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The parts of a text at each carrier that it has gone to, the latest first.
pub(super) fn part_views(progress: &TextProgress, receipts: &[PartReceipt]) -> Vec<PartView> {
    progress.chain().flat_map(|at| parts_at(at, receipts)).collect()
}

fn parts_at(progress: &TextProgress, receipts: &[PartReceipt]) -> Vec<PartView> {
    let is_theirs = |r: &PartReceipt| r.carrier.as_ref().is_none_or(|carrier| *carrier == progress.carrier);
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
            let receipt = receipts.iter().find(|r| r.part + 1 == part && is_theirs(r));
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

impl RecipientView {
    /// Domains are compared without regard to case; so are local parts here, since people type them.
    fn is_to(&self, address: &str) -> bool {
        self.address.eq_ignore_ascii_case(address)
    }
}
