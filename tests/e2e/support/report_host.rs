//! A host that takes TLS reports by HTTPS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{SOON, eventually};

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
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let host = Self { port: listener.local_addr().unwrap().port(), taken: Arc::default() };
        let server = host.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp);
                let Some(request) = request(&mut stream) else { continue };
                let mut taken = server.taken.lock().unwrap();
                taken.push(request);
                let status = if taken.len() == 1 { "503 Service Unavailable" } else { "201 Created" };
                drop(taken);
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.flush();
            }
        });
        host
    }

    /// Waits for that many requests.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        let asked = || Some(self.taken.lock().unwrap().clone()).filter(|taken| taken.len() >= count);
        eventually(&format!("{count} reports by HTTPS"), SOON, asked)
    }
}

/// Whoever hangs up early has asked for nothing.
fn request(stream: &mut impl Read) -> Option<Taken> {
    let (mut header, mut byte) = (Vec::new(), [0]);
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        header.push(byte[0]);
    }
    let header = String::from_utf8(header).unwrap().to_lowercase();
    let length = header.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((header, body))
}
