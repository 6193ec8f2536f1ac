//! What a client has going on over all its binds: how many there are, what is unanswered, how fast it submits.
//!
//! **Promises.** Binds and unanswered submissions are given back when their guards are dropped, however a link ends. Only
//! clients of the configuration that have bound stand here, so it is bounded.
//!
//! **Does not know** links, nor why something is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;

use crate::clock::Mono;
use crate::event::metrics::SmppMetrics;
use crate::model::{ClientName, Rate};
use crate::policy::BindTerms;

/// A burst of so much is taken at once: a second's worth.
const BURST: Duration = Duration::from_secs(1);

/// All clients that have bound.
#[derive(Debug, Default)]
pub(in crate::ingress) struct Presences(Mutex<HashMap<ClientName, Arc<Presence>>>);

/// One client.
#[derive(Debug)]
pub(in crate::ingress) struct Presence {
    state: Mutex<State>,
    binds: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    binds: usize,
    unanswered: usize,
    /// When what was submitted so far would have been submitted at the client's rate.
    spent_until: Mono,
}

/// The right to be bound.
#[derive(Debug)]
pub(in crate::ingress) struct BindSlot(Arc<Presence>);

/// The right to have a submission unanswered.
#[derive(Debug)]
pub(in crate::ingress) struct WindowSlot(Arc<Presence>);

/// Why a submission must wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ingress) enum Throttled {
    /// Too many are unanswered.
    Window,
    /// They come too fast.
    Rate,
}

impl Throttled {
    /// The word that it is counted under.
    pub(in crate::ingress) const fn word(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Rate => "rate",
        }
    }
}

impl Presences {
    /// What is known of a client.
    pub(in crate::ingress) fn of(&self, client: &ClientName, metrics: &SmppMetrics) -> Arc<Presence> {
        let mut all = self.0.lock();
        let made = || {
            let binds = metrics.binds.with_label_values(&[&**client]);
            Arc::new(Presence { state: Mutex::default(), binds })
        };
        all.entry(client.clone()).or_insert_with(made).clone()
    }
}

impl Presence {
    /// A bind, if the terms leave one.
    pub(in crate::ingress) fn bind(self: &Arc<Self>, terms: &BindTerms) -> Option<BindSlot> {
        let mut state = self.state.lock();
        if state.binds >= terms.binds {
            return None;
        }
        state.binds += 1;
        self.binds.inc();
        Some(BindSlot(self.clone()))
    }

    /// A submission to so many numbers, if the terms allow one now.
    pub(in crate::ingress) fn submit(
        self: &Arc<Self>,
        terms: &BindTerms,
        numbers: usize,
        now: Mono,
    ) -> Result<WindowSlot, Throttled> {
        let mut state = self.state.lock();
        if state.unanswered >= terms.window {
            return Err(Throttled::Window);
        }
        let all = interval(terms.rate).saturating_mul(u32::try_from(numbers).unwrap_or(u32::MAX));
        let spent_until = state.spent_until.max(now).plus(all);
        // What would never fit into a burst goes by itself, and holds up what comes behind it.
        if spent_until > now.plus(BURST.max(all)) {
            return Err(Throttled::Rate);
        }
        state.spent_until = spent_until;
        state.unanswered += 1;
        Ok(WindowSlot(self.clone()))
    }

    /// How near it is to being throttled, in percent, 99 at most: how much is used of the window, or of what the rate lets through at
    /// once, whichever is more.
    pub(in crate::ingress) fn load(&self, terms: &BindTerms, now: Mono) -> u8 {
        let state = self.state.lock();
        let burst = BURST.max(interval(terms.rate));
        let of_window = 100 * state.unanswered / terms.window.max(1);
        let of_rate = 100 * state.spent_until.since(now).as_micros() / burst.as_micros().max(1);
        u8::try_from(of_rate.max(of_window as u128).min(99)).unwrap_or(99)
    }
}

/// Between two submissions at this rate.
fn interval(rate: Rate) -> Duration {
    rate.per.checked_div(rate.count).unwrap_or(rate.per)
}

impl Drop for BindSlot {
    fn drop(&mut self) {
        self.0.state.lock().binds -= 1;
        self.0.binds.dec();
    }
}

impl Drop for WindowSlot {
    fn drop(&mut self) {
        self.0.state.lock().unanswered -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence() -> Arc<Presence> {
        Presences::default().of(&"shop".into(), &crate::event::metrics::Metrics::new().smpp)
    }

    #[test]
    fn binds_and_windows_have_limits_and_come_back() {
        let (presence, terms) = (presence(), BindTerms { binds: 1, window: 2, ..BindTerms::default() });
        let bind = presence.bind(&terms).unwrap();
        assert!(presence.bind(&terms).is_none());
        assert_eq!(presence.binds.get(), 1);
        drop(bind);
        assert!(presence.bind(&terms).is_some());
        let now = Mono(0);
        let (first, _second) = (presence.submit(&terms, 1, now).unwrap(), presence.submit(&terms, 1, now).unwrap());
        assert_eq!(presence.submit(&terms, 1, now).err(), Some(Throttled::Window));
        drop(first);
        assert!(presence.submit(&terms, 1, now).is_ok());
    }

    #[test]
    fn the_load_is_what_is_used_of_window_or_rate() {
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        let (presence, terms) = (presence(), BindTerms { window: 4, rate, ..BindTerms::default() });
        let now = Mono(0);
        assert_eq!(presence.load(&terms, now), 0);
        let slots: Vec<_> = (0..3).map(|_| presence.submit(&terms, 1, now).unwrap()).collect();
        assert_eq!(presence.load(&terms, now), 75, "three of four are unanswered");
        drop(slots);
        assert_eq!(presence.load(&terms, now), 30, "three tenths of a second's worth came");
        assert_eq!(presence.load(&terms, Mono(200_000)), 10);
        assert_eq!(presence.load(&terms, Mono(900_000)), 0);
        let _slots: Vec<_> = (0..4).map(|_| presence.submit(&terms, 1, now).unwrap()).collect();
        assert_eq!(presence.load(&terms, now), 99, "the next is throttled");
    }

    #[test]
    fn a_second_of_the_rate_may_come_at_once_and_no_more() {
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        let (presence, terms) = (presence(), BindTerms { window: 1_000, rate, ..BindTerms::default() });
        let at = |tenths: u64| Mono(tenths * 100_000);
        let taken = |now| (0..50).filter(|_| presence.submit(&terms, 1, now).is_ok()).count();
        assert_eq!([taken(at(0)), taken(at(0)), taken(at(3)), taken(at(3)), taken(at(500))], [10, 0, 3, 0, 10]);
        assert_eq!(presence.submit(&terms, 1, at(500)).err(), Some(Throttled::Rate));
        let slow = BindTerms { rate: Rate { count: 1, per: Duration::from_secs(60) }, ..terms };
        let presence = self::presence();
        assert!(presence.submit(&slow, 1, at(0)).is_ok());
        assert_eq!(presence.submit(&slow, 1, at(10)).err(), Some(Throttled::Rate));
        assert!(presence.submit(&slow, 1, at(600)).is_ok());
    }

    #[test]
    fn a_submission_to_several_numbers_costs_as_much_as_one_to_each() {
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        let (presence, terms) = (presence(), BindTerms { window: 1_000, rate, ..BindTerms::default() });
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        let may = |numbers, now| presence.submit(&terms, numbers, now).is_ok();
        assert_eq!((may(8, at(0)), may(3, at(0)), may(2, at(0)), may(1, at(0))), (true, false, true, false));
        // More than a second's worth.
        assert_eq!((may(25, at(10)), may(1, at(11)), may(1, at(13))), (true, false, true));
    }
}
