//! An account against an endpoint that is led by hand.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::slots::NoSlot;
use super::super::tests::sink::Sink;
use super::super::tests::{Begun, consignment};
use super::super::{Carrier, Carriers, InboundError, Protocol};
use super::*;
use crate::clock::SystemClock;
use crate::config::parse_description;
use crate::event::metrics::Metrics;
use crate::model::{Consignment, Outcome, PartState, ReceiptState, RecipientOutcome, TextProgress};
use crate::sms::Template;

const TOKEN: &str = "0123456789abcdef";

/// A text for that carrier.
fn consignment_of(carrier: &Carrier, text: &str) -> Consignment {
    let progress = Some(TextProgress::new(carrier.name().clone(), 9, 1));
    Consignment { progress, ..consignment(text) }
}

fn described(text: &str) -> Arc<Description> {
    let path = std::path::Path::new("own.toml");
    Arc::new(parse_description(path, text).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
}

fn account(endpoint: &str) -> Http {
    let callback = HttpCallback {
        listen: "127.0.0.1:1".parse().unwrap(),
        token: Secret::new(TOKEN),
        url: Some("https://relay.example.com".to_owned()),
        from: Vec::new(),
        tls: false,
        body: BodyBounds { bytes_max: 1_024, timeout: Duration::from_secs(10) },
        connections_max: 8,
    };
    Http {
        description: described(include_str!("../../../../config/http/generic.toml")),
        endpoint: endpoint.parse().unwrap(),
        values: BTreeMap::from([("api_key".into(), Secret::new("sesame"))]),
        templates: Vec::new(),
        authorities: Authorities::System,
        callback: Some(callback),
        keep_alive: Duration::from_secs(15),
        connect_tries: 2,
        answer_bytes_max: 1_024,
        retry_after_max: Duration::from_secs(60),
    }
}

struct Bench {
    listener: TcpListener,
    carrier: Arc<Carrier>,
    sink: Arc<Sink>,
    metrics: Metrics,
}

impl Bench {
    async fn new(change: impl FnOnce(&mut Options, &mut Http)) -> Self {
        Self::with(Sink::new(1_000, None), change).await
    }

    async fn with(sink: Arc<Sink>, change: impl FnOnce(&mut Options, &mut Http)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut http = account(&format!("http://{address}"));
        let mut options = Options { name: "c".into(), address: address.to_string(), ..Options::default() };
        options.reconnect_min = Duration::from_millis(10);
        change(&mut options, &mut http);
        options.protocol = Protocol::Http(http);
        let metrics = Metrics::new();
        let carrier = Carrier::start(options, SystemClock::shared(), &metrics, sink.clone()).unwrap();
        Self { listener, carrier, sink, metrics }
    }

    async fn endpoint(&self) -> Endpointed {
        Endpointed(self.listener.accept().await.unwrap().0)
    }

    fn carry(&self, text: &str) -> JoinHandle<RecipientOutcome> {
        let (carrier, consignment) = (self.carrier.clone(), consignment_of(&self.carrier, text));
        tokio::spawn(async move { carrier.carry(&Begun, &consignment, None).await })
    }

    fn parts(&self, result: &str) -> u64 {
        self.metrics.carrier_parts.with_label_values(&["c", result]).get()
    }

    async fn is_up(&self, wanted: bool) {
        while self.carrier.is_up() != wanted {
            tokio::task::yield_now().await;
        }
    }

    fn callbacks(&self) -> HttpCallbacks {
        let carriers = Carriers::default();
        carriers.store(Arc::new([(self.carrier.name().clone(), self.carrier.clone())].into()));
        HttpCallbacks::new("127.0.0.1:1".parse().unwrap(), carriers, &self.metrics)
    }
}

/// The other end of a connection.
struct Endpointed(TcpStream);

impl Endpointed {
    /// Head and body of the next request.
    async fn hear(&mut self) -> (String, Json) {
        let mut octets = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&octets).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().to_owned();
                if body.len() == length.parse::<usize>().unwrap() {
                    return (head.to_owned(), serde_json::from_str(body).unwrap());
                }
            }
            assert!(self.0.read_buf(&mut octets).await.unwrap() > 0, "the connection ended");
        }
    }

    async fn say(&mut self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        self.0.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn shown(outcome: &RecipientOutcome) -> String {
    let parts = outcome.progress.as_ref().map(|progress| format!("{:?}", progress.parts)).unwrap_or_default();
    match &outcome.outcome {
        Outcome::Relayed(relayed) => format!("relayed {} {parts}", relayed.reply),
        Outcome::Delayed(f) | Outcome::Failed(f) => {
            let kind = if matches!(outcome.outcome, Outcome::Failed(_)) { "failed" } else { "delayed" };
            let words = f.reply.as_ref().map(|reply| reply.text.clone()).or(f.cause.clone()).unwrap_or_default();
            format!("{kind} {:?} {} {} {words} {parts}", f.scope, f.status, f.throttled)
        }
    }
}

#[tokio::test]
async fn a_text_is_one_request_and_its_answer_decides() {
    let bench = Bench::new(|_, _| {}).await;
    let mut endpoint = bench.endpoint().await;
    for (status, body, expected) in [
        ("202 Accepted", r#"{"id":"a1"}"#, "relayed 202 HTTP 202 id a1 [Sent(\"a1\")]"),
        ("429 Slow", r#"{"error":{"code":"throttled"}}"#, "delayed Site 4.4.5 true throttled [Waiting]"),
        ("503 No", "<html>", "delayed Recipient 4.3.0 false HTTP 503 [Waiting]"),
        ("400 No", r#"{"error":{"code":"new","message":"no"}}"#, "delayed Recipient 4.3.0 false new: no [Waiting]"),
        ("400 No", r#"{"error":{"code":"bad_number"}}"#, "failed Recipient 5.1.1 false bad_number [Refused]"),
        (
            "401 No",
            r#"{"error":{"code":"unauthorized","message":"not sesame"}}"#,
            "delayed Host 4.3.5 false unauthorized: not … [Waiting]",
        ),
        (
            "200 OK",
            "<html>",
            "delayed Connection 4.4.2 false \
            answer lost: HTTP 200 with a body that is not what the description says [Unanswered]",
        ),
    ] {
        let carried = bench.carry("hello");
        let (head, said) = endpoint.hear().await;
        assert!(
            head.starts_with("POST /v1/messages HTTP/1.1\r\n") && head.contains("authorization: Bearer sesame\r\n"),
            "{head}"
        );
        let text = (said["to"].as_str(), said["text"].as_str(), said["receipt_url"].as_str());
        let url = "https://relay.example.com/c/0123456789abcdef/receipt";
        assert_eq!(text, (Some("+8613800138000"), Some("hello"), Some(url)));
        endpoint.say(status, body).await;
        assert_eq!(shown(&carried.await.unwrap()), expected, "over one connection");
    }
    assert_eq!(["sent", "throttled", "delayed", "refused", "unanswered"].map(|r| bench.parts(r)), [1, 1, 3, 1, 1]);
}

#[tokio::test]
async fn a_carrier_that_wants_to_be_left_alone_is_and_no_longer_than_may_be() {
    for (status, expected) in [
        ("503 No", 0),
        ("400 No\r\nretry-after: 40", 0),
        ("503 No\r\nretry-after: 20", 20),
        ("429 Slow\r\nretry-after: soon", 1),
        ("429 Slow\r\nretry-after: 30", 30),
        ("429 Slow\r\nretry-after: 4000", 50),
    ] {
        let bench = Bench::new(|_, http| http.retry_after_max = Duration::from_secs(50)).await;
        let mut endpoint = bench.endpoint().await;
        let carried = bench.carry("hello");
        endpoint.hear().await;
        let before = bench.carrier.shared().clock.mono();
        endpoint.say(status, "{}").await;
        carried.await.unwrap();
        let shared = bench.carrier.shared();
        let until = shared.clock.mono().plus(shared.pace.wait()).since(before);
        let expected = Duration::from_secs(expected);
        let asked = until >= expected && (until < expected + Duration::from_secs(9) || expected.is_zero());
        assert!(asked, "{status}: {until:?}");
    }
}

#[tokio::test]
async fn what_may_have_left_without_an_answer_is_lost_and_a_closed_connection_takes_nothing() {
    let bench = Bench::new(|options, _| options.response_timeout = Duration::from_millis(200)).await;
    let mut endpoint = bench.endpoint().await;
    let late = bench.carry("hello");
    endpoint.hear().await;
    assert!(shown(&late.await.unwrap()).contains("answer lost: no answer in time [Unanswered]"));
    let cut = bench.carry("hello");
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    drop(endpoint);
    assert!(shown(&cut.await.unwrap()).contains("[Unanswered]"));
    let half = bench.carry("hello");
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    endpoint.0.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 50\r\n\r\n{\"id\":").await.unwrap();
    drop(endpoint);
    assert!(shown(&half.await.unwrap()).contains("the body broke off"));
    let large = bench.carry("hello");
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    endpoint.say("202 Accepted", &" ".repeat(1_025)).await;
    assert!(shown(&large.await.unwrap()).contains("HTTP 202 with more than 1024 bytes [Unanswered]"));
    // One that the carrier closed while it rested is not used: nothing is lost by that.
    let kept = bench.carry("hello");
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    endpoint.say("202 Accepted", r#"{"id":"a2"}"#).await;
    assert!(shown(&kept.await.unwrap()).starts_with("relayed"));
    endpoint.0.shutdown().await.unwrap();
    assert_eq!(endpoint.0.read(&mut [0; 1]).await.unwrap(), 0, "seen by the other side");
    let again = bench.carry("hello");
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    endpoint.say("202 Accepted", r#"{"id":"a3"}"#).await;
    assert!(shown(&again.await.unwrap()).contains("a3"));
    assert_eq!(bench.parts("unanswered"), 4);
}

#[tokio::test]
async fn requests_under_way_are_the_window_and_a_drain_waits_for_them() {
    let bench = Bench::new(|options, _| options.window = 2).await;
    let mut first = bench.endpoint().await;
    let carried = [(); 3].map(|()| bench.carry("hello"));
    first.hear().await;
    let mut second = bench.endpoint().await;
    second.hear().await;
    assert_eq!(bench.metrics.carrier_window_used.with_label_values(&["c"]).get(), 2);
    assert!(!bench.carrier.try_ready(), "the window is full");
    first.say("202 Accepted", r#"{"id":"a1"}"#).await;
    first.hear().await;
    let carrier = bench.carrier.clone();
    let stopped = tokio::spawn(async move { carrier.shutdown(Duration::from_secs(30)).await });
    while bench.carrier.shared().slots.look() != Err(NoSlot::Stopping) {
        tokio::task::yield_now().await;
    }
    for (endpoint, id) in [(&mut first, "a2"), (&mut second, "a3")] {
        endpoint.say("202 Accepted", &format!(r#"{{"id":"{id}"}}"#)).await;
    }
    for one in carried {
        assert!(shown(&one.await.unwrap()).starts_with("relayed"));
    }
    stopped.await.unwrap();
    assert!(!bench.carrier.is_up());
}

#[tokio::test]
async fn a_carrier_is_down_when_connections_come_to_nothing_and_up_again_with_one_that_does() {
    // Connections that rest are not used.
    let bench = Bench::new(|_, http| http.keep_alive = Duration::ZERO).await;
    let endpoint = bench.endpoint().await;
    bench.is_up(true).await;
    let address = bench.listener.local_addr().unwrap();
    let Bench { listener, carrier, sink, metrics } = bench;
    drop((endpoint, listener));
    let consignment = consignment_of(&carrier, "hello");
    let outcome = carrier.carry(&Begun, &consignment, None).await;
    assert_eq!(outcome.progress.unwrap().parts, [PartState::Waiting], "not sent");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let bench = Bench { listener: socket.listen(8).unwrap(), carrier, sink, metrics };
    bench.is_up(false).await;
    let carried = {
        let _probe = bench.endpoint().await;
        bench.is_up(true).await;
        bench.carry("hello")
    };
    let mut endpoint = bench.endpoint().await;
    endpoint.hear().await;
    endpoint.say("202 Accepted", r#"{"id":"a1"}"#).await;
    assert!(shown(&carried.await.unwrap()).starts_with("relayed"));
}

#[tokio::test]
async fn a_long_text_goes_whole_and_takes_the_turns_of_all_its_parts() {
    let bench = Bench::new(|options, _| options.rate = Some(20.0)).await;
    let mut endpoint = bench.endpoint().await;
    let long = "x".repeat(153 * 4);
    assert_eq!(bench.carrier.planned(&SmsText::new(&long).unwrap(), 0).parts.len(), 1);
    let started = tokio::time::Instant::now();
    let carried = bench.carry(&long);
    let (_, said) = endpoint.hear().await;
    // Four parts at 20 a second, of which the first goes at once.
    assert!(started.elapsed() >= Duration::from_millis(130), "{:?}", started.elapsed());
    assert_eq!(said["text"].as_str().unwrap().len(), long.len());
    endpoint.say("202 Accepted", r#"{"id":"a1"}"#).await;
    assert!(shown(&carried.await.unwrap()).starts_with("relayed"));
    let too_long = bench.carry(&"x".repeat(153 * 11)).await.unwrap();
    assert!(shown(&too_long).starts_with("failed Message 5.7.1 false not sent: 11 parts"), "{}", shown(&too_long));
}

#[tokio::test]
async fn a_text_goes_as_the_template_that_it_fits() {
    const DESCRIPTION: &str = "[request]\nurl = \"http://x/\"\n[request.json]\nid = \"{template_id}\"\nsign = \"{template_signature}\"\n\
        all = \"{variables}\"\nvalues = \"{variable_values}\"\nwritten = \"v={variables}\"\n[answer]\nid = \"/id\"\n";
    let bench = Bench::new(|_, http| {
        http.description = described(DESCRIPTION);
        let template = |text: &str, id: &str, signature: Option<&str>| Registered {
            template: Template::loose(text).unwrap(),
            id: id.into(),
            signature: signature.map(Into::into),
        };
        http.templates = vec![
            template("码{code:digits 4-6}，勿告", "1", Some("大店")),
            template("码{code:digits 4-6}，勿告", "2", None),
            template("{1}码{2}，勿告", "3", None),
        ];
    })
    .await;
    let mut endpoint = bench.endpoint().await;
    for (text, id, sign, values) in [
        ("【大店】码1234，勿告", "1", "大店", r#"["1234"]"#),
        ("【小店】码1234，勿告", "2", "小店", r#"["1234"]"#),
        ("码1234，勿告", "1", "大店", r#"["1234"]"#),
        ("【小店】您的码12\",\"x\":\"34，勿告", "3", "小店", r#"["您的","12\",\"x\":\"34"]"#),
    ] {
        let carried = bench.carry(text);
        let (_, said) = endpoint.hear().await;
        let all = said["all"].as_object().unwrap();
        assert_eq!((&said["id"], &said["sign"]), (&Json::from(id), &Json::from(sign)), "{text}");
        assert_eq!(said["values"].to_string(), values);
        assert_eq!(all.len(), said["values"].as_array().unwrap().len(), "a value is a value");
        assert_eq!(said["written"].as_str().unwrap(), format!("v={}", said["all"]));
        endpoint.say("202 Accepted", r#"{"id":"a1"}"#).await;
        assert!(shown(&carried.await.unwrap()).starts_with("relayed"));
    }
    let unfit = shown(&bench.carry("【小店】你好").await.unwrap());
    assert_eq!(
        unfit,
        "failed Message 5.7.1 false not sent: the text fits no [[carrier.template]] of the account [Refused]"
    );
}

async fn bring(callbacks: &HttpCallbacks, path: &str, body: &[u8]) -> (u16, Bytes) {
    let headers = hyper::HeaderMap::new();
    let request = CallbackRequest { peer: "127.0.0.1".parse().unwrap(), path, query: None, headers: &headers, body };
    let answer = callbacks.take(request).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn receipts_are_answered_when_they_are_durable() {
    let bench = Bench::with(Sink::new(0, None), |options, _| options.receipts_max = 2).await;
    let path = format!("/c/{TOKEN}/receipt");
    let body = br#"[{"id":"1","status":"delivered"},{"id":"2","status":"new","error":"7","message":"on\nits way"},
        {"id":3,"status":"undeliverable"}]"#;
    let callbacks = bench.callbacks();
    let taking = tokio::spawn(async move { bring(&callbacks, &path, body).await });
    while bench.sink.begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!taking.is_finished(), "no yes before it is durable");
    bench.sink.permits.add_permits(3);
    let (status, answer) = taking.await.unwrap();
    assert_eq!((status, &answer[..]), (200, &br#"{"ok":true}"#[..]));
    let mut kept: Vec<_> =
        bench.sink.kept.lock().iter().map(|r| (r.carrier_message_id.to_string(), r.state, r.text.clone())).collect();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("1", ReceiptState::Delivered, "stat:delivered"),
        ("2", ReceiptState::Underway, "stat:new err:7 onits way"),
        ("3", ReceiptState::Undeliverable, "stat:undeliverable"),
    ];
    assert_eq!(kept, expected.map(|(id, state, words)| (id.to_owned(), state, words.to_owned())));
}

#[tokio::test]
async fn what_cannot_be_kept_is_brought_again_and_what_handsets_send_is_heard() {
    for error in [InboundError::Busy, InboundError::Unavailable] {
        let bench = Bench::with(Sink::new(9, Some(error)), |_, _| {}).await;
        let callbacks = bench.callbacks();
        let one = br#"{"id":"1","status":"delivered"}"#;
        assert_eq!(bring(&callbacks, &format!("/c/{TOKEN}/receipt"), one).await.0, 503, "{error}");
        let message = r#"{"from":"+8613800138000","to":"1069","text":"退订"}"#.as_bytes();
        assert_eq!(bring(&callbacks, &format!("/c/{TOKEN}/message"), message).await.0, 503, "{error}");
    }
    let bench = Bench::new(|_, _| {}).await;
    let callbacks = bench.callbacks();
    for from in ["+8613800138000", "8613800138000", "13800138000"] {
        let message = format!(r#"{{"from":"{from}","to":"1069","text":"退订😀"}}"#);
        assert_eq!(bring(&callbacks, &format!("/c/{TOKEN}/message"), message.as_bytes()).await.0, 200);
        let heard = bench.sink.heard.lock().pop().unwrap();
        assert_eq!((&*heard.from, &*heard.to), ("+8613800138000", "1069"));
        assert_eq!(heard.alphabet.words(&heard.octets).unwrap(), "退订😀");
    }
}

#[tokio::test]
async fn who_may_not_brings_nothing() {
    let bench = Bench::new(|_, http| http.callback.as_mut().unwrap().from = vec!["10.0.0.0/8".parse().unwrap()]).await;
    let callbacks = bench.callbacks();
    let path = format!("/c/{TOKEN}/receipt");
    assert_eq!(bring(&callbacks, &path, b"[]").await.0, 404, "from elsewhere");
    let refused = |reason| bench.metrics.carrier_callbacks_refused.with_label_values(&[reason]).get();
    assert_eq!((refused("address"), refused("login")), (1, 0));
    assert!(callbacks.bounds("10.1.2.3".parse().unwrap(), &path).is_ok_and(|body| body.bytes_max == 1_024));
    for path in ["", "/", "/c", "/c/", "/c//receipt", "/c/0123456789abcdeg/receipt", "/x/0123456789abcdef/receipt"] {
        assert!(callbacks.bounds("10.1.2.3".parse().unwrap(), path).is_err(), "{path}");
    }
    assert_eq!(refused("login"), 7);
}

#[test]
fn endpoints_are_hosts_with_or_without_a_port() {
    for (text, authority, address) in [
        ("https://Example.com", "example.com", "example.com:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://[2001:db8::1]", "[2001:db8::1]", "[2001:db8::1]:443"),
        ("http://[::1]:80", "[::1]", "[::1]:80"),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!((endpoint.authority().as_str(), endpoint.address().as_str()), (authority, address));
    }
    for wrong in [
        "example.com",
        "ftp://x",
        "https://",
        "https://a b",
        "https://a:0",
        "https://a:x",
        "https://u@x",
        "https://[::1",
        "https://a\r\n",
    ] {
        assert!(wrong.parse::<Endpoint>().is_err(), "{wrong:?}");
    }
}

#[test]
fn times_are_written_as_they_are_wanted() {
    let mut values = Values::default();
    set_times(&mut values, Timestamp::parse_rfc3339("2026-11-23T18:24:07.5Z").unwrap());
    for (name, text) in [
        ("time_unix", "1795458247"),
        ("time_millis", "1795458247500"),
        ("time_iso", "2026-11-23T18:24:07Z"),
        ("time_compact", "20261123182407"),
        ("time_compact_china", "20261124022407"),
        ("date", "2026-11-23"),
    ] {
        assert!(values.get(name) == Some(&Value::Text(text.to_owned())), "{name}");
    }
    assert_eq!(local(&Number::parse("+8613800138000").unwrap()), "13800138000");
    assert_eq!(local(&Number::parse("+85212345678").unwrap()), "85212345678");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    /// Whatever is brought, to whichever description, is answered, and what was taken has an id.
    #[test]
    fn any_body_is_answered(body in "[\\[\\]{}\":,a-z_0-9=&%+-]{0,60}|\\PC{0,40}", octets in proptest::collection::vec(0u8.., 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for text in [
                include_str!("../../../../config/http/aliyun.toml"),
                include_str!("../../../../config/http/vonage.toml"),
                include_str!("../../../../config/http/generic.toml"),
            ] {
                let bench = Bench::new(|_, http| http.description = described(text)).await;
                let callbacks = bench.callbacks();
                for body in [body.as_bytes(), &octets] {
                    for what in ["receipt", "message"] {
                        let (status, _) = bring(&callbacks, &format!("/c/{TOKEN}/{what}"), body).await;
                        assert!([200, 400].contains(&status), "{status}");
                    }
                }
                assert!(bench.sink.kept.lock().iter().all(|receipt| !receipt.carrier_message_id.is_empty()));
            }
        });
    }
}
