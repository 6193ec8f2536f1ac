//! What handsets send, over a real queue, event file, list and journal; carriers are played by the test.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::event::log as event_log;
use crate::model::{MessageId, SenderId, SmsText};
use crate::policy::reply_rules::{Answer, NotAnswered, Sending};
use crate::queue::Place;
use crate::route::Routes;
use crate::sms::Alphabet;
use crate::storage::RealDisk;

const LIN: &str = "+8613800138000";

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    options: Arc<ArcSwap<Options>>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let options = Options { joining_max: 2, join_within: Duration::from_secs(60), ..Options::default() };
        Self { dir: tempfile::tempdir().unwrap(), clock, options: Arc::new(ArcSwap::from_pointee(options)) }
    }

    /// As a start does.
    async fn open(&self) -> Replies {
        let path = |name: &str| self.dir.path().join(name);
        let metrics = Arc::new(Metrics::new());
        let events = event_log::Options { file: path("events.jsonl"), rotate_bytes: 100_000, keep: 0 };
        let events = EventLog::open(events, metrics.clone()).unwrap();
        let log = crate::storage::Options { reserve_bytes: 0, ..crate::storage::Options::default() };
        let spool = path("spool");
        let place = Place { disk: Arc::new(RealDisk), dir: &spool, log };
        let routes = Arc::new(ArcSwap::from_pointee(Routes::default()));
        let (queue_options, clock) = (crate::queue::Options::default(), self.clock.clone());
        let (queue, _) =
            Queue::open(place, queue_options, routes, clock.clone(), events.clone(), metrics.clone()).unwrap();
        queue.loaded().await;
        let opt_outs = OptOuts::open(Arc::new(RealDisk), &path("opt-outs.jsonl"), 100).unwrap();
        let parties = Parties { queue, opt_outs, events, metrics, clock };
        Replies::open(Arc::new(RealDisk), &path("parts.jsonl"), self.options.clone(), parties).unwrap()
    }

    fn told(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("events.jsonl")).unwrap();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).filter(|v| v["event"] == kind).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.told("replied").iter().map(|v| v["handset"]["text"].as_str().unwrap_or("-").to_owned()).collect()
    }

    fn message(&self, text: &str) -> HandsetMessage {
        HandsetMessage {
            carrier: "one".into(),
            from: LIN.into(),
            to: "10690001".into(),
            alphabet: Alphabet::Ascii,
            place: None,
            octets: Bytes::copy_from_slice(text.as_bytes()),
            received_at: self.clock.now(),
        }
    }

    fn part(&self, text: &str, reference: u16, number: u8, total: u8) -> HandsetMessage {
        HandsetMessage { place: Some(Concatenation { reference, total, number }), ..self.message(text) }
    }
}

/// A text under a signature that this number was sent.
fn note(replies: &Replies, signature: Option<&str>, class: Class) -> MessageId {
    let id = MessageId::new(Timestamp::from_seconds(1_800_000_000));
    let sent = Sent { id, client: "shop".into(), class, signature: signature.map(Arc::from) };
    let from = SenderId::parse("10690001").unwrap();
    replies.sent.lock().note(&Number::parse(LIN).unwrap(), Some(&from), &"one".into(), sent, 10);
    id
}

fn may_send(replies: &Replies, signature: Option<&str>, class: Class, client: &str) -> bool {
    let (number, from) = (Number::parse(LIN).unwrap(), SenderId::parse("10690001").unwrap());
    let text = Wanted { number: &number, class, client, signature, sender: Some(&from) };
    replies.parties.opt_outs.may_send(text).is_ok()
}

#[tokio::test]
async fn a_reply_is_told_with_the_text_that_it_answers() {
    let bench = Bench::new();
    let replies = bench.open().await;
    replies.take(bench.message("who is this?")).await.unwrap();
    let id = note(&replies, Some("Shop"), Class::Otp);
    replies.take(bench.message("thanks")).await.unwrap();
    let told = bench.told("replied");
    assert_eq!(
        (&told[0]["id"], &told[0]["client"], &told[0]["peer"]["host"]),
        (&Value::Null, &Value::Null, &"one".into())
    );
    assert_eq!(
        told[0]["handset"],
        serde_json::json!({"from": LIN, "to": "10690001", "text": "who is this?", "parts": 1})
    );
    assert_eq!((&told[1]["id"], &told[1]["client"]), (&id.to_string().into(), &"shop".into()));
    assert_eq!(told[1]["handset"]["from"], "+86138****8000", "it was sent a code");
    let counted = replies.parties.metrics.render();
    for line in [r#"{carrier="one",result="matched"} 1"#, r#"{carrier="one",result="unmatched"} 1"#] {
        assert!(counted.contains(&format!("postrider_handset_messages_total{line}")), "{counted}");
    }
}

#[tokio::test]
async fn what_is_no_text_is_kept_as_octets() {
    let bench = Bench::new();
    let replies = bench.open().await;
    let octets = Bytes::from_static(&[0xFF, 0x00]);
    replies.take(HandsetMessage { alphabet: Alphabet::Other(4), octets, ..bench.message("") }).await.unwrap();
    let told = bench.told("replied").remove(0);
    assert_eq!((&told["handset"]["octets"], &told["reason"]), (&"ff00".into(), &"coding 4 is no text".into()));
}

#[tokio::test]
async fn parts_are_joined_in_any_order_and_over_a_start() {
    let bench = Bench::new();
    let replies = bench.open().await;
    replies.take(bench.part("c", 7, 3, 3)).await.unwrap();
    replies.take(bench.part("a", 7, 1, 3)).await.unwrap();
    replies.take(bench.part("a", 7, 1, 3)).await.unwrap();
    assert!(bench.texts().is_empty());
    replies.parties.queue.shutdown().await;
    drop(replies);
    let replies = bench.open().await;
    assert_eq!(replies.waiting.len(), 2);
    replies.take(bench.part("b", 7, 2, 3)).await.unwrap();
    assert_eq!(bench.texts(), ["abc"]);
    assert_eq!(bench.told("replied")[0]["handset"]["parts"], 3);
    replies.parties.queue.shutdown().await;
    drop(replies);
    assert_eq!(bench.open().await.waiting.len(), 0, "what has been told is crossed out");
}

#[tokio::test]
async fn parts_whose_others_do_not_come_are_told_as_they_are() {
    let bench = Bench::new();
    let replies = bench.open().await;
    replies.take(bench.part("b", 7, 2, 3)).await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    replies.give_out_overdue().await;
    assert!(bench.texts().is_empty());
    bench.clock.advance(Duration::from_secs(2));
    replies.give_out_overdue().await;
    let told = bench.told("replied").remove(0);
    assert_eq!((&told["handset"]["text"], &told["handset"]["parts_missing"]), (&"b".into(), &2.into()));
    // No more than two may wait: the oldest goes. A reference that comes again for another message takes none away.
    for (text, reference) in [("x", 1), ("y", 2), ("z", 3), ("Z", 3)] {
        replies.take(bench.part(text, reference, 1, 2)).await.unwrap();
    }
    assert_eq!(bench.texts()[1..], ["x", "z"]);
    assert_eq!(replies.waiting.len(), 2);
}

#[tokio::test]
async fn words_opt_out_of_the_signature_and_in_again() {
    let bench = Bench::new();
    let replies = bench.open().await;
    let id = note(&replies, Some("Shop"), Class::Marketing);
    replies.take(bench.message("stop!")).await.unwrap();
    assert!(!may_send(&replies, Some("Shop"), Class::Marketing, "another"));
    assert!(may_send(&replies, Some("Shop"), Class::Otp, "shop"));
    assert!(may_send(&replies, Some("Other"), Class::Marketing, "shop"));
    let told = bench.told("opted_out").remove(0);
    assert_eq!((&told["id"], &told["client"]), (&id.to_string().into(), &"shop".into()));
    let expected = serde_json::json!({"number": LIN, "signature": "Shop", "class": "marketing", "by": "reply"});
    assert_eq!(told["opt_out"], expected);
    replies.take(bench.message("Start")).await.unwrap();
    assert!(may_send(&replies, Some("Shop"), Class::Marketing, "shop"));
    assert_eq!(bench.told("opted_in")[0]["opt_out"]["signature"], "Shop");
}

#[tokio::test]
async fn without_a_signature_it_is_the_sender_of_that_client_and_without_a_match_of_all() {
    let bench = Bench::new();
    let replies = bench.open().await;
    note(&replies, None, Class::Marketing);
    replies.take(bench.message("TD")).await.unwrap();
    assert!(!may_send(&replies, None, Class::Marketing, "shop"));
    assert!(may_send(&replies, None, Class::Marketing, "another"));
    replies.take(HandsetMessage { to: "10690009".into(), ..bench.message("TD") }).await.unwrap();
    let number = Number::parse(LIN).unwrap();
    let clients: Vec<_> = replies.parties.opt_outs.of(&number).into_iter().map(|entry| entry.client).collect();
    assert_eq!(clients, [Some("shop".into()), None]);
}

#[tokio::test]
async fn what_cannot_be_made_durable_is_put_off_and_lost_nowhere() {
    let bench = Bench::new();
    let replies = bench.open().await;
    replies.take(bench.part("a", 7, 1, 2)).await.unwrap();
    // Nobody writes events any more.
    replies.parties.events.close();
    assert_eq!(replies.take(bench.message("hello")).await, Err(InboundError::Busy));
    assert_eq!(replies.take(bench.part("b", 7, 2, 2)).await, Err(InboundError::Busy));
    assert_eq!(replies.waiting.len(), 1, "the part that was answered yes waits on");
    bench.clock.advance(Duration::from_secs(61));
    replies.give_out_overdue().await;
    assert_eq!(replies.waiting.len(), 1);
    replies.parties.queue.shutdown().await;
    drop(replies);
    let replies = bench.open().await;
    replies.take(bench.part("b", 7, 2, 2)).await.unwrap();
    assert_eq!(bench.texts(), ["ab"]);
}

#[tokio::test]
async fn the_file_of_parts_stays_small() {
    let bench = Bench::new();
    let replies = bench.open().await;
    let long = "x".repeat(140);
    for reference in 0..2_000 {
        replies.take(bench.part(&long, reference, 1, 2)).await.unwrap();
    }
    let length = |bench: &Bench| std::fs::metadata(bench.dir.path().join("parts.jsonl")).unwrap().len();
    assert!(length(&bench) > crate::storage::joining::SHRINK_BYTES);
    replies.give_out_overdue().await;
    assert!(length(&bench) < 2_000, "{}", length(&bench));
    assert_eq!(replies.waiting.len(), 2);
}

/// Sends answers to nowhere, as often as their keys are new.
#[derive(Default)]
struct Sender(Mutex<Vec<Answer>>);

impl Answering for Sender {
    fn send(&self, answer: Answer) -> Sending<'_> {
        let mut sent = self.0.lock();
        let before = sent.iter().any(|known| known.key == answer.key);
        sent.push(answer);
        Box::pin(async move { if before { Err(NotAnswered::Before) } else { Ok(MessageId::from_bytes([9; 16])) } })
    }
}

fn with_rule(bench: &Bench, client: Option<&str>) {
    let rule = ReplyRule {
        name: "help".into(),
        words: ["help".to_owned(), "stop".to_owned()].into(),
        numbers: Vec::new(),
        clients: Vec::new(),
        client: client.map(Into::into),
        answer: Some(SmsText::new("Call 400").unwrap()),
        answer_every: Duration::from_secs(3_600),
        label: Some("service".into()),
    };
    bench.options.store(Arc::new(Options { rules: vec![rule], ..Options::default() }));
}

#[tokio::test]
async fn a_rule_answers_once_in_its_time_also_over_a_start() {
    let bench = Bench::new();
    let (replies, sender) = (bench.open().await, Arc::new(Sender::default()));
    with_rule(&bench, Some("desk"));
    replies.take(bench.message("help")).await.unwrap();
    replies.answer_by(sender.clone());
    replies.take(bench.message("Help!")).await.unwrap();
    replies.take(bench.message("help")).await.unwrap();
    replies.parties.queue.shutdown().await;
    drop(replies);
    let replies = bench.open().await;
    replies.answer_by(sender.clone());
    replies.take(bench.message("help")).await.unwrap();
    bench.clock.advance(Duration::from_secs(3_600));
    replies.take(bench.message("help")).await.unwrap();
    let told = bench.told("replied");
    let of = |n: usize| (&told[n]["handset"]["answer"], &told[n]["handset"]["not_answered"]);
    let answer = Value::from(MessageId::from_bytes([9; 16]).to_string());
    assert_eq!(of(0), (&Value::Null, &"no-client".into()), "nobody sends answers yet");
    assert_eq!(of(1), (&answer, &Value::Null));
    assert_eq!(of(2), (&Value::Null, &"answered-lately".into()));
    assert_eq!(of(3), (&Value::Null, &"answered-lately".into()), "its key says so");
    assert_eq!(of(4), (&answer, &Value::Null));
    assert!(told.iter().all(|told| told["client"] == "desk" && told["handset"]["label"] == "service"), "{told:?}");
    assert_eq!(sender.0.lock().len(), 3);
}

#[tokio::test]
async fn who_opts_out_or_answers_nobody_has_no_answer() {
    let bench = Bench::new();
    let (replies, sender) = (bench.open().await, Arc::new(Sender::default()));
    replies.answer_by(sender.clone());
    with_rule(&bench, None);
    replies.take(bench.message("help")).await.unwrap();
    note(&replies, None, Class::Marketing);
    replies.take(bench.message("STOP")).await.unwrap();
    let told = bench.told("replied");
    let why: Vec<_> = told.iter().map(|told| told["handset"]["not_answered"].clone()).collect();
    assert_eq!((why, sender.0.lock().len()), (vec!["no-client".into(), "opted-out".into()], 0));
    assert_eq!(bench.told("opted_out").len(), 1);
}
