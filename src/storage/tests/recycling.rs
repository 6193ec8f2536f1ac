//! Segments used again, and what happens when space runs out.

use std::path::PathBuf;

use super::super::batch::Frame;
use super::super::faulty::Call;
use super::super::record::{Encoded, Salt};
use super::super::segment::{self, Fresh, Header, Reading};
use super::super::{AppendError, Purpose};
use super::*;

fn segments_dir() -> PathBuf {
    Path::new(DIR).join("segments")
}

fn laid_aside(disk: &FaultyDisk) -> usize {
    disk.list(&segments_dir()).unwrap().iter().filter(|name| segment::is_old(name)).count()
}

fn recycled(disk: &FaultyDisk) -> Vec<u64> {
    let names = disk.list(&segments_dir()).unwrap();
    let numbers = names.iter().filter_map(|name| segment::number_of(name));
    let is_recycled = |n: &u64| match Header::read(&disk.contents(&segment::path(&segments_dir(), *n)), *n) {
        Reading::Header(header) => header.recycled,
        other => panic!("{n}: {other:?}"),
    };
    numbers.filter(is_recycled).collect()
}

#[tokio::test]
async fn dead_segments_are_written_anew_and_nothing_of_their_earlier_life_is_found() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut kept = Vec::new();
    for n in 0..400 {
        let at = log.append(Purpose::Intake, vec![accepted(n, 1500)]).await.unwrap().positions[0];
        if n % 100 == 99 {
            kept.push((n, at));
        } else {
            log.release(at);
        }
        // Slowly enough for the janitor, so that it is not made of fresh ones only.
        until(|| log.spare_is_ready()).await;
    }
    assert!(recycled(&disk).len() > 3, "{:?}", recycled(&disk));
    assert!(disk.count(Call::Rename) > 10);
    for (n, at) in &kept {
        assert_eq!(log.read(*at).await.unwrap().body, Some(body(*n, 1500)));
    }
    log.shutdown().await;
    drop(log);
    disk.cut_power();
    let (log, seen, report) = open(&disk);
    assert_eq!((report.torn_bytes, report.damage.len()), (0, 0), "{report:?}");
    let live: Vec<(u64, Position)> = seen.iter().map(|r| (number(r.key), r.position)).collect();
    assert!(kept.iter().all(|found| live.contains(found)));
    // What was released may still be there, in its own segment; but nothing twice, and everything right.
    for record in &seen {
        assert_eq!(log.read(record.position).await.unwrap().body, Some(body(number(record.key), 1500)));
    }
    assert_eq!(laid_aside(&disk), 0, "what was laid aside before a start is removed");
}

const ALIGNMENT: u32 = 64;

/// A segment whose first life was full of batches, and whose second has `batches` of two records, numbers from `first` on.
/// Returns its bytes and where each batch lies.
fn second_life(number: u64, first: u64, batches: u64) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let disk = FaultyDisk::new(1);
    let dir = Path::new("made");
    let header = Header { number: 77, salt: 111, alignment: ALIGNMENT, recycled: false };
    let fresh = Fresh::create(&*disk, dir, header, 8 * 1024).unwrap();
    let write = |fresh: &Fresh, from: u64, batches: u64, key: u64| {
        let salt = Salt::new(fresh.header.salt);
        let mut at = fresh.header.data_offset();
        let mut places = Vec::new();
        for n in 0..batches {
            at = at.next_multiple_of(ALIGNMENT);
            let mut frame = Frame::new(&salt, from + n, at, 0);
            for record in 0..2 {
                frame.push(&Encoded::new(accepted(key + 2 * n + record, 100), None));
            }
            fresh.file.write_at(&mut frame.parts(), u64::from(at)).unwrap();
            places.push(at as usize..(at + frame.bytes()) as usize);
            at += frame.bytes();
        }
        places
    };
    // The same numbers, so that only the salt tells the lives apart.
    write(&fresh, first, 12, 1000);
    let old = segment::lay_aside(&*disk, dir, 77).unwrap();
    let header = Header { number, salt: 222 + number, alignment: ALIGNMENT, recycled: false };
    let again = Fresh::recycle(&*disk, dir, &old, header, 8 * 1024).unwrap();
    let places = write(&again, first, batches, 2 * first);
    (disk.contents(&segment::path(dir, number)), places)
}

fn numbers(seen: &[RecoveredRecord]) -> Vec<u64> {
    seen.iter().map(|r| number(r.key)).collect()
}

#[test]
fn wherever_the_last_batch_is_torn_what_lies_behind_is_no_record_and_no_damage() {
    let (whole, places) = second_life(1, 1, 4);
    let (before, _) = second_life(1, 1, 3);
    let last = places.last().unwrap().clone();
    for cut in last.clone() {
        let disk = FaultyDisk::new(2);
        let torn = [&whole[..cut], &before[cut..]].concat();
        disk.put(&segment::path(&segments_dir(), 1), &torn);
        let (log, seen, report) = open(&disk);
        assert_eq!(numbers(&seen), [2, 3, 4, 5, 6, 7], "cut at {cut}");
        assert!(report.damage.is_empty(), "cut at {cut}: {report:?}");
        // Behind the third batch, or an empty one where the fourth was.
        let end = log.segments()[0].end.offset as usize;
        assert!([places[2].end, last.start + 32].contains(&end), "cut at {cut}: {end}");
    }
    let disk = FaultyDisk::new(2);
    disk.put(&segment::path(&segments_dir(), 1), &whole);
    assert_eq!(numbers(&open(&disk).1), (2..10).collect::<Vec<_>>());
    // Made and never used: removed, whatever lies in it.
    let disk = FaultyDisk::new(2);
    disk.put(&segment::path(&segments_dir(), 1), &second_life(1, 1, 0).0);
    let (_, seen, report) = open(&disk);
    assert_eq!((seen.len(), report.segments, report.damage.len()), (0, 0, 0));
}

#[test]
fn damage_in_a_recycled_segment_is_told_from_what_was_left_of_its_earlier_life() {
    let (first, places) = second_life(1, 1, 4);
    let (second, _) = second_life(2, 5, 2);
    let with = |bytes: &[u8]| {
        let disk = FaultyDisk::new(2);
        disk.put(&segment::path(&segments_dir(), 1), bytes);
        disk.put(&segment::path(&segments_dir(), 2), &second);
        disk
    };
    let (_, seen, report) = open(&with(&first));
    assert_eq!((numbers(&seen), report.damage.len()), ((2..14).collect(), 0), "{report:?}");
    for (batch, place) in places.iter().enumerate() {
        // The batch's header is hit: its records are found all the same.
        let mut bytes = first.clone();
        bytes[place.start + 9] ^= 4;
        let (_, seen, report) = open(&with(&bytes));
        assert_eq!(numbers(&seen), (2..14).collect::<Vec<_>>(), "{batch}");
        // What lies between it and the next batch may be reported as well: how long it was is not known any more.
        assert!((1..=2).contains(&report.damage.len()), "{report:?}");
        assert!(
            report.damage[0].offset as usize == place.start && report.damage.iter().all(|d| d.length < 64),
            "{batch}"
        );
        // A record's header is hit: the other one is found.
        let mut bytes = first.clone();
        bytes[place.start + 32 + 20] ^= 4;
        let (_, seen, report) = open(&with(&bytes));
        assert_eq!(seen.len(), 11, "{batch}");
        assert!(!report.damage.is_empty());
        // It was never written: the numbers show.
        let mut bytes = first.clone();
        let (earlier, _) = second_life(1, 1, 0);
        bytes[place.clone()].copy_from_slice(&earlier[place.clone()]);
        let (_, seen, report) = open(&with(&bytes));
        assert_eq!(seen.len(), 10, "{batch}");
        assert!(report.damage.iter().any(|d| d.what.contains("missing") || d.length > 0), "{batch}: {report:?}");
    }
}

/// A disk that takes no more space, with `log` open on it.
async fn full(options: Options) -> (Arc<FaultyDisk>, Log) {
    // One that can allocate, and so can say no.
    let disk = FaultyDisk::new(3);
    let (log, ..) = open_with(&disk, options).unwrap();
    until(|| log.spare_is_ready()).await;
    disk.set_available(0);
    log.look_for_space();
    until(|| log.stats().available_bytes == 0).await;
    (disk, log)
}

#[tokio::test]
async fn intake_leaves_a_segment_to_upkeep_which_frees_others() {
    // No reserve: intake goes on until there is nothing left.
    let (disk, log) = full(Options { reserve_bytes: 0, ..small() }).await;
    let mut taken = Vec::new();
    let mut n = 0;
    let refused = loop {
        n += 1;
        match log.append(Purpose::Intake, vec![accepted(n, 1500)]).await {
            Ok(appended) => taken.push(appended.positions[0]),
            Err(e) => break e,
        }
    };
    assert_eq!(refused, AppendError::Full);
    assert_eq!(taken.last().unwrap().segment, 1, "of two segments it gets one");
    // Ends, and copies of what must move, are written all the same.
    let mut moved = Vec::new();
    for (n, at) in taken.iter().enumerate() {
        let mut record = accepted(n as u64 + 1, 1500);
        record.about = Some(*at);
        moved.push(log.append(Purpose::Upkeep, vec![record]).await.unwrap().positions[0]);
        assert_eq!(log.append(Purpose::Intake, vec![accepted(99, 1500)]).await.unwrap_err(), AppendError::Full);
    }
    assert_eq!(moved[0].segment, 2);
    // With its records gone the first segment is used again, although nothing can be allocated: upkeep never ends.
    for round in 0..5 {
        let before = disk.count(Call::Create);
        let old = std::mem::replace(&mut taken, std::mem::take(&mut moved));
        old.into_iter().for_each(|at| log.release(at));
        for (n, at) in taken.iter().enumerate() {
            let mut record = accepted(n as u64 + 1, 1500);
            record.about = Some(*at);
            let mut tries = 0;
            let at = loop {
                match log.append(Purpose::Upkeep, vec![record.clone()]).await {
                    Ok(appended) => break appended.positions[0],
                    // The janitor is on its way.
                    Err(e) => assert_eq!(e, AppendError::Full, "round {round}"),
                }
                tries += 1;
                assert!(tries < 100_000, "round {round}");
                tokio::task::yield_now().await;
            };
            moved.push(at);
        }
        assert!(disk.count(Call::Create) <= before + 200_000);
    }
    assert!(recycled(&disk).len() > 1);
    for (n, at) in moved.iter().enumerate() {
        assert_eq!(log.read(*at).await.unwrap().body, Some(body(n as u64 + 1, 1500)));
    }
}

#[tokio::test]
async fn in_a_batch_for_which_there_is_no_space_upkeep_goes_on_alone() {
    let (_disk, log) = full(Options { reserve_bytes: 0, ..small() }).await;
    while log.append(Purpose::Intake, vec![accepted(1, 1500)]).await.is_ok() {}
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(0);
    log.append_then(Purpose::Upkeep, vec![accepted(0, 10)], Box::new(move |_| held.recv().unwrap())).unwrap();
    until(|| log.waiting() == 0).await;
    let (told, answers) = std::sync::mpsc::sync_channel(4);
    for (n, purpose) in [Purpose::Intake, Purpose::Upkeep, Purpose::Intake, Purpose::Upkeep].into_iter().enumerate() {
        let told = told.clone();
        let done = Box::new(move |result: Result<_, _>| told.send((n, result.map(|_| ()))).unwrap());
        log.append_then(purpose, vec![accepted(n as u64, 1500)], done).unwrap();
    }
    let_go.send(()).unwrap();
    let mut answered = tokio::task::spawn_blocking(move || answers.iter().take(4).collect::<Vec<_>>()).await.unwrap();
    answered.sort_unstable_by_key(|(n, _)| *n);
    let full = Err(AppendError::Full);
    assert_eq!(answered, [(0, full), (1, Ok(())), (2, full), (3, Ok(()))]);
}

#[tokio::test]
async fn what_was_laid_aside_gives_way_when_space_runs_low() {
    let disk = FaultyDisk::new(3);
    let (log, ..) = open(&disk);
    let mut places = Vec::new();
    for n in 0..100 {
        places.push(log.append(Purpose::Intake, vec![accepted(n, 1500)]).await.unwrap().positions[0]);
    }
    until(|| log.spare_is_ready()).await;
    places.into_iter().for_each(|at| log.release(at));
    until(|| log.stats().segments == 1).await;
    assert_eq!(laid_aside(&disk), small().spare_segments);
    disk.set_available(0);
    log.look_for_space();
    until(|| laid_aside(&disk) == 0).await;
}

/// A directory that was written before there were sidecars and recycled segments (`tests/ondisk/format1`): twelve messages,
/// one of them with a body in a file of its own, one ended.
#[tokio::test]
async fn a_directory_of_format_1_opens() {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ondisk/format1");
    let dir = tempfile::tempdir().unwrap();
    for below in ["segments", "bodies"] {
        std::fs::create_dir(dir.path().join(below)).unwrap();
        for file in std::fs::read_dir(made.join(below)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(below).join(file.file_name())).unwrap();
        }
    }
    let mut seen = Vec::new();
    let visit = &mut |found| seen.extend(record(found));
    let disk: Arc<dyn Disk> = Arc::new(super::super::RealDisk);
    let (log, report) = Log::open(dir.path(), small(), disk, SystemClock::shared(), visit).unwrap();
    assert_eq!((report.segments, report.damage.len(), report.orphans), (2, 0, 0), "{report:?}");
    assert_eq!(numbers(&seen), (0..12).chain([3]).collect::<Vec<_>>());
    assert_eq!(seen[12].about, Some(seen[3].position));
    for record in &seen[..12] {
        let n = number(record.key);
        let stored = log.read(record.position).await.unwrap();
        assert_eq!((stored.payload, stored.body), (payload(n), Some(body(n, if n == 5 { 3000 } else { 900 }))));
    }
}
