//! The command line as a whole.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::{CommandLine, Failure};

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_command_has_a_sentence_and_an_example() {
    for command in CommandLine::command().get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} has no sentence");
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(example.contains(&format!("postrider {name}")), "{name} has no example");
        for argument in command.get_arguments().filter(|a| a.get_id() != "help" && a.get_id() != "version") {
            assert!(argument.get_help().is_some(), "{name} {} has no sentence", argument.get_id());
        }
    }
}

#[test]
fn commands_that_print_data_know_json() {
    for name in [
        "check",
        "queue",
        "explain",
        "pause",
        "resume",
        "flush",
        "reroute",
        "bounce",
        "cancel",
        "steering",
        "warmup",
        "hash-password",
        "dkim-keygen",
        "sink",
        "load",
        "sandbox",
    ] {
        let line = CommandLine::command();
        let command = line.find_subcommand(name).unwrap();
        assert!(command.get_arguments().any(|a| a.get_id() == "json"), "{name}");
    }
}

#[test]
fn serve_is_told_where_the_configuration_is() {
    let line = CommandLine::try_parse_from(["postrider", "serve", "--config", "a.toml", "--hold"]).unwrap();
    assert!(matches!(line.command, super::Command::Serve(_)));
    assert_eq!(CommandLine::try_parse_from(["postrider", "serve"]).unwrap_err().exit_code(), 2);
    assert_eq!(CommandLine::try_parse_from(["postrider", "explain"]).unwrap_err().exit_code(), 2);
    assert_eq!(
        CommandLine::try_parse_from(["postrider", "queue", "--config", "a", "--data-dir", "b"])
            .unwrap_err()
            .exit_code(),
        2
    );
}

/// Runs a command line against a relay that gives one answer; returns what it was asked, and how the command ended.
fn against_a_relay(dir: &Path, line: &[&str], answer: &str) -> (String, Result<(), Failure>) {
    let path = dir.join(crate::admin::control::SOCKET_NAME);
    let _ = std::fs::remove_file(&path);
    let socket = UnixListener::bind(path).unwrap();
    let answer = answer.to_owned();
    let relay = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).unwrap();
        stream.write_all(format!("{{\"v\":1,\"response\":{answer}}}\n").as_bytes()).unwrap();
        asked
    });
    let ended = run(dir, line);
    (relay.join().unwrap(), ended)
}

fn run(dir: &Path, line: &[&str]) -> Result<(), Failure> {
    let dir = dir.to_str().unwrap();
    CommandLine::try_parse_from([&["postrider"], line, &["--data-dir", dir]].concat()).unwrap().command.run()
}

#[test]
fn commands_ask_the_relay_and_end_by_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let queue = r#"{"kind":"queue","held":false,"messages":0,"bytes":0,"lanes":[],"lanes_total":0}"#;
    let held = r#"{"kind":"held","held":true}"#;
    let none = r#"{"kind":"messages","messages":[]}"#;
    let rule = r#"{"kind":"rule","rule":{"id":7,"action":"pause","selector":{"campaign":"spring"},"reason":"x","by":"lin","since":"2026-11-23T06:24:00.000000Z"}}"#;
    let told = "{\"kind\":\"sweeping\",\"looked\":1,\"of\":2,\"hit\":0,\"underway\":0,\"failed\":0}}\n\
                {\"v\":1,\"response\":{\"kind\":\"swept\",\"looked\":2,\"of\":2,\"hit\":1,\"underway\":0,\"failed\":0}";
    for (line, answer, asked, good) in [
        (&["queue", "--lanes", "5"][..], queue, r#"{"op":"queue","lanes":5}"#, true),
        (&["queue", "--json"], queue, r#"{"op":"queue","lanes":30}"#, true),
        (&["pause"], held, r#"{"op":"pause"}"#, true),
        (&["resume"], r#"{"kind":"held","held":false}"#, r#"{"op":"resume"}"#, true),
        (&["flush"], r#"{"kind":"flushed","recipients":3}"#, r#"{"op":"flush"}"#, true),
        (&["flush"], held, r#"{"op":"flush"}"#, false),
        (
            &["flush", "--client", "shop"],
            r#"{"kind":"flushed","recipients":3}"#,
            r#"{"op":"flush","selector":{"client":"shop"}}"#,
            true,
        ),
        (
            &["pause", "--campaign", "spring", "--reason", "x", "--expires", "2h"],
            rule,
            r#"{"op":"order","order":{"action":"pause","selector":{"campaign":"spring"},"reason":"x","expires_ms":7200000}}"#,
            true,
        ),
        (&["resume", "7"], rule, r#"{"op":"end_rule","action":"pause","which":{"id":7}}"#, true),
        (
            &["resume", "--campaign", "spring", "--class", "marketing", "--json"],
            rule,
            r#"{"op":"end_rule","action":"pause","which":{"selector":{"campaign":"spring","class":"marketing"}}}"#,
            true,
        ),
        (
            &["pause", "--source", "mta1", "--provider", "gmail", "--reason", "x"],
            rule,
            r#"{"op":"order","order":{"action":"pause","selector":{"provider":"gmail","source":"mta1"},"reason":"x"}}"#,
            true,
        ),
        (
            &["reroute", "--domain", "a.example", "--to", "b:25", "--reason", "x"],
            rule,
            r#"{"op":"order","order":{"action":"reroute","to":"b:25","selector":{"domain":"a.example"},"reason":"x"}}"#,
            true,
        ),
        (&["reroute", "--end", "7"], rule, r#"{"op":"end_rule","action":"reroute","which":{"id":7}}"#, true),
        (
            &["cancel", "--provider", "gmail", "--reason", "x"],
            told,
            r#"{"op":"sweep","sentence":{"end":"cancel","selector":{"provider":"gmail"},"reason":"x"}}"#,
            true,
        ),
        (
            &["bounce", "--site", "to b:25", "--reason", "x", "--dry-run", "--json"],
            told,
            r#"{"op":"sweep","sentence":{"end":"bounce","selector":{"site":"to b:25"},"reason":"x","dry_run":true}}"#,
            true,
        ),
        (&["steering"], r#"{"kind":"rules","rules":[]}"#, r#"{"op":"rules"}"#, true),
        (&["warmup"], r#"{"kind":"warmup","sources":[]}"#, r#"{"op":"warmup"}"#, true),
        (
            &["warmup", "--reset", "mta2", "--provider", "gmail", "--day", "5", "--json"],
            r#"{"kind":"warmup","sources":[]}"#,
            r#"{"op":"reset_warmup","source":"mta2","provider":"gmail","day":5}"#,
            true,
        ),
        (
            &["optouts", "list", "+8613800138000", "--json"],
            r#"{"kind":"opt_outs","opt_outs":[],"total":0}"#,
            r#"{"op":"opt_outs","number":"+8613800138000","most":30}"#,
            true,
        ),
        (
            &["optouts", "add", "+8613800138000", "--signature", "小店"],
            r#"{"kind":"opt_outs","opt_outs":[],"total":0}"#,
            r#"{"op":"add_opt_out","entry":{"number":"+8613800138000","signature":"小店","class":"marketing"}}"#,
            true,
        ),
        (
            &["optouts", "remove", "+8613800138000", "--sender", "10690001", "--class", "marketing"],
            r#"{"kind":"opt_outs","opt_outs":[],"total":0}"#,
            r#"{"op":"remove_opt_outs","number":"+8613800138000","whom":{"sender":"10690001"},"class":"marketing"}"#,
            true,
        ),
        (
            &["ported", "list", "+8613800138000"],
            r#"{"kind":"ported","numbers":[],"total":0}"#,
            r#"{"op":"ported","number":"+8613800138000","most":30}"#,
            true,
        ),
        (
            &["ported", "forget", "+8613800138000", "--json"],
            r#"{"kind":"ported","numbers":[],"total":0}"#,
            r#"{"op":"forget_ported","number":"+8613800138000"}"#,
            true,
        ),
        (&["flush"], r#"{"kind":"error","why":"no"}"#, r#"{"op":"flush"}"#, false),
        (&["explain", "lin@example.net"], none, r#"{"op":"explain","what":"lin@example.net","most":10}"#, false),
        (
            &["explain", "lin@example.net", "--json"],
            none,
            r#"{"op":"explain","what":"lin@example.net","most":10}"#,
            false,
        ),
    ] {
        let (request, ended) = against_a_relay(dir.path(), line, answer);
        let request: serde_json::Value = serde_json::from_str(&request).unwrap();
        assert_eq!(request["request"], serde_json::from_str::<serde_json::Value>(asked).unwrap(), "{line:?}");
        assert_eq!(request["v"], 1);
        assert_eq!(ended.is_ok(), good, "{line:?}: {ended:?}");
    }
}

#[test]
fn steering_wants_reasons_and_selectors() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        &["pause", "--client", "shop"][..],
        &["optouts", "add", "+8613800138000"],
        &["pause", "--reason", "x"],
        &["resume", "7", "--client", "shop"],
    ] {
        assert!(matches!(run(dir.path(), line), Err(Failure::Usage(_))), "{line:?}");
    }
    for line in [
        &["bounce", "--client", "shop"][..],
        &["cancel", "--client", "shop"],
        &["reroute", "--client", "shop", "--to", "b:25"],
        &["reroute", "--client", "shop", "--reason", "x"],
        &["reroute", "--end", "7", "--to", "b:25"],
        &["reroute", "--end", "7", "--client", "shop"],
        &["pause", "--class", "urgent", "--reason", "x"],
        &["optouts", "add", "+8613800138000", "--signature", "a", "--sender", "b"],
        &["optouts", "add", "+8613800138000", "--signature", "a", "--class", "urgent"],
        &["warmup", "--day", "5"],
        &["warmup", "--reset", "mta2", "--day", "0"],
    ] {
        let line = [&["postrider"], line, &["--data-dir", "d"]].concat();
        assert_eq!(CommandLine::try_parse_from(&line).unwrap_err().exit_code(), 2, "{line:?}");
    }
}

#[test]
fn a_relay_that_does_not_run_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), &["queue"]);
    assert!(matches!(&ended, Err(Failure::Failed(why)) if why.starts_with("no relay is running on")), "{ended:?}");
}

#[test]
fn check_ends_by_what_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let line = ["postrider", "check", "--json", "--config", file.to_str().unwrap()];
        CommandLine::try_parse_from(line).unwrap().command.run()
    };
    assert!(check(include_str!("../../config/postrider.toml")).is_ok());
    assert!(matches!(check("[server]\n"), Err(Failure::Told)));
}
