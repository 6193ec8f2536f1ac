//! From one state to the next: what happens to tickets, on request and as time goes on.
//!
//! **Promises.** A ticket is in one state, and its lane, its site, the wheel and the list of what is overdue agree with it.

use super::site::InLine;
use super::slab::{Armed, NONE, State};
use super::wheel::{Tick, start_of, tick_after, tick_at};
use super::{LaneId, NEVER, Schedule, Standing, TICKETS_MAX, Ticket, rouse};
use crate::clock::Mono;

/// Timers that one call of [`Schedule::advance`] deals with, more or less; some 100 ns each.
const GO_OFF_MAX: usize = 4_096;
/// Timers that it moves a level down at most; some 3 ns each.
const MOVES_MAX: usize = 65_536;
/// Nodes of void timers it looks through, if there are too many.
const SWEEPS: usize = 16;

impl Schedule {
    /// A new ticket in a lane, due at `due`; from `expires` on it is overdue unless it is leased ([`NEVER`]: it does not
    /// expire). `cost` is in bytes or parts; `owner` is the caller's number. There must be [`Schedule::room`]. If the lane
    /// is not known the ticket is overdue at once.
    pub fn add(&mut self, lane: LaneId, cost: u32, owner: u32, due: Mono, expires: Mono, now: Mono) -> Ticket {
        let place = self.tickets.slab.take(owner);
        let entry = self.tickets.slab.at_mut(place);
        entry.set_cost(cost);
        entry.set_expires(tick_after(expires));
        match self.lanes.find(lane) {
            Some(lane) => self.stand(place, lane, due, now),
            None => self.tickets.run_out(place),
        }
        self.tickets.slab.ticket(place)
    }

    /// A new ticket that stands in no lane and is overdue from `until` on. There must be [`Schedule::room`].
    pub fn add_parked(&mut self, owner: u32, until: Mono, now: Mono) -> Ticket {
        let place = self.tickets.slab.take(owner);
        let entry = self.tickets.slab.at_mut(place);
        entry.set_cost(1);
        entry.set_expires(tick_after(NEVER));
        self.stand_aside(place, until, now);
        self.tickets.slab.ticket(place)
    }

    /// How many more tickets there may be.
    pub fn room(&self) -> usize {
        TICKETS_MAX - self.len()
    }

    /// How many tickets there are.
    pub fn len(&self) -> usize {
        self.tickets.slab.len()
    }

    /// True if there is no ticket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a ticket into a lane, due at `due`, wherever it was; a leased one gives its lease back. Its expiry is kept.
    /// False, and nothing changes, if ticket or lane is not known.
    pub fn put(&mut self, ticket: Ticket, lane: LaneId, cost: u32, due: Mono, now: Mono) -> bool {
        let (Some(place), Some(lane)) = (self.tickets.slab.find(ticket), self.lanes.find(lane)) else { return false };
        self.detach(place);
        self.tickets.slab.at_mut(place).set_cost(cost);
        self.stand(place, lane, due, now);
        true
    }

    /// As [`Schedule::put`], into the lane where it is, at the cost it has. False if it stands in no lane.
    pub fn put_back(&mut self, ticket: Ticket, due: Mono, now: Mono) -> bool {
        let Some(place) = self.tickets.slab.find(ticket) else { return false };
        let lane = self.tickets.slab.at(place).lane;
        if lane == NONE {
            return false;
        }
        self.detach(place);
        self.stand(place, lane, due, now);
        true
    }

    /// Takes a ticket out of its lane; it is overdue from `until` on. A leased one gives its lease back. False if it is not
    /// known.
    pub fn park(&mut self, ticket: Ticket, until: Mono, now: Mono) -> bool {
        let Some(place) = self.tickets.slab.find(ticket) else { return false };
        self.detach(place);
        self.stand_aside(place, until, now);
        true
    }

    /// Changes when a ticket expires: at once for one that waits or is ready, with its next [`Schedule::put`] for any other.
    /// False if it is not known.
    pub fn expire_at(&mut self, ticket: Ticket, expires: Mono, now: Mono) -> bool {
        let Some(place) = self.tickets.slab.find(ticket) else { return false };
        let expires = tick_after(expires);
        let entry = self.tickets.slab.at_mut(place);
        if !matches!(entry.state(), State::Waiting | State::Ready) {
            entry.set_expires(expires);
        } else if expires <= tick_at(now) {
            self.detach(place);
            self.tickets.slab.at_mut(place).set_expires(expires);
            self.tickets.run_out(place);
        } else {
            self.tickets.disarm(place);
            self.tickets.slab.at_mut(place).set_expires(expires);
            self.tickets.arm(place);
        }
        true
    }

    /// Takes a ticket out for good, wherever it is. False if it is not known.
    pub fn remove(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.tickets.slab.find(ticket) else { return false };
        self.detach(place);
        self.tickets.slab.give_up(place);
        true
    }

    /// Makes what has come due ready, takes what has expired out of its lane, and ends suspensions. Returns when to call
    /// again, if anything still waits. It stops after some thousand tickets, and then wants to be called again at once: the
    /// time it returns has come already.
    pub fn advance(&mut self, now: Mono) -> Option<Mono> {
        let until = tick_at(now);
        let (mut left, mut moves) = (GO_OFF_MAX, MOVES_MAX);
        while left > 0 && moves > 0 {
            let gone = self.tickets.go_off(until, &mut moves);
            let present = self.tickets.wheel.present();
            for &armed in &gone {
                self.go_off(armed, present);
            }
            left = left.saturating_sub(gone.len());
            self.tickets.went_off(gone);
            if self.tickets.wheel.next().is_none_or(|next| next > until) {
                break;
            }
        }
        self.tickets.sweep(SWEEPS);
        while let Some(&(until, site)) = self.suspended.first() {
            if until > now {
                break;
            }
            self.suspended.pop_first();
            // It may have failed once more since; then its newer end stands in the set as well.
            if let Some(home) = self.sites.get_mut(&site)
                && home.suspended_until(now).is_none()
            {
                home.resume();
                self.rouse(site);
            }
        }
        self.end_rests(now);
        let next = self.tickets.wheel.next().map(start_of);
        let sites = self.suspended.first().map(|&(until, _)| until);
        let lanes = self.resting.first().map(|&(until, _)| until);
        next.into_iter().chain(sites).chain(lanes).min()
    }

    /// How many tickets [`Schedule::take_overdue`] could hand out.
    pub fn overdue(&self) -> usize {
        self.tickets.overdue.len as usize
    }

    /// Tickets whose time has run out, at most `most`, each once. They stand in no lane and have no time until they are put
    /// somewhere, parked or removed. One that has expired and is put into a lane again is overdue again, unless
    /// [`Schedule::expire_at`] came first.
    pub fn take_overdue(&mut self, most: usize) -> Vec<Ticket> {
        let most = most.min(self.overdue());
        let taken = (0..most).map_while(|_| self.tickets.take_overdue().map(|place| self.tickets.slab.ticket(place)));
        taken.collect()
    }

    /// Makes a ticket that waits ready, whatever its time. False if it does not wait.
    pub fn hurry(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.tickets.slab.find(ticket) else { return false };
        let entry = self.tickets.slab.at(place);
        if entry.state() != State::Waiting {
            return false;
        }
        let lane = entry.lane;
        self.tickets.disarm(place);
        if let Some(home) = self.lanes.at_mut(lane) {
            home.waiting -= 1;
        }
        self.make_ready(place, lane);
        true
    }

    /// Whose ticket it is: the number given with it. `None` if it is not known.
    pub fn owner(&self, ticket: Ticket) -> Option<u32> {
        self.tickets.slab.find(ticket).map(|place| self.tickets.slab.at(place).owner)
    }

    /// Changes whose ticket it is. False if it is not known.
    pub fn own(&mut self, ticket: Ticket, owner: u32) -> bool {
        let place = self.tickets.slab.find(ticket);
        place.map(|place| self.tickets.slab.at_mut(place).owner = owner).is_some()
    }

    /// The lane in which it waits, is ready, or is leased.
    pub fn lane_of(&self, ticket: Ticket) -> Option<LaneId> {
        let lane = self.tickets.slab.at(self.tickets.slab.find(ticket)?).lane;
        (lane != NONE).then(|| self.lanes.id(lane))
    }

    /// When a ticket is due, if it waits, in whole milliseconds; `None` if it does anything else or is unknown.
    pub fn due(&self, ticket: Ticket) -> Option<Mono> {
        match self.standing(ticket)? {
            Standing::Waiting { due } => Some(due),
            _ => None,
        }
    }

    /// When a ticket expires, in whole milliseconds; [`NEVER`] if it does not. `None` if it is not known.
    pub fn expires(&self, ticket: Ticket) -> Option<Mono> {
        Some(start_of(self.tickets.slab.at(self.tickets.slab.find(ticket)?).expires()))
    }

    /// True while the ticket is leased.
    pub fn is_leased(&self, ticket: Ticket) -> bool {
        self.standing(ticket) == Some(Standing::Leased)
    }

    /// What a ticket is doing; `None` if it is not known.
    pub fn standing(&self, ticket: Ticket) -> Option<Standing> {
        self.standing_at(self.tickets.slab.find(ticket)?)
    }

    pub(super) fn standing_at(&self, place: u32) -> Option<Standing> {
        let entry = self.tickets.slab.at(place);
        Some(match entry.state() {
            State::Free => return None,
            State::Waiting => Standing::Waiting { due: start_of(entry.due()) },
            State::Ready => Standing::Ready,
            State::Leased => Standing::Leased,
            State::Parked => Standing::Parked { until: start_of(entry.due()) },
            State::Overdue => Standing::Overdue,
            State::Taken => Standing::Taken,
        })
    }

    /// Puts a ticket that stands nowhere into a lane.
    fn stand(&mut self, place: u32, lane: u32, due: Mono, now: Mono) {
        let entry = self.tickets.slab.at_mut(place);
        if entry.expires() <= tick_at(now) {
            return self.tickets.run_out(place);
        }
        entry.lane = lane;
        if due <= now {
            return self.make_ready(place, lane);
        }
        entry.set_due(tick_after(due));
        entry.set_state(State::Waiting);
        self.tickets.arm(place);
        if let Some(home) = self.lanes.at_mut(lane) {
            home.waiting += 1;
        }
    }

    /// Lets a ticket that stands nowhere wait in no lane.
    fn stand_aside(&mut self, place: u32, until: Mono, now: Mono) {
        if until <= now {
            return self.tickets.run_out(place);
        }
        let entry = self.tickets.slab.at_mut(place);
        entry.lane = NONE;
        entry.set_due(tick_after(until));
        entry.set_state(State::Parked);
        self.tickets.arm(place);
    }

    /// Lines a ticket of a lane up there. Its timer, if it had one, is void.
    fn make_ready(&mut self, place: u32, lane: u32) {
        self.tickets.slab.at_mut(place).set_state(State::Ready);
        self.tickets.arm(place);
        let Some(home) = self.lanes.at_mut(lane) else { return };
        self.tickets.slab.push_back(&mut home.ready, place);
        self.line_up(lane, 1);
    }

    /// Tells a lane's site of tickets that have become ready in it, and makes sure that the lane stands in line there.
    pub(super) fn line_up(&mut self, at: u32, tickets: u32) {
        let Some(lane) = self.lanes.at_mut(at).filter(|lane| !lane.is_aside()) else { return };
        let Some(home) = self.sites.get_mut(&lane.site) else { return };
        home.more_ready(lane.key.class, tickets);
        if lane.turn == 0 {
            self.turn_last += 1;
            lane.turn = self.turn_last;
            home.line_up(lane.key.class, lane.client, InLine { lane: at, turn: lane.turn });
        }
        rouse(lane.site, home, &mut self.roused);
    }

    /// A ticket's timer has gone off.
    fn go_off(&mut self, armed: Armed, present: Tick) {
        let place = armed.place();
        if !self.tickets.is_first_to_go_off(armed) {
            return;
        }
        let entry = self.tickets.slab.at(place);
        match entry.state() {
            State::Waiting if entry.expires() > present => {
                let lane = entry.lane;
                if let Some(home) = self.lanes.at_mut(lane) {
                    home.waiting -= 1;
                }
                self.make_ready(place, lane);
            }
            _ => {
                self.leave(place);
                self.tickets.run_out(place);
            }
        }
    }

    /// Takes a ticket out of its lane or list, and out of the wheel. It stands nowhere then.
    fn detach(&mut self, place: u32) {
        self.tickets.disarm(place);
        self.leave(place);
        self.tickets.slab.at_mut(place).lane = NONE;
    }

    /// Takes a ticket out of its lane or list.
    fn leave(&mut self, place: u32) {
        let entry = self.tickets.slab.at(place);
        let state = entry.state();
        if state == State::Overdue {
            let overdue = &mut self.tickets.overdue;
            return self.tickets.slab.unlink(overdue, place);
        }
        let Some(lane) = self.lanes.at_mut(entry.lane) else { return };
        match state {
            State::Waiting => lane.waiting -= 1,
            State::Ready => {
                self.tickets.slab.unlink(&mut lane.ready, place);
                if let Some(home) = self.sites.get_mut(&lane.site).filter(|_| !lane.is_aside()) {
                    home.less_ready(lane.key.class, 1);
                }
            }
            State::Leased => {
                lane.leased -= 1;
                if let Some(home) = self.sites.get_mut(&lane.site) {
                    home.returned(lane.key.class);
                    rouse(lane.site, home, &mut self.roused);
                }
            }
            State::Free | State::Parked | State::Overdue | State::Taken => {}
        }
    }
}
