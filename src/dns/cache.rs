//! Answers kept for a while.
//!
//! **Promises.** Bounded in bytes: an answer of more than [`WEIGHT_BYTES`] counts as several. An answer is given until its
//! time has come and never after; at the limit those go first that nobody has asked for lately. Keeping and finding cost
//! the same however many there are.
//!
//! **Does not know** names or DNS: keys and values are the caller's.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Mono, SharedClock};

/// Bytes of an answer that counts as one.
pub(super) const WEIGHT_BYTES: usize = 512;

/// The answers, in two generations: when the young one is full it becomes the old one, and the old one goes. Whoever is
/// asked for in between is young again.
pub(super) struct Cache<V> {
    /// Weight of a generation.
    share: usize,
    clock: SharedClock,
    generations: Mutex<Generations<V>>,
}

struct Generations<V> {
    young: HashMap<Box<str>, Kept<V>>,
    young_weight: usize,
    old: HashMap<Box<str>, Kept<V>>,
}

struct Kept<V> {
    value: V,
    until: Mono,
    weight: usize,
}

impl<V: Clone> Cache<V> {
    /// An empty cache for answers of this weight altogether; none is kept where that is 0.
    pub(super) fn new(weight_max: usize, clock: SharedClock) -> Self {
        let generations = Generations { young: HashMap::new(), young_weight: 0, old: HashMap::new() };
        Self { share: weight_max.div_ceil(2), clock, generations: Mutex::new(generations) }
    }

    /// What is kept for `key` and still holds.
    pub(super) fn find(&self, key: &str) -> Option<V> {
        let now = self.clock.mono();
        let mut generations = self.generations.lock();
        if let Some(kept) = generations.young.get(key) {
            return (now < kept.until).then(|| kept.value.clone());
        }
        let (key, kept) = generations.old.remove_entry(key)?;
        if now >= kept.until {
            return None;
        }
        let value = kept.value.clone();
        generations.put(self.share, key, kept);
        Some(value)
    }

    /// Keeps `value`, of about `bytes` bytes, for `ttl`.
    pub(super) fn keep(&self, key: &str, value: V, bytes: usize, ttl: Duration) {
        if self.share == 0 || ttl.is_zero() {
            return;
        }
        let weight = bytes.div_ceil(WEIGHT_BYTES).clamp(1, self.share);
        let until = self.clock.mono().plus(ttl);
        self.generations.lock().put(self.share, key.into(), Kept { value, until, weight });
    }

    /// How many are kept, whether or not they still hold.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let generations = self.generations.lock();
        generations.young.len() + generations.old.len()
    }
}

impl<V> Generations<V> {
    fn put(&mut self, share: usize, key: Box<str>, kept: Kept<V>) {
        self.old.remove(&key);
        if self.young_weight + kept.weight > share {
            self.old = std::mem::take(&mut self.young);
            self.old.remove(&key);
            self.young_weight = 0;
        }
        self.young_weight += kept.weight;
        if let Some(before) = self.young.insert(key, kept) {
            self.young_weight -= before.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache(weight_max: usize) -> (Cache<usize>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp(1)));
        (Cache::new(weight_max, clock.clone()), clock)
    }

    #[test]
    fn an_answer_is_given_until_its_time_has_come() {
        let (cache, clock) = cache(8);
        cache.keep("a", 1, 1, MINUTE);
        cache.keep("a", 2, 1, 2 * MINUTE);
        cache.keep("never", 3, 1, Duration::ZERO);
        clock.advance(MINUTE);
        assert_eq!((cache.find("a"), cache.find("never"), cache.find("b")), (Some(2), None, None));
        clock.advance(MINUTE);
        assert_eq!(cache.find("a"), None);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let (cache, _) = cache(100);
        cache.keep("wanted", 0, 1, MINUTE);
        for n in 0..10_000 {
            cache.keep(&n.to_string(), n, 1, MINUTE);
            assert!(cache.len() <= 100);
            assert_eq!(cache.find("wanted"), Some(0), "{n}");
        }
        assert_eq!(cache.find("9999"), Some(9999));
        assert_eq!(cache.find("1"), None);
    }

    #[test]
    fn a_large_answer_counts_as_several() {
        let (cache, _) = cache(100);
        for n in 0..1000 {
            cache.keep(&n.to_string(), n, 10 * WEIGHT_BYTES, MINUTE);
        }
        assert_eq!(cache.len(), 10);
        for n in 0..10 {
            cache.keep("the same", n, 10 * WEIGHT_BYTES, MINUTE);
        }
        assert_eq!(cache.find("the same"), Some(9));
        let (off, _) = self::cache(0);
        off.keep("a", 1, 1, MINUTE);
        assert_eq!((off.find("a"), off.len()), (None, 0));
    }
}
