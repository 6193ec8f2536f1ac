//! The OpenAPI document, served at `/v1/openapi.json`. A test holds it against the routes that are served.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

/// The OpenAPI document
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "document",
    responses((status = 200, description = "This document", content_type = "application/json"))
)]
pub(super) async fn show() -> Response {
    static JSON: LazyLock<String> = LazyLock::new(|| serde_json::to_string(&document()).unwrap_or_default());
    ([(CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}

/// The document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "postrider", description = "Hand over mails and texts, and ask what became of them."),
    paths(super::sms::submit, super::batch::submit, super::preview::show, super::mail::submit, super::message::show, show),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = |s| SecurityScheme::Http(HttpBuilder::new().scheme(s).build());
        components.add_security_scheme("key", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("password", scheme(HttpAuthScheme::Basic));
    }
}

/// The schema of [`crate::queue::MessageView`], whose layer knows no OpenAPI; a test compares the two.
#[derive(ToSchema)]
#[schema(as = Message)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct MessageSchema {
    /// Its id.
    id: String,
    /// The least advanced state of its recipients: accepted, scheduled, held, queued, delayed, sent, delivered, bounced,
    /// undelivered, expired, rejected, cancelled or unknown.
    status: String,
    /// `email` or `sms`.
    channel: String,
    /// Who submitted it.
    client: String,
    /// Its class.
    class: String,
    /// Its campaign.
    campaign: Option<String>,
    /// Your own reference.
    client_ref: Option<String>,
    /// When it was received.
    #[schema(format = DateTime)]
    received_at: String,
    /// When it expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// Bytes of content.
    size: u64,
    /// One entry a recipient.
    recipients: Vec<RecipientSchema>,
}

/// One recipient of a message.
#[derive(ToSchema)]
#[schema(as = Recipient)]
#[allow(dead_code, reason = "only its schema is used")]
struct RecipientSchema {
    /// The address, masked for `otp`.
    address: String,
    /// Its state.
    status: String,
    /// The lane it waits or waited in.
    lane: String,
    /// The site whose limits the lane is under, while it waits.
    site: Option<String>,
    /// The limits in force at that site, and the rule that they come from.
    limit: Option<String>,
    /// When the next attempt is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt: Option<String>,
    /// Why it has not gone.
    waiting_for: Option<String>,
    /// The attempts, oldest first; the newest are kept.
    attempts: Vec<AttemptSchema>,
    /// Attempts made in all.
    attempts_made: u32,
    /// Parts of a text.
    #[schema(required = false)]
    parts: Vec<PartSchema>,
}

/// One attempt.
#[derive(ToSchema)]
#[schema(as = Attempt)]
#[allow(dead_code, reason = "only its schema is used")]
struct AttemptSchema {
    /// When it ended.
    #[schema(format = DateTime)]
    time: String,
    /// What came of it.
    outcome: String,
    /// Where in the dialogue it ended.
    stage: Option<String>,
    /// The other side's reply, whole.
    reply: Option<String>,
    /// The row of the provider table that judged the reply, and the class it gives it.
    rule: Option<String>,
    /// Why, when no reply says so.
    reason: Option<String>,
    /// The host or carrier.
    host: Option<String>,
    /// The address dialled.
    address: Option<String>,
    /// TLS version and suite.
    tls: Option<String>,
    /// The configured source of ours that the connection was made from.
    source: Option<String>,
    /// The TLS policy that held, such as `verified (mta-sts enforce)`.
    tls_policy: Option<String>,
    /// How long it took.
    duration_ms: u64,
}

/// One part of a text.
#[derive(ToSchema)]
#[schema(as = Part)]
#[allow(dead_code, reason = "only its schema is used")]
struct PartSchema {
    /// 1 for the first.
    part: u32,
    /// waiting, sent, unknown, refused, or the receipt's state.
    state: String,
    /// The carrier.
    carrier: String,
    /// The id the carrier gave it.
    carrier_message_id: Option<String>,
    /// When its latest receipt came.
    receipt_at: Option<String>,
    /// What the receipt said, in the carrier's words.
    receipt: Option<String>,
}
