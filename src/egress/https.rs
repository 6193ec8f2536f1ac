//! Being an HTTP client: one HTTPS request to a host that a stranger's DNS names (an MTA-STS policy fetched, a TLS report handed
//! over) by [`Reach`], and what requests to hosts of the administrator's have in common with it.
//!
//! **Promises.** [`Reach`] applies the address policy to the address that is dialled. Redirects are not followed. What comes before
//! the body is bounded, and so is a body that [`whole`] reads.
//!
//! **Does not know** what is asked, and how long all of it may take: whoever calls gives up in time.
//!
//! **Fails how.** [`HttpsError`]: a kind for the metrics and words for the log. The peer's bytes are read by hyper.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::clock::Timestamp;
use crate::dns::Resolver;
use crate::net::tls;
use crate::net::{self, AddressPolicy};

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Room for a response's header section.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Why there is no good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HttpsError {
    /// `dns`, `connect`, `tls`, `http` or `timeout`; and whatever else a caller calls a fault of what came.
    pub(super) kind: &'static str,
    why: String,
}

impl HttpsError {
    pub(super) fn new(kind: &'static str, why: impl fmt::Display) -> Self {
        Self { kind, why: why.to_string() }
    }
}

impl fmt::Display for HttpsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Who we are.
pub(super) const USER_AGENT: &str = concat!("postrider/", env!("CARGO_PKG_VERSION"));

/// A body that is there already.
#[derive(Debug)]
pub(super) struct Whole(Option<Bytes>);

impl Whole {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// The bytes.
    #[cfg(test)]
    pub(super) fn into_bytes(self) -> Bytes {
        self.0.unwrap_or_default()
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// An answer, whose body has yet to be read. The connection ends with it.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _driving: Driving,
}

/// What drives a connection; dropped, it ends it.
pub(super) type Driving = JoinSet<hyper::Result<()>>;

/// Speaks HTTP/1.1 over what is connected.
pub(super) async fn client<S>(stream: S) -> hyper::Result<(http1::SendRequest<Whole>, Driving)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let building = http1::Builder::new().max_buf_size(HEADER_BYTES_MAX).handshake::<_, Whole>(TokioIo::new(stream));
    let (sender, connection) = building.await?;
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    Ok((sender, driving))
}

/// How long `Retry-After` (RFC 9110 section 10.2.3) asks to wait: seconds, or until a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let said = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(said).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_seconds(at.as_secs()).since(now))
}

/// A body as a whole; `None` of one that is longer than `most` bytes.
pub(super) async fn whole(body: &mut Incoming, most: usize) -> hyper::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > most {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read))
}

/// How hosts are reached.
pub(super) struct Reach<'a> {
    pub(super) resolver: &'a Resolver,
    pub(super) addresses: AddressPolicy,
    /// How long connecting to one address may take.
    pub(super) timeout: Duration,
    pub(super) with: Arc<ClientConfig>,
}

impl Reach<'_> {
    /// Makes a request of `host`; the fields that every request has are added to it.
    pub(super) async fn ask(&self, host: &str, port: u16, mut request: Request<Whole>) -> Result<Answer, HttpsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| HttpsError::new("dns", format!("{host}: {e}")))?;
        let failed = |e: &dyn fmt::Display| HttpsError::new("http", format!("{host}: {e}"));
        let authority = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
        let fields = request.headers_mut();
        fields.insert(header::HOST, authority.parse().map_err(|e| failed(&e))?);
        fields.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        fields.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let tcp = self.connect(host, port).await?;
        let securing = TlsConnector::from(self.with.clone()).connect(name, tcp).await;
        let secured = securing.map_err(|e| HttpsError::new("tls", format!("{host}: {}", tls::trouble(&e))))?;
        let (mut sender, driving) = client(secured).await.map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        Ok(Answer { response, _driving: driving })
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HttpsError> {
        let found = self.resolver.addresses(host).await;
        let found = found.map_err(|e| HttpsError::new("dns", format!("{host}: {e}")))?;
        let mut last = HttpsError::new("dns", format!("{host} has no address"));
        for address in found.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, port);
            match net::connect(address, None, self.timeout, &self.addresses).await {
                Ok(tcp) => return Ok(tcp),
                Err(e) => last = HttpsError::new("connect", format!("{host} at {address}: {e}")),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse_rfc3339("2026-11-28T04:00:00Z").unwrap();
        for (said, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sat, 28 Nov 2026 04:01:30 GMT", Some(90)),
            ("Sat, 28 Nov 2026 03:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, said.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{said}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
