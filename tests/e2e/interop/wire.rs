//! A TCP proxy that writes down what each side said, in order: what a mail server claims in its log it also did.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use memchr::memmem;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Server,
}

/// What was said over one connection; what one side said before the other answered is one piece.
type Talk = Vec<(Side, Vec<u8>)>;

/// The proxy; it ends with the process.
#[derive(Debug)]
pub(super) struct Wire {
    /// Where it listens on 127.0.0.1.
    pub(super) port: u16,
    talks: Arc<Mutex<Vec<Talk>>>,
}

impl Wire {
    /// One in front of that port of 127.0.0.1.
    pub(super) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talks: Arc<Mutex<Vec<Talk>>> = Arc::default();
        let book = talks.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let mut talks = book.lock().unwrap();
                talks.push(Talk::new());
                let number = talks.len() - 1;
                for (from, to, side) in [(&client, &server, Side::Client), (&server, &client, Side::Server)] {
                    to.set_nodelay(true).unwrap();
                    let (from, to, book) = (from.try_clone().unwrap(), to.try_clone().unwrap(), book.clone());
                    thread::spawn(move || {
                        carry(from, to, &mut |bytes| write_down(&mut book.lock().unwrap()[number], side, bytes))
                    });
                }
            }
        });
        Self { port, talks }
    }

    /// True if a client said this.
    pub(super) fn client_said(&self, what: &str) -> bool {
        self.any(|side, said| side == Side::Client && memmem::find(said, what.as_bytes()).is_some())
    }

    /// True if a server offered that extension.
    pub(super) fn offered(&self, keyword: &str) -> bool {
        self.any(|side, said| {
            let said = String::from_utf8_lossy(said);
            side == Side::Server && said.lines().any(|line| line.get(4..).is_some_and(|l| word(l) == keyword))
        })
    }

    /// True if a client sent RCPT before MAIL was answered.
    pub(super) fn client_pipelined(&self) -> bool {
        self.any(|side, said| {
            let mail = memmem::find(said, b"MAIL FROM:").unwrap_or(said.len());
            side == Side::Client && memmem::find(&said[mail..], b"\r\nRCPT TO:").is_some()
        })
    }

    /// The commands that begin so, of all connections.
    pub(super) fn commands(&self, start: &str) -> Vec<String> {
        let talks = self.talks.lock().unwrap();
        let said = talks.iter().flatten().filter(|(side, _)| *side == Side::Client);
        let lines = said.flat_map(|(_, bytes)| bytes.split(|b| *b == b'\n'));
        let commands = lines.filter(|line| !line.is_empty() && line.starts_with(start.as_bytes()));
        commands.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
    }

    /// How often such commands came after another one.
    pub(super) fn runs(&self, start: &str) -> usize {
        let commands = self.commands("");
        let such = |n: usize| commands[n].starts_with(start);
        (0..commands.len()).filter(|n| such(*n) && (*n == 0 || !such(n - 1))).count()
    }

    fn any(&self, mut wanted: impl FnMut(Side, &[u8]) -> bool) -> bool {
        self.talks.lock().unwrap().iter().flatten().any(|(side, said)| wanted(*side, said))
    }
}

fn word(text: &str) -> &str {
    text.split([' ', '=']).next().unwrap_or_default()
}

/// Written down before it is passed on: nobody has answered what is not in the book.
fn carry(mut from: TcpStream, mut to: TcpStream, book: &mut dyn FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        book(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn write_down(talk: &mut Talk, side: Side, bytes: &[u8]) {
    match talk.last_mut() {
        Some((last, said)) if *last == side => said.extend_from_slice(bytes),
        _ => talk.push((side, bytes.to_vec())),
    }
}
