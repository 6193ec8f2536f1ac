//! `POST /v1/sms/batch`: up to a thousand texts at once, each a message of its own.
//!
//! **Promises.** Each text is taken or refused by itself, by the code of `POST /v1/sms`, and the answer says what came of each, in
//! their order; what it says was accepted is on stable storage. A batch that is no such thing as a whole is refused as a whole.
//! Under an idempotency key each text has a key of its own, by its place, so that a repeated batch sends nothing twice.
//!
//! **Fails how.** As `POST /v1/sms`, text by text; the request's own time is over for all of them at once.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::App;
use super::dto::{AcceptedReply, BATCH_MAX, BatchEntry, BatchReply, BatchRequest, ProblemBody, SmsRequest};
use super::intake::{self, Intake, MediaType};
use super::json;
use super::problem::{Kind, Problem};
use super::settings::Fingerprint;
use super::sms::{self, Asked};
use crate::ingress::backend::Backend;
use crate::ingress::text::Text;
use crate::model::{Channel, Idempotency, MessageId, Number};

/// Send up to 1,000 texts
///
/// Each is taken or refused by itself; the answer comes once all that are taken are on stable storage.
#[utoipa::path(
    post, path = "/v1/sms/batch", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats under the same key are the same messages")),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "What came of each, in their order", body = BatchReply),
        (status = "4XX", description = "Refused as a whole", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Try again later", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn submit<B: Backend>(State(app): State<App<B>>, request: Request) -> Result<Response, Problem> {
    let intake = Intake::of(&app, request, Channel::Sms, &[MediaType::Json], |_| BODY_BYTES_MAX).await?;
    let request: BatchRequest = json::read(&intake.body, |value| BatchRequest::deserialize(value).map(drop))?;
    let texts = request.messages.map(|messages| messages.0).unwrap_or_default();
    if texts.is_empty() {
        return Err(Problem::field("messages", format!("expected 1 to {BATCH_MAX} texts")));
    }
    // Shared by all, so that the body's share of the memory is held until the last is done with.
    let intake = Arc::new(intake);
    let mut taking = JoinSet::new();
    let count = texts.len();
    for (place, text) in texts.into_iter().enumerate() {
        let (app, intake) = (app.clone(), intake.clone());
        taking.spawn(async move { (place, take(&app, &intake, place, text).await) });
    }
    let mut entries: Vec<Option<BatchEntry>> = (0..count).map(|_| None).collect();
    while let Some(taken) = taking.join_next().await {
        let Ok((place, result)) = taken else { continue };
        let entry = match result {
            Ok(reply) => BatchEntry { message: Some(reply), problem: None },
            Err(problem) => {
                app.shared.metrics.refused.with_label_values(&["http", problem.word()]).inc();
                BatchEntry { message: None, problem: Some(problem.into_body()) }
            }
        };
        entries[place] = Some(entry);
    }
    let fault = || Problem::new(Kind::Internal, "it is not known whether the message was accepted");
    let messages: Vec<BatchEntry> = entries
        .into_iter()
        .map(|entry| entry.unwrap_or_else(|| BatchEntry { message: None, problem: Some(fault().into_body()) }))
        .collect();
    let accepted = messages.iter().filter(|entry| entry.message.is_some()).count();
    Ok(Json(BatchReply { accepted, refused: count - accepted, messages }).into_response())
}

async fn take<B: Backend>(
    app: &App<B>,
    intake: &Arc<Intake>,
    place: usize,
    request: SmsRequest,
) -> Result<AcceptedReply, Problem> {
    let idempotency = idempotency(intake, place, &request);
    let asked = Asked::<Number>::checked(app, request, intake)?;
    let Text { to, class, .. } = &asked.text;
    let repertoire = app.shared.backend.repertoire(to, *class, &intake.client.name);
    let (envelope, told) = asked.envelope(intake, MessageId::new(intake.received_at), idempotency, &repertoire);
    let scheduled = envelope.send_at.is_some();
    let counter = sms::counter(app, &intake.client, &intake.options, intake.received_at);
    let taken = counter.take(&asked.text, envelope, intake.clone()).await;
    let accepted = taken.map_err(|why| sms::not_taken(why, intake.received_at))?;
    Ok(intake::reply(&accepted, scheduled, Some(told)))
}

/// The batch's key and the text's place in it; another text there is another request.
fn idempotency(intake: &Intake, place: usize, request: &SmsRequest) -> Option<Idempotency> {
    let key = format!("{} {place}", intake.key.as_ref()?);
    let text = serde_json::to_vec(request).unwrap_or_default();
    let fingerprint = Fingerprint::of([intake.client.name.as_bytes(), intake.uri.path().as_bytes(), &text, b""]);
    Some(fingerprint.under(key.into()))
}

/// Largest batch: a thousand texts of some four kilobytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
