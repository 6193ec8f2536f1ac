//! `[queue]`: when a message is tried again and when it is given up, per class; and how long texts wait for receipts.
//!
//! A class takes its own table's value, else what `[queue]` says, else its built-in default. Two things are not taken from
//! `[queue]`: the retry schedule of codes, which would make seconds into minutes; and an expiry longer than the class's
//! built-in one — a code that arrives after three days serves nobody.

use std::time::Duration;

use super::reader::Section;
use super::{quantity, value};
use crate::model::{CARRIERS_MAX, Class};
use crate::queue::Again;

/// When a message is tried again and when it is given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Pauses between attempts; the last one repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// From acceptance to giving up.
    pub expire: Duration,
    /// When texts leave once more.
    pub again: Again,
}

/// `[queue]`: one [`Retry`] per class, and what texts at their carriers wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Verification codes.
    pub otp: Retry,
    /// Notices.
    pub transactional: Retry,
    /// Campaigns.
    pub marketing: Retry,
    /// How long a text at its carrier waits for its receipt.
    pub receipts_wait: Duration,
    /// Texts that wait for receipts in memory; those beyond wait on disk.
    pub receipts_in_memory: usize,
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

/// A class's own table.
struct OfClass {
    times: Written,
    again: Again,
}

fn of_class(section: &mut Section<'_>, built_in: Again) -> OfClass {
    let times = written(section);
    let within = section.optional("next_carrier_after", quantity::span_or_never(SECOND..=DAY));
    let carriers = section.optional("carriers_max", value::whole(1..=CARRIERS_MAX as u64));
    let again = Again {
        receipt_within: within.unwrap_or(built_in.receipt_within),
        after_failure: section.optional("next_carrier_on_failure", value::flag).unwrap_or(built_in.after_failure),
        carriers_max: carriers.map_or(built_in.carriers_max, |most| most as usize),
        unanswered: section.optional("resend_unanswered", value::flag).unwrap_or(built_in.unanswered),
    };
    OfClass { times, again }
}

pub(super) fn queue(section: &mut Section<'_>) -> Queue {
    let general = written(section);
    let never = || Again { carriers_max: 3, ..Again::default() };
    let codes = Again { receipt_within: Some(30 * SECOND), after_failure: true, ..never() };
    let otp = section.table("otp", |section| of_class(section, codes));
    let notices_again = Again { unanswered: true, ..never() };
    let transactional = section.table("transactional", |section| of_class(section, notices_again));
    let marketing = section.table("marketing", |section| of_class(section, never()));
    let schedule = general
        .schedule
        .unwrap_or_else(|| vec![MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR]);
    let expire = general.expire.unwrap_or(3 * DAY);
    let notices = |own: OfClass, built_in: Duration| Retry {
        schedule: own.times.schedule.unwrap_or_else(|| schedule.clone()),
        expire: own.times.expire.unwrap_or(expire.min(built_in)),
        again: own.again,
    };
    Queue {
        otp: Retry {
            schedule: otp.times.schedule.unwrap_or_else(|| vec![5 * SECOND, 10 * SECOND, 20 * SECOND]),
            expire: otp.times.expire.unwrap_or(expire.min(5 * MINUTE)),
            again: otp.again,
        },
        transactional: notices(transactional, expire),
        marketing: notices(marketing, DAY),
        receipts_wait: section.or("receipts_wait", 3 * DAY, quantity::span(MINUTE..=30 * DAY)),
        receipts_in_memory: section.or("receipts_in_memory", 200_000, value::count(0..=100_000_000)),
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
