//! Applications that bind by SMPP: clients that others wrote submit texts and are brought receipts and replies, over unbinds,
//! kills and restarts.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::keys;
use crate::support::peer::{OwnCarrier, SmppClient, SmppEsme};
use crate::support::relay::{Relay, Settings};
use crate::support::{PATIENCE, SOON, eventually, test_peers};

const LIN: &str = "8613800138000";
/// As long as SMPP lets a password be.
const KEY: &str = "8-octets";

/// A relay that serves SMPP, and sends texts to that carrier.
fn relay_to(port: u16, client: &str, more: &str) -> Relay {
    let extra = format!(
        r#"
[[smpp_listener]]
address = "127.0.0.1:0"
tls = "none"

[[smpp_listener]]
address = "127.0.0.1:0"
tls = "implicit"

[[client]]
name = "esme"
password = "{password}"
channels = ["sms"]
countries = ["+86"]
numbers = ["10690001"]
{client}

[[client]]
name = "another-application"
api_keys = ["{key}"]
channels = ["sms"]
smpp_system_id = "another"

[[carrier]]
name = "one"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
from = "10690001"
rate = "1000/s"

[[sms_route]]
prefixes = ["+"]
carriers = ["one"]
{more}"#,
        password = keys::password_hash("sesame"),
        key = keys::api_key_hash(KEY),
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

fn smpp(relay: &Relay) -> u16 {
    crate::support::relay::port(&relay.listeners.smpp[0]).parse().unwrap()
}

fn esme(relay: &Relay) -> SmppClient {
    SmppClient::bind(smpp(relay), "esme", "sesame", "transceiver")
}

fn text(to: &str, words: &str) -> Value {
    json!({"destination_addr": to, "short_message": words, "registered_delivery": 1})
}

#[test]
fn a_text_goes_out_and_its_receipt_comes_back() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "", "");
    let mut client = esme(&relay);
    let (status, id) = client.submit(text(LIN, "hello"));
    assert_eq!(status, 0);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "hello");
    let receipt = client.wait_for_deliveries(1, SOON).remove(0);
    assert_eq!((&receipt["esm_class"], &receipt["message_state"]), (&json!(4), &json!(2)));
    assert_eq!((receipt["source_addr"].as_str(), receipt["receipted_message_id"].as_str()), (Some(LIN), Some(&*id)));
    let said = receipt["short_message"].as_str().unwrap();
    let start = format!("id:{id} sub:001 dlvrd:001 submit date:");
    assert!(said.starts_with(&start) && said.ends_with(" stat:DELIVRD err:000 text:"), "{said}");
    let explained = relay.explained(&id, SOON, |m| m["status"] == "delivered");
    assert_eq!((&explained["client"], &explained["class"]), (&json!("esme"), &json!("transactional")));
    let counted = |labels: &str| relay.metric(&format!("postrider_smpp_{labels}"));
    assert_eq!(counted(r#"submissions_total{client="esme",result="taken"}"#), Some(1));
    assert_eq!(counted(r#"binds{client="esme"}"#), Some(1));
    eventually("the receipt is counted", SOON, || {
        counted(r#"deliveries_total{client="esme",kind="receipt",result="taken"}"#).filter(|n| *n == 1)
    });
    assert_eq!(relay.events("accepted")[0]["id"], *id);
}

#[test]
fn data_sm_submits_and_a_peer_of_5_0_hears_how_near_it_is_to_being_throttled() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "smpp_rate = \"1/m\"", "");
    let data = |payload: &str| {
        json!({"destination_addr": LIN, "dest_addr_ton": 1, "data_coding": 0, "registered_delivery": 1,
               "message_payload": payload, "qos_time_to_live": 3600})
    };
    let mut newer = SmppEsme::bind(smpp(&relay), "esme", "sesame", 0x50);
    assert_eq!(newer.0.said(|v| v["version"].as_u64()), [0x50]);
    let taken = newer.say("data_sm", &data("by data_sm"));
    assert_eq!((&taken["command"], &taken["status"]), (&json!("data_sm_resp"), &json!(0)), "{taken}");
    // One in a minute may come.
    assert!(taken["congestion_state"].as_u64().is_some_and(|percent| (50..=99).contains(&percent)), "{taken}");
    let id = taken["id"].as_str().unwrap();
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "by data_sm");
    let receipt = newer.0.wait("a receipt", SOON, |said| said.iter().find_map(|v| v.get("delivery").cloned()));
    assert_eq!((receipt["receipted_message_id"].as_str(), &receipt["message_state"]), (Some(id), &json!(2)));
    let expires = relay.explained(id, SOON, |m| m["status"] == "delivered")["expires_at"].clone();
    assert!(expires.is_string(), "qos_time_to_live is its validity");
    let throttled = newer.say("data_sm", &data("too soon"));
    assert_eq!((&throttled["command"], &throttled["status"]), (&json!("data_sm_resp"), &json!(0x58)), "{throttled}");
    // A peer of 3.4 hears nothing that 3.4 does not know.
    let mut older = SmppEsme::bind(smpp(&relay), "another", KEY, 0x34);
    assert_eq!(older.0.said(|v| v["version"].as_u64()), [0x34]);
    let refused = older.say("data_sm", &json!({"destination_addr": LIN, "dest_addr_ton": 1, "data_coding": 0}));
    assert_eq!((&refused["command"], &refused["status"]), (&json!("data_sm_resp"), &json!(1)), "no words");
    let taken = older.say("submit_sm", &json!({"destination_addr": LIN, "dest_addr_ton": 1, "short_message": "x"}));
    assert_eq!((&taken["status"], &taken["congestion_state"]), (&json!(0), &Value::Null), "{taken}");
    // What is not done here says so.
    let nack = older.say("query_sm", &json!({"message_id": taken["id"]}));
    assert_eq!((&nack["command"], &nack["status"]), (&json!("generic_nack"), &json!(3)), "{nack}");
}

#[test]
fn tls_and_api_keys_do_and_wrong_passwords_and_too_many_binds_do_not() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "smpp_binds = 1", "");
    let port = smpp(&relay);
    for (name, password) in [("esme", "wrong"), ("nobody", "sesame"), ("esme", KEY), ("another-applica", KEY)] {
        assert_eq!(SmppClient::refused(port, name, password, "transmitter"), 0x0E, "{name}");
    }
    let by_key = SmppClient::bind(port, "another", KEY, "receiver");
    let tls = crate::support::relay::port(&relay.listeners.smpp[1]).parse().unwrap();
    let mut over_tls = SmppClient::bind_tls(tls, "esme", "sesame", &relay.dir().join("relay.crt"));
    assert_eq!(over_tls.submit(text(LIN, "over TLS")).0, 0);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "over TLS");
    assert_eq!(SmppClient::refused(port, "esme", "sesame", "transceiver"), 0x05, "it may have one bind");
    drop(by_key);
    over_tls.order(&json!({"unbind": true}));
    eventually("the bind is given back", SOON, || {
        relay.metric(r#"postrider_smpp_binds{client="esme"}"#).filter(|n| *n == 0)
    });
    esme(&relay);
}

#[test]
fn windows_and_rates_throttle_and_lose_nothing() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "smpp_rate = \"5/m\"\nsmpp_window = 2", "");
    let mut client = esme(&relay);
    // Within the rate: a minute's worth cannot come in a second.
    let (status, _) = client.submit(text(LIN, "first"));
    let (throttled, _) = client.submit(text(LIN, "second"));
    assert_eq!((status, throttled), (0, 0x58));
    assert_eq!(relay.metric(r#"postrider_smpp_submissions_total{client="esme",result="throttled"}"#), Some(1));
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1);
    let mut quick = SmppClient::bind(smpp(&relay), "another", KEY, "transmitter");
    const MANY: usize = 60;
    let answers = quick.submit_all((0..MANY).map(|n| text(&format!("86138{n:08}"), "many")));
    let of = |status: u64| answers.iter().filter(|(s, _)| *s == status).count();
    assert_eq!(of(0) + of(0x58), MANY, "{answers:?}");
    assert!(of(0) > 0);
    carrier.wait_for_texts(1 + of(0), PATIENCE);
}

#[test]
fn what_a_rule_refuses_has_its_status_and_is_counted() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "", "[sms]\nblocked_words = [\"casino\"]\ndenied_numbers = [\"+8617\"]\n");
    let mut client = esme(&relay);
    for (submission, status, rule) in [
        (text("4479460000", "hello"), 0x0B, Some("country-not-allowed")),
        (text("8617012345678", "hello"), 0x0B, Some("number-denied")),
        (text(LIN, "the Casino opens"), 0x45, Some("blocked-word")),
        (
            json!({"destination_addr": LIN, "short_message": "x", "source_addr": "10690002"}),
            0x0A,
            Some("number-not-allowed"),
        ),
        (json!({"destination_addr": "x", "short_message": "x"}), 0x0B, None),
        (json!({"destination_addr": LIN, "short_message": "x", "service_type": "USSD"}), 0x15, None),
        (json!({"destination_addr": LIN, "hex": "0605040b8423f001", "esm_class": 64, "data_coding": 4}), 0x45, None),
        (json!({"destination_addr": LIN, "hex": "0605040b8423f001", "esm_class": 64}), 0x43, None),
    ] {
        assert_eq!(client.submit(submission.clone()).0, status, "{submission}");
        if let Some(rule) = rule {
            let metric = format!(r#"postrider_text_refusals_total{{client="esme",rule="{rule}"}}"#);
            assert_eq!(relay.metric(&metric), Some(1), "{rule}");
        }
    }
    assert_eq!(relay.metric(r#"postrider_refused_submissions_total{ingress="smpp",reason="not-allowed"}"#), Some(4));
    assert!(relay.log().contains("blocked-word"));
    assert_eq!(client.submit(json!({"destination_addr": LIN, "short_message": "x", "service_type": "otp"})).0, 0);
    assert_eq!(relay.event("accepted", |e| e["client"] == "esme")["class"], "otp");
}

#[test]
fn a_text_in_parts_goes_out_as_one_and_each_part_has_its_receipt() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_to(carrier.0.port, "", "");
    let mut client = esme(&relay);
    let words = format!("{}😀{}", "您的订单已发货".repeat(9), "请查收".repeat(9));
    let octets: Vec<u8> = words.encode_utf16().flat_map(u16::to_be_bytes).collect();
    // Cut where it hurts: within the surrogate pair.
    let (head, tail) = octets.split_at(2 * 9 * 7 + 2);
    let part = |n: u8, octets: &[u8]| {
        let all = [&[6, 8, 4, 1, 2, 2, n], octets].concat();
        let hex: String = all.iter().map(|octet| format!("{octet:02x}")).collect();
        json!({"destination_addr": LIN, "hex": hex, "esm_class": 64, "data_coding": 8, "registered_delivery": 1})
    };
    let (second, first) = (client.submit(part(2, tail)), client.submit(part(1, head)));
    assert_eq!((second.0, first.0), (0, 0));
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], words);
    let mut ids: Vec<_> = client
        .wait_for_deliveries(2, SOON)
        .iter()
        .map(|receipt| receipt["receipted_message_id"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = vec![first.1, second.1];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn receipts_and_replies_are_kept_over_unbinds_and_kills() {
    let carrier = OwnCarrier::start_on(0, &["--reply", "8613800138000=thanks 中", "--receipt-delay", "300ms"]);
    let mut relay = relay_to(carrier.0.port, "", "");
    let mut client = esme(&relay);
    let (status, first) = client.submit(text(LIN, "ask"));
    assert_eq!(status, 0);
    // Not there any more when the receipt comes.
    client.order(&json!({"unbind": true}));
    relay.explained(&first, SOON, |m| m["status"] == "delivered");
    relay.event("replied", |_| true);
    relay.kill_9();
    relay.launch();
    let mut client = esme(&relay);
    let brought = client.wait_for_deliveries(2, SOON);
    let receipt = brought.iter().find(|d| d["esm_class"] == 4).unwrap();
    assert_eq!(receipt["receipted_message_id"], first);
    let reply = brought.iter().find(|d| d["esm_class"] == 0).unwrap();
    assert_eq!((&reply["data_coding"], &reply["source_addr"]), (&json!(8), &json!(LIN)));
    // Refused, they come again; taken, they do not, not even after a kill.
    client.steer(&json!({"refuse": 0x64}));
    let (_, second) = client.submit(text("8613800138001", "again"));
    client.wait_for_deliveries(4, SOON);
    client.steer(&json!({"refuse": 0}));
    let all = client.wait_for_deliveries(5, SOON);
    assert!(all[2..].iter().all(|d| d["receipted_message_id"] == second), "{all:?}");
    eventually("the receipts are crossed out", SOON, || {
        relay.metric("postrider_smpp_receipts_wanted").filter(|n| *n == 0)
    });
    let (_, third) = client.submit(text("8613800138002", "killed"));
    relay.kill_9();
    relay.launch();
    let client = esme(&relay);
    let brought = client.wait_for_deliveries(1, PATIENCE);
    assert!(brought.iter().all(|d| d["receipted_message_id"] == third), "{brought:?}");
}

#[test]
fn at_a_stop_clients_are_asked_to_unbind() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let mut relay = relay_to(carrier.0.port, "", "");
    let client = esme(&relay);
    assert!(relay.stop(Duration::from_secs(10)).success());
    client.0.wait("unbound", SOON, |said| said.iter().any(|v| v["unbound"] == true).then_some(()));
}

/// A program of Kannel's; ended when dropped.
struct Box_(Child);

impl Drop for Box_ {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kannel_submits_and_hears_what_became_of_it() {
    let carrier = OwnCarrier::start_on(0, &["--reply", "8613800138000=and you"]);
    let relay = relay_to(carrier.0.port, "", "");
    let ports: Vec<u16> = (0..3).map(|_| crate::support::SilentPort::take().port).collect();
    let [admin, boxes, sendsms] = ports[..] else { unreachable!() };
    let heard = crate::support::http::Book::start();
    let dir = relay.dir().join("kannel");
    std::fs::create_dir(&dir).unwrap();
    let configuration = format!(
        r#"
group = core
admin-port = {admin}
admin-password = x
smsbox-port = {boxes}
dlr-storage = internal
box-allow-ip = 127.0.0.1
log-level = 0
log-file = "{dir}/bearerbox.log"

group = smsc
smsc = smpp
smsc-id = postrider
host = 127.0.0.1
port = {smpp}
transceiver-mode = true
smsc-username = esme
smsc-password = sesame
system-type = ""
source-addr-ton = 0
source-addr-npi = 1
dest-addr-ton = 1
dest-addr-npi = 1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
log-level = 0
log-file = "{dir}/smsbox.log"

group = sendsms-user
username = u
password = p
concatenation = true
max-messages = 4

group = sms-service
keyword = default
get-url = "http://127.0.0.1:{book}/mo?from=%p&to=%P&text=%a"
max-messages = 0
"#,
        dir = dir.display(),
        smpp = smpp(&relay),
        book = heard.port,
    );
    let file = dir.join("kannel.conf");
    std::fs::write(&file, configuration).unwrap();
    let start = |name: &str| {
        let program = test_peers().join("kannel/usr/sbin").join(name);
        let mut command = Command::new(&program);
        command.arg("-v").arg("4").arg(&file).current_dir(&dir).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Box_(child.unwrap_or_else(|e| panic!("{}: {e} (tests/run installs it)", program.display())))
    };
    let _bearerbox = start("bearerbox");
    eventually("Kannel has bound", SOON, || relay.metric(r#"postrider_smpp_binds{client="esme"}"#).filter(|n| *n == 1));
    let _smsbox = start("smsbox");
    let url = |words: &str, mark: &str| {
        let dlr = format!("http%3A%2F%2F127.0.0.1%3A{}%2Fdlr%3Fmark%3D{mark}%26type%3D%25d", heard.port);
        format!(
            "/cgi-bin/sendsms?username=u&password=p&from=10690001&to=%2B{LIN}&text={words}&dlr-mask=3&dlr-url={dlr}"
        )
    };
    let send = |words: &str, mark: &str| {
        let answer = eventually("smsbox answers", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", sendsms)).ok()?;
            Some(crate::support::http::request(&format!("127.0.0.1:{sendsms}"), "GET", &url(words, mark), &[], b""))
        });
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    send("hello", "one");
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "hello");
    // 1: it has been delivered.
    heard.wait_for("/dlr?mark=one&type=1", SOON);
    heard.wait_for(&format!("/mo?from=%2B{LIN}&to=10690001&text=and+you"), SOON);
    let long = "long%20text%20of%20many%20parts%20".repeat(12);
    send(&long, "two");
    let texts = carrier.wait_for_texts(2, SOON);
    assert_eq!(texts[1]["text"].as_str().map(str::len), Some(24 * 12), "one text");
    heard.wait_for("/dlr?mark=two&type=1", SOON);
}
