//! `GET /v1/messages/{id}`: what became of a message.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};

use super::document::MessageSchema;
use super::dto::ProblemBody;
use super::listen::Peer;
use super::problem::{Kind, Problem};
use super::{App, auth};
use crate::ingress::backend::Backend;
use crate::model::MessageId;

/// What became of a message
///
/// Answers for messages that wait and for those that ended lately. Others' messages are not found.
#[utoipa::path(
    get, path = "/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "The id from the 202")),
    responses(
        (status = 200, description = "Where it stands", body = MessageSchema),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Try again later", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn show<B: Backend>(
    State(app): State<App<B>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.ok_or_else(|| Problem::new(Kind::Internal, "a request without a peer"))?;
    let client = auth::client(&app.shared.backend, &app.shared.metrics, request.headers(), &peer).await?;
    let id = id.ok().and_then(|Path(id)| id.parse::<MessageId>().ok());
    let view = match id {
        Some(id) => app.shared.backend.message(id, &client.name).await,
        None => None,
    };
    match view {
        Some(view) => Ok(Json(view).into_response()),
        None => Err(Problem::new(Kind::NotFound, "no such message is waiting, and none has ended lately")),
    }
}
