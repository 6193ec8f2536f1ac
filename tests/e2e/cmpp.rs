//! Texts by CMPP 2.0 and 3.0: to the binary's own carrier, which clients that others wrote judge in turn, and, by 2.0, to a
//! gateway that reads with a decoder of others.

use serde_json::{Value, json};

use crate::support::peer::{Gateway, OwnCarrier, output_of, python};
use crate::support::relay::{Relay, Settings};
use crate::support::{PATIENCE, SOON, SilentPort, long_text, script};

fn relay_to(port: u16, protocol: &str) -> Relay {
    relay_with(port, protocol, "")
}

/// One with more keys of its carrier.
fn relay_with(port: u16, protocol: &str, more: &str) -> Relay {
    let extra = format!(
        r#"
[[carrier]]
name = "cmpp-1"
protocol = "{protocol}"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
from = "10690001"
service_id = "SVC"
rate = "1000/s"
{more}

[[sms_route]]
prefixes = ["+"]
carriers = ["cmpp-1"]
"#
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

#[test]
fn a_long_text_travels_as_two_parts_and_its_reports_deliver_it() {
    for protocol in ["cmpp2", "cmpp3"] {
        let carrier = OwnCarrier::start_on(0, &[]);
        let relay = relay_to(carrier.0.port, protocol);
        let id = relay.post_text("+8613800138000", &long_text());
        let arrived = carrier.wait_for_texts(1, SOON).remove(0);
        let expected =
            json!({"arrived": "sms", "from": "10690001", "to": "8613800138000", "text": long_text(), "parts": 2});
        assert_eq!(arrived, expected, "{protocol}");
        relay.reaches(&id, "delivered");
        carrier.wait_for_count("receipts_acknowledged", SOON, |n| n == 2);
        let explained = relay.explained(&id, SOON, |m| m["status"] == "delivered");
        let parts = explained["recipients"][0]["parts"].as_array().unwrap().clone();
        let decimal = |p: &Value| p["carrier_message_id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok());
        assert!(parts.len() == 2 && parts.iter().all(decimal), "Msg_Ids in decimal: {explained}");
    }
}

#[test]
fn a_report_can_say_that_it_did_not_arrive() {
    let carrier = OwnCarrier::start_on(0, &["--undeliverable-share", "1"]);
    let relay = relay_to(carrier.0.port, "cmpp3");
    relay.reaches(&relay.post_text("+8613800138000", "hello"), "undelivered");
}

#[test]
fn flow_control_slows_and_loses_nothing() {
    const TEXTS: usize = 20;
    const THROTTLED: u64 = 3;
    for protocol in ["cmpp2", "cmpp3"] {
        let carrier = OwnCarrier::start_on(0, &["--throttle-first", &THROTTLED.to_string()]);
        let relay = relay_to(carrier.0.port, protocol);
        let ids: Vec<_> = (0..TEXTS).map(|n| relay.post_text(&format!("+86138{n:08}"), &format!("text {n}"))).collect();
        let texts = carrier.wait_for_texts(TEXTS, PATIENCE);
        let mut words: Vec<_> = texts.iter().map(|t| t["text"].as_str().unwrap()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!((words.len(), texts.len()), (TEXTS, TEXTS), "each once");
        for id in &ids {
            relay.reaches(id, "delivered");
        }
        carrier.wait_for_count("throttled", SOON, |n| n == THROTTLED);
        carrier.wait_for_count("parts", SOON, |n| n == TEXTS as u64);
        let counted =
            |result| relay.metric(&format!(r#"postrider_carrier_parts_total{{carrier="cmpp-1",result="{result}"}}"#));
        assert_eq!([counted("sent"), counted("throttled")], [Some(TEXTS as u64), Some(THROTTLED)]);
    }
}

#[test]
fn a_link_that_was_cut_is_made_again() {
    let silent = SilentPort::take();
    let relay = relay_to(silent.port, "cmpp3");
    let late = relay.post_text("+8613800138000", "late");
    let carrier = OwnCarrier::start_on(silent.port, &[]);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "late");
    relay.reaches(&late, "delivered");
    drop(carrier);
    let again = relay.post_text("+8613800138000", "again");
    let carrier = OwnCarrier::start_on(silent.port, &[]);
    assert_eq!(carrier.wait_for_texts(1, PATIENCE)[0]["text"], "again");
    relay.reaches(&again, "delivered");
}

#[test]
fn an_independent_decoder_reads_what_we_submit() {
    let gateway = Gateway::start();
    let relay = relay_to(gateway.0.port, "cmpp2");
    let id = relay.post_text("+8613800138000", &long_text());
    relay.reaches(&id, "delivered");
    let said = gateway.0.said(|v| Some(v.clone()));
    let connect = said.iter().find(|v| v["pdu"] == "connect").unwrap();
    assert_eq!(
        (&connect["authentic"], &connect["length"], &connect["version"]),
        (&json!(true), &json!(39), &json!(32))
    );
    let mut parts: Vec<_> = said.iter().filter(|v| v["pdu"] == "submit").collect();
    parts.sort_by_key(|v| v["pk_number"].as_u64());
    assert_eq!(parts.len(), 2);
    let words: String = parts.iter().map(|v| v["msg_content"].as_str().unwrap()).collect();
    assert_eq!(words, long_text());
    for (n, part) in parts.iter().enumerate() {
        let field = |name: &str| part[name].as_str().unwrap().trim_end_matches('\0').to_owned();
        let number = |name: &str| part[name].as_u64().unwrap();
        assert_eq!(["pk_total", "tp_udhi", "msg_fmt", "register_delivery", "destusr_tl"].map(number), [2, 1, 8, 1, 1]);
        assert_eq!(["fee_usertype", "msg_id", "msg_level", "tp_pid"].map(number), [2, 0, 0, 0]);
        assert_eq!(number("length"), 12 + 126 + 21 + number("msg_length"));
        let head: Vec<u32> = part["msg_head"].as_str().unwrap().chars().map(u32::from).collect();
        assert_eq!((&head[..3], &head[4..]), (&[5, 0, 3][..], &[2, n as u32 + 1][..]), "{part}");
        let shown = ["dest_terminal_id", "src_id", "msg_src", "service_id", "fee_type", "fee_code"].map(field);
        assert_eq!(shown, ["8613800138000", "10690001", "900001", "SVC", "01", "0"]);
        assert!(field("valid_time").ends_with("032+") && field("valid_time").len() == 16, "{part}");
        assert_eq!((part["reserve"].as_str(), field("at_time").as_str()), (Some("\0\0\0\0\0\0\0\0"), ""));
    }
    let answers = said.iter().filter(|v| v["pdu"] == "deliver_resp" && v["result"] == 0 && v["msg_id_kept"] == true);
    assert_eq!(answers.count(), 2, "{said:?}");
}

#[test]
fn clients_that_others_wrote_get_on_with_our_carrier() {
    let carrier = OwnCarrier::start_on(0, &[]);
    for (client, version) in [("pycmpp", "2.0"), ("cmppy", "3.0")] {
        let mut command = python();
        let port = carrier.0.port.to_string();
        command.arg(script("cmpp_client.py")).args([client, &port, "900001", "888888", &format!("你好 {version}")]);
        let said = output_of(&mut command);
        let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&said["status"], &said["ismg"], &said["result"]), (&json!(0), &json!(true), &json!(0)), "{client}");
        assert!(said["msg_id"].as_u64() > Some(0), "{client}: {said}");
    }
    let texts = carrier.wait_for_texts(2, SOON);
    assert_eq!([&texts[0]["text"], &texts[1]["text"]], ["你好 2.0", "你好 3.0"]);
    // A wrong secret.
    let mut command = python();
    let port = carrier.0.port.to_string();
    command.arg(script("cmpp_client.py")).args(["cmppy", &port, "900001", "wrong", "x"]);
    let said = output_of(&mut command);
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["status"], 3, "{said}");
}

#[test]
fn a_gateway_that_wants_gbk_gets_it_where_gbk_holds_the_text() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_with(carrier.0.port, "cmpp3", "gbk = true");
    for (n, text) in [long_text(), "已发货，TD退订".to_owned(), "已发货😀".to_owned()].iter().enumerate() {
        relay.reaches(&relay.post_text("+8613800138000", text), "delivered");
        assert_eq!(carrier.wait_for_texts(n + 1, SOON)[n]["text"], **text);
    }
}
