//! The API without sockets: who may ask, each route, and what is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Request};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::input::{Flush, Ordered, WarmupReset, read};
use super::{Api, routes};
use crate::admin::control::tests::Fake;
use crate::admin::http::Options;
use crate::clock::SystemClock;
use crate::event::metrics::Metrics;
use crate::ingress::http::listen::Peer;
use crate::model::Secret;
use crate::policy::credentials::Credentials;
use crate::queue::steer::{Sentence, SentenceEnd};
use crate::queue::steering::{Action, Order, Selector};

const TOKEN: &str = "0123456789abcdef01234567";
const RIGHT: &str = "Bearer 0123456789abcdef01234567";

/// An API over an operator's hands that do nothing.
pub(in crate::admin) fn fake() -> Api {
    let credentials = Credentials::new(Arc::default(), SystemClock::shared());
    Api { operator: Arc::new(Fake::default()), credentials, metrics: Arc::new(Metrics::new()) }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
}

fn served(token: Option<&str>) -> Router {
    let options = Options { token: token.map(Secret::new), ..Options::default() };
    Router::new().nest("/v1", super::router(fake(), Arc::new(ArcSwap::from_pointee(options))))
}

async fn ask(router: &Router, method: &str, path: &str, fields: &[&str], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for field in fields {
        request = request.header(AUTHORIZATION, *field);
    }
    let peer = Peer { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), tls: None };
    let request = request.extension(peer).body(body.into()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let json = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{method} {path}: {status}, {e}"));
    let kind = if status == 200 { "application/json" } else { "application/problem+json" };
    assert_eq!(headers[CONTENT_TYPE], kind, "{method} {path}");
    Answer { status, headers, json }
}

#[tokio::test]
async fn nothing_is_served_without_the_token() {
    let none = served(None);
    for fields in [&[][..], &[RIGHT]] {
        let answer = ask(&none, "GET", "/v1/status", fields, "").await;
        assert_eq!(answer.status, 403);
        assert!(answer.json["detail"].as_str().unwrap().contains("no token is configured"), "{}", answer.json);
    }
    let router = served(Some(TOKEN));
    for (fields, status) in [
        (&[][..], 401),
        (&["Bearer"], 401),
        (&["Bearer "], 401),
        (&["Bearer 0123456789abcdef01234568"], 401),
        (&["Bearer 0123456789abcdef0123456"], 401),
        (&["Basic MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3Og=="], 401),
        (&["0123456789abcdef01234567"], 401),
        (&[RIGHT, RIGHT], 401),
        (&[RIGHT], 200),
        (&["bearer  0123456789abcdef01234567 "], 200),
    ] {
        let answer = ask(&router, "GET", "/v1/status", fields, "").await;
        assert_eq!(answer.status, status, "{fields:?}");
        let challenges: Vec<_> = answer.headers.get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(challenges, vec![r#"Bearer realm="postrider admin""#; usize::from(status == 401)]);
    }
    // Strangers do not learn which routes there are, and their bodies are not read.
    for (method, path) in [("GET", "/v1/nowhere"), ("GET", "/v1"), ("DELETE", "/v1/status"), ("POST", "/v1/reload")] {
        assert_eq!(ask(&router, method, path, &[], vec![b'x'; 1_000_000]).await.status, 401, "{method} {path}");
    }
    for (method, path, _) in routes() {
        let path = format!("/v1{}", path.replace("{id}", "1").replace("{rule}", "1").replace("{number}", "1"));
        assert_eq!(ask(&router, method.as_str(), &path, &[], "").await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_and_the_right_token_passes_all_the_same() {
    let router = served(Some(TOKEN));
    let mut last = None;
    for n in 0..1_000 {
        let guess = format!("Bearer {n}");
        let answer = ask(&router, "GET", "/v1/status", &[&guess], "").await;
        if answer.status == 429 {
            last = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let limited = last.expect("guesses are limited");
    assert_eq!(limited.headers[RETRY_AFTER], "30");
    assert_eq!(limited.json["type"], "urn:postrider:problem:limited");
    assert_eq!(ask(&router, "GET", "/v1/status", &[RIGHT], "").await.status, 200);
}

#[tokio::test]
async fn each_route_answers_what_the_control_socket_would() {
    let router = served(Some(TOKEN));
    let asked = async |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = ask(&router, method, path, &[RIGHT], body).await;
        (answer.status, answer.json)
    };
    let get = async |path: &str| asked("GET", path, Value::Null).await;
    let (status, json) = get("/v1/status").await;
    assert_eq!((status, &json["kind"], &json["ready"]), (200, &json!("status"), &json!(true)));
    let (_, json) = get("/v1/queue").await;
    assert_eq!((&json["kind"], &json["lanes_total"]), (&json!("queue"), &json!(30)));
    assert_eq!(get("/v1/queue?lanes=99999999").await.1["lanes_total"], 10_000, "what is asked for is bounded");
    let (_, json) = get("/v1/messages?address=%2B8613800138000&limit=3").await;
    assert_eq!((&json["kind"], &json["messages"][0]["id"]), (&json!("messages"), &json!("+8613800138000")));
    let (status, json) = get("/v1/messages/01kat2m9q40003v6h2n8r5x7wz").await;
    assert_eq!((status, &json["messages"][0]["id"]), (200, &json!("01kat2m9q40003v6h2n8r5x7wz")));
    assert_eq!(get("/v1/messages/lin@example.com").await.0, 404);

    assert_eq!(get("/v1/steering").await, (200, json!({"kind": "rules", "rules": []})));
    let order = json!({"action": "reroute", "to": "b:25", "selector": {"campaign": "spring"}, "reason": "x"});
    let (status, json) = asked("POST", "/v1/steering", order).await;
    assert_eq!((status, &json["kind"], &json["rule"]["to"]), (200, &json!("rule"), &json!("b:25")));
    assert_eq!(json["rule"]["by"], "admin-api (192.0.2.7)");
    assert_eq!(get("/v1/steering").await.1["rules"][0]["id"], 7);
    for none in ["8", "x", "-1", "99999999999999999999"] {
        let (status, json) = asked("DELETE", &format!("/v1/steering/{none}"), Value::Null).await;
        assert_eq!((status, &json["type"]), (404, &json!("urn:postrider:problem:not-found")));
    }
    assert_eq!(asked("DELETE", "/v1/steering/7", Value::Null).await.1["rule"]["action"], "reroute");
    assert_eq!(asked("DELETE", "/v1/steering/7", Value::Null).await.0, 404);

    assert_eq!(asked("POST", "/v1/hold", Value::Null).await, (200, json!({"kind": "held", "held": true})));
    assert_eq!(get("/v1/queue").await.1["held"], true);
    assert_eq!(asked("DELETE", "/v1/hold", Value::Null).await, (200, json!({"kind": "held", "held": false})));
    let flushed = json!({"kind": "flushed", "recipients": 12});
    assert_eq!(asked("POST", "/v1/flush", json!({})).await, (200, flushed.clone()));
    assert_eq!(asked("POST", "/v1/flush", json!({"selector": {"client": "shop"}})).await, (200, flushed));
    let sentence = json!({"end": "cancel", "selector": {"client": "shop"}, "reason": "x", "dry_run": true});
    let (status, json) = asked("POST", "/v1/sweep", sentence).await;
    assert_eq!((status, &json["kind"], &json["hit"]), (200, &json!("swept"), &json!(2)));
    assert_eq!(get("/v1/warmup").await, (200, json!({"kind": "warmup", "sources": []})));
    let (status, json) = asked("POST", "/v1/warmup", json!({"source": "mta9", "day": 1})).await;
    assert_eq!((status, &json["detail"]), (422, &json!("no source mta9")));
    let (status, json) = get("/v1/tls-reports?domains=5").await;
    assert_eq!((status, &json["kind"], &json["domains_total"]), (200, &json!("tls_reports"), &json!(5)));
    let (status, json) = asked("POST", "/v1/tls-reports", Value::Null).await;
    assert_eq!((status, &json["detail"]), (422, &json!("no reports are sent")));
    let (_, json) = get("/v1/opt-outs?number=%2B8613800138000&limit=5").await;
    assert_eq!((&json["kind"], &json["total"]), (&json!("opt_outs"), &json!(5)));
    assert_eq!(json["opt_outs"][0]["signature"], "小店");
    let entry = json!({"number": "+8613800138000", "sender": "10690001", "class": "marketing"});
    let (_, json) = asked("POST", "/v1/opt-outs", entry).await;
    assert_eq!((&json["opt_outs"][0]["sender"], &json["total"]), (&json!("10690001"), &json!(1)));
    assert_eq!(json["opt_outs"][0]["by"], "admin-api (192.0.2.7)");
    let removed = asked("DELETE", "/v1/opt-outs/+8613800138000?signature=%E5%B0%8F%E5%BA%97", Value::Null).await;
    assert_eq!((removed.0, &removed.1["total"]), (200, &json!(1)));
    assert_eq!(asked("DELETE", "/v1/opt-outs/+86?signature=a&sender=b", Value::Null).await.0, 422);
    let (_, json) = get("/v1/ported?number=%2B8613800138000&limit=5").await;
    assert_eq!(
        (&json["kind"], &json["total"], &json["numbers"][0]["not"][0]),
        (&json!("ported"), &json!(5), &json!("china-mobile"))
    );
    assert_eq!(asked("DELETE", "/v1/ported/+8613800138000", Value::Null).await.1["total"], 1);
    let (status, json) = asked("POST", "/v1/reload", Value::Null).await;
    assert_eq!((status, &json["errors"][0]["detail"]), (422, &json!("relay.toml:3: unknown key")));
    assert_eq!(get("/v1/nowhere").await.0, 404);
    assert_eq!(asked("PUT", "/v1/steering", Value::Null).await.0, 405);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let router = served(Some(TOKEN));
    let order = |more: &str| format!(r#"{{"action":"pause","selector":{{"client":"shop"}},"reason":"x"{more}}}"#);
    let sentence = r#"{"end":"cancel","selector":{"client":"shop"},"reason":"x","dryrun":true}"#;
    for (path, body, status, word) in [
        ("/v1/steering", String::new(), 400, "not valid JSON"),
        ("/v1/steering", "{".to_owned(), 400, "not valid JSON"),
        ("/v1/steering", "[]".to_owned(), 422, "expected a map"),
        ("/v1/steering", "{}".to_owned(), 422, "selector"),
        ("/v1/steering", order(r#","expires":"2h""#), 422, "expires: unknown field; expected one of action"),
        ("/v1/steering", order(r#","to":"b:25""#), 422, "to: unknown field"),
        ("/v1/steering", order(r#","reason":"y""#), 422, "reason"),
        ("/v1/steering", order("").replace("client", "cliant"), 422, "cliant"),
        ("/v1/steering", order("").replace("pause", "dance"), 422, "dance"),
        ("/v1/steering", order("").replace(r#""client":"shop""#, ""), 422, "say which messages"),
        ("/v1/steering", order(r#","expires_ms":0"#), 422, "expire within"),
        ("/v1/flush", r#"{"selektor":{}}"#.to_owned(), 422, "selektor: unknown field; expected one of selector"),
        ("/v1/flush", String::new(), 400, "not valid JSON"),
        ("/v1/sweep", sentence.to_owned(), 422, "dryrun: unknown field"),
        ("/v1/sweep", r#"["cancel",{},"x"]"#.to_owned(), 422, "expected a map"),
        ("/v1/warmup", r#"{"source":"a","day":-1}"#.to_owned(), 422, "expected u32"),
        ("/v1/warmup", r#"{"source":"a","day":1,"days":2}"#.to_owned(), 422, "days: unknown field"),
        ("/v1/flush", format!("{{{}}}", " ".repeat(64 * 1024)), 413, "65536 bytes"),
    ] {
        let answer = ask(&router, "POST", path, &[RIGHT], body.clone()).await;
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(answer.status == status && detail.contains(word), "{path} {body}: {} {detail}", answer.status);
    }
    for (path, word) in [
        ("/v1/messages", "address"),
        ("/v1/messages?adress=a@b", "address"),
        ("/v1/messages?address=a@b&most=3", "most"),
        ("/v1/queue?lanes=many", "invalid digit"),
    ] {
        let answer = ask(&router, "GET", path, &[RIGHT], "").await;
        assert!(answer.status == 422 && answer.json["detail"].as_str().unwrap().contains(word), "{}", answer.json);
    }
}

#[test]
fn a_body_may_have_just_the_fields_that_its_type_has() {
    fn named<T: Ordered>(body: &T, whole: Value) {
        let mut fields: Vec<&str> = body.fields().to_vec();
        fields.sort_unstable();
        assert_eq!(whole.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    }
    let (selector, reason, expires) = (Selector::default(), "x".to_owned(), Some(Duration::from_secs(1)));
    for action in [Action::Pause, Action::Reroute { to: "b:25".into() }] {
        let order = Order { action, selector: selector.clone(), reason: reason.clone(), expires };
        named(&order, serde_json::to_value(&order).unwrap());
    }
    let sentence = Sentence { end: SentenceEnd::Bounce, selector, reason, dry_run: true };
    named(&sentence, serde_json::to_value(&sentence).unwrap());
}

proptest! {
    #[test]
    fn no_body_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), json in r#"\{("[a-z_]{1,9}":("[a-z]{0,5}"|[0-9]{1,3}|\{\}),?){0,4}\}"#) {
        for bytes in [&bytes[..], json.as_bytes()] {
            let _ = read::<Order>(bytes);
            let _ = read::<Sentence>(bytes);
            let _ = read::<Flush>(bytes);
            let _ = read::<WarmupReset>(bytes);
        }
    }
}
