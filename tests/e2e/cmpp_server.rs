//! Applications that log in by CMPP: a client that others wrote submits texts, loses step and is cut off; a second relay, as a
//! carrier's client, is brought reports and replies by 2.0 and 3.0, over unbinds, kills and restarts.

use serde_json::{Value, json};

use crate::support::peer::{CmppSp, OwnCarrier, output_of, python};
use crate::support::relay::{Relay, Settings, smpp_carrier};
use crate::support::{PATIENCE, SOON, eventually, long_text, script};

/// A relay that serves CMPP, and sends texts to that carrier.
fn relay_to(carrier: u16, client: &str, more: &str) -> Relay {
    let extra = format!(
        r#"
[[cmpp_listener]]
address = "127.0.0.1:0"
tls = "none"

[[client]]
name = "sp"
channels = ["sms"]
countries = ["+86"]
numbers = ["10690001", "1064899103013"] # the second is what cmppy shows unless told otherwise
cmpp_sp_id = "900001"
cmpp_secret = "888888"
{client}
{}
[[sms_route]]
prefixes = ["+"]
carriers = ["one"]
{more}"#,
        smpp_carrier("one", carrier, "from = \"10690001\"")
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

fn cmpp(relay: &Relay) -> u16 {
    crate::support::relay::port(&relay.listeners.cmpp[0]).parse().unwrap()
}

/// A relay whose carrier is the other one.
fn client_of(gateway: u16, protocol: &str) -> Relay {
    let extra = format!(
        r#"
[[carrier]]
name = "gateway"
protocol = "{protocol}"
address = "127.0.0.1:{gateway}"
system_id = "900001"
password = "888888"
from = "10690001"
rate = "50/s"

[[sms_route]]
prefixes = ["+"]
carriers = ["gateway"]
"#
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

fn counted(relay: &Relay, labels: &str) -> Option<u64> {
    relay.metric(&format!("postrider_cmpp_{labels}"))
}

#[test]
fn what_another_client_submits_goes_out_and_long_texts_as_one() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "", "");
    let mut sp = CmppSp::start(cmpp(&relay), "900001", "888888");
    sp.submit("你好", "13800138000");
    sp.submit(&long_text(), "13800138001");
    let answers = sp.wait_for_answers(3, SOON);
    let mut ids: Vec<_> = answers.iter().map(|answer| answer["msg_id"].as_str().unwrap().to_owned()).collect();
    assert!(answers.iter().all(|answer| answer["answer"] == 0), "{answers:?}");
    let word = |text: &Value, field: &str| text[field].as_str().unwrap().to_owned();
    let mut texts: Vec<_> = carrier.wait_for_texts(2, SOON).iter().map(|t| (word(t, "to"), word(t, "text"))).collect();
    texts.sort();
    let expected = [("8613800138000", "你好".to_owned()), ("8613800138001", long_text())];
    assert_eq!(texts, expected.map(|(to, text)| (to.to_owned(), text)));
    // People find a text by the id that its sender was given.
    for accepted in relay.events("accepted") {
        let explained = relay.explained(accepted["id"].as_str().unwrap(), SOON, |m| m["status"] == "delivered");
        let known = explained["client_ref"].as_str().unwrap().strip_prefix("cmpp:").unwrap();
        assert!(ids.iter().any(|id| id == known), "{known}: {ids:?}");
        assert_eq!((&explained["client"], &explained["class"]), (&json!("sp"), &json!("transactional")));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has its own");
    assert_eq!(counted(&relay, r#"submissions_total{client="sp",result="taken"}"#), Some(3));
    assert_eq!(counted(&relay, r#"binds{client="sp"}"#), Some(1));
}

#[test]
fn a_client_that_loses_step_is_cut_off_and_costs_nothing_else() {
    let carrier = OwnCarrier::start_on(0, &["--latency", "100ms"]);
    let more = "[cmpp_server]\nactive_test_interval = \"1s\"\n";
    let relay = relay_to(carrier.0.port, "", more);
    let other = client_of(cmpp(&relay), "cmpp3");
    let mut sp = CmppSp::start(cmpp(&relay), "900001", "888888");
    sp.submit("早", "13800138000");
    sp.wait_for_answers(1, SOON);
    // Its answer to ACTIVE_TEST says 13 octets and has 16: what follows cannot be read.
    sp.0.wait("it has answered an ACTIVE_TEST", SOON, |said| said.iter().find(|v| v["asked"] == true).cloned());
    sp.order(&json!({"submit": "晚", "to": ["13800138001"]}));
    sp.0.wait("it is cut off", SOON, |said| said.iter().find(|v| v["closed"] == true).cloned());
    eventually("that is counted", SOON, || {
        counted(&relay, r#"connections_total{result="cut-off"}"#).filter(|n| *n == 1)
    });
    assert!(relay.log().contains("a link is cut off"), "{}", relay.log());
    // What was answered yes goes out; what was not is its client's to send again; the other link has not felt it.
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "早");
    other.reaches(&other.post_text("+8613800138002", "hello"), "delivered");
    assert_eq!(counted(&relay, r#"connections_total{result="cut-off"}"#), Some(1));
    let mut again = CmppSp::start(cmpp(&relay), "900001", "888888");
    again.submit("晚", "13800138001");
    assert_eq!(again.wait_for_answers(1, SOON)[0]["answer"], 0);
}

#[test]
fn reports_and_replies_are_brought_by_both_versions() {
    for protocol in ["cmpp2", "cmpp3"] {
        let carrier = OwnCarrier::start_on(0, &["--reply", "+8613800138001=TD 退"]);
        let relay = relay_to(carrier.0.port, "", "");
        let client = client_of(cmpp(&relay), protocol);
        let id = client.post_text("+8613800138000", &long_text());
        assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], long_text(), "{protocol}");
        let explained = client.explained(&id, SOON, |m| m["status"] == "delivered");
        let parts = explained["recipients"][0]["parts"].as_array().unwrap().clone();
        assert_eq!(parts.iter().map(|p| p["state"].as_str().unwrap()).collect::<Vec<_>>(), ["delivered", "delivered"]);
        let answered = client.post_text("+8613800138001", "hello");
        let reply = client.event("replied", |event| event["id"] == *answered);
        assert_eq!((&reply["handset"]["text"], &reply["handset"]["to"]), (&json!("TD 退"), &json!("10690001")));
        eventually("all is taken", SOON, || {
            counted(&relay, r#"deliveries_total{client="sp",kind="receipt",result="taken"}"#).filter(|n| *n >= 3)
        });
        assert_eq!(counted(&relay, r#"deliveries_total{client="sp",kind="reply",result="taken"}"#), Some(1));
    }
}

#[test]
fn a_reply_of_more_parts_than_the_window_is_brought_whole() {
    let long = long_text().repeat(4);
    let carrier = OwnCarrier::start_on(0, &["--reply", &format!("+8613800138001={long}")]);
    let relay = relay_to(carrier.0.port, "", "[cmpp_server]\ndelivery_window = 2\n");
    let client = client_of(cmpp(&relay), "cmpp3");
    let answered = client.post_text("+8613800138001", "hello");
    let reply = client.event("replied", |event| event["id"] == *answered);
    assert_eq!(reply["handset"]["text"], json!(long));
    assert!(reply["handset"]["parts"].as_u64().unwrap() > 4, "{reply}");
    let taken = r#"deliveries_total{client="sp",kind="reply",result="taken"}"#;
    eventually("it is taken", SOON, || counted(&relay, taken).filter(|n| *n == 1));
    let put_off = r#"deliveries_total{client="sp",kind="reply",result="put-off"}"#;
    assert_eq!(counted(&relay, put_off).unwrap_or(0), 0);
}

#[test]
fn what_did_not_arrive_is_reported_so() {
    let carrier = OwnCarrier::start_on(0, &["--undeliverable-share", "1"]);
    let relay = relay_to(carrier.0.port, "", "");
    let client = client_of(cmpp(&relay), "cmpp2");
    client.reaches(&client.post_text("+8613800138000", "hello"), "undelivered");
}

#[test]
fn reports_are_kept_while_nobody_is_there_and_over_kills() {
    let carrier = OwnCarrier::start_on(0, &["--receipt-delay", "2s"]);
    let mut relay = relay_to(carrier.0.port, "", "");
    let gateway = cmpp(&relay);
    let mut client = client_of(gateway, "cmpp3");
    let ids: Vec<_> = (0..5).map(|n| client.post_text(&format!("+861380013800{n}"), &format!("text {n}"))).collect();
    carrier.wait_for_texts(5, SOON);
    client.kill_9();
    carrier.wait_for_count("receipts_acknowledged", PATIENCE, |n| n == 5);
    eventually("they wait", SOON, || counted(&relay, r#"deliveries_waiting{client="sp"}"#).filter(|n| *n == 5));
    relay.kill_9();
    relay.launch();
    // It listens on another port now; the client's configuration follows.
    let config = client.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let moved = text.replace(&format!("127.0.0.1:{gateway}"), &format!("127.0.0.1:{}", cmpp(&relay)));
    std::fs::write(&config, moved).unwrap();
    client.launch();
    for id in &ids {
        client.reaches(id, "delivered");
    }
    assert_eq!(carrier.wait_for_texts(5, SOON).len(), 5, "each once");
}

/// What a client that others wrote is told when it logs in and submits one text.
fn told(client: &str, relay: &Relay, sp_id: &str, secret: &str) -> Value {
    let mut command = python();
    command.arg(script("cmpp_client.py")).args([client, &cmpp(relay).to_string(), sp_id, secret, "hello"]);
    serde_json::from_str(output_of(&mut command).lines().last().unwrap()).unwrap()
}

#[test]
fn logins_rates_and_links_have_limits_and_each_refusal_its_number() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "cmpp_connections = 1", "");
    for client in ["pycmpp", "cmppy"] {
        let told = told(client, &relay, "900001", "888888");
        assert_eq!((&told["status"], &told["ismg"], &told["result"]), (&json!(0), &json!(true), &json!(0)), "{client}");
        eventually("it has gone", SOON, || counted(&relay, r#"binds{client="sp"}"#).filter(|n| *n == 0));
    }
    let slow = relay_to(carrier.0.port, "cmpp_rate = \"1/m\"", "");
    for (result, counted_as) in [(0, "taken"), (8, "throttled")] {
        assert_eq!(told("cmppy", &slow, "900001", "888888")["result"], result, "one in a minute");
        let labels = format!(r#"submissions_total{{client="sp",result="{counted_as}"}}"#);
        assert_eq!(counted(&slow, &labels), Some(1));
    }
    let _sp = CmppSp::start(cmpp(&relay), "900001", "888888");
    assert_eq!(told("pycmpp", &relay, "900001", "888888")["status"], 5, "one link at a time");
    for (sp_id, secret) in [("900001", "888889"), ("900002", "888888")] {
        assert_eq!(told("cmppy", &relay, sp_id, secret)["status"], 3, "{sp_id}");
    }
}

#[test]
fn what_a_rule_refuses_has_its_result_and_is_counted() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let more = "[sms]\ndenied_numbers = [\"+86170\"]\nblocked_words = [\"赌博\"]\n";
    let relay = relay_to(carrier.0.port, "", more);
    let mut sp = CmppSp::start(cmpp(&relay), "900001", "888888");
    for (to, text, result) in [("17012345678", "好", 13), ("13800138000", "赌博", 9), ("12", "好", 13)] {
        let before = sp.answers().len();
        sp.submit(text, to);
        assert_eq!(sp.wait_for_answers(before + 1, SOON)[before]["answer"], result, "{to} {text}");
    }
    let refused = |reason: &str| {
        relay.metric(&format!("postrider_refused_submissions_total{{ingress=\"cmpp\",reason=\"{reason}\"}}"))
    };
    assert_eq!((refused("not-allowed"), refused("invalid-fields")), (Some(2), Some(1)));
}

#[test]
fn a_text_to_several_numbers_goes_to_each_that_may_have_it_and_each_has_its_report() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let more = "[sms]\ndenied_numbers = [\"+86170\"]\n[cmpp_server]\nnumbers = 4\n";
    let relay = relay_to(carrier.0.port, "", more);
    let mut sp = CmppSp::start_with(cmpp(&relay), "900001", "888888", true);
    sp.order(&json!({"submit": "好", "to": ["13800138000", "17012345678", "13800138001"]}));
    let answer = sp.wait_for_answers(1, SOON).remove(0);
    assert_eq!(answer["answer"], 0, "{answer}");
    let mut reports = sp.0.wait("three reports", SOON, |said| {
        let reports: Vec<_> = said.iter().filter(|v| !v["report"].is_null()).cloned().collect();
        (reports.len() >= 3).then_some(reports)
    });
    reports.sort_by_key(|report| report["to"].as_str().unwrap().to_owned());
    for (report, (to, stat)) in
        reports.iter().zip([("13800138000", "DELIVRD"), ("13800138001", "DELIVRD"), ("17012345678", "REJECTD")])
    {
        let wanted = (&answer["msg_id"], &json!(to), &json!(stat));
        assert_eq!((&report["report"], &report["to"], &report["stat"]), wanted, "{report}");
    }
    assert_eq!((reports.len(), carrier.wait_for_texts(2, SOON).len()), (3, 2));
    let rejected = relay.event("rejected", |event| event["recipient"] == "+8617012345678");
    assert!(rejected["reason"].as_str().unwrap().contains("number-denied"), "{rejected}");
    let rule = r#"postrider_refused_submissions_total{ingress="cmpp",reason="not-allowed"}"#;
    assert_eq!(relay.metric(rule), Some(1));
    // None of them may, and more than may be in one.
    for (to, result) in [(vec!["17012345678"; 2], 13), (vec!["13800138000"; 5], 13)] {
        let before = sp.answers().len();
        sp.order(&json!({"submit": "好", "to": to}));
        assert_eq!(sp.wait_for_answers(before + 1, SOON)[before]["answer"], result, "{to:?}");
    }
}
