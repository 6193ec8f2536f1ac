//! TLS to mail hosts: what the administrator and what the domain demand, and what happens where a host does not have it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::keys::Authority;
use crate::support::peer::MailSink;
use crate::support::policy_host::PolicyHost;
use crate::support::relay::{Relay, SENDER_DOMAIN, Settings};
use crate::support::{SOON, SilentPort, eventually};

/// Certificate and key in files; the authority's certificate as `ca.pem` beside them.
fn issued(dir: &Path, authority: &Authority, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.issue(&[name]);
    let files = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    std::fs::write(&files.0, certificate).unwrap();
    std::fs::write(&files.1, key).unwrap();
    std::fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    files
}

/// Waits until `explain` tells of an attempt that was put off under that policy, for that reason.
fn waits(relay: &Relay, id: &str, policy: &str, reason: &str) {
    let message = relay.explained(id, SOON, |m| m["recipients"][0]["attempts"][0]["reason"].is_string());
    let attempt = &message["recipients"][0]["attempts"][0];
    assert_eq!(attempt["tls_policy"], policy, "{message}");
    let told = attempt["reason"].as_str().unwrap();
    assert!(told.contains(policy) && told.contains(reason), "{told}");
    let event = relay.event("delayed", |e| e["id"] == id);
    assert_eq!((&event["peer"]["tls_policy"], &event["reason"]), (&attempt["tls_policy"], &attempt["reason"]));
}

#[test]
fn mail_that_demands_tls_waits_until_the_host_has_it() {
    let port = SilentPort::take();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    let good = issued(dir.path(), &authority, "mx.shared.example");
    let extra = format!(
        "tls_ca_file = {:?}\n[[tls_policy]]\ndomains = [\"required.example\"]\ntls = \"required\"\n\
         [[tls_policy]]\ndomains = [\"verified.example\"]\ntls = \"verified\"\nmx = [\"*.shared.example\"]\n",
        dir.path().join("ca.pem"),
    );
    let relay = Relay::start(&Settings { smtp_port: port.port, extra, ..Settings::default() });
    for domain in ["any.example", "required.example", "verified.example"] {
        relay.dns.mx(domain, 10, "mx.shared.example");
    }
    relay.dns.a("mx.shared.example", Ipv4Addr::LOCALHOST);

    // In clear: only what may go in clear goes, over the site that they share.
    let sink = MailSink::start(port.port);
    let required = relay.submit_hello("required", &["lin@required.example"]);
    let verified = relay.submit_hello("verified", &["lin@verified.example"]);
    waits(&relay, &required, "required (configured for required.example)", "it does not offer STARTTLS");
    waits(&relay, &verified, "verified (configured for verified.example)", "it does not offer STARTTLS");
    let any = relay.submit_hello("any", &["lin@any.example"]);
    assert!(!sink.subject("any").tls);
    relay.reaches(&any, "delivered");
    assert_eq!(sink.mails().len(), 1);
    drop(sink);

    // With a certificate that proves nothing: what must be verified still waits.
    let stranger = dir.path().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    let bad = issued(&stranger, &Authority::new("a stranger"), "mx.shared.example");
    let sink = MailSink::start_tls(port.port, &bad.0, &bad.1);
    assert!(sink.subject("required").tls);
    relay.reaches(&required, "delivered");
    let last =
        |m: &Value| m["recipients"][0]["attempts"].as_array().and_then(|a| a.last().cloned()).unwrap_or_default();
    let unproven = "its certificate comes from no trusted authority";
    relay.explained(&verified, SOON, |m| last(m)["reason"].as_str().is_some_and(|r| r.contains(unproven)));
    assert_eq!(sink.mails().len(), 1);
    drop(sink);

    let sink = MailSink::start_tls(port.port, &good.0, &good.1);
    assert!(sink.subject("verified").tls);
    relay.reaches(&verified, "delivered");
    let delivered = relay.event("delivered", |e| e["id"] == verified);
    assert_eq!(delivered["peer"]["tls_policy"], "verified (configured for verified.example)");
    assert!(delivered["peer"]["tls"].as_str().unwrap().starts_with("TLSv1."));
}

#[test]
fn what_a_domain_publishes_is_followed_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    let files = issued(dir.path(), &authority, "mx.sts.example");
    let sink = MailSink::start_tls(0, &files.0, &files.1);
    let (certificate, key) =
        authority.issue(&["mta-sts.sts.example", "mta-sts.forged.example", "mta-sts.test.example"]);
    let policies = PolicyHost::start(&certificate, &key);
    let policy = |mode: &str, host: &str| format!("version: STSv1\r\nmode: {mode}\r\nmx: {host}\r\nmax_age: 86400\r\n");
    policies.serve("sts.example", &policy("enforce", "*.sts.example"));
    policies.serve("forged.example", &policy("enforce", "mx.forged.example"));
    policies.serve("test.example", &policy("testing", "mx.test.example"));
    let ca = dir.path().join("ca.pem");
    let extra =
        format!("tls_ca_file = {ca:?}\n[mta_sts]\nport = {}\nca_file = {ca:?}\ntimeout = \"10s\"\n", policies.port);
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    let domains = ["sts.example", "forged.example", "test.example"];
    for domain in domains {
        relay.dns.mx(domain, 10, "mx.sts.example").a(&format!("mta-sts.{domain}"), Ipv4Addr::LOCALHOST);
        relay.dns.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=20261126T000000;");
    }
    relay.dns.a("mx.sts.example", Ipv4Addr::LOCALHOST);

    let id = relay.submit_hello("sts", &["lin@sts.example"]);
    assert!(sink.subject("sts").tls);
    relay.reaches(&id, "delivered");
    assert_eq!(relay.event("delivered", |e| e["id"] == id)["peer"]["tls_policy"], "verified (mta-sts enforce)");
    let secured = r#"postrider_mail_tls_total{policy="verified",result="secured",source="mta-sts enforce"}"#;
    assert_eq!(relay.metric(secured), Some(1));
    // The MX record of this one leads to a host that its policy does not name; nothing goes there.
    let forged = relay.submit_hello("forged", &["lin@forged.example"]);
    waits(&relay, &forged, "verified (mta-sts enforce)", "the policy names other mail hosts");
    let id = relay.submit_hello("test", &["lin@test.example"]);
    sink.subject("test");
    relay.reaches(&id, "delivered");
    assert_eq!(relay.event("delivered", |e| e["id"] == id)["peer"]["tls_policy"], "opportunistic (mta-sts testing)");
    assert_eq!(policies.asked(), 3);
    assert_eq!(relay.metric(r#"postrider_mta_sts_fetches_total{result="ok"}"#), Some(3));

    // Whoever takes the record and the policy away does not get the mail either, nor after a start.
    let kept = relay.data_dir.join("mta-sts.json");
    eventually("three policies are kept", SOON, || {
        let kept: Value = serde_json::from_slice(&std::fs::read(&kept).ok()?).ok()?;
        (kept["policies"].as_array()?.len() == 3).then_some(())
    });
    for domain in domains {
        policies.serve(domain, "");
        relay.dns.forget(&format!("_mta-sts.{domain}"));
    }
    relay.kill_9();
    relay.launch();
    let second = relay.submit_hello("forged again", &["lin@forged.example"]);
    waits(&relay, &second, "verified (mta-sts enforce)", "the policy names other mail hosts");
    let id = relay.submit_hello("sts again", &["lin@sts.example"]);
    assert!(sink.subject("sts again").tls);
    relay.reaches(&id, "delivered");
    assert_eq!(relay.event("delivered", |e| e["id"] == id)["peer"]["tls_policy"], "verified (mta-sts enforce)");
    assert!(sink.mails().iter().all(|mail| !mail.to[0].contains("forged")));
    assert_eq!(policies.asked(), 3);
}

#[test]
fn what_a_mail_wants_of_tls_itself_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    let files = issued(dir.path(), &authority, "mx.sts.example");
    let mut sink = MailSink::start_tls(0, &files.0, &files.1);
    let (certificate, key) = authority.issue(&["mta-sts.sts.example", "mta-sts.forged.example"]);
    let policies = PolicyHost::start(&certificate, &key);
    policies.serve("sts.example", "version: STSv1\r\nmode: enforce\r\nmx: mx.sts.example\r\nmax_age: 86400\r\n");
    policies.serve("forged.example", "version: STSv1\r\nmode: enforce\r\nmx: mx.forged.example\r\nmax_age: 86400\r\n");
    let ca = dir.path().join("ca.pem");
    let extra =
        format!("tls_ca_file = {ca:?}\n[mta_sts]\nport = {}\nca_file = {ca:?}\ntimeout = \"10s\"\n", policies.port);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    for domain in ["sts.example", "forged.example", "plain.example"] {
        relay.dns.mx(domain, 10, "mx.sts.example").a(&format!("mta-sts.{domain}"), Ipv4Addr::LOCALHOST);
    }
    for domain in ["sts.example", "forged.example"] {
        relay.dns.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=1;");
    }
    relay.dns.a("mx.sts.example", Ipv4Addr::LOCALHOST);
    let submit = |subject: &str, field: &str, to: &str| {
        let mail = format!("From: <hello@{SENDER_DOMAIN}>\r\nSubject: {subject}\r\n{field}\r\n\r\nHello\r\n");
        relay.submit(&[to], &mail)
    };
    let required = "X-Postrider-Require-TLS: yes";
    let fails = |id: &str, why: &str| {
        let failed = relay.event("bounced", |e| e["id"] == id);
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("the mail demands REQUIRETLS") && reason.contains(why), "{reason}");
        assert_eq!(failed["bounce"]["category"], "message", "{failed}");
    };

    // The host is vouched for, and does not promise what is asked; of the other nobody knows whether it is the right one.
    fails(&submit("no promise", required, "lin@sts.example"), "mx.sts.example does not offer REQUIRETLS");
    fails(&submit("no word", required, "lin@plain.example"), "nothing vouches for the mail hosts of plain.example");
    sink.0.steer(&serde_json::json!({"requiretls": true}));
    let id = submit("promised", required, "lin@sts.example");
    let mail = sink.subject("promised");
    assert!(mail.tls && mail.options.iter().any(|o| o == "REQUIRETLS"), "{mail:?}");
    assert_eq!(mail.field("X-Postrider-Require-TLS"), None);
    relay.reaches(&id, "delivered");
    assert_eq!(
        relay.event("delivered", |e| e["id"] == id)["peer"]["tls_policy"],
        "verified (the mail says REQUIRETLS)"
    );
    let other = relay.submit_hello("other", &["lin@sts.example"]);
    assert!(!sink.subject("other").options.iter().any(|o| o == "REQUIRETLS"));
    relay.reaches(&other, "delivered");

    // Better arrive than be secret: the policy that names other hosts is set aside for one mail, not for the next.
    let waived = submit("waived", "TLS-Required: No", "lin@forged.example");
    assert_eq!(sink.subject("waived").field("TLS-Required").as_deref(), Some("No"));
    relay.reaches(&waived, "delivered");
    assert_eq!(
        relay.event("delivered", |e| e["id"] == waived)["peer"]["tls_policy"],
        "opportunistic (the mail says TLS-Required: No)"
    );
    let forged = relay.submit_hello("forged", &["lin@forged.example"]);
    waits(&relay, &forged, "verified (mta-sts enforce)", "the policy names other mail hosts");
}
