//! How fast parts may leave: the configured rate, halved when the carrier throttles, less while it says that it is nearly full,
//! then added to step by step.
//!
//! **Promises.** [`Pace`] is pure: time is an argument. Over any second it lets through at most the rate plus what
//! [`BURST`] allows. Without a configured rate there is no limit until the carrier throttles; then the speed at which it
//! did becomes one, until it has been content for [`FORGET`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Mono, SharedClock};

/// Unused time that may be made up for: timers are no finer than a millisecond.
const BURST: Duration = Duration::from_millis(10);
/// Answers to parts sent together arrive together: they slow us down once.
const SAME_THROTTLE: Duration = Duration::from_secs(1);
/// Steps, one a second, from a halved rate back to what it was.
const RAMP_STEPS: f64 = 20.0;
/// After so long without a throttle a limit that nobody configured is lifted.
const FORGET: Duration = Duration::from_secs(60);
/// How full a carrier wants to be, in percent (P50 section 4.8.4.18): until then there is room for more.
const OPTIMUM: u8 = 80;
/// From here on it is nearing congestion.
const NEARLY_FULL: u8 = 90;
/// It is congested.
const FULL: u8 = 100;
/// What is left of the rate each second that the carrier is nearly full, and that it is full.
const LESS: f64 = 0.9;
const MUCH_LESS: f64 = 0.5;
/// The part of the configured rate that is left however full the carrier is: it may be others who fill it.
const LEAST_SHARE: f64 = 0.1;
/// Never slower than this, in parts a second.
const FLOOR: f64 = 0.1;

/// The arithmetic.
#[derive(Debug)]
pub(super) struct Pace {
    configured: Option<f64>,
    pause: Duration,
    /// Set while slowed down.
    slowed: Option<Slowed>,
    /// When the next part may go.
    next: Mono,
    /// Parts let through in the second that began at `counted_from`, and in the one before it.
    counted_from: Mono,
    counts: (f64, f64),
}

#[derive(Debug)]
struct Slowed {
    rate: f64,
    step: f64,
    /// When it was slowed down last.
    throttled: Mono,
    /// When it was given a step last.
    ramped: Mono,
}

impl Pace {
    pub(super) fn new(configured: Option<f64>, pause: Duration) -> Self {
        Self { configured, pause, slowed: None, next: Mono(0), counted_from: Mono(0), counts: (0.0, 0.0) }
    }

    /// When the next part may go; not later than `now` if it may go at once.
    pub(super) fn due(&self) -> Mono {
        self.next
    }

    /// Has the carrier asked us to slow down, and not been content for long enough since?
    pub(super) fn is_slowed(&mut self, now: Mono) -> bool {
        self.ramp(now);
        self.slowed.is_some()
    }

    /// Lets a part go, or says when to ask again.
    pub(super) fn take(&mut self, now: Mono) -> Result<(), Mono> {
        if now < self.next {
            return Err(self.next);
        }
        self.ramp(now);
        self.count(now);
        if let Some(rate) = self.rate() {
            let earliest = Mono(now.0.saturating_sub(micros(BURST)));
            self.next = self.next.max(earliest).plus(Duration::from_secs_f64(1.0 / rate));
        }
        Ok(())
    }

    /// A part that was let go did not leave.
    pub(super) fn give_back(&mut self) {
        self.counts.0 = (self.counts.0 - 1.0).max(0.0);
        if let Some(rate) = self.rate() {
            self.next = Mono(self.next.0.saturating_sub(micros(Duration::from_secs_f64(1.0 / rate))));
        }
    }

    /// The carrier said that we are too fast, and perhaps how long to wait.
    pub(super) fn throttled(&mut self, asked: Duration, now: Mono) {
        self.ramp(now);
        self.rest(asked.max(self.pause), now);
        if self.slowed.as_ref().is_some_and(|slowed| now.since(slowed.throttled) < SAME_THROTTLE) {
            return;
        }
        self.slow(0.5, FLOOR, now);
    }

    /// Nothing leaves for so long.
    pub(super) fn rest(&mut self, pause: Duration, now: Mono) {
        self.next = self.next.max(now.plus(pause));
    }

    /// The carrier says how full it is, in percent. True if that makes us slower.
    pub(super) fn loaded(&mut self, percent: u8, now: Mono) -> bool {
        self.ramp(now);
        if percent < OPTIMUM {
            return false;
        }
        if let Some(slowed) = &mut self.slowed {
            // It is as busy as it should be: no step up for now.
            slowed.ramped = now;
            if now.since(slowed.throttled) < SAME_THROTTLE {
                return false;
            }
        }
        let share = match percent {
            FULL.. => MUCH_LESS,
            NEARLY_FULL.. => LESS,
            _ => return false,
        };
        let before = self.rate();
        self.slow(share, self.configured.map_or(1.0, |rate| rate * LEAST_SHARE), now);
        self.rate() != before
    }

    /// Leaves that share of the speed that was reached lately, `least` if that is more, and never more than there was.
    fn slow(&mut self, share: f64, least: f64, now: Mono) {
        let seen = self.counts.0.max(self.counts.1).max(1.0);
        let before = self.rate().map_or(seen, |rate| rate.min(seen.max(FLOOR)));
        let most = self.rate().unwrap_or(f64::INFINITY);
        let rate = (before * share).max(least).min(most).max(FLOOR);
        let step = (self.configured.unwrap_or(before) - rate).max(0.0) / RAMP_STEPS;
        self.slowed = Some(Slowed { rate, step, throttled: now, ramped: now });
    }

    fn rate(&self) -> Option<f64> {
        self.slowed.as_ref().map(|slowed| slowed.rate).or(self.configured)
    }

    /// Adds a step for each second without a throttle.
    fn ramp(&mut self, now: Mono) {
        let Some(slowed) = &mut self.slowed else { return };
        let steps = now.since(slowed.ramped).as_secs();
        slowed.ramped = slowed.ramped.plus(Duration::from_secs(steps));
        #[allow(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
        let gained = slowed.step * steps as f64;
        slowed.rate += gained;
        let back = match self.configured {
            Some(configured) => slowed.rate >= configured,
            None => now.since(slowed.throttled) >= FORGET,
        };
        if back {
            self.slowed = None;
        }
    }

    fn count(&mut self, now: Mono) {
        let passed = now.since(self.counted_from);
        if passed >= Duration::from_secs(1) {
            let recent = passed < Duration::from_secs(2);
            self.counts = (0.0, if recent { self.counts.0 } else { 0.0 });
            self.counted_from = now;
        }
        self.counts.0 += 1.0;
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The pace of one account, waited for in order of arrival.
#[derive(Debug)]
pub(super) struct Turnstile {
    pace: Mutex<Pace>,
    /// Held by whoever is next: the others queue behind it instead of waking together.
    front: tokio::sync::Mutex<()>,
    clock: SharedClock,
}

impl Turnstile {
    pub(super) fn new(pace: Pace, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { pace: Mutex::new(pace), front: tokio::sync::Mutex::new(()), clock })
    }

    /// Waits until a part may leave, and takes its turn. Dropped while waiting, it takes nothing.
    pub(super) async fn pass(&self) {
        let _front = self.front.lock().await;
        loop {
            let now = self.clock.mono();
            let taken = self.pace.lock().take(now);
            match taken {
                Ok(()) => return,
                Err(at) => tokio::time::sleep(at.since(now)).await,
            }
        }
    }

    /// A turn that was taken has come to nothing.
    pub(super) fn give_back(&self) {
        self.pace.lock().give_back();
    }

    /// How long until a part may leave.
    pub(super) fn wait(&self) -> Duration {
        self.pace.lock().due().since(self.clock.mono())
    }

    pub(super) fn is_slowed(&self) -> bool {
        self.pace.lock().is_slowed(self.clock.mono())
    }

    /// The carrier says how full it is; true if that makes us slower.
    pub(super) fn loaded(&self, percent: u8) -> bool {
        self.pace.lock().loaded(percent, self.clock.mono())
    }

    /// The carrier said that we are too fast, and perhaps how long to wait.
    pub(super) fn throttled(&self, asked: Duration) {
        self.pace.lock().throttled(asked, self.clock.mono());
    }

    /// Nothing leaves for so long.
    pub(super) fn rest(&self, pause: Duration) {
        self.pace.lock().rest(pause, self.clock.mono());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000)
    }

    /// Parts that pass from one time to another, asking each millisecond for as many as will go.
    fn passing(pace: &mut Pace, from: u64, to: u64) -> u32 {
        let mut passed = 0;
        for now in from..to {
            while passed < 100_000 && pace.take(at(now)).is_ok() {
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn the_configured_rate_is_kept_and_reached() {
        for rate in [1u32, 100, 5_000] {
            let mut pace = Pace::new(Some(f64::from(rate)), PAUSE);
            let passed = passing(&mut pace, 10_000, 20_000);
            assert!((rate * 10..=rate * 10 + rate / 100 + 2).contains(&passed), "{rate}: {passed}");
        }
    }

    #[test]
    fn what_did_not_leave_costs_nothing() {
        let mut pace = Pace::new(Some(100.0), PAUSE);
        let mut passed = 0;
        for now in 10_000..11_000 {
            if pace.take(at(now)).is_ok() {
                pace.give_back();
            }
            passed += u32::from(pace.take(at(now)).is_ok());
        }
        assert!((99..=102).contains(&passed), "{passed}");
    }

    #[test]
    fn idle_time_buys_no_burst() {
        let mut pace = Pace::new(Some(100.0), PAUSE);
        passing(&mut pace, 0, 1_000);
        let passed = passing(&mut pace, 60_000, 60_001);
        assert!(passed <= 2, "{passed}");
    }

    #[test]
    fn a_throttle_pauses_halves_and_is_forgiven_step_by_step() {
        let mut pace = Pace::new(Some(100.0), PAUSE);
        passing(&mut pace, 0, 2_000);
        // A burst of throttle answers is one throttle.
        for _ in 0..10 {
            pace.throttled(Duration::ZERO, at(2_000));
        }
        assert_eq!(passing(&mut pace, 2_000, 3_000), 0, "the pause");
        let slow = passing(&mut pace, 3_000, 4_000);
        assert!((48..=58).contains(&slow), "{slow}");
        let half_way = passing(&mut pace, 12_000, 13_000);
        assert!((70..=82).contains(&half_way), "{half_way}");
        let again = passing(&mut pace, 30_000, 31_000);
        assert!((98..=102).contains(&again), "{again}");
        // Throttled again and again, it halves again and again, down to the floor.
        for i in 0..40 {
            pace.throttled(Duration::ZERO, at(40_000 + i * 1_000));
        }
        assert!(pace.rate().unwrap() >= FLOOR);
        assert!(pace.rate().unwrap() < 6.0);
    }

    #[test]
    fn a_carrier_that_is_nearly_full_is_sent_less_until_it_is_not() {
        let mut pace = Pace::new(Some(100.0), PAUSE);
        let mut now = 1_000;
        // A second of parts, each of whose answers says how full the carrier is.
        let mut second = |pace: &mut Pace, percent| {
            let mut passed = 0;
            for at_ms in now..now + 1_000 {
                while pace.take(at(at_ms)).is_ok() {
                    passed += 1;
                    pace.loaded(percent, at(at_ms));
                }
            }
            now += 1_000;
            passed
        };
        second(&mut pace, 79);
        assert!((99..=102).contains(&second(&mut pace, 79)), "there is room");
        assert!((99..=102).contains(&second(&mut pace, 89)), "it is as busy as it should be");
        let slower: Vec<i32> = (0..5).map(|_| second(&mut pace, 95)).collect();
        assert!(slower.is_sorted_by(|a, b| a > b) && slower[4] > 50, "gradually: {slower:?}");
        let kept: Vec<i32> = (0..5).map(|_| second(&mut pace, 80)).collect();
        assert!(kept.iter().all(|passed| (passed - kept[0]).abs() <= 2), "neither slower nor faster: {kept:?}");
        let (before, after) = (kept[4], (0..3).map(|_| second(&mut pace, 100)).last().unwrap());
        assert!(after < before / 3, "fast: {before} to {after}");
        for _ in 0..20 {
            second(&mut pace, 100);
        }
        assert!((9..=12).contains(&second(&mut pace, 100)), "something is left");
        let back: Vec<i32> = (0..25).map(|_| second(&mut pace, 20)).collect();
        assert!(back.is_sorted() && (98..=102).contains(&back[24]), "step by step: {back:?}");
        assert!(!pace.is_slowed(at(now)));
    }

    #[test]
    fn without_a_rate_the_carrier_sets_one_for_a_while() {
        let mut pace = Pace::new(None, PAUSE);
        for i in 0..200 {
            assert_eq!(pace.take(at(1_000 + i)), Ok(()));
        }
        pace.throttled(Duration::ZERO, at(1_200));
        assert_eq!(pace.rate(), Some(100.0), "half of the 200 of the last second");
        let slow = passing(&mut pace, 2_200, 3_200);
        assert!((95..=115).contains(&slow), "{slow}");
        assert_eq!(pace.take(at(70_000)), Ok(()));
        assert_eq!(pace.rate(), None);
    }
}
