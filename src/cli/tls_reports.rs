//! `postrider tls-reports`

use serde_json::json;

use super::control::{Which, unexpected};
use super::output::{BOLD, Cell, DIM, NAME, WAITING, hidden, paint, plural, printable, table};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::egress::email::{FailureDetail, TlsReportsView};

/// Show what became of TLS with mail hosts today, by domain
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider tls-reports --config /etc/postrider/postrider.toml\n  postrider tls-reports --config \
                        /etc/postrider/postrider.toml --send-now\n\nThe day is that of UTC. After its end each domain that \
                        asks for it (_smtp._tls.DOMAIN, RFC 8460) is sent its own counts. --send-now ends the day at once: \
                        the reports say until when they count."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Most domains shown, those with most failures first
    #[arg(long, value_name = "N", default_value_t = 30)]
    domains: usize,
    /// End the period now and send its reports
    #[arg(long, conflicts_with = "domains")]
    send_now: bool,
    /// Print all of it as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let request = match self.send_now {
            true => Request::SendTlsReports,
            false => Request::TlsReports { domains: self.domains },
        };
        match self.which.ask(&request)? {
            Response::TlsReports(view) if self.json => Ok(output::print_json(&view)?),
            Response::TlsReports(view) => Ok(output::print(&for_people(&view))?),
            Response::TlsReportsDue { reports } if self.json => Ok(output::print_json(&json!({ "reports": reports }))?),
            Response::TlsReportsDue { reports } => {
                Ok(output::print(&format!("{} due now", plural(reports, "report")))?)
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn for_people(view: &TlsReportsView) -> String {
    let mut out = format!("{} since {}", paint(BOLD, &plural(view.domains_total, "domain")), view.since);
    if view.reports_waiting > 0 {
        out.push_str(&format!(", {} not delivered yet", plural(view.reports_waiting, "report")));
    }
    out.push('\n');
    if !view.sends {
        out.push_str(&paint(WAITING, "no reports are sent: [tls_reports] names no organization, contact and from"));
        out.push('\n');
    }
    if view.left_out.sessions > 0 || view.left_out.details > 0 {
        let (sessions, details) = (plural(view.left_out.sessions, "session"), plural(view.left_out.details, "failure"));
        out.push_str(&format!("left out for want of room: {sessions}, and the description of {details}\n"));
    }
    if view.domains.is_empty() {
        return out;
    }
    let head = |text: &str| Cell::new(text).styled(DIM);
    let mut rows = vec![vec![
        head("domain"),
        head("policy"),
        head("succeeded").at_right(),
        head("failed").at_right(),
        head("why"),
    ]];
    for domain in &view.domains {
        for result in &domain.policies {
            let why: Vec<String> = result.failure_details.iter().map(in_words).collect();
            rows.push(vec![
                Cell::new(printable(&domain.domain)).styled(NAME),
                Cell::new(result.policy.policy_type.as_str()),
                Cell::number(result.summary.total_successful_session_count),
                Cell::number(result.summary.total_failure_session_count),
                Cell::new(printable(&why.join("; "))),
            ]);
        }
    }
    out.push_str(&table(&rows));
    out.push_str(&hidden(view.domains_total.saturating_sub(view.domains.len() as u64), "domain", "--domains"));
    out
}

fn in_words(failure: &FailureDetail) -> String {
    let at = failure.receiving_mx_hostname.as_deref().map_or_else(String::new, |host| format!(" at {host}"));
    let why = failure.failure_reason_code.as_deref().map_or_else(String::new, |why| format!(" ({why})"));
    format!("{}{at}{why}: {}", failure.result_type.as_str(), failure.failed_session_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_a_table() {
        let view = r#"{"since":"2026-11-26T00:00:00.000000Z","sends":false,"domains_total":2,"reports_waiting":1,
            "left_out":{"sessions":5,"details":1},
            "domains":[{"domain":"x.example","successful":3,"failed":2,"policies":[{
                "policy":{"policy-type":"sts","policy-domain":"x.example"},
                "summary":{"total-successful-session-count":3,"total-failure-session-count":2},
                "failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx.x.example",
                    "failed-session-count":2,"failure-reason-code":"its certificate has expired"}]}]}]}"#;
        let shown = for_people(&serde_json::from_str(view).unwrap());
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "2 domains since 2026-11-26T00:00:00.000000Z, 1 report not delivered yet\n\
             no reports are sent: [tls_reports] names no organization, contact and from\n\
             left out for want of room: 5 sessions, and the description of 1 failure\n\
             domain     policy  succeeded  failed  why\n\
             x.example  sts             3       2  certificate-expired at mx.x.example (its certificate has expired): 2\n\
             and 1 domain more: --domains N shows them\n"
        );
    }
}
