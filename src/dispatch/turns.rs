//! Whose turn it is among the carriers of a course. Pure.
//!
//! **Promises.** In order of preference the first that is up gets a text; one that asked us to slow down and has no room now
//! is passed over while another is up. By weight, each gets its share of what leaves while all are up and none throttles: one
//! without room now is waited for, and who was passed over gets nothing back. One that weighs nothing is a reserve: it serves
//! while no other is up.
//!
//! **Does not know** how carriers come to be as they are.

use crate::route::{Choice, Course, Weights};

/// How a carrier stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// No bind is up, or it is not configured any more.
    Down,
    /// It asked us to slow down, and has no room now.
    Throttled,
    /// It is up.
    Up,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    weights: Option<Weights>,
    /// What each is owed, in the unit of the weights.
    owed: Vec<i64>,
}

impl Turns {
    pub(super) fn new(course: &Course) -> Self {
        let weights = match &course.choice {
            Choice::Weights(weights) => Some(weights.clone()),
            Choice::Order | Choice::Price | Choice::Quality { .. } => None,
        };
        Self { weights, owed: vec![0; course.carriers.len()] }
    }

    /// The carrier in this place does best: it gets all but what the others share, in hundredths.
    pub(super) fn prefer(&mut self, best: usize, canary: u32) {
        let (carriers, canary) = (self.owed.len(), canary.min(100));
        let others = u32::try_from(carriers.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let weights: Vec<u32> =
            (0..carriers).map(|at| if at == best { (100 - canary) * others } else { canary }).collect();
        self.weights = Weights::new(&weights, carriers);
    }

    /// The place of the carrier that is to get the next text; `None` if none is up.
    pub(super) fn next(&self, standing: &[Standing]) -> Option<usize> {
        let weighed = self.weights.as_ref().and_then(|weights| self.by_weight(weights, standing));
        weighed.or_else(|| first(standing, 0))
    }

    fn by_weight(&self, weights: &Weights, standing: &[Standing]) -> Option<usize> {
        let all = standing.iter().zip(weights.all()).zip(&self.owed).enumerate();
        all.filter(|(_, ((standing, weight), _))| **standing != Standing::Down && **weight > 0)
            .max_by_key(|(at, ((standing, weight), owed))| {
                (**standing != Standing::Throttled, **owed + i64::from(**weight), std::cmp::Reverse(*at))
            })
            .map(|(at, _)| at)
    }

    /// The carrier in this place got a text; those that were up as well are owed more.
    pub(super) fn took(&mut self, at: usize, standing: &[Standing]) {
        let Some(weights) = &self.weights else { return };
        let weights = weights.all().iter().map(|w| i64::from(*w));
        let up = || standing.iter().map(|s| *s == Standing::Up);
        let all: i64 = weights.clone().zip(up()).filter(|(_, up)| *up).map(|(weight, _)| weight).sum();
        for (place, ((owed, weight), up)) in self.owed.iter_mut().zip(weights).zip(up()).enumerate() {
            if up {
                *owed += if place == at { weight - all } else { weight };
            }
        }
    }
}

/// The carrier for a text that the one in place `last` could not be given: the next that is up, round the course; the same
/// again if no other is.
pub(super) fn after(standing: &[Standing], last: usize) -> Option<usize> {
    first(standing, last + 1)
}

/// The first that is up, from this place on and round; one that is throttled after all others.
fn first(standing: &[Standing], from: usize) -> Option<usize> {
    let round = || (0..standing.len()).map(|step| (from + step) % standing.len());
    let is = |wanted| round().find(|at| standing[*at] == wanted);
    is(Standing::Up).or_else(|| is(Standing::Throttled))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Standing::{Down, Throttled, Up};
    use super::*;

    fn turns(weights: &[u32]) -> Turns {
        let carriers: Vec<Arc<str>> = (0..weights.len()).map(|n| format!("c{n}").into()).collect();
        let weights = Weights::new(weights, carriers.len());
        let choice = weights.map_or(Choice::Order, Choice::Weights);
        Turns::new(&Course { choice, ..Course::in_order(carriers) })
    }

    /// How many of so many texts each carrier gets.
    fn served(turns: &mut Turns, standing: &[Standing], texts: usize) -> Vec<usize> {
        let mut served = vec![0; standing.len()];
        for _ in 0..texts {
            let at = turns.next(standing).unwrap();
            turns.took(at, standing);
            served[at] += 1;
        }
        served
    }

    #[test]
    fn the_first_that_is_up_is_preferred_and_one_that_throttles_passed_over() {
        let turns = turns(&[0, 0, 0]);
        let next = |a, b, c| turns.next(&[a, b, c]);
        assert_eq!(next(Up, Up, Up), Some(0), "a full window is waited for");
        assert_eq!(next(Down, Up, Up), Some(1));
        assert_eq!(next(Throttled, Down, Up), Some(2));
        assert_eq!(next(Throttled, Down, Throttled), Some(0));
        assert_eq!(next(Down, Down, Down), None);
        assert_eq!(Turns::new(&Course::nowhere()).next(&[]), None);
    }

    #[test]
    fn weights_are_shares_of_what_leaves() {
        assert_eq!(served(&mut turns(&[95, 5]), &[Up, Up], 1_000), [950, 50]);
        assert_eq!(served(&mut turns(&[1, 2, 3]), &[Up, Up, Up], 600), [100, 200, 300]);
        assert_eq!(served(&mut turns(&[1, 2, 3]), &[Up, Up, Down], 6), [2, 4, 0]);
        assert_eq!(served(&mut turns(&[1, 2, 3]), &[Down, Up, Throttled], 6), [0, 6, 0]);
    }

    #[test]
    fn who_does_best_gets_all_but_what_the_others_share() {
        let mut turns = turns(&[0, 0, 0]);
        turns.prefer(1, 10);
        assert_eq!(served(&mut turns, &[Up, Up, Up], 1_000), [50, 900, 50]);
        assert_eq!(served(&mut turns, &[Up, Down, Up], 10), [5, 0, 5]);
        turns.prefer(2, 0);
        assert_eq!(served(&mut turns, &[Up, Up, Up], 100), [0, 0, 100]);
        assert_eq!(served(&mut turns, &[Up, Up, Down], 10), [10, 0, 0]);
    }

    #[test]
    fn who_weighs_nothing_is_a_reserve() {
        assert_eq!(served(&mut turns(&[1, 0]), &[Up, Up], 5), [5, 0]);
        assert_eq!(served(&mut turns(&[1, 0]), &[Down, Up], 5), [0, 5]);
    }

    #[test]
    fn who_was_away_gets_nothing_back() {
        let mut turns = turns(&[50, 50]);
        assert_eq!(served(&mut turns, &[Up, Down], 1_000), [1_000, 0]);
        assert_eq!(served(&mut turns, &[Up, Up], 100), [50, 50]);
    }

    #[test]
    fn what_failed_at_one_goes_to_the_next_round_the_course() {
        assert_eq!(after(&[Up, Up, Up], 0), Some(1));
        assert_eq!(after(&[Up, Up, Up], 2), Some(0));
        assert_eq!(after(&[Up, Down, Throttled], 1), Some(0));
        assert_eq!(after(&[Up, Down, Down], 0), Some(0), "there is no other");
        assert_eq!(after(&[Down, Down, Down], 0), None);
    }
}
