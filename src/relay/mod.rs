//! The relay, assembled: built in order, reloaded in place, drained in reverse.
//!
//! **What.** [`Relay::start`] builds everything from a [`Config`]: storage and queue, couriers, dispatch, then listeners.
//! [`serve`] runs one until a signal ends it.
//!
//! **Promises.** Nothing listens before what was queued has been recovered; `listeners.json` in the data directory says
//! where it listens once it is ready. [`Relay::stop`] takes no more, lets what is under way end, and closes the log last; it
//! is through within ten seconds. A reload swaps what can be swapped without losing a connection; a bad configuration
//! changes nothing.
//!
//! **Fails how.** A start that fails undoes itself and says why. A poisoned log ends [`serve`] with an error, so that a
//! supervisor starts anew.

mod callbacks;
mod kept;
mod listening;
mod operator;
mod options;
mod ported;
mod reload;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{Readiness, Reason};
use crate::clock::{Mono, SharedClock, SystemClock};
use crate::config::{Config, Mistake};
use crate::dispatch::replies::{self, Replies};
use crate::dispatch::{Carriers, Dispatch, Inbox, Notices, Parts, Porting, PortingOptions, Reporting};
use crate::dns::Resolver;
use crate::egress::email::{self, MailEgress, PausedSource};
use crate::egress::sms::Carrier;
use crate::event::log::EventLog;
use crate::event::metrics::Metrics;
use crate::ingress::{bound, http, smtp};
use crate::mail::dkim::SignerSet;
use crate::policy::Clients;
use crate::policy::opt_outs::OptOuts;
use crate::policy::texts::{Caps, Ledger};
use crate::queue::steering::Rule;
use crate::queue::{Place, Queue};
use crate::route::Routes;
use crate::storage::RealDisk;
use listening::Listening;

/// How long leases that are out may take to come back at a stop.
const DISPATCH_DRAIN: Duration = Duration::from_secs(6);
/// How long carriers may take to answer what is on the wire and to be unbound, at a stop.
const CARRIER_DRAIN: Duration = Duration::from_secs(2);
/// What a carrier that a reload replaces may take beyond its own time for an answer.
const REPLACED_DRAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether MTA-STS policies are to be fetched anew.
const POLICIES_LOOKED_AT: Duration = Duration::from_secs(1800);
/// How often it is looked whether a day of warm-up is over.
const WARMUP_TENDED: Duration = Duration::from_secs(1);
/// How often the state of the disk is looked at.
const STORAGE_LOOKED_AT: Duration = Duration::from_millis(500);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    core: Arc<Core>,
    dispatch: Dispatch,
    reporting: Reporting,
    listening: Listening,
}

/// What a reload, an operator and a stop all need.
#[derive(Debug)]
pub(crate) struct Core {
    queue: Queue,
    opt_outs: OptOuts,
    /// What clients are to be brought by SMPP, where that is served.
    outbox: Option<Arc<bound::Outbox>>,
    events: EventLog,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    carriers: Carriers,
    /// What dispatch works with.
    parts: Parts,
    clock: SharedClock,
    started: Mono,
    /// What is kept for the next start.
    kept: kept::Files,
    /// What texts have cost today.
    ledger: Ledger,
    /// What numbers have been sent lately, whoever brought it.
    caps: Caps,
    live: Live,
    runtime: tokio::runtime::Handle,
    /// The configuration in force; held while a new one is put in its place.
    config: parking_lot::Mutex<Arc<Config>>,
    listeners: parking_lot::Mutex<Vec<crate::admin::control::ListenerStatus>>,
}

/// Settings that are swapped by a reload, as their users hold them.
#[derive(Debug)]
struct Live {
    clients: Arc<ArcSwap<Clients>>,
    routes: Arc<ArcSwap<Routes>>,
    smtp: Arc<ArcSwap<smtp::Options>>,
    http: Option<Arc<ArcSwap<http::Options>>>,
    smpp: Arc<ArcSwap<bound::Options>>,
    cmpp: Arc<ArcSwap<bound::Options>>,
    admin: Option<Arc<ArcSwap<crate::admin::http::Options>>>,
    email: Arc<ArcSwap<email::Options>>,
    tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    signers: Arc<ArcSwap<SignerSet>>,
    connections_max: Arc<AtomicUsize>,
    notices: Arc<ArcSwap<Notices>>,
    replies: Arc<ArcSwap<replies::Options>>,
    porting: Arc<ArcSwap<PortingOptions>>,
}

/// Why a relay did not start, or stopped.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong: all mistakes.
    Config(Vec<Mistake>),
    /// Something could not be opened, bound or understood.
    Failed(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(mistakes) => {
                for (n, mistake) in mistakes.iter().enumerate() {
                    write!(f, "{}{mistake}", if n == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn failed(what: impl fmt::Display) -> impl FnOnce(&dyn fmt::Display) -> Self {
        move |why| Self::Failed(format!("{what}: {why}"))
    }
}

impl Relay {
    /// Builds and starts a relay; `hold` keeps everything back until `postrider resume`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing of it runs on.
    pub async fn start(config: Config, hold: bool) -> Result<Self, StartError> {
        crate::net::tls::install_provider();
        let tls = options::tls(&config).map_err(StartError::Failed)?;
        let signers = options::signers(&config).map_err(StartError::Failed)?;
        let clock = SystemClock::shared();
        let metrics = Arc::new(Metrics::new());
        let data_dir = config.server.data_dir.clone();
        make_private_dir(&data_dir).map_err(|e| StartError::failed(data_dir.display())(&e))?;
        let ported = ported::open(&config, &clock).await?;
        let live = Live {
            clients: Arc::new(ArcSwap::from_pointee(config.clients.clone())),
            routes: Arc::new(ArcSwap::from_pointee(config.routes.clone().knowing(ported.clone()))),
            smtp: Arc::new(ArcSwap::from_pointee(options::smtp(&config))),
            http: config.http.as_ref().map(|h| Arc::new(ArcSwap::from_pointee(options::http(&config, h)))),
            smpp: Arc::new(ArcSwap::from_pointee(options::smpp(&config))),
            cmpp: Arc::new(ArcSwap::from_pointee(options::cmpp(&config))),
            admin: config.admin.as_ref().map(|a| Arc::new(ArcSwap::from_pointee(options::admin(a)))),
            email: Arc::new(ArcSwap::from_pointee(options::email(&config))),
            tls: Arc::new(ArcSwapOption::new(tls)),
            signers: Arc::new(ArcSwap::from_pointee(signers)),
            connections_max: Arc::new(AtomicUsize::new(config.delivery.concurrency)),
            notices: Arc::new(ArcSwap::from_pointee(options::notices(&config))),
            replies: Arc::new(ArcSwap::from_pointee(config.replies.options.clone())),
            porting: Arc::new(ArcSwap::from_pointee(config.ported.clone())),
        };
        let outbox = open_outbox(&config, &live, &clock, &metrics).await?;
        let (queue, events) = open_queue(&config, hold, &live, &clock, &metrics, outbox.clone()).await?;
        let (opt_outs, replies) = open_replies(&config, &live, &queue, &events, &clock, &metrics).await?;
        let (ledger, caps) = (Ledger::default(), Caps::new(config.texts.numbers_remembered));
        let kept = kept::Files::recall(&config.server.data_dir, &queue, &ledger, &caps, clock.now());
        let resolver =
            Resolver::new(&options::dns(&config), clock.clone()).map_err(|e| StartError::failed("dns")(&e))?;
        let signer = Arc::new(reload::LiveSigner { signers: live.signers.clone(), clock: clock.clone() });
        let mail = Arc::new(MailEgress::new(live.email.clone(), resolver, metrics.clone(), clock.clone(), signer));
        let (carriers, connections_max) = (Carriers::default(), live.connections_max.clone());
        let parts = Parts {
            queue: queue.clone(),
            mail,
            carriers: carriers.clone(),
            connections_max,
            notices: live.notices.clone(),
            replies: replies.clone(),
            porting: Porting { ported, options: live.porting.clone(), metrics: metrics.clone(), clock: clock.clone() },
            clock: clock.clone(),
        };
        let core = Arc::new(Core {
            started: clock.mono(),
            kept,
            ledger,
            caps,
            carriers,
            parts: parts.clone(),
            queue,
            opt_outs,
            outbox,
            events,
            metrics,
            readiness: Readiness::starting(),
            clock,
            live,
            runtime: tokio::runtime::Handle::current(),
            config: parking_lot::Mutex::new(Arc::new(config)),
            listeners: parking_lot::Mutex::default(),
        });
        let listening = Listening::bind(&core, &data_dir).inspect_err(|_| core.events.close())?;
        core.start_carriers()?;
        let policies = Arc::downgrade(&parts.mail);
        let mut source_rules = core.queue.source_rules();
        parts.mail.pause_sources(paused(&source_rules.borrow_and_update()));
        tokio::spawn(pause_sources(source_rules, policies.clone()));
        let reporting = Reporting::start(parts.clone(), core.events.clone(), core.metrics.clone());
        let dispatch = Dispatch::start(parts);
        let listening = listening.serve();
        tokio::spawn(watch_storage(Arc::downgrade(&core)));
        tokio::spawn(refresh_policies(policies));
        tokio::spawn(Replies::keep_up(Arc::downgrade(&replies)));
        tokio::spawn(tend_warmup(Arc::downgrade(&core)));
        tokio::spawn(ported::tend(Arc::downgrade(&core)));
        core.tend_outbox();
        kept::keep_up(&core);
        core.readiness.clear(Reason::Starting);
        listening.publish(&data_dir).map_err(|e| StartError::failed(data_dir.display())(&e))?;
        Ok(Self { core, dispatch, reporting, listening })
    }

    /// Where SMTP is served, in the order of the configuration.
    pub fn smtp_addresses(&self) -> Vec<SocketAddr> {
        self.listening.smtp.clone()
    }

    /// Where the applications' API is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.listening.http
    }

    /// Where carriers come to us, in the order of the configuration.
    pub fn callback_addresses(&self) -> Vec<SocketAddr> {
        self.listening.callbacks.clone()
    }

    /// Where SMPP is served, in the order of the configuration.
    pub fn smpp_addresses(&self) -> Vec<SocketAddr> {
        self.listening.smpp.clone()
    }

    /// Where metrics and health are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listening.admin
    }

    /// The queue.
    pub fn queue(&self) -> Queue {
        self.core.queue.clone()
    }

    /// Facts as they happen.
    pub fn events(&self) -> EventLog {
        self.core.events.clone()
    }

    /// Reads the configuration anew; returns what cannot change without a restart.
    ///
    /// # Errors
    /// All that is wrong with it; the old one stays in force.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        self.core.reload()
    }

    /// Stops within ten seconds: listeners first, then what is being carried, the log last.
    pub async fn stop(self) {
        let Self { core, dispatch, reporting, listening } = self;
        core.readiness.set(Reason::Stopping);
        // Side by side: a transaction that is being answered and a delivery under way have nothing to do with each other.
        let ((), drained) = tokio::join!(listening.stop(), dispatch.stop(DISPATCH_DRAIN));
        if !drained {
            tracing::warn!(
                "some deliveries did not end in time; they are still queued and start anew with the next start"
            );
        }
        let mail = core.parts.mail.clone();
        let _ = tokio::task::spawn_blocking(move || mail.keep_warmup()).await;
        core.keep().await;
        reporting.stop().await;
        let carriers = core.carriers.swap(Arc::default());
        let mut leaving = JoinSet::new();
        for carrier in carriers.values() {
            let carrier = carrier.clone();
            leaving.spawn(async move { carrier.shutdown(CARRIER_DRAIN).await });
        }
        while leaving.join_next().await.is_some() {}
        core.queue.shutdown().await;
        if let Some(outbox) = &core.outbox {
            outbox.flush().await;
        }
        let events = core.events.clone();
        let _ = tokio::task::spawn_blocking(move || events.close()).await;
    }
}

async fn open_queue(
    config: &Config,
    hold: bool,
    live: &Live,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
    outbox: Option<Arc<bound::Outbox>>,
) -> Result<(Queue, EventLog), StartError> {
    let event_options = options::events(config);
    let file = event_options.file.display().to_string();
    let events = EventLog::open(event_options, metrics.clone()).map_err(|e| StartError::failed(file)(&e))?;
    // Before the queue tells what the last crash kept from being told.
    outbox.into_iter().for_each(|outbox| events.follow(outbox));
    let (spool, log) = (options::spool(&config.server.data_dir), options::storage(config));
    let (queue_options, routes) = (options::queue(config, hold), live.routes.clone());
    let (own_clock, facts, metrics) = (clock.clone(), events.clone(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let place = Place { disk: Arc::new(RealDisk), dir: &spool, log };
        Queue::open(place, queue_options, routes, own_clock, facts, metrics)
    });
    let (queue, recovery) =
        opened.await.map_err(|e| StartError::failed("queue")(&e))?.map_err(|e| StartError::failed("queue")(&e))?;
    for damage in &recovery.log.damage {
        tracing::error!(segment = damage.segment, offset = damage.offset, what = %damage.what, "a damaged record was set aside");
    }
    tracing::info!(
        keys = recovery.keys,
        records = recovery.log.records,
        segments = recovery.log.segments,
        sidecars = recovery.log.sidecars,
        damaged = recovery.log.damage.len(),
        facts_completed = recovery.facts,
        strange = recovery.strange,
        duration_ms = recovery.log.time.as_millis() as u64,
        "queue opened"
    );
    tokio::spawn(tell_progress(queue.clone(), clock.clone()));
    Ok((queue, events))
}

/// Opens what clients are to be brought by SMPP or CMPP, where one of them is served.
async fn open_outbox(
    config: &Config,
    live: &Live,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<bound::Outbox>>, StartError> {
    if config.smpp_listeners.is_empty() && config.cmpp_listeners.is_empty() {
        return Ok(None);
    }
    let file = options::smpp_outbox_file(&config.server.data_dir);
    let (options, metrics, clock) = (live.smpp.clone(), metrics.clone(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || {
        bound::Outbox::open(Arc::new(RealDisk), &file, options, metrics, clock)
            .map_err(|e| StartError::failed(file.display())(&e))
    });
    opened.await.map_err(|e| StartError::failed("clients' receipts")(&e))?.map(Some)
}

/// Opens the list of opt-outs and what handsets' messages wait for each other.
async fn open_replies(
    config: &Config,
    live: &Live,
    queue: &Queue,
    events: &EventLog,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> Result<(OptOuts, Arc<Replies>), StartError> {
    let data_dir = &config.server.data_dir;
    let (list, parts) = (options::opt_outs_file(data_dir), options::handset_parts_file(data_dir));
    let (most, options) = (config.replies.opt_outs_max, live.replies.clone());
    let (queue, events, clock, metrics) = (queue.clone(), events.clone(), clock.clone(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || -> Result<_, StartError> {
        let opt_outs =
            OptOuts::open(Arc::new(RealDisk), &list, most).map_err(|e| StartError::failed(list.display())(&e))?;
        let parties = replies::Parties { queue, opt_outs: opt_outs.clone(), events, metrics, clock };
        let replies = Replies::open(Arc::new(RealDisk), &parts, options, parties)
            .map_err(|e| StartError::failed(parts.display())(&e))?;
        Ok((opt_outs, Arc::new(replies)))
    });
    opened.await.map_err(|e| StartError::failed("replies")(&e))?
}

/// How often the taking in of a backlog is told of while it lasts.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Tells how the backlog is being taken in.
async fn tell_progress(queue: Queue, clock: SharedClock) {
    let (began, progress) = (clock.mono(), queue.progress());
    loop {
        let loaded = tokio::time::timeout(PROGRESS_EVERY, queue.loaded()).await;
        let so_far = *progress.borrow();
        let spent = clock.mono().since(began).as_millis() as u64;
        match loaded {
            Ok(all) => {
                tracing::info!(
                    messages = all.messages,
                    unknown = all.unknown,
                    strange = all.strange,
                    duration_ms = spent,
                    "backlog taken in"
                );
                return;
            }
            Err(_) => tracing::info!(
                messages = so_far.messages,
                segments = format!("{}/{}", so_far.segments_done, so_far.segments),
                duration_ms = spent,
                "taking in the backlog"
            ),
        }
    }
}

impl Core {
    fn start_carriers(&self) -> Result<(), StartError> {
        let wanted = options::carriers(&self.config.lock());
        for (name, made) in wanted {
            let carrier = self.start_carrier(made).map_err(|e| StartError::failed(format!("carrier {name}"))(&e))?;
            self.put_carrier(name, carrier);
        }
        Ok(())
    }

    /// Finds out what became of texts while nobody looked, and looks after what clients are to be brought.
    fn tend_outbox(&self) {
        let Some(outbox) = &self.outbox else { return };
        let events = options::events(&self.config.lock());
        tokio::spawn(outbox.clone().reconcile(self.queue.clone(), events.file, events.keep));
        tokio::spawn(bound::Outbox::keep_up(Arc::downgrade(outbox)));
    }

    fn start_carrier(&self, options: crate::egress::sms::Options) -> Result<Arc<Carrier>, String> {
        let _runtime = self.runtime.enter();
        let Parts { replies, porting, .. } = &self.parts;
        let inbound = Inbox { queue: self.queue.clone(), replies: replies.clone(), porting: porting.clone() };
        let inbound = Arc::new(inbound);
        Carrier::start(options, self.clock.clone(), &self.metrics, inbound).map_err(|e| e.to_string())
    }

    fn put_carrier(&self, name: Arc<str>, carrier: Arc<Carrier>) -> Option<Arc<Carrier>> {
        let mut all = (**self.carriers.load()).clone();
        let before = all.insert(name, carrier);
        self.carriers.store(Arc::new(all));
        before
    }
}

/// Keeps what domains publish about TLS fresh, also for those that get no mail for long.
async fn refresh_policies(mail: Weak<MailEgress>) {
    loop {
        tokio::time::sleep(POLICIES_LOOKED_AT).await;
        let Some(mail) = mail.upgrade() else { return };
        mail.refresh_policies().await;
    }
}

/// Has mail leave from no source that a rule pauses, as rules come and go.
async fn pause_sources(mut rules: watch::Receiver<Arc<[Rule]>>, mail: Weak<MailEgress>) {
    while rules.changed().await.is_ok() {
        let Some(mail) = mail.upgrade() else { return };
        mail.pause_sources(paused(&rules.borrow_and_update()));
    }
}

fn paused(rules: &[Rule]) -> Vec<PausedSource> {
    let of = |rule: &Rule| {
        let (source, provider) = (rule.selector.source.clone()?, rule.selector.provider.clone());
        Some(PausedSource { why: format!("source {source} is {}", rule.sentence()).into(), source, provider })
    };
    rules.iter().filter_map(of).collect()
}

/// Judges the days of sources that are warmed up, tells what came of them, and keeps how far they are.
async fn tend_warmup(core: Weak<Core>) {
    loop {
        tokio::time::sleep(WARMUP_TENDED).await;
        let Some(core) = core.upgrade() else { return };
        let tended = tokio::task::spawn_blocking(move || {
            core.parts.mail.tend_warmup().into_iter().for_each(|fact| core.events.record(fact));
        });
        if let Err(e) = tended.await {
            tracing::error!(error = %e, "warm-up is not tended");
        }
    }
}

/// Tells whoever asks for readiness when the disk is too full to take more, or has failed.
async fn watch_storage(core: Weak<Core>) {
    loop {
        tokio::time::sleep(STORAGE_LOOKED_AT).await;
        let Some(core) = core.upgrade() else { return };
        let log = core.queue.log();
        if *log.poisoned().borrow() {
            core.readiness.set(Reason::StorageFailed);
        }
        if log.has_space() {
            core.readiness.clear(Reason::DiskFull);
        } else {
            core.readiness.set(Reason::DiskFull);
        }
    }
}

/// Runs a relay until SIGTERM or SIGINT; SIGHUP reloads its configuration.
///
/// # Errors
/// [`StartError`] if it does not start, or if storage failed while it ran.
pub async fn serve(file: &Path, hold: bool) -> Result<(), StartError> {
    let (config, warnings) = Config::load(file).map_err(StartError::Config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let signals = |kind| signal(kind).map_err(|e| StartError::failed("signals")(&e));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let mut hang_up = signals(SignalKind::hangup())?;
    let relay = Relay::start(config, hold).await?;
    let mut poisoned = relay.core.queue.log().poisoned();
    notify_supervisor(&[sd_notify::NotifyState::Ready]);
    tracing::info!(smtp = ?relay.smtp_addresses(), http = ?relay.http_address(), smpp = ?relay.smpp_addresses(), admin = ?relay.admin_address(), held = hold, "ready");
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            _ = hang_up.recv() => relay.reload_and_tell().await,
            _ = poisoned.wait_for(|&poisoned| poisoned) => break true,
        }
    };
    notify_supervisor(&[sd_notify::NotifyState::Stopping]);
    if failed {
        relay.core.readiness.set(Reason::StorageFailed);
        tracing::error!("storage failed: nothing more is accepted or sent; stopping so that a supervisor starts anew");
    } else {
        tracing::info!("stopping");
    }
    relay.stop().await;
    tracing::info!("stopped");
    if failed { Err(StartError::Failed("storage failed".to_owned())) } else { Ok(()) }
}

impl Relay {
    async fn reload_and_tell(&self) {
        notify_supervisor(&[sd_notify::NotifyState::Reloading]);
        let core = self.core.clone();
        match tokio::task::spawn_blocking(move || core.reload()).await {
            Ok(Ok(notes)) => {
                tracing::info!("configuration reloaded");
                notes.iter().for_each(|note| tracing::warn!("{note}"));
            }
            Ok(Err(why)) => tracing::error!("configuration not reloaded, the old one stays in force:\n{why}"),
            Err(e) => tracing::error!(error = %e, "configuration not reloaded"),
        }
        notify_supervisor(&[sd_notify::NotifyState::Ready]);
    }
}

/// Tells systemd, if it listens.
fn notify_supervisor(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!(error = %e, "the supervisor was not told");
    }
}

/// Makes a directory that only its owner may enter, unless it is there.
fn make_private_dir(dir: &PathBuf) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
