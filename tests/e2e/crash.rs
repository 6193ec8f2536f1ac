//! `kill -9` while twenty connections submit: what was answered yes arrives.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::smtp::Client;

const CONNECTIONS: usize = 20;
/// Rounds, unless `POSTRIDER_CRASH_ROUNDS` says otherwise.
const ROUNDS: usize = 50;

#[test]
fn nothing_answered_yes_is_lost_by_kill_9() {
    let rounds = std::env::var("POSTRIDER_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let sink = MailSink::start(0);
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let mut arrivals = Arrivals::default();
    let (mut accepted, mut tried) = (Vec::new(), 0);
    for round in 0..rounds {
        let (listener, yes) = (relay.listeners.smtp[2].clone(), Mutex::new(Vec::new()));
        let under_way = AtomicBool::new(true);
        let sent = thread::scope(|scope| {
            let senders: Vec<_> = (0..CONNECTIONS)
                .map(|n| {
                    scope.spawn({
                        let (listener, yes, under_way) = (&listener, &yes, &under_way);
                        move || submit_until_broken(listener, &format!("{round}-{n}"), yes, under_way)
                    })
                })
                .collect();
            // The moment of the crash is what is random here; nothing is waited for.
            thread::park_timeout(Duration::from_millis(fastrand::u64(5..250)));
            relay.kill_9();
            under_way.store(false, Ordering::Relaxed);
            senders.into_iter().map(|s| s.join().unwrap()).sum::<usize>()
        });
        tried += sent;
        relay.launch();
        let yes = yes.into_inner().unwrap();
        sink.0.wait(&format!("all {} of round {round}", yes.len()), Duration::from_secs(60), |said| {
            arrivals.read(said);
            yes.iter().all(|subject| arrivals.count.contains_key(subject)).then_some(())
        });
        accepted.extend(yes);
    }
    let lost = accepted.iter().filter(|subject| !arrivals.count.contains_key(*subject)).count();
    let duplicated = arrivals.count.values().filter(|&&n| n > 1).count();
    // Not `println!`: the accounting is to be seen also when the test passes.
    let _ = writeln!(
        std::io::stderr(),
        "kill -9 × {rounds} under {CONNECTIONS} connections: tried {tried}, accepted {}, delivered {}, duplicated {duplicated}, lost {lost}",
        accepted.len(),
        arrivals.count.len(),
    );
    assert_eq!(lost, 0);
    assert!(accepted.len() > rounds * CONNECTIONS, "only {} were accepted: the crashes came too early", accepted.len());
}

/// How often each subject has arrived.
#[derive(Default)]
struct Arrivals {
    count: HashMap<String, usize>,
    read: usize,
}

impl Arrivals {
    fn read(&mut self, said: &[Value]) {
        for mail in &said[self.read..] {
            if let Some(subject) = mail["subject"].as_str() {
                *self.count.entry(subject.to_owned()).or_default() += 1;
            }
        }
        self.read = said.len();
    }
}

/// Submits until the connection breaks; books every yes; how many were tried.
fn submit_until_broken(listener: &str, name: &str, yes: &Mutex<Vec<String>>, under_way: &AtomicBool) -> usize {
    let (from, to) = (format!("hello@{SENDER_DOMAIN}"), format!("lin@{SINK_DOMAIN}"));
    let mut tried = 0;
    let Ok(mut client) = Client::greeted(listener) else { return tried };
    while under_way.load(Ordering::Relaxed) {
        let subject = format!("{name}-{tried}");
        let mail = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\n{}\r\n", "x".repeat(200));
        tried += 1;
        match client.mail(&from, &[&to], mail.as_bytes()) {
            Ok(reply) if reply.starts_with("250") => yes.lock().unwrap().push(subject),
            Ok(reply) => panic!("{reply}"),
            Err(_) => break,
        }
    }
    tried
}
