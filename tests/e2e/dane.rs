//! DANE: signed zones, judged by BIND's `delv`, decide whether and how mail goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use postrider::dns::zone::{Flaw, Trick, Zone};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::keys::Authority;
use crate::support::peer::MailSink;
use crate::support::policy_host::PolicyHost;
use crate::support::relay::{Relay, SENDER_DOMAIN, Settings};
use crate::support::{SOON, SilentPort};

/// A certificate with its key in files, and the digest that a TLSA record `3 0 1` has of it.
struct Identity {
    files: (PathBuf, PathBuf),
    digest: Vec<u8>,
}

fn identity(dir: &Path, name: &str) -> Identity {
    let authority = Authority::new("the authority");
    let (certificate, key) = authority.issue(&[name]);
    let files = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    std::fs::write(&files.0, &certificate).unwrap();
    std::fs::write(&files.1, key).unwrap();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    Identity { files, digest: digest(&SHA256, &der).as_ref().to_vec() }
}

/// Where the TLSA records of a host stand.
fn tlsa(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}

/// A relay whose name server is the signed zone, whose root it trusts.
fn relay(zone: &Zone, smtp_port: u16, extra: &str) -> Relay {
    let extra = format!("{extra}\n[dane]\ntrust_anchors = \"root.key\"\n");
    let mut relay = Relay::prepare(&Settings { smtp_port, extra, ..Settings::default() });
    std::fs::write(relay.dir().join("root.key"), zone.anchor()).unwrap();
    relay.dns.sign(zone);
    relay.launch();
    relay
}

/// What BIND says of a name's records, from the same root: `fully validated`, `unsigned answer`, or what is wrong.
fn delv(relay: &Relay, zone: &Zone, name: &str, kind: &str) -> String {
    let anchors = relay.dir().join("anchors.conf");
    let key = zone.anchor();
    let bytes = key.split_whitespace().last().unwrap();
    std::fs::write(&anchors, format!("trust-anchors {{ . static-key 257 3 15 \"{bytes}\"; }};\n")).unwrap();
    let server = relay.dns.address;
    let mut command = Command::new("delv");
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string()]);
    command.arg("-a").arg(&anchors).args(["+root=.", "+nodlv", name, kind]);
    let output = command.output().unwrap_or_else(|e| panic!("delv: {e} (tests/setup installs it)"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Waits until an attempt was put off, and gives its policy and reason.
fn delayed(relay: &Relay, id: &str) -> (String, String) {
    let message = relay.explained(id, SOON, |m| m["recipients"][0]["attempts"][0]["reason"].is_string());
    let attempt = &message["recipients"][0]["attempts"][0];
    assert_eq!(attempt["outcome"].as_str().unwrap_or("delayed"), "delayed", "{message}");
    let policy = attempt["tls_policy"].as_str().unwrap_or_default().to_owned();
    (policy, attempt["reason"].as_str().unwrap().to_owned())
}

/// The policy under which a mail was delivered.
fn delivered(relay: &Relay, id: &str) -> String {
    relay.reaches(id, "delivered");
    relay.event("delivered", |e| e["id"] == id)["peer"]["tls_policy"].as_str().unwrap().to_owned()
}

/// Each domain's mail goes to the host of its own name, all of which are the one sink.
fn zone(port: u16, right: &[u8], wrong: &[u8]) -> Zone {
    // A short time: what is put right counts soon.
    let mut zone = Zone::new().ttl(5).signed(".").signed("example").unsigned("plain.example");
    for domain in ["good", "wrong", "forged", "expired", "stripped", "none", "old", "broken", "plain", "unusable"] {
        let host = format!("mx.{domain}.example");
        zone = zone.mx(&format!("{domain}.example"), 10, &host).a(&host, [127, 0, 0, 1]);
    }
    zone.tlsa(&tlsa(port, "mx.good.example"), [3, 0, 1], right)
        .tlsa(&tlsa(port, "mx.wrong.example"), [3, 0, 1], wrong)
        .tlsa(&tlsa(port, "mx.forged.example"), [3, 0, 1], right)
        .flawed(&tlsa(port, "mx.forged.example"), Flaw::Forged)
        .flawed("expired.example", Flaw::Expired)
        .flawed("stripped.example", Flaw::Missing)
        .trick(&tlsa(port, "mx.broken.example"), Trick::ServFail)
        .tlsa(&tlsa(port, "mx.plain.example"), [3, 0, 1], wrong)
        .tlsa(&tlsa(port, "mx.unusable.example"), [1, 1, 1], right)
        // An alias into an unsigned zone: the records at its own name count.
        .cname("mx.alias.example", "mx.plain.example")
        .mx("alias.example", 10, "mx.alias.example")
        .tlsa(&tlsa(port, "mx.alias.example"), [3, 0, 1], wrong)
}

#[test]
fn tlsa_records_that_dnssec_vouches_for_decide() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (identity(dir.path(), "mx.good.example"), identity(dir.path(), "mx.other.example"));
    let sink = MailSink::start_tls(0, &own.files.0, &own.files.1);
    let port = sink.0.port;
    let zone = zone(port, &own.digest, &other.digest);
    let extra = "[[tls_policy]]\ndomains = [\"old.example\"]\ntls = \"dane\"\n";
    let relay = relay(&zone, port, extra);

    // Somebody else's word on the zone first.
    for (name, kind, said) in [
        ("good.example", "MX", "; fully validated"),
        ("mx.good.example", "A", "; fully validated"),
        (&*tlsa(port, "mx.good.example"), "TLSA", "; fully validated"),
        (&*tlsa(port, "mx.none.example"), "TLSA", "; negative response, fully validated"),
        ("plain.example", "MX", "; unsigned answer"),
        ("expired.example", "MX", "RRSIG has expired"),
        ("stripped.example", "MX", "resolution failed"),
        (&*tlsa(port, "mx.forged.example"), "TLSA", "resolution failed"),
    ] {
        let answer = delv(&relay, &zone, name, kind);
        assert!(answer.contains(said), "{name} {kind}: {answer}");
    }

    for (domain, policy) in [
        // The authority that issued the certificate is known to nobody.
        ("good.example", "verified (dane)"),
        ("unusable.example", "required (dane, unusable TLSA)"),
        ("none.example", "opportunistic (default)"),
        ("plain.example", "opportunistic (default)"),
    ] {
        let id = relay.submit_hello(domain, &[&format!("lin@{domain}")]);
        assert!(sink.subject(domain).tls, "{domain}");
        assert_eq!(delivered(&relay, &id), policy, "{domain}");
    }
    let before = sink.mails().len();
    for (domain, policy, reason) in [
        ("wrong.example", "verified (dane)", "its certificate is none of those that its TLSA records name (3 0 1 "),
        ("alias.example", "verified (dane)", "its certificate is none of those that its TLSA records name (3 0 1 "),
        ("forged.example", "verified (dane)", "are not to be had: its DNSSEC signatures do not hold"),
        ("broken.example", "verified (dane)", "are not to be had: the look-up failed for now"),
        ("expired.example", "", "expired.example: its DNSSEC signatures do not hold"),
        ("stripped.example", "", "stripped.example: its DNSSEC signatures do not hold"),
        ("old.example", "dane (configured for old.example)", "it has no TLSA records"),
    ] {
        let id = relay.submit_hello(domain, &[&format!("lin@{domain}")]);
        let (shown, told) = delayed(&relay, &id);
        assert_eq!(shown, policy, "{domain}: {told}");
        assert!(told.contains(reason), "{domain}: {told}");
        assert!(told.contains("[[tls_policy]]"), "{domain} says no way out: {told}");
    }
    assert_eq!(sink.mails().len(), before);
    for (result, least) in [("usable", 2), ("unusable", 1), ("none", 1), ("failed", 2)] {
        let counted = relay.metric(&format!("postrider_dane_lookups_total{{result=\"{result}\"}}"));
        assert!(counted.is_some_and(|counted| counted >= least), "{result}: {counted:?}");
    }
    let unmet = r#"postrider_mail_tls_total{policy="verified",result="unmet",source="dane"}"#;
    assert!(relay.metric(unmet).is_some_and(|counted| counted >= 4));

    for (result, least) in [("success", 2), ("certificate-not-trusted", 2), ("dnssec-invalid", 2), ("dane-required", 1)]
    {
        let told = format!("postrider_tls_rpt_sessions_total{{policy_type=\"tlsa\",result=\"{result}\"}}");
        assert!(relay.metric(&told).is_some_and(|counted| counted >= least), "{told}: {:?}", relay.metric(&told));
    }

    // The records are put right, and the mail goes.
    relay.dns.sign(&zone.tlsa(&tlsa(port, "mx.wrong.example"), [3, 0, 1], &own.digest));
    assert!(sink.subject("wrong.example").tls);
}

#[test]
fn a_host_that_has_tlsa_records_gets_nothing_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let own = identity(dir.path(), "mx.good.example");
    let port = SilentPort::take();
    let zone = zone(port.port, &own.digest, &own.digest);
    let relay = relay(&zone, port.port, "");
    // Somebody on the way has taken STARTTLS away.
    let sink = MailSink::start(port.port);
    let mut waiting = Vec::new();
    for (domain, policy) in
        [("good.example", "verified (dane)"), ("unusable.example", "required (dane, unusable TLSA)")]
    {
        let id = relay.submit_hello(domain, &[&format!("lin@{domain}")]);
        let (shown, told) = delayed(&relay, &id);
        assert_eq!(shown, policy);
        assert!(told.contains("it does not offer STARTTLS"), "{told}");
        waiting.push((id, policy));
    }
    let id = relay.submit_hello("none.example", &["lin@none.example"]);
    assert!(!sink.subject("none.example").tls);
    relay.reaches(&id, "delivered");
    assert_eq!(sink.mails().len(), 1);
    drop(sink);
    let sink = MailSink::start_tls(port.port, &own.files.0, &own.files.1);
    for (id, policy) in waiting {
        assert_eq!(delivered(&relay, &id), policy);
    }
    assert!(sink.mails().iter().all(|mail| mail.tls));
}

#[test]
fn dane_counts_for_more_than_mta_sts_and_leaves_it_in_force_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let own = identity(dir.path(), "mx.good.example");
    let sink = MailSink::start_tls(0, &own.files.0, &own.files.1);
    let port = sink.0.port;
    // Both domains publish a policy that names other hosts; no authority knows the sink's certificate.
    let authority = Authority::new("of policy hosts");
    let (certificate, key) = authority.issue(&["mta-sts.good.example", "mta-sts.none.example"]);
    let policies = PolicyHost::start(&certificate, &key);
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let mut zone = zone(port, &own.digest, &own.digest);
    for domain in ["good.example", "none.example"] {
        policies.serve(domain, "version: STSv1\r\nmode: enforce\r\nmx: other.example\r\nmax_age: 86400\r\n");
        zone =
            zone.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=1;").a(&format!("mta-sts.{domain}"), [127, 0, 0, 1]);
    }
    let relay = relay(&zone, port, &format!("[mta_sts]\nport = {}\nca_file = {ca:?}\n", policies.port));
    let id = relay.submit_hello("good", &["lin@good.example"]);
    sink.subject("good");
    assert_eq!(delivered(&relay, &id), "verified (dane)");
    let id = relay.submit_hello("none", &["lin@none.example"]);
    let (policy, told) = delayed(&relay, &id);
    assert_eq!(policy, "verified (mta-sts enforce)");
    assert!(told.contains("the policy names other mail hosts"), "{told}");
}

#[test]
fn name_servers_that_know_no_dnssec_leave_all_as_it_was() {
    let sink = MailSink::start(0);
    let extra = "[[tls_policy]]\ndomains = [\"demanding.example\"]\ntls = \"dane\"\n".to_owned();
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    for domain in ["any.example", "demanding.example"] {
        relay.dns.mx(domain, 10, "mx.any.example");
    }
    relay.dns.a("mx.any.example", std::net::Ipv4Addr::LOCALHOST);
    let id = relay.submit_hello("any", &["lin@any.example"]);
    sink.subject("any");
    assert_eq!(delivered(&relay, &id), "opportunistic (default)");
    assert!(relay.log().contains("hand no DNSSEC through"));
    assert_eq!(relay.metric(r#"postrider_dane_lookups_total{result="no dnssec"}"#), Some(1));
    let id = relay.submit_hello("demanding", &["lin@demanding.example"]);
    let (_, told) = delayed(&relay, &id);
    assert!(told.contains("DNSSEC"), "{told}");
}

#[test]
fn requiretls_goes_where_dnssec_vouches_for_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let own = identity(dir.path(), "mx.good.example");
    let mut sink = MailSink::start_tls(0, &own.files.0, &own.files.1);
    sink.0.steer(&serde_json::json!({"requiretls": true}));
    let zone = zone(sink.0.port, &own.digest, &own.digest);
    let relay = relay(&zone, sink.0.port, "");
    let submit = |domain: &str| {
        let fields = format!("From: <hello@{SENDER_DOMAIN}>\r\nSubject: {domain}\r\nX-Postrider-Require-TLS: yes\r\n");
        relay.submit(&[&format!("lin@{domain}")], &format!("{fields}\r\nHello\r\n"))
    };
    let good = submit("good.example");
    assert!(sink.subject("good.example").options.iter().any(|option| option == "REQUIRETLS"));
    assert_eq!(delivered(&relay, &good), "verified (the mail says REQUIRETLS)");
    // Its certificate is the right one for DANE, and DANE does not count there.
    let plain = submit("plain.example");
    relay.reaches(&plain, "bounced");
    let message = relay.explained(&plain, SOON, |m| m["recipients"][0]["attempts"][0]["reason"].is_string());
    let attempt = &message["recipients"][0]["attempts"][0];
    assert!(attempt["reason"].as_str().unwrap().contains("nothing vouches for mx.plain.example"), "{message}");
    assert_eq!(sink.mails().len(), 1);
}
