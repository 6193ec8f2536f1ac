//! What the log promises while the disk does its duty, and at its limits.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::super::bodies::BodyFile;
use super::super::faulty::Call;
use super::super::{AppendError, Purpose, ReadError, RealDisk, segment};
use super::*;

#[tokio::test]
async fn what_was_appended_is_read_and_replayed_in_order() {
    let disk = FaultyDisk::new(1);
    let (log, seen, report) = open(&disk);
    assert!(seen.is_empty());
    assert_eq!(RecoveryReport { time: Duration::ZERO, ..report }, RecoveryReport::default());
    let mut expected = Vec::new();
    for n in 0..200 {
        let group = vec![accepted(2 * n, 300), accepted(2 * n + 1, 0)];
        let appended = log.append(Purpose::Intake, group).await.unwrap();
        assert_eq!(appended.positions.len(), 2);
        for (n, position) in [2 * n, 2 * n + 1].into_iter().zip(appended.positions) {
            let stored = log.read(position).await.unwrap();
            assert_eq!((stored.kind, stored.key), (ACCEPTED, key(n)));
            assert_eq!(stored.payload, payload(n));
            assert_eq!(stored.body, Some(body(n, if n % 2 == 0 { 300 } else { 0 })));
            expected.push((n, position));
        }
    }
    let stats = log.stats();
    assert_eq!((stats.batches, stats.groups, stats.records, stats.live_records), (200, 200, 400, 400));
    assert!(stats.segments > 5, "roll-over happened: {stats:?}");
    assert_eq!(stats.sync_time_counts.iter().sum::<u64>(), 200);
    log.shutdown().await;
    assert!(matches!(log.append(Purpose::Upkeep, vec![accepted(9, 9)]).await, Err(AppendError::Closed)));
    assert_eq!(log.read(expected[0].1).await.unwrap().key, key(0));
    drop(log);

    disk.cut_power();
    let (log, seen, report) = open(&disk);
    assert_eq!(seen.iter().map(|r| (number(r.key), r.position)).collect::<Vec<_>>(), expected);
    assert!(seen.iter().all(|r| r.payload == payload(number(r.key)) && r.live && r.body_bytes.is_some()));
    assert_eq!((report.records, report.torn_bytes, report.damage.len()), (400, 0, 0));
    assert_eq!(log.stats().live_records, 400);
    for (n, position) in expected {
        assert_eq!(log.read(position).await.unwrap().payload, payload(n));
    }
}

#[test]
fn a_second_process_is_refused_and_the_real_disk_serves() {
    let dir = tempfile::tempdir().unwrap();
    let open = |seen: &mut Vec<RecoveredRecord>| {
        let visit = &mut |found| seen.extend(record(found));
        Log::open(&dir.path().join("spool"), small(), Arc::new(RealDisk), SystemClock::shared(), visit)
    };
    runtime().block_on(async {
        let (log, _) = open(&mut Vec::new()).unwrap();
        let refused = open(&mut Vec::new()).unwrap_err();
        assert!(matches!(refused, OpenError::InUse(_)));
        assert!(refused.to_string().contains("in use by another process"), "{refused}");
        for n in 0..100 {
            log.append(Purpose::Upkeep, vec![accepted(n, 1000), accepted(1000 + n, 5000)]).await.unwrap();
        }
        log.shutdown().await;
        drop(log);
        let mut seen = Vec::new();
        let (log, report) = open(&mut seen).unwrap();
        assert_eq!(report.records, 200);
        for record in &seen {
            let stored = log.read(record.position).await.unwrap();
            let bytes = if number(record.key) < 1000 { 1000 } else { 5000 };
            assert_eq!(stored.body, Some(body(number(record.key), bytes)));
            log.release(record.position);
        }
        // The one of the last batch stays.
        until(|| log.stats().segments == 1).await;
        let left = || std::fs::read_dir(dir.path().join("spool/bodies")).unwrap().count();
        until(|| left() == 0).await;
    });
}

#[test]
fn concurrent_submitters_share_syncs() {
    let disk = FaultyDisk::new(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (log, ..) = open_with(&disk, Options { reserve_bytes: 0, ..Options::default() }).unwrap();
        // Hold the committer in its first answer until all others have submitted.
        let (let_go, held) = std::sync::mpsc::sync_channel::<()>(0);
        log.append_then(Purpose::Upkeep, vec![accepted(0, 10)], Box::new(move |_| held.recv().unwrap())).unwrap();
        until(|| log.stats().batches == 1 && log.spare_is_ready()).await;
        let before = disk.count(Call::Write);
        let writers: Vec<_> = (1..=64)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move { log.append(Purpose::Intake, vec![accepted(n, 4096)]).await })
            })
            .collect();
        until(|| log.waiting() == 64).await;
        let_go.send(()).unwrap();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(disk.count(Call::Write) - before, 1, "64 groups, one write and one sync");
        assert_eq!((log.stats().batches, log.stats().groups), (2, 65));
    });
}

#[tokio::test]
async fn a_settled_message_never_comes_back() {
    // The acceptance of 0 stays live in the first segment, next to that of 1, which ends at once.
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let first = log.append(Purpose::Intake, vec![accepted(0, 100), accepted(1, 100)]).await.unwrap().positions;
    // Fill the first segment, so that the settlement lies in a later one.
    let mut filler = 10;
    let mut fill = async |until_segment: u64| loop {
        let at = log.append(Purpose::Intake, vec![accepted(filler, 1500)]).await.unwrap().positions[0];
        filler += 1;
        log.release(at);
        if at.segment >= until_segment {
            return at.segment;
        }
    };
    let second = fill(first[0].segment + 1).await;
    let end = log.append(Purpose::Upkeep, vec![ended(1, first[1])]).await.unwrap().positions[0];
    assert_eq!(end.segment, second);
    log.release(first[1]);
    let third = fill(second + 1).await;
    fill(third + 1).await;
    // The third goes, the second holds nothing live but must stay with the first.
    until(|| disk.contents(&segment_path(third)).is_empty()).await;
    assert!(!disk.contents(&segment_path(second)).is_empty());
    log.shutdown().await;
    drop(log);
    disk.cut_power();
    let (log, seen, _) = open(&disk);
    let kinds: Vec<_> = seen.iter().filter(|r| number(r.key) < 10).map(|r| (number(r.key), r.kind)).collect();
    assert_eq!(kinds, [(0, ACCEPTED), (1, ACCEPTED), (1, ENDED)]);
    // And goes after it. The segment of the last batch stays.
    seen.iter().for_each(|r| log.release(r.position));
    until(|| log.stats().segments == 1).await;
    log.shutdown().await;
    drop(log);
    assert!(open(&disk).1.iter().all(|r| number(r.key) >= 10));
}

fn segment_path(number: u64) -> PathBuf {
    segment::path(&Path::new(DIR).join("segments"), number)
}

#[tokio::test]
async fn leftovers_can_be_moved_so_that_one_old_message_pins_nothing() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut old = log.append(Purpose::Intake, vec![accepted(0, 100)]).await.unwrap().positions[0];
    for n in 1..500 {
        let at = log.append(Purpose::Intake, vec![accepted(n, 1500)]).await.unwrap().positions[0];
        log.append(Purpose::Upkeep, vec![ended(n, at)]).await.unwrap();
        log.release(at);
        for leftover in log.leftovers(8) {
            for position in leftover.live {
                let stored = log.read(position).await.unwrap();
                assert_eq!(stored.key, key(0));
                let moved = Record {
                    kind: stored.kind,
                    key: stored.key,
                    about: Some(position),
                    payload: stored.payload,
                    body: stored.body,
                    live: true,
                };
                old = log.append(Purpose::Upkeep, vec![moved]).await.unwrap().positions[0];
                log.release(position);
            }
        }
    }
    until(|| log.stats().segments <= 3).await;
    assert_eq!(log.read(old).await.unwrap().body, Some(body(0, 100)));
}

#[tokio::test]
async fn large_bodies_lie_in_files_of_their_own() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let bodies = Path::new(DIR).join("bodies");
    let files = || disk.list(&bodies).unwrap();
    let at = log.append(Purpose::Intake, vec![accepted(1, 2049), accepted(2, 100_000)]).await.unwrap().positions;
    let inline = log.append(Purpose::Intake, vec![accepted(3, 2048)]).await.unwrap().positions[0];
    assert_eq!(files().len(), 2);
    assert!(at[1].length < 100);
    assert_eq!(log.stats().live_bytes, 2049 + 100_000 + u64::from(at[0].length + at[1].length + inline.length));
    log.shutdown().await;
    drop(log);
    disk.cut_power();

    // A file that nobody speaks of goes, what is not ours stays.
    disk.put(&BodyFile { key: key(7), number: 7 }.path(&bodies), b"orphan");
    disk.put(&bodies.join("README"), b"left alone");
    let (log, seen, report) = open(&disk);
    assert_eq!(report.orphans, 1);
    assert_eq!(files().len(), 3);
    assert_eq!(seen[1].body_bytes, Some(100_000));
    assert_eq!(log.read(at[1]).await.unwrap().body, Some(body(2, 100_000)));
    log.release(at[1]);
    until(|| files().len() == 2).await;
    assert!(matches!(log.read(at[1]).await, Err(ReadError::Corrupt | ReadError::Gone)));
    // A body that cannot be written fails its group and nothing else.
    disk.fail(Call::Sync, 1, ErrorKind::Other);
    assert!(matches!(log.append(Purpose::Intake, vec![accepted(4, 5000)]).await, Err(AppendError::Body)));
    log.append(Purpose::Intake, vec![accepted(4, 5000)]).await.unwrap();
    // A note keeps its body with it.
    let mut note = ended(1, at[0]);
    note.body = Some(body(1, 3000));
    let note = log.append(Purpose::Upkeep, vec![note]).await.unwrap().positions[0];
    assert_eq!(log.read(note).await.unwrap().body, Some(body(1, 3000)));
    assert_eq!(files().len(), 3);
}

#[tokio::test]
async fn a_failed_sync_poisons_the_log() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    log.append(Purpose::Intake, vec![accepted(1, 10)]).await.unwrap();
    until(|| log.spare_is_ready()).await;
    let poisoned = log.poisoned();
    assert!(!*poisoned.borrow());
    disk.fail(Call::Sync, 1, ErrorKind::Other);
    let syncs = disk.count(Call::Sync);
    assert_eq!(log.append(Purpose::Intake, vec![accepted(2, 10)]).await.unwrap_err(), AppendError::Poisoned);
    assert!(*poisoned.borrow());
    assert_eq!(log.append(Purpose::Upkeep, vec![accepted(3, 10)]).await.unwrap_err(), AppendError::Poisoned);
    let refused = log.append_then(Purpose::Upkeep, vec![accepted(3, 10)], Box::new(|_| panic!("never called")));
    assert_eq!(refused.unwrap_err(), AppendError::Poisoned);
    assert_eq!(disk.count(Call::Sync), syncs + 1, "nothing is tried again");
    log.shutdown().await;
}

#[tokio::test]
async fn a_failed_write_poisons_but_want_of_space_does_not() {
    let disk = FaultyDisk::new(2);
    let (log, ..) = open(&disk);
    log.append(Purpose::Intake, vec![accepted(1, 10)]).await.unwrap();
    until(|| log.spare_is_ready()).await;
    for n in 0..5 {
        disk.fail(Call::Write, 1, ErrorKind::StorageFull);
        let full = log.append(Purpose::Intake, vec![accepted(100 + n, 1000)]).await;
        assert_eq!(full.unwrap_err(), AppendError::Full);
        log.append(Purpose::Intake, vec![accepted(2 + n, 10)]).await.unwrap();
    }
    disk.fail(Call::Write, 1, ErrorKind::Other);
    assert_eq!(log.append(Purpose::Intake, vec![accepted(9, 10)]).await.unwrap_err(), AppendError::Poisoned);
    log.shutdown().await;
    drop(log);
    disk.cut_power();
    let (_, seen, report) = open(&disk);
    assert_eq!(seen.iter().map(|r| number(r.key)).filter(|n| *n != 9).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(report.damage.is_empty());
}

#[tokio::test]
async fn no_space_for_a_new_segment_refuses_until_there_is_some() {
    let disk = FaultyDisk::new(2);
    let (log, ..) = open(&disk);
    until(|| log.spare_is_ready()).await;
    for n in 1..=50 {
        disk.fail(Call::Create, n, ErrorKind::StorageFull);
    }
    let mut taken = Vec::new();
    let refused = loop {
        match log.append(Purpose::Intake, vec![accepted(taken.len() as u64, 1500)]).await {
            Ok(appended) => taken.push(appended.positions[0]),
            Err(e) => break e,
        }
    };
    assert_eq!(refused, AppendError::Full);
    assert!(taken.len() > 5);
    // Later there is space again.
    let mut tries = 0;
    while log.append(Purpose::Intake, vec![accepted(99, 1500)]).await.is_err() {
        tries += 1;
        assert!(tries < 60);
    }
    for position in taken {
        log.read(position).await.unwrap();
    }
}

#[tokio::test]
async fn below_the_reserve_intake_is_refused_and_upkeep_goes_on() {
    let disk = FaultyDisk::new(1);
    disk.set_available(1023);
    let (log, ..) = open(&disk);
    assert!(!log.has_space());
    assert_eq!(log.append(Purpose::Intake, vec![accepted(1, 10)]).await.unwrap_err(), AppendError::Full);
    let at = log.append(Purpose::Upkeep, vec![accepted(1, 10)]).await.unwrap().positions[0];
    log.release(at);
    disk.set_available(1024);
    log.look_for_space();
    until(|| log.has_space()).await;
    log.append(Purpose::Intake, vec![accepted(2, 10)]).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_bounded_and_upkeep_has_its_own_door() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(0);
    log.append_then(Purpose::Upkeep, vec![accepted(0, 10)], Box::new(move |_| held.recv().unwrap())).unwrap();
    let mut waiting = 0;
    let answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
    loop {
        let answered = answered.clone();
        let done = Box::new(move |result: Result<_, _>| {
            result.unwrap();
            answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        match log.append_then(Purpose::Intake, vec![accepted(waiting, 1000)], done) {
            Ok(()) => waiting += 1,
            Err(e) => {
                assert_eq!(e, AppendError::Busy);
                break;
            }
        }
    }
    assert!((40..64).contains(&waiting), "64 KiB of groups of a good kilobyte each: {waiting}");
    // `append` waits for room instead, and upkeep still has some.
    let mut late = Box::pin(log.append(Purpose::Intake, vec![accepted(500, 1000)]));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
    assert!(polled);
    log.append_then(Purpose::Upkeep, vec![accepted(501, 1000)], Box::new(|_| ())).unwrap();
    let_go.send(()).unwrap();
    late.await.unwrap();
    assert_eq!(answered.load(std::sync::atomic::Ordering::SeqCst), waiting);
}

#[tokio::test]
async fn groups_are_bounded_and_an_empty_one_is_fine() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut large = accepted(1, 0);
    large.payload = vec![1; 8 * 1024 - 32 - 56 + 1].into();
    assert_eq!(log.append(Purpose::Intake, vec![large.clone()]).await.unwrap_err(), AppendError::TooLarge);
    large.payload = large.payload.slice(1..);
    log.append(Purpose::Intake, vec![large]).await.unwrap();
    assert!(log.append(Purpose::Intake, vec![]).await.unwrap().positions.is_empty());
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let disk = FaultyDisk::new(1);
    for (options, word) in [
        (Options { alignment: 100, ..small() }, "alignment"),
        (Options { alignment: u32::MAX, ..small() }, "alignment"),
        (Options { alignment: 0, ..small() }, "alignment"),
        (Options { segment_bytes: 100, ..small() }, "segment_bytes"),
        (Options { batch_bytes_max: 16 * 1024, ..small() }, "room for a batch"),
        (Options { inline_body_bytes_max: 8 * 1024, ..small() }, "inline_body_bytes_max"),
        (Options { queue_bytes_max: 1, ..small() }, "queue_bytes_max"),
        (Options { body_writers: 0, ..small() }, "body_writers"),
        (Options { leftover_percent: 0, ..small() }, "leftover_percent"),
    ] {
        let error = open_with(&disk, options).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    Options::default().check().unwrap();
}

#[tokio::test]
async fn dropping_the_last_clone_writes_what_was_taken_and_frees_the_directory() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    for n in 0..20 {
        log.append_then(Purpose::Upkeep, vec![accepted(n, 10)], Box::new(|_| ())).unwrap();
    }
    drop(log);
    let mut again = None;
    until(|| {
        again = open_with(&disk, small()).ok();
        again.is_some()
    })
    .await;
    assert_eq!(again.unwrap().1.len(), 20);
}
