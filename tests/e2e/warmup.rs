//! New sources are warmed up: what is more than their day allows goes from others or waits, and a restart forgets nothing.

use std::time::Duration;

use postrider::clock::{SystemClock, Timestamp};
use serde_json::Value;

use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::{SOON, account, eventually};

/// A plan of a few recipients a day, all of which may go at once. It is noon there, so that no day ends meanwhile.
fn plan() -> String {
    let hour = SystemClock::shared().now().seconds() / 3_600 % 24;
    let zone = if hour <= 12 { format!("+{:02}:00", 12 - hour) } else { format!("-{:02}:00", hour - 12) };
    format!(
        r#"
[[warmup]]
name = "slow"
days = [5, 10]
hourly_percent = 100
zone = "{zone}"

[[source]]
name = "new"
addresses = ["127.0.0.2"]
warmup = "slow"

[[source]]
name = "warm"
addresses = ["127.0.0.3"]
{POOLS}"#
    )
}

/// Two pools: one in which the new source has all turns while it may, and one without anybody else.
const POOLS: &str = r#"
[[pool]]
name = "alone"
sources = ["new"]
classes = ["marketing"]

[[pool]]
name = "both"
sources = ["new*1000", "warm"]
"#;

/// What the command says of the new source.
fn told(relay: &Relay) -> Value {
    let output = relay.command(&["warmup", "--json"]);
    let views: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(views.as_array().map(Vec::len), Some(1), "{views}");
    views[0].clone()
}

/// Mails to one recipient each have arrived, one after the other; from which addresses they came.
fn arrived(relay: &Relay, sink: &MailSink, names: std::ops::Range<usize>) -> Vec<String> {
    let mut from = Vec::new();
    for n in names {
        relay.submit_hello(&format!("mail {n}"), &[&format!("lin@{SINK_DOMAIN}")]);
        from.push(sink.subject(&format!("mail {n}")).peer[0].clone());
    }
    from
}

/// The attempt is settled a moment after the sink has the mail.
fn used(relay: &Relay, expected: u64) -> Value {
    eventually("the count is known", SOON, || Some(told(relay)).filter(|view| view["used"] == expected))
}

#[test]
fn what_is_more_than_the_day_allows_goes_from_a_warm_source_also_after_restarts() {
    let sink = MailSink::start(0);
    let extra = plan();
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    let first = told(&relay);
    assert_eq!(
        (&first["source"], &first["day"], &first["cap"], &first["used"]),
        (&"new".into(), &1.into(), &5.into(), &0.into())
    );

    // Nearly all turns are the new source's, while it may.
    let from_new = |from: &[String]| from.iter().filter(|address| *address == "127.0.0.2").count() as u64;
    let sent = from_new(&arrived(&relay, &sink, 0..3));
    let view = used(&relay, sent);
    assert_eq!((&view["provider"], &view["plan"]), (&Value::from("any"), &Value::from("slow")), "{view}");
    relay.stop(SOON);
    relay.launch();
    assert_eq!(told(&relay)["used"], sent, "a restart forgets nothing and adds nothing");

    // A crash may only count too many.
    let sent = sent + from_new(&arrived(&relay, &sink, 3..4));
    relay.kill_9();
    relay.launch();
    let counted = told(&relay)["used"].as_u64().unwrap();
    assert!((sent..=5).contains(&counted), "{sent} were sent, {counted} are counted");
    let mut next = 4;
    while told(&relay)["waits"].is_null() {
        assert!(next < 100, "the day is never used up: {}", told(&relay));
        arrived(&relay, &sink, next..next + 1);
        next += 1;
    }
    assert_eq!(arrived(&relay, &sink, next..next + 3), ["127.0.0.3"; 3], "the rest goes from the other");
    let view = used(&relay, 5);
    account(&format!("warmup: {view}"));
    assert!(view["waits"].as_str().is_some_and(|why| why.contains("its 5 recipients of day 1")), "{view}");

    let labels = r#"{provider="any",source="new"}"#;
    let metric = |name: &str| relay.metric(&format!("postrider_warmup_{name}{labels}"));
    eventually("the gauges follow", SOON, || (metric("recipients") == Some(5)).then_some(()));
    assert_eq!((metric("day"), metric("recipients_limit"), metric("held_days")), (Some(1), Some(5), Some(0)));

    // An operator puts it on another day; a word that is none is refused.
    let table = relay.command(&["warmup", "--reset", "new", "--provider", "any", "--day", "2"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("2/2") && table.contains("10"), "{table}");
    assert_eq!(told(&relay)["waits"], Value::Null);
    for wrong in [&["warmup", "--reset", "warm"][..], &["warmup", "--reset", "new", "--provider", "gmial"]] {
        let refused = relay.command(wrong);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
}

#[test]
fn without_a_warm_source_mail_waits_and_explain_says_until_when() {
    let sink = MailSink::start(0);
    let extra = plan();
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    let to: Vec<String> = (0..5).map(|n| format!("n{n}@{SINK_DOMAIN}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let marketing = |subject: &str, to: &[&str]| {
        let header = format!("From: <hello@{SENDER_DOMAIN}>\r\nSubject: {subject}\r\nX-Postrider-Class: marketing");
        relay.submit(to, &format!("{header}\r\n\r\nHello\r\n"))
    };
    relay.reaches(&marketing("all of the day", &to), "delivered");

    let waiting = marketing("one more", &["lin@sink.example.net"]);
    let told = relay.explained(&waiting, SOON, |m| m["status"] == "delayed");
    let (recipient, attempt) = (&told["recipients"][0], &told["recipients"][0]["attempts"][0]);
    let reason = attempt["reason"].as_str().unwrap();
    account(&format!("explain: {reason}"));
    assert!(
        reason
            .starts_with("source new has had its 5 recipients of day 1 of its warm-up (plan slow) to any; more from ")
    );
    assert!(reason.ends_with(":00:00.000000Z") && attempt["stage"] == "route", "{told}");
    // It counts as no attempt, and comes again when it is of use, as far as its own time allows.
    let next = recipient["next_attempt"].as_str().and_then(Timestamp::parse_rfc3339).unwrap();
    assert!(next > SystemClock::shared().now().plus(Duration::from_secs(600)), "{told}");

    // Who comes after it is not even tried: its lane waits.
    let behind = marketing("and one more", &["lin@sink.example.net"]);
    let told = relay.explained(&behind, SOON, |m| {
        m["recipients"][0]["waiting_for"]
            .as_str()
            .is_some_and(|why| why.contains("source new has had its 5 recipients"))
    });
    assert_eq!(told["recipients"][0]["attempts"].as_array().map(Vec::len), Some(0), "{told}");
    assert_eq!(told["status"], "queued");

    // Other mail to the same host has its own sources, and goes.
    relay.submit_hello("transactional", &["lin@sink.example.net"]);
    assert_eq!(sink.subject("transactional").peer[0], "127.0.0.3");
    let eased = relay.metric(r#"postrider_pace_steps_total{provider="any",step="eased"}"#);
    assert_eq!(eased, None, "the site is not held responsible");
    assert_eq!(relay.message(&waiting)["status"], "delayed");

    // Once it may, it goes.
    let reset = relay.command(&["warmup", "--reset", "new", "--day", "2"]);
    assert!(reset.status.success(), "{reset:?}");
    let flushed = relay.command(&["flush"]);
    assert!(flushed.status.success(), "{flushed:?}");
    relay.reaches(&waiting, "delivered");
    relay.reaches(&behind, "delivered");
}
