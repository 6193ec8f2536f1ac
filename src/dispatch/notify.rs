//! The notifications that follow from an end or a delay (RFC 3461 section 5.2), built here, settled by the queue with it.
//!
//! **Promises.** One for each kind of outcome of an attempt, to those who want to hear of it; of a delay once, after the first
//! attempt that ends late. None for clients that rely on events.

use std::collections::HashSet;
use std::time::Duration;

use super::Parts;
use crate::clock::Timestamp;
use crate::mail::dsn::{self, Action, Report, Status};
use crate::model::{
    Address, Class, ClientName, Consignment, Content, EnhancedStatus, Envelope, Failure, MailData, MailOrigin, Mailbox,
    MessageId, Origin, Outcome, Recipient, RecipientOutcome, Submission,
};
use crate::queue::{End, Ending};

/// How senders are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notices {
    /// Our name.
    pub reporting_mta: String,
    /// After how long a delay is told to those who asked for it.
    pub delay_after: Duration,
    /// Clients whose senders are told nothing.
    pub silent: HashSet<ClientName>,
}

/// RFC 3463 section 3.5: delivery time expired.
const TIME_EXPIRED: EnhancedStatus = EnhancedStatus::new(5, 4, 7);
/// RFC 3463 section 3.8: by policy, which is an operator's.
const BY_POLICY: EnhancedStatus = EnhancedStatus::new(5, 7, 0);
/// RFC 3463 section 3.1: a success of which nothing more is known.
const RELAYED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);

/// The notifications of an attempt: one of its failures, one of its delays, one of what went to a next hop that will not
/// notify, for those whose sender wants to hear of it.
pub(super) async fn for_outcomes(
    parts: &Parts,
    consignment: &Consignment,
    outcomes: &[RecipientOutcome],
) -> Vec<Submission> {
    let Content::Mail(data) = &consignment.content else { return Vec::new() };
    let now = parts.clock.now();
    let all = outcomes.iter().filter_map(|o| status_of(o, now));
    let (failed, relayed) = all.partition(|s: &Status| s.action == Action::Failed);
    let delayed = delays(parts, &consignment.envelope, outcomes, now).await;
    let of = |statuses| notification(parts, &consignment.envelope, data, statuses);
    [failed, delayed, relayed].into_iter().flat_map(of).collect()
}

/// The recipients whose sender is to hear now that they wait: this is the first attempt that ended so late.
async fn delays(parts: &Parts, envelope: &Envelope, outcomes: &[RecipientOutcome], now: Timestamp) -> Vec<Status> {
    let late_from = envelope.received_at.plus(parts.notices.load().delay_after);
    let mut late = Vec::new();
    for outcome in outcomes {
        let Outcome::Delayed(failure) = &outcome.outcome else { continue };
        let asked = envelope.recipients.get(outcome.recipient as usize).is_some_and(|r| dsn::wants(r, Action::Delayed));
        if asked && now >= late_from && !parts.queue.tried_since(envelope.id, outcome.recipient, late_from).await {
            let status = EnhancedStatus { class: 4, ..failure.status };
            let until = envelope.expires_at;
            late.push(Status { will_retry_until: until, ..told(outcome, Action::Delayed, status, failure, now) });
        }
    }
    late
}

fn told(outcome: &RecipientOutcome, action: Action, status: EnhancedStatus, why: &Failure, now: Timestamp) -> Status {
    Status {
        recipient: outcome.recipient,
        action,
        status,
        reply: why.reply.clone(),
        cause: why.cause.clone(),
        remote: outcome.peer.as_ref().map(|p| p.host.clone()),
        last_attempt: Some(now),
        will_retry_until: None,
    }
}

/// What there is to notify of in an outcome.
fn status_of(outcome: &RecipientOutcome, now: Timestamp) -> Option<Status> {
    match &outcome.outcome {
        Outcome::Failed(failure) => {
            let status = EnhancedStatus { class: 5, ..failure.status };
            Some(told(outcome, Action::Failed, status, failure, now))
        }
        Outcome::Relayed(relayed) if !relayed.notifies => Some(Status {
            recipient: outcome.recipient,
            action: Action::Relayed,
            status: RELAYED,
            reply: Some(relayed.reply.clone()),
            cause: None,
            remote: outcome.peer.as_ref().map(|p| p.host.clone()),
            last_attempt: Some(now),
            will_retry_until: None,
        }),
        Outcome::Relayed(_) | Outcome::Delayed(_) => None,
    }
}

/// The notification of mail that ends without an attempt, failed or expired: none or one.
pub(super) async fn for_ending(parts: &Parts, ending: &Ending) -> Vec<Submission> {
    let (status, cause) = match (ending.end, &ending.why) {
        (End::Expired, _) => (TIME_EXPIRED, "its time ran out before it could be delivered"),
        (End::Failed, Some(why)) => (BY_POLICY, &**why),
        _ => return Vec::new(),
    };
    if ending.envelope.mail().is_none() {
        return Vec::new();
    }
    let Some(Content::Mail(data)) = parts.queue.content(ending.envelope.id).await else { return Vec::new() };
    let failed = ending.recipients.iter().map(|(recipient, reply, remote)| Status {
        recipient: *recipient,
        action: Action::Failed,
        status,
        reply: reply.clone(),
        cause: Some(cause.to_owned()),
        remote: remote.clone(),
        last_attempt: None,
        will_retry_until: None,
    });
    notification(parts, &ending.envelope, &data, failed.collect())
}

fn notification(parts: &Parts, envelope: &Envelope, data: &MailData, all: Vec<Status>) -> Vec<Submission> {
    let wanted = |s: &Status| envelope.recipients.get(s.recipient as usize).is_some_and(|r| dsn::wants(r, s.action));
    let notices = parts.notices.load();
    if notices.silent.contains(&envelope.client) {
        return Vec::new();
    }
    let recipients: Vec<Status> = all.into_iter().filter(wanted).collect();
    let now = parts.clock.now();
    let id = MessageId::new(now);
    let report = Report {
        reporting_mta: &notices.reporting_mta,
        envelope,
        data,
        recipients: &recipients,
        id,
        now,
        returned_bytes_max: dsn::RETURNED_BYTES_MAX,
    };
    let Some(made) = dsn::report(&report) else { return Vec::new() };
    vec![own_mail(id, envelope.client.clone(), now, (made.data, made.origin), made.to)]
}

/// A mail of our own making to one recipient, ready for the queue.
pub(super) fn own_mail(
    id: MessageId,
    client: ClientName,
    now: Timestamp,
    (data, origin): (MailData, MailOrigin),
    to: Mailbox,
) -> Submission {
    let envelope = Envelope {
        id,
        client,
        class: Class::Transactional,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: now,
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin: Origin::Mail(origin),
        recipients: vec![Recipient::new(Address::Mailbox(to))],
    };
    Submission { envelope, content: Content::Mail(data) }
}
