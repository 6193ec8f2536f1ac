//! Which carrier a text goes to: by network, class, client and weight, and past carriers that are down or throttle; and when.

use rustix::process::Signal;
use serde_json::json;

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings, USER, smpp_carrier};
use crate::support::{SOON, SilentPort, eventually};

fn relay(extra: String) -> Relay {
    Relay::start(&Settings { extra, ..Settings::default() })
}

fn post(relay: &Relay, to: &str, class: &str) -> String {
    let message = json!({"to": to, "text": "hello", "class": class});
    relay.post_sms(&message)
}

/// Waits for a text's delivery; which carrier it went by.
fn carried_by(relay: &Relay, id: &str) -> String {
    let explained = relay.explained(id, SOON, |m| m["status"] == "delivered");
    let attempts = explained["recipients"][0]["attempts"].as_array().unwrap().clone();
    attempts.last().unwrap()["host"].as_str().unwrap().to_owned()
}

#[test]
fn the_network_of_the_number_the_class_and_the_client_choose_the_carrier() {
    let carriers = ["mobile", "unicom", "codes", "rest"].map(|name| (name, OwnCarrier::start_on(0, &[])));
    let sections: String = carriers.iter().map(|(name, c)| smpp_carrier(name, c.0.port, "")).collect();
    let relay = relay(format!(
        r#"{sections}
[[network]]
name = "china-unicom"
prefixes = ["+8613800138001"]

[[sms_route]]
networks = ["china-mobile"]
carriers = ["mobile"]

[[sms_route]]
networks = ["46001"]
carriers = ["unicom"]

[[sms_route]]
prefixes = ["+86"]
classes = ["otp"]
carriers = ["codes"]

[[sms_route]]
prefixes = ["+"]
carriers = ["rest"]
"#
    ));
    for (to, class, expected) in [
        ("+8613800138000", "transactional", "mobile"),
        ("+8618600138000", "marketing", "unicom"),
        ("+8613800138001", "transactional", "unicom"),
        ("+8613300138000", "transactional", "rest"),
        ("+8613800138000", "otp", "codes"),
    ] {
        let id = post(&relay, to, class);
        assert_eq!(carried_by(&relay, &id), expected, "{class} to {to}");
    }
}

#[test]
fn a_route_is_for_the_clients_that_it_names() {
    let (own, rest) = (OwnCarrier::start_on(0, &[]), OwnCarrier::start_on(0, &[]));
    let sections = smpp_carrier("own", own.0.port, "") + &smpp_carrier("rest", rest.0.port, "");
    for (clients, expected) in [(USER, "own"), ("other", "rest")] {
        let relay = relay(format!(
            r#"{sections}
[[client]]
name = "other"
api_keys = ["sha256:{key}"]
channels = ["sms"]

[[sms_route]]
prefixes = ["+86138"]
carriers = ["rest"]

[[sms_route]]
prefixes = ["+"]
clients = ["{clients}"]
carriers = ["own"]
"#,
            key = "ab".repeat(32)
        ));
        let id = post(&relay, "+8613800138000", "transactional");
        assert_eq!(carried_by(&relay, &id), expected);
    }
}

#[test]
fn weights_are_shares() {
    const TEXTS: usize = 80;
    let (most, canary) = (OwnCarrier::start_on(0, &[]), OwnCarrier::start_on(0, &[]));
    let sections = smpp_carrier("most", most.0.port, "") + &smpp_carrier("canary", canary.0.port, "");
    let route = "[[sms_route]]\nprefixes = [\"+\"]\ncarriers = [\"most\", \"canary\"]\nweights = [90, 10]\n";
    let relay = relay(format!("{sections}{route}"));
    for name in ["most", "canary"] {
        let up = format!("postrider_carrier_up{{carrier=\"{name}\"}}");
        eventually("its bind is up", SOON, || (relay.metric(&up) == Some(1)).then_some(()));
    }
    let ids: Vec<_> = (0..TEXTS).map(|n| post(&relay, &format!("+86138{n:08}"), "transactional")).collect();
    for id in &ids {
        relay.reaches(id, "delivered");
    }
    let small = canary.wait_for_texts(TEXTS / 10, SOON).len();
    assert_eq!(small, TEXTS / 10, "went to the canary");
}

#[test]
fn a_carrier_that_is_down_or_throttles_is_passed_over() {
    let second = OwnCarrier::start_on(0, &[]);
    let throttling = OwnCarrier::start_on(0, &["--throttle-first", "1000000"]);
    let down = SilentPort::take();
    for port in [down.port, throttling.0.port] {
        let sections = smpp_carrier("first", port, "") + &smpp_carrier("second", second.0.port, "");
        let relay = relay(format!("{sections}[[sms_route]]\nprefixes = [\"+\"]\ncarriers = [\"first\", \"second\"]\n"));
        let ids: Vec<_> = (0..10).map(|n| post(&relay, &format!("+8613800138{n:03}"), "otp")).collect();
        for id in ids {
            assert_eq!(carried_by(&relay, &id), "second");
        }
    }
}

/// Hours that begin in two of them, by UTC's clock.
fn hours_from_later() -> String {
    let minutes = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60 + 120;
    let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    format!("{}-{} +00:00", clock(minutes), clock(minutes + 60))
}

#[test]
fn marketing_waits_for_its_hours_and_nothing_else_does() {
    let only = OwnCarrier::start_on(0, &[]);
    let hours =
        |prefix: &str, hours: &str| format!("[[sending_hours]]\nprefixes = [\"{prefix}\"]\nhours = \"{hours}\"\n");
    let route = "[[sms_route]]\nprefixes = [\"+\"]\ncarriers = [\"only\"]\n";
    let later = hours_from_later();
    let relay = relay(format!("{}{route}{}", smpp_carrier("only", only.0.port, ""), hours("+86138", &later)));
    let held = post(&relay, "+8613800138000", "marketing");
    for (to, class) in [("+8613800138000", "otp"), ("+8613800138000", "transactional"), ("+8613900138000", "marketing")]
    {
        relay.reaches(&post(&relay, to, class), "delivered");
    }
    let why = format!("texts of this class leave at {later} only (rule sending-hours)");
    let waits = |m: &serde_json::Value| m["recipients"][0]["waiting_for"].as_str().is_some_and(|w| w.ends_with(&why));
    let explained = relay.explained(&held, SOON, waits);
    let lane = explained["recipients"][0]["lane"].as_str().unwrap();
    assert_eq!(lane, format!("only within {later}/marketing/{USER}"));
    let paused = relay.event("paused", |e| e["lane"] == lane);
    assert_eq!((&paused["rule"]["id"], &paused["client"]), (&json!("sending-hours"), &json!(USER)));
    assert_eq!(only.wait_for_texts(3, SOON).len(), 3, "it has not left");
    // The hours are changed while it waits.
    let config = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), config.replace(&later, "00:00-24:00 +00:00")).unwrap();
    relay.signal(Signal::HUP);
    relay.reaches(&held, "delivered");
}

#[test]
fn a_number_that_a_carrier_says_is_anothers_goes_to_the_other_network() {
    let (mobile, unicom) = (OwnCarrier::start_on(0, &["--undeliverable-share", "1"]), OwnCarrier::start_on(0, &[]));
    let account = |name: &str, port: u16| {
        format!(
            "[[carrier]]\nname = \"{name}\"\nprotocol = \"smpp\"\naddress = \"127.0.0.1:{port}\"\nsystem_id = \"900001\"\n\
             password = \"888888\"\nfrom = \"10690001\"\n[[sms_route]]\nnetworks = [\"china-{name}\"]\ncarriers = [\"{name}\"]\n"
        )
    };
    let (one, two) = (account("mobile", mobile.0.port), account("unicom", unicom.0.port));
    let extra = format!("{one}{two}[ported]\nwords = [\"err:001\"]\n");
    let mut relay = Relay::start(&Settings { extra, ..Settings::default() });
    let text = |relay: &Relay, words: &str| relay.post_text("+8613800138000", words);
    relay.reaches(&text(&relay, "first"), "undelivered");
    relay.reaches(&text(&relay, "second"), "delivered");
    assert_eq!(unicom.wait_for_texts(1, SOON)[0]["text"], "second");
    assert_eq!(relay.metric("postrider_ported_numbers"), Some(1));
    assert_eq!(relay.metric(r#"postrider_ported_learnt_total{carrier="mobile"}"#), Some(1));
    relay.kill_9();
    relay.launch();
    relay.reaches(&text(&relay, "third"), "delivered");
    let ported = |words: &[&str]| -> serde_json::Value {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"));
        let output =
            command.arg("ported").args(words).arg("--json").arg("--config").arg(relay.config()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let listed = ported(&["list"]);
    assert_eq!((&listed[0]["number"], &listed[0]["not"][0]), (&"+8613800138000".into(), &"china-mobile".into()));
    assert_eq!(ported(&["forget", "+8613800138000"]), listed);
    relay.reaches(&text(&relay, "fourth"), "undelivered");
    assert_eq!(mobile.wait_for_texts(2, SOON).len(), 2);
}
