//! A mail host that follows a script, for tests.
//!
//! One dialogue per connection, in order, one step a line:
//!
//! ```text
//! S: 250 ok        says this line          C: MAIL FROM:<   expects a line that starts so; BDAT swallows its chunk
//! DATA             reads to the lone dot   TLS              shakes hands as the server
//! CLOSE            hangs up                RESET            hangs up with an RST
//! STALL            waits for the client to hang up          FLOOD  talks without end
//! HEAR             waits for the client to say something
//! ```
//!
//! Lines said one after the other go in one write.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What clients said, one entry a connection; content is on one line, escaped.
pub(super) type Transcript = Vec<Vec<String>>;

pub(super) struct Host {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Transcript>>,
    task: JoinHandle<()>,
}

trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}

type Line = BufReader<Pin<Box<dyn Wire>>>;

impl Host {
    pub(super) async fn start(dialogues: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), dialogues).await
    }

    pub(super) async fn start_at(address: SocketAddr, dialogues: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Transcript::new()));
        let (dialogues, transcript) = (dialogues.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>(), heard.clone());
        let task = tokio::spawn(async move {
            for dialogue in dialogues {
                let (stream, _) = listener.accept().await.unwrap();
                transcript.lock().push(Vec::new());
                play(stream, &dialogue, &transcript).await;
            }
        });
        Self { address, heard, task }
    }

    /// Waits until every dialogue has been played to its end and returns what was heard.
    pub(super) async fn finish(self) -> Transcript {
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("the script is stuck").unwrap();
        self.heard.lock().clone()
    }
}

async fn play(stream: TcpStream, dialogue: &str, transcript: &Arc<Mutex<Transcript>>) {
    let hear = |line: String| transcript.lock().last_mut().unwrap().push(line);
    // A second handle of the socket, to make its close a reset.
    let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
    let mut line: Line = BufReader::new(Box::pin(stream));
    let mut saying = String::new();
    for step in dialogue.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(words) = step.strip_prefix("S:") {
            saying.push_str(words.trim_start());
            saying.push_str("\r\n");
            continue;
        }
        // A client that has hung up shows in what it was expected to say.
        let _ = line.get_mut().write_all(std::mem::take(&mut saying).as_bytes()).await;
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
            ("TLS", _) => {
                let secured = acceptor().accept(line).await.unwrap();
                line = BufReader::new(Box::pin(secured));
            }
            ("HEAR", _) => assert!(!line.fill_buf().await.unwrap().is_empty(), "the client hung up"),
            ("CLOSE", _) => return,
            ("RESET", _) => {
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            ("STALL", _) => {
                let mut rest = Vec::new();
                let _ = line.read_to_end(&mut rest).await;
            }
            ("FLOOD", _) => while line.get_mut().write_all(b"250-never ending\r\n").await.is_ok() {},
            (other, _) => panic!("no such step: {other}"),
        }
    }
    let _ = line.get_mut().write_all(saying.as_bytes()).await;
    let _ = line.get_mut().flush().await;
}

async fn read_line(line: &mut Line) -> String {
    let mut said = Vec::new();
    let _ = line.read_until(b'\n', &mut said).await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.is_empty() || said.ends_with("\r\n"), "{said:?}");
    said.trim_end().to_owned()
}

fn acceptor() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    TlsAcceptor::from(Arc::new(crate::net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap()))
}
