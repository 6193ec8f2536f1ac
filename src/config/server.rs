//! `[server]`, `[tls]`, `[[listener]]`, `[http]`, `[admin]`: who we are and where we listen.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeTable;

use super::files;
use super::reader::{Notes, Section};
use super::value;
use crate::model::{ClientName, Domain, Secret};

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// Our name in the banner, in EHLO and in trace fields; in A-labels.
    pub hostname: Domain,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
}

/// `[tls]`: what our listeners show.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// The private key, PEM.
    pub private_key: Secret,
    /// Where the certificate was read.
    pub certificate_file: PathBuf,
    /// Where the private key was read.
    pub private_key_file: PathBuf,
}

/// How a listener uses TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerTls {
    /// Not at all.
    None,
    /// Offered by STARTTLS (RFC 3207).
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// Whether a listener's peers must authenticate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth {
    /// All but the trusted ones must.
    Required,
    /// They may; whoever neither does nor is trusted cannot send.
    Optional,
    /// AUTH is not offered: only trusted peers can send.
    None,
}

/// `[[listener]]`: SMTP in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it uses TLS.
    pub tls: ListenerTls,
    /// Whether peers must authenticate.
    pub auth: Auth,
    /// AUTH may be used without TLS; true on loopback addresses only.
    pub plaintext_auth: bool,
    /// Peers that need no AUTH.
    pub trusted: Vec<IpNet>,
    /// The client those peers act as; there if `trusted` is not empty.
    pub trusted_client: Option<ClientName>,
}

/// `[http]`: the applications' API.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    /// With TLS.
    pub tls: bool,
}

/// `[admin]`: metrics, health and the operators' API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// What operators show to use the API; `None`: nobody may.
    pub token: Option<Secret>,
}

/// Where `data_dir` is if it is not said; the systemd unit makes it.
const DATA_DIR: &str = "/var/lib/postrider";

pub(super) fn server(section: &mut Section<'_>) -> Option<Server> {
    let hostname = section.required("hostname", r#""relay.example.com""#, value::domain);
    let data_dir = section.or("data_dir", DATA_DIR.to_owned(), value::text);
    let hostname = match hostname?.to_ascii() {
        Ok(ascii) => ascii,
        Err(e) => {
            section.mistake("hostname", e.to_string(), "expected a name that DNS can hold");
            return None;
        }
    };
    if !hostname.as_str().contains('.') {
        let advice = "other relays expect a name that DNS knows, such as relay.example.com";
        section.warn("hostname", format!("\"{hostname}\" is not a full name"), advice);
    }
    Some(Server { hostname, data_dir: files::resolve(section.notes, &data_dir) })
}

/// `server.data_dir` alone, whatever else the file holds.
pub(super) fn data_dir_of(notes: &Notes<'_>, root: &DeTable<'_>) -> Option<PathBuf> {
    let table = root.get("server").and_then(|server| server.get_ref().as_table());
    let Some(value) = table.and_then(|server| server.get("data_dir")) else {
        return Some(files::resolve(notes, DATA_DIR));
    };
    match value::text(value.get_ref()) {
        Ok(name) => Some(files::resolve(notes, &name)),
        Err(fault) => {
            notes.mistake_at(value.span().start, "server.data_dir", fault);
            None
        }
    }
}

pub(super) fn tls(section: &mut Section<'_>) -> Option<Tls> {
    if !section.is_there() {
        // The keys are asked for all the same, so that they are known.
        section.optional("certificate", value::text);
        section.optional("private_key", value::text);
        return None;
    }
    let certificate = files::certificate(section, "certificate");
    let private_key = files::private_key(section, "private_key", r#""certs/relay.key""#);
    let ((certificate_file, certificate), (private_key_file, private_key)) = (certificate?, private_key?);
    Some(Tls { certificate, private_key, certificate_file, private_key_file })
}

pub(super) fn listener(section: &mut Section<'_>) -> Option<Listener> {
    const TLS: &[(&str, ListenerTls)] =
        &[("none", ListenerTls::None), ("starttls", ListenerTls::StartTls), ("implicit", ListenerTls::Implicit)];
    const AUTH: &[(&str, Auth)] = &[("required", Auth::Required), ("optional", Auth::Optional), ("none", Auth::None)];
    let address = section.required("address", r#""0.0.0.0:587""#, value::socket_address);
    let tls = section.or("tls", ListenerTls::StartTls, value::word(TLS));
    let auth = section.or("auth", Auth::Required, value::word(AUTH));
    let plaintext_auth = section.or("plaintext_auth", false, value::flag);
    let trusted = section.list("trusted", value::network).unwrap_or_default();
    let trusted_client = section.optional("trusted_client", value::name);
    let listener = Listener { address: address?, tls, auth, plaintext_auth, trusted, trusted_client };
    check_listener(section, &listener);
    Some(listener)
}

/// What one listener's keys mean together.
fn check_listener(section: &Section<'_>, listener: &Listener) {
    let loopback = listener.address.ip().is_loopback();
    if listener.plaintext_auth && !loopback {
        let wrong = format!("passwords would cross the network in clear to {}", listener.address);
        section.mistake("plaintext_auth", wrong, "allowed on loopback addresses only; use tls = \"starttls\"");
    } else if listener.auth != Auth::None && listener.tls == ListenerTls::None && !listener.plaintext_auth {
        let right = if loopback {
            "use tls = \"starttls\", auth = \"none\", or plaintext_auth = true"
        } else {
            "use tls = \"starttls\" or \"implicit\", or auth = \"none\" with trusted peers"
        };
        section.mistake("auth", "AUTH is offered inside TLS only, and this listener has none", right);
    }
    let has = |key: &str| section.notes.has(&section.key_of(key));
    match (has("trusted"), has("trusted_client")) {
        (true, false) => section.mistake("trusted", "nobody is named that these peers act as", "add trusted_client"),
        (false, true) => section.mistake("trusted_client", "no peers are named", "add trusted = [\"10.1.0.0/16\"]"),
        (false, false) if listener.auth == Auth::None => {
            section.mistake("auth", "nobody could submit here", "add trusted and trusted_client, or use AUTH");
        }
        _ => {}
    }
    let everybody = listener.trusted.iter().any(|net| net.prefix_len() == 0);
    if everybody && !loopback {
        section.mistake("trusted", "everybody could send through this relay", "name the networks of your own machines");
    }
}

pub(super) fn http(section: &mut Section<'_>) -> Option<Http> {
    let address = match section.is_there() {
        true => section.required("address", r#""0.0.0.0:8025""#, value::socket_address),
        false => section.optional("address", value::socket_address),
    };
    let has_tls = section.notes.has("tls");
    let tls = section.or("tls", has_tls, value::flag);
    let plaintext = section.or("plaintext", false, value::flag);
    let address = address?;
    if tls && !has_tls {
        section.mistake("tls", "there is no certificate", "add a [tls] table with certificate and private_key");
    }
    if !tls && !address.ip().is_loopback() {
        if plaintext {
            let advice = "let only a proxy that speaks TLS reach it";
            section.warn("plaintext", format!("API keys and messages reach {address} in clear"), advice);
        } else {
            let right =
                "add a [tls] table, listen on 127.0.0.1, or say plaintext = true if a proxy in front speaks TLS";
            section.mistake("address", "HTTP without TLS on an address that is not loopback", right);
        }
    }
    Some(Http { address, tls })
}

pub(super) fn admin(section: &mut Section<'_>) -> Option<Admin> {
    let address = match section.is_there() {
        true => section.required("address", r#""127.0.0.1:8026""#, value::socket_address),
        false => section.optional("address", value::socket_address),
    };
    let token = files::secret(section, ["token", "token_file", "token_env"]);
    let plaintext = section.or("plaintext", false, value::flag);
    let address = address?;
    let loopback = address.ip().is_loopback();
    if !loopback && let Some((key, _)) = &token {
        if plaintext {
            let advice = "let only a proxy that speaks TLS, or your own private network, reach it";
            section.warn("plaintext", format!("the token reaches {address} in clear"), advice);
        } else {
            let right =
                "listen on 127.0.0.1, or say plaintext = true if a proxy in front speaks TLS or the network is private";
            section.mistake(key, "a token would cross the network in clear", right);
        }
    } else if !loopback {
        let advice = "metrics and health are for all who reach it: let only your monitoring do so";
        section.warn("address", format!("{address} is not loopback"), advice);
    }
    let token = token.and_then(|(key, token)| {
        let strong = token.expose().len() >= TOKEN_BYTES_MIN && token.expose().bytes().all(|b| b.is_ascii_graphic());
        if !strong {
            let right =
                format!("expected {TOKEN_BYTES_MIN} or more ASCII letters, digits and signs: openssl rand -hex 32");
            section.mistake(key, "the token could be guessed, or does not fit into a header field", right);
        }
        strong.then_some(token)
    });
    Some(Admin { address, token })
}

/// Shortest token: with 4 bits an octet, too many to try.
const TOKEN_BYTES_MIN: usize = 24;
