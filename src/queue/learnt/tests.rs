//! What pacers found out, over restarts.

use std::time::Duration;

use super::*;
use crate::model::{EnhancedStatus, Failure, Measures, Outcome, Responsibility, Scope, Stage};
use crate::queue::tests::{Bench, lease, settled};

const HOUR: Duration = Duration::from_secs(3_600);

fn file(bench: &Bench) -> PaceFile {
    PaceFile::new(bench.path("pace.json"))
}

/// The answer that a row of the table suspends a site for.
fn blocked() -> Outcome {
    let measures = Measures { suspend: Some(6 * HOUR), ..Measures::default() };
    let rule = Rule { id: "row".into(), class: "repute".into() };
    let failure = Failure::without_reply(Scope::Source, Stage::Mail, EnhancedStatus::new(4, 7, 0), "blocked");
    Outcome::Delayed(Failure { rule: Some(rule), measures: Some(Arc::new(measures)), ..failure })
}

/// Why nothing goes to the one site there is, and its limit.
fn shown(queue: &Queue) -> (Option<String>, String) {
    let table = queue.shared.table.lock();
    let site = *table.targets.keys().max().unwrap();
    (table.suspended_by(site, queue.now()), table.limit(site, queue.now()).unwrap())
}

#[tokio::test]
async fn a_suspension_and_what_a_site_takes_outlive_the_process() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    let mut kept = file(&bench);
    queue.keep_pace(&mut kept).unwrap();
    assert!(!kept.path.exists(), "there is nothing to say");
    let id = queue.accept(bench.mail(&["x@example.net"])).await.unwrap().message_id();
    let turn = lease(&queue);
    let outcomes = turn.outcomes(&blocked());
    turn.settle(outcomes, Vec::new()).await;
    settled(&queue).await;
    let (suspended, limit) = shown(&queue);
    assert!(suspended.as_ref().unwrap().contains("row (repute)"), "{suspended:?}");
    queue.keep_pace(&mut kept).unwrap();
    bench.close(queue).await;

    // Known at once, also where the mail comes up only later, and without a change of what is kept.
    for round in 0..2 {
        bench.clock.advance(HOUR);
        let (queue, _) = bench.open().await;
        queue.recall_pace(&file(&bench));
        queue.loaded().await;
        assert_eq!(shown(&queue), (suspended.clone(), limit.clone()), "round {round}");
        let site = *queue.shared.table.lock().targets.keys().max().unwrap();
        assert!(matches!(queue.pull(site), crate::queue::Pull::Wait(_)));
        queue.keep_pace(&mut file(&bench)).unwrap();
        bench.close(queue).await;
    }
    // The suspension has ended; a day later nothing is believed.
    bench.clock.advance(5 * HOUR);
    let (queue, _) = bench.open().await;
    queue.recall_pace(&file(&bench));
    queue.loaded().await;
    let (suspended, limit) = shown(&queue);
    assert_eq!(suspended, None);
    assert!(limit.starts_with("2 connections"), "it comes back by a ramp: {limit}");
    bench.close(queue).await;
    bench.clock.advance(30 * HOUR);
    let (queue, _) = bench.open().await;
    queue.recall_pace(&file(&bench));
    queue.loaded().await;
    assert!(shown(&queue).1.starts_with("10 connections"), "{:?}", shown(&queue));
    assert!(queue.message(id, None).await.is_some());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_started_without() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for text in ["", "{}", "{\"version\":1,\"sites\":[]}\ncrc32 00000000\n"] {
        std::fs::write(bench.path("pace.json"), text).unwrap();
        queue.recall_pace(&file(&bench));
    }
    let newer = whole::sealed(&serde_json::json!({ "version": 2, "sites": [] })).unwrap();
    std::fs::write(bench.path("pace.json"), newer).unwrap();
    assert_eq!(read(&bench.path("pace.json")).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(queue.shared.table.lock().remembered.is_empty());
}
