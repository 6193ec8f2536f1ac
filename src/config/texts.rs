//! `[[carrier]]`, `[[sms_route]]`: texts on their way out.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::Fault;
use super::reader::Section;
use super::{files, quantity, value};
use crate::model::{Rate, Secret, SenderId};
use crate::route::TextRoute;

/// `[[carrier]]`: one account with a carrier.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Its name, in routes, events and metrics.
    pub name: Arc<str>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: Arc<str>,
    /// Our name there: at most 15 octets (SMPP 3.4 section 5.2.1).
    pub system_id: String,
    /// Our password there.
    pub password: Secret,
    /// The kind of our system: at most 12 octets (SMPP 3.4 section 5.2.3).
    pub system_type: String,
    /// Binds held at once.
    pub binds: usize,
    /// Parts on their way without an answer, per bind.
    pub window: usize,
    /// Parts over all binds.
    pub rate: Rate,
    /// The sender shown where a message names none.
    pub from: Option<SenderId>,
    /// source_addr_ton of senders that are short codes or access numbers; that of others follows from their form.
    pub source_ton: u8,
    /// source_addr_npi of these.
    pub source_npi: u8,
    /// How often a quiet bind is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
}

/// How a carrier is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// SMPP 3.4.
    Smpp,
}

/// Passwords longer than this do not fit into SMPP 3.4's bind (section 5.2.2); some carriers take them all the same.
const SMPP_PASSWORD_OCTETS: usize = 8;

/// Passwords longer than this are not sent at all.
const PASSWORD_OCTETS_MAX: usize = 64;

pub(super) fn carrier(section: &mut Section<'_>) -> Option<Carrier> {
    let name = section.required("name", r#""cmcc-1""#, value::name);
    let protocol = section.required("protocol", r#""smpp""#, protocol);
    let address = section.required("address", r#""smpp.example.com:2775""#, value::host_and_port);
    let system_id = section.required("system_id", r#""postrider""#, value::ascii(15));
    let password = password(section);
    let system_type = section.or("system_type", String::new(), value::ascii(12));
    let binds = section.or("binds", 1, value::count(1..=64));
    let window = section.or("window", 16, value::count(1..=4_096));
    let rate = section.or("rate", Rate { count: 100, per: Duration::from_secs(1) }, quantity::rate);
    let from = section.optional("from", value::sender_id);
    let source_ton = section.or("source_ton", 0, octet(6));
    let source_npi = section.or("source_npi", 1, octet(18));
    let spans = Duration::from_secs(1)..=Duration::from_secs(600);
    let enquire_interval = section.or("enquire_interval", Duration::from_secs(30), quantity::span(spans.clone()));
    let response_timeout = section.or("response_timeout", Duration::from_secs(10), quantity::span(spans));
    Some(Carrier {
        name: name?,
        protocol: protocol?,
        address: address?,
        system_id: system_id?,
        password: password?,
        system_type,
        binds,
        window,
        rate,
        from,
        source_ton,
        source_npi,
        enquire_interval,
        response_timeout,
    })
}

pub(super) fn sms_route(section: &mut Section<'_>) -> Option<TextRoute> {
    let prefixes = section.required_list("prefixes", r#"["+86138"], or ["+"] for all"#, value::prefix);
    let carriers = section.required_list("carriers", r#"["cmcc-1"]"#, value::name);
    Some(TextRoute { prefixes: prefixes?, carriers: carriers?.into() })
}

fn protocol(value: &DeValue<'_>) -> Result<Protocol, Fault> {
    const LATER: [&str; 4] = ["cmpp", "sgip", "smgp", "http"];
    match value.as_str() {
        Some(word) if LATER.contains(&word) => {
            Err(Fault::new(format!("protocol \"{word}\" is not yet supported"), "this version speaks \"smpp\""))
        }
        _ => value::word(&[("smpp", Protocol::Smpp)])(value),
    }
}

/// A carrier's password, which must be there in one of its three forms.
fn password(section: &mut Section<'_>) -> Option<Secret> {
    match files::password(section) {
        Some((key, secret)) => {
            if secret.expose().len() > SMPP_PASSWORD_OCTETS {
                let advice = "SMPP 3.4 allows 8 octets; ask the carrier if the bind is refused";
                section.warn(key, "the password is longer than SMPP allows", advice);
            }
            if secret.expose().contains('\0') || secret.expose().len() > PASSWORD_OCTETS_MAX {
                section.mistake(key, "the password holds a NUL or is longer than 64 octets", "SMPP cannot carry it");
            }
            Some(secret)
        }
        None => {
            let forms = ["password", "password_file", "password_env"];
            if !forms.iter().any(|key| section.notes.has(&section.key_of(key))) {
                section.mistake("password", "missing", "add password_file = \"certs/cmcc-1.secret\"");
            }
            None
        }
    }
}

fn octet(most: u64) -> impl Fn(&DeValue<'_>) -> Result<u8, Fault> {
    move |value| value::whole(0..=most)(value).map(|n| u8::try_from(n).unwrap_or(u8::MAX))
}
