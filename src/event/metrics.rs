//! The catalogue of metrics: every series the relay exports is declared here, with its help text.
//!
//! **Promises.** Prefix `postrider_`, units in names, bounded labels: provider, carrier, client, class, channel, outcome; never a
//! domain, an address or a campaign. Handles are cheap to keep and to bump; hot paths keep the child, not the family.
//!
//! **Fails how.** A name declared twice is our bug and panics at start.

use prometheus::{
    Counter, CounterVec, Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All metrics of one relay.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages answered yes, by channel, client and class.
    pub accepted_messages: IntCounterVec,
    /// Bytes of content answered yes, by channel.
    pub accepted_bytes: IntCounterVec,
    /// Texts accepted as written with look-alikes, by client.
    pub transliterated: IntCounterVec,
    /// Texts refused by a rule, by client and rule.
    pub text_refusals: IntCounterVec,
    /// Submissions refused, by ingress (`smtp`, `http`) and reason.
    pub refused: IntCounterVec,
    /// SMTP connections open.
    pub smtp_connections: IntGauge,
    /// SMTP connections taken, by what became of them (`served`, `refused`).
    pub smtp_connections_taken: IntCounterVec,
    /// SMPP in.
    pub smpp: SmppMetrics,
    /// Those of CMPP in.
    pub cmpp: SmppMetrics,
    /// HTTP requests, by route and status.
    pub http_requests: IntCounterVec,
    /// Credentials checked, by result (`ok`, `bad`, `limited`, `busy`).
    pub credentials_checked: IntCounterVec,
    /// Attempts, by channel and outcome (`relayed`, `delayed`, `failed`).
    pub attempts: IntCounterVec,
    /// Facts, by channel, class and event.
    pub facts: IntCounterVec,
    /// Facts dropped because the event file could not be written.
    pub facts_dropped: IntCounter,
    /// Recipients waiting, by channel and class.
    pub queued_recipients: IntGaugeVec,
    /// Consignments out for delivery.
    pub leased: IntGauge,
    /// Attempts whose answer was lost: each is a possible duplicate, by channel.
    pub answers_lost: IntCounterVec,
    /// What becomes of texts.
    pub texts: TextMetrics,
    /// Outbound SMTP connections open.
    pub mail_connections: IntGauge,
    /// Outbound SMTP connections made.
    pub mail_connections_made: IntCounter,
    /// Mails sent over a connection that had carried one before.
    pub mail_connections_reused: IntCounter,
    /// Outbound SMTP connections open, by source.
    pub source_connections: IntGaugeVec,
    /// Times that a source was sent to rest because a site blamed it, by source.
    pub source_rests: IntCounterVec,
    /// The day of its plan that a source in warm-up is on, by source and provider; zero once it is warm.
    pub warmup_day: IntGaugeVec,
    /// Recipients that it may send to on that day; zero once it is warm.
    pub warmup_cap: IntGaugeVec,
    /// Recipients that it has sent to on that day.
    pub warmup_used: IntGaugeVec,
    /// Days in a row that gates have held it.
    pub warmup_held: IntGaugeVec,
    /// Days of warm-up that are over, by source, provider and verdict (`advanced`, `held`, `back`, `finished`).
    pub warmup_verdicts: IntCounterVec,
    /// TLS with mail hosts, by policy, who set it (`default`, `configured`, `mta-sts enforce`, …) and result (`secured`,
    /// `clear`, `broken`, `unmet`).
    pub mail_tls: IntCounterVec,
    /// MTA-STS policies fetched, by result (`ok`, `dns`, `connect`, `tls`, `http`, `policy`, `timeout`).
    pub mta_sts_fetches: IntCounterVec,
    /// Sessions with mail hosts as TLS reports count them, by policy type and result.
    pub tls_rpt_sessions: IntCounterVec,
    /// What found no room in the counts of TLS reports (`session`, `detail`).
    pub tls_rpt_left_out: IntCounterVec,
    /// TLS reports, by way (`mailto`, `https`, `none`) and result (`sent`, `failed`, `unwanted`, `given-up`).
    pub tls_reports: IntCounterVec,
    /// Mail hosts whose TLSA records were looked at, by result (`usable`, `unusable`, `none`, `failed`), and mails for which none
    /// could be (`no dnssec`).
    pub dane_lookups: IntCounterVec,
    /// Refusals of mail hosts, by provider and the class that the provider table gives them (`none` if no row knows them).
    pub replies: IntCounterVec,
    /// Steps that pacers have taken down, by provider and step (`eased`, `slowed`, `suspended`, `repair`, `lane`).
    pub pace_steps: IntCounterVec,
    /// Connections in force, by provider.
    pub provider_connections: IntGaugeVec,
    /// Mails a minute in force, by provider.
    pub provider_messages: IntGaugeVec,
    /// One while nothing is sent, by provider.
    pub provider_suspended: IntGaugeVec,
    /// One while a carrier's bind is up, by carrier.
    pub carrier_up: IntGaugeVec,
    /// Window slots in use, by carrier.
    pub carrier_window_used: IntGaugeVec,
    /// How full carriers say that they are, in percent, by carrier.
    pub carrier_congestion: IntGaugeVec,
    /// Parts submitted, by carrier and result (`sent`, `throttled`, `delayed`, `refused`, `unanswered`).
    pub carrier_parts: IntCounterVec,
    /// Receipts, by carrier and state.
    pub carrier_receipts: IntCounterVec,
    /// Receipts that match no message, by carrier.
    pub carrier_receipts_unmatched: IntCounterVec,
    /// Connections that carriers have made to us, by carrier.
    pub carrier_callbacks: IntGaugeVec,
    /// Connections of carriers, or of whoever that was, that were refused, by reason (`address`, `login`, `full`, `silent`).
    pub carrier_callbacks_refused: IntCounterVec,
    /// Messages from handsets, by carrier and result (`matched`, `unmatched`, `put-off`).
    pub handset_messages: IntCounterVec,
    /// Parts of handsets' long messages that wait for others.
    pub handset_parts: IntGauge,
    /// Opt-outs and their ends, by action (`out`, `in`) and who said so (`reply`, `operator`).
    pub opt_outs: IntCounterVec,
    /// Entries of the list of opt-outs.
    pub opt_out_entries: IntGauge,
    /// Batches made durable.
    pub log_batches: IntCounter,
    /// Bytes written to the log.
    pub log_bytes: IntCounter,
    /// Seconds spent writing and syncing the log; divided by the batches, the time of one.
    pub log_sync_seconds: Counter,
    /// Segments on disk.
    pub log_segments: IntGauge,
    /// Records set aside as corrupt.
    pub log_corrupt_records: IntCounter,
    /// Configuration reloads, by result (`ok`, `failed`).
    pub reloads: IntCounterVec,
}

impl Metrics {
    /// A fresh set.
    #[allow(clippy::too_many_lines, reason = "a catalogue, one entry a line")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let counters = |name: &str, help: &str, labels: &[&str]| declare.counters(name, help, labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| declare.gauges(name, help, labels);
        let counter = |name: &str, help: &str| declare.counter(name, help);
        let gauge = |name: &str, help: &str| declare.gauge(name, help);
        Self {
            accepted_messages: counters(
                "accepted_messages_total",
                "Messages answered yes, after they were durable.",
                &["channel", "client", "class"],
            ),
            accepted_bytes: counters("accepted_bytes_total", "Bytes of content answered yes.", &["channel"]),
            transliterated: counters("transliterated_texts_total", "Texts written with look-alikes.", &["client"]),
            text_refusals: counters("text_refusals_total", "Texts refused by a rule.", &["client", "rule"]),
            refused: counters("refused_submissions_total", "Submissions refused.", &["ingress", "reason"]),
            smtp_connections: gauge("smtp_connections", "SMTP connections open."),
            smtp_connections_taken: counters("smtp_connections_total", "SMTP connections taken.", &["result"]),
            smpp: SmppMetrics::new(&declare, "smpp", "SMPP"),
            cmpp: SmppMetrics::new(&declare, "cmpp", "CMPP"),
            http_requests: counters("http_requests_total", "HTTP requests.", &["route", "status"]),
            credentials_checked: counters("credentials_checked_total", "Credentials checked.", &["result"]),
            attempts: counters("attempts_total", "Attempts at delivery, per recipient.", &["channel", "outcome"]),
            facts: counters("events_total", "Events, as in the event log.", &["channel", "class", "event"]),
            facts_dropped: counter("events_dropped_total", "Events that could not be written to the event file."),
            queued_recipients: gauges("queued_recipients", "Recipients waiting.", &["channel", "class"]),
            leased: gauge("leased_consignments", "Consignments out for delivery."),
            answers_lost: counters("answers_lost_total", "Attempts whose final answer was lost.", &["channel"]),
            texts: TextMetrics::new(&declare),
            mail_connections: gauge("mail_connections", "Outbound SMTP connections open."),
            mail_connections_made: counter("mail_connections_made_total", "Outbound SMTP connections made."),
            mail_connections_reused: counter("mail_connections_reused_total", "Mails sent over a reused connection."),
            source_connections: gauges("source_connections", "Outbound SMTP connections open, by source.", &["source"]),
            source_rests: counters("source_rests_total", "Times that a site has blamed a source.", &["source"]),
            warmup_day: gauges("warmup_day", "The day of its plan; 0 once it is warm.", &["source", "provider"]),
            warmup_cap: gauges("warmup_recipients_limit", "Recipients a day; 0: no limit.", &["source", "provider"]),
            warmup_used: gauges("warmup_recipients", "Recipients on the current day.", &["source", "provider"]),
            warmup_held: gauges("warmup_held_days", "Days in a row held by gates.", &["source", "provider"]),
            warmup_verdicts: counters(
                "warmup_days_total",
                "Days of warm-up, judged.",
                &["source", "provider", "verdict"],
            ),
            mail_tls: counters(
                "mail_tls_total",
                "TLS with mail hosts, by the policy that held and what came of it.",
                &["policy", "source", "result"],
            ),
            mta_sts_fetches: counters("mta_sts_fetches_total", "MTA-STS policies asked for.", &["result"]),
            tls_rpt_sessions: counters(
                "tls_rpt_sessions_total",
                "Sessions with mail hosts as TLS reports count them.",
                &["policy_type", "result"],
            ),
            tls_rpt_left_out: counters("tls_rpt_left_out_total", "What found no room in TLS reports.", &["what"]),
            tls_reports: counters("tls_reports_total", "TLS reports, by way and result.", &["way", "result"]),
            dane_lookups: counters("dane_lookups_total", "Mail hosts whose TLSA records were looked at.", &["result"]),
            replies: counters(
                "replies_total",
                "Refusals of mail hosts, as the provider table judges them.",
                &["provider", "class"],
            ),
            pace_steps: counters("pace_steps_total", "Steps down that pacers have taken.", &["provider", "step"]),
            provider_connections: gauges("provider_connections_limit", "Connections at once.", &["provider"]),
            provider_messages: gauges(
                "provider_messages_per_minute_limit",
                "Mails that may leave in a minute; 0: no limit.",
                &["provider"],
            ),
            provider_suspended: gauges("provider_suspended", "1 while nothing is sent there.", &["provider"]),
            carrier_up: gauges("carrier_up", "1 while the carrier's bind is up.", &["carrier"]),
            carrier_window_used: gauges("carrier_window_used", "Window slots in use.", &["carrier"]),
            carrier_congestion: gauges("carrier_congestion_percent", "How full the carrier says it is.", &["carrier"]),
            carrier_parts: counters("carrier_parts_total", "Parts submitted.", &["carrier", "result"]),
            carrier_receipts: counters("carrier_receipts_total", "Delivery receipts.", &["carrier", "state"]),
            carrier_receipts_unmatched: counters(
                "carrier_receipts_unmatched_total",
                "Receipts without a message.",
                &["carrier"],
            ),
            carrier_callbacks: gauges("carrier_callbacks", "Connections that carriers have made to us.", &["carrier"]),
            carrier_callbacks_refused: counters("carrier_callbacks_refused_total", "Callers refused.", &["reason"]),
            handset_messages: counters("handset_messages_total", "Messages from handsets.", &["carrier", "result"]),
            handset_parts: gauge("handset_parts_waiting", "Parts of handsets' messages that wait for others."),
            opt_outs: counters("opt_outs_total", "Opt-outs and their ends.", &["action", "by"]),
            opt_out_entries: gauge("opt_outs", "Entries of the list of opt-outs."),
            log_batches: counter("log_batches_total", "Batches made durable."),
            log_bytes: counter("log_bytes_total", "Bytes written to the log."),
            log_sync_seconds: declared(
                &registry,
                Counter::new("postrider_log_sync_seconds_total", "Seconds spent writing and syncing the log."),
            ),
            log_segments: gauge("log_segments", "Segments on disk."),
            log_corrupt_records: counter("log_corrupt_records_total", "Records set aside as corrupt."),
            reloads: counters("configuration_reloads_total", "Configuration reloads.", &["result"]),
            registry,
        }
    }

    /// The exposition in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(error = %e, "metrics could not be rendered");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// What becomes of texts at carriers.
#[derive(Debug)]
pub struct TextMetrics {
    /// Of a hundred that a carrier took lately, how many arrived.
    pub arrives: IntGaugeVec,
    /// Seconds within which 19 of 20 of its receipts come.
    pub receipt_seconds: IntGaugeVec,
    /// Parts that carriers took, by client and carrier.
    pub parts: IntCounterVec,
    /// What they cost, by client and carrier.
    pub costs: CounterVec,
    /// Texts that leave once more, by reason.
    pub again: IntCounterVec,
    /// Texts that wait for receipts on disk, about.
    pub shelved: IntGauge,
    /// Bytes that they and what finds them take there.
    pub shelf_bytes: IntGauge,
    /// Messages from handsets for which a rule held, by rule and what came of its answer (`told`: it has none, `answered`, or why
    /// not).
    pub reply_rules: IntCounterVec,
    /// Answers and receipts that said that a number is of another network, by carrier.
    pub ported_learnt: IntCounterVec,
    /// Numbers that are known to be of another network than their digits say.
    pub ported_numbers: IntGauge,
}

impl TextMetrics {
    fn new(declare: &Declare<'_>) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| declare.counters(name, help, labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| declare.gauges(name, help, labels);
        Self {
            arrives: gauges("carrier_arrives_percent", "Texts that arrive, lately.", &["carrier"]),
            receipt_seconds: gauges("carrier_receipt_seconds", "19 of 20 receipts come so soon.", &["carrier"]),
            parts: counters("text_parts_total", "Parts of texts that were sent.", &["client", "carrier"]),
            costs: declare.amounts("text_costs_total", "What they cost.", &["client", "carrier"]),
            again: counters("texts_again_total", "Texts that leave once more.", &["reason"]),
            shelved: declare.gauge("texts_shelved", "Texts that wait for receipts on disk, about."),
            shelf_bytes: declare.gauge("shelf_bytes", "Bytes that they take there."),
            reply_rules: counters("reply_rules_total", "Messages from handsets by rule.", &["rule", "result"]),
            ported_learnt: counters("ported_learnt_total", "Answers that a number is another's.", &["carrier"]),
            ported_numbers: declare.gauge("ported_numbers", "Numbers that are not of the network they seem to be of."),
        }
    }
}

/// Those of SMPP in, and the same of CMPP in.
#[derive(Debug)]
pub struct SmppMetrics {
    /// SMPP connections taken, by what became of them (`served`, `refused`; `cut-off` as well for what could not go on).
    pub connections: IntCounterVec,
    /// SMPP binds, by client.
    pub binds: IntGaugeVec,
    /// Submissions by SMPP, by client and result (`taken`, `refused`, `throttled`).
    pub submissions: IntCounterVec,
    /// Parts of long texts submitted by SMPP that wait for others.
    pub parts: IntGauge,
    /// Such parts whose others did not come.
    pub parts_given_up: IntCounter,
    /// Texts whose receipts are wanted by SMPP and not taken.
    pub receipts_wanted: IntGauge,
    /// Receipts and replies that wait to be brought, by client.
    pub deliveries_waiting: IntGaugeVec,
    /// Receipts and replies brought, by client, kind (`receipt`, `reply`) and result (`taken`, `put-off`, `expired`).
    pub deliveries: IntCounterVec,
}

impl SmppMetrics {
    /// `word` stands for `smpp` in their names, `name` for SMPP in what they say.
    fn new(declare: &Declare<'_>, word: &str, name: &str) -> Self {
        let named = |metric: &str| metric.replace("smpp", word);
        let said = |help: &str| help.replace("SMPP", name);
        let counters =
            |metric: &str, help: &str, labels: &[&str]| declare.counters(&named(metric), &said(help), labels);
        let gauges = |metric: &str, help: &str, labels: &[&str]| declare.gauges(&named(metric), &said(help), labels);
        let counter = |metric: &str, help: &str| declare.counter(&named(metric), &said(help));
        let gauge = |metric: &str, help: &str| declare.gauge(&named(metric), &said(help));
        Self {
            connections: counters("smpp_connections_total", "SMPP connections taken.", &["result"]),
            binds: gauges("smpp_binds", "SMPP binds.", &["client"]),
            submissions: counters("smpp_submissions_total", "Submissions by SMPP.", &["client", "result"]),
            parts: gauge("smpp_parts_waiting", "Parts of texts submitted by SMPP that wait for others."),
            parts_given_up: counter("smpp_parts_given_up_total", "Such parts whose others did not come."),
            receipts_wanted: gauge("smpp_receipts_wanted", "Texts whose receipts are wanted by SMPP and not taken."),
            deliveries_waiting: gauges("smpp_deliveries_waiting", "Receipts and replies to be brought.", &["client"]),
            deliveries: counters(
                "smpp_deliveries_total",
                "Receipts and replies brought by SMPP.",
                &["client", "kind", "result"],
            ),
        }
    }
}

/// Makes and registers metrics.
struct Declare<'r>(&'r Registry);

impl Declare<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        declared(self.0, IntCounterVec::new(Opts::new(format!("postrider_{name}"), help), labels))
    }

    fn amounts(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        declared(self.0, CounterVec::new(Opts::new(format!("postrider_{name}"), help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        declared(self.0, IntGaugeVec::new(Opts::new(format!("postrider_{name}"), help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        declared(self.0, IntCounter::new(format!("postrider_{name}"), help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        declared(self.0, IntGauge::new(format!("postrider_{name}"), help))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn declared<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.unwrap_or_else(|e| panic!("metric declaration: {e}"));
    registry.register(Box::new(collector.clone())).unwrap_or_else(|e| panic!("metric declaration: {e}"));
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_prefixed_and_rendered() {
        let metrics = Metrics::new();
        metrics.refused.with_label_values(&["smtp", "size"]).inc();
        let text = metrics.render();
        assert!(text.contains(r#"postrider_refused_submissions_total{ingress="smtp",reason="size"} 1"#), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            assert!(line.starts_with("postrider_"), "{line}");
        }
    }
}
