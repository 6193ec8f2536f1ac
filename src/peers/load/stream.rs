//! A connection to the target, plain or TLS, with one bounded read buffer.
//!
//! **Promises.** Every read and write ends within the reply timeout; a peer that sends more than
//! [`limits::PEER_REPLY_BYTES_MAX`] without completing a reply is cut off. **Does not know** SMTP or HTTP.
//!
//! Certificates are *not* checked: a load generator measures the relay it is pointed at and sends it nothing of value.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Trouble;
use crate::limits;

/// Either kind of connection.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection and what has been read from it but not used yet.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    timeout: Duration,
    /// Unread bytes of replies.
    pub(super) buffer: BytesMut,
}

impl Stream {
    pub(super) async fn connect(address: &str, timeout: Duration) -> Result<Self, Trouble> {
        let connecting = tokio::time::timeout(timeout, TcpStream::connect(address));
        let tcp = match connecting.await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) => return Err(Trouble::new("connect", format!("{address}: {e}"))),
            Err(_) => return Err(Trouble::new("connect", format!("{address}: no answer in {timeout:?}"))),
        };
        // Commands and content go out in separate writes: without this, Nagle would time the delayed ACK, not the relay.
        tcp.set_nodelay(true).map_err(|e| Trouble::new("connect", e.to_string()))?;
        Ok(Self { wire: Wire::Plain(tcp), timeout, buffer: BytesMut::with_capacity(4_096) })
    }

    /// Puts TLS on top, to the name or address that stands before the port. What was read in clear is forgotten.
    pub(super) async fn secured(self, address: &str, config: Arc<ClientConfig>) -> Result<Self, Trouble> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Trouble::new("tls", e.to_string()))?;
        let Wire::Plain(tcp) = self.wire else { return Err(Trouble::new("tls", "TLS inside TLS")) };
        let shaking = tokio::time::timeout(self.timeout, TlsConnector::from(config).connect(name, tcp));
        match shaking.await {
            Ok(Ok(tls)) => Ok(Self { wire: Wire::Tls(Box::new(tls)), timeout: self.timeout, buffer: BytesMut::new() }),
            Ok(Err(e)) => Err(Trouble::new("tls", e.to_string())),
            Err(_) => Err(Trouble::new("tls", "handshake timed out")),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.write_all(&mut [IoSlice::new(bytes)]).await
    }

    /// Writes all of the slices, in one system call where the socket takes them.
    pub(super) async fn write_all(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), Trouble> {
        let wire = &mut self.wire;
        let writing = async move {
            while !slices.is_empty() {
                let written = match wire {
                    Wire::Plain(tcp) => tcp.write_vectored(slices).await?,
                    Wire::Tls(tls) => tls.write_vectored(slices).await?,
                };
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut slices, written);
            }
            match wire {
                Wire::Plain(_) => Ok(()),
                Wire::Tls(tls) => tls.flush().await,
            }
        };
        match tokio::time::timeout(self.timeout, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Trouble::new("closed", e.to_string())),
            Err(_) => Err(Trouble::new("timeout", "the other side stopped reading")),
        }
    }

    /// Reads some more into the buffer.
    pub(super) async fn read(&mut self) -> Result<(), Trouble> {
        if self.buffer.len() >= limits::PEER_REPLY_BYTES_MAX {
            return Err(Trouble::new("protocol", "reply without end"));
        }
        let buffer = &mut self.buffer;
        let wire = &mut self.wire;
        let reading = async move {
            match wire {
                Wire::Plain(tcp) => tcp.read_buf(buffer).await,
                Wire::Tls(tls) => tls.read_buf(buffer).await,
            }
        };
        match tokio::time::timeout(self.timeout, reading).await {
            Ok(Ok(0)) => Err(Trouble::new("closed", "the other side closed the connection")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(Trouble::new("closed", e.to_string())),
            Err(_) => Err(Trouble::new("timeout", format!("no reply in {:?}", self.timeout))),
        }
    }
}
