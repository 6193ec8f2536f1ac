//! The way of every submission: who is it, may it, what did it send; and at the end, hand it to the queue.
//!
//! **Promises.** Credentials are checked before a byte of the body is read. A 202 is made from the queue's proof only.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::task::JoinError;

use super::App;
use super::auth;
use super::body::Bounds;
use super::dto::AcceptedReply;
use super::listen::Peer;
use super::options::Options;
use super::problem::{Kind, Problem};
use super::settings::{Fingerprint, Settings, idempotency_key};
use crate::clock::Timestamp;
use crate::ingress::backend::{Acceptance, Backend};
use crate::limits;
use crate::model::{Channel, Content, Envelope, Idempotency, MessageId, Origin, Recipient, Responsibility, Submission};
use crate::policy::Client;
use crate::queue::AcceptError;

/// A submission whose client is known and whose body has arrived.
pub(super) struct Intake {
    /// Who sends it.
    pub(super) client: Arc<Client>,
    /// From where.
    pub(super) peer: Peer,
    /// The body's media type, without parameters, lower case.
    pub(super) media: MediaType,
    /// The request's target.
    pub(super) uri: Uri,
    /// The body.
    pub(super) body: Bytes,
    /// The name it will have.
    pub(super) id: MessageId,
    /// When it came.
    pub(super) received_at: Timestamp,
    /// The settings in force for this request.
    pub(super) options: Arc<Options>,
    /// Its key, if it has one.
    pub(super) key: Option<Arc<str>>,
    /// Keeps the body's share of the memory until the submission is done with.
    _share: Box<dyn Send + Sync>,
}

/// What a text's 202 says besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextReply {
    /// Its parts.
    pub(super) parts: usize,
    /// It is written with look-alikes.
    pub(super) transliterated: bool,
}

/// The media types taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MediaType {
    /// `application/json`.
    Json,
    /// `message/rfc822`.
    Mail,
}

impl MediaType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Mail => "message/rfc822",
        }
    }
}

impl Intake {
    /// Checks credentials, channel, key and media type, in this order, then reads the body.
    pub(super) async fn of<B: Backend>(
        app: &App<B>,
        request: Request,
        channel: Channel,
        taken: &[MediaType],
        bytes_max: impl FnOnce(&Options) -> usize,
    ) -> Result<Self, Problem> {
        let options = app.options.load_full();
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Problem::new(Kind::Internal, "a request without a peer"))?;
        let client = auth::client(&app.shared.backend, &app.shared.metrics, &head.headers, &peer).await?;
        client.may_use(channel)?;
        let key = idempotency_key(&head.headers)?;
        let media = media_type(head.headers.get(CONTENT_TYPE), taken)?;
        let bounds = Bounds { bytes_max: bytes_max(&options), timeout: options.body_timeout };
        let (body, share) = app.memory.read(body, bounds).await?.into_parts();
        let received_at = app.shared.clock.now();
        let id = MessageId::new(received_at);
        let _share = Box::new(share);
        Ok(Self { client, peer, media, uri: head.uri, body, id, received_at, options, key, _share })
    }

    /// The key with the request's fingerprint; a key that stands in the message itself counts if the request has none.
    pub(super) fn idempotency(&self, in_message: Option<Arc<str>>) -> Option<Idempotency> {
        let key = self.key.clone().or(in_message)?;
        let (path, query) = (self.uri.path(), self.uri.query().unwrap_or_default());
        let fingerprint = Fingerprint::of([self.client.name.as_bytes(), path.as_bytes(), query.as_bytes(), &self.body]);
        Some(fingerprint.under(key))
    }

    /// The envelope of this submission.
    pub(super) fn envelope(
        &self,
        settings: Settings,
        idempotency: Option<Idempotency>,
        origin: Origin,
        recipients: Vec<Recipient>,
    ) -> Envelope {
        Envelope {
            id: self.id,
            client: self.client.name.clone(),
            class: settings.class.unwrap_or_default(),
            campaign: settings.campaign,
            tags: settings.tags,
            client_ref: settings.client_ref,
            received_at: self.received_at,
            send_at: settings.send_at,
            expires_at: settings.expires_at,
            idempotency,
            origin,
            recipients,
        }
    }
}

/// Hands a submission over and answers with what came of it.
///
/// The queue is asked in a task of its own: a client that hangs up, or a deadline, ends this request but not the queue's
/// work halfway. The intake goes along, so that its share of the memory bounds such tasks too.
pub(super) async fn hand_over<B: Backend>(
    app: &App<B>,
    intake: Intake,
    envelope: Envelope,
    content: Content,
) -> Result<Response, Problem> {
    let scheduled = envelope.send_at.is_some();
    let shared = app.shared.clone();
    let asked = tokio::spawn(async move {
        let answer = shared.backend.accept(Submission { envelope, content }).await;
        drop(intake);
        answer
    });
    let accepted = asked.await.map_err(fault_of_ours)?.map_err(refused)?;
    Ok(answer(&accepted, scheduled, None))
}

/// The answer to a submission that was accepted, now or before.
pub(super) fn answer(accepted: &impl Acceptance, scheduled: bool, text: Option<TextReply>) -> Response {
    let mut response = taken(accepted, scheduled, text);
    if accepted.replayed() {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The 202. Whoever makes one shows that somebody has taken responsibility.
fn taken(proof: &impl Responsibility, scheduled: bool, text: Option<TextReply>) -> Response {
    (StatusCode::ACCEPTED, Json(reply(proof, scheduled, text))).into_response()
}

/// What is said of a submission that somebody has taken responsibility for.
pub(super) fn reply(proof: &impl Responsibility, scheduled: bool, text: Option<TextReply>) -> AcceptedReply {
    let id = proof.message_id().to_string();
    let status = if scheduled { "scheduled" } else { "accepted" };
    let (parts, transliterated) = text.map_or((None, false), |text| (Some(text.parts), text.transliterated));
    AcceptedReply { id, status, parts, transliterated }
}

pub(super) fn refused(error: AcceptError) -> Problem {
    match error {
        AcceptError::Full { retry_after } => {
            Problem::new(Kind::Full, "no room for more messages at the moment").retry_after(retry_after)
        }
        AcceptError::TooLarge => Problem::new(Kind::TooLarge, "the message and its recipients are too large"),
        AcceptError::NoSpace { retry_after } => {
            Problem::new(Kind::Unavailable, "the disk has no room for more messages").retry_after(retry_after)
        }
        AcceptError::KeyReused => {
            Problem::new(Kind::KeyReused, "this Idempotency-Key came before, with a different request")
        }
        AcceptError::Unavailable => {
            Problem::new(Kind::Unavailable, "messages are not accepted at the moment").retry_after(UNAVAILABLE_RETRY)
        }
        AcceptError::NoRoute { address } => Problem::field("to", format!("no carrier serves {address}")),
    }
}

fn media_type(field: Option<&HeaderValue>, taken: &[MediaType]) -> Result<MediaType, Problem> {
    let essence = field.and_then(|f| f.to_str().ok()).and_then(|f| f.split(';').next()).unwrap_or_default().trim();
    taken.iter().copied().find(|m| essence.eq_ignore_ascii_case(m.as_str())).ok_or_else(|| {
        let expected: Vec<_> = taken.iter().map(|m| m.as_str()).collect();
        Problem::new(Kind::MediaType, format!("expected Content-Type: {}", expected.join(" or ")))
    })
}

/// Runs `work` on a submission: on a small one at once, on a large one where it stands in nobody's way.
pub(super) async fn off_the_reactor<T: Send + 'static>(
    intake: Intake,
    work: fn(&Intake) -> Result<T, Problem>,
) -> Result<(Intake, T), Problem> {
    let bytes = intake.body.len();
    let work = move || work(&intake).map(|made| (intake, made));
    if bytes <= limits::INLINE_BODY_BYTES_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(fault_of_ours(error)))
}

/// A task of ours panicked, or the runtime is going down under it.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn fault_of_ours(error: JoinError) -> Problem {
    tracing::error!(%error, "a submission ended by a fault of ours");
    Problem::new(Kind::Internal, "it is not known whether the message was accepted")
}

/// Tells a client that its submission had been accepted before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// When to come back while nothing is accepted.
const UNAVAILABLE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);
