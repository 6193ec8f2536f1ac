//! What has been counted so far, as operators are shown it.

use serde::{Deserialize, Serialize};

use super::tally::{LeftOut, PolicyResult};
use super::{TlsReportOptions, TlsReports};

/// The period under way, and what waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsReportsView {
    /// When the period began, RFC 3339.
    pub since: String,
    /// True if its reports will be sent.
    pub sends: bool,
    /// The domains with most failures, then those with most sessions.
    pub domains: Vec<DomainSessions>,
    /// How many domains there are, those not listed included.
    pub domains_total: u64,
    /// What found no room.
    pub left_out: LeftOut,
    /// Reports of earlier periods that have not been delivered yet.
    pub reports_waiting: u64,
}

/// A domain's sessions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainSessions {
    /// The domain, in A-labels.
    pub domain: String,
    /// Sessions that succeeded.
    pub successful: u64,
    /// Sessions that failed, or would have failed had the policy been enforced.
    pub failed: u64,
    /// By policy, as the report will say it.
    pub policies: Vec<PolicyResult>,
}

impl TlsReports {
    /// What has been counted since the period began; at most `most` domains.
    pub fn view(&self, options: &TlsReportOptions, most: usize) -> TlsReportsView {
        let mut state = self.state.lock();
        self.turn_day(&mut state, options);
        let summed = |results: &[PolicyResult]| {
            let add = |(good, bad), r: &PolicyResult| {
                (good + r.summary.total_successful_session_count, bad + r.summary.total_failure_session_count)
            };
            results.iter().fold((0, 0), add)
        };
        let mut ranked: Vec<_> = state.tally.domains.iter().map(|(domain, r)| (summed(r), domain, r)).collect();
        ranked.sort_by_key(|((good, bad), domain, _)| (std::cmp::Reverse((*bad, *good)), *domain));
        let domains_total = ranked.len() as u64;
        let shown = ranked.into_iter().take(most).map(|((successful, failed), domain, results)| {
            let (domain, policies) = (domain.to_string(), results.clone());
            DomainSessions { domain, successful, failed, policies }
        });
        TlsReportsView {
            since: state.tally.start.rfc3339(),
            sends: options.reporter.is_some(),
            domains: shown.collect(),
            domains_total,
            left_out: state.tally.left_out,
            reports_waiting: state.waiting.len() as u64,
        }
    }
}
