//! One source towards one provider: which day of its plan it is, what has gone, and what comes of a day that is over.
//!
//! **Promises.** Pure: time is an argument. No more is granted in a day, or in an hour, than the plan says. A day counts only if
//! there was mail; what is over is judged once. A clock that is set back gives nothing back.
//!
//! **Does not know** files, nor who asks.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::{Day, Plan, Rules, Share};
use crate::clock::Timestamp;

/// Days of which it is remembered how much was sent, for complaints that are told of later.
const REMEMBERED: usize = 14;

/// How far a source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// On this day of its plan, from 1 on.
    Day(u32),
    /// Through with it.
    Warm,
}

/// What became of the recipients of a day.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    /// The provider has taken or refused them.
    pub(super) answered: u64,
    /// Of those, taken.
    pub(super) relayed: u64,
    /// Of those, put off.
    pub(super) deferred: u64,
    /// Of those, unknown there.
    pub(super) unknown: u64,
    /// Connections that the provider has refused.
    pub(super) turned_away: u64,
    /// Refusals that say that the source is on a block list.
    pub(super) blocked: u64,
    /// Complaints, if anybody has told of any.
    pub(super) complaints: Option<u64>,
}

/// A day that is over, as far as complaints about it are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) day: u64,
    pub(super) relayed: u64,
    pub(super) complaints: Option<u64>,
    /// Told of since the last verdict.
    pub(super) fresh: bool,
}

/// A source towards a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    pub(super) stage: Stage,
    /// The day that is being counted.
    pub(super) day: Day,
    /// Recipients of that day that were given out, and not given back.
    pub(super) used: u64,
    pub(super) hour: u64,
    /// The same of that hour.
    pub(super) hour_used: u64,
    pub(super) tally: Tally,
    /// Days in a row that gates have held it.
    pub(super) held: u32,
    /// The last day with mail.
    pub(super) active: Day,
    pub(super) past: VecDeque<Past>,
    /// What came of the last day that was judged.
    pub(super) verdict: Option<String>,
}

/// What a gate looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    Deferrals,
    Unknown,
    Complaints,
}

/// Why a source stays where it is, or goes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// Too little of the day was used to show anything.
    Little { answered: u64, cap: u64, least: Share },
    /// A share was too large.
    Gate { gate: Gate, part: u64, of: u64, limit: Share },
    /// The provider says that the source is on a block list.
    Blocked(u64),
    /// Gates have held it for too long; the last reason.
    TooOften { days: u32, last: Box<Reason> },
    /// No mail for too long.
    Idle { days: u64 },
}

/// What comes of a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Advanced,
    Finished,
    Held(Reason),
    Back(Reason),
}

/// A verdict, and where it has led.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Judged {
    /// The day that is over.
    pub(super) day: Day,
    pub(super) verdict: Verdict,
    /// Where it was, and is now.
    pub(super) from: Stage,
    pub(super) to: Stage,
    pub(super) answered: u64,
    pub(super) cap: Option<u64>,
}

/// Why nothing more may go, and when it may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Used {
    pub(super) until: Timestamp,
    pub(super) why: String,
}

impl Pair {
    /// On that day of its plan, without mail yet.
    pub(super) fn new(day: u32, rules: &Rules, now: Timestamp) -> Self {
        let today = rules.day(now);
        Self {
            stage: Stage::Day(day.max(1)),
            day: today,
            used: 0,
            hour: rules.hour(now),
            hour_used: 0,
            tally: Tally::default(),
            held: 0,
            active: today,
            past: VecDeque::new(),
            verdict: None,
        }
    }

    /// What may go on the day that is being counted; `None`: there is no limit.
    pub(super) fn cap(&self, plan: &Plan, provider: &str) -> Option<u64> {
        match self.stage {
            Stage::Day(day) => plan.cap(provider, day),
            Stage::Warm => None,
        }
    }

    /// Of that, what may go in an hour.
    fn hourly(&self, plan: &Plan, provider: &str) -> Option<u64> {
        self.cap(plan, provider).map(|cap| plan.rules.hourly.of(cap).max(1))
    }

    /// How much may go now.
    pub(super) fn left(&self, plan: &Plan, provider: &str) -> u64 {
        let of_day = self.cap(plan, provider).map_or(u64::MAX, |cap| cap.saturating_sub(self.used));
        let of_hour = self.hourly(plan, provider).map_or(u64::MAX, |most| most.saturating_sub(self.hour_used));
        of_day.min(of_hour)
    }

    /// Why nothing may go now, if it is so.
    pub(super) fn used_up(&self, plan: &Plan, source: &str, provider: &str) -> Option<Used> {
        let (Stage::Day(day), Some(cap)) = (self.stage, self.cap(plan, provider)) else { return None };
        if self.left(plan, provider) > 0 {
            return None;
        }
        let of = format!("of day {day} of its warm-up (plan {}) to {provider}", plan.name);
        let (what, until) = if self.used >= cap {
            (format!("its {cap} recipients {of}"), plan.rules.begins(self.day, 24))
        } else {
            let most = self.hourly(plan, provider).unwrap_or(cap);
            (
                format!("the {most} of this hour, of the {cap} recipients {of}"),
                plan.rules.begins(self.day, self.hour + 1),
            )
        };
        Some(Used { until, why: format!("source {source} has had {what}; more from {until}") })
    }

    /// Takes so many out of what is left, or as many as there are; returns how many.
    pub(super) fn take(&mut self, plan: &Plan, provider: &str, wanted: u64) -> u64 {
        let taken = wanted.min(self.left(plan, provider));
        self.used = self.used.saturating_add(taken);
        self.hour_used = self.hour_used.saturating_add(taken);
        if taken > 0 {
            self.active = self.day;
        }
        taken
    }

    /// Gives back what was taken on a day, in an hour.
    pub(super) fn give_back(&mut self, count: u64, day: Day, hour: u64) {
        if day == self.day {
            self.used = self.used.saturating_sub(count);
            if hour == self.hour {
                self.hour_used = self.hour_used.saturating_sub(count);
            }
        }
    }

    /// Somebody has told how many have complained about mail of a day. False if nothing is known of that day.
    pub(super) fn complaints(&mut self, day: Day, count: u64) -> bool {
        if day == self.day {
            self.tally.complaints = self.tally.complaints.max(Some(count));
            return true;
        }
        let past = self.past.iter_mut().find(|past| past.day == day.0);
        past.is_some_and(|past| {
            past.fresh |= past.complaints.is_none_or(|known| known < count);
            past.complaints = past.complaints.max(Some(count));
            true
        })
    }

    /// Moves on to now. What came of the day before, if that is over and there is something to tell.
    pub(super) fn roll(&mut self, plan: &Plan, provider: &str, now: Timestamp) -> Option<Judged> {
        let rules = &plan.rules;
        let (today, hour) = (rules.day(now), rules.hour(now));
        // Whoever shortens a plan has made it warm.
        if matches!(self.stage, Stage::Day(day) if day > plan.last(provider)) {
            self.stage = Stage::Warm;
        }
        if today.0.saturating_add(1) < self.day.0 {
            // The clock was wrong before; what has been sent has been sent.
            (self.day, self.active) = (today, self.active.min(today));
        }
        if today <= self.day {
            if today == self.day && hour > self.hour {
                (self.hour, self.hour_used) = (hour, 0);
            }
            return None;
        }
        let (from, cap, over, answered) = (self.stage, self.cap(plan, provider), self.day, self.tally.answered);
        let verdict = cap.and_then(|cap| judge(&self.tally, cap, self.held, self.worst_complaints(rules), rules));
        self.close_day(today, hour, verdict.is_some());
        let verdict = self.idle(plan, provider, today).or(verdict)?;
        self.follow(&verdict, plan, provider);
        let verdict = match verdict {
            Verdict::Advanced if self.stage == Stage::Warm => Verdict::Finished,
            other => other,
        };
        self.verdict = Some(format!("{over}: {verdict}"));
        Some(Judged { day: over, verdict, from, to: self.stage, answered, cap })
    }

    /// No mail for too long. Told once in such a time.
    fn idle(&mut self, plan: &Plan, provider: &str, today: Day) -> Option<Verdict> {
        let days = today.since(self.active);
        if days <= u64::from(plan.rules.idle_days) {
            return None;
        }
        self.active = today;
        let is_first = self.stage == Stage::Day(1) || plan.last(provider) == 0;
        (!is_first).then_some(Verdict::Back(Reason::Idle { days }))
    }

    fn close_day(&mut self, today: Day, hour: u64, judged: bool) {
        let Tally { relayed, complaints, .. } = self.tally;
        if judged {
            self.past.iter_mut().for_each(|past| past.fresh = false);
        }
        if relayed > 0 {
            let fresh = complaints.is_some() && !judged;
            self.past.push_back(Past { day: self.day.0, relayed, complaints, fresh });
        }
        while self.past.len() > REMEMBERED {
            self.past.pop_front();
        }
        (self.day, self.used, self.hour, self.hour_used, self.tally) = (today, 0, hour, 0, Tally::default());
    }

    /// The largest share of complaints that was told of since the last verdict: their number, and of how many.
    fn worst_complaints(&self, rules: &Rules) -> Option<(u64, u64)> {
        let today = self.tally.complaints.map(|count| (count, self.tally.relayed));
        let past = self.past.iter().filter(|past| past.fresh).filter_map(|past| Some((past.complaints?, past.relayed)));
        let floor = |(count, of): (u64, u64)| (count, of.max(u64::from(rules.volume)));
        past.chain(today).map(floor).max_by(|a, b| (a.0.saturating_mul(b.1)).cmp(&b.0.saturating_mul(a.1)))
    }

    fn follow(&mut self, verdict: &Verdict, plan: &Plan, provider: &str) {
        let rules = &plan.rules;
        match verdict {
            Verdict::Advanced | Verdict::Finished => {
                self.held = 0;
                self.stage = match self.stage {
                    Stage::Day(day) if day < plan.last(provider) => Stage::Day(day + 1),
                    Stage::Day(_) | Stage::Warm => Stage::Warm,
                };
            }
            Verdict::Held(Reason::Little { .. }) => self.held = 0,
            Verdict::Held(_) => self.held = self.held.saturating_add(1),
            Verdict::Back(reason) => {
                self.held = 0;
                let by = match reason {
                    Reason::Blocked(_) => rules.back_blocked,
                    Reason::Idle { .. } => rules.back_idle,
                    Reason::Little { .. } | Reason::Gate { .. } | Reason::TooOften { .. } => rules.back,
                };
                let at = match self.stage {
                    Stage::Day(day) => day,
                    Stage::Warm => plan.last(provider).saturating_add(1),
                };
                self.stage = Stage::Day(at.saturating_sub(by).max(1));
            }
        }
    }
}

/// What a day has come to that could have had so many; `None` if there was no mail.
fn judge(tally: &Tally, cap: u64, held: u32, complaints: Option<(u64, u64)>, rules: &Rules) -> Option<Verdict> {
    let offered = tally.answered.saturating_add(tally.turned_away);
    if offered == 0 {
        return None;
    }
    if tally.blocked > 0 {
        return Some(Verdict::Back(Reason::Blocked(tally.blocked)));
    }
    let of = offered.max(u64::from(rules.volume));
    let deferred = tally.deferred.saturating_add(tally.turned_away);
    let gates = [
        Some((Gate::Deferrals, deferred, of, rules.deferred)),
        Some((Gate::Unknown, tally.unknown, of, rules.unknown)),
        complaints.map(|(count, of)| (Gate::Complaints, count, of, rules.complaints)),
    ];
    let missed = |factor: u32| {
        let mut failed =
            gates.iter().flatten().filter(|(_, part, of, limit)| limit.times(factor).is_reached_by(*part, *of));
        failed.next().map(|&(gate, part, of, limit)| Reason::Gate { gate, part, of, limit })
    };
    if let Some(reason) = missed(rules.badly.max(1)) {
        return Some(Verdict::Back(reason));
    }
    if let Some(reason) = missed(1) {
        let days = held.saturating_add(1);
        let too_often = days > rules.held_max;
        let last = Box::new(reason.clone());
        return Some(if too_often { Verdict::Back(Reason::TooOften { days, last }) } else { Verdict::Held(reason) });
    }
    if tally.answered < rules.used_min.of(cap) {
        return Some(Verdict::Held(Reason::Little { answered: tally.answered, cap, least: rules.used_min }));
    }
    Some(Verdict::Advanced)
}

impl Verdict {
    /// The word in events and metrics.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Advanced => "advanced",
            Self::Finished => "finished",
            Self::Held(_) => "held",
            Self::Back(_) => "back",
        }
    }

    pub(super) const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Advanced | Self::Finished => None,
            Self::Held(reason) | Self::Back(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        self.reason().map_or(Ok(()), |reason| write!(f, ", {reason}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Little { answered, cap, least } => write!(f, "{answered} of {cap} were used, less than {least}"),
            Self::Gate { gate, part, of, limit } => {
                let what = match gate {
                    Gate::Deferrals => "deferred",
                    Gate::Unknown => "unknown users",
                    Gate::Complaints => "complaints",
                };
                write!(f, "{part} of {of} {what}, which must stay below {limit}")
            }
            Self::Blocked(count) => write!(f, "{count} refusals say that it is on a block list"),
            Self::TooOften { days, last } => write!(f, "{days} days held in a row: {last}"),
            Self::Idle { days } => write!(f, "{days} days without mail"),
        }
    }
}
