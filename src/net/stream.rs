//! A connection we opened, in clear or inside TLS, as one type.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Pulse, pulse, tls};

/// A connection we opened.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Inside TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// TLS version and cipher suite; `None` in clear.
    pub fn tls(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls::description(tls.get_ref().1),
        }
    }

    /// True if the peer has closed an idle connection or said something on it that nobody asked for. Does not wait for the
    /// peer; may take bytes, so a connection of which this is true is of no further use.
    pub async fn is_stale(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => pulse(tcp) != Pulse::Quiet,
            Self::Tls(tls) => {
                // What TLS has read ahead shows in no socket. Session tickets and key updates are nothing to worry about.
                if has_come(tls) {
                    return true;
                }
                match pulse(tls.get_ref().0) {
                    Pulse::Quiet => false,
                    Pulse::Closed => true,
                    // The bytes are there; waiting lets the runtime learn of them before they are read.
                    Pulse::Bytes => tls.get_ref().0.readable().await.is_err() || has_come(tls),
                }
            }
        }
    }
}

/// True if data, an alert or the end has come. Does not wait.
fn has_come(tls: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0; 1];
    let mut context = Context::from_waker(std::task::Waker::noop());
    Pin::new(tls).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_ready()
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
