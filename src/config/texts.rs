//! `[[carrier]]`: accounts by which texts leave.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::Fault;
use super::reader::Section;
use super::{files, quantity, value};
use crate::egress::sms::{Cmpp, Protocol, Smpp};
use crate::model::{Rate, Secret, SenderId};
use crate::wire::cmpp::Version;
use crate::wire::cmpp::auth::NameForm;

/// `[[carrier]]`: one account with a carrier.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Its name, in routes, events and metrics.
    pub name: Arc<str>,
    /// How it is spoken to, with what only that way knows of.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: Arc<str>,
    /// Our name there: at most 15 octets (SMPP 3.4 section 5.2.1), 6 in CMPP.
    pub system_id: String,
    /// Our password there.
    pub password: Secret,
    /// Binds held at once.
    pub binds: usize,
    /// Parts on their way without an answer, per bind.
    pub window: usize,
    /// Parts over all binds.
    pub rate: Rate,
    /// The sender shown where a message names none.
    pub from: Option<SenderId>,
    /// How often a quiet bind is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
}

/// What a carrier's `protocol` may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoken {
    Smpp,
    Cmpp(Version),
}

impl Spoken {
    const WORDS: &[(&str, Self)] =
        &[("smpp", Self::Smpp), ("cmpp2", Self::Cmpp(Version::V2)), ("cmpp3", Self::Cmpp(Version::V3))];

    /// Keys that only SMPP knows, and that only CMPP knows.
    const SMPP_KEYS: [&str; 3] = ["system_type", "source_ton", "source_npi"];
    const CMPP_KEYS: [&str; 7] =
        ["service_id", "msg_src", "fee_user_type", "fee_type", "fee_code", "system_id_padded", "enquire_tries"];

    /// Silence before a carrier is asked whether it lives, and time for its answers: CMPP's are C and T of C3 section 7.1.
    fn patience(self) -> (Duration, Duration) {
        let (interval, timeout) = match self {
            Self::Smpp => (30, 10),
            Self::Cmpp(_) => (180, 60),
        };
        (Duration::from_secs(interval), Duration::from_secs(timeout))
    }
}

/// Passwords longer than this do not fit into SMPP 3.4's bind (section 5.2.2); some carriers take them all the same.
const SMPP_PASSWORD_OCTETS: usize = 8;

/// Passwords longer than this are not sent at all.
const PASSWORD_OCTETS_MAX: usize = 64;

pub(super) fn carrier(section: &mut Section<'_>) -> Option<Carrier> {
    let name = section.required("name", r#""cmcc-1""#, value::name);
    let spoken = section.required("protocol", r#""smpp""#, protocol);
    let cmpp = matches!(spoken, Some(Spoken::Cmpp(_)));
    let address = section.required("address", r#""smpp.example.com:2775""#, value::host_and_port);
    let example = if cmpp { r#""900001""# } else { r#""postrider""# };
    let system_id = section.required("system_id", example, value::ascii(if cmpp { 6 } else { 15 }));
    let password = password(section, cmpp);
    let binds = section.or("binds", 1, value::count(1..=64));
    let window = section.or("window", 16, value::count(1..=4_096));
    let rate = section.or("rate", Rate { count: 100, per: Duration::from_secs(1) }, quantity::rate);
    let from = if cmpp {
        section.required("from", r#""10690001""#, number)
    } else {
        section.optional("from", value::sender_id)
    };
    let spans = Duration::from_secs(1)..=Duration::from_secs(600);
    let (interval, timeout) = spoken.unwrap_or(Spoken::Smpp).patience();
    let enquire_interval = section.or("enquire_interval", interval, quantity::span(spans.clone()));
    let response_timeout = section.or("response_timeout", timeout, quantity::span(spans));
    let (smpp_keys, cmpp_keys) = (smpp_keys(section), cmpp_keys(section));
    let protocol = match spoken? {
        Spoken::Smpp => {
            refuse(section, &Spoken::CMPP_KEYS, "CMPP", "\"cmpp2\" or \"cmpp3\"");
            Protocol::Smpp(smpp_keys)
        }
        Spoken::Cmpp(version) => {
            refuse(section, &Spoken::SMPP_KEYS, "SMPP", "\"smpp\"");
            Protocol::Cmpp(Cmpp { version, ..cmpp_keys })
        }
    };
    if cmpp && from.is_none() {
        return None;
    }
    Some(Carrier {
        name: name?,
        protocol,
        address: address?,
        system_id: system_id?,
        password: password?,
        binds,
        window,
        rate,
        from,
        enquire_interval,
        response_timeout,
    })
}

fn smpp_keys(section: &mut Section<'_>) -> Smpp {
    let default = Smpp::default();
    Smpp {
        // At most 12 octets (SMPP 3.4 section 5.2.3).
        system_type: section.or("system_type", default.system_type, value::ascii(12)),
        short_ton: section.or("source_ton", default.short_ton, octet(6)),
        short_npi: section.or("source_npi", default.short_npi, octet(18)),
        validity: default.validity,
    }
}

/// Widths are those of C3 section 8.4.3.1.
fn cmpp_keys(section: &mut Section<'_>) -> Cmpp {
    let default = Cmpp::default();
    let padded = section.or("system_id_padded", default.name_form == NameForm::Padded, value::flag);
    Cmpp {
        version: default.version,
        service_id: section.or("service_id", default.service_id, value::ascii(10)),
        msg_src: section.or("msg_src", default.msg_src, value::ascii(6)),
        // 3 would name a number that pays, which we do not know of.
        fee_user_type: section.or("fee_user_type", default.fee_user_type, octet(2)),
        fee_type: section.or("fee_type", default.fee_type, value::ascii(2)),
        fee_code: section.or("fee_code", default.fee_code, value::ascii(6)),
        name_form: if padded { NameForm::Padded } else { NameForm::Bare },
        active_tests_max: u32::from(section.or("enquire_tries", 3, octet_from(1, 100))),
    }
}

/// Keys of the protocol that this carrier does not speak.
fn refuse(section: &Section<'_>, keys: &[&str], whose: &str, protocol: &str) {
    for key in keys {
        if section.notes.has(&section.key_of(key)) {
            let wrong = format!("only {whose} knows {key}, and this carrier speaks another protocol");
            section.mistake(key, wrong, format!("remove it, or set protocol = {protocol}"));
        }
    }
}

fn protocol(value: &DeValue<'_>) -> Result<Spoken, Fault> {
    const LATER: [&str; 3] = ["sgip", "smgp", "http"];
    match value.as_str() {
        Some(word) if LATER.contains(&word) => {
            let right = "this version speaks \"smpp\", \"cmpp2\" and \"cmpp3\"";
            Err(Fault::new(format!("protocol \"{word}\" is not yet supported"), right))
        }
        Some("cmpp") => {
            let right = "ask the carrier, and write \"cmpp2\" or \"cmpp3\"";
            Err(Fault::new("CMPP has two versions that do not understand each other", right))
        }
        _ => value::word(Spoken::WORDS)(value),
    }
}

/// A sender that CMPP can show: the access number.
fn number(value: &DeValue<'_>) -> Result<SenderId, Fault> {
    match value::sender_id(value)? {
        SenderId::Name(_) => Err(Fault::new("CMPP shows no names", "write the access number, such as \"10690001\"")),
        number => Ok(number),
    }
}

/// A carrier's password, which must be there in one of its three forms.
fn password(section: &mut Section<'_>, hashed: bool) -> Option<Secret> {
    match files::password(section) {
        // CMPP sends a hash of it, whatever its length.
        Some((_, secret)) if hashed => Some(secret),
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
    octet_from(0, most)
}

fn octet_from(least: u64, most: u64) -> impl Fn(&DeValue<'_>) -> Result<u8, Fault> {
    move |value| value::whole(least..=most)(value).map(|n| u8::try_from(n).unwrap_or(u8::MAX))
}
