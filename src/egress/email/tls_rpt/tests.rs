//! Days, restarts, bounds, and the document as an independent reader reads it.

use std::path::Path;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::dns;
use crate::dns::zone::{Zone, ZoneServer};
use crate::model::Mailbox;

/// 2026-11-26, noon.
const NOON: Timestamp = Timestamp::from_seconds(1_795_694_400);
const HOUR: Duration = Duration::from_secs(3600);

fn reporter() -> Reporter {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    let (contact, from) = (mailbox("postmaster@shop.example"), mailbox("tls@reports.shop.example"));
    Reporter { organization: "The \"Shop\"".to_owned(), contact, from }
}

struct World {
    reports: TlsReports,
    options: TlsReportOptions,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
}

fn world(options: TlsReportOptions, clock: Arc<ManualClock>, nameserver: Option<&ZoneServer>) -> World {
    let nameservers = vec![nameserver.map_or("127.0.0.1:9".parse().unwrap(), ZoneServer::address)];
    let lookups = dns::Options { nameservers, attempts: 1, ..dns::Options::default() };
    let resolver = Resolver::new(&lookups, clock.clone()).unwrap();
    let metrics = Arc::new(Metrics::new());
    let reports = TlsReports::new(&options, resolver, clock.clone(), metrics.clone());
    World { reports, options, clock, metrics }
}

fn at_noon(options: TlsReportOptions) -> World {
    world(TlsReportOptions { reporter: Some(reporter()), ..options }, Arc::new(ManualClock::at(NOON)), None)
}

fn kept_in(dir: &Path) -> TlsReportOptions {
    TlsReportOptions { file: Some(dir.join("tls-reports.jsonl")), ..TlsReportOptions::default() }
}

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("d{n}.example")).unwrap()
}

fn policy(domain: &Domain) -> AppliedPolicy {
    AppliedPolicy {
        policy_type: PolicyType::Sts,
        policy_string: vec!["version: STSv1".to_owned()],
        policy_domain: domain.to_string(),
        mx_host: vec!["*.mx.example".to_owned()],
    }
}

impl World {
    fn count(&self, n: usize, failure: Option<ResultType>) {
        let failure = failure.map(|result| FailureDetail::new(result).because("why"));
        self.reports.count(&self.options, &domain(n), &policy(&domain(n)), failure);
    }

    fn due(&self) -> Vec<Report> {
        self.reports.take_due(&self.options, usize::MAX)
    }

    /// Domain, sessions that succeeded, sessions that failed.
    fn shown(&self) -> Vec<(String, u64, u64)> {
        let view = self.reports.view(&self.options, usize::MAX);
        view.domains.into_iter().map(|d| (d.domain, d.successful, d.failed)).collect()
    }

    /// The same after a restart.
    fn restarted(self) -> Self {
        world(self.options, self.clock, None)
    }
}

#[test]
fn a_day_ends_at_midnight_and_each_report_goes_at_a_time_of_its_own() {
    let world = at_noon(TlsReportOptions::default());
    for n in 0..50 {
        world.count(n, None);
        world.count(n, Some(ResultType::CertificateExpired));
    }
    assert!(world.due().is_empty() && world.reports.next_due() == 12 * HOUR);
    world.clock.advance(12 * HOUR - Duration::from_micros(1));
    world.count(0, None);
    world.clock.advance(Duration::from_micros(1));
    world.count(0, None);
    assert_eq!(world.shown(), [("d0.example".to_owned(), 1, 0)]);
    assert!(world.reports.next_due() < 4 * HOUR);
    let mut reports = Vec::new();
    for _ in 0..4 {
        world.clock.advance(HOUR);
        let due = world.due();
        assert!((1..50).contains(&due.len()), "{} in one hour", due.len());
        reports.extend(due);
    }
    assert_eq!(reports.len(), 50);
    reports.sort_by_key(|report| report.sessions());
    let last = reports.pop().unwrap();
    assert_eq!((last.domain.as_str(), last.sessions()), ("d0.example", (2, 1)));
    assert_eq!((last.start.rfc3339().as_str(), last.end.since(last.start)), ("2026-11-26T00:00:00.000000Z", 24 * HOUR));
    assert!(world.due().is_empty(), "they are being delivered");
    reports.iter().for_each(|report| world.reports.end(report));
    assert!(world.reports.put_off(&world.options, last.clone()));
    assert!(world.due().is_empty());
    world.clock.advance(Duration::from_secs(300));
    assert_eq!((world.due().len(), world.reports.view(&world.options, 0).reports_waiting), (1, 1));
}

#[test]
fn what_was_counted_outlives_a_restart_also_over_midnight() {
    let dir = tempfile::tempdir().unwrap();
    let world = at_noon(kept_in(dir.path()));
    world.reports.save();
    assert!(!dir.path().join("tls-reports.jsonl").exists(), "nothing to keep");
    for n in 0..2 * STRIDE + 3 {
        world.count(n, Some(ResultType::StarttlsNotSupported));
    }
    world.clock.advance(SAVED_EVERY);
    assert!(world.reports.wants_saving());
    world.reports.save();
    assert!(!world.reports.wants_saving());
    let before = world.shown();
    let world = world.restarted();
    assert_eq!(world.shown(), before);
    assert_eq!(world.shown().len(), 2 * STRIDE + 3);
    // Down over midnight, and longer than the reports wait: all of them are due at once.
    world.clock.advance(20 * HOUR);
    let mut world = world.restarted();
    world.count(1, None);
    assert_eq!(world.due().len(), 2 * STRIDE + 3);
    assert_eq!(world.shown(), [("d1.example".to_owned(), 1, 0)]);
    // Half of them are delivered; after the next start the others are due again, with the same ids.
    let id = |report: &Report| report_id(report, &reporter());
    world.reports.save();
    world = world.restarted();
    let due = world.due();
    due.iter().take(STRIDE).for_each(|report| world.reports.end(report));
    world.reports.save();
    let world = world.restarted();
    let again = world.due();
    assert_eq!(again.iter().map(id).collect::<Vec<_>>(), due[STRIDE..].iter().map(id).collect::<Vec<_>>());
    assert_eq!(again[0].policies, due[STRIDE].policies);
    assert_eq!(world.shown(), [("d1.example".to_owned(), 1, 0)]);
}

#[test]
fn a_damaged_file_costs_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let world = at_noon(kept_in(dir.path()));
    for n in 0..4 {
        world.count(n, None);
    }
    world.reports.save();
    let file = dir.path().join("tls-reports.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    lines[2] = "{\"domain\":\"d1.example\",\"results\":[{";
    lines.insert(2, "");
    lines.insert(2, "{\"domain\":\"-\",\"results\":[]}");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut world = world.restarted();
    let names = |world: &World| world.shown().into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(names(&world), ["d0.example", "d2.example", "d3.example"]);
    for head in
        ["", "{}", "{\"version\":2,\"start\":\"2026-11-26T00:00:00Z\"}", "{\"version\":1,\"start\":\"noon\"}", "\u{0}"]
    {
        std::fs::write(&file, head).unwrap();
        world = world.restarted();
        assert!(names(&world).is_empty(), "{head}");
    }
    // And is put right again.
    world.count(7, None);
    world.reports.save();
    assert_eq!(names(&world.restarted()), ["d7.example"]);
}

#[test]
fn bounds_hold_over_days_and_what_is_left_out_is_said() {
    let options =
        TlsReportOptions { domains_max: 10, details_max: 1, bytes_max: 20_000, ..TlsReportOptions::default() };
    let world = at_noon(options);
    for n in 0..12 {
        world.count(n, Some(ResultType::CertificateExpired));
        world.count(n, Some(ResultType::ValidationFailure));
    }
    let view = world.reports.view(&world.options, 3);
    assert_eq!((view.domains.len(), view.domains_total), (3, 10));
    assert_eq!(view.left_out, LeftOut { sessions: 4, details: 10 });
    let left_out = |what| world.metrics.tls_rpt_left_out.with_label_values(&[what]).get();
    assert_eq!((left_out("session"), left_out("detail")), (4, 10));
    // Reports that nobody takes fill the memory up, and then nothing more is counted until they are given up.
    world.clock.advance(24 * HOUR);
    let waiting = world.due().len();
    world.count(0, None);
    assert_eq!((waiting, world.shown().len()), (10, 1));
    for n in 0..12 {
        for result in [ResultType::CertificateExpired, ResultType::StarttlsNotSupported] {
            world.count(n, Some(result));
        }
    }
    let state = world.reports.state.lock();
    assert!(state.tally.bytes() + state.waiting_bytes <= 20_000 + 1_000);
    assert!(state.tally.domains.len() < 10);
}

#[test]
fn what_cannot_be_delivered_is_given_up_after_its_time() {
    let world = at_noon(TlsReportOptions { retry_for: HOUR, ..TlsReportOptions::default() });
    world.count(0, None);
    world.clock.advance(24 * HOUR);
    let mut tries = 0;
    while let Some(report) = world.due().pop() {
        tries += 1;
        if !world.reports.put_off(&world.options, report) {
            break;
        }
        world.clock.advance(world.reports.next_due());
    }
    assert_eq!((tries, world.reports.view(&world.options, 0).reports_waiting), (4, 0));
}

#[test]
fn an_operator_may_end_the_period_and_nothing_is_counted_twice() {
    let world = at_noon(TlsReportOptions::default());
    for n in 0..3 {
        world.count(n, None);
        assert_eq!(world.reports.send_now(&world.options), Ok(n + 1));
    }
    let due = world.due();
    assert_eq!(due.len(), 3);
    assert!(due.windows(2).all(|pair| pair[0].end == pair[1].start), "{due:?}");
    assert_eq!(due[0].start.rfc3339(), "2026-11-26T00:00:00.000000Z");
    assert!(due.iter().all(|report| report.sessions() == (1, 0)));
    // What follows is counted until midnight all the same.
    world.count(0, None);
    world.clock.advance(24 * HOUR);
    let rest = world.due();
    assert_eq!((rest.len(), rest[0].end), (1, day_of(NOON).plus(24 * HOUR)));
}

#[test]
fn where_nobody_reports_counts_are_shown_and_forgotten_with_the_day() {
    let world = world(TlsReportOptions::default(), Arc::new(ManualClock::at(NOON)), None);
    world.count(0, None);
    assert!(!world.reports.view(&world.options, 1).sends && world.shown().len() == 1);
    assert!(world.reports.send_now(&world.options).unwrap_err().contains("[tls_reports] names no organization"));
    world.clock.advance(24 * HOUR);
    assert!(world.due().is_empty() && world.shown().is_empty());
    assert_eq!(world.metrics.tls_rpt_sessions.with_label_values(&["sts", "success"]).get(), 1);
}

#[tokio::test]
async fn the_record_is_asked_for_where_the_rfc_puts_it() {
    let zone = Zone::new()
        .txt("_smtp._tls.d0.example", "v=TLSRPTv1; rua=mailto:a@x.example")
        .txt("_smtp._tls.d1.example", "v=TLSRPTv1; rua=gopher:x")
        .servfail("_smtp._tls.d2.example");
    let names = ZoneServer::start(zone).await.unwrap();
    let world = world(TlsReportOptions::default(), Arc::new(ManualClock::at(NOON)), Some(&names));
    let of = async |n| world.reports.destinations(&domain(n)).await;
    assert_eq!(of(0).await, Wanted::At(vec![Destination::Mailto(Mailbox::parse("a@x.example").unwrap())]));
    assert_eq!((of(1).await, of(3).await), (Wanted::Nowhere, Wanted::Nowhere));
    assert!(matches!(of(2).await, Wanted::Unknown(_)));
}

/// Python reads the file by its own gzip and json, and looks for every key that RFC 8460 section 4.4 asks for.
const READER: &str = r#"
import datetime, gzip, json, sys
report = json.loads(gzip.decompress(sys.stdin.buffer.read()).decode("utf-8"))
assert sorted(report) == ["contact-info", "date-range", "organization-name", "policies", "report-id"], report
start, end = (datetime.datetime.strptime(report["date-range"][k], "%Y-%m-%dT%H:%M:%SZ") for k in ("start-datetime", "end-datetime"))
assert (end - start).total_seconds() == 86399, (start, end)
for result in report["policies"]:
    policy, summary = result["policy"], result["summary"]
    assert policy["policy-type"] in ("tlsa", "sts", "no-policy-found") and isinstance(policy["policy-string"], list)
    assert isinstance(policy["mx-host"], list) and isinstance(policy["policy-domain"], str)
    assert sorted(summary) == ["total-failure-session-count", "total-successful-session-count"]
    assert summary["total-failure-session-count"] == sum(d["failed-session-count"] for d in result["failure-details"])
    assert all(isinstance(d["result-type"], str) for d in result["failure-details"])
print(report["report-id"], report["organization-name"], report["contact-info"], summary["total-successful-session-count"])
"#;

#[test]
fn an_independent_reader_reads_the_document() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let world = at_noon(TlsReportOptions::default());
    world.count(0, None);
    world.count(0, Some(ResultType::CertificateExpired));
    world.clock.advance(24 * HOUR);
    let report = world.due().pop().unwrap();
    assert_eq!(file_name(&report, &reporter()), "shop.example!d0.example!1795651200!1795737599.json.gz");
    let gzipped = gzipped(&report, &reporter()).unwrap();
    let mut python = Command::new("python3");
    let python = python.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().expect("python3 (tests/setup installs it)");
    python.stdin.take().unwrap().write_all(&gzipped).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let id = "1795651200-1795737600.d0.example@reports.shop.example";
    assert_eq!(said, format!("{id} The \"Shop\" postmaster@shop.example 1\n"));
    assert_eq!(world.clock.now(), NOON.plus(24 * HOUR));
}
