//! What can be set about SMTP in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::ClientName;
use crate::wire::smtp::server::{LongLines, Terms, Tls};

/// One listener. Fixed while it runs.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// How TLS begins.
    pub tls: TlsMode,
    /// Whether clients must say who they are.
    pub auth: AuthMode,
    /// Offers AUTH without TLS. Only on a loopback address; elsewhere binding fails.
    pub plaintext_auth: bool,
    /// Peers that need no AUTH and act as `trusted_client`.
    pub trusted: Vec<IpNet>,
    /// The client that trusted peers act as.
    pub trusted_client: Option<ClientName>,
}

/// How TLS begins on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// Never.
    None,
    /// By STARTTLS, while there is a certificate.
    #[default]
    StartTls,
    /// At once (RFC 8314 section 3.3).
    Implicit,
}

/// Whether clients of a listener authenticate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuthMode {
    /// They must, unless they are trusted.
    #[default]
    Required,
    /// They may; who neither does nor is trusted may send nothing.
    Optional,
    /// AUTH is not offered; only trusted peers may send.
    None,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 587),
            tls: TlsMode::default(),
            auth: AuthMode::default(),
            plaintext_auth: false,
            trusted: Vec::new(),
            trusted_client: None,
        }
    }
}

impl Listener {
    /// The client that `peer` acts as without AUTH.
    pub(super) fn trusts(&self, peer: IpAddr) -> Option<&ClientName> {
        let peer = peer.to_canonical();
        self.trusted_client.as_ref().filter(|_| self.trusted.iter().any(|net| net.contains(&peer)))
    }
}

/// Limits and times of all listeners. A change applies to connections made after it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our name in the greeting, EHLO and Received.
    pub hostname: Arc<str>,
    /// Largest message, in bytes. Default 50 MiB.
    pub message_bytes_max: usize,
    /// Bytes of message data that all connections together may hold before the queue has them. Default 512 MiB.
    pub receiving_bytes_max: usize,
    /// Most recipients of one message. Default 1,000.
    pub recipients_max: usize,
    /// Most connections at a time. Default 2,000.
    pub connections_max: usize,
    /// Most connections at a time from one IPv4 address or IPv6 /64 that is not trusted. Default 100.
    pub connections_per_peer_max: usize,
    /// How long a command, or the reading of a reply, may take (RFC 5321 section 4.5.3.2.7). Default 5 minutes.
    pub command_timeout: Duration,
    /// How long a TLS handshake may take. Default 30 seconds.
    pub handshake_timeout: Duration,
    /// How long message data may pause. Default 3 minutes (RFC 5321 section 4.5.3.2.5).
    pub data_idle_timeout: Duration,
    /// Message data must come at this rate at least, in bytes a second, over each `data_window`. Default 128.
    pub data_rate_min: u64,
    /// Default 1 minute.
    pub data_window: Duration,
    /// Permanent refusals between two messages after which a connection is closed with 421. Default 20.
    pub errors_max: u32,
    /// Failed AUTHs after which a connection is closed with 421. Default 3.
    pub auth_failures_max: u32,
    /// Messages of one connection, after which it is closed with 421. Default 10,000.
    pub messages_max: u32,
    /// More Received fields than this are a loop. Default 100.
    pub hops_max: usize,
    /// Furthest `X-Postrider-Send-At` ahead. Default 30 days.
    pub send_at_max: Duration,
    /// What happens to lines over 998 octets. Default: refused.
    pub long_lines: LongLines,
    /// How long open transactions may go on once the relay is told to stop. Default 7 seconds.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            message_bytes_max: 50 * 1024 * 1024,
            receiving_bytes_max: 512 * 1024 * 1024,
            recipients_max: 1_000,
            connections_max: 2_000,
            connections_per_peer_max: 100,
            command_timeout: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(30),
            data_idle_timeout: Duration::from_secs(180),
            data_rate_min: 128,
            data_window: Duration::from_secs(60),
            errors_max: 20,
            auth_failures_max: 3,
            messages_max: 10_000,
            hops_max: 100,
            send_at_max: Duration::from_secs(30 * 86_400),
            long_lines: LongLines::Refuse,
            drain_timeout: Duration::from_secs(7),
        }
    }
}

impl Options {
    /// The terms of a session on `listener`.
    pub(super) fn terms(&self, listener: &Listener, tls: Tls) -> Terms {
        Terms {
            hostname: self.hostname.clone(),
            message_bytes_max: self.message_bytes_max,
            recipients_max: self.recipients_max,
            errors_max: self.errors_max,
            auth_failures_max: self.auth_failures_max,
            // What is read for the sake of a proper refusal: four messages of the largest size.
            discard_bytes_max: (self.message_bytes_max as u64).saturating_mul(4),
            long_lines: self.long_lines,
            tls,
            auth: listener.auth != AuthMode::None,
            plaintext_auth: listener.plaintext_auth,
        }
    }
}
