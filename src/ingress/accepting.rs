//! Sockets that listen: connections are taken until told to stop, and what they became is waited for.
//!
//! **Promises.** Each connection is handed over at once. A system that refuses one, mostly for want of file descriptors, is asked
//! again after a pause. Whatever panics ends alone, and the log says so.
//!
//! **Does not know** what is spoken, and how many connections there may be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::stream::stopped;

/// Connections the kernel holds for us until we take them.
const BACKLOG: u32 = 1_024;
/// A pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens; must be called within a tokio runtime.
///
/// # Errors
/// What the operating system says: the address is taken, or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until `shutdown` turns true; `take` spawns what serves one, and `what` names that. Returns what is still
/// being served.
pub(super) async fn accept(
    socket: &TcpListener,
    local: SocketAddr,
    what: &str,
    mut shutdown: watch::Receiver<bool>,
    mut take: impl FnMut(TcpStream, SocketAddr, &mut JoinSet<()>),
) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return serving,
            Some(ended) = serving.join_next(), if !serving.is_empty() => report(ended, what),
            taken = socket.accept() => match taken {
                Ok((stream, peer)) => take(stream, peer, &mut serving),
                Err(e) => {
                    tracing::warn!(listener = %local, error = %e, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Waits until all have ended, at most so long; returns how many had to be cut off.
pub(super) async fn drain(mut serving: JoinSet<()>, what: &str, patience: Duration) -> usize {
    let all_ended = async {
        while let Some(ended) = serving.join_next().await {
            report(ended, what);
        }
    };
    if tokio::time::timeout(patience, all_ended).await.is_ok() {
        return 0;
    }
    let cut_off = serving.len();
    serving.shutdown().await;
    cut_off
}

fn report(ended: Result<(), JoinError>, what: &str) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!(error = %e, "{what} panicked");
    }
}
