//! What the pacers of mail sites have found out, kept over restarts: `pace.json` in the data directory.
//!
//! ```text
//! {"version":1,"sites":[…]}     one sealed line (storage::whole); times in seconds since 1970
//! ```
//!
//! **Promises.** The file is replaced as a whole. A suspension, and what a row of the provider table holds down, go on after a
//! restart until they would have ended. How much a site takes is begun with where it stood, unless that is older than
//! [`BELIEVED`]; what concerns a site that has no mail yet is kept until then.
//!
//! **Fails how.** A file that is missing, damaged or of another version is started without, which is logged: sites then start
//! with the provider table's limits, as they did the first time.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Queue;
use super::table::Now;
use crate::clock::{Mono, Timestamp};
use crate::model::Rule;
use crate::schedule::{Cause, Held, Learnt, Level};
use crate::storage::{RealDisk, whole};

/// How long it is believed how much a site takes.
const BELIEVED: Duration = Duration::from_secs(24 * 3_600);
/// Sites that are kept; of more, some are not.
const SITES_MAX: usize = 50_000;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The version that is written and read.
const VERSION: u32 = 1;

/// What was learnt of sites that have not come up yet, and when.
pub(super) type Remembered = HashMap<Arc<str>, (Timestamp, Vec<Learnt>)>;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    sites: Vec<KeptSite>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptSite {
    site: Arc<str>,
    /// When this was so, to the hour.
    seen: u64,
    sources: Vec<KeptSource>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Arc<str>>,
    connections: KeptLevel,
    per_second: KeptLevel,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<KeptUntil>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_held: Option<KeptHeld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second_held: Option<KeptHeld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_connection: Option<(u32, KeptCause)>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct KeptLevel {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptUntil {
    until: u64,
    cause: KeptCause,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptHeld {
    most: f64,
    until: u64,
    cause: KeptCause,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptCause {
    Rule { id: Arc<str>, class: Arc<str> },
    Unknown,
    Deferrals,
}

impl From<Cause> for KeptCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Rule(Rule { id, class }) => Self::Rule { id, class },
            Cause::Unknown => Self::Unknown,
            Cause::Deferrals => Self::Deferrals,
        }
    }
}

impl From<KeptCause> for Cause {
    fn from(kept: KeptCause) -> Self {
        match kept {
            KeptCause::Rule { id, class } => Self::Rule(Rule { id, class }),
            KeptCause::Unknown => Self::Unknown,
            KeptCause::Deferrals => Self::Deferrals,
        }
    }
}

impl KeptLevel {
    fn of(level: Level) -> Self {
        // JSON has no infinity.
        Self { at: level.at.filter(|n| n.is_finite()), ceiling: level.ceiling.filter(|n| n.is_finite()) }
    }

    fn level(self, believed: bool) -> Level {
        if believed { Level { at: self.at, ceiling: self.ceiling } } else { Level::default() }
    }
}

impl KeptSource {
    fn of(learnt: Learnt, now: Now) -> Self {
        let at = |then: Mono| now.wall_at(then).seconds();
        let [connections, rate] = learnt
            .held
            .map(|held| held.map(|held| KeptHeld { most: held.most, until: at(held.until), cause: held.cause.into() }));
        Self {
            source: learnt.source,
            connections: KeptLevel::of(learnt.connections),
            per_second: KeptLevel::of(learnt.per_second),
            suspended: learnt.suspended.map(|(until, cause)| KeptUntil { until: at(until), cause: cause.into() }),
            connections_held: connections,
            per_second_held: rate,
            per_connection: learnt.per_connection.map(|(most, cause)| (most, cause.into())),
        }
    }

    /// What of it holds now.
    fn learnt(self, believed: bool, now: Now) -> Learnt {
        let until = |seconds: u64| {
            let left = Timestamp::from_seconds(seconds).since(now.wall);
            (!left.is_zero()).then(|| now.mono.plus(left))
        };
        let held = |kept: Option<KeptHeld>| {
            kept.filter(|kept| kept.most > 0.0)
                .and_then(|kept| Some(Held { most: kept.most, until: until(kept.until)?, cause: kept.cause.into() }))
        };
        Learnt {
            source: self.source,
            connections: self.connections.level(believed),
            per_second: self.per_second.level(believed),
            suspended: self.suspended.and_then(|kept| Some((until(kept.until)?, kept.cause.into()))),
            held: [held(self.connections_held), held(self.per_second_held)],
            per_connection: self.per_connection.map(|(most, cause)| (most.max(1), cause.into())).filter(|_| believed),
        }
    }
}

/// The file.
#[derive(Debug)]
pub struct PaceFile {
    path: PathBuf,
    /// What was written last.
    last: Vec<u8>,
}

impl PaceFile {
    /// The file at this path, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: Vec::new() }
    }
}

impl Queue {
    /// Has sites begin with what is kept in a file. Blocks.
    pub fn recall_pace(&self, file: &PaceFile) {
        let kept = match read(&file.path) {
            Ok(kept) => kept,
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => {
                let named = file.path.display();
                tracing::error!(file = %named, error = %e, "what sites take is not known: they start as the provider table says");
                return;
            }
        };
        let now = self.now();
        let site = |site: KeptSite| {
            let seen = Timestamp::from_seconds(site.seen);
            let believed = now.wall.since(seen) < BELIEVED;
            let learnt = site.sources.into_iter().map(|source| source.learnt(believed, now));
            (site.site, (seen, learnt.filter(|learnt| !learnt.is_nothing()).collect::<Vec<_>>()))
        };
        let sites = kept.sites.into_iter().map(site);
        let remembered: Remembered = sites.filter(|(_, (_, learnt))| !learnt.is_empty()).collect();
        tracing::info!(sites = remembered.len(), "what sites take is known from before");
        self.shared.table.lock().remember(remembered, now.mono);
        self.shared.work.notify_one();
    }

    /// Writes down what has been found out, if anything has changed. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_pace(&self, file: &mut PaceFile) -> io::Result<()> {
        let now = self.now();
        let hour = now.wall.seconds() / 3_600 * 3_600;
        let sites: Vec<(Arc<str>, u64, Vec<Learnt>)> = {
            let mut table = self.shared.table.lock();
            table.remembered.retain(|_, (seen, _)| now.wall.since(*seen) < BELIEVED);
            let sites = table.schedule.learnt(now.mono).into_iter().map(|(site, learnt)| (site, hour, learnt));
            let others =
                table.remembered.iter().map(|(site, (at, learnt))| (site.clone(), at.seconds(), learnt.clone()));
            sites.chain(others).take(SITES_MAX).collect()
        };
        let kept = |(site, seen, learnt): (Arc<str>, u64, Vec<Learnt>)| {
            let sources = learnt.into_iter().map(|learnt| KeptSource::of(learnt, now)).collect();
            KeptSite { site, seen, sources }
        };
        let mut sites: Vec<KeptSite> = sites.into_iter().map(kept).collect();
        sites.sort_by(|a, b| a.site.cmp(&b.site));
        let same = serde_json::to_vec(&sites)?;
        if same == file.last || (sites.is_empty() && !file.path.exists()) {
            return Ok(());
        }
        let kept = Kept { version: VERSION, sites };
        whole::replace(&RealDisk, &file.path, &whole::sealed(&kept)?)?;
        file.last = same;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    whole::read(path, VERSION, FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests;
