//! Reading queries and JSON bodies.
//!
//! **Promises.** A body is read within bounds of size, time and memory. Fields that nobody reads are refused, all of them by
//! name.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::App;
use crate::admin::control::OptOutOrder;
use crate::ingress::http::body::Bounds;
use crate::ingress::http::problem::{Faults, Kind, Problem};
use crate::model::Class;
use crate::policy::opt_outs::Whom;
use crate::queue::steer::Sentence;
use crate::queue::steering::{Action, Order, Selector};

/// `GET /v1/queue`
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Lanes {
    /// Most lanes listed.
    pub(super) lanes: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { lanes: 30 }
    }
}

/// `GET /v1/messages`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Explained {
    /// A mailbox or a number.
    pub(super) address: String,
    /// Most messages listed.
    #[serde(default = "messages_listed")]
    pub(super) limit: usize,
}

fn messages_listed() -> usize {
    10
}

/// `GET /v1/tls-reports`
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Domains {
    /// Most domains listed.
    pub(super) domains: usize,
}

impl Default for Domains {
    fn default() -> Self {
        Self { domains: 30 }
    }
}

/// `GET /v1/opt-outs`, `GET /v1/ported`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptOutsOf {
    /// Whose; everybody's if it is missing.
    #[serde(default)]
    pub(super) number: Option<Arc<str>>,
    /// Most entries listed.
    #[serde(default = "opt_outs_listed")]
    pub(super) limit: usize,
}

fn opt_outs_listed() -> usize {
    30
}

/// `DELETE /v1/opt-outs/{number}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptOutsNamed {
    #[serde(default)]
    signature: Option<Arc<str>>,
    #[serde(default)]
    sender: Option<Arc<str>>,
    #[serde(default)]
    pub(super) class: Option<Class>,
}

impl OptOutsNamed {
    /// Whose texts; everybody's if nobody is named.
    pub(super) fn whom(&self) -> Result<Option<Whom>, Problem> {
        match (self.signature.clone(), self.sender.clone()) {
            (Some(_), Some(_)) => Err(Problem::field("sender", "name a signature or a sender, not both")),
            (signature, sender) => Ok(signature.map(Whom::Signature).or(sender.map(Whom::Sender))),
        }
    }
}

/// `POST /v1/flush`
#[derive(Deserialize)]
pub(super) struct Flush {
    /// Which messages; all of them if it is missing.
    #[serde(default)]
    pub(super) selector: Selector,
}

/// `POST /v1/warmup`
#[derive(Deserialize)]
pub(super) struct WarmupReset {
    pub(super) source: String,
    #[serde(default)]
    pub(super) provider: Option<String>,
    pub(super) day: u32,
}

/// What stands behind the `?`.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(why) => Err(Problem::new(Kind::Invalid, why.body_text())),
        }
    }
}

/// What may be a body.
pub(super) trait Ordered: DeserializeOwned {
    /// The names of its fields. Types that are flattened, or read elsewhere too, cannot refuse others by themselves.
    fn fields(&self) -> &'static [&'static str];
}

impl Ordered for Order {
    fn fields(&self) -> &'static [&'static str] {
        match self.action {
            Action::Pause => &["action", "selector", "reason", "expires_ms"],
            Action::Reroute { .. } => &["action", "to", "selector", "reason", "expires_ms"],
        }
    }
}

impl Ordered for Sentence {
    fn fields(&self) -> &'static [&'static str] {
        &["end", "selector", "reason", "dry_run"]
    }
}

impl Ordered for Flush {
    fn fields(&self) -> &'static [&'static str] {
        &["selector"]
    }
}

impl Ordered for WarmupReset {
    fn fields(&self) -> &'static [&'static str] {
        &["source", "provider", "day"]
    }
}

impl Ordered for OptOutOrder {
    fn fields(&self) -> &'static [&'static str] {
        &["number", "signature", "sender", "class", "client"]
    }
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: Ordered> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let options = app.options.load_full();
        let bounds = Bounds { bytes_max: options.body_bytes_max, timeout: options.body_timeout };
        let body = app.memory.read(request.into_body(), bounds).await?;
        read(&body.bytes).map(Self)
    }
}

/// Reads a `T` and nothing else.
pub(super) fn read<T: Ordered>(bytes: &[u8]) -> Result<T, Problem> {
    let wrong = |error: serde_json::Error| match error.classify() {
        Category::Data => Problem::field("", error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::new(Kind::Malformed, format!("not valid JSON: {error}"))
        }
    };
    // First as an object: serde takes an array for a struct, fields by position; nobody means that.
    let there: Map<String, Value> = serde_json::from_slice(bytes).map_err(wrong)?;
    let read: T = serde_json::from_slice(bytes).map_err(wrong)?;
    let known = read.fields();
    let mut faults = Faults::default();
    for name in there.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.add(name, format!("unknown field; expected one of {}", known.join(", ")));
    }
    if faults.is_empty() { Ok(read) } else { Err(faults.into_problem()) }
}
