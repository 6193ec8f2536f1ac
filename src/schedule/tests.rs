//! The schedule under test: a week of retries takes a millisecond here.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::Class;

mod model;

const OPEN: SiteLimits = SiteLimits { concurrency: 100, pace: None };

fn key(destination: &str, class: Class, client: &str) -> LaneKey {
    LaneKey { destination: destination.into(), class, client: client.into(), apart: None }
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

/// A schedule with one site whose window is wide open.
fn open_site(limits: SiteLimits) -> (Schedule, SiteId) {
    let mut s = Schedule::new(false);
    let site = s.site(&"site".into(), limits);
    s.sites.get_mut(&site).unwrap().window = limits.concurrency;
    (s, site)
}

/// A new ticket that does not expire.
fn add(s: &mut Schedule, owner: u32, lane: LaneId, cost: u32, due: Mono, now: Mono) -> Ticket {
    s.add(lane, cost, owner, due, NEVER, now)
}

/// Owners of all that can be pulled, in order.
fn drain(s: &mut Schedule, site: SiteId, now: Mono) -> Vec<u32> {
    let mut got = Vec::new();
    while let Pulled::Ticket(t) = s.pull(site, now) {
        got.push(s.owner(t).unwrap());
        s.remove(t);
    }
    got
}

#[test]
fn nothing_goes_before_its_time() {
    let (mut s, site) = open_site(OPEN);
    let lane = s.lane(&key("d", Class::Transactional, "shop"), site);
    let ticket = add(&mut s, 1, lane, 1, at(60), at(0));
    assert_eq!(s.pull(site, at(0)), Pulled::Nothing);
    assert_eq!(s.advance(at(59)), Some(at(60)));
    assert_eq!(s.pull(site, at(59)), Pulled::Nothing);
    assert_eq!(s.advance(at(60)), None);
    assert_eq!(s.roused(), vec![site]);
    assert_eq!(s.pull(site, at(60)), Pulled::Ticket(ticket));
    assert_eq!(s.pull(site, at(60)), Pulled::Nothing);
}

#[test]
fn class_goes_before_client_before_lane() {
    let (mut s, site) = open_site(OPEN);
    let now = at(0);
    let mut next = 0;
    for class in [Class::Marketing, Class::Transactional, Class::Otp] {
        for client in ["a", "b"] {
            let lane = s.lane(&key("d", class, client), site);
            for _ in 0..2 {
                add(&mut s, next, lane, QUANTUM_TEST, now, now);
                next += 1;
            }
        }
    }
    // Otp (8..12) first, then transactional (4..8), then marketing (0..4); within each, the clients take turns.
    assert_eq!(drain(&mut s, site, now), vec![8, 10, 9, 11, 4, 6, 5, 7, 0, 2, 1, 3]);
}

/// A cost that uses up one turn.
const QUANTUM_TEST: u32 = 64 * 1024;

#[test]
fn clients_share_by_bytes_not_by_messages() {
    let (mut s, site) = open_site(OPEN);
    let now = at(0);
    let big = s.lane(&key("d", Class::Marketing, "big"), site);
    let small = s.lane(&key("d", Class::Marketing, "small"), site);
    for t in 0..100 {
        add(&mut s, t, big, 256 * 1024, now, now);
        add(&mut s, 1_000 + t, small, 4 * 1024, now, now);
    }
    let first: Vec<u32> = drain(&mut s, site, now).into_iter().take(65).collect();
    let of_big = first.iter().filter(|&&t| t < 1_000).count();
    assert!(of_big <= 3, "the client with big messages got {of_big} of 65 turns");
}

#[test]
fn a_class_keeps_its_reserved_slots() {
    let (mut s, site) = open_site(SiteLimits { concurrency: 8, pace: None });
    let now = at(0);
    let marketing = s.lane(&key("d", Class::Marketing, "shop"), site);
    for t in 0..100 {
        add(&mut s, t, marketing, 1, now, now);
    }
    let mut out = 0;
    while let Pulled::Ticket(_) = s.pull(site, now) {
        out += 1;
    }
    assert_eq!(out, 6, "one slot is kept for codes and one for transactional mail");
    assert_eq!(s.pull(site, now), Pulled::Busy);
    let otp = s.lane(&key("d", Class::Otp, "shop"), site);
    let code = add(&mut s, 500, otp, 1, now, now);
    assert_eq!(s.pull(site, now), Pulled::Ticket(code));
}

#[test]
fn codes_do_not_starve_what_waits_behind_them() {
    let (mut s, site) = open_site(SiteLimits { concurrency: 8, pace: None });
    let now = at(0);
    let otp = s.lane(&key("d", Class::Otp, "shop"), site);
    let marketing = s.lane(&key("d", Class::Marketing, "shop"), site);
    let campaign = add(&mut s, 1_000, marketing, 1, now, now);
    for t in 0..100 {
        add(&mut s, t, otp, 1, now, now);
    }
    let mut got = Vec::new();
    while let Pulled::Ticket(t) = s.pull(site, now) {
        got.push(t);
    }
    assert!(got.contains(&campaign), "{got:?}");
}

#[test]
fn a_site_never_exceeds_its_pace() {
    let (mut s, site) = open_site(SiteLimits { concurrency: 1_000, pace: Some(Pace { per_second: 10.0, burst: 3 }) });
    let lane = s.lane(&key("d", Class::Transactional, "shop"), site);
    for t in 0..1_000 {
        add(&mut s, t, lane, 1, at(0), at(0));
    }
    let mut sent = 0;
    let mut now = at(100);
    while now < at(110) {
        match s.pull(site, now) {
            Pulled::Ticket(t) => {
                sent += 1;
                s.remove(t);
            }
            Pulled::NotBefore(then) => {
                assert!(then > now);
                now = then;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, 102, "ten seconds at ten a second, and a burst of three instead of one at the start");
}

#[test]
fn a_failing_site_is_probed_by_one_and_opens_up_again() {
    let (mut s, site) = open_site(SiteLimits { concurrency: 8, pace: None });
    let lane = s.lane(&key("d", Class::Transactional, "shop"), site);
    for t in 0..20 {
        add(&mut s, t, lane, 1, at(0), at(0));
    }
    let Pulled::Ticket(first) = s.pull(site, at(0)) else { panic!("nothing to pull") };
    s.went_wrong(first, at(0));
    s.put(first, lane, 1, at(3_600), at(0));
    assert_eq!(s.pull(site, at(0)), Pulled::NotBefore(at(2)));
    assert_eq!(s.suspended_until(lane, at(1)), Some(at(2)));
    s.roused();
    assert_eq!(s.advance(at(1)), Some(at(2)));
    assert!(s.roused().is_empty());
    s.advance(at(2));
    assert_eq!(s.roused(), vec![site], "the end of a suspension rouses the site");
    // One probe, and no more until it is answered.
    let Pulled::Ticket(probe) = s.pull(site, at(2)) else { panic!("no probe") };
    assert_eq!(s.pull(site, at(2)), Pulled::Busy);
    s.went_wrong(probe, at(2));
    s.put(probe, lane, 1, at(3_600), at(2));
    assert_eq!(s.pull(site, at(2)), Pulled::NotBefore(at(6)), "the pause doubles");
    let Pulled::Ticket(probe) = s.pull(site, at(6)) else { panic!("no probe") };
    s.went_well(probe);
    s.remove(probe);
    let mut open = 0;
    while let Pulled::Ticket(_) = s.pull(site, at(6)) {
        open += 1;
    }
    assert_eq!(open, 2);
}

#[test]
fn holding_stops_everything_and_letting_go_rouses_every_site() {
    let mut s = Schedule::new(true);
    let site = s.site(&"x".into(), OPEN);
    let lane = s.lane(&key("d", Class::Otp, "shop"), site);
    let ticket = add(&mut s, 1, lane, 1, at(0), at(0));
    s.roused();
    assert_eq!(s.pull(site, at(0)), Pulled::Nothing);
    s.hold(false);
    assert_eq!(s.roused(), vec![site]);
    assert_eq!(s.pull(site, at(0)), Pulled::Ticket(ticket));
}

#[test]
fn pauses_grow_to_a_bound() {
    assert_eq!(suspension(1), Duration::from_secs(2));
    assert_eq!(suspension(3), Duration::from_secs(8));
    assert_eq!(suspension(400), Duration::from_secs(60));
}

#[test]
fn idle_lanes_and_sites_are_dropped_once_there_are_many_and_busy_ones_stay() {
    let mut s = Schedule::new(false);
    let busy = s.site(&"busy".into(), OPEN);
    let lane = s.lane(&key("busy", Class::Otp, "shop"), busy);
    let waiting = add(&mut s, 1, lane, 1, at(60), at(0));
    for n in 0..LANES_KEPT as u32 {
        let name: Arc<str> = format!("d{n}").into();
        let site = s.site(&name, OPEN);
        let lane = s.lane(&key(&name, Class::Otp, "shop"), site);
        let ticket = add(&mut s, 100 + n, lane, 1, at(0), at(0));
        assert_eq!(s.pull(site, at(0)), Pulled::Ticket(ticket));
        s.remove(ticket);
    }
    assert_eq!(s.prune(at(0)).len(), LANES_KEPT);
    assert_eq!((s.lanes.len(), s.sites.len(), s.site_ids.len()), (1, 1, 1));
    assert!(s.prune(at(0)).is_empty(), "not again until there are many");
    s.advance(at(60));
    assert_eq!(s.pull(busy, at(60)), Pulled::Ticket(waiting));
    assert_ne!(s.site(&"d0".into(), OPEN), busy, "numbers are not used again");
}

proptest! {
    /// Whatever is put, taken, returned and removed: the counts agree, no ticket is given out twice, and what is left can
    /// be drained.
    #[test]
    fn tickets_are_neither_lost_nor_doubled(steps in proptest::collection::vec((0u8..6, 0u32..30, 0usize..6), 1..200)) {
        let mut s = Schedule::new(false);
        let sites = [s.site(&"a".into(), OPEN), s.site(&"b".into(), SiteLimits { concurrency: 3, pace: None })];
        let lanes: Vec<LaneId> = (0..6)
            .map(|i| s.lane(&key(&format!("d{i}"), Class::ALL[i % 3], if i < 3 { "x" } else { "y" }), sites[i % 2]))
            .collect();
        let mut now = at(0);
        let mut held = std::collections::HashMap::new();
        let mut leased = std::collections::HashSet::new();
        for (step, ticket, lane) in steps {
            match step {
                0 | 1 if !leased.contains(&ticket) => {
                    let due = now.plus(Duration::from_secs(u64::from(step) * 5));
                    match held.get(&ticket) {
                        Some(&known) => prop_assert!(s.put(known, lanes[lane], 10, due, now)),
                        None => {
                            held.insert(ticket, add(&mut s, ticket, lanes[lane], 10, due, now));
                        }
                    }
                }
                2 => if let Pulled::Ticket(t) = s.pull(sites[lane % 2], now) {
                    let owner = s.owner(t).unwrap();
                    prop_assert!(held.get(&owner) == Some(&t) && leased.insert(owner), "{owner} given out wrongly");
                },
                3 => if let Some(&t) = leased.iter().next() {
                    leased.remove(&t);
                    s.put(held[&t], lanes[lane], 10, now, now);
                },
                4 => {
                    if let Some(known) = held.remove(&ticket) {
                        prop_assert!(s.remove(known));
                        prop_assert_eq!(s.owner(known), None);
                    }
                    leased.remove(&ticket);
                }
                _ => {
                    now = now.plus(Duration::from_secs(u64::from(ticket)));
                    s.advance(now);
                }
            }
            let (counts, _) = s.counts(100);
            let total: usize = counts.iter().map(|c| c.ready + c.waiting + c.leased).sum();
            prop_assert_eq!(total, held.len());
            prop_assert_eq!(counts.iter().map(|c| c.leased).sum::<usize>(), leased.len());
        }
        for t in leased.drain() {
            s.remove(held.remove(&t).unwrap());
        }
        for ticket in held.values() {
            s.hurry(*ticket);
        }
        s.lanes().into_iter().for_each(|(lane, ..)| s.resume(lane));
        for site in sites {
            for t in drain(&mut s, site, now) {
                prop_assert!(held.remove(&t).is_some());
            }
        }
        prop_assert!(held.is_empty(), "never came out: {held:?}");
    }
}
