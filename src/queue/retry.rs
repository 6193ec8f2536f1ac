//! When a delayed recipient is tried again. Pure: time and chance are arguments.

use std::time::Duration;

use crate::clock::Timestamp;

/// One class's schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Pauses between attempts; the last one repeats. Never empty.
    pub schedule: Vec<Duration>,
    /// After this time from acceptance (or from `send_at`) it is not sent any more.
    pub expire: Duration,
}

/// Pauses are stretched or shortened by up to this share, so that what failed together does not come back together.
const JITTER: f64 = 0.15;

/// First pause after a next hop asked us to slow down. It said nothing against the message, so this does not follow the
/// schedule, which may begin with minutes.
const THROTTLED_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause.
const THROTTLED_MAX: Duration = Duration::from_secs(30);

impl Retry {
    /// When the attempt after the `made`-th is due. `chance` is uniform in 0..1.
    pub(super) fn next(&self, now: Timestamp, made: u32, chance: f64) -> Timestamp {
        let step = (made.max(1) as usize - 1).min(self.schedule.len().saturating_sub(1));
        let pause = self.schedule.get(step).copied().unwrap_or(Duration::from_secs(60));
        now.plus(jittered(pause, chance))
    }

    /// Before when an attempt is of no use, because the next hop asked for this pause. It is stretched, never shortened; and
    /// at most half of the message's usual time is given to it, so that a code that lives for minutes still gets its try.
    pub(super) fn not_before(&self, now: Timestamp, pause: Duration, chance: f64) -> Timestamp {
        let stretched = pause.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
        now.plus(stretched.min(self.expire / 2))
    }
}

/// When a throttled recipient is tried again; `times` counts the answers of that kind.
pub(super) fn after_throttling(now: Timestamp, times: u32, chance: f64) -> Timestamp {
    now.plus(jittered(THROTTLED_FIRST.saturating_mul(1 << times.min(5)).min(THROTTLED_MAX), chance))
}

fn jittered(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pause_repeats_and_jitter_stays_in_bounds() {
        let retry = Retry { schedule: vec![Duration::from_secs(60), Duration::from_secs(300)], expire: Duration::ZERO };
        let due = |made, chance| retry.next(Timestamp(0), made, chance).seconds();
        assert_eq!((due(1, 0.5), due(2, 0.5), due(9, 0.5)), (60, 300, 300));
        assert_eq!((due(1, 0.0), due(1, 1.0)), (51, 69));
        assert_eq!(after_throttling(Timestamp(0), 0, 0.5).seconds(), 1);
        assert_eq!(after_throttling(Timestamp(0), 99, 0.5).seconds(), 30);
    }

    #[test]
    fn a_pause_asked_for_is_stretched_but_leaves_time_for_a_try() {
        let hour = Duration::from_secs(3_600);
        let retry = |expire| Retry { schedule: vec![Duration::from_secs(5)], expire };
        let due = |expire, chance| retry(expire).not_before(Timestamp(0), hour, chance).seconds();
        assert_eq!((due(72 * hour, 0.0), due(72 * hour, 1.0)), (3_600, 4_140));
        assert_eq!(due(hour / 12, 0.5), 150);
    }
}
