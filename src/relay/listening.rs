//! The relay's sockets: bound together, served together, stopped together.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::callbacks::CallbackServer;
use super::{Core, StartError, options};
use crate::admin;
use crate::admin::api::Api;
use crate::admin::control::{ControlSocket, ListenerStatus, SOCKET_NAME};
use crate::admin::http::{AdminServer, Shown};
use crate::egress::sms::CallbackListener;
use crate::ingress::answers::Answers;
use crate::ingress::bound;
use crate::ingress::cmpp::CmppServer;
use crate::ingress::http::listen::Transport;
use crate::ingress::http::{HttpServer, Live};
use crate::ingress::smpp::SmppServer;
use crate::ingress::smtp::{Shared, SmtpServer};
use crate::policy::credentials::Credentials;
use crate::queue::Queue;
use crate::storage::RealDisk;

/// Everything that is served.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) smtp: Vec<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
    pub(super) smpp: Vec<SocketAddr>,
    pub(super) cmpp: Vec<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    /// Where carriers come to us.
    pub(super) callbacks: Vec<SocketAddr>,
    /// Where they do by HTTP.
    pub(super) http_callbacks: Vec<SocketAddr>,
    bound: Bound,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Sockets that nobody is answered on yet.
#[derive(Debug, Default)]
struct Bound {
    smtp: Vec<SmtpServer<Queue>>,
    http: Option<HttpServer<Live>>,
    smpp: Vec<SmppServer>,
    cmpp: Vec<CmppServer>,
    admin: Option<AdminServer>,
    callbacks: Vec<CallbackListener>,
    http_callbacks: Vec<CallbackServer>,
    control: Option<ControlSocket<Core>>,
}

impl Listening {
    /// Binds everything, or nothing.
    pub(super) fn bind(core: &Arc<Core>, data_dir: &Path) -> Result<Self, StartError> {
        let config = core.config.lock().clone();
        let credentials = Credentials::new(core.live.clients.clone(), core.clock.clone());
        let mut bound = Bound::default();
        let shared = Shared::new(
            core.live.smtp.clone(),
            core.live.clients.clone(),
            credentials.clone(),
            core.live.tls.clone(),
            core.queue.clone(),
            core.clock.clone(),
            core.metrics.clone(),
        );
        for listener in &config.listeners {
            let server = SmtpServer::bind(options::listener(listener), shared.clone());
            bound.smtp.push(server.map_err(|e| cannot_listen(listener.address, &e))?);
        }
        let live = Live {
            queue: core.queue.clone(),
            credentials,
            opt_outs: core.opt_outs.clone(),
            ledger: core.ledger.clone(),
        };
        core.parts.replies.answer_by(Arc::new(Answers {
            clients: core.live.clients.clone(),
            live: live.clone(),
            caps: core.caps.clone(),
            options: core.live.smpp.clone(),
            metrics: core.metrics.clone(),
            clock: core.clock.clone(),
        }));
        (bound.smpp, bound.cmpp) = bind_links(core, &live, data_dir)?;
        if let (Some(listener), Some(options)) = (&config.http, &core.live.http) {
            let shared = crate::ingress::http::Shared {
                backend: live,
                metrics: core.metrics.clone(),
                caps: core.caps.clone(),
                clock: core.clock.clone(),
                tls: core.live.tls.clone(),
            };
            let server = HttpServer::bind(options.clone(), shared);
            bound.http = Some(server.map_err(|e| cannot_listen(listener.address, &e))?);
        }
        if let (Some(listener), Some(live)) = (&config.admin, &core.live.admin) {
            let shown = Shown {
                metrics: core.metrics.clone(),
                readiness: core.readiness.clone(),
                refresh: vec![core.clone().refresher()],
            };
            // Failures of operators are counted apart from those of clients: neither holds the other up.
            let credentials = Credentials::new(core.live.clients.clone(), core.clock.clone());
            let api = Api { operator: core.clone(), credentials, metrics: core.metrics.clone() };
            let server = AdminServer::bind(live.clone(), shown, api);
            bound.admin = Some(server.map_err(|e| cannot_listen(listener.address, &e))?);
        }
        for address in config.callback_addresses() {
            let (carriers, clock) = (core.carriers.clone(), core.clock.clone());
            let listener = CallbackListener::bind(address, carriers, clock, &core.metrics);
            bound.callbacks.push(listener.map_err(|e| cannot_listen(address, &e))?);
        }
        for (address, tls) in config.http_callbacks() {
            let transport = if tls { Transport::Tls(core.live.tls.clone()) } else { Transport::Plain };
            let server = CallbackServer::bind(address, transport, core.carriers.clone(), &core.metrics);
            bound.http_callbacks.push(server.map_err(|e| cannot_listen(address, &e))?);
        }
        let socket = data_dir.join(SOCKET_NAME);
        let control = ControlSocket::bind(&socket, core.clone());
        bound.control = Some(control.map_err(|e| StartError::failed(socket.display())(&e))?);
        let listening = Self {
            smtp: bound.smtp.iter().map(SmtpServer::local_addr).collect(),
            http: bound.http.as_ref().map(HttpServer::local_addr),
            smpp: bound.smpp.iter().map(SmppServer::local_addr).collect(),
            cmpp: bound.cmpp.iter().map(CmppServer::local_addr).collect(),
            admin: bound.admin.as_ref().map(AdminServer::local_addr),
            callbacks: bound.callbacks.iter().map(CallbackListener::local_addr).collect(),
            http_callbacks: bound.http_callbacks.iter().map(CallbackServer::local_addr).collect(),
            bound,
            tasks: JoinSet::new(),
            stop: watch::channel(false).0,
        };
        *core.listeners.lock() = listening.addresses();
        Ok(listening)
    }

    /// Starts answering.
    pub(super) fn serve(mut self) -> Self {
        let bound = std::mem::take(&mut self.bound);
        let stop = || self.stop.subscribe();
        for server in bound.smtp {
            self.tasks.spawn(server.run(stop()));
        }
        if let Some(server) = bound.http {
            self.tasks.spawn(server.run(stop()));
        }
        for server in bound.smpp {
            self.tasks.spawn(server.run(stop()));
        }
        for server in bound.cmpp {
            self.tasks.spawn(server.run(stop()));
        }
        if let Some(server) = bound.admin {
            self.tasks.spawn(server.run(stop()));
        }
        for listener in bound.callbacks {
            self.tasks.spawn(listener.run(stop()));
        }
        for server in bound.http_callbacks {
            self.tasks.spawn(server.run(stop()));
        }
        if let Some(socket) = bound.control {
            self.tasks.spawn(socket.run(stop()));
        }
        self
    }

    /// Writes where it listens into the data directory, all at once.
    pub(super) fn publish(&self, data_dir: &Path) -> io::Result<()> {
        let addresses = serde_json::json!({
            "smtp": self.smtp,
            "http": self.http,
            "smpp": self.smpp,
            "cmpp": self.cmpp,
            "admin": self.admin,
            "sgip": self.callbacks,
            "callbacks": self.http_callbacks,
        });
        let unfinished = data_dir.join(format!("{}.new", options::LISTENERS));
        let mut file = std::fs::File::create(&unfinished)?;
        writeln!(file, "{addresses}")?;
        std::fs::rename(unfinished, data_dir.join(options::LISTENERS))
    }

    /// Stops listening and waits for what is being answered.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    fn addresses(&self) -> Vec<ListenerStatus> {
        let named =
            |name: &str, address: &SocketAddr| ListenerStatus { name: name.to_owned(), address: address.to_string() };
        let smtp = self.smtp.iter().map(|a| named("smtp", a));
        let http = self.http.iter().map(|a| named("http", a));
        let smpp = self.smpp.iter().map(|a| named("smpp", a));
        let cmpp = self.cmpp.iter().map(|a| named("cmpp", a));
        let admin = self.admin.iter().map(|a| named("admin", a));
        let sgip = self.callbacks.iter().map(|a| named("sgip", a));
        let callbacks = self.http_callbacks.iter().map(|a| named("callbacks", a));
        smtp.chain(http).chain(smpp).chain(cmpp).chain(admin).chain(sgip).chain(callbacks).collect()
    }
}

/// Binds what SMPP and CMPP are served on. Blocks for a moment: parts that wait are read.
fn bind_links(
    core: &Arc<Core>,
    live: &Live,
    data_dir: &Path,
) -> Result<(Vec<SmppServer>, Vec<CmppServer>), StartError> {
    let Some(outbox) = &core.outbox else { return Ok((Vec::new(), Vec::new())) };
    let parties = bound::Parties {
        clients: core.live.clients.clone(),
        live: live.clone(),
        caps: core.caps.clone(),
        outbox: outbox.clone(),
        events: core.events.clone(),
        tls: core.live.tls.clone(),
        metrics: core.metrics.clone(),
        clock: core.clock.clone(),
    };
    let config = core.config.lock().clone();
    let (disk, parts) = (Arc::new(RealDisk), options::smpp_parts_file(data_dir));
    let opened = || SmppServer::open(disk.clone(), &parts, core.live.smpp.clone(), parties.clone());
    let smpp = bind_all(&config.smpp_listeners, &parts, opened, SmppServer::bind)?;
    let parts = options::cmpp_parts_file(data_dir);
    let opened = || CmppServer::open(disk.clone(), &parts, core.live.cmpp.clone(), parties.clone());
    let cmpp = bind_all(&config.cmpp_listeners, &parts, opened, CmppServer::bind)?;
    Ok((smpp, cmpp))
}

/// The listeners of one protocol; nothing is opened where there are none.
fn bind_all<S>(
    listeners: &[bound::Listener],
    parts: &Path,
    open: impl FnOnce() -> io::Result<Arc<bound::Shared>>,
    bind: impl Fn(bound::Listener, Arc<bound::Shared>) -> io::Result<S>,
) -> Result<Vec<S>, StartError> {
    if listeners.is_empty() {
        return Ok(Vec::new());
    }
    let shared = open().map_err(|e| StartError::failed(parts.display())(&e))?;
    tokio::spawn(bound::Shared::keep_up(&shared));
    let one = |listener: &bound::Listener| {
        bind(listener.clone(), shared.clone()).map_err(|e| cannot_listen(listener.address, &e))
    };
    listeners.iter().map(one).collect()
}

fn cannot_listen(address: SocketAddr, why: &io::Error) -> StartError {
    StartError::failed(format!("cannot listen on {address}"))(why)
}

impl Core {
    /// Brings figures that are read rather than counted up to date, just before they are shown.
    fn refresher(self: Arc<Self>) -> admin::http::Refresh {
        let shown = parking_lot::Mutex::new(crate::storage::Stats::default());
        Box::new(move || {
            let stats = self.queue.log().stats();
            let mut before = shown.lock();
            let metrics = &self.metrics;
            metrics.log_batches.inc_by(stats.batches.saturating_sub(before.batches));
            metrics.log_sync_seconds.inc_by(stats.sync_time.saturating_sub(before.sync_time).as_secs_f64());
            metrics.log_bytes.inc_by(stats.bytes.saturating_sub(before.bytes));
            metrics.log_corrupt_records.inc_by(stats.damaged.saturating_sub(before.damaged));
            metrics.log_segments.set(i64::try_from(stats.segments).unwrap_or(i64::MAX));
            *before = stats;
        })
    }
}
