//! Texts that leave once more: to another carrier, or after an answer that was lost.

use super::texts::receipt;
use super::*;
use crate::queue::Again;

fn at(carrier: &str, parts: Vec<PartState>, before: Option<TextProgress>) -> TextProgress {
    let before = before.map(Box::new);
    TextProgress { parts, before, ..TextProgress::new(carrier.into(), 7, 0) }
}

fn part(id: &str) -> PartState {
    PartState::Sent(id.into())
}

fn received(id: &str, state: ReceiptState) -> PartState {
    PartState::Received(id.into(), state)
}

fn from(carrier: &str, id: &str, state: ReceiptState) -> Receipt {
    let received_at = Timestamp::from_seconds(1_800_000_000);
    Receipt { carrier: carrier.into(), received_at, ..receipt(id, state) }
}

/// A bench whose codes go by two carriers and then by a call, the next after half a minute.
async fn bench(again: Again) -> (Bench, Queue) {
    let mut bench = Bench::new();
    bench.options.again = [again.clone(), again.clone(), again];
    bench.options.receipt_wait_max = Duration::from_secs(600);
    let (queue, _) = open(&bench).await;
    (bench, queue)
}

async fn open(bench: &Bench) -> (Queue, Found) {
    let (queue, found) = bench.open().await;
    let names = |names: &[&str]| names.iter().map(|n| Arc::from(*n)).collect::<Vec<Arc<str>>>();
    let course = Course { then: names(&["call"]).into(), ..Course::in_order(names(&["cmcc", "ctcc"])) };
    let routes = Routes { mail: Vec::new(), text: vec![TextRoute::by_prefix("+86", course)].into() };
    queue.shared.routes.store(Arc::new(routes));
    queue.reconfigure(bench.options.clone());
    (queue, found)
}

fn codes() -> Again {
    Again { receipt_within: Some(Duration::from_secs(30)), after_failure: true, carriers_max: 3, ..Again::default() }
}

/// Accepts a text and has its carrier take it.
async fn sent(queue: &Queue, bench: &Bench) -> MessageId {
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    sent_by(queue, at("cmcc", vec![PartState::Waiting], None), vec![part("a1")]).await;
    id
}

/// The next attempt begins and ends so.
async fn attempt(queue: &Queue, progress: TextProgress, after: Vec<PartState>, outcome: &Outcome) {
    let mut turn = lease(queue);
    turn.load().await.unwrap();
    turn.begin(progress.clone()).await.unwrap();
    let mut all = outcomes(&turn, outcome);
    all[0].progress = Some(TextProgress { parts: after, ..progress });
    turn.settle(all, Vec::new()).await;
    settled(queue).await;
}

async fn sent_by(queue: &Queue, progress: TextProgress, parts: Vec<PartState>) {
    attempt(queue, progress, parts, &relayed()).await;
}

/// What a lease would carry now.
async fn progress_of_next(queue: &Queue) -> TextProgress {
    let mut turn = lease(queue);
    turn.load().await.unwrap().progress.clone().unwrap()
}

/// Time passes, and what is overdue is seen to; nothing of it may end.
async fn pass(queue: &Queue, bench: &Bench, seconds: u64) {
    bench.clock.advance(Duration::from_secs(seconds));
    queue.advance();
    assert!(queue.take_overdue(9).await.is_empty());
    while queue.shared.table.lock().end_of_numbers() > 0 && is_moving(queue) {
        tokio::task::yield_now().await;
    }
}

fn is_moving(queue: &Queue) -> bool {
    let table = queue.shared.table.lock();
    (0..table.end_of_numbers()).filter_map(|n| table.entry(n)).any(|entry| entry.moving)
}

#[tokio::test]
async fn without_a_receipt_a_code_goes_to_the_next_carrier_and_who_delivers_first_ends_it() {
    let (bench, queue) = bench(codes()).await;
    let id = sent(&queue, &bench).await;
    pass(&queue, &bench, 29).await;
    assert_eq!(status(&queue, id).await, "sent");
    assert!(try_lease(&queue).is_none());
    let waits = queue.message(id, None).await.unwrap().recipients[0].waiting_for.clone().unwrap();
    assert!(waits.contains("goes to another carrier at"), "{waits}");
    pass(&queue, &bench, 2).await;
    assert_eq!(status(&queue, id).await, "delayed");
    let known = progress_of_next(&queue).await;
    assert_eq!(known, at("cmcc", vec![part("a1")], None), "where it went stays known");
    sent_by(&queue, at("ctcc", vec![PartState::Waiting], Some(known)), vec![part("b1")]).await;
    assert_eq!(status(&queue, id).await, "sent");
    // A restart forgets none of the two.
    bench.close(queue).await;
    let (queue, found) = open(&bench).await;
    assert_eq!((found.messages, found.unknown), (1, 0));
    let view = queue.message(id, None).await.unwrap();
    let parts: Vec<String> =
        view.recipients[0].parts.iter().map(|p| format!("{} {} {}", p.carrier, p.part, p.state)).collect();
    assert_eq!(parts, ["ctcc 1 sent", "cmcc 1 sent"]);
    queue.receipt(from("ctcc", "b1", ReceiptState::Underway)).await.unwrap();
    queue.receipt(from("cmcc", "a1", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, id).await, "delivered");
    queue.receipt(from("ctcc", "b1", ReceiptState::Delivered)).await.expect("it says nothing new");
    bench.close(queue).await;
    assert_eq!(bench.events(), ["accepted", "sent", "delayed", "sent", "receipt", "delivered"]);
}

#[tokio::test]
async fn a_receipt_that_comes_while_a_code_waits_for_its_next_carrier_ends_it() {
    let (bench, queue) = bench(codes()).await;
    let id = sent(&queue, &bench).await;
    pass(&queue, &bench, 31).await;
    queue.receipt(from("cmcc", "a1", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, id).await, "delivered");
    assert!(try_lease(&queue).is_none());
    assert_eq!(queue.overview(9).messages, 0, "nothing is counted any more");
}

#[tokio::test]
async fn a_bad_receipt_or_a_refusal_sends_it_on_until_no_carrier_is_left() {
    let (bench, queue) = bench(codes()).await;
    let id = sent(&queue, &bench).await;
    queue.receipt(from("cmcc", "a1", ReceiptState::Undeliverable)).await.unwrap();
    assert_eq!(status(&queue, id).await, "delayed");
    let first = progress_of_next(&queue).await;
    assert_eq!(first.parts, [received("a1", ReceiptState::Undeliverable)]);
    attempt(&queue, at("ctcc", vec![PartState::Waiting], Some(first)), vec![PartState::Refused], &failed()).await;
    assert_eq!(status(&queue, id).await, "delayed");
    let second = progress_of_next(&queue).await;
    assert_eq!(second.chain().map(|at| &*at.carrier).collect::<Vec<_>>(), ["ctcc", "cmcc"]);
    sent_by(&queue, at("call", vec![PartState::Waiting], Some(second)), vec![part("c1")]).await;
    queue.receipt(from("call", "c1", ReceiptState::Undeliverable)).await.unwrap();
    assert_eq!(status(&queue, id).await, "undelivered");
    assert_eq!(queue.shared.metrics.texts.again.with_label_values(&["failed"]).get(), 2);
}

#[tokio::test]
async fn what_a_carrier_has_taken_is_waited_for_when_the_next_refuses_it_or_its_time_is_over() {
    let two = Again { carriers_max: 2, ..codes() };
    let (bench, queue) = bench(two).await;
    let id = sent(&queue, &bench).await;
    pass(&queue, &bench, 31).await;
    let first = progress_of_next(&queue).await;
    attempt(&queue, at("ctcc", vec![PartState::Waiting], Some(first)), vec![PartState::Refused], &failed()).await;
    assert_eq!(status(&queue, id).await, "sent", "there may be two carriers, and the first may still bring it");
    pass(&queue, &bench, 31).await;
    assert_eq!(status(&queue, id).await, "sent");
    queue.receipt(from("cmcc", "a1", ReceiptState::Undeliverable)).await.unwrap();
    assert_eq!(status(&queue, id).await, "undelivered");

    let mut text = bench.text();
    text.envelope.expires_at = Some(bench.clock.now().plus(Duration::from_secs(60)));
    let id = queue.accept(text).await.unwrap().message_id();
    sent_by(&queue, at("cmcc", vec![PartState::Waiting], None), vec![part("a2")]).await;
    pass(&queue, &bench, 31).await;
    assert_eq!(status(&queue, id).await, "delayed");
    // Nobody takes it any more, but the first may bring it for as long as any receipt is waited for.
    pass(&queue, &bench, 31).await;
    assert_eq!(status(&queue, id).await, "sent");
    assert!(try_lease(&queue).is_none());
    bench.clock.advance(Duration::from_secs(601));
    queue.advance();
    let over = queue.take_overdue(9).await.pop().expect("over");
    assert_eq!((over.envelope.id, over.end), (id, End::SentWithoutReceipt));
}

#[tokio::test]
async fn who_may_not_go_elsewhere_waits_as_long_as_any_text() {
    for again in [Again { carriers_max: 1, ..codes() }, Again { receipt_within: None, ..codes() }] {
        let (bench, queue) = bench(again).await;
        let id = sent(&queue, &bench).await;
        pass(&queue, &bench, 599).await;
        assert_eq!(status(&queue, id).await, "sent");
        bench.clock.advance(Duration::from_secs(2));
        queue.advance();
        assert_eq!(queue.take_overdue(9).await.len(), 1);
    }
}

#[tokio::test]
async fn a_notice_whose_answer_was_lost_leaves_once_more_and_once_only() {
    let (bench, queue) = bench(Again { unanswered: true, ..Again::default() }).await;
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    let waiting = at("cmcc", vec![PartState::Waiting], None);
    attempt(&queue, waiting.clone(), vec![PartState::Unanswered], &delayed()).await;
    assert_eq!(status(&queue, id).await, "delayed");
    bench.clock.advance(Duration::from_secs(70));
    let again = progress_of_next(&queue).await;
    assert_eq!(again, TextProgress { doubted: true, ..waiting });
    attempt(&queue, again, vec![PartState::Unanswered], &delayed()).await;
    assert_eq!(status(&queue, id).await, "unknown");
    assert_eq!(queue.shared.metrics.texts.again.with_label_values(&["unanswered"]).get(), 1);
}

#[tokio::test]
async fn a_notice_whose_answer_a_crash_swallowed_leaves_once_more_and_once_only() {
    let (bench, mut queue) = bench(Again { unanswered: true, ..Again::default() }).await;
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    for round in 0..2 {
        let mut turn = lease(&queue);
        let known = turn.load().await.unwrap().progress.clone();
        assert_eq!(known.as_ref().map(|known| known.doubted), (round > 0).then_some(true));
        turn.begin(known.unwrap_or_else(|| at("cmcc", vec![PartState::Waiting], None))).await.unwrap();
        bench.close(queue.clone()).await;
        drop(turn);
        drop(queue);
        let (opened, found) = open(&bench).await;
        assert_eq!(found.unknown, 1);
        queue = opened;
        let then = if round == 0 { "delayed" } else { "unknown" };
        while queue.message(id, None).await.unwrap().status != then {
            tokio::task::yield_now().await;
        }
    }
    assert!(try_lease(&queue).is_none());
}

/// Who has another carrier to go to soon is not put on the shelf; who has lain there has none any more, for its words are gone.
#[tokio::test]
async fn the_shelf_is_for_texts_that_have_nowhere_else_to_go() {
    let (mut bench, queue) = bench(codes()).await;
    let id = sent(&queue, &bench).await;
    bench.options.awaiting_in_memory_max = 0;
    queue.reconfigure(bench.options.clone());
    queue.shelve().await;
    assert!(queue.shared.table.lock().find(id).is_some(), "in half a minute it goes to the next carrier");
    bench.options.again = [(); 3].map(|()| Again { receipt_within: None, ..codes() });
    queue.reconfigure(bench.options.clone());
    queue.shelve().await;
    assert!(queue.shared.table.lock().find(id).is_none());
    queue.receipt(from("cmcc", "a1", ReceiptState::Undeliverable)).await.unwrap();
    assert_eq!(status(&queue, id).await, "undelivered");
    assert!(try_lease(&queue).is_none());
}
