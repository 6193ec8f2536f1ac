//! The operators' API: over HTTP what the control socket offers to the commands, for whoever shows the token.
//!
//! **What.** Routes below `/v1` on the `[admin]` address. Each is one [`Request`] of the control socket; the body of a 200 is
//! the [`Response`](super::control::Response) that the socket would have carried, word for word.
//!
//! **Promises.** Without a token in the configuration nothing is served; with one, it is looked at before anything else of a
//! request is. Bodies, answers and what is asked at a time are bounded; an unknown field is refused rather than passed over,
//! since an order that lost its `dry_run` to a slip of the pen would do harm. An order is carried out even if whoever gave it
//! hangs up; who gave it, and from where, is logged and stands in the event.
//!
//! **Does not know** what a request does: that is [`Operator`]'s.
//!
//! **Fails how.** RFC 9457 problem details, as the applications' API has them.

mod auth;
mod input;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{MatchedPath, Path, Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{MethodRouter, delete, get, post};
use tokio::sync::Semaphore;

use self::input::{Body, Domains, Explained, Flush, Lanes, OptOutsNamed, OptOutsOf, Parameters, WarmupReset};
use super::control::{self, Operator, OptOutOrder, RESPONSE_BYTES_MAX, Request, Response, Unserved};
use super::http::Options;
use crate::event::metrics::Metrics;
use crate::ingress::http::body::BodyMemory;
use crate::ingress::http::listen::Peer;
use crate::ingress::http::problem::{Faults, Kind, Problem};
use crate::model::MessageId;
use crate::policy::credentials::Credentials;
use crate::queue::steer::Sentence;
use crate::queue::steering::{Order, SteerError, Which};

/// What the API works with.
#[derive(Clone)]
pub struct Api {
    /// Carries orders out.
    pub operator: Arc<dyn Operator>,
    /// Counts wrong tokens, by network.
    pub credentials: Credentials,
    /// Where they are counted as well.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// What every request needs. Cheap to clone.
#[derive(Clone, Debug)]
struct App {
    api: Api,
    options: Arc<ArcSwap<Options>>,
    memory: BodyMemory,
    /// Requests being served; what an operator waits for blocks a thread.
    places: Arc<Semaphore>,
}

/// Every route served.
fn routes() -> [(Method, &'static str, MethodRouter<App>); 21] {
    [
        (Method::GET, "/status", get(async |asker: Asker| asker.ask(Request::Status).await)),
        (Method::GET, "/queue", get(queue)),
        (Method::GET, "/messages", get(explain)),
        (Method::GET, "/messages/{id}", get(explain_one)),
        (Method::GET, "/steering", get(async |asker: Asker| asker.ask(Request::Rules).await)),
        (Method::POST, "/steering", post(order)),
        (Method::DELETE, "/steering/{rule}", delete(end_rule)),
        (Method::POST, "/hold", post(async |asker: Asker| asker.ask(Request::Pause).await)),
        (Method::DELETE, "/hold", delete(async |asker: Asker| asker.ask(Request::Resume).await)),
        (Method::POST, "/flush", post(flush)),
        (Method::POST, "/sweep", post(sweep)),
        (Method::GET, "/warmup", get(async |asker: Asker| asker.ask(Request::Warmup).await)),
        (Method::POST, "/warmup", post(reset_warmup)),
        (Method::GET, "/tls-reports", get(tls_reports)),
        (Method::POST, "/tls-reports", post(async |asker: Asker| asker.ask(Request::SendTlsReports).await)),
        (Method::GET, "/opt-outs", get(opt_outs)),
        (Method::POST, "/opt-outs", post(add_opt_out)),
        (Method::DELETE, "/opt-outs/{number}", delete(remove_opt_outs)),
        (Method::GET, "/ported", get(ported)),
        (Method::DELETE, "/ported/{number}", delete(forget_ported)),
        (Method::POST, "/reload", post(async |asker: Asker| asker.ask(Request::Reload).await)),
    ]
}

/// The API, to be nested below `/v1`.
pub(super) fn router(api: Api, options: Arc<ArcSwap<Options>>) -> Router {
    let now = options.load();
    // One body of the largest size must always find room.
    let memory = BodyMemory::new(now.bodies_bytes_max.max(now.body_bytes_max));
    drop(now);
    let app = App { api, options, memory, places: Arc::new(Semaphore::new(PLACES)) };
    let served = routes().into_iter().fold(Router::new(), |router, (_, path, served)| router.route(path, served));
    served
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "see Allow for the methods served"))
        .fallback(async || no_such_route())
        .layer(from_fn_with_state(app.clone(), guarded))
        .with_state(app)
}

fn no_such_route() -> Problem {
    Problem::new(Kind::NotFound, "no such route; see docs/admin-api.md")
}

/// Around every request: who asks is looked at before, and what was ordered is logged afterwards.
async fn guarded(State(app): State<App>, mut request: HttpRequest, next: Next) -> HttpResponse {
    let Some(peer) = request.extensions().get::<Peer>().map(|peer| peer.ip) else {
        return Problem::new(Kind::Internal, "a request without a peer").into_response();
    };
    if let Err(problem) = auth::check(&app, request.headers(), peer) {
        return auth::refused(problem);
    }
    let by: Arc<str> = format!("admin-api ({peer})").into();
    request.extensions_mut().insert(By(by.clone()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if method != Method::GET && method != Method::HEAD {
        let route = route.as_ref().map_or("other", MatchedPath::as_str);
        tracing::info!(%method, route, status = response.status().as_u16(), by = &*by, "an operator has asked over HTTP");
    }
    response
}

/// Who asks.
#[derive(Clone, Debug)]
struct By(Arc<str>);

/// Somebody who has shown the token, and all that is needed to serve a request.
struct Asker {
    app: App,
    by: Arc<str>,
}

impl axum::extract::FromRequestParts<App> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let By(by) = parts.extensions.get().cloned().ok_or_else(|| Problem::new(Kind::Internal, "nobody asks"))?;
        Ok(Self { app: app.clone(), by })
    }
}

impl Asker {
    /// Has a request served and answers with what came of it.
    async fn ask(&self, request: Request) -> Result<HttpResponse, Problem> {
        self.ask_if(request, |_| Ok(())).await
    }

    /// The same for an answer that may be a refusal in truth.
    async fn ask_if(
        &self,
        request: Request,
        check: fn(&Response) -> Result<(), Problem>,
    ) -> Result<HttpResponse, Problem> {
        let json = self
            .blocking(move |operator, by| {
                let response = control::answer(operator, request, by, &mut |_| {}).map_err(refusal)?;
                check(&response)?;
                let json = serde_json::to_vec(&response).map_err(|e| Problem::new(Kind::Internal, e.to_string()))?;
                let fits = json.len() <= RESPONSE_BYTES_MAX;
                fits.then_some(json).ok_or_else(|| Problem::new(Kind::Invalid, "the answer is too long: ask for less"))
            })
            .await?;
        Ok((StatusCode::OK, [(CONTENT_TYPE, "application/json")], json).into_response())
    }

    /// Does what may block on a thread that may wait. It goes on if whoever asked hangs up.
    async fn blocking<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Operator, &str) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.app.places.clone().try_acquire_owned();
        let busy = || Problem::new(Kind::Busy, "too many requests are being served").retry_after(BUSY_RETRY);
        let place = place.map_err(|_| busy())?;
        let (operator, by) = (self.app.api.operator.clone(), self.by.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            what(&*operator, &by)
        });
        done.await.map_err(|_| Problem::new(Kind::Internal, "the request was not served to its end"))?
    }
}

/// What HTTP calls a request that was not served.
fn refusal(unserved: Unserved) -> Problem {
    let kind = match &unserved {
        Unserved::Order(SteerError::NoSuchRule) => Kind::NotFound,
        Unserved::Order(SteerError::Bad(_) | SteerError::TooMany) => Kind::Invalid,
        Unserved::Order(SteerError::NotKept(_) | SteerError::EndNotKept(_)) => Kind::Internal,
        Unserved::Cannot(why) => {
            // All mistakes of a configuration, say.
            let mut faults = Faults::default();
            why.lines().for_each(|line| faults.add("", line));
            return faults.into_problem();
        }
    };
    Problem::new(kind, unserved.to_string())
}

async fn queue(asker: Asker, Parameters(Lanes { lanes }): Parameters<Lanes>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Queue { lanes }).await
}

async fn explain(asker: Asker, Parameters(asked): Parameters<Explained>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Explain { what: asked.address, most: asked.limit }).await
}

async fn explain_one(asker: Asker, id: Result<Path<String>, PathRejection>) -> Result<HttpResponse, Problem> {
    fn unknown() -> Problem {
        Problem::new(Kind::NotFound, "no such message is waiting, and none has ended lately")
    }
    let id = id.ok().and_then(|Path(id)| id.parse::<MessageId>().ok()).ok_or_else(unknown)?;
    let found = |response: &Response| match response {
        Response::Messages { messages } if messages.is_empty() => Err(unknown()),
        _ => Ok(()),
    };
    asker.ask_if(Request::Explain { what: id.to_string(), most: 1 }, found).await
}

async fn order(asker: Asker, Body(order): Body<Order>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Order { order }).await
}

/// Numbers are never used again, so the rule that is ended is the one whose command was looked up.
async fn end_rule(asker: Asker, rule: Result<Path<String>, PathRejection>) -> Result<HttpResponse, Problem> {
    let unknown = || refusal(Unserved::Order(SteerError::NoSuchRule));
    let id = rule.ok().and_then(|Path(id)| id.parse::<u64>().ok()).ok_or_else(unknown)?;
    let action = asker.blocking(move |operator, _| {
        let rules = operator.rules();
        let rule = rules.iter().find(|view| view.rule.id == id).ok_or_else(unknown)?;
        Ok(rule.rule.action.as_str().to_owned())
    });
    let action = action.await?;
    asker.ask(Request::EndRule { action, which: Which::Id(id) }).await
}

async fn flush(asker: Asker, Body(Flush { selector }): Body<Flush>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Flush { selector }).await
}

async fn sweep(asker: Asker, Body(sentence): Body<Sentence>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Sweep { sentence }).await
}

async fn reset_warmup(asker: Asker, Body(reset): Body<WarmupReset>) -> Result<HttpResponse, Problem> {
    let WarmupReset { source, provider, day } = reset;
    asker.ask(Request::ResetWarmup { source, provider, day }).await
}

async fn tls_reports(asker: Asker, Parameters(asked): Parameters<Domains>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::TlsReports { domains: asked.domains }).await
}

async fn opt_outs(asker: Asker, Parameters(asked): Parameters<OptOutsOf>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::OptOuts { number: asked.number, most: asked.limit }).await
}

async fn add_opt_out(asker: Asker, Body(entry): Body<OptOutOrder>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::AddOptOut { entry }).await
}

async fn remove_opt_outs(
    asker: Asker,
    number: Result<Path<Arc<str>>, PathRejection>,
    Parameters(named): Parameters<OptOutsNamed>,
) -> Result<HttpResponse, Problem> {
    let Path(number) = number.map_err(|_| Problem::field("number", "not a number"))?;
    asker.ask(Request::RemoveOptOuts { number, whom: named.whom()?, class: named.class }).await
}

async fn ported(asker: Asker, Parameters(asked): Parameters<OptOutsOf>) -> Result<HttpResponse, Problem> {
    asker.ask(Request::Ported { number: asked.number, most: asked.limit }).await
}

async fn forget_ported(asker: Asker, number: Result<Path<Arc<str>>, PathRejection>) -> Result<HttpResponse, Problem> {
    let Path(number) = number.map_err(|_| Problem::field("number", "not a number"))?;
    asker.ask(Request::ForgetPorted { number }).await
}

/// Most requests served at a time.
const PLACES: usize = 16;
/// When to come back if there is no place.
const BUSY_RETRY: Duration = Duration::from_secs(1);
