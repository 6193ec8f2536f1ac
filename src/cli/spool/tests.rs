//! The command line of `postrider spool`, and how it ends.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use super::*;
use crate::cli::CommandLine;
use crate::clock::SystemClock;
use crate::storage::{Log, Options, RealDisk};

fn run(line: &[&str]) -> Result<(), Failure> {
    CommandLine::try_parse_from([&["postrider", "spool"], line].concat()).unwrap().command.run()
}

/// A data directory with an empty spool in it.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 * 1024, batch_bytes_max: 16 * 1024, ..Options::default() };
    let options = Options { inline_body_bytes_max: 1024, queue_bytes_max: 64 * 1024, ..options };
    let path = dir.path().join("spool");
    let (log, _) = Log::open(&path, options, Arc::new(RealDisk), SystemClock::shared(), &mut |_| {}).unwrap();
    crate::cli::one_thread().unwrap().block_on(log.shutdown());
    dir
}

#[test]
fn every_subcommand_has_a_sentence_an_example_and_json() {
    let line = CommandLine::command();
    let spool = line.find_subcommand("spool").unwrap();
    assert_eq!(spool.get_subcommands().count(), 4);
    for command in spool.get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} has no sentence");
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(example.contains(&format!("postrider spool {name}")), "{name} has no example");
        assert!(command.get_arguments().any(|a| a.get_id() == "json"), "{name}");
        for argument in command.get_arguments().filter(|a| a.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{name} {} has no sentence", argument.get_id());
        }
    }
}

#[test]
fn command_lines_that_make_no_sense_end_with_2() {
    for line in [
        &["verify"][..],
        &["export", "d"],
        &["export", "--to", "o", "--all", "--client", "shop", "d"],
        &["dump", "--id", "x", "d"],
        &["dump", "--kind", "other", "d"],
        &["export", "--read-only-while-running", "--to", "o", "d"],
    ] {
        let refused = CommandLine::try_parse_from([&["postrider", "spool"], line].concat()).unwrap_err();
        assert_eq!(refused.exit_code(), 2, "{line:?}");
    }
}

#[test]
fn an_empty_spool_is_fine_and_no_spool_is_not() {
    let dir = data_dir();
    let path = dir.path().to_str().unwrap();
    for dir in [path.to_owned(), format!("{path}/spool")] {
        for command in ["verify", "stat", "dump"] {
            assert!(run(&[command, "--quiet", "--json", &dir]).is_ok(), "{command} {dir}");
        }
    }
    let none = tempfile::tempdir().unwrap();
    let ended = run(&["verify", none.path().to_str().unwrap()]);
    assert!(matches!(&ended, Err(Failure::Failed(why)) if why.contains("no spool here")), "{ended:?}");
    assert_eq!(std::fs::read_dir(none.path()).unwrap().count(), 0);
}

#[test]
fn export_goes_to_an_empty_private_directory_outside_the_spool() {
    let dir = data_dir();
    let path = dir.path().to_str().unwrap();
    let out = tempfile::tempdir().unwrap();
    let to = |name: &str| out.path().join(name).to_str().unwrap().to_owned();
    assert!(run(&["export", "--quiet", "--to", &to("new"), path]).is_ok());
    let mode = |name: &str| std::fs::metadata(out.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("new"), 0o700);
    std::fs::create_dir(out.path().join("there")).unwrap();
    std::fs::set_permissions(out.path().join("there"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run(&["export", "--quiet", "--to", &to("there"), path]).is_ok());
    assert_eq!(mode("there"), 0o700);
    std::fs::write(out.path().join("there/file"), "x").unwrap();
    let ended = run(&["export", "--quiet", "--to", &to("there"), path]);
    assert!(matches!(&ended, Err(Failure::Failed(why)) if why.contains("not empty")), "{ended:?}");
    for within in [dir.path().join("out"), dir.path().join("spool/out"), dir.path().join("spool/bodies")] {
        let ended = run(&["export", "--quiet", "--to", within.to_str().unwrap(), path]);
        assert!(matches!(&ended, Err(Failure::Failed(why)) if why.contains("lies within")), "{ended:?}");
    }
    assert!(!dir.path().join("out").exists());
}
