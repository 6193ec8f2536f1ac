//! The plan that a source is warmed up by: how many recipients a day, and what a day has to be like to count.
//!
//! **Promises.** Pure. A plan always has a first day; every provider has the plan's days or its own.
//!
//! **Does not know** what has been sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Seconds of an hour.
const HOUR: u64 = 3_600;

/// A share of a whole, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Share(u32);

impl Share {
    /// So many hundredths.
    pub const fn percent(percent: u32) -> Self {
        Self(percent.saturating_mul(10_000))
    }

    /// So many millionths.
    pub const fn millionths(millionths: u32) -> Self {
        Self(millionths)
    }

    /// That share of a number, rounded up.
    pub(super) fn of(self, whole: u64) -> u64 {
        whole.saturating_mul(u64::from(self.0)).div_ceil(1_000_000)
    }

    /// True if `part` is this share of `whole` or more. Nothing of nothing is not.
    pub(super) fn is_reached_by(self, part: u64, whole: u64) -> bool {
        part > 0 && part.saturating_mul(1_000_000) >= whole.saturating_mul(u64::from(self.0))
    }

    /// So many times as much.
    pub(super) fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl fmt::Display for Share {
    /// `1 %`, `0.1 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

/// A day, counted from 1970-01-01 in the zone of some plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub(super) u64);

impl Day {
    /// Reads `2026-11-26`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_date = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let start = is_date.then(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))??;
        Some(Self(start.seconds() / DAY))
    }

    /// Days from an earlier one to this.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = Timestamp::from_seconds(self.0.saturating_mul(DAY)).rfc3339();
        f.write_str(start.split('T').next().unwrap_or_default())
    }
}

/// How a source is warmed up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its name, as in logs and events.
    pub name: Arc<str>,
    /// Recipients a day and provider, day by day; not empty. After the last day the source is warm.
    pub days: Arc<[u32]>,
    /// The same for providers that have their own.
    pub providers: BTreeMap<Arc<str>, Arc<[u32]>>,
    /// What a day has to be like, and what follows if it is not.
    pub rules: Rules,
}

/// What a day has to be like to count, and what follows if it is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Where the day begins: seconds that its zone is ahead of UTC. Default 0.
    pub zone_s: i32,
    /// What of a day's recipients may go in one hour. Default 25 %.
    pub hourly: Share,
    /// What of a day's recipients must have gone. Default 70 %.
    pub used_min: Share,
    /// The share of deferrals that must not be reached. Default 1 %.
    pub deferred: Share,
    /// The same of unknown users. Default 2 %.
    pub unknown: Share,
    /// The same of complaints, where their number is known. Default 0.1 %.
    pub complaints: Share,
    /// Shares of fewer recipients are taken of so many, or one refusal among the first fifty would hold a source. Default 200.
    pub volume: u32,
    /// A gate is failed badly at so many times its share. Default 3.
    pub badly: u32,
    /// Days in a row that gates may hold a source before it goes back. Default 3.
    pub held_max: u32,
    /// Days that a source goes back when a gate is failed badly, or too often. Default 1.
    pub back: u32,
    /// Days that it goes back when a provider says that it is on a block list. Default 2.
    pub back_blocked: u32,
    /// Days without mail after which it goes back. Default 30.
    pub idle_days: u32,
    /// Days that it goes back then; more than there are is the first day. Default 1,000.
    pub back_idle: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            zone_s: 0,
            hourly: Share::percent(25),
            used_min: Share::percent(70),
            deferred: Share::percent(1),
            unknown: Share::percent(2),
            complaints: Share::millionths(1_000),
            volume: 200,
            badly: 3,
            held_max: 3,
            back: 1,
            back_blocked: 2,
            idle_days: 30,
            back_idle: 1_000,
        }
    }
}

impl Rules {
    fn local(&self, now: Timestamp) -> u64 {
        now.seconds().saturating_add_signed(i64::from(self.zone_s))
    }

    /// The day that it is.
    pub(super) fn day(&self, now: Timestamp) -> Day {
        Day(self.local(now) / DAY)
    }

    /// The hour of the day that it is.
    pub(super) fn hour(&self, now: Timestamp) -> u64 {
        self.local(now) % DAY / HOUR
    }

    /// When an hour of a day begins; hour 24 is the next day.
    pub(super) fn begins(&self, day: Day, hour: u64) -> Timestamp {
        let local = day.0.saturating_mul(DAY).saturating_add(hour * HOUR);
        Timestamp::from_seconds(local.saturating_add_signed(-i64::from(self.zone_s)))
    }
}

impl Plan {
    /// The name of the plan that needs no table of its own.
    pub const BUILT_IN: &str = "default";

    /// The days of a provider.
    pub fn days_of(&self, provider: &str) -> &[u32] {
        self.providers.get(provider).unwrap_or(&self.days)
    }

    /// What may go to a provider on day `day` of its plan, from 1 on; `None` after the last.
    pub(super) fn cap(&self, provider: &str, day: u32) -> Option<u64> {
        self.days_of(provider).get(day.max(1) as usize - 1).map(|cap| u64::from(*cap))
    }

    /// The last day of a provider's plan.
    pub(super) fn last(&self, provider: &str) -> u32 {
        u32::try_from(self.days_of(provider).len()).unwrap_or(u32::MAX)
    }
}

impl Default for Plan {
    /// The built-in plan: from 100 recipients a day two fifths more each day, up to some 160,000 after 23 days; half of that
    /// for Microsoft's providers, which are the strictest; QQ gets no more than 500 for two months, as long as it looks back.
    fn default() -> Self {
        let ladder: Vec<u32> = std::iter::successors(Some(100_u32), |cap| Some(cap * 14 / 10)).take(23).collect();
        let half: Arc<[u32]> = ladder.iter().map(|cap| cap / 2).collect();
        let qq = ladder.iter().map(|cap| (*cap).min(500)).chain([500; 37]).collect();
        let providers = [("outlook".into(), half.clone()), ("office365".into(), half), ("qq".into(), qq)];
        let providers = BTreeMap::from(providers);
        Self { name: Self::BUILT_IN.into(), days: ladder.into(), providers, rules: Rules::default() }
    }
}
