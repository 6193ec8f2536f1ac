//! Who is asking: `Authorization: Bearer KEY` (RFC 6750) or `Basic name:password` (RFC 7617).

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::listen::Peer;
use super::problem::{Kind, Problem};
use crate::event::metrics::Metrics;
use crate::ingress::backend::Backend;
use crate::model::Secret;
use crate::policy::Client;
use crate::policy::credentials::CredentialsError;

/// The client whose credentials the request carries.
pub(super) async fn client<B: Backend>(
    backend: &B,
    metrics: &Metrics,
    headers: &HeaderMap,
    peer: &Peer,
) -> Result<Arc<Client>, Problem> {
    let checked = match presented(headers)? {
        Presented::Key(key) => backend.api_key(&key, peer.ip).await,
        Presented::Password { name, password } => backend.password(&name, &password, peer.ip).await,
    };
    let result = match &checked {
        Ok(_) => "ok",
        Err(CredentialsError::Bad) => "bad",
        Err(CredentialsError::Limited) => "limited",
        Err(CredentialsError::Busy) => "busy",
    };
    metrics.credentials_checked.with_label_values(&[result]).inc();
    checked.map_err(|error| match error {
        CredentialsError::Bad => Problem::new(Kind::Unauthenticated, "these credentials are not valid"),
        CredentialsError::Limited => {
            Problem::new(Kind::Limited, "too many failed attempts lately").retry_after(LIMITED_RETRY)
        }
        CredentialsError::Busy => {
            Problem::new(Kind::Busy, "too many credentials are being checked").retry_after(BUSY_RETRY)
        }
    })
}

enum Presented {
    Key(Secret),
    Password { name: String, password: Secret },
}

fn presented(headers: &HeaderMap) -> Result<Presented, Problem> {
    let none = || {
        Problem::new(
            Kind::Unauthenticated,
            "expected Authorization: Bearer with an API key, or Basic with a client's name and password",
        )
    };
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(none()) };
    let (scheme, rest) = field.to_str().ok().and_then(|f| f.trim().split_once(' ')).ok_or_else(none)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("Bearer") && !rest.is_empty() {
        Ok(Presented::Key(Secret::new(rest)))
    } else if scheme.eq_ignore_ascii_case("Basic") {
        let pair = STANDARD.decode(rest).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(none)?;
        let (name, password) = pair.split_once(':').ok_or_else(none)?;
        Ok(Presented::Password { name: name.to_owned(), password: Secret::new(password) })
    } else {
        Err(none())
    }
}

/// When to come back after too many failures.
const LIMITED_RETRY: Duration = Duration::from_secs(30);
/// When to come back while the pool that checks passwords is full.
const BUSY_RETRY: Duration = Duration::from_secs(1);
