//! What both ways of submitting a mail end in: prepared for the queue, checked against what the client may do, handed over.

use std::collections::HashSet;

use axum::extract::{Request, State};
use axum::response::Response;

use super::App;
use super::dto::{AcceptedReply, EmailRequest, ProblemBody};
use super::intake::{Intake, MediaType, hand_over, off_the_reactor};
use super::options::Options;
use super::problem::{Faults, Kind, Problem};
use super::settings::{Settings, is_idempotency_key, label, not_after, not_before, tags};
use super::{email, raw};
use crate::ingress::backend::Backend;
use crate::mail::{Directives, PrepareError, Prepared, Trace, prepare};
use crate::model::{
    Address, Channel, Content, Idempotency, MailData, MailOrigin, Mailbox, Origin, Recipient, ReversePath,
};

/// Send a mail
///
/// As JSON to be composed, or as a finished mail (`message/rfc822`, see the parameters). The answer comes after the mail
/// is on stable storage.
#[utoipa::path(
    post, path = "/v1/email", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats under the same key are the same message"),
        ("from" = Option<String>, Query, description = "message/rfc822: envelope sender; the From field if not given"),
        ("to" = Option<Vec<String>>, Query, description = "message/rfc822: envelope recipients; the fields To, Cc and Bcc if not given"),
        ("client_ref" = Option<String>, Query, description = "message/rfc822: your own reference"),
        ("expires_at" = Option<String>, Query, description = "message/rfc822: not sent after this time (RFC 3339)"),
    ),
    request_body(content(
        (EmailRequest = "application/json"),
        (String = "message/rfc822"),
    )),
    responses(
        (status = 202, description = "Accepted, durably", body = AcceptedReply,
            headers(("Idempotent-Replayed" = bool, description = "true: this is the answer to an earlier request"))),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Try again later", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn submit<B: Backend>(State(app): State<App<B>>, request: Request) -> Result<Response, Problem> {
    let taken = [MediaType::Json, MediaType::Mail];
    let intake = Intake::of(&app, request, Channel::Email, &taken, Options::body_bytes_max).await?;
    let (intake, made) = off_the_reactor(intake, Made::of).await?;
    let envelope = intake.envelope(made.settings, made.idempotency, made.origin, made.recipients);
    hand_over(&app, intake, envelope, Content::Mail(made.data)).await
}

/// A mail as it was submitted.
pub(super) struct Draft {
    /// The envelope's sender.
    pub(super) reverse_path: Mailbox,
    /// The envelope's recipients, each once; at least one, at most `Options::recipients_max`.
    pub(super) recipients: Vec<Mailbox>,
    /// REQUIRETLS is asked for.
    pub(super) require_tls: bool,
    /// What the request said beside.
    pub(super) settings: Settings,
    /// The content.
    pub(super) data: MailData,
}

/// A mail ready for the queue.
struct Made {
    settings: Settings,
    idempotency: Option<Idempotency>,
    origin: Origin,
    recipients: Vec<Recipient>,
    data: MailData,
}

impl Made {
    /// Works on every byte of the mail, more than once.
    fn of(intake: &Intake) -> Result<Self, Problem> {
        let draft = match intake.media {
            MediaType::Json => email::read(intake)?,
            MediaType::Mail => raw::read(intake)?,
        };
        let bytes_max = intake.options.message_bytes_max;
        if draft.data.len() > bytes_max {
            return Err(Problem::new(Kind::TooLarge, format!("a mail may have {bytes_max} bytes")));
        }
        let trace = trace(intake, &draft.recipients);
        let prepared = prepare(draft.data, &trace).map_err(not_prepared)?;
        may_send(intake, &draft.reverse_path, &prepared)?;
        let origin = origin(&prepared, draft.reverse_path, &draft.recipients, draft.require_tls);
        let Prepared { data, directives, .. } = prepared;
        let (settings, idempotency) = with_directives(draft.settings, directives, intake)?;
        let recipients = draft.recipients.into_iter().map(|m| Recipient::new(Address::Mailbox(m))).collect();
        Ok(Self { settings, idempotency, origin, recipients, data })
    }
}

/// The recipients, each once; none or too many is noted.
pub(super) fn each_once(mut recipients: Vec<Mailbox>, most: usize, faults: &mut Faults) -> Vec<Mailbox> {
    let mut seen = HashSet::with_capacity(recipients.len());
    recipients.retain(|r| seen.insert(r.clone()));
    if recipients.len() > most {
        faults.add("to", format!("more than {most} recipients in to, cc and bcc"));
    }
    recipients
}

fn trace<'a>(intake: &'a Intake, recipients: &'a [Mailbox]) -> Trace<'a> {
    Trace {
        helo: None,
        peer: intake.peer.ip,
        by: &intake.options.hostname,
        protocol: if intake.peer.tls.is_some() { "HTTPS" } else { "HTTP" },
        tls: intake.peer.tls.as_deref(),
        id: intake.id,
        only_recipient: if let [only] = recipients { Some(only) } else { None },
        time: intake.received_at,
        hops_max: intake.options.hops_max,
    }
}

fn not_prepared(error: PrepareError) -> Problem {
    match error {
        PrepareError::TooManyHops { hops } => {
            Problem::field("Received", format!("{hops} Received fields: the mail is in a loop"))
        }
        PrepareError::BadDirective { field, expected } => Problem::field(field, format!("expected {expected}")),
        PrepareError::BadHeader { why } => Problem::new(Kind::Invalid, format!("bad header section: {why}")),
    }
}

fn may_send(intake: &Intake, reverse_path: &Mailbox, prepared: &Prepared) -> Result<(), Problem> {
    if prepared.from_domains.is_empty() {
        return Err(Problem::field("from", "the mail has no From field"));
    }
    for domain in prepared.from_domains.iter().chain([reverse_path.domain()]) {
        intake.client.may_send_as(domain)?;
    }
    Ok(())
}

/// Joins what the request says with what the mail's `X-Postrider-*` fields say; the request comes first.
fn with_directives(
    settings: Settings,
    directives: Directives,
    intake: &Intake,
) -> Result<(Settings, Option<Idempotency>), Problem> {
    let mut faults = Faults::default();
    let (options, now) = (&intake.options, intake.received_at);
    let asked = directives.send_at.and_then(|t| faults.take("X-Postrider-Send-At", not_before(t, options, now)));
    let send_at = settings.send_at.or(asked.flatten());
    if let Some(end) = settings.expires_at {
        faults.take("expires_at", not_after(end, send_at.unwrap_or(now), options, now));
    }
    let campaign = label("X-Postrider-Campaign", directives.campaign, &mut faults);
    let tags = tags(directives.tags, &mut faults);
    let key = directives.idempotency_key.filter(|_| intake.key.is_none());
    if key.as_deref().is_some_and(|k| !is_idempotency_key(k)) {
        faults.add("X-Postrider-Idempotency-Key", "expected 1 to 255 visible ASCII characters");
    }
    faults.check()?;
    let settings = Settings {
        class: settings.class.or(directives.class),
        campaign: settings.campaign.or(campaign),
        tags: if settings.tags.is_empty() { tags } else { settings.tags },
        send_at,
        ..settings
    };
    Ok((settings, intake.idempotency(key.map(Into::into))))
}

fn origin(prepared: &Prepared, reverse_path: Mailbox, recipients: &[Mailbox], require_tls: bool) -> Origin {
    let wide = prepared.utf8_header || reverse_path.needs_smtputf8() || recipients.iter().any(Mailbox::needs_smtputf8);
    Origin::Mail(MailOrigin {
        smtputf8: wide,
        reverse_path: ReversePath::Mailbox(reverse_path),
        body: prepared.body,
        ret: None,
        envid: None,
        tls: prepared.tls_wish(require_tls),
        body_hash: prepared.body_hash,
        header_bytes: prepared.header_bytes,
    })
}
