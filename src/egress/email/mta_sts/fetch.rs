//! Getting a domain's policy: one HTTPS GET (RFC 8461 section 3.3).
//!
//! **Promises.** The certificate must be verified and in the policy host's name; redirects are not followed; what is not
//! `text/plain`, or longer than the limit, is no policy. The address policy is applied to the address that is dialled.
//!
//! **Does not know** how long all of it may take: whoever calls gives up in time.
//!
//! **Fails how.** [`FetchError`]: a kind for the metrics and words for the log. The peer's bytes are read by hyper.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::MtaStsOptions;
use super::record::{self, StsPolicy};
use crate::dns::Resolver;
use crate::model::Domain;
use crate::net::tls::{self, TlsError};
use crate::net::{self, AddressPolicy};

/// Where a policy lies.
const PATH: &str = "/.well-known/mta-sts.txt";
/// Addresses of the policy host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Room for a response's header section.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Why there is no policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FetchError {
    /// `dns`, `connect`, `tls`, `http`, `policy` or `timeout`.
    pub(super) kind: &'static str,
    why: String,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

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
    FetchError { kind, why: why.to_string() }
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
    pub(super) async fn fetch(&self, domain: &Domain) -> Result<StsPolicy, FetchError> {
        let host = format!("mta-sts.{domain}");
        let text = self.ask(&host).await?;
        record::policy(&text).ok_or_else(|| error("policy", format!("what {host} serves is not a policy")))
    }

    async fn ask(&self, host: &str) -> Result<String, FetchError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| error("dns", format!("{host}: {e}")))?;
        let tcp = self.connect(host).await?;
        let securing = TlsConnector::from(self.with.clone()).connect(name, tcp).await;
        let secured = securing.map_err(|e| error("tls", format!("{host}: {}", tls::trouble(&e))))?;
        let failed = |e: hyper::Error| error("http", format!("{host}: {e}"));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEADER_BYTES_MAX)
            .handshake::<_, String>(TokioIo::new(secured))
            .await
            .map_err(failed)?;
        // Ends with this function.
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        let request = Request::get(PATH)
            .header(header::HOST, self.authority(host))
            .header(header::USER_AGENT, concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(String::new())
            .map_err(|e| error("http", format!("{host}: {e}")))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        self.body(host, response).await
    }

    fn authority(&self, host: &str) -> String {
        match self.options.port {
            443 => host.to_owned(),
            port => format!("{host}:{port}"),
        }
    }

    async fn connect(&self, host: &str) -> Result<TcpStream, FetchError> {
        let found = self.resolver.addresses(host).await.map_err(|e| error("dns", format!("{host}: {e}")))?;
        let mut last = error("dns", format!("{host} has no address"));
        for address in found.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, self.options.port);
            match net::connect(address, None, self.options.timeout, &self.addresses).await {
                Ok(tcp) => return Ok(tcp),
                Err(e) => last = error("connect", format!("{host} at {address}: {e}")),
            }
        }
        Err(last)
    }

    async fn body(&self, host: &str, response: Response<Incoming>) -> Result<String, FetchError> {
        if response.status() != StatusCode::OK {
            // A redirect, too: it must not be followed (RFC 8461 section 3.3).
            return Err(error("http", format!("{host} answers {}", response.status())));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/plain") {
            return Err(error("http", format!("{host} serves something else than text/plain")));
        }
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame.map_err(|e| error("http", format!("{host}: {e}")))?.into_data() else { continue };
            if text.len() + data.len() > self.options.policy_bytes_max {
                let most = self.options.policy_bytes_max;
                return Err(error("policy", format!("the policy of {host} is longer than {most} bytes")));
            }
            text.extend_from_slice(&data);
        }
        String::from_utf8(text).map_err(|_| error("policy", format!("what {host} serves is not text")))
    }
}
