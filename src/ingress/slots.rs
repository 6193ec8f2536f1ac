//! Counting connections, in all and per peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections open now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Only peers with a connection have an entry, so the map is never larger than `total`.
    by_peer: HashMap<IpAddr, usize>,
}

/// One open connection; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    peer: IpAddr,
}

impl Slots {
    /// A place for a connection from `peer`, if the limits leave one.
    pub(super) fn claim(&self, peer: IpAddr, total_max: usize, per_peer_max: usize) -> Option<Slot> {
        let peer = counted_as(peer);
        let mut open = self.0.lock();
        if open.total >= total_max {
            return None;
        }
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= per_peer_max {
            return None;
        }
        open.by_peer.insert(peer, of_peer + 1);
        open.total += 1;
        Some(Slot { slots: self.clone(), peer })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(of_peer) = open.by_peer.get_mut(&self.peer) {
            *of_peer = of_peer.saturating_sub(1);
            if *of_peer == 0 {
                open.by_peer.remove(&self.peer);
            }
        }
    }
}

/// Whoever has one address of an IPv6 /64 has all of them.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_per_peer_and_in_all_and_places_come_back() {
        let slots = Slots::default();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = slots.claim(a, 3, 2).unwrap();
        let _second = slots.claim(a, 3, 2).unwrap();
        assert!(slots.claim(a, 3, 2).is_none(), "a third from one peer");
        let _third = slots.claim(b, 3, 2).unwrap();
        assert!(slots.claim(b, 3, 2).is_none(), "a fourth in all");
        drop(first);
        let again = slots.claim(a, 3, 2);
        assert!(again.is_some());
        drop((again, _second, _third));
        assert!(slots.0.lock().by_peer.is_empty());
        assert_eq!(slots.0.lock().total, 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let slots = Slots::default();
        let _held = slots.claim("2001:db8::1".parse().unwrap(), 9, 1).unwrap();
        assert!(slots.claim("2001:db8::ffff:2".parse().unwrap(), 9, 1).is_none());
        assert!(slots.claim("2001:db8:0:1::1".parse().unwrap(), 9, 1).is_some());
        assert!(slots.claim("::ffff:192.0.2.1".parse().unwrap(), 9, 1).is_some());
        assert!(slots.claim("192.0.2.9".parse().unwrap(), 9, 1).is_some());
    }
}
