//! How an SMPP account may want its links: inside TLS, some to receive and others to send, by 5.0, long texts in other ways.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::keys::Authority;
use crate::support::peer::{Carrier, OwnCarrier, Part};
use crate::support::relay::{Relay, Settings};
use crate::support::{SOON, eventually, long_text};

/// The name that certificates hold here; it is dialled by address.
const NAME: &str = "smpp.test.example";

/// Certificate and key in files.
fn issued(dir: &Path, authority: &Authority) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.issue(&[NAME]);
    let files = (dir.join("carrier.crt"), dir.join("carrier.key"));
    std::fs::write(&files.0, certificate).unwrap();
    std::fs::write(&files.1, key).unwrap();
    std::fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    files
}

/// A carrier, and the numbers that go to it.
fn carrier(name: &str, port: u16, prefix: &str, keys: &str) -> String {
    format!(
        r#"
[[carrier]]
name = "{name}"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
from = "10690001"
{keys}

[[sms_route]]
prefixes = ["{prefix}"]
carriers = ["{name}"]
"#
    )
}

fn relay(carriers: &[String]) -> Relay {
    Relay::start(&Settings { extra: carriers.concat(), ..Settings::default() })
}

#[test]
fn texts_travel_inside_tls_and_only_to_who_shows_the_right_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    let (certificate, key) = issued(dir.path(), &authority);
    let strange = Authority::new("another authority");
    std::fs::write(dir.path().join("strange.pem"), &strange.pem).unwrap();
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let own = OwnCarrier::start_on(0, &["--certificate", files[0], "--private-key", files[1], "--receipt-delay", "0s"]);
    let mut other = Carrier::start_tls(&certificate, &key);
    let file = |name: &str| format!("authorities = {:?}\n", dir.path().join(name));
    let named = format!("tls = true\ntls_name = \"{NAME}\"\n");
    let relay = relay(&[
        carrier("own", own.0.port, "+86130", &format!("{named}{}", file("ca.pem"))),
        carrier("other", other.0.port, "+86131", &format!("{named}{}", file("ca.pem"))),
        carrier("unproven", own.0.port, "+86132", "tls = true\ntls_verify = false\n"),
        carrier("misnamed", own.0.port, "+86133", &format!("tls = true\n{}", file("ca.pem"))),
        carrier("stranger", own.0.port, "+86134", &format!("{named}{}", file("strange.pem"))),
        carrier("clear", other.0.port, "+86135", ""),
    ]);
    let refused: Vec<String> = ["33", "34", "35"].map(|n| relay.post_text(&format!("+861{n}00138000"), "hello")).into();
    // Ours, and one that others wrote.
    for number in ["+8613000138000", "+8613200138000"] {
        relay.reaches(&relay.post_text(number, "hello"), "delivered");
    }
    let long = relay.post_text("+8613100138000", &long_text());
    other.wait_for_taken(2, SOON);
    other.0.steer(&json!({"receipts": "DELIVRD"}));
    relay.reaches(&long, "delivered");
    let sent = relay.event("sent", |e| e["id"] == long.as_str());
    assert!(sent["peer"]["tls"].as_str().is_some_and(|tls| tls.starts_with("TLSv1.")), "{sent}");

    // Who shows another certificate, and who wants to hear it in clear.
    for (name, why) in [
        ("misnamed", "its certificate is not in its name"),
        ("stranger", "its certificate comes from no trusted authority"),
        ("clear", "could not bind"),
    ] {
        eventually(name, SOON, || relay.log().lines().any(|l| l.contains(name) && l.contains(why)).then_some(()));
        assert_eq!(relay.metric(&format!("postrider_carrier_up{{carrier=\"{name}\"}}")), Some(0));
    }
    for id in &refused {
        assert_eq!(relay.message(id)["status"], "queued");
    }
    assert!(!relay.log().contains("888888"), "the password");
}

#[test]
fn transmitters_and_receivers_are_as_many_as_are_wanted() {
    let own = OwnCarrier::start_on(0, &["--receipt-delay", "0s"]);
    let keys = "login_mode = \"split\"\nbinds = 5\nreceive_binds = 2\n";
    let relay = relay(&[carrier("own", own.0.port, "+", keys)]);
    own.wait_for_count("binds", SOON, |binds| binds == 5);
    for n in 0..10 {
        relay.reaches(&relay.post_text(&format!("+861380013800{n}"), "hello"), "delivered");
    }
    own.wait_for_count("receipts_acknowledged", SOON, |receipts| receipts == 10);
}

#[test]
fn long_texts_travel_as_the_carrier_wants_them() {
    let text = long_text();
    let carriers = [Carrier::start(), Carrier::start()];
    let relay = relay(&[
        carrier("sar", carriers[0].0.port, "+86130", "long_texts = \"sar\"\n"),
        carrier("payload", carriers[1].0.port, "+86131", "long_texts = \"payload\"\n"),
    ]);
    let ids = [relay.post_text("+8613000138000", &text), relay.post_text("+8613100138000", &text)];
    let all: Vec<Vec<Part>> = carriers.iter().zip([2, 1]).map(|(c, parts)| c.wait_for_taken(parts, SOON)).collect();
    for parts in &all {
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
        assert!(parts.iter().all(|part| part.udh.is_empty() && part.esm_class == 0), "{parts:?}");
    }
    let places: Vec<_> = all[0].iter().map(|part| (part.sar[1].unwrap(), part.sar[2].unwrap())).collect();
    assert_eq!(places, [(2, 1), (2, 2)]);
    assert_eq!(all[1][0].sar, [None; 3]);
    for (mut carrier, id) in carriers.into_iter().zip(&ids) {
        carrier.0.steer(&json!({"receipts": "DELIVRD"}));
        relay.reaches(id, "delivered");
    }
}

#[test]
fn data_coding_0_is_what_the_carrier_takes_it_for() {
    let mut npm = Carrier::start();
    npm.0.steer(&json!({"data_coding_0": "LATIN1", "receipts": "DELIVRD"}));
    let relay = relay(&[carrier("latin", npm.0.port, "+", "default_alphabet = \"latin1\"\n")]);
    let long = "[café] à 5 @ ".repeat(15);
    let wanted = [("café @ [1]", 0), (long.trim_end(), 0), ("5 € @", 8)];
    for (text, _) in &wanted {
        relay.reaches(&relay.post_text("+8613800138000", text), "delivered");
    }
    let body = json!({"to": "+8613800138000", "text": "5 € @"});
    let previewed = relay.api("POST", "/v1/sms/preview", &[], &body.to_string()).json();
    let told = (&previewed["encoding"], &previewed["outside_gsm7"][0]["character"]);
    assert_eq!(told, (&json!("ucs2"), &json!("€")), "{previewed}");
    let parts = npm.wait_for_taken(4, SOON);
    let text = |parts: &[Part]| parts.iter().map(|part| part.text.as_str()).collect::<String>();
    let told = [text(&parts[..1]), text(&parts[1..3]), text(&parts[3..])];
    assert_eq!(told.each_ref().map(String::as_str), wanted.map(|(text, _)| text));
    assert_eq!(parts.iter().map(|part| part.data_coding).collect::<Vec<_>>(), [0, 0, 0, 8]);
    npm.0.steer(
        &json!({"deliver": {"source_addr": "8613800138000", "source_addr_ton": 1, "destination_addr": "10690001",
                                    "data_coding": 0, "message": "été @"}}),
    );
    assert_eq!(relay.event("replied", |_| true)["handset"]["text"], "été @");
}

#[test]
fn parameters_that_the_carrier_wants_go_with_each_part_and_name_the_registered_text() {
    let mut npm = Carrier::start();
    let story = "The parcel that you have sent us came today. ".repeat(4);
    let tlvs = format!(
        r#"
[[carrier.tlv]]
tag = 0x1400
value = "1101234567890123456"
[[carrier.tlv]]
tag = 0x1401
template_id = true
terminated = true
[[carrier.tlv]]
tag = 0x1402
octets = "00ff"
[[carrier.template]]
text = "Your code is {{code}}"
id = "1107"
[[carrier.template]]
text = "{story}{{name}}"
id = "1108"
"#
    );
    let relay = relay(&[carrier("dlt", npm.0.port, "+", &tlvs)]);
    let ids = ["Your code is 1234", &format!("{story}Bye")].map(|text| relay.post_text("+8613800138000", text));
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    for part in npm.wait_for_taken(3, SOON) {
        let template = if part.udh.is_empty() { b"1107\0" } else { b"1108\0" };
        let wanted = json!({"5120": hex(b"1101234567890123456"), "5121": hex(template), "5122": "00ff"});
        assert_eq!(part.tlvs, wanted, "{part:?}");
    }
    npm.0.steer(&json!({"receipts": "DELIVRD"}));
    ids.iter().for_each(|id| drop(relay.reaches(id, "delivered")));
    let other = relay.post_text("+8613800138000", "Win a car");
    let explained = relay.explained(&other, SOON, |m| m["status"] == "undelivered");
    assert!(explained.to_string().contains("the text fits no [[carrier.template]] of the account"), "{explained}");
}

#[test]
fn a_carrier_that_is_nearly_full_is_sent_less_by_who_understands_it() {
    const TEXTS: usize = 30;
    let own = OwnCarrier::start_on(0, &["--congestion", "100"]);
    let relay = relay(&[carrier("own", own.0.port, "+", "smpp_version = \"5.0\"\nrate = \"20/s\"\n")]);
    for n in 0..TEXTS {
        relay.post_text(&format!("+86138001380{n:02}"), "hello");
    }
    own.wait_for_texts(TEXTS, SOON * 3);
    let log = relay.log();
    let said = |words: &str| log.lines().any(|line| line.contains(words));
    assert!(said("the carrier says that it is nearly full"), "{log}");
    assert!(said("SMPP 5.0"), "the version that it says: {log}");
    assert_eq!(relay.metric(r#"postrider_carrier_congestion_percent{carrier="own"}"#), Some(100));
}
