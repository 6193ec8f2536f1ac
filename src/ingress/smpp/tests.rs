//! The server over real sockets, a real queue and real journals; peers speak octet by octet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::SmppServer;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::event::log::{self as event_log, EventLog};
use crate::event::metrics::Metrics;
use crate::ingress::backend::Live;
use crate::ingress::bound::{Listener, Options, Outbox, Part, Parties, Shared};
use crate::model::{Channel, Rate};
use crate::policy::credentials::Credentials;
use crate::policy::opt_outs::OptOuts;
use crate::policy::texts::{Caps, Ledger};
use crate::policy::{BindTerms, Client, Clients, SmppTerms};
use crate::queue::{Place, Queue};
use crate::route::{Course, Routes, TextRoute, TextRoutes};
use crate::storage::RealDisk;
use crate::storage::joining::PartsWaiting;
use crate::wire::smpp::{Address, Bind, COctets, Frame, Framer, Pdu, ShortMessage, command, esm_class};

const RESPONSE: u32 = command::RESPONSE;
const KEY: &str = "sesame";

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    queue: Queue,
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

fn client(terms: SmppTerms) -> Client {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
    Client {
        api_keys: vec![hash.as_ref().try_into().unwrap()],
        channels: vec![Channel::Sms],
        countries: vec!["+86".to_owned()],
        smpp: terms,
        ..Client::bare("shop")
    }
}

impl Bench {
    async fn start(terms: SmppTerms, options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let metrics = Arc::new(Metrics::new());
        let options = Arc::new(ArcSwap::from_pointee(options));
        let disk = || Arc::new(RealDisk);
        let outbox = Outbox::open(disk(), &path("receipts"), options.clone(), metrics.clone(), clock.clone()).unwrap();
        let events = event_log::Options { file: path("events"), rotate_bytes: 1_000_000, keep: 0 };
        let events = EventLog::open(events, metrics.clone()).unwrap();
        events.follow(outbox.clone());
        let (spool, log) = (path("spool"), crate::storage::Options { reserve_bytes: 0, ..Default::default() });
        let route = TextRoute::by_prefix("+86", Course::in_order(["one".into()]));
        let text = TextRoutes::new(vec![route], Arc::default(), Vec::new());
        let routes = Arc::new(ArcSwap::from_pointee(Routes { text, ..Routes::default() }));
        let place = Place { disk: disk(), dir: &spool, log };
        let (queue, _) =
            Queue::open(place, Default::default(), routes, clock.clone(), events.clone(), metrics.clone()).unwrap();
        let clients = Arc::new(ArcSwap::from_pointee(Clients::new([client(terms)])));
        let credentials = Credentials::new(clients.clone(), clock.clone());
        let opt_outs = OptOuts::open(disk(), &path("opt-outs"), 100).unwrap();
        let live = Live { queue: queue.clone(), credentials, opt_outs, ledger: Ledger::default() };
        let (caps, tls) = (Caps::new(100), Arc::new(ArcSwapOption::empty()));
        let parties = Parties { clients, live, caps, outbox, events, tls, metrics, clock: clock.clone() };
        let shared = SmppServer::open(disk(), &path("parts"), options, parties).unwrap();
        let listener = Listener { address: SocketAddr::from(([127, 0, 0, 1], 0)), tls: false };
        let server = SmppServer::bind(listener, shared.clone()).unwrap();
        let (address, (stop, stopped)) = (server.local_addr(), watch::channel(false));
        let served = tokio::spawn(server.run(stopped));
        Self { dir, clock, queue, shared, address, stop, served }
    }

    async fn connect(&self) -> Peer {
        Peer { stream: TcpStream::connect(self.address).await.unwrap(), framer: Framer::new() }
    }

    async fn bound(&self, command: u32) -> Peer {
        let mut peer = self.connect().await;
        assert_eq!(peer.bind(command, "shop", KEY).await, 0);
        peer
    }
}

struct Peer {
    stream: TcpStream,
    framer: Framer,
}

impl Peer {
    async fn say(&mut self, pdu: &Pdu) {
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets);
        self.stream.write_all(&octets).await.unwrap();
    }

    /// The next frame; `None` once the connection has ended.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(self.framer.buffer()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn bind(&mut self, command: u32, system_id: &str, password: &str) -> u32 {
        let bind = Bind {
            system_id: COctets::new("system_id", system_id).unwrap(),
            password: COctets::new("password", password).unwrap(),
            interface_version: 0x34,
            ..Bind::default()
        };
        self.say(&Pdu::bind(command, 1, bind)).await;
        let frame = self.hear().await.unwrap();
        assert_eq!(frame.command_id, command | RESPONSE);
        frame.command_status
    }

    async fn submit(&mut self, sequence: u32, message: ShortMessage) -> (u32, String) {
        self.say(&Pdu::submit_sm(sequence, message)).await;
        let frame = self.hear().await.unwrap();
        assert_eq!((frame.command_id, frame.sequence), (command::SUBMIT_SM | RESPONSE, sequence));
        (frame.command_status, String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned())
    }
}

fn text(to: &str, words: &str) -> ShortMessage {
    let address = COctets::new("address", to).unwrap();
    ShortMessage {
        destination: Address { ton: 1, npi: 1, address },
        short_message: words.to_owned().into(),
        registered_delivery: 1,
        ..ShortMessage::default()
    }
}

/// A part of "hello" and so on, cut by a header with this reference.
fn part(words: &str, reference: u8, total: u8, number: u8) -> ShortMessage {
    let octets = [&[5, 0, 3, reference, total, number], words.as_bytes()].concat();
    ShortMessage { esm_class: esm_class::UDHI, short_message: octets.into(), ..text("8613800138000", "") }
}

fn events(bench: &Bench) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(bench.dir.path().join("events")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_taken_by_whoever_is_bound_and_nobody_else() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    let mut peer = bench.connect().await;
    assert_eq!(peer.submit(7, text("8613800138000", "hello")).await.0, 0x04, "not bound");
    assert_eq!(peer.bind(command::BIND_TRANSCEIVER, "shop", "wrong").await, 0x0E);
    assert_eq!(peer.bind(command::BIND_TRANSCEIVER, "nobody", KEY).await, 0x0E, "the same as for a wrong password");
    assert_eq!(peer.bind(command::BIND_TRANSCEIVER, "", KEY).await, 0x0F);
    assert_eq!(peer.hear().await, None, "three are enough");
    let mut peer = bench.bound(command::BIND_TRANSCEIVER).await;
    let (status, id) = peer.submit(7, text("8613800138000", "hello")).await;
    let id: crate::model::MessageId = id.parse().unwrap();
    assert_eq!(status, 0);
    assert!(bench.queue.lives(id).await);
    assert_eq!(peer.submit(8, text("4479460000", "hello")).await.0, 0x0B, "a country that is not allowed");
    let mut receiver = bench.bound(command::BIND_RECEIVER).await;
    assert_eq!(receiver.submit(8, text("8613800138000", "hello")).await.0, 0x04);
    // Two are as many as it may have.
    let mut third = bench.connect().await;
    assert_eq!(third.bind(command::BIND_TRANSMITTER, "shop", KEY).await, 0x05);
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_to() {
    let rate = Rate { count: 2, per: Duration::from_secs(1) };
    let bench = Bench::start(
        SmppTerms { terms: BindTerms { rate, ..BindTerms::default() }, ..SmppTerms::default() },
        Options::default(),
    )
    .await;
    let mut peer = bench.bound(command::BIND_TRANSMITTER).await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(peer.submit(n + 10, text(&format!("861380013800{n}"), "hello")).await.0);
    }
    assert_eq!(statuses, [0, 0, 0x58, 0x58]);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(peer.submit(20, text("8613800138009", "hello")).await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_that_make_no_sense_end_the_link_and_nothing_else() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    for octets in [&[0, 0, 0, 3, 0, 0][..], &[0xFF; 64], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = bench.connect().await;
        peer.stream.write_all(octets).await.unwrap();
        assert_eq!(peer.hear().await, None, "{octets:02x?}");
    }
    assert_eq!(bench.connect().await.bind(command::BIND_TRANSMITTER, "shop", KEY).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_joined_into_one_text_with_a_receipt_for_each() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    let mut peer = bench.bound(command::BIND_TRANSCEIVER).await;
    let (status, second) = peer.submit(2, part("lo", 7, 2, 2)).await;
    assert_eq!(status, 0);
    assert!(!bench.queue.lives(second.parse().unwrap()).await, "it waits");
    let (status, first) = peer.submit(3, part("hel", 7, 2, 1)).await;
    assert_eq!(status, 0);
    assert_ne!(first, second);
    assert!(bench.queue.lives(second.parse().unwrap()).await, "the id of the part that came first");
    let view = bench.queue.message(second.parse().unwrap(), None).await.unwrap();
    assert_eq!(view.client, "shop".into());
    assert_eq!(bench.shared.parts.len(), 0);
    // Both parts are known to want a receipt.
    let mut fact = crate::event::Fact::new(bench.clock.now(), crate::event::Kind::Delivered, Channel::Sms);
    fact.id = Some(second.parse().unwrap());
    bench.shared.events.record(fact);
    let mut receipts = HashMap::new();
    for _ in 0..2 {
        let frame = peer.hear().await.unwrap();
        assert_eq!(frame.command_id, command::DELIVER_SM);
        receipts.insert(frame.sequence, String::from_utf8_lossy(&frame.body).into_owned());
    }
    for id in [&first, &second] {
        assert!(receipts.values().any(|text| text.contains(&format!("id:{id} ")) && text.contains("stat:DELIVRD")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_whose_others_do_not_come_end_with_a_receipt_and_an_event() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    let mut peer = bench.bound(command::BIND_TRANSCEIVER).await;
    let (_, id) = peer.submit(2, part("lo", 7, 2, 2)).await;
    bench.clock.advance(Duration::from_secs(601));
    bench.shared.give_up_overdue().await;
    // So much time has passed that it is also asked whether it lives.
    let mut frame = peer.hear().await.unwrap();
    while frame.command_id != command::DELIVER_SM {
        frame = peer.hear().await.unwrap();
    }
    let said = String::from_utf8_lossy(&frame.body).into_owned();
    assert!(said.contains(&format!("id:{id} ")) && said.contains("stat:EXPIRED"), "{said}");
    assert!(bench.shared.events.synced().await);
    let told = events(&bench);
    let expired = told.iter().find(|event| event["event"] == "expired").unwrap();
    assert_eq!(expired["reason"], "1 of 2 parts came: the others did not come in time");
    assert_eq!((expired["id"].as_str(), bench.shared.parts.len()), (Some(&*id), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joined_text_that_a_crash_left_in_the_journal_is_not_taken_twice() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    let mut peer = bench.bound(command::BIND_TRANSMITTER).await;
    let (_, id) = peer.submit(2, part("hel", 7, 2, 1)).await;
    let journal = std::fs::read(bench.dir.path().join("parts")).unwrap();
    assert_eq!(peer.submit(3, part("lo", 7, 2, 2)).await.0, 0);
    // As a crash between the acceptance and the crossing out would have left it.
    let path = bench.dir.path().join("parts.after");
    std::fs::write(&path, journal).unwrap();
    let parts = PartsWaiting::<Part>::open(Arc::new(RealDisk), &path, 10).unwrap();
    let waiting = parts.overdue(Timestamp(u64::MAX)).remove(0);
    assert_eq!(waiting.parts()[0].id.to_string(), id);
    let before = events(&bench).len();
    bench.shared.give_up(waiting, "test").await.unwrap();
    assert!(bench.shared.events.synced().await);
    assert!(events(&bench).len() >= before && !events(&bench).iter().any(|event| event["event"] == "expired"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_peers_are_asked_to_unbind() {
    let bench = Bench::start(SmppTerms::default(), Options::default()).await;
    let mut peer = bench.bound(command::BIND_TRANSCEIVER).await;
    bench.stop.send_replace(true);
    let frame = peer.hear().await.unwrap();
    assert_eq!(frame.command_id, command::UNBIND);
    peer.say(&Pdu::unbind_resp(frame.sequence)).await;
    assert_eq!(peer.hear().await, None);
    bench.served.await.unwrap();
    assert!(TcpStream::connect(bench.address).await.is_err());
}
