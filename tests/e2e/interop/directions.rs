//! What goes from postrider to a mail server and from the mail server to postrider: each extension must be seen at work.

use std::collections::BTreeMap;

use hickory_resolver::proto::rr::RecordType;

use super::letter::{LARGE, Letter, MANY, Notifier};
use super::mta::{BYTES_MAX, CLEAR_DOMAIN, Kind, Mta, NextHops, TLS_DOMAIN};
use super::wire::Wire;
use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings, port};

/// What was seen, by row of the table.
pub(super) type Column = BTreeMap<&'static str, String>;

const LARGER: &str = "larger than SIZE";
/// The domain whose mail goes to the server's port that offers nothing.
const BARE_DOMAIN: &str = "bare.example";

fn route(domain: &str, port: u16) -> String {
    format!("\n[[route]]\ndomains = [\"{domain}\"]\nnext_hop = \"127.0.0.1:{port}\"\n")
}

/// From postrider to the server: in clear to a fixed next hop, with TLS by MX.
pub(super) fn to(kind: Kind) -> Column {
    let sink = MailSink::start(0);
    let mta = Mta::start(kind, NextHops { sink: sink.0.port, clear: sink.0.port, tls: 1 });
    let wire = Wire::before(mta.clear);
    let bare = Wire::before(mta.bare);
    let hops = [(CLEAR_DOMAIN, wire.port), (BARE_DOMAIN, bare.port), (SENDER_DOMAIN, sink.0.port)];
    let extra = hops.iter().map(|(domain, port)| route(domain, *port)).collect();
    let relay = Relay::start(&Settings { smtp_port: mta.tls, extra, ..Settings::default() });
    let submit = |letter: &Letter| letter.submit(port(&relay.listeners.smtp[2]).parse().unwrap());

    let mut column = Column::new();
    let by = match kind {
        Kind::Postfix => Notifier::Exact,
        Kind::Exim => Notifier::Exim,
        Kind::OpenSmtpd => Notifier::OpenSmtpd,
    };
    let utf8 = everywhere(&wire, [CLEAR_DOMAIN, SINK_DOMAIN], &sink, by, &submit, &mut column);
    assert!(relay.dns.questions_for(SINK_DOMAIN).contains(&RecordType::MX));
    let front = Letter::plain(SINK_DOMAIN, false).arrived(&sink);
    let tls = tls_version(&front).unwrap_or_else(|| {
        // Debian 12's cannot use its own key with OpenSSL 3; TLS to mail hosts is opportunistic.
        assert!(kind == Kind::OpenSmtpd && mta.log().contains("missing private key"), "{kind:?}: no TLS:\n{front}");
        "their handshake fails: in clear".to_owned()
    });
    column.insert("STARTTLS", tls);
    column.insert("AUTH", "–".to_owned());
    for domain in [CLEAR_DOMAIN, SINK_DOMAIN] {
        let letter = Letter::international(domain);
        submit(&letter);
        if utf8 {
            letter.arrived(&sink);
        } else {
            letter.comes_back(&sink, "5.6.7");
        }
    }
    let said = wire.client_said(" SMTPUTF8");
    column.insert("SMTPUTF8", if utf8 { used(utf8, said) } else { "not offered: bounce 5.6.7".to_owned() });
    let larger = Letter::of_size("larger", SINK_DOMAIN, BYTES_MAX + 1);
    submit(&larger);
    larger.comes_back(&sink, "5.3.4");
    column.insert(LARGER, "bounce 5.3.4".to_owned());
    if kind == Kind::Postfix {
        to_a_bare_one(&bare, &sink, &submit);
    }
    column
}

/// Sends what every server takes, in clear and with TLS, and looks at the wire in clear; true if SMTPUTF8 is offered.
fn everywhere(
    wire: &Wire,
    domains: [&str; 2],
    sink: &MailSink,
    by: Notifier,
    submit: &dyn Fn(&Letter),
    column: &mut Column,
) -> bool {
    let mut letters: Vec<Letter> = domains.iter().flat_map(|domain| Letter::small(domain)).collect();
    for domain in domains {
        letters.extend([Letter::noted(domain), Letter::to_many(domain), Letter::of_size("large", domain, LARGE)]);
    }
    for letter in &letters {
        submit(letter);
    }
    for letter in &letters {
        letter.arrived(sink);
    }
    for domain in domains {
        Letter::noted_arrived(domain, sink, by);
    }
    let mail = wire.commands("MAIL FROM:");
    let says = |parameter: &str| mail.iter().any(|command| command.contains(parameter));
    for (row, keyword, used_it) in [
        ("PIPELINING", "PIPELINING", wire.client_pipelined()),
        ("CHUNKING", "CHUNKING", wire.client_said("BDAT ")),
        ("SIZE", "SIZE", says(" SIZE=")),
        ("8BITMIME", "8BITMIME", says(" BODY=8BITMIME")),
        ("DSN", "DSN", Letter::noted_parameters(domains[0]).iter().all(|parameters| wire.client_said(parameters))),
    ] {
        column.insert(row, used(wire.offered(keyword), used_it));
    }
    column.insert("16 MiB", "whole".to_owned());
    column.insert("150 recipients", format!("all, in {}", transactions(wire)));
    wire.offered("SMTPUTF8")
}

/// From the server to postrider, which is its next hop: in clear, and with TLS and AUTH.
pub(super) fn from(kind: Kind) -> Column {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { extra: route("*", sink.0.port), ..Settings::default() });
    let listener = |n: usize| port(&relay.listeners.smtp[n]).parse::<u16>().unwrap();
    let wire = Wire::before(listener(2));
    let mta = Mta::start(kind, NextHops { sink: sink.0.port, clear: wire.port, tls: listener(0) });
    let submit = |letter: &Letter| letter.submit(mta.clear);

    let mut column = Column::new();
    everywhere(&wire, [CLEAR_DOMAIN, TLS_DOMAIN], &sink, Notifier::Exact, &submit, &mut column);
    let front = Letter::plain(TLS_DOMAIN, false).arrived(&sink);
    column.insert("STARTTLS", tls_version(&front).expect("no TLS in Received"));
    // RFC 3848: S for TLS, A for AUTH.
    assert!(front.contains("with ESMTPSA"), "{front}");
    column.insert("AUTH", "used".to_owned());
    // Its own server takes no such mail without the extension.
    if kind != Kind::OpenSmtpd {
        for domain in [CLEAR_DOMAIN, TLS_DOMAIN] {
            let letter = Letter::international(domain);
            submit(&letter);
            letter.arrived(&sink);
        }
    }
    column.insert("SMTPUTF8", used(wire.offered("SMTPUTF8"), wire.client_said(" SMTPUTF8")));
    column.insert(LARGER, "–".to_owned());
    column
}

/// To a server that offers no extension: what needs none arrives, one command at a time; the rest comes back.
fn to_a_bare_one(wire: &Wire, sink: &MailSink, submit: &dyn Fn(&Letter)) {
    let plain = Letter::plain(BARE_DOMAIN, false);
    for letter in [&plain, &Letter::noted(BARE_DOMAIN)] {
        submit(letter);
        letter.arrived(sink);
    }
    Letter::noted_arrived(BARE_DOMAIN, sink, Notifier::Exact);
    for (letter, status) in [(Letter::plain(BARE_DOMAIN, true), "5.6.3"), (Letter::international(BARE_DOMAIN), "5.6.7")]
    {
        submit(&letter);
        letter.comes_back(sink, status);
    }
    assert!(!wire.client_pipelined() && !wire.client_said("BDAT ") && wire.client_said("DATA\r\n"));
    let commands = [wire.commands("MAIL FROM:"), wire.commands("RCPT TO:")].concat();
    assert!(!commands.is_empty() && commands.iter().all(|command| command.ends_with('>')), "{commands:?}");
}

/// What is said of an extension.
fn used(offered: bool, used: bool) -> String {
    let said = match (offered, used) {
        (true, true) => "used",
        (true, false) => "not used",
        (false, false) => "not offered",
        (false, true) => panic!("used without being offered"),
    };
    said.to_owned()
}

/// The version in the newest Received field, the first in front: TLSv1.3 or TLS1.3, as the server likes.
fn tls_version(front: &str) -> Option<String> {
    let received = front.find("Received:").map_or(front, |at| &front[at..]);
    let names = |version: &&str| ["TLSv", "TLS"].iter().any(|tls| received.contains(&format!("{tls}{version}")));
    ["1.3", "1.2"].iter().find(|version| names(version)).map(|version| format!("TLS {version}"))
}

/// In how many transactions the many recipients' mail went.
fn transactions(wire: &Wire) -> String {
    let recipients = wire.commands("RCPT TO:<n").len();
    assert_eq!(recipients, MANY);
    // Between two of them, another command.
    wire.runs("RCPT TO:<n").to_string()
}
