//! From the configuration to what each module takes: the only place that knows both.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config};
use crate::dispatch::Notices;
use crate::egress::email::{self, MtaStsOptions, Timeouts, TlsReportOptions};
use crate::egress::sms;
use crate::event;
use crate::ingress::{bound, http, smtp};
use crate::mail::dkim::{Signer, SignerSet, SigningKey};
use crate::model::Rate;
use crate::queue::{self, Blamed, PaceOptions, Retry};
use crate::schedule::Shares;
use crate::{admin, dns, storage};

/// The queue's directory within the data directory.
pub(super) const SPOOL: &str = "spool";
/// Where MTA-STS policies are kept.
const MTA_STS: &str = "mta-sts.json";
/// Where it is kept how far sources are warmed up.
const WARMUP: &str = "warmup.json";
/// Where it is kept how much mail sites take.
const PACE: &str = "pace.json";
/// What texts have cost today.
const LEDGER: &str = "spend.json";
/// How many texts numbers, ranges and clients were sent within a day, below `data_dir`.
const COUNTS: &str = "counts";
/// Where what became of TLS sessions is kept, and the reports that wait.
const TLS_REPORTS: &str = "tls-reports.jsonl";
/// Who wants no more texts.
const OPT_OUTS: &str = "opt-outs.jsonl";
/// The parts of handsets' messages that wait for each other.
const HANDSET_PARTS: &str = "handset-parts.jsonl";
/// What clients are to be brought by SMPP and CMPP.
const SMPP_OUTBOX: &str = "smpp-receipts.jsonl";
/// The parts of texts submitted by SMPP that wait for each other.
const SMPP_PARTS: &str = "smpp-parts.jsonl";
/// The same by CMPP.
const CMPP_PARTS: &str = "cmpp-parts.jsonl";
/// What carriers say of numbers' networks.
const PORTED: &str = "ported.jsonl";
/// Where the bound addresses stand once the relay is ready.
pub(super) const LISTENERS: &str = "listeners.json";

pub(super) fn queue(config: &Config, held: bool) -> queue::Options {
    let retry = |r: &config::Retry| Retry { schedule: r.schedule.clone(), expire: r.expire };
    let classes = [&config.queue.otp, &config.queue.transactional, &config.queue.marketing];
    let texts: usize = config.carriers.iter().map(|c| c.binds * c.window).sum();
    queue::Options {
        retry: classes.map(retry),
        again: classes.map(|class| class.again.clone()),
        messages_max: config.limits.queue_messages,
        bytes_max: config.limits.queue_bytes,
        client_messages_max: config.limits.client_messages,
        client_bytes_max: config.limits.client_bytes,
        body_cache_bytes_max: config.log.body_cache_bytes,
        history_messages_max: config.history.messages,
        history_age_max: Duration::from_secs(config.history.hours * 3_600),
        receipt_wait_max: config.queue.receipts_wait,
        awaiting_in_memory_max: config.queue.receipts_in_memory,
        pace: pace(&config.delivery),
        // Twice what is on the wire, so that the next begin is being synced while the last parts are answered.
        texts_under_way_max: (2 * texts).max(16),
        held,
        ..queue::Options::default()
    }
}

fn pace(delivery: &config::Delivery) -> PaceOptions {
    let everybody = delivery.providers.providers().first().map(|any| any.limits.clone());
    PaceOptions {
        connections_max: delivery.connections_per_site,
        per_second_max: delivery.messages_per_site.map(Rate::per_second),
        messages_per_connection_max: delivery
            .messages_per_connection
            .map(|messages| u32::try_from(messages).unwrap_or(u32::MAX)),
        idle: delivery.idle,
        least: delivery.pace_least as f64 / 100.0,
        most: delivery.pace_most as f64 / 100.0,
        shares: Shares {
            deferred: delivery.deferrals_max as f64 / 100.0,
            bounced: delivery.bounces_max as f64 / 100.0,
            volume: u32::try_from(delivery.shares_volume).unwrap_or(u32::MAX),
            pause: delivery.bounces_pause,
        },
        blamed: Blamed {
            least: u32::try_from(delivery.blamed_least).unwrap_or(u32::MAX),
            share: delivery.blamed_share as f64 / 100.0,
        },
        anybody: everybody.unwrap_or_default(),
    }
}

pub(super) fn pace_file(data_dir: &Path) -> PathBuf {
    data_dir.join(PACE)
}

pub(super) fn ledger_file(data_dir: &Path) -> PathBuf {
    data_dir.join(LEDGER)
}

pub(super) fn counts_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(COUNTS)
}

pub(super) fn opt_outs_file(data_dir: &Path) -> PathBuf {
    data_dir.join(OPT_OUTS)
}

pub(super) fn handset_parts_file(data_dir: &Path) -> PathBuf {
    data_dir.join(HANDSET_PARTS)
}

pub(super) fn ported_file(data_dir: &Path) -> PathBuf {
    data_dir.join(PORTED)
}

pub(super) fn storage(config: &Config) -> storage::Options {
    storage::Options {
        segment_bytes: u32::try_from(config.log.segment_bytes).unwrap_or(u32::MAX),
        reserve_bytes: config.log.reserve_bytes,
        ..storage::Options::default()
    }
}

pub(super) fn events(config: &Config) -> event::log::Options {
    event::log::Options {
        file: config.events.file.clone(),
        rotate_bytes: config.events.rotate_bytes,
        keep: u32::try_from(config.events.keep).unwrap_or(u32::MAX),
    }
}

pub(super) fn dns(config: &Config) -> dns::Options {
    dns::Options {
        nameservers: config.dns.nameservers.clone(),
        timeout: config.dns.timeout,
        cache_answers: config.dns.cache_size as u64,
        anchors: config.dane.anchors.clone(),
        ..dns::Options::default()
    }
}

pub(super) fn email(config: &Config) -> email::Options {
    let delivery = &config.delivery;
    email::Options {
        hostname: config.server.hostname.to_string(),
        smtp_port: delivery.smtp_port,
        allow_private: delivery.allow_private.clone(),
        idle: delivery.idle.unwrap_or(email::Options::default().idle),
        tls: config.outbound_tls.clone(),
        mta_sts: config
            .mta_sts
            .clone()
            .map(|own| MtaStsOptions { file: Some(config.server.data_dir.join(MTA_STS)), ..own }),
        warmup_file: Some(config.server.data_dir.join(WARMUP)),
        tls_reports: TlsReportOptions {
            file: Some(config.server.data_dir.join(TLS_REPORTS)),
            ..config.tls_reports.clone()
        },
        dane: config.dane.enabled,
        providers: delivery.providers.clone(),
        sources: config.sources.clone(),
        timeouts: Timeouts {
            connect: delivery.connect_timeout,
            greeting: delivery.timeouts.greeting,
            hello: delivery.command_timeout,
            tls: delivery.timeouts.tls,
            mail: delivery.timeouts.mail,
            recipient: delivery.timeouts.recipient,
            data: delivery.timeouts.data_command,
            block: delivery.timeouts.block,
            end_of_data: delivery.data_timeout,
            quit: delivery.timeouts.quit,
            opening: delivery.timeouts.opening,
        },
        ..email::Options::default()
    }
}

pub(super) fn carrier(carrier: &config::Carrier) -> sms::Options {
    sms::Options {
        name: carrier.name.clone(),
        address: carrier.address.to_string(),
        tls: carrier.tls.clone(),
        system_id: carrier.system_id.clone(),
        password: carrier.password.clone(),
        protocol: carrier.protocol.clone(),
        binds: carrier.binds,
        window: carrier.window,
        rate: Some(carrier.rate.per_second()),
        source: carrier.from.clone(),
        enquire_interval: carrier.enquire_interval,
        response_timeout: carrier.response_timeout,
        gbk: carrier.gbk,
        ..sms::Options::default()
    }
}

pub(super) fn smtp(config: &Config) -> smtp::Options {
    let limits = &config.limits;
    smtp::Options {
        hostname: config.server.hostname.as_str().into(),
        message_bytes_max: limits.message_bytes,
        receiving_bytes_max: limits.receiving_bytes,
        recipients_max: limits.recipients,
        connections_max: limits.connections,
        connections_per_peer_max: limits.connections_per_peer,
        messages_max: u32::try_from(limits.messages_per_connection).unwrap_or(u32::MAX),
        command_timeout: limits.command_timeout,
        data_rate_min: limits.data_rate_min,
        hops_max: limits.hops,
        ..smtp::Options::default()
    }
}

pub(super) fn listener(listener: &config::Listener) -> smtp::Listener {
    smtp::Listener {
        address: listener.address,
        tls: match listener.tls {
            config::ListenerTls::None => smtp::TlsMode::None,
            config::ListenerTls::StartTls => smtp::TlsMode::StartTls,
            config::ListenerTls::Implicit => smtp::TlsMode::Implicit,
        },
        auth: match listener.auth {
            config::Auth::Required => smtp::AuthMode::Required,
            config::Auth::Optional => smtp::AuthMode::Optional,
            config::Auth::None => smtp::AuthMode::None,
        },
        plaintext_auth: listener.plaintext_auth,
        trusted: listener.trusted.clone(),
        trusted_client: listener.trusted_client.clone(),
    }
}

pub(super) fn http(config: &Config, listener: &config::Http) -> http::Options {
    http::Options {
        address: listener.address,
        tls: listener.tls,
        hostname: config.server.hostname.to_string(),
        message_bytes_max: config.limits.message_bytes,
        recipients_max: config.limits.recipients,
        hops_max: config.limits.hops,
        bodies_bytes_max: config.limits.receiving_bytes,
        connections: http::ConnectionLimits {
            total_max: config.limits.connections,
            per_peer_max: config.limits.connections_per_peer,
            ..http::ConnectionLimits::default()
        },
        text_rules: Arc::new(config.texts.rules.clone()),
        ..http::Options::default()
    }
}

/// `served` says everything but what texts must fit.
fn bound(config: &Config, served: &bound::Options) -> bound::Options {
    bound::Options { text_rules: Arc::new(config.texts.rules.clone()), ..served.clone() }
}

pub(super) fn cmpp(config: &Config) -> bound::Options {
    bound(config, &config.cmpp_server)
}

pub(super) fn cmpp_parts_file(data_dir: &Path) -> PathBuf {
    data_dir.join(CMPP_PARTS)
}

pub(super) fn smpp(config: &Config) -> bound::Options {
    bound(config, &config.smpp_server)
}

pub(super) fn smpp_outbox_file(data_dir: &Path) -> PathBuf {
    data_dir.join(SMPP_OUTBOX)
}

pub(super) fn smpp_parts_file(data_dir: &Path) -> PathBuf {
    data_dir.join(SMPP_PARTS)
}

pub(super) fn notices(config: &Config) -> Notices {
    Notices {
        reporting_mta: config.server.hostname.to_string(),
        delay_after: config.delivery.delay_notice,
        silent: config.clients.iter().filter(|client| !client.bounces).map(|client| client.name.clone()).collect(),
    }
}

pub(super) fn admin(listener: &config::Admin) -> admin::http::Options {
    let (address, token) = (listener.address, listener.token.clone());
    admin::http::Options { address, token, ..admin::http::Options::default() }
}

/// The DKIM signers, or the file whose key is no key.
pub(super) fn signers(config: &Config) -> Result<SignerSet, String> {
    let mut signers = Vec::with_capacity(config.dkim.len());
    for dkim in &config.dkim {
        let unusable = |why: String| format!("{}: {why}", dkim.private_key_file.display());
        let key = SigningKey::from_pem(dkim.private_key.expose().as_bytes()).map_err(|e| unusable(e.to_string()))?;
        signers.push(Signer::new(&dkim.domain, &dkim.selector, key).map_err(|e| unusable(e.to_string()))?);
    }
    Ok(SignerSet::new(signers))
}

/// The listeners' TLS settings, or which file is wrong.
pub(super) fn tls(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, String> {
    let Some(tls) = &config.tls else { return Ok(None) };
    crate::net::tls::server_config(&tls.certificate, tls.private_key.expose().as_bytes())
        .map(|made| Some(Arc::new(made)))
        .map_err(|e| format!("{} with {}: {e}", tls.certificate_file.display(), tls.private_key_file.display()))
}

/// Carriers' options by name.
pub(super) fn carriers(config: &Config) -> HashMap<Arc<str>, sms::Options> {
    config.carriers.iter().map(|c| (c.name.clone(), carrier(c))).collect()
}

/// The queue's directory.
pub(super) fn spool(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join(SPOOL)
}
