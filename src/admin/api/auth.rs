//! Who may ask: `Authorization: Bearer TOKEN` (RFC 6750).
//!
//! **Promises.** The token is compared in constant time and never logged. Wrong ones count for their network, which is soon
//! answered 429; the right one always passes.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::App;
use crate::ingress::http::problem::{Kind, Problem};
use crate::policy::credentials::CredentialsError;

/// Lets those pass who show the token.
pub(super) fn check(app: &App, headers: &HeaderMap, peer: IpAddr) -> Result<(), Problem> {
    let options = app.options.load();
    let Some(token) = &options.token else {
        let why = "no token is configured; set token_file of [admin], then reload";
        return Err(Problem::new(Kind::Forbidden, why));
    };
    let Some(shown) = bearer(headers) else {
        let why = "expected Authorization: Bearer with the token of [admin]";
        return Err(Problem::new(Kind::Unauthenticated, why));
    };
    let count = |result: &str| app.api.metrics.credentials_checked.with_label_values(&[result]).inc();
    if token.matches(shown) {
        count("ok");
        return Ok(());
    }
    if app.api.credentials.wrong_key(peer) == CredentialsError::Limited {
        count("limited");
        let limited = Problem::new(Kind::Limited, "too many wrong tokens lately");
        return Err(limited.retry_after(LIMITED_RETRY));
    }
    count("bad");
    tracing::warn!(%peer, "a wrong token was shown to the operators' API");
    Err(Problem::new(Kind::Unauthenticated, "this token is not valid"))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token.as_bytes())
}

/// The answer for the others. The applications' API takes names with passwords as well; this one does not.
pub(super) fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="postrider admin""#));
    }
    response
}

/// When to come back after too many failures.
const LIMITED_RETRY: Duration = Duration::from_secs(30);
