//! Hosts that mean no good: at every step of a mail, everything a host may do instead, and what becomes of the mail.
//!
//! [`LOSSES`] × [`steps`] is what tells us nothing but that the connection is of no use; [`ANSWERS`] is what a host may say
//! that means something, or almost does. After each row the same courier carries a second mail, which goes over the same
//! connection or over a fresh one, as the row says, and must arrive. `docs/hostile-peers.md` is made from these tables.

use super::*;

/// What has become of the connection after the mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    /// The next mail goes over it at once.
    Kept,
    /// The next mail goes over it after a RSET.
    Reset,
    /// It was kept, but the next mail goes over a fresh one.
    Stale,
    /// It is closed; the next mail goes over a fresh one.
    Gone,
    /// It is closed, and this mail and the next went over a fresh one in clear.
    Clear,
}
use After::{Clear, Gone, Kept, Reset, Stale};

/// One step of a mail.
struct Step {
    name: &'static str,
    /// The dialogue up to our turn to speak.
    before: String,
    /// The honest rest after an honest answer, up to the mail's end.
    rest: &'static str,
    /// A fresh connection up to a mail.
    hello: String,
    /// A whole mail after that.
    mail: &'static str,
    /// Which timeout ends it.
    timeout: fn(&mut Timeouts) -> &mut Duration,
    /// What a lost connection means.
    lost: &'static str,
    /// The host may have taken the mail all the same.
    answer_lost: bool,
    after: After,
}

/// What a host may do at any step that is no answer.
const LOSSES: [(&str, &str); 12] = [
    ("says nothing", "STALL"),
    ("drips bytes", "DRIP"),
    ("hangs up", "CLOSE"),
    ("hangs up amid a reply", "B: 25\nCLOSE"),
    ("hangs up amid the lines of a reply", "S: 250-one\nCLOSE"),
    ("resets", "RESET"),
    ("talks nonsense", "S: GET / HTTP/1.1\nSTALL"),
    ("talks bytes", r"B: \x00\xff\x16\x03\x01\r\n\r\n\x80"),
    ("says an impossible code", "S: 600 ok\nSTALL"),
    ("changes codes within a reply", "S: 250-one\nS: 550 two\nSTALL"),
    ("says lines without end", "FLOOD"),
    ("says a line without end", "ENDLESS"),
];

const IN_CLEAR: &str = "S: 220 mx\nC: EHLO\nS: 250-mx\nS: 250-STARTTLS\nS: 250 PIPELINING\n";
const TO_TLS: &str = "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO\n";
const STEPWISE: &str = "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nDATA\nS: 250 ok\n";
const CHUNKED: &str = "C: MAIL\nC: RCPT\nC: BDAT\nS: 250 ok\nS: 250 ok\nS: 250 ok\n";
const CHUNK_LATER: &str = "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: BDAT\nS: 250 ok\n";

fn steps() -> Vec<Step> {
    let piped = || hello("PIPELINING");
    let (chunks, chunk) = (|| hello("PIPELINING CHUNKING"), || hello("CHUNKING"));
    let secured = || format!("{IN_CLEAR}{TO_TLS}S: 250-mx\nS: 250 PIPELINING\n");
    let step = |name, before: String, rest, hello: String, mail, timeout, lost, after| {
        let answer_lost = lost == "delayed Connection end-of-data 4.4.2";
        Step { name, before, rest, hello, mail, timeout, lost, answer_lost, after }
    };
    let sent = "C: MAIL\nC: RCPT\nC: DATA\n";
    let (ok, go) = ("S: 250 ok\n", "S: 250 ok\nS: 250 ok\nS: 354 go\nDATA\n");
    let chunked = "C: MAIL\nC: RCPT\nC: BDAT\n";
    let rest_hello = "C: EHLO\nS: 250-mx\nS: 250 PIPELINING\nC: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nDATA\nS: 250 ok\n";
    let (at_connect, at_hello) = ("delayed Host connect 4.4.2", "delayed Host hello 4.4.2");
    let (at_mail, at_rcpt) = ("delayed Connection mail 4.4.2", "delayed Connection rcpt 4.4.2");
    let (at_data, at_end) = ("delayed Connection data 4.4.2", "delayed Connection end-of-data 4.4.2");
    #[rustfmt::skip]
    let steps = vec![
        step("greeting", String::new(), rest_hello, piped(), TAKEN, |t| &mut t.greeting, at_connect, Gone),
        step("EHLO", "S: 220 mx\nC: EHLO\n".into(), TAKEN, piped(), TAKEN, |t| &mut t.hello, at_hello, Gone),
        step("HELO", "S: 220 mx\nC: EHLO\nS: 502 what\nC: HELO\n".into(), STEPWISE, piped(), TAKEN, |t| &mut t.hello, at_hello, Gone),
        step("STARTTLS", format!("{IN_CLEAR}C: STARTTLS\n"), TAKEN, secured(), TAKEN, |t| &mut t.hello, "relayed", Clear),
        step("handshake", format!("{IN_CLEAR}C: STARTTLS\nS: 220 go\nHEAR\n"), "", secured(), TAKEN, |t| &mut t.tls, "relayed", Clear),
        step("EHLO in TLS", format!("{IN_CLEAR}{TO_TLS}"), TAKEN, secured(), TAKEN, |t| &mut t.hello, at_hello, Gone),
        step("MAIL", piped() + sent, "S: 250 ok\nS: 354 go\nDATA\nS: 250 ok\n", piped(), TAKEN, |t| &mut t.mail, at_mail, Gone),
        step("RCPT", piped() + sent + ok, "S: 354 go\nDATA\nS: 250 ok\n", piped(), TAKEN, |t| &mut t.recipient, at_rcpt, Gone),
        step("DATA", piped() + sent + ok + ok, "DATA\nS: 250 ok\n", piped(), TAKEN, |t| &mut t.data, at_data, Gone),
        step("end of data", piped() + sent + go, "", piped(), TAKEN, |t| &mut t.end_of_data, at_end, Gone),
        step("MAIL alone", hello("") + "C: MAIL\n", "C: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nDATA\nS: 250 ok\n", hello(""), STEPWISE, |t| &mut t.mail, at_mail, Gone),
        step("RCPT alone", hello("") + "C: MAIL\nS: 250 ok\nC: RCPT\n", "C: DATA\nS: 354 go\nDATA\nS: 250 ok\n", hello(""), STEPWISE, |t| &mut t.recipient, at_rcpt, Gone),
        step("DATA alone", hello("") + "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\n", "DATA\nS: 250 ok\n", hello(""), STEPWISE, |t| &mut t.data, at_data, Gone),
        step("end in TLS", secured() + sent + go, "", secured(), TAKEN, |t| &mut t.end_of_data, at_end, Gone),
        step("MAIL with BDAT", chunks() + chunked, "S: 250 ok\nS: 250 ok\n", chunks(), CHUNKED, |t| &mut t.mail, at_end, Gone),
        step("RCPT with BDAT", chunks() + chunked + ok, "S: 250 ok\n", chunks(), CHUNKED, |t| &mut t.recipient, at_end, Gone),
        step("BDAT", chunks() + chunked + ok + ok, "", chunks(), CHUNKED, |t| &mut t.end_of_data, at_end, Gone),
        step("BDAT alone", chunk() + "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: BDAT\n", "", chunk(), CHUNK_LATER, |t| &mut t.end_of_data, at_end, Gone),
    ];
    steps
}

/// Step, what the host says there (`>`: and goes on honestly), what becomes of the mail, and of the connection.
#[rustfmt::skip]
const ANSWERS: &[(&str, &str, &str, After)] = &[
    ("greeting", "S: 421 4.3.2 busy\nCLOSE", "delayed Host connect 4.3.2", Gone),
    ("greeting", "S: 450 later", "delayed Host connect 4.0.0", Gone),
    ("greeting", "S: 550 5.7.1 not you", "delayed Host connect 4.7.1", Gone),
    ("greeting", "S: 554 5.7.1 your address is on our list", "delayed Host connect 4.7.1", Gone),
    ("greeting", "S: 521 we take no mail", "failed Host connect 5.0.0", Gone),
    ("greeting", "S: 556 5.1.10 no mail here", "failed Host connect 5.1.10", Gone),
    ("greeting", "S: 250 hi", "delayed Host connect 4.0.0", Gone),
    ("greeting", "S: 354 go", "delayed Host connect 4.0.0", Gone),
    ("greeting", "S: SSH-2.0-OpenSSH_9.2\nSTALL", "delayed Host connect 4.4.2", Gone),
    ("greeting", "S: 220 mx\nS: 250 and hello to you\nSTALL", "delayed Host connect 4.4.2", Gone),
    ("greeting", "S: 220-mx\nS: 220-we take no spam\nS: 220 really\n>", "relayed", Kept),
    ("greeting", r"B: 220-mx\n220 mx\n>", "relayed", Kept),
    ("greeting", r"B: 220 m\x00x \xd3\xc3 \x1b[2J\r\n>", "relayed", Kept),
    ("EHLO", "S: 421 4.3.2 busy\nCLOSE", "delayed Host hello 4.3.2", Gone),
    ("EHLO", "S: 450 later", "delayed Host hello 4.0.0", Gone),
    ("EHLO", "S: 554 5.7.1 not you", "delayed Host hello 4.7.1", Gone),
    ("EHLO", "S: 521 we take no mail", "failed Host hello 5.0.0", Gone),
    ("EHLO", "S: 354 go", "delayed Host hello 4.0.0", Gone),
    ("EHLO", "S: 250-mx\nS: 250 PIPELINING\nS: 250 ok\nSTALL", "delayed Host hello 4.4.2", Gone),
    ("EHLO", r"B: 250-mx\n250-\x00\xff\n250 PIPELINING\n>", "relayed", Kept),
    ("HELO", "S: 421 4.3.2 busy\nCLOSE", "delayed Host hello 4.3.2", Gone),
    ("HELO", "S: 550 5.7.1 not you", "delayed Host hello 4.7.1", Gone),
    ("STARTTLS", "S: 421 4.3.2 busy\nCLOSE", "delayed Host tls 4.3.2", Gone),
    ("STARTTLS", "S: 454 4.7.0 not now\n>", "relayed", Kept),
    ("STARTTLS", "S: 501 what\n>", "relayed", Kept),
    ("STARTTLS", "S: 554 5.7.0 no\n>", "relayed", Kept),
    ("STARTTLS", "S: 250 ok\n>", "relayed", Kept),
    ("STARTTLS", "S: 220 go\nS: 250 injected\nSTALL", "delayed Host tls 4.4.2", Gone),
    ("STARTTLS", "S: 220 go\nS: 250-injected\nS: 250 AUTH PLAIN\nSTALL", "delayed Host tls 4.4.2", Gone),
    ("STARTTLS", r"B: 220 go\r\n250\nSTALL", "delayed Host tls 4.4.2", Gone),
    ("STARTTLS", "S: 454 no\nS: 250 injected\nSTALL", "delayed Host tls 4.4.2", Gone),
    ("EHLO in TLS", "S: 421 4.3.2 busy\nCLOSE", "delayed Host hello 4.3.2", Gone),
    ("EHLO in TLS", "S: 450 later", "delayed Host hello 4.0.0", Gone),
    ("EHLO in TLS", "S: 554 5.7.1 not you", "delayed Host hello 4.7.1", Gone),
    ("EHLO in TLS", "S: 250-mx\nS: 250 PIPELINING\nS: 250 ok\nSTALL", "delayed Host hello 4.4.2", Gone),
    ("EHLO in TLS", "S: 250-another\nS: 250-STARTTLS\nS: 250-SIZE\nS: 250 PIPELINING\n>", "relayed", Kept),
    ("MAIL", "S: 421 4.3.2 closing\nCLOSE", "delayed Host mail 4.3.2", Gone),
    ("MAIL", "S: 451 4.7.1 later\nS: 503 no\nS: 503 no\n", "delayed Message mail 4.7.1", Kept),
    ("MAIL", "S: 550 5.7.1 no\nS: 503 no\nS: 503 no\n", "failed Message mail 5.7.1", Kept),
    ("MAIL", r"B: 550-5.7.1 \x00n\xffo\n550 5.7.1 \x1bno\n503 no\n503 no\n", "failed Message mail 5.7.1", Kept),
    ("MAIL", "S: 550 5.7.1 no\nS: 250 ok\nS: 354 go\nDATA\nS: 250 ok\n", "failed Message mail 5.7.1", Reset),
    ("MAIL", "S: 550 5.7.1 no\nCLOSE", "failed Message mail 5.7.1", Gone),
    ("MAIL", "S: 530 5.7.0 STARTTLS first\nS: 503 no\nS: 503 no\n", "delayed Host mail 4.7.0", Kept),
    ("MAIL", "S: 354 go\nSTALL", "delayed Connection mail 4.0.0", Gone),
    ("MAIL", "S: 334 go\nSTALL", "delayed Connection mail 4.0.0", Gone),
    ("MAIL alone", "S: 421 4.3.2 closing\nCLOSE", "delayed Host mail 4.3.2", Gone),
    ("MAIL alone", "S: 550 5.7.1 no\n", "failed Message mail 5.7.1", Kept),
    ("MAIL alone", "S: 250 ok\nS: 250 ok\nSTALL", "delayed Connection rcpt 4.4.2", Gone),
    ("MAIL with BDAT", "S: 421 4.3.2 closing\nCLOSE", "delayed Host mail 4.3.2", Gone),
    ("MAIL with BDAT", "S: 550 5.7.1 no\nS: 503 no\nS: 503 no\nSTALL", "failed Message mail 5.7.1", Gone),
    ("RCPT", "S: 421 4.3.2 closing\nCLOSE", "delayed Host rcpt 4.3.2", Gone),
    ("RCPT", "S: 450 4.2.1 later\nS: 503 nobody\n", "delayed Recipient rcpt 4.2.1", Reset),
    ("RCPT", "S: 550 5.1.1 no\nS: 503 nobody\n", "failed Recipient rcpt 5.1.1", Reset),
    ("RCPT", "S: 550 5.1.1 no\nS: 354 go\nDATA\nS: 250 ok\n", "failed Recipient rcpt 5.1.1", Reset),
    ("RCPT", "S: 550 5.1.1 no\nS: 354 go\nDATA\nS: 421 closing\nCLOSE", "failed Recipient rcpt 5.1.1", Gone),
    ("RCPT", "S: 550 5.1.1 no\nCLOSE", "failed Recipient rcpt 5.1.1", Gone),
    ("RCPT", "S: 251 will forward\n>", "relayed", Kept),
    ("RCPT", "S: 354 go\nSTALL", "delayed Connection rcpt 4.0.0", Gone),
    ("RCPT alone", "S: 421 4.3.2 closing\nCLOSE", "delayed Host rcpt 4.3.2", Gone),
    ("RCPT alone", "S: 550 5.1.1 no\n", "failed Recipient rcpt 5.1.1", Reset),
    ("RCPT alone", "S: 250 ok\nS: 354 go\nSTALL", "delayed Connection data 4.4.2", Gone),
    ("RCPT with BDAT", "S: 421 4.3.2 closing\nCLOSE", "delayed Host rcpt 4.3.2", Gone),
    ("RCPT with BDAT", "S: 550 5.1.1 no\nS: 503 nobody\nSTALL", "failed Recipient rcpt 5.1.1", Gone),
    ("DATA", "S: 421 4.3.2 closing\nCLOSE", "delayed Host data 4.3.2", Gone),
    ("DATA", "S: 451 later\n", "delayed Message data 4.0.0", Reset),
    ("DATA", "S: 554 5.7.1 no\n", "failed Message data 5.7.1", Reset),
    ("DATA", "S: 503 what\n", "delayed Connection data 4.0.0", Reset),
    ("DATA", "S: 250 ok\nSTALL", "delayed Connection data 4.0.0", Gone),
    ("DATA", "S: 334 go\nSTALL", "delayed Connection data 4.0.0", Gone),
    ("DATA", "S: 354 go\nS: 250 taken\nSTALL", "delayed Connection data 4.4.2", Gone),
    ("DATA", "S: 354 go\nS: 554 5.7.1 no\nSTALL", "failed Message end-of-data 5.7.1", Gone),
    ("DATA alone", "S: 421 4.3.2 closing\nCLOSE", "delayed Host data 4.3.2", Gone),
    ("DATA alone", "S: 354 go\nS: 250 taken\nSTALL", "delayed Connection data 4.4.2", Gone),
    ("end of data", "S: 421 4.3.2 closing\nCLOSE", "delayed Host end-of-data 4.3.2", Gone),
    ("end of data", "S: 452 4.3.1 disk\n", "delayed Host end-of-data 4.3.1", Kept),
    ("end of data", "S: 554 5.6.0 spam\n", "failed Message end-of-data 5.6.0", Kept),
    ("end of data", "S: 503 what\n", "delayed Connection end-of-data 4.0.0", Kept),
    ("end of data", "S: 354 go on\nSTALL", "delayed Connection end-of-data 4.0.0", Gone),
    ("end of data", "S: 250-2.0.0 one\nS: 250 2.0.0 two\n", "relayed", Kept),
    ("end of data", r"B: 250-2.0.0 o\x00k\xff\n250 2.0.0 \x1b[2J\n", "relayed", Kept),
    ("end of data", "S: 250 ok\nCLOSE", "relayed", Stale),
    ("end of data", "S: 250 ok\nS: 421 4.3.2 closing\nCLOSE", "relayed", Stale),
    ("end of data", "S: 250 ok\nS: 250 and more\nSTALL", "relayed", Stale),
    ("end in TLS", "S: 421 4.3.2 closing\nCLOSE", "delayed Host end-of-data 4.3.2", Gone),
    ("end in TLS", "S: 554 5.6.0 spam\n", "failed Message end-of-data 5.6.0", Kept),
    ("end in TLS", "S: 250 ok\nS: 250 and more\nSTALL", "relayed", Stale),
    ("BDAT", "S: 421 4.3.2 closing\nCLOSE", "delayed Host end-of-data 4.3.2", Gone),
    ("BDAT", "S: 452 4.3.1 disk\nSTALL", "delayed Host end-of-data 4.3.1", Gone),
    ("BDAT", "S: 554 5.6.0 spam\nSTALL", "failed Message end-of-data 5.6.0", Gone),
    ("BDAT", "S: 354 go on\nSTALL", "delayed Connection end-of-data 4.0.0", Gone),
    ("BDAT alone", "S: 421 4.3.2 closing\nCLOSE", "delayed Host end-of-data 4.3.2", Gone),
    ("BDAT alone", "S: 554 5.6.0 spam\n", "failed Message end-of-data 5.6.0", Kept),
];

/// The step's own timeout is short, all others are patient: so it is that one which ends it.
const SHORT: Duration = Duration::from_millis(500);
/// Longer than any row takes, however busy the machine.
const AT_MOST: Duration = Duration::from_secs(60);

/// Carries two mails to a host that does this at this step.
async fn row(step: &Step, deed: &str, outcome: &str, after: After, answer_lost: bool) {
    let name = format!("{}: {deed}", step.name);
    let (deed, honest) = deed.strip_suffix('>').map_or((deed, ""), |deed| (deed, step.rest));
    let (first, next) = (format!("{}{deed}\n{honest}", step.before), step.mail.to_owned());
    let fresh = format!("{}{}", step.hello, step.mail);
    let dialogues = match after {
        Kept => vec![first + &next],
        Reset => vec![first + "C: RSET\nS: 250 ok\n" + &next],
        Stale | Gone => vec![first, fresh],
        Clear => vec![first, [IN_CLEAR, step.mail, step.mail].concat()],
    };
    let host = Host::start(&dialogues.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut impatient = options();
    *(step.timeout)(&mut impatient.timeouts) = SHORT;
    let egress = egress(if deed.contains("STALL") || deed == "DRIP" { impatient } else { options() });
    let mut courier = courier(&egress, &host);

    let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&outcomes), [outcome], "{name}");
    assert_eq!(egress.answers_lost.get(), u64::from(answer_lost), "{name}");
    assert_eq!(courier.is_connected(), after != Gone, "{name}");
    assert_eq!(egress.metrics.mail_connections.get(), i64::from(after != Gone), "{name}");
    let peer = outcomes[0].peer.as_ref().unwrap_or_else(|| panic!("{name}: no peer"));
    assert_eq!(peer.address, Some(host.address), "{name}");
    if let Outcome::Delayed(failure) | Outcome::Failed(failure) = &outcomes[0].outcome {
        let told = failure.reply.as_ref().map_or(failure.cause.as_deref(), |reply| Some(reply.text.as_str()));
        let told = told.unwrap_or_else(|| panic!("{name}: nothing says why"));
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{name}: {told:?}");
    }

    egress.options.store(Arc::new(options()));
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"], "{name}: the next mail");
    drop(courier);
    assert_eq!(egress.metrics.mail_connections.get(), 0, "{name}");
    // Each connection was made, and each dialogue was played to its end.
    assert_eq!(host.finish().await.len(), dialogues.len(), "{name}");
}

#[tokio::test]
async fn a_connection_that_is_of_no_use_is_lost_and_condemns_nobody() {
    for step in steps() {
        let step = Arc::new(step);
        let mut rows = tokio::task::JoinSet::new();
        for (_, deed) in LOSSES {
            let step = step.clone();
            rows.spawn(async move {
                let row = row(&step, deed, step.lost, step.after, step.answer_lost);
                tokio::time::timeout(AT_MOST, row).await.unwrap_or_else(|_| panic!("{}: {deed}: no end", step.name));
            });
        }
        rows.join_all().await;
    }
}

#[tokio::test]
async fn an_answer_means_what_it_says_where_it_is_said() {
    let steps = steps();
    for (at, deed, outcome, after) in ANSWERS {
        let step = steps.iter().find(|step| step.name == *at).unwrap_or_else(|| panic!("no such step: {at}"));
        let row = row(step, deed, outcome, *after, false);
        tokio::time::timeout(AT_MOST, row).await.unwrap_or_else(|_| panic!("{at}: {deed}: no end"));
    }
}

/// More than all buffers between two sockets hold.
fn huge() -> Vec<u8> {
    [b"Subject: x\r\n\r\n".to_vec(), [vec![b'a'; 70], b"\r\n".to_vec()].concat().repeat(300_000)].concat()
}

#[tokio::test]
async fn a_host_may_break_off_amid_the_content() {
    let mail = mail(&huge(), &["a@x.example"]);
    // The content itself is not heard: DATA has been answered, and BDAT is still unread when the host breaks off.
    for (extensions, envelope) in [
        ("PIPELINING", "C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nHEAR\n"),
        ("CHUNKING PIPELINING", "C: MAIL\nC: RCPT\nS: 250 ok\nS: 250 ok\nHEAR\n"),
    ] {
        for (deed, outcome) in [
            ("DEAF", "delayed Connection data 4.4.2"),
            ("CLOSE", "delayed Connection data 4.4.2"),
            ("RESET", "delayed Connection data 4.4.2"),
            ("FLOOD", "delayed Connection data 4.4.2"),
            ("S: 552 5.3.4 too big\nCLOSE", "failed Message end-of-data 5.3.4"),
            ("S: 552 5.3.4 too big\nDEAF", "failed Message end-of-data 5.3.4"),
            ("S: 452 4.3.1 disk\nDEAF", "delayed Host end-of-data 4.3.1"),
            ("S: 421 4.3.2 closing\nCLOSE", "delayed Host end-of-data 4.3.2"),
            ("S: 250 taken\nCLOSE", "delayed Connection data 4.4.2"),
            ("S: 250 taken\nDEAF", "delayed Connection data 4.4.2"),
            ("S: rubbish\nCLOSE", "delayed Connection data 4.4.2"),
        ] {
            let name = format!("{extensions}: {deed}");
            let host = Host::start(&[&(hello(extensions) + envelope + deed)]).await;
            let mut timeouts = Timeouts::all(Duration::from_secs(20));
            timeouts.block = SHORT;
            let egress = egress(Options { timeouts, ..options() });
            let mut courier = courier(&egress, &host);
            let outcomes = tokio::time::timeout(AT_MOST, courier.carry(&mail)).await.expect("no end");
            assert_eq!(all_shown(&outcomes), [outcome], "{name}");
            assert!(!courier.is_connected(), "{name}");
            assert_eq!(egress.answers_lost.get(), 0, "{name}: half a mail is none");
            host.finish().await;
        }
    }
}

#[tokio::test]
async fn nothing_a_host_does_about_rset_and_quit_matters() {
    for (name, deed) in LOSSES.into_iter().chain([("421", "S: 421 closing\nCLOSE"), ("5yz", "S: 500 what\nSTALL")]) {
        let refused = "C: MAIL\nC: RCPT\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\nS: 503 nobody\nC: RSET\n";
        let first = hello("PIPELINING") + refused + deed;
        let second = hello("PIPELINING") + TAKEN + "C: QUIT\n" + deed;
        let host = Host::start(&[&first, &second]).await;
        let mut timeouts = Timeouts::all(Duration::from_secs(20));
        (timeouts.hello, timeouts.quit) = (SHORT, SHORT);
        let egress = egress(Options { timeouts, ..options() });
        let mut courier = courier(&egress, &host);
        let two_mails = async {
            let refused = courier.carry(&mail(MAIL, &["a@x.example"])).await;
            assert_eq!(all_shown(&refused), ["failed Recipient rcpt 5.1.1"], "{name}");
            assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["relayed"], "{name}");
            courier.close().await;
        };
        tokio::time::timeout(AT_MOST, two_mails).await.expect("no end");
        assert_eq!(egress.metrics.mail_connections.get(), 0, "{name}");
        host.finish().await;
    }
}

#[tokio::test]
async fn what_is_said_in_tls_counts_and_what_was_said_before_does_not() {
    // Before: CHUNKING, PIPELINING, SIZE. After: nothing.
    let script = hello("CHUNKING PIPELINING SIZE STARTTLS") + TO_TLS + "S: 250 mx\n" + STEPWISE + "C: QUIT\nS: 221 bye";
    let (outcomes, heard) = carried(options(), &[&script], MAIL, &["a@x.example"]).await;
    assert_eq!(outcomes, ["relayed"]);
    assert_eq!(heard[0][3], "MAIL FROM:<shop@example.com>");
}

#[tokio::test]
async fn a_huge_banner_is_read_up_to_the_limit_and_no_further() {
    let line = format!("S: 220-{}\n", "x".repeat(90));
    for (lines, outcome) in [(600, "relayed"), (700, "delayed Host connect 4.4.2")] {
        let banner = line.repeat(lines) + "S: 220 mx\n";
        let script = banner + if lines == 600 { "C: EHLO\nS: 250 mx\n" } else { "STALL" };
        let script = if lines == 600 { script + STEPWISE + "C: QUIT\nS: 221 bye" } else { script };
        let (outcomes, _) = carried(options(), &[&script], MAIL, &["a@x.example"]).await;
        assert_eq!(outcomes, [outcome], "{lines} lines");
    }
}

#[tokio::test]
async fn who_answers_no_connection_is_not_waited_for() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Bound, and nobody listens: the system says no.
    let mut courier = Slot::new(egress(options()), MailHop::Fixed(address.to_string().into()));
    assert_eq!(all_shown(&courier.carry(&mail(MAIL, &["a@x.example"])).await), ["delayed Host connect 4.4.1"]);

    // Nobody accepts, and the backlog is full: the system says nothing.
    socket.listen(0).unwrap();
    let _fills = std::net::TcpStream::connect(address).unwrap();
    let mut timeouts = Timeouts::all(Duration::from_secs(20));
    timeouts.connect = SHORT;
    let egress = egress(Options { timeouts, ..options() });
    let mut courier = Slot::new(egress, MailHop::Fixed(address.to_string().into()));
    let outcomes = courier.carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&outcomes), ["delayed Host connect 4.4.1"]);
    let Outcome::Delayed(failure) = &outcomes[0].outcome else { panic!("delayed expected") };
    assert_eq!(failure.cause.as_deref(), Some("no answer to the connection request in time"));
}

#[tokio::test]
async fn opening_is_bounded_altogether() {
    // Each greeting comes too late for the whole, though in time for itself.
    let host = Host::start(&["STALL"]).await;
    let mut timeouts = Timeouts::all(Duration::from_secs(20));
    timeouts.opening = SHORT;
    let egress = egress(Options { timeouts, ..options() });
    let outcomes = courier(&egress, &host).carry(&mail(MAIL, &["a@x.example"])).await;
    assert_eq!(all_shown(&outcomes), ["delayed Host connect 4.4.1"]);
    assert_eq!(egress.metrics.mail_connections.get(), 0);
    host.finish().await;
}
