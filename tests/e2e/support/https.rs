//! A small HTTPS server: one request a connection.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A connection, before its handshake.
pub type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Serves on any port of 127.0.0.1 with a certificate and its key, PEM, until the process ends: each connection is given to
/// `serve`, one after the other. Returns the port.
pub fn start(certificate: &str, key: &str, mut serve: impl FnMut(Stream) + Send + 'static) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp));
        }
    });
    port
}

/// A request's header section in lower case; `None` from who hangs up early.
pub fn header(stream: &mut impl Read) -> Option<String> {
    let (mut header, mut byte) = (Vec::new(), [0]);
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        header.push(byte[0]);
    }
    Some(String::from_utf8(header).unwrap().to_lowercase())
}
