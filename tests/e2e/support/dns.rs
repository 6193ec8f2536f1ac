//! A name server of the test's own, on loopback UDP, that serves a zone the test has given.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, MX, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use postrider::dns::zone;

type Zone = HashMap<String, Vec<RData>>;

/// The server; it ends with the process.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where it answers.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    /// Answers for all, if it is there.
    signed: Arc<Mutex<Option<zone::Zone>>>,
}

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let dns = Self { address, zone: Arc::default(), asked: Arc::default(), signed: Arc::default() };
        let server = dns.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if let Ok(query) = Message::from_vec(&buffer[..length]) {
                    if let Some(zone) = &*server.signed.lock().unwrap() {
                        if let Some(answer) = zone.answer(&query) {
                            let _ = socket.send_to(&answer, peer);
                        }
                        continue;
                    }
                    let _ = socket.send_to(&server.answer(&query).to_vec().unwrap(), peer);
                }
            }
        });
        dns
    }

    /// From now on signed zones answer, and nothing else.
    pub fn sign(&self, zone: &zone::Zone) {
        *self.signed.lock().unwrap() = Some(zone.clone());
    }

    /// `domain`'s mail goes to `host`.
    pub fn mx(&self, domain: &str, preference: u16, host: &str) -> &Self {
        self.add(domain, RData::MX(MX::new(preference, name(host))))
    }

    /// `host` is at `address`.
    pub fn a(&self, host: &str, address: Ipv4Addr) -> &Self {
        self.add(host, RData::A(A(address)))
    }

    /// `owner` says `text`.
    pub fn txt(&self, owner: &str, text: &str) -> &Self {
        let chunks = text.as_bytes().chunks(255).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
        self.add(owner, RData::TXT(TXT::new(chunks)))
    }

    /// `owner` is not there any more.
    pub fn forget(&self, owner: &str) -> &Self {
        self.zone.lock().unwrap().remove(&key(&name(owner)));
        self
    }

    /// What was asked for a name.
    pub fn questions_for(&self, domain: &str) -> Vec<RecordType> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(n, _)| n == &key(&name(domain))).map(|(_, t)| *t).collect()
    }

    fn add(&self, owner: &str, data: RData) -> &Self {
        self.zone.lock().unwrap().entry(key(&name(owner))).or_default().push(data);
        self
    }

    fn answer(&self, query: &Message) -> Message {
        let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        let Some(question) = query.queries.first() else { return reply };
        reply.add_query(question.clone());
        let owner = key(question.name());
        self.asked.lock().unwrap().push((owner.clone(), question.query_type()));
        match self.zone.lock().unwrap().get(&owner) {
            None => reply.metadata.response_code = ResponseCode::NXDomain,
            Some(records) => {
                for data in records.iter().filter(|d| d.record_type() == question.query_type()) {
                    reply.add_answer(Record::from_rdata(question.name().clone(), 60, data.clone()));
                }
            }
        }
        reply
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_utf8(text).unwrap();
    name.set_fqdn(true);
    name
}

fn key(name: &Name) -> String {
    name.to_lowercase().to_utf8()
}
