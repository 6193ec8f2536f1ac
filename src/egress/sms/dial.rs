//! Keeping one bind up: resolve, connect, bind, serve, and again after a pause.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::carrier::{Phase, Shared};
use super::link::{End, Link};
use super::options::Options;
use super::protocol::{Bound, NotBound, Step};
use super::slots::FarEnd;
use crate::net::Stream;

/// A bind that held for so long was a good one: the next pause is short again.
const GOOD_BIND: Duration = Duration::from_secs(10);

/// Keeps bind number `bind` up until the carrier is stopped.
pub(super) async fn keep_bound(shared: std::sync::Arc<Shared>, bind: usize, mut phase: watch::Receiver<Phase>) {
    let mut backoff = Backoff::new(shared.options.reconnect_min, shared.options.reconnect_max);
    let carrier = &shared.options.name;
    loop {
        let made = tokio::select! {
            made = connect_and_bind(&shared, bind) => made.inspect_err(|_| shared.slots.down(bind)),
            () = until_stopping(&mut phase) => return,
        };
        match made {
            Ok(made) => {
                let (FarEnd { address, tls }, spoken) = (&made.peer, made.session.spoken());
                tracing::info!(%carrier, bind, peer = %address, tls = tls.as_deref(), spoken, "bound");
                let since = shared.clock.mono();
                let end = Link::new(&shared, Some(bind), made).serve(&mut phase).await;
                if shared.clock.mono().since(since) >= GOOD_BIND {
                    backoff.reset();
                }
                match end {
                    End::Drained => return,
                    End::Spent => {
                        tracing::info!(%carrier, bind, "unbound, as there was nothing to do");
                        tokio::select! {
                            () = shared.slots.wanted(bind) => continue,
                            () = until_stopping(&mut phase) => return shared.slots.down(bind),
                        }
                    }
                    End::Broken(why) => tracing::warn!(%carrier, bind, %why, "link lost"),
                }
            }
            Err(NotBound::Refused { why, credentials }) => {
                tracing::error!(%carrier, bind, %why, "the carrier refused the bind: check system_id and password");
                if credentials {
                    backoff.jump();
                }
            }
            Err(NotBound::Failed(why)) => tracing::warn!(%carrier, bind, %why, "could not bind"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = until_stopping(&mut phase) => return,
        }
    }
}

/// A bound connection.
pub(super) struct Made {
    pub(super) stream: Stream,
    pub(super) peer: FarEnd,
    pub(super) session: Box<dyn Bound>,
}

async fn connect_and_bind(shared: &Shared, bind: usize) -> Result<Made, NotBound> {
    match tokio::time::timeout(shared.options.bind_timeout, try_bind(shared, bind)).await {
        Ok(made) => made,
        Err(_) => Err(NotBound::Failed("no bind within the time allowed".to_owned())),
    }
}

async fn try_bind(shared: &Shared, bind: usize) -> Result<Made, NotBound> {
    let options = &shared.options;
    let (tcp, address) = connect(options).await.map_err(NotBound::Failed)?;
    let mut stream = match &shared.securing {
        Some(securing) => securing.secure(tcp).await.map_err(|why| NotBound::Failed(format!("{address}: {why}")))?,
        None => Stream::Plain(tcp),
    };
    let peer = FarEnd { address, tls: stream.tls().map(Into::into) };
    let mut out = BytesMut::new();
    let login = options.login(bind, shared.clock.now(), shared.clock.mono(), &mut out);
    let mut login = login.map_err(|e| NotBound::Failed(e.to_string()))?;
    loop {
        let failed = |e: std::io::Error| NotBound::Failed(e.to_string());
        stream.write_all_buf(&mut out).await.map_err(failed)?;
        // TLS keeps what the socket did not take at once.
        stream.flush().await.map_err(failed)?;
        if stream.read_buf(login.buffer()).await.map_err(failed)? == 0 {
            return Err(NotBound::Failed("closed before the bind was answered".to_owned()));
        }
        match login.step(shared.clock.mono(), &mut out)? {
            Step::Waiting(still) => login = still,
            // What followed the answer at once stays with the session.
            Step::Bound(session) => return Ok(Made { stream, peer, session }),
        }
    }
}

pub(super) async fn connect(options: &Options) -> Result<(TcpStream, SocketAddr), String> {
    let addresses = tokio::net::lookup_host(&options.address).await.map_err(|e| format!("{}: {e}", options.address))?;
    let mut why = format!("{} has no address that may be dialled", options.address);
    for address in addresses {
        if !options.allow.is_empty() && !options.allow.iter().any(|net| net.contains(&address.ip())) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Answers must not wait for each other's acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok((stream, address));
            }
            Err(e) => why = format!("{address}: {e}"),
        }
    }
    Err(why)
}

/// Returns once the carrier is draining or closing.
pub(super) async fn until_stopping(phase: &mut watch::Receiver<Phase>) {
    // An error means that the handle is gone.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}

/// Growing, jittered pauses.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// Half to all of the current pause; the one after it is twice as long.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    fn jump(&mut self) {
        self.next = self.max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for whole in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = backoff.pause();
            let whole = Duration::from_secs(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
        backoff.jump();
        assert!(backoff.pause() >= Duration::from_secs(30));
    }
}
