//! What a run found: for programs as JSON, for people as text.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The result of a run. `accepted + refused + unanswered == attempted`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Tells this run's messages apart: Message-IDs are `SEQUENCE.RUN@sender-domain`.
    pub run: String,
    /// `smtp` or `http`.
    pub protocol: &'static str,
    /// Where it went.
    pub address: String,
    /// Connections held at once.
    pub connections: usize,
    /// Connections made in all; more than `connections` if some broke.
    pub connections_made: u64,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// Messages tried.
    pub attempted: u64,
    /// Messages answered yes.
    pub accepted: u64,
    /// Messages answered no, or whose connection broke before their content was sent.
    pub refused: u64,
    /// Messages whose connection broke after their content was sent: taken or not, nobody knows.
    pub unanswered: u64,
    /// Seconds from the first connection to the last reply.
    pub elapsed_s: f64,
    /// Accepted messages a second.
    pub rate: f64,
    /// From the last byte of a message to the reply that says yes.
    pub latency_ms: Latency,
    /// Failures by reply code, or `connect`, `tls`, `refused` (at connection set-up), `closed`, `timeout`, `protocol`.
    pub failures: BTreeMap<String, FailureCount>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// 1 in 100 was slower.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// How often something failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FailureCount {
    /// How often.
    pub count: u64,
    /// What the other side or the system said the first time.
    pub example: String,
}

impl Report {
    /// True if every message was accepted and there was at least one.
    pub fn all_accepted(&self) -> bool {
        self.attempted > 0 && self.accepted == self.attempted
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10}  accepted by {} ({})", self.accepted, self.address, self.protocol)?;
        writeln!(f, "{:>10}  refused", self.refused)?;
        writeln!(f, "{:>10}  unanswered", self.unanswered)?;
        writeln!(
            f,
            "{:>10.0}  messages/s over {:.1} s: {} connections ({} made), {} bytes a message",
            self.rate, self.elapsed_s, self.connections, self.connections_made, self.message_bytes
        )?;
        let Latency { p50, p99, max } = self.latency_ms;
        write!(f, "{p50:>10.2}  ms from end of data to reply, p50; p99 {p99:.2}, max {max:.2}")?;
        for (name, FailureCount { count, example }) in &self.failures {
            write!(f, "\n{count:>10}  × {name}: {}", example.replace('\n', " "))?;
        }
        Ok(())
    }
}
