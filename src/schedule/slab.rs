//! Where tickets live: entries of 32 bytes in chunks that never move, named by handles of four bytes.
//!
//! **Promises.** An entry is half a cache line and never lies across two. Growing copies nothing. A place that was given up
//! is used again under another generation, and only after [`REST`] others, so that a handle kept too long is not known.
//!
//! **Does not know** what states mean: it keeps them, their times and the lists they are linked into.
//!
//! **Fails how.** A stale handle is answered `None`, unless its place was given out 64 times since, which takes a quarter
//! of a million tickets: whoever acts on a handle of unknown age compares what its owner stands for. More than
//! [`TICKETS_MAX`] tickets are a mistake of the caller and a panic.

use std::num::NonZeroU32;

use super::wheel::{NEVER_TICK, Tick};

/// Names a ticket within one schedule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(NonZeroU32);

/// Tickets there may be at a time.
pub const TICKETS_MAX: usize = 1 << PLACE_BITS;

/// Bits of a handle that are its place; the others are its generation or stamp.
pub(super) const PLACE_BITS: u32 = 26;
const PLACE: u32 = (1 << PLACE_BITS) - 1;
const GENERATIONS: u32 = 1 << (32 - PLACE_BITS);

/// Entries allocated together: 127 KiB. The allocator would give a power of two a third more than it asks for.
const CHUNK: usize = 4_064;

/// Places that rest before one of them is used again.
const REST: usize = 4_096;

/// No place: the end of a list, no lane.
pub(super) const NONE: u32 = u32::MAX;

/// What a ticket is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free = 0,
    Waiting = 1,
    Ready = 2,
    Leased = 3,
    Parked = 4,
    Overdue = 5,
    Taken = 6,
}

/// A ticket. Times are ticks of 40 bits, cut into 32 and 8.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Entry {
    /// The lane's place, or `NONE`.
    pub(super) lane: u32,
    pub(super) owner: u32,
    /// Neighbours in the list of what is ready in its lane, of what is overdue, or of what is free.
    next: u32,
    previous: u32,
    /// Cost (21 bits), state (3), generation (6).
    packed: u32,
    due: u32,
    expires: u32,
    due_high: u8,
    expires_high: u8,
    /// Marks the one timer of this entry that counts among those still in the wheel.
    stamp: u8,
}

/// More than this is not charged for one consignment, so that a turn of the line stays short.
pub(super) const COST_MAX: u32 = 1 << 20;
const COST: u32 = (1 << 21) - 1;
const STATE_SHIFT: u32 = 21;
const GENERATION_SHIFT: u32 = 24;

impl Entry {
    /// As it was never used: of generation zero, which no handle has.
    const BLANK: Self = Self {
        lane: NONE,
        owner: 0,
        next: NONE,
        previous: NONE,
        packed: 0,
        due: 0,
        expires: 0,
        due_high: 0,
        expires_high: 0,
        stamp: 0,
    };

    pub(super) fn state(&self) -> State {
        match (self.packed >> STATE_SHIFT) & 7 {
            0 => State::Free,
            1 => State::Waiting,
            2 => State::Ready,
            3 => State::Leased,
            4 => State::Parked,
            5 => State::Overdue,
            _ => State::Taken,
        }
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.packed = (self.packed & !(7 << STATE_SHIFT)) | ((state as u32) << STATE_SHIFT);
    }

    pub(super) fn cost(&self) -> u32 {
        self.packed & COST
    }

    pub(super) fn set_cost(&mut self, cost: u32) {
        self.packed = (self.packed & !COST) | cost.clamp(1, COST_MAX);
    }

    /// When it is due, or until when it is parked.
    pub(super) fn due(&self) -> Tick {
        Tick::from(self.due) | Tick::from(self.due_high) << 32
    }

    pub(super) fn set_due(&mut self, due: Tick) {
        (self.due, self.due_high) = (due as u32, (due >> 32) as u8);
    }

    pub(super) fn expires(&self) -> Tick {
        Tick::from(self.expires) | Tick::from(self.expires_high) << 32
    }

    pub(super) fn set_expires(&mut self, expires: Tick) {
        (self.expires, self.expires_high) = (expires as u32, (expires >> 32) as u8);
    }

    /// When its timer goes off: never, if it has none.
    pub(super) fn timer(&self) -> Tick {
        match self.state() {
            State::Waiting => self.due().min(self.expires()),
            State::Ready => self.expires(),
            State::Parked => self.due(),
            State::Free | State::Leased | State::Overdue | State::Taken => NEVER_TICK,
        }
    }

    /// Makes the timer that stands in the wheel void.
    pub(super) fn restamp(&mut self) {
        self.stamp = (self.stamp + 1) % GENERATIONS as u8;
    }

    fn generation(&self) -> u32 {
        self.packed >> GENERATION_SHIFT
    }

    /// The next generation; zero is left out, so that no handle is zero.
    fn renew(&mut self) {
        let next = self.generation() % (GENERATIONS - 1) + 1;
        self.packed = next << GENERATION_SHIFT;
    }
}

/// A timer's name in the wheel: place and stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Armed(u32);

impl Armed {
    pub(super) const NOBODY: Self = Self(0);

    pub(super) fn place(self) -> u32 {
        self.0 & PLACE
    }

    #[cfg(test)]
    pub(super) fn of(number: u32) -> Self {
        Self(number)
    }
}

/// A list of entries, linked through them.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    last: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// All tickets.
#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<Box<[Entry; CHUNK]>>,
    /// Places that were used and are not, in the order in which they were given up.
    free: List,
    /// Places from here on were never used.
    fresh: u32,
}

impl Slab {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: List::EMPTY, fresh: 0 }
    }

    /// Tickets in use.
    pub(super) fn len(&self) -> usize {
        (self.fresh - self.free.len) as usize
    }

    /// Places looked at so far; all tickets are below.
    pub(super) fn places(&self) -> u32 {
        self.fresh
    }

    /// An entry of a state that its caller sets.
    pub(super) fn take(&mut self, owner: u32) -> u32 {
        let full = self.fresh as usize == TICKETS_MAX;
        let place = if self.free.len as usize > REST || full {
            assert!(!self.free.is_empty(), "more tickets than the schedule has room for");
            let place = self.free.first;
            // Only ever taken from the front: the next one need not know.
            self.free.first = self.at(place).next;
            self.free.len -= 1;
            if self.free.is_empty() {
                self.free = List::EMPTY;
            }
            place
        } else {
            if self.fresh as usize == self.chunks.len() * CHUNK {
                let chunk = vec![Entry::BLANK; CHUNK].into_boxed_slice();
                self.chunks.push(chunk.try_into().expect("a chunk is as long as a chunk"));
            }
            self.fresh += 1;
            self.fresh - 1
        };
        let entry = self.at_mut(place);
        entry.renew();
        entry.owner = owner;
        entry.lane = NONE;
        place
    }

    /// Gives an entry up that stands in no list.
    pub(super) fn give_up(&mut self, place: u32) {
        self.at_mut(place).set_state(State::Free);
        let mut free = self.free;
        self.push_back(&mut free, place);
        self.free = free;
    }

    #[inline]
    pub(super) fn at(&self, place: u32) -> &Entry {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    /// The handle of an entry in use.
    pub(super) fn ticket(&self, place: u32) -> Ticket {
        let number = self.at(place).generation() << PLACE_BITS | place;
        Ticket(NonZeroU32::new(number).expect("generations start at one"))
    }

    /// Where a ticket is, if it still is.
    pub(super) fn find(&self, ticket: Ticket) -> Option<u32> {
        let (place, generation) = (ticket.0.get() & PLACE, ticket.0.get() >> PLACE_BITS);
        if place >= self.fresh {
            return None;
        }
        let entry = self.at(place);
        (entry.generation() == generation && entry.state() != State::Free).then_some(place)
    }

    /// The name under which an entry's timer is put into the wheel now.
    pub(super) fn armed(&self, place: u32) -> Armed {
        Armed(u32::from(self.at(place).stamp) << PLACE_BITS | place)
    }

    /// True if this timer is the one that counts. An old one may pass for it too, after 64 others: whoever is called looks
    /// at the entry's time.
    #[inline]
    pub(super) fn counts(&self, armed: Armed) -> bool {
        u32::from(self.at(armed.place()).stamp) == armed.0 >> PLACE_BITS
    }

    pub(super) fn push_back(&mut self, list: &mut List, place: u32) {
        let entry = self.at_mut(place);
        (entry.previous, entry.next) = (list.last, NONE);
        match list.last {
            NONE => list.first = place,
            last => self.at_mut(last).next = place,
        }
        list.last = place;
        list.len += 1;
    }

    /// Takes an entry out of the list in which it stands.
    pub(super) fn unlink(&mut self, list: &mut List, place: u32) {
        let entry = self.at(place);
        let (previous, next) = (entry.previous, entry.next);
        match previous {
            NONE => list.first = next,
            previous => self.at_mut(previous).next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.at_mut(next).previous = previous,
        }
        list.len -= 1;
    }

    pub(super) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let place = list.first;
        if place == NONE {
            return None;
        }
        self.unlink(list, place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_takes_half_a_cache_line_and_a_handle_four_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
        assert_eq!(size_of::<Option<Ticket>>(), 4);
    }

    #[test]
    fn fields_that_share_a_word_do_not_touch_each_other() {
        let mut entry = Entry::BLANK;
        entry.renew();
        entry.set_cost(u32::MAX);
        entry.set_state(State::Taken);
        entry.set_due(NEVER_TICK);
        entry.set_expires(1 << 39 | 5);
        assert_eq!((entry.cost(), entry.state(), entry.generation()), (COST_MAX, State::Taken, 1));
        assert_eq!((entry.due(), entry.expires()), (NEVER_TICK, 1 << 39 | 5));
        entry.set_cost(7);
        entry.set_state(State::Waiting);
        assert_eq!((entry.cost(), entry.state(), entry.generation()), (7, State::Waiting, 1));
        for _ in 0..GENERATIONS {
            entry.renew();
            assert_ne!(entry.generation(), 0);
        }
    }

    #[test]
    fn a_place_used_again_has_another_handle_and_the_old_one_is_not_known() {
        let mut slab = Slab::new();
        let first = slab.take(1);
        slab.at_mut(first).set_state(State::Ready);
        let old = slab.ticket(first);
        assert_eq!(slab.find(old), Some(first));
        slab.give_up(first);
        assert_eq!(slab.find(old), None);
        let mut places_before = 0;
        loop {
            let place = slab.take(2);
            slab.at_mut(place).set_state(State::Ready);
            if place == first {
                break;
            }
            slab.give_up(place);
            places_before += 1;
        }
        assert_eq!(places_before, REST, "the place rests before it is used again");
        assert_eq!(slab.find(old), None);
        assert_ne!(slab.ticket(first), old);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_handle_of_a_place_that_never_was_is_not_known() {
        let slab = Slab::new();
        assert_eq!(slab.find(Ticket(NonZeroU32::new(1 << PLACE_BITS | 77).unwrap())), None);
    }
}
