//! `[[carrier]]`: accounts by which texts leave.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::mistake::{Fault, shortened};
use super::reader::Section;
use super::smpp_server::ALPHABETS;
use super::{files, http_carrier, quantity, sgip, tlvs, value};
use crate::egress::sms::{Cmpp, Logins, LongTexts, Protocol, Sgip, Smgp, Smpp, Tls};
use crate::model::{Rate, Secret, SenderId};
use crate::sms::{Alphabet, Language, Repertoire};
use crate::wire::gateway::auth::NameForm;
use crate::wire::{cmpp, smgp, smpp};

/// `[[carrier]]`: one account with a carrier.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Its name, in routes, events and metrics.
    pub name: Arc<str>,
    /// How it is spoken to, with what only that way knows of.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: Arc<str>,
    /// TLS with it, where that is said here and not by the way it is spoken to.
    pub tls: Option<Tls>,
    /// Our name there: at most 15 octets (SMPP 3.4 section 5.2.1), 6 in CMPP, 8 in SMGP, 16 in SGIP.
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
    /// It wants GBK.
    pub gbk: bool,
}

/// What a carrier's `protocol` may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// By binds.
    Binds(Spoken),
    /// By requests, as a description says.
    Http,
}

impl Way {
    const WORDS: &[(&str, Self)] = &[
        ("smpp", Self::Binds(Spoken::Smpp)),
        ("cmpp2", Self::Binds(Spoken::Cmpp(cmpp::Version::V2))),
        ("cmpp3", Self::Binds(Spoken::Cmpp(cmpp::Version::V3))),
        ("smgp", Self::Binds(Spoken::Smgp)),
        ("sgip", Self::Binds(Spoken::Sgip)),
        ("http", Self::Http),
    ];
}

/// What is spoken over binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoken {
    Smpp,
    Cmpp(cmpp::Version),
    Smgp,
    Sgip,
}

impl Spoken {
    /// Silence before a carrier is asked whether it lives, and time for its answers: those of gateways are C and T of C3 section
    /// 7.1, and of M3 section 4.2; S12 section 4 has one for answers, and cannot ask.
    fn patience(self) -> (Duration, Duration) {
        let (interval, timeout) = match self {
            Self::Smpp => (30, 10),
            Self::Cmpp(_) | Self::Smgp => (180, 60),
            Self::Sgip => (30, 30),
        };
        (Duration::from_secs(interval), Duration::from_secs(timeout))
    }

    /// An example of our name there, and its longest.
    fn system_id(self) -> (&'static str, usize) {
        match self {
            Self::Smpp => (r#""postrider""#, 15),
            Self::Cmpp(_) => (r#""900001""#, 6),
            Self::Smgp => (r#""12345678""#, 8),
            Self::Sgip => (r#""postrider""#, 16),
        }
    }

    /// Of a protocol that is spoken with a gateway, its name: it shows no senders but numbers.
    fn gateways(self) -> Option<&'static str> {
        match self {
            Self::Smpp => None,
            Self::Cmpp(_) => Some("CMPP"),
            Self::Smgp => Some("SMGP"),
            Self::Sgip => Some("SGIP"),
        }
    }
}

/// Keys that not every protocol knows.
struct Known {
    /// By whom, in words.
    who: &'static str,
    /// What `protocol` would have to be.
    protocols: &'static str,
    by: fn(Spoken) -> bool,
    keys: &'static [&'static str],
}

const KNOWN: [Known; 9] = [
    Known {
        who: "SMPP knows",
        protocols: r#""smpp""#,
        by: |spoken| spoken == Spoken::Smpp,
        keys: &[
            "system_type",
            "source_ton",
            "source_npi",
            "national",
            "smpp_version",
            "default_alphabet",
            "long_texts",
            "tls",
            "tls_verify",
            "tls_name",
            "tlv",
        ],
    },
    Known {
        who: "SMPP and HTTP know",
        protocols: r#""smpp" or "http""#,
        by: |spoken| spoken == Spoken::Smpp,
        keys: &["authorities", "template"],
    },
    Known {
        who: "CMPP knows",
        protocols: r#""cmpp2" or "cmpp3""#,
        by: |spoken| matches!(spoken, Spoken::Cmpp(_)),
        keys: &["msg_src", "fee_user_type"],
    },
    Known {
        who: "SMGP knows",
        protocols: r#""smgp""#,
        by: |spoken| spoken == Spoken::Smgp,
        keys: &["smgp_version", "fixed_fee"],
    },
    Known {
        who: "SMPP and SMGP know",
        protocols: r#""smpp" or "smgp""#,
        by: |spoken| matches!(spoken, Spoken::Smpp | Spoken::Smgp),
        keys: &["login_mode", "receive_binds"],
    },
    Known { who: "SGIP knows", protocols: r#""sgip""#, by: |spoken| spoken == Spoken::Sgip, keys: sgip::KEYS },
    Known {
        who: "CMPP and SMGP know",
        protocols: r#""cmpp2", "cmpp3" or "smgp""#,
        by: |spoken| matches!(spoken, Spoken::Cmpp(_) | Spoken::Smgp),
        keys: &["system_id_padded", "enquire_tries"],
    },
    Known {
        who: "CMPP, SMGP and SGIP know",
        protocols: r#""cmpp2", "cmpp3", "smgp" or "sgip""#,
        by: |spoken| spoken.gateways().is_some(),
        keys: &["service_id", "fee_type", "fee_code", "gbk"],
    },
    Known {
        who: "SMPP, CMPP and SMGP know",
        protocols: r#""smpp", "cmpp2", "cmpp3" or "smgp""#,
        by: |spoken| spoken != Spoken::Sgip,
        keys: &["enquire_interval"],
    },
];

/// Passwords longer than this do not fit into SMPP 3.4's bind (section 5.2.2); some carriers take them all the same.
const SMPP_PASSWORD_OCTETS: usize = 8;

/// Passwords longer than this are not sent at all.
const PASSWORD_OCTETS_MAX: usize = 64;

pub(super) fn carrier(section: &mut Section<'_>) -> Option<Carrier> {
    let name = section.required("name", r#""cmcc-1""#, value::name);
    let said = section.required("protocol", r#""smpp""#, protocol);
    // What is not said right is told; the rest is read all the same, for its own mistakes.
    match said {
        Some(Way::Http) => http_carrier::carrier(section, name),
        Some(Way::Binds(spoken)) => bound(section, name, Some(spoken)),
        None => bound(section, name, None),
    }
}

/// One with binds.
fn bound(section: &mut Section<'_>, name: Option<Arc<str>>, said: Option<Spoken>) -> Option<Carrier> {
    let spoken = said.unwrap_or(Spoken::Smpp);
    let address = section.required("address", r#""smpp.example.com:2775""#, value::host_and_port);
    let (example, most) = spoken.system_id();
    let system_id = section.required("system_id", example, value::ascii(most));
    let password = password(section, spoken);
    let binds = section.or("binds", 1, value::count(1..=64));
    let window = section.or("window", 16, value::count(1..=4_096));
    let rate = section.or("rate", Rate { count: 100, per: Duration::from_secs(1) }, quantity::rate);
    let from = match spoken.gateways() {
        Some(whose) => section.required("from", r#""10690001""#, number(whose)),
        None => section.optional("from", value::sender_id),
    };
    let spans = Duration::from_secs(1)..=Duration::from_secs(600);
    let (interval, timeout) = spoken.patience();
    let enquire_interval = section.or("enquire_interval", interval, quantity::span(spans.clone()));
    let response_timeout = section.or("response_timeout", timeout, quantity::span(spans));
    let gbk = section.or("gbk", false, value::flag);
    let who = (system_id.as_deref(), password.as_ref());
    let protocol = spoken_keys(section, spoken, binds, who);
    let tls = tls(section);
    if let Protocol::Smpp(account) = &protocol
        && !account.repertoire.languages.is_empty()
    {
        if account.long_texts != LongTexts::Udh {
            let right = r#"take one of them away, or have long_texts = "udh": the tables are named in headers"#;
            section.mistake("national", "the carrier is not given headers (long_texts)", right);
        }
        if account.repertoire.default != Alphabet::Gsm7 {
            let right = r#"take one of them away, or have default_alphabet = "gsm7""#;
            section.mistake("national", "the carrier is not given septets (default_alphabet)", right);
        }
    }
    if said.is_some() {
        refuse_unknown(section, spoken);
    }
    if spoken.gateways().is_some() && from.is_none() {
        return None;
    }
    said?;
    Some(Carrier {
        name: name?,
        protocol,
        address: address?,
        tls,
        system_id: system_id?,
        password: password?,
        binds,
        window,
        rate,
        from,
        enquire_interval,
        response_timeout,
        gbk,
    })
}

/// TLS with the carrier, if there is to be any.
fn tls(section: &mut Section<'_>) -> Option<Tls> {
    let wanted = section.or("tls", false, value::flag);
    let authorities = files::authorities(section, "authorities");
    let name = section.optional("tls_name", host);
    let verify = section.or("tls_verify", true, value::flag);
    let has = |key: &str| section.notes.has(&section.key_of(key));
    let others = ["authorities", "tls_name", "tls_verify"];
    if !wanted {
        for key in others.into_iter().filter(|key| has(key)) {
            section.mistake(key, "there is no TLS with this carrier", "add tls = true, or remove it");
        }
        return None;
    }
    if !verify {
        for key in ["authorities", "tls_name"].into_iter().filter(|key| has(key)) {
            section.mistake(key, "no certificate is looked at", "remove tls_verify = false, or remove it");
        }
        let advice = "name the carrier's own authority with authorities, and remove it";
        section.warn("tls_verify", "any certificate is taken: whoever stands between may read the password", advice);
    }
    Some(Tls { authorities, name, verify })
}

/// What only some protocols know of. All of it is read, so that no key is taken for a misspelt one.
fn spoken_keys(
    section: &mut Section<'_>,
    spoken: Spoken,
    binds: usize,
    (system_id, password): (Option<&str>, Option<&Secret>),
) -> Protocol {
    let logins = logins(section, binds, matches!(spoken, Spoken::Smpp | Spoken::Smgp));
    let templates = tlvs::templates(section);
    let extras = tlvs::tlvs(section, &templates);
    let smpp = Smpp { extras, templates, ..smpp_keys(section, logins) };
    let shared = GatewayKeys::read(section, spoken);
    let sgip = sgip::keys(section, spoken == Spoken::Sgip, system_id, password);
    let (cmpp, smgp) = (cmpp_keys(section, &shared), smgp_keys(section, &shared, logins));
    match spoken {
        Spoken::Smpp => Protocol::Smpp(smpp),
        Spoken::Cmpp(version) => Protocol::Cmpp(Cmpp { version, ..cmpp }),
        Spoken::Smgp => Protocol::Smgp(smgp),
        Spoken::Sgip => Protocol::Sgip(Sgip {
            fee_type: sgip::fee_type(section, &shared.fee_type),
            service_type: shared.service_id,
            fee_value: shared.fee_code,
            ..sgip
        }),
    }
}

/// What the binds are for; judged only where the protocol knows such a thing.
fn logins(section: &mut Section<'_>, binds: usize, is_known: bool) -> Logins {
    const ONE: Logins = Logins::Split { receivers: 1 };
    const LOGINS: &[(&str, Logins)] = &[("both", Logins::Both), ("send", Logins::Send), ("split", ONE)];
    let logins = section.or("login_mode", Logins::default(), value::word(LOGINS));
    let receivers = section.or("receive_binds", 1, value::count(1..=63));
    let is_said = section.notes.has(&section.key_of("receive_binds"));
    match logins {
        Logins::Split { .. } => {
            if is_known && binds <= receivers && !is_said {
                let right = "set binds = 2, or more for more that send";
                section.mistake("login_mode", "one bind cannot both send and receive by logins of their own", right);
            } else if is_known && binds <= receivers {
                let right = format!("set binds = {}, or more for more that send", receivers + 1);
                section.mistake("receive_binds", format!("of {binds} binds none would be left to send"), right);
            }
            Logins::Split { receivers }
        }
        Logins::Both | Logins::Send => {
            if is_known && is_said {
                let right = "set login_mode = \"split\", or remove it";
                section.mistake("receive_binds", "no bind only receives", right);
            }
            logins
        }
    }
}

fn smpp_keys(section: &mut Section<'_>, logins: Logins) -> Smpp {
    const VERSIONS: &[(&str, smpp::Version)] = &[("3.4", smpp::Version::V34), ("5.0", smpp::Version::V50)];
    const LONG_TEXTS: &[(&str, LongTexts)] =
        &[("udh", LongTexts::Udh), ("sar", LongTexts::Sar), ("payload", LongTexts::Payload)];
    let default = Smpp::default();
    Smpp {
        // At most 12 octets (SMPP 3.4 section 5.2.3).
        system_type: section.or("system_type", default.system_type, value::ascii(12)),
        short_ton: section.or("source_ton", default.short_ton, octet(6)),
        short_npi: section.or("source_npi", default.short_npi, octet(18)),
        version: section.or("smpp_version", default.version, value::word(VERSIONS)),
        repertoire: repertoire(section),
        long_texts: section.or("long_texts", default.long_texts, value::word(LONG_TEXTS)),
        logins,
        ..default
    }
}

fn repertoire(section: &mut Section<'_>) -> Repertoire {
    const LANGUAGES: &[(&str, Language)] = &[
        (Language::Turkish.name(), Language::Turkish),
        (Language::Spanish.name(), Language::Spanish),
        (Language::Portuguese.name(), Language::Portuguese),
    ];
    let usual = Repertoire::default().default;
    Repertoire {
        languages: section.list("national", value::word(LANGUAGES)).unwrap_or_default(),
        default: section.or("default_alphabet", usual, value::word(ALPHABETS)),
    }
}

/// What gateways have in common; widths are the same in all.
struct GatewayKeys {
    service_id: String,
    fee_type: String,
    fee_code: String,
    name_form: NameForm,
    active_tests_max: u32,
}

impl GatewayKeys {
    fn read(section: &mut Section<'_>, spoken: Spoken) -> Self {
        // Free, in the words of each.
        let fee_type = match spoken {
            Spoken::Smgp => Smgp::default().fee_type,
            Spoken::Sgip => Sgip::default().fee_type.to_string(),
            Spoken::Smpp | Spoken::Cmpp(_) => Cmpp::default().fee_type,
        };
        let padded = section.or("system_id_padded", NameForm::default() == NameForm::Padded, value::flag);
        Self {
            service_id: section.or("service_id", String::new(), value::ascii(10)),
            fee_type: section.or("fee_type", fee_type, value::ascii(2)),
            fee_code: section.or("fee_code", "0".to_owned(), value::ascii(6)),
            name_form: if padded { NameForm::Padded } else { NameForm::Bare },
            active_tests_max: u32::from(section.or("enquire_tries", 3, octet_from(1, 100))),
        }
    }
}

/// Widths are those of C3 section 8.4.3.1.
fn cmpp_keys(section: &mut Section<'_>, shared: &GatewayKeys) -> Cmpp {
    let default = Cmpp::default();
    Cmpp {
        version: default.version,
        service_id: shared.service_id.clone(),
        msg_src: section.or("msg_src", default.msg_src, value::ascii(6)),
        // 3 would name a number that pays, which we do not know of.
        fee_user_type: section.or("fee_user_type", default.fee_user_type, octet(2)),
        fee_type: shared.fee_type.clone(),
        fee_code: shared.fee_code.clone(),
        name_form: shared.name_form,
        active_tests_max: shared.active_tests_max,
    }
}

fn smgp_keys(section: &mut Section<'_>, shared: &GatewayKeys, logins: Logins) -> Smgp {
    const VERSIONS: &[(&str, smgp::Version)] = &[("3.0", smgp::Version::V30), ("1.3", smgp::Version::V13)];
    let default = Smgp::default();
    Smgp {
        version: section.or("smgp_version", default.version, value::word(VERSIONS)),
        logins,
        service_id: shared.service_id.clone(),
        fee_type: shared.fee_type.clone(),
        fee_code: shared.fee_code.clone(),
        fixed_fee: section.or("fixed_fee", default.fixed_fee, value::ascii(6)),
        name_form: shared.name_form,
        active_tests_max: shared.active_tests_max,
    }
}

/// Keys that the protocol of this carrier does not know.
fn refuse_unknown(section: &Section<'_>, spoken: Spoken) {
    for Known { who, protocols, keys, .. } in KNOWN.iter().filter(|known| !(known.by)(spoken)) {
        for key in keys.iter().filter(|key| section.notes.has(&section.key_of(key))) {
            let wrong = format!("only {who} {key}, and this carrier speaks another protocol");
            section.mistake(key, wrong, format!("remove it, or set protocol = {protocols}"));
        }
    }
}

fn protocol(value: &DeValue<'_>) -> Result<Way, Fault> {
    match value.as_str() {
        Some("cmpp") => {
            let right = "ask the carrier, and write \"cmpp2\" or \"cmpp3\"";
            Err(Fault::new("CMPP has two versions that do not understand each other", right))
        }
        _ => value::word(Way::WORDS)(value),
    }
}

/// A sender that a gateway can show: the access number.
fn number(whose: &'static str) -> impl Fn(&DeValue<'_>) -> Result<SenderId, Fault> {
    move |value| match value::sender_id(value)? {
        SenderId::Name(_) => {
            let right = "write the access number, such as \"10690001\"";
            Err(Fault::new(format!("{whose} shows no names"), right))
        }
        number => Ok(number),
    }
}

/// A carrier's password, which must be there in one of its three forms.
fn password(section: &mut Section<'_>, spoken: Spoken) -> Option<Secret> {
    match files::password(section) {
        // CMPP and SMGP send a hash of it, whatever its length.
        Some((_, secret)) if matches!(spoken, Spoken::Cmpp(_) | Spoken::Smgp) => Some(secret),
        Some((key, secret)) if spoken == Spoken::Sgip => {
            sgip::check_password(section, key, &secret);
            Some(secret)
        }
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

/// A name as certificates hold it.
fn host(value: &DeValue<'_>) -> Result<String, Fault> {
    const RIGHT: &str = "a host name such as \"smpp.example.com\", or an address";
    let text = value::as_text(value, RIGHT)?;
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Fault::new(format!("bad name \"{}\"", shortened(text)), format!("expected {RIGHT}"))),
    }
}

fn octet(most: u64) -> impl Fn(&DeValue<'_>) -> Result<u8, Fault> {
    octet_from(0, most)
}

fn octet_from(least: u64, most: u64) -> impl Fn(&DeValue<'_>) -> Result<u8, Fault> {
    move |value| value::whole(least..=most)(value).map(|n| u8::try_from(n).unwrap_or(u8::MAX))
}
