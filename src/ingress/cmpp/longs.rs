//! Long replies under way: more DELIVERs than one, of which the engine knows one delivery.
//!
//! **Promises.** A delivery counts as taken once each of its parts was answered well, and as put off at the first that was not.
//! What the window does not hold waits here, and nothing else is brought before it.
//!
//! **Does not know** the link: parts are given out to whoever writes them ([`Longs::next_part`]).

use std::collections::{HashMap, VecDeque};

use crate::wire::cmpp::Deliver;

/// The long replies of one link. Each is known by the sequence number of its first part.
#[derive(Debug, Default)]
pub(super) struct Longs {
    /// How many parts of each were not answered yet, those that wait included.
    open: HashMap<u32, usize>,
    /// Whose the DELIVERs under way are.
    of: HashMap<u32, u32>,
    /// The one of which parts wait for room, and they.
    waiting: Option<(u32, VecDeque<Deliver>)>,
}

impl Longs {
    /// A reply of which the first part has left under that number; `rest` are its others.
    pub(super) fn begin(&mut self, first: u32, rest: VecDeque<Deliver>) {
        self.open.insert(first, rest.len() + 1);
        self.of.insert(first, first);
        self.waiting = Some((first, rest)).filter(|(_, rest)| !rest.is_empty());
    }

    /// True while parts wait for room.
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// The next part to be written, and whose it is; to be [`left`](Self::left) at once.
    pub(super) fn next_part(&mut self) -> Option<(u32, Deliver)> {
        let (first, rest) = self.waiting.as_mut()?;
        let next = rest.pop_front().map(|part| (*first, part));
        if rest.is_empty() {
            self.waiting = None;
        }
        next
    }

    /// A part has left under this number.
    pub(super) fn left(&mut self, first: u32, sequence: u32) {
        self.of.insert(sequence, first);
    }

    /// A DELIVER was answered: which delivery that settles, and how; `None` if others are awaited.
    pub(super) fn answered(&mut self, sequence: u32, well: bool) -> Option<(u32, bool)> {
        let Some(first) = self.of.remove(&sequence) else { return Some((sequence, well)) };
        if !well {
            self.forget(first);
            return Some((first, false));
        }
        let open = self.open.get_mut(&first)?;
        *open -= 1;
        if *open > 0 {
            return None;
        }
        self.forget(first);
        Some((first, true))
    }

    /// No answer has come in time: which delivery is put off by that.
    pub(super) fn overdue(&mut self, sequence: u32) -> u32 {
        let first = self.of.get(&sequence).copied().unwrap_or(sequence);
        self.forget(first);
        first
    }

    /// What is answered from now on is no part of it: it will be brought again as a whole.
    fn forget(&mut self, first: u32) {
        self.open.remove(&first);
        // A sequence number may come again much later, for something else.
        self.of.retain(|_, of| *of != first);
        self.waiting.take_if(|(of, _)| *of == first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(parts: usize) -> VecDeque<Deliver> {
        std::iter::repeat_with(Deliver::default).take(parts).collect()
    }

    #[test]
    fn a_delivery_is_taken_once_every_part_was_answered_well() {
        let mut longs = Longs::default();
        longs.begin(5, rest(2));
        for sequence in [6, 7] {
            assert!(longs.waits());
            let (first, _) = longs.next_part().unwrap();
            longs.left(first, sequence);
        }
        assert!(!longs.waits());
        assert_eq!(longs.answered(9, true), Some((9, true)), "of something else");
        assert_eq!(longs.answered(7, true), None);
        assert_eq!(longs.answered(5, true), None);
        assert_eq!(longs.answered(6, true), Some((5, true)));
    }

    #[test]
    fn the_first_that_is_not_taken_or_overdue_puts_off_the_whole() {
        let mut longs = Longs::default();
        longs.begin(5, rest(3));
        let (first, _) = longs.next_part().unwrap();
        longs.left(first, 6);
        assert_eq!(longs.answered(5, true), None);
        assert_eq!(longs.answered(6, false), Some((5, false)));
        assert!(!longs.waits() && longs.next_part().is_none(), "the rest is not brought");
        longs.begin(8, rest(1));
        let (first, _) = longs.next_part().unwrap();
        longs.left(first, 9);
        assert_eq!(longs.overdue(9), 8);
        assert_eq!(longs.answered(8, true), Some((8, true)), "late: nobody waits for it");
        assert!(longs.open.is_empty() && longs.of.is_empty() && longs.waiting.is_none());
    }
}
