//! Whatever is sent, the answer is never a fault of ours.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::super::listen::Peer;
use super::super::{Options, router};
use super::fixture::{Fake, app};

fn status(path: &str, media: &str, body: Vec<u8>) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = Request::post(path)
            .header("authorization", "Bearer KEY")
            .header("content-type", media)
            .extension(Peer { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: None })
            .body(Body::from(body))
            .unwrap();
        router(app(Fake::default(), Options::default())).oneshot(request).await.unwrap().status().as_u16()
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}|[ -~\r\n\0@<>\",;:()【】]{0,20}".prop_map(Value::from),
        prop_oneof![
            Just("a@shop.example.com"),
            Just("Lin <lin@example.net>"),
            Just("+8613800138000"),
            Just("otp"),
            Just("2026-11-23T07:00:00Z"),
            Just("aGVsbG8="),
            Just("text/plain"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            object(inner).prop_map(Value::Object),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![
        proptest::sample::select(vec![
            "to",
            "text",
            "signature",
            "class",
            "from",
            "send_at",
            "ttl_s",
            "campaign",
            "tags",
            "client_ref",
            "cc",
            "bcc",
            "reply_to",
            "subject",
            "html",
            "headers",
            "attachments",
            "expires_at",
            "template",
            "filename",
            "content_type",
            "content",
            "content_id",
            "X-Own",
            "List-Unsubscribe",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,10}",
    ];
    proptest::collection::vec((name, inner), 0..8).prop_map(|pairs| pairs.into_iter().collect())
}

/// A request that is right, with some fields replaced: reaches deeper than nonsense does.
fn nearly(right: Value) -> impl Strategy<Value = Value> {
    object(value()).prop_map(move |changes| {
        let mut all = right.as_object().cloned().unwrap_or_default();
        all.extend(changes);
        Value::Object(all)
    })
}

fn expected(status: u16) -> bool {
    matches!(status, 200 | 202 | 400 | 403 | 413 | 422)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_json_is_a_fault_of_ours(body in value()) {
        for path in ["/v1/sms", "/v1/sms/preview", "/v1/email"] {
            let status = status(path, "application/json", body.to_string().into_bytes());
            prop_assert!(expected(status), "{path}: {status}");
        }
    }

    #[test]
    fn no_text_is_a_fault_of_ours(body in nearly(json!({"to": "+8613800138000", "text": "x"}))) {
        for path in ["/v1/sms", "/v1/sms/preview"] {
            let status = status(path, "application/json", body.to_string().into_bytes());
            prop_assert!(expected(status), "{path}: {status}");
        }
    }

    #[test]
    fn no_mail_is_a_fault_of_ours(
        body in nearly(json!({"from": "a@shop.example.com", "to": ["b@example.net"], "subject": "s", "text": "x"}))
    ) {
        let status = status("/v1/email", "application/json", body.to_string().into_bytes());
        prop_assert!(expected(status), "{status}");
    }

    #[test]
    fn no_bytes_are_a_fault_of_ours(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (path, media) in
            [("/v1/sms", "application/json"), ("/v1/email", "application/json"), ("/v1/email", "message/rfc822")]
        {
            let status = status(path, media, body.clone());
            prop_assert!(expected(status), "{path}: {status}");
        }
    }

    #[test]
    fn no_header_is_a_fault_of_ours(head in "(From|To|Cc|Bcc|Subject|X-Postrider-Class): [ -~\n\t]{0,40}\n{1,2}[ -~]{0,20}") {
        let mail = format!("From: a@shop.example.com\n{head}");
        for path in ["/v1/email", "/v1/email?from=a@shop.example.com&to=b@example.net", "/v1/email?to=%ff&to=%00"] {
            let status = status(path, "message/rfc822", mail.clone().into_bytes());
            prop_assert!(expected(status), "{path}: {status}");
        }
    }
}
