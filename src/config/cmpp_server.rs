//! `[[cmpp_listener]]`, `[cmpp_server]` and a client's `cmpp_…`: applications that submit texts by CMPP.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::{files, quantity, smpp_server, value};
use crate::ingress::bound::{Listener, Options};
use crate::policy::CmppTerms;

/// Longest SP_Id (C3 section 8.4.1.1).
const SP_ID_OCTETS_MAX: usize = 6;
/// The gateway's code has 22 bits.
const GATEWAY_MAX: u64 = 0x3F_FFFF;

pub(super) fn listener(section: &mut Section<'_>) -> Option<Listener> {
    smpp_server::where_to_listen(section, "CMPP", r#""0.0.0.0:7890""#, "texts")
}

/// `[cmpp_server]`; what texts must fit is put there by whoever builds the server.
pub(super) fn server(section: &mut Section<'_>) -> Options {
    const DAY: Duration = Duration::from_secs(86_400);
    // C3 section 7.1: C and T.
    let (active_test, response) = (Duration::from_secs(180), Duration::from_secs(60));
    let default = Options { enquire_interval: active_test, response_timeout: response, ..Options::default() };
    let gateway = section.or("gateway", u64::from(default.gateway), value::whole(0..=GATEWAY_MAX));
    let age = quantity::span_or_never(Duration::from_secs(1)..=DAY);
    Options {
        gateway: u32::try_from(gateway).unwrap_or_default(),
        login_age: section.or("login_age", default.login_age, age),
        numbers_max: section.or("numbers", default.numbers_max, value::count(1..=255)),
        ..smpp_server::limits(section, default, "active_test_interval")
    }
}

/// A client's own; none without an SP_Id.
pub(super) fn terms(section: &mut Section<'_>) -> Option<CmppTerms> {
    let sp_id = section.optional("cmpp_sp_id", sp_id);
    let secret = files::secret(section, ["cmpp_secret", "cmpp_secret_file", "cmpp_secret_env"]);
    let terms = smpp_server::bind_terms(section, ["cmpp_connections", "cmpp_window", "cmpp_rate", "cmpp_class"]);
    match (sp_id, secret) {
        (Some(sp_id), Some((_, secret))) => Some(CmppTerms { sp_id, secret, terms }),
        (Some(_), None) => {
            let right = "add cmpp_secret_file, or leave cmpp_sp_id out";
            section.mistake("cmpp_sp_id", "this client has an SP_Id and no secret", right);
            None
        }
        (None, Some((key, _))) => {
            section.mistake(key, "this client has a secret and no SP_Id", "add cmpp_sp_id, or leave it out");
            None
        }
        (None, None) => None,
    }
}

fn sp_id(value: &DeValue<'_>) -> Result<Arc<str>, Fault> {
    let text = value::ascii(SP_ID_OCTETS_MAX)(value)?;
    if text.is_empty() {
        return Err(Fault::new("an empty SP_Id", "leave it out: then the client does not use CMPP"));
    }
    Ok(text.into())
}

/// Each SP_Id is one client's, and somebody must be able to use a listener.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let ids = raw.clients.iter().filter_map(|client| Some((client.value.cmpp.as_ref()?.sp_id.clone(), client)));
    let ids = ids.map(|(id, client)| (id, client.key_of("cmpp_sp_id")));
    super::relations::once(
        notes,
        ids,
        |id| format!("another client logs in as \"{}\"", shortened(id)),
        "give each client its own",
    );
    let nobody = raw.clients.iter().all(|client| client.value.cmpp.is_none());
    if let Some(listener) = raw.cmpp_listeners.first().filter(|_| nobody) {
        let advice = "give a [[client]] cmpp_sp_id and cmpp_secret_file";
        notes.warn(&listener.key_of("address"), "no client can log in by CMPP", advice);
    }
}

#[cfg(test)]
mod tests {

    use crate::config::tests::{GOOD, good, mistakes};
    use crate::model::Class;

    fn client(name: &str, more: &str) -> String {
        let key = if name == "one" { "1" } else { "2" }.repeat(64);
        format!("[[client]]\nname = \"{name}\"\nchannels = [\"sms\"]\napi_keys = [\"sha256:{key}\"]\n{more}\n")
    }

    #[test]
    fn what_cannot_be_is_said() {
        let own = "cmpp_sp_id = \"900001\"\ncmpp_secret = \"s\"\n";
        for (text, said) in [
            ("[[cmpp_listener]]\naddress = \"0.0.0.0:7890\"\n".to_owned(), "CMPP without TLS on an address"),
            ("[[cmpp_listener]]\n".to_owned(), "cmpp_listener[0].address"),
            ("[cmpp_server]\ngateway = 4194304\n".to_owned(), "cmpp_server.gateway: 4194304 is out of range"),
            ("[cmpp_server]\nlogin_age = \"2d\"\n".to_owned(), "cmpp_server.login_age: \"2d\" is out of range"),
            (client("one", "cmpp_sp_id = \"9000011\""), "cmpp_sp_id: "),
            (client("one", "cmpp_sp_id = \"900001\""), "an SP_Id and no secret"),
            (client("one", "cmpp_secret = \"s\""), "a secret and no SP_Id"),
            (client("one", own) + &client("two", own), "another client logs in as \"900001\""),
        ] {
            assert!(mistakes(&text).contains(said), "{text}: {}", mistakes(&text));
        }
    }

    #[test]
    fn defaults_and_what_is_said() {
        let own = "cmpp_sp_id = \"900001\"\ncmpp_secret = \"sesame\"\ncmpp_class = \"otp\"\ncmpp_connections = 7";
        let text = format!(
            "{GOOD}[[cmpp_listener]]\naddress = \"127.0.0.1:7890\"\n[cmpp_server]\ngateway = 9\n{}",
            client("one", own)
        );
        let config = good(&text).0;
        assert_eq!((config.cmpp_listeners.len(), config.cmpp_listeners[0].tls), (1, false));
        assert_eq!((config.cmpp_server.gateway, config.cmpp_server.enquire_interval.as_secs()), (9, 180));
        let of_sp_id = config.clients.of_sp_id("900001").unwrap();
        let terms = of_sp_id.cmpp.as_ref().unwrap();
        assert_eq!((&*of_sp_id.name, terms.terms.class, terms.terms.binds), ("one", Class::Otp, 7));
        assert!(!format!("{of_sp_id:?}").contains("sesame"), "secrets are not shown");
    }
}
