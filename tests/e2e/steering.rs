//! Operators steer: what a pause holds waits over restarts and is explained, rerouted mail goes elsewhere, and what is bounced
//! or cancelled ends, with a word to its sender or without.

use std::net::Ipv4Addr;
use std::time::Duration;

use postrider::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::peer::{Carrier, MailSink};
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::{SOON, SilentPort, eventually};

/// Hands in a mail; its id.
fn submit(relay: &Relay, subject: &str, to: &str, more: &Value) -> String {
    let from = format!("hello@{SENDER_DOMAIN}");
    let mut mail = json!({ "from": from, "to": [to], "subject": subject, "text": "Hello" });
    mail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = relay.api("POST", "/v1/email", &[], &mail.to_string());
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Runs a steering command; what it printed as JSON.
fn steer(relay: &Relay, arguments: &[&str]) -> Value {
    let output = relay.command(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn why(message: &Value) -> String {
    message["recipients"][0]["waiting_for"].as_str().unwrap_or_default().to_owned()
}

/// A route for mail to the senders, to a sink of its own.
fn returns() -> (MailSink, String) {
    let returns = MailSink::start(0);
    let route = format!("\n[[route]]\ndomains = [\"{SENDER_DOMAIN}\"]\nnext_hop = \"127.0.0.1:{}\"\n", returns.0.port);
    (returns, route)
}

#[test]
fn a_paused_campaign_is_held_over_restarts_and_goes_after_resume() {
    let sink = MailSink::start(0);
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let (to, spring) = (format!("lin@{SINK_DOMAIN}"), json!({"campaign": "spring", "class": "marketing"}));
    let refused = relay.command(&["pause", "--campaign", "spring"]);
    assert_eq!(refused.status.code(), Some(2), "a reason is wanted");
    let rule = steer(&relay, &["pause", "--campaign", "spring", "--client", "shop", "--reason", "wrong price"]);
    assert_eq!((&rule["id"], &rule["action"]), (&json!(1), &json!("pause")), "{rule}");
    let held = submit(&relay, "spring", &to, &spring);
    let explained = relay.explained(&held, SOON, |m| m["status"] == "held");
    let said = why(&explained);
    assert!(said.contains("rule 1") && said.contains("wrong price") && said.contains("until it is ended"), "{said}");

    // Each until its delivery is recorded, so that no restart sends it again.
    let first = submit(&relay, "first", &to, &json!({"campaign": "autumn", "class": "marketing"}));
    relay.reaches(&first, "delivered");
    relay.stop(SOON);
    relay.launch();
    let second = submit(&relay, "second", &to, &json!({}));
    relay.reaches(&second, "delivered");
    relay.kill_9();
    relay.launch();
    let third = submit(&relay, "third", &to, &json!({"class": "marketing"}));
    relay.reaches(&third, "delivered");
    assert_eq!(why(&relay.explained(&held, SOON, |m| m["status"] == "held")), said);
    let listed = steer(&relay, &["steering"]);
    assert_eq!((&listed[0]["reason"], &listed[0]["waiting"]), (&json!("wrong price"), &json!(1)), "{listed}");
    assert_eq!(sink.mails().len(), 3);

    steer(&relay, &["resume", "1"]);
    sink.subject("spring");
    relay.reaches(&held, "delivered");
    assert_eq!(steer(&relay, &["steering"]), json!([]));
    assert_eq!(relay.command(&["resume", "1"]).status.code(), Some(1), "it has ended");
    let told = eventually("both orders are told", SOON, || Some(relay.events("steered")).filter(|e| e.len() == 2));
    let [paused, resumed] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&paused["steering"]["action"], &paused["reason"]), (&json!("pause"), &json!("wrong price")));
    assert_eq!(paused["steering"]["selector"], json!({"campaign": "spring", "client": "shop"}), "{paused}");
    assert!(paused["steering"]["by"].as_str().unwrap().contains("uid "), "{paused}");
    assert_eq!((&resumed["steering"]["action"], &resumed["steering"]["rule"]), (&json!("resume"), &json!(1)));
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let arguments = ["pause", "--domain", SINK_DOMAIN, "--reason", "they asked", "--expires", "3s"];
    let rule = steer(&relay, &arguments);
    let until = rule["expires_at"].as_str().unwrap().to_owned();
    let id = submit(&relay, "patient", &format!("lin@{SINK_DOMAIN}"), &json!({}));
    let explained = relay.explained(&id, SOON, |m| m["status"] == "held");
    assert!(why(&explained).contains(&until), "{explained}");
    sink.subject("patient");
    let delivered = relay.explained(&id, SOON, |m| m["status"] == "delivered");
    let attempt = delivered["recipients"][0]["attempts"][0]["time"].as_str().unwrap();
    assert!(attempt > until.as_str(), "{delivered} went before {until}");
    eventually("its end is told", SOON, || {
        relay.events("steered").iter().any(|e| e["steering"]["action"] == "expire").then_some(())
    });
}

#[test]
fn what_is_bounced_comes_back_to_its_sender_with_the_reason() {
    let (returns, route) = returns();
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra: route, ..Settings::default() });
    let to = format!("lin@{SINK_DOMAIN}");
    steer(&relay, &["pause", "--domain", SINK_DOMAIN, "--reason", "to be looked at"]);
    let ids: Vec<String> = (0..3).map(|n| submit(&relay, &format!("mail {n}"), &to, &json!({}))).collect();
    let bounce = ["bounce", "--domain", SINK_DOMAIN, "--class", "transactional", "--reason", "the shop has closed"];
    let dry = steer(&relay, &[&bounce[..], &["--dry-run"]].concat());
    assert_eq!((&dry["hit"], &dry["dry_run"]), (&json!(3), &json!(true)), "{dry}");
    relay.explained(&ids[0], SOON, |m| m["status"] == "held");
    let swept = steer(&relay, &bounce);
    assert_eq!((&swept["hit"], &swept["failed"]), (&json!(3), &json!(0)), "{swept}");
    for id in &ids {
        relay.reaches(id, "bounced");
    }
    for n in 0..3 {
        let dsn = returns
            .wait_for("the bounce", SOON, |mail| String::from_utf8_lossy(&mail.data).contains(&format!("mail {n}")));
        let text = String::from_utf8_lossy(&dsn.data).into_owned();
        assert!(dsn.from == "<>" && text.contains("the shop has closed") && text.contains("5.7.0"), "{text}");
    }
    let told = eventually("all are told", SOON, || Some(relay.events("bounced")).filter(|e| e.len() == 3));
    assert_eq!(told[0]["reason"], "bounced by an operator: the shop has closed");
    let steered = relay.events("steered");
    assert!(steered.iter().any(|e| e["steering"]["action"] == "bounce" && e["steering"]["hit"] == 3), "{steered:?}");
    assert_eq!((sink.mails().len(), returns.mails().len()), (0, 3));
}

#[test]
fn what_is_cancelled_ends_without_a_word() {
    let (returns, route) = returns();
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra: route, ..Settings::default() });
    let to = format!("lin@{SINK_DOMAIN}");
    steer(&relay, &["pause", "--campaign", "spring", "--reason", "wrong price"]);
    let spring = json!({"campaign": "spring"});
    let ids: Vec<String> = (0..3).map(|n| submit(&relay, &format!("mail {n}"), &to, &spring)).collect();
    let tomorrow = SystemClock::new().now().plus(Duration::from_secs(86_400)).rfc3339();
    let scheduled = submit(&relay, "later", &to, &json!({"campaign": "spring", "send_at": tomorrow}));
    assert_eq!(steer(&relay, &["cancel", "--campaign", "spring", "--reason", "wrong price"])["hit"], 4);
    for id in ids.iter().chain([&scheduled]) {
        relay.reaches(id, "cancelled");
    }
    // What comes later is only held, and what follows to the sender arrives without anything before it.
    let late = submit(&relay, "late", &to, &spring);
    relay.explained(&late, SOON, |m| m["status"] == "held");
    submit(&relay, "afterwards", &format!("hello@{SENDER_DOMAIN}"), &json!({}));
    returns.subject("afterwards");
    assert_eq!((sink.mails().len(), returns.mails().len()), (0, 1));
    assert_eq!(relay.command(&["cancel", "--reason", "all of it"]).status.code(), Some(1), "a selector is wanted");
}

#[test]
fn rerouted_mail_goes_to_the_other_host_until_the_rule_is_ended() {
    let (sink, other) = (MailSink::start(0), MailSink::start(0));
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let to = format!("lin@{SINK_DOMAIN}");
    submit(&relay, "before", &to, &json!({}));
    sink.subject("before");
    steer(&relay, &["pause", "--domain", SINK_DOMAIN, "--reason", "their MX is down"]);
    let waiting = submit(&relay, "waiting", &to, &json!({}));
    let next_hop = format!("127.0.0.1:{}", other.0.port);
    let rule = steer(
        &relay,
        &["reroute", "--domain", SINK_DOMAIN, "--to", &next_hop, "--reason", "their MX is down", "--expires", "1h"],
    );
    assert_eq!(rule["to"], next_hop, "{rule}");
    steer(&relay, &["resume", "--domain", SINK_DOMAIN]);
    submit(&relay, "during", &to, &json!({}));
    other.subject("waiting");
    other.subject("during");
    relay.reaches(&waiting, "delivered");
    steer(&relay, &["reroute", "--end", "2"]);
    submit(&relay, "after", &to, &json!({}));
    sink.subject("after");
    assert_eq!((sink.mails().len(), other.mails().len()), (2, 2));
    let bad = relay.command(&["reroute", "--domain", SINK_DOMAIN, "--to", "nowhere", "--reason", "x"]);
    assert_eq!(bad.status.code(), Some(1));
}

#[test]
fn a_flush_makes_due_what_it_names() {
    let silent = SilentPort::take();
    let relay = Relay::start(&Settings { smtp_port: silent.port, retry: r#"["1h"]"#, ..Settings::default() });
    relay.dns.mx("other.example.net", 10, "mx.other.example.net").a("mx.other.example.net", Ipv4Addr::LOCALHOST);
    let ids =
        [SINK_DOMAIN, "other.example.net"].map(|domain| submit(&relay, domain, &format!("a@{domain}"), &json!({})));
    for id in &ids {
        relay.explained(id, SOON, |m| m["status"] == "delayed");
    }
    let sink = MailSink::start(silent.port);
    assert_eq!(steer(&relay, &["flush", "--domain", "nobody.example.net"])["recipients"], 0);
    assert_eq!(steer(&relay, &["flush", "--domain", SINK_DOMAIN])["recipients"], 1);
    sink.subject(SINK_DOMAIN);
    relay.reaches(&ids[0], "delivered");
    assert_eq!(relay.message(&ids[1])["status"], "delayed");
    assert_eq!(steer(&relay, &["flush"])["recipients"], 1);
    sink.subject("other.example.net");
}

#[test]
fn a_provider_is_held_whichever_domain_it_serves() {
    let sink = MailSink::start(0);
    // Gmail wants TLS, and this sink has none.
    let extra = "[[tls_policy]]\ndomains = [\"company.example\"]\ntls = \"opportunistic\"\n".to_owned();
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    relay.dns.mx("company.example", 10, "aspmx.l.google.com").a("aspmx.l.google.com", Ipv4Addr::LOCALHOST);
    steer(&relay, &["pause", "--provider", "gmail", "--reason", "our reputation there"]);
    let held = submit(&relay, "held", "lin@company.example", &json!({}));
    submit(&relay, "free", &format!("lin@{SINK_DOMAIN}"), &json!({}));
    relay.explained(&held, SOON, |m| m["status"] == "held");
    sink.subject("free");
    steer(&relay, &["resume", "--provider", "gmail"]);
    sink.subject("held");
    assert_eq!(sink.mails().len(), 2);
}

#[test]
fn texts_are_held_by_their_carriers_and_fail_when_they_are_bounced() {
    let carrier = Carrier::start();
    let relay = Relay::start(&Settings { carrier_port: Some(carrier.0.port), ..Settings::default() });
    steer(&relay, &["pause", "--site", "carriers carrier-1", "--reason", "the carrier asked"]);
    let text = json!({"to": "+8613800138000", "text": "hello"}).to_string();
    let answer = relay.api("POST", "/v1/sms", &[], &text).json();
    let id = answer["id"].as_str().unwrap();
    relay.explained(id, SOON, |m| m["status"] == "held");
    assert_eq!(steer(&relay, &["bounce", "--client", "shop", "--reason", "too late"])["hit"], 1);
    let ended = relay.reaches(id, "undelivered");
    assert_eq!(ended["recipients"][0]["attempts"][0]["reason"], "bounced by an operator: too late", "{ended}");
    assert!(carrier.parts().is_empty());
}

#[test]
fn a_damaged_file_of_rules_stops_the_start_and_is_named() {
    let mut relay = Relay::start(&Settings::default());
    steer(&relay, &["pause", "--client", "shop", "--reason", "an audit"]);
    relay.stop(SOON);
    let file = relay.data_dir.join("spool/steering.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("shop", "ship")).unwrap();
    let binary = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"));
    let status = relay.launch_as(binary, &[]).unwrap_err();
    assert_eq!(status.code(), Some(1));
    assert!(relay.log().contains("steering.json") && relay.log().contains("move it away"), "{}", relay.log());
    std::fs::remove_file(&file).unwrap();
    relay.launch();
    assert_eq!(steer(&relay, &["steering"]), json!([]));
    assert_eq!(relay.stop(Duration::from_secs(20)).code(), Some(0));
}
