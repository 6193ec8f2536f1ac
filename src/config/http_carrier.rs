//! What `[[carrier]]` says of an account with a carrier that is asked by HTTP.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::http_description::{SHIPPED, parse_description};
use super::mistake::{Fault, Mistake, among, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Section};
use super::{Carrier, files, quantity, tlvs, value};
use crate::egress::sms::http::{BodyBounds, CALLBACK_URLS, Description, Endpoint, Http, HttpCallback, Need};
use crate::egress::sms::{Protocol, Registered};
use crate::model::{Rate, Secret};

/// Fewest characters of a callback's token: nobody can guess as many.
const TOKEN_CHARS_MIN: usize = 16;

pub(super) fn carrier(section: &mut Section<'_>, name: Option<Arc<str>>) -> Option<Carrier> {
    let description = description(section);
    let own = section.optional("endpoint", endpoint);
    let from = section.optional("from", value::sender_id);
    let window = section.or("window", 16, value::count(1..=4_096));
    let rate = section.or("rate", Rate { count: 100, per: Duration::from_secs(1) }, quantity::rate);
    let spans = Duration::from_secs(1)..=Duration::from_secs(600);
    let response_timeout = section.or("response_timeout", Duration::from_secs(10), quantity::span(spans.clone()));
    let keep_alive = section.or("keep_alive", Duration::from_secs(15), quantity::span(spans));
    let connect_tries = section.or("connect_tries", 3, value::count(1..=100));
    let bytes = quantity::bytes(1_024..=16 << 20);
    let answer_bytes_max = section.or("answer_size", 64 << 10, &bytes);
    let pauses = Duration::ZERO..=Duration::from_secs(3_600);
    let retry_after_max = section.or("retry_after_max", Duration::from_secs(60), quantity::span(pauses));
    let authorities = files::authorities(section, "authorities");
    let callback = callback(section);
    let values = values(section, description.as_deref());
    let templates = tlvs::templates(section);
    if let Some(description) = &description {
        check(section, description, &templates, callback.as_ref().map(Option::as_ref));
    }
    let (description, values) = (description?, values?);
    let endpoint = own.unwrap_or_else(|| description.request.endpoint.clone());
    warn_of_clear_text(section, &endpoint);
    let address = endpoint.address().into();
    let answer_bytes_max = usize::try_from(answer_bytes_max).unwrap_or(usize::MAX);
    let callback = callback?;
    let http = Http {
        description,
        endpoint,
        values,
        templates,
        authorities,
        callback,
        keep_alive,
        connect_tries,
        answer_bytes_max,
        retry_after_max,
    };
    Some(Carrier {
        name: name?,
        protocol: Protocol::Http(http),
        address,
        // The endpoint says it.
        tls: None,
        system_id: String::new(),
        password: Secret::new(""),
        binds: 1,
        window,
        rate,
        from,
        enquire_interval: response_timeout,
        response_timeout,
        gbk: false,
    })
}

/// One that comes with postrider, by its name, or a file. Its mistakes are reported where they stand.
fn description(section: &mut Section<'_>) -> Option<Arc<Description>> {
    let said = section.required("description", r#""aliyun""#, value::text)?;
    let shipped = SHIPPED.iter().find(|(name, _)| *name == said);
    let (path, text) = match shipped {
        Some((name, text)) => (PathBuf::from(format!("config/http/{name}.toml")), (*text).to_owned()),
        None if !said.contains(['/', '.']) => {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            let right = format!("{}, or a file of your own, such as \"./own.toml\"", among(&said, &names));
            section.mistake("description", format!("unknown description \"{}\"", shortened(&said)), right);
            return None;
        }
        None => {
            let path = files::resolve(section.notes, &said);
            let Ok(text) = String::from_utf8(files::load(section, "description", &path)?) else {
                let right = "begin with a copy of config/http/generic.toml";
                section.mistake("description", format!("{} is not UTF-8", path.display()), right);
                return None;
            };
            (path, text)
        }
    };
    match parse_description(&path, &text) {
        Ok(description) => Some(Arc::new(description)),
        Err(mistakes) => {
            let report = |mistake: Mistake| section.notes.mistake_elsewhere(&section.key_of("description"), mistake);
            mistakes.into_iter().for_each(report);
            None
        }
    }
}

fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, Fault> {
    let text = value::as_text(value, "a URL such as \"https://sms.example.com\"")?;
    text.trim_end_matches('/')
        .parse()
        .map_err(|right: &str| Fault::new(format!("bad endpoint \"{}\"", shortened(text)), right.to_owned()))
}

/// What the description wants of the account.
fn values(section: &mut Section<'_>, description: Option<&Description>) -> Option<BTreeMap<Arc<str>, Secret>> {
    let wanted: Vec<(Arc<str>, Need)> =
        description.into_iter().flat_map(|known| known.account.iter().map(|(n, k)| (n.clone(), k.clone()))).collect();
    if description.is_none() {
        // What is wanted is not known; nothing here is taken for a misspelt key.
        section.words("account", |_, _| Ok(()));
        return None;
    }
    section.table("account", |account| {
        let (mut values, mut complete) = (BTreeMap::new(), true);
        for (name, need) in wanted {
            let value = match &need {
                Need::Secret => {
                    let (file, env) = (format!("{name}_file"), format!("{name}_env"));
                    let keys = [&*name, file.as_str(), env.as_str()];
                    let read = files::secret(account, keys).map(|(_, secret)| secret);
                    if read.is_none() && !keys.iter().any(|key| account.notes.has(&account.key_of(key))) {
                        account.mistake(&name, "missing", format!("add {name}_file = \"certs/{name}.secret\""));
                    }
                    complete &= read.is_some();
                    read
                }
                Need::Required => {
                    let read = account.required(&name, "\"...\", as the carrier's console shows it", value::text);
                    complete &= read.is_some();
                    read.map(Secret::new)
                }
                Need::Optional => account.optional(&name, value::text).map(Secret::new),
                Need::Default(text) => Some(Secret::new(account.or(&name, text.clone(), value::text))),
            };
            values.extend(value.map(|value| (name, value)));
        }
        complete.then_some(values)
    })
}

/// Outer `None`: reported.
#[allow(clippy::option_option, reason = "a callback that is not wanted, and one that cannot be read")]
fn callback(section: &mut Section<'_>) -> Option<Option<HttpCallback>> {
    const KEYS: [&str; 3] = ["callback_token", "callback_token_file", "callback_token_env"];
    let listen = section.optional("listen", value::socket_address);
    let tls = section.or("callback_tls", false, value::flag);
    if tls && !section.notes.has("tls") {
        section.mistake(
            "callback_tls",
            "there is no certificate",
            "add a [tls] table with certificate and private_key",
        );
    }
    let token = files::secret(section, KEYS);
    let url = section.optional("callback_url", |value| endpoint(value).map(|url| url.to_string()));
    let from = section.list("callback_from", value::network).unwrap_or_default();
    let connections_max = section.or("callback_connections", 64, value::count(1..=1_000));
    let bytes_max = section.or("callback_size", 256 << 10, quantity::bytes(1_024..=16 << 20));
    let spans = Duration::from_secs(1)..=Duration::from_secs(600);
    let timeout = section.or("callback_body_timeout", Duration::from_secs(10), quantity::span(spans));
    let has = |key: &str| section.notes.has(&section.key_of(key));
    if !has("listen") {
        let bounds = ["callback_size", "callback_body_timeout", "callback_connections"];
        let others = ["callback_tls", "callback_url", "callback_from"].into_iter().chain(bounds);
        for key in KEYS.into_iter().chain(others).filter(|key| has(key)) {
            section.mistake(key, "nobody listens", "add listen = \"0.0.0.0:8090\", or remove it");
        }
        return Some(None);
    }
    if let Some((key, token)) = &token {
        let token = token.expose();
        let good =
            token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !good {
            let right = "write at least 16 letters, digits, - and _, such as of: openssl rand -hex 16";
            section.mistake(key, "too easily guessed, or no part of a path", right);
        }
    } else if !KEYS.iter().any(|key| has(key)) {
        section.mistake("callback_token", "missing", "add callback_token_file = \"certs/callback.token\"");
    }
    let (_, token) = token?;
    let body = BodyBounds { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), timeout };
    Some(Some(HttpCallback { listen: listen?, tls, token, url, from, body, connections_max }))
}

/// What description and account mean together.
fn check(
    section: &Section<'_>,
    description: &Description,
    templates: &[Registered],
    callback: Option<Option<&HttpCallback>>,
) {
    let has = |key: &str| section.notes.has(&section.key_of(key));
    match (description.wants_templates(), has("template")) {
        (true, false) => {
            let right = "add [[carrier.template]] with text = \"您的验证码是{code}\" and the id that it has there";
            section.mistake("template", "missing: this carrier sends registered texts only", right);
        }
        (false, true) if !templates.is_empty() => {
            section.mistake("template", "this carrier's description knows no templates", "remove them");
        }
        _ => {}
    }
    let Some(callback) = callback else { return };
    let comes = description.receipt.is_some() || description.message.is_some();
    if callback.is_some() && !comes {
        section.mistake("listen", "this carrier's description brings nothing", "remove it, or describe [receipt]");
    }
    let checks = [description.receipt.as_ref().map(|r| &r.check), description.message.as_ref().map(|m| &m.check)];
    let wants_url = checks.into_iter().flatten().flatten().any(|check| {
        check.is.names().chain(check.values.iter().flat_map(|step| step.names())).any(|name| name == "url")
    });
    if callback.is_some_and(|callback| callback.url.is_none()) && wants_url {
        let right = "add callback_url = \"https://relay.example.com\", as the carrier calls it";
        section.mistake("callback_url", "missing: the carrier signs it", right);
    }
    if callback.is_none() && description.receipt.is_some() {
        let urls = CALLBACK_URLS.join(", ");
        let advice =
            format!("add listen, callback_token and callback_url ({urls}), and let the carrier know of the path");
        section.warn("description", "no receipts can come: nothing is delivered as far as anybody knows", advice);
    }
}

fn warn_of_clear_text(section: &Section<'_>, endpoint: &Endpoint) {
    let is_loopback = endpoint.host == "localhost"
        || endpoint.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !endpoint.tls && !is_loopback {
        section.warn("endpoint", "texts and signatures travel in clear", "write https://, or use a private line");
    }
}

/// Where carriers come to us by HTTP, each address once, and the key of the first that names it. All others must want it alike.
pub(super) fn listening(raw: &RawConfig, notes: &Notes<'_>) -> Vec<(SocketAddr, String)> {
    let mut all: Vec<(SocketAddr, String)> = Vec::new();
    let mut by_tls = HashMap::new();
    for carrier in &raw.carriers {
        let Some(callback) = carrier.value.protocol.http().and_then(|http| http.callback.as_ref()) else { continue };
        if *by_tls.entry(callback.listen).or_insert(callback.tls) != callback.tls {
            let wrong = format!("{} is shared by carriers that come with TLS and without", callback.listen);
            notes.mistake(
                &carrier.key_of("callback_tls"),
                wrong,
                "write the same for all, or give each its own address",
            );
        }
        if all.iter().all(|(address, _)| *address != callback.listen) {
            all.push((callback.listen, carrier.key_of("listen")));
        }
    }
    all
}

impl super::Config {
    /// Where carriers come to us by HTTP, each address once, in the order of the file, and whether with TLS.
    pub fn http_callbacks(&self) -> Vec<(SocketAddr, bool)> {
        let mut all = Vec::new();
        for http in self.carriers.iter().filter_map(|carrier| carrier.protocol.http()) {
            let place = http.callback.as_ref().map(|callback| (callback.listen, callback.tls));
            all.extend(place.filter(|place| !all.contains(place)));
        }
        all
    }
}
