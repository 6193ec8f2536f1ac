//! The configuration as written: every section that could be read, with its place, before the sections have met.

use std::path::PathBuf;
use std::sync::Arc;

use super::bounds::{self, History, Limits, Log};
use super::mail::{self, Delivery, Dkim, Dns};
use super::queue::{self, Queue};
use super::reader::{Placed, Section};
use super::server::{self, Admin, Http, Listener, Server, Tls};
use super::sources::{self, PoolSection};
use super::texts::{self, Carrier};
use super::warmup::{self, PlanSection};
use super::{
    Config, Events, Replies, Texts, clients, cmpp_server, outbound_tls, ported, replies, routing, smpp_server,
    text_rules, tls_reports,
};
use crate::egress::email::{MtaStsOptions, Source, TlsLevel, TlsReportOptions, TlsRule};
use crate::policy::reply_rules::ReplyRule;
use crate::policy::texts::{Cap, Registered};
use crate::policy::{Client, Clients};
use crate::route::{FixedRoute, Network, Price, Prices, Routes, SendingHours, TextRoute};

/// What one file says.
pub(super) struct RawConfig {
    pub(super) server: Option<Server>,
    pub(super) tls: Option<Tls>,
    pub(super) listeners: Vec<Placed<Listener>>,
    pub(super) http: Option<Http>,
    pub(super) smpp_listeners: Vec<Placed<crate::ingress::bound::Listener>>,
    pub(super) smpp_server: crate::ingress::bound::Options,
    pub(super) cmpp_listeners: Vec<Placed<crate::ingress::bound::Listener>>,
    pub(super) cmpp_server: crate::ingress::bound::Options,
    pub(super) admin: Option<Admin>,
    pub(super) clients: Vec<Placed<Client>>,
    pub(super) dkim: Vec<Placed<Dkim>>,
    pub(super) dns: Dns,
    pub(super) queue: Queue,
    pub(super) delivery: Delivery,
    /// With the names of the plans that they are warmed up by.
    pub(super) sources: Vec<Placed<(Source, Option<Arc<str>>)>>,
    pub(super) warmups: Vec<Placed<PlanSection>>,
    pub(super) pools: Vec<Placed<PoolSection>>,
    pub(super) routes: Vec<Placed<(FixedRoute, Option<TlsLevel>)>>,
    pub(super) mta_sts: Option<MtaStsOptions>,
    pub(super) tls_reports: TlsReportOptions,
    pub(super) dane: outbound_tls::Dane,
    pub(super) tls_policies: Vec<Placed<TlsRule>>,
    pub(super) carriers: Vec<Placed<Carrier>>,
    pub(super) sms_routes: Vec<Placed<TextRoute>>,
    pub(super) networks: Vec<Placed<Network>>,
    pub(super) sending_hours: Vec<Placed<SendingHours>>,
    pub(super) sms: Texts,
    pub(super) sms_templates: Vec<Placed<Registered>>,
    pub(super) sms_caps: Vec<Placed<Cap>>,
    pub(super) sms_prices: Vec<Placed<Price>>,
    pub(super) replies: crate::dispatch::replies::Options,
    pub(super) opt_outs: (crate::policy::opt_outs::Words, usize),
    pub(super) ported: crate::dispatch::PortingOptions,
    pub(super) reply_rules: Vec<Placed<ReplyRule>>,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) events: (Option<PathBuf>, u64, usize),
    pub(super) history: History,
}

impl RawConfig {
    /// Reads the whole file.
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        Self {
            server: root.table("server", server::server),
            // Before those that ask whether it is there.
            tls: root.table("tls", server::tls),
            listeners: root.tables("listener", server::listener),
            http: root.table("http", server::http),
            smpp_listeners: root.tables("smpp_listener", smpp_server::listener),
            smpp_server: root.table("smpp_server", smpp_server::server),
            cmpp_listeners: root.tables("cmpp_listener", cmpp_server::listener),
            cmpp_server: root.table("cmpp_server", cmpp_server::server),
            admin: root.table("admin", server::admin),
            clients: root.tables("client", clients::client),
            dkim: root.tables("dkim", mail::dkim),
            dns: root.table("dns", mail::dns),
            queue: root.table("queue", queue::queue),
            delivery: root.table("delivery", mail::delivery),
            sources: root.tables("source", sources::source),
            warmups: root.tables("warmup", warmup::plan),
            pools: root.tables("pool", sources::pool),
            routes: root.tables("route", mail::route),
            mta_sts: root.table("mta_sts", outbound_tls::mta_sts),
            tls_reports: root.table("tls_reports", tls_reports::tls_reports),
            dane: root.table("dane", outbound_tls::dane),
            tls_policies: root.tables("tls_policy", outbound_tls::rule),
            carriers: root.tables("carrier", texts::carrier),
            sms_routes: root.tables("sms_route", routing::sms_route),
            networks: root.tables("network", routing::network),
            sending_hours: root.tables("sending_hours", routing::sending_hours),
            sms: root.table("sms", text_rules::sms),
            sms_templates: root.tables("sms_template", text_rules::template),
            sms_caps: root.tables("sms_cap", text_rules::cap),
            sms_prices: root.tables("sms_price", text_rules::price),
            replies: root.table("replies", replies::replies),
            opt_outs: root.table("opt_outs", replies::opt_outs),
            ported: root.table("ported", ported::ported),
            reply_rules: root.tables("reply_rule", replies::rule),
            limits: root.table("limits", bounds::limits),
            log: root.table("log", bounds::log),
            events: root.table("events", bounds::events),
            history: root.table("history", bounds::history),
        }
    }

    /// The usable form. `None` only where a mistake has been reported.
    pub(super) fn into_config(self, file: PathBuf) -> Option<Config> {
        let server = self.server?;
        let (words, opt_outs_max) = self.opt_outs;
        let options = crate::dispatch::replies::Options { words, rules: values(self.reply_rules), ..self.replies };
        let (events_file, rotate_bytes, keep) = self.events;
        let events_file = events_file.unwrap_or_else(|| server.data_dir.join("events").join("events.jsonl"));
        let known = |carrier: &Placed<Carrier>| {
            let repertoire = carrier.value.protocol.repertoire()?;
            Some((carrier.value.name.clone(), repertoire.clone()))
        };
        let repertoires = self.carriers.iter().filter_map(known).collect();
        let outbound_tls = outbound_tls::policies(&self.delivery, self.tls_policies, &self.routes);
        Some(Config {
            file,
            server,
            tls: self.tls,
            listeners: values(self.listeners),
            http: self.http,
            smpp_listeners: values(self.smpp_listeners),
            smpp_server: self.smpp_server,
            cmpp_listeners: values(self.cmpp_listeners),
            cmpp_server: self.cmpp_server,
            admin: self.admin,
            clients: Clients::new(values(self.clients)),
            dkim: values(self.dkim),
            dns: self.dns,
            queue: self.queue,
            delivery: self.delivery,
            outbound_tls,
            mta_sts: self.mta_sts,
            dane: self.dane,
            tls_reports: self.tls_reports,
            sources: sources::resolved(
                values(self.sources),
                values(self.warmups).into_iter().map(|section| section.plan).collect(),
                values(self.pools),
            ),
            routes: Routes {
                mail: values(self.routes).into_iter().map(|(route, _)| route).collect(),
                text: routing::routes(self.sms_routes, self.networks, self.sending_hours)
                    .reading(repertoires)
                    .priced(Prices::new(self.sms.currency.clone(), values(self.sms_prices))),
            },
            carriers: values(self.carriers),
            texts: text_rules::texts(self.sms, self.sms_templates, self.sms_caps),
            replies: Replies { options, opt_outs_max },
            ported: self.ported,
            limits: self.limits,
            log: self.log,
            events: Events { file: events_file, rotate_bytes, keep },
            history: self.history,
        })
    }
}

/// What was read, without its places.
pub(super) fn values<T>(placed: Vec<Placed<T>>) -> Vec<T> {
    placed.into_iter().map(|p| p.value).collect()
}
