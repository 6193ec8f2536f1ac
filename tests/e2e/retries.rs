//! What does not go at once: deferral and its schedule, draining, refusal for good and the bounce it makes.

use std::time::Duration;

use postrider::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::peer::{MailSink, filter, python};
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::smtp::Client;
use crate::support::{SOON, SilentPort, script};

/// A relay with one more line in its configuration, behind another.
fn start_with(settings: &Settings, behind: &str, more: &str) -> Relay {
    let mut relay = Relay::prepare(settings);
    let configuration = std::fs::read_to_string(relay.config()).unwrap();
    assert!(configuration.contains(behind), "{configuration}");
    std::fs::write(relay.config(), configuration.replacen(behind, &format!("{behind}{more}"), 1)).unwrap();
    relay.launch();
    relay
}

#[test]
fn a_sink_that_is_down_defers_and_drains_once_it_is_up() {
    let silent = SilentPort::take();
    let relay = Relay::start(&Settings { smtp_port: silent.port, ..Settings::default() });
    let to = format!("lin@{SINK_DOMAIN}");
    let ids: Vec<_> = (0..20).map(|n| relay.submit_hello(&format!("patient {n}"), &[&to])).collect();
    let delayed = relay.explained(&ids[0], SOON, |m| m["status"] == "delayed");
    let recipient = &delayed["recipients"][0];
    assert_eq!(recipient["address"], to, "{delayed}");
    let attempt = &recipient["attempts"][0];
    assert_eq!(attempt["outcome"], "delayed", "{delayed}");
    assert!(attempt["reason"].is_string() || attempt["reply"].is_string(), "{delayed}");

    let sink = MailSink::start(silent.port);
    for n in 0..20 {
        sink.subject(&format!("patient {n}"));
    }
    for id in &ids {
        relay.reaches(id, "delivered");
    }
    assert_eq!(sink.mails().len(), 20, "none came twice");
}

#[test]
fn the_schedule_is_visible_in_explain() {
    let silent = SilentPort::take();
    let settings =
        Settings { retry: r#"["100ms", "1h"]"#, expire: "2d", smtp_port: silent.port, ..Settings::default() };
    let relay = Relay::start(&settings);
    let to = format!("lin@{SINK_DOMAIN}");
    let id = relay.submit_hello("scheduled", &[&to]);
    let message = relay.explained(&id, SOON, |m| m["recipients"][0]["attempts_made"] == 2);
    let recipient = &message["recipients"][0];
    let time = |value: &Value| Timestamp::parse_rfc3339(value.as_str().unwrap_or_default()).expect("a time");
    let pause = time(&recipient["next_attempt"]).since(time(&recipient["attempts"][1]["time"]));
    let hour = Duration::from_secs(3_600);
    assert!(pause > hour / 2 && pause < hour * 2, "the second step is an hour, give or take jitter: {message}");
    let expiry = time(&message["expires_at"]).since(time(&message["received_at"]));
    assert_eq!(expiry.as_secs().div_ceil(3_600), 48, "{message}");
    // By address as by id.
    assert_eq!(relay.explain(&to)[0]["id"], id.as_str());
}

#[test]
fn a_temporary_refusal_is_shown_word_for_word() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&json!({"rcpt": "452 4.2.2 mailbox full, come back later"}));
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let id = relay.submit_hello("full", &[&format!("lin@{SINK_DOMAIN}")]);
    let delayed = relay.explained(&id, SOON, |m| m["status"] == "delayed");
    let attempt = &delayed["recipients"][0]["attempts"][0];
    assert!(attempt["reply"].as_str().unwrap().contains("452 4.2.2 mailbox full, come back later"), "{delayed}");
    sink.0.steer(&json!({"rcpt": null}));
    sink.subject("full");
    relay.reaches(&id, "delivered");
}

#[test]
fn a_permanent_refusal_bounces_to_the_sender_as_rfc_3464_says() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&json!({"rcpt": "550 5.1.1 no such user"}));
    let returns = MailSink::start(0);
    let route = format!("\n[[route]]\ndomains = [\"{SENDER_DOMAIN}\"]\nnext_hop = \"127.0.0.1:{}\"\n", returns.0.port);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra: route, ..Settings::default() });
    let to = format!("nobody@{SINK_DOMAIN}");
    let id = relay.submit_hello("refused", &[&to]);
    relay.reaches(&id, "bounced");

    let sender = format!("hello@{SENDER_DOMAIN}");
    let bounce = returns.wait_for("the bounce", SOON, |m| m.to == [sender.clone()]);
    assert_eq!(bounce.from, "<>", "a notification has the null reverse-path");
    let seen: Value = serde_json::from_str(&filter(python().arg(script("bounce.py")), &bounce.data)).unwrap();
    assert_eq!(seen["type"], "multipart/report", "{seen}");
    assert_eq!(seen["report_type"], "delivery-status", "{seen}");
    assert_eq!(seen["defects"], json!([]), "{seen}");
    assert_eq!(seen["auto_submitted"], "auto-replied", "{seen}");
    assert!(seen["to"].as_str().unwrap().contains(&sender), "{seen}");
    let parts: Vec<_> = seen["parts"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert_eq!(parts[..2], ["text/plain", "message/delivery-status"], "{seen}");
    assert!(parts[2].starts_with("message/rfc822") || parts[2] == "text/rfc822-headers", "{seen}");
    assert_eq!(seen["per_message"]["Reporting-MTA"], "dns; relay.test.example", "{seen}");
    let recipients = seen["per_recipient"].as_array().unwrap();
    assert_eq!(recipients.len(), 1, "{seen}");
    assert_eq!(recipients[0]["Final-Recipient"], format!("rfc822;{to}"), "{seen}");
    assert_eq!((&recipients[0]["Action"], &recipients[0]["Status"]), (&json!("failed"), &json!("5.1.1")), "{seen}");
    assert!(recipients[0]["Diagnostic-Code"].as_str().unwrap().contains("550 5.1.1 no such user"), "{seen}");
    assert_eq!(returns.mails().len(), 1, "one bounce, not two");
}

#[test]
fn a_bounce_that_bounces_ends_there() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&json!({"rcpt": "550 5.1.1 no such user"}));
    let route = format!("\n[[route]]\ndomains = [\"*\"]\nnext_hop = \"127.0.0.1:{}\"\n", sink.0.port);
    let relay = Relay::start(&Settings { extra: route, ..Settings::default() });
    let id = relay.submit_hello("refused", &[&format!("nobody@{SINK_DOMAIN}")]);
    relay.reaches(&id, "bounced");
    let address = format!("hello@{SENDER_DOMAIN}");
    let ended = relay.explained(&address, SOON, |m| m["status"] == "bounced");
    assert_eq!(ended["recipients"][0]["attempts_made"], 1, "{ended}");
    sink.0.steer(&json!({"rcpt": null}));
    relay.submit_hello("afterwards", &[&format!("lin@{SINK_DOMAIN}")]);
    sink.subject("afterwards");
    assert_eq!(sink.mails().len(), 1, "nothing was sent about the bounce");
}

#[test]
fn a_sender_who_asks_hears_that_mail_was_relayed_to_a_hop_that_will_not_tell() {
    let sink = MailSink::start(0);
    let returns = MailSink::start(0);
    let route = format!("\n[[route]]\ndomains = [\"{SENDER_DOMAIN}\"]\nnext_hop = \"127.0.0.1:{}\"\n", returns.0.port);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra: route, ..Settings::default() });
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    let from = format!("hello@{SENDER_DOMAIN}");
    let say = |client: &mut Client, command: &str, code: &str| {
        let reply = client.say(command).unwrap();
        assert!(reply.starts_with(code), "{command}: {reply}");
    };
    say(&mut client, &format!("MAIL FROM:<{from}> ENVID=order-7"), "250");
    say(&mut client, &format!("RCPT TO:<asked@{SINK_DOMAIN}> NOTIFY=SUCCESS,FAILURE"), "250");
    say(&mut client, &format!("RCPT TO:<unasked@{SINK_DOMAIN}>"), "250");
    say(&mut client, "DATA", "354");
    say(&mut client, &format!("From: <{from}>\r\nSubject: tell me\r\n\r\nHello\r\n."), "250");

    sink.subject("tell me");
    let told = returns.wait_for("the notification", SOON, |m| m.to == [from.clone()]);
    let seen: Value = serde_json::from_str(&filter(python().arg(script("bounce.py")), &told.data)).unwrap();
    let recipients = seen["per_recipient"].as_array().unwrap();
    assert_eq!(recipients.len(), 1, "{seen}");
    assert_eq!(recipients[0]["Final-Recipient"], format!("rfc822;asked@{SINK_DOMAIN}"), "{seen}");
    assert_eq!((&recipients[0]["Action"], &recipients[0]["Status"]), (&json!("relayed"), &json!("2.0.0")), "{seen}");
    assert_eq!(seen["per_message"]["Original-Envelope-Id"], "order-7", "{seen}");
}

#[test]
fn a_sender_who_asks_hears_once_that_mail_is_late() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&json!({"rcpt": "451 4.2.1 not now"}));
    let returns = MailSink::start(0);
    let route = format!("\n[[route]]\ndomains = [\"{SENDER_DOMAIN}\"]\nnext_hop = \"127.0.0.1:{}\"\n", returns.0.port);
    let settings = Settings { smtp_port: sink.0.port, retry: r#"["300ms"]"#, extra: route, ..Settings::default() };
    let relay = start_with(&settings, "[delivery]\n", "delay_notice = \"1s\"\n");
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    let from = format!("hello@{SENDER_DOMAIN}");
    for command in [
        format!("MAIL FROM:<{from}>"),
        format!("RCPT TO:<asked@{SINK_DOMAIN}> NOTIFY=DELAY,FAILURE"),
        format!("RCPT TO:<unasked@{SINK_DOMAIN}>"),
        "DATA".to_owned(),
        format!("From: <{from}>\r\nSubject: slow\r\n\r\nHello\r\n."),
    ] {
        let reply = client.say(&command).unwrap();
        assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
    }
    let told = returns.wait_for("the notice", SOON, |m| m.to == [from.clone()]);
    let seen: Value = serde_json::from_str(&filter(python().arg(script("bounce.py")), &told.data)).unwrap();
    let recipients = seen["per_recipient"].as_array().unwrap();
    assert_eq!(recipients.len(), 1, "{seen}");
    assert_eq!(recipients[0]["Final-Recipient"], format!("rfc822;asked@{SINK_DOMAIN}"), "{seen}");
    assert_eq!((&recipients[0]["Action"], &recipients[0]["Status"]), (&json!("delayed"), &json!("4.2.1")), "{seen}");
    assert!(recipients[0]["Will-Retry-Until"].is_string(), "{seen}");
    // Attempts go on, and nothing more is said until it arrives.
    let asked = format!("asked@{SINK_DOMAIN}");
    let made = |m: &Value| m["recipients"][0]["attempts_made"].as_u64().unwrap_or_default();
    let so_far = made(&relay.explain(&asked)[0]);
    let id = relay.explain(&asked)[0]["id"].as_str().unwrap().to_owned();
    relay.explained(&id, SOON, |m| made(m) >= so_far + 3);
    sink.0.steer(&json!({"rcpt": null}));
    relay.reaches(&id, "delivered");
    assert_eq!(returns.mails().len(), 1, "told once");
}

#[test]
fn a_client_that_relies_on_events_gets_no_bounces() {
    let mut sink = MailSink::start(0);
    sink.0.steer(&json!({"rcpt": "550 5.1.1 no such user"}));
    let returns = MailSink::start(0);
    let route = format!("\n[[route]]\ndomains = [\"{SENDER_DOMAIN}\"]\nnext_hop = \"127.0.0.1:{}\"\n", returns.0.port);
    let settings = Settings { smtp_port: sink.0.port, extra: route, ..Settings::default() };
    let relay = start_with(&settings, "name = \"shop\"\n", "bounces = false\n");
    let id = relay.submit_hello("refused", &[&format!("nobody@{SINK_DOMAIN}")]);
    relay.reaches(&id, "bounced");
    // What comes later arrives, and no bounce has come before it.
    let afterwards = relay.submit_hello("afterwards", &[&format!("hello@{SENDER_DOMAIN}")]);
    relay.reaches(&afterwards, "delivered");
    assert_eq!(returns.wait_for("the mail", SOON, |_| true).from, format!("hello@{SENDER_DOMAIN}"));
    assert_eq!(returns.mails().len(), 1);
}
