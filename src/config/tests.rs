//! Wrong configurations and the exact words they get.

mod http_carriers;
mod texts;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use texts::CARRIER;

use super::*;
use crate::model::{Channel, Class};

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$iUr0/y4tJvPOFfd6fhwl20W04gQ56ZYXcroZnK3bAB4";

/// A small configuration without a mistake; what a test adds starts on line 9.
pub(super) const GOOD: &str = r#"[server]
hostname = "relay.example.com"
[http]
address = "127.0.0.1:8025"
[[client]]
name = "shop"
api_keys = ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
senders = ["shop.example.com"]
"#;

fn parse(text: &str) -> Checked {
    checked(Path::new("relay.toml"), text, &|name| (name == "GOOD").then(|| "sesame".to_owned())).0
}

pub(super) fn good(text: &str) -> (Config, Vec<Warning>) {
    parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

/// The mistakes of [`GOOD`] with `more` behind it, one a line.
pub(super) fn mistakes(more: &str) -> String {
    complaints(&format!("{GOOD}{more}"))
}

fn complaints(text: &str) -> String {
    match parse(text) {
        Ok(_) => String::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn warnings(more: &str) -> String {
    let (_, warnings) = good(&format!("{GOOD}{more}"));
    warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
pub(super) fn check(more: &str, expected: &str) {
    assert_eq!(mistakes(more), expected, "\n--- for\n{more}");
}

#[test]
fn a_small_configuration_needs_little() {
    let (config, warnings) = good(GOOD);
    assert_eq!(warnings, []);
    assert_eq!(config.server.hostname.as_str(), "relay.example.com");
    assert_eq!(config.server.data_dir, Path::new("/var/lib/postrider"));
    assert_eq!(config.events.file, Path::new("/var/lib/postrider/events/events.jsonl"));
    let shop = config.clients.named("shop").unwrap();
    assert_eq!(shop.channels, [Channel::Email, Channel::Sms]);
    assert_eq!(shop.senders, ["shop.example.com"]);
    assert!(!config.http.unwrap().tls);
    assert_eq!(config.limits.message_bytes, 50 << 20);
    assert_eq!(config.delivery.smtp_port, 25);
}

#[test]
fn unknown_keys_and_tables_are_named_with_the_nearest_known() {
    check(
        "[limits]\nmesage_bytes = 1\nconections = 2\n[dellivery]\n",
        "relay.toml:10: limits.mesage_bytes: unknown key; did you mean \"message_bytes\"? (one of message_bytes, \
         receiving_bytes, recipients, connections, connections_per_peer, messages_per_connection, command_timeout, \
         data_rate_min, hops, \
         client_messages, client_bytes, queue_messages, queue_bytes)\n\
         relay.toml:11: limits.conections: unknown key; did you mean \"connections\"? (one of message_bytes, receiving_bytes, \
         recipients, connections, connections_per_peer, messages_per_connection, command_timeout, data_rate_min, hops, \
         client_messages, client_bytes, queue_messages, queue_bytes)\n\
         relay.toml:12: dellivery: unknown table; did you mean \"delivery\"? (one of server, tls, listener, http, smpp_listener, smpp_server, cmpp_listener, cmpp_server, admin, \
         client, dkim, dns, queue, delivery, source, warmup, pool, route, mta_sts, tls_reports, dane, tls_policy, carrier, sms_route, network, sending_hours, sms, sms_template, sms_cap, sms_price, replies, opt_outs, ported, reply_rule, limits, log, \
         events, history)",
    );
    check(
        "[queue.opt]\nretry = [\"1s\"]\n",
        "relay.toml:9: queue.opt: unknown table; did you mean \"otp\"? (one of retry, expire, otp, transactional, marketing, receipts_wait, receipts_in_memory)",
    );
}

#[test]
fn values_of_the_wrong_kind_say_what_would_be_right() {
    for (more, expected) in [
        (
            "[[listener]]\naddress = \"127.0.0.1:587\"\ntls = \"startls\"\n",
            "relay.toml:11: listener[0].tls: unknown value \"startls\"; did you mean \"starttls\"? (one of none, starttls, implicit)",
        ),
        (
            "[delivery]\nidle = 30\n",
            "relay.toml:10: delivery.idle: expected a string, found an integer; expected a duration such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"3d\"",
        ),
        (
            "[delivery]\nidle = \"30 seconds\"\n",
            "relay.toml:10: delivery.idle: bad duration \"30 seconds\"; expected a duration such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"3d\"",
        ),
        (
            "[delivery]\nidle = \"2h\"\n",
            "relay.toml:10: delivery.idle: \"2h\" is out of range; expected \"0ms\" to \"10m\"",
        ),
        (
            "[delivery]\nsmtp_port = 65536\n",
            "relay.toml:10: delivery.smtp_port: 65536 is out of range; expected a whole number from 1 to 65535",
        ),
        (
            "[delivery]\nsmtp_port = -1\n",
            "relay.toml:10: delivery.smtp_port: -1 is out of range; expected a whole number from 1 to 65535",
        ),
        (
            "[delivery]\nallow_private = \"127.0.0.0/8\"\n",
            "relay.toml:10: delivery.allow_private: expected an array, found a string; write it in brackets",
        ),
        (
            "[delivery]\nallow_private = [\"127.0.0.0/8\",\n \"10.0.0.0/99\"]\n",
            "relay.toml:11: delivery.allow_private[1]: bad network \"10.0.0.0/99\"; expected a network such as \"10.1.0.0/16\" or \"2001:db8::/32\", or one address",
        ),
        (
            "[limits]\nmessage_bytes = \"1GiB\"\n",
            "relay.toml:10: limits.message_bytes: \"1GiB\" is out of range; expected \"1KiB\" to \"256MiB\"",
        ),
        (
            "[admin]\naddress = \"localhost:8026\"\n",
            "relay.toml:10: admin.address: bad address \"localhost:8026\"; expected an IP address with a port, such as \"0.0.0.0:587\" or \"[::]:587\"",
        ),
        (
            "[[route]]\ndomains = []\nnext_hop = \"mail.example.net\"\n",
            "relay.toml:10: route[0].domains: empty; expected domains = [\"example.net\"]\n\
             relay.toml:11: route[0].next_hop: bad address \"mail.example.net\"; expected a host and a port, such as \"mail.example.com:25\", \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
        ),
        (
            "[queue]\nretry = []\nexpire = \"3 days\"\n",
            "relay.toml:10: queue.retry: the schedule is empty; expected one or more pauses, such as [\"1m\", \"5m\"]\n\
             relay.toml:11: queue.expire: bad duration \"3 days\"; expected a duration such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"3d\"",
        ),
        (
            "dns = 3\n",
            "relay.toml:9: client[0].dns: unknown key; one of name, password, password_file, password_env, api_keys, channels, senders, numbers, countries, signatures, templates_only, bounces, transliterate, velocity, daily_spend, smpp_binds, smpp_window, smpp_rate, smpp_class, smpp_system_id, cmpp_sp_id, cmpp_secret, cmpp_secret_file, cmpp_secret_env, cmpp_connections, cmpp_window, cmpp_rate, cmpp_class",
        ),
        (
            "[listener]\naddress = \"127.0.0.1:587\"\n",
            "relay.toml:9: listener: expected an array of tables, found a table; write [[listener]] above the keys of each",
        ),
        (
            "[[history]]\nhours = 1\n",
            "relay.toml:9: history: expected a table, found an array; write [history] above its keys",
        ),
    ] {
        check(more, expected);
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    assert_eq!(
        complaints(""),
        "relay.toml:1: server.hostname: missing; add hostname = \"relay.example.com\"\n\
         relay.toml:1: listener: nothing listens: no message could come in; add a [[listener]] or an [http] table\n\
         relay.toml:1: client: no client: nobody could submit; add a [[client]] table"
    );
    check(
        "[[carrier]]\nname = \"a\"\n",
        "relay.toml:9: carrier[0].protocol: missing; add protocol = \"smpp\"\n\
         relay.toml:9: carrier[0].address: missing; add address = \"smpp.example.com:2775\"\n\
         relay.toml:9: carrier[0].system_id: missing; add system_id = \"postrider\"\n\
         relay.toml:9: carrier[0].password: missing; add password_file = \"certs/cmcc-1.secret\"",
    );
    check(
        "[tls]\n",
        "relay.toml:9: tls.certificate: missing; add certificate = \"certs/relay.crt\"\n\
         relay.toml:9: tls.private_key: missing; add private_key = \"certs/relay.key\"",
    );
}

#[test]
fn toml_mistakes_come_alone_with_line_and_column() {
    let text = "[server]\nhostname = \"relay.example.com\nunknown = 1\n";
    let found = parse(text).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].line, found[0].column, found[0].key.as_str()), (2, 30, ""));
    let shown = found[0].to_string();
    assert!(shown.starts_with("relay.toml:2:30: "), "{shown}");
    assert_eq!(shown.lines().count(), 1, "{shown}");
    let twice = complaints("[server]\nhostname = \"a.b\"\nhostname = \"a.b\"\n");
    assert!(twice.starts_with("relay.toml:3:1: duplicate key"), "{twice}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let found = Config::load(Path::new("/nonexistent/relay.toml")).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with("/nonexistent/relay.toml: cannot be read: No such file"), "{}", found[0]);
    let found = Config::load(Path::new("/")).unwrap_err();
    assert!(found[0].to_string().starts_with("/: cannot be read: not a regular file"), "{}", found[0]);
}

#[test]
fn the_data_directory_is_told_whatever_else_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Config::data_dir(&file)
    };
    assert_eq!(told("[server]\ndata_dir = \"state\"\n[wrong]\n"), Ok(dir.path().join("state")));
    assert_eq!(told(""), Ok("/var/lib/postrider".into()));
    assert_eq!(told("[server]\ndata_dir = 3\n").unwrap_err().key, "server.data_dir");
    assert_eq!(told("[server\n").unwrap_err().line, 1);
}

#[test]
fn listeners_keep_passwords_inside_tls() {
    let listener = |keys: &str| mistakes(&format!("[[listener]]\naddress = \"192.0.2.1:587\"\n{keys}\n"));
    assert_eq!(
        listener(""),
        "relay.toml:9: listener[0].tls: there is no certificate; add a [tls] table with certificate and private_key, or tls = \"none\""
    );
    assert_eq!(
        listener("tls = \"none\""),
        "relay.toml:9: listener[0].auth: AUTH is offered inside TLS only, and this listener has none; use tls = \"starttls\" or \"implicit\", or auth = \"none\" with trusted peers"
    );
    assert_eq!(
        listener("tls = \"none\"\nplaintext_auth = true"),
        "relay.toml:12: listener[0].plaintext_auth: passwords would cross the network in clear to 192.0.2.1:587; allowed on loopback addresses only; use tls = \"starttls\""
    );
    let here = "[[listener]]\naddress = \"[::1]:587\"\ntls = \"none\"\nplaintext_auth = true\n";
    check(here, "");
    check(
        &here.replace("plaintext_auth = true\n", ""),
        "relay.toml:9: listener[0].auth: AUTH is offered inside TLS only, and this listener has none; use tls = \"starttls\", auth = \"none\", or plaintext_auth = true",
    );
}

#[test]
fn trusted_peers_act_as_somebody() {
    let listener = |keys: &str| {
        mistakes(&format!("[[listener]]\naddress = \"192.0.2.1:25\"\ntls = \"none\"\nauth = \"none\"\n{keys}\n"))
    };
    assert_eq!(listener("trusted = [\"10.1.0.0/16\"]\ntrusted_client = \"shop\""), "");
    assert_eq!(
        listener("trusted = [\"10.1.0.0/16\"]"),
        "relay.toml:13: listener[0].trusted: nobody is named that these peers act as; add trusted_client"
    );
    assert_eq!(
        listener("trusted_client = \"shop\""),
        "relay.toml:13: listener[0].trusted_client: no peers are named; add trusted = [\"10.1.0.0/16\"]"
    );
    assert_eq!(
        listener("trusted = [\"10.1.0.0/16\"]\ntrusted_client = \"shpo\""),
        "relay.toml:14: listener[0].trusted_client: unknown client \"shpo\"; did you mean \"shop\"? (one of shop)"
    );
    assert_eq!(
        listener("trusted = [\"0.0.0.0/0\"]\ntrusted_client = \"shop\""),
        "relay.toml:13: listener[0].trusted: everybody could send through this relay; name the networks of your own machines"
    );
    assert_eq!(
        listener(""),
        "relay.toml:12: listener[0].auth: nobody could submit here; add trusted and trusted_client, or use AUTH"
    );
}

#[test]
fn http_in_clear_is_asked_for() {
    let text = GOOD.replace("127.0.0.1:8025", "0.0.0.0:8025");
    assert_eq!(
        complaints(&text),
        "relay.toml:4: http.address: HTTP without TLS on an address that is not loopback; add a [tls] table, listen on 127.0.0.1, or say plaintext = true if a proxy in front speaks TLS"
    );
    let asked = text.replace("[[client]]", "plaintext = true\n[[client]]");
    let (_, warnings) = good(&asked);
    assert_eq!(
        warnings[0].to_string(),
        "relay.toml:5: http.plaintext: API keys and messages reach 0.0.0.0:8025 in clear; let only a proxy that speaks TLS reach it"
    );
    assert_eq!(
        complaints(&text.replace("[[client]]", "tls = true\n[[client]]")),
        "relay.toml:5: http.tls: there is no certificate; add a [tls] table with certificate and private_key"
    );
    assert!(warnings_of_admin().starts_with("relay.toml:10: admin.address: 0.0.0.0:8026 is not loopback"));
}

#[test]
fn a_token_of_operators_is_long_and_does_not_cross_a_network_in_clear() {
    let admin = |address: &str, more: &str| format!("[admin]\naddress = \"{address}\"\n{more}\n");
    let token = "token = \"0123456789abcdef01234567\"";
    let (config, _) = good(&format!("{GOOD}{}", admin("127.0.0.1:8026", token)));
    assert!(config.admin.unwrap().token.unwrap().matches(b"0123456789abcdef01234567"));
    let (config, _) = good(&format!("{GOOD}{}", admin("127.0.0.1:8026", "")));
    assert!(config.admin.unwrap().token.is_none());
    for weak in ["sesame", "0123456789abcdef0123456", "0123456789abcdef 0123456", "0123456789abcdef0123456ä"] {
        check(
            &admin("127.0.0.1:8026", &format!("token = \"{weak}\"")),
            "relay.toml:11: admin.token: the token could be guessed, or does not fit into a header field; expected 24 or more ASCII letters, digits and signs: openssl rand -hex 32",
        );
    }
    check(
        &admin("127.0.0.1:8026", "token_env = \"TOKEN\""),
        "relay.toml:11: admin.token_env: environment variable TOKEN is not set; set it in the environment of the relay, and of check",
    );
    check(
        &admin("127.0.0.1:8026", &format!("{token}\ntoken_env = \"GOOD\"")),
        "relay.toml:12: admin.token_env: token and token_env stand together; keep one of them",
    );
    check(
        &admin("0.0.0.0:8026", token),
        "relay.toml:11: admin.token: a token would cross the network in clear; listen on 127.0.0.1, or say plaintext = true if a proxy in front speaks TLS or the network is private",
    );
    assert_eq!(
        warnings(&admin("0.0.0.0:8026", &format!("{token}\nplaintext = true"))),
        "relay.toml:12: admin.plaintext: the token reaches 0.0.0.0:8026 in clear; let only a proxy that speaks TLS, or your own private network, reach it"
    );
}

fn warnings_of_admin() -> String {
    warnings("[admin]\naddress = \"0.0.0.0:8026\"\n")
}

#[test]
fn one_address_has_one_listener() {
    let local =
        |port: u16| format!("[[listener]]\naddress = \"127.0.0.1:{port}\"\ntls = \"none\"\nplaintext_auth = true\n");
    check(
        &format!("{}{}", local(587), local(587)),
        "relay.toml:14: listener[1].address: 127.0.0.1:587 is taken (listener[0].address); give each its own address or port",
    );
    check(
        "[admin]\naddress = \"127.0.0.1:8025\"\n",
        "relay.toml:10: admin.address: 127.0.0.1:8025 is taken (http.address); give each its own address or port",
    );
    check(&format!("{}{}", local(0), local(0)), "");
}

#[test]
fn clients_have_names_credentials_and_something_to_send() {
    check(
        "[[client]]\nname = \"shop\"\npassword = \"x\"\nchannels = [\"emial\"]\n",
        "relay.toml:10: client[1].name: the name \"shop\" is taken (client[0].name); give each client its own name\n\
         relay.toml:11: client[1].password: not a password hash; expected a hash made by: postrider hash-password\n\
         relay.toml:12: client[1].channels[0]: unknown value \"emial\"; did you mean \"email\"? (one of email, sms)",
    );
    check(
        "[[client]]\nname = \"b\"\nchannels = [\"sms\"]\n",
        "relay.toml:10: client[1].name: nobody can act as this client; add a password, api_keys or a cmpp_sp_id, or name it as a listener's trusted_client",
    );
    check(
        &format!("[[client]]\nname = \"b\"\npassword = \"{HASH}\"\n"),
        "relay.toml:9: client[1].senders: this client may use email but send as no domain; add senders = [\"shop.example.com\"], or leave email out of channels",
    );
    check(
        "[[client]]\nname = \"b\"\nsenders = [\"*\"]\napi_keys = [\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n",
        "relay.toml:12: client[1].api_keys[0]: this key is named twice (client[0].api_keys[0]); give each client keys of its own",
    );
    assert_eq!(
        warnings(&format!("[[client]]\nname = \"b\"\npassword = \"{HASH}\"\nchannels = [\"sms\"]\n")),
        "relay.toml:12: client[1].channels: texts have nowhere to go; add [[carrier]] and [[sms_route]]"
    );
}

#[test]
fn routes_do_not_contradict_each_other() {
    let route = |domain: &str| format!("[[route]]\ndomains = [\"{domain}\"]\nnext_hop = \"127.0.0.1:2526\"\n");
    check(
        &format!("{}{}", route("*.example.net"), route("*.Example.NET")),
        "relay.toml:13: route[1].domains[0]: \"*.example.net\" has a route already (route[0].domains[0]); name each domain once",
    );
    check(
        "[limits]\nconnections = 10\nconnections_per_peer = 11\n",
        "relay.toml:11: limits.connections_per_peer: a share larger than the whole, connections; lower it or raise connections",
    );
    check(
        "[limits]\nmessage_bytes = \"200MiB\"\nreceiving_bytes = \"300MiB\"\n",
        "relay.toml:11: limits.receiving_bytes: receiving_bytes is less than twice message_bytes; raise receiving_bytes or lower message_bytes",
    );
}

#[test]
fn retry_goes_from_class_to_general_to_built_in() {
    let minutes = |m: u64| Duration::from_secs(60 * m);
    let (config, _) = good(GOOD);
    assert_eq!(config.queue.of(Class::Otp).schedule, [5, 10, 20].map(Duration::from_secs));
    assert_eq!(config.queue.of(Class::Otp).expire, minutes(5));
    assert_eq!(config.queue.of(Class::Transactional).schedule, [1, 5, 15, 30, 60, 120, 240].map(minutes));
    assert_eq!(config.queue.of(Class::Transactional).expire, minutes(3 * 24 * 60));
    assert_eq!(config.queue.of(Class::Marketing).expire, minutes(24 * 60));

    let (config, _) =
        good(&format!("{GOOD}[queue]\nretry = [\"2m\"]\nexpire = \"6h\"\n[queue.marketing]\nexpire = \"4d\"\n"));
    assert_eq!(config.queue.otp.schedule, [5, 10, 20].map(Duration::from_secs));
    assert_eq!(config.queue.otp.expire, minutes(5));
    let times = |of: &Retry| (of.schedule.clone(), of.expire);
    assert_eq!(times(&config.queue.transactional), (vec![minutes(2)], minutes(360)));
    assert_eq!(times(&config.queue.marketing), (vec![minutes(2)], minutes(4 * 24 * 60)));
}

#[test]
fn files_are_loaded_and_open_secrets_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("relay.crt", "-----BEGIN CERTIFICATE-----\n", 0o644);
    write("relay.key", "-----BEGIN PRIVATE KEY-----\nhunter2\n", 0o644);
    write("dkim.pem", "hunter2", 0o600);
    write("damaged.pem", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", 0o600);
    let file = dir.path().join("relay.toml");
    let text = format!("{GOOD}[tls]\ncertificate = \"relay.crt\"\nprivate_key = \"relay.key\"\n");
    let (config, warnings) = Config::parse(&file, &text).unwrap();
    assert_eq!(config.tls.as_ref().unwrap().certificate, b"-----BEGIN CERTIFICATE-----\n");
    assert!(config.http.as_ref().unwrap().tls, "TLS is the default where there is a certificate");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "tls.private_key");
    assert!(!format!("{config:?}{warnings:?}").contains("hunter2"));

    let text = format!(
        "{GOOD}[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nprivate_key = \"dkim.pem\"\n\
         [[dkim]]\ndomain = \"a.example\"\nselector = \"t\"\nprivate_key = \"none.pem\"\n\
         [[dkim]]\ndomain = \"a.example\"\nselector = \"u\"\nprivate_key = \"damaged.pem\"\n"
    );
    let found = Config::parse(&file, &text).unwrap_err();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(found[2].key, "dkim[2].private_key");
    assert_eq!((found[0].line, found[0].key.as_str()), (12, "dkim[0].private_key"));
    assert!(found[0].wrong.ends_with("dkim.pem holds no private key"), "{}", found[0]);
    assert!(found[1].wrong.contains("none.pem: No such file"), "{}", found[1]);
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn a_provider_table_is_checked_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let parse = |table: &str| {
        std::fs::write(dir.path().join("mine.toml"), table).unwrap();
        Config::parse(&file, &format!("{GOOD}[delivery]\nproviders = \"mine.toml\"\n"))
    };
    let (config, _) = parse("[[provider]]\nname = \"any\"\n").unwrap();
    assert_eq!(config.delivery.providers.providers().len(), 1);
    let (config, _) = good(GOOD);
    assert_eq!(config.delivery.providers, crate::provider::Table::shipped(), "without the key it is the shipped one");

    let found = parse("[[provider]]\nname = \"any\"\nconnections = 0\n[[provider]]\nname = \"a\"\n").unwrap_err();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let at = dir.path().join("mine.toml").display().to_string();
    let first = format!("{at}:3: provider[0].connections: bad number; expected a whole number from 1 to 1000000");
    assert_eq!(shown, [first, format!("{at}:4: provider[1].mx: missing; add mx = [\"google.com\"]")]);

    std::fs::remove_file(dir.path().join("mine.toml")).unwrap();
    let found = Config::parse(&file, &format!("{GOOD}[delivery]\nproviders = \"mine.toml\"\n")).unwrap_err();
    assert_eq!((found.len(), found[0].line, found[0].key.as_str()), (1, 10, "delivery.providers"));
}

proptest! {
    /// Lines that could stand in a configuration, in any order, with any values.
    #[test]
    fn no_text_makes_the_reader_panic(lines in proptest::collection::vec(LINES, 0..12), rest in "\\PC{0,20}") {
        let _ = complaints(&format!("{}{rest}", lines.join("\n")));
    }
}

const LINES: &str = "\\[(server|tls|http|queue|queue\\.otp|limits|log|carrier|client)\\]|\\[\\[(listener|client|carrier|sms_route|route|dkim)\\]\\]|\
    (hostname|address|tls|name|password|password_env|api_keys|retry|expire|senders|trusted|carriers|prefixes|rate|binds|domains) = \
    (\"[a-z0-9:./+*$ -]{0,12}\"|\\[\"[a-z0-9:./+*-]{0,9}\"\\]|[0-9-]{1,20}|true|\\[\\]|\\{\\}|[0-9.]{1,5}|inf|1979-05-27)";

#[test]
fn secrets_are_in_no_message_and_no_debug() {
    let key = "sha256:hunter2";
    let text = format!(
        "[[client]]\nname = \"b\"\npassword = \"hunter2\"\napi_keys = [\"{key}\", \"hunter2\"]\nsenders = [\"*\"]\n{}",
        CARRIER.replace("password_env = \"GOOD\"", "password = \"hunter2\\u0000\"")
    );
    let found = parse(&format!("{GOOD}{text}")).unwrap_err();
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");
    for wrong_type in ["password = 12345678", "password = [\"12345678\"]", "password_file = 12345678"] {
        let shown = mistakes(&CARRIER.replace("password_env = \"GOOD\"", wrong_type));
        assert!(!shown.is_empty() && !shown.contains("12345678"), "{shown}");
    }
    let shown = mistakes(&CARRIER.replace("\"GOOD\"", "\"hunter2\""));
    assert!(shown.contains("not the name of an environment variable") && !shown.contains("hunter2"), "{shown}");
    for syntax in [
        "password = hunter2",
        "password = \"hunter2",
        "password \"hunter2\"",
        "password = 'hunter2\"",
        "password = \"hunter2\\q\"",
        "password = \"hunter2\" \"hunter2\"",
    ] {
        let shown = mistakes(&format!("[[carrier]]\n{syntax}\n"));
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{syntax}: {shown}");
    }
    let (config, _) = good(&format!("{GOOD}{}", CARRIER.replace("password_env = \"GOOD\"", "password = \"hunter2\"")));
    assert!(!format!("{config:?}").contains("hunter2"));
}
