//! Both ends of the control socket, over a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::answer::LANES_MAX;
use super::server::{CONNECTIONS_MAX, REQUEST_BYTES_MAX, response_line};
use super::*;
use crate::clock::Timestamp;
use crate::egress::email::TlsReportsView;
use crate::egress::email::WarmupView;
use crate::model::Class;
use crate::policy::opt_outs::{OptOut, Whom};
use crate::queue::MessageView;
use crate::queue::steer::{RuleView, Sentence, SentenceEnd, Swept};
use crate::queue::steering::{Action, Order, Rule, Selector, SteerError, Which};
use crate::queue::view::QueueView;
use crate::route::PortedNumber;

/// An operator's hands that do nothing; they know what was asked.
#[derive(Debug, Default)]
pub(in crate::admin) struct Fake {
    held: AtomicBool,
    rules: Mutex<Vec<Rule>>,
}

impl Operator for Fake {
    fn queue(&self, lanes_max: usize) -> QueueView {
        let held = self.held.load(Ordering::SeqCst);
        QueueView { held, messages: 3, bytes: 4, lanes: Vec::new(), lanes_total: lanes_max as u64 }
    }

    fn explain(&self, what: &str, _most: usize) -> Vec<MessageView> {
        vec![MessageView {
            id: what.to_owned(),
            status: "queued".to_owned(),
            channel: "sms".to_owned(),
            client: "shop".into(),
            class: "otp".to_owned(),
            campaign: None,
            client_ref: None,
            received_at: String::new(),
            expires_at: None,
            size: 1,
            recipients: Vec::new(),
        }]
    }

    fn hold(&self, held: bool, _by: &str) {
        self.held.store(held, Ordering::SeqCst);
    }

    fn flush(&self, _selector: Selector, _by: &str) -> Result<u64, SteerError> {
        Ok(12)
    }

    fn order(&self, order: Order, by: &str) -> Result<Rule, SteerError> {
        let Order { action, selector, reason, .. } = order.check()?;
        let rule = Rule { id: 7, action, selector, reason, by: by.to_owned(), since: Timestamp(1), expires_at: None };
        self.rules.lock().push(rule.clone());
        Ok(rule)
    }

    fn end_rule(&self, action: &str, which: Which, _by: &str) -> Result<Rule, SteerError> {
        let is_meant = |rule: &Rule| rule.action.as_str() == action && which == Which::Id(rule.id);
        let mut rules = self.rules.lock();
        let place = rules.iter().position(is_meant).ok_or(SteerError::NoSuchRule)?;
        Ok(rules.remove(place))
    }

    fn rules(&self) -> Vec<RuleView> {
        self.rules.lock().iter().map(|rule| RuleView { rule: rule.clone(), waiting: 0 }).collect()
    }

    fn sweep(&self, _sentence: Sentence, _by: &str, tell: &mut dyn FnMut(Swept)) -> Result<Swept, SteerError> {
        let swept = Swept { looked: 1, of: 2, ..Swept::default() };
        tell(swept);
        Ok(Swept { looked: 2, hit: 2, ..swept })
    }

    fn warmup(&self) -> Vec<WarmupView> {
        Vec::new()
    }

    fn reset_warmup(&self, source: &str, _: Option<&str>, _: u32, _: &str) -> Result<Vec<WarmupView>, String> {
        Err(format!("no source {source}"))
    }

    fn tls_reports(&self, domains_max: usize) -> TlsReportsView {
        let (since, domains_total) = (String::new(), domains_max as u64);
        let (domains, left_out) = (Vec::new(), crate::egress::email::LeftOut::default());
        TlsReportsView { since, sends: true, domains, domains_total, left_out, reports_waiting: 0 }
    }

    fn send_tls_reports(&self, _by: &str) -> Result<u64, String> {
        Err("no reports are sent".to_owned())
    }

    fn opt_outs(&self, number: Option<&str>, most: usize) -> Result<(Vec<OptOut>, u64), String> {
        Ok((number.map(opt_out).into_iter().collect(), most as u64))
    }

    fn add_opt_out(&self, order: OptOutOrder, by: &str) -> Result<Option<OptOut>, String> {
        let OptOutOrder { number, whom, class, client } = order;
        Ok(Some(OptOut { number, whom, class, client, since: Timestamp(1), by: by.into() }))
    }

    fn remove_opt_outs(
        &self,
        number: &str,
        whom: Option<Whom>,
        class: Option<Class>,
        _by: &str,
    ) -> Result<Vec<OptOut>, String> {
        assert_eq!((whom, class), (Some(Whom::Signature("小店".into())), None));
        Ok(vec![opt_out(number)])
    }

    fn ported(&self, number: Option<&str>, most: usize) -> Result<(Vec<PortedNumber>, u64), String> {
        Ok((number.map(ported).into_iter().collect(), most as u64))
    }

    fn forget_ported(&self, number: &str, _by: &str) -> Result<Option<PortedNumber>, String> {
        Ok(Some(ported(number)))
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        Err("relay.toml:3: unknown key".to_owned())
    }

    fn status(&self) -> Status {
        Status {
            version: "0.1.0".to_owned(),
            uptime_s: 1,
            held: false,
            ready: true,
            reasons: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

fn ported(number: &str) -> PortedNumber {
    PortedNumber { number: number.into(), not: vec!["china-mobile".into()], carrier: "one".into(), at: Timestamp(1) }
}

fn opt_out(number: &str) -> OptOut {
    let (whom, by) = (Whom::Signature("小店".into()), "reply".into());
    OptOut { number: number.into(), whom, class: Class::Marketing, client: None, since: Timestamp(1), by }
}

async fn ask(path: &Path, request: Request) -> Result<Response, ControlError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || call(&path, None, &request)).await.unwrap()
}

#[tokio::test]
async fn an_operator_is_answered_until_the_relay_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SOCKET_NAME);
    assert_eq!(
        ask(&path, Request::Status).await.unwrap_err().to_string(),
        format!("no relay is running on {}", directory.path().display())
    );
    let operator: Arc<dyn Operator> = Arc::new(Fake::default());
    let socket = ControlSocket::bind(&path, operator).unwrap();
    let (stop, shutdown) = watch::channel(false);
    let running = tokio::spawn(socket.run(shutdown));

    assert_eq!(ask(&path, Request::Pause).await.unwrap(), Response::Held { held: true });
    let Response::Queue(view) = ask(&path, Request::Queue { lanes: usize::MAX }).await.unwrap() else { panic!() };
    assert!(view.held);
    assert_eq!(view.lanes_total, LANES_MAX as u64, "what is asked for is bounded");
    assert_eq!(ask(&path, Request::Resume).await.unwrap(), Response::Held { held: false });
    let flush = || Request::Flush { selector: Selector::default() };
    assert_eq!(ask(&path, flush()).await.unwrap(), Response::Flushed { recipients: 12 });
    let explain = Request::Explain { what: "+8613800138000".to_owned(), most: 5 };
    let Response::Messages { messages } = ask(&path, explain).await.unwrap() else { panic!() };
    assert_eq!(messages[0].id, "+8613800138000");
    let refused = ask(&path, Request::Reload).await.unwrap_err();
    assert_eq!(refused.to_string(), "relay.toml:3: unknown key");
    assert_eq!(ask(&path, Request::Warmup).await.unwrap(), Response::Warmup { sources: Vec::new() });
    let reset = Request::ResetWarmup { source: "mta9".to_owned(), provider: None, day: 1 };
    assert_eq!(ask(&path, reset).await.unwrap_err().to_string(), "no source mta9");
    let listed =
        ask(&path, Request::OptOuts { number: Some("+8613800138000".into()), most: usize::MAX }).await.unwrap();
    assert_eq!(listed, Response::OptOuts { opt_outs: vec![opt_out("+8613800138000")], total: 100_000 });
    let (number, whom): (Arc<str>, _) = ("+8613800138000".into(), Whom::Signature("小店".into()));
    let entry = OptOutOrder { number: number.clone(), whom: whom.clone(), class: Class::Marketing, client: None };
    let Response::OptOuts { opt_outs, total: 1 } = ask(&path, Request::AddOptOut { entry }).await.unwrap() else {
        panic!()
    };
    assert!(opt_outs[0].whom == whom && opt_outs[0].by.starts_with("uid "), "{opt_outs:?}");
    let listed = ask(&path, Request::Ported { number: Some(number.clone()), most: 3 }).await.unwrap();
    assert_eq!(listed, Response::Ported { numbers: vec![ported(&number)], total: 3 });
    let forgotten = ask(&path, Request::ForgetPorted { number: number.clone() }).await.unwrap();
    assert_eq!(forgotten, Response::Ported { numbers: vec![ported(&number)], total: 1 });
    let off = Request::RemoveOptOuts { number, whom: Some(whom), class: None };
    assert!(matches!(ask(&path, off).await.unwrap(), Response::OptOuts { total: 1, .. }));
    let Response::Status(status) = ask(&path, Request::Status).await.unwrap() else { panic!() };
    assert!(status.ready);

    let shop = Selector { client: Some("shop".into()), ..Selector::default() };
    let (selector, reason) = (shop.clone(), "x".to_owned());
    let order = Order { action: Action::Pause, selector, reason, expires: None };
    let asked = path.clone();
    let ordered = move || call(&asked, Some("lin".to_owned()), &Request::Order { order });
    let Response::Rule { rule } = tokio::task::spawn_blocking(ordered).await.unwrap().unwrap() else { panic!() };
    assert!(rule.by.starts_with("lin (uid ") && rule.selector == shop, "{rule:?}");
    let end = Request::EndRule { action: "pause".to_owned(), which: Which::Id(8) };
    assert!(ask(&path, end).await.unwrap_err().to_string().contains("no such rule"));
    let sentence = Sentence { end: SentenceEnd::Cancel, selector: shop, reason: "x".to_owned(), dry_run: false };
    let (asked, mut seen) = (path.clone(), Vec::new());
    let swept = tokio::task::spawn_blocking(move || {
        let swept = call_telling(&asked, None, &Request::Sweep { sentence }, |swept| seen.push(swept.looked));
        (swept, seen)
    });
    let (swept, seen) = swept.await.unwrap();
    let Response::Swept(swept) = swept.unwrap() else { panic!() };
    assert_eq!((swept.hit, seen), (2, vec![1]));

    stop.send(true).unwrap();
    running.await.unwrap();
    assert!(!path.exists());
    assert!(matches!(ask(&path, Request::Status).await, Err(ControlError::NotRunning { .. })));
}

#[tokio::test]
async fn a_connection_carries_many_requests_and_survives_nonsense() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let socket = ControlSocket::bind(&path, Arc::new(Fake::default())).unwrap();
    let (_stop, shutdown) = watch::channel(false);
    tokio::spawn(socket.run(shutdown));
    let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
    let mut replies = String::new();
    for line in ["nonsense", r#"{"v":1,"request":{"op":"flush"}}"#, r#"{"v":9,"request":{}}"#] {
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        stream.read_line(&mut replies).await.unwrap();
    }
    let lines: Vec<_> = replies.lines().collect();
    assert!(lines[0].contains("not a control message"), "{replies}");
    assert_eq!(lines[1], r#"{"v":1,"response":{"kind":"flushed","recipients":12}}"#);
    assert!(lines[2].contains("control version 9"), "{replies}");

    let mut long = BufReader::new(UnixStream::connect(&path).await.unwrap());
    long.write_all(&vec![b'x'; REQUEST_BYTES_MAX as usize]).await.unwrap();
    let mut reply = String::new();
    long.read_to_string(&mut reply).await.unwrap();
    assert!(reply.contains("too long"), "{reply}");
}

#[tokio::test]
async fn more_commands_than_places_wait_and_the_end_waits_for_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let socket = ControlSocket::bind(&path, Arc::new(Fake::default())).unwrap();
    let (stop, shutdown) = watch::channel(false);
    let running = tokio::spawn(socket.run(shutdown));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        stream.write_all(b"{\"v\":1,\"request\":{\"op\":\"flush\"}}\n").await.unwrap();
        stream.read_line(&mut String::new()).await.unwrap();
        silent.push(stream);
    }
    let waiting = tokio::spawn({
        let path = path.clone();
        async move { ask(&path, Request::Flush { selector: Selector::default() }).await }
    });
    drop(silent.pop());
    assert_eq!(waiting.await.unwrap().unwrap(), Response::Flushed { recipients: 12 });
    stop.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn the_socket_is_the_owners_and_displaces_nothing_alive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let before = std::fs::metadata(directory.path()).unwrap().mode();
    let first = ControlSocket::bind(&path, Arc::new(Fake::default())).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(directory.path()).unwrap().mode(), before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing but the socket is left");
    let second = ControlSocket::bind(&path, Arc::new(Fake::default())).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    // Dropped without `run`: what a killed process leaves behind.
    drop(first);
    assert!(path.exists());
    let _third = ControlSocket::bind(&path, Arc::new(Fake::default())).unwrap();

    let plain = directory.path().join("plain");
    std::fs::write(&plain, "precious").unwrap();
    let error = ControlSocket::bind(&plain, Arc::new(Fake::default())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "precious");
    let deep = directory.path().join("x".repeat(120));
    let error = ControlSocket::bind(&deep, Arc::new(Fake::default())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}

#[test]
fn an_answer_that_is_too_long_is_an_error_instead() {
    let fits = response_line(Response::Reloaded { notes: vec!["x".repeat(1_000)] }).unwrap();
    assert!(fits.len() > 1_000);
    let long = response_line(Response::Reloaded { notes: vec!["x".repeat(RESPONSE_BYTES_MAX)] }).unwrap();
    assert!(String::from_utf8(long).unwrap().contains("too long"));
}
