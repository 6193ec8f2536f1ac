//! The binary's own mail sink as a process: fast enough for thousands of mails, and it says what arrived.
//!
//! Arrivals are booked by recipient: these tests give each mail an address of its own. Each arrival carries the number of
//! the round in which it was read; [`Sink::settle`] makes sure that nothing of a round is read in the next.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::peer::Peer;

/// The sink and what has arrived at it.
#[derive(Debug)]
pub struct Sink {
    peer: Peer,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The rounds in which each recipient's mail arrived, once for each time.
    pub arrived: HashMap<String, Vec<usize>>,
    read: usize,
    mails: u64,
    counted: Value,
    /// How often it has said how much it has taken.
    counts: usize,
}

impl Sink {
    /// Starts one on that port (0: any) with more arguments to `postrider sink`.
    pub fn start(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        let address = format!("127.0.0.1:{port}");
        command.args(["sink", "--only", "smtp", "--smtp", &address, "--show", "--json", "--every", "20ms"]);
        command.args(arguments);
        let peer = Peer::start(command);
        let port = peer.port;
        Self { peer, port, arrived: HashMap::new(), read: 0, mails: 0, counted: Value::Null, counts: 0 }
    }

    /// Books what has arrived since the last time as of this round.
    pub fn read(&mut self, round: usize) {
        let said = self.peer.said_since(self.read);
        self.book(&said, round);
    }

    /// Books what had arrived when this was called: what the sink says of an arrival may come a moment after the relay has
    /// heard that it was taken.
    pub fn catch_up(&mut self, within: Duration, round: usize) {
        self.read(round);
        let before = self.counts;
        self.wait("the sink says how much it has taken", within, round, |sink| sink.counts >= before + 2);
    }

    /// Waits until all of these have arrived.
    pub fn wait_for(&mut self, what: &str, within: Duration, round: usize, recipients: &[String]) {
        let missing = |sink: &Self| recipients.iter().filter(|r| !sink.arrived.contains_key(*r)).count();
        self.wait(what, within, round, |sink| missing(sink) == 0);
    }

    /// Waits until nobody is connected and everything that was taken has been read. For when the relay is gone.
    pub fn settle(&mut self, within: Duration, round: usize) {
        self.counted = Value::Null;
        self.wait("the sink is at rest", within, round, |sink| {
            sink.counted["connections_open"] == 0 && sink.counted["messages"] == sink.mails
        });
    }

    /// How many arrivals were not the first of their mail.
    pub fn duplicates(&self) -> usize {
        self.arrived.values().map(|rounds| rounds.len() - 1).sum()
    }

    /// Waits until what has been read is as wanted.
    pub fn wait(&mut self, what: &str, within: Duration, round: usize, wanted: impl Fn(&Self) -> bool) {
        super::eventually(what, within, || {
            self.read(round);
            wanted(self).then_some(())
        });
    }

    fn book(&mut self, said: &[Value], round: usize) {
        self.read += said.len();
        for value in said {
            if value["arrived"] == "email" {
                self.mails += 1;
                for recipient in value["rcpt_to"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    self.arrived.entry(recipient.to_owned()).or_default().push(round);
                }
            } else if let Some(counts) = value["counts"].get("smtp") {
                self.counted = counts.clone();
                self.counts += 1;
            }
        }
    }
}
