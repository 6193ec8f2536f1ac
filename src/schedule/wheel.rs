//! When timers go off: a hierarchy of wheels, one tick a millisecond.
//!
//! **What.** Six levels of 64 slots; a timer stands at the level of the highest digit (base 64) in which its tick differs
//! from the present one, so that a slot's content moves down when the present enters the slot, at most once a level. What
//! lies more than two years ahead stands aside in one more slot. A slot is a chain of nodes of 63 timers, read and written
//! from front to end; the ticket itself is looked at only when its timer goes off.
//!
//! **Promises.** A timer never goes off early, nor in a tick after its own once [`Wheel::due`] has got that far. Work is
//! proportional to the timers that move or go off, never to the time that has passed. Timers of one tick go off in about
//! the order in which they were set.
//!
//! **Does not know** tickets. Taking a timer out is not its business: the caller makes it void, and it is dropped where it
//! stands, by [`Wheel::sweep`] or at its time. Void timers are at most a third of those that count, and some.

use super::slab::Armed;
use crate::clock::Mono;

/// Time in ticks since the process started.
pub(super) type Tick = u64;

/// Microseconds in a tick.
const TICK: u64 = 1_000;

/// The tick that does not come: some 34 years.
pub(super) const NEVER_TICK: Tick = (1 << 40) - 1;

/// The first tick at or after a time.
pub(super) fn tick_after(time: Mono) -> Tick {
    time.0.div_ceil(TICK).min(NEVER_TICK)
}

/// The tick in which a time lies.
pub(super) fn tick_at(time: Mono) -> Tick {
    (time.0 / TICK).min(NEVER_TICK - 1)
}

/// When a tick begins.
pub(super) fn start_of(tick: Tick) -> Mono {
    Mono(if tick == NEVER_TICK { u64::MAX } else { tick * TICK })
}

const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
const LEVELS: usize = 6;
/// The slot of what is too far away for the levels.
const FAR: usize = LEVELS * SLOTS;

/// Timers in a node; with its two numbers it takes 512 bytes.
const NODE: usize = 63;
/// Nodes allocated together: 127 KiB, as the entries.
const CHUNK: usize = 254;
const NONE: u32 = u32::MAX;

/// Void timers there may be before they are looked for.
const VOID_KEPT: usize = 32_768;

/// A timer as it stands in a slot: the low 32 bits of its tick suffice there.
#[derive(Clone, Copy, Debug)]
struct Timer {
    armed: Armed,
    tick: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    len: u32,
    timers: [Timer; NODE],
}

/// A chain of nodes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
    /// No timer here is earlier.
    earliest: Tick,
}

impl Slot {
    const EMPTY: Self = Self { first: NONE, last: NONE, earliest: NEVER_TICK };
}

/// Where the next sweep looks: a node, the one in front of it, and their slot.
#[derive(Clone, Copy, Debug)]
struct Broom {
    slot: usize,
    previous: u32,
    node: u32,
}

/// The wheels.
#[derive(Debug)]
pub(super) struct Wheel {
    /// All timers up to here have gone off or stand in `moving`.
    present: Tick,
    slots: Vec<Slot>,
    /// One bit for each slot of a level that holds a node.
    occupied: [u64; LEVELS],
    /// What stood in the slot that the present has entered last and has not moved down yet.
    moving: Slot,
    moving_far: bool,
    nodes: Nodes,
    timers: usize,
    /// Timers that count; told by the caller.
    pub(super) counting: usize,
    broom: Broom,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            present: 0,
            slots: vec![Slot::EMPTY; FAR + 1],
            occupied: [0; LEVELS],
            moving: Slot::EMPTY,
            moving_far: false,
            nodes: Nodes { chunks: Vec::new(), free: NONE, fresh: 0 },
            timers: 0,
            counting: 0,
            broom: Broom { slot: 0, previous: NONE, node: NONE },
        }
    }

    /// Sets a timer. One for a tick that has passed goes off in the next.
    #[inline]
    pub(super) fn set(&mut self, armed: Armed, tick: Tick) {
        let tick = tick.max(self.present + 1);
        let slot = slot_of(tick, self.present);
        if slot != FAR {
            self.occupied[slot / SLOTS] |= 1 << (slot % SLOTS);
        }
        let home = &mut self.slots[slot];
        home.earliest = home.earliest.min(tick);
        self.nodes.push(home, Timer { armed, tick: tick as u32 });
        self.timers += 1;
    }

    /// The tick up to which timers have gone off.
    pub(super) fn present(&self) -> Tick {
        self.present
    }

    /// Moves the present on to `until` at most, and adds what goes off to `gone` until there are `most`. Returns how many
    /// timers it has moved or dropped; ends after `moves` of them. Has arrived when [`Wheel::next`] lies behind `until`.
    /// `far` tells the tick of a timer from the time when it was too far away, unless it is void.
    pub(super) fn due(
        &mut self,
        until: Tick,
        moves: usize,
        gone: &mut Vec<Armed>,
        most: usize,
        far: impl Fn(Armed) -> Option<Tick>,
    ) -> usize {
        let mut moved = 0;
        while gone.len() < most && moved < moves {
            if self.moving.first != NONE {
                let (index, start) = (self.moving.first, self.present);
                let node = *self.nodes.at(index);
                self.moving.first = node.next;
                self.nodes.give_up(index);
                self.timers -= node.len as usize;
                moved += node.len as usize;
                for timer in &node.timers[..node.len as usize] {
                    let tick = match self.moving_far {
                        false => Some(start + Tick::from(timer.tick.wrapping_sub(start as u32))),
                        true => far(timer.armed),
                    };
                    match tick {
                        Some(tick) if tick <= start => gone.push(timer.armed),
                        Some(tick) => self.set(timer.armed, tick),
                        None => {}
                    }
                }
            } else if !self.enter(until) {
                self.present = self.present.max(until);
                break;
            }
        }
        moved
    }

    /// Moves the present to the start of the next slot that holds anything, if that is not behind `until`.
    fn enter(&mut self, until: Tick) -> bool {
        let Some((slot, start)) = self.next_slot() else { return false };
        if start > until {
            return false;
        }
        self.present = start;
        self.moving = std::mem::replace(&mut self.slots[slot], Slot::EMPTY);
        self.moving_far = slot == FAR;
        if slot != FAR {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
        if self.broom.slot == slot {
            self.broom = Broom { slot, previous: NONE, node: NONE };
        }
        true
    }

    /// The earliest slot that holds anything, and its first tick. A lower level is always earlier.
    fn next_slot(&self) -> Option<(usize, Tick)> {
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let digit = occupied.trailing_zeros() as usize;
                let shift = DIGIT * level as u32;
                let above = self.present >> (shift + DIGIT) << DIGIT;
                return Some((level * SLOTS + digit, (above | digit as u64) << shift));
            }
        }
        let far = &self.slots[FAR];
        let shift = DIGIT * LEVELS as u32;
        (far.first != NONE).then(|| (FAR, far.earliest >> shift << shift))
    }

    /// No timer goes off before this tick, and one may in it.
    pub(super) fn next(&self) -> Option<Tick> {
        if self.moving.first != NONE {
            return Some(self.present);
        }
        self.next_slot().map(|(slot, _)| self.slots[slot].earliest)
    }

    /// True if void timers should be swept.
    pub(super) fn is_dusty(&self) -> bool {
        self.timers - self.counting.min(self.timers) > self.counting / 3 + VOID_KEPT
    }

    /// Looks at one node and drops what does not count from it. The last node of a slot is left alone: it is being written.
    pub(super) fn sweep(&mut self, counts: impl Fn(Armed) -> bool) {
        let Some(Broom { slot, previous, node }) = self.next_to_sweep() else { return };
        let swept = self.nodes.at_mut(node);
        // First a look at all without a branch in between: the processor fetches many at a time that way.
        let mut keeps = 0u64;
        for (at, timer) in swept.timers[..swept.len as usize].iter().enumerate() {
            keeps |= u64::from(counts(timer.armed)) << at;
        }
        let mut kept = 0;
        while keeps != 0 {
            swept.timers[kept] = swept.timers[keeps.trailing_zeros() as usize];
            keeps &= keeps - 1;
            kept += 1;
        }
        self.timers -= swept.len as usize - kept;
        swept.len = kept as u32;
        let (next, left) = (swept.next, *swept);
        let room = if previous == NONE { 0 } else { NODE - self.nodes.at(previous).len as usize };
        if kept != 0 && kept > room {
            self.broom = Broom { slot, previous: node, node: next };
            return;
        }
        // What is left fits into the node in front, or nothing is left.
        if previous == NONE {
            self.slots[slot].first = next;
        } else {
            let front = self.nodes.at_mut(previous);
            let len = front.len as usize;
            front.timers[len..len + kept].copy_from_slice(&left.timers[..kept]);
            front.len += kept as u32;
            front.next = next;
        }
        self.nodes.give_up(node);
        self.broom = Broom { slot, previous, node: next };
    }

    /// The node to look at, in the next slot that has more than one if need be.
    fn next_to_sweep(&self) -> Option<Broom> {
        let mut broom = self.broom;
        for _ in 0..=self.slots.len() {
            if broom.node != NONE && broom.node != self.slots[broom.slot].last {
                return Some(broom);
            }
            let slot = (broom.slot + 1) % self.slots.len();
            broom = Broom { slot, previous: NONE, node: self.slots[slot].first };
        }
        None
    }
}

/// The slot for a tick ahead of the present.
fn slot_of(tick: Tick, present: Tick) -> usize {
    let level = (63 - (tick ^ present).leading_zeros()) / DIGIT;
    match level as usize {
        level @ 0..LEVELS => level * SLOTS + (tick >> (DIGIT * level as u32)) as usize % SLOTS,
        _ => FAR,
    }
}

/// All nodes.
#[derive(Debug)]
struct Nodes {
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// Linked through `next`, the last given up first.
    free: u32,
    fresh: u32,
}

impl Nodes {
    #[inline]
    fn at(&self, index: u32) -> &Node {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[inline]
    fn at_mut(&mut self, index: u32) -> &mut Node {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[inline]
    fn push(&mut self, slot: &mut Slot, timer: Timer) {
        if slot.last != NONE {
            let node = self.at_mut(slot.last);
            if (node.len as usize) < NODE {
                node.timers[node.len as usize] = timer;
                node.len += 1;
                return;
            }
        }
        let index = self.take();
        let node = self.at_mut(index);
        (node.next, node.len, node.timers[0]) = (NONE, 1, timer);
        match slot.last {
            NONE => slot.first = index,
            last => self.at_mut(last).next = index,
        }
        slot.last = index;
    }

    fn take(&mut self) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.at(index).next;
            return index;
        }
        if self.fresh as usize == self.chunks.len() * CHUNK {
            let blank = Node { next: NONE, len: 0, timers: [Timer { armed: Armed::NOBODY, tick: 0 }; NODE] };
            let chunk = vec![blank; CHUNK].into_boxed_slice();
            self.chunks.push(chunk.try_into().expect("a chunk is as long as a chunk"));
        }
        self.fresh += 1;
        self.fresh - 1
    }

    fn give_up(&mut self, index: u32) {
        let free = self.free;
        self.at_mut(index).next = free;
        self.free = index;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Everything that goes off until a tick, with the tick in which it did.
    fn run(wheel: &mut Wheel, until: Tick, ticks: &BTreeMap<u32, Tick>) -> Vec<(Tick, u32)> {
        let mut all = Vec::new();
        loop {
            let mut gone = Vec::new();
            wheel.due(until, 100, &mut gone, 1, |armed| ticks.get(&armed.place()).copied());
            all.extend(gone.iter().map(|armed| (wheel.present(), armed.place())));
            if wheel.next().is_none_or(|next| next > until) {
                return all;
            }
        }
    }

    #[test]
    fn a_node_takes_half_a_kilobyte() {
        assert_eq!(size_of::<Node>(), 512);
    }

    #[test]
    fn times_are_rounded_up_to_ticks_and_the_present_down() {
        assert_eq!((tick_after(Mono(1)), tick_after(Mono(1_000)), tick_at(Mono(1_999))), (1, 1, 1));
        assert_eq!(start_of(tick_after(Mono(u64::MAX))), Mono(u64::MAX));
        assert!(tick_at(Mono(u64::MAX)) < NEVER_TICK);
    }

    #[test]
    fn a_slot_of_many_moves_in_pieces_and_nothing_overtakes_it() {
        let mut wheel = Wheel::new();
        let ticks: BTreeMap<u32, Tick> = (0..1_000).map(|n| (n, 5_000 + Tick::from(n) % 7)).collect();
        for (&n, &tick) in &ticks {
            wheel.set(Armed::of(n), tick);
        }
        let mut gone = Vec::new();
        assert_eq!(wheel.due(5_003, 1, &mut gone, 1_000, |_| None), 63, "one node");
        assert!(gone.is_empty());
        assert_eq!(wheel.next(), Some(wheel.present()), "there is more to do at once");
        wheel.set(Armed::of(7_777), 5_003);
        let all = run(&mut wheel, 5_003, &ticks);
        assert!(all.is_sorted_by_key(|(tick, _)| *tick));
        assert_eq!(all.len(), ticks.values().filter(|t| **t <= 5_003).count() + 1);
    }

    #[test]
    fn void_timers_are_swept_and_those_that_count_stay() {
        let mut wheel = Wheel::new();
        let ticks: BTreeMap<u32, Tick> = (0..200_000).map(|n| (n, 1 + Tick::from(n) * 77)).collect();
        for (&n, &tick) in &ticks {
            wheel.set(Armed::of(n), tick);
        }
        let counts = |armed: Armed| armed.place().is_multiple_of(10);
        wheel.counting = 20_000;
        let nodes = wheel.nodes.fresh;
        let mut sweeps = 0;
        while wheel.is_dusty() {
            wheel.sweep(counts);
            sweeps += 1;
            assert!(sweeps < 2 * nodes, "sweeping does not come to an end");
        }
        let all = run(&mut wheel, Tick::MAX >> 24, &ticks);
        assert!(all.len() < 20_000 + 20_000 / 3 + VOID_KEPT + NODE);
        assert_eq!(all.iter().filter(|(_, n)| n.is_multiple_of(10)).count(), 20_000);
    }

    proptest! {
        /// However far ahead timers are set and however time jumps: each goes off in its tick, in order.
        #[test]
        fn every_timer_goes_off_in_its_tick(
            steps in proptest::collection::vec((0u32..40, 1u64..64, 0u32..40, 0u64..64), 1..200)
        ) {
            let mut wheel = Wheel::new();
            let mut ticks = BTreeMap::new();
            let mut now = 0;
            for (n, (far, a, jump, b)) in (0u32..).zip(steps) {
                let tick = (now + (a << far >> 5).max(1)).min(NEVER_TICK - 1);
                if tick > now {
                    ticks.insert(n, tick);
                    wheel.set(Armed::of(n), tick);
                }
                if n.is_multiple_of(3) {
                    now = (now + (b << jump >> 10)).min(NEVER_TICK - 1);
                    let gone = run(&mut wheel, now, &ticks);
                    let mut wanted: Vec<(Tick, u32)> = ticks.iter().filter(|(_, t)| **t <= now).map(|(n, t)| (*t, *n)).collect();
                    ticks.retain(|_, t| *t > now);
                    wanted.sort_unstable();
                    let mut sorted = gone.clone();
                    sorted.sort_unstable();
                    prop_assert!(gone.is_sorted_by_key(|(tick, _)| *tick));
                    prop_assert_eq!(sorted, wanted);
                    prop_assert_eq!(wheel.next(), ticks.values().copied().min());
                }
            }
        }
    }
}
