//! Starts from sidecars: what they say, together with what the log's younger end says, is what was before.

use super::*;

impl Bench {
    pub(super) fn small() -> Self {
        let mut bench = Self::new();
        bench.segment_bytes = 16 << 10;
        bench
    }

    /// Ends as a crash does: the log's taken groups are written, nothing else is done.
    pub(super) async fn crash(&self, queue: Queue) {
        queue.shared.log.shutdown().await;
        queue.shared.events.close();
    }
}

async fn settle_one(queue: &Queue, outcome: &Outcome) -> MessageId {
    let turn = lease(queue);
    let id = turn.work.id;
    let all = outcomes(&turn, outcome);
    turn.settle(all, Vec::new()).await;
    settled(queue).await;
    id
}

/// Two hundred mails with keys, each delayed once, most of their segments with sidecars; then things happen to some.
async fn backlog(bench: &Bench) -> (Queue, Vec<MessageId>, HashSet<MessageId>) {
    let (queue, _) = bench.open().await;
    let mut ids = Vec::new();
    for n in 0..200 {
        let submission = keyed(bench.mail(&["x@example.net"]), &format!("k{n}"), 1);
        ids.push(queue.accept(submission).await.unwrap().message_id());
        settle_one(&queue, &delayed()).await;
    }
    queue.checkpoint(true).await;
    bench.clock.advance(Duration::from_secs(100));
    let mut delivered = HashSet::new();
    for n in 0..60 {
        let outcome = if n % 2 == 0 { relayed() } else { delayed() };
        let id = settle_one(&queue, &outcome).await;
        if n % 2 == 0 {
            delivered.insert(id);
        }
    }
    (queue, ids, delivered)
}

async fn check(queue: &Queue, bench: &Bench, ids: &[MessageId], delivered: &HashSet<MessageId>) {
    let mut attempts = [0; 3];
    for (n, id) in ids.iter().enumerate() {
        if delivered.contains(id) {
            continue;
        }
        let view = queue.message(*id, None).await.unwrap_or_else(|| panic!("{n} is lost"));
        let to = &view.recipients[0];
        assert_eq!(
            (view.status.as_str(), to.address.as_str(), &*to.lane),
            ("delayed", "x@example.net", "example.net/transactional/shop")
        );
        assert_eq!(to.attempts.len(), to.attempts_made as usize, "the whole history is read back");
        attempts[to.attempts_made as usize] += 1;
    }
    assert_eq!(attempts, [0, 140, 30]);
    for n in [0, 77, 199] {
        let again = keyed(bench.mail(&["x@example.net"]), &format!("k{n}"), 1);
        let again = queue.accept(again).await.unwrap();
        assert!(again.replayed() && again.message_id() == ids[n], "key {n}");
    }
    let usage = queue.overview(1);
    assert_eq!((usage.messages, usage.lanes[0].waiting + usage.lanes[0].ready), (170, 170));
}

#[tokio::test]
async fn a_start_from_sidecars_knows_what_has_happened_since() {
    let bench = Bench::small();
    let (queue, ids, delivered) = backlog(&bench).await;
    bench.crash(queue).await;
    for round in 0..3 {
        let (queue, found) = bench.open().await;
        assert_eq!((found.messages, found.strange), (170, 0), "round {round}");
        assert!(queue.log().segments().iter().filter(|s| s.covers.is_some()).count() > 4);
        check(&queue, &bench, &ids, &delivered).await;
        // Once without, then with everything written down at the stop.
        if round == 0 { bench.crash(queue).await } else { bench.close(queue).await }
    }
    let (queue, _) = bench.open().await;
    bench.clock.advance(Duration::from_secs(1_000));
    let mut left: HashSet<MessageId> = ids.iter().copied().filter(|id| !delivered.contains(id)).collect();
    while !left.is_empty() {
        let mut turn = next_lease(&queue, &bench).await;
        let consignment = turn.load().await.unwrap();
        assert!(left.remove(&consignment.envelope.id), "leased twice, or ended before");
        assert_eq!(consignment.content.len(), 30);
        let all = outcomes(&turn, &relayed());
        turn.settle(all, Vec::new()).await;
        settled(&queue).await;
    }
    assert!(try_lease(&queue).is_none());
    bench.close(queue).await;
    let (_, found) = bench.open().await;
    assert_eq!(found.messages, 0);
}

#[tokio::test]
async fn a_damaged_sidecar_is_passed_over() {
    let bench = Bench::small();
    let (queue, ids, delivered) = backlog(&bench).await;
    bench.crash(queue).await;
    let segments = bench.dir.path().join("spool/segments");
    let mut damaged = 0;
    for entry in std::fs::read_dir(segments).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "side") && damaged < 3 {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 3);
    let (queue, found) = bench.open().await;
    assert_eq!((found.messages, found.strange), (170, 0));
    check(&queue, &bench, &ids, &delivered).await;
}

#[tokio::test]
async fn texts_in_sidecars_get_their_receipts_and_those_that_had_begun_are_unknown() {
    let bench = Bench::small();
    let (queue, _) = bench.open().await;
    let sent = texts::sent(&queue, &bench).await;
    settled(&queue).await;
    let begun = queue.accept(bench.text()).await.unwrap().message_id();
    let mut turn = lease(&queue);
    turn.begin(texts::progress(vec![PartState::Waiting])).await.unwrap();
    // Fill segments, so that those of the texts are closed.
    for _ in 0..100 {
        queue.accept(bench.mail(&["x@example.net"])).await.unwrap();
    }
    queue.checkpoint(true).await;
    bench.crash(queue.clone()).await;
    drop(turn);
    drop(queue);
    let (queue, found) = bench.open().await;
    assert_eq!((found.messages, found.unknown), (102, 1));
    while queue.message(begun, None).await.unwrap().status != "unknown" {
        tokio::task::yield_now().await;
    }
    queue.receipt(texts::receipt("100", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, sent).await, "sent");
    queue.receipt(texts::receipt("101", ReceiptState::Delivered)).await.unwrap();
    assert_eq!(status(&queue, sent).await, "delivered");
}

/// One old message must not keep what came and went after it.
#[tokio::test]
async fn explain_finds_messages_by_address_wherever_they_are() {
    let mut bench = Bench::small();
    bench.options.body_cache_bytes_max = 0;
    let (queue, _) = bench.open().await;
    let cold = queue.accept(bench.mail(&["Lin@example.net", "other@example.org"])).await.unwrap().message_id();
    let ended = queue.accept(bench.mail(&["lin@example.net"])).await.unwrap().message_id();
    let (mut one, mut two) = (lease(&queue), lease(&queue));
    for turn in [&mut one, &mut two] {
        turn.load().await.unwrap();
    }
    let (ends, stays) = if one.work.id == ended { (one, two) } else { (two, one) };
    if ends.work.id == ended {
        let all = outcomes(&ends, &relayed());
        ends.settle(all, Vec::new()).await;
    }
    drop(stays);
    settled(&queue).await;
    let ids = |views: Vec<MessageView>| views.into_iter().map(|v| v.id).collect::<Vec<_>>();
    let found = ids(queue.explain(" LIN@example.net", 10).await);
    assert!(found.contains(&cold.to_string()), "{found:?}");
    assert_eq!(ids(queue.explain("other@example.org", 10).await), [cold.to_string()]);
    assert!(queue.explain("nobody@example.org", 10).await.is_empty());
}
