//! A tiny name server for tests: one table, UDP on a loopback port. Not part of the relay.
//!
//! **Promises.** Answers MX, A, AAAA and CNAME from its table, NXDOMAIN for names it does not know, and, where asked to,
//! SERVFAIL or silence. Stops when dropped.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, MX};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const TTL: u32 = 60;

/// What the server knows. Names are written without the final dot.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: HashMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Records(Vec<RData>),
    ServFail,
    Silent,
}

impl Zone {
    /// An empty zone.
    pub fn new() -> Self {
        Self::default()
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

    /// Makes a name an alias.
    #[must_use]
    pub fn cname(self, name: &str, target: &str) -> Self {
        let target = absolute(target);
        self.record(name, RData::CNAME(CNAME(target)))
    }

    /// Every question about this name fails.
    #[must_use]
    pub fn servfail(mut self, name: &str) -> Self {
        self.names.insert(name.to_lowercase(), Entry::ServFail);
        self
    }

    /// No question about this name is answered.
    #[must_use]
    pub fn silent(mut self, name: &str) -> Self {
        self.names.insert(name.to_lowercase(), Entry::Silent);
        self
    }

    fn record(mut self, name: &str, data: RData) -> Self {
        match self.names.entry(name.to_lowercase()).or_insert_with(|| Entry::Records(Vec::new())) {
            Entry::Records(records) => records.push(data),
            Entry::ServFail | Entry::Silent => {}
        }
        self
    }

    /// The answer to a question, or none.
    fn answer(&self, question: &Message) -> Option<Message> {
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let query = question.queries.first()?;
        // The question goes back as it came: resolvers check the letters' case.
        answer.add_query(query.clone());
        let mut owner = query.name().clone();
        for _ in 0..8 {
            match self.names.get(owner.to_ascii().trim_end_matches('.').to_lowercase().as_str()) {
                None if answer.answers.is_empty() => answer.metadata.response_code = ResponseCode::NXDomain,
                None => {}
                Some(Entry::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
                Some(Entry::Silent) => return None,
                Some(Entry::Records(records)) => {
                    let asked = |data: &&RData| {
                        data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME
                    };
                    let alias = records.iter().find_map(|data| match data {
                        RData::CNAME(target) => Some(target.0.clone()),
                        _ => None,
                    });
                    for data in records.iter().filter(asked) {
                        answer.add_answer(Record::from_rdata(owner.clone(), TTL, data.clone()));
                    }
                    if let Some(target) = alias {
                        owner = target;
                        continue;
                    }
                }
            }
            break;
        }
        Some(answer)
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
    questions: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl ZoneServer {
    /// Serves a zone on a free loopback port.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(zone: Zone) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        let task = tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((n, from)) = socket.recv_from(&mut packet).await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = Message::from_vec(&packet[..n]).ok().and_then(|question| zone.answer(&question));
                if let Some(Ok(bytes)) = answer.map(|a| a.to_vec()) {
                    let _ = socket.send_to(&bytes, from).await;
                }
            }
        });
        Ok(Self { address, questions, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions have come.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

impl Drop for ZoneServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
