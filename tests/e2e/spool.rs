//! A stopped relay's spool in an administrator's hands: checked, counted, listed, written out, and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings, USER};
use crate::support::{SOON, SilentPort, eventually};

fn spool(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postrider")).arg("spool").args(arguments).arg(dir).output().unwrap()
}

/// The exit code and the JSON printed.
fn told(arguments: &[&str], dir: &Path) -> (Option<i32>, Value) {
    let output = spool(arguments, dir);
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text);
    (output.status.code(), value.unwrap_or_else(|e| panic!("{arguments:?}: {e}: {output:?}")))
}

fn dumped(dir: &Path) -> Vec<Value> {
    let output = spool(&["dump", "--json"], dir);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A mail that needs nothing added but trace fields.
fn mail(subject: &str, more: &str, body: &str) -> String {
    format!(
        "{more}From: Shop <hello@{SENDER_DOMAIN}>\r\nTo: <lin@{SINK_DOMAIN}>\r\nSubject: {subject}\r\n\
         Date: Mon, 23 Nov 2026 06:24:00 +0000\r\nMessage-ID: <{subject}@{SENDER_DOMAIN}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}"
    )
}

/// Every file below a directory and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.is_file() {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Tries once and then not for an hour, so that nothing happens while a test looks.
fn patient(smtp_port: u16) -> Settings {
    Settings { retry: r#"["1h"]"#, expire: "2d", smtp_port, ..Settings::default() }
}

/// A relay that could not deliver what it was given, stopped; its mails by id.
fn stopped(settings: &Settings) -> (Relay, BTreeMap<String, String>) {
    let mut relay = Relay::start(settings);
    let to = format!("lin@{SINK_DOMAIN}");
    let mut mails = BTreeMap::new();
    for n in 0..5 {
        let content = mail(&format!("patient-{n}"), "", &format!("words of {n}\r\n").repeat(50));
        mails.insert(relay.submit(&[&to], &content), content);
    }
    let large = mail("large", "", &"a line of the large one\r\n".repeat(12_000));
    mails.insert(relay.submit(&[&to], &large), large);
    // One that fails makes the others to the same destination wait.
    eventually("one is delayed", SOON, || relay.explain(&to).iter().any(|m| m["status"] == "delayed").then_some(()));
    assert!(relay.stop(SOON).success());
    (relay, mails)
}

#[test]
fn a_stopped_spool_is_verified_counted_listed_and_written_out() {
    let silent = SilentPort::take();
    let (mut relay, mut mails) = stopped(&patient(silent.port));
    relay.launch_with(&["--hold"]);
    let code = mail("code", "X-Postrider-Class: otp\r\nX-Postrider-Idempotency-Key: otp-key\r\n", "482913\r\n");
    let secret = format!("secret.person@{SINK_DOMAIN}");
    let code_id = relay.submit(&[&secret], &code);
    let data = relay.dir().join("data");

    let refused = spool(&["verify"], &data);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a relay is running on it"), "{refused:?}");
    let (ended, beside) = told(&["verify", "--json", "--read-only-while-running"], &data);
    assert_eq!((ended, &beside["running"], &beside["fine"]), (Some(0), &true.into(), &true.into()), "{beside}");
    assert_eq!(beside["messages"], 7, "{beside}");
    assert_eq!(spool(&["export", "--to", "never"], &data).status.code(), Some(1));
    assert!(relay.stop(SOON).success());

    let before = contents(&data);
    let (ended, verdict) = told(&["verify", "--json"], &data);
    assert_eq!((ended, &verdict["fine"], &verdict["messages"]), (Some(0), &true.into(), &7.into()), "{verdict}");
    assert_eq!(verdict["body_files"], 1, "{verdict}");
    let (ended, figures) = told(&["stat", "--json"], &data.join("spool"));
    assert_eq!((ended, &figures["messages"], &figures["recipients"]), (Some(0), &7.into(), &7.into()), "{figures}");
    let group = |sort: &str, name: &str| {
        let groups = figures[sort].as_array().unwrap().iter();
        groups.filter(|g| g["name"] == name).map(|g| g["messages"].as_u64().unwrap()).sum::<u64>()
    };
    let (delayed, queued) = (group("by_state", "delayed"), group("by_state", "queued"));
    assert!(delayed >= 1 && queued >= 1 && delayed + queued == 7, "{figures}");
    assert_eq!((group("by_class", "otp"), group("by_class", "transactional")), (1, 6), "{figures}");
    assert_eq!((group("by_client", USER), group("by_channel", "email")), (7, 7), "{figures}");

    let lines = dumped(&data);
    let accepted = lines.iter().filter(|l| l["kind"] == "accept").count();
    assert_eq!(accepted, 7);
    for arguments in [&["dump", "--headers"][..], &["dump", "--json", "--headers"]] {
        let text = String::from_utf8(spool(arguments, &data).stdout).unwrap();
        assert!(text.contains("Subject: patient-3") && text.contains(&format!("s***@{SINK_DOMAIN}")), "{text}");
        for hidden in ["secret.person", "482913", "Subject: code", "otp-key", "words of"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }

    let to = relay.dir().join("rescued");
    let exported = spool(&["export", "--to", to.to_str().unwrap()], &data);
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    mails.insert(code_id.clone(), code.split_once("otp-key\r\n").unwrap().1.to_owned());
    let files = contents(&to);
    assert_eq!(files.len(), 14);
    let mut tried = 0;
    for (id, submitted) in &mails {
        let kept = &files[Path::new(&format!("{id}.eml"))];
        // Nothing but trace fields was added, in front.
        let trace = kept.strip_suffix(submitted.as_bytes()).unwrap_or_else(|| panic!("{id} is not as submitted"));
        assert!(trace.starts_with(b"Received:"), "{}", String::from_utf8_lossy(trace));
        let fields: Value = serde_json::from_slice(&files[Path::new(&format!("{id}.json"))]).unwrap();
        let recipient = &fields["recipients"][0];
        assert_eq!(recipient["state"], "queued", "{fields}");
        tried += recipient["attempts_made"].as_u64().unwrap();
        assert_eq!(recipient["address"] == secret.as_str(), *id == code_id, "whole: {fields}");
    }
    assert_eq!(tried, delayed, "each of the delayed was tried once");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join(format!("{code_id}.eml")))), (0o700, 0o600));
    assert_eq!(spool(&["export", "--to", to.to_str().unwrap()], &data).status.code(), Some(1), "not empty");
    assert_eq!(spool(&["export"], &data).status.code(), Some(2));
    assert!(contents(&data) == before, "something was changed");
}

/// Flips a bit of a segment.
fn flip(data: &Path, record: &Value, at: i64) {
    let segment = record["position"]["segment"].as_u64().unwrap();
    let path = data.join(format!("spool/segments/{segment:016x}.log"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[(record["position"]["offset"].as_i64().unwrap() + at) as usize] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn flipped_bits_are_found_set_aside_and_cost_no_more_than_what_they_hit() {
    let silent = SilentPort::take();
    let (mut relay, mails) = stopped(&patient(silent.port));
    let data = relay.dir().join("data");
    let lines = dumped(&data);
    let subject =
        |n: usize| mails.iter().find(|(_, mail)| mail.contains(&format!("patient-{n}\r\n"))).unwrap().0.clone();
    let accepted = |id: &str| lines.iter().find(|l| l["kind"] == "accept" && l["id"] == id).unwrap();
    // One whose record opens its batch: what an attempt came to may stand in front of it in the same one.
    let opens = |id: &String| {
        let own = accepted(id);
        let before = |l: &&Value| l["position"]["offset"].as_u64() < own["position"]["offset"].as_u64();
        !lines.iter().filter(|l| l["batch"] == own["batch"]).any(|l| before(&l))
    };
    let batch = (2..5).map(subject).find(opens).expect("one of three opens its batch");
    let [body, header] = [0, 1].map(subject);
    let length = accepted(&body)["position"]["length"].as_i64().unwrap();
    let damages = [
        (&body, length - 20, "the body of an accept record"),
        (&header, 2, "the header of an accept record"),
        // The batch that the record opens begins in front of it.
        (&batch, 12 - 32, "a batch's header"),
    ];
    for (id, at, what) in damages {
        flip(&data, accepted(id), at);
        let (ended, verdict) = told(&["verify", "--json"], &data);
        let finding = &verdict["findings"][0];
        assert_eq!((ended, &verdict["damaged"]), (Some(1), &1.into()), "{verdict}");
        assert_eq!(finding["what"], what, "{verdict}");
        if !what.contains("batch") {
            assert_eq!(finding["message"], id.as_str(), "{verdict}");
        }
        // As people are told it.
        let output = spool(&["verify"], &data);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(what) && text.contains("the next start ") && text.contains("1 damaged place"), "{text}");
        flip(&data, accepted(id), at);
    }
    damages.iter().for_each(|(id, at, _)| flip(&data, accepted(id), *at));
    let to = relay.dir().join("rescued");
    let (ended, report) = told(&["export", "--json", "--to", to.to_str().unwrap()], &data);
    assert_eq!((ended, &report["exported"], &report["damaged_places"]), (Some(1), &4.into(), &3.into()), "{report}");
    assert_eq!(report["skipped"][0]["id"], body.as_str(), "{report}");

    let sink = MailSink::start(silent.port);
    relay.launch();
    assert!(relay.command(&["flush"]).status.success());
    for n in 2..5 {
        sink.subject(&format!("patient-{n}"));
    }
    sink.subject("large");
    relay.reaches(&body, "bounced");
    assert_eq!(sink.mails().len(), 4);
    assert!(relay.stop(SOON).success());
    let (_, figures) = told(&["stat", "--json"], &data);
    assert!(figures["quarantine"]["files"].as_u64().unwrap() >= 1, "{figures}");
    assert!(figures["quarantine"]["newest"].is_string(), "{figures}");
}
