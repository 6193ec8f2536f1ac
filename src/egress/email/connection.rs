//! One TCP connection to a mail host: bytes out, replies in, each wait with its timeout.
//!
//! **Promises.** Reads at most `limits::PEER_REPLY_BYTES_MAX` of replies per transaction; a peer that drips bytes does not
//! prolong a wait. Content is written from where it lies, in vectors.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::event::metrics::Metrics;
use crate::model::Reply;
use crate::net::{Stream, tls};
use crate::wire::smtp::client::{Outgoing, ReplyFault, ReplyParser, content};

/// Room made for each read: replies are short.
const READ_BYTES: usize = 2048;
/// The slowest a peer may take content, on top of one block's timeout.
const CONTENT_BYTES_PER_SECOND_MIN: u64 = 1024;

/// Why a connection is of no further use.
#[derive(Debug)]
pub(super) enum Lost {
    /// The peer closed it.
    Closed,
    /// The peer was too slow.
    Timeout,
    /// The system's word.
    Io(io::Error),
    /// The peer broke the protocol.
    Fault(ReplyFault),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Timeout => f.write_str("the peer did not answer in time"),
            Self::Io(e) => write!(f, "the connection broke: {e}"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// An open connection, counted while it lives.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    incoming: BytesMut,
    parser: ReplyParser,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.mail_connections.dec();
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, metrics: &Arc<Metrics>) -> Self {
        metrics.mail_connections.inc();
        metrics.mail_connections_made.inc();
        Self {
            stream: Stream::Plain(stream),
            incoming: BytesMut::new(),
            parser: ReplyParser::new(),
            _counted: Counted(metrics.clone()),
        }
    }

    /// The next reply.
    pub(super) async fn reply(&mut self, within: Duration) -> Result<Reply, Lost> {
        // Often it has come with the one before.
        if let Some(reply) = self.parsed()? {
            return Ok(reply);
        }
        timeout(within, self.read_reply()).await.unwrap_or(Err(Lost::Timeout))
    }

    async fn read_reply(&mut self) -> Result<Reply, Lost> {
        loop {
            self.incoming.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.incoming).await.map_err(Lost::Io)? == 0 {
                return Err(Lost::Closed);
            }
            if let Some(reply) = self.parsed()? {
                return Ok(reply);
            }
        }
    }

    fn parsed(&mut self) -> Result<Option<Reply>, Lost> {
        self.parser.next(&mut self.incoming).map_err(Lost::Fault)
    }

    /// Writes commands.
    pub(super) async fn say(&mut self, commands: &[u8], within: Duration) -> Result<(), Lost> {
        let writing = async {
            self.stream.write_all(commands).await?;
            self.stream.flush().await
        };
        timeout(within, writing).await.map_err(|_| Lost::Timeout)?.map_err(Lost::Io)
    }

    /// Writes content of about `bytes` bytes to its end.
    pub(super) async fn send(&mut self, content: Outgoing<'_>, bytes: u64, block: Duration) -> Result<(), Lost> {
        let within = block.saturating_add(Duration::from_secs(bytes / CONTENT_BYTES_PER_SECOND_MIN));
        timeout(within, self.write_content(content, block)).await.unwrap_or(Err(Lost::Timeout))
    }

    async fn write_content(&mut self, mut content: Outgoing<'_>, block: Duration) -> Result<(), Lost> {
        loop {
            let mut slices = [IoSlice::new(&[]); content::SLICES];
            let n = content.slices(&mut slices);
            if n == 0 {
                break;
            }
            let writing = self.stream.write_vectored(&slices[..n]);
            match timeout(block, writing).await.map_err(|_| Lost::Timeout)?.map_err(Lost::Io)? {
                0 => return Err(Lost::Closed),
                written => content.advance(written),
            }
        }
        timeout(block, self.stream.flush()).await.map_err(|_| Lost::Timeout)?.map_err(Lost::Io)
    }

    /// True if bytes have come that belong to no reply taken so far.
    pub(super) fn has_more(&self) -> bool {
        !self.incoming.is_empty() || self.parser.is_midway()
    }

    /// True if the peer has closed the idle connection or said something unasked. Does not wait for it.
    pub(super) async fn is_stale(&mut self) -> bool {
        self.has_more() || self.stream.is_stale().await
    }

    /// A new transaction begins: the peer may talk its full share again.
    pub(super) fn renew(&mut self) {
        self.parser.renew();
    }

    /// Shakes hands for TLS; whatever was read in clear is gone.
    pub(super) async fn secure(
        self,
        with: Arc<ClientConfig>,
        name: ServerName<'static>,
        within: Duration,
    ) -> Result<(Self, String), Lost> {
        let Self { stream, _counted, .. } = self;
        let Stream::Plain(tcp) = stream else { return Err(Lost::Fault(ReplyFault::NotAReply)) };
        let shaking = TlsConnector::from(with).connect(name, tcp);
        let secured = timeout(within, shaking).await.map_err(|_| Lost::Timeout)?.map_err(Lost::Io)?;
        let description = tls::description(secured.get_ref().1).unwrap_or_default();
        let stream = Stream::Tls(Box::new(secured));
        Ok((Self { stream, incoming: BytesMut::new(), parser: ReplyParser::new(), _counted }, description))
    }

    #[cfg(test)]
    pub(super) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        match &self.stream {
            Stream::Tls(stream) => stream.get_ref().1.handshake_kind(),
            Stream::Plain(_) => None,
        }
    }

    /// Closes; TLS says so first.
    pub(super) async fn close(mut self, within: Duration) {
        let _ = timeout(within, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PEER_REPLY_BYTES_MAX;

    #[tokio::test]
    async fn a_peer_that_talks_without_end_fills_no_memory() {
        for chunk in [&b"250 "[..], b"250-never ending\r\n", b"\0"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let mut server = server.unwrap().0;
            let talking = tokio::spawn(async move { while server.write_all(&chunk.repeat(1000)).await.is_ok() {} });
            let mut connection = Connection::new(client.unwrap(), &Arc::new(Metrics::new()));
            let lost = connection.reply(Duration::from_secs(20)).await.unwrap_err();
            assert!(matches!(lost, Lost::Fault(_)), "{lost:?}");
            assert!(connection.incoming.capacity() <= 4 * PEER_REPLY_BYTES_MAX, "{}", connection.incoming.capacity());
            drop(connection);
            talking.await.unwrap();
        }
    }
}
