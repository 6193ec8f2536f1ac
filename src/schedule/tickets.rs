//! Tickets with their timers and the list of those whose time has run out; what is left once lanes and sites are taken
//! away.
//!
//! **Promises.** A ticket that waits, is ready and expires, or is parked has one timer in the wheel that counts; no other
//! ticket has one. Whoever changes state or times calls [`Tickets::disarm`] before and [`Tickets::arm`] after.

use super::slab::{Armed, List, Slab, State};
use super::wheel::{NEVER_TICK, Tick, Wheel};

/// All tickets of a schedule.
#[derive(Debug)]
pub(super) struct Tickets {
    pub(super) slab: Slab,
    pub(super) wheel: Wheel,
    pub(super) overdue: List,
    disarmed: u32,
    gone: Vec<Armed>,
}

/// Timers that go off together, more or less.
const BATCH: usize = 128;
/// One in so many timers that are made void pays for a look at 63.
const DISARMED_PER_SWEEP: u32 = 16;

impl Tickets {
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(), wheel: Wheel::new(), overdue: List::EMPTY, disarmed: 0, gone: Vec::new() }
    }

    /// Sets the timer that an entry's state and times ask for.
    #[inline]
    pub(super) fn arm(&mut self, place: u32) {
        let tick = self.slab.at(place).timer();
        if tick != NEVER_TICK {
            self.wheel.set(self.slab.armed(place), tick);
            self.wheel.counting += 1;
        }
    }

    /// Makes an entry's timer void, if it has one.
    #[inline]
    pub(super) fn disarm(&mut self, place: u32) {
        let entry = self.slab.at_mut(place);
        if entry.timer() == NEVER_TICK {
            return;
        }
        entry.restamp();
        self.wheel.counting -= 1;
        self.disarmed += 1;
        if self.disarmed >= DISARMED_PER_SWEEP {
            self.disarmed = 0;
            self.sweep(1);
        }
    }

    /// Drops void timers where they stand, if there are too many.
    pub(super) fn sweep(&mut self, nodes: usize) {
        let slab = &self.slab;
        for _ in 0..nodes {
            if !self.wheel.is_dusty() {
                return;
            }
            self.wheel.sweep(|armed| slab.counts(armed));
        }
    }

    /// A ticket that stands in no list, and whose timer is void, waits to be taken by [`Tickets::take_overdue`].
    pub(super) fn run_out(&mut self, place: u32) {
        let entry = self.slab.at_mut(place);
        entry.set_state(State::Overdue);
        entry.lane = super::slab::NONE;
        self.slab.push_back(&mut self.overdue, place);
    }

    /// The next of those whose time has run out.
    pub(super) fn take_overdue(&mut self) -> Option<u32> {
        let place = self.slab.pop_front(&mut self.overdue)?;
        self.slab.at_mut(place).set_state(State::Taken);
        Some(place)
    }

    /// The next timers that go off until a tick; their entries have none any more. After `moves` timers it stops, so that
    /// there may be none although there are more to come. Give the vector back to [`Tickets::went_off`] for the next call.
    pub(super) fn go_off(&mut self, until: Tick, moves: &mut usize) -> Vec<Armed> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.clear();
        let slab = &self.slab;
        let far = |armed: Armed| {
            let tick = slab.at(armed.place()).timer();
            (slab.counts(armed) && tick != NEVER_TICK).then_some(tick)
        };
        *moves = moves.saturating_sub(self.wheel.due(until, *moves, &mut gone, BATCH, far));
        // First a look at all without a branch in between: the processor fetches many entries at a time that way.
        let counting: usize = gone.iter().map(|&armed| usize::from(slab.counts(armed))).sum();
        if counting == 0 {
            gone.clear();
        }
        let present = self.wheel.present();
        gone.retain(|&armed| slab.counts(armed) && slab.at(armed.place()).timer() <= present);
        gone
    }

    /// A timer of [`Tickets::go_off`] is dealt with: false if its entry has gone off already.
    pub(super) fn is_first_to_go_off(&mut self, armed: Armed) -> bool {
        let counts = self.slab.counts(armed);
        if counts {
            self.slab.at_mut(armed.place()).restamp();
            self.wheel.counting -= 1;
        }
        counts
    }

    pub(super) fn went_off(&mut self, gone: Vec<Armed>) {
        self.gone = gone;
    }
}
