//! A report that is to be sent: what it says, when it is due, and where it has been taken already.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tally::{PolicyResult, bytes_of};
use crate::clock::Timestamp;
use crate::model::Domain;

/// The first pause after a delivery that failed; each further one is twice as long (RFC 8460 section 5.5).
const RETRY_FIRST: Duration = Duration::from_secs(300);
/// The longest one.
const RETRY_MAX: Duration = Duration::from_secs(4 * 3600);

/// A report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// About whom.
    pub domain: Domain,
    /// From when on.
    pub start: Timestamp,
    /// Until when: the first moment that it does not cover.
    pub end: Timestamp,
    /// What it says.
    pub policies: Vec<PolicyResult>,
    /// When it is to be sent, or tried again.
    pub due: Timestamp,
    /// When it was tried first.
    pub tried: Option<Timestamp>,
    /// How often it was tried.
    pub tries: u32,
    /// The destinations that have taken it.
    pub taken_by: Vec<String>,
}

/// What tells one report from another.
pub type ReportKey = (Domain, Timestamp, Timestamp);

impl Report {
    /// What tells it from others.
    pub fn key(&self) -> ReportKey {
        (self.domain.clone(), self.start, self.end)
    }

    /// The id's left side: the same however often the report is written. Letters, digits, dots, hyphens and underscores.
    pub fn id(&self) -> String {
        format!("{}-{}.{}", self.start.seconds(), self.end.seconds(), self.domain)
    }

    /// The last second that it covers, as its end is written.
    pub fn last_second(&self) -> Timestamp {
        Timestamp::from_seconds(self.end.seconds().saturating_sub(1).max(self.start.seconds()))
    }

    /// Sessions that succeeded and that failed, under all policies together.
    pub fn sessions(&self) -> (u64, u64) {
        let add = |(good, bad), result: &PolicyResult| {
            let summary = &result.summary;
            (good + summary.total_successful_session_count, bad + summary.total_failure_session_count)
        };
        self.policies.iter().fold((0, 0), add)
    }

    /// Puts it off after a try that failed; false if it has been tried for `long_enough`.
    pub(super) fn put_off(&mut self, now: Timestamp, long_enough: Duration) -> bool {
        let first = *self.tried.get_or_insert(now);
        let pause = RETRY_FIRST.saturating_mul(1 << self.tries.min(10)).min(RETRY_MAX);
        self.tries = self.tries.saturating_add(1);
        self.due = now.plus(pause);
        self.due.since(first) <= long_enough
    }

    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.domain, &self.policies)
    }
}

/// A report in the file.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    domain: String,
    start: String,
    end: String,
    due: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried: Option<String>,
    #[serde(default)]
    tries: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken_by: Vec<String>,
    policies: Vec<PolicyResult>,
}

impl From<&Report> for Written {
    fn from(report: &Report) -> Self {
        Self {
            domain: report.domain.to_string(),
            start: report.start.rfc3339(),
            end: report.end.rfc3339(),
            due: report.due.rfc3339(),
            tried: report.tried.map(Timestamp::rfc3339),
            tries: report.tries,
            taken_by: report.taken_by.clone(),
            policies: report.policies.clone(),
        }
    }
}

impl Written {
    /// `None` for what was never written so.
    pub(super) fn read(self) -> Option<Report> {
        let time = |text: &str| Timestamp::parse_rfc3339(text);
        Some(Report {
            domain: Domain::parse(&self.domain).ok()?,
            start: time(&self.start)?,
            end: time(&self.end)?,
            policies: self.policies,
            due: time(&self.due)?,
            tried: self.tried.as_deref().and_then(time),
            tries: self.tries,
            taken_by: self.taken_by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_given_up() {
        let at = Timestamp::from_seconds;
        let mut report = Report {
            domain: Domain::parse("x.example").unwrap(),
            start: at(0),
            end: at(86_400),
            policies: vec![],
            due: at(90_000),
            tried: None,
            tries: 0,
            taken_by: vec!["mailto:a@x.example".to_owned()],
        };
        let (mut pauses, mut now) = (Vec::new(), report.due);
        while report.put_off(now, Duration::from_secs(86_400)) {
            pauses.push(report.due.since(now).as_secs());
            now = report.due;
        }
        assert_eq!(pauses[..7], [300, 600, 1200, 2400, 4800, 9600, 14_400]);
        assert!(now.since(at(90_000)) <= Duration::from_secs(86_400) && pauses.len() > 8, "{pauses:?}");
        assert_eq!(Written::from(&report).read(), Some(report.clone()));
        assert_eq!((report.id().as_str(), report.last_second()), ("0-86400.x.example", at(86_399)));
    }
}
