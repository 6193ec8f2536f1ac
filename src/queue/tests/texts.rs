//! Texts: parts, receipts, throttling, and what a crash leaves of them.

use super::*;

pub(super) fn progress(parts: Vec<PartState>) -> TextProgress {
    TextProgress { parts, ..TextProgress::new("cmcc".into(), 7, 0) }
}

pub(super) fn receipt(id: &str, state: ReceiptState) -> Receipt {
    let carrier_message_id: CarrierMessageId = id.into();
    let received_at = Timestamp::from_seconds(1_800_000_100);
    Receipt { carrier: "cmcc".into(), carrier_message_id, state, text: "stat:X".into(), received_at }
}

/// Sends a text of two parts that the carrier takes as `100` and `101`.
pub(super) async fn sent(queue: &Queue, bench: &Bench) -> MessageId {
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    let mut turn = lease(queue);
    turn.load().await.unwrap();
    turn.begin(progress(vec![PartState::Waiting; 2])).await.unwrap();
    let mut all = outcomes(&turn, &relayed());
    all[0].progress = Some(progress(vec![PartState::Sent("100".into()), PartState::Sent("101".into())]));
    turn.settle(all, Vec::new()).await;
    id
}

#[tokio::test]
async fn a_text_is_delivered_when_every_part_has_its_receipt_also_over_a_restart() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = sent(&queue, &bench).await;
    assert_eq!(status(&queue, id).await, "sent");
    queue.receipt(receipt("100", ReceiptState::Delivered)).await.unwrap();
    queue.receipt(receipt("100", ReceiptState::Delivered)).await.unwrap();
    bench.close(queue).await;
    let (queue, recovery) = bench.open().await;
    assert_eq!((recovery.messages, recovery.unknown), (1, 0));
    assert_eq!(status(&queue, id).await, "sent");
    queue.receipt(receipt("101", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, id).await, "delivered");
    bench.close(queue).await;
    assert_eq!(bench.events(), ["accepted", "sent", "receipt", "delivered"]);
}

#[tokio::test]
async fn receipts_side_by_side_do_not_lose_each_other_and_one_lost_part_spoils_the_text() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = sent(&queue, &bench).await;
    settled(&queue).await;
    let (one, two) = tokio::join!(
        queue.receipt(receipt("100", ReceiptState::Undeliverable)),
        queue.receipt(receipt("101", ReceiptState::Delivered))
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(status(&queue, id).await, "undelivered");
}

#[tokio::test]
async fn a_text_whose_answer_a_crash_swallowed_is_unknown_and_not_sent_again() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    let mut turn = lease(&queue);
    turn.begin(progress(vec![PartState::Waiting])).await.unwrap();
    // No outcome: what a crash leaves behind.
    bench.close(queue.clone()).await;
    drop(turn);
    drop(queue);
    let (queue, recovery) = bench.open().await;
    assert_eq!(recovery.unknown, 1);
    while queue.message(id, None).await.unwrap().status != "unknown" {
        tokio::task::yield_now().await;
    }
    assert!(try_lease(&queue).is_none());
    bench.close(queue).await;
    let (queue, recovery) = bench.open().await;
    assert_eq!((recovery.messages, recovery.unknown), (0, 0));
    drop(queue);
}

/// The receipt of a part that its carrier took comes while another part still waits.
#[tokio::test]
async fn a_receipt_may_come_before_the_last_part_is_sent() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    let turn = lease(&queue);
    let mut failure =
        Failure::without_reply(Scope::Recipient, Stage::Submit, EnhancedStatus::new(4, 4, 5), "throttled");
    failure.throttled = true;
    let mut all = outcomes(&turn, &Outcome::Delayed(failure));
    all[0].progress = Some(progress(vec![PartState::Sent("1".into()), PartState::Waiting]));
    turn.settle(all, Vec::new()).await;
    settled(&queue).await;
    queue.receipt(receipt("1", ReceiptState::Delivered)).await.unwrap();
    bench.clock.advance(Duration::from_secs(2));
    let turn = lease(&queue);
    let mut all = outcomes(&turn, &relayed());
    all[0].progress = Some(progress(vec![PartState::Sent("1".into()), PartState::Sent("2".into())]));
    turn.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "sent");
    queue.receipt(receipt("2", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, id).await, "delivered");
    queue.receipt(receipt("2", ReceiptState::Delivered)).await.expect("a repetition is answered");
}

#[tokio::test]
async fn a_text_that_waits_for_its_receipt_does_not_count_against_its_client() {
    let mut bench = Bench::new();
    bench.options.client_messages_max = 1;
    let (queue, _) = bench.open().await;
    for _ in 0..3 {
        let id = sent(&queue, &bench).await;
        assert_eq!(status(&queue, id).await, "sent");
    }
    assert_eq!(queue.overview(1).messages, 0);
}

#[tokio::test]
async fn a_throttled_text_keeps_the_parts_it_has_and_comes_back_soon() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let id = queue.accept(bench.text()).await.unwrap().message_id();
    let turn = lease(&queue);
    let mut failure =
        Failure::without_reply(Scope::Recipient, Stage::Submit, EnhancedStatus::new(4, 4, 5), "throttled");
    failure.throttled = true;
    let mut all = outcomes(&turn, &Outcome::Delayed(failure));
    all[0].progress = Some(progress(vec![PartState::Sent("1".into()), PartState::Waiting]));
    turn.settle(all, Vec::new()).await;
    assert_eq!(status(&queue, id).await, "delayed");
    assert_eq!(queue.message(id, None).await.unwrap().recipients[0].attempts_made, 0);
    bench.clock.advance(Duration::from_secs(2));
    let mut again = lease(&queue);
    let parts = again.load().await.unwrap().progress.clone().unwrap().parts;
    assert_eq!(parts, [PartState::Sent("1".into()), PartState::Waiting]);
}
