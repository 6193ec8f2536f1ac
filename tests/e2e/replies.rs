//! What handsets answer: told, matched, obeyed where it is an opt-out, and answered only once all that is on disk.

use serde_json::{Value, json};

use crate::support::peer::{Carrier, OwnCarrier};
use crate::support::relay::{Relay, Settings, smpp_carrier};
use crate::support::{PATIENCE, SOON, eventually};

const LIN: &str = "+8613800138000";
const WANG: &str = "+8613800138001";

fn relay_to(port: u16, more: &str) -> Relay {
    let extra = format!(
        r#"{}
[[sms_route]]
prefixes = ["+"]
carriers = ["one"]
{more}"#,
        smpp_carrier("one", port, "from = \"10690001\"")
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

/// The status of the answer, and what it says.
fn post(relay: &Relay, to: &str, text: &str, class: &str) -> (u16, Value) {
    let body = json!({"to": to, "text": text, "signature": "小店", "class": class});
    let answer = relay.api("POST", "/v1/sms", &[], &body.to_string());
    (answer.status, answer.json())
}

fn accepted(relay: &Relay, to: &str, text: &str, class: &str) -> String {
    let (status, answer) = post(relay, to, text, class);
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// Waits for the events of that kind.
fn told(relay: &Relay, kind: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} events {kind}"), PATIENCE, || {
        Some(relay.events(kind)).filter(|events| events.len() >= count)
    })
}

/// `postrider optouts` with these words; what it prints as JSON.
fn opt_outs(relay: &Relay, words: &[&str]) -> Vec<Value> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["optouts", words[0], "--json", "--config"])
        .arg(relay.config())
        .args(&words[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_number_that_answers_td_gets_no_more_marketing_and_still_its_codes() {
    let carrier = OwnCarrier::start_on(0, &["--reply", &format!("{LIN}= ＴＤ。")]);
    let mut relay = relay_to(carrier.0.port, "");
    let id = accepted(&relay, LIN, "大促销", "marketing");
    let replied = told(&relay, "replied", 1).remove(0);
    assert_eq!(
        (&replied["id"], &replied["client"], &replied["peer"]["host"]),
        (&json!(id), &json!("shop"), &json!("one"))
    );
    assert_eq!(replied["handset"], json!({"from": LIN, "to": "10690001", "text": " ＴＤ。", "parts": 1}));
    let out = told(&relay, "opted_out", 1).remove(0);
    assert_eq!(out["opt_out"], json!({"number": LIN, "signature": "小店", "class": "marketing", "by": "reply"}));
    carrier.wait_for_count("replies_acknowledged", PATIENCE, |n| n >= 1);

    for round in ["before a crash", "after it"] {
        let (status, answer) = post(&relay, LIN, "再促销", "marketing");
        assert_eq!((status, answer["rule"].as_str()), (403, Some("opted-out")), "{round}: {answer}");
        accepted(&relay, LIN, "验证码 123456", "otp");
        accepted(&relay, WANG, "大促销", "marketing");
        if round == "before a crash" {
            // A text under way in a crash may end as unknown; and of one that has ended the signature is not known any more,
            // so that an answer to it would opt out of the sender.
            carrier.wait_for_texts(3, PATIENCE);
            carrier.wait_for_count("replies_acknowledged", PATIENCE, |n| n >= 2);
            relay.kill_9();
            relay.launch();
        }
    }
    let texts = carrier.wait_for_texts(5, PATIENCE);
    assert!(texts.iter().all(|t| !t["text"].as_str().unwrap().contains("再")), "{texts:?}");
    let explained = relay.command(&["explain", LIN]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(said.contains("opted out of marketing texts of 【小店】"), "{said}");
    assert_eq!(relay.metric(r#"postrider_text_refusals_total{client="shop",rule="opted-out"}"#), Some(1));
    assert_eq!(relay.metric("postrider_opt_outs"), Some(1));

    let listed = opt_outs(&relay, &["list"]);
    assert_eq!((listed.len(), &listed[0]["number"], &listed[0]["by"]), (1, &json!(LIN), &json!("reply")));
    assert_eq!(opt_outs(&relay, &["remove", LIN]).len(), 1);
    accepted(&relay, LIN, "又促销", "marketing");
}

#[test]
fn texts_that_wait_when_their_number_opts_out_do_not_leave() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "");
    assert!(relay.command(&["pause"]).status.success());
    let (marketing, notice) =
        (accepted(&relay, LIN, "大促销", "marketing"), accepted(&relay, LIN, "已发货", "transactional"));
    // Of the carrier's sender: which one it will be is not known before it leaves.
    assert_eq!(opt_outs(&relay, &["add", LIN, "--sender", "10690001"]).len(), 1);
    assert!(relay.command(&["resume"]).status.success());
    let message = relay.reaches(&marketing, "rejected");
    let attempt = &message["recipients"][0]["attempts"][0];
    assert!(attempt["reason"].as_str().is_some_and(|r| r.contains("has opted out of marketing texts")), "{message}");
    assert_eq!(attempt["rule"], "opted-out (opt-out)");
    let rejected = told(&relay, "rejected", 1).remove(0);
    assert_eq!((&rejected["id"], &rejected["rule"]["id"]), (&json!(marketing), &json!("opted-out")));
    relay.reaches(&notice, "delivered");
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1);
    assert_eq!(told(&relay, "opted_out", 1)[0]["opt_out"]["sender"], "10690001");
}

#[test]
fn a_long_answer_is_put_together_and_answered_only_once_it_is_on_disk() {
    let long = "请问这件衣服还有别的颜色吗😀".repeat(8);
    let carrier = OwnCarrier::start_on(0, &["--reply", &format!("{LIN}={long}")]);
    let relay = relay_to(carrier.0.port, "[events]\nrotate_bytes = \"4KiB\"\nkeep = 1\n");
    let events = relay.data_dir.join("events");
    // A directory that is not empty cannot be renamed over: once the file is full, nothing can be written to it.
    std::fs::create_dir_all(events.join("events.jsonl.1/x")).unwrap();
    for n in 0..20 {
        accepted(&relay, WANG, &format!("text {n}"), "transactional");
    }
    accepted(&relay, LIN, "hello", "transactional");
    // Parts of a message are durable by themselves; what makes it whole is not answered before it is told.
    let parts = long.encode_utf16().count().div_ceil(67) as u64;
    carrier.wait_for_count("replies_put_off", PATIENCE, |n| n >= 2);
    carrier.wait_for_count("replies_acknowledged", PATIENCE, |n| n == parts - 1);
    std::fs::remove_dir_all(events.join("events.jsonl.1")).unwrap();
    carrier.wait_for_count("replies_acknowledged", PATIENCE, |n| n == parts);
    // Rotation may have taken it to the finished file.
    let both = || {
        ["events.jsonl.1", "events.jsonl"].map(|name| std::fs::read_to_string(events.join(name)).unwrap_or_default())
    };
    let told = both().concat();
    let replied = told.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|v| v["event"] == "replied");
    let handset = replied.unwrap_or_else(|| panic!("answered yes and not told: {told}"))["handset"].clone();
    assert_eq!(handset, json!({"from": LIN, "to": "10690001", "text": long, "parts": parts}));
}

#[test]
fn an_independent_carrier_brings_an_answer_to_a_text_that_was_sent_before_a_crash() {
    let mut carrier = Carrier::start();
    let settings = Settings { carrier_port: Some(carrier.0.port), ..Settings::default() };
    let mut relay = Relay::start(&settings);
    let id = accepted(&relay, LIN, "大促销", "marketing");
    relay.reaches(&id, "sent");
    relay.kill_9();
    relay.launch();
    let binds = |said: &[Value]| said.iter().filter(|v| v["pdu"] == "bind").count();
    carrier.0.wait("the relay is back", SOON, |said| (binds(said) == 2).then_some(()));
    let address =
        json!({"source_addr_ton": 1, "source_addr": LIN[1..], "dest_addr_ton": 0, "destination_addr": "10690009"});
    let mut deliver = |more: Value| {
        let mut fields = address.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        carrier.0.steer(&json!({"deliver": fields}));
    };
    // Its last part first, each with a header, in UCS-2.
    deliver(json!({"esm_class": 0x40, "data_coding": 8, "udh": "0500032a0202", "message": "吗"}));
    deliver(json!({"esm_class": 0x40, "data_coding": 8, "udh": "0500032a0201", "message": "有别的颜色"}));
    deliver(json!({"message": "退订"}));
    let answered = |said: &[Value]| said.iter().filter(|v| v["id"] == "handset" && v["status"] == 0).count();
    carrier.0.wait("all three are answered yes", SOON, |said| (answered(said) == 3).then_some(()));
    let replied = told(&relay, "replied", 2);
    // Side by side: they share syncs of the disk.
    let mut texts: Vec<_> = replied.iter().map(|v| v["handset"]["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["有别的颜色吗", "退订"]);
    assert!(replied.iter().all(|v| v["id"] == json!(id) && v["client"] == "shop"), "{replied:?}");
    let out = told(&relay, "opted_out", 1).remove(0);
    assert_eq!((&out["id"], &out["opt_out"]["signature"]), (&json!(id), &json!("小店")));
    assert_eq!(post(&relay, LIN, "再促销", "marketing").0, 403);
}

#[test]
fn a_word_of_a_rule_is_answered_once_labelled_and_brought_to_its_client() {
    let carrier = OwnCarrier::start_on(0, &["--reply", &format!("{LIN}=Ｈelp!"), "--reply", &format!("{WANG}=TD")]);
    let rule = r#"
[[reply_rule]]
name = "help"
words = ["HELP", "TD"]
client = "desk"
answer = "客服电话 4001234567"
label = "service"

[[client]]
name = "desk"
channels = ["sms"]
api_keys = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
"#;
    let relay = relay_to(carrier.0.port, rule);
    let id = accepted(&relay, LIN, "已发货", "transactional");
    let replied = told(&relay, "replied", 1).remove(0);
    assert_eq!((&replied["id"], &replied["client"]), (&json!(id), &json!("desk")));
    let handset = &replied["handset"];
    assert_eq!((&handset["rule"], &handset["label"]), (&json!("help"), &json!("service")));
    let answer = handset["answer"].as_str().unwrap().to_owned();
    relay.explained(&answer, SOON, |m| m["status"] == "delivered" && m["client"] == "desk");
    // The simulator answers the answer as well, which would go on for ever.
    let replied = told(&relay, "replied", 2).remove(1);
    assert_eq!(replied["handset"]["not_answered"], "answered-lately", "{replied}");
    let texts: Vec<_> = carrier.wait_for_texts(2, SOON).iter().map(|t| t["text"].clone()).collect();
    assert_eq!(texts[1], "客服电话 4001234567", "{texts:?}");

    accepted(&relay, WANG, "大促销", "marketing");
    let out = told(&relay, "replied", 3).remove(2);
    assert_eq!(out["handset"]["not_answered"], "opted-out", "{out}");
    assert_eq!(carrier.wait_for_texts(3, SOON).len(), 3);
    let counted = |result: &str| {
        relay
            .metric(&format!("postrider_reply_rules_total{{result=\"{result}\",rule=\"help\"}}"))
            .or_else(|| relay.metric(&format!("postrider_reply_rules_total{{rule=\"help\",result=\"{result}\"}}")))
    };
    assert_eq!((counted("answered"), counted("answered-lately"), counted("opted-out")), (Some(1), Some(1), Some(1)));
}
