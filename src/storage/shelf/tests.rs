//! The shelf against a model, over a disk that loses what was not synced.

use std::collections::BTreeMap;

use super::*;
use crate::storage::faulty::{Call, FaultyDisk};

const DIR: &str = "shelf";
const SMALL: Options = Options { bundle_bytes_max: 2_000, catalogues_merged: 3 };

fn item(n: u64) -> Item {
    let payload = format!("item {n} {}", "x".repeat((n % 37 * n % 41) as usize * 3));
    Item { at: Timestamp(n), keys: vec![key(n), key_of(&[b"twin", &(n / 2).to_le_bytes()])], payload: payload.into() }
}

fn key(n: u64) -> u64 {
    key_of(&[&n.to_le_bytes()])
}

fn open(disk: &Arc<FaultyDisk>) -> Shelf {
    Shelf::open(disk.clone(), Path::new(DIR), SMALL).unwrap()
}

fn found(shelf: &Shelf, n: u64) -> Option<Kept> {
    let payload = item(n).payload;
    shelf.find(key(n), |kept| kept.payload == payload).unwrap()
}

#[test]
fn what_is_put_is_found_by_each_key_until_it_is_taken_also_after_a_start() {
    let disk = FaultyDisk::new(1);
    let mut shelf = open(&disk);
    assert!(shelf.is_empty() && found(&shelf, 1).is_none());
    for put in 0..40 {
        let items: Vec<Item> = (put * 5..put * 5 + 5).map(item).collect();
        assert_eq!(shelf.put(&items).unwrap().len(), 5);
    }
    for taken in (0..200).step_by(3) {
        let place = found(&shelf, taken).unwrap().place;
        shelf.take(&[place]).unwrap();
    }
    for round in 0..3 {
        for n in 0..200 {
            assert_eq!(found(&shelf, n).is_some(), n % 3 != 0, "{n}, round {round}");
        }
        let (left, bytes) = shelf.figures();
        assert_eq!(left, 133);
        assert!(bytes > 133 * 24);
        let twin = shelf.find(key_of(&[b"twin", &2_u64.to_le_bytes()]), |_| true).unwrap().unwrap();
        assert_eq!(twin.payload, item(5).payload, "the newest first");
        let other = shelf.find(key_of(&[b"twin", &2_u64.to_le_bytes()]), |kept| kept.at == Timestamp(4)).unwrap();
        assert_eq!(other.unwrap().payload, item(4).payload);
        if round == 0 {
            shelf.close().unwrap();
            disk.cut_power();
            shelf = open(&disk);
            assert!(shelf.doubtful().is_empty(), "it was closed");
        } else {
            while shelf.merge().unwrap() {}
            assert!(shelf.front.lock().catalogues.len() < 8);
        }
    }
}

#[test]
fn a_walk_tells_what_is_old_enough_in_order_and_what_lies_before_it_can_go() {
    let disk = FaultyDisk::new(2);
    let shelf = open(&disk);
    (0..30).for_each(|put| drop(shelf.put(&[item(2 * put), item(2 * put + 1)]).unwrap()));
    shelf.take(&[found(&shelf, 10).unwrap().place]).unwrap();
    let mut from = Place::START;
    let mut seen = Vec::new();
    loop {
        let walked = shelf.walk(&mut from, Timestamp(49), 7).unwrap();
        if walked.is_empty() {
            break;
        }
        seen.extend(walked.iter().map(|kept| kept.at.0));
        shelf.take(&walked.iter().map(|kept| kept.place).collect::<Vec<_>>()).unwrap();
    }
    assert_eq!(seen, (0..50).filter(|n| *n != 10).collect::<Vec<_>>());
    let before = disk.files().len();
    shelf.remove_before(from).unwrap();
    assert!(disk.files().len() < before);
    assert!((50..60).all(|n| found(&shelf, n).is_some()));
    while shelf.merge().unwrap() {}
    assert!((50..60).all(|n| found(&shelf, n).is_some()));
    // All of it.
    let rest = shelf.walk(&mut from, Timestamp(100), 100).unwrap();
    shelf.take(&rest.iter().map(|kept| kept.place).collect::<Vec<_>>()).unwrap();
    shelf.close().unwrap();
    assert!(shelf.walk(&mut from, Timestamp(100), 100).unwrap().is_empty());
    shelf.remove_before(from).unwrap();
    assert_eq!((disk.files(), shelf.is_empty()), (Vec::new(), true));
    // And a number is not used again.
    shelf.put(&[item(100)]).unwrap();
    assert_eq!(shelf.walk(&mut from, Timestamp(100), 100).unwrap().len(), 1);
}

#[test]
fn lost_and_damaged_catalogues_are_made_anew() {
    for damage in 0..3 {
        let disk = FaultyDisk::new(3);
        let shelf = open(&disk);
        (0..40).for_each(|n| drop(shelf.put(&[item(n)]).unwrap()));
        shelf.take(&[found(&shelf, 7).unwrap().place]).unwrap();
        while shelf.merge().unwrap() {}
        shelf.close().unwrap();
        let files = disk.files();
        let keys: Vec<_> = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "keys")).collect();
        match damage {
            0 => disk.flip(&keys[0].0, 20, 3),
            1 => disk.remove(&keys[keys.len() - 1].0).unwrap(),
            _ => keys.iter().for_each(|(path, _)| disk.remove(path).unwrap()),
        }
        let shelf = open(&disk);
        for n in 0..40 {
            assert_eq!(found(&shelf, n).is_some(), n != 7, "{n}, damage {damage}");
        }
        assert_eq!(shelf.figures().0, 39);
    }
}

#[test]
fn keys_that_are_not_spread_and_keys_that_many_share_are_found() {
    let disk = FaultyDisk::new(4);
    let shelf = Shelf::open(disk, Path::new(DIR), Options::default()).unwrap();
    let mut keys: Vec<u64> = (0..5_000).chain((1..2_000).map(|n| u64::MAX - n * n)).collect();
    keys.extend([77_777; 40]);
    let item = |(n, key): (usize, &u64)| Item {
        at: Timestamp(n as u64),
        keys: vec![*key],
        payload: n.to_le_bytes().to_vec().into(),
    };
    shelf.put(&keys.iter().enumerate().map(item).collect::<Vec<_>>()).unwrap();
    for (n, key) in keys.iter().enumerate() {
        let payload = n.to_le_bytes();
        assert!(shelf.find(*key, |kept| kept.payload[..] == payload).unwrap().is_some(), "{n}: {key}");
    }
    for absent in [5_000, 77_776, 77_778, u64::MAX, u64::MAX - 2] {
        assert!(shelf.find(absent, |_| true).unwrap().is_none(), "{absent}");
    }
}

/// Whatever is cut off when: what was put is there, what was taken is not, and of what was on its way all, some or nothing.
#[test]
fn a_crash_at_any_call_loses_nothing_that_was_answered() {
    let seeds = std::env::var("STORAGE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let disk = FaultyDisk::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        // By number: is it there? `None`: nobody can tell.
        let mut known: BTreeMap<u64, Option<bool>> = BTreeMap::new();
        let (mut next, mut walked) = (0, 0);
        for _ in 0..6 {
            disk.cut_power_at(random.u64(1..60));
            if let Ok(shelf) = Shelf::open(disk.clone(), Path::new(DIR), SMALL) {
                for n in 0..next {
                    let there = shelf.find(key(n), |kept| kept.payload == item(n).payload).map(|kept| kept.is_some());
                    let (Ok(there), Some(expected)) = (there, known.get_mut(&n)) else { break };
                    assert!(expected.is_none_or(|expected| expected == there), "{n} is there: {there}, seed {seed}");
                    *expected = Some(there);
                }
                live(&shelf, &mut random, &mut known, (&mut next, &mut walked));
            }
            disk.cut_power();
        }
        let shelf = open(&disk);
        for (n, expected) in known {
            let there = found(&shelf, n).is_some();
            assert!(expected.is_none_or(|expected| expected == there), "{n} is there: {there}, seed {seed}");
        }
    }
}

fn live(
    shelf: &Shelf,
    random: &mut fastrand::Rng,
    known: &mut BTreeMap<u64, Option<bool>>,
    (next, walked): (&mut u64, &mut u64),
) {
    let mut from = Place::START;
    for _ in 0..random.u64(1..40) {
        match random.u8(..10) {
            0..4 => {
                let numbers = *next..*next + random.u64(1..6);
                *next = numbers.end;
                let put = shelf.put(&numbers.clone().map(item).collect::<Vec<_>>());
                known.extend(numbers.map(|n| (n, put.is_ok().then_some(true))));
            }
            4..8 => {
                let n = random.u64(..*next + 1);
                let Ok(Some(kept)) = shelf.find(key(n), |kept| kept.payload == item(n).payload) else { continue };
                let taken = shelf.take(&[kept.place]);
                known.insert(n, taken.is_ok().then_some(false));
            }
            8 => drop(shelf.merge()),
            _ => {
                *walked += 3;
                let Ok(old) = shelf.walk(&mut from, Timestamp(*walked), 50) else { continue };
                let taken = shelf.take(&old.iter().map(|kept| kept.place).collect::<Vec<_>>());
                known.extend(old.iter().map(|kept| (kept.at.0, taken.is_ok().then_some(false))));
                if taken.is_ok() {
                    drop(shelf.remove_before(from));
                }
            }
        }
    }
    if random.bool() {
        drop(shelf.close());
    }
}

#[test]
fn a_put_that_fails_is_not_found_and_the_next_goes_elsewhere() {
    let disk = FaultyDisk::new(5);
    let shelf = open(&disk);
    shelf.put(&[item(1)]).unwrap();
    disk.fail(Call::Sync, 1, ErrorKind::Other);
    assert!(shelf.put(&[item(2)]).is_err());
    shelf.put(&[item(3)]).unwrap();
    assert_eq!([1, 2, 3].map(|n| found(&shelf, n).is_some()), [true, false, true]);
    assert_eq!(shelf.walk(&mut Place::START.clone(), Timestamp(9), 9).unwrap().len(), 2);
    // One that was taken and may not have been is not answered for, and neither is any after it.
    let [first, third] = [1, 3].map(|n| found(&shelf, n).unwrap().place);
    disk.fail(Call::Sync, 1, ErrorKind::Other);
    assert!(shelf.take(&[first]).is_err() && shelf.take(&[third]).is_err() && shelf.is_poisoned());
    assert_eq!([1, 3].map(|n| found(&shelf, n).is_some()), [false, false], "whoever wanted them has them");
}

/// Whoever was to take it has it already.
#[test]
fn what_could_not_be_marked_lies_there_no_more_until_a_start_finds_it_again() {
    let disk = FaultyDisk::new(6);
    let shelf = open(&disk);
    let places = shelf.put(&[item(1), item(2)]).unwrap();
    disk.fail(Call::Write, 1, ErrorKind::StorageFull);
    assert!(shelf.take(&places[..1]).is_err());
    assert!(found(&shelf, 1).is_none() && found(&shelf, 2).is_some());
    assert_eq!(shelf.walk(&mut Place::START.clone(), Timestamp(9), 9).unwrap().len(), 1);
    drop(shelf);
    disk.kill();
    let shelf = open(&disk);
    assert!(found(&shelf, 1).is_some());
    assert_eq!(shelf.doubtful().len(), 1);
}
