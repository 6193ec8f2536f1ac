//! Directories that a real log wrote, whole and damaged, looked at and left as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Log, Options, Purpose, RealDisk, Record};
use super::*;
use crate::clock::SystemClock;

struct Bench {
    dir: tempfile::TempDir,
    positions: Vec<Position>,
}

fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 8 * 1024,
        queue_bytes_max: 64 * 1024,
        inline_body_bytes_max: 2 * 1024,
        reserve_bytes: 0,
        alignment: 64,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Log {
    Log::open(dir, options(), Arc::new(RealDisk), SystemClock::shared(), &mut |_| {}).unwrap().0
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn record(n: u8, body: usize) -> Record {
    Record {
        kind: 1,
        key: [n; 16],
        about: None,
        payload: format!("payload of {n}").into_bytes().into(),
        body: Some(vec![n | 1; body].into()),
        live: true,
    }
}

impl Bench {
    /// A closed log: a group of two records for each number, every tenth record with a body in a file of its own.
    fn filled(groups: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir.path().join("spool"));
        let mut positions = Vec::new();
        runtime().block_on(async {
            for n in 0..groups {
                let large = if n % 5 == 4 { 3_000 } else { 300 };
                let group = vec![record(2 * n, 200), record(2 * n + 1, large)];
                positions.extend(log.append(Purpose::Intake, group).await.unwrap().positions);
            }
            log.shutdown().await;
        });
        Self { dir, positions }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn look(&self) -> Inspection {
        Inspection::open(&self.root(), Access::Alone).unwrap()
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment::path(&self.root().join("segments"), number)
    }

    /// Changes bytes of a segment, and gives them back when that has been looked at.
    fn with(&self, number: u64, change: impl FnOnce(&mut Vec<u8>), look: impl FnOnce(&Inspection)) {
        let path = self.segment(number);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        look(&self.look());
        fs::write(&path, whole).unwrap();
    }

    /// Every file and what is in it.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.root()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

/// The first byte of every key seen, and the flaws.
fn walk(inspection: &Inspection) -> (Vec<u8>, Vec<Flaw>, Walked) {
    let (mut seen, mut flaws) = (Vec::new(), Vec::new());
    let walked = inspection.walk(&mut |item| {
        match item {
            Item::Record(record) => {
                assert_eq!(record.payload, format!("payload of {}", record.key[0]).as_bytes(), "a wrong record");
                seen.push(record.key[0]);
            }
            Item::Flaw(flaw) => flaws.push(flaw),
            Item::Segment(_) => {}
        }
        ControlFlow::Continue(())
    });
    (seen, flaws, walked.unwrap())
}

#[test]
fn everything_is_seen_in_order_and_nothing_is_changed() {
    let bench = Bench::filled(60);
    let before = bench.contents();
    let inspection = bench.look();
    let (seen, flaws, walked) = walk(&inspection);
    assert_eq!(seen, (0..120).collect::<Vec<u8>>());
    assert_eq!(flaws, []);
    assert!(walked.segments >= 2, "{walked:?}");
    assert_eq!((walked.batches, walked.torn_bytes), (60, 0));
    assert!(walked.used_bytes <= walked.file_bytes && walked.file_bytes == inspection.segment_bytes());
    let mut in_files = 0;
    for (n, position) in bench.positions.iter().enumerate() {
        let stored = inspection.read(*position).unwrap();
        let expected = record(n as u8, stored.body.as_ref().unwrap().len());
        assert_eq!((stored.payload, stored.body), (expected.payload, expected.body));
    }
    inspection
        .walk(&mut |item| {
            if let Item::Record(Seen { body: SeenBody::File(place), key, .. }) = item {
                assert_eq!(inspection.read_body(&place).unwrap(), vec![key[0] | 1; 3_000]);
                in_files += 1;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((in_files, inspection.body_files().unwrap().len()), (12, 12));
    assert_eq!(inspection.quarantine().unwrap(), []);
    drop(inspection);
    assert_eq!(bench.contents(), before);
}

#[test]
fn a_walk_ends_when_it_is_told_to() {
    let bench = Bench::filled(60);
    let mut seen = 0;
    let walk = bench.look().walk(&mut |item| {
        seen += u64::from(matches!(item, Item::Record(_)));
        if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((walk.is_ok(), seen), (true, 5));
}

#[test]
fn a_damaged_place_is_called_what_it_was() {
    let bench = Bench::filled(10);
    let at = bench.positions[4];
    let owner = Owner { kind: 1, key: [4; 16], position: at };
    let offset = at.offset as usize;
    let header = super::super::record::HEADER_BYTES;
    let payload = "payload of 4".len();
    for (place, part, lost) in [
        (
            offset + 30,
            Part::RecordHeader(Some(Owner {
                key: {
                    let mut key = [4; 16];
                    key[14] = 5;
                    key
                },
                ..owner
            })),
            true,
        ),
        (offset + 1, Part::RecordHeader(Some(owner)), true),
        (offset + header + 3, Part::Payload(owner), true),
        (offset + header + payload + 3, Part::Body(owner), false),
        (offset - batch::HEADER_BYTES + 9, Part::BatchHeader, false),
        (3, Part::HeaderCopy, false),
        (512 + 20, Part::HeaderCopy, false),
    ] {
        bench.with(
            at.segment,
            |bytes| bytes[place] ^= 1,
            |inspection| {
                let (seen, flaws, _) = walk(inspection);
                assert_eq!(flaws.iter().map(|flaw| &flaw.what).collect::<Vec<_>>(), [&part], "{place}");
                let flaw = &flaws[0];
                assert!((flaw.offset..flaw.offset + flaw.length).contains(&(place as u64)), "{place}: {flaw:?}");
                assert_eq!(seen, (0..20).filter(|n| *n != 4 || !lost).collect::<Vec<u8>>(), "{place}");
            },
        );
    }
    let both = |bytes: &mut Vec<u8>| {
        bytes[3] ^= 1;
        bytes[515] ^= 1;
    };
    bench.with(at.segment, both, |inspection| {
        let (seen, flaws, _) = walk(inspection);
        assert_eq!(flaws[0].what, Part::SegmentHeader);
        assert!(!seen.contains(&4));
    });
}

#[test]
fn a_batch_that_never_reached_the_disk_is_missed() {
    let bench = Bench::filled(10);
    let (first, next) = (bench.positions[4], bench.positions[6]);
    assert_eq!(first.segment, next.segment);
    let lose = |bytes: &mut Vec<u8>| bytes[first.offset as usize - 32..next.offset as usize - 32].fill(0);
    bench.with(first.segment, lose, |inspection| {
        let (seen, flaws, _) = walk(inspection);
        assert_eq!(flaws[0].what, Part::MissingBatches { after: 2, before: 4 });
        assert_eq!(seen.len(), 18);
    });
}

#[test]
fn cut_at_any_byte_the_end_is_torn_and_not_damaged() {
    let bench = Bench::filled(6);
    let number = bench.positions[0].segment;
    let used = bench.positions.last().unwrap();
    for cut in (1024..used.offset as usize + used.length as usize).rev().step_by(7) {
        bench.with(
            number,
            |bytes| bytes.truncate(cut),
            |inspection| {
                let (seen, flaws, walked) = walk(inspection);
                assert_eq!(seen, (0..seen.len() as u8).collect::<Vec<_>>(), "cut at {cut}");
                assert!(seen.len().is_multiple_of(2), "groups are atomic");
                assert!(flaws.iter().all(|flaw| matches!(flaw.what, Part::TornEnd(_))), "cut at {cut}: {flaws:?}");
                assert_eq!(flaws.is_empty(), walked.torn_bytes == 0);
            },
        );
    }
}

#[test]
fn it_sees_what_a_start_sees_whatever_bit_is_flipped() {
    let bench = Bench::filled(30);
    let mut random = fastrand::Rng::with_seed(11);
    let mut lost = 0;
    for round in 0..120 {
        let number = bench.positions[random.usize(..bench.positions.len())].segment;
        let path = bench.segment(number);
        let mut bytes = fs::read(&path).unwrap();
        let bit = random.usize(..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let copy = tempfile::tempdir().unwrap();
        for (path, content) in bench.contents() {
            let to = copy.path().join(path.strip_prefix(bench.root()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, content).unwrap();
        }
        fs::write(segment::path(&copy.path().join("segments"), number), &bytes).unwrap();
        let (seen, flaws, _) = walk(&Inspection::open(copy.path(), Access::Alone).unwrap());
        let log = open(copy.path());
        let kept = log.stats().live_records;
        runtime().block_on(log.shutdown());
        drop(log);
        assert_eq!(seen.len() as u64, kept, "round {round}, bit {bit} of {number}: {flaws:?}");
        lost += usize::from(seen.len() < 60);
        assert!(seen.len() == 60 || !flaws.is_empty(), "round {round}: lost in silence");
    }
    assert!(lost > 5, "{lost}");
}

#[test]
fn a_directory_in_use_is_refused_or_looked_at_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    runtime().block_on(async {
        for n in 0..40 {
            log.append(Purpose::Intake, vec![record(n, 700)]).await.unwrap();
        }
        assert!(matches!(Inspection::open(dir.path(), Access::Alone), Err(OpenError::InUse(_))));
        let beside = Inspection::open(dir.path(), Access::Beside).unwrap();
        assert!(beside.is_beside_a_relay());
        // What comes afterwards is not missed: it is none of what is looked at.
        for n in 40..80 {
            log.append(Purpose::Intake, vec![record(n, 700)]).await.unwrap();
        }
        let (seen, flaws, _) = walk(&beside);
        assert_eq!(flaws, []);
        assert!(seen.len() >= 40 && seen.is_sorted(), "{seen:?}");
        log.shutdown().await;
    });
    drop(log);
    let alone = Inspection::open(dir.path(), Access::Alone).unwrap();
    assert!(!alone.is_beside_a_relay());
    let second = Inspection::open(dir.path(), Access::Alone).unwrap();
    assert_eq!(walk(&second).0.len(), 80, "two may look");
    let refused = Log::open(dir.path(), options(), Arc::new(RealDisk), SystemClock::shared(), &mut |_| {});
    assert!(matches!(refused, Err(OpenError::InUse(_))), "a relay has to wait");
}

#[test]
fn a_newer_format_is_refused() {
    let bench = Bench::filled(2);
    let path = bench.segment(1);
    let mut bytes = fs::read(&path).unwrap();
    for at in [0, 512] {
        bytes[at + 8..at + 12].copy_from_slice(&(segment::FORMAT + 1).to_le_bytes());
        let crc = crc32fast::hash(&bytes[at..at + 60]);
        bytes[at + 60..at + 64].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let refused = Inspection::open(&bench.root(), Access::Alone);
    assert!(
        matches!(&refused, Err(OpenError::NewerFormat { found, .. }) if *found == segment::FORMAT + 1),
        "{refused:?}"
    );
}
