//! TLS reports (RFC 8460): what became of sessions with the mail hosts of each domain, counted by day, and told to those
//! domains that ask for it.
//!
//! **What.** [`watch`] sees each session being opened and tells its result; [`tally`] counts; at the end of a day (UTC) the counts
//! become one [`Report`] for each domain, each due at a time of its own within the hours that follow. Only then it is looked up
//! whether the domain wants it ([`TlsReports::destinations`]): no mail waits for that. `dispatch` takes what is due and delivers it,
//! by mail through the queue or by [`upload`]. All of it is kept in a file ([`store`]).
//!
//! **Promises.** What is counted is bounded in memory, and what finds no room is counted as such. A report ends once: delivered to
//! at least one destination, wanted by nobody, or given up after the time for retries; a crash may cost the counts of the last
//! seconds, never a report that was due before. Sessions that carry reports are not counted, nor are those with fixed next hops,
//! which are nobody's policy domain.
//!
//! **Does not know** mail, the queue, and what makes a session succeed: that is told.
//!
//! **Where DANE comes in.** A host's TLSA records are an [`AppliedPolicy`] of type `tlsa` (its `policy_string` the records, its
//! `mx_host` the host), one more policy that [`watch::Sight`] tells a session under: its handshake's errors by
//! [`ResultType::of_tls`], `tlsa-invalid` where no record matches. What fails before a host is called (`dnssec-invalid`,
//! `dane-required`) is told as [`watch::Watched::not_permitted`] tells of a host that MTA-STS does not name.

mod document;
mod options;
mod record;
mod result;
mod store;
mod tally;
mod upload;
mod view;
mod waiting;
pub(super) mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::store::Snapshot;
use self::tally::{Missing, Tally};
use crate::clock::{Mono, SharedClock, Timestamp};
use crate::dns::{DnsError, Resolver};
use crate::event::metrics::Metrics;
use crate::model::Domain;

pub use document::{file_name, gzipped, report_id};
pub use options::{Reporter, TlsReportOptions};
pub use record::{Destination, HttpsUrl};
pub use result::ResultType;
pub use tally::{AppliedPolicy, FailureDetail, LeftOut, PolicyResult, PolicyType, Summary};
pub use upload::UploadError;
pub use view::{DomainSessions, TlsReportsView};
pub use waiting::{Report, ReportKey};

/// The client whose mails reports are. No client of a configuration can be called so.
pub const REPORTS_CLIENT: &str = "postrider:tls-reports";

/// Where a record lies.
const LABELS: &str = "_smtp._tls";
/// A day of UTC knows no leap seconds here, as everywhere.
const DAY: Duration = Duration::from_secs(86_400);
/// The file is not written more often.
const SAVED_EVERY: Duration = Duration::from_secs(5);
/// Nor so often that more is written than this.
const SAVED_BYTES_PER_SECOND: usize = 1024 * 1024;
/// Domains whose counts are taken for the file at a time; sessions wait meanwhile.
const STRIDE: usize = 256;

/// What has been counted, and what waits to be told.
#[derive(Debug)]
pub struct TlsReports {
    resolver: Resolver,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    file: Option<std::path::PathBuf>,
    state: Mutex<State>,
    /// One writes the file at a time.
    writing: Mutex<()>,
    /// There may be something due sooner than was thought.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    waiting: BTreeMap<ReportKey, Report>,
    waiting_bytes: usize,
    /// Those of them that are being delivered.
    under_way: BTreeSet<ReportKey>,
    /// Something is not in the file yet.
    dirty: bool,
    saved: Mono,
    saved_bytes: usize,
    /// The file could not be written last time, which has been said.
    unsaved: bool,
}

/// The destinations that a TXT record names, as text: the parser, for the fuzzer.
#[doc(hidden)]
pub fn parsed(text: &str) -> Option<Vec<Destination>> {
    record::destinations([text])
}

/// When the day of `time` begins.
fn day_of(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(time.seconds() / DAY.as_secs() * DAY.as_secs())
}

/// What a domain says about reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// To be sent there; not empty.
    At(Vec<Destination>),
    /// The domain wants none, or names no destination that can be used.
    Nowhere,
    /// It could not be looked up.
    Unknown(String),
}

impl TlsReports {
    /// Reads what was kept.
    pub(super) fn new(
        options: &TlsReportOptions,
        resolver: Resolver,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = clock.now();
        let mut state = State {
            tally: Tally::new(day_of(now)),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            under_way: BTreeSet::new(),
            dirty: false,
            saved: clock.mono(),
            saved_bytes: 0,
            unsaved: false,
        };
        if let Some(file) = &options.file {
            match store::read(file) {
                Ok(kept) => {
                    if kept.strange > 0 {
                        tracing::warn!(file = %file.display(), lines = kept.strange, "some TLS results kept there cannot be read");
                    }
                    state.tally = kept.tally;
                    kept.waiting.into_iter().for_each(|report| state.wait(report));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    tracing::warn!(file = %file.display(), error = %e, "the TLS results kept there cannot be read")
                }
            }
        }
        let file = options.file.clone();
        let (state, writing) = (Mutex::new(state), Mutex::new(()));
        Self { resolver, clock, metrics, file, state, writing, changed: Notify::new() }
    }

    /// Counts a session that succeeded, or failed.
    fn count(
        &self,
        options: &TlsReportOptions,
        domain: &Domain,
        policy: &AppliedPolicy,
        failure: Option<FailureDetail>,
    ) {
        let result = failure.as_ref().map_or("success", |failure| failure.result_type.as_str());
        self.metrics.tls_rpt_sessions.with_label_values(&[policy.policy_type.as_str(), result]).inc();
        let mut state = self.state.lock();
        self.turn_day(&mut state, options);
        let taken = state.waiting_bytes;
        match state.tally.count(domain, policy, failure, options.bounds(), taken) {
            Some(Missing::Session) => self.metrics.tls_rpt_left_out.with_label_values(&["session"]).inc(),
            Some(Missing::Detail) => self.metrics.tls_rpt_left_out.with_label_values(&["detail"]).inc(),
            None => {}
        }
        state.dirty = true;
    }

    /// Ends the period if its day is over.
    fn turn_day(&self, state: &mut State, options: &TlsReportOptions) {
        let (now, start) = (self.clock.now(), day_of(state.tally.start));
        // A clock that was set back ends nothing: the period goes on until its day is over.
        if now >= start.plus(DAY) {
            state.close(options, start.plus(DAY), day_of(now), |spread| spread.mul_f64(fastrand::f64()));
            self.changed.notify_one();
        }
    }

    /// Ends the period now, whatever the hour, and makes its reports due at once, and those that wait; returns how many that are.
    ///
    /// # Errors
    /// Nobody is named in whose name to report.
    pub fn send_now(&self, options: &TlsReportOptions) -> Result<usize, String> {
        if options.reporter.is_none() {
            return Err("no reports are sent: [tls_reports] names no organization, contact and from".to_owned());
        }
        let now = self.clock.now();
        let mut state = self.state.lock();
        self.turn_day(&mut state, options);
        // Ids name whole seconds: no two periods may begin in one.
        let end = Timestamp::from_seconds(now.seconds().max(state.tally.start.seconds()) + 1);
        state.close(options, end, end, |_| Duration::ZERO);
        state.waiting.values_mut().for_each(|report| report.due = now);
        self.changed.notify_one();
        Ok(state.waiting.len())
    }

    /// Reports that are due, at most so many of them. Each goes back by [`TlsReports::end`] or [`TlsReports::put_off`].
    pub fn take_due(&self, options: &TlsReportOptions, most: usize) -> Vec<Report> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        self.turn_day(&mut state, options);
        if options.reporter.is_none() && !state.waiting.is_empty() {
            // Since a reload nobody reports any more.
            state.forget_waiting();
        }
        let State { waiting, under_way, .. } = &mut *state;
        let due = waiting.values().filter(|report| report.due <= now && !under_way.contains(&report.key()));
        let due: Vec<Report> = due.take(most).cloned().collect();
        under_way.extend(due.iter().map(Report::key));
        due
    }

    /// A report is done with.
    pub fn end(&self, report: &Report) {
        let mut state = self.state.lock();
        state.under_way.remove(&report.key());
        if state.waiting.remove(&report.key()).is_some() {
            state.waiting_bytes = state.waiting_bytes.saturating_sub(report.bytes());
            state.dirty = true;
        }
    }

    /// A report could not be delivered everywhere. False if that has gone on for so long that it is given up.
    pub fn put_off(&self, options: &TlsReportOptions, mut report: Report) -> bool {
        if !report.put_off(self.clock.now(), options.retry_for) {
            self.end(&report);
            return false;
        }
        let mut state = self.state.lock();
        state.under_way.remove(&report.key());
        state.dirty = true;
        if let Some(waiting) = state.waiting.get_mut(&report.key()) {
            *waiting = report;
        }
        true
    }

    /// A report goes back as it is: delivering it was cut short.
    pub fn give_back(&self, report: &Report) {
        self.state.lock().under_way.remove(&report.key());
    }

    /// Whether a domain wants reports, and where. Asks DNS.
    pub async fn destinations(&self, domain: &Domain) -> Wanted {
        match self.resolver.txt(&format!("{LABELS}.{domain}")).await {
            Ok(records) => match record::destinations(records.iter().map(String::as_str)) {
                Some(all) if !all.is_empty() => Wanted::At(all),
                _ => Wanted::Nowhere,
            },
            Err(DnsError::NoSuchName | DnsError::NoAddress) => Wanted::Nowhere,
            Err(e @ (DnsError::Temporary(_) | DnsError::Bogus)) => Wanted::Unknown(e.to_string()),
        }
    }

    /// When something may be due that is not being delivered: a report, or the end of the day.
    pub fn next_due(&self) -> Duration {
        let (now, state) = (self.clock.now(), self.state.lock());
        let waiting = state.waiting.values().filter(|report| !state.under_way.contains(&report.key()));
        let midnight = day_of(state.tally.start).plus(DAY);
        waiting.map(|report| report.due).min().map_or(midnight, |due| due.min(midnight)).since(now)
    }

    /// Waits until there may be something due sooner than [`TlsReports::next_due`] said.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is new is to be written to the file: it has not been for a while.
    pub fn wants_saving(&self) -> bool {
        let state = self.state.lock();
        let apart = Duration::from_secs((state.saved_bytes / SAVED_BYTES_PER_SECOND) as u64).max(SAVED_EVERY);
        state.dirty && self.file.is_some() && self.clock.mono().since(state.saved) >= apart
    }

    /// Writes what is new to the file. Blocks.
    pub fn save(&self) {
        let (Some(file), _alone) = (&self.file, self.writing.lock()) else { return };
        let Some(snapshot) = self.snapshot() else { return };
        let written = snapshot.write(file);
        let mut state = self.state.lock();
        if let Err(e) = &written
            && !state.unsaved
        {
            tracing::warn!(file = %file.display(), error = %e, "TLS results cannot be kept; this is tried again");
        }
        state.unsaved = written.is_err();
        state.dirty |= written.is_err();
        (state.saved, state.saved_bytes) = (self.clock.mono(), snapshot.len());
    }

    /// All of it, taken in strides between which sessions are counted; `None` if nothing is new.
    fn snapshot(&self) -> Option<Snapshot> {
        let (mut snapshot, mut start) = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.dirty) {
                return None;
            }
            (Snapshot::of(&state.tally), state.tally.start)
        };
        let mut last: Option<Domain> = None;
        loop {
            let state = self.state.lock();
            if state.tally.start != start {
                // The period has ended meanwhile: its counts are among the reports now.
                (snapshot, start, last) = (Snapshot::of(&state.tally), state.tally.start, None);
            }
            let after = last.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let mut stride = 0;
            for (domain, results) in
                state.tally.domains.range::<Domain, _>((after, std::ops::Bound::Unbounded)).take(STRIDE)
            {
                snapshot.counted(domain, results);
                last = Some(domain.clone());
                stride += 1;
            }
            if stride < STRIDE {
                // With the last stride, so that no report is missing whose period has just ended.
                state.waiting.values().for_each(|report| snapshot.report(report));
                return Some(snapshot);
            }
        }
    }
}

impl State {
    fn wait(&mut self, report: Report) {
        self.waiting_bytes += report.bytes();
        self.waiting.insert(report.key(), report);
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.dirty = true;
    }

    /// Makes reports of what was counted, up to `end`, and begins anew at `next`; `late` says how late each goes. Without
    /// anybody to report, what was counted is forgotten.
    fn close(
        &mut self,
        options: &TlsReportOptions,
        end: Timestamp,
        next: Timestamp,
        late: impl Fn(Duration) -> Duration,
    ) {
        let tally = std::mem::replace(&mut self.tally, Tally::new(next));
        self.dirty = true;
        if options.reporter.is_none() {
            return self.forget_waiting();
        }
        for (domain, policies) in tally.domains.into_iter().filter(|(_, policies)| !policies.is_empty()) {
            let due = end.plus(late(options.spread));
            let start = tally.start;
            self.wait(Report { domain, start, end, policies, due, tried: None, tries: 0, taken_by: Vec::new() });
        }
    }
}
