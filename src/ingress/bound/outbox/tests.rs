//! Wants, ends and deliveries, over a real journal that is read again.

use super::super::part::{Party, Wish};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::event::{HandsetFact, NO_RECEIPT};
use crate::ingress::smpp::delivering::message as as_written;
use crate::sms::Alphabet;
use crate::storage::RealDisk;

const BOTH: Wish = Wish { success: true, failure: true };

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    options: Arc<ArcSwap<Options>>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let options = Options { receipts_max: 3, receipts_for: Duration::from_secs(3_600), ..Options::default() };
        Self { dir: tempfile::tempdir().unwrap(), clock, options: Arc::new(ArcSwap::from_pointee(options)) }
    }

    fn open(&self) -> Arc<Outbox> {
        let path = self.dir.path().join("receipts.jsonl");
        let metrics = Arc::new(Metrics::new());
        Outbox::open(Arc::new(RealDisk), &path, self.options.clone(), metrics, self.clock.clone()).unwrap()
    }
}

fn id(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

fn want(text: u8, parts: &[(u8, Wish)]) -> Want {
    let party = |address: &str| Party { ton: 1, npi: 1, address: address.into() };
    Want {
        text: Id(id(text)),
        client: "shop".into(),
        source: party("10690001"),
        destination: party("8613800138000"),
        parts: parts.iter().map(|(part, wish)| (Id(id(*part)), *wish)).collect(),
        by: Speaks::Smpp,
        msg_ids: Vec::new(),
    }
}

fn fact(kind: Kind, n: u8, reason: &str) -> Fact {
    let mut fact = Fact::new(Timestamp::from_seconds(1_800_000_000), kind, Channel::Sms);
    fact.id = Some(id(n));
    fact.client = Some("shop".into());
    fact.reason = Some(reason.to_owned());
    fact
}

fn reply(text: &str) -> Fact {
    let mut fact = fact(Kind::Replied, 9, "");
    fact.handset = Some(HandsetFact {
        from: "+86138****8000".to_owned(),
        number: "+8613800138000".into(),
        to: "10690001".into(),
        text: Some(text.to_owned()),
        octets: None,
        parts: 1,
        parts_missing: None,
        rule: None,
        label: None,
        answer: None,
        not_answered: None,
    });
    fact
}

/// What is due to the client, as it would be brought; each is put back.
fn due(outbox: &Arc<Outbox>) -> Vec<String> {
    let all: Vec<Out> = std::iter::from_fn(|| outbox.next(&"shop".into(), Speaks::Smpp)).collect();
    let shown = |out: &Out| {
        let message = as_written(out.delivery().unwrap(), Alphabet::Gsm7);
        String::from_utf8_lossy(message.octets()).into_owned()
    };
    all.iter().map(shown).collect()
}

#[tokio::test]
async fn a_receipt_is_due_once_its_text_has_ended_and_over_starts_until_it_is_taken() {
    let bench = Bench::new();
    let outbox = bench.open();
    outbox.want(want(1, &[(1, BOTH), (2, BOTH)])).await.unwrap();
    assert!(due(&outbox).is_empty());
    drop(outbox);
    let outbox = bench.open();
    outbox.told(&fact(Kind::Sent, 1, ""));
    outbox.told(&fact(Kind::Receipt, 1, "stat:ACCEPTD"));
    assert!(due(&outbox).is_empty(), "no ends");
    outbox.told(&fact(Kind::Undelivered, 1, "stat:UNDELIV err:0A7"));
    outbox.told(&fact(Kind::Delivered, 1, ""));
    let said = due(&outbox);
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with(&format!("id:{} sub:001 dlvrd:000 submit date:", id(1))), "{said:?}");
    assert!(said.iter().all(|s| s.contains("stat:UNDELIV err:0A7 text:")), "{said:?}");
    assert!(outbox.flush_all().await);
    drop(outbox);
    let outbox = bench.open();
    assert_eq!(due(&outbox).len(), 2);
    outbox.next(&"shop".into(), Speaks::Smpp).unwrap().taken();
    assert!(outbox.flush_all().await);
    drop(outbox);
    let outbox = bench.open();
    assert_eq!(due(&outbox).len(), 1);
    outbox.next(&"shop".into(), Speaks::Smpp).unwrap().taken();
    outbox.flush_all().await;
    assert!(bench.open().state.lock().wanted.is_empty());
}

#[tokio::test]
async fn a_receipt_looks_as_the_standard_says() {
    let bench = Bench::new();
    let outbox = bench.open();
    outbox.want(want(1, &[(1, BOTH)])).await.unwrap();
    outbox.told(&fact(Kind::Delivered, 1, "stat:DELIVRD err:000"));
    let out = outbox.next(&"shop".into(), Speaks::Smpp).unwrap();
    let message = as_written(out.delivery().unwrap(), Alphabet::Gsm7);
    assert!(message.is_receipt());
    assert_eq!(
        (message.source.address.to_string(), message.destination.address.to_string()),
        ("8613800138000".to_owned(), "10690001".to_owned())
    );
    let read =
        crate::sms::receipt::parse(message.octets(), message.tlv(0x001E), message.tlv(0x0427).map(|v| v[0])).unwrap();
    assert_eq!((read.id, read.state), (id(1).to_string(), crate::model::ReceiptState::Delivered));
}

#[tokio::test]
async fn wishes_hold_and_every_end_has_its_word() {
    let bench = Bench::new();
    let outbox = bench.open();
    let (success, failure) = (Wish { success: true, failure: false }, Wish { success: false, failure: true });
    for (kind, reason, wish, stat) in [
        (Kind::Delivered, "", failure, None),
        (Kind::Undelivered, "", success, None),
        (Kind::Delivered, "", success, Some("DELIVRD")),
        (Kind::Undelivered, "", failure, Some("UNDELIV")),
        (Kind::Expired, "", failure, Some("EXPIRED")),
        (Kind::Cancelled, "", failure, Some("DELETED")),
        (Kind::Rejected, "", failure, Some("REJECTD")),
        (Kind::Unknown, "", failure, Some("UNKNOWN")),
        (Kind::Receipt, NO_RECEIPT, failure, Some("UNKNOWN")),
    ] {
        outbox.want(want(1, &[(1, wish)])).await.unwrap();
        outbox.told(&fact(kind, 1, reason));
        match (outbox.next(&"shop".into(), Speaks::Smpp), stat) {
            (Some(out), Some(stat)) => {
                let said = as_written(out.delivery().unwrap(), Alphabet::Gsm7);
                assert!(String::from_utf8_lossy(said.octets()).contains(&format!("stat:{stat} ")), "{kind:?}");
                out.taken();
            }
            (None, None) => {}
            other => panic!("{kind:?} {wish:?}: {other:?}"),
        }
        assert!(outbox.state.lock().wanted.is_empty());
    }
}

#[tokio::test]
async fn replies_are_kept_for_whoever_has_bound_to_receive_and_their_numbers_are_whole() {
    let bench = Bench::new();
    let outbox = bench.open();
    outbox.told(&reply("lost"));
    outbox.bound(&"shop".into(), Speaks::Smpp);
    outbox.told(&reply("thanks @"));
    assert!(outbox.flush_all().await);
    drop(outbox);
    let outbox = bench.open();
    let out = outbox.next(&"shop".into(), Speaks::Smpp).unwrap();
    let message = as_written(out.delivery().unwrap(), Alphabet::Gsm7);
    assert_eq!((message.octets(), message.data_coding, message.esm_class), (&b"thanks \0"[..], 0, 0));
    assert_eq!((message.source.ton, message.source.address.to_string()), (1, "8613800138000".to_owned()));
    assert_eq!(as_written(out.delivery().unwrap(), Alphabet::Latin1).data_coding, 1);
    out.taken();
    // No more than there may be, and then the carrier has to come again.
    (0..4).for_each(|_| outbox.told(&reply("x")));
    assert_eq!(due(&outbox).len(), 3);
    assert!(!outbox.kept().await);
}

#[tokio::test]
async fn alphabets_are_as_narrow_as_they_can_be() {
    let bench = Bench::new();
    let outbox = bench.open();
    outbox.bound(&"shop".into(), Speaks::Smpp);
    for (text, coding, octets) in [("é€", 0, 3), ("ç", 3, 1), ("中", 8, 2), (&"中".repeat(200), 8, 400)] {
        outbox.told(&reply(text));
        let out = outbox.next(&"shop".into(), Speaks::Smpp).unwrap();
        let message = as_written(out.delivery().unwrap(), Alphabet::Gsm7);
        assert_eq!((message.data_coding, message.octets().len()), (coding, octets), "{text}");
        out.taken();
    }
}

#[tokio::test]
async fn what_is_not_taken_comes_again_later_and_what_is_too_old_goes() {
    let bench = Bench::new();
    let outbox = bench.open();
    outbox.want(want(1, &[(1, BOTH)])).await.unwrap();
    outbox.told(&fact(Kind::Delivered, 1, ""));
    outbox.next(&"shop".into(), Speaks::Smpp).unwrap().put_off();
    assert!(outbox.next(&"shop".into(), Speaks::Smpp).is_none());
    assert_eq!(outbox.awaited(&"shop".into(), Speaks::Smpp).0, Some(bench.clock.mono().plus(Duration::from_secs(1))));
    bench.clock.advance(Duration::from_secs(1));
    drop(outbox.next(&"shop".into(), Speaks::Smpp).unwrap());
    assert!(outbox.next(&"shop".into(), Speaks::Smpp).is_some(), "dropped unsaid: at once");
    bench.clock.advance(Duration::from_secs(3_600));
    outbox.sweep();
    assert!(due(&outbox).is_empty() && outbox.state.lock().wanted.is_empty());
    outbox.flush_all().await;
    assert!(bench.open().state.lock().wanted.is_empty());
}

#[tokio::test]
async fn there_are_no_more_wants_than_there_may_be_and_what_was_not_accepted_is_forgotten() {
    let bench = Bench::new();
    let outbox = bench.open();
    for n in 1..=3 {
        outbox.want(want(n, &[(n, BOTH)])).await.unwrap();
    }
    assert_eq!(outbox.want(want(4, &[(4, BOTH)])).await, Err(NotKept::Full));
    outbox.forget(id(2));
    outbox.want(want(4, &[(4, BOTH)])).await.unwrap();
    outbox.flush_all().await;
    let mut wanted: Vec<_> = bench.open().state.lock().wanted.keys().map(|id| id.to_bytes()[0]).collect();
    wanted.sort_unstable();
    assert_eq!(wanted, [1, 3, 4]);
}

impl Outbox {
    async fn flush_all(&self) -> bool {
        self.flush().await;
        !self.flushed.borrow().failed && self.state.lock().pending.is_empty()
    }
}
