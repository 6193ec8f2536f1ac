//! From where: the addresses of ours that mail leaves from, the pools they form, and whose mail uses which.
//!
//! **Promises.** A mail leaves from a source of its pool and from no other address: a destination that the pool's sources
//! cannot reach waits. Sources of a pool take turns by weight, those that rest, are full or have had what their warm-up allows
//! left out, and those that an operator has paused. A source that a site has blamed rests there and nowhere else. No source has more
//! connections open than it may; who finds all of them full waits for one to become free.
//!
//! **Does not know** how connections are made, nor what a reply means.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::warmup::{Plan, WarmUp};
use crate::clock::{Mono, SharedClock};
use crate::event::metrics::Metrics;
use crate::model::{Class, Domain, EnhancedStatus, Envelope, Failure, Scope, Stage};
use crate::net::proxy::Proxy;
use crate::schedule::{Pace, Share, SiteId, SourceShares};

/// Places where a source rests that are remembered; above it those whose rest has ended are forgotten first, then new ones
/// do not rest.
const RESTS_MAX: usize = 65_536;

/// A mail waits so long for its source's pace; where it would be longer, another source is looked for.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// So long a mail waits for a connection of a source that has as many to its site as are its share; then others may carry it.
const SHARE_WAIT: Duration = Duration::from_millis(250);

/// When a source is looked at again that an operator has paused: that may end at any time.
const PAUSED_LOOKED_AT: Duration = Duration::from_secs(30);

/// Where mail leaves from, as far as a peer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its name, as in metrics and events.
    pub name: Arc<str>,
    /// The addresses to connect from, one for each family; none: the system's choice, or the proxy's.
    pub addresses: Vec<IpAddr>,
    /// Its name in EHLO, which should be what the address resolves to; `None`: that of the relay.
    pub hostname: Option<String>,
    /// Who connects for it.
    pub proxy: Option<Proxy>,
    /// Connections open at once, to all sites together.
    pub connections_max: usize,
    /// How it is warmed up; `None`: it may send what there is.
    pub warmup: Option<Arc<Plan>>,
}

/// Sources that take turns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Its name, as in events.
    pub name: Arc<str>,
    /// Its sources, each with its weight; not empty, no weight is zero.
    pub members: Vec<(Arc<Source>, u32)>,
    /// Whose mail uses it.
    pub whose: Whose,
}

/// Whose mail: that for which each list that is not empty names one that fits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Whose {
    /// Clients.
    pub clients: Vec<Arc<str>>,
    /// Classes.
    pub classes: Vec<Class>,
    /// Campaigns.
    pub campaigns: Vec<Arc<str>>,
    /// Domains of the author (the From field), with those below them.
    pub sender_domains: Vec<String>,
}

/// All pools, in the order in which they are asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources {
    pools: Vec<Arc<Pool>>,
    /// For mail that no pool takes, and where there is none.
    rest: Arc<Pool>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Sources {
    /// The name of what is used where no source is configured.
    pub const SYSTEM: &'static str = "system";

    /// Pools, asked in this order. What none of them takes leaves from the address that the system chooses.
    pub fn new(pools: Vec<Pool>) -> Self {
        let name: Arc<str> = Self::SYSTEM.into();
        let system = Source {
            name: name.clone(),
            addresses: Vec::new(),
            hostname: None,
            proxy: None,
            connections_max: usize::MAX,
            warmup: None,
        };
        let rest = Pool { name, members: vec![(Arc::new(system), 1)], whose: Whose::default() };
        Self { pools: pools.into_iter().map(Arc::new).collect(), rest: Arc::new(rest) }
    }

    /// The pool that a mail uses. Its author is asked for only where it matters.
    pub(super) fn pool_of(&self, envelope: &Envelope, author: impl FnOnce() -> Vec<Domain>) -> &Arc<Pool> {
        let wanted = self.pools.iter().any(|pool| !pool.whose.sender_domains.is_empty());
        let authors = if wanted { author() } else { Vec::new() };
        self.pools.iter().find(|pool| pool.whose.fits(envelope, &authors)).unwrap_or(&self.rest)
    }
}

impl Sources {
    /// The sources of all pools; one that is in several comes several times.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.pools.iter().flat_map(|pool| &pool.members).map(|(source, _)| source)
    }

    /// Those that have a plan to be warmed up by, each once.
    pub(super) fn warming(&self) -> Vec<&Arc<Source>> {
        let mut warming: Vec<&Arc<Source>> = self.sources().filter(|source| source.warmup.is_some()).collect();
        warming.sort_by(|a, b| a.name.cmp(&b.name));
        warming.dedup_by(|a, b| a.name == b.name);
        warming
    }

    /// True if all mail of the same client and class uses this pool, whatever its campaign and its author.
    pub(super) fn takes_whole_lane(&self, pool: &Pool, envelope: &Envelope) -> bool {
        let may = |pool: &&Arc<Pool>| pool.whose.fits_lane(envelope);
        let first = self.pools.iter().find(may).unwrap_or(&self.rest);
        first.name == pool.name && first.whose.campaigns.is_empty() && first.whose.sender_domains.is_empty()
    }
}

impl Whose {
    /// What a lane knows of its mail fits.
    fn fits_lane(&self, envelope: &Envelope) -> bool {
        (self.clients.is_empty() || self.clients.contains(&envelope.client))
            && (self.classes.is_empty() || self.classes.contains(&envelope.class))
    }

    fn fits(&self, envelope: &Envelope, authors: &[Domain]) -> bool {
        let named =
            |names: &[Arc<str>], name: Option<&str>| names.is_empty() || names.iter().any(|n| Some(&**n) == name);
        self.fits_lane(envelope)
            && named(&self.campaigns, envelope.campaign.as_deref())
            && (self.sender_domains.is_empty()
                || authors.iter().any(|author| self.sender_domains.iter().any(|d| author.is_within(d))))
    }
}

impl Pool {
    /// True if connections of this source may be used for the pool's mail.
    pub(super) fn has(&self, source: &Source) -> bool {
        self.members.iter().any(|(member, _)| **member == *source)
    }
}

impl Source {
    /// As events show it; the system's choice has no name.
    pub(super) fn shown_name(&self) -> Option<Arc<str>> {
        (*self.name != *Sources::SYSTEM).then(|| self.name.clone())
    }

    /// The address to connect from; `Err` if this source has none of that family.
    pub(super) fn towards(&self, address: SocketAddr) -> Result<Option<IpAddr>, ()> {
        if self.addresses.is_empty() {
            return Ok(None);
        }
        self.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4()).map(|own| Some(*own)).ok_or(())
    }
}

/// Whom a source sends to.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Towards {
    /// Who would blame it: whoever runs the best of the hosts, or that host.
    pub(super) site: Arc<str>,
    /// Under whose name it is counted what a source in warm-up sends there; `None`: it is not.
    pub(super) provider: Option<Arc<str>>,
    /// The site of the schedule that it goes by, if there is one: whose shares those are.
    pub(super) of: Option<SiteId>,
    /// What each source may do there; `None`: what its site may.
    pub(super) shares: Option<Arc<SourceShares>>,
}

/// Where connections are counted: sites of the schedule may have hosts in common, and each has its own share.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Counted {
    Of(SiteId),
    Named(Arc<str>),
}

impl Towards {
    fn counted(&self) -> Counted {
        self.of.map_or_else(|| Counted::Named(self.site.clone()), Counted::Of)
    }

    fn share(&self, source: &Source) -> Option<&Share> {
        Some(self.shares.as_ref()?.of(source.shown_name().as_deref()))
    }
}

/// A source that an operator wants nothing to leave from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PausedSource {
    /// Its name.
    pub source: Arc<str>,
    /// Towards whom, as the provider table calls it; `None`: towards all.
    pub provider: Option<Arc<str>>,
    /// Shown where mail waits for it.
    pub why: Arc<str>,
}

/// Why nothing may go from a source that neither rests nor is full, and for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Barred {
    pub(super) wait: Duration,
    pub(super) why: String,
}

impl Barred {
    /// Others have the connections: whoever carries the mail next may be one of them.
    fn by_its_share(pool: &Pool, towards: &Towards) -> Self {
        let why = format!("sources of pool {} have their share of connections to {}", pool.name, towards.site);
        Self { wait: Duration::ZERO, why }
    }

    /// What it means for a mail that no other source can take.
    pub(super) fn failure(self) -> Box<Failure> {
        let mut failure = Failure::without_reply(Scope::Source, Stage::Route, EnhancedStatus::new(4, 4, 5), self.why);
        // Nobody was asked: it does not count as an attempt.
        failure.throttled = true;
        failure.retry_after = Some(self.wait);
        Box::new(failure)
    }
}

/// What the sources are doing: shared by all couriers, kept over reloads.
pub(super) struct Roster {
    uses: Mutex<Uses>,
    paused: ArcSwap<Vec<PausedSource>>,
    warmup: Arc<WarmUp>,
    freed: Notify,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Uses {
    open: HashMap<Arc<str>, usize>,
    /// What a source does towards a site.
    there: HashMap<(Arc<str>, Counted), Use>,
    /// Until when a source does not go to a site.
    resting: HashMap<(Arc<str>, Arc<str>), Mono>,
}

/// What one source does towards one site.
#[derive(Clone, Copy, Default)]
struct Use {
    open: usize,
    /// GCRA's theoretical arrival time.
    next_at: Mono,
}

impl Use {
    /// How long a mail would have to wait for its turn.
    fn wait(&self, pace: Pace, now: Mono) -> Duration {
        let ahead = pace.ahead();
        // However slow it was before: what has changed holds at once.
        let longest = pace.interval().saturating_add(TURN_WAIT_MAX);
        self.next_at.since(now.plus(ahead)).min(longest)
    }

    /// A mail has its turn after that wait.
    fn takes_turn(&mut self, pace: Pace, wait: Duration, now: Mono) {
        let ahead = pace.ahead();
        self.next_at = Mono(self.next_at.0.clamp(now.0, now.plus(ahead + wait).0)).plus(pace.interval());
    }

    fn is_over(&self, now: Mono) -> bool {
        self.open == 0 && self.next_at <= now
    }
}

impl Uses {
    fn there(&self, source: &Source, towards: &Towards) -> Use {
        self.there.get(&(source.name.clone(), towards.counted())).copied().unwrap_or_default()
    }

    fn there_mut(&mut self, source: &Source, towards: &Towards, now: Mono) -> &mut Use {
        if self.there.len() >= RESTS_MAX {
            self.there.retain(|_, there| !there.is_over(now));
        }
        self.there.entry((source.name.clone(), towards.counted())).or_default()
    }

    /// It has as many connections to the site as are its share.
    fn has_its_share(&self, source: &Source, towards: &Towards) -> bool {
        towards.share(source).is_some_and(|share| self.there(source, towards).open >= share.connections)
    }

    /// Why a source may not go to a site yet that others may go to: it is suspended there, or slower than anybody waits.
    fn too_soon(&self, source: &Source, towards: &Towards, now: Mono) -> Option<Barred> {
        let share = towards.share(source)?;
        let (name, site) = (&source.name, &towards.site);
        if let Some(until) = share.suspended.filter(|until| *until > now) {
            let wait = until.since(now);
            return Some(Barred { wait, why: format!("source {name} is suspended towards {site}") });
        }
        let wait = share.pace.map(|pace| self.there(source, towards).wait(pace, now))?;
        let why = || format!("source {name} has had what its pace towards {site} allows");
        (wait > TURN_WAIT_MAX).then(|| Barred { wait, why: why() })
    }

    /// Until when a source does not go to a site, if it does not.
    fn rests_until(&self, source: &Source, site: &Arc<str>, now: Mono) -> Option<Mono> {
        self.resting.get(&(source.name.clone(), site.clone())).copied().filter(|until| *until > now)
    }
}

/// A source's connection, counted while it lives.
pub(super) struct Held {
    pub(super) source: Arc<Source>,
    counted: Counted,
    roster: Arc<Roster>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.source.name)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut uses = self.roster.uses.lock();
        if let Some(open) = uses.open.get_mut(&self.source.name) {
            *open = open.saturating_sub(1);
        }
        let key = (self.source.name.clone(), self.counted.clone());
        if let Some(there) = uses.there.get_mut(&key) {
            there.open = there.open.saturating_sub(1);
            if there.is_over(self.roster.clock.mono()) {
                uses.there.remove(&key);
            }
        }
        drop(uses);
        self.roster.show(&self.source.name, -1);
        // All of them: the one that has waited longest may wait for another source.
        self.roster.freed.notify_waiters();
    }
}

/// No source, for now.
enum Nobody {
    /// All rest there; until the first may go again.
    Rest(Mono),
    /// All that may go have as many connections as they may.
    Full,
    /// One that may go has as many to this site as are its share.
    Shared,
    /// Those that do not rest have had what their warm-up allows, or are paused.
    Barred(Barred),
}

impl Roster {
    pub(super) fn new(warmup: Arc<WarmUp>, clock: SharedClock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            uses: Mutex::default(),
            paused: ArcSwap::default(),
            warmup,
            freed: Notify::new(),
            clock,
            metrics,
        })
    }

    /// From these nothing leaves from now on, and from all others it does.
    pub(super) fn pause(&self, paused: Vec<PausedSource>) {
        self.paused.store(Arc::new(paused));
        self.freed.notify_waiters();
    }

    /// Why a source may send nothing there now, if it neither rests nor is full.
    fn barred(&self, source: &Source, towards: &Towards) -> Option<Barred> {
        let paused = self.paused.load();
        let by_rule = paused
            .iter()
            .find(|rule| rule.source == source.name && (rule.provider.is_none() || rule.provider == towards.provider));
        let paused = |rule: &PausedSource| Barred { wait: PAUSED_LOOKED_AT, why: rule.why.to_string() };
        by_rule.map(paused).or_else(|| self.warmup.used_up(source, towards))
    }

    /// Waits for a mail's turn by the pace of its source. False if that would take long: others were quicker.
    pub(super) async fn turn(&self, source: &Source, towards: &Towards) -> bool {
        let Some(pace) = towards.share(source).and_then(|share| share.pace) else { return true };
        let wait = {
            let now = self.clock.mono();
            let mut uses = self.uses.lock();
            let there = uses.there_mut(source, towards, now);
            let wait = there.wait(pace, now);
            if wait > TURN_WAIT_MAX {
                return false;
            }
            there.takes_turn(pace, wait, now);
            wait
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        true
    }

    /// A source of the pool for one more connection to a site; waits, at most for `patience`, while all are full.
    pub(super) async fn take(
        self: &Arc<Self>,
        pool: &Pool,
        towards: &Towards,
        patience: Duration,
    ) -> Result<Held, Box<Failure>> {
        let waiting = async {
            loop {
                // Before looking: a connection that is closed between the look and the wait would be missed.
                let freed = self.freed.notified();
                match self.pick(pool, towards) {
                    Ok(held) => return Ok(held),
                    Err(Nobody::Rest(until)) => return Err(self.all_rest(pool, &towards.site, until)),
                    Err(Nobody::Barred(barred)) => return Err(barred.failure()),
                    Err(Nobody::Full) => freed.await,
                    Err(Nobody::Shared) => {
                        if tokio::time::timeout(SHARE_WAIT, freed).await.is_err() {
                            return Err(Barred::by_its_share(pool, towards).failure());
                        }
                    }
                }
            }
        };
        tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| {
            let why = format!("every source of pool {} has as many connections as it may", pool.name);
            let mut failure = Failure::without_reply(Scope::Source, Stage::Connect, EnhancedStatus::new(4, 4, 5), why);
            failure.throttled = true;
            Err(Box::new(failure))
        })
    }

    fn pick(self: &Arc<Self>, pool: &Pool, towards: &Towards) -> Result<Held, Nobody> {
        let now = self.clock.mono();
        let mut uses = self.uses.lock();
        let (mut free, mut sum, mut rested) = (Vec::with_capacity(pool.members.len()), 0_u64, None::<Mono>);
        let (mut full, mut shared, mut barred) = (false, false, None::<Barred>);
        for (source, weight) in &pool.members {
            match uses.rests_until(source, &towards.site, now) {
                Some(until) => rested = Some(rested.map_or(until, |other| other.min(until))),
                None if uses.open.get(&source.name).is_some_and(|open| *open >= source.connections_max) => full = true,
                None if uses.has_its_share(source, towards) => shared = true,
                None => match uses.too_soon(source, towards, now).or_else(|| self.barred(source, towards)) {
                    Some(other) if barred.as_ref().is_some_and(|first| first.wait <= other.wait) => {}
                    Some(first) => barred = Some(first),
                    None => {
                        sum += u64::from(*weight);
                        free.push((source, sum));
                    }
                },
            }
        }
        let drawn = if sum == 0 { 0 } else { fastrand::u64(..sum) };
        let Some((source, _)) = free.into_iter().find(|(_, up_to)| drawn < *up_to) else {
            // Whoever may go first.
            let barred = barred.filter(|first| rested.is_none_or(|until| until.since(now) > first.wait));
            return Err(match (full, barred, rested) {
                _ if shared => Nobody::Shared,
                (false, Some(barred), _) => Nobody::Barred(barred),
                (false, None, Some(until)) => Nobody::Rest(until),
                (true, ..) | (false, None, None) => Nobody::Full,
            });
        };
        *uses.open.entry(source.name.clone()).or_default() += 1;
        uses.there_mut(source, towards, now).open += 1;
        drop(uses);
        self.show(&source.name, 1);
        Ok(Held { source: source.clone(), counted: towards.counted(), roster: self.clone() })
    }

    /// True if a connection of this source may carry one more mail of the pool to a site.
    pub(super) fn may_go_on(&self, pool: &Pool, source: &Source, towards: &Towards) -> bool {
        let now = self.clock.mono();
        let rests = {
            let uses = self.uses.lock();
            let blamed = pool.members.len() > 1 && uses.rests_until(source, &towards.site, now).is_some();
            let above = towards.share(source).is_some_and(|s| uses.there(source, towards).open > s.connections);
            blamed || above || uses.too_soon(source, towards, now).is_some()
        };
        pool.has(source) && !rests && self.barred(source, towards).is_none()
    }

    /// A site has blamed a source: others of its pool go there for a while. Where there is no other, it does not rest: its
    /// site's own limits say when it goes again. True if another may go now.
    pub(super) fn rest(&self, pool: &Pool, source: &Source, towards: &Towards, span: Duration) -> bool {
        let site = &towards.site;
        if pool.members.len() < 2 {
            return false;
        }
        let now = self.clock.mono();
        let mut uses = self.uses.lock();
        if uses.resting.len() >= RESTS_MAX {
            uses.resting.retain(|_, until| *until > now);
        }
        if uses.resting.len() >= RESTS_MAX {
            return false;
        }
        uses.resting.insert((source.name.clone(), site.clone()), now.plus(span));
        let other = pool.members.iter().any(|(member, _)| uses.rests_until(member, site, now).is_none());
        drop(uses);
        tracing::warn!(source = &*source.name, site = &**site, for_s = span.as_secs(), "a source rests towards a site");
        self.metrics.source_rests.with_label_values(&[&*source.name]).inc();
        other
    }

    fn all_rest(&self, pool: &Pool, site: &str, until: Mono) -> Box<Failure> {
        let span = until.since(self.clock.mono());
        let why =
            format!("every source of pool {} rests towards {site}, the first for {} s", pool.name, span.as_secs());
        let mut failure = Failure::without_reply(Scope::Source, Stage::Connect, EnhancedStatus::new(4, 7, 0), why);
        failure.retry_after = Some(span);
        Box::new(failure)
    }

    fn show(&self, source: &str, change: i64) {
        if source != Sources::SYSTEM {
            self.metrics.source_connections.with_label_values(&[source]).add(change);
        }
    }
}
