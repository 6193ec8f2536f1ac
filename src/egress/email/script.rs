//! A mail host that follows a script, for tests.
//!
//! One dialogue per connection, in order, one step a line:
//!
//! ```text
//! S: 250 ok        says this line          C: MAIL FROM:<   expects a line that starts so; BDAT swallows its chunk
//! B: 250 ok\xff\n  says these bytes        DATA             reads to the lone dot
//! TLS              shakes hands as the server   TLS fails   the same, and the client does not like it
//! CLOSE            hangs up                RESET            hangs up with an RST
//! STALL            waits for the client to hang up          DEAF   reads nothing more and does not hang up either
//! FLOOD            says lines without end  ENDLESS          says one line without end
//! DRIP             says one line without end, a byte now and then
//! HEAR             waits for the client to say something
//! ```
//!
//! Lines and bytes said one after the other go in one write.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What clients said, one entry a connection; content is on one line, escaped.
pub(super) type Transcript = Vec<Vec<String>>;

pub(super) struct Host {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Transcript>>,
    /// Gives back those connections that nobody reads any more: they stay open until it is asked.
    task: JoinHandle<Vec<Line>>,
}

trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}

type Line = BufReader<Pin<Box<dyn Wire>>>;

impl Host {
    pub(super) async fn start(dialogues: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), dialogues).await
    }

    pub(super) async fn start_at(address: SocketAddr, dialogues: &[&str]) -> Self {
        Self::start_with(address, dialogues, own_certificate()).await
    }

    /// With TLS settings of the test's own.
    pub(super) async fn start_with(address: SocketAddr, dialogues: &[&str], tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Transcript::new()));
        let (dialogues, transcript) = (dialogues.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>(), heard.clone());
        let task = tokio::spawn(async move {
            let mut deaf = Vec::new();
            for dialogue in dialogues {
                let (stream, _) = listener.accept().await.unwrap();
                transcript.lock().push(Vec::new());
                deaf.extend(play(stream, &dialogue, &transcript, &tls).await);
            }
            deaf
        });
        Self { address, heard, task }
    }

    /// Waits until every dialogue has been played to its end and returns what was heard.
    pub(super) async fn finish(self) -> Transcript {
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("the script is stuck").unwrap();
        self.heard.lock().clone()
    }
}

/// Plays one dialogue; gives the connection back if it is to stay open, unread.
async fn play(
    stream: TcpStream,
    dialogue: &str,
    transcript: &Arc<Mutex<Transcript>>,
    tls: &Arc<ServerConfig>,
) -> Option<Line> {
    let hear = |line: String| transcript.lock().last_mut().unwrap().push(line);
    // A second handle of the socket, to make its close a reset.
    let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
    let mut line: Line = BufReader::new(Box::pin(stream));
    let mut saying = Vec::new();
    for step in dialogue.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(words) = step.strip_prefix("S:") {
            saying.extend_from_slice(words.trim_start().as_bytes());
            saying.extend_from_slice(b"\r\n");
            continue;
        }
        if let Some(bytes) = step.strip_prefix("B:") {
            saying.extend(unescaped(bytes.trim_start()));
            continue;
        }
        // A client that has hung up shows in what it was expected to say.
        let _ = line.get_mut().write_all(&std::mem::take(&mut saying)).await;
        let _ = line.get_mut().flush().await;
        match step.split_once(' ').unwrap_or((step, "")) {
            ("C:", expected) => {
                let said = read_line(&mut line).await;
                assert!(said.starts_with(expected), "expected {expected:?}, heard {said:?}");
                let chunk = said.strip_prefix("BDAT ").map(|b| b.split(' ').next().unwrap().parse::<usize>().unwrap());
                hear(said);
                if let Some(bytes) = chunk {
                    let mut content = vec![0; bytes];
                    line.read_exact(&mut content).await.unwrap();
                    hear(content.escape_ascii().to_string());
                }
            }
            ("DATA", _) => {
                let mut content = Vec::new();
                while !(content == b".\r\n" || content.ends_with(b"\r\n.\r\n")) {
                    assert_ne!(line.read_until(b'\n', &mut content).await.unwrap(), 0, "the data has no end");
                }
                hear(content.escape_ascii().to_string());
            }
            ("TLS", "fails") => {
                assert!(TlsAcceptor::from(tls.clone()).accept(line).await.is_err(), "the client took the certificate");
                return None;
            }
            ("TLS", _) => {
                let secured = TlsAcceptor::from(tls.clone()).accept(line).await.unwrap();
                line = BufReader::new(Box::pin(secured));
            }
            ("HEAR", _) => assert!(!line.fill_buf().await.unwrap().is_empty(), "the client hung up"),
            ("CLOSE", _) => return None,
            ("RESET", _) => {
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return None;
            }
            ("DEAF", _) => return Some(line),
            ("STALL", _) => {
                let mut rest = Vec::new();
                let _ = line.read_to_end(&mut rest).await;
            }
            ("FLOOD", _) => while line.get_mut().write_all(b"250-never ending\r\n").await.is_ok() {},
            ("ENDLESS", _) => while line.get_mut().write_all(b"250 never ending ").await.is_ok() {},
            ("DRIP", _) => {
                let mut now_and_then = tokio::time::interval(Duration::from_millis(20));
                while line.get_mut().write_all(b"2").await.is_ok() && line.get_mut().flush().await.is_ok() {
                    now_and_then.tick().await;
                }
            }
            (other, _) => panic!("no such step: {other}"),
        }
    }
    let _ = line.get_mut().write_all(&saying).await;
    let _ = line.get_mut().flush().await;
    None
}

/// With `\r`, `\n` and `\xff` read as the bytes they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            _ => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

async fn read_line(line: &mut Line) -> String {
    let mut said = Vec::new();
    let _ = line.read_until(b'\n', &mut said).await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.is_empty() || said.ends_with("\r\n"), "{said:?}");
    said.trim_end().to_owned()
}

fn own_certificate() -> Arc<ServerConfig> {
    let own = rcgen::generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    Arc::new(crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap())
}
