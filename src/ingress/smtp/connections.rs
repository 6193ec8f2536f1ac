//! How many connections and how many bytes of unfinished mail there may be, over all listeners.
//!
//! **Promises.** Both are given back when the guard is dropped, however a session ends. The sum that matters: no more than
//! `receiving_bytes_max` bytes of message data are held before the queue has taken them, plus one read buffer a connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_peer: Mutex<Peers>,
    receiving_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Peers {
    total: usize,
    open: HashMap<IpAddr, usize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// As many as there may be in all.
    Total,
    /// As many as this peer may have.
    Peer,
}

/// The right to be connected.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    peer: IpAddr,
}

impl Connections {
    /// Takes a slot for `peer`; `per_peer_max` is `None` for a trusted one.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        total_max: usize,
        per_peer_max: Option<usize>,
    ) -> Result<Slot, Full> {
        let peer = network(peer);
        let mut peers = self.by_peer.lock();
        if peers.total >= total_max {
            return Err(Full::Total);
        }
        let open = peers.open.get(&peer).copied().unwrap_or(0);
        if per_peer_max.is_some_and(|max| open >= max) {
            return Err(Full::Peer);
        }
        peers.open.insert(peer, open + 1);
        peers.total += 1;
        drop(peers);
        Ok(Slot { connections: self.clone(), peer })
    }

    #[cfg(test)]
    pub(super) fn receiving_bytes(&self) -> usize {
        self.receiving_bytes.load(Ordering::Relaxed)
    }

    /// An account for one session's message data.
    pub(super) fn charge(self: &Arc<Self>) -> Charge {
        Charge { connections: self.clone(), bytes: 0 }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut peers = self.connections.by_peer.lock();
        peers.total -= 1;
        if let Some(open) = peers.open.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                peers.open.remove(&self.peer);
            }
        }
    }
}

/// Bytes of message data that one session holds.
#[derive(Debug)]
pub(super) struct Charge {
    connections: Arc<Connections>,
    bytes: usize,
}

impl Charge {
    /// Sets what the session holds now; false if all sessions together hold more than `max`.
    pub(super) fn set(&mut self, bytes: usize, max: usize) -> bool {
        let total = &self.connections.receiving_bytes;
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes >= before {
            let added = bytes - before;
            total.fetch_add(added, Ordering::Relaxed) + added <= max
        } else {
            total.fetch_sub(before - bytes, Ordering::Relaxed) - (before - bytes) <= max
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.connections.receiving_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One host for IPv4, one /64 for IPv6: what a single customer of a network can use at will.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn slots_are_limited_and_come_back() {
        let connections = Arc::new(Connections::default());
        let a = connections.enter(ip("192.0.2.1"), 3, Some(1)).unwrap();
        assert_eq!(connections.enter(ip("::ffff:192.0.2.1"), 3, Some(1)).err(), Some(Full::Peer));
        let trusted = connections.enter(ip("192.0.2.1"), 3, None).unwrap();
        let b = connections.enter(ip("2001:db8::1"), 3, Some(1)).unwrap();
        assert_eq!(connections.enter(ip("192.0.2.9"), 3, Some(1)).err(), Some(Full::Total));
        drop(a);
        assert_eq!(connections.enter(ip("2001:db8::2"), 3, Some(1)).err(), Some(Full::Peer), "the same /64");
        assert!(connections.enter(ip("2001:db8:0:1::1"), 3, Some(1)).is_ok());
        drop((trusted, b));
        let peers = connections.by_peer.lock();
        assert_eq!((peers.total, peers.open.len()), (0, 0));
    }

    #[test]
    fn bytes_are_summed_over_sessions() {
        let connections = Arc::new(Connections::default());
        let (mut a, mut b) = (connections.charge(), connections.charge());
        assert!(a.set(60, 100));
        assert!(!b.set(50, 100));
        assert!(a.set(10, 100));
        drop((a, b));
        assert_eq!(connections.receiving_bytes.load(Ordering::Relaxed), 0);
    }
}
