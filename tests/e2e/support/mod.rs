//! What the tests are made of: the relay as a process, a zone, independent peers, plain clients.

pub mod dns;
pub mod http;
pub mod https;
pub mod keys;
pub mod load;
pub mod mounts;
pub mod peer;
pub mod policy_host;
pub mod relay;
pub mod report_host;
pub mod sink;
pub mod smtp;
pub mod trace;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough for anything that should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Long enough for what takes many syncs, on a machine that has no time for us.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where `tests/run` puts the independent programs.
pub fn test_peers() -> PathBuf {
    let chosen = std::env::var_os("POSTRIDER_TEST_PEERS").map(PathBuf::from);
    chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-peers"))
}

/// A script of ours under `tests/e2e/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/peers").join(name)
}

/// Runs a program to its end; panics with what it said if it fails.
pub fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e} (tests/run installs what tests need)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {said}", output.status);
}

/// The accounting of a test: seen also when it passes, which `println!` is not.
pub fn account(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The time, for a test's own figures.
#[allow(clippy::disallowed_methods, reason = "the test's own clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer: only for what tells nobody when it changes (a file, a page, a command's output).
#[allow(clippy::disallowed_methods, reason = "the test's own deadline")]
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port of 127.0.0.1 on which nobody answers until a peer is started there: bound, but not listening.
#[derive(Debug)]
pub struct SilentPort {
    /// Its number.
    pub port: u16,
    _bound: socket2::Socket,
}

impl SilentPort {
    /// Takes one. Peers bind with SO_REUSEADDR, as this does, so that the port can be shared until somebody listens.
    pub fn take() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Self { port, _bound: socket }
    }
}

/// 71 characters: one more than a single part of UCS-2 holds.
pub fn long_text() -> String {
    let text = format!("【小店】{}", "您的订单已发货请注意查收".repeat(6).chars().take(67).collect::<String>());
    assert_eq!(text.chars().count(), 71);
    text
}

/// The content of a whole mail, split where its header section ends: (header with its last CRLF, body).
pub fn split_mail(mail: &[u8]) -> (&[u8], &[u8]) {
    let end = mail.windows(4).position(|w| w == b"\r\n\r\n").expect("a mail without an empty line");
    (&mail[..end + 2], &mail[end + 4..])
}
