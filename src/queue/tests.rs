//! The queue over a real log on a real disk: what is promised, and what a restart finds.

mod again;
mod operators;
mod restarts;
mod shelved;
mod sites;
mod texts;

use std::collections::HashSet;
use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;

use super::accept::FULL_RETRY_AFTER;
use super::table::MOVE_TAKES;
use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::event::log as event_log;
use crate::model::{
    Address, BodyKind, CarrierMessageId, Class, Content, EnhancedStatus, Envelope, Failure, Idempotency, MailData,
    MailOrigin, Mailbox, Number, Origin, Outcome, PartState, Receipt, ReceiptState, Recipient, RecipientOutcome,
    Relayed, Reply, Responsibility, ReversePath, Rule, Scope, SmsText, Stage, Submission, TextOrigin, TextProgress,
    TlsWish,
};
use crate::route::{Course, TextRoute};
use crate::schedule::SiteId;

/// What a start has found, once all is taken in.
pub(in crate::queue) struct Found {
    messages: u64,
    unknown: u64,
    facts: u64,
    strange: u64,
}

pub(in crate::queue) struct Bench {
    dir: TempDir,
    pub(in crate::queue) clock: Arc<ManualClock>,
    options: Options,
    segment_bytes: u32,
}

impl Bench {
    pub(in crate::queue) fn new() -> Self {
        let mut options = Options::default();
        // Shares are looked at from upkeep, by the real second: on a slow disk in the middle of a test. They have tests of
        // their own.
        options.pace.shares.volume = u32::MAX;
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000))),
            options,
            segment_bytes: 64 << 20,
        }
    }

    pub(in crate::queue) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn event_file(&self) -> PathBuf {
        self.dir.path().join("events.jsonl")
    }

    pub(in crate::queue) async fn open(&self) -> (Queue, Found) {
        let events = event_log::Options { file: self.event_file(), rotate_bytes: 1 << 30, keep: 1 };
        let routes = Routes {
            mail: Vec::new(),
            text: vec![TextRoute::by_prefix("+86", Course::in_order([Arc::from("cmcc")]))].into(),
        };
        let small = self.segment_bytes < 1 << 20;
        let log_options = crate::storage::Options {
            segment_bytes: self.segment_bytes,
            batch_bytes_max: if small { self.segment_bytes as usize / 4 } else { crate::limits::BATCH_BYTES_MAX },
            inline_body_bytes_max: if small { 1024 } else { crate::limits::INLINE_BODY_BYTES_MAX },
            reserve_bytes: 0,
            alignment: 64,
            ..crate::storage::Options::default()
        };
        let dir = self.dir.path().join("spool");
        // What was open before may still be letting go of it.
        let (queue, recovery) = loop {
            let metrics = Arc::new(Metrics::new());
            let events = EventLog::open(events.clone(), metrics.clone()).unwrap();
            let place = Place { disk: Arc::new(crate::storage::RealDisk), dir: &dir, log: log_options.clone() };
            let routes = Arc::new(ArcSwap::from_pointee(routes.clone()));
            match Queue::open(place, self.options.clone(), routes, self.clock.clone(), events, metrics) {
                Ok(opened) => break opened,
                Err(crate::storage::OpenError::InUse(_)) => tokio::task::yield_now().await,
                Err(e) => panic!("{e}"),
            }
        };
        let Progress { messages, unknown, .. } = queue.loaded().await;
        (queue, Found { messages, unknown, facts: recovery.facts, strange: recovery.strange })
    }

    pub(in crate::queue) async fn close(&self, queue: Queue) {
        queue.shutdown().await;
        queue.shared.events.close();
    }

    fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.event_file()).unwrap();
        let word = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string();
        text.lines().map(|l| word(l).trim_matches('"').to_owned()).collect()
    }

    pub(in crate::queue) fn mail(&self, to: &[&str]) -> Submission {
        let content = MailData::new(Bytes::from_static(b"From: a@example.com\r\n\r\nhello\r\n")).unwrap();
        let origin = Origin::Mail(MailOrigin {
            reverse_path: ReversePath::Mailbox(Mailbox::parse("a@example.com").unwrap()),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            tls: TlsWish::None,
            body_hash: [0; 32],
            header_bytes: 23,
        });
        let to = to.iter().map(|t| Recipient::new(Address::Mailbox(Mailbox::parse(t).unwrap())));
        Submission { envelope: self.envelope(origin, to.collect()), content: Content::Mail(content) }
    }

    fn text(&self) -> Submission {
        let to = Recipient::new(Address::Number(Number::parse("+8613800138000").unwrap()));
        let envelope = self.envelope(Origin::Text(TextOrigin { from: None }), vec![to]);
        Submission { envelope, content: Content::Text(SmsText::new("your code is 123456").unwrap()) }
    }

    fn envelope(&self, origin: Origin, recipients: Vec<Recipient>) -> Envelope {
        let now = self.clock.now();
        Envelope {
            id: MessageId::new(now),
            client: "shop".into(),
            class: Class::Transactional,
            campaign: None,
            tags: Vec::new(),
            client_ref: None,
            received_at: now,
            send_at: None,
            expires_at: None,
            idempotency: None,
            origin,
            recipients,
        }
    }
}

fn keyed(mut submission: Submission, key: &str, print: u8) -> Submission {
    submission.envelope.idempotency = Some(Idempotency { key: key.into(), fingerprint: [print; 32] });
    submission
}

pub(in crate::queue) fn lease(queue: &Queue) -> Lease {
    try_lease(queue).expect("something to lease")
}

/// The same, though it may have to be waited for: what upkeep moves just then is put back for a moment.
async fn next_lease(queue: &Queue, bench: &Bench) -> Lease {
    let leased = async {
        loop {
            if let Some(lease) = try_lease(queue) {
                return lease;
            }
            bench.clock.advance(MOVE_TAKES);
            let _ = tokio::time::timeout(Duration::from_millis(1), queue.work()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), leased).await.expect("something to lease")
}

/// Whatever any site has to give.
fn try_lease(queue: &Queue) -> Option<Lease> {
    queue.advance();
    let mut sites: Vec<SiteId> = queue.shared.table.lock().targets.keys().copied().collect();
    sites.sort_unstable();
    sites.into_iter().find_map(|site| match queue.pull(site) {
        Pull::Lease(lease) => Some(lease),
        _ => None,
    })
}

fn outcomes(lease: &Lease, outcome: &Outcome) -> Vec<RecipientOutcome> {
    lease.outcomes(outcome)
}

fn relayed() -> Outcome {
    Outcome::Relayed(Relayed { reply: Reply { code: 250, enhanced: None, text: "ok".into() }, notifies: true })
}

fn delayed() -> Outcome {
    let status = EnhancedStatus::new(4, 2, 1);
    Outcome::Delayed(Failure::without_reply(Scope::Recipient, Stage::Recipient, status, "greylisted"))
}

fn failed() -> Outcome {
    let status = EnhancedStatus::new(5, 1, 1);
    Outcome::Failed(Failure::without_reply(Scope::Recipient, Stage::Recipient, status, "no such user"))
}

/// Waits until everything handed over has been settled.
pub(in crate::queue) async fn settled(queue: &Queue) {
    let _all = queue.shared.settling.acquire_many(SETTLING_MAX as u32).await.unwrap();
}

async fn status(queue: &Queue, id: MessageId) -> String {
    settled(queue).await;
    queue.message(id, None).await.map_or_else(|| "forgotten".to_owned(), |m| m.status)
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_and_what_ended_is_not() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let kept = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    let gone = queue.accept(bench.mail(&["y@example.org"])).await.unwrap().message_id();
    let mut turns = [lease(&queue), lease(&queue)];
    for turn in &mut turns {
        turn.load().await.unwrap();
    }
    let [one, two] = turns;
    let is_gone = |l: &Lease| l.consignment.as_ref().is_some_and(|c| c.envelope.id == gone);
    let (ends, returns) = if is_gone(&one) { (one, two) } else { (two, one) };
    let all = outcomes(&ends, &relayed());
    ends.settle(all, Vec::new()).await;
    drop(returns);
    assert_eq!(status(&queue, gone).await, "delivered");
    bench.close(queue).await;
    let (queue, recovery) = bench.open().await;
    assert_eq!(recovery.messages, 1);
    assert_eq!(status(&queue, gone).await, "delivered", "the history knows it while its record is on disk");
    let mut left = lease(&queue);
    assert_eq!(left.load().await.unwrap().envelope.id, kept);
    assert!(try_lease(&queue).is_none());
    drop(left);
    bench.close(queue).await;
    assert_eq!(bench.events(), ["accepted", "accepted", "delivered"]);
}

#[tokio::test]
async fn facts_that_a_crash_kept_from_the_event_file_are_told_at_the_next_start() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for to in ["x@example.net", "y@example.org"] {
        queue.accept(bench.mail(&[to])).await.unwrap();
    }
    for outcome in [relayed(), delayed()] {
        let turn = lease(&queue);
        let all = outcomes(&turn, &outcome);
        turn.settle(all, Vec::new()).await;
    }
    bench.close(queue).await;
    let whole = std::fs::read_to_string(bench.event_file()).unwrap();
    let first_line = whole.find('\n').unwrap() + 1;
    std::fs::write(bench.event_file(), &whole[..first_line + 20]).unwrap();
    let (queue, recovery) = bench.open().await;
    assert_eq!(recovery.facts, 3);
    bench.close(queue).await;
    let completed = std::fs::read_to_string(bench.event_file()).unwrap();
    let mut events: Vec<&str> = ["accepted", "delivered", "delayed"]
        .into_iter()
        .flat_map(|word| std::iter::repeat_n(word, completed.matches(&format!("\"event\":\"{word}\"")).count()))
        .collect();
    events.sort_unstable();
    assert_eq!(events, ["accepted", "accepted", "delayed", "delivered"]);
    let (queue, recovery) = bench.open().await;
    assert_eq!(recovery.facts, 0, "told once");
    drop(queue);
}

#[tokio::test]
async fn a_dropped_lease_goes_back_to_its_lane() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    queue.accept(bench.mail(&["x@example.net"])).await.unwrap();
    let first = lease(&queue);
    assert!(try_lease(&queue).is_none());
    drop(first);
    assert_eq!(lease(&queue).recipients(), [0]);
}

#[tokio::test]
async fn recipients_of_one_lane_go_together_and_end_one_by_one() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let submission = bench.mail(&["a@example.net", "b@example.net", "c@example.org"]);
    let id = queue.accept(submission).await.unwrap().message_id();
    let (one, two) = (lease(&queue), lease(&queue));
    let (pair, single) = if one.recipients().len() == 2 { (one, two) } else { (two, one) };
    assert_eq!((pair.recipients(), single.recipients()), (vec![0, 1], vec![2]));
    let mut mixed = outcomes(&pair, &relayed());
    mixed[1].outcome = delayed();
    pair.settle(mixed, Vec::new()).await;
    let all = outcomes(&single, &relayed());
    single.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "delayed");
    let view = queue.message(id, None).await.unwrap();
    let states: Vec<&str> = view.recipients.iter().map(|r| r.status.as_str()).collect();
    assert_eq!(states, ["delivered", "delayed", "delivered"]);
    assert!(try_lease(&queue).is_none(), "not before its time");
    bench.clock.advance(Duration::from_secs(70));
    let again = lease(&queue);
    assert_eq!(again.recipients(), [1]);
    let all = outcomes(&again, &relayed());
    again.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "delivered");
}

#[tokio::test]
async fn a_pause_that_a_provider_asks_for_is_kept_and_its_rule_is_shown() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    let Outcome::Delayed(failure) = delayed() else { panic!("delayed expected") };
    let rule = Rule { id: "qq-rate-ip".into(), class: "rate-ip".into() };
    let hour = Duration::from_secs(3_600);
    let waits = Outcome::Delayed(Failure { rule: Some(rule), retry_after: Some(hour), ..failure });
    let turn = lease(&queue);
    let all = outcomes(&turn, &waits);
    turn.settle(all, Vec::new()).await;
    settled(&queue).await;
    bench.clock.advance(hour - Duration::from_secs(1));
    assert!(try_lease(&queue).is_none(), "the first pause of the schedule is a minute");
    bench.close(queue).await;

    let (queue, _) = bench.open().await;
    let view = queue.message(id, None).await.unwrap();
    assert_eq!(view.recipients[0].attempts[0].rule.as_deref(), Some("qq-rate-ip (rate-ip)"));
    bench.clock.advance(hour / 4);
    drop(lease(&queue));
    bench.close(queue).await;
    let events = std::fs::read_to_string(bench.event_file()).unwrap();
    assert!(events.contains(r#""stage":"rcpt","rule":{"id":"qq-rate-ip","class":"rate-ip"}"#), "{events}");
}

#[tokio::test]
async fn retries_follow_the_schedule_over_restarts_until_the_message_expires() {
    let bench = Bench::new();
    let (mut queue, _) = bench.open().await;
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    for (attempt, minutes) in [(1, 1), (2, 5), (3, 15)] {
        let turn = lease(&queue);
        let all = outcomes(&turn, &delayed());
        turn.settle(all, Vec::new()).await;
        settled(&queue).await;
        bench.close(queue).await;
        (queue, _) = bench.open().await;
        let view = queue.message(id, None).await.unwrap();
        assert_eq!(view.recipients[0].attempts_made, attempt);
        bench.clock.advance(Duration::from_secs(minutes * 60 * 84 / 100));
        assert!(try_lease(&queue).is_none(), "attempt {attempt}: too early");
        bench.clock.advance(Duration::from_secs(minutes * 60 * 32 / 100 + 1));
    }
    bench.clock.advance(Duration::from_secs(4 * 86_400));
    assert!(try_lease(&queue).is_none(), "expired messages are not attempted");
    let overdue = queue.take_overdue(10).await.pop().expect("overdue");
    assert_eq!((overdue.end, overdue.recipients.len()), (End::Expired, 1));
    assert!(queue.take_overdue(10).await.is_empty(), "taken once only");
    queue.end(overdue, vec![bench.mail(&["a@example.com"])]).await;
    assert_eq!(status(&queue, id).await, "expired");
    let mut bounce = lease(&queue);
    assert_eq!(bounce.load().await.unwrap().recipients, [0]);
}

#[tokio::test]
async fn a_failure_and_its_bounce_are_settled_together() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    let turn = lease(&queue);
    let all = outcomes(&turn, &failed());
    let bounce = bench.mail(&["a@example.com"]);
    let bounce_id = bounce.envelope.id;
    turn.settle(all, vec![bounce]).await;
    assert_eq!(status(&queue, id).await, "bounced");
    bench.close(queue).await;
    let (queue, recovery) = bench.open().await;
    assert_eq!(recovery.messages, 1);
    assert_eq!(status(&queue, bounce_id).await, "queued");
    bench.close(queue).await;
    let line = std::fs::read_to_string(bench.event_file()).unwrap();
    let bounced = line.lines().find(|l| l.contains("\"bounced\"")).unwrap();
    assert!(bounced.contains(r#""bounce":{"type":"hard","category":"recipient"}"#), "{bounced}");
}

#[tokio::test]
async fn the_same_key_is_the_same_message_also_side_by_side_and_after_a_restart() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let many = (0..16).map(|_| {
        let (queue, submission) = (queue.clone(), keyed(bench.mail(&["x@example.net"]), "order-1", 1));
        tokio::spawn(async move { queue.accept(submission).await.unwrap() })
    });
    let mut ids = HashSet::new();
    let mut fresh = 0;
    for task in many.collect::<Vec<_>>() {
        let accepted = task.await.unwrap();
        fresh += usize::from(!accepted.replayed());
        ids.insert(accepted.message_id());
    }
    assert_eq!((ids.len(), fresh), (1, 1));
    let other = keyed(bench.mail(&["x@example.net"]), "order-1", 2);
    assert_eq!(queue.accept(other).await.unwrap_err(), AcceptError::KeyReused);
    bench.close(queue).await;

    let (queue, _) = bench.open().await;
    let again = queue.accept(keyed(bench.mail(&["x@example.net"]), "order-1", 1)).await.unwrap();
    assert!(again.replayed() && ids.contains(&again.message_id()));
    bench.clock.advance(Duration::from_secs(25 * 3_600));
    queue.keep_up(&mut upkeep::Stuck::new()).await;
    let later = queue.accept(keyed(bench.mail(&["x@example.net"]), "order-1", 2)).await.unwrap();
    assert!(!later.replayed(), "a key is kept for a day");
}

#[tokio::test]
async fn a_full_queue_says_so_and_takes_again_once_something_has_ended() {
    let mut bench = Bench::new();
    bench.options.client_messages_max = 2;
    let (queue, _) = bench.open().await;
    for _ in 0..2 {
        queue.accept(bench.mail(&["x@example.net"])).await.unwrap();
    }
    let refused = queue.accept(keyed(bench.mail(&["x@example.net"]), "k", 1)).await;
    assert_eq!(refused.unwrap_err(), AcceptError::Full { retry_after: FULL_RETRY_AFTER });
    let turn = lease(&queue);
    let all = outcomes(&turn, &relayed());
    turn.settle(all, Vec::new()).await;
    settled(&queue).await;
    queue.accept(keyed(bench.mail(&["x@example.net"]), "k", 1)).await.expect("room again, and the key is free");
}

#[tokio::test]
async fn a_number_that_no_carrier_serves_is_refused() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let mut submission = bench.text();
    submission.envelope.recipients[0].address = Address::Number(Number::parse("+14155550100").unwrap());
    let address = "+14155550100".to_owned();
    assert_eq!(queue.accept(submission).await.unwrap_err(), AcceptError::NoRoute { address });
}

#[tokio::test]
async fn content_that_is_not_in_memory_is_read_back() {
    let mut bench = Bench::new();
    bench.options.body_cache_bytes_max = 0;
    let (queue, _) = bench.open().await;
    let submission = bench.mail(&["x@example.net"]);
    let content = submission.content.clone();
    queue.accept(submission).await.unwrap();
    let mut turn = lease(&queue);
    assert!(turn.consignment.is_none());
    assert_eq!(turn.load().await.unwrap().content, content);
}

/// A hostile next hop may answer with 64 KiB, for each of a hundred recipients.
#[tokio::test]
async fn a_long_reply_to_many_recipients_is_cut_and_recorded() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let to: Vec<String> = (0..100).map(|n| format!("r{n}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = queue.accept(bench.mail(&to)).await.unwrap().message_id();
    let turn = lease(&queue);
    let reply = Reply { code: 250, enhanced: None, text: "ä".repeat(30_000) };
    let all = outcomes(&turn, &Outcome::Relayed(Relayed { reply, notifies: true }));
    assert_eq!(all.len(), 100);
    turn.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "delivered");
    let kept = queue.message(id, None).await.unwrap().recipients[0].attempts[0].reply.clone().unwrap();
    assert!(kept.ends_with(" …") && kept.len() < 1_100, "{} octets", kept.len());
}

#[tokio::test]
async fn what_a_next_hop_says_of_a_code_shows_no_address() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let mut submission = bench.mail(&["lin@example.net"]);
    submission.envelope.class = Class::Otp;
    let id = queue.accept(submission).await.unwrap().message_id();
    let turn = lease(&queue);
    let status_code = EnhancedStatus::new(5, 1, 1);
    let mut failure =
        Failure::without_reply(Scope::Recipient, Stage::Recipient, status_code, "lin@example.net refused");
    failure.reply = Some(Reply { code: 550, enhanced: None, text: "<lin@example.net>: no such user".into() });
    let all = outcomes(&turn, &Outcome::Failed(failure));
    turn.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "bounced");
    let seen = serde_json::to_string(&queue.message(id, None).await.unwrap()).unwrap();
    assert!(!seen.contains("lin@") && seen.contains("l***@example.net"), "{seen}");
    bench.close(queue).await;
    assert!(!std::fs::read_to_string(bench.event_file()).unwrap().contains("lin@"));
}

#[tokio::test]
async fn flushing_hurries_retries_and_not_what_its_sender_scheduled() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let mut scheduled = bench.mail(&["x@example.net"]);
    scheduled.envelope.send_at = Some(bench.clock.now().plus(Duration::from_secs(3_600)));
    let scheduled = queue.accept(scheduled).await.unwrap().message_id();
    let delayed_id = queue.accept(bench.mail(&["y@example.net"])).await.unwrap().message_id();
    let turn = lease(&queue);
    let all = outcomes(&turn, &delayed());
    turn.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, delayed_id).await, "delayed");
    assert_eq!(queue.flush(steering::Selector::default(), "lin").await, Ok(1));
    let mut hurried = lease(&queue);
    assert_eq!(hurried.load().await.unwrap().envelope.id, delayed_id);
    assert!(try_lease(&queue).is_none());
    assert_eq!(status(&queue, scheduled).await, "scheduled");
}

#[tokio::test]
async fn a_destination_that_is_down_is_probed_not_hammered() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for _ in 0..50 {
        queue.accept(bench.mail(&["x@example.net"])).await.unwrap();
    }
    let status = EnhancedStatus::new(4, 4, 1);
    let down = Outcome::Delayed(Failure::without_reply(Scope::Host, Stage::Connect, status, "connection refused"));
    let turn = lease(&queue);
    let all = outcomes(&turn, &down);
    turn.settle(all, Vec::new()).await;
    settled(&queue).await;
    assert!(try_lease(&queue).is_none());
    let waiting = queue.explain("x@example.net", 50).await;
    let says = |m: &&MessageView| m.recipients[0].waiting_for.as_deref().unwrap_or_default().contains("left alone");
    assert_eq!(waiting.iter().filter(says).count(), 49);
    assert_eq!(waiting.iter().filter(|m| m.status == "delayed").count(), 1);
}

#[tokio::test]
async fn what_is_held_is_accepted_and_goes_out_when_let_go() {
    let mut bench = Bench::new();
    bench.options.held = true;
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    assert!(try_lease(&queue).is_none());
    assert_eq!(status(&queue, id).await, "held");
    queue.hold(false);
    assert!(try_lease(&queue).is_some());
}

/// Long-lived messages leave segments in which nearly everything has ended; afterwards everything is still there, once.
#[tokio::test]
async fn leftovers_move_forward_and_stay_what_they_are() {
    let mut bench = Bench::new();
    bench.segment_bytes = 16 << 10;
    let (queue, _) = bench.open().await;
    let mut kept = HashSet::new();
    for n in 0..400 {
        let to = if n % 40 == 0 { "slow@example.org" } else { "x@example.net" };
        let submission = keyed(bench.mail(&[to]), &format!("k{n}"), 1);
        let id = queue.accept(submission).await.unwrap().message_id();
        let turn = lease(&queue);
        let outcome = if n % 40 == 0 { delayed() } else { relayed() };
        kept.extend((n % 40 == 0).then_some(id));
        let all = outcomes(&turn, &outcome);
        turn.settle(all, Vec::new()).await;
        settled(&queue).await;
    }
    // The log removes segments on a thread of its own; how many there have been is the disk's speed to say.
    let emptied = async {
        loop {
            queue.keep_up(&mut upkeep::Stuck::new()).await;
            let segments = queue.log().segments();
            let (live, room) = (segments.iter().map(|s| s.live_bytes).sum::<u64>(), u64::from(bench.segment_bytes));
            let few = segments.len() as u64 * room <= live * 5 + 10 * room && segments[0].segment > 0;
            if few && queue.log().leftovers(1).is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptied).await.expect("few segments are left");
    bench.close(queue).await;
    let (queue, recovery) = bench.open().await;
    assert_eq!((recovery.messages, recovery.strange), (10, 0));
    for id in &kept {
        let view = queue.message(*id, None).await.expect("kept");
        assert_eq!((view.status.as_str(), view.recipients[0].attempts_made), ("delayed", 1));
    }
    for n in [0, 17, 399] {
        let again = keyed(bench.mail(&["x@example.net"]), &format!("k{n}"), 1);
        assert!(queue.accept(again).await.unwrap().replayed(), "key {n}");
    }
    bench.clock.advance(Duration::from_secs(300));
    let mut found = HashSet::new();
    while found.len() < kept.len() {
        let mut turn = next_lease(&queue, &bench).await;
        assert!(found.insert(turn.load().await.unwrap().envelope.id), "leased twice");
        let all = outcomes(&turn, &relayed());
        turn.settle(all, Vec::new()).await;
        settled(&queue).await;
    }
    assert!(found == kept && try_lease(&queue).is_none());
}
