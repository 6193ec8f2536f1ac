//! Texts that wait for receipts on the shelf: found, ended and shown as if they had never left.

use super::texts::{progress, receipt};
use super::*;

impl Bench {
    /// No text waits in memory.
    fn shelving() -> Self {
        let mut bench = Self::small();
        bench.options.awaiting_in_memory_max = 0;
        bench
    }

    fn shelf_files(&self) -> usize {
        std::fs::read_dir(self.path("spool/shelf")).map_or(0, Iterator::count)
    }
}

/// Sends a text of two parts; the ids that its carrier gives them end in 1 and 2.
async fn sent(queue: &Queue, bench: &Bench, id: usize) -> MessageId {
    let message = queue.accept(bench.text()).await.unwrap().message_id();
    let mut turn = lease(queue);
    turn.begin(progress(vec![PartState::Waiting; 2])).await.unwrap();
    let mut all = outcomes(&turn, &relayed());
    let part = |n: usize| PartState::Sent(format!("0{id}{n}").into());
    all[0].progress = Some(progress(vec![part(1), part(2)]));
    turn.settle(all, Vec::new()).await;
    settled(queue).await;
    message
}

/// A carrier quotes ids in decimal that it gave in hexadecimal: one text's id may be another's in the other form.
#[tokio::test]
async fn a_receipt_that_comes_once_more_is_not_taken_for_another_texts() {
    // In memory, and on the shelf.
    for awaiting in [10, 0] {
        let bench =
            Bench { options: Options { awaiting_in_memory_max: awaiting, ..Bench::small().options }, ..Bench::small() };
        let (queue, _) = bench.open().await;
        // 141 is 321 in hexadecimal, and 142 is 322.
        let (ended, waits) = (sent(&queue, &bench, 14).await, sent(&queue, &bench, 32).await);
        receipts(&queue, 14, &[1, 2]).await;
        queue.shelve().await;
        receipts(&queue, 14, &[1, 2]).await;
        assert_eq!((status(&queue, ended).await.as_str(), status(&queue, waits).await.as_str()), ("delivered", "sent"));
        assert_eq!(in_table(&queue, waits), awaiting > 0);
        receipts(&queue, 32, &[1, 2]).await;
        assert_eq!(status(&queue, waits).await, "delivered");
    }
}

fn in_table(queue: &Queue, id: MessageId) -> bool {
    queue.shared.table.lock().find(id).is_some()
}

async fn receipts(queue: &Queue, id: usize, parts: &[usize]) {
    for n in parts {
        queue.receipt(receipt(&format!("{id}{n}"), ReceiptState::Delivered)).await.unwrap();
    }
}

#[tokio::test]
async fn a_text_on_the_shelf_is_shown_and_gets_its_receipts_over_every_sort_of_restart() {
    let bench = Bench::shelving();
    let (mut queue, _) = bench.open().await;
    let mut ids = Vec::new();
    for n in 10..40 {
        ids.push(sent(&queue, &bench, n).await);
    }
    queue.shelve().await;
    for round in 0..3 {
        for (n, id) in ids.iter().enumerate().skip(10 * round) {
            assert!(!in_table(&queue, *id) && queue.lives(*id).await, "{n} in round {round}");
            let view = queue.message(*id, None).await.unwrap();
            assert_eq!((view.status.as_str(), view.recipients[0].parts.len()), ("sent", 2));
            assert_eq!((view.recipients[0].attempts_made, view.size > 0), (1, true));
        }
        for (n, id) in ids.iter().enumerate().skip(10 * round).take(10) {
            receipts(&queue, 10 + n, &[2]).await;
            assert!(in_table(&queue, *id), "one part has its receipt");
            assert_eq!(status(&queue, *id).await, "sent");
            if n % 2 == 0 {
                queue.shelve().await;
                assert!(!in_table(&queue, *id));
            }
            receipts(&queue, 10 + n, &[1, 1]).await;
            assert_eq!(status(&queue, *id).await, "delivered");
            assert!(!queue.lives(*id).await);
        }
        if round == 0 {
            bench.close(queue).await
        } else {
            bench.crash(queue).await
        }
        let found;
        (queue, found) = bench.open().await;
        assert_eq!((found.messages, found.strange), (0, 0), "round {round}");
        assert_eq!(queue.clone().count_shelved().await, 20 - 10 * round as u64);
    }
    bench.close(queue).await;
    let told = |kind: &str| bench.events().iter().filter(|event| *event == kind).count();
    assert_eq!(["accepted", "sent", "receipt", "delivered"].map(told), [30; 4]);
}

#[tokio::test]
async fn what_gets_no_receipt_ends_when_its_time_is_over_and_leaves_nothing_behind() {
    let bench = Bench::shelving();
    let (queue, _) = bench.open().await;
    for n in 100..160 {
        sent(&queue, &bench, n).await;
    }
    queue.shelve().await;
    queue.shutdown().await;
    bench.close(queue).await;
    let (queue, _) = bench.open().await;
    bench.clock.advance(Duration::from_secs(72 * 3_600 + 60));
    let late = sent(&queue, &bench, 900).await;
    receipts(&queue, 101, &[1]).await;
    let mut ended = 0;
    while ended < 60 {
        queue.keep_shelf().await;
        for ending in queue.take_overdue(100).await {
            assert_eq!(ending.end, End::SentWithoutReceipt);
            assert!(queue.end(ending, Vec::new()).await);
            ended += 1;
        }
    }
    for _ in 0..3 {
        queue.keep_shelf().await;
    }
    assert_eq!((queue.clone().count_shelved().await, status(&queue, late).await), (1, "sent".to_owned()));
    receipts(&queue, 900, &[1, 2]).await;
    let last = sent(&queue, &bench, 901).await;
    queue.shelve().await;
    bench.clock.advance(Duration::from_secs(72 * 3_600 + 60));
    queue.keep_shelf().await;
    assert!(in_table(&queue, last));
    bench.close(queue).await;
    let (queue, _) = bench.open().await;
    for ending in queue.take_overdue(100).await {
        assert!(queue.end(ending, Vec::new()).await);
    }
    queue.keep_shelf().await;
    assert_eq!((status(&queue, last).await, bench.shelf_files()), ("sent".to_owned(), 0));
    bench.close(queue).await;
    // Sixty and one ended without, and three came for parts.
    let receipts = bench.events().iter().filter(|event| *event == "receipt").count();
    assert_eq!(receipts, 61 + 2);
}

#[tokio::test]
async fn those_beyond_what_memory_takes_go_the_oldest_first() {
    let mut bench = Bench::shelving();
    bench.options.awaiting_in_memory_max = 16;
    let (queue, _) = bench.open().await;
    let mut ids = Vec::new();
    for n in 10..27 {
        ids.push(sent(&queue, &bench, n).await);
    }
    queue.shelve().await;
    let stay: Vec<bool> = ids.iter().map(|id| in_table(&queue, *id)).collect();
    assert_eq!(stay, [vec![false; 3], vec![true; 14]].concat());
}

#[tokio::test]
async fn the_text_that_a_handset_answers_is_found_on_the_shelf() {
    let bench = Bench::shelving();
    let (queue, _) = bench.open().await;
    let id = sent(&queue, &bench, 10).await;
    queue.shelve().await;
    let to = queue.message(id, None).await.unwrap().recipients[0].address.clone();
    let number = crate::model::Number::parse(&to).unwrap();
    let texts = queue.texts_to(&number, 3).await;
    assert_eq!(texts.iter().map(|text| text.id).collect::<Vec<_>>(), [id]);
    assert_eq!(texts[0].carrier.as_deref(), Some("cmcc"));
}
