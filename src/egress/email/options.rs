//! What an administrator may set about outgoing mail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::mta_sts::MtaStsOptions;
use super::sources::Sources;
use super::tls_policy::TlsPolicies;
use super::tls_rpt::TlsReportOptions;
use crate::provider::Table;

/// Outgoing mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Our name in EHLO; an MX host of this name is ourselves. Default `localhost`.
    pub hostname: String,
    /// The port of MX hosts and address literals. Default 25.
    pub smtp_port: u16,
    /// The addresses that mail leaves from, and whose leaves from which. Default: the system's choice.
    pub sources: Sources,
    /// Prefixes that may be connected to although they are not public. Fixed next hops are always allowed.
    pub allow_private: Vec<IpNet>,
    /// Recipients of one transaction; a consignment with more goes in several (RFC 5321 section 4.5.3.1.8 guarantees 100).
    /// Default 100.
    pub recipients_per_transaction: usize,
    /// How long a connection may stay open without work; dispatch enforces it. Default 30 s.
    pub idle: Duration,
    /// Hosts tried in one attempt. Default 5.
    pub hosts_per_attempt: usize,
    /// Addresses tried of each host. Default 2.
    pub addresses_per_host: usize,
    /// A mail up to this size goes together with its envelope to hosts that offer CHUNKING and PIPELINING: one round trip, at
    /// the price of sending it in vain when it is refused. Larger ones wait for the envelope to be taken. Default 256 KiB.
    pub chunk_at_once_bytes_max: u64,
    /// Which TLS there has to be. Default opportunistic everywhere.
    pub tls: TlsPolicies,
    /// MTA-STS; `None`: what domains publish is not asked for. Default none.
    pub mta_sts: Option<MtaStsOptions>,
    /// Where it is kept over a restart how far sources are warmed up; read at the start only. Default nowhere.
    pub warmup_file: Option<PathBuf>,
    /// TLS reports. Default: sessions are counted, and nothing is sent.
    pub tls_reports: TlsReportOptions,
    /// DANE is followed, where the name servers hand DNSSEC through. Default no.
    pub dane: bool,
    /// What providers' replies mean. Default the shipped table.
    pub providers: Arc<Table>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// How long to wait for what (RFC 5321 section 4.5.3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// A TCP connection. Default 30 s.
    pub connect: Duration,
    /// The greeting. Default 5 min.
    pub greeting: Duration,
    /// The answer to EHLO, STARTTLS and RSET. Default 5 min.
    pub hello: Duration,
    /// The TLS handshake. Default 1 min.
    pub tls: Duration,
    /// The answer to MAIL. Default 5 min.
    pub mail: Duration,
    /// The answer to RCPT. Default 5 min.
    pub recipient: Duration,
    /// The answer to DATA. Default 2 min.
    pub data: Duration,
    /// Each write of content; the whole may take so long and a second for each KiB. Default 3 min.
    pub block: Duration,
    /// The answer to the end of data. Default 10 min.
    pub end_of_data: Duration,
    /// The answer to QUIT. Default 5 s.
    pub quit: Duration,
    /// All of finding a host that talks to us: look-ups, connections, greetings. Default 15 min.
    pub opening: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            smtp_port: 25,
            sources: Sources::default(),
            allow_private: Vec::new(),
            recipients_per_transaction: 100,
            idle: Duration::from_secs(30),
            hosts_per_attempt: 5,
            addresses_per_host: 2,
            chunk_at_once_bytes_max: 256 * 1024,
            tls: TlsPolicies::default(),
            mta_sts: None,
            warmup_file: None,
            tls_reports: TlsReportOptions::default(),
            dane: false,
            providers: Table::shipped(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Timeouts {
    /// The same for everything: tests and very impatient administrators.
    pub fn all(each: Duration) -> Self {
        Self {
            connect: each,
            greeting: each,
            hello: each,
            tls: each,
            mail: each,
            recipient: each,
            data: each,
            block: each,
            end_of_data: each,
            quit: each,
            opening: each.saturating_mul(20),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            connect: Duration::from_secs(30),
            greeting: minutes(5),
            hello: minutes(5),
            tls: minutes(1),
            mail: minutes(5),
            recipient: minutes(5),
            data: minutes(2),
            block: minutes(3),
            end_of_data: minutes(10),
            quit: Duration::from_secs(5),
            opening: minutes(15),
        }
    }
}
