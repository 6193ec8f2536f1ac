//! Delivering TLS reports (RFC 8460 section 5): those that are due, to where their domains want them.
//!
//! **Promises.** Whether a report is wanted is asked of DNS when it is due. By mail it goes as a message of our own through the
//! queue, so it is durable, signed and retried like any other; an idempotency key sees to it that a crash between the queue's yes
//! and ours doubles nothing. By HTTPS it is handed over here. A destination that has taken a report does not get it again because
//! another has not; what no destination takes is tried for as long as the options say. Each end is an event and counted.
//!
//! **Does not know** what a report says.
//!
//! **Fails how.** Everything that may get better is put off; the rest ends the report, and is said.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Parts;
use super::notify::own_mail;
use crate::egress::email::{
    Destination, REPORTS_CLIENT, Report, Reporter, TlsReportOptions, TlsReports, Wanted, file_name, gzipped, report_id,
};
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::event::{Fact, TlsReportFact};
use crate::mail::{TlsReportMail, tls_report};
use crate::model::{Idempotency, Mailbox, MessageId, Responsibility};
use crate::queue::AcceptError;

/// Reports that are being delivered at a time.
const DELIVERING_MAX: usize = 16;
/// Looked at anew at least so often; the file of counts is written then, if it is time.
const TURN_MAX: Duration = Duration::from_secs(1);

/// The running delivery of reports.
#[derive(Debug)]
pub struct Reporting {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

#[derive(Clone)]
struct Desk {
    parts: Parts,
    reports: Arc<TlsReports>,
    events: EventLog,
    metrics: Arc<Metrics>,
}

/// Why a destination has not taken a report.
struct Refusal {
    /// It may later.
    again: bool,
    why: String,
}

impl Reporting {
    /// Starts on the current runtime.
    pub fn start(parts: Parts, events: EventLog, metrics: Arc<Metrics>) -> Self {
        let reports = parts.mail.tls_reports().clone();
        let (stop, stopped) = watch::channel(false);
        let desk = Desk { parts, reports, events, metrics };
        Self { stop, running: tokio::spawn(desk.run(stopped)) }
    }

    /// Stops; what was counted and what was not delivered is in the file then.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.running.await;
    }
}

impl Desk {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut delivering = JoinSet::new();
        loop {
            if self.reports.wants_saving() {
                self.save().await;
            }
            let options = self.parts.mail.tls_report_options();
            // While an operator holds sending, nothing of ours goes either.
            let held = self.parts.queue.is_held();
            let free = if held { 0 } else { DELIVERING_MAX.saturating_sub(delivering.len()) };
            for report in self.reports.take_due(&options, free) {
                delivering.spawn(self.clone().deliver(options.clone(), report));
            }
            let full = delivering.len() >= DELIVERING_MAX;
            let next = if held || full { TURN_MAX } else { self.reports.next_due().min(TURN_MAX) };
            tokio::select! {
                Some(_) = delivering.join_next() => {}
                () = tokio::time::sleep(next) => {}
                () = self.reports.changed() => {}
                _ = stop.wait_for(|&stop| stop) => break,
            }
        }
        // What is cut off is due again after the next start.
        delivering.shutdown().await;
        self.save().await;
    }

    /// Writes the file, on a thread that may wait.
    async fn save(&self) {
        let reports = self.reports.clone();
        let _ = tokio::task::spawn_blocking(move || reports.save()).await;
    }

    async fn deliver(self, options: TlsReportOptions, mut report: Report) {
        let Some(by) = &options.reporter else { return self.reports.give_back(&report) };
        let all = match self.reports.destinations(&report.domain).await {
            Wanted::At(all) => all,
            Wanted::Nowhere => {
                self.reports.end(&report);
                return self.tell(by, &report, "unwanted", None, None);
            }
            Wanted::Unknown(why) => return self.put_off(&options, by, report, &why),
        };
        let Ok(gzipped) = gzipped(&report, by) else { return self.reports.end(&report) };
        let mut later = None;
        for destination in all {
            let to = destination.to_string();
            if report.taken_by.contains(&to) {
                continue;
            }
            match self.hand_over(by, &report, &destination, &gzipped).await {
                Ok(()) => {
                    self.tell(by, &report, "sent", Some(&destination), None);
                    report.taken_by.push(to);
                }
                Err(Refusal { again: true, why }) => later = Some(why),
                Err(Refusal { again: false, why }) => self.tell(by, &report, "failed", Some(&destination), Some(&why)),
            }
        }
        match later {
            Some(why) => self.put_off(&options, by, report, &why),
            None => self.reports.end(&report),
        }
    }

    /// Tries again later, unless that has gone on for long enough.
    fn put_off(&self, options: &TlsReportOptions, by: &Reporter, report: Report, why: &str) {
        tracing::debug!(domain = %report.domain, cause = why, "a TLS report cannot be delivered now");
        let told = report.clone();
        if !self.reports.put_off(options, report) && told.taken_by.is_empty() {
            self.tell(by, &told, "given-up", None, Some(why));
        }
    }

    async fn hand_over(&self, by: &Reporter, report: &Report, to: &Destination, gzipped: &[u8]) -> Result<(), Refusal> {
        match to {
            Destination::Mailto(mailbox) => self.submit(by, report, mailbox, gzipped).await,
            Destination::Https(url) => {
                let handed = self.parts.mail.upload_report(url, gzipped.to_vec()).await;
                handed.map_err(|e| Refusal { again: e.again, why: e.to_string() })
            }
        }
    }

    /// Puts the report's mail into the queue.
    async fn submit(&self, by: &Reporter, report: &Report, to: &Mailbox, gzipped: &[u8]) -> Result<(), Refusal> {
        let now = self.parts.clock.now();
        let (id, report_id) = (MessageId::new(now), report_id(report, by));
        let mail = TlsReportMail {
            from: &by.from,
            to,
            organization: &by.organization,
            domain: report.domain.as_str(),
            report_id: &report_id,
            file_name: &file_name(report, by),
            covers: (report.start, report.last_second()),
            gzipped,
            id,
            now,
        };
        let written = tls_report(&mail);
        let made = written.map_err(|e| Refusal { again: false, why: format!("no mail can be made: {e}") })?;
        let mut submission = own_mail(id, REPORTS_CLIENT.into(), now, made, to.clone());
        submission.envelope.expires_at = Some(now.plus(self.parts.mail.tls_report_options().retry_for));
        submission.envelope.idempotency = Some(once(&report_id, to));
        let accepted = self.parts.queue.accept(submission).await;
        match accepted {
            Ok(accepted) => {
                let id = accepted.message_id();
                tracing::debug!(domain = %report.domain, %id, "a TLS report is on its way by mail");
                Ok(())
            }
            Err(AcceptError::Full { .. } | AcceptError::NoSpace { .. } | AcceptError::Unavailable) => {
                Err(Refusal { again: true, why: "the queue takes nothing now".to_owned() })
            }
            // It was queued before.
            Err(AcceptError::KeyReused) => Ok(()),
            Err(AcceptError::TooLarge) => Err(Refusal { again: false, why: "it is too large for a mail".to_owned() }),
            Err(AcceptError::NoRoute { address }) => {
                Err(Refusal { again: false, why: format!("no route leads to {address}") })
            }
        }
    }

    /// Tells how a report, or its delivery to one destination, has ended.
    fn tell(&self, by: &Reporter, report: &Report, result: &'static str, to: Option<&Destination>, why: Option<&str>) {
        let way = match to {
            Some(Destination::Mailto(_)) => "mailto",
            Some(Destination::Https(_)) => "https",
            None => "none",
        };
        self.metrics.tls_reports.with_label_values(&[way, result]).inc();
        let (successful, failed) = report.sessions();
        let told = TlsReportFact {
            result,
            domain: report.domain.to_string(),
            report_id: report_id(report, by),
            to: to.map(ToString::to_string),
            successful,
            failed,
        };
        self.events.record(Fact::tls_report(self.parts.clock.now(), told, why.map(str::to_owned)));
    }
}

/// The same report goes to the same mailbox once: whatever this names has been done with for as long as keys are kept.
fn once(report_id: &str, to: &Mailbox) -> Idempotency {
    let name = digest::digest(&digest::SHA256, format!("{report_id} {to}").as_bytes());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(name.as_ref());
    let key = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Idempotency { key: key.into(), fingerprint }
}
