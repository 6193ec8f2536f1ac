//! The judges themselves: each must be able to say no.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use serde_json::{Value, json};

use crate::support::dns::Dns;
use crate::support::peer::{Carrier, MailSink, judge_dkim, output_of, python};
use crate::support::smtp::Client;
use crate::support::{SOON, SilentPort, script};

#[test]
fn the_sink_takes_and_refuses_as_told() {
    let mut sink = MailSink::start(0);
    let mut client = Client::greeted(&format!("127.0.0.1:{}", sink.0.port)).unwrap();
    let reply = client.mail("a@example.com", &["b@example.net"], b"Subject: one\r\n\r\n..dot\r\n").unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    let mail = sink.subject("one");
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("a@example.com", &["b@example.net".to_owned()][..]));
    assert_eq!(mail.data, b"Subject: one\r\n\r\n.dot\r\n");
    sink.0.steer(&json!({"rcpt": "550 5.1.1 nobody"}));
    let reply = client.mail("a@example.com", &["b@example.net"], b"Subject: two\r\n\r\n").unwrap();
    assert_eq!(reply, "550 5.1.1 nobody");
}

#[test]
fn the_name_server_serves_its_zone() {
    let dns = Dns::start();
    dns.mx("example.net", 10, "mx.example.net").a("mx.example.net", Ipv4Addr::LOCALHOST).txt("t.example.net", "hello");
    let ask = |owner: &str, kind| {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(owner).unwrap(), kind));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(&query.to_vec().unwrap(), dns.address).unwrap();
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).unwrap();
        let reply = Message::from_vec(&buffer[..length]).unwrap();
        let answers: Vec<_> = reply.answers.iter().map(|record| record.data.to_string()).collect();
        (reply.metadata.response_code, answers)
    };
    assert_eq!(ask("EXAMPLE.net.", RecordType::MX), (ResponseCode::NoError, vec!["10 mx.example.net.".to_owned()]));
    assert_eq!(ask("mx.example.net.", RecordType::A), (ResponseCode::NoError, vec!["127.0.0.1".to_owned()]));
    assert_eq!(ask("mx.example.net.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
    assert_eq!(ask("t.example.net.", RecordType::TXT), (ResponseCode::NoError, vec!["hello".to_owned()]));
    assert_eq!(ask("example.org.", RecordType::A), (ResponseCode::NXDomain, vec![]));
    assert_eq!(dns.questions_for("example.net"), [RecordType::MX]);
}

#[test]
fn the_carrier_listens_where_it_is_told() {
    let silent = SilentPort::take();
    assert!(TcpStream::connect(("127.0.0.1", silent.port)).is_err());
    let carrier = Carrier::start_on(silent.port);
    assert_eq!(carrier.0.port, silent.port);
    assert!(TcpStream::connect(("127.0.0.1", silent.port)).is_ok());
    assert!(carrier.parts().is_empty());
}

/// Signs with dkimpy; the two verifiers must agree with it, each signature alone, and see every change.
#[test]
fn the_dkim_judges_tell_good_from_bad() {
    let dir = tempfile::tempdir().unwrap();
    let signed = output_of(python().arg(script("sign.py")));
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let mail = signed["mail"].as_str().unwrap().to_owned();
    let judge = |mail: &str| {
        let verdicts = judge_dkim(dir.path(), &signed["zone"], mail.as_bytes());
        verdicts.iter().map(|v| (v.algorithm.clone(), v.dkimpy, v.opendkim)).collect::<Vec<_>>()
    };
    let both = |good| vec![("rsa-sha256".to_owned(), good, good), ("ed25519-sha256".to_owned(), good, good)];
    assert_eq!(judge(&mail), both(true));
    assert_eq!(judge(&mail.replace("parcel", "parcal")), both(false));
    assert_eq!(judge(&mail.replace("Subject: one", "Subject: two")), both(false));
    // One signature broken: the other one stands, although opendkim would pass the pair.
    let at = mail.find("a=rsa-sha256").unwrap();
    let at = at + mail[at..].find(" b=").unwrap() + 10;
    let other = if mail.as_bytes()[at] == b'A' { "B" } else { "A" };
    let half = format!("{}{other}{}", &mail[..at], &mail[at + 1..]);
    assert_eq!(judge(&half), [("rsa-sha256".to_owned(), false, false), ("ed25519-sha256".to_owned(), true, true)]);
}
