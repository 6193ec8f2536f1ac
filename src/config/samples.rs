//! The samples under `config/`: right, complete, and each key with its sentence.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::de::DeTable;

use super::{Carrier, Config, Delivery, Dns, checked};
use crate::egress::email::TlsReportOptions;
use crate::egress::email::WarmupRules;
use crate::egress::sms::{Callback, Protocol, Smpp};
use crate::mail::dkim::{Algorithm, generate};
use crate::policy::SmppTerms;

/// What a password file of a client holds.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$iUr0/y4tJvPOFfd6fhwl20W04gQ56ZYXcroZnK3bAB4";

/// The samples, topic by topic; together they are one configuration.
const SAMPLES: [(&str, &str); 17] = [
    ("server.toml", include_str!("../../config/server.toml")),
    ("tls.toml", include_str!("../../config/tls.toml")),
    ("listeners.toml", include_str!("../../config/listeners.toml")),
    ("smpp.toml", include_str!("../../config/smpp.toml")),
    ("cmpp.toml", include_str!("../../config/cmpp.toml")),
    ("http.toml", include_str!("../../config/http.toml")),
    ("admin.toml", include_str!("../../config/admin.toml")),
    ("clients.toml", include_str!("../../config/clients.toml")),
    ("dkim.toml", include_str!("../../config/dkim.toml")),
    ("queue.toml", include_str!("../../config/queue.toml")),
    ("delivery.toml", include_str!("../../config/delivery.toml")),
    ("sources.toml", include_str!("../../config/sources.toml")),
    ("carriers.toml", include_str!("../../config/carriers.toml")),
    ("texts.toml", include_str!("../../config/texts.toml")),
    ("replies.toml", include_str!("../../config/replies.toml")),
    ("limits.toml", include_str!("../../config/limits.toml")),
    ("storage.toml", include_str!("../../config/storage.toml")),
];

/// What the samples name, next to them.
fn place_files(dir: &Path) {
    let dkim = generate(Algorithm::Ed25519).unwrap();
    for (name, content) in [
        ("certs/relay.crt", "-----BEGIN CERTIFICATE-----\n"),
        ("certs/relay.key", "-----BEGIN PRIVATE KEY-----\n"),
        ("certs/dkim/shop.example.com.pem", dkim.private_key_pem.expose()),
        ("certs/dkim/shop.example.com-ed.pem", dkim.private_key_pem.expose()),
        ("certs/newsletter.hash", HASH),
        ("certs/shop-cmpp.secret", "888888\n"),
        ("certs/cmcc-1.secret", "sesame\n"),
        ("certs/mta2.secret", "sesame\n"),
        ("certs/admin.token", "0123456789abcdef0123456789abcdef\n"),
    ] {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn the_samples_together_are_one_configuration_that_says_each_key_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    place_files(dir.path());
    let all: String = SAMPLES.iter().map(|(_, text)| format!("{text}\n")).collect();
    // Keys that exclude those shown stand behind `#`, like a default that is not shown otherwise.
    let (result, asked) =
        checked(&dir.path().join("all.toml"), &all, &|name| (name == "CTCC_1_PASSWORD").then(|| "sesame".to_owned()));
    let (_, warnings) = result.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(warnings, []);

    let documented = documented(&all);
    let missing: Vec<_> = asked.difference(&documented).collect();
    assert!(missing.is_empty(), "keys without a sentence in config/*.toml: {missing:?}");
    let stale: Vec<_> = documented.difference(&asked).collect();
    assert!(stale.is_empty(), "samples document what nobody reads: {stale:?}");
}

#[test]
fn the_samples_show_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    place_files(dir.path());
    let parse = |text: &str| {
        let (result, _) = checked(&dir.path().join("a.toml"), text, &|_| Some("sesame".to_owned()));
        result.unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).0
    };
    let all: String = SAMPLES.iter().map(|(_, text)| format!("{text}\n")).collect();
    let (shown, small) = (parse(&all), parse(include_str!("../../config/postrider.toml")));
    assert_eq!(shown.limits, small.limits);
    assert_eq!(shown.log, small.log);
    assert_eq!(shown.events, small.events);
    assert_eq!(shown.history, small.history);
    assert_eq!(shown.queue, small.queue);
    let (rules, defaults) = (&shown.texts.rules, &small.texts.rules);
    assert_eq!((&rules.opt_out_words, &rules.denied), (&defaults.opt_out_words, &defaults.denied));
    assert_eq!(
        (&rules.caps[..2], shown.texts.numbers_remembered),
        (&defaults.caps[..], small.texts.numbers_remembered)
    );
    let mut replies = shown.replies.clone();
    // A rule is nobody's default.
    assert_eq!(replies.options.rules.drain(..).count(), 1);
    assert_eq!(replies, small.replies);
    assert_eq!(shown.ported, small.ported);
    assert_eq!(format!("{:?}", shown.smpp_server), format!("{:?}", small.smpp_server));
    assert_eq!(format!("{:?}", shown.cmpp_server), format!("{:?}", small.cmpp_server));
    let terms = SmppTerms { system_id: None, ..shown.clients.named("shop").unwrap().smpp.clone() };
    assert_eq!(terms, SmppTerms::default());
    assert_eq!(Delivery { allow_private: vec![], ..shown.delivery }, small.delivery);
    assert_eq!(Dns { nameservers: vec![], ..shown.dns }, small.dns);
    let third = shown.sources.sources().find(|source| &*source.name == "mta3").unwrap();
    assert_eq!(third.warmup.as_ref().unwrap().rules, WarmupRules::default());
    assert_eq!(TlsReportOptions { reporter: None, ..shown.tls_reports }, small.tls_reports);
    // The second carrier says only what it must.
    let (first, second) = (&shown.carriers[0], &shown.carriers[1]);
    // Parameters beside texts are nobody's default.
    let Protocol::Smpp(account) = &first.protocol else { panic!("{:?}", first.protocol) };
    assert_eq!((account.extras.len(), account.templates.len()), (3, 1));
    let bare = Protocol::Smpp(Smpp { extras: Vec::new(), templates: Vec::new(), ..account.clone() });
    assert_eq!(
        (format!("{bare:?}"), first.binds, first.window, first.rate),
        (format!("{:?}", second.protocol), second.binds, second.window, second.rate),
    );
    // So do the fourth, of those that speak CMPP, the sixth, of those that speak SMGP, and the eighth, of SGIP.
    for pair in [2, 4] {
        let (all, least) = (&shown.carriers[pair], &shown.carriers[pair + 1]);
        assert_eq!(format!("{:?}", all.protocol), format!("{:?}", least.protocol));
        assert_eq!((all.enquire_interval, all.response_timeout), (least.enquire_interval, least.response_timeout));
    }
    let sgip = |carrier: &Carrier| {
        let Protocol::Sgip(own) = &carrier.protocol else { panic!("{carrier:?}") };
        let Callback { listen, connections_max, bind_timeout, idle, .. } = own.callback;
        let fees = (own.fee_type, own.fee_value.clone(), own.given_value.clone(), own.charge_number.clone());
        (
            fees,
            own.service_type.clone(),
            own.idle,
            carrier.response_timeout,
            listen,
            connections_max,
            bind_timeout,
            idle,
        )
    };
    assert_eq!(sgip(&shown.carriers[6]), sgip(&shown.carriers[7]));
    assert_eq!((first.enquire_interval, first.response_timeout), (second.enquire_interval, second.response_timeout));
}

/// Every key that a sample shows together with a comment: behind it, or in the lines above it.
fn documented(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let (mut table, mut commented) = (String::new(), false);
    for line in text.lines() {
        // A key that is shown but not set stands behind `#` without a space.
        let shown =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())).unwrap_or(line);
        if let Some(name) = shown.strip_prefix('[') {
            table = name.trim_start_matches('[').split(']').next().unwrap().to_owned();
            keys.insert(table.clone());
        } else if shown.starts_with('#') {
            commented = true;
            continue;
        } else if let Some((key, rest)) = shown.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            assert!(commented || rest.contains(" # "), "no sentence: {line}");
            keys.insert(format!("{table}.{key}"));
        }
        commented = false;
    }
    keys
}

#[test]
fn each_sample_is_right_on_its_own_but_for_what_the_others_hold() {
    for (name, text) in SAMPLES {
        let document = DeTable::parse(text);
        assert!(document.is_ok(), "{name}: {:?}", document.err());
        assert!(text.starts_with("# "), "{name} opens with what it is about");
    }
}

#[test]
fn the_small_sample_works_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    place_files(dir.path());
    let text = include_str!("../../config/postrider.toml");
    let (config, warnings) =
        Config::parse(&dir.path().join("postrider.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(warnings, []);
    assert!(config.http.is_some() && !config.listeners.is_empty());
}
