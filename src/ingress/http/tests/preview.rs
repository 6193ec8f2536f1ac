//! `POST /v1/sms/preview`, and `transliterate` in it and in `POST /v1/sms`.

use serde_json::{Value, json};

use super::fixture::{Reply, Running, request};
use crate::model::Content;

const PREVIEW: &str = "/v1/sms/preview";

async fn previewed(relay: &Running, body: &Value) -> Value {
    let reply = relay.post(PREVIEW, &body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

#[tokio::test]
async fn a_preview_says_how_a_text_would_travel() {
    let relay = Running::start();
    for (text, encoding, parts, units, capacity, left) in [
        ("a".to_owned(), "gsm7", 1, 1, 160, 159),
        ("a".repeat(161), "gsm7", 2, 161, 153, 145),
        // Euro signs are two septets each, 76 a part.
        ("€".repeat(81), "gsm7", 2, 162, 153, 143),
        ("中".repeat(70), "ucs2", 1, 70, 70, 0),
        ("😀".repeat(36), "ucs2", 2, 72, 67, 61),
    ] {
        let told = previewed(&relay, &json!({"text": text})).await;
        let expected = json!([text, encoding, parts, units, capacity, left]);
        let fields = ["text", "encoding", "parts", "units", "capacity", "units_left"];
        assert_eq!(json!(fields.map(|f| told[f].clone())), expected);
    }
    assert!(relay.fake.accepted().is_empty(), "a preview stores nothing");
}

#[tokio::test]
async fn what_forces_ucs2_is_named_with_its_place() {
    let relay = Running::start();
    let told = previewed(&relay, &json!({"text": "é“😀\u{200B}€"})).await;
    assert_eq!(
        told["outside_gsm7"],
        json!([
            {"position": 1, "character": "“", "code_point": "U+201C", "look_alike": "\""},
            {"position": 2, "character": "😀", "code_point": "U+1F600"},
            {"position": 3, "character": "\u{200B}", "code_point": "U+200B", "look_alike": ""},
        ])
    );
    assert_eq!(told["outside_gsm7_count"], 3);
    // The signature stands in front, and is counted.
    let told = previewed(&relay, &json!({"text": "字".repeat(20), "signature": "Shop"})).await;
    assert_eq!(told["outside_gsm7"][0], json!({"position": 0, "character": "【", "code_point": "U+3010"}));
    assert_eq!((&told["outside_gsm7"][1]["position"], &told["outside_gsm7_count"]), (&json!(5), &json!(22)));
    assert_eq!(told["outside_gsm7"].as_array().unwrap().len(), 10);
    assert_eq!(told["units"], 26);
    assert_eq!(previewed(&relay, &json!({"text": "plain"})).await["outside_gsm7"], json!([]));
}

#[tokio::test]
async fn a_preview_is_as_strict_as_the_sending() {
    let relay = Running::start();
    for (body, fields) in [
        (json!({}), vec!["text"]),
        (json!({"text": ""}), vec!["text"]),
        (json!({"text": "x", "to": "13800138000"}), vec!["to"]),
        (json!({"text": "x", "to": 5}), vec!["to"]),
        (json!({"text": "x", "colour": "red"}), vec!["colour"]),
        (json!({"text": "x", "class": "urgent", "ttl_s": 0}), vec!["class", "ttl_s"]),
        (json!({"text": "x", "transliterate": "yes"}), vec!["transliterate"]),
        (json!({"text": "x".repeat(2_001)}), vec!["text"]),
    ] {
        let reply = relay.post(PREVIEW, &body.to_string()).await;
        reply.assert_problem(422, "invalid-fields");
        assert_eq!(reply.fields(), fields, "{body}");
    }
    relay.post(PREVIEW, "{").await.assert_problem(400, "malformed");
    relay.post(PREVIEW, &" ".repeat(64 * 1024 + 1)).await.assert_problem(413, "too-large");
    let not_allowed = [
        json!({"text": "x", "to": "+14155550100"}),
        json!({"text": "x", "to": "+8613800138000", "from": "10690002"}),
        json!({"text": "x", "from": "10690002"}),
    ];
    for body in not_allowed {
        relay.post(PREVIEW, &body.to_string()).await.assert_problem(403, "not-allowed");
    }
    let unknown = relay.exchange(&request(&format!("POST {PREVIEW}"), "", b"{}")).await;
    unknown.assert_problem(401, "unauthenticated");
    let scrape = relay.metrics.render();
    assert!(scrape.contains(r#"postrider_http_requests_total{route="/v1/sms/preview",status="422"} 8"#), "{scrape}");
    assert!(!scrape.contains("postrider_refused_submissions_total{"), "no submission was refused: {scrape}");
}

async fn post_as(relay: &Running, key: &str, path: &str, body: &Value) -> Reply {
    let lines = format!("authorization: Bearer {key}\r\ncontent-type: application/json\r\n");
    relay.exchange(&request(&format!("POST {path}"), &lines, body.to_string().as_bytes())).await
}

#[tokio::test]
async fn look_alikes_are_written_where_the_message_or_else_the_client_asks() {
    const CURLY: &str = "“It’s done…”";
    const STRAIGHT: &str = "\"It's done...\"";
    let relay = Running::start();
    let mut sent = Vec::new();
    for (key, asked, text, written) in [
        ("KEY", None, CURLY, CURLY),
        ("KEY", Some(true), CURLY, STRAIGHT),
        ("PLAIN", None, CURLY, STRAIGHT),
        ("PLAIN", Some(false), CURLY, CURLY),
        // One character without a look-alike, and all of it stays.
        ("PLAIN", None, "“中”", "“中”"),
        ("PLAIN", None, "plain", "plain"),
    ] {
        let mut body = json!({"to": "+8613800138000", "text": text});
        if let Some(asked) = asked {
            body["transliterate"] = asked.into();
        }
        let told = post_as(&relay, key, PREVIEW, &body).await;
        assert_eq!((told.status, told.body["text"].as_str()), (200, Some(written)), "{key} {body}");
        assert_eq!(told.body["transliterated"], text != written, "{key} {body}");
        let accepted = post_as(&relay, key, "/v1/sms", &body).await;
        assert_eq!((accepted.status, accepted.body["parts"].as_u64()), (202, told.body["parts"].as_u64()));
        assert_eq!(accepted.body.get("transliterated"), (text != written).then_some(&json!(true)), "{accepted:?}");
        sent.push(written);
    }
    let taken = relay.fake.accepted();
    let taken = taken.iter().map(|submission| match &submission.content {
        Content::Text(text) => text.as_str(),
        Content::Mail(_) => panic!("not a text"),
    });
    assert_eq!(taken.collect::<Vec<_>>(), sent, "what is sent is what the preview showed");
    let scrape = relay.metrics.render();
    for client in ["shop", "plain"] {
        let counted = format!(r#"postrider_transliterated_texts_total{{client="{client}"}} 1"#);
        assert!(scrape.contains(&counted), "{scrape}");
    }
}

#[tokio::test]
async fn a_preview_says_what_a_text_would_cost_where_that_is_known() {
    let relay = Running::start();
    let told = previewed(&relay, &json!({"to": "+8613800138000", "text": "中".repeat(71)})).await;
    assert_eq!(told["price"], json!({"amount": "0.07", "currency": "CNY", "carrier": "cmcc"}));
    assert_eq!(previewed(&relay, &json!({"text": "hi"})).await.get("price"), None);
}

#[tokio::test]
async fn a_carrier_that_knows_a_languages_tables_spares_ucs2() {
    let relay = Running::start();
    for (to, encoding, capacity) in [("+8613900138000", "gsm7-turkish", 155), ("+8613800138000", "ucs2", 70)] {
        let told = previewed(&relay, &json!({"text": "Siparişiniz yola çıktı", "to": to})).await;
        assert_eq!((&told["encoding"], &told["capacity"]), (&json!(encoding), &json!(capacity)), "{told}");
    }
}
