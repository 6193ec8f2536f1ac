//! Who has failed lately, and until when it is not listened to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::generations::Generations;
use crate::clock::Mono;

/// How much failing is let pass, and what comes then.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Failures for one name from one network that cost nothing. Default 3.
    pub name_failures_free: u32,
    /// Failures from one network, whatever the name, that cost nothing. Default 20.
    pub network_failures_free: u32,
    /// The first delay; it doubles with each failure. Default 1 second.
    pub delay_first: Duration,
    /// The longest delay. Default 5 minutes.
    pub delay_max: Duration,
    /// How long failures, and successes that lift the network's count, are remembered at least. Default 1 hour.
    pub remember: Duration,
    /// Names and networks remembered at most, each. Default 20,000.
    pub entries_max: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            name_failures_free: 3,
            network_failures_free: 20,
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(300),
            remember: Duration::from_secs(3_600),
            entries_max: 20_000,
        }
    }
}

/// What a single customer of a network can use at will: a /24 for IPv4, a /64 for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(peer: IpAddr) -> Self {
        Self(match peer.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        })
    }

    pub(super) fn octets(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }
}

/// A name from a network, as a keyed hash: names come from strangers and may be long.
pub(super) type Pair = [u8; 16];

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    failures: u32,
    until: Mono,
    was_right: bool,
}

#[derive(Debug)]
pub(super) struct Failures {
    patience: Patience,
    pairs: Generations<Pair, Record>,
    networks: Generations<Network, Record>,
}

impl Failures {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            pairs: Generations::new(patience.entries_max, patience.remember),
            networks: Generations::new(patience.entries_max, patience.remember),
            patience,
        }
    }

    /// Whether an attempt is to be looked at now.
    pub(super) fn admits(&mut self, pair: &Pair, network: Network, now: Mono) -> bool {
        let pair = self.pairs.find(pair, now).unwrap_or_default();
        now >= pair.until && (pair.was_right || self.admits_network(network, now))
    }

    pub(super) fn admits_network(&mut self, network: Network, now: Mono) -> bool {
        self.networks.find(&network, now).is_none_or(|record| now >= record.until)
    }

    pub(super) fn right(&mut self, pair: Pair, now: Mono) {
        self.pairs.set(pair, Record { was_right: true, ..Record::default() }, now);
    }

    pub(super) fn wrong(&mut self, pair: Pair, network: Network, now: Mono) {
        let mut record = self.pairs.find(&pair, now).unwrap_or_default();
        self.count(&mut record, self.patience.name_failures_free, now);
        self.pairs.set(pair, record, now);
        self.wrong_network(network, now);
    }

    pub(super) fn wrong_network(&mut self, network: Network, now: Mono) {
        let mut record = self.networks.find(&network, now).unwrap_or_default();
        self.count(&mut record, self.patience.network_failures_free, now);
        self.networks.set(network, record, now);
    }

    fn count(&self, record: &mut Record, free: u32, now: Mono) {
        record.failures = record.failures.saturating_add(1);
        if let Some(doublings) = record.failures.checked_sub(free + 1) {
            let delay = self.patience.delay_first.saturating_mul(1 << doublings.min(30)).min(self.patience.delay_max);
            record.until = now.plus(delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000)
    }

    fn network(ip: &str) -> Network {
        Network::of(ip.parse().unwrap())
    }

    #[test]
    fn networks_are_what_one_customer_holds() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.200"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        let mut failures = Failures::new(Patience { delay_max: Duration::from_secs(4), ..Patience::default() });
        let (pair, net) = ([1; 16], network("192.0.2.1"));
        let mut now = 0;
        for delay in [0, 0, 0, 1, 2, 4, 4] {
            assert!(failures.admits(&pair, net, at(now)));
            failures.wrong(pair, net, at(now));
            if delay > 0 {
                assert!(!failures.admits(&pair, net, at(now + delay - 1)));
            }
            now += delay;
        }
        assert!(failures.admits(&[2; 16], net, at(now)), "another name is not held up yet");
        failures.right(pair, at(now));
        failures.wrong(pair, net, at(now));
        assert!(failures.admits(&pair, net, at(now)), "success begins the count anew");
    }

    #[test]
    fn a_network_that_guesses_names_is_held_up_except_for_names_that_were_right_from_it() {
        let mut failures = Failures::new(Patience::default());
        let (good, net) = ([0; 16], network("192.0.2.1"));
        failures.right(good, at(1));
        for i in 1..=21 {
            failures.wrong([i; 16], net, at(1));
        }
        assert!(!failures.admits(&[99; 16], net, at(1)));
        assert!(failures.admits(&good, net, at(1)));
        assert!(failures.admits(&[99; 16], network("198.51.100.1"), at(1)));
        assert!(failures.admits(&[99; 16], net, at(2)));
    }
}
