//! What the sections mean together: names that must exist, things that may exist only once.
//!
//! **Promises.** Looks only at sections that could be read, so that one mistake is not reported as two.

use std::collections::HashMap;
use std::hash::Hash;

use super::mistake::{among, shortened};
use super::raw::RawConfig;
use super::reader::{Notes, Placed};
use super::server::ListenerTls;
use super::warmup::PlanSection;
use crate::egress::email::{TlsLevel, TlsRule, WarmupPlan, Whose};
use crate::model::Channel;

pub(super) fn check(raw: &RawConfig, notes: &Notes<'_>) {
    addresses(raw, notes);
    listeners(raw, notes);
    clients(raw, notes);
    signatures(raw, notes);
    super::tls_reports::check(raw, notes);
    super::smpp_server::check(raw, notes);
    super::cmpp_server::check(raw, notes);
    mail_routes(raw, notes);
    dane(raw, notes);
    text_routes(raw, notes);
    super::sgip::check(raw, notes);
    pools(raw, notes);
    warmups(raw, notes);
}

/// Two ends cannot listen on one address.
fn addresses(raw: &RawConfig, notes: &Notes<'_>) {
    let listeners = raw.listeners.iter().map(|l| (l.value.address, l.key_of("address")));
    let http = raw.http.iter().map(|h| (h.address, "http.address".to_owned()));
    let smpp = raw.smpp_listeners.iter().map(|l| (l.value.address, l.key_of("address")));
    let cmpp = raw.cmpp_listeners.iter().map(|l| (l.value.address, l.key_of("address")));
    let admin = raw.admin.iter().map(|a| (a.address, "admin.address".to_owned()));
    let callbacks = super::sgip::listening(raw).into_iter().chain(super::http_carrier::listening(raw, notes));
    let bound = listeners.chain(http).chain(smpp).chain(cmpp).chain(admin).chain(callbacks);
    let bound = bound.filter(|(address, _)| address.port() != 0);
    once(notes, bound, |address| format!("{address} is taken"), "give each its own address or port");
    let smtp_or_http = !raw.listeners.is_empty() || raw.http.is_some() || notes.has("listener") || notes.has("http");
    let links = raw.smpp_listeners.len() + raw.cmpp_listeners.len() > 0;
    let links = links || notes.has("smpp_listener") || notes.has("cmpp_listener");
    if !smtp_or_http && !links {
        notes.mistake("listener", "nothing listens: no message could come in", "add a [[listener]] or an [http] table");
    }
}

fn listeners(raw: &RawConfig, notes: &Notes<'_>) {
    let names: Vec<&str> = raw.clients.iter().map(|c| &*c.value.name).collect();
    for listener in &raw.listeners {
        if listener.value.tls != ListenerTls::None && !notes.has("tls") {
            let right = "add a [tls] table with certificate and private_key, or tls = \"none\"";
            notes.mistake(&listener.key_of("tls"), "there is no certificate", right);
        }
        if let Some(name) = &listener.value.trusted_client
            && !names.contains(&&**name)
            && !incomplete(notes, "client", raw.clients.len())
        {
            let wrong = format!("unknown client \"{}\"", shortened(name));
            notes.mistake(&listener.key_of("trusted_client"), wrong, among(name, &names));
        }
    }
}

fn clients(raw: &RawConfig, notes: &Notes<'_>) {
    let names = raw.clients.iter().map(|c| (c.value.name.clone(), c.key_of("name")));
    once(notes, names, |name| format!("the name \"{name}\" is taken"), "give each client its own name");
    let keys = raw.clients.iter().flat_map(|c| {
        c.value.api_keys.iter().enumerate().map(|(i, hash)| (*hash, c.key_of(&format!("api_keys[{i}]"))))
    });
    once(notes, keys, |_| "this key is named twice".to_owned(), "give each client keys of its own");
    for client in &raw.clients {
        let trusted = raw.listeners.iter().any(|l| l.value.trusted_client.as_ref() == Some(&client.value.name));
        let credentials = ["password", "password_file", "password_env", "api_keys", "cmpp_sp_id"];
        if !trusted && !credentials.iter().any(|key| notes.has(&client.key_of(key))) {
            let right = "add a password, api_keys or a cmpp_sp_id, or name it as a listener's trusted_client";
            notes.mistake(&client.key_of("name"), "nobody can act as this client", right);
        }
        if client.value.channels.contains(&Channel::Sms)
            && notes.has(&client.key_of("channels"))
            && !notes.has("sms_route")
        {
            notes.warn(&client.key_of("channels"), "texts have nowhere to go", "add [[carrier]] and [[sms_route]]");
        }
    }
    if raw.clients.is_empty() && !notes.has("client") {
        notes.mistake("client", "no client: nobody could submit", "add a [[client]] table");
    }
}

fn signatures(raw: &RawConfig, notes: &Notes<'_>) {
    let names = raw.dkim.iter().map(|d| ((&d.value.domain, &d.value.selector), d.key_of("selector")));
    once(notes, names, |(d, s)| format!("{s}._domainkey.{d} is signed for twice"), "give each key its own selector");
}

fn mail_routes(raw: &RawConfig, notes: &Notes<'_>) {
    let domains = raw
        .routes
        .iter()
        .flat_map(|r| r.value.0.domains.iter().enumerate().map(|(i, d)| (d, r.key_of(&format!("domains[{i}]")))));
    once(notes, domains, |domain| format!("\"{domain}\" has a route already"), "name each domain once");
    let places = |r: &Placed<TlsRule>| (0..r.value.domains.len()).map(|i| r.key_of(&format!("domains[{i}]"))).collect();
    let policies: Vec<(&String, String)> =
        raw.tls_policies.iter().flat_map(|r| r.value.domains.iter().zip::<Vec<String>>(places(r))).collect();
    once(
        notes,
        policies.iter().cloned(),
        |domain| format!("\"{domain}\" has a policy already"),
        "name each domain once",
    );
    for (domain, key) in policies {
        if raw.routes.iter().any(|r| r.value.0.domains.contains(domain)) {
            let advice = "set tls in the [[route]]: mail of a fixed next hop goes by that alone";
            notes.warn(&key, format!("\"{domain}\" goes to a fixed next hop, where this does not count"), advice);
        }
    }
}

/// Nobody can be held to what is switched off.
fn dane(raw: &RawConfig, notes: &Notes<'_>) {
    if raw.dane.enabled {
        return;
    }
    let rules = raw.tls_policies.iter().filter(|r| r.value.level == TlsLevel::Dane).map(|r| r.key_of("tls"));
    let routes = raw.routes.iter().filter(|r| r.value.1 == Some(TlsLevel::Dane)).map(|r| r.key_of("tls"));
    let default = (raw.delivery.tls == TlsLevel::Dane).then(|| "delivery.tls".to_owned());
    for key in rules.chain(routes).chain(default) {
        notes.mistake(&key, "DANE is switched off", "leave [dane] enabled out, or write tls = \"verified\"");
    }
}

fn text_routes(raw: &RawConfig, notes: &Notes<'_>) {
    let taken = raw.carriers.iter().map(|c| (&c.value.name, c.key_of("name")));
    once(notes, taken, |name| format!("the name \"{name}\" is taken"), "give each carrier its own name");
    super::routing::check(raw, notes);
    super::text_rules::check(raw, notes);
    super::text_rules::check_prices(raw, notes);
    super::replies::check(raw, notes);
}

fn pools(raw: &RawConfig, notes: &Notes<'_>) {
    let names: Vec<&str> = raw.sources.iter().map(|s| &*s.value.0.name).collect();
    let sources = raw.sources.iter().map(|s| (s.value.0.name.clone(), s.key_of("name")));
    once(notes, sources, |name| format!("the name \"{name}\" is taken"), "give each source its own name");
    let pools = raw.pools.iter().map(|p| (p.value.name.clone(), p.key_of("name")));
    once(notes, pools, |name| format!("the name \"{name}\" is taken"), "give each pool its own name");
    let complete = !incomplete(notes, "source", raw.sources.len());
    for pool in &raw.pools {
        let members = pool.value.sources.iter().enumerate();
        let members = members.map(|(i, (name, _))| (name, pool.key_of(&format!("sources[{i}]"))));
        once(
            notes,
            members.clone(),
            |name| format!("\"{name}\" is in this pool already"),
            "give it a weight: \"mta1*2\"",
        );
        for (name, key) in members.filter(|(name, _)| complete && !names.contains(&&***name)) {
            notes.mistake(&key, format!("unknown source \"{}\"", shortened(name)), among(name, &names));
        }
    }
    for source in &raw.sources {
        let used = |name| raw.pools.iter().any(|p| p.value.sources.iter().any(|(member, _)| *member == name));
        if !raw.pools.is_empty() && !used(source.value.0.name.clone()) {
            notes.warn(&source.key_of("name"), "no [[pool]] uses this source", "name it in one");
        }
    }
    let takes_all = raw.pools.iter().position(|p| p.value.whose == Whose::default());
    match (takes_all, raw.pools.len()) {
        (None, 1..) if !incomplete(notes, "pool", raw.pools.len()) => {
            let right = "add a last [[pool]] without clients, classes, campaigns and sender_domains";
            notes.mistake("pool", "no pool takes the mail that fits none of the others", right);
        }
        (Some(at), all) if at + 1 < all => {
            let wrong = format!("the pool \"{}\" in front of it takes everything", raw.pools[at].value.name);
            notes.mistake(&raw.pools[at + 1].key_of("name"), wrong, "put it in front of that one");
        }
        _ => {}
    }
}

fn warmups(raw: &RawConfig, notes: &Notes<'_>) {
    let plans = raw.warmups.iter().map(|w| (w.value.plan.name.clone(), w.key_of("name")));
    once(notes, plans, |name| format!("the name \"{name}\" is taken"), "give each plan its own name");
    let mut names: Vec<&str> = raw.warmups.iter().map(|w| &*w.value.plan.name).collect();
    names.extend((!names.contains(&WarmupPlan::BUILT_IN)).then_some(WarmupPlan::BUILT_IN));
    let complete = !incomplete(notes, "warmup", raw.warmups.len());
    let providers: Vec<&str> = raw.delivery.providers.providers().iter().map(|provider| &*provider.name).collect();
    for source in &raw.sources {
        let unknown = source.value.1.iter().find(|name| complete && !names.contains(&&***name));
        if let Some(name) = unknown {
            let wrong = format!("unknown warm-up plan \"{}\"", shortened(name));
            notes.mistake(&source.key_of("warmup"), wrong, among(name, &names));
        }
    }
    for plan in &raw.warmups {
        let PlanSection { plan: WarmupPlan { name, .. }, named } = &plan.value;
        let used = raw.sources.iter().any(|s| s.value.1.as_ref() == Some(name));
        if !used {
            notes.warn(&plan.key_of("name"), "no [[source]] is warmed up by this plan", "name it in one as warmup");
        }
        let named = named.iter().map(|(name, key)| (name, key.clone()));
        once(notes, named.clone(), |name| format!("{name} has its days already"), "name each once");
        for (name, key) in named.filter(|(name, _)| !providers.contains(&&***name)) {
            notes.mistake(&key, format!("unknown provider \"{}\"", shortened(name)), among(name, &providers));
        }
    }
}

/// True if some of these sections could not be read: then a name that is not found may yet be meant to be there.
pub(super) fn incomplete(notes: &Notes<'_>, key: &str, read: usize) -> bool {
    notes.has(&format!("{key}[{read}]"))
}

/// Reports every value that was there before.
pub(super) fn once<T: Eq + Hash>(
    notes: &Notes<'_>,
    values: impl Iterator<Item = (T, String)>,
    wrong: impl Fn(&T) -> String,
    right: &str,
) {
    let mut first: HashMap<T, String> = HashMap::new();
    for (value, key) in values {
        match first.get(&value) {
            Some(before) => notes.mistake(&key, format!("{} ({before})", wrong(&value)), right),
            None => {
                first.insert(value, key);
            }
        }
    }
}
