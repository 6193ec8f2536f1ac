//! `GET /v1/messages/{id}`, and the document against what is served.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{document, routes};
use super::fixture::{Fake, NOW, Running, request};
use crate::model::MessageId;
use crate::queue::MessageView;
use crate::queue::view::{AttemptView, PartView, RecipientView};

fn view(id: MessageId) -> MessageView {
    let some = || Some("x".to_owned());
    let attempt = AttemptView {
        time: NOW.rfc3339(),
        outcome: "delayed".to_owned(),
        stage: some(),
        reply: some(),
        rule: some(),
        reason: some(),
        host: some(),
        address: some(),
        tls: some(),
        source: some(),
        tls_policy: Some("x".into()),
        duration_ms: 5,
    };
    let part = PartView {
        part: 1,
        state: "sent".to_owned(),
        carrier: "cmcc-1".into(),
        carrier_message_id: some(),
        receipt_at: some(),
        receipt: some(),
    };
    let recipient = RecipientView {
        address: "+86138****8000".to_owned(),
        status: "delayed".to_owned(),
        lane: "sms".into(),
        site: Some("cmcc".into()),
        limit: some(),
        next_attempt: some(),
        waiting_for: some(),
        attempts: vec![attempt],
        attempts_made: 1,
        parts: vec![part],
    };
    MessageView {
        id: id.to_string(),
        status: "delayed".to_owned(),
        channel: "sms".to_owned(),
        client: "shop".into(),
        class: "otp".to_owned(),
        campaign: Some("autumn".into()),
        client_ref: Some("order-7".into()),
        received_at: NOW.rfc3339(),
        expires_at: some(),
        size: 7,
        recipients: vec![recipient],
    }
}

#[tokio::test]
async fn a_client_sees_its_own_messages_only() {
    let relay = Running::start();
    let id = MessageId::new(NOW);
    relay.fake.show(view(id));
    let path = format!("/v1/messages/{id}");
    let own = relay.get(&path, "authorization: Bearer KEY\r\n").await;
    assert_eq!(own.status, 200);
    assert_eq!(own.body, serde_json::to_value(view(id)).unwrap());
    relay.get(&path, "authorization: Bearer OTHER\r\n").await.assert_problem(404, "not-found");
    relay.get(&path, "").await.assert_problem(401, "unauthenticated");
    for other in ["x", "01kat2m9q40003v6h2n8r5x7wz", "%00", "%ff"] {
        let reply = relay.get(&format!("/v1/messages/{other}"), "authorization: Bearer KEY\r\n").await;
        assert!(matches!(reply.status, 400 | 404), "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn the_document_lists_every_route_and_no_other() {
    let relay = Running::start();
    let document = relay.get("/v1/openapi.json", "").await;
    assert_eq!(document.status, 200);
    assert_eq!(document.headers["content-type"], "application/json");
    let mut documented = BTreeSet::new();
    for (path, methods) in document.body["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let served: BTreeSet<_> = routes::<Fake>().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(documented, served);
    for route in served {
        let target = route.replace("{id}", "01kat2m9q40003v6h2n8r5x7wz");
        let reply = relay.exchange(&request(&target, "", b"")).await;
        assert!(matches!(reply.status, 200 | 401), "{route} is documented but answers {}", reply.status);
    }
}

/// The schema a name stands for.
fn schema<'a>(document: &'a Value, name: &str) -> &'a Value {
    &document["components"]["schemas"][name]
}

#[test]
fn the_schema_of_a_message_is_that_of_what_is_served() {
    let document = serde_json::to_value(document::document()).unwrap();
    let shown = serde_json::to_value(view(MessageId::new(NOW))).unwrap();
    let recipient = &shown["recipients"][0];
    for (name, shown) in [
        ("Message", &shown),
        ("Recipient", recipient),
        ("Attempt", &recipient["attempts"][0]),
        ("Part", &recipient["parts"][0]),
    ] {
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&schema(&document, name)["properties"]), keys(shown), "{name}");
    }
}

#[test]
fn schemas_say_what_is_required() {
    let document = serde_json::to_value(document::document()).unwrap();
    assert_eq!(schema(&document, "SmsRequest")["required"], json!(["to"]));
    assert_eq!(schema(&document, "EmailRequest")["required"], json!(["from", "subject"]));
    assert_eq!(schema(&document, "SmsPreviewRequest")["required"], Value::Null);
    for name in ["SmsRequest", "SmsPreviewRequest", "EmailRequest", "Attachment"] {
        assert_eq!(schema(&document, name)["additionalProperties"], false, "{name}");
    }
    assert_eq!(schema(&document, "EmailRequest")["properties"].get("template"), None);
}
