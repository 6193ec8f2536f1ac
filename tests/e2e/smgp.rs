//! Texts by SMGP 3.0 and 1.3, to the binary's own carrier and to a gateway made of bare octets.
//!
//! No registry has an SMGP program of others that could judge. What stands in for one are the octets that the reference gives
//! (the authenticator, sizes, the report's positions): those in the codec's own tests, and here those of the gateway at the end,
//! which knows nothing of our codec.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings};
use crate::support::{PATIENCE, SOON, SilentPort, long_text};

fn relay_with(port: u16, keys: &str) -> Relay {
    let extra = format!(
        r#"
[[carrier]]
name = "smgp-1"
protocol = "smgp"
address = "127.0.0.1:{port}"
system_id = "900001"
from = "10690001"
service_id = "SVC"
rate = "1000/s"
{keys}

[[sms_route]]
prefixes = ["+"]
carriers = ["smgp-1"]
"#
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

const SECRET: &str = "password = \"888888\"\n";

fn relay_to(port: u16) -> Relay {
    relay_with(port, SECRET)
}

#[test]
fn a_long_text_travels_as_two_parts_and_its_reports_deliver_it() {
    for keys in ["", "smgp_version = \"1.3\"\n", "login_mode = \"split\"\nbinds = 2\n", "system_id_padded = true\n"] {
        let carrier = OwnCarrier::start_on(0, &[]);
        let relay = relay_with(carrier.0.port, &format!("{SECRET}{keys}"));
        let id = relay.post_text("+8618900138000", &long_text());
        let arrived = carrier.wait_for_texts(1, SOON).remove(0);
        let expected =
            json!({"arrived": "sms", "from": "10690001", "to": "8618900138000", "text": long_text(), "parts": 2});
        assert_eq!(arrived, expected, "{keys}");
        relay.reaches(&id, "delivered");
        carrier.wait_for_count("receipts_acknowledged", SOON, |n| n == 2);
        let explained = relay.explained(&id, SOON, |m| m["status"] == "delivered");
        let parts = explained["recipients"][0]["parts"].as_array().unwrap().clone();
        let digits = |p: &Value| {
            let id = p["carrier_message_id"].as_str().unwrap_or_default();
            id.len() == 20 && id.bytes().all(|b| b.is_ascii_digit())
        };
        assert!(parts.len() == 2 && parts.iter().all(digits), "MsgIDs as their digits: {explained}");
    }
}

#[test]
fn a_report_can_say_that_it_did_not_arrive() {
    let carrier = OwnCarrier::start_on(0, &["--undeliverable-share", "1"]);
    let relay = relay_to(carrier.0.port);
    relay.reaches(&relay.post_text("+8618900138000", "hello"), "undelivered");
}

#[test]
fn a_busy_gateway_slows_and_loses_nothing() {
    const TEXTS: usize = 20;
    const THROTTLED: u64 = 3;
    let carrier = OwnCarrier::start_on(0, &["--throttle-first", &THROTTLED.to_string()]);
    let relay = relay_to(carrier.0.port);
    let ids: Vec<_> = (0..TEXTS).map(|n| relay.post_text(&format!("+86189{n:08}"), &format!("text {n}"))).collect();
    let texts = carrier.wait_for_texts(TEXTS, PATIENCE);
    let mut words: Vec<_> = texts.iter().map(|t| t["text"].as_str().unwrap()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!((words.len(), texts.len()), (TEXTS, TEXTS), "each once");
    for id in &ids {
        relay.reaches(id, "delivered");
    }
    carrier.wait_for_count("throttled", SOON, |n| n == THROTTLED);
    let counted =
        |result| relay.metric(&format!(r#"postrider_carrier_parts_total{{carrier="smgp-1",result="{result}"}}"#));
    assert_eq!([counted("sent"), counted("throttled")], [Some(TEXTS as u64), Some(THROTTLED)]);
}

#[test]
fn a_wrong_secret_is_kept_out_and_the_text_waits() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay_with(carrier.0.port, "password = \"wrong-secret\"\n");
    let id = relay.post_text("+8618900138000", "hello");
    carrier.wait_for_count("binds_refused", SOON, |n| n > 0);
    carrier.wait_for_count("binds", SOON, |n| n == 0);
    assert_eq!(relay.metric(r#"postrider_carrier_up{carrier="smgp-1"}"#), Some(0));
    assert_eq!(relay.message(&id)["status"], "queued");
    let log = relay.log();
    assert!(log.contains("status 21 (authentication failed)"), "{log}");
    assert!(!log.contains("wrong-secret"), "a secret in the log");
}

#[test]
fn a_link_that_was_cut_is_made_again_and_reports_find_a_relay_that_was_killed() {
    let silent = SilentPort::take();
    let mut relay = relay_to(silent.port);
    let late = relay.post_text("+8618900138000", "late");
    let carrier = OwnCarrier::start_on(silent.port, &[]);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "late");
    relay.reaches(&late, "delivered");
    drop(carrier);
    let again = relay.post_text("+8618900138000", "again");
    let carrier = OwnCarrier::start_on(silent.port, &["--receipt-delay", "3s"]);
    assert_eq!(carrier.wait_for_texts(1, PATIENCE)[0]["text"], "again");
    relay.reaches(&again, "sent");
    relay.kill_9();
    relay.launch();
    relay.reaches(&again, "delivered");
    assert_eq!(carrier.wait_for_texts(1, SOON).len(), 1, "not sent again");
}

/// A gateway's connection, read and written octet by octet.
struct Gateway(TcpStream);

impl Gateway {
    /// The next PDU, which has this command and length.
    fn hear(&mut self, command: u32, length: usize) -> Vec<u8> {
        let mut pdu = vec![0; 12];
        self.0.read_exact(&mut pdu).unwrap();
        assert_eq!(pdu[4..8], command.to_be_bytes(), "{pdu:02x?}");
        assert_eq!(pdu[..4], u32::try_from(length).unwrap().to_be_bytes(), "{pdu:02x?}");
        pdu.resize(length, 0);
        self.0.read_exact(&mut pdu[12..]).unwrap();
        pdu
    }

    fn say(&mut self, parts: &[&[u8]]) {
        self.0.write_all(&parts.concat()).unwrap();
    }
}

fn field(text: &str, width: usize) -> Vec<u8> {
    [text.as_bytes(), &vec![0; width - text.len()]].concat()
}

#[test]
fn a_gateway_of_bare_octets_gets_what_the_reference_says_and_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = relay_to(listener.local_addr().unwrap().port());
    let text = long_text();
    let id = relay.post_text("+8618900138000", &text);
    let mut gateway = Gateway(listener.accept().unwrap().0);
    gateway.0.set_read_timeout(Some(SOON)).unwrap();

    // ClientID 8, authenticator 16, LoginMode, time, version.
    let login = gateway.hear(0x01, 42);
    assert_eq!((&login[12..20], login[36], login[41]), (&field("900001", 8)[..], 2, 0x30));
    let time = u32::from_be_bytes(login[37..41].try_into().unwrap());
    let hashed = [b"900001", &[0; 7][..], b"888888", format!("{time:010}").as_bytes()].concat();
    assert_eq!(login[20..36], Md5::digest(hashed)[..]);
    // An authenticator of our own that nobody could make: not enforced.
    gateway.say(&[b"\0\0\0\x21\x80\0\0\x01", &login[8..12], &[0; 4], &[0x77; 16], b"\x30"]);

    // 67 characters and 4, each behind a header of 6 octets.
    let ids = [*b"\x01\x00\x61\x11\x27\x01\x00\x00\x00\x01", *b"\x00\xFF\x1A\x20id:\x0A\x0D\x02"];
    let mut words = Vec::new();
    for (n, octets) in [(0, 140), (1, 14)] {
        let part = gateway.hear(0x02, 12 + 114 + 21 + octets + 15);
        assert_eq!(part[12..15], [6, 1, 0], "MsgType, NeedReport, Priority");
        let fees = [field("SVC", 10), field("00", 2), field("0", 6), field("0", 6), vec![8]].concat();
        assert_eq!(part[15..40], fees);
        assert!(part[40..57].ends_with(b"032+\0"), "ValidTime, in China's zone");
        let ends = [field("", 17), field("10690001", 21), field("", 21), vec![1], field("8618900138000", 21)].concat();
        assert_eq!(part[57..138], ends);
        assert_eq!(usize::from(part[138]), octets);
        let content = &part[139..139 + octets];
        assert_eq!((&content[..3], &content[4..6]), (&[5, 0, 3][..], &[2, n + 1][..]));
        words.extend(content[6..].chunks(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])));
        let tail = [&[0; 8][..], b"\0\x02\0\x01\x01\0\x09\0\x01\x02\0\x0A\0\x01", &[n + 1]].concat();
        assert_eq!(part[139 + octets..], tail);
        gateway.say(&[b"\0\0\0\x1A\x80\0\0\x02", &part[8..12], &ids[usize::from(n)], &[0; 4]]);
    }
    assert_eq!(String::from_utf16(&words).unwrap(), text);
    let sent = relay.reaches(&id, "sent");
    let shown: Vec<_> =
        sent["recipients"][0]["parts"].as_array().unwrap().iter().map(|p| p["carrier_message_id"].clone()).collect();
    assert_eq!(shown, ["01006111270100000001", "00ff1a2069643a0a0d02"], "{sent}");

    // Reports, with keys as M3 itself writes some of them.
    for (n, id) in ids.iter().enumerate() {
        let report = [
            &b"id:"[..],
            id,
            b" sub:001 dlvrd:001 Submit date:2611270900 done date:2611270901 stat:DELIVRD err:000 Text:",
            &[b' '; 20],
        ]
        .concat();
        assert_eq!(report.len(), 122);
        let own = [0x99; 10];
        let head = [b"\0\0\0\xD3\0\0\0\x03\0\0\0", &[n as u8 + 1][..], &own, b"\x01\x00", b"20261127090100"].concat();
        let (from, to) = (field("8618900138000", 21), field("10690001", 21));
        gateway.say(&[&head, &from, &to, b"\x7A", &report, &[0; 8]]);
        let answer = gateway.hear(0x8000_0003, 26);
        assert_eq!(answer[8..], [&[0, 0, 0, n as u8 + 1][..], &own, &[0; 4]].concat());
    }
    relay.reaches(&id, "delivered");
    gateway.say(&[b"\0\0\0\x0C\0\0\0\x04\0\0\0\x63"]);
    assert_eq!(gateway.hear(0x8000_0004, 12)[8..], *b"\0\0\0\x63");
}
