//! Sockets: listening, connecting, TLS, and which addresses may be dialled at all.
//!
//! **Promises.** [`connect`] checks the [`AddressPolicy`] on the very address it dials, so no name that resolves otherwise
//! the second time can lead inside; it gives up after its timeout. There is one TLS provider, installed once
//! ([`tls::install_provider`]).
//!
//! **Does not know** SMTP, SMPP or HTTP, nor names: addresses come in resolved.
//!
//! **Fails how.** Typed errors; bytes of a peer are only carried here, never read.

mod address_policy;
mod authorities;
pub mod dane;
pub mod judging;
pub mod proxy;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub use address_policy::AddressPolicy;
pub use authorities::Authorities;
pub use stream::Stream;

/// Connections that wait to be accepted: enough for a burst of clients, and the kernel caps it anyway.
pub const BACKLOG: u32 = 1024;

/// Why a connection was not made.
#[derive(Debug)]
pub enum ConnectError {
    /// The address policy does not allow this address.
    Refused(IpAddr),
    /// No answer in time.
    Timeout,
    /// The system's word.
    Io(io::Error),
    /// The proxy on the way is to blame.
    Proxy(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(address) => write!(f, "{address} is not a public address and not in allow_private"),
            Self::Timeout => f.write_str("no answer to the connection request in time"),
            Self::Io(e) => e.fmt(f),
            Self::Proxy(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            Self::Refused(_) | Self::Timeout | Self::Proxy(_) => None,
        }
    }
}

/// Listens on an address; port 0 takes a free one. A restarted relay gets its port back at once (`SO_REUSEADDR`). An IPv6
/// listener takes IPv6 only, so that `[::]` and `0.0.0.0` can stand side by side.
///
/// # Errors
/// The system's, such as an address in use. Must be called inside a tokio runtime.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Connects to `address`, from `source` if one is given and of the same family, with `TCP_NODELAY`.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    policy: &AddressPolicy,
) -> Result<TcpStream, ConnectError> {
    if !policy.permits(address.ip()) {
        return Err(ConnectError::Refused(address.ip()));
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(ConnectError::Io)?;
    if let Some(source) = source.filter(|s| s.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0)).map_err(ConnectError::Io)?;
    }
    // Before connecting: on a connection that the peer has reset at once it would fail with an error of its own.
    socket.set_nodelay(true).map_err(ConnectError::Io)?;
    let connecting = tokio::time::timeout(timeout, socket.connect(address));
    connecting.await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Io)
}

/// What an idle socket has to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// Nothing: it is open.
    Quiet,
    /// Bytes nobody has read yet.
    Bytes,
    /// The peer is gone.
    Closed,
}

/// Looks at an idle socket without waiting and without taking anything from it.
pub fn pulse(stream: &TcpStream) -> Pulse {
    let mut byte = [std::mem::MaybeUninit::uninit(); 1];
    match SockRef::from(stream).peek(&mut byte) {
        Ok(0) => Pulse::Closed,
        Ok(_) => Pulse::Bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Pulse::Quiet,
        Err(_) => Pulse::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn loopback() -> AddressPolicy {
        AddressPolicy { allow_private: vec!["127.0.0.0/8".parse().unwrap()] }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn connects_to_what_listens() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let source = Some("127.0.0.2".parse().unwrap());
        let policy = loopback();
        let (client, server) = tokio::join!(connect(address, source, SOON, &policy), listener.accept());
        let (client, (mut server, from)) = (client.unwrap(), server.unwrap());
        assert!(client.nodelay().unwrap());
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        assert_eq!(pulse(&client), Pulse::Quiet);
        server.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        assert_eq!(pulse(&client), Pulse::Bytes);
        let mut byte = [0; 1];
        assert_eq!(client.try_read(&mut byte).unwrap(), 1);
        drop(server);
        client.readable().await.unwrap();
        assert_eq!(pulse(&client), Pulse::Closed);
    }

    #[tokio::test]
    async fn a_private_address_is_refused_before_any_packet() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let refused = connect(address, None, SOON, &AddressPolicy::default()).await;
        assert!(matches!(refused, Err(ConnectError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_closed_port_is_the_systems_error() {
        let closed = listen("127.0.0.1:0".parse().unwrap(), BACKLOG).unwrap().local_addr().unwrap();
        let refused = connect(closed, None, SOON, &loopback()).await;
        assert!(
            matches!(&refused, Err(ConnectError::Io(e)) if e.kind() == io::ErrorKind::ConnectionRefused),
            "{refused:?}"
        );
    }
}
