//! Texts that are out for delivery, in the order in which they went out: whether all that were out at some time are back.
//!
//! **Promises.** Pure. What has gone out later does not count, so whoever waits for those before does not wait for ever.

use std::collections::{BTreeSet, HashMap};

use crate::schedule::Ticket;

/// Texts that are out.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    numbers: HashMap<Ticket, u64>,
    out: BTreeSet<u64>,
    last: u64,
}

/// A moment in that order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment(u64);

impl UnderWay {
    /// A text goes out.
    pub(super) fn out(&mut self, ticket: Ticket) {
        self.back(ticket);
        self.last += 1;
        self.numbers.insert(ticket, self.last);
        self.out.insert(self.last);
    }

    /// It is back, or was not out.
    pub(super) fn back(&mut self, ticket: Ticket) {
        if let Some(number) = self.numbers.remove(&ticket) {
            self.out.remove(&number);
        }
    }

    /// This moment.
    pub(super) fn now(&self) -> Moment {
        Moment(self.last)
    }

    /// Is something out that was out at that moment?
    pub(super) fn has_since(&self, moment: Moment) -> bool {
        self.out.first().is_some_and(|first| *first <= moment.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;
    use crate::schedule::{NEVER, Schedule};

    #[test]
    fn who_waits_does_not_wait_for_those_that_come_later() {
        let mut schedule = Schedule::new(false);
        let tickets: Vec<Ticket> = (0..3).map(|n| schedule.add_parked(n, NEVER, Mono(0))).collect();
        let mut under_way = UnderWay::default();
        assert!(!under_way.has_since(under_way.now()));
        under_way.out(tickets[0]);
        under_way.out(tickets[1]);
        let moment = under_way.now();
        under_way.out(tickets[2]);
        under_way.back(tickets[0]);
        assert!(under_way.has_since(moment));
        // One that comes back and goes out again has gone out later.
        under_way.out(tickets[1]);
        assert!(!under_way.has_since(moment));
        assert!(under_way.has_since(under_way.now()));
        tickets.iter().for_each(|ticket| under_way.back(*ticket));
        assert!(!under_way.has_since(under_way.now()) && under_way.numbers.is_empty());
    }
}
