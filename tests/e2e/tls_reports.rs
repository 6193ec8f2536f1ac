//! TLS reports: what became of sessions with mail hosts reaches those who asked for it, once, and as the RFC wants it.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::support::keys::Authority;
use crate::support::peer::{MailSink, filter, judge_dkim, python};
use crate::support::policy_host::PolicyHost;
use crate::support::relay::{Relay, SENDER_DOMAIN, Settings};
use crate::support::report_host::ReportHost;
use crate::support::{SOON, SilentPort, eventually, script};

/// What Python's email, gzip and json find in a report.
fn read(arguments: &[&str], report: &[u8]) -> Value {
    let mut reader = python();
    reader.arg(script("tls_report.py")).args(arguments);
    serde_json::from_str(&filter(&mut reader, report)).unwrap()
}

/// `postrider tls-reports --json`, as domain, sessions that succeeded and that failed.
fn counted(relay: &Relay) -> (Value, Vec<(String, u64, u64)>) {
    let output = relay.command(&["tls-reports", "--json"]);
    let view: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{output:?}: {e}"));
    let line = |domain: &Value| {
        let count = |key: &str| domain[key].as_u64().unwrap();
        (domain["domain"].as_str().unwrap().to_owned(), count("successful"), count("failed"))
    };
    let lines = view["domains"].as_array().unwrap().iter().map(line).collect();
    (view, lines)
}

/// The events about reports on a domain: result, and where it went.
fn told(relay: &Relay, domain: &str) -> Vec<[String; 2]> {
    let events = relay.events("tls_report").into_iter();
    let about = events.filter(|e| e["tls_report"]["domain"] == domain);
    about.map(|e| ["result", "to"].map(|key| e["tls_report"][key].as_str().unwrap_or_default().to_owned())).collect()
}

#[test]
fn each_domain_that_asks_hears_of_its_own_sessions() {
    let port = SilentPort::take();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    let issued = |name: &str| {
        let (certificate, key) = authority.issue(&[name]);
        let files = (dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
        std::fs::write(&files.0, &certificate).unwrap();
        std::fs::write(&files.1, &key).unwrap();
        (files, certificate, key)
    };
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let (good, ..) = issued("mx.good.example");
    let (_, certificate, key) = issued("collector.good.example");
    let collector = ReportHost::start(&certificate, &key);
    let (certificate, key) = authority.issue(&["mta-sts.good.example", "mta-sts.bad.example"]);
    let policies = PolicyHost::start(&certificate, &key);
    for domain in ["good.example", "bad.example"] {
        let policy = format!("version: STSv1\r\nmode: enforce\r\nmx: mx.{domain}\r\nmax_age: 86400\r\n");
        policies.serve(domain, &policy);
    }
    let extra = format!(
        "tls_ca_file = {ca:?}\n[mta_sts]\nport = {}\nca_file = {ca:?}\n[tls_reports]\norganization = \"Example Shop\"\n\
         contact = \"postmaster@{SENDER_DOMAIN}\"\nfrom = \"tls-reports@{SENDER_DOMAIN}\"\nverify_https = true\nca_file = {ca:?}\n",
        policies.port,
    );
    let settings = Settings { smtp_port: port.port, retry: r#"["1h"]"#, extra, ..Settings::default() };
    let mut relay = Relay::start(&settings);
    for domain in ["good.example", "bad.example", "clear.example"] {
        let (mx, sts) = (format!("mx.{domain}"), format!("mta-sts.{domain}"));
        relay.dns.mx(domain, 10, &mx).a(&mx, Ipv4Addr::LOCALHOST).a(&sts, Ipv4Addr::LOCALHOST);
    }
    for domain in ["good.example", "bad.example"] {
        relay.dns.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=1;");
    }
    let url = format!("https://collector.good.example:{}/v1/tlsrpt?x=1", collector.port);
    relay.dns.txt("_smtp._tls.good.example", &format!("v=TLSRPTv1; rua={url}"));
    relay.dns.txt("_smtp._tls.bad.example", "v=TLSRPTv1; rua=mailto:tls@good.example");
    relay.dns.a("collector.good.example", Ipv4Addr::LOCALHOST);

    // One without STARTTLS, one whose policy is met, one whose host shows a certificate in another's name.
    let sink = MailSink::start(port.port);
    let clear = relay.submit_hello("clear", &["lin@clear.example"]);
    relay.reaches(&clear, "delivered");
    drop(sink);
    let sink = MailSink::start_tls(port.port, &good.0, &good.1);
    let fine = relay.submit_hello("good", &["lin@good.example"]);
    relay.reaches(&fine, "delivered");
    let bad = relay.submit_hello("bad", &["lin@bad.example"]);
    relay.reaches(&bad, "delayed");
    let expected = [("bad.example", 0, 1), ("clear.example", 0, 1), ("good.example", 1, 0)];
    let expected = expected.map(|(domain, good, bad)| (domain.to_owned(), good, bad));
    assert_eq!(counted(&relay).1, expected);
    let unmet = r#"postrider_tls_rpt_sessions_total{policy_type="sts",result="certificate-host-mismatch"}"#;
    assert_eq!(relay.metric(unmet), Some(1));

    // A restart loses nothing of it.
    relay.stop(SOON);
    relay.launch();
    assert_eq!(counted(&relay).1, expected);
    let sent = relay.command(&["tls-reports", "--send-now", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&sent.stdout).unwrap(), json!({ "reports": 3 }), "{sent:?}");

    // By mail: signed, and as the RFC wants it.
    let mail = sink.wait_for("a report", SOON, |mail| mail.to == ["tls@good.example"]);
    assert_eq!(mail.from, format!("tls-reports@{SENDER_DOMAIN}"));
    let found = read(&[], &mail.data);
    let (fields, report) = (&found["fields"], &found["report"]);
    assert_eq!((&found["type"], &fields["tls-report-domain"]), (&json!("tlsrpt"), &json!("bad.example")));
    assert_eq!((&fields["tls-report-submitter"], &fields["tls-required"]), (&json!(SENDER_DOMAIN), &json!("No")));
    let id = report["report-id"].as_str().unwrap();
    let subject = format!("Report Domain: bad.example Submitter: {SENDER_DOMAIN} Report-ID: <{id}>");
    assert_eq!(fields["subject"], subject);
    let file = found["file"].as_str().unwrap();
    assert!(file.starts_with(&format!("{SENDER_DOMAIN}!bad.example!")) && file.ends_with(".json.gz"), "{file}");
    assert_eq!(
        (&report["organization-name"], &report["contact-info"]),
        (&json!("Example Shop"), &json!(format!("postmaster@{SENDER_DOMAIN}")))
    );
    let lines = ["version: STSv1", "mode: enforce", "mx: mx.bad.example", "max_age: 86400"];
    assert_eq!(
        report["policies"],
        json!([{
            "policy": { "policy-type": "sts", "policy-string": lines, "policy-domain": "bad.example", "mx-host": ["mx.bad.example"] },
            "summary": { "total-successful-session-count": 0, "total-failure-session-count": 1 },
            "failure-details": [{
                "result-type": "certificate-host-mismatch", "sending-mta-ip": "127.0.0.1", "receiving-ip": "127.0.0.1",
                "receiving-mx-hostname": "mx.bad.example", "receiving-mx-helo": report["policies"][0]["failure-details"][0]["receiving-mx-helo"],
                "failed-session-count": 1, "failure-reason-code": "its certificate is not in its name",
            }],
        }])
    );
    let signatures = judge_dkim(relay.dir(), &relay.dkim_zone, &mail.data);
    assert_eq!(signatures.len(), 2, "RSA and Ed25519");
    let signed: String = fields["dkim-signature"].as_str().unwrap().split_whitespace().collect();
    assert!(signed.contains(":tls-report-domain:tls-report-domain:tls-report-submitter:"), "{signed}");
    for signature in signatures {
        assert!(signature.is_right() && signature.domain == SENDER_DOMAIN, "{signature:?}");
    }

    // By HTTPS: who says "later" is asked again. Nobody waits for that here.
    collector.wait_for(1);
    let again = || {
        relay.command(&["tls-reports", "--send-now"]);
        (counted(&relay).0["reports_waiting"] == 0).then_some(())
    };
    eventually("the other report is taken", SOON, again);
    let (header, body) = collector.wait_for(2).pop().unwrap();
    assert!(header.starts_with("post /v1/tlsrpt?x=1 http/1.1\r\n"), "{header}");
    assert!(header.contains("\r\ncontent-type: application/tlsrpt+gzip\r\n"), "{header}");
    let report = &read(&["--body"], &body)["report"];
    assert_eq!(report["policies"][0]["policy"]["policy-domain"], "good.example");
    assert_eq!(
        report["policies"][0]["summary"],
        json!({ "total-successful-session-count": 1, "total-failure-session-count": 0 })
    );

    // Told and counted; the sessions of the report itself are not.
    let events = || {
        let all = ["bad.example", "good.example", "clear.example"].map(|domain| told(&relay, domain));
        let words = |result: &str, to: &str| vec![[result.to_owned(), to.to_owned()]];
        let expected = [words("sent", "mailto:tls@good.example"), words("sent", &url), words("unwanted", "")];
        (all == expected).then_some(())
    };
    eventually("the ends of all three are events", SOON, events);
    assert_eq!(relay.metric(r#"postrider_tls_reports_total{result="sent",way="https"}"#), Some(1));
    assert_eq!(counted(&relay).1, []);
    assert_eq!(sink.mails().iter().filter(|mail| mail.to == ["tls@good.example"]).count(), 1);
}
