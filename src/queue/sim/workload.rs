//! What a run works with: sizes, routes, and messages whose every byte follows from their number.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::model::id_of;
use crate::clock::Timestamp;
use crate::model::{
    Address, BodyKind, Class, Content, Envelope, Idempotency, MailData, MailOrigin, Mailbox, Number, Origin, Recipient,
    ReversePath, SmsText, Submission, TextOrigin, TlsWish,
};
use crate::queue::{Again, Options, PaceOptions, Retry};
use crate::route::{Course, FixedRoute, Routes, TextRoute};
use crate::storage::{self, shelf};

/// How many keys there are: so few that they are used again and again.
const KEYS: u8 = 12;
const DOMAINS: [&str; 4] = ["a.test", "b.test", "c.example", "d.example"];
const CLIENTS: [&str; 2] = ["shop", "bank"];
const NUMBERS: [&str; 3] = ["+8613800138000", "+8613900139000", "+8618600186000"];

/// Segments so small that they fill, are emptied and go all the time.
pub(super) fn log_options(random: &mut fastrand::Rng) -> storage::Options {
    let segment_bytes = [8, 10, 12, 16][random.usize(..4)] * 1024;
    storage::Options {
        segment_bytes,
        batch_bytes_max: [4096, 5120, 6144][random.usize(..3)],
        queue_bytes_max: 24 * 1024,
        inline_body_bytes_max: 600,
        reserve_bytes: 0,
        leftover_percent: random.u8(20..=60),
        alignment: 64,
        ..storage::Options::default()
    }
}

pub(super) fn options(random: &mut fastrand::Rng) -> Options {
    let minutes = |m: &[u64]| m.iter().map(|m| Duration::from_secs(60 * m)).collect::<Vec<_>>();
    let carriers_max = random.usize(1..=3);
    let none = Again { carriers_max, ..Again::default() };
    let failing = Again { after_failure: true, ..none.clone() };
    let slow = Again { receipt_within: Some(RECEIPT_WITHIN), ..failing.clone() };
    let doubted = Again { unanswered: true, ..none.clone() };
    let again = if random.u8(..3) == 0 { [none.clone(), none.clone(), none] } else { [slow, doubted, failing] };
    let retry = |m: &[u64], hours: u64| Retry { schedule: minutes(m), expire: Duration::from_secs(3_600 * hours) };
    // What has lain on the shelf goes to no other carrier any more.
    let awaiting_in_memory_max = if again[0].after_failure { 200 } else { [0, 1, 3][random.usize(..3)] };
    Options {
        awaiting_in_memory_max,
        shelf: shelf::Options { bundle_bytes_max: 2_000, catalogues_merged: 2 },
        retry: [retry(&[1], 2), retry(&[1, 10, 60], 12), retry(&[10, 60], 6)],
        again,
        messages_max: 60,
        client_messages_max: 40,
        body_cache_bytes_max: [0, 500, 1 << 20][random.usize(..3)],
        key_age_max: KEY_AGE_MAX,
        receipt_wait_max: RECEIPT_WAIT_MAX,
        recipients_per_consignment_max: [2, 100][random.usize(..2)],
        pace: PaceOptions { connections_max: Some(random.usize(1..5)), ..PaceOptions::default() },
        ..Options::default()
    }
}

/// How long texts wait for their receipt before they go to another carrier, where they do.
pub(super) const RECEIPT_WITHIN: Duration = Duration::from_secs(300);
/// How long keys are known here.
pub(super) const KEY_AGE_MAX: Duration = Duration::from_secs(4 * 3_600);
/// How long texts wait for their receipt here.
pub(super) const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(3 * 3_600);

/// Routes as they are, or after the operator has changed them.
pub(super) fn routes(variant: bool) -> Routes {
    let course = |names: &[&str]| Course::in_order(names.iter().map(|n| Arc::from(*n)).collect::<Vec<Arc<str>>>());
    let text = |prefix: &str, names: &[&str]| TextRoute::by_prefix(prefix, course(names));
    let mail = FixedRoute { domains: vec!["*.example".to_owned()], next_hop: "hop:25".into() };
    Routes {
        mail: if variant { vec![mail] } else { Vec::new() },
        text: ["+86138", "+86"].map(|prefix| text(prefix, carriers_to(prefix, variant))).to_vec().into(),
    }
}

/// By which carriers a text to this number goes.
pub(super) fn carriers_to(number: &str, variant: bool) -> &'static [&'static str] {
    match (number.starts_with("+86138"), variant) {
        (true, _) => &["one"],
        (false, true) => &["two"],
        (false, false) => &["one", "two"],
    }
}

/// What DNS says of a domain: the site that it shares, if it shares one.
pub(super) fn located(random: &mut fastrand::Rng) -> (&'static str, Option<&'static str>) {
    (DOMAINS[random.usize(..DOMAINS.len())], [None, Some("mx one"), Some("mx two")][random.usize(..3)])
}

fn envelope(number: usize, now: Timestamp, origin: Origin, recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        id: id_of(number, now),
        client: "shop".into(),
        class: Class::Transactional,
        campaign: None,
        tags: Vec::new(),
        client_ref: None,
        received_at: now,
        send_at: None,
        expires_at: None,
        idempotency: None,
        origin,
        recipients,
    }
}

fn mailbox(name: &str) -> Mailbox {
    Mailbox::parse(name).expect("a mailbox")
}

fn mail(number: usize, now: Timestamp, from: ReversePath, to: Vec<Recipient>, bytes: usize) -> Submission {
    let head = format!("From: <a@example.com>\r\nX-Number: {number}\r\n\r\n");
    let header_bytes = head.len() as u32;
    let line = format!("this is line of mail {number:06} and no other\r\n");
    let mut data = head.into_bytes();
    while data.len() < bytes {
        data.extend_from_slice(line.as_bytes());
    }
    let origin = Origin::Mail(MailOrigin {
        reverse_path: from,
        body: BodyKind::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        tls: TlsWish::None,
        body_hash: [number as u8; 32],
        header_bytes,
    });
    let content = Content::Mail(MailData::new(Bytes::from(data)).expect("well-formed"));
    Submission { envelope: envelope(number, now, origin, to), content }
}

/// A message of any sort.
pub(super) fn submission(number: usize, now: Timestamp, random: &mut fastrand::Rng) -> Submission {
    let mut submission = if random.u8(..4) == 0 { text(number, now, random) } else { some_mail(number, now, random) };
    let envelope = &mut submission.envelope;
    envelope.client = CLIENTS[random.usize(..2)].into();
    envelope.class = Class::ALL[random.usize(..3)];
    match random.u8(..12) {
        0 => envelope.send_at = Some(now.plus(Duration::from_secs(random.u64(1..20_000)))),
        1 => envelope.expires_at = Some(now.plus(Duration::from_secs(random.u64(60..4_000)))),
        2 => envelope.campaign = Some("spring".into()),
        3 => envelope.tags = vec!["a".into(), "b".into()],
        _ => {}
    }
    submission
}

fn some_mail(number: usize, now: Timestamp, random: &mut fastrand::Rng) -> Submission {
    let count = [1, 1, 1, 2, 3][random.usize(..5)];
    let to = (0..count).map(|n| {
        let address = format!("r{number}n{n}@{}", DOMAINS[random.usize(..4)]);
        Recipient::new(Address::Mailbox(mailbox(&address)))
    });
    let to = to.collect();
    // Some get a file of their own.
    let bytes = if random.u8(..12) == 0 { random.usize(700..2_000) } else { random.usize(60..500) };
    let from = ReversePath::Mailbox(mailbox("a@example.com"));
    mail(number, now, from, to, bytes)
}

fn text(number: usize, now: Timestamp, random: &mut fastrand::Rng) -> Submission {
    let to = Recipient::new(Address::Number(Number::parse(NUMBERS[random.usize(..3)]).expect("a number")));
    let content = Content::Text(SmsText::new(&format!("your code is {number}")).expect("a text"));
    let origin = Origin::Text(TextOrigin { from: None });
    Submission { envelope: envelope(number, now, origin, vec![to]), content }
}

/// The notification that follows from a failure.
pub(super) fn bounce(number: usize, now: Timestamp, class: Class) -> Submission {
    let to = Recipient::new(Address::Mailbox(mailbox(&format!("r{number}@example.com"))));
    let mut bounce = mail(number, now, ReversePath::Null, vec![to], 120);
    bounce.envelope.class = class;
    bounce
}

/// A key and what is submitted under it; now and then somebody uses a key for something else.
pub(super) fn key(random: &mut fastrand::Rng) -> (u8, u8) {
    (b'a' + random.u8(..KEYS), u8::from(random.u8(..10) == 0))
}

pub(super) fn idempotency(key: u8, fingerprint: u8) -> Idempotency {
    let name = char::from(key).to_string();
    Idempotency { key: name.into(), fingerprint: [fingerprint; 32] }
}
