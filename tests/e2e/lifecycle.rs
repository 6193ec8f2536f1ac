//! Start, stop, reload, and what must hold across them.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::http;
use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::smtp::Client;
use crate::support::{SOON, eventually};

fn submit(client: &mut Client, from: &str, subject: &str) -> String {
    let mail = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\nHello\r\n");
    client.mail(from, &[&format!("lin@{SINK_DOMAIN}")], mail.as_bytes()).unwrap()
}

#[test]
fn sigterm_stops_within_ten_seconds_and_loses_and_doubles_nothing() {
    const MAILS: usize = 500;
    let sink = MailSink::start(0);
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let from = format!("hello@{SENDER_DOMAIN}");
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    for n in 0..MAILS {
        assert!(submit(&mut client, &from, &format!("stop {n}")).starts_with("250"));
    }
    // The client stays connected: an idle connection must not hold the relay.
    let status = relay.stop(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", relay.log());
    relay.launch();
    for n in 0..MAILS {
        sink.subject(&format!("stop {n}"));
    }
    assert_eq!(sink.mails().len(), MAILS, "none came twice");
}

#[test]
fn sighup_reloads_without_losing_a_connection_and_a_bad_file_changes_nothing() {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    let from = "hello@new.example.org";
    assert!(submit(&mut client, from, "too early").starts_with("550 5.7.1"));

    let old = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), format!("{old}\n[sevrer]\n")).unwrap();
    relay.signal(Signal::HUP);
    eventually("the bad file is complained of", SOON, || relay.log().contains("sevrer").then_some(()));
    let good_sender = format!("hello@{SENDER_DOMAIN}");
    assert!(submit(&mut client, &good_sender, "still here").starts_with("250"));

    let senders = format!("senders = [\"{SENDER_DOMAIN}\"");
    std::fs::write(relay.config(), old.replace(&senders, &format!("{senders}, \"new.example.org\""))).unwrap();
    relay.signal(Signal::HUP);
    eventually("the new sender is taken", SOON, || {
        let mut other = Client::greeted(&relay.listeners.smtp[2]).unwrap();
        submit(&mut other, from, "reloaded").starts_with("250").then_some(())
    });
    // The connection from before is still there.
    assert!(client.say("NOOP").unwrap().starts_with("250"));
    sink.subject("still here");
    sink.subject("reloaded");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let relay = Relay::start(&Settings::default());
    let mut second = relay.serve();
    let status = eventually("the second process ends", SOON, || second.try_wait().unwrap());
    assert!(!status.success(), "{}", relay.log());
    let announced = std::fs::read(relay.dir().join("data/listeners.json")).unwrap();
    let announced: crate::support::relay::Listeners = serde_json::from_slice(&announced).unwrap();
    assert_eq!(announced.smtp, relay.listeners.smtp, "the first one's word stands");
    assert!(Client::greeted(&relay.listeners.smtp[2]).is_ok());
}

#[test]
fn an_idempotency_key_holds_over_kill_9() {
    let mut relay = Relay::start(&Settings { carrier_port: Some(1), ..Settings::default() });
    let text = |text: &str| json!({"to": "+8613800138000", "text": text}).to_string();
    let key = ["Idempotency-Key: order-17"];
    let first = relay.api("POST", "/v1/sms", &key, &text("once"));
    assert_eq!(first.status, 202, "{first:?}");
    let again = relay.api("POST", "/v1/sms", &key, &text("once"));
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]), "{again:?}");
    relay.kill_9();
    relay.launch();
    let again = relay.api("POST", "/v1/sms", &key, &text("once"));
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]), "{again:?}");
    assert_eq!(relay.api("POST", "/v1/sms", &key, &text("other")).status, 409);
}

#[test]
fn health_and_metrics_are_served_and_every_series_is_ours() {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    assert!(submit(&mut client, &format!("hello@{SENDER_DOMAIN}"), "counted").starts_with("250"));
    sink.subject("counted");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::request(&relay.listeners.admin, "GET", path, &[], b"").status, 200, "{path}");
    }
    let delivered = r#"postrider_events_total{channel="email",class="transactional",event="delivered"} 1"#;
    let metrics = eventually("the delivery is counted", SOON, || {
        let page = http::request(&relay.listeners.admin, "GET", "/metrics", &[], b"");
        Some(String::from_utf8(page.body).unwrap()).filter(|text| text.contains(delivered))
    });
    assert!(metrics.lines().all(|l| l.starts_with('#') || l.is_empty() || l.starts_with("postrider_")), "{metrics}");
    assert!(!metrics.contains(SINK_DOMAIN), "labels are bounded: no domains");
}

#[test]
fn hold_takes_mail_but_sends_none() {
    let sink = MailSink::start(0);
    let mut relay = Relay::prepare(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    relay.launch_with(&["--hold"]);
    let from = format!("hello@{SENDER_DOMAIN}");
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    assert!(submit(&mut client, &from, "held").starts_with("250"));
    let output = relay.command(&["queue", "--json"]);
    let queue: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&queue["held"], &queue["messages"]), (&json!(true), &json!(1)), "{queue}");
    assert!(sink.mails().is_empty());
    relay.kill_9();
    relay.launch();
    sink.subject("held");
}
