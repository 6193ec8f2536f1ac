//! Texts by SGIP 1.2, to the binary's own carrier, which comes back with receipts and replies, and to a gateway made of bare
//! octets.
//!
//! No registry has an SGIP program of others that could judge. What stands in for one are the octets that the reference gives
//! (sizes and positions): those in the codec's own tests, and here those of the gateway at the end, which knows nothing of our
//! codec.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings};
use crate::support::{PATIENCE, SOON, SilentPort, eventually, long_text};

/// A carrier of that name at `port`, whose gateway comes to us as `login`.
fn carrier(name: &str, port: u16, listen: u16, login: &str, prefix: &str) -> String {
    format!(
        r#"
[[carrier]]
name = "{name}"
protocol = "sgip"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
from = "10690001"
area_code = "010"
corp_id = "12345"
service_id = "SVC"
rate = "1000/s"
listen = "127.0.0.1:{listen}"
callback_login = "{login}"
callback_password = "sesame"
callback_from = ["127.0.0.0/8"]

[[sms_route]]
prefixes = ["{prefix}"]
carriers = ["{name}"]
"#
    )
}

fn settings(port: u16, listen: u16) -> Settings {
    Settings { extra: carrier("sgip-1", port, listen, "smg", "+"), ..Settings::default() }
}

/// The binary's own gateway, which comes to `listen` as `login`.
fn gateway_on(port: u16, listen: u16, login: &str, more: &[&str]) -> OwnCarrier {
    let address = format!("127.0.0.1:{listen}");
    OwnCarrier::start_on(port, &[&["--sgip-callback", &address, "--sgip-login", login], more].concat())
}

/// Writes another configuration and has it read.
fn reload(relay: &Relay, from: &str, to: &str) {
    let before = relay.log().matches("configuration reloaded").count();
    let old = std::fs::read_to_string(relay.config()).unwrap();
    assert!(old.contains(from), "{from}");
    std::fs::write(relay.config(), old.replace(from, to)).unwrap();
    relay.signal(Signal::HUP);
    eventually("the configuration is reloaded", SOON, || {
        (relay.log().matches("configuration reloaded").count() > before).then_some(())
    });
}

#[test]
fn a_long_text_travels_as_two_parts_and_its_reports_come_back_to_us() {
    let listen = SilentPort::take();
    let carrier = gateway_on(0, listen.port, "smg", &["--reply", "+8618600138000=退订"]);
    let relay = Relay::start(&settings(carrier.0.port, listen.port));
    assert_eq!(relay.listeners.sgip, [format!("127.0.0.1:{}", listen.port)]);
    let id = relay.post_text("+8618600138000", &long_text());
    let arrived = carrier.wait_for_texts(1, SOON).remove(0);
    let expected =
        json!({"arrived": "sms", "from": "10690001", "to": "8618600138000", "text": long_text(), "parts": 2});
    assert_eq!(arrived, expected);
    relay.reaches(&id, "delivered");
    carrier.wait_for_count("receipts_acknowledged", SOON, |n| n == 2);
    carrier.wait_for_count("calls", SOON, |n| n == 1);
    let explained = relay.explained(&id, SOON, |m| m["status"] == "delivered");
    let parts = explained["recipients"][0]["parts"].as_array().unwrap().clone();
    let named = |p: &Value| {
        let id = p["carrier_message_id"].as_str().unwrap_or_default();
        id.len() == 30 && id.starts_with("3010012345")
    };
    assert!(parts.len() == 2 && parts.iter().all(named), "sequence numbers of our node: {explained}");

    let replied = relay.event("replied", |e| e["id"] == json!(id));
    assert_eq!(replied["handset"], json!({"from": "+8618600138000", "to": "10690001", "text": "退订", "parts": 1}));
    relay.event("opted_out", |e| e["opt_out"]["number"] == "+8618600138000");
    carrier.wait_for_count("replies_acknowledged", SOON, |n| n == 1);
    assert_eq!(relay.metric(r#"postrider_carrier_callbacks{carrier="sgip-1"}"#), Some(1));
}

#[test]
fn a_report_can_say_that_it_did_not_arrive() {
    let listen = SilentPort::take();
    let carrier = gateway_on(0, listen.port, "smg", &["--undeliverable-share", "1"]);
    let relay = Relay::start(&settings(carrier.0.port, listen.port));
    let id = relay.post_text("+8618600138000", "hello");
    relay.reaches(&id, "undelivered");
    let explained = relay.explained(&id, SOON, |m| m["status"] == "undelivered");
    assert!(explained.to_string().contains("state:2 err:021 (unreachable)"), "{explained}");
}

#[test]
fn carriers_that_share_a_listener_are_told_apart_by_their_gateways_names() {
    let listen = SilentPort::take();
    let gateways = ["north", "south"].map(|login| gateway_on(0, listen.port, login, &[]));
    let extra = ["north", "south"].iter().zip(&gateways).zip(["+86186", "+86185"]);
    let extra: String =
        extra.map(|((name, gateway), prefix)| carrier(name, gateway.0.port, listen.port, name, prefix)).collect();
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    assert_eq!(relay.listeners.sgip.len(), 1);
    for (gateway, to) in gateways.iter().zip(["+8618600138000", "+8618500138000"]) {
        let id = relay.post_text(to, "hello");
        relay.reaches(&id, "delivered");
        assert_eq!(gateway.wait_for_texts(1, SOON).len(), 1);
    }
    for name in ["north", "south"] {
        assert_eq!(relay.metric(&format!(r#"postrider_carrier_callbacks{{carrier="{name}"}}"#)), Some(1));
    }
}

#[test]
fn a_wrong_password_is_kept_out_and_the_text_waits() {
    let listen = SilentPort::take();
    let carrier = gateway_on(0, listen.port, "smg", &[]);
    let mut settings = settings(carrier.0.port, listen.port);
    settings.extra = settings.extra.replace("888888", "wrong-secret");
    let relay = Relay::start(&settings);
    let id = relay.post_text("+8618600138000", "hello");
    carrier.wait_for_count("binds_refused", SOON, |n| n > 0);
    carrier.wait_for_count("binds", SOON, |n| n == 0);
    assert_eq!(relay.metric(r#"postrider_carrier_up{carrier="sgip-1"}"#), Some(0));
    assert_eq!(relay.message(&id)["status"], "queued");
    let log = relay.log();
    assert!(log.contains("result 1 (login failed)"), "{log}");
    assert!(!log.contains("wrong-secret"), "a secret in the log");
}

/// Sends a text whose receipt cannot come in, and says for which `reason`; a reload that undoes `wrong` lets it in.
fn kept_out_until_a_reload(right: &str, wrong: &str, reason: &str) {
    let listen = SilentPort::take();
    let carrier = gateway_on(0, listen.port, "smg", &[]);
    let mut settings = settings(carrier.0.port, listen.port);
    settings.extra = settings.extra.replace(right, wrong);
    let relay = Relay::start(&settings);
    let id = relay.post_text("+8618600138000", "hello");
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1);
    carrier.wait_for_count("calls_refused", SOON, |n| n > 1);
    relay.reaches(&id, "sent");
    let refused = format!(r#"postrider_carrier_callbacks_refused_total{{reason="{reason}"}}"#);
    assert!(relay.metric(&refused).is_some_and(|n| n > 0), "{refused}");
    assert!(!relay.log().contains("sesame"), "a secret in the log");
    carrier.wait_for_count("calls", SOON, |n| n == 0);
    reload(&relay, wrong, right);
    relay.reaches(&id, "delivered");
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1, "not sent again");
}

#[test]
fn a_gateway_with_another_password_brings_nothing() {
    kept_out_until_a_reload("callback_password = \"sesame\"", "callback_password = \"sesam\"", "login");
}

#[test]
fn a_gateway_from_another_address_brings_nothing() {
    kept_out_until_a_reload("[\"127.0.0.0/8\"]\n\n[[sms_route]]", "[\"10.0.0.0/8\"]\n\n[[sms_route]]", "address");
}

#[test]
fn a_busy_gateway_slows_and_loses_nothing() {
    const TEXTS: usize = 20;
    const THROTTLED: u64 = 3;
    let listen = SilentPort::take();
    let carrier = gateway_on(0, listen.port, "smg", &["--throttle-first", &THROTTLED.to_string()]);
    let relay = Relay::start(&settings(carrier.0.port, listen.port));
    let ids: Vec<_> = (0..TEXTS).map(|n| relay.post_text(&format!("+86186{n:08}"), &format!("text {n}"))).collect();
    assert_eq!(carrier.wait_for_texts(TEXTS, PATIENCE).len(), TEXTS);
    for id in &ids {
        relay.reaches(id, "delivered");
    }
    carrier.wait_for_count("throttled", SOON, |n| n == THROTTLED);
    carrier.wait_for_count("texts", SOON, |n| n == TEXTS as u64);
}

#[test]
fn a_link_that_was_cut_is_made_again_and_reports_find_a_relay_that_was_killed() {
    let (silent, listen) = (SilentPort::take(), SilentPort::take());
    let mut relay = Relay::start(&settings(silent.port, listen.port));
    let late = relay.post_text("+8618600138000", "late");
    let carrier = gateway_on(silent.port, listen.port, "smg", &[]);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "late");
    relay.reaches(&late, "delivered");
    drop(carrier);
    let again = relay.post_text("+8618600138000", "again");
    let carrier = gateway_on(silent.port, listen.port, "smg", &["--receipt-delay", "3s"]);
    assert_eq!(carrier.wait_for_texts(1, PATIENCE)[0]["text"], "again");
    relay.reaches(&again, "sent");
    relay.kill_9();
    relay.launch();
    relay.reaches(&again, "delivered");
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1, "not sent again");
}

#[test]
fn a_port_in_use_is_told_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut relay = Relay::prepare(&settings(1, port));
    let ended = relay.launch_as(Command::new(env!("CARGO_BIN_EXE_postrider")), &[]).unwrap_err();
    assert_eq!(ended.code(), Some(1));
    assert!(
        relay.log().contains(&format!("cannot listen on 127.0.0.1:{port}: Address already in use")),
        "{}",
        relay.log()
    );
}

/// A gateway's connection, read and written octet by octet.
struct Gateway(TcpStream);

impl Gateway {
    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(stream)
    }

    /// The next PDU, which has this command and length.
    fn hear(&mut self, command: u32, length: usize) -> Vec<u8> {
        let mut pdu = vec![0; 20];
        self.0.read_exact(&mut pdu).unwrap();
        assert_eq!(pdu[4..8], command.to_be_bytes(), "{pdu:02x?}");
        assert_eq!(pdu[..4], u32::try_from(length).unwrap().to_be_bytes(), "{pdu:02x?}");
        pdu.resize(length, 0);
        self.0.read_exact(&mut pdu[20..]).unwrap();
        pdu
    }

    fn say(&mut self, parts: &[&[u8]]) {
        self.0.write_all(&parts.concat()).unwrap();
    }

    /// Answers that the relay parts, and sees the end.
    fn part(mut self) {
        let goodbye = self.hear(0x02, 20);
        self.say(&[b"\0\0\0\x14\x80\0\0\x02", &goodbye[8..20]]);
        assert_eq!(self.0.read(&mut [0; 1]).unwrap(), 0);
    }
}

fn field(text: &str, width: usize) -> Vec<u8> {
    [text.as_bytes(), &vec![0; width - text.len()]].concat()
}

/// Takes the two parts of a long text and answers them; their sequence numbers.
fn take_parts(gateway: &mut Gateway, text: &str) -> Vec<Vec<u8>> {
    let (mut sequences, mut words) = (Vec::new(), Vec::new());
    // 67 characters and 4, each behind a header of 6 octets.
    for (n, octets) in [(0, 140), (1, 14)] {
        let part = gateway.hear(0x03, 20 + 123 + 21 + octets);
        assert_eq!(part[8..12], *b"\xB3\x69\x24\xB9", "3, 0100, 12345 as a number");
        let ends = [field("10690001", 21), vec![b'0'; 21], vec![1], field("8618600138000", 21)].concat();
        assert_eq!(part[20..84], ends, "SPNumber, ChargeNumber, UserCount, UserNumber");
        let fees = [field("12345", 5), field("SVC", 10), vec![1], field("0", 6), field("0", 6), vec![0, 2, 0]].concat();
        assert_eq!(part[84..115], fees);
        assert!(part[115..131].ends_with(b"032+"), "ExpireTime, in China's zone");
        assert_eq!(part[131..147], [0; 16], "ScheduleTime: now");
        assert_eq!(part[147..152], [1, 0, 1, 8, 0], "a report always, TP_pid, TP_udhi, UCS-2, a text");
        assert_eq!(part[152..156], u32::try_from(octets).unwrap().to_be_bytes());
        let content = &part[156..156 + octets];
        assert_eq!((&content[..3], &content[4..6]), (&[5, 0, 3][..], &[2, n + 1][..]));
        words.extend(content[6..].chunks(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])));
        assert_eq!(part[156 + octets..], [0; 8]);
        gateway.say(&[b"\0\0\0\x1D\x80\0\0\x03", &part[8..20], &[0; 9]]);
        sequences.push(part[8..20].to_vec());
    }
    assert_eq!(String::from_utf16(&words).unwrap(), text);
    sequences
}

#[test]
fn a_gateway_of_bare_octets_gets_what_the_reference_says_and_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut relay = Relay::start(&settings(listener.local_addr().unwrap().port(), 0));
    let text = long_text();
    let id = relay.post_text("+8618600138000", &text);
    let mut gateway = Gateway::on(listener.accept().unwrap().0);
    // Login_Type, Login_Name 16, Login_Password 16, in clear, Reserve.
    let login = gateway.hear(0x01, 61);
    assert_eq!(login[20..], [vec![1], field("900001", 16), field("888888", 16), vec![0; 8]].concat());
    gateway.say(&[b"\0\0\0\x1D\x80\0\0\x01", &login[8..20], &[0; 9]]);
    let sequences = take_parts(&mut gateway, &text);
    let sent = relay.reaches(&id, "sent");
    let shown: Vec<_> =
        sent["recipients"][0]["parts"].as_array().unwrap().iter().map(|p| p["carrier_message_id"].clone()).collect();
    let decimal = |sequence: &Vec<u8>| {
        let words = sequence.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        json!(words.map(|word| format!("{word:010}")).collect::<String>())
    };
    assert_eq!(shown, sequences.iter().map(decimal).collect::<Vec<_>>(), "{sent}");

    // It comes to us, and says that the first part waits, then that both are there.
    let mut caller = Gateway::on(TcpStream::connect(&relay.listeners.sgip[0]).unwrap());
    let own = b"\0\0\x27\x11\x43\x2B\x6F\0";
    caller.say(&[b"\0\0\0\x3D\0\0\0\x01", own, &[0, 0, 0, 1, 2], &field("smg", 16), &field("sesame", 16), &[0; 8]]);
    assert_eq!(caller.hear(0x8000_0001, 29)[8..], [&own[..], &[0, 0, 0, 1], &[0; 9]].concat());
    // A reload of something else leaves its connection alone.
    reload(&relay, "[delivery]", "[delivery]\nconnect_timeout = \"20s\"");
    for (n, (part, state)) in [(0, 1), (0, 0), (1, 0)].into_iter().enumerate() {
        let counter = [0, 0, 0, 2 + n as u8];
        let number = field("8618600138000", 21);
        caller.say(&[b"\0\0\0\x40\0\0\0\x05", own, &counter, &sequences[part], &[0], &number, &[state, 0], &[0; 8]]);
        assert_eq!(caller.hear(0x8000_0005, 29)[8..], [&own[..], &counter, &[0; 9]].concat());
        assert_eq!(relay.message(&id)["status"] == "delivered", n == 2, "1 is no end, and both parts have to be there");
    }
    // What a handset says, 57 octets and the text.
    let (from, to) = (field("8618600138000", 21), field("10690001", 21));
    let coding = [0, 0, 0, 0, 0, 0, 2];
    caller.say(&[b"\0\0\0\x4F\0\0\0\x04", own, &[0, 0, 0, 9], &from, &to, &coding, b"OK", &[0; 8]]);
    assert_eq!(caller.hear(0x8000_0004, 29)[8..], [&own[..], &[0, 0, 0, 9], &[0; 9]].concat());
    relay.event("replied", |e| e["handset"]["text"] == "OK" && e["id"] == json!(id));

    let stopping = std::thread::spawn(move || relay.stop(SOON));
    gateway.part();
    caller.part();
    assert!(stopping.join().unwrap().success());
}
