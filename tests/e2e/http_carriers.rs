//! Texts by HTTP, as the descriptions that come with postrider say, to endpoints that judge each request by the vendors' own code; and
//! what those bring back.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http;
use crate::support::peer::Vendor;
use crate::support::relay::{Relay, Settings};
use crate::support::{SOON, SilentPort, eventually};

const SECRET: &str = "correct-horse-battery";
const TOKEN: &str = "0123456789abcdef01";
const CODE: &str = "【小店】您的验证码是123456，5分钟内有效";

/// A carrier of that description at `port`, which has these values and more keys.
fn carrier(description: &str, port: u16, listen: u16, keys: &str, more: &str) -> String {
    format!(
        r#"
[[carrier]]
name = "http-1"
protocol = "http"
description = "{description}"
endpoint = "http://127.0.0.1:{port}"
rate = "1000/s"
listen = "127.0.0.1:{listen}"
callback_token = "{TOKEN}"
callback_url = "http://127.0.0.1:{listen}"
{more}
[carrier.account]
{keys}
"#
    )
}

fn route(prefixes: &str) -> String {
    format!("\n[[sms_route]]\nprefixes = [\"{prefixes}\"]\ncarriers = [\"http-1\"]\n")
}

/// The registered text of [`CODE`].
fn template(id: &str, text: &str) -> String {
    format!("[[carrier.template]]\ntext = \"{text}\"\nid = \"{id}\"\n")
}

const CODE_TEXT: &str = "您的验证码是{code}，{minutes}分钟内有效";

struct Bench {
    vendor: Vendor,
    relay: Relay,
    /// Kept, so that nobody else takes the port before the relay.
    _listen: SilentPort,
}

impl Bench {
    fn start(description: &str, keys: &str, more: &str, templates: &str) -> Self {
        Self::start_as(description, description, keys, more, templates)
    }

    fn start_as(vendor: &str, description: &str, keys: &str, more: &str, templates: &str) -> Self {
        let listen = SilentPort::take();
        let vendor = Vendor::start(vendor, "key-1", SECRET);
        let extra =
            [carrier(description, vendor.0.port, listen.port, keys, more), templates.to_owned(), route("+")].concat();
        let relay = Relay::start(&Settings { extra, ..Settings::default() });
        Self { vendor, relay, _listen: listen }
    }

    /// The path of the relay to which the carrier comes, for what.
    fn url(&self, what: &str) -> String {
        format!("http://{}/http-1/{TOKEN}/{what}", self.relay.listeners.callbacks[0])
    }

    /// The first request of all, which is right.
    fn right_request(&self) -> Value {
        let request = self.vendor.wait_for_requests(1).remove(0);
        assert_eq!(request["right"], true, "{request}");
        request
    }

    fn refused(&self, reason: &str) -> u64 {
        let name = format!(r#"postrider_carrier_callbacks_refused_total{{reason="{reason}"}}"#);
        self.relay.metric(&name).unwrap_or_default()
    }

    fn no_secret_is_shown(&self, id: &str) {
        let explained = self.relay.explain(id);
        let shown = [self.relay.log(), format!("{explained:?}{:?}", self.relay.message(id))].concat();
        assert!(!shown.contains(SECRET) && !shown.contains(TOKEN), "a secret is shown: {shown}");
    }
}

fn keys(names: [&str; 2]) -> String {
    format!("{} = \"key-1\"\n{} = \"{SECRET}\"\n", names[0], names[1])
}

#[test]
fn aliyun_takes_what_is_signed_as_its_own_code_signs_and_brings_receipts_in_batches() {
    let templates = template("SMS_1", CODE_TEXT);
    let mut bench = Bench::start("aliyun", &keys(["access_key_id", "access_key_secret"]), "", &templates);
    let id = bench.relay.post_text("+8613800138000", CODE);
    let said = bench.right_request();
    let expected = json!({"PhoneNumbers": "13800138000", "SignName": "小店", "TemplateCode": "SMS_1",
        "TemplateParam": r#"{"code":"123456","minutes":"5"}"#, "OutId": id});
    assert_eq!((&said["request"], &said["headers"]["x-acs-action"]), (&expected, &json!("SendSms")));
    bench.relay.reaches(&id, "sent");

    // A batch of which one is ours: all of it is taken, and answered as the vendor wants it.
    let receipt = |id: &str, success: bool| {
        json!({"phone_number": "13800138000", "success": success, "biz_id": id,
        "err_code": if success { "DELIVERED" } else { "MK:0001" }, "report_time": "2026-11-27 12:00:00"})
    };
    let batch = json!([receipt("elsewhere", false), receipt("aliyun-1", true)]);
    let answer = bench.vendor.post(&json!({"post": bench.url("receipt"), "json": batch}));
    assert_eq!(answer, (200, r#"{"code":0,"msg":"taken"}"#.to_owned()));
    bench.relay.reaches(&id, "delivered");
    let explained = bench.relay.explained(&id, SOON, |m| m["status"] == "delivered");
    assert!(explained.to_string().contains("stat:true err:DELIVERED"), "{explained}");

    let reply = json!([{"phone_number": "13800138000", "content": "TD", "dest_code": "10690001", "sequence_id": 1}]);
    assert_eq!(bench.vendor.post(&json!({"post": bench.url("message"), "json": reply})).0, 200);
    let replied = bench.relay.event("replied", |_| true);
    assert_eq!(replied["handset"]["from"], "+8613800138000");
    bench.relay.event("opted_out", |e| e["opt_out"]["number"] == "+8613800138000");
    bench.no_secret_is_shown(&id);
}

#[test]
fn a_text_that_fits_no_template_is_refused_and_says_so() {
    let templates = template("SMS_1", CODE_TEXT);
    let bench = Bench::start("aliyun", &keys(["access_key_id", "access_key_secret"]), "", &templates);
    let id = bench.relay.post_text("+8613800138000", "【小店】您的订单已发货");
    bench.relay.reaches(&id, "undelivered");
    let explained = bench.relay.explained(&id, SOON, |m| m["status"] == "undelivered");
    assert!(explained.to_string().contains("the text fits no [[carrier.template]] of the account"), "{explained}");
    assert!(bench.vendor.0.said(|v| v.get("request").cloned()).is_empty(), "nothing was asked");
}

#[test]
fn a_signature_that_aliyun_would_not_make_is_the_accounts_trouble_and_no_secret_is_told() {
    let wrong = format!("access_key_id = \"key-1\"\naccess_key_secret = \"{SECRET}-not\"\n");
    let bench = Bench::start("aliyun", &wrong, "", &template("SMS_1", CODE_TEXT));
    let id = bench.relay.post_text("+8613800138000", CODE);
    let request = bench.vendor.wait_for_requests(1).remove(0);
    assert_eq!(request["right"], false, "the judge can say no: {request}");
    let delayed = bench.relay.event("delayed", |e| e["id"] == json!(id));
    assert!(delayed.to_string().contains("SignatureDoesNotMatch"), "{delayed}");
    assert!(!bench.relay.log().contains("-not"), "a secret in the log");
}

#[test]
fn a_call_speaks_a_code() {
    let keys = keys(["access_key_id", "access_key_secret"]);
    let mut bench = Bench::start("aliyun-voice", &keys, "", &template("TTS_1", CODE_TEXT));
    let id = bench.relay.post_text("+8613800138000", CODE);
    let said = bench.right_request();
    let expected = json!({"CalledNumber": "13800138000", "TtsCode": "TTS_1", "PlayTimes": "2",
        "TtsParam": r#"{"code":"123456","minutes":"5"}"#, "OutId": id});
    assert_eq!((&said["request"], &said["headers"]["x-acs-action"]), (&expected, &json!("SingleCallByTts")));
    bench.relay.reaches(&id, "sent");
    let report = json!([{"call_id": "aliyun-voice-1", "status_code": "200000", "status_msg": "answered"}]);
    assert_eq!(bench.vendor.post(&json!({"post": bench.url("receipt"), "json": report})).0, 200);
    bench.relay.reaches(&id, "delivered");
}

#[test]
fn tencent_takes_what_is_signed_as_its_own_code_signs() {
    let keys = keys(["secret_id", "secret_key"]) + "sdk_app_id = \"1400006666\"\n";
    let text = "您的验证码是{1}，{2}分钟内有效";
    let templates = format!("{}signature = \"小店\"\n", template("449739", text));
    let mut bench = Bench::start("tencent", &keys, "", &templates);
    let id = bench.relay.post_text("+8613800138000", CODE);
    let said = bench.right_request();
    let expected = json!({"PhoneNumberSet": ["+8613800138000"], "SmsSdkAppId": "1400006666", "SignName": "小店",
        "TemplateId": "449739", "TemplateParamSet": ["123456", "5"], "SessionContext": id});
    assert_eq!((&said["request"], &said["headers"]["x-tc-region"]), (&expected, &json!("ap-guangzhou")));
    bench.relay.reaches(&id, "sent");
    let receipts = json!([{"user_receive_time": "2026-11-27 08:03:04", "nationcode": "86", "mobile": "13800138000",
        "report_status": "FAIL", "errmsg": "MK:0001", "description": "number unknown", "sid": "tencent-1"}]);
    let answer = bench.vendor.post(&json!({"post": bench.url("receipt"), "json": receipts}));
    assert_eq!(answer, (200, r#"{"result":0,"errmsg":"OK"}"#.to_owned()));
    bench.relay.reaches(&id, "undelivered");
    let explained = bench.relay.explained(&id, SOON, |m| m["status"] == "undelivered");
    assert!(explained.to_string().contains("stat:FAIL err:MK:0001 number unknown"), "{explained}");
    bench.no_secret_is_shown(&id);
}

#[test]
fn twilio_takes_what_its_own_client_would_say_and_brings_what_its_own_code_signs() {
    let keys = keys(["account_sid", "auth_token"]);
    let mut bench = Bench::start("twilio", &keys, "from = \"+15005550006\"\n", "");
    let id = bench.relay.post_text("+8613800138000", "Tom & 李雷: 100% {text}\n\"ok\"");
    let said = bench.right_request();
    let url = format!(
        "http://127.0.0.1:{}/http-1/{TOKEN}/receipt",
        crate::support::relay::port(&bench.relay.listeners.callbacks[0])
    );
    let expected = json!({"To": "+8613800138000", "From": "+15005550006", "Body": "Tom & 李雷: 100% {text}\n\"ok\"",
        "StatusCallback": url});
    assert_eq!((&said["request"], &said["path"]), (&expected, &json!("/2010-04-01/Accounts/key-1/Messages.json")));
    bench.relay.reaches(&id, "sent");

    let form = json!({"MessageSid": "twilio-1", "MessageStatus": "delivered", "To": "+8613800138000", "é": "&="});
    let unsigned = bench.vendor.post(&json!({"post": url, "form": form}));
    let by_another = bench.vendor.post(&json!({"post": url, "form": form, "sign": "another-token"}));
    let for_another = bench.vendor.post(&json!({"post": url, "form": form, "sign": SECRET, "told": format!("{url}x")}));
    assert_eq!([unsigned.0, by_another.0, for_another.0], [403; 3]);
    assert_eq!(bench.refused("login"), 3);
    assert_eq!(bench.relay.message(&id)["status"], "sent");
    assert_eq!(bench.vendor.post(&json!({"post": url, "form": form, "sign": SECRET})).0, 200);
    bench.relay.reaches(&id, "delivered");

    let url = url.replace("receipt", "message");
    let reply = json!({"MessageSid": "SM9", "From": "+8613800138000", "To": "+15005550006", "Body": "退订 thanks"});
    let answer = bench.vendor.post(&json!({"post": url, "form": reply, "sign": SECRET}));
    assert_eq!(answer, (200, "<Response/>".to_owned()));
    let replied = bench.relay.event("replied", |e| e["id"] == json!(id));
    assert_eq!(replied["handset"]["text"], "退订 thanks");
    bench.no_secret_is_shown(&id);
}

#[test]
fn vonage_is_asked_by_a_form_and_brings_receipts_by_the_path_that_it_was_told() {
    let keys = keys(["api_key", "api_secret"]);
    let price = "[[sms_price]]\ncarrier = \"http-1\"\npart = \"0.045\"\n";
    let mut bench = Bench::start("vonage", &keys, "from = \"Shop\"\ncallback_tls = true\n", price);
    let certificate = std::fs::read_to_string(bench.relay.dir().join("relay.crt")).unwrap();
    // The carrier cuts the other one in two, of 67 characters each.
    let (id, other) =
        (bench.relay.post_text("+8613800138000", "hello"), bench.relay.post_text("+8613800138001", &"你好".repeat(60)));
    let requests = bench.vendor.wait_for_requests(2);
    let alphabet = |to: &str| {
        let request = requests.iter().find(|r| r["request"]["to"] == to).unwrap_or_else(|| panic!("{requests:?}"));
        assert_eq!((&request["right"], &request["request"]["from"]), (&json!(true), &json!("Shop")), "{request}");
        (request["request"]["type"].clone(), request["request"]["callback"].as_str().unwrap().to_owned())
    };
    let (plain, url) = alphabet("8613800138000");
    assert_eq!((plain, alphabet("8613800138001").0), (json!("text"), json!("unicode")));
    bench.relay.reaches(&other, "sent");
    let paid = bench.relay.event("sent", |event| event["id"] == other);
    assert_eq!((&paid["parts"], &paid["price"]["amount"]), (&json!(2), &json!("0.09")), "{paid}");
    let sent = bench.relay.reaches(&id, "sent");
    let given = sent["recipients"][0]["parts"][0]["carrier_message_id"].as_str().unwrap().to_owned();
    let url = url.replace("http://", "https://");
    let receipt = |status: &str| {
        let form = json!({"msisdn": "8613800138000", "messageId": given, "status": status, "err-code": "0"});
        json!({"post": url, "form": form, "vouches": certificate})
    };
    assert_eq!(bench.vendor.post(&receipt("buffered")).0, 200);
    assert_eq!(bench.relay.message(&id)["status"], "sent", "no verdict yet");
    assert_eq!(bench.vendor.post(&receipt("delivered")).0, 200);
    bench.relay.reaches(&id, "delivered");
}

#[test]
fn who_does_not_know_the_path_or_brings_nonsense_is_refused_and_counted() {
    let bench = Bench::start(
        "tencent",
        &(keys(["secret_id", "secret_key"]) + "sdk_app_id = \"1\"\n"),
        "callback_size = \"1KiB\"\n",
        &template("1", CODE_TEXT),
    );
    let at = &bench.relay.listeners.callbacks[0];
    let post = |path: &str, body: &[u8]| http::request(at, "POST", path, &[], body).status;
    let good = format!("/http-1/{TOKEN}/receipt");
    for path in ["/", "/http-1", "/http-1//receipt", "/http-1/0123456789abcdef02/receipt", "/http-2/x/receipt"] {
        assert_eq!(post(path, b"[]"), 404, "{path}");
    }
    assert_eq!(post(&good.replace("receipt", "other"), b"[]"), 404);
    assert_eq!(bench.refused("login"), 6);
    for nonsense in [&b"{"[..], b"{}", b"[1]", b"\xff\xfe", b"[[[[", br#"[{"sid":""}]"#] {
        assert_eq!(post(&good, nonsense), 400, "{nonsense:?}");
    }
    let unreadable = r#"postrider_carrier_receipts_total{carrier="http-1",state="unreadable"}"#;
    assert_eq!(bench.relay.metric(unreadable), Some(6));
    assert_eq!(post(&good, &[b' '; 1025]), 413);
    assert_eq!(post(&good, b"[]"), 200, "nothing is nothing wrong");
}

#[test]
fn mistakes_are_told_at_the_check_with_file_key_and_what_would_be_right() {
    let relay = Relay::prepare(&Settings {
        extra: carrier("./own.toml", 1, 0, "api_kye = \"x\"\n", "") + &route("+"),
        ..Settings::default()
    });
    let check = || {
        let output = relay.command(&["check"]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let shown = check();
    assert!(shown.contains("description: cannot read") && shown.contains("own.toml"), "{shown}");
    let generic = include_str!("../../config/http/generic.toml");
    std::fs::write(relay.dir().join("own.toml"), generic.replace("{sender}", "{sendr}")).unwrap();
    let shown = check();
    assert!(
        shown.contains("own.toml:")
            && shown.contains("request.json.from: unknown value {sendr}; did you mean \"sender\"?"),
        "{shown}"
    );
    std::fs::write(relay.dir().join("own.toml"), generic).unwrap();
    let shown = check();
    assert!(shown.contains("carrier[0].account.api_kye: unknown key; did you mean \"api_key\"?"), "{shown}");
    assert!(shown.contains("carrier[0].account.api_key: missing; add api_key_file = "), "{shown}");
}

/// A carrier that nobody listens for is down, and what it would have got goes at once when it is there.
#[test]
fn a_carrier_that_cannot_be_reached_is_down_and_tried_again() {
    let (silent, listen) = (SilentPort::take(), SilentPort::take());
    let keys = format!("api_key = \"{SECRET}\"\n");
    let extra = carrier("generic", silent.port, listen.port, &keys, "") + &route("+");
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    let answer = relay.api("POST", "/v1/sms", &[], &json!({"to": "+8613800138000", "text": "hello"}).to_string());
    assert_eq!(answer.status, 202);
    eventually("the carrier is down", SOON, || {
        (relay.metric(r#"postrider_carrier_up{carrier="http-1"}"#) == Some(0)
            && relay.log().contains("the carrier cannot be reached"))
        .then_some(())
    });
    let check =
        Command::new(env!("CARGO_BIN_EXE_postrider")).args(["check", "--config"]).arg(relay.config()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
