//! Tables tried out before they are in force.

use clap::Parser as _;

use super::test::{differences, refusals};
use super::*;
use crate::cli::CommandLine;
use crate::model::Stage;
use crate::provider::SHIPPED;

/// Lines as the event file has them: two that matter, one of a text, one success, one broken.
const EVENTS: &str = r#"{"time":"2026-11-23T07:52:32.170655Z","event":"delayed","channel":"email","stage":"mail","reply":{"code":550,"text":"Ip frequency limited"},"peer":{"host":"mx3.qq.com"}}
{"time":"2026-11-23T07:52:33.170655Z","event":"delayed","channel":"email","stage":"mail","reply":{"code":550,"text":"Ip frequency limited, again"},"peer":{"host":"mx1.qq.com"}}
{"time":"2026-11-23T07:52:34.170655Z","event":"undelivered","channel":"sms","reply":{"code":550,"text":"Ip frequency limited"}}
{"time":"2026-11-23T07:52:35.170655Z","event":"bounced","channel":"email","reply":{"code":550,"enhanced":"5.1.1","text":"no"},"peer":{"host":"mx.example.net"}}
{"time":"2026-11-23T07:52:36.170655Z","event":"delivered","channel":"email","reply":{"code":250,"text":"ok"},"peer":{"host":"mx3.qq.com"}}
{"time":"2026-11-
"#;

fn run(line: &[&str]) -> Result<(), Failure> {
    CommandLine::try_parse_from([&["postrider", "providers"], line].concat())
        .map_err(|e| Failure::Usage(e.to_string()))?
        .command
        .run()
}

#[test]
fn an_edited_table_shows_what_it_would_change() {
    let replies = refusals(EVENTS.as_bytes(), Stage::Recipient);
    assert_eq!(replies.len(), 3);
    let old = Table::shipped();
    assert_eq!(differences(&replies, &old, &old), []);
    let new = Table::parse(&SHIPPED.replace("\"ip frequency limited\", ", "")).unwrap();
    let found = differences(&replies, &old, &new);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].count, &*found[0].provider, &*found[0].reply), (2, "qq", "550 Ip frequency limited"));
    assert!(found[0].before.starts_with("qq-rate-ip rate-ip: retry source"), "{}", found[0].before);
    assert!(found[0].after.starts_with("any-rate-refused rate-ip: retry source"), "{}", found[0].after);
}

#[test]
fn commands_end_by_what_they_were_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (events, good, bad) =
        (file("events.jsonl", EVENTS), file("good.toml", SHIPPED), file("bad.toml", "[[reply]]\nid = 1\n"));
    for line in [
        &["list"][..],
        &["list", "gmail"],
        &["list", "--json"],
        &["list", "--table", &good],
        &["test", "550 5.1.1 no"],
        &["test", "--mx", "mx3.qq.com", "--stage", "mail", "--json", "550-Ip frequency\\n550 limited"],
        &["test", "--table", &good, "--events", &events],
        &["test", "--table", &good, "--events", &events, "--json"],
    ] {
        assert!(run(line).is_ok(), "{line:?}");
    }
    for line in [&["list", "nobody"][..], &["list", "--table", &bad], &["list", "--table", "/nonexistent"]] {
        assert!(matches!(run(line), Err(Failure::Failed(_) | Failure::Told)), "{line:?}");
    }
    for line in [
        &["test"][..],
        &["test", "no code"],
        &["test", "550 a\\n550 b"],
        &["test", "--stage", "never", "550 no"],
        &["test", "--events", &events],
    ] {
        assert!(matches!(run(line), Err(Failure::Usage(_))), "{line:?}");
    }
}

#[test]
fn rows_and_spans_are_short_to_read() {
    assert_eq!(
        [0, 30, 90, 5_400, 7_200, 172_800].map(|s| span(Duration::from_secs(s))),
        ["0s", "30s", "90s", "90m", "2h", "2d"]
    );
    let table = Table::shipped();
    let row = table.provider_of("mx1.comcast.net").rows().next().unwrap();
    assert_eq!(measures(row), "not before 1m, connections 10 for 1h");
    let view = serde_json::to_value(RowView::of(row)).unwrap();
    assert_eq!((&view["id"], &view["connections_for_s"]), (&"comcast-connections".into(), &3_600.into()));
}
