//! Octets that the standard and other programs write, and what is made of anything else.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::MessageId;
use crate::wire::cmpp::time::LoginTime;
use crate::wire::cmpp::{Framer, Octets};

struct Proof;

impl Responsibility for Proof {
    fn message_id(&self) -> MessageId {
        MessageId::from_bytes([1; 16])
    }
}

const NOW: Mono = Mono(0);
const SECRET: &[u8] = b"888888";

fn frames(octets: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.extend(octets);
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// CONNECT of 900001 with the secret 888888 at 1021080510, as the reference has it.
fn connect(version: u8) -> Vec<u8> {
    let head = "00000027 00000001 00000001 393030303031 90d00c1d517abd0b4f65f6bcf8535d16";
    [hex(head), vec![version], 1_021_080_510_u32.to_be_bytes().to_vec()].concat()
}

fn request(octets: &[u8]) -> ConnectRequest {
    let mut out = BytesMut::new();
    match Open::new().receive(frames(octets).remove(0), &mut out).unwrap() {
        OpenStep::Connect(request) => request,
        other => panic!("{other:?}"),
    }
}

fn bound(version: u8) -> Bound {
    let request = request(&connect(version));
    let version = request.version().unwrap();
    request.accept(SECRET, version, Settings::default(), NOW, &mut BytesMut::new())
}

#[test]
fn the_vectors_of_a_login_hold() {
    let request = request(&connect(0x30));
    assert!(request.proves(SECRET));
    assert!(!request.proves(b"888889"));
    let mut out = BytesMut::new();
    request.accept(SECRET, Version::V3, Settings::default(), NOW, &mut out);
    assert_eq!(out, hex("00000021 80000001 00000001 00000000 7942977274098cf210ab0c16c367bc8d 30"));
}

#[test]
fn a_short_name_is_hashed_with_and_without_its_zeros() {
    for form in [NameForm::Bare, NameForm::Padded] {
        let time = LoginTime(1_127_200_000);
        let login = Connect {
            source_addr: Octets::new("Source_Addr", "shop").unwrap(),
            authenticator_source: auth::source(b"shop", SECRET, time, form),
            version: 0x20,
            timestamp: time,
        };
        let mut octets = BytesMut::new();
        Pdu::connect(1, login).encode(Version::V2, &mut octets);
        assert!(self::request(&octets).proves(SECRET), "{form:?}");
    }
}

#[test]
fn a_version_that_is_too_high_and_a_wrong_secret_are_refused_and_show_nothing() {
    assert_eq!(request(&connect(0x7F)).version(), None);
    assert_eq!(
        [0x20, 0x21, 0x30].map(|octet| request(&connect(octet)).version()),
        [Some(Version::V2), Some(Version::V2), Some(Version::V3)]
    );
    let mut out = BytesMut::new();
    request(&connect(0x20)).refuse(ConnectStatus::NOT_AUTHENTIC, &mut out);
    assert_eq!(out, hex("0000001e 80000001 00000001 03 00000000000000000000000000000000 20"));
}

#[test]
fn nothing_is_submitted_before_a_login() {
    let mut out = BytesMut::new();
    let active_test = hex("0000000c 00000008 00000005");
    let step = Open::new().receive(frames(&active_test).remove(0), &mut out).unwrap();
    assert!(matches!(step, OpenStep::Open(_)));
    assert_eq!(out, hex("0000000d 80000008 00000005 00"));
    let mut octets = BytesMut::new();
    Pdu::submit(2, Submit::default()).encode(Version::V2, &mut octets);
    let fault = Open::new().receive(frames(&octets).remove(0), &mut out).unwrap_err();
    assert_eq!(fault, PeerFault::NotConnected { command_id: command::SUBMIT });
}

#[test]
fn answers_have_the_width_of_the_version() {
    for (version, taken, refused) in [
        (0x20, "00000015 80000004 00000007 bb53a681e2400001 00", "00000015 80000004 00000008 0000000000000000 08"),
        (
            0x30,
            "00000018 80000004 00000007 bb53a681e2400001 00000000",
            "00000018 80000004 00000008 0000000000000000 00000008",
        ),
    ] {
        let (mut bound, mut out) = (bound(version), BytesMut::new());
        bound.taken(7, &Proof, MsgId(0xBB53_A681_E240_0001), &mut out);
        bound.refused(8, SubmitResult::FLOW_CONTROL, &mut out);
        assert_eq!(out, hex(&format!("{taken}{refused}")));
    }
}

#[test]
fn what_is_not_served_is_answered_and_what_cannot_be_read_ends_the_link() {
    let (mut bound, mut out) = (bound(0x20), BytesMut::new());
    let mut say = |text: &str, out: &mut BytesMut| bound.receive(frames(&hex(text)).remove(0), NOW, out);
    // CANCEL, QUERY, a SUBMIT that is cut short, an ACTIVE_TEST_RESP of either length.
    for (said, answered) in [
        ("00000014 00000007 00000003 0000000000000001", "0000000d 80000007 00000003 01"),
        ("0000000c 80000008 00000004", ""),
        ("0000000d 80000008 00000004 00", ""),
        ("00000010 00000004 00000005 00000000", "00000015 80000004 00000005 0000000000000000 01"),
    ] {
        out.clear();
        assert_eq!(say(said, &mut out), Ok(Event::Nothing));
        assert_eq!(out, hex(answered), "{said}");
    }
    out.clear();
    let query = format!("00000027 00000006 00000006 {} 00 {} {}", "32".repeat(8), "00".repeat(10), "00".repeat(8));
    assert_eq!(say(&query, &mut out), Ok(Event::Nothing));
    assert_eq!((out.len(), &out[12..20]), (12 + 19 + 32, &b"22222222"[..]));
    assert!(matches!(say("0000000c 00000099 00000007", &mut out), Err(PeerFault::Unreadable(_))));
}

#[test]
fn deliveries_keep_to_the_window_and_a_silent_peer_is_given_up() {
    let settings = Settings { window: 2, ..Settings::default() };
    let (mut out, at) = (BytesMut::new(), |seconds| NOW.plus(Duration::from_secs(seconds)));
    let mut bound = request(&connect(0x30)).accept(SECRET, Version::V3, settings, NOW, &mut out);
    let first = bound.deliver(Deliver::default(), NOW, &mut out).unwrap();
    bound.deliver(Deliver::default(), NOW, &mut out).unwrap();
    assert_eq!((bound.free(), bound.deliver(Deliver::default(), NOW, &mut out)), (0, Err(WindowFull)));
    let mut answer = BytesMut::new();
    Pdu::deliver_resp(first, MsgId(1), SubmitResult::OK).encode(Version::V3, &mut answer);
    let event = bound.receive(frames(&answer).remove(0), at(1), &mut out).unwrap();
    assert_eq!(event, Event::Answer { sequence: first, result: SubmitResult::OK });
    assert_eq!(bound.tick(at(61), &mut out).unwrap().len(), 1, "the other is overdue");
    let mut bound = self::bound(0x20);
    for n in 0..3 {
        out.clear();
        assert_eq!(bound.tick(at(180 + 60 * n), &mut out), Ok(Vec::new()));
        assert_eq!(&out[..8], hex("0000000c 00000008"));
    }
    assert_eq!(bound.tick(at(180 + 60 * 3), &mut out), Err(PeerFault::Silent));
}

proptest! {
    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..300), command in 0_u32..12, version in any::<bool>()) {
        let frame = || Frame { command_id: command, sequence: 7, body: octets.clone().into() };
        let mut out = BytesMut::new();
        let _ = Open::new().receive(frame(), &mut out);
        let mut bound = bound(if version { 0x30 } else { 0x20 });
        let _ = bound.receive(frame(), NOW, &mut out);
        let response = Frame { command_id: command | super::command::RESPONSE, ..frame() };
        let _ = bound.receive(response, NOW, &mut out);
    }
}
