//! Many connections that submit at once, and the book of what each was told.
//!
//! Every mail has a recipient of its own, `NAME-CONNECTION-NUMBER@`, by which it is known at the sink and in the event file.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::relay::{SENDER_DOMAIN, SINK_DOMAIN};
use super::smtp::Client;

/// What was told so far.
#[derive(Debug, Default)]
pub struct Book {
    /// Recipients of mails answered yes.
    pub yes: Vec<String>,
    /// Recipients of mails answered otherwise, with the reply.
    pub refused: Vec<(String, String)>,
    /// Mails whose answer was lost with the connection.
    pub unanswered: Vec<String>,
    /// Greetings other than 220.
    pub turned_away: Vec<String>,
}

impl Book {
    /// All mails tried.
    pub fn tried(&self) -> usize {
        self.yes.len() + self.refused.len() + self.unanswered.len()
    }

    /// The codes of all refusals, each once, sorted.
    pub fn codes(&self) -> Vec<String> {
        let replies = self.refused.iter().map(|(_, reply)| reply).chain(&self.turned_away);
        let mut codes: Vec<_> = replies.map(|reply| reply.chars().take(3).collect()).collect();
        codes.sort();
        codes.dedup();
        codes
    }
}

/// Who submits what.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub listener: &'a str,
    /// The beginning of all recipients' names.
    pub name: &'a str,
    pub connections: usize,
    /// Mails a connection, at most.
    pub mails: usize,
    /// Bytes of a connection's n-th mail.
    pub size: fn(usize) -> usize,
}

impl Load<'_> {
    /// Submits until all is said, a connection breaks or nobody wants more.
    pub fn run(&self, book: &Mutex<Book>, wanted: &AtomicBool) {
        thread::scope(|scope| {
            for connection in 0..self.connections {
                scope.spawn(move || self.connection(connection, book, wanted));
            }
        });
    }

    fn connection(&self, connection: usize, book: &Mutex<Book>, wanted: &AtomicBool) {
        let from = format!("hello@{SENDER_DOMAIN}");
        let mut client = match Client::greeted(self.listener) {
            Ok(client) => client,
            Err(e) if e.kind() == std::io::ErrorKind::Other => {
                return book.lock().unwrap().turned_away.push(e.to_string());
            }
            Err(_) => return,
        };
        for n in 0..self.mails {
            if !wanted.load(Ordering::Relaxed) {
                return;
            }
            let to = format!("{}-{connection}-{n}@{SINK_DOMAIN}", self.name);
            let answer = client.mail(&from, &[&to], mail(&from, &to, (self.size)(n)).as_bytes());
            let mut book = book.lock().unwrap();
            match answer {
                Ok(reply) if reply.starts_with("250") => book.yes.push(to),
                Ok(reply) => {
                    let closed = reply.starts_with("421");
                    book.refused.push((to, reply));
                    if closed {
                        return;
                    }
                    // What was told at RCPT leaves the transaction open.
                    drop(book);
                    if client.say("RSET").is_err() {
                        return;
                    }
                }
                Err(_) => return book.unanswered.push(to),
            }
        }
    }
}

/// A mail of about that many bytes.
fn mail(from: &str, to: &str, bytes: usize) -> String {
    const LINE: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\r\n";
    let mut mail = format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {to}\r\n\r\n");
    let lines = bytes.saturating_sub(mail.len()).div_ceil(LINE.len());
    mail.push_str(&LINE.repeat(lines.max(1)));
    mail
}
