//! The schedule against a model of it that looks at everything each time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LANES: usize = 6;

/// What one ticket should be doing.
#[derive(Clone, Debug)]
struct Wanted {
    ticket: Ticket,
    owner: u32,
    lane: Option<usize>,
    standing: Standing,
    expires: Mono,
    /// When it became ready: smaller ones of a lane are pulled first, equal ones in any order.
    rank: (usize, u64),
}

impl Wanted {
    /// Its lane; none once its time has run out.
    fn in_lane(&self) -> Option<usize> {
        match self.standing {
            Standing::Waiting { .. } | Standing::Ready | Standing::Leased => self.lane,
            Standing::Parked { .. } | Standing::Overdue | Standing::Taken => None,
        }
    }
}

/// The schedule, and what should be in it.
struct Pair {
    real: Schedule,
    sites: [SiteId; 2],
    lanes: Vec<LaneId>,
    /// Where each lane is.
    homes: Vec<usize>,
    /// Which of them are held.
    held: [bool; LANES],
    model: BTreeMap<u32, Wanted>,
    /// Handles that are not good any more.
    stale: Vec<Ticket>,
    now: Mono,
    step: usize,
    last_owner: u32,
}

/// Rounded up to a millisecond.
fn whole(time: Mono) -> Mono {
    if time.0 > 1_000 * ((1 << 40) - 2) { NEVER } else { Mono(time.0.div_ceil(1_000) * 1_000) }
}

impl Pair {
    fn new() -> Self {
        let mut real = Schedule::new(false);
        let limits = SiteLimits { concurrency: 10_000, pace: None };
        let sites = [real.site(&"a".into(), limits), real.site(&"b".into(), limits)];
        sites.iter().for_each(|site| real.sites.get_mut(site).unwrap().window = 10_000);
        let homes: Vec<usize> = (0..LANES).map(|n| n % 2).collect();
        let lanes = (0..LANES).map(|n| {
            let client = ["x", "y", "z"][n % 3];
            real.lane(&key(&format!("d{n}"), class_of(n), client), sites[homes[n]])
        });
        let lanes = lanes.collect();
        let (model, stale) = (BTreeMap::new(), Vec::new());
        Self {
            real,
            sites,
            lanes,
            homes,
            held: [false; LANES],
            model,
            stale,
            now: Mono(12_345),
            step: 0,
            last_owner: 0,
        }
    }

    /// Time by hundredths of microseconds up to tens of years; often the same.
    fn ahead(&self, kind: u8, amount: u64) -> Mono {
        let span = match kind % 8 {
            0 => 0,
            1 => amount,
            2 => 1_000,
            3 => amount * 1_000,
            4 => amount * 1_000_000,
            5 => amount * 60_000_000,
            6 => amount * 86_400_000_000,
            _ => amount * 86_400_000_000 * 365 / 20,
        };
        Mono(self.now.0 + span)
    }

    /// What becomes of a ticket that is put into a lane.
    fn stands(&self, due: Mono, expires: Mono) -> Standing {
        match () {
            () if expires <= self.now => Standing::Overdue,
            () if due <= self.now => Standing::Ready,
            () => Standing::Waiting { due: whole(due) },
        }
    }

    fn add(&mut self, lane: usize, due: Mono, expires: Mono) {
        self.last_owner += 1;
        let owner = self.last_owner;
        let ticket = self.real.add(self.lanes[lane], 10, owner, due, expires, self.now);
        let standing = self.stands(due, whole(expires));
        let rank = (self.step, 0);
        let wanted = Wanted { ticket, owner, lane: Some(lane), standing, expires: whole(expires), rank };
        self.model.insert(owner, wanted);
    }

    /// Puts an old ticket somewhere.
    fn put(&mut self, owner: u32, lane: usize, due: Mono) {
        let Some(old) = self.model.get(&owner).cloned() else { return };
        let put = if lane.is_multiple_of(2) {
            self.real.put(old.ticket, self.lanes[lane], 10, due, self.now)
        } else {
            self.real.put_back(old.ticket, due, self.now)
        };
        let lane = if lane.is_multiple_of(2) { Some(lane) } else { old.in_lane() };
        assert_eq!(put, lane.is_some());
        if put {
            let standing = self.stands(due, old.expires);
            self.model.insert(owner, Wanted { standing, lane, rank: (self.step, 0), ..old });
        }
    }

    fn park(&mut self, owner: u32, until: Mono) {
        let parked = if until <= self.now { Standing::Overdue } else { Standing::Parked { until: whole(until) } };
        if let Some(wanted) = self.model.get_mut(&owner) {
            assert!(self.real.park(wanted.ticket, until, self.now));
            (wanted.standing, wanted.lane) = (parked, None);
        } else {
            self.last_owner += 1;
            let owner = self.last_owner;
            let ticket = self.real.add_parked(owner, until, self.now);
            let rank = (0, 0);
            self.model.insert(owner, Wanted { ticket, owner, lane: None, standing: parked, expires: NEVER, rank });
        }
    }

    fn expire_at(&mut self, owner: u32, expires: Mono) {
        let Some(wanted) = self.model.get_mut(&owner) else { return };
        assert!(self.real.expire_at(wanted.ticket, expires, self.now));
        wanted.expires = whole(expires);
        if wanted.expires <= self.now && matches!(wanted.standing, Standing::Waiting { .. } | Standing::Ready) {
            wanted.standing = Standing::Overdue;
        }
    }

    fn remove(&mut self, owner: u32) {
        if let Some(wanted) = self.model.remove(&owner) {
            assert!(self.real.remove(wanted.ticket));
            self.stale.push(wanted.ticket);
        }
    }

    fn advance(&mut self) {
        let next = loop {
            match self.real.advance(self.now) {
                Some(next) if next <= self.now => {}
                next => break next,
            }
        };
        let mut timers = Vec::new();
        for wanted in self.model.values_mut() {
            match wanted.standing {
                Standing::Waiting { .. } | Standing::Ready if wanted.expires <= self.now => {
                    wanted.standing = Standing::Overdue;
                }
                Standing::Waiting { due } if due <= self.now => {
                    (wanted.standing, wanted.rank) = (Standing::Ready, (self.step, due.0));
                    timers.push(wanted.expires);
                }
                Standing::Waiting { due } => timers.push(due.min(wanted.expires)),
                Standing::Ready => timers.push(wanted.expires),
                Standing::Parked { until } if until <= self.now => wanted.standing = Standing::Overdue,
                Standing::Parked { until } => timers.push(until),
                Standing::Leased | Standing::Overdue | Standing::Taken => {}
            }
        }
        let wanted = timers.into_iter().filter(|timer| *timer < NEVER).min();
        assert!(
            wanted.is_none_or(|wanted| next.is_some_and(|next| next <= wanted)),
            "{next:?} is later than {wanted:?}"
        );
    }

    /// Pulls, perhaps although [`Schedule::advance`] should have been called before.
    fn pull(&mut self, site: usize) {
        let pulled = self.real.pull(self.sites[site], self.now);
        let goes = |lane: usize| self.homes[lane] == site && !self.held[lane];
        let here = |w: &&Wanted| w.standing == Standing::Ready && w.lane.is_some_and(goes);
        let pullable = |w: &&Wanted| here(w) && w.expires > self.now;
        let Pulled::Ticket(ticket) = pulled else {
            assert_eq!(pulled, Pulled::Nothing);
            assert_eq!(self.model.values().filter(pullable).count(), 0);
            return self.note_passed_over();
        };
        let owner = self.real.owner(ticket).unwrap();
        let found = self.model[&owner].clone();
        assert!(found.ticket == ticket && pullable(&&found), "{found:?} should not be pulled at {:?}", self.now);
        let class = |w: &Wanted| class_of(w.lane.unwrap());
        assert_eq!(self.model.values().filter(pullable).map(class).min(), Some(class(&found)));
        let before = |w: &&Wanted| pullable(w) && w.lane == found.lane && w.rank < found.rank;
        assert!(!self.model.values().any(|w| before(&w)), "first come is not first served");
        self.model.get_mut(&owner).unwrap().standing = Standing::Leased;
        self.note_passed_over();
    }

    /// What a pull has met and passed over since it had expired.
    fn note_passed_over(&mut self) {
        for wanted in self.model.values_mut() {
            let expired = wanted.standing == Standing::Ready && wanted.expires <= self.now;
            if expired && self.real.standing(wanted.ticket) == Some(Standing::Overdue) {
                wanted.standing = Standing::Overdue;
            }
        }
    }

    fn take_overdue(&mut self, most: usize) {
        let taken = self.real.take_overdue(most);
        let overdue = self.model.values().filter(|w| w.standing == Standing::Overdue).count();
        assert_eq!(taken.len(), overdue.min(most));
        for ticket in taken {
            let owner = self.real.owner(ticket).unwrap();
            let wanted = self.model.get_mut(&owner).unwrap();
            assert_eq!(std::mem::replace(&mut wanted.standing, Standing::Taken), Standing::Overdue);
        }
    }

    fn flush(&mut self, parity: u32) {
        for wanted in self.model.values_mut().filter(|w| w.owner % 2 == parity) {
            let waits = matches!(wanted.standing, Standing::Waiting { .. });
            assert_eq!(self.real.hurry(wanted.ticket), waits);
            if waits {
                (wanted.standing, wanted.rank) = (Standing::Ready, (self.step, 0));
            }
        }
    }

    fn hold(&mut self, lane: usize, held: bool) {
        self.real.hold_lane(self.lanes[lane], held);
        self.held[lane] = held;
    }

    fn rehome(&mut self, lane: usize, site: usize) {
        assert!(self.real.rehome(self.lanes[lane], self.sites[site]));
        self.homes[lane] = site;
    }

    /// Everything that can be asked is as it should be.
    fn check(&self) {
        for wanted in self.model.values() {
            let lane = wanted.in_lane().map(|lane| self.lanes[lane]);
            let real = &self.real;
            assert_eq!(real.standing(wanted.ticket), Some(wanted.standing), "{wanted:?} at {:?}", self.now);
            assert_eq!(real.owner(wanted.ticket), Some(wanted.owner));
            assert_eq!(real.lane_of(wanted.ticket), lane);
            assert_eq!(real.expires(wanted.ticket), Some(wanted.expires));
        }
        assert!(self.stale.iter().all(|&ticket| self.real.owner(ticket).is_none()));
        assert_eq!(self.real.len(), self.model.len());
        assert_eq!(self.real.overdue(), self.model.values().filter(|w| w.standing == Standing::Overdue).count());
        let in_lane = |lane: usize, standing: fn(&Standing) -> bool| {
            self.model.values().filter(|w| w.lane == Some(lane) && standing(&w.standing)).count()
        };
        let (counts, _) = self.real.counts(LANES);
        for (lane, id) in self.lanes.iter().enumerate() {
            let found = counts.iter().find(|c| *c.key.destination == *format!("d{lane}"));
            let numbers = found.map_or((0, 0, 0), |c| (c.ready, c.waiting, c.leased));
            let wanted = (
                in_lane(lane, |s| *s == Standing::Ready),
                in_lane(lane, |s| matches!(s, Standing::Waiting { .. })),
                in_lane(lane, |s| *s == Standing::Leased),
            );
            assert_eq!(numbers, wanted);
            assert_eq!(self.real.tickets_of(*id).len(), wanted.0 + wanted.1 + wanted.2);
            let due = self.model.values().filter(|w| w.lane == Some(lane)).filter_map(|w| match w.standing {
                Standing::Waiting { due } => Some(due),
                _ => None,
            });
            assert_eq!(found.and_then(|c| c.next_due), due.min());
        }
        for (site, id) in self.sites.iter().enumerate() {
            let lanes = (0..LANES).filter(|lane| self.homes[*lane] == site);
            let leased: usize = lanes.clone().map(|lane| in_lane(lane, |s| *s == Standing::Leased)).sum();
            let going = lanes.filter(|lane| !self.held[*lane]);
            let ready: usize = going.map(|lane| in_lane(lane, |s| *s == Standing::Ready)).sum();
            assert_eq!((self.real.leases(*id), self.real.slots_wanted(*id)), (leased, ready));
        }
    }
}

fn class_of(lane: usize) -> Class {
    Class::ALL[lane / 2]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever is done, in whatever order, however time goes: each ticket does what the model says.
    #[test]
    fn every_ticket_does_what_the_model_says(
        steps in proptest::collection::vec((0u8..20, 0usize..LANES, 1u32..40, any::<u8>(), 1u64..50, any::<u8>(), 1u64..50), 1..150)
    ) {
        let mut pair = Pair::new();
        for (step, (what, lane, owner, kind, amount, other_kind, other)) in steps.into_iter().enumerate() {
            pair.step = step + 1;
            let (time, later) = (pair.ahead(kind, amount), pair.ahead(other_kind, other));
            match what {
                0..=3 => pair.add(lane, time, if other.is_multiple_of(3) { NEVER } else { later }),
                4 | 5 => pair.put(owner, lane, time),
                6 => pair.park(owner, time),
                7 => pair.expire_at(owner, time),
                8 => pair.remove(owner),
                9 => pair.take_overdue(other as usize % 5),
                10 => pair.flush(owner % 2),
                11 => pair.rehome(lane, owner as usize % 2),
                // Time stops three years before ticks end.
                18 | 19 => pair.hold(lane, owner.is_multiple_of(2)),
                12..=14 => pair.now = Mono(time.0.min(1_000 * 86_400_000 * 365 * 31)),
                _ => (0..other % 4).for_each(|_| pair.pull(lane % 2)),
            }
            if matches!(what, 12 | 13) {
                pair.advance();
            }
            pair.check();
        }
    }

    /// However many come due together, one call does a bounded part of it, and they come in the order of their times.
    #[test]
    fn a_flood_is_dealt_with_in_pieces(late in 1u64..10_000_000, spread in 1u64..1_000) {
        let (mut s, site) = open_site(SiteLimits { concurrency: usize::MAX / 2, pace: None });
        let lane = s.lane(&key("d", Class::Transactional, "shop"), site);
        for n in 0..20_000 {
            s.add(lane, 1, n, Mono(1_000 * (1 + u64::from(n) * 7919 % spread)), NEVER, Mono(0));
        }
        let now = Mono(1_000 * (spread + late));
        let mut calls = 0;
        while s.advance(now).is_some() {
            calls += 1;
            prop_assert!(calls < 40);
        }
        prop_assert!(calls >= 4, "{calls} calls for 20,000 tickets");
        let due = |owner: u32| u64::from(owner) * 7919 % spread;
        let got = drain(&mut s, site, now);
        prop_assert_eq!(got.len(), 20_000);
        prop_assert!(got.is_sorted_by_key(|owner| due(*owner)));
    }
}

#[test]
fn a_pull_passes_over_a_bounded_number_of_expired_tickets() {
    let (mut s, site) = open_site(SiteLimits { concurrency: usize::MAX / 2, pace: None });
    let lane = s.lane(&key("d", Class::Otp, "shop"), site);
    for n in 0..1_000 {
        s.add(lane, 1, n, at(0), at(5), at(0));
    }
    let good = add(&mut s, 1_000, lane, 1, at(0), at(0));
    let mut waits = 0;
    while let Pulled::NotBefore(then) = s.pull(site, at(10)) {
        assert!(then > at(10));
        waits += 1;
    }
    assert_eq!((waits, s.overdue()), (1_000 / PASSED_OVER_MAX, 1_000));
    assert!(s.is_leased(good));
}

#[test]
fn a_moved_lane_takes_its_leases_along_and_meets_one_of_the_same_key() {
    let (mut s, old) = open_site(OPEN);
    let new = s.site(&"new".into(), OPEN);
    let name = key("d", Class::Transactional, "shop");
    let (lane, there) = (s.lane(&name, old), s.lane(&name, new));
    for n in 0..3 {
        add(&mut s, n, lane, 1, at(0), at(0));
    }
    add(&mut s, 3, lane, 1, at(60), at(0));
    add(&mut s, 4, there, 1, at(30), at(0));
    let Pulled::Ticket(leased) = s.pull(old, at(0)) else { panic!("nothing to pull") };
    s.roused();
    assert!(s.rehome(lane, new));
    assert_eq!((s.leases(old), s.leases(new), s.roused()), (0, 1, vec![new]));
    assert_eq!((s.pull(old, at(0)), s.site_of(lane)), (Pulled::Nothing, Some(new)));
    let (counts, total) = s.counts(10);
    assert_eq!((counts[0].ready, counts[0].waiting, counts[0].leased, total), (2, 2, 1, 1), "shown as one");
    assert_eq!(counts[0].next_due, Some(at(30)));
    assert_eq!(s.lane(&name, new), there, "what is new goes to the one that was there");
    assert!(s.put_back(leased, at(0), at(0)));
    assert_eq!(drain(&mut s, new, at(0)), vec![1, 2, 0]);
    s.advance(at(60));
    assert_eq!(drain(&mut s, new, at(60)).len(), 2);
    assert_eq!(s.leases(new), 0);
}

#[test]
fn a_held_lane_gives_nothing_out_and_loses_nothing() {
    let (mut s, site) = open_site(OPEN);
    let lanes = ["a", "b"].map(|client| s.lane(&key("d", Class::Transactional, client), site));
    for n in 0..4 {
        add(&mut s, n, lanes[n as usize % 2], 1, at(0), at(0));
    }
    let later = add(&mut s, 4, lanes[0], 1, at(60), at(0));
    s.hold_lane(lanes[0], true);
    assert_eq!(drain(&mut s, site, at(0)), vec![1, 3]);
    s.roused();
    assert_eq!(s.advance(at(60)), None);
    assert_eq!((s.standing(later), s.slots_wanted(site), s.roused()), (Some(Standing::Ready), 0, vec![]));
    let expiring = s.add(lanes[0], 1, 5, at(60), at(70), at(60));
    s.advance(at(70));
    assert_eq!(s.take_overdue(9), vec![expiring], "what is held has its time all the same");
    s.hold_lane(lanes[0], false);
    assert_eq!(s.roused(), vec![site]);
    assert_eq!(drain(&mut s, site, at(70)), vec![0, 2, 4]);
    let new = s.lane_held_if(&key("d", Class::Otp, "a"), site, || true);
    add(&mut s, 6, new, 1, at(0), at(70));
    assert_eq!((s.pull(site, at(70)), s.is_lane_held(new)), (Pulled::Nothing, true));
}

#[test]
fn every_ticket_is_visited_once_however_the_pieces_are_cut() {
    let (mut s, site) = open_site(OPEN);
    let lane = s.lane(&key("d", Class::Transactional, "shop"), site);
    let tickets: Vec<Ticket> = (0..100).map(|n| add(&mut s, n, lane, 1, at(60), at(0))).collect();
    s.add_parked(100, at(5), at(0));
    tickets.iter().step_by(3).for_each(|&t| assert!(s.remove(t)));
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(place) = from {
        from = s.visit(place, 7, |_, owner, standing, in_lane| {
            assert_eq!(in_lane.is_none(), owner == 100);
            assert_eq!(matches!(standing, Standing::Parked { .. }), owner == 100);
            seen.push(owner);
        });
    }
    assert_eq!(seen, (0..=100).filter(|n| n % 3 != 0 || *n == 100).collect::<Vec<_>>());
}

#[test]
fn thousands_of_clients_at_one_site_take_turns() {
    let (mut s, site) = open_site(SiteLimits { concurrency: usize::MAX / 2, pace: None });
    for round in 0..2 {
        for client in 0..5_000 {
            let lane = s.lane(&key("d", Class::Marketing, &client.to_string()), site);
            add(&mut s, round * 5_000 + client, lane, QUANTUM_TEST, at(0), at(0));
        }
    }
    assert_eq!(drain(&mut s, site, at(0)), (0..10_000).collect::<Vec<_>>());
}
