//! The rules that texts must fit, as a client meets them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{Reply, Running};
use crate::ingress::http::Options;
use crate::model::{Content, Rate};
use crate::policy::texts::{BlockedWords, Budget, Cap, Per, Registered, TextRules};
use crate::queue::AcceptError;

fn registered(id: &str, text: &str) -> Registered {
    Registered { client: "signed".into(), id: id.into(), template: text.parse().unwrap() }
}

fn relay() -> Running {
    relay_with(Budget::default())
}

fn relay_with(budget: Budget) -> Running {
    let once = Rate { count: 1, per: Duration::from_secs(60) };
    let cap = Cap { prefixes: vec!["+86".to_owned()], classes: Vec::new(), per: Per::Number, limits: vec![once] };
    let rules = TextRules {
        budget,
        opt_out_words: Some("拒收请回复R".into()),
        blocked: BlockedWords::new(["赌博"]).unwrap(),
        denied: vec!["+8617".to_owned()],
        templates: vec![registered("code", "验证码{code:digits 4-6}"), registered("news", "新品{what:text 20}")],
        caps: vec![cap],
    };
    Running::with(Options { text_rules: Arc::new(rules), ..Options::default() })
}

async fn send(relay: &Running, lines: &str, body: &Value) -> Reply {
    let lines = format!("authorization: Bearer SIGNED\r\ncontent-type: application/json\r\n{lines}");
    relay.post_as(&lines, "/v1/sms", body.to_string().as_bytes()).await
}

fn words(relay: &Running) -> Vec<String> {
    let text = |content| match content {
        Content::Text(text) => text.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    relay.fake.accepted().into_iter().map(|s| text(s.content)).collect()
}

#[tokio::test]
async fn a_text_is_signed_and_says_the_way_out_and_the_preview_knows() {
    let relay = relay();
    let body = json!({"to": "+8613800138000", "text": "新品上市", "class": "marketing"});
    let reply = send(&relay, "", &body).await;
    assert_eq!((reply.status, &reply.body["parts"]), (202, &json!(1)), "{reply:?}");
    assert_eq!(words(&relay), ["【小店】新品上市，拒收请回复R"]);
    let lines = "authorization: Bearer SIGNED\r\ncontent-type: application/json\r\n";
    let preview = relay.post_as(lines, "/v1/sms/preview", body.to_string().as_bytes()).await;
    assert_eq!((preview.status, &preview.body["text"]), (200, &json!("【小店】新品上市，拒收请回复R")));
}

#[tokio::test]
async fn every_refusal_names_its_rule_and_is_counted() {
    let relay = relay();
    for (to, text, rule) in [
        ("+8617012345678", "好", "number-denied"),
        ("+8613800138000", "【大店】好", "signature-not-registered"),
        ("+8613800138000", "好【小店】", "signature-inside"),
        ("+8613800138000", "【小店】好", "template-not-matched"),
        ("+8613800138000", "新品赌博", "blocked-word"),
        ("+14155550100", "hi", "country-not-allowed"),
    ] {
        let reply = send(&relay, "", &json!({"to": to, "text": text})).await;
        reply.assert_problem(403, "not-allowed");
        assert_eq!(reply.body["rule"], rule, "{reply:?}");
        assert_eq!(relay.metrics.text_refusals.with_label_values(&["signed", rule]).get(), 1);
    }
    assert_eq!(words(&relay), [] as [&str; 0]);
}

#[tokio::test]
async fn who_has_had_enough_gets_no_more_and_is_told_when() {
    let relay = relay();
    let to = |number: &str| json!({"to": number, "text": "验证码1234", "class": "otp"});
    let first = to("+8613800138000");
    let key = "idempotency-key: a\r\n";
    assert_eq!(send(&relay, key, &first).await.status, 202);
    let again = send(&relay, "", &first).await;
    again.assert_problem(429, "limited");
    assert_eq!((&again.body["rule"], again.headers["retry-after"].as_str()), (&json!("frequency-cap"), "60"));
    assert_eq!(again.body["detail"], "no more than 1/m to a number: one more from 2026-11-23T06:25:00.000000Z on");
    // The same request is answered as before, however often.
    let replayed = send(&relay, key, &first).await;
    assert_eq!((replayed.status, replayed.headers["idempotent-replayed"].as_str()), (202, "true"));
    send(&relay, "idempotency-key: b\r\n", &first).await.assert_problem(429, "limited");
    assert_eq!(send(&relay, "", &to("+8613800138001")).await.status, 202);
    assert_eq!(words(&relay).len(), 2);
}

#[tokio::test]
async fn what_was_not_accepted_does_not_count() {
    let relay = relay();
    let body = json!({"to": "+8613800138000", "text": "验证码1234", "class": "otp"});
    relay.fake.refuse(AcceptError::Unavailable);
    assert_eq!(send(&relay, "", &body).await.status, 503);
    relay.fake.accept_again();
    assert_eq!(send(&relay, "", &body).await.status, 202);
    send(&relay, "", &body).await.assert_problem(429, "limited");
}

#[tokio::test]
async fn a_template_is_filled_in_or_says_what_is_wrong_with_its_variables() {
    let relay = relay();
    let body = |template: &str, variables: &Value| json!({"to": "+8613800138000", "template": template, "variables": variables});
    let reply = send(&relay, "", &body("code", &json!({"code": "123456"}))).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(words(&relay), ["【小店】验证码123456"]);
    for (body, fields) in [
        (body("code", &json!({"code": "12x"})), vec!["variables.code"]),
        (body("code", &json!({"cod": "1234"})), vec!["variables.cod", "variables.code"]),
        (body("nothing", &json!({})), vec!["template"]),
        (json!({"to": "+8613800138000", "template": "code", "text": "好"}), vec!["template"]),
        (json!({"to": "+8613800138000", "text": "好", "variables": {}}), vec!["variables"]),
    ] {
        let reply = send(&relay, "", &body).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{body}");
    }
    // Another client's template is none of its own.
    let other = relay.post("/v1/sms", &body("code", &json!({"code": "123456"})).to_string()).await;
    assert_eq!(other.fields(), ["template"]);
}

#[tokio::test]
async fn a_day_costs_no_more_than_its_budget() {
    let relay = relay_with(Budget { all: Some("0.12".parse().unwrap()), ahead: 8 * 60 });
    let to = |last: u32| json!({"to": format!("+861380013800{last}"), "text": "验证码1234", "class": "otp"});
    let key = "idempotency-key: a\r\n";
    assert_eq!(send(&relay, key, &to(0)).await.status, 202);
    relay.fake.refuse(AcceptError::Unavailable);
    assert_eq!(send(&relay, "", &to(1)).await.status, 503);
    relay.fake.accept_again();
    // What was not accepted costs nothing.
    assert_eq!(send(&relay, "", &to(2)).await.status, 202);
    let two_parts = json!({"to": "+8613800138003", "text": format!("新品{}", "好".repeat(20)), "class": "marketing"});
    assert_eq!(send(&relay, "", &two_parts).await.status, 202);
    let refused = send(&relay, "", &to(4)).await;
    refused.assert_problem(429, "limited");
    assert_eq!(refused.body["rule"], "daily-spend");
    assert_eq!(
        refused.body["detail"],
        "all clients may spend 0.12 a day: one more from 2026-11-23T16:00:00.000000Z on"
    );
    assert_eq!(relay.metrics.text_refusals.with_label_values(&["signed", "daily-spend"]).get(), 1);
    assert_eq!(send(&relay, key, &to(0)).await.status, 202, "what was accepted once is");
    assert_eq!(words(&relay).len(), 3);
}
