//! What `[[carrier]]` says of SGIP alone: the node, fees, and how the gateway comes to us.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::relations::once;
use super::{Config, files, quantity, value};
use crate::egress::sms::{Callback, Sgip};
use crate::model::Secret;

/// The keys that only SGIP knows.
pub(super) const KEYS: &[&str] = &[
    "area_code",
    "corp_id",
    "given_value",
    "charge_number",
    "idle",
    "listen",
    "callback_login",
    "callback_password",
    "callback_password_file",
    "callback_password_env",
    "callback_from",
    "callback_connections",
    "callback_bind_timeout",
    "callback_idle",
];

/// Most octets of a password (S12, BIND).
pub(super) const PASSWORD_OCTETS_MAX: usize = 16;

const SPANS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// Reads them; what must be there is missed only if the carrier `speaks` SGIP. Who the gateway says to be is who we are, unless
/// it has a login of its own.
pub(super) fn keys(
    section: &mut Section<'_>,
    speaks: bool,
    system_id: Option<&str>,
    password: Option<&Secret>,
) -> Sgip {
    let default = Sgip::default();
    let mut digits = |key, example, range: std::ops::RangeInclusive<usize>| {
        let read = digits(range);
        let read = if speaks { section.required(key, example, read) } else { section.optional(key, read) };
        read.unwrap_or_default()
    };
    let area_code = digits("area_code", r#""010""#, 1..=4);
    let corp_id = digits("corp_id", r#""12345""#, 5..=5);
    Sgip {
        area_code,
        corp_id,
        given_value: section.or("given_value", default.given_value.clone(), value::ascii(6)),
        charge_number: section.or("charge_number", default.charge_number.clone(), value::ascii(21)),
        idle: section.or("idle", default.idle, quantity::span(SPANS)),
        callback: callback(section, speaks, system_id, password),
        ..default
    }
}

fn callback(section: &mut Section<'_>, speaks: bool, system_id: Option<&str>, password: Option<&Secret>) -> Callback {
    let default = Callback::default();
    let (listen, from) = if speaks {
        (
            section.required("listen", r#""0.0.0.0:8801""#, value::socket_address),
            section.required_list("callback_from", r#"["10.0.0.0/8"]"#, value::network),
        )
    } else {
        (section.optional("listen", value::socket_address), section.list("callback_from", value::network))
    };
    let login = section.optional("callback_login", value::ascii(16));
    let own = files::secret(section, ["callback_password", "callback_password_file", "callback_password_env"]);
    if let Some((key, secret)) = &own {
        check_password(section, key, secret);
    }
    let password = own.map(|(_, secret)| secret).or_else(|| password.cloned());
    Callback {
        listen: listen.unwrap_or(default.listen),
        login: login.unwrap_or_else(|| system_id.unwrap_or_default().to_owned()),
        password: password.unwrap_or(default.password),
        from: from.unwrap_or_default(),
        connections_max: section.or("callback_connections", default.connections_max, value::count(1..=1_000)),
        bind_timeout: section.or("callback_bind_timeout", default.bind_timeout, quantity::span(SPANS)),
        idle: section.or("callback_idle", default.idle, quantity::span(SPANS)),
    }
}

/// SGIP carries passwords in clear, in a field of its own.
pub(super) fn check_password(section: &Section<'_>, key: &str, secret: &Secret) {
    if secret.expose().is_empty() {
        section.mistake(key, "the password is empty", "write what was agreed with the carrier");
    }
    if secret.expose().contains('\0') || secret.expose().len() > PASSWORD_OCTETS_MAX {
        section.mistake(key, "the password holds a NUL or is longer than 16 octets", "SGIP cannot carry it");
    }
}

/// A number of one octet, as SGIP has FeeType; others have two characters there.
pub(super) fn fee_type(section: &Section<'_>, text: &str) -> u8 {
    match text.parse() {
        Ok(number @ 0..=9) if text.len() == 1 => number,
        _ => {
            let right = "write one digit: \"0\" or \"1\" free, \"2\" by the message, \"3\" by the month";
            section.mistake("fee_type", format!("\"{}\" is no FeeType of SGIP", shortened(text)), right);
            0
        }
    }
}

fn digits(range: std::ops::RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<String, Fault> {
    move |value| {
        let (least, most) = (*range.start(), *range.end());
        let right = if least == most { format!("{most} digits") } else { format!("{least} to {most} digits") };
        let right = format!("expected {right}, in quotes");
        let text = value::as_text(value, &right)?;
        if range.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(text.to_owned());
        }
        Err(Fault::new(format!("bad number \"{}\"", shortened(text)), right))
    }
}

/// Carriers that share a listener are told apart by what their gateways say.
pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    let logins = raw.carriers.iter().filter_map(|carrier| {
        let callback = carrier.value.protocol.callback()?;
        let said = carrier.key_of("callback_login");
        let key = if notes.has(&said) { said } else { carrier.key_of("system_id") };
        Some(((callback.listen, callback.login.clone()), key))
    });
    let wrong = |(listen, login): &(SocketAddr, String)| format!("another gateway comes to {listen} as \"{login}\"");
    once(notes, logins, wrong, "give each carrier its own callback_login, or its own listen");
}

/// Where carriers come to us, each address once, and the key of the first that names it.
pub(super) fn listening(raw: &RawConfig) -> Vec<(SocketAddr, String)> {
    let mut all: Vec<(SocketAddr, String)> = Vec::new();
    for carrier in &raw.carriers {
        let Some(callback) = carrier.value.protocol.callback() else { continue };
        if all.iter().all(|(address, _)| *address != callback.listen) {
            all.push((callback.listen, carrier.key_of("listen")));
        }
    }
    all
}

impl Config {
    /// Where carriers come to us, each address once, in the order of the file.
    pub fn callback_addresses(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for callback in self.carriers.iter().filter_map(|carrier| carrier.protocol.callback()) {
            if !all.contains(&callback.listen) {
                all.push(callback.listen);
            }
        }
        all
    }
}
