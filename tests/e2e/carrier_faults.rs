//! Texts to carriers that misbehave, by every protocol: the binary's own carrier does it, one misdeed at each, side by side.
//!
//! Whatever a carrier does, every text ends, nothing arrives twice, no part leaves twice, the figures of both sides add up, and the
//! carrier is up and served afterwards. A text whose answer was never seen ends `unknown`: it may have arrived, and a second code
//! or a second charge is worse than a question.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings};
use crate::support::{PATIENCE, SOON, SilentPort, eventually, long_text};

const ALL: &[&str] = &["smpp", "cmpp2", "cmpp3", "smgp", "sgip"];
/// All, and who has no links.
const ALL_AND_HTTP: &[&str] = &["smpp", "cmpp2", "cmpp3", "smgp", "sgip", "http"];
const HTTP: &[&str] = &["http"];
/// Who proves at a login to know the secret.
const AUTHENTIC: &[&str] = &["cmpp2", "cmpp3", "smgp"];
/// Short texts to each carrier; a long one goes before them.
const SHORT: usize = 20;

/// Parts of all of them: by HTTP the long one goes as a whole.
fn parts(protocol: &str) -> u64 {
    SHORT as u64 + if protocol == "http" { 1 } else { 2 }
}

/// What is asked of a carrier, and what becomes of the texts.
struct Row {
    /// Arguments of `postrider sink`.
    sink: &'static [&'static str],
    /// Who knows that.
    protocols: &'static [&'static str],
    /// More keys of the carrier.
    keys: &'static str,
    /// Parts whose answer is never seen.
    lost: RangeInclusive<u64>,
    /// Links that are made in all.
    links: u64,
    /// Receipts for each part.
    receipts: u64,
}

const PATIENT: &str = "response_timeout = \"20s\"\n";
const HASTY: &str = "response_timeout = \"3s\"\n";
const TWO_LINKS: &str = "response_timeout = \"20s\"\nbinds = 2\n";

const fn row(
    sink: &'static [&'static str],
    protocols: &'static [&'static str],
    keys: &'static str,
    lost: RangeInclusive<u64>,
    links: u64,
    receipts: u64,
) -> Row {
    Row { sink, protocols, keys, lost, links, receipts }
}

const TABLE: &[Row] = &[
    // Gateways make it in more than one way, so it proves nothing.
    row(&["--fault", "wrong-authenticator"], AUTHENTIC, PATIENT, 0..=0, 1, 1),
    // It waits for the record that it has overtaken ...
    row(&["--fault", "receipt-before-answer"], ALL_AND_HTTP, PATIENT, 0..=0, 1, 1),
    // ... or is put off, and brought again.
    row(&["--fault", "receipt-before-answer", "--latency", "1s"], ALL_AND_HTTP, PATIENT, 0..=0, 1, 1),
    // Receipts belong to an account, not to a link.
    row(&["--fault", "receipt-on-another-link"], ALL, TWO_LINKS, 0..=0, 2, 1),
    // The layout follows the length.
    row(&["--fault", "short-receipt"], &["cmpp3"], PATIENT, 0..=0, 1, 1),
    // TCP has no borders.
    row(&["--fault", "joined"], ALL, PATIENT, 0..=0, 1, 1),
    row(&["--fault", "halved"], ALL, PATIENT, 0..=0, 1, 1),
    // The octet that is missing is reserved.
    row(&["--fault", "short-active-test"], &["cmpp2", "cmpp3"], PATIENT, 0..=0, 1, 1),
    // Throttled is not taken: it goes again.
    row(&["--throttle-first", "3"], ALL_AND_HTTP, PATIENT, 0..=0, 1, 1),
    // They may have arrived; their slots would be lost for ever, so another link is made.
    row(&["--fault", "silence=3"], ALL_AND_HTTP, HASTY, 3..=3, 2, 1),
    // The second says nothing new.
    row(&["--fault", "twice"], ALL_AND_HTTP, PATIENT, 0..=0, 1, 2),
    // Sequence numbers join them.
    row(&["--fault", "out-of-order"], ALL, PATIENT, 0..=0, 1, 1),
    // What had left may have arrived, up to the window; the rest goes over the next link.
    row(&["--fault", "close-when-full=8", "--latency", "500ms"], ALL, PATIENT, 8..=16, 2, 1),
    // It had left, and nobody knows what became of it.
    row(&["--fault", "cut=3"], HTTP, PATIENT, 3..=3, 0, 1),
    // A yes that cannot be read is none, and no.
    row(&["--fault", "garbage=3"], HTTP, PATIENT, 3..=3, 0, 1),
    // It says that it has not taken them.
    row(&["--fault", "server-error=3"], HTTP, PATIENT, 0..=0, 0, 1),
    // Slow is not wrong.
    row(&["--latency", "1s"], HTTP, PATIENT, 0..=0, 0, 1),
];

/// A row at work.
struct Played<'a> {
    row: &'a Row,
    carrier: OwnCarrier,
    /// What the relay calls it; also the digits of its numbers.
    place: usize,
    /// Of each text its id and number.
    texts: Vec<(String, String)>,
}

impl Played<'_> {
    /// `listen` is the port of the relay to which carriers come that have to.
    fn start<'r>(protocol: &str, place: usize, row: &'r Row, listen: Option<u16>) -> Played<'r> {
        let mut arguments: Vec<String> = row.sink.iter().map(|&word| word.to_owned()).collect();
        if let Some(listen) = listen.filter(|_| protocol == "sgip") {
            arguments.extend(["--sgip-callback".to_owned(), format!("127.0.0.1:{listen}")]);
            arguments.extend(["--sgip-login".to_owned(), format!("c{place}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Played { row, carrier: OwnCarrier::start_on(0, &arguments), place, texts: Vec::new() }
    }

    fn section(&self, protocol: &str, listen: Option<u16>) -> String {
        let (place, port, keys) = (self.place, self.carrier.0.port, self.row.keys);
        if protocol == "http" {
            let listen = listen.unwrap_or_default();
            return format!(
                r#"
[[carrier]]
name = "c{place}"
protocol = "http"
description = "generic"
endpoint = "http://127.0.0.1:{port}"
from = "10690001"
rate = "1000/s"
listen = "127.0.0.1:{listen}"
callback_token = "0123456789abcdef"
callback_url = "http://127.0.0.1:{listen}"
{keys}
[carrier.account]
api_key = "888888"

[[sms_route]]
prefixes = ["+86138{place:02}"]
carriers = ["c{place}"]
"#
            );
        }
        let own = match listen {
            None => "enquire_interval = \"1s\"".to_owned(),
            Some(listen) => format!(
                r#"
area_code = "010"
corp_id = "12345"
idle = "10m"
listen = "127.0.0.1:{listen}"
callback_login = "c{place}"
callback_password = "sesame"
callback_from = ["127.0.0.0/8"]"#
            ),
        };
        format!(
            r#"
[[carrier]]
name = "c{place}"
protocol = "{protocol}"
address = "127.0.0.1:{port}"
system_id = "900001"
password = "888888"
from = "10690001"
rate = "1000/s"
{own}
{keys}
[[sms_route]]
prefixes = ["+86138{place:02}"]
carriers = ["c{place}"]
"#
        )
    }

    fn post(&mut self, relay: &Relay, text: &str) {
        let number = format!("86138{:02}{:06}", self.place, self.texts.len());
        let body = json!({"to": format!("+{number}"), "text": text}).to_string();
        let answer = relay.api("POST", "/v1/sms", &[], &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        self.texts.push((answer.json()["id"].as_str().unwrap().to_owned(), number));
    }

    fn metric(&self, relay: &Relay, name: &str, more: &str) -> u64 {
        relay.metric(&format!(r#"postrider_carrier_{name}{{carrier="c{}"{more}}}"#, self.place)).unwrap_or_default()
    }

    /// The numbers of the texts that ended in each way, once all have.
    fn ends(&self, relay: &Relay) -> HashMap<String, Vec<String>> {
        let mut ends: HashMap<String, Vec<String>> = HashMap::new();
        for (id, number) in &self.texts {
            let what = format!("{:?}: the end of {id}", self.row.sink);
            let end = eventually(&what, PATIENCE, || {
                let status = relay.message(id)["status"].as_str().unwrap().to_owned();
                (!["queued", "sending", "sent"].contains(&status.as_str())).then_some(status)
            });
            ends.entry(end).or_default().push(number.clone());
        }
        ends
    }

    /// How often each number got a text.
    fn arrivals(&self) -> HashMap<String, usize> {
        let mut arrivals = HashMap::new();
        for to in self.carrier.0.said(|v: &Value| (v["arrived"] == "sms").then(|| v["to"].as_str().unwrap().to_owned()))
        {
            *arrivals.entry(to).or_default() += 1;
        }
        arrivals
    }

    /// All that must be true in the end.
    fn judge(&mut self, protocol: &str, relay: &Relay) {
        let (row, sink) = (self.row, self.row.sink);
        let ends = self.ends(relay);
        let count = |end: &str| ends.get(end).map_or(0, Vec::len);
        let (delivered, unknown) = (count("delivered"), count("unknown"));
        assert_eq!(delivered + unknown, self.texts.len(), "{sink:?}: {ends:?}");

        let [sent, lost] =
            ["sent", "unanswered"].map(|how| self.metric(relay, "parts_total", &format!(r#",result="{how}""#)));
        assert!(row.lost.contains(&lost), "{sink:?}: {lost} parts unanswered");
        let texts_lost = if lost == 0 { 0..=0 } else { 1..=lost };
        assert!(texts_lost.contains(&(unknown as u64)), "{sink:?}: {unknown} texts for {lost} parts");
        // Parts of a text that is unknown already do not leave.
        assert!(
            sent + lost <= parts(protocol) && (lost > 0 || sent == parts(protocol)),
            "{sink:?}: {sent} sent, {lost} unanswered"
        );

        // The carrier is up and empty again, and takes what comes.
        eventually(&format!("{sink:?}: up, and no slot taken"), SOON, || {
            (self.metric(relay, "up", "") == 1 && self.metric(relay, "window_used", "") == 0).then_some(())
        });
        self.carrier.wait_for_count("faults", SOON, |n| n > 0 || !sink.contains(&"--fault"));
        self.post(relay, "afterwards");
        let (id, number) = self.texts.last().unwrap();
        relay.reaches(id, "delivered");

        let arrivals = self.arrivals();
        let twice: Vec<_> = arrivals.iter().filter(|(_, n)| **n > 1).collect();
        assert!(twice.is_empty(), "{sink:?}: {twice:?}");
        let missing = ends.get("delivered").into_iter().flatten().chain([number]);
        let missing: Vec<_> = missing.filter(|number| !arrivals.contains_key(*number)).collect();
        assert!(missing.is_empty(), "{sink:?}: delivered and never seen: {missing:?}");

        // What the carrier took is what the relay knows to be sent, and what it does not know of.
        let (least, most) = (sent + 1 + if lost == 0 { 0 } else { *row.lost.start() }, sent + 1 + lost);
        let taken = |n| (least..=most).contains(&n);
        self.carrier.wait_for_count("parts", SOON, taken);
        self.carrier
            .wait_for_count("receipts_acknowledged", PATIENCE, |n| n % row.receipts == 0 && taken(n / row.receipts));
        // By HTTP connections come and go.
        self.carrier.wait_for_count("binds", SOON, |n| n == if protocol == "http" { 0 } else { row.links });
    }
}

fn all_faults_by(protocol: &str) {
    let rows = TABLE.iter().filter(|row| row.protocols.contains(&protocol));
    // All carriers come to one place, each with its own name.
    let silent = ["sgip", "http"].contains(&protocol).then(SilentPort::take);
    let listen = silent.as_ref().map(|silent| silent.port);
    let mut played: Vec<_> = rows.enumerate().map(|(place, row)| Played::start(protocol, place, row, listen)).collect();
    let sections: String = played.iter().map(|one| one.section(protocol, listen)).collect();
    // What was not answered is to be seen, not sent once more (which `codes.rs` shows).
    let extra = format!("{sections}\n[queue.transactional]\nresend_unanswered = false\n");
    let relay = Relay::start(&Settings { extra, ..Settings::default() });
    for one in &mut played {
        one.post(&relay, &long_text());
        (0..SHORT).for_each(|n| one.post(&relay, &format!("text {n}")));
    }
    for one in &mut played {
        one.judge(protocol, &relay);
    }
    let distrusted = relay.log().contains("is not what we would make of our password");
    assert_eq!(distrusted, AUTHENTIC.contains(&protocol), "a wrong authenticator is told");
}

#[test]
fn nothing_is_lost_or_doubled_by_smpp() {
    all_faults_by("smpp");
}

#[test]
fn nothing_is_lost_or_doubled_by_cmpp_2() {
    all_faults_by("cmpp2");
}

#[test]
fn nothing_is_lost_or_doubled_by_cmpp_3() {
    all_faults_by("cmpp3");
}

#[test]
fn nothing_is_lost_or_doubled_by_smgp() {
    all_faults_by("smgp");
}

#[test]
fn nothing_is_lost_or_doubled_by_http() {
    all_faults_by("http");
}

#[test]
fn nothing_is_lost_or_doubled_by_sgip() {
    all_faults_by("sgip");
}
