//! The notifications that follow from an end (RFC 3461 section 5.2), built here, settled by the queue with that end.

use super::Parts;
use crate::clock::Timestamp;
use crate::mail::dsn::{self, Action, Report, Status};
use crate::model::Consignment;
use crate::model::{
    Address, Class, Content, EnhancedStatus, Envelope, MailData, MessageId, Origin, Outcome, Recipient,
    RecipientOutcome, Submission,
};
use crate::queue::{End, Overdue};

/// RFC 3463 section 3.5: delivery time expired.
const TIME_EXPIRED: EnhancedStatus = EnhancedStatus::new(5, 4, 7);
/// RFC 3463 section 3.1: a success of which nothing more is known.
const RELAYED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);

/// The notifications of an attempt: one of its failures, one of what went to a next hop that will not notify, for those
/// whose sender wants to hear of it.
pub(super) fn for_outcomes(parts: &Parts, consignment: &Consignment, outcomes: &[RecipientOutcome]) -> Vec<Submission> {
    let Content::Mail(data) = &consignment.content else { return Vec::new() };
    let now = parts.clock.now();
    let all = outcomes.iter().filter_map(|o| status_of(o, now));
    let (failed, relayed) = all.partition(|s: &Status| s.action == Action::Failed);
    let of = |statuses| notification(parts, &consignment.envelope, data, statuses);
    of(failed).into_iter().chain(of(relayed)).collect()
}

/// What there is to notify of in an outcome.
fn status_of(outcome: &RecipientOutcome, now: Timestamp) -> Option<Status> {
    let (action, status, reply, cause) = match &outcome.outcome {
        Outcome::Failed(failure) => {
            let status = EnhancedStatus { class: 5, ..failure.status };
            (Action::Failed, status, failure.reply.clone(), failure.cause.clone())
        }
        Outcome::Relayed(relayed) if !relayed.notifies => (Action::Relayed, RELAYED, Some(relayed.reply.clone()), None),
        Outcome::Relayed(_) | Outcome::Delayed(_) => return None,
    };
    Some(Status {
        recipient: outcome.recipient,
        action,
        status,
        reply,
        cause,
        remote: outcome.peer.as_ref().map(|p| p.host.clone()),
        last_attempt: Some(now),
        will_retry_until: None,
    })
}

/// The notification of mail whose time has run out: none or one.
pub(super) async fn for_overdue(parts: &Parts, overdue: &Overdue) -> Vec<Submission> {
    if overdue.end != End::Expired || overdue.envelope.mail().is_none() {
        return Vec::new();
    }
    let Some(Content::Mail(data)) = parts.queue.content(overdue.envelope.id).await else { return Vec::new() };
    let expired = overdue.recipients.iter().map(|(recipient, reply, remote)| Status {
        recipient: *recipient,
        action: Action::Failed,
        status: TIME_EXPIRED,
        reply: reply.clone(),
        cause: Some("its time ran out before it could be delivered".to_owned()),
        remote: remote.clone(),
        last_attempt: None,
        will_retry_until: None,
    });
    notification(parts, &overdue.envelope, &data, expired.collect())
}

fn notification(parts: &Parts, envelope: &Envelope, data: &MailData, all: Vec<Status>) -> Vec<Submission> {
    let wanted = |s: &Status| envelope.recipients.get(s.recipient as usize).is_some_and(|r| dsn::wants(r, s.action));
    let recipients: Vec<Status> = all.into_iter().filter(wanted).collect();
    let now = parts.clock.now();
    let id = MessageId::new(now);
    let reporting_mta = parts.hostname.load();
    let report = Report {
        reporting_mta: &reporting_mta,
        envelope,
        data,
        recipients: &recipients,
        id,
        now,
        returned_bytes_max: dsn::RETURNED_BYTES_MAX,
    };
    let Some(made) = dsn::report(&report) else { return Vec::new() };
    let envelope = Envelope {
        id,
        client: envelope.client.clone(),
        class: Class::Transactional,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: now,
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin: Origin::Mail(made.origin),
        recipients: vec![Recipient::new(Address::Mailbox(made.to))],
    };
    vec![Submission { envelope, content: Content::Mail(made.data) }]
}
