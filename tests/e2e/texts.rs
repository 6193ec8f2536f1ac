//! A text over HTTP to an SMPP carrier others wrote, and its receipts back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::peer::{Carrier, KannelCentre, OwnCarrier};
use crate::support::relay::{Relay, Settings};
use crate::support::{SOON, SilentPort, eventually};

fn relay_and_carrier(extra: &str) -> (Relay, Carrier) {
    let carrier = Carrier::start();
    let settings = Settings { carrier_port: Some(carrier.0.port), extra: extra.to_owned(), ..Settings::default() };
    (Relay::start(&settings), carrier)
}

fn post(relay: &Relay, to: &str, text: &str) -> Value {
    let answer = relay.api("POST", "/v1/sms", &[], &json!({"to": to, "text": text}).to_string());
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()
}

#[test]
fn seventy_one_chinese_characters_travel_as_two_parts_and_are_receipted() {
    let (relay, mut carrier) = relay_and_carrier("");
    let text = format!("【小店】{}", "您的订单已发货请注意查收".repeat(6).chars().take(67).collect::<String>());
    assert_eq!(text.chars().count(), 71);
    let accepted = post(&relay, "+8613800138000", &text);
    assert_eq!(accepted["parts"], 2, "{accepted}");

    let mut parts = carrier.wait_for_taken(2, SOON);
    parts.sort_by(|a, b| a.udh.cmp(&b.udh));
    assert_eq!(parts.iter().map(|p| p.text.as_str()).collect::<String>(), text);
    for (n, part) in parts.iter().enumerate() {
        assert_eq!((part.to.as_str(), part.data_coding), ("8613800138000", 8), "{part:?}");
        assert_eq!(part.esm_class & 0x40, 0x40, "the UDH indicator: {part:?}");
        // 3GPP TS 23.040 section 9.2.3.24.1: element 00, length 03, reference, total, number.
        assert!(part.udh.starts_with("0003") && part.udh.ends_with(&format!("020{}", n + 1)), "{part:?}");
    }
    assert_eq!(parts[0].udh[4..6], parts[1].udh[4..6], "one reference for both parts");

    let id = accepted["id"].as_str().unwrap();
    let sent = relay.reaches(id, "sent");
    assert_eq!(sent["recipients"][0]["parts"].as_array().map(Vec::len), Some(2), "{sent}");
    carrier.0.steer(&json!({"receipts": "DELIVRD"}));
    relay.reaches(id, "delivered");
    let answered = |said: &[Value]| said.iter().filter(|v| v["pdu"] == "deliver_sm_resp" && v["status"] == 0).count();
    carrier.0.wait("both receipts are answered", SOON, |said| (answered(said) == 2).then_some(()));
    let explained = relay.explained(id, SOON, |m| m["status"] == "delivered");
    let parts = explained["recipients"][0]["parts"].as_array().unwrap().clone();
    assert!(parts.iter().all(|p| p["carrier"] == "carrier-1" && p["carrier_message_id"].is_string()), "{explained}");
}

#[test]
fn an_undelivered_receipt_is_told() {
    let (relay, mut carrier) = relay_and_carrier("");
    carrier.0.steer(&json!({"receipts": "UNDELIV"}));
    let accepted = post(&relay, "+8613800138000", "hello");
    relay.reaches(accepted["id"].as_str().unwrap(), "undelivered");
}

#[test]
fn throttling_slows_and_loses_nothing() {
    const TEXTS: usize = 40;
    const THROTTLED: usize = 10;
    let (relay, mut carrier) = relay_and_carrier("");
    carrier.0.steer(&json!({"throttle": THROTTLED, "receipts": "DELIVRD"}));
    let ids: Vec<String> = (0..TEXTS)
        .map(|n| post(&relay, &format!("+86138{n:08}"), &format!("text {n}"))["id"].as_str().unwrap().to_owned())
        .collect();
    let taken = carrier.wait_for_taken(TEXTS, SOON * 3);
    let mut times_taken = BTreeMap::new();
    for part in &taken {
        *times_taken.entry((part.to.clone(), part.text.clone())).or_insert(0) += 1;
    }
    assert_eq!(times_taken.len(), TEXTS, "every text arrived");
    assert!(times_taken.values().all(|&n| n == 1), "none twice: {times_taken:?}");
    let all = carrier.parts();
    assert_eq!(all.iter().filter(|p| p.status == 0x58).count(), THROTTLED);
    for refused in all.iter().filter(|p| p.status == 0x58) {
        let again = taken.iter().find(|p| p.to == refused.to).unwrap();
        let pause = again.at_ms - refused.at_ms;
        assert!(pause >= 50.0, "{} was tried again {pause} ms after it had been throttled", refused.to);
    }
    for id in &ids {
        relay.reaches(id, "delivered");
    }
}

#[test]
fn a_carrier_that_comes_late_gets_everything() {
    let silent = SilentPort::take();
    let relay = Relay::start(&Settings { carrier_port: Some(silent.port), ..Settings::default() });
    let ids: Vec<_> = (0..5)
        .map(|n| post(&relay, "+8613800138000", &format!("late {n}"))["id"].as_str().unwrap().to_owned())
        .collect();
    let carrier = Carrier::start_on(silent.port);
    assert_eq!(carrier.wait_for_taken(5, SOON * 2).len(), 5);
    for id in ids {
        relay.reaches(&id, "sent");
    }
}

#[test]
fn kannels_message_centre_takes_texts_over_one_bind_and_brings_messages_over_another() {
    const MESSAGES: u64 = 20;
    let centre = KannelCentre::start(MESSAGES);
    let extra = format!(
        r#"
[[carrier]]
name = "kannel"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "foo"
password = "bar"
from = "10690001"
login_mode = "split"
binds = 2

[[sms_route]]
prefixes = ["+"]
carriers = ["kannel"]
"#,
        port = centre.0.port
    );
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    let ids: Vec<String> = (0..5)
        .map(|n| post(&relay, &format!("+861380013800{n}"), "hello")["id"].as_str().unwrap().to_owned())
        .collect();
    for id in &ids {
        relay.reaches(id, "sent");
    }
    centre.wait_for(SOON, |submitted, answered| submitted >= 5 && answered >= MESSAGES);
    // Each is known, whomever it answers.
    eventually("its messages", SOON, || (relay.events("replied").len() as u64 >= MESSAGES).then_some(()));
}

#[test]
fn a_carrier_that_knows_turkish_gets_it_in_septets() {
    let own = OwnCarrier::start_on(0, &[]);
    let extra = format!(
        "[[carrier]]\nname = \"one\"\nprotocol = \"smpp\"\naddress = \"127.0.0.1:{}\"\nsystem_id = \"900001\"\n\
         password = \"888888\"\nfrom = \"10690001\"\nnational = [\"turkish\"]\n\
         [[sms_route]]\nprefixes = [\"+\"]\ncarriers = [\"one\"]\n",
        own.0.port
    );
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    // 132 characters: two parts of UCS-2; twice that, three parts of septets behind a header with two elements, and four of UCS-2.
    for (text, parts) in [("Siparişiniz yola çıktı".repeat(6), 1), ("Siparişiniz yola çıktı ".repeat(12), 2)] {
        let body = json!({"to": "+8613800138000", "text": text});
        let previewed = relay.api("POST", "/v1/sms/preview", &[], &body.to_string()).json();
        assert_eq!(
            (&previewed["encoding"], &previewed["parts"]),
            (&json!("gsm7-turkish"), &json!(parts)),
            "{previewed}"
        );
        let taken = relay.api("POST", "/v1/sms", &[], &body.to_string()).json();
        assert_eq!(taken["parts"], parts, "{taken}");
        relay.reaches(taken["id"].as_str().unwrap(), "delivered");
        let arrived = own.wait_for_texts(parts, SOON).pop().unwrap();
        assert_eq!((&arrived["text"], &arrived["parts"]), (&json!(text), &json!(parts)));
    }
}
