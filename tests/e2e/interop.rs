//! Debian's Postfix, Exim and OpenSMTPD, in both directions: what `docs/interop.md` says of them is what happens.
//!
//! Each test starts one of them with a configuration, a spool and users of its own, in a cell that the machine does not
//! notice, and lets mails through it that servers like to break: dots, white space, long lines, eight bits, addresses beyond
//! ASCII, 16 MiB, 150 recipients, and one whose sender wants notifications. They must arrive byte for byte, but for trace
//! fields. Every extension must be seen at work: on the wire where it is in clear, in the trace fields where it is not.

mod cell;
mod directions;
mod letter;
mod mta;
mod wire;

use std::path::Path;

use crate::support::account;
use directions::Column;
use mta::{Kind, Mta, NextHops};

/// What `docs/interop.md` says under that head.
fn documented(head: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interop.md")).unwrap();
    let rows =
        text.lines().skip_while(|line| !line.starts_with("| extension |")).take_while(|line| line.starts_with('|'));
    let mut rows = rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let heads = rows.next().expect("docs/interop.md has no table of extensions");
    let column = heads.iter().position(|h| h == head).unwrap_or_else(|| panic!("docs/interop.md has no {head:?}"));
    rows.skip(1).map(|cells| (cells[1].clone(), cells[column].clone())).collect()
}

/// Nothing was seen that the table does not say, and it says nothing that was not seen.
fn holds(head: &str, seen: &Column) {
    account(&format!("{head}: {seen:?}"));
    let mut documented = documented(head);
    documented.sort();
    let seen: Vec<_> = seen.iter().map(|(row, said)| ((*row).to_owned(), said.clone())).collect();
    assert_eq!(seen, documented, "what was seen, and what docs/interop.md says {head}");
}

/// A server that is dropped takes its children with it, whatever users they have become.
#[test]
fn nothing_is_left_of_a_server() {
    for kind in [Kind::Postfix, Kind::Exim, Kind::OpenSmtpd] {
        let mta = Mta::start(kind, NextHops { sink: 1, clear: 1, tls: 1 });
        let dir = mta.dir();
        assert!(cell::inmates(&dir).len() > 1, "{kind:?} is not found where it runs");
        drop(mta);
        assert_eq!(cell::inmates(&dir), [""; 0], "{kind:?} lives on");
        assert!(!dir.exists(), "{kind:?} has left {}", dir.display());
    }
}

#[test]
fn to_postfix() {
    holds("to Postfix", &directions::to(Kind::Postfix));
}

#[test]
fn from_postfix() {
    holds("from Postfix", &directions::from(Kind::Postfix));
}

#[test]
fn to_exim() {
    holds("to Exim", &directions::to(Kind::Exim));
}

#[test]
fn from_exim() {
    holds("from Exim", &directions::from(Kind::Exim));
}

#[test]
fn to_opensmtpd() {
    holds("to OpenSMTPD", &directions::to(Kind::OpenSmtpd));
}

#[test]
fn from_opensmtpd() {
    holds("from OpenSMTPD", &directions::from(Kind::OpenSmtpd));
}
