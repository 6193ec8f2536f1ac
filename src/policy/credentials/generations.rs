//! A bounded map that forgets: two generations, the older of which is dropped whole.
//!
//! **Promises.** At most `entries_max` entries, whoever fills it; every operation is a constant number of look-ups. An entry
//! is kept for at least `span` after it was last set, unless so many others were set meanwhile, and for at most twice that.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Mono;

#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half_max: usize,
    span: Duration,
    turned: Mono,
}

impl<K: Hash + Eq, V: Copy> Generations<K, V> {
    pub(super) fn new(entries_max: usize, span: Duration) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half_max: (entries_max / 2).max(1),
            span,
            turned: Mono::default(),
        }
    }

    pub(super) fn find(&mut self, key: &K, now: Mono) -> Option<V> {
        self.turn(now);
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    pub(super) fn set(&mut self, key: K, value: V, now: Mono) {
        self.turn(now);
        if self.young.len() >= self.half_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn turn(&mut self, now: Mono) {
        let age = now.since(self.turned);
        if age >= self.span {
            self.old = std::mem::take(&mut self.young);
            if age >= self.span * 2 {
                self.old.clear();
            }
            self.turned = now;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000)
    }

    #[test]
    fn entries_live_for_their_span_and_not_much_longer() {
        let mut map = Generations::new(10, SPAN);
        map.set("a", 1, at(0));
        map.set("b", 2, at(9));
        assert_eq!(map.find(&"a", at(9)), Some(1));
        assert_eq!(map.find(&"b", at(18)), Some(2), "kept for its span");
        assert_eq!(map.find(&"b", at(29)), None);
        map.set("c", 3, at(30));
        assert_eq!(map.find(&"c", at(51)), None, "nobody came by for two spans");
    }

    #[test]
    fn a_flood_cannot_make_it_grow() {
        let mut map = Generations::new(10, SPAN);
        for i in 0..1_000 {
            map.set(i, i, at(1));
            assert!(map.len() <= 10);
        }
        assert_eq!(map.find(&999, at(1)), Some(999));
        assert_eq!(map.find(&0, at(1)), None);
    }
}
