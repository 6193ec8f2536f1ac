//! `postrider check`: all mistakes at once, each with file, line and key.

use std::process::{Command, Output};

use crate::support::relay::{Relay, Settings};

fn check(text: &str) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_postrider")).args(["check", "--config"]).arg(&file).output().unwrap();
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    (output, String::from_utf8(said).unwrap())
}

/// The last line on which `needle` stands, as mistakes count.
fn line_of(text: &str, needle: &str) -> usize {
    text.lines().collect::<Vec<_>>().iter().rposition(|line| line.contains(needle)).unwrap() + 1
}

const BASE: &str = "[server]\nhostname = \"relay.example.com\"\ndata_dir = \"data\"\n";

#[test]
fn a_good_configuration_passes() {
    let relay = Relay::prepare(&Settings { carrier_port: Some(2_775), ..Settings::default() });
    let output = relay.command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn each_mistake_is_named_with_file_line_and_key() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:2525\"\nauth = \"none\"\ntls = \"none\"\n";
    let cases = [
        ("unknown key", format!("{BASE}hostnam = \"x\"\n"), "hostnam"),
        ("unknown table", format!("{BASE}[sevrer]\n"), "sevrer"),
        ("bad address", format!("{BASE}[http]\naddress = \"localhost\"\n"), "address"),
        ("bad word", format!("{BASE}{listener}\n[queue]\nretry = [\"soon\"]\n"), "retry"),
        (
            "missing file",
            format!("{BASE}[tls]\ncertificate = \"nowhere.crt\"\nprivate_key = \"x.key\"\n"),
            "certificate",
        ),
    ];
    for (what, text, key) in cases {
        let (output, said) = check(&text);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        let place = format!("postrider.toml:{}:", line_of(&text, key));
        assert!(said.lines().any(|l| l.contains(&place) && l.contains(key)), "{what}: no {place} … {key} in\n{said}");
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_named_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (output, said) = check(&format!("{BASE}[tls]\ncertificate = {pipe:?}\nprivate_key = {pipe:?}\n"));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no regular file"), "{said}");
}

#[test]
fn two_mistakes_are_reported_at_once() {
    let text = format!("{BASE}colour = \"red\"\n\n[http]\naddress = \"nowhere\"\n");
    let (output, said) = check(&text);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for key in ["colour", "address"] {
        assert!(said.contains(&format!("postrider.toml:{}:", line_of(&text, key))), "{key}: {said}");
    }
}

#[test]
fn what_is_no_toml_and_what_is_not_there_are_mistakes_too() {
    let (output, said) = check("[server\n");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("postrider.toml:1:"), "{said}");
    let absent = Command::new(env!("CARGO_BIN_EXE_postrider")).args(["check", "--config", "/nowhere.toml"]).output();
    let absent = absent.unwrap();
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
    assert!(String::from_utf8([absent.stdout, absent.stderr].concat()).unwrap().contains("/nowhere.toml"));
}

#[test]
fn serve_refuses_a_bad_configuration() {
    let relay = Relay::prepare(&Settings { extra: "\n[sevrer]\n".to_owned(), ..Settings::default() });
    let status = relay.serve().wait().unwrap();
    assert_eq!(status.code(), Some(1), "{}", relay.log());
    assert!(relay.log().contains("sevrer"), "{}", relay.log());
}
