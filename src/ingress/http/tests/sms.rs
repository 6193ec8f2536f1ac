//! `POST /v1/sms`.

use std::time::Duration;

use serde_json::json;

use super::fixture::{NOW, OPTED_OUT, Running, recipients};
use crate::model::{Class, Content, Origin, SenderId};
use crate::queue::AcceptError;

#[tokio::test]
async fn a_text_is_accepted_with_all_it_says() {
    let relay = Running::start();
    let body = json!({
        "to": "+86 138-0013-8000", "text": "您的包裹已发出", "signature": "店铺", "class": "otp", "from": "10690001",
        "ttl_s": 300, "campaign": "autumn", "tags": ["a", "b"], "client_ref": "order-7",
    });
    let reply = relay.post("/v1/sms", &body.to_string()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(reply.body["status"], "accepted");
    assert_eq!(reply.body["parts"], 1);
    let taken = relay.only();
    assert_eq!(reply.body["id"], taken.envelope.id.to_string());
    let Content::Text(text) = &taken.content else { panic!() };
    assert_eq!(text.as_str(), "【店铺】您的包裹已发出");
    let envelope = &taken.envelope;
    assert_eq!(recipients(envelope), ["+8613800138000"]);
    assert_eq!((&*envelope.client, envelope.class), ("shop", Class::Otp));
    assert_eq!(envelope.campaign.as_deref(), Some("autumn"));
    assert_eq!(envelope.tags.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(envelope.client_ref.as_deref(), Some("order-7"));
    assert_eq!(envelope.received_at, NOW);
    assert_eq!(envelope.send_at, None);
    assert_eq!(envelope.expires_at, Some(NOW.plus(Duration::from_secs(300))));
    assert_eq!(envelope.idempotency, None);
    let Origin::Text(origin) = &envelope.origin else { panic!() };
    assert_eq!(origin.from, Some(SenderId::parse("10690001").unwrap()));
}

#[tokio::test]
async fn parts_count_the_signature() {
    let relay = Running::start();
    for (chars, parts) in [(66, 1), (67, 2)] {
        let body = json!({"to": "+8613800138000", "text": "字".repeat(chars), "signature": "店铺"});
        let reply = relay.post("/v1/sms", &body.to_string()).await;
        assert_eq!(reply.body["parts"], parts, "{chars}");
    }
}

#[tokio::test]
async fn a_text_for_later_is_scheduled_and_one_for_the_past_is_for_now() {
    let relay = Running::start();
    for (send_at, status) in [("2026-11-23T15:00:00+08:00", "scheduled"), ("2026-11-22T00:00:00Z", "accepted")] {
        let body = json!({"to": "+8613800138000", "text": "x", "send_at": send_at});
        let reply = relay.post("/v1/sms", &body.to_string()).await;
        assert_eq!((reply.status, reply.body["status"].as_str()), (202, Some(status)), "{send_at}");
    }
    let send_at: Vec<_> = relay.fake.accepted().into_iter().map(|s| s.envelope.send_at).collect();
    assert_eq!(send_at, [Some(NOW.plus(Duration::from_secs(36 * 60))), None]);
}

#[tokio::test]
async fn wrong_fields_are_named_all_at_once() {
    let relay = Running::start();
    let long = "x".repeat(2_001);
    for (body, fields) in [
        (json!({}), vec!["to", "text"]),
        (json!({"to": "13800138000", "text": "x"}), vec!["to"]),
        (json!({"to": "+86x", "text": ""}), vec!["to", "text"]),
        (json!({"to": "+8613800138000", "text": long}), vec!["text"]),
        (json!({"to": 5, "text": ["x"], "class": "urgent"}), vec!["text", "to"]),
        (json!({"to": "+8613800138000", "text": "x", "class": "urgent"}), vec!["class"]),
        (json!({"to": "+8613800138000", "text": "x", "from": "a name too long"}), vec!["from"]),
        (json!({"to": "+8613800138000", "text": "x", "ttl_s": 0}), vec!["ttl_s"]),
        (json!({"to": "+8613800138000", "text": "x", "ttl_s": 259_201}), vec!["ttl_s"]),
        (json!({"to": "+8613800138000", "text": "x", "ttl_s": -1}), vec!["ttl_s"]),
        (json!({"to": "+8613800138000", "text": "x", "ttl_s": 60, "send_at": "2026-11-23T07:00:00Z"}), vec!["ttl_s"]),
        (json!({"to": "+8613800138000", "text": "x", "send_at": "tomorrow"}), vec!["send_at"]),
        (json!({"to": "+8613800138000", "text": "x", "send_at": "2027-11-23T07:00:00Z"}), vec!["send_at"]),
        (json!({"to": "+8613800138000", "text": "x", "tags": ["a", 5, ""]}), vec!["tags[1]"]),
        (json!({"to": "+8613800138000", "text": "x", "tags": ["a", ""]}), vec!["tags[1]"]),
        (json!({"to": "+8613800138000", "text": "x", "tags": vec!["a"; 17]}), vec!["tags"]),
        (json!({"to": "+8613800138000", "text": "x", "colour": "red", "size": 5}), vec!["colour", "size"]),
        (json!({"to": "+8613800138000", "template": "t", "variables": {"a": "1"}}), vec!["template"]),
        (json!(["+8613800138000", "x"]), vec![""]),
        (json!("x"), vec![""]),
    ] {
        let reply = relay.post("/v1/sms", &body.to_string()).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{body}: {reply:?}");
    }
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn what_is_not_json_is_told_where() {
    let relay = Running::start();
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{\n \"to\": }", "line 2 column 8"),
        ("{\"to\":\"+86", "line 1 column 10"),
        ("{\"to\": 5, \"text\": }", "line 1 column 19"),
        ("{} x", "line 1 column 4"),
    ] {
        let reply = relay.post("/v1/sms", body).await;
        reply.assert_problem(400, "malformed");
        assert!(reply.body["detail"].as_str().unwrap().contains(place), "{body}: {reply:?}");
    }
    let twice = relay.post("/v1/sms", r#"{"to":"+8613800138000","to":"+8613800138001","text":"x"}"#).await;
    twice.assert_problem(422, "invalid-fields");
    assert!(twice.body["detail"].as_str().unwrap().contains("duplicate field `to`"), "{twice:?}");
}

#[tokio::test]
async fn no_refusal_repeats_a_code() {
    let relay = Running::start();
    for body in [
        r#"{"to":"+8613800138000","text":483920}"#,
        r#"{"to":"+8613800138000","text":["483920"]}"#,
        r#"{"to":"+8613800138000","text":{"code":"483920"}}"#,
        r#"{"to":"bad","text":"483920 is your code"}"#,
        r#"{"to":"+8613800138000","ttl_s":"483920"}"#,
        r#"{"to":"+8613800138000","text":"483920"#,
    ] {
        let reply = relay.post("/v1/sms", body).await;
        assert!(reply.status >= 400);
        assert!(!reply.body.to_string().contains("483920"), "{reply:?}");
    }
}

#[tokio::test]
async fn policy_is_asked_and_named() {
    let relay = Running::start();
    for (body, rule) in [
        (json!({"to": "+14155550100", "text": "x"}), "country-not-allowed"),
        (json!({"to": "+8613800138000", "text": "x", "from": "10690002"}), "number-not-allowed"),
    ] {
        let reply = relay.post("/v1/sms", &body.to_string()).await;
        reply.assert_problem(403, "not-allowed");
        assert_eq!(reply.body["rule"], rule);
    }
}

#[tokio::test]
async fn refusals_of_the_queue_have_their_status() {
    let relay = Running::start();
    let body = r#"{"to":"+8613800138000","text":"x"}"#;
    relay.fake.refuse(AcceptError::Full { retry_after: Duration::from_millis(2_500) });
    let full = relay.post("/v1/sms", body).await;
    full.assert_problem(429, "full");
    assert_eq!(full.headers["retry-after"], "3");
    relay.fake.refuse(AcceptError::Unavailable);
    let unavailable = relay.post("/v1/sms", body).await;
    unavailable.assert_problem(503, "unavailable");
    assert_eq!(unavailable.headers["retry-after"], "5");
    relay.fake.refuse(AcceptError::NoRoute { address: "+8613800138000".to_owned() });
    let no_route = relay.post("/v1/sms", body).await;
    no_route.assert_problem(422, "invalid-fields");
    assert_eq!(no_route.fields(), ["to"]);
}

#[tokio::test]
async fn a_number_that_has_opted_out_gets_no_marketing_and_still_its_codes() {
    let relay = Running::start();
    for (class, status) in [("marketing", 403), ("otp", 202), ("transactional", 202)] {
        let body = json!({"to": OPTED_OUT, "text": "hello", "signature": "小店", "class": class, "from": "10690001"});
        let reply = relay.post("/v1/sms", &body.to_string()).await;
        assert_eq!(reply.status, status, "{class}: {reply:?}");
        if status == 403 {
            assert_eq!(reply.body["rule"], "opted-out");
            let detail = reply.body["detail"].as_str().unwrap();
            assert!(detail.contains("小店") && detail.contains("10690001"), "asked with all that counts: {detail}");
        }
    }
    assert_eq!(relay.fake.accepted().len(), 2);
}
