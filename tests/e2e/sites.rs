//! Domains whose MX records name the same hosts: one site, with one limit, over connections that they share.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::{SOON, eventually};

const DOMAINS: [&str; 6] =
    ["one.example", "two.example", "three.example", "four.example", "five.example", "six.example"];

#[test]
fn domains_of_one_exchanger_share_its_connection_and_others_do_not() {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    for domain in DOMAINS {
        relay.dns.mx(domain, 10, "mx.shared.example").mx(domain, 20, "mx2.shared.example");
    }
    relay.dns.a("mx.shared.example", Ipv4Addr::LOCALHOST).a("mx2.shared.example", Ipv4Addr::new(127, 0, 0, 9));
    relay.dns.mx("other.example", 10, "mx.other.example").a("mx.other.example", Ipv4Addr::LOCALHOST);

    // One after the other: each finds the connection that the one before has left.
    for domain in DOMAINS {
        let id = relay.submit_hello(domain, &[&format!("lin@{domain}")]);
        sink.subject(domain);
        relay.reaches(&id, "delivered");
    }
    assert_eq!(relay.metric("postrider_mail_connections_made_total"), Some(1), "one connection for six domains");
    let id = relay.submit_hello("other", &["lin@other.example"]);
    sink.subject("other");
    relay.reaches(&id, "delivered");
    assert_eq!(relay.metric("postrider_mail_connections_made_total"), Some(2));
    // Each was looked up, and none twice.
    for domain in DOMAINS {
        assert_eq!(relay.dns.questions_for(domain).len(), 1, "{domain}");
    }
}

#[test]
fn what_waits_shows_its_site() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&serde_json::json!({"rcpt": "451 4.7.1 later"}));
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, retry: r#"["1h"]"#, ..Settings::default() });
    for domain in ["one.example", "two.example"] {
        relay.dns.mx(domain, 10, "mx.shared.example");
    }
    relay.dns.a("mx.shared.example", Ipv4Addr::LOCALHOST);
    for domain in ["one.example", "two.example"] {
        let id = relay.submit_hello(domain, &[&format!("lin@{domain}")]);
        let message = relay.explained(&id, SOON, |m| m["status"] == "delayed");
        assert_eq!(message["recipients"][0]["site"], "mx mx.shared.example", "{message}");
    }
    let shown = eventually("the lanes", SOON, || {
        let output = relay.command(&["queue", "--json"]);
        let view: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let lanes = view["lanes"].as_array()?.clone();
        (lanes.len() == 2).then_some(lanes)
    });
    assert!(shown.iter().all(|lane| lane["site"] == "mx mx.shared.example"), "{shown:?}");
}

#[test]
fn a_campaign_that_is_called_spam_is_slowed_down_and_others_are_not() {
    let mut sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let submit = |subject: &str, campaign: &str| {
        let from = format!("hello@{SENDER_DOMAIN}");
        let to = [format!("lin@{SINK_DOMAIN}")];
        let mail = json!({ "from": from, "to": to, "subject": subject, "text": "Hello", "campaign": campaign });
        let answer = relay.api("POST", "/v1/email", &[], &mail.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    sink.0.steer(&json!({"data": "550 5.7.1 this looks like spam to us"}));
    for n in 0..3 {
        relay.reaches(&submit(&format!("spam {n}"), "spring"), "bounced");
    }
    let paused = relay.event("paused", |fact| fact["campaign"] == "spring");
    assert_eq!(paused["rule"]["id"], "any-content", "{paused}");
    sink.0.steer(&json!({ "data": null }));
    let waits = submit("held", "spring");
    let why = "campaign spring: at most 5/h for a while by any-content (content)";
    relay.explained(&waits, SOON, |m| m["recipients"][0]["waiting_for"].as_str().is_some_and(|w| w.ends_with(why)));
    relay.reaches(&submit("free", "autumn"), "delivered");
    // Whoever knows better says so.
    let output = relay.command(&["flush", "--campaign", "spring"]);
    assert!(output.status.success(), "{output:?}");
    relay.reaches(&waits, "delivered");
    sink.subject("held");
}
