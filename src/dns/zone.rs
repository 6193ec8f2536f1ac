//! A tiny name server for tests: one table, UDP and TCP on a loopback port. Not part of the relay.
//!
//! **Promises.** Answers MX, A, AAAA, TXT and CNAME from its table and NXDOMAIN for names it does not know; what is too long for
//! UDP is cut there and whole over TCP. For names that it is told to, it misbehaves: see [`Trick`]. Stops when dropped. Zones may
//! be signed: see [`Zone::signed`].

mod signing;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{CNAME, MX, NS, SOA, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
pub use signing::Flaw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

const TTL: u32 = 60;
/// Longer answers are cut over UDP; what resolvers ask for by EDNS is no less.
const UDP_BYTES_MAX: usize = 512;
/// Ports tried until one is free for UDP and TCP.
const PORTS_TRIED: usize = 32;

/// What the server knows. Names are written without the final dot.
#[derive(Clone, Debug)]
pub struct Zone {
    names: HashMap<String, Entry>,
    ttl: u32,
    negative_ttl: Option<u32>,
    cuts: signing::Cuts,
}

#[derive(Clone, Debug)]
enum Entry {
    Records(Vec<RData>),
    Trick(Trick),
}

/// What a name server may do instead of answering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trick {
    /// Says that it failed.
    ServFail,
    /// Says nothing.
    Silent,
    /// Says that it will not answer.
    Refused,
    /// Does not know the zone and names other servers: a lame delegation.
    Lame,
    /// Says a response code that nobody knows.
    OddCode,
    /// Says that the answer is too long, also over TCP.
    Truncated,
    /// Answers another question's number.
    WrongId,
    /// Answers another question.
    WrongQuestion,
    /// Answers the question with somebody else's records.
    WrongOwner,
    /// Says bytes that are no DNS message, behind the right number.
    Garbage,
}

impl Default for Zone {
    fn default() -> Self {
        Self { names: HashMap::new(), ttl: TTL, negative_ttl: None, cuts: signing::Cuts::default() }
    }
}

impl Zone {
    /// An empty zone.
    pub fn new() -> Self {
        Self::default()
    }

    /// All records have this TTL, in seconds.
    #[must_use]
    pub fn ttl(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }

    /// Answers without records have an SOA record that lets them be believed so long, in seconds.
    #[must_use]
    pub fn negative_ttl(self, ttl: u32) -> Self {
        Self { negative_ttl: Some(ttl), ..self }
    }

    /// Adds an MX record; `.` is the null MX.
    #[must_use]
    pub fn mx(self, name: &str, preference: u16, exchange: &str) -> Self {
        let exchange = absolute(exchange);
        self.record(name, RData::MX(MX::new(preference, exchange)))
    }

    /// Adds an IPv4 address.
    #[must_use]
    pub fn a(self, name: &str, address: impl Into<Ipv4Addr>) -> Self {
        self.record(name, RData::from(IpAddr::V4(address.into())))
    }

    /// Adds an IPv6 address; a text that is none adds the unspecified one.
    #[must_use]
    pub fn aaaa(self, name: &str, address: &str) -> Self {
        let address: Ipv6Addr = address.parse().unwrap_or(Ipv6Addr::UNSPECIFIED);
        self.record(name, RData::from(IpAddr::V6(address)))
    }

    /// Adds a text.
    #[must_use]
    pub fn txt(self, name: &str, text: &str) -> Self {
        self.record(name, RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    /// Adds a TLSA record; `name` with port and protocol in front: `_25._tcp.mx.example`.
    #[must_use]
    pub fn tlsa(self, name: &str, [usage, selector, matching]: [u8; 3], data: &[u8]) -> Self {
        let (usage, selector, matching) = (CertUsage::from(usage), Selector::from(selector), Matching::from(matching));
        self.record(name, RData::TLSA(TLSA::new(usage, selector, matching, data.to_vec())))
    }

    /// Makes a name an alias.
    #[must_use]
    pub fn cname(self, name: &str, target: &str) -> Self {
        let target = absolute(target);
        self.record(name, RData::CNAME(CNAME(target)))
    }

    /// The name exists and has nothing.
    #[must_use]
    pub fn bare(mut self, name: &str) -> Self {
        self.names.entry(name.to_lowercase()).or_insert_with(|| Entry::Records(Vec::new()));
        self
    }

    /// Every question about this name is answered so.
    #[must_use]
    pub fn trick(mut self, name: &str, trick: Trick) -> Self {
        self.names.insert(name.to_lowercase(), Entry::Trick(trick));
        self
    }

    /// Every question about this name fails.
    #[must_use]
    pub fn servfail(self, name: &str) -> Self {
        self.trick(name, Trick::ServFail)
    }

    /// No question about this name is answered.
    #[must_use]
    pub fn silent(self, name: &str) -> Self {
        self.trick(name, Trick::Silent)
    }

    fn record(mut self, name: &str, data: RData) -> Self {
        if let Entry::Records(records) =
            self.names.entry(name.to_lowercase()).or_insert_with(|| Entry::Records(Vec::new()))
        {
            records.push(data);
        }
        self
    }

    /// The answer to a question, or none.
    pub fn answer(&self, question: &Message) -> Option<Vec<u8>> {
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let query = question.queries.first()?;
        // The question goes back as it came: resolvers check the letters' case.
        answer.add_query(query.clone());
        let mut owner = query.name().clone();
        let mut given = false;
        for _ in 0..8 {
            match self.names.get(owner.to_ascii().trim_end_matches('.').to_lowercase().as_str()) {
                // Names below it make it one that exists; who knows no zones does not look.
                None if !self.cuts.is_empty() && self.exists(&owner) => {}
                None if answer.answers.is_empty() => answer.metadata.response_code = ResponseCode::NXDomain,
                None => {}
                Some(Entry::Trick(trick)) => return self.tricked(*trick, &owner, answer),
                Some(Entry::Records(records)) => {
                    let asked = |data: &&RData| {
                        data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME
                    };
                    let alias = records.iter().find_map(|data| match data {
                        RData::CNAME(target) => Some(target.0.clone()),
                        _ => None,
                    });
                    for data in records.iter().filter(asked) {
                        given = true;
                        answer.add_answer(Record::from_rdata(owner.clone(), self.ttl, data.clone()));
                    }
                    if let Some(target) = alias.filter(|_| query.query_type() != RecordType::CNAME) {
                        (owner, given) = (target, false);
                        continue;
                    }
                }
            }
            break;
        }
        if let Some(ttl) = self.negative_ttl.filter(|_| answer.answers.is_empty()) {
            let soa = SOA::new(absolute("ns.example"), absolute("hostmaster.example"), 1, 60, 60, 60, ttl);
            answer.add_authority(Record::from_rdata(owner.clone(), ttl, RData::SOA(soa)));
        }
        if question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok) {
            self.vouch(&mut answer, &owner, query.query_type(), given);
        }
        answer.to_vec().ok()
    }

    fn tricked(&self, trick: Trick, owner: &Name, mut answer: Message) -> Option<Vec<u8>> {
        // What a spoofer would like to be believed.
        let forged =
            |owner: &Name| Record::from_rdata(owner.clone(), self.ttl, RData::from(IpAddr::from([127, 0, 0, 1])));
        match trick {
            Trick::Silent => return None,
            Trick::ServFail => answer.metadata.response_code = ResponseCode::ServFail,
            Trick::Refused => answer.metadata.response_code = ResponseCode::Refused,
            Trick::OddCode => answer.metadata.response_code = ResponseCode::Unknown(12),
            Trick::Lame => {
                let elsewhere = RData::NS(NS(absolute("ns.elsewhere.example")));
                answer.add_authority(Record::from_rdata(owner.base_name(), self.ttl, elsewhere));
            }
            Trick::Truncated => answer.metadata.truncation = true,
            Trick::WrongId => {
                answer.metadata.id = answer.metadata.id.wrapping_add(1);
                answer.add_answer(forged(owner));
            }
            Trick::WrongQuestion => {
                let mut query = answer.queries.pop()?;
                query.set_name(absolute("another.example"));
                answer.add_query(query);
                answer.add_answer(forged(owner));
            }
            Trick::WrongOwner => {
                answer.add_answer(forged(&absolute("another.example")));
            }
            Trick::Garbage => {
                let id = answer.metadata.id.to_be_bytes();
                return Some([&id[..], &[0xff; 40]].concat());
            }
        }
        answer.to_vec().ok()
    }
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap_or_default();
    name.set_fqdn(true);
    name
}

/// A running server.
#[derive(Debug)]
pub struct ZoneServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    zone: Mutex<Zone>,
    failing: Mutex<Option<(RecordType, Name)>>,
    questions: AtomicUsize,
    over_tcp: AtomicUsize,
}

impl ZoneServer {
    /// Serves a zone on a free loopback port.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(zone: Zone) -> io::Result<Self> {
        let (udp, tcp) = sockets().await?;
        let address = udp.local_addr()?;
        let (questions, over_tcp) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { zone: Mutex::new(zone), failing: Mutex::default(), questions, over_tcp });
        let tasks = [tokio::spawn(serve_udp(udp, shared.clone())), tokio::spawn(serve_tcp(tcp, shared.clone()))];
        Ok(Self { address, shared, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions have come.
    pub fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    /// How many of them came over TCP.
    pub fn questions_over_tcp(&self) -> usize {
        self.shared.over_tcp.load(Ordering::SeqCst)
    }

    /// From now on it fails when it is asked for records of that kind at that name.
    pub fn serve_but(&self, kind: RecordType, name: &str) {
        *self.shared.failing.lock() = Some((kind, absolute(name)));
    }

    /// From now on it says something else.
    pub fn serve(&self, zone: Zone) {
        *self.shared.zone.lock() = zone;
    }
}

impl Drop for ZoneServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One port for both.
async fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && tries < PORTS_TRIED => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

impl Shared {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let question = Message::from_vec(question).ok()?;
        if let (Some(query), Some((kind, name))) = (question.queries.first(), &*self.failing.lock())
            && query.query_type() == *kind
            && query.name() == name
        {
            let mut failure = Message::response(question.metadata.id, OpCode::Query);
            failure.add_query(query.clone());
            return self.zone.lock().tricked(Trick::ServFail, name, failure);
        }
        self.zone.lock().answer(&question)
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut packet = [0; 4096];
    while let Ok((n, from)) = socket.recv_from(&mut packet).await {
        let Some(mut answer) = shared.answer(&packet[..n]) else { continue };
        if answer.len() > UDP_BYTES_MAX
            && let Ok(whole) = Message::from_vec(&answer)
        {
            let mut cut = Message::response(whole.metadata.id, OpCode::Query);
            cut.metadata = whole.metadata;
            cut.metadata.truncation = true;
            cut.add_queries(whole.queries);
            answer = cut.to_vec().unwrap_or_default();
        }
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    // Ends with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, shared.clone()));
    }
}

async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        shared.over_tcp.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = shared.answer(&question) else { continue };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}
