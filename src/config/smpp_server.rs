//! `[[smpp_listener]]`, `[smpp_server]` and a client's `smpp_…`: applications that submit texts by SMPP.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::{quantity, value};
use crate::ingress::bound::{Listener, Options};
use crate::policy::{BindTerms, SmppTerms};
use crate::sms::Alphabet;

/// Longest `system_id` (P34 section 5.2.1).
const SYSTEM_ID_OCTETS_MAX: usize = 15;

pub(super) fn listener(section: &mut Section<'_>) -> Option<Listener> {
    where_to_listen(section, "SMPP", r#""0.0.0.0:3550""#, "passwords and texts")
}

/// Where a listener listens and whether with TLS; `what` would be in clear without.
pub(super) fn where_to_listen(section: &mut Section<'_>, speaks: &str, example: &str, what: &str) -> Option<Listener> {
    const TLS: &[(&str, bool)] = &[("none", false), ("implicit", true)];
    let address = section.required("address", example, value::socket_address);
    let has_tls = section.notes.has("tls");
    let tls = section.or("tls", has_tls, value::word(TLS));
    let plaintext = section.or("plaintext", false, value::flag);
    let address = address?;
    if tls && !has_tls {
        section.mistake("tls", "there is no certificate", "add a [tls] table with certificate and private_key");
    }
    if !tls && !address.ip().is_loopback() {
        if plaintext {
            let advice = "let only a private network, or a proxy that speaks TLS, reach it";
            section.warn("plaintext", format!("{what} reach {address} in clear"), advice);
        } else {
            let right =
                "use tls = \"implicit\", listen on 127.0.0.1, or say plaintext = true if the network is private";
            let wrong = format!("{speaks} without TLS on an address that is not loopback");
            section.mistake("address", wrong, right);
        }
    }
    Some(Listener { address, tls })
}

/// What `data_coding` 0 may stand for.
pub(super) const ALPHABETS: &[(&str, Alphabet)] =
    &[("gsm7", Alphabet::Gsm7), ("latin1", Alphabet::Latin1), ("ascii", Alphabet::Ascii)];

/// `[smpp_server]`; what texts must fit is put there by whoever builds the server.
pub(super) fn server(section: &mut Section<'_>) -> Options {
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);
    let default = Options::default();
    Options {
        default_alphabet: section.or("default_alphabet", default.default_alphabet, value::word(ALPHABETS)),
        receipts_for: section.or("receipts_for", default.receipts_for, quantity::span(SECOND..=30 * DAY)),
        receipts_max: section.or("receipts", default.receipts_max, value::count(1..=100_000_000)),
        ..limits(section, default, "enquire_interval")
    }
}

/// What every protocol has; `enquire` is its word for how often a silent link is asked.
pub(super) fn limits(section: &mut Section<'_>, default: Options, enquire: &'static str) -> Options {
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);
    let short = || quantity::span(SECOND..=Duration::from_secs(3_600));
    // Idempotency keys, by which joined texts are known after a crash, are kept for a day.
    let join_within = quantity::span(SECOND..=DAY / 2);
    Options {
        connections_max: section.or("connections", default.connections_max, value::count(1..=100_000)),
        connections_per_peer_max: section.or(
            "connections_per_peer",
            default.connections_per_peer_max,
            value::count(1..=100_000),
        ),
        bind_timeout: section.or("bind_timeout", default.bind_timeout, short()),
        enquire_interval: section.or(enquire, default.enquire_interval, short()),
        response_timeout: section.or("response_timeout", default.response_timeout, short()),
        idle: section.or("idle", default.idle, quantity::span(SECOND..=365 * DAY)),
        delivery_window: section.or("delivery_window", default.delivery_window, value::count(1..=10_000)),
        join_within: section.or("join_within", default.join_within, join_within),
        joining_max: section.or("joining", default.joining_max, value::count(1..=1_000_000)),
        ..default
    }
}

/// A client's own.
pub(super) fn terms(section: &mut Section<'_>) -> SmppTerms {
    let terms = bind_terms(section, ["smpp_binds", "smpp_window", "smpp_rate", "smpp_class"]);
    SmppTerms { system_id: section.optional("smpp_system_id", system_id), terms }
}

/// What every protocol has, under its own keys.
pub(super) fn bind_terms(section: &mut Section<'_>, [binds, window, rate, class]: [&str; 4]) -> BindTerms {
    let default = BindTerms::default();
    BindTerms {
        binds: section.or(binds, default.binds, value::count(0..=10_000)),
        window: section.or(window, default.window, value::count(1..=100_000)),
        rate: section.or(rate, default.rate, quantity::rate),
        class: section.or(class, default.class, value::class),
    }
}

fn system_id(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    let text = value::ascii(SYSTEM_ID_OCTETS_MAX)(value)?;
    if text.is_empty() {
        return Err(Fault::new("an empty system_id", "leave it out: then it is the client's name"));
    }
    Ok(text.into())
}

/// Each `system_id` is one client's.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let own = |client: &crate::policy::Client| client.smpp.system_id.clone();
    for (n, client) in raw.clients.iter().enumerate() {
        let Some(id) = own(&client.value) else { continue };
        let taken = raw.clients.iter().enumerate().any(|(m, other)| {
            let others = own(&other.value);
            (m < n && others.as_ref() == Some(&id)) || (m != n && others.is_none() && *other.value.name == *id)
        });
        if taken {
            let wrong = format!("another client binds as \"{}\"", shortened(&id));
            notes.mistake(&client.key_of("smpp_system_id"), wrong, "give each client its own");
        }
    }
    if raw.smpp_listeners.is_empty() {
        return;
    }
    for client in &raw.clients {
        let (client, place) = (&client.value, client);
        let texts = client.channels.contains(&crate::model::Channel::Sms);
        if texts && client.smpp.system_id.is_none() && client.name.len() > SYSTEM_ID_OCTETS_MAX {
            let what = format!("\"{}\" is too long for a system_id: this client cannot bind by SMPP", client.name);
            notes.warn(&place.key_of("name"), what, "give it an smpp_system_id of at most 15 characters");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, good, mistakes};
    use crate::model::Class;

    #[test]
    fn what_cannot_be_is_said() {
        let client = "[[client]]\nname = \"a\"\npassword_file = \"p\"\nchannels = [\"sms\"]\n";
        for (text, said) in [
            ("[[smpp_listener]]\naddress = \"0.0.0.0:3550\"\ntls = \"none\"\n", "SMPP without TLS on an address"),
            ("[[smpp_listener]]\n", "smpp_listener[0].address"),
            ("[smpp_server]\njoin_within = \"13h\"\n", "smpp_server.join_within: \"13h\" is out of range"),
            ("[smpp_server]\ndefault_alphabet = \"gbk\"\n", "smpp_server.default_alphabet: "),
            (&format!("{client}smpp_system_id = \"1234567890123456\"\n"), "smpp_system_id: "),
            (&format!("{client}smpp_system_id = \"\"\n"), "an empty system_id"),
            (&format!("{client}smpp_rate = \"0/s\"\n"), "smpp_rate: bad rate"),
            (&format!("{client}smpp_window = 0\n"), "smpp_window: 0 is out of range"),
        ] {
            assert!(mistakes(text).contains(said), "{text}: {}", mistakes(text));
        }
    }

    #[test]
    fn a_system_id_is_one_clients() {
        let two = |first: &str, second: &str| {
            let client = |name: &str, more: &str| {
                let key = if name == "one" { "1" } else { "2" }.repeat(64);
                format!("[[client]]\nname = \"{name}\"\nchannels = [\"sms\"]\napi_keys = [\"sha256:{key}\"]\n{more}\n")
            };
            format!("{}{}", client("one", first), client("two", second))
        };
        let id = "smpp_system_id = \"x\"";
        assert!(mistakes(&two(id, id)).contains("another client binds as \"x\""));
        assert!(mistakes(&two("smpp_system_id = \"two\"", "")).contains("another client binds as \"two\""));
        let both = two("smpp_system_id = \"two\"", "smpp_system_id = \"one\"");
        let clients = good(&format!("{GOOD}{both}")).0.clients;
        let name = |id: &str| clients.of_system_id(id).map(|client| client.name.to_string());
        assert_eq!([name("one"), name("two"), name("three")], [Some("two".into()), Some("one".into()), None]);
    }

    #[test]
    fn defaults_and_what_is_said() {
        let text = format!(
            "{GOOD}[[smpp_listener]]\naddress = \"127.0.0.1:3550\"\ntls = \"none\"\n[smpp_server]\nidle = \"5m\"\n\
             [[client]]\nname = \"s\"\napi_keys = [\"sha256:{}\"]\nchannels = [\"sms\"]\nsmpp_class = \"otp\"\nsmpp_binds = 7\n",
            "1".repeat(64)
        );
        let config = good(&text).0;
        assert!(!config.smpp_listeners[0].tls);
        assert_eq!(config.smpp_server.idle, Duration::from_secs(300));
        let terms = &config.clients.named("s").unwrap().smpp.terms;
        assert_eq!((terms.class, terms.binds, terms.window), (Class::Otp, 7, BindTerms::default().window));
    }
}
