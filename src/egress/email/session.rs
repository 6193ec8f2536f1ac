//! From a destination to a host that is ready for a transaction: connect, greeting, EHLO, STARTTLS.
//!
//! **Promises.** Hosts and their addresses are walked in order while they fail before a transaction; the walk is bounded in
//! hosts, addresses and time. Where the TLS policy demands no TLS, a host whose TLS fails is tried again in clear and that is
//! remembered for a while; where it does, nothing goes in clear, and a session knows how it was secured, so that it carries no
//! mail whose policy demands more. What was said before TLS counts for nothing after it; bytes injected before it end the
//! session, as does every reply that comes before its command.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::MailEgress;
use super::connection::{Connection, Lost};
use super::courier::about_source;
use super::dane::Unproven;
use super::hosts::{self, Host};
use super::options::Options;
use super::sources::{Held, Pool, Source, Towards};
use super::tls_policy::{Dane, NOT_OFFERED, NOT_PERMITTED, NOT_SECURE, Policy, TlsLevel};
use super::tls_rpt::ResultType;
use super::tls_rpt::watch::{Sight, Watched};
use super::verdict::{Setback, takes_no_mail, with_reply};
use super::wish;
use crate::model::{EnhancedStatus, Failure, Outcome, Peer, RecipientOutcome, Reply, Scope, Stage};
use crate::net::tls::{self, TlsError};
use crate::net::{self, ConnectError};
use crate::route::MailHop;
use crate::schedule::{SiteId, SourceShares};
use crate::wire::smtp::client::ReplyFault;
use crate::wire::smtp::client::dialogue::{AwaitGreeting, AwaitHello, Greeted, Hello, Idle, Tls};

/// How long a source rests where nobody says for how long.
const REST: Duration = Duration::from_secs(15 * 60);
/// Where it was only asked for less.
const REST_SHORT: Duration = Duration::from_secs(60);

/// Where a mail goes, where from, and with which TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub(super) hop: &'a MailHop,
    pub(super) pool: &'a Pool,
    /// All mail of the same client, class and destination uses that pool.
    pub(super) whole_lane: bool,
    /// What each source may do, where several send to the same site.
    pub(super) shares: Option<&'a Arc<SourceShares>>,
    /// The site of the schedule that it goes by, if there is one.
    pub(super) of: Option<SiteId>,
    pub(super) tls: &'a Policy,
    /// Whom its sessions are told to; `None`: nobody.
    pub(super) watched: Option<&'a Watched>,
}

/// A connection ready for a transaction.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    /// `None` once a transaction has left the connection unusable.
    pub(super) idle: Option<Idle>,
    pub(super) peer: Peer,
    /// Where it was made from.
    pub(super) from: Arc<Held>,
    /// Who blames that source, if it is blamed, and who counts what it sends.
    pub(super) towards: Towards,
    /// The destination that it was opened or last used for.
    pub(super) hop: MailHop,
    /// Mails carried.
    pub(super) carried: u32,
    /// What it was secured with; `None` in clear.
    secured: Option<Arc<ClientConfig>>,
}

/// Why a host could not be talked to.
enum Trouble {
    /// This address is of no use now.
    Setback(Box<Setback>),
    /// It offers TLS and fails in it: to be tried in clear where that may be.
    TlsBroken(Lost),
}

impl From<Setback> for Trouble {
    fn from(setback: Setback) -> Self {
        Self::Setback(Box::new(setback))
    }
}

impl Session {
    /// A session with the best host of `hop` that will talk to us. What made it try another source goes to `blamed`.
    pub(super) async fn open(
        egress: &MailEgress,
        options: &Options,
        way: Way<'_>,
        blamed: &mut Vec<RecipientOutcome>,
    ) -> Result<Self, Setback> {
        let mut setbacks = Setbacks::default();
        if let Some(watched) = way.watched {
            watched.look_up(egress, options).await;
        }
        let walk = walk(egress, options, way, (&mut setbacks, blamed));
        match tokio::time::timeout(options.timeouts.opening, walk).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(setbacks.verdict()),
            Err(_) => {
                setbacks.note(no_answer(None, "no host of the destination was ready in time".to_owned()));
                Err(setbacks.verdict())
            }
        }
    }

    /// Takes it for mail under this policy. False if it was opened with less than that demands, or leads to a host that the
    /// policy does not know.
    pub(super) fn enters(&mut self, egress: &MailEgress, options: &Options, policy: &Policy) -> bool {
        let secured_with = |wanted: &Arc<ClientConfig>| self.secured.as_ref().is_some_and(|s| Arc::ptr_eq(s, wanted));
        let secure = match policy.level {
            // By which records counts, too: they may have changed.
            _ if policy.named.is_some() => policy.named.as_ref().is_some_and(|named| secured_with(&named.with)),
            TlsLevel::Off | TlsLevel::Opportunistic => true,
            TlsLevel::Required => self.secured.is_some(),
            // By whom the certificate was checked counts: a reload may have named others.
            TlsLevel::Verified => {
                egress.verifying.by(&options.tls.authorities).is_ok_and(|wanted| secured_with(&wanted))
            }
            TlsLevel::Dane => false,
        };
        self.peer.tls_policy = Some(policy.name.clone());
        let promised = self.idle.as_ref().is_some_and(|idle| idle.capabilities().require_tls);
        secure && policy.permits(&self.peer.host) && (promised || !policy.demands_promise())
    }

    /// Says QUIT; waits for the answer if asked to.
    pub(super) async fn quit(mut self, wait: bool, within: Duration) {
        if let Some(idle) = self.idle.take() {
            let mut out = Vec::new();
            idle.quit(&mut out);
            if self.connection.say(&out, within).await.is_ok() && wait {
                let _ = self.connection.reply(within).await;
            }
        }
        self.connection.close(within).await;
    }
}

/// What went wrong on the way through the hosts.
#[derive(Default)]
struct Setbacks {
    hosts: usize,
    last_temporary: Option<Setback>,
    last_permanent: Option<Setback>,
}

impl Setbacks {
    fn note(&mut self, setback: Setback) {
        let slot = if setback.permanent { &mut self.last_permanent } else { &mut self.last_temporary };
        *slot = Some(setback);
    }

    /// For how long the source is to rest, if it is what was blamed, and by what.
    fn blames_source(&self) -> Option<(Duration, &Setback)> {
        self.all().find_map(|setback| Some((rest_for(&setback.failure)?, setback)))
    }

    fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.all().map(|setback| &setback.failure)
    }

    fn all(&self) -> impl Iterator<Item = &Setback> {
        [&self.last_temporary, &self.last_permanent].into_iter().flatten()
    }

    /// While one host may get better, the destination may.
    fn verdict(self) -> Setback {
        let several = self.hosts > 1;
        let mut setback = self
            .last_temporary
            .or(self.last_permanent)
            .unwrap_or_else(|| no_answer(None, "the destination has no host to try".to_owned()));
        if several && setback.failure.scope == Scope::Host {
            setback.failure.scope = Scope::Site;
        }
        setback
    }
}

/// From one source after the other, as long as it is the source that is blamed.
async fn walk(
    egress: &MailEgress,
    options: &Options,
    way: Way<'_>,
    (setbacks, blamed): (&mut Setbacks, &mut Vec<RecipientOutcome>),
) -> Option<Session> {
    let hosts = match hosts::hosts(egress, options, way.hop, way.tls.asks_dnssec()).await {
        Ok(hosts) => hosts,
        Err(setback) => {
            setbacks.note(setback);
            return None;
        }
    };
    let towards = Towards { of: way.of, shares: way.shares.cloned(), ..towards(options, &hosts) };
    loop {
        let from = match egress.roster.take(way.pool, &towards, options.timeouts.connect).await {
            Ok(from) => Arc::new(from),
            Err(mut failure) => {
                // Nobody was asked: other mail of its lane may have other sources.
                if failure.stage == Stage::Route && !way.whole_lane {
                    failure.scope = Scope::Message;
                }
                setbacks.note(Setback { failure: *failure, permanent: false, peer: None });
                return None;
            }
        };
        let began = egress.clock.mono();
        // What the source before this one met says nothing about it.
        *setbacks = Setbacks::default();
        if let Some(session) = through(egress, options, way, &hosts, (&from, &towards), setbacks).await {
            return Some(session);
        }
        setbacks.failures().for_each(|failure| egress.warmup.turned_away(&from.source, &towards, failure));
        let (span, why) = setbacks.blames_source()?;
        if !egress.roster.rest(way.pool, &from.source, &towards, span) {
            return None;
        }
        let (outcome, peer) = (Outcome::Delayed(why.failure.clone()), why.peer.clone());
        blamed.push(about_source(outcome, peer, egress.clock.mono().since(began)));
    }
}

/// Who would blame a source, and who counts what it sends: whoever runs the best of the hosts, or that host. A next hop of the
/// administrator's that nobody runs sends on from its own address.
fn towards(options: &Options, hosts: &[Host]) -> Towards {
    let best = hosts.first().map_or("", |host| &*host.name);
    let provider = &options.providers.provider_of(best).name;
    if **provider != *crate::provider::ANY {
        return Towards { site: provider.clone(), provider: Some(provider.clone()), of: None, shares: None };
    }
    let is_ours = hosts.first().is_some_and(|host| host.source == hosts::Source::Operator);
    Towards { site: best.into(), provider: (!is_ours).then(|| provider.clone()), of: None, shares: None }
}

/// All hosts in turn, from one source.
async fn through(
    egress: &MailEgress,
    options: &Options,
    way: Way<'_>,
    hosts: &[Host],
    (from, towards): (&Arc<Held>, &Towards),
    setbacks: &mut Setbacks,
) -> Option<Session> {
    let Way { hop, tls, watched, .. } = way;
    let peer = |host: &Host, tls: &Policy| {
        let (host, tls_policy) = (host.name.clone(), Some(tls.name.clone()));
        Peer { host, address: None, tls: None, source: from.source.shown_name(), tls_policy }
    };
    let stranger = |host: &Host| {
        count(egress, tls, "unmet");
        if let Some(watched) = watched {
            watched.not_permitted(egress, options, &host.name);
        }
        tls.unmet(peer(host, tls), NOT_PERMITTED, "the policy names other mail hosts")
    };
    // One whose TLSA records count may be a host that nobody else has named; these have still to be looked up.
    let may_be_called = |host: &&Host| tls.permits(&host.name) || (host.vouched && tls.dane == Dane::Followed);
    // Not counted among those that are tried: nobody calls them.
    for host in hosts.iter().filter(|host| !may_be_called(host)) {
        setbacks.hosts += 1;
        setbacks.note(stranger(host));
    }
    for host in hosts.iter().filter(may_be_called).take(options.hosts_per_attempt.max(1)) {
        setbacks.hosts += 1;
        if !wish::may_go_to(tls, host) {
            setbacks.note(wish::not_vouched(peer(host, tls)));
            continue;
        }
        let policy = host.policy(options);
        let found = match host.addresses(egress, options, &policy).await {
            Ok(found) => found,
            Err(setback) => {
                setbacks.note(setback);
                continue;
            }
        };
        let tls = match egress.host_policy(options, way, host, &found.tlsa_bases).await {
            Ok(tls) if !tls.permits(&host.name) => {
                setbacks.note(stranger(host));
                continue;
            }
            Ok(tls) => tls,
            Err(Unproven { policy, why, result }) => {
                count(egress, &policy, "unmet");
                if let Some((watched, result)) = watched.zip(result) {
                    watched.unproven(egress, options, &host.name, (result, &why));
                }
                setbacks.note(policy.unmet(peer(host, &policy), NOT_SECURE, &why));
                continue;
            }
        };
        for address in found.addresses {
            let Ok(own) = from.source.towards(address) else {
                setbacks.note(out_of_reach(&from.source, address));
                continue;
            };
            let tls = &*tls;
            let sight = Sight::new(egress, options, watched, &host.name, address, &tls.tlsa);
            match (Dial { egress, options, hop, from, own, towards, host, tls, policy: &policy, address, sight })
                .dial()
                .await
            {
                Ok(session) => return Some(session),
                Err(setback) => {
                    let (stage, cause) = (setback.failure.stage.as_str(), setback.failure.cause.as_deref());
                    let reply = setback.failure.reply.as_ref().map(ToString::to_string);
                    tracing::debug!(host = host.name, %address, stage, cause, reply, "host not usable");
                    setbacks.note(setback);
                }
            }
        }
    }
    None
}

/// One address of one host.
struct Dial<'a> {
    egress: &'a MailEgress,
    options: &'a Options,
    hop: &'a MailHop,
    from: &'a Arc<Held>,
    /// The address of ours to connect from, if it is not the system's choice.
    own: Option<IpAddr>,
    towards: &'a Towards,
    host: &'a Host,
    tls: &'a Policy,
    policy: &'a net::AddressPolicy,
    address: SocketAddr,
    sight: Sight<'a>,
}

impl Dial<'_> {
    async fn dial(&self) -> Result<Session, Setback> {
        let with = self.means().map_err(|e| self.unmet(NOT_SECURE, &e.to_string()))?;
        let clear_is_allowed = !self.tls.demands_tls();
        let result = self.converse(with.as_ref()).await;
        self.tell(with.is_some(), &result);
        let result = match result {
            Err(Trouble::TlsBroken(lost)) if clear_is_allowed => {
                tracing::debug!(host = self.host.name, address = %self.address, cause = %lost, "TLS fails, going on in clear");
                self.egress.remember_broken_tls(&self.host.name);
                self.count("broken");
                self.converse(None).await
            }
            other => other,
        };
        match result {
            Ok(session) => {
                self.count(if session.secured.is_some() { "secured" } else { "clear" });
                Ok(session)
            }
            Err(Trouble::Setback(setback)) => Err(*setback),
            Err(Trouble::TlsBroken(lost)) if clear_is_allowed => Err(self.lost(Stage::Tls, &lost)),
            Err(Trouble::TlsBroken(lost)) => {
                let why = match lost {
                    Lost::Io(e) => self.tls.words_for(&tls::trouble(&e)),
                    other => format!("its TLS handshake fails ({other})"),
                };
                Err(self.unmet(NOT_SECURE, &why))
            }
        }
    }

    /// Tells those who report on sessions what came of this one.
    fn tell(&self, tls_tried: bool, result: &Result<Session, Trouble>) {
        match result {
            Ok(session) if session.secured.is_some() => self.sight.secured(),
            Ok(_) if tls_tried => self.sight.failed(ResultType::StarttlsNotSupported, None),
            Ok(_) => {
                self.sight.failed(ResultType::ValidationFailure, Some("TLS failed lately, and was not tried again"))
            }
            Err(Trouble::TlsBroken(Lost::Io(e))) => self.sight.handshake_failed(e),
            Err(Trouble::TlsBroken(lost)) => self.sight.failed(ResultType::ValidationFailure, Some(&lost.to_string())),
            Err(Trouble::Setback(setback)) if setback.failure.stage == Stage::Tls => match &setback.failure {
                Failure { status: NOT_OFFERED, .. } => self.sight.failed(ResultType::StarttlsNotSupported, None),
                // A 421: too busy.
                Failure { reply: Some(_), .. } => {}
                Failure { cause, .. } => self.sight.failed(ResultType::ValidationFailure, cause.as_deref()),
            },
            Err(Trouble::Setback(_)) => {}
        }
    }

    /// What TLS is made with; `None` if it is not to be tried.
    fn means(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        if let Some(named) = &self.tls.named {
            return Ok(Some(named.with.clone()));
        }
        match self.tls.level {
            TlsLevel::Off => Ok(None),
            TlsLevel::Opportunistic if self.egress.tls_is_broken(&self.host.name) => Ok(None),
            TlsLevel::Opportunistic | TlsLevel::Required => {
                Ok(Some(self.sight.judging().unwrap_or_else(tls::opportunistic)))
            }
            // What demands DANE has not come here without.
            TlsLevel::Verified | TlsLevel::Dane => self.egress.verifying.by(&self.options.tls.authorities).map(Some),
        }
    }

    fn count(&self, result: &str) {
        count(self.egress, self.tls, result);
    }

    /// The policy demands what the host does not have.
    fn unmet(&self, status: EnhancedStatus, why: &str) -> Setback {
        self.count("unmet");
        self.tls.unmet(self.peer(None), status, why)
    }

    async fn converse(&self, with: Option<&Arc<ClientConfig>>) -> Result<Session, Trouble> {
        let timeouts = &self.options.timeouts;
        let tcp = match &self.from.source.proxy {
            Some(proxy) => proxy.connect(self.address, self.own, timeouts.connect, self.policy).await,
            None => net::connect(self.address, self.own, timeouts.connect, self.policy).await,
        };
        let tcp = tcp.map_err(|e| self.not_connected(e))?;
        let from = if self.from.source.proxy.is_some() { None } else { tcp.local_addr().ok().map(|from| from.ip()) };
        self.sight.left_from(from.or(self.own));
        let mut connection = Connection::new(tcp, &self.egress.metrics);
        let greeting = connection.reply(timeouts.greeting).await.map_err(|lost| self.lost(Stage::Connect, &lost))?;
        let greeted = AwaitGreeting.on_reply(greeting).map_err(|reply| self.refused(&reply, Stage::Connect))?;
        if let Some(setback) = self.out_of_step(&connection, Stage::Connect) {
            return Err(setback.into());
        }
        let idle = self.hello(&mut connection, greeted).await?;
        let Some(with) = with else { return Ok(self.in_clear(connection, idle)) };
        let mut out = Vec::new();
        let asked = match idle.starttls(&mut out) {
            Ok(asked) => asked,
            Err(_) if self.tls.demands_promise() => return Err(wish::not_promised(self.peer(None)).into()),
            Err(_) if self.tls.demands_tls() => {
                return Err(self.unmet(NOT_OFFERED, "it does not offer STARTTLS").into());
            }
            Err(idle) => return Ok(self.in_clear(connection, idle)),
        };
        connection.say(&out, timeouts.hello).await.map_err(Trouble::TlsBroken)?;
        let reply = connection.reply(timeouts.hello).await.map_err(Trouble::TlsBroken)?;
        let more = connection.has_more();
        // Whoever put bytes behind the 220 is no friend: this host gets nothing in clear either.
        match asked.on_reply(reply, more).map_err(|fault| self.lost(Stage::Tls, &Lost::Fault(fault)))? {
            Tls::Refused(_, reply) if self.tls.demands_tls() => {
                Err(self.unmet(NOT_OFFERED, &format!("it refuses STARTTLS ({reply})")).into())
            }
            Tls::Refused(idle, _) => Ok(self.in_clear(connection, idle)),
            Tls::Closing(reply) => Err(self.refused(&reply, Stage::Tls).into()),
            Tls::Begin(handshake) => {
                let securing = connection.secure(with.clone(), self.server_name(), timeouts.tls).await;
                let (mut connection, description) = securing.map_err(Trouble::TlsBroken)?;
                let idle = self.hello(&mut connection, handshake.done()).await?;
                if self.tls.demands_promise() && !idle.capabilities().require_tls {
                    return Err(wish::not_promised(self.peer(Some(description))).into());
                }
                Ok(self.session(connection, idle, Some((with.clone(), description))))
            }
        }
    }

    /// EHLO, and HELO where that is not known.
    async fn hello(&self, connection: &mut Connection, greeted: Greeted) -> Result<Idle, Setback> {
        let within = self.options.timeouts.hello;
        let hostname = self.from.source.hostname.as_ref().unwrap_or(&self.options.hostname);
        let mut out = Vec::new();
        let mut awaited: AwaitHello = greeted.hello(hostname, &mut out);
        loop {
            let said = connection.say(&out, within).await;
            said.map_err(|lost| self.lost(Stage::Hello, &lost))?;
            let reply = connection.reply(within).await.map_err(|lost| self.lost(Stage::Hello, &lost))?;
            self.sight.heard(&reply);
            out.clear();
            match awaited.on_reply(reply, hostname, &mut out) {
                Hello::Accepted(idle) => return self.out_of_step(connection, Stage::Hello).map_or(Ok(idle), Err),
                Hello::Again(again) => awaited = again,
                Hello::Refused(reply) => return Err(self.refused(&reply, Stage::Hello)),
            }
        }
    }

    /// No answer, unless the peer did answer and reset the connection before we could look at it.
    fn not_connected(&self, error: ConnectError) -> Setback {
        match error {
            ConnectError::Io(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                self.lost(Stage::Connect, &Lost::Io(e))
            }
            // Ours: the address is not on this machine, or the proxy is of no use.
            ConnectError::Io(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => self.source_fails(&format!(
                "no connection can be made from {}: {e}",
                self.own.map_or_else(String::new, |a| a.to_string())
            )),
            ConnectError::Proxy(why) => self.source_fails(&why),
            other => no_answer(Some(self.peer(None)), other.to_string()),
        }
    }

    /// A peer that has said more than it was asked would answer the next command before hearing it.
    fn out_of_step(&self, connection: &Connection, stage: Stage) -> Option<Setback> {
        connection.has_more().then(|| self.lost(stage, &Lost::Fault(ReplyFault::Unasked)))
    }

    fn in_clear(&self, connection: Connection, idle: Idle) -> Session {
        self.session(connection, idle, None)
    }

    /// `tls`: what it was secured with, and how that is described.
    fn session(&self, connection: Connection, idle: Idle, tls: Option<(Arc<ClientConfig>, String)>) -> Session {
        let (secured, description) = tls.unzip();
        let (peer, hop, from) = (self.peer(description), self.hop.clone(), self.from.clone());
        let towards = self.towards.clone();
        Session { connection, idle: Some(idle), peer, from, towards, hop, carried: 0, secured }
    }

    fn peer(&self, tls: Option<String>) -> Peer {
        let (source, tls_policy) = (self.from.source.shown_name(), Some(self.tls.name.clone()));
        Peer { host: self.host.name.clone(), address: Some(self.address), tls, source, tls_policy }
    }

    fn source_fails(&self, why: &str) -> Setback {
        let why = format!("source {}: {why}", self.from.source.name);
        let failure = Failure::without_reply(Scope::Source, Stage::Connect, EnhancedStatus::new(4, 4, 1), why);
        Setback { failure, permanent: false, peer: Some(self.peer(None)) }
    }

    /// The name for SNI and resumption; a host whose name TLS does not allow goes by its address.
    fn server_name(&self) -> ServerName<'static> {
        let name = self.tls.named.as_ref().map_or(&*self.host.name, |named| &named.base);
        ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(self.address.ip().into()))
    }

    /// A refusal before any transaction. What it says of us or of the host, it says of no recipient: unless the host takes
    /// no mail at all, it is temporary. A provider may give the code for that another meaning.
    fn refused(&self, reply: &Reply, stage: Stage) -> Setback {
        let provider = self.options.providers.provider_of(&self.host.name);
        let judgement = provider.judge(reply, stage);
        self.egress.count_refusal(provider, judgement.class());
        let permanent = takes_no_mail(reply) && judgement.row.is_none_or(|row| row.action.is_final());
        let scope = judgement.blames.unwrap_or(Scope::Host);
        let failure = with_reply(reply, stage, scope, permanent, &judgement);
        Setback { failure, permanent, peer: Some(self.peer(None)) }
    }

    fn lost(&self, stage: Stage, lost: &Lost) -> Setback {
        let failure = Failure::without_reply(Scope::Host, stage, EnhancedStatus::new(4, 4, 2), lost.to_string());
        Setback { failure, permanent: false, peer: Some(self.peer(None)) }
    }
}

/// For how long a source is left alone after it has met this failure: as long as its row suspends it, or until it is of use to
/// try again. `None` if it is not blamed.
pub(super) fn rest_for(failure: &Failure) -> Option<Duration> {
    let otherwise = if failure.throttled { REST_SHORT } else { REST };
    let suspended = failure.measures.as_deref().and_then(|measures| measures.suspend);
    (failure.scope == Scope::Source).then(|| suspended.or(failure.retry_after).unwrap_or(otherwise))
}

fn out_of_reach(source: &Source, address: SocketAddr) -> Setback {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let why = format!("source {} has no {family} address, and {address} wants one", source.name);
    let failure = Failure::without_reply(Scope::Source, Stage::Connect, EnhancedStatus::new(4, 4, 1), why);
    Setback { failure, permanent: false, peer: None }
}

fn count(egress: &MailEgress, tls: &Policy, result: &str) {
    let [level, source] = tls.labels();
    egress.metrics.mail_tls.with_label_values(&[level, source, result]).inc();
}

fn no_answer(peer: Option<Peer>, why: String) -> Setback {
    let failure = Failure::without_reply(Scope::Host, Stage::Connect, EnhancedStatus::new(4, 4, 1), why);
    Setback { failure, permanent: false, peer }
}
