//! The runner of `tests/dialogues/*.txt`, and properties of the whole session.
//!
//! A dialogue is read line by line:
//!
//! - `#` says why; `@ word value` sets a term; `@ whole` forbids splitting the input.
//! - `C: text` is sent with CRLF; `C| text` is sent as it stands, with `\r`, `\n`, `\0`, `\\` and `\xNN` for octets.
//! - `S: text` is a line we must reply. `= text` is a message that must have been taken, escaped likewise.
//! - `X` says that we must have closed.
//!
//! Lines sent in a row are one write. Each dialogue runs with every write whole, octet by octet, and cut in two at every
//! place; the replies must be the same, octet for octet.

use std::fs;
use std::path::PathBuf;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::model::{MessageId, Responsibility};

/// The tests' yes.
struct Taken;

impl Responsibility for Taken {
    fn message_id(&self) -> MessageId {
        MessageId::from_bytes([0; 16])
    }
}

#[derive(Debug)]
struct Dialogue {
    terms: Terms,
    whole: bool,
    exchanges: Vec<Exchange>,
}

#[derive(Debug, Default, Clone)]
struct Exchange {
    sent: Vec<u8>,
    replies: String,
    messages: Vec<Vec<u8>>,
    closed: bool,
}

fn parse(text: &str) -> Dialogue {
    let mut dialogue = Dialogue { terms: terms(), whole: false, exchanges: vec![Exchange::default()] };
    for line in text.lines() {
        let (mark, rest) = (line.get(..2).unwrap_or(line), line.get(2..).unwrap_or(""));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let exchange = dialogue.exchanges.last_mut().unwrap();
        match mark {
            "C:" | "C|" => {
                if !exchange.replies.is_empty() || !exchange.messages.is_empty() {
                    dialogue.exchanges.push(Exchange::default());
                }
                let sent = &mut dialogue.exchanges.last_mut().unwrap().sent;
                sent.extend(unescape(rest));
                if mark == "C:" {
                    sent.extend(b"\r\n");
                }
            }
            "S:" => exchange.replies += &format!("{rest}\r\n"),
            "= " | "=" => exchange.messages.push(unescape(rest)),
            "X" => exchange.closed = true,
            "@ " => set(&mut dialogue, rest),
            "# " | "#" | "" => {}
            _ => panic!("what is this line: {line:?}"),
        }
    }
    dialogue
}

fn terms() -> Terms {
    Terms { hostname: "relay.example".into(), message_bytes_max: 1_000, discard_bytes_max: 2_000, ..Terms::default() }
}

fn set(dialogue: &mut Dialogue, setting: &str) {
    let (word, value) = setting.split_once(' ').unwrap_or((setting, ""));
    let terms = &mut dialogue.terms;
    match (word, value) {
        ("whole", _) => dialogue.whole = true,
        ("tls", "offered") => terms.tls = Tls::Offered,
        ("tls", "active") => terms.tls = Tls::Active,
        ("auth", _) => terms.auth = true,
        ("plaintext_auth", _) => terms.plaintext_auth = true,
        ("long_lines", "accept") => terms.long_lines = LongLines::Accept,
        ("message_bytes_max", n) => terms.message_bytes_max = n.parse().unwrap(),
        ("recipients_max", n) => terms.recipients_max = n.parse().unwrap(),
        ("errors_max", n) => terms.errors_max = n.parse().unwrap(),
        _ => panic!("what is this setting: {setting:?}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        match (b, b == b'\\') {
            (_, true) => match rest.next() {
                Some(b'r') => octets.push(b'\r'),
                Some(b'n') => octets.push(b'\n'),
                Some(b'0') => octets.push(0),
                Some(b'x') => {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    octets.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                }
                Some(b'\\') => octets.push(b'\\'),
                other => panic!("bad escape {other:?} in {text:?}"),
            },
            (b, false) => octets.push(b),
        }
    }
    octets
}

/// A driver with a policy for tests: it refuses the sender domain refused.example, the recipient nobody@…, and messages
/// that begin with "Refuse:"; shop has the password right.
struct Driver {
    session: Session,
    input: BytesMut,
    messages: Vec<Vec<u8>>,
    closed: bool,
}

impl Driver {
    fn new(terms: Terms) -> Self {
        Self { session: Session::new(terms), input: BytesMut::new(), messages: vec![], closed: false }
    }

    fn feed(&mut self, slice: &[u8]) {
        self.input.put_slice(slice);
        loop {
            match self.session.receive(&mut self.input) {
                Event::NeedInput => return,
                Event::Mail(ask) => match ask.mail().reverse_path.mailbox() {
                    Some(m) if m.domain().as_str() == "refused.example" => {
                        ask.refuse(&NegativeReply::new(550, (7, 1), "Not from there"));
                    }
                    _ => ask.accept(),
                },
                Event::Recipient(ask) if ask.rcpt().mailbox.local() == "nobody" => {
                    ask.refuse(&NegativeReply::new(550, (1, 1), "No such user"));
                }
                Event::Recipient(ask) => ask.accept(),
                Event::Authenticate(ask) => {
                    let identity = ask.identity();
                    if identity.name == "shop" && identity.password.matches(b"right") {
                        ask.accept();
                    } else {
                        ask.refuse(&NegativeReply::new(535, (7, 8), "Authentication credentials invalid"));
                    }
                }
                Event::Message(end, received) => {
                    if received.data.bytes().starts_with(b"Refuse:") {
                        end.refuse(&NegativeReply::new(554, (6, 0), "Not that"));
                    } else {
                        self.messages.push(received.data.bytes().to_vec());
                        end.accept(&Taken);
                    }
                }
                Event::MessageRefused(_) => {}
                Event::StartTls(decision) => decision.started(),
                Event::Closed => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    fn replies(&mut self) -> String {
        String::from_utf8(self.session.output().split().to_vec()).unwrap()
    }
}

/// Runs a dialogue with exchange `which` cut up by `cut`.
fn run(name: &str, dialogue: &Dialogue, which: usize, cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) {
    let mut driver = Driver::new(dialogue.terms.clone());
    for (at, exchange) in dialogue.exchanges.iter().enumerate() {
        let slices = if at == which { cut(&exchange.sent) } else { vec![exchange.sent.clone()] };
        for slice in &slices {
            driver.feed(slice);
        }
        let place = format!(
            "{name}, exchange {at}, sent as {:?}",
            slices.iter().map(|s| s.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        assert_eq!(driver.replies(), exchange.replies, "{place}");
        let shown = |m: &[Vec<u8>]| m.iter().map(|m| m.escape_ascii().to_string()).collect::<Vec<_>>();
        assert_eq!(shown(&std::mem::take(&mut driver.messages)), shown(&exchange.messages), "{place}");
        assert_eq!(driver.closed, exchange.closed, "{place}");
    }
}

fn dialogues() -> Vec<(String, Dialogue)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| {
            (path.file_stem().unwrap().to_string_lossy().into_owned(), parse(&fs::read_to_string(path).unwrap()))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn dialogues_go_as_written() {
    let all = dialogues();
    assert!(all.len() >= 15, "only {} dialogues found", all.len());
    for (name, dialogue) in &all {
        run(name, dialogue, usize::MAX, &|sent| vec![sent.to_vec()]);
    }
}

#[test]
fn splitting_the_input_anywhere_changes_nothing() {
    for (name, dialogue) in dialogues().iter().filter(|(_, d)| !d.whole) {
        for (which, exchange) in dialogue.exchanges.iter().enumerate() {
            run(name, dialogue, which, &|sent| sent.iter().map(|&b| vec![b]).collect());
            for at in 1..exchange.sent.len() {
                run(name, dialogue, which, &|sent| vec![sent[..at].to_vec(), sent[at..].to_vec()]);
            }
        }
    }
}

#[test]
fn an_endless_line_is_not_kept_and_has_one_reply() {
    let mut driver = Driver::new(terms());
    driver.replies();
    for _ in 0..100 {
        driver.feed(&[b'a'; 4_096]);
        assert!(driver.input.len() <= COMMAND_LINE_BYTES_MAX);
    }
    assert_eq!(driver.replies(), "");
    driver.feed(b"\r\nNOOP\r\n");
    assert_eq!(driver.replies(), "500 5.5.2 Command line too long\r\n250 2.0.0 Ok\r\n");
}

#[test]
fn an_endless_message_is_cut_off() {
    let mut driver = Driver::new(terms());
    driver.feed(b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
    driver.replies();
    for _ in 0..5 {
        driver.feed(&[b'a'; 1_000]);
        assert!(driver.session.message_bytes() <= 1_000);
    }
    assert_eq!(driver.replies(), "552 5.3.4 message larger than 1000 bytes\r\n");
    assert!(driver.closed);
    // A chunk that long is not even begun.
    let mut driver = Driver::new(terms());
    driver.feed(b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 99999999999\r\n");
    assert!(driver.replies().ends_with("\r\n552 5.3.4 message larger than 1000 bytes\r\n"));
    assert!(driver.closed);
}

#[test]
fn a_decision_that_is_dropped_closes_the_session() {
    let mut session = Session::new(terms());
    let mut input = BytesMut::from("EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n");
    assert!(matches!(session.receive(&mut input), Event::Mail(_)));
    assert!(matches!(session.receive(&mut input), Event::Closed));
    assert!(session.output().ends_with(b"421 4.3.0 Internal error\r\n"));
}

/// Every command in every order: what a machine of states must not confuse.
fn commands() -> impl Strategy<Value = Vec<&'static str>> {
    let lines = prop_oneof![
        Just("EHLO t\r\n"),
        Just("MAIL FROM:<a@b.example>\r\n"),
        Just("RCPT TO:<c@d.example>\r\n"),
        Just("RCPT TO:<nobody@d.example>\r\n"),
        Just("DATA\r\n"),
        Just("x\r\n.\r\n"),
        Just(".\r\n"),
        Just("BDAT 3\r\nabc"),
        Just("BDAT 2 LAST\r\n\r\n"),
        Just("RSET\r\n"),
        Just("STARTTLS\r\n"),
        Just("AUTH PLAIN AHNob3AAcmlnaHQ=\r\n"),
        Just("AUTH LOGIN\r\n"),
        Just("*\r\n"),
        Just("\n"),
    ];
    proptest::collection::vec(lines, 0..14)
}

proptest! {
    #[test]
    fn a_message_is_taken_only_within_a_whole_transaction(lines in commands()) {
        let mut driver = Driver::new(Terms { tls: Tls::Offered, auth: true, ..terms() });
        let (mut greeted, mut mail, mut rcpt) = (false, false, false);
        for line in lines {
            let before = driver.messages.len();
            driver.feed(line.as_bytes());
            let replies = driver.replies();
            let taken = driver.messages.len() - before;
            prop_assert!(taken == 0 || greeted && mail && rcpt, "{line:?}: {replies}");
            prop_assert_eq!(replies.matches("queued as").count(), taken);
            let yes = replies.lines().last().is_some_and(|l| l.starts_with("250"));
            match line {
                "EHLO t\r\n" if yes => (greeted, mail, rcpt) = (true, false, false),
                "RSET\r\n" if yes => (mail, rcpt) = (false, false),
                "STARTTLS\r\n" if replies.ends_with("220 2.0.0 Ready to start TLS\r\n") => {
                    (greeted, mail, rcpt) = (false, false, false);
                }
                "MAIL FROM:<a@b.example>\r\n" if yes => mail = true,
                "RCPT TO:<c@d.example>\r\n" if yes => rcpt = true,
                _ if taken > 0 => (mail, rcpt) = (false, false),
                _ => {}
            }
        }
    }

    #[test]
    fn no_bytes_make_a_session_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let mut driver = Driver::new(terms());
        for chunk in chunks {
            driver.feed(&chunk);
        }
        prop_assert!(driver.replies().starts_with("220 "));
    }
}
