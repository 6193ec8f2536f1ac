//! A new configuration in place of the old one, without losing a connection or a message.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Core, REPLACED_DRAIN, options};
use crate::clock::SharedClock;
use crate::config::{Carrier, Config};
use crate::egress::email::{Sign, SignError};
use crate::egress::sms::http::Http;
use crate::mail::dkim::SignerSet;
use crate::mail::header::header_section;
use crate::model::{Envelope, MailData};

/// Signs with the keys in force.
pub(super) struct LiveSigner {
    pub(super) signers: Arc<ArcSwap<SignerSet>>,
    pub(super) clock: SharedClock,
}

impl Sign for LiveSigner {
    fn applies(&self, envelope: &Envelope, _data: &MailData) -> bool {
        envelope.mail().is_some() && !self.signers.load().is_empty()
    }

    fn sign(&self, envelope: &Envelope, data: &MailData) -> Result<Bytes, SignError> {
        let Some(mail) = envelope.mail() else { return Ok(Bytes::new()) };
        let section = header_section(data, mail.header_bytes);
        let made = self.signers.load().signatures(section, &mail.body_hash, self.clock.now());
        made.map(Bytes::from).map_err(|e| SignError(e.to_string()))
    }
}

impl Core {
    /// Reads the configuration file again and puts everything that can change in place. Nothing changes if anything is
    /// wrong with it. Blocks.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn reload(&self) -> Result<Vec<String>, String> {
        let mut current = self.config.lock();
        let changed = self.replace(&current);
        self.metrics.reloads.with_label_values(&[if changed.is_ok() { "ok" } else { "failed" }]).inc();
        let (config, notes) = changed?;
        *current = Arc::new(config);
        Ok(notes)
    }

    fn replace(&self, old: &Config) -> Result<(Config, Vec<String>), String> {
        let (new, warnings) = Config::load(&old.file).map_err(|mistakes| joined(&mistakes))?;
        let tls = options::tls(&new)?;
        let signers = options::signers(&new)?;
        self.replace_carriers(old, &new)?;
        // From here on nothing can fail.
        let live = &self.live;
        live.tls.store(tls);
        live.signers.store(Arc::new(signers));
        live.clients.store(Arc::new(new.clients.clone()));
        live.smtp.store(Arc::new(options::smtp(&new)));
        if let (Some(http), Some(listener)) = (&live.http, &new.http) {
            http.store(Arc::new(options::http(&new, listener)));
        }
        live.smpp.store(Arc::new(options::smpp(&new)));
        live.cmpp.store(Arc::new(options::cmpp(&new)));
        if let (Some(admin), Some(listener)) = (&live.admin, &new.admin) {
            admin.store(Arc::new(options::admin(listener)));
        }
        live.email.store(Arc::new(options::email(&new)));
        live.connections_max.store(new.delivery.concurrency, Ordering::Relaxed);
        live.notices.store(Arc::new(options::notices(&new)));
        live.porting.store(Arc::new(new.ported.clone()));
        live.replies.store(Arc::new(new.replies.options.clone()));
        live.routes.store(Arc::new(new.routes.clone().knowing(self.parts.porting.ported.clone())));
        self.queue.reconfigure(options::queue(&new, false));
        let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        notes.extend(needs_restart(old, &new));
        Ok((new, notes))
    }

    /// Starts carriers that are new or changed, and drains those that they replace or that are gone.
    fn replace_carriers(&self, old: &Config, new: &Config) -> Result<(), String> {
        let (before, after) = (described(old), described(new));
        let mut started = Vec::new();
        for (name, options) in options::carriers(new) {
            if before.get(&name) != after.get(&name) {
                let carrier = self.start_carrier(options).map_err(|e| format!("carrier {name}: {e}"))?;
                started.push((name, carrier));
            }
        }
        let mut all = (**self.carriers.load()).clone();
        let mut replaced = Vec::new();
        all.retain(|name, carrier| {
            let stays = after.contains_key(name);
            if !stays {
                replaced.push(carrier.clone());
            }
            stays
        });
        for (name, carrier) in started {
            replaced.extend(all.insert(name, carrier));
        }
        self.carriers.store(Arc::new(all));
        for carrier in replaced {
            // Nothing presses: what is on the wire gets all the time its carrier has for answers.
            let within = carrier.options().response_timeout + REPLACED_DRAIN;
            self.runtime.spawn(async move { carrier.shutdown(within).await });
        }
        Ok(())
    }
}

/// What tells one carrier's settings from another's, its passwords included.
fn described(config: &Config) -> HashMap<Arc<str>, (String, String)> {
    let secrets = |c: &Carrier| {
        let callback = c.protocol.callback().map_or("", |callback| callback.password.expose());
        let http = c.protocol.http().map(Http::secrets).unwrap_or_default();
        format!("{}\0{callback}\0{http}", c.password.expose())
    };
    config.carriers.iter().map(|c| (c.name.clone(), (format!("{c:?}"), secrets(c)))).collect()
}

/// What a reload leaves as it was.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let callbacks = |config: &Config| {
        let sgip = config.callback_addresses().into_iter().map(|address| (address, false));
        sgip.chain(config.http_callbacks()).collect::<HashSet<_>>()
    };
    let same = [
        ("[[listener]]", format!("{:?}", old.listeners) == format!("{:?}", new.listeners)),
        ("[http]", format!("{:?}", old.http) == format!("{:?}", new.http)),
        ("[[smpp_listener]]", old.smpp_listeners == new.smpp_listeners),
        ("[[cmpp_listener]]", old.cmpp_listeners == new.cmpp_listeners),
        ("[cmpp_server] joining", old.cmpp_server.joining_max == new.cmpp_server.joining_max),
        ("[smpp_server] joining", old.smpp_server.joining_max == new.smpp_server.joining_max),
        ("[smpp_server] receipts", old.smpp_server.receipts_max == new.smpp_server.receipts_max),
        ("[admin] address", old.admin.as_ref().map(|a| a.address) == new.admin.as_ref().map(|a| a.address)),
        ("listen or callback_tls of [[carrier]]", callbacks(old) == callbacks(new)),
        ("server.data_dir", old.server.data_dir == new.server.data_dir),
        ("[dns]", format!("{:?}", old.dns) == format!("{:?}", new.dns)),
        ("[dane] trust_anchors", old.dane.anchors == new.dane.anchors),
        ("[log]", format!("{:?}", old.log) == format!("{:?}", new.log)),
        ("[events]", format!("{:?}", old.events) == format!("{:?}", new.events)),
        ("[replies] joining", old.replies.options.joining_max == new.replies.options.joining_max),
        ("[opt_outs] entries", old.replies.opt_outs_max == new.replies.opt_outs_max),
        ("[history]", format!("{:?}", old.history) == format!("{:?}", new.history)),
    ];
    let changed = same.into_iter().filter(|(_, same)| !same);
    changed.map(|(key, _)| format!("{key} has changed: that takes a restart")).collect()
}

fn joined<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
