//! Connecting through somebody else: a SOCKS5 proxy (RFC 1928, RFC 1929), or one that speaks HAProxy's PROXY protocol,
//! version 2 (its `proxy-protocol.txt`, section 2.2).
//!
//! **Promises.** The address policy is checked on the address that the proxy is asked to dial. One timeout covers all of it.
//! What comes back is a connection to that address as far as anybody can tell: the proxy has said so (SOCKS5), or its peer
//! will speak first (PROXY, which has no answer).
//!
//! **Does not know** names: a proxy is asked for addresses, so it cannot be led elsewhere by DNS.
//!
//! **Fails how.** [`ConnectError::Proxy`] where the proxy is to blame, and the same errors as a direct connection where it
//! reports that the far side is.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_socks::Error as SocksError;
use tokio_socks::tcp::Socks5Stream;

use super::{AddressPolicy, ConnectError};
use crate::model::Secret;

/// Who connects on our behalf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proxy {
    /// A SOCKS5 proxy, which chooses the address that the far side sees.
    Socks5 {
        /// Where it listens.
        at: SocketAddr,
        /// If it wants to know who asks.
        login: Option<Login>,
    },
    /// A proxy that takes a PROXY header and connects from the source address named in it.
    Haproxy {
        /// Where it listens.
        at: SocketAddr,
    },
}

/// Name and password for a SOCKS5 proxy; up to 255 octets each.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.matches(other.password.expose().as_bytes())
    }
}

impl Eq for Login {}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socks5 { at, .. } => write!(f, "socks5://{at}"),
            Self::Haproxy { at } => write!(f, "haproxy://{at}"),
        }
    }
}

/// What a PROXY header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXIED: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

impl Proxy {
    /// Connects to `address` by way of this proxy; `source` is the address of ours that a PROXY header names, which has to be
    /// of the same family.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        timeout: Duration,
        policy: &AddressPolicy,
    ) -> Result<TcpStream, ConnectError> {
        if !policy.permits(address.ip()) {
            return Err(ConnectError::Refused(address.ip()));
        }
        let connecting = async {
            let (Self::Socks5 { at, .. } | Self::Haproxy { at }) = self;
            let mut tcp = TcpStream::connect(at).await.map_err(|e| self.failed(&e))?;
            tcp.set_nodelay(true).map_err(ConnectError::Io)?;
            match self {
                Self::Socks5 { login, .. } => match login {
                    Some(Login { user, password }) => {
                        let password = password.expose();
                        Socks5Stream::connect_with_password_and_socket(tcp, address, user, password).await
                    }
                    None => Socks5Stream::connect_with_socket(tcp, address).await,
                }
                .map(Socks5Stream::into_inner)
                .map_err(|e| self.refused(e)),
                Self::Haproxy { .. } => {
                    let header = source.and_then(|source| header(SocketAddr::new(source, 0), address));
                    let header = header.ok_or_else(|| {
                        self.failed(&format_args!("it needs a source address of the family of {}", address.ip()))
                    })?;
                    tcp.write_all(&header).await.map_err(|e| self.failed(&e))?;
                    Ok(tcp)
                }
            }
        };
        tokio::time::timeout(timeout, connecting).await.unwrap_or(Err(ConnectError::Timeout))
    }

    fn failed(&self, why: &dyn fmt::Display) -> ConnectError {
        ConnectError::Proxy(format!("the proxy {self} is of no use: {why}"))
    }

    /// What the proxy says of the far side is the far side's; all else is the proxy's.
    fn refused(&self, error: SocksError) -> ConnectError {
        let kind = match error {
            SocksError::HostUnreachable | SocksError::NetworkUnreachable => io::ErrorKind::HostUnreachable,
            SocksError::ConnectionRefused => io::ErrorKind::ConnectionRefused,
            SocksError::TtlExpired => io::ErrorKind::TimedOut,
            other => return self.failed(&other),
        };
        ConnectError::Io(io::Error::new(kind, format!("{error}, says the proxy {self}")))
    }
}

/// A PROXY header: a connection from `source` to `destination`, over TCP. `None` if they are of different families.
fn header(source: SocketAddr, destination: SocketAddr) -> Option<Vec<u8>> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXIED);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP_OVER_IPV4, 0, 12]);
            header.extend(from.octets().into_iter().chain(to.octets()));
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.extend([TCP_OVER_IPV6, 0, 36]);
            header.extend(from.octets().into_iter().chain(to.octets()));
        }
        _ => return None,
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(5);

    /// Answers one connection with `answers`, each after `asked` bytes have come; returns all that came.
    async fn scripted(steps: &'static [(usize, &'static [u8])]) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for (asked, answer) in steps {
                let mut bytes = vec![0; *asked];
                peer.read_exact(&mut bytes).await.unwrap();
                heard.extend(bytes);
                peer.write_all(answer).await.unwrap();
            }
            heard
        });
        (at, task)
    }

    fn target() -> SocketAddr {
        "192.0.2.25:25".parse().unwrap()
    }

    async fn through(proxy: Proxy) -> Result<TcpStream, ConnectError> {
        proxy.connect(target(), Some("192.0.2.9".parse().unwrap()), SOON, &AddressPolicy::any()).await
    }

    #[tokio::test]
    async fn socks_says_who_asks_and_for_which_address() {
        const DONE: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (at, heard) = scripted(&[(4, &[5, 2]), (11, &[1, 0]), (10, DONE)]).await;
        let login = Some(Login { user: "user".into(), password: Secret::new("pass") });
        through(Proxy::Socks5 { at, login }).await.unwrap();
        let heard = heard.await.unwrap();
        assert_eq!(&heard[4..15], b"\x01\x04user\x04pass");
        assert_eq!(&heard[15..], [5, 1, 0, 1, 192, 0, 2, 25, 0, 25]);
    }

    #[tokio::test]
    async fn what_socks_says_of_the_far_side_is_told_from_what_is_its_own_fault() {
        for (code, far) in [(1, false), (2, false), (3, true), (4, true), (5, true), (6, true), (7, false), (99, false)]
        {
            let answer: &'static [u8] = Box::leak(Box::new([5, code, 0, 1, 0, 0, 0, 0, 0, 0]));
            let steps: &'static [(usize, &'static [u8])] = Box::leak(Box::new([(3, &[5, 0][..]), (10, answer)]));
            let (at, _) = scripted(steps).await;
            let error = through(Proxy::Socks5 { at, login: None }).await.unwrap_err();
            assert_eq!(matches!(error, ConnectError::Io(_)), far, "{code}: {error}");
            assert!(error.to_string().contains("the proxy socks5://127.0.0.1:"), "{error}");
        }
    }

    #[tokio::test]
    async fn nonsense_from_a_proxy_and_a_dead_one_are_its_own_fault() {
        const NONSENSE: &[(usize, &[u8])] = &[(3, b"HTTP/1.1 400 no\r\n\r\n")];
        let (at, _) = scripted(NONSENSE).await;
        let error = through(Proxy::Socks5 { at, login: None }).await.unwrap_err();
        assert!(matches!(error, ConnectError::Proxy(_)), "{error}");
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for proxy in [Proxy::Socks5 { at: closed, login: None }, Proxy::Haproxy { at: closed }] {
            let error = through(proxy).await.unwrap_err();
            assert!(matches!(error, ConnectError::Proxy(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_header_names_both_ends() {
        let (at, heard) = scripted(&[(28, b"220 hello\r\n")]).await;
        let mut stream = through(Proxy::Haproxy { at }).await.unwrap();
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 hello\r\n");
        let heard = heard.await.unwrap();
        assert_eq!(heard[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(heard[16..], [192, 0, 2, 9, 192, 0, 2, 25, 0, 0, 0, 25]);
        let six = header("[2001:db8::9]:0".parse().unwrap(), "[2001:db8::25]:25".parse().unwrap()).unwrap();
        assert_eq!((six.len(), &six[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        let (proxy, six) = (Proxy::Haproxy { at }, "[2001:db8::25]:25".parse().unwrap());
        let source = Some("192.0.2.9".parse().unwrap());
        assert!(proxy.connect(six, source, SOON, &AddressPolicy::any()).await.is_err());
    }

    #[tokio::test]
    async fn the_policy_holds_for_what_the_proxy_is_asked_to_dial() {
        let proxy = Proxy::Haproxy { at: "127.0.0.1:9".parse().unwrap() };
        let asked = proxy.connect("169.254.169.254:25".parse().unwrap(), None, SOON, &AddressPolicy::default()).await;
        assert!(matches!(asked, Err(ConnectError::Refused(_))), "{asked:?}");
    }
}
