//! What is asked for is really done, as seen by a client that has only octets.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::wire::smpp::{self, Bind, ShortMessage, command};
use crate::wire::{cmpp, gateway};

/// A client of some protocol, logged in by the first octets it wrote.
struct Client {
    stream: TcpStream,
    /// Octets of a header.
    header: usize,
    /// What its login was answered.
    answered: Vec<u8>,
}

/// A PDU's command, sequence number and octets.
type Heard = (u32, u32, Vec<u8>);

impl Client {
    async fn start(faults: &[Fault], header: usize, login: &[u8]) -> Self {
        let faults = Faults(faults.to_vec());
        let sim =
            CarrierSim::bind(Options { faults, receipt_delay: Duration::ZERO, ..Options::default() }).await.unwrap();
        let stream = TcpStream::connect(sim.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move { sim.run(std::future::pending()).await });
        let mut client = Self { stream, header, answered: Vec::new() };
        client.say(login).await;
        client.answered = client.hear().await.unwrap().2;
        client
    }

    async fn smpp(faults: &[Fault]) -> Self {
        let bind = smpp::Pdu::bind(command::BIND_TRANSCEIVER, 1, Bind::default());
        Self::start(faults, 16, &written(|out| bind.encode(out))).await
    }

    async fn say(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    /// Submits that many parts that want receipts, from sequence number 2 on, at once.
    async fn submit(&mut self, parts: u32) {
        let mut octets = BytesMut::new();
        for sequence in 2..2 + parts {
            let message = ShortMessage { registered_delivery: 1, ..ShortMessage::default() };
            smpp::Pdu::submit_sm(sequence, message).encode(&mut octets);
        }
        self.say(&octets).await;
    }

    /// The next PDU; `None` at the end.
    async fn hear(&mut self) -> Option<Heard> {
        let mut octets = vec![0; self.header];
        self.stream.read_exact(&mut octets).await.ok()?;
        let word = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().unwrap());
        let (length, command, sequence) = (word(0), word(4), word(self.header - 4));
        octets.resize(length as usize, 0);
        self.stream.read_exact(&mut octets[self.header..]).await.ok()?;
        Some((command, sequence, octets))
    }

    async fn hear_heads(&mut self, count: usize) -> Vec<(u32, u32)> {
        let mut heads = Vec::new();
        for _ in 0..count {
            let (command, sequence, _) = self.hear().await.unwrap();
            heads.push((command, sequence));
        }
        heads
    }
}

fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

const TAKEN: u32 = command::SUBMIT_SM | command::RESPONSE;

#[tokio::test]
async fn answers_come_in_reverse_or_behind_their_receipts() {
    let mut client = Client::smpp(&[Fault::OutOfOrder]).await;
    client.submit(3).await;
    let mut answers = client.hear_heads(6).await;
    answers.retain(|(command, _)| *command == TAKEN);
    assert_eq!(answers, [4, 3, 2].map(|sequence| (TAKEN, sequence)));

    let mut client = Client::smpp(&[Fault::ReceiptBeforeAnswer]).await;
    client.submit(1).await;
    assert_eq!(client.hear_heads(2).await, [(command::DELIVER_SM, 1), (TAKEN, 2)]);
}

#[tokio::test]
async fn the_first_parts_are_not_answered() {
    let mut client = Client::smpp(&[Fault::Silence(2), Fault::Twice]).await;
    client.submit(3).await;
    let mut heard = client.hear_heads(7).await;
    heard.retain(|(command, _)| *command == TAKEN);
    assert_eq!(heard, [(TAKEN, 4)], "beside two receipts for each");

    let mut client = Client::smpp(&[Fault::CloseWhenFull(3)]).await;
    client.submit(3).await;
    while let Some((command, ..)) = client.hear().await {
        assert_eq!(command, command::DELIVER_SM);
    }
}

#[tokio::test]
async fn a_receipt_comes_twice_in_the_same_words() {
    let mut client = Client::smpp(&[Fault::Twice, Fault::Halved]).await;
    client.submit(1).await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        let (command, sequence, octets) = client.hear().await.unwrap();
        if command == command::DELIVER_SM {
            receipts.push((sequence, octets[16..].to_vec()));
        }
    }
    let [(1, first), (2, second)] = &receipts[..] else { panic!("{receipts:?}") };
    assert_eq!(first, second);
}

#[tokio::test]
async fn cmpp_is_answered_too_shortly_and_without_proof() {
    let connect = cmpp::Connect {
        source_addr: cmpp::Octets::new("Source_Addr", "900001").unwrap(),
        authenticator_source: [7; 16],
        version: 0x30,
        timestamp: cmpp::time::LoginTime(0),
    };
    let (v3, connect) = (cmpp::Version::V3, cmpp::Pdu::connect(1, connect));
    let faults = [Fault::WrongAuthenticator, Fault::ShortActiveTest, Fault::ShortReceipt];
    for (faults, test_octets, report_octets) in [(&faults[..], 12, 60), (&[], 13, 71)] {
        let login = written(|out| connect.encode(v3, out));
        let mut client = Client::start(faults, gateway::frame::HEADER_BYTES, &login).await;
        let right = cmpp::auth::ismg(&client.answered[12..16], &[7; 16], b"");
        assert_eq!(client.answered[16..32] == right, faults.is_empty());
        client.say(&written(|out| cmpp::Pdu::active_test(2).encode(v3, out))).await;
        let (_, sequence, octets) = client.hear().await.unwrap();
        assert_eq!((sequence, octets.len()), (2, test_octets));

        let destinations = vec![cmpp::Octets::new("Dest_terminal_Id", "8613800138000").unwrap()];
        let submit = cmpp::Submit { registered_delivery: 1, destinations, ..cmpp::Submit::default() };
        client.say(&written(|out| cmpp::Pdu::submit(3, submit).encode(v3, out))).await;
        client.hear().await.unwrap();
        let (_, _, octets) = client.hear().await.unwrap();
        let (header, before, behind) = (12, 8 + 21 + 10 + 3 + 32 + 1 + 1 + 1, 20);
        assert_eq!(octets.len(), header + before + report_octets + behind);
    }
}
