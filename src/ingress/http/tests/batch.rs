//! `POST /v1/sms/batch`: each text is a message of its own.

use serde_json::{Value, json};

use super::fixture::Running;
use crate::queue::AcceptError;

const BATCH: &str = "/v1/sms/batch";

fn text(last: usize, words: &str) -> Value {
    json!({"to": format!("+86138001{last:05}"), "text": words})
}

#[tokio::test]
async fn each_text_is_taken_or_refused_by_itself_in_their_order() {
    let relay = Running::start();
    let mut messages: Vec<Value> = (0..100).map(|n| text(n, "hello")).collect();
    messages[3] = json!({"to": "13800138000", "text": "hello"});
    messages[50] = json!({"to": "+8613800138000", "text": ""});
    messages[99] = json!({"to": "+14155550100", "text": "hello"});
    let reply = relay.post(BATCH, &json!({"messages": messages}).to_string()).await;
    assert_eq!((reply.status, &reply.body["accepted"], &reply.body["refused"]), (200, &json!(97), &json!(3)));
    let entries = reply.body["messages"].as_array().unwrap();
    for (place, entry) in entries.iter().enumerate() {
        match place {
            3 => assert_eq!(entry["problem"]["errors"][0]["field"], "to", "{entry}"),
            50 => assert_eq!(entry["problem"]["errors"][0]["field"], "text", "{entry}"),
            99 => assert_eq!(entry["problem"]["rule"], "country-not-allowed", "{entry}"),
            _ => {
                assert_eq!((&entry["status"], &entry["parts"]), (&json!("accepted"), &json!(1)), "{entry}");
                let accepted = relay.fake.accepted();
                let id = entry["id"].as_str().unwrap();
                let own = accepted.iter().find(|s| s.envelope.id.to_string() == id).unwrap();
                assert_eq!(own.envelope.recipients[0].address.to_string(), format!("+86138001{place:05}"));
            }
        }
    }
    assert_eq!(relay.fake.accepted().len(), 97);
    assert_eq!(relay.metrics.refused.with_label_values(&["http", "invalid-fields"]).get(), 2);
    assert_eq!(relay.metrics.refused.with_label_values(&["http", "not-allowed"]).get(), 1);
}

#[tokio::test]
async fn a_repeated_batch_sends_nothing_twice_and_another_text_in_a_place_is_found_out() {
    let relay = Running::start();
    let lines = "authorization: Bearer KEY\r\ncontent-type: application/json\r\nidempotency-key: b\r\n";
    let body = |second: &str| json!({"messages": [text(0, "one"), text(1, second)]}).to_string();
    let first = relay.post_as(lines, BATCH, body("two").as_bytes()).await;
    assert_eq!((first.status, &first.body["accepted"]), (200, &json!(2)));
    let again = relay.post_as(lines, BATCH, body("two").as_bytes()).await;
    assert_eq!(again.body["messages"], first.body["messages"]);
    let other = relay.post_as(lines, BATCH, body("three").as_bytes()).await;
    assert_eq!(other.body["messages"][0], first.body["messages"][0]);
    assert_eq!(other.body["messages"][1]["problem"]["type"], "urn:postrider:problem:key-reused");
    assert_eq!(relay.fake.accepted().len(), 2);
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole() {
    let relay = Running::start();
    let many: Vec<Value> = (0..1_001).map(|n| text(n, "x")).collect();
    for body in [json!({}), json!({"messages": []}), json!({"messages": many}), json!({"messages": [{"two": 1}]})] {
        relay.post(BATCH, &body.to_string()).await.assert_problem(422, "invalid-fields");
    }
    relay.post(BATCH, "[]").await.assert_problem(422, "invalid-fields");
    assert!(relay.fake.accepted().is_empty());
    relay.fake.refuse(AcceptError::Unavailable);
    let reply = relay.post(BATCH, &json!({"messages": [text(0, "x")]}).to_string()).await;
    assert_eq!((reply.status, &reply.body["messages"][0]["problem"]["status"]), (200, &json!(503)));
}
