//! `[[dkim]]`, `[dns]`, `[delivery]`, `[[route]]`: mail on its way out; `outbound_tls` has what concerns TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Section;
use super::timeouts::{DeliveryTimeouts, timeouts};
use super::{files, quantity, value};
use crate::egress::email::TlsLevel;
use crate::mail::dkim::SigningKey;
use crate::model::{Domain, Rate, Secret};
use crate::net::Authorities;
use crate::provider::Table;
use crate::route::FixedRoute;

/// `[[dkim]]`: one key that signs for one domain. A domain may have several.
#[derive(Clone, Debug)]
pub struct Dkim {
    /// The d= tag: mails whose From has this domain or one below it are signed.
    pub domain: Domain,
    /// The s= tag.
    pub selector: String,
    /// The private key, PEM.
    pub private_key: Secret,
    /// Where it was read.
    pub private_key_file: PathBuf,
}

/// `[dns]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Whom to ask; empty: the system's resolvers.
    pub nameservers: Vec<SocketAddr>,
    /// How long one question to one name server may take.
    pub timeout: Duration,
    /// Answers kept.
    pub cache_size: usize,
}

/// `[delivery]`: how mail leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The port mail exchangers are called on.
    pub smtp_port: u16,
    /// Private and loopback networks that may be connected to all the same.
    pub allow_private: Vec<IpNet>,
    /// Connections open to one site, at most; without it the provider table says with how many to start.
    pub connections_per_site: Option<usize>,
    /// Mails to one site in a span of time, at most.
    pub messages_per_site: Option<Rate>,
    /// Mails carried over one connection before it is closed, at most.
    pub messages_per_connection: Option<usize>,
    /// Which TLS there has to be where no `[[tls_policy]]`, no `[[route]]` and nothing that is published says otherwise.
    pub tls: TlsLevel,
    /// Who vouches for mail hosts.
    pub authorities: Authorities,
    /// How long a connection without work stays open.
    pub idle: Option<Duration>,
    /// How far below its start the pacer may go, in percent of it.
    pub pace_least: u64,
    /// How far above.
    pub pace_most: u64,
    /// Deferrals in percent above which a site is sent less.
    pub deferrals_max: u64,
    /// Bounces in percent above which a client's mail to a site is put on hold.
    pub bounces_max: u64,
    /// Recipients below which neither is judged.
    pub shares_volume: usize,
    /// How long that hold is.
    pub bounces_pause: Duration,
    /// Bounces blamed on a campaign or a sender's domain below which neither is slowed down.
    pub blamed_least: usize,
    /// And how much of its mail there they must be, in percent.
    pub blamed_share: u64,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long the reply to a command may take (RFC 5321 section 4.5.3.2: 5 minutes).
    pub command_timeout: Duration,
    /// How long the reply to end-of-data may take (RFC 5321 section 4.5.3.2.6: 10 minutes).
    pub data_timeout: Duration,
    /// How long the single steps may take.
    pub timeouts: DeliveryTimeouts,
    /// Attempts under way at once, over all sites.
    pub concurrency: usize,
    /// After how long a sender who asked for it is told that a mail is delayed.
    pub delay_notice: Duration,
    /// Limits of mailbox providers, and what their replies mean.
    pub providers: Arc<Table>,
}

pub(super) fn dkim(section: &mut Section<'_>) -> Option<Dkim> {
    let domain = section.required("domain", r#""shop.example.com""#, value::domain);
    let selector = section.required("selector", r#""pr1""#, value::domain);
    let private_key = files::private_key(section, "private_key", r#""certs/dkim/shop.example.com.pem""#);
    let (private_key_file, private_key) = private_key?;
    if let Err(e) = SigningKey::from_pem(private_key.expose().as_bytes()) {
        section.mistake("private_key", e.to_string(), "make one: postrider dkim-keygen");
    }
    Some(Dkim { domain: domain?, selector: selector?.as_str().to_owned(), private_key, private_key_file })
}

pub(super) fn dns(section: &mut Section<'_>) -> Dns {
    let nameservers = section.list("nameservers", value::nameserver).unwrap_or_default();
    let timeout = Duration::from_millis(100)..=Duration::from_secs(60);
    Dns {
        nameservers,
        timeout: section.or("timeout", Duration::from_secs(3), quantity::span(timeout)),
        cache_size: section.or("cache_size", 65_536, value::count(0..=1_000_000)),
    }
}

pub(super) fn delivery(section: &mut Section<'_>) -> Delivery {
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    let smtp_port = section.or("smtp_port", 25, value::whole(1..=65_535));
    let command_timeout = section.or("command_timeout", 5 * MINUTE, quantity::span(SECOND..=60 * MINUTE));
    let data_timeout = section.or("data_timeout", 10 * MINUTE, quantity::span(SECOND..=60 * MINUTE));
    Delivery {
        smtp_port: u16::try_from(smtp_port).unwrap_or(25),
        allow_private: section.list("allow_private", value::network).unwrap_or_default(),
        connections_per_site: section.optional("connections_per_site", value::count(1..=10_000)),
        messages_per_site: section.optional("messages_per_site", quantity::rate),
        messages_per_connection: section.optional("messages_per_connection", value::count(1..=1_000_000)),
        tls: section.or("tls", TlsLevel::default(), value::word(TlsLevel::WORDS)),
        authorities: files::authorities(section, "tls_ca_file"),
        idle: section.optional("idle", quantity::span(Duration::ZERO..=10 * MINUTE)),
        pace_least: section.or("pace_least_percent", 25, value::whole(1..=100)),
        pace_most: section.or("pace_most_percent", 500, value::whole(100..=10_000)),
        deferrals_max: section.or("deferrals_max_percent", 30, value::whole(1..=100)),
        bounces_max: section.or("bounces_max_percent", 15, value::whole(1..=100)),
        shares_volume: section.or("shares_volume", 200, value::count(1..=1_000_000)),
        bounces_pause: section.or("bounces_pause", 30 * MINUTE, quantity::span(MINUTE..=7 * 1_440 * MINUTE)),
        blamed_least: section.or("blamed_bounces_least", 3, value::count(1..=1_000_000)),
        blamed_share: section.or("blamed_bounces_percent", 2, value::whole(0..=100)),
        connect_timeout: section.or("connect_timeout", 30 * SECOND, quantity::span(SECOND..=10 * MINUTE)),
        command_timeout,
        data_timeout,
        timeouts: timeouts(section, command_timeout, data_timeout),
        concurrency: section.or("concurrency", 1_000, value::count(1..=100_000)),
        delay_notice: section.or("delay_notice", 240 * MINUTE, quantity::span(SECOND..=30 * 1_440 * MINUTE)),
        providers: files::providers(section, "providers").unwrap_or_else(Table::shipped),
    }
}

/// `[[route]]`, with the TLS there has to be with its next hop, if it says so.
pub(super) fn route(section: &mut Section<'_>) -> Option<(FixedRoute, Option<TlsLevel>)> {
    let domains = section.required_list("domains", r#"["example.net"]"#, value::domain_pattern);
    let next_hop = section.required("next_hop", r#""mail.example.com:25""#, value::host_and_port);
    let tls = section.optional("tls", value::word(TlsLevel::WORDS));
    Some((FixedRoute { domains: domains?, next_hop: next_hop? }, tls))
}
