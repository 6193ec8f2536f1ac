//! Credentials, limits, TLS, metrics and the end.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{ConnectionLimits, Options};
use super::fixture::{Running, read, request};

const TEXT: &str = r#"{"to":"+8613800138000","text":"x"}"#;
const JSON: &str = "content-type: application/json\r\n";

fn limits(change: impl FnOnce(&mut ConnectionLimits)) -> Options {
    let mut options = Options::default();
    change(&mut options.connections);
    options
}

#[tokio::test]
async fn credentials_are_checked_first() {
    let relay = Running::start();
    let basic = |pair: &str| format!("authorization: Basic {}\r\n", STANDARD.encode(pair));
    for (line, status) in [
        ("".to_owned(), 401),
        ("authorization: Bearer WRONG\r\n".to_owned(), 401),
        ("authorization: Bearer \r\n".to_owned(), 401),
        ("authorization: Digest KEY\r\n".to_owned(), 401),
        ("authorization: Basic !\r\n".to_owned(), 401),
        ("authorization: Bearer KEY\r\nauthorization: Bearer KEY\r\n".to_owned(), 401),
        (basic("shop"), 401),
        (basic("shop:wrong"), 401),
        (basic("shop:secret"), 202),
        ("authorization: bearer KEY\r\n".to_owned(), 202),
        ("authorization: Bearer LIMITED\r\n".to_owned(), 429),
        ("authorization: Bearer BUSY\r\n".to_owned(), 503),
        ("authorization: Bearer OTHER\r\n".to_owned(), 403),
    ] {
        let reply = relay.exchange(&request("POST /v1/sms", &format!("{line}{JSON}"), TEXT.as_bytes())).await;
        assert_eq!(reply.status, status, "{line}");
        match status {
            401 => {
                reply.assert_problem(401, "unauthenticated");
                let challenge = &reply.headers["www-authenticate"];
                assert!(challenge.contains("Bearer realm=") && challenge.contains("Basic realm="), "{challenge}");
            }
            429 | 503 => assert!(reply.headers.contains_key("retry-after")),
            403 => assert_eq!(reply.body["rule"], "channel-not-allowed"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn no_body_is_read_for_a_stranger() {
    let relay = Running::start();
    // The reply comes although the body never does.
    let mut stream = relay.connect().await;
    stream
        .write_all(b"POST /v1/sms HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n")
        .await
        .unwrap();
    read(&mut stream).await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let relay = Running::start();
    // More than the kernel's buffers hold: without lingering, the close would reset the connection under the reply.
    let body = vec![b' '; 16 * 1024 * 1024];
    relay.exchange(&request("POST /v1/email", JSON, &body)).await.assert_problem(401, "unauthenticated");
    relay.post("/v1/sms", std::str::from_utf8(&body).unwrap()).await.assert_problem(413, "too-large");
}

#[tokio::test]
async fn unknown_routes_methods_and_media_types_are_problems_too() {
    let relay = Running::start();
    relay.get("/v2/sms", "").await.assert_problem(404, "not-found");
    relay.get("/", "").await.assert_problem(404, "not-found");
    let method = relay.get("/v1/sms", "").await;
    method.assert_problem(405, "method-not-allowed");
    assert_eq!(method.headers["allow"], "POST");
    for line in ["", "content-type: text/plain\r\n", "content-type: message/rfc822\r\n"] {
        relay.post_with("/v1/sms", line, TEXT.as_bytes()).await.assert_problem(415, "media-type");
    }
    let parameters = "content-type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(relay.post_with("/v1/sms", parameters, TEXT.as_bytes()).await.status, 202);
}

#[tokio::test]
async fn a_repeat_under_the_same_key_is_the_same_message() {
    let relay = Running::start();
    let lines = format!("{JSON}idempotency-key: order-7\r\n");
    let first = relay.post_with("/v1/sms", &lines, TEXT.as_bytes()).await;
    assert_eq!(first.status, 202);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let second = relay.post_with("/v1/sms", &lines, TEXT.as_bytes()).await;
    assert_eq!(second.status, 202);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(first.body["id"], second.body["id"]);
    let other = relay.post_with("/v1/sms", &lines, br#"{"to":"+8613800138000","text":"y"}"#).await;
    other.assert_problem(409, "key-reused");
    assert_eq!(relay.fake.accepted().len(), 1);
    let blank = format!("{JSON}idempotency-key: a b\r\n");
    relay.post_with("/v1/sms", &blank, TEXT.as_bytes()).await.assert_problem(400, "malformed");
}

#[tokio::test]
async fn bodies_are_bounded_whether_announced_or_not() {
    let relay = Running::start();
    let (most, large) = (64 * 1024, "too-large");
    let filled = |bytes: usize| format!("{TEXT}{}", " ".repeat(bytes - TEXT.len()));
    assert_eq!(relay.post("/v1/sms", &filled(most)).await.status, 202);
    relay.post("/v1/sms", &filled(most + 1)).await.assert_problem(413, large);
    let chunked = |bytes: usize| {
        let head = "POST /v1/sms HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer KEY\r\n";
        format!("{head}{JSON}transfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{}\r\n0\r\n\r\n", filled(bytes))
    };
    assert_eq!(relay.exchange(chunked(most).as_bytes()).await.status, 202);
    relay.exchange(chunked(most + 1).as_bytes()).await.assert_problem(413, large);

    let options = Options { message_bytes_max: 30_000, ..Options::default() };
    let most = options.body_bytes_max();
    let relay = Running::with(options);
    let nothing = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    relay.post("/v1/email", &nothing(most)).await.assert_problem(422, "invalid-fields");
    relay.post("/v1/email", &nothing(most + 1)).await.assert_problem(413, large);
}

#[tokio::test]
async fn slow_bodies_and_slow_heads_are_ended() {
    let mut options = limits(|c| c.header_timeout = Duration::from_millis(50));
    options.body_timeout = Duration::from_millis(50);
    let relay = Running::with(options);
    let head =
        format!("POST /v1/sms HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n{JSON}content-length: 9\r\n\r\n{{");
    let mut stream = relay.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    read(&mut stream).await.assert_problem(408, "timeout");
    for begun in ["", "GET /v1/mess"] {
        let mut stream = relay.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        assert!(!String::from_utf8_lossy(&reply).contains(" 200 "));
    }
}

#[tokio::test]
async fn a_request_without_an_answer_ends_in_time() {
    let relay = Running::with(Options { request_timeout: Duration::from_millis(50), ..Options::default() });
    let _gate = relay.fake.close_gate();
    let reply = relay.post("/v1/sms", TEXT).await;
    reply.assert_problem(503, "unavailable");
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn connections_are_bounded() {
    let relay = Running::with(limits(|c| c.per_peer_max = 2));
    let ask = b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = relay.connect().await;
        stream.write_all(ask).await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let mut third = relay.connect().await;
    read(&mut third).await.assert_problem(503, "busy");
    // A place that is given back is given away again.
    drop(held.pop());
    loop {
        let mut stream = relay.connect().await;
        let _ = stream.write_all(&request("GET /v1/openapi.json", "", b"")).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        if reply.starts_with(b"HTTP/1.1 200 OK") {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let relay = Running::start();
    let mut stream = relay.connect().await;
    let head = format!("authorization: Bearer KEY\r\n{JSON}content-length: {}", TEXT.len());
    let keep = format!("POST /v1/sms HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{TEXT}");
    let last = format!("POST /v1/sms HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n\r\n{TEXT}");
    stream.write_all(format!("{keep}{keep}{last}").as_bytes()).await.unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).await.unwrap();
    assert_eq!(replies.matches("HTTP/1.1 202 Accepted").count(), 3, "{replies}");
    assert_eq!(relay.fake.accepted().len(), 3);
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_server_stops() {
    let relay = Running::start();
    let gate = relay.fake.close_gate();
    let mut idle = relay.connect().await;
    let mut busy = relay.connect().await;
    busy.write_all(&request("POST /v1/sms", &format!("authorization: Bearer KEY\r\n{JSON}"), TEXT.as_bytes()))
        .await
        .unwrap();
    relay.fake.entered().notified().await;
    relay.stop.send(true).unwrap();
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty(), "an idle connection is closed at once");
    gate.notify_one();
    assert_eq!(read(&mut busy).await.status, 202);
    drop((idle, busy));
    relay.served.await.unwrap();
    assert!(tokio::net::TcpStream::connect(relay.address).await.is_err());
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let relay = Running::with(limits(|c| c.drain_timeout = Duration::from_millis(50)));
    let _gate = relay.fake.close_gate();
    let mut busy = relay.connect().await;
    busy.write_all(&request("POST /v1/sms", &format!("authorization: Bearer KEY\r\n{JSON}"), TEXT.as_bytes()))
        .await
        .unwrap();
    relay.fake.entered().notified().await;
    relay.stop.send(true).unwrap();
    relay.served.await.unwrap();
    assert!(relay.fake.accepted().is_empty());
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_the_queue_halfway() {
    let relay = Running::start();
    let gate = relay.fake.close_gate();
    let mut stream = relay.connect().await;
    stream
        .write_all(&request("POST /v1/sms", &format!("authorization: Bearer KEY\r\n{JSON}"), TEXT.as_bytes()))
        .await
        .unwrap();
    relay.fake.entered().notified().await;
    drop(stream);
    relay.stop.send(true).unwrap();
    relay.served.await.unwrap();
    gate.notify_one();
    while relay.fake.accepted().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let relay = Running::with(limits(|c| {
        c.headers_max = 8;
        c.header_bytes_max = 0;
    }));
    let ask = |lines: &str| request("GET /v1/openapi.json", lines, b"");
    assert_eq!(relay.exchange(&ask(&"x: y\r\n".repeat(5))).await.status, 200);
    assert_eq!(relay.exchange(&ask(&"x: y\r\n".repeat(6))).await.status, 431);
    // 8 KiB is the least that the bound can be.
    assert_eq!(relay.exchange(&ask(&format!("x: {}\r\n", "y".repeat(7_000)))).await.status, 200);
    assert_eq!(relay.exchange(&ask(&format!("x: {}\r\n", "y".repeat(20_000)))).await.status, 431);
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let mut options = limits(|c| c.handshake_timeout = Duration::from_millis(50));
    options.tls = true;
    let relay = Running::with(options);
    relay.tls.store(Some(tls_pair().0));
    let mut silent = relay.connect().await;
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
}

/// A server's settings, and a client's that trusts it.
fn tls_pair() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn tls_is_served_with_the_certificate_in_force() {
    let relay = Running::with(Options { tls: true, ..Options::default() });
    let (server, client) = tls_pair();
    let connector = tokio_rustls::TlsConnector::from(client);
    let name = ServerName::try_from("localhost").unwrap();
    assert!(connector.connect(name.clone(), relay.connect().await).await.is_err(), "no certificate yet");

    relay.tls.store(Some(server));
    let mut stream = connector.connect(name, relay.connect().await).await.unwrap();
    let mail = b"From: a@shop.example.com\r\nTo: b@example.net\r\n\r\nx\r\n";
    let lines = "authorization: Bearer KEY\r\ncontent-type: message/rfc822\r\n";
    stream.write_all(&request("POST /v1/email", lines, mail)).await.unwrap();
    let reply = read(&mut stream).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let (mail, ..) = super::fixture::mail_of(&relay.only());
    assert!(mail.contains("HTTPS") && mail.contains("TLSv1"), "{mail}");
}

#[tokio::test]
async fn requests_and_refusals_are_counted_by_route() {
    let relay = Running::start();
    relay.post("/v1/sms", TEXT).await;
    relay.post("/v1/sms", "{}").await;
    relay.get("/v1/messages/one", "authorization: Bearer KEY\r\n").await;
    relay.get("/nowhere/else", "").await;
    let text = relay.metrics.render();
    for line in [
        r#"postrider_http_requests_total{route="/v1/sms",status="202"} 1"#,
        r#"postrider_http_requests_total{route="/v1/sms",status="422"} 1"#,
        r#"postrider_http_requests_total{route="/v1/messages/{id}",status="404"} 1"#,
        r#"postrider_http_requests_total{route="other",status="404"} 1"#,
        r#"postrider_refused_submissions_total{ingress="http",reason="invalid-fields"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(text.matches("postrider_refused_submissions_total{").count(), 1);
}
