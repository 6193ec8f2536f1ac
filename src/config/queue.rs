//! `[queue]`: when a message is tried again and when it is given up, per class.
//!
//! A class takes its own table's value, else what `[queue]` says, else its built-in default. Two things are not taken from
//! `[queue]`: the retry schedule of codes, which would make seconds into minutes; and an expiry longer than the class's
//! built-in one — a code that arrives after three days serves nobody.

use std::time::Duration;

use super::quantity;
use super::reader::Section;
use crate::model::Class;

/// When a message is tried again and when it is given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Pauses between attempts; the last one repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// From acceptance to giving up.
    pub expire: Duration,
}

/// `[queue]`: one [`Retry`] per class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Verification codes.
    pub otp: Retry,
    /// Notices.
    pub transactional: Retry,
    /// Campaigns.
    pub marketing: Retry,
}

impl Queue {
    /// What holds for a class.
    pub fn of(&self, class: Class) -> &Retry {
        match class {
            Class::Otp => &self.otp,
            Class::Transactional => &self.transactional,
            Class::Marketing => &self.marketing,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Steps of one schedule.
const STEPS_MAX: usize = 64;

/// `retry` and `expire` as they stand in one table.
struct Written {
    schedule: Option<Vec<Duration>>,
    expire: Option<Duration>,
}

pub(super) fn queue(section: &mut Section<'_>) -> Queue {
    let general = written(section);
    let otp = section.table("otp", written);
    let transactional = section.table("transactional", written);
    let marketing = section.table("marketing", written);
    let schedule = general
        .schedule
        .unwrap_or_else(|| vec![MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR]);
    let expire = general.expire.unwrap_or(3 * DAY);
    let notices = |own: Written, built_in: Duration| Retry {
        schedule: own.schedule.unwrap_or_else(|| schedule.clone()),
        expire: own.expire.unwrap_or(expire.min(built_in)),
    };
    Queue {
        otp: Retry {
            schedule: otp.schedule.unwrap_or_else(|| vec![5 * SECOND, 10 * SECOND, 20 * SECOND]),
            expire: otp.expire.unwrap_or(expire.min(5 * MINUTE)),
        },
        transactional: notices(transactional, expire),
        marketing: notices(marketing, DAY),
    }
}

fn written(section: &mut Section<'_>) -> Written {
    let schedule = section.list("retry", quantity::span(Duration::from_millis(100)..=7 * DAY));
    if let Some(steps) = &schedule {
        if steps.is_empty() {
            section.mistake("retry", "the schedule is empty", r#"expected one or more pauses, such as ["1m", "5m"]"#);
        }
        if steps.len() > STEPS_MAX {
            let right = format!("expected at most {STEPS_MAX}; the last one repeats");
            section.mistake("retry", format!("the schedule has {} steps", steps.len()), right);
        }
    }
    let expire = section.optional("expire", quantity::span(SECOND..=30 * DAY));
    Written { schedule, expire }
}
