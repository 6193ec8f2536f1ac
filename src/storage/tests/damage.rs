//! Torn ends and flipped bits: never a wrong record, and nothing lost but what was hit.

use super::super::faulty::Call;
use super::super::{Purpose, ReadError, segment};
use super::*;
use std::io::ErrorKind;
use std::path::PathBuf;

fn segments(disk: &FaultyDisk) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("segments");
    let mut numbers: Vec<u64> = disk.list(&dir).unwrap().iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    let paths = numbers.into_iter().map(|n| segment::path(&dir, n));
    // Not the one made in advance.
    paths.filter(|p| disk.contents(p).iter().skip(1024).any(|b| *b != 0)).collect()
}

/// A closed log of groups of two records each.
fn filled(groups: u64, body_bytes: usize) -> Arc<FaultyDisk> {
    let disk = FaultyDisk::new(1);
    runtime().block_on(async {
        let (log, ..) = open(&disk);
        for n in 0..groups {
            let group = vec![accepted(2 * n, body_bytes), accepted(2 * n + 1, body_bytes)];
            log.append(Purpose::Intake, group).await.unwrap();
        }
        log.shutdown().await;
    });
    disk
}

fn numbers(seen: &[RecoveredRecord]) -> Vec<u64> {
    for record in seen {
        assert_eq!(record.payload, payload(number(record.key)), "a wrong record");
    }
    seen.iter().map(|r| number(r.key)).collect()
}

#[test]
fn cut_at_any_byte_whole_groups_are_left() {
    let disk = filled(6, 40);
    let path = &segments(&disk)[0];
    let whole = disk.contents(path);
    let end = whole.iter().rposition(|b| *b != 0).unwrap() + 1;
    let mut lengths = Vec::new();
    for cut in (0..=end).rev() {
        let disk = disk.fork();
        disk.put(path, &whole[..cut]);
        let (log, seen, report) = open(&disk);
        let seen = numbers(&seen);
        assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
        assert!(seen.len().is_multiple_of(2), "groups are atomic");
        assert!(report.damage.is_empty(), "cut at {cut}: a torn end is no damage: {report:?}");
        lengths.push(seen.len());
        // And it goes on from there.
        let (seen_before, n) = (seen.len(), 77);
        runtime().block_on(async {
            log.append(Purpose::Intake, vec![accepted(n, 9)]).await.unwrap();
            log.shutdown().await;
        });
        drop(log);
        let (_, again, report) = open(&disk);
        assert_eq!(again.len(), seen_before + 1);
        assert_eq!((report.torn_bytes, report.damage.len()), (0, 0));
    }
    assert!(lengths.is_sorted_by(|a, b| a >= b));
    assert_eq!((lengths[0], *lengths.last().unwrap()), (12, 0));
}

/// A batch with a damaged record, and behind it one that was torn, in the same segment or alone in the next one. Start after
/// start finds what is right in the first, though nothing is ever written behind it.
#[test]
fn what_lies_before_a_torn_batch_is_damaged_at_every_start() {
    for in_next in [false, true] {
        let disk = filled(50, 300);
        let all = segments(&disk);
        let batch = 32 + 2 * (56 + 12 + 300);
        // The first batch of the last segment is torn, behind the last of the segment before; or the last of all.
        let last = disk.contents(&all[all.len() - 1]);
        let torn_at = (1024..last.len()).step_by(64).rfind(|at| last[*at..].starts_with(b"PRBT")).unwrap();
        let torn_at = if in_next { 1024 } else { torn_at };
        disk.put(&all[all.len() - 1], &last[..torn_at + batch / 2]);
        let before = &all[all.len() - if in_next { 2 } else { 1 }];
        let mut bytes = disk.contents(before);
        let end = if in_next { bytes.len() } else { torn_at };
        let hit = (1024..end).step_by(64).rfind(|at| bytes[*at..].starts_with(b"PRBT")).unwrap();
        bytes[hit + 32 + 60] ^= 1;
        disk.put(before, &bytes);
        let mut found = None;
        for round in 0..4 {
            let (log, seen, report) = open(&disk);
            let seen = numbers(&seen);
            assert_eq!(report.torn_bytes > 0, round == 0, "{report:?}");
            assert_eq!(report.damage.len(), 1, "round {round}, in the next segment: {in_next}: {report:?}");
            assert_eq!(*found.get_or_insert_with(|| seen.clone()), seen, "round {round}");
            runtime().block_on(async {
                log.look_for_space();
                log.shutdown().await;
            });
        }
        // Two of its batch were torn, one of the batch before was hit.
        assert!(found.is_some_and(|seen| seen.is_sorted() && seen.last().is_some_and(|n| n % 2 == 1)));
    }
}

#[test]
fn any_flipped_bit_costs_at_most_what_it_hit() {
    let disk = filled(50, 300);
    let all = segments(&disk);
    assert!(all.len() >= 3, "{}", all.len());
    let mut random = fastrand::Rng::with_seed(7);
    let mut lost = 0;
    for round in 0..1500 {
        let disk = disk.fork();
        let path = &all[random.usize(..2)];
        let mut bytes = disk.contents(path);
        let bit = random.usize(..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(path, &bytes);
        let (log, seen, report) = open(&disk);
        let seen_numbers = numbers(&seen);
        assert!(seen_numbers.is_sorted() && seen_numbers.len() >= 99, "round {round}: {seen_numbers:?}");
        assert_eq!(report.torn_bytes, 0, "round {round}");
        if seen_numbers.len() < 100 {
            lost += 1;
            assert!(!report.damage.is_empty(), "round {round}: lost in silence");
        }
        // A body that was hit is refused, not served.
        let mut refused = 0;
        runtime().block_on(async {
            for record in &seen {
                match log.read(record.position).await {
                    Ok(stored) => assert_eq!(stored.body, Some(body(number(record.key), 300))),
                    Err(ReadError::Corrupt) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
        });
        // A start reads no bodies, so that one is damaged shows when it is read.
        assert!(refused <= 1 && (refused == 0 || log.stats().damaged > 0));
        for damage in &report.damage {
            let copy = disk.contents(damage.copy.as_ref().unwrap());
            let from = damage.offset as usize;
            assert_eq!(copy, bytes[from..from + damage.length as usize], "set aside");
        }
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_lost_batch_and_a_lost_header_are_reported() {
    let disk = filled(50, 300);
    let all = segments(&disk);
    let mut bytes = disk.contents(&all[0]);
    let batch = 32 + 2 * (56 + 12 + 300);
    // The second batch never reached the disk.
    let at = (1024 + batch as usize).next_multiple_of(64);
    bytes[at..at + batch as usize].fill(0);
    let lost = disk.fork();
    lost.put(&all[0], &bytes);
    let (_, seen, report) = open(&lost);
    assert!(seen.len() == 98);
    assert!(report.damage.iter().any(|d| d.what.contains("missing")), "{report:?}");
    // Both copies of a segment's header are gone: the segment is set aside whole.
    let mut bytes = disk.contents(&all[1]);
    bytes[0] ^= 1;
    bytes[512] ^= 1;
    disk.put(&all[1], &bytes);
    let (log, seen, report) = open(&disk);
    runtime().block_on(log.shutdown());
    drop(log);
    assert!(!seen.is_empty() && seen.len() < 100);
    assert_eq!(disk.contents(report.damage[0].copy.as_ref().unwrap()), bytes);
    assert_eq!(segments(&disk).iter().filter(|p| *p == &all[1]).count(), 0);
    // Once set aside it is no news any more.
    assert!(open(&disk).2.damage.is_empty());
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let disk = filled(50, 300);
    let path = segments(&disk).pop().unwrap();
    let mut bytes = disk.contents(&path);
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.put(&path, &bytes);
    let before: Vec<_> = segments(&disk).iter().map(|p| disk.contents(p)).collect();
    let error = open_with(&disk, small()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 9, known: 2, .. }), "{error}");
    assert_eq!(segments(&disk).iter().map(|p| disk.contents(p)).collect::<Vec<_>>(), before);
}

#[test]
fn a_disk_that_fails_during_recovery_is_an_error_and_a_later_start_succeeds() {
    let disk = filled(50, 300);
    let path = segments(&disk).pop().unwrap();
    let torn = disk.contents(&path);
    let end = torn.iter().rposition(|b| *b != 0).unwrap();
    let mut failures = 0;
    for call in [Call::Write, Call::Sync, Call::SyncDir, Call::SetLength, Call::Create] {
        for n in 1..4 {
            let disk = disk.fork();
            disk.put(&path, &torn[..end - 20]);
            disk.fail(call, n, ErrorKind::Other);
            match open_with(&disk, small()) {
                // Its threads would go on over the disk that the next one opens.
                Ok((log, ..)) => runtime().block_on(log.shutdown()),
                Err(e) => {
                    assert!(matches!(e, OpenError::Io { .. }), "{e}");
                    failures += 1;
                }
            }
            disk.cut_power();
            let seen = open(&disk).1;
            assert_eq!(numbers(&seen), (0..98).collect::<Vec<_>>(), "{call:?} {n}");
        }
    }
    assert!(failures >= 5, "{failures}");
}
