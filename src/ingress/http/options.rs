//! What an administrator may set for this ingress. Plain values; `config` knows how the keys are spelled.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::policy::texts::TextRules;

/// Settings of the HTTP ingress. All but `address`, `tls` and `bodies_bytes_max` may change while it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. Taken at start.
    pub address: SocketAddr,
    /// Serve TLS; connections are refused while no certificate is loaded. Taken at start.
    pub tls: bool,
    /// Our host name, for Received.
    pub hostname: String,
    /// Largest mail taken, in bytes, as it stands after it was composed.
    pub message_bytes_max: usize,
    /// Most recipients of one mail: To, Cc and Bcc together.
    pub recipients_max: usize,
    /// A mail with more Received fields than this is in a loop.
    pub hops_max: usize,
    /// Memory for request bodies of all connections together, in bytes; beyond it 503. Taken at start.
    pub bodies_bytes_max: usize,
    /// Furthest `send_at` ahead.
    pub send_at_max: Duration,
    /// Furthest `expires_at` ahead.
    pub expires_max: Duration,
    /// Time for a request's body to arrive; then 408.
    pub body_timeout: Duration,
    /// Time for a request as a whole, head excepted; then 503.
    pub request_timeout: Duration,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// What texts must fit.
    pub text_rules: Arc<TextRules>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8025)),
            tls: false,
            hostname: "localhost".to_owned(),
            message_bytes_max: 50 * 1024 * 1024,
            recipients_max: 1_000,
            hops_max: 100,
            bodies_bytes_max: 512 * 1024 * 1024,
            send_at_max: Duration::from_secs(30 * 86_400),
            expires_max: Duration::from_secs(60 * 86_400),
            body_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(90),
            connections: ConnectionLimits::default(),
            text_rules: Arc::default(),
        }
    }
}

impl Options {
    /// Largest request body: base64 makes four bytes of three, and names, escapes and line ends need some room.
    pub fn body_bytes_max(&self) -> usize {
        (self.message_bytes_max / 3).saturating_mul(4).saturating_add(BODY_SLACK_BYTES)
    }
}

/// Bounds on the connections of one HTTP listener.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once; beyond it 503 and closed.
    pub total_max: usize,
    /// Most connections at once from one IPv4 address or IPv6 /64.
    pub per_peer_max: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time from the end of one request to the last byte of the next one's head: a slow head and an idle connection
    /// end here alike.
    pub header_timeout: Duration,
    /// Time a write may wait for a peer that does not read.
    pub write_timeout: Duration,
    /// Largest request head, in bytes; beyond it 431.
    pub header_bytes_max: usize,
    /// Most header fields of a request; beyond it 431.
    pub headers_max: usize,
    /// Time for requests in flight to finish when the server stops.
    pub drain_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total_max: 1_024,
            per_peer_max: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            header_bytes_max: 64 * 1024,
            headers_max: 64,
            drain_timeout: Duration::from_secs(8),
        }
    }
}

/// What a request may need besides the mail's bytes in base64.
const BODY_SLACK_BYTES: usize = 64 * 1024;
