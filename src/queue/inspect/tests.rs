//! Spools made of real records by a real log, whole and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock::{SystemClock, Timestamp};
use crate::event;
use crate::model::{
    Address, BodyKind, Class, EnhancedStatus, Envelope, Idempotency, MailOrigin, Mailbox, Number, Origin, Recipient,
    Reply, ReversePath, Scope, Stage, TextOrigin, TlsWish,
};
use crate::queue::life::{Attempt, Change, End, Life, State, Tally};
use crate::storage::{Log, Options, Position, Purpose, RealDisk, Record};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn id(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

fn envelope(n: u8, client: &str, class: Class, to: &[&str]) -> Envelope {
    let to_one = |to: &&str| {
        let address = match Number::parse(to) {
            Ok(number) => Address::Number(number),
            Err(_) => Address::Mailbox(Mailbox::parse(to).unwrap()),
        };
        Recipient::new(address)
    };
    let origin = if to[0].starts_with('+') {
        Origin::Text(TextOrigin { from: None })
    } else {
        Origin::Mail(MailOrigin {
            reverse_path: ReversePath::Mailbox(Mailbox::parse("hello@shop.example").unwrap()),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            tls: TlsWish::None,
            body_hash: [0; 32],
            header_bytes: content(n, 0).len() as u32,
        })
    };
    Envelope {
        id: id(n),
        client: client.into(),
        class,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: NOW.plus(Duration::from_secs(u64::from(n))),
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin,
        recipients: to.iter().map(to_one).collect(),
    }
}

/// A mail; its header alone if the body is to have no bytes.
fn content(n: u8, body: usize) -> Vec<u8> {
    let line = format!("secret words of {n}\r\n");
    let body = line.bytes().cycle().take(body / line.len() * line.len());
    format!("Subject: number {n}\r\n\r\n").into_bytes().into_iter().chain(body).collect()
}

fn accept(envelope: &Envelope, content: Vec<u8>) -> Record {
    let lives: Vec<Life> = envelope.recipients.iter().map(|_| Life::new(NOW)).collect();
    Record {
        kind: record::ACCEPT,
        key: envelope.id.to_bytes(),
        about: None,
        payload: record::write_accept(envelope, &lives),
        body: Some(content.into()),
        live: true,
    }
}

fn change(recipient: u32, state: State, attempt: Option<Attempt>) -> Change {
    let tally = Some(Tally { attempts_made: u16::from(attempt.is_some()), throttled: 0 });
    Change {
        recipient,
        sequence: 0,
        previous: None,
        state,
        attempt,
        counts: true,
        tally,
        progress: None,
        receipt: None,
    }
}

fn changed(n: u8, about: Position, changes: &[Change]) -> Record {
    Record {
        kind: record::CHANGE,
        key: id(n).to_bytes(),
        about: Some(about),
        payload: record::write_changes(changes),
        body: None,
        live: false,
    }
}

fn key(n: u8, client: &str, key: &str) -> Record {
    let idempotency = Idempotency { key: key.into(), fingerprint: [1; 32] };
    let known = record::KeyRecord { client: client.into(), idempotency, received_at: NOW };
    let payload = record::write_key(&known);
    Record { kind: record::KEY, key: id(n).to_bytes(), about: None, payload, body: None, live: true }
}

fn delayed() -> Attempt {
    Attempt {
        time: NOW,
        outcome: event::Kind::Delayed,
        stage: Some(Stage::Recipient),
        scope: Some(Scope::Recipient),
        status: EnhancedStatus::parse("4.2.2"),
        reply: Some(Reply { code: 452, enhanced: EnhancedStatus::parse("4.2.2"), text: "mailbox full".into() }),
        cause: None,
        throttled: false,
        rule: None,
        peer: None,
        duration: Duration::from_millis(3),
    }
}

struct Bench {
    dir: tempfile::TempDir,
    /// Where the accept records lie, by message.
    accepted: BTreeMap<u8, Position>,
}

const DUE: Timestamp = Timestamp::from_seconds(1_800_000_600);

impl Bench {
    /// 1: to two, delayed for one, delivered to the other · 2: a code by mail, with a key · 3: large · 4: a text whose attempt
    /// has begun · 5: ended · 6: moved · 7: a text at its carrier · 8: a mail with a key.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            segment_bytes: 16 * 1024,
            batch_bytes_max: 8 * 1024,
            queue_bytes_max: 64 * 1024,
            inline_body_bytes_max: 2 * 1024,
            reserve_bytes: 0,
            alignment: 64,
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (log, _) =
            Log::open(&dir.path().join("spool"), options, Arc::new(RealDisk), SystemClock::shared(), &mut |_| {})
                .unwrap();
        let mut accepted = BTreeMap::new();
        let append = |group| runtime.block_on(log.append(Purpose::Intake, group)).unwrap().positions;
        let mut take = |n: u8, mut group: Vec<Record>, envelope: Envelope, content: Vec<u8>| {
            group.insert(0, accept(&envelope, content));
            accepted.insert(n, append(group)[0]);
            accepted[&n]
        };
        let mail = |n, to: &[&str]| envelope(n, "shop", Class::Transactional, to);
        let one = take(1, vec![], mail(1, &["lin@example.com", "wei@example.com"]), content(1, 500));
        let mut code = envelope(2, "bank", Class::Otp, &["secret.person@example.com"]);
        code.idempotency = Some(Idempotency { key: "otp-secret-key".into(), fingerprint: [1; 32] });
        take(2, vec![key(2, "bank", "otp-secret-key")], code, content(2, 500));
        take(3, vec![], mail(3, &["lin@example.com"]), content(3, 5_000));
        let text = |n| envelope(n, "bank", Class::Otp, &["+8613800138000"]);
        let four = take(4, vec![], text(4), b"your code is 123456".to_vec());
        let five = take(5, vec![], mail(5, &["lin@example.com"]), content(5, 500));
        let six = take(6, vec![], mail(6, &["lin@example.com"]), content(6, 500));
        let seven = take(7, vec![], text(7), b"your code is 123456".to_vec());
        take(8, vec![key(8, "shop", "order-8")], mail(8, &["lin@example.com"]), content(8, 500));
        let delivered = State::Ended { end: End::Delivered, at: NOW };
        let both = [change(0, State::Queued { due: DUE }, Some(delayed())), change(1, delivered, None)];
        append(vec![changed(1, one, &both)]);
        append(vec![changed(4, four, &[change(0, State::Begun { at: NOW }, None)])]);
        append(vec![changed(5, five, &[change(0, delivered, None)])]);
        append(vec![changed(7, seven, &[change(0, State::Sent { at: NOW }, None)])]);
        let moved = accept(&mail(6, &["lin@example.com"]), content(6, 500));
        accepted.insert(6, append(vec![Record { about: Some(six), ..moved }])[0]);
        // So that nothing of the above is the last batch, which could be called torn.
        append(vec![key(9, "shop", "order-9")]);
        runtime.block_on(log.shutdown());
        drop(log);
        Self { dir, accepted }
    }

    fn spool(&self) -> Spool {
        Spool::open(self.dir.path(), Access::Alone).unwrap()
    }

    fn segment(&self, n: u8) -> PathBuf {
        self.dir.path().join("spool").join(segment_path(self.accepted[&n].segment))
    }

    /// Flips a bit of a message's accept record, `at` bytes from its start or, if negative, from its end.
    fn flip(&self, n: u8, at: i64) {
        let position = self.accepted[&n];
        let from = if at < 0 { position.offset + position.length } else { position.offset };
        let path = self.segment(n);
        let mut bytes = fs::read(&path).unwrap();
        bytes[(i64::from(from) + at) as usize] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn verdict(&self) -> Verdict {
        self.spool().verify(&mut |_| {}).unwrap()
    }

    fn dump(&self, wanted: &Wanted) -> (Vec<Line>, Dumped) {
        let mut lines = Vec::new();
        let dumped = self.spool().dump(wanted, &mut |_| {}, &mut |line| {
            lines.push(line.clone());
            ControlFlow::Continue(())
        });
        (lines, dumped.unwrap())
    }

    fn rescued(&self, choice: &Choice) -> Vec<Rescue> {
        let spool = self.spool();
        let plan = spool.plan(choice, &mut |_| {}).unwrap();
        let all: Vec<Rescue> = spool.rescue(&plan).collect();
        assert_eq!(plan.messages(), all.len() as u64);
        all
    }
}

fn groups(groups: &[Group]) -> Vec<(&str, u64)> {
    groups.iter().map(|g| (g.name.as_str(), g.messages)).collect()
}

#[test]
fn figures_are_those_of_what_waits() {
    let bench = Bench::new();
    let spool = bench.spool();
    let mut read = 0;
    let figures = spool.stat(NOW, &mut |bytes| read += bytes).unwrap();
    assert_eq!(read, spool.bytes());
    assert_eq!((figures.messages, figures.recipients), (7, 7));
    assert_eq!(groups(&figures.by_state), [("queued", 4), ("delayed", 1), ("begun", 1), ("sent", 1)]);
    assert_eq!(groups(&figures.by_class), [("otp", 3), ("transactional", 4)]);
    assert_eq!(groups(&figures.by_channel), [("email", 5), ("sms", 2)]);
    assert_eq!(groups(&figures.by_client), [("bank", 3), ("shop", 4)]);
    assert_eq!(figures.oldest.as_ref().unwrap().id, id(1).to_string());
    assert_eq!(figures.next_due.as_ref().unwrap().at, NOW.rfc3339());
    assert_eq!(
        (figures.largest.clone(), figures.largest_bytes),
        (Some(id(3).to_string()), content(3, 5_000).len() as u64)
    );
    assert_eq!((figures.accept_records, figures.change_records, figures.key_records, figures.keys), (9, 4, 3, 3));
    assert_eq!((figures.body_files, figures.damaged_places, figures.torn_bytes), (1, 0, 0));
    let live: u32 = bench.accepted.iter().filter(|(n, _)| **n != 5).map(|(_, p)| p.length).sum();
    assert!(figures.live_bytes > u64::from(live) && figures.live_bytes < u64::from(live) + 1_000, "{figures:?}");
    assert_eq!(figures.used_bytes, figures.live_bytes + figures.dead_bytes);
    assert_eq!(figures.quarantine, Quarantine::default());
}

#[test]
fn records_are_shown_without_what_is_secret() {
    let bench = Bench::new();
    let (lines, dumped) = bench.dump(&Wanted { headers: true, ..Wanted::default() });
    assert_eq!(dumped, Dumped { records: 16, damaged: 0 });
    let text = serde_json::to_string(&lines).unwrap();
    for secret in ["secret.person", "otp-secret-key", "8613800138000", "123456", "secret words", "number 2"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    for shown in ["s***@example.com", "+86138****8000", "order-8", "number 1", "number 3", "mailbox full"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    // Nobody says of which class the message behind the last key is.
    assert!(!text.contains("order-9"));
    let Line::Record(last) = lines.last().unwrap() else { panic!("{lines:?}") };
    assert_eq!((last.kind, last.batch), ("key", Some(14)));
    let (of_one, _) = bench.dump(&Wanted { id: Some(id(1)), ..Wanted::default() });
    assert_eq!(of_one.len(), 2);
    let Line::Record(change) = &of_one[1] else { panic!("{of_one:?}") };
    assert_eq!((change.kind, change.changes.len()), ("change", 2));
    assert_eq!(change.changes[1].state.state, "delivered");
    assert_eq!(change.about.unwrap().offset, bench.accepted[&1].offset);
    assert_eq!(bench.dump(&Wanted { kind: Some(Kind::Change), ..Wanted::default() }).0.len(), 4);
    assert_eq!(bench.dump(&Wanted { limit: Some(3), ..Wanted::default() }).0.len(), 3);
    assert_eq!(bench.dump(&Wanted { limit: Some(0), ..Wanted::default() }).0.len(), 0);
}

#[test]
fn what_waits_is_rescued_whole() {
    let bench = Bench::new();
    let all = bench.rescued(&Choice::All);
    let ids: Vec<String> = all
        .iter()
        .map(|rescue| match rescue {
            Rescue::Whole { view, content: bytes } => {
                let n = view.id.parse::<MessageId>().unwrap().to_bytes()[0];
                let size = if n == 3 { 5_000 } else { 500 };
                let sms = view.envelope.channel == "sms";
                let expected = if sms { b"your code is 123456".to_vec() } else { content(n, size) };
                assert_eq!(bytes, &Bytes::from(expected), "{n}");
                assert_eq!(view.content, format!("{}.{}", view.id, if sms { "txt" } else { "eml" }));
                view.id.clone()
            }
            Rescue::Lost { .. } => panic!("{rescue:?}"),
        })
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 7, 8, 6].map(|n| id(n).to_string()));
    let Rescue::Whole { view, .. } = &all[0] else { panic!("{all:?}") };
    let [one, two] = &view.envelope.recipients[..] else { panic!("{view:?}") };
    assert_eq!((one.state.state, one.state.due.as_deref()), ("queued", Some(&*DUE.rfc3339())));
    assert_eq!((one.attempts_made, one.attempts.len()), (1, 1));
    assert_eq!((two.address.as_str(), two.state.state), ("wei@example.com", "delivered"));
    let Rescue::Whole { view, .. } = &all[1] else { panic!("{all:?}") };
    assert_eq!(view.envelope.recipients[0].address, "secret.person@example.com", "what is rescued is not masked");
    assert_eq!(bench.rescued(&Choice::Client("bank".into())).len(), 3);
    assert_eq!(bench.rescued(&Choice::Id(id(3))).len(), 1);
    assert_eq!(bench.rescued(&Choice::Id(id(5))).len(), 0, "it has ended");
}

#[test]
fn a_whole_spool_is_fine() {
    let bench = Bench::new();
    let verdict = bench.verdict();
    assert!(verdict.fine && verdict.findings.is_empty() && verdict.damaged == 0, "{verdict:?}");
    assert_eq!((verdict.records, verdict.messages, verdict.body_files), (16, 7, 1));
    assert_eq!(verdict.body_file_bytes, content(3, 5_000).len() as u64);
}

#[test]
fn damage_is_found_and_its_consequence_told() {
    let check = |n: u8, at: i64, what: &str, next_start: &str| {
        let bench = Bench::new();
        bench.flip(n, at);
        let verdict = bench.verdict();
        assert!(!verdict.fine && verdict.damaged == 1, "{verdict:?}");
        let finding = &verdict.findings[0];
        assert_eq!(finding.what, what, "{finding:?}");
        assert!(finding.next_start.contains(next_start), "{finding:?}");
        if !what.contains("batch") && !what.contains("copies") {
            assert_eq!(finding.message, Some(id(n).to_string()), "{finding:?}");
        }
    };
    let lost = "the message is lost";
    check(1, -3, "the body of an accept record", "keeps the message queued");
    check(5, -3, "the body of an accept record", "the message has ended");
    check(8, 1, "the header of an accept record", lost);
    check(8, 60, "the payload of an accept record", lost);
    check(8, -9, "the body of an accept record", "ends it as failed");
    check(5, 60, "the payload of an accept record", "unless it had one recipient only");
    check(6, 60, "the payload of an accept record", "another copy");
}

#[test]
fn damage_of_batches_changes_and_keys_is_told_too() {
    let bench = Bench::new();
    let (lines, _) = bench.dump(&Wanted::default());
    let place = |kind: &str, n: u8| {
        let found = lines.iter().find_map(|line| match line {
            Line::Record(record) if record.kind == kind && record.id == id(n).to_string() => Some(record.position),
            _ => None,
        });
        found.unwrap()
    };
    let flipped = |kind: &str, n: u8, at: i64| {
        let position = place(kind, n);
        let path = bench.dir.path().join("spool").join(segment_path(position.segment));
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[(i64::from(position.offset) + at) as usize] ^= 1;
        fs::write(&path, bytes).unwrap();
        let verdict = bench.verdict();
        fs::write(&path, whole).unwrap();
        assert_eq!(verdict.damaged, 1, "{verdict:?}");
        verdict
    };
    let verdict = flipped("change", 5, 60);
    assert_eq!(verdict.findings[0].what, "the payload of a change record");
    assert!(verdict.findings[0].next_start.contains("may be sent again"), "{verdict:?}");
    assert_eq!(verdict.messages, 8, "five comes back");
    let verdict = flipped("change", 1, 60);
    assert!(verdict.findings[0].next_start.contains("stands as it did"), "{verdict:?}");
    let verdict = flipped("key", 8, 60);
    assert!(verdict.findings[0].next_start.contains("forgets the key"), "{verdict:?}");
    let verdict = flipped("change", 4, 4 - 32);
    assert_eq!(verdict.findings[0].what, "a batch's header");
    assert_eq!((verdict.messages, verdict.records), (7, 16), "nothing is lost with it");
    assert!(bench.verdict().fine);
}

#[test]
fn a_large_body_is_read_from_its_file() {
    let bench = Bench::new();
    let bodies = bench.dir.path().join("spool/bodies");
    let path = fs::read_dir(&bodies).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[4_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let verdict = bench.verdict();
    assert_eq!(verdict.findings[0].what, "the file of a large body");
    assert_eq!(verdict.findings[0].message, Some(id(3).to_string()));
    assert!(matches!(&bench.rescued(&Choice::Id(id(3)))[..], [Rescue::Lost { why, .. }] if why.contains("damaged")));
    fs::remove_file(&path).unwrap();
    let verdict = bench.verdict();
    assert_eq!(verdict.findings[0].what, "the file of a large body, missing");
    assert!(matches!(&bench.rescued(&Choice::Id(id(3)))[..], [Rescue::Lost { why, .. }] if why.contains("missing")));
    assert_eq!(bench.rescued(&Choice::All).len(), 7, "the others are rescued");
    // A file that nothing needs is no damage.
    fs::write(&path, whole).unwrap();
    fs::write(bodies.join(format!("{:032x}-{:016x}", 1, 1)), "x").unwrap();
    let verdict = bench.verdict();
    assert!(verdict.fine && verdict.unneeded_body_files == 1, "{verdict:?}");
}

#[test]
fn a_torn_end_is_no_damage() {
    let bench = Bench::new();
    let (lines, _) = bench.dump(&Wanted::default());
    let Line::Record(last) = lines.last().unwrap() else { panic!("{lines:?}") };
    let path = bench.dir.path().join("spool").join(segment_path(last.position.segment));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..last.position.offset as usize + 60]).unwrap();
    let verdict = bench.verdict();
    assert!(verdict.fine, "{verdict:?}");
    assert_eq!(verdict.findings[0].severity, Severity::Torn);
    assert_eq!((verdict.findings.len(), verdict.records), (1, 15));
    assert!(verdict.findings[0].next_start.contains("nobody was promised it"));
}

#[test]
fn a_record_that_makes_no_sense_is_told() {
    let bench = Bench::new();
    let (log, _) = Log::open(
        &bench.dir.path().join("spool"),
        Options::default(),
        Arc::new(RealDisk),
        SystemClock::shared(),
        &mut |_| {},
    )
    .unwrap();
    let strange = |kind, n: u8| Record {
        kind,
        key: id(n).to_bytes(),
        about: None,
        payload: Bytes::from_static(b"\xffx"),
        body: None,
        live: true,
    };
    let bad = accept(&envelope(10, "shop", Class::Marketing, &["a@b.example"]), b"bare\nline end".to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        log.append(Purpose::Intake, vec![strange(record::ACCEPT, 11), strange(77, 12), bad]).await.unwrap();
        log.shutdown().await;
    });
    drop(log);
    let verdict = bench.verdict();
    let whats: Vec<&str> = verdict.findings.iter().map(|f| f.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "a record that is intact and cannot be understood (queue record: version cannot be read)",
            "a record that is intact and cannot be understood (queue record: kind cannot be read)",
            "a content that no message may have",
        ]
    );
    assert_eq!(verdict.damaged, 3);
    assert_eq!(bench.dump(&Wanted::default()).1.damaged, 2);
    assert_eq!(bench.spool().stat(NOW, &mut |_| {}).unwrap().strange_records, 2);
}

#[test]
fn both_directories_will_do_and_no_other() {
    let bench = Bench::new();
    assert!(Spool::open(&bench.dir.path().join("spool"), Access::Alone).is_ok());
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(Spool::open(none.path(), Access::Alone), Err(NotOpened::NoSpool(_))));
}
