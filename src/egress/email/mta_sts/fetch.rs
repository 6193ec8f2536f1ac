//! Getting a domain's policy: one HTTPS GET (RFC 8461 section 3.3).
//!
//! **Promises.** The certificate must be verified and in the policy host's name; redirects are not followed; what is not
//! `text/plain`, or longer than the limit, is no policy. The address policy is applied to the address that is dialled.
//!
//! **Does not know** how long all of it may take: whoever calls gives up in time.
//!
//! **Fails how.** [`FetchError`]: a kind for the metrics and words for the log. The peer's bytes are read by hyper.

use std::fmt;
use std::sync::Arc;

use hyper::{Request, StatusCode, header};
use rustls::ClientConfig;

use super::MtaStsOptions;
use super::record::{self, StsPolicy};
use crate::dns::Resolver;
use crate::egress::https::{self, Answer, Whole};
use crate::model::Domain;
use crate::net::AddressPolicy;
use crate::net::tls::TlsError;

/// Where a policy lies.
const PATH: &str = "/.well-known/mta-sts.txt";

/// Why there is no policy; its kind may also be `policy`: what came is none.
pub(super) use crate::egress::https::HttpsError as FetchError;

impl FetchError {
    /// There is nobody to trust.
    pub(super) fn of(error: &TlsError) -> Self {
        self::error("tls", error)
    }

    /// It took too long.
    pub(super) fn late(domain: &Domain) -> Self {
        self::error("timeout", format!("mta-sts.{domain} gave no policy in time"))
    }
}

fn error(kind: &'static str, why: impl fmt::Display) -> FetchError {
    FetchError::new(kind, why)
}

/// How policy hosts are reached.
pub(super) struct Reach<'a> {
    pub(super) resolver: &'a Resolver,
    pub(super) options: &'a MtaStsOptions,
    pub(super) addresses: AddressPolicy,
    pub(super) with: Arc<ClientConfig>,
}

impl Reach<'_> {
    /// The policy that `domain`, in A-labels, has published.
    pub(super) async fn fetch(self, domain: &Domain) -> Result<StsPolicy, FetchError> {
        let host = format!("mta-sts.{domain}");
        let text = self.ask(&host).await?;
        record::policy(&text).ok_or_else(|| error("policy", format!("what {host} serves is not a policy")))
    }

    async fn ask(self, host: &str) -> Result<String, FetchError> {
        let Self { resolver, options, addresses, with } = self;
        let reach = https::Reach { resolver, addresses, timeout: options.timeout, with };
        let request = Request::get(PATH).body(Whole::new(""));
        let request = request.map_err(|e| error("http", format!("{host}: {e}")))?;
        let answer = reach.ask(host, options.port, request).await?;
        body(host, answer, options.policy_bytes_max).await
    }
}

async fn body(host: &str, mut answer: Answer, most: usize) -> Result<String, FetchError> {
    let response = &mut answer.response;
    if response.status() != StatusCode::OK {
        // A redirect, too: it must not be followed (RFC 8461 section 3.3).
        return Err(error("http", format!("{host} answers {}", response.status())));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/plain") {
        return Err(error("http", format!("{host} serves something else than text/plain")));
    }
    let text = https::whole(response.body_mut(), most).await.map_err(|e| error("http", format!("{host}: {e}")))?;
    let text = text.ok_or_else(|| error("policy", format!("the policy of {host} is longer than {most} bytes")))?;
    String::from_utf8(text).map_err(|_| error("policy", format!("what {host} serves is not text")))
}
