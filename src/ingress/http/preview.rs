//! `POST /v1/sms/preview`: how a text would travel. Nothing is stored or sent.
//!
//! **Promises.** The request is that of `POST /v1/sms`, read by the same code under the same credentials and limits; only
//! `to` may be left out. The numbers come from [`plan_for`], which the sending asks too.
//!
//! **Does not know** carriers' state: the price is what the first carrier of the number's route takes.
//!
//! **Fails how.** As `POST /v1/sms`; but no message is refused, so the metric of refused submissions does not count it.

use axum::Json;
use axum::extract::{Request, State};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::App;
use super::dto::{Outsider, PreviewPrice, PreviewReply, ProblemBody, SmsRequest};
use super::problem::Problem;
use super::sms;
use crate::ingress::backend::{Backend, PartPrice};
use crate::model::{Number, SmsText};
use crate::sms::{Repertoire, look_alike, plan_for};

/// See how a text would travel
///
/// Says its encoding, parts and units, and which characters force UCS-2. Nothing is stored or sent.
#[utoipa::path(
    post, path = "/v1/sms/preview", tag = "messages",
    request_body = SmsPreviewRequest,
    responses(
        (status = 200, description = "How it would travel", body = PreviewReply),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Try again later", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn show<B: Backend>(
    State(app): State<App<B>>,
    request: Request,
) -> Result<Json<PreviewReply>, Problem> {
    let (intake, asked) = sms::read::<_, Option<Number>>(&app, request).await?;
    let text = &asked.text;
    let (backend, client) = (&app.shared.backend, &intake.client.name);
    let repertoire = text.to.as_ref().map(|to| backend.repertoire(to, text.class, client)).unwrap_or_default();
    let price = text.to.as_ref().and_then(|to| backend.price(to, text.class, client));
    let preview = preview(&text.words, text.transliterated, &repertoire);
    Ok(Json(PreviewReply { price: price.map(|p| priced(&p, preview.parts)), ..preview }))
}

fn priced(price: &PartPrice, parts: usize) -> PreviewPrice {
    PreviewPrice {
        amount: price.part.times(parts as u64).to_string(),
        currency: price.currency.to_string(),
        carrier: price.carrier.to_string(),
    }
}

fn preview(words: &SmsText, transliterated: bool, repertoire: &Repertoire) -> PreviewReply {
    let plan = plan_for(words, repertoire);
    let text = words.as_str();
    let outsider = |(position, character): (usize, char)| Outsider {
        position,
        character,
        code_point: format!("U+{:04X}", u32::from(character)),
        look_alike: look_alike(character),
    };
    PreviewReply {
        text: text.to_owned(),
        transliterated,
        encoding: plan.encoding.as_str(),
        parts: plan.count,
        units: plan.units,
        capacity: plan.capacity(),
        units_left: plan.units_left(),
        outside_gsm7: repertoire.outside(text).take(OUTSIDERS_MAX).map(outsider).collect(),
        outside_gsm7_count: repertoire.outside(text).count(),
        price: None,
    }
}

/// The schema of the request: [`SmsRequest`] without the need for `to`.
struct SmsPreviewRequest;

impl PartialSchema for SmsPreviewRequest {
    fn schema() -> RefOr<Schema> {
        let mut schema = SmsRequest::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.retain(|field| field != "to");
            object.description = Some("A text to look at.".to_owned());
        }
        schema
    }
}

impl ToSchema for SmsPreviewRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SmsRequest::schemas(schemas);
    }
}

/// Where the preview is served.
pub(super) const PATH: &str = "/v1/sms/preview";
/// Most characters listed.
const OUTSIDERS_MAX: usize = 10;
