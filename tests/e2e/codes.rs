//! Texts that must arrive: codes that go from carrier to carrier, notices whose answer was lost, and what a day may cost.

use serde_json::{Value, json};

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings, smpp_carrier};
use crate::support::{SOON, SilentPort, eventually};

/// A relay whose texts go by these carriers and then by that one.
fn relay(carriers: &[(&str, u16)], then: &str) -> Relay {
    let sections: String = carriers.iter().map(|(name, port)| smpp_carrier(name, *port, "")).collect();
    let names: Vec<&str> = carriers.iter().map(|(name, _)| *name).filter(|name| *name != then).collect();
    let then: Vec<&str> = Some(then).into_iter().filter(|name| !name.is_empty()).collect();
    let extra = format!(
        r#"{sections}
[[sms_route]]
prefixes = ["+"]
carriers = {names:?}
then = {then:?}
"#
    );
    Relay::start(&Settings { extra, otp: "next_carrier_after = \"1s\"", ..Settings::default() })
}

fn post(relay: &Relay, to: &str, class: &str) -> String {
    let message = json!({"to": to, "text": "your code is 1234", "class": class});
    relay.post_sms(&message)
}

/// Who a text was handed to, in order.
fn hosts(explained: &Value) -> Vec<String> {
    let attempts = explained["recipients"][0]["attempts"].as_array().unwrap();
    attempts.iter().filter_map(|attempt| attempt["host"].as_str()).map(str::to_owned).collect()
}

/// Carriers whose receipts come too late, or never.
const SLOW: &[&str] = &["--receipt-delay", "600s"];

#[test]
fn a_code_without_a_receipt_goes_on_to_the_next_carrier_and_at_last_to_a_call() {
    let (first, second) = (OwnCarrier::start_on(0, SLOW), OwnCarrier::start_on(0, SLOW));
    let call = OwnCarrier::start_on(0, &[]);
    let carriers = [("first", first.0.port), ("second", second.0.port), ("call", call.0.port)];
    let relay = relay(&carriers, "call");
    let id = post(&relay, "+8613800138000", "otp");
    let explained = relay.explained(&id, SOON, |m| m["status"] == "delivered");
    assert_eq!(hosts(&explained), ["first", "second", "call"]);
    let word = |part: &Value, field: &str| part[field].as_str().unwrap().to_owned();
    let parts = explained["recipients"][0]["parts"].as_array().unwrap();
    let states: Vec<_> = parts.iter().map(|part| (word(part, "carrier"), word(part, "state"))).collect();
    let expected = [("call", "delivered"), ("second", "sent"), ("first", "sent")];
    assert_eq!(states, expected.map(|(carrier, state)| (carrier.to_owned(), state.to_owned())));
    assert_eq!(relay.metric("postrider_texts_again_total{reason=\"no-receipt\"}"), Some(2));
    for carrier in [&first, &second, &call] {
        assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1, "nobody got it twice");
    }
    // A notice stays where it is.
    let id = post(&relay, "+8613800138001", "transactional");
    relay.reaches(&id, "sent");
    let explained = relay.explained(&id, SOON, |m| m["recipients"][0]["waiting_for"].is_string());
    let waits = explained["recipients"][0]["waiting_for"].as_str().unwrap();
    assert!(waits.starts_with("its receipt, until "), "{waits}");
}

#[test]
fn a_code_that_did_not_arrive_by_one_carrier_arrives_by_the_next_also_over_a_crash() {
    let (bad, good) = (OwnCarrier::start_on(0, &["--undeliverable-share", "1"]), OwnCarrier::start_on(0, SLOW));
    let mut relay = relay(&[("bad", bad.0.port), ("good", good.0.port)], "");
    let id = post(&relay, "+8613800138000", "otp");
    good.wait_for_texts(1, SOON);
    relay.reaches(&id, "sent");
    relay.kill_9();
    relay.launch();
    let explained = relay.explained(&id, SOON, |m| m["status"] == "sent");
    assert_eq!(hosts(&explained), ["bad", "good"]);
    let states = explained["recipients"][0]["parts"].as_array().unwrap().iter();
    let states: Vec<_> = states.map(|part| part["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["sent", "undeliverable"]);
    relay.event("receipt", |event| event["id"] == *id && event["next_attempt"].is_string());
    assert_eq!(relay.events("sent").iter().filter(|event| event["id"] == *id).count(), 2);
}

#[test]
fn while_all_carriers_are_down_codes_go_to_the_last_resort_and_others_wait() {
    let (down, call) = (SilentPort::take(), OwnCarrier::start_on(0, &[]));
    let relay = relay(&[("down", down.port), ("call", call.0.port)], "call");
    let notice = post(&relay, "+8613800138001", "transactional");
    let code = post(&relay, "+8613800138000", "otp");
    relay.reaches(&code, "delivered");
    assert_eq!(relay.message(&notice)["status"], "queued");
    assert_eq!(call.wait_for_texts(1, SOON).len(), 1);
}

#[test]
fn a_notice_whose_answer_was_lost_leaves_once_more_and_a_campaign_does_not() {
    let carrier = OwnCarrier::start_on(0, &["--fault", "silence=2"]);
    let extra = format!(
        r#"{}
[[sms_route]]
prefixes = ["+"]
carriers = ["one"]

[[sending_hours]]
prefixes = ["+86"]
hours = "00:00-24:00 +00:00"

[queue.transactional]
retry = ["1s"]
"#,
        smpp_carrier("one", carrier.0.port, "response_timeout = \"1s\"")
    );
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    let notice = post(&relay, "+8613800138000", "transactional");
    let campaign = post(&relay, "+8613800138001", "marketing");
    relay.reaches(&campaign, "unknown");
    relay.reaches(&notice, "delivered");
    let explained = relay.explained(&notice, SOON, |m| m["status"] == "delivered");
    assert_eq!(hosts(&explained), ["one", "one"]);
    assert_eq!(relay.metric("postrider_texts_again_total{reason=\"unanswered\"}"), Some(1));
    assert_eq!(relay.metric("postrider_answers_lost_total{channel=\"sms\"}"), Some(2));
}

#[test]
fn parts_have_their_price_and_a_day_its_budget_also_over_a_restart() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let extra = format!(
        r#"{}
[[sms_route]]
prefixes = ["+"]
carriers = ["one"]

[sms]
daily_spend = "0.10"

[[sms_price]]
carrier = "one"
part = "0.045"
"#,
        smpp_carrier("one", carrier.0.port, "")
    );
    let mut relay = Relay::start(&Settings { extra, ..Settings::default() });
    let body = |to: &str| json!({"to": to, "text": "hello"}).to_string();
    let preview = relay.api("POST", "/v1/sms/preview", &[], &body("+8613800138000")).json();
    assert_eq!(preview["price"], json!({"amount": "0.045", "currency": "CNY", "carrier": "one"}));
    for to in ["+8613800138000", "+8613800138001"] {
        let id = post(&relay, to, "transactional");
        relay.reaches(&id, "delivered");
    }
    let refused = relay.api("POST", "/v1/sms", &[], &body("+8613800138002"));
    assert_eq!((refused.status, &refused.json()["rule"]), (429, &json!("daily-spend")));
    let sent = relay.event("sent", |event| event["price"].is_object());
    assert_eq!(sent["price"], json!({"amount": "0.045", "currency": "CNY"}));
    let answer = crate::support::http::request(&relay.listeners.admin, "GET", "/metrics", &[], b"");
    let metrics = String::from_utf8(answer.body).unwrap();
    assert!(metrics.contains("postrider_text_costs_total{carrier=\"one\",client=\"shop\"} 0.09\n"), "{metrics}");
    // The sums outlive even a crash, once they are written down.
    let kept = relay.data_dir.join("spend.json");
    eventually("the sums are kept", SOON, || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"all\":90000")).then_some(())
    });
    relay.kill_9();
    relay.launch();
    let refused = relay.api("POST", "/v1/sms", &[], &body("+8613800138003"));
    assert_eq!((refused.status, &refused.json()["rule"]), (429, &json!("daily-spend")));
}
