//! A host that takes TLS reports by HTTPS.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::{SOON, eventually, https};

/// A request as it came: its header section in lower case, and its body.
pub type Taken = (String, Vec<u8>);

/// The server; it ends with the process.
#[derive(Clone, Debug)]
pub struct ReportHost {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl ReportHost {
    /// Starts one with a certificate and its key, PEM. It says "later" to the first request.
    pub fn start(certificate: &str, key: &str) -> Self {
        let taken = Arc::<Mutex<Vec<Taken>>>::default();
        let book = taken.clone();
        let port = https::start(certificate, key, move |mut stream| {
            let Some(request) = request(&mut stream) else { return };
            let mut taken = book.lock().unwrap();
            taken.push(request);
            let status = if taken.len() == 1 { "503 Service Unavailable" } else { "201 Created" };
            drop(taken);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.flush();
        });
        Self { port, taken }
    }

    /// Waits for that many requests.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        let asked = || Some(self.taken.lock().unwrap().clone()).filter(|taken| taken.len() >= count);
        eventually(&format!("{count} reports by HTTPS"), SOON, asked)
    }
}

/// Whoever hangs up early has asked for nothing.
fn request(stream: &mut impl Read) -> Option<Taken> {
    let header = https::header(stream)?;
    let length = header.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((header, body))
}
