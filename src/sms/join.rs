//! Putting the parts of long texts together, whoever carries them.
//!
//! **Promises.** Texts that wait for parts are bounded by who calls: [`Joiner::has_room`], [`Joiner::oldest`]. What has been taken
//! comes out again, once: whole, displaced by a part that contradicts it, as the oldest, or overdue. A part that comes once more
//! changes nothing.
//!
//! **Does not know** what a part is but its octets, nor what becomes of them.

use std::collections::HashMap;
use std::hash::Hash;

use super::Concatenation;
use crate::clock::Timestamp;

/// A text of which some part is missing: whose it is, its reference and how many parts it has.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Incomplete<W> {
    /// From whom to whom.
    pub who: W,
    /// Shared by its parts.
    pub reference: u16,
    /// How many there are.
    pub total: u8,
}

/// The texts of which some part is missing, by who sent them to whom (`W`); `P` is a part.
#[derive(Debug)]
pub struct Joiner<W, P> {
    most: usize,
    waiting: HashMap<Incomplete<W>, Waiting<P>>,
    /// Counts texts, so that the oldest can be told.
    begun: u64,
}

#[derive(Debug)]
struct Waiting<P> {
    begun: u64,
    since: Timestamp,
    parts: Vec<Option<P>>,
}

/// What came of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken<P> {
    /// Others are awaited.
    Waiting,
    /// It was the last one: all parts, in order.
    Whole(Vec<P>),
    /// Another text under the same reference had begun, and had another part in this one's place: what had come of it. This
    /// part waits.
    Displaced(Vec<P>),
}

impl<W: Clone + Eq + Hash, P: AsRef<[u8]>> Joiner<W, P> {
    /// Room for so many texts.
    pub fn new(most: usize) -> Self {
        Self { most, waiting: HashMap::new(), begun: 0 }
    }

    /// Texts of which some part is missing.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if a part of this text finds room: its text waits already, or another may.
    pub fn has_room(&self, text: &Incomplete<W>) -> bool {
        self.waiting.len() < self.most || self.waiting.contains_key(text)
    }

    /// Takes a part that came at `at`.
    pub fn take(&mut self, who: W, place: Concatenation, part: P, at: Timestamp) -> Taken<P> {
        let key = Incomplete { who, reference: place.reference, total: place.total };
        self.begun += 1;
        let begun = self.begun;
        let empty = || (0..place.total).map(|_| None).collect();
        let text = self.waiting.entry(key.clone()).or_insert_with(|| Waiting { begun, since: at, parts: empty() });
        let index = usize::from(place.number.max(1)) - 1;
        let Some(held) = text.parts.get_mut(index) else { return Taken::Waiting };
        if held.as_ref().is_some_and(|held| held.as_ref() != part.as_ref()) {
            let mut fresh: Vec<Option<P>> = empty();
            fresh[index] = Some(part);
            let before = std::mem::replace(text, Waiting { begun, since: at, parts: fresh });
            return Taken::Displaced(before.parts.into_iter().flatten().collect());
        }
        *held = Some(part);
        if text.parts.iter().any(Option::is_none) {
            return Taken::Waiting;
        }
        let whole = self.waiting.remove(&key).map(|text| text.parts.into_iter().flatten().collect());
        whole.map_or(Taken::Waiting, Taken::Whole)
    }

    /// Takes out what there is of the text that began first.
    pub fn oldest(&mut self) -> Option<Vec<P>> {
        let (key, _) = self.waiting.iter().min_by_key(|(_, text)| text.begun)?;
        let key = key.clone();
        self.remove(&key)
    }

    /// Takes out what there is of a text.
    pub fn remove(&mut self, key: &Incomplete<W>) -> Option<Vec<P>> {
        self.waiting.remove(key).map(|text| text.parts.into_iter().flatten().collect())
    }

    /// Takes out what there is of texts that began before `then`.
    pub fn overdue(&mut self, then: Timestamp) -> Vec<Vec<P>> {
        let overdue = self.waiting.extract_if(|_, text| text.since < then);
        overdue.map(|(_, text)| text.parts.into_iter().flatten().collect()).collect()
    }

    /// All parts that wait.
    pub fn parts(&self) -> impl Iterator<Item = &P> {
        self.waiting.values().flat_map(|text| text.parts.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(reference: u16, total: u8, number: u8) -> Concatenation {
        Concatenation { reference, total, number }
    }

    fn joiner() -> Joiner<&'static str, String> {
        Joiner::new(3)
    }

    #[test]
    fn parts_come_in_any_order_and_twice() {
        let mut joiner = joiner();
        let mut take = |number, part: &str| joiner.take("a", place(7, 3, number), part.to_owned(), Timestamp(1));
        assert_eq!(take(3, "z"), Taken::Waiting);
        assert_eq!(take(1, "x"), Taken::Waiting);
        assert_eq!(take(1, "x"), Taken::Waiting);
        assert_eq!(take(2, "y"), Taken::Whole(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()]));
        assert!(joiner.is_empty());
    }

    #[test]
    fn nothing_is_joined_across_senders_references_or_totals() {
        let mut joiner = joiner();
        for (who, at) in [("a", place(1, 2, 1)), ("b", place(1, 2, 2)), ("a", place(2, 2, 2))] {
            assert_eq!(joiner.take(who, at, "x".to_owned(), Timestamp(1)), Taken::Waiting);
        }
        let key = |reference| Incomplete { who: "a", reference, total: 2 };
        assert!(joiner.has_room(&key(1)) && !joiner.has_room(&key(3)));
        assert_eq!(joiner.take("a", place(1, 3, 2), "x".to_owned(), Timestamp(1)), Taken::Waiting);
    }

    #[test]
    fn a_reference_that_comes_again_displaces_and_loses_nothing() {
        let mut joiner = joiner();
        assert_eq!(joiner.take("a", place(1, 2, 1), "old".to_owned(), Timestamp(1)), Taken::Waiting);
        let displaced = joiner.take("a", place(1, 2, 1), "new".to_owned(), Timestamp(2));
        assert_eq!(displaced, Taken::Displaced(vec!["old".to_owned()]));
        let whole = joiner.take("a", place(1, 2, 2), "er".to_owned(), Timestamp(3));
        assert_eq!(whole, Taken::Whole(vec!["new".to_owned(), "er".to_owned()]));
    }

    #[test]
    fn the_oldest_and_the_overdue_come_out_as_they_are() {
        let mut joiner = joiner();
        for (n, reference) in (1..).zip([5, 6, 7]) {
            joiner.take("a", place(reference, 2, 2), reference.to_string(), Timestamp(n));
        }
        assert_eq!(joiner.oldest(), Some(vec!["5".to_owned()]));
        assert_eq!(joiner.overdue(Timestamp(3)), [vec!["6".to_owned()]]);
        assert_eq!(joiner.parts().collect::<Vec<_>>(), ["7"]);
        let key = Incomplete { who: "a", reference: 7, total: 2 };
        assert_eq!((joiner.remove(&key), joiner.oldest(), joiner.len()), (Some(vec!["7".to_owned()]), None, 0));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once(parts in proptest::collection::vec((0u16..3, 1u8..4, 0u8..4, 0u8..3), 0..60)) {
            let mut joiner: Joiner<(), String> = Joiner::new(usize::MAX);
            let (mut given, mut seen) = (Vec::new(), std::collections::HashSet::new());
            for (n, (reference, total, number, word)) in parts.into_iter().enumerate() {
                let at = place(reference, total, number % total + 1);
                let part = format!("{reference}/{total}/{number}/{word}");
                seen.insert(part.clone());
                match joiner.take((), at, part, Timestamp(n as u64)) {
                    Taken::Waiting => {}
                    Taken::Whole(parts) => {
                        prop_assert_eq!(parts.len(), usize::from(total));
                        given.extend(parts);
                    }
                    Taken::Displaced(parts) => given.extend(parts),
                }
            }
            given.extend(joiner.overdue(Timestamp(u64::MAX)).into_iter().flatten());
            prop_assert!(seen.iter().all(|part| given.contains(part)));
        }
    }
}
