//! How far sources are, for people, metrics and events.
//!
//! **Does not know** how anything is decided.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::sources::Sources;
use super::pair::{Judged, Pair, Stage};
use super::{Key, Plan, WarmUp};
use crate::clock::Timestamp;
use crate::event::{Fact, Kind, WarmupFact};
use crate::model::Channel;

/// How far a source is, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WarmupView {
    /// The source.
    pub source: Arc<str>,
    /// The name of its plan.
    pub plan: Arc<str>,
    /// Towards whom, as the provider table calls it; missing for a source that has sent nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The day of the plan; missing once it is warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u32>,
    /// Days that the plan has there.
    pub days: u32,
    /// Recipients that it may send to today; missing once it is warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
    /// Recipients today.
    pub used: u64,
    /// Of those, put off; and connections that were refused.
    pub deferred: u64,
    /// Of those, unknown there.
    pub unknown: u64,
    /// Complaints about today, if somebody has told of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaints: Option<u64>,
    /// Days in a row that gates have held it.
    pub held_days: u32,
    /// What came of the last day that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Why nothing may go now, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

impl WarmUp {
    /// How far the sources are.
    pub(in crate::egress::email) fn view(&self, sources: &Sources) -> Vec<WarmupView> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut views = Vec::new();
        for source in sources.warming() {
            let Some(plan) = &source.warmup else { continue };
            let before = views.len();
            let keys: Vec<Key> = state.pairs.keys().filter(|(name, _)| *name == source.name).cloned().collect();
            for key in keys {
                views.push(view_of(&source.name, plan, &key.1, &state.rolled(&key, plan, now).pair));
            }
            if views.len() == before {
                let day = state.starts.get(&source.name).copied().unwrap_or(1);
                let pair = Pair::new(day, &plan.rules, now);
                views.push(WarmupView { provider: None, ..view_of(&source.name, plan, "", &pair) });
            }
        }
        views
    }

    pub(super) fn show(&self, (source, provider): &Key, plan: &Plan, pair: &Pair) {
        let (metrics, labels) = (&self.metrics, [&**source, &**provider]);
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.warmup_day.with_label_values(&labels).set(day_of(pair.stage).map_or(0, i64::from));
        metrics.warmup_cap.with_label_values(&labels).set(gauge(pair.cap(plan, provider).unwrap_or(0)));
        metrics.warmup_used.with_label_values(&labels).set(gauge(pair.used));
        metrics.warmup_held.with_label_values(&labels).set(i64::from(pair.held));
    }

    pub(super) fn told(&self, (source, provider): Key, judged: Judged, now: Timestamp) -> Fact {
        let Judged { day, verdict, from, to, answered, cap } = judged;
        let (word, reason) = (verdict.as_str(), verdict.reason().map(ToString::to_string));
        self.metrics.warmup_verdicts.with_label_values(&[&*source, &*provider, word]).inc();
        tracing::info!(%source, %provider, %day, verdict = word, reason, from = day_of(from), to = day_of(to), "a day of warm-up is over");
        let mut fact = Fact::new(now, Kind::Warmup, Channel::Email);
        fact.reason = reason;
        let (from, to, date) = (day_of(from), day_of(to), day.to_string());
        fact.warmup = Some(WarmupFact { source, provider, date, verdict: word, from, to, recipients: answered, cap });
        fact
    }
}

/// The day of a plan; none once it is warm.
fn day_of(stage: Stage) -> Option<u32> {
    match stage {
        Stage::Day(day) => Some(day),
        Stage::Warm => None,
    }
}

fn view_of(source: &Arc<str>, plan: &Plan, provider: &str, pair: &Pair) -> WarmupView {
    WarmupView {
        source: source.clone(),
        plan: plan.name.clone(),
        provider: Some(provider.into()),
        day: day_of(pair.stage),
        days: plan.last(provider),
        cap: pair.cap(plan, provider),
        used: pair.used,
        deferred: pair.tally.deferred + pair.tally.turned_away,
        unknown: pair.tally.unknown,
        complaints: pair.tally.complaints,
        held_days: pair.held,
        verdict: pair.verdict.clone(),
        waits: pair.used_up(plan, source, provider).map(|used| used.why),
    }
}
