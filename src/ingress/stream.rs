//! A connection with or without TLS, its read buffer, and the time each wait may take.
//!
//! **Promises.** One read buffer a connection, reused; a read waits until a deadline and no longer, and one timer serves
//! all of a connection's reads. Closing waits a moment for the peer, so that our last reply is not lost to a reset.
//!
//! **Does not know** what is said over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::{Mono, SharedClock};

/// Bytes read at once, and the size of a connection's buffer.
const READ_BYTES: usize = 32 * 1024;
/// How long a peer may take to close after our last reply, and how much it may still send.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// TCP, or TLS over it.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake has failed, or is under way.
    Broken,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum FlowError {
    /// The peer closed.
    Closed,
    /// The deadline passed.
    TimedOut,
    /// Bytes come, but too slowly.
    TooSlow,
    /// All connections together hold as much as they may.
    Full,
    /// The relay is stopping.
    Stopping,
    /// The connection broke.
    Io(io::Error),
}

impl From<io::Error> for FlowError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            // A peer that closes without TLS's close_notify is as gone as one that says goodbye.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(e),
        }
    }
}

/// A connection and its buffer.
#[derive(Debug)]
pub struct Flow {
    stream: Stream,
    clock: SharedClock,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off.
    armed: Mono,
    /// What was read and not yet used.
    pub input: BytesMut,
}

impl Flow {
    /// A connection without TLS.
    pub fn plain(stream: TcpStream, clock: SharedClock) -> Self {
        // Replies are written whole; waiting for more to say would only cost time.
        let _ = stream.set_nodelay(true);
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        let armed = Mono(0);
        Self { stream: Stream::Plain(stream), clock, timer, armed, input: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Does the server's half of a TLS handshake. What was read before is dropped: it was sent in clear.
    ///
    /// # Errors
    /// The handshake failed or took longer than `within`, or TLS was up already; the connection is of no use any more.
    pub async fn start_tls(&mut self, config: Arc<rustls::ServerConfig>, within: Duration) -> io::Result<()> {
        let Stream::Plain(tcp) = std::mem::replace(&mut self.stream, Stream::Broken) else {
            return Err(io::Error::other("TLS is up already"));
        };
        let tls = tokio::time::timeout(within, TlsAcceptor::from(config).accept(tcp)).await??;
        self.input.clear();
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    /// TLS version and cipher suite, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub fn tls_description(&self) -> Option<String> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let connection = tls.get_ref().1;
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLS",
        };
        Some(format!("{version} {:?}", connection.negotiated_cipher_suite()?.suite()))
    }

    /// Reads at least one byte into [`Flow::input`], before `until`; `stop` ends the wait when it turns true.
    ///
    /// # Errors
    /// [`FlowError`].
    pub async fn read(&mut self, until: Mono, stop: Option<&mut watch::Receiver<bool>>) -> Result<usize, FlowError> {
        if until < self.armed {
            self.arm(until);
        }
        // Gets the room back that used input had taken; no copy while the buffer is empty.
        self.input.reserve(READ_BYTES.saturating_sub(self.input.len()).max(1));
        let mut stopping = std::pin::pin!(stopped_or_never(stop));
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.input) => return match read? {
                    0 => Err(FlowError::Closed),
                    bytes => Ok(bytes),
                },
                () = &mut stopping => return Err(FlowError::Stopping),
                () = self.timer.as_mut() => {
                    // The timer may be older than this wait: deadlines move with every command, the timer does not.
                    if self.clock.mono() >= until {
                        self.arm(until);
                        return Err(FlowError::TimedOut);
                    }
                    self.arm(until);
                }
            }
        }
    }

    fn arm(&mut self, until: Mono) {
        self.armed = until;
        self.timer.set(tokio::time::sleep(until.since(self.clock.mono())));
    }

    /// Writes all of `output` and clears it.
    ///
    /// # Errors
    /// [`FlowError`]; `TimedOut` if the peer did not take it `within` that time.
    pub async fn write(&mut self, output: &mut BytesMut, within: Duration) -> Result<(), FlowError> {
        if output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        let mut write = std::pin::pin!(write);
        // Almost always there is room in the socket's buffer and no timer is needed.
        let written = match poll_once(write.as_mut()).await {
            Some(written) => written,
            None => tokio::time::timeout(within, write).await.map_err(|_| FlowError::TimedOut)?,
        };
        output.clear();
        written.map_err(FlowError::from)
    }

    /// Ends our half, then waits a moment for the peer to end its own. Closing at once, with unread input, would reset the
    /// connection, and the peer might lose our last reply.
    pub async fn finish(mut self) {
        let goodbye = async {
            self.stream.shutdown().await?;
            let mut left = LINGER_BYTES_MAX;
            let mut sink = [0; 4096];
            while left > 0 {
                match self.stream.read(&mut sink).await? {
                    0 => break,
                    bytes => left = left.saturating_sub(bytes),
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }
}

/// Polls once: the output if it is ready, nothing if it is not.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Waits until `stop` turns true; its other end being gone means the same.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn stopped_or_never(stop: Option<&mut watch::Receiver<bool>>) {
    match stop {
        Some(stop) => stopped(stop).await,
        None => std::future::pending().await,
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Self::Broken => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
            Self::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
