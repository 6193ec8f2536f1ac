//! Refusals, as RFC 9457 problem details.
//!
//! **Promises.** Every refusal of this ingress (and of the operators' API) is made here, so each has a stable type, the right status and, where the
//! client should come back, Retry-After. Details are bounded in length and in number; they name fields, never the words
//! of a text.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::dto::{FieldFault, ProblemBody};
use crate::policy::Refusal;

/// What kind of refusal: decides status, type and title.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Not JSON, or a header field that cannot be read.
    Malformed,
    /// No credentials, or bad ones.
    Unauthenticated,
    /// The client may not do this.
    Forbidden,
    /// No such route or message.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    Slow,
    /// The idempotency key was used for something else.
    KeyReused,
    /// Larger than allowed.
    TooLarge,
    /// Not a media type taken here.
    MediaType,
    /// Understood, but fields are wrong.
    Invalid,
    /// This peer or client must slow down.
    Limited,
    /// No room for now.
    Full,
    /// Too much at once, for a moment.
    Busy,
    /// Storage failed, or the relay is stopping.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Limited | Self::Full => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The last word of the type, and the reason in metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "not-allowed",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Slow => "timeout",
            Self::KeyReused => "key-reused",
            Self::TooLarge => "too-large",
            Self::MediaType => "media-type",
            Self::Invalid => "invalid-fields",
            Self::Limited => "limited",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::Unauthenticated => "Credentials are missing or wrong",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Slow => "The request did not arrive in time",
            Self::KeyReused => "The idempotency key was used for another request",
            Self::TooLarge => "The request is too large",
            Self::MediaType => "Media type not supported",
            Self::Invalid => "Fields are wrong",
            Self::Limited => "Too many requests",
            Self::Full => "The queue is full",
            Self::Busy => "Too busy for the moment",
            Self::Unavailable => "Not accepting messages",
            Self::Internal => "Internal fault",
        }
    }
}

/// A refusal on its way to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldFault>,
    rule: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// Marks a response with the reason of its refusal, for the metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) &'static str);

impl Problem {
    /// A refusal with a sentence for the client.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), rule: None, retry_after: None }
    }

    /// A refusal by a rule.
    pub(crate) fn ruled(kind: Kind, rule: &'static str, detail: impl Into<String>) -> Self {
        Self { rule: Some(rule), ..Self::new(kind, detail) }
    }

    /// One wrong field.
    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut faults = Faults::default();
        faults.add(field, detail);
        faults.into_problem()
    }

    /// The same refusal, with the time after which to come back.
    pub(crate) fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// The last word of its type, and its reason in metrics.
    pub(super) const fn word(&self) -> &'static str {
        self.kind.word()
    }

    /// What it says.
    pub(super) fn into_body(self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:postrider:problem:{}", self.kind.word()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: clipped(self.detail, DETAIL_BYTES_MAX),
            errors: self.errors,
            rule: self.rule.map(str::to_owned),
        }
    }

    /// The kind.
    #[cfg(test)]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::ruled(Kind::Forbidden, refusal.rule, refusal.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, retry_after) = (self.kind, self.retry_after);
        let json = serde_json::to_vec(&self.into_body()).unwrap_or_default();
        let mut response = (kind.status(), json).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(span) = retry_after {
            // Whole seconds (RFC 9110 section 10.2.3), never 0: that would invite a hot loop.
            headers.insert(RETRY_AFTER, HeaderValue::from(span.as_millis().div_ceil(1_000).clamp(1, 86_400) as u32));
        }
        if kind == Kind::Unauthenticated {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="postrider""#));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="postrider", charset="UTF-8""#));
        }
        response.extensions_mut().insert(Refused(kind.word()));
        response
    }
}

/// Gathers wrong fields, so that a client learns of all of them at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<FieldFault>,
    more: usize,
}

impl Faults {
    /// Notes a wrong field.
    pub(crate) fn add(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        if self.faults.len() == FAULTS_MAX {
            self.more += 1;
            return;
        }
        self.faults.push(FieldFault {
            field: clipped(field.into(), FIELD_BYTES_MAX),
            detail: clipped(detail.into(), DETAIL_BYTES_MAX),
        });
    }

    /// Unwraps a result; an error is noted for `field`.
    pub(super) fn take<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.add(field, e.to_string())).ok()
    }

    /// Nothing wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Ends with a refusal if anything was wrong.
    pub(super) fn check(self) -> Result<(), Problem> {
        if self.is_empty() { Ok(()) } else { Err(self.into_problem()) }
    }

    /// The refusal.
    pub(crate) fn into_problem(self) -> Problem {
        let detail = match (self.faults.as_slice(), self.more) {
            ([only], 0) if only.field.is_empty() => only.detail.clone(),
            ([only], 0) => format!("{}: {}", only.field, only.detail),
            (all, 0) => format!("{} fields are wrong", all.len()),
            (all, more) => format!("{} fields are wrong; the first {} are listed", all.len() + more, all.len()),
        };
        Problem { errors: self.faults, ..Problem::new(Kind::Invalid, detail) }
    }
}

fn clipped(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// Most wrong fields listed in one refusal.
const FAULTS_MAX: usize = 50;
/// Longest field name repeated to the client; an unknown field's name is the client's own.
const FIELD_BYTES_MAX: usize = 100;
/// Longest sentence.
const DETAIL_BYTES_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_counted_but_not_all_listed() {
        let mut faults = Faults::default();
        for i in 0..FAULTS_MAX + 7 {
            faults.add(format!("to[{i}]"), "x".repeat(10_000));
        }
        let problem = faults.into_problem();
        assert_eq!(problem.errors.len(), FAULTS_MAX);
        assert_eq!(problem.detail, "57 fields are wrong; the first 50 are listed");
        assert!(problem.errors.iter().all(|f| f.detail.len() < 500));
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (span, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (90_000_000_000, "86400")] {
            let problem = Problem::new(Kind::Full, "").retry_after(Duration::from_millis(span));
            assert_eq!(problem.into_response().headers()[RETRY_AFTER], seconds);
        }
    }
}
