//! A plain HTTP/1.1 client: one request a connection, the whole answer; and a server that books what it was asked for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::SOON;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request; `fields` are whole lines without CRLF.
pub fn request(address: &str, method: &str, path: &str, fields: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early may close before it has read the rest: its answer still counts.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end =
        answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}"));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// A server that answers 200 to everything and books the targets; it ends with the process.
#[derive(Clone, Debug)]
pub struct Book {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    asked: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Book {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let book = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let asked = book.asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = asked.clone();
                std::thread::spawn(move || serve(stream, &asked));
            }
        });
        book
    }

    /// Waits until somebody has asked for a target that begins so.
    pub fn wait_for(&self, target: &str, within: Duration) {
        let (asked, changed) = &*self.asked;
        let is_missing = |asked: &mut Vec<String>| !asked.iter().any(|line| line.starts_with(target));
        let (asked, _) = changed.wait_timeout_while(asked.lock().unwrap(), within, is_missing).unwrap();
        assert!(asked.iter().any(|line| line.starts_with(target)), "nobody asked for {target}: {asked:#?}");
    }
}

/// Answers the requests of a connection, none of which has a body.
fn serve(mut stream: TcpStream, asked: &(Mutex<Vec<String>>, Condvar)) {
    let (mut head, mut octet) = (Vec::new(), [0]);
    while matches!(stream.read(&mut octet), Ok(1)) {
        head.push(octet[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        head.clear();
        asked.0.lock().unwrap().push(target);
        asked.1.notify_all();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
    }
}
