//! The rules for texts, by the real binary: what the carrier gets, what a client is told.

use serde_json::{Value, json};

use crate::support::http::{self, Answer};
use crate::support::keys;
use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings};
use crate::support::{SOON, eventually};

/// The API key of the client whose texts are signed.
const KEY: &str = "rules";
/// That of the client whose texts are registered.
const REGISTERED: &str = "registered";
/// That of the client that texts abroad.
const ABROAD: &str = "abroad";

fn relay(carrier: &OwnCarrier) -> Relay {
    let extra = format!(
        r#"
[[carrier]]
name = "only"
protocol = "smpp"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
rate = "1000/s"

[[sms_route]]
prefixes = ["+"]
carriers = ["only"]

[[client]]
name = "signed"
api_keys = ["{key}"]
channels = ["sms"]
signatures = ["小店", "海淘"]

[[client]]
name = "registered"
api_keys = ["{registered}"]
channels = ["sms"]
signatures = ["小店"]
templates_only = true

[[client]]
name = "abroad"
api_keys = ["{abroad}"]
channels = ["sms"]
velocity = [{{ prefix = "+371", most = "2/h" }}]

[[sms_template]]
id = "code"
client = "registered"
text = "您的验证码是{{code:digits 4-6}}，{{minutes:number}}分钟内有效。"

[sms]
blocked_words = ["赌博"]
denied_numbers = ["+8617"]

[[sms_cap]]
prefixes = ["+86138"]
limits = ["1/m", "2/d"]
"#,
        port = carrier.0.port,
        key = keys::api_key_hash(KEY),
        registered = keys::api_key_hash(REGISTERED),
        abroad = keys::api_key_hash(ABROAD)
    );
    Relay::start(&Settings { extra, ..Settings::default() })
}

fn send(relay: &Relay, key: Option<&str>, body: &Value) -> Answer {
    send_as(relay, KEY, key, body)
}

fn send_as(relay: &Relay, client: &str, key: Option<&str>, body: &Value) -> Answer {
    let mut fields = vec![format!("Authorization: Bearer {client}"), "Content-Type: application/json".to_owned()];
    fields.extend(key.map(|key| format!("Idempotency-Key: {key}")));
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    http::request(&relay.listeners.http, "POST", "/v1/sms", &fields, body.to_string().as_bytes())
}

#[test]
fn a_text_is_written_as_the_rules_want_or_refused_by_name() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay(&carrier);
    let body = json!({"to": "+8613900138000", "text": "新品上市", "signature": "海淘", "class": "marketing"});
    assert_eq!(send(&relay, None, &body).status, 202);
    assert_eq!(carrier.wait_for_texts(1, SOON)[0]["text"], "【海淘】新品上市，拒收请回复R");
    for (to, text, rule) in [
        ("+8617012345678", "【小店】好", "number-denied"),
        ("+8613900138000", "好", "signature-missing"),
        ("+8613900138000", "【大店】好", "signature-not-registered"),
        ("+8613900138000", "【小店】好【1】", "signature-inside"),
        ("+8613900138000", "【小店】来赌 博", "blocked-word"),
    ] {
        let answer = send(&relay, None, &json!({"to": to, "text": text}));
        assert_eq!((answer.status, &answer.json()["rule"]), (403, &json!(rule)), "{answer:?}");
        let counted = format!("postrider_text_refusals_total{{client=\"signed\",rule=\"{rule}\"}}");
        assert_eq!(relay.metric(&counted), Some(1));
    }
}

#[test]
fn a_number_gets_no_more_than_its_share_and_repeats_are_answered_as_before() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay(&carrier);
    let code =
        |signature: &str| json!({"to": "+8613800138000", "text": format!("【{signature}】验证码1234"), "class": "otp"});
    let first = send(&relay, Some("a"), &code("小店"));
    assert_eq!(first.status, 202, "{first:?}");
    let second = send(&relay, None, &code("小店"));
    assert_eq!((second.status, &second.json()["rule"]), (429, &json!("frequency-cap")), "{second:?}");
    let wait: u64 = second.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let again = send(&relay, Some("a"), &code("小店"));
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]));
    assert_eq!(send(&relay, None, &code("海淘")).status, 202, "another signature");
    relay.explained(first.json()["id"].as_str().unwrap(), SOON, |m| m["status"] == "delivered");
    assert_eq!(carrier.wait_for_texts(2, SOON).len(), 2);
}

#[test]
fn a_registered_text_is_sent_by_its_name_or_as_it_is_and_no_other() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay(&carrier);
    let (to, variables) = ("+8613900138000", json!({"code": "123456", "minutes": "5"}));
    let by_name = json!({"to": to, "template": "code", "variables": variables, "class": "otp"});
    assert_eq!(send_as(&relay, REGISTERED, None, &by_name).status, 202);
    let written = "您的验证码是123456，5分钟内有效。";
    assert_eq!(send_as(&relay, REGISTERED, None, &json!({"to": to, "text": written})).status, 202);
    for text in carrier.wait_for_texts(2, SOON) {
        assert_eq!(text["text"], format!("【小店】{written}"));
    }
    let other = send_as(&relay, REGISTERED, None, &json!({"to": to, "text": "您的验证码是 evil.example"}));
    assert_eq!((other.status, &other.json()["rule"]), (403, &json!("template-not-matched")), "{other:?}");
    let wrong = json!({"to": to, "template": "code", "variables": {"code": "123456", "minutes": "evil.example"}});
    let wrong = send_as(&relay, REGISTERED, None, &wrong);
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["field"]), (422, &json!("variables.minutes")), "{wrong:?}");
}

#[test]
fn a_client_has_so_many_texts_to_numbers_that_begin_so() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let relay = relay(&carrier);
    let send = |to: &str| send_as(&relay, ABROAD, None, &json!({"to": to, "text": "code 1234", "class": "otp"}));
    assert_eq!((send("+37120000001").status, send("+37120000002").status), (202, 202));
    let refused = send("+37120000003");
    assert_eq!((refused.status, refused.json()["rule"].as_str()), (429, Some("velocity-cap")), "{refused:?}");
    assert_eq!(send("+37220000003").status, 202);
    assert_eq!(relay.metric(r#"postrider_text_refusals_total{client="abroad",rule="velocity-cap"}"#), Some(1));
    assert_eq!(carrier.wait_for_texts(3, SOON).len(), 3);
}

#[test]
fn what_numbers_were_sent_counts_after_a_stop_and_after_a_crash() {
    let carrier = OwnCarrier::start_on(0, &[]);
    let mut relay = relay(&carrier);
    let send = |relay: &Relay, to: &str| {
        let answer = send_as(relay, ABROAD, None, &json!({"to": to, "text": "code 1234", "class": "otp"}));
        (answer.status, answer.json()["rule"].as_str().map(str::to_owned))
    };
    let kept = |relay: &Relay| {
        let files = std::fs::read_dir(relay.dir().join("data/counts")).into_iter().flatten();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    assert_eq!(send(&relay, "+37120000001").0, 202);
    assert!(relay.stop(SOON).success());
    let before = kept(&relay);
    relay.launch();
    assert_eq!(send(&relay, "+37120000002").0, 202);
    eventually("it is written down", SOON, || (kept(&relay) > before).then_some(()));
    relay.kill_9();
    relay.launch();
    assert_eq!(send(&relay, "+37120000003"), (429, Some("velocity-cap".to_owned())));
    assert_eq!(carrier.wait_for_texts(2, SOON).len(), 2);
}
