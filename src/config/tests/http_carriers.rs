//! Carriers that are asked by HTTP: their descriptions and accounts, and the exact words that wrong ones get.

use std::path::Path;

use proptest::prelude::*;

use super::{GOOD, check, good, mistakes};
use crate::config::http_description::{SHIPPED, read};
use crate::config::parse_description;
use crate::egress::sms::http::{
    CALLBACK_URLS, CALLBACK_VALUES, Description, Function, REQUEST_VALUES, TEMPLATE_VALUES, TEXT_VALUES,
};

const GENERIC: &str = include_str!("../../../config/http/generic.toml");

const ALIYUN: &str = "[[carrier]]\nname = \"ali-1\"\nprotocol = \"http\"\ndescription = \"aliyun\"\n\
    listen = \"127.0.0.1:8090\"\ncallback_token_env = \"TOKEN\"\n\
    [carrier.account]\naccess_key_id = \"LTAI\"\naccess_key_secret_env = \"GOOD\"\n\
    [[carrier.template]]\ntext = \"您的验证码是{code}\"\nid = \"SMS_1\"\n";

fn with_token(more: &str) -> String {
    more.replace("callback_token_env = \"TOKEN\"", "callback_token = \"0123456789abcdef\"")
}

fn description(text: &str) -> Result<Description, String> {
    let told =
        |mistakes: Vec<crate::config::Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    parse_description(Path::new("own.toml"), text).map_err(told)
}

#[test]
fn who_shares_a_place_comes_to_it_alike() {
    let tls = "[tls]\ncertificate = \"relay.crt\"\nprivate_key = \"relay.key\"\n";
    let first = with_token(ALIYUN);
    let second = first.replace("ali-1", "ali-2").replace("listen", "callback_tls = true\nlisten");
    let all = mistakes(&format!("{first}{second}{tls}"));
    let wanted = "carrier[1].callback_tls: 127.0.0.1:8090 is shared by carriers that come with TLS and without; \
                  write the same for all, or give each its own address";
    assert!(all.contains(wanted), "{all}");
}

#[test]
fn an_account_says_what_its_description_wants() {
    let (config, _) = good(&format!("{GOOD}{}", with_token(ALIYUN)));
    let carrier = &config.carriers[0];
    let http = carrier.protocol.http().unwrap();
    assert_eq!((&*carrier.address, carrier.binds, carrier.window), ("dysmsapi.aliyuncs.com:443", 1, 16));
    assert_eq!(http.values["access_key_secret"].expose(), "sesame");
    assert!(!format!("{config:?}").contains("sesame") && !format!("{config:?}").contains("0123456789abcdef"));
    assert_eq!(config.http_callbacks(), [("127.0.0.1:8090".parse().unwrap(), false)]);
    let own = with_token(ALIYUN)
        .replace("[carrier.account]", "endpoint = \"https://sms.example.com:8443/\"\n[carrier.account]");
    assert_eq!(&*good(&format!("{GOOD}{own}")).0.carriers[0].address, "sms.example.com:8443");
}

#[test]
fn wrong_accounts_are_told_what_would_be_right() {
    let aliyun = with_token(ALIYUN);
    for (from, to, expected) in [
        (
            "\"aliyun\"",
            "\"aliun\"",
            "relay.toml:12: carrier[0].description: unknown description \"aliun\"; did you mean \"aliyun\"? \
            (one of aliyun, aliyun-voice, generic, tencent, twilio, vonage), or a file of your own, such as \"./own.toml\"",
        ),
        (
            "access_key_id = \"LTAI\"\n",
            "",
            "relay.toml:15: carrier[0].account.access_key_id: missing; \
            add access_key_id = \"...\", as the carrier's console shows it",
        ),
        (
            "access_key_secret_env = \"GOOD\"\n",
            "",
            "relay.toml:15: carrier[0].account.access_key_secret: missing; \
            add access_key_secret_file = \"certs/access_key_secret.secret\"",
        ),
        (
            "access_key_id",
            "access_key",
            "relay.toml:15: carrier[0].account.access_key_id: missing; \
            add access_key_id = \"...\", as the carrier's console shows it\n\
            relay.toml:16: carrier[0].account.access_key: unknown key; did you mean \"access_key_id\"? \
            (one of access_key_id, access_key_secret, access_key_secret_file, access_key_secret_env)",
        ),
        (
            "[[carrier.template]]\ntext = \"您的验证码是{code}\"\nid = \"SMS_1\"\n",
            "",
            "relay.toml:9: carrier[0].template: \
            missing: this carrier sends registered texts only; \
            add [[carrier.template]] with text = \"您的验证码是{code}\" and the id that it has there",
        ),
        (
            "是{code}",
            "是{code}{more}",
            "relay.toml:19: carrier[0].template[0].text: {more}: nothing stands between it and the variable \
            before; see docs/http-carriers.md",
        ),
        (
            "0123456789abcdef",
            "0123",
            "relay.toml:14: carrier[0].callback_token: too easily guessed, or no part of a path; \
            write at least 16 letters, digits, - and _, such as of: openssl rand -hex 16",
        ),
        (
            "callback_token = \"0123456789abcdef\"\n",
            "",
            "relay.toml:9: carrier[0].callback_token: missing; \
            add callback_token_file = \"certs/callback.token\"",
        ),
        (
            "listen",
            "callback_tls = true\nlisten",
            "relay.toml:13: carrier[0].callback_tls: there is no certificate; \
            add a [tls] table with certificate and private_key",
        ),
        (
            "listen = \"127.0.0.1:8090\"\n",
            "",
            "relay.toml:13: carrier[0].callback_token: nobody listens; \
            add listen = \"0.0.0.0:8090\", or remove it",
        ),
        (
            "listen",
            "endpoint = \"ftp://x\"\nlisten",
            "relay.toml:13: carrier[0].endpoint: bad endpoint \"ftp://x\"; \
            expected https:// or http://, a host, and a port where it is another than usual",
        ),
        (
            "127.0.0.1:8090",
            "127.0.0.1:8025",
            "relay.toml:13: carrier[0].listen: 127.0.0.1:8025 is taken (http.address); \
            give each its own address or port",
        ),
    ] {
        assert!(aliyun.contains(from), "{from}");
        check(&aliyun.replacen(from, to, 1), expected);
    }
    let twilio = "[[carrier]]\nname = \"t\"\nprotocol = \"http\"\ndescription = \"twilio\"\nlisten = \"127.0.0.1:8090\"\n\
        callback_token = \"0123456789abcdef\"\n[carrier.account]\naccount_sid = \"AC\"\nauth_token = \"sesame\"\n";
    check(
        twilio,
        "relay.toml:9: carrier[0].callback_url: missing: the carrier signs it; \
        add callback_url = \"https://relay.example.com\", as the carrier calls it",
    );
}

#[test]
fn wrong_descriptions_are_told_what_would_be_right() {
    for (from, to, expected) in [
        (
            "{api_key}",
            "{api_kye}",
            "own.toml:19: request.headers.Authorization: unknown value {api_kye}; did you mean \"api_key\"?",
        ),
        ("{text}", "{text", "own.toml:25: request.json.text: a { without its }; a brace itself is written {{"),
        (
            "{text}",
            "{body}",
            "own.toml:25: request.json.text: {body} is made of what it would be a part of; \
            values that are made of the request itself may stand in its headers only",
        ),
        (
            "\"/id\"",
            "\"id\"",
            "own.toml:36: answer.id: bad place \"id\"; expected a JSON pointer (RFC 6901), such as \"/messages/0/id\"",
        ),
        (
            "https://",
            "",
            "own.toml:15: request.url: bad URL \"sms.example.com/v1/messages\"; \
            expected https:// or http://, a host, and a port where it is another than usual",
        ),
        (
            "/v1/messages",
            "/v1?x=1",
            "own.toml:15: request.url: bad path in the URL \"https://sms.example.com/v1?x=1\"; \
            write a path of printable ASCII; the query goes into [request.query]",
        ),
        ("Authorization", "Host", "own.toml:19: request.headers.Host: host is set by postrider itself; remove it"),
        (
            "throttled = \"throttled\"",
            "throttled = \"slow\"",
            "own.toml:44: answer.codes.throttled: unknown value \"slow\"; \
            one of accepted, throttled, temporary, account, number, text, sender",
        ),
        ("5xx", "5x", "own.toml:54: answer.status.5x: no status of HTTP; expected one such as \"429\" or \"5xx\""),
        (
            "api_key = \"secret\"",
            "to = \"secret\"",
            "own.toml:9: account.to: there is a value {to} already; give it another name",
        ),
        (
            "delivered = \"delivered\"",
            "delivered = \"there\"",
            "own.toml:73: receipt.states.delivered: unknown value \"there\"; \
            one of underway, delivered, expired, undeliverable, rejected, unknown",
        ),
        ("from = \"/from\"\n", "", "own.toml:78: message.from: missing; add from = \"/from\""),
    ] {
        assert!(GENERIC.contains(from), "{from}");
        let wrong = description(&GENERIC.replacen(from, to, 1)).unwrap_err();
        assert!(wrong.starts_with(expected), "{wrong}\n--- for\n{to}");
    }
}

#[test]
fn wrong_recipes_are_told_what_would_be_right() {
    const HEAD: &str = "[request]\nurl = \"https://x\"\n[request.headers]\nX-A = \"{a}\"\n";
    for (steps, expected) in [
        (
            "name = \"a\"\nof = \"x\"\nwith = [\"sha256\"]\n",
            "own.toml:4: request.headers.X-A: {a} is no text but the octets of a digest; \
            end its steps with \"hex\" or \"base64\"",
        ),
        (
            "name = \"a\"\nof = \"x\"\nwith = [\"hmac_sha256\", \"hex\"]\n",
            "own.toml:5: request.value[0].key: missing; \
            add key = \"{secret}\" for the keyed digest",
        ),
        (
            "name = \"a\"\nof = \"x\"\nkey = \"k\"\nwith = [\"hex\"]\n",
            "own.toml:8: request.value[0].key: \
            no function of this value has a key; remove it, or add \"hmac_sha256\" to with",
        ),
        (
            "name = \"a\"\nof = \"x\"\nwith = [\"sha265\"]\n",
            "own.toml:8: request.value[0].with[0]: unknown value \"sha265\"; \
            did you mean \"sha256\"?",
        ),
        (
            "name = \"a\"\nwith = [\"hex\"]\n",
            "own.toml:5: request.value[0].of: missing; \
            add of = \"{body}\", or lines = [\"...\", \"...\"] to be joined",
        ),
        (
            "name = \"a\"\nof = \"x\"\nlines = [\"y\"]\nwith = [\"hex\"]\n",
            "own.toml:8: request.value[0].lines: \
            of and lines stand together; keep one of them",
        ),
        (
            "name = \"a\"\nlines = [\"{b}\"]\nwith = [\"hex\"]\n[[request.value]]\nname = \"b\"\nof = \"x\"\nwith = [\"hex\"]\n",
            "own.toml:7: request.value[0].lines: unknown value {b}; ",
        ),
    ] {
        let wrong = description(&format!("{HEAD}[[request.value]]\n{steps}[answer]\nid = \"/id\"\n")).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}\n--- for\n{steps}");
    }
    assert!(description("").unwrap_err().contains("request.url: missing"));
    assert!(description("[request").unwrap_err().starts_with("own.toml:1:"));
}

#[test]
fn those_that_come_with_postrider_are_right() {
    for (name, text) in SHIPPED {
        let read = description(text).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        assert!(text.starts_with("# "), "{name} opens with what it is about");
        assert!(read.receipt.is_some(), "{name}");
        assert_eq!(read.wants_templates(), ["aliyun", "aliyun-voice", "tencent"].contains(&name), "{name}");
    }
}

#[test]
fn every_key_value_and_function_has_its_sentence() {
    let docs = include_str!("../../../docs/http-carriers.md");
    let (_, mut asked) = read(Path::new("own.toml"), GENERIC);
    let steps = "[request]\nurl = \"https://x\"\n[[request.value]]\n[receipt]\n[receipt.check]\n[[receipt.value]]\n";
    asked.extend(read(Path::new("own.toml"), steps).1);
    assert!(asked.contains("request.value.with") && asked.contains("receipt.check.header"), "{asked:?}");
    let keys = asked.iter().map(|key| key.rsplit('.').next().unwrap().to_owned());
    let values = [TEXT_VALUES, TEMPLATE_VALUES, CALLBACK_URLS, REQUEST_VALUES, CALLBACK_VALUES].concat();
    let values = values.iter().map(|name| format!("{{{name}}}"));
    let functions = Function::WORDS.iter().map(|(word, _)| (*word).to_owned());
    let missing: Vec<_> =
        keys.chain(values).chain(functions).filter(|word| !docs.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "not in docs/http-carriers.md: {missing:?}");
}

proptest! {
    /// One slip anywhere in a description makes no panic, and what is read all the same has what it needs.
    #[test]
    fn a_slip_is_borne(at in any::<prop::sample::Index>(), put in "[\"{}=\\[\\].a-z0-9\n#]{0,3}", which in 0..SHIPPED.len()) {
        let text = SHIPPED[which].1;
        let mut chars: Vec<char> = text.chars().collect();
        let place = at.index(chars.len());
        chars.splice(place..=place, put.chars());
        let _ = description(&chars.into_iter().collect::<String>());
    }
}
