//! Which addresses may be dialled on the word of strangers' DNS.
//!
//! **Promises.** Only globally routable unicast passes, unless the operator allows a prefix; an IPv4 address hidden in an
//! IPv6 one (mapped, NAT64, 6to4, compatible) is judged as the IPv4 address it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The rule for addresses that DNS or a client gave us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPolicy {
    /// Prefixes that may be dialled although they are not public.
    pub allow_private: Vec<IpNet>,
}

impl AddressPolicy {
    /// No restriction: for peers that the operator has named by address.
    pub fn any() -> Self {
        Self { allow_private: vec![IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())] }
    }

    /// May this address be dialled?
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = unwrapped(address);
        let public = match address {
            IpAddr::V4(v4) => is_public_v4(v4),
            IpAddr::V6(v6) => is_public_v6(v6),
        };
        public || self.allow_private.iter().any(|net| net.contains(&address))
    }
}

/// The IPv4 address inside an IPv6 one, where there is one.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        // ::ffff:0:0/96 mapped; ::ffff:0:0:0/96 translated; 64:ff9b::/96 NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // ::/96 compatible, deprecated; :: and ::1 are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        // 2002::/16 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// The IANA special-purpose registry for IPv4 (RFC 6890 and successors), and everything from multicast up.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)              // this network, private, loopback
            | (100, 64..=127, _)        // carrier-grade NAT
            | (169, 254, _)             // link-local, cloud metadata
            | (172, 16..=31, _)         // private
            | (192, 0, 0 | 2)           // protocol assignments, documentation
            | (192, 88, 99)             // 6to4 relays, deprecated
            | (192, 168, _)             // private
            | (198, 18 | 19, _)         // benchmarks
            | (198, 51, 100)            // documentation
            | (203, 0, 113)             // documentation
            | (224.., ..) // multicast, reserved, broadcast
    )
}

/// Global unicast (2000::/3) less the special-purpose blocks in it (RFC 6890 and successors).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    s[0] & 0xe000 == 0x2000
        && !(s[0] == 0x2001 && s[1] < 0x0200)    // protocol assignments, Teredo, ORCHID
        && !(s[0] == 0x2001 && s[1] == 0x0db8)   // documentation
        && !(s[0] == 0x3fff && s[1] < 0x1000) // documentation
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permits(policy: &AddressPolicy, address: &str) -> bool {
        policy.permits(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_pass() {
        let policy = AddressPolicy::default();
        for public in ["8.8.8.8", "1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.254"]
        {
            assert!(permits(&policy, public), "{public}");
        }
        for public in ["2606:4700::1111", "2a00:1450::1b", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:4860::1"] {
            assert!(permits(&policy, public), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "2001:10::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert!(!permits(&policy, inside), "{inside}");
        }
    }

    #[test]
    fn the_operator_may_allow_prefixes() {
        let policy = AddressPolicy { allow_private: vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()] };
        for (address, allowed) in
            [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("fd12::1", true), ("10.0.0.1", false), ("::1", false)]
        {
            assert_eq!(permits(&policy, address), allowed, "{address}");
        }
        for anything in ["10.0.0.1", "::1", "127.0.0.1", "8.8.8.8"] {
            assert!(permits(&AddressPolicy::any(), anything), "{anything}");
        }
    }

    proptest! {
        #[test]
        fn hiding_an_address_in_ipv6_changes_nothing(bits in any::<u32>()) {
            let policy = AddressPolicy::default();
            let v4 = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(policy.permits(v4.into()), policy.permits(v4.to_ipv6_mapped().into()));
        }
    }
}
