//! Mail couriers: carrying mail by SMTP to the hosts that take it (RFC 5321 section 4.5.4 and 5.1).
//!
//! **What.** [`MailEgress`] is what all couriers share: options, resolver, signer, what is remembered of hosts. A
//! [`MailCourier`] is one connection slot of one site; it keeps its connection from mail to mail.
//!
//! **Promises.** Every recipient of a consignment gets exactly one outcome. What we do not understand is a delay, never a
//! failure. A peer's yes is taken only in answer to the end of the content; where that answer is lost, it is said and
//! counted (`answers_lost`). A kept connection that turns out to be dead before it took anything of the mail costs no
//! attempt. The mail leaves byte-identical, with the signature block in front.
//!
//! **Does not know** lanes, retries, other messages of the queue, or how to sign.
//!
//! **Fails how.** Everything becomes a [`Failure`](crate::model::Failure) that says whom it condemns. A peer's bytes are
//! read by `wire::smtp::client`; every wait has a timeout and every walk a bound.

mod connection;
mod courier;
mod dane;
mod hosts;
mod locate;
mod mta_sts;
mod options;
mod session;
mod sign;
mod sources;
mod tls_policy;
mod tls_rpt;
mod transaction;
mod verdict;
mod warmup;
mod wish;

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::{Mono, SharedClock};
use crate::dns::Resolver;
use crate::event::Fact;
use crate::event::metrics::Metrics;
use crate::net::dane::Vouching;
use crate::net::judging::Judges;
use crate::net::tls::Verifying;
use crate::provider::Provider;

pub use courier::MailCourier;
pub use locate::Located;
pub use mta_sts::MtaStsOptions;
#[doc(hidden)]
pub use mta_sts::parsed as parsed_mta_sts;
pub use options::{Options, Timeouts};
pub use sign::{NoSigner, Sign, SignError};
pub use sources::{PausedSource, Pool, Source, Sources, Whose};
pub use tls_policy::{HostPattern, TlsLevel, TlsPolicies, TlsRule};
#[doc(hidden)]
pub use tls_rpt::parsed as parsed_tls_rpt;
pub use tls_rpt::{
    AppliedPolicy, Destination, DomainSessions, FailureDetail, HttpsUrl, LeftOut, PolicyResult, PolicyType,
    REPORTS_CLIENT, Report, ReportKey, Reporter, ResultType, Summary, TlsReportOptions, TlsReports, TlsReportsView,
    UploadError, Wanted, file_name, gzipped, report_id,
};
pub use verdict::refused;
pub use warmup::{
    Complaints, DAYS_MAX as WARMUP_DAYS_MAX, Day as WarmupDay, Plan as WarmupPlan, Rules as WarmupRules, Share,
    UnknownMail, WarmupView,
};

/// Hosts whose broken TLS is remembered; at the limit further ones are tried again each time.
const BROKEN_TLS_MAX: usize = 4096;
/// How long it is remembered.
const BROKEN_TLS_KEPT: Duration = Duration::from_secs(3600);

/// What all mail couriers share.
pub struct MailEgress {
    options: Arc<ArcSwap<Options>>,
    resolver: Resolver,
    metrics: Arc<Metrics>,
    answers_lost: prometheus::IntCounter,
    clock: SharedClock,
    signing: sign::Signing,
    /// Hosts that offer STARTTLS and fail in it, and until when that is believed.
    broken_tls: Mutex<HashMap<String, Mono>>,
    roster: Arc<sources::Roster>,
    warmup: Arc<warmup::WarmUp>,
    verifying: Verifying,
    vouching: Vouching,
    sts: Arc<mta_sts::MtaSts>,
    tls_reports: Arc<TlsReports>,
    /// For hosts that take reports, by authorities of their own.
    verifying_reports: Verifying,
    judges: Judges,
}

impl MailEgress {
    /// The shared state; options are read anew for every mail. Reads the policies that were kept.
    pub fn new(
        options: Arc<ArcSwap<Options>>,
        resolver: Resolver,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        signer: Arc<dyn Sign>,
    ) -> Self {
        let answers_lost = metrics.answers_lost.with_label_values(&["email"]);
        let signing = sign::Signing::new(signer);
        let warmup = warmup::WarmUp::open(options.load().warmup_file.clone(), clock.clone(), metrics.clone());
        let roster = sources::Roster::new(warmup.clone(), clock.clone(), metrics.clone());
        let sts = mta_sts::MtaSts::new(&options.load(), resolver.clone(), clock.clone(), metrics.clone());
        let own = &options.load().tls_reports;
        let tls_reports = Arc::new(TlsReports::new(own, resolver.clone(), clock.clone(), metrics.clone()));
        Self {
            options,
            resolver,
            metrics,
            answers_lost,
            clock,
            signing,
            broken_tls: Mutex::default(),
            roster,
            warmup,
            verifying: Verifying::default(),
            vouching: Vouching::default(),
            sts: Arc::new(sts),
            tls_reports,
            verifying_reports: Verifying::default(),
            judges: Judges::default(),
        }
    }

    /// Fetches policies that domains have published anew before they are too old; to be called now and then.
    pub async fn refresh_policies(&self) {
        self.sts.refresh(&self.options.load_full()).await;
    }

    /// From these sources nothing leaves from now on, and from all others it does; connections that are open are not used for
    /// another mail.
    pub fn pause_sources(&self, paused: Vec<PausedSource>) {
        self.roster.pause(paused);
    }

    /// Begins new days of warm-up and keeps how far sources are; returns what there is to tell. To be called every second or
    /// so. Blocks.
    pub fn tend_warmup(&self) -> Vec<Fact> {
        self.warmup.tend(&self.options.load().sources)
    }

    /// How far the sources with a plan are.
    pub fn warmup(&self) -> Vec<WarmupView> {
        self.warmup.view(&self.options.load().sources)
    }

    /// Puts a source on a day of its plan, towards one provider or all. False if there is no such source with a plan. Blocks.
    pub fn reset_warmup(&self, source: &str, provider: Option<&str>, day: u32) -> bool {
        self.warmup.reset(&self.options.load().sources, source, provider, day)
    }

    /// Tells how many have complained about mail of a source; the gates of its warm-up go by it.
    ///
    /// # Errors
    /// If nothing is known of such mail.
    pub fn complaints(&self, told: &Complaints) -> Result<(), UnknownMail> {
        self.warmup.complaints(told)
    }

    /// Keeps exactly how far sources are; for the end. Blocks.
    pub fn keep_warmup(&self) {
        self.warmup.close();
    }

    /// What became of TLS with mail hosts, and the reports on it.
    pub fn tls_reports(&self) -> &Arc<TlsReports> {
        &self.tls_reports
    }

    /// What an administrator has set about these reports.
    pub fn tls_report_options(&self) -> TlsReportOptions {
        self.options.load().tls_reports.clone()
    }

    /// How long a courier's connection may stay open without work; dispatch enforces it.
    pub fn idle(&self) -> Duration {
        self.options.load().idle
    }

    /// Counts a refusal under what the provider table takes it to be.
    fn count_refusal(&self, provider: &Provider, class: &str) {
        self.metrics.replies.with_label_values(&[&*provider.name, class]).inc();
    }

    fn tls_is_broken(&self, host: &str) -> bool {
        let now = self.clock.mono();
        self.broken_tls.lock().get(host).is_some_and(|until| now < *until)
    }

    fn remember_broken_tls(&self, host: &str) {
        let now = self.clock.mono();
        let mut broken = self.broken_tls.lock();
        if broken.len() >= BROKEN_TLS_MAX {
            broken.retain(|_, until| now < *until);
        }
        if broken.len() < BROKEN_TLS_MAX {
            broken.insert(host.to_owned(), now.plus(BROKEN_TLS_KEPT));
        }
    }
}

impl fmt::Debug for MailEgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailEgress").field("options", &self.options).finish_non_exhaustive()
    }
}
