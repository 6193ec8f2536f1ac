//! Sidecars: what a start takes from them, what it reads in spite of them, and what is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::faulty::Call;
use super::super::{Mark, Purpose, ReadError, SegmentInfo, Sidecar, SidecarError, sidecars};
use super::*;

fn segments_dir() -> PathBuf {
    Path::new(DIR).join("segments")
}

fn side_path(segment: u64) -> PathBuf {
    sidecars::path(&segments_dir(), segment)
}

fn brief(segment: u64) -> Bytes {
    Bytes::from(format!("brief of {segment}"))
}

fn state(segment: u64) -> Bytes {
    Bytes::from(format!("state of {segment}").repeat(20))
}

fn sidecar(segment: u64, covers: Mark, live: Vec<Position>) -> Sidecar {
    Sidecar { segment, covers, live, brief: brief(segment), state: state(segment) }
}

/// Where the records of a log lie, by their numbers.
type Places = BTreeMap<u64, Position>;

async fn fill(log: &Log, places: &mut Places, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let body_bytes = if n % 10 == 0 { 3000 } else { 1500 };
        let at = log.append(Purpose::Intake, vec![accepted(n, body_bytes)]).await.unwrap().positions[0];
        places.insert(n, at);
    }
}

fn sealed(log: &Log) -> Vec<SegmentInfo> {
    log.segments().into_iter().filter(|s| s.sealed).collect()
}

fn live_in(places: &Places, segment: u64) -> Vec<Position> {
    places.values().copied().filter(|p| p.segment == segment).collect()
}

fn cover_all(log: &Log, places: &Places) {
    for info in sealed(log) {
        let covers = log.applied();
        log.write_sidecar(sidecar(info.segment, covers, live_in(places, info.segment))).unwrap();
    }
}

/// What a start hands out: sidecars and records.
fn reopen(disk: &Arc<FaultyDisk>) -> (Log, Vec<(u64, Mark)>, Vec<RecoveredRecord>, RecoveryReport) {
    let (mut sides, mut records) = (Vec::new(), Vec::new());
    let visit = &mut |found| match found {
        Recovered::Sidecar { segment, covers, brief: found } => {
            assert!(records.is_empty(), "sidecars come first");
            assert_eq!(found, brief(segment));
            sides.push((segment, covers));
        }
        Recovered::Record(record) => records.push(record),
    };
    let own: Arc<dyn Disk> = disk.clone();
    let (log, report) = Log::open(Path::new(DIR), small(), own, SystemClock::shared(), visit).unwrap();
    (log, sides, records, report)
}

async fn closed(log: Log) {
    log.shutdown().await;
    drop(log);
}

#[tokio::test]
async fn a_start_takes_what_lives_from_sidecars_and_reads_only_the_tail() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut places = Places::new();
    fill(&log, &mut places, 0..100).await;
    for n in (0..100).filter(|n| n % 3 == 0) {
        let at = places.remove(&n).unwrap();
        log.append(Purpose::Upkeep, vec![ended(n, at)]).await.unwrap();
        log.release(at);
    }
    cover_all(&log, &places);
    let (before, stats) = (log.segments(), log.stats());
    let ends = before.iter().filter(|s| s.sealed).map(|s| (s.segment, s.covers.unwrap())).collect::<Vec<_>>();
    assert!(ends.len() > 5);
    fill(&log, &mut places, 100..103).await;
    closed(log).await;
    disk.cut_power();

    let (log, sides, records, report) = reopen(&disk);
    assert_eq!(sides, ends);
    let tail_from = ends.iter().map(|(_, covers)| *covers).min().unwrap();
    let unsealed = before.iter().find(|s| !s.sealed).unwrap();
    assert_eq!(report.tail_from, Some(Mark { segment: unsealed.segment, offset: 0 }).min(Some(tail_from)));
    assert_eq!((report.sidecars, report.without_sidecar, report.sidecars_refused), (ends.len() as u64, 1, 0));
    assert!(records.iter().all(|r| !r.covered && r.position.mark() >= report.tail_from.unwrap()));
    assert_eq!(records.iter().map(|r| number(r.key)).filter(|n| *n >= 100).collect::<Vec<_>>(), [100, 101, 102]);
    assert!(report.bytes_read < stats.segment_bytes, "{} of {}", report.bytes_read, stats.segment_bytes);
    // The cut may have undone the removal of bodies that had been released.
    assert!(report.orphans <= 4 && report.damage.is_empty(), "{report:?}");
    let infos = |of: &[SegmentInfo]| of.iter().map(|s| (s.segment, s.end, s.live_records)).collect::<Vec<_>>();
    assert_eq!(infos(&log.segments())[..ends.len()], infos(&before)[..ends.len()]);
    for (n, at) in &places {
        let body_bytes = if n % 10 == 0 { 3000 } else { 1500 };
        assert_eq!(log.read(*at).await.unwrap().body, Some(body(*n, body_bytes)));
    }
    for (segment, _) in sides {
        assert_eq!(log.sidecar_state(segment).unwrap(), state(segment));
    }
    // And everything can still end; the segment of the last batch stays.
    places.values().for_each(|at| log.release(*at));
    until(|| log.stats().segments == 1).await;
    assert!(matches!(log.sidecar_state(ends[0].0), Err(ReadError::Gone)));
    closed(log).await;
    assert!(disk.list(&segments_dir()).unwrap().iter().all(|name| !name.ends_with(".side")));
    assert!(disk.list(&Path::new(DIR).join("bodies")).unwrap().is_empty());
}

#[tokio::test]
async fn where_one_segment_is_not_covered_reading_begins_there_and_says_what_is_covered() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut places = Places::new();
    fill(&log, &mut places, 0..60).await;
    cover_all(&log, &places);
    // A record that the sidecar of its segment does not name.
    let second = sealed(&log)[1].segment;
    let covered = sealed(&log).len() as u64;
    let mut named = live_in(&places, second);
    let gone = named.pop().unwrap();
    log.write_sidecar(sidecar(second, log.applied(), named)).unwrap();
    closed(log).await;
    let path = side_path(sealed_first(&disk));
    let mut bytes = disk.contents(&path);
    bytes[200] ^= 1;
    disk.put(&path, &bytes);

    let (log, sides, records, report) = reopen(&disk);
    assert_eq!((sides.len() as u64, report.sidecars_refused), (covered - 1, 1));
    assert_eq!(report.tail_from, Some(Mark { segment: sealed_first(&disk), offset: 0 }));
    assert_eq!(records.iter().map(|r| number(r.key)).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    let covered: Vec<u64> = sides.iter().map(|(segment, _)| *segment).collect();
    for record in &records {
        assert_eq!(record.covered, covered.contains(&record.position.segment));
        assert_eq!(record.live, record.position != gone);
    }
    assert_eq!(log.stats().live_records, 59);
    assert!(disk.contents(&path).is_empty(), "what cannot be used is removed");
}

fn sealed_first(disk: &FaultyDisk) -> u64 {
    let names = disk.list(&segments_dir()).unwrap();
    names.iter().filter_map(|name| super::super::segment::number_of(name)).min().unwrap()
}

#[tokio::test]
async fn any_flipped_bit_makes_a_sidecar_unused_and_nothing_wrong() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut places = Places::new();
    fill(&log, &mut places, 0..30).await;
    let first = sealed(&log)[0].segment;
    log.write_sidecar(sidecar(first, log.applied(), live_in(&places, first))).unwrap();
    closed(log).await;
    let path = side_path(first);
    let whole = disk.contents(&path);
    for at in 0..whole.len() {
        let disk = disk.fork();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.put(&path, &bytes);
        let (_, sides, records, report) = reopen(&disk);
        assert_eq!((sides.len(), records.len(), report.sidecars_refused), (0, 30, 1), "byte {at}");
        assert!(report.damage.is_empty(), "byte {at}");
    }
    for length in [0, 1, 127, 128, whole.len() - 1] {
        let disk = disk.fork();
        disk.put(&path, &whole[..length]);
        assert_eq!(reopen(&disk).1.len(), 0, "cut to {length}");
    }
    assert_eq!(reopen(&disk).1.len(), 1);
}

#[tokio::test]
async fn what_is_not_true_is_refused() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut places = Places::new();
    fill(&log, &mut places, 0..60).await;
    let (first, second) = (sealed(&log)[0], sealed(&log)[1]);
    let (live, covers) = (live_in(&places, first.segment), log.applied());
    let refused = |sidecar| log.write_sidecar(sidecar).unwrap_err();
    let current = log.segments().pop().unwrap().segment;
    assert!(matches!(refused(sidecar(current, covers, Vec::new())), SidecarError::Open));
    assert!(matches!(refused(sidecar(99, covers, Vec::new())), SidecarError::Gone));
    // Not live, never was, of another length, of another segment.
    let stray = [
        Position { offset: live[0].offset + 1, ..live[0] },
        Position { length: live[0].length + 1, ..live[0] },
        live_in(&places, second.segment)[0],
    ];
    for position in stray {
        let mut live = live.clone();
        live.push(position);
        let error = refused(sidecar(first.segment, covers, live));
        assert!(matches!(error, SidecarError::Unknown(at) if at == position), "{error}");
    }
    let early = Mark { offset: first.end.offset - 1, ..first.end };
    assert!(matches!(refused(sidecar(first.segment, early, live.clone())), SidecarError::Covers));
    let beyond = Mark { offset: covers.offset + 1, ..covers };
    assert!(matches!(refused(sidecar(first.segment, beyond, live.clone())), SidecarError::Covers));
    // What has not been applied is not covered.
    let appended = log.append(Purpose::Intake, vec![accepted(77, 9)]).await.unwrap();
    let end = log.segments().pop().unwrap().end;
    assert!(log.applied() < end && log.applied() <= appended.positions[0].mark());
    assert!(matches!(refused(sidecar(first.segment, end, live.clone())), SidecarError::Covers));
    drop(appended);
    assert_eq!(log.applied(), end);
    // Released since it was asked for: quietly left out.
    log.release(live[0]);
    log.write_sidecar(sidecar(first.segment, end, live.clone())).unwrap();
    assert!(matches!(refused(sidecar(first.segment, covers, live.clone())), SidecarError::Covers), "less than before");
    assert!(matches!(
        log.confirm_sidecars(&[first.segment], Mark { segment: 99, offset: 0 }),
        Err(SidecarError::Covers)
    ));
    closed(log).await;
    let (log, sides, ..) = reopen(&disk);
    assert_eq!(sides, [(first.segment, end)]);
    assert_eq!(log.segments()[0].live_records as usize, live.len() - 1);
}

#[tokio::test]
async fn confirmed_sidecars_cover_more_and_a_rewritten_one_what_it_says() {
    let disk = FaultyDisk::new(1);
    let (log, ..) = open(&disk);
    let mut places = Places::new();
    fill(&log, &mut places, 0..60).await;
    cover_all(&log, &places);
    let segments: Vec<u64> = sealed(&log).iter().map(|s| s.segment).collect();
    let early = log.applied();
    fill(&log, &mut places, 60..70).await;
    let late = log.applied();
    log.confirm_sidecars(&segments[1..], late).unwrap();
    log.confirm_sidecars(&[98, 99], late).unwrap();
    let covers = |log: &Log| {
        let infos = log.segments();
        segments.iter().map(|n| infos.iter().find(|s| s.segment == *n).unwrap().covers).collect::<Vec<_>>()
    };
    assert_eq!(covers(&log)[..2], [Some(early), Some(late)]);
    closed(log).await;
    disk.cut_power();
    let (log, sides, ..) = reopen(&disk);
    assert_eq!(sides[0], (segments[0], early));
    assert!(sides[1..].iter().all(|(_, covers)| *covers == late));
    // The file of confirmations names sidecars, not segments: it says nothing of their successors.
    let end = log.applied();
    log.write_sidecar(sidecar(segments[1], end, live_in(&places, segments[1]))).unwrap();
    assert_eq!(covers(&log)[..3], [Some(early), Some(end), Some(late)]);
    closed(log).await;
    disk.put(&segments_dir().join("covers"), b"nonsense");
    let (log, sides, ..) = reopen(&disk);
    assert_eq!(sides[..3].iter().map(|(_, covers)| *covers).collect::<Vec<_>>(), [early, end, early]);
    // What is written from here on is behind everything that is covered, even where a segment's number would say otherwise.
    let at = log.append(Purpose::Intake, vec![accepted(500, 9)]).await.unwrap().positions[0];
    assert!(at.mark() >= end);
}

/// Writing, confirming and removing, interrupted at every call.
#[test]
fn the_power_may_go_at_any_step() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..4 {
        for cut in 1.. {
            let disk = FaultyDisk::new(seed);
            let done = runtime().block_on(interrupted(&disk, cut));
            disk.cut_power();
            let (log, sides, records, report) = reopen(&disk);
            assert!(report.damage.is_empty() && report.sidecars_refused == 0, "seed {seed} cut {cut}: {report:?}");
            let seen: std::collections::BTreeSet<u64> =
                records.iter().filter(|r| r.live).map(|r| number(r.key)).collect();
            let covered = |n: &u64| sides.iter().any(|(segment, _)| done.places[n].segment == *segment);
            for n in done.places.keys() {
                assert!(seen.contains(n) || covered(n) || done.removing, "seed {seed} cut {cut}: {n} is lost");
            }
            for (segment, _) in &sides {
                assert_eq!(log.sidecar_state(*segment).unwrap(), state(*segment));
            }
            let names = disk.list(&segments_dir()).unwrap();
            let left = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
            assert_eq!((left(".new"), left(".side")), (0, sides.len()), "{names:?}");
            outcomes.insert((sides.len(), report.segments));
            if done.completed {
                break;
            }
        }
    }
    assert!(outcomes.len() > 5, "{outcomes:?}");
}

struct Interrupted {
    places: Places,
    /// Records are being released, so that any may be gone.
    removing: bool,
    completed: bool,
}

async fn interrupted(disk: &Arc<FaultyDisk>, cut: u64) -> Interrupted {
    let (log, ..) = open(disk);
    let mut done = Interrupted { places: Places::new(), removing: false, completed: false };
    fill(&log, &mut done.places, 0..40).await;
    until(|| log.spare_is_ready()).await;
    disk.cut_power_at(cut);
    let segments: Vec<u64> = sealed(&log).iter().map(|s| s.segment).collect();
    let work = || -> Result<(), SidecarError> {
        for &segment in segments.iter().chain(&segments[..1]) {
            log.write_sidecar(sidecar(segment, log.applied(), live_in(&done.places, segment)))?;
        }
        log.confirm_sidecars(&segments, log.applied())
    };
    if work().is_ok() {
        done.removing = true;
        for at in done.places.values().filter(|p| segments[..2].contains(&p.segment)) {
            log.release(*at);
        }
        let before = disk.count(Call::Remove);
        log.look_for_space();
        log.shutdown().await;
        let sides = disk.list(&segments_dir()).unwrap().iter().filter(|name| name.ends_with(".side")).count();
        done.completed = sides == segments.len() - 2 && disk.count(Call::Remove) > before;
    }
    log.shutdown().await;
    done
}
