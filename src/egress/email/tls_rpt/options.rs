//! What an administrator may set about TLS reports.

use std::path::PathBuf;
use std::time::Duration;

use super::tally::Bounds;
use crate::model::{Domain, Mailbox};
use crate::net::Authorities;

/// TLS reports (RFC 8460).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsReportOptions {
    /// Who reports; `None`: sessions are counted and shown, and nothing is sent. Default none.
    pub reporter: Option<Reporter>,
    /// How long after a day's end the last of its reports goes; each goes at a time of its own. Default 4 h.
    pub spread: Duration,
    /// How long a report is tried that cannot be delivered. Default 24 h (section 5.5).
    pub retry_for: Duration,
    /// Domains counted in a day. Default 10,000.
    pub domains_max: usize,
    /// Descriptions of failures kept of one domain in a day. Default 50.
    pub details_max: usize,
    /// Memory for all counts, and for reports that wait. Default 32 MiB.
    pub bytes_max: usize,
    /// How long handing over one report by HTTPS may take. Default 30 s.
    pub timeout: Duration,
    /// Who vouches for the hosts that take reports by HTTPS; `None`: any certificate will do (section 3). Default none.
    pub authorities: Option<Authorities>,
    /// Where counts and reports are kept over a restart; read at the start only.
    pub file: Option<PathBuf>,
}

/// Who reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reporter {
    /// The organization's name.
    pub organization: String,
    /// Whom to ask about a report.
    pub contact: Mailbox,
    /// The sender of reports by mail; a DKIM key signs for its domain.
    pub from: Mailbox,
}

impl Reporter {
    /// The domain that reports: the one whose signature the mail bears.
    pub fn domain(&self) -> &Domain {
        self.from.domain()
    }
}

impl Default for TlsReportOptions {
    fn default() -> Self {
        Self {
            reporter: None,
            spread: Duration::from_secs(4 * 3600),
            retry_for: Duration::from_secs(24 * 3600),
            domains_max: 10_000,
            details_max: 50,
            bytes_max: 32 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            authorities: None,
            file: None,
        }
    }
}

impl TlsReportOptions {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { domains_max: self.domains_max, details_max: self.details_max, bytes_max: self.bytes_max }
    }
}
